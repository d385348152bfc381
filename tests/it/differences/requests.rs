//! What requests take and what is answered.

use std::collections::BTreeSet;
use std::time::Duration;

use awc::http::Method;
use serde_json::{Value, json};

use super::{
    APPS, DAY, ENDPOINTS, MESSAGES, NEVER_DIALLED, destinations, message, server_with_an_endpoint,
    with,
};
use crate::support::{Receiver, Script, Server, assert_error, assert_invalid, texts};

#[actix_web::test]
async fn d1_the_hosted_services_calls_are_not_offered() {
    let server = Server::start().await;
    for path in [
        "/api/v1/connector",
        "/api/v1/app/app/integration",
        "/api/v1/stream",
    ] {
        let answer = server.get(path).await;
        assert_error(&answer, 404, "not_offered");
        assert!(
            answer.text.contains("postrider does not offer"),
            "{}",
            answer.text
        );
    }
}

#[actix_web::test]
async fn d2_a_raw_payload_has_its_content_type_and_the_headers_that_are_allowed() {
    let receiver = Receiver::ok().await;
    let server = Server::start_with(|config| {
        config.delivery.message_headers = vec!["X-Trace".to_owned()];
    })
    .await;
    server.endpoint(&receiver).await;
    let headers = json!({ "content-type": "text/xml", "x-trace": "1" });
    let raw = json!({ "rawPayload": "<a/>", "headers": headers });
    let body = with(message(), "transformationsParams", raw);
    server.post(MESSAGES, body).await.expect(202);
    server.settle().await;
    let request = &receiver.requests()[0];
    assert_eq!(request.body, b"<a/>");
    assert_eq!(request.header("content-type"), Some("text/xml"));
    assert_eq!(request.header("x-trace"), Some("1"));
    for (other, place) in [
        (json!({ "anything": 1 }), "anything"),
        (json!({ "headers": { "x-other": "1" } }), "headers.x-other"),
    ] {
        let other = with(message(), "transformationsParams", other);
        let answer = server.post(MESSAGES, other).await;
        assert_invalid(&answer, &[&format!("body.transformationsParams.{place}")]);
        assert_eq!(answer.json()["detail"][0]["type"], "not_offered");
    }
}

#[actix_web::test]
async fn d3_an_unknown_field_is_refused_by_name() {
    let server = Server::start().await;
    server.application("app").await;
    let answer = server
        .post(APPS, json!({ "name": "n", "colour": "red" }))
        .await;
    assert_invalid(&answer, &["body.colour"]);
    let answer = server
        .post(MESSAGES, with(message(), "data", json!({})))
        .await;
    assert_invalid(&answer, &["body.data"]);
    let shown = server.get("/api/v1/app/app").await.expect(200);
    server.put("/api/v1/app/app", shown).await.expect(200);
}

#[actix_web::test]
async fn d4_a_parameter_that_cannot_be_read_is_told_by_its_place() {
    let server = server_with_an_endpoint().await;
    assert_invalid(
        &server.get("/api/v1/app?limit=many").await,
        &["query.limit"],
    );
    let path = format!("{MESSAGES}?before=yesterday");
    assert_invalid(&server.get(&path).await, &["query.before"]);
    server.get("/api/v1/app?unheard_of=1").await.expect(200);
    let made = server.post("/api/v1/app?unheard_of=1", json!({ "name": "n" }));
    assert_invalid(&made.await, &["query.unheard_of"]);
}

#[actix_web::test]
async fn d5_what_nothing_can_be_called_is_not_found() {
    let server = server_with_an_endpoint().await;
    assert_error(&server.get("/api/v1/app/$$$").await, 404, "not_found");
    let long = format!("/api/v1/app/{}", "x".repeat(257));
    assert_error(&server.get(&long).await, 404, "not_found");
}

#[actix_web::test]
async fn d6_a_page_has_at_least_one_item() {
    let server = Server::start().await;
    assert_invalid(&server.get("/api/v1/app?limit=0").await, &["query.limit"]);
    server.get("/api/v1/app?limit=1").await.expect(200);
    server.get("/api/v1/app?limit=250").await.expect(200);
    assert_invalid(&server.get("/api/v1/app?limit=251").await, &["query.limit"]);
}

#[actix_web::test]
async fn d7_after_a_time_has_what_shows_that_time() {
    let server = server_with_an_endpoint().await;
    let id = server.publish("a", json!({})).await;
    server.advance(Duration::from_secs(1));
    let later = server.publish("a", json!({})).await;
    let listed = server.get(MESSAGES).await.expect(200);
    let time = |index: usize| {
        listed["data"][index]["timestamp"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let (newer, older) = (time(0), time(1));
    for (query, expected) in [
        (format!("after={older}"), vec![later.as_str(), &id]),
        (format!("before={older}"), vec![]),
        (format!("after={older}&before={newer}"), vec![&id]),
        (format!("iterator={later}"), vec![&id]),
        (format!("iterator={later}&before={older}"), vec![]),
    ] {
        let list = server.get(&format!("{MESSAGES}?{query}")).await.expect(200);
        assert_eq!(texts(&list, "id"), expected, "{query}");
    }
}

#[actix_web::test]
async fn d8_rotating_a_secret_answers_with_the_new_one() {
    let server = server_with_an_endpoint().await;
    let path = format!("{ENDPOINTS}/ep/secret");
    let rotated = server
        .post(&format!("{path}/rotate"), json!({}))
        .await
        .expect(200);
    let shown = server.get(&path).await.expect(200);
    assert!(rotated["key"].is_string());
    assert_eq!(shown["key"], rotated["key"]);
    let older = [("user-agent", "svix-libs/1.24.0/python")];
    let body = Some("{}".to_owned());
    let answer = server
        .call(Method::POST, &format!("{path}/rotate"), &older, body)
        .await;
    assert_eq!((answer.status, answer.text.as_str()), (204, ""));
}

#[actix_web::test]
async fn d9_health_is_a_200_or_a_503_with_a_reason() {
    let server = Server::start().await;
    let healthy = server.get("/api/v1/health").await.expect(200);
    assert_eq!(healthy, json!({ "status": "ok" }));
    let full = Server::start_with(|config| config.store.min_free_bytes = u64::MAX).await;
    // The disk is looked at soon after the start.
    let deadline = std::time::Instant::now() + crate::support::DEADLINE;
    let mut answer = full.get("/api/v1/health").await;
    while answer.status == 200 {
        assert!(std::time::Instant::now() < deadline, "still healthy");
        answer = full.get("/api/v1/health").await;
    }
    assert_error(&answer, 503, "unavailable");
    assert!(answer.text.contains("min_free_bytes"), "{}", answer.text);
}

#[actix_web::test]
async fn d10_a_key_with_another_body_is_a_conflict() {
    let server = server_with_an_endpoint().await;
    let key = [("idempotency-key", "mine")];
    let publish = |body: Value| server.call(Method::POST, MESSAGES, &key, Some(body.to_string()));
    let first = publish(message()).await.expect(202);
    assert_eq!(publish(message()).await.expect(202), first);
    let other = with(message(), "payload", json!({ "n": 2 }));
    assert_error(&publish(other).await, 409, "conflict");
}

#[actix_web::test]
async fn d11_answers_with_a_secret_are_not_repeated() {
    let server = server_with_an_endpoint().await;
    let key = [("idempotency-key", "mine")];
    let rotate = format!("{ENDPOINTS}/ep/secret/rotate");
    for (path, secret) in [
        ("/api/v1/auth/app-portal-access/app", "token"),
        (rotate.as_str(), "key"),
    ] {
        let call = || server.call(Method::POST, path, &key, Some("{}".to_owned()));
        let (first, second) = (call().await.expect(200), call().await.expect(200));
        assert_ne!(first[secret], second[secret], "{path}");
    }
}

#[actix_web::test]
async fn d12_an_event_id_belongs_to_its_application() {
    let server = server_with_an_endpoint().await;
    server.application("other").await;
    let body = with(message(), "eventId", json!("event-1"));
    server.post(MESSAGES, body.clone()).await.expect(202);
    server
        .post("/api/v1/app/other/msg", body.clone())
        .await
        .expect(202);
    assert_error(&server.post(MESSAGES, body.clone()).await, 409, "conflict");
    server.advance(DAY + Duration::from_secs(1));
    server.post(MESSAGES, body).await.expect(202);
}

#[actix_web::test]
async fn d13_the_operator_says_how_long_messages_are_kept() {
    let server = server_with_an_endpoint().await;
    let days = server.config().store.retention_days;
    let kept_for = |days: u32| with(message(), "payloadRetentionPeriod", json!(days));
    server.post(MESSAGES, kept_for(days)).await.expect(202);
    server.post(MESSAGES, kept_for(90)).await.expect(202);
    let answer = server.post(MESSAGES, kept_for(days - 1)).await;
    assert_invalid(&answer, &["body.payloadRetentionPeriod"]);
    assert_eq!(answer.json()["detail"][0]["type"], "not_offered");
}

#[actix_web::test]
async fn d14_publishing_has_limits() {
    let mut server = Server::start_with(|config| {
        config.limits.held_max = 1;
        config.limits.payload_bytes = 1_000;
    })
    .await;
    server.leftovers_are_fine();
    let body = json!({ "url": NEVER_DIALLED, "disabled": true });
    server.endpoint_of("app", body).await;
    server.publish("a", json!({})).await;
    let answer = server.post(MESSAGES, message()).await;
    assert_eq!(answer.status, 429, "{}", answer.text);
    assert!(answer.text.contains("limits.held_max"), "{}", answer.text);
    let large = with(message(), "payload", json!({ "text": "x".repeat(1_000) }));
    assert_eq!(server.post(MESSAGES, large).await.status, 413);
}

#[actix_web::test]
async fn d15_no_state_is_new() {
    let receiver = Receiver::scripted([], Script::AtGate(200)).await;
    let server = Server::start_with(|config| config.delivery.in_flight_per_endpoint_max = 1).await;
    server.application("app").await;
    server
        .publish_all("app", (0..50).map(|n| json!({ "n": n })))
        .await;
    let endpoint = server.endpoint(&receiver).await;
    let path = format!("{ENDPOINTS}/{endpoint}/replay-missing");
    let since = json!({ "since": "2020-01-01T00:00:00Z" });
    let task = server.post(&path, since).await.expect(202);
    receiver.received(1).await;
    let sent = format!("{ENDPOINTS}/{endpoint}/msg");
    let statuses = |list: &Value| -> BTreeSet<u64> {
        let items = list["data"].as_array().unwrap().iter();
        items.map(|item| item["status"].as_u64().unwrap()).collect()
    };
    let list = server.get(&sent).await.expect(200);
    let known = BTreeSet::from([0, 1, 2, 3]);
    assert!(statuses(&list).is_subset(&known), "{list}");
    let task = task["id"].as_str().unwrap();
    let cancel = format!("/api/v1/background-task/{task}/cancel");
    let canceled = server.post(&cancel, Value::Null).await.expect(200);
    assert_eq!(
        (&canceled["status"], &canceled["state"]),
        (&json!("failed"), &json!("canceled"))
    );
    server.set_disabled("app", &endpoint, true).await;
    receiver.open_gate();
    server.settle().await;
    let held = server.publish("a", json!({})).await;
    let shown = &destinations(&server, &held).await[0];
    assert_eq!(
        (&shown["status"], &shown["held"]),
        (&json!(1), &json!(true))
    );
    server.set_disabled("app", &endpoint, false).await;
    server.settle().await;
}

#[actix_web::test]
async fn d16_statistics_count_a_failure_and_the_later_success() {
    let receiver = Receiver::answering([500, 200]).await;
    let server = Server::start().await;
    let body = json!({ "url": receiver.url(), "retry": { "delaysSeconds": [] } });
    let endpoint = server.endpoint_of("app", body).await;
    let message = server.publish("a", json!({})).await;
    server.settle().await;
    let resend = format!("{MESSAGES}/{message}/endpoint/{endpoint}/resend");
    server.post(&resend, Value::Null).await.expect(202);
    server.settle().await;
    let path = format!("{ENDPOINTS}/{endpoint}/stats");
    let stats = server.get(&path).await.expect(200);
    assert_eq!((&stats["success"], &stats["fail"]), (&json!(1), &json!(1)));
}

#[actix_web::test]
async fn d17_a_deleted_endpoint_leaves_its_attempts() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let body = json!({ "url": receiver.url(), "metadata": { "k": "v" } });
    let endpoint = server.endpoint_of("app", body).await;
    let message = server.publish("a", json!({})).await;
    server.settle().await;
    assert_eq!(
        destinations(&server, &message).await[0]["id"],
        endpoint.as_str()
    );
    server
        .delete(&format!("{ENDPOINTS}/{endpoint}"))
        .await
        .expect(204);
    let left = &destinations(&server, &message).await[0];
    assert_eq!(
        (&left["id"], &left["deleted"]),
        (&json!(endpoint), &json!(true))
    );
    assert_eq!(
        (&left["url"], &left["metadata"]),
        (&json!(receiver.url()), &json!({}))
    );
    assert_eq!(
        server.attempts(&message).await[0]["endpointId"],
        endpoint.as_str()
    );
}

#[actix_web::test]
async fn d18_a_deleted_payload_is_not_sent_again() {
    let receiver = Receiver::answering([500]).await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    let message = server.publish("a", json!({})).await;
    server.settle().await;
    server
        .delete(&format!("{MESSAGES}/{message}/content"))
        .await
        .expect(204);
    let resend = format!("{MESSAGES}/{message}/endpoint/{endpoint}/resend");
    assert_error(&server.post(&resend, Value::Null).await, 409, "conflict");
    server.advance_to_next_due().await;
    assert_eq!(
        server.outcomes(&message).await,
        ["http 500", "not_sendable"]
    );
    assert_eq!(receiver.count(), 1);
    assert!(server.nothing_is_due());
}

#[actix_web::test]
async fn d44_many_requests_without_a_valid_credential_are_a_429() {
    let server =
        Server::start_with(|config| config.limits.auth_failures_per_token_prefix_minute_max = 1)
            .await;
    let guess = async || server.call_as("pr_wrong", Method::GET, APPS, None).await;
    assert_error(&guess().await, 401, "authentication_failed");
    let answer = guess().await;
    assert_error(&answer, 429, "too_many");
    assert_eq!(answer.header("retry-after"), Some("60"));
    server.get(APPS).await.expect(200);
}

#[actix_web::test]
async fn d45_an_archived_event_type_takes_no_messages() {
    let server = Server::start().await;
    server.application("app").await;
    let archived = json!({ "name": "a", "description": "", "archived": true });
    server
        .post("/api/v1/event-type", archived)
        .await
        .expect(201);
    let answer = server.post(MESSAGES, message()).await;
    assert_invalid(&answer, &["body.eventType"]);
}

#[actix_web::test]
async fn d46_a_hundred_payloads_are_deleted_at_once_and_again() {
    let server = server_with_an_endpoint().await;
    let id = server.publish("a", json!({})).await;
    let path = format!("{MESSAGES}/bulk-expunge");
    for _ in 0..2 {
        let ids = json!({ "ids": [id] });
        let answer = server.post(&path, ids).await.expect(200);
        assert_eq!(answer["results"], json!({ &id: "expunged" }));
    }
    let many = |count: usize| json!({ "ids": vec!["nobody"; count] });
    server.post(&path, many(100)).await.expect(200);
    assert_invalid(&server.post(&path, many(101)).await, &["body.ids"]);
}
