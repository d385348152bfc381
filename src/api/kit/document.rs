//! The OpenAPI 3.1 document of everything that is served, made of the [`Operation`]s.
//!
//! Made once, at the start. Bodies are described as they are read, answers as they are written. The
//! answers that every operation can give are added here.

use std::collections::{BTreeMap, BTreeSet};

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::error::{InvalidBody, OtherBody};
use super::operation::{AnswerSpec, Content, Operation};

/// The document's sections, in their order.
const TAGS: [(&str, &str); 19] = [
    (
        "application",
        "One customer of yours each: it has endpoints, and messages are published for it.",
    ),
    ("endpoint", "URLs that receive an application's messages."),
    (
        "event-type",
        "Names of what can happen, for people to choose from. Publishing needs none.",
    ),
    (
        "channel",
        "The channels of messages, as the event types list them.",
    ),
    ("message", "Occurrences, as they were published."),
    (
        "message-attempt",
        "Each request that was made for a message, and its outcome.",
    ),
    (
        "profile",
        "The forms of requests, by the operator's settings.",
    ),
    ("token", "Credentials of callers, and what they may see."),
    (
        "background-task",
        "Work that goes on behind an answer, such as sending many messages again.",
    ),
    ("lane", "The queues of endpoints with deliveries that wait."),
    ("status", "The server's state and its current problems."),
    ("statistics", "How much was published."),
    (
        "operational-webhook",
        "Your own endpoints, which receive reports about those of your customers.",
    ),
    (
        "authentication",
        "Links to the portal, and the end of what they and signed tokens allow.",
    ),
    (
        "session",
        "Signing in to the console and the portal in a browser, and who is signed in. Programs use tokens.",
    ),
    (
        "ovation",
        "Ovation's management interface to the same endpoints. Errors have its shape.",
    ),
    (
        "ocrolus",
        "Ocrolus's management interface, where a token of the role application is an account. Errors have its shape.",
    ),
    ("health", "Whether the server works."),
    ("server", "The server itself."),
];

/// The parts of paths, with their descriptions.
const PATH_PARTS: [(&str, &str); 12] = [
    ("app_id", "The application, by its id or uid."),
    (
        "endpoint_id",
        "The endpoint, by its id or, within an application, its uid.",
    ),
    ("msg_id", "The message, by its id or your own `eventId`."),
    ("attempt_id", "The attempt's id."),
    ("event_type_name", "The event type's name."),
    ("profile_name", "The profile's name."),
    ("token_id", "The token's id."),
    (
        "session_id",
        "The session's id; its cookie is another thing.",
    ),
    ("task_id", "The background job's id."),
    (
        "template_id",
        "The project template: an application, by its uid or id.",
    ),
    ("webhook_id", "The webhook's number."),
    ("page", "The section's name."),
];

const ABOUT: &str = "\
A self-hosted webhook sender: it accepts messages, stores them, delivers them to endpoints, and keeps \
a log of every attempt.

Every operation but those that say otherwise needs a credential: `Authorization: Bearer TOKEN`, or \
`Api-Key: TOKEN`. What a caller may not see answers 404; what it may see and not do, 403.

Bodies are JSON in UTF-8. A field that is not known is refused by name, but for the interfaces of \
other systems, where only one is that looks misspelled. Every path works with and without a slash at \
its end.

Lists are read page by page: `iterator` of one page, as the parameter `iterator`, asks for the next, \
`prevIterator` for the one before, until `done`.

An error is `{\"code\", \"detail\"}`; what is wrong with a request is listed in full, with its place, \
as `{\"detail\": [{\"loc\", \"msg\", \"type\"}]}` under the status 422.";

/// The document of these operations.
pub fn document(operations: &[Operation]) -> Value {
    let mut schemas = Schemas::new();
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations {
        let methods = paths.entry(operation.path).or_insert_with(|| json!({}));
        let method = operation.method.as_str().to_ascii_lowercase();
        methods[method] = described(operation, &mut schemas);
    }
    let used: BTreeSet<String> = operations.iter().map(tag).collect();
    let tags: Vec<Value> = TAGS
        .iter()
        .filter(|(name, _)| used.contains(*name))
        .map(|(name, description)| json!({ "name": name, "description": description }))
        .collect();
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "postrider",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": tags,
        "security": [{ "bearer": [] }, { "apiKey": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "apiKey": { "type": "apiKey", "in": "header", "name": "Api-Key" },
            },
        },
    });
    schemas.put_into(&mut document);
    tidy(&mut document);
    document
}

/// The section that an operation belongs to, by its id: `v1.SECTION.verb`, or the contract's older
/// form `patch_SECTION`.
fn tag(operation: &Operation) -> String {
    if let Some(patched) = operation.id.strip_prefix("patch_") {
        return patched.replace('_', "-");
    }
    if operation.id.starts_with("logout_") {
        return "authentication".to_owned();
    }
    let rest = operation.id.strip_prefix("v1.").unwrap_or(operation.id);
    rest.split('.').next().unwrap_or_default().to_owned()
}

/// The schemas by name, in the order in which they come up. A type that is both taken and answered
/// may have two that differ.
struct Schemas {
    taken: SchemaGenerator,
    answered: SchemaGenerator,
}

/// The place of references to bodies, until it is known which names are also answered.
const TAKEN: &str = "#/components/taken/";
const ANSWERED: &str = "#/components/answered/";
const SCHEMAS: &str = "#/components/schemas/";

impl Schemas {
    fn new() -> Schemas {
        let settings = |place: &str| {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.meta_schema = None;
                settings.definitions_path = place
                    .trim_matches('#')
                    .trim_end_matches('/')
                    .to_owned()
                    .into();
            })
        };
        Schemas {
            taken: settings(TAKEN).for_deserialize().into_generator(),
            answered: settings(ANSWERED).for_serialize().into_generator(),
        }
    }

    fn taken(&mut self, content: &Content) -> Value {
        (content.schema)(&mut self.taken).to_value()
    }

    fn answered(&mut self, content: &Content) -> Value {
        (content.schema)(&mut self.answered).to_value()
    }

    /// Puts all schemas under `components`. Where a type is taken and answered with different
    /// schemas, `Out` is appended to the name of the answer's.
    fn put_into(mut self, document: &mut Value) {
        let taken = self.taken.take_definitions(true);
        let answered = self.answered.take_definitions(true);
        let mut differing: BTreeSet<String> = BTreeSet::new();
        loop {
            let new = |renamed: &BTreeSet<String>, name: &str| match renamed.contains(name) {
                true => format!("{SCHEMAS}{name}Out"),
                false => format!("{SCHEMAS}{name}"),
            };
            let mut schemas: BTreeMap<String, Value> = BTreeMap::new();
            for (name, schema) in &taken {
                let mut schema = schema.clone();
                refer(&mut schema, TAKEN, &|name| format!("{SCHEMAS}{name}"));
                schemas.insert(name.clone(), schema);
            }
            let before = differing.len();
            for (name, schema) in &answered {
                let mut schema = schema.clone();
                refer(&mut schema, ANSWERED, &|name| new(&differing, name));
                if differing.contains(name) {
                    schemas.insert(format!("{name}Out"), schema);
                    continue;
                }
                match schemas.get(name) {
                    Some(same) if *same == schema => {}
                    Some(_) => drop(differing.insert(name.clone())),
                    None => drop(schemas.insert(name.clone(), schema)),
                }
            }
            // A schema that refers to a renamed one differs, too.
            if differing.len() > before {
                continue;
            }
            refer(document, TAKEN, &|name| format!("{SCHEMAS}{name}"));
            refer(document, ANSWERED, &|name| new(&differing, name));
            document["components"]["schemas"] = json!(schemas);
            return;
        }
    }
}

/// Makes references that begin with `place` what `new` makes of the name behind it.
fn refer(value: &mut Value, place: &str, new: &dyn Fn(&str) -> String) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value.as_str().and_then(|text| text.strip_prefix(place)) {
                    Some(name) if key == "$ref" => *value = new(name).into(),
                    _ => refer(value, place, new),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| refer(item, place, new)),
        _ => {}
    }
}

/// Removes the parts without a meaning for readers: a default of null, formats that only Rust
/// knows, and the ends of lines within a paragraph.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(text)) = fields.get_mut("description") {
                let paragraphs: Vec<String> = text
                    .split("\n\n")
                    .map(|paragraph| paragraph.replace('\n', " "))
                    .collect();
                *text = paragraphs.join("\n\n");
            }
            fields.retain(|key, value| match key.as_str() {
                "default" => !value.is_null(),
                "format" => !value.as_str().is_some_and(|name| name.starts_with("uint")),
                _ => true,
            });
            fields.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

fn described(operation: &Operation, schemas: &mut Schemas) -> Value {
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [tag(operation)],
        "responses": answers(operation, schemas),
    });
    if !operation.description.is_empty() {
        described["description"] = operation.description.into();
    }
    let parameters = parameters(operation);
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    if !operation.takes.is_empty() {
        let contents = operation.takes.iter();
        let contents: Map<String, Value> = contents
            .map(|content| {
                let schema = schemas.taken(content);
                (content.media_type.to_owned(), json!({ "schema": schema }))
            })
            .collect();
        described["requestBody"] = json!({
            "required": !operation.body_is_optional,
            "content": contents,
        });
    }
    if operation.open {
        described["security"] = json!([]);
    }
    described
}

/// The names in braces in a path.
fn path_parts(path: &str) -> impl Iterator<Item = &str> {
    let parts = path.split('/');
    parts.filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn parameters(operation: &Operation) -> Vec<Value> {
    let in_path = path_parts(operation.path).map(|part| {
        let known = PATH_PARTS.iter().find(|(name, _)| *name == part);
        json!({
            "name": part,
            "in": "path",
            "required": true,
            "description": known.map_or("", |(_, says)| *says),
            "schema": { "type": "string" },
        })
    });
    let others = operation.parameters.iter().map(|parameter| {
        let mut described = json!({
            "name": parameter.name,
            "in": parameter.place,
            "description": parameter.says,
            "schema": parameter.schema,
        });
        if parameter.place == "query" {
            // Every query reads an empty value as an absent one.
            described["allowEmptyValue"] = true.into();
        }
        described
    });
    in_path.chain(others).collect()
}

/// Returns the operation's own answers, and those that every operation can give.
fn answers(operation: &Operation, schemas: &mut Schemas) -> Value {
    let error = operation.errors.unwrap_or_else(Content::json::<OtherBody>);
    let invalid = operation
        .errors
        .unwrap_or_else(Content::json::<InvalidBody>);
    let mut described: Map<String, Value> = Map::new();
    let own = operation.answers.iter();
    let own = own.map(
        |AnswerSpec {
             status,
             says,
             content,
         }| (*status, *says, *content),
    );
    let common = common_errors(operation).into_iter();
    for (status, says, content) in own.chain(common.map(|(status, says)| (status, says, None))) {
        let content = match status {
            422 => content.or(Some(invalid)),
            400.. => content.or(Some(error)),
            _ => content,
        };
        let key = status.to_string();
        if described.contains_key(&key) {
            continue;
        }
        let mut answer = json!({ "description": says });
        if let Some(content) = content {
            let schema = schemas.answered(&content);
            answer["content"] = json!({ content.media_type: { "schema": schema } });
        }
        match status {
            401 => answer["headers"] = header("WWW-Authenticate", "string", "Always `Bearer`."),
            429 => {
                let says = "In how many seconds to try again, where the limit is of a time.";
                answer["headers"] = header("Retry-After", "integer", says);
            }
            503 => {
                let says = "In how many seconds to try again.";
                answer["headers"] = header("Retry-After", "integer", says);
            }
            _ => {}
        }
        described.insert(key, answer);
    }
    described.into()
}

fn header(name: &str, kind: &str, says: &str) -> Value {
    json!({ name: { "description": says, "schema": { "type": kind } } })
}

fn common_errors(operation: &Operation) -> Vec<(u16, &'static str)> {
    let is_once = operation
        .parameters
        .iter()
        .any(|parameter| parameter.name == "idempotency-key");
    let has_body = is_once || !operation.takes.is_empty();
    let is_checked = has_body || !operation.parameters.is_empty() || operation.refuses_before();
    let names_something = path_parts(operation.path).next().is_some();
    let closed = !operation.open;
    [
        (has_body, 400, "The body broke off"),
        (closed, 401, "No credential, or one that is not valid"),
        (closed, 403, "The caller may not do this"),
        (
            closed && names_something,
            404,
            "There is no such thing, or the caller may not see it",
        ),
        (has_body, 408, "The body did not arrive in time"),
        (
            is_once,
            409,
            "The `idempotency-key` was used with another body",
        ),
        (has_body, 413, "The body is too long"),
        (
            is_checked,
            422,
            "Something is wrong with the request: everything, with its place",
        ),
        (
            closed,
            429,
            "A limit has been reached, or no credential is valid and too many were not",
        ),
        (closed, 503, "The server cannot do this now"),
    ]
    .into_iter()
    .filter_map(|(applies, status, says)| applies.then_some((status, says)))
    .collect()
}

#[cfg(test)]
mod tests;
