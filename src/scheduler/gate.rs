//! What keeps a lane from sending all that it could: a rest, and the ramp after it. Pure.
//!
//! While a lane rests it sends one probe at a time. The store decides when it rests and when the next probe is due,
//! in the commit of the probe's outcome; a lane that has nothing unrecorded therefore knows all of it.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::health::Rest;
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
}

impl Gate {
    /// A lane of which nothing was known.
    pub fn new(rest: Option<Rest>) -> Gate {
        Gate {
            rest,
            ..Gate::default()
        }
    }

    /// Takes note of the rest as of the last commit.
    pub fn rest_changed(&mut self, rest: Option<Rest>) {
        if self.rest.is_some() && rest.is_none() {
            self.begin_ramp();
        }
        self.rest = rest;
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
