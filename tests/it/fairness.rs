//! One customer cannot delay another.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Receiver, Script, Server, wait_until};

fn payloads(count: usize) -> Vec<Value> {
    (0..count).map(|number| json!({ "n": number })).collect()
}

async fn register_healthy(server: &Server) -> Receiver {
    let healthy = Receiver::ok().await;
    server
        .endpoint_of("healthy", json!({ "url": healthy.url() }))
        .await;
    healthy
}

#[actix_web::test]
async fn backlogs_of_dead_endpoints_delay_nobody() {
    const BACKLOG: usize = 1_000;
    let gone = Receiver::ok().await.url(); // It is gone at the end of this line.
    let hanging = Receiver::scripted([], Script::Hang).await;
    let mut server = Server::start().await;
    server.leftovers_are_fine();
    let healthy = register_healthy(&server).await;
    for url in [hanging.url(), hanging.url(), gone] {
        server.endpoint_of("app", json!({ "url": url })).await;
    }
    server.publish_all("app", payloads(BACKLOG)).await;
    assert!(server.store().waiting_count() >= 3 * BACKLOG as u64);

    // The clock stands still, so nothing that hangs ever ends.
    wait_until("the others to hang", || hanging.open() == 2 * 64).await;
    server.publish_all("healthy", payloads(100)).await;
    healthy.received(100).await;
    assert_eq!(healthy.count(), 100);
    assert_eq!(hanging.busiest(), 2 * 64, "each has its cap");
}

#[actix_web::test]
async fn hundreds_of_hanging_endpoints_leave_room_for_a_healthy_one() {
    const HANGING: usize = 500;
    raise_file_limit();
    let hanging = Receiver::scripted([], Script::Hang).await;
    let mut server = Server::start_with(|config| {
        config.delivery.in_flight_max = 800;
        config.delivery.in_flight_per_host_max = 2 * HANGING;
    })
    .await;
    server.leftovers_are_fine();
    let healthy = register_healthy(&server).await;
    for _ in 0..HANGING {
        server.endpoint(&hanging).await;
    }
    server.publish_all("app", payloads(5)).await;
    // Three quarters of the slots are anybody's, and all of them hang.
    wait_until("600 to hang", || hanging.open() == 600).await;
    server.publish_all("healthy", payloads(20)).await;
    healthy.received(20).await;
    assert_eq!(
        hanging.count(),
        600,
        "the rest is for lanes with none in flight"
    );

    // Whoever timed out gets one slot. In the first round some take a second one before their own
    // first is known to have timed out.
    for _ in 0..2 {
        let before = hanging.count();
        server.advance(Duration::from_secs(15));
        let one_each = || {
            let begun = hanging.count() >= before + HANGING;
            begun && hanging.open() == server.in_flight()
        };
        wait_until("one each to hang", one_each).await;
        let healthy_before = healthy.count();
        server.publish_all("healthy", payloads(20)).await;
        healthy.received(healthy_before + 20).await;
    }
    wait_until("one each to be left", || hanging.open() == HANGING).await;
}

/// Both ends of every connection are in this process.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("up to the maximum anybody may");
}

#[actix_web::test]
async fn a_lane_that_timed_out_keeps_one_slot_until_a_success() {
    let receiver = Receiver::scripted([], Script::Hang).await;
    let server = Server::start().await;
    server.endpoint(&receiver).await;
    server.publish_all("app", payloads(30)).await;
    receiver.received(30).await;
    assert_eq!(receiver.busiest(), 30);
    server.advance(Duration::from_secs(15));
    server.settle().await;

    receiver.then(Script::AtGate(200));
    server.advance(Duration::from_secs(5));
    receiver.received(31).await;
    server.round_trip().await;
    wait_until("those that timed out to end", || receiver.open() == 1).await;
    assert_eq!(receiver.count(), 31);
    receiver.open_gate();
    receiver.received(60).await;
    server.settle().await;
    assert_eq!(server.store().waiting_count(), 0);
}

#[actix_web::test]
async fn an_endpoint_gets_no_more_at_a_time_than_its_cap() {
    let receiver = Receiver::scripted([], Script::AtGate(200)).await;
    let server = Server::start_with(|config| config.delivery.in_flight_per_endpoint_max = 8).await;
    server.endpoint(&receiver).await;
    server.publish_all("app", payloads(100)).await;
    receiver.received(8).await;
    server.round_trip().await;
    assert_eq!(receiver.count(), 8);
    receiver.open_gate();
    receiver.received(100).await;
    server.settle().await;
    assert_eq!(receiver.busiest(), 8);
    assert_eq!(receiver.count(), 100);
}
