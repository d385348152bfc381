//! The same for answers of every kind: each change that is answered with a 2xx is synced before.

use std::time::Duration;

use serde_json::{Value, json};

use super::TRACED;
use super::process::client::Connection;
use super::process::receiver::{Receiver, Reply};
use super::process::{Api, Launch, Server, can_run, scratch, until};
use super::trace::{
    Call, RECEIVING, SENDING, finished, is_of_journal, missing, synced_before, tracer,
};

const SOON: Duration = Duration::from_secs(60);
const APP: &str = "/api/v1/app/main";

/// A kind of change, and how one is made; the number is another each time.
type Kind = (&'static str, fn(&mut Client, usize) -> Option<()>);

const KINDS: &[Kind] = &[
    ("an application", |client, number| {
        let uid = format!("app-{number}");
        let body = json!({ "name": uid, "uid": uid });
        client.call("POST", "/api/v1/app", body)?;
        let path = format!("/api/v1/app/{uid}");
        client.call("PUT", &path, json!({ "name": "replaced", "uid": uid }))?;
        client.call("PATCH", &path, json!({ "name": "changed" }))?;
        client.call("DELETE", &path, Value::Null).map(drop)
    }),
    ("an endpoint", |client, number| {
        let (uid, url) = (format!("endpoint-{number}"), "https://example.com/");
        let body = json!({ "url": url, "uid": uid, "disabled": true, "eventTypes": ["none"] });
        client.call("POST", &format!("{APP}/endpoint"), body)?;
        let path = format!("{APP}/endpoint/{uid}");
        client.call("PATCH", &path, json!({ "description": "changed" }))?;
        let headers = json!({ "headers": { "x-name": uid } });
        client.call("PATCH", &format!("{path}/headers"), headers)?;
        client.call("POST", &format!("{path}/secret/rotate"), json!({}))?;
        client.call("DELETE", &path, Value::Null).map(drop)
    }),
    ("the platform's own endpoint", |client, number| {
        let (uid, url) = (format!("own-{number}"), "https://example.com/");
        let body = json!({ "url": url, "uid": uid, "disabled": true });
        let path = "/api/v1/operational-webhook/endpoint";
        client.call("POST", path, body)?;
        client
            .call("DELETE", &format!("{path}/{uid}"), Value::Null)
            .map(drop)
    }),
    ("an event type", |client, number| {
        let name = format!("type.{number}");
        let body = json!({ "name": name, "description": "new" });
        client.call("POST", "/api/v1/event-type", body)?;
        let path = format!("/api/v1/event-type/{name}");
        client.call("PATCH", &path, json!({ "description": "changed" }))?;
        client.call("DELETE", &path, Value::Null).map(drop)
    }),
    ("event types of a document", |client, number| {
        let webhook = json!({ "post": { "description": "imported" } });
        let spec = json!({
            "openapi": "3.1.0", "info": { "title": "a", "version": "1" },
            "webhooks": { format!("imported.{number}"): webhook },
        });
        let path = "/api/v1/event-type/import/openapi";
        client.call("POST", path, json!({ "spec": spec })).map(drop)
    }),
    ("a token", |client, number| {
        let name = format!("token {number}");
        let body = json!({ "name": name, "role": "webhook_user" });
        let made = client.call("POST", "/api/v1/token", body)?;
        let path = format!("/api/v1/token/{}", id_of(&made));
        let grant = format!("{path}/application/main");
        client.call("PUT", &grant, Value::Null)?;
        client.call("DELETE", &grant, Value::Null)?;
        client.call("DELETE", &path, Value::Null).map(drop)
    }),
    ("a key of an application", |client, number| {
        let body = json!({ "name": format!("key {number}") });
        let made = client.call("POST", &format!("{APP}/token"), body)?;
        let path = format!("{APP}/token/{}", id_of(&made));
        client.call("DELETE", &path, Value::Null).map(drop)
    }),
    ("the end of portal sessions", |client, _| {
        let path = "/api/v1/auth/app/main/expire-all";
        client.call("POST", path, json!({})).map(drop)
    }),
    ("a message", |client, number| {
        let event_id = format!("event-{number}");
        let body = json!({ "eventType": "a", "eventId": event_id, "payload": { "n": number } });
        client.call("POST", &format!("{APP}/msg"), body).map(drop)
    }),
    ("a batch", |client, number| {
        let message = json!({ "eventType": "a", "payload": { "n": number } });
        let body = json!(vec![message; 5]);
        client
            .call("POST", &format!("{APP}/msg/batch"), body)
            .map(drop)
    }),
    ("a message, erased", |client, number| {
        let payload = json!({ "erased": format!("{number}"), "text": "x".repeat(2_000) });
        let body = json!({ "eventType": "a", "payload": payload });
        let made = client.call("POST", &format!("{APP}/msg"), body)?;
        let path = format!("{APP}/msg/{}/content", id_of(&made));
        client.call("DELETE", &path, Value::Null).map(drop)
    }),
    ("messages, erased together", |client, _| {
        let body = json!({ "eventType": "a", "payload": { "erased": "with others" } });
        let made = client.call("POST", &format!("{APP}/msg"), body)?;
        let path = format!("{APP}/msg/bulk-expunge");
        let body = json!({ "ids": [id_of(&made)] });
        client.call("POST", &path, body).map(drop)
    }),
    (
        "a message, sent again, and its answer, erased",
        |client, number| {
            let body = json!({ "eventType": "sent", "payload": { "n": number } });
            let made = client.call("POST", &format!("{APP}/msg"), body)?;
            let message = format!("{APP}/msg/{}", id_of(&made));
            client.until_attempted(id_of(&made), 1)?;
            client.call(
                "POST",
                &format!("{message}/endpoint/sent/resend"),
                Value::Null,
            )?;
            let attempt = client.until_attempted(id_of(&made), 2)?;
            let path = format!("{message}/attempt/{attempt}/content");
            client.call("DELETE", &path, Value::Null).map(drop)
        },
    ),
    ("a replay", |client, _| {
        let path = format!("{APP}/endpoint/sent/bulk-replay");
        let body = json!({ "since": "2020-01-01T00:00:00Z", "tag": "none" });
        let job = client.call("POST", &path, body)?;
        client.until_finished(&job)
    }),
    ("a count", |client, _| {
        let body = json!({ "since": "2020-01-01T00:00:00Z", "until": "2020-02-01T00:00:00Z" });
        let job = client.call("POST", "/api/v1/stats/usage/app", body)?;
        client.until_finished(&job)
    }),
];

#[test]
fn no_change_of_any_kind_is_answered_before_it_is_synced() {
    if !can_run("syscalls", missing()) {
        return;
    }
    let calls = traced(None, |api| {
        for (name, make) in KINDS {
            for number in 0..2 {
                let made = make(&mut Client::of(api), number);
                assert!(made.is_some(), "{name} is refused; {}", api.log());
            }
        }
    });
    let exchanges = exchanges(&calls);
    let changes = Vec::from_iter(exchanges.iter().filter(|one| one.is_answered_change()));
    assert!(changes.len() >= 2 * 33, "{} changes", changes.len());
    for change in changes {
        assert_eq!(change.is_synced(&calls), Ok(()));
    }
}

#[test]
fn when_syncs_fail_nothing_of_any_kind_is_answered_with_a_2xx_and_the_process_ends() {
    if !can_run("syscalls", missing()) {
        return;
    }
    // Each kind is asked for over and over, until it is refused.
    let calls = traced(Some(120), |api| {
        std::thread::scope(|scope| {
            for (kind, (_, make)) in KINDS.iter().enumerate() {
                scope.spawn(move || {
                    let mut client = Client::of(api);
                    let numbers = kind * 1_000_000..(kind + 1) * 1_000_000;
                    for number in numbers {
                        if make(&mut client, number).is_none() {
                            return;
                        }
                    }
                });
            }
        });
    });
    let is_failed = |call: &&Call| call.name == "fdatasync" && call.result == Some(-1);
    let failure = calls
        .iter()
        .find(is_failed)
        .expect("a sync was made to fail");
    let exchanges = exchanges(&calls);
    let changes = Vec::from_iter(exchanges.iter().filter(|one| one.is_answered_change()));
    assert!(
        changes.len() > 30,
        "only {} changes: no proof",
        changes.len()
    );
    for change in changes {
        assert_eq!(change.is_synced(&calls), Ok(()));
        let in_time = change.received < failure.started;
        assert!(in_time, "{} came after a sync had failed", change.line);
    }
    let refused = exchanges
        .iter()
        .filter(|one| one.is_change() && one.status == "503");
    assert!(
        refused.count() > 3,
        "nobody waited for the sync that failed"
    );
}

/// One after the other, until one is refused.
struct Client<'a> {
    api: &'a Api,
    connection: Option<Connection>,
}

impl Client<'_> {
    fn of(api: &Api) -> Client<'_> {
        let connection = api.connect().ok();
        Client { api, connection }
    }

    /// The answer's body; none where it is no 2xx.
    fn call(&mut self, method: &str, path: &str, body: Value) -> Option<Value> {
        let text = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let connection = self.connection.as_mut()?;
        let answer = connection.request(method, path, &text).ok();
        let answer = answer.filter(|answer| (200..300).contains(&answer.status));
        if answer.is_none() {
            self.connection = None;
        }
        Some(serde_json::from_slice(&answer?.body).unwrap_or_default())
    }

    fn until_finished(&mut self, job: &Value) -> Option<()> {
        let path = format!("/api/v1/background-task/{}", id_of(job));
        self.until(&path, |job| (job["state"] == "finished").then_some(()))
    }

    /// The id of the newest attempt, once there are so many.
    fn until_attempted(&mut self, message: &str, attempts: usize) -> Option<String> {
        let path = format!("{APP}/attempt/msg/{message}");
        self.until(&path, |page| {
            let found = page["data"].as_array()?;
            let newest = found.first().filter(|_| found.len() >= attempts)?;
            Some(id_of(newest).to_owned())
        })
    }

    fn until<T>(&mut self, path: &str, look: impl Fn(&Value) -> Option<T>) -> Option<T> {
        let found = until(SOON, || match self.call("GET", path, Value::Null) {
            Some(answer) => look(&answer).map(Some),
            None => Some(None),
        });
        found.unwrap_or_else(|| panic!("{path} never shows it; {}", self.api.log()))
    }
}

fn id_of(answer: &Value) -> &str {
    answer["id"].as_str().unwrap_or_default()
}

/// Runs a server under strace while `work` has it do something, and returns what it called. Where syncs fail
/// from one on, it must end by itself.
fn traced(failing_after: Option<u32>, work: impl FnOnce(&Api)) -> Vec<Call> {
    let directory = scratch();
    let trace = directory.path().join("trace");
    let mut tracer = tracer(&trace, TRACED, "200");
    if let Some(count) = failing_after {
        let inject = format!("inject=fdatasync:error=EIO:when={}+", count + 1);
        tracer.extend(["-e".to_owned(), inject]);
    }
    let words: Vec<&str> = tracer.iter().map(String::as_str).collect();
    // Outcomes come after the answers to those who asked for the attempts.
    let receiver = Receiver::start(|_| Reply::After(Duration::from_millis(300), 200));
    let launch = Launch::new(directory.path().join("data")).under(&words);
    let mut server = still(launch).start();
    register(&server, &receiver);
    work(&server.api);
    if failing_after.is_none() {
        server.process.terminate();
    }
    let status = server.process.wait(SOON).expect("the server ends");
    assert_eq!(status.success(), failing_after.is_none(), "{status}");
    finished(&trace, &server.process)
}

/// Time stands still where it can, so that the server itself has nothing to write.
fn still(launch: Launch) -> Launch {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.expect("it is after 1970").as_millis();
    launch.env("POSTRIDER_CLOCK", format!("{now} {now} 0"))
}

fn register(server: &Server, receiver: &Receiver) {
    let body = json!({ "name": "main", "uid": "main" });
    server.api.call("POST", "/api/v1/app", &body, 201);
    for (uid, disabled) in [("sent", false), ("held", true)] {
        let only = if disabled { "a" } else { "sent" };
        let body = json!({
            "url": receiver.url("/"), "uid": uid, "disabled": disabled, "eventTypes": [only],
        });
        server
            .api
            .call("POST", &format!("{APP}/endpoint"), &body, 201);
    }
}

/// A request and its answer, in the trace. A connection has one request at a time.
#[derive(Debug)]
struct Exchange {
    /// The request's first line.
    line: String,
    received: usize,
    answered: usize,
    status: String,
}

fn exchanges(calls: &[Call]) -> Vec<Exchange> {
    let mut found = Vec::new();
    for (place, call) in calls.iter().enumerate() {
        let Some((_, text)) = call.arguments.split_once('"') else {
            continue;
        };
        let Some((line, _)) = text.split_once(" HTTP/1.1\\r\\n") else {
            continue;
        };
        if !RECEIVING.contains(&call.name.as_str()) || !line.contains(" /") {
            continue;
        }
        let answer = calls[place..].iter().find(|later| {
            SENDING.contains(&later.name.as_str())
                && later.file() == call.file()
                && later.arguments.contains("\"HTTP/1.1 ")
        });
        let Some(answer) = answer else { continue };
        let (_, status) = answer
            .arguments
            .split_once("\"HTTP/1.1 ")
            .expect("it has one");
        found.push(Exchange {
            line: line.to_owned(),
            received: call.started,
            answered: answer.started,
            status: status.chars().take(3).collect(),
        });
    }
    found
}

impl Exchange {
    fn is_change(&self) -> bool {
        !self.line.starts_with("GET ")
    }

    fn is_answered_change(&self) -> bool {
        self.is_change() && self.status.starts_with('2')
    }

    /// Whether the journal was written for it and synced before the answer. Who erases writes twice: the record,
    /// and over the bytes.
    fn is_synced(&self, calls: &[Call]) -> Result<(), String> {
        let in_between =
            |call: &&Call| call.started > self.received && call.started < self.answered;
        let writes = calls
            .iter()
            .filter(|call| call.is_write() && is_of_journal(call));
        let writes = writes.filter(in_between);
        let synced = writes.filter(|write| synced_before(calls, write, self.answered));
        let is_erasing = self.line.starts_with("DELETE ") && self.line.ends_with("/content")
            || self.line.ends_with("/bulk-expunge");
        let needed = if is_erasing { 2 } else { 1 };
        let why = || {
            format!(
                "{} at {}: not synced before its answer",
                self.line, self.received
            )
        };
        (synced.count() >= needed).then_some(()).ok_or_else(why)
    }
}
