//! What a start finds: after a clean stop, after a crash, and where something is wrong with the
//! files.

use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use postrider::clock::Clock;
use postrider::store::{OpenError, Store};
use postrider::telemetry::Metrics;
use serde_json::json;

use crate::support::{Receiver, Request, Script, Server, wait_until};

fn ids(requests: &[Request]) -> Vec<&str> {
    let id = |request| Request::header(request, "webhook-id").expect("an id");
    let mut ids = Vec::from_iter(requests.iter().map(id));
    ids.sort_unstable();
    ids
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort_unstable();
    ids
}

#[actix_web::test]
async fn retries_go_on_where_they_were() {
    let receiver = Receiver::answering([500, 500, 500]).await;
    let mut server = Server::start().await;
    let message = server.send_to(&receiver, "invoice.paid", json!({})).await;
    for seconds in [5, 300, 1800] {
        server = server.restart().await;
        assert_eq!(server.advance_to_next_due().await.as_secs(), seconds);
    }
    let attempts = server.attempts(&message).await;
    let numbers = Vec::from_iter(attempts.iter().map(|one| one["attempt"].as_u64()));
    assert_eq!(numbers, [Some(1), Some(2), Some(3), Some(4)]);
    let outcomes = ["http 500", "http 500", "http 500", "delivered"];
    assert_eq!(server.outcomes(&message).await, outcomes);
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn everything_that_waits_goes_on_and_nothing_twice() {
    let failing = Receiver::scripted([], Script::Status(500)).await;
    let held = Receiver::ok().await;
    let server = Server::start().await;
    server.endpoint(&failing).await;
    let disabled = server.endpoint(&held).await;
    server.set_disabled("app", &disabled, true).await;
    let payloads = (0..100).map(|number| json!({ "n": number }));
    let messages = sorted(server.publish_all("app", payloads).await);
    server.settle().await;
    assert_eq!(failing.count(), 100);

    let server = server.restart().await;
    server.settle().await;
    assert_eq!(server.store().waiting_count(), 200);
    assert_eq!((failing.count(), held.count()), (100, 0));
    failing.then(Script::Status(200));
    server.advance(Duration::from_secs(5));
    server.settle().await;
    assert_eq!((failing.count(), held.count()), (200, 0));
    assert_eq!(ids(&failing.requests()[100..]), messages);

    let server = server.restart().await;
    server.set_disabled("app", &disabled, false).await;
    held.received(100).await;
    server.settle().await;
    assert_eq!(ids(&held.requests()), messages);
    assert_eq!(failing.count(), 200);
    assert_eq!(server.store().waiting_count(), 0);
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn after_a_crash_what_was_accepted_is_delivered() {
    let in_flight = Receiver::scripted([], Script::Hang).await;
    let failing = Receiver::scripted([], Script::Status(500)).await;
    let held = Receiver::ok().await;
    let mut dead = Server::start().await;
    dead.leftovers_are_fine();
    dead.endpoint(&in_flight).await;
    dead.endpoint(&failing).await;
    let disabled = dead.endpoint(&held).await;
    dead.set_disabled("app", &disabled, true).await;
    let payloads = (0..50).map(|number| json!({ "n": number }));
    let messages = sorted(dead.publish_all("app", payloads).await);
    in_flight.received(50).await;
    failing.received(50).await;
    // A failing receiver has counted a request before the outcome is recorded.
    wait_until("only the hanging ones", || dead.in_flight() == 50).await;

    let server = dead.after_a_crash().await;
    // What was in flight goes again, with the same ids; what was recorded waits for its retry.
    in_flight.then(Script::Status(200));
    in_flight.received(100).await;
    server.settle().await;
    assert_eq!(ids(&in_flight.requests()[50..]), messages);
    assert_eq!(failing.count(), 50);
    failing.then(Script::Status(200));
    server.set_disabled("app", &disabled, false).await;
    assert!(server.advance_to_next_due().await.as_secs() <= 5);
    held.received(50).await;
    server.settle().await;
    assert_eq!(ids(&held.requests()), messages);
    assert_eq!(ids(&failing.requests()[50..]), messages);
    assert_eq!(server.store().waiting_count(), 0);
    for message in &messages {
        let outcomes = sorted(server.outcomes(message).await);
        assert_eq!(
            outcomes,
            ["delivered", "delivered", "delivered", "http 500"]
        );
    }
    server.stop_and_verify().await;
}

/// Several processes in a row that all die, each with something new.
#[actix_web::test]
async fn crash_after_crash_loses_nothing() {
    let receiver = Receiver::scripted([], Script::Status(500)).await;
    let mut servers = vec![Server::start().await];
    servers[0].endpoint(&receiver).await;
    let mut messages = Vec::new();
    for round in 0..4 {
        let server = servers.last_mut().expect("there is one");
        server.leftovers_are_fine();
        messages.push(
            server
                .publish("invoice.paid", json!({ "round": round }))
                .await,
        );
        server.settle().await;
        let next = server.after_a_crash().await;
        servers.push(next);
    }
    let server = servers.pop().expect("the last one");
    receiver.then(Script::Status(200));
    server.advance(Duration::from_secs(5));
    server.settle().await;
    for message in &messages {
        assert_eq!(server.outcomes(message).await, ["http 500", "delivered"]);
    }
    let list = server.get("/api/v1/app/app/msg").await.expect(200);
    assert_eq!(list["data"].as_array().map(Vec::len), Some(4));
    server.stop_and_verify().await;
}

fn mode(path: &Path) -> u32 {
    let metadata = std::fs::metadata(path).expect("it exists");
    metadata.permissions().mode() & 0o777
}

#[actix_web::test]
async fn what_holds_secrets_is_for_its_owner_alone() {
    let server = Server::start().await;
    let data = server.config().store.path.clone();
    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&data.join("owner.token")), 0o600);
    server.application("app").await;
    let token = server.token.clone();
    let server = server.restart().await;
    assert_eq!(mode(&data.join("export.json")), 0o600);
    assert_eq!(mode(&data.join("owner.token")), 0o600);
    assert_eq!(server.token, token, "only the first start makes one");
}

#[actix_web::test]
async fn a_store_is_used_by_one_process_at_a_time() {
    let server = Server::start().await;
    let settings = postrider::store::StoreSettings::from_config(server.config());
    let metrics = std::sync::Arc::new(Metrics::new());
    let error = Store::open(settings, Clock::System, metrics).err();
    let error = error.expect("it is locked");
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("in use by another"), "{error}");
    // The one that has it goes on.
    server.application("app").await;
}

/// All files of a database that hold data.
fn files(database: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(database).expect("it is there");
    let paths = entries.map(|entry| entry.expect("it can be read").path());
    paths.filter(|path| path.is_file()).collect()
}

#[derive(Debug)]
enum Damage {
    Flip { per_mille: u64, bytes: u64 },
    CutTo { per_mille: u64 },
    Vanish,
}

fn damage(file: &Path, how: &Damage) {
    let opened = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(file);
    let opened = opened.expect("it is there");
    let length = opened.metadata().expect("it has a length").len();
    match how {
        Damage::Flip { per_mille, bytes } => {
            for offset in 0..*bytes {
                let at = (length * per_mille / 1000 + offset).min(length.saturating_sub(1));
                let mut byte = [0];
                if opened.read_at(&mut byte, at).expect("it can be read") == 1 {
                    opened.write_at(&[!byte[0]], at).expect("it can be written");
                }
            }
        }
        Damage::CutTo { per_mille } => opened.set_len(length * per_mille / 1000).expect("shorter"),
        Damage::Vanish => std::fs::remove_file(file).expect("it was there"),
    }
}

/// Whatever is wrong with the files, and without a checkpoint file: a clear line, or a store that opens;
/// never a panic.
#[actix_web::test]
async fn a_damaged_database_is_told_in_one_line() {
    let receiver = Receiver::scripted([], Script::Status(500)).await;
    let mut server = Server::start().await;
    server.leftovers_are_fine();
    server.endpoint(&receiver).await;
    let payloads = (0..200).map(|number| json!({ "n": number, "text": "x".repeat(500) }));
    server.publish_all("app", payloads).await;
    server.settle().await;
    let mut settings = postrider::store::StoreSettings::from_config(server.config());
    let whole = server.stopped().await;
    let whole = whole.path().join("data");
    // One is there if the server ran for long enough.
    let _ = std::fs::remove_file(whole.join("checkpoint"));

    let mut damages = vec![Damage::Vanish];
    damages.extend([0, 3, 500, 900, 999].map(|per_mille| Damage::CutTo { per_mille }));
    for per_mille in [0, 20, 150, 400, 700, 990] {
        damages.extend([1, 600].map(|bytes| Damage::Flip { per_mille, bytes }));
    }
    let mut refused = 0;
    for name in files(&whole.join("live")) {
        let name = name.file_name().expect("a file").to_owned();
        for how in &damages {
            let copy = tempfile::tempdir().expect("a temporary directory");
            crate::support::copy_directory(&whole, &copy.path().join("data"));
            settings.path = copy.path().join("data");
            damage(&settings.path.join("live").join(&name), how);
            let metrics = std::sync::Arc::new(Metrics::new());
            let opening = settings.clone();
            let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                Store::open(opening, Clock::System, metrics)
            }));
            match opened.unwrap_or_else(|_| panic!("{how:?} of {name:?} panics")) {
                Ok(store) => drop(store.close()),
                Err(error) => {
                    refused += 1;
                    let line = error.to_string();
                    assert!(!line.contains('\n'), "{line}");
                    for word in [
                        "backtrace",
                        "offset",
                        "None",
                        "sled",
                        "unwrap",
                        "panic",
                        "`Err`",
                    ] {
                        assert!(!line.contains(word), "{how:?} of {name:?}: {line}");
                    }
                    // Where nothing of the database is left, it is not begun anew beside the slices.
                    let expected = matches!(
                        error,
                        OpenError::Damaged { .. }
                            | OpenError::Io { .. }
                            | OpenError::Unsafe(_)
                            | OpenError::WithoutLive(_)
                    );
                    assert!(expected, "{how:?} of {name:?}: {line}");
                }
            }
        }
    }
    assert!(refused > 10, "only {refused} were noticed");
}
