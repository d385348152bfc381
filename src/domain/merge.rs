//! JSON Merge Patch (RFC 7396) over text: the members that a patch does not name keep their bytes,
//! and so their place, their spacing and their spelling of numbers.
//!
//! Called where fields of an example are replaced for a test. Pure. Both texts are objects in which
//! `payload::problem` finds nothing, which bounds the recursion here. A name that the target has
//! twice is changed in both places; of one that the patch has twice the last counts, as most
//! parsers have it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// `target` with what `patch` says: null removes a member, an object is merged into an object, and
/// anything else takes the member's place. New members come last.
pub fn merged(target: &str, patch: &str) -> serde_json::Result<String> {
    let target = Object::parse(target)?;
    let patch = Object::parse(patch)?.without_repeats();
    let changes: BTreeMap<&str, &Member<'_>> = patch.by_name();
    let names: BTreeSet<String> = target.by_name().into_keys().map(str::to_owned).collect();
    let mut members = Vec::with_capacity(target.members.len());
    let separator = match &target.members[..] {
        [_, .., last] => last.separator,
        _ => ",",
    };
    for member in target.members {
        let value = match changes.get(member.name.as_str()) {
            None => member.value,
            Some(change) if change.is_null() => continue,
            Some(change) if change.is_object() && member.is_object() => {
                merged(&member.value, &change.value)?.into()
            }
            Some(change) => change.new_value()?,
        };
        members.push(Member { value, ..member });
    }
    for member in &patch.members {
        if !member.is_null() && !names.contains(&member.name) {
            members.push(Member {
                separator,
                name: member.name.clone(),
                name_text: member.name_text,
                value: member.new_value()?,
            });
        }
    }
    let merged = Object { members, ..target };
    Ok(merged.text())
}

/// An object as text: `open`, the members with separators between them, `close`.
struct Object<'a> {
    open: &'a str,
    members: Vec<Member<'a>>,
    close: &'a str,
}

struct Member<'a> {
    /// The comma before it, with what space there is; empty for an object's first.
    separator: &'a str,
    name: String,
    /// From the name's quote up to the value.
    name_text: &'a str,
    value: Cow<'a, str>,
}

impl<'a> Object<'a> {
    fn parse(text: &'a str) -> serde_json::Result<Object<'a>> {
        let Pairs(pairs) = serde_json::from_str(text)?;
        let mut members = Vec::with_capacity(pairs.len());
        let mut open = &text[..text.len() - 1];
        let mut behind = 0;
        for (name, value) in pairs {
            // The value is a slice of the text: this is where.
            let at = value.get().as_ptr() as usize - text.as_ptr() as usize;
            let lead = &text[behind..at];
            // No quote stands before the name's own.
            let (separator, name_text) = lead.split_at(lead.find('"').unwrap_or_default());
            let separator = match members.is_empty() {
                true => {
                    open = separator;
                    ""
                }
                false => separator,
            };
            behind = at + value.get().len();
            members.push(Member {
                separator,
                name,
                name_text,
                value: value.get().into(),
            });
        }
        let close = match members.is_empty() {
            true => "}",
            false => &text[behind..],
        };
        Ok(Object {
            open,
            members,
            close,
        })
    }

    fn by_name(&self) -> BTreeMap<&str, &Member<'a>> {
        let named = |member| (Member::name(member), member);
        self.members.iter().map(named).collect()
    }

    /// Of members with the same name, only the last.
    fn without_repeats(mut self) -> Object<'a> {
        let mut seen = BTreeSet::new();
        self.members.reverse();
        self.members
            .retain(|member| seen.insert(member.name.clone()));
        self.members.reverse();
        self
    }

    fn text(&self) -> String {
        let mut text = self.open.to_owned();
        for (place, member) in self.members.iter().enumerate() {
            if place > 0 {
                text.push_str(member.separator);
            }
            text.push_str(member.name_text);
            text.push_str(&member.value);
        }
        text.push_str(self.close);
        text
    }
}

impl<'a> Member<'a> {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_null(&self) -> bool {
        self.value == "null"
    }

    fn is_object(&self) -> bool {
        self.value.starts_with('{')
    }

    /// Returns the value for a patch's member that the target does not have. The nulls inside it
    /// have nothing to remove and are left out.
    fn new_value(&self) -> serde_json::Result<Cow<'a, str>> {
        match self.is_object() {
            true => Ok(without_nulls(&self.value)?.into()),
            false => Ok(self.value.clone()),
        }
    }
}

fn without_nulls(object: &str) -> serde_json::Result<String> {
    let mut object = Object::parse(object)?.without_repeats();
    object.members.retain(|member| !member.is_null());
    for member in &mut object.members {
        member.value = member.new_value()?;
    }
    Ok(object.text())
}

/// An object's members in the order in which they stand, repeated names included.
struct Pairs<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    /// The function of the RFC, over values.
    fn by_the_rfc(target: Value, patch: &Value) -> Value {
        let Value::Object(patch) = patch else {
            return patch.clone();
        };
        let mut object = match target {
            Value::Object(object) => object,
            _ => Map::new(),
        };
        for (name, value) in patch {
            if value.is_null() {
                object.remove(name);
            } else {
                let old = object.remove(name).unwrap_or(Value::Null);
                object.insert(name.clone(), by_the_rfc(old, value));
            }
        }
        Value::Object(object)
    }

    fn value(text: &str) -> Value {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The examples of RFC 7396, appendix A, whose target and patch are objects.
    #[test]
    fn the_examples_of_the_rfc_come_out_as_there() {
        for (target, patch, expected) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, r#"{}"#),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (
                r#"{"a":{"b":"c"}}"#,
                r#"{"a":{"b":"d","c":null}}"#,
                r#"{"a":{"b":"d"}}"#,
            ),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            (r#"{"a":"foo"}"#, r#"{"b":null}"#, r#"{"a":"foo"}"#),
            (
                r#"{}"#,
                r#"{"a":{"bb":{"ccc":null}}}"#,
                r#"{"a":{"bb":{}}}"#,
            ),
        ] {
            assert_eq!(merged(target, patch).unwrap(), expected);
        }
    }

    #[test]
    fn spacing_order_and_spelling_stay() {
        let target = "{ \"b\" : 1.10,\n  \"a\":{\"n\": 12345678901234567890123, \"x\":1e2 } ,\t\"c\":\"\\u00e9\" }";
        for (patch, expected) in [
            ("{}", target.to_owned()),
            (r#"{"b": 1.50}"#, target.replace("1.10", "1.50")),
            (r#"{"a":{"x":0}}"#, target.replace("1e2", "0")),
            (
                r#"{"a":{"n":null}}"#,
                target.replace("\"n\": 12345678901234567890123, ", ""),
            ),
            (r#"{"b":null}"#, target.replace("\"b\" : 1.10,\n  ", "")),
            (r#"{"c":null}"#, target.replace(" ,\t\"c\":\"\\u00e9\"", "")),
            (
                r#"{"d" : [1, null]}"#,
                target.replace("\\u00e9\" }", "\\u00e9\" ,\t\"d\" : [1, null] }"),
            ),
            // The same name, spelled differently.
            (r#"{"\u0062":2}"#, target.replace("1.10", "2")),
            (
                r#"{"b":{ "k": null, "l" : 1.0 }}"#,
                target.replace("1.10", "{ \"l\" : 1.0 }"),
            ),
        ] {
            assert_eq!(merged(target, patch).unwrap(), expected, "{patch}");
        }
    }

    #[test]
    fn a_name_that_stands_twice_is_changed_twice_and_the_last_of_a_patch_counts() {
        for (target, patch, expected) in [
            (
                r#"{"a":1,"b":2,"a":3}"#,
                r#"{"b":4}"#,
                r#"{"a":1,"b":4,"a":3}"#,
            ),
            (
                r#"{"a":1,"b":2,"a":3}"#,
                r#"{"a":4}"#,
                r#"{"a":4,"b":2,"a":4}"#,
            ),
            (r#"{"a":1,"b":2,"a":3}"#, r#"{"a":null}"#, r#"{"b":2}"#),
            (r#"{"a":1}"#, r#"{"a":2,"a":3}"#, r#"{"a":3}"#),
            (r#"{"a":1}"#, r#"{"a":2,"a":null}"#, r#"{}"#),
            (r#"{}"#, r#"{"a":{"b":1,"b":null}}"#, r#"{"a":{}}"#),
            (r#"{ }"#, r#"{"b":2,"b":3}"#, r#"{ "b":3}"#),
        ] {
            assert_eq!(merged(target, patch).unwrap(), expected, "{target} {patch}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert!(merged("{}", "[]").is_err());
        assert!(merged("1", "{}").is_err());
    }

    fn space() -> impl Strategy<Value = String> {
        "[ \\n\\t]{0,2}"
    }

    fn name() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-c]",
            Just("\\u0061".to_owned()),
            Just("\\\"{".to_owned())
        ]
    }

    /// JSON text in many spellings.
    fn any_value() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            "-?[1-9][0-9]{0,2}(\\.[0-9]{1,3}0)?([eE][+-]?[0-2])?",
            "\"[a-z,:}{\u{e9} ]{0,4}\"",
            Just("\"\\\"\\\\\"".to_owned()),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            let item = (space(), inner.clone(), space()).prop_map(|(a, value, b)| a + &value + &b);
            let list = proptest::collection::vec(item, 1..3);
            prop_oneof![
                object_of(inner),
                list.prop_map(|all| format!("[{}]", all.join(",")))
            ]
        })
    }

    fn object_of(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
        let member = (space(), name(), space(), space(), value, space())
            .prop_map(|(a, name, b, c, value, d)| format!("{a}\"{name}\"{b}:{c}{value}{d}"));
        (space(), proptest::collection::vec(member, 0..5)).prop_map(
            |(space, members)| match members.is_empty() {
                true => format!("{{{space}}}"),
                false => format!("{{{}}}", members.join(",")),
            },
        )
    }

    proptest! {
        #[test]
        fn an_empty_patch_changes_no_byte(target in object_of(any_value()), space in space()) {
            prop_assert_eq!(merged(&target, &format!("{{{space}}}")).unwrap(), target);
        }

        #[test]
        fn a_patched_field_leaves_the_text_of_every_other(
            before in proptest::collection::vec((name(), any_value()), 0..4),
            after in proptest::collection::vec((name(), any_value()), 0..4),
            (old, new) in (any_value(), "[1-9][0-9]{0,3}\\.[0-9]0"),
            space in space(),
        ) {
            let text = |value: &str| {
                let field = ("it".to_owned(), value.to_owned());
                let members = before.iter().chain([&field]).chain(&after);
                let members: Vec<String> = members
                    .map(|(name, value)| format!("{space}\"{name}\"{space}:{value}{space}"))
                    .collect();
                format!("{{{}}}", members.join(","))
            };
            let patch = format!("{{\"it\":{new}}}");
            prop_assert_eq!(merged(&text(&old), &patch).unwrap(), text(&new));
        }

        #[test]
        fn the_result_means_what_the_rfc_says(
            target in object_of(any_value()),
            patch in object_of(any_value()),
        ) {
            let expected = by_the_rfc(value(&target), &value(&patch));
            prop_assert_eq!(value(&merged(&target, &patch).unwrap()), expected);
        }
    }
}
