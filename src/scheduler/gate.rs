//! What keeps a lane from sending all that it could: a rest, and the ramp after it. Pure.
//!
//! While a lane rests it sends one probe at a time. The store decides when it rests and when the next probe is due,
//! in the commit of the probe's outcome; a lane that has nothing unrecorded therefore knows all of it.

use std::time::Duration;

use super::lane::Place;
use crate::clock::Timestamp;
use crate::domain::health::{Rest, RestReason};
use crate::domain::id::MessageId;

/// How often the whole queue is searched at most.
const SEARCH_EVERY: Duration = Duration::from_secs(15);

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
    /// That is under way, and whether something came since it began.
    Searching { came: bool },
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
        if !self.is_searching() {
            self.ends = Ends::Unknown(Reached::default());
        }
    }

    /// Where the queue is to be searched for deliveries whose schedule has ended, if it is time for that. A probe that is
    /// due goes first: it may close the breaker.
    pub fn wants_search(&mut self, now: Timestamp) -> Option<Reached> {
        if !self.is_open() || self.opens_at(now) <= now {
            return None;
        }
        let from = match self.ends {
            Ends::Unknown(from) => from,
            Ends::At(at) if at <= now => Reached::default(),
            _ => return None,
        };
        self.ends = Ends::Searching { came: false };
        Some(from)
    }

    /// A search reached the end of the queue, and this is when the next schedule ends; or it goes on behind a place.
    pub fn searched(&mut self, searched: Searched, now: Timestamp) {
        let came = self.ends == Ends::Searching { came: true };
        self.ends = match searched {
            Searched::UpTo(reached) => Ends::Unknown(reached),
            Searched::All(None) if came => Ends::Unknown(Reached::default()),
            Searched::All(None) => Ends::None,
            // The whole queue is read each time.
            Searched::All(Some(next_end)) => Ends::At(next_end.max(now + SEARCH_EVERY)),
        };
    }

    /// A search has no result.
    pub fn search_lost(&mut self) {
        self.ends = Ends::Unknown(Reached::default());
    }

    pub fn is_searching(&self) -> bool {
        matches!(self.ends, Ends::Searching { .. })
    }

    /// A delivery came. Where others wait, the next search finds it.
    pub fn came(&mut self) {
        match &mut self.ends {
            Ends::Searching { came } => *came = true,
            ends @ Ends::None => *ends = Ends::Unknown(Reached::default()),
            Ends::Unknown(_) | Ends::At(_) => {}
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
    pub fn opens_at(&mut self, now: Timestamp) -> Timestamp {
        let Some(rest) = &mut self.rest else {
            return Timestamp(0);
        };
        if now < rest.since {
            // The clock was set back, which makes no rest longer.
            rest.probe_at = now + rest.probe_at.since(rest.since);
            rest.since = now;
        }
        rest.probe_at
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
    fn a_clock_that_is_set_back_makes_no_rest_longer() {
        let mut gate = Gate::default();
        assert_eq!(gate.opens_at(NOW), Timestamp(0));
        gate.rest_changed(rest(RestReason::Failures));
        assert_eq!(gate.opens_at(NOW), NOW + Duration::from_secs(30));
        let before = Timestamp(7_000);
        let opens_at = before + Duration::from_secs(30);
        assert_eq!(gate.opens_at(before), opens_at);
        let later = before + Duration::from_secs(20);
        assert_eq!(gate.opens_at(later), opens_at, "it does not slide");
    }

    #[test]
    fn a_probe_that_is_due_goes_before_a_search() {
        let mut gate = Gate::default();
        gate.rest_changed(rest(RestReason::Failures));
        let probe_at = NOW + Duration::from_secs(30);
        assert_eq!(gate.wants_search(probe_at), None);
        assert_eq!(gate.wants_search(NOW), Some(Reached::default()));
    }

    #[test]
    fn a_queue_is_searched_where_its_breaker_opens_and_when_the_next_schedule_ends() {
        let mut gate = Gate::default();
        assert_eq!(gate.wants_search(NOW), None);
        gate.rest_changed(rest(RestReason::RetryAfter));
        assert_eq!(gate.wants_search(NOW), None, "that is short");
        let long = Rest {
            probe_at: NOW + Duration::from_secs(900),
            ..rest(RestReason::Failures).unwrap()
        };
        gate.rest_changed(Some(long));
        assert_eq!(gate.wants_search(NOW), Some(Reached::default()));
        assert_eq!(gate.wants_search(NOW), None, "it is under way");
        let reached = Reached {
            behind: Some((NOW, MessageId([1; 20]))),
            next_end: Some(NOW),
        };
        gate.searched(Searched::UpTo(reached), NOW);
        assert_eq!(gate.wants_search(NOW), Some(reached));
        let end = NOW + Duration::from_secs(100);
        gate.searched(Searched::All(Some(end)), NOW);
        assert_eq!(
            (gate.wants_search(NOW), gate.search_at()),
            (None, Some(end))
        );
        assert_eq!(gate.wants_search(end), Some(Reached::default()));
        gate.searched(Searched::All(Some(end)), end);
        assert_eq!(
            gate.search_at(),
            Some(end + SEARCH_EVERY),
            "not all the time"
        );
        assert_eq!(
            gate.wants_search(end + SEARCH_EVERY),
            Some(Reached::default())
        );

        gate.came();
        gate.searched(Searched::All(None), end);
        assert_eq!(
            gate.wants_search(end),
            Some(Reached::default()),
            "it may have missed that"
        );
        gate.searched(Searched::All(None), end);
        assert_eq!(gate.wants_search(end), None);
        gate.came();
        assert_eq!(gate.wants_search(end), Some(Reached::default()));
    }
}
