//! The server's health, for load balancers, and `/metrics`.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::kit::call::{Call, Reply};
use crate::api::kit::context::Context;
use crate::api::kit::error::Failure;
use crate::api::kit::extract::{json, no_content};
use crate::api::kit::operation::{Content, Operation};
use crate::rules::caller::Action;

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
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

#[derive(Serialize, JsonSchema)]
struct Healthy {
    /// Always `ok`.
    status: &'static str,
    /// The server works, but has a problem: damage was found in the store, which `GET
    /// /api/v1/status` names, or the machine lacks a resource that deliveries wait for. Absent
    /// where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// Answers whether messages can be accepted. Load balancers ask, without a credential.
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

/// Answers that the process works at all.
async fn ping() -> HttpResponse {
    no_content()
}

async fn metrics(call: Call) -> Reply {
    call.caller.may(Action::ReadMetrics)?;
    Ok(HttpResponse::Ok()
        .content_type(METRICS_TYPE)
        .body(call.context.metrics.encode()))
}
