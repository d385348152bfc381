//! What an attempt is, when it is made, and what its outcome means.

use std::time::Duration;

use serde_json::json;

use crate::support::{Receiver, Server};

#[actix_web::test]
async fn a_message_arrives_as_it_was_published() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let message = server
        .send_to(&receiver, "invoice.paid", json!({ "id": 1 }))
        .await;
    let requests = receiver.received(1).await;
    assert_eq!(requests[0].method, "POST");
    assert_eq!(requests[0].body, br#"{"id":1}"#);
    assert_eq!(requests[0].header("webhook-id"), Some(message.as_str()));
    assert_eq!(server.outcomes(&message).await, ["delivered"]);
}

#[actix_web::test]
async fn a_clock_that_is_set_back_holds_up_nothing_that_is_new() {
    let receiver = Receiver::answering([200, 200, 500]).await;
    let server = Server::start().await;
    let mut messages = vec![server.send_to(&receiver, "a", json!({})).await];
    server.set_back(Duration::from_secs(3 * 3600));
    for _ in 0..2 {
        messages.push(server.publish("a", json!({})).await);
        server.settle().await;
    }
    receiver.received(3).await;
    for (message, outcome) in messages.iter().zip(["delivered", "delivered", "http 500"]) {
        assert_eq!(server.outcomes(message).await, [outcome]);
    }
    assert!(messages.is_sorted(), "ids go on: {messages:?}");
    assert_eq!(server.advance_to_next_due().await.as_secs(), 5);
    let outcomes = server.outcomes(&messages[2]).await;
    assert_eq!(outcomes, ["http 500", "delivered"]);
}

#[actix_web::test]
async fn each_failure_waits_for_its_delay() {
    let receiver = Receiver::answering([500, 503, 404]).await;
    let server = Server::start().await;
    let message = server
        .send_to(&receiver, "invoice.paid", json!({ "id": 1 }))
        .await;
    assert_eq!(server.outcomes(&message).await, ["http 500"]);
    for seconds in [5, 300, 1800] {
        assert_eq!(server.advance_to_next_due().await.as_secs(), seconds);
    }
    let outcomes = ["http 500", "http 503", "http 404", "delivered"];
    assert_eq!(server.outcomes(&message).await, outcomes);
}
