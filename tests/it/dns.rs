//! Names of receivers, with a DNS server that a test scripts.

use serde_json::json;

use crate::support::{Dns, Receiver, Server, wait_until};

async fn server_asking(dns: &Dns) -> Server {
    let address = dns.address.to_string();
    Server::start_with(move |config| {
        config.delivery.dns_servers = vec![address.try_into().expect("an address")];
    })
    .await
}

#[actix_web::test]
async fn names_whose_servers_are_silent_delay_no_other_customer() {
    const SILENT: usize = 600;
    let dns = Dns::start();
    let receiver = Receiver::ok().await;
    let mut server = server_asking(&dns).await;
    server.leftovers_are_fine();
    for number in 0..SILENT {
        let url = format!("http://{number}.silent.test:{}/", receiver.port);
        server.endpoint_of("app", json!({ "url": url })).await;
    }
    let url = format!("http://hook.healthy.test:{}/", receiver.port);
    server.endpoint_of("healthy", json!({ "url": url })).await;

    server.publish("invoice.paid", json!({})).await;
    wait_until("silent names to be asked for", || {
        dns.asked_below("silent.test") > 1
    })
    .await;
    // The clock stands still: an attempt ends by an answer, and not by its limit.
    let message = server
        .publish_to("healthy", "invoice.paid", json!({}))
        .await;
    receiver.received(1).await;
    wait_until("the delivery to be recorded", || {
        server.store().waiting_count() == SILENT as u64
    })
    .await;
    assert!(
        dns.asked_below("silent.test") < SILENT / 2,
        "one customer's look-ups have a limit"
    );
    assert_eq!(server.outcomes_in("healthy", &message).await, ["delivered"]);
}

/// Whoever registers endpoints learns nothing of the names that only this network knows.
#[actix_web::test]
async fn a_private_name_looks_like_one_that_does_not_exist() {
    let dns = Dns::start();
    let mut server = server_asking(&dns).await;
    server.leftovers_are_fine();
    for name in ["db.private.test", "db.missing.test"] {
        let url = format!("http://{name}/");
        server.endpoint_of("app", json!({ "url": url })).await;
    }
    let message = server.publish("invoice.paid", json!({})).await;
    server.settle().await;
    let failures: Vec<_> = server
        .attempts(&message)
        .await
        .iter()
        .map(|attempt| attempt["failure"].clone())
        .collect();
    assert_eq!(failures.len(), 2);
    assert_eq!(failures[0], failures[1]);
    assert_eq!(failures[0]["kind"], "dns");
}
