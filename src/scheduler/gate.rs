//! What keeps a lane from sending all that it could: a rest, and the ramp after it. Pure.
//!
//! While a lane rests it sends one probe at a time. The store decides when it rests and when the next probe is due,
//! in the commit of the probe's outcome; a lane that has nothing unrecorded therefore knows all of it.

use std::time::Duration;

use super::lane::Place;
use crate::clock::Timestamp;
use crate::domain::health::{Rest, RestReason};
use crate::domain::id::MessageId;

/// No probe is this far away, so a clock that was set back makes a rest no longer than this.
const PROBE_MAX: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Default)]
pub struct Gate {
    rest: Option<Rest>,
    /// The message of the last probe: the next one takes another, so that a message that is poison to its receiver
    /// does not keep the lane shut.
    probed: Option<MessageId>,
    /// Attempts in flight at most while the lane takes up sending again: 1, 2, 4 …
    ramp: Option<usize>,
    ends: Ends,
}

/// What is known of the deliveries whose whole schedule has ended while the breaker is open.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Ends {
    /// The queue is to be searched for them, from here on.
    Unknown(Reached),
    /// That is under way; where something changed since it began, its result does not count.
    Searching { is_stale: bool },
    /// Nothing waits.
    #[default]
    None,
    /// The first schedule ends then.
    At(Timestamp),
}

/// Where a search is to go on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reached {
    /// At the beginning of the queue where it is absent.
    pub behind: Option<Place>,
    /// Of what is left so far the first schedule ends then.
    pub next_end: Option<Timestamp>,
}

/// How far a search for deliveries whose schedule has ended came.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Searched {
    /// It is to go on.
    UpTo(Reached),
    /// It reached the end; of what is left the first schedule ends then.
    All(Option<Timestamp>),
}

fn is_open(rest: Option<Rest>) -> bool {
    rest.is_some_and(|rest| rest.reason == RestReason::Failures)
}

impl Gate {
    /// Takes note of the rest as of the last commit.
    pub fn rest_changed(&mut self, rest: Option<Rest>) {
        if self.rest.is_some() && rest.is_none() {
            self.begin_ramp();
        }
        if self.is_open() != is_open(rest) {
            self.schedule_changed();
        }
        self.rest = rest;
    }

    fn is_open(&self) -> bool {
        is_open(self.rest)
    }

    /// The schedule of retries may be another one.
    pub fn schedule_changed(&mut self) {
        match &mut self.ends {
            Ends::Searching { is_stale } => *is_stale = true,
            ends => *ends = Ends::Unknown(Reached::default()),
        }
    }

    /// Where the queue is to be searched for deliveries whose schedule has ended, if it is time for that.
    pub fn wants_search(&mut self, now: Timestamp) -> Option<Reached> {
        let from = match self.ends {
            _ if !self.is_open() => return None,
            Ends::Unknown(from) => from,
            Ends::At(at) if at <= now => Reached::default(),
            _ => return None,
        };
        self.ends = Ends::Searching { is_stale: false };
        Some(from)
    }

    /// A search reached the end of the queue, and this is when the next schedule ends; or it goes on behind a place.
    /// Returns whether the result counts.
    pub fn searched(&mut self, searched: Searched) -> bool {
        if self.ends != (Ends::Searching { is_stale: false }) || !self.is_open() {
            self.ends = Ends::Unknown(Reached::default());
            return false;
        }
        self.ends = match searched {
            Searched::UpTo(reached) => Ends::Unknown(reached),
            Searched::All(next_end) => next_end.map_or(Ends::None, Ends::At),
        };
        true
    }

    /// A delivery was taken out of the queue: a search may show it all the same.
    pub fn went(&mut self) {
        if let Ends::Searching { is_stale } = &mut self.ends {
            *is_stale = true;
        }
    }

    pub fn is_searching(&self) -> bool {
        matches!(self.ends, Ends::Searching { .. })
    }

    /// A delivery came. Its schedule ends after those of the deliveries that were there.
    pub fn came(&mut self) {
        if self.is_open() && self.ends == Ends::None {
            self.ends = Ends::Unknown(Reached::default());
        }
    }

    /// When the queue is to be searched again.
    pub fn search_at(&self) -> Option<Timestamp> {
        match self.ends {
            Ends::At(at) if self.is_open() => Some(at),
            _ => None,
        }
    }

    /// The lane takes up sending with one attempt at a time, and with one more for each that succeeds.
    pub fn begin_ramp(&mut self) {
        self.ramp = Some(1);
        self.probed = None;
    }

    pub fn succeeded(&mut self, in_flight_max: usize) {
        if let Some(ramp) = self.ramp {
            self.ramp = Some(ramp + 1).filter(|ramp| *ramp < in_flight_max);
        }
    }

    pub fn in_flight_max(&self, max: usize) -> usize {
        self.ramp.map_or(max, |ramp| ramp.min(max))
    }

    pub fn rest(&self) -> Option<Rest> {
        self.rest
    }

    /// When the lane may send; at once where it does not rest.
    pub fn opens_at(&self, now: Timestamp) -> Timestamp {
        self.rest
            .map_or(Timestamp(0), |rest| rest.probe_at.min(now + PROBE_MAX))
    }

    /// Whether the next probe is to be another message than this, where another is due.
    pub fn passes_by(&self, message: MessageId) -> bool {
        self.rest.is_some() && self.probed == Some(message)
    }

    /// An attempt of this message begins.
    pub fn takes(&mut self, message: MessageId) {
        if self.rest.is_some() {
            self.probed = Some(message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn rest(reason: RestReason) -> Option<Rest> {
        Some(Rest {
            reason,
            since: NOW,
            probe_at: NOW + Duration::from_secs(30),
            probes: 0,
        })
    }

    #[test]
    fn a_lane_that_took_a_rest_begins_with_one_at_a_time() {
        let mut gate = Gate::default();
        assert_eq!(gate.in_flight_max(4), 4);
        gate.rest_changed(rest(RestReason::Failures));
        gate.rest_changed(None);
        for expected in [1, 2, 3, 4] {
            assert_eq!(gate.in_flight_max(4), expected);
            gate.succeeded(4);
        }
        assert_eq!(gate.ramp, None, "it is over");
        gate.begin_ramp();
        assert_eq!(gate.in_flight_max(4), 1);
        gate.succeeded(1);
        assert_eq!(gate.in_flight_max(1), 1);
    }

    #[test]
    fn a_probe_passes_by_the_message_of_the_one_before() {
        let (first, second) = (MessageId([1; 20]), MessageId([2; 20]));
        let mut gate = Gate::default();
        gate.takes(first);
        assert!(!gate.passes_by(first), "it does not rest");
        gate.rest_changed(rest(RestReason::RetryAfter));
        gate.takes(first);
        assert!(gate.passes_by(first) && !gate.passes_by(second));
        gate.rest_changed(rest(RestReason::Failures));
        assert!(gate.passes_by(first), "the next probe of the same rest");
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_rest_longer_than_a_day() {
        let mut gate = Gate::default();
        assert_eq!(gate.opens_at(NOW), Timestamp(0));
        gate.rest_changed(rest(RestReason::Failures));
        assert_eq!(gate.opens_at(NOW), NOW + Duration::from_secs(30));
        let long_ago = Timestamp(7);
        assert_eq!(gate.opens_at(long_ago), NOW + Duration::from_secs(30));
        let later = Rest {
            probe_at: NOW + 3 * PROBE_MAX,
            ..rest(RestReason::Failures).unwrap()
        };
        gate.rest_changed(Some(later));
        assert_eq!(gate.opens_at(NOW), NOW + PROBE_MAX);
    }

    #[test]
    fn a_queue_is_searched_where_its_breaker_opens_and_when_the_next_schedule_ends() {
        let mut gate = Gate::default();
        assert_eq!(gate.wants_search(NOW), None);
        gate.rest_changed(rest(RestReason::RetryAfter));
        assert_eq!(gate.wants_search(NOW), None, "that is short");
        gate.rest_changed(rest(RestReason::Failures));
        assert_eq!(gate.wants_search(NOW), Some(Reached::default()));
        assert_eq!(gate.wants_search(NOW), None, "it is under way");
        let reached = Reached {
            behind: Some((NOW, MessageId([1; 20]))),
            next_end: Some(NOW),
        };
        assert!(gate.searched(Searched::UpTo(reached)));
        assert_eq!(gate.wants_search(NOW), Some(reached));
        let end = NOW + Duration::from_secs(100);
        assert!(gate.searched(Searched::All(Some(end))));
        assert_eq!(
            (gate.wants_search(NOW), gate.search_at()),
            (None, Some(end))
        );
        assert_eq!(gate.wants_search(end), Some(Reached::default()));

        // Something was taken out of the queue since it was read.
        gate.went();
        assert!(!gate.searched(Searched::All(None)));
        assert_eq!(gate.wants_search(NOW), Some(Reached::default()));
        assert!(gate.searched(Searched::All(None)));
        assert_eq!(gate.wants_search(end), None);
        gate.came();
        assert_eq!(gate.wants_search(NOW), Some(Reached::default()));
        gate.rest_changed(None);
        assert!(!gate.searched(Searched::All(None)), "it closed meanwhile");
    }
}
