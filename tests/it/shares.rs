//! What one customer may take: requests a second, on every surface, and nobody else's.

use std::time::Duration;

use awc::http::Method;
use serde_json::json;

use crate::support::{Answer, Server};

const SETTING: &str = "limits.requests_per_customer_second_max";
const OWN: &str = "/api/v1/app/app";

/// Two requests a second of a customer, and as many at once.
async fn two_a_second() -> Server {
    let server = Server::start_with(|config| {
        config.limits.requests_per_customer_second_max = 2;
        config.limits.requests_burst_seconds = 1;
    })
    .await;
    server.application("app").await;
    server
}

async fn token(server: &Server, body: serde_json::Value) -> String {
    let made = server.post("/api/v1/token", body).await.expect(201);
    made["token"].as_str().expect("a token").to_owned()
}

async fn key(server: &Server, application: &str) -> String {
    let body = json!({ "name": "k", "role": "application", "applicationId": application });
    token(server, body).await
}

async fn read(server: &Server, token: &str, path: &str) -> Answer {
    server.call_as(token, Method::GET, path, None).await
}

/// How many requests this setting has refused.
async fn refused(server: &Server, setting: &str) -> u64 {
    let text = server.get("/metrics").await.text;
    let series = format!("postrider_requests_refused_total{{limit=\"{setting}\"}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&series));
    value.expect("it is shown from the start").parse().unwrap()
}

#[track_caller]
fn assert_refused(answer: &Answer, setting: &str) {
    assert_eq!(answer.status, 429, "{}", answer.text);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(answer.text.contains(setting), "{}", answer.text);
}

#[actix_web::test]
async fn a_customer_has_its_requests_a_second_whatever_keys_it_has_and_others_have_theirs() {
    let server = two_a_second().await;
    server.application("other").await;
    let keys = [key(&server, "app").await, key(&server, "app").await];
    let link = server
        .post("/api/v1/auth/app-portal-access/app", json!({}))
        .await
        .expect(200);
    let link = link["token"].as_str().expect("a token").to_owned();
    let other = key(&server, "other").await;
    for key in &keys {
        read(&server, key, OWN).await.expect(200);
    }
    for token in [&keys[0], &keys[1], &link] {
        let answer = read(&server, token, OWN).await;
        assert_refused(&answer, SETTING);
        assert_eq!(answer.json()["code"], "too_many");
    }
    read(&server, &other, "/api/v1/app/other").await.expect(200);
    server.get(OWN).await.expect(200);
    assert_eq!(refused(&server, SETTING).await, 3);

    // Half a second is one request, and being refused costs nothing.
    server.advance(Duration::from_millis(500));
    read(&server, &link, OWN).await.expect(200);
    assert_refused(&read(&server, &link, OWN).await, SETTING);
    server.advance(Duration::from_secs(60));
    for _ in 0..2 {
        read(&server, &keys[0], OWN).await.expect(200);
    }
    assert_refused(&read(&server, &keys[0], OWN).await, SETTING);
}

#[actix_web::test]
async fn a_request_counts_once_and_what_needs_no_credential_does_not_count() {
    let server = two_a_second().await;
    let key = key(&server, "app").await;
    for path in [
        "/api/v1/health",
        "/api/v1/health/ping",
        "/docs",
        "/docs/guide/limits",
        "/openapi.json",
    ] {
        let status = read(&server, &key, path).await.status;
        assert!((200..300).contains(&status), "{path}: {status}");
    }
    // What a caller may see of it is looked up in the credential once more, and so is the payer of an
    // answer that is long.
    for name in ["a", "b", "c"] {
        let event_type = json!({ "name": name, "description": "d".repeat(8_000) });
        let path = "/api/v1/event-type";
        server.post(path, event_type).await.expect(201);
    }
    for _ in 0..2 {
        let list = read(&server, &key, "/api/v1/event-type").await;
        assert!(list.text.len() > 16 << 10);
        list.expect(200);
    }
    assert_refused(&read(&server, &key, "/api/v1/event-type").await, SETTING);
}

#[actix_web::test]
async fn surfaces_of_other_systems_refuse_in_their_own_shape() {
    let server = two_a_second().await;
    let key = key(&server, "app").await;
    for _ in 0..2 {
        read(&server, &key, OWN).await.expect(200);
    }
    let webhooks = "/api/v3/project_templates/app/webhook_endpoints";
    let answer = read(&server, &key, webhooks).await;
    assert_refused(&answer, SETTING);
    let errors = answer.json()["errors"].clone();
    assert_eq!(errors.as_array().map(Vec::len), Some(1), "{errors}");

    let details = "/v1/account/settings/webhook_details";
    let answer = read(&server, &key, details).await;
    assert_refused(&answer, SETTING);
    assert_eq!(answer.json()["status"], 429);
    assert!(answer.json()["message"].is_string());

    // The sign-in of the portal, and the question who is signed in there.
    let surface = ("x-postrider-surface", "portal");
    let body = json!({ "token": key }).to_string();
    let path = "/api/v1/session";
    let headers = [surface, ("content-type", "application/json")];
    let answer = server.call(Method::POST, path, &headers, Some(body)).await;
    assert_refused(&answer, SETTING);
    assert_eq!(answer.header("set-cookie"), None);
    let bearer = format!("Bearer {key}");
    let headers = [surface, ("authorization", bearer.as_str())];
    let answer = server.call(Method::GET, path, &headers, None).await;
    assert_refused(&answer, SETTING);
}

#[actix_web::test]
async fn the_platform_has_no_limit_but_one_of_its_own_for_each_credential() {
    const OF_PLATFORM: &str = "limits.requests_per_platform_token_second_max";
    let server = two_a_second().await;
    let publisher = token(&server, json!({ "name": "p", "role": "publisher" })).await;
    for _ in 0..30 {
        read(&server, &publisher, OWN).await.expect(200);
    }
    // A webhook user is a customer.
    let user = token(&server, json!({ "name": "u", "role": "webhook_user" })).await;
    for _ in 0..2 {
        read(&server, &user, "/api/v1/event-type").await.expect(200);
    }
    assert_refused(&read(&server, &user, "/api/v1/event-type").await, SETTING);

    let server = server
        .restart_with(|config| config.limits.requests_per_platform_token_second_max = 20)
        .await;
    for _ in 0..20 {
        read(&server, &publisher, OWN).await.expect(200);
    }
    assert_refused(&read(&server, &publisher, OWN).await, OF_PLATFORM);
    let body = json!({ "eventType": "a", "payload": {} });
    let path = format!("{OWN}/msg");
    let answer = server
        .call_as(&publisher, Method::POST, &path, Some(body.to_string()))
        .await;
    assert_refused(&answer, OF_PLATFORM);
    server.get(OWN).await.expect(200);
    assert_eq!(refused(&server, OF_PLATFORM).await, 2);
}
