//! Payers: who is charged for the use of shared resources.

use super::caller::{Caller, Credential};
use crate::domain::id::{ApplicationId, OrganisationId, TokenId};

/// The owner of the share that a request uses up. That is the customer, where the credential is
/// bound to one, so that more keys and links bring no larger share; else it is the credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Payer {
    Application(ApplicationId),
    Token(TokenId),
    /// Signed tokens of the organisation itself have no record.
    Organisation(OrganisationId),
}

impl Payer {
    /// Returns the payer of a credential, by the application that it is bound to and by its record.
    pub fn of(
        organisation: OrganisationId,
        application: Option<ApplicationId>,
        token: Option<TokenId>,
    ) -> Payer {
        match (application, token) {
            (Some(application), _) => Payer::Application(application),
            (None, Some(id)) => Payer::Token(id),
            (None, None) => Payer::Organisation(organisation),
        }
    }
}

impl Caller {
    /// The payer of this caller's requests.
    pub fn payer(&self) -> Payer {
        let token = match self.credential() {
            Credential::Token(id) | Credential::Session(id, _) => Some(id),
            Credential::Signed { .. } => None,
        };
        Payer::of(self.organisation, self.own_application(), token)
    }
}
