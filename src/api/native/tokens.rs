//! Tokens and grants: `/api/v1/token`.
//!
//! A token's text is in the answer that creates it, and nowhere after. A grant lets a token of the
//! role webhook_user see an endpoint, or make endpoints in an application; what is deleted takes its
//! grants with it, whatever the record still holds.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::api::access::token_limits::{
    ScopeName, checked_description, checked_networks, checked_scopes,
};
use crate::api::kit::context::Context;
use crate::api::kit::error::Failure;
use crate::api::kit::extract::{Body, json, no_content, optional_text, path_part, text};
use crate::api::kit::operation::Operation;
use crate::api::kit::page::{Listed, Query, page_parameters, shown};
use crate::clock::Timestamp;
use crate::domain::endpoint::Endpoint;
use crate::domain::id::{ApplicationId, EndpointId, TokenId};
use crate::domain::scope::Scope;
use crate::domain::token::{ALLOWED_IPS_MAX, GRANTS_MAX, Role, Token};
use crate::error::Result;
use crate::rules::caller::{Action, Caller};
use crate::rules::checks::{DESCRIPTION_BYTES_MAX, NAME_BYTES_MAX, Problems, check_name};
use crate::rules::tokens::{
    CreateToken, DeleteToken, GrantApplication, GrantEndpoint, RevokeApplication, RevokeEndpoint,
    endpoint_among, found,
};
use crate::store::{Catalog, LastUse};

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(extend("required" = ["name", "role"]))]
struct TokenIn {
    /// A name for people.
    #[schemars(with = "String", length(min = 1, max = NAME_BYTES_MAX))]
    name: Option<String>,
    /// What its bearer may do.
    #[schemars(with = "String", extend("enum" = Role::ALL.map(Role::name)))]
    role: Option<String>,
    /// The id or uid of the one application that a token of the role application is limited to;
    /// needed there, and refused with any other role.
    application_id: Option<String>,
    /// The endpoints that are granted to a webhook user from the beginning, by their ids, uids or
    /// numbers; refused with any other role.
    #[schemars(length(max = GRANTS_MAX))]
    endpoint_ids: Option<Vec<String>>,
    /// The ids or uids of applications: those in which a webhook user may make endpoints, and the only
    /// ones that exist for a token of another role; all of the organisation where absent. Refused
    /// with the role application, which has `applicationId`.
    #[schemars(length(max = GRANTS_MAX))]
    application_ids: Option<Vec<String>>,
    /// When it stops being valid, in the future; never where absent.
    #[schemars(extend("format" = "date-time"))]
    expires_at: Option<String>,
    /// What it is for, for people.
    #[schemars(length(max = DESCRIPTION_BYTES_MAX))]
    description: Option<String>,
    /// The only groups of operations that it may do, within its role; all that the role may where
    /// absent.
    #[schemars(with = "Option<Vec<ScopeName>>")]
    scopes: Option<Vec<String>>,
    /// The only networks or addresses that it may be used from; everywhere where absent. Behind a
    /// proxy they are its clients', if `server.trusted_proxies` names it.
    #[schemars(length(max = ALLOWED_IPS_MAX))]
    allowed_ips: Option<Vec<String>>,
}

/// A body that is right for itself; whether the application and the endpoints exist is for the
/// catalog to say.
#[derive(Debug)]
struct Checked {
    name: String,
    role: Role,
    application: Option<String>,
    endpoints: Vec<String>,
    /// Granted to a webhook user, or the only ones that another token sees.
    applications: Option<Vec<String>>,
    expires_at: Option<Timestamp>,
    description: Option<String>,
    scopes: Option<BTreeSet<Scope>>,
    allowed_ips: Vec<IpNet>,
}

impl TokenIn {
    fn checked(self, now: Timestamp) -> Result<Checked> {
        let mut problems = Problems::default();
        match &self.name {
            Some(name) => check_name(&mut problems, &["body", "name"], name),
            None => problems.missing(&["body", "name"]),
        }
        let role = match self.role.as_deref().map(str::parse::<Role>) {
            Some(Ok(role)) => Some(role),
            Some(Err(())) => {
                let names = Role::ALL.map(Role::name).join(", ");
                problems.add(&["body", "role"], format!("must be one of {names}"));
                None
            }
            None => {
                problems.missing(&["body", "role"]);
                None
            }
        };
        match (role, &self.application_id) {
            (Some(Role::Application), None) => problems.missing(&["body", "applicationId"]),
            (Some(Role::Application), Some(_)) | (_, None) | (None, _) => {}
            (Some(_), Some(_)) => {
                let message = "only a token of the role application is limited to one";
                problems.add(&["body", "applicationId"], message);
            }
        }
        let endpoints = self.endpoint_ids.unwrap_or_default();
        if !endpoints.is_empty() && role.is_some_and(|role| role != Role::WebhookUser) {
            let message = "only a token of the role webhook_user is granted any";
            problems.add(&["body", "endpointIds"], message);
        }
        let applications = self.application_ids;
        check_applications(&mut problems, role, applications.as_deref());
        for (field, ids) in [
            ("endpointIds", Some(&endpoints)),
            ("applicationIds", applications.as_ref()),
        ] {
            if ids.is_some_and(|ids| ids.len() > GRANTS_MAX) {
                let message = format!("must have at most {GRANTS_MAX} items");
                problems.add(&["body", field], message);
            }
        }
        let is_limited = role != Some(Role::WebhookUser) && applications.is_some();
        let scopes = self.scopes.as_deref();
        let scopes = role.and_then(|role| checked_scopes(&mut problems, scopes, role, is_limited));
        let description = checked_description(&mut problems, self.description);
        let allowed_ips = checked_networks(&mut problems, self.allowed_ips.as_deref());
        let expires_at = checked_end(&mut problems, self.expires_at.as_deref(), now);
        problems.done()?;
        Ok(Checked {
            name: self.name.unwrap_or_default(),
            role: role.expect("without a problem there is a role"),
            application: self.application_id,
            endpoints,
            applications,
            expires_at,
            description,
            scopes,
            allowed_ips,
        })
    }
}

fn check_applications(problems: &mut Problems, role: Option<Role>, ids: Option<&[String]>) {
    let message = match (role, ids) {
        (Some(Role::Application), Some([_, ..])) => {
            "a token of the role application is limited to one, by applicationId"
        }
        (Some(Role::WebhookUser | Role::Application) | None, _) | (_, None | Some([_, ..])) => {
            return;
        }
        (Some(_), Some([])) => "must name at least one; leave it out for all of the organisation",
    };
    problems.add(&["body", "applicationIds"], message);
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct TokenOut<'a> {
    #[serde(serialize_with = "text")]
    id: TokenId,
    /// The credential itself, only in the answer that creates it: it cannot be shown again.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    name: &'a str,
    #[schemars(extend("enum" = Role::ALL.map(Role::name)))]
    role: &'static str,
    /// The application that it is limited to.
    #[serde(serialize_with = "optional_text")]
    application_id: Option<ApplicationId>,
    /// Null where there is none, or it is gone by now.
    application_name: Option<String>,
    /// What a webhook user sees; other roles have no such list.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint_ids: Option<Vec<EndpointId>>,
    /// The same with where they belong.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoints: Option<Vec<GrantedEndpoint>>,
    /// The applications in which a webhook user may make endpoints, and the only ones that exist for
    /// another token; one that sees all of the organisation has no such list.
    #[serde(skip_serializing_if = "Option::is_none")]
    application_ids: Option<Vec<ApplicationId>>,
    /// The same with their names.
    #[serde(skip_serializing_if = "Option::is_none")]
    applications: Option<Vec<GrantedApplication>>,
    /// The endpoint that it configures where a token is an account (Ocrolus).
    #[serde(skip_serializing_if = "Option::is_none")]
    account_endpoint: Option<AccountEndpoint>,
    /// Where it is an API key that was made through a link to the portal.
    #[serde(skip_serializing_if = "Option::is_none")]
    made_by_link: Option<LinkOut<'a>>,
    #[serde(serialize_with = "text")]
    created_at: Timestamp,
    #[serde(serialize_with = "optional_text")]
    expires_at: Option<Timestamp>,
    /// To the minute; null where it was not used yet.
    #[serde(serialize_with = "optional_text")]
    last_used_at: Option<Timestamp>,
    /// The address that it was used from then: of a trusted proxy that named no client the proxy's own.
    /// Null where none was noted.
    #[serde(serialize_with = "optional_text")]
    last_used_from: Option<IpAddr>,
    description: Option<&'a str>,
    /// The only groups of operations that it may do; null for all that the role may.
    #[schemars(with = "Option<Vec<ScopeName>>")]
    scopes: Option<Vec<&'static str>>,
    /// The only networks that it may be used from; null for everywhere.
    allowed_ips: Option<Vec<String>>,
}

/// The names of the scopes that a token is limited to.
pub fn scope_names(token: &Token) -> Option<Vec<&'static str>> {
    let scopes = token.scopes.as_ref()?;
    Some(scopes.iter().copied().map(Scope::name).collect())
}

/// The networks that a token is limited to.
pub fn network_texts(token: &Token) -> Option<Vec<String>> {
    let networks = &token.allowed_ips;
    (!networks.is_empty()).then(|| networks.iter().map(IpNet::to_string).collect())
}

/// An endpoint that a webhook user sees.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct GrantedEndpoint {
    #[serde(serialize_with = "text")]
    id: EndpointId,
    url: String,
    #[serde(serialize_with = "text")]
    application_id: ApplicationId,
    application_name: String,
}

/// An application in which a webhook user may make endpoints, or that a token is limited to.
#[derive(Serialize, JsonSchema)]
struct GrantedApplication {
    #[serde(serialize_with = "text")]
    id: ApplicationId,
    uid: Option<String>,
    name: String,
}

/// The endpoint of a token that is an account.
#[derive(Serialize, JsonSchema)]
pub struct AccountEndpoint {
    #[serde(serialize_with = "text")]
    id: EndpointId,
    url: String,
}

impl AccountEndpoint {
    /// None where the token has none, or it was deleted.
    pub fn of(catalog: &Catalog, token: &Token) -> Option<AccountEndpoint> {
        let endpoint = catalog.endpoint(token.organisation, token.account_endpoint?)?;
        Some(AccountEndpoint {
            id: endpoint.id,
            url: endpoint.url.clone(),
        })
    }
}

/// The link to the portal through which an API key was made; `expire-all` ends it with the link.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinkOut<'a> {
    /// The platform's own name for the session, where it gave one.
    session_id: Option<&'a str>,
}

impl<'a> LinkOut<'a> {
    pub fn of(token: &'a Token) -> Option<LinkOut<'a>> {
        let made_by = token.made_by.as_ref()?;
        Some(LinkOut {
            session_id: made_by.session.as_deref(),
        })
    }
}

/// The application's name, if it exists.
fn name_of(catalog: &Catalog, application: ApplicationId) -> Option<String> {
    let entry = catalog.application_by_id(application)?;
    Some(entry.application.name.clone())
}

impl<'a> TokenOut<'a> {
    fn new(catalog: &Catalog, token: &'a Token, last_use: LastUse) -> Self {
        let grants = || {
            let ids = token.grants.iter();
            let existing = ids.filter_map(|id| catalog.endpoint(token.organisation, *id));
            existing.map(|endpoint| GrantedEndpoint {
                id: endpoint.id,
                url: endpoint.url.clone(),
                application_id: endpoint.application,
                application_name: name_of(catalog, endpoint.application).unwrap_or_default(),
            })
        };
        let endpoints: Option<Vec<_>> =
            (token.role == Role::WebhookUser).then(|| grants().collect());
        let applications = token.applications.as_ref().map(|granted| {
            let existing = granted
                .iter()
                .filter_map(|id| catalog.application_by_id(*id));
            let named = existing.map(|entry| GrantedApplication {
                id: entry.application.id,
                uid: entry.application.uid.clone(),
                name: entry.application.name.clone(),
            });
            named.collect::<Vec<_>>()
        });
        TokenOut {
            id: token.id,
            token: None,
            name: &token.name,
            role: token.role.name(),
            application_id: token.application,
            application_name: token.application.and_then(|id| name_of(catalog, id)),
            endpoint_ids: endpoints
                .as_ref()
                .map(|endpoints| endpoints.iter().map(|one| one.id).collect()),
            endpoints,
            application_ids: applications
                .as_ref()
                .map(|applications| applications.iter().map(|one| one.id).collect()),
            applications,
            account_endpoint: AccountEndpoint::of(catalog, token),
            made_by_link: LinkOut::of(token),
            created_at: token.created_at,
            expires_at: token.expires_at,
            last_used_at: last_use.at,
            last_used_from: last_use.from,
            description: token.description.as_deref(),
            scopes: scope_names(token),
            allowed_ips: network_texts(token),
        }
    }
}

/// When a token is to end.
pub fn checked_end(
    problems: &mut Problems,
    expires_at: Option<&str>,
    now: Timestamp,
) -> Option<Timestamp> {
    match expires_at.map(str::parse::<Timestamp>) {
        None => None,
        Some(Ok(end)) if end > now => Some(end),
        Some(Ok(_)) => {
            problems.add(&["body", "expiresAt"], "must lie in the future");
            None
        }
        Some(Err(_)) => {
            let message = "must be an RFC 3339 date and time";
            problems.add(&["body", "expiresAt"], message);
            None
        }
    }
}

/// A new credential: 32 random bytes, as text.
pub fn new_credential() -> String {
    let bytes: [u8; 32] = rand::random();
    format!("pr_{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/v1/token", "v1.token.list", web::to(list))
            .summary("List tokens")
            .description("In the order in which they were created.")
            .parameters(page_parameters(false))
            .answers::<Listed<TokenOut>>(200, "A page of tokens"),
        Operation::post("/api/v1/token", "v1.token.create", web::to(create)).needs(Action::ChangeTokens)
            .summary("Create a token")
            .description(
                "The credential is in this answer and nowhere after. Because it is a secret, an \
                 `idempotency-key` is not honoured here. The new token may no more than the one that \
                 makes it: scopes, networks and an end that are left out are those of its maker, and \
                 what goes beyond is refused.",
            )
            .takes::<TokenIn>()
            .answers::<TokenOut>(201, "Created"),
        Operation::get("/api/v1/token/{token_id}", "v1.token.get", web::to(get))
            .summary("Show a token")
            .answers::<TokenOut>(200, "The token"),
        Operation::delete(
            "/api/v1/token/{token_id}",
            "v1.token.delete",
            web::to(delete),
        ).needs(Action::ChangeTokens)
        .summary("Revoke a token")
        .description("The next request with it is refused.")
        .answers_nothing(204, "Revoked"),
        Operation::put(
            "/api/v1/token/{token_id}/endpoint/{endpoint_id}",
            "v1.token.grant",
            web::to(grant),
        ).needs(Action::ChangeGrants)
        .summary("Grant an endpoint to a webhook user")
        .description(
            "The endpoint goes by its id, or by a uid or number that only one endpoint of the \
             organisation has. Granting again changes nothing.",
        )
        .answers_nothing(204, "Granted")
        .answers_nothing(409, NO_WEBHOOK_USER_OR_SEVERAL)
        .answers_nothing(429, "The token has as many grants as it can have"),
        Operation::delete(
            "/api/v1/token/{token_id}/endpoint/{endpoint_id}",
            "v1.token.revoke-grant",
            web::to(revoke_grant),
        ).needs(Action::ChangeGrants)
        .summary("Take an endpoint from a webhook user")
        .answers_nothing(204, "Taken")
        .answers_nothing(409, NO_WEBHOOK_USER_OR_SEVERAL),
        Operation::put(
            "/api/v1/token/{token_id}/application/{app_id}",
            "v1.token.grant-application",
            web::to(grant_application),
        ).needs(Action::ChangeGrants)
        .summary("Grant an application to a webhook user")
        .description(
            "It may make endpoints there, which are granted to it; endpoints of others stay out of \
             its sight. Granting again changes nothing.",
        )
        .answers_nothing(204, "Granted")
        .answers_nothing(409, NO_WEBHOOK_USER)
        .answers_nothing(429, "The token has as many grants as it can have"),
        Operation::delete(
            "/api/v1/token/{token_id}/application/{app_id}",
            "v1.token.revoke-application",
            web::to(revoke_application),
        ).needs(Action::ChangeGrants)
        .summary("Take an application from a webhook user")
        .description("The endpoints that it made there stay granted to it.")
        .answers_nothing(204, "Taken")
        .answers_nothing(409, NO_WEBHOOK_USER),
    ]
}

const NO_WEBHOOK_USER: &str = "The token's role is not webhook_user";
const NO_WEBHOOK_USER_OR_SEVERAL: &str =
    "The token's role is not webhook_user, or several endpoints have this uid or number";

pub async fn create(
    caller: Caller,
    context: web::Data<Context>,
    body: Body,
) -> Result<HttpResponse, Failure> {
    caller.may(Action::ChangeTokens)?;
    let now = context.store.clock().now();
    let input = body.json::<TokenIn>()?.checked(now)?;
    // Uids are looked for in all applications: not where every other change waits for it.
    let grants = existing(&context.store.catalog(), &caller, &input.endpoints)?;
    let credential = new_credential();
    let hash = Sha256::digest(credential.as_bytes()).into();
    let command = CreateToken {
        hash,
        name: input.name,
        role: input.role,
        application: input.application,
        grants,
        applications: input.applications,
        expires_at: input.expires_at,
        description: input.description,
        scopes: input.scopes,
        allowed_ips: input.allowed_ips,
    };
    let token = context.decide(caller, command).await?;
    let shown = TokenOut {
        token: Some(&credential),
        ..TokenOut::new(&context.store.catalog(), &token, LastUse::default())
    };
    Ok(json(StatusCode::CREATED, &shown))
}

/// The names as a token's grants, if there is one endpoint with each of them. All endpoints are looked
/// through once for their uids, not once for each name.
fn existing(catalog: &Catalog, caller: &Caller, ids: &[String]) -> Result<BTreeSet<EndpointId>> {
    let mut by_uid: HashMap<&str, Vec<&Arc<Endpoint>>> =
        ids.iter().map(|id| (id.as_str(), Vec::new())).collect();
    if !ids.is_empty() {
        let applications = catalog.applications(caller.organisation);
        for endpoint in applications.flat_map(|entry| &entry.endpoints) {
            let uid = endpoint.uid.as_deref();
            if let Some(found) = uid.and_then(|uid| by_uid.get_mut(uid)) {
                found.push(endpoint);
            }
        }
    }
    let mut problems = Problems::default();
    let mut grants = BTreeSet::new();
    for (index, id) in ids.iter().enumerate() {
        let of_uid = by_uid[id.as_str()].iter().copied();
        match endpoint_among(catalog, caller, id, of_uid) {
            Ok(endpoint) => drop(grants.insert(endpoint.id)),
            Err(error) => {
                let place = ["body", "endpointIds", &index.to_string()];
                problems.add(&place, error.to_string());
            }
        }
    }
    problems.done().map(|()| grants)
}

pub async fn list(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    caller.may(Action::ReadTokens)?;
    let mut query = Query::of(&request);
    let page = query.page::<TokenId>(&context.config.limits, false);
    query.problems.done()?;
    let catalog = context.store.catalog();
    let seen = catalog.tokens().filter(|token| caller.sees_token(token));
    let stretch = page.of(seen, |token| token.id);
    let listed = page.answer(
        stretch,
        |token| token.id,
        |token| {
            let last_use = context.store.last_use(token);
            shown(&TokenOut::new(&catalog, token, last_use))
        },
    );
    Ok(json(StatusCode::OK, &listed))
}

pub async fn get(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    caller.may(Action::ReadTokens)?;
    let catalog = context.store.catalog();
    let token = found(&catalog, &caller, path_part(&request, "token_id"))?;
    let shown = TokenOut::new(&catalog, token, context.store.last_use(token));
    Ok(json(StatusCode::OK, &shown))
}

/// Revokes a token: the next request with it is refused.
pub async fn delete(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    caller.may(Action::ChangeTokens)?;
    let token = path_part(&request, "token_id").to_owned();
    context.decide(caller, DeleteToken { token }).await?;
    Ok(no_content())
}

/// Lets a webhook user see an endpoint. Granting again changes nothing.
pub async fn grant(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
    body: Body,
) -> Result<HttpResponse, Failure> {
    caller.may(Action::ChangeGrants)?;
    body.nothing()?;
    let command = GrantEndpoint {
        token: path_part(&request, "token_id").to_owned(),
        endpoint: path_part(&request, "endpoint_id").to_owned(),
    };
    context.decide(caller, command).await?;
    Ok(no_content())
}

/// Takes an endpoint from a webhook user's sight. What is not granted cannot be taken: as with
/// everything else that is deleted, the second time there is nothing.
pub async fn revoke_grant(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    caller.may(Action::ChangeGrants)?;
    let command = RevokeEndpoint {
        token: path_part(&request, "token_id").to_owned(),
        endpoint: path_part(&request, "endpoint_id").to_owned(),
    };
    context.decide(caller, command).await?;
    Ok(no_content())
}

/// Lets a webhook user make endpoints in an application. Granting again changes nothing.
pub async fn grant_application(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
    body: Body,
) -> Result<HttpResponse, Failure> {
    caller.may(Action::ChangeGrants)?;
    body.nothing()?;
    let command = GrantApplication {
        token: path_part(&request, "token_id").to_owned(),
        application: path_part(&request, "app_id").to_owned(),
    };
    context.decide(caller, command).await?;
    Ok(no_content())
}

/// Ends that a webhook user makes endpoints in an application; it keeps those that it made.
pub async fn revoke_application(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    caller.may(Action::ChangeGrants)?;
    let command = RevokeApplication {
        token: path_part(&request, "token_id").to_owned(),
        application: path_part(&request, "app_id").to_owned(),
    };
    context.decide(caller, command).await?;
    Ok(no_content())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    #[test]
    fn a_credential_is_long_and_new_each_time() {
        let (first, second) = (new_credential(), new_credential());
        assert_ne!(first, second);
        assert!(first.starts_with("pr_") && first.len() == 46, "{first}");
        assert!(
            first
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        );
    }

    #[test]
    fn a_token_needs_a_role_and_what_belongs_to_its_role() {
        for (text, expected) in [
            (r#"{"name":"n","role":"owner"}"#, vec![]),
            (
                r#"{"name":"n","role":"application","applicationId":"c","expiresAt":"2040-01-01T00:00:00Z"}"#,
                vec![],
            ),
            ("{}", vec!["body.name", "body.role"]),
            (r#"{"name":"n","role":"king"}"#, vec!["body.role"]),
            (
                r#"{"name":"n","role":"application"}"#,
                vec!["body.applicationId"],
            ),
            (
                r#"{"name":"n","role":"owner","applicationId":"c"}"#,
                vec!["body.applicationId"],
            ),
            (
                r#"{"name":"n","role":"webhook_user","endpointIds":["e"]}"#,
                vec![],
            ),
            (
                r#"{"name":"n","role":"publisher","applicationId":"c","endpointIds":[]}"#,
                vec!["body.applicationId"],
            ),
            (
                r#"{"name":"n","role":"webhook_admin","endpointIds":["e"]}"#,
                vec!["body.endpointIds"],
            ),
            (
                r#"{"name":"n","role":"viewer","applicationIds":["a"],"scopes":["read"],
                    "allowedIps":["192.0.2.7"],"description":"d"}"#,
                vec![],
            ),
            (
                r#"{"name":"n","role":"viewer","applicationIds":[],"scopes":[],"allowedIps":[]}"#,
                vec!["body.applicationIds", "body.scopes", "body.allowedIps"],
            ),
            (
                r#"{"name":"n","role":"application","applicationId":"c","applicationIds":["a"]}"#,
                vec!["body.applicationIds"],
            ),
            (
                r#"{"name":"n","role":"owner","applicationIds":["a"],"scopes":["read","status"]}"#,
                vec!["body.scopes.1"],
            ),
            (
                r#"{"name":"n","role":"king","applicationId":"c","endpointIds":["e"]}"#,
                vec!["body.role"],
            ),
            (
                r#"{"name":"n","role":"owner","expiresAt":"2020-01-01T00:00:00Z"}"#,
                vec!["body.expiresAt"],
            ),
            (
                r#"{"name":"n","role":"owner","expiresAt":"soon"}"#,
                vec!["body.expiresAt"],
            ),
        ] {
            let input: TokenIn = serde_json::from_str(text).unwrap();
            let places: Vec<String> = match input.checked(NOW) {
                Ok(_) => Vec::new(),
                Err(Error::Invalid(all)) => all.iter().map(|one| one.location.join(".")).collect(),
                Err(other) => panic!("{other}"),
            };
            assert_eq!(places, expected, "{text}");
        }
    }

    #[test]
    fn a_token_is_shown_without_text_and_hash() {
        let organisation = crate::domain::id::OrganisationId([1; 20]);
        let token = Token::new(organisation, Role::Owner, "n".to_owned(), [7; 32], NOW);
        let shown = |token: &Token| {
            serde_json::to_value(TokenOut::new(
                &Catalog::default(),
                token,
                LastUse::default(),
            ))
        };
        let body = shown(&token).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "id": token.id.to_string(), "name": "n", "role": "owner", "applicationId": null,
                "applicationName": null,
                "createdAt": "2023-11-14T22:13:20.000Z", "expiresAt": null, "lastUsedAt": null,
                "lastUsedFrom": null, "description": null, "scopes": null, "allowedIps": null,
            })
        );
        let user = Token {
            role: Role::WebhookUser,
            grants: BTreeSet::from([EndpointId::at(NOW)]),
            ..token
        };
        let ids = &shown(&user).unwrap()["endpointIds"];
        assert_eq!(*ids, serde_json::json!([]), "that endpoint does not exist");
    }
}
