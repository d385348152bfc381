//! Certificates of receivers, and handshakes that fail.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::*;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Where its certificate is, as PEM.
    file: tempfile::NamedTempFile,
}

/// A new authority; its file holds the certificates in `already` too.
fn authority(name: &str, already: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{already}{}", certificate.pem())).unwrap();
    Authority {
        issuer: Issuer::new(params, key),
        file,
    }
}

fn acceptor(authority: &Authority, name: &str, expired: bool) -> TlsAcceptor {
    acceptor_asking(
        authority,
        name,
        expired,
        WebPkiClientVerifier::no_client_auth(),
    )
}

fn acceptor_asking(
    authority: &Authority,
    name: &str,
    expired: bool,
    verifier: Arc<dyn ClientCertVerifier>,
) -> TlsAcceptor {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    if expired {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    }
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &authority.issuer).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// Answers every request on every connection; drops connections without a goodbye.
async fn receiver(acceptor: TlsAcceptor, answer: &'static str, requests: usize) -> Receiver {
    Receiver::scripted(move |talk, _| {
        let acceptor = acceptor.clone();
        async move {
            let Conversation { io, seen } = talk;
            let Ok(io) = acceptor.accept(io).await else {
                return;
            };
            let mut talk = Conversation { io, seen };
            for _ in 0..requests {
                if talk.request().await.is_some() {
                    talk.say(answer).await;
                }
            }
        }
    })
    .await
}

fn sender(trusted: &Authority) -> Sender {
    sender_with(Clock::System, |config| {
        config["delivery"]["extra_ca_file"] = json!(trusted.file.path());
    })
}

#[actix_web::test]
async fn a_valid_certificate_is_accepted_and_the_connection_reused() {
    let authority = authority("ours", "");
    // Also a literal address, which has no name to send.
    for host in ["localhost", "127.0.0.1"] {
        let receiver = receiver(acceptor(&authority, host, false), OK, 2).await;
        let sender = sender(&authority);
        let url = format!("https://{host}:{}/hook", receiver.address.port());
        let endpoint = endpoint(url);
        let first = sender.made(&endpoint, &message(), 1).await;
        assert_eq!(first.failure, None);
        assert!(first.timings.tls_us.is_some());
        let second = sender.made(&endpoint, &message(), 1).await;
        assert_eq!((second.failure, second.sent_again), (None, false));
        assert_eq!(second.timings.tls_us, None);
        assert_eq!(receiver.seen.connections.get(), 1);
        // The third finds the connection closed, and makes a new one.
        let third = sender.made(&endpoint, &message(), 1).await;
        assert_eq!(third.failure, None);
        assert_eq!(receiver.seen.connections.get(), 2);
        let expected = format!("{host}:{}", receiver.address.port());
        assert_eq!(header(&receiver.requests()[0], "host"), [expected]);
    }
}

#[actix_web::test]
async fn what_is_wrong_with_a_certificate_is_told() {
    let ours = authority("ours", "");
    let other = authority("another", "");
    for (acceptor, expected) in [
        (acceptor(&ours, "localhost", true), "has expired"),
        (acceptor(&ours, "example.com", false), "is for another host"),
        (acceptor(&other, "localhost", false), "is unknown"),
    ] {
        let receiver = receiver(acceptor, OK, 1).await;
        let sender = sender(&ours);
        let endpoint = endpoint(format!("https://localhost:{}/", receiver.address.port()));
        let outcome = sender.made(&endpoint, &message(), 1).await;
        let (kind, detail) = failure_of(&outcome);
        assert_eq!(kind, FailureKind::Tls);
        assert!(detail.contains(expected), "{detail}");
        assert!(receiver.requests().is_empty());
    }
}

/// The certificate that `openssl req -x509` makes: its own authority, and a server's at once.
#[actix_web::test]
async fn a_certificate_of_the_extra_file_is_trusted_for_its_own_names_while_it_is_valid() {
    let self_signed = |name: &str, expired: bool| {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        if expired {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (certificate, key)
    };
    let other = self_signed("localhost", false).0;
    for (name, expired, is_pinned, expected) in [
        ("localhost", false, true, None),
        ("localhost", false, false, Some("not acceptable")),
        ("localhost", true, true, Some("has expired")),
        ("example.com", false, true, Some("is for another host")),
    ] {
        let (certificate, key) = self_signed(name, expired);
        let file = tempfile::NamedTempFile::new().unwrap();
        let pem = if is_pinned { &certificate } else { &other };
        std::fs::write(file.path(), pem.pem()).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let receiver = receiver(acceptor_of(certificate.der().clone(), key), OK, 1).await;
        let sender = sender_with(Clock::System, |config| {
            config["delivery"]["extra_ca_file"] = json!(file.path());
        });
        let endpoint = endpoint(format!("https://localhost:{}/", receiver.address.port()));
        let outcome = sender.made(&endpoint, &message(), 1).await;
        match (expected, &outcome.failure) {
            (None, None) => assert_eq!(receiver.requests().len(), 1),
            (Some(part), Some(failure)) => {
                assert_eq!(failure.kind, FailureKind::Tls);
                assert!(failure.detail.contains(part), "{}", failure.detail);
                assert!(receiver.requests().is_empty());
            }
            _ => panic!("{name}, {expired}, {is_pinned}: {:?}", outcome.failure),
        }
    }
}

/// Keys of P-521, and certificates that are signed with it: ecdsa-with-SHA512.
#[actix_web::test]
async fn a_certificate_with_a_key_of_p_521_is_accepted_and_so_is_one_signed_with_sha_512() {
    let p_521 = || KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
    let p_256 = || KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    for (case, authority_key, leaf_key) in [
        ("both", p_521(), p_521()),
        ("the chain", p_521(), p_256()),
        ("the key", p_256(), p_521()),
    ] {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let file = tempfile::NamedTempFile::new().unwrap();
        let own = params.self_signed(&authority_key).unwrap();
        std::fs::write(file.path(), own.pem()).unwrap();
        let issuer = Issuer::new(params, authority_key);
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&leaf_key, &issuer).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
        let receiver = receiver(acceptor_of(certificate.der().clone(), key), OK, 1).await;
        let sender = sender_with(Clock::System, |config| {
            config["delivery"]["extra_ca_file"] = json!(file.path());
        });
        let endpoint = endpoint(format!("https://localhost:{}/", receiver.address.port()));
        let outcome = sender.made(&endpoint, &message(), 1).await;
        assert_eq!(outcome.failure, None, "{case}");
        assert_eq!(receiver.requests().len(), 1, "{case}");
    }
}

fn acceptor_of(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// h2 is linked by way of awc, and has a known fault.
#[actix_web::test]
async fn a_receiver_of_http_2_alone_gets_no_byte_of_it() {
    let authority = authority("ours", "");
    let acceptor = acceptor(&authority, "localhost", false);
    let mut config = ServerConfig::clone(acceptor.config());
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let handshakes = Rc::new(Cell::new((0, 0)));
    let counted = handshakes.clone();
    let receiver = Receiver::scripted(move |talk, _| {
        let (acceptor, counted) = (acceptor.clone(), counted.clone());
        async move {
            let result = acceptor.accept(talk.io).await;
            let (begun, done) = counted.get();
            counted.set((begun + 1, done + usize::from(result.is_ok())));
        }
    })
    .await;
    let sender = sender(&authority);
    let endpoint = endpoint(format!("https://localhost:{}/", receiver.address.port()));
    let outcome = sender.made(&endpoint, &message(), 1).await;
    let (kind, detail) = failure_of(&outcome);
    assert_eq!(kind, FailureKind::Tls);
    assert!(detail.contains("HTTP/2 is not offered"), "{detail}");
    until("the handshake ends", || handshakes.get().0 == 1).await;
    assert_eq!(handshakes.get(), (1, 0));
}

#[actix_web::test]
async fn a_refusal_after_the_handshake_is_a_failure_of_tls() {
    let authority = authority("ours", "");
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authority.file.path()).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .unwrap();
    let acceptor = acceptor_asking(&authority, "localhost", false, verifier);
    let receiver = receiver(acceptor, OK, 1).await;
    let sender = sender(&authority);
    let endpoint = endpoint(format!("https://localhost:{}/", receiver.address.port()));
    let outcome = sender.made(&endpoint, &message(), 1).await;
    let (kind, detail) = failure_of(&outcome);
    assert_eq!(kind, FailureKind::Tls, "{detail}");
    assert!(detail.contains("wants a client certificate"), "{detail}");
    assert!(!outcome.sent_again);
}

#[actix_web::test]
async fn a_receiver_without_tls_is_told_from_one_that_closes() {
    let sender = super::sender();
    for (answer, expected) in [
        (OK, "does not speak TLS"),
        ("", "ended within the TLS handshake"),
    ] {
        let receiver = Receiver::scripted(move |mut talk, _| async move {
            let mut some = [0; 16];
            talk.io.read_exact(&mut some).await.unwrap();
            talk.say(answer).await;
            let mut rest = [0; 4096];
            let _ = talk.io.read(&mut rest).await;
        })
        .await;
        let endpoint = endpoint(receiver.url().replace("http:", "https:"));
        let outcome = sender.made(&endpoint, &message(), 1).await;
        let (kind, detail) = failure_of(&outcome);
        assert_eq!(kind, FailureKind::Tls);
        assert!(detail.contains(expected), "{detail}");
    }
}

#[actix_web::test]
async fn an_end_without_goodbye_ends_a_body_only_where_no_length_is_known() {
    let authority = authority("ours", "");
    for (answer, broken) in [
        ("HTTP/1.1 200 OK\r\n\r\nall", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nall", true),
    ] {
        let receiver = receiver(acceptor(&authority, "localhost", false), answer, 1).await;
        let sender = sender(&authority);
        let endpoint = endpoint(format!("https://localhost:{}/", receiver.address.port()));
        let outcome = sender.made(&endpoint, &message(), 1).await;
        let kind = outcome.failure.map(|failure| failure.kind);
        assert_eq!(
            kind,
            broken.then_some(FailureKind::BrokenAnswer),
            "{answer}"
        );
    }
}

#[test]
fn the_extra_file_may_hold_several_certificates() {
    let first = authority("first", "");
    let already = std::fs::read_to_string(first.file.path()).unwrap();
    let both = authority("second", &already);
    let load = |path: PathBuf| {
        let config = config(|config| {
            config["delivery"]["extra_ca_file"] = json!(path);
        });
        SendSettings::from_config(&config, &OwnAddresses::default())
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    assert_eq!(load(both.file.path().to_owned()), Ok(()));
    let empty = tempfile::NamedTempFile::new().unwrap();
    for path in [
        empty.path().to_owned(),
        PathBuf::from("/does/not/exist.pem"),
    ] {
        let error = load(path).unwrap_err();
        assert!(error.starts_with("delivery.extra_ca_file: "), "{error}");
    }
}
