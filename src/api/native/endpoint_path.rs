//! The endpoint in a path: one of an application, or one of the organisation's own.

use std::sync::Arc;

use crate::api::kit::call::Call;
use crate::domain::endpoint::Endpoint;
use crate::error::Result;
use crate::rules::caller::{Action, FeatureFlags};
use crate::rules::endpoints::{EndpointPlace, Owner};

/// Returns the owner of the endpoints in the path.
pub fn owner(call: &Call) -> Owner {
    match call.request.match_info().get("app_id") {
        Some(application) => Owner::Application(application.to_owned()),
        None => Owner::Organisation,
    }
}

/// Returns the endpoint in the path, for a caller that may do this with it.
pub fn named(call: &Call, action: Action) -> Result<Arc<Endpoint>> {
    let id = call.path("endpoint_id");
    let catalog = call.catalog();
    let endpoint = owner(call).endpoint(&call.caller, &catalog, id, action)?;
    Ok(endpoint.clone())
}

/// Returns the owner and the id or uid in the path, without a check that the endpoint exists.
pub fn endpoint_path(call: &Call) -> (Owner, String) {
    (owner(call), call.path("endpoint_id").to_owned())
}

/// Returns the endpoint in the path, for a command.
pub fn place(call: &Call, flags: FeatureFlags) -> EndpointPlace {
    let (owner, endpoint) = endpoint_path(call);
    EndpointPlace {
        owner,
        endpoint,
        flags,
    }
}
