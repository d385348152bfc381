//! The published payload as templates see it: parsed where it is looked into, and no further.
//!
//! `scope` makes a value of a message's payload when a template first names it. An object or a list
//! is a [`Json`], which keeps its published text and learns of its members at the first look;
//! nothing else of the payload is parsed. What it cannot be taken apart without being changed is
//! passed on as published: an object or a list in a JSON body, and a number such as 1.10.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use actix_web::web::Bytes;
use minijinja::value::{Enumerator, Object, ObjectRepr};
use minijinja::{Error, ErrorKind, Value};
use serde_json::value::RawValue;

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
    /// Of names that come twice the last one counts, as for most parsers.
    Object(BTreeMap<String, Member>),
    List(Vec<Member>),
    NotJson,
}

struct Member {
    text: Bytes,
    value: OnceLock<Value>,
}

/// A number whose text is not the one that it would be written with again. It prints as published
/// and is no number to calculate with.
pub struct Number(Box<str>);

impl Json {
    /// As published.
    pub fn text(&self) -> &str {
        text_of(&self.text)
    }

    fn is_object(&self) -> bool {
        self.text.first() == Some(&b'{')
    }

    fn members(&self) -> &Members {
        self.members.get_or_init(|| self.parse())
    }

    fn parse(&self) -> Members {
        let member = |raw: &RawValue| Member {
            text: self.text.slice_ref(raw.get().as_bytes()),
            value: OnceLock::new(),
        };
        let parsed = match self.is_object() {
            true => serde_json::from_slice::<BTreeMap<String, &RawValue>>(&self.text).map(|raws| {
                let members = raws.into_iter().map(|(name, raw)| (name, member(raw)));
                Members::Object(members.collect())
            }),
            false => serde_json::from_slice::<Vec<&RawValue>>(&self.text)
                .map(|raws| Members::List(raws.into_iter().map(member).collect())),
        };
        parsed.unwrap_or(Members::NotJson)
    }
}

impl Member {
    fn value(&self) -> Value {
        self.value.get_or_init(|| value_of(&self.text)).clone()
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
        match self.members() {
            Members::Object(members) => members.get(key.as_str()?).map(Member::value),
            Members::List(members) => members.get(key.as_usize()?).map(Member::value),
            Members::NotJson => None,
        }
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        match self.members() {
            Members::Object(members) => members.get(key).map(Member::value),
            Members::List(_) | Members::NotJson => None,
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match self.members() {
            Members::Object(members) => {
                let names: Vec<Value> = members.keys().map(Value::from).collect();
                Enumerator::Iter(Box::new(names.into_iter()))
            }
            Members::List(members) => Enumerator::Seq(members.len()),
            Members::NotJson => Enumerator::Empty,
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

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

/// The text was taken for JSON when it was published, so what is not is damage.
fn value_of(text: &Bytes) -> Value {
    let value = match text.first() {
        Some(b'{' | b'[') => Some(Value::from_object(Json {
            text: text.clone(),
            members: OnceLock::new(),
        })),
        Some(b'"') => string(text_of(text)),
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

    #[test]
    fn what_is_not_json_is_no_value() {
        for text in ["", "\"", "\"\\x\""] {
            assert!(parsed(text).kind() == ValueKind::Invalid, "{text}");
        }
        assert!(parsed("{\"a\"}").get_attr("a").unwrap().is_undefined());
    }
}
