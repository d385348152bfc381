//! Grants: `/api/v1/token/{token_id}/endpoint` and `…/application`.
//!
//! A grant lets a token of the role webhook_user see an endpoint, or make endpoints in an
//! application. A grant ends with the endpoint or application, even if the token's record still has
//! it.

use actix_web::web;

use crate::api::kit::call::{Call, Reply};
use crate::api::kit::extract::Body;
use crate::api::kit::operation::Operation;
use crate::rules::caller::Action;
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
pub async fn grant(call: Call, body: Body) -> Reply {
    call.caller.may(Action::ChangeGrants)?;
    body.nothing()?;
    let command = GrantEndpoint {
        token: call.path("token_id").to_owned(),
        endpoint: call.path("endpoint_id").to_owned(),
    };
    call.done(command).await
}

/// Takes an endpoint from a webhook user's sight. An endpoint that is not granted is not found, as
/// with everything else that is deleted twice.
pub async fn revoke_grant(call: Call) -> Reply {
    call.caller.may(Action::ChangeGrants)?;
    let command = RevokeEndpoint {
        token: call.path("token_id").to_owned(),
        endpoint: call.path("endpoint_id").to_owned(),
    };
    call.done(command).await
}

/// Lets a webhook user make endpoints in an application. Granting again changes nothing.
pub async fn grant_application(call: Call, body: Body) -> Reply {
    call.caller.may(Action::ChangeGrants)?;
    body.nothing()?;
    let command = GrantApplication {
        token: call.path("token_id").to_owned(),
        application: call.path("app_id").to_owned(),
    };
    call.done(command).await
}

/// Takes the grant to make endpoints in an application from a webhook user; it keeps the endpoints
/// that it made.
pub async fn revoke_application(call: Call) -> Reply {
    call.caller.may(Action::ChangeGrants)?;
    let command = RevokeApplication {
        token: call.path("token_id").to_owned(),
        application: call.path("app_id").to_owned(),
    };
    call.done(command).await
}
