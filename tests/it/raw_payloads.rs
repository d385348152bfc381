//! Payloads that are published as text: sent as they are, whatever they are.

use awc::http::Method;
use postrider::domain::profile::Method as ProfileMethod;
use serde_json::{Value, json};

use crate::signatures::{check, secret_of};
use crate::support::{Receiver, Server, as_read, assert_error, assert_invalid};

const MESSAGES: &str = "/api/v1/app/app/msg";
const TEXT: &str = "<paid id=\"17\">\u{20ac} 1.10</paid>\n";

/// As the SDKs' helper for raw payloads makes it.
fn raw(text: &str, content_type: Option<&str>) -> Value {
    let headers = content_type.map(|value| json!({ "content-type": value }));
    json!({
        "eventType": "invoice.paid", "payload": {},
        "transformationsParams": { "rawPayload": text, "headers": headers },
    })
}

async fn shown(server: &Server, message: &str) -> Value {
    server
        .get(&format!("{MESSAGES}/{message}"))
        .await
        .expect(200)
}

#[actix_web::test]
async fn an_object_is_sent_as_it_was_written_and_shown_as_an_object() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    let body = r#"{"eventType":"e","payload":{},"transformationsParams":{"rawPayload":"{\"key\":\"val\",\"key1\":[\"list\"]}"}}"#;
    let answer = server
        .send(Method::POST, MESSAGES, &[], Some(body.into()))
        .await;
    let message = answer.expect(202);
    server.settle().await;
    let [request] = &receiver.requests()[..] else {
        panic!("one request");
    };
    assert_eq!(request.body, br#"{"key":"val","key1":["list"]}"#);
    assert_eq!(request.header("content-type"), Some("application/json"));
    let secret = secret_of(&server, &endpoint).await;
    check(request, "webhook", &secret, server.now()).expect("it is signed");
    assert_eq!(message["payload"], json!({"key": "val", "key1": ["list"]}));
    assert_eq!(message["rawPayload"], Value::Null);
    assert_eq!(
        shown(&server, message["id"].as_str().unwrap()).await,
        as_read(&message)
    );
}

#[actix_web::test]
async fn a_text_is_signed_sent_shown_replayed_and_deleted() {
    let receiver = Receiver::answering([500, 500]).await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    let secret = secret_of(&server, &endpoint).await;
    let publish = async |key: &str, text: &str| {
        let headers = [("idempotency-key", key)];
        let body = raw(text, Some("text/xml; charset=utf-8")).to_string();
        server
            .call(Method::POST, MESSAGES, &headers, Some(body))
            .await
    };
    let message = publish("k", TEXT).await.expect(202);
    assert_eq!(message["payload"], json!({}));
    assert_eq!(message["rawPayload"], TEXT);
    assert_eq!(message["contentType"], "text/xml; charset=utf-8");
    assert_eq!(publish("k", TEXT).await.expect(202), message);
    assert_error(&publish("k", "other").await, 409, "conflict");
    let id = message["id"].as_str().unwrap().to_owned();
    assert_eq!(shown(&server, &id).await, as_read(&message));
    let bare = format!("{MESSAGES}/{id}?with_content=false");
    let bare = server.get(&bare).await.expect(200);
    assert_eq!(
        (&bare["payload"], &bare["rawPayload"]),
        (&json!({}), &Value::Null)
    );
    server.settle().await;
    // The retry is read from the disk, and the attempt by hand too.
    let server = server.restart().await;
    server.advance_to_next_due().await;
    let path = format!("{MESSAGES}/{id}/endpoint/{endpoint}/resend");
    server.post(&path, json!({})).await.expect(202);
    server.settle().await;
    let requests = receiver.received(3).await;
    for request in &requests {
        assert_eq!(request.body, TEXT.as_bytes());
        let content_type = request.header("content-type");
        assert_eq!(content_type, Some("text/xml; charset=utf-8"));
        check(request, "webhook", &secret, server.now()).expect("it is signed");
    }
    let attempt = &server.attempts(&id).await[0];
    let logged = &attempt["request"]["headers"]["content-type"];
    assert_eq!(logged, "text/xml; charset=utf-8");

    let content = format!("{MESSAGES}/{id}/content");
    server.delete(&content).await.expect(204);
    let after = shown(&server, &id).await;
    assert_eq!(after["payload"], json!({"expired": true}));
    assert_eq!(after["rawPayload"], Value::Null);
    assert_eq!(
        (&message["payloadDeleted"], &after["payloadDeleted"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(
        server.post(&path, json!({})).await.status,
        409,
        "nothing is left to send"
    );
    let counts = server.stop_and_verify().await;
    assert!(!counts.is_empty());
}

#[actix_web::test]
async fn space_around_an_object_is_shown_in_the_text_beside_it() {
    let server = Server::start().await;
    server.application("app").await;
    let text = " {\"n\": 1}\n";
    let message = server.post(MESSAGES, raw(text, None)).await.expect(202);
    let message = shown(&server, message["id"].as_str().unwrap()).await;
    assert_eq!(message["payload"], json!({"n": 1}));
    assert_eq!(message["rawPayload"], text);
}

#[actix_web::test]
async fn a_batch_takes_them_beside_objects() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    server.endpoint(&receiver).await;
    let batch = json!([
        raw(TEXT, Some("text/xml")),
        { "eventType": "invoice.paid", "payload": { "n": 1 } },
        raw("", None),
    ]);
    let path = format!("{MESSAGES}/batch?with_content=true");
    let answer = server.post(&path, batch).await.expect(202);
    assert_eq!(answer["data"][0]["message"]["rawPayload"], TEXT);
    server.settle().await;
    let mut bodies = Vec::from_iter(receiver.requests().into_iter().map(|one| one.body));
    bodies.sort();
    assert_eq!(bodies, [&b""[..], TEXT.as_bytes(), b"{\"n\":1}"]);
}

#[actix_web::test]
async fn a_simulated_event_takes_one() {
    let receiver = Receiver::ok().await;
    let server = Server::start_with(|config| config.limits.payload_bytes = 100).await;
    let endpoint = server.endpoint(&receiver).await;
    let event_type = json!({ "name": "invoice.paid", "description": "" });
    server
        .post("/api/v1/event-type", event_type)
        .await
        .expect(201);
    let path = format!("/api/v1/app/app/endpoint/{endpoint}/simulate");
    let body = raw(TEXT, Some("text/xml"));
    let message = server.post(&path, body).await.expect(202);
    assert_eq!(
        (&message["rawPayload"], &message["test"]),
        (&json!(TEXT), &json!(true))
    );
    let mut body = raw(TEXT, None);
    body.as_object_mut().unwrap().remove("payload");
    server.post(&path, body).await.expect(202);
    server.settle().await;
    let secret = secret_of(&server, &endpoint).await;
    let mut content_types = Vec::new();
    for request in receiver.requests() {
        assert_eq!(request.body, TEXT.as_bytes());
        check(&request, "webhook", &secret, server.now()).expect("it is signed");
        content_types.push(request.header("content-type").map(str::to_owned));
    }
    content_types.sort();
    let expected = ["application/json", "text/xml"].map(|one| Some(one.to_owned()));
    assert_eq!(content_types, expected);

    let mut wrong = raw(&"x".repeat(101), Some("json"));
    wrong["overrides"] = json!({ "n": 1 });
    assert_invalid(
        &server.post(&path, wrong).await,
        &[
            "body.transformationsParams.headers.content-type",
            "body.overrides",
            "body.transformationsParams.rawPayload",
        ],
    );
}

#[actix_web::test]
async fn templates_read_what_is_json_and_fail_on_what_is_not() {
    let receiver = Receiver::ok().await;
    let mut server = Server::start_with(|config| {
        config.delivery.default_profile = "ioffice".to_owned();
        let ioffice = config.profiles.get_mut("ioffice").expect("it is shipped");
        ioffice.methods = vec![ProfileMethod::Get];
    })
    .await;
    server.leftovers_are_fine();
    server.endpoint(&receiver).await;
    let json = r#" {"eventType":"CREATE","entityType":"Lease","entityId":25} "#;
    for (text, expected) in [(json, "delivered"), (TEXT, "not_sendable")] {
        let body = raw(text, Some("text/xml"));
        let message = server.post(MESSAGES, body).await.expect(202);
        server.settle().await;
        let id = message["id"].as_str().unwrap();
        assert_eq!(server.outcomes(id).await, [expected], "{text}");
    }
    let [request] = &receiver.requests()[..] else {
        panic!("one request");
    };
    assert!(request.target.ends_with("/CREATE/Lease/25"));
    assert_eq!(request.header("content-type"), None);
    assert!(request.body.is_empty());
}

#[actix_web::test]
async fn what_cannot_be_kept_is_refused_by_name() {
    let server = Server::start_with(|config| config.limits.payload_bytes = 1000).await;
    server.application("app").await;
    let body =
        |params: Value| json!({"eventType": "e", "payload": {}, "transformationsParams": params});
    for (params, place) in [
        (json!({"rawPayload": 7}), "rawPayload"),
        (
            json!({"headers": {"content-type": "json"}}),
            "headers.content-type",
        ),
        (
            json!({"headers": {"Content-Type": "a/b\r\nx: y"}}),
            "headers.Content-Type",
        ),
        (
            json!({"headers": {"content-type": format!("a/{}", "b".repeat(255))}}),
            "headers.content-type",
        ),
        (json!({"headers": {"x-other": "1"}}), "headers.x-other"),
        (json!({"rawPayload": "x", "url": "y"}), "url"),
    ] {
        let answer = server.post(MESSAGES, body(params)).await;
        assert_invalid(&answer, &[&format!("body.transformationsParams.{place}")]);
        let kind = &answer.json()["detail"][0]["type"];
        let is_unknown = ["headers.x-other", "url"].contains(&place);
        assert_eq!(kind == "not_offered", is_unknown, "{kind}");
    }
    for (text, status) in [("\"".repeat(1000), 202), ("\"".repeat(1001), 413)] {
        let answer = server.post(MESSAGES, raw(&text, None)).await;
        assert_eq!(answer.status, status);
    }
    for none in [
        json!(null),
        json!({}),
        json!({"rawPayload": null, "headers": {}}),
    ] {
        let body = json!({"eventType": "e", "payload": {"n": 1}, "transformationsParams": none});
        let message = server.post(MESSAGES, body).await.expect(202);
        assert_eq!(message["payload"], json!({"n": 1}));
    }
}

#[actix_web::test]
async fn of_very_many_problems_the_first_are_told() {
    let server = Server::start().await;
    server.application("app").await;
    let names = |value: serde_json::Value| -> serde_json::Map<String, Value> {
        let names = (0..10_000).map(|index| (format!("x-{index}"), value.clone()));
        names.collect()
    };
    let mut params = names(json!(1));
    params.insert("headers".to_owned(), Value::Object(names(json!("v"))));
    let body = json!({ "eventType": "a", "payload": {}, "transformationsParams": params });
    let answer = server.post(MESSAGES, body).await;
    assert_eq!(answer.status, 422);
    let told = answer.json()["detail"].as_array().map(Vec::len);
    assert_eq!(told, Some(50), "{} bytes", answer.text.len());
}
