//! Operational webhooks: what the platform's own endpoints hear, and that nobody else sees them.

use std::time::Duration;

use awc::http::Method;
use postrider::delivery::sign::{SignedHeaders, VerifyingKey};
use serde_json::{Value, json};

use crate::support::{Receiver, Request, Script, Server, assert_error, assert_invalid, texts};

const OWN: &str = "/api/v1/operational-webhook/endpoint";

fn own(id: &str) -> String {
    format!("{OWN}/{id}")
}

async fn register(server: &Server, body: Value) -> String {
    let made = server.post(OWN, body).await.expect(201);
    made["id"].as_str().expect("an id").to_owned()
}

fn payload(request: &Request) -> Value {
    serde_json::from_slice(&request.body).expect("JSON")
}

fn names(requests: &[Request]) -> Vec<String> {
    let name = |request| payload(request)["type"].as_str().unwrap_or("?").to_owned();
    requests.iter().map(name).collect()
}

async fn application_id(server: &Server, uid: &str) -> String {
    let application = server.get(&format!("/api/v1/app/{uid}")).await.expect(200);
    application["id"].as_str().expect("an id").to_owned()
}

/// The id of the application that holds the own endpoints: the organisation's in another coat.
fn hidden(server: &Server) -> String {
    let catalog = server.store().catalog();
    let organisation = catalog.organisations().next().expect("there is one");
    organisation.id.to_string().replace("org_", "app_")
}

#[actix_web::test]
async fn what_happens_to_an_endpoint_is_told_in_order_and_signed() {
    let heard = Receiver::ok().await;
    let server = Server::start_with(|config| {
        config.delivery.in_flight_per_endpoint_max = 1;
        // Not what the platform's own endpoints have.
        config.delivery.default_profile = "ioffice".to_owned();
    })
    .await;
    server.application("app").await;
    let first = server
        .endpoint_of(
            "app",
            json!({"url": "https://example.com/", "profile": "standard"}),
        )
        .await;
    let id = register(&server, json!({"url": heard.url()})).await;
    let app = application_id(&server, "app").await;
    let made = json!({"url": "https://example.com/", "uid": "mine", "profile": "standard"});
    let second = server.endpoint_of("app", made).await;
    let path = format!("/api/v1/app/app/endpoint/{second}");
    server.advance(Duration::from_millis(10));
    server
        .patch(&path, json!({"disabled": true}))
        .await
        .expect(200);
    server.advance(Duration::from_millis(10));
    server
        .patch(&path, json!({"disabled": false}))
        .await
        .expect(200);
    server.advance(Duration::from_millis(10));
    server.delete(&path).await.expect(204);
    server.advance(Duration::from_millis(10));
    server.delete("/api/v1/app/app").await.expect(204);
    let requests = heard.received(7).await;
    server.settle().await;
    let expected = [
        "endpoint.created",
        "endpoint.updated",
        "endpoint.disabled",
        "endpoint.updated",
        "endpoint.enabled",
        "endpoint.deleted",
        "endpoint.deleted",
    ];
    assert_eq!(names(&requests), expected);
    let data = json!({
        "appId": app, "appUid": "app", "endpointId": second, "endpointUid": "mine",
        "endpointUrl": "https://example.com/", "summary": "https://example.com/ of app was added.",
    });
    assert_eq!(
        payload(&requests[0]),
        json!({"type": "endpoint.created", "data": data})
    );
    assert_eq!(payload(&requests[2])["data"]["trigger"], "manual");
    assert_eq!(
        payload(&requests[6])["data"],
        json!({
            "appId": app, "appUid": "app", "endpointId": first,
            "endpointUrl": "https://example.com/", "summary": "https://example.com/ of app was deleted.",
        })
    );

    let secret = server
        .get(&format!("{}/secret", own(&id)))
        .await
        .expect(200);
    let key = VerifyingKey::parse(secret["key"].as_str().expect("a key")).expect("a key");
    for request in &requests {
        let header = |name| request.header(name).expect("it is signed");
        let headers = SignedHeaders {
            id: header("webhook-id"),
            timestamp: header("webhook-timestamp"),
            signature: header("webhook-signature"),
        };
        key.verify(headers, &request.body, server.now())
            .expect("it verifies");
    }
    let attempts = server
        .get(&format!("{}/attempt", own(&id)))
        .await
        .expect(200);
    assert_eq!(texts(&attempts, "url").len(), 7);
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn a_delivery_is_told_of_at_its_fourth_failure_and_when_it_recovers() {
    let heard = Receiver::ok().await;
    let failing = Receiver::answering([500, 500, 500, 503, 500]).await;
    let server = Server::start().await;
    register(&server, json!({"url": heard.url()})).await;
    let endpoint = server.endpoint(&failing).await;
    let body = json!({"eventType": "a.b", "payload": {}, "eventId": "mine"});
    let message = server.post("/api/v1/app/app/msg", body).await.expect(202);
    server.settle().await;
    for _ in 0..5 {
        server.advance_to_next_due().await;
    }
    server.settle().await;
    let requests = heard.received(3).await;
    let expected = [
        "endpoint.created",
        "message.attempt.failing",
        "message.attempt.recovered",
    ];
    assert_eq!(names(&requests), expected);
    let app = application_id(&server, "app").await;
    let attempts = server.attempts(message["id"].as_str().unwrap()).await;
    let url = failing.url();
    let told = format!("{url} of app: a delivery of a.b");
    let failed = format!("{told} has failed 4 times and will be tried again: HTTP 503.");
    let recovered = format!("{told} came through at attempt 6.");
    for (request, number, status, summary) in [
        (&requests[1], 4, 503, failed),
        (&requests[2], 6, 200, recovered),
    ] {
        let attempt = attempts.iter().find(|one| one["attempt"] == number);
        let attempt = attempt.expect("it was made");
        let mut data = json!({
            "appId": app, "appUid": "app", "endpointId": endpoint, "endpointUrl": url,
            "msgId": message["id"], "msgEventId": "mine", "eventType": "a.b",
            "lastAttempt": {"id": attempt["id"], "responseStatusCode": status,
                "timestamp": attempt["timestamp"]},
            "summary": summary,
        });
        if status == 503 {
            data["failure"] = json!("HTTP 503");
        }
        assert_eq!(payload(request)["data"], data);
    }
}

#[actix_web::test]
async fn a_delivery_that_is_given_up_and_an_endpoint_that_is_gone_are_told_of() {
    let heard = Receiver::ok().await;
    let gone = Receiver::answering([410]).await;
    let failing = Receiver::scripted([], Script::Status(500)).await;
    let mut server = Server::start().await;
    server.leftovers_are_fine();
    let wanted = json!(["message.attempt.exhausted", "endpoint.disabled"]);
    register(&server, json!({"url": heard.url(), "eventTypes": wanted})).await;
    server.application("app").await;
    let retry = json!({"delaysSeconds": [1]});
    let body = json!({"url": failing.url(), "retry": retry, "eventTypes": ["fails"]});
    server.endpoint_of("app", body).await;
    let body = json!({"url": gone.url(), "eventTypes": ["gone"]});
    let endpoint = server.endpoint_of("app", body).await;
    server.publish("fails", json!({})).await;
    server.settle().await;
    server.advance(Duration::from_secs(2));
    server.settle().await;
    server.publish("gone", json!({})).await;
    let requests = heard.received(2).await;
    server.settle().await;
    assert_eq!(
        names(&requests),
        ["message.attempt.exhausted", "endpoint.disabled"]
    );
    let data = &payload(&requests[1])["data"];
    assert_eq!(data["endpointId"], endpoint.as_str());
    assert_eq!(data["trigger"], "automatic");
    assert!(data["failSince"].is_string(), "{data}");
}

#[actix_web::test]
async fn neither_tests_nor_the_own_endpoints_raise_events() {
    let heard = Receiver::scripted([], Script::Status(500)).await;
    let failing = Receiver::scripted([], Script::Status(500)).await;
    let mut server = Server::start().await;
    server.leftovers_are_fine();
    let wanted = json!(["message.attempt.exhausted", "message.attempt.failing"]);
    let id = register(&server, json!({"url": heard.url(), "eventTypes": wanted})).await;
    register(
        &server,
        json!({"url": heard.url(), "eventTypes": ["endpoint.created"]}),
    )
    .await;
    let endpoint = server.endpoint(&failing).await;
    let event_type = json!({"name": "a.b", "description": "", "example": {}});
    server
        .post("/api/v1/event-type", event_type)
        .await
        .expect(201);
    let path = format!("/api/v1/app/app/endpoint/{endpoint}/send-example");
    server
        .post(&path, json!({"eventType": "a.b"}))
        .await
        .expect(200);
    for _ in 0..16 {
        server.settle().await;
        server.advance(Duration::from_secs(24 * 3600));
    }
    server.settle().await;
    assert!(failing.count() > 4, "the test was given up");
    assert!(heard.count() > 4, "the event about the endpoint, too");
    assert!(
        names(&heard.requests())
            .iter()
            .all(|name| name == "endpoint.created")
    );
    let attempts = server
        .get(&format!("{}/attempt", own(&id)))
        .await
        .expect(200);
    assert_eq!(attempts["data"], json!([]));
    // A gone one of the platform's own is disabled like any other, and nothing is said of it.
    server.delete(&own(&id)).await.expect(204);
}

#[actix_web::test]
async fn an_event_is_in_the_commit_of_what_it_tells_of() {
    let heard = Receiver::scripted([], Script::Hang).await;
    let mut dead = Server::start().await;
    dead.leftovers_are_fine();
    register(&dead, json!({"url": heard.url()})).await;
    dead.application("app").await;
    let endpoint = dead
        .endpoint_of("app", json!({"url": "https://example.com/"}))
        .await;
    heard.received(1).await;
    let server = dead.after_a_crash().await;
    heard.then(Script::Status(200));
    let requests = heard.received(2).await;
    server.settle().await;
    assert_eq!(
        payload(&requests[1])["data"]["endpointId"],
        endpoint.as_str()
    );
    assert_eq!(
        requests[0].header("webhook-id"),
        requests[1].header("webhook-id")
    );
    // And after a stop.
    let server = server.restart().await;
    let path = format!("/api/v1/app/app/endpoint/{endpoint}");
    server.delete(&path).await.expect(204);
    let requests = heard.received(3).await;
    server.settle().await;
    assert_eq!(names(&requests)[2], "endpoint.deleted");
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn own_endpoints_are_made_shown_changed_and_deleted() {
    let heard = Receiver::ok().await;
    let server = Server::start().await;
    assert_eq!(server.get(OWN).await.expect(200)["data"], json!([]));
    assert_error(&server.get(&own("mine")).await, 404, "not_found");
    let body = json!({
        "url": heard.url(), "uid": "mine", "description": "d", "throttleRate": 5,
        "eventTypes": ["endpoint.disabled"], "metadata": {"a": "b"}, "headers": {"X-A": "1"},
    });
    let made = server.post(OWN, body.clone()).await.expect(201);
    for (field, value) in body.as_object().unwrap() {
        assert_eq!(made[field], *value, "{field}");
    }
    assert_error(&server.post(OWN, body).await, 409, "conflict");
    let unknown = json!({"url": heard.url(), "eventTypes": ["endpoint.created", "invoice.paid"]});
    let refused = server.post(OWN, unknown).await;
    assert_invalid(&refused, &["body.eventTypes.1"]);
    let put = server.put(&own("mine"), json!({"url": heard.url()})).await;
    assert_eq!(put.expect(200)["eventTypes"], Value::Null);
    let refused = server
        .post(OWN, json!({"url": heard.url(), "channels": ["c"]}))
        .await;
    assert_invalid(&refused, &["body.channels"]);
    // Ids of one instant are in no order.
    server.advance(Duration::from_millis(10));
    let put = server.put(&own("new"), json!({"url": heard.url()})).await;
    assert_eq!(put.expect(201)["uid"], "new");
    let headers = format!("{}/headers", own("mine"));
    server
        .put(&headers, json!({"headers": {"X-B": "2"}}))
        .await
        .expect(204);
    let shown = server.get(&headers).await.expect(200);
    assert_eq!(shown["headers"], json!({"X-B": "2"}));
    let rotate = format!("{}/secret/rotate", own("mine"));
    let rotated = server.post(&rotate, json!({})).await.expect(200);
    let secret = server.get(&format!("{}/secret", own("mine"))).await;
    assert_eq!(secret.expect(200)["key"], rotated["key"]);
    assert_eq!(
        texts(&server.get(OWN).await.expect(200), "uid"),
        ["new", "mine"]
    );
    for number in 2..10 {
        let body = json!({"url": heard.url(), "uid": format!("n{number}")});
        register(&server, body).await;
    }
    let eleventh = server.post(OWN, json!({"url": heard.url()})).await;
    assert_eq!(eleventh.status, 429);
    server.delete(&own("mine")).await.expect(204);
    assert_error(&server.get(&own("mine")).await, 404, "not_found");
}

#[actix_web::test]
async fn the_application_behind_own_endpoints_exists_for_nobody() {
    let heard = Receiver::ok().await;
    let server = Server::start().await;
    let id = register(&server, json!({"url": heard.url(), "uid": "mine"})).await;
    let app = hidden(&server);
    assert_eq!(
        server.get("/api/v1/app").await.expect(200)["data"],
        json!([])
    );
    let publish = json!({"eventType": "endpoint.created", "payload": {}});
    for (method, rest, body) in [
        (Method::GET, String::new(), Value::Null),
        (Method::PUT, String::new(), json!({"name": "n"})),
        (Method::PATCH, String::new(), json!({})),
        (Method::DELETE, String::new(), Value::Null),
        (Method::GET, "/endpoint".to_owned(), Value::Null),
        (
            Method::POST,
            "/endpoint".to_owned(),
            json!({"url": heard.url()}),
        ),
        (Method::GET, format!("/endpoint/{id}"), Value::Null),
        (Method::GET, format!("/endpoint/{id}/secret"), Value::Null),
        (Method::DELETE, format!("/endpoint/{id}"), Value::Null),
        (Method::GET, "/msg".to_owned(), Value::Null),
        (Method::POST, "/msg".to_owned(), publish),
        (Method::GET, format!("/attempt/endpoint/{id}"), Value::Null),
    ] {
        let path = format!("/api/v1/app/{app}{rest}");
        let body = (!body.is_null()).then(|| body.to_string());
        let answer = server.call(method.clone(), &path, &[], body).await;
        assert_eq!(answer.status, 404, "{method} {path}: {}", answer.text);
    }
    let token = json!({"name": "t", "role": "application", "applicationId": app});
    let refused = server.post("/api/v1/token", token).await;
    assert_invalid(&refused, &["body.applicationId"]);
    let token = json!({"name": "t", "role": "webhook_user", "endpointIds": [id]});
    let refused = server.post("/api/v1/token", token).await;
    assert_invalid(&refused, &["body.endpointIds.0"]);
    // Another application has nothing to do with them, and can have their uid.
    server.application("app").await;
    let path = format!("/api/v1/app/app/endpoint/{id}");
    assert_error(&server.get(&path).await, 404, "not_found");
    server
        .endpoint_of("app", json!({"url": "https://example.com/", "uid": "mine"}))
        .await;
    heard.received(1).await;
    server.settle().await;
}
