//! The addresses that requests to receivers come from: `/api/v1/delivery-addresses`.
//!
//! The operator states them (`delivery.source_addresses`), because a machine behind network address
//! translation does not know them. An addition to the contract; anyone with a valid credential
//! reads it.

use actix_web::http::StatusCode;
use actix_web::web;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::kit::call::{Call, Reply};
use crate::api::kit::extract::json;
use crate::api::kit::operation::Operation;
use crate::rules::caller::Action;

#[derive(Serialize, JsonSchema)]
struct DeliveryAddressesOut {
    /// Addresses such as `203.0.113.7` and networks such as `203.0.113.0/28`, as the operator states
    /// them; empty where nothing is stated.
    data: Vec<String>,
}

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/api/v1/delivery-addresses",
            "v1.endpoint.delivery-addresses",
            web::to(get),
        )
        .summary("Show the addresses that requests come from")
        .description(
            "For the firewalls of receivers: requests to endpoints come from these addresses, and \
             from no others.",
        )
        .answers::<DeliveryAddressesOut>(200, "The addresses"),
    ]
}

pub async fn get(call: Call) -> Reply {
    call.caller.may(Action::ReadProfiles)?;
    call.query().problems.done()?;
    let stated = &call.context.config.delivery.source_addresses;
    let data = stated.iter().map(ToString::to_string).collect();
    Ok(json(StatusCode::OK, &DeliveryAddressesOut { data }))
}
