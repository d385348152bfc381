//! `idempotency-key`: the same request again gives the same answer and does nothing more.

use std::time::Duration;

use awc::http::Method;
use serde_json::{Value, json};

use crate::support::{
    Answer, Receiver, Server, assert_error, assert_invalid, texts, together, wait_until,
};

const MESSAGES: &str = "/api/v1/app/app/msg";

async fn post(server: &Server, path: &str, key: &str, body: &Value) -> Answer {
    let headers = [("idempotency-key", key)];
    server
        .call(Method::POST, path, &headers, Some(body.to_string()))
        .await
}

fn message(number: u32) -> Value {
    json!({"eventType": "a", "payload": {"n": number}})
}

#[actix_web::test]
async fn a_message_is_accepted_once_and_remembered_for_half_a_day() {
    for slice_hours in [1, 24] {
        let receiver = Receiver::ok().await;
        let server = Server::start_with(|config| config.store.slice_hours = slice_hours).await;
        server.endpoint(&receiver).await;
        let first = post(&server, MESSAGES, "k", &message(1)).await.expect(202);
        let again = post(&server, MESSAGES, "k", &message(1)).await.expect(202);
        assert_eq!(again, first);
        // With a slash at the end it is the same path.
        let slash = format!("{MESSAGES}/");
        assert_eq!(
            post(&server, &slash, "k", &message(1)).await.expect(202),
            first
        );
        let other = post(&server, MESSAGES, "k", &message(2)).await;
        assert_error(&other, 409, "conflict");
        let other_key = post(&server, MESSAGES, "l", &message(1)).await.expect(202);
        assert_ne!(other_key["id"], first["id"]);

        for _ in 0..3 {
            // What is in flight when the clock is stepped would time out.
            server.settle().await;
            server.advance(Duration::from_secs(2 * 3600));
            // So that slices are begun on the way.
            server.publish("b", json!({})).await;
        }
        let server = server.restart().await;
        server.settle().await;
        server.advance(Duration::from_secs(6 * 3600));
        assert_eq!(
            post(&server, MESSAGES, "k", &message(1)).await.expect(202),
            first
        );
        let other = post(&server, MESSAGES, "k", &message(2)).await;
        assert_error(&other, 409, "conflict");
        server.advance(Duration::from_millis(1));
        let forgotten = post(&server, MESSAGES, "k", &message(2)).await.expect(202);
        assert_ne!(forgotten["id"], first["id"]);
        assert_eq!(
            post(&server, MESSAGES, "k", &message(2)).await.expect(202),
            forgotten
        );

        server.advance(Duration::from_millis(4));
        server.settle().await;
        let sent = |id: &Value| {
            let requests = receiver.requests();
            let ids = requests.iter().map(|request| request.header("webhook-id"));
            ids.filter(|one| *one == id.as_str()).count()
        };
        assert_eq!((sent(&first["id"]), sent(&forgotten["id"])), (1, 1));
        assert_eq!(receiver.count(), 6);
    }
}

/// How often a slice of history was opened since the start.
async fn slices_opened(server: &Server) -> u64 {
    let text = server.get("/metrics").await.text;
    let mut lines = text.lines();
    let count = lines.find_map(|line| line.strip_prefix("postrider_slices_opened_total "));
    count
        .and_then(|count| count.parse().ok())
        .expect("a number")
}

/// What is kept costs a publish nothing: a slice is opened only where it knows the key.
#[actix_web::test]
async fn no_slice_is_opened_for_a_key_that_it_has_not_seen() {
    let with_event = |id: &str| json!({"eventType": "a", "eventId": id, "payload": {}});
    let server = Server::start_with(|config| config.store.slice_hours = 1).await;
    server.application("app").await;
    let first = post(&server, MESSAGES, "first", &with_event("e-0")).await;
    let first = first.expect(202);
    for _ in 0..8 {
        server.advance(Duration::from_secs(3600));
        server.publish("b", json!({})).await;
    }
    wait_until("the keys to be noted", || {
        server.store().filters_are_ready()
    })
    .await;
    let after_a_crash = server.after_a_crash().await;
    for (server, at_start) in [(&server, u64::MAX), (&after_a_crash, 1)] {
        wait_until("the notes to be read", || {
            server.store().filters_are_ready()
        })
        .await;
        let before = slices_opened(server).await;
        assert!(before <= at_start, "{before} at the start");
        for number in 0..20 {
            let event = with_event(&format!("{at_start}-{number}"));
            post(server, MESSAGES, &format!("key-{number}"), &event)
                .await
                .expect(202);
        }
        let batch = json!([with_event("e-1"), with_event("e-2")]);
        let path = format!("{MESSAGES}/batch");
        post(server, &path, "batch", &batch).await.expect(202);
        let unknown = server.get(&format!("{MESSAGES}/none")).await;
        assert_error(&unknown, 404, "not_found");
        assert_eq!(slices_opened(server).await, before);
        // What was seen is known, from the one slice that has it.
        let again = post(server, MESSAGES, "first", &with_event("e-0")).await;
        assert_eq!(again.expect(202), first);
        let taken = server.post(MESSAGES, with_event("e-0")).await;
        assert_error(&taken, 409, "conflict");
        let read = server.get(&format!("{MESSAGES}/e-0")).await.expect(200);
        assert_eq!(read["id"], first["id"]);
        assert!(slices_opened(server).await <= before + 1);
    }
}

#[actix_web::test]
async fn a_burst_of_the_same_request_is_one() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    server.endpoint(&receiver).await;
    let body = json!({"eventType": "a", "eventId": "e-1", "payload": {}});
    let burst = (0..20).map(|_| post(&server, MESSAGES, "k", &body));
    let answers = together(burst).await;
    let first = answers[0].json();
    for answer in answers {
        assert_eq!(answer.expect(202), first);
    }
    let app = json!({"name": "n"});
    let burst = (0..20).map(|_| post(&server, "/api/v1/app", "k", &app));
    let answers = together(burst).await;
    let first = answers[0].json();
    for answer in answers {
        assert_eq!(answer.expect(201), first);
    }
    // Of two bodies under one key exactly one comes through, in all its copies.
    let bodies = [message(1), message(2)];
    let burst = (0..20).map(|number| post(&server, MESSAGES, "l", &bodies[number % 2]));
    let answers = together(burst).await;
    let count = |status| answers.iter().filter(|one| one.status == status).count();
    assert_eq!((count(202), count(409)), (10, 10));
    server.settle().await;
    assert_eq!(receiver.count(), 2);
    let apps = server.get("/api/v1/app").await.expect(200);
    assert_eq!(apps["data"].as_array().unwrap().len(), 2);
}

#[actix_web::test]
async fn what_is_registered_is_registered_once() {
    let server = Server::start().await;
    server.application("app").await;
    let endpoints = "/api/v1/app/app/endpoint";
    let requests = [
        (
            "/api/v1/app",
            json!({"name": "one", "uid": "one"}),
            json!({"name": "two", "uid": "two"}),
        ),
        (
            endpoints,
            json!({"url": "https://example.com/", "uid": "e"}),
            json!({"url": "https://example.com/"}),
        ),
        (
            "/api/v1/event-type",
            json!({"name": "a", "description": ""}),
            json!({"name": "b", "description": ""}),
        ),
    ];
    let mut first = Vec::new();
    for (path, body, other) in &requests {
        let made = post(&server, path, "k", body).await.expect(201);
        assert_eq!(post(&server, path, "k", body).await.expect(201), made);
        let refused = post(&server, path, "k", other).await;
        assert_error(&refused, 409, "conflict");
        // Without the key it is a request of its own.
        let own = server.post(path, body.clone()).await;
        assert_error(&own, 409, "conflict");
        first.push(made);
    }
    let server = server.restart().await;
    server.advance(Duration::from_secs(12 * 3600));
    for ((path, body, _), made) in requests.iter().zip(&first) {
        assert_eq!(&post(&server, path, "k", body).await.expect(201), made);
    }
    server.advance(Duration::from_millis(1));
    for (path, body, _) in &requests {
        let late = post(&server, path, "k", body).await;
        assert_error(&late, 409, "conflict");
    }
    let apps = server.get("/api/v1/app").await.expect(200);
    let mut uids = texts(&apps, "uid");
    uids.sort();
    assert_eq!(uids, ["app", "one"]);
}

/// A key is as old as its request, however long nothing was published before it.
#[actix_web::test]
async fn a_key_is_new_after_quiet_hours() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let message = server.send_to(&receiver, "a", json!({})).await;
    let endpoints = "/api/v1/app/app/endpoint";
    let endpoint = texts(&server.get(endpoints).await.json(), "id").remove(0);
    server.settle().await;
    server.advance(Duration::from_secs(13 * 3600));
    let body = json!({ "url": "https://example.com/" });
    let made = post(&server, endpoints, "k", &body).await.expect(201);
    assert_eq!(post(&server, endpoints, "k", &body).await.expect(201), made);
    let resend = format!("{MESSAGES}/{message}/endpoint/{endpoint}/resend");
    for _ in 0..2 {
        post(&server, &resend, "r", &json!({})).await.expect(202);
        server.settle().await;
    }
    assert_eq!(receiver.count(), 2);
}

/// Whoever asks again because an answer got lost has what they wanted, whatever waits by then.
#[actix_web::test]
async fn a_request_that_was_taken_is_not_refused_for_want_of_room() {
    let receiver = Receiver::ok().await;
    let mut server = Server::start_with(|config| config.limits.held_max = 4).await;
    server.leftovers_are_fine();
    let endpoint = server.endpoint(&receiver).await;
    server.set_disabled("app", &endpoint, true).await;
    let batch = format!("{MESSAGES}/batch");
    let two = json!([message(1), message(2)]);
    let first = post(&server, MESSAGES, "k", &message(1)).await.expect(202);
    let id = first["id"].as_str().expect("an id");
    let resend = format!("{MESSAGES}/{id}/endpoint/{endpoint}/resend");
    let resent = post(&server, &resend, "r", &json!({})).await.expect(202);
    let both = post(&server, &batch, "b", &two).await.expect(202);
    post(&server, MESSAGES, "l", &message(2)).await.expect(202);
    // Now it is full.
    for (path, key, body, answer) in [
        (MESSAGES, "k", message(1), &first),
        (&resend, "r", json!({}), &resent),
        (&batch, "b", two, &both),
    ] {
        assert_eq!(&post(&server, path, key, &body).await.expect(202), answer);
        let other = post(&server, path, "other", &body).await;
        assert_error(&other, 429, "too_many");
    }
    let changed = post(&server, MESSAGES, "k", &message(2)).await;
    assert_error(&changed, 409, "conflict");
    assert_eq!(server.store().waiting_count(), 4);
}

#[actix_web::test]
async fn a_resend_is_made_once() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let message = server.send_to(&receiver, "a", json!({})).await;
    let endpoint = texts(&server.get("/api/v1/app/app/endpoint").await.json(), "id").remove(0);
    let path = format!("{MESSAGES}/{message}/endpoint/{endpoint}/resend");
    for (key, count) in [("k", 2), ("k", 2), ("l", 3), ("k", 3)] {
        let answer = post(&server, &path, key, &json!({})).await;
        assert_eq!(answer.expect(202), json!({}));
        server.settle().await;
        assert_eq!(receiver.count(), count, "{key}");
    }
    let other = post(&server, &path, "k", &json!({"a": 1})).await;
    assert_error(&other, 409, "conflict");
    let server = server.restart().await;
    post(&server, &path, "k", &json!({})).await.expect(202);
    server.settle().await;
    assert_eq!(receiver.count(), 3);
}

#[actix_web::test]
async fn answers_with_a_secret_are_not_repeated() {
    let server = Server::start().await;
    server.application("app").await;
    let endpoint = json!({"url": "https://example.com/", "uid": "e"});
    let path = "/api/v1/app/app/endpoint";
    server.post(path, endpoint).await.expect(201);
    let token = json!({"name": "t", "role": "owner"});
    for (path, body, field) in [
        ("/api/v1/token", token, "token"),
        ("/api/v1/app/app/endpoint/e/secret/rotate", json!({}), "key"),
    ] {
        let first = post(&server, path, "k", &body).await.json();
        let second = post(&server, path, "k", &body).await.json();
        assert!(first[field].is_string());
        assert_ne!(first[field], second[field], "{path}");
    }
}

#[actix_web::test]
async fn a_refused_request_can_be_made_right_under_its_key() {
    let server = Server::start().await;
    let wrong = post(&server, "/api/v1/app", "k", &json!({})).await;
    assert_invalid(&wrong, &["body.name"]);
    let right = json!({"name": "app", "uid": "app"});
    post(&server, "/api/v1/app", "k", &right).await.expect(201);
    let missing = post(&server, "/api/v1/app/later/msg", "k", &message(1)).await;
    assert_error(&missing, 404, "not_found");
    server.application("later").await;
    post(&server, "/api/v1/app/later/msg", "k", &message(2))
        .await
        .expect(202);
    let taken = json!({"name": "another", "uid": "later"});
    let refused = post(&server, "/api/v1/app", "l", &taken).await;
    assert_error(&refused, 409, "conflict");
    server.delete("/api/v1/app/later").await;
    post(&server, "/api/v1/app", "l", &taken).await.expect(201);
}

#[actix_web::test]
async fn keys_have_a_length() {
    let server = Server::start().await;
    server.application("app").await;
    let long = "k".repeat(256);
    post(&server, MESSAGES, &long, &message(1))
        .await
        .expect(202);
    for key in ["", &"k".repeat(257)] {
        let answer = post(&server, MESSAGES, key, &message(1)).await;
        assert_invalid(&answer, &["header.idempotency-key"]);
    }
}
