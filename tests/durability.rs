//! What survives a killed process, and how one stops: the real binary, from outside.

#[path = "process/mod.rs"]
mod process;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use process::ledger::{End, Ledger};
use process::receiver::{Receiver, Reply};
use process::{Api, Launch, Server, at_random_moment, say, scratch, seed, until};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

const KILLS: u32 = 20;
/// Small caps, so that the bound on repeated attempts is a sharp one.
const IN_FLIGHT_MAX: usize = 16;
const UNRECORDED_MAX: usize = 32;

#[test]
fn every_accepted_message_arrives_across_twenty_kills() {
    let seed = seed("durability");
    let mut random = StdRng::seed_from_u64(seed);
    let directory = scratch();
    let ledger = Arc::new(Ledger::new(seed, 0));
    let receiver = {
        let ledger = ledger.clone();
        Receiver::start(move |request| ledger.receive(request))
    };
    let launch = Launch::new(directory.path().join("data"))
        .set("delivery.in_flight_per_endpoint_max", IN_FLIGHT_MAX)
        .set("delivery.unrecorded_per_endpoint_max", UNRECORDED_MAX)
        // Slices are rolled in the middle of it all.
        .set("store.slice_bytes", 4 * 1024 * 1024);
    let mut publish_path = None;
    for kill in 0..KILLS {
        if kill > 0 && random.random_ratio(1, 4) {
            // While it starts, recovering from the kill before.
            let mut process = launch.spawn();
            at_random_moment(Duration::from_millis(random.random_range(0..200)));
            process.kill();
        } else {
            let mut server = launch.start();
            let path = publish_path.get_or_insert_with(|| Ledger::register(&server.api, &receiver));
            let load_time = Duration::from_millis(random.random_range(1..600));
            kill_under_load(&mut server, &ledger, path, load_time);
        }
        receiver.settle();
        ledger.begin_life();
    }
    let server = launch.start();
    ledger.wait_delivered(Duration::from_secs(60), &server.api);
    let totals = ledger.check_books(IN_FLIGHT_MAX + UNRECORDED_MAX);
    assert!(ledger.accepted() > 100, "too little load to prove anything");
    say(&format!("durability: {totals:?}"));
}

fn kill_under_load(server: &mut Server, ledger: &Ledger, path: &str, load_time: Duration) {
    let api = server.api.clone();
    let end = End::by_kill();
    std::thread::scope(|scope| {
        scope.spawn(|| ledger.publish(&api, path, 8, &end));
        at_random_moment(load_time);
        end.comes();
        server.process.kill();
    });
}

/// Of a batch that was on its way when the process was killed all messages are there or none; of
/// one that was answered, all.
#[test]
fn a_batch_is_whole_or_not_there_across_kills() {
    const MESSAGES: usize = 100;
    let mut random = StdRng::seed_from_u64(seed("batches"));
    let directory = scratch();
    let launch =
        Launch::new(directory.path().join("data")).set("store.slice_bytes", 4 * 1024 * 1024);
    let mut answered: Vec<bool> = Vec::new();
    for kill in 0..8 {
        let mut server = launch.start();
        if kill == 0 {
            let app = json!({ "name": "app", "uid": "app" });
            server.api.call("POST", "/api/v1/app", &app, 201);
            // So that there are deliveries to be written, too.
            let endpoint = json!({ "url": "https://example.com/", "disabled": true });
            server
                .api
                .call("POST", "/api/v1/app/app/endpoint", &endpoint, 201);
        }
        let load_time = Duration::from_millis(random.random_range(20..400));
        let api = server.api.clone();
        std::thread::scope(|scope| {
            scope.spawn(|| publish_batches(&api, MESSAGES, &mut answered));
            at_random_moment(load_time);
            server.process.kill();
        });
    }
    let server = launch.start();
    let mut found = vec![0; answered.len()];
    let mut iterator = String::new();
    loop {
        let path = format!("/api/v1/app/app/msg?limit=250&with_content=false&iterator={iterator}");
        let page = server.api.get(&path);
        for message in page["data"].as_array().expect("a list has data") {
            let tag = message["tags"][0].as_str().and_then(|tag| tag.parse().ok());
            let batch: usize = tag.expect("the number of its batch");
            found[batch] += 1;
        }
        if page["done"] == true {
            break;
        }
        iterator = page["iterator"]
            .as_str()
            .expect("more behind it")
            .to_owned();
    }
    for (batch, (found, answered)) in found.iter().zip(&answered).enumerate() {
        let is_whole = *found == MESSAGES;
        let is_none = *found == 0 && !answered;
        assert!(is_whole || is_none, "batch {batch}: {found}, {answered}");
    }
    let whole = answered.iter().filter(|answered| **answered).count();
    assert!(whole > 10, "too little load to prove anything: {whole}");
}

/// Until the server is gone; notes for each batch whether it was answered.
fn publish_batches(api: &Api, messages: usize, answered: &mut Vec<bool>) {
    loop {
        let tag = answered.len().to_string();
        let message =
            json!({ "eventType": "a", "payload": { "x": "y".repeat(500) }, "tags": [tag] });
        let body = json!(vec![message; messages]).to_string();
        let answer = api.request("POST", "/api/v1/app/app/msg/batch", &body);
        answered.push(answer.as_ref().is_ok_and(|answer| answer.status == 202));
        if answer.is_err() {
            return;
        }
    }
}

/// A kill in the middle leaves some of it erased; the next start goes on.
#[test]
fn a_deleted_application_is_erased_across_a_kill() {
    const MESSAGES: usize = 20_000;
    let directory = scratch();
    let launch =
        Launch::new(directory.path().join("data")).set("store.slice_bytes", 4 * 1024 * 1024);
    let mut server = launch.start();
    let application = |api: &Api, uid: &str| {
        api.call(
            "POST",
            "/api/v1/app",
            &json!({ "name": uid, "uid": uid }),
            201,
        );
    };
    let publish = |api: &Api, app: &str, text: &str, count: usize| {
        let path = format!("/api/v1/app/{app}/msg/batch");
        let message = json!({ "eventType": "a", "payload": { "x": text } });
        for _ in 0..count.div_ceil(1_000) {
            let batch = json!(vec![message.clone(); count.min(1_000)]);
            api.call("POST", &path, &batch, 202);
        }
    };
    application(&server.api, "gone");
    application(&server.api, "kept");
    publish(&server.api, "gone", "text-to-erase", MESSAGES);
    publish(&server.api, "kept", "text-to-keep", 10);
    let journal = launch.data().join("journal");
    let on_disk = |text: &str| count_in(&journal, text.as_bytes());
    assert_eq!(on_disk("text-to-erase"), MESSAGES);

    server
        .api
        .call("DELETE", "/api/v1/app/gone", &Value::Null, 204);
    application(&server.api, "gone");
    publish(&server.api, "gone", "text-made-anew", 10);
    let status = server.api.get("/api/v1/status");
    assert_eq!(status["store"]["erasures"], 1);
    until(Duration::from_secs(60), || {
        (on_disk("text-to-erase") < MESSAGES).then_some(())
    })
    .expect("erasing begins");
    server.process.kill();
    let left = on_disk("text-to-erase");
    assert!(left > 0, "the kill came too late to prove anything");
    say(&format!(
        "{left} of {MESSAGES} messages were left after the kill"
    ));

    let server = launch.start();
    until(Duration::from_secs(120), || {
        let status = server.api.get("/api/v1/status");
        (status["store"]["erasures"] == 0).then_some(())
    })
    .expect("erasing ends");
    assert_eq!(on_disk("text-to-erase"), 0);
    assert_eq!(on_disk("text-to-keep"), 10);
    assert_eq!(on_disk("text-made-anew"), 10);
}

/// How often bytes stand in the files of a directory.
fn count_in(directory: &Path, bytes: &[u8]) -> usize {
    let entries = std::fs::read_dir(directory).expect("it is there");
    let counts = entries.map(|entry| {
        // Spare files come and go.
        let file = std::fs::read(entry.expect("it can be read").path());
        file.map_or(0, |file| memchr::memmem::find_iter(&file, bytes).count())
    });
    counts.sum()
}

#[test]
fn a_second_process_on_the_same_store_is_refused_with_one_line() {
    let directory = scratch();
    let launch = Launch::new(directory.path().join("data"));
    let first = launch.start();
    let mut second = launch.clone().without_dev().spawn();
    let status = second
        .wait(Duration::from_secs(20))
        .expect("the second process ends by itself");
    let log = second.log();
    assert_eq!(status.code(), Some(1), "{log}");
    // Beside the one that says which version starts, with which settings.
    let is_error = |line: &&str| !line.is_empty() && !line.contains(" INFO ");
    let lines: Vec<&str> = log.lines().filter(is_error).collect();
    assert_eq!(lines.len(), 1, "one clear line, not:\n{log}");
    assert!(
        lines[0].contains("in use by another postrider process")
            && lines[0].contains(&*launch.data().to_string_lossy()),
        "{log}"
    );
    first.api.get("/api/v1/health");
}

#[test]
fn sigterm_finishes_what_is_in_flight_and_exits_with_0() {
    let directory = scratch();
    let arrived = Arc::new(AtomicUsize::new(0));
    let receiver = {
        let arrived = arrived.clone();
        Receiver::start(move |_| {
            arrived.fetch_add(1, Ordering::SeqCst);
            Reply::After(Duration::from_secs(1), 200)
        })
    };
    let launch = Launch::new(directory.path().join("data"));
    let mut server = launch.start();
    let messages = publish_five(&server.api, &receiver);
    wait_for(&arrived, 5);
    server.process.terminate();
    let status = server.process.wait(Duration::from_secs(20));
    let log = server.process.log();
    assert_eq!(status.and_then(|status| status.code()), Some(0), "{log}");
    assert!(!log.contains("panicked"), "{log}");

    // The answers that came during the drain are on record: nothing is left to send.
    let server = launch.start();
    for message in &messages {
        let outcomes = attempt_statuses(&server.api, message);
        assert_eq!(outcomes, [json!(0)], "one attempt, and it succeeded");
    }
    assert_eq!(arrived.load(Ordering::SeqCst), 5);
}

#[test]
fn a_second_sigterm_ends_the_drain_at_once_and_loses_nothing() {
    let directory = scratch();
    let arrived = Arc::new(AtomicUsize::new(0));
    let (hanging, delivered) = (
        Arc::new(AtomicBool::new(true)),
        Arc::new(AtomicUsize::new(0)),
    );
    let receiver = {
        let (arrived, hanging, delivered) = (arrived.clone(), hanging.clone(), delivered.clone());
        Receiver::start(move |_| {
            arrived.fetch_add(1, Ordering::SeqCst);
            if hanging.load(Ordering::SeqCst) {
                return Reply::Never;
            }
            delivered.fetch_add(1, Ordering::SeqCst);
            Reply::Status(200)
        })
    };
    let launch = Launch::new(directory.path().join("data"))
        .set("server.drain_seconds", 300)
        .set("delivery.request_timeout_seconds", 300);
    let mut server = launch.start();
    let messages = publish_five(&server.api, &receiver);
    wait_for(&arrived, 5);
    server.process.terminate();
    // Two signals in a row may become one; its log says that it saw the first.
    until(Duration::from_secs(20), || {
        let log = server.process.log();
        log.contains("a second signal ends the process")
            .then_some(())
    })
    .expect("it is stopping");
    assert!(server.process.is_running(), "it drains for what hangs");
    server.process.terminate();
    server
        .process
        .wait(Duration::from_secs(5))
        .expect("the second signal ends it at once");
    let log = server.process.log();
    assert!(!log.contains("panicked"), "{log}");

    hanging.store(false, Ordering::SeqCst);
    let server = launch.start();
    wait_for(&delivered, 5);
    for message in &messages {
        until(Duration::from_secs(20), || {
            attempt_statuses(&server.api, message)
                .contains(&json!(0))
                .then_some(())
        })
        .expect("the delivery is on record");
    }
    assert_eq!(delivered.load(Ordering::SeqCst), 5, "each of them once");
}

#[test]
fn a_publisher_that_keeps_its_idle_connection_does_not_hold_up_the_stop() {
    let directory = scratch();
    // Far beyond the time that the test allows.
    let launch = Launch::new(directory.path().join("data")).set("server.drain_seconds", 300);
    let mut server = launch.start();
    let mut idle = server.api.connect().expect("the server accepts");
    let answer = idle.request("GET", "/api/v1/health", "");
    assert_eq!(answer.expect("an answer").status, 200);
    server.process.terminate();
    let status = server.process.wait(Duration::from_secs(30));
    let log = server.process.log();
    assert_eq!(status.and_then(|status| status.code()), Some(0), "{log}");
    assert!(
        log.contains("everything that was accepted is on disk"),
        "{log}"
    );
    idle.request("GET", "/api/v1/health", "")
        .err()
        .expect("the connection is closed");
}

/// Registers an endpoint at the receiver and publishes five messages to it; returns their paths
/// in the attempt log.
fn publish_five(api: &Api, receiver: &Receiver) -> Vec<String> {
    let event_type = json!({ "name": "stop.test", "description": "for the test" });
    api.call("POST", "/api/v1/event-type", &event_type, 201);
    let application = api.call("POST", "/api/v1/app", &json!({ "name": "stop" }), 201);
    let application = application["id"].as_str().expect("an application's id");
    let app_path = format!("/api/v1/app/{application}");
    api.call(
        "POST",
        &format!("{app_path}/endpoint"),
        &json!({ "url": receiver.url("/") }),
        201,
    );
    (0..5)
        .map(|number| {
            let message = json!({ "eventType": "stop.test", "payload": { "number": number } });
            let accepted = api.call("POST", &format!("{app_path}/msg"), &message, 202);
            let id = accepted["id"].as_str().expect("a message's id");
            format!("{app_path}/attempt/msg/{id}")
        })
        .collect()
}

/// The status of each attempt in the log, newest first: 0 succeeded, 2 failed.
fn attempt_statuses(api: &Api, path: &str) -> Vec<Value> {
    let page = api.get(path);
    let attempts = page["data"].as_array().expect("a list has data");
    Vec::from_iter(attempts.iter().map(|attempt| attempt["status"].clone()))
}

fn wait_for(counter: &AtomicUsize, count: usize) {
    until(Duration::from_secs(30), || {
        (counter.load(Ordering::SeqCst) >= count).then_some(())
    })
    .unwrap_or_else(|| panic!("{count} requests do not arrive in time"));
}
