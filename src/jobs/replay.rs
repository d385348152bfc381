//! Sending messages again: which, and a few at a time.

use std::sync::Arc;

use super::{Runner, Turn};
use crate::clock::Timestamp;
use crate::domain::attempt::Attempt;
use crate::domain::endpoint::Endpoint;
use crate::domain::job::{Job, Matching, Replay, Which};
use crate::domain::message::{DeliveryStatus, Message};
use crate::domain::wildcard::{self, MessageType};
use crate::error::{Error, Result};
use crate::store::{DeliveryState, ReplaySend, ReplayStep, SendAgain, Span};

pub const APPLICATION_DELETED: &str = "the application was deleted";
pub const ENDPOINT_DELETED: &str = "the endpoint was deleted";

impl Runner {
    pub(super) async fn replay(&self, job: &Job, replay: &Replay) -> Result<Turn> {
        let endpoint = {
            let catalog = self.store.catalog();
            match catalog.application_by_id(replay.application) {
                None => Err(APPLICATION_DELETED),
                Some(entry) => entry
                    .endpoint_by_id(replay.endpoint)
                    .cloned()
                    .ok_or(ENDPOINT_DELETED),
            }
        };
        let endpoint = match endpoint {
            Ok(endpoint) => endpoint,
            Err(reason) => return self.fail(job, reason).await,
        };
        let has_room = || self.store.has_room(&endpoint, self.due_max as u64).is_ok();
        if endpoint.is_held() || !has_room() {
            return Ok(Turn::Waits);
        }
        let due = self.store.due(endpoint.number, self.due_max)?;
        // Half a window at a time: a commit for each message would cost more than it brings.
        if 2 * due > self.due_max {
            return Ok(Turn::Waits);
        }
        let step = self.step(job, replay, &endpoint, self.due_max - due)?;
        match self.store.replay(step).await {
            // Too much waits for the disk.
            Err(Error::Unavailable { .. }) => Ok(Turn::Waits),
            done => done.map(|()| Turn::Went),
        }
    }

    /// The next `room` messages to send, or as many as are found among some hundreds.
    fn step(
        &self,
        job: &Job,
        replay: &Replay,
        endpoint: &Arc<Endpoint>,
        room: usize,
    ) -> Result<ReplayStep> {
        let now = self.store.clock().now();
        let span = Span {
            application: replay.application,
            since: replay.since,
            until: replay.until,
            behind: job.behind,
        };
        let mut sends = Vec::with_capacity(room);
        let mut looked_at = 0;
        let visited = self.store.visit_messages(&span, room, &mut |message| {
            looked_at += 1;
            let name = &message.event_type;
            let is_flagged = || {
                self.store
                    .catalog()
                    .message_type(job.organisation, name)
                    .is_flagged
            };
            if !may_be_wanted(&replay.which, message, endpoint, is_flagged, now) {
                return Ok(false);
            }
            let log_end = self.store.log_end(message.id)?;
            let delivery = self.store.delivery(message, endpoint)?;
            let wanted = is_wanted(&replay.which, delivery.as_ref(), now);
            if wanted {
                let last = delivery
                    .as_ref()
                    .and_then(|delivery| delivery.last.as_ref());
                sends.push(ReplaySend {
                    send: SendAgain::new(message, log_end, last),
                    looked_at,
                });
            }
            Ok(wanted)
        })?;
        Ok(ReplayStep {
            organisation: job.organisation,
            job: job.id,
            lane: endpoint.number,
            sends,
            behind: visited.behind,
            looked_at,
            over: visited.over,
        })
    }
}

/// What the message itself says; its delivery is then asked for.
fn may_be_wanted(
    which: &Which,
    message: &Message,
    endpoint: &Endpoint,
    is_flagged: impl FnOnce() -> bool,
    now: Timestamp,
) -> bool {
    if message.expunged || message.is_expired(now) {
        return false;
    }
    match which {
        Which::Failed => true,
        Which::Missing => {
            let event_type = MessageType {
                name: &message.event_type,
                is_flagged: is_flagged(),
            };
            let is_for_it = endpoint.matches(event_type, &message.channels);
            is_for_it && !message.origin.is_test() && endpoint.filter_takes(message)
        }
        Which::Matching(matching) => matching.wants(message),
    }
}

/// What its delivery says.
fn is_wanted(which: &Which, delivery: Option<&DeliveryState>, now: Timestamp) -> bool {
    match (which, delivery) {
        (Which::Missing, delivery) => delivery.is_none(),
        (Which::Failed | Which::Matching(_), None) => false,
        (Which::Failed, Some(delivery)) => {
            delivery.status == DeliveryStatus::Failed || waits_for_a_retry(delivery, now)
        }
        (Which::Matching(matching), Some(delivery)) => matching.wants_delivery(delivery),
    }
}

/// A delivery that is due already needs nobody to make it due.
fn waits_for_a_retry(delivery: &DeliveryState, now: Timestamp) -> bool {
    delivery.status == DeliveryStatus::Pending
        && delivery.last.is_some()
        && delivery.next_due.is_some_and(|due| due > now)
}

impl Matching {
    fn wants(&self, message: &Message) -> bool {
        fn has(wanted: Option<&String>, given: &[String]) -> bool {
            wanted.is_none_or(|wanted| given.contains(wanted))
        }
        let event_types = self.event_types.as_ref();
        let takes = |wanted: &String| wildcard::takes(wanted, &message.event_type);
        event_types.is_none_or(|wanted| wanted.iter().any(takes))
            && has(self.channel.as_ref(), &message.channels)
            && has(self.tag.as_ref(), &message.tags)
    }

    fn wants_delivery(&self, delivery: &DeliveryState) -> bool {
        // To a caller, what is held is pending.
        let shown = |status| match status {
            DeliveryStatus::Held => DeliveryStatus::Pending,
            other => other,
        };
        let class = |attempt: &Attempt| {
            let answer = attempt.answer.as_ref();
            answer.map_or(0, |answer| answer.status / 100)
        };
        let last = delivery.last.as_ref();
        self.status
            .is_none_or(|wanted| shown(wanted) == shown(delivery.status))
            && self
                .status_class
                .is_none_or(|wanted| last.map(class) == Some(wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{ApplicationId, MessageId};
    use crate::domain::message::Origin;
    use std::collections::BTreeMap;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn message() -> Message {
        Message {
            id: MessageId::at(NOW),
            application: ApplicationId::at(NOW),
            event_type: "invoice.paid".to_owned(),
            event_id: None,
            channels: vec!["red".to_owned()],
            payload: Default::default(),
            is_raw: false,
            content_type: None,
            accepted_at: NOW,
            origin: Origin::Published,
            tags: vec!["vip".to_owned()],
            deliver_at: None,
            expires_at: None,
            expunged: false,
            endpoints_matched: None,
            metadata: BTreeMap::new(),
            headers: BTreeMap::new(),
        }
    }

    #[test]
    fn a_message_is_wanted_by_all_that_is_asked_for() {
        let some = |text: &str| Some(text.to_owned());
        let all = Matching::default;
        for (matching, expected) in [
            (all(), true),
            (
                Matching {
                    event_types: Some(vec!["other".to_owned(), "invoice.paid".to_owned()].into()),
                    channel: some("red"),
                    tag: some("vip"),
                    ..all()
                },
                true,
            ),
            (
                Matching {
                    event_types: Some(vec!["other".to_owned()].into()),
                    ..all()
                },
                false,
            ),
            (
                Matching {
                    channel: some("blue"),
                    ..all()
                },
                false,
            ),
            (
                Matching {
                    tag: some("red"),
                    ..all()
                },
                false,
            ),
        ] {
            assert_eq!(matching.wants(&message()), expected, "{matching:?}");
        }
    }

    #[test]
    fn a_delivery_is_wanted_by_its_status() {
        let delivery = |status| DeliveryState {
            status,
            next_due: None,
            last: None,
        };
        let by_status = |status| {
            Which::Matching(Matching {
                status: Some(status),
                ..Matching::default()
            })
        };
        use DeliveryStatus::{Delivered, Failed, Held, Pending};
        let any = Which::Matching(Matching::default());
        let unanswered = Which::Matching(Matching {
            status_class: Some(0),
            ..Matching::default()
        });
        // Without a delivery, and with one of each status.
        for (which, expected) in [
            (Which::Failed, [false, false, false, false, true]),
            (Which::Missing, [true, false, false, false, false]),
            (any, [false, true, true, true, true]),
            (by_status(Delivered), [false, true, false, false, false]),
            (by_status(Pending), [false, false, true, true, false]),
            (by_status(Failed), [false, false, false, false, true]),
            // What was never attempted had no answer, and no attempt without one either.
            (unanswered, [false; 5]),
        ] {
            let statuses = [Delivered, Pending, Held, Failed];
            let deliveries = statuses.map(|status| Some(delivery(status)));
            let found = [None].into_iter().chain(deliveries);
            let found = found.map(|delivery| is_wanted(&which, delivery.as_ref(), NOW));
            assert_eq!(Vec::from_iter(found), expected, "{which:?}");
        }
    }
}
