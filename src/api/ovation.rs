//! Ovation's management API: `/api/v3/project_templates/{template_id}/webhook_endpoints`.
//!
//! The same endpoints as in the native API under the names of another system: a project template is
//! an application, by its uid or id, and a webhook is an endpoint, by its number. A body is read
//! into a [`Draft`], which keeps what is wrong with it; what else can be wrong shows where nothing
//! races with the change, and then all of it is told in one answer, `{"errors": [sentence, …]}`.
//! Passwords and authentication headers go in and never come out.

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

use super::Context;
use super::access::{Action, Caller, Credential, FeatureFlags};
use super::endpoint_origin::{Carried, ENTER_AGAIN};
use super::endpoint_rules::{blank, check_url};
use super::error::Failure;
use super::extract::{Body, answered, once, path_part, reading, respond};
use super::operation::{Operation, Parameter};
use super::page::{Query, shown as shown_in_list};
use super::target::{Target, header_problems};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::domain::application::Application;
use crate::domain::endpoint::{BasicAuth, Endpoint, EndpointSecret, is_sensitive};
use crate::domain::id::OrganisationId;
use crate::domain::profile::Profile;
use crate::domain::secret::{Secret, SecretForm};
use crate::error::{Error, Invalid, Result};
use crate::misfit::{misspelled, not_known};
use crate::store::catalog::ApplicationEntry;
use crate::store::{Answered, Catalog, Change};

/// The profile of endpoints that are made here; one of the built-in ones.
pub const PROFILE: &str = "ovation";

/// What stands for the value of a header that is not shown.
const MASK: &str = "***";

/// The names that a webhook's body has.
const FIELDS: [&str; 6] = [
    "target_url",
    "event",
    "username",
    "password",
    "requestHeaders",
    "authenticationHeaders",
];

/// Of a user name and of a password: more than any real one has, and both fit into a header.
const CREDENTIAL_BYTES_MAX: usize = 1024;

const NO_TEMPLATE: Error = Error::NotFound("Project Template");
const NO_WEBHOOK: Error = Error::NotFound("Webhook Endpoint");

/// A failure in this surface's shape. Its status is the one that it has everywhere.
#[derive(Debug)]
pub struct Refused(Failure);

impl<F: Into<Failure>> From<F> for Refused {
    fn from(failure: F) -> Refused {
        Refused(failure.into())
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is wrong, each thing in a sentence.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "OvationErrors")]
struct ErrorsOut {
    errors: Vec<String>,
}

impl ResponseError for Refused {
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

/// The sentences as one error.
fn invalid(sentences: Vec<String>) -> Error {
    let problem = |message| Invalid {
        location: Vec::new(),
        message,
        kind: "value_error".into(),
    };
    Error::Invalid(sentences.into_iter().map(problem).collect())
}

/// What an extractor takes from a request, refused in this surface's shape.
pub struct Taken<T>(T);

impl<T: FromRequest<Error = Failure> + 'static> FromRequest for Taken<T> {
    type Error = Refused;
    type Future = Pin<Box<dyn Future<Output = Result<Taken<T>, Refused>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let taking = T::from_request(request, payload);
        Box::pin(async move { Ok(Taken(taking.await?)) })
    }
}

/// What a body says, as far as it can be read, and what is wrong with it by itself.
#[derive(Default)]
struct Draft {
    target: Option<Target>,
    event: Option<String>,
    username: Option<String>,
    password: Option<String>,
    /// Absent leaves what there is; null and an empty object clear it.
    request_headers: Option<BTreeMap<String, String>>,
    authentication_headers: Option<BTreeMap<String, String>>,
    errors: Vec<String>,
}

impl Draft {
    fn read(body: &Body, context: &Context) -> Draft {
        let mut draft = Draft::default();
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
        // What else a client of Ovation's sends, such as what it has read here, is left alone.
        for name in fields.keys() {
            if let Some(meant) = misspelled(name, FIELDS) {
                errors.push(format!("{name}: {}", not_known("field", Some(meant))));
            }
        }
    }

    /// What the endpoint is to become. Adds to the errors what is wrong beside the catalogue and
    /// what is stored; nothing comes back where there are any.
    fn checked(
        self,
        catalog: &Catalog,
        caller: &Caller,
        flags: &FeatureFlags,
        stored: Option<&Endpoint>,
        config: &Config,
        errors: &mut Vec<String>,
    ) -> Option<Webhook> {
        if let Some(event) = &self.event
            && !may_be_chosen(catalog, caller.organisation, flags, event, stored)
        {
            errors.push("Event not found".to_owned());
        }
        let carried = self.carried(stored, config);
        errors.extend(self.errors);
        let authentication_headers = self.authentication_headers;
        let mut forgotten = stored.cloned();
        let mut kept = Carried::default();
        if caller.keeps_secrets(Action::ReadSecrets) {
            kept = carried;
        } else {
            let names = (
                self.request_headers.is_some(),
                authentication_headers.is_some(),
            );
            errors.extend(carried_problems(&carried, names));
            forgotten.iter_mut().for_each(|one| carried.forget(one));
        }
        let given = self.request_headers;
        let request_headers = given.map(|given| unmasked(given, forgotten.as_ref(), errors));
        let profile = match stored {
            Some(stored) => config.profile(stored.profile.as_deref()),
            None => config.profile(Some(PROFILE)),
        };
        if let Some(headers) = &request_headers {
            check_headers("requestHeaders", headers, profile, config, errors);
        }
        if let Some(headers) = &authentication_headers {
            check_headers("authenticationHeaders", headers, profile, config, errors);
        }
        if request_headers.is_some() || authentication_headers.is_some() {
            let none = BTreeMap::new();
            let stored_ones = stored.map_or((&none, &none), |stored| {
                (&stored.headers, &stored.auth_headers)
            });
            check_together(
                request_headers.as_ref().unwrap_or(stored_ones.0),
                authentication_headers.as_ref().unwrap_or(stored_ones.1),
                config,
                errors,
            );
        }
        if !errors.is_empty() {
            return None;
        }
        Some(Webhook {
            target: self.target?,
            event: self.event?,
            basic_auth: BasicAuth {
                username: self.username?,
                password: self.password?,
            },
            request_headers,
            authentication_headers,
            kept,
        })
    }

    fn carried(&self, stored: Option<&Endpoint>, config: &Config) -> Carried {
        let Some(stored) = stored else {
            return Carried::default();
        };
        let url = self.target.as_ref().map(|target| &target.url);
        let profile = config.profile(stored.profile.as_deref());
        let carried = Carried::of(stored, url, profile, config);
        Carried {
            // A body always has both the user name and the password.
            basic_auth: false,
            ..carried
        }
    }
}

/// A sentence for each secret that may not go along to another origin, unless the body names its kind:
/// request headers and authentication headers.
fn carried_problems(carried: &Carried, named: (bool, bool)) -> Vec<String> {
    let kinds = [
        ("requestHeaders", &carried.headers, named.0),
        ("authenticationHeaders", &carried.auth_headers, named.1),
    ];
    let unnamed = kinds.into_iter().filter(|(.., is_named)| !is_named);
    let mut problems: Vec<String> = unnamed
        .flat_map(|(field, names, _)| {
            names
                .iter()
                .map(move |name| format!("{field}.{name} {ENTER_AGAIN}"))
        })
        .collect();
    if carried.secret {
        let message = "target_url is another receiver, which the profile would send the secret itself: \
                       change it in the native API, with a secret";
        problems.push(message.to_owned());
    }
    problems
}

/// A text that must be there and not be empty.
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

/// An archived event type takes no new filters; an endpoint that has it already keeps it.
fn may_be_chosen(
    catalog: &Catalog,
    organisation: OrganisationId,
    flags: &FeatureFlags,
    event: &str,
    stored: Option<&Endpoint>,
) -> bool {
    let known = catalog.event_type(organisation, event);
    let Some(event_type) = known.filter(|known| flags.show(known)) else {
        return false;
    };
    let before = stored.and_then(|stored| stored.event_types.as_deref());
    let has_it = before.is_some_and(|names| names.iter().any(|name| name == event));
    !event_type.archived || has_it
}

/// Ovation's users know that `requestHeaders` are shown, and have `authenticationHeaders` for what is
/// not to be. A sensitive header that was given in another way keeps its value to itself.
fn is_masked(endpoint: &Endpoint, name: &str) -> bool {
    is_sensitive(name) && !endpoint.open_headers.contains(name)
}

/// The headers with the stored values in place of masks: what was read can be written back.
fn unmasked(
    mut given: BTreeMap<String, String>,
    stored: Option<&Endpoint>,
    errors: &mut Vec<String>,
) -> BTreeMap<String, String> {
    for (name, value) in &mut given {
        if value != MASK || stored.is_none_or(|stored| !is_masked(stored, name)) {
            continue;
        }
        let mut before = stored.iter().flat_map(|stored| &stored.headers);
        match before.find(|(one, _)| one.eq_ignore_ascii_case(name)) {
            Some((_, kept)) => value.clone_from(kept),
            None => errors.push(format!(
                "requestHeaders.{name} has no value yet that {MASK} could stand for"
            )),
        }
    }
    given
}

fn check_headers(
    field: &str,
    headers: &BTreeMap<String, String>,
    profile: Option<&Profile>,
    config: &Config,
    errors: &mut Vec<String>,
) {
    let limits = &config.limits;
    if headers.len() > limits.headers_max {
        let max = limits.headers_max;
        errors.push(format!("{field} may have at most {max} entries"));
        return;
    }
    let mut taken = profile.map(Profile::header_names).unwrap_or_default();
    // What carries the user name and the password.
    taken.push("authorization".to_owned());
    let taken = |name: &str| {
        let is_taken = taken.contains(&name.to_ascii_lowercase());
        is_taken.then_some("is a header that the server sets itself")
    };
    for (name, message) in header_problems(headers, limits.header_value_bytes, taken) {
        errors.push(format!("{field}.{name} {message}"));
    }
}

/// Both kinds go out with the same request.
fn check_together(
    request_headers: &BTreeMap<String, String>,
    authentication_headers: &BTreeMap<String, String>,
    config: &Config,
    errors: &mut Vec<String>,
) {
    let max = config.limits.headers_max;
    if request_headers.len() + authentication_headers.len() > max {
        errors.push(format!(
            "requestHeaders and authenticationHeaders may have at most {max} entries together"
        ));
        return;
    }
    for name in authentication_headers.keys() {
        let mut others = request_headers.keys();
        if others.any(|other| other.eq_ignore_ascii_case(name)) {
            let message = format!("authenticationHeaders.{name} is in requestHeaders, too");
            errors.push(message);
        }
    }
}

/// What an endpoint is to become: right for itself, and beside everything else.
struct Webhook {
    /// What goes along to another origin if it stays as it is.
    kept: Carried,
    target: Target,
    event: String,
    basic_auth: BasicAuth,
    request_headers: Option<BTreeMap<String, String>>,
    authentication_headers: Option<BTreeMap<String, String>>,
}

impl Webhook {
    /// Returns what to beware of.
    fn apply_to(self, endpoint: &mut Endpoint, challenge_at: Option<Timestamp>) -> Vec<String> {
        let before = endpoint.clone();
        self.target.apply_to(endpoint, challenge_at);
        // After the URL: credentials in it give way to those that have a field of their own.
        endpoint.basic_auth = Some(self.basic_auth);
        endpoint.event_types = Some(vec![self.event]);
        if let Some(headers) = self.request_headers {
            endpoint.set_headers(headers, true);
        }
        if let Some(headers) = self.authentication_headers {
            endpoint.auth_headers = headers;
        }
        self.kept.warnings(&before, endpoint)
    }
}

/// A new endpoint, before the caller's body is applied to it.
fn new_endpoint(
    application: &Application,
    number: u64,
    config: &Config,
    now: Timestamp,
) -> Endpoint {
    let form = config
        .profile(Some(PROFILE))
        .map_or(SecretForm::TEXT, Profile::secret_form);
    Endpoint {
        profile: Some(PROFILE.to_owned()),
        // The profile signs nothing; an endpoint that changes to another one has a secret by then.
        secrets: vec![EndpointSecret {
            secret: Secret::generate(
                form.of_kind(config.delivery.default_signature_type),
                rand::random(),
            ),
            expires_at: None,
        }],
        ..blank(application, number, now)
    }
}

/// The project template that the path names, for a caller that may do this with its webhooks.
fn template<'a>(
    caller: &Caller,
    catalog: &'a Catalog,
    id: &str,
    action: Action,
) -> Result<&'a Arc<ApplicationEntry>> {
    let found = caller.application(catalog, id, action);
    found.map_err(|error| match error {
        Error::NotFound(_) => NO_TEMPLATE,
        other => other,
    })
}

/// The template's webhooks that the caller may see.
fn webhooks<'a>(
    caller: &'a Caller,
    catalog: &'a Catalog,
    entry: &'a ApplicationEntry,
) -> impl Iterator<Item = &'a Arc<Endpoint>> {
    let sees = |endpoint: &&Arc<Endpoint>| caller.sees_endpoint(catalog, endpoint);
    entry.endpoints.iter().filter(sees)
}

/// The webhook with this number in its one spelling.
fn webhook<'a>(
    caller: &'a Caller,
    catalog: &'a Catalog,
    entry: &'a ApplicationEntry,
    id: &str,
) -> Result<&'a Arc<Endpoint>> {
    webhooks(caller, catalog, entry)
        .find(|endpoint| endpoint.number.to_string() == id)
        .ok_or(NO_WEBHOOK)
}

/// What was found; that something does not exist is one error among others.
fn noted<T>(found: Result<T>, errors: &mut Vec<String>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error @ Error::NotFound(_)) => {
            errors.push(error.to_string());
            Ok(None)
        }
        Err(other) => Err(other),
    }
}

/// A webhook, without its password and its authentication headers.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "OvationWebhookOut")]
struct WebhookOut<'a> {
    id: u64,
    target_url: &'a str,
    /// Several with commas where it was made elsewhere; null where it takes all.
    event: Option<String>,
    username: Option<&'a str>,
    /// The template's id as the path has it: a number where it is all digits.
    #[schemars(with = "TemplateIdOut")]
    project_requisition_template_association_id: TemplateId<'a>,
    /// Sensitive ones that were given elsewhere have the value `***`.
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
    /// What to beware of after this change; absent where there is nothing.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "OvationAll")]
struct All<T> {
    /// By their numbers.
    webhook_endpoints: Vec<T>,
    /// What reads on, as the parameter `iterator`, where an answer of `limits.page_bytes` has no room
    /// for all; absent where nothing is left.
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

// What bodies look like, for the document: `Draft` reads them by hand.
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
    /// For Basic authentication; without a colon.
    #[schemars(length(min = 1, max = CREDENTIAL_BYTES_MAX))]
    username: String,
    /// For Basic authentication; never shown again.
    #[schemars(length(min = 1, max = CREDENTIAL_BYTES_MAX))]
    password: String,
    /// Sent along with every request. Absent leaves what there is, null clears it.
    #[serde(rename = "requestHeaders")]
    request_headers: Option<BTreeMap<String, String>>,
    /// The same, and never shown again.
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
) -> Result<HttpResponse, Refused> {
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
        let listed = page.answer(
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
) -> Result<HttpResponse, Refused> {
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
) -> Result<HttpResponse, Refused> {
    let draft = Draft::read(&body, &context);
    let template_id = path_part(&request, "template_id").to_owned();
    let action = Action::CreateEndpoints;
    let reached = template(&caller, &context.store.catalog(), &template_id, action).map(|_| ());
    let once = match reached {
        Ok(()) => once(&request, &caller, &body)?,
        // Who does not see the template does not hear that somebody used the key there, or how that was
        // answered: it is told below what is wrong, as without a key.
        Err(Error::NotFound(_)) => None,
        Err(refused) => return Err(refused.into()),
    };
    let config = Arc::clone(&context.config);
    let now = context.store.clock().now();
    let answer = context
        .store
        .change_once(caller, once, move |catalog| {
            let mut errors = Vec::new();
            let entry = noted(
                template(&caller, catalog, &template_id, Action::CreateEndpoints),
                &mut errors,
            )?;
            refuse_unoffered(&caller, &config, &mut errors);
            let checked = draft.checked(catalog, &caller, &flags, None, &config, &mut errors);
            let (Some(entry), Some(webhook)) = (entry, checked) else {
                return Err(invalid(errors));
            };
            refuse_too_many(entry, config.limits.endpoints_per_application_max)?;
            let number = catalog.next_endpoint_number();
            let mut endpoint = new_endpoint(&entry.application, number, &config, now);
            webhook.apply_to(&mut endpoint, config.delivery.challenge_at(now));
            let answer = shown(StatusCode::CREATED, &endpoint, &template_id);
            Ok((caller.creation(catalog, endpoint)?, answer))
        })
        .await?;
    Ok(respond(answer))
}

/// Through a link to the portal only profiles come into being that the operator offers there.
fn refuse_unoffered(caller: &Caller, config: &Config, errors: &mut Vec<String>) {
    let is_session = matches!(caller.credential(), Credential::Session(..));
    let offered = config.offered_profiles(true);
    let is_offered = offered.iter().any(|one| one == PROFILE);
    if is_session && !is_offered && config.delivery.default_profile != PROFILE {
        let offered = offered.join(", ");
        errors.push(format!(
            "webhooks made here have the profile {PROFILE}, and the portal offers {offered}"
        ));
    }
}

fn refuse_too_many(entry: &ApplicationEntry, max: usize) -> Result<()> {
    match entry.endpoints.len() < max {
        true => Ok(()),
        false => Err(Error::TooMany(format!(
            "a Project Template has at most {max} Webhook Endpoints"
        ))),
    }
}

/// Changes what the body has fields for, and leaves the rest: an endpoint that was made elsewhere
/// may have more.
pub async fn put(
    request: HttpRequest,
    Taken(caller): Taken<Caller>,
    Taken(flags): Taken<FeatureFlags>,
    context: web::Data<Context>,
    Taken(body): Taken<Body>,
) -> Result<HttpResponse, Refused> {
    let draft = Draft::read(&body, &context);
    let (template_id, id) = webhook_path(&request);
    let config = Arc::clone(&context.config);
    let now = context.store.clock().now();
    let answer = context
        .store
        .change(caller, move |catalog| {
            let mut errors = Vec::new();
            let stored = match noted(
                template(&caller, catalog, &template_id, Action::ChangeEndpoints),
                &mut errors,
            )? {
                Some(entry) => noted(webhook(&caller, catalog, entry, &id), &mut errors)?,
                None => None,
            };
            let before = stored.map(|stored| &**stored);
            let checked = draft.checked(catalog, &caller, &flags, before, &config, &mut errors);
            let (Some(before), Some(webhook)) = (before, checked) else {
                return Err(invalid(errors));
            };
            let mut endpoint = before.clone();
            let warnings = webhook.apply_to(&mut endpoint, config.delivery.challenge_at(now));
            endpoint.updated_at = now;
            // The document has 201 for this, too.
            let answer = shown_with(StatusCode::CREATED, &endpoint, &template_id, &warnings);
            Ok((vec![Change::PutEndpoint(endpoint)], answer))
        })
        .await?;
    Ok(respond(answer))
}

pub async fn delete(
    request: HttpRequest,
    Taken(caller): Taken<Caller>,
    context: web::Data<Context>,
) -> Result<HttpResponse, Refused> {
    let (template_id, id) = webhook_path(&request);
    let answer = context
        .store
        .change(caller, move |catalog| {
            let found = template(&caller, catalog, &template_id, Action::ChangeEndpoints)
                .and_then(|entry| webhook(&caller, catalog, entry, &id));
            let mut errors = Vec::new();
            let Some(endpoint) = noted(found, &mut errors)? else {
                return Err(invalid(errors));
            };
            let answer = shown(StatusCode::CREATED, endpoint, &template_id);
            let change = Change::DeleteEndpoint(endpoint.application, endpoint.id);
            Ok((vec![change], answer))
        })
        .await?;
    Ok(respond(answer))
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
            let refused = Refused::from(failure);
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
