//! The continuous copy of the store, in the server's state.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::{Kind, Problem, Severity};
use crate::api::kit::extract::{optional_text, text};
use crate::clock::Timestamp;
use crate::telemetry::{BackupState, BackupVerified};

/// A copy that is older than this is a problem, though no run failed.
const LATE_SECONDS: f64 = 300.0;
/// A copy that was to be verified for so long is a problem. Each hour it is tried.
const UNVERIFIED_LONG: Duration = Duration::from_secs(24 * 3600);

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
    /// The last time that all of the copy was read and checked (`backup.verify_every_hours`), by this process or one
    /// before. Null before the first time.
    verified: Option<VerifiedOut>,
    /// Why the copy could not be verified when that was due. Null once it was.
    unverified: Option<FailingOut>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "StatusBackupVerified")]
struct VerifiedOut {
    #[serde(serialize_with = "text")]
    at: Timestamp,
    /// Everything in the copy was read and is whole.
    ok: bool,
    /// The damage that was found first, with the name of the object.
    error: Option<String>,
    /// How long it took.
    seconds: f64,
    /// Bytes that were read; 0 where damage ended it.
    bytes: u64,
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
            failing: state.failing.map(FailingOut::from),
            keeps_versions: state.keeps_versions,
            still_to_erase: state.still_to_erase,
            bytes: state.bytes,
            requests: state.requests,
            verified: state.verified.map(VerifiedOut::from),
            unverified: state.unverified.map(FailingOut::from),
        }
    }
}

impl From<(Timestamp, String)> for FailingOut {
    fn from((since, reason): (Timestamp, String)) -> FailingOut {
        FailingOut { since, reason }
    }
}

impl From<BackupVerified> for VerifiedOut {
    fn from(verified: BackupVerified) -> VerifiedOut {
        VerifiedOut {
            at: verified.at,
            ok: verified.damage.is_none(),
            error: verified.damage,
            seconds: verified.seconds,
            bytes: verified.bytes,
        }
    }
}

/// A copy that cannot be made, is late, was found damaged or cannot be verified.
pub fn problems(state: &BackupState, now: Timestamp) -> Vec<Problem> {
    let BackupState {
        to,
        lag_seconds,
        failing,
        verified,
        unverified,
        ..
    } = state;
    let mut problems = Vec::new();
    let mut add = |severity, kind, message: String| {
        problems.push(Problem::new(severity, kind, message));
    };
    // The reasons name the target.
    if let Some(BackupVerified {
        at,
        damage: Some(damage),
        ..
    }) = verified
    {
        let message = format!("The copy of the store was found damaged at {at}: {damage}.");
        add(Severity::Critical, Kind::BackupDamaged, message);
    }
    if let Some((since, reason)) = failing {
        let message = format!("The store has not been copied since {since}: {reason}.");
        add(Severity::Warning, Kind::BackupBehind, message);
    } else if *lag_seconds > LATE_SECONDS {
        let message = format!("The copy of the store at {to} is {lag_seconds:.0} seconds behind.");
        add(Severity::Warning, Kind::BackupBehind, message);
    }
    if let Some((since, reason)) = unverified
        && now.since(*since) >= UNVERIFIED_LONG
    {
        let message =
            format!("The copy of the store could not be verified since {since}: {reason}.");
        add(Severity::Warning, Kind::BackupBehind, message);
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_of_the_copy_is_a_problem_that_names_the_target_once() {
        let now = Timestamp::from_seconds(1_700_000_000);
        let state = |change: fn(&mut BackupState, Timestamp)| {
            let mut state = BackupState {
                to: "s3://bucket".to_owned(),
                completed_at: Some(now),
                position: 7,
                copied_until: Some(now),
                lag_seconds: 0.0,
                failing: None,
                keeps_versions: false,
                still_to_erase: 0,
                bytes: 0,
                requests: 0,
                verified: None,
                whole_at: None,
                unverified: None,
                verify_failures: 0,
            };
            change(&mut state, now);
            state
        };
        let reason = || "s3://bucket/00ff: cannot be reached".to_owned();
        type Change = fn(&mut BackupState, Timestamp);
        let cases: [(Change, &[Kind]); 6] = [
            (|_, _| (), &[]),
            (|state, _| state.lag_seconds = 301.0, &[Kind::BackupBehind]),
            (
                |state, now| state.unverified = Some((now, "no room".to_owned())),
                &[],
            ),
            (
                |state, now| {
                    let since = now.saturating_sub(UNVERIFIED_LONG);
                    state.unverified = Some((since, "s3://bucket: no room".to_owned()));
                },
                &[Kind::BackupBehind],
            ),
            (
                |state, now| {
                    state.verified = Some(BackupVerified {
                        at: now,
                        damage: Some("s3://bucket/00ff: piece-1 is damaged".to_owned()),
                        seconds: 1.0,
                        bytes: 0,
                    });
                },
                &[Kind::BackupDamaged],
            ),
            (
                |state, now| {
                    state.verified = Some(BackupVerified {
                        at: now,
                        damage: None,
                        seconds: 1.0,
                        bytes: 1,
                    });
                },
                &[],
            ),
        ];
        for (change, expected) in cases {
            let found = problems(&state(change), now);
            let kinds = Vec::from_iter(found.iter().map(|problem| problem.kind));
            assert_eq!(kinds, expected, "{found:?}");
            for problem in found {
                let named = problem.message.matches("s3://bucket").count();
                assert_eq!(named, 1, "{}", problem.message);
            }
        }
        let failing = BackupState {
            failing: Some((now, reason())),
            lag_seconds: 301.0,
            ..state(|_, _| ())
        };
        let [problem] = &problems(&failing, now)[..] else {
            panic!("it is one problem");
        };
        assert_eq!(problem.message.matches("s3://bucket").count(), 1);
    }
}
