//! Deletes the payload of a message, or the answer to an attempt; both stay listed.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use actix_web::web;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::history::History;
use crate::api::kit::call::{Call, Reply};
use crate::api::kit::extract::{Body, json, no_content};
use crate::api::kit::operation::Operation;
use crate::domain::id::AttemptId;
use crate::error::{Error, Result};
use crate::rules::caller::Action;
use crate::rules::checks::{missing, wrong};

/// Returns the operation for many messages. Its route comes before that of a message with this
/// name.
pub fn bulk_operation() -> Operation {
    Operation::post(
        "/api/v1/app/{app_id}/msg/bulk-expunge",
        "v1.message.bulk-expunge-contents",
        web::to(messages),
    )
    .needs(Action::Expunge)
    .summary("Delete the payloads of many messages")
    .description("Each as by its own call. What is not there is told beside the others.")
    .takes::<BulkExpungeIn>()
    .answers::<BulkExpungeOut>(200, "The result for each")
}

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::delete(
            "/api/v1/app/{app_id}/msg/{msg_id}/content",
            "v1.message.expunge-content",
            web::to(message),
        )
        .needs(Action::Expunge)
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
        .needs(Action::Expunge)
        .summary("Delete what was answered to an attempt")
        .description("Its body reads `EXPUNGED` from then on, and its headers are gone.")
        .answers_nothing(204, "Deleted, and durable"),
    ]
}

pub async fn message(call: Call) -> Reply {
    let history = History::named_for(&call, Action::Expunge)?;
    let application = history.application;
    let id = call.path("msg_id").to_owned();
    let store = call.context.store.clone();
    let message = call.reading(move || history.message(&store, &id)).await?;
    call.context
        .store
        .expunge_payload(application, message.id)
        .await?;
    Ok(no_content())
}

/// The most messages of one request: each is a commit of its own.
const IDS_MAX: usize = 100;

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(rename = "BulkExpungeContentsIn", extend("required" = ["ids"]))]
struct BulkExpungeIn {
    /// Ids of messages, or your own `eventId`s.
    #[schemars(with = "Vec<String>", length(max = IDS_MAX))]
    ids: Option<Vec<String>>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "BulkExpungeContentsOut")]
struct BulkExpungeOut {
    /// The results, by the ids as they were given.
    results: BTreeMap<String, Became>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "BulkExpungeStatus")]
enum Became {
    Expunged,
    NotFound,
}

/// Deletes the payloads of those of the messages that exist.
pub async fn messages(call: Call, body: Body) -> Reply {
    let history = History::named_for(&call, Action::Expunge)?;
    let application = history.application;
    let Some(ids) = body.json::<BulkExpungeIn>()?.ids else {
        return Err(missing(&["body", "ids"]).into());
    };
    if ids.len() > IDS_MAX {
        let message = format!("must have at most {IDS_MAX} items");
        return Err(wrong(&["body", "ids"], message).into());
    }
    let store = call.context.store.clone();
    let read = move || {
        let find = |id: String| match history.message(&store, &id) {
            Ok(message) => Ok((id, Some(message.id))),
            Err(Error::NotFound(_)) => Ok((id, None)),
            Err(error) => Err(error),
        };
        ids.into_iter().map(find).collect::<Result<Vec<_>>>()
    };
    let found = call.reading(read).await?;
    let mut results = BTreeMap::new();
    for (id, message) in found {
        let expunged = match message {
            Some(message) => {
                call.context
                    .store
                    .expunge_payload(application, message)
                    .await
            }
            None => Err(Error::not_found("message")),
        };
        let became = match expunged {
            Ok(()) => Became::Expunged,
            Err(Error::NotFound(_)) => Became::NotFound,
            Err(error) => return Err(error.into()),
        };
        results.insert(id, became);
    }
    Ok(json(StatusCode::OK, &BulkExpungeOut { results }))
}

pub async fn attempt(call: Call) -> Reply {
    let history = History::named_for(&call, Action::Expunge)?;
    let application = history.application;
    let not_found = || Error::not_found("attempt");
    let id: AttemptId = call.path("attempt_id").parse().map_err(|_| not_found())?;
    let message = call.path("msg_id").to_owned();
    let store = call.context.store.clone();
    let read = move || {
        let message = history.message(&store, &message)?;
        let found = store.attempt(message.id, id)?;
        found.map(|_| message).ok_or_else(not_found)
    };
    let message = call.reading(read).await?;
    let store = &call.context.store;
    store.expunge_answer(application, message.id, id).await?;
    Ok(no_content())
}
