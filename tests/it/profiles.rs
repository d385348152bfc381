//! Profiles: what is told of them, and what of an endpoint must fit its own.

use std::collections::BTreeMap;

use awc::http::Method;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use postrider::domain::endpoint::Endpoint;
use serde_json::{Value, json};

use crate::support::{Server, assert_error, assert_invalid, assert_pages, keys};

const PROFILES: &str = "/api/v1/profile";
pub const ENDPOINTS: &str = "/api/v1/app/app/endpoint";
pub const URL: &str = "https://example.com/in";

/// Of a profile that signs with any text.
const TEXT_SECRET: &str = "0123456789abcdef";

pub async fn started() -> Server {
    let server = Server::start().await;
    server.application("app").await;
    server
}

pub fn path(endpoint: &Value, rest: &str) -> String {
    format!("{ENDPOINTS}/{}{rest}", endpoint["id"].as_str().unwrap())
}

/// A body with a URL and these fields.
pub fn with(fields: Value) -> Value {
    let mut body = json!({ "url": URL });
    let fields = fields.as_object().expect("an object").clone();
    body.as_object_mut().unwrap().extend(fields);
    body
}

pub async fn made(server: &Server, fields: Value) -> Value {
    server.post(ENDPOINTS, with(fields)).await.expect(201)
}

pub async fn read(server: &Server, endpoint: &Value) -> Value {
    server.get(&path(endpoint, "")).await.expect(200)
}

pub async fn secret(server: &Server, endpoint: &Value) -> String {
    let answer = server.get(&path(endpoint, "/secret")).await.expect(200);
    answer["key"].as_str().expect("a text").to_owned()
}

/// The newest endpoint as the store has it, with what is never shown.
pub fn stored(server: &Server) -> Endpoint {
    let catalog = server.store().catalog();
    let newest = catalog.endpoint_by_number(catalog.last_endpoint_number());
    Endpoint::clone(newest.expect("there is one"))
}

#[track_caller]
pub fn assert_shows(endpoint: &Value, expected: &[(&str, &str)]) {
    for (field, value) in expected {
        let value: Value = serde_json::from_str(value).expect("JSON");
        assert_eq!(endpoint[field], value, "{field}: {endpoint}");
    }
}

#[actix_web::test]
async fn profiles_are_listed_with_what_one_needs_to_choose() {
    let server = started().await;
    let names: Vec<String> = server.config().profiles.keys().cloned().collect();
    assert_eq!(names.len(), 16);
    assert_pages(&server, PROFILES, "name", &names).await;
    let list = server.get(PROFILES).await.expect(200);
    for profile in list["data"].as_array().unwrap() {
        assert_eq!(
            keys(profile),
            [
                "breaker",
                "description",
                "disableAfterHours",
                "exampleRequest",
                "headerNames",
                "headers",
                "isDefault",
                "methods",
                "name",
                "retry",
                "secretForm",
                "secretHint",
                "sendsSecret",
                "signatures",
                "standardWebhooks",
                "success",
                "timeoutSeconds",
                "transformations",
                "url",
            ]
        );
        let name = profile["name"].as_str().unwrap();
        let one = server.get(&format!("{PROFILES}/{name}")).await.expect(200);
        assert_eq!(&one, profile);
        assert_eq!(profile["isDefault"], name == "standard");
        assert!(!profile["description"].as_str().unwrap().is_empty());
    }

    let one = async |name: &str| server.get(&format!("{PROFILES}/{name}")).await.expect(200);
    let standard = one("standard").await;
    assert_eq!(
        standard["headerNames"],
        json!(["webhook-id", "webhook-timestamp", "webhook-signature"])
    );
    assert_eq!(standard["secretForm"], "standard");
    assert_eq!(standard["timeoutSeconds"], 15);
    assert_eq!(
        standard["retry"],
        json!({ "delaysSeconds": [5, 300, 1800, 7200, 18000, 36000, 36000], "jitter": 0.0 })
    );
    assert_eq!(
        standard["success"],
        json!({ "status": ["200-299"], "body": null, "contentType": null })
    );
    let ovcode = one("ovcode").await;
    assert_eq!(
        ovcode["success"],
        json!({ "status": ["200"], "body": "OK", "contentType": "text/plain" })
    );
    assert_eq!(ovcode["secretForm"], "text");
    let hint = ovcode["secretHint"].as_str().unwrap();
    assert!(hint.contains("ASCII"), "it goes into a header: {hint}");
    let ioffice = one("ioffice").await;
    assert_eq!(ioffice["methods"], json!(["POST", "GET"]));
    assert_eq!(
        ioffice["headerNames"],
        json!(["x-ioffice-signature", "webhook-id"])
    );
    let okhi = one("okhi").await;
    assert_eq!(
        okhi["retry"],
        json!({ "firstSeconds": 5, "factor": 2.0, "maxDelaySeconds": 60,
            "giveUpAfterSeconds": 300, "jitter": 0.1 })
    );
    assert_error(
        &server.get(&format!("{PROFILES}/none")).await,
        404,
        "not_found",
    );
}

#[actix_web::test]
async fn a_profile_shows_how_its_requests_are_signed() {
    let server = started().await;
    let one = async |name: &str| server.get(&format!("{PROFILES}/{name}")).await.expect(200);
    for (name, family) in [("standard", "webhook"), ("svix", "svix")] {
        let profile = one(name).await;
        assert_shows(
            &profile,
            &[
                ("standardWebhooks", &format!("{family:?}")),
                ("signatures", "[]"),
                ("headers", "{}"),
                ("url", "null"),
            ],
        );
    }
    let github = one("github").await;
    assert_eq!(github["standardWebhooks"], Value::Null);
    assert_eq!(
        github["signatures"],
        json!([{ "header": "X-Hub-Signature-256", "algorithm": "hmac-sha256", "encoding": null,
            "key": null, "content": null, "prefix": "sha256=", "separator": null, "format": null }])
    );
    let shown = github["headers"].as_object().expect("an object");
    assert_eq!(shown["X-GitHub-Event"], "{{ message.event_type }}");
    let ioffice = one("ioffice").await;
    let url = ioffice["url"].as_str().expect("a template");
    assert!(url.starts_with("{{ endpoint.url }}/"), "{url}");
    let configured = server.config().profiles["ioffice"].url.clone();
    assert_eq!(Some(url), configured.as_deref(), "as it is written");
}

#[actix_web::test]
async fn any_valid_credential_reads_profiles() {
    let server = started().await;
    let body = json!({ "name": "t", "role": "application", "applicationId": "app" });
    let token = server.post("/api/v1/token", body).await.expect(201);
    let bearer = format!("Bearer {}", token["token"].as_str().unwrap());
    for path in [PROFILES, "/api/v1/profile/github"] {
        for (credential, status) in [(bearer.as_str(), 200), ("Bearer pr_none", 401)] {
            let headers = [("authorization", credential)];
            let answer = server.call(Method::GET, path, &headers, None).await;
            assert_eq!(answer.status, status, "{path}");
        }
    }
}

#[actix_web::test]
async fn the_servers_default_profile_is_that_of_endpoints_that_name_none() {
    let server = Server::start_with(|config| {
        config.delivery.default_profile = "svix".to_owned();
        config.delivery.request_timeout_seconds = 9;
    })
    .await;
    server.application("app").await;
    let endpoint = made(&server, json!({})).await;
    assert_eq!(endpoint["profile"], "svix");
    assert!(secret(&server, &endpoint).await.starts_with("whsec_"));
    let list = server.get(PROFILES).await.expect(200);
    let profiles = list["data"].as_array().unwrap().iter();
    let defaults: Vec<&Value> = profiles
        .filter(|profile| profile["isDefault"] == true)
        .collect();
    assert_eq!(defaults.len(), 1);
    assert_eq!(defaults[0]["name"], "svix");
    assert_eq!(defaults[0]["timeoutSeconds"], 9);
}

#[actix_web::test]
async fn a_method_is_one_of_the_profiles() {
    let server = started().await;
    let get = json!({ "profile": "ioffice", "method": "GET" });
    let endpoint = made(&server, get.clone()).await;
    let path = path(&endpoint, "");
    assert_invalid(
        &server
            .post(ENDPOINTS, with(json!({ "method": "GET" })))
            .await,
        &["body.method"],
    );
    // GitHub's takes the same secrets, and only POST.
    let github = json!({ "profile": "github" });
    for answer in [
        server.patch(&path, github.clone()).await,
        server.put(&path, with(github)).await,
    ] {
        assert_invalid(&answer, &["body.profile"]);
    }
    let github = json!({ "profile": "github", "method": "GET" });
    assert_invalid(&server.patch(&path, github).await, &["body.method"]);
    assert_eq!(read(&server, &endpoint).await["profile"], "ioffice");
    for method in [Value::Null, json!("POST")] {
        server.patch(&path, get.clone()).await.expect(200);
        let github = json!({ "profile": "github", "method": method });
        let patched = server.patch(&path, github).await.expect(200);
        assert_shows(
            &patched,
            &[("profile", r#""github""#), ("method", r#""POST""#)],
        );
    }
}

#[actix_web::test]
async fn secrets_follow_the_profile() {
    let server = started().await;
    let whsec = format!("whsec_{}", STANDARD.encode([7; 32]));
    for (profile, good, bad) in [
        ("standard", whsec.as_str(), TEXT_SECRET),
        ("svix", &whsec, TEXT_SECRET),
        ("github", TEXT_SECRET, "short"),
        ("ovcode", TEXT_SECRET, "geheimnisträger"),
        ("ovation", "any text at all", " spaces around "),
        ("ioffice", "mySecret", "line\nbreak"),
    ] {
        let generated = made(&server, json!({ "profile": profile })).await;
        let key = secret(&server, &generated).await;
        let is_whsec = ["standard", "svix"].contains(&profile);
        assert_eq!(key.starts_with("whsec_"), is_whsec, "{profile}");
        let given = made(&server, json!({ "profile": profile, "secret": good })).await;
        assert_eq!(secret(&server, &given).await, good, "{profile}");
        let body = json!({ "profile": profile, "secret": bad });
        let refused = server.post(ENDPOINTS, with(body)).await;
        assert_invalid(&refused, &["body.secret"]);

        let rotate = path(&generated, "/secret/rotate");
        let new = server.post(&rotate, json!({})).await.expect(200);
        let new = new["key"].as_str().unwrap();
        assert_ne!(new, key);
        assert_eq!(new.starts_with("whsec_"), is_whsec, "{profile}");
        let refused = server.post(&rotate, json!({ "key": bad })).await;
        assert_invalid(&refused, &["body.key"]);
        assert_eq!(secret(&server, &generated).await, new, "{profile}");
        let rotated = server.post(&rotate, json!({ "key": good })).await;
        assert_eq!(rotated.expect(200)["key"], good);
    }
}

#[actix_web::test]
async fn a_new_profile_brings_a_secret_that_fits_where_the_old_one_does_not() {
    let server = started().await;
    let whsec = format!("whsec_{}", STANDARD.encode([7; 32]));
    let endpoint = made(
        &server,
        json!({ "profile": "github", "secret": TEXT_SECRET }),
    )
    .await;
    let url = path(&endpoint, "");
    let rotate = path(&endpoint, "/secret/rotate");

    // Without a new profile another secret is checked and not taken: rotating is the way. A PUT may
    // come again as it was when it made the endpoint.
    let other = json!({ "secret": "another one" });
    let put = server.put(&url, with(other.clone())).await.expect(200);
    let warnings = put["warnings"].to_string();
    assert!(warnings.contains("/secret/rotate changes it"), "{warnings}");
    let refused = server.patch(&url, other).await;
    assert_invalid(&refused, &["body.secret"]);
    assert!(refused.text.contains("/secret/rotate"), "{}", refused.text);
    for body in [
        json!({ "secret": TEXT_SECRET }),
        with(json!({ "secret": TEXT_SECRET })),
    ] {
        let put = server.put(&url, with(body.clone())).await.expect(200);
        assert_eq!(put.get("warnings"), None, "{put}");
        server.patch(&url, body).await.expect(200);
        assert_eq!(secret(&server, &endpoint).await, TEXT_SECRET);
    }
    // To one that takes the same secrets, they come along.
    let stripe = json!({ "profile": "stripe" });
    server.patch(&url, stripe).await.expect(200);
    assert_eq!(secret(&server, &endpoint).await, TEXT_SECRET);

    for body in [json!({ "profile": "svix" }), json!({ "profile": null })] {
        for answer in [
            server.patch(&url, body.clone()).await,
            server.put(&url, with(body)).await,
        ] {
            assert_invalid(&answer, &["body.profile"]);
            assert!(!answer.text.contains(TEXT_SECRET), "{}", answer.text);
        }
    }
    let unfit = json!({ "profile": "svix", "secret": "another one" });
    assert_invalid(&server.patch(&url, unfit).await, &["body.secret"]);
    assert_eq!(read(&server, &endpoint).await["profile"], "stripe");
    assert_eq!(secret(&server, &endpoint).await, TEXT_SECRET);

    // A rotated one that still signs counts as well, and one whose grace is over does not.
    let fits = json!({ "key": whsec, "gracePeriodSeconds": 60 });
    server.post(&rotate, fits).await.expect(200);
    let svix = json!({ "profile": "svix" });
    assert_invalid(&server.patch(&url, svix.clone()).await, &["body.profile"]);
    server.advance(std::time::Duration::from_secs(60));
    server.patch(&url, svix).await.expect(200);
    assert_eq!(secret(&server, &endpoint).await, whsec);

    let back = with(json!({ "profile": "ovcode", "secret": "another one" }));
    let put = server.put(&url, back).await.expect(200);
    assert_eq!(put["profile"], "ovcode");
    assert_eq!(stored(&server).secrets.len(), 1, "the old ones are gone");
    let server = server.restart().await;
    assert_eq!(secret(&server, &endpoint).await, "another one");
}

#[actix_web::test]
async fn headers_of_the_profile_are_nobody_elses() {
    let server = started().await;
    let fields = json!({
        "profile": "github", "headers": { "X-Slack-Signature": "v" },
        "authHeaders": { "x-ioffice-signature": "v" },
    });
    let endpoint = made(&server, fields).await;
    let (url, headers) = (path(&endpoint, ""), path(&endpoint, "/headers"));
    for body in [
        json!({ "headers": { "x-github-event": "v" } }),
        json!({ "headers": { "X-Github-Event": "v", "X-Fine": "v" } }),
    ] {
        let name = body["headers"].as_object().unwrap().keys();
        let name = name.into_iter().find(|name| *name != "X-Fine").unwrap();
        let place = format!("body.headers.{name}");
        for answer in [
            server.put(&headers, body.clone()).await,
            server.patch(&headers, body.clone()).await,
            server.patch(&url, body.clone()).await,
        ] {
            assert_invalid(&answer, &[&place]);
            let message = "is a header that the profile sets itself";
            assert!(answer.text.contains(message), "{}", answer.text);
        }
    }
    // The other kind's names, whatever their case.
    let body = json!({ "headers": { "X-iOffice-Signature": "v" } });
    for answer in [
        server.put(&headers, body.clone()).await,
        server.patch(&headers, body.clone()).await,
        server.patch(&url, body).await,
    ] {
        assert_invalid(&answer, &["body.headers.X-iOffice-Signature"]);
    }
    let body = json!({ "authHeaders": { "x-slack-signature": "v" } });
    assert_invalid(
        &server.patch(&url, body).await,
        &["body.authHeaders.x-slack-signature"],
    );
    // A profile that sets what the endpoint has already; without that header it is taken.
    for (profile, cleared) in [("slack", "headers"), ("ioffice", "authHeaders")] {
        let refused = server.patch(&url, json!({ "profile": profile })).await;
        assert_invalid(&refused, &["body.profile"]);
        assert_eq!(read(&server, &endpoint).await["profile"], "github");
        let patch = json!({ "profile": profile, cleared: {} });
        server.patch(&url, patch).await.expect(200);
        let back = json!({
            "profile": "github", "headers": { "X-Slack-Signature": "v" },
            "authHeaders": { "x-ioffice-signature": "v" },
        });
        server.patch(&url, back).await.expect(200);
    }
    // Through the other route, both kinds count together.
    let many: BTreeMap<String, &str> = (0..64).map(|n| (format!("x-{n}"), "v")).collect();
    let put = server.put(&headers, json!({ "headers": many })).await;
    assert_invalid(&put, &["body.headers"]);
    server
        .patch(&url, json!({ "authHeaders": null }))
        .await
        .expect(200);
    let put = server.put(&headers, json!({ "headers": many })).await;
    assert_eq!(put.status, 204, "{}", put.text);
}

#[actix_web::test]
async fn an_endpoint_whose_profile_was_taken_away_can_be_given_another() {
    let server = started().await;
    let endpoint = made(
        &server,
        json!({ "profile": "ovation", "secret": TEXT_SECRET }),
    )
    .await;
    let url = path(&endpoint, "");
    let server = server
        .restart_with(|config| drop(config.profiles.remove("ovation")))
        .await;
    let shown = read(&server, &endpoint).await;
    assert_shows(&shown, &[("profile", r#""ovation""#), ("method", "null")]);
    assert_eq!(server.get(ENDPOINTS).await.status, 200);
    assert_eq!(secret(&server, &endpoint).await, TEXT_SECRET);
    server
        .patch(&url, json!({ "description": "d" }))
        .await
        .expect(200);
    assert_invalid(
        &server.patch(&url, json!({ "method": "POST" })).await,
        &["body.profile"],
    );
    let rotate = path(&endpoint, "/secret/rotate");
    let rotated = server.post(&rotate, json!({})).await;
    assert_error(&rotated, 409, "conflict");
    let patched = server.patch(&url, json!({ "profile": "github" })).await;
    assert_eq!(patched.expect(200)["method"], "POST");
    server.post(&rotate, json!({})).await.expect(200);
}

#[actix_web::test]
async fn a_preview_is_the_example_but_for_what_is_given() {
    let server = started().await;
    let preview = |name: &str| format!("{PROFILES}/{name}/preview");
    for profile in server.config().profiles.keys() {
        let shown = server
            .get(&format!("{PROFILES}/{profile}"))
            .await
            .expect(200);
        let answer = server.post(&preview(profile), json!({})).await.expect(200);
        assert_eq!(answer, shown["exampleRequest"], "{profile}");
        let path = preview(profile);
        let bare = server.call(Method::POST, &path, &[], None).await;
        assert_eq!(bare.expect(200), answer, "{profile}");
    }
    let body = json!({
        "url": "https://ann:pass@receiver.example/in?a=b",
        "secret": TEXT_SECRET,
        "eventType": "order.made",
        "payload": { "n": 1.50 },
        "channels": ["c"],
        "headers": { "X-Site": "7", "X-Api-Key": "hidden" },
    });
    let github = server
        .post(&preview("github"), body.clone())
        .await
        .expect(200);
    assert_eq!(github["method"], "POST");
    assert_eq!(github["url"], "https://receiver.example/in?a=b");
    assert_eq!(github["body"], r#"{"n":1.5}"#);
    assert_shows(
        &github["headers"],
        &[
            ("authorization", r#""***""#),
            ("host", r#""receiver.example""#),
            ("content-length", r#""9""#),
            ("x-site", r#""7""#),
            ("x-api-key", r#""***""#),
            ("x-github-event", r#""order.made""#),
        ],
    );
    let mac = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, TEXT_SECRET.as_bytes());
    let mac = aws_lc_rs::hmac::sign(&mac, br#"{"n":1.5}"#);
    let hex: String = mac
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let signature = github["headers"]["x-hub-signature-256"].as_str();
    assert_eq!(signature, Some(format!("sha256={hex}").as_str()));
    // A secret that is sent as it is, is not shown.
    let ovcode = server.post(&preview("ovcode"), body).await.expect(200);
    assert_eq!(ovcode["headers"]["x-api-secret"], "***");
    assert!(!ovcode.to_string().contains(TEXT_SECRET), "{ovcode}");
    let get = json!({ "method": "GET" });
    let ioffice = server.post(&preview("ioffice"), get).await.expect(200);
    assert_eq!(
        (&ioffice["method"], &ioffice["body"]),
        (&json!("GET"), &Value::Null)
    );
}

#[actix_web::test]
async fn a_preview_says_what_does_not_fit() {
    let server = started().await;
    for (profile, body, places) in [
        ("github", json!({ "url": "here" }), vec!["body.url"]),
        ("github", json!({ "url": 1 }), vec!["body.url"]),
        ("github", json!({ "method": "GET" }), vec!["body.method"]),
        ("github", json!({ "method": "BREW" }), vec!["body.method"]),
        (
            "standard",
            json!({ "secret": TEXT_SECRET }),
            vec!["body.secret"],
        ),
        (
            "github",
            json!({ "eventType": "a b" }),
            vec!["body.eventType"],
        ),
        (
            "github",
            json!({ "channels": ["a b"] }),
            vec!["body.channels.0"],
        ),
        ("github", json!({ "payload": [] }), vec!["body.payload"]),
        // Its URL has fields of the payload.
        ("ioffice", json!({ "payload": {} }), vec!["body.payload"]),
        (
            "github",
            json!({ "headers": { "X-GitHub-Event": "x" } }),
            vec!["body.headers.X-GitHub-Event"],
        ),
        (
            "github",
            json!({ "url": "", "secret": "x" }),
            vec!["body.url", "body.secret"],
        ),
    ] {
        let path = format!("{PROFILES}/{profile}/preview");
        let answer = server.post(&path, body.clone()).await;
        assert_invalid(&answer, &places);
        assert!(!answer.text.contains(TEXT_SECRET), "{}", answer.text);
    }
    let none = server
        .post(&format!("{PROFILES}/none/preview"), json!({}))
        .await;
    assert_error(&none, 404, "not_found");
    let max = server.config().limits.payload_bytes;
    let long = json!({ "payload": { "text": "x".repeat(max) } });
    let answer = server
        .post(&format!("{PROFILES}/github/preview"), long)
        .await;
    assert_error(&answer, 413, "payload_too_large");
}
