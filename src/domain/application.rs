//! One customer of the platform: the owner of endpoints and messages.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::id::{ApplicationId, OrganisationId};
use crate::clock::Timestamp;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Application {
    pub id: ApplicationId,
    pub organisation: OrganisationId,
    /// The caller's own id, unique in the organisation; works wherever the id works.
    pub uid: Option<String>,
    pub name: String,
    pub metadata: BTreeMap<String, String>,
    /// Messages a second towards all endpoints of this application.
    pub throttle_rate: Option<u16>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Signed tokens (JWT) of this application that were issued before are not valid any more.
    #[serde(default)]
    pub tokens_valid_from: Option<Timestamp>,
}
