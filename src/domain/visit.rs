//! Visits: who is signed in to the console or the portal in a browser.
//!
//! A visit stands for a credential, for a browser that holds a random cookie in its place. The record
//! holds neither of the two: the cookie's hash finds it, and the credential is proved anew at each
//! request, from the token that it names or from the claims that were believed once.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::id::{ApplicationId, OrganisationId, TokenId, VisitId};
use super::jwt::Claims;
use crate::clock::Timestamp;

/// Without a request for this long a visit is over.
pub const IDLE_MAX: Duration = Duration::from_secs(12 * 3600);

/// The longest text of a browser's name that is kept, in bytes.
pub const USER_AGENT_BYTES_MAX: usize = 256;

/// The pages that a visit is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Surface {
    Console,
    Portal,
}

impl Surface {
    pub const ALL: [Surface; 2] = [Surface::Console, Surface::Portal];

    pub fn name(self) -> &'static str {
        match self {
            Surface::Console => "console",
            Surface::Portal => "portal",
        }
    }
}

/// The credential that somebody signed in with, by reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum SignedInWith {
    /// A token of the store, portal links among them.
    Token(TokenId),
    /// A signed token (JWT), of which there is no record: what it says, and the credential's hash
    /// sealed with the secret that signed it. Another secret does not take the seal.
    Signed { claims: Claims, seal: [u8; 32] },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Visit {
    pub id: VisitId,
    /// SHA-256 of the cookie; the cookie itself is kept nowhere.
    pub key: [u8; 32],
    pub surface: Surface,
    pub organisation: OrganisationId,
    /// The application that the credential is limited to. A portal always has one.
    pub application: Option<ApplicationId>,
    /// SHA-256 of the credential's text.
    pub credential: [u8; 32],
    pub with: SignedInWith,
    pub begun_at: Timestamp,
    /// The time of the last request. It is written down only now and then, so it may be a little
    /// old.
    pub seen_at: Timestamp,
    /// Where the sign-in came from.
    pub address: IpAddr,
    /// The browser's header `User-Agent`, cut to [`USER_AGENT_BYTES_MAX`].
    pub user_agent: Option<String>,
}
