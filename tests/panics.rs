//! What a panic ends: the request or the attempt that met it where it can be contained, else the
//! process, which says so first. The real binary, with panics that are planned by its environment.

#[path = "process/mod.rs"]
mod process;

use std::time::Duration;

use process::receiver::{Receiver, Reply};
use process::{Api, Launch, Server, scratch, until};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);

fn start(directory: &tempfile::TempDir, planned: &str) -> Server {
    Launch::new(directory.path().join("data"))
        .env("POSTRIDER_PANIC", planned)
        .start()
}

/// An application with one endpoint that is described so.
fn register(api: &Api, receiver: &Receiver, description: &str) {
    let body = json!({ "name": "app", "uid": "app" });
    api.call("POST", "/api/v1/app", &body, 201);
    let url = format!("http://{}/", receiver.address);
    let body = json!({ "url": url, "uid": "ep", "description": description });
    api.call("POST", "/api/v1/app/app/endpoint", &body, 201);
}

fn message(event_type: &str) -> Value {
    json!({ "eventType": event_type, "payload": {} })
}

fn ends_by_itself(mut server: Server, thread: &str) {
    let status = server.process.wait(SOON).expect("it ends by itself");
    let log = server.process.log();
    assert_eq!(status.code(), Some(1), "{log}");
    let said = format!("the thread {thread} panicked at src/watched.rs:");
    assert!(log.contains(&said), "{log}");
    // A text that is put together may quote what customers sent.
    assert!(!log.contains("planned"), "{log}");
}

#[test]
fn a_panic_of_the_committer_is_answered_and_ends_the_process() {
    let directory = scratch();
    let server = start(&directory, "commit:a.panic");
    let receiver = Receiver::start(|_| Reply::Status(204));
    register(&server.api, &receiver, "");
    let publish = |event_type: &str| {
        let body = message(event_type).to_string();
        server.api.request("POST", "/api/v1/app/app/msg", &body)
    };
    assert_eq!(publish("fine").unwrap().status, 202);
    assert_eq!(publish("a.panic").unwrap().status, 503);
    // Its listener refuses from now on, or is gone already.
    assert!(publish("late").map_or(true, |answer| answer.status == 503));
    let health = server.api.request("GET", "/api/v1/health", "");
    assert!(health.map_or(true, |answer| answer.status == 503));
    ends_by_itself(server, "store-committer");

    let server = start(&directory, "");
    let list = server.api.get("/api/v1/app/app/msg");
    let types: Vec<&Value> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["eventType"])
        .collect();
    assert_eq!(types, ["fine"]);
}

#[test]
fn a_panic_of_a_delivery_thread_ends_the_process() {
    let directory = scratch();
    let receiver = Receiver::start(|_| Reply::Status(204));
    let server = start(&directory, "worker:an endpoint that ends the thread");
    register(&server.api, &receiver, "an endpoint that ends the thread");
    server
        .api
        .call("POST", "/api/v1/app/app/msg", &message("a"), 202);
    ends_by_itself(server, "delivery-0");
}

/// All but the one that counts at a start. In place of actix's thread that accepts connections, another of
/// the same name panics.
const THREADS: [&str; 17] = [
    "actix-server acceptor",
    "challenges",
    "checkpoint-file",
    "checkpoints",
    "delivery-0",
    "http-0",
    "jobs",
    "loader",
    "main",
    "notify",
    "reader-0",
    "store-committer",
    "store-eraser",
    "store-filters",
    "store-keeper",
    "store-spares",
    "store-watchdog",
];

#[test]
fn a_panic_of_any_thread_is_told_by_health_and_ends_the_process() {
    for thread in THREADS {
        let directory = scratch();
        let now = directory.path().join("now");
        let server = Launch::new(directory.path().join("data"))
            .set("server.workers", 1)
            .set("delivery.verify_endpoints", "challenge")
            .env("POSTRIDER_PANIC", format!("thread:{thread}"))
            .env("POSTRIDER_PANIC_WHEN", now.display())
            .start();
        let api = &server.api;
        let mut open = api.connect().unwrap();
        let mut health = || {
            let answer = open.request("GET", "/api/v1/health", "");
            answer.unwrap_or_else(|error| panic!("{thread}: {error}\n{}", server.process.log()))
        };
        assert_eq!(health().status, 200, "{thread}");
        std::fs::write(&now, "").unwrap();
        give_work(api);
        let told = std::thread::scope(|scope| {
            // Each reader has its turn; the read that this one should have made has no answer.
            let read = || api.request("GET", "/api/v1/app/app/msg", "").is_ok();
            scope.spawn(move || thread == "reader-0" && (0..1000).all(|_| read()));
            // The loader looks at lanes every 15 s.
            until(3 * SOON, || {
                Some(health()).filter(|answer| answer.status != 200)
            })
        });
        let told = told.unwrap_or_else(|| panic!("{thread} goes on"));
        let text = String::from_utf8(told.body).unwrap();
        assert_eq!(told.status, 503, "{text}");
        let name = match thread {
            "actix-server acceptor" => "a thread that accepts connections",
            "http-0" => "a thread that answers requests",
            name => name,
        };
        assert!(
            text.contains(&format!("{name} panicked")),
            "{thread}: {text}"
        );
        ends_by_itself(server, thread);
    }
}

/// Changes, which may be refused.
fn give_work(api: &Api) {
    let body = json!({ "name": "app", "uid": "app" }).to_string();
    let _ = api.request("PUT", "/api/v1/app/app", &body);
    let body = json!({ "url": "http://receiver.invalid/", "uid": "ep" }).to_string();
    let _ = api.request("PUT", "/api/v1/app/app/endpoint/ep", &body);
    let body = json!({ "address": "ops@acme.example", "verified": true }).to_string();
    let _ = api.request("PUT", "/api/v1/app/app/contact", &body);
}

#[test]
fn a_panic_of_the_count_at_a_start_ends_the_process() {
    let directory = scratch();
    let mut server = start(&directory, "");
    server.api.get("/api/v1/health");
    server.process.kill();
    let server = start(&directory, "thread:store-recount");
    ends_by_itself(server, "store-recount");
}

#[test]
fn threads_have_in_the_system_the_names_that_the_status_lists() {
    let directory = scratch();
    let server = start(&directory, "");
    let tasks = format!("/proc/{}/task", server.process.id());
    // A thread has its name once it runs, and one of a pool may be gone before it is looked at.
    let missing = || {
        let tasks = std::fs::read_dir(&tasks).unwrap();
        let names = tasks.filter_map(|task| {
            let name = std::fs::read_to_string(task.ok()?.path().join("comm"));
            Some(name.ok()?.trim_end().to_owned())
        });
        let names: Vec<String> = names.collect();
        let status = server.api.get("/api/v1/status");
        let listed = status["threads"].as_array().unwrap().iter();
        let listed = listed.map(|thread| match thread["name"].as_str().unwrap() {
            // Linux keeps 15 bytes of a name; that of the first thread is the program's.
            "main" => "postrider".to_owned(),
            name => name[..name.len().min(15)].to_owned(),
        });
        let missing: Vec<String> = listed.filter(|name| !names.contains(name)).collect();
        missing
    };
    let all_are_there = until(SOON, || missing().is_empty().then_some(()));
    assert!(all_are_there.is_some(), "{:?}", missing());
}

#[test]
fn a_panic_of_an_attempt_fails_that_attempt_alone() {
    let directory = scratch();
    let receiver = Receiver::start(|_| Reply::Status(204));
    let mut server = start(&directory, "attempt:a.panic");
    register(&server.api, &receiver, "");
    let publish = |event_type: &str| {
        let path = "/api/v1/app/app/msg";
        let answer = server.api.call("POST", path, &message(event_type), 202);
        let path = format!(
            "/api/v1/app/app/attempt/msg/{}",
            answer["id"].as_str().unwrap()
        );
        let attempt = || server.api.get(&path)["data"].get(0).cloned();
        until(SOON, attempt).expect("it is attempted")
    };
    let failed = publish("a.panic");
    assert_eq!(failed["failure"]["kind"], "internal_error", "{failed}");
    let detail = failed["failure"]["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("An internal error of postrider"),
        "{detail}"
    );
    assert_eq!(publish("fine")["status"], 0);
    let metrics = server.api.request("GET", "/metrics", "").unwrap();
    let metrics = String::from_utf8(metrics.body).unwrap();
    let counted = "postrider_attempts_total{outcome=\"internal_error\"} 1\n";
    assert!(metrics.contains(counted), "{metrics}");
    server.api.get("/api/v1/health");
    server.process.terminate();
    let status = server.process.wait(SOON).expect("it stops");
    assert!(status.success(), "{}", server.process.log());
}

#[test]
fn a_lane_that_cannot_be_read_holds_up_no_other() {
    let directory = scratch();
    let (sent, received) = std::sync::mpsc::channel();
    let receiver = Receiver::start(move |request| {
        let _ = sent.send(request.path.to_owned());
        Reply::Never
    });
    let mut server = start(&directory, "");
    let body = json!({ "name": "app", "uid": "app" });
    server.api.call("POST", "/api/v1/app", &body, 201);
    // Lanes are numbered as endpoints are made.
    for path in ["first", "second", "third"] {
        let url = format!("http://{}/{path}", receiver.address);
        let body = json!({ "url": url });
        let to = "/api/v1/app/app/endpoint";
        server.api.call("POST", to, &body, 201);
    }
    let path = "/api/v1/app/app/msg";
    server.api.call("POST", path, &message("a"), 202);
    let asked = || received.recv_timeout(SOON).expect("a request comes");
    let mut before = [asked(), asked(), asked()];
    before.sort();
    assert_eq!(before, ["/first", "/second", "/third"]);
    server.process.kill();

    let server = start(&directory, "lane:1");
    let mut after = [asked(), asked()];
    after.sort();
    assert_eq!(after, ["/second", "/third"]);
    // The loader goes on serving.
    server.api.call("POST", path, &message("b"), 202);
    let mut more = [asked(), asked()];
    more.sort();
    assert_eq!(more, ["/second", "/third"]);
    let log = server.process.log();
    assert!(log.contains("the lanes could not all be read"), "{log}");
    assert!(log.contains("lane 1 could not be read"), "{log}");
}

#[test]
fn a_panic_of_a_handler_fails_that_request_alone() {
    let directory = scratch();
    let server = start(&directory, "request:/api/v1/event-type");
    let answer = server.api.request("GET", "/api/v1/event-type", "").unwrap();
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(
        (answer.status, &body["code"]),
        (500, &json!("internal_error"))
    );
    server.api.get("/api/v1/app");
    server.api.get("/api/v1/health");
}
