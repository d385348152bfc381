//! Deleting what a message said, and what was answered to an attempt; both stay listed.

use actix_web::{HttpRequest, HttpResponse, web};

use super::Context;
use super::access::{Action, Caller};
use super::error::Failure;
use super::extract::{no_content, path_part, reading};
use super::messages::History;
use super::operation::Operation;
use crate::domain::id::AttemptId;
use crate::error::{Error, Result};

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::delete(
            "/api/v1/app/{app_id}/msg/{msg_id}/content",
            "v1.message.expunge-content",
            web::to(message),
        )
        .summary("Delete a message's payload")
        .description(
            "The message stays listed, with `{\"expired\":true}` in place of its payload. What \
             still waits of it is not sent: its next attempt fails without a request, and is the \
             last.",
        )
        .answers_nothing(204, "Deleted, and durable"),
        Operation::delete(
            "/api/v1/app/{app_id}/msg/{msg_id}/attempt/{attempt_id}/content",
            "v1.message-attempt.expunge-content",
            web::to(attempt),
        )
        .summary("Delete what was answered to an attempt")
        .description("Its body reads `EXPUNGED` from then on, and its headers are gone.")
        .answers_nothing(204, "Deleted, and durable"),
    ]
}

pub async fn message(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    let history = named(&context, &caller, &request)?;
    let application = history.application;
    let id = path_part(&request, "msg_id").to_owned();
    let store = context.store.clone();
    let message = reading(&context, &caller, move || history.message(&store, &id)).await?;
    context
        .store
        .expunge_payload(application, message.id)
        .await?;
    Ok(no_content())
}

pub async fn attempt(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    let history = named(&context, &caller, &request)?;
    let not_found = || Error::NotFound("attempt");
    let id: AttemptId = path_part(&request, "attempt_id")
        .parse()
        .map_err(|_| not_found())?;
    let message = path_part(&request, "msg_id").to_owned();
    let store = context.store.clone();
    let message = reading(&context, &caller, move || {
        let message = history.message(&store, &message)?;
        let found = store.attempt(message.id, id)?;
        found.map(|_| message).ok_or_else(not_found)
    })
    .await?;
    context.store.expunge_answer(message.id, id).await?;
    Ok(no_content())
}

/// What the caller may delete from, which the path names.
fn named(context: &Context, caller: &Caller, request: &HttpRequest) -> Result<History> {
    let application = path_part(request, "app_id");
    caller.application(&context.store.catalog(), application, Action::Expunge)?;
    History::named(context, caller, request)
}
