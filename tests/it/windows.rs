//! Stretches of time: by the time that is shown, every instant has each item of a list on exactly one
//! of its sides.

use std::time::Duration;

use postrider::clock::Timestamp;
use serde_json::{Value, json};

use crate::jobs::over;
use crate::support::{Receiver, Script, Server, wait_until};

const MESSAGES: &str = "/api/v1/app/app/msg";
const OWN: &str = "/api/v1/operational-webhook/endpoint";

/// Instants around these times: each millisecond, and one between it and the next.
fn instants(times: impl IntoIterator<Item = Timestamp>) -> Vec<String> {
    let times: Vec<Timestamp> = times.into_iter().collect();
    let first = times.iter().min().expect("a time").as_millis() - 2;
    let last = times.iter().max().expect("a time").as_millis() + 2;
    let of = |millisecond| {
        let whole = Timestamp(millisecond).to_string();
        let between = whole.replace('Z', "500Z");
        [whole, between]
    };
    (first..=last).flat_map(of).collect()
}

/// The lists of the document that take `before` and `after`, with the ids below in their paths.
async fn lists(server: &Server, message: &str) -> Vec<String> {
    let document = server.get("/openapi.json").await.expect(200);
    let paths = document["paths"].as_object().expect("paths");
    let takes_times = |operation: &Value| {
        let parameters = operation["parameters"].as_array();
        let names = parameters
            .into_iter()
            .flatten()
            .map(|one| one["name"].clone());
        names
            .filter(|name| name == "before" || name == "after")
            .count()
            == 2
    };
    let lists = paths
        .iter()
        .filter(|(_, methods)| takes_times(&methods["get"]));
    let filled = |path: &String| {
        let path = path
            .replace("{app_id}", "app")
            .replace("{endpoint_id}", "e");
        path.replace("{msg_id}", message)
    };
    lists.map(|(path, _)| filled(path)).collect()
}

/// The ids of a list with the times that it shows.
async fn items(server: &Server, path: &str) -> Vec<(String, Timestamp)> {
    let list = server.get(path).await.expect(200);
    let text = |item: &Value, field| item[field].as_str().expect("text").to_owned();
    let items = list["data"].as_array().expect("a list").iter();
    items
        .map(|item| {
            let time = text(item, "timestamp").parse();
            (text(item, "id"), time.expect("a time"))
        })
        .collect()
}

/// A server with messages and attempts of many milliseconds, two of which are attempts that took
/// long, and the id of a message with many attempts.
async fn filled() -> (Server, Receiver, String) {
    let receiver = Receiver::scripted(
        [Script::AtGate(200), Script::AtGate(200)],
        Script::Status(200),
    );
    let receiver = receiver.await;
    let server = Server::start_with(|config| config.store.slice_bytes = 8000).await;
    server.application("app").await;
    server
        .post(
            OWN,
            json!({ "url": receiver.url(), "uid": "e", "eventTypes": ["endpoint.updated"] }),
        )
        .await
        .expect(201);
    server
        .endpoint_of("app", json!({ "url": receiver.url(), "uid": "e" }))
        .await;
    let mut first = None;
    for step in [0, 1, 1, 0, 3, 5, 1] {
        server.advance(Duration::from_millis(step));
        let message = server
            .publish("a", json!({ "text": "x".repeat(400) }))
            .await;
        first.get_or_insert(message);
    }
    receiver.received(2).await;
    server.advance(Duration::from_millis(4));
    receiver.open_gate();
    server.settle().await;
    let first = first.expect("the first of them");
    for step in [5, 4, 6, 5, 4] {
        server.advance(Duration::from_millis(step));
        let path = format!("{MESSAGES}/{first}/endpoint/e/resend");
        server.post(&path, json!({})).await.expect(202);
        server.settle().await;
        let change = json!({ "description": format!("at {}", server.now()) });
        server
            .patch("/api/v1/app/app/endpoint/e", change)
            .await
            .expect(200);
        server.settle().await;
    }
    (server, receiver, first)
}

#[actix_web::test]
async fn every_instant_has_each_item_of_each_list_on_one_side() {
    let (server, _receiver, message) = filled().await;
    let lists = lists(&server, &message).await;
    assert!(lists.len() >= 5, "{lists:?}");
    for path in lists {
        let all = items(&server, &format!("{path}?limit=100")).await;
        let mut times: Vec<Timestamp> = all.iter().map(|(_, time)| *time).collect();
        times.sort_unstable();
        times.dedup();
        assert!(times.len() >= 4, "{path}: {all:?}");
        for at in instants(times) {
            // What is shown has whole milliseconds: one before the instant is on its earlier side.
            let from = Timestamp::not_before(&at).expect("an instant");
            let (later, earlier): (Vec<_>, Vec<_>) =
                all.iter().cloned().partition(|(_, time)| *time >= from);
            for (side, expected) in [("after", later), ("before", earlier)] {
                let found = items(&server, &format!("{path}?limit=100&{side}={at}")).await;
                assert_eq!(found, expected, "{path} {side} {at}");
            }
        }
    }
}

/// The same of a job's stretch, from `since` to before `until`.
#[actix_web::test]
async fn stretches_that_meet_count_each_message_once() {
    let server = Server::start_with(|config| config.store.slice_bytes = 4000).await;
    server.application("app").await;
    let began = server.now();
    let mut times = Vec::new();
    for step in [0, 1, 1, 0, 2, 3, 1] {
        server.advance(Duration::from_millis(step));
        let body = json!({ "eventType": "a", "payload": { "text": "x".repeat(400) } });
        let made = server.post(MESSAGES, body).await.expect(202);
        let time = made["timestamp"].as_str().expect("a time").parse();
        times.push(time.expect("a time"));
    }
    server.advance(Duration::from_secs(60));
    let counted = async |since: &str, until: &str| {
        let body = json!({ "since": since, "until": until });
        let begun = server
            .post("/api/v1/stats/usage/app", body)
            .await
            .expect(202);
        let task = over(&server, begun["id"].as_str().expect("an id")).await;
        task["data"]["appStats"][0]["messages"]
            .as_u64()
            .expect("a number")
    };
    let first = Timestamp(began.as_millis() - 10).to_string();
    let last = (began + Duration::from_secs(1)).to_string();
    for at in instants(times.clone()) {
        let from = Timestamp::not_before(&at).expect("an instant");
        let later = times.iter().filter(|time| **time >= from).count() as u64;
        let earlier = times.len() as u64 - later;
        let found = (counted(&first, &at).await, counted(&at, &last).await);
        assert_eq!(found, (earlier, later), "{at}");
    }
    wait_until("nothing to be left", || server.store().is_idle()).await;
}
