//! The list of lanes that have work.

use std::time::Duration;

use awc::http::Method;
use serde_json::{Value, json};

use crate::jwt;
use crate::support::{Receiver, Script, Server, assert_invalid, wait_until};

async fn lanes(server: &Server) -> Vec<Value> {
    let page = server.get("/api/v1/lane").await.expect(200);
    page["data"].as_array().expect("a list").clone()
}

#[actix_web::test]
async fn lanes_with_work_are_listed_with_their_heads_the_worst_first() {
    let (hung, failing, good) = (
        Receiver::scripted([], Script::Hang).await,
        Receiver::answering([500]).await,
        Receiver::ok().await,
    );
    let mut server = Server::start().await;
    server.leftovers_are_fine();
    assert_eq!(lanes(&server).await, [Value::Null; 0]);
    let held = server
        .endpoint_of("app", json!({ "url": good.url(), "disabled": true }))
        .await;
    let retried = json!({ "url": failing.url(), "retry": { "delaysSeconds": [600] } });
    let retried = server.endpoint_of("app", retried).await;
    let sending = server.endpoint(&hung).await;
    server.endpoint(&good).await;
    server.publish("a", json!({})).await;
    wait_until("one to hang and the others to be recorded", || {
        let sent = [&hung, &failing, &good].map(Receiver::count);
        sent == [1; 3] && server.in_flight() == 1 && server.store().is_idle()
    })
    .await;
    let found = lanes(&server).await;
    let ids: Vec<&str> = found
        .iter()
        .map(|one| one["endpointId"].as_str().unwrap())
        .collect();
    assert_eq!(ids, [&sending, &retried, &held]);
    let states: Vec<&str> = found
        .iter()
        .map(|one| one["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["sending", "waiting", "held"]);
    assert!(
        found
            .iter()
            .all(|lane| lane["waiting"] == 1 && lane["waitingIsMore"] == false)
    );
    assert_eq!(found[0]["oldestDueAt"], found[0]["nextDueAt"]);
    let due: postrider::clock::Timestamp = found[1]["nextDueAt"].as_str().unwrap().parse().unwrap();
    assert!(due.since(server.now()) > Duration::from_secs(400));
    let one = server.get("/api/v1/lane?limit=1").await.expect(200);
    assert_eq!(
        (one["data"].as_array().unwrap().len(), &one["total"]),
        (1, &json!(3))
    );
    for limit in ["0", "101", "x"] {
        let answer = server.get(&format!("/api/v1/lane?limit={limit}")).await;
        assert_invalid(&answer, &["query.limit"]);
    }
    for (role, status) in [
        ("webhook_admin", 200),
        ("webhook_user", 403),
        ("publisher", 403),
    ] {
        let made = json!({ "name": "t", "role": role });
        let made = server.post("/api/v1/token", made).await.expect(201);
        let token = made["token"].as_str().expect("a text");
        let answer = server
            .call_as(token, Method::GET, "/api/v1/lane", None)
            .await;
        assert_eq!(answer.status, status, "{role}");
    }
}

#[actix_web::test]
async fn own_endpoints_are_shown_to_owners_and_nothing_to_other_organisations() {
    let receiver = Receiver::answering([500]).await;
    let mut server = jwt::start().await;
    server.leftovers_are_fine();
    let own = json!({ "url": receiver.url(), "eventTypes": ["endpoint.created"] });
    let own = server
        .post("/api/v1/operational-webhook/endpoint", own)
        .await;
    let own = own.expect(201);
    server
        .endpoint_of("app", json!({ "url": receiver.url() }))
        .await;
    server.settle().await;
    let [lane] = &lanes(&server).await[..] else {
        panic!("the own endpoint waits");
    };
    assert_eq!(lane["endpointId"], own["id"]);
    assert_eq!(
        (&lane["applicationId"], &lane["applicationName"]),
        (&Value::Null, &Value::Null)
    );
    let admin = json!({ "name": "t", "role": "webhook_admin" });
    let admin = server.post("/api/v1/token", admin).await.expect(201);
    let admin = admin["token"].as_str().expect("a text").to_owned();
    let other = jwt::owner_of(&server, jwt::OTHER);
    for token in [admin, other] {
        let answer = server
            .call_as(&token, Method::GET, "/api/v1/lane", None)
            .await;
        assert_eq!(answer.expect(200), json!({ "data": [], "total": 0 }));
    }
}
