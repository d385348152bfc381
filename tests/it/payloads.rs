//! Payloads of every size, byte for byte, also through a restart; and how they lie on the disk.

use std::path::Path;

use awc::http::Method;
use serde_json::json;

use crate::support::{Receiver, Server};

/// A JSON object of exactly this many bytes.
fn object_of(bytes: usize) -> String {
    let text = (0..bytes - 8).map(|at| char::from(b'a' + (at % 23) as u8));
    format!(r#"{{"x":"{}"}}"#, text.collect::<String>())
}

async fn publish(server: &Server, payload: &str) -> u16 {
    let body = format!(r#"{{"eventType":"invoice.paid","payload":{payload}}}"#);
    let path = "/api/v1/app/app/msg?with_content=false";
    let answer = server.call(Method::POST, path, &[], Some(body)).await;
    answer.status
}

/// sled keeps what is too large for its log in files of their own, which it does not sync.
fn assert_no_blobs(data: &Path) {
    let blobs = data.join("live/blobs");
    let files = std::fs::read_dir(&blobs).map_or(0, Iterator::count);
    assert_eq!(files, 0, "{}", blobs.display());
}

#[actix_web::test]
async fn large_payloads_arrive_byte_for_byte_after_a_restart() {
    const MOST: usize = 1 << 20;
    let sizes = [
        8,
        4000,
        4096,
        4097,
        8192,
        100_000,
        131_052,
        131_053,
        MOST - 1,
        MOST,
    ];
    let receiver = Receiver::ok().await;
    let mut server = Server::start().await;
    server.leftovers_are_fine();
    let endpoint = server.endpoint(&receiver).await;
    server.set_disabled("app", &endpoint, true).await;
    let payloads = sizes.map(object_of);
    for payload in &payloads {
        assert_eq!(publish(&server, payload).await, 202, "{}", payload.len());
    }
    assert_eq!(publish(&server, &object_of(MOST + 1)).await, 413);
    assert_no_blobs(&server.config().store.path);

    let server = server.restart().await;
    server.set_disabled("app", &endpoint, false).await;
    let mut requests = receiver.received(sizes.len()).await;
    server.settle().await;
    requests.sort_by_key(|request| request.body.len());
    for (request, payload) in requests.iter().zip(&payloads) {
        assert!(
            request.body == payload.as_bytes(),
            "{} bytes",
            payload.len()
        );
    }
    let list = server.get("/api/v1/app/app/msg").await.expect(200);
    let shown = list["data"].as_array().expect("a list").iter();
    let mut lengths = Vec::from_iter(shown.map(|one| one["payload"].to_string().len()));
    lengths.sort_unstable();
    assert_eq!(lengths, sizes);
    assert_no_blobs(&server.config().store.path);
    assert_eq!(server.store().waiting_count(), 0);
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn answers_as_large_as_the_log_keeps_come_back_whole() {
    let body = "é".repeat(20_000);
    let answer = crate::support::Script::answer(500, &[("x-long", &"h".repeat(6_000))], &body);
    let receiver = Receiver::scripted([answer], crate::support::Script::Status(200)).await;
    let server = Server::start_with(|config| {
        config.limits.answer_kept_bytes = 40_000;
    })
    .await;
    let message = server.send_to(&receiver, "invoice.paid", json!({})).await;
    server.advance_to_next_due().await;
    let server = server.restart().await;
    let attempt = &server.attempts(&message).await[0];
    assert_eq!(attempt["response"], body);
    assert_eq!(attempt["responseTruncated"], false);
    assert_eq!(attempt["responseHeaders"]["x-long"], "h".repeat(6_000));
    assert_no_blobs(&server.config().store.path);
}
