//! What one customer may take of what all share: turns to read history, and memory for answers that
//! are being sent.
//!
//! Reads of history block on the disk, so they run on threads of their own, a few at once. A
//! [`Payer`] has some of these at most and its further reads wait in a queue of its own, so that many
//! filtered lists of one customer leave processor and disk to others. An answer is in memory until
//! its reader has taken it, so a payer's answers, and all together, have a limit in bytes; a reader
//! that takes nothing is cut off by the system (see `server`).

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::id::{ApplicationId, OrganisationId, TokenId};
use crate::error::{Error, Result};

/// Reads at once of one payer.
const READS_OF_ONE: usize = 2;
/// Reads of one payer that wait for their turn; honest pages ask for a handful at once.
const WAITING_MAX: usize = 64;
/// A read that has waited for longer is refused.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// The part of the memory for answers that is one payer's.
const SHARE: usize = 8;
/// Payers are forgotten, where nothing of theirs is left, when there are this many.
const PAYERS_KEPT: usize = 1024;

/// Whose share a request uses up: the customer's, where the credential is bound to one, so that more
/// keys and links bring no more; else the credential's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Payer {
    Application(ApplicationId),
    Token(TokenId),
    /// Signed tokens of the organisation itself have no record.
    Organisation(OrganisationId),
}

pub struct Shares {
    reads: Arc<Semaphore>,
    payers: Mutex<HashMap<Payer, Arc<Account>>>,
    bytes_max: usize,
    bytes: Arc<AtomicUsize>,
}

/// What a payer uses just now.
struct Account {
    reads: Arc<Semaphore>,
    waiting: AtomicUsize,
    bytes: AtomicUsize,
}

/// A turn to read: until it is dropped, which is when the read is over.
pub struct Turn {
    // While it is held the payer is not forgotten, and with it how many reads it has under way.
    _account: Arc<Account>,
    _of_payer: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

/// The memory of an answer that is being sent; given back when it is dropped.
pub struct Held {
    account: Arc<Account>,
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.account.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A place in a payer's queue.
struct Waiting<'a>(&'a Account);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shares {
    /// `bytes_max` is for all answers that are being sent.
    pub fn new(bytes_max: usize) -> Shares {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Shares {
            reads: Arc::new(Semaphore::new((2 * cores).max(2 * READS_OF_ONE))),
            payers: Mutex::default(),
            bytes_max,
            bytes: Arc::default(),
        }
    }

    /// Waits for a turn to read.
    pub async fn turn(&self, payer: Payer) -> Result<Turn> {
        let account = self.account(payer);
        if let Some(refusal) = self.refusal(&account, 1) {
            return Err(refusal);
        }
        let before = account.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&account);
        if before >= WAITING_MAX {
            return Err(Error::TooMany(format!(
                "{WAITING_MAX} reads of this customer or credential wait for their turn already; \
                 send fewer at once"
            )));
        }
        let turn = async {
            // Its own turn first: so each payer has at most some in the queue of all.
            let of_payer = account.reads.clone().acquire_owned().await;
            let of_all = self.reads.clone().acquire_owned().await;
            Turn {
                _account: account.clone(),
                _of_payer: of_payer.expect("it is never closed"),
                _of_all: of_all.expect("it is never closed"),
            }
        };
        tokio::time::timeout(WAIT_MAX, turn).await.map_err(|_| {
            let seconds = WAIT_MAX.as_secs();
            busy(format!(
                "the read had no turn within {seconds} seconds: too many others read"
            ))
        })
    }

    /// Takes memory for an answer that nobody has begun to send; why not, where there is none left.
    /// One answer of a payer always has room.
    pub fn hold(&self, payer: Payer, bytes: usize) -> Result<Held> {
        let account = self.account(payer);
        match self.refusal(&account, bytes) {
            Some(refusal) => Err(refusal),
            None => Ok(self.take(account, bytes)),
        }
    }

    /// The same for what must be answered, since it has happened.
    pub fn hold_anyway(&self, payer: Payer, bytes: usize) -> Held {
        self.take(self.account(payer), bytes)
    }

    fn take(&self, account: Arc<Account>, bytes: usize) -> Held {
        account.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Held {
            account,
            all: self.bytes.clone(),
            bytes,
        }
    }

    fn refusal(&self, account: &Account, more: usize) -> Option<Error> {
        let own = account.bytes.load(Ordering::Relaxed);
        let share = self.bytes_max / SHARE;
        if own > 0 && own + more > share {
            return Some(Error::TooMany(format!(
                "{own} bytes of answers to this customer or credential are being sent, of {share} \
                 that may (an eighth of limits.answers_bytes): read what was asked for first"
            )));
        }
        let all = self.bytes.load(Ordering::Relaxed);
        (all > 0 && all + more > self.bytes_max).then(|| {
            let max = self.bytes_max;
            busy(format!(
                "{all} bytes of answers are being sent, of {max} that may (limits.answers_bytes)"
            ))
        })
    }

    fn account(&self, payer: Payer) -> Arc<Account> {
        let mut payers = self.payers.lock().expect("no panic while it is held");
        if let Some(account) = payers.get(&payer) {
            return account.clone();
        }
        if payers.len() >= PAYERS_KEPT {
            payers.retain(|_, account| Arc::strong_count(account) > 1);
        }
        let account = Arc::new(Account {
            reads: Arc::new(Semaphore::new(READS_OF_ONE)),
            waiting: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
        });
        payers.insert(payer, account.clone());
        account
    }
}

fn busy(reason: String) -> Error {
    Error::Unavailable {
        reason,
        retry_after_seconds: 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn payer(number: u8) -> Payer {
        Payer::Token(TokenId([number; 20]))
    }

    /// What the future gives at once.
    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn reads_of_one_leave_turns_to_others() {
        let shares = Shares::new(1000);
        let first = now(shares.turn(payer(1))).expect("a turn").unwrap();
        let _second = now(shares.turn(payer(1))).expect("a turn").unwrap();
        let mut waiting: Vec<_> = (0..WAITING_MAX)
            .map(|_| Box::pin(shares.turn(payer(1))))
            .collect();
        let mut context = Context::from_waker(Waker::noop());
        for one in &mut waiting {
            assert!(one.as_mut().poll(&mut context).is_pending());
        }
        let refused = now(shares.turn(payer(1))).expect("an answer at once");
        assert!(matches!(refused, Err(Error::TooMany(_))));
        let other = now(shares.turn(payer(2))).expect("a turn, in spite of them");
        assert!(other.is_ok());
        drop(first);
        let third = waiting[0].as_mut().poll(&mut context);
        assert!(third.is_ready());
        assert!(waiting[1].as_mut().poll(&mut context).is_pending());
        // Who goes away takes nothing along.
        drop(waiting);
        assert_eq!(shares.account(payer(1)).waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn answers_of_one_and_of_all_have_a_limit() {
        let shares = Shares::new(800);
        let large = shares.hold(payer(1), 500).expect("one answer has room");
        assert!(matches!(
            shares.hold(payer(1), 1),
            Err(Error::TooMany(why)) if why.contains("limits.answers_bytes")
        ));
        assert!(matches!(
            now(shares.turn(payer(1))),
            Some(Err(Error::TooMany(_)))
        ));
        let small: Vec<_> = (0..100)
            .map(|_| shares.hold(payer(2), 1).unwrap())
            .collect();
        assert!(shares.hold(payer(2), 1).is_err());
        let _more = shares.hold(payer(3), 200).unwrap();
        assert!(matches!(
            shares.hold(payer(4), 1),
            Err(Error::Unavailable { reason, .. }) if reason.contains("limits.answers_bytes")
        ));
        drop((large, small));
        assert!(shares.hold(payer(4), 100).is_ok());
        let accepted = shares.hold_anyway(payer(1), 5_000);
        assert_eq!(accepted.bytes, 5_000);
    }

    #[tokio::test]
    async fn who_reads_is_not_forgotten() {
        let shares = Shares::new(1000);
        let of_reader = payer(0xff);
        let reads: Vec<_> = (0..READS_OF_ONE)
            .map(|_| now(shares.turn(of_reader)).expect("a turn").unwrap())
            .collect();
        for number in 0..PAYERS_KEPT as u64 {
            let mut id = [1; 20];
            id[..8].copy_from_slice(&number.to_be_bytes());
            drop(shares.hold(Payer::Token(TokenId(id)), 1).unwrap());
        }
        assert!(
            now(shares.turn(of_reader)).is_none(),
            "it has its reads already"
        );
        drop(reads);
        assert!(now(shares.turn(of_reader)).is_some());
    }

    #[test]
    fn who_uses_nothing_is_forgotten() {
        let shares = Shares::new(1000);
        let held = shares.hold(payer(0), 1).unwrap();
        for number in 0..PAYERS_KEPT {
            let mut id = [1; 20];
            id[..8].copy_from_slice(&(number as u64).to_be_bytes());
            drop(shares.hold(Payer::Token(TokenId(id)), 1).unwrap());
        }
        let count = shares.payers.lock().unwrap().len();
        assert_eq!(count, 2, "the one with an answer, and the newest");
        drop(held);
    }
}
