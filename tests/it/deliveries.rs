//! How deliveries stand: the endpoints that a message was for, the messages that were for an
//! endpoint, and attempts with their messages.

use std::time::Duration;

use awc::http::Method;
use serde_json::{Value, json};

use crate::support::{Receiver, Script, Server, assert_invalid, texts, wait_until};

/// The member of each item of a list.
fn all(list: &Value, name: &str) -> Vec<Value> {
    let items = list["data"].as_array().expect("a list");
    items.iter().map(|item| item[name].clone()).collect()
}

async fn destinations(server: &Server, message: &str, query: &str) -> Value {
    let path = format!("/api/v1/app/app/msg/{message}/endpoint{query}");
    server.get(&path).await.expect(200)
}

async fn messages(server: &Server, endpoint: &str, query: &str) -> Value {
    let path = format!("/api/v1/app/app/endpoint/{endpoint}/msg{query}");
    server.get(&path).await.expect(200)
}

#[actix_web::test]
async fn a_messages_endpoints_are_listed_with_how_each_stands() {
    let ok = Receiver::ok().await;
    let down = Receiver::scripted([], Script::Status(500)).await;
    let mut server = Server::start().await;
    server.leftovers_are_fine();
    // Apart, so that their ids sort.
    let next = || server.advance(Duration::from_millis(10));
    let delivered = server.endpoint(&ok).await;
    next();
    let retried = server.endpoint(&down).await;
    next();
    let held = server.endpoint(&ok).await;
    next();
    server.set_disabled("app", &held, true).await;
    let once = json!({"url": down.url(), "retry": {"delaysSeconds": []}});
    let failed = server.endpoint_of("app", once).await;
    let filtered = json!({"url": ok.url(), "eventTypes": ["other"]});
    server.endpoint_of("app", filtered).await;
    let message = server.publish("invoice.paid", json!({})).await;
    server.settle().await;

    let list = destinations(&server, &message, "").await;
    assert_eq!(texts(&list, "id"), [&*delivered, &retried, &held, &failed]);
    assert_eq!(json!(all(&list, "status")), json!([0, 1, 1, 2]));
    assert_eq!(
        texts(&list, "statusText"),
        ["success", "pending", "pending", "fail"]
    );
    assert_eq!(
        json!(all(&list, "held")),
        json!([false, false, true, false])
    );
    let due = (server.now() + Duration::from_secs(5)).to_string();
    let now = server.now().to_string();
    assert_eq!(
        json!(all(&list, "nextAttempt")),
        json!([null, due, now, null])
    );
    assert_eq!(list["data"][0]["url"], ok.url());
    assert_eq!(list["done"], true);

    // Both ways, and by the publisher's own id.
    let page = destinations(&server, &message, "?limit=3").await;
    assert_eq!(texts(&page, "id").len(), 3);
    let iterator = page["iterator"].as_str().expect("there is more");
    let rest = destinations(&server, &message, &format!("?iterator={iterator}")).await;
    assert_eq!(texts(&rest, "id"), [&*failed]);
    let back = format!("?limit=2&iterator=-{failed}");
    let back = destinations(&server, &message, &back).await;
    assert_eq!(texts(&back, "id"), [&*retried, &held]);

    server.advance_to_next_due().await;
    let list = destinations(&server, &message, "").await;
    let due = (server.now() + Duration::from_secs(300)).to_string();
    assert_eq!(list["data"][1]["nextAttempt"], due);
}

#[actix_web::test]
async fn an_endpoints_messages_are_listed_with_how_each_stands() {
    let receiver = Receiver::answering([200, 500]).await;
    let other = Receiver::ok().await;
    let mut server = Server::start().await;
    server.leftovers_are_fine();
    let endpoint = server
        .endpoint_of("app", json!({"url": receiver.url(), "channels": ["ours"]}))
        .await;
    server.endpoint(&other).await;
    let mut sent = Vec::new();
    for (event_type, channel) in [("a", "ours"), ("b", "ours"), ("a", "theirs"), ("a", "ours")] {
        if sent.len() == 3 {
            server.set_disabled("app", &endpoint, true).await;
        }
        let body = json!({"eventType": event_type, "payload": {"n": 1}, "channels": [channel]});
        let message = server.post("/api/v1/app/app/msg", body).await.expect(202);
        sent.push(message["id"].as_str().expect("an id").to_owned());
        server.settle().await;
        server.advance(Duration::from_millis(10));
    }
    let ids = |list: &Value| texts(list, "id");
    let list = messages(&server, &endpoint, "").await;
    assert_eq!(ids(&list), [&*sent[3], &sent[1], &sent[0]]);
    assert_eq!(json!(all(&list, "status")), json!([1, 1, 0]));
    // The one that failed waits for its retry, and is held as well.
    assert_eq!(json!(all(&list, "held")), json!([true, true, false]));
    assert_eq!(list["data"][0]["payload"], json!({"n": 1}));
    assert_eq!(list["data"][2]["nextAttempt"], Value::Null);

    for (query, expected) in [
        ("?status=0", vec![&sent[0]]),
        ("?status=1", vec![&sent[3], &sent[1]]),
        ("?status=2", vec![]),
        ("?status=3&expanded_statuses=true", vec![]),
        ("?event_types=b", vec![&sent[1]]),
        ("?channel=theirs", vec![]),
        ("?limit=1&order=ascending", vec![&sent[0]]),
        (&format!("?iterator={}", sent[1]), vec![&sent[0]]),
        (&format!("?iterator=-{}", sent[1]), vec![&sent[3]]),
    ] {
        let found = ids(&messages(&server, &endpoint, query).await);
        assert_eq!(Vec::from_iter(&found), expected, "{query}");
    }
    let bare = messages(&server, &endpoint, "?with_content=false").await;
    assert_eq!(bare["data"][0]["payload"], json!({}));

    let path = format!("/api/v1/app/app/endpoint/{endpoint}/msg?status=5");
    assert_invalid(&server.get(&path).await, &["query.status"]);
}

#[actix_web::test]
async fn what_is_being_sent_is_shown_and_found_as_such() {
    let receiver = Receiver::scripted([], Script::AtGate(200)).await;
    let down = Receiver::scripted([], Script::Status(500)).await;
    let mut server = Server::start().await;
    server.leftovers_are_fine();
    let endpoint = server.endpoint(&receiver).await;
    server.advance(Duration::from_millis(10));
    let retried = server.endpoint(&down).await;
    let message = server.publish("a", json!({})).await;
    wait_until("one is at the gate, one has failed", || {
        receiver.count() == 1 && server.in_flight() == 1 && server.store().is_idle()
    })
    .await;
    wait_until("the failure is stored", || {
        down.count() == 1 && server.store().is_idle()
    })
    .await;

    let list = destinations(&server, &message, "").await;
    assert_eq!(texts(&list, "id"), [&*endpoint, &retried]);
    assert_eq!(json!(all(&list, "status")), json!([3, 1]));
    assert_eq!(texts(&list, "statusText"), ["sending", "pending"]);
    assert_eq!(json!(all(&list, "deleted")), json!([false, false]));
    let found = async |endpoint: &str, status: u8| {
        let list = messages(&server, endpoint, &format!("?status={status}")).await;
        let statuses = all(&list, "status");
        assert!(statuses.iter().all(|one| *one == status), "{list}");
        statuses.len()
    };
    for (endpoint, expected) in [(&endpoint, [0, 0, 0, 1]), (&retried, [0, 1, 0, 0])] {
        for (status, expected) in (0..).zip(expected) {
            assert_eq!(found(endpoint, status).await, expected, "status {status}");
        }
    }
    let stats = format!("/api/v1/app/app/endpoint/{endpoint}/stats");
    let sending = server.get(&stats).await.expect(200);
    assert_eq!(
        (&sending["sending"], &sending["pending"]),
        (&json!(1), &json!(0))
    );

    // A disabled endpoint's delivery is held, but not while it is being sent.
    server.set_disabled("app", &endpoint, true).await;
    let list = destinations(&server, &message, "").await;
    assert_eq!(list["data"][0]["status"], 3);
    assert_eq!(list["data"][0]["held"], false);

    receiver.open_gate();
    server.settle().await;
    let list = destinations(&server, &message, "").await;
    assert_eq!(json!(all(&list, "status")), json!([0, 1]));
    assert_eq!(found(&endpoint, 3).await, 0);
    let done = server.get(&stats).await.expect(200);
    assert_eq!((&done["sending"], &done["success"]), (&json!(0), &json!(1)));
}

#[actix_web::test]
async fn an_endpoint_that_was_deleted_stays_among_a_messages_destinations() {
    let ok = Receiver::ok().await;
    let down = Receiver::scripted([], Script::Status(500)).await;
    let mut server = Server::start().await;
    // A deleted endpoint's delivery is taken away some time later.
    server.leftovers_are_fine();
    let delivered = server.endpoint(&ok).await;
    server.advance(Duration::from_millis(10));
    let there = server.endpoint(&ok).await;
    server.advance(Duration::from_millis(10));
    let retried = server.endpoint(&down).await;
    let message = server.publish("a", json!({})).await;
    server.settle().await;
    for endpoint in [&delivered, &retried] {
        let path = format!("/api/v1/app/app/endpoint/{endpoint}");
        server.delete(&path).await.expect(204);
    }
    server.settle().await;

    let list = destinations(&server, &message, "").await;
    assert_eq!(texts(&list, "id"), [&*delivered, &there, &retried]);
    assert_eq!(json!(all(&list, "deleted")), json!([true, false, true]));
    assert_eq!(
        json!(all(&list, "status")),
        json!([0, 0, 2]),
        "no retry comes"
    );
    assert_eq!(json!(all(&list, "disabled")), json!([true, false, true]));
    let gone = &list["data"][2];
    assert_eq!(
        (&gone["nextAttempt"], &gone["url"]),
        (&json!(null), &json!(down.url()))
    );
    // What the contract's model requires, for SDKs.
    for name in [
        "createdAt",
        "description",
        "id",
        "statusText",
        "updatedAt",
        "url",
    ] {
        assert!(gone[name].is_string(), "{name} of {gone}");
    }
    let page = destinations(&server, &message, "?limit=2").await;
    let iterator = page["iterator"].as_str().expect("there is more");
    let rest = destinations(&server, &message, &format!("?iterator={iterator}")).await;
    assert_eq!(texts(&rest, "id"), [&*retried]);

    // Of others' messages nothing comes along.
    let other = server.publish("a", json!({})).await;
    server.settle().await;
    let list = destinations(&server, &other, "").await;
    assert_eq!(texts(&list, "id"), [&*there]);
}

#[actix_web::test]
async fn a_webhook_user_sees_only_deliveries_to_granted_endpoints() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let (mine, other) = (
        server.endpoint(&receiver).await,
        server.endpoint(&receiver).await,
    );
    let message = server.publish("a", json!({})).await;
    server.settle().await;
    let body = json!({"name": "u", "role": "webhook_user", "endpointIds": [mine]});
    let user = server.post("/api/v1/token", body).await.expect(201);
    let get = async |path: String| {
        let token = user["token"].as_str().expect("a token");
        server.call_as(token, Method::GET, &path, None).await
    };
    let list = get(format!("/api/v1/app/app/msg/{message}/endpoint")).await;
    assert_eq!(texts(&list.expect(200), "id"), [&*mine]);
    for (endpoint, status) in [(&mine, 200), (&other, 404)] {
        for what in ["msg", "stats", "attempt-stats"] {
            let answer = get(format!("/api/v1/app/app/endpoint/{endpoint}/{what}")).await;
            assert_eq!(answer.status, status, "{what}");
        }
    }
}

#[actix_web::test]
async fn attempts_come_with_their_messages_where_asked_for() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    let message = server.publish("a", json!({"n": 1})).await;
    server.settle().await;
    for path in [
        format!("/api/v1/app/app/attempt/endpoint/{endpoint}"),
        format!("/api/v1/app/app/attempt/msg/{message}"),
    ] {
        let list = server.get(&path).await.expect(200);
        assert_eq!(list["data"][0].get("msg"), None);
        let list = server.get(&format!("{path}?with_msg=true")).await;
        let shown = list.expect(200)["data"][0]["msg"].clone();
        assert_eq!(shown["id"], message);
        assert_eq!(shown["payload"], json!({"n": 1}));
        let list = server
            .get(&format!("{path}?with_msg=true&with_content=false"))
            .await;
        assert_eq!(list.expect(200)["data"][0]["msg"]["payload"], json!({}));
        let list = server.get(&format!("{path}?tag=none")).await.expect(200);
        assert_eq!(list["data"], json!([]));
    }
}

#[actix_web::test]
async fn an_example_is_chosen_by_its_index() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    let schemas = json!({"1": {"examples": [{"n": 0}, {"n": 1}]}});
    let body = json!({"name": "a", "description": "", "schemas": schemas});
    server.post("/api/v1/event-type", body).await.expect(201);
    let path = format!("/api/v1/app/app/endpoint/{endpoint}/send-example");
    for (index, expected) in [(json!(null), 0), (json!(0), 0), (json!(1), 1)] {
        let body = json!({"eventType": "a", "exampleIndex": index});
        let message = server.post(&path, body).await.expect(200);
        assert_eq!(message["payload"], json!({ "n": expected }));
    }
    let body = json!({"eventType": "a", "exampleIndex": 2});
    let answer = server.post(&path, body).await;
    assert_invalid(&answer, &["body.exampleIndex"]);
    server.settle().await;
}
