//! Who calls, and what they may do.
//!
//! [`Caller`] is an extractor: a request without a valid credential ends with 401 before its body
//! is read. What a caller may not see answers 404, what it may see and not do 403; [`permit`] is
//! the whole table. A token is found by its SHA-256, which is compared in constant time once more.
//! Grants are looked up in the catalog that a decision is made on, and not when the request comes
//! in: one that is taken away counts at once.

use std::future::{Ready, ready};
use std::sync::Arc;

use actix_web::http::header::AUTHORIZATION;
use actix_web::{FromRequest, HttpRequest, dev::Payload, web};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Context;
use super::error::Failure;
use crate::clock::Timestamp;
use crate::domain::endpoint::Endpoint;
use crate::domain::id::{ApplicationId, EndpointId, OrganisationId, TokenId};
use crate::domain::token::{GRANTS_MAX, Role, Token};
use crate::error::{Error, Result};
use crate::store::catalog::ApplicationEntry;
use crate::store::{Catalog, Change};

/// No token of ours is near this; longer ones are not hashed.
const CREDENTIAL_BYTES_MAX: usize = 512;

const FORBIDDEN: Error = Error::Forbidden("this token may not do that");

/// What a request wants to do, as far as permission goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    ListApplications,
    /// Create, update, delete.
    ChangeApplications,
    ReadApplication,
    ReadEventTypes,
    ChangeEventTypes,
    Publish,
    /// Everything with endpoints, sending a message to one again included.
    Endpoints,
    /// Messages and attempts.
    ReadHistory,
    ReadTokens,
    /// Create and revoke.
    ChangeTokens,
    /// Which endpoints a webhook user sees.
    ChangeGrants,
    ReadMetrics,
}

/// How far a role's permission goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Permit {
    Everywhere,
    /// Within the caller's own application.
    Own,
    /// The endpoints that were granted to the caller, and what was sent to them.
    Granted,
    /// The tokens of webhook users.
    Users,
    Never,
}

/// The table of DESIGN: a row for each action, a column for each role.
fn permit(role: Role, action: Action) -> Permit {
    use Permit::{Everywhere, Granted, Never, Own, Users};
    let column = match role {
        Role::Owner => 0,
        Role::Publisher => 1,
        Role::WebhookAdmin => 2,
        Role::WebhookUser => 3,
        Role::Application => 4,
    };
    let row = match action {
        //                            owner       publisher   admin       user        application
        Action::ListApplications => [Everywhere, Never, Everywhere, Never, Never],
        Action::ChangeApplications => [Everywhere, Never, Never, Never, Never],
        Action::ReadApplication => [Everywhere, Everywhere, Everywhere, Everywhere, Own],
        Action::ReadEventTypes => [Everywhere, Everywhere, Everywhere, Everywhere, Everywhere],
        Action::ChangeEventTypes => [Everywhere, Never, Never, Never, Never],
        Action::Publish => [Everywhere, Everywhere, Never, Never, Never],
        Action::Endpoints => [Everywhere, Never, Everywhere, Granted, Own],
        Action::ReadHistory => [Everywhere, Never, Everywhere, Granted, Own],
        Action::ReadTokens => [Everywhere, Never, Users, Never, Never],
        Action::ChangeTokens => [Everywhere, Never, Never, Never, Never],
        Action::ChangeGrants => [Everywhere, Never, Users, Never, Never],
        Action::ReadMetrics => [Everywhere, Never, Never, Never, Never],
    };
    row[column]
}

/// Whose request this is.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    pub organisation: OrganisationId,
    token: TokenId,
    role: Role,
    /// The only application that the caller can see; all of the organisation where absent.
    application: Option<ApplicationId>,
}

impl Caller {
    pub fn token_id(&self) -> TokenId {
        self.token
    }

    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether the caller may do this in the organisation; with tokens, as far as it sees them.
    pub fn may(&self, action: Action) -> Result<()> {
        match permit(self.role, action) {
            Permit::Everywhere | Permit::Users => Ok(()),
            Permit::Own | Permit::Granted | Permit::Never => Err(FORBIDDEN),
        }
    }

    /// Whether the caller may do this in the application, should it exist.
    pub fn may_in(&self, catalog: &Catalog, application: &str, action: Action) -> Result<()> {
        match self.may(action) {
            Ok(()) => Ok(()),
            Err(_) => self.application(catalog, application, action).map(|_| ()),
        }
    }

    /// The application to do this in, by its id or uid.
    pub fn application<'a>(
        &self,
        catalog: &'a Catalog,
        id_or_uid: &str,
        action: Action,
    ) -> Result<&'a Arc<ApplicationEntry>> {
        let entry = catalog
            .application(self.organisation, id_or_uid)
            .filter(|entry| self.sees(entry.application.id))
            .ok_or(Error::NotFound("application"))?;
        match permit(self.role, action) {
            Permit::Never => Err(FORBIDDEN),
            _ => Ok(entry),
        }
    }

    /// The endpoint to work with: both by id or uid.
    pub fn endpoint<'a>(
        &self,
        catalog: &'a Catalog,
        application: &str,
        id_or_uid: &str,
    ) -> Result<&'a Arc<Endpoint>> {
        let entry = self.application(catalog, application, Action::Endpoints)?;
        entry
            .endpoint(id_or_uid)
            .filter(|endpoint| self.sees_endpoint(catalog, endpoint))
            .ok_or(Error::NotFound("endpoint"))
    }

    /// Whether the endpoint, and what was sent to it, exists as far as the caller can tell.
    pub fn sees_endpoint(&self, catalog: &Catalog, endpoint: &Endpoint) -> bool {
        let within = endpoint.organisation == self.organisation;
        within
            && match permit(self.role, Action::Endpoints) {
                Permit::Everywhere => true,
                Permit::Own => self.sees(endpoint.application),
                Permit::Granted => catalog
                    .token(self.token)
                    .is_some_and(|token| token.grants.contains(&endpoint.id)),
                Permit::Users | Permit::Never => false,
            }
    }

    /// What makes a new endpoint: the endpoint, and its grant to a caller that sees no others.
    pub fn creation(&self, catalog: &Catalog, endpoint: Endpoint) -> Result<Vec<Change>> {
        let grant = match permit(self.role, Action::Endpoints) {
            Permit::Granted => {
                // A token that was revoked a moment ago must not come back.
                let token = catalog.token(self.token).ok_or(Error::Unauthenticated)?;
                Some(Change::PutToken(granted(catalog, token, endpoint.id)?))
            }
            _ => None,
        };
        let made = [Change::PutEndpoint(endpoint)].into_iter();
        Ok(made.chain(grant).collect())
    }

    fn sees(&self, application: ApplicationId) -> bool {
        match self.role {
            Role::Owner | Role::Publisher | Role::WebhookAdmin | Role::WebhookUser => true,
            Role::Application => self.application == Some(application),
        }
    }

    fn of(token: &Token) -> Caller {
        Caller {
            organisation: token.organisation,
            token: token.id,
            role: token.role,
            application: token.application,
        }
    }
}

/// The token with this grant. Those whose endpoint is gone make room: their ids never come back.
pub fn granted(catalog: &Catalog, token: &Token, endpoint: EndpointId) -> Result<Token> {
    let mut token = token.clone();
    let organisation = token.organisation;
    token
        .grants
        .retain(|grant| catalog.endpoint(organisation, *grant).is_some());
    token.grants.insert(endpoint);
    match token.grants.len() <= GRANTS_MAX {
        true => Ok(token),
        false => Err(Error::TooMany(format!(
            "a webhook user has at most {GRANTS_MAX} endpoints"
        ))),
    }
}

impl FromRequest for Caller {
    type Error = Failure;
    type Future = Ready<Result<Caller, Failure>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(identify(request).map_err(Failure::Of))
    }
}

fn identify(request: &HttpRequest) -> Result<Caller> {
    let header = request.headers().get(AUTHORIZATION);
    let credential = header
        .and_then(|value| value.to_str().ok())
        .and_then(bearer)
        .ok_or(Error::Unauthenticated)?;
    let context = request
        .app_data::<web::Data<Context>>()
        .expect("configure() installs the context with the routes");
    let catalog = context.store.catalog();
    authenticate(&catalog, credential, context.store.clock().now())
}

/// The credential in `Bearer T`; the scheme's case does not matter (RFC 9110, 11.1).
fn bearer(header: &str) -> Option<&str> {
    let (scheme, credential) = header.split_once(' ')?;
    let credential = credential.trim();
    let plausible = !credential.is_empty() && credential.len() <= CREDENTIAL_BYTES_MAX;
    (scheme.eq_ignore_ascii_case("bearer") && plausible).then_some(credential)
}

fn authenticate(catalog: &Catalog, credential: &str, now: Timestamp) -> Result<Caller> {
    let hash: [u8; 32] = Sha256::digest(credential.as_bytes()).into();
    let token = catalog.token_by_hash(&hash).ok_or(Error::Unauthenticated)?;
    let same = bool::from(token.hash.ct_eq(&hash));
    let alive = token.expires_at.is_none_or(|end| end > now);
    if same && alive {
        Ok(Caller::of(token))
    } else {
        Err(Error::Unauthenticated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bearer_credential_of_a_sane_length_is_one() {
        let long = format!("Bearer {}", "x".repeat(CREDENTIAL_BYTES_MAX + 1));
        for (header, expected) in [
            ("Bearer pr_abc", Some("pr_abc")),
            ("bearer  pr_abc ", Some("pr_abc")),
            ("Bearer ", None),
            ("Bearer", None),
            ("Basic pr_abc", None),
            ("pr_abc", None),
            ("", None),
            (long.as_str(), None),
        ] {
            assert_eq!(bearer(header), expected, "{header}");
        }
    }

    /// DESIGN's table again, from the other side: what each role may do, and nothing else.
    #[test]
    fn each_role_may_do_what_the_design_says_and_nothing_else() {
        use Action::*;
        use Permit::{Everywhere, Granted, Own, Users};
        const ACTIONS: [Action; 12] = [
            ListApplications,
            ChangeApplications,
            ReadApplication,
            ReadEventTypes,
            ChangeEventTypes,
            Publish,
            Endpoints,
            ReadHistory,
            ReadTokens,
            ChangeTokens,
            ChangeGrants,
            ReadMetrics,
        ];
        let allowed = |role| match role {
            Role::Owner => ACTIONS.map(|action| (action, Everywhere)).to_vec(),
            Role::Publisher => vec![
                (ReadApplication, Everywhere),
                (ReadEventTypes, Everywhere),
                (Publish, Everywhere),
            ],
            Role::WebhookAdmin => vec![
                (ListApplications, Everywhere),
                (ReadApplication, Everywhere),
                (ReadEventTypes, Everywhere),
                (Endpoints, Everywhere),
                (ReadHistory, Everywhere),
                (ReadTokens, Users),
                (ChangeGrants, Users),
            ],
            Role::WebhookUser => vec![
                (ReadApplication, Everywhere),
                (ReadEventTypes, Everywhere),
                (Endpoints, Granted),
                (ReadHistory, Granted),
            ],
            Role::Application => vec![
                (ReadApplication, Own),
                (ReadEventTypes, Everywhere),
                (Endpoints, Own),
                (ReadHistory, Own),
            ],
        };
        for role in Role::ALL {
            let found = ACTIONS
                .map(|action| (action, permit(role, action)))
                .into_iter()
                .filter(|(_, permit)| *permit != Permit::Never);
            assert_eq!(found.collect::<Vec<_>>(), allowed(role), "{role:?}");
        }
    }

    #[test]
    fn an_unknown_credential_is_refused() {
        let refused = authenticate(&Catalog::default(), "pr_unknown", Timestamp(0));
        assert!(matches!(refused, Err(Error::Unauthenticated)));
    }
}
