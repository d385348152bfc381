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
    pub tokens_valid_from: Option<Timestamp>,
    /// Those that will not be, from an instant on.
    pub tokens_ending: Option<TokensEnding>,
}

/// Signed tokens that were issued before an instant end at a later one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokensEnding {
    pub issued_before: Timestamp,
    pub at: Timestamp,
}

impl Application {
    /// Whether a signed token of this application still counts. One that does not say when it was
    /// issued is an old one.
    pub fn takes_token_issued_at(&self, issued_at: Option<Timestamp>, now: Timestamp) -> bool {
        let is_old = |limit: Timestamp| issued_at.is_none_or(|issued| issued < limit);
        let ended = self.tokens_ending.filter(|ending| ending.at <= now);
        !self.tokens_valid_from.is_some_and(is_old)
            && !ended.is_some_and(|ending| is_old(ending.issued_before))
    }

    /// Ends all signed tokens that were issued before `now`, at `at`. What was to end before that
    /// already does not live longer; it takes those issued since along.
    pub fn end_tokens(&mut self, now: Timestamp, at: Timestamp) {
        let at = match self.tokens_ending.take() {
            Some(ending) if ending.at <= now => {
                self.tokens_valid_from = self.tokens_valid_from.max(Some(ending.issued_before));
                at
            }
            Some(ending) => at.min(ending.at),
            None => at,
        };
        match at <= now {
            true => self.tokens_valid_from = Some(now),
            false => {
                self.tokens_ending = Some(TokensEnding {
                    issued_before: now,
                    at,
                });
            }
        }
    }
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
            tokens_ending: None,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_tokens_end_when_they_are_told_to_and_never_come_back() {
        let at = Timestamp::from_seconds;
        let mut application = Application {
            id: ApplicationId([1; 20]),
            organisation: OrganisationId([1; 20]),
            uid: None,
            name: String::new(),
            metadata: BTreeMap::new(),
            throttle_rate: None,
            created_at: at(0),
            updated_at: at(0),
            tokens_valid_from: None,
            tokens_ending: None,
        };
        let takes = |application: &Application, issued: u64, now: u64| {
            application.takes_token_issued_at(Some(at(issued)), at(now))
        };
        assert!(application.takes_token_issued_at(None, at(10)));
        application.end_tokens(at(10), at(10));
        assert!(!application.takes_token_issued_at(None, at(10)));
        assert!(!takes(&application, 9, 10) && takes(&application, 10, 10));

        application.end_tokens(at(20), at(30));
        assert!(!takes(&application, 9, 20), "those stay ended");
        assert!(takes(&application, 19, 29) && !takes(&application, 19, 30));
        assert!(takes(&application, 20, 30));

        // A later end of what is ending does not put it off.
        application.end_tokens(at(25), at(60));
        assert!(takes(&application, 24, 29) && !takes(&application, 24, 30));
        assert!(takes(&application, 25, 30));
        // One that has happened is kept when the next is planned.
        application.end_tokens(at(40), at(50));
        assert!(!takes(&application, 24, 41) && takes(&application, 39, 41));
        assert!(!takes(&application, 39, 50) && takes(&application, 40, 50));
    }
}
