//! The counters of one server, and their text for `/metrics`.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::DELIVERED;
use super::latencies::Latencies;
use super::samples::{Sample, Samples, Totals};
use crate::clock::Timestamp;
use crate::domain::attempt::FailureKind;
use crate::domain::visit::Surface;
use crate::lock::locked;
use crate::shortage::{Shortage, Shortages};

/// What [`Metrics::encode`] writes.
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The counters of one server. Shared by reference; counting takes an atomic addition, and a
/// histogram a short lock.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Messages that were answered with a 2xx.
    pub accepted: Counter,
    /// The first for delivered, then one for each kind of failure in its order.
    attempts: [Counter; FailureKind::ALL.len() + 1],
    /// Requests under way.
    pub in_flight: Gauge,
    /// Deliveries that wait, due or not.
    pub waiting: Gauge,
    /// Those of them that are held for disabled endpoints.
    pub held: Gauge,
    /// Lanes that wait for a place at their host.
    pub waiting_for_host: Gauge,
    /// How long the oldest delivery that is due has been due; 0 where none is.
    pub oldest_due_seconds: Gauge<f64, AtomicU64>,
    /// Changes in one commit.
    pub commit_batch_size: Histogram,
    /// From the first write of a commit until it is on disk.
    pub commit_seconds: Histogram,
    /// From a publish accepted until the first byte of the answer of the attempt that delivered it.
    pub publish_to_receipt_seconds: Histogram,
    /// The same of deliveries that needed one attempt, for [`Metrics::samples`].
    pub first_receipts: Latencies,
    samples: Mutex<Samples>,
    /// What the data directory takes on disk.
    pub store_bytes: Gauge,
    /// Files that the database would not make durable; anything but 0 is a defect.
    pub blob_files: Gauge,
    /// How often a slice of history was opened.
    pub slices_opened: Counter,
    /// Signs of damage that were noticed since the start; must stay 0.
    pub store_problems: Gauge,
    /// Requests without a valid credential.
    pub auth_failures: Counter,
    /// Those of them that were answered 429.
    pub auth_failures_refused: Counter,
    /// Connections that were closed since their address had too many.
    pub connections_refused: Counter,
    /// Attempts that were not made for want of something of this machine, by what it lacked.
    put_off: [Counter; Shortage::ALL.len()],
    /// What this machine lacks just now.
    pub shortages: Shortages,
    /// Reads of history that wait for their turn, and those that are being made.
    pub reads_waiting: Gauge,
    pub reads_under_way: Gauge,
    /// Of answers that are being sent.
    pub answer_bytes: Gauge,
    /// Requests that were refused, by the limit.
    refused: [Counter; Limit::ALL.len()],
    /// Browsers that are signed in, by surface in the order of [`Surface::ALL`].
    pub sessions: [Gauge; Surface::ALL.len()],
    /// Those that were signed out because somebody signed in and a limit of sessions was reached.
    pub sessions_crowded_out: Counter,
    pub sign_ins: SignInCounters,
}

/// Sign-ins to the console and the portal, by what came of them.
#[derive(Debug)]
pub struct SignInCounters {
    pub succeeded: Counter,
    /// The credential was not valid.
    pub failed: Counter,
    /// The credential was valid and had signed in too often within a minute.
    pub limited: Counter,
}

/// A limit of what one customer, or all, may take, beyond which requests are refused.
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
    pub fn new() -> Metrics {
        let outcomes: Family<[(&'static str, &'static str); 1], Counter> = Family::default();
        let put_off: Family<[(&'static str, &'static str); 1], Counter> = Family::default();
        let refused: Family<[(&'static str, &'static str); 1], Counter> = Family::default();
        let sessions: Family<[(&'static str, &'static str); 1], Gauge> = Family::default();
        let sign_ins: Family<[(&'static str, &'static str); 1], Counter> = Family::default();
        let sign_ins_with = |outcome| sign_ins.get_or_create_owned(&[("outcome", outcome)]);
        let mut names = [DELIVERED; FailureKind::ALL.len() + 1];
        for kind in FailureKind::ALL {
            names[place(Some(kind))] = kind.name();
        }
        let mut metrics = Metrics {
            registry: Registry::with_prefix("postrider"),
            accepted: Counter::default(),
            // Made here, so that each shows as 0 before its first attempt and counting looks
            // nothing up.
            attempts: names.map(|name| outcomes.get_or_create_owned(&[("outcome", name)])),
            in_flight: Gauge::default(),
            waiting: Gauge::default(),
            held: Gauge::default(),
            waiting_for_host: Gauge::default(),
            oldest_due_seconds: Gauge::default(),
            commit_batch_size: Histogram::new(exponential_buckets(1.0, 2.0, 13)),
            commit_seconds: Histogram::new(exponential_buckets(0.000_5, 2.0, 16)),
            publish_to_receipt_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 21)),
            first_receipts: Latencies::default(),
            samples: Mutex::default(),
            store_bytes: Gauge::default(),
            blob_files: Gauge::default(),
            slices_opened: Counter::default(),
            store_problems: Gauge::default(),
            auth_failures: Counter::default(),
            auth_failures_refused: Counter::default(),
            connections_refused: Counter::default(),
            put_off: Shortage::ALL
                .map(|shortage| put_off.get_or_create_owned(&[("lacking", shortage.name())])),
            shortages: Shortages::default(),
            reads_waiting: Gauge::default(),
            reads_under_way: Gauge::default(),
            answer_bytes: Gauge::default(),
            refused: Limit::ALL
                .map(|limit| refused.get_or_create_owned(&[("limit", limit.setting())])),
            sessions: Surface::ALL
                .map(|surface| sessions.get_or_create_owned(&[("surface", surface.name())])),
            sessions_crowded_out: Counter::default(),
            sign_ins: SignInCounters {
                succeeded: sign_ins_with("succeeded"),
                failed: sign_ins_with("failed"),
                limited: sign_ins_with("limited"),
            },
        };
        let registry = &mut metrics.registry;
        registry.register(
            "messages_accepted",
            "Messages accepted",
            metrics.accepted.clone(),
        );
        registry.register(
            "attempts",
            "Attempts finished, by outcome: delivered or the kind of failure",
            outcomes,
        );
        registry.register(
            "attempts_in_flight",
            "Requests to receivers under way",
            metrics.in_flight.clone(),
        );
        registry.register(
            "deliveries_waiting",
            "Deliveries that wait for their next attempt, due or not",
            metrics.waiting.clone(),
        );
        registry.register(
            "deliveries_held",
            "Those of them that are held because their endpoint is disabled",
            metrics.held.clone(),
        );
        registry.register(
            "lanes_waiting_for_host",
            "Endpoints that wait because their host has delivery.in_flight_per_host_max requests",
            metrics.waiting_for_host.clone(),
        );
        registry.register(
            "oldest_due_seconds",
            "How long the oldest due delivery has been due, 0 if none is",
            metrics.oldest_due_seconds.clone(),
        );
        registry.register(
            "commit_batch_size",
            "Changes made durable by one commit",
            metrics.commit_batch_size.clone(),
        );
        registry.register(
            "commit_seconds",
            "Time to make one commit durable",
            metrics.commit_seconds.clone(),
        );
        registry.register(
            "publish_to_receipt_seconds",
            "Time from accepting a message to the first byte of the answer that delivered it",
            metrics.publish_to_receipt_seconds.clone(),
        );
        registry.register(
            "store_bytes",
            "Size of the data directory",
            metrics.store_bytes.clone(),
        );
        registry.register(
            "blob_files",
            "Database files that are not made durable; must be 0",
            metrics.blob_files.clone(),
        );
        registry.register(
            "slices_opened",
            "Slices of history opened, for reading or writing",
            metrics.slices_opened.clone(),
        );
        registry.register(
            "store_problems",
            "Signs of damage to the store noticed since the start; must be 0",
            metrics.store_problems.clone(),
        );
        registry.register(
            "auth_failures",
            "Requests without a valid credential",
            metrics.auth_failures.clone(),
        );
        registry.register(
            "auth_failures_refused",
            "Those of them that were answered 429, after too many of an address or token prefix",
            metrics.auth_failures_refused.clone(),
        );
        registry.register(
            "connections_refused",
            "Connections closed because their address had too many",
            metrics.connections_refused.clone(),
        );
        registry.register(
            "attempts_put_off",
            "Attempts not made yet for want of something of this machine, by what it lacked",
            put_off,
        );
        registry.register("sessions", "Browsers signed in, by surface", sessions);
        registry.register(
            "sessions_crowded_out",
            "Browsers signed out because one more signed in than a limit allows",
            metrics.sessions_crowded_out.clone(),
        );
        registry.register(
            "sign_ins",
            "Sign-ins to the console and the portal, by outcome",
            sign_ins,
        );
        registry.register(
            "reads_waiting",
            "Reads of history that wait for their turn",
            metrics.reads_waiting.clone(),
        );
        registry.register(
            "reads_under_way",
            "Reads of history that are being made",
            metrics.reads_under_way.clone(),
        );
        registry.register(
            "answer_bytes",
            "Memory of long answers that are being sent",
            metrics.answer_bytes.clone(),
        );
        registry.register(
            "requests_refused",
            "Requests refused for what one customer or all took, by the limit",
            refused,
        );
        registry.register(
            "build",
            "The running version",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        metrics
    }

    /// Counts a finished attempt; `None` is a success.
    pub fn attempt(&self, failure: Option<FailureKind>) {
        self.attempts[place(failure)].inc();
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
                failed: attempts(&self.attempts[1..]),
                latencies: self.first_receipts.counts(),
            },
        );
    }

    /// What happened in the last half an hour, oldest first.
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

/// Where an outcome's counter stands.
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
