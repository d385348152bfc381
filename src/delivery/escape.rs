//! How a template's values are written at their place.
//!
//! `template` calls [`write_value`] for every value that any template prints, so that no payload can
//! leave its place: a value in a URL stays one segment, one in a header has no line break, one in
//! JSON is one JSON value, or the content of the string literal that it stands in. Pure.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

use super::json_place::Place;
use super::payload::{Json, Long, Number};
use super::scope::{Body, Example};
use super::toll::Toll;
use crate::domain::payload::DEPTH_MAX;

/// All characters but those that stand for themselves in a URL (RFC 3986, section 2.3).
const URL_ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// How values are written. But for JSON, they must be text, a number or a truth value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// As one segment of a path, or one value of a query.
    Url,
    /// As visible ASCII characters.
    Header,
    /// As they are.
    Text,
    /// As JSON: inside a string literal as its content, elsewhere as a value.
    Json,
}

/// Writes a value that a template prints, at this place where it is JSON. A mark of safety on the value
/// does not count.
pub fn write_value(
    out: &mut impl fmt::Write,
    value: &Value,
    escape: Escape,
    place: Place,
) -> Result<(), Error> {
    match escape {
        Escape::Json if place == Place::Inside => write_json_content(out, value),
        Escape::Json => write_json(out, value, 0),
        Escape::Text => Ok(out.write_str(&text(value)?)?),
        Escape::Header => {
            let text = text(value)?;
            match text.bytes().all(is_visible) {
                true => Ok(out.write_str(&text)?),
                false => Err(Unfit("has characters that a header cannot carry").into()),
            }
        }
        Escape::Url => match &*text(value)? {
            "" => Err(Unfit("is empty").into()),
            "." | ".." => Err(Unfit("is a dot segment, which a URL would lose").into()),
            text => Ok(write!(out, "{}", utf8_percent_encode(text, URL_ESCAPED))?),
        },
    }
}

/// Whether every receiver takes this byte in a header's value.
pub fn is_visible(byte: u8) -> bool {
    (b' '..=b'~').contains(&byte)
}

/// A value as the text of a header, for the templates' filter `header`: nothing where it is absent or
/// null, and percent-encoded UTF-8 (RFC 3986, section 2.1) where it has a character that a header
/// cannot carry.
pub fn header_text(value: &Value) -> Result<String, Unfit> {
    /// In a text that is encoded, `%` is too, so that decoding gives the text back.
    const ENCODED: &AsciiSet = &CONTROLS.add(b'%');
    if value.is_undefined() || is_null(value) {
        return Ok(String::new());
    }
    let text = text(value)?;
    Ok(match text.bytes().all(is_visible) {
        true => text.into_owned(),
        false => utf8_percent_encode(&text, ENCODED).to_string(),
    })
}

/// A value as text in which everything but visible ASCII is percent-encoded UTF-8, and so are spaces,
/// double quotes and percent signs, for the templates' filter `percent`: as the HTTP binding of
/// CloudEvents 1.0 asks of headers (section 3.1.3.2).
pub fn percent_text(value: &Value) -> Result<String, Unfit> {
    const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');
    Ok(utf8_percent_encode(&text(value)?, ENCODED).to_string())
}

/// The beginning of a value's text, for the templates' filter `excerpt`: at most so many characters, of
/// which the last is an ellipsis where something is left out. The text of an object or a list is its JSON.
pub fn excerpt_text(value: &Value, characters: usize) -> Result<String, Unfit> {
    let whole = match value.downcast_object_ref::<Json>() {
        Some(json) => json.text().into(),
        None if is_null(value) => "null".into(),
        None => text(value)?,
    };
    match whole.char_indices().nth(characters) {
        None => Ok(whole.into_owned()),
        Some(_) if characters == 0 => Ok(String::new()),
        Some(_) => {
            let kept = whole.chars().take(characters - 1);
            Ok(kept.chain(['…']).collect())
        }
    }
}

/// A value as text of a Slack message, for the templates' filter `mrkdwn`. Slack asks that these three
/// characters be entities, and no others: <https://api.slack.com/reference/surfaces/formatting#escaping>.
pub fn mrkdwn_text(value: &Value) -> Result<String, Unfit> {
    let text = text(value)?;
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    Ok(text.replace('>', "&gt;"))
}

/// Whether a value is null; a null of an example's payload is wrapped in a type of its own.
fn is_null(value: &Value) -> bool {
    let example = value.downcast_object_ref::<Example>();
    value.is_none() || example.is_some_and(|example| example.value().is_none())
}

/// The reason that a value does not fit its place, as the predicate of a sentence.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a value {0}")]
pub struct Unfit(&'static str);

impl Unfit {
    pub fn predicate(self) -> &'static str {
        self.0
    }
}

impl From<Unfit> for Error {
    fn from(unfit: Unfit) -> Error {
        Error::from(ErrorKind::InvalidOperation).with_source(unfit)
    }
}

/// A scalar as text.
fn text(value: &Value) -> Result<Cow<'_, str>, Unfit> {
    Err(Unfit(match value.kind() {
        ValueKind::String => return Ok(value.as_str().unwrap_or_default().into()),
        ValueKind::Number => return Ok(value.to_string().into()),
        ValueKind::Bool => return Ok(if value.is_true() { "true" } else { "false" }.into()),
        ValueKind::Plain => match plain_text(value) {
            Some(text) => return Ok(text),
            None => "is not text",
        },
        ValueKind::Undefined => "is undefined",
        ValueKind::None => "is null",
        ValueKind::Map => "is an object",
        ValueKind::Seq | ValueKind::Iterable => "is a list",
        _ => "is not text",
    }))
}

/// Those values of the scope that are not text, and yet have one.
fn plain_text(value: &Value) -> Option<Cow<'_, str>> {
    if let Some(body) = value.downcast_object_ref::<Body>() {
        return body.text().map(Cow::from);
    }
    if let Some(number) = value.downcast_object_ref::<Number>() {
        return Some(number.text().into());
    }
    if let Some(long) = value.downcast_object_ref::<Long>() {
        return Some(long.text().into());
    }
    let example = value.downcast_object_ref::<Example>()?.value();
    text(&example).map(|text| text.into_owned().into()).ok()
}

/// What it costs to write one value as JSON, in bytes of the toll.
const VALUE_TOLL: usize = 64;

/// Writes a value as JSON; published objects and lists are written as published.
fn write_json(out: &mut impl fmt::Write, value: &Value, depth: usize) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return Err(Unfit("nests too deeply").into());
    }
    if !Toll::pay(VALUE_TOLL) {
        return Err(ErrorKind::OutOfFuel.into());
    }
    if let Some(json) = value.downcast_object_ref::<Json>() {
        return Ok(out.write_str(json.text())?);
    }
    if let Some(number) = value.downcast_object_ref::<Number>() {
        return Ok(out.write_str(number.text())?);
    }
    if let Some(example) = value.downcast_object_ref::<Example>() {
        return write_json(out, &example.value(), depth + 1);
    }
    match value.kind() {
        ValueKind::None => out.write_str("null")?,
        ValueKind::Number => match value.to_string() {
            number if number.ends_with(|last: char| last.is_ascii_digit()) => {
                out.write_str(&number)?;
            }
            _ => return Err(Unfit("is no finite number").into()),
        },
        ValueKind::Map => {
            out.write_char('{')?;
            for (index, name) in value.try_iter()?.enumerate() {
                if index > 0 {
                    out.write_char(',')?;
                }
                write_json_string(out, &text(&name)?)?;
                out.write_char(':')?;
                write_json(out, &value.get_item(&name)?, depth + 1)?;
            }
            out.write_char('}')?;
        }
        ValueKind::Seq | ValueKind::Iterable => {
            out.write_char('[')?;
            for (index, member) in value.try_iter()?.enumerate() {
                if index > 0 {
                    out.write_char(',')?;
                }
                write_json(out, &member, depth + 1)?;
            }
            out.write_char(']')?;
        }
        ValueKind::Bool => out.write_str(&text(value)?)?,
        _ => write_json_string(out, &text(value)?)?,
    }
    Ok(())
}

/// Writes a value as the content of a JSON string: text as it is, and everything else as its JSON text.
fn write_json_content(out: &mut impl fmt::Write, value: &Value) -> Result<(), Error> {
    if let Some(example) = value.downcast_object_ref::<Example>() {
        return write_json_content(out, &example.value());
    }
    let mut out = Content(out);
    match text_of_text(value) {
        Some(text) => Ok(out.write_str(text)?),
        None => write_json(&mut out, value, 0),
    }
}

/// The text of a value that is a text.
fn text_of_text(value: &Value) -> Option<&str> {
    if let Some(long) = value.downcast_object_ref::<Long>() {
        return Some(long.text());
    }
    match value.downcast_object_ref::<Body>() {
        Some(body) => body.text(),
        None => value.as_str(),
    }
}

/// Escapes text as the content of a JSON string.
struct Content<'a, W>(&'a mut W);

impl<W: fmt::Write> fmt::Write for Content<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Escaped text is made first, and copied then.
        if !Toll::pay(2 * text.len()) {
            return Err(fmt::Error);
        }
        let quoted = serde_json::to_string(text).map_err(|_| fmt::Error)?;
        let content = quoted
            .strip_prefix('"')
            .and_then(|one| one.strip_suffix('"'));
        self.0.write_str(content.unwrap_or_default())
    }
}

fn write_json_string(out: &mut impl fmt::Write, text: &str) -> Result<(), Error> {
    let quoted = serde_json::to_string(text).map_err(|_| Unfit("is not text"))?;
    Ok(out.write_str(&quoted)?)
}
