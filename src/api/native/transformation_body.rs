//! Transformations in bodies: the fields that are taken and shown, and the checks that need no endpoint.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::kit::context::Context;
use crate::domain::endpoint::is_sensitive;
use crate::domain::profile::Method;
use crate::domain::transformation::{
    TRANSFORMATION_BYTES_MAX, TRANSFORMATION_HEADERS_MAX, TRANSFORMATION_METHODS, Transformation,
};
use crate::rules::checks::Problems;
use crate::rules::target::header_problems;

const CONTENT_TYPE_BYTES_MAX: usize = 256;

/// The endpoint's own form of requests, 8 KiB in all: templates as profiles have them, and the profile's
/// for what is left out.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TransformationIn {
    /// Template of the body. Where the media type is JSON, a value inside of a string literal is written as
    /// its content, elsewhere as a JSON value.
    body: Option<String>,
    /// Templates of headers, which are sent beside the profile's and the endpoint's own.
    headers: Option<BTreeMap<String, String>>,
    /// The method, whatever methods the profile has.
    #[schemars(extend("enum" = ["POST", "PUT", "PATCH", null]))]
    method: Option<String>,
    /// The media type of the body.
    #[schemars(length(max = CONTENT_TYPE_BYTES_MAX))]
    content_type: Option<String>,
}

impl TransformationIn {
    /// Returns the transformation, or nothing where it has problems, which are noted.
    pub fn checked(self, problems: &mut Problems, context: &Context) -> Option<Transformation> {
        let mut method = None;
        if let Some(name) = &self.method {
            method = TRANSFORMATION_METHODS
                .into_iter()
                .find(|one| one.name() == name);
            let message = "must be POST, PUT or PATCH";
            let place = ["body", "transformation", "method"];
            problems.add_if(&place, method.is_none().then_some(message));
        }
        let transformation = Transformation {
            body: self.body,
            headers: self.headers.unwrap_or_default(),
            method,
            content_type: self.content_type,
        };
        let found = found_in(&transformation, context);
        let is_fine = found.is_empty() && (method.is_some() || self.method.is_none());
        for (rest, message) in found {
            let mut place = vec!["body", "transformation"];
            place.extend(rest.iter().map(String::as_str));
            problems.add(&place, message);
        }
        is_fine.then_some(transformation)
    }
}

/// The problems of a transformation whatever endpoint it is for, by their places in it. Templates are compiled
/// only where they are not too long.
fn found_in(transformation: &Transformation, context: &Context) -> Vec<(Vec<String>, String)> {
    let bytes = transformation.bytes();
    if bytes > TRANSFORMATION_BYTES_MAX {
        let message =
            format!("must have at most {TRANSFORMATION_BYTES_MAX} bytes in all, has {bytes}");
        return vec![(Vec::new(), message)];
    }
    let headers = &transformation.headers;
    if headers.len() > TRANSFORMATION_HEADERS_MAX {
        let message = format!("may have at most {TRANSFORMATION_HEADERS_MAX} entries");
        return vec![(vec!["headers".to_owned()], message)];
    }
    let mut found = Vec::new();
    let taken = |name: &str| {
        if name.eq_ignore_ascii_case("content-type") {
            return Some("is set by `contentType`");
        }
        is_sensitive(name).then_some("has the name of a secret; `authHeaders` are for these")
    };
    for (name, message) in header_problems(headers, TRANSFORMATION_BYTES_MAX, taken) {
        found.push((vec!["headers".to_owned(), name], message));
    }
    if let Some(content_type) = &transformation.content_type
        && !is_media_type(content_type)
    {
        let message = "must be a media type such as application/json, of at most 256 bytes";
        found.push((vec!["contentType".to_owned()], message.to_owned()));
    }
    if !found.is_empty() {
        return found;
    }
    let faults = (context.transformation_problems)(transformation).into_iter();
    faults
        .map(|fault| {
            let key = fault.key.unwrap_or_default();
            let place = match key.split_once('.') {
                Some((list, name)) => vec![list.to_owned(), name.to_owned()],
                None => vec![key],
            };
            let line = fault
                .line
                .map_or(String::new(), |line| format!("line {line}: "));
            (place, format!("{line}{}", fault.message))
        })
        .collect()
}

/// Whether a text is a media type: two tokens of RFC 9110, and parameters in visible ASCII.
fn is_media_type(text: &str) -> bool {
    let is_token = |text: &str| {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        !text.is_empty() && text.bytes().all(token)
    };
    let (media_type, parameters) = text.split_once(';').unwrap_or((text, ""));
    let parts = media_type.trim_end_matches(' ').split_once('/');
    text.len() <= CONTENT_TYPE_BYTES_MAX
        && parts.is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype))
        && parameters.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        && text.trim_ascii() == text
}

/// A transformation; what is null or empty is as the profile has it.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TransformationOut<'a> {
    body: Option<&'a str>,
    headers: &'a BTreeMap<String, String>,
    method: Option<&'static str>,
    content_type: Option<&'a str>,
}

impl<'a> From<&'a Transformation> for TransformationOut<'a> {
    fn from(transformation: &'a Transformation) -> Self {
        TransformationOut {
            body: transformation.body.as_deref(),
            headers: &transformation.headers,
            method: transformation.method.map(Method::name),
            content_type: transformation.content_type.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_has_two_parts_and_may_have_parameters() {
        for text in [
            "application/json",
            "text/plain; charset=utf-8",
            "application/vnd.a+json;v=\"1\"",
        ] {
            assert!(is_media_type(text), "{text}");
        }
        let long = format!("a/{}", "b".repeat(CONTENT_TYPE_BYTES_MAX));
        for text in [
            "",
            "a",
            "a/",
            "/b",
            "a/b\r\nc: d",
            "a/b;é",
            " a/b",
            "a/b ",
            "a b/c",
            &long,
        ] {
            assert!(!is_media_type(text), "{text}");
        }
    }
}
