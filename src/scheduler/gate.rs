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
