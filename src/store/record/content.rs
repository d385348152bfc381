//! `Q` and `W` of the journal: what was sent in an attempt and what was answered, apart from the
//! rest of the attempt, so that they can be erased.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::values::byte_slice;
use super::{Kept, NotARecord, read_struct};
use crate::domain::attempt::Attempt;

/// The parts of an attempt's request that may show a message's content.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestContent {
    pub url: String,
    pub headers: Vec<(String, String)>,
}

/// The headers and the body of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnswerContent {
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// The text in the place of content that was erased.
const ERASED: &str = "EXPUNGED";

impl RequestContent {
    /// The content that is shown once a request was erased.
    pub fn erased() -> RequestContent {
        RequestContent {
            url: ERASED.to_owned(),
            headers: Vec::new(),
        }
    }
}

impl AnswerContent {
    /// The content that is shown once an answer was erased.
    pub fn erased() -> AnswerContent {
        AnswerContent {
            headers: Vec::new(),
            body: ERASED.as_bytes().to_vec(),
        }
    }
}

/// Schema 1.
#[derive(Serialize, Deserialize)]
pub struct Request1<'a> {
    url: Cow<'a, str>,
    headers: Cow<'a, [(String, String)]>,
}

/// Schema 1.
#[derive(Serialize, Deserialize)]
pub struct AnswerContent1<'a> {
    headers: Cow<'a, [(String, String)]>,
    #[serde(with = "byte_slice")]
    body: Cow<'a, [u8]>,
}

/// Takes the content out of an attempt.
pub fn take_content(attempt: &mut Attempt) -> (RequestContent, AnswerContent) {
    let request = RequestContent {
        url: std::mem::take(&mut attempt.url),
        headers: std::mem::take(&mut attempt.request_headers),
    };
    let answer = attempt.answer.as_mut();
    let answer = answer.map(|answer| AnswerContent {
        headers: std::mem::take(&mut answer.headers),
        body: std::mem::take(&mut answer.body),
    });
    (request, answer.unwrap_or_default())
}

/// Puts content back into the attempt that it was taken out of.
pub fn put_content(attempt: &mut Attempt, request: RequestContent, content: AnswerContent) {
    attempt.url = request.url;
    attempt.request_headers = request.headers;
    if let Some(answer) = &mut attempt.answer {
        answer.headers = content.headers;
        answer.body = content.body;
    }
}

impl<'a> From<&'a RequestContent> for Request1<'a> {
    fn from(value: &'a RequestContent) -> Request1<'a> {
        Request1 {
            url: Cow::from(&value.url),
            headers: Cow::from(&value.headers),
        }
    }
}

impl<'a> From<&'a AnswerContent> for AnswerContent1<'a> {
    fn from(value: &'a AnswerContent) -> AnswerContent1<'a> {
        AnswerContent1 {
            headers: Cow::from(&value.headers),
            body: Cow::from(&value.body),
        }
    }
}

impl Kept for RequestContent {
    const SCHEMA: u16 = 1;
    type Record<'a> = Request1<'a>;

    fn read(_: u16, bytes: &mut &[u8]) -> Result<RequestContent, NotARecord> {
        let record = read_struct::<Request1<'_>>(bytes)?;
        Ok(RequestContent {
            url: record.url.into_owned(),
            headers: record.headers.into_owned(),
        })
    }
}

impl Kept for AnswerContent {
    const SCHEMA: u16 = 1;
    type Record<'a> = AnswerContent1<'a>;

    fn read(_: u16, bytes: &mut &[u8]) -> Result<AnswerContent, NotARecord> {
        let record = read_struct::<AnswerContent1<'_>>(bytes)?;
        Ok(AnswerContent {
            headers: record.headers.into_owned(),
            body: record.body.into_owned(),
        })
    }
}
