//! The five systems, by the binary itself: each started with its shipped settings and set up from
//! its shipped catalogue, with waits shortened so that a run takes seconds.
//!
//! What each system says in detail is asserted in `tests/it`, under the system's name; here the
//! whole is seen to hold together: files, command line, server and receiver.

#[path = "process/mod.rs"]
mod process;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hmac::{Hmac, Mac};
use process::receiver::{Receiver, Reply};
use process::{Launch, Server, scratch, until};
use serde_json::{Value, json};
use sha2::Sha256;

/// For anything that takes seconds; generous for a debug build on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// A request as the receiver got it.
#[derive(Clone)]
struct Got {
    method: String,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(one, _)| *one == name);
        &found.unwrap_or_else(|| panic!("{name} is not noted")).1
    }
}

/// What receivers note of each request.
const NOTED: [&str; 10] = [
    "authorization",
    "content-type",
    "okhi-authorization",
    "webhook-id",
    "webhook-request-id",
    "webhook-signature",
    "webhook-timestamp",
    "x-api-secret",
    "x-ioffice-signature",
    "x-plain",
];

/// A running system with a receiver at which its endpoints stand.
struct System {
    server: Server,
    receiver: Receiver,
    got: Arc<Mutex<Vec<Got>>>,
    catalogue: toml::Table,
    _directory: tempfile::TempDir,
}

impl System {
    /// Starts `examples/NAME` with some settings changed, and with some keys of its profiles, and
    /// applies its catalogue. `answer` is told how many requests came before.
    fn start(
        name: &str,
        settings: &[(&str, &str)],
        profiles: &str,
        answer: impl Fn(usize) -> Reply + Send + 'static,
    ) -> System {
        let got: Arc<Mutex<Vec<Got>>> = Arc::default();
        let receiver = {
            let got = got.clone();
            Receiver::start(move |request| {
                let value = |name| request.header(name).unwrap_or_default().to_owned();
                let mut got = got.lock().expect("no holder of the requests panics");
                got.push(Got {
                    method: request.method.to_owned(),
                    path: request.path.to_owned(),
                    headers: NOTED.map(|name| (name, value(name))).to_vec(),
                    body: String::from_utf8_lossy(request.body).into_owned(),
                });
                answer(got.len() - 1)
            })
        };
        let directory = scratch();
        let example = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("examples")
            .join(name);
        let read = |file: &str| {
            let path = example.join(file);
            std::fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        let write = |file: &str, text: String| -> PathBuf {
            let path = directory.path().join(file);
            std::fs::write(&path, text).expect("our directory can be written");
            path
        };
        let config = write("postrider.toml", read("config.toml") + "\n" + profiles);
        // The shipped endpoints stand where the sink listens.
        let shipped = read("catalogue.toml");
        let sink = "http://127.0.0.1:9000";
        assert!(shipped.contains(sink), "{name}'s endpoint is at the sink");
        let text = shipped.replace(sink, &format!("http://{}", receiver.address));
        let catalogue = text.parse().expect("a catalogue is TOML");
        let file = write("catalogue.toml", text);

        let launch = Launch::new(directory.path().join("data")).config(config);
        let server = settings
            .iter()
            .fold(launch, |launch, (setting, value)| {
                launch.set(setting, value)
            })
            .start();
        apply(&server, &file);
        System {
            server,
            receiver,
            got,
            catalogue,
            _directory: directory,
        }
    }

    /// The shipped example of an event type, as it stands in the file but for the lines around it.
    fn payload(&self, event_type: &str) -> String {
        let list = self.catalogue["event_types"].as_array().expect("a list");
        let found = list
            .iter()
            .find(|one| one["name"].as_str() == Some(event_type));
        let found = found.unwrap_or_else(|| panic!("{event_type} is not shipped"));
        found["example"]
            .as_str()
            .expect("an example")
            .trim()
            .to_owned()
    }

    /// The uid of the shipped application.
    fn application(&self) -> &str {
        self.catalogue["applications"][0]["uid"]
            .as_str()
            .expect("a uid")
    }

    fn publish(&self, event_type: &str, payload: &str, channels: &[&str]) -> String {
        let channels = match channels {
            [] => Value::Null,
            some => json!(some),
        };
        let body =
            format!(r#"{{"eventType":"{event_type}","channels":{channels},"payload":{payload}}}"#);
        let path = format!("/api/v1/app/{}/msg", self.application());
        let answer = self
            .server
            .api
            .request("POST", &path, &body)
            .expect("an answer");
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, 202, "{text}");
        let message: Value = serde_json::from_str(&text).expect("a message");
        message["id"].as_str().expect("an id").to_owned()
    }

    fn wait_for(&self, count: usize) -> Vec<Got> {
        until(SOON, || {
            let got = self.got.lock().expect("no holder of the requests panics");
            (got.len() >= count).then(|| got.clone())
        })
        .unwrap_or_else(|| {
            panic!(
                "{count} requests did not come; the server's log:\n{}",
                self.server.api.log()
            )
        })
    }

    /// Waits until a message's log has this many attempts; the oldest first.
    fn attempts(&self, message: &str, count: usize) -> Vec<Value> {
        let application = self.application();
        let path = format!("/api/v1/app/{application}/attempt/msg/{message}");
        until(SOON, || {
            let list = self.server.api.get(&path);
            let mut attempts = list["data"].as_array().expect("a list").clone();
            attempts.reverse();
            (attempts.len() >= count).then_some(attempts)
        })
        .unwrap_or_else(|| {
            panic!(
                "{count} attempts were not logged; the server's log:\n{}",
                self.server.api.log()
            )
        })
    }

    /// Nothing waits any more: what has not come by now never comes.
    fn wait_until_nothing_waits(&self) {
        until(SOON, || {
            let answer = self.server.api.request("GET", "/metrics", "").ok()?;
            let text = String::from_utf8(answer.body).ok()?;
            text.lines()
                .any(|line| line == "postrider_deliveries_waiting 0")
                .then_some(())
        })
        .expect("the deliveries end");
    }
}

fn apply(server: &Server, file: &Path) {
    let token = std::fs::read_to_string(&server.token_path).expect("the owner's token");
    let output = Command::new(env!("CARGO_BIN_EXE_postrider"))
        .arg("apply")
        .arg(file)
        .arg("--url")
        .arg(format!("http://{}", server.api.address))
        .env("POSTRIDER_TOKEN", token.trim())
        .output()
        .expect("the binary runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn hmac_hex(key: &str, content: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("any key will do");
    mac.update(content.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

#[test]
fn ovcode_takes_only_its_own_ok_for_a_success() {
    let settings = [("delivery.retry_delays_seconds", "1,1")];
    let system = System::start("ovcode", &settings, "", |before| match before {
        0 => Reply::Text("FAIL"),
        1 => Reply::Status(200),
        _ => Reply::Text("OK"),
    });
    let payload = system.payload("document.succeeded");
    let message = system.publish("document.succeeded", &payload, &[]);
    for request in system.wait_for(3) {
        assert_eq!(request.body, payload);
        assert_eq!(request.header("webhook-id"), message);
        assert!(!request.header("x-api-secret").is_empty());
    }
    let attempts = system.attempts(&message, 3);
    let kind = |one: &Value| one["failure"]["kind"].as_str().map(str::to_owned);
    let kinds: Vec<Option<String>> = attempts.iter().map(kind).collect();
    let wrong = Some("wrong_answer".to_owned());
    assert_eq!(kinds, [wrong.clone(), wrong, None]);
}

#[test]
fn ocrolus_gives_each_account_one_endpoint_and_signs_what_it_sends() {
    let system = System::start("ocrolus", &[], "", |_| Reply::Status(200));
    let secret = "a-secret-of-the-account";
    let token = json!({
        "name": "account", "role": "application", "applicationId": system.application(),
    });
    let token = system.server.api.call("POST", "/api/v1/token", &token, 201);
    let token = token["token"].as_str().expect("a token");
    let mut account = process::client::Connection::open(system.server.api.address, token)
        .expect("the server accepts");
    let mut call = |method: &str, path: &str, body: Value| {
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let path = format!("/v1/account/settings/{path}");
        let answer = account.request(method, &path, &body).expect("an answer");
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, 200, "{path}: {text}");
        serde_json::from_str::<Value>(&text).expect("JSON")
    };
    for path in ["/first", "/second"] {
        let body = json!({
            "webhook_endpoint": system.receiver.url(path), "event": "BOOK_VERIFIED",
        });
        call("POST", "update/webhook_endpoint", body);
    }
    call(
        "POST",
        "webhook/rotate-secret",
        json!({ "secret_key": secret }),
    );
    let details = call("GET", "webhook_details", Value::Null);
    let shown = details["response"]["webhook_endpoint"].as_str();
    assert_eq!(shown, Some(system.receiver.url("/second").as_str()));

    let tested = call("GET", "test_webhook_endpoint", Value::Null);
    assert_eq!(tested["response"]["resp_code"], 200);
    let test = system.wait_for(1).pop().expect("one came");
    assert_eq!(
        (test.path.as_str(), test.body.as_str()),
        (
            "/second",
            r#"{"status":"VERIFICATION_COMPLETE","uploaded_doc_pk":0,"book_pk":0}"#
        )
    );

    let payload = system.payload("BOOK_VERIFIED");
    system.publish("BOOK_VERIFIED", &payload, &[]);
    // The shipped endpoint gets it, too.
    let got = system.wait_for(3);
    let request = got[1..].iter().find(|one| one.path == "/second");
    let request = request.expect("the account's endpoint got it");
    let [time, id] = ["webhook-timestamp", "webhook-request-id"].map(|name| request.header(name));
    let content = format!("{time}.{id}.{payload}");
    assert_eq!(
        request.header("webhook-signature"),
        hmac_hex(secret, &content)
    );
}

#[test]
fn ovation_makes_three_attempts_and_no_fourth() {
    let shorter = "[profiles.ovation.retry]\ndelays_seconds = [1, 1]\n";
    let system = System::start("ovation", &[], shorter, |_| Reply::Status(503));
    let template = system.application().to_owned();
    let path = format!("/api/v3/project_templates/{template}/webhook_endpoints");
    let webhook = json!({ "webhookEndpoint": {
        "target_url": system.receiver.url("/api"),
        "event": "report_signed",
        "username": "someUser",
        "password": "somePassword",
        "requestHeaders": { "X-Plain": "any value" },
        "authenticationHeaders": { "okhi-authorization": "1234" },
    }});
    system.server.api.call("POST", &path, &webhook, 201);
    let listed = system.server.api.get(&path);
    assert!(!listed.to_string().contains("somePassword"), "{listed}");

    let payload = system.payload("report_signed");
    system.publish("report_signed", &payload, &[]);
    system.wait_until_nothing_waits();
    let got = system.wait_for(3);
    let ours: Vec<&Got> = got.iter().filter(|one| one.path == "/api").collect();
    assert_eq!(ours.len(), 3);
    for request in ours {
        // someUser:somePassword
        let expected = "Basic c29tZVVzZXI6c29tZVBhc3N3b3Jk";
        assert_eq!(request.header("authorization"), expected);
        assert_eq!(request.header("x-plain"), "any value");
        assert_eq!(request.header("okhi-authorization"), "1234");
        assert_eq!(request.body, payload);
    }
}

#[test]
fn ioffice_sends_get_or_post_with_the_documents_signature() {
    let system = System::start("ioffice", &[], "", |_| Reply::Status(200));
    let path = format!("/api/v1/app/{}/endpoint", system.application());
    let webhook = json!({
        "url": system.receiver.url("/get"), "method": "GET", "secret": "mySecret",
        "eventTypes": ["CREATE"], "channels": ["Agreement"],
    });
    system.server.api.call("POST", &path, &webhook, 201);
    let payload = r#"{"eventType":"CREATE","entityType":"Agreement","entityId":25}"#;
    system.publish("CREATE", payload, &["Agreement"]);
    system.publish("CREATE", payload, &["Building"]);
    system.wait_until_nothing_waits();
    let got = system.wait_for(1);
    let ours: Vec<&Got> = got
        .iter()
        .filter(|one| one.path.starts_with("/get"))
        .collect();
    assert_eq!(ours.len(), 1, "the other entity was not selected");
    assert_eq!(ours[0].method, "GET");
    assert_eq!(ours[0].path, "/get/CREATE/Agreement/25");
    assert_eq!(ours[0].body, "");
    assert_eq!(
        ours[0].header("x-ioffice-signature"),
        "6206491ddab1218e7d6a9c8b3fbaa43da7858ee678dc6cd53a4dcabf0216568e"
    );
    let shipped: Vec<&Got> = got.iter().filter(|one| one.method == "POST").collect();
    assert!(
        !shipped.is_empty(),
        "the shipped endpoint is called with POST"
    );
    assert!(shipped.iter().all(|one| one.body == payload));
}

#[test]
fn okhi_repeats_what_was_answered_too_late_with_the_same_id() {
    let settings = [("delivery.connect_timeout_seconds", "1")];
    let shorter = "[profiles.okhi]\ntimeout_seconds = 1\n\
                   [profiles.okhi.retry]\nfirst_seconds = 1\nmax_delay_seconds = 1\n";
    let system = System::start("okhi", &settings, shorter, |before| match before {
        0 => Reply::After(Duration::from_secs(3), 200),
        _ => Reply::Status(200),
    });
    let event = "address_verification.digital";
    let payload = system.payload(event);
    let message = system.publish(event, &payload, &[]);
    let got = system.wait_for(2);
    for request in &got {
        assert_eq!(request.body, payload);
        assert_eq!(request.header("webhook-id"), message);
        assert!(!request.header("okhi-authorization").is_empty());
    }
    let attempts = system.attempts(&message, 2);
    assert_eq!(attempts[0]["failure"]["kind"], "timeout");
    assert_eq!(attempts[1]["failure"], Value::Null);
    let shown = attempts[0].to_string();
    assert!(
        !shown.contains(got[0].header("okhi-authorization")),
        "{shown}"
    );
}
