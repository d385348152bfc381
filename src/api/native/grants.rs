//! Grants: `/api/v1/token/{token_id}/endpoint` and `…/application`.
//!
//! A grant lets a token of the role webhook_user see an endpoint, or make endpoints in an application;
//! what is deleted takes its grants with it, whatever the record still holds.

use actix_web::{HttpRequest, HttpResponse, web};

use crate::api::kit::context::Context;
use crate::api::kit::error::Failure;
use crate::api::kit::extract::{Body, no_content, path_part};
use crate::api::kit::operation::Operation;
use crate::rules::caller::{Action, Caller};
use crate::rules::tokens::{GrantApplication, GrantEndpoint, RevokeApplication, RevokeEndpoint};

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::put(
            "/api/v1/token/{token_id}/endpoint/{endpoint_id}",
            "v1.token.grant",
            web::to(grant),
        )
        .needs(Action::ChangeGrants)
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
        )
        .needs(Action::ChangeGrants)
        .summary("Take an endpoint from a webhook user")
        .answers_nothing(204, "Taken")
        .answers_nothing(409, NO_WEBHOOK_USER_OR_SEVERAL),
        Operation::put(
            "/api/v1/token/{token_id}/application/{app_id}",
            "v1.token.grant-application",
            web::to(grant_application),
        )
        .needs(Action::ChangeGrants)
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
        )
        .needs(Action::ChangeGrants)
        .summary("Take an application from a webhook user")
        .description("The endpoints that it made there stay granted to it.")
        .answers_nothing(204, "Taken")
        .answers_nothing(409, NO_WEBHOOK_USER),
    ]
}

const NO_WEBHOOK_USER: &str = "The token's role is not webhook_user";
const NO_WEBHOOK_USER_OR_SEVERAL: &str =
    "The token's role is not webhook_user, or several endpoints have this uid or number";

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
