//! Which addresses a delivery may reach: asked when an endpoint is created, and again at every
//! connection.

use std::time::Duration;

use serde_json::json;

use crate::support::{Dns, Receiver, Server, UNUSED, assert_invalid};

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

/// One that the operator opened to the world would be reached from inside of its firewall.
#[actix_web::test]
async fn the_machines_own_public_addresses_are_refused_like_private_ones() {
    let dns = Dns::start();
    let address = dns.address.to_string();
    let mut server = Server::start_with(move |config| {
        config.delivery.dns_servers = vec![address.try_into().expect("an address")];
    })
    .await;
    server.leftovers_are_fine();
    for host in ["here.unused.test", "db.private.test", "db.missing.test"] {
        let url = format!("http://{host}:9/");
        server.endpoint_of("app", json!({ "url": url })).await;
    }
    let url = format!("http://[{UNUSED}]:9/");
    server.endpoint_of("app", json!({ "url": url })).await;
    server.own_addresses().set([UNUSED.into()]);

    let message = server.publish("invoice.paid", json!({})).await;
    server.settle().await;
    let attempts = server.attempts(&message).await;
    let failures = |kind: &str| {
        let all = attempts.iter().map(|attempt| attempt["failure"].clone());
        all.filter(|failure| failure["kind"] == kind)
            .collect::<Vec<_>>()
    };
    let (by_name, by_address) = (failures("dns"), failures("address_forbidden"));
    assert_eq!((by_name.len(), by_address.len()), (3, 1), "{attempts:?}");
    assert!(by_name.iter().all(|failure| *failure == by_name[0]));

    let made = |host: String| {
        let body = json!({ "url": format!("http://{host}:9/") });
        let server = &server;
        async move {
            let mut answers = Vec::new();
            for path in [
                "/api/v1/app/app/endpoint",
                "/api/v1/operational-webhook/endpoint",
            ] {
                answers.push(server.post(path, body.clone()).await);
            }
            answers
        }
    };
    let own = made(format!("[{UNUSED}]")).await;
    let private = made("10.0.0.1".to_owned()).await;
    for (own, private) in own.iter().zip(&private) {
        assert_invalid(own, &["body.url"]);
        assert_eq!(own.text, private.text);
    }

    // The machine has other addresses than the test said: they are found anew.
    server.advance(Duration::from_secs(31));
    let deadline = std::time::Instant::now() + crate::support::DEADLINE;
    loop {
        let answer = &made(format!("[{UNUSED}]")).await[0];
        if answer.status == 201 {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{}", answer.text);
    }
}

#[actix_web::test]
async fn what_the_operator_denies_is_refused_whatever_is_allowed() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    for host in ["localhost", "127.0.0.1"] {
        let url = format!("http://{host}:{}/", receiver.port);
        server.endpoint_of("app", json!({ "url": url })).await;
    }
    let mut server = server
        .restart_with(|config| {
            config.delivery.deny_addresses = vec!["127.0.0.1/32".parse().unwrap()];
        })
        .await;
    server.leftovers_are_fine();
    let message = server.publish("invoice.paid", json!({})).await;
    server.settle().await;
    let mut outcomes = server.outcomes(&message).await;
    outcomes.sort();
    assert_eq!(outcomes, ["address_forbidden", "dns"]);
    assert_eq!(receiver.count(), 0);
    let body = json!({ "url": receiver.url() });
    let refused = server.post("/api/v1/app/app/endpoint", body).await;
    assert_invalid(&refused, &["body.url"]);
    let body = json!({ "url": "http://127.0.0.2:9/" });
    let answer = server.post("/api/v1/app/app/endpoint", body).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
}
