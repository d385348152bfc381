//! `[store]`: the data directory, how long history is kept, its slices, and the export.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::setting::{ANY, ANY_U32, MIB, Setting, setting, text, whole};

const RETENTION_DAYS_MAX: u64 = 36_500;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoreSection {
    pub path: PathBuf,
    pub cache_bytes: u64,
    pub retention_days: u32,
    pub min_free_bytes: u64,
    /// A slice of history is closed for writing at this age …
    pub slice_hours: u32,
    /// … or at this size, whichever comes first.
    pub slice_bytes: u64,
    /// How often the registrations are exported beside the database.
    pub export_minutes: u32,
    /// A commit that takes longer ends the process.
    pub commit_timeout_seconds: u64,
}

pub(super) const SETTINGS: &[Setting] = &[
    setting("path", text(|path| !path.is_empty(), "must not be empty")),
    setting("cache_bytes", whole(MIB..=ANY)),
    setting("retention_days", whole(1..=RETENTION_DAYS_MAX)),
    setting("min_free_bytes", whole(0..=ANY)),
    // The longest retention: `retention_days` follows where it is not set.
    setting("slice_hours", whole(1..=RETENTION_DAYS_MAX * 24)),
    setting("slice_bytes", whole(MIB..=ANY)),
    setting("export_minutes", whole(1..=ANY_U32)),
    setting("commit_timeout_seconds", whole(1..=3600)),
];
