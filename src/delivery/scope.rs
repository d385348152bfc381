//! The names that templates may use: message, endpoint, attempt, time, payload, body.
//!
//! A [`TemplateScope`] is made by `profile` for an attempt, for an example, or from values that somebody
//! found in a captured request ([`TemplateScope::of_bindings`]). Nothing in it is built before a template
//! asks for it, and no secret can be asked for. The names are those that `config.toml` documents.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use actix_web::web::Bytes;
use minijinja::value::{Enumerator, Object, ObjectRepr};
use minijinja::{Error, Value};

use super::payload;
use super::toll::Toll;
use crate::clock::Timestamp;
use crate::domain::endpoint::Endpoint;
use crate::domain::message::Message;

/// Everything that a template may name, but for its own variables and the functions.
pub const VARIABLES: [&str; 8] = [
    "message",
    "endpoint",
    "attempt",
    "timestamp",
    "payload",
    "server",
    "body",
    "signature",
];

const MESSAGE: &[&str] = &[
    "id",
    "event_type",
    "event_id",
    "channels",
    "accepted_at",
    "application",
    "metadata",
];
const ENDPOINT: &[&str] = &["url", "id", "uid", "number", "metadata"];
const ATTEMPT: &[&str] = &["number"];
const SERVER: &[&str] = &["url"];

/// What it costs to make the value of a field anew, in bytes of the toll; for each entry where it has some.
const FIELD_TOLL: usize = 256;

/// The fields of a variable; none where it has no fields, or where the publisher chose them.
pub fn fields(variable: &str) -> Option<&'static [&'static str]> {
    match variable {
        "message" => Some(MESSAGE),
        "endpoint" => Some(ENDPOINT),
        "attempt" => Some(ATTEMPT),
        "server" => Some(SERVER),
        _ => None,
    }
}

/// The values of one rendering. Cheap to clone and to extend; a payload is parsed once for all.
#[derive(Clone)]
pub struct TemplateScope {
    facts: Value,
    body: Option<Bytes>,
    signature: Option<Value>,
}

/// The parts of an attempt.
pub struct ScopedAttempt {
    pub message: Arc<Message>,
    pub endpoint: Arc<Endpoint>,
    /// 1 for the first.
    pub number: u32,
    pub now: Timestamp,
    /// The address of this server, without a slash at its end.
    pub server_url: Arc<str>,
}

impl TemplateScope {
    pub fn of_attempt(attempt: ScopedAttempt) -> TemplateScope {
        TemplateScope::of_facts(Facts {
            attempt,
            payload: OnceLock::new(),
        })
    }

    /// In which every field of the payload has a text: its own, or an example.
    pub fn of_example(attempt: ScopedAttempt) -> TemplateScope {
        let known = payload::value(&Bytes::from(attempt.message.payload.clone()));
        TemplateScope::of_facts(Facts {
            attempt,
            payload: OnceLock::from(Value::from_object(Example { known })),
        })
    }

    /// A scope from texts by their names (`message.id`, `timestamp`, `payload.invoice.id`). They are found
    /// in a captured request, where a template wrote them literally. Fields of the payload that are not
    /// among them are looked up in `payload`, where there is one.
    pub fn of_bindings(
        bindings: BTreeMap<String, String>,
        payload: Option<&Bytes>,
    ) -> TemplateScope {
        TemplateScope {
            facts: Value::from_object(Bound {
                texts: Arc::new(bindings),
                path: String::new(),
                below: payload.map(payload::value),
            }),
            body: None,
            signature: None,
        }
    }

    fn of_facts(facts: Facts) -> TemplateScope {
        TemplateScope {
            facts: Value::from_object(facts),
            body: None,
            signature: None,
        }
    }

    /// With the body as it is sent.
    pub fn with_body(&self, body: Bytes) -> TemplateScope {
        TemplateScope {
            body: Some(body),
            ..self.clone()
        }
    }

    pub fn with_signature(&self, signature: &str) -> TemplateScope {
        TemplateScope {
            signature: Some(Value::from(signature)),
            ..self.clone()
        }
    }

    /// The value of a template's name, such as `payload.invoice.id`. Undefined where there is none, and an
    /// error where a further part of the name follows an undefined one.
    pub fn lookup(&self, name: &str) -> Result<Value, Error> {
        let mut words = name.split('.');
        let variable = words.next().and_then(|variable| self.field(variable));
        words.try_fold(variable.unwrap_or_default(), |value, word| {
            value.get_attr(word)
        })
    }

    /// The scope as a template's context.
    pub fn value(&self) -> Value {
        Value::from_object(self.clone())
    }
}

/// An object with named fields, which templates cannot enumerate.
macro_rules! named_fields {
    ($type:ty, $fields:expr) => {
        impl Object for $type {
            fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
                self.field(key.as_str()?)
            }

            fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
                self.field(key)
            }

            fn enumerate(self: &Arc<Self>) -> Enumerator {
                Enumerator::Str($fields)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($type))
            }
        }
    };
}

impl TemplateScope {
    fn field(&self, name: &str) -> Option<Value> {
        match name {
            "body" => Some(Value::from_object(Body(self.body.clone()?))),
            "signature" => self.signature.clone(),
            _ => self.facts.as_object()?.get_value_by_str(name),
        }
    }
}

named_fields!(TemplateScope, &VARIABLES);

struct Facts {
    attempt: ScopedAttempt,
    payload: OnceLock<Value>,
}

impl Facts {
    fn field(self: &Arc<Self>, name: &str) -> Option<Value> {
        let attempt = &self.attempt;
        Some(match name {
            "message" => Value::from_object(MessageFacts(self.clone())),
            "endpoint" => Value::from_object(EndpointFacts(self.clone())),
            "attempt" => Value::from_object(AttemptFacts(self.clone())),
            "server" => Value::from_object(ServerFacts(self.clone())),
            "timestamp" => Value::from(attempt.now.as_seconds()),
            "payload" => {
                let message = &attempt.message;
                let parse = || match message.json() {
                    Some(json) => {
                        let published = Bytes::from(message.payload.clone());
                        payload::value(&published.slice_ref(json))
                    }
                    None => Value::UNDEFINED,
                };
                self.payload.get_or_init(parse).clone()
            }
            _ => return None,
        })
    }
}

named_fields!(Facts, &VARIABLES);

struct MessageFacts(Arc<Facts>);

impl MessageFacts {
    fn field(&self, name: &str) -> Option<Value> {
        let message = &self.0.attempt.message;
        Toll::pay(FIELD_TOLL * (1 + message.channels.len() * usize::from(name == "channels")));
        Some(match name {
            "application" => Value::from(message.application.to_string()),
            "id" => Value::from(message.id.to_string()),
            "event_type" => Value::from(&message.event_type),
            "event_id" => message
                .event_id
                .as_deref()
                .map_or(Value::from(()), Value::from),
            "channels" => message.channels.iter().map(Value::from).collect(),
            "accepted_at" => Value::from(message.accepted_at.to_string()),
            "metadata" => {
                let pairs = message.metadata.iter();
                Value::from_pairs(pairs.map(|(name, text)| (name.as_str(), text.as_str())))
            }
            _ => return None,
        })
    }
}

named_fields!(MessageFacts, MESSAGE);

struct EndpointFacts(Arc<Facts>);

impl EndpointFacts {
    fn field(&self, name: &str) -> Option<Value> {
        let endpoint = &self.0.attempt.endpoint;
        Toll::pay(FIELD_TOLL * (1 + endpoint.metadata.len() * usize::from(name == "metadata")));
        Some(match name {
            "url" => Value::from(&endpoint.url),
            "id" => Value::from(endpoint.id.to_string()),
            "uid" => endpoint.uid.as_deref().map_or(Value::from(()), Value::from),
            "number" => Value::from(endpoint.number),
            "metadata" => {
                let pairs = endpoint.metadata.iter();
                Value::from_pairs(pairs.map(|(name, text)| (name.as_str(), text.as_str())))
            }
            _ => return None,
        })
    }
}

named_fields!(EndpointFacts, ENDPOINT);

struct AttemptFacts(Arc<Facts>);

impl AttemptFacts {
    fn field(&self, name: &str) -> Option<Value> {
        (name == "number").then(|| Value::from(self.0.attempt.number))
    }
}

named_fields!(AttemptFacts, ATTEMPT);

struct ServerFacts(Arc<Facts>);

impl ServerFacts {
    fn field(&self, name: &str) -> Option<Value> {
        (name == "url").then(|| Value::from(&*self.0.attempt.server_url))
    }
}

named_fields!(ServerFacts, SERVER);

/// The body as it is sent; printed without a copy.
pub struct Body(Bytes);

impl Body {
    /// None where it is not text.
    pub fn text(&self) -> Option<&str> {
        if !Toll::pay(self.0.len()) {
            return Some("");
        }
        std::str::from_utf8(&self.0).ok()
    }
}

impl Object for Body {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().unwrap_or_default())
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Body(…)")
    }
}

/// A part of an example's payload: its value where that is known, else an example.
pub struct Example {
    known: Value,
}

/// Stands for a field of a payload that nobody knows.
pub const EXAMPLE: &str = "example";

impl Example {
    pub fn value(&self) -> Value {
        match self.known.is_undefined() {
            true => Value::from(EXAMPLE),
            false => self.known.clone(),
        }
    }
}

impl Object for Example {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let known = self.known.get_item(key).unwrap_or_default();
        Some(Value::from_object(Example { known }))
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.value())
    }
}

impl fmt::Debug for Example {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXAMPLE)
    }
}

/// A node of a tree whose leaves were bound to texts.
struct Bound {
    texts: Arc<BTreeMap<String, String>>,
    /// Its path with a point behind; empty at the root.
    path: String,
    /// At the root the payload, below `payload` its value at that place.
    below: Option<Value>,
}

impl Bound {
    fn field(&self, name: &str) -> Option<Value> {
        let path = format!("{}{name}", self.path);
        if let Some(text) = self.texts.get(&path) {
            return Some(Value::from(text));
        }
        let below = match (self.path.as_str(), name) {
            ("", "payload") => self.below.clone(),
            ("", _) => None,
            _ => {
                let below = self.below.as_ref();
                below.and_then(|below| below.get_attr(name).ok())
            }
        };
        let below = below.filter(|below| !below.is_undefined());
        let path = format!("{path}.");
        let mut after = self.texts.range(path.clone()..);
        match after
            .next()
            .is_some_and(|(text, _)| text.starts_with(&path))
        {
            true => Some(Value::from_object(Bound {
                texts: self.texts.clone(),
                path,
                below,
            })),
            false => below,
        }
    }
}

named_fields!(Bound, &[]);

#[cfg(test)]
mod tests {
    use super::super::escape::Escape;
    use super::super::template::Template;
    use super::*;

    fn rendered(scope: &TemplateScope, source: &str) -> Result<String, String> {
        let template = Template::compile(source, Escape::Text, 1024)?;
        let rendered = template.render(scope, 1024);
        rendered.map_err(|fault| fault.to_string())
    }

    #[test]
    fn what_was_found_in_a_request_is_bound_by_its_path() {
        let bindings = [
            ("message.id", "msg_1"),
            ("timestamp", "1614265330"),
            ("payload.entityId", "25"),
            ("payload.deep.er", "x"),
        ];
        let bindings: BTreeMap<String, String> = bindings
            .into_iter()
            .map(|(path, text)| (path.to_owned(), text.to_owned()))
            .collect();
        let body = Bytes::from_static(br#"{"entityId": 26, "kind": "A", "deep": {"other": 1.10}}"#);
        let without_body = TemplateScope::of_bindings(bindings.clone(), None);
        let with_body = TemplateScope::of_bindings(bindings, Some(&body)).with_body(body.clone());
        let source =
            "{{ timestamp }}.{{ message.id }}:{{ payload.entityId }}:{{ payload.deep.er }}";
        for scope in [&without_body, &with_body] {
            let expected = "1614265330.msg_1:25:x";
            assert_eq!(rendered(scope, source).as_deref(), Ok(expected));
        }
        let source = "{{ payload.kind }} {{ payload.deep.other }} {{ body }}";
        let expected = format!("A 1.10 {}", std::str::from_utf8(&body).unwrap());
        assert_eq!(rendered(&with_body, source), Ok(expected));
        for missing in [
            "payload.kind",
            "payload.deep.other",
            "body",
            "message.event_type",
            "attempt",
        ] {
            let fault = rendered(&without_body, &format!("{{{{ {missing} }}}}")).unwrap_err();
            assert_eq!(fault, format!("`{missing}` is undefined"));
        }
    }
}
