//! The address that a connection is made to, and the addresses that are refused.

use super::*;

#[actix_web::test]
async fn a_connection_that_nobody_takes_is_refused() {
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let sender = sender();
    let endpoint = endpoint(format!("http://{address}/"));
    let outcome = sender.made(&endpoint, &message(), 1).await;
    assert_eq!(failure_of(&outcome).0, FailureKind::ConnectionRefused);
    assert_eq!(outcome.answer, None);
    assert!(!outcome.request_headers.is_empty());
}

#[actix_web::test]
async fn a_forbidden_address_is_not_dialled() {
    let receiver = Receiver::answering(OK).await;
    let port = receiver.address.port();
    let sender = sender_with(Clock::System, |config| {
        config["delivery"]["danger_allow_private_addresses"] = json!([]);
    });
    for host in [
        "127.0.0.1",
        "127.1.2.3",
        "0x7f.1",
        "2130706433",
        "0177.0.0.1",
        "0",
        "localhost",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
    ] {
        for scheme in ["http", "https"] {
            let endpoint = endpoint(format!("{scheme}://{host}:{port}/"));
            let outcome = sender.made(&endpoint, &message(), 1).await;
            let (kind, detail) = failure_of(&outcome);
            // A name is not told from one that does not exist.
            let expected = match host {
                "localhost" => FailureKind::Dns,
                _ => FailureKind::AddressForbidden,
            };
            assert_eq!(kind, expected, "{host}: {detail}");
        }
    }
    assert_eq!(receiver.seen.connections.get(), 0);
}

#[actix_web::test]
async fn a_name_that_does_not_resolve_is_told() {
    let sender = sender();
    let endpoint = endpoint("http://does-not-exist.invalid/");
    let outcome = sender.made(&endpoint, &message(), 1).await;
    assert_eq!(failure_of(&outcome).0, FailureKind::Dns);
    assert!(outcome.timings.dns_us.is_some());
}

#[actix_web::test]
async fn a_name_is_resolved_and_kept_in_the_host_header() {
    let receiver = Receiver::answering(OK).await;
    let sender = sender();
    let endpoint = endpoint(format!("http://localhost:{}/", receiver.address.port()));
    let outcome = sender.made(&endpoint, &message(), 1).await;
    assert_eq!(outcome.failure, None);
    assert!(outcome.timings.dns_us.is_some());
    let host = format!("localhost:{}", receiver.address.port());
    assert_eq!(header(&receiver.requests()[0], "host"), [host]);
}
