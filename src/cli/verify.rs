//! `verify`: checks the signature of a captured request, and the check that `sink` makes too.
//!
//! By Standard Webhooks 1.0.0: the signature header lists `v1,` (HMAC-SHA256) and `v1a,` (ed25519)
//! signatures over `id.timestamp.body`, separated by spaces; one that holds is enough. The age of
//! the timestamp is not judged here: a captured request is old.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use ring::signature::{ED25519, KeyPair, UnparsedPublicKey};
use sha2::Sha256;

use super::{Failure, Result, say};
use crate::domain::secret::{ED25519_PUBLIC_PREFIX, Secret, SigningKey};

/// A body larger than this is not one that a server sent.
const BODY_MAX_BYTES: u64 = 64 << 20;

#[derive(clap::Args)]
pub struct Arguments {
    /// The endpoint's secret (whsec_…), or its public key (whpk_…)
    #[arg(long, env = "POSTRIDER_SECRET", hide_env_values = true)]
    secret: String,
    /// The request's webhook-id header
    #[arg(long)]
    id: String,
    /// The request's webhook-timestamp header
    #[arg(long)]
    timestamp: String,
    /// The request's webhook-signature header
    #[arg(long)]
    signature: String,
    /// The request's body, byte for byte [default: standard input]
    body: Option<PathBuf>,
}

impl Arguments {
    pub fn run(&self) -> Result {
        let key = VerifyingKey::parse(&self.secret)?;
        let body = self
            .read_body()
            .map_err(|error| Failure::failed(format!("cannot read the body: {error}")))?;
        if key.verifies(&self.id, &self.timestamp, &body, &self.signature) {
            say("the signature is valid")
        } else {
            Err(Failure::failed(
                "the signature is not valid for this secret, id, timestamp and body",
            ))
        }
    }

    fn read_body(&self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        match &self.body {
            Some(path) => File::open(path)?
                .take(BODY_MAX_BYTES)
                .read_to_end(&mut body)?,
            None => io::stdin()
                .lock()
                .take(BODY_MAX_BYTES)
                .read_to_end(&mut body)?,
        };
        Ok(body)
    }
}

/// What a receiver needs to know of a secret.
#[derive(Clone)]
pub enum VerifyingKey {
    Hmac(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl VerifyingKey {
    /// Takes `whsec_…`, `whsk_…` and `whpk_…`. Not left to the parser of the arguments, whose
    /// complaints repeat the value.
    pub fn parse(text: &str) -> Result<VerifyingKey> {
        let wrong = |why: &str| Failure::Usage(format!("--secret {why}"));
        if let Some(encoded) = text.strip_prefix(ED25519_PUBLIC_PREFIX) {
            return match STANDARD.decode(encoded) {
                Ok(key) if key.len() == 32 => Ok(VerifyingKey::Ed25519(key)),
                _ => Err(wrong("must encode a public key of 32 bytes")),
            };
        }
        Ok(match Secret::parse(text).map_err(wrong)?.signing_key() {
            SigningKey::Hmac(key) => VerifyingKey::Hmac(key.to_vec()),
            SigningKey::Ed25519(pair) => VerifyingKey::Ed25519(pair.public_key().as_ref().to_vec()),
        })
    }

    /// Whether one of the signatures in the header's value is this key's over the request.
    pub fn verifies(&self, id: &str, timestamp: &str, body: &[u8], signatures: &str) -> bool {
        let mut content = format!("{id}.{timestamp}.").into_bytes();
        content.extend_from_slice(body);
        signatures.split(' ').any(|signature| {
            let Some((version, encoded)) = signature.split_once(',') else {
                return false;
            };
            let Ok(signature) = STANDARD.decode(encoded) else {
                return false;
            };
            match (self, version) {
                (VerifyingKey::Hmac(key), "v1") => Hmac::<Sha256>::new_from_slice(key)
                    .expect("HMAC takes keys of any length")
                    .chain_update(&content)
                    .verify_slice(&signature)
                    .is_ok(),
                (VerifyingKey::Ed25519(key), "v1a") => UnparsedPublicKey::new(&ED25519, key)
                    .verify(&content, &signature)
                    .is_ok(),
                _ => false,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example of the Standard Webhooks libraries' own tests.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIMESTAMP: &str = "1614265330";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn key(text: &str) -> VerifyingKey {
        VerifyingKey::parse(text).ok().expect("a valid secret")
    }

    #[test]
    fn a_wrong_secret_is_not_repeated() {
        for text in ["hunter2", "whsec_hunter2", "whsk_hunter2", "whpk_hunter2"] {
            match VerifyingKey::parse(text) {
                Err(Failure::Usage(why)) => assert!(!why.contains("hunter2"), "{why}"),
                _ => panic!("{text} was taken"),
            }
        }
    }

    #[test]
    fn the_published_example_holds_alone_and_among_others() {
        let key = key(SECRET);
        for signatures in [
            SIGNATURE.to_owned(),
            format!("v1,AAAA v2,x {SIGNATURE} v1a,AAAA"),
        ] {
            assert!(
                key.verifies(ID, TIMESTAMP, BODY, &signatures),
                "{signatures}"
            );
        }
    }

    #[test]
    fn any_change_breaks_it() {
        let key = key(SECRET);
        let other = self::key("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        assert!(!other.verifies(ID, TIMESTAMP, BODY, SIGNATURE));
        assert!(!key.verifies("msg_other", TIMESTAMP, BODY, SIGNATURE));
        assert!(!key.verifies(ID, "1614265331", BODY, SIGNATURE));
        assert!(!key.verifies(ID, TIMESTAMP, br#"{"test":2432232314}"#, SIGNATURE));
        for signatures in [
            "",
            "v1",
            "v1,",
            "v1,!",
            "v1a,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ] {
            assert!(
                !key.verifies(ID, TIMESTAMP, BODY, signatures),
                "{signatures}"
            );
        }
    }

    #[test]
    fn ed25519_verifies_with_either_half_of_the_key() {
        let secret = Secret::parse(&format!("whsk_{}", STANDARD.encode([7; 32]))).unwrap();
        let SigningKey::Ed25519(pair) = secret.signing_key() else {
            panic!("an ed25519 secret")
        };
        let signature = pair.sign(b"msg_1.1.{}");
        let header = format!("v1a,{}", STANDARD.encode(signature));
        for text in [secret.expose(), &secret.readable()] {
            let key = key(text);
            assert!(key.verifies("msg_1", "1", b"{}", &header));
            assert!(!key.verifies("msg_1", "1", b"{ }", &header));
        }
    }
}
