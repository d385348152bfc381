//! One occurrence, accepted for an application, and its way to each endpoint.

use serde::{Deserialize, Serialize};

use super::attempt::Trigger;
use super::id::{ApplicationId, MessageId};
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
    /// The published bytes, a JSON object: what is signed and what is sent.
    pub payload: actix_web::web::Bytes,
    pub accepted_at: Timestamp,
    pub origin: Origin,
}

/// Where a message comes from. New ones are appended: the store knows them by their place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// A delivery that waits: one message on its way to one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub key: DeliveryKey,
    /// Attempts made so far in the current schedule.
    pub attempts: u32,
    /// Why the next attempt will be made.
    pub trigger: Trigger,
}

/// Where a waiting delivery stands: its lane (the endpoint's number), when it is due, and which
/// message it is. Sorted by lane, then by due time: a lane's queue is a range of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeliveryKey {
    pub lane: u64,
    pub due: Timestamp,
    pub message: MessageId,
}
