//! What went wrong, without HTTP in it.
//!
//! Inner layers return these meanings; `api/kit/error.rs` alone turns one into a status. A receiver's
//! failure is not an error: it is an outcome that the attempt log records. A leaf.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// One thing that is wrong with what a caller sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invalid {
    /// Where: `["body", "url"]`, `["query", "limit"]`, `["body", "channels", "2"]`.
    pub location: Vec<String>,
    /// What, as a sentence for the caller.
    pub message: String,
    /// The kind of problem, as the API shows it: `value_error`, `missing`, `type_error`.
    pub kind: Cow<'static, str>,
}

impl Invalid {
    /// A value in the request's body that breaks a rule.
    pub fn body(field: &str, message: impl Into<String>) -> Invalid {
        Invalid {
            location: ["body"]
                .into_iter()
                .chain(field.split('.'))
                .map(str::to_owned)
                .collect(),
            message: message.into(),
            kind: "value_error".into(),
        }
    }
}

/// Plain data, but for what the disk says: an answer to a command of another machine can be one.
#[derive(Clone, Debug, thiserror::Error, Serialize, Deserialize)]
pub enum Error {
    /// The named thing does not exist, or the caller may not know that it does.
    #[error("{0} not found")]
    NotFound(Cow<'static, str>),
    /// Something unique exists already, or a request contradicts an earlier one.
    #[error("{0}")]
    Conflict(String),
    #[error("{}", .0.iter().map(|problem| format!("{}: {}", problem.location.join("."), problem.message)).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Invalid>),
    /// No credential, or none that is valid.
    #[error("authentication failed")]
    Unauthenticated,
    /// The secret that tokens are signed with was sent in a token's place.
    #[error("authentication failed")]
    SecretForToken,
    /// More of something than there can be, for a request that is wrong in itself.
    #[error("{0}")]
    LimitReached(String),
    /// A stretch of time that is longer than can be asked for.
    #[error("{0}")]
    InvalidRange(String),
    /// The caller may see it, and may not do it.
    #[error("{0}")]
    Forbidden(Cow<'static, str>),
    /// The caller's role may do it, and its token lacks this scope.
    #[error("this token lacks the scope {0}")]
    LacksScope(Cow<'static, str>),
    /// The caller's token may not be used from where the request comes; the sentence names the address.
    #[error("{0}")]
    ForbiddenAddress(String),
    /// More than a stated limit allows; the sentence names the limit.
    #[error("{0}")]
    TooMany(String),
    /// The same where waiting helps. `retry_after_seconds` says when to come again.
    #[error("{reason}")]
    TooManyNow {
        reason: String,
        retry_after_seconds: u32,
    },
    /// Nothing is wrong with the request, and it cannot be taken now. `retry_after_seconds` says
    /// when to come again.
    #[error("{reason}")]
    Unavailable {
        reason: String,
        retry_after_seconds: u32,
    },
    /// A defect of ours; the log says where.
    #[error("an error of the server kept this from being done; its log says more")]
    Defect,
    /// A part of the history is damaged or missing. The rest goes on.
    #[error("history cannot be read: {cause}")]
    #[serde(skip)]
    Unreadable {
        cause: Arc<dyn std::error::Error + Send + Sync>,
        /// What a list leaves out that is read up to the first of these times and on from the second; none
        /// where that does not help.
        between: Option<(Timestamp, Timestamp)>,
    },
    /// The store failed. It takes nothing more until the process starts again.
    #[error("storage failed: {0}")]
    #[serde(skip)]
    Storage(Arc<dyn std::error::Error + Send + Sync>),
}

impl Error {
    pub const fn not_found(what: &'static str) -> Error {
        Error::NotFound(Cow::Borrowed(what))
    }

    pub const fn forbidden(why: &'static str) -> Error {
        Error::Forbidden(Cow::Borrowed(why))
    }

    pub const fn lacks_scope(scope: &'static str) -> Error {
        Error::LacksScope(Cow::Borrowed(scope))
    }

    pub fn invalid(problem: Invalid) -> Error {
        Error::Invalid(vec![problem])
    }

    pub fn storage(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Storage(Arc::from(cause.into()))
    }
}

pub type Result<T, E = Error> = std::result::Result<T, E>;
