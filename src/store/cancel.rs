//! Letting go of deliveries that wait for an endpoint which gets nothing.
//!
//! `api` reads a part of them, and the committer takes that part out of the queue in one commit, so that others come
//! in between. A delivery that was let go of has failed: an entry in the log of attempts says so, of a request that
//! was never made, and a replay of what failed can send it.

use tokio::sync::oneshot;

use super::Store;
use super::queue::Command;
use crate::clock::Timestamp;
use crate::domain::endpoint::Endpoint;
use crate::domain::message::DeliveryKey;
use crate::error::Result;

/// Deliveries that one commit lets go of.
const AT_ONCE: usize = 500;

/// A delivery that is to be let go of.
#[derive(Clone, Copy, Debug)]
pub struct HeldDelivery {
    pub key: DeliveryKey,
    /// Its message was a test and was not published.
    pub is_test: bool,
}

/// Deliveries of one lane that are to be let go of in one commit.
#[derive(Debug)]
pub struct CancelHeld {
    pub lane: u64,
    pub deliveries: Vec<HeldDelivery>,
    /// The method that their requests would have had.
    pub method: &'static str,
}

/// A part of what waits for an endpoint.
#[derive(Debug)]
pub struct HeldPart {
    pub deliveries: Vec<HeldDelivery>,
    /// Where to read on; absent where this is the last part.
    pub next: Option<DeliveryKey>,
}

impl Store {
    /// Returns those of the next few deliveries for the endpoint whose messages were published before an instant.
    /// Blocks on the disk.
    pub fn held_part(
        &self,
        endpoint: &Endpoint,
        before: Timestamp,
        behind: Option<DeliveryKey>,
    ) -> Result<HeldPart> {
        let waiting = self.waiting(endpoint.number, behind, AT_ONCE)?;
        let last = waiting.last().map(|delivery| delivery.key);
        let keys = waiting.iter().map(|delivery| delivery.key);
        let older = keys.filter(|key| key.message.time() < before);
        Ok(HeldPart {
            next: last.filter(|_| waiting.len() == AT_ONCE),
            deliveries: older
                .map(|key| HeldDelivery {
                    key,
                    is_test: self.is_test(endpoint, key),
                })
                .collect(),
        })
    }

    /// One whose message cannot be read is let go of as well.
    fn is_test(&self, endpoint: &Endpoint, key: DeliveryKey) -> bool {
        let message = self.message_without_payload(endpoint.application, key.message);
        message.is_ok_and(|found| found.is_some_and(|message| message.origin.is_test()))
    }

    /// Lets go of these deliveries, as far as they still wait, and returns how many did. Conflict where the endpoint
    /// gets its deliveries by now.
    pub async fn cancel_held(&self, cancel: CancelHeld) -> Result<usize> {
        let (sender, answer) = oneshot::channel();
        self.offer(Command::CancelHeld {
            cancel,
            answer: sender,
        })?;
        self.answered(answer).await
    }
}
