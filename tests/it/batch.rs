//! `POST …/msg/batch`: many messages in one request, each with its own result, in one write.

use std::collections::BTreeSet;
use std::time::Duration;

use awc::http::Method;
use serde_json::{Value, json};

use crate::support::{
    Answer, Receiver, Server, assert_error, assert_invalid, copy_directory, keys, texts, together,
};

const MESSAGES: &str = "/api/v1/app/app/msg";
const BATCH: &str = "/api/v1/app/app/msg/batch";

async fn started() -> Server {
    let server = Server::start().await;
    server.application("app").await;
    server
}

fn message(number: usize) -> Value {
    json!({ "eventType": "a", "eventId": format!("e-{number}"), "payload": { "n": number } })
}

fn messages(count: usize) -> Value {
    Value::from_iter((0..count).map(message))
}

async fn post_lines(server: &Server, content_type: &str, body: String) -> Answer {
    let headers = [("content-type", content_type)];
    server.call(Method::POST, BATCH, &headers, Some(body)).await
}

fn statuses(batch: &Value) -> Vec<u64> {
    let data = batch["data"].as_array().expect("results");
    let status = |item: &Value| item["status"].as_u64().expect("a status");
    data.iter().map(status).collect()
}

fn id(item: &Value) -> &str {
    item["message"]["id"].as_str().expect("an id")
}

#[actix_web::test]
async fn each_message_has_its_result_in_the_order_given() {
    let receiver = Receiver::ok().await;
    let server = Server::start_with(|config| config.limits.payload_bytes = 100).await;
    server.endpoint(&receiver).await;
    server.publish("a", json!({})).await;
    server.post(MESSAGES, message(7)).await.expect(202);
    let event_type = json!({ "name": "old", "description": "", "archived": true });
    server
        .post("/api/v1/event-type", event_type)
        .await
        .expect(201);
    let long = json!({ "eventType": "a", "payload": { "x": "y".repeat(100) } });
    let bodies = [
        message(1),
        json!({ "eventType": "a b", "payload": [], "tags": [] }),
        message(2),
        // Used in the batch, and before it.
        message(1),
        message(7),
        long,
        json!({ "eventType": "old", "payload": {} }),
        json!([message(3)]),
        json!({ "eventType": "a", "payload": 1, "channels": [1] }),
        message(4),
    ];
    let answer = server.post(BATCH, json!(bodies)).await.expect(202);
    assert_eq!(keys(&answer), ["accepted", "data", "refused"]);
    assert_eq!(
        (&answer["accepted"], &answer["refused"]),
        (&json!(3), &json!(7))
    );
    let expected = [202, 422, 202, 409, 409, 413, 422, 422, 422, 202];
    assert_eq!(statuses(&answer), expected);
    for (item, body) in answer["data"]
        .as_array()
        .expect("results")
        .iter()
        .zip(&bodies)
    {
        match item["status"] == 202 {
            true => {
                assert_eq!(keys(item), ["message", "status"]);
                assert_eq!(item["message"]["eventId"], body["eventId"]);
                assert_eq!(item["message"]["payload"], json!({}));
                let stored = server.get(&format!("{MESSAGES}/{}", id(item))).await;
                let stored = stored.expect(200);
                assert_eq!(stored["payload"], body["payload"]);
                let mut published = item["message"].clone();
                let fields = published.as_object_mut().expect("a message");
                assert!(fields.remove("endpointsMatched").is_some());
                assert_eq!(keys(&stored), keys(&published));
            }
            // As it would have been alone.
            false => {
                let alone = server.post(MESSAGES, body.clone()).await;
                assert_eq!(item["status"], alone.status, "{body}");
                assert_eq!(item["error"], alone.json(), "{body}");
            }
        }
    }
    server.settle().await;
    assert_eq!(receiver.count(), 5);
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn an_array_and_lines_are_the_same() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    server.endpoint(&receiver).await;
    // The payload's bytes are kept.
    let line = |event_id: &str| {
        format!(r#"{{"eventType":"a","eventId":"{event_id}","payload":{{ "n" : 1.10 }}}}"#)
    };
    let lines = |prefix: &str| {
        format!(
            "\n{}\r\n\n {}\n",
            line(&format!("{prefix}1")),
            line(&format!("{prefix}2"))
        )
    };
    for (content_type, body) in [
        (
            "application/json",
            format!(" [{} ,\n{}]\n", line("a1"), line("a2")),
        ),
        ("application/json", lines("b")),
        ("application/x-ndjson", lines("c")),
        ("application/jsonl; charset=utf-8", lines("d")),
    ] {
        let answer = post_lines(&server, content_type, body).await.expect(202);
        assert_eq!(statuses(&answer), [202, 202]);
        server.settle().await;
        let sent = receiver.requests().pop().expect("it was sent");
        assert_eq!(String::from_utf8_lossy(&sent.body), r#"{ "n" : 1.10 }"#);
    }
    assert_eq!(receiver.count(), 8);
    // A line that is wrong is refused alone; an array that is wrong is none.
    let half = format!("{}\n{{\"eventType\":\n{}", line("e1"), line("e2"));
    let answer = post_lines(&server, "application/x-ndjson", half).await;
    assert_eq!(statuses(&answer.expect(202)), [202, 422, 202]);
    let half = format!("[{},{{\"eventType\":,{}]", line("f1"), line("f2"));
    let answer = post_lines(&server, "application/json", half).await;
    assert_invalid(&answer, &["body"]);
    assert_eq!(server.get(&format!("{MESSAGES}/f1")).await.status, 404);
    server.settle().await;
}

#[actix_web::test]
async fn payloads_are_shown_where_they_are_asked_for() {
    let server = started().await;
    let path = format!("{BATCH}?with_content=true");
    let answer = server.post(&path, messages(2)).await.expect(202);
    assert_eq!(answer["data"][1]["message"]["payload"], json!({ "n": 1 }));
    let path = format!("{BATCH}?with_content=1");
    let wrong = server.post(&path, messages(1)).await;
    assert_invalid(&wrong, &["query.with_content"]);
}

#[actix_web::test]
async fn a_batch_of_which_nothing_is_accepted_says_what_is_wrong_with_each() {
    let server = started().await;
    server.post(MESSAGES, message(1)).await.expect(202);
    for body in [json!([]), json!(7), json!("[]")] {
        assert_invalid(&server.post(BATCH, body).await, &["body"]);
    }
    for body in ["", "\n\n", "[", "[{}]x"] {
        let answer = server
            .call(Method::POST, BATCH, &[], Some(body.to_owned()))
            .await;
        assert_invalid(&answer, &["body"]);
    }
    let wrong = json!([{}, { "eventType": "a", "payload": {}, "channels": ["ö"] }, 7, message(1)]);
    let answer = server.post(BATCH, wrong).await;
    let places = [
        "body.0.eventType",
        "body.0.payload",
        "body.1.channels.0",
        "body.2",
        "body.3",
    ];
    assert_invalid(&answer, &places);
    assert_eq!(answer.json()["detail"][4]["type"], "conflict");
    let missing = server.post("/api/v1/app/none/msg/batch", messages(1)).await;
    assert_error(&missing, 404, "not_found");
    let list = server.get(MESSAGES).await.expect(200);
    assert_eq!(texts(&list, "eventId"), ["e-1"]);
}

#[actix_web::test]
async fn an_application_can_come_along() {
    let server = Server::start().await;
    let with = |uid: &str| {
        json!([
            { "eventType": "a", "payload": {} },
            { "eventType": "a", "payload": {}, "application": { "name": "New", "uid": uid } },
        ])
    };
    let path = "/api/v1/app/new/msg/batch";
    assert_error(&server.post(path, with("other")).await, 404, "not_found");
    for _ in 0..2 {
        let answer = server.post(path, with("new")).await.expect(202);
        assert_eq!(answer["accepted"], 2);
    }
    let apps = server.get("/api/v1/app").await.expect(200);
    assert_eq!(texts(&apps, "uid"), ["new"]);
}

#[actix_web::test]
async fn a_batch_has_limits() {
    let server = Server::start_with(|config| {
        config.limits.batch_messages_max = 5;
        config.limits.batch_bytes = 2_000;
        config.limits.batch_deliveries_max = 7;
        config.limits.held_max = 11;
    })
    .await;
    let receiver = Receiver::ok().await;
    for _ in 0..2 {
        let endpoint = server.endpoint(&receiver).await;
        server.set_disabled("app", &endpoint, true).await;
    }
    let numbered = |range: std::ops::Range<usize>| Value::from_iter(range.map(message));
    for (body, limit) in [
        (numbered(0..6), "limits.batch_messages_max"),
        (
            json!([{ "eventType": "a", "payload": { "x": "y".repeat(2_000) } }]),
            "longer",
        ),
        (numbered(0..4), "limits.batch_deliveries_max"),
    ] {
        let answer = server.post(BATCH, body).await;
        assert_error(&answer, 413, "payload_too_large");
        assert!(answer.text.contains(limit), "{}", answer.text);
    }
    let three = server.post(BATCH, numbered(0..3)).await.expect(202);
    assert_eq!(three["accepted"], 3);
    // Five more would fit, and these are six: it is refused whole.
    let refused = server.post(BATCH, numbered(3..6)).await;
    assert_error(&refused, 429, "too_many");
    assert_eq!(server.store().waiting_count(), 6);
    server.post(BATCH, numbered(3..5)).await.expect(202);
    let mut server = server;
    server.leftovers_are_fine();
}

#[actix_web::test]
async fn the_largest_batch_is_one_commit() {
    let server = started().await;
    let receiver = Receiver::ok().await;
    for _ in 0..10 {
        let endpoint = server.endpoint(&receiver).await;
        server.set_disabled("app", &endpoint, true).await;
    }
    let before = server.copied().await;
    let pad = "x".repeat(8_000);
    let batch = (0..1_000)
        .map(|number| json!({ "eventType": "a", "payload": { "n": number, "pad": pad } }));
    let answer = server
        .post(BATCH, Value::from_iter(batch))
        .await
        .expect(202);
    assert_eq!(answer["accepted"], 1_000);
    let ids: BTreeSet<&str> = answer["data"]
        .as_array()
        .expect("results")
        .iter()
        .map(id)
        .collect();
    assert_eq!(ids.len(), 1_000);
    assert_eq!(server.store().waiting_count(), 10_000);

    // A process that died while it appended the record left a part of that: nothing of it is there.
    let databases_of_before = async |server: &Server| {
        let copy = server.copied().await;
        for database in ["data/live", "data/slices"] {
            let (from, to) = (before.path().join(database), copy.path().join(database));
            std::fs::remove_dir_all(&to).expect("it is there");
            copy_directory(&from, &to);
        }
        // What has not been appended yet is in no note of the journal's position either.
        let note = "data/applied";
        std::fs::copy(before.path().join(note), copy.path().join(note)).expect("it is there");
        copy
    };
    let torn = databases_of_before(&server).await;
    tear_last_record(&torn.path().join("data/journal"));
    let without = Server::start_on(torn, &server).await;
    assert_eq!(without.store().waiting_count(), 0);
    let list = without.get(MESSAGES).await.expect(200);
    assert_eq!(list["data"], json!([]));
    without.stop_and_verify().await;

    // One that died later has all, whether the databases have it or not.
    let behind = databases_of_before(&server).await;
    let behind = Server::start_on(behind, &server).await;
    for mut whole in [behind, server.after_a_crash().await] {
        assert_eq!(whole.store().waiting_count(), 10_000);
        for id in [ids.first(), ids.last()] {
            let path = format!("{MESSAGES}/{}", id.expect("an id"));
            whole.get(&path).await.expect(200);
        }
        whole.leftovers_are_fine();
        has_a_thousand_messages(whole).await;
    }
    let mut server = server;
    server.leftovers_are_fine();
}

async fn has_a_thousand_messages(server: Server) {
    let counts = server.stop_and_verify().await;
    assert!(
        counts.contains(&("messages".to_owned(), 1_000)),
        "{counts:?}"
    );
}

#[actix_web::test]
async fn an_idempotency_key_is_the_whole_batchs() {
    for slice_hours in [1, 24] {
        let receiver = Receiver::ok().await;
        let server = Server::start_with(|config| config.store.slice_hours = slice_hours).await;
        server.endpoint(&receiver).await;
        let post = async |server: &Server, body: &Value| {
            let key = [("idempotency-key", "k")];
            server
                .call(Method::POST, BATCH, &key, Some(body.to_string()))
                .await
        };
        // Nothing is remembered of what was refused.
        assert_eq!(post(&server, &json!([{}])).await.status, 422);
        let batch = json!([message(1), {}, message(2)]);
        let burst = (0..8).map(|_| post(&server, &batch));
        let answers = together(burst).await;
        let first = answers[0].json();
        assert_eq!(statuses(&first), [202, 422, 202]);
        for answer in answers {
            assert_eq!(answer.expect(202), first);
        }
        let other = post(&server, &messages(2)).await;
        assert_error(&other, 409, "conflict");
        server.settle().await;
        server.advance(Duration::from_secs(3 * 3600));
        // So that a slice may be begun, whose first instant lies a moment ahead.
        server.publish("b", json!({})).await;
        server.advance(Duration::from_millis(10));
        server.settle().await;
        let server = server.restart().await;
        assert_eq!(post(&server, &batch).await.expect(202), first);
        server.settle().await;
        assert_eq!(receiver.count(), 3);
    }
}

#[actix_web::test]
async fn event_ids_are_unique_across_slices_and_batches() {
    let server = Server::start_with(|config| config.store.slice_hours = 1).await;
    server.application("app").await;
    server.post(BATCH, messages(2)).await.expect(202);
    server.advance(Duration::from_secs(2 * 3600));
    server.publish("b", json!({})).await;
    let answer = server.post(BATCH, messages(3)).await.expect(202);
    assert_eq!(statuses(&answer), [409, 409, 202]);
    // Another customer has ids of its own.
    server.application("other").await;
    let answer = server
        .post("/api/v1/app/other/msg/batch", messages(3))
        .await;
    assert_eq!(statuses(&answer.expect(202)), [202, 202, 202]);
    // In a burst each is taken once.
    let body = Value::from_iter((10..14).map(message));
    let answers = together((0..8).map(|_| server.post(BATCH, body.clone()))).await;
    let accepted = answers.iter().filter(|answer| answer.status == 202).count();
    assert_eq!(accepted, 1);
    assert_invalid(
        answers
            .iter()
            .find(|answer| answer.status != 202)
            .expect("one"),
        &["body.0", "body.1", "body.2", "body.3"],
    );
}

#[actix_web::test]
async fn messages_of_a_batch_are_put_off_and_expire_as_others_do() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    server.endpoint(&receiver).await;
    let at = (server.now() + Duration::from_secs(60)).to_string();
    let batch = json!([
        { "eventType": "a", "payload": {}, "deliverAt": at, "tags": ["t"] },
        { "eventType": "a", "payload": {} },
        { "eventType": "a", "payload": {}, "expiresAt": "2001-01-01T00:00:00Z" },
    ]);
    let answer = server.post(BATCH, batch).await.expect(202);
    assert_eq!(statuses(&answer), [202, 202, 422]);
    server.settle().await;
    assert_eq!(receiver.count(), 1);
    assert_eq!(server.advance_to_next_due().await.as_secs(), 60);
    assert_eq!(receiver.count(), 2);
    let list = server.get(&format!("{MESSAGES}?tag=t")).await.expect(200);
    assert_eq!(texts(&list, "id"), [id(&answer["data"][0])]);
}

/// Overwrites the last bytes that were written to a journal of one segment.
fn tear_last_record(journal: &std::path::Path) {
    let entries = std::fs::read_dir(journal).expect("it can be listed");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let is_segment =
        |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "segment");
    let segment = paths.filter(is_segment).max().expect("a segment");
    let mut bytes = std::fs::read(&segment).expect("it can be read");
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("a record");
    bytes[end - 100..=end].fill(0);
    std::fs::write(&segment, bytes).expect("it can be written");
}
