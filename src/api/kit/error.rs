//! The only place where an error becomes HTTP: a status, a code and a sentence.
//!
//! Handlers return [`Failure`]; most are an [`Error`] from an inner layer, the rest exist only in
//! HTTP (a body too long, a method that a path does not have). All but 422 are
//! `{"code", "detail"}`; 422 is `{"detail": [{"loc", "msg", "type"}]}`. The cause of a storage
//! failure goes to the log and never to the caller.

use std::borrow::Cow;
use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use schemars::JsonSchema;
use serde::Serialize;

use crate::error::{Error, Invalid};

/// How long to wait after a storage failure: the process ends, and its supervisor needs a moment to
/// start it again.
const STORAGE_RETRY_SECONDS: u32 = 5;

#[derive(Debug)]
pub enum Failure {
    /// An error of an inner layer.
    Of(Error),
    /// No such path.
    NoRoute,
    /// A path of the contract that postrider does not offer, with its purpose.
    NotOffered(&'static str),
    /// The path does not have the method, only these.
    NoMethod(String),
    /// More bytes than the named limit.
    TooLarge(String),
    /// The body did not arrive in time.
    TooSlow,
    /// The body is compressed, by the encoding that is named.
    Encoded(String),
    /// The body broke off or is not framed as HTTP asks.
    BrokenBody,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Of(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.row().detail)
    }
}

/// A line of the table below.
struct Row {
    status: StatusCode,
    code: &'static str,
    detail: String,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Failure {
    /// The table of statuses, codes and the caller's sentences.
    fn row(&self) -> Row {
        let row = |status, code, detail: &dyn fmt::Display| Row {
            status,
            code,
            detail: detail.to_string(),
            header: None,
        };
        match self {
            Failure::Of(error) => match error {
                Error::NotFound(_) => row(StatusCode::NOT_FOUND, "not_found", error),
                Error::Conflict(_) => row(StatusCode::CONFLICT, "conflict", error),
                Error::Invalid(_) => row(StatusCode::UNPROCESSABLE_ENTITY, "invalid", error),
                Error::Unauthenticated => Row {
                    header: Some((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
                    ..row(
                        StatusCode::UNAUTHORIZED,
                        "authentication_failed",
                        &"no credential, or one that is not valid",
                    )
                },
                Error::SecretForToken => Row {
                    header: Some((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
                    ..row(
                        StatusCode::UNAUTHORIZED,
                        "authentication_failed",
                        &"the credential is the secret that tokens are signed with; sign a token \
                          with it, by `postrider token jwt`, and send that",
                    )
                },
                Error::LimitReached(_) => row(StatusCode::BAD_REQUEST, "limit_reached", error),
                Error::InvalidRange(_) => row(StatusCode::BAD_REQUEST, "invalid_range", error),
                Error::Forbidden(_) | Error::LacksScope(_) | Error::ForbiddenAddress(_) => {
                    row(StatusCode::FORBIDDEN, "forbidden", error)
                }
                Error::TooMany(_) => row(StatusCode::TOO_MANY_REQUESTS, "too_many", error),
                Error::TooManyNow {
                    retry_after_seconds,
                    ..
                } => Row {
                    header: Some((RETRY_AFTER, HeaderValue::from(*retry_after_seconds))),
                    ..row(StatusCode::TOO_MANY_REQUESTS, "too_many", error)
                },
                Error::Unavailable {
                    retry_after_seconds,
                    ..
                } => Row {
                    header: Some((RETRY_AFTER, HeaderValue::from(*retry_after_seconds))),
                    ..row(StatusCode::SERVICE_UNAVAILABLE, "unavailable", error)
                },
                Error::Defect => row(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", error),
                Error::Unreadable { between, .. } => {
                    let lists = between.map_or_else(String::new, |(from, to)| {
                        format!(
                            ": some of what is from {from} to {to}. Lists can be read with \
                             before={from} and with after={to}"
                        )
                    });
                    row(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "history_unreadable",
                        &format_args!(
                            "a part of the history that this needs cannot be read{lists}; the server's \
                             log says where it stands, and `postrider verify-store` looks at all of it"
                        ),
                    )
                }
                Error::Storage(_) => Row {
                    header: Some((RETRY_AFTER, HeaderValue::from(STORAGE_RETRY_SECONDS))),
                    ..row(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "storage_failed",
                        &"storage failed; the server takes nothing until it has restarted",
                    )
                },
            },
            Failure::NotOffered(what) => row(
                StatusCode::NOT_FOUND,
                "not_offered",
                &format_args!("postrider does not offer {what}"),
            ),
            Failure::NoRoute => row(StatusCode::NOT_FOUND, "not_found", &"no such path"),
            Failure::NoMethod(methods) => Row {
                header: HeaderValue::from_str(methods)
                    .ok()
                    .map(|methods| (ALLOW, methods)),
                ..row(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "method_not_allowed",
                    &format_args!("this path takes {methods}"),
                )
            },
            Failure::TooLarge(limit) => {
                row(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", limit)
            }
            Failure::TooSlow => row(
                StatusCode::REQUEST_TIMEOUT,
                "request_timeout",
                &"the body did not arrive in time",
            ),
            Failure::Encoded(encoding) => row(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                &format_args!("the body has the content-encoding {encoding}; send it without one"),
            ),
            Failure::BrokenBody => row(
                StatusCode::BAD_REQUEST,
                "bad_request",
                &"the body could not be read",
            ),
        }
    }
}

impl Failure {
    pub fn body(&self) -> ErrorBody<'_> {
        match self {
            Failure::Of(Error::Invalid(problems)) => ErrorBody::Invalid(InvalidBody {
                detail: problems.iter().map(InvalidItem::from).collect(),
            }),
            _ => {
                let Row { code, detail, .. } = self.row();
                ErrorBody::Other(OtherBody {
                    code,
                    detail,
                    scope: match self {
                        Failure::Of(Error::LacksScope(scope)) => Some(scope.clone()),
                        _ => None,
                    },
                })
            }
        }
    }

    /// Returns the problems in the form of a 422, at `place`, for an answer that has other
    /// problems, too.
    pub fn problems_at(&self, place: &[&str]) -> Vec<Invalid> {
        let of = |parts: &[String]| {
            let place = place.iter().map(|part| (*part).to_owned());
            place.chain(parts.iter().cloned()).collect()
        };
        match self {
            Failure::Of(Error::Invalid(problems)) => problems
                .iter()
                .map(|problem| Invalid {
                    // Without `body`, which `place` begins with.
                    location: of(problem.location.get(1..).unwrap_or_default()),
                    ..problem.clone()
                })
                .collect(),
            _ => {
                let Row { code, detail, .. } = self.row();
                vec![Invalid {
                    location: of(&[]),
                    message: detail,
                    kind: code.into(),
                }]
            }
        }
    }

    /// Returns the answer with this body, for a surface whose errors have a shape of their own. Its
    /// status and headers are the table's.
    pub fn answer(&self, body: &impl Serialize) -> HttpResponse {
        if let Failure::Of(Error::Storage(cause)) = self {
            log::error!("a request failed because storage failed: {cause}");
        }
        let row = self.row();
        let mut response = HttpResponse::build(row.status);
        if let Some(header) = row.header {
            response.insert_header(header);
        }
        response.json(body)
    }
}

/// The body of an answer that is an error.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
pub enum ErrorBody<'a> {
    Invalid(InvalidBody<'a>),
    Other(OtherBody),
}

/// The error of a request.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "HttpError")]
pub struct OtherBody {
    /// A word for programs.
    code: &'static str,
    /// A sentence for people.
    detail: String,
    /// The scope that the token lacks, where that is why it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<Cow<'static, str>>,
}

/// All problems of a request.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "HTTPValidationError")]
pub struct InvalidBody<'a> {
    detail: Vec<InvalidItem<'a>>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ValidationError")]
pub struct InvalidItem<'a> {
    /// The path to the value, such as `["body", "url"]`.
    loc: &'a [String],
    /// A sentence for people.
    msg: &'a str,
    /// A word for programs, such as `missing`.
    #[serde(rename = "type")]
    kind: &'a str,
}

impl<'a> From<&'a Invalid> for InvalidItem<'a> {
    fn from(problem: &'a Invalid) -> Self {
        InvalidItem {
            loc: &problem.location,
            msg: &problem.message,
            kind: &problem.kind,
        }
    }
}

impl ResponseError for Failure {
    fn status_code(&self) -> StatusCode {
        self.row().status
    }

    fn error_response(&self) -> HttpResponse {
        self.answer(&self.body())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::body::to_bytes;
    use serde_json::{Value, json};

    async fn answer(failure: Failure) -> (u16, Value, HttpResponse) {
        let shown = failure.error_response();
        let body = to_bytes(failure.error_response().into_body())
            .await
            .expect("a body in memory");
        let body = serde_json::from_slice(&body).expect("the body is JSON");
        (shown.status().as_u16(), body, shown)
    }

    #[actix_web::test]
    async fn each_error_has_its_status_and_code() {
        for (failure, status, code) in [
            (Error::not_found("message").into(), 404, "not_found"),
            (
                Error::Conflict("uid is taken".into()).into(),
                409,
                "conflict",
            ),
            (Error::Unauthenticated.into(), 401, "authentication_failed"),
            (Error::SecretForToken.into(), 401, "authentication_failed"),
            (
                Error::LimitReached("at most 5".into()).into(),
                400,
                "limit_reached",
            ),
            (
                Error::InvalidRange("too long".into()).into(),
                400,
                "invalid_range",
            ),
            (Error::forbidden("no").into(), 403, "forbidden"),
            (Error::lacks_scope("read").into(), 403, "forbidden"),
            (Error::TooMany("at most 5".into()).into(), 429, "too_many"),
            (Error::storage("disk on fire").into(), 503, "storage_failed"),
            (Error::Defect.into(), 500, "internal_error"),
            (Failure::NoRoute, 404, "not_found"),
            (Failure::NoMethod("GET".into()), 405, "method_not_allowed"),
            (
                Failure::TooLarge("at most 1".into()),
                413,
                "payload_too_large",
            ),
            (Failure::TooSlow, 408, "request_timeout"),
            (
                Failure::Encoded("gzip".into()),
                415,
                "unsupported_media_type",
            ),
            (Failure::BrokenBody, 400, "bad_request"),
        ] {
            let (found, body, _) = answer(failure).await;
            assert_eq!((found, body["code"].as_str()), (status, Some(code)));
            assert!(body["detail"].is_string(), "{body}");
            assert!(
                !body.to_string().contains("fire"),
                "a cause is not shown: {body}"
            );
        }
    }

    #[actix_web::test]
    async fn problems_are_listed_with_their_place() {
        let (status, body, _) = answer(
            Error::Invalid(vec![
                Invalid::body("url", "must be absolute"),
                Invalid {
                    location: vec!["query".into(), "limit".into()],
                    message: "must be a number".into(),
                    kind: "type_error".into(),
                },
            ])
            .into(),
        )
        .await;
        assert_eq!(status, 422);
        assert_eq!(
            body,
            json!({"detail": [
                {"loc": ["body", "url"], "msg": "must be absolute", "type": "value_error"},
                {"loc": ["query", "limit"], "msg": "must be a number", "type": "type_error"},
            ]})
        );
    }

    #[actix_web::test]
    async fn a_refusal_for_now_says_when_to_come_again() {
        let busy = Error::Unavailable {
            reason: "the commit queue is full".into(),
            retry_after_seconds: 3,
        };
        let (status, body, response) = answer(busy.into()).await;
        assert_eq!(status, 503);
        assert_eq!(body["detail"], "the commit queue is full");
        assert_eq!(response.headers().get("retry-after").unwrap(), "3");
        let too_often = Error::TooManyNow {
            reason: "at most 5 a second".into(),
            retry_after_seconds: 2,
        };
        let (status, body, response) = answer(too_often.into()).await;
        assert_eq!((status, body["code"].as_str()), (429, Some("too_many")));
        assert_eq!(response.headers().get("retry-after").unwrap(), "2");
    }
}
