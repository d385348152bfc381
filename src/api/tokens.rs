//! Tokens: `/api/v1/token`. Their text is in the answer that creates one, and nowhere after.

use std::collections::BTreeSet;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Context;
use super::access::{Action, Caller};
use super::error::Failure;
use super::extract::{Body, json, no_content, optional_text, path_part, text};
use super::page::Query;
use super::rules::{Problems, check_name, wrong};
use crate::clock::Timestamp;
use crate::domain::id::{ApplicationId, TokenId};
use crate::domain::token::{Role, Token};
use crate::error::{Error, Result};
use crate::store::{Catalog, Change};

const NOT_FOUND: Error = Error::NotFound("token");

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct TokenIn {
    name: Option<String>,
    role: Option<String>,
    /// Id or uid.
    application_id: Option<String>,
    expires_at: Option<String>,
}

/// A body that is right for itself; whether the application exists is for the catalog to say.
#[derive(Debug)]
struct Checked {
    name: String,
    role: Role,
    application: Option<String>,
    expires_at: Option<Timestamp>,
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
                problems.add(&["body", "role"], "must be owner or application");
                None
            }
            None => {
                problems.missing(&["body", "role"]);
                None
            }
        };
        match (role, &self.application_id) {
            (Some(Role::Application), None) => problems.missing(&["body", "applicationId"]),
            (Some(Role::Owner), Some(_)) => {
                let message = "an owner is not limited to an application";
                problems.add(&["body", "applicationId"], message);
            }
            _ => {}
        }
        let expires_at = match self.expires_at.as_deref().map(str::parse::<Timestamp>) {
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
        };
        problems.done()?;
        Ok(Checked {
            name: self.name.unwrap_or_default(),
            role: role.expect("without a problem there is a role"),
            application: self.application_id,
            expires_at,
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TokenOut<'a> {
    #[serde(serialize_with = "text")]
    id: TokenId,
    /// Only in the answer that creates it.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    name: &'a str,
    role: &'static str,
    #[serde(serialize_with = "optional_text")]
    application_id: Option<ApplicationId>,
    #[serde(serialize_with = "text")]
    created_at: Timestamp,
    #[serde(serialize_with = "optional_text")]
    expires_at: Option<Timestamp>,
}

impl<'a> From<&'a Token> for TokenOut<'a> {
    fn from(token: &'a Token) -> Self {
        TokenOut {
            id: token.id,
            token: None,
            name: &token.name,
            role: token.role.name(),
            application_id: token.application,
            created_at: token.created_at,
            expires_at: token.expires_at,
        }
    }
}

/// A new credential: 32 random bytes, as text.
fn new_credential() -> String {
    let bytes: [u8; 32] = rand::random();
    format!("pr_{}", URL_SAFE_NO_PAD.encode(bytes))
}

pub async fn create(
    caller: Caller,
    context: web::Data<Context>,
    body: Body,
) -> Result<HttpResponse, Failure> {
    caller.may(Action::ChangeTokens)?;
    let now = context.store.clock().now();
    let input = body.json::<TokenIn>()?.checked(now)?;
    let credential = new_credential();
    let hash = Sha256::digest(credential.as_bytes()).into();
    let token = context
        .store
        .change(move |catalog| {
            let token = Token {
                id: TokenId::at(now),
                organisation: caller.organisation,
                application: limited_to(catalog, &caller, input.application.as_deref())?,
                name: input.name,
                role: input.role,
                hash,
                created_at: now,
                expires_at: input.expires_at,
                grants: BTreeSet::new(),
                account_endpoint: None,
            };
            Ok((vec![Change::PutToken(token.clone())], token))
        })
        .await?;
    let shown = TokenOut {
        token: Some(&credential),
        ..TokenOut::from(&token)
    };
    Ok(json(StatusCode::CREATED, &shown))
}

fn limited_to(
    catalog: &Catalog,
    caller: &Caller,
    application: Option<&str>,
) -> Result<Option<ApplicationId>> {
    let Some(application) = application else {
        return Ok(None);
    };
    match catalog.application(caller.organisation, application) {
        Some(entry) => Ok(Some(entry.application.id)),
        None => Err(wrong(
            &["body", "applicationId"],
            "there is no such application",
        )),
    }
}

pub async fn list(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    caller.may(Action::ReadTokens)?;
    let mut query = Query::of(&request);
    let page = query.page::<TokenId>(context.config.limits.list_page_max, false);
    query.problems.done()?;
    let catalog = context.store.catalog();
    let own = catalog
        .tokens()
        .filter(|token| token.organisation == caller.organisation);
    let stretch = page.of(own, |token| token.id);
    let listed = page.answer(stretch, |token| token.id);
    Ok(json(
        StatusCode::OK,
        &listed.map(|token| TokenOut::from(&***token)),
    ))
}

/// The token with this id in the caller's organisation.
fn found<'a>(catalog: &'a Catalog, caller: &Caller, id: &str) -> Result<&'a Token> {
    let id: TokenId = id.parse().map_err(|_| NOT_FOUND)?;
    catalog
        .token(id)
        .map(|token| &**token)
        .filter(|token| token.organisation == caller.organisation)
        .ok_or(NOT_FOUND)
}

pub async fn get(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    caller.may(Action::ReadTokens)?;
    let catalog = context.store.catalog();
    let token = found(&catalog, &caller, path_part(&request, "token_id"))?;
    Ok(json(StatusCode::OK, &TokenOut::from(token)))
}

/// Revokes a token: the next request with it is refused.
pub async fn delete(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    caller.may(Action::ChangeTokens)?;
    let id = path_part(&request, "token_id").to_owned();
    context
        .store
        .change(move |catalog| {
            let token = found(catalog, &caller, &id)?;
            Ok((vec![Change::DeleteToken(token.id)], ()))
        })
        .await?;
    Ok(no_content())
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_token_needs_a_role_and_its_role_what_it_is_limited_to() {
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
        let token = Token {
            id: TokenId::at(NOW),
            organisation: crate::domain::id::OrganisationId([1; 20]),
            name: "n".to_owned(),
            role: Role::Owner,
            application: None,
            hash: [7; 32],
            created_at: NOW,
            expires_at: None,
            grants: BTreeSet::new(),
            account_endpoint: None,
        };
        let body = serde_json::to_value(TokenOut::from(&token)).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "id": token.id.to_string(), "name": "n", "role": "owner", "applicationId": null,
                "createdAt": "2023-11-14T22:13:20.000Z", "expiresAt": null,
            })
        );
    }
}
