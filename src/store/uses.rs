//! When tokens were last used, and from where.
//!
//! Noted in memory with each request, to the minute, and written down by the keeper: a request waits
//! for nothing, and a crash costs what was noted last. The address is that of the first request of the
//! minute, so that the others need not look for theirs.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::Duration;

use super::{Inner, Store};
use crate::catalog::Catalog;
use crate::clock::Timestamp;
use crate::domain::id::TokenId;
use crate::domain::token::Token;
use crate::error::Result;
use crate::lock::locked;
use crate::rules::upkeep::{BATCH, KeepUses, TokenUse};

const STEP: Duration = Duration::from_secs(60);

#[derive(Default)]
pub struct Uses {
    /// Tokens that are gone are forgotten when the others are written down.
    last: RwLock<HashMap<TokenId, Noted>>,
}

struct Noted {
    /// Milliseconds.
    at: AtomicU64,
    /// Taken once a minute, and for moments.
    from: Mutex<IpAddr>,
}

/// When a token was last used, to the minute, and the address that was noted then.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LastUse {
    pub at: Option<Timestamp>,
    pub from: Option<IpAddr>,
}

impl LastUse {
    fn written(token: &Token) -> LastUse {
        LastUse {
            at: token.last_used_at,
            from: token.last_used_from,
        }
    }
}

impl Uses {
    fn note(&self, token: TokenId, now: Timestamp, from: impl FnOnce() -> IpAddr) {
        let step = STEP.as_millis() as u64;
        let now = now.as_millis() / step * step;
        let last = locked(self.last.read());
        match last.get(&token) {
            Some(noted) if noted.at.load(Ordering::Relaxed) >= now => {}
            Some(noted) => {
                *locked(noted.from.lock()) = from();
                noted.at.store(now, Ordering::Relaxed);
            }
            None => {
                drop(last);
                let noted = Noted {
                    at: now.into(),
                    from: from().into(),
                };
                let mut last = locked(self.last.write());
                last.insert(token, noted);
            }
        }
    }

    /// The last use that is known: noted, or written down before that.
    fn last_of(&self, token: &Token) -> LastUse {
        let last = locked(self.last.read());
        let noted = last.get(&token.id).map(|noted| {
            let (at, from) = noted.read();
            LastUse {
                at: Some(at),
                from: Some(from),
            }
        });
        let written = LastUse::written(token);
        noted
            .filter(|noted| noted.at >= written.at)
            .unwrap_or(written)
    }

    /// Uses that are later than what is written, as many as fit into a commit.
    fn unwritten(&self, catalog: &Catalog) -> Vec<TokenUse> {
        let last = locked(self.last.read());
        let later = last.iter().filter_map(|(id, noted)| {
            let token = catalog.token(*id)?;
            let (at, from) = noted.read();
            let noted = TokenUse {
                token: *id,
                at,
                from,
            };
            (Some(at) > token.last_used_at).then_some(noted)
        });
        later.take(BATCH).collect()
    }

    fn forget_gone(&self, catalog: &Catalog) {
        let mut last = locked(self.last.write());
        last.retain(|id, _| catalog.token(*id).is_some());
    }
}

impl Noted {
    fn read(&self) -> (Timestamp, IpAddr) {
        let at = Timestamp(self.at.load(Ordering::Relaxed));
        (at, *locked(self.from.lock()))
    }
}

impl Store {
    /// Notes that a token was used now; `from` is asked for once a minute.
    pub fn token_used(&self, token: TokenId, from: impl FnOnce() -> IpAddr) {
        self.inner.uses.note(token, self.inner.clock.now(), from);
    }

    /// The last use of a token; never from before it was made.
    pub fn last_use(&self, token: &Token) -> LastUse {
        let LastUse { at, from } = self.inner.uses.last_of(token);
        LastUse {
            at: at.map(|at| at.max(token.created_at)),
            from,
        }
    }

    /// Writes down when tokens and visits were used last, before a stop. Blocks on the disk.
    pub fn keep_last_seen(&self) -> Result<()> {
        self.inner.keep_uses()?;
        self.inner.keep_visits(Duration::from_millis(1))
    }

    /// Writes down when tokens were used; the keeper does this every minute. Blocks on the disk.
    pub fn keep_uses(&self) -> Result<()> {
        self.inner.keep_uses()
    }
}

impl Inner {
    pub(super) fn keep_uses(&self) -> Result<()> {
        self.uses.forget_gone(&self.catalog());
        self.change_while(|catalog| {
            let uses = self.uses.unwritten(catalog);
            (!uses.is_empty()).then_some(KeepUses { uses })
        })
    }
}
