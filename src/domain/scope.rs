//! Groups of operations that a token can be limited to, within its role.

use serde::{Deserialize, Serialize};

/// A group of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scope {
    Publish,
    Read,
    Endpoints,
    Secrets,
    Replays,
    Applications,
    EventTypes,
    Expunge,
    Tokens,
    Portal,
    Status,
    OperationalWebhooks,
}

impl Scope {
    pub const ALL: [Scope; 12] = [
        Scope::Publish,
        Scope::Read,
        Scope::Endpoints,
        Scope::Secrets,
        Scope::Replays,
        Scope::Applications,
        Scope::EventTypes,
        Scope::Expunge,
        Scope::Tokens,
        Scope::Portal,
        Scope::Status,
        Scope::OperationalWebhooks,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Scope::Publish => "publish",
            Scope::Read => "read",
            Scope::Endpoints => "endpoints",
            Scope::Secrets => "secrets",
            Scope::Replays => "replays",
            Scope::Applications => "applications",
            Scope::EventTypes => "event_types",
            Scope::Expunge => "expunge",
            Scope::Tokens => "tokens",
            Scope::Portal => "portal",
            Scope::Status => "status",
            Scope::OperationalWebhooks => "operational_webhooks",
        }
    }
}

impl std::str::FromStr for Scope {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Scope::ALL
            .into_iter()
            .find(|scope| scope.name() == text)
            .ok_or(())
    }
}
