//! The registrations as a file, and a new store made from it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use awc::http::Method;
use postrider::clock::Clock;
use postrider::store::{self, OpenError};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Receiver, Script, Server, wait_until};

fn mode(path: &Path) -> u32 {
    let metadata = std::fs::metadata(path).expect("it exists");
    metadata.permissions().mode() & 0o777
}

async fn key_of(server: &Server, endpoint: &str) -> Value {
    let path = format!("/api/v1/app/app/endpoint/{endpoint}/secret");
    server.get(&path).await.expect(200)["key"].clone()
}

#[actix_web::test]
async fn a_new_store_from_an_export_has_all_registrations() {
    let receiver = Receiver::scripted([], Script::Status(500)).await;
    let mut server = Server::start().await;
    server.leftovers_are_fine();
    let event_type = json!({ "name": "invoice.paid", "description": "An invoice was paid." });
    server
        .post("/api/v1/event-type", event_type)
        .await
        .expect(201);
    let body = json!({
        "url": receiver.url().replace("://", "://caller:s3cret@"),
        "uid": "first",
        "headers": { "X-Api-Key": "k3y" },
        "metadata": { "a": "b" },
    });
    let endpoint = server.endpoint_of("app", body).await;
    let path = format!("/api/v1/app/app/endpoint/{endpoint}/secret/rotate");
    server.post(&path, json!({})).await.expect(200);
    let made = server
        .post(
            "/api/v1/token",
            json!({ "name": "backend", "role": "owner" }),
        )
        .await;
    let token = match made.status {
        201 => made.json()["token"].as_str().map(str::to_owned),
        _ => panic!("{}", made.text),
    };
    // What waits is not part of an export.
    server.publish("invoice.paid", json!({})).await;
    server.settle().await;
    let (shown, key) = (
        server.get("/api/v1/app/app/endpoint").await.expect(200),
        key_of(&server, &endpoint).await,
    );
    let old_number = server.store().catalog().next_endpoint_number() - 1;

    // The server that is like the old one, for its settings.
    let other = Server::start().await;
    let old = server.stopped().await;
    let (from, to) = (old.path().join("data/export.json"), TempDir::new().unwrap());
    assert_eq!(mode(&from), 0o600);
    let mut settings = postrider::store::StoreSettings::from_config(other.config());
    settings.path = to.path().join("data");
    let clock = Clock::manual(other.now());
    let report = store::restore(&settings, &from, &clock, false).expect("it restores");
    let count = |kind: &str| {
        report
            .counts
            .iter()
            .find(|one| one.0 == kind)
            .map(|one| one.1)
    };
    for (kind, expected) in [
        ("organisations", 1),
        ("tokens", 2),
        ("event types", 1),
        ("applications", 1),
        ("endpoints", 1),
    ] {
        assert_eq!(count(kind), Some(expected), "{kind}");
    }
    assert_eq!(mode(&settings.path), 0o700);
    let again = store::restore(&settings, &from, &Clock::System, false);
    assert!(
        matches!(again, Err(OpenError::Unsafe(_))),
        "a store is not overwritten"
    );
    let damaged = to.path().join("damaged.json");
    let text = std::fs::read(&from).expect("it is there");
    std::fs::write(&damaged, &text[..text.len() / 2]).expect("room");
    settings.path = to.path().join("another");
    let half = store::restore(&settings, &damaged, &Clock::System, false);
    assert!(matches!(half, Err(OpenError::NoExport { .. })));

    // The owner's token is known to the restored store, not its text.
    let token_file = "data/owner.token";
    std::fs::copy(old.path().join(token_file), to.path().join(token_file)).expect("room");
    let server = Server::start_on(to, &other).await;
    let mut expected = shown;
    // An attempt failed, and attempts are not in an export.
    let first = expected["data"][0].as_object_mut().expect("an endpoint");
    assert!(first.remove("failingSince").is_some());
    assert_eq!(first.remove("failures"), Some(json!(1)));
    assert_eq!(
        server.get("/api/v1/app/app/endpoint").await.expect(200),
        expected
    );
    assert_eq!(key_of(&server, &endpoint).await, key);
    let types = server.get("/api/v1/event-type").await.expect(200);
    assert_eq!(types["data"][0]["description"], "An invoice was paid.");
    let bearer = format!("Bearer {}", token.expect("it is shown once"));
    let headers = [("authorization", bearer.as_str())];
    let answer = server
        .call(Method::GET, "/api/v1/app", &headers, None)
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);

    receiver.then(Script::Status(200));
    let before = receiver.count();
    let message = server
        .publish("invoice.paid", json!({ "again": true }))
        .await;
    server.settle().await;
    assert_eq!(server.outcomes(&message).await, ["delivered"]);
    assert_eq!(receiver.count(), before + 1, "what waited is gone");
    let request = &receiver.requests()[before];
    assert_eq!(request.header("x-api-key"), Some("k3y"));
    assert!(request.header("authorization").is_some());
    let signature = request.header("webhook-signature").expect("it is signed");
    assert_eq!(signature.split(' ').count(), 2, "the rotation goes on");
    // Numbers are not given twice, because attempts stand under them.
    server.endpoint(&receiver).await;
    let newest = server.store().catalog().next_endpoint_number() - 1;
    assert!(newest > old_number, "{newest}");
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn the_export_is_written_now_and_then() {
    let server = Server::start().await;
    let file = server.config().store.path.join("export.json");
    server.application("app").await;
    assert!(!file.exists(), "not at every change");
    server.advance(Duration::from_secs(15 * 60));
    wait_until("the export", || file.exists()).await;
    let export: Value =
        serde_json::from_slice(&std::fs::read(&file).expect("readable")).expect("JSON");
    assert!(export.to_string().contains("\"app\""), "{export}");
    assert!(!server.config().store.path.join("export.json.new").exists());
}
