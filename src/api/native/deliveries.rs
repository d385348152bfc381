//! States of deliveries: of a message to its endpoints, and of messages to an endpoint.
//!
//! The store has the state of a delivery, but only the scheduler knows whether it is being sent.
//! The scheduler is asked first, then the store is read. A delivery counts as being sent if it
//! waits at the very place that the scheduler named, so that one which has ended since does not.

use std::collections::HashSet;
use std::sync::Arc;

use actix_web::web;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json as value;

use super::attempts::{MessageFilter, filter_parameters, status_in};
use super::endpoint_body::EndpointOut;
use super::endpoint_path::named;
use super::history::History;
use super::message_body::MessageOut;
use crate::api::kit::call::{Call, Reply};
use crate::api::kit::extract::optional_text;
use crate::api::kit::operation::{Operation, Parameter};
use crate::api::kit::page::{Listed, page_parameters, shown};
use crate::api::kit::query::time_parameters;
use crate::clock::Timestamp;
use crate::domain::attempt::{Attempt, Verdict};
use crate::domain::disabled::{Disabled, DisabledReason};
use crate::domain::endpoint::Endpoint;
use crate::domain::id::{EndpointId, MessageId, OrganisationId};
use crate::domain::message::{DeliveryKey, DeliveryStatus};
use crate::rules::caller::Action;
use crate::store::DeliveryState;

/// The state of a delivery in a list.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct StateOut {
    /// 0: success, 1: pending, 2: fail, 3: being sent at the moment.
    #[schemars(extend("enum" = [0, 1, 2, 3]))]
    status: u8,
    #[schemars(extend("enum" = ["success", "pending", "fail", "sending"]))]
    status_text: &'static str,
    /// When the next attempt is or was due; null where no other attempt will be made.
    #[serde(serialize_with = "optional_text")]
    next_attempt: Option<Timestamp>,
    // An addition to the contract.
    /// The delivery is pending and waits until the endpoint is enabled, verified and released.
    held: bool,
}

impl StateOut {
    fn new(state: &DeliveryState, is_being_sent: bool) -> StateOut {
        let (status, status_text) = match state.status {
            _ if is_being_sent => (3, "sending"),
            DeliveryStatus::Delivered => (0, "success"),
            DeliveryStatus::Pending | DeliveryStatus::Held => (1, "pending"),
            DeliveryStatus::Failed => (2, "fail"),
        };
        StateOut {
            status,
            status_text,
            next_attempt: state.next_due,
            held: state.status == DeliveryStatus::Held && !is_being_sent,
        }
    }

    /// Returns the state of a delivery; `sending` has those that are being sent.
    fn of(
        state: &DeliveryState,
        lane: u64,
        message: MessageId,
        sending: &HashSet<DeliveryKey>,
    ) -> StateOut {
        let place = state.next_due.map(|due| DeliveryKey { lane, due, message });
        let is_being_sent = place.is_some_and(|place| sending.contains(&place));
        StateOut::new(state, is_being_sent)
    }

    /// Returns the state of a delivery to an endpoint that was deleted: nothing is sent to it any
    /// more.
    fn at_deleted(last: &Attempt) -> StateOut {
        let status = match last.verdict {
            Verdict::Delivered => DeliveryStatus::Delivered,
            _ => DeliveryStatus::Failed,
        };
        let state = DeliveryState {
            status,
            next_due: None,
            last: None,
        };
        StateOut::new(&state, false)
    }
}

/// An endpoint that a message was for, and the state of its delivery.
#[derive(Serialize, JsonSchema)]
struct MessageEndpointOut<'a> {
    #[serde(flatten)]
    endpoint: EndpointOut<'a>,
    #[serde(flatten)]
    state: &'a StateOut,
    // An addition to the contract.
    /// The endpoint was deleted: only its id is left, and its URL as of the last attempt.
    deleted: bool,
}

/// A destination of a message; the endpoint may have been deleted.
struct Destination {
    endpoint: Arc<Endpoint>,
    deleted: bool,
    state: StateOut,
}

/// Returns a deleted endpoint, as far as the log of attempts has it.
fn deleted_endpoint(organisation: OrganisationId, last: &Attempt) -> Endpoint {
    let created_at = last.endpoint.time();
    Endpoint {
        url: last.url.clone(),
        disabled: Some(Disabled {
            at: created_at,
            reason: DisabledReason::Unknown,
        }),
        ..Endpoint::new(last.endpoint, organisation, last.application, 0, created_at)
    }
}

/// A message that was for an endpoint, and the state of its delivery.
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
            "With how each delivery stands. The message is named by its id or its `eventId`. An \
             endpoint that was deleted stays in the list if an attempt was made at it: with \
             `deleted`, disabled, and without its settings.",
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
            "With how each delivery stands: the newest first, unless `order` says otherwise.",
        )
        .parameters(page_parameters(true))
        .parameters(time_parameters())
        .parameters([
            Parameter::query(
                "status",
                "Only those with this status: 0 for success, 1 for pending, held ones included, 2 \
                 for fail, 3 for being sent at the moment. None has 4.",
                value!({ "type": "integer", "enum": [0, 1, 2, 3, 4] }),
            ),
            Parameter::flag("with_content", true, "Whether payloads are shown."),
        ])
        .parameters(filter_parameters())
        .answers::<Listed<EndpointMessageOut>>(200, "A page of messages"),
    ]
}

pub async fn list_endpoints(call: Call) -> Reply {
    let history = History::named(&call)?;
    let mut query = call.query();
    let page = query.page::<EndpointId>(&call.context.config.limits, false);
    query.problems.done()?;
    let endpoints: Vec<Arc<Endpoint>> = {
        let catalog = call.catalog();
        let entry = catalog.application_by_id(history.application);
        let all = entry.iter().flat_map(|entry| &entry.endpoints);
        all.filter(|endpoint| history.includes(endpoint.id))
            .cloned()
            .collect()
    };
    let id = call.path("msg_id").to_owned();
    let store = call.context.store.clone();
    let find = {
        let (history, store) = (history.clone(), store.clone());
        move || history.message(&store, &id)
    };
    let message = call.reading(find).await?;
    let lanes = endpoints.iter().map(|endpoint| endpoint.number).collect();
    let sending = (call.context.sending)(lanes, Some(message.id)).await;
    let config = call.context.config.clone();
    let organisation = call.caller.organisation;
    let read = move || {
        let mut destinations = Vec::new();
        for last in store.last_attempts_at_deleted(&message, &endpoints)? {
            if history.includes(last.endpoint) {
                destinations.push(Destination {
                    endpoint: Arc::new(deleted_endpoint(organisation, &last)),
                    deleted: true,
                    state: StateOut::at_deleted(&last),
                });
            }
        }
        let states = store.deliveries(&message, &endpoints)?;
        for (endpoint, state) in endpoints.into_iter().zip(states) {
            let Some(state) = state else { continue };
            destinations.push(Destination {
                state: StateOut::of(&state, endpoint.number, message.id, &sending),
                endpoint,
                deleted: false,
            });
        }
        destinations.sort_by_key(|one| one.endpoint.id);
        Ok(page.list(
            destinations.into_iter(),
            |one| one.endpoint.id,
            |one| {
                shown(&MessageEndpointOut {
                    endpoint: EndpointOut::new(
                        &one.endpoint,
                        &config,
                        store.health_of(one.endpoint.number).as_ref(),
                    ),
                    state: &one.state,
                    deleted: one.deleted,
                })
            },
        ))
    };
    call.read(read).await
}

pub async fn list_messages(call: Call) -> Reply {
    let endpoint = named(&call, Action::ReadHistory)?;
    let mut query = call.query();
    let page = query.page::<MessageId>(&call.context.config.limits, true);
    let (before, after) = query.time_bounds();
    let with_content = query.flag("with_content", true);
    let status = status_in(&mut query);
    let about = MessageFilter::of(&mut query);
    query.problems.done()?;
    let window = page.window(before, after);
    let store = call.context.store.clone();
    let lane = endpoint.number;
    let sending = (call.context.sending)(Arc::from([lane]), None).await;
    let read = move || {
        let state_out = |message: MessageId, state: &DeliveryState| {
            StateOut::of(state, lane, message, &sending)
        };
        let stretch = store.messages_of_endpoint(
            &endpoint,
            &window,
            with_content,
            &mut |message| about.wants(message),
            &mut |message, state| {
                status.is_none_or(|status| status == state_out(message, state).status)
            },
        )?;
        Ok(page.answer(
            stretch,
            |(message, _)| message.id,
            |(message, state)| {
                shown(&EndpointMessageOut {
                    message: MessageOut::with(message, with_content),
                    state: state_out(message.id, state),
                })
            },
        ))
    };
    call.read(read).await
}
