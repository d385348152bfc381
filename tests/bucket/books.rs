//! What was published, accepted and received, and whether a store has it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::process::Api;
use crate::process::client::Connection;
use crate::process::receiver::{Reply, Request};

pub const EVENT_TYPE: &str = "bucket.entry";
/// It is in every payload.
pub const IN_EVERY_PAYLOAD: &str = "every payload of this suite has these words";
/// It is in the answer to every delivery, which the log of attempts keeps.
pub const IN_EVERY_ANSWER: &str = "every receiver of this suite answers this";

const ARRIVES_WITHIN: Duration = Duration::from_secs(60);
/// Bytes of a usual payload.
pub const USUAL: usize = 1_000;

/// A message that a 202 has accepted.
#[derive(Clone)]
pub struct Accepted {
    pub id: String,
    /// When the answer was here. The message's commit is not later.
    pub answered_at: Timestamp,
}

#[derive(Default)]
pub struct Books {
    state: Mutex<State>,
    received: Condvar,
}

#[derive(Default)]
struct State {
    /// By the messages' numbers, as everything here.
    payloads: BTreeMap<u64, String>,
    accepted: BTreeMap<u64, Accepted>,
    received: BTreeSet<u64>,
    wrong: Vec<String>,
}

impl Books {
    /// Publishes a message whose payload has about so many bytes. Returns its number.
    pub fn publish(
        &self,
        connection: &mut Connection,
        path: &str,
        bytes: usize,
    ) -> Result<u64, String> {
        let (number, payload) = self.next(bytes);
        let body = format!(r#"{{"eventType":"{EVENT_TYPE}","payload":{payload}}}"#);
        let answer = connection.request("POST", path, &body);
        let answer = answer.map_err(|error| error.to_string())?;
        let answered_at = Timestamp::now();
        if answer.status != 202 {
            let text = String::from_utf8_lossy(&answer.body);
            return Err(format!("{} {text}", answer.status));
        }
        let message: Value =
            serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
        let id = message["id"]
            .as_str()
            .ok_or("a message without an id")?
            .to_owned();
        let accepted = Accepted { id, answered_at };
        self.state().accepted.insert(number, accepted);
        Ok(number)
    }

    /// Publishes so many messages, one after the other. Returns their numbers.
    pub fn publish_some(&self, api: &Api, path: &str, count: usize, bytes: usize) -> Vec<u64> {
        let mut connection = api.connect().expect("the server accepts");
        let mut publish = || self.publish(&mut connection, path, bytes);
        let numbers =
            (0..count).map(|_| publish().unwrap_or_else(|error| panic!("{error}; {}", api.log())));
        numbers.collect()
    }

    fn next(&self, bytes: usize) -> (u64, String) {
        let mut state = self.state();
        let number = state.payloads.len() as u64;
        let mut payload =
            format!(r#"{{"number": {number},  "words" :"{IN_EVERY_PAYLOAD}","text":""#);
        while payload.len() < bytes {
            payload.push_str(&format!("{:016x}", rand::random::<u64>()));
        }
        payload.push_str("\"}");
        state.payloads.insert(number, payload.clone());
        (number, payload)
    }

    pub fn receive(&self, request: &Request<'_>) -> Reply {
        let mut state = self.state();
        let body: Value = serde_json::from_slice(request.body).unwrap_or_default();
        let number = body["number"].as_u64();
        let published = number.and_then(|number| state.payloads.get(&number));
        match number.filter(|_| published.is_some_and(|payload| payload.as_bytes() == request.body))
        {
            Some(number) => {
                state.received.insert(number);
                self.received.notify_all();
            }
            None => state
                .wrong
                .push(format!("{number:?} came with other bytes")),
        }
        Reply::Text(IN_EVERY_ANSWER)
    }

    /// The messages that were accepted so far.
    pub fn accepted(&self) -> BTreeMap<u64, Accepted> {
        self.state().accepted.clone()
    }

    /// Those whose answer was here before this moment.
    pub fn accepted_before(&self, moment: Timestamp) -> BTreeMap<u64, Accepted> {
        let mut accepted = self.accepted();
        accepted.retain(|_, one| one.answered_at < moment);
        accepted
    }

    /// How many messages arrived so far.
    pub fn arrived(&self) -> usize {
        self.state().received.len()
    }

    pub fn payload(&self, number: u64) -> String {
        self.state().payloads[&number].clone()
    }

    /// Waits until all of these have arrived. False where they do not arrive in time.
    pub fn arrive(&self, numbers: &[u64]) -> bool {
        let is_missing =
            |state: &mut State| !numbers.iter().all(|number| state.received.contains(number));
        let waited = self
            .received
            .wait_timeout_while(self.state(), ARRIVES_WITHIN, is_missing);
        !waited.expect("no holder of the books panics").1.timed_out()
    }

    pub fn note_wrong(&self, what: String) {
        self.state().wrong.push(what);
    }

    pub fn assert_all_is_right(&self) {
        let state = self.state();
        assert!(
            state.wrong.is_empty(),
            "{} wrong, first {}",
            state.wrong.len(),
            state.wrong[0]
        );
    }

    /// A server has all of these messages, byte for byte. Returns the ids of those that it has beside them.
    pub fn assert_has(
        &self,
        api: &Api,
        path: &str,
        accepted: &BTreeMap<u64, Accepted>,
    ) -> BTreeSet<String> {
        let mut found = read_through(api, path);
        for (number, Accepted { id, .. }) in accepted {
            let payload = found.remove(id);
            assert!(
                payload.is_some(),
                "message {number}, {id}, is not there; {}",
                api.log()
            );
            assert_eq!(
                payload,
                Some(self.payload(*number)),
                "message {number}, {id}"
            );
        }
        found.into_keys().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the books panics")
    }
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    data: Vec<Message<'a>>,
    done: bool,
    iterator: Option<String>,
}

#[derive(Deserialize)]
struct Message<'a> {
    id: String,
    #[serde(borrow)]
    payload: &'a RawValue,
}

/// The payloads of all messages of an application, by the messages' ids.
fn read_through(api: &Api, path: &str) -> BTreeMap<String, String> {
    let mut connection = api.connect().expect("the server accepts");
    let mut all = BTreeMap::new();
    let mut iterator = String::new();
    loop {
        let path = format!("{path}?limit=250&iterator={iterator}");
        let answer = connection.request("GET", &path, "");
        let answer = answer.unwrap_or_else(|error| panic!("{path}: {error}; {}", api.log()));
        assert_eq!(answer.status, 200, "{path}; {}", api.log());
        let page: Page = serde_json::from_slice(&answer.body).expect("a page of messages");
        let payload = |one: Message| (one.id, one.payload.get().to_owned());
        all.extend(page.data.into_iter().map(payload));
        match page.iterator.filter(|_| !page.done) {
            Some(next) => iterator = next,
            None => return all,
        }
    }
}
