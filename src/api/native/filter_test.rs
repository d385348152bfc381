//! Trying a filter out: `/api/v1/app/{app_id}/endpoint/{endpoint_id}/filter/test`. An addition to the
//! contract.
//!
//! Whether an endpoint would get a logged message, or one that is yet to be published, and why not.
//! Nothing is sent and nothing is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::web;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::endpoint_body::parsed_filter;
use super::endpoint_path::named;
use super::history::History;
use super::message_body::{Bounds, MessageIn, OwnedParts};
use crate::api::kit::call::{Call, Reply};
use crate::api::kit::extract::{Body, answered, object};
use crate::api::kit::operation::{BytesMax, Operation};
use crate::catalog::Catalog;
use crate::clock::Timestamp;
use crate::domain::cost::Budget;
use crate::domain::endpoint::Endpoint;
use crate::domain::filter::{Facts, Filter, Parts, Reason};
use crate::error::{Error, Result};
use crate::rules::caller::Action;
use crate::rules::checks::{Problems, missing};
use crate::rules::matching::Costliest;
use crate::store::Answered;

/// A message to try a filter on: one of `messageId` and `message`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct FilterTestIn<'a> {
    /// A message that was published, by its id or its `eventId`.
    message_id: Option<String>,
    /// A message as it would be published. It is not.
    #[serde(borrow, deserialize_with = "object")]
    message: Option<MessageIn<'a>>,
    /// The filter to try; the endpoint's own where absent. Null and an empty object let all messages
    /// pass.
    #[serde(deserialize_with = "given")]
    #[schemars(with = "Option<BTreeMap<String, Value>>")]
    filter: Option<Option<Box<RawValue>>>,
}

/// A field that may be absent or null.
fn given<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<Box<RawValue>>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Whether the endpoint would get the message.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct FilterTestOut<'a> {
    /// Its event type, its channels and the filter all match.
    matches: bool,
    event_type_matches: bool,
    channels_match: bool,
    filter_matches: bool,
    /// Why the filter does not match, at most 20 of the reasons.
    reasons: Vec<ReasonOut<'a>>,
}

/// A condition that the message does not fulfil.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ReasonOut<'a> {
    /// Where in the message, such as `data.amount`; empty for the message as a whole.
    path: &'a str,
    /// The operator; `$eq` for a plain value, `$and` for the fields of an object.
    operator: &'static str,
    /// The operator's operand; absent where it has none, or a long one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Value>", default)]
    expected: Option<&'a RawValue>,
    /// The value there; absent where there is none, or a long one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Value>", default)]
    found: Option<&'a RawValue>,
    /// A sentence for people.
    message: &'a str,
}

impl<'a> From<&'a Reason> for ReasonOut<'a> {
    fn from(reason: &'a Reason) -> ReasonOut<'a> {
        let json = |text: &'a Option<String>| {
            let text = text.as_deref()?;
            serde_json::from_str(text).ok()
        };
        ReasonOut {
            path: &reason.path,
            operator: reason.operator,
            expected: json(&reason.expected),
            found: json(&reason.found),
            message: &reason.message,
        }
    }
}

/// This module's part of the API.
pub fn operations(bytes_max: BytesMax) -> Vec<Operation> {
    vec![
        Operation::post(
            "/api/v1/app/{app_id}/endpoint/{endpoint_id}/filter/test",
            "v1.endpoint.test-filter",
            web::to(test),
        )
        .needs(Action::ReadHistory)
        .summary("Try a filter on a message")
        .description(
            "Tells whether the endpoint would get a message that was published (`messageId`), or one \
             as it would be published (`message`), and why its filter does not let it pass. A `filter` \
             in the body is tried in place of the endpoint's own. Nothing is sent.",
        )
        .body_bytes_max(bytes_max.message)
        .takes::<FilterTestIn>()
        .answers::<FilterTestOut>(200, "Whether it would get the message")
        .answers_nothing(409, "The message's payload was deleted"),
    ]
}

/// The message that a filter is tried on.
enum Tried {
    Logged(String),
    Given(Box<OwnedParts>, Timestamp),
}

pub async fn test(call: Call, body: Body) -> Reply {
    let history = History::named(&call)?;
    let endpoint = named(&call, Action::ReadEndpoints)?;
    let input = body.json::<FilterTestIn<'_>>()?;
    let mut problems = Problems::default();
    let filter = match &input.filter {
        None => endpoint.filter.clone(),
        Some(None) => None,
        Some(Some(source)) => parsed_filter(&mut problems, &["body", "filter"], source).flatten(),
    };
    let tried = match (input.message_id, input.message) {
        (Some(_), Some(_)) => {
            problems.add(
                &["body", "message"],
                "cannot be given together with messageId",
            );
            None
        }
        (None, None) => {
            problems.missing(&["body", "messageId"]);
            None
        }
        (Some(id), None) => Some(Tried::Logged(id)),
        (None, Some(message)) => {
            let bounds = Bounds::of(&call.context, call.path("app_id"));
            let checked = message.checked_at(&bounds, &["body", "message"])?;
            let parts = checked.owned_parts(&body.0);
            Some(Tried::Given(Box::new(parts), bounds.now))
        }
    };
    problems.done()?;
    let tried = tried.ok_or_else(|| missing(&["body", "messageId"]))?;
    let store = call.context.store.clone();
    let read = move || match tried {
        Tried::Given(parts, now) => answer(
            &store.catalog(),
            &endpoint,
            filter.as_ref(),
            parts.parts(now),
        ),
        Tried::Logged(id) => {
            let message = history.message(&store, &id)?;
            if message.expunged {
                let gone = "the message's payload was deleted, so no filter can be tried on it";
                return Err(Error::Conflict(gone.to_owned()));
            }
            answer(
                &store.catalog(),
                &endpoint,
                filter.as_ref(),
                Parts::of(&message),
            )
        }
    };
    call.read(read).await
}

fn answer(
    catalog: &Catalog,
    endpoint: &Endpoint,
    filter: Option<&Arc<Filter>>,
    parts: Parts<'_>,
) -> Result<Answered> {
    let facts = Facts::new(parts);
    let mut reasons = Vec::new();
    if let Some(filter) = filter {
        // Asked for the reasons, it takes a few times what a publish does.
        let mut budget = Budget::of_steps(4 * Budget::of_publish().left());
        let found = filter.explain(&facts, &mut budget);
        reasons = found.map_err(|_| Error::from(Costliest(endpoint.id)))?;
    }
    let event_type_matches =
        endpoint.takes_event_type(catalog.message_type(endpoint.organisation, parts.event_type));
    let channels_match = endpoint.takes_channels(parts.channels);
    let filter_matches = reasons.is_empty();
    let shown = FilterTestOut {
        matches: event_type_matches && channels_match && filter_matches,
        event_type_matches,
        channels_match,
        filter_matches,
        reasons: reasons.iter().map(ReasonOut::from).collect(),
    };
    Ok(answered(StatusCode::OK, &shown))
}
