//! What endpoints and applications may be.

use std::collections::BTreeSet;

use awc::http::Method;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{APPS, ENDPOINTS, MESSAGES, NEVER_DIALLED, message, server_with_an_endpoint, with};
use crate::support::{Receiver, Server, assert_invalid};

#[actix_web::test]
async fn d19_an_endpoint_listens_to_500_channels() {
    let server = server_with_an_endpoint().await;
    let channels = |count: usize| -> Vec<String> { (0..count).map(|n| format!("c{n}")).collect() };
    let body = |count| json!({ "url": NEVER_DIALLED, "channels": channels(count) });
    let made = server.post(ENDPOINTS, body(500)).await.expect(201);
    assert_eq!(made["channels"].as_array().map(Vec::len), Some(500));
    assert_invalid(&server.post(ENDPOINTS, body(501)).await, &["body.channels"]);
}

#[actix_web::test]
async fn d20_a_url_has_2_kib() {
    let server = server_with_an_endpoint().await;
    let body = |length: usize| {
        let rest = "x".repeat(length - NEVER_DIALLED.len());
        json!({ "url": format!("{NEVER_DIALLED}{rest}") })
    };
    server.post(ENDPOINTS, body(2_048)).await.expect(201);
    assert_invalid(&server.post(ENDPOINTS, body(2_049)).await, &["body.url"]);
}

#[actix_web::test]
async fn d21_values_have_limits() {
    let mut server = server_with_an_endpoint().await;
    server.leftovers_are_fine();
    let long = |length: usize| json!("x".repeat(length));
    let many = |count: usize| -> Vec<String> { (0..count).map(|n| format!("x{n}")).collect() };
    let headers = |count: usize| -> Value {
        many(count)
            .into_iter()
            .map(|name| (name, json!("1")))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let endpoint = || json!({ "url": NEVER_DIALLED });
    let portal = "/api/v1/auth/app-portal-access/app";
    for (path, body, name, fits, too_much, place) in [
        (
            APPS,
            json!({}),
            "name",
            long(1_024),
            long(1_025),
            "body.name",
        ),
        (
            ENDPOINTS,
            endpoint(),
            "description",
            long(8_192),
            long(8_193),
            "body.description",
        ),
        (
            ENDPOINTS,
            endpoint(),
            "eventTypes",
            json!(many(1_000)),
            json!(many(1_001)),
            "body.eventTypes",
        ),
        (
            ENDPOINTS,
            endpoint(),
            "headers",
            headers(64),
            headers(65),
            "body.headers",
        ),
        (
            ENDPOINTS,
            endpoint(),
            "headers",
            json!({ "x-a": long(8_192) }),
            json!({ "x-a": long(8_193) }),
            "body.headers.x-a",
        ),
        (
            portal,
            json!({}),
            "featureFlags",
            json!(many(100)),
            json!(many(101)),
            "body.featureFlags",
        ),
    ] {
        let taken = server.post(path, with(body.clone(), name, fits)).await;
        assert!(
            [200, 201].contains(&taken.status),
            "{path} {name}: {}",
            taken.text
        );
        assert_invalid(
            &server.post(path, with(body, name, too_much)).await,
            &[place],
        );
    }
    for (length, status) in [(256, 202), (257, 422)] {
        let key = "k".repeat(length);
        let key = [("idempotency-key", key.as_str())];
        let body = Some(message().to_string());
        let answer = server.call(Method::POST, MESSAGES, &key, body).await;
        assert_eq!(answer.status, status, "{}", answer.text);
    }
}

#[actix_web::test]
async fn d22_a_password_in_a_url_is_not_shown() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let url = receiver.url().replace("http://", "http://user:passw0rd@");
    let endpoint = server.endpoint_of("app", json!({ "url": url })).await;
    let shown = server.get(&format!("{ENDPOINTS}/{endpoint}")).await;
    assert!(!shown.text.contains("passw0rd"), "{}", shown.text);
    server.publish("a", json!({})).await;
    server.settle().await;
    let expected = format!("Basic {}", STANDARD.encode("user:passw0rd"));
    assert_eq!(
        receiver.requests()[0].header("authorization"),
        Some(expected.as_str())
    );
}

#[actix_web::test]
async fn d23_a_secret_is_what_the_profile_takes() {
    let server = server_with_an_endpoint().await;
    let secret = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
    let body = |secret: &str| json!({ "url": NEVER_DIALLED, "secret": secret });
    for bytes in [24, 64] {
        server
            .post(ENDPOINTS, body(&secret(bytes)))
            .await
            .expect(201);
    }
    for bytes in [23, 65, 75] {
        let answer = server.post(ENDPOINTS, body(&secret(bytes))).await;
        assert_invalid(&answer, &["body.secret"]);
    }
    let key = format!("whsk_{}", STANDARD.encode([7; 32]));
    let made = server.post(ENDPOINTS, body(&key)).await.expect(201);
    let path = format!("{ENDPOINTS}/{}/secret", made["id"].as_str().unwrap());
    let shown = server.get(&path).await.expect(200);
    assert!(
        shown["key"].as_str().unwrap().starts_with("whpk_"),
        "{shown}"
    );
    let other = with(body("any text"), "profile", json!("github"));
    server.post(ENDPOINTS, other).await.expect(201);
}

#[actix_web::test]
async fn d24_a_filter_may_name_what_nobody_registered() {
    let server = server_with_an_endpoint().await;
    let body = json!({ "url": NEVER_DIALLED, "eventTypes": ["invoice.piad"] });
    let made = server.post(ENDPOINTS, body).await.expect(201);
    let warning = "eventTypes[0]: invoice.piad is not registered";
    assert_eq!(made["warnings"], json!([warning]));
}

#[actix_web::test]
async fn d52_wildcards_take_event_types_of_a_kind() {
    let server = server_with_an_endpoint().await;
    let body = |name: &str| json!({ "url": NEVER_DIALLED, "eventTypes": [name] });
    for name in ["invoice.*", "*.paid", "**"] {
        let made = server.post(ENDPOINTS, body(name)).await.expect(201);
        assert_eq!(made["filterTypes"], json!([name]));
    }
    for name in ["inv*", "**.paid"] {
        assert_invalid(
            &server.post(ENDPOINTS, body(name)).await,
            &["body.eventTypes.0"],
        );
    }
}

#[actix_web::test]
async fn d25_a_private_address_is_refused_when_the_endpoint_is_made() {
    let server = server_with_an_endpoint().await;
    for url in [
        "http://10.0.0.1/",
        "http://169.254.169.254/",
        "http://[fc00::1]/",
    ] {
        let answer = server.post(ENDPOINTS, json!({ "url": url })).await;
        assert_invalid(&answer, &["body.url"]);
    }
}

#[actix_web::test]
async fn d26_headers_with_keys_are_masked() {
    let server = server_with_an_endpoint().await;
    let path = format!("{ENDPOINTS}/ep/headers");
    let headers =
        json!({ "X-Api-Key": "1", "Client-Secret": "2", "Session-Token": "3", "X-Plain": "4" });
    server
        .put(&path, json!({ "headers": headers }))
        .await
        .expect(204);
    let shown = server.get(&path).await.expect(200);
    assert_eq!(shown["headers"], json!({ "X-Plain": "4" }));
    let sensitive: BTreeSet<&str> = shown["sensitive"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    assert_eq!(
        sensitive,
        BTreeSet::from(["Client-Secret", "Session-Token", "X-Api-Key"])
    );
}

#[actix_web::test]
async fn d41_an_endpoints_version_is_always_1() {
    let server = server_with_an_endpoint().await;
    let body = json!({ "url": NEVER_DIALLED, "version": 3 });
    let made = server.post(ENDPOINTS, body).await.expect(201);
    assert_eq!(made["version"], 1);
    let path = format!("{ENDPOINTS}/ep");
    let change = json!({ "description": "changed", "version": 2 });
    let changed = server.patch(&path, change).await.expect(200);
    assert_eq!(changed["version"], 1);
    assert_eq!(server.get(&path).await.expect(200)["version"], 1);
}

#[actix_web::test]
async fn d42_a_rotated_secret_stays_of_its_kind() {
    let server = server_with_an_endpoint().await;
    let key = format!("whsk_{}", STANDARD.encode([7; 32]));
    let body = json!({ "url": NEVER_DIALLED, "uid": "pair", "secret": key });
    server.post(ENDPOINTS, body).await.expect(201);
    for (endpoint, kind) in [("pair", "whpk_"), ("ep", "whsec_")] {
        let path = format!("{ENDPOINTS}/{endpoint}/secret");
        let before = server.get(&path).await.expect(200)["key"].clone();
        let rotated = server.post(&format!("{path}/rotate"), json!({})).await;
        rotated.expect(200);
        let after = server.get(&path).await.expect(200)["key"].clone();
        assert_ne!(before, after);
        assert!(
            after.as_str().is_some_and(|key| key.starts_with(kind)),
            "{after}"
        );
    }
}

#[actix_web::test]
async fn d43_a_step_in_a_path_is_no_id() {
    let server = server_with_an_endpoint().await;
    for dots in [".", ".."] {
        let message = with(message(), "eventId", json!(dots));
        assert_invalid(&server.post(MESSAGES, message).await, &["body.eventId"]);
        let application = json!({ "name": "N", "uid": dots });
        assert_invalid(&server.post(APPS, application).await, &["body.uid"]);
    }
}
