//! Payloads and answers that are deleted, and what becomes of deliveries that wait.

use std::path::Path;
use std::time::Duration;

use postrider::clock::Timestamp;
use serde_json::{Value, json};

use crate::support::{Receiver, Script, Server, assert_error, texts, wait_for, wait_until};

async fn shown(server: &Server, message: &str) -> Value {
    let path = format!("/api/v1/app/app/msg/{message}");
    server.get(&path).await.expect(200)
}

async fn expunge(server: &Server, message: &str) {
    let path = format!("/api/v1/app/app/msg/{message}/content");
    server.delete(&path).await.expect(204);
}

#[actix_web::test]
async fn a_deleted_payload_is_gone_and_the_message_stays() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    server.endpoint(&receiver).await;
    // Many chunks.
    let long = "s3cret ".repeat(5_000);
    let body = json!({"eventType": "a", "eventId": "own", "payload": {"text": long}});
    let publish = async |server: &Server, key: &str| {
        let headers = [("idempotency-key", key)];
        let method = awc::http::Method::POST;
        let body = Some(body.to_string());
        server
            .call(method, "/api/v1/app/app/msg", &headers, body)
            .await
    };
    let message = publish(&server, "k").await.expect(202);
    let message = message["id"].as_str().expect("an id");
    server.settle().await;
    let before = shown(&server, message).await;
    expunge(&server, message).await;
    let after = shown(&server, message).await;
    assert_eq!(after["payload"], json!({"expired": true}));
    for field in ["id", "eventType", "eventId", "timestamp"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    let bare = format!("/api/v1/app/app/msg/{message}?with_content=false");
    assert_eq!(server.get(&bare).await.expect(200)["payload"], json!({}));
    // Again, and by its own id.
    expunge(&server, message).await;
    expunge(&server, "own").await;

    // The key and the id are remembered all the same.
    assert_eq!(publish(&server, "k").await.expect(202)["id"], message);
    assert_eq!(publish(&server, "other").await.status, 409);

    // A crash finds it deleted, and so does the next start.
    let crashed = server.after_a_crash().await;
    assert_eq!(
        shown(&crashed, message).await["payload"],
        json!({"expired": true})
    );
    drop(crashed);
    let server = server.restart().await;
    assert_eq!(
        shown(&server, message).await["payload"],
        json!({"expired": true})
    );
    let list = server.get("/api/v1/app/app/msg").await.expect(200);
    assert_eq!(texts(&list, "id"), [message]);
    assert_eq!(server.outcomes(message).await, ["delivered"]);
    let counts = server.stop_and_verify().await;
    assert!(counts.contains(&("messages".to_owned(), 1)), "{counts:?}");
}

#[actix_web::test]
async fn what_waits_is_not_sent_once_its_payload_is_deleted() {
    let receiver = Receiver::answering([500]).await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    // One waits for its retry, one is held with its message at hand, one has been read again.
    let retried = server.publish("a", json!({})).await;
    server.settle().await;
    expunge(&server, &retried).await;
    server.advance_to_next_due().await;
    assert_eq!(
        server.outcomes(&retried).await,
        ["http 500", "not_sendable"]
    );
    server.set_disabled("app", &endpoint, true).await;
    let held = server.publish("a", json!({})).await;
    expunge(&server, &held).await;
    server.set_disabled("app", &endpoint, false).await;
    server.settle().await;
    assert_eq!(server.outcomes(&held).await, ["not_sendable"]);
    let attempt = server.attempts(&held).await.remove(0);
    let detail = attempt["failure"]["detail"].as_str().expect("a sentence");
    assert!(detail.contains("payload was deleted"), "{detail}");
    assert_eq!(attempt["nextAttemptAt"], Value::Null);
    assert_eq!(receiver.count(), 1);
    assert_eq!(server.store().waiting_count(), 0);
}

#[actix_web::test]
async fn a_copy_in_a_lanes_memory_is_not_sent_either() {
    let receiver = Receiver::scripted([], Script::AtGate(200)).await;
    let server = Server::start_with(|config| config.delivery.in_flight_per_endpoint_max = 1).await;
    server.endpoint(&receiver).await;
    let first = server.publish("a", json!({"n": 1})).await;
    wait_until("the first to be under way", || receiver.count() == 1).await;
    server.advance(Duration::from_millis(10));
    let second = server.publish("a", json!({"n": 2})).await;
    expunge(&server, &second).await;
    // The one that is under way goes on.
    expunge(&server, &first).await;
    receiver.open_gate();
    server.settle().await;
    assert_eq!(server.outcomes(&first).await, ["delivered"]);
    assert_eq!(server.outcomes(&second).await, ["not_sendable"]);
    assert_eq!(receiver.count(), 1);
}

#[actix_web::test]
async fn a_resend_of_a_deleted_payload_is_a_conflict() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    let message = server.publish("a", json!({})).await;
    server.settle().await;
    expunge(&server, &message).await;
    let path = format!("/api/v1/app/app/msg/{message}/endpoint/{endpoint}/resend");
    assert_error(&server.post(&path, json!({})).await, 409, "conflict");
    server.settle().await;
    assert_eq!(receiver.count(), 1);
}

#[actix_web::test]
async fn an_answer_is_deleted_with_its_headers_in_a_slice_of_any_age() {
    let answer = Script::answer(500, &[("x-note", "s3cret")], "s3cret");
    let receiver = Receiver::scripted([answer], Script::Status(200)).await;
    let server = Server::start_with(|config| config.store.slice_hours = 1).await;
    server.endpoint(&receiver).await;
    let message = server.publish("a", json!({"s3cret": 1})).await;
    server.settle().await;
    server.advance(Duration::from_secs(2 * 3_600));
    server.settle().await;
    // In another slice by now.
    server.publish("a", json!({})).await;
    server.settle().await;
    let before = server.attempts(&message).await.remove(0);
    assert_eq!(before["response"], "s3cret");
    let id = before["id"].as_str().expect("an id");
    let path = format!("/api/v1/app/app/msg/{message}/attempt/{id}");
    server.delete(&format!("{path}/content")).await.expect(204);
    expunge(&server, &message).await;
    let after = server.get(&path).await.expect(200);
    assert_eq!(after["response"], "EXPUNGED");
    assert_eq!(after["responseHeaders"], json!({}));
    for field in ["responseStatusCode", "status", "timestamp", "failure"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    assert_eq!(
        shown(&server, &message).await["payload"],
        json!({"expired": true})
    );

    let other = postrider::domain::id::AttemptId::at(Timestamp(server.now().0));
    for path in [
        format!("/api/v1/app/app/msg/{message}/attempt/{other}/content"),
        format!("/api/v1/app/app/msg/{message}/attempt/none/content"),
        "/api/v1/app/app/msg/none/content".to_owned(),
        "/api/v1/app/none/msg/none/content".to_owned(),
    ] {
        assert_error(&server.delete(&path).await, 404, "not_found");
    }
    server.stop_and_verify().await;
}

/// Whether the bytes stand anywhere in the files of a directory. The store renames files when it likes: where one is
/// gone that was there a moment ago, all are looked at again.
async fn is_on_disk(path: &Path, bytes: &[u8]) -> bool {
    let look = || match stands_in(path, bytes) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        found => Some(found.expect("it can be read")),
    };
    wait_for("no file to be renamed while all are read", look).await
}

fn stands_in(path: &Path, bytes: &[u8]) -> std::io::Result<bool> {
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        let is_found = match path.is_dir() {
            true => stands_in(&path, bytes)?,
            false => memchr::memmem::find(&std::fs::read(&path)?, bytes).is_some(),
        };
        if is_found {
            return Ok(true);
        }
    }
    Ok(false)
}

#[actix_web::test]
async fn what_is_erased_stands_nowhere_on_the_disk_any_more() {
    let answer = Script::answer(500, &[("x-note", "answered-header")], "answered-body");
    let receiver = Receiver::scripted([answer.clone(), answer], Script::AtGate(200)).await;
    let server = Server::start_with(|config| config.store.slice_hours = 1).await;
    server.endpoint(&receiver).await;
    let data = server.config().store.path.clone();
    let message = server.publish("a", json!({"x": "published-text"})).await;
    let other = server.publish("a", json!({"x": "kept-text"})).await;
    server.settle().await;
    // The first attempts and the payloads are in the slice before, and the retry is under way.
    server.advance(Duration::from_secs(3_600));
    wait_until("the retries to be under way", || receiver.count() == 4).await;
    let requests = receiver.requests();
    let mut of_it = requests
        .iter()
        .filter(|one| one.header("webhook-id") == Some(&message));
    let first = of_it.next().expect("it was sent");
    let signature = first.header("webhook-signature").expect("it was signed");
    let all = [
        "published-text",
        "answered-body",
        "answered-header",
        signature,
    ];
    for text in all.iter().chain(&["kept-text"]) {
        assert!(is_on_disk(&data, text.as_bytes()).await, "{text}");
    }
    expunge(&server, &other).await;
    expunge(&server, &message).await;
    receiver.open_gate();
    server.settle().await;
    let crashed = server.after_a_crash().await;
    for server in [server, crashed.restart().await] {
        for text in all.iter().chain(&["kept-text"]) {
            assert!(
                !is_on_disk(&server.config().store.path, text.as_bytes()).await,
                "{text}"
            );
        }
        assert_eq!(
            shown(&server, &message).await["payload"],
            json!({"expired": true})
        );
        let attempts = server.attempts(&message).await;
        assert_eq!(attempts.len(), 2);
        for attempt in attempts {
            assert_eq!(attempt["url"], "EXPUNGED", "{attempt}");
        }
    }
}

/// Waits until nothing of deleted applications is left to erase.
async fn erased(server: &Server) {
    let is_over = || server.store().erasures() == 0;
    wait_until("deleted applications to be erased", is_over).await;
    let status = server.get("/api/v1/status").await.expect(200);
    assert_eq!(status["store"]["erasures"], 0);
}

#[actix_web::test]
async fn a_deleted_application_stands_nowhere_on_the_disk_any_more_and_one_made_again_does() {
    let answer =
        |text: &str| Script::answer(500, &[("x-note", format!("{text}-header").as_str())], text);
    let receiver = Receiver::scripted([answer("answer-text")], Script::AtGate(200)).await;
    let former = Receiver::scripted([answer("of-a-former-endpoint")], Script::Status(200)).await;
    let kept = Receiver::scripted([answer("of-another")], Script::Status(200)).await;
    let server = Server::start_with(|config| config.store.slice_hours = 1).await;
    let data = server.config().store.path.clone();
    server.endpoint(&receiver).await;
    let endpoint = server.endpoint(&former).await;
    server.application("other").await;
    server
        .endpoint_of("other", json!({ "url": kept.url() }))
        .await;
    let message = server.publish("a", json!({"x": "published-text"})).await;
    let other = server
        .publish_to("other", "a", json!({"x": "text-of-another"}))
        .await;
    server.settle().await;
    let path = format!("/api/v1/app/app/endpoint/{endpoint}");
    server.delete(&path).await.expect(204);
    // The first attempts and the payloads are in the slice before, and the retry is under way.
    server.advance(Duration::from_secs(3_600));
    wait_until("the retry to be under way", || receiver.count() == 2).await;
    let later = json!({"x": "published-later"});
    server.publish("a", later).await;
    let requests = receiver.requests();
    let signature = |number: usize| {
        let signature = requests[number].header("webhook-signature");
        signature.expect("it was signed").to_owned()
    };
    let signatures = [signature(0), signature(1)];
    let gone = [
        "published-text",
        "published-later",
        "answer-text",
        "answer-text-header",
        "of-a-former-endpoint",
        signatures[0].as_str(),
    ];
    let stays = ["text-of-another", "of-another-header", "published-anew"];
    for text in gone.iter().chain(&stays[..2]) {
        assert!(is_on_disk(&data, text.as_bytes()).await, "{text}");
    }

    server.delete("/api/v1/app/app").await.expect(204);
    server.application("app").await;
    let anew = server.publish("a", json!({"x": "published-anew"})).await;
    let crashed = server.after_a_crash().await;
    receiver.open_gate();
    server.settle().await;
    for server in [server, crashed] {
        erased(&server).await;
        let server = server.restart().await;
        let data = &server.config().store.path;
        for text in gone.iter().chain(&[signatures[1].as_str()]) {
            assert!(!is_on_disk(data, text.as_bytes()).await, "{text}");
        }
        for text in stays {
            assert!(is_on_disk(data, text.as_bytes()).await, "{text}");
        }
        let path = format!("/api/v1/app/app/msg/{message}");
        assert_error(&server.get(&path).await, 404, "not_found");
        let list = server.get("/api/v1/app/app/msg").await.expect(200);
        assert_eq!(texts(&list, "id"), [anew.as_str()]);
        let path = format!("/api/v1/app/other/msg/{other}");
        let shown = server.get(&path).await.expect(200);
        assert_eq!(shown["payload"], json!({"x": "text-of-another"}));
        assert_eq!(server.attempts_in("other", &other).await.len(), 2);
        server.stop_and_verify().await;
    }
}

/// Kept answers are there for twelve hours, and payloads in them would outlive their erasing.
#[actix_web::test]
async fn no_kept_answer_has_a_payload() {
    let server = Server::start().await;
    server.application("app").await;
    let data = server.config().store.path.clone();
    let batch = json!([
        {"eventType": "a", "payload": {"x": "first-text"}},
        {"eventType": "a b", "payload": {}},
        {"eventType": "a", "payload": {"x": "second-text"}},
    ]);
    let post = async |path: &str, key: &str, body: &Value| {
        let method = awc::http::Method::POST;
        let path = format!("/api/v1/app/app/msg{path}");
        let headers = [("idempotency-key", key)];
        let body = Some(body.to_string());
        server.call(method, &path, &headers, body).await.expect(202)
    };
    const WHOLE: &str = "/batch?with_content=true";
    let first = post(WHOLE, "batch", &batch).await;
    let id = |at: usize| {
        let id = first["data"][at]["message"]["id"].as_str();
        id.expect("it was accepted").to_owned()
    };
    assert_eq!(
        first["data"][0]["message"]["payload"],
        json!({"x": "first-text"})
    );
    assert_eq!(post(WHOLE, "batch", &batch).await, first);
    let bare = post("/batch", "batch", &batch).await;
    assert_eq!(bare["data"][0]["message"]["payload"], json!({}));
    assert_eq!(bare["data"][0]["message"]["id"], id(0));
    assert_eq!(bare["data"][1], first["data"][1]);
    let one = json!({"eventType": "a", "payload": {"x": "single-text"}});
    let single = post("", "single", &one).await;
    assert_eq!(single["payload"], json!({"x": "single-text"}));
    let single = single["id"].as_str().expect("an id");

    for text in ["first-text", "second-text", "single-text"] {
        assert!(is_on_disk(&data, text.as_bytes()).await, "{text}");
    }
    expunge(&server, &id(0)).await;
    expunge(&server, single).await;
    for (text, stands) in [
        ("first-text", false),
        ("second-text", true),
        ("single-text", false),
    ] {
        assert_eq!(is_on_disk(&data, text.as_bytes()).await, stands, "{text}");
    }
    let after = post(WHOLE, "batch", &batch).await;
    let message = &after["data"][0]["message"];
    assert_eq!(message["payload"], json!({"expired": true}));
    assert_eq!(message["payloadDeleted"], true);
    assert_eq!(after["data"][1], first["data"][1]);
    assert_eq!(after["data"][2], first["data"][2]);
    // The answer to a repeated publish shows the payload that came with it, and keeps nothing of it.
    let after = post("", "single", &one).await;
    assert_eq!(after["id"], single);
    assert!(!is_on_disk(&data, b"single-text").await);

    // Of an application that was made anew, a key was not used.
    server.delete("/api/v1/app/app").await.expect(204);
    server.application("app").await;
    let anew = post("", "single", &one).await;
    assert_ne!(anew["id"], single);
    assert_eq!(anew["payload"], json!({"x": "single-text"}));
}
