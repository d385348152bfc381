//! An isolated world in one process.

use super::id::OrganisationId;
use crate::clock::Timestamp;

/// Owns applications, event types and tokens; nothing of it is visible to another.
#[derive(Clone, Debug, PartialEq)]
pub struct Organisation {
    pub id: OrganisationId,
    pub name: String,
    pub created_at: Timestamp,
}
