//! An application's API keys: `/api/v1/app/{app_id}/token`.
//!
//! They are tokens of the role application, like those of `/api/v1/token`, seen from one
//! application: its people make and revoke them in the portal, and the operator in the console.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::token_body::{LinkOut, TokenAccountEndpoint, checked_end, network_texts, scope_names};
use super::tokens::new_credential;
use crate::api::access::token_limits::{
    ScopeName, checked_description, checked_networks, checked_scopes,
};
use crate::api::kit::call::{Call, Reply};
use crate::api::kit::extract::{Body, json, optional_text, respond, text};
use crate::api::kit::operation::Operation;
use crate::api::kit::page::{Listed, page_parameters, shown};
use crate::catalog::Catalog;
use crate::clock::Timestamp;
use crate::domain::id::{ApplicationId, TokenId};
use crate::domain::scope::Scope;
use crate::domain::token::{ALLOWED_IPS_MAX, Role, Token};
use crate::error::Result;
use crate::rules::caller::{Action, Caller, Credential};
use crate::rules::checks::{DESCRIPTION_BYTES_MAX, NAME_BYTES_MAX, Problems, check_name};
use crate::rules::keys::{CreateKey, DeleteKey, keys};
use crate::store::LastUse;

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(extend("required" = ["name"]))]
struct ApiKeyIn {
    /// A name for people.
    #[schemars(with = "String", length(min = 1, max = NAME_BYTES_MAX))]
    name: Option<String>,
    /// When the key stops being valid, in the future; never where absent. A key that is made
    /// through a link to the portal lives for portal.api_key_days_max at most, and so long where
    /// this is absent. It also ends when `expire-all` ends the keys of its link.
    #[schemars(extend("format" = "date-time"))]
    expires_at: Option<String>,
    /// A description for people, such as the key's purpose.
    #[schemars(length(max = DESCRIPTION_BYTES_MAX))]
    description: Option<String>,
    /// The only groups of operations that the key may do; all that an API key may where absent.
    #[schemars(with = "Option<Vec<ScopeName>>")]
    scopes: Option<Vec<String>>,
    /// The only networks or addresses that the key may be used from; everywhere where absent.
    #[schemars(length(max = ALLOWED_IPS_MAX))]
    allowed_ips: Option<Vec<String>>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ApiKeyOut<'a> {
    #[serde(serialize_with = "text")]
    id: TokenId,
    /// The credential itself, only in the answer that creates it: it cannot be shown again.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    name: &'a str,
    /// The endpoint that the key configures where it is an account (Ocrolus); null where there is
    /// none.
    account_endpoint: Option<TokenAccountEndpoint>,
    /// The link to the portal through which the key was made; null where an owner made it.
    made_by_link: Option<LinkOut<'a>>,
    #[serde(serialize_with = "text")]
    created_at: Timestamp,
    #[serde(serialize_with = "optional_text")]
    expires_at: Option<Timestamp>,
    /// The time of its last use, to the minute; null where it was not used yet.
    #[serde(serialize_with = "optional_text")]
    last_used_at: Option<Timestamp>,
    /// The address of its last use; a trusted proxy's own where the proxy named no client. Null
    /// where none was noted.
    #[serde(serialize_with = "optional_text")]
    last_used_from: Option<IpAddr>,
    description: Option<&'a str>,
    /// The only groups of operations that the key may do; null for all that an API key may.
    #[schemars(with = "Option<Vec<ScopeName>>")]
    scopes: Option<Vec<&'static str>>,
    /// The only networks that the key may be used from; null for everywhere.
    allowed_ips: Option<Vec<String>>,
}

impl<'a> ApiKeyOut<'a> {
    fn new(catalog: &Catalog, token: &'a Token, last_use: LastUse) -> Self {
        ApiKeyOut {
            id: token.id,
            token: None,
            name: &token.name,
            account_endpoint: TokenAccountEndpoint::of(catalog, token),
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

/// A body that is valid by itself.
struct CheckedKey {
    name: String,
    expires_at: Option<Timestamp>,
    description: Option<String>,
    scopes: Option<BTreeSet<Scope>>,
    allowed_ips: Vec<IpNet>,
}

impl ApiKeyIn {
    /// Returns the key in the body, or all problems of the body.
    fn checked(self, now: Timestamp, days_max: Option<u32>) -> Result<CheckedKey> {
        let mut problems = Problems::default();
        match &self.name {
            Some(name) => check_name(&mut problems, &["body", "name"], name),
            None => problems.missing(&["body", "name"]),
        }
        let expires_at = checked_end(&mut problems, self.expires_at.as_deref(), now);
        if let Some(days) = days_max {
            let last = now + Duration::from_secs(u64::from(days) * 24 * 3600);
            if expires_at.is_some_and(|end| end > last) {
                let message = format!("must be at most {days} days from now");
                problems.add(&["body", "expiresAt"], message);
            }
        }
        let scopes = self.scopes.as_deref();
        let key = CheckedKey {
            name: self.name.unwrap_or_default(),
            expires_at,
            description: checked_description(&mut problems, self.description),
            scopes: checked_scopes(&mut problems, scopes, Role::Application, false),
            allowed_ips: checked_networks(&mut problems, self.allowed_ips.as_deref()),
        };
        problems.done()?;
        Ok(key)
    }
}

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/api/v1/app/{app_id}/token",
            "v1.token.list-of-application",
            web::to(list),
        )
        .summary("List an application's API keys")
        .description(
            "Tokens of the role application, in the order in which they were created. For \
                 owners, and for portal sessions that may manage endpoints and create attempts.",
        )
        .parameters(page_parameters(false))
        .answers::<Listed<ApiKeyOut>>(200, "A page of keys"),
        Operation::post(
            "/api/v1/app/{app_id}/token",
            "v1.token.create-of-application",
            web::to(create),
        ).needs(Action::OwnKeys)
        .summary("Create an API key of an application")
        .description(
            "The credential is in this answer and nowhere after. Because it is a secret, an \
             `idempotency-key` is not honoured here. The key may no more than the token or link that \
             makes it: scopes, networks and an end that are left out are those of its maker.",
        )
        .takes::<ApiKeyIn>()
        .answers::<ApiKeyOut>(201, "Created")
        .answers_nothing(429, "The application has as many keys as it can have"),
        Operation::delete(
            "/api/v1/app/{app_id}/token/{token_id}",
            "v1.token.delete-of-application",
            web::to(delete),
        ).needs(Action::OwnKeys)
        .summary("Revoke an API key of an application")
        .description("The next request with it is refused.")
        .answers_nothing(204, "Revoked"),
    ]
}

/// The application that the path names.
fn application(
    catalog: &Catalog,
    caller: &Caller,
    id_or_uid: &str,
    action: Action,
) -> Result<ApplicationId> {
    let entry = caller.application(catalog, id_or_uid, action)?;
    Ok(entry.application.id)
}

pub async fn list(call: Call) -> Reply {
    let catalog = call.catalog();
    let path = call.path("app_id");
    let application = application(&catalog, &call.caller, path, Action::ReadKeys)?;
    let mut query = call.query();
    let page = query.page::<TokenId>(&call.context.config.limits, false);
    query.problems.done()?;
    let listed = page.list(
        keys(&catalog, application),
        |token| token.id,
        |token| {
            let last_use = call.context.store.last_use(token);
            shown(&ApiKeyOut::new(&catalog, token, last_use))
        },
    );
    Ok(respond(listed))
}

pub async fn create(call: Call, body: Body) -> Reply {
    let path = call.path("app_id").to_owned();
    application(&call.catalog(), &call.caller, &path, Action::OwnKeys)?;
    let now = call.now();
    let is_link = matches!(call.caller.credential(), Credential::Session(..));
    let days_max = call.context.config.portal.api_key_days_max;
    let days_max = (is_link && days_max > 0).then_some(days_max);
    let key = body.json::<ApiKeyIn>()?.checked(now, days_max)?;
    let credential = new_credential();
    let hash = Sha256::digest(credential.as_bytes()).into();
    let command = CreateKey {
        application: path,
        hash,
        name: key.name,
        expires_at: key.expires_at,
        description: key.description,
        scopes: key.scopes,
        allowed_ips: key.allowed_ips,
    };
    let token = call.decide(command).await?;
    let shown = ApiKeyOut {
        token: Some(&credential),
        ..ApiKeyOut::new(&call.catalog(), &token, LastUse::default())
    };
    Ok(json(StatusCode::CREATED, &shown))
}

/// Revokes a key: the next request with it is refused.
pub async fn delete(call: Call) -> Reply {
    let path = call.path("app_id").to_owned();
    application(&call.catalog(), &call.caller, &path, Action::OwnKeys)?;
    let command = DeleteKey {
        application: path,
        key: call.path("token_id").to_owned(),
    };
    call.done(command).await
}
