//! The share of each customer in the resources that all use: requests, turns to read history, and
//! memory for answers that are being sent.
//!
//! A [`Payer`] has a number of requests a second (see `rate`). Reads of history run on a few
//! threads of their own, and each payer has only some of them at once (see `reads`), so that many
//! filtered lists of one customer leave processor and disk to others. An answer is in memory until
//! its reader has taken it. So the answers of one payer, and of all together, have a limit in
//! bytes; the system cuts off a reader that takes nothing (see `server`). Every limit is a setting
//! in `[limits]`. A refusal names its setting, and is counted by it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::minute::whole_seconds;
use super::rate::{Bucket, Rate};
use super::reads::{NoTurn, ReadBounds, Readers};
use crate::clock::Timestamp;
use crate::config::LimitsSection;
use crate::domain::id::{ApplicationId, OrganisationId, TokenId};
use crate::error::{Error, Result};
use crate::lock::locked;
use crate::rules::payer::Payer;
use crate::store::Store;
use crate::telemetry::{Limit, Metrics};
use crate::watched::Threads;

/// Locks for the payers, so that threads seldom wait for each other.
const SHARDS: usize = 16;
/// Payers of which nothing is left are forgotten when a shard has this many.
const PAYERS_KEPT: usize = 64;

/// How long a refusal for answers under way asks to wait, in seconds.
const ANSWERS_RETRY_SECONDS: u32 = 5;

/// The holder of a credential, which decides how many requests a second it may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    Customer,
    Platform,
}

pub struct Shares {
    requests_of_customer: Option<Rate>,
    requests_of_platform: Option<Rate>,
    limits: LimitsSection,
    readers: Readers,
    payers: [Mutex<Payers>; SHARDS],
    /// The bytes of all answers that are being sent.
    bytes: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

/// The payers of one shard.
#[derive(Default)]
struct Payers {
    accounts: HashMap<Payer, Arc<Account>>,
    /// The number of payers at which the unused ones are looked for next.
    look_at: usize,
}

/// The current use of a payer.
#[derive(Default)]
struct Account {
    requests: Bucket,
    /// The bytes of its answers that are being sent.
    bytes: AtomicUsize,
    /// The part of these bytes in answers to changes. A change is refused before it is made; its
    /// answer never is.
    bytes_of_changes: AtomicUsize,
}

/// The memory of an answer that is being sent; given back when it is dropped.
pub struct Held {
    account: Arc<Account>,
    all: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
    bytes: usize,
    is_of_change: bool,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.account.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        if self.is_of_change {
            let changes = &self.account.bytes_of_changes;
            changes.fetch_sub(self.bytes, Ordering::Relaxed);
        }
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
        self.metrics.answer_bytes.dec_by(self.bytes as i64);
    }
}

impl Shares {
    /// A thread that ends by a panic ends the store with it.
    pub fn start(limits: &LimitsSection, store: &Store, metrics: Arc<Metrics>) -> Shares {
        let failing = store.clone();
        let failed = move |thread| failing.thread_panicked(thread);
        Shares::new(limits, metrics, store.threads(), failed)
    }

    fn new(
        limits: &LimitsSection,
        metrics: Arc<Metrics>,
        threads: &Threads,
        failed: impl Fn(String) + Clone + Send + 'static,
    ) -> Shares {
        let burst = limits.requests_burst_seconds;
        let bounds = ReadBounds {
            reads: limits.reads_per_customer_max,
            waiting: limits.reads_waiting_per_customer_max,
            wait: Duration::from_secs(limits.read_wait_seconds),
        };
        Shares {
            requests_of_customer: Rate::new(limits.requests_per_customer_second_max, burst),
            requests_of_platform: Rate::new(limits.requests_per_platform_token_second_max, burst),
            limits: limits.clone(),
            readers: Readers::start(bounds, metrics.clone(), threads, failed),
            payers: Default::default(),
            bytes: Arc::default(),
            metrics,
        }
    }

    /// Counts a request. Returns an error where the payer has made too many, or where a customer
    /// makes changes and does not take the answers: an answer to a change cannot be refused once
    /// the change is made.
    pub fn admit(&self, payer: Payer, holder: Holder, now: Timestamp) -> Result<()> {
        let rate = match holder {
            Holder::Customer => self.requests_of_customer,
            Holder::Platform => self.requests_of_platform,
        };
        let share = self.limits.answers_per_customer_bytes;
        let may_hold = holder == Holder::Customer && self.bytes.load(Ordering::Relaxed) >= share;
        if rate.is_none() && !may_hold {
            // Where there is no limit nothing is looked up.
            return Ok(());
        }
        let account = self.account(payer, now);
        if let Some(rate) = rate {
            let taken = account.requests.take(rate, now);
            taken.map_err(|wait| self.too_often(holder, wait))?;
        }
        let of_changes = account.bytes_of_changes.load(Ordering::Relaxed);
        match may_hold && of_changes >= share {
            true => Err(self.takes_no_answers(of_changes)),
            false => Ok(()),
        }
    }

    fn takes_no_answers(&self, own: usize) -> Error {
        let limit = Limit::CustomerAnswers;
        let reason = format!(
            "{own} bytes of answers to this customer or credential are being sent, of {} that may \
             ({}): read what was asked for first",
            self.limits.answers_per_customer_bytes,
            limit.setting()
        );
        self.refused(limit, ANSWERS_RETRY_SECONDS, reason)
    }

    fn too_often(&self, holder: Holder, wait: Duration) -> Error {
        let (limit, whose, rate) = match holder {
            Holder::Customer => (
                Limit::CustomerRequests,
                "customer",
                self.limits.requests_per_customer_second_max,
            ),
            Holder::Platform => (
                Limit::PlatformRequests,
                "credential",
                self.limits.requests_per_platform_token_second_max,
            ),
        };
        self.refused(
            limit,
            whole_seconds(wait),
            format!(
                "this {whose} has made more than {rate} requests a second ({}); send fewer at a time",
                limit.setting()
            ),
        )
    }

    /// Runs a read of history when it is the payer's turn.
    pub async fn read<T: Send + 'static>(
        &self,
        payer: Payer,
        now: Timestamp,
        read: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if let Some(refusal) = self.refusal(&self.account(payer, now), 1) {
            return Err(refusal);
        }
        match self.readers.run(payer, read).await {
            Ok(result) => result,
            Err(NoTurn::LineIsFull) => {
                let (limit, waiting) = (
                    Limit::ReadsWaiting,
                    self.limits.reads_waiting_per_customer_max,
                );
                let reason = format!(
                    "{waiting} reads of this customer or credential wait for their turn already \
                     ({}); send fewer at once",
                    limit.setting()
                );
                Err(self.refused(limit, 1, reason))
            }
            Err(NoTurn::WaitedTooLong) => {
                let (limit, seconds) = (Limit::ReadWait, self.limits.read_wait_seconds);
                let reason = format!(
                    "the read had no turn within {seconds} seconds ({}): too many read just now",
                    limit.setting()
                );
                Err(self.unavailable(limit, reason))
            }
        }
    }

    /// Takes memory for an answer that is not being sent yet; an error where there is none left.
    /// One answer of a payer always has room.
    pub fn hold(&self, payer: Payer, bytes: usize, now: Timestamp) -> Result<Held> {
        let account = self.account(payer, now);
        match self.refusal(&account, bytes) {
            Some(refusal) => Err(refusal),
            None => Ok(self.take(account, bytes, false)),
        }
    }

    /// Takes memory for the answer to a change, which must be sent, because the change has
    /// happened.
    pub fn hold_anyway(&self, payer: Payer, bytes: usize, now: Timestamp) -> Held {
        self.take(self.account(payer, now), bytes, true)
    }

    fn take(&self, account: Arc<Account>, bytes: usize, is_of_change: bool) -> Held {
        account.bytes.fetch_add(bytes, Ordering::Relaxed);
        if is_of_change {
            let changes = &account.bytes_of_changes;
            changes.fetch_add(bytes, Ordering::Relaxed);
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.metrics.answer_bytes.inc_by(bytes as i64);
        Held {
            account,
            all: self.bytes.clone(),
            metrics: self.metrics.clone(),
            bytes,
            is_of_change,
        }
    }

    fn refusal(&self, account: &Account, more: usize) -> Option<Error> {
        let own = account.bytes.load(Ordering::Relaxed);
        let share = self.limits.answers_per_customer_bytes;
        if own > 0 && own + more > share {
            return Some(self.takes_no_answers(own));
        }
        let all = self.bytes.load(Ordering::Relaxed);
        // The last part of the memory is kept for payers to whom nothing is being sent.
        let max = match own {
            0 => self.limits.answers_bytes,
            _ => self.limits.answers_bytes / 4 * 3,
        };
        (all > 0 && all + more > max).then(|| {
            let limit = Limit::Answers;
            let reason = format!(
                "{all} bytes of answers are being sent, of {max} that may{} ({})",
                match own {
                    0 => "",
                    _ => " to those to whom something is being sent already",
                },
                limit.setting()
            );
            self.unavailable(limit, reason)
        })
    }

    /// Counts a refusal because of the payer's own use.
    fn refused(&self, limit: Limit, retry_after_seconds: u32, reason: String) -> Error {
        self.metrics.refused(limit);
        Error::TooManyNow {
            reason,
            retry_after_seconds,
        }
    }

    /// Counts a refusal because of the use of all together.
    fn unavailable(&self, limit: Limit, reason: String) -> Error {
        self.metrics.refused(limit);
        Error::Unavailable {
            reason,
            retry_after_seconds: ANSWERS_RETRY_SECONDS,
        }
    }

    fn account(&self, payer: Payer, now: Timestamp) -> Arc<Account> {
        let mut payers = self.shard(payer);
        if let Some(account) = payers.accounts.get(&payer) {
            return account.clone();
        }
        payers.make_room(now);
        let account = payers.accounts.entry(payer).or_default();
        account.clone()
    }

    fn shard(&self, payer: Payer) -> MutexGuard<'_, Payers> {
        let (Payer::Application(ApplicationId(id))
        | Payer::Token(TokenId(id))
        | Payer::Organisation(OrganisationId(id))) = payer;
        // The end of an id is random.
        let [.., last] = id;
        let shard = &self.payers[usize::from(last) % SHARDS];
        locked(shard.lock())
    }
}

impl Payers {
    /// Forgets the payers whose account is as good as new. The next look comes only after many more
    /// payers, so that a look costs each new payer little.
    fn make_room(&mut self, now: Timestamp) {
        if self.accounts.len() < self.look_at.max(PAYERS_KEPT) {
            return;
        }
        self.accounts.retain(|_, account| {
            let is_used = Arc::strong_count(account) > 1;
            is_used || !account.requests.is_full(now)
        });
        self.look_at = 2 * self.accounts.len();
        // Memory that a flood of payers took is given back after it.
        self.accounts.shrink_to(self.look_at.max(PAYERS_KEPT));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    /// With the defaults, but for what the change does.
    fn shares(change: impl FnOnce(&mut LimitsSection)) -> Shares {
        let mut limits = crate::config::load(Some("config.toml".as_ref()), Default::default())
            .expect("it holds")
            .limits;
        change(&mut limits);
        let metrics = Arc::new(Metrics::new());
        let threads = Threads::new(Clock::System);
        Shares::new(&limits, metrics, &threads, |thread| panic!("{thread}"))
    }

    fn answers_of_800(limits: &mut LimitsSection) {
        limits.answers_bytes = 800;
        limits.answers_per_customer_bytes = 100;
    }

    fn payer(number: u64) -> Payer {
        let mut id = [1; 20];
        id[12..].copy_from_slice(&number.to_be_bytes());
        Payer::Token(TokenId(id))
    }

    fn known(shares: &Shares) -> usize {
        let shards = shares.payers.iter();
        shards
            .map(|shard| shard.lock().unwrap().accounts.len())
            .sum()
    }

    fn shown(shares: &Shares, limit: Limit) -> u64 {
        let text = shares.metrics.encode();
        let series = format!(
            "postrider_requests_refused_total{{limit=\"{}\"}} ",
            limit.setting()
        );
        let line = text.lines().find_map(|line| line.strip_prefix(&series));
        line.expect("it is shown from the start").parse().unwrap()
    }

    #[test]
    fn answers_of_one_and_of_all_have_a_limit() {
        let shares = shares(answers_of_800);
        let hold = |number, bytes| shares.hold(payer(number), bytes, NOW);
        let large = hold(1, 500).expect("one answer has room");
        assert!(matches!(
            hold(1, 1),
            Err(Error::TooManyNow { reason, retry_after_seconds: 1.. })
                if reason.contains("limits.answers_per_customer_bytes")
        ));
        let small: Vec<_> = (0..100).map(|_| hold(2, 1).unwrap()).collect();
        assert!(hold(2, 1).is_err());
        let _more = hold(3, 200).unwrap();
        assert!(matches!(
            hold(4, 1),
            Err(Error::Unavailable { reason, .. }) if reason.contains("(limits.answers_bytes)")
        ));
        assert_eq!(shown(&shares, Limit::CustomerAnswers), 2);
        assert_eq!(shown(&shares, Limit::Answers), 1);
        assert_eq!(shares.metrics.answer_bytes.get(), 800);
        drop((large, small));
        assert!(hold(4, 100).is_ok());
        let accepted = shares.hold_anyway(payer(1), 5_000, NOW);
        assert_eq!(accepted.bytes, 5_000);
    }

    #[tokio::test]
    async fn who_takes_no_answers_reads_nothing_more() {
        let shares = shares(answers_of_800);
        let _held = shares.hold(payer(1), 100, NOW).unwrap();
        let refused = shares.read(payer(1), NOW, || Ok(())).await;
        assert!(matches!(refused, Err(Error::TooManyNow { .. })));
        assert!(shares.read(payer(2), NOW, || Ok(())).await.is_ok());
    }

    #[test]
    fn a_customer_that_takes_no_answers_to_its_changes_makes_no_more() {
        let shares = shares(answers_of_800);
        let admit = |number, holder| shares.admit(payer(number), holder, NOW);
        let _pages = shares.hold(payer(1), 500, NOW).unwrap();
        assert!(
            admit(1, Holder::Customer).is_ok(),
            "further pages are refused"
        );
        let held = shares.hold_anyway(payer(1), 100, NOW);
        assert!(matches!(
            admit(1, Holder::Customer),
            Err(Error::TooManyNow { reason, .. }) if reason.contains("answers_per_customer_bytes")
        ));
        assert!(admit(2, Holder::Customer).is_ok());
        let _platforms = shares.hold_anyway(payer(3), 500, NOW);
        assert!(admit(3, Holder::Platform).is_ok(), "it publishes for all");
        drop(held);
        assert!(admit(1, Holder::Customer).is_ok());
    }

    #[test]
    fn requests_of_a_customer_and_of_the_platform_have_limits_of_their_own() {
        let shares = shares(|limits| {
            limits.requests_per_customer_second_max = 3;
            limits.requests_per_platform_token_second_max = 5;
            limits.requests_burst_seconds = 2;
        });
        for (holder, number, expected, setting) in [
            (Holder::Customer, 1, 6, "requests_per_customer_second_max"),
            (Holder::Customer, 2, 6, "requests_per_customer_second_max"),
            (
                Holder::Platform,
                3,
                10,
                "requests_per_platform_token_second_max",
            ),
        ] {
            for _ in 0..expected {
                shares.admit(payer(number), holder, NOW).unwrap();
            }
            let refused = shares.admit(payer(number), holder, NOW);
            assert!(matches!(
                refused,
                Err(Error::TooManyNow { reason, retry_after_seconds: 1 })
                    if reason.contains(&format!("(limits.{setting})"))
            ));
        }
        assert_eq!(shown(&shares, Limit::CustomerRequests), 2);
        assert_eq!(shown(&shares, Limit::PlatformRequests), 1);
    }

    #[test]
    fn what_has_no_limit_is_not_even_looked_up() {
        let shares = shares(|_| ());
        for number in 0..10_000 {
            shares.admit(payer(number), Holder::Platform, NOW).unwrap();
        }
        assert_eq!(known(&shares), 0);
    }

    #[test]
    fn who_uses_something_is_not_forgotten_and_the_others_are() {
        let shares = shares(|limits| {
            limits.requests_per_customer_second_max = 1;
            limits.requests_burst_seconds = 1;
        });
        let held = shares.hold(payer(0), 1, NOW).unwrap();
        let admit = |number, now| shares.admit(payer(number), Holder::Customer, now);
        admit(1, NOW).unwrap();
        // Each of a flood is remembered for as long as it matters, ...
        for number in 2..100_000 {
            admit(number, NOW).unwrap();
        }
        assert_eq!(known(&shares), 100_000);
        assert!(admit(1, NOW).is_err());
        // ... and what is left of it goes as others come.
        let later = NOW + Duration::from_secs(1);
        for number in 100_000..400_000 {
            let slowly = later + Duration::from_millis(10 * number);
            admit(number, slowly).unwrap();
        }
        assert!(
            known(&shares) < 3 * SHARDS * PAYERS_KEPT,
            "{}",
            known(&shares)
        );
        assert!(
            shares.hold(payer(0), 1 << 30, later).is_err(),
            "it still holds"
        );
        drop(held);
        assert!(shares.hold(payer(0), 1 << 30, later).is_ok());
    }
}
