//! How many attempts there were and what became of deliveries, by lane and hour, so that a
//! statistic need not walk the log.
//!
//! The record of a commit says what its attempts add, and the index of its slice adds that up. One hour
//! of a lane may stand in two slices; readers add up.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use super::effects::LaneAndHour;
use super::layout::{self, LaneHour};
use super::{Inner, Store};
use crate::clock::Timestamp;
use crate::domain::attempt::{Attempt, FailureKind, Verdict};
use crate::error::Result;
use crate::lock::locked;

pub const HOUR: Duration = Duration::from_secs(3600);
const HOUR_MS: u64 = 3_600_000;

pub fn hour_of(at: Timestamp) -> u64 {
    at.0 / HOUR_MS
}

impl LaneHour {
    /// Counts an attempt that was due at an instant.
    pub fn count(&mut self, attempt: &Attempt, due: Timestamp) {
        let kind = attempt.failure.as_ref().map(|failure| failure.kind);
        if kind == Some(FailureKind::Canceled) {
            // Nothing was tried, and nobody failed.
            return;
        }
        match attempt.failure {
            None => self.attempts_succeeded += 1,
            Some(_) => self.attempts_failed += 1,
        }
        match attempt.verdict {
            Verdict::Delivered => self.delivered += 1,
            Verdict::GiveUp => self.failed += 1,
            Verdict::RetryAt(_) | Verdict::DisableEndpoint => {}
        }
        if attempt.answer.is_some() {
            let late_us = attempt.started_at.since(due).as_micros() as u64;
            let took = late_us + u64::from(attempt.timings.total_us);
            self.answered += 1;
            self.answer_us_sum += took;
            self.answer_us_max = self.answer_us_max.max(took);
        }
    }

    pub fn add(&mut self, other: &LaneHour) {
        self.attempts_succeeded += other.attempts_succeeded;
        self.attempts_failed += other.attempts_failed;
        self.delivered += other.delivered;
        self.failed += other.failed;
        self.answered += other.answered;
        self.answer_us_sum += other.answer_us_sum;
        self.answer_us_max = self.answer_us_max.max(other.answer_us_max);
    }
}

/// Counts of what happened lately.
#[derive(Default)]
pub struct Counters {
    recent: Mutex<Recent>,
}

/// Attempts of the running hour and the one before; after a start, of what happened since.
#[derive(Default)]
struct Recent {
    hour: u64,
    now: HashMap<u64, Tally>,
    before: HashMap<u64, Tally>,
}

/// How attempts ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub succeeded: u64,
    pub failed: u64,
}

impl Recent {
    fn begin(&mut self, hour: u64) {
        match hour.saturating_sub(self.hour) {
            0 => return,
            1 => self.before = std::mem::take(&mut self.now),
            _ => {
                self.before.clear();
                self.now.clear();
            }
        }
        self.hour = hour;
    }

    fn add(&mut self, (lane, hour): LaneAndHour, counts: &LaneHour) {
        self.begin(hour);
        let tally = match self.hour - hour {
            0 => self.now.entry(lane).or_default(),
            1 => self.before.entry(lane).or_default(),
            _ => return,
        };
        tally.succeeded += counts.attempts_succeeded;
        tally.failed += counts.attempts_failed;
    }

    /// Lanes of which every attempt failed.
    fn failing(&mut self, hour: u64) -> Vec<(u64, u64)> {
        self.begin(hour);
        let mut tallies = self.before.clone();
        for (lane, tally) in &self.now {
            let both = tallies.entry(*lane).or_default();
            both.succeeded += tally.succeeded;
            both.failed += tally.failed;
        }
        let failing = tallies.into_iter();
        failing
            .filter(|(_, tally)| tally.succeeded == 0 && tally.failed > 0)
            .map(|(lane, tally)| (lane, tally.failed))
            .collect()
    }
}

impl Counters {
    fn recent(&self) -> MutexGuard<'_, Recent> {
        locked(self.recent.lock())
    }

    /// Adds what a commit has counted.
    pub fn add(&self, counted: &HashMap<LaneAndHour, LaneHour>) {
        if counted.is_empty() {
            return;
        }
        let mut recent = self.recent();
        for (place, counts) in counted {
            recent.add(*place, counts);
        }
    }
}

impl Store {
    /// Counts of the attempts at a lane, by the hour, for the hours that begin within this stretch; hours
    /// without an attempt are left out. Blocks on the disk.
    pub fn hours(
        &self,
        lane: u64,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<BTreeMap<Timestamp, LaneHour>> {
        let (from, to) = (hour_of(since), until.0.div_ceil(HOUR_MS));
        let hours = self.inner.hours(lane, from, to)?;
        let named = |(hour, counts)| (Timestamp(hour * HOUR_MS), counts);
        Ok(hours.into_iter().map(named).collect())
    }

    /// Lanes of which every attempt of this hour and the last has failed, and how many that were.
    /// From memory: what was before the last start is not among it.
    pub fn failing_lanes(&self) -> Vec<(u64, u64)> {
        let hour = hour_of(self.inner.clock.now());
        self.inner.counters.recent().failing(hour)
    }

    /// How many deliveries wait in a lane, due or not. Blocks on the disk, for longer the more
    /// there are.
    pub fn waiting_in(&self, lane: u64) -> Result<u64> {
        self.waiting_in_at_most(lane, usize::MAX)
    }

    /// The same, counting no further than `max`.
    pub fn waiting_in_at_most(&self, lane: u64, max: usize) -> Result<u64> {
        let mut count = 0;
        let waiting = self.inner.live.prefix(&layout::lane_prefix(lane));
        for item in waiting.take(max) {
            item?;
            count += 1;
        }
        Ok(count)
    }
}

impl Inner {
    fn hours(&self, lane: u64, from: u64, to: u64) -> Result<BTreeMap<u64, LaneHour>> {
        let at = |hour: u64| self.slices.at(Timestamp(hour.saturating_mul(HOUR_MS)));
        let oldest = at(from).unwrap_or_default();
        // What was counted last in a slice may have come into the next.
        let newest = at(to).unwrap_or_default() + 1;
        let numbers = self.slices.list().into_iter().map(|(number, _)| number);
        let mut hours: BTreeMap<u64, LaneHour> = BTreeMap::new();
        for number in numbers.filter(|number| (oldest..=newest).contains(number)) {
            let Some(slice) = self.slice(number)? else {
                continue;
            };
            for (hour, counts) in slice.hours(lane, from, to)? {
                hours.entry(hour).or_default().add(&counts);
            }
        }
        Ok(hours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_fail_whose_every_attempt_of_two_hours_did() {
        let mut recent = Recent::default();
        let counts = |succeeded, failed| LaneHour {
            attempts_succeeded: succeeded,
            attempts_failed: failed,
            ..LaneHour::default()
        };
        let failing = |recent: &mut Recent, hour| {
            let mut failing = recent.failing(hour);
            failing.sort_unstable();
            failing
        };
        recent.add((1, 7), &counts(0, 2));
        recent.add((2, 7), &counts(1, 9));
        recent.add((3, 7), &counts(0, 1));
        assert_eq!(failing(&mut recent, 7), [(1, 2), (3, 1)]);
        recent.add((1, 8), &counts(0, 1));
        recent.add((3, 8), &counts(1, 0));
        recent.add((2, 8), &counts(0, 1));
        recent.add((4, 7), &counts(0, 5));
        recent.add((4, 6), &counts(5, 0));
        assert_eq!(failing(&mut recent, 8), [(1, 3), (4, 5)]);
        assert_eq!(failing(&mut recent, 9), [(1, 1), (2, 1)]);
        assert_eq!(failing(&mut recent, 20), []);
        assert!(recent.now.is_empty() && recent.before.is_empty());
    }
}
