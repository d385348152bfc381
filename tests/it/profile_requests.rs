//! What an endpoint's profile makes of its requests, its answers and its retries.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use postrider::clock::{Clock, Timestamp};
use postrider::config::{self, Config, Flags};
use postrider::domain::message::Origin;
use postrider::domain::profile::Method;
use postrider::store::NewMessage;
use serde_json::{Value, json};

use crate::support::{Receiver, Script, Server, wait_until};

/// A server all of whose endpoints have this profile.
async fn server_of(profile: &str) -> Server {
    server_with(profile, |_| ()).await
}

async fn server_with(profile: &str, change: impl FnOnce(&mut Config)) -> Server {
    Server::start_with(|config| {
        config.delivery.default_profile = profile.to_owned();
        change(config);
    })
    .await
}

fn created(id: Value) -> Value {
    json!({ "eventType": "CREATE", "entityType": "Lease Agreement", "entityId": id })
}

#[actix_web::test]
async fn a_get_has_its_message_in_the_path_and_no_body() {
    let receiver = Receiver::ok().await;
    let server = server_with("ioffice", |config| {
        let ioffice = config.profiles.get_mut("ioffice").expect("it is shipped");
        ioffice.methods = vec![Method::Get];
    })
    .await;
    let url = format!("{}?site=7", receiver.url());
    server.endpoint_of("app", json!({ "url": url })).await;
    let message = server.publish("CREATE", created(json!(25))).await;
    server.settle().await;

    let [request] = &receiver.requests()[..] else {
        panic!("one request");
    };
    assert_eq!(request.method, "GET");
    let expected = "/CREATE/Lease%20Agreement/25?site=7";
    assert!(request.target.ends_with(expected), "{}", request.target);
    assert_eq!(request.header("webhook-id"), Some(message.as_str()));
    for name in ["content-type", "content-length", "transfer-encoding"] {
        assert_eq!(request.header(name), None, "{name}");
    }
    assert!(request.body.is_empty());
    let attempt = &server.attempts(&message).await[0];
    assert_eq!(attempt["request"]["method"], "GET");
    let shown = attempt["url"].as_str().expect("a URL");
    assert!(shown.ends_with(&request.target), "{shown}");
}

#[actix_web::test]
async fn what_a_template_cannot_make_is_a_failed_attempt_without_a_request() {
    let receiver = Receiver::ok().await;
    let server = server_of("ioffice").await;
    let message = server
        .send_to(&receiver, "CREATE", created(Value::Null))
        .await;
    assert_eq!(server.outcomes(&message).await, ["not_sendable"]);
    let attempt = &server.attempts(&message).await[0];
    assert_eq!(
        attempt["failure"]["detail"],
        "The profile's url cannot be rendered: `payload.entityId` is null."
    );
    assert_eq!(attempt["url"], receiver.url());
    // Waiting cannot change the message, so that nothing is left over.
    assert_eq!(receiver.count(), 0);
}

#[actix_web::test]
async fn only_the_answer_that_the_profile_names_is_a_success() {
    let plain = |body| Script::answer(200, &[("content-type", "text/plain")], body);
    let script = [
        Script::answer(200, &[("content-type", "text/html")], "OK"),
        plain("NO"),
        Script::answer(201, &[("content-type", "text/plain")], "OK"),
    ];
    let receiver = Receiver::scripted(script, plain("OK\n")).await;
    let server = server_of("ovcode").await;
    let message = server
        .send_to(&receiver, "passed", json!({ "cid": 1.5 }))
        .await;
    for _ in 0..3 {
        server.advance_to_next_due().await;
    }
    let expected = ["http 200", "http 200", "http 201", "delivered"];
    assert_eq!(server.outcomes(&message).await, expected);
    let details: Vec<String> = server.attempts(&message).await[..3]
        .iter()
        .map(|attempt| attempt["failure"]["detail"].to_string())
        .collect();
    for (detail, expected) in details
        .iter()
        .zip(["media type", "another body", "only 200"])
    {
        assert!(detail.contains(expected), "{detail}");
    }
    let secret = receiver.requests()[0]
        .header("x-api-secret")
        .map(str::to_owned);
    let shown = server.attempts(&message).await[0]["request"]["headers"].clone();
    assert_eq!(shown["x-api-secret"], "***");
    assert!(secret.is_some_and(|secret| secret.len() >= 8));
}

#[actix_web::test]
async fn retries_and_timeout_are_the_profiles() {
    let receiver = Receiver::scripted([Script::Hang], Script::Status(500)).await;
    let server = server_of("ovation").await;
    server.endpoint(&receiver).await;
    let message = server.publish("report_signed", json!({})).await;
    wait_until("the request to come", || receiver.open() == 1).await;
    server.advance(Duration::from_millis(9_999));
    server.round_trip().await;
    assert_eq!(receiver.open(), 1, "it may take this long");
    server.advance(Duration::from_millis(1));
    for wait in [64, 729] {
        assert_eq!(
            server.advance_to_next_due().await,
            Duration::from_secs(wait)
        );
    }
    assert!(server.nothing_is_due());
    assert_eq!(
        server.outcomes(&message).await,
        ["timeout", "http 500", "http 500"]
    );
}

#[actix_web::test]
async fn a_test_that_is_made_once_is_not_tried_again() {
    let receiver = Receiver::answering([500, 410]).await;
    let server = Server::start().await;
    let id = server.endpoint(&receiver).await;
    for count in 1..=2 {
        let endpoint = {
            let catalog = server.store().catalog();
            let lane = (1..100).find(|lane| catalog.endpoint_by_number(*lane).is_some());
            catalog
                .endpoint_by_number(lane.expect("it has a number"))
                .cloned()
        }
        .expect("it is registered");
        assert_eq!(endpoint.id.to_string(), id);
        assert!(endpoint.disabled.is_none());
        let message = NewMessage {
            organisation: endpoint.organisation,
            application: endpoint.application,
            event_type: "invoice.paid".to_owned(),
            event_id: None,
            channels: Vec::new(),
            payload: "{}".into(),
            is_raw: false,
            content_type: None,
            lanes: vec![endpoint.number],
            matched_as_of: None,
            once: None,
            origin: Origin::TestOnce,
            tags: Vec::new(),
            deliver_at: None,
            expires_at: None,
            metadata: BTreeMap::new(),
            headers: BTreeMap::new(),
        };
        let accepted = server.store().accept_message(message).await;
        let message = accepted.expect("it is accepted").id.to_string();
        server.settle().await;
        let attempts = server.attempts(&message).await;
        assert_eq!(attempts.len(), 1);
        assert_eq!(attempts[0]["nextAttemptAt"], Value::Null);
        assert_eq!(
            (server.store().waiting_count(), receiver.count()),
            (0, count)
        );
        assert!(server.nothing_is_due());
    }
}

/// Two profiles with a mistake each.
const BROKEN: &str = "[profiles.one]\nurl = '/x'\n\
                      [profiles.two.headers]\nx-id = '{{ mesage.id }}'\n";

#[actix_web::test]
async fn a_broken_profile_stops_the_start() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("broken.toml");
    std::fs::write(&file, BROKEN).expect("written");
    let mut config = config::load(Some(&file), Flags { dev: true }).expect("it is well-formed");
    config.store.path = directory.path().join("data");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let clock = Clock::manual(Timestamp::from_seconds(1_700_000_000));
    let started = postrider::server::Server::start(config.clone(), listener, clock);
    let problem = started.err().expect("it does not start").to_string();
    for expected in [
        "profiles.one.url: must begin with {{ endpoint.url }}; ",
        "profiles.two.headers.x-id: `mesage.id` is not known",
    ] {
        assert!(problem.contains(expected), "{problem}");
    }
    assert!(!config.store.path.exists(), "nothing was touched");
}

#[test]
fn the_check_of_the_settings_tells_broken_profiles() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("broken.toml");
    std::fs::write(&file, BROKEN).expect("written");
    let check = |file: &std::path::Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
        command.arg("--config").arg(file).arg("check");
        command.output().expect("it runs")
    };
    let checked = check(&file);
    let said = String::from_utf8_lossy(&checked.stderr);
    assert_eq!(
        (checked.status.code(), checked.stdout.len()),
        (Some(1), 0),
        "{said}"
    );
    assert!(
        said.contains("profiles.one.url") && said.contains("profiles.two.headers.x-id"),
        "{said}"
    );
    std::fs::write(&file, "").expect("written");
    assert!(check(&file).status.success());
}
