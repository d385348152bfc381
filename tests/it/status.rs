//! `/api/v1/status`: how the server is, and what is wrong right now.

use std::time::{Duration, Instant};

use awc::http::Method;
use serde_json::{Value, json};

use postrider::config::VerifyEndpoints;

use crate::jwt;
use crate::support::{DEADLINE, Receiver, Script, Server, keys, wait_until};

const STATUS: &str = "/api/v1/status";
const MINUTE: Duration = Duration::from_secs(60);

async fn status(server: &Server) -> Value {
    server.get(STATUS).await.expect(200)
}

/// The problems of this kind.
fn problems(status: &Value, kind: &str) -> Vec<Value> {
    let all = status["problems"].as_array().expect("a list").iter();
    all.filter(|problem| problem["kind"] == kind)
        .cloned()
        .collect()
}

#[actix_web::test]
async fn a_new_server_is_well_and_says_what_it_has() {
    let server = Server::start().await;
    let status = status(&server).await;
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["startedAt"], server.now().to_string());
    assert_eq!(status["now"], status["startedAt"]);
    assert_eq!(status["health"], json!({ "status": "ok", "reason": null }));
    assert_eq!(
        (&status["waiting"], &status["inFlight"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(status["oldestDueSeconds"], 0.0);
    assert_eq!(status["samples"], json!([]));
    let one = json!({ "applications": 0, "endpoints": 0, "eventTypes": 0, "tokens": 1 });
    assert_eq!(status["registrations"], one);
    let store = &status["store"];
    assert_eq!(
        (&store["slices"], &store["blobFiles"]),
        (&json!(1), &json!(0))
    );
    for field in ["liveBytes", "slicesBytes", "freeBytes"] {
        assert!(store[field].is_u64(), "{field}: {store}");
    }
    assert!(store["oldestAt"].is_string(), "{store}");
    // The tests' settings are those of `--dev`.
    let [private] = &status["problems"].as_array().expect("a list")[..] else {
        panic!("{status}");
    };
    assert_eq!(private["kind"], "private_addresses");
    assert_eq!(private["severity"], "warning");
    let message = private["message"].as_str().expect("a sentence");
    assert!(message.contains("127.0.0.0/8"), "{message}");
}

/// The threads with their names; of those that read only the first.
async fn threads(server: &Server) -> Vec<(String, Value)> {
    let status = status(server).await;
    let all = status["threads"].as_array().expect("a list").iter();
    let named = all.map(|one| {
        (
            one["name"].as_str().expect("a name").to_owned(),
            one.clone(),
        )
    });
    named
        .filter(|(name, _)| name == "reader-0" || !name.starts_with("reader-"))
        .collect()
}

async fn thread(server: &Server, name: &str) -> Value {
    let mut threads = threads(server).await.into_iter();
    let (_, thread) = threads.find(|(one, _)| one == name).expect("it is listed");
    thread
}

/// The thread, once this holds of it.
async fn until(server: &Server, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let thread = thread(server, name).await;
        if holds(&thread) {
            return thread;
        }
        assert!(Instant::now() < deadline, "{thread}");
    }
}

#[actix_web::test]
async fn every_thread_is_listed_with_what_it_does() {
    let server = Server::start_with(|config| {
        config.server.workers = 2;
        config.delivery.workers = 2;
        config.delivery.verify_endpoints = VerifyEndpoints::Challenge;
    })
    .await;
    let threads = threads(&server).await;
    let mut names: Vec<&str> = threads.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let expected = [
        "actix-server acceptor",
        "challenges",
        "checkpoint-file",
        "checkpoints",
        "delivery-0",
        "delivery-1",
        "http-0",
        "http-1",
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
    assert_eq!(names, expected);
    for (name, thread) in &threads {
        let reports = !(name == "main" || name.starts_with("actix") || name.starts_with("http"));
        let state = thread["state"].as_str().expect("a state");
        match reports {
            true => assert!(["idle", "working"].contains(&state), "{thread}"),
            false => assert_eq!(state, "running", "{thread}"),
        }
        assert!(thread["does"].as_str().is_some_and(|does| !does.is_empty()));
        assert_eq!(thread["since"], server.now().to_string());
        assert_eq!(
            (&thread["lastError"], &thread["errors"]),
            (&Value::Null, &json!(0))
        );
    }
}

#[actix_web::test]
async fn a_delivery_thread_works_while_an_attempt_is_under_way_and_is_idle_then() {
    let receiver = Receiver::scripted([Script::AtGate(200)], Script::Status(200)).await;
    let server = Server::start().await;
    server.endpoint(&receiver).await;
    server.advance(MINUTE);
    let published_at = server.now();
    server.publish("a", json!({})).await;
    wait_until("the request", || receiver.begun() == 1).await;
    // Less than an attempt may take.
    server.advance(Duration::from_secs(1));
    let working = thread(&server, "delivery-0").await;
    assert_eq!(working["state"], "working");
    assert_eq!(working["since"], published_at.to_string());
    receiver.open_gate();
    server.settle().await;
    let idle = until(&server, "delivery-0", |thread| thread["state"] == "idle").await;
    assert_eq!(idle["since"], server.now().to_string());
}

#[actix_web::test]
async fn an_error_of_the_keeper_is_listed_as_its_last() {
    let server = Server::start().await;
    // In the way of the export.
    let file = server.config().store.path.join("export.json");
    std::fs::create_dir(&file).expect("there was none yet");
    server.application("app").await;
    server.advance(MINUTE * server.config().store.export_minutes);
    let keeper = until(&server, "store-keeper", |thread| thread["errors"] != 0).await;
    let error = &keeper["lastError"];
    let message = error["message"].as_str().expect("a sentence");
    assert!(
        message.starts_with("the registrations were not exported: "),
        "{message}"
    );
    assert_eq!(error["at"], server.now().to_string());
    assert_eq!(keeper["errors"], 1);
    std::fs::remove_dir(&file).expect("it is empty");
    server.get("/api/v1/health").await.expect(200);
}

#[actix_web::test]
async fn samples_tell_of_the_seconds_since_the_one_before() {
    let receiver = Receiver::answering([200, 500]).await;
    let server = Server::start().await;
    server.pulse();
    let retry = json!({ "delaysSeconds": [7], "jitter": 0 });
    let body = json!({ "url": receiver.url(), "retry": retry });
    server.endpoint_of("app", body).await;
    server.publish("first", json!({})).await;
    server.settle().await;
    server.publish("second", json!({})).await;
    server.settle().await;
    server.advance(Duration::from_secs(4));
    server.pulse();
    assert_eq!(status(&server).await["samples"], json!([]), "not yet");
    server.advance(Duration::from_secs(1));
    let at = server.now();
    server.pulse();
    server.advance(Duration::from_secs(2));
    server.settle().await;
    server.advance(Duration::from_secs(3));
    server.pulse();
    let status = status(&server).await;
    let [first, second] = &status["samples"].as_array().expect("a list")[..] else {
        panic!("{status}");
    };
    assert_eq!(first["at"], at.to_string());
    assert_eq!(
        (&first["accepted"], &first["delivered"], &first["failed"]),
        (&json!(2), &json!(1), &json!(1))
    );
    let median = first["latencyMsP50"].as_f64().expect("a number");
    assert!(median > 0.0 && first["latencyMsP95"] == median, "{first}");
    // The second message's second attempt; how long a first one took is not known of it.
    assert_eq!(
        (&second["accepted"], &second["delivered"], &second["failed"]),
        (&json!(0), &json!(1), &json!(0))
    );
    assert_eq!(second["latencyMsP50"], Value::Null);
}

#[actix_web::test]
async fn an_endpoint_is_a_problem_while_nothing_but_failures_comes_of_it() {
    let failing = Receiver::answering([500, 500]).await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&failing).await;
    let well = Receiver::ok().await;
    server.endpoint(&well).await;
    server.publish("a", json!({})).await;
    server.settle().await;
    server.advance_to_next_due().await;
    let [problem] = &problems(&status(&server).await, "endpoint_failing")[..] else {
        panic!("one endpoint fails");
    };
    let app = server.get("/api/v1/app/app").await.expect(200);
    assert_eq!(
        problem,
        &json!({
            "severity": "warning",
            "kind": "endpoint_failing",
            "message": "All 2 attempts of this hour and the last have failed.",
            "applicationId": app["id"],
            "applicationName": "app",
            "endpointId": endpoint,
            "url": failing.url(),
            "taskId": null,
        })
    );
    server.advance_to_next_due().await;
    assert_eq!(
        problems(&status(&server).await, "endpoint_failing"),
        [Value::Null; 0]
    );
}

#[actix_web::test]
async fn what_has_been_due_for_long_is_a_problem_and_what_is_held_is_none() {
    let receiver = Receiver::scripted([], Script::AtGate(200)).await;
    let server = Server::start_with(|config| {
        config.delivery.request_timeout_seconds = 3600;
    })
    .await;
    let endpoint = server.endpoint(&receiver).await;
    let held = server.endpoint(&receiver).await;
    server.set_disabled("app", &held, true).await;
    server.publish("a", json!({})).await;
    receiver.received(1).await;
    server.advance(5 * MINUTE);
    assert_eq!(
        problems(&status(&server).await, "lane_late"),
        [Value::Null; 0]
    );
    server.advance(MINUTE);
    let [late] = &problems(&status(&server).await, "lane_late")[..] else {
        panic!("one lane is late");
    };
    assert_eq!(
        (&late["endpointId"], &late["url"]),
        (&json!(endpoint), &json!(receiver.url()))
    );
    assert_eq!(late["message"], "A delivery has been due for 6 minutes.");
    receiver.open_gate();
    server.settle().await;
    assert_eq!(
        problems(&status(&server).await, "lane_late"),
        [Value::Null; 0]
    );
    let mut server = server;
    server.leftovers_are_fine();
}

#[actix_web::test]
async fn a_paused_task_is_a_problem() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    server.set_disabled("app", &endpoint, true).await;
    let path = format!("/api/v1/app/app/endpoint/{endpoint}/recover");
    let body = json!({ "since": server.now().to_string() });
    let task = server.post(&path, body).await.expect(202);
    let [paused] = &problems(&status(&server).await, "task_paused")[..] else {
        panic!("one task is paused");
    };
    assert_eq!(
        (&paused["taskId"], &paused["endpointId"]),
        (&task["id"], &json!(endpoint))
    );
}

#[actix_web::test]
async fn another_organisation_sees_its_own_things_alone() {
    let receiver = Receiver::answering([500]).await;
    let server = jwt::start().await;
    // Its retry is later than all that follows.
    let body = json!({ "url": receiver.url(), "retry": { "delaysSeconds": [600] } });
    server.endpoint_of("app", body).await;
    server.publish("a", json!({})).await;
    server.settle().await;
    server.pulse();
    server.advance(Duration::from_secs(5));
    server.pulse();
    let other = jwt::owner_of(&server, jwt::OTHER);
    let body = json!({ "name": "theirs" });
    let made = jwt::by(&server, &other, Method::POST, "/api/v1/app", body).await;
    made.expect(201);
    let theirs = jwt::by(&server, &other, Method::GET, STATUS, Value::Null).await;
    let theirs = theirs.expect(200);
    let ours = status(&server).await;
    assert_eq!(keys(&theirs), keys(&ours));
    assert_eq!(problems(&ours, "endpoint_failing").len(), 1);
    assert_eq!(theirs["problems"], json!([]));
    assert_eq!(theirs["samples"], json!([]));
    assert_eq!(theirs["threads"], json!([]));
    for field in ["waiting", "inFlight", "oldestDueSeconds", "store"] {
        assert_eq!(theirs[field], Value::Null, "{field}");
        assert_ne!(ours[field], Value::Null, "{field}");
    }
    let counts = json!({ "applications": 1, "endpoints": 0, "eventTypes": 0, "tokens": 0 });
    assert_eq!(theirs["registrations"], counts);
    let mut server = server;
    server.leftovers_are_fine();
}
