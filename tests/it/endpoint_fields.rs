//! What an endpoint has beyond the contract: profile, method, Basic authentication, two kinds of
//! headers, retries and timeout. Each in its good and bad forms, in all ways in.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::profiles::{ENDPOINTS, assert_shows, made, path, read, secret, started, stored, with};
use crate::support::{Receiver, Server, assert_invalid, texts};

/// Every field that names something of the profile or stands beside it, as it is given.
fn all_fields() -> Value {
    json!({
        "profile": "ioffice", "method": "GET", "secret": "mySecret",
        "basicAuth": { "username": "ann", "password": "s3cret-password" },
        "headers": { "X-Plain": "p", "X-Token": "s3cret-token" },
        "authHeaders": { "X-Whatever": "s3cret-whatever", "api-id": "s3cret-id" },
        "retry": { "delaysSeconds": [64, 729], "jitter": 0.5 }, "timeoutSeconds": 7,
    })
}

/// The same as it is shown.
const ALL_SHOWN: [(&str, &str); 7] = [
    ("profile", r#""ioffice""#),
    ("method", r#""GET""#),
    ("basicAuth", r#"{"username":"ann"}"#),
    ("headers", r#"{"X-Plain":"p"}"#),
    ("authHeaderNames", r#"["X-Whatever","api-id"]"#),
    ("retry", r#"{"delaysSeconds":[64,729],"jitter":0.5}"#),
    ("timeoutSeconds", "7"),
];

/// What an endpoint shows that says nothing about any of them.
const NONE_SHOWN: [(&str, &str); 7] = [
    ("profile", r#""standard""#),
    ("method", r#""POST""#),
    ("basicAuth", "null"),
    ("headers", "{}"),
    ("authHeaderNames", "[]"),
    ("retry", "null"),
    ("timeoutSeconds", "null"),
];

#[actix_web::test]
async fn each_field_is_kept_and_nothing_secret_is_shown() {
    let server = started().await;
    let endpoint = made(&server, all_fields()).await;
    assert_shows(&endpoint, &ALL_SHOWN);
    let other = made(&server, json!({})).await;
    assert_shows(&other, &NONE_SHOWN);
    // All at once by the other two ways.
    let put = server
        .put(&format!("{ENDPOINTS}/put"), with(all_fields()))
        .await
        .expect(201);
    assert_shows(&put, &ALL_SHOWN);
    let patched = server.patch(&path(&other, ""), all_fields()).await;
    assert_shows(&patched.expect(200), &ALL_SHOWN);
    assert_eq!(secret(&server, &other).await, "mySecret");

    let server = server.restart().await;
    let list = server.get(ENDPOINTS).await;
    assert!(!list.text.contains("s3cret"), "{}", list.text);
    let list = list.expect(200);
    for endpoint in list["data"].as_array().unwrap() {
        assert_shows(endpoint, &ALL_SHOWN);
        let answer = server.get(&path(endpoint, "")).await;
        assert!(!answer.text.contains("s3cret"), "{}", answer.text);
        let headers = server.get(&path(endpoint, "/headers")).await.expect(200);
        assert_eq!(
            headers,
            json!({ "headers": { "X-Plain": "p" }, "sensitive": ["X-Token"] })
        );
    }
    let stored = stored(&server);
    let expected: BTreeMap<String, String> =
        serde_json::from_value(all_fields()["authHeaders"].clone()).unwrap();
    assert_eq!(stored.auth_headers, expected);
    assert_eq!(stored.headers["X-Token"], "s3cret-token");
    assert_eq!(stored.basic_auth.unwrap().password, "s3cret-password");
}

#[actix_web::test]
async fn who_does_not_know_a_field_leaves_it_and_null_clears_it() {
    let server = started().await;
    let endpoint = made(&server, all_fields()).await;
    let path = path(&endpoint, "");
    let before = stored(&server);
    let put = server.put(&path, with(json!({ "description": "d" }))).await;
    assert_shows(&put.expect(200), &ALL_SHOWN);
    let patched = server.patch(&path, json!({ "description": "e" })).await;
    assert_shows(&patched.expect(200), &ALL_SHOWN);
    let after = stored(&server);
    assert_eq!(after.auth_headers, before.auth_headers);
    assert_eq!(after.basic_auth, before.basic_auth);
    assert_eq!(after.secrets, before.secrets);

    // What is shown can be sent back, and leaves what is not shown.
    let mut shown = read(&server, &endpoint).await;
    shown.as_object_mut().unwrap().remove("headers");
    assert_shows(&server.put(&path, shown).await.expect(200), &ALL_SHOWN);
    assert_eq!(stored(&server).basic_auth, before.basic_auth);

    // The default profile takes other secrets, so it comes with one.
    let whsec = format!("whsec_{}", STANDARD.encode([7; 32]));
    let nulls = json!({
        "profile": null, "method": null, "basicAuth": null, "headers": null, "authHeaders": null,
        "retry": null, "timeoutSeconds": null, "secret": whsec,
    });
    let patched = server.patch(&path, nulls.clone()).await.expect(200);
    assert_shows(&patched, &NONE_SHOWN);
    assert_eq!(secret(&server, &endpoint).await, whsec);
    server.patch(&path, all_fields()).await.expect(200);
    let put = server.put(&path, with(nulls)).await.expect(200);
    assert_shows(&put, &NONE_SHOWN);
    let server = server.restart().await;
    assert_shows(&read(&server, &endpoint).await, &NONE_SHOWN);
    let after = stored(&server);
    assert_eq!((after.basic_auth, after.auth_headers.len()), (None, 0));
}

#[actix_web::test]
async fn each_bad_form_is_named_and_changes_nothing() {
    let server = started().await;
    let endpoint = made(&server, json!({ "profile": "ioffice", "method": "GET" })).await;
    let before = (read(&server, &endpoint).await, stored(&server));
    let long = "x".repeat(2049);
    let many = |prefix: &str, count: usize| -> Value {
        let names = (0..count).map(|number| (format!("{prefix}{number}"), json!("v")));
        Value::Object(names.collect())
    };
    let table = [
        (json!({ "profile": "none" }), vec!["body.profile"]),
        (json!({ "profile": 7 }), vec!["body.profile"]),
        (json!({ "method": "get" }), vec!["body.method"]),
        (json!({ "method": "DELETE" }), vec!["body.method"]),
        (json!({ "method": ["GET"] }), vec!["body.method"]),
        (
            json!({ "basicAuth": "s3cret:s3cret" }),
            vec!["body.basicAuth"],
        ),
        (json!({ "basicAuth": {} }), vec!["body.basicAuth.username"]),
        (
            json!({ "basicAuth": { "username": "ann" } }),
            vec!["body.basicAuth.password"],
        ),
        (
            json!({ "basicAuth": { "username": "ann", "pass": "s3cret" } }),
            vec!["body.basicAuth.pass"],
        ),
        (
            json!({ "basicAuth": { "username": "a:b", "password": "s3cret\n" } }),
            vec!["body.basicAuth.username", "body.basicAuth.password"],
        ),
        (
            json!({ "basicAuth": { "username": long, "password": format!("s3cret{long}") } }),
            vec!["body.basicAuth.username", "body.basicAuth.password"],
        ),
        (
            json!({ "basicAuth": { "username": "ann", "password": 53 } }),
            vec!["body.basicAuth.password"],
        ),
        (
            json!({ "url": "https://ann:s3cret-1@example.com/in",
                "basicAuth": { "username": "ann", "password": "s3cret-2" } }),
            vec!["body.basicAuth"],
        ),
        (
            json!({ "url": "https://bob:s3cret-1@example.com/in",
                "basicAuth": { "username": "ann" } }),
            vec!["body.basicAuth.password"],
        ),
        (json!({ "authHeaders": "s3cret" }), vec!["body.authHeaders"]),
        (
            json!({ "authHeaders": { "X-A": ["s3cret"] } }),
            vec!["body.authHeaders.X-A"],
        ),
        (
            json!({ "authHeaders": { "Host": "s3cret", "a b": "s3cret", "X-A": "s3cret\r\n" } }),
            vec![
                "body.authHeaders.Host",
                "body.authHeaders.X-A",
                "body.authHeaders.a b",
            ],
        ),
        (
            json!({ "authHeaders": { "svix-more": "s3cret" } }),
            vec!["body.authHeaders.svix-more"],
        ),
        (
            json!({ "headers": { "X-iOffice-Signature": "v" } }),
            vec!["body.headers.X-iOffice-Signature"],
        ),
        (
            json!({ "authHeaders": { "X-IOFFICE-signature": "s3cret" } }),
            vec!["body.authHeaders.X-IOFFICE-signature"],
        ),
        (
            json!({ "headers": { "X-Api": "v" }, "authHeaders": { "x-api": "s3cret" } }),
            vec!["body.authHeaders.x-api"],
        ),
        (
            json!({ "headers": many("x-", 33), "authHeaders": many("y-", 32) }),
            vec!["body.headers"],
        ),
        (
            json!({ "authHeaders": many("y-", 65) }),
            vec!["body.authHeaders"],
        ),
        (json!({ "retry": 5 }), vec!["body.retry"]),
        (
            json!({ "retry": {} }),
            vec!["body.retry.firstSeconds", "body.retry.giveUpAfterSeconds"],
        ),
        (
            json!({ "retry": { "delays": [1] } }),
            vec!["body.retry.delays"],
        ),
        (
            json!({ "retry": { "delaysSeconds": [1, -1] } }),
            vec!["body.retry.delaysSeconds.1"],
        ),
        (
            json!({ "retry": { "delaysSeconds": [1, 0], "factor": 2, "jitter": 1.5 } }),
            vec![
                "body.retry.jitter",
                "body.retry.factor",
                "body.retry.delaysSeconds",
            ],
        ),
        (
            json!({ "retry": { "firstSeconds": 10, "maxDelaySeconds": 5, "giveUpAfterSeconds": 60 } }),
            vec!["body.retry.maxDelaySeconds"],
        ),
        (json!({ "timeoutSeconds": 0 }), vec!["body.timeoutSeconds"]),
        (json!({ "timeoutSeconds": -1 }), vec!["body.timeoutSeconds"]),
        (
            json!({ "timeoutSeconds": "5" }),
            vec!["body.timeoutSeconds"],
        ),
        (json!({ "secret": "s3cret" }), vec!["body.secret"]),
        // Everything at once.
        (
            json!({ "uid": "a/b", "method": "POT", "retry": {}, "timeoutSeconds": 61,
                "basicAuth": {}, "headers": { "Webhook-Id": "v" }, "secret": "s3cret" }),
            vec![
                "body.uid",
                "body.method",
                "body.retry.firstSeconds",
                "body.retry.giveUpAfterSeconds",
                "body.timeoutSeconds",
                "body.basicAuth.username",
                "body.headers.Webhook-Id",
                "body.secret",
            ],
        ),
    ];
    for (fields, places) in table {
        let mut whole = with(fields.clone());
        // A new endpoint of the profile that the other one has already.
        if whole.get("profile").is_none() {
            whole["profile"] = json!("ioffice");
        }
        let create = server.post(ENDPOINTS, whole.clone()).await;
        let put = server.put(&path(&endpoint, ""), whole).await;
        let patch = server.patch(&path(&endpoint, ""), fields.clone()).await;
        for answer in [create, put, patch] {
            assert_invalid(&answer, &places);
            assert!(!answer.text.contains("s3cret"), "{}", answer.text);
        }
        let after = (read(&server, &endpoint).await, stored(&server));
        assert_eq!(after, before, "{fields}");
    }
    let list = server.get(ENDPOINTS).await.expect(200);
    assert_eq!(texts(&list, "id").len(), 1, "nothing was created");
}

#[actix_web::test]
async fn the_operator_bounds_timeout_and_retries() {
    let server = Server::start_with(|config| {
        config.limits.endpoint_timeout_seconds_max = 30;
        config.limits.endpoint_retries_max = 4;
        config.limits.endpoint_retry_days_max = 2;
    })
    .await;
    server.application("app").await;
    let endpoint = made(&server, json!({})).await;
    let path = path(&endpoint, "");
    let day = 86_400;
    for (fields, place, bound) in [
        (
            json!({ "timeoutSeconds": 31 }),
            "body.timeoutSeconds",
            "limits.endpoint_timeout_seconds_max",
        ),
        (
            json!({ "retry": { "delaysSeconds": [1, 1, 1, 1, 1] } }),
            "body.retry.delaysSeconds",
            "limits.endpoint_retries_max",
        ),
        (
            json!({ "retry": { "delaysSeconds": [day, day, 1] } }),
            "body.retry.delaysSeconds",
            "limits.endpoint_retry_days_max",
        ),
        (
            json!({ "retry": { "firstSeconds": 1, "factor": 1, "giveUpAfterSeconds": 5 } }),
            "body.retry.giveUpAfterSeconds",
            "limits.endpoint_retries_max",
        ),
        (
            json!({ "retry": { "firstSeconds": day, "factor": 1, "maxDelaySeconds": day,
                "giveUpAfterSeconds": 3 * day } }),
            "body.retry.giveUpAfterSeconds",
            "limits.endpoint_retry_days_max",
        ),
    ] {
        for answer in [
            server.post(ENDPOINTS, with(fields.clone())).await,
            server.put(&path, with(fields.clone())).await,
            server.patch(&path, fields.clone()).await,
        ] {
            assert_invalid(&answer, &[place]);
            assert!(answer.text.contains(bound), "{}", answer.text);
        }
        assert_shows(&read(&server, &endpoint).await, &NONE_SHOWN);
    }
    let most = json!({ "timeoutSeconds": 30, "retry": { "delaysSeconds": [1, 1, day, day - 2] } });
    let patched = server.patch(&path, most).await.expect(200);
    assert_eq!(patched["timeoutSeconds"], 30);
    assert_eq!(
        patched["retry"],
        json!({ "delaysSeconds": [1, 1, day, day - 2], "jitter": 0.0 }),
        "the jitter is the server's"
    );
    let none = json!({ "retry": { "delaysSeconds": [] } });
    server.patch(&path, none).await.expect(200);
}

#[actix_web::test]
async fn basic_auth_is_sent_and_a_password_stays_with_its_name() {
    let receiver = Receiver::ok().await;
    let server = started().await;
    let body = json!({ "url": receiver.url(),
        "basicAuth": { "username": "ann", "password": "p@ss:w" } });
    let made = server.post(ENDPOINTS, body).await;
    assert!(!made.text.contains("p@ss"), "{}", made.text);
    let made = made.expect(201);
    let url = path(&made, "");
    let sent = async |credentials: Option<&str>| {
        server.publish("a", json!({})).await;
        server.settle().await;
        let expected = credentials.map(|text| format!("Basic {}", STANDARD.encode(text)));
        let request = receiver.requests().pop().expect("it was sent");
        assert_eq!(request.header("authorization"), expected.as_deref());
    };
    sent(Some("ann:p@ss:w")).await;

    // The name alone keeps its password ...
    let same = json!({ "url": format!("{}/new", receiver.url().trim_end_matches('/')),
        "basicAuth": { "username": "ann" } });
    server.put(&url, same.clone()).await.expect(200);
    server.patch(&url, same).await.expect(200);
    sent(Some("ann:p@ss:w")).await;
    // ... but another name needs one.
    let body = json!({ "basicAuth": { "username": "bob" } });
    let refused = server.patch(&url, body).await;
    assert_invalid(&refused, &["body.basicAuth.password"]);
    sent(Some("ann:p@ss:w")).await;
    let bob = json!({ "basicAuth": { "username": "bob", "password": "" } });
    let bob = server.patch(&url, bob).await.expect(200);
    assert_eq!(bob["basicAuth"], json!({ "username": "bob" }));
    sent(Some("bob:")).await;

    // The URL says it as well, once or twice the same.
    let userinfo = receiver.url().replace("http://", "http://cleo:x%40y@");
    let patched = server.patch(&url, json!({ "url": userinfo })).await;
    let patched = patched.expect(200);
    assert_eq!(patched["basicAuth"], json!({ "username": "cleo" }));
    assert_eq!(patched["url"], receiver.url());
    let twice = json!({ "url": userinfo,
        "basicAuth": { "username": "cleo", "password": "x@y" } });
    server.patch(&url, twice).await.expect(200);
    sent(Some("cleo:x@y")).await;
    let cleared = server.patch(&url, json!({ "basicAuth": null })).await;
    assert_eq!(cleared.expect(200)["basicAuth"], Value::Null);
    sent(None).await;
}

#[actix_web::test]
async fn a_header_without_a_value_keeps_the_one_that_it_has() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let body = json!({
        "url": receiver.url(), "authHeaders": { "X-Pass": "one", "X-Other": "two" },
        "headers": { "X-Token": "three" },
    });
    let endpoint = server.endpoint_of("app", body).await;
    let path = format!("/api/v1/app/app/endpoint/{endpoint}");
    let change = json!({
        "authHeaders": { "X-Pass": null, "X-New": "four" },
        "headers": { "X-Token": null },
    });
    let changed = server.patch(&path, change).await.expect(200);
    assert_eq!(changed["authHeaderNames"], json!(["X-New", "X-Pass"]));
    server.publish("a", json!({})).await;
    server.settle().await;
    let request = &receiver.requests()[0];
    for (name, value) in [
        ("x-pass", Some("one")),
        ("x-new", Some("four")),
        ("x-token", Some("three")),
        ("x-other", None),
    ] {
        assert_eq!(request.header(name), value, "{name}");
    }
    let unknown = json!({ "authHeaders": { "X-Gone": null } });
    assert_invalid(
        &server.patch(&path, unknown).await,
        &["body.authHeaders.X-Gone"],
    );
    let made = json!({ "url": receiver.url(), "headers": { "X-A": null } });
    let answer = server.post("/api/v1/app/app/endpoint", made).await;
    assert_invalid(&answer, &["body.headers.X-A"]);
}
