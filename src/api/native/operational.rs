//! The organisation's own endpoints, which receive reports about its customers' endpoints:
//! `/api/v1/operational-webhook/endpoint`.
//!
//! They are ordinary endpoints of an application that nobody sees, so the handlers are those of
//! endpoints. An event is a message of that application; the store makes it.

use std::borrow::Cow;

use actix_web::web;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::json;

use super::attempts::{self, AttemptOut};
use super::endpoint_body::{EndpointOut, WholeEndpointIn};
use super::endpoint_headers::{self, HeadersIn, HeadersOut, HeadersPatch};
use super::endpoint_secret::{self, RotateIn, SecretOut};
use super::endpoints;
use crate::api::kit::operation::Operation;
use crate::api::kit::page::{Listed, page_parameters};
use crate::domain::operational::EVENT_TYPES;
use crate::rules::caller::Action;

const UID_TAKEN: &str = "Another of these endpoints has this uid";

/// A body of an endpoint without the fields that these have not, for the document.
struct OperationalEndpointIn;

impl JsonSchema for OperationalEndpointIn {
    fn schema_name() -> Cow<'static, str> {
        "OperationalWebhookEndpointIn".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = WholeEndpointIn::json_schema(generator);
        if let Some(fields) = schema
            .get_mut("properties")
            .and_then(|fields| fields.as_object_mut())
        {
            for field in ["channels", "filterTypes"] {
                fields.remove(field);
            }
            if let Some(profile) = fields.get_mut("profile").and_then(|it| it.as_object_mut()) {
                let description = "The name of the profile that determines how requests look, such \
                                   as `to-slack`; `standard` where absent or null.";
                profile.insert("description".to_owned(), description.into());
            }
            let names = json!({
                "description": "The events that the endpoint gets; all where null.",
                "type": ["array", "null"],
                "items": { "type": "string", "enum": EVENT_TYPES },
                "minItems": 1,
            });
            fields.insert("eventTypes".to_owned(), names);
        }
        schema
    }
}

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/api/v1/operational-webhook/endpoint",
            "v1.operational-webhook.endpoint.list",
            web::to(endpoints::list),
        )
        .summary("List your own endpoints")
        .description("The endpoints that receive reports about your customers' endpoints.")
        .parameters(page_parameters(true))
        .parameters(endpoints::list_parameters())
        .answers::<Listed<endpoints::ListedEndpoint>>(200, "A page of endpoints"),
        Operation::post(
            "/api/v1/operational-webhook/endpoint",
            "v1.operational-webhook.endpoint.create",
            web::to(endpoints::create),
        )
        .needs(Action::OwnEndpoints)
        .summary("Register an endpoint of your own")
        .description(
            "From now on it is sent a message for everything that happens to an endpoint of a \
             customer, or to the delivery of a message there, as far as it wants it. Messages are \
             signed as Standard Webhooks, unless the endpoint names another profile; `to-slack`, \
             `to-teams` and `to-discord` write into a channel.",
        )
        .once()
        .takes::<OperationalEndpointIn>()
        .answers::<EndpointOut>(201, "Registered")
        .answers_nothing(409, UID_TAKEN),
        Operation::get(
            "/api/v1/operational-webhook/endpoint/{endpoint_id}",
            "v1.operational-webhook.endpoint.get",
            web::to(endpoints::get),
        )
        .summary("Show an endpoint of your own")
        .answers::<EndpointOut>(200, "The endpoint"),
        Operation::put(
            "/api/v1/operational-webhook/endpoint/{endpoint_id}",
            "v1.operational-webhook.endpoint.update",
            web::to(endpoints::put),
        )
        .needs(Action::OwnEndpoints)
        .summary("Replace an endpoint of your own, or register it")
        .takes::<OperationalEndpointIn>()
        .answers::<EndpointOut>(200, "Replaced")
        .answers::<EndpointOut>(201, "Registered")
        .answers_nothing(409, UID_TAKEN),
        Operation::delete(
            "/api/v1/operational-webhook/endpoint/{endpoint_id}",
            "v1.operational-webhook.endpoint.delete",
            web::to(endpoints::delete),
        )
        .needs(Action::OwnEndpoints)
        .summary("Delete an endpoint of your own")
        .answers_nothing(204, "Deleted"),
        Operation::get(
            "/api/v1/operational-webhook/endpoint/{endpoint_id}/secret",
            "v1.operational-webhook.endpoint.get-secret",
            web::to(endpoint_secret::get),
        )
        .summary("Show its signing secret")
        .answers::<SecretOut>(200, "The newest secret"),
        Operation::post(
            "/api/v1/operational-webhook/endpoint/{endpoint_id}/secret/rotate",
            "v1.operational-webhook.endpoint.rotate-secret",
            web::to(endpoint_secret::rotate),
        )
        .needs(Action::OwnEndpoints)
        .summary("Rotate its signing secret")
        .may_take::<RotateIn>()
        .answers::<SecretOut>(200, "The new secret")
        .answers_nothing(400, "Too many secrets are valid at the same time"),
        Operation::get(
            "/api/v1/operational-webhook/endpoint/{endpoint_id}/headers",
            "v1.operational-webhook.endpoint.get-headers",
            web::to(endpoint_headers::get),
        )
        .summary("Show the headers that are sent along to it")
        .answers::<HeadersOut>(200, "The headers"),
        Operation::put(
            "/api/v1/operational-webhook/endpoint/{endpoint_id}/headers",
            "v1.operational-webhook.endpoint.update-headers",
            web::to(endpoint_headers::put),
        )
        .needs(Action::OwnEndpoints)
        .summary("Replace the headers that are sent along to it")
        .takes::<HeadersIn>()
        .answers_nothing(204, "Replaced"),
        Operation::patch(
            "/api/v1/operational-webhook/endpoint/{endpoint_id}/headers",
            "v1.operational-webhook.endpoint.patch-headers",
            web::to(endpoint_headers::patch),
        )
        .needs(Action::OwnEndpoints)
        .summary("Change some of the headers that are sent along to it")
        .takes::<HeadersPatch>()
        .answers_nothing(204, "Changed"),
        Operation::get(
            "/api/v1/operational-webhook/endpoint/{endpoint_id}/attempt",
            "v1.operational-webhook.endpoint.list-attempts",
            web::to(attempts::list_by_endpoint),
        )
        .summary("List attempts at an endpoint of your own")
        .description("The newest first, unless `order` says otherwise.")
        .parameters(attempts::list_parameters())
        .answers::<Listed<AttemptOut>>(200, "A page of attempts"),
    ]
}
