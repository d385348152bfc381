//! `expiresAt`: from then on nothing of a message is sent.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Receiver, Script, Server, assert_error, assert_invalid};

const MESSAGES: &str = "/api/v1/app/app/msg";

/// Publishes what expires after this; returns its id.
async fn publish_for(server: &Server, lifetime: Duration) -> String {
    let end = (server.now() + lifetime).to_string();
    let body = json!({ "eventType": "a", "payload": {}, "expiresAt": end });
    let message = server.post(MESSAGES, body).await.expect(202);
    assert_eq!(message["expiresAt"], end);
    message["id"].as_str().expect("an id").to_owned()
}

#[actix_web::test]
async fn a_retry_that_would_be_too_late_is_not_scheduled() {
    // The retry after 5 s would be due right then, or a millisecond before.
    for (milliseconds, outcomes) in [
        (5_000, vec!["http 500"]),
        (5_001, vec!["http 500", "http 500"]),
    ] {
        let receiver = Receiver::scripted([], Script::Status(500)).await;
        let server = Server::start().await;
        server.endpoint(&receiver).await;
        let message = publish_for(&server, Duration::from_millis(milliseconds)).await;
        server.settle().await;
        if outcomes.len() > 1 {
            server.advance_to_next_due().await;
        }
        assert!(server.nothing_is_due());
        assert_eq!(server.outcomes(&message).await, outcomes);
        let last = server.attempts(&message).await.pop().expect("the last");
        assert_eq!(last["nextAttemptAt"], Value::Null);
        assert_eq!(last["status"], 2);
        assert_eq!(server.store().waiting_count(), 0);
        server.advance(Duration::from_secs(86_400));
        server.settle().await;
        assert_eq!(receiver.count(), outcomes.len());
    }
}

#[actix_web::test]
async fn what_expires_while_it_waits_ends_without_a_request() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    server.set_disabled("app", &endpoint, true).await;
    let expiring = publish_for(&server, Duration::from_secs(60)).await;
    let staying = server.publish("a", json!({})).await;
    server.advance(Duration::from_secs(60));
    server.settle().await;
    assert_eq!(server.outcomes(&expiring).await, [""; 0], "it is held");

    // From disk as from memory.
    let server = server.restart().await;
    server.set_disabled("app", &endpoint, false).await;
    receiver.received(1).await;
    server.settle().await;
    assert_eq!(receiver.count(), 1);
    assert_eq!(server.outcomes(&staying).await, ["delivered"]);
    assert_eq!(server.outcomes(&expiring).await, ["expired"]);
    let attempt = server.attempts(&expiring).await.remove(0);
    assert_eq!(attempt["status"], 2);
    assert_eq!(attempt["nextAttemptAt"], Value::Null);
    assert_eq!(attempt["timestamp"], server.now().to_string());
    let detail = attempt["failure"]["detail"].as_str().expect("a sentence");
    assert!(detail.contains("expired at"), "{detail}");
    assert!(server.nothing_is_due());
    let metrics = server.get("/metrics").await.text;
    assert!(metrics.contains("postrider_attempts_total{outcome=\"expired\"} 1\n"));
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn a_delivery_behind_others_in_its_lane_can_expire_there() {
    let receiver = Receiver::scripted([], Script::AtGate(200)).await;
    let server = Server::start_with(|config| config.delivery.in_flight_per_endpoint_max = 1).await;
    server.endpoint(&receiver).await;
    let first = server.publish("a", json!({})).await;
    receiver.received(1).await;
    // Its message is in memory when its turn comes.
    let second = publish_for(&server, Duration::from_secs(3)).await;
    server.advance(Duration::from_secs(3));
    receiver.open_gate();
    server.settle().await;
    assert_eq!(server.outcomes(&first).await, ["delivered"]);
    assert_eq!(server.outcomes(&second).await, ["expired"]);
    assert_eq!(receiver.count(), 1);
}

#[actix_web::test]
async fn a_message_may_be_sent_between_its_two_times() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    server.endpoint(&receiver).await;
    let at = server.now() + Duration::from_secs(10);
    let publish = |expires_at: String| {
        let body = json!({
            "eventType": "a", "payload": {}, "deliverAt": at.to_string(), "expiresAt": expires_at,
        });
        server.post(MESSAGES, body)
    };
    let message = publish((at + Duration::from_millis(1)).to_string()).await;
    let message = message.expect(202);
    for early in [at.to_string(), server.now().to_string(), "soon".to_owned()] {
        assert_invalid(&publish(early).await, &["body.expiresAt"]);
    }
    server.advance_to_next_due().await;
    let id = message["id"].as_str().expect("an id");
    assert_eq!(server.outcomes(id).await, ["delivered"]);
}

#[actix_web::test]
async fn an_expired_message_is_not_resent_by_hand() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    let message = publish_for(&server, Duration::from_secs(60)).await;
    server.settle().await;
    let resend = format!("{MESSAGES}/{message}/endpoint/{endpoint}/resend");
    server.advance(Duration::from_millis(59_999));
    let key = [("idempotency-key", "k")];
    let post = || {
        server.call(
            awc::http::Method::POST,
            &resend,
            &key,
            Some("{}".to_owned()),
        )
    };
    post().await.expect(202);
    server.settle().await;
    server.advance(Duration::from_millis(1));
    let refused = server.post(&resend, json!({})).await;
    assert_error(&refused, 409, "conflict");
    assert!(refused.text.contains("expired"), "{}", refused.text);
    // What was answered before is answered again.
    post().await.expect(202);
    server.settle().await;
    assert_eq!(server.outcomes(&message).await, ["delivered", "delivered"]);
}
