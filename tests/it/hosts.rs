//! Endpoints of many applications at one receiving host.

use serde_json::{Value, json};

use crate::support::{Receiver, Script, Server, wait_until};

fn payloads(count: usize) -> Vec<Value> {
    (0..count).map(|number| json!({ "n": number })).collect()
}

/// Eight places at a host, of which one application gets six.
async fn start(workers: usize) -> Server {
    Server::start_with(|config| {
        config.delivery.workers = workers;
        config.delivery.in_flight_per_host_max = 8;
    })
    .await
}

async fn waiting_for_host(server: &Server) -> Vec<String> {
    let lanes = server.get("/api/v1/lane").await.expect(200);
    let lanes = lanes["data"].as_array().expect("a list");
    let waiting = lanes.iter().filter(|lane| lane["waitsForHost"] == true);
    waiting
        .map(|lane| lane["state"].as_str().expect("a text").to_owned())
        .collect()
}

/// Endpoints of one customer at two ports of a host, which answer when the gates open, with more
/// than the host takes.
async fn crowd(server: &Server) -> [Receiver; 2] {
    let slow = [
        Receiver::scripted([], Script::AtGate(200)).await,
        Receiver::scripted([], Script::AtGate(200)).await,
    ];
    for receiver in &slow {
        for _ in 0..5 {
            server
                .endpoint_of("greedy", json!({ "url": receiver.url() }))
                .await;
        }
    }
    server.publish_all("greedy", payloads(4)).await;
    let open = || slow.iter().map(Receiver::open).sum::<usize>();
    wait_until("three quarters of the places to be taken", || open() >= 6).await;
    slow
}

async fn one_customer_leaves_room_for_others(workers: usize) {
    let server = start(workers).await;
    let slow = crowd(&server).await;
    let (same_host, elsewhere) = (Receiver::ok().await, Receiver::ok().await);
    server
        .endpoint_of("same", json!({ "url": same_host.url() }))
        .await;
    // Another name for another host, though the machine is the same.
    let url = elsewhere.url().replace("127.0.0.1", "localhost");
    server.endpoint_of("else", json!({ "url": url })).await;
    server.publish_all("same", payloads(30)).await;
    server.publish_all("else", payloads(30)).await;
    same_host.received(30).await;
    elsewhere.received(30).await;
    let open: usize = slow.iter().map(Receiver::open).sum();
    let came: usize = slow.iter().map(Receiver::count).sum();
    assert_eq!((open, came), (6, 6));

    // Those with nothing in flight wait for nothing but the host.
    let waiting = waiting_for_host(&server).await;
    assert!(
        waiting.iter().any(|state| state == "host-busy"),
        "{waiting:?}"
    );
    server.pulse();
    let metrics = server.get("/metrics").await;
    let metric = "postrider_lanes_waiting_for_host ";
    let line = metrics.text.lines().find(|line| line.starts_with(metric));
    let count: usize = line.unwrap()[metric.len()..].parse().expect("a number");
    assert!(count >= waiting.len() && count > 0, "{count}");

    slow.iter().for_each(Receiver::open_gate);
    server.settle().await;
    assert_eq!(server.store().waiting_count(), 0);
    assert!(waiting_for_host(&server).await.is_empty());
    for receiver in &slow {
        assert_eq!(receiver.count(), 20, "each of 5 endpoints has had 4");
    }
}

#[actix_web::test]
async fn a_customer_that_fills_a_host_leaves_room_there_for_others() {
    one_customer_leaves_room_for_others(1).await;
}

#[actix_web::test]
async fn all_sending_threads_count_together() {
    one_customer_leaves_room_for_others(3).await;
}

#[actix_web::test]
async fn an_endpoint_that_moves_to_another_host_waits_for_the_old_one_no_more() {
    let mut server = start(1).await;
    server.leftovers_are_fine(); // What is held for those that are disabled.
    let slow = crowd(&server).await;
    let endpoint = server
        .endpoint_of("greedy", json!({ "url": slow[0].url() }))
        .await;
    server.publish_all("greedy", payloads(1)).await;
    let elsewhere = Receiver::ok().await;
    let url = elsewhere.url().replace("127.0.0.1", "localhost");
    let path = format!("/api/v1/app/greedy/endpoint/{endpoint}");
    let change = json!({ "url": url });
    server.patch(&path, change).await.expect(200);
    elsewhere.received(1).await;
    // A disabled one, or one that is deleted, holds up nobody behind it in line.
    let rest = server.get("/api/v1/app/greedy/endpoint").await.expect(200);
    for (number, one) in rest["data"].as_array().expect("a list").iter().enumerate() {
        let path = format!(
            "/api/v1/app/greedy/endpoint/{}",
            one["id"].as_str().unwrap()
        );
        match number % 3 {
            0 => {
                let change = json!({ "disabled": true });
                server.patch(&path, change).await.expect(200);
            }
            1 => drop(server.delete(&path).await),
            _ => {}
        }
    }
    let late = Receiver::ok().await;
    server
        .endpoint_of("late", json!({ "url": late.url() }))
        .await;
    server.publish_all("late", payloads(30)).await;
    slow.iter().for_each(Receiver::open_gate);
    late.received(30).await;
}
