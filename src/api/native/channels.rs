//! Channels that messages come in, by the event types' word: `/api/v1/channel`, for forms that
//! offer them. An addition to the contract.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::kit::context::Context;
use crate::api::kit::error::Failure;
use crate::api::kit::extract::json;
use crate::api::kit::operation::Operation;
use crate::api::kit::page::{Listed, Name, page_parameters, shown};
use crate::api::kit::query::Query;
use crate::rules::caller::{Action, Caller, FeatureFlags};

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ChannelOut<'a> {
    name: &'a str,
    /// Names of the event types that list it.
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

pub async fn list(
    request: HttpRequest,
    caller: Caller,
    flags: FeatureFlags,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    caller.may(Action::ReadEventTypes)?;
    let mut query = Query::of(&request);
    let page = query.page::<Name>(&context.config.limits, false);
    query.problems.done()?;
    let catalog = context.store.catalog();
    let mut channels: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for event_type in catalog.event_types(caller.organisation) {
        if event_type.archived || !flags.show(event_type) {
            continue;
        }
        for channel in event_type.channels.iter().flatten() {
            channels.entry(channel).or_default().push(&event_type.name);
        }
    }
    let name = |channel: &(&&str, &Vec<&str>)| Name((*channel.0).to_owned());
    let stretch = page.of(channels.iter(), name);
    let listed = page.answer(stretch, name, |(name, event_types)| {
        shown(&ChannelOut { name, event_types })
    });
    Ok(json(StatusCode::OK, &listed))
}
