//! How deliveries stand: of a message to the endpoints, and of messages to an endpoint.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json as value;

use super::Context;
use super::access::{Action, Caller};
use super::attempts::{MessageFilter, filter_parameters, status_in};
use super::endpoint_body::EndpointOut;
use super::endpoints::named;
use super::error::Failure;
use super::extract::{answered, optional_text, path_part, reading, respond};
use super::messages::{History, MessageOut};
use super::operation::{Operation, Parameter};
use super::page::{Listed, Query, page_parameters, shown, time_parameters};
use crate::clock::Timestamp;
use crate::domain::endpoint::Endpoint;
use crate::domain::id::{EndpointId, MessageId};
use crate::domain::message::DeliveryStatus;
use crate::store::DeliveryState;

/// A delivery's part of what is listed.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct StateOut {
    /// 0: success, 1: pending, 2: fail. What is being sent at the moment is pending.
    #[schemars(extend("enum" = [0, 1, 2, 3]))]
    status: u8,
    #[schemars(extend("enum" = ["success", "pending", "fail", "sending"]))]
    status_text: &'static str,
    /// Null where no other attempt will be made.
    #[serde(serialize_with = "optional_text")]
    next_attempt: Option<Timestamp>,
    // An addition to the contract.
    /// It is pending and waits for the endpoint to be enabled.
    held: bool,
}

/// The contract's number of a status, and its name.
fn numbered(status: DeliveryStatus) -> (u8, &'static str) {
    match status {
        DeliveryStatus::Delivered => (0, "success"),
        DeliveryStatus::Pending | DeliveryStatus::Held => (1, "pending"),
        DeliveryStatus::Failed => (2, "fail"),
    }
}

impl From<&DeliveryState> for StateOut {
    fn from(state: &DeliveryState) -> StateOut {
        let (status, status_text) = numbered(state.status);
        StateOut {
            status,
            status_text,
            next_attempt: state.next_due,
            held: state.status == DeliveryStatus::Held,
        }
    }
}

/// An endpoint that a message was for, and how its delivery stands.
#[derive(Serialize, JsonSchema)]
struct MessageEndpointOut<'a> {
    #[serde(flatten)]
    endpoint: EndpointOut<'a>,
    #[serde(flatten)]
    state: StateOut,
}

/// A message that was for an endpoint, and how its delivery stands.
#[derive(Serialize, JsonSchema)]
struct EndpointMessageOut<'a> {
    #[serde(flatten)]
    message: MessageOut<'a>,
    #[serde(flatten)]
    state: StateOut,
}

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/api/v1/app/{app_id}/msg/{msg_id}/endpoint",
            "v1.message-attempt.list-attempted-destinations",
            web::to(list_endpoints),
        )
        .summary("List the endpoints that a message was for")
        .description(
            "With how each delivery stands. The message is named by its id or its `eventId`. One \
             that is being sent at the moment is pending.",
        )
        .parameters(page_parameters(false))
        .answers::<Listed<MessageEndpointOut>>(200, "A page of endpoints"),
        Operation::get(
            "/api/v1/app/{app_id}/endpoint/{endpoint_id}/msg",
            "v1.message-attempt.list-attempted-messages",
            web::to(list_messages),
        )
        .summary("List the messages that were for an endpoint")
        .description(
            "With how each delivery stands: the newest first, unless `order` says otherwise. One \
             that is being sent at the moment is pending.",
        )
        .parameters(page_parameters(true))
        .parameters(time_parameters())
        .parameters([
            Parameter::query(
                "status",
                "Only those with this status: 0 for success, 1 for pending, held ones included, 2 \
                 for fail. None has 3 or 4.",
                value!({ "type": "integer", "enum": [0, 1, 2, 3, 4] }),
            ),
            Parameter::flag("with_content", true, "Whether payloads are shown."),
        ])
        .parameters(filter_parameters())
        .answers::<Listed<EndpointMessageOut>>(200, "A page of messages"),
    ]
}

pub async fn list_endpoints(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    let history = History::named(&context, &caller, &request)?;
    let mut query = Query::of(&request);
    let page = query.page::<EndpointId>(&context.config.limits, false);
    query.problems.done()?;
    let endpoints: Vec<Arc<Endpoint>> = {
        let catalog = context.store.catalog();
        let entry = catalog.application_by_id(history.application);
        let all = entry.iter().flat_map(|entry| &entry.endpoints);
        all.filter(|endpoint| history.includes(endpoint.id))
            .cloned()
            .collect()
    };
    let id = path_part(&request, "msg_id").to_owned();
    let store = context.store.clone();
    let config = context.config.clone();
    let read = move || {
        let message = history.message(&store, &id)?;
        let states = store.deliveries(&message, &endpoints)?;
        let known = endpoints.into_iter().zip(states);
        let states: Vec<_> = known
            .filter_map(|(endpoint, state)| Some((endpoint, state?)))
            .collect();
        let stretch = page.of(states.into_iter(), |(endpoint, _)| endpoint.id);
        let listed = page.answer(
            stretch,
            |(endpoint, _)| endpoint.id,
            |(endpoint, state)| {
                shown(&MessageEndpointOut {
                    endpoint: EndpointOut::new(endpoint, &config),
                    state: state.into(),
                })
            },
        );
        Ok(answered(StatusCode::OK, &listed))
    };
    Ok(respond(reading(&context, &caller, read).await?))
}

pub async fn list_messages(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    let endpoint = named(&context, &caller, &request, Action::ReadHistory)?;
    let mut query = Query::of(&request);
    let page = query.page::<MessageId>(&context.config.limits, true);
    let (before, after) = query.time_bounds();
    let with_content = query.flag("with_content", true);
    let status = status_in(&mut query);
    let about = MessageFilter::of(&mut query);
    query.problems.done()?;
    let window = page.window(before, after);
    let store = context.store.clone();
    let read = move || {
        let wanted =
            |state: &DeliveryState| status.is_none_or(|status| status == numbered(state.status).0);
        let stretch = store.messages_of_endpoint(
            &endpoint,
            &window,
            with_content,
            &mut |message| about.wants(message),
            &mut { wanted },
        )?;
        let listed = page.answer(
            stretch,
            |(message, _)| message.id,
            |(message, state)| {
                shown(&EndpointMessageOut {
                    message: MessageOut::with(message, with_content),
                    state: state.into(),
                })
            },
        );
        Ok(answered(StatusCode::OK, &listed))
    };
    Ok(respond(reading(&context, &caller, read).await?))
}
