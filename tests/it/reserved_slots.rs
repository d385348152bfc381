//! The last slots are for lanes with nothing in flight: endpoints that hang hold all the others.

use crate::support::{Receiver, Script, Server};
use serde_json::json;

#[actix_web::test]
async fn a_lane_that_had_to_wait_for_its_own_answer_goes_on_after_it() {
    let hanging = Receiver::scripted([], Script::Hang).await;
    let healthy = Receiver::ok().await;
    let mut server = Server::start_with(|config| {
        config.delivery.workers = 1;
        config.delivery.in_flight_max = 8;
    })
    .await;
    server.leftovers_are_fine();
    server.endpoint(&hanging).await;
    for number in 0..6 {
        server.publish("slots.taken", json!({ "id": number })).await;
    }
    // Six of eight: all that may be taken by lanes that have some already.
    hanging.received(6).await;

    server.application("other").await;
    let endpoint = json!({ "url": healthy.url(), "disabled": true });
    let endpoint = server
        .post("/api/v1/app/other/endpoint", endpoint)
        .await
        .expect(201);
    for number in 0..20 {
        let message = json!({ "eventType": "slots.wanted", "payload": { "id": number } });
        server
            .post("/api/v1/app/other/msg", message)
            .await
            .expect(202);
    }
    // All at once, so that the second is due while the first is in flight.
    let path = format!(
        "/api/v1/app/other/endpoint/{}",
        endpoint["id"].as_str().expect("an id")
    );
    server
        .patch(&path, json!({ "disabled": false }))
        .await
        .expect(200);
    healthy.received(20).await;
    assert_eq!(hanging.count(), 6, "what hangs still hangs");
}
