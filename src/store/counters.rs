//! How many attempts there were and what became of deliveries, by lane and hour, so that a
//! statistic need not walk the log.
//!
//! The committer counts every attempt that it has committed, in memory, and writes what was counted
//! into the newest slice now and then, together with an ordinary commit: [`KEEP_EVERY`] after the
//! last time, and at a clean close. A crash loses what was counted since, and nothing else: the log
//! and the queue do not depend on it. One hour of a lane may stand in two slices; readers add up.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use super::engine::{Changes, Engine};
use super::layout::{self, LaneHour, RecordError};
use super::{Inner, Store};
use crate::clock::Timestamp;
use crate::domain::attempt::{Attempt, Verdict};
use crate::error::Result;
use crate::lock::locked;

pub const HOUR: Duration = Duration::from_secs(3600);
const HOUR_MS: u64 = 3_600_000;
/// What a crash may cost, by the clock.
const KEEP_EVERY: Duration = Duration::from_secs(5);
/// Counters that are not written yet: with more of them, writing does not wait.
const UNKEPT_MAX: usize = 20_000;
/// Counters that one commit takes along.
const KEPT_AT_A_TIME: usize = 2_000;
/// How often the disk is read again because counters were written meanwhile.
const READ_AGAIN_MAX: usize = 10;

/// A lane, and hours since 1970.
pub type Place = (u64, u64);

pub fn hour_of(at: Timestamp) -> u64 {
    at.0 / HOUR_MS
}

impl LaneHour {
    /// Counts an attempt that was due at an instant.
    pub fn count(&mut self, attempt: &Attempt, due: Timestamp) {
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

/// What was counted and is not written yet.
#[derive(Default)]
pub struct Counters {
    state: Mutex<State>,
    /// Odd while counters are between memory and disk.
    writes: AtomicU64,
}

#[derive(Default)]
struct State {
    unkept: HashMap<Place, LaneHour>,
    /// Since when the oldest of them waits.
    since: Option<Timestamp>,
    /// Those of the writing that is under way.
    round: Vec<Place>,
    recent: Recent,
}

/// Attempts of the running hour and the one before, whether written or not; after a start, of what
/// happened since.
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

    fn add(&mut self, (lane, hour): Place, counts: &LaneHour) {
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
    fn lock(&self) -> MutexGuard<'_, State> {
        locked(self.state.lock())
    }

    /// Adds what a commit has counted.
    pub fn add(&self, counted: HashMap<Place, LaneHour>, now: Timestamp) {
        if counted.is_empty() {
            return;
        }
        let mut state = self.lock();
        state.since.get_or_insert(now);
        for (place, counts) in counted {
            state.unkept.entry(place).or_default().add(&counts);
            state.recent.add(place, &counts);
        }
    }

    pub fn is_due(&self, now: Timestamp) -> bool {
        let state = self.lock();
        let waited = state
            .since
            .is_some_and(|since| now.since(since) >= KEEP_EVERY);
        waited || !state.round.is_empty() || state.unkept.len() > UNKEPT_MAX
    }

    pub fn is_empty(&self) -> bool {
        self.lock().unkept.is_empty()
    }

    /// Some of what is to be written next.
    fn next(&self) -> Vec<(Place, LaneHour)> {
        let mut state = self.lock();
        if state.round.is_empty() {
            state.round = state.unkept.keys().copied().collect();
        }
        let left = state.round.len().saturating_sub(KEPT_AT_A_TIME);
        let places = state.round.split_off(left);
        let counts = |place: Place| Some((place, *state.unkept.get(&place)?));
        places.into_iter().filter_map(counts).collect()
    }

    /// Puts some of them into a slice's changes; returns which.
    pub fn stage(&self, slice: &Engine, changes: &mut Changes) -> Result<Vec<Place>, RecordError> {
        let mut staged = Vec::new();
        for ((lane, hour), counts) in self.next() {
            let key = layout::lane_hour_key(lane, hour);
            let mut kept = match layout::get::<LaneHour>(slice, &key)? {
                Some(record) => record.meta,
                None => LaneHour::default(),
            };
            kept.add(&counts);
            layout::put(changes, &key, &kept, &[]);
            staged.push((lane, hour));
        }
        Ok(staged)
    }

    /// The commit that takes counters along begins.
    pub fn write_begins(&self) {
        self.writes.fetch_add(1, Ordering::AcqRel);
    }

    /// It is durable: these are on disk and no more in memory.
    pub fn write_ended(&self, staged: &[Place], now: Timestamp) {
        let mut state = self.lock();
        for place in staged {
            state.unkept.remove(place);
        }
        if state.round.is_empty() {
            state.since = (!state.unkept.is_empty()).then_some(now);
        }
        self.writes.fetch_add(1, Ordering::AcqRel);
    }

    fn add_to(&self, hours: &mut BTreeMap<u64, LaneHour>, lane: u64, from: u64, to: u64) {
        for ((number, hour), counts) in &self.lock().unkept {
            if *number == lane && (from..to).contains(hour) {
                hours.entry(*hour).or_default().add(counts);
            }
        }
    }
}

impl Store {
    /// What happened at a lane, by the hour, for the hours that begin within this stretch; none
    /// for those in which nothing did. Blocks on the disk.
    pub fn hours(
        &self,
        lane: u64,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<BTreeMap<Timestamp, LaneHour>> {
        let (from, to) = (hour_of(since), until.0.div_ceil(HOUR_MS));
        let mut hours = BTreeMap::new();
        for _ in 0..READ_AGAIN_MAX {
            let writes = self.inner.counters.writes.load(Ordering::Acquire);
            hours = self.inner.hours_on_disk(lane, from, to)?;
            self.inner.counters.add_to(&mut hours, lane, from, to);
            let now = self.inner.counters.writes.load(Ordering::Acquire);
            if writes == now && now.is_multiple_of(2) {
                break;
            }
        }
        let named = |(hour, counts)| (Timestamp(hour * HOUR_MS), counts);
        Ok(hours.into_iter().map(named).collect())
    }

    /// Lanes of which every attempt of this hour and the last has failed, and how many that were.
    /// From memory: what was before the last start is not among it.
    pub fn failing_lanes(&self) -> Vec<(u64, u64)> {
        let hour = hour_of(self.inner.clock.now());
        self.inner.counters.lock().recent.failing(hour)
    }

    /// Everything that was counted is on disk.
    pub fn counters_are_kept(&self) -> bool {
        self.inner.counters.is_empty()
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
    fn hours_on_disk(&self, lane: u64, from: u64, to: u64) -> Result<BTreeMap<u64, LaneHour>> {
        let at = |hour: u64| self.slices.at(Timestamp(hour.saturating_mul(HOUR_MS)));
        let oldest = at(from).unwrap_or_default();
        // What was counted last in a slice is written into the next perhaps.
        let newest = at(to).unwrap_or_default() + 1;
        let numbers = self.slices.list().into_iter().map(|(number, _)| number);
        let mut hours: BTreeMap<u64, LaneHour> = BTreeMap::new();
        for number in numbers.filter(|number| (oldest..=newest).contains(number)) {
            let Some(engine) = self.slice(number)? else {
                continue;
            };
            let range = engine.range(
                Bound::Included(layout::lane_hour_key(lane, from)),
                Bound::Excluded(layout::lane_hour_key(lane, to)),
            );
            for item in range {
                let (key, value) = item?;
                let (counts, _) = layout::decode::<LaneHour>(&key, &value)?;
                let hour = layout::hour_at_end(&key);
                hours.entry(hour).or_default().add(&counts);
            }
        }
        Ok(hours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> LaneHour {
        LaneHour {
            attempts_succeeded: 1,
            delivered: 1,
            ..LaneHour::default()
        }
    }

    #[test]
    fn counters_are_due_after_a_while_and_go_in_rounds() {
        let counters = Counters::default();
        let at = |seconds: u64| Timestamp::from_seconds(1_700_000_000 + seconds);
        assert!(!counters.is_due(at(0)) && counters.is_empty());
        let many = (0..KEPT_AT_A_TIME as u64 + 1).map(|lane| ((lane, 7), one()));
        counters.add(many.collect(), at(0));
        assert!(!counters.is_due(at(4)));
        assert!(counters.is_due(at(5)));
        let mut kept = 0;
        while counters.is_due(at(5)) {
            let next: Vec<Place> = counters
                .next()
                .into_iter()
                .map(|(place, _)| place)
                .collect();
            assert!(next.len() <= KEPT_AT_A_TIME);
            kept += next.len();
            counters.write_begins();
            counters.write_ended(&next, at(5));
        }
        assert_eq!(kept, KEPT_AT_A_TIME + 1);
        assert!(counters.is_empty());
    }

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

    #[test]
    fn too_many_counters_do_not_wait() {
        let counters = Counters::default();
        let many = (0..UNKEPT_MAX as u64 + 1).map(|lane| ((lane, 7), one()));
        counters.add(many.collect(), Timestamp(0));
        assert!(counters.is_due(Timestamp(0)));
    }

    #[test]
    fn what_is_counted_while_a_round_is_under_way_is_kept_for_the_next() {
        let counters = Counters::default();
        counters.add(HashMap::from([((1, 7), one())]), Timestamp(0));
        let staged: Vec<Place> = counters
            .next()
            .into_iter()
            .map(|(place, _)| place)
            .collect();
        counters.write_begins();
        counters.write_ended(&staged, Timestamp(1));
        counters.add(HashMap::from([((1, 7), one())]), Timestamp(2));
        let mut hours = BTreeMap::new();
        counters.add_to(&mut hours, 1, 7, 8);
        assert_eq!(hours[&7].delivered, 1);
        counters.add_to(&mut hours, 2, 7, 8);
        counters.add_to(&mut hours, 1, 8, 9);
        assert_eq!(hours.len(), 1);
    }
}
