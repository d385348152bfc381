//! The values that go into the store and come out of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::unique::Once;
use crate::clock::Timestamp;
use crate::domain::attempt::{Outcome, Verdict};
use crate::domain::endpoint::Endpoint;
use crate::domain::health::HealthRules;
use crate::domain::id::{ApplicationId, MessageId, OrganisationId};
use crate::domain::message::{Delivery, DeliveryKey, Message, Origin};
use crate::domain::payload::PayloadBytes;

/// The space that the store takes on disk, and that is left there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Space {
    /// Queue and registrations.
    pub live_bytes: u64,
    /// History.
    pub slices_bytes: u64,
    pub slices: usize,
    /// Since when there is history.
    pub oldest_at: Option<Timestamp>,
    /// None where the system does not tell.
    pub free_bytes: Option<u64>,
    pub blob_files: usize,
}

/// The answer to a request; kept where the request came with an idempotency key.
#[derive(Clone, Debug)]
pub struct Answered {
    pub status: u16,
    pub body: Vec<u8>,
}

/// A message to accept.
pub struct NewMessage {
    pub organisation: OrganisationId,
    pub application: ApplicationId,
    pub event_type: String,
    pub event_id: Option<String>,
    pub channels: Vec<String>,
    pub payload: PayloadBytes,
    pub is_raw: bool,
    pub content_type: Option<String>,
    /// The numbers of the endpoints that it goes to.
    pub lanes: Vec<u64>,
    /// The number of the catalog in which the lanes were found by matching. Where they may be others by
    /// the time of the commit, they are found anew. None where the endpoints were named.
    pub matched_as_of: Option<u64>,
    pub once: Option<Once>,
    pub origin: Origin,
    pub tags: Vec<String>,
    pub metadata: BTreeMap<String, String>,
    /// Headers of its requests, names as given.
    pub headers: BTreeMap<String, String>,
    /// Its deliveries are due then, or at once if that is past.
    pub deliver_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
}

/// Which stretch of a list is wanted.
#[derive(Clone, Debug)]
pub struct Window<Id> {
    /// How many at most.
    pub limit: usize,
    /// How many bytes they have together at most, roughly; a single one may have more.
    pub bytes: usize,
    pub newest_first: bool,
    /// Start behind this one, in the direction of reading.
    pub behind: Option<Id>,
    /// Only what shows an earlier time than this.
    pub before: Option<Timestamp>,
    /// Only what shows this time or a later one.
    pub after: Option<Timestamp>,
}

impl<Id> Window<Id> {
    /// Whether what shows this time is within `before` and `after`: every instant has each item on
    /// one of its sides.
    pub fn includes(&self, shown: Timestamp) -> bool {
        self.before.is_none_or(|before| shown < before)
            && self.after.is_none_or(|after| shown >= after)
    }
}

/// A stretch of a list, in the direction of reading.
#[derive(Debug)]
pub struct Stretch<T, Id> {
    pub items: Vec<T>,
    /// Where to read on: the last item looked at. Absent when there is nothing behind it.
    pub next: Option<Id>,
}

/// The outcome of an attempt, for the log and the queue.
pub struct Finished {
    pub delivery: Delivery,
    pub endpoint: Arc<Endpoint>,
    pub number: u32,
    pub outcome: Outcome,
    pub verdict: Verdict,
    /// The message was a test.
    pub test: bool,
    /// The message's, where an operational event or the health of the endpoint may need them.
    pub event_id: Option<String>,
    pub event_type: Option<String>,
    pub signal: AttemptSignal,
}

/// What an attempt shows of its receiver.
#[derive(Debug)]
pub enum AttemptSignal {
    /// Nothing: no request was made, or it was a test that failed.
    Neither,
    Succeeded {
        /// The receiver asked for the endpoint to be disabled.
        disables: bool,
    },
    Failed(Box<FailureSignal>),
}

/// What a failed attempt has for the health of its endpoint.
#[derive(Debug)]
pub struct FailureSignal {
    pub rules: HealthRules,
    /// Until when the receiver asked to be left alone.
    pub rest_until: Option<Timestamp>,
}

/// News for the scheduler after a commit. It acts on what is stored; the message that travels
/// along only saves it a read.
pub enum Event {
    /// A delivery waits that did not before, or waits at another time.
    Waiting {
        delivery: Delivery,
        message: Option<Arc<Message>>,
    },
    /// A delivery that waited there does not any more, without an attempt.
    Gone(DeliveryKey),
    /// The outcome of an attempt is durable. Where the delivery is to be attempted again, this
    /// comes before the news that it waits.
    Recorded(DeliveryKey),
    /// The message's payload was deleted: a copy of it must not be sent.
    Expunged { lane: u64, message: MessageId },
    /// The endpoint's lane came to rest, or has another rest, or none any more.
    Health { lane: u64 },
    /// The endpoint was changed, enabled, disabled or deleted, or its application's rate was.
    Endpoint { lane: u64 },
}
