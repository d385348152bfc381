//! Who calls, and what they may do.
//!
//! [`Caller`] is an extractor: a request without a valid credential ends with 401 before its body
//! is read. What a caller may not see answers 404, what it may see and not do 403; [`permit`] is
//! the whole table. A token is found by its SHA-256, which is compared in constant time once more.
//! Grants are looked up in the catalog that a decision is made on, and not when the request comes
//! in: one that is taken away counts at once.

use std::future::{Ready, ready};
use std::sync::Arc;

use actix_web::http::header::{AUTHORIZATION, HeaderMap};
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

/// The other header that a credential may stand in.
const API_KEY: &str = "api-key";

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
    ReadEndpoints,
    /// Create, update, delete.
    ChangeEndpoints,
    ReadSecrets,
    /// Rotate.
    ChangeSecrets,
    /// Send a message to an endpoint again, replay many, send it a test.
    SendAgain,
    /// Messages and attempts.
    ReadHistory,
    /// Delete what messages say and what was answered to attempts.
    Expunge,
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
        Action::ReadEndpoints => [Everywhere, Never, Everywhere, Granted, Own],
        Action::ChangeEndpoints => [Everywhere, Never, Everywhere, Granted, Own],
        Action::ReadSecrets => [Everywhere, Never, Everywhere, Granted, Own],
        Action::ChangeSecrets => [Everywhere, Never, Everywhere, Granted, Own],
        Action::SendAgain => [Everywhere, Never, Everywhere, Granted, Own],
        Action::ReadHistory => [Everywhere, Never, Everywhere, Granted, Own],
        Action::Expunge => [Everywhere, Never, Never, Never, Never],
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

    /// The endpoint to do this with: both by id or uid.
    pub fn endpoint<'a>(
        &self,
        catalog: &'a Catalog,
        application: &str,
        id_or_uid: &str,
        action: Action,
    ) -> Result<&'a Arc<Endpoint>> {
        let entry = self.application(catalog, application, action)?;
        entry
            .endpoint(id_or_uid)
            .filter(|endpoint| self.sees_endpoint(catalog, endpoint))
            .ok_or(Error::NotFound("endpoint"))
    }

    /// Whether the endpoint, and what was sent to it, exists as far as the caller can tell.
    pub fn sees_endpoint(&self, catalog: &Catalog, endpoint: &Endpoint) -> bool {
        let within = endpoint.organisation == self.organisation;
        within
            && match permit(self.role, Action::ReadEndpoints) {
                Permit::Everywhere => true,
                Permit::Own => self.sees(endpoint.application),
                Permit::Granted => catalog
                    .token(self.token)
                    .is_some_and(|token| token.grants.contains(&endpoint.id)),
                Permit::Users | Permit::Never => false,
            }
    }

    /// The endpoints of the application whose messages and attempts the caller may read, for one
    /// that may not read everything there.
    pub fn limited_to(
        &self,
        catalog: &Catalog,
        entry: &ApplicationEntry,
    ) -> Option<Vec<Arc<Endpoint>>> {
        if permit(self.role, Action::ReadHistory) != Permit::Granted {
            return None;
        }
        let endpoints = entry.endpoints.iter();
        let seen = endpoints.filter(|endpoint| self.sees_endpoint(catalog, endpoint));
        Some(seen.cloned().collect())
    }

    /// Whether the token exists as far as the caller can tell.
    pub fn sees_token(&self, token: &Token) -> bool {
        let within = token.organisation == self.organisation;
        within
            && match permit(self.role, Action::ReadTokens) {
                Permit::Everywhere => true,
                Permit::Users => token.role == Role::WebhookUser,
                Permit::Own | Permit::Granted | Permit::Never => false,
            }
    }

    /// What makes a new endpoint: the endpoint, and its grant to a caller that sees no others.
    pub fn creation(&self, catalog: &Catalog, endpoint: Endpoint) -> Result<Vec<Change>> {
        let grant = match permit(self.role, Action::ChangeEndpoints) {
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
    let credential = credential(request.headers()).ok_or(Error::Unauthenticated)?;
    let context = request
        .app_data::<web::Data<Context>>()
        .expect("configure() installs the context with the routes");
    let catalog = context.store.catalog();
    authenticate(&catalog, credential, context.store.clock().now())
}

/// The credential in `Authorization: Bearer T`, or in `Api-Key: T` where there is no
/// `Authorization`: two that disagree must not be tried one after the other.
fn credential(headers: &HeaderMap) -> Option<&str> {
    let credential = match headers.get(AUTHORIZATION) {
        Some(value) => bearer(value.to_str().ok()?)?,
        None => headers.get(API_KEY)?.to_str().ok()?,
    };
    let credential = credential.trim();
    let plausible = !credential.is_empty() && credential.len() <= CREDENTIAL_BYTES_MAX;
    plausible.then_some(credential)
}

/// What stands behind `Bearer`; the scheme's case does not matter (RFC 9110, 11.1).
fn bearer(header: &str) -> Option<&str> {
    let (scheme, credential) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(credential)
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
    use actix_web::http::header::{HeaderName, HeaderValue};

    #[test]
    fn a_credential_stands_in_one_of_two_headers_and_has_a_sane_length() {
        let long = "x".repeat(CREDENTIAL_BYTES_MAX + 1);
        let long_bearer = format!("Bearer {long}");
        let key = Some("pr_key");
        for (authorization, api_key, expected) in [
            (Some("Bearer pr_abc"), None, Some("pr_abc")),
            (Some("bearer  pr_abc "), None, Some("pr_abc")),
            (None, Some("pr_key"), Some("pr_key")),
            (None, Some(" pr_key "), Some("pr_key")),
            (None, Some(""), None),
            (None, Some(long.as_str()), None),
            (None, None, None),
            // Where there is an Authorization it counts, right or wrong.
            (Some("Bearer pr_abc"), key, Some("pr_abc")),
            (Some("Bearer "), key, None),
            (Some("Bearer"), key, None),
            (Some("Basic pr_abc"), key, None),
            (Some("pr_abc"), key, None),
            (Some(""), key, None),
            (Some(long_bearer.as_str()), key, None),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in [("authorization", authorization), ("api-key", api_key)] {
                if let Some(value) = value {
                    let name = HeaderName::from_static(name);
                    headers.insert(name, HeaderValue::from_str(value).unwrap());
                }
            }
            let case = format!("{authorization:?} {api_key:?}");
            assert_eq!(credential(&headers), expected, "{case}");
        }
    }

    /// DESIGN's table again, from the other side: what each role may do, and nothing else.
    #[test]
    fn each_role_may_do_what_the_design_says_and_nothing_else() {
        use Action::*;
        use Permit::{Everywhere, Granted, Own, Users};
        const ACTIONS: [Action; 17] = [
            ListApplications,
            ChangeApplications,
            ReadApplication,
            ReadEventTypes,
            ChangeEventTypes,
            Publish,
            ReadEndpoints,
            ChangeEndpoints,
            ReadSecrets,
            ChangeSecrets,
            SendAgain,
            ReadHistory,
            Expunge,
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
                (ReadEndpoints, Everywhere),
                (ChangeEndpoints, Everywhere),
                (ReadSecrets, Everywhere),
                (ChangeSecrets, Everywhere),
                (SendAgain, Everywhere),
                (ReadHistory, Everywhere),
                (ReadTokens, Users),
                (ChangeGrants, Users),
            ],
            Role::WebhookUser => vec![
                (ReadApplication, Everywhere),
                (ReadEventTypes, Everywhere),
                (ReadEndpoints, Granted),
                (ChangeEndpoints, Granted),
                (ReadSecrets, Granted),
                (ChangeSecrets, Granted),
                (SendAgain, Granted),
                (ReadHistory, Granted),
            ],
            Role::Application => vec![
                (ReadApplication, Own),
                (ReadEventTypes, Everywhere),
                (ReadEndpoints, Own),
                (ChangeEndpoints, Own),
                (ReadSecrets, Own),
                (ChangeSecrets, Own),
                (SendAgain, Own),
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
