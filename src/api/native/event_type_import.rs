//! Event types from an OpenAPI document: `/api/v1/event-type/import/openapi`.
//!
//! `import_document` reads the document. All of an import is one change.

use actix_web::http::StatusCode;
use actix_web::web;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::event_types::example_bytes_max;
use super::import_document::{Webhook, webhooks};
use crate::api::kit::call::{Call, Reply};
use crate::api::kit::context::Context;
use crate::api::kit::extract::{Body, answered, respond};
use crate::api::kit::operation::Operation;
use crate::domain::event_type::EventType;
use crate::domain::id::OrganisationId;
use crate::error::Result;
use crate::misfit;
use crate::rules::announced::schema_problems;
use crate::rules::caller::Action;
use crate::rules::checks::{Problems, wrong};
use crate::rules::event_types::{Described, ImportEventTypes};

/// The longest body: a document that describes a whole API beside its webhooks.
const BODY_BYTES_MAX: usize = 2 << 20;

/// The deepest nesting of YAML: as deep as JSON is read.
const YAML_DEPTH_MAX: usize = 120;
/// The most events of the parser that all aliases together expand to, and the most uses of one
/// alias.
const YAML_REPLAYED_MAX: usize = 100_000;

/// A document and what to do with it. One of `spec` and `specRaw` is needed.
#[derive(Default, Deserialize, JsonSchema)]
#[schemars(rename = "EventTypeImportOpenApiIn")]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct ImportIn {
    /// Only tell what would be changed.
    #[schemars(with = "bool")]
    dry_run: Option<bool>,
    /// Archive the event types that are not in the document.
    #[schemars(with = "bool")]
    replace_all: Option<bool>,
    /// The document as a JSON object.
    spec: Option<Map<String, Value>>,
    /// The document as text, JSON or YAML.
    spec_raw: Option<String>,
}

/// The result of an import.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "EventTypeImportOpenApiOut")]
struct ImportOut<'a> {
    data: ImportOutData<'a>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "EventTypeImportOpenApiOutData")]
struct ImportOutData<'a> {
    /// The names of the event types that were made, changed or archived.
    modified: Vec<&'a str>,
    /// The event types that would be made or changed, where `dryRun` was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    to_modify: Option<Vec<FromOpenApi<'a>>>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "EventTypeFromOpenApi")]
#[serde(rename_all = "camelCase")]
struct FromOpenApi<'a> {
    name: &'a str,
    description: &'a str,
    deprecated: bool,
    /// The JSON schema, by its version, which is 1.
    schemas: Option<Value>,
    group_name: Option<&'a str>,
    /// The first of the flags, for clients that know only one.
    feature_flag: Option<&'a str>,
    feature_flags: &'a [String],
}

impl<'a> From<&'a Webhook> for FromOpenApi<'a> {
    fn from(webhook: &'a Webhook) -> Self {
        FromOpenApi {
            name: &webhook.name,
            description: &webhook.description,
            deprecated: webhook.deprecated,
            schemas: webhook.schema.as_ref().map(|schema| json!({ "1": schema })),
            group_name: webhook.group_name.as_deref(),
            feature_flag: webhook.feature_flags.first().map(String::as_str),
            feature_flags: &webhook.feature_flags,
        }
    }
}

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::post(
            "/api/v1/event-type/import/openapi",
            "v1.event-type.import-openapi",
            web::to(import),
        )
        .needs(Action::ChangeEventTypes)
        .summary("Import event types from an OpenAPI document")
        .description(
            "Makes an event type of every webhook in `webhooks` or `x-webhooks`, or changes the \
             one of that name and takes it back into use if it is archived. The name is the \
             webhook's key, or its `operationId` where the key cannot be a name. Description, \
             `deprecated`, `x-svix-group-name`, `x-svix-feature-flags`, the request body's schema \
             with all that it refers to, and its first example are taken over. All or nothing is \
             done.",
        )
        .once()
        .takes::<ImportIn>()
        .answers::<ImportOut>(200, "The changes that were made, or would be")
        .body_bytes_max(BODY_BYTES_MAX),
    ]
}

/// Refuses a schema that payloads cannot be checked against, of an event type whose payloads are checked.
fn refuse_unusable_schemas(
    context: &Context,
    organisation: OrganisationId,
    webhooks: &[Webhook],
    problems: &mut Problems,
    place: &[&str],
) {
    for webhook in webhooks {
        let existing = {
            let catalog = context.store.catalog();
            catalog.event_type(organisation, &webhook.name).cloned()
        };
        let Some(existing) = existing.filter(|existing| !existing.validate.is_off()) else {
            continue;
        };
        let schemas = webhook
            .schema
            .as_ref()
            .map(|schema| json!({ "1": schema }).to_string());
        let imported = EventType {
            schemas,
            ..(*existing).clone()
        };
        for problem in schema_problems(&imported) {
            // Without body, schemas and the version.
            let within = problem.location.get(3..).unwrap_or_default().join(".");
            let message = format!(
                "the schema of {}, whose payloads are checked (validate), at {within}: {}",
                webhook.name, problem.message
            );
            problems.add(place, message);
        }
    }
}

async fn import(call: Call, body: Body) -> Reply {
    call.caller.may(Action::ChangeEventTypes)?;
    let once = call.once(&body)?;
    let example_max = example_bytes_max(&call.context);
    let (context, organisation) = (call.context.clone(), call.caller.organisation);
    let read = move || {
        let input = body.json::<ImportIn>()?;
        let (place, document) = document(&input)?;
        let mut problems = Problems::default();
        let place = ["body", place];
        let webhooks = webhooks(&document, &mut problems, &place, example_max);
        refuse_unusable_schemas(&context, organisation, &webhooks, &mut problems, &place);
        problems.done()?;
        Ok((input, webhooks))
    };
    let (input, webhooks) = call.reading(read).await?;
    let replace_all = input.replace_all == Some(true);
    if input.dry_run == Some(true) {
        let data = ImportOutData {
            modified: Vec::new(),
            to_modify: Some(webhooks.iter().map(FromOpenApi::from).collect()),
        };
        return Ok(respond(answered(StatusCode::OK, &ImportOut { data })));
    }
    let command = ImportEventTypes {
        event_types: webhooks.into_iter().map(Webhook::into_described).collect(),
        replace_all,
    };
    let shown = |names: Vec<String>| {
        let data = ImportOutData {
            modified: names.iter().map(String::as_str).collect(),
            to_modify: None,
        };
        answered(StatusCode::OK, &ImportOut { data })
    };
    call.show_once(once, command, shown).await
}

/// Returns the field that the document came in, and the document.
fn document(input: &ImportIn) -> Result<(&'static str, Value)> {
    match (&input.spec, &input.spec_raw) {
        (Some(spec), None) => Ok(("spec", Value::Object(spec.clone()))),
        (None, Some(text)) => parse(text).map(|document| ("specRaw", document)),
        (None, None) => Err(wrong(&["body", "spec"], "or specRaw is required")),
        (Some(_), Some(_)) => {
            let message = "cannot be given together with specRaw";
            Err(wrong(&["body", "spec"], message))
        }
    }
}

fn parse(text: &str) -> Result<Value> {
    let refused = |message: String| {
        let first_line = message.lines().next().unwrap_or_default();
        let short: String = first_line.chars().take(300).collect();
        wrong(&["body", "specRaw"], short)
    };
    if text.trim_ascii_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|error| refused(misfit::not_json(&error)));
    }
    let mut options = serde_saphyr::Options::default();
    if let Some(budget) = &mut options.budget {
        budget.max_depth = YAML_DEPTH_MAX;
    }
    options.alias_limits.max_total_replayed_events = YAML_REPLAYED_MAX;
    // As in YAML 1.2: `on` and `no` are words.
    options.strict_booleans = true;
    options.with_snippet = false;
    serde_saphyr::from_str_with_options(text, options).map_err(|error| refused(error.to_string()))
}

impl Webhook {
    fn into_described(self) -> Described {
        let schemas = self.schema.map(|schema| json!({ "1": schema }).to_string());
        Described {
            name: self.name,
            description: self.description,
            deprecated: self.deprecated,
            feature_flags: self.feature_flags,
            group_name: self.group_name,
            schemas,
            example: self.example.map(|example| example.to_string()),
        }
    }
}
