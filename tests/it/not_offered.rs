//! What the contract's SDKs know and postrider does not do.

use awc::http::Method;

use crate::support::{Server, assert_error};

/// What the newest official SDK calls beyond what postrider has, and some that older ones and the
/// command line call.
const CALLS: [(&str, &str); 96] = [
    ("POST", "/api/v1/app/x/autoconfig"),
    ("DELETE", "/api/v1/app/x/autoconfig/x"),
    ("POST", "/api/v1/app/x/autoconfig/x/rotate"),
    ("GET", "/api/v1/app/x/destination"),
    ("POST", "/api/v1/app/x/destination"),
    ("DELETE", "/api/v1/app/x/destination/x"),
    ("GET", "/api/v1/app/x/destination/x"),
    ("PATCH", "/api/v1/app/x/destination/x"),
    ("PUT", "/api/v1/app/x/destination/x"),
    ("POST", "/api/v1/app/x/destination/x/secret/rotate"),
    ("GET", "/api/v1/app/x/destination/x/transformation"),
    ("PATCH", "/api/v1/app/x/destination/x/transformation"),
    ("GET", "/api/v1/app/x/endpoint/x/transformation"),
    ("PATCH", "/api/v1/app/x/endpoint/x/transformation"),
    ("GET", "/api/v1/app/x/integration"),
    ("POST", "/api/v1/app/x/integration"),
    ("DELETE", "/api/v1/app/x/integration/x"),
    ("GET", "/api/v1/app/x/integration/x"),
    ("PUT", "/api/v1/app/x/integration/x"),
    ("POST", "/api/v1/app/x/integration/x/key/rotate"),
    ("POST", "/api/v1/app/x/msg/expunge-all-contents"),
    ("GET", "/api/v1/app/x/poller/x"),
    ("GET", "/api/v1/app/x/poller/x/consumer/x"),
    ("POST", "/api/v1/app/x/poller/x/consumer/x/seek"),
    ("POST", "/api/v1/auth/stream-logout"),
    ("POST", "/api/v1/auth/stream-portal-access/x"),
    ("POST", "/api/v1/auth/stream/x/expire-all"),
    ("GET", "/api/v1/auth/stream/x/sink/x/poller/token"),
    ("POST", "/api/v1/auth/stream/x/sink/x/poller/token/rotate"),
    ("GET", "/api/v1/connector"),
    ("POST", "/api/v1/connector"),
    ("DELETE", "/api/v1/connector/x"),
    ("GET", "/api/v1/connector/x"),
    ("PATCH", "/api/v1/connector/x"),
    ("PUT", "/api/v1/connector/x"),
    ("POST", "/api/v1/environment/export"),
    ("POST", "/api/v1/environment/import"),
    ("GET", "/api/v1/stream"),
    ("POST", "/api/v1/stream"),
    ("GET", "/api/v1/stream/event-type"),
    ("POST", "/api/v1/stream/event-type"),
    ("DELETE", "/api/v1/stream/event-type/x"),
    ("GET", "/api/v1/stream/event-type/x"),
    ("PATCH", "/api/v1/stream/event-type/x"),
    ("PUT", "/api/v1/stream/event-type/x"),
    ("DELETE", "/api/v1/stream/x"),
    ("GET", "/api/v1/stream/x"),
    ("PATCH", "/api/v1/stream/x"),
    ("PUT", "/api/v1/stream/x"),
    ("POST", "/api/v1/stream/x/events"),
    ("GET", "/api/v1/stream/x/sink"),
    ("POST", "/api/v1/stream/x/sink"),
    ("DELETE", "/api/v1/stream/x/sink/x"),
    ("GET", "/api/v1/stream/x/sink/x"),
    ("PATCH", "/api/v1/stream/x/sink/x"),
    ("PUT", "/api/v1/stream/x/sink/x"),
    ("GET", "/api/v1/stream/x/sink/x/events"),
    ("GET", "/api/v1/stream/x/sink/x/headers"),
    ("PATCH", "/api/v1/stream/x/sink/x/headers"),
    ("GET", "/api/v1/stream/x/sink/x/secret"),
    ("POST", "/api/v1/stream/x/sink/x/secret/rotate"),
    ("GET", "/api/v1/stream/x/sink/x/transformation"),
    ("PATCH", "/api/v1/stream/x/sink/x/transformation"),
    ("GET", "/ingest/api/v1/source"),
    ("POST", "/ingest/api/v1/source"),
    ("DELETE", "/ingest/api/v1/source/x"),
    ("GET", "/ingest/api/v1/source/x"),
    ("PUT", "/ingest/api/v1/source/x"),
    ("POST", "/ingest/api/v1/source/x/dashboard"),
    ("GET", "/ingest/api/v1/source/x/endpoint"),
    ("POST", "/ingest/api/v1/source/x/endpoint"),
    ("DELETE", "/ingest/api/v1/source/x/endpoint/x"),
    ("GET", "/ingest/api/v1/source/x/endpoint/x"),
    ("PUT", "/ingest/api/v1/source/x/endpoint/x"),
    ("GET", "/ingest/api/v1/source/x/endpoint/x/headers"),
    ("PUT", "/ingest/api/v1/source/x/endpoint/x/headers"),
    ("GET", "/ingest/api/v1/source/x/endpoint/x/secret"),
    ("POST", "/ingest/api/v1/source/x/endpoint/x/secret/rotate"),
    ("GET", "/ingest/api/v1/source/x/endpoint/x/transformation"),
    ("PATCH", "/ingest/api/v1/source/x/endpoint/x/transformation"),
    ("POST", "/ingest/api/v1/source/x/token/rotate"),
    ("POST", "/api/v1/broadcast"),
    ("GET", "/api/v1/transformation-template"),
    ("GET", "/api/v1/auth/whoami"),
    ("GET", "/api/v1/app/stats/usage"),
    ("GET", "/api/v1/app/x/stats"),
    ("POST", "/api/v1/app/x/endpoint/x/msg/test-attempt"),
    ("GET", "/api/v1/app/x/msg/x/raw"),
    ("GET", "/api/v1/app/x/msg/x/attempt/x/headers"),
    ("POST", "/api/v1/event-type/export/openapi"),
    ("POST", "/api/v1/event-type/schema/generate-example"),
    ("PUT", "/api/v1/event-type/x/retry-schedule"),
    ("GET", "/api/v1/events"),
    ("POST", "/api/v1/msg/broadcast"),
    ("GET", "/api/v1/stats/app/x/attempt"),
    ("GET", "/api/v1/stats/app/x/ep/x/attempt"),
];

#[actix_web::test]
async fn what_is_not_offered_says_so_to_who_has_a_credential() {
    // Each of them is tried with a wrong credential, too.
    let server = Server::start_with(|config| {
        config.limits.auth_failures_per_address_minute_max = 1000;
        config.limits.auth_failures_per_token_prefix_minute_max = 1000;
    })
    .await;
    server.application("x").await;
    for (method, path) in CALLS {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        for path in [path.to_owned(), format!("{path}/")] {
            let answer = server.call(method.clone(), &path, &[], None).await;
            assert_error(&answer, 404, "not_offered");
            let detail = answer.json()["detail"].as_str().unwrap().to_owned();
            assert!(detail.starts_with("postrider does not offer "), "{detail}");
            let answer = server.call_as("pr_none", method.clone(), &path, None).await;
            assert_error(&answer, 401, "authentication_failed");
        }
    }
    // What merely begins alike is unknown.
    for path in [
        "/api/v1/streams",
        "/api/v1/app/x/integrations",
        "/api/v1/auth/nothing",
    ] {
        assert_error(&server.get(path).await, 404, "not_found");
    }
}
