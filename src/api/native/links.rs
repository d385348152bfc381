//! Visits to the portal: `/api/v1/auth`.
//!
//! A link holds a token of the role application with a session. The session ends by itself, may be
//! limited to some capabilities, and shows event types by its feature flags. `expire-all` and
//! `logout` end sessions early, and with them signed tokens (JWT) of an application and API keys
//! that were made through links; other tokens are revoked at `/api/v1/token`. The answers hold a
//! credential, so none of them is kept for a repeated idempotency key: a repeated request makes
//! another link.

use std::collections::BTreeSet;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::applications::ApplicationIn;
use super::event_types::{FEATURE_FLAG_MAX, FEATURE_FLAGS_MAX, check_feature_flags};
use super::tokens::new_credential;
use crate::api::kit::call::{Call, Reply};
use crate::api::kit::extract::{Body, json};
use crate::api::kit::operation::Operation;
use crate::domain::token::{Capability, PortalSession};
use crate::error::Result;
use crate::rules::caller::Action;
use crate::rules::checks::{NAME_PATTERN, Problems};
use crate::rules::links::{CreateLink, ExpireSessions, LogOut, one_that_logs_out};

/// How long a link is valid, in seconds.
const EXPIRY_SECONDS: std::ops::RangeInclusive<i64> = 3600..=WEEK_SECONDS;
const WEEK_SECONDS: i64 = 7 * 24 * 3600;

/// The longest session id, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// The most session ids in one request.
const SESSION_IDS_MAX: usize = 1000;

/// The contract's `AppPortalAccessIn`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct AppPortalAccessIn {
    /// The application to create where the one in the path does not exist.
    application: Option<ApplicationIn>,
    /// The link may only read, and no secrets.
    read_only: Option<bool>,
    /// The capabilities of the link; all where absent. Reading anything but secrets is always
    /// allowed.
    #[schemars(with = "Option<Vec<CapabilityName>>")]
    capabilities: Option<Vec<String>>,
    /// The feature flags of the link. Event types with flags are shown only where the link has one
    /// of them.
    #[schemars(
        length(max = FEATURE_FLAGS_MAX),
        inner(length(min = 1, max = FEATURE_FLAG_MAX), regex(pattern = NAME_PATTERN))
    )]
    feature_flags: Option<Vec<String>>,
    /// For how many seconds the link is valid: 1 hour to 7 days, which is the default.
    #[schemars(range(min = 3600, max = 604_800))]
    expiry: Option<i64>,
    /// The caller's own name for the session, by which `expire-all` finds it.
    #[schemars(length(min = 1, max = 256))]
    session_id: Option<String>,
}

/// The names of capabilities, for the document.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only its schema is used")]
enum CapabilityName {
    ViewBase,
    ViewEndpointSecret,
    ManageEndpointSecret,
    ManageTransformations,
    CreateAttempts,
    ManageEndpoint,
}

/// The contract's `AppPortalAccessOut`.
#[derive(Serialize, JsonSchema)]
struct AppPortalAccessOut {
    /// The link, with the token behind its `#`, which browsers send nowhere.
    url: String,
    token: String,
    /// Warnings about problems of the link, and about limits from the token that made it; absent
    /// where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// The contract's `ApplicationTokenExpireIn`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct ApplicationTokenExpireIn {
    /// In how many seconds the sessions end: 0, the default, to 7 days.
    #[schemars(range(min = 0, max = 604_800))]
    expiry: Option<i64>,
    /// Only sessions that were made with one of these ids; all, and signed tokens, where absent.
    #[schemars(length(min = 1, max = 1000))]
    session_ids: Option<Vec<String>>,
}

/// A link as it is to be made.
struct Link {
    application: Option<ApplicationIn>,
    session: PortalSession,
    lasts: Duration,
}

impl AppPortalAccessIn {
    fn checked(self, path: &str) -> Result<Link> {
        let mut problems = Problems::default();
        if let Some(application) = &self.application {
            application.check_beside(&mut problems, path);
        }
        let all = Capability::ALL.into_iter().collect();
        let mut capabilities = match self.capabilities {
            Some(names) => named_capabilities(&mut problems, &names),
            None => all,
        };
        if self.read_only == Some(true) {
            capabilities.clear();
        }
        capabilities.insert(Capability::ViewBase);
        let flags = self.feature_flags.unwrap_or_default();
        check_feature_flags(&mut problems, &["body", "featureFlags"], &flags);
        if let Some(id) = &self.session_id
            && (id.is_empty() || id.len() > NAME_BYTES_MAX)
        {
            let message = format!("must have 1 to {NAME_BYTES_MAX} bytes");
            problems.add(&["body", "sessionId"], message);
        }
        let expiry = self.expiry.unwrap_or(WEEK_SECONDS);
        if !EXPIRY_SECONDS.contains(&expiry) {
            let (min, max) = EXPIRY_SECONDS.into_inner();
            problems.add(&["body", "expiry"], format!("must be {min} to {max}"));
        }
        problems.done()?;
        Ok(Link {
            application: self.application,
            session: PortalSession {
                id: self.session_id,
                capabilities,
                feature_flags: flags.into_iter().collect(),
            },
            lasts: Duration::from_secs(expiry.unsigned_abs()),
        })
    }
}

fn named_capabilities(problems: &mut Problems, names: &[String]) -> BTreeSet<Capability> {
    let mut capabilities = BTreeSet::new();
    for (index, name) in names.iter().enumerate() {
        match Capability::ALL.into_iter().find(|one| one.name() == name) {
            Some(capability) => drop(capabilities.insert(capability)),
            None => {
                let known = Capability::ALL.map(Capability::name).join(", ");
                let place = ["body", "capabilities", &index.to_string()];
                problems.add(&place, format!("must be one of {known}"));
            }
        }
    }
    capabilities
}

impl ApplicationTokenExpireIn {
    /// Returns after how long sessions end, and the ids of those; none for all.
    fn checked(self) -> Result<(Duration, Option<BTreeSet<String>>)> {
        let mut problems = Problems::default();
        let expiry = self.expiry.unwrap_or(0);
        if !(0..=WEEK_SECONDS).contains(&expiry) {
            problems.add(&["body", "expiry"], format!("must be 0 to {WEEK_SECONDS}"));
        }
        let ids = self.session_ids;
        match ids.as_ref().map_or(1, Vec::len) {
            // A caller with an empty list of sessions must not end all of them.
            0 => problems.add(
                &["body", "sessionIds"],
                "must name at least one; leave it out to end all",
            ),
            1..=SESSION_IDS_MAX => {}
            _ => {
                let message = format!("must have at most {SESSION_IDS_MAX} items");
                problems.add(&["body", "sessionIds"], message);
            }
        }
        problems.done()?;
        let chosen = ids.map(|ids| ids.into_iter().collect());
        Ok((Duration::from_secs(expiry.unsigned_abs()), chosen))
    }
}

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::post(
            "/api/v1/auth/app-portal-access/{app_id}",
            "v1.authentication.app-portal-access",
            web::to(portal_access),
        ).needs(Action::ChangeSessions)
        .summary("Make a link to the portal")
        .description(
            "The link lets a customer's people see and change their application's endpoints \
             without an account of their own. Each call makes another link, with the same \
             idempotency key too: the answer holds a credential and is kept nowhere. The link may no \
             more than the token that makes it: it has its scopes and networks, and ends with it; \
             `warnings` say so.",
        )
        .takes::<AppPortalAccessIn>()
        .answers::<AppPortalAccessOut>(200, "The link, and the token in it"),
        Operation::post(
            "/api/v1/auth/dashboard-access/{app_id}",
            "v1.authentication.dashboard-access",
            web::to(dashboard_access),
        ).needs(Action::ChangeSessions)
        .summary("Make a link to the portal (older path)")
        .description("As `app-portal-access`, for older clients.")
        .may_take::<AppPortalAccessIn>()
        .answers::<AppPortalAccessOut>(200, "The link, and the token in it"),
        Operation::post(
            "/api/v1/auth/app/{app_id}/expire-all",
            "v1.authentication.expire-all",
            web::to(expire_all),
        ).needs(Action::ChangeSessions)
        .summary("End an application's portal sessions and signed tokens")
        .description(
            "API keys that were made through a link end with it, and those that are made through it \
             until then. Browsers that are signed in by one of these are signed out. Other tokens of \
             `/api/v1/token` are not ended by this.",
        )
        .may_take::<ApplicationTokenExpireIn>()
        .answers_nothing(204, "They end, now or when it was asked for"),
        Operation::post(
            "/api/v1/auth/logout",
            "logout_api_v1_auth_logout__post",
            web::to(logout),
        ).needs_to_be(one_that_logs_out)
        .summary("End the portal session or signed token that this request carries")
        .description("403 for a token of `/api/v1/token`, and for a signed owner's.")
        .answers_nothing(204, "It is not valid any more"),
    ]
}

pub async fn portal_access(call: Call, body: Body) -> Reply {
    may_make_link(&call)?;
    let input = body.json::<AppPortalAccessIn>()?;
    make_link(&call, input).await
}

/// Like [`portal_access`], by the older name, which took no body.
pub async fn dashboard_access(call: Call, body: Body) -> Reply {
    may_make_link(&call)?;
    let input = body.json_or_default::<AppPortalAccessIn>()?;
    make_link(&call, input).await
}

/// Checks that the caller may make links, so that it is told so before the problems of the body.
fn may_make_link(call: &Call) -> Result<()> {
    (call.caller).may_in(&call.catalog(), call.path("app_id"), Action::ChangeSessions)
}

async fn make_link(call: &Call, input: AppPortalAccessIn) -> Reply {
    let path = call.path("app_id").to_owned();
    let link = input.checked(&path)?;
    let token = new_credential();
    let command = CreateLink {
        path,
        application: link.application.map(ApplicationIn::into_new),
        hash: Sha256::digest(token.as_bytes()).into(),
        lasts: link.lasts,
        session: link.session,
    };
    let server = &call.context.config.server;
    let mut warnings: Vec<String> = server.link_problem().into_iter().collect();
    warnings.extend(call.decide(command).await?);
    let url = format!("{}/portal#token={token}", server.public_url());
    let answer = AppPortalAccessOut {
        url,
        token,
        warnings,
    };
    Ok(json(StatusCode::OK, &answer))
}

pub async fn expire_all(call: Call, body: Body) -> Reply {
    let path = call.path("app_id").to_owned();
    call.caller
        .may_in(&call.catalog(), &path, Action::ChangeSessions)?;
    let input = body.json_or_default::<ApplicationTokenExpireIn>()?;
    let (after, chosen) = input.checked()?;
    let command = ExpireSessions {
        application: path,
        after,
        chosen,
    };
    call.done(command).await
}

pub async fn logout(call: Call) -> Reply {
    call.done(LogOut {}).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn places<T>(checked: Result<T>) -> Vec<String> {
        match checked {
            Ok(_) => Vec::new(),
            Err(Error::Invalid(all)) => all.iter().map(|one| one.location.join(".")).collect(),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn what_is_wrong_with_a_link_is_named() {
        let long = "x".repeat(257);
        for (text, expected) in [
            ("{}".to_owned(), vec![]),
            (
                r#"{"expiry":3600,"sessionId":"s","featureFlags":["a.b-c_1"]}"#.to_owned(),
                vec![],
            ),
            (r#"{"expiry":3599}"#.to_owned(), vec!["body.expiry"]),
            (r#"{"expiry":604801}"#.to_owned(), vec!["body.expiry"]),
            (
                r#"{"expiry":-9223372036854775808}"#.to_owned(),
                vec!["body.expiry"],
            ),
            (
                format!(r#"{{"sessionId":"{long}"}}"#),
                vec!["body.sessionId"],
            ),
            (r#"{"sessionId":""}"#.to_owned(), vec!["body.sessionId"]),
            (
                r#"{"featureFlags":["a","b c"]}"#.to_owned(),
                vec!["body.featureFlags.1"],
            ),
            (
                r#"{"capabilities":["ViewBase","Everything"]}"#.to_owned(),
                vec!["body.capabilities.1"],
            ),
            (
                r#"{"application":{"name":"n"}}"#.to_owned(),
                vec!["body.application.uid"],
            ),
            (
                r#"{"application":{"name":"n","uid":"other"}}"#.to_owned(),
                vec!["body.application.uid"],
            ),
        ] {
            let input: AppPortalAccessIn = serde_json::from_str(&text).unwrap();
            assert_eq!(places(input.checked("acme")), expected, "{text}");
        }
        for (text, expected) in [
            (r#"{"expiry":604800,"sessionIds":["s"]}"#, vec![]),
            (r#"{"expiry":604801}"#, vec!["body.expiry"]),
            (r#"{"expiry":-1}"#, vec!["body.expiry"]),
            (r#"{"sessionIds":[]}"#, vec!["body.sessionIds"]),
            (r#"{"sessionIds":null}"#, vec![]),
        ] {
            let input: ApplicationTokenExpireIn = serde_json::from_str(text).unwrap();
            assert_eq!(places(input.checked()), expected, "{text}");
        }
    }

    #[test]
    fn read_only_leaves_nothing_but_looking() {
        use Capability::{ManageEndpoint, ViewBase};
        for (text, expected) in [
            ("{}", Capability::ALL.into_iter().collect()),
            (r#"{"capabilities":[]}"#, BTreeSet::from([ViewBase])),
            (
                r#"{"capabilities":["ManageEndpoint"]}"#,
                BTreeSet::from([ViewBase, ManageEndpoint]),
            ),
            (r#"{"readOnly":true}"#, BTreeSet::from([ViewBase])),
            (
                r#"{"readOnly":true,"capabilities":["ManageEndpoint"]}"#,
                BTreeSet::from([ViewBase]),
            ),
        ] {
            let input: AppPortalAccessIn = serde_json::from_str(text).unwrap();
            let link = input.checked("acme").unwrap();
            assert_eq!(link.session.capabilities, expected, "{text}");
        }
    }
}
