//! Logging and metrics, for the operator of a running server.
//!
//! The command line calls [`init_logging`] once; the store, the scheduler and the API count on the
//! fields of [`Metrics`], and `/metrics` shows [`Metrics::encode`]; the scheduler passes every
//! finished attempt to [`AttemptLog`]. Labels take values from fixed lists only and the log of
//! attempts is limited per endpoint and minute, so that neither customers nor receivers can make
//! memory or output grow. Payloads, secrets and tokens are never logged.

mod attempt_log;
mod backup;
mod latencies;
mod logger;
mod metrics;
mod notify;
mod samples;

pub use attempt_log::{AttemptLine, AttemptLog};
pub use backup::{BackupState, BackupVerified};
pub use latencies::Latencies;
pub use logger::{SLOW_READERS, init_logging, note_stopping, set_log_level};
pub use metrics::{CutOff, Limit, METRICS_CONTENT_TYPE, Metrics, SchemaOutcome, SignInCounters};
pub use notify::{MailOutcome, NotifyState};
pub use samples::Sample;

/// The name of a successful attempt's outcome; a failure's is [`FailureKind::name`].
const DELIVERED: &str = "delivered";
