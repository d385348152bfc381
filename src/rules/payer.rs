//! Who is charged for what is shared.

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
