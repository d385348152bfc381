//! Which addresses a delivery may reach: asked when an endpoint is created, and again at every
//! connection.

use serde_json::json;

use crate::support::{Receiver, Server};

const LOOPBACK: &str = "127.0.0.0/8";

#[actix_web::test]
async fn a_forbidden_address_is_refused_when_the_endpoint_is_created() {
    let server = Server::start_with(|config| {
        config.delivery.danger_allow_private_addresses.clear();
    })
    .await;
    server.application("app").await;
    for host in [
        "127.0.0.1",
        "localhost",
        "a.localhost",
        "[::1]",
        "0x7f.1",
        "2130706433",
        "10.0.0.1",
        "169.254.169.254",
        "[::ffff:127.0.0.1]",
    ] {
        let body = json!({ "url": format!("http://{host}:80/") });
        let answer = server.post("/api/v1/app/app/endpoint", body).await;
        assert_eq!(answer.status, 422, "{host}: {}", answer.text);
    }
}

/// A name can come to lead elsewhere after its endpoint was created: what counts is the address
/// that would be dialled.
#[actix_web::test]
async fn a_name_that_leads_to_a_forbidden_address_is_not_connected_to() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    for host in ["localhost", "127.0.0.1"] {
        let url = format!("http://{host}:{}/", receiver.port);
        server.endpoint_of("app", json!({ "url": url })).await;
    }
    let mut server = server
        .restart_with(|config| config.delivery.danger_allow_private_addresses.clear())
        .await;
    server.leftovers_are_fine();
    let message = server.publish("invoice.paid", json!({})).await;
    server.settle().await;
    let mut outcomes = server.outcomes(&message).await;
    outcomes.sort();
    assert_eq!(outcomes, ["address_forbidden", "dns"]);
    assert_eq!(receiver.count(), 0);
    for attempt in server.attempts(&message).await {
        let detail = attempt["failure"]["detail"].as_str().expect("a sentence");
        assert!(!detail.contains("127.0.0.1"), "{detail}");
    }
}

#[actix_web::test]
async fn the_operator_allows_networks() {
    let receiver = Receiver::ok().await;
    let server = Server::start_with(|config| {
        config.delivery.danger_allow_private_addresses = vec![LOOPBACK.parse().unwrap()];
    })
    .await;
    let url = format!("http://localhost:{}/", receiver.port);
    server.endpoint_of("app", json!({ "url": url })).await;
    server.endpoint(&receiver).await;
    let message = server.publish("invoice.paid", json!({})).await;
    server.settle().await;
    assert_eq!(server.outcomes(&message).await, ["delivered", "delivered"]);

    // Another network does not help.
    let mut server = server
        .restart_with(|config| {
            config.delivery.danger_allow_private_addresses = vec!["10.0.0.0/8".parse().unwrap()];
        })
        .await;
    server.leftovers_are_fine();
    let message = server.publish("invoice.paid", json!({})).await;
    server.settle().await;
    let mut outcomes = server.outcomes(&message).await;
    outcomes.sort();
    assert_eq!(outcomes, ["address_forbidden", "dns"]);
}

#[actix_web::test]
async fn where_only_https_is_allowed_nothing_goes_out_over_http() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    server.endpoint(&receiver).await;
    let mut server = server
        .restart_with(|config| config.delivery.https_only = true)
        .await;
    server.leftovers_are_fine();
    let message = server.publish("invoice.paid", json!({})).await;
    server.settle().await;
    assert_eq!(server.outcomes(&message).await, ["not_sendable"]);
    assert_eq!(receiver.count(), 0);
    let body = json!({ "url": receiver.url() });
    let answer = server.post("/api/v1/app/app/endpoint", body).await;
    assert_eq!(answer.status, 422);
}
