//! HTTP in: the native API, `/api/v1`, wire-compatible with the Svix server; the management
//! surfaces of other systems, `ovation` and `ocrolus`; and `/metrics`.
//!
//! The server installs [`configure`] and nothing else of this module. Handlers are thin: they
//! check what came in, hand a command to the writer, and show what was decided. Every path works with
//! and without a slash at its end; unknown paths and methods are answered in the same shape as
//! other errors. Nothing here knows how things are stored or sent.

use std::sync::{Arc, LazyLock};

use actix_web::{HttpResponse, web};

mod access;
mod foreign;
mod kit;
mod native;
mod reference;
#[cfg(test)]
mod walls;

pub use access::failures::{Failures, around as delay_guesses};
use access::visit_limits::SignIns;
use foreign::{ocrolus, ovation};
pub use kit::connections::Connections;
pub use kit::context::{
    AddressCheck, Context, ContextSeen, Contexts, LaneNow, LaneWatch, MessagePreview, Preview,
    SendingWatch, TransformationCheck,
};
pub use kit::cors::Cors;
use kit::error::Failure;
pub use kit::fair::Shares;
pub use kit::incoming::{Unread, around as close_unread};
use kit::operation::{self, BytesMax, Operation};
pub use kit::outgoing::{WRITE_BUFFER, around as send_in_pieces};
pub use kit::schemas::Schemas;
use native::not_offered;
use reference::Reference;

/// How many bytes of a request's body a byte of a payload may take: a raw one stands there as a
/// JSON string, in which quotes and letters beyond ASCII are written with escapes.
const ESCAPED_BYTES_MAX: usize = 3;

/// The room that a message's body has beside its payload.
const MESSAGE_ENVELOPE_BYTES_MAX: usize = 64 * 1024;

/// Installs all routes and the data that they need. The context may be replaced later; the rest
/// stays for the life of the server.
pub fn configure(
    context: web::Data<Context>,
    failures: Arc<Failures>,
) -> impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static {
    let limits = &context.config.limits;
    let bytes_max = BytesMax {
        message: limits.payload_bytes * ESCAPED_BYTES_MAX + MESSAGE_ENVELOPE_BYTES_MAX,
        batch: limits.batch_bytes,
    };
    let failures = web::Data::from(failures);
    let sign_ins = web::Data::new(SignIns::default());
    let reference = web::Data::new(reference());
    move |config: &mut web::ServiceConfig| {
        config
            .app_data(context.clone())
            .app_data(failures.clone())
            .app_data(sign_ins.clone())
            .app_data(reference.clone());
        routes(config, bytes_max);
    }
}

/// The answer to a request whose handler panicked.
pub fn defect() -> actix_web::Error {
    Failure::from(crate::error::Error::Defect).into()
}

/// All operations, in the order in which routes are tried: publishing comes first.
fn operations(bytes_max: BytesMax) -> Vec<Operation> {
    [
        native::operations(bytes_max),
        access::operations(),
        ovation::operations(),
        reference::operations(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The documentation of everything that is served. It is the same for every server of the process,
/// so it is made once.
fn reference() -> &'static Reference {
    static REFERENCE: LazyLock<Reference> = LazyLock::new(|| {
        // The documentation does not have the limits of bodies.
        let bytes_max = BytesMax {
            message: 0,
            batch: 0,
        };
        let mut all = operations(bytes_max);
        all.extend(ocrolus::operations());
        Reference::new(&all)
    });
    &REFERENCE
}

fn routes(config: &mut web::ServiceConfig, bytes_max: BytesMax) {
    config
        .app_data(web::PayloadConfig::new(operation::BODY_BYTES_MAX))
        .default_service(web::to(async || Err::<HttpResponse, _>(Failure::NoRoute)));
    let mut resources = operation::resources("", operations(bytes_max)).into_iter();
    let publishing = resources.next().expect("it comes first");
    config.service(publishing);
    not_offered::routes_beside_messages(config);
    for resource in resources {
        config.service(resource);
    }
    config.service(ocrolus::routes());
    not_offered::routes(config);
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::Method;
    use actix_web::test::{TestRequest, call_service, init_service, read_body};
    use actix_web::{App, http::header};

    /// The requests have no context: one that gets as far as needing it has passed everything here.
    macro_rules! answer {
        ($method:expr, $path:expr) => {{
            let bytes_max = BytesMax {
                message: 1024,
                batch: 1024,
            };
            let app = init_service(App::new().configure(|config| routes(config, bytes_max))).await;
            let request = TestRequest::default().method($method).uri($path);
            let response = call_service(&app, request.to_request()).await;
            let allow = response.headers().get(header::ALLOW).cloned();
            let status = response.status().as_u16();
            let body = read_body(response).await;
            let code = serde_json::from_slice::<serde_json::Value>(&body)
                .ok()
                .and_then(|body| body["code"].as_str().map(str::to_owned));
            (status, code, allow)
        }};
    }

    #[actix_web::test]
    async fn what_is_not_there_is_said_in_the_shape_of_an_error() {
        for path in ["/", "/nothing", "/api/v1/nothing", "/api/v1/app/a/nothing"] {
            let (status, code, _) = answer!(Method::GET, path);
            assert_eq!(
                (status, code.as_deref()),
                (404, Some("not_found")),
                "{path}"
            );
        }
        for path in ["/api/v1/app/a/msg", "/api/v1/app/a/msg/"] {
            let (status, code, allow) = answer!(Method::DELETE, path);
            assert_eq!((status, code.as_deref()), (405, Some("method_not_allowed")));
            assert_eq!(allow.unwrap(), "POST, GET");
        }
    }

    #[actix_web::test]
    async fn what_is_not_open_to_everybody_wants_a_credential() {
        let table = [
            (Method::GET, "/api/v1/app"),
            (Method::GET, "/api/v1/app/"),
            (Method::POST, "/api/v1/app"),
            (Method::PUT, "/api/v1/app/a"),
            (Method::PATCH, "/api/v1/app/a/"),
            (Method::DELETE, "/api/v1/app/a"),
            (Method::POST, "/api/v1/app/a/msg/"),
            (Method::GET, "/api/v1/app/a/msg"),
            (Method::GET, "/api/v1/app/a/msg/m"),
            (Method::POST, "/api/v1/app/a/msg/batch"),
            (Method::POST, "/api/v1/app/a/msg/precheck/active"),
            (Method::GET, "/api/v1/app/a/msg/m/attempt/t"),
            (Method::POST, "/api/v1/app/a/msg/m/endpoint/e/resend/"),
            (Method::GET, "/api/v1/app/a/attempt/endpoint/e"),
            (Method::GET, "/api/v1/app/a/attempt/msg/m"),
            (Method::GET, "/api/v1/app/a/msg/m/endpoint"),
            (Method::GET, "/api/v1/app/a/endpoint/e/msg/"),
            (Method::GET, "/api/v1/app/a/endpoint/e/stats"),
            (Method::GET, "/api/v1/app/a/endpoint/e/attempt-stats"),
            (Method::DELETE, "/api/v1/app/a/msg/m/content"),
            (Method::DELETE, "/api/v1/app/a/msg/m/attempt/t/content"),
            (Method::GET, "/api/v1/app/a/endpoint"),
            (Method::PUT, "/api/v1/app/a/endpoint/e"),
            (Method::GET, "/api/v1/app/a/endpoint/e/headers"),
            (Method::GET, "/api/v1/app/a/endpoint/e/secret"),
            (Method::POST, "/api/v1/app/a/endpoint/e/secret/rotate"),
            (Method::POST, "/api/v1/app/a/endpoint/e/send-example"),
            (Method::POST, "/api/v1/app/a/endpoint/e/simulate/"),
            (Method::GET, "/api/v1/operational-webhook/endpoint"),
            (Method::POST, "/api/v1/operational-webhook/endpoint/"),
            (Method::PUT, "/api/v1/operational-webhook/endpoint/e"),
            (Method::GET, "/api/v1/operational-webhook/endpoint/e/secret"),
            (
                Method::GET,
                "/api/v1/operational-webhook/endpoint/e/attempt",
            ),
            (
                Method::POST,
                "/api/v1/operational-webhook/endpoint/e/verify",
            ),
            (Method::POST, "/api/v1/event-type/import/openapi"),
            (Method::POST, "/api/v1/app/a/endpoint/e/recover"),
            (Method::POST, "/api/v1/app/a/endpoint/e/replay-missing/"),
            (Method::POST, "/api/v1/app/a/endpoint/e/bulk-replay"),
            (Method::GET, "/api/v1/background-task"),
            (Method::POST, "/api/v1/app/a/endpoint/e/verify"),
            (Method::GET, "/api/v1/lane"),
            (Method::GET, "/api/v1/background-task/t"),
            (Method::POST, "/api/v1/background-task/t/cancel"),
            (Method::POST, "/api/v1/stats/usage/app"),
            (Method::PUT, "/api/v1/stats/usage/event-types"),
            (Method::GET, "/api/v1/event-type"),
            (Method::GET, "/api/v1/channel"),
            (Method::GET, "/api/v1/delivery-addresses"),
            (Method::DELETE, "/api/v1/event-type/x.y"),
            (Method::GET, "/api/v1/profile"),
            (Method::GET, "/api/v1/profile/standard"),
            (Method::POST, "/api/v1/profile/standard/preview"),
            (Method::GET, "/api/v1/status"),
            (Method::GET, "/api/v1/token"),
            (Method::DELETE, "/api/v1/token/t"),
            (Method::GET, "/api/v1/app/a/token"),
            (Method::POST, "/api/v1/app/a/token/"),
            (Method::DELETE, "/api/v1/app/a/token/t"),
            (Method::POST, "/api/v1/auth/app-portal-access/a"),
            (Method::POST, "/api/v1/auth/app/a/expire-all/"),
            (Method::POST, "/api/v1/auth/logout"),
            (Method::GET, "/api/v1/connector"),
            (Method::POST, "/ingest/api/v1/source/s/endpoint"),
            (
                Method::POST,
                "/v1/account/settings/update/webhook_endpoint/",
            ),
            (Method::GET, "/v1/account/settings/webhook_details"),
            (Method::GET, "/v1/account/settings/test_webhook_endpoint"),
            (Method::POST, "/v1/account/settings/webhook/rotate-secret"),
            (Method::PUT, "/api/v1/token/t/endpoint/e"),
            (Method::DELETE, "/api/v1/token/t/endpoint/e"),
            (Method::GET, "/metrics"),
            (Method::HEAD, "/metrics"),
            (Method::GET, "/api/v3/project_templates/1/webhook_endpoints"),
            (
                Method::POST,
                "/api/v3/project_templates/1/webhook_endpoints/",
            ),
            (
                Method::GET,
                "/api/v3/project_templates/1/webhook_endpoints/2",
            ),
            (
                Method::PUT,
                "/api/v3/project_templates/1/webhook_endpoints/2",
            ),
            (
                Method::DELETE,
                "/api/v3/project_templates/1/webhook_endpoints/2/",
            ),
        ];
        for (method, path) in table {
            let (status, _, _) = answer!(method.clone(), path);
            assert_eq!(status, 401, "{method} {path}");
        }
        let (status, _, _) = answer!(Method::GET, "/api/v1/health/ping/");
        assert_eq!(status, 204);
    }
}
