//! Real payloads, to receivers with the official libraries.
//!
//! Every example payload of the npm package `@octokit/webhooks-examples` (what GitHub sends, as
//! recorded by its users) is published as it stands in the package's files, and must arrive byte
//! for byte at an endpoint of each profile in [`PROFILES`]. Every request must verify with the
//! vendor's own library, and stop verifying when a byte is added: Standard Webhooks' for Python and
//! JavaScript, GitHub's (octokit) for JavaScript, Stripe's for Python.
//!
//! What the starting points of transformations make CloudEvents is read by the SDK of CloudEvents for Python.
//!
//! `tests/sdk/prepare` installs what this needs under `target/sdk`: skipped with a loud line where
//! that was not done, a failure under `CI=true`.

#[path = "../process/mod.rs"]
mod process;

use std::collections::{BTreeSet, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use process::receiver::{Receiver, Reply};
use process::{Api, Launch, can_run, die_with_parent, scratch, until};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// For the whole of the deliveries; a debug build on a busy machine takes seconds.
const DELIVERED_WITHIN: Duration = Duration::from_secs(120);

/// Each with an endpoint, and what its library reads beside the body.
const PROFILES: [Profile; 3] = [
    Profile {
        name: "standard",
        secret: "whsec_XV1dXV1dXV1dXV1dXV1dXV1dXV1dXV1dXV1dXV1dXV0=",
        headers: &["webhook-id", "webhook-timestamp", "webhook-signature"],
        verifiers: 2,
    },
    Profile {
        name: "github",
        secret: "It's a Secret to Everybody",
        headers: &["x-github-delivery", "x-github-event", "x-hub-signature-256"],
        verifiers: 1,
    },
    Profile {
        name: "stripe",
        secret: "whsec_its_whole_text_is_the_key",
        headers: &["stripe-signature"],
        verifiers: 1,
    },
];

struct Profile {
    name: &'static str,
    secret: &'static str,
    headers: &'static [&'static str],
    /// How many of the verifying programs know it.
    verifiers: usize,
}

/// One entry of the package's files: an event and what its payloads look like.
#[derive(Deserialize)]
struct Event<'a> {
    name: String,
    #[serde(borrow)]
    examples: Vec<&'a RawValue>,
}

/// A request as the receiver got it.
struct Captured {
    profile: &'static Profile,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

#[test]
fn real_payloads_arrive_byte_for_byte_and_verify_with_the_official_libraries() {
    let tools = tools();
    if !can_run("sdk", missing(&tools)) {
        return;
    }
    let files: Vec<String> = payload_files(&tools)
        .iter()
        .map(|path| std::fs::read_to_string(path).expect("a payload file of the package"))
        .collect();
    let events: Vec<Event> = files
        .iter()
        .flat_map(|text| {
            serde_json::from_str::<Vec<Event>>(text).expect("the package's layout of payload files")
        })
        .collect();
    let count: usize = events.iter().map(|event| event.examples.len()).sum();
    assert!(count > 500, "the package holds more than {count} payloads");

    let captured: Arc<Mutex<Vec<Captured>>> = Arc::default();
    let receiver = {
        let captured = captured.clone();
        Receiver::start(move |request| {
            let Some(profile) = PROFILES.iter().find(|one| one.path() == request.path) else {
                return Reply::Status(404);
            };
            let value = |name| request.header(name).unwrap_or_default().to_owned();
            let headers = profile.headers.iter().map(|name| (*name, value(name)));
            let request = Captured {
                profile,
                headers: headers.collect(),
                body: request.body.to_vec(),
            };
            let mut captured = captured.lock().expect("no holder of the requests panics");
            captured.push(request);
            Reply::Status(200)
        })
    };
    let directory = scratch();
    let server = Launch::new(directory.path().join("data")).start();
    register(&server.api, &events, &receiver);
    let published = publish(&server.api, &events);
    assert_eq!(published.len(), count, "each payload has an id of its own");
    let deliveries = count * PROFILES.len();

    until(DELIVERED_WITHIN, || {
        let captured = captured.lock().expect("no holder of the requests panics");
        (captured.len() >= deliveries).then_some(())
    })
    .unwrap_or_else(|| panic!("not all arrived; the server's log:\n{}", server.api.log()));

    let captured = captured.lock().expect("no holder of the requests panics");
    for profile in &PROFILES {
        let to_it = || {
            captured
                .iter()
                .filter(|one| one.profile.name == profile.name)
        };
        let mut left: HashMap<&[u8], i32> = HashMap::new();
        for payload in published.values() {
            *left.entry(payload.get().as_bytes()).or_default() += 1;
        }
        for request in to_it() {
            *left.entry(request.body.as_slice()).or_default() -= 1;
        }
        let differ = left.values().filter(|left| **left != 0).count();
        assert_eq!(
            differ, 0,
            "{}: not what was published, once each",
            profile.name
        );
    }
    for request in captured.iter() {
        // The first header of these two is the message's id.
        if request.profile.name == "stripe" {
            continue;
        }
        let id = &request.headers[0].1;
        let payload = published
            .get(id)
            .unwrap_or_else(|| panic!("{id} was not published"));
        assert!(
            request.body == payload.get().as_bytes(),
            "{id} has another's body"
        );
    }

    let requests = as_lines(&captured);
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk");
    let mut python = Command::new(tools.join("venv/bin/python3"));
    python.arg(suite.join("verify.py"));
    let mut node = Command::new("node");
    node.arg(suite.join("verify.js"))
        .arg(tools.join("package.json"));
    let mut verified = 0;
    for verifier in [&mut python, &mut node] {
        let printed = verify(verifier, &requests);
        println!("{verifier:?}: {printed}");
        verified += printed.parse::<usize>().expect("a number");
    }
    let verifiers: usize = PROFILES.iter().map(|profile| profile.verifiers).sum();
    assert_eq!(verified, count * verifiers);
}

/// Headers of a request with an event, as far as it has them.
const OF_EVENTS: [&str; 6] = [
    "content-type",
    "ce-specversion",
    "ce-id",
    "ce-source",
    "ce-type",
    "ce-time",
];

#[test]
fn transformations_to_cloudevents_are_read_by_their_sdk() {
    let tools = tools();
    if !can_run("sdk", missing(&tools)) {
        return;
    }
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let receiver = {
        let lines = lines.clone();
        Receiver::start(move |request| {
            let headers = OF_EVENTS.iter();
            let headers: HashMap<&str, &str> = headers
                .filter_map(|name| Some((*name, request.header(name)?)))
                .collect();
            let line = json!({ "headers": headers, "body": STANDARD.encode(request.body) });
            let mut lines = lines.lock().expect("no holder of the requests panics");
            lines.push(line.to_string());
            Reply::Status(200)
        })
    };
    let directory = scratch();
    let server = Launch::new(directory.path().join("data")).start();
    let api = &server.api;
    let application = json!({ "name": "Events", "uid": "events" });
    let application = api.call("POST", "/api/v1/app", &application, 201);
    let points = api.call(
        "GET",
        "/api/v1/transformation-starting-points",
        &Value::Null,
        200,
    );
    let mut made = 0;
    for point in points["data"].as_array().expect("a list") {
        let name = point["name"].as_str().expect("a name");
        if name.starts_with("cloudevents-") {
            let endpoint = json!({
                "url": receiver.url("/"), "transformation": point["transformation"],
            });
            api.call("POST", "/api/v1/app/events/endpoint", &endpoint, 201);
            made += 1;
        }
    }
    assert_eq!(made, 2);
    let payload = json!({ "text": "é \"quoted\"\n", "list": [1, { "a": null }] });
    let message = json!({ "eventType": "invoice.paid", "payload": payload });
    let message = api.call("POST", "/api/v1/app/events/msg", &message, 202);
    let lines = until(DELIVERED_WITHIN, || {
        let lines = lines.lock().expect("no holder of the requests panics");
        (lines.len() >= made).then(|| lines.join("\n"))
    });
    let lines = lines.unwrap_or_else(|| panic!("not all arrived: {}", api.log()));

    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk");
    let mut python = Command::new(tools.join("venv/bin/python3"));
    python.arg(suite.join("events.py"));
    let events: Value = serde_json::from_str(&verify(&mut python, &lines)).expect("JSON");
    let application = application["id"].as_str().expect("an id");
    for event in events.as_array().expect("a list") {
        assert_eq!(event["id"], message["id"]);
        assert_eq!(event["type"], "invoice.paid");
        assert_eq!(event["specversion"], "1.0");
        assert_eq!(event["datacontenttype"], "application/json");
        assert_eq!(event["data"], payload);
        let source = event["source"].as_str().expect("a source");
        let of_it = format!("/api/v1/app/{application}");
        assert!(source.ends_with(&of_it), "{source}");
    }
    assert_eq!(events.as_array().map(Vec::len), Some(made));
}

impl Profile {
    fn path(&self) -> String {
        format!("/{}", self.name)
    }
}

/// Where `tests/sdk/prepare` installs.
fn tools() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    target.expect("the target directory").join("sdk")
}

fn missing(tools: &Path) -> Option<String> {
    (!tools.join("prepared").exists())
        .then(|| "run tests/sdk/prepare, which needs node, npm and python3".to_owned())
}

/// The package's files: one for the public service, one for each recorded enterprise version.
fn payload_files(tools: &Path) -> Vec<PathBuf> {
    let package = tools.join("node_modules/@octokit/webhooks-examples");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&package)
        .expect("the package is installed")
        .map(|entry| entry.expect("a directory entry").path().join("index.json"))
        .filter(|path| path.exists())
        .collect();
    files.sort();
    files
}

/// An event type for each event, and an endpoint of each profile that takes them all.
fn register(api: &Api, events: &[Event], receiver: &Receiver) {
    let names: BTreeSet<&str> = events.iter().map(|event| event.name.as_str()).collect();
    for name in names {
        let event_type = json!({ "name": name, "description": "As GitHub sends it" });
        api.call("POST", "/api/v1/event-type", &event_type, 201);
    }
    let application = json!({ "name": "GitHub", "uid": "github" });
    api.call("POST", "/api/v1/app", &application, 201);
    for profile in &PROFILES {
        let endpoint = json!({
            "url": receiver.url(&profile.path()),
            "profile": profile.name,
            "secret": profile.secret,
        });
        api.call("POST", "/api/v1/app/github/endpoint", &endpoint, 201);
    }
}

/// Publishes each payload as it stands in its file; returns them by the id of their message.
fn publish<'a>(api: &Api, events: &[Event<'a>]) -> HashMap<String, &'a RawValue> {
    let mut connection = api.connect().expect("the server accepts");
    let mut published = HashMap::new();
    for event in events {
        for payload in &event.examples {
            let body = format!(r#"{{"eventType":"{}","payload":{payload}}}"#, event.name);
            let answer = connection
                .request("POST", "/api/v1/app/github/msg", &body)
                .unwrap_or_else(|error| panic!("{}: {error}; {}", event.name, api.log()));
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            assert_eq!(answer.status, 202, "{}: {text}", event.name);
            let message: Value = serde_json::from_str(&text).expect("a message in JSON");
            let id = message["id"].as_str().expect("a message's id");
            published.insert(id.to_owned(), *payload);
        }
    }
    published
}

/// What the verifiers read: a request a line.
fn as_lines(captured: &[Captured]) -> String {
    let mut lines = String::new();
    for request in captured {
        let headers: HashMap<&str, &str> = request
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let line = json!({
            "profile": request.profile.name,
            "secret": request.profile.secret,
            "headers": headers,
            "body": STANDARD.encode(&request.body),
        });
        lines.push_str(&format!("{line}\n"));
    }
    lines
}

/// Runs a verifier on the requests; returns what it prints, the number that it verified.
fn verify(command: &mut Command, requests: &str) -> String {
    die_with_parent(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    // A verifier that ends early says why on its own standard error.
    let _ = stdin.write_all(requests.as_bytes());
    drop(stdin);
    let output = child
        .wait_with_output()
        .expect("our child can be waited for");
    assert!(output.status.success(), "{command:?}: {}", output.status);
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
