//! When tokens were last used.
//!
//! Noted in memory with each request, to the minute, and written down by the keeper: a request waits
//! for nothing, and a crash costs what was noted last.

use std::collections::HashMap;
use std::sync::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;

use super::catalog::{Catalog, Change};
use super::queue::{Command, Notify};
use super::{Inner, Store};
use crate::clock::Timestamp;
use crate::domain::id::TokenId;
use crate::domain::token::Token;
use crate::error::Result;

const STEP: Duration = Duration::from_secs(60);

/// Tokens whose use is written down in one commit.
const WRITE_BATCH: usize = 500;

#[derive(Default)]
pub struct Uses {
    /// Milliseconds. Tokens that are gone are forgotten when the others are written down.
    last: RwLock<HashMap<TokenId, AtomicU64>>,
}

impl Uses {
    fn note(&self, token: TokenId, now: Timestamp) {
        let step = STEP.as_millis() as u64;
        let now = now.as_millis() / step * step;
        let last = self.last.read().expect("no panic while it is held");
        match last.get(&token) {
            Some(last) if last.load(Ordering::Relaxed) >= now => {}
            Some(last) => last.store(now, Ordering::Relaxed),
            None => {
                drop(last);
                let mut last = self.last.write().expect("no panic while it is held");
                last.insert(token, now.into());
            }
        }
    }

    fn last_of(&self, token: TokenId) -> Option<Timestamp> {
        let last = self.last.read().expect("no panic while it is held");
        last.get(&token)
            .map(|last| Timestamp(last.load(Ordering::Relaxed)))
    }

    /// What writes down uses that are later than what is written, as many as fit into a commit.
    fn changes(&self, catalog: &Catalog) -> Vec<Change> {
        let last = self.last.read().expect("no panic while it is held");
        last.iter()
            .filter_map(|(id, last)| {
                let token = catalog.token(*id)?;
                let used = Some(Timestamp(last.load(Ordering::Relaxed)));
                (used > token.last_used_at).then(|| {
                    Change::PutToken(Token {
                        last_used_at: used,
                        ..(**token).clone()
                    })
                })
            })
            .take(WRITE_BATCH)
            .collect()
    }

    fn forget_gone(&self, catalog: &Catalog) {
        let mut last = self.last.write().expect("no panic while it is held");
        last.retain(|id, _| catalog.token(*id).is_some());
    }
}

impl Store {
    /// Notes that a token was used now.
    pub fn token_used(&self, token: TokenId) {
        self.inner.uses.note(token, self.inner.clock.now());
    }

    /// When a token was last used, to the minute; not noted from before it was made.
    pub fn last_used(&self, token: &Token) -> Option<Timestamp> {
        let noted = self.inner.uses.last_of(token.id).max(token.last_used_at);
        noted.map(|noted| noted.max(token.created_at))
    }

    /// Writes down when tokens were used; the keeper does this every minute. Blocks on the disk.
    pub fn keep_uses(&self) -> Result<()> {
        self.inner.keep_uses()
    }
}

impl Inner {
    pub(super) fn keep_uses(self: &std::sync::Arc<Self>) -> Result<()> {
        self.uses.forget_gone(&self.catalog());
        while !self.uses.changes(&self.catalog()).is_empty() {
            let inner = self.clone();
            self.run(|answer: oneshot::Sender<Result<()>>| Command::Change {
                decide: Box::new(move |catalog| {
                    let changes = inner.uses.changes(catalog);
                    let notify: Notify = Box::new(move |result| drop(answer.send(result)));
                    Some((changes, notify))
                }),
            })?;
        }
        Ok(())
    }
}
