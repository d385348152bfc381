//! How messages are delivered, and what is around it.

use std::time::Duration;

use awc::http::Method;
use serde_json::{Value, json};

use super::{DAY, ENDPOINTS, MESSAGES, NEVER_DIALLED, server_with_an_endpoint};
use crate::jobs::over;
use crate::support::{Receiver, Script, Server, texts, wait_until};

#[actix_web::test]
async fn d27_header_names_are_sent_in_lower_case() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let body = json!({ "url": receiver.url(), "uid": "ep", "headers": { "X-Our-Name": "1" } });
    server.endpoint_of("app", body).await;
    server.publish("a", json!({})).await;
    server.settle().await;
    let request = &receiver.requests()[0];
    let names: Vec<&str> = request
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert!(names.contains(&"x-our-name"), "{names:?}");
    let shown = server
        .get(&format!("{ENDPOINTS}/ep/headers"))
        .await
        .expect(200);
    assert_eq!(shown["headers"], json!({ "X-Our-Name": "1" }));
}

#[actix_web::test]
async fn d28_requests_carry_the_standards_headers() {
    let server = Server::start().await;
    for (profile, there, absent) in [("standard", "webhook", "svix"), ("svix", "svix", "webhook")] {
        let receiver = Receiver::ok().await;
        let body = json!({ "url": receiver.url(), "profile": profile, "eventTypes": [profile] });
        server.endpoint_of("app", body).await;
        server.publish(profile, json!({})).await;
        server.settle().await;
        let request = &receiver.requests()[0];
        for name in ["id", "timestamp", "signature"] {
            assert!(
                request.header(&format!("{there}-{name}")).is_some(),
                "{profile} {name}"
            );
            assert_eq!(
                request.header(&format!("{absent}-{name}")),
                None,
                "{profile}"
            );
        }
        let agent = request.header("user-agent").unwrap();
        assert!(agent.starts_with("postrider"), "{agent}");
    }
}

#[actix_web::test]
async fn d29_what_is_for_a_disabled_endpoint_is_held() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    server.set_disabled("app", &endpoint, true).await;
    let message = server.publish("a", json!({})).await;
    server.settle().await;
    assert_eq!(receiver.count(), 0);
    server.set_disabled("app", &endpoint, false).await;
    server.settle().await;
    assert_eq!(server.outcomes(&message).await, ["delivered"]);
}

#[actix_web::test]
async fn d30_gone_disables_the_endpoint() {
    let receiver = Receiver::answering([410]).await;
    let mut server = Server::start().await;
    server.leftovers_are_fine();
    let endpoint = server.endpoint(&receiver).await;
    server.publish("a", json!({})).await;
    server.settle().await;
    let shown = server
        .get(&format!("{ENDPOINTS}/{endpoint}"))
        .await
        .expect(200);
    assert_eq!(shown["disabled"], true);
}

#[actix_web::test]
async fn d48_a_put_leaves_an_automatic_disabling_alone() {
    let receiver = Receiver::answering([410]).await;
    let mut server = Server::start().await;
    server.leftovers_are_fine();
    let endpoint = server.endpoint(&receiver).await;
    server.publish("a", json!({})).await;
    server.settle().await;
    let path = format!("{ENDPOINTS}/{endpoint}");
    let body = json!({ "url": receiver.url() });
    assert_eq!(server.put(&path, body).await.expect(200)["disabled"], true);
}

#[actix_web::test]
async fn d49_an_endpoint_that_fails_gets_only_probes() {
    let receiver = Receiver::scripted([], Script::Status(500)).await;
    let mut server = Server::start().await;
    server.leftovers_are_fine();
    server.endpoint(&receiver).await;
    for _ in 0..12 {
        server.publish("a", json!({})).await;
        server.settle().await;
        server.advance(Duration::from_secs(4));
    }
    let before = receiver.count();
    server.publish_all("app", vec![json!({}); 20]).await;
    server.settle().await;
    assert_eq!(receiver.count(), before, "it is open");
    server.advance(Duration::from_secs(40));
    server.settle().await;
    assert_eq!(receiver.count(), before + 1);
}

#[actix_web::test]
async fn d50_a_receiver_disables_its_endpoint() {
    let asks = Script::answer(200, &[("webhook-delivery", "disable")], "");
    let receiver = Receiver::scripted([asks], Script::Status(200)).await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    server.publish("a", json!({})).await;
    server.settle().await;
    let path = format!("{ENDPOINTS}/{endpoint}");
    assert_eq!(server.get(&path).await.expect(200)["disabled"], true);
}

#[actix_web::test]
async fn d32_a_throttle_holds() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    // Bursts are whole when the server has run for a second.
    server.settle().await;
    server.advance(Duration::from_secs(1));
    server
        .endpoint_of("app", json!({ "url": receiver.url(), "throttleRate": 2 }))
        .await;
    server
        .publish_all("app", (0..4).map(|n| json!({ "n": n })))
        .await;
    server.settle().await;
    assert_eq!(receiver.count(), 2);
    server.advance(Duration::from_secs(1));
    server.settle().await;
    assert_eq!(receiver.count(), 4);
}

#[actix_web::test]
async fn d33_retry_after_makes_a_wait_longer_up_to_an_hour() {
    let asks = |seconds: &str| Script::answer(503, &[("retry-after", seconds)], "");
    let receiver = Receiver::scripted([asks("120"), asks("86400")], Script::Status(200)).await;
    let server = Server::start().await;
    server.send_to(&receiver, "a", json!({})).await;
    assert_eq!(server.advance_to_next_due().await.as_secs(), 120);
    assert_eq!(server.advance_to_next_due().await.as_secs(), 3_600);
    assert_eq!(receiver.count(), 3);
}

#[actix_web::test]
async fn d51_retry_after_lets_all_deliveries_wait() {
    let asks = Script::answer(503, &[("retry-after", "120")], "");
    let receiver = Receiver::scripted([asks], Script::Status(200)).await;
    let server = Server::start().await;
    server.send_to(&receiver, "a", json!({})).await;
    server.publish("a", json!({})).await;
    server.settle().await;
    assert_eq!(receiver.count(), 1);
    server.advance(Duration::from_secs(120));
    server.settle().await;
    assert_eq!(receiver.count(), 3);
}

#[actix_web::test]
async fn d34_a_429_is_tried_again_by_the_schedule() {
    let receiver = Receiver::answering([429, 200]).await;
    let server = Server::start().await;
    server.send_to(&receiver, "a", json!({})).await;
    assert_eq!(server.advance_to_next_due().await.as_secs(), 5);
    assert_eq!(receiver.count(), 2);
}

#[actix_web::test]
async fn d35_an_attempt_has_15_seconds() {
    let receiver = Receiver::scripted([Script::Hang], Script::Status(200)).await;
    let mut server = Server::start().await;
    server.leftovers_are_fine();
    server.endpoint(&receiver).await;
    let message = server.publish("a", json!({})).await;
    receiver.received(1).await;
    server.advance(Duration::from_millis(14_999));
    assert_eq!(receiver.open(), 1);
    server.advance(Duration::from_millis(1));
    wait_until("the connection to be closed", || receiver.open() == 0).await;
    server.settle().await;
    assert_eq!(server.outcomes(&message).await, ["timeout"]);
}

#[actix_web::test]
async fn d36_the_beginning_of_an_answer_is_kept() {
    let long = Script::answer(200, &[], &"x".repeat(9_000));
    let binary = Script::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\na\xffb".to_vec());
    let receiver = Receiver::scripted([long, binary], Script::Status(200)).await;
    let server = Server::start().await;
    server.endpoint(&receiver).await;
    for (response, truncated) in [("x".repeat(8_192), true), ("a\u{fffd}b".to_owned(), false)] {
        let message = server.publish("a", json!({})).await;
        server.settle().await;
        let attempt = &server.attempts(&message).await[0];
        assert_eq!(attempt["response"], response);
        assert_eq!(attempt["responseTruncated"], truncated);
    }
}

#[actix_web::test]
async fn d37_a_resent_message_has_all_its_attempts_again() {
    let receiver = Receiver::answering([200, 500, 200]).await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    let message = server.publish("a", json!({})).await;
    server.settle().await;
    let resend = format!("{MESSAGES}/{message}/endpoint/{endpoint}/resend");
    server.post(&resend, Value::Null).await.expect(202);
    server.settle().await;
    server.advance_to_next_due().await;
    let expected = ["delivered", "http 500", "delivered"];
    assert_eq!(server.outcomes(&message).await, expected);
}

#[actix_web::test]
async fn d38_a_message_can_be_sent_to_an_endpoint_that_it_was_not_for() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    server.application("app").await;
    let message = server.publish("a", json!({})).await;
    let body = json!({ "url": receiver.url(), "eventTypes": ["b"] });
    let late = server.endpoint_of("app", body).await;
    let resend = format!("{MESSAGES}/{message}/endpoint/{late}/resend");
    server.post(&resend, Value::Null).await.expect(202);
    server.settle().await;
    assert_eq!(server.outcomes(&message).await, ["delivered"]);
}

#[actix_web::test]
async fn d47_recover_sends_what_waits_however_old() {
    let receiver = Receiver::answering([500]).await;
    let server = Server::start().await;
    let delays = json!({ "url": receiver.url(), "retry": { "delaysSeconds": [3600] } });
    let endpoint = server.endpoint_of("app", delays).await;
    let message = server.publish("a", json!({})).await;
    server.settle().await;
    let recover = format!("{ENDPOINTS}/{endpoint}/recover");
    let since = json!({ "since": server.now().saturating_sub(20 * DAY).to_string() });
    let begun = server.post(&recover, since).await.expect(202);
    let job = over(&server, begun["id"].as_str().unwrap()).await;
    assert_eq!(job["data"]["messagesSent"], 1);
    server.settle().await;
    assert_eq!(server.outcomes(&message).await, ["http 500", "delivered"]);
}

#[actix_web::test]
async fn d39_a_link_opens_the_portal() {
    let server = server_with_an_endpoint().await;
    let path = "/api/v1/auth/app-portal-access/app";
    let link = server.post(path, json!({})).await.expect(200);
    let (page, token) = link["url"].as_str().unwrap().split_once("#token=").unwrap();
    assert_eq!(link["token"], token);
    assert_eq!(page, server.url("/portal"));
    let opened = server.get("/portal").await;
    assert_eq!(opened.status, 200);
    assert!(opened.text.contains("<html"), "{}", opened.text);
    let theirs = server.call_as(token, Method::GET, ENDPOINTS, None).await;
    assert_eq!(texts(&theirs.expect(200), "uid"), ["ep"]);
}

#[actix_web::test]
async fn d40_operational_webhooks_go_to_endpoints_of_your_own() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let own = json!({ "url": receiver.url(), "eventTypes": ["endpoint.created"] });
    let path = "/api/v1/operational-webhook/endpoint";
    server.post(path, own).await.expect(201);
    server
        .endpoint_of("app", json!({ "url": NEVER_DIALLED }))
        .await;
    server.settle().await;
    let event: Value = serde_json::from_slice(&receiver.requests()[0].body).unwrap();
    assert_eq!(
        (&event["type"], &event["data"]["appUid"]),
        (&json!("endpoint.created"), &json!("app"))
    );
}
