//! The state of the continuous copy of the store, for status, metrics and pages.

use crate::clock::Timestamp;

/// The state of the copy that a running server makes.
#[derive(Clone, Debug)]
pub struct BackupState {
    /// The target, without secrets.
    pub to: String,
    /// When the last run ended that brought the copy up to date; none before the first.
    pub completed_at: Option<Timestamp>,
    /// The last record of the journal that is in the copy; 0 before the first.
    pub position: u64,
    /// The time of the last commit that is in the copy.
    pub copied_until: Option<Timestamp>,
    /// How long the oldest commit waits that is not in the copy; 0 where all are.
    pub lag_seconds: f64,
    /// Why the last run failed, and since when none has succeeded.
    pub failing: Option<(Timestamp, String)>,
    /// The target keeps older versions of objects, so that what is erased in the copy is not gone there.
    pub keeps_versions: bool,
    /// Erased parts that are still in the copy.
    pub still_to_erase: usize,
    /// Copied since the start of the server.
    pub bytes: u64,
    /// Made since the start of the server.
    pub requests: u64,
    /// The last verification that came to its end, whichever process made it.
    pub verified: Option<BackupVerified>,
    /// When the last one ended that found everything whole.
    pub whole_at: Option<Timestamp>,
    /// Since when verifications have not come to their end, and why.
    pub unverified: Option<(Timestamp, String)>,
    /// Verifications since the start of the server that found damage.
    pub verify_failures: u64,
}

/// A verification of the copy that came to its end.
#[derive(Clone, Debug)]
pub struct BackupVerified {
    pub at: Timestamp,
    /// The first damage that was found.
    pub damage: Option<String>,
    pub seconds: f64,
    /// Bytes that were read.
    pub bytes: u64,
}
