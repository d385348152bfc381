//! Receivers that misbehave, and what the log calls it.

use std::time::Duration;

use serde_json::json;

use crate::support::{Receiver, Script, Server, wait_until};

fn raw(text: &str) -> Script {
    Script::Raw(text.into())
}

fn then_close(text: &str) -> Script {
    Script::RawThenClose(text.into())
}

#[actix_web::test]
async fn each_misbehaviour_has_its_kind() {
    let server = Server::start().await;
    for (case, script, expected) in [
        (
            "no HTTP",
            raw("I am not HTTP, sorry.\r\n\r\n"),
            "broken_answer",
        ),
        ("bytes", raw("\0\x01\x02\r\n\r\n"), "broken_answer"),
        (
            "a status that is none",
            raw("HTTP/1.1 abc X\r\n\r\n"),
            "broken_answer",
        ),
        ("closed without a word", Script::Close, "broken_answer"),
        (
            "closed within the head",
            then_close("HTTP/1.1 200 OK\r\ncontent-le"),
            "broken_answer",
        ),
        (
            "closed within the body",
            then_close("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello"),
            "broken_answer",
        ),
        (
            "closed within a chunk",
            then_close("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel"),
            "broken_answer",
        ),
        (
            "a hint before the answer",
            raw("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n\
                 HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"),
            "delivered",
        ),
        (
            "a hint before a failure",
            raw("HTTP/1.1 100 Continue\r\n\r\n\
                 HTTP/1.1 103 Early Hints\r\n\r\n\
                 HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n"),
            "http 500",
        ),
        (
            "a body that ends with the connection",
            then_close("HTTP/1.1 200 OK\r\n\r\nall of it"),
            "delivered",
        ),
        (
            "no content",
            raw("HTTP/1.1 204 No Content\r\n\r\n"),
            "delivered",
        ),
        ("not modified", Script::Status(304), "http 304"),
        ("not found", Script::Status(404), "http 404"),
    ] {
        let receiver = Receiver::scripted([script], Script::Status(200)).await;
        let endpoint = json!({ "url": receiver.url(), "eventTypes": ["one.case"] });
        let endpoint = server.endpoint_of("app", endpoint).await;
        let message = server.publish("one.case", json!({})).await;
        server.settle().await;
        assert_eq!(server.outcomes(&message).await, [expected], "{case}");
        // What failed is delivered by the retry, so the misbehaviour cost nothing.
        if expected != "delivered" {
            assert_eq!(server.advance_to_next_due().await.as_secs(), 5, "{case}");
            let outcomes = server.outcomes(&message).await;
            assert_eq!(outcomes, [expected, "delivered"], "{case}");
        }
        server
            .delete(&format!("/api/v1/app/app/endpoint/{endpoint}"))
            .await
            .expect(204);
    }
}

#[actix_web::test]
async fn a_receiver_that_is_not_there_refuses_or_does_not_resolve() {
    let port = Receiver::ok().await.port; // It is gone at the end of this line.
    let mut server = Server::start().await;
    server.leftovers_are_fine();
    for (url, expected) in [
        (format!("http://127.0.0.1:{port}/"), "connection_refused"),
        (format!("http://localhost:{port}/"), "connection_refused"),
        ("http://nowhere.invalid/".to_owned(), "dns"),
    ] {
        let endpoint = json!({ "url": url });
        let endpoint = server.endpoint_of("app", endpoint).await;
        let message = server.publish("one.case", json!({})).await;
        server.settle().await;
        assert_eq!(server.outcomes(&message).await, [expected], "{url}");
        let attempt = &server.attempts(&message).await[0];
        assert_eq!(attempt["responseStatusCode"], 0, "{url}");
        server
            .delete(&format!("/api/v1/app/app/endpoint/{endpoint}"))
            .await
            .expect(204);
    }
}

#[actix_web::test]
async fn a_receiver_that_hangs_is_given_up_at_the_timeout() {
    let receiver = Receiver::scripted([Script::Hang], Script::Status(200)).await;
    let server = Server::start().await;
    server.endpoint(&receiver).await;
    let message = server.publish("invoice.paid", json!({})).await;
    receiver.received(1).await;
    server.advance(Duration::from_millis(14_999));
    server.round_trip().await;
    assert_eq!(receiver.open(), 1, "it may take this long");
    server.advance(Duration::from_millis(1));
    wait_until("the connection to be closed", || receiver.open() == 0).await;
    server.settle().await;
    assert_eq!(server.outcomes(&message).await, ["timeout"]);
    let attempt = &server.attempts(&message).await[0];
    assert_eq!(attempt["responseStatusCode"], 0);
    let detail = attempt["failure"]["detail"].as_str();
    assert_eq!(
        detail,
        Some("Waiting for the answer took longer than 15 s.")
    );
    assert_eq!(server.advance_to_next_due().await.as_secs(), 5);
    assert_eq!(server.outcomes(&message).await, ["timeout", "delivered"]);
}

#[actix_web::test]
async fn a_body_that_does_not_end_in_time_is_a_timeout_with_its_status() {
    let begun = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nso far".to_vec();
    let receiver = Receiver::scripted([Script::RawThenHang(begun)], Script::Status(200)).await;
    let server = Server::start().await;
    server.endpoint(&receiver).await;
    let message = server.publish("invoice.paid", json!({})).await;
    receiver.received(1).await;
    server.advance(Duration::from_secs(15));
    server.settle().await;
    assert_eq!(server.outcomes(&message).await, ["timeout"]);
    // How much was read before the clock was stepped is not known here.
    server.advance_to_next_due().await;
    assert_eq!(server.outcomes(&message).await, ["timeout", "delivered"]);
}

#[actix_web::test]
async fn a_slow_answer_within_the_timeout_is_an_answer() {
    let receiver = Receiver::scripted([], Script::AtGate(200)).await;
    let server = Server::start().await;
    server.endpoint(&receiver).await;
    let message = server.publish("invoice.paid", json!({})).await;
    receiver.received(1).await;
    server.advance(Duration::from_secs(14));
    receiver.open_gate();
    server.settle().await;
    assert_eq!(server.outcomes(&message).await, ["delivered"]);
    assert_eq!(receiver.count(), 1);
}

#[actix_web::test]
async fn a_huge_body_is_cut_and_the_status_decides() {
    const HUGE: usize = 100 << 20;
    let receiver = Receiver::scripted([], Script::Endless(HUGE)).await;
    let server = Server::start().await;
    let message = server.send_to(&receiver, "invoice.paid", json!({})).await;
    assert_eq!(server.outcomes(&message).await, ["delivered"]);
    let attempt = &server.attempts(&message).await[0];
    assert_eq!(attempt["response"].as_str().map(str::len), Some(8192));
    assert_eq!(attempt["responseTruncated"], true);
    wait_until("the connection to be closed", || receiver.open() == 0).await;
    // The rest is what fits into the buffers of two sockets.
    assert!(
        receiver.body_bytes() < HUGE / 4,
        "{}",
        receiver.body_bytes()
    );
}

#[actix_web::test]
async fn redirects_are_failures_and_never_followed() {
    let inside = Receiver::ok().await;
    let server = Server::start().await;
    for location in [
        inside.url(),
        "/hook".to_owned(),
        "http://10.0.0.1/".to_owned(),
    ] {
        for status in [301, 302, 303, 307, 308] {
            let redirect = Script::answer(status, &[("Location", &location)], "");
            let receiver = Receiver::scripted([redirect], Script::Status(200)).await;
            let endpoint = json!({ "url": receiver.url() });
            let endpoint = server.endpoint_of("app", endpoint).await;
            let message = server.publish("invoice.paid", json!({})).await;
            server.settle().await;
            let outcomes = server.outcomes(&message).await;
            assert_eq!(outcomes, [format!("http {status}")], "{location}");
            assert_eq!(receiver.count(), 1, "{location}");
            server.advance_to_next_due().await;
            assert_eq!(receiver.count(), 2, "the retry goes to the endpoint itself");
            server
                .delete(&format!("/api/v1/app/app/endpoint/{endpoint}"))
                .await
                .expect(204);
        }
    }
    assert_eq!(inside.count(), 0);
}
