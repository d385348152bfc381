//! A payload: its bytes, which are kept and sent as they were published, and the rules for them. A
//! payload is a JSON object that every receiver's parser can read, or a raw text.
//!
//! Nothing here changes the bytes.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use serde_json::value::RawValue;

/// The deepest nesting that is taken; common parsers stop there or soon after.
pub const DEPTH_MAX: usize = 128;

/// The bytes of a payload. A clone shares them, and the type does not print them.
///
/// Only this type knows how the bytes are shared: in the type that the HTTP server hands over and
/// the HTTP client takes, so that a payload is never copied on its way.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PayloadBytes(Bytes);

impl PayloadBytes {
    /// The bytes from a place on, without a copy.
    pub fn behind(bytes: Vec<u8>, at: usize) -> PayloadBytes {
        PayloadBytes(Bytes::from(bytes).slice(at..))
    }
}

impl Deref for PayloadBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Bytes> for PayloadBytes {
    fn from(bytes: Bytes) -> PayloadBytes {
        PayloadBytes(bytes)
    }
}

impl From<PayloadBytes> for Bytes {
    fn from(payload: PayloadBytes) -> Bytes {
        payload.0
    }
}

impl From<Vec<u8>> for PayloadBytes {
    fn from(bytes: Vec<u8>) -> PayloadBytes {
        PayloadBytes(bytes.into())
    }
}

impl From<String> for PayloadBytes {
    fn from(text: String) -> PayloadBytes {
        PayloadBytes(text.into())
    }
}

impl From<&'static str> for PayloadBytes {
    fn from(text: &'static str) -> PayloadBytes {
        PayloadBytes(text.into())
    }
}

impl fmt::Debug for PayloadBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PayloadBytes({} bytes)", self.0.len())
    }
}

/// Returns the problem of `json`, which a JSON parser has already found to be grammatical: it is
/// not an object, it nests too deeply, or a string escapes half a surrogate pair.
///
/// `serde_json` checks none of the three for a value that it passes through unread.
pub fn problem(json: &str) -> Option<String> {
    match json.starts_with('{') {
        true => unreadable(json),
        false => Some("must be a JSON object".to_owned()),
    }
}

/// Returns a raw payload without the space around it, if it is JSON that every parser can read.
pub fn json(raw: &[u8]) -> Option<&str> {
    let text: &RawValue = serde_json::from_slice(raw).ok()?;
    unreadable(text.get()).is_none().then_some(text.get())
}

/// Like [`json`], if the payload is also an object.
pub fn object(raw: &[u8]) -> Option<&str> {
    json(raw).filter(|text| text.starts_with('{'))
}

fn unreadable(json: &str) -> Option<String> {
    let bytes = json.as_bytes();
    let mut depth = 0;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'{' | b'[' => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return Some(format!("nests deeper than {DEPTH_MAX} levels"));
                }
            }
            b'}' | b']' => depth -= 1,
            b'"' => match string_end(bytes, at + 1) {
                Ok(end) => at = end,
                Err(at) => {
                    return Some(format!("escapes half a surrogate pair at byte {at}"));
                }
            },
            _ => {}
        }
        at += 1;
    }
    None
}

/// The place of the quote that ends the string whose content starts at `at`, or the place of an
/// escape that is no character.
fn string_end(bytes: &[u8], mut at: usize) -> Result<usize, usize> {
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return Ok(at),
            b'\\' if bytes.get(at + 1) == Some(&b'u') => match hex_at(bytes, at + 2) {
                0xd800..=0xdbff => {
                    let escaped = bytes.get(at + 6..at + 8) == Some(b"\\u");
                    if !escaped || !(0xdc00..=0xdfff).contains(&hex_at(bytes, at + 8)) {
                        return Err(at);
                    }
                    at += 12;
                }
                0xdc00..=0xdfff => return Err(at),
                _ => at += 6,
            },
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    Ok(at)
}

/// The four hexadecimal digits at `at`; a place past the end reads as no surrogate.
fn hex_at(bytes: &[u8], at: usize) -> u32 {
    let digits = bytes.get(at..at + 4).unwrap_or_default();
    digits.iter().fold(0, |value, digit| {
        value * 16 + char::from(*digit).to_digit(16).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_texts_that_are_json_are_found() {
        let deep = format!("{}{}", "[".repeat(DEPTH_MAX + 1), "]".repeat(DEPTH_MAX + 1));
        for (raw, as_json, as_object) in [
            (" {\"a\": 1.10}\n", Some("{\"a\": 1.10}"), true),
            ("[1, 2]", Some("[1, 2]"), false),
            ("\"text\"", Some("\"text\""), false),
            ("", None, false),
            ("text", None, false),
            ("{\"a\"}", None, false),
            ("{} {}", None, false),
            ("{\"x\": \"\\ud800\"}", None, false),
            (deep.as_str(), None, false),
        ] {
            assert_eq!(json(raw.as_bytes()), as_json, "{raw}");
            let expected = as_json.filter(|_| as_object);
            assert_eq!(object(raw.as_bytes()), expected, "{raw}");
        }
        assert_eq!(json(b"\xff"), None);
    }

    #[test]
    fn objects_with_whole_characters_are_taken() {
        for json in [
            "{}",
            r#"{"a":"\ud83d\ude00 \\u d800 \" {[","b":[[{}]]}"#,
            r#"{"\u00e9":1e999, "é": -0.10}"#,
        ] {
            assert_eq!(problem(json), None, "{json}");
        }
    }

    #[test]
    fn other_values_half_characters_and_deep_nesting_are_refused() {
        for json in ["[]", "1", "\"{}\"", "null"] {
            assert_eq!(
                problem(json).as_deref(),
                Some("must be a JSON object"),
                "{json}"
            );
        }
        for json in [
            r#"{"a":"\ud83d"}"#,
            r#"{"a":"\ude00"}"#,
            r#"{"\ud83d\u0041":1}"#,
            r#"{"a":"\ud83d\ud83d"}"#,
        ] {
            assert!(
                problem(json).is_some_and(|why| why.contains("surrogate")),
                "{json}"
            );
        }
        let nested = |depth: usize| {
            format!(
                "{{\"a\":{}{}}}",
                "[".repeat(depth - 1),
                "]".repeat(depth - 1)
            )
        };
        assert_eq!(problem(&nested(DEPTH_MAX)), None);
        assert!(problem(&nested(DEPTH_MAX + 1)).is_some());
    }
}
