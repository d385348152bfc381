//! Receivers with TLS, whose certificates come from an authority that the operator trusts or not.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use tempfile::NamedTempFile;
use tokio_rustls::TlsAcceptor;

use crate::support::{Receiver, Server, wait_until};

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate as PEM.
    file: NamedTempFile,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), certificate.pem()).unwrap();
        Authority {
            issuer: Issuer::new(params, key),
            file,
        }
    }

    /// A receiver's side of TLS, with a certificate for `host` that ends with this year.
    fn acceptor(&self, host: &str, last_year: i32) -> TlsAcceptor {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(last_year, 12, 31);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

async fn server_trusting(file: &Path) -> Server {
    Server::start_with(|config| config.delivery.extra_ca_file = Some(file.to_owned())).await
}

#[actix_web::test]
async fn a_certificate_of_a_trusted_authority_is_delivered_to() {
    let authority = Authority::new("ours");
    let receiver = Receiver::tls(authority.acceptor("localhost", 2199)).await;
    let server = server_trusting(authority.file.path()).await;
    let message = server
        .send_to(&receiver, "invoice.paid", json!({ "id": 1 }))
        .await;
    assert_eq!(server.outcomes(&message).await, ["delivered"]);
    let request = &receiver.requests()[0];
    assert_eq!(request.body, br#"{"id":1}"#);
    let host = format!("localhost:{}", receiver.port);
    assert_eq!(request.header("host"), Some(host.as_str()));
    let timings = &server.attempts(&message).await[0]["timings"];
    assert!(timings["tlsUs"].as_u64() > Some(0), "{timings}");
    // The next message goes over the same connection.
    server.publish("invoice.paid", json!({ "id": 2 })).await;
    server.settle().await;
    assert_eq!(receiver.requests()[1].connection, 0);
}

#[actix_web::test]
async fn what_is_wrong_with_a_certificate_keeps_the_request_in() {
    let authority = Authority::new("ours");
    let stranger = Authority::new("theirs");
    let mut server = server_trusting(authority.file.path()).await;
    server.leftovers_are_fine();
    for (case, acceptor, expected) in [
        (
            "expired",
            authority.acceptor("localhost", 2021),
            "The receiver's certificate has expired.",
        ),
        (
            "wrong host",
            authority.acceptor("elsewhere.test", 2199),
            "The receiver's certificate is for another host.",
        ),
        (
            "unknown issuer",
            stranger.acceptor("localhost", 2199),
            "The issuer of the receiver's certificate is unknown",
        ),
    ] {
        let receiver = Receiver::tls(acceptor).await;
        let endpoint = server.endpoint(&receiver).await;
        let message = server.publish("invoice.paid", json!({})).await;
        server.settle().await;
        assert_eq!(server.outcomes(&message).await, ["tls"], "{case}");
        let attempt = &server.attempts(&message).await[0];
        let detail = attempt["failure"]["detail"].as_str().expect("a sentence");
        assert!(detail.starts_with(expected), "{case}: {detail}");
        assert_eq!(receiver.count(), 0, "{case}");
        server
            .delete(&format!("/api/v1/app/app/endpoint/{endpoint}"))
            .await
            .expect(204);
    }
}

#[actix_web::test]
async fn a_receiver_without_tls_at_an_https_url_gets_nothing() {
    let authority = Authority::new("ours");
    let receiver = Receiver::ok().await;
    let mut server = Server::start_with(|config| {
        config.delivery.extra_ca_file = Some(authority.file.path().to_owned());
        config.delivery.connect_timeout_seconds = 1;
    })
    .await;
    server.leftovers_are_fine();
    let url = format!("https://localhost:{}/", receiver.port);
    server.endpoint_of("app", json!({ "url": url })).await;
    let message = server.publish("invoice.paid", json!({})).await;
    // It waits for the end of what is no head to it, until connecting has taken too long.
    wait_until("the handshake to begin", || receiver.begun() == 1).await;
    server.advance(Duration::from_millis(999));
    server.round_trip().await;
    wait_until("the handshake alone to go on", || server.in_flight() == 1).await;
    server.advance(Duration::from_millis(1));
    server.settle().await;
    assert_eq!(server.outcomes(&message).await, ["connection_failed"]);
    let detail = server.attempts(&message).await[0]["failure"]["detail"].clone();
    assert_eq!(detail, "The TLS handshake took longer than 1 s.");
    assert_eq!(receiver.count(), 0);
}
