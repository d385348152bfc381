//! HTTP as the store's client uses it, with two additions: every answer has a bounded length, and an
//! answer that refuses a request keeps its status and the service's error code.
//!
//! The store's own errors do not show the status, and call some refusals "generic". So a refusal becomes
//! an error of the connection here that has an [`Answer`] as its source. Only the answers to conditions
//! (exists already, was not modified) pass as they are, because the store handles them itself.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;

use bytes::Bytes;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService, ReqwestConnector,
};

/// A stretch of an object has 8 MiB, and a page of a list fewer than 5 MiB. They are held in memory.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// An answer that refuses has a document of a few hundred bytes.
const REFUSAL_BYTES_MAX: usize = 64 << 10;

/// The longest error code of the services has fewer letters.
const CODE_BYTES_MAX: usize = 64;

/// Where machines of the services find credentials of their own.
const METADATA_HOSTS: [&str; 4] = [
    "169.254.169.254",
    "169.254.170.2",
    "metadata.google.internal",
    "metadata",
];

/// An answer that refuses a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub status: u16,
    /// The service's error code, such as `AccessDenied`.
    pub code: Option<String>,
}

impl Answer {
    /// Whether the credentials are wrong, or not allowed to do this.
    pub fn is_refusal(&self) -> bool {
        matches!(self.status, 401 | 403) || self.has_code(&["ExpiredToken", "InvalidToken"])
    }

    /// Whether the same request may succeed in a moment. S3 says `RequestTimeout` with a 400.
    pub fn may_pass(&self) -> bool {
        matches!(self.status, 408 | 429 | 500 | 502..=506 | 508..=599)
            || self.has_code(&["RequestTimeout", "SlowDown", "InternalError"])
    }

    pub fn has_code(&self, codes: &[&str]) -> bool {
        self.code
            .as_deref()
            .is_some_and(|code| codes.contains(&code))
    }

    /// How the answer fails its request. None where the store handles it itself: answers to conditions,
    /// and those of a metadata service that wants to be asked in another way.
    fn failure(&self, is_metadata: bool) -> Option<HttpErrorKind> {
        match self.status {
            // The kind of a request that can be made again.
            _ if self.may_pass() => Some(HttpErrorKind::Request),
            401 | 403 if is_metadata => None,
            304 | 409 | 412 => None,
            _ => Some(HttpErrorKind::Unknown),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.code {
            Some(code) => write!(f, "answers {} {code}", self.status),
            None => write!(f, "answers {}", self.status),
        }
    }
}

impl std::error::Error for Answer {}

/// No credentials were given, and this machine has none of its own.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no credentials are set")]
pub(super) struct NoCredentials;

/// An answer is longer than any that a service has reason to give.
#[derive(Debug, thiserror::Error)]
#[error("the answer is too long")]
struct TooLong;

/// Connects as the store does by default, and looks at every answer.
#[derive(Debug)]
pub(super) struct Wire;

impl HttpConnector for Wire {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Judged(client)))
    }
}

#[derive(Debug)]
struct Judged(HttpClient);

impl HttpService for Judged {
    fn call<'client, 'call>(
        &'client self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'call>>
    where
        'client: 'call,
        Self: 'call,
    {
        Box::pin(self.judged(request))
    }
}

impl Judged {
    async fn judged(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let host = request.uri().host();
        let is_metadata = host.is_some_and(|host| METADATA_HOSTS.contains(&host));
        let response = match self.0.execute(request).await {
            Err(error) if is_metadata => return Err(HttpError::new(error.kind(), NoCredentials)),
            other => other?,
        };
        let (parts, body) = response.into_parts();
        let is_success = parts.status.is_success();
        let bytes_max = match is_success {
            true => ANSWER_BYTES_MAX,
            false => REFUSAL_BYTES_MAX,
        };
        let bytes = collected(body, bytes_max).await?;
        if !is_success {
            let code = parts.headers.get("x-ms-error-code");
            let code = code.and_then(|code| code.to_str().ok());
            let answer = Answer {
                status: parts.status.as_u16(),
                code: code.and_then(checked).or_else(|| code_in(&bytes)),
            };
            if let Some(kind) = answer.failure(is_metadata) {
                return Err(match is_metadata && !answer.may_pass() {
                    true => HttpError::new(kind, NoCredentials),
                    false => HttpError::new(kind, answer),
                });
            }
        }
        let body = HttpResponseBody::from(Bytes::from(bytes));
        Ok(HttpResponse::from_parts(parts, body))
    }
}

async fn collected(body: HttpResponseBody, bytes_max: usize) -> Result<Vec<u8>, HttpError> {
    let mut pieces = body.bytes_stream();
    let mut bytes = Vec::new();
    while let Some(piece) = poll_fn(|context| pieces.as_mut().poll_next(context)).await {
        let piece = piece?;
        if bytes.len() + piece.len() > bytes_max {
            return Err(HttpError::new(HttpErrorKind::Decode, TooLong));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// The error code in a document of S3, Google or Azure.
fn code_in(document: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(document);
    let (_, rest) = text.split_once("<Code>")?;
    checked(rest.split_once("</Code>")?.0)
}

/// A code that can be shown.
fn checked(code: &str) -> Option<String> {
    let is_code = (1..=CODE_BYTES_MAX).contains(&code.len())
        && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_code.then(|| code.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, code: Option<&str>) -> Answer {
        let code = code.map(str::to_owned);
        Answer { status, code }
    }

    #[test]
    fn an_answer_fails_in_a_way_that_is_tried_again_or_not() {
        use HttpErrorKind::{Request, Unknown};
        for (status, code, kind) in [
            (503, None, Some(Request)),
            (500, Some("InternalError"), Some(Request)),
            (501, None, Some(Unknown)),
            (507, None, Some(Unknown)),
            (429, None, Some(Request)),
            (400, Some("RequestTimeout"), Some(Request)),
            (400, Some("AuthorizationHeaderMalformed"), Some(Unknown)),
            (301, None, Some(Unknown)),
            (403, Some("AccessDenied"), Some(Unknown)),
            (403, None, Some(Unknown)),
            (404, Some("NoSuchKey"), Some(Unknown)),
            (409, Some("BlobAlreadyExists"), None),
            (412, Some("PreconditionFailed"), None),
        ] {
            let found = answer(status, code).failure(false);
            assert_eq!(found, kind, "{status} {code:?}");
        }
        assert_eq!(answer(403, None).failure(true), None);
        assert_eq!(answer(404, None).failure(true), Some(Unknown));
        assert_eq!(answer(503, None).failure(true), Some(Request));
    }

    #[test]
    fn a_code_is_letters_and_digits() {
        for (document, code) in [
            (
                "<?xml?><Error><Code>NoSuchKey</Code><Message>",
                Some("NoSuchKey"),
            ),
            ("<Error><Code></Code></Error>", None),
            ("<Error><Code>a b</Code></Error>", None),
            ("<Error><Code>NoSuchKey", None),
            ("", None),
        ] {
            assert_eq!(code_in(document.as_bytes()).as_deref(), code, "{document}");
        }
        assert_eq!(checked(&"a".repeat(65)), None);
    }
}
