//! Sending many messages again: which of them, how often, and beside what else.

use std::time::Duration;

use serde_json::{Value, json};

use crate::jobs::{over, runs, status_of};
use crate::support::{
    Receiver, Request, Script, Server, assert_error, assert_invalid, keys, rot_in_journal,
    wait_until,
};

/// One attempt, and no other.
fn once_only(receiver: &Receiver) -> Value {
    json!({ "url": receiver.url(), "retry": { "delaysSeconds": [] } })
}

fn path(endpoint: &str, what: &str) -> String {
    format!("/api/v1/app/app/endpoint/{endpoint}/{what}")
}

/// Begins a job about everything since the epoch; returns its id.
async fn begin(server: &Server, endpoint: &str, what: &str, more: Value) -> String {
    let mut body = json!({ "since": "1970-01-01T00:00:00Z" });
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    let begun = server.post(&path(endpoint, what), body).await.expect(202);
    begun["id"].as_str().expect("an id").to_owned()
}

fn sent(requests: &[Request]) -> Vec<String> {
    let id = |request: &Request| request.header("webhook-id").expect("an id").to_owned();
    Vec::from_iter(requests.iter().map(id))
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort_unstable();
    ids
}

fn payloads(count: usize) -> Vec<Value> {
    (0..count).map(|number| json!({ "n": number })).collect()
}

#[actix_web::test]
async fn what_failed_for_good_is_recovered_and_nothing_else() {
    let receiver = Receiver::answering([500, 200, 500, 500]).await;
    let server = Server::start().await;
    let endpoint = server.endpoint_of("app", once_only(&receiver)).await;
    let mut messages = Vec::new();
    for number in 0..4 {
        messages.push(server.publish("a", json!({ "n": number })).await);
        server.settle().await;
        server.advance(Duration::from_secs(10));
    }
    // The first lies before, the last is not before the end.
    let since = (server.now().saturating_sub(Duration::from_secs(30))).to_string();
    let until = (server.now().saturating_sub(Duration::from_secs(10))).to_string();
    let body = json!({ "since": since, "until": until });
    let begun = server.post(&path(&endpoint, "recover"), body).await;
    let begun = begun.expect(202);
    assert_eq!(keys(&begun), ["id", "status", "task", "updatedAt"]);
    assert_eq!(begun["status"], "running");
    assert_eq!(begun["task"], "endpoint.recover");

    let job = over(&server, begun["id"].as_str().unwrap()).await;
    assert_eq!(job["data"], json!({ "messagesSent": 1 }));
    assert_eq!(
        job["progress"],
        json!({ "lookedAt": 2, "done": 1, "fraction": 1.0 })
    );
    server.settle().await;
    assert_eq!(sent(&receiver.requests()[4..]), [messages[2].as_str()]);
    assert_eq!(
        server.outcomes(&messages[2]).await,
        ["http 500", "delivered"]
    );
    let attempts = server.attempts(&messages[2]).await;
    assert_eq!(attempts[1]["triggerType"], 1);

    let all = begin(&server, &endpoint, "recover", json!({})).await;
    assert_eq!(over(&server, &all).await["data"]["messagesSent"], 2);
    server.settle().await;
    let found = sent(&receiver.requests()[5..]);
    assert_eq!(
        sorted(found),
        sorted(vec![messages[0].clone(), messages[3].clone()])
    );
    // Now nothing is left that failed.
    let none = begin(&server, &endpoint, "recover", json!({})).await;
    assert_eq!(over(&server, &none).await["data"]["messagesSent"], 0);
}

#[actix_web::test]
async fn what_waits_for_its_retry_is_recovered_at_once_and_goes_on_with_its_schedule() {
    let receiver = Receiver::answering([500; 13]).await;
    let server = Server::start().await;
    let delays = json!({ "url": receiver.url(), "retry": { "delaysSeconds": [3600, 3600] } });
    let endpoint = server.endpoint_of("app", delays).await;
    let later = (server.now() + Duration::from_secs(7200)).to_string();
    let never_tried = json!({ "eventType": "a", "payload": {}, "deliverAt": later });
    let mut messages = Vec::new();
    for payload in payloads(12) {
        messages.push(server.publish("a", payload).await);
    }
    let planned = server.post("/api/v1/app/app/msg", never_tried).await;
    let planned = planned.expect(202)["id"].as_str().unwrap().to_owned();
    server.settle().await;
    assert_eq!(receiver.requests().len(), 12);

    let job = begin(&server, &endpoint, "recover", json!({})).await;
    assert_eq!(over(&server, &job).await["data"]["messagesSent"], 12);
    server.settle().await;
    let again = sent(&receiver.requests()[12..]);
    assert_eq!(sorted(again), sorted(messages.clone()));

    // One of them failed again: its second retry comes by its schedule, and it has no third.
    let mut waiting = Vec::new();
    for message in &messages {
        if server.outcomes(message).await == ["http 500", "http 500"] {
            waiting.push(message.clone());
        }
    }
    assert_eq!(waiting.len(), 1);
    assert!(server.outcomes(&planned).await.is_empty());
    server.advance(Duration::from_secs(3600));
    server.settle().await;
    let outcomes = server.outcomes(&waiting[0]).await;
    assert_eq!(outcomes, ["http 500", "http 500", "delivered"]);
    let none = begin(&server, &endpoint, "recover", json!({})).await;
    assert_eq!(over(&server, &none).await["data"]["messagesSent"], 0);
    server.advance(Duration::from_secs(3600));
    server.settle().await;
    assert_eq!(server.outcomes(&planned).await, ["delivered"]);
}

#[actix_web::test]
async fn what_a_wider_filter_would_have_got_is_sent() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let body = json!({ "url": receiver.url(), "filterTypes": ["a"] });
    let endpoint = server.endpoint_of("app", body).await;
    let event_type = json!({ "name": "b", "description": "", "example": {} });
    server
        .post("/api/v1/event-type", event_type)
        .await
        .expect(201);
    let mut missed = Vec::new();
    for event_type in ["a", "b", "c", "b"] {
        let message = server.publish(event_type, json!({})).await;
        missed.extend((event_type == "b").then_some(message));
    }
    server.settle().await;
    assert_eq!(receiver.count(), 1);
    let none = begin(&server, &endpoint, "replay-missing", json!({})).await;
    assert_eq!(over(&server, &none).await["data"]["messagesSent"], 0);

    let wider = json!({ "filterTypes": ["a", "b"] });
    let of_endpoint = format!("/api/v1/app/app/endpoint/{endpoint}");
    server.patch(&of_endpoint, wider).await.expect(200);
    // A test is for the endpoint that it was made for.
    let other = Receiver::ok().await;
    let other = server.endpoint_of("app", json!({ "url": other.url(), "filterTypes": ["c"] }));
    let test = path(&other.await, "send-example");
    server
        .post(&test, json!({ "eventType": "b" }))
        .await
        .expect(200);

    let job = begin(&server, &endpoint, "replay-missing", json!({})).await;
    let job = over(&server, &job).await;
    assert_eq!(job["task"], "endpoint.replay");
    assert_eq!(job["data"]["messagesSent"], 2);
    server.settle().await;
    assert_eq!(sorted(sent(&receiver.requests()[1..])), sorted(missed));
    let again = begin(&server, &endpoint, "replay-missing", json!({})).await;
    assert_eq!(over(&server, &again).await["data"]["messagesSent"], 0);
}

#[actix_web::test]
async fn a_bulk_replay_sends_what_all_filters_want() {
    let receiver = Receiver::answering([200, 404, 500, 200]).await;
    let server = Server::start().await;
    let endpoint = server.endpoint_of("app", once_only(&receiver)).await;
    let mut messages = Vec::new();
    for (event_type, channel) in [("a", "red"), ("a", "blue"), ("b", "red"), ("b", "blue")] {
        let body = json!({ "eventType": event_type, "channels": [channel], "payload": {} });
        let message = server.post("/api/v1/app/app/msg", body).await.expect(202);
        messages.push(message["id"].as_str().unwrap().to_owned());
        server.settle().await;
    }
    // After the first of these, all but those that fail again are delivered.
    for (filter, expected) in [
        (json!({ "statusCodeClass": 400 }), vec![1]),
        (json!({ "status": 2 }), vec![2]),
        (json!({ "status": 1 }), vec![]),
        (json!({ "status": 0, "channel": "red" }), vec![0, 2]),
        (
            json!({ "eventTypes": ["b", "c"], "channel": "blue" }),
            vec![3],
        ),
        (json!({ "tag": "none has it" }), vec![]),
        (json!({ "statusCodeClass": 500 }), vec![]),
        (json!({ "eventTypes": null }), vec![0, 1, 2, 3]),
    ] {
        let before = receiver.count();
        let job = begin(&server, &endpoint, "bulk-replay", filter.clone()).await;
        let job = over(&server, &job).await;
        assert_eq!(job["task"], "endpoint.bulk-replay");
        assert_eq!(job["data"]["messagesSent"], expected.len(), "{filter}");
        server.settle().await;
        let found = sorted(sent(&receiver.requests()[before..]));
        let expected = expected
            .into_iter()
            .map(|number: usize| messages[number].clone());
        assert_eq!(found, sorted(expected.collect()), "{filter}");
    }
}

/// A server whose endpoint was deleted and made anew, so that all of it is missing there.
async fn all_missing(receiver: &Receiver, count: usize) -> (Server, String, Vec<String>) {
    let server = Server::start_with(|config| config.delivery.in_flight_per_endpoint_max = 2).await;
    server.application("app").await;
    let messages = server.publish_all("app", payloads(count)).await;
    let endpoint = server.endpoint(receiver).await;
    (server, endpoint, sorted(messages))
}

#[actix_web::test]
async fn a_restart_in_the_middle_repeats_nothing_and_leaves_nothing_out() {
    const COUNT: usize = 300;
    let receiver = Receiver::ok().await;
    let (mut server, endpoint, messages) = all_missing(&receiver, COUNT).await;
    let job = begin(&server, &endpoint, "replay-missing", json!({})).await;
    for part in [20, 100, 200] {
        receiver.received(part).await;
        assert!(runs(&server, &job), "it is in the middle");
        server = server.restart().await;
    }
    let job = over(&server, &job).await;
    assert_eq!(
        job["progress"],
        json!({ "lookedAt": COUNT, "done": COUNT, "fraction": 1.0 })
    );
    server.settle().await;
    // Oldest first, but for the few that are on their way side by side.
    assert_eq!(sorted(sent(&receiver.requests())), messages);
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn a_crash_in_the_middle_repeats_nothing_that_was_recorded() {
    const COUNT: usize = 100;
    let receiver = Receiver::scripted([], Script::AtGate(200)).await;
    let (mut server, endpoint, _) = all_missing(&receiver, COUNT).await;
    server.leftovers_are_fine();
    let job = begin(&server, &endpoint, "replay-missing", json!({})).await;
    receiver.received(2).await;
    wait_until("the lane to be full", || {
        server.store().waiting_count() == 4
    })
    .await;
    let copy = server.after_a_crash().await;
    receiver.open_gate();
    for server in [&server, &copy] {
        let job = over(server, &job).await;
        assert_eq!(job["progress"]["done"], COUNT);
        server.settle().await;
    }
    // Each sent all of it once: the two that were being sent at the crash, too.
    assert_eq!(receiver.count(), 2 * COUNT);
}

#[actix_web::test]
async fn a_canceled_replay_sends_nothing_more() {
    let receiver = Receiver::scripted([], Script::AtGate(200)).await;
    let (server, endpoint, _) = all_missing(&receiver, 100).await;
    let job = begin(&server, &endpoint, "replay-missing", json!({})).await;
    receiver.received(2).await;
    wait_until("the lane to be full", || {
        server.store().waiting_count() == 4
    })
    .await;
    let cancel = format!("/api/v1/background-task/{job}/cancel");
    for _ in 0..2 {
        let canceled = server.post(&cancel, Value::Null).await.expect(200);
        assert_eq!(canceled["status"], "failed");
        assert_eq!(canceled["state"], "canceled");
        assert_eq!(canceled["data"]["messagesSent"], 4);
    }
    receiver.open_gate();
    server.settle().await;
    // What was sent stays sent.
    assert_eq!(receiver.count(), 4);
    let other = begin(&server, &endpoint, "recover", json!({})).await;
    over(&server, &other).await;
    let cancel = format!("/api/v1/background-task/{other}/cancel");
    assert_error(&server.post(&cancel, Value::Null).await, 409, "conflict");
}

#[actix_web::test]
async fn a_replay_pauses_while_its_endpoint_is_disabled() {
    let receiver = Receiver::ok().await;
    let (server, endpoint, messages) = all_missing(&receiver, 30).await;
    server.set_disabled("app", &endpoint, true).await;
    let job = begin(&server, &endpoint, "replay-missing", json!({})).await;
    let paused = status_of(&server, &job).await;
    assert_eq!(paused["status"], "running");
    assert_eq!(paused["state"], "paused");
    assert_eq!(paused["reason"], "the endpoint is disabled");
    let server = server.restart().await;
    assert_eq!(status_of(&server, &job).await["state"], "paused");
    assert_eq!(
        server.store().waiting_count(),
        0,
        "nothing is put there to be held"
    );
    server.set_disabled("app", &endpoint, false).await;
    let job = over(&server, &job).await;
    assert_eq!(job["state"], "finished");
    server.settle().await;
    assert_eq!(sorted(sent(&receiver.requests())), messages);
}

#[actix_web::test]
async fn a_replay_to_what_is_deleted_fails_and_says_so() {
    let receiver = Receiver::scripted([], Script::AtGate(200)).await;
    for (deleted, reason) in [
        ("/api/v1/app/app/endpoint/{}", "the endpoint was deleted"),
        ("/api/v1/app/app", "the application was deleted"),
    ] {
        let (mut server, endpoint, _) = all_missing(&receiver, 30).await;
        server.leftovers_are_fine();
        let before = receiver.count();
        let job = begin(&server, &endpoint, "replay-missing", json!({})).await;
        receiver.received(before + 2).await;
        server
            .delete(&deleted.replace("{}", &endpoint))
            .await
            .expect(204);
        let job = over(&server, &job).await;
        assert_eq!(job["status"], "failed");
        assert_eq!(job["reason"], reason);
    }
    receiver.open_gate();
}

/// The turns before the damage are done, and what is behind it is had by another job.
#[actix_web::test]
async fn a_replay_ends_at_damaged_history_and_says_what_can_be_asked_for() {
    let receiver = Receiver::scripted([], Script::Status(500)).await;
    let server = Server::start().await;
    let endpoint = server.endpoint_of("app", once_only(&receiver)).await;
    for name in ["first", "rotten", "last"] {
        let body = json!({ "eventType": format!("{name}.event"), "payload": {} });
        server.post("/api/v1/app/app/msg", body).await.expect(202);
        server.settle().await;
        server.advance(Duration::from_secs(60));
    }
    let copy = server.copied().await;
    // The message itself: the statistics of its attempts need not name its type.
    rot_in_journal(copy.path(), b"rotten.event");

    let mut server = Server::start_on(copy, &server).await;
    server.leftovers_are_fine();
    receiver.then(Script::Status(200));
    let before = receiver.count();
    let job = begin(&server, &endpoint, "recover", json!({})).await;
    let job = over(&server, &job).await;
    assert_eq!(job["status"], "failed");
    let reason = job["reason"].as_str().expect("a reason");
    let times = reason
        .split([' ', ';'])
        .filter(|word| word.starts_with("20"));
    let times = Vec::from_iter(times);
    assert_eq!(times.len(), 2, "{reason}");
    server.settle().await;
    assert_eq!(receiver.count(), before + 1, "the first was sent");

    for (more, is_first) in [
        (json!({ "until": times[0] }), true),
        (json!({ "since": times[1] }), false),
    ] {
        let job = begin(&server, &endpoint, "recover", more).await;
        assert_eq!(
            over(&server, &job).await["status"],
            "finished",
            "{is_first}"
        );
        server.settle().await;
    }
    assert_eq!(
        receiver.count(),
        before + 2,
        "the first was not sent twice, the last once"
    );
}

#[actix_web::test]
async fn what_is_published_meanwhile_waits_behind_a_few_only() {
    const COUNT: usize = 300;
    let receiver = Receiver::scripted([], Script::AtGate(200)).await;
    let (server, endpoint, _) = all_missing(&receiver, COUNT).await;
    let job = begin(&server, &endpoint, "replay-missing", json!({})).await;
    receiver.received(2).await;
    wait_until("the lane to be full", || {
        server.store().waiting_count() == 4
    })
    .await;
    let live = server
        .publish("invoice.paid", json!({ "live": true }))
        .await;
    let other = Receiver::ok().await;
    server
        .endpoint_of("other", json!({ "url": other.url() }))
        .await;
    server.publish_to("other", "a", json!({})).await;
    // Another endpoint does not wait at all.
    other.received(1).await;
    assert_eq!(receiver.count(), 2);
    receiver.open_gate();
    over(&server, &job).await;
    server.settle().await;
    let sent = sent(&receiver.requests());
    assert_eq!(sent.len(), COUNT + 1);
    let place = sent.iter().position(|id| *id == live).expect("it was sent");
    assert!(place <= 5, "it waited behind {place}");
}

#[actix_web::test]
async fn a_replay_waits_where_too_much_waits() {
    let receiver = Receiver::ok().await;
    let hanging = Receiver::scripted([], Script::AtGate(200)).await;
    let server = Server::start_with(|config| {
        config.delivery.in_flight_per_endpoint_max = 2;
        config.limits.waiting_max = 10;
    })
    .await;
    server.application("app").await;
    server.publish_all("app", payloads(20)).await;
    let endpoint = server.endpoint(&receiver).await;
    let url = json!({ "url": hanging.url() });
    server.endpoint_of("full", url).await;
    for number in 0..10 {
        server.publish_to("full", "a", json!({ "n": number })).await;
    }
    let job = begin(&server, &endpoint, "replay-missing", json!({})).await;
    let paused = status_of(&server, &job).await;
    assert_eq!(paused["state"], "paused");
    let reason = paused["reason"].as_str().expect("a sentence");
    assert!(reason.contains("limits.waiting_max"), "{reason}");
    assert_eq!(receiver.count(), 0);
    hanging.open_gate();
    over(&server, &job).await;
    server.settle().await;
    assert_eq!(receiver.count(), 20);
}

#[actix_web::test]
async fn a_replay_wants_a_stretch_of_the_past() {
    let server = Server::start().await;
    let receiver = Receiver::ok().await;
    let endpoint = server.endpoint(&receiver).await;
    for what in ["recover", "replay-missing", "bulk-replay"] {
        let path = path(&endpoint, what);
        let answer = server.post(&path, json!({})).await;
        assert_invalid(&answer, &["body.since"]);
        let later = (server.now() + Duration::from_secs(1)).to_string();
        let answer = server.post(&path, json!({ "since": later })).await;
        assert_invalid(&answer, &["body.since"]);
        let body = json!({ "since": "2024-01-02T00:00:00Z", "until": "2024-01-01T00:00:00Z" });
        assert_invalid(&server.post(&path, body).await, &["body.since"]);
    }
    let nowhere = path("ep_none", "recover");
    let body = json!({ "since": "2024-01-01T00:00:00Z" });
    assert_error(&server.post(&nowhere, body).await, 404, "not_found");
}

#[actix_web::test]
async fn a_repeated_request_begins_one_job() {
    let receiver = Receiver::answering([500]).await;
    let server = Server::start().await;
    let endpoint = server.endpoint_of("app", once_only(&receiver)).await;
    server.publish("a", json!({})).await;
    server.settle().await;
    let body = json!({ "since": "2024-01-01T00:00:00Z" }).to_string();
    let recover = async |body: &str| {
        let headers = [("idempotency-key", "k")];
        let path = path(&endpoint, "recover");
        let method = awc::http::Method::POST;
        server
            .call(method, &path, &headers, Some(body.to_owned()))
            .await
    };
    let first = recover(&body).await.expect(202);
    over(&server, first["id"].as_str().unwrap()).await;
    server.settle().await;
    assert_eq!(recover(&body).await.expect(202), first);
    let other = body.replace("2024", "2023");
    assert_error(&recover(&other).await, 409, "conflict");
    let list = server.get("/api/v1/background-task").await.expect(200);
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
    assert_eq!(receiver.count(), 2);
}
