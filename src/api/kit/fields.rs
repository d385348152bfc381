//! Refuses names in a body that its type does not have, by name.
//!
//! The known names are those of the type's own schema, nested objects too, so there is no second
//! list to keep. Types refuse what they do not know while they are parsed (`deny_unknown_fields`),
//! which costs nothing; only a body that was refused is looked through here, for all such names.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::error::{Invalid, Result};
use crate::misfit::{Step, misspelled, not_known};
use crate::rules::checks::{PROBLEMS_MAX, refuse_given_id};

/// Fields that promise something which postrider does not do, by the name of the body's schema. An
/// answer that ignored one would be taken for the promise.
const NOT_OFFERED: [(&str, &str, &str); 4] = [
    ("EndpointPatch", "ordered", "delivery in order"),
    ("MessageIn", "orderingKey", "delivery in order"),
    ("BulkReplayIn", "dryRun", "trying a replay without sending"),
    ("ReplayIn", "dryRun", "trying a replay without sending"),
];

/// Fields of answers that nobody can set.
const SERVERS_OWN: [&str; 4] = ["id", "createdAt", "updatedAt", "version"];

/// A field of answers that nobody can set, in a body. It is accepted and ignored, so that an answer
/// can be sent back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShownField {
    is_given: bool,
}

impl ShownField {
    /// Refuses an id where something is made: the thing would get another one.
    pub fn refuse(self, place: &[&str]) -> Result<()> {
        refuse_given_id(self.is_given, place)
    }

    pub fn is_given(self) -> bool {
        self.is_given
    }
}

impl<'de> Deserialize<'de> for ShownField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ShownField, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| ShownField { is_given: true })
    }
}

impl JsonSchema for ShownField {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Shown".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Without effect: what an answer shows can be sent back.",
            "x-without-effect": "The server sets it, and answers show it. Clients that read, change \
                                 and write back send it; older SDKs send `version`.",
        })
    }
}

/// The least and the most that the schema of `T` allows for the number at this place.
pub fn bounds<T: JsonSchema>(place: &[Step]) -> (Option<i64>, Option<u64>) {
    let root = schema::<T>();
    let mut here = &root;
    for step in place {
        let below = match step {
            Step::Key(key) => part(here, "properties").and_then(|fields| fields.get(key)),
            Step::Index(_) => part(here, "items"),
        };
        let Some(below) = below else {
            return (None, None);
        };
        here = below;
    }
    (
        part(here, "minimum").and_then(Value::as_i64),
        part(here, "maximum").and_then(Value::as_u64),
    )
}

/// A part of a schema, or of the one that it is instead of null.
fn part<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    let choices = ["anyOf", "oneOf"].into_iter();
    let mut choices = choices
        .filter_map(|choice| schema.get(choice)?.as_array())
        .flatten();
    let own = schema.get(name);
    own.or_else(|| choices.find_map(|choice| choice.get(name)))
}

fn schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().for_deserialize();
    let generator = settings.with(|settings| settings.inline_subschemas = true);
    Schema::to_value(generator.into_generator().into_root_schema_for::<T>())
}

/// How strictly the names in a body are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// Every name must be known.
    Known,
    /// A surface whose clients may send what its document does not have: only a name that looks
    /// like a misspelled one is refused.
    NotMisspelled,
}

/// Returns every name in the JSON `text` that `T` has no field for, with its place in `body`.
pub fn unknown<T: JsonSchema>(text: &str, names: Names) -> Vec<Invalid> {
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        return Vec::new();
    };
    let mut search = Search {
        schema_name: T::schema_name().into_owned(),
        names,
        place: Vec::new(),
        found: Vec::new(),
    };
    search.look(&value, &schema::<T>());
    search.found
}

struct Search {
    schema_name: String,
    names: Names,
    /// The place of the current value.
    place: Vec<String>,
    found: Vec<Invalid>,
}

impl Search {
    fn look(&mut self, value: &Value, schema: &Value) {
        match value {
            Value::Object(object) => self.look_into(object, schema),
            Value::Array(items) => {
                if let Some(schema) = schema.get("items") {
                    for (index, item) in items.iter().enumerate() {
                        self.below(&index.to_string(), |search| search.look(item, schema));
                    }
                }
            }
            _ => {}
        }
    }

    fn look_into(&mut self, object: &Map<String, Value>, schema: &Value) {
        let Some(fields) = schema.get("properties").and_then(Value::as_object) else {
            // Something or null.
            let choices = ["anyOf", "oneOf"].into_iter();
            let mut choices = choices
                .filter_map(|name| schema.get(name)?.as_array())
                .flatten();
            if let Some(choice) = choices.find(|choice| choice.get("properties").is_some()) {
                self.look_into(object, choice);
            }
            return;
        };
        for (name, value) in object {
            if self.found.len() == PROBLEMS_MAX {
                return;
            }
            match fields.get(name) {
                Some(schema) => self.below(name, |search| search.look(value, schema)),
                None => self.note(name, fields),
            }
        }
    }

    fn below(&mut self, name: &str, look: impl FnOnce(&mut Search)) {
        self.place.push(name.to_owned());
        look(self);
        self.place.pop();
    }

    fn note(&mut self, name: &str, fields: &Map<String, Value>) {
        let meant = misspelled(name, fields.keys().map(String::as_str));
        if self.names == Names::NotMisspelled && meant.is_none() {
            return;
        }
        let offered_elsewhere = NOT_OFFERED
            .iter()
            .find(|(body, field, _)| {
                self.place.is_empty() && *body == self.schema_name && *field == name
            })
            .map(|(.., what)| what);
        let (message, kind) = match offered_elsewhere {
            Some(what) => (format!("postrider does not offer {what}"), "not_offered"),
            None if SERVERS_OWN.contains(&name) => {
                let message = "is set by the server and cannot be sent";
                (message.to_owned(), "value_error.extra")
            }
            None => (not_known("field", meant), "value_error.extra"),
        };
        let place = ["body"]
            .into_iter()
            .chain(self.place.iter().map(String::as_str));
        self.found.push(Invalid {
            location: place.chain([name]).map(str::to_owned).collect(),
            message,
            kind: kind.into(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "camelCase", default, deny_unknown_fields)]
    #[derive(Default)]
    #[allow(dead_code, reason = "only its schema is used")]
    struct Outer {
        throttle_rate: Option<u16>,
        inner: Option<Inner>,
        list: Vec<Inner>,
        open: Option<BTreeMap<String, Value>>,
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only its schema is used")]
    struct Inner {
        name: String,
    }

    fn found(text: &str, names: Names) -> Vec<(String, String)> {
        let found = unknown::<Outer>(text, names).into_iter();
        found
            .map(|one| (one.location.join("."), one.message))
            .collect()
    }

    #[test]
    fn unknown_names_are_found_wherever_they_stand() {
        let text = r#"{"trottleRate":1,"inner":{"name":"n","nmae":1},"list":[{"name":"n"},
                       {"zip":1}],"open":{"anything":{"goes":1}},"id":"x","surprise":null}"#;
        let expected = [
            ("body.id", "is set by the server and cannot be sent"),
            (
                "body.inner.nmae",
                "there is no such field here; did you mean name?",
            ),
            ("body.list.1.zip", "there is no such field here"),
            ("body.surprise", "there is no such field here"),
            (
                "body.trottleRate",
                "there is no such field here; did you mean throttleRate?",
            ),
        ];
        let expected = expected.map(|(place, message)| (place.to_owned(), message.to_owned()));
        assert_eq!(found(text, Names::Known), expected);
        let misspelled = [expected[1].clone(), expected[4].clone()];
        assert_eq!(found(text, Names::NotMisspelled), misspelled);
        let many: Vec<String> = (0..200).map(|n| format!("\"x{n}\":1")).collect();
        let many = format!("{{{}}}", many.join(","));
        assert_eq!(found(&many, Names::Known).len(), PROBLEMS_MAX);
    }
}
