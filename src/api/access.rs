//! Who calls, and what they may do.
//!
//! [`Caller`] is an extractor: a request without a valid credential ends with 401 before its body
//! is read. What a caller may not see answers 404, what it may see and not do 403; [`permit`] is
//! the whole table. A token is found by its SHA-256, which is compared in constant time once more.

use std::future::{Ready, ready};
use std::sync::Arc;

use actix_web::http::header::AUTHORIZATION;
use actix_web::{FromRequest, HttpRequest, dev::Payload, web};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Context;
use super::error::Failure;
use crate::clock::Timestamp;
use crate::domain::id::{ApplicationId, OrganisationId};
use crate::domain::token::{Role, Token};
use crate::error::{Error, Result};
use crate::store::Catalog;
use crate::store::catalog::ApplicationEntry;

/// No token of ours is near this; longer ones are not hashed.
const CREDENTIAL_BYTES_MAX: usize = 512;

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
    Tokens,
    ReadMetrics,
}

/// How far a role's permission goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Permit {
    Everywhere,
    /// Within the caller's own application.
    Own,
    Never,
}

/// The table of DESIGN: a row for each action, a column for each role.
fn permit(role: Role, action: Action) -> Permit {
    use Permit::{Everywhere, Never, Own};
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
        Action::Endpoints => [Everywhere, Never, Everywhere, Everywhere, Own],
        Action::ReadHistory => [Everywhere, Never, Everywhere, Everywhere, Own],
        Action::Tokens => [Everywhere, Never, Never, Never, Never],
        Action::ReadMetrics => [Everywhere, Never, Never, Never, Never],
    };
    row[column]
}

/// Whose request this is.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    pub organisation: OrganisationId,
    role: Role,
    /// The only application that the caller can see; all of the organisation where absent.
    application: Option<ApplicationId>,
}

impl Caller {
    /// Whether the caller may do this in the whole organisation.
    pub fn may(&self, action: Action) -> Result<()> {
        match permit(self.role, action) {
            Permit::Everywhere => Ok(()),
            Permit::Own | Permit::Never => Err(Error::Forbidden("this token may not do that")),
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
            Permit::Everywhere | Permit::Own => Ok(entry),
            Permit::Never => Err(Error::Forbidden("this token may not do that")),
        }
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
            role: token.role,
            application: token.application,
        }
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

    #[test]
    fn an_application_changes_its_endpoints_and_nothing_above_them() {
        use Action::*;
        for (action, expected) in [
            (ListApplications, Permit::Never),
            (ChangeApplications, Permit::Never),
            (ReadApplication, Permit::Own),
            (ReadEventTypes, Permit::Everywhere),
            (ChangeEventTypes, Permit::Never),
            (Publish, Permit::Never),
            (Endpoints, Permit::Own),
            (ReadHistory, Permit::Own),
            (Tokens, Permit::Never),
            (ReadMetrics, Permit::Never),
        ] {
            assert_eq!(permit(Role::Application, action), expected, "{action:?}");
            assert_eq!(permit(Role::Owner, action), Permit::Everywhere);
        }
    }

    #[test]
    fn an_unknown_credential_is_refused() {
        let refused = authenticate(&Catalog::default(), "pr_unknown", Timestamp(0));
        assert!(matches!(refused, Err(Error::Unauthenticated)));
    }
}
