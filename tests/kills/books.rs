//! What is known: every request that was made and what was answered, every delivery that was received.
//!
//! Lives are counted from 0; one is from a start of the server to its end. A fact that is settled holds in
//! every later life. Payloads follow from the seed and the message's number alone.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::process::clock::FastClock;
use super::process::ledger::{PREFIX, number_of};
use super::process::receiver::{Reply, Request};
use super::process::signature::signs;

/// What is kept for this long must be there; `store.retention_days` is 1.
pub const RETENTION: Duration = Duration::from_secs(24 * 3600);
/// Time passes so many times as fast as it does: a minute of the server's housekeeping is 0.6 seconds.
const SPEED: u64 = 100;
/// Between what the test and what the server calls now.
const MARGIN: Duration = Duration::from_secs(3600);

pub struct Books {
    pub seed: u64,
    next_number: AtomicU64,
    /// What fails from now on may have been cut off by the end of the server.
    pub is_dying: AtomicBool,
    clock: FastClock,
    pages: Mutex<Pages>,
}

#[derive(Default)]
pub struct Pages {
    pub life: u32,
    pub messages: HashMap<u64, Message>,
    /// By their uids, which are never given twice.
    pub endpoints: HashMap<String, Endpoint>,
    /// What was received, by endpoint and message.
    receipts: HashMap<String, HashMap<u64, Vec<Receipt>>>,
    /// How many successes there have to be at last, by endpoint and message.
    owed: HashMap<String, HashMap<u64, usize>>,
    pub wrong: Vec<String>,
}

pub struct Message {
    pub application: String,
    /// Given by the answer, or found after an answer that did not come.
    pub id: Option<String>,
    pub fate: Fate,
    /// When it was first asked for.
    pub asked_at: u64,
    pub has_event_id: bool,
    /// The life in which its payload was erased.
    pub erased: Option<u32>,
    /// An erasure was asked for and its answer did not come.
    pub may_be_erased: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Whether it is there is not known yet.
    Asked,
    Accepted,
    Absent,
}

pub struct Endpoint {
    pub application: String,
    /// The one event type that it wants; all where absent.
    pub only: Option<String>,
    pub description: String,
    pub disabled: bool,
    /// The life in which it was deleted.
    pub deleted: Option<u32>,
    /// The newest is the last.
    pub secrets: Vec<Secret>,
    /// From the life in which it was disabled to the one in which it was enabled again.
    held: Vec<(u32, Option<u32>)>,
}

pub struct Secret {
    pub text: String,
    /// The life in which it was answered, or found afterwards, that it is the newest.
    pub settled: Option<u32>,
}

struct Receipt {
    life: u32,
    succeeded: bool,
    message_id: String,
}

impl Endpoint {
    pub fn new(application: &str, only: Option<String>, secret: String, life: u32) -> Endpoint {
        Endpoint {
            application: application.to_owned(),
            only,
            description: String::new(),
            disabled: false,
            deleted: None,
            secrets: vec![Secret {
                text: secret,
                settled: Some(life),
            }],
            held: Vec::new(),
        }
    }

    pub fn wants(&self, kind: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == kind)
    }

    pub fn newest_secret(&self) -> &str {
        let settled = self.secrets.iter().rev().find(|one| one.settled.is_some());
        settled.map_or("", |secret| &secret.text)
    }

    /// It was asked for in this life, in which what is held may come.
    pub fn may_be_enabled(&mut self, life: u32) {
        if let Some((_, to @ None)) = self.held.last_mut() {
            *to = Some(life);
        }
    }

    pub fn was_not_enabled(&mut self) {
        if let (true, Some((_, to))) = (self.disabled, self.held.last_mut()) {
            *to = None;
        }
    }

    /// The secrets by one of which a request in this life has to be signed.
    fn secrets_in(&self, life: u32) -> &[Secret] {
        let is_sure = |secret: &Secret| secret.settled.is_some_and(|settled| settled < life);
        let first = self.secrets.iter().rposition(is_sure).unwrap_or(0);
        &self.secrets[first..]
    }
}

impl Books {
    pub fn new(seed: u64) -> Books {
        Books {
            seed,
            next_number: AtomicU64::new(0),
            is_dying: AtomicBool::new(false),
            clock: FastClock::new(SPEED),
            pages: Mutex::default(),
        }
    }

    pub fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().expect("no holder of the books panics")
    }

    /// The numbers of so many new messages, from the one returned on.
    pub fn take_numbers(&self, count: u64) -> u64 {
        self.next_number.fetch_add(count, Ordering::SeqCst)
    }

    pub fn is_dying(&self) -> bool {
        self.is_dying.load(Ordering::SeqCst)
    }

    pub fn wrong(&self, what: String) {
        self.pages().wrong.push(what);
    }

    /// By the server's clock.
    pub fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Time passes while no server runs.
    pub fn jump(&self, by: Duration) {
        self.clock.jump(by);
    }

    /// What tells a server this clock.
    pub fn planned_clock(&self) -> String {
        self.clock.planned()
    }

    pub fn begin_life(&self) {
        self.pages().life += 1;
        self.is_dying.store(false, Ordering::SeqCst);
    }

    /// Whether retention cannot have taken what is this old, for some time yet.
    pub fn is_kept(&self, asked_at: u64) -> bool {
        Duration::from_millis(self.now() - asked_at) + MARGIN < RETENTION
    }

    pub fn receive(&self, request: &Request<'_>) -> Reply {
        if request.path == "/settle" {
            return Reply::Status(200);
        }
        let mut pages = self.pages();
        let (uid, number) = match self.check(&pages, request) {
            Ok(found) => found,
            Err(why) => {
                pages.wrong.push(why);
                return Reply::Status(200);
            }
        };
        let life = pages.life;
        let receipts = pages.receipts.entry(uid.clone()).or_default();
        let receipts = receipts.entry(number).or_default();
        let reply = reply(self.seed, &uid, number, receipts.len());
        receipts.push(Receipt {
            life,
            succeeded: matches!(reply, Reply::Status(200) | Reply::Text(_)),
            message_id: request.header("webhook-id").unwrap_or_default().to_owned(),
        });
        reply
    }

    /// To which endpoint which message came, if it may and every byte of it is as published.
    fn check(&self, pages: &Pages, request: &Request<'_>) -> Result<(String, u64), String> {
        let uid = request.path.trim_start_matches('/').to_owned();
        let Some(endpoint) = pages.endpoints.get(&uid) else {
            return Err(format!("a request came for {}", request.path));
        };
        let number = number_of(request.body);
        let message = number.and_then(|number| Some((number, pages.messages.get(&number)?)));
        let Some((number, message)) = message else {
            let length = request.body.len();
            return Err(format!("nobody published what came: {length} bytes"));
        };
        if request.body != payload(self.seed, number).as_bytes() {
            return Err(format!("message {number} came with other bytes"));
        }
        if message.application != endpoint.application {
            return Err(format!("message {number} came to {uid}, of another one"));
        }
        let secrets = endpoint.secrets_in(pages.life);
        if !secrets.iter().any(|secret| signs(&secret.text, request)) {
            return Err(format!(
                "message {number} came to {uid} without the signature of its newest secret"
            ));
        }
        Ok((uid, number))
    }

    /// What should not have happened, by what was received until now.
    pub fn check_receipts(&self) {
        let mut pages = self.pages();
        let mut wrong = Vec::new();
        for (uid, received) in &pages.receipts {
            let endpoint = &pages.endpoints[uid];
            for (number, receipts) in received {
                let message = &pages.messages[number];
                for receipt in receipts {
                    if let Some(why) = misplaced(receipt, message, endpoint) {
                        let life = receipt.life;
                        wrong.push(format!(
                            "message {number} came to {uid} in life {life} {why}"
                        ));
                    }
                }
            }
        }
        pages.wrong.append(&mut wrong);
    }

    /// Deliveries that were promised and have not come, as endpoint and message.
    pub fn outstanding(&self) -> Vec<(String, u64)> {
        let pages = self.pages();
        let mut outstanding = Vec::new();
        for (uid, owed) in &pages.owed {
            if pages.endpoints[uid].deleted.is_some() {
                continue;
            }
            let still = owed.iter().filter(|(number, count)| {
                let message = &pages.messages[number];
                message.erased.is_none() && pages.successes(uid, **number) < **count
            });
            outstanding.extend(still.map(|(number, _)| (uid.clone(), *number)));
        }
        outstanding
    }
}

/// Why a request should not have come.
fn misplaced(receipt: &Receipt, message: &Message, endpoint: &Endpoint) -> Option<String> {
    let Receipt {
        life, message_id, ..
    } = receipt;
    if message.fate == Fate::Absent {
        return Some("and was not there after its answer had not come".to_owned());
    }
    if message.id.as_ref().is_some_and(|id| id != message_id) {
        return Some(format!("as {message_id} and is {:?}", message.id));
    }
    if message.erased.is_some_and(|erased| erased < *life) {
        return Some("and had been erased".to_owned());
    }
    if endpoint.deleted.is_some_and(|deleted| deleted < *life) {
        return Some("which had been deleted".to_owned());
    }
    let is_held = |(from, to): &(u32, Option<u32>)| from < life && to.is_none_or(|to| *life < to);
    endpoint
        .held
        .iter()
        .any(is_held)
        .then(|| "which was disabled".to_owned())
}

impl Pages {
    /// Of requests for a message to an endpoint, those that were answered with success.
    pub fn successes(&self, uid: &str, number: u64) -> usize {
        let receipts = self.receipts.get(uid).and_then(|all| all.get(&number));
        receipts.map_or(0, |receipts| {
            receipts.iter().filter(|one| one.succeeded).count()
        })
    }

    pub fn received(&self) -> usize {
        let by_message = self.receipts.values().flat_map(HashMap::values);
        by_message.map(Vec::len).sum()
    }

    pub fn owe(&mut self, uid: &str, number: u64, successes: usize) {
        let owed = self.owed.entry(uid.to_owned()).or_default();
        let count = owed.entry(number).or_default();
        *count = successes.max(*count);
    }

    /// The endpoints of an application that are there, by their uids.
    pub fn endpoints_of<'a>(
        &'a self,
        application: &'a str,
    ) -> impl Iterator<Item = (&'a String, &'a Endpoint)> {
        let all = self.endpoints.iter();
        all.filter(move |(_, one)| one.application == application && one.deleted.is_none())
    }

    /// What has been held for longer than `horizon` may be forgotten.
    pub fn enable(&mut self, uid: &str, life: u32, horizon: u64) {
        if let Some((_, to)) = self.endpoint(uid).held.last_mut() {
            *to = Some(life);
        }
        self.endpoint(uid).disabled = false;
        if let Some(owed) = self.owed.get_mut(uid) {
            let messages = &self.messages;
            owed.retain(|number, _| messages[number].asked_at > horizon);
        }
    }

    pub fn disable(&mut self, uid: &str, life: u32) {
        let endpoint = self.endpoint(uid);
        endpoint.disabled = true;
        endpoint.held.push((life, None));
    }

    pub fn endpoint(&mut self, uid: &str) -> &mut Endpoint {
        self.endpoints.get_mut(uid).expect("it was made")
    }

    pub fn message(&mut self, number: u64) -> &mut Message {
        self.messages.get_mut(&number).expect("it was asked for")
    }
}

/// What the receiver answers: mostly success at once, at times an error or nothing at first.
fn reply(seed: u64, uid: &str, number: u64, earlier: usize) -> Reply {
    let salt = uid.bytes().fold(earlier as u64, |hash, byte| {
        hash.wrapping_mul(31).wrapping_add(u64::from(byte))
    });
    let lot = StdRng::seed_from_u64(seed ^ number ^ salt << 32).random_range(0..200);
    match (lot, earlier) {
        (0..12, 0..2) => Reply::Status(500),
        (12..14, 0) => Reply::Never,
        (14..24, _) => Reply::Text("taken"),
        _ => Reply::Status(200),
    }
}

/// What any re-serialisation would change; some are longer than one chunk of the store.
pub fn payload(seed: u64, number: u64) -> String {
    let mut random = StdRng::seed_from_u64(seed ^ number);
    let length = match random.random_range(0..100) {
        0..90 => random.random_range(100..1_500),
        90..99 => random.random_range(0..20_000),
        _ => 100_000,
    };
    let mut text = format!("{PREFIX}{number},  \"amount\" :1.10,\"text\":\"");
    while text.len() < length {
        write!(text, "{:016x}", random.random::<u64>()).expect("writing to a String succeeds");
    }
    text.push_str("\"}");
    text
}
