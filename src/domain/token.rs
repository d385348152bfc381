//! An API caller's credential, and what its role allows.

use serde::{Deserialize, Serialize};

use super::id::{ApplicationId, OrganisationId, TokenId};
use crate::clock::Timestamp;

/// What a caller may do. New roles are appended: the store knows them by their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Everything in the organisation.
    Owner,
    /// One application: a customer's backend.
    Application,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Role::Owner => "owner",
            Role::Application => "application",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "owner" => Ok(Role::Owner),
            "application" => Ok(Role::Application),
            _ => Err(()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Token {
    pub id: TokenId,
    pub organisation: OrganisationId,
    pub name: String,
    pub role: Role,
    /// The application that a token of the role application is limited to.
    pub application: Option<ApplicationId>,
    /// SHA-256 of the token's text; the text itself is kept nowhere.
    pub hash: [u8; 32],
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
}
