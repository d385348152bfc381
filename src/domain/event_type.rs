//! An event type: the dotted name of something that can happen, such as `invoice.paid`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::id::{DOTS, OrganisationId, is_dots};
use crate::clock::Timestamp;

/// The longest name of an event type, and of other names with the same rule, in bytes.
pub const NAME_MAX: usize = 256;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventType {
    pub organisation: OrganisationId,
    pub name: String,
    pub description: String,
    /// An archived event type takes no new messages and no new filters.
    pub archived: bool,
    pub deprecated: bool,
    /// Portal sessions see it where they have one of these flags; everybody where there are none.
    pub feature_flags: Vec<String>,
    /// JSON text of the object that maps a version to a JSON schema.
    pub schemas: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// JSON text of a payload as it would be published: what tests send.
    pub example: Option<String>,
    /// The channels that messages of this type are published in, such as kinds of entities. Forms
    /// offer them; no message is refused because of them.
    pub channels: Option<Vec<String>>,
    /// The group under which lists show it.
    pub group_name: Option<String>,
    /// What becomes of a message whose payload does not fit its newest schema.
    #[serde(default, skip_serializing_if = "Strictness::is_off")]
    pub validate: Strictness,
}

/// What becomes of a message that is not as it was announced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Strictness {
    /// It is accepted.
    #[default]
    Off,
    /// It is accepted, and the answer says so.
    Warn,
    /// It is refused.
    Reject,
}

impl Strictness {
    pub fn is_off(&self) -> bool {
        *self == Strictness::Off
    }
}

impl EventType {
    /// JSON text of a payload to try an endpoint out with: `example`, else the first of the
    /// `examples` in the newest version's schema.
    pub fn example(&self) -> Option<&str> {
        self.example_at(0)
    }

    /// Like [`EventType::example`], with the schema's example at this index, counted from 0. An
    /// `example` of its own is returned whatever the index is.
    pub fn example_at(&self, index: usize) -> Option<&str> {
        self.example.as_deref().or_else(|| {
            let (_, newest) = self.newest_schema()?;
            schema_example(newest, index)
        })
    }

    /// The newest version among its schemas and that schema's JSON text.
    pub fn newest_schema(&self) -> Option<(String, &str)> {
        let schemas: BTreeMap<String, &RawValue> =
            serde_json::from_str(self.schemas.as_deref()?).ok()?;
        let newest = schemas
            .into_iter()
            .max_by(|(one, _), (other, _)| age(one).cmp(&age(other)))?;
        Some((newest.0, newest.1.get()))
    }
}

/// Sorts versions by their numbers, so that 10 comes after 9 and 1.10 after 1.9.
fn age(version: &str) -> (Vec<Option<u64>>, &str) {
    let numbers = version.strip_prefix('v').unwrap_or(version).split('.');
    (numbers.map(|part| part.parse().ok()).collect(), version)
}

/// One of a schema's examples, where that is an object.
fn schema_example(schema: &str, index: usize) -> Option<&str> {
    #[derive(Deserialize)]
    struct Schema<'a> {
        #[serde(borrow)]
        examples: Vec<&'a RawValue>,
    }
    let schema: Schema<'_> = serde_json::from_str(schema).ok()?;
    let example = schema.examples.get(index)?.get();
    example.starts_with('{').then_some(example)
}

/// The rule for names of event types and channels: 1 to `max` of `a-z A-Z 0-9 - _ .`.
pub fn name_problem(text: &str, max: usize) -> Option<String> {
    if text.is_empty() || text.len() > max {
        return Some(format!("must have 1 to {max} characters"));
    }
    if !text.bytes().all(|byte| byte == b'.' || is_in_names(byte)) {
        return Some("may contain only letters, digits, '-', '_' and '.'".to_owned());
    }
    None
}

/// Whether a segment of a name may have this byte.
pub fn is_in_names(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_".contains(&byte)
}

/// The rule for names of event types that are registered, and so stand in paths.
pub fn registered_name_problem(text: &str) -> Option<String> {
    let dots = || is_dots(text).then(|| DOTS.to_owned());
    name_problem(text, NAME_MAX).or_else(dots)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event_type(example: Option<&str>, schemas: Option<&str>) -> EventType {
        EventType {
            organisation: OrganisationId([1; 20]),
            name: "a.b".to_owned(),
            description: String::new(),
            archived: false,
            deprecated: false,
            feature_flags: Vec::new(),
            schemas: schemas.map(str::to_owned),
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
            example: example.map(str::to_owned),
            channels: None,
            group_name: None,
            validate: Strictness::Off,
        }
    }

    fn example_of(example: Option<&str>, schemas: Option<&str>) -> Option<String> {
        event_type(example, schemas).example().map(str::to_owned)
    }

    #[test]
    fn an_index_chooses_among_the_examples_of_a_schema() {
        let at = |example: Option<&str>, index| {
            let event_type = event_type(example, Some(r#"{"1":{"examples":[{"a":0},{"a":1}]}}"#));
            event_type.example_at(index).map(str::to_owned)
        };
        assert_eq!(at(None, 0).as_deref(), Some(r#"{"a":0}"#));
        assert_eq!(at(None, 1).as_deref(), Some(r#"{"a":1}"#));
        assert_eq!(at(None, 2), None);
        assert_eq!(at(Some("{}"), 2).as_deref(), Some("{}"));
    }

    #[test]
    fn the_example_is_the_own_one_or_the_first_of_the_newest_schema() {
        for (example, schemas, expected) in [
            (None, None, None),
            (Some(r#"{"a": 1.0}"#), None, Some(r#"{"a": 1.0}"#)),
            (
                Some(r#"{"a":1}"#),
                Some(r#"{"1":{"examples":[{"b":2}]}}"#),
                Some(r#"{"a":1}"#),
            ),
            (
                None,
                Some(r#"{"1":{"title":"t","examples":[ {"b" : 2.0}, {"c":3}]}}"#),
                Some(r#"{"b" : 2.0}"#),
            ),
            (
                None,
                Some(r#"{"9":{"examples":[{"v":9}]},"10":{"examples":[{"v":10}]}}"#),
                Some(r#"{"v":10}"#),
            ),
            (
                None,
                Some(r#"{"v1.10":{"examples":[{"v":2}]},"v1.9":{"examples":[{"v":1}]}}"#),
                Some(r#"{"v":2}"#),
            ),
            (
                None,
                Some(r#"{"draft":{"examples":[{"v":0}]},"1":{"examples":[{"v":1}]}}"#),
                Some(r#"{"v":1}"#),
            ),
            // An older version's example would not fit.
            (None, Some(r#"{"1":{"examples":[{"v":1}]},"2":{}}"#), None),
            (None, Some(r#"{"1":{"examples":[]}}"#), None),
            (None, Some(r#"{"1":{"examples":["text",{"v":1}]}}"#), None),
            (None, Some(r#"{"1":{"examples":{"v":1}}}"#), None),
            (None, Some("{}"), None),
        ] {
            let found = example_of(example, schemas);
            assert_eq!(found.as_deref(), expected, "{example:?} {schemas:?}");
        }
    }
}
