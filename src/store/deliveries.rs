//! How the delivery of a message to an endpoint stands.
//!
//! No record says it, so that accepting and delivering write no more than they must: it follows
//! from the queue and the log. A delivery that waits stands under its due time, and that is known:
//! first the message's, after an attempt the one that its verdict names, and after a resend by
//! hand the one in a note beside the queue. Everything here blocks on the disk.

use super::layout::{self, AttemptPlace};
use super::{Inner, Store};
use crate::clock::Timestamp;
use crate::domain::attempt::{Attempt, Verdict};
use crate::domain::endpoint::Endpoint;
use crate::domain::id::AttemptId;
use crate::domain::message::{DeliveryKey, DeliveryStatus, Message};
use crate::error::Result;

/// A delivery that was made, is being made, or waits.
#[derive(Clone, Debug)]
pub struct DeliveryState {
    pub status: DeliveryStatus,
    /// When the next attempt is due; also where it is overdue, being made, or held.
    pub next_due: Option<Timestamp>,
    pub last: Option<Attempt>,
}

/// How often the log is read again because the queue changed meanwhile.
const READ_AGAIN_MAX: usize = 10;

impl Store {
    /// Nothing where the message was never for this endpoint, or what it had was forgotten.
    pub fn delivery(
        &self,
        message: &Message,
        endpoint: &Endpoint,
    ) -> Result<Option<DeliveryState>> {
        self.inner.delivery(message, endpoint)
    }
}

impl Inner {
    fn delivery(&self, message: &Message, endpoint: &Endpoint) -> Result<Option<DeliveryState>> {
        let lane = endpoint.number;
        let mut last = self.last_attempt(message, lane)?;
        for _ in 0..READ_AGAIN_MAX {
            let waits = self.where_it_waits(message, lane, last.as_ref())?;
            if let Some(key) = waits {
                let status = match endpoint.disabled {
                    true => DeliveryStatus::Held,
                    false => DeliveryStatus::Pending,
                };
                return Ok(Some(DeliveryState {
                    status,
                    next_due: Some(key.due),
                    last,
                }));
            }
            // A delivery leaves the queue with the commit that logs its attempt.
            let again = self.last_attempt(message, lane)?;
            let unchanged = again.as_ref().map(|one| one.id) == last.as_ref().map(|one| one.id);
            last = again;
            if unchanged {
                break;
            }
        }
        Ok(last.map(|last| DeliveryState {
            status: match last.verdict {
                Verdict::Delivered => DeliveryStatus::Delivered,
                Verdict::GiveUp | Verdict::RetryAt(_) | Verdict::DisableEndpoint => {
                    DeliveryStatus::Failed
                }
            },
            next_due: None,
            last: Some(last),
        }))
    }

    /// Where a delivery of this message stands in the lane's queue, if it waits; `last` is its
    /// last attempt.
    pub(super) fn where_it_waits(
        &self,
        message: &Message,
        lane: u64,
        last: Option<&Attempt>,
    ) -> Result<Option<DeliveryKey>> {
        let by_hand = layout::resent_key(message.id, lane);
        let by_hand = layout::get::<layout::Resent>(&self.live, &by_hand)?;
        let after_last = last.and_then(|last| match last.verdict {
            Verdict::RetryAt(due) => Some(due),
            Verdict::DisableEndpoint => Some(last.started_at),
            Verdict::Delivered | Verdict::GiveUp => None,
        });
        let candidates = [
            by_hand.map(|record| record.meta.due),
            after_last,
            Some(message.first_due()),
        ];
        for due in candidates.into_iter().flatten() {
            let key = DeliveryKey {
                lane,
                due,
                message: message.id,
            };
            if self.live.contains(&layout::waiting_key(&key))? {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    /// The newest attempt for this message at this lane.
    pub(super) fn last_attempt(&self, message: &Message, lane: u64) -> Result<Option<Attempt>> {
        let prefix = layout::attempts_of_message_prefix(message.id);
        let oldest = self.slices.at(message.id.time()).unwrap_or_default();
        let slices = self.slices.list().into_iter().map(|(number, _)| number);
        for number in slices.rev().take_while(|number| *number >= oldest) {
            let Some(engine) = self.slice(number)? else {
                continue;
            };
            let mut places = engine.prefix(&prefix);
            while let Some(item) = places.next_back() {
                let (key, value) = item?;
                let (place, _) = layout::decode::<AttemptPlace>(&key, &value)?;
                if place.lane != lane {
                    continue;
                }
                let key = layout::attempt_key(lane, AttemptId(layout::last_id(&key)));
                // One of a commit that never happened has a place and may have no attempt.
                if let Some(record) = layout::get::<Attempt>(&engine, &key)? {
                    return Ok(Some(record.meta));
                }
            }
        }
        Ok(None)
    }
}
