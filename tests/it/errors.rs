//! What every path has in common: slashes at the end, wrong methods, bodies that are no JSON.

use awc::http::Method;
use serde_json::{Value, json};

use crate::support::{Receiver, Server, assert_error, assert_invalid};

/// Everything that takes a body, and a body that it takes.
const WITH_BODY: [(Method, &str); 17] = [
    (Method::POST, "/api/v1/app"),
    (Method::PUT, "/api/v1/app/app"),
    (Method::PATCH, "/api/v1/app/app"),
    (Method::POST, "/api/v1/app/app/endpoint"),
    (Method::PUT, "/api/v1/app/app/endpoint/e"),
    (Method::PATCH, "/api/v1/app/app/endpoint/e"),
    (Method::PUT, "/api/v1/app/app/endpoint/e/headers"),
    (Method::PATCH, "/api/v1/app/app/endpoint/e/headers"),
    (Method::POST, "/api/v1/app/app/endpoint/e/secret/rotate"),
    (Method::POST, "/api/v1/event-type"),
    (Method::PUT, "/api/v1/event-type/t"),
    (Method::PATCH, "/api/v1/event-type/t"),
    (Method::POST, "/api/v1/token"),
    (Method::POST, "/api/v1/app/app/msg"),
    (Method::POST, "/api/v1/app/"),
    (Method::PUT, "/api/v1/app/app/"),
    (Method::POST, "/api/v1/app/app/msg/"),
];

/// A server with an application, an endpoint and an event type.
async fn furnished() -> Server {
    let server = Server::start().await;
    server.application("app").await;
    let endpoint = json!({"url": "https://example.com/", "uid": "e"});
    let path = "/api/v1/app/app/endpoint";
    server.post(path, endpoint).await.expect(201);
    let event_type = json!({"name": "t", "description": ""});
    server
        .post("/api/v1/event-type", event_type)
        .await
        .expect(201);
    server
}

#[actix_web::test]
async fn bodies_that_are_no_json_object_are_refused_in_the_contracts_shape() {
    let server = furnished().await;
    for (method, path) in WITH_BODY {
        for (body, kind) in [
            (&b"{"[..], "value_error.jsondecode"),
            (b"{\"name\": }", "value_error.jsondecode"),
            (b"not json", "value_error.jsondecode"),
            (b"{} {}", "value_error.jsondecode"),
            (b"\xef\xbb\xbf{}", "value_error.jsondecode"),
            (b"{\"name\":\"\xff\"}", "value_error.jsondecode"),
            (b"[]", "type_error"),
            (b"[\"a\", \"b\"]", "type_error"),
            (b"\"text\"", "type_error"),
            (b"null", "type_error"),
        ] {
            let answer = server
                .send(method.clone(), path, &[], Some(body.to_vec()))
                .await;
            assert_invalid(&answer, &["body"]);
            assert_eq!(answer.json()["detail"][0]["type"], kind, "{method} {path}");
        }
        if !path.contains("rotate") {
            for body in [None, Some(Vec::new()), Some(b" \n".to_vec())] {
                let answer = server.send(method.clone(), path, &[], body).await;
                assert_invalid(&answer, &["body"]);
                assert_eq!(answer.json()["detail"][0]["type"], "missing");
            }
        }
        let deep = "[".repeat(100_000);
        let answer = server.call(method.clone(), path, &[], Some(deep)).await;
        assert_eq!(answer.status, 422, "{method} {path}");
    }
}

#[actix_web::test]
async fn bodies_are_limited_in_length_everywhere() {
    let server = furnished().await;
    for (method, path) in WITH_BODY {
        let long = format!("{{\"name\":\"{}\"}}", "n".repeat(4 << 20));
        let answer = server.call(method, path, &[], Some(long)).await;
        assert_error(&answer, 413, "payload_too_large");
    }
}

#[actix_web::test]
async fn a_field_given_twice_is_refused() {
    let server = furnished().await;
    let twice = r#"{"name":"a","name":"b"}"#.to_owned();
    let answer = server
        .call(Method::POST, "/api/v1/app", &[], Some(twice))
        .await;
    assert_eq!(answer.status, 422, "{}", answer.text);
}

#[actix_web::test]
async fn unknown_paths_and_methods_are_answered_as_errors_are() {
    let server = furnished().await;
    for path in [
        "/api",
        "/api/v1",
        "/api/v2/app",
        "/api/v1/apps",
        "/api/v1/app/app/nothing",
        "/api/v1/app/app/msg/m/nothing",
        "/api/v1/app//endpoint",
        "//api/v1/app",
        "/api/v1/app/app/endpoint//",
        "/api/v1/../v1/app",
    ] {
        assert_error(&server.get(path).await, 404, "not_found");
    }
    for (path, allowed) in [
        ("/api/v1/app", "GET, POST"),
        ("/api/v1/app/app", "GET, PUT, PATCH, DELETE"),
        ("/api/v1/app/app/endpoint/e/secret/rotate", "POST"),
        ("/api/v1/app/app/msg/m", "GET"),
        ("/api/v1/health", "GET"),
        ("/metrics", "GET"),
    ] {
        for path in [path.to_owned(), format!("{path}/")] {
            let answer = server.call(Method::OPTIONS, &path, &[], None).await;
            assert_error(&answer, 405, "method_not_allowed");
            assert_eq!(answer.header("allow"), Some(allowed), "{path}");
        }
    }
    let head = server.call(Method::HEAD, "/api/v1/app", &[], None).await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
}

#[actix_web::test]
async fn every_path_works_with_and_without_a_slash_at_its_end() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let message = server.send_to(&receiver, "a", json!({})).await;
    let attempt = server.attempts(&message).await.remove(0);
    let endpoint = attempt["endpointId"].as_str().unwrap();
    let attempt = attempt["id"].as_str().unwrap();
    let app = "/api/v1/app/app";
    let endpoint_in = json!({"url": receiver.url()});
    let (get, post, put, patch, delete) = (
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
    );
    let none = Value::Null;
    let empty = json!({});
    // Each is called twice: what is made is made by the slash, what is deleted is put back.
    let table = [
        (&get, "/api/v1/app".to_owned(), &none, 200),
        (&post, "/api/v1/app".to_owned(), &json!({"name": "n"}), 201),
        (&get, app.to_owned(), &none, 200),
        (&put, app.to_owned(), &json!({"name": "n"}), 200),
        (&patch, app.to_owned(), &empty, 200),
        (&get, format!("{app}/endpoint"), &none, 200),
        (&post, format!("{app}/endpoint"), &endpoint_in, 201),
        (&get, format!("{app}/endpoint/{endpoint}"), &none, 200),
        (
            &put,
            format!("{app}/endpoint/{endpoint}"),
            &endpoint_in,
            200,
        ),
        (&patch, format!("{app}/endpoint/{endpoint}"), &empty, 200),
        (
            &get,
            format!("{app}/endpoint/{endpoint}/headers"),
            &none,
            200,
        ),
        (
            &put,
            format!("{app}/endpoint/{endpoint}/headers"),
            &json!({"headers": {}}),
            204,
        ),
        (
            &patch,
            format!("{app}/endpoint/{endpoint}/headers"),
            &json!({"headers": {}}),
            204,
        ),
        (
            &get,
            format!("{app}/endpoint/{endpoint}/secret"),
            &none,
            200,
        ),
        (
            &post,
            format!("{app}/endpoint/{endpoint}/secret/rotate"),
            &empty,
            200,
        ),
        (&get, format!("{app}/msg"), &none, 200),
        (&get, format!("{app}/msg/{message}"), &none, 200),
        (&get, format!("{app}/attempt/msg/{message}"), &none, 200),
        (
            &get,
            format!("{app}/attempt/endpoint/{endpoint}"),
            &none,
            200,
        ),
        (
            &get,
            format!("{app}/msg/{message}/attempt/{attempt}"),
            &none,
            200,
        ),
        (
            &post,
            format!("{app}/msg/{message}/endpoint/{endpoint}/resend"),
            &empty,
            202,
        ),
        (
            &post,
            format!("{app}/msg"),
            &json!({"eventType": "a", "payload": {}}),
            202,
        ),
        (&get, "/api/v1/event-type".to_owned(), &none, 200),
        (&get, "/api/v1/token".to_owned(), &none, 200),
        (
            &post,
            "/api/v1/token".to_owned(),
            &json!({"name": "t", "role": "owner"}),
            201,
        ),
        (&get, "/metrics".to_owned(), &none, 200),
        (&get, "/api/v1/health".to_owned(), &none, 200),
        (&get, "/api/v1/health/ping".to_owned(), &none, 204),
    ];
    for (method, path, body, status) in &table {
        for path in [path.clone(), format!("{path}/")] {
            // No two messages are due at the same instant.
            server.advance(std::time::Duration::from_millis(4));
            let body = (!body.is_null()).then(|| body.to_string());
            let answer = server.call((*method).clone(), &path, &[], body).await;
            assert_eq!(answer.status, *status, "{method} {path}: {}", answer.text);
            assert_eq!(answer.text.is_empty(), *status == 204, "{method} {path}");
            let kind = answer.header("content-type");
            match *status {
                204 => assert_eq!(kind, None, "{method} {path}"),
                _ if path.starts_with("/metrics") => {}
                _ => assert_eq!(kind, Some("application/json"), "{method} {path}"),
            }
        }
    }
    for path in ["/api/v1/event-type/x", "/api/v1/event-type/x/"] {
        let body = json!({"description": ""});
        server.put(path, body).await.expect(201);
        server.get(path).await.expect(200);
        server.patch(path, json!({})).await.expect(200);
        let expunge = format!("{path}?expunge=true");
        assert_eq!(server.delete(&expunge).await.status, 204);
    }
    for path in ["/api/v1/app/x", "/api/v1/app/x/"] {
        server.put(path, json!({"name": "x"})).await.expect(201);
        let endpoint = format!("{}/endpoint/e", path.trim_end_matches('/'));
        server.put(&endpoint, endpoint_in.clone()).await.expect(201);
        let slash = if path.ends_with('/') { "/" } else { "" };
        let gone = server
            .call(delete.clone(), &format!("{endpoint}{slash}"), &[], None)
            .await;
        assert_eq!(gone.status, 204);
        assert_eq!(server.delete(path).await.status, 204);
    }
    server.settle().await;
}

#[actix_web::test]
async fn a_full_queue_refuses_politely_and_loses_nothing() {
    let receiver = Receiver::ok().await;
    let server = Server::start_with(|config| config.limits.held_max = 3).await;
    server.application("app").await;
    let body = json!({"url": receiver.url(), "uid": "e", "disabled": true});
    server
        .post("/api/v1/app/app/endpoint", body)
        .await
        .expect(201);
    for number in 0..3 {
        server.publish("a", json!({"n": number})).await;
    }
    let body = json!({"eventType": "a", "payload": {"n": 3}});
    let refused = server.post("/api/v1/app/app/msg", body.clone()).await;
    assert_error(&refused, 429, "too_many");
    let list = server.get("/api/v1/app/app/msg").await.expect(200);
    assert_eq!(list["data"].as_array().unwrap().len(), 3);
    let enabled = json!({"disabled": false});
    server
        .patch("/api/v1/app/app/endpoint/e", enabled)
        .await
        .expect(200);
    receiver.received(3).await;
    server.settle().await;
    server.post("/api/v1/app/app/msg", body).await.expect(202);
    server.settle().await;
    assert_eq!(receiver.count(), 4);
}

#[actix_web::test]
async fn a_compressed_body_is_told_to_come_as_it_is() {
    let server = furnished().await;
    for (method, path) in WITH_BODY {
        let headers = [("content-encoding", "gzip")];
        let body = Some(b"\x1f\x8b\x08".to_vec());
        let answer = server.send(method.clone(), path, &headers, body).await;
        assert_eq!(answer.status, 415, "{method} {path}: {}", answer.text);
        let detail = answer.json()["detail"]
            .as_str()
            .expect("a sentence")
            .to_owned();
        assert!(detail.contains("content-encoding gzip"), "{detail}");
    }
    let headers = [("content-encoding", "identity")];
    let body = json!({"name": "plain"}).to_string().into_bytes();
    let answer = server
        .send(Method::POST, "/api/v1/app", &headers, Some(body))
        .await;
    assert_eq!(answer.status, 201, "{}", answer.text);
}
