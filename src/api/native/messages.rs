//! Messages: `/api/v1/app/{app_id}/msg`.
//!
//! Publishing is the hot path: nothing here touches the disk before the store's commit.
//! `message_body` has the bodies, `message_batch` many messages in one request.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::web;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::applications::create_beside;
use super::expunge;
use super::history::{History, is_wanted};
use super::message_batch;
use super::message_body::{
    Bounds, CHANNELS_PER_MESSAGE_MAX, Checked, MessageIn, MessageOut, Payload, checked,
    with_content_parameter,
};
use super::message_checks;
use crate::api::kit::call::{Call, Reply};
use crate::api::kit::extract::{Body, answered, json};
use crate::api::kit::operation::{BytesMax, Operation};
use crate::api::kit::page::{Listed, page_parameters, shown as shown_in_list};
use crate::api::kit::query::{
    channel_parameter, event_types_parameter, tag_parameter, time_parameters,
};
use crate::domain::cost::Budget;
use crate::domain::endpoint::Endpoint;
use crate::domain::event_type::name_problem;
use crate::domain::filter::Facts;
use crate::domain::id::MessageId;
use crate::error::{Error, Result};
use crate::rules::caller::Action;
use crate::rules::checks::{
    CHANNEL_NAME_MAX, EVENT_TYPE_NAME_MAX, NAME_PATTERN, Problems, check_channels,
};
use crate::rules::matching::{Matched, candidates, refuse_archived_type};
use crate::rules::payer::Payer;

/// Matches the message against the endpoints of the application in the path, at once where that costs
/// little. Filters that cost more run on a thread that nobody else waits for, in the turn of the customer
/// whose filters they are, whoever publishes.
async fn matched_in(
    call: &Call,
    path: &str,
    message: &Checked<'_>,
    body: &Body,
    budget: &Budget,
) -> Result<Matched> {
    let (application, candidates) = {
        let catalog = call.catalog();
        let entry = call.caller.application(&catalog, path, Action::Publish)?;
        let application = entry.application.id;
        let candidates = candidates(&catalog, application, &message.event_type)?;
        (application, candidates)
    };
    let now = call.now();
    let at_once = {
        let facts = Facts::new(message.parts(now));
        candidates.matched(&facts, &mut budget.part_at_once())
    };
    match at_once {
        Ok(matched) => Ok(matched),
        Err(_) => {
            let (owned, mut budget) = (message.owned_parts(&body.0), budget.part());
            let matching = move || {
                let facts = Facts::new(owned.parts(now));
                Ok(candidates.matched(&facts, &mut budget)?)
            };
            let payer = Payer::Application(application);
            call.context.shares.read(payer, now, matching).await
        }
    }
}

/// This module's part of the API. A batch comes before a message of that name.
pub fn operations(bytes_max: BytesMax) -> Vec<Operation> {
    vec![
        Operation::post(
            "/api/v1/app/{app_id}/msg",
            "v1.message.create",
            web::to(create),
        )
        .needs(Action::Publish)
        .summary("Publish a message")
        .description(
            "The message is stored before the answer is given, and is then sent to every endpoint \
             of the application that takes its event type and channels and whose filter it fulfils; from `deliverAt` on and \
             until `expiresAt`, where they are given. Where `application` is given and the path \
             names a uid that does not exist yet, the application is created.",
        )
        .parameters([with_content_parameter(true)])
        .once()
        .takes::<MessageIn>()
        .answers::<MessageOut>(202, "Accepted, and durable")
        .answers_nothing(
            409,
            "There is a message with this `eventId`, or the `idempotency-key` was used with \
             another body",
        )
        .body_bytes_max(bytes_max.message),
        Operation::get("/api/v1/app/{app_id}/msg", "v1.message.list", web::to(list))
            .summary("List messages")
            .description("The newest first, unless `order` says otherwise.")
            .parameters(page_parameters(true))
            .parameters(time_parameters())
            .parameters([
                channel_parameter(),
                tag_parameter(),
                event_types_parameter(),
                with_content_parameter(true),
            ])
            .answers::<Listed<MessageOut>>(200, "A page of messages"),
        Operation::post(
            "/api/v1/app/{app_id}/msg/precheck/active",
            "v1.message.precheck",
            web::to(precheck),
        )
        .needs(Action::Publish)
        .summary("Ask whether a message would be sent to anybody")
        .description("By its event type and channels: filters of endpoints are not asked.")
        .takes::<MessagePrecheckIn>()
        .answers::<MessagePrecheckOut>(200, "Whether an enabled endpoint would get it"),
        message_batch::operation(bytes_max.batch),
        expunge::bulk_operation(),
        Operation::get(
            "/api/v1/app/{app_id}/msg/{msg_id}",
            "v1.message.get",
            web::to(get),
        )
        .summary("Show a message")
        .parameters([with_content_parameter(true)])
        .answers::<MessageOut>(200, "The message"),
    ]
}

pub async fn create(call: Call, body: Body) -> Reply {
    let path = call.path("app_id");
    call.caller.may_in(&call.catalog(), path, Action::Publish)?;
    let mut query = call.query();
    let with_content = query.flag("with_content", true);
    query.problems.done()?;
    let mut message = checked(&body, &Bounds::of(&call.context, path))?;
    let organisation = call.caller.organisation;
    let context = &call.context;
    let mut budget = Budget::of_publish();
    let warnings =
        message_checks::warnings(context, organisation, &message, &body, &mut budget).await?;
    let once = call.once(&body)?;
    let first = matched_in(&call, path, &message, &body, &budget).await;
    let matched = match (first, message.application.take()) {
        (Err(Error::NotFound(_)), Some(application)) => {
            create_beside(&call, application).await?;
            matched_in(&call, path, &message, &body, &budget).await?
        }
        (first, _) => first?,
    };
    let bytes = message.payload.bytes(&body.0);
    let published = match message.payload {
        Payload::Object(object) => Some(object),
        Payload::Raw(_) => None,
    };
    let new = message.into_new(matched, bytes, once);
    let accepted = call.context.store.accept_message(new).await?;
    // A repeated idempotency key has the same body, so this is the accepted message's payload.
    let answer = match published.filter(|_| with_content) {
        Some(object) => MessageOut::new(&accepted, object),
        None => MessageOut::with(&accepted, with_content),
    };
    let answer = answer.with_endpoints_matched(&accepted);
    let answer = answer.with_warnings(&warnings);
    Ok(json(StatusCode::ACCEPTED, &answer))
}

/// The properties of a message that might be published.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(extend("required" = ["eventType"]))]
struct MessagePrecheckIn {
    #[schemars(with = "String", length(min = 1, max = EVENT_TYPE_NAME_MAX), regex(pattern = NAME_PATTERN))]
    event_type: Option<String>,
    #[schemars(
        length(min = 1, max = CHANNELS_PER_MESSAGE_MAX),
        inner(length(min = 1, max = CHANNEL_NAME_MAX), regex(pattern = NAME_PATTERN))
    )]
    channels: Option<Vec<String>>,
}

/// Whether a message would be for any endpoint.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct MessagePrecheckOut {
    /// An enabled endpoint would get it.
    active: bool,
    // An addition to the contract.
    /// The number of endpoints that it would be for, disabled ones included.
    endpoints_matched: usize,
}

/// Answers whether an endpoint would get such a message now. A message that could not be published
/// is for none.
pub async fn precheck(call: Call, body: Body) -> Reply {
    let path = call.path("app_id");
    call.caller.may_in(&call.catalog(), path, Action::Publish)?;
    let input = body.json::<MessagePrecheckIn>()?;
    let mut problems = Problems::default();
    match &input.event_type {
        Some(name) => {
            let problem = name_problem(name, EVENT_TYPE_NAME_MAX);
            problems.add_if(&["body", "eventType"], problem);
        }
        None => problems.missing(&["body", "eventType"]),
    }
    if let Some(channels) = &input.channels {
        let max = CHANNELS_PER_MESSAGE_MAX;
        check_channels(&mut problems, &["body", "channels"], channels, max);
    }
    problems.done()?;
    let event_type = input.event_type.unwrap_or_default();
    let channels = input.channels.unwrap_or_default();
    let catalog = call.catalog();
    let entry = call.caller.application(&catalog, path, Action::Publish)?;
    let publishable = refuse_archived_type(&catalog, call.caller.organisation, &event_type).is_ok();
    let event_type = catalog.message_type(call.caller.organisation, &event_type);
    let wants = |endpoint: &&Arc<Endpoint>| endpoint.matches(event_type, &channels);
    let wanting = entry.endpoints.iter().filter(wants);
    let answer = match publishable {
        true => MessagePrecheckOut {
            active: wanting.clone().any(|endpoint| endpoint.disabled.is_none()),
            endpoints_matched: wanting.count(),
        },
        false => MessagePrecheckOut {
            active: false,
            endpoints_matched: 0,
        },
    };
    Ok(json(StatusCode::OK, &answer))
}

pub async fn list(call: Call) -> Reply {
    let history = History::named(&call)?;
    let mut query = call.query();
    let page = query.page::<MessageId>(&call.context.config.limits, true);
    let (before, after) = query.time_bounds();
    let with_content = query.flag("with_content", true);
    let channel = query.channel();
    let tag = query.tag();
    let event_types = query.event_types();
    query.problems.done()?;
    let window = page.window(before, after);
    let store = call.context.store.clone();
    let read = move || {
        let stretch = history.messages(&store, &window, with_content, &mut |message| {
            is_wanted(message, event_types.as_deref(), channel.as_deref())
                && tag.as_ref().is_none_or(|tag| message.tags.contains(tag))
        })?;
        Ok(page.answer(
            stretch,
            |message| message.id,
            |message| shown_in_list(&MessageOut::with(message, with_content)),
        ))
    };
    call.read(read).await
}

pub async fn get(call: Call) -> Reply {
    let history = History::named(&call)?;
    let mut query = call.query();
    let with_content = query.flag("with_content", true);
    query.problems.done()?;
    let id = call.path("msg_id").to_owned();
    let store = call.context.store.clone();
    let read = move || {
        let message = history.message(&store, &id)?;
        let shown = MessageOut::with(&message, with_content);
        Ok(answered(StatusCode::OK, &shown))
    };
    call.read(read).await
}
