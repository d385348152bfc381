//! Handing the store over to another machine: `POST /api/v1/hand-over`, for the owner of the first organisation.

use actix_web::http::StatusCode;
use actix_web::web;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::kit::call::{Call, Reply};
use crate::api::kit::extract::{Body, json};
use crate::api::kit::operation::Operation;
use crate::error::Error;
use crate::rules::caller::Action;
use crate::telemetry::BackupState;

/// The beginning of a hand-over.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct HandOverOut {
    /// The copy that the other machine follows.
    to: String,
}

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::post(
            "/api/v1/hand-over",
            "v1.server.hand-over",
            web::to(hand_over),
        )
        .needs(Action::HandOver)
        .summary("Hand the store over to another machine")
        .description(
            "The other one runs `postrider restore --follow` on this server's backup. This one begins no further \
             attempt, waits for those under way (`server.drain_seconds`), refuses requests, copies the end of its \
             store and ends; it does not start on that store again. Where the copy cannot be completed it ends with \
             an error, and a start goes on as before. For the owner of the first organisation.",
        )
        .answers::<HandOverOut>(202, "It begins")
        .answers_nothing(409, "The store is not copied, or not just now"),
    ]
}

async fn hand_over(call: Call, body: Body) -> Reply {
    call.caller.may(Action::HandOver)?;
    let context = &call.context;
    if context.store.first_organisation() != Some(call.caller.organisation) {
        let reason = "only the owner of the first organisation may hand the server over";
        return Err(Error::Forbidden(reason.into()).into());
    }
    body.nothing()?;
    let to = ready(context.metrics.backup()).map_err(Error::Conflict)?;
    log::info!("the store is to be handed over to whoever follows {to}");
    context.hand_over_asked.notify_one();
    Ok(json(StatusCode::ACCEPTED, &HandOverOut { to }))
}

/// The target of a copy that works, or why there is none.
fn ready(backup: Option<BackupState>) -> Result<String, String> {
    let Some(state) = backup else {
        return Err("the store is not copied: set backup.to first".to_owned());
    };
    if let Some((since, reason)) = state.failing {
        return Err(format!(
            "the store has not been copied since {since}: {reason}"
        ));
    }
    match state.completed_at {
        Some(_) => Ok(state.to),
        None => Err("the copy is not complete yet: try again in a minute".to_owned()),
    }
}
