//! Values that do not fit the type they are read as, in plain words.
//!
//! A deserializer complains in the words of Rust: `invalid type: string "7", expected u16`. [`read`]
//! asks for the same type through a deserializer of its own, whose error is the [`Misfit`] itself:
//! where it is, what was given and what the type asked for, without a sentence of another library in
//! it. It is slower than reading directly, so it is called where a value was refused already, and
//! where speed does not matter.
//!
//! A leaf. Formats must describe themselves, as JSON and TOML do.

use std::cell::RefCell;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor,
};

mod names;

pub use names::{misspelled, not_known};

/// Of a text that is repeated in a complaint.
const GIVEN_CHARS_MAX: usize = 40;

/// Of the words that a complaint lists.
const WORDS_MAX: usize = 40;

/// Why a value is not what its type needs. It is shown in the words of JSON, and with `{:#}` in
/// those of TOML.
#[derive(Clone, Debug, PartialEq)]
pub struct Misfit {
    place: Vec<Step>,
    what: What,
}

/// A step of the way to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Key(String),
    Index(usize),
}

#[derive(Clone, Debug, PartialEq)]
enum What {
    Value {
        given: Given,
        /// Where a type asked for nothing that is known here.
        told: String,
        /// The kind was right.
        is_kind_right: bool,
        asked: Option<Asked>,
    },
    Missing,
    Unknown(&'static [&'static str]),
    Repeated,
    /// What a type of ours says.
    Said(String),
    /// The format refused it, not the type.
    Unreadable,
}

#[derive(Clone, Debug, PartialEq)]
enum Given {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List,
    Table,
    Other,
}

/// What a type asked its deserializer for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Asked {
    Bool,
    Whole { min: i64, max: u64 },
    Number,
    Text,
    List,
    Table,
    Word(&'static [&'static str]),
    Null,
}

/// Reads a `T`, or says why what is there is none.
pub fn read<'de, T: de::Deserialize<'de>>(from: impl Deserializer<'de>) -> Result<T, Misfit> {
    let notes = Notes::default();
    T::deserialize(Reader {
        inner: from,
        notes: &notes,
        is_key: false,
    })
}

/// That a text is not JSON, with the place where it stops being that.
pub fn not_json(error: &serde_json::Error) -> String {
    let what = match error.is_eof() {
        true => "the JSON ends too early",
        false => "is not JSON",
    };
    format!(
        "{what}, at line {}, column {}",
        error.line(),
        error.column()
    )
}

/// A place as people write it: `endpoints[0].rateLimit`.
pub fn path<'a>(steps: impl IntoIterator<Item = &'a Step>) -> String {
    let mut path = String::new();
    for step in steps {
        match step {
            Step::Index(index) => path += &format!("[{index}]"),
            Step::Key(key) if path.is_empty() => path += key,
            Step::Key(key) => path += &format!(".{key}"),
        }
    }
    path
}

impl Misfit {
    pub fn place(&self) -> &[Step] {
        &self.place
    }

    pub fn is_missing(&self) -> bool {
        self.what == What::Missing
    }

    /// Says the narrower bounds that a number has by another rule.
    pub fn narrow(&mut self, least: Option<i64>, most: Option<u64>) {
        if let What::Value {
            asked: Some(Asked::Whole { min, max }),
            ..
        } = &mut self.what
        {
            *min = least.unwrap_or(*min).max(*min);
            *max = most.unwrap_or(*max).min(*max);
        }
    }

    fn new(what: What) -> Misfit {
        Misfit {
            place: Vec::new(),
            what,
        }
    }

    fn at(key: &str, what: What) -> Misfit {
        Misfit::new(what).below(Step::Key(key.to_owned()))
    }

    fn below(mut self, step: Step) -> Misfit {
        self.place.insert(0, step);
        self
    }

    fn value(given: Unexpected<'_>, told: &dyn Expected, is_kind_right: bool) -> Misfit {
        Misfit::new(What::Value {
            given: Given::from(given),
            told: told.to_string(),
            is_kind_right,
            asked: None,
        })
    }

    /// The innermost question is the one that was not answered.
    fn asked(mut self, asked: Option<Asked>) -> Misfit {
        if let What::Value { asked: known, .. } = &mut self.what
            && self.place.is_empty()
        {
            *known = known.or(asked);
        }
        self
    }
}

impl From<Unexpected<'_>> for Given {
    fn from(given: Unexpected<'_>) -> Given {
        match given {
            Unexpected::Unit | Unexpected::Option => Given::Null,
            Unexpected::Bool(value) => Given::Bool(value),
            Unexpected::Unsigned(number) => Given::Number(number.to_string()),
            Unexpected::Signed(number) => Given::Number(number.to_string()),
            Unexpected::Float(number) => Given::Number(number.to_string()),
            Unexpected::Char(char) => Given::Text(char.to_string()),
            Unexpected::Str(text) => Given::Text(text.to_owned()),
            Unexpected::Seq => Given::List,
            Unexpected::Map => Given::Table,
            _ => Given::Other,
        }
    }
}

impl de::Error for Misfit {
    fn custom<T: fmt::Display>(message: T) -> Misfit {
        Misfit::new(What::Said(message.to_string()))
    }

    fn invalid_type(given: Unexpected<'_>, told: &dyn Expected) -> Misfit {
        Misfit::value(given, told, false)
    }

    fn invalid_value(given: Unexpected<'_>, told: &dyn Expected) -> Misfit {
        Misfit::value(given, told, true)
    }

    fn invalid_length(length: usize, told: &dyn Expected) -> Misfit {
        Misfit::new(What::Said(format!("must be {told}, and has {length}")))
    }

    fn unknown_variant(given: &str, words: &'static [&'static str]) -> Misfit {
        Misfit::new(What::Value {
            given: Given::Text(given.to_owned()),
            told: String::new(),
            is_kind_right: true,
            asked: Some(Asked::Word(words)),
        })
    }

    fn unknown_field(name: &str, known: &'static [&'static str]) -> Misfit {
        Misfit::at(name, What::Unknown(known))
    }

    fn missing_field(name: &'static str) -> Misfit {
        Misfit::at(name, What::Missing)
    }

    fn duplicate_field(name: &'static str) -> Misfit {
        Misfit::at(name, What::Repeated)
    }
}

impl std::error::Error for Misfit {}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let in_toml = f.alternate();
        match &self.what {
            What::Value {
                given,
                told,
                is_kind_right,
                asked,
            } => {
                // A type that refuses one text of many says itself which it takes.
                let asked = asked.filter(|one| !(*is_kind_right && *one == Asked::Text));
                f.write_str("must be ")?;
                match asked {
                    Some(asked) => asked.show(in_toml, f)?,
                    None => f.write_str(told)?,
                }
                f.write_str(", not ")?;
                given.show(asked, in_toml, f)
            }
            What::Missing => f.write_str("is required"),
            What::Unknown(known) => {
                let name = match self.place.last() {
                    Some(Step::Key(name)) => name.as_str(),
                    _ => "",
                };
                let thing = if in_toml { "setting" } else { "field" };
                f.write_str(&not_known(thing, misspelled(name, known.iter().copied())))
            }
            What::Repeated => f.write_str("is given more than once"),
            What::Said(what) => f.write_str(what),
            What::Unreadable => f.write_str(
                "cannot be read: a number in it is too large, or a text has half of a character",
            ),
        }
    }
}

impl Asked {
    fn show(self, in_toml: bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SIGNED_MAX: u64 = i64::MAX as u64;
        match self {
            Asked::Bool => f.write_str("true or false"),
            Asked::Whole {
                min: i64::MIN,
                max: SIGNED_MAX,
            } => f.write_str("a whole number"),
            Asked::Whole {
                min,
                max: SIGNED_MAX..,
            } => write!(f, "a whole number of {min} or more"),
            Asked::Whole { min, max } => write!(f, "a whole number from {min} to {max}"),
            Asked::Number => f.write_str("a number"),
            Asked::Text => f.write_str(if in_toml {
                "text in quotes"
            } else {
                "a string"
            }),
            Asked::List => f.write_str(if in_toml { "a list" } else { "an array" }),
            Asked::Table => f.write_str(if in_toml { "a table" } else { "an object" }),
            Asked::Null => f.write_str("null"),
            Asked::Word([only]) => f.write_str(only),
            Asked::Word(words) => {
                let shown = &words[..words.len().min(WORDS_MAX)];
                write!(f, "one of {}", shown.join(", "))
            }
        }
    }
}

impl Given {
    /// A text is repeated only where it stands in the place of something that is no secret.
    fn show(&self, asked: Option<Asked>, in_toml: bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_open = matches!(
            asked,
            Some(Asked::Bool | Asked::Whole { .. } | Asked::Number | Asked::Word(_))
        );
        match self {
            Given::Null => f.write_str("null"),
            Given::Bool(value) => write!(f, "{value}"),
            Given::Number(number) if is_open && number.len() <= GIVEN_CHARS_MAX => {
                f.write_str(number)
            }
            Given::Number(_) => f.write_str("a number"),
            Given::Text(text) if is_open => {
                let mut shown: String = text.chars().take(GIVEN_CHARS_MAX).collect();
                if shown.len() < text.len() {
                    shown.push('…');
                }
                write!(f, "{shown:?}")
            }
            Given::Text(_) => f.write_str(if in_toml { "text" } else { "a string" }),
            Given::List => Asked::List.show(in_toml, f),
            Given::Table => Asked::Table.show(in_toml, f),
            Given::Other => f.write_str("something else"),
        }
    }
}

/// What is handed past the deserializer within, whose own error keeps only texts.
#[derive(Default)]
struct Notes {
    misfit: RefCell<Option<Misfit>>,
    /// The key that was read last.
    key: RefCell<String>,
}

impl Notes {
    /// Notes a misfit, and gives the deserializer within an error in its place.
    fn pass<T, E: de::Error>(
        &self,
        result: Result<T, Misfit>,
        asked: Option<Asked>,
    ) -> Result<T, E> {
        result.map_err(|misfit| {
            *self.misfit.borrow_mut() = Some(misfit.asked(asked));
            E::custom("a misfit was noted")
        })
    }

    fn take(&self) -> Misfit {
        let noted = self.misfit.borrow_mut().take();
        noted.unwrap_or_else(|| Misfit::new(What::Unreadable))
    }
}

struct Reader<'n, D> {
    inner: D,
    notes: &'n Notes,
    is_key: bool,
}

impl<'n, D> Reader<'n, D> {
    /// Takes whatever is there: it is the type's visitor that refuses it, with our error.
    fn any<'de, V: Visitor<'de>>(self, asked: Option<Asked>, visitor: V) -> Result<V::Value, Misfit>
    where
        D: Deserializer<'de>,
    {
        let notes = self.notes;
        let visited = self.inner.deserialize_any(Visited {
            inner: visitor,
            notes,
            asked,
            is_key: self.is_key,
        });
        visited.map_err(|_| notes.take())
    }

    fn visited<V>(&self, visitor: V) -> Visited<'n, V> {
        Visited {
            inner: visitor,
            notes: self.notes,
            asked: None,
            is_key: self.is_key,
        }
    }
}

macro_rules! asks {
    ($($method:ident: $asked:expr;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
            self.any($asked, visitor)
        })*
    };
}

const fn whole(min: i64, max: u64) -> Option<Asked> {
    Some(Asked::Whole { min, max })
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Reader<'_, D> {
    type Error = Misfit;

    asks! {
        deserialize_any: None;
        deserialize_bool: Some(Asked::Bool);
        deserialize_i8: whole(i8::MIN as i64, i8::MAX as u64);
        deserialize_i16: whole(i16::MIN as i64, i16::MAX as u64);
        deserialize_i32: whole(i32::MIN as i64, i32::MAX as u64);
        deserialize_i64: whole(i64::MIN, i64::MAX as u64);
        deserialize_u8: whole(0, u8::MAX as u64);
        deserialize_u16: whole(0, u16::MAX as u64);
        deserialize_u32: whole(0, u32::MAX as u64);
        deserialize_u64: whole(0, u64::MAX);
        deserialize_f32: Some(Asked::Number);
        deserialize_f64: Some(Asked::Number);
        deserialize_char: Some(Asked::Text);
        deserialize_str: Some(Asked::Text);
        deserialize_string: Some(Asked::Text);
        deserialize_bytes: Some(Asked::Text);
        deserialize_byte_buf: Some(Asked::Text);
        deserialize_unit: Some(Asked::Null);
        deserialize_seq: Some(Asked::List);
        deserialize_map: Some(Asked::Table);
        deserialize_identifier: Some(Asked::Text);
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.any(Some(Asked::Null), visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Misfit> {
        self.any(Some(Asked::List), visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.any(Some(Asked::List), visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.any(Some(Asked::Table), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.any(Some(Asked::Word(words)), visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let (notes, visitor) = (self.notes, self.visited(visitor));
        let visited = self.inner.deserialize_option(visitor);
        visited.map_err(|_| notes.take())
    }

    /// Raw JSON is a newtype with a name that its deserializer knows.
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        let (notes, visitor) = (self.notes, self.visited(visitor));
        let visited = self.inner.deserialize_newtype_struct(name, visitor);
        visited.map_err(|_| notes.take())
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let (notes, visitor) = (self.notes, self.visited(visitor));
        let visited = self.inner.deserialize_ignored_any(visitor);
        visited.map_err(|_| notes.take())
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

struct Visited<'n, V> {
    inner: V,
    notes: &'n Notes,
    asked: Option<Asked>,
    is_key: bool,
}

impl<'n, V> Visited<'n, V> {
    fn text<'de, E: de::Error>(
        self,
        text: &str,
        visit: impl FnOnce(V) -> Result<V::Value, Misfit>,
    ) -> Result<V::Value, E>
    where
        V: Visitor<'de>,
    {
        if self.is_key {
            *self.notes.key.borrow_mut() = text.to_owned();
        }
        let visited = match self.asked {
            Some(Asked::Word(_)) => self.inner.visit_enum(text.into_deserializer()),
            _ => visit(self.inner),
        };
        self.notes.pass(visited, self.asked)
    }
}

macro_rules! visits {
    ($($method:ident($value:ty);)*) => {
        $(fn $method<E: de::Error>(self, value: $value) -> Result<V::Value, E> {
            self.notes.pass(self.inner.$method(value), self.asked)
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Visited<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    visits! {
        visit_bool(bool);
        visit_i64(i64);
        visit_i128(i128);
        visit_u64(u64);
        visit_u128(u128);
        visit_f64(f64);
        visit_bytes(&[u8]);
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<V::Value, E> {
        self.text(text, |visitor| visitor.visit_str(text))
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<V::Value, E> {
        self.text(text, |visitor| visitor.visit_borrowed_str(text))
    }

    fn visit_none<E: de::Error>(self) -> Result<V::Value, E> {
        self.notes.pass(self.inner.visit_none(), self.asked)
    }

    fn visit_unit<E: de::Error>(self) -> Result<V::Value, E> {
        self.notes.pass(self.inner.visit_unit(), self.asked)
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let reader = Reader {
            inner,
            notes: self.notes,
            is_key: false,
        };
        self.notes.pass(self.inner.visit_some(reader), self.asked)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let reader = Reader {
            inner,
            notes: self.notes,
            is_key: self.is_key,
        };
        let visited = self.inner.visit_newtype_struct(reader);
        self.notes.pass(visited, self.asked)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        // A struct would take its fields in their order.
        if self.asked == Some(Asked::Table) {
            let misfit = de::Error::invalid_type(Unexpected::Seq, &self.inner);
            return self.notes.pass(Err(misfit), self.asked);
        }
        let items = Items {
            inner,
            notes: self.notes,
            index: 0,
        };
        self.notes.pass(self.inner.visit_seq(items), self.asked)
    }

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let entries = Entries {
            inner,
            notes: self.notes,
            key: String::new(),
        };
        let visited = match self.asked {
            Some(Asked::Word(_)) => self.inner.visit_enum(MapAccessDeserializer::new(entries)),
            _ => self.inner.visit_map(entries),
        };
        self.notes.pass(visited, self.asked)
    }
}

struct Seed<'n, S> {
    inner: S,
    notes: &'n Notes,
    is_key: bool,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Seed<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        let Seed { notes, is_key, .. } = self;
        let reader = Reader {
            inner,
            notes,
            is_key,
        };
        notes.pass(self.inner.deserialize(reader), None)
    }
}

struct Items<'n, A> {
    inner: A,
    notes: &'n Notes,
    index: usize,
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Items<'_, A> {
    type Error = Misfit;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Misfit> {
        let item = self.inner.next_element_seed(Seed {
            inner: seed,
            notes: self.notes,
            is_key: false,
        });
        let index = self.index;
        self.index += 1;
        item.map_err(|_| self.notes.take().below(Step::Index(index)))
    }
}

struct Entries<'n, A> {
    inner: A,
    notes: &'n Notes,
    key: String,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Entries<'_, A> {
    type Error = Misfit;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Misfit> {
        let key = self.inner.next_key_seed(Seed {
            inner: seed,
            notes: self.notes,
            is_key: true,
        });
        self.key = self.notes.key.take();
        key.map_err(|_| self.notes.take())
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Misfit> {
        let value = self.inner.next_value_seed(Seed {
            inner: seed,
            notes: self.notes,
            is_key: false,
        });
        value.map_err(|_| {
            let key = std::mem::take(&mut self.key);
            self.notes.take().below(Step::Key(key))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::value::RawValue;
    use std::borrow::Cow;
    use std::collections::BTreeMap;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    #[allow(dead_code, reason = "fields are compared as they print")]
    struct Outer<'a> {
        rate_limit: Option<u16>,
        #[serde(default)]
        large: u64,
        #[serde(default)]
        signed: i64,
        #[serde(default)]
        share: f64,
        #[serde(default)]
        is_on: bool,
        #[serde(default)]
        role: Role,
        #[serde(default)]
        inner: Vec<Inner>,
        #[serde(default)]
        notes: BTreeMap<String, String>,
        #[serde(default, borrow)]
        raw: Option<&'a RawValue>,
        #[serde(default, borrow)]
        name: Cow<'a, str>,
        #[serde(default)]
        owned: Option<Box<RawValue>>,
        #[serde(default)]
        free: serde_json::Value,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        url: String,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Role {
        #[default]
        Owner,
        Viewer,
    }

    fn told(text: &str) -> String {
        let mut json = serde_json::Deserializer::from_str(text);
        match read::<Outer<'_>>(&mut json) {
            Ok(found) => panic!("{text} was taken: {found:?}"),
            Err(misfit) => format!("{}: {misfit}", path(misfit.place())),
        }
    }

    #[test]
    fn what_fits_is_read() {
        let text = r#"{"rateLimit":7,"large":8,"signed":-1,"share":1,"isOn":true,"role":"viewer",
            "inner":[{"url":"u"}],"notes":{"a":"b"},"raw":{"x": 1.50},"name":"n","owned":[ 1 ],
            "free":{"a":[null,1.5]}}"#;
        let mut json = serde_json::Deserializer::from_str(text);
        let found: Outer<'_> = read(&mut json).unwrap();
        let directly: Outer<'_> = serde_json::from_str(text).unwrap();
        assert_eq!(format!("{found:?}"), format!("{directly:?}"));
        assert_eq!(found.raw.unwrap().get(), r#"{"x": 1.50}"#);
        assert!(matches!(found.name, Cow::Borrowed("n")));
    }

    #[test]
    fn a_misfit_says_where_what_and_what_instead() {
        for (text, expected) in [
            (
                r#"{"rateLimit":"abc"}"#,
                r#"rateLimit: must be a whole number from 0 to 65535, not "abc""#,
            ),
            (
                r#"{"rateLimit":70000}"#,
                "rateLimit: must be a whole number from 0 to 65535, not 70000",
            ),
            (
                r#"{"rateLimit":1.5}"#,
                "rateLimit: must be a whole number from 0 to 65535, not 1.5",
            ),
            (
                r#"{"large":-1}"#,
                "large: must be a whole number of 0 or more, not -1",
            ),
            (
                r#"{"signed":[]}"#,
                "signed: must be a whole number, not an array",
            ),
            (r#"{"share":"1"}"#, r#"share: must be a number, not "1""#),
            (r#"{"isOn":null}"#, "isOn: must be true or false, not null"),
            (
                r#"{"role":"boss"}"#,
                r#"role: must be one of owner, viewer, not "boss""#,
            ),
            (r#"{"role":7}"#, "role: must be one of owner, viewer, not 7"),
            (r#"{"inner":{}}"#, "inner: must be an array, not an object"),
            (
                r#"{"inner":[{"url":"a"},"b"]}"#,
                "inner[1]: must be an object, not a string",
            ),
            (
                r#"{"inner":[["a"]]}"#,
                "inner[0]: must be an object, not an array",
            ),
            (
                r#"{"inner":[{"url":7}]}"#,
                "inner[0].url: must be a string, not a number",
            ),
            (r#"{"inner":[{}]}"#, "inner[0].url: is required"),
            (
                r#"{"inner":[{"url":"a","uri":"b"}]}"#,
                "inner[0].uri: there is no such field here",
            ),
            (
                r#"{"rateLimti":7}"#,
                "rateLimti: there is no such field here; did you mean rateLimit?",
            ),
            (
                r#"{"notes":{"a.b":false}}"#,
                "notes.a.b: must be a string, not false",
            ),
            (
                r#"{"notes":"s3cret"}"#,
                "notes: must be an object, not a string",
            ),
            (r#"{"large":1,"large":2}"#, "large: is given more than once"),
            ("[]", ": must be an object, not an array"),
        ] {
            assert_eq!(told(text), expected, "{text}");
        }
        let long = told(&format!(r#"{{"isOn":"{}"}}"#, "x".repeat(1000)));
        assert!(long.len() < 100, "{long}");
        let unreadable = told(r#"{"share":1e999}"#);
        assert!(
            unreadable.starts_with("share: cannot be read"),
            "{unreadable}"
        );
    }

    #[test]
    fn toml_has_words_of_its_own_and_bounds_can_be_narrower() {
        let table: toml::Table = "rateLimit = 'x'\n".parse().unwrap();
        let mut misfit = read::<Outer<'_>>(table).unwrap_err();
        misfit.narrow(Some(1), None);
        assert_eq!(
            format!("{misfit:#}"),
            r#"must be a whole number from 1 to 65535, not "x""#
        );
        for (text, expected) in [
            ("rateLimit = 1\ninner = 7\n", "must be a list, not a number"),
            (
                "rateLimit = 1\nrole = ['a']\n",
                "must be one of owner, viewer, not a list",
            ),
            (
                "rateLimit = 1\n[[inner]]\nurl = {}\n",
                "must be text in quotes, not a table",
            ),
        ] {
            let table: toml::Table = text.parse().unwrap();
            let misfit = read::<Outer<'_>>(table).unwrap_err();
            assert_eq!(format!("{misfit:#}"), expected);
        }
    }
}
