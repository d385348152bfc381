//! What waits for an endpoint that gets nothing: sent at a pace, let go of, or tried with one message.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Receiver, Script, Server, assert_error, assert_invalid, wait_until};

const SECOND: Duration = Duration::from_secs(1);

fn path(endpoint: &str) -> String {
    format!("/api/v1/app/app/endpoint/{endpoint}")
}

async fn shown(server: &Server, endpoint: &str) -> Value {
    server.get(&path(endpoint)).await.expect(200)
}

async fn cancel_held(server: &Server, endpoint: &str, body: Value) -> Value {
    let place = format!("{}/cancel-held", path(endpoint));
    server.post(&place, body).await.expect(200)["canceled"].clone()
}

/// How many requests come within each of the next seconds.
async fn by_the_second(server: &Server, receiver: &Receiver, seconds: usize) -> Vec<usize> {
    let mut counts = Vec::new();
    for _ in 0..seconds {
        let before = receiver.count();
        // In steps, so that all that may be sent within the second is sent within it.
        for _ in 0..10 {
            server.advance(SECOND / 10);
            server.settle().await;
        }
        counts.push(receiver.count() - before);
    }
    counts
}

#[actix_web::test]
async fn what_waited_goes_out_at_the_rate_that_enabling_or_releasing_it_names() {
    for lift in ["enable", "release"] {
        let (receiver, heard) = (Receiver::ok().await, Receiver::ok().await);
        let server = Server::start().await;
        let endpoint = server.endpoint(&receiver).await;
        let hears = json!({ "url": heard.url(), "eventTypes": ["endpoint.updated"] });
        let own = "/api/v1/operational-webhook/endpoint";
        server.post(own, hears).await.expect(201);
        match lift {
            "enable" => server.set_disabled("app", &endpoint, true).await,
            _ => {
                let hold = format!("{}/hold", path(&endpoint));
                server.post(&hold, json!({})).await.expect(200);
            }
        }
        server.publish_all("app", vec![json!({}); 7]).await;
        server.advance(SECOND);
        let place = format!("{}/{lift}", path(&endpoint));
        let answer = server.post(&place, json!({ "rate": 2 })).await.expect(200);
        let now = shown(&server, &endpoint).await;
        let pace = json!({ "rate": 2, "publishedBefore": server.now().to_string() });
        assert_eq!(now["catchUp"], pace);
        assert_eq!(now["disabled"], false);
        if lift == "enable" {
            assert_eq!(answer, now, "it answers with the endpoint");
        }
        server.settle().await;
        assert_eq!(receiver.count(), 0);
        assert_eq!(by_the_second(&server, &receiver, 4).await, [2, 2, 2, 1]);
        // What comes later has no such pace.
        server.publish_all("app", vec![json!({}); 7]).await;
        server.settle().await;
        assert_eq!(receiver.count(), 14, "{lift}");
        // A release is the operator's own, who need not be told of it.
        let told = if lift == "enable" { 2 } else { 0 };
        assert_eq!(heard.count(), told, "{lift}");
    }
}

#[actix_web::test]
async fn a_pace_can_be_changed_and_taken_away_and_has_limits() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    server.set_disabled("app", &endpoint, true).await;
    server.publish_all("app", vec![json!({}); 9]).await;
    server.advance(SECOND);
    let enable = format!("{}/enable", path(&endpoint));
    for body in [
        json!({ "rate": 0 }),
        json!({ "rate": 65_536 }),
        json!({ "rate": "2" }),
    ] {
        let refused = server.post(&enable, body).await;
        assert_invalid(&refused, &["body.rate"]);
    }
    assert_eq!(shown(&server, &endpoint).await["disabled"], true);
    let enabled = server.post(&enable, json!({ "rate": 1 })).await.expect(200);
    assert_eq!(enabled["catchUp"]["rate"], 1);
    assert_eq!(by_the_second(&server, &receiver, 2).await, [1, 1]);
    // It is not disabled any more: only the pace is another one.
    server.post(&enable, json!({ "rate": 3 })).await.expect(200);
    assert_eq!(by_the_second(&server, &receiver, 1).await, [3]);
    let enabled = server.post(&enable, json!({})).await.expect(200);
    assert!(enabled.get("catchUp").is_none());
    server.settle().await;
    assert_eq!(receiver.count(), 9);

    // The same of all that is held.
    server.post("/api/v1/hold", json!({})).await.expect(200);
    let refused = server.post("/api/v1/release", json!({ "rate": 0 })).await;
    assert_invalid(&refused, &["body.rate"]);
    for (scope, rate) in [("/api/v1/release", 4), ("/api/v1/app/app/release", 5)] {
        let released = server
            .post(scope, json!({ "rate": rate }))
            .await
            .expect(200);
        assert_eq!(released["changed"], 1);
        assert_eq!(shown(&server, &endpoint).await["catchUp"]["rate"], rate);
        server.post("/api/v1/hold", json!({})).await.expect(200);
    }
    server.post("/api/v1/release", json!({})).await.expect(200);
    assert!(shown(&server, &endpoint).await.get("catchUp").is_none());
}

#[actix_web::test]
async fn what_is_let_go_of_fails_as_canceled_and_can_be_sent_after_all() {
    let receiver = Receiver::answering([500]).await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    let begin = server.now();
    let tried = server.publish("a.b", json!({})).await;
    server.settle().await;
    let place = format!("{}/cancel-held", path(&endpoint));
    let refused = server.post(&place, json!({})).await;
    assert_error(&refused, 409, "conflict");
    assert!(
        refused.text.contains("disable or hold it first"),
        "{}",
        refused.text
    );
    server.set_disabled("app", &endpoint, true).await;
    server.advance(SECOND);
    let waited = server.publish("a.b", json!({})).await;
    server.advance(SECOND);
    let later = server.now();
    let newest = server.publish("a.b", json!({})).await;
    server.advance(SECOND);

    let body = json!({ "publishedBefore": "yesterday" });
    assert_invalid(&server.post(&place, body).await, &["body.publishedBefore"]);
    let older = json!({ "publishedBefore": later.to_string() });
    assert_eq!(cancel_held(&server, &endpoint, older.clone()).await, 2);
    assert_eq!(cancel_held(&server, &endpoint, older).await, 0);
    assert_eq!(server.store().waits().held, 1);
    assert_eq!(server.outcomes(&tried).await, ["http 500", "canceled"]);
    let attempts = server.attempts(&waited).await;
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0]["attempt"], 1);
    assert_eq!(attempts[0]["url"], receiver.url());
    assert_eq!(attempts[0]["nextAttemptAt"], Value::Null);
    let detail = "The delivery was canceled while the endpoint was disabled; no request was made.";
    assert_eq!(
        attempts[0]["failure"],
        json!({ "kind": "canceled", "detail": detail })
    );
    assert!(server.attempts(&newest).await.is_empty());
    let state = async |message: &str| {
        let place = format!("/api/v1/app/app/msg/{message}/endpoint");
        let list = server.get(&place).await.expect(200);
        list["data"][0]["statusText"].clone()
    };
    assert_eq!(state(&tried).await, "fail");
    assert_eq!(state(&waited).await, "fail");
    assert_eq!(state(&newest).await, "pending");
    // Nothing failed there but the one attempt.
    let stats = server
        .get(&format!("{}/attempt-stats", path(&endpoint)))
        .await;
    assert_eq!(stats.expect(200)["fail"], 1);
    let metrics = server.get("/metrics").await.text;
    let counted = "postrider_attempts_total{outcome=\"canceled\"} 2";
    assert!(metrics.lines().any(|line| line == counted), "{metrics}");

    assert_eq!(cancel_held(&server, &endpoint, json!({})).await, 1);
    assert_eq!(server.store().waiting_count(), 0);
    let server = server.restart().await;
    assert_eq!(server.outcomes(&newest).await, ["canceled"]);
    server.set_disabled("app", &endpoint, false).await;
    server.advance(Duration::from_secs(24 * 3600));
    server.settle().await;
    assert_eq!(receiver.count(), 1, "nobody asked for it");
    let recover = format!("{}/recover", path(&endpoint));
    let since = json!({ "since": begin.to_string() });
    server.post(&recover, since).await.expect(202);
    receiver.received(4).await;
    wait_until("the job's last commit", || {
        server.store().waiting_count() == 0
    })
    .await;
    server.settle().await;
    assert_eq!(
        server.outcomes(&tried).await,
        ["http 500", "canceled", "delivered"]
    );
    for message in [&waited, &newest] {
        assert_eq!(server.outcomes(message).await, ["canceled", "delivered"]);
    }
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn thousands_are_let_go_of_and_none_of_another_endpoint() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let (first, other) = (
        server.endpoint(&receiver).await,
        server.endpoint(&receiver).await,
    );
    let own = "/api/v1/operational-webhook/endpoint";
    let hears = json!({ "url": receiver.url(), "eventTypes": ["message.attempt.exhausted"] });
    server.post(own, hears).await.expect(201);
    server
        .post("/api/v1/app/app/hold", json!({}))
        .await
        .expect(200);
    server.publish_all("app", vec![json!({}); 1203]).await;
    assert_eq!(cancel_held(&server, &first, json!({})).await, 1203);
    assert_eq!(server.store().waits().held, 1203);
    server
        .post("/api/v1/app/app/release", json!({}))
        .await
        .expect(200);
    receiver.received(1203).await;
    server.settle().await;
    assert_eq!(
        receiver.count(),
        1203,
        "nobody is told of what was let go of by hand"
    );
    let held = format!("{}/hold", path(&other));
    server.post(&held, json!({})).await.expect(200);
    assert_eq!(cancel_held(&server, &other, json!({})).await, 0);
    server.stop_and_verify().await;
}

/// The endpoints of a list that have a status.
async fn ids(server: &Server, status: &str) -> BTreeSet<String> {
    let place = format!("/api/v1/app/app/endpoint?status={status}");
    let list = server.get(&place).await.expect(200);
    let data = list["data"].as_array().expect("a list").iter();
    data.map(|one| one["id"].as_str().expect("an id").to_owned())
        .collect()
}

async fn problems(server: &Server) -> Vec<Value> {
    let status = server.get("/api/v1/status").await.expect(200);
    let told = status["problems"].as_array().expect("a list").iter();
    let told = told.filter(|one| {
        ["endpoints_open", "lane_late"].contains(&one["kind"].as_str().unwrap_or_default())
    });
    told.cloned().collect()
}

#[actix_web::test]
async fn an_open_breaker_shows_everywhere_and_a_probe_by_hand_closes_it() {
    let receiver = Receiver::answering([200, 500, 500]).await;
    let server = Server::start_with(|config| {
        config.delivery.breaker.failures = 2;
        config.delivery.breaker.min_open_after_seconds = 0;
        config.delivery.breaker.probe_first_seconds = 3000;
        config.delivery.breaker.probe_max_seconds = 3000;
        config.delivery.retry_delays_seconds = vec![60, 36_000];
    })
    .await;
    let endpoint = server.endpoint(&receiver).await;
    let other = server
        .endpoint_of("other", json!({ "url": receiver.url() }))
        .await;
    assert!(!other.is_empty());
    server.publish("a.b", json!({})).await;
    server.settle().await;
    assert_eq!(
        shown(&server, &endpoint).await["breaker"],
        json!({ "state": "closed" })
    );
    assert!(ids(&server, "failing").await.is_empty());
    server.publish("a.b", json!({})).await;
    server.settle().await;
    let all = BTreeSet::from([endpoint.clone()]);
    assert_eq!(ids(&server, "failing").await, all);
    assert!(ids(&server, "open").await.is_empty());
    server.publish("a.b", json!({})).await;
    server.settle().await;
    let opened = server.now();
    let now = shown(&server, &endpoint).await;
    assert_eq!(now["breaker"]["state"], "open");
    assert_eq!(now["breaker"]["since"], opened.to_string());
    assert_eq!(ids(&server, "open").await, all);
    assert!(ids(&server, "resting").await.is_empty());
    assert_eq!(ids(&server, "enabled").await, all);

    server.advance(Duration::from_secs(600));
    server.settle().await;
    assert_eq!(receiver.count(), 3, "it rests");
    let list = format!("{}?with_health=true&limit=1", "/api/v1/app/app/endpoint");
    let health = server.get(&list).await.expect(200)["data"][0]["health"].clone();
    assert_eq!(health["state"], "failing");
    let lanes = server.get("/api/v1/lane").await.expect(200);
    let lane = &lanes["data"][0];
    assert_eq!(
        (&lane["state"], &lane["waiting"]),
        (&json!("open"), &json!(2))
    );
    assert_eq!(lane["nextProbeAt"], now["breaker"]["nextProbeAt"]);
    let status = server.get("/api/v1/status").await.expect(200);
    let breakers = json!({ "open": 1, "waiting": 2, "resting": 0 });
    assert_eq!(status["breakers"], breakers);
    let told = problems(&server).await;
    assert_eq!(
        told.len(),
        1,
        "nothing is late behind an open breaker: {told:?}"
    );
    assert_eq!(told[0]["kind"], "endpoints_open");
    let sentence = "1 endpoint failed so often in a row that nothing but probes is sent there: 2 deliveries wait \
                    until one succeeds (GET …/endpoint?status=open lists an application's).";
    assert_eq!(told[0]["message"], sentence);
    server.pulse();
    assert_eq!(server.metrics().oldest_due_seconds.get(), 0.0);
    assert_eq!(server.metrics().lanes_resting.get(), 1);
    assert_eq!(server.metrics().breakers_opened.get(), 1);

    // A probe that fails leaves it open, and the next one is due as if it had been the usual one.
    receiver.then(Script::Status(500));
    let probe = format!("{}/probe", path(&endpoint));
    let answer = server.post(&probe, json!({})).await.expect(200);
    assert_eq!(answer["breaker"]["nextProbeAt"], server.now().to_string());
    server.settle().await;
    assert_eq!(receiver.count(), 4);
    let now = shown(&server, &endpoint).await;
    assert_eq!(now["breaker"]["state"], "open");
    assert_eq!(now["breaker"]["since"], opened.to_string());
    assert_eq!(
        server.metrics().breakers_opened.get(),
        1,
        "it is the same opening"
    );
    receiver.then(Script::Status(200));
    // One that succeeds closes it, and the other message follows once it is due.
    server.post(&probe, json!({})).await.expect(200);
    server.settle().await;
    assert_eq!(receiver.count(), 5);
    let closed = json!({ "breaker": { "state": "closed" } });
    assert_eq!(server.post(&probe, json!({})).await.expect(200), closed);
    assert!(
        problems(&server)
            .await
            .iter()
            .all(|one| one["kind"] != "endpoints_open")
    );
    assert!(ids(&server, "failing").await.is_empty());
    server.advance_to_next_due().await;
    assert_eq!(receiver.count(), 6);
    assert_eq!(server.metrics().lanes_resting.get(), 0);
}

#[actix_web::test]
async fn a_lane_rests_for_a_receiver_that_asks_for_it_and_can_be_tried_before() {
    let busy = Script::answer(503, &[("retry-after", "200")], "");
    let receiver = Receiver::scripted([busy], Script::Status(200)).await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    server.publish("a.b", json!({})).await;
    server.settle().await;
    let until = server.now() + Duration::from_secs(200);
    let breaker = json!({
        "state": "resting", "since": server.now().to_string(), "nextProbeAt": until.to_string(),
    });
    assert_eq!(shown(&server, &endpoint).await["breaker"], breaker);
    assert_eq!(
        ids(&server, "resting").await,
        BTreeSet::from([endpoint.clone()])
    );
    assert!(ids(&server, "open").await.is_empty());
    server.advance(SECOND);
    server.publish("a.b", json!({})).await;
    server.settle().await;
    assert_eq!(receiver.count(), 1, "it asked for a rest");
    let lanes = server.get("/api/v1/lane").await.expect(200);
    assert_eq!(lanes["data"][0]["state"], "resting");
    let status = server.get("/api/v1/status").await.expect(200);
    let breakers = json!({ "open": 0, "waiting": 0, "resting": 1 });
    assert_eq!(status["breakers"], breakers);
    assert!(
        problems(&server).await.is_empty(),
        "it is as the receiver wants it"
    );

    let probe = format!("{}/probe", path(&endpoint));
    server.post(&probe, json!({})).await.expect(200);
    server.settle().await;
    assert_eq!(receiver.count(), 2);
    assert_eq!(
        shown(&server, &endpoint).await["breaker"],
        json!({ "state": "closed" })
    );
    server.advance_to_next_due().await;
    assert_eq!(receiver.count(), 3);
}
