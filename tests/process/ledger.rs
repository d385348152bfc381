//! The books of a test that kills its server: what was published and accepted, what was received,
//! and whether the two agree with what postrider promises.
//!
//! A server's *life* is from one start to the next. [`Ledger::publish`] publishes during a life; the receiver hands every request to [`Ledger::receive`]; between two lives, once the
//! receiver has settled, comes [`Ledger::begin_life`]. Payloads follow from the seed and the
//! message's number alone, so that every received byte can be checked and nothing need be kept.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::client::Connection;
use super::receiver::{Receiver, Reply, Request};
use super::{Api, until};

pub const EVENT_TYPE: &str = "ledger.entry";

/// The paths of the receiver at which the endpoints stand.
pub const ENDPOINTS: [&str; 2] = ["/first", "/second"];

pub struct Ledger {
    seed: u64,
    /// Of every so many deliveries one is answered 500 the first time; 0 for none.
    fail_every: u64,
    next_number: AtomicU64,
    books: Mutex<Books>,
    delivered: Condvar,
}

/// How a life ends.
pub struct End {
    dying: AtomicBool,
    voids_late_answers: bool,
}

impl End {
    /// By a kill: a 202 that was sent before counts, whenever it is read.
    pub fn by_kill() -> End {
        End {
            dying: AtomicBool::new(false),
            voids_late_answers: false,
        }
    }

    /// By a cut of the power, after which nothing is sent by a real machine. The one of a test still
    /// runs, and its file system, shut down in the middle of a sync, may say that the sync
    /// succeeded though nothing of it is kept: what is answered from then on counts for nothing.
    pub fn by_power_cut() -> End {
        End {
            dying: AtomicBool::new(false),
            voids_late_answers: true,
        }
    }

    /// To be said just before it comes.
    pub fn comes(&self) {
        self.dying.store(true, Ordering::SeqCst);
    }
}

#[derive(Default)]
struct Books {
    life: u32,
    /// The message ids that a 202 gave.
    accepted: HashMap<u64, String>,
    /// By endpoint and message number.
    receipts: HashMap<(usize, u64), Vec<Receipt>>,
    /// Deliveries of accepted messages that have not been answered 200.
    outstanding: usize,
    /// What should not have come at all.
    wrong: Vec<String>,
}

struct Receipt {
    life: u32,
    delivered: bool,
    message_id: String,
}

impl Ledger {
    pub fn new(seed: u64, fail_every: u64) -> Ledger {
        Ledger {
            seed,
            fail_every,
            next_number: AtomicU64::new(0),
            books: Mutex::default(),
            delivered: Condvar::new(),
        }
    }

    /// Registers the application and its endpoints at the receiver; returns where to publish.
    pub fn register(api: &Api, receiver: &Receiver) -> String {
        let event_type = json!({ "name": EVENT_TYPE, "description": "for the books" });
        api.call("POST", "/api/v1/event-type", &event_type, 201);
        let application = api.call("POST", "/api/v1/app", &json!({ "name": "ledger" }), 201);
        let application = application["id"].as_str().expect("an application's id");
        for path in ENDPOINTS {
            api.call(
                "POST",
                &format!("/api/v1/app/{application}/endpoint"),
                &json!({ "url": receiver.url(path) }),
                201,
            );
        }
        format!("/api/v1/app/{application}/msg")
    }

    pub fn begin_life(&self) {
        self.lock().life += 1;
    }

    /// Publishes on so many connections until the server is gone. An error or an answer other
    /// than 202 before `end` goes into the books as wrong.
    pub fn publish(&self, api: &Api, path: &str, connections: usize, end: &End) {
        std::thread::scope(|scope| {
            for _ in 0..connections {
                scope.spawn(|| {
                    let why = self.publish_until_refused(api, path, end);
                    if !end.dying.load(Ordering::SeqCst) {
                        let why = format!("publishing failed: {why}");
                        self.lock().wrong.push(why);
                    }
                });
            }
        });
    }

    fn publish_until_refused(&self, api: &Api, path: &str, end: &End) -> String {
        let mut connection = match api.connect() {
            Ok(connection) => connection,
            Err(error) => return error.to_string(),
        };
        loop {
            let number = self.next_number();
            if let Err(why) = self.publish_one(&mut connection, path, number, None, end) {
                return why;
            }
        }
    }

    /// The number of a message that is to be published.
    pub fn next_number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::SeqCst)
    }

    /// Publishes this message; with a key, again where its answer did not come. An error is an answer that
    /// is no acceptance, or came after `end`.
    pub fn publish_one(
        &self,
        connection: &mut Connection,
        path: &str,
        number: u64,
        key: Option<&str>,
        end: &End,
    ) -> Result<(), String> {
        let body = format!(
            r#"{{"eventType":"{EVENT_TYPE}","payload":{}}}"#,
            payload(self.seed, number)
        );
        let answer = connection.request_once("POST", path, &body, key);
        let answer = answer.map_err(|error| error.to_string())?;
        if answer.status != 202 {
            let text = String::from_utf8_lossy(&answer.body);
            return Err(format!("{} {text}", answer.status));
        }
        let message: Value = serde_json::from_slice(&answer.body)
            .map_err(|error| format!("202 with a body that is not JSON: {error}"))?;
        if end.voids_late_answers && end.dying.load(Ordering::SeqCst) {
            return Err("it answered without power".to_owned());
        }
        self.accept(number, message["id"].as_str().unwrap_or_default());
        Ok(())
    }

    fn accept(&self, number: u64, message_id: &str) {
        let mut books = self.lock();
        books.accepted.insert(number, message_id.to_owned());
        let delivered = (0..ENDPOINTS.len())
            .filter(|endpoint| books.is_delivered(*endpoint, number))
            .count();
        books.outstanding += ENDPOINTS.len() - delivered;
    }

    pub fn receive(&self, request: &Request<'_>) -> Reply {
        if request.path == "/settle" {
            return Reply::Status(200);
        }
        let mut books = self.lock();
        let (endpoint, number) = match self.check(request) {
            Ok(found) => found,
            Err(why) => {
                books.wrong.push(why);
                return Reply::Status(200);
            }
        };
        let seen_before = books.receipts.contains_key(&(endpoint, number));
        let fails = self.fail_every != 0 && !seen_before && number.is_multiple_of(self.fail_every);
        let receipt = Receipt {
            life: books.life,
            delivered: !fails,
            message_id: request.header("webhook-id").unwrap_or_default().to_owned(),
        };
        let news = !fails && !books.is_delivered(endpoint, number);
        books
            .receipts
            .entry((endpoint, number))
            .or_default()
            .push(receipt);
        if news && books.accepted.contains_key(&number) {
            books.outstanding -= 1;
            self.delivered.notify_all();
        }
        Reply::Status(if fails { 500 } else { 200 })
    }

    /// Which delivery a request is, if every byte of it is as published.
    fn check(&self, request: &Request<'_>) -> Result<(usize, u64), String> {
        let endpoint = ENDPOINTS
            .iter()
            .position(|path| *path == request.path)
            .ok_or_else(|| format!("a request for {}", request.path))?;
        let number = number_of(request.body)
            .filter(|number| *number < self.next_number.load(Ordering::SeqCst))
            .ok_or_else(|| format!("a body that nobody published, {} bytes", request.body.len()))?;
        if request.body != payload(self.seed, number).as_bytes() {
            return Err(format!("message {number} came with other bytes"));
        }
        Ok((endpoint, number))
    }

    /// Waits until every accepted message has been delivered everywhere. Panics when that does
    /// not come about in time or the server ends.
    pub fn wait_delivered(&self, limit: Duration, api: &Api) {
        let deadline = Instant::now() + limit;
        let mut books = self.lock();
        while books.outstanding > 0 && Instant::now() < deadline && !api.is_gone() {
            // Looks up now and then, for nobody tells it that the server died.
            (books, _) = self
                .delivered
                .wait_timeout(books, Duration::from_millis(200))
                .expect("no holder of the books panics");
        }
        if books.outstanding == 0 {
            return;
        }
        let mut lost: Vec<u64> = books
            .accepted
            .keys()
            .copied()
            .filter(|number| (0..ENDPOINTS.len()).any(|one| !books.is_delivered(one, *number)))
            .collect();
        lost.sort_unstable();
        panic!(
            "{} deliveries of accepted messages are missing, of messages {:?}{}; what the server \
             knows of the first:\n{}\nits log:\n{}",
            books.outstanding,
            &lost[..lost.len().min(20)],
            if lost.len() > 20 { " …" } else { "" },
            known_of(api, &books.accepted[&lost[0]]),
            api.log()
        );
    }

    /// What must hold at any time: nothing came that was not published, nothing came again after
    /// it was delivered except, after a kill, what had been in flight, with the same message id.
    /// `in_flight_max` is what one endpoint may have sent whose outcome is not yet on disk.
    pub fn check_books(&self, in_flight_max: usize) -> Totals {
        let books = self.lock();
        assert!(
            books.wrong.is_empty(),
            "{} things are wrong; the first: {}",
            books.wrong.len(),
            books.wrong[0]
        );
        // By endpoint and the life at whose end the repeated attempt was in flight.
        let mut repeats: HashMap<(usize, u32), usize> = HashMap::new();
        for ((endpoint, number), receipts) in &books.receipts {
            let id = &receipts[0].message_id;
            let accepted_id = books.accepted.get(number).unwrap_or(id);
            for receipt in receipts {
                assert!(
                    receipt.message_id == *id && accepted_id == id,
                    "message {number}, accepted as {accepted_id}, came as {id} and as {}",
                    receipt.message_id
                );
            }
            for pair in receipts.windows(2) {
                if !pair[0].delivered {
                    continue;
                }
                assert_ne!(
                    pair[0].life, pair[1].life,
                    "message {number} was delivered twice by one process"
                );
                *repeats.entry((*endpoint, pair[0].life)).or_default() += 1;
            }
        }
        for ((endpoint, life), count) in &repeats {
            assert!(
                *count <= in_flight_max,
                "after life {life}, {count} delivered messages came again at endpoint {endpoint}; \
                 at most {in_flight_max} may have been in flight"
            );
        }
        Totals {
            accepted: books.accepted.len(),
            received: books.receipts.values().map(Vec::len).sum(),
            repeated: repeats.values().sum(),
            repeated_at_once: repeats.values().copied().max().unwrap_or(0),
        }
    }

    pub fn accepted(&self) -> usize {
        self.lock().accepted.len()
    }

    pub fn wait_accepted(&self, count: usize, limit: Duration) {
        until(limit, || (self.accepted() >= count).then_some(()))
            .unwrap_or_else(|| panic!("{count} messages are not accepted within {limit:?}"));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Books> {
        self.books.lock().expect("no holder of the books panics")
    }
}

/// The message, its attempts and how much waits: tells one that is lost from one that is stuck.
fn known_of(api: &Api, message_id: &str) -> String {
    let applications = api.get("/api/v1/app");
    let application = applications["data"][0]["id"].as_str().unwrap_or_default();
    let base = format!("/api/v1/app/{application}");
    [
        format!("{base}/msg/{message_id}?with_content=false"),
        format!("{base}/attempt/msg/{message_id}?with_content=false"),
        "/metrics".to_owned(),
    ]
    .map(|path| match api.request("GET", &path, "") {
        Ok(answer) => String::from_utf8_lossy(&answer.body)
            .lines()
            .filter(|line| path != "/metrics" || line.contains("deliveries_waiting "))
            .collect(),
        Err(error) => error.to_string(),
    })
    .join("\n")
}

/// What a run came to, for its last line.
#[derive(Debug)]
#[allow(dead_code, reason = "read through Debug")]
pub struct Totals {
    accepted: usize,
    received: usize,
    repeated: usize,
    /// The most that came again at one endpoint after one kill.
    repeated_at_once: usize,
}

impl Books {
    fn is_delivered(&self, endpoint: usize, number: u64) -> bool {
        self.receipts
            .get(&(endpoint, number))
            .is_some_and(|receipts| receipts.iter().any(|receipt| receipt.delivered))
    }
}

/// How the payloads begin, before their number.
pub const PREFIX: &str = r#"{"number": "#;

/// A payload that any re-serialisation would change: odd spacing, a repeated key, a number with a
/// trailing zero. Most are about 1 KiB, some fill several chunks of the store.
fn payload(seed: u64, number: u64) -> String {
    let mut random = StdRng::seed_from_u64(seed ^ number);
    let length = match random.random_range(0..100) {
        0..90 => 1_024,
        90..99 => random.random_range(0..20_000),
        _ => 150_000,
    };
    let mut text = format!("{PREFIX}{number},  \"amount\" :1.10,\"amount\":1.1,\"text\":\"");
    while text.len() < length {
        write!(text, "{:016x}", random.random::<u64>()).expect("writing to a String succeeds");
    }
    text.push_str("\"}");
    text
}

/// The number in a payload.
pub fn number_of(payload: &[u8]) -> Option<u64> {
    let digits = payload.strip_prefix(PREFIX.as_bytes())?;
    let end = digits.iter().position(|byte| *byte == b',')?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}
