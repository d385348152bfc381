//! Who is charged for what is shared.

use super::caller::{Caller, Credential};
use crate::domain::id::{ApplicationId, OrganisationId, TokenId};

/// Whose share a request uses up: the customer's, where the credential is bound to one, so that more
/// keys and links bring no more; else the credential's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Payer {
    Application(ApplicationId),
    Token(TokenId),
    /// Signed tokens of the organisation itself have no record.
    Organisation(OrganisationId),
}

impl Payer {
    /// Of a credential of the organisation: what it is bound to, and its record.
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
    /// Whose share of what all use this request takes from.
    pub fn payer(&self) -> Payer {
        let token = match self.credential() {
            Credential::Token(id) | Credential::Session(id, _) => Some(id),
            Credential::Signed { .. } => None,
        };
        Payer::of(self.organisation, self.own_application(), token)
    }
}
