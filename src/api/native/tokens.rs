//! Tokens: `/api/v1/token`.
//!
//! A token's text is in the answer that creates it, and nowhere after.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::web;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::token_body::{TokenIn, TokenOut};
use crate::api::kit::call::{Call, Reply};
use crate::api::kit::extract::{Body, json, respond};
use crate::api::kit::operation::Operation;
use crate::api::kit::page::{Listed, page_parameters, shown};
use crate::catalog::Catalog;
use crate::domain::endpoint::Endpoint;
use crate::domain::id::{EndpointId, TokenId};
use crate::error::Result;
use crate::rules::caller::{Action, Caller};
use crate::rules::checks::Problems;
use crate::rules::tokens::{CreateToken, DeleteToken, endpoint_among, found};

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
    ]
}

pub async fn create(call: Call, body: Body) -> Reply {
    call.caller.may(Action::ChangeTokens)?;
    let now = call.now();
    let input = body.json::<TokenIn>()?.checked(now)?;
    // Uids are looked for in all applications. That does not happen on the writer's thread, where
    // every other change would wait for it.
    let grants = existing(&call.catalog(), &call.caller, &input.endpoints)?;
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
    let token = call.decide(command).await?;
    let catalog = call.catalog();
    let shown = TokenOut::created(&catalog, &token, &credential);
    Ok(json(StatusCode::CREATED, &shown))
}

/// Returns the endpoints with these names as a token's grants; an error unless each name has
/// exactly one. All endpoints are searched for the uids once, not once for each name.
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

pub async fn list(call: Call) -> Reply {
    call.caller.may(Action::ReadTokens)?;
    let mut query = call.query();
    let page = query.page::<TokenId>(&call.context.config.limits, false);
    query.problems.done()?;
    let catalog = call.catalog();
    let seen = catalog
        .tokens()
        .filter(|token| call.caller.sees_token(token));
    let listed = page.list(
        seen,
        |token| token.id,
        |token| {
            let last_use = call.context.store.last_use(token);
            shown(&TokenOut::new(&catalog, token, last_use))
        },
    );
    Ok(respond(listed))
}

pub async fn get(call: Call) -> Reply {
    call.caller.may(Action::ReadTokens)?;
    let catalog = call.catalog();
    let token = found(&catalog, &call.caller, call.path("token_id"))?;
    let shown = TokenOut::new(&catalog, token, call.context.store.last_use(token));
    Ok(json(StatusCode::OK, &shown))
}

/// Revokes a token: the next request with it is refused.
pub async fn delete(call: Call) -> Reply {
    call.caller.may(Action::ChangeTokens)?;
    let token = call.path("token_id").to_owned();
    call.done(DeleteToken { token }).await
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
