//! The health of endpoints, in memory as the last commit left it, and the messages to people that come of it.
//!
//! Only endpoints whose attempts fail, or of which a person was told lately, have an entry. The committer changes it
//! with attempts and registrations (`committer/health.rs`); `scheduler` asks for the rest of a lane, and `notify`
//! for messages.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{oneshot, watch};

use super::engine::Engine;
use super::layout::{self, RecordError};
use super::queue::Command;
use super::{Inner, Store};
use crate::catalog::Catalog;
use crate::clock::Timestamp;
use crate::domain::endpoint::Endpoint;
use crate::domain::health::{Health, Rest, RestReason};
use crate::domain::notice::{Notice, Told};
use crate::error::Result;
use crate::lock::locked;

/// Messages that one commit makes.
const TOLD_AT_ONCE: usize = 200;

/// Whether a message about an endpoint is to be mailed to anybody.
pub type Mails = Box<dyn Fn(&Catalog, &Endpoint) -> bool + Send>;

#[derive(Debug)]
pub struct Healths {
    of: Mutex<HashMap<u64, Health>>,
    /// How many there are, so that the usual case takes no lock.
    count: AtomicUsize,
    /// Told of every change of a notice.
    notices: watch::Sender<()>,
}

/// What a commit changed of the rests of lanes.
#[derive(Debug, Default)]
pub struct Rested {
    /// The lanes whose rest is another one now.
    pub lanes: Vec<u64>,
    /// How many breakers opened.
    pub opened: u64,
    /// How many more lanes rest than before, or fewer.
    pub resting: i64,
}

impl Healths {
    /// Reads them where a store is opened.
    pub fn read(live: &Engine) -> std::result::Result<Healths, RecordError> {
        let mut of = HashMap::new();
        for item in live.prefix(&[layout::HEALTH]) {
            let (key, value) = item.map_err(RecordError::from)?;
            let health = layout::read::<Health>(live, &key, &value)?.meta;
            of.insert(layout::lane_of_health(&key)?, health);
        }
        Ok(Healths {
            count: AtomicUsize::new(of.len()),
            of: Mutex::new(of),
            notices: watch::channel(()).0,
        })
    }

    pub fn of(&self, lane: u64) -> Option<Health> {
        self.with(lane, |health| Some(health.clone()))
    }

    fn with<T>(&self, lane: u64, asked: impl Fn(&Health) -> Option<T>) -> Option<T> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        locked(self.of.lock()).get(&lane).and_then(asked)
    }

    /// Takes in what a commit changed.
    pub fn apply(&self, changed: HashMap<u64, Option<Health>>) -> Rested {
        let mut rested = Rested::default();
        if changed.is_empty() {
            return rested;
        }
        let mut of = locked(self.of.lock());
        let mut is_news = false;
        for (lane, health) in changed {
            let (before, now) = (of.get(&lane), health.as_ref());
            rested.note(
                lane,
                before.and_then(Health::rest),
                now.and_then(Health::rest),
            );
            is_news |= notice_of(before) != notice_of(now);
            match health {
                Some(health) => of.insert(lane, health),
                None => of.remove(&lane),
            };
        }
        self.count.store(of.len(), Ordering::Relaxed);
        drop(of);
        if is_news {
            self.notices.send_replace(());
        }
        rested
    }

    fn each<T>(&self, found: impl Fn(u64, &Health) -> Option<T>) -> Vec<T> {
        let of = locked(self.of.lock());
        of.iter()
            .filter_map(|(lane, health)| found(*lane, health))
            .collect()
    }

    /// The lanes with a message that is due, up to a number, and whether there are more.
    pub fn due(&self, now: Timestamp) -> (Vec<u64>, bool) {
        let is_due = |health: &Health| health.notice_due().is_some_and(|due| due <= now);
        let mut due = self.each(|lane, health| is_due(health).then_some(lane));
        let has_more = due.len() > TOLD_AT_ONCE;
        due.truncate(TOLD_AT_ONCE);
        (due, has_more)
    }
}

fn notice_of(health: Option<&Health>) -> Option<&Notice> {
    health.and_then(|health| health.notice.as_ref())
}

impl Rested {
    fn note(&mut self, lane: u64, before: Option<Rest>, now: Option<Rest>) {
        if before != now {
            self.lanes.push(lane);
        }
        let is_open =
            |rest: Option<Rest>| rest.is_some_and(|rest| rest.reason == RestReason::Failures);
        self.opened += u64::from(is_open(now) && !is_open(before));
        self.resting += i64::from(now.is_some()) - i64::from(before.is_some());
    }
}

impl Inner {
    /// Counts the lanes that rest, where a store is opened.
    pub(super) fn show_resting(&self) {
        let resting = self.healths.each(|_, health| health.rest());
        self.metrics.lanes_resting.set(resting.len() as i64);
    }
}

impl Store {
    /// Returns the health of an endpoint; nothing where its last attempt succeeded and nobody was told of it lately.
    pub fn health_of(&self, lane: u64) -> Option<Health> {
        self.inner.healths.of(lane)
    }

    /// Returns the rest of a lane, where it rests.
    pub fn rest_of(&self, lane: u64) -> Option<Rest> {
        self.inner.healths.with(lane, Health::rest)
    }

    /// Returns all lanes that rest.
    pub fn resting(&self) -> Vec<(u64, Rest)> {
        let rest = |lane, health: &Health| health.rest().map(|rest| (lane, rest));
        self.inner.healths.each(rest)
    }

    /// Lets a lane that rests send its next probe from now on. Nothing changes where the lane does not rest, or where
    /// its probe is due or under way.
    pub async fn probe_now(&self, lane: u64) -> Result<()> {
        let (sender, answer) = oneshot::channel();
        self.offer(Command::Probe {
            lane,
            answer: sender,
        })?;
        self.answered(answer).await
    }

    /// Returns when the next message to a person is due.
    pub fn next_notice_at(&self) -> Option<Timestamp> {
        let of = locked(self.inner.healths.of.lock());
        of.values().filter_map(Health::notice_due).min()
    }

    /// Makes the messages that are due, each once: operational events, and mails to be sent for endpoints of which
    /// `mails` says so. Returns how many lanes were looked at.
    pub async fn tell_due(
        &self,
        mails: impl Fn(&Catalog, &Endpoint) -> bool + Clone + Send + 'static,
    ) -> Result<usize> {
        let mut looked_at = 0;
        loop {
            let (lanes, has_more) = self.inner.healths.due(self.inner.clock.now());
            if lanes.is_empty() {
                return Ok(looked_at);
            }
            looked_at += lanes.len();
            let (sender, answer) = oneshot::channel();
            self.offer(Command::Tell {
                lanes,
                mails: Box::new(mails.clone()),
                answer: sender,
            })?;
            self.answered(answer).await?;
            if !has_more {
                return Ok(looked_at);
            }
        }
    }

    /// Whether any message is to be mailed.
    pub fn has_mail(&self) -> bool {
        let of = locked(self.inner.healths.of.lock());
        let mut notices = of.values().filter_map(|health| health.notice.as_ref());
        notices.any(|notice| notice.mail.is_some())
    }

    /// Returns messages that are to be mailed, each with its lane, the oldest first.
    pub fn to_mail(&self, limit: usize) -> Vec<(u64, Told)> {
        let mail = |lane, health: &Health| {
            let notice = health.notice.as_ref()?;
            Some((lane, notice.mail.clone()?))
        };
        let mut mails = self.inner.healths.each(mail);
        mails.sort_by_key(|(lane, told)| (told.at, *lane));
        mails.truncate(limit);
        mails
    }

    /// Notes that these messages, each with its time, were mailed, or that nobody wants them any more.
    pub async fn mailed(&self, told: Vec<(u64, Timestamp)>) -> Result<()> {
        for told in told.chunks(TOLD_AT_ONCE) {
            let (sender, answer) = oneshot::channel();
            self.offer(Command::Mailed {
                told: told.to_vec(),
                answer: sender,
            })?;
            self.answered(answer).await?;
        }
        Ok(())
    }

    /// Changes with every message that comes, and with its time.
    pub fn notices(&self) -> watch::Receiver<()> {
        self.inner.healths.notices.subscribe()
    }
}
