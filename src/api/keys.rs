//! An application's API keys: `/api/v1/app/{app_id}/token`.
//!
//! They are tokens of the role application, as those of `/api/v1/token` are, seen from the one
//! application: its people make and revoke them in the portal, and the operator in the console.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Context;
use super::access::{Action, Caller, Credential};
use super::error::Failure;
use super::extract::{Body, json, no_content, optional_text, path_part, text};
use super::operation::Operation;
use super::page::{Listed, Query, page_parameters, shown};
use super::rules::{NAME_BYTES_MAX, Problems, check_name};
use super::tokens::{AccountEndpoint, LinkOut, checked_end, new_credential};
use crate::clock::Timestamp;
use crate::domain::id::{ApplicationId, TokenId};
use crate::domain::token::{MadeByLink, Role, Token};
use crate::error::{Error, Result};
use crate::store::{Catalog, Change};

/// Of one application: all of them are in memory.
const KEYS_MAX: usize = 100;

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(extend("required" = ["name"]))]
struct ApiKeyIn {
    /// A name for people.
    #[schemars(with = "String", length(min = 1, max = NAME_BYTES_MAX))]
    name: Option<String>,
    /// When it stops being valid, in the future; never where absent. A key that is made through a
    /// link to the portal lives for portal.api_key_days_max at most, and as long where this is absent.
    #[schemars(extend("format" = "date-time"))]
    expires_at: Option<String>,
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
    /// The endpoint that it configures where a token is an account (Ocrolus); null where there is
    /// none.
    account_endpoint: Option<AccountEndpoint>,
    /// The link to the portal through which it was made; null where an owner made it.
    made_by_link: Option<LinkOut<'a>>,
    #[serde(serialize_with = "text")]
    created_at: Timestamp,
    #[serde(serialize_with = "optional_text")]
    expires_at: Option<Timestamp>,
    /// To the minute; null where it was not used yet.
    #[serde(serialize_with = "optional_text")]
    last_used_at: Option<Timestamp>,
}

impl<'a> ApiKeyOut<'a> {
    fn new(catalog: &Catalog, token: &'a Token, last_used_at: Option<Timestamp>) -> Self {
        ApiKeyOut {
            id: token.id,
            token: None,
            name: &token.name,
            account_endpoint: AccountEndpoint::of(catalog, token),
            made_by_link: LinkOut::of(token),
            created_at: token.created_at,
            expires_at: token.expires_at,
            last_used_at,
        }
    }
}

impl ApiKeyIn {
    /// Its name, and when it ends.
    fn checked(self, now: Timestamp, days_max: Option<u32>) -> Result<(String, Option<Timestamp>)> {
        let mut problems = Problems::default();
        match &self.name {
            Some(name) => check_name(&mut problems, &["body", "name"], name),
            None => problems.missing(&["body", "name"]),
        }
        let mut expires_at = checked_end(&mut problems, self.expires_at.as_deref(), now);
        if let Some(days) = days_max {
            let last = now + Duration::from_secs(u64::from(days) * 24 * 3600);
            if expires_at.is_some_and(|end| end > last) {
                let message = format!("must be at most {days} days from now");
                problems.add(&["body", "expiresAt"], message);
            }
            expires_at = expires_at.or(Some(last));
        }
        problems.done()?;
        Ok((self.name.unwrap_or_default(), expires_at))
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
        )
        .summary("Create an API key of an application")
        .description(
            "The credential is in this answer and nowhere after. Because it is a secret, an \
             `idempotency-key` is not honoured here.",
        )
        .takes::<ApiKeyIn>()
        .answers::<ApiKeyOut>(201, "Created")
        .answers_nothing(429, "The application has as many keys as it can have"),
        Operation::delete(
            "/api/v1/app/{app_id}/token/{token_id}",
            "v1.token.delete-of-application",
            web::to(delete),
        )
        .summary("Revoke an API key of an application")
        .description("The next request with it is refused.")
        .answers_nothing(204, "Revoked"),
    ]
}

/// The keys of the application, oldest first.
pub fn keys(
    catalog: &Catalog,
    application: ApplicationId,
) -> impl DoubleEndedIterator<Item = &Token> {
    catalog.tokens().map(|token| &**token).filter(move |token| {
        let is_key = token.role == Role::Application && token.session.is_none();
        is_key && token.application == Some(application)
    })
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

pub async fn list(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    let catalog = context.store.catalog();
    let path = path_part(&request, "app_id");
    let application = application(&catalog, &caller, path, Action::ReadKeys)?;
    let mut query = Query::of(&request);
    let page = query.page::<TokenId>(&context.config.limits, false);
    query.problems.done()?;
    let stretch = page.of(keys(&catalog, application), |token| token.id);
    let listed = page.answer(
        stretch,
        |token| token.id,
        |token| {
            shown(&ApiKeyOut::new(
                &catalog,
                token,
                context.store.last_used(token),
            ))
        },
    );
    Ok(json(StatusCode::OK, &listed))
}

pub async fn create(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
    body: Body,
) -> Result<HttpResponse, Failure> {
    let path = path_part(&request, "app_id").to_owned();
    application(&context.store.catalog(), &caller, &path, Action::OwnKeys)?;
    let now = context.store.clock().now();
    let link = match caller.credential() {
        Credential::Session(link, _) => Some(link),
        Credential::Token(_) | Credential::Signed { .. } => None,
    };
    let days_max = context.config.portal.api_key_days_max;
    let days_max = link.and(Some(days_max)).filter(|days| *days > 0);
    let (name, expires_at) = body.json::<ApiKeyIn>()?.checked(now, days_max)?;
    let credential = new_credential();
    let hash = Sha256::digest(credential.as_bytes()).into();
    let token = context
        .store
        .change(move |catalog| {
            caller.still_holds(catalog, now)?;
            let application = application(catalog, &caller, &path, Action::OwnKeys)?;
            if keys(catalog, application).count() >= KEYS_MAX {
                return Err(Error::TooMany(format!(
                    "an application has at most {KEYS_MAX} API keys"
                )));
            }
            let token = Token {
                application: Some(application),
                expires_at,
                made_by: link.map(|link| MadeByLink {
                    link,
                    session: session_name(catalog, link),
                }),
                ..Token::new(caller.organisation, Role::Application, name, hash, now)
            };
            Ok((vec![Change::PutToken(token.clone())], token))
        })
        .await?;
    let shown = ApiKeyOut {
        token: Some(&credential),
        ..ApiKeyOut::new(&context.store.catalog(), &token, None)
    };
    Ok(json(StatusCode::CREATED, &shown))
}

/// The platform's own name for the session of a link.
fn session_name(catalog: &Catalog, link: TokenId) -> Option<String> {
    catalog.token(link)?.session.as_ref()?.id.clone()
}

/// Revokes a key: the next request with it is refused.
pub async fn delete(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    let path = path_part(&request, "app_id").to_owned();
    application(&context.store.catalog(), &caller, &path, Action::OwnKeys)?;
    let id = path_part(&request, "token_id").to_owned();
    context
        .store
        .change(move |catalog| {
            let application = application(catalog, &caller, &path, Action::OwnKeys)?;
            let key = id
                .parse()
                .ok()
                .and_then(|id| keys(catalog, application).find(|token| token.id == id))
                .ok_or(Error::NotFound("API key"))?;
            Ok((vec![Change::DeleteToken(key.id)], ()))
        })
        .await?;
    Ok(no_content())
}
