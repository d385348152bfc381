//! How the delivery of a message to an endpoint stands.
//!
//! No record says it, so that accepting and delivering write no more than they must: it follows
//! from the queue and the log. A delivery that waits stands under its due time, and that is known:
//! first the message's, after an attempt the one that its verdict names, and after a resend by
//! hand, or where the clock was set back, the one in a note beside the queue. Everything here blocks on the disk.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::layout::{self, RecordError};
use super::slice::Slice;
use super::walk::Walk;
use super::{Inner, Store, Stretch, Window};
use crate::clock::Timestamp;
use crate::domain::attempt::{Attempt, Verdict};
use crate::domain::endpoint::Endpoint;
use crate::domain::id::{AttemptId, MessageId};
use crate::domain::message::{DeliveryKey, DeliveryStatus, Message};
use crate::error::{Error, Result};

/// A delivery that was made, is being made, or waits.
#[derive(Clone, Debug)]
pub struct DeliveryState {
    pub status: DeliveryStatus,
    /// When the next attempt is due; also where it is overdue, being made, or held.
    pub next_due: Option<Timestamp>,
    pub last: Option<Attempt>,
}

/// How far the log of a message's attempts went when somebody looked at it.
#[derive(Clone, Copy, Debug)]
pub struct LogEnd {
    /// The newest slice.
    slice: u32,
    /// The newest attempt in it.
    newest: Option<AttemptId>,
    /// The slice that the message is in, if it is kept.
    of_message: Option<u32>,
}

/// A message that an endpoint is to get now, by hand, with what tells where its delivery waits, if it
/// does.
#[derive(Clone, Copy, Debug)]
pub struct SendAgain {
    pub message: MessageId,
    dues: Dues,
    /// Where an attempt follows in the log, its `dues` are not those any more.
    log_end: LogEnd,
}

/// How a delivery that was looked for stands where nothing races with it.
pub(super) enum Now {
    Waits(DeliveryKey),
    Ended,
    /// Who looked for it saw it before its last attempt.
    Moved,
}

/// When a delivery that waits may be due, by its message and by its last attempt.
type Dues = [Option<Timestamp>; 2];

fn dues(message: &Message, last: Option<&Attempt>) -> Dues {
    [last.and_then(due_after), Some(message.first_due())]
}

fn due_after(last: &Attempt) -> Option<Timestamp> {
    match last.verdict {
        Verdict::RetryAt(due) => Some(due),
        Verdict::DisableEndpoint => Some(last.started_at),
        Verdict::Delivered | Verdict::GiveUp => None,
    }
}

impl SendAgain {
    /// The slice that the message was in.
    pub(super) fn slice(&self) -> Option<u32> {
        self.log_end.of_message
    }

    /// `last` is the message's last attempt at the endpoint, and was looked for after `log_end`.
    pub fn new(message: &Message, log_end: LogEnd, last: Option<&Attempt>) -> SendAgain {
        SendAgain {
            message: message.id,
            dues: dues(message, last),
            log_end,
        }
    }
}

/// Of how many deleted endpoints a message tells, each with one attempt in memory.
const DELETED_MAX: usize = 1000;

/// How often the log is read again because the queue changed meanwhile.
const READ_AGAIN_MAX: usize = 10;

impl Store {
    /// To be asked before the delivery that is to be sent again.
    pub fn log_end(&self, message: MessageId) -> Result<LogEnd> {
        self.inner.log_end(message)
    }

    /// Nothing where the message was never for this endpoint, or what it had was forgotten.
    pub fn delivery(
        &self,
        message: &Message,
        endpoint: &Arc<Endpoint>,
    ) -> Result<Option<DeliveryState>> {
        let endpoints = std::slice::from_ref(endpoint);
        let states = self.inner.deliveries(message, endpoints, &mut 0)?;
        Ok(states.into_iter().next().flatten())
    }

    /// The same for several endpoints, in their order, with one look through the message's log.
    pub fn deliveries(
        &self,
        message: &Message,
        endpoints: &[Arc<Endpoint>],
    ) -> Result<Vec<Option<DeliveryState>>> {
        self.inner.deliveries(message, endpoints, &mut 0)
    }

    /// The last attempts for a message at endpoints that have been deleted since, oldest endpoints
    /// first. None of `endpoints`: they are told of already.
    pub fn last_attempts_at_deleted(
        &self,
        message: &Message,
        endpoints: &[Arc<Endpoint>],
    ) -> Result<Vec<Attempt>> {
        let mut known: HashSet<u64> = endpoints.iter().map(|endpoint| endpoint.number).collect();
        // Those that the caller does not see are not deleted, and do not count.
        if let Some(entry) = self.catalog().application_by_id(message.application) {
            known.extend(entry.endpoints.iter().map(|endpoint| endpoint.number));
        }
        let is_other = |lane: u64| !known.contains(&lane);
        let found = self
            .inner
            .last_attempts_at(message, is_other, DELETED_MAX, &mut 0)?;
        let catalog = self.catalog();
        // One that was made meanwhile is not deleted.
        let gone = found
            .into_iter()
            .filter(|(lane, _)| catalog.endpoint_by_number(*lane).is_none());
        let mut attempts: Vec<Attempt> = gone.map(|(_, attempt)| attempt).collect();
        attempts.sort_unstable_by_key(|attempt| attempt.endpoint);
        Ok(attempts)
    }

    /// Messages that were for an endpoint and that `keep` wants, with how their deliveries stand,
    /// where `keep_state` wants that; with their payloads or without.
    pub fn messages_of_endpoint(
        &self,
        endpoint: &Arc<Endpoint>,
        window: &Window<MessageId>,
        payloads: bool,
        keep: &mut dyn FnMut(&Message) -> bool,
        keep_state: &mut dyn FnMut(MessageId, &DeliveryState) -> bool,
    ) -> Result<Stretch<(Arc<Message>, DeliveryState), MessageId>> {
        let application = endpoint.application;
        let prefix = layout::messages_prefix(application);
        let within = Walk::of_messages(window);
        let endpoints = std::slice::from_ref(endpoint);
        within.run(&self.inner, &prefix, None, |slice, key, found, cost| {
            let id = MessageId(layout::last_id(key));
            let seen = self.inner.see(slice, application, key, found)?;
            let mut is_wanted =
                |message: &Message| window.includes(message.accepted_at) && keep(message);
            let Some(seen) = seen.filter(|seen| is_wanted(&seen.message)) else {
                return Ok((id, None));
            };
            let looked_at = &mut cost.looked_at;
            let states = self.inner.deliveries(&seen.message, endpoints, looked_at)?;
            let state = states.into_iter().next().flatten();
            let wanted = state.filter(|state| keep_state(id, state));
            let Some(state) = wanted else {
                return Ok((id, None));
            };
            let message = self.inner.show(slice, key, found, seen, payloads)?;
            let Some(message) = message else {
                return Ok((id, None));
            };
            cost.bytes += message.payload.len() + state.last.as_ref().map_or(0, Attempt::bytes);
            Ok((id, Some((message, state))))
        })
    }
}

impl Inner {
    /// `looked_at` counts the places that were read.
    fn deliveries(
        &self,
        message: &Message,
        endpoints: &[Arc<Endpoint>],
        looked_at: &mut usize,
    ) -> Result<Vec<Option<DeliveryState>>> {
        let lanes: Vec<u64> = endpoints.iter().map(|endpoint| endpoint.number).collect();
        let mut last = self.last_attempts(message, &lanes, looked_at)?;
        let mut waits = HashMap::new();
        for _ in 0..READ_AGAIN_MAX {
            waits.clear();
            for lane in &lanes {
                *looked_at += 1;
                let dues = dues(message, last.get(lane));
                if let Some(key) = self.where_it_waits(message.id, *lane, dues)? {
                    waits.insert(*lane, key.due);
                }
            }
            if lanes.iter().all(|lane| waits.contains_key(lane)) {
                break;
            }
            // A delivery leaves the queue with the commit that logs its attempt.
            let again = self.last_attempts(message, &lanes, looked_at)?;
            let id = |attempt: &Attempt| attempt.id;
            let unchanged = lanes.iter().all(|lane| {
                waits.contains_key(lane) || again.get(lane).map(id) == last.get(lane).map(id)
            });
            if unchanged {
                break;
            }
            last = again;
        }
        let state = |endpoint: &Arc<Endpoint>| {
            let lane = endpoint.number;
            let due = waits.get(&lane).copied();
            let last = last.remove(&lane);
            let status = match (due, &last) {
                (Some(_), _) if endpoint.is_held() => DeliveryStatus::Held,
                (Some(_), _) => DeliveryStatus::Pending,
                (None, Some(last)) if last.verdict == Verdict::Delivered => {
                    DeliveryStatus::Delivered
                }
                (None, Some(_)) => DeliveryStatus::Failed,
                (None, None) => return None,
            };
            Some(DeliveryState {
                status,
                next_due: due,
                last,
            })
        };
        Ok(endpoints.iter().map(state).collect())
    }

    /// Where a delivery of this message stands in the lane's queue, if it waits.
    fn where_it_waits(
        &self,
        message: MessageId,
        lane: u64,
        dues: Dues,
    ) -> Result<Option<DeliveryKey>, RecordError> {
        let noted = self.noted_due(message, lane)?;
        for due in [noted].into_iter().chain(dues).flatten() {
            let key = DeliveryKey { lane, due, message };
            if self.live.contains(&layout::waiting_key(&key))? {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    /// When a delivery is due of which a note beside the queue says it; it may wait no more.
    fn noted_due(&self, message: MessageId, lane: u64) -> Result<Option<Timestamp>, RecordError> {
        let note = layout::resent_key(message, lane);
        let note = layout::get::<layout::Resent>(&self.live, &note)?;
        Ok(note.map(|record| record.meta.due))
    }

    /// Whether a delivery waits that is due before its message's id was made, since the clock was set
    /// back.
    pub(super) fn waits_before_its_time(&self, message: MessageId, lane: u64) -> Result<bool> {
        match self.noted_due(message, lane)? {
            Some(due) if due < message.time() => {
                let key = DeliveryKey { lane, due, message };
                Ok(self.live.contains(&layout::waiting_key(&key))?)
            }
            _ => Ok(false),
        }
    }

    /// How far the log of this message goes now.
    pub(super) fn log_end(&self, message: MessageId) -> Result<LogEnd> {
        let number = self.slices.newest().map_or(0, |(number, _)| number);
        let mut newest = None;
        if let Some(slice) = self.slice(number)? {
            let mut attempts = slice.attempts_of_message(message, None);
            let last = attempts.next_back().transpose()?;
            newest = last.map(|found| found.id);
        }
        Ok(LogEnd {
            slice: number,
            newest,
            of_message: self.slices.at(message.time()),
        })
    }

    /// Where the delivery waits now, if it does; `newest` is the newest slice with its number. `Moved`
    /// where a new one was begun since it was looked for, and so the last attempt may be in another. An
    /// attempt that was made since is followed to where it put the delivery, or is `Moved`, too.
    pub(super) fn where_now(
        &self,
        (number, newest): (u32, &Slice),
        sought: &SendAgain,
        lane: u64,
        is_followed: bool,
    ) -> Result<Now, RecordError> {
        if number != sought.log_end.slice {
            return Ok(Now::Moved);
        }
        let mut since = newest.attempts_of_message(sought.message, sought.log_end.newest);
        let last = loop {
            match since.next_back().transpose()? {
                Some(found) if found.lane != lane => {}
                found => break found,
            }
        };
        let mut dues = sought.dues;
        if let Some(last) = last {
            if !is_followed {
                return Ok(Now::Moved);
            }
            let last = newest.attempt_without_content(&last)?;
            dues[0] = last.as_ref().and_then(due_after);
        }
        let waits = self.where_it_waits(sought.message, lane, dues)?;
        Ok(waits.map_or(Now::Ended, Now::Waits))
    }

    /// Looks for where the delivery of this message at this lane stands, to send it again.
    pub(super) fn look_for(&self, message: &Message, lane: u64) -> Result<SendAgain> {
        let log_end = self.log_end(message.id)?;
        // It may have gone with its slice since it was read.
        let key = layout::message_key(message.application, message.id);
        let slice = self.slice_at(message.id.time())?;
        if !slice.is_some_and(|slice| slice.contains(&key).unwrap_or(true)) {
            return Err(Error::not_found("message"));
        }
        let last = self.last_attempt(message, lane)?;
        Ok(SendAgain::new(message, log_end, last.as_ref()))
    }

    /// The newest attempt for this message at this lane.
    fn last_attempt(&self, message: &Message, lane: u64) -> Result<Option<Attempt>> {
        let mut last = self.last_attempts(message, &[lane], &mut 0)?;
        Ok(last.remove(&lane))
    }

    /// The newest attempt for this message at each of these lanes that has one.
    fn last_attempts(
        &self,
        message: &Message,
        lanes: &[u64],
        looked_at: &mut usize,
    ) -> Result<HashMap<u64, Attempt>> {
        let is_wanted = |lane: u64| lanes.contains(&lane);
        self.last_attempts_at(message, is_wanted, lanes.len(), looked_at)
    }

    /// The newest attempt for this message at each lane that is wanted, of `max` lanes at most.
    fn last_attempts_at(
        &self,
        message: &Message,
        is_wanted: impl Fn(u64) -> bool,
        max: usize,
        looked_at: &mut usize,
    ) -> Result<HashMap<u64, Attempt>> {
        let mut found: HashMap<u64, Attempt> = HashMap::new();
        for slice in self.slices_with_attempts_of(message.id).rev() {
            *looked_at += 1;
            let slice = slice?;
            let mut attempts = slice.attempts_of_message(message.id, None);
            while let Some(next) = attempts.next_back() {
                *looked_at += 1;
                let next = next?;
                if found.contains_key(&next.lane) || !is_wanted(next.lane) {
                    continue;
                }
                if let Some(attempt) = slice.attempt_of_message(&next)? {
                    found.insert(next.lane, attempt);
                }
                if found.len() >= max {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }
}
