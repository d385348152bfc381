//! Callers: credentials and how they are proved, the limits of a token, visits of browsers, and
//! requests without a valid credential.
//!
//! `rules` decides what a caller may do.

use crate::api::kit::operation::Operation;

pub mod caller;
pub mod credential;
pub mod failures;
pub mod sign_in;
pub mod signed_in;
pub mod token_limits;
pub mod visit_limits;
pub mod visits;

/// Signing in and out, and who is signed in.
pub fn operations() -> Vec<Operation> {
    let mut operations = sign_in::operations();
    operations.extend(signed_in::operations());
    operations
}
