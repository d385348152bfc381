//! Endpoints: `/api/v1/app/{app_id}/endpoint`.
//!
//! What a body may say is in `endpoint_body`, what holds for every endpoint in `endpoint_rules`.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};

use super::Context;
use super::access::{Action, Caller};
use super::endpoint_body::{EndpointIn, EndpointOut, Kind, WholeEndpointIn, reset, shown};
use super::endpoint_rules::{
    NOT_FOUND, blank, refuse_archived_types, refuse_taken_uid, refuse_too_many,
};
use super::error::Failure;
use super::extract::{Body, Patch, json, no_content, once, path_part, respond};
use super::operation::Operation;
use super::page::{Listed, Query, page_parameters};
use super::rules::{Problems, check_uid};
use crate::domain::endpoint::Endpoint;
use crate::domain::id::EndpointId;
use crate::error::Result;
use crate::store::{Answered, Change};

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/api/v1/app/{app_id}/endpoint",
            "v1.endpoint.list",
            web::to(list),
        )
        .summary("List endpoints")
        .description("In the order in which they were registered; those that the caller may see.")
        .parameters(page_parameters(false))
        .answers::<Listed<EndpointOut>>(200, "A page of endpoints"),
        Operation::post(
            "/api/v1/app/{app_id}/endpoint",
            "v1.endpoint.create",
            web::to(create),
        )
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
        .summary("Change an endpoint")
        .takes::<EndpointIn>()
        .answers::<EndpointOut>(200, "Changed")
        .answers_nothing(409, UID_TAKEN),
        Operation::delete(
            "/api/v1/app/{app_id}/endpoint/{endpoint_id}",
            "v1.endpoint.delete",
            web::to(delete),
        )
        .summary("Delete an endpoint")
        .description("What was not delivered to it yet is not sent any more.")
        .answers_nothing(204, "Deleted"),
    ]
}

const UID_TAKEN: &str = "Another endpoint of the application has this uid";

pub async fn create(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
    body: Body,
) -> Result<HttpResponse, Failure> {
    reachable(&context, &caller, &request)?;
    let input = body.json::<EndpointIn>()?.checked(Kind::Whole, &context);
    let application = path_part(&request, "app_id").to_owned();
    let once = once(&request, &caller, &body)?;
    let now = context.store.clock().now();
    let config = Arc::clone(&context.config);
    let answer = context
        .store
        .change_once(once, move |catalog| {
            let entry = caller.application(catalog, &application, Action::ChangeEndpoints)?;
            let number = catalog.next_endpoint_number();
            let mut endpoint = blank(&entry.application, number, now);
            input.apply_to(&mut endpoint, &config, now)?;
            refuse_too_many(entry, config.limits.endpoints_per_application_max)?;
            refuse_taken_uid(entry, &endpoint)?;
            refuse_archived_types(catalog, None, &endpoint)?;
            let answer = shown(StatusCode::CREATED, &endpoint, &config);
            Ok((caller.creation(catalog, endpoint)?, answer))
        })
        .await?;
    Ok(respond(answer))
}

pub async fn list(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    let catalog = context.store.catalog();
    let application = path_part(&request, "app_id");
    let entry = caller.application(&catalog, application, Action::ReadEndpoints)?;
    let mut query = Query::of(&request);
    let page = query.page::<EndpointId>(context.config.limits.list_page_max, false);
    query.problems.done()?;
    let seen = |endpoint: &&Arc<Endpoint>| caller.sees_endpoint(&catalog, endpoint);
    let stretch = page.of(entry.endpoints.iter().filter(seen), |endpoint| endpoint.id);
    let listed = page.answer(stretch, |endpoint| endpoint.id);
    Ok(json(
        StatusCode::OK,
        &listed.map(|endpoint| EndpointOut::new(endpoint, &context.config)),
    ))
}

/// Who may not deal with an application's endpoints hears that before what is wrong with the body.
fn reachable(context: &Context, caller: &Caller, request: &HttpRequest) -> Result<()> {
    let catalog = context.store.catalog();
    let application = path_part(request, "app_id");
    caller
        .application(&catalog, application, Action::ChangeEndpoints)
        .map(|_| ())
}

/// The endpoint that the path names, for a caller that may do this with it.
pub fn named(
    context: &Context,
    caller: &Caller,
    request: &HttpRequest,
    action: Action,
) -> Result<Arc<Endpoint>> {
    let catalog = context.store.catalog();
    let application = path_part(request, "app_id");
    let endpoint = path_part(request, "endpoint_id");
    caller
        .endpoint(&catalog, application, endpoint, action)
        .cloned()
}

pub async fn get(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    let endpoint = named(&context, &caller, &request, Action::ReadEndpoints)?;
    Ok(respond(shown(StatusCode::OK, &endpoint, &context.config)))
}

/// Replaces an endpoint, or creates one with the uid in the path. A uid that the path names and
/// the body does not stays: the same request can come again. A uid that belongs to an endpoint
/// which the caller cannot see is taken, as it is when it stands in a body: that much shows.
pub async fn put(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
    body: Body,
) -> Result<HttpResponse, Failure> {
    reachable(&context, &caller, &request)?;
    let mut input = body.json::<EndpointIn>()?.checked(Kind::Whole, &context);
    let (application, id) = endpoint_path(&request);
    let path_is_id = id.parse::<EndpointId>().is_ok();
    if !path_is_id && input.uid.as_set().is_none() {
        let mut problems = Problems::default();
        check_uid(
            &mut problems,
            &["path", "endpoint_id"],
            &id,
            EndpointId::PREFIX,
        );
        problems.done()?;
        input.uid = Patch::Set(id.clone());
    }
    let now = context.store.clock().now();
    let config = Arc::clone(&context.config);
    let answer = context
        .store
        .change(move |catalog| {
            let entry = caller.application(catalog, &application, Action::ChangeEndpoints)?;
            let existing = entry.endpoint(&id);
            let existing = existing.filter(|existing| caller.sees_endpoint(catalog, existing));
            let (mut endpoint, status) = match existing {
                Some(existing) => ((**existing).clone(), StatusCode::OK),
                None if path_is_id => return Err(NOT_FOUND),
                None => {
                    refuse_too_many(entry, config.limits.endpoints_per_application_max)?;
                    let number = catalog.next_endpoint_number();
                    let new = blank(&entry.application, number, now);
                    (new, StatusCode::CREATED)
                }
            };
            reset(&mut endpoint);
            input.apply_to(&mut endpoint, &config, now)?;
            endpoint.updated_at = now;
            refuse_taken_uid(entry, &endpoint)?;
            let before = existing.and_then(|existing| existing.event_types.as_deref());
            refuse_archived_types(catalog, before, &endpoint)?;
            let answer = shown(status, &endpoint, &config);
            let changes = match existing {
                Some(_) => vec![Change::PutEndpoint(endpoint)],
                None => caller.creation(catalog, endpoint)?,
            };
            Ok((changes, answer))
        })
        .await?;
    Ok(respond(answer))
}

pub async fn patch(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
    body: Body,
) -> Result<HttpResponse, Failure> {
    named(&context, &caller, &request, Action::ChangeEndpoints)?;
    let input = body.json::<EndpointIn>()?.checked(Kind::Patch, &context);
    let config = Arc::clone(&context.config);
    let now = context.store.clock().now();
    let action = Action::ChangeEndpoints;
    let answer = change(&request, &context, caller, action, move |endpoint| {
        input.apply_to(endpoint, &config, now)
    })
    .await?;
    Ok(respond(answer))
}

pub async fn delete(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    let (application, id) = endpoint_path(&request);
    context
        .store
        .change(move |catalog| {
            let endpoint = caller.endpoint(catalog, &application, &id, Action::ChangeEndpoints)?;
            let change = Change::DeleteEndpoint(endpoint.application, endpoint.id);
            Ok((vec![change], ()))
        })
        .await?;
    Ok(no_content())
}

fn endpoint_path(request: &HttpRequest) -> (String, String) {
    (
        path_part(request, "app_id").to_owned(),
        path_part(request, "endpoint_id").to_owned(),
    )
}

/// Changes the endpoint that the path names, where nothing races with it, and shows it.
pub async fn change(
    request: &HttpRequest,
    context: &Context,
    caller: Caller,
    action: Action,
    edit: impl FnOnce(&mut Endpoint) -> Result<()> + Send + 'static,
) -> Result<Answered> {
    let (application, id) = endpoint_path(request);
    let now = context.store.clock().now();
    let config = Arc::clone(&context.config);
    context
        .store
        .change(move |catalog| {
            let entry = caller.application(catalog, &application, action)?;
            let existing = caller.endpoint(catalog, &application, &id, action)?;
            let mut endpoint = (**existing).clone();
            edit(&mut endpoint)?;
            endpoint.updated_at = now;
            refuse_taken_uid(entry, &endpoint)?;
            refuse_archived_types(catalog, existing.event_types.as_deref(), &endpoint)?;
            let answer = shown(StatusCode::OK, &endpoint, &config);
            Ok((vec![Change::PutEndpoint(endpoint)], answer))
        })
        .await
}
