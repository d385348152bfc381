//! The native API, `/api/v1`: a file for each resource, or a few for one with much to it.

use crate::api::kit::operation::{BytesMax, Operation};

mod applications;
mod attempts;
mod channels;
mod contacts;
mod deliveries;
mod delivery_addresses;
mod endpoint_backlog;
mod endpoint_body;
mod endpoint_headers;
mod endpoint_health;
mod endpoint_path;
mod endpoint_secret;
mod endpoint_verification;
mod endpoints;
mod event_type_import;
mod event_types;
mod expunge;
mod filter_test;
mod grants;
mod hand_over;
mod health;
mod history;
mod holds;
mod import_document;
mod jobs;
mod keys;
mod lanes;
mod links;
mod message_batch;
mod message_body;
mod message_checks;
mod messages;
pub mod not_offered;
mod older_clients;
mod operational;
mod profiles;
mod replays;
mod retry;
mod stats;
mod status;
mod test_events;
mod token_body;
mod tokens;
mod transformation_body;
mod transformations;
mod usage;

/// All operations of the native API, in the order in which routes are tried: publishing comes
/// first.
pub fn operations(bytes_max: BytesMax) -> Vec<Operation> {
    [
        messages::operations(bytes_max),
        attempts::operations(),
        deliveries::operations(),
        stats::operations(),
        expunge::operations(),
        applications::operations(),
        contacts::operations(),
        endpoints::operations(),
        endpoint_headers::operations(),
        endpoint_secret::operations(),
        endpoint_verification::operations(),
        transformations::operations(),
        holds::operations(),
        endpoint_backlog::operations(),
        operational::operations(),
        test_events::operations(),
        filter_test::operations(bytes_max),
        replays::operations(),
        jobs::operations(),
        lanes::operations(),
        usage::operations(),
        event_types::operations(),
        event_type_import::operations(),
        channels::operations(),
        delivery_addresses::operations(),
        profiles::operations(bytes_max),
        tokens::operations(),
        grants::operations(),
        keys::operations(),
        links::operations(),
        status::operations(),
        hand_over::operations(),
        health::operations(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
