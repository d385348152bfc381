//! Ocrolus's management surface, `/v1/account/settings/…`, where an application's token is an
//! account.
//!
//! Each token of the role application configures one endpoint of its own, which its record names,
//! beside those of the application's other tokens: configuring again replaces it. Bodies are
//! multipart or urlencoded forms, or JSON. Answers and errors have this system's shape; the table
//! of statuses is in `error` alone. Neither credentials nor secrets are ever shown.

use std::collections::BTreeMap;
use std::time::Duration;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::middleware::{Next, from_fn};
use actix_web::{HttpRequest, HttpResponse, Scope, web};
use schemars::JsonSchema;
use serde::Serialize;

use super::ocrolus_body::{OcrolusRotateIn, SettingsIn};
use crate::api::kit::context::Context;
use crate::api::kit::error::Failure;
use crate::api::kit::extract::{Body, answered, json};
use crate::api::kit::operation::{Content, Operation, resources};
use crate::domain::endpoint::Endpoint;
use crate::domain::message::Origin;
use crate::error::{Error, Result};
use crate::rules::caller::{Action, Caller};
use crate::rules::checks::Problems;
use crate::rules::ocrolus::{
    Account, AccountEndpoint, ConfigureAccount, DeregisterAccount, RotateAccountSecret,
};
use crate::store::NewMessage;

const PREFIX: &str = "/v1/account/settings";

/// The longest body: enough for a list of all event types that an endpoint can name, in any of the
/// forms. The parser of multipart bodies buffers as much.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// The payload of a test, byte for byte, and the event type that the log shows for it.
const TEST_PAYLOAD: &str = r#"{"status":"VERIFICATION_COMPLETE","uploaded_doc_pk":0,"book_pk":0}"#;
const TEST_EVENT_TYPE: &str = "test";

/// How much longer than the endpoint's timeout a test waits: for its turn and for the disk.
const TEST_PATIENCE: Duration = Duration::from_secs(5);

/// This surface's operations.
pub fn operations() -> Vec<Operation> {
    let operations = vec![
        Operation::post(
            "/v1/account/settings/update/webhook_endpoint",
            "ocrolus.webhook-endpoint.update",
            web::to(configure),
        )
        .summary("Configure the webhook endpoint (Ocrolus)")
        .description(
            "The account is the token, one of the role application: each has an endpoint of its \
             own. Configuring again changes it; an empty list of events takes it away.",
        )
        .takes_content(Content::form::<SettingsIn>("multipart/form-data"))
        .takes_content(Content::form::<SettingsIn>(URLENCODED))
        .takes::<SettingsIn>()
        .answers::<Answer<Details>>(200, "As it is configured now")
        .answers_nothing(404, NONE_CONFIGURED)
        .body_bytes_max(BODY_BYTES_MAX),
        Operation::get(
            "/v1/account/settings/webhook_details",
            "ocrolus.webhook-endpoint.details",
            web::to(details),
        )
        .summary("Show the webhook endpoint (Ocrolus)")
        .answers::<Answer<Details>>(200, "As it is configured")
        .answers_nothing(404, NONE_CONFIGURED),
        Operation::get(
            "/v1/account/settings/test_webhook_endpoint",
            "ocrolus.webhook-endpoint.test",
            web::to(test),
        )
        .summary("Try the webhook endpoint out (Ocrolus)")
        .description("Sends it a test, once, and waits for the answer.")
        .answers::<Answer<Tried>>(200, "How it answered, or why it did not")
        .answers_nothing(404, NONE_CONFIGURED)
        .answers_nothing(429, "As many deliveries wait as the server takes"),
        Operation::post(
            "/v1/account/settings/webhook/rotate-secret",
            "ocrolus.webhook-secret.rotate",
            web::to(rotate_secret),
        )
        .summary("Rotate the webhook secret (Ocrolus)")
        .description("The old secret is not used any more: a request carries one signature.")
        .takes_content(Content::form::<OcrolusRotateIn>("multipart/form-data"))
        .takes_content(Content::form::<OcrolusRotateIn>(URLENCODED))
        .takes::<OcrolusRotateIn>()
        .answers::<Answer<Details>>(200, "Rotated")
        .answers_nothing(404, NONE_CONFIGURED)
        .body_bytes_max(BODY_BYTES_MAX),
    ];
    let operations = operations.into_iter();
    operations.map(Operation::errors::<ErrorOut>).collect()
}

const URLENCODED: &str = "application/x-www-form-urlencoded";
const NONE_CONFIGURED: &str = "The account has no endpoint";

/// This surface's routes, with and without a slash at their end.
pub fn routes() -> Scope<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<BoxBody>,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    let mut scope = web::scope(PREFIX);
    for resource in resources(PREFIX, operations()) {
        scope = scope.service(resource);
    }
    scope
        .default_service(web::to(async || Err::<HttpResponse, _>(Failure::NoRoute)))
        .wrap(from_fn(in_this_shape))
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "OcrolusError")]
struct ErrorOut {
    status: u16,
    message: String,
}

/// Errors keep their status and headers and get the body that callers of this surface know.
async fn in_this_shape(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let response = next.call(request).await?.map_into_boxed_body();
    let Some(error) = response.response().error() else {
        return Ok(response);
    };
    let message = match error.as_error::<Failure>() {
        Some(failure) => sentence(failure),
        None => error.to_string(),
    };
    let status = response.status().as_u16();
    let shown = answered(response.status(), &ErrorOut { status, message });
    Ok(response.map_body(|_, _| BoxBody::new(shown.body)))
}

/// Returns all problems in one sentence, with the fields' names.
fn sentence(failure: &Failure) -> String {
    let Failure::Of(Error::Invalid(problems)) = failure else {
        return failure.to_string();
    };
    let sentences = problems.iter().map(|problem| {
        let place = match &problem.location[..] {
            [body, field @ ..] if body == "body" && !field.is_empty() => field,
            whole => whole,
        };
        format!("{}: {}", place.join("."), problem.message)
    });
    sentences.collect::<Vec<_>>().join("; ")
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AnswerOf{T}")]
struct Answer<T> {
    status: u16,
    message: &'static str,
    response: T,
    code: u16,
}

fn ok(response: impl Serialize) -> HttpResponse {
    let answer = Answer {
        status: 200,
        message: "OK",
        response,
        code: 200,
    };
    json(StatusCode::OK, &answer)
}

/// An account's endpoint.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "OcrolusEndpoint")]
struct Details {
    webhook_endpoint: String,
    events: Vec<String>,
}

impl From<AccountEndpoint> for Details {
    fn from(endpoint: AccountEndpoint) -> Details {
        Details {
            webhook_endpoint: endpoint.url,
            events: endpoint.events,
        }
    }
}

/// Configures the account's endpoint, changes it, or deletes it.
async fn configure(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
    body: Body,
) -> Result<HttpResponse, Failure> {
    // A caller without an account is told that before the problems of the body.
    Account::of(&context.store.catalog(), &caller, Action::ChangeEndpoints)?;
    let mut problems = Problems::default();
    let input = SettingsIn::of(&request, &body, &mut problems).await?;
    let settings = input.checked(&context, &mut problems);
    if settings.deregisters() {
        problems.done()?;
        let gone = context.decide(caller, DeregisterAccount {});
        return Ok(ok(Details::from(gone.await?)));
    }
    let configure = ConfigureAccount { settings, problems };
    let configured = context.decide(caller, configure).await?;
    Ok(ok(Details::from(configured)))
}

async fn details(caller: Caller, context: web::Data<Context>) -> Result<HttpResponse, Failure> {
    let catalog = context.store.catalog();
    let endpoint = Account::of(&catalog, &caller, Action::ReadEndpoints)?.configured()?;
    let shown = AccountEndpoint::of(endpoint, &catalog);
    Ok(ok(Details::from(shown)))
}

/// The result of a test.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "OcrolusTest")]
struct Tried {
    message: String,
    /// Null where no answer came.
    resp_code: Option<u16>,
}

impl Tried {
    fn without_answer(message: String) -> Tried {
        Tried {
            message,
            resp_code: None,
        }
    }
}

/// Sends the endpoint a test, once, and returns its answer.
async fn test(caller: Caller, context: web::Data<Context>) -> Result<HttpResponse, Failure> {
    let endpoint = {
        let catalog = context.store.catalog();
        Account::of(&catalog, &caller, Action::SendAgain)?
            .configured()?
            .clone()
    };
    let unsent =
        |why: &str| Tried::without_answer(format!("The endpoint is {why}; nothing was sent."));
    let tried = match &endpoint {
        Endpoint {
            disabled: Some(_), ..
        } => unsent("disabled"),
        Endpoint { held: Some(_), .. } => unsent("held by the operator"),
        Endpoint {
            verification: Some(_),
            ..
        } => unsent("not verified"),
        _ => try_out(&context, &endpoint).await?,
    };
    Ok(ok(tried))
}

async fn try_out(context: &Context, endpoint: &Endpoint) -> Result<Tried> {
    let clock = context.store.clock();
    let patience = attempt_timeout(context, endpoint) + TEST_PATIENCE;
    let end = clock.now() + patience;
    let mut first = context
        .store
        .accept_watched(NewMessage {
            organisation: endpoint.organisation,
            application: endpoint.application,
            event_type: TEST_EVENT_TYPE.to_owned(),
            event_id: None,
            channels: Vec::new(),
            payload: TEST_PAYLOAD.into(),
            is_raw: false,
            content_type: None,
            lanes: vec![endpoint.number],
            matched_as_of: None,
            once: None,
            origin: Origin::TestOnce,
            tags: Vec::new(),
            deliver_at: None,
            expires_at: None,
            metadata: BTreeMap::new(),
            headers: BTreeMap::new(),
        })
        .await?;
    let attempt = tokio::select! {
        biased;
        attempt = first.recorded() => attempt,
        () = clock.sleep_until(end) => None,
    };
    let Some(attempt) = attempt else {
        return Ok(Tried::without_answer(format!(
            "No attempt came to an end within {} seconds.",
            patience.as_secs()
        )));
    };
    let resp_code = attempt.answer.map(|answer| answer.status);
    Ok(Tried {
        message: match (attempt.failure, resp_code) {
            (Some(failure), _) => failure.detail,
            (None, Some(status)) => format!("The receiver answered {status}."),
            (None, None) => "The request was sent.".to_owned(),
        },
        resp_code,
    })
}

/// The time that an attempt may take.
fn attempt_timeout(context: &Context, endpoint: &Endpoint) -> Duration {
    let profile = context.config.profile(endpoint.profile.as_deref());
    let seconds = endpoint
        .timeout_seconds
        .or_else(|| profile.and_then(|profile| profile.timeout_seconds));
    seconds.map_or_else(
        || context.config.delivery.request_timeout(),
        |seconds| Duration::from_secs(seconds.into()),
    )
}

/// Signs with the secret in the body from now on, and with no other: a request carries one
/// signature.
async fn rotate_secret(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
    body: Body,
) -> Result<HttpResponse, Failure> {
    Account::of(&context.store.catalog(), &caller, Action::ChangeSecrets)?.configured()?;
    let mut problems = Problems::default();
    let input = OcrolusRotateIn::of(&request, &body, &mut problems).await?;
    let secret = input.checked(problems)?;
    let rotated = context.decide(caller, RotateAccountSecret { secret });
    Ok(ok(Details::from(rotated.await?)))
}
