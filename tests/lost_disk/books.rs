//! What is known: every request that was made, when, and when it was answered, and every delivery that was received.
//!
//! Instants are in milliseconds by the server's clock. What was answered before a moment was committed before it, and
//! what was asked for after it was not. Lives are counted from 0; one is from a start of the server to its end.
//! Payloads follow from the seed and the message's number alone.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::process::clock::FastClock;
use super::process::ledger::{PREFIX, number_of};
use super::process::receiver::{Reply, Request};
use super::process::signature::signs;

/// The application that clients share.
pub const SHARED: &str = "shared";
/// Its endpoints: one for everything, and one for messages of [`KINDS`]`[1]`.
pub const EVERY: &str = "shared-every";
pub const SOME: &str = "shared-some";
/// The one for messages of [`KINDS`]`[0]`. Nothing is sent again by hand to any other.
pub const AGAIN: &str = "shared-again";
pub const KINDS: [&str; 2] = ["kind.a", "kind.b"];

/// It is all over every payload, with the message's number in 8 hex digits behind it.
pub const MARK: &str = "lost-disk:";

pub struct Books {
    pub seed: u64,
    pub clock: FastClock,
    next_number: AtomicU64,
    pages: Mutex<Pages>,
}

#[derive(Default)]
pub struct Pages {
    pub life: u32,
    pub manner: Manner,
    /// By their uids, which are never given twice, as those of endpoints.
    pub apps: BTreeMap<String, Lifetime>,
    pub endpoints: BTreeMap<String, Endpoint>,
    pub messages: BTreeMap<u64, Message>,
    pub resends: Vec<Resend>,
    /// Of the messages of a life, to [`AGAIN`].
    pub replays: Vec<Span>,
    /// What was received, by endpoint and message.
    receipts: HashMap<String, HashMap<u64, Vec<Receipt>>>,
    pub wrong: Vec<String>,
}

/// What the receiver answers.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Manner {
    /// It refuses some.
    #[default]
    Choosy,
    /// Nothing, so that no attempt has an outcome.
    Silent,
    /// It takes everything.
    Taking,
}

/// When something was asked for, and when it was answered that it is done.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub asked: u64,
    pub answered: Option<u64>,
}

/// Whether something is done in a store that was brought back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    Done,
    Not,
    /// It may be either.
    Open,
}

#[derive(Clone)]
pub struct Lifetime {
    pub made: Span,
    pub deleted: Option<Span>,
}

#[derive(Clone)]
pub struct Endpoint {
    pub app: String,
    pub secret: String,
    pub lifetime: Lifetime,
}

#[derive(Clone)]
pub struct Message {
    pub app: String,
    /// The endpoints that get it.
    pub uids: Vec<String>,
    /// As it was answered.
    pub id: Option<String>,
    pub accepted: Span,
    pub erased: Option<Span>,
    /// It was asked to be sent to [`AGAIN`] again.
    pub is_resent: bool,
}

pub struct Resend {
    pub number: u64,
    /// How often it had been delivered.
    pub before: usize,
    pub span: Span,
}

pub struct Receipt {
    pub life: u32,
    pub succeeded: bool,
    pub message_id: String,
}

impl Span {
    pub fn begun(now: u64) -> Span {
        Span {
            asked: now,
            answered: None,
        }
    }

    /// The same, done.
    pub fn done(self) -> Span {
        Span {
            answered: Some(self.asked),
            ..self
        }
    }

    /// Whether it is done, where what was answered before one instant is, and what was asked for after another is not.
    pub fn fate(&self, before: u64, after: u64) -> Fate {
        match self.answered {
            Some(answered) if answered < before => Fate::Done,
            _ if self.asked > after => Fate::Not,
            _ => Fate::Open,
        }
    }
}

impl Lifetime {
    fn begun(now: u64) -> Lifetime {
        Lifetime {
            made: Span::begun(now),
            deleted: None,
        }
    }

    /// Whether it is there by all that was answered.
    pub fn is_there(&self) -> bool {
        self.made.answered.is_some() && self.deleted.is_none()
    }
}

impl Books {
    pub fn new(seed: u64, speed: u64) -> Books {
        Books {
            seed,
            clock: FastClock::new(speed),
            next_number: AtomicU64::new(0),
            pages: Mutex::default(),
        }
    }

    pub fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().expect("no holder of the books panics")
    }

    pub fn wrong(&self, what: String) {
        self.pages().wrong.push(what);
    }

    /// Begins the next life, in which the receiver answers like this.
    pub fn begin_life(&self, manner: Manner) {
        let mut pages = self.pages();
        pages.life += 1;
        pages.manner = manner;
    }

    /// Notes an application that is about to be asked for.
    pub fn app_asked(&self, app: &str) {
        let lifetime = Lifetime::begun(self.clock.now());
        self.pages().apps.insert(app.to_owned(), lifetime);
    }

    pub fn endpoint_asked(&self, app: &str, uid: &str, secret: &str) {
        let endpoint = Endpoint {
            app: app.to_owned(),
            secret: secret.to_owned(),
            lifetime: Lifetime::begun(self.clock.now()),
        };
        self.pages().endpoints.insert(uid.to_owned(), endpoint);
    }

    /// Changes what is known of an application or an endpoint, now.
    pub fn of_lifetime(&self, uid: &str, change: impl FnOnce(&mut Lifetime, u64)) {
        let now = self.clock.now();
        let mut pages = self.pages();
        let Pages {
            apps, endpoints, ..
        } = &mut *pages;
        let endpoint = endpoints.get_mut(uid).map(|one| &mut one.lifetime);
        let lifetime = endpoint.or_else(|| apps.get_mut(uid));
        change(lifetime.expect("it was asked for"), now);
    }

    pub fn made(&self, uid: &str) {
        self.of_lifetime(uid, |one, now| one.made.answered = Some(now));
    }

    pub fn deletion_asked(&self, uid: &str) {
        self.of_lifetime(uid, |one, now| one.deleted = Some(Span::begun(now)));
    }

    pub fn deleted(&self, uid: &str) {
        self.of_lifetime(uid, |one, now| {
            one.deleted
                .as_mut()
                .expect("its deletion was asked for")
                .answered = Some(now);
        });
    }

    /// Notes so many messages that are about to be published. Returns the number of the first.
    pub fn publish_asked(&self, app: &str, kind: &str, count: u64) -> u64 {
        let first = self.next_number.fetch_add(count, Ordering::SeqCst);
        let now = self.clock.now();
        let mut pages = self.pages();
        let wants = |uid: &str| match uid {
            AGAIN => kind == KINDS[0],
            SOME => kind == KINDS[1],
            _ => true,
        };
        let uids = pages
            .endpoints
            .iter()
            .filter(|(uid, one)| one.app == app && one.lifetime.is_there() && wants(uid.as_str()));
        let uids = Vec::from_iter(uids.map(|(uid, _)| uid.clone()));
        for number in first..first + count {
            let message = Message {
                app: app.to_owned(),
                uids: uids.clone(),
                id: None,
                accepted: Span::begun(now),
                erased: None,
                is_resent: false,
            };
            pages.messages.insert(number, message);
        }
        first
    }

    pub fn accepted(&self, first: u64, ids: Vec<String>) {
        let now = self.clock.now();
        let mut pages = self.pages();
        for (number, id) in (first..).zip(ids) {
            let message = pages.message(number);
            message.id = Some(id);
            message.accepted.answered = Some(now);
        }
    }

    /// How many messages were published and accepted between these moments.
    pub fn accepted_between(&self, from: u64, to: u64) -> usize {
        let pages = self.pages();
        let spans = pages.messages.values().map(|one| one.accepted);
        let spans = spans.filter(|span| span.asked >= from && span.fate(to, to) == Fate::Done);
        spans.count()
    }

    pub fn receive(&self, request: &Request<'_>) -> Reply {
        if request.path == "/settle" {
            return Reply::Status(200);
        }
        let number = number_of(request.body);
        let is_whole =
            number.is_some_and(|number| request.body == payload(self.seed, number).as_bytes());
        let mut pages = self.pages();
        let (uid, number) = match pages.named_by(request, number.filter(|_| is_whole)) {
            Ok(found) => found,
            Err(why) => {
                pages.wrong.push(why);
                return Reply::Status(200);
            }
        };
        let (life, manner) = (pages.life, pages.manner);
        let receipts = pages.receipts.entry(uid.clone()).or_default();
        let receipts = receipts.entry(number).or_default();
        let reply = match manner {
            Manner::Silent => Reply::Never,
            Manner::Choosy if refuses(self.seed, &uid, number, receipts.len()) => {
                Reply::Status(500)
            }
            Manner::Choosy | Manner::Taking => Reply::Status(200),
        };
        receipts.push(Receipt {
            life,
            succeeded: matches!(reply, Reply::Status(200)),
            message_id: request.header("webhook-id").unwrap_or_default().to_owned(),
        });
        reply
    }
}

impl Pages {
    pub fn message(&mut self, number: u64) -> &mut Message {
        self.messages.get_mut(&number).expect("it was asked for")
    }

    /// To which endpoint which message came, if it may, as it was published and signed by the endpoint's secret.
    fn named_by(
        &self,
        request: &Request<'_>,
        number: Option<u64>,
    ) -> Result<(String, u64), String> {
        let uid = request.path.trim_start_matches('/').to_owned();
        let Some(endpoint) = self.endpoints.get(&uid) else {
            return Err(format!("a request came for {uid}, of which nobody knows"));
        };
        let message = number.and_then(|number| Some((number, self.messages.get(&number)?)));
        let Some((number, message)) = message else {
            let length = request.body.len();
            return Err(format!(
                "{length} bytes came to {uid} that no message has, or only one that was lost"
            ));
        };
        if !message.uids.contains(&uid) {
            return Err(format!(
                "message {number} came to {uid}, which is not for it"
            ));
        }
        if !signs(&endpoint.secret, request) {
            return Err(format!(
                "message {number} came to {uid} without the signature of its secret"
            ));
        }
        let id = request.header("webhook-id").unwrap_or_default();
        if message.id.as_ref().is_some_and(|known| known != id) {
            return Err(format!(
                "message {number} came to {uid} as {id} and is {:?}",
                message.id
            ));
        }
        Ok((uid, number))
    }

    pub fn receipts(&self, uid: &str, number: u64) -> &[Receipt] {
        let receipts = self.receipts.get(uid).and_then(|all| all.get(&number));
        receipts.map_or(&[], Vec::as_slice)
    }

    /// Of requests for a message to an endpoint since this life, those that were taken.
    pub fn successes(&self, uid: &str, number: u64, since: u32) -> usize {
        let receipts = self.receipts(uid, number).iter();
        receipts
            .filter(|one| one.succeeded && one.life >= since)
            .count()
    }

    /// All that was received, by endpoint and message.
    pub fn all_receipts(&self) -> impl Iterator<Item = (&String, u64, &[Receipt])> {
        self.receipts.iter().flat_map(|(uid, by_message)| {
            by_message
                .iter()
                .map(move |(number, receipts)| (uid, *number, receipts.as_slice()))
        })
    }

    /// For the test of the checker.
    pub fn add_receipt(&mut self, uid: &str, number: u64, receipt: Receipt) {
        let receipts = self.receipts.entry(uid.to_owned()).or_default();
        receipts.entry(number).or_default().push(receipt);
    }
}

/// Some are refused at first, a few of these once more.
fn refuses(seed: u64, uid: &str, number: u64, earlier: usize) -> bool {
    let salt = uid.bytes().fold(earlier as u64, |hash, byte| {
        hash.wrapping_mul(31).wrapping_add(u64::from(byte))
    });
    let mut random = StdRng::seed_from_u64(seed ^ number ^ salt << 32);
    earlier < 3 && random.random_ratio(1, 6)
}

/// What any re-serialisation would change, with [`MARK`] all over it.
pub fn payload(seed: u64, number: u64) -> String {
    let mut random = StdRng::seed_from_u64(seed ^ number);
    let length = match random.random_range(0..100) {
        0..96 => random.random_range(100..1_500),
        96..99 => random.random_range(0..10_000),
        _ => 70_000,
    };
    let mut text = format!("{PREFIX}{number},  \"amount\" :1.10,\"text\":\"");
    while text.len() < length {
        let word: u64 = random.random();
        write!(text, "{MARK}{number:08x} {word:016x} ").expect("writing to a String succeeds");
    }
    text.push_str("\"}");
    text
}
