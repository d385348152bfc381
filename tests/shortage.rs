//! What happens when the process runs out of file descriptors: the real binary under a low limit.

#[path = "process/mod.rs"]
mod process;

use std::net::{TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use process::client::Connection;
use process::receiver::{Receiver, Reply};
use process::{Launch, Server, scratch, until};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);
const MESSAGES: usize = 120;
const NOT_ACCEPTED: &str = "a connection could not be accepted, and is tried again";
/// Enough for the store and some connections, and not for all deliveries at once.
const LIMIT: &str = "ulimit -n 96; exec \"$0\" \"$@\"";

fn start(launch: Launch) -> Server {
    launch
        .under(&["sh", "-c", LIMIT])
        .set("delivery.in_flight_per_endpoint_max", 2 * MESSAGES)
        .start()
}

fn get(connection: &mut Connection, path: &str) -> Value {
    let answer = connection.request("GET", path, "").unwrap();
    assert_eq!(answer.status, 200, "{path}");
    serde_json::from_slice(&answer.body).unwrap()
}

fn register(server: &Server, url: &str) {
    let body = json!({ "name": "app", "uid": "app" });
    server.api.call("POST", "/api/v1/app", &body, 201);
    let body = json!({ "url": url, "uid": "ep" });
    server
        .api
        .call("POST", "/api/v1/app/app/endpoint", &body, 201);
}

fn publish(connection: &mut Connection) {
    let body = json!({ "eventType": "a", "payload": {} }).to_string();
    let answer = connection.request("POST", "/api/v1/app/app/msg", &body);
    assert_eq!(answer.unwrap().status, 202);
}

fn has_problem(connection: &mut Connection, kind: &str) -> bool {
    let status = get(connection, "/api/v1/status");
    let problems = status["problems"].as_array().unwrap();
    problems.iter().any(|one| one["kind"] == kind)
}

/// How often the server put an attempt off for want of descriptors.
fn put_off(connection: &mut Connection) -> u64 {
    let answer = connection.request("GET", "/metrics", "").unwrap();
    let text = String::from_utf8(answer.body).unwrap();
    let name = "postrider_attempts_put_off_total{lacking=\"file_descriptors\"} ";
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.expect("the counter is shown").parse().unwrap()
}

/// All deliveries of the endpoint, and the attempts made for it.
fn deliveries_and_attempts(connection: &mut Connection) -> (Vec<Value>, usize) {
    let mut all = |path: &str| {
        let page = get(connection, &format!("{path}?limit=250"));
        page["data"].as_array().unwrap().clone()
    };
    let messages = all("/api/v1/app/app/endpoint/ep/msg");
    let attempts = all("/api/v1/app/app/attempt/endpoint/ep");
    (messages, attempts.len())
}

#[test]
fn without_descriptors_deliveries_wait_and_all_arrive_with_one_attempt() {
    let directory = scratch();
    let (held, open) = (
        Arc::new(AtomicBool::new(true)),
        Arc::new(AtomicUsize::new(0)),
    );
    let (holding, asked) = (held.clone(), open.clone());
    let receiver = Receiver::start(move |_| {
        asked.fetch_add(1, Ordering::SeqCst);
        match holding.load(Ordering::SeqCst) {
            true => Reply::After(Duration::from_secs(6), 204),
            false => Reply::Status(204),
        }
    });
    let server = start(Launch::new(directory.path().join("data")));
    register(&server, &format!("http://{}/", receiver.address));
    let mut connection = server.api.connect().unwrap();
    for _ in 0..MESSAGES {
        publish(&mut connection);
    }
    until(SOON, || (put_off(&mut connection) > 0).then_some(())).expect("it is counted");
    assert!(has_problem(&mut connection, "file_descriptors"));
    let health = get(&mut connection, "/api/v1/health");
    assert_eq!(health["status"], "ok");
    let problem = health["problem"].as_str().expect("a problem");
    assert!(problem.contains("File descriptors"), "{problem}");
    // Deliveries leave some to the API.
    server.api.get("/api/v1/app");

    held.store(false, Ordering::SeqCst);
    let arrived = || (open.load(Ordering::SeqCst) == MESSAGES).then_some(());
    until(SOON, arrived).expect("all arrive");
    let passed = || (!has_problem(&mut connection, "file_descriptors")).then_some(());
    until(SOON, passed).expect("the problem passes");
    let all_recorded = || {
        let (messages, attempts) = deliveries_and_attempts(&mut connection);
        (attempts >= MESSAGES).then_some((messages, attempts))
    };
    let (messages, attempts) = until(SOON, all_recorded).expect("all are recorded");
    assert_eq!((messages.len(), attempts), (MESSAGES, MESSAGES));
    assert_eq!(open.load(Ordering::SeqCst), MESSAGES, "none came twice");

    let log = server.process.log();
    let said = log.matches("File descriptors have run out").count();
    assert_eq!(said, 1, "{log}");
    assert!(log.contains("this process may open 96 files"), "{log}");
}

/// Connections that send nothing, until the listener cannot take another.
fn take_all(server: &Server) -> Vec<TcpStream> {
    let connect = || TcpStream::connect(server.api.address).unwrap();
    let taken = (0..120).map(|_| connect()).collect();
    let refused = || server.process.log().contains(NOT_ACCEPTED).then_some(());
    until(SOON, refused).expect("it says so");
    taken
}

#[test]
fn a_name_that_could_not_be_looked_up_is_no_failed_attempt() {
    let directory = scratch();
    // Never answers.
    let dns = UdpSocket::bind("127.0.0.1:0").unwrap();
    let launch = Launch::new(directory.path().join("data"))
        .set("delivery.dns_servers", dns.local_addr().unwrap())
        .set("delivery.connect_timeout_seconds", 1);
    let server = start(launch);
    register(&server, "http://receiver.test/");
    let mut connection = server.api.connect().unwrap();
    let taken = take_all(&server);
    publish(&mut connection);
    until(SOON, || (put_off(&mut connection) > 0).then_some(())).expect("it is put off");
    let (_, attempts) = deliveries_and_attempts(&mut connection);
    assert_eq!(attempts, 0);
    drop(taken);
    let attempt = || {
        let page = get(&mut connection, "/api/v1/app/app/attempt/endpoint/ep");
        page["data"].get(0).cloned()
    };
    let failed = until(SOON, attempt).expect("then it is attempted");
    assert_eq!(failed["attempt"], 1);
    let detail = failed["failure"]["detail"].as_str().unwrap();
    assert!(detail.contains("host's name"), "{failed}");
}

#[test]
fn a_full_listener_comes_back_and_says_so_once() {
    let directory = scratch();
    let server = start(Launch::new(directory.path().join("data")));
    let taken = take_all(&server);
    let log = || server.process.log();
    until(SOON, || {
        log()
            .contains("File descriptors have run out")
            .then_some(())
    })
    .expect("and what to do");
    drop(taken);
    server.api.get("/api/v1/health");
    assert_eq!(log().matches(NOT_ACCEPTED).count(), 1, "{}", log());
}
