//! The threads of the process, as the status shows them.

use schemars::JsonSchema;
use serde::Serialize;

use crate::api::kit::extract::text;
use crate::clock::Timestamp;
use crate::watched::{LastError, Look, State};

/// A thread that lives as long as the server.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ThreadOut {
    name: String,
    /// Its work, in a few words for people.
    does: &'static str,
    /// `running` where a thread does not report when it works and when it waits.
    #[schemars(extend("enum" = ["idle", "working", "running", "ended"]))]
    state: &'static str,
    /// The start of that state.
    #[serde(serialize_with = "text")]
    since: Timestamp,
    last_error: Option<ThreadErrorOut>,
    /// The number of its errors since the start.
    errors: u64,
}

/// The last error of a thread.
#[derive(Serialize, JsonSchema)]
struct ThreadErrorOut {
    /// The error, cut after some hundred bytes.
    message: String,
    #[serde(serialize_with = "text")]
    at: Timestamp,
}

impl From<Look> for ThreadOut {
    fn from(look: Look) -> ThreadOut {
        let error = |LastError { message, at }| ThreadErrorOut { message, at };
        ThreadOut {
            name: look.name,
            does: look.does,
            state: match look.state {
                State::Idle => "idle",
                State::Working => "working",
                State::Running => "running",
                State::Ended => "ended",
            },
            since: look.since,
            last_error: look.last_error.map(error),
            errors: look.errors,
        }
    }
}
