//! What clients of other versions of the contract ask for: older paths and names, newer calls.

use awc::http::Method;
use serde_json::{Value, json};

use crate::support::{Receiver, Server, assert_error, assert_invalid, keys, texts};

#[actix_web::test]
async fn the_paths_of_older_clients_list_attempts() {
    let server = Server::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = server.endpoint(&receiver).await;
    server.endpoint(&receiver).await;
    let message = server.publish("a", json!({})).await;
    server.settle().await;
    let newer = format!("/api/v1/app/app/attempt/msg/{message}");
    let all = server.get(&newer).await.expect(200);
    assert_eq!(texts(&all, "id").len(), 2);
    let older = format!("/api/v1/app/app/msg/{message}/attempt");
    assert_eq!(server.get(&older).await.expect(200), all);
    let at_one = server
        .get(&format!("{newer}?endpoint_id={endpoint}"))
        .await
        .expect(200);
    let older = format!("/api/v1/app/app/msg/{message}/endpoint/{endpoint}/attempt");
    assert_eq!(server.get(&older).await.expect(200), at_one);
    assert_eq!(texts(&at_one, "endpointId"), [endpoint.as_str()]);
    let nowhere = format!("/api/v1/app/app/msg/{message}/endpoint/nothing/attempt");
    assert_error(&server.get(&nowhere).await, 404, "not_found");
}

#[actix_web::test]
async fn dashboard_access_makes_a_link_to_the_portal() {
    let server = Server::start().await;
    server.application("app").await;
    let path = "/api/v1/auth/dashboard-access/app";
    for body in [None, Some(json!({ "expiry": null }).to_string())] {
        let link = server.call(Method::POST, path, &[], body).await.expect(200);
        // No public address is set here, which the answer warns of.
        assert_eq!(keys(&link), ["token", "url", "warnings"]);
        let token = link["token"].as_str().unwrap();
        let seen = server
            .call_as(token, Method::GET, "/api/v1/app/app", None)
            .await;
        assert_eq!(seen.expect(200)["uid"], "app");
    }
    assert_error(
        &server
            .post("/api/v1/auth/dashboard-access/nothing", json!({}))
            .await,
        404,
        "not_found",
    );
    server
        .post("/api/v1/auth/app/app/expire-all", json!({ "expiry": null }))
        .await
        .expect(204);
}

#[actix_web::test]
async fn many_payloads_are_deleted_at_once() {
    let server = Server::start().await;
    server.application("app").await;
    let first = server.publish("a", json!({ "n": 1 })).await;
    let body = json!({ "eventType": "a", "eventId": "mine", "payload": { "n": 2 } });
    server.post("/api/v1/app/app/msg", body).await.expect(202);
    let kept = server.publish("a", json!({ "n": 3 })).await;
    let path = "/api/v1/app/app/msg/bulk-expunge";
    let ids = json!({ "ids": [first, "mine", "unheard-of"] });
    let results = server.post(path, ids.clone()).await.expect(200);
    let expected = json!({ "results": { first.as_str(): "expunged", "mine": "expunged", "unheard-of": "not-found" } });
    assert_eq!(results, expected);
    // Again is as good.
    assert_eq!(server.post(path, ids).await.expect(200), expected);
    for (id, payload) in [
        (first.as_str(), json!({ "expired": true })),
        ("mine", json!({ "expired": true })),
        (&kept, json!({ "n": 3 })),
    ] {
        let shown = server
            .get(&format!("/api/v1/app/app/msg/{id}"))
            .await
            .expect(200);
        assert_eq!(shown["payload"], payload, "{id}");
    }
    assert_invalid(&server.post(path, json!({})).await, &["body.ids"]);
    let many = json!({ "ids": vec!["x"; 101] });
    assert_invalid(&server.post(path, many).await, &["body.ids"]);
}

#[actix_web::test]
async fn a_ping_needs_no_event_type() {
    let server = Server::start().await;
    let receiver = Receiver::answering([200, 200]).await;
    let endpoint = server.endpoint(&receiver).await;
    let path = format!("/api/v1/app/app/endpoint/{endpoint}/send-example");
    let sent = server
        .post(&path, json!({ "eventType": "svix.ping" }))
        .await
        .expect(200);
    assert_eq!(sent["payload"], json!({ "success": true }));
    server.settle().await;
    assert_eq!(receiver.requests()[0].body, br#"{"success":true}"#);
    let own = r#"{"eventType":"svix.ping","payload":{"mine":1.10}}"#.to_owned();
    server
        .call(Method::POST, &path, &[], Some(own))
        .await
        .expect(200);
    server.settle().await;
    assert_eq!(receiver.requests()[1].body, br#"{"mine":1.10}"#);
    let other = server
        .post(&path, json!({ "eventType": "other.ping" }))
        .await;
    assert_invalid(&other, &["body.eventType"]);
}

#[actix_web::test]
async fn a_filter_with_an_event_type_that_nobody_registered_is_taken_with_a_warning() {
    let server = Server::start().await;
    server.application("app").await;
    let registered = json!({ "name": "invoice.paid", "description": "" });
    server
        .post("/api/v1/event-type", registered)
        .await
        .expect(201);
    let with = |names: Value| json!({ "url": "http://a.test/", "uid": "ep", "eventTypes": names });
    let warning = json!(["eventTypes[1]: invoice.piad is not registered"]);
    let path = "/api/v1/app/app/endpoint";
    let one = "/api/v1/app/app/endpoint/ep";
    let misspelled = json!(["invoice.paid", "invoice.piad"]);
    let made = server
        .post(path, with(misspelled.clone()))
        .await
        .expect(201);
    assert_eq!(made["warnings"], warning);
    let put = server.put(one, with(misspelled.clone())).await.expect(200);
    assert_eq!(put["warnings"], warning);
    let patched = server
        .patch(one, json!({ "eventTypes": misspelled }))
        .await
        .expect(200);
    assert_eq!(patched["warnings"], warning);
    // It still is not, whoever looks at it later.
    assert_eq!(server.get(one).await.expect(200)["warnings"], warning);
    let right = json!({ "eventTypes": ["invoice.paid"] });
    let patched = server.patch(one, right).await.expect(200);
    assert_eq!(patched.get("warnings"), None);
    assert_eq!(server.get(one).await.expect(200).get("warnings"), None);
}

#[actix_web::test]
async fn what_is_no_schema_is_refused_at_its_place() {
    let server = Server::start().await;
    let path = "/api/v1/event-type";
    let with = |schemas: Value| json!({ "name": "a", "description": "", "schemas": schemas });
    for (schemas, place) in [
        (
            json!({ "1": { "readOnly": 15 } }),
            "body.schemas.1.readOnly",
        ),
        (
            json!({ "1": {}, "2": { "type": "nonsense" } }),
            "body.schemas.2.type",
        ),
        (
            json!({ "1": { "properties": { "a": { "$ref": "https://example.invalid/a.json" } } } }),
            "body.schemas.1.properties.a.$ref",
        ),
        (json!({ "type": "nonsense" }), "body.schemas"),
    ] {
        for answer in [
            server.post(path, with(schemas.clone())).await,
            server
                .put("/api/v1/event-type/a", with(schemas.clone()))
                .await,
        ] {
            assert_invalid(&answer, &[place]);
        }
    }
    let good = json!({ "1": { "type": "object", "$defs": { "x": { "type": "string" } }, "properties": { "a": { "$ref": "#/$defs/x" } } } });
    server.post(path, with(good)).await.expect(201);
    let patch = json!({ "schemas": { "1": { "required": "a" } } });
    assert_invalid(
        &server.patch("/api/v1/event-type/a", patch).await,
        &["body.schemas.1.required"],
    );
}

#[actix_web::test]
async fn whoever_sends_the_secret_for_a_token_is_told() {
    let secret = "12-bytes-long";
    let server =
        Server::start_with(|config| config.auth.jwt_secret = Some(secret.to_owned().into())).await;
    assert_eq!(server.config().warnings().len(), 1, "it is short");
    let answer = server
        .call_as(secret, Method::GET, "/api/v1/app", None)
        .await;
    assert_error(&answer, 401, "authentication_failed");
    assert!(
        answer.text.contains("postrider token jwt"),
        "{}",
        answer.text
    );
    let answer = server
        .call_as("12-bytes-lonG", Method::GET, "/api/v1/app", None)
        .await;
    assert_error(&answer, 401, "authentication_failed");
    assert!(
        !answer.text.contains("postrider token jwt"),
        "{}",
        answer.text
    );
}
