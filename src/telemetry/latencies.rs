//! Counts of how long things took, and their quantiles.
//!
//! By hand and not by hdrhistogram: its histograms need a lock or a recorder for each thread, while
//! delivery threads count here with one atomic addition. 128 buckets of a fixed ratio take 1 KiB and are
//! exact enough for the console's chart.

use std::sync::atomic::{AtomicU64, Ordering};

/// Each bucket ends a quarter above the one before, from a tenth of a millisecond to years.
pub(super) const LATENCY_BUCKETS: usize = 128;
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

    pub(super) fn counts(&self) -> [u64; LATENCY_BUCKETS] {
        std::array::from_fn(|n| self.0[n].load(Ordering::Relaxed))
    }
}

fn latency_bucket(ms: f64) -> usize {
    // A NaN or a negative number becomes 0, and a number beyond the last bucket goes there.
    let steps = (ms / LATENCY_FIRST_MS).log(LATENCY_STEP).ceil();
    (steps as usize).min(LATENCY_BUCKETS - 1)
}

/// The quantile at `part` (0.5 for the median) in milliseconds, to within an eighth: the middle of its bucket.
pub(super) fn latency_ms(counts: &[u64; LATENCY_BUCKETS], part: f64) -> Option<f64> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
