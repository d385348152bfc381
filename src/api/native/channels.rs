//! Channels of messages, by the event types that list them: `/api/v1/channel`, for forms that offer
//! them. An addition to the contract.

use std::collections::BTreeMap;

use actix_web::web;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::kit::call::{Call, Reply};
use crate::api::kit::extract::respond;
use crate::api::kit::operation::Operation;
use crate::api::kit::page::{Listed, Name, page_parameters, shown};
use crate::rules::caller::{Action, FeatureFlags};

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ChannelOut<'a> {
    name: &'a str,
    /// The names of the event types that list the channel.
    event_types: &'a [&'a str],
}

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/v1/channel", "v1.channel.list", web::to(list))
            .summary("List the channels that event types name")
            .description("By their names, for forms that offer them. Messages may have others.")
            .parameters(page_parameters(false))
            .answers::<Listed<ChannelOut>>(200, "A page of channels"),
    ]
}

pub async fn list(call: Call, flags: FeatureFlags) -> Reply {
    call.caller.may(Action::ReadEventTypes)?;
    let mut query = call.query();
    let page = query.page::<Name>(&call.context.config.limits, false);
    query.problems.done()?;
    let catalog = call.catalog();
    let mut channels: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for event_type in catalog.event_types(call.caller.organisation) {
        if event_type.archived || !flags.show(event_type) {
            continue;
        }
        for channel in event_type.channels.iter().flatten() {
            channels.entry(channel).or_default().push(&event_type.name);
        }
    }
    let listed = page.list(
        channels.iter(),
        |(name, _)| Name((**name).to_owned()),
        |(name, event_types)| shown(&ChannelOut { name, event_types }),
    );
    Ok(respond(listed))
}
