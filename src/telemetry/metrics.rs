//! The counters of one server, and their text for `/metrics`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::text;
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

use super::DELIVERED;
use super::backup::BackupState;
use super::latencies::Latencies;
use super::notify::{MailOutcome, NotifyState};
use super::samples::{Sample, Samples, Totals};
use crate::clock::Timestamp;
use crate::domain::attempt::FailureKind;
use crate::domain::disabled::DisabledReason;
use crate::domain::visit::Surface;
use crate::lock::locked;
use crate::shortage::{Shortage, Shortages};

/// The media type of [`Metrics::encode`].
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The counters of one server. Shared by reference; counting takes an atomic addition, and a
/// histogram a short lock. [`Metrics::new`] has a sentence about each.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub accepted: Counter,
    /// The first for delivered, then one for each kind of failure in its order.
    attempts: [Counter; FailureKind::ALL.len() + 1],
    pub in_flight: Gauge,
    pub waiting: Gauge,
    pub held: Gauge,
    pub endpoints_held: Gauge,
    pub lanes_resting: Gauge,
    pub breakers_opened: Counter,
    /// In the order of [`DisabledReason::AUTOMATIC`].
    endpoints_disabled: [Counter; DisabledReason::AUTOMATIC.len()],
    pub waiting_for_host: Gauge,
    pub oldest_due_seconds: Gauge<f64, AtomicU64>,
    pub journal_ahead_bytes: Gauge,
    pub checkpoints: Counter,
    pub commit_batch_size: Histogram,
    pub commit_seconds: Histogram,
    pub publish_to_receipt_seconds: Histogram,
    /// The same of deliveries that needed one attempt, for [`Metrics::samples`].
    pub first_receipts: Latencies,
    samples: Mutex<Samples>,
    pub store_bytes: Gauge,
    pub blob_files: Gauge,
    pub slices_opened: Counter,
    pub store_problems: Gauge,
    pub erasures: Gauge,
    backup: BackupGauges,
    pub auth_failures: Counter,
    pub auth_failures_refused: Counter,
    pub connections_refused: Counter,
    put_off: [Counter; Shortage::ALL.len()],
    /// The current shortages of this machine, for status and health.
    pub shortages: Shortages,
    pub reads_waiting: Gauge,
    pub reads_under_way: Gauge,
    pub answer_bytes: Gauge,
    pub slow_readers_cut_off: CutOff,
    refused: [Counter; Limit::ALL.len()],
    /// In the order of [`Surface::ALL`].
    pub sessions: [Gauge; Surface::ALL.len()],
    pub sessions_crowded_out: Counter,
    pub sign_ins: SignInCounters,
    /// In the order of [`MailOutcome::ALL`].
    mails: [Counter; MailOutcome::ALL.len()],
    mails_failing: Gauge,
    /// In the order of [`SchemaOutcome::ALL`].
    schema_checks: [Counter; SchemaOutcome::ALL.len()],
    pub unknown_event_types: UnknownEventTypes,
    notify: Mutex<NotifyState>,
}

/// The continuous copy of the store.
#[derive(Debug, Default)]
struct BackupGauges {
    lag_seconds: Gauge<f64, AtomicU64>,
    completed_at_seconds: Gauge<f64, AtomicU64>,
    failing: Gauge,
    bytes: Counter,
    requests: Counter,
    verified_timestamp_seconds: Gauge<f64, AtomicU64>,
    verify_failures: Counter,
    /// The same for status; none where nothing is copied.
    state: Mutex<Option<BackupState>>,
}

impl BackupGauges {
    fn shown(registry: &mut Registry) -> BackupGauges {
        BackupGauges {
            lag_seconds: shown(
                registry,
                "backup_lag_seconds",
                "How long the oldest commit waits that is not in the backup, 0 if none does",
            ),
            completed_at_seconds: shown(
                registry,
                "backup_completed_at_seconds",
                "When the backup was brought up to date last, in seconds since 1970; 0 before the first time",
            ),
            failing: shown(
                registry,
                "backup_failing",
                "1 while the store cannot be copied to the backup",
            ),
            bytes: shown(registry, "backup_bytes", "Bytes copied to the backup"),
            requests: shown(
                registry,
                "backup_requests",
                "Requests made to the backup's target",
            ),
            verified_timestamp_seconds: shown(
                registry,
                "backup_verified_timestamp_seconds",
                "When all of the backup was read last and found whole, in seconds since 1970; 0 before the first time",
            ),
            verify_failures: shown(
                registry,
                "backup_verify_failures",
                "How often the backup was read and found damaged",
            ),
            state: Mutex::default(),
        }
    }
}

/// What becomes of a payload that is held against the schema of its event type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaOutcome {
    Fits,
    /// It was accepted with a warning.
    Warned,
    Rejected,
    /// It was not held against the schema, since that could take too long.
    TooCostly,
}

impl SchemaOutcome {
    pub const ALL: [SchemaOutcome; 4] = [
        SchemaOutcome::Fits,
        SchemaOutcome::Warned,
        SchemaOutcome::Rejected,
        SchemaOutcome::TooCostly,
    ];

    pub fn name(self) -> &'static str {
        match self {
            SchemaOutcome::Fits => "fits",
            SchemaOutcome::Warned => "warned",
            SchemaOutcome::Rejected => "rejected",
            SchemaOutcome::TooCostly => "too_costly",
        }
    }
}

/// Messages of event types that are not registered, where that matters, by outcome.
#[derive(Debug)]
pub struct UnknownEventTypes {
    pub warned: Counter,
    pub rejected: Counter,
}

impl UnknownEventTypes {
    fn shown(registry: &mut Registry) -> UnknownEventTypes {
        let [warned, rejected] = labelled(
            registry,
            "unknown_event_types",
            "Messages of event types that are not registered, by outcome, where limits.require_known_event_types is not off",
            "outcome",
            ["warned", "rejected"],
        );
        UnknownEventTypes { warned, rejected }
    }
}

/// Sign-ins to the console and the portal, by outcome.
#[derive(Debug)]
pub struct SignInCounters {
    pub succeeded: Counter,
    /// The credential was not valid.
    pub failed: Counter,
    /// The credential was valid and had signed in too often within a minute.
    pub limited: Counter,
}

/// Answers that were broken off because of their readers.
#[derive(Clone, Debug, Default)]
pub struct CutOff {
    /// The reader took too little a second.
    pub pace: Counter,
    /// The reader took nothing for too long.
    pub stalled: Counter,
}

/// A limit for one customer, or for all together, beyond which requests are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    CustomerRequests,
    PlatformRequests,
    ReadsWaiting,
    ReadWait,
    CustomerAnswers,
    Answers,
}

impl Limit {
    /// In their order.
    pub const ALL: [Limit; 6] = [
        Limit::CustomerRequests,
        Limit::PlatformRequests,
        Limit::ReadsWaiting,
        Limit::ReadWait,
        Limit::CustomerAnswers,
        Limit::Answers,
    ];

    /// The setting that says how much.
    pub fn setting(self) -> &'static str {
        match self {
            Limit::CustomerRequests => "limits.requests_per_customer_second_max",
            Limit::PlatformRequests => "limits.requests_per_platform_token_second_max",
            Limit::ReadsWaiting => "limits.reads_waiting_per_customer_max",
            Limit::ReadWait => "limits.read_wait_seconds",
            Limit::CustomerAnswers => "limits.answers_per_customer_bytes",
            Limit::Answers => "limits.answers_bytes",
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Metrics {
    /// All metrics with their names and help, in the order in which `/metrics` shows them.
    pub fn new() -> Metrics {
        let mut registry = Registry::with_prefix("postrider");
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The running version", version);
        Metrics {
            accepted: shown(&mut registry, "messages_accepted", "Messages accepted"),
            attempts: labelled(
                &mut registry,
                "attempts",
                "Attempts finished, by outcome: delivered or the kind of failure",
                "outcome",
                outcomes(),
            ),
            in_flight: shown(
                &mut registry,
                "attempts_in_flight",
                "Requests to receivers under way",
            ),
            waiting: shown(
                &mut registry,
                "deliveries_waiting",
                "Deliveries that wait for their next attempt, due or not",
            ),
            held: shown(
                &mut registry,
                "deliveries_held",
                "Those of them that are held: their endpoint is disabled, not verified, or held by the operator",
            ),
            endpoints_held: shown(
                &mut registry,
                "endpoints_held",
                "Endpoints that the operator holds until they are released",
            ),
            lanes_resting: shown(
                &mut registry,
                "lanes_resting",
                "Endpoints that get nothing but probes, because they fail or asked to be left alone",
            ),
            breakers_opened: shown(
                &mut registry,
                "breakers_opened",
                "How often an endpoint failed so often in a row that its breaker opened",
            ),
            endpoints_disabled: labelled(
                &mut registry,
                "endpoints_disabled",
                "Endpoints that were disabled because of their attempts, by the reason",
                "reason",
                DisabledReason::AUTOMATIC.map(|reason| reason.name().unwrap_or_default()),
            ),
            waiting_for_host: shown(
                &mut registry,
                "lanes_waiting_for_host",
                "Endpoints that wait because their host has delivery.in_flight_per_host_max requests",
            ),
            oldest_due_seconds: shown(
                &mut registry,
                "oldest_due_seconds",
                "How long the oldest due delivery has been due, 0 if none is",
            ),
            journal_ahead_bytes: shown(
                &mut registry,
                "journal_ahead_bytes",
                "Bytes committed to the journal that are not in the databases yet",
            ),
            checkpoints: shown(
                &mut registry,
                "checkpoints",
                "How often the databases were brought up to the journal",
            ),
            commit_batch_size: histogram(
                &mut registry,
                "commit_batch_size",
                "Changes made durable by one commit",
                Histogram::new(exponential_buckets(1.0, 2.0, 13)),
            ),
            commit_seconds: histogram(
                &mut registry,
                "commit_seconds",
                "Time to make one commit durable",
                Histogram::new(exponential_buckets(0.000_5, 2.0, 16)),
            ),
            publish_to_receipt_seconds: histogram(
                &mut registry,
                "publish_to_receipt_seconds",
                "Time from accepting a message to the first byte of the answer that delivered it",
                Histogram::new(exponential_buckets(0.001, 2.0, 21)),
            ),
            store_bytes: shown(&mut registry, "store_bytes", "Size of the data directory"),
            blob_files: shown(
                &mut registry,
                "blob_files",
                "Database files that are not made durable; must be 0",
            ),
            slices_opened: shown(
                &mut registry,
                "slices_opened",
                "Slices of history opened, for reading or writing",
            ),
            store_problems: shown(
                &mut registry,
                "store_problems",
                "Signs of damage to the store noticed since the start; must be 0",
            ),
            erasures: shown(
                &mut registry,
                "erasures",
                "Deleted applications whose messages and attempts still have content on disk",
            ),
            backup: BackupGauges::shown(&mut registry),
            auth_failures: shown(
                &mut registry,
                "auth_failures",
                "Requests without a valid credential",
            ),
            auth_failures_refused: shown(
                &mut registry,
                "auth_failures_refused",
                "Those of them that were answered 429, after too many of an address or token prefix",
            ),
            connections_refused: shown(
                &mut registry,
                "connections_refused",
                "Connections closed because their address had too many",
            ),
            put_off: labelled(
                &mut registry,
                "attempts_put_off",
                "Attempts not made yet for want of something of this machine, by what it lacked",
                "lacking",
                Shortage::ALL.map(Shortage::name),
            ),
            sessions: labelled(
                &mut registry,
                "sessions",
                "Browsers signed in, by surface",
                "surface",
                Surface::ALL.map(Surface::name),
            ),
            sessions_crowded_out: shown(
                &mut registry,
                "sessions_crowded_out",
                "Browsers signed out because one more signed in than a limit allows",
            ),
            sign_ins: SignInCounters::shown(&mut registry),
            mails: labelled(
                &mut registry,
                "notify_mails",
                "Mails about endpoints: sent, recipients refused by the relay, tries that failed",
                "outcome",
                MailOutcome::ALL.map(MailOutcome::name),
            ),
            mails_failing: shown(
                &mut registry,
                "notify_failing",
                "1 while mails about endpoints do not reach all addresses of notify.to",
            ),
            notify: Mutex::default(),
            reads_waiting: shown(
                &mut registry,
                "reads_waiting",
                "Reads of history that wait for their turn",
            ),
            reads_under_way: shown(
                &mut registry,
                "reads_under_way",
                "Reads of history that are being made",
            ),
            answer_bytes: shown(
                &mut registry,
                "answer_bytes",
                "Memory of long answers that are being sent",
            ),
            slow_readers_cut_off: CutOff::shown(&mut registry),
            schema_checks: labelled(
                &mut registry,
                "schema_checks",
                "Published payloads held against the schema of their event type, by outcome",
                "outcome",
                SchemaOutcome::ALL.map(SchemaOutcome::name),
            ),
            unknown_event_types: UnknownEventTypes::shown(&mut registry),
            refused: labelled(
                &mut registry,
                "requests_refused",
                "Requests refused for what one customer or all took, by the limit",
                "limit",
                Limit::ALL.map(Limit::setting),
            ),
            first_receipts: Latencies::default(),
            samples: Mutex::default(),
            shortages: Shortages::default(),
            registry,
        }
    }

    /// Counts a finished attempt; `None` is a success.
    pub fn attempt(&self, failure: Option<FailureKind>) {
        self.attempts[place(failure)].inc();
    }

    /// Counts deliveries that were let go of.
    pub fn canceled(&self, count: usize) {
        self.attempts[place(Some(FailureKind::Canceled))].inc_by(count as u64);
    }

    /// Counts an endpoint that its attempts disabled.
    pub fn endpoint_disabled(&self, reason: DisabledReason) {
        let mut reasons = DisabledReason::AUTOMATIC.iter();
        if let Some(place) = reasons.position(|one| *one == reason) {
            self.endpoints_disabled[place].inc();
        }
    }

    /// Counts an attempt that was not made; no outcome.
    pub fn put_off(&self, shortage: Shortage, now: Timestamp) {
        self.put_off[shortage as usize].inc();
        self.shortages.note(shortage, now);
    }

    /// Counts a request that this limit refused.
    pub fn refused(&self, limit: Limit) {
        self.refused[limit as usize].inc();
    }

    /// Counts a payload that was held against a schema.
    pub fn schema_check(&self, outcome: SchemaOutcome) {
        self.schema_checks[outcome as usize].inc();
    }

    /// Counts a mail.
    pub fn mail(&self, outcome: MailOutcome) {
        self.mails[outcome as usize].inc();
    }

    /// Shows the state of the mails.
    pub fn show_notify(&self, state: NotifyState) {
        self.mails_failing.set(state.failing.is_some().into());
        *locked(self.notify.lock()) = state;
    }

    pub fn notify(&self) -> NotifyState {
        locked(self.notify.lock()).clone()
    }

    /// Shows the state of the continuous copy.
    pub fn show_backup(&self, state: BackupState) {
        let seconds = |at: Option<Timestamp>| at.map_or(0.0, |at| at.0 as f64 / 1000.0);
        let gauges = &self.backup;
        gauges.lag_seconds.set(state.lag_seconds);
        gauges.completed_at_seconds.set(seconds(state.completed_at));
        gauges
            .verified_timestamp_seconds
            .set(seconds(state.whole_at));
        gauges.failing.set(state.failing.is_some().into());
        // They are counted where they are made.
        gauges.bytes.inner().store(state.bytes, Ordering::Relaxed);
        gauges
            .requests
            .inner()
            .store(state.requests, Ordering::Relaxed);
        gauges
            .verify_failures
            .inner()
            .store(state.verify_failures, Ordering::Relaxed);
        *locked(gauges.state.lock()) = Some(state);
    }

    /// The state of the continuous copy; none where nothing is copied.
    pub fn backup(&self) -> Option<BackupState> {
        locked(self.backup.state.lock()).clone()
    }

    /// Takes a sample where the last is five seconds old; to be called more often than that.
    pub fn sample(&self, now: Timestamp) {
        let mut samples = locked(self.samples.lock());
        if !samples.is_due(now) {
            return;
        }
        let attempts = |counters: &[Counter]| counters.iter().map(Counter::get).sum::<u64>();
        samples.add(
            now,
            Totals {
                accepted: self.accepted.get(),
                delivered: attempts(&self.attempts[..1]),
                // Of what was let go of nothing failed.
                failed: attempts(&self.attempts[1..])
                    - self.attempts[place(Some(FailureKind::Canceled))].get(),
                latencies: self.first_receipts.counts(),
            },
        );
    }

    /// The samples of the last half an hour, oldest first.
    pub fn samples(&self) -> Vec<Sample> {
        let samples = locked(self.samples.lock());
        samples.ring.iter().copied().collect()
    }

    /// All metrics in the OpenMetrics text format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.registry).expect("writing to a String does not fail");
        text
    }
}

impl SignInCounters {
    fn shown(registry: &mut Registry) -> SignInCounters {
        let [succeeded, failed, limited] = labelled(
            registry,
            "sign_ins",
            "Sign-ins to the console and the portal, by outcome",
            "outcome",
            ["succeeded", "failed", "limited"],
        );
        SignInCounters {
            succeeded,
            failed,
            limited,
        }
    }
}

impl CutOff {
    fn shown(registry: &mut Registry) -> CutOff {
        let [pace, stalled] = labelled(
            registry,
            "slow_readers_cut_off",
            "Answers broken off because their reader took too little a second, or nothing for too long",
            "reason",
            ["pace", "stalled"],
        );
        CutOff { pace, stalled }
    }
}

/// A counter or gauge that `/metrics` shows.
fn shown<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

fn histogram(registry: &mut Registry, name: &str, help: &str, histogram: Histogram) -> Histogram {
    registry.register(name, help, histogram.clone());
    histogram
}

/// A counter or gauge for each of the label's values. All of them exist from the start, so that each
/// shows as 0 before the first event and counting looks nothing up.
fn labelled<M, const N: usize>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    label: &'static str,
    values: [&'static str; N],
) -> [M; N]
where
    M: Metric + TypedMetric + Clone + Default,
{
    let family: Family<[(&'static str, &'static str); 1], M> = Family::default();
    registry.register(name, help, family.clone());
    values.map(|value| family.get_or_create_owned(&[(label, value)]))
}

/// The values of the label `outcome`, each at its counter's [`place`].
fn outcomes() -> [&'static str; FailureKind::ALL.len() + 1] {
    let mut names = [DELIVERED; FailureKind::ALL.len() + 1];
    for kind in FailureKind::ALL {
        names[place(Some(kind))] = kind.name();
    }
    names
}

/// The index of an outcome's counter.
fn place(failure: Option<FailureKind>) -> usize {
    failure.map_or(0, |kind| kind as usize + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::samples::SAMPLES_MAX;

    #[test]
    fn every_outcome_has_a_counter_of_its_own() {
        let metrics = Metrics::new();
        let outcomes = || [None].into_iter().chain(FailureKind::ALL.map(Some));
        for (count, outcome) in outcomes().enumerate() {
            for _ in 0..=count {
                metrics.attempt(outcome);
            }
        }
        let text = metrics.encode();
        for (count, outcome) in outcomes().enumerate() {
            let name = outcome.map_or("delivered", FailureKind::name);
            let line = format!(
                "postrider_attempts_total{{outcome=\"{name}\"}} {}\n",
                count + 1
            );
            assert!(text.contains(&line), "{line}{text}");
        }
    }

    #[test]
    fn a_sample_has_what_happened_since_the_one_before() {
        let metrics = Metrics::new();
        let at = |seconds: u64| Timestamp::from_seconds(1_700_000_000 + seconds);
        metrics.accepted.inc();
        metrics.sample(at(0));
        assert_eq!(metrics.samples(), [], "what was before is nobody's");
        metrics.accepted.inc_by(3);
        metrics.attempt(None);
        metrics.attempt(Some(FailureKind::Timeout));
        metrics.attempt(Some(FailureKind::WrongAnswer));
        // Of which none failed.
        metrics.canceled(7);
        metrics.sample(at(4));
        metrics.sample(at(5));
        metrics.sample(at(9));
        metrics.sample(at(10));
        let [first, second] = metrics.samples()[..] else {
            panic!("{:?}", metrics.samples());
        };
        let expected = Sample {
            at: at(5),
            accepted: 3,
            delivered: 1,
            failed: 2,
            latency_ms: None,
        };
        assert_eq!(first, expected);
        assert_eq!((second.at, second.accepted), (at(10), 0));
        for round in 3..400 {
            metrics.sample(at(5 * round));
        }
        assert_eq!(metrics.samples().len(), SAMPLES_MAX);
        metrics.sample(at(0));
        let newest = metrics.samples().last().copied();
        assert_eq!(newest.map(|sample| sample.at), Some(at(0)), "set back");
    }

    #[test]
    fn all_metrics_are_shown_from_the_start() {
        let metrics = Metrics::new();
        metrics.accepted.inc();
        metrics.oldest_due_seconds.set(1.5);
        metrics.commit_seconds.observe(0.002);
        let text = metrics.encode();
        for line in [
            "postrider_messages_accepted_total 1",
            "postrider_attempts_total{outcome=\"timeout\"} 0",
            "postrider_attempts_in_flight 0",
            "postrider_deliveries_waiting 0",
            "postrider_deliveries_held 0",
            "postrider_endpoints_held 0",
            "postrider_oldest_due_seconds 1.5",
            "postrider_commit_batch_size_count 0",
            "postrider_commit_seconds_count 1",
            "postrider_publish_to_receipt_seconds_count 0",
            "postrider_store_bytes 0",
            "postrider_blob_files 0",
            concat!(
                "postrider_build_info{version=\"",
                env!("CARGO_PKG_VERSION"),
                "\"} 1"
            ),
            "# EOF",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
        }
    }
}
