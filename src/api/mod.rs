//! HTTP in: the native API, `/api/v1`, wire-compatible with the Svix server; beside it the management
//! surfaces of other systems, `ovation` and `ocrolus`; and `/metrics`.
//!
//! The server installs [`configure`] and nothing else of this module. Handlers are thin: they
//! check what came in, hand a command to the writer, and show what was decided. Every path works with
//! and without a slash at its end; unknown paths and methods are answered in the same shape as
//! other errors. Nothing here knows how things are stored or sent.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use actix_web::dev::{Extensions, ServiceRequest};
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use schemars::JsonSchema;
use serde::Serialize;

use crate::clock::Timestamp;
use crate::config::Config;
use crate::domain::profile::Draft;
use crate::lock::locked;
use crate::rules::caller::{Action, Caller};
use crate::store::Store;
use crate::telemetry::Metrics;

mod applications;
mod attempts;
mod by_address;
mod caller;
mod channels;
mod client_address;
mod connections;
mod cors;
mod credential;
mod decide;
mod deliveries;
mod delivery_addresses;
mod docs;
mod document;
mod endpoint_body;
mod endpoint_headers;
mod endpoint_secret;
mod endpoint_url;
mod endpoint_verification;
mod endpoints;
mod error;
mod event_type_import;
mod event_types;
mod expunge;
mod extract;
mod failures;
mod fair;
mod fields;
mod form;
mod guide;
mod import_document;
mod incoming;
mod jobs;
mod keys;
mod lanes;
mod message_batch;
mod message_body;
mod messages;
mod minute;
mod not_offered;
mod ocrolus;
mod ocrolus_body;
mod older_clients;
mod operation;
mod operational;
mod outgoing;
mod ovation;
mod page;
mod profiles;
mod rate;
mod reads;
mod reference;
mod replays;
mod retry;
mod sessions;
mod sign_in;
mod signed_in;
mod stats;
mod status;
mod test_events;
mod token_limits;
mod tokens;
mod usage;
mod value_schemas;
mod visit_limits;
mod visits;

use error::Failure;
use extract::json;
pub use lanes::{LaneNow, LaneWatch, SendingWatch};
use operation::{Content, Operation};
pub use reference::Reference;
pub use visit_limits::SignIns;

pub use connections::Connections;
pub use cors::Cors;
pub use failures::{Failures, around as delay_guesses};
pub use fair::Shares;
pub use incoming::{Unread, around as close_unread};
pub use outgoing::{WRITE_BUFFER, around as send_in_pieces};

/// Why a URL's host may not be sent to, where that can be told without asking the DNS. A quicker
/// answer only: what counts is the check at each connection.
pub type AddressCheck = Box<dyn Fn(&url::Url) -> Option<String> + Send + Sync>;

/// The request that the profile with this name makes of a draft, or why it makes none.
pub type Preview = Box<dyn Fn(&str, Draft) -> Result<serde_json::Value, String> + Send + Sync>;

/// What handlers work with.
pub struct Context {
    pub store: Store,
    pub config: Arc<Config>,
    pub addresses: AddressCheck,
    pub metrics: Arc<Metrics>,
    pub started_at: Timestamp,
    /// By the profile's name, a request as it would be sent.
    pub example_requests: BTreeMap<String, serde_json::Value>,
    pub preview: Preview,
    pub reference: &'static Reference,
    pub lanes: LaneWatch,
    pub sending: SendingWatch,
    /// What each customer uses of what all share.
    pub shares: Arc<Shares>,
    /// How often credentials signed in a browser in lately.
    pub sign_ins: Arc<SignIns>,
    /// Requests without a valid credential.
    pub failures: Arc<Failures>,
}

/// The context that requests get. It is another one after the settings were read again; a request
/// keeps the one that it began with.
pub struct Contexts {
    /// Counts up with each replacement, so that a request only looks at a number.
    version: AtomicU64,
    current: Mutex<web::Data<Context>>,
}

/// One thread's copy of what [`Contexts`] has.
#[derive(Default)]
pub struct ContextSeen(RefCell<(u64, Rc<Extensions>)>);

impl Contexts {
    pub fn new(first: web::Data<Context>) -> Contexts {
        Contexts {
            version: AtomicU64::new(0),
            current: Mutex::new(first),
        }
    }

    pub fn current(&self) -> web::Data<Context> {
        let current = locked(self.current.lock());
        current.clone()
    }

    pub fn replace(&self, context: web::Data<Context>) {
        let mut current = locked(self.current.lock());
        *current = context;
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Gives the request the current context; the first is there by [`configure`].
    pub fn give(&self, seen: &ContextSeen, request: &mut ServiceRequest) {
        let version = self.version.load(Ordering::Acquire);
        if version == 0 {
            return;
        }
        let mut seen = seen.0.borrow_mut();
        if seen.0 != version {
            let mut extensions = Extensions::new();
            extensions.insert(self.current());
            *seen = (version, Rc::new(extensions));
        }
        request.add_data_container(seen.1.clone());
    }
}

/// How many bytes of a request's body a byte of a payload may take: a raw one stands there as a
/// JSON string, in which quotes and letters beyond ASCII are written with escapes.
const ESCAPED_BYTES_MAX: usize = 3;

/// What a message's body may have beside its payload.
const MESSAGE_ENVELOPE_BYTES_MAX: usize = 64 * 1024;

/// All routes, with what they need.
pub fn configure(
    context: web::Data<Context>,
) -> impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static {
    let limits = &context.config.limits;
    let bytes_max = BytesMax {
        message: limits.payload_bytes * ESCAPED_BYTES_MAX + MESSAGE_ENVELOPE_BYTES_MAX,
        batch: limits.batch_bytes,
    };
    move |config: &mut web::ServiceConfig| {
        config.app_data(context.clone());
        routes(config, bytes_max);
    }
}

/// The answer to a request whose handler panicked.
pub fn defect() -> actix_web::Error {
    Failure::from(crate::error::Error::Defect).into()
}

/// The longest bodies of what may have longer ones than others.
#[derive(Clone, Copy)]
struct BytesMax {
    message: usize,
    batch: usize,
}

/// Everything that is served, in the order in which routes are tried: publishing comes first.
fn operations(bytes_max: BytesMax) -> Vec<Operation> {
    [
        messages::operations(bytes_max),
        attempts::operations(),
        deliveries::operations(),
        stats::operations(),
        expunge::operations(),
        applications::operations(),
        endpoints::operations(),
        endpoint_headers::operations(),
        endpoint_secret::operations(),
        endpoint_verification::operations(),
        operational::operations(),
        test_events::operations(),
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
        keys::operations(),
        sessions::operations(),
        sign_in::operations(),
        signed_in::operations(),
        status::operations(),
        ovation::operations(),
        own_operations(),
        reference::operations(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What describes everything that is served: the same for every server of the process, so it is made
/// once.
pub fn reference() -> &'static Reference {
    static REFERENCE: LazyLock<Reference> = LazyLock::new(|| {
        // How long a body may be is not part of it.
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

fn own_operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/v1/health", "v1.health.get", web::to(health))
            .summary("Whether messages can be accepted")
            .description("For load balancers.")
            .answers::<Healthy>(200, "They can")
            .answers_nothing(503, "They cannot, for the reason given")
            .without_credential(),
        Operation::get("/api/v1/health/ping", "v1.health.ping", web::to(ping))
            .summary("Whether the process answers at all")
            .answers_nothing(204, "It does")
            .without_credential(),
        Operation::get("/metrics", "server.metrics", web::to(metrics))
            .summary("Metrics for Prometheus")
            .description("In the OpenMetrics text format.")
            .answers_content(200, "The metrics", Some(Content::text(METRICS_TYPE))),
    ]
}

const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

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

#[derive(Serialize, JsonSchema)]
struct Healthy {
    /// Always `ok`.
    status: &'static str,
    /// Absent where nothing is wrong: damage was found in the store, which `GET /api/v1/status` names, or
    /// the machine lacks something that deliveries wait for.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// Whether messages can be accepted. Load balancers ask, without a credential.
async fn health(context: web::Data<Context>) -> Result<HttpResponse, Failure> {
    match context.store.health() {
        Ok(()) => {
            let damage = context.metrics.store_problems.get();
            let damage = (damage > 0).then(|| {
                format!(
                    "damage to the store was noticed, {damage} times; GET /api/v1/status names it"
                )
            });
            let now = context.store.clock().now();
            let lacking = context.metrics.shortages.current(now).into_iter();
            let lacking = lacking.map(|shortage| shortage.sentence().to_owned());
            let problems: Vec<String> = damage.into_iter().chain(lacking).collect();
            let problem = (!problems.is_empty()).then(|| problems.join(" "));
            let status = "ok";
            Ok(json(StatusCode::OK, &Healthy { status, problem }))
        }
        Err(reason) => Err(crate::error::Error::Unavailable {
            reason,
            retry_after_seconds: 1,
        }
        .into()),
    }
}

/// Whether the process answers at all.
async fn ping() -> HttpResponse {
    extract::no_content()
}

async fn metrics(caller: Caller, context: web::Data<Context>) -> Result<HttpResponse, Failure> {
    caller.may(Action::ReadMetrics)?;
    Ok(HttpResponse::Ok()
        .content_type(METRICS_TYPE)
        .body(context.metrics.encode()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::Method;
    use actix_web::test::{TestRequest, call_service, init_service, read_body};
    use actix_web::{App, http::header};

    /// Without a context: a request that gets as far as needing one has passed everything here.
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
