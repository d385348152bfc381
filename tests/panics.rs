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

/// actix starts that thread; the test panics in one of the same name.
#[test]
fn a_panic_of_the_thread_that_accepts_connections_ends_the_process() {
    let directory = scratch();
    let server = start(&directory, "");
    // By then it is there.
    server.api.get("/api/v1/health");
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.process.id())).unwrap();
    let names = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")));
    // Linux keeps 15 bytes of a name.
    let is_acceptor = |name: &String| name.trim_end() == &"actix-server acceptor"[..15];
    assert!(names.flatten().any(|name| is_acceptor(&name)));
    drop(server);

    let server = start(&directory, "acceptor:any");
    ends_by_itself(server, "actix-server acceptor");
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
