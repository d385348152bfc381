//! The continuous copy of the store, in the server's state.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Kind, Problem, Severity};
use crate::api::kit::extract::{optional_text, text};
use crate::clock::Timestamp;
use crate::telemetry::BackupState;

/// A copy that is older than this is a problem, though no run failed.
const LATE_SECONDS: f64 = 300.0;

/// The continuous copy of the store.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "StatusBackup")]
pub struct BackupOut {
    /// The folder or the bucket.
    to: String,
    /// When the copy was brought up to date last. Null before the first time since the start.
    #[serde(serialize_with = "optional_text")]
    completed_at: Option<Timestamp>,
    /// The time of the newest commit that is in the copy.
    #[serde(serialize_with = "optional_text")]
    copied_until: Option<Timestamp>,
    /// How long the oldest commit waits that is not in the copy; 0 where all are.
    lag_seconds: f64,
    /// Why the store cannot be copied. Null while it can.
    failing: Option<FailingOut>,
    /// The bucket keeps older versions of objects: what is erased in the copy is not gone there.
    keeps_versions: bool,
    /// Erased payloads, requests and answers that are still in the copy.
    still_to_erase: usize,
    /// Bytes copied since the start.
    bytes: u64,
    /// Requests to the target since the start.
    requests: u64,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "StatusBackupFailing")]
struct FailingOut {
    #[serde(serialize_with = "text")]
    since: Timestamp,
    reason: String,
}

impl From<BackupState> for BackupOut {
    fn from(state: BackupState) -> BackupOut {
        BackupOut {
            to: state.to,
            completed_at: state.completed_at,
            copied_until: state.copied_until,
            lag_seconds: state.lag_seconds,
            failing: state
                .failing
                .map(|(since, reason)| FailingOut { since, reason }),
            keeps_versions: state.keeps_versions,
            still_to_erase: state.still_to_erase,
            bytes: state.bytes,
            requests: state.requests,
        }
    }
}

/// A copy that cannot be made, or is late.
pub fn problem(state: &BackupState) -> Option<Problem> {
    let BackupState {
        to,
        lag_seconds,
        failing,
        ..
    } = state;
    let message = match failing {
        Some((since, reason)) => {
            format!("The store has not been copied to {to} since {since}: {reason}.")
        }
        None if *lag_seconds > LATE_SECONDS => {
            format!("The copy of the store at {to} is {lag_seconds:.0} seconds behind.")
        }
        None => return None,
    };
    Some(Problem::new(Severity::Warning, Kind::BackupBehind, message))
}
