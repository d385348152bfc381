//! Endpoints: `/api/v1/app/{app_id}/endpoint`.
//!
//! `endpoint_body` has the bodies, `rules::endpoints` the changes.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::web;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json as value;

use super::endpoint_body::{EndpointIn, EndpointOut, WholeEndpointIn, shown};
use super::endpoint_path::{endpoint_path, named, owner, place};
use super::stats::Health;
use crate::api::kit::call::{Call, Reply};
use crate::api::kit::context::Context;
use crate::api::kit::decide::saved;
use crate::api::kit::extract::{Body, respond};
use crate::api::kit::operation::{Operation, Parameter};
use crate::api::kit::page::{Listed, page_parameters, shown as shown_in_list};
use crate::api::kit::query::{Search, search_parameter};
use crate::config::Config;
use crate::domain::endpoint::Endpoint;
use crate::domain::health::RestReason;
use crate::domain::id::EndpointId;
use crate::error::Result;
use crate::rules::caller::{Action, FeatureFlags};
use crate::rules::checks::refuse_given_id;
use crate::rules::endpoint_edit::{EditKind, EndpointEdit};
use crate::rules::endpoints::{
    ChangeEndpoint, Changed, CreateEndpoint, DeleteEndpoint, Owner, ReplaceEndpoint,
};
use crate::store::{Answered, Store};

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/api/v1/app/{app_id}/endpoint",
            "v1.endpoint.list",
            web::to(list),
        )
        .summary("List endpoints")
        .description(
            "The endpoints that the caller may see, the newest first unless `order` says otherwise.",
        )
        .parameters(page_parameters(true))
        .parameters(list_parameters())
        .answers::<Listed<ListedEndpoint>>(200, "A page of endpoints"),
        Operation::post(
            "/api/v1/app/{app_id}/endpoint",
            "v1.endpoint.create",
            web::to(create),
        )
        .needs(Action::CreateEndpoints)
        .summary("Register an endpoint")
        .description(
            "From now on, the application's messages that it takes are sent to it. An address that \
             may not be sent to is refused here where that can be told.",
        )
        .once()
        .takes::<WholeEndpointIn>()
        .answers::<EndpointOut>(201, "Registered")
        .answers_nothing(409, UID_TAKEN),
        Operation::get(
            "/api/v1/app/{app_id}/endpoint/{endpoint_id}",
            "v1.endpoint.get",
            web::to(get),
        )
        .summary("Show an endpoint")
        .answers::<EndpointOut>(200, "The endpoint"),
        Operation::put(
            "/api/v1/app/{app_id}/endpoint/{endpoint_id}",
            "v1.endpoint.update",
            web::to(put),
        )
        .needs(Action::ChangeEndpoints)
        .summary("Replace an endpoint, or register it")
        .description(
            "Where the path names a uid that does not exist yet, an endpoint is registered with \
             it. A uid in the path and not in the body stays.",
        )
        .takes::<WholeEndpointIn>()
        .answers::<EndpointOut>(200, "Replaced")
        .answers::<EndpointOut>(201, "Registered")
        .answers_nothing(409, UID_TAKEN),
        Operation::patch(
            "/api/v1/app/{app_id}/endpoint/{endpoint_id}",
            "patch_endpoint",
            web::to(patch),
        )
        .needs(Action::ChangeEndpoints)
        .summary("Change an endpoint")
        .takes::<EndpointIn>()
        .answers::<EndpointOut>(200, "Changed")
        .answers_nothing(409, UID_TAKEN),
        Operation::delete(
            "/api/v1/app/{app_id}/endpoint/{endpoint_id}",
            "v1.endpoint.delete",
            web::to(delete),
        )
        .needs(Action::ChangeEndpoints)
        .summary("Delete an endpoint")
        .description("Messages that were not delivered to it yet are not sent any more.")
        .answers_nothing(204, "Deleted"),
    ]
}

pub fn list_parameters() -> [Parameter; 3] {
    let status = value!({ "type": "string", "enum": STATUSES.map(|(name, _)| name) });
    [
        search_parameter(
            "Only those with this text in their URL, description or uid, or with this id.",
        ),
        Parameter::query(
            "status",
            "Only those that are enabled, or disabled, or held by the operator; or those that are `failing` (every \
             attempt since `failingSince` failed, be it one), or whose `breaker` is `open` or `resting`.",
            status,
        ),
        Parameter::flag(
            "with_health",
            false,
            "Whether to tell how each of them does.",
        ),
    ]
}

type HasStatus = fn(&Endpoint, &Store) -> bool;

/// What a list can be limited to. An endpoint that the operator holds is enabled or disabled, too, and one that fails
/// may be any of them.
const STATUSES: [(&str, HasStatus); 6] = [
    ("enabled", |endpoint, _| endpoint.disabled.is_none()),
    ("disabled", |endpoint, _| endpoint.disabled.is_some()),
    ("held", |endpoint, _| endpoint.held.is_some()),
    ("failing", |endpoint, store| {
        let health = store.health_of(endpoint.number);
        health.is_some_and(|health| health.failing.is_some())
    }),
    ("open", |endpoint, store| {
        rests(endpoint, store, RestReason::Failures)
    }),
    ("resting", |endpoint, store| {
        rests(endpoint, store, RestReason::RetryAfter)
    }),
];

fn rests(endpoint: &Endpoint, store: &Store, reason: RestReason) -> bool {
    let rest = store.health_of(endpoint.number).and_then(|one| one.rest());
    rest.is_some_and(|rest| rest.reason == reason)
}

/// An endpoint in a list.
#[derive(Serialize, JsonSchema)]
pub struct ListedEndpoint<'a> {
    #[serde(flatten)]
    endpoint: EndpointOut<'a>,
    /// Only where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<&'a Health>,
}

const UID_TAKEN: &str = "Another endpoint of the application has this uid";

pub async fn create(call: Call, flags: FeatureFlags, body: Body) -> Reply {
    let owner = owner(&call);
    reachable(&owner, &call, Action::CreateEndpoints)?;
    let edit = edit(&owner, &body, EditKind::Whole, &call.context)?;
    refuse_given_id(edit.id_is_given, &["body", "id"])?;
    let config = Arc::clone(&call.context.config);
    let store = call.context.store.clone();
    let shown = move |made: Changed| changed(StatusCode::CREATED, &made, &config, &store);
    let command = CreateEndpoint { owner, edit, flags };
    call.show_once(call.once(&body)?, command, shown).await
}

pub async fn list(call: Call) -> Reply {
    let owner = owner(&call);
    owner.entry(&call.caller, &call.catalog(), Action::ReadEndpoints)?;
    let mut query = call.query();
    let page = query.page::<EndpointId>(&call.context.config.limits, true);
    let search = query.search();
    let status = query.choice("status", &STATUSES);
    let with_health = query.flag("with_health", false);
    query.problems.done()?;
    let stretch = {
        let catalog = call.catalog();
        let entry = owner.entry(&call.caller, &catalog, Action::ReadEndpoints)?;
        let endpoints = entry.map_or(&[][..], |entry| &entry.endpoints).iter();
        let wanted = |endpoint: &&Arc<Endpoint>| {
            let searched = search.as_ref().is_none_or(|search| found(search, endpoint));
            let has_status =
                status.is_none_or(|has_status| has_status(endpoint, &call.context.store));
            has_status && searched && call.caller.sees_endpoint(&catalog, endpoint)
        };
        page.of(endpoints.filter(wanted).cloned(), |endpoint| endpoint.id)
    };
    let (store, config) = (call.context.store.clone(), call.context.config.clone());
    // With all their headers endpoints can be long.
    let read = move || {
        let health = match with_health {
            true => health_of(&store, &stretch.items)?,
            false => Vec::new(),
        };
        let mut healths = health.iter();
        Ok(page.answer(
            stretch,
            |endpoint| endpoint.id,
            |endpoint| {
                shown_in_list(&ListedEndpoint {
                    endpoint: EndpointOut::new(
                        endpoint,
                        &config,
                        store.health_of(endpoint.number).as_ref(),
                    ),
                    health: healths.next(),
                })
            },
        ))
    };
    call.read(read).await
}

fn found(search: &Search, endpoint: &Endpoint) -> bool {
    let uid = endpoint.uid.as_deref().unwrap_or_default();
    search.is_in([&*endpoint.url, &*endpoint.description, uid]) || search.is_id(endpoint.id)
}

/// Returns the health of each of the endpoints. Blocks on the disk.
fn health_of(store: &Store, endpoints: &[Arc<Endpoint>]) -> Result<Vec<Health>> {
    let each = endpoints.iter();
    each.map(|endpoint| Health::of(store, endpoint)).collect()
}

/// Checks that the caller may do this with these endpoints, so that it is told so before the
/// problems of the body.
fn reachable(owner: &Owner, call: &Call, action: Action) -> Result<()> {
    let catalog = call.catalog();
    owner.entry(&call.caller, &catalog, action).map(|_| ())
}

fn edit(owner: &Owner, body: &Body, kind: EditKind, context: &Context) -> Result<EndpointEdit> {
    let input = body.json::<EndpointIn>()?;
    if let Owner::Organisation = owner {
        input.refuse_not_operational()?;
    }
    Ok(input.checked(kind, context))
}

pub async fn get(call: Call, flags: FeatureFlags) -> Reply {
    let catalog = call.catalog();
    let (owner, id) = endpoint_path(&call);
    let endpoint = owner.endpoint(&call.caller, &catalog, &id, Action::ReadEndpoints)?;
    let warnings = owner.warnings(&catalog, &flags, endpoint);
    let shown = shown(
        StatusCode::OK,
        endpoint,
        &call.context.config,
        call.context.store.health_of(endpoint.number).as_ref(),
        &warnings,
    );
    Ok(respond(shown))
}

pub async fn put(call: Call, flags: FeatureFlags, body: Body) -> Reply {
    let owner = owner(&call);
    reachable(&owner, &call, Action::ChangeEndpoints)?;
    let command = ReplaceEndpoint {
        edit: edit(&owner, &body, EditKind::Whole, &call.context)?,
        owner,
        path: call.path("endpoint_id").to_owned(),
        flags,
    };
    let (config, store) = (&call.context.config, &call.context.store);
    let shown = |status, made: &Changed| changed(status, made, config, store);
    call.show(command, |endpoint| saved(endpoint, shown)).await
}

pub async fn patch(call: Call, flags: FeatureFlags, body: Body) -> Reply {
    named(&call, Action::ChangeEndpoints)?;
    let place = place(&call, flags);
    let edit = edit(&place.owner, &body, EditKind::Patch, &call.context)?;
    let (config, store) = (&call.context.config, &call.context.store);
    let shown = |done| changed(StatusCode::OK, &done, config, store);
    call.show(ChangeEndpoint { place, edit }, shown).await
}

pub async fn delete(call: Call) -> Reply {
    let (owner, endpoint) = endpoint_path(&call);
    call.done(DeleteEndpoint { owner, endpoint }).await
}

/// Answers with an endpoint after a change, and the change's warnings.
pub fn changed(status: StatusCode, changed: &Changed, config: &Config, store: &Store) -> Answered {
    let health = store.health_of(changed.endpoint.number);
    let warnings = &changed.warnings;
    shown(status, &changed.endpoint, config, health.as_ref(), warnings)
}
