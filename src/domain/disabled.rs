//! A disabled endpoint: since when, and who or what disabled it.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// Since when an endpoint is disabled, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disabled {
    pub at: Timestamp,
    pub reason: DisabledReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DisabledReason {
    /// A version disabled it that did not keep the reason and the time.
    Unknown,
    /// By a call of the API, or in the console or the portal.
    ByHand,
    /// Its receiver answered 410 Gone.
    Gone,
    /// Its receiver asked for it with the header `webhook-delivery: disable`.
    Requested,
    /// Nothing but failures for `disable_after_hours`.
    Failing,
}

impl Disabled {
    pub fn by_hand(at: Timestamp) -> Disabled {
        let reason = DisabledReason::ByHand;
        Disabled { at, reason }
    }

    /// Its attempts disabled it, and nobody's hand: a change of the endpoint that does not speak of it leaves it
    /// disabled.
    pub fn is_automatic(self) -> bool {
        DisabledReason::AUTOMATIC.contains(&self.reason)
    }
}

impl DisabledReason {
    /// Those for which attempts disable an endpoint.
    pub const AUTOMATIC: [DisabledReason; 3] = [
        DisabledReason::Gone,
        DisabledReason::Requested,
        DisabledReason::Failing,
    ];

    /// The name by which the API shows it, where it is known.
    pub fn name(self) -> Option<&'static str> {
        match self {
            DisabledReason::Unknown => None,
            DisabledReason::ByHand => Some("by-hand"),
            DisabledReason::Gone => Some("gone"),
            DisabledReason::Requested => Some("requested"),
            DisabledReason::Failing => Some("failing"),
        }
    }
}
