//! The role viewer: it reads everything but secrets, and changes nothing. What it may on each route is in
//! `roles`.

use awc::http::Method;
use serde_json::{Value, json};

use crate::support::{Receiver, Server, assert_error};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const HIDDEN: [&str; 4] = [
    "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "pass-hidden",
    "key-hidden",
    "auth-hidden",
];

#[actix_web::test]
async fn a_viewer_reads_everything_and_no_secret_is_in_it() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let body = json!({
        "url": receiver.url(), "uid": "ep", "secret": SECRET,
        "headers": {"X-Api-Key": "key-hidden", "X-Plain": "seen"},
        "basicAuth": {"username": "u", "password": "pass-hidden"},
        "authHeaders": {"X-Sign": "auth-hidden"},
    });
    let endpoint = server.endpoint_of("app", body.clone()).await;
    let own = json!({"url": receiver.url(), "uid": "own", "secret": SECRET});
    let operational = "/api/v1/operational-webhook/endpoint";
    server.post(operational, own).await.expect(201);
    let made = json!({"name": "v", "role": "viewer"});
    let made = server.post("/api/v1/token", made).await.expect(201);
    let key = server
        .post("/api/v1/app/app/token", json!({"name": "k"}))
        .await
        .expect(201);
    let message = server.publish("a", json!({})).await;
    server.settle().await;
    let viewer = made["token"].as_str().expect("a text");
    let get = async |path: &str| server.call_as(viewer, Method::GET, path, None).await;
    for path in [
        "/api/v1/app",
        "/api/v1/app/app",
        "/api/v1/app/app/endpoint",
        "/api/v1/app/app/endpoint/ep",
        "/api/v1/app/app/endpoint/ep/headers",
        "/api/v1/app/app/endpoint/ep/stats",
        "/api/v1/app/app/endpoint/ep/msg",
        "/api/v1/app/app/msg",
        &format!("/api/v1/app/app/msg/{message}"),
        &format!("/api/v1/app/app/attempt/msg/{message}"),
        &format!("/api/v1/app/app/attempt/endpoint/{endpoint}"),
        "/api/v1/app/app/token",
        "/api/v1/token",
        "/api/v1/event-type",
        "/api/v1/profile",
        "/api/v1/lane",
        "/api/v1/background-task",
        "/api/v1/status",
        "/metrics",
        operational,
        &format!("{operational}/own"),
        &format!("{operational}/own/headers"),
        &format!("{operational}/own/attempt"),
        "/api/v3/project_templates/app/webhook_endpoints",
    ] {
        let answer = get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        let texts = HIDDEN
            .iter()
            .copied()
            .chain([viewer, key["token"].as_str().expect("a text")]);
        for hidden in texts {
            assert!(!answer.text.contains(hidden), "{path}: {}", answer.text);
        }
    }
    let headers = get("/api/v1/app/app/endpoint/ep/headers").await.expect(200);
    assert_eq!(
        headers,
        json!({"headers": {"X-Plain": "seen"}, "sensitive": ["X-Api-Key"]})
    );
    for path in [
        "/api/v1/app/app/endpoint/ep/secret",
        &format!("{operational}/own/secret"),
    ] {
        assert_error(&get(path).await, 403, "forbidden");
    }
    let received = receiver.count();
    server.settle().await;
    assert_eq!(receiver.count(), received);
}

#[actix_web::test]
async fn the_console_is_told_what_a_viewer_may() {
    let server = Server::start().await;
    let made = json!({"name": "v", "role": "viewer"});
    let made = server.post("/api/v1/token", made).await.expect(201);
    let viewer = made["token"].as_str().expect("a text");
    let session = server
        .call_as(viewer, Method::GET, "/api/v1/session", None)
        .await
        .expect(200);
    assert_eq!(session["role"], "viewer");
    let may: Vec<&str> = session["may"]
        .as_array()
        .expect("a list")
        .iter()
        .flat_map(Value::as_str)
        .collect();
    assert!(
        may.iter()
            .all(|name| name.starts_with("read") || name.starts_with("list")),
        "{may:?}"
    );
    assert!(!may.contains(&"readSecrets"));
}
