//! Endpoints' URLs: what is registered is what can be sent, exactly as it is shown.

use serde_json::json;

use crate::support::{Dns, Receiver, Server, assert_invalid};

/// Every character of ASCII, and some beyond, in each part of a URL is either refused or sent.
#[actix_web::test]
async fn what_is_registered_is_what_is_sent() {
    let dns = Dns::start();
    let address = dns.address.to_string();
    let server = Server::start_with(move |config| {
        config.delivery.dns_servers = vec![address.try_into().expect("an address")];
    })
    .await;
    let receiver = Receiver::ok().await;
    let port = receiver.port;
    server.application("app").await;
    let mut expected = Vec::new();
    let mut refused = String::new();
    for c in ('!'..='~').chain(['é', '😀']) {
        for url in [
            format!("http://a{c}b.test:{port}/host"),
            format!("http://a.test:{port}/a{c}b"),
            format!("http://a.test:{port}?a{c}b"),
        ] {
            if url.ends_with("/host") && ['/', '\\', '?'].contains(&c) {
                // The host ends before the receiver's port.
                continue;
            }
            let body = json!({ "url": url });
            let answer = server.post("/api/v1/app/app/endpoint", body).await;
            if answer.status != 201 {
                assert_invalid(&answer, &["body.url"]);
                refused.push(c);
                continue;
            }
            let shown = answer.json()["url"].as_str().expect("a text").to_owned();
            let (host, target) = shown["http://".len()..].split_once('/').expect("a path");
            expected.push((host.to_owned(), format!("/{target}")));
        }
    }
    // Fragments and backslashes are refused wherever they stand, and what no host name has.
    assert_eq!(refused, "!\"###$%&'()*+,:;<=>[\\\\]^`{|}~");
    server.publish("invoice.paid", json!({})).await;
    receiver.received(expected.len()).await;
    server.settle().await;
    // What had failed would wait for its retry, which the end of the test notices.
    let mut sent: Vec<_> = receiver
        .requests()
        .into_iter()
        .map(|request| {
            let host = request.header("host").expect("each has one").to_owned();
            (host, request.target)
        })
        .collect();
    sent.sort();
    expected.sort();
    assert_eq!(sent, expected);
}

#[actix_web::test]
async fn a_url_that_cannot_be_sent_is_refused_with_what_is_wrong_and_where() {
    let server = Server::start().await;
    server.application("app").await;
    for path in [
        "/api/v1/app/app/endpoint",
        "/api/v1/operational-webhook/endpoint",
    ] {
        let body = json!({ "url": "http://a{b}.test/" });
        let answer = server.post(path, body).await;
        assert_invalid(&answer, &["body.url"]);
        assert!(
            answer.text.contains("has a host with '{'"),
            "{}",
            answer.text
        );
    }
}
