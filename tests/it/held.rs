//! Deliveries that wait: for an endpoint to be enabled, for their turn, or for nothing any more.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::time::Duration;

use postrider::store::NewMessage;
use serde_json::{Value, json};

use crate::support::{Receiver, Request, Script, Server, wait_until};

/// Numbered from 0, published in rounds: later rounds are due later.
async fn publish_in_rounds(server: &Server, rounds: usize, each: usize) {
    for round in 0..rounds {
        let payload = |number| json!({ "round": round, "n": round * each + number });
        server.publish_all("app", (0..each).map(payload)).await;
        server.advance(Duration::from_millis(10));
    }
}

fn field(request: &Request, name: &str) -> u64 {
    let payload: Value = serde_json::from_slice(&request.body).expect("JSON");
    payload[name].as_u64().expect("a number")
}

fn assert_all_once(requests: &[Request], count: usize) {
    assert_eq!(requests.len(), count);
    let numbers: HashSet<u64> = requests.iter().map(|one| field(one, "n")).collect();
    assert_eq!(numbers.len(), count);
}

#[actix_web::test]
async fn a_backlog_larger_than_the_window_is_released_whole_and_once() {
    let receiver = Receiver::ok().await;
    // One at a time, so that none overtakes another.
    let server = Server::start_with(|config| config.delivery.in_flight_per_endpoint_max = 1).await;
    let endpoint = server.endpoint(&receiver).await;
    server.set_disabled("app", &endpoint, true).await;
    publish_in_rounds(&server, 30, 100).await;
    server.settle().await;
    assert_eq!(server.store().waiting_count(), 3_000);
    assert_eq!(receiver.count(), 0);
    assert!(server.nothing_is_due());

    server.set_disabled("app", &endpoint, false).await;
    receiver.received(3_000).await;
    server.settle().await;
    assert_eq!(server.store().waiting_count(), 0);
    assert_all_once(&receiver.requests(), 3_000);
    for (place, request) in receiver.requests().iter().enumerate() {
        assert_eq!(field(request, "round") as usize, place / 100, "at {place}");
    }
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn a_lane_that_overflows_its_window_keeps_the_order() {
    let receiver = Receiver::scripted([], Script::AtGate(200)).await;
    let server = Server::start_with(|config| {
        config.delivery.in_flight_per_endpoint_max = 1;
    })
    .await;
    server.endpoint(&receiver).await;
    // The first is in flight all the while, so the window fills and overflows.
    publish_in_rounds(&server, 48, 25).await;
    receiver.received(1).await;
    assert_eq!(server.store().waiting_count(), 1_200);
    receiver.open_gate();
    receiver.received(1_200).await;
    server.settle().await;
    assert_all_once(&receiver.requests(), 1_200);
    let rounds = Vec::from_iter(receiver.requests().iter().map(|one| field(one, "round")));
    assert!(rounds.is_sorted(), "{rounds:?}");
    assert_eq!(server.store().waiting_count(), 0);
}

#[actix_web::test]
async fn a_disabled_endpoint_holds_retries_too() {
    let receiver = Receiver::answering([500]).await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    let message = server.publish("invoice.paid", json!({})).await;
    server.settle().await;
    server.set_disabled("app", &endpoint, true).await;
    server.advance(Duration::from_secs(3_600));
    server.settle().await;
    assert_eq!(receiver.count(), 1);
    server.set_disabled("app", &endpoint, false).await;
    receiver.received(2).await;
    server.settle().await;
    assert_eq!(server.outcomes(&message).await, ["http 500", "delivered"]);
    assert_eq!(server.attempts(&message).await[1]["attempt"], 2);
}

#[actix_web::test]
async fn what_waits_for_a_deleted_endpoint_is_forgotten_and_its_history_stays() {
    let receiver = Receiver::scripted([], Script::Status(500)).await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    let message = server.publish("invoice.paid", json!({ "n": 0 })).await;
    server.settle().await;
    server.set_disabled("app", &endpoint, true).await;
    let more = (1..700).map(|number| json!({ "n": number }));
    server.publish_all("app", more).await;
    assert_eq!(server.store().waiting_count(), 700);

    let path = format!("/api/v1/app/app/endpoint/{endpoint}");
    server.delete(&path).await.expect(204);
    wait_until("nothing to wait", || server.store().waiting_count() == 0).await;
    server.advance(Duration::from_secs(86_400));
    server.settle().await;
    assert_eq!(receiver.count(), 1);
    assert_eq!(server.outcomes(&message).await, ["http 500"]);
    let attempts = server.attempts(&message).await;
    assert_eq!(attempts[0]["endpointId"], endpoint);
    let path = format!("/api/v1/app/app/msg/{message}");
    assert_eq!(server.get(&path).await.expect(200)["payload"]["n"], 0);
    let counts = server.stop_and_verify().await;
    assert!(
        counts.contains(&("waiting deliveries".to_owned(), 0)),
        "{counts:?}"
    );
}

#[actix_web::test]
async fn what_waits_for_a_deleted_application_is_forgotten() {
    let receiver = Receiver::scripted([], Script::Status(500)).await;
    let server = Server::start().await;
    server.endpoint(&receiver).await;
    server.endpoint(&receiver).await;
    server.publish_all("app", vec![json!({}); 20]).await;
    server.settle().await;
    assert_eq!(server.store().waiting_count(), 40);
    server.delete("/api/v1/app/app").await.expect(204);
    wait_until("nothing to wait", || server.store().waiting_count() == 0).await;
    server.advance(Duration::from_secs(86_400));
    server.settle().await;
    assert_eq!(receiver.count(), 40);
    // A new one by the same name starts empty.
    server.application("app").await;
    let list = server.get("/api/v1/app/app/msg").await.expect(200);
    assert_eq!(list["data"], json!([]));
    let server = server.restart().await;
    server.settle().await;
    assert_eq!(server.store().waiting_count(), 0);
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn an_endpoint_that_is_deleted_while_its_attempt_is_under_way_leaves_nothing() {
    let receiver = Receiver::scripted([], Script::AtGate(500)).await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    let message = server.publish("invoice.paid", json!({})).await;
    receiver.received(1).await;
    let path = format!("/api/v1/app/app/endpoint/{endpoint}");
    server.delete(&path).await.expect(204);
    receiver.open_gate();
    wait_until("nothing to wait", || server.store().waiting_count() == 0).await;
    server.settle().await;
    assert!(server.nothing_is_due());
    assert_eq!(server.outcomes(&message).await, ["http 500"]);
    server.stop_and_verify().await;
}

/// Matching and accepting are two steps; the endpoint can go away in between.
#[actix_web::test]
async fn a_message_accepted_for_an_endpoint_that_is_just_gone_waits_for_nothing() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    let known = {
        let catalog = server.store().catalog();
        let organisation = catalog.organisations().next().expect("the default one").id;
        let entry = catalog
            .application(organisation, "app")
            .expect("made before");
        entry.endpoints[0].clone()
    };
    let path = format!("/api/v1/app/app/endpoint/{endpoint}");
    server.delete(&path).await.expect(204);
    wait_until("the store to be idle", || server.store().is_idle()).await;
    let message = server
        .store()
        .accept_message(NewMessage {
            organisation: known.organisation,
            application: known.application,
            event_type: "invoice.paid".to_owned(),
            event_id: None,
            channels: Vec::new(),
            payload: "{}".into(),
            is_raw: false,
            content_type: None,
            lanes: vec![known.number],
            matched_as_of: None,
            origin: postrider::domain::message::Origin::Published,
            once: None,
            tags: Vec::new(),
            deliver_at: None,
            expires_at: None,
            metadata: BTreeMap::new(),
            headers: BTreeMap::new(),
        })
        .await
        .expect("it is accepted");
    assert_eq!(server.store().waiting_count(), 0);
    let resent = server.store().resend(message, known, None).await;
    assert!(resent.is_err(), "there is nobody to send it to");
    assert_eq!(server.store().waiting_count(), 0);
}

#[actix_web::test]
async fn a_second_resend_of_a_held_message_moves_the_first() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    let message = server.publish("invoice.paid", json!({})).await;
    server.settle().await;
    server.set_disabled("app", &endpoint, true).await;
    let resend = format!("/api/v1/app/app/msg/{message}/endpoint/{endpoint}/resend");
    for _ in 0..2 {
        server.advance(Duration::from_secs(1));
        server.post(&resend, json!({})).await.expect(202);
    }
    assert_eq!(server.store().waiting_count(), 1);
    server.set_disabled("app", &endpoint, false).await;
    server.settle().await;
    assert_eq!(receiver.count(), 2);
}
