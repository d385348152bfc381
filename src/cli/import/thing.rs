//! A thing as one server shows it, and as a body for another.
//!
//! Values stay the text that they are, so that schemas keep their order and their numbers.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

use super::super::{Failure, Result};

pub type Raw = Box<RawValue>;
pub type Fields = BTreeMap<String, Raw>;

/// A body's fields by their names, and by those that older servers have for them.
const APPLICATION: [(&str, &str); 4] = [
    ("uid", "uid"),
    ("name", "name"),
    ("metadata", "metadata"),
    ("throttleRate", "rateLimit"),
];

const ENDPOINT: [(&str, &str); 8] = [
    ("uid", "uid"),
    ("url", "url"),
    ("description", "description"),
    ("disabled", "disabled"),
    ("eventTypes", "filterTypes"),
    ("channels", "channels"),
    ("metadata", "metadata"),
    ("throttleRate", "rateLimit"),
];

const EVENT_TYPE: [(&str, &str); 7] = [
    ("description", "description"),
    ("archived", "archived"),
    ("deprecated", "deprecated"),
    ("schemas", "schemas"),
    ("featureFlags", "featureFlags"),
    ("featureFlag", "featureFlag"),
    ("groupName", "groupName"),
];

pub fn application(found: &Fields) -> Fields {
    body(found, &APPLICATION)
}

pub fn endpoint(found: &Fields) -> Fields {
    body(found, &ENDPOINT)
}

pub fn event_type(found: &Fields) -> Fields {
    let mut body = body(found, &EVENT_TYPE);
    if body.contains_key("featureFlags") {
        // A server that knows both shows both, and takes one.
        body.remove("featureFlag");
    }
    body
}

/// A body of these fields. Those that are null or absent are left out.
fn body(found: &Fields, names: &[(&str, &str)]) -> Fields {
    let given = |name: &str| found.get(name).filter(|value| value.get() != "null");
    names
        .iter()
        .filter_map(|(name, older)| {
            let value = given(name).or_else(|| given(older))?;
            Some(((*name).to_owned(), value.clone()))
        })
        .collect()
}

pub fn raw(value: &Value) -> Raw {
    RawValue::from_string(value.to_string()).expect("a JSON value spells JSON")
}

pub fn text(found: &Fields, field: &str) -> Result<String> {
    let value = found.get(field).map_or("null", |value| value.get());
    serde_json::from_str(value)
        .map_err(|_| Failure::failed(format!("source: an item of a list has no {field}")))
}

/// A thing's name in messages: its uid, or else its id.
pub fn shown_name(found: &Fields) -> String {
    let name = text(found, "uid").or_else(|_| text(found, "id"));
    name.unwrap_or_default()
}

/// The prefix of a symmetric secret may be left out.
pub fn is_same_secret(shown: &Value, secret: &RawValue) -> bool {
    let secret = serde_json::from_str::<String>(secret.get()).unwrap_or_default();
    let shown = shown.as_str().unwrap_or_default();
    let bare = |text: &str| text.strip_prefix("whsec_").unwrap_or(text).to_owned();
    bare(shown) == bare(&secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Fields {
        serde_json::from_str(text).unwrap()
    }

    fn spelled(fields: &Fields) -> String {
        serde_json::to_string(fields).unwrap()
    }

    #[test]
    fn bodies_have_what_is_shown_by_the_newest_names() {
        let shown = fields(
            r#"{"id":"ep_1","url":"http://a.test","rateLimit":3,"uid":null,"filterTypes":["a"],
                "createdAt":"x","channels":null,"disabled":true,"secret":"no"}"#,
        );
        let expected =
            r#"{"disabled":true,"eventTypes":["a"],"throttleRate":3,"url":"http://a.test"}"#;
        assert_eq!(spelled(&endpoint(&shown)), expected);
        let shown = fields(r#"{"name":"a","throttleRate":1,"rateLimit":2}"#);
        let expected = r#"{"name":"a","throttleRate":1}"#;
        assert_eq!(spelled(&application(&shown)), expected);
    }

    #[test]
    fn schemas_stay_as_they_are_spelled_and_one_kind_of_flags_is_sent() {
        let shown = fields(
            r#"{"name":"a","schemas":{"1": {"b":1.10,"a":1}},"featureFlag":"f","featureFlags":["f"]}"#,
        );
        assert_eq!(
            spelled(&event_type(&shown)),
            r#"{"featureFlags":["f"],"schemas":{"1": {"b":1.10,"a":1}}}"#
        );
        let older = fields(r#"{"featureFlag":"f","featureFlags":null}"#);
        assert_eq!(spelled(&event_type(&older)), r#"{"featureFlag":"f"}"#);
    }

    #[test]
    fn secrets_are_the_same_with_and_without_their_prefix() {
        let secret = raw(&Value::from("whsec_AAAA"));
        assert!(is_same_secret(&Value::from("AAAA"), &secret));
        assert!(!is_same_secret(&Value::from("whsec_BBBB"), &secret));
        assert!(!is_same_secret(&Value::Null, &secret));
    }
}
