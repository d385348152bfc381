//! postrider as OkHi: what its webhook page says, with the settings and the event types of
//! `examples/okhi`.

use std::time::Duration;

use serde_json::{Value, json};

use super::support::{Example, Receiver, Script, Server, assert_invalid, wait_until};

const EVENT: &str = "address_verification.digital";

async fn webhook(server: &Server, receiver: &Receiver) -> String {
    server
        .endpoint_of("app", json!({ "url": receiver.url() }))
        .await
}

#[actix_web::test]
async fn a_status_change_is_posted_with_the_documented_fields_and_the_extra_ones() {
    let example = Example::named("okhi");
    let server = example.start().await;
    let receiver = Receiver::ok().await;
    webhook(&server, &receiver).await;
    let payload = example.payload(EVENT);
    server.publish_text("app", EVENT, payload).await;
    server.settle().await;
    let request = &receiver.requests()[0];
    assert_eq!(request.method, "POST");
    assert_eq!(request.body, payload.as_bytes());
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    for field in [
        "address_verification_id",
        "verification_status",
        "verification_mode",
        "user_id",
        "location_id",
    ] {
        assert!(body["v2"][field].is_string(), "{field}");
    }
    let extra = body.as_object().unwrap().len() > 1 || body["v2"].as_object().unwrap().len() > 5;
    assert!(extra, "the page says that undocumented fields come, too");
}

#[actix_web::test]
async fn the_16th_second_is_a_timeout_and_the_15th_an_answer() {
    let server = Example::named("okhi").start().await;
    let receiver = Receiver::scripted([Script::Hang], Script::AtGate(200)).await;
    webhook(&server, &receiver).await;
    let message = server.publish(EVENT, json!({})).await;
    receiver.received(1).await;
    server.advance(Duration::from_millis(14_999));
    server.round_trip().await;
    assert_eq!(receiver.open(), 1, "it may take this long");
    server.advance(Duration::from_millis(1));
    wait_until("the connection to be closed", || receiver.open() == 0).await;
    server.settle().await;
    assert_eq!(server.outcomes(&message).await, ["timeout"]);
    let attempt = &server.attempts(&message).await[0];
    let detail = attempt["failure"]["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("15 s"), "{detail}");
    assert!(attempt["nextAttemptAt"].is_string(), "it is retried");

    let due = Duration::from_secs(6);
    server.advance(due);
    receiver.received(2).await;
    server.advance(Duration::from_secs(14));
    receiver.open_gate();
    server.settle().await;
    assert_eq!(server.outcomes(&message).await, ["timeout", "delivered"]);
}

#[actix_web::test]
async fn a_late_answer_leads_to_a_duplicate_with_the_same_id() {
    let server = Example::named("okhi").start().await;
    // It takes the event and its answer comes too late.
    let receiver = Receiver::scripted([Script::Hang], Script::Status(200)).await;
    webhook(&server, &receiver).await;
    let message = server
        .publish(EVENT, json!({ "v2": { "user_id": "1" } }))
        .await;
    receiver.received(1).await;
    server.advance(Duration::from_secs(16));
    server.settle().await;
    server.advance_to_next_due().await;
    let requests = receiver.received(2).await;
    assert_eq!(requests[0].body, requests[1].body);
    for request in &requests {
        assert_eq!(request.header("webhook-id"), Some(message.as_str()));
    }
    assert_eq!(server.outcomes(&message).await, ["timeout", "delivered"]);
}

#[actix_web::test]
async fn failures_are_retried_for_a_few_minutes_with_growing_waits_and_then_no_more() {
    let server = Example::named("okhi").start().await;
    let receiver = Receiver::scripted([], Script::Status(500)).await;
    webhook(&server, &receiver).await;
    let message = server.publish(EVENT, json!({})).await;
    let mut waits = Vec::new();
    server.settle().await;
    while !server.nothing_is_due() {
        waits.push(server.advance_to_next_due().await.as_secs_f64());
    }
    let expected = [5.0, 10.0, 20.0, 40.0, 60.0, 60.0, 60.0];
    assert_eq!(waits.len(), expected.len(), "{waits:?}");
    for (wait, expected) in waits.iter().zip(expected) {
        assert!((wait / expected - 1.0).abs() <= 0.1001, "{waits:?}");
    }
    assert_eq!(receiver.count(), 8);
    let outcomes = server.outcomes(&message).await;
    assert_eq!(outcomes, ["http 500"; 8]);
}

#[actix_web::test]
async fn the_customers_header_comes_with_every_request_and_is_shown_nowhere() {
    let server = Example::named("okhi").start().await;
    let receiver = Receiver::answering([500]).await;
    let body = json!({
        "url": receiver.url(),
        "headers": { "okhi-authorization": "s3cret-of-the-customer", "x-plain": "shown" },
    });
    let endpoint = server.endpoint_of("app", body).await;
    let message = server.publish(EVENT, json!({})).await;
    server.advance_to_next_due().await;
    let requests = receiver.requests();
    assert_eq!(requests.len(), 2);
    for request in &requests {
        assert_eq!(
            request.header("okhi-authorization"),
            Some("s3cret-of-the-customer")
        );
    }
    let path = format!("/api/v1/app/app/endpoint/{endpoint}");
    let shown = [
        server.get(&path).await.text,
        server.get(&format!("{path}/headers")).await.text,
        server
            .get(&format!("/api/v1/app/app/attempt/msg/{message}"))
            .await
            .text,
    ];
    for text in &shown {
        assert!(!text.contains("s3cret"), "{text}");
    }
    assert!(
        shown[1].contains("okhi-authorization"),
        "its name is shown: {}",
        shown[1]
    );
    assert!(
        shown[2].contains("okhi-authorization"),
        "its name is shown: {}",
        shown[2]
    );
}

#[actix_web::test]
async fn the_simulator_triggers_an_event_of_ones_choice_at_one_webhook() {
    let example = Example::named("okhi");
    let server = example.start().await;
    let receiver = Receiver::ok().await;
    let other = Receiver::ok().await;
    let endpoint = webhook(&server, &receiver).await;
    webhook(&server, &other).await;
    let path = format!("/api/v1/app/app/endpoint/{endpoint}/simulate");
    let body = json!({
        "eventType": EVENT,
        "overrides": { "v2": { "verification_status": "verified" } },
    });
    let message = server.post(&path, body).await.expect(202);
    server.settle().await;
    let sent: Value = serde_json::from_slice(&receiver.requests()[0].body).unwrap();
    let mut expected: Value = serde_json::from_str(example.payload(EVENT)).unwrap();
    expected["v2"]["verification_status"] = json!("verified");
    assert_eq!(sent, expected);
    assert_eq!(other.count(), 0);
    let id = message["id"].as_str().unwrap();
    assert_eq!(server.attempts(id).await[0]["test"], true);

    let unknown = json!({ "eventType": "no.such" });
    assert!([404, 422].contains(&server.post(&path, unknown).await.status));
    let wrong = json!({ "eventType": EVENT, "overrides": [] });
    assert_invalid(&server.post(&path, wrong).await, &["body.overrides"]);
    server.settle().await;
    assert_eq!(receiver.count(), 1);
}

#[actix_web::test]
async fn a_schema_may_stand_beside_the_example_and_extra_fields_are_published_as_they_are() {
    let server = Example::named("okhi").start().await;
    let receiver = Receiver::ok().await;
    webhook(&server, &receiver).await;
    let payload = r#"{"v2":{"user_id":"1","undocumented":{"deep":[1.10]}},"legacy":null}"#;
    server.publish_text("app", EVENT, payload).await;
    server.settle().await;
    assert_eq!(receiver.requests()[0].body, payload.as_bytes());
}
