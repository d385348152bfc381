//! The process's logger.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, RwLock};
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::config;
use crate::lock::locked;
use crate::watched;

/// The target of records about readers that were cut off. One a minute is shown, as of `postrider::http`.
pub const SLOW_READERS: &str = "postrider::slow_readers";

/// Libraries that tell more than an operator wants, unless a filter names them.
const QUIET: [&str; 6] = [
    "actix_server",
    "actix_http",
    "mio",
    "object_store",
    "rustls",
    "sled",
];

/// Sends records to standard error, one line each, from `log.level` or, where set, RUST_LOG.
///
/// Under systemd the journal notes the time itself and takes the level as a prefix.
pub fn init_logging(settings: &config::LogSection) {
    let logger = LOGGER.get_or_init(|| Logger {
        inner: RwLock::new(logger(settings)),
        malformed: Mutex::default(),
        not_accepted: Mutex::default(),
        slow_readers: Mutex::default(),
    });
    // A second logger in one process can only be a test's.
    let _ = log::set_logger(logger);
    set_log_level(settings);
    watched::log_panics();
}

/// From now on these records are sent.
pub fn set_log_level(settings: &config::LogSection) {
    let Some(current) = LOGGER.get() else { return };
    let new = logger(settings);
    log::set_max_level(new.filter());
    *locked(current.inner.write()) = new;
}

/// From now on a connection that cannot be accepted is nothing to tell of: the server stops.
pub fn note_stopping() {
    IS_STOPPING.store(true, Ordering::Relaxed);
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

static IS_STOPPING: AtomicBool = AtomicBool::new(false);

/// The process's logger. Its filter can be replaced, and of records that strangers can provoke one a
/// minute is shown and the rest counted.
struct Logger {
    inner: RwLock<env_logger::Logger>,
    malformed: Mutex<Repeated>,
    not_accepted: Mutex<Repeated>,
    slow_readers: Mutex<Repeated>,
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
            let what = "a request was not valid HTTP: ";
            (&self.malformed, log::Level::Info, what)
        } else if is_of_accepting(metadata) {
            let what = "a connection could not be accepted, and is tried again: ";
            // A stop lets go of the threads that serve before the one that accepts.
            let level = match IS_STOPPING.load(Ordering::Relaxed) {
                true => log::Level::Debug,
                false => log::Level::Error,
            };
            (&self.not_accepted, level, what)
        } else if metadata.target() == SLOW_READERS {
            (&self.slow_readers, metadata.level(), "")
        } else {
            inner.log(record);
            return;
        };
        let more = {
            let mut repeated = locked(repeated.lock());
            repeated.admit(Instant::now())
        };
        let Some(more) = more else { return };
        let said = format!("{what}{}", record.args());
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

/// actix reports every fault of a request as an error of the server.
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

fn logger(settings: &config::LogSection) -> env_logger::Logger {
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

/// Text of strangers may contain line breaks, and each line would look like a record of ours.
fn on_one_line(text: &str) -> String {
    text.replace('\n', "\\n").replace('\r', "\\r")
}
