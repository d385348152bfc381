//! HTTP in: the native API, `/api/v1`, wire-compatible with the Svix server; beside it the management
//! surfaces of other systems, `ovation` and `ocrolus`; and `/metrics`.
//!
//! The server installs [`configure`] and nothing else of this module. Handlers are thin: they
//! check what came in, hand a decision to the store, and show what it says. Every path works with
//! and without a slash at its end; unknown paths and methods are answered in the same shape as
//! other errors. Nothing here knows how things are stored or sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpResponse, Resource, Route, guard, web};
use serde::Serialize;

use crate::config::Config;
use crate::store::Store;
use crate::telemetry::Metrics;

mod access;
mod applications;
mod attempts;
mod channels;
mod endpoint_body;
mod endpoint_headers;
mod endpoint_rules;
mod endpoint_secret;
mod endpoints;
mod error;
mod event_types;
mod extract;
mod form;
mod messages;
mod ocrolus;
mod ocrolus_body;
mod ovation;
mod page;
mod profiles;
mod retry;
mod rules;
mod target;
mod test_events;
mod tokens;

use access::{Action, Caller};
use error::Failure;
use extract::json;

/// Why a URL's host may not be sent to, where that can be told without asking the DNS. A quicker
/// answer only: what counts is the check at each connection.
pub type AddressCheck = Box<dyn Fn(&url::Url) -> Option<String> + Send + Sync>;

/// What handlers work with.
pub struct Context {
    pub store: Store,
    pub config: Arc<Config>,
    pub addresses: AddressCheck,
    pub metrics: Arc<Metrics>,
    /// By the profile's name, a request as it would be sent.
    pub example_requests: BTreeMap<String, serde_json::Value>,
}

/// The longest body of anything but a message.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// An event type's body has room for all that it had before examples and channels.
const EVENT_TYPE_BYTES_MAX: usize =
    BODY_BYTES_MAX + event_types::EXAMPLE_BYTES_MAX + event_types::CHANNELS_BYTES_MAX;

/// What a message's body may have beside its payload.
const MESSAGE_ENVELOPE_BYTES_MAX: usize = 64 * 1024;

/// All routes, with what they need.
pub fn configure(
    context: web::Data<Context>,
) -> impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static {
    let message_bytes_max = context.config.limits.payload_bytes + MESSAGE_ENVELOPE_BYTES_MAX;
    move |config: &mut web::ServiceConfig| {
        config.app_data(context.clone());
        routes(config, message_bytes_max);
    }
}

/// The route table.
fn routes(config: &mut web::ServiceConfig, message_bytes_max: usize) {
    let get = || Method::GET;
    let post = || Method::POST;
    let put = || Method::PUT;
    let patch = || Method::PATCH;
    let delete = || Method::DELETE;
    let app = "/api/v1/app";
    let one_app = "/api/v1/app/{app_id}";
    let endpoint = "/api/v1/app/{app_id}/endpoint";
    let one_endpoint = "/api/v1/app/{app_id}/endpoint/{endpoint_id}";
    let message = "/api/v1/app/{app_id}/msg";
    let one_message = "/api/v1/app/{app_id}/msg/{msg_id}";
    let webhook = "/api/v3/project_templates/{template_id}/webhook_endpoints";
    config
        .app_data(web::PayloadConfig::new(BODY_BYTES_MAX))
        .default_service(web::to(async || Err::<HttpResponse, _>(Failure::NoRoute)))
        // Routes are tried in this order, so publishing comes first.
        .service(
            on(
                message,
                "",
                [
                    (post(), web::to(messages::create)),
                    (get(), web::to(messages::list)),
                ],
            )
            .app_data(web::PayloadConfig::new(message_bytes_max)),
        )
        .service(on(one_message, "", [(get(), web::to(messages::get))]))
        .service(on(
            one_message,
            "/attempt/{attempt_id}",
            [(get(), web::to(attempts::get))],
        ))
        .service(on(
            one_message,
            "/endpoint/{endpoint_id}/resend",
            [(post(), web::to(attempts::resend))],
        ))
        .service(on(
            one_app,
            "/attempt/endpoint/{endpoint_id}",
            [(get(), web::to(attempts::list_by_endpoint))],
        ))
        .service(on(
            one_app,
            "/attempt/msg/{msg_id}",
            [(get(), web::to(attempts::list_by_message))],
        ))
        .service(on(
            app,
            "",
            [
                (get(), web::to(applications::list)),
                (post(), web::to(applications::create)),
            ],
        ))
        .service(on(
            one_app,
            "",
            [
                (get(), web::to(applications::get)),
                (put(), web::to(applications::put)),
                (patch(), web::to(applications::patch)),
                (delete(), web::to(applications::delete)),
            ],
        ))
        .service(on(
            endpoint,
            "",
            [
                (get(), web::to(endpoints::list)),
                (post(), web::to(endpoints::create)),
            ],
        ))
        .service(on(
            one_endpoint,
            "",
            [
                (get(), web::to(endpoints::get)),
                (put(), web::to(endpoints::put)),
                (patch(), web::to(endpoints::patch)),
                (delete(), web::to(endpoints::delete)),
            ],
        ))
        .service(on(
            one_endpoint,
            "/headers",
            [
                (get(), web::to(endpoint_headers::get)),
                (put(), web::to(endpoint_headers::put)),
                (patch(), web::to(endpoint_headers::patch)),
            ],
        ))
        .service(on(
            one_endpoint,
            "/secret",
            [(get(), web::to(endpoint_secret::get))],
        ))
        .service(on(
            one_endpoint,
            "/secret/rotate",
            [(post(), web::to(endpoint_secret::rotate))],
        ))
        .service(on(
            one_endpoint,
            "/send-example",
            [(post(), web::to(test_events::send_example))],
        ))
        .service(on(
            one_endpoint,
            "/simulate",
            [(post(), web::to(test_events::simulate))],
        ))
        .service(
            on(
                "/api/v1/event-type",
                "",
                [
                    (get(), web::to(event_types::list)),
                    (post(), web::to(event_types::create)),
                ],
            )
            .app_data(web::PayloadConfig::new(EVENT_TYPE_BYTES_MAX)),
        )
        .service(
            on(
                "/api/v1/event-type/{event_type_name}",
                "",
                [
                    (get(), web::to(event_types::get)),
                    (put(), web::to(event_types::put)),
                    (patch(), web::to(event_types::patch)),
                    (delete(), web::to(event_types::delete)),
                ],
            )
            .app_data(web::PayloadConfig::new(EVENT_TYPE_BYTES_MAX)),
        )
        .service(on(
            "/api/v1/channel",
            "",
            [(get(), web::to(channels::list))],
        ))
        .service(on(
            "/api/v1/profile",
            "",
            [(get(), web::to(profiles::list))],
        ))
        .service(on(
            "/api/v1/profile/{profile_name}",
            "",
            [(get(), web::to(profiles::get))],
        ))
        .service(on(
            "/api/v1/token",
            "",
            [
                (get(), web::to(tokens::list)),
                (post(), web::to(tokens::create)),
            ],
        ))
        .service(on(
            "/api/v1/token/{token_id}",
            "",
            [
                (get(), web::to(tokens::get)),
                (delete(), web::to(tokens::delete)),
            ],
        ))
        .service(ocrolus::routes())
        .service(on(
            "/api/v1/token/{token_id}",
            "/endpoint/{endpoint_id}",
            [
                (put(), web::to(tokens::grant)),
                (delete(), web::to(tokens::revoke_grant)),
            ],
        ))
        .service(on("/api/v1/health", "", [(get(), web::to(health))]))
        .service(on("/api/v1/health", "/ping", [(get(), web::to(ping))]))
        .service(on(
            webhook,
            "",
            [
                (get(), web::to(ovation::list)),
                (post(), web::to(ovation::create)),
            ],
        ))
        .service(on(
            webhook,
            "/{webhook_id}",
            [
                (get(), web::to(ovation::get)),
                (put(), web::to(ovation::put)),
                (delete(), web::to(ovation::delete)),
            ],
        ))
        .service(on("/metrics", "", [(get(), web::to(metrics))]));
}

/// A path with its methods. HEAD goes where GET goes; any other method is answered with those
/// there are.
fn on<const N: usize>(base: &str, rest: &str, routes: [(Method, Route); N]) -> Resource {
    let names: Vec<&str> = routes.iter().map(|(method, _)| method.as_str()).collect();
    let allowed = names.join(", ");
    let mut resource = web::resource(format!("{base}{rest}{{_slash:/?}}"));
    for (method, route) in routes {
        let route = match method {
            Method::GET => route.guard(guard::Any(guard::Get()).or(guard::Head())),
            method => route.method(method),
        };
        resource = resource.route(route);
    }
    resource.default_service(web::to(move || {
        let failure = Failure::NoMethod(allowed.clone());
        async { Err::<HttpResponse, _>(failure) }
    }))
}

#[derive(Serialize)]
struct Healthy {
    status: &'static str,
}

/// Whether messages can be accepted. Load balancers ask, without a credential.
async fn health(context: web::Data<Context>) -> Result<HttpResponse, Failure> {
    match context.store.health() {
        Ok(()) => Ok(json(StatusCode::OK, &Healthy { status: "ok" })),
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
        .content_type("application/openmetrics-text; version=1.0.0; charset=utf-8")
        .body(context.metrics.encode()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::{TestRequest, call_service, init_service, read_body};
    use actix_web::{App, http::header};

    /// Without a context: a request that gets as far as needing one has passed everything here.
    macro_rules! answer {
        ($method:expr, $path:expr) => {{
            let app = init_service(App::new().configure(|config| routes(config, 1024))).await;
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
    async fn every_path_but_health_wants_a_credential() {
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
            (Method::GET, "/api/v1/app/a/msg/m/attempt/t"),
            (Method::POST, "/api/v1/app/a/msg/m/endpoint/e/resend/"),
            (Method::GET, "/api/v1/app/a/attempt/endpoint/e"),
            (Method::GET, "/api/v1/app/a/attempt/msg/m"),
            (Method::GET, "/api/v1/app/a/endpoint"),
            (Method::PUT, "/api/v1/app/a/endpoint/e"),
            (Method::GET, "/api/v1/app/a/endpoint/e/headers"),
            (Method::GET, "/api/v1/app/a/endpoint/e/secret"),
            (Method::POST, "/api/v1/app/a/endpoint/e/secret/rotate"),
            (Method::POST, "/api/v1/app/a/endpoint/e/send-example"),
            (Method::POST, "/api/v1/app/a/endpoint/e/simulate/"),
            (Method::GET, "/api/v1/event-type"),
            (Method::GET, "/api/v1/channel"),
            (Method::DELETE, "/api/v1/event-type/x.y"),
            (Method::GET, "/api/v1/profile"),
            (Method::GET, "/api/v1/profile/standard"),
            (Method::GET, "/api/v1/token"),
            (Method::DELETE, "/api/v1/token/t"),
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
