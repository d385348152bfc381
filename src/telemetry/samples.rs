//! Counts of the last half an hour, in steps of five seconds, for the pages of the console.

use std::collections::VecDeque;
use std::time::Duration;

use super::latencies::{LATENCY_BUCKETS, latency_ms};
use crate::clock::Timestamp;

/// How much time one sample covers, at least.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// Half an hour of them.
pub(super) const SAMPLES_MAX: usize = 360;

/// The counts since the sample before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub at: Timestamp,
    /// Messages.
    pub accepted: u64,
    /// Attempts.
    pub delivered: u64,
    pub failed: u64,
    /// The time from publish to receipt of messages delivered at the first attempt: the median and the
    /// 95th percentile. None where there was no such message.
    pub latency_ms: Option<(f64, f64)>,
}

#[derive(Debug, Default)]
pub(super) struct Samples {
    pub(super) ring: VecDeque<Sample>,
    /// When the last sample was taken, and the totals then.
    last: Option<(Timestamp, Totals)>,
}

#[derive(Debug)]
pub(super) struct Totals {
    pub(super) accepted: u64,
    pub(super) delivered: u64,
    pub(super) failed: u64,
    pub(super) latencies: [u64; LATENCY_BUCKETS],
}

impl Samples {
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        // A clock that was set back begins anew.
        let since = |at: Timestamp| now < at || now.since(at) >= SAMPLE_EVERY;
        self.last.as_ref().is_none_or(|(at, _)| since(*at))
    }

    pub(super) fn add(&mut self, now: Timestamp, totals: Totals) {
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
