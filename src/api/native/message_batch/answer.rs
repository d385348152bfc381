//! The answer to a batch: what came of each message, and the same made again from a kept answer.

use std::sync::Arc;

use actix_web::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::super::message_body::MessageOut;
use super::Judged;
use crate::api::kit::error::{ErrorBody, Failure};
use crate::api::kit::extract::answered;
use crate::domain::id::ApplicationId;
use crate::domain::message::Message;
use crate::error::{Error, Invalid, Result};
use crate::store::{Answered, Shown, Store};

/// The results of a batch, in the order of its messages.
#[derive(Serialize, JsonSchema)]
pub struct BatchOut<'a> {
    data: Vec<ItemOut<'a>>,
    accepted: usize,
    refused: usize,
}

/// The status and the body of the answer that the message would have got alone.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
pub enum ItemOut<'a> {
    Accepted {
        status: u16,
        message: MessageOut<'a>,
    },
    Refused {
        status: u16,
        error: ErrorBody<'a>,
    },
    #[schemars(skip)]
    AsKept(&'a RawValue),
}

impl<'a> ItemOut<'a> {
    fn accepted(message: &'a Message, with_content: bool) -> MessageOut<'a> {
        MessageOut::with(message, with_content).with_endpoints_matched(message)
    }

    fn of(message: MessageOut<'a>) -> ItemOut<'a> {
        ItemOut::Accepted {
            status: StatusCode::ACCEPTED.as_u16(),
            message,
        }
    }
}

/// An accepted message with the warnings about it, or why it is refused.
type Outcome = Result<(Arc<Message>, Vec<Invalid>), Failure>;

/// Returns the answer for the whole batch; an error where no message is accepted.
pub fn show(
    judged: Vec<Judged>,
    results: Vec<Result<Arc<Message>>>,
    with_content: bool,
    is_kept: bool,
) -> Result<Shown> {
    let mut results = results.into_iter();
    let outcomes: Vec<Outcome> = judged
        .into_iter()
        .map(|judged| {
            let warnings = judged?;
            let result = results
                .next()
                .expect("each message that was not refused has a result");
            Ok((result.map_err(Failure::Of)?, warnings))
        })
        .collect();
    let accepted = outcomes.iter().flatten().count();
    if accepted == 0 {
        return Err(Error::Invalid(problems(&outcomes)));
    }
    let shown = |with_content| {
        let data = outcomes.iter().map(|outcome| match outcome {
            Ok((message, warnings)) => {
                ItemOut::of(ItemOut::accepted(message, with_content).with_warnings(warnings))
            }
            Err(failure) => ItemOut::Refused {
                status: actix_web::ResponseError::status_code(failure).as_u16(),
                error: failure.body(),
            },
        });
        let out = BatchOut {
            data: data.collect(),
            accepted,
            refused: outcomes.len() - accepted,
        };
        answered(StatusCode::ACCEPTED, &out)
    };
    let without_payloads = (with_content && is_kept).then(|| shown(false).body);
    Ok(Shown {
        answered: shown(with_content),
        without_payloads,
    })
}

/// A kept answer, as far as it is read.
#[derive(Deserialize)]
struct BatchKept<'a> {
    #[serde(borrow)]
    data: Vec<&'a RawValue>,
    accepted: usize,
    refused: usize,
}

#[derive(Deserialize)]
struct ItemKept<'a> {
    #[serde(borrow)]
    message: Option<MessageKept<'a>>,
}

#[derive(Deserialize)]
struct MessageKept<'a> {
    id: &'a str,
    #[serde(borrow)]
    warnings: Option<&'a RawValue>,
}

/// Makes the answer of an earlier batch again from what its messages are now, with their payloads or
/// without. A message that is not there any more is shown as it was kept.
pub fn shown_again(
    store: &Store,
    application: ApplicationId,
    kept: Answered,
    with_content: bool,
) -> Result<Answered> {
    // Of another form where it says that it could not be made.
    let Ok(batch) = serde_json::from_slice::<BatchKept<'_>>(&kept.body) else {
        return Ok(kept);
    };
    let read = |item: &&RawValue| -> Result<Option<Arc<Message>>> {
        let id = message_kept(item).and_then(|message| message.id.parse().ok());
        let Some(id) = id else { return Ok(None) };
        match with_content {
            true => store.message(application, id),
            // What was kept says as much.
            false => match store.message_without_payload(application, id) {
                Err(Error::Unreadable { .. }) => Ok(None),
                read => read,
            },
        }
    };
    let messages = batch.data.iter().map(read);
    let messages = messages.collect::<Result<Vec<_>>>()?;
    let data = batch.data.iter().zip(&messages);
    let data = data.map(|(kept, message)| match message {
        Some(message) => {
            let warnings = message_kept(kept).and_then(|message| message.warnings);
            ItemOut::of(ItemOut::accepted(message, with_content).with_kept_warnings(warnings))
        }
        None => ItemOut::AsKept(kept),
    });
    let out = BatchOut {
        data: data.collect(),
        accepted: batch.accepted,
        refused: batch.refused,
    };
    Ok(answered(StatusCode::ACCEPTED, &out))
}

/// Returns the message in a kept item, where it was accepted.
fn message_kept(item: &RawValue) -> Option<MessageKept<'_>> {
    serde_json::from_str::<ItemKept<'_>>(item.get())
        .ok()?
        .message
}

/// Returns the problems of all messages, each at the message's number.
fn problems(outcomes: &[Outcome]) -> Vec<Invalid> {
    let failures = outcomes.iter().enumerate();
    failures
        .filter_map(|(number, outcome)| Some((number, outcome.as_ref().err()?)))
        .flat_map(|(number, failure)| failure.problems_at(&["body", &number.to_string()]))
        .collect()
}
