//! Secrets of endpoints, and the signatures by which a receiver knows them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use rand::Rng;
use rand::rngs::StdRng;
use sha2::Sha256;

use super::receiver::Request;

pub fn new_secret(random: &mut StdRng) -> String {
    let key: [u8; 24] = random.random();
    format!("whsec_{}", STANDARD.encode(key))
}

/// Whether the request is signed by this secret.
pub fn signs(secret: &str, request: &Request<'_>) -> bool {
    let header = |name| request.header(name).unwrap_or_default();
    let key = STANDARD.decode(secret.trim_start_matches("whsec_"));
    let key = key.expect("secrets are made here");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any length will do");
    let head = format!("{}.{}.", header("webhook-id"), header("webhook-timestamp"));
    mac.update(head.as_bytes());
    mac.update(request.body);
    let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    let mut signatures = header("webhook-signature").split(' ');
    signatures.any(|one| one == signature)
}
