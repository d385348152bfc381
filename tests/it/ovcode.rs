//! postrider as OVCODE: what its Webhook Developer Guide says, with the settings and the event types
//! of `examples/ovcode`.

use serde_json::{Value, json};

use super::support::{Example, Receiver, Script, Server};

const SECRET: &str = "an-api-secret-of-the-developer";

/// The answer that the guide expects.
fn ok() -> Script {
    Script::answer(200, &[("content-type", "text/plain")], "OK")
}

/// A project with a webhook for all events.
async fn project(server: &Server, receiver: &Receiver) -> String {
    let webhook = json!({ "url": receiver.url(), "secret": SECRET });
    server.endpoint_of("project", webhook).await
}

#[actix_web::test]
async fn the_payload_comes_byte_for_byte_with_the_secret_in_x_api_secret() {
    let example = Example::named("ovcode");
    let server = example.start().await;
    let receiver = Receiver::scripted([], ok()).await;
    project(&server, &receiver).await;
    let event = "document.succeeded";
    let payload = example.payload(event);
    let message = server.publish_text("project", event, payload).await;
    server.settle().await;

    let request = &receiver.requests()[0];
    assert_eq!(
        (request.method.as_str(), request.target.as_str()),
        ("POST", "/hook")
    );
    assert_eq!(request.header("x-api-secret"), Some(SECRET));
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.header("webhook-id"), Some(message.as_str()));
    assert_eq!(String::from_utf8_lossy(&request.body), payload);
    assert_eq!(
        serde_json::from_slice::<Value>(&request.body).unwrap(),
        json!({
            "reference": "F-95ad51b6-a10a-49b0-b131-84752e2b422d",
            "status_code": "S",
            "cid": "QmdsF6eSo47eLwnHC3ChdefJC1vHaLZSKppVSVMoaYDN78",
            "token_id": 1,
            "hash": "47e795f5a9f9e091e2df10c692fcfe6c0af9e8206c160b2d6f1ea16f7df54057",
            "file": "https://msovcode.blob.core.windows.net/encryption-test/Example.pdf",
            "timestamp": "2024-05-31 09:04:53.0",
        })
    );
    assert_eq!(server.outcomes_in("project", &message).await, ["delivered"]);
}

#[actix_web::test]
async fn key_order_numbers_and_spacing_stay_as_published() {
    let server = Example::named("ovcode").start().await;
    let receiver = Receiver::scripted([], ok()).await;
    project(&server, &receiver).await;
    let payload =
        "{\n \"token_id\" : 1.0, \"reference\":\"\\u0046-1\",\"a\":12345678901234567890 }";
    server
        .publish_text("project", "document.failed", payload)
        .await;
    server.settle().await;
    assert_eq!(receiver.requests()[0].body, payload.as_bytes());
}

#[actix_web::test]
async fn a_failed_document_says_f() {
    let example = Example::named("ovcode");
    let payload: Value = serde_json::from_str(example.payload("document.failed")).unwrap();
    assert_eq!(payload["status_code"], "F");
    assert_eq!(example.names(), ["document.succeeded", "document.failed"]);
}

#[actix_web::test]
async fn the_literal_reading_sends_each_field_as_a_header_too() {
    let example = Example::named("ovcode");
    let server = example.start().await;
    let receiver = Receiver::scripted([], ok()).await;
    let webhook = json!({ "url": receiver.url(), "secret": SECRET, "profile": "ovcode-headers" });
    server.endpoint_of("project", webhook).await;
    let payload = example.payload("document.succeeded");
    let message = server
        .publish_text("project", "document.succeeded", payload)
        .await;
    server.settle().await;

    let request = &receiver.requests()[0];
    assert_eq!(request.body, payload.as_bytes());
    assert_eq!(request.header("x-api-secret"), Some(SECRET));
    let fields: Value = serde_json::from_str(payload).unwrap();
    for (name, value) in fields.as_object().unwrap() {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        assert_eq!(request.header(name), Some(value.as_str()), "{name}");
    }
    assert_eq!(server.outcomes_in("project", &message).await, ["delivered"]);
}

#[actix_web::test]
async fn absent_and_null_are_empty_headers_and_other_characters_are_encoded() {
    let server = Example::named("ovcode").start().await;
    let receiver = Receiver::scripted([], ok()).await;
    let webhook = json!({ "url": receiver.url(), "secret": SECRET, "profile": "ovcode-headers" });
    server.endpoint_of("project", webhook).await;
    let payload = r#"{"cid":null,"token_id":7,"file":"100% Verträge.pdf","hash":"100%"}"#;
    let message = server
        .publish_text("project", "document.failed", payload)
        .await;
    server.settle().await;
    let request = &receiver.requests()[0];
    for (name, expected) in [
        ("cid", ""),
        ("reference", ""),
        ("token_id", "7"),
        ("file", "100%25 Vertr%C3%A4ge.pdf"),
        ("hash", "100%"),
    ] {
        assert_eq!(request.header(name), Some(expected), "{name}");
    }
    assert_eq!(server.outcomes_in("project", &message).await, ["delivered"]);
}

#[actix_web::test]
async fn the_other_literal_reading_has_headers_and_no_body() {
    let example = Example::named("ovcode");
    let server = example.start().await;
    let receiver = Receiver::scripted([], ok()).await;
    let webhook =
        json!({ "url": receiver.url(), "secret": SECRET, "profile": "ovcode-headers-only" });
    server.endpoint_of("project", webhook).await;
    let payload = example.payload("document.succeeded");
    server
        .publish_text("project", "document.succeeded", payload)
        .await;
    server.settle().await;
    let request = &receiver.requests()[0];
    assert_eq!(request.body, b"");
    assert_eq!(request.header("content-length"), Some("0"));
    assert_eq!(request.header("content-type"), None);
    assert_eq!(request.header("x-api-secret"), Some(SECRET));
    let fields: Value = serde_json::from_str(payload).unwrap();
    for (name, value) in fields.as_object().unwrap() {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        assert_eq!(request.header(name), Some(value.as_str()), "{name}");
    }
}

/// No leftovers: the delivery has failed, and waits for nothing.
#[actix_web::test]
async fn a_field_that_no_header_can_be_fails_at_once_and_sends_nothing() {
    let server = Example::named("ovcode").start().await;
    let receiver = Receiver::scripted([], ok()).await;
    let webhook = json!({ "url": receiver.url(), "secret": SECRET, "profile": "ovcode-headers" });
    server.endpoint_of("project", webhook).await;
    let message = server
        .publish_text("project", "document.failed", r#"{"cid":{"a":1}}"#)
        .await;
    server.settle().await;
    assert_eq!(receiver.count(), 0);
    assert_eq!(
        server.outcomes_in("project", &message).await,
        ["not_sendable"]
    );
}

#[actix_web::test]
async fn only_200_with_the_text_ok_is_a_success() {
    let text = [("content-type", "text/plain")];
    let with_charset = [("content-type", "text/plain; charset=utf-8")];
    let json = [("content-type", "application/json")];
    for (answer, expected) in [
        (Script::answer(200, &text, "OK"), None),
        (Script::answer(200, &with_charset, "OK"), None),
        (Script::answer(200, &text, "OK\n"), None),
        (Script::answer(200, &text, "ok"), Some("body")),
        (Script::answer(200, &text, "OK, thanks"), Some("body")),
        (Script::answer(200, &text, ""), Some("body")),
        (Script::answer(200, &json, "OK"), Some("media type")),
        (Script::answer(200, &[], "OK"), Some("Content-Type")),
        (Script::answer(201, &text, "OK"), Some("201")),
        (Script::answer(204, &text, ""), Some("204")),
        (Script::answer(302, &text, "OK"), Some("302")),
        (Script::answer(500, &text, "OK"), Some("500")),
    ] {
        let shown = format!("{answer:?}");
        let mut server = Example::named("ovcode").start().await;
        server.leftovers_are_fine();
        let receiver = Receiver::scripted([answer], ok()).await;
        project(&server, &receiver).await;
        let message = server
            .publish_text("project", "document.failed", "{}")
            .await;
        server.settle().await;
        let attempt = &server.attempts_in("project", &message).await[0];
        match expected {
            None => assert_eq!(attempt["failure"], Value::Null, "{shown}"),
            Some(reason) => {
                let detail = attempt["failure"]["detail"].as_str().unwrap_or_default();
                assert_eq!(attempt["failure"]["kind"], "wrong_answer", "{shown}");
                assert!(detail.contains(reason), "{shown}: {detail}");
                assert_eq!(server.advance_to_next_due().await.as_secs(), 5);
                let outcomes = server.outcomes_in("project", &message).await;
                assert_eq!(outcomes[1], "delivered", "{shown}");
            }
        }
    }
}

#[actix_web::test]
async fn a_project_picks_the_events_that_trigger_its_webhook() {
    let server = Example::named("ovcode").start().await;
    let receiver = Receiver::scripted([], ok()).await;
    let other = Receiver::scripted([], ok()).await;
    let events = json!(["document.failed"]);
    let webhook = json!({ "url": receiver.url(), "secret": SECRET, "eventTypes": events });
    server.endpoint_of("project", webhook).await;
    server
        .endpoint_of(
            "other-project",
            json!({ "url": other.url(), "secret": SECRET }),
        )
        .await;
    for event in ["document.succeeded", "document.failed"] {
        server.publish_text("project", event, "{}").await;
    }
    server.settle().await;
    assert_eq!(receiver.count(), 1);
    assert_eq!(other.count(), 0, "it belongs to another project");
}

#[actix_web::test]
async fn an_api_key_of_the_developer_manages_the_webhooks_of_the_project_and_no_other() {
    let server = Example::named("ovcode").start().await;
    server.application("project").await;
    server.application("other-project").await;
    let body = json!({ "name": "API key", "role": "application", "applicationId": "project" });
    let key = server.post("/api/v1/token", body).await.expect(201);
    let key = key["token"].as_str().expect("it is shown once").to_owned();
    let call = async |method: &str, path: &str, body: Option<Value>| {
        let method = method.parse().expect("a method");
        let body = body.map(|body| body.to_string());
        server.call_as(&key, method, path, body).await
    };
    let receiver = Receiver::scripted([], ok()).await;
    let webhook = json!({
        "url": receiver.url(), "secret": SECRET, "eventTypes": ["document.succeeded"]
    });
    let path = "/api/v1/app/project/endpoint";
    call("POST", path, Some(webhook.clone())).await.expect(201);
    let listed = call("GET", path, None).await.expect(200);
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(1));
    assert!(!listed.to_string().contains(SECRET));
    let elsewhere = call("POST", "/api/v1/app/other-project/endpoint", Some(webhook)).await;
    assert_eq!(elsewhere.status, 404);
}

#[actix_web::test]
async fn the_log_tells_the_response_code_and_how_promptly_the_request_was_answered() {
    let server = Example::named("ovcode").start().await;
    let receiver = Receiver::scripted([], ok()).await;
    project(&server, &receiver).await;
    let message = server
        .publish_text("project", "document.failed", "{}")
        .await;
    server.settle().await;
    let attempt = &server.attempts_in("project", &message).await[0];
    assert_eq!(attempt["responseStatusCode"], 200);
    assert_eq!(attempt["response"], "OK");
    assert!(attempt["latencyMs"].is_u64(), "{attempt}");
    assert!(attempt["responseDurationMs"].is_u64());
    let shown = attempt.to_string();
    assert!(!shown.contains(SECRET), "{shown}");
}

#[actix_web::test]
async fn a_test_event_is_sent_and_marked_as_one() {
    let example = Example::named("ovcode");
    let server = example.start().await;
    let receiver = Receiver::scripted([], ok()).await;
    let webhook = project(&server, &receiver).await;
    let path = format!("/api/v1/app/project/endpoint/{webhook}/send-example");
    let body = json!({ "eventType": "document.succeeded" });
    let message = server.post(&path, body).await.expect(200);
    server.settle().await;
    let sent: Value = serde_json::from_slice(&receiver.requests()[0].body).unwrap();
    assert_eq!(sent["status_code"], "S");
    let id = message["id"].as_str().unwrap();
    let attempt = &server.attempts_in("project", id).await[0];
    assert_eq!(attempt["test"], true);
}

#[actix_web::test]
async fn a_secret_that_no_header_could_carry_is_refused_and_changes_nothing() {
    let server = Example::named("ovcode").start().await;
    server.application("project").await;
    let path = "/api/v1/app/project/endpoint";
    for secret in ["short", "two\nlines-of-secret", "geheimnistr\u{e4}ger"] {
        let webhook = json!({ "url": "http://127.0.0.1:9/", "secret": secret });
        let answer = server.post(path, webhook).await;
        super::support::assert_invalid(&answer, &["body.secret"]);
        assert!(!answer.text.contains(secret));
    }
    assert_eq!(server.get(path).await.expect(200)["data"], json!([]));
}
