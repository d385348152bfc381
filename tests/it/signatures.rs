//! What receivers verify: over which bytes, with which secrets, at which time.

use std::time::Duration;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use postrider::clock::Timestamp;
use postrider::delivery::sign::{NotVerified, SignedHeaders, VerifyingKey};
use postrider::domain::secret::SignatureType;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::{Receiver, Request, Server};

fn signed<'a>(request: &'a Request, prefix: &str) -> SignedHeaders<'a> {
    let header = |name: &str| {
        let value = request.header(&format!("{prefix}-{name}"));
        value.unwrap_or_else(|| panic!("no {prefix}-{name}"))
    };
    SignedHeaders {
        id: header("id"),
        timestamp: header("timestamp"),
        signature: header("signature"),
    }
}

/// The content that is signed, by the standard.
fn content(headers: SignedHeaders<'_>, body: &[u8]) -> Vec<u8> {
    let start = format!("{}.{}.", headers.id, headers.timestamp);
    [start.as_bytes(), body].concat()
}

/// `v1,…` as any receiver would compute it.
fn expected_v1(secret: &str, headers: SignedHeaders<'_>, body: &[u8]) -> String {
    let key = secret.strip_prefix("whsec_").expect("an HMAC secret");
    let key = STANDARD.decode(key).expect("base64");
    let mut hmac = Hmac::<Sha256>::new_from_slice(&key).expect("any length");
    hmac.update(&content(headers, body));
    format!("v1,{}", STANDARD.encode(hmac.finalize().into_bytes()))
}

pub fn check(
    request: &Request,
    prefix: &str,
    secret: &str,
    now: Timestamp,
) -> Result<(), NotVerified> {
    VerifyingKey::parse(secret)?.verify(signed(request, prefix), &request.body, now)
}

pub async fn secret_of(server: &Server, endpoint: &str) -> String {
    let path = format!("/api/v1/app/app/endpoint/{endpoint}/secret");
    let secret = server.get(&path).await.expect(200);
    secret["key"].as_str().expect("a key").to_owned()
}

#[actix_web::test]
async fn every_attempt_is_signed_at_its_own_time_and_keeps_the_id() {
    let receiver = Receiver::answering([500, 500]).await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    let secret = secret_of(&server, &endpoint).await;
    // Order, spelling and spacing are the publisher's.
    let payload = "{ \"b\": 1.10,\n  \"a\": \"\\u00e9 é\" }";
    let body = format!(r#"{{"eventType":"invoice.paid","payload":{payload}}}"#);
    let answer = server
        .call(
            awc::http::Method::POST,
            "/api/v1/app/app/msg",
            &[],
            Some(body),
        )
        .await;
    let message = answer.expect(202)["id"].as_str().expect("an id").to_owned();
    server.settle().await;
    let mut sent_at = vec![server.now()];
    for _ in 0..2 {
        server.advance_to_next_due().await;
        sent_at.push(server.now());
    }
    let requests = receiver.received(3).await;
    for (request, sent_at) in requests.iter().zip(sent_at) {
        let headers = signed(request, "webhook");
        assert_eq!(request.body, payload.as_bytes());
        assert_eq!(headers.id, message);
        assert_eq!(headers.timestamp, sent_at.as_seconds().to_string());
        assert_eq!(check(request, "webhook", &secret, sent_at), Ok(()));
        let expected = expected_v1(&secret, headers, &request.body);
        assert_eq!(headers.signature, expected);
        let product = concat!("postrider/", env!("CARGO_PKG_VERSION"));
        assert_eq!(request.header("user-agent"), Some(product));
        assert_eq!(request.header("content-type"), Some("application/json"));
        // Neither another secret nor another body passes.
        let other = format!("whsec_{}", STANDARD.encode([7; 32]));
        assert_eq!(
            check(request, "webhook", &other, sent_at),
            Err(NotVerified::NoMatch)
        );
        let mut changed = request.clone();
        changed.body[2] ^= 1;
        assert_eq!(
            check(&changed, "webhook", &secret, sent_at),
            Err(NotVerified::NoMatch)
        );
    }
    let timestamps = requests.iter().map(|one| one.header("webhook-timestamp"));
    assert_eq!(
        timestamps.collect::<std::collections::HashSet<_>>().len(),
        3
    );
}

#[actix_web::test]
async fn the_svix_names_are_a_setting() {
    let receiver = Receiver::ok().await;
    let server =
        Server::start_with(|config| config.delivery.default_profile = "svix".to_owned()).await;
    let endpoint = server.endpoint(&receiver).await;
    let secret = secret_of(&server, &endpoint).await;
    server.publish("invoice.paid", json!({ "id": 1 })).await;
    server.settle().await;
    let request = &receiver.requests()[0];
    assert_eq!(check(request, "svix", &secret, server.now()), Ok(()));
    assert_eq!(request.header("webhook-id"), None);
}

#[actix_web::test]
async fn both_secrets_sign_while_one_takes_over_from_the_other() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    let old = secret_of(&server, &endpoint).await;
    let path = format!("/api/v1/app/app/endpoint/{endpoint}/secret/rotate");
    let body = json!({ "gracePeriodSeconds": 3600 });
    server.post(&path, body).await.expect(200);
    let new = secret_of(&server, &endpoint).await;
    assert_ne!(old, new);

    server.publish("invoice.paid", json!({ "n": 1 })).await;
    server.settle().await;
    let request = &receiver.requests()[0];
    let headers = signed(request, "webhook");
    let both = [&new, &old].map(|secret| expected_v1(secret, headers, &request.body));
    assert_eq!(headers.signature, both.join(" "), "the newest first");
    for secret in [&old, &new] {
        assert_eq!(check(request, "webhook", secret, server.now()), Ok(()));
    }

    server.advance(Duration::from_secs(3600));
    server.publish("invoice.paid", json!({ "n": 2 })).await;
    server.settle().await;
    let request = &receiver.requests()[1];
    assert_eq!(check(request, "webhook", &new, server.now()), Ok(()));
    assert_eq!(
        check(request, "webhook", &old, server.now()),
        Err(NotVerified::NoMatch)
    );
}

#[actix_web::test]
async fn an_ed25519_endpoint_signs_so_that_its_public_key_verifies() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let secret = format!("whsk_{}", STANDARD.encode([7; 32]));
    let body = json!({ "url": receiver.url(), "secret": secret });
    let endpoint = server.endpoint_of("app", body).await;
    let public = secret_of(&server, &endpoint).await;
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a seed");
    let encoded = STANDARD.encode(pair.public_key());
    assert_eq!(public, format!("whpk_{encoded}"), "the private key stays");

    server.publish("invoice.paid", json!({ "id": 1 })).await;
    server.settle().await;
    let request = &receiver.requests()[0];
    assert_eq!(check(request, "webhook", &public, server.now()), Ok(()));
    let headers = signed(request, "webhook");
    let signature = headers.signature.strip_prefix("v1a,").expect("v1a");
    let signature = STANDARD.decode(signature).expect("base64");
    UnparsedPublicKey::new(&ED25519, pair.public_key())
        .verify(&content(headers, &request.body), &signature)
        .expect("the signature holds");
}

#[actix_web::test]
async fn secrets_that_are_made_up_are_of_the_kind_that_is_set() {
    for (kind, shown, signed) in [
        (SignatureType::Hmac, "whsec_", "v1,"),
        (SignatureType::Ed25519, "whpk_", "v1a,"),
    ] {
        let receiver = Receiver::ok().await;
        let server =
            Server::start_with(|config| config.delivery.default_signature_type = kind).await;
        let secret = async |endpoint: &str| {
            let path = format!("/api/v1/app/app/endpoint/{endpoint}/secret");
            let secret = server.get(&path).await.expect(200);
            secret["key"].as_str().expect("a secret").to_owned()
        };
        let rotate = async |endpoint: &str, body: Value| {
            let path = format!("/api/v1/app/app/endpoint/{endpoint}/secret/rotate");
            server.post(&path, body).await.expect(200);
        };
        let made = server.endpoint(&receiver).await;
        assert!(secret(&made).await.starts_with(shown), "{kind:?}");
        server.publish("a", json!({})).await;
        server.settle().await;
        let signature = receiver.requests()[0]
            .header("webhook-signature")
            .map(str::to_owned);
        assert!(
            signature.is_some_and(|text| text.starts_with(signed)),
            "{kind:?}"
        );
        // Its receiver goes on verifying as it does.
        rotate(&made, json!({})).await;
        assert!(secret(&made).await.starts_with(shown), "{kind:?}");
        let given = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let own = json!({ "url": receiver.url(), "secret": given });
        let own = server.endpoint_of("app", own).await;
        assert_eq!(secret(&own).await, given);
        rotate(&own, json!({})).await;
        assert!(secret(&own).await.starts_with("whsec_"), "{kind:?}");
        // A profile that takes one kind alone has that.
        let github = json!({ "url": receiver.url(), "profile": "github" });
        let github = server.endpoint_of("app", github).await;
        let text = secret(&github).await;
        assert!(!text.starts_with("wh"), "{kind:?}");
        let platform = json!({ "url": receiver.url() });
        let own = "/api/v1/operational-webhook/endpoint";
        let platform = server.post(own, platform).await.expect(201)["id"].clone();
        let path = format!("{own}/{}/secret", platform.as_str().expect("an id"));
        let key = server.get(&path).await.expect(200)["key"].clone();
        assert!(
            key.as_str().is_some_and(|key| key.starts_with(shown)),
            "{kind:?}"
        );
    }
}
