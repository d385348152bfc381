//! The published payload as templates see it: parsed where it is looked into, and no further.
//!
//! `scope` makes a value of a message's payload when a template first names it. An object or a list
//! is a [`Json`], which keeps its published text and learns of its members at the first look;
//! nothing else of the payload is parsed. Values that would be changed by taking them apart are
//! passed on as published: an object or a list in a JSON body, and a number such as 1.10.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use actix_web::web::Bytes;
use minijinja::value::{Enumerator, Object, ObjectRepr};
use minijinja::{Error, ErrorKind, Value};
use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;

use super::toll::Toll;

/// What it costs to look at one member of an object, in bytes of the toll.
const MEMBER_TOLL: usize = 64;

/// What it costs to keep a member that is parsed, and to sort one of an object.
const COMMA_TOLL: usize = 40;
const SORTED_TOLL: usize = 160;

/// What it costs to go past an item of a list that is gone through.
const ITEM_TOLL: usize = 16;

/// Bytes that are looked through or copied at the price of one that is parsed.
const SCANNED_PER_TOLL: usize = 8;

/// The longest text that a template within a toll can compare and change. minijinja compares texts for
/// nothing, however long they are, so a longer one can only be printed and cut.
const TEXT_BYTES_MAX: usize = 16_384;

/// The value of a JSON text.
pub fn value(text: &Bytes) -> Value {
    value_of(&text.slice_ref(text.trim_ascii()))
}

/// A published object or list.
pub struct Json {
    text: Bytes,
    members: OnceLock<Members>,
}

enum Members {
    /// Sorted by name, each name once. Of those that come twice the last one counts, as for most
    /// parsers.
    Object(Vec<(Name, Member)>),
    List(Vec<Member>),
    NotJson,
}

/// As published, where it has no escapes.
enum Name {
    At(Range<usize>),
    Unescaped(String),
}

struct Member {
    at: Range<usize>,
    value: OnceLock<Value>,
}

/// A text that is too long to be worked with within a toll.
pub struct Long(Box<str>);

impl Long {
    pub fn text(&self) -> &str {
        match Toll::pay(self.0.len() / SCANNED_PER_TOLL) {
            true => &self.0,
            false => "",
        }
    }
}

impl Object for Long {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl fmt::Debug for Long {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Long(…)")
    }
}

/// A number whose text would change if it were parsed and written again. It prints as published, and
/// templates cannot calculate with it.
pub struct Number(Box<str>);

impl Json {
    /// As published.
    pub fn text(&self) -> &str {
        match Toll::pay(self.text.len() / SCANNED_PER_TOLL) {
            true => text_of(&self.text),
            false => "",
        }
    }

    fn is_object(&self) -> bool {
        self.text.first() == Some(&b'{')
    }

    fn members(&self) -> &Members {
        self.members.get_or_init(|| self.parse())
    }

    fn parse(&self) -> Members {
        if Toll::is_due() {
            // Each member is kept apart, and commas are most of what a text can have in members.
            let commas = memchr::memchr_iter(b',', &self.text).count();
            if !Toll::pay(self.text.len() + commas * COMMA_TOLL) {
                return Members::NotJson;
            }
        }
        let member = |raw: &RawValue| Member {
            at: self.place_of(raw.get()),
            value: OnceLock::new(),
        };
        if !self.is_object() {
            return serde_json::from_slice::<Vec<&RawValue>>(&self.text)
                .map_or(Members::NotJson, |raws| {
                    Members::List(raws.into_iter().map(member).collect())
                });
        }
        let Ok(Entries(entries)) = serde_json::from_slice::<Entries>(&self.text) else {
            return Members::NotJson;
        };
        let entries = entries.into_iter().map(|(name, raw)| match name {
            Cow::Borrowed(name) => (Name::At(self.place_of(name)), member(raw)),
            Cow::Owned(name) => (Name::Unescaped(name), member(raw)),
        });
        let mut members: Vec<_> = entries.collect();
        // They are sorted.
        if !Toll::pay(members.len() * SORTED_TOLL) {
            return Members::NotJson;
        }
        // The sort is stable, so that the last of a name comes first once they are turned round.
        members.reverse();
        members.sort_by(|(one, _), (other, _)| self.name(one).cmp(self.name(other)));
        members.dedup_by(|(one, _), (other, _)| self.name(one) == self.name(other));
        Members::Object(members)
    }

    /// The range of a part of the text.
    fn place_of(&self, part: &str) -> Range<usize> {
        let start = part.as_ptr().addr() - self.text.as_ptr().addr();
        start..start + part.len()
    }

    fn name<'a>(&'a self, name: &'a Name) -> &'a str {
        match name {
            Name::At(place) => text_of(&self.text[place.clone()]),
            Name::Unescaped(name) => name,
        }
    }

    fn value(&self, member: &Member) -> Value {
        let make = || {
            let text = self.text.slice(member.at.clone());
            Toll::pay(text.len());
            value_of(&text)
        };
        member.value.get_or_init(make).clone()
    }

    fn member(&self, name: &str) -> Option<Value> {
        let Members::Object(members) = self.members() else {
            return None;
        };
        let place = members.binary_search_by(|(one, _)| self.name(one).cmp(name));
        let (_, member) = &members[place.ok()?];
        Some(self.value(member))
    }
}

impl Object for Json {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        match self.is_object() {
            true => ObjectRepr::Map,
            false => ObjectRepr::Seq,
        }
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        Toll::pay(MEMBER_TOLL);
        match self.members() {
            Members::List(members) => Some(self.value(members.get(key.as_usize()?)?)),
            Members::Object(_) | Members::NotJson => self.member(key.as_str()?),
        }
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        Toll::pay(MEMBER_TOLL);
        self.member(key)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match self.members() {
            Members::Object(members) => {
                if !Toll::pay(members.len() * MEMBER_TOLL) {
                    return Enumerator::Empty;
                }
                let names = members.iter().map(|(name, _)| Value::from(self.name(name)));
                Enumerator::Iter(Box::new(names.collect::<Vec<_>>().into_iter()))
            }
            Members::List(members) if Toll::pay(members.len() * ITEM_TOLL) => {
                Enumerator::Seq(members.len())
            }
            Members::List(_) => Enumerator::Empty,
            Members::NotJson => Enumerator::Empty,
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// The members of an object, as they come.
struct Entries<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::with_capacity(16);
                while let Some((Key(name), raw)) = map.next_entry()? {
                    entries.push((name, raw));
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// An object's key; borrowed where the text has it without escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Json(…)")
    }
}

impl Number {
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl Object for Number {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text was accepted as JSON when it was published, so text that is no JSON is damage.
fn value_of(text: &Bytes) -> Value {
    let value = match text.first() {
        Some(b'{' | b'[') => Some(Value::from_object(Json {
            text: text.clone(),
            members: OnceLock::new(),
        })),
        Some(b'"') => string(text_of(text)).map(|value| match value.as_str() {
            Some(long) if Toll::is_due() && long.len() > TEXT_BYTES_MAX => {
                Value::from_object(Long(long.into()))
            }
            _ => value,
        }),
        Some(b't') => Some(Value::from(true)),
        Some(b'f') => Some(Value::from(false)),
        Some(b'n') => Some(Value::from(())),
        Some(_) => Some(number(text_of(text))),
        None => None,
    };
    value.unwrap_or_else(|| {
        let error = Error::new(ErrorKind::InvalidOperation, "the payload is not JSON");
        Value::from(error)
    })
}

fn string(text: &str) -> Option<Value> {
    if !text.contains('\\') {
        let inner = text.strip_prefix('"')?.strip_suffix('"')?;
        return Some(Value::from(inner));
    }
    serde_json::from_str::<String>(text).ok().map(Value::from)
}

fn number(text: &str) -> Value {
    let whole = text
        .parse::<i128>()
        .ok()
        .map(|whole| i64::try_from(whole).map_or_else(|_| Value::from(whole), Value::from));
    let number = whole.or_else(|| text.parse::<f64>().ok().map(Value::from));
    match number {
        Some(number) if number.to_string() == text => number,
        _ => Value::from_object(Number(text.into())),
    }
}

/// Published texts are UTF-8.
fn text_of(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use minijinja::value::ValueKind;
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &'static str) -> Value {
        value(&Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn scalars_are_values_and_print_as_published() {
        for text in [
            "0",
            "-0",
            "25",
            "-1",
            "1.10",
            "1.5",
            "1e3",
            "1E+3",
            "1.0",
            "100000000000000000000000000000000000000000000",
            "12345678901234567890123",
            "18446744073709551615",
            "0.1",
            "1e999",
        ] {
            assert_eq!(parsed(text).to_string(), text);
        }
        assert_eq!(parsed("25"), Value::from(25));
        assert_eq!(parsed("1.5"), Value::from(1.5));
        assert_eq!(parsed(r#""a\u00e9\n\"""#), Value::from("aé\n\""));
        assert_eq!(parsed(r#""plain""#), Value::from("plain"));
        assert_eq!(parsed("true"), Value::from(true));
        assert_eq!(parsed("false"), Value::from(false));
        assert!(parsed("null").is_none());
    }

    #[test]
    fn members_are_found_by_name_and_place() {
        let payload = parsed(
            " {\"a\": {\"b\": [10, {\"c\": 1.10}]}, \"d\\u0065\": \"f\", \"twice\": 1, \"twice\": 2} ",
        );
        let at = |path: &[&str]| {
            path.iter().fold(payload.clone(), |value, key| {
                let key = key.parse::<usize>().map_or(Value::from(*key), Value::from);
                value.get_item(&key).unwrap()
            })
        };
        assert_eq!(at(&["a", "b", "0"]), Value::from(10));
        assert_eq!(at(&["a", "b", "1", "c"]).to_string(), "1.10");
        assert_eq!(at(&["de"]), Value::from("f"));
        assert_eq!(at(&["twice"]), Value::from(2));
        for missing in [&["x"][..], &["a", "x"], &["a", "b", "2"], &["0"]] {
            assert!(at(missing).is_undefined(), "{missing:?}");
        }
        assert_eq!(at(&["a", "b"]).len(), Some(2));
        assert_eq!(at(&["a"]).to_string(), r#"{"b": [10, {"c": 1.10}]}"#);
        let names: Vec<String> = payload
            .try_iter()
            .unwrap()
            .map(|name| name.to_string())
            .collect();
        assert_eq!(names, ["a", "de", "twice"]);
    }

    proptest! {
        #[test]
        fn members_are_those_that_a_parser_finds(
            names in prop::collection::vec("[abé\"\\\\\n]{0,3}", 0..40),
        ) {
            let entries: Vec<String> = names
                .iter()
                .enumerate()
                .map(|(place, name)| format!("{}: {place}", serde_json::json!(name)))
                .collect();
            let text = format!("{{{}}}", entries.join(" , "));
            let parsed: serde_json::Map<String, serde_json::Value> =
                serde_json::from_str(&text).unwrap();
            let payload = value(&Bytes::from(text));
            prop_assert_eq!(payload.len(), Some(parsed.len()));
            for (name, expected) in &parsed {
                prop_assert_eq!(payload.get_attr(name).unwrap().to_string(), expected.to_string());
            }
            prop_assert!(payload.get_attr("missing").unwrap().is_undefined());
        }
    }

    #[test]
    fn what_is_not_json_is_no_value() {
        for text in ["", "\"", "\"\\x\""] {
            assert!(parsed(text).kind() == ValueKind::Invalid, "{text}");
        }
        assert!(parsed("{\"a\"}").get_attr("a").unwrap().is_undefined());
    }
}
