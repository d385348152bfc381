//! Ovation's management API: `/api/v3/project_templates/{template_id}/webhook_endpoints`.
//!
//! The same endpoints as in the native API, under the names of another system. A project template
//! is an application, by its uid or id; a webhook is an endpoint, by its number. A body is read
//! into a [`WebhookDraft`], which keeps its problems. The command adds those that only the
//! registrations show, and one answer has all of them: `{"errors": [sentence, …]}`. Passwords and
//! authentication headers go in and never come out.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{FromRequest, HttpRequest, HttpResponse, ResponseError, dev::Payload, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json as value};

use crate::api::kit::context::Context;
use crate::api::kit::endpoint_url::check_url;
use crate::api::kit::error::Failure;
use crate::api::kit::extract::{Body, answered, once, path_part, reading, respond};
use crate::api::kit::operation::{Operation, Parameter};
use crate::api::kit::page::shown as shown_in_list;
use crate::api::kit::query::Query;
use crate::domain::endpoint::Endpoint;
use crate::error::{Error, Invalid, Result};
use crate::misfit::{misspelled, not_known};
use crate::rules::caller::{Action, Caller, FeatureFlags};
use crate::rules::endpoints::Changed;
use crate::rules::ovation::{
    CREDENTIAL_BYTES_MAX, ChangeWebhook, CreateWebhook, DeleteWebhook, MASK, WebhookDraft,
    is_masked, template, webhook, webhooks,
};
use crate::store::Answered;

/// The names that a webhook's body has.
const FIELDS: [&str; 6] = [
    "target_url",
    "event",
    "username",
    "password",
    "requestHeaders",
    "authenticationHeaders",
];

/// A failure in this surface's shape. Its status is the one that it has everywhere.
#[derive(Debug)]
pub struct OvationError(Failure);

impl<F: Into<Failure>> From<F> for OvationError {
    fn from(failure: F) -> OvationError {
        OvationError(failure.into())
    }
}

impl fmt::Display for OvationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The problems of a request, a sentence for each.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "OvationErrors")]
struct ErrorsOut {
    errors: Vec<String>,
}

impl ResponseError for OvationError {
    fn status_code(&self) -> StatusCode {
        self.0.status_code()
    }

    fn error_response(&self) -> HttpResponse {
        let errors = match &self.0 {
            Failure::Of(Error::Invalid(problems)) => problems.iter().map(sentence).collect(),
            other => vec![other.to_string()],
        };
        self.0.answer(&ErrorsOut { errors })
    }
}

fn sentence(problem: &Invalid) -> String {
    match problem.location.is_empty() {
        true => problem.message.clone(),
        false => format!("{}: {}", problem.location.join("."), problem.message),
    }
}

/// An extractor of a request whose refusal has this surface's shape.
pub struct Taken<T>(T);

impl<T: FromRequest<Error = Failure> + 'static> FromRequest for Taken<T> {
    type Error = OvationError;
    type Future = Pin<Box<dyn Future<Output = Result<Taken<T>, OvationError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let taking = T::from_request(request, payload);
        Box::pin(async move { Ok(Taken(taking.await?)) })
    }
}

impl WebhookDraft {
    fn read(body: &Body, context: &Context) -> WebhookDraft {
        let mut draft = WebhookDraft::default();
        let mut document = match body.json::<Map<String, Value>>() {
            Ok(document) => document,
            Err(Error::Invalid(problems)) => {
                draft.errors.extend(problems.iter().map(sentence));
                return draft;
            }
            Err(other) => {
                draft.errors.push(other.to_string());
                return draft;
            }
        };
        match document.remove("webhookEndpoint") {
            Some(Value::Object(fields)) => draft.take(fields, context),
            None | Some(Value::Null) => {
                draft.errors.push("webhookEndpoint is required".to_owned());
            }
            Some(_) => {
                let message = "webhookEndpoint must be an object".to_owned();
                draft.errors.push(message);
            }
        }
        draft
    }

    fn take(&mut self, mut fields: Map<String, Value>, context: &Context) {
        let errors = &mut self.errors;
        let url = text(&mut fields, "target_url", errors);
        self.target = url.and_then(|url| {
            check_url(&url, context)
                .map_err(|message| errors.push(format!("target_url {message}")))
                .ok()
        });
        self.event = text(&mut fields, "event", errors);
        self.username = text(&mut fields, "username", errors);
        self.password = text(&mut fields, "password", errors);
        for (name, value) in [("username", &self.username), ("password", &self.password)] {
            if let Some(message) = value.as_deref().and_then(credential_problem) {
                errors.push(format!("{name} {message}"));
            }
        }
        if self
            .username
            .as_ref()
            .is_some_and(|name| name.contains(':'))
        {
            let message = "username may not contain a colon, which Basic auth cannot carry";
            errors.push(message.to_owned());
        }
        self.request_headers = headers(&mut fields, "requestHeaders", errors);
        self.authentication_headers = headers(&mut fields, "authenticationHeaders", errors);
        // Other names that a client of Ovation's sends, such as those that it has read here, are
        // ignored.
        for name in fields.keys() {
            if let Some(meant) = misspelled(name, FIELDS) {
                errors.push(format!("{name}: {}", not_known("field", Some(meant))));
            }
        }
    }
}

/// Returns a text that must be given and not be empty.
fn text(fields: &mut Map<String, Value>, name: &str, errors: &mut Vec<String>) -> Option<String> {
    let problem = match fields.remove(name) {
        Some(Value::String(text)) if !text.is_empty() => return Some(text),
        None | Some(Value::Null | Value::String(_)) => "is required",
        Some(_) => "must be a string",
    };
    errors.push(format!("{name} {problem}"));
    None
}

fn headers(
    fields: &mut Map<String, Value>,
    field: &str,
    errors: &mut Vec<String>,
) -> Option<BTreeMap<String, String>> {
    let given = match fields.remove(field)? {
        Value::Null => return Some(BTreeMap::new()),
        Value::Object(given) => given,
        _ => {
            errors.push(format!("{field} must be an object"));
            return None;
        }
    };
    let mut headers = BTreeMap::new();
    for (name, value) in given {
        match value {
            Value::String(value) => drop(headers.insert(name, value)),
            _ => errors.push(format!("{field}.{name} must be a string")),
        }
    }
    Some(headers)
}

fn credential_problem(text: &str) -> Option<String> {
    if text.len() > CREDENTIAL_BYTES_MAX {
        return Some(format!("must have at most {CREDENTIAL_BYTES_MAX} bytes"));
    }
    let has_control = text.chars().any(char::is_control);
    has_control.then(|| "may not contain control characters".to_owned())
}

/// A webhook, without its password and its authentication headers.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "OvationWebhookOut")]
struct WebhookOut<'a> {
    id: u64,
    target_url: &'a str,
    /// The event type; several with commas where the webhook was made through another surface; null
    /// where it takes all.
    event: Option<String>,
    username: Option<&'a str>,
    /// The template's id as the path has it: a number where it is all digits.
    #[schemars(with = "TemplateIdOut")]
    project_requisition_template_association_id: TemplateId<'a>,
    /// The request headers. A sensitive one that was given through another surface has the value
    /// `***`.
    #[serde(rename = "requestHeaders")]
    request_headers: BTreeMap<&'a str, &'a str>,
}

impl<'a> WebhookOut<'a> {
    fn new(endpoint: &'a Endpoint, template: &'a str) -> WebhookOut<'a> {
        let basic_auth = endpoint.basic_auth.as_ref();
        let shown = |(name, value): (&'a String, &'a String)| match is_masked(endpoint, name) {
            true => (name.as_str(), MASK),
            false => (name.as_str(), value.as_str()),
        };
        WebhookOut {
            id: endpoint.number,
            target_url: &endpoint.url,
            event: endpoint.event_types.as_ref().map(|names| names.join(",")),
            username: basic_auth.map(|basic_auth| basic_auth.username.as_str()),
            project_requisition_template_association_id: TemplateId::of(template),
            request_headers: endpoint.headers.iter().map(shown).collect(),
        }
    }
}

/// A template's id as the path has it: a number where its text is one, of any length.
#[derive(Serialize)]
#[serde(untagged)]
enum TemplateId<'a> {
    Number(Box<RawValue>),
    Text(&'a str),
}

/// [`TemplateId`] for the document.
#[derive(JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
#[allow(dead_code, reason = "only its schema is used")]
enum TemplateIdOut {
    Number(i64),
    Text(String),
}

impl TemplateId<'_> {
    fn of(text: &str) -> TemplateId<'_> {
        let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
        // Not every row of digits is a number in JSON: 007 is none.
        match RawValue::from_string(text.to_owned()) {
            Ok(number) if is_digits => TemplateId::Number(number),
            _ => TemplateId::Text(text),
        }
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "OvationOne")]
struct One<'a> {
    webhook_endpoint: WebhookOut<'a>,
    /// Warnings about this change; absent where there are none.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "OvationAll")]
struct All<T> {
    /// In the order of their numbers.
    webhook_endpoints: Vec<T>,
    /// The value of the parameter `iterator` that reads on, where the webhooks do not all fit into
    /// an answer of `limits.page_bytes`; absent after the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    iterator: Option<String>,
}

fn shown(status: StatusCode, endpoint: &Endpoint, template: &str) -> Answered {
    shown_with(status, endpoint, template, &[])
}

fn shown_with(
    status: StatusCode,
    endpoint: &Endpoint,
    template: &str,
    warnings: &[String],
) -> Answered {
    let one = One {
        webhook_endpoint: WebhookOut::new(endpoint, template),
        warnings,
    };
    answered(status, &one)
}

// The form of bodies, for the document: `WebhookDraft` reads them by hand.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "OvationWebhookIn")]
#[allow(dead_code, reason = "only its schema is used")]
struct WebhookIn {
    #[serde(rename = "webhookEndpoint")]
    webhook_endpoint: WebhookFields,
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "OvationWebhookFields")]
#[allow(dead_code, reason = "only its schema is used")]
struct WebhookFields {
    /// Where messages are sent: http or https, of at most 2 KiB.
    #[schemars(length(min = 1), extend("format" = "uri"))]
    target_url: String,
    /// The name of the event type that is sent.
    #[schemars(length(min = 1))]
    event: String,
    /// The user name for Basic authentication, without a colon.
    #[schemars(length(min = 1, max = CREDENTIAL_BYTES_MAX))]
    username: String,
    /// The password for Basic authentication. It is never shown again.
    #[schemars(length(min = 1, max = CREDENTIAL_BYTES_MAX))]
    password: String,
    /// Headers that are sent along with every request. Absent leaves them as they are, null clears
    /// them.
    #[serde(rename = "requestHeaders")]
    request_headers: Option<BTreeMap<String, String>>,
    /// Like `requestHeaders`, and never shown again.
    #[serde(rename = "authenticationHeaders")]
    authentication_headers: Option<BTreeMap<String, String>>,
}

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    let operations = vec![
        Operation::get(
            "/api/v3/project_templates/{template_id}/webhook_endpoints",
            "ovation.webhook-endpoint.list",
            web::to(list),
        )
        .summary("List webhooks (Ovation)")
        .description(
            "A project template is an application, by its uid or id; a webhook is an endpoint, by \
             its number.",
        )
        .parameters([Parameter::query(
            "iterator",
            "`iterator` of the answer before, to read on.",
            value!({ "type": "string" }),
        )])
        .answers::<All<WebhookOut>>(200, "The webhooks"),
        Operation::post(
            "/api/v3/project_templates/{template_id}/webhook_endpoints",
            "ovation.webhook-endpoint.create",
            web::to(create),
        )
        .summary("Create a webhook (Ovation)")
        .once()
        .takes::<WebhookIn>()
        .answers::<One>(201, "Created"),
        Operation::get(
            "/api/v3/project_templates/{template_id}/webhook_endpoints/{webhook_id}",
            "ovation.webhook-endpoint.get",
            web::to(get),
        )
        .summary("Show a webhook (Ovation)")
        .answers::<One>(200, "The webhook"),
        Operation::put(
            "/api/v3/project_templates/{template_id}/webhook_endpoints/{webhook_id}",
            "ovation.webhook-endpoint.update",
            web::to(put),
        )
        .summary("Change a webhook (Ovation)")
        .takes::<WebhookIn>()
        .answers::<One>(200, "Changed"),
        Operation::delete(
            "/api/v3/project_templates/{template_id}/webhook_endpoints/{webhook_id}",
            "ovation.webhook-endpoint.delete",
            web::to(delete),
        )
        .summary("Delete a webhook (Ovation)")
        .answers::<One>(200, "Deleted; this is what it was")
        .answers_nothing(422, "There is no such webhook"),
    ];
    let operations = operations.into_iter();
    operations.map(Operation::errors::<ErrorsOut>).collect()
}

pub async fn list(
    request: HttpRequest,
    Taken(caller): Taken<Caller>,
    context: web::Data<Context>,
) -> Result<HttpResponse, OvationError> {
    let template_id = path_part(&request, "template_id").to_owned();
    let mut query = Query::of(&request);
    let page = query.rest(&context.config.limits);
    let mut endpoints: Vec<Arc<Endpoint>> = {
        let catalog = context.store.catalog();
        let entry = template(&caller, &catalog, &template_id, Action::ReadEndpoints)?;
        webhooks(&caller, &catalog, entry).cloned().collect()
    };
    query.problems.done()?;
    let read = move || {
        endpoints.sort_by_key(|endpoint| endpoint.number);
        let listed = page.listed(
            page.of(endpoints.into_iter(), |endpoint| endpoint.number),
            |endpoint| endpoint.number,
            |endpoint| shown_in_list(&WebhookOut::new(endpoint, &template_id)),
        );
        let all = All {
            webhook_endpoints: listed.data,
            iterator: listed.iterator.filter(|_| !listed.done),
        };
        Ok(answered(StatusCode::OK, &all))
    };
    Ok(respond(reading(&context, &caller, read).await?))
}

pub async fn get(
    request: HttpRequest,
    Taken(caller): Taken<Caller>,
    context: web::Data<Context>,
) -> Result<HttpResponse, OvationError> {
    let template_id = path_part(&request, "template_id");
    let catalog = context.store.catalog();
    let entry = template(&caller, &catalog, template_id, Action::ReadEndpoints)?;
    let id = path_part(&request, "webhook_id");
    let endpoint = webhook(&caller, &catalog, entry, id)?;
    Ok(respond(shown(StatusCode::OK, endpoint, template_id)))
}

pub async fn create(
    request: HttpRequest,
    Taken(caller): Taken<Caller>,
    Taken(flags): Taken<FeatureFlags>,
    context: web::Data<Context>,
    Taken(body): Taken<Body>,
) -> Result<HttpResponse, OvationError> {
    let draft = WebhookDraft::read(&body, &context);
    let template_id = path_part(&request, "template_id").to_owned();
    let action = Action::CreateEndpoints;
    let reached = template(&caller, &context.store.catalog(), &template_id, action).map(|_| ());
    let once = match reached {
        Ok(()) => once(&request, &caller, &body)?,
        // A caller that does not see the template must not learn that somebody used the key there,
        // or the answer to that. It gets the same error below as without a key.
        Err(Error::NotFound(_)) => None,
        Err(refused) => return Err(refused.into()),
    };
    let command = CreateWebhook {
        template: template_id.clone(),
        draft,
        flags,
    };
    let shown = move |made: Endpoint| shown(StatusCode::CREATED, &made, &template_id);
    Ok(respond(
        context.decide_once(once, caller, command, shown).await?,
    ))
}

/// Changes what the body has fields for, and leaves the rest as it was: an endpoint that was made
/// through another surface may have more.
pub async fn put(
    request: HttpRequest,
    Taken(caller): Taken<Caller>,
    Taken(flags): Taken<FeatureFlags>,
    context: web::Data<Context>,
    Taken(body): Taken<Body>,
) -> Result<HttpResponse, OvationError> {
    let draft = WebhookDraft::read(&body, &context);
    let (template, webhook) = webhook_path(&request);
    let command = ChangeWebhook {
        template: template.clone(),
        webhook,
        draft,
        flags,
    };
    let Changed { endpoint, warnings } = context.decide(caller, command).await?;
    // The document has 201 for this, too.
    let answer = shown_with(StatusCode::CREATED, &endpoint, &template, &warnings);
    Ok(respond(answer))
}

pub async fn delete(
    request: HttpRequest,
    Taken(caller): Taken<Caller>,
    context: web::Data<Context>,
) -> Result<HttpResponse, OvationError> {
    let (template, webhook) = webhook_path(&request);
    let command = DeleteWebhook {
        template: template.clone(),
        webhook,
    };
    let deleted = context.decide(caller, command).await?;
    Ok(respond(shown(StatusCode::CREATED, &deleted, &template)))
}

fn webhook_path(request: &HttpRequest) -> (String, String) {
    (
        path_part(request, "template_id").to_owned(),
        path_part(request, "webhook_id").to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::ovation::invalid;

    #[actix_web::test]
    async fn a_failure_has_the_status_and_headers_that_it_has_everywhere() {
        let busy = Error::Unavailable {
            reason: "the commit queue is full".to_owned(),
            retry_after_seconds: 3,
        };
        for (failure, status, header, errors) in [
            (
                Failure::from(Error::Unauthenticated),
                401,
                Some("www-authenticate"),
                r#"{"errors":["no credential, or one that is not valid"]}"#,
            ),
            (
                busy.into(),
                503,
                Some("retry-after"),
                r#"{"errors":["the commit queue is full"]}"#,
            ),
            (
                Failure::TooLarge("too long".to_owned()),
                413,
                None,
                r#"{"errors":["too long"]}"#,
            ),
            (
                invalid(vec!["one".to_owned(), "two".to_owned()]).into(),
                422,
                None,
                r#"{"errors":["one","two"]}"#,
            ),
        ] {
            let refused = OvationError::from(failure);
            let response = refused.error_response();
            assert_eq!(response.status(), status);
            assert_eq!(refused.status_code(), status);
            if let Some(name) = header {
                assert!(response.headers().contains_key(name), "{name}");
            }
            let body = actix_web::body::to_bytes(response.into_body()).await;
            assert_eq!(body.unwrap(), errors);
        }
    }

    #[test]
    fn a_template_id_is_a_number_where_its_text_is_one() {
        for (text, expected) in [
            ("456", "456"),
            ("0", "0"),
            ("99999999999999999999999999", "99999999999999999999999999"),
            ("007", r#""007""#),
            ("1.5", r#""1.5""#),
            ("1e5", r#""1e5""#),
            ("-1", r#""-1""#),
            ("acme", r#""acme""#),
            ("true", r#""true""#),
        ] {
            let shown = serde_json::to_string(&TemplateId::of(text)).unwrap();
            assert_eq!(shown, expected);
        }
    }
}
