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

impl Application {
    /// The application that holds an organisation's own endpoints, which hear of operational
    /// events. It has the organisation's id, and exists for nobody who lists or names applications.
    pub fn operational(organisation: OrganisationId, now: Timestamp) -> Application {
        Application {
            id: ApplicationId::operational(organisation),
            organisation,
            uid: None,
            name: "operational".to_owned(),
            metadata: BTreeMap::new(),
            throttle_rate: None,
            created_at: now,
            updated_at: now,
            tokens_valid_from: None,
        }
    }
}

impl ApplicationId {
    pub fn operational(organisation: OrganisationId) -> ApplicationId {
        ApplicationId(organisation.0)
    }

    pub fn is_operational(&self, organisation: OrganisationId) -> bool {
        self.0 == organisation.0
    }
}
