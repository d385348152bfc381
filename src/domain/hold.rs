//! A hold: the operator lets an endpoint's deliveries wait.
//!
//! A held endpoint is not disabled: its owner did nothing, and an SDK of the contract sees no difference.
//! Messages are accepted for it as usual, and no request is made until the operator releases it.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// Since when an endpoint is held by the operator, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub since: Timestamp,
    pub reason: HeldReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeldReason {
    /// By a call of the API, or in the console.
    ByHand,
    /// By `postrider restore --hold`: the store was made from a copy, and nobody has looked at it yet.
    Restored,
}

impl Held {
    pub fn by_hand(since: Timestamp) -> Held {
        let reason = HeldReason::ByHand;
        Held { since, reason }
    }

    pub fn restored(since: Timestamp) -> Held {
        let reason = HeldReason::Restored;
        Held { since, reason }
    }
}

impl HeldReason {
    /// The name by which the API shows it.
    pub fn name(self) -> &'static str {
        match self {
            HeldReason::ByHand => "by-hand",
            HeldReason::Restored => "restored",
        }
    }
}
