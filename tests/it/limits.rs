//! What publishing is refused with when there is no room, and that deliveries go on.

use std::sync::mpsc::channel;
use std::time::Duration;

use awc::http::Method;
use serde_json::{Value, json};

use crate::support::{Planned, Receiver, Script, Server, assert_error, wait_until};

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
async fn no_more_deliveries_are_held_than_the_limit_says() {
    let receiver = Receiver::ok().await;
    let server = Server::start_with(|config| config.limits.held_max = 5).await;
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
    assert!(answer.text.contains("limits.held_max"), "{}", answer.text);
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

/// The problems that the status names of this kind: their severity and the application's name.
async fn problems(server: &Server, kind: &str) -> Vec<(String, Option<String>)> {
    let status = server.get("/api/v1/status").await.expect(200);
    let all = status["problems"].as_array().expect("a list").iter();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    all.filter(|problem| problem["kind"] == kind)
        .map(|problem| {
            let severity = text(&problem["severity"]).expect("a word");
            (severity, text(&problem["applicationName"]))
        })
        .collect()
}

#[actix_web::test]
async fn what_is_held_for_one_customer_stops_no_other() {
    let receiver = Receiver::ok().await;
    let server = Server::start_with(|config| {
        config.limits.waiting_max = 10;
        config.limits.held_max = 40;
        config.limits.waiting_per_application_max = 20;
    })
    .await;
    server
        .endpoint_of("other", json!({ "url": receiver.url() }))
        .await;
    let mut held = Vec::new();
    for _ in 0..10 {
        let endpoint = server.endpoint(&receiver).await;
        server.set_disabled("app", &endpoint, true).await;
        held.push(endpoint);
    }
    let body = json!({ "eventType": "invoice.paid", "payload": {} });
    let held_in = async |server: &Server| {
        let status = server.get("/api/v1/status").await.expect(200);
        (status["waiting"].clone(), status["held"].clone())
    };
    let warned = vec![("warning".to_owned(), Some("app".to_owned()))];
    let alarmed = vec![("critical".to_owned(), Some("app".to_owned()))];
    const OWN: &str = "application_backlog_high";
    assert_eq!(problems(&server, OWN).await, []);
    server.post(MESSAGES, body.clone()).await.expect(202);
    assert_eq!(problems(&server, OWN).await, warned);
    assert_eq!(problems(&server, "backlog_high").await, []);
    server.post(MESSAGES, body.clone()).await.expect(202);
    assert_eq!(problems(&server, OWN).await, alarmed);
    let of_all = vec![("warning".to_owned(), None)];
    assert_eq!(problems(&server, "backlog_high").await, of_all);

    // Its share is full, whichever way its next message comes; others publish as ever.
    let first = server.get(MESSAGES).await.expect(200)["data"][0]["id"].clone();
    let resend = format!(
        "/api/v1/app/app/msg/{}/endpoint/{}/resend",
        first.as_str().expect("an id"),
        held[0]
    );
    for (path, body) in [
        (MESSAGES, body.clone()),
        ("/api/v1/app/app/msg/batch", json!([body])),
        (&*resend, json!({})),
    ] {
        let answer = server.post(path, body).await;
        assert_error(&answer, 429, "too_many");
        let app = server.get("/api/v1/app/app").await.expect(200);
        for part in [
            "limits.waiting_per_application_max",
            app["id"].as_str().expect("an id"),
        ] {
            assert!(answer.text.contains(part), "{}", answer.text);
        }
    }
    for _ in 0..12 {
        server.publish_to("other", "invoice.paid", json!({})).await;
        server.settle().await;
    }
    assert_eq!(receiver.count(), 12);
    assert_eq!(held_in(&server).await, (json!(20), json!(20)));

    // A restart counts them again, and so does the start after a crash.
    let crashed = server.after_a_crash().await;
    assert_eq!(held_in(&crashed).await, (json!(20), json!(20)));
    assert_eq!(crashed.post(MESSAGES, body.clone()).await.status, 429);
    let mut crashed = crashed;
    crashed.leftovers_are_fine();
    let server = server.restart().await;
    assert_eq!(held_in(&server).await, (json!(20), json!(20)));
    assert_eq!(server.post(MESSAGES, body.clone()).await.status, 429);

    // An endpoint that is deleted takes its deliveries along, one that is enabled sends them.
    let path = format!("/api/v1/app/app/endpoint/{}", held[0]);
    assert_eq!(server.delete(&path).await.status, 204);
    server.set_disabled("app", &held[1], false).await;
    receiver.received(14).await;
    server.settle().await;
    let expected = (json!(16), json!(16));
    let deadline = std::time::Instant::now() + crate::support::DEADLINE;
    while held_in(&server).await != expected && std::time::Instant::now() < deadline {
        tokio::task::yield_now().await;
    }
    assert_eq!(held_in(&server).await, expected);
    // A message more would wait at nine endpoints.
    assert_error(&server.post(MESSAGES, body).await, 429, "too_many");
    let mut server = server;
    server.leftovers_are_fine();
}

#[actix_web::test]
async fn no_more_deliveries_wait_to_be_sent_than_the_limit_says() {
    let hanging = Receiver::scripted([], Script::AtGate(200)).await;
    let server = Server::start_with(|config| config.limits.waiting_max = 3).await;
    server.endpoint(&hanging).await;
    let held = server
        .endpoint_of("other", json!({ "url": hanging.url() }))
        .await;
    server.set_disabled("other", &held, true).await;
    let body = json!({ "eventType": "invoice.paid", "payload": {} });
    for _ in 0..3 {
        server.post(MESSAGES, body.clone()).await.expect(202);
    }
    let answer = server.post(MESSAGES, body.clone()).await;
    assert_error(&answer, 429, "too_many");
    assert!(
        answer.text.contains("(limits.waiting_max)"),
        "{}",
        answer.text
    );
    assert_eq!(
        problems(&server, "backlog_high").await,
        [("critical".to_owned(), None)]
    );
    // What is held is not in the way of what is sent, nor the other way around.
    for _ in 0..5 {
        server.publish_to("other", "invoice.paid", json!({})).await;
    }
    hanging.open_gate();
    hanging.received(3).await;
    server.settle().await;
    server.post(MESSAGES, body).await.expect(202);
    server.settle().await;
    assert_eq!(server.store().waits().held, 5);
    let mut server = server;
    server.leftovers_are_fine();
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
            .change(Planned(move |_: &postrider::catalog::Catalog| {
                begun.send(()).expect("the test listens");
                told_to
                    .recv_timeout(Duration::from_secs(20))
                    .expect("the test goes on");
                Ok((Vec::new(), ()))
            }))
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
