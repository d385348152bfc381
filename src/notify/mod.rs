//! Tells people that endpoints fail: makes the messages that are due, and mails them.
//!
//! `server` starts the one thread. The store decides when somebody is to be told, and keeps each message until it is
//! mailed (`domain::health`). The thread wakes at that time, has the messages made (operational events, which need no
//! relay, and mails to come), gathers mails for a minute (`pace`), puts them together for each recipient (`plan`,
//! `text`), and hands them to the operator's relay (`relay`).
//!
//! - A message is noted as mailed once the relay has taken the mail. A kill repeats at most the mail whose answer it
//!   cut off, and the operator's one where customers were still to get theirs.
//! - Making messages never waits for the relay, nor does a code of a contact (`codes`) wait for others' mails: each has
//!   its loop on the thread.
//! - Trouble with the relay is tried again after waits that grow, for as long as it takes; the log says it once for each
//!   reason, and status until a mail is taken. A recipient whom the relay refuses for good is logged and not tried
//!   again.
//! - Everything has a limit: the messages of a round, the customers in it, the time of each answer.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::{Clock, Timestamp};
use crate::config::{Config, ConfigError};
use crate::domain::email::EmailAddress;
use crate::store::Store;
use crate::telemetry::{MailOutcome, Metrics, NotifyState};
use crate::watched::{self, Kind};
use letter::{Letter, Words};
use pace::Pace;
use plan::{Key, Plan, Style};
use relay::{Outcome, Relay, Session, Trouble};

mod codes;
mod letter;
mod pace;
mod plan;
mod relay;
mod text;

/// The loops of the thread: messages that are due, mails, and codes of contacts.
const LOOPS: usize = 3;
/// Messages that one round takes.
const ROUND_MAX: usize = 100_000;
/// The rest between two looks at what is due: each goes through all endpoints that fail.
const LOOK_REST: Duration = Duration::from_millis(50);
/// How long after a failure of the store, or a panic, the work is tried again.
const AGAIN: Duration = Duration::from_secs(10);
/// How long a stop waits for the mail that is under way.
const LAST_MAIL: Duration = Duration::from_secs(3);
/// After so long a mail is sent to those who can get it, though the relay puts off others.
const WHOLE_WITHIN: Duration = Duration::from_secs(3600);
/// A customer's mail that the relay does not take in this time is dropped.
const CUSTOMER_WITHIN: Duration = Duration::from_secs(24 * 3600);

/// The relay and the operator's addresses, by the settings.
pub struct Post {
    relay: Relay,
    from: EmailAddress,
    operator: Vec<EmailAddress>,
    style: Style,
}

impl Post {
    /// Nothing where the settings have no relay.
    ///
    /// # Errors
    /// Where a file that they name cannot be used.
    pub fn from_config(config: &Config) -> Result<Option<Post>, ConfigError> {
        let section = &config.notify;
        if !section.is_on() {
            return Ok(None);
        }
        let from = EmailAddress::parse(&section.from);
        let from = from.map_err(|must| ConfigError::from(format!("notify.from: {must}")))?;
        let public_url = config.server.public_url.as_ref();
        Ok(Some(Post {
            relay: Relay::new(section, &from)?,
            from,
            operator: section.to.clone(),
            style: Style {
                prefix: section.subject_prefix.clone(),
                public_url: public_url.map(|_| config.server.public_url()),
            },
        }))
    }

    /// Sends a test mail to the operator's addresses. Returns those that the relay took; the error is a line for each
    /// problem.
    pub async fn test(&self, now: Timestamp) -> Result<Vec<String>, String> {
        let words = text::test_words(&self.style.prefix);
        let sent = async {
            let mut session = self.relay.open().await?;
            let outcome = session
                .send(&self.letter(&self.operator, &words, now), true)
                .await;
            session.quit().await;
            outcome
        };
        let outcome = sent.await.map_err(|trouble| self.told(&trouble))?;
        let refused = outcome.refused.iter();
        let refused = refused.map(|(to, answer)| self.refusal(to, answer));
        match Vec::from_iter(refused) {
            refused if refused.is_empty() => {
                Ok(outcome.taken.iter().map(ToString::to_string).collect())
            }
            refused => Err(refused.join("; ")),
        }
    }

    fn letter(&self, to: &[EmailAddress], words: &Words, now: Timestamp) -> Letter {
        Letter::new(&self.from, to, words, now, rand::random())
    }

    fn told(&self, trouble: &Trouble) -> String {
        format!("the mail relay {}: {trouble}", self.relay)
    }

    fn refusal(&self, to: &EmailAddress, answer: &str) -> String {
        format!(
            "the mail relay {} refuses mails to {to}: {answer}",
            self.relay
        )
    }
}

/// The thread, from outside.
pub struct Notifier {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Notifier {
    /// Goes on with the messages that were not mailed when the process ended. Without a `post` nobody gets any.
    pub fn start(store: Store, post: Option<Post>, metrics: Arc<Metrics>) -> Notifier {
        let (stop, stopping) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("the system has room for a thread at start");
        let spawning = store.clone();
        let thread = spawning.spawn(Kind::Notifier, move || {
            let teller = Teller::new(store, post, metrics, stopping);
            runtime.block_on(async {
                tokio::join!(teller.tell_on(), teller.mail_on(), teller.code_on());
            });
            // A name that is being looked up holds nothing up.
            runtime.shutdown_background();
        });
        Notifier {
            stop,
            thread: Some(thread),
        }
    }

    /// Ends soon. Messages that are not mailed are mailed after the next start.
    pub async fn stop(&mut self) {
        self.stop.send_replace(true);
        let Some(thread) = self.thread.take() else {
            return;
        };
        drop(tokio::task::spawn_blocking(move || thread.join()).await);
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

struct Teller {
    store: Store,
    clock: Clock,
    post: Option<Rc<Post>>,
    metrics: Arc<Metrics>,
    stopping: watch::Receiver<bool>,
    rounds: RefCell<Rounds>,
    /// Of the loops, how many work.
    busy: Cell<usize>,
}

/// What rounds leave for the next ones.
#[derive(Default)]
struct Rounds {
    pace: Pace,
    /// Messages that the operator has and a customer has not.
    known: HashSet<Key>,
    /// Customers whose mails the relay put off.
    put_off: HashMap<EmailAddress, Pace>,
    /// Why the relay takes no mail.
    trouble: Option<Problem>,
    /// Why somebody of the operator's does not get mails that it takes.
    refused: Option<Problem>,
}

/// Since when something fails, and why.
type Problem = (Timestamp, String);

impl Teller {
    fn new(
        store: Store,
        post: Option<Post>,
        metrics: Arc<Metrics>,
        stopping: watch::Receiver<bool>,
    ) -> Teller {
        Teller {
            clock: store.clock().clone(),
            store,
            post: post.map(Rc::new),
            metrics,
            stopping,
            rounds: RefCell::default(),
            busy: Cell::new(LOOPS),
        }
    }

    fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Makes the messages that are due.
    async fn tell_on(&self) {
        let mut notices = self.store.notices();
        while !self.is_stopping() {
            notices.borrow_and_update(); // Before we look: a commit in between is not missed.
            let next = watched::contained_future(self.tell()).await;
            let next = next.unwrap_or_else(|_| Some(self.clock.now() + AGAIN));
            self.wait(next, &mut notices).await;
        }
    }

    /// Returns when the next message is due.
    async fn tell(&self) -> Option<Timestamp> {
        let now = self.clock.now();
        let due = self.store.next_notice_at()?;
        if due > now {
            return Some(due);
        }
        let post = self.post.clone().map(|post| !post.operator.is_empty());
        let told = self.store.tell_due(move |catalog, endpoint| match post {
            Some(has_operator) => has_operator || plan::customer(catalog, endpoint).is_some(),
            None => false,
        });
        match told.await {
            Ok(_) => match self.store.next_notice_at()? {
                due if due > now => Some(due),
                // Something came meanwhile, or the clock was set.
                _ => Some(now + LOOK_REST),
            },
            Err(error) => {
                self.note_store_error("messages about endpoints were not made", &error);
                Some(now + AGAIN)
            }
        }
    }

    /// Mails what was made.
    async fn mail_on(&self) {
        let mut notices = self.store.notices();
        let mut stopping = self.stopping.clone();
        while !self.is_stopping() {
            notices.borrow_and_update();
            let mail = watched::contained_future(self.mail());
            let next = tokio::select! {
                next = mail => next.unwrap_or_else(|_| {
                    let now = self.clock.now();
                    self.rounds.borrow_mut().pace.failed(now);
                    Some(now + AGAIN)
                }),
                () = cut_off(&mut stopping) => return,
            };
            self.wait(next, &mut notices).await;
        }
    }

    /// Returns when the next round is to begin.
    async fn mail(&self) -> Option<Timestamp> {
        if !self.store.has_mail() {
            self.rounds.borrow_mut().pace = Pace::default();
            return None;
        }
        let Some(post) = self.post.clone() else {
            // From a time when there was a relay.
            return self.forget_all().await;
        };
        let now = self.clock.now();
        let begins_at = self.rounds.borrow_mut().pace.begins_at(now);
        if begins_at > now {
            return Some(begins_at);
        }
        let ended = self.round(&post, now).await;
        let now = self.clock.now();
        let mut rounds = self.rounds.borrow_mut();
        match ended {
            Ok(has_more) => rounds.pace.ended(now, has_more),
            Err(problem) => {
                rounds.pace.failed(now);
                note_problem(&mut rounds.trouble, now, problem);
            }
        }
        self.show(&rounds);
        let more = rounds.pace.begins_at(now);
        drop(rounds);
        self.store.has_mail().then_some(more)
    }

    async fn forget_all(&self) -> Option<Timestamp> {
        let all = self.store.to_mail(ROUND_MAX);
        let all = all.into_iter().map(|(lane, told)| (lane, told.at));
        let noted = self.store.mailed(all.collect()).await;
        noted.err().map(|error| {
            self.note_store_error("messages that nobody is mailed were not noted", &error);
            self.clock.now() + AGAIN
        })
    }

    /// Sends all mails that are due. Returns whether there are more; the error is a sentence.
    async fn round(&self, post: &Post, now: Timestamp) -> Result<bool, String> {
        let told = self.store.to_mail(ROUND_MAX);
        let (entries, gone) = plan::entries(&self.store.catalog(), told, plan::customer);
        let plan = {
            let mut rounds = self.rounds.borrow_mut();
            let there: HashSet<Key> = entries.iter().map(|entry| entry.key).collect();
            rounds.known.retain(|key| there.contains(key));
            let waiting: HashSet<&EmailAddress> = entries
                .iter()
                .filter_map(|entry| entry.customer())
                .collect();
            rounds.put_off.retain(|one, _| waiting.contains(one));
            let is_put_off = rounds.put_off_at(now);
            Plan::new(
                entries,
                gone,
                &rounds.known,
                |one| is_put_off.contains(one),
                &post.style,
            )
        };
        self.note_mailed(plan.over.clone()).await?;
        if plan.operator.is_none() && plan.customers.is_empty() {
            return Ok(true);
        }
        let opened = post.relay.open().await;
        let mut session = opened.map_err(|trouble| self.failed(post, &trouble))?;
        let sent = self.send_all(post, &mut session, plan, now).await;
        session.quit().await;
        sent
    }

    async fn send_all(
        &self,
        post: &Post,
        session: &mut Session,
        plan: Plan,
        now: Timestamp,
    ) -> Result<bool, String> {
        if let Some(mail) = plan.operator {
            let letter = post.letter(&post.operator, &mail.words, now);
            let takes_part = self.rounds.borrow().has_failed_for(WHOLE_WITHIN, now);
            let sent = session.send(&letter, takes_part).await;
            let outcome = sent.map_err(|trouble| self.failed(post, &trouble))?;
            note_success(&mut self.rounds.borrow_mut().trouble);
            self.note_operator(post, &outcome);
            self.rounds.borrow_mut().known.extend(&mail.covers);
            let is_over = |key: &Key| !plan.for_customers.contains(key);
            self.note_mailed(mail.covers.into_iter().filter(is_over).collect())
                .await?;
        }
        for (to, mail) in plan.customers {
            if self.is_stopping() {
                return Ok(true);
            }
            let letter = post.letter(std::slice::from_ref(&to), &mail.words, now);
            let oldest = mail.covers.iter().map(|(_, at)| *at).min().unwrap_or(now);
            let outcome = match session.send(&letter, false).await {
                Ok(outcome) => outcome,
                Err(Trouble::PutOff { to, answer }) if now.since(oldest) >= CUSTOMER_WITHIN => {
                    Outcome {
                        taken: Vec::new(),
                        refused: vec![(to, answer)],
                    }
                }
                Err(trouble @ Trouble::PutOff { .. }) => {
                    log::warn!("notify: {}; tried again later", self.failed(post, &trouble));
                    self.put_off(to, now);
                    continue;
                }
                Err(trouble) => {
                    // It may be this mail that the relay chokes on: the others get theirs on a new connection.
                    log::warn!("notify: {}; tried again later", self.failed(post, &trouble));
                    self.put_off(to, now);
                    let opened = post.relay.open().await;
                    *session = opened.map_err(|trouble| self.failed(post, &trouble))?;
                    continue;
                }
            };
            self.note_customer(post, &outcome);
            self.note_mailed(mail.covers).await?;
            let mut rounds = self.rounds.borrow_mut();
            rounds.put_off.remove(&to);
            note_success(&mut rounds.trouble);
        }
        Ok(plan.has_more || !self.rounds.borrow().put_off.is_empty())
    }

    /// Tries a customer's mail again later.
    fn put_off(&self, to: EmailAddress, now: Timestamp) {
        let mut rounds = self.rounds.borrow_mut();
        rounds.put_off.entry(to).or_default().failed(now);
    }

    /// Counts a mail that did not reach the relay.
    fn failed(&self, post: &Post, trouble: &Trouble) -> String {
        self.metrics.mail(MailOutcome::Failed);
        post.told(trouble)
    }

    /// The relay has decided about the operator's mail. Where somebody does not get it, status says so until all do.
    fn note_operator(&self, post: &Post, outcome: &Outcome) {
        let refused = outcome.refused.iter();
        let refused = refused.map(|(to, answer)| post.refusal(to, answer));
        let refused = Vec::from_iter(refused);
        let mut rounds = self.rounds.borrow_mut();
        if !outcome.taken.is_empty() {
            self.metrics.mail(MailOutcome::Sent);
        }
        for _ in &refused {
            self.metrics.mail(MailOutcome::Refused);
        }
        match refused.is_empty() {
            true => note_success(&mut rounds.refused),
            false => note_problem(&mut rounds.refused, self.clock.now(), refused.join("; ")),
        }
    }

    fn note_customer(&self, post: &Post, outcome: &Outcome) {
        if !outcome.taken.is_empty() {
            self.metrics.mail(MailOutcome::Sent);
        }
        for (to, answer) in &outcome.refused {
            log::warn!("notify: {}", post.refusal(to, answer));
            self.metrics.mail(MailOutcome::Refused);
        }
    }

    /// Notes messages as mailed. While that fails they count as unsent for customers, and as sent for the operator.
    async fn note_mailed(&self, keys: Vec<Key>) -> Result<(), String> {
        if keys.is_empty() {
            return Ok(());
        }
        let noted = self.store.mailed(keys.clone()).await;
        noted.map_err(|error| format!("that mails were sent was not noted: {error}"))?;
        let mut rounds = self.rounds.borrow_mut();
        for key in &keys {
            rounds.known.remove(key);
        }
        Ok(())
    }

    fn note_store_error(&self, what: &str, error: &crate::error::Error) {
        log::warn!(
            "{what}, which is tried again in {} s: {error}",
            AGAIN.as_secs()
        );
        watched::note_error(error);
    }

    fn show(&self, rounds: &Rounds) {
        self.metrics.show_notify(NotifyState {
            failing: rounds.trouble.as_ref().or(rounds.refused.as_ref()).cloned(),
        });
    }

    /// Waits until it is time, or something changes. The thread is idle while all loops wait.
    async fn wait(&self, until: Option<Timestamp>, notices: &mut watch::Receiver<()>) {
        self.busy.set(self.busy.get() - 1);
        if self.busy.get() == 0 {
            watched::idle();
        }
        let alarm = async {
            match until {
                Some(at) => self.clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let news = async {
            if notices.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(LOOK_REST).await;
        };
        let mut stopping = self.stopping.clone();
        tokio::select! {
            () = alarm => {}
            () = news => {}
            _ = stopping.wait_for(|stops| *stops) => {}
        }
        watched::working();
        self.busy.set(self.busy.get() + 1);
    }
}

/// Returns when a stop has waited long enough for a mail under way.
async fn cut_off(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stops| *stops).await;
    tokio::time::sleep(LAST_MAIL).await;
}

impl Rounds {
    /// Customers whose mails wait at `now`.
    fn put_off_at(&mut self, now: Timestamp) -> HashSet<EmailAddress> {
        let waits = self.put_off.iter_mut();
        let waits =
            waits.filter_map(|(one, pace)| (pace.begins_at(now) > now).then(|| one.clone()));
        waits.collect()
    }

    fn has_failed_for(&self, long: Duration, now: Timestamp) -> bool {
        let since = self.trouble.as_ref().map(|(since, _)| *since);
        since.is_some_and(|since| now.since(since) >= long)
    }
}

/// The log has each reason once.
fn note_problem(of: &mut Option<Problem>, now: Timestamp, problem: String) {
    let before = of.take();
    if before.as_ref().is_none_or(|(_, before)| *before != problem) {
        log::error!("notify: {problem}");
    }
    watched::note_error(&problem);
    let since = before.map_or(now, |(since, _)| since);
    *of = Some((since, problem));
}

fn note_success(of: &mut Option<Problem>) {
    if let Some((_, before)) = of.take() {
        log::info!("notify: mails are sent again ({before} before)");
    }
}
