//! The part of the model about rests, ramps and paces: what `scheduler::gate` and the pace of a backlog promise.
//!
//! It starts where a lane comes into memory, and follows what its worker hears. A lane that is forgotten and made anew
//! begins without a ramp.

use std::collections::BTreeSet;

use super::model::{RateModel, Reason};
use super::store::ModelStore;
use crate::clock::Timestamp;
use crate::domain::endpoint::CatchUp;
use crate::domain::health::{Rest, RestReason};
use crate::domain::id::MessageId;
use crate::scheduler::lane::Place;

#[derive(Debug, Default)]
pub struct GateModel {
    /// Its endpoint was neither held, disabled nor deleted when its worker last looked.
    sends: bool,
    /// As its worker heard of it last.
    rest: Option<Rest>,
    /// It begins nothing before this. That is earlier than the rest says where the clock was set back.
    opens_at: Timestamp,
    /// In flight at most.
    ramp: Option<usize>,
    /// The message of the last probe.
    probed: Option<MessageId>,
    /// A search is under way.
    is_searched: bool,
    pace: Option<(CatchUp, RateModel)>,
}

impl GateModel {
    /// Its lane has come into memory.
    pub fn made(lane: u64, store: &ModelStore, now: Timestamp) -> GateModel {
        let mut gate = GateModel {
            sends: !store.is_held(lane),
            ..GateModel::default()
        };
        gate.put_rest(store.rest(lane), now);
        gate.put_pace(lane, store, now);
        gate
    }

    pub fn endpoint_changed(&mut self, lane: u64, store: &ModelStore, now: Timestamp) {
        let sends = !store.is_held(lane);
        if sends && !self.sends {
            self.begin_ramp();
        }
        self.sends = sends;
        self.put_pace(lane, store, now);
    }

    pub fn rest_changed(&mut self, rest: Option<Rest>, now: Timestamp) {
        if self.rest.is_some() && rest.is_none() {
            self.begin_ramp();
        }
        self.put_rest(rest, now);
    }

    fn begin_ramp(&mut self) {
        self.ramp = Some(1);
        self.probed = None;
    }

    fn put_rest(&mut self, rest: Option<Rest>, now: Timestamp) {
        self.rest = rest;
        self.opens_at = rest.map_or(Timestamp(0), |rest| rest.probe_at);
        self.set_back(now);
    }

    fn put_pace(&mut self, lane: u64, store: &ModelStore, now: Timestamp) {
        let endpoint = store.endpoints.get(&lane);
        let catch_up = endpoint.and_then(|endpoint| endpoint.catch_up);
        if self.pace.as_ref().map(|(known, _)| *known) != catch_up {
            let since = |one: CatchUp| one.published_before.min(now);
            self.pace = catch_up.map(|one| (one, RateModel::new(Some(one.rate), since(one))));
        }
    }

    /// The clock was set back to this time, or may have been.
    pub fn set_back(&mut self, now: Timestamp) {
        if let Some(rest) = self.rest
            && now < rest.since
        {
            let opens_at = now + rest.probe_at.since(rest.since);
            self.opens_at = self.opens_at.min(opens_at);
        }
    }

    /// The rate of its backlog.
    pub fn pace(&mut self) -> Option<&mut RateModel> {
        self.pace.as_mut().map(|(_, rate)| rate)
    }

    pub fn rests(&self) -> bool {
        self.rest.is_some()
    }

    /// A search begins: only behind an open breaker, and not where a probe is due.
    pub fn search_begins(&mut self, now: Timestamp) {
        let is_open = |rest: Rest| rest.reason == RestReason::Failures && rest.probe_at > now;
        let may_search = self.rest.is_some_and(is_open) && !self.is_searched;
        assert!(may_search, "a search begins at {}: {self:?}", now.0);
        self.is_searched = true;
    }

    pub fn search_ends(&mut self) {
        self.is_searched = false;
    }

    pub fn succeeded(&mut self, in_flight_max: usize) {
        if let Some(ramp) = self.ramp {
            self.ramp = Some(ramp + 1).filter(|ramp| *ramp < in_flight_max);
        }
    }

    /// An attempt begins; `others` are the deliveries of its lane that are under way, and `due` what else is due, as
    /// far as that is sure.
    pub fn begin(&mut self, place: Place, others: usize, due: Option<Place>, now: Timestamp) {
        let (_, message) = place;
        if self.rest.is_some() {
            assert!(
                self.opens_at <= now,
                "a probe begins at {}: {self:?}",
                now.0
            );
            assert!(
                others == 0 && !self.is_searched,
                "a probe is not by itself: {others} others, {self:?}"
            );
            assert!(
                self.probed != Some(message) || due.is_none(),
                "a message is the probe twice in a row, and {due:?} is due"
            );
            self.probed = Some(message);
        }
        if let Some((catch_up, pace)) = &mut self.pace
            && message.time() < catch_up.published_before
        {
            assert!(pace.has_one(now), "above the pace of its backlog: {pace:?}");
            pace.take();
        }
    }

    pub fn assert_ramp(&self, in_flight: usize) {
        let is_within = self.ramp.is_none_or(|ramp| in_flight <= ramp);
        assert!(is_within, "{in_flight} in flight on a ramp: {self:?}");
    }

    /// Why its lane does not send now. `unrecorded` are the deliveries under way, `known` all that wait.
    pub fn reason(
        &mut self,
        in_flight: usize,
        unrecorded: &BTreeSet<Place>,
        known: &BTreeSet<Place>,
        now: Timestamp,
    ) -> Option<Reason> {
        if let Some(rest) = self.rest
            && (!unrecorded.is_empty() || self.is_searched || rest.probe_at > now)
        {
            return Some(Reason::Rests);
        }
        if self.ramp.is_some_and(|ramp| in_flight >= ramp) {
            return Some(Reason::Ramp);
        }
        let (catch_up, pace) = self.pace.as_mut()?;
        let mut waiting = known.iter().filter(|place| !unrecorded.contains(place));
        let first = waiting.next();
        let is_passed_by = |(_, message): &&Place| self.probed == Some(*message);
        let next = match first.filter(is_passed_by) {
            Some(_) if self.rest.is_some() => waiting.next().filter(|(due, _)| *due <= now),
            _ => None,
        };
        let is_paced = next
            .or(first)
            .is_some_and(|(_, message)| message.time() < catch_up.published_before);
        let has_one = pace.has_one(now) && pace.is_exact;
        (is_paced && !has_one).then_some(Reason::Pace)
    }
}
