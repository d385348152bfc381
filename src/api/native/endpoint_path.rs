//! Which endpoint a path names: one of an application, or one of the organisation's own.

use std::sync::Arc;

use actix_web::HttpRequest;

use crate::api::kit::context::Context;
use crate::api::kit::extract::path_part;
use crate::domain::endpoint::Endpoint;
use crate::error::Result;
use crate::rules::caller::{Action, Caller, FeatureFlags};
use crate::rules::endpoints::{EndpointPlace, Owner};

/// Whose endpoints a request is about, by its path.
pub fn owner(request: &HttpRequest) -> Owner {
    match request.match_info().get("app_id") {
        Some(application) => Owner::Application(application.to_owned()),
        None => Owner::Organisation,
    }
}

/// The endpoint that the path names, for a caller that may do this with it.
pub fn named(
    context: &Context,
    caller: &Caller,
    request: &HttpRequest,
    action: Action,
) -> Result<Arc<Endpoint>> {
    let catalog = context.store.catalog();
    let id = path_part(request, "endpoint_id");
    owner(request)
        .endpoint(caller, &catalog, id, action)
        .cloned()
}

/// The same without looking whether it exists.
pub fn endpoint_path(request: &HttpRequest) -> (Owner, String) {
    (owner(request), path_part(request, "endpoint_id").to_owned())
}

/// The endpoint that the path names, for a command.
pub fn place(request: &HttpRequest, flags: FeatureFlags) -> EndpointPlace {
    let (owner, endpoint) = endpoint_path(request);
    EndpointPlace {
        owner,
        endpoint,
        flags,
    }
}
