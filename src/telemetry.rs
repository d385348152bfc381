//! Logging and metrics: what an operator sees of a running server.
//!
//! The command line calls [`init_logging`] once; the store, the scheduler and the API count on the
//! fields of [`Metrics`], and `/metrics` shows [`Metrics::encode`]; the scheduler passes every
//! finished attempt to [`AttemptLog`]. Labels take values from fixed lists only and the log of
//! attempts is limited per endpoint and minute, so that neither memory nor output grows with what
//! customers or receivers do. Payloads, secrets and tokens are never among what is logged.

use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, RwLock};
use std::time::{Duration, Instant};

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::clock::{Clock, Timestamp};
use crate::config;
use crate::domain::attempt::{FailureKind, Outcome, Verdict};
use crate::domain::id::{EndpointId, MessageId};
use crate::domain::visit::Surface;
use crate::lock::locked;
use crate::shortage::{Shortage, Shortages};
use crate::watched;

/// What [`Metrics::encode`] writes.
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the log calls the source of the lines about attempts, for filters.
const ATTEMPT_TARGET: &str = "postrider::attempt";

/// Libraries that tell more than an operator wants, unless a filter names them.
const QUIET: [&str; 5] = ["actix_server", "actix_http", "mio", "rustls", "sled"];

/// How an attempt that succeeded is named where failures go by [`FailureKind::name`].
const DELIVERED: &str = "delivered";

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

/// How much time one sample covers, at least.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// Half an hour of them.
const SAMPLES_MAX: usize = 360;

/// What happened since the sample before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub at: Timestamp,
    /// Messages.
    pub accepted: u64,
    /// Attempts.
    pub delivered: u64,
    pub failed: u64,
    /// From publish to receipt, of what was delivered at the first attempt: the median, and what 95
    /// of 100 did not exceed. None where nothing was.
    pub latency_ms: Option<(f64, f64)>,
}

#[derive(Debug, Default)]
struct Samples {
    ring: VecDeque<Sample>,
    /// Up to when things were counted, and what there was by then.
    last: Option<(Timestamp, Totals)>,
}

#[derive(Debug)]
struct Totals {
    accepted: u64,
    delivered: u64,
    failed: u64,
    latencies: [u64; LATENCY_BUCKETS],
}

impl Samples {
    fn is_due(&self, now: Timestamp) -> bool {
        // A clock that was set back begins anew.
        let since = |at: Timestamp| now < at || now.since(at) >= SAMPLE_EVERY;
        self.last.as_ref().is_none_or(|(at, _)| since(*at))
    }

    fn add(&mut self, now: Timestamp, totals: Totals) {
        if let Some((_, last)) = &self.last {
            if self.ring.len() == SAMPLES_MAX {
                self.ring.pop_front();
            }
            let latencies = std::array::from_fn(|n| totals.latencies[n] - last.latencies[n]);
            let part = |part| latency_ms(&latencies, part);
            self.ring.push_back(Sample {
                at: now,
                accepted: totals.accepted - last.accepted,
                delivered: totals.delivered - last.delivered,
                failed: totals.failed - last.failed,
                latency_ms: part(0.5).zip(part(0.95)),
            });
        }
        self.last = Some((now, totals));
    }
}

/// Each bucket ends a quarter above the one before, from a tenth of a millisecond to years.
const LATENCY_BUCKETS: usize = 128;
const LATENCY_FIRST_MS: f64 = 0.1;
const LATENCY_STEP: f64 = 1.25;

/// How long things took, in buckets that only count up.
#[derive(Debug)]
pub struct Latencies([AtomicU64; LATENCY_BUCKETS]);

impl Default for Latencies {
    fn default() -> Self {
        Latencies(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Latencies {
    pub fn observe(&self, seconds: f64) {
        self.0[latency_bucket(seconds * 1e3)].fetch_add(1, Ordering::Relaxed);
    }

    fn counts(&self) -> [u64; LATENCY_BUCKETS] {
        std::array::from_fn(|n| self.0[n].load(Ordering::Relaxed))
    }
}

fn latency_bucket(ms: f64) -> usize {
    // What is no number above zero becomes 0, and what is beyond the last stays there.
    let steps = (ms / LATENCY_FIRST_MS).log(LATENCY_STEP).ceil();
    (steps as usize).min(LATENCY_BUCKETS - 1)
}

/// What this part of them did not exceed, to within an eighth: the middle of its bucket.
fn latency_ms(counts: &[u64; LATENCY_BUCKETS], part: f64) -> Option<f64> {
    let all: u64 = counts.iter().sum();
    let wanted = ((all as f64 * part).ceil() as u64).max(1);
    let mut seen = 0;
    let bucket = counts.iter().position(|count| {
        seen += count;
        seen >= wanted
    })?;
    let ms = LATENCY_FIRST_MS * LATENCY_STEP.powf(bucket as f64 - 0.5);
    Some((ms * 100.0).round() / 100.0)
}

/// Where an outcome's counter stands.
fn place(failure: Option<FailureKind>) -> usize {
    failure.map_or(0, |kind| kind as usize + 1)
}

/// Sends records to standard error, one line each, from `log.level` or, where set, RUST_LOG.
///
/// Under systemd the journal notes the time itself and takes the level as a prefix.
pub fn init_logging(settings: &config::Log) {
    let logger = LOGGER.get_or_init(|| Logger {
        inner: RwLock::new(logger(settings)),
        malformed: Mutex::default(),
        not_accepted: Mutex::default(),
    });
    // A second logger in one process can only be a test's.
    let _ = log::set_logger(logger);
    set_log_level(settings);
    watched::log_panics();
}

/// From now on these records are sent.
pub fn set_log_level(settings: &config::Log) {
    let Some(current) = LOGGER.get() else { return };
    let new = logger(settings);
    log::set_max_level(new.filter());
    *locked(current.inner.write()) = new;
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// The process's logger: its filter can be replaced, and what strangers can provoke is counted.
struct Logger {
    inner: RwLock<env_logger::Logger>,
    malformed: Mutex<Repeated>,
    not_accepted: Mutex<Repeated>,
}

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        let inner = locked(self.inner.read());
        inner.enabled(metadata)
    }

    fn log(&self, record: &log::Record<'_>) {
        let inner = locked(self.inner.read());
        let metadata = record.metadata();
        let (repeated, level, what) = if is_of_a_request(metadata) {
            let what = "a request was not valid HTTP";
            (&self.malformed, log::Level::Info, what)
        } else if is_of_accepting(metadata) {
            let what = "a connection could not be accepted, and is tried again";
            (&self.not_accepted, log::Level::Error, what)
        } else {
            inner.log(record);
            return;
        };
        let more = {
            let mut repeated = locked(repeated.lock());
            repeated.admit(Instant::now())
        };
        let Some(more) = more else { return };
        let said = match format!("{what}: {}", record.args()) {
            // What the reason was only `api::outgoing` knows.
            said if said.contains("Response payload stream error") => {
                "an answer was broken off, since its reader took it too slowly".to_owned()
            }
            said => said,
        };
        let text = match more {
            0 => said,
            more => format!("{said}; and {more} more since the last such line"),
        };
        inner.log(
            &log::Record::builder()
                .level(level)
                .target("postrider::http")
                .args(format_args!("{text}"))
                .build(),
        );
    }

    fn flush(&self) {}
}

/// actix reports as an error of the server whatever is wrong with a request.
fn is_of_a_request(metadata: &log::Metadata<'_>) -> bool {
    metadata.level() == log::Level::Error && metadata.target().starts_with("actix_http::h1")
}

/// Out of file descriptors, actix tries again twice a second and says so each time.
fn is_of_accepting(metadata: &log::Metadata<'_>) -> bool {
    metadata.level() == log::Level::Error && metadata.target() == "actix_server::accept"
}

/// Records of which one a minute is shown.
#[derive(Default)]
struct Repeated {
    shown: Option<Instant>,
    hidden: u64,
}

impl Repeated {
    /// How many were hidden since the last one, where this one is shown.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        let minute = Duration::from_secs(60);
        if self
            .shown
            .is_some_and(|shown| now.duration_since(shown) < minute)
        {
            self.hidden += 1;
            return None;
        }
        self.shown = Some(now);
        Some(std::mem::take(&mut self.hidden))
    }
}

fn logger(settings: &config::Log) -> env_logger::Logger {
    let level = std::env::var("RUST_LOG").unwrap_or_else(|_| settings.level.clone());
    let mut builder = env_logger::Builder::new();
    for noisy in QUIET {
        builder.filter_module(noisy, log::LevelFilter::Warn);
    }
    builder.parse_filters(&level);
    if goes_to_journal() {
        builder.format(|out, record| {
            let text = on_one_line(&record.args().to_string());
            let priority = syslog_priority(record.level());
            writeln!(out, "<{priority}>{}: {text}", record.target())
        });
    } else {
        builder.format(|out, record| {
            let text = on_one_line(&record.args().to_string());
            let now = Clock::System.now();
            let (level, style) = (record.level(), out.default_level_style(record.level()));
            let target = record.target();
            writeln!(out, "{now} {style}{level:<5}{style:#} {target}: {text}")
        });
    }
    builder.build()
}

/// Whether standard error is the journal's stream. The variable alone does not tell: it is
/// inherited by children whose output goes elsewhere (systemd.exec(5), JOURNAL_STREAM).
fn goes_to_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    rustix::fs::fstat(std::io::stderr())
        .is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

fn syslog_priority(level: log::Level) -> u8 {
    match level {
        log::Level::Error => 3,
        log::Level::Warn => 4,
        log::Level::Info => 6,
        log::Level::Debug | log::Level::Trace => 7,
    }
}

/// What others wrote may contain line breaks; as records of their own they would be forgeries.
fn on_one_line(text: &str) -> String {
    text.replace('\n', "\\n").replace('\r', "\\r")
}

/// What the log says about one attempt.
pub struct AttemptLine<'a> {
    pub message: MessageId,
    pub endpoint: EndpointId,
    pub number: u32,
    pub outcome: &'a Outcome,
    pub verdict: Verdict,
    /// The message was a test.
    pub test: bool,
}

/// One line for each attempt: successes at debug, failures at info, of which each endpoint gets
/// only so many in a minute.
pub struct AttemptLog {
    limiter: Mutex<Limiter>,
}

impl AttemptLog {
    pub fn new(settings: &config::Log) -> AttemptLog {
        AttemptLog {
            limiter: Mutex::new(Limiter::new(settings.failures_per_endpoint_minute_max)),
        }
    }

    pub fn record(&self, now: Timestamp, line: &AttemptLine<'_>) {
        let failed = line.outcome.failure.is_some();
        let (suppressed, shown) = {
            let mut limiter = locked(self.limiter.lock());
            let suppressed = limiter.begin_minute(now);
            (suppressed, !failed || limiter.admits(line.endpoint))
        };
        for (endpoint, count) in suppressed {
            let whose = match endpoint {
                Some(endpoint) => format!("endpoint={endpoint}"),
                None => "of further endpoints".to_owned(),
            };
            log::info!(target: ATTEMPT_TARGET, "failed attempts {whose} suppressed={count}");
        }
        if failed && shown {
            log::info!(target: ATTEMPT_TARGET, "{line}");
        } else if !failed {
            log::debug!(target: ATTEMPT_TARGET, "{line}");
        }
    }
}

impl std::fmt::Display for AttemptLine<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let AttemptLine {
            message,
            endpoint,
            number,
            outcome,
            verdict,
            test,
        } = self;
        let failure = outcome.failure.as_ref();
        let name = failure.map_or(DELIVERED, |failure| failure.kind.name());
        write!(
            f,
            "attempt message={message} endpoint={endpoint} number={number}"
        )?;
        if *test {
            f.write_str(" test=true")?;
        }
        write!(f, " outcome={name}")?;
        if let Some(answer) = &outcome.answer {
            write!(f, " status={}", answer.status)?;
        }
        write!(f, " ms={}", outcome.timings.total_us / 1000)?;
        match verdict {
            Verdict::RetryAt(due) => write!(f, " next_due={due}")?,
            Verdict::GiveUp => f.write_str(" next_due=never")?,
            Verdict::DisableEndpoint => f.write_str(" next_due=never endpoint_disabled=true")?,
            Verdict::Delivered => {}
        }
        if let Some(failure) = failure {
            // Quoted and escaped: parts of it can come from the receiver.
            write!(f, " detail={:?}", failure.detail)?;
        }
        Ok(())
    }
}

/// Endpoints that are told apart in one minute; failures of further ones are counted together.
const LIMITER_ENDPOINTS_MAX: usize = 10_000;

/// Which failures of the running minute are shown. Pure: the time comes in.
struct Limiter {
    per_minute_max: u32,
    minute: u64,
    failures: HashMap<EndpointId, u32>,
    beyond: u32,
}

impl Limiter {
    fn new(per_minute_max: u32) -> Limiter {
        Limiter {
            per_minute_max,
            minute: 0,
            failures: HashMap::new(),
            beyond: 0,
        }
    }

    /// Forgets the minute before, once it is over, and says how many failures of which endpoint
    /// were not shown in it; `None` stands for all endpoints that were too many to tell apart.
    fn begin_minute(&mut self, now: Timestamp) -> Vec<(Option<EndpointId>, u32)> {
        let minute = now.as_seconds() / 60;
        if minute == self.minute {
            return Vec::new();
        }
        self.minute = minute;
        let shown = self.per_minute_max;
        let mut suppressed: Vec<_> = self
            .failures
            .drain()
            .filter(|(_, count)| *count > shown)
            .map(|(endpoint, count)| (Some(endpoint), count - shown))
            .collect();
        if self.beyond > 0 {
            suppressed.push((None, std::mem::take(&mut self.beyond)));
        }
        suppressed
    }

    /// Counts a failure and says whether it is shown.
    fn admits(&mut self, endpoint: EndpointId) -> bool {
        if self.failures.len() >= LIMITER_ENDPOINTS_MAX && !self.failures.contains_key(&endpoint) {
            self.beyond = self.beyond.saturating_add(1);
            return false;
        }
        let count = self.failures.entry(endpoint).or_default();
        *count = count.saturating_add(1);
        *count <= self.per_minute_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::attempt::{Answer, Failure, Timings};
    use crate::domain::profile::Method;

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
    fn latencies_are_told_to_within_an_eighth() {
        for ms in [0.1, 0.7, 1.0, 3.3, 20.0, 999.0, 60_000.0, 7_200_000.0] {
            let latencies = Latencies::default();
            latencies.observe(ms / 1e3);
            let told = latency_ms(&latencies.counts(), 0.5).expect("there is one");
            assert!((told / ms - 1.0).abs() < 0.13, "{ms}: {told}");
        }
        for (ms, bucket) in [
            (f64::NAN, 0),
            (-1.0, 0),
            (0.0, 0),
            (0.05, 0),
            (1e300, LATENCY_BUCKETS - 1),
        ] {
            assert_eq!(latency_bucket(ms), bucket, "{ms}");
        }
        let latencies = Latencies::default();
        assert_eq!(latency_ms(&latencies.counts(), 0.95), None);
        (0..94).for_each(|_| latencies.observe(0.010));
        (0..6).for_each(|_| latencies.observe(1.0));
        let part = |part| latency_ms(&latencies.counts(), part).expect("there are some");
        assert!((8.0..12.0).contains(&part(0.5)), "{}", part(0.5));
        assert!((880.0..1130.0).contains(&part(0.95)), "{}", part(0.95));
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

    fn endpoint(number: u32) -> EndpointId {
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        EndpointId(bytes)
    }

    #[test]
    fn each_endpoint_is_shown_up_to_its_limit_and_the_rest_is_counted() {
        let mut limiter = Limiter::new(2);
        let minute = Timestamp::from_seconds(600);
        assert_eq!(limiter.begin_minute(minute), []);
        let shown: Vec<bool> = (0..5).map(|_| limiter.admits(endpoint(1))).collect();
        assert_eq!(shown, [true, true, false, false, false]);
        assert!(limiter.admits(endpoint(2)), "another endpoint has its own");
        assert_eq!(limiter.begin_minute(Timestamp::from_seconds(659)), []);
        assert_eq!(
            limiter.begin_minute(Timestamp::from_seconds(660)),
            [(Some(endpoint(1)), 3)]
        );
        assert!(limiter.admits(endpoint(1)), "a new minute begins anew");
    }

    #[test]
    fn a_limit_of_zero_shows_none_and_counts_all() {
        let mut limiter = Limiter::new(0);
        limiter.begin_minute(Timestamp::from_seconds(60));
        assert!(!limiter.admits(endpoint(1)));
        assert_eq!(
            limiter.begin_minute(Timestamp::from_seconds(120)),
            [(Some(endpoint(1)), 1)]
        );
    }

    #[test]
    fn the_memory_for_the_limit_is_bounded() {
        let mut limiter = Limiter::new(1);
        limiter.begin_minute(Timestamp::from_seconds(60));
        for number in 0..LIMITER_ENDPOINTS_MAX as u32 {
            assert!(limiter.admits(endpoint(number)));
        }
        for number in 0..7 {
            assert!(!limiter.admits(endpoint(1_000_000 + number)));
        }
        assert_eq!(limiter.failures.len(), LIMITER_ENDPOINTS_MAX);
        assert_eq!(
            limiter.begin_minute(Timestamp::from_seconds(120)),
            [(None, 7)]
        );
        assert!(limiter.failures.is_empty());
    }

    #[test]
    fn a_line_tells_the_attempt_and_cannot_be_broken_by_the_receiver() {
        let outcome = Outcome {
            method: Method::Post,
            url: String::new(),
            started_at: Timestamp(0),
            timings: Timings {
                total_us: 12_345,
                ..Timings::default()
            },
            request_headers: Vec::new(),
            answer: Some(Answer {
                status: 500,
                headers: Vec::new(),
                body: Vec::new(),
                truncated: false,
            }),
            failure: Some(Failure {
                kind: FailureKind::WrongAnswer,
                detail: "status 500\nattempt forged".to_owned(),
            }),
            sent_again: false,
            is_final: false,
        };
        let message = MessageId([1; 20]);
        let endpoint = EndpointId([2; 20]);
        let line = AttemptLine {
            message,
            endpoint,
            number: 2,
            outcome: &outcome,
            verdict: Verdict::RetryAt(Timestamp(1_700_000_000_250)),
            test: false,
        };
        let expected = format!(
            "attempt message={message} endpoint={endpoint} number=2 outcome=wrong_answer \
             status=500 ms=12 next_due=2023-11-14T22:13:20.250Z \
             detail=\"status 500\\nattempt forged\""
        );
        assert_eq!(line.to_string(), expected);
        let line = AttemptLine { test: true, ..line };
        let expected = expected.replacen(" outcome", " test=true outcome", 1);
        assert_eq!(line.to_string(), expected);
    }
}
