//! Paths that the contract's newest SDKs and its command line use and postrider does not offer. A
//! caller with a credential is told so, instead of getting the answer for an unknown path.

use actix_web::{HttpResponse, Route, guard, web};

use crate::api::kit::error::Failure;
use crate::rules::caller::Caller;

/// Statistics that older SDKs ask for an application as a whole.
const STATISTICS: &str = "these statistics; endpoints have their own";

/// Beginnings of paths, and their purpose elsewhere. Paths below one of them that postrider does
/// offer are found first.
const TABLE: [(&str, &str); 38] = [
    (
        "/api/v1/app/{app_id}/autoconfig",
        "endpoints that configure themselves",
    ),
    (
        "/api/v1/app/{app_id}/destination",
        "destinations other than endpoints",
    ),
    (
        "/api/v1/app/{app_id}/endpoint/{endpoint_id}/transformation",
        "transformations in JavaScript; endpoints have the field `transformation`, with templates",
    ),
    (
        "/api/v1/app/{app_id}/endpoint/{endpoint_id}/mtls",
        "client certificates",
    ),
    (
        "/api/v1/app/{app_id}/endpoint/{endpoint_id}/oauth",
        "OAuth for endpoints",
    ),
    ("/api/v1/app/{app_id}/integration", "integrations"),
    (
        "/api/v1/app/{app_id}/endpoint/{endpoint_id}/msg/test-attempt",
        "attempts without a message; `simulate` sends a test event",
    ),
    (
        "/api/v1/app/{app_id}/msg/{msg_id}/attempt/{attempt_id}/headers",
        "the headers of an attempt by themselves; the attempt has them",
    ),
    (
        "/api/v1/app/{app_id}/msg/{msg_id}/raw",
        "the payload by itself; the message has it",
    ),
    ("/api/v1/app/{app_id}/stats", STATISTICS),
    ("/api/v1/app/stats/usage", STATISTICS),
    ("/api/v1/app/{app_id}/events", "polling for messages"),
    ("/api/v1/app/{app_id}/poller", "polling for messages"),
    ("/api/v1/app/{app_id}/inbound", "receiving webhooks"),
    ("/api/v1/auth/app/{app_id}/poller", "polling for messages"),
    ("/api/v1/auth/one-time-token", "one-time tokens"),
    ("/api/v1/auth/stream", "streams"),
    ("/api/v1/auth/stream-logout", "streams"),
    ("/api/v1/auth/stream-portal-access", "streams"),
    (
        "/api/v1/auth/whoami",
        "telling whose a token is; `/api/v1/session` tells what it may do",
    ),
    ("/api/v1/broadcast", "messages to all applications at once"),
    ("/api/v1/connector", "connectors"),
    (
        "/api/v1/environment",
        "exporting and importing an environment",
    ),
    (
        "/api/v1/event-type/import/asyncapi",
        "importing AsyncAPI documents",
    ),
    (
        "/api/v1/event-type/export/openapi",
        "exporting event types as a document",
    ),
    (
        "/api/v1/event-type/schema/generate-example",
        "making examples of schemas; event types have an `example`",
    ),
    (
        "/api/v1/event-type/{event_type_name}/retry-schedule",
        "retry schedules of event types; endpoints have `retry`",
    ),
    ("/api/v1/events", "polling for messages"),
    ("/api/v1/ingest", "receiving webhooks"),
    ("/api/v1/inbound", "receiving webhooks"),
    (
        "/api/v1/operational-webhook/connection",
        "connections of operational webhooks",
    ),
    (
        "/api/v1/msg/broadcast",
        "messages to all applications at once",
    ),
    ("/api/v1/sink", "streams"),
    ("/api/v1/source", "receiving webhooks"),
    ("/api/v1/stats/app", STATISTICS),
    ("/api/v1/stream", "streams"),
    (
        "/api/v1/transformation-template",
        "templates of transformations in JavaScript; `/api/v1/transformation-starting-points` has others",
    ),
    ("/ingest/api/v1", "receiving webhooks"),
];

/// A path that would be taken for one of a message.
const BESIDE_MESSAGES: (&str, &str) = (
    "/api/v1/app/{app_id}/msg/expunge-all-contents{_slash:/?}",
    "expunging many messages at once",
);

/// Installs the route of `BESIDE_MESSAGES`, before the routes with a message's id in their path.
/// It has only its own method: a message may have this word for its `eventId`.
pub fn routes_beside_messages(config: &mut web::ServiceConfig) {
    let (path, what) = BESIDE_MESSAGES;
    let resource = web::resource(path).guard(guard::Post());
    config.service(resource.route(refusal(what)));
}

/// Installs the routes of `TABLE`, after all routes that are offered: the first route that fits
/// counts.
pub fn routes(config: &mut web::ServiceConfig) {
    for (path, what) in TABLE {
        let with_rest = format!("{path}/{{rest:.*}}");
        config.service(web::resource([path.to_owned(), with_rest]).route(refusal(what)));
    }
}

fn refusal(what: &'static str) -> Route {
    web::to(move |_: Caller| async move { Err::<HttpResponse, _>(Failure::NotOffered(what)) })
}
