//! Breakers: what fails again and again gets a probe now and then, and nothing more.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Receiver, Script, Server};

const MINUTE: Duration = Duration::from_secs(60);

/// A server whose probes are not spread, so that a test can tell when they are due.
async fn server() -> Server {
    Server::start_with(|config| config.delivery.retry_delays_seconds = vec![5, 3600, 3600]).await
}

async fn breaker(server: &Server, endpoint: &str) -> Value {
    let path = format!("/api/v1/app/app/endpoint/{endpoint}");
    server.get(&path).await.expect(200)["breaker"].clone()
}

/// Publishes `count` messages, and fails until the breaker is open.
async fn opened(server: &Server, receiver: &Receiver, count: usize) -> String {
    let endpoint = server.endpoint(receiver).await;
    server.publish_all("app", vec![json!({}); count]).await;
    server.settle().await;
    assert_eq!(
        breaker(server, &endpoint).await,
        json!({ "state": "closed" })
    );
    server.advance(Duration::from_secs(31));
    server.settle().await;
    assert_eq!(breaker(server, &endpoint).await["state"], "open");
    endpoint
}

#[actix_web::test]
async fn a_receiver_that_restarts_opens_no_breaker() {
    let receiver = Receiver::scripted(vec![Script::Status(503); 200], Script::Status(200)).await;
    let server = server().await;
    let endpoint = server.endpoint(&receiver).await;
    server.publish_all("app", vec![json!({}); 200]).await;
    server.settle().await;
    assert_eq!(receiver.count(), 200, "all failed");
    assert_eq!(
        breaker(&server, &endpoint).await,
        json!({ "state": "closed" })
    );
    server.advance_to_next_due().await;
    server.settle().await;
    assert_eq!((receiver.count(), server.store().waiting_count()), (400, 0));
}

#[actix_web::test]
async fn ten_thousand_that_wait_cost_one_request_a_probe() {
    let receiver = Receiver::scripted([], Script::Status(500)).await;
    let mut server = server().await;
    server.leftovers_are_fine();
    opened(&server, &receiver, 20).await;
    for _ in 0..10 {
        server.publish_all("app", vec![json!({}); 1000]).await;
    }
    server.settle().await;
    let before = receiver.count();
    let mut now = server.now();
    let mut probes = Vec::new();
    while probes.len() < 7 {
        let due = server.advance_to_next_due().await;
        server.settle().await;
        now = now + due;
        assert_eq!(receiver.count(), before + probes.len() + 1, "one a probe");
        probes.push(due.as_secs());
    }
    // 30 s, then twice as long each time up to 15 minutes, spread by a fifth.
    for (found, expected) in probes.iter().zip([30u64, 60, 120, 240, 480, 900, 900]) {
        let least = expected * 8 / 10 - 1;
        assert!((least..=expected * 12 / 10).contains(found), "{probes:?}");
    }
    let requests = receiver.requests();
    let ids: Vec<_> = requests[before..]
        .iter()
        .map(|one| one.header("webhook-id"))
        .collect();
    for pair in ids.windows(2) {
        assert_ne!(pair[0], pair[1], "another delivery each time");
    }
}

#[actix_web::test]
async fn the_first_success_closes_it_and_the_lane_begins_slowly() {
    let receiver = Receiver::scripted([], Script::Status(500)).await;
    let mut server = server().await;
    server.leftovers_are_fine();
    let endpoint = opened(&server, &receiver, 30).await;
    let failed = receiver.count();
    receiver.then(Script::Status(200));
    server.advance_to_next_due().await;
    server.settle().await;
    assert_eq!(
        breaker(&server, &endpoint).await,
        json!({ "state": "closed" })
    );
    assert!(receiver.count() > failed + 1, "the others go on");
}

#[actix_web::test]
async fn a_breaker_is_open_after_a_crash() {
    let receiver = Receiver::scripted([], Script::Status(500)).await;
    let mut server = server().await;
    server.leftovers_are_fine();
    let endpoint = opened(&server, &receiver, 20).await;
    let before = (receiver.count(), breaker(&server, &endpoint).await);
    let mut again = server.after_a_crash().await;
    again.leftovers_are_fine();
    again.settle().await;
    assert_eq!((receiver.count(), breaker(&again, &endpoint).await), before);
    again.advance_to_next_due().await;
    again.settle().await;
    assert_eq!(receiver.count(), before.0 + 1);
}

#[actix_web::test]
async fn what_waited_for_its_whole_schedule_fails_once_and_is_recovered() {
    let receiver = Receiver::scripted([], Script::Status(500)).await;
    let server = server().await;
    let endpoint = opened(&server, &receiver, 20).await;
    let late = server
        .publish_all("app", vec![json!({ "late": true }); 5])
        .await;
    server.settle().await;
    // 5 s, an hour and an hour.
    server.advance(Duration::from_secs(7300));
    server.settle().await;
    while server.store().waiting_count() > 0 {
        // What was probed meanwhile has the rest of its schedule.
        server.advance_to_next_due().await;
        server.settle().await;
    }
    let mut ended = 0;
    for message in &late {
        let outcomes = server.outcomes(message).await;
        let (last, before) = outcomes.split_last().expect("it ended");
        assert!(before.iter().all(|one| one == "http 500"), "{outcomes:?}");
        assert!(
            ["http 500", "breaker_open"].contains(&last.as_str()),
            "{outcomes:?}"
        );
        ended += usize::from(last == "breaker_open");
    }
    assert!(ended >= 3, "{ended}");
    assert!(receiver.count() < 60, "{} requests", receiver.count());

    receiver.then(Script::Status(200));
    let since = json!({ "since": "2020-01-01T00:00:00Z" });
    let path = format!("/api/v1/app/app/endpoint/{endpoint}/recover");
    let job = server.post(&path, since).await.expect(202)["id"].clone();
    let job = format!("/api/v1/background-task/{}", job.as_str().expect("an id"));
    loop {
        // In this order: what a job that has ended put into the queue is seen afterwards.
        let is_running = server.get(&job).await.expect(200)["status"] == "running";
        server.settle().await;
        match server.nothing_is_due() {
            true if !is_running => break,
            true => {}
            false => drop(server.advance_to_next_due().await),
        }
    }
    for message in &late {
        let outcomes = server.outcomes(message).await;
        assert_eq!(outcomes.last().map(String::as_str), Some("delivered"));
    }
    assert_eq!(
        breaker(&server, &endpoint).await,
        json!({ "state": "closed" })
    );
}

#[actix_web::test]
async fn an_answer_may_ask_for_a_rest_of_the_lane() {
    for (status, asked, rested) in [(429, "120", 120), (503, "100000", 300), (500, "120", 0)] {
        let asks = Script::answer(status, &[("Retry-After", asked)], "");
        let receiver = Receiver::scripted([asks], Script::Status(200)).await;
        let mut server = server().await;
        server.leftovers_are_fine();
        let endpoint = server.endpoint(&receiver).await;
        server.publish("a.b", json!({ "n": 1 })).await;
        server.settle().await;
        server.publish("a.b", json!({ "n": 2 })).await;
        server.settle().await;
        let state = breaker(&server, &endpoint).await;
        if rested == 0 {
            assert_eq!(
                (receiver.count(), &state),
                (2, &json!({ "state": "closed" }))
            );
            continue;
        }
        assert_eq!(
            (receiver.count(), &state["state"]),
            (1, &json!("resting")),
            "{status}"
        );
        server.advance(Duration::from_secs(rested - 1));
        server.settle().await;
        assert_eq!(receiver.count(), 1);
        server.advance(Duration::from_secs(1));
        server.settle().await;
        let probe: Value = serde_json::from_slice(&receiver.requests()[1].body).unwrap();
        assert_eq!(probe["n"], 2, "it is due longest");
        assert_eq!(
            breaker(&server, &endpoint).await,
            json!({ "state": "closed" })
        );
    }
}

#[actix_web::test]
async fn no_request_comes_of_the_breaker_where_it_is_off() {
    let receiver = Receiver::scripted([], Script::Status(500)).await;
    let server = Server::start_with(|config| {
        config.delivery.breaker.failures = 0;
        config.delivery.retry_delays_seconds = vec![60];
    });
    let server = server.await;
    let endpoint = server.endpoint(&receiver).await;
    server.publish_all("app", vec![json!({}); 100]).await;
    server.settle().await;
    server.advance(MINUTE);
    server.settle().await;
    assert_eq!((receiver.count(), server.store().waiting_count()), (200, 0));
    assert_eq!(
        breaker(&server, &endpoint).await,
        json!({ "state": "closed" })
    );
}

/// The documents of the five systems say when attempts are repeated, and nothing of a rest: with 20 failures in a row
/// and many more, every delivery has each attempt of its schedule, at its time.
#[actix_web::test]
async fn the_schedules_of_the_five_systems_hold_whatever_fails() {
    for (profile, attempts) in [
        ("ovcode", 8),
        ("ocrolus", 8),
        ("ovation", 3),
        ("ioffice", 8),
        ("okhi", 8),
    ] {
        let receiver = Receiver::scripted([], Script::Status(500)).await;
        let server = Server::start().await;
        server.application("app").await;
        let body = json!({ "url": receiver.url(), "profile": profile });
        let endpoint = server.endpoint_of("app", body).await;
        let payload = json!({ "eventType": "CREATE", "entityType": "move", "entityId": "7" });
        let messages = server.publish_all("app", vec![payload; 20]).await;
        server.settle().await;
        assert_eq!(receiver.count(), 20, "{profile}");
        while !server.nothing_is_due() {
            server.advance_to_next_due().await;
            server.settle().await;
            assert_eq!(
                breaker(&server, &endpoint).await,
                json!({ "state": "closed" })
            );
        }
        assert_eq!(receiver.count(), 20 * attempts, "{profile}");
        for message in &messages {
            let made = server.attempts(message).await;
            assert_eq!(made.len(), attempts, "{profile}");
            for pair in made.windows(2) {
                assert_eq!(pair[0]["nextAttemptAt"], pair[1]["timestamp"], "{profile}");
            }
        }
    }
}

#[actix_web::test]
async fn a_lane_that_is_released_begins_slowly() {
    let receiver = Receiver::scripted([], Script::AtGate(200)).await;
    let server = server().await;
    let endpoint = server.endpoint(&receiver).await;
    let path = format!("/api/v1/app/app/endpoint/{endpoint}");
    server
        .post(&format!("{path}/hold"), json!({}))
        .await
        .expect(200);
    server.publish_all("app", vec![json!({}); 50]).await;
    server.settle().await;
    server
        .post(&format!("{path}/release"), json!({}))
        .await
        .expect(200);
    receiver.received(1).await;
    server.round_trip().await;
    assert_eq!(receiver.busiest(), 1, "one at a time at first");
    receiver.open_gate();
    server.settle().await;
    assert_eq!(receiver.count(), 50);
}
