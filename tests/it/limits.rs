//! What publishing is refused with when there is no room, and that deliveries go on.

use std::sync::mpsc::channel;
use std::time::Duration;

use awc::http::Method;
use serde_json::json;

use crate::support::{Receiver, Server, wait_until};

const MESSAGES: &str = "/api/v1/app/app/msg";

#[actix_web::test]
async fn too_little_free_space_stops_publishing_and_not_deliveries() {
    let receiver = Receiver::answering([500]).await;
    let server = Server::start().await;
    let message = server.send_to(&receiver, "invoice.paid", json!({})).await;
    let server = server
        .restart_with(|config| config.store.min_free_bytes = u64::MAX)
        .await;
    let body = json!({ "eventType": "invoice.paid", "payload": {} });
    let answer = server.post(MESSAGES, body.clone()).await;
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some());
    let detail = answer.json()["detail"]
        .as_str()
        .expect("a reason")
        .to_owned();
    assert!(detail.contains("store.min_free_bytes"), "{detail}");
    let health = server.get("/api/v1/health").await;
    assert_eq!(health.status, 503, "{}", health.text);

    assert_eq!(server.advance_to_next_due().await.as_secs(), 5);
    assert_eq!(server.outcomes(&message).await, ["http 500", "delivered"]);

    let server = server
        .restart_with(|config| config.store.min_free_bytes = 1)
        .await;
    server.post(MESSAGES, body).await.expect(202);
    server.settle().await;
    assert_eq!(receiver.count(), 3);
}

#[actix_web::test]
async fn no_more_deliveries_wait_than_the_limit_says() {
    let receiver = Receiver::ok().await;
    let server = Server::start_with(|config| config.limits.waiting_max = 5).await;
    let endpoint = server.endpoint(&receiver).await;
    let other = server.endpoint(&receiver).await;
    for endpoint in [&endpoint, &other] {
        server.set_disabled("app", endpoint, true).await;
    }
    let body = json!({ "eventType": "invoice.paid", "payload": {} });
    for _ in 0..2 {
        server.post(MESSAGES, body.clone()).await.expect(202);
    }
    // One more would fit, and this makes two.
    let answer = server.post(MESSAGES, body.clone()).await;
    assert_eq!(answer.status, 429, "{}", answer.text);
    assert!(
        answer.text.contains("limits.waiting_max"),
        "{}",
        answer.text
    );
    assert_eq!(server.store().waiting_count(), 4);

    // The limit holds through a restart, and what waited is delivered.
    let server = server.restart().await;
    assert_eq!(server.post(MESSAGES, body.clone()).await.status, 429);
    for endpoint in [&endpoint, &other] {
        server.set_disabled("app", endpoint, false).await;
    }
    receiver.received(4).await;
    server.settle().await;
    server.post(MESSAGES, body).await.expect(202);
    server.settle().await;
    assert_eq!(receiver.count(), 6);
}

#[actix_web::test]
async fn a_full_commit_queue_sends_publishers_away_for_a_moment() {
    let receiver = Receiver::ok().await;
    let server = Server::start_with(|config| config.limits.commit_queue_max = 1).await;
    server.endpoint(&receiver).await;
    // A change whose decision takes until we say so keeps the committer busy.
    let (go_on, told_to) = channel::<()>();
    let (begun, has_begun) = channel::<()>();
    let store = server.store().clone();
    let change = tokio::task::spawn_local(async move {
        store
            .change(move |_| {
                begun.send(()).expect("the test listens");
                told_to
                    .recv_timeout(Duration::from_secs(20))
                    .expect("the test goes on");
                Ok((Vec::new(), ()))
            })
            .await
    });
    wait_until("the committer to be busy", || has_begun.try_recv().is_ok()).await;
    let body = json!({ "eventType": "invoice.paid", "payload": {} }).to_string();
    let mut publishing: Vec<_> = (0..3)
        .map(|_| {
            tokio::task::spawn_local(server.begin(
                Method::POST,
                MESSAGES,
                &[],
                Some(body.clone().into_bytes()),
            ))
        })
        .collect();
    // One fits; the two others are answered at once.
    let answered = |publishing: &[tokio::task::JoinHandle<_>]| {
        publishing.iter().filter(|one| one.is_finished()).count()
    };
    wait_until("two answers", || answered(&publishing) == 2).await;
    let waits = publishing.iter().position(|one| !one.is_finished());
    let waits = publishing.remove(waits.expect("one waits"));
    for refused in publishing {
        let answer = refused.await.expect("no panic");
        assert_eq!(answer.status, 503, "{}", answer.text);
        assert!(answer.header("retry-after").is_some());
        assert!(answer.text.contains("commit_queue_max"), "{}", answer.text);
    }
    go_on.send(()).expect("the committer listens");
    change
        .await
        .expect("no panic")
        .expect("nothing was changed");
    waits.await.expect("no panic").expect(202);
    server.settle().await;
    assert_eq!(receiver.count(), 1);
}
