//! A store with some of everything, and what it shows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::process::client::Connection;
use super::process::receiver::{Receiver, Reply};
use super::process::{Api, Launch, until};

const APP: &str = "/api/v1/app/app";
/// Enough for some slices of a megabyte.
const MESSAGES: usize = 80;
const LIVES: usize = 3;
/// The message in the last record before the crash: no delivery of it is due.
pub const LAST: usize = LIVES * MESSAGES;
const SOON: Duration = Duration::from_secs(60);

/// What a server answers: to each question a status and a body.
pub type Answers = BTreeMap<Question, (u16, Value)>;

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Question {
    Get(String),
    /// Publishing again with a key that was used: the same message.
    Once(usize),
    /// Publishing again with an event id that was used: refused.
    EventId(usize),
}

pub struct Known {
    pub data: PathBuf,
    pub token: String,
    /// Of each message its id, by its number.
    ids: Vec<String>,
    erased: BTreeSet<usize>,
    /// The numbers of those that wait at the endpoint that is disabled.
    pub held: BTreeSet<usize>,
    paths: Vec<String>,
}

pub fn launch(data: &Path) -> Launch {
    Launch::new(data)
        // Without one the log complains.
        .set("server.public_url", "https://hooks.invalid")
        .set("store.slice_bytes", 1024 * 1024)
        .set("store.min_free_bytes", 1024 * 1024)
        .set("delivery.retry_delays_seconds", "36000,36000")
}

/// What a message says: no two are alike, some are short and some are long.
pub fn payload(number: usize) -> Value {
    let text: String = (0..number % 8 * 2_000)
        .map(|place| char::from(b'a' + ((number * 7 + place * place) % 26) as u8))
        .collect();
    json!({ "number": number, "text": text })
}

fn message(number: usize) -> Value {
    json!({
        "eventType": match number {
            LAST => "c",
            number if number.is_multiple_of(3) => "a",
            _ => "b",
        },
        "eventId": format!("event-{number}"),
        "tags": [format!("n{number}"), if number.is_multiple_of(4) { "t" } else { "u" }],
        "payload": payload(number),
    })
}

/// Makes the store in `data` and kills its server.
pub fn make(data: PathBuf) -> Known {
    let receiver = Receiver::start(|request| match request.path {
        "/good" => Reply::Text("a good answer"),
        "/bad" => Reply::Status(500),
        _ => Reply::Status(404),
    });
    let mut ids = Vec::new();
    // Two lives that stop, so that there is something closed, exported and flushed; and one that is killed.
    for life in 0..LIVES {
        let mut server = launch(&data).start();
        let api = &server.api;
        if life == 0 {
            register(api, &receiver);
        }
        let mut connection = api.connect().expect("the server accepts");
        let numbers = life * MESSAGES..(life + 1) * MESSAGES;
        for number in numbers {
            ids.extend(publish(&mut connection, number));
        }
        settle(api, ids.len());
        change(api, life, &ids);
        settle(api, ids.len());
        if life + 1 < LIVES {
            server.process.terminate();
            let status = server.process.wait(SOON).expect("it stops");
            assert!(status.success(), "{}", server.process.log());
            continue;
        }
        ids.extend(publish(&mut connection, LAST));
        server.process.kill();
        let token = std::fs::read_to_string(data.join("owner.token")).expect("it was made");
        let erased = BTreeSet::from([4, MESSAGES + 4]);
        let held = (0..ids.len()).filter(|number| is_held(*number) && !erased.contains(number));
        let held = held.collect();
        let paths = paths(&ids);
        return Known {
            data,
            token: token.trim().to_owned(),
            ids,
            erased,
            held,
            paths,
        };
    }
    unreachable!("the third life returns")
}

/// The disabled endpoint has the event types "a" and "c".
fn is_held(number: usize) -> bool {
    number.is_multiple_of(3)
}

fn register(api: &Api, receiver: &Receiver) {
    for name in ["a", "b", "unused"] {
        let body = json!({ "name": name, "description": name, "example": { "of": name } });
        api.call("POST", "/api/v1/event-type", &body, 201);
    }
    for uid in ["app", "other"] {
        let body = json!({ "name": uid, "uid": uid, "metadata": { "for": uid } });
        api.call("POST", "/api/v1/app", &body, 201);
    }
    for (uid, path, only) in [
        ("good", "/good", ["a", "b"]),
        ("bad", "/bad", ["b", "b"]),
        ("held", "/held", ["a", "c"]),
    ] {
        let body = json!({
            "uid": uid, "url": receiver.url(path), "disabled": uid == "held", "eventTypes": only,
            "description": "to be read again", "metadata": { "name": uid },
            "headers": { "x-name": uid },
        });
        api.call("POST", &format!("{APP}/endpoint"), &body, 201);
    }
    let body = json!({ "name": "a token", "role": "publisher" });
    api.call("POST", "/api/v1/token", &body, 201);
}

fn publish(connection: &mut Connection, number: usize) -> Option<String> {
    let key = format!("key-{number}");
    let body = message(number).to_string();
    let path = format!("{APP}/msg?with_content=false");
    let answer = connection.request_once("POST", &path, &body, Some(&key));
    let answer = answer.expect("an answer");
    let text = String::from_utf8_lossy(&answer.body);
    assert_eq!(answer.status, 202, "{text}");
    let body: Value = serde_json::from_str(&text).expect("JSON");
    body["id"].as_str().map(str::to_owned)
}

/// Rotates, erases, changes and sends again.
fn change(api: &Api, life: usize, ids: &[String]) {
    let secret = format!("{APP}/endpoint/good/secret/rotate");
    api.call("POST", &secret, &json!({}), 200);
    let body = json!({ "description": format!("changed in life {life}") });
    api.call("PATCH", &format!("{APP}/endpoint/bad"), &body, 200);
    let body = json!({ "name": format!("changed in life {life}") });
    api.call("PATCH", "/api/v1/app/other", &body, 200);
    if life + 1 < LIVES {
        let erased = &ids[life * MESSAGES + 4];
        let path = format!("{APP}/msg/{erased}/content");
        api.call("DELETE", &path, &Value::Null, 204);
        let body = json!({ "since": "1970-01-01T00:00:00Z", "status": 0, "tag": "n1" });
        let path = format!("{APP}/endpoint/good/bulk-replay");
        let job = api.call("POST", &path, &body, 202);
        let path = format!("/api/v1/background-task/{}", job["id"].as_str().unwrap());
        let is_over = || (api.get(&path)["state"] == "finished").then_some(());
        until(SOON, is_over).expect("the job ends");
    }
}

/// Waits until all that is due was attempted, and its outcome is on record.
fn settle(api: &Api, messages: usize) {
    // Each message waits at one endpoint, held or for its retry.
    let is_settled = || {
        let status = api.get("/api/v1/status");
        (status["waiting"] == messages && status["inFlight"] == 0).then_some(())
    };
    until(SOON, is_settled).unwrap_or_else(|| {
        let status = api.get("/api/v1/status");
        panic!("{messages} deliveries should wait: {status}")
    });
}

fn paths(ids: &[String]) -> Vec<String> {
    let mut paths: Vec<String> = [
        "/api/v1/app",
        "/api/v1/app/app",
        "/api/v1/app/other",
        "/api/v1/event-type?with_content=true",
        "/api/v1/event-type/unused",
        "/api/v1/token",
        "/api/v1/background-task",
        "/api/v1/app/app/endpoint",
    ]
    .map(str::to_owned)
    .into();
    for page in [
        "limit=250&with_content=false",
        "limit=100&tag=t&with_content=false",
    ] {
        paths.push(format!("{APP}/msg?{page}"));
    }
    for endpoint in ["good", "bad", "held"] {
        for what in ["", "/secret", "/headers"] {
            paths.push(format!("{APP}/endpoint/{endpoint}{what}"));
        }
        paths.push(format!(
            "{APP}/endpoint/{endpoint}/msg?limit=250&with_content=false"
        ));
        paths.push(format!("{APP}/attempt/endpoint/{endpoint}?limit=250"));
    }
    for (number, id) in ids.iter().enumerate() {
        paths.push(format!("{APP}/msg/{id}"));
        if number.is_multiple_of(5) {
            paths.push(format!("{APP}/msg/event-{number}"));
            paths.push(format!("{APP}/msg/{id}/endpoint"));
            paths.push(format!("{APP}/attempt/msg/{id}"));
        }
    }
    paths
}

impl Known {
    /// Asks a server everything; an error is an answer that did not come.
    pub fn ask(&self, api: &Api) -> Result<Answers, String> {
        let mut connection = api.connect().map_err(|error| error.to_string())?;
        let mut answers = Answers::new();
        for question in self.questions() {
            let (method, path, body, key) = match &question {
                Question::Get(path) => ("GET", path.clone(), String::new(), None),
                Question::Once(number) => {
                    let key = format!("key-{number}");
                    let path = format!("{APP}/msg?with_content=false");
                    ("POST", path, message(*number).to_string(), Some(key))
                }
                Question::EventId(number) => {
                    let path = format!("{APP}/msg?with_content=false");
                    ("POST", path, message(*number).to_string(), None)
                }
            };
            let answer = connection.request_once(method, &path, &body, key.as_deref());
            let answer = answer.map_err(|error| format!("{question:?}: {error}"))?;
            let body = match answer.body.is_empty() {
                true => Value::Null,
                false => serde_json::from_slice(&answer.body)
                    .map_err(|error| format!("{question:?}: {error}"))?,
            };
            answers.insert(question, (answer.status, without_times(body)));
        }
        Ok(answers)
    }

    fn questions(&self) -> Vec<Question> {
        let mut questions = Vec::new();
        questions.extend(self.paths.iter().cloned().map(Question::Get));
        // Of each life some, none of which is the last record.
        let some = (3..LAST).step_by(23);
        questions.extend(some.clone().map(Question::Once));
        questions.extend(some.map(Question::EventId));
        questions
    }

    /// Where an answer is not what was published: by the payloads, which are known for sure.
    pub fn contradicted(&self, answers: &Answers) -> Option<String> {
        self.ids.iter().enumerate().find_map(|(number, id)| {
            let question = Question::Get(format!("{APP}/msg/{id}"));
            let (status, shown) = answers.get(&question)?;
            let expected = match self.erased.contains(&number) {
                true => json!({ "expired": true }),
                false => payload(number),
            };
            let differs = *status == 200 && shown["payload"] != expected;
            differs.then(|| format!("message {number} is shown as {}", brief(shown)))
        })
    }

    pub fn last_id(&self) -> &str {
        &self.ids[LAST]
    }

    /// Enables the endpoint that holds its messages and has them sent elsewhere: what comes there. An
    /// error is what nobody published.
    pub fn release(&self, api: &Api, limit: Duration) -> Result<BTreeSet<usize>, String> {
        let come = Arc::new(std::sync::Mutex::new(BTreeSet::new()));
        let wrong = Arc::new(AtomicUsize::new(0));
        let receiver = {
            let (come, wrong) = (come.clone(), wrong.clone());
            Receiver::start(move |request| {
                let body: Value = serde_json::from_slice(request.body).unwrap_or(Value::Null);
                match body["number"].as_u64().map(|number| number as usize) {
                    Some(number) if body == payload(number) => {
                        come.lock().expect("nobody panics").insert(number);
                    }
                    _ => {
                        wrong.fetch_add(1, Ordering::SeqCst);
                    }
                }
                Reply::Status(200)
            })
        };
        let body = json!({ "disabled": false, "url": receiver.url("/held") }).to_string();
        let answer = api.request("PATCH", &format!("{APP}/endpoint/held"), &body);
        // Refused where nothing can be changed any more: then nothing comes.
        if answer.is_err() || answer.is_ok_and(|answer| answer.status == 503) {
            return Ok(BTreeSet::new());
        }
        let found = || come.lock().expect("nobody panics").clone();
        until(limit, || (found().is_superset(&self.held)).then_some(()));
        match wrong.load(Ordering::SeqCst) {
            0 => Ok(found()),
            count => Err(format!("{count} bodies came that nobody published")),
        }
    }
}

pub fn brief(value: &Value) -> String {
    value.to_string().chars().take(400).collect()
}

/// When a token was last used moves with each question.
fn without_times(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            fields.retain(|name, _| name != "lastUsedAt");
            for field in fields.values_mut() {
                *field = without_times(field.take());
            }
        }
        Value::Array(items) => {
            for item in items {
                *item = without_times(item.take());
            }
        }
        _ => {}
    }
    value
}
