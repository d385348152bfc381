//! `deliverAt`: messages that are accepted now and first attempted later.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Receiver, Server, as_read, assert_invalid};

const MESSAGES: &str = "/api/v1/app/app/msg";
const HOUR: Duration = Duration::from_secs(3600);

async fn publish_at(server: &Server, at: &str) -> Value {
    let body = json!({ "eventType": "a", "payload": {}, "deliverAt": at });
    server.post(MESSAGES, body).await.expect(202)
}

#[actix_web::test]
async fn nothing_is_sent_before_and_a_restart_changes_nothing() {
    let receiver = Receiver::ok().await;
    let mut server = Server::start().await;
    server.endpoint(&receiver).await;
    let at = server.now() + 24 * HOUR;
    let message = publish_at(&server, &at.to_string()).await;
    assert_eq!(message["deliverAt"], at.to_string());
    let id = message["id"].as_str().expect("an id");
    let path = format!("{MESSAGES}/{id}");
    for _ in 0..3 {
        server.settle().await;
        server.advance(8 * HOUR - Duration::from_millis(1));
        server.settle().await;
        assert_eq!(receiver.count(), 0);
        assert_eq!(server.get(&path).await.expect(200), as_read(&message));
        server = server.restart().await;
    }
    assert_eq!(
        server.advance_to_next_due().await,
        Duration::from_millis(3),
        "it is due when it was to be"
    );
    assert_eq!(server.now(), at);
    assert_eq!(server.outcomes(id).await, ["delivered"]);
    let attempt = server.attempts(id).await.remove(0);
    assert_eq!(attempt["timestamp"], at.to_string());
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn what_is_due_sooner_goes_first_and_retries_count_from_the_first_attempt() {
    let receiver = Receiver::answering([200, 500]).await;
    let server = Server::start().await;
    server.endpoint(&receiver).await;
    let late = publish_at(&server, &(server.now() + HOUR).to_string()).await;
    let late = late["id"].as_str().expect("an id");
    let now = server.publish("a", json!({})).await;
    server.settle().await;
    assert_eq!(server.outcomes(&now).await, ["delivered"]);
    assert_eq!(server.outcomes(late).await, [""; 0]);
    assert_eq!(server.advance_to_next_due().await, HOUR);
    assert_eq!(server.advance_to_next_due().await.as_secs(), 5);
    assert_eq!(server.outcomes(late).await, ["http 500", "delivered"]);
    // The wait is not one for the receiver.
    let metrics = server.get("/metrics").await.text;
    let sum = "postrider_publish_to_receipt_seconds_sum ";
    let line = metrics.lines().find_map(|line| line.strip_prefix(sum));
    let sum: f64 = line.and_then(|sum| sum.parse().ok()).expect("a number");
    assert!((5.0..60.0).contains(&sum), "{sum}");
}

#[actix_web::test]
async fn a_message_that_is_resent_by_hand_goes_now() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    let message = publish_at(&server, &(server.now() + HOUR).to_string()).await;
    let id = message["id"].as_str().expect("an id");
    let resend = format!("{MESSAGES}/{id}/endpoint/{endpoint}/resend");
    server.post(&resend, json!({})).await.expect(202);
    server.settle().await;
    assert_eq!(server.outcomes(id).await, ["delivered"]);
    assert!(server.nothing_is_due(), "it is moved, not doubled");
}

#[actix_web::test]
async fn the_past_is_at_once_and_the_future_ends_with_retention() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    server.endpoint(&receiver).await;
    let past = publish_at(&server, "2001-02-03T04:05:06+02:00").await;
    assert_eq!(past["deliverAt"], "2001-02-03T02:05:06.000Z");
    server.settle().await;
    assert_eq!(receiver.count(), 1);

    let days = server.config().store.retention_days;
    let last = server.now() + 24 * HOUR * days;
    publish_at(&server, &last.to_string()).await;
    let beyond = (last + Duration::from_millis(1)).to_string();
    for at in [beyond.as_str(), "tomorrow", "2026-01-31T08:15:30", ""] {
        let body = json!({ "eventType": "a", "payload": {}, "deliverAt": at });
        let answer = server.post(MESSAGES, body).await;
        assert_invalid(&answer, &["body.deliverAt"]);
    }
    assert_eq!(server.advance_to_next_due().await, 24 * HOUR * days);
    assert_eq!(receiver.count(), 2);
}

#[actix_web::test]
async fn retention_leaves_what_is_yet_to_be_sent() {
    let receiver = Receiver::ok().await;
    let server = Server::start_with(|config| {
        config.store.slice_hours = 1;
        config.store.retention_days = 2;
    })
    .await;
    server.endpoint(&receiver).await;
    let message = publish_at(&server, &(server.now() + 48 * HOUR).to_string()).await;
    let id = message["id"].as_str().expect("an id");
    for _ in 0..4 {
        server.settle().await;
        server.advance(12 * HOUR - Duration::from_secs(1));
        server.publish("b", json!({})).await;
        // A new slice begins a moment ahead of the clock.
        server.advance(Duration::from_millis(10));
        server.settle().await;
        server.prune().await;
    }
    assert_eq!(server.outcomes(id).await, [""; 0]);
    server.advance_to_next_due().await;
    assert_eq!(server.outcomes(id).await, ["delivered"]);
}
