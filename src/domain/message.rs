//! A message: one occurrence, accepted for an application. And a delivery: the message on its way
//! to one endpoint.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::attempt::Trigger;
use super::id::{ApplicationId, MessageId};
use super::payload::{self, PayloadBytes};
use crate::clock::Timestamp;

/// A message as it was accepted. Cheap to clone: the payload is shared.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub id: MessageId,
    pub application: ApplicationId,
    pub event_type: String,
    /// The publisher's own id; verified to be unique in the organisation for a day.
    pub event_id: Option<String>,
    pub channels: Vec<String>,
    /// The published bytes, which are signed and sent: a JSON object, or any text where `is_raw`.
    pub payload: PayloadBytes,
    /// The payload was published as text to send as it is, and may not be JSON.
    pub is_raw: bool,
    /// The `content-type` of its requests, where the publisher said it.
    pub content_type: Option<String>,
    pub accepted_at: Timestamp,
    pub origin: Origin,
    /// Words by which the publisher finds the message again.
    pub tags: Vec<String>,
    /// The publisher's own facts about it, which filters may ask for.
    pub metadata: BTreeMap<String, String>,
    /// Headers of its requests, names as given.
    pub headers: BTreeMap<String, String>,
    /// When its first attempts are due, where that is not at once.
    pub deliver_at: Option<Timestamp>,
    /// From this instant on the message is not sent any more.
    pub expires_at: Option<Timestamp>,
    /// A caller had the payload deleted; `{}` stands in its place.
    pub expunged: bool,
    /// How many endpoints it was for when it was accepted, held deliveries included. Unknown of
    /// messages that an earlier version accepted.
    pub endpoints_matched: Option<u32>,
}

impl Message {
    /// The same message without its payload, for a list that does not show payloads.
    pub fn without_payload(self: Arc<Message>) -> Arc<Message> {
        let mut message = Arc::unwrap_or_clone(self);
        message.payload = PayloadBytes::default();
        Arc::new(message)
    }

    /// When the first attempts of its deliveries are due.
    pub fn first_due(&self) -> Timestamp {
        self.deliver_at
            .map_or(self.accepted_at, |at| at.max(self.accepted_at))
    }

    /// The payload as JSON text; none where a raw one is not JSON.
    pub fn json(&self) -> Option<&[u8]> {
        match self.is_raw {
            true => payload::json(&self.payload).map(str::as_bytes),
            false => Some(&self.payload),
        }
    }

    /// Whether the message has expired.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

/// The origin of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// A publisher.
    #[default]
    Published,
    /// Somebody who tries an endpoint out; delivered like any other.
    Test,
    /// The same, attempted only once.
    TestOnce,
}

impl Origin {
    pub fn is_test(self) -> bool {
        self != Origin::Published
    }
}

/// The state of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DeliveryStatus {
    Delivered,
    /// It waits for its next attempt.
    Pending,
    /// It waits, and the endpoint is disabled, not verified, or held by the operator.
    Held,
    /// The last attempt failed, and no other will be made.
    Failed,
}

/// A delivery that waits: one message on its way to one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub key: DeliveryKey,
    /// Attempts made so far in the current schedule.
    pub attempts: u32,
    /// Why the next attempt will be made.
    pub trigger: Trigger,
}

/// The place of a waiting delivery in the queue: its lane (the endpoint's number), its due time,
/// and its message. Places sort by lane, then by due time: a lane's queue is a range of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryKey {
    pub lane: u64,
    pub due: Timestamp,
    pub message: MessageId,
}
