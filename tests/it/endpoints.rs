//! Endpoints: their shape and life, what they match, their headers, secrets and addresses.

use std::time::Duration;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::{
    Receiver, Request, Server, assert_error, assert_invalid, assert_pages, keys, texts,
};

const ENDPOINTS: &str = "/api/v1/app/app/endpoint";

/// Of an endpoint without a uid and a throttle, which are left out where there are none.
const KEYS: [&str; 22] = [
    "authHeaderNames",
    "basicAuth",
    "breaker",
    "breakerFailures",
    "channels",
    "createdAt",
    "description",
    "disableAfterHours",
    "disabled",
    "eventTypes",
    "filter",
    "filterTypes",
    "headers",
    "id",
    "metadata",
    "method",
    "profile",
    "retry",
    "timeoutSeconds",
    "transformation",
    "updatedAt",
    "url",
    "version",
];

async fn started() -> Server {
    let server = Server::start().await;
    server.application("app").await;
    server
}

fn path(endpoint: &Value, rest: &str) -> String {
    format!("{ENDPOINTS}/{}{rest}", endpoint["id"].as_str().unwrap())
}

#[actix_web::test]
async fn an_endpoint_is_created_read_changed_and_deleted_by_id_and_by_uid() {
    let server = started().await;
    let least = json!({"url": "https://example.com/in"});
    let least = server.post(ENDPOINTS, least).await.expect(201);
    assert_eq!(keys(&least), KEYS);
    assert!(least["id"].as_str().unwrap().starts_with("ep_"));
    assert_eq!(least["url"], "https://example.com/in");
    assert_eq!(least["description"], "");
    assert_eq!(least["disabled"], false);
    for absent in ["channels", "eventTypes", "filterTypes"] {
        assert_eq!(least[absent], Value::Null);
    }

    let all = json!({
        "url": "https://example.com/in?a=b", "uid": "one", "description": "d", "disabled": true,
        "eventTypes": ["a.b", "c", "a.b"], "channels": ["x", "y"], "metadata": {"k": "v"},
        "throttleRate": 3, "version": 1, "headers": {"X-One": "1"},
    });
    let one = server.post(ENDPOINTS, all).await.expect(201);
    let mut expected = KEYS.to_vec();
    let disabled = ["disabledAt", "disabledReason"];
    expected.extend(["throttleRate", "uid", "warnings"]);
    expected.extend(disabled);
    expected.sort();
    assert_eq!(keys(&one), expected);
    // Nobody has registered its event types.
    assert_eq!(one["eventTypes"], json!(["a.b", "c"]));
    assert_eq!(one["filterTypes"], one["eventTypes"]);
    assert_eq!(one["channels"], json!(["x", "y"]));
    assert_eq!(one["disabled"], true);

    let (by_id, by_uid) = (path(&one, ""), format!("{ENDPOINTS}/one"));
    server.advance(Duration::from_secs(60));
    for path in [&by_id, &by_uid] {
        assert_eq!(server.get(path).await.expect(200), one, "{path}");
    }
    for path in [&by_id, &by_uid] {
        let patch = json!({"description": "new", "channels": null, "throttleRate": null});
        let patched = server.patch(path, patch).await.expect(200);
        assert_eq!(patched["description"], "new");
        assert_eq!(patched["channels"], Value::Null);
        assert_eq!(patched["throttleRate"], Value::Null);
        assert_eq!(patched["eventTypes"], one["eventTypes"], "it was not named");
        assert_eq!(patched["updatedAt"], server.now().to_string());
        let put = json!({"url": "https://example.com/new", "uid": "one"});
        let put = server.put(path, put).await.expect(200);
        assert_eq!(put["id"], one["id"]);
        assert_eq!(put["createdAt"], one["createdAt"]);
        assert_eq!(put["eventTypes"], Value::Null);
        assert_eq!(put["metadata"], json!({}));
        assert_eq!(put["disabled"], false);
        assert_eq!(server.get(&by_id).await.expect(200), put);
        let again = json!({"description": "d", "channels": ["x"], "eventTypes": ["a.b", "c"]});
        server.patch(path, again).await.expect(200);
    }
    // Clients that do not know headers would not send them, so a replacement leaves them.
    let headers = server.get(&format!("{by_uid}/headers")).await.expect(200);
    assert_eq!(headers["headers"], json!({"X-One": "1"}));

    let deleted = server.delete(&by_uid).await;
    assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
    for path in [&by_id, &by_uid] {
        assert_error(&server.get(path).await, 404, "not_found");
        assert_error(&server.delete(path).await, 404, "not_found");
        let patch = server.patch(path, json!({})).await;
        assert_error(&patch, 404, "not_found");
        for rest in ["/headers", "/secret"] {
            let get = server.get(&format!("{path}{rest}")).await;
            assert_error(&get, 404, "not_found");
        }
    }
    let put = server.put(&by_id, json!({"url": "https://example.com/"}));
    assert_error(&put.await, 404, "not_found");
    let put = server.put(&by_uid, json!({"url": "https://example.com/"}));
    let put = put.await.expect(201);
    assert_eq!(put["uid"], "one");
    assert_ne!(put["id"], one["id"]);
}

#[actix_web::test]
async fn event_types_go_by_both_names() {
    let server = started().await;
    for (body, expected) in [
        (json!({"eventTypes": ["a"]}), json!(["a"])),
        (json!({"filterTypes": ["b"]}), json!(["b"])),
        (
            json!({"filterTypes": ["b"], "eventTypes": ["a"]}),
            json!(["a"]),
        ),
        (json!({"filterTypes": null}), Value::Null),
    ] {
        let mut whole = body.clone();
        whole["url"] = json!("https://example.com/");
        let made = server.post(ENDPOINTS, whole.clone()).await.expect(201);
        let put = server.put(&path(&made, ""), whole).await.expect(200);
        let patched = server.patch(&path(&made, ""), body).await.expect(200);
        for shown in [made, put, patched] {
            assert_eq!(shown["eventTypes"], expected);
            assert_eq!(shown["filterTypes"], expected);
        }
    }
}

#[actix_web::test]
async fn uids_are_unique_in_an_application_and_free_in_another() {
    let server = started().await;
    server.application("other").await;
    let body = |uid: &str| json!({"url": "https://example.com/", "uid": uid});
    let one = server.post(ENDPOINTS, body("one")).await.expect(201);
    server.post(ENDPOINTS, body("two")).await.expect(201);
    let two = format!("{ENDPOINTS}/two");
    for answer in [
        server.post(ENDPOINTS, body("one")).await,
        server.put(&two, body("one")).await,
        server.patch(&two, json!({"uid": "one"})).await,
    ] {
        assert_error(&answer, 409, "conflict");
    }
    let elsewhere = server
        .post("/api/v1/app/other/endpoint", body("one"))
        .await
        .expect(201);
    assert_ne!(elsewhere["id"], one["id"]);
    // The id of another application's endpoint names nothing here.
    let id = elsewhere["id"].as_str().unwrap();
    let found = server.get(&format!("{ENDPOINTS}/{id}")).await;
    assert_error(&found, 404, "not_found");
    let found = server.get("/api/v1/app/none/endpoint/one").await;
    assert_error(&found, 404, "not_found");
}

#[actix_web::test]
async fn the_newest_endpoint_is_listed_first() {
    let server = started().await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        server.advance(Duration::from_millis(4));
        let made = server.post(ENDPOINTS, json!({"url": "https://example.com/"}));
        ids.push(made.await.expect(201)["id"].as_str().unwrap().to_owned());
    }
    let ascending = format!("{ENDPOINTS}?order=ascending");
    assert_pages(&server, &ascending, "id", &ids).await;
    ids.reverse();
    assert_pages(&server, ENDPOINTS, "id", &ids).await;
}

#[actix_web::test]
async fn what_is_wrong_with_an_endpoint_is_told_at_once() {
    let server = started().await;
    let good = json!({"url": "https://example.com/"});
    let made = server.post(ENDPOINTS, good).await.expect(201);
    let with = |field: &str, value: Value| json!({"url": "https://example.com/", field: value});
    let headers: serde_json::Map<_, _> = (0..65)
        .map(|number| (format!("x-{number}"), json!("v")))
        .collect();
    let channels: Vec<String> = (0..501).map(|number| format!("c{number}")).collect();
    for (body, places) in [
        (json!({}), vec!["body.url"]),
        (json!({"url": null}), vec!["body.url"]),
        (json!({"url": 1}), vec!["body.url"]),
        (
            json!({"uid": "a/b", "eventTypes": ["ok", "no t"], "channels": [], "throttleRate": 0,
                "url": "example.com", "secret": "whsec_short", "headers": {"Host": "x"}}),
            vec![
                "body.uid",
                "body.eventTypes.1",
                "body.channels",
                "body.throttleRate",
                "body.url",
                "body.headers.Host",
                "body.secret",
            ],
        ),
        (
            with(
                "url",
                json!(format!("https://example.com/{}", "x".repeat(2048))),
            ),
            vec!["body.url"],
        ),
        (with("url", json!("ftp://example.com/")), vec!["body.url"]),
        (
            with("url", json!("https://example.com/#f")),
            vec!["body.url"],
        ),
        (
            with("url", json!("https://example.com/ x")),
            vec!["body.url"],
        ),
        (with("url", json!("")), vec!["body.url"]),
        (with("eventTypes", json!([])), vec!["body.eventTypes"]),
        (with("eventTypes", json!("a")), vec!["body.eventTypes"]),
        (with("filterTypes", json!(["ä"])), vec!["body.eventTypes.0"]),
        (
            with("channels", json!(["x".repeat(129)])),
            vec!["body.channels.0"],
        ),
        (with("channels", json!(channels)), vec!["body.channels"]),
        (with("headers", json!(headers)), vec!["body.headers"]),
        (
            with("headers", json!({"X-A": "a\r\nX-B: b"})),
            vec!["body.headers.X-A"],
        ),
        (
            with("headers", json!({"webhook-id": "1"})),
            vec!["body.headers.webhook-id"],
        ),
        (with("disabled", json!("yes")), vec!["body.disabled"]),
        (with("secret", json!("whsk_AAAA")), vec!["body.secret"]),
        (
            with("description", json!("a\u{0}")),
            vec!["body.description"],
        ),
    ] {
        let answer = server.post(ENDPOINTS, body.clone()).await;
        assert_invalid(&answer, &places);
        assert!(
            !answer.text.contains("whsec_short"),
            "a secret is not repeated"
        );
        assert_invalid(&server.put(&path(&made, ""), body).await, &places);
    }
    let nulls = json!({"url": null, "description": null, "disabled": null, "metadata": null});
    assert_invalid(
        &server.patch(&path(&made, ""), nulls).await,
        &[
            "body.url",
            "body.description",
            "body.disabled",
            "body.metadata",
        ],
    );
    let list = server.get(ENDPOINTS).await.expect(200);
    assert_eq!(list["data"], json!([made]), "none of that left anything");
}

#[actix_web::test]
async fn an_application_has_only_so_many_endpoints() {
    let server = Server::start_with(|config| config.limits.endpoints_per_application_max = 2).await;
    for uid in ["app", "other"] {
        server.application(uid).await;
    }
    let body = json!({"url": "https://example.com/"});
    for _ in 0..2 {
        server.post(ENDPOINTS, body.clone()).await.expect(201);
    }
    let third = server.post(ENDPOINTS, body.clone()).await;
    assert_error(&third, 429, "too_many");
    let third = server
        .put(&format!("{ENDPOINTS}/third"), body.clone())
        .await;
    assert_error(&third, 429, "too_many");
    let other = server.post("/api/v1/app/other/endpoint", body).await;
    assert_eq!(other.status, 201);
}

#[actix_web::test]
async fn a_message_goes_to_endpoints_that_want_its_type_and_one_of_its_channels() {
    let receiver = Receiver::ok().await;
    let server = started().await;
    for (uid, filter) in [
        ("all", json!({})),
        ("paid", json!({"eventTypes": ["invoice.paid"]})),
        ("old-name", json!({"filterTypes": ["invoice.paid", "x"]})),
        ("east", json!({"channels": ["east", "north"]})),
        (
            "paid-east",
            json!({"eventTypes": ["invoice.paid"], "channels": ["east"]}),
        ),
    ] {
        let mut body = filter;
        body["uid"] = json!(uid);
        body["url"] = json!(format!("{}/{uid}", receiver.url()));
        server.post(ENDPOINTS, body).await.expect(201);
    }
    let mut seen = 0;
    for (event_type, channels, expected) in [
        ("invoice.paid", json!(null), vec!["all", "old-name", "paid"]),
        ("invoice.sent", json!(null), vec!["all"]),
        (
            "invoice.sent",
            json!(["north", "west"]),
            vec!["all", "east"],
        ),
        (
            "invoice.paid",
            json!(["east"]),
            vec!["all", "east", "old-name", "paid", "paid-east"],
        ),
        // Names are compared as they are.
        ("Invoice.Paid", json!(["East"]), vec!["all"]),
    ] {
        let body = json!({"eventType": event_type, "channels": channels, "payload": {}});
        server.post("/api/v1/app/app/msg", body).await.expect(202);
        server.settle().await;
        let new = receiver.requests().split_off(seen);
        seen += new.len();
        let mut went: Vec<&str> = new
            .iter()
            .map(|request| request.target.rsplit('/').next().unwrap())
            .collect();
        went.sort();
        assert_eq!(went, expected, "{event_type} {channels}");
    }
}

#[actix_web::test]
async fn archived_event_types_take_no_new_filters() {
    let server = started().await;
    let body = json!({"name": "old", "description": "", "archived": true});
    server.post("/api/v1/event-type", body).await.expect(201);
    let body = json!({"url": "https://example.com/", "eventTypes": ["new", "old"]});
    assert_invalid(
        &server.post(ENDPOINTS, body.clone()).await,
        &["body.eventTypes"],
    );

    let back = json!({"description": "", "archived": false});
    server.put("/api/v1/event-type/old", back).await.expect(200);
    let made = server.post(ENDPOINTS, body.clone()).await.expect(201);
    server.delete("/api/v1/event-type/old").await;
    // It was in there before.
    server.put(&path(&made, ""), body).await.expect(200);
    let patch = json!({"description": "d", "eventTypes": ["old"]});
    server.patch(&path(&made, ""), patch).await.expect(200);
    server
        .patch(&path(&made, ""), json!({"eventTypes": null}))
        .await
        .expect(200);
    let patch = server
        .patch(&path(&made, ""), json!({"eventTypes": ["old"]}))
        .await;
    assert_invalid(&patch, &["body.eventTypes"]);
}

#[actix_web::test]
async fn a_disabled_endpoints_messages_are_held_until_it_is_enabled() {
    let receiver = Receiver::ok().await;
    let server = started().await;
    let body = json!({"url": receiver.url(), "disabled": true});
    let made = server.post(ENDPOINTS, body).await.expect(201);
    let first = server.publish("a", json!({"n": 1})).await;
    let second = server.publish("a", json!({"n": 2})).await;
    server.advance(Duration::from_secs(86_400));
    server.settle().await;
    assert_eq!(receiver.count(), 0);
    assert_eq!(server.store().waiting_count(), 2);

    let server = server.restart().await;
    server.settle().await;
    assert_eq!(receiver.count(), 0, "a restart changes nothing");
    let enabled = server
        .patch(&path(&made, ""), json!({"disabled": false}))
        .await;
    assert_eq!(enabled.expect(200)["disabled"], false);
    receiver.received(2).await;
    server.settle().await;
    for message in [first, second] {
        assert_eq!(server.outcomes(&message).await, ["delivered"]);
    }
    assert_eq!(receiver.count(), 2);
}

#[actix_web::test]
async fn a_gone_endpoint_is_disabled_and_holds_what_it_did_not_take() {
    let receiver = Receiver::answering([410]).await;
    let server = Server::start().await;
    let message = server.send_to(&receiver, "a", json!({})).await;
    let made = server.get(ENDPOINTS).await.expect(200)["data"][0].clone();
    assert_eq!(made["disabled"], true);
    assert_eq!(server.store().waiting_count(), 1);
    server.advance(Duration::from_secs(1));
    server
        .patch(&path(&made, ""), json!({"disabled": false}))
        .await
        .expect(200);
    server.settle().await;
    assert_eq!(server.outcomes(&message).await, ["http 410", "delivered"]);
}

#[actix_web::test]
async fn a_deleted_endpoint_gets_nothing_more() {
    let receiver = Receiver::answering([500]).await;
    let server = Server::start().await;
    server.send_to(&receiver, "a", json!({})).await;
    let made = server.get(ENDPOINTS).await.expect(200)["data"][0].clone();
    assert_eq!(server.delete(&path(&made, "")).await.status, 204);
    crate::support::wait_until("its deliveries to be forgotten", || {
        server.store().waiting_count() == 0
    })
    .await;
    server.publish("a", json!({})).await;
    server.advance(Duration::from_secs(3600));
    server.settle().await;
    assert_eq!(receiver.count(), 1);
}

#[actix_web::test]
async fn headers_are_sent_and_sensitive_ones_not_shown() {
    let receiver = Receiver::ok().await;
    let server = started().await;
    let body =
        json!({"url": receiver.url(), "headers": {"X-Plain": "p0", "X-Api-Key": "s3cret-0"}});
    let made = server.post(ENDPOINTS, body).await;
    assert!(!made.text.contains("s3cret"), "{}", made.text);
    let made = made.expect(201);
    let headers = path(&made, "/headers");
    let shown = server.get(&headers).await.expect(200);
    assert_eq!(
        shown,
        json!({"headers": {"X-Plain": "p0"}, "sensitive": ["X-Api-Key"]})
    );

    let change =
        json!({"headers": {"x-plain": "p1", "Okhi-Authorization": "s3cret-1", "X-Not": null}});
    let patched = server.patch(&headers, change).await;
    assert_eq!((patched.status, patched.text.as_str()), (204, ""));
    let shown = server.get(&headers).await.expect(200);
    assert_eq!(
        shown,
        json!({"headers": {"x-plain": "p1"}, "sensitive": ["Okhi-Authorization", "X-Api-Key"]})
    );
    let message = server.publish("a", json!({})).await;
    server.settle().await;
    let request = receiver.requests().remove(0);
    assert_eq!(request.header("x-plain"), Some("p1"));
    assert_eq!(request.header("okhi-authorization"), Some("s3cret-1"));
    assert_eq!(request.header("x-api-key"), Some("s3cret-0"));
    let log = server
        .get(&format!("/api/v1/app/app/attempt/msg/{message}"))
        .await;
    assert!(!log.text.contains("s3cret"), "{}", log.text);
    let sent = &log.expect(200)["data"][0]["request"];
    let name = |name: &str| {
        let headers = sent["headers"].as_object().unwrap();
        let found = headers
            .iter()
            .find(|(one, _)| one.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str().unwrap().to_owned())
    };
    assert_eq!(name("x-plain").as_deref(), Some("p1"));
    assert_eq!(name("x-api-key").as_deref(), Some("***"));

    let replaced = server
        .put(&headers, json!({"headers": {"X-New": "n"}}))
        .await;
    assert_eq!((replaced.status, replaced.text.as_str()), (204, ""));
    let shown = server.get(&headers).await.expect(200);
    assert_eq!(shown, json!({"headers": {"X-New": "n"}, "sensitive": []}));
    let removed = server.patch(&headers, json!({"headers": {"x-new": null}}));
    assert_eq!(removed.await.status, 204);
    let shown = server.get(&headers).await.expect(200);
    assert_eq!(shown, json!({"headers": {}, "sensitive": []}));

    // Newer clients name what is to go beside what is to be set; what is both is set.
    let body = json!({"headers": {"X-A": "1", "X-B": "2", "X-C": "3"}});
    assert_eq!(server.put(&headers, body).await.status, 204);
    let body = json!({"headers": {"x-b": "4"}, "deleteHeaders": ["x-a", "X-B", "X-Not"]});
    assert_eq!(server.patch(&headers, body).await.status, 204);
    let shown = server.get(&headers).await.expect(200);
    assert_eq!(
        shown,
        json!({"headers": {"X-C": "3", "x-b": "4"}, "sensitive": []})
    );

    for (body, places) in [
        (json!({}), vec!["body.headers"]),
        (json!({"headers": null}), vec!["body.headers"]),
        (json!({"headers": {"X": 1}}), vec!["body.headers.X"]),
        (
            json!({"headers": {"Content-Length": "1", "a b": "c"}}),
            vec!["body.headers.Content-Length", "body.headers.a b"],
        ),
    ] {
        assert_invalid(&server.put(&headers, body.clone()).await, &places);
        assert_invalid(&server.patch(&headers, body).await, &places);
    }
}

#[actix_web::test]
async fn userinfo_becomes_basic_auth_and_is_never_shown() {
    let receiver = Receiver::ok().await;
    let server = started().await;
    let with = |userinfo: &str| {
        receiver
            .url()
            .replace("http://", &format!("http://{userinfo}"))
    };
    let made = server
        .post(ENDPOINTS, json!({"url": with("ann:p%40ss:w@")}))
        .await;
    let shown = made.text.clone();
    let made = made.expect(201);
    assert_eq!(made["url"], receiver.url());
    let message = server.publish("a", json!({})).await;
    server.settle().await;
    let basic = format!("Basic {}", STANDARD.encode("ann:p@ss:w"));
    let sent = |number: usize| {
        receiver.requests()[number]
            .header("authorization")
            .map(str::to_owned)
    };
    assert_eq!(sent(0), Some(basic.clone()));
    for text in [
        shown,
        server.get(ENDPOINTS).await.text,
        server.get(&path(&made, "/headers")).await.text,
        server
            .get(&format!("/api/v1/app/app/attempt/msg/{message}"))
            .await
            .text,
    ] {
        for secret in ["p@ss", "p%40ss", &basic[6..]] {
            assert!(!text.contains(secret), "{text}");
        }
    }

    // A replacement that does not name them leaves them ...
    server
        .put(&path(&made, ""), json!({"url": receiver.url()}))
        .await
        .expect(200);
    server.publish("a", json!({})).await;
    server.settle().await;
    assert_eq!(sent(1), Some(basic));
    // ... and the owner is warned where another origin gets them.
    let other = json!({"url": Receiver::ok().await.url()});
    let moved = server.patch(&path(&made, ""), other).await.expect(200);
    assert_eq!(moved["warnings"].as_array().map(Vec::len), Some(1));
}

/// Spellings of addresses that no customer may make us call.
const FORBIDDEN_HOSTS: [&str; 36] = [
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "017700000001",
    "0177.0.0.1",
    "127.0.0.1:8080",
    "%31%32%37.0.0.1",
    "１２７.０.０.１",
    "①②⑦.0.0.1",
    "127。0。0。1",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "a.localhost",
    "loc%61lhost",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[2002:7f00:1::]",
    "[fd00::1]",
    "[fe80::1]",
    "0.0.0.0",
    "0",
    "10.1.2.3",
    "172.31.255.255",
    "192.168.0.1",
    "169.254.169.254",
    "100.64.0.1",
    "user:pass@10.0.0.1",
];

#[actix_web::test]
async fn endpoints_cannot_lead_to_this_machine_or_its_network() {
    let server = Server::start_with(|config| {
        config.delivery.danger_allow_private_addresses.clear();
    })
    .await;
    server.application("app").await;
    let made = server.post(ENDPOINTS, json!({"url": "https://example.com/"}));
    let made = made.await.expect(201);
    for host in FORBIDDEN_HOSTS {
        for scheme in ["http", "https"] {
            let body = json!({"url": format!("{scheme}://{host}/in")});
            assert_invalid(&server.post(ENDPOINTS, body.clone()).await, &["body.url"]);
            assert_invalid(&server.patch(&path(&made, ""), body).await, &["body.url"]);
        }
    }
    let put = server
        .put(&path(&made, ""), json!({"url": "http://127.0.0.1/"}))
        .await;
    assert_invalid(&put, &["body.url"]);
    for host in [
        "1.1.1.1",
        "[2606:4700::1111]",
        "localhost.example.com",
        "172.32.0.1",
    ] {
        let body = json!({"url": format!("https://{host}/in")});
        server.post(ENDPOINTS, body).await.expect(201);
    }
}

#[actix_web::test]
async fn https_can_be_required() {
    let server = Server::start_with(|config| config.delivery.https_only = true).await;
    server.application("app").await;
    let plain = server.post(ENDPOINTS, json!({"url": "http://example.com/"}));
    assert_invalid(&plain.await, &["body.url"]);
    let safe = server.post(ENDPOINTS, json!({"url": "https://example.com/"}));
    safe.await.expect(201);
}

fn signatures(request: &Request) -> Vec<&str> {
    let header = request.header("webhook-signature").expect("a signature");
    header.split(' ').collect()
}

/// What Standard Webhooks signs.
fn signed(request: &Request) -> Vec<u8> {
    let id = request.header("webhook-id").unwrap();
    let timestamp = request.header("webhook-timestamp").unwrap();
    [format!("{id}.{timestamp}.").as_bytes(), &request.body].concat()
}

/// The signature of a request by a `whsec_` key.
fn hmac_signature(request: &Request, key: &str) -> String {
    let key = STANDARD
        .decode(key.strip_prefix("whsec_").unwrap())
        .unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(&signed(request));
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

async fn sent(server: &Server, receiver: &Receiver) -> Request {
    server.publish("a", json!({"n": receiver.count()})).await;
    // The first message of a new slice is due up to 4 ms later, and the clock stands still.
    server.advance(Duration::from_millis(4));
    server.settle().await;
    receiver.requests().pop().expect("it was sent")
}

#[actix_web::test]
async fn a_rotated_secret_signs_beside_the_new_one_until_its_grace_ends() {
    let receiver = Receiver::ok().await;
    let server = started().await;
    let made = server.post(ENDPOINTS, json!({"url": receiver.url()}));
    let made = made.await;
    assert!(!made.text.contains("whsec_"), "{}", made.text);
    let made = made.expect(201);
    let secret = path(&made, "/secret");
    let old = server.get(&secret).await.expect(200);
    assert_eq!(keys(&old), ["key", "previous"]);
    let old = old["key"].as_str().unwrap().to_owned();
    let request = sent(&server, &receiver).await;
    assert_eq!(signatures(&request), [hmac_signature(&request, &old)]);
    let timestamp = server.now().as_seconds().to_string();
    assert_eq!(
        request.header("webhook-timestamp"),
        Some(timestamp.as_str())
    );

    let rotate = path(&made, "/secret/rotate");
    let new = server.post(&rotate, json!({})).await.expect(200);
    assert_eq!(keys(&new), ["key", "previous"]);
    let new = new["key"].as_str().unwrap().to_owned();
    assert_ne!(new, old);
    assert_eq!(server.get(&secret).await.expect(200)["key"], new);
    let server = server.restart().await;
    server.advance(Duration::from_secs(86_399));
    let request = sent(&server, &receiver).await;
    assert_eq!(
        signatures(&request),
        [
            hmac_signature(&request, &new),
            hmac_signature(&request, &old)
        ]
    );
    server.advance(Duration::from_secs(1));
    let request = sent(&server, &receiver).await;
    assert_eq!(signatures(&request), [hmac_signature(&request, &new)]);

    // A key of one's own, with a grace of one's own; no body is as good as an empty one.
    let own = format!("whsec_{}", STANDARD.encode([7; 24]));
    let body = json!({"key": own, "gracePeriodSeconds": 0});
    let rotated = server.post(&rotate, body).await.expect(200);
    assert_eq!(rotated, json!({"key": own, "previous": []}));
    let request = sent(&server, &receiver).await;
    assert_eq!(signatures(&request), [hmac_signature(&request, &own)]);
    let no_body = server.call(awc::http::Method::POST, &rotate, &[], None);
    let third = no_body.await.expect(200)["key"]
        .as_str()
        .unwrap()
        .to_owned();
    let request = sent(&server, &receiver).await;
    assert_eq!(
        signatures(&request),
        [
            hmac_signature(&request, &third),
            hmac_signature(&request, &own)
        ]
    );
    for (body, places) in [
        (json!({"key": "whsec_AAAA"}), vec!["body.key"]),
        (
            json!({"gracePeriodSeconds": 604_801}),
            vec!["body.gracePeriodSeconds"],
        ),
        (
            json!({"gracePeriodSeconds": "1"}),
            vec!["body.gracePeriodSeconds"],
        ),
    ] {
        assert_invalid(&server.post(&rotate, body).await, &places);
    }
    assert_eq!(server.get(&secret).await.expect(200)["key"], third);
    // An SDK that takes nothing but the documented 204 for a success.
    let older = [("user-agent", "svix-libs/1.24.0/python")];
    let body = Some(json!({"gracePeriodSeconds": 0}).to_string());
    let rotated = server.call(awc::http::Method::POST, &rotate, &older, body);
    let rotated = rotated.await;
    assert_eq!((rotated.status, rotated.text.as_str()), (204, ""));
}

#[actix_web::test]
async fn only_so_many_secrets_are_live_at_a_time() {
    let server = started().await;
    let made = server.post(ENDPOINTS, json!({"url": "https://example.com/"}));
    let made = made.await.expect(201);
    let rotate = path(&made, "/secret/rotate");
    for _ in 0..9 {
        server.post(&rotate, json!({})).await.expect(200);
    }
    assert_error(&server.post(&rotate, json!({})).await, 400, "limit_reached");
    let end = json!({"gracePeriodSeconds": 0});
    server.post(&rotate, end).await.expect(200);
    server.post(&rotate, json!({})).await.expect(200);
}

#[actix_web::test]
async fn an_ed25519_secret_signs_and_reads_back_as_its_public_key() {
    let receiver = Receiver::ok().await;
    let server = started().await;
    let seed = [9; 32];
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
    let mut both = seed.to_vec();
    both.extend_from_slice(pair.public_key().as_ref());
    let public = format!("whpk_{}", STANDARD.encode(pair.public_key()));
    let private = format!("whsk_{}", STANDARD.encode(&both));
    let body = json!({"url": receiver.url(), "secret": private});
    let made = server.post(ENDPOINTS, body).await.expect(201);
    let read = server.get(&path(&made, "/secret")).await.expect(200);
    assert_eq!(read, json!({"key": public, "previous": []}));

    let request = sent(&server, &receiver).await;
    let found = signatures(&request);
    assert_eq!(found.len(), 1);
    let signature = found[0].strip_prefix("v1a,").expect("asymmetric");
    UnparsedPublicKey::new(&ED25519, pair.public_key())
        .verify(&signed(&request), &STANDARD.decode(signature).unwrap())
        .expect("the signature is right");

    // The seed alone is the same key; rotating to it shows the public key, too.
    let seed = format!("whsk_{}", STANDARD.encode(seed));
    let rotated = server
        .post(&path(&made, "/secret/rotate"), json!({"key": seed}))
        .await;
    assert_eq!(rotated.expect(200)["key"], public);
    let all = server.get(ENDPOINTS).await;
    assert!(!all.text.contains("whsk_"));
    assert_eq!(texts(&all.expect(200), "id").len(), 1);
}

#[actix_web::test]
async fn lists_are_searched_filtered_and_tell_how_each_endpoint_does() {
    let (good, bad) = (Receiver::ok().await, Receiver::answering([500]).await);
    let mut server = Server::start().await;
    server.leftovers_are_fine();
    let made = async |url: String, more: Value| {
        let mut body = json!({ "url": url });
        body.as_object_mut()
            .expect("it is one")
            .extend(more.as_object().expect("so is this").clone());
        // Ids of one moment have no order.
        server.advance(Duration::from_millis(10));
        server.endpoint_of("app", body).await
    };
    let one = made(
        good.url(),
        json!({ "description": "Ledger", "eventTypes": ["a"] }),
    )
    .await;
    let two = made(bad.url(), json!({ "uid": "crm", "eventTypes": ["a"] })).await;
    let three = made(good.url(), json!({ "disabled": true, "eventTypes": ["a"] })).await;
    let four = made(good.url(), json!({ "eventTypes": ["b"] })).await;
    server.publish("a", json!({})).await;
    server.settle().await;
    let list = async |query: &str| {
        let path = format!("/api/v1/app/app/endpoint?order=ascending&{query}");
        server.get(&path).await.expect(200)
    };
    let ids = async |query: &str| -> Vec<String> {
        let page = list(query).await;
        let data = page["data"].as_array().expect("a list").clone();
        data.iter()
            .map(|one| one["id"].as_str().expect("an id").to_owned())
            .collect()
    };
    assert_eq!(ids("search=lEDGer").await, [one.as_str()]);
    assert_eq!(ids("search=CRM").await, [two.as_str()]);
    assert_eq!(ids(&format!("search={three}")).await, [three.as_str()]);
    assert_eq!(ids("search=nothing-like-it").await, [""; 0]);
    // A few letters of an id are in others by chance.
    let beginning = &three[..three.len() - 1];
    assert_eq!(ids(&format!("search={beginning}")).await, [""; 0]);
    assert_eq!(ids("status=disabled").await, [three.as_str()]);
    assert_eq!(
        ids("status=enabled&search=127.0.0.1").await,
        [one.as_str(), &two, &four]
    );
    // Pages are of what was found.
    let first = list("status=enabled&limit=2").await;
    assert_eq!(first["done"], false);
    let next = format!(
        "status=enabled&limit=2&iterator={}",
        first["iterator"].as_str().unwrap()
    );
    assert_eq!(ids(&next).await, [four.as_str()]);

    let plain = list("").await;
    assert_eq!(plain["data"][0].get("health"), None);
    let page = list("with_health=true").await;
    let health = |index: usize| page["data"][index]["health"].clone();
    assert_eq!(
        health(0),
        json!({ "state": "healthy", "success": 1, "fail": 0, "waiting": 0 })
    );
    assert_eq!(
        health(1),
        json!({ "state": "failing", "success": 0, "fail": 1, "waiting": 1 })
    );
    assert_eq!(
        health(2),
        json!({ "state": "disabled", "success": 0, "fail": 0, "waiting": 1 })
    );
    assert_eq!(
        health(3),
        json!({ "state": "idle", "success": 0, "fail": 0, "waiting": 0 })
    );

    let long = "x".repeat(257);
    let path = format!("/api/v1/app/app/endpoint?search={long}&status=broken&with_health=1");
    let places = ["query.search", "query.status", "query.with_health"];
    assert_invalid(&server.get(&path).await, &places);

    let found = server.get("/api/v1/app?search=APP").await.expect(200);
    assert_eq!(found["data"].as_array().expect("a list").len(), 1);
    let found = server.get("/api/v1/app?search=other").await.expect(200);
    assert_eq!(found["data"], json!([]));
    for name in ["invoice.paid", "invoice.sent", "user.made"] {
        let body = json!({ "name": name, "description": "Something" });
        server.post("/api/v1/event-type", body).await.expect(201);
    }
    for (search, count) in [("INVOICE", 2), ("something", 3), ("user.m", 1)] {
        let path = format!("/api/v1/event-type?search={search}");
        let found = server.get(&path).await.expect(200);
        assert_eq!(
            found["data"].as_array().expect("a list").len(),
            count,
            "{search}"
        );
    }
}

#[actix_web::test]
async fn older_secrets_show_when_they_end() {
    let server = Server::start().await;
    let endpoint = server
        .endpoint_of("app", json!({ "url": "http://127.0.0.1:9/" }))
        .await;
    let path = format!("/api/v1/app/app/endpoint/{endpoint}/secret");
    assert_eq!(server.get(&path).await.expect(200)["previous"], json!([]));
    let rotated = json!({ "gracePeriodSeconds": 3600 });
    let rotated = server
        .post(&format!("{path}/rotate"), rotated)
        .await
        .expect(200);
    let end = server.now() + Duration::from_secs(3600);
    let expected = json!([{ "expiresAt": end.to_string() }]);
    assert_eq!(rotated["previous"], expected);
    let shown = server.get(&path).await.expect(200);
    assert_eq!(
        (&shown["previous"], &shown["key"]),
        (&expected, &rotated["key"])
    );
    server.advance(Duration::from_secs(3600));
    assert_eq!(server.get(&path).await.expect(200)["previous"], json!([]));
}
