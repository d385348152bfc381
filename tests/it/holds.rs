//! What the operator holds: an endpoint, an application's endpoints, or all, until they are released.

use std::collections::BTreeSet;
use std::time::Duration;

use awc::http::Method;
use postrider::config::VerifyEndpoints;
use serde_json::{Value, json};

use crate::support::{Receiver, Script, Server, assert_error, together, wait_until};

fn path(endpoint: &str) -> String {
    format!("/api/v1/app/app/endpoint/{endpoint}")
}

/// Holds or releases; returns how many endpoints that changed.
async fn changed(server: &Server, path: &str) -> Value {
    let answer = server.post(path, json!({})).await.expect(200);
    answer["changed"].clone()
}

async fn hold(server: &Server, endpoint: &str) {
    let done = changed(server, &format!("{}/hold", path(endpoint))).await;
    assert_eq!(done, 1, "it was not held before");
}

async fn release(server: &Server, endpoint: &str) {
    let done = changed(server, &format!("{}/release", path(endpoint))).await;
    assert_eq!(done, 1, "it was held");
}

async fn shown(server: &Server, endpoint: &str) -> Value {
    server.get(&path(endpoint)).await.expect(200)
}

async fn token(server: &Server, body: Value) -> String {
    let made = server.post("/api/v1/token", body).await.expect(201);
    made["token"].as_str().expect("a text").to_owned()
}

/// Nothing was sent, however long it waits.
async fn assert_waits(server: &Server, receiver: &Receiver, sent: usize) {
    server.advance(Duration::from_secs(24 * 3_600));
    server.settle().await;
    assert_eq!(receiver.count(), sent);
    assert!(server.nothing_is_due());
}

#[actix_web::test]
async fn messages_wait_for_a_held_endpoint_and_go_out_once_it_is_released() {
    let (receiver, other) = (Receiver::ok().await, Receiver::ok().await);
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    let before = shown(&server, &endpoint).await;
    assert!(before.get("hold").is_none());
    hold(&server, &endpoint).await;
    let held = shown(&server, &endpoint).await;
    let since = server.now().to_string();
    assert_eq!(held["hold"], json!({ "since": since, "reason": "by-hand" }));
    let mut same = held.clone();
    same.as_object_mut().unwrap().remove("hold");
    assert_eq!(same, before, "nothing else of it changed");

    // One that is made meanwhile is not held.
    server.endpoint(&other).await;
    let messages = server.publish_all("app", vec![json!({}); 5]).await;
    other.received(5).await;
    assert_waits(&server, &receiver, 0).await;
    assert_eq!(server.store().waits().held, 5);

    release(&server, &endpoint).await;
    receiver.received(5).await;
    server.settle().await;
    assert!(shown(&server, &endpoint).await.get("hold").is_none());
    assert_eq!((receiver.count(), other.count()), (5, 5));
    assert_eq!(server.store().waiting_count(), 0);
    for message in messages {
        assert_eq!(server.outcomes(&message).await, ["delivered"; 2]);
    }
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn whatever_asks_for_a_request_gets_none_while_its_endpoint_is_held() {
    let receiver = Receiver::answering([500]).await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    let message = server.publish("invoice.paid", json!({})).await;
    server.settle().await;
    assert_eq!(receiver.count(), 1);
    hold(&server, &endpoint).await;
    let resend = format!("/api/v1/app/app/msg/{message}/endpoint/{endpoint}/resend");
    server.post(&resend, json!({})).await.expect(202);
    let recover = format!("{}/recover", path(&endpoint));
    let since = json!({ "since": "1970-01-01T00:00:00Z" });
    let job = server.post(&recover, since).await.expect(202);
    for test in ["send-example", "simulate"] {
        let kind = json!({ "name": "a", "description": "", "example": {} });
        server.put("/api/v1/event-type/a", kind).await;
        let test = format!("{}/{test}", path(&endpoint));
        let answer = server.post(&test, json!({ "eventType": "a" })).await;
        assert_error(&answer, 409, "conflict");
        assert!(
            answer.text.contains("held by the operator"),
            "{}",
            answer.text
        );
    }
    assert_waits(&server, &receiver, 1).await;
    let job_path = format!("/api/v1/background-task/{}", job["id"].as_str().unwrap());
    let job = server.get(&job_path).await.expect(200);
    assert_eq!(
        (&job["state"], &job["reason"]),
        (
            &json!("paused"),
            &json!("the endpoint is held by the operator")
        )
    );
    let where_to = format!("/api/v1/app/app/msg/{message}/endpoint");
    let list = server.get(&where_to).await.expect(200);
    let delivery = &list["data"][0];
    assert_eq!(
        (&delivery["held"], &delivery["status"]),
        (&json!(true), &json!(1))
    );
    assert_eq!(delivery["hold"]["reason"], "by-hand");

    release(&server, &endpoint).await;
    receiver.received(2).await;
    server.settle().await;
    assert_eq!(server.outcomes(&message).await, ["http 500", "delivered"]);
}

#[actix_web::test]
async fn an_attempt_under_way_ends_and_its_retry_is_held() {
    let receiver = Receiver::scripted([Script::AtGate(500)], Script::Status(200)).await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    let message = server.publish("invoice.paid", json!({})).await;
    receiver.received(1).await;
    hold(&server, &endpoint).await;
    receiver.open_gate();
    wait_until("its outcome", || {
        server.in_flight() == 0 && server.store().is_idle()
    })
    .await;
    assert_eq!(server.outcomes(&message).await, ["http 500"]);
    assert_waits(&server, &receiver, 1).await;
    release(&server, &endpoint).await;
    receiver.received(2).await;
    server.settle().await;
    assert_eq!(server.outcomes(&message).await, ["http 500", "delivered"]);
}

#[actix_web::test]
async fn an_application_or_all_are_held_and_released_with_the_number_of_what_changed() {
    let receiver = Receiver::ok().await;
    let mut server = Server::start().await;
    server.leftovers_are_fine();
    let to_receiver = || json!({ "url": receiver.url() });
    let first = server.endpoint(&receiver).await;
    let second = server.endpoint(&receiver).await;
    let other = server.endpoint_of("other", to_receiver()).await;
    let own = "/api/v1/operational-webhook/endpoint";
    let only = json!({ "url": receiver.url(), "eventTypes": ["message.attempt.exhausted"] });
    let own_id = server.post(own, only).await.expect(201)["id"].clone();
    let own_path = format!("{own}/{}", own_id.as_str().unwrap());
    let held = async || {
        let paths = [
            path(&first),
            path(&second),
            format!("/api/v1/app/other/endpoint/{other}"),
            own_path.clone(),
        ];
        let mut held = Vec::new();
        for path in paths {
            held.push(server.get(&path).await.expect(200).get("hold").is_some());
        }
        held
    };

    hold(&server, &first).await;
    server.advance(Duration::from_secs(60));
    let since = shown(&server, &first).await["hold"]["since"].clone();
    for expected in [1, 0] {
        assert_eq!(changed(&server, "/api/v1/app/app/hold").await, expected);
    }
    assert_eq!(held().await, [true, true, false, false]);
    assert_eq!(shown(&server, &first).await["hold"]["since"], since);
    for expected in [2, 0] {
        assert_eq!(changed(&server, "/api/v1/hold").await, expected);
    }
    assert_eq!(held().await, [true; 4]);
    assert_eq!(changed(&server, "/api/v1/app/other/release").await, 1);
    assert_eq!(held().await, [true, true, false, true]);
    assert_eq!(changed(&server, &format!("{own_path}/release")).await, 1);
    assert_eq!(changed(&server, &format!("{own_path}/hold")).await, 1);
    for expected in [3, 0] {
        assert_eq!(changed(&server, "/api/v1/release").await, expected);
    }
    assert_eq!(held().await, [false; 4]);

    for (path, status) in [
        ("/api/v1/app/nobody/hold", 404),
        ("/api/v1/app/app/endpoint/nothing/release", 404),
    ] {
        assert_eq!(server.post(path, json!({})).await.status, status, "{path}");
    }
    let more = server.post("/api/v1/hold", json!({ "all": true })).await;
    assert_eq!(more.status, 422, "{}", more.text);
}

/// More than one commit holds.
#[actix_web::test]
async fn many_are_held_some_at_a_time_and_all_of_them() {
    const MANY: usize = 1_100;
    let receiver = Receiver::ok().await;
    let server = Server::start_with(|config| {
        config.limits.endpoints_per_application_max = MANY;
    })
    .await;
    server.application("app").await;
    for _ in 0..MANY / 100 {
        let body = || json!({ "url": receiver.url() });
        together((0..100).map(|_| server.endpoint_of("app", body()))).await;
    }
    let commits = server.store().written().0;
    assert_eq!(changed(&server, "/api/v1/hold").await, MANY);
    let took = server.store().written().0 - commits;
    assert!((3..10).contains(&took), "{took} commits");
    server.publish("a", json!({})).await;
    assert_waits(&server, &receiver, 0).await;
    assert_eq!(server.store().waits().held, MANY as u64);
    assert_eq!(changed(&server, "/api/v1/release").await, MANY);
    receiver.received(MANY).await;
    server.settle().await;
    assert_eq!(server.store().waiting_count(), 0);
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn a_hold_outlives_a_restart_and_a_crash() {
    let receiver = Receiver::ok().await;
    let mut server = Server::start().await;
    server.leftovers_are_fine();
    let endpoint = server.endpoint(&receiver).await;
    hold(&server, &endpoint).await;
    server.publish("invoice.paid", json!({})).await;
    let held = shown(&server, &endpoint).await;
    let crashed = server.after_a_crash().await;
    assert_eq!(shown(&crashed, &endpoint).await, held);
    assert_waits(&crashed, &receiver, 0).await;
    let mut crashed = crashed;
    crashed.leftovers_are_fine();
    drop(crashed);

    let server = server.restart().await;
    assert_eq!(shown(&server, &endpoint).await, held);
    assert_eq!(server.metrics().endpoints_held.get(), 1);
    assert_waits(&server, &receiver, 0).await;
    release(&server, &endpoint).await;
    receiver.received(1).await;
    server.settle().await;
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn a_change_of_an_endpoint_by_whatever_way_leaves_its_hold() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let url = || json!({ "url": receiver.url() });
    let endpoint = server.endpoint(&receiver).await;
    hold(&server, &endpoint).await;
    let held = shown(&server, &endpoint).await["hold"].clone();
    let at = path(&endpoint);
    let headers = format!("{at}/headers");
    let empty = json!({ "headers": {} });
    // What was read is sent back, too.
    let whole = shown(&server, &endpoint).await;
    let mut other = whole.clone();
    other["hold"] = Value::Null;
    for (method, path, body) in [
        (Method::PUT, &at, url()),
        (Method::PUT, &at, whole),
        (Method::PUT, &at, other),
        (Method::PATCH, &at, json!({ "hold": null })),
        (Method::PATCH, &at, json!({ "disabled": true })),
        (Method::PATCH, &at, json!({ "disabled": false })),
        (Method::PUT, &headers, empty.clone()),
        (Method::PATCH, &headers, empty),
        (Method::POST, &format!("{at}/secret/rotate"), json!({})),
    ] {
        let answer = server.call(method, path, &[], Some(body.to_string())).await;
        assert!(answer.status < 300, "{path}: {}", answer.text);
        assert_eq!(shown(&server, &endpoint).await["hold"], held, "{path}");
    }
    server.publish("invoice.paid", json!({})).await;
    assert_waits(&server, &receiver, 0).await;
    release(&server, &endpoint).await;
    receiver.received(1).await;
    server.settle().await;
}

#[actix_web::test]
async fn a_change_by_another_systems_calls_leaves_the_hold() {
    let server = Server::start().await;
    for name in ["report_signed", "BOOK_VERIFIED"] {
        let kind = json!({ "name": name, "description": "" });
        server.post("/api/v1/event-type", kind).await.expect(201);
    }
    server.application("456").await;
    let ovation = "/api/v3/project_templates/456/webhook_endpoints";
    let webhook = json!({ "webhookEndpoint": {
        "target_url": "http://127.0.0.1:9/", "event": "report_signed",
        "username": "u", "password": "p",
    } });
    let made = server.post(ovation, webhook.clone()).await.expect(201);
    let webhook_path = format!("{ovation}/{}", made["webhook_endpoint"]["id"]);

    server.application("app").await;
    let body = json!({ "name": "t", "role": "application", "applicationId": "app" });
    let account = format!("Bearer {}", token(&server, body).await);
    let configure = async |url: &str| {
        let headers = [("authorization", account.as_str())];
        let body = json!({ "webhook_endpoint": url, "events": ["BOOK_VERIFIED"] });
        let path = "/v1/account/settings/update/webhook_endpoint";
        let body = Some(body.to_string());
        let answer = server.call(Method::POST, path, &headers, body).await;
        answer.expect(200)
    };
    configure("http://127.0.0.1:9/a").await;

    assert_eq!(changed(&server, "/api/v1/hold").await, 2);
    server.put(&webhook_path, webhook).await.expect(201);
    configure("http://127.0.0.1:9/b").await;
    let headers = [("authorization", account.as_str())];
    let test = "/v1/account/settings/test_webhook_endpoint";
    let tested = server.call(Method::GET, test, &headers, None).await;
    assert!(
        tested
            .text
            .contains("is held by the operator; nothing was sent"),
        "{}",
        tested.text
    );
    assert_eq!(
        changed(&server, "/api/v1/release").await,
        2,
        "both were held still"
    );
}

#[actix_web::test]
async fn customers_see_a_hold_and_cannot_end_it() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    hold(&server, &endpoint).await;
    let link = "/api/v1/auth/app-portal-access/app";
    let link = server.post(link, json!({})).await.expect(200);
    let key = json!({ "name": "t", "role": "application", "applicationId": "app" });
    let user = json!({ "name": "t", "role": "webhook_user", "endpointIds": [endpoint] });
    let customers = [
        link["token"].as_str().expect("a text").to_owned(),
        token(&server, key).await,
        token(&server, user).await,
    ];
    let at = path(&endpoint);
    for customer in customers {
        let seen = server.call_as(&customer, Method::GET, &at, None).await;
        assert_eq!(seen.expect(200)["hold"]["reason"], "by-hand");
        for path in [
            format!("{at}/release"),
            format!("{at}/hold"),
            "/api/v1/app/app/release".to_owned(),
            "/api/v1/release".to_owned(),
        ] {
            let answer = server.call_as(&customer, Method::POST, &path, None).await;
            assert_eq!(answer.status, 403, "{path}: {}", answer.text);
        }
        // Neither does enabling it.
        let body = Some(json!({ "disabled": false }).to_string());
        server
            .call_as(&customer, Method::PATCH, &at, body)
            .await
            .expect(200);
        assert_eq!(shown(&server, &endpoint).await["hold"]["reason"], "by-hand");
    }
    // A webhook admin is the operator's: for an application, and not for all.
    let admin = token(&server, json!({ "name": "t", "role": "webhook_admin" })).await;
    for (path, status) in [
        ("/api/v1/release", 403),
        ("/api/v1/hold", 403),
        ("/api/v1/app/app/release", 200),
    ] {
        let answer = server.call_as(&admin, Method::POST, path, None).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text);
    }
}

#[actix_web::test]
async fn lists_status_lanes_and_metrics_tell_what_is_held() {
    let receiver = Receiver::ok().await;
    let mut server = Server::start().await;
    server.leftovers_are_fine();
    let status = async || server.get("/api/v1/status").await.expect(200);
    let problem = |status: &Value| {
        let problems = status["problems"].as_array().expect("a list").clone();
        let mut found = problems.into_iter();
        found.find(|one| one["kind"] == "endpoints_held")
    };
    let held = server.endpoint(&receiver).await;
    let free = server.endpoint(&receiver).await;
    let before = status().await;
    assert_eq!(before["holds"], Value::Null);
    assert!(problem(&before).is_none());

    hold(&server, &held).await;
    let since = server.now().to_string();
    server.advance(Duration::from_secs(60));
    server.publish_all("app", vec![json!({}); 3]).await;
    server.settle().await;
    let now = status().await;
    let expected = json!({ "endpoints": 1, "waiting": 3, "since": since });
    assert_eq!((&now["holds"], &now["held"]), (&expected, &json!(3)));
    let told = problem(&now).expect("it is a problem");
    assert_eq!(told["severity"], "warning");
    let sentence = "1 endpoint is held by the operator: 3 deliveries wait for the release \
                    (POST /api/v1/release releases all).";
    assert_eq!(told["message"], sentence);
    assert_eq!(server.metrics().endpoints_held.get(), 1);

    let ids = async |status: &str| {
        let path = format!("/api/v1/app/app/endpoint?status={status}");
        let list = server.get(&path).await.expect(200);
        let data = list["data"].as_array().expect("a list").clone();
        let ids = data
            .iter()
            .map(|one| one["id"].as_str().unwrap().to_owned());
        BTreeSet::from_iter(ids)
    };
    assert_eq!(ids("held").await, BTreeSet::from([held.clone()]));
    assert_eq!(
        ids("enabled").await,
        BTreeSet::from([free.clone(), held.clone()])
    );
    let lanes = server.get("/api/v1/lane").await.expect(200);
    let lane = &lanes["data"][0];
    assert_eq!(
        (&lane["endpointId"], &lane["state"], &lane["heldReason"]),
        (&json!(held), &json!("held"), &json!("by-hand"))
    );
    // Deleted ones are not held any more.
    server.delete(&path(&held)).await.expect(204);
    assert_eq!(status().await["holds"], Value::Null);
    assert_eq!(server.metrics().endpoints_held.get(), 0);
    hold(&server, &free).await;
    server.delete("/api/v1/app/app").await.expect(204);
    assert_eq!(server.metrics().endpoints_held.get(), 0);
}

#[actix_web::test]
async fn a_held_endpoint_is_not_challenged_and_is_verified_once_it_is_released() {
    let receiver = Receiver::scripted([], Script::Status(500)).await;
    let server = Server::start_with(|config| {
        config.delivery.verify_endpoints = VerifyEndpoints::Challenge;
    })
    .await;
    let endpoint = server.endpoint(&receiver).await;
    receiver.received(1).await;
    server.settle().await;
    hold(&server, &endpoint).await;
    let ask = format!("{}/verify", path(&endpoint));
    let refused = server.post(&ask, json!({})).await;
    assert_error(&refused, 409, "conflict");
    assert_waits(&server, &receiver, 1).await;
    release(&server, &endpoint).await;
    receiver.received(2).await;
}

#[actix_web::test]
async fn a_hold_is_no_operational_event() {
    let heard = Receiver::ok().await;
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let own = "/api/v1/operational-webhook/endpoint";
    server
        .post(own, json!({ "url": heard.url() }))
        .await
        .expect(201);
    let endpoint = server.endpoint(&receiver).await;
    hold(&server, &endpoint).await;
    release(&server, &endpoint).await;
    server.set_disabled("app", &endpoint, true).await;
    heard.received(3).await;
    server.settle().await;
    let kind = |body: &[u8]| {
        let body: Value = serde_json::from_slice(body).expect("JSON");
        body["type"].as_str().expect("a name").to_owned()
    };
    let mut kinds = Vec::from_iter(heard.requests().iter().map(|one| kind(&one.body)));
    kinds.sort();
    assert_eq!(
        kinds,
        ["endpoint.created", "endpoint.disabled", "endpoint.updated"]
    );
}
