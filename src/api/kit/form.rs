//! Bodies that are forms, `multipart/form-data` or urlencoded, as texts by name.
//!
//! For surfaces that take forms beside JSON. A body has been read into memory as a whole, so its
//! length has a limit already; the fields have theirs here. Error texts do not repeat values.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_multipart::{Field, Multipart};
use actix_web::HttpRequest;
use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_TYPE, HeaderMap};
use actix_web::web::Bytes;
use futures_core::Stream;
use percent_encoding::percent_decode;

use super::extract::Body;
use crate::error::{Error, Result};
use crate::misfit::{misspelled, not_known};
use crate::rules::checks::{Problems, wrong};

/// The most fields: more than any of our forms has, because clients may send others.
const FIELDS_MAX: usize = 32;

/// The longest field: enough for a list of a thousand event types with usual names.
const FIELD_BYTES_MAX: usize = 32 * 1024;

const NAME_BYTES_MAX: usize = 256;

/// The values of each name, in the order they came.
#[derive(Default)]
pub struct Form {
    values: BTreeMap<String, Vec<String>>,
    count: usize,
}

impl Form {
    /// Reads the form in a body; returns nothing where the content type is not a form's.
    pub async fn of(request: &HttpRequest, body: &Body) -> Result<Option<Form>> {
        let content_type = request.headers().get(CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        let media_type = content_type.and_then(|value| value.split(';').next());
        match media_type.map(|name| name.trim().to_ascii_lowercase()) {
            Some(name) if name == "multipart/form-data" => {
                multipart(request.headers(), body.0.clone()).await.map(Some)
            }
            Some(name) if name == "application/x-www-form-urlencoded" => {
                urlencoded(&body.0).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The value of a name that a form has once.
    pub fn take(&mut self, problems: &mut Problems, name: &str) -> Option<String> {
        let mut values = self.take_all(name);
        if values.len() > 1 {
            problems.add(&["body", name], "is given more than once");
        }
        values.pop()
    }

    pub fn take_all(&mut self, name: &str) -> Vec<String> {
        self.values.remove(name).unwrap_or_default()
    }

    /// Refuses remaining fields whose names look like one of the known ones. Other fields are
    /// ignored.
    pub fn refuse_misspelled(&self, problems: &mut Problems, known: &[&str]) {
        for name in self.values.keys() {
            if let Some(meant) = misspelled(name, known.iter().copied()) {
                problems.add(&["body", name], not_known("field", Some(meant)));
            }
        }
    }

    fn add(&mut self, name: String, value: &[u8]) -> Result<()> {
        self.count += 1;
        if self.count > FIELDS_MAX {
            let message = format!("may have at most {FIELDS_MAX} fields");
            return Err(wrong(&["body"], message));
        }
        if value.len() > FIELD_BYTES_MAX {
            return Err(too_long(&name));
        }
        let value = std::str::from_utf8(value)
            .map_err(|_| wrong(&["body", &name], "is not UTF-8"))?
            .to_owned();
        self.values.entry(name).or_default().push(value);
        Ok(())
    }
}

fn too_long(name: &str) -> Error {
    let message = format!("must have at most {FIELD_BYTES_MAX} bytes");
    wrong(&["body", name], message)
}

fn checked_name(name: Option<&str>) -> Result<String> {
    let name = name.filter(|name| (1..=NAME_BYTES_MAX).contains(&name.len()));
    let message = || format!("has a field without a name of 1 to {NAME_BYTES_MAX} bytes");
    name.map(str::to_owned)
        .ok_or_else(|| wrong(&["body"], message()))
}

/// `application/x-www-form-urlencoded`, as the URL standard parses it, but strict about UTF-8.
fn urlencoded(body: &[u8]) -> Result<Form> {
    let decoded = |text: &[u8]| {
        let text: Vec<u8> = text
            .iter()
            .map(|byte| if *byte == b'+' { b' ' } else { *byte })
            .collect();
        percent_decode(&text).collect::<Vec<u8>>()
    };
    let mut form = Form::default();
    for pair in body.split(|byte| *byte == b'&') {
        if pair.is_empty() {
            continue;
        }
        let mut parts = pair.splitn(2, |byte| *byte == b'=');
        let mut part = || decoded(parts.next().unwrap_or_default());
        let (name, value) = (part(), part());
        let name = checked_name(std::str::from_utf8(&name).ok())?;
        form.add(name, &value)?;
    }
    Ok(form)
}

async fn multipart(headers: &HeaderMap, body: Bytes) -> Result<Form> {
    let broken = |error| wrong(&["body"], format!("is not a multipart form: {error}"));
    let mut parts = Multipart::new(headers, Whole(Some(body)));
    let mut form = Form::default();
    while let Some(part) = next(&mut parts).await {
        let mut part = part.map_err(broken)?;
        let name = checked_name(part.name())?;
        match part.bytes(FIELD_BYTES_MAX).await {
            Ok(value) => form.add(name, &value.map_err(broken)?)?,
            Err(_) => return Err(too_long(&name)),
        }
    }
    Ok(form)
}

async fn next(parts: &mut Multipart) -> Option<Result<Field, actix_multipart::MultipartError>> {
    poll_fn(|context| Pin::new(&mut *parts).poll_next(context)).await
}

/// A body that is there already, as the stream that the parser reads.
struct Whole(Option<Bytes>);

impl Stream for Whole {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.take().map(Ok))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;
    use proptest::prelude::*;

    async fn form(content_type: &str, body: &[u8]) -> Result<Option<Form>> {
        let request = TestRequest::post().insert_header((CONTENT_TYPE, content_type));
        let body = Body(Bytes::copy_from_slice(body));
        Form::of(&request.to_http_request(), &body).await
    }

    async fn values(content_type: &str, body: &str) -> Vec<(String, Vec<String>)> {
        let form = form(content_type, body.as_bytes()).await.unwrap().unwrap();
        form.values.into_iter().collect()
    }

    /// Returns why a body cannot be read as a form, and where.
    async fn problem(content_type: &str, body: &[u8]) -> (String, String) {
        match form(content_type, body).await {
            Err(Error::Invalid(problems)) => {
                let [problem] = &problems[..] else {
                    panic!("{problems:?}");
                };
                (problem.location.join("."), problem.message.clone())
            }
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("it was taken"),
        }
    }

    fn expected(pairs: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
        let owned = |values: &[&str]| values.iter().map(|one| (*one).to_owned()).collect();
        let pairs = pairs.iter();
        pairs
            .map(|(name, values)| ((*name).to_owned(), owned(values)))
            .collect()
    }

    const URLENCODED: &str = "application/x-www-form-urlencoded";
    const MULTIPART: &str = "multipart/form-data; boundary=b";

    fn part(name: &str, value: &str) -> String {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    }

    #[actix_web::test]
    async fn urlencoded_bodies_are_read() {
        for (body, pairs) in [
            ("", expected(&[])),
            ("a=1&b=2", expected(&[("a", &["1"]), ("b", &["2"])])),
            ("a=1&&a=2&", expected(&[("a", &["1", "2"])])),
            ("a", expected(&[("a", &[""])])),
            ("a=", expected(&[("a", &[""])])),
            ("a=b=c", expected(&[("a", &["b=c"])])),
            (
                "a+b=c+d%2Be%26f%C3%A9",
                expected(&[("a b", &["c d+e&f\u{e9}"])]),
            ),
            ("a=100%", expected(&[("a", &["100%"])])),
        ] {
            assert_eq!(values(URLENCODED, body).await, pairs, "{body}");
            let with_charset = "Application/X-WWW-Form-Urlencoded ; charset=utf-8";
            assert_eq!(values(with_charset, body).await, pairs, "{body}");
        }
    }

    #[actix_web::test]
    async fn multipart_bodies_are_read() {
        let body = [
            part("a", "1, 2"),
            part("b", "line\r\nbreak"),
            part("a", ""),
            "--b--\r\n".to_owned(),
        ]
        .concat();
        let pairs = expected(&[("a", &["1, 2", ""]), ("b", &["line\r\nbreak"])]);
        assert_eq!(values(MULTIPART, &body).await, pairs);
        let file = "--b\r\nContent-Disposition: form-data; name=\"a\"; filename=\"f\"\r\n\
                    Content-Type: text/plain\r\n\r\ntext\r\n--b--";
        assert_eq!(values(MULTIPART, file).await, expected(&[("a", &["text"])]));
    }

    #[actix_web::test]
    async fn other_bodies_are_no_forms() {
        for content_type in [
            "application/json",
            "text/plain",
            "multipart/mixed; boundary=b",
            "",
        ] {
            assert!(form(content_type, b"a=1").await.unwrap().is_none());
        }
    }

    #[actix_web::test]
    async fn what_is_wrong_is_said_without_the_value() {
        let long = "x".repeat(FIELD_BYTES_MAX + 1);
        let many = |one: &str| one.repeat(FIELDS_MAX + 1);
        for (content_type, body, place, message) in [
            (URLENCODED, "a=%ff".to_owned(), "body.a", "UTF-8"),
            (URLENCODED, "=1".to_owned(), "body", "name"),
            (URLENCODED, "%ff=1".to_owned(), "body", "name"),
            (URLENCODED, format!("a={long}"), "body.a", "32768 bytes"),
            (URLENCODED, format!("{long}=a"), "body", "name"),
            (URLENCODED, many("a=1&"), "body", "32 fields"),
            (MULTIPART, String::new(), "body", "multipart"),
            (MULTIPART, "a=1".to_owned(), "body", "multipart"),
            (MULTIPART, part("a", "1"), "body", "multipart"),
            (MULTIPART, part("", "1") + "--b--", "body", "name"),
            (
                MULTIPART,
                part("a", &long) + "--b--",
                "body.a",
                "32768 bytes",
            ),
            (
                MULTIPART,
                many(&part("a", "1")) + "--b--",
                "body",
                "32 fields",
            ),
            (
                MULTIPART,
                "--b\r\nContent-Type: text/plain\r\n\r\n1\r\n--b--".to_owned(),
                "body",
                "multipart",
            ),
            ("multipart/form-data", part("a", "1"), "body", "boundary"),
        ] {
            let found = problem(content_type, body.as_bytes()).await;
            assert_eq!(found.0, place, "{content_type} {found:?}");
            assert!(found.1.contains(message), "{content_type} {found:?}");
        }
        let latin = [
            part("a", "").trim_end().as_bytes(),
            b"\r\n\r\n\xe9\r\n--b--",
        ]
        .concat();
        assert_eq!(problem(MULTIPART, &latin).await.0, "body.a");
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            text in "(--b|\r\n|Content-Disposition: form-data; name=\"a\"|--|b|=|&|%){0,12}",
        ) {
            let runtime = actix_web::rt::Runtime::new().unwrap();
            for body in [&bytes[..], text.as_bytes()] {
                for content_type in [URLENCODED, MULTIPART] {
                    let _ = runtime.block_on(form(content_type, body));
                }
            }
        }
    }
}
