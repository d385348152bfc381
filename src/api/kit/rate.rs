//! A limit of requests a second: a token bucket that is one number.
//!
//! The number is the instant at which the bucket is full again (the generic cell rate algorithm,
//! ITU-T I.371): each request moves it on by its share of a second, and one that would move it
//! further ahead than a full bucket lasts is refused. So nothing is refilled and no timer runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Timestamp;

/// A limit of requests a second, and how many seconds' worth may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The time of one request, in nanoseconds.
    each: u64,
    /// The time of a full bucket, in nanoseconds.
    full: u64,
}

impl Rate {
    /// No limit where `per_second` is 0.
    pub fn new(per_second: u32, burst_seconds: u32) -> Option<Rate> {
        let each = 1_000_000_000u64.checked_div(per_second.into())?;
        let full = each * u64::from(per_second) * u64::from(burst_seconds);
        Some(Rate { each, full })
    }
}

/// A payer's remaining requests, as the instant of the next full bucket in nanoseconds since 1970.
#[derive(Debug, Default)]
pub struct Bucket(AtomicU64);

impl Bucket {
    /// Takes a request from the bucket; where it is empty, returns how long until there is one.
    pub fn take(&self, rate: Rate, now: Timestamp) -> Result<(), Duration> {
        let now = nanoseconds(now);
        let last = now.saturating_add(rate.full);
        let moved = |full_at: u64| {
            // Nobody is further ahead than an empty bucket, unless the clock was set back.
            let next = full_at.clamp(now, last).saturating_add(rate.each);
            (next <= last).then_some(next)
        };
        let order = Ordering::Relaxed;
        match self.0.fetch_update(order, order, moved) {
            Ok(_) => Ok(()),
            Err(full_at) => {
                // Otherwise it would be further ahead again at the next try.
                self.0.fetch_min(last, order);
                let next = full_at.min(last).saturating_add(rate.each);
                Err(Duration::from_nanos(next - last))
            }
        }
    }

    /// Whether the bucket is full, so that it can be forgotten.
    pub fn is_full(&self, now: Timestamp) -> bool {
        self.0.load(Ordering::Relaxed) <= nanoseconds(now)
    }
}

fn nanoseconds(instant: Timestamp) -> u64 {
    instant.as_millis().saturating_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn taken(bucket: &Bucket, rate: Rate, now: Timestamp, tries: usize) -> usize {
        let tries = (0..tries).map(|_| bucket.take(rate, now));
        tries.filter(Result::is_ok).count()
    }

    #[test]
    fn a_burst_is_followed_by_the_rate_and_a_rest_brings_the_burst_back() {
        for (per_second, burst_seconds) in [(1, 1), (3, 2), (200, 5), (1500, 2), (1_000_000, 1)] {
            let rate = Rate::new(per_second, burst_seconds).expect("a limit");
            let bucket = Bucket::default();
            let burst = (per_second * burst_seconds) as usize;
            assert_eq!(taken(&bucket, rate, NOW, 2 * burst), burst, "{per_second}");
            let second = NOW + Duration::from_secs(1);
            let in_one = per_second as usize;
            assert_eq!(taken(&bucket, rate, second, 2 * burst + 5), in_one);
            assert!(!bucket.is_full(second));
            let rested = second + Duration::from_secs(burst_seconds.into());
            assert!(bucket.is_full(rested));
            assert_eq!(taken(&bucket, rate, rested, 2 * burst), burst);
        }
    }

    #[test]
    fn who_is_refused_and_waits_as_told_is_let_in_and_no_sooner() {
        let rate = Rate::new(4, 1).expect("a limit");
        let bucket = Bucket::default();
        assert_eq!(taken(&bucket, rate, NOW, 9), 4);
        let wait = bucket.take(rate, NOW).expect_err("it is empty");
        assert_eq!(wait, Duration::from_millis(250));
        let early = NOW + (wait - Duration::from_millis(1));
        assert_eq!(bucket.take(rate, early), Err(Duration::from_millis(1)));
        assert_eq!(bucket.take(rate, NOW + wait), Ok(()));
    }

    #[test]
    fn a_clock_that_is_set_back_costs_a_bucket_at_most() {
        let rate = Rate::new(10, 3).expect("a limit");
        let bucket = Bucket::default();
        assert_eq!(taken(&bucket, rate, NOW, 50), 30);
        let hour_before = NOW.saturating_sub(Duration::from_secs(3600));
        let wait = bucket.take(rate, hour_before).expect_err("it is empty");
        assert_eq!(wait, Duration::from_millis(100));
        assert_eq!(bucket.take(rate, hour_before + wait), Ok(()));
    }

    #[test]
    fn zero_is_no_limit() {
        assert_eq!(Rate::new(0, 5), None);
    }
}
