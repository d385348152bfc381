//! Settings of the store, from those of the server.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::Config;
use crate::domain::id::OrganisationId;
use crate::domain::jwt::JwtSecret;
use crate::domain::notice::NoticeRules;

/// The length of the journal's files.
const SEGMENT_BYTES: u32 = 64 << 20;

/// How long the outcome of an attempt may wait for its commit.
const RECORDED_WITHIN: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub struct StoreSettings {
    pub path: PathBuf,
    /// A store that a version before wrote may be taken over, which that one cannot open then.
    pub migrate: bool,
    /// The directory's files are being laid down by a restore.
    pub is_being_restored: bool,
    pub cache_bytes: u64,
    pub retention: Duration,
    pub min_free_bytes: u64,
    pub slice_age: Duration,
    pub slice_bytes: u64,
    /// Of a file of the journal.
    pub segment_bytes: u32,
    pub export_every: Duration,
    pub commit_timeout: Duration,
    pub waiting_max: u64,
    pub held_max: u64,
    pub waiting_per_application_max: u64,
    pub commit_queue_max: usize,
    pub default_organisation: Option<OrganisationId>,
    /// The secret that signed tokens are signed with.
    pub jwt_secret: Option<JwtSecret>,
    /// The address of the console from outside, where the server knows it.
    pub console_url: Option<String>,
    /// How long after its start an attempt is in the log at the latest, unless the disk is slower
    /// than all patience.
    pub attempt_recorded_after: Duration,
    /// When people are told of endpoints that fail.
    pub notices: NoticeRules,
}

impl StoreSettings {
    pub fn from_config(config: &Config) -> StoreSettings {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 60 * MINUTE;
        let Config {
            store,
            limits,
            auth,
            server,
            ..
        } = config;
        let organisation = auth.default_organisation.as_deref();
        StoreSettings {
            path: store.path.clone(),
            migrate: false,
            is_being_restored: false,
            cache_bytes: store.cache_bytes,
            retention: Duration::from_secs(u64::from(store.retention_days) * 24 * HOUR),
            min_free_bytes: store.min_free_bytes,
            slice_age: Duration::from_secs(u64::from(store.slice_hours) * HOUR),
            slice_bytes: store.slice_bytes,
            segment_bytes: SEGMENT_BYTES,
            export_every: Duration::from_secs(u64::from(store.export_minutes) * MINUTE),
            commit_timeout: Duration::from_secs(store.commit_timeout_seconds),
            waiting_max: limits.waiting_max,
            held_max: limits.held_max,
            waiting_per_application_max: limits.waiting_per_application_max,
            commit_queue_max: limits.commit_queue_max,
            default_organisation: organisation.map(|id| {
                id.parse()
                    .expect("it was parsed when the settings were checked")
            }),
            jwt_secret: auth.jwt_secret.clone(),
            console_url: server
                .public_url
                .is_some()
                .then(|| format!("{}/console", server.public_url())),
            attempt_recorded_after: config.attempt_time_max() + RECORDED_WITHIN,
            notices: config.notify.rules(),
        }
    }
}
