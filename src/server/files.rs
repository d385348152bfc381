//! How many files the process may open, and how many the settings can make it need.

use rustix::process::{Resource, getrlimit, setrlimit};

use super::http::METRICS_CONNECTIONS_MAX;
use crate::config::Config;
use crate::delivery;

/// Files that are open beside connections: databases, listeners, event queues, and those that are read
/// for a moment.
const FILES_BESIDE: usize = 384;

/// Raises the soft limit of open files to the hard one. Connections in and out are files.
pub fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        log::warn!("the limit of open files could not be raised: {error}");
    }
}

/// A warning where this process may open fewer files than the settings can make it need, with advice.
/// It compares with the hard limit, because a start raises the soft one to it.
pub fn file_limit_problem(config: &Config) -> Option<String> {
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let needed = needed(config);
    (limit < needed).then(|| {
        format!(
            "this process may open {limit} files, and the settings may need {needed}: \
             limits.connections_max ({}), delivery.in_flight_max ({}), and the store. When they run \
             out, deliveries wait and connections are refused. Raise LimitNOFILE of the unit (or \
             `ulimit -Hn`), or lower these settings",
            config.limits.connections_max, config.delivery.in_flight_max
        )
    })
}

/// The most files that are open at once: connections in and out, idle connections and look-ups of each
/// delivery thread, and [`FILES_BESIDE`].
fn needed(config: &Config) -> u64 {
    let Config {
        delivery, limits, ..
    } = config;
    let each_worker = delivery::IDLE_CONNECTIONS_MAX + delivery::LOOKUPS_MAX;
    let connections = limits.connections_max + METRICS_CONNECTIONS_MAX + delivery.in_flight_max;
    (connections + delivery.workers * each_worker + FILES_BESIDE) as u64
}
