//! Signatures by Standard Webhooks 1.0.0: over `{id}.{timestamp}.{body}`, the body being the
//! bytes that are sent.
//!
//! `v1,` is HMAC-SHA256, `v1a,` is ed25519, both in base64; several live secrets give several
//! signatures, separated by spaces, the newest first. [`Signer`] signs attempts;
//! [`VerifyingKey`] is the receiver's side, for the command line and the tests. Pure, and no secret
//! leaves in an error.

use std::time::Duration;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::clock::Timestamp;
use crate::domain::endpoint::EndpointSecret;
use crate::domain::secret::{ED25519_PUBLIC_PREFIX, Secret, SecretForm, SigningKey};

/// How far a timestamp may lie from the receiver's time, in either direction.
pub const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// An endpoint's secrets, decoded and ready to sign.
pub struct Signer {
    /// With the time when each stops being used, newest first.
    keys: Vec<(Key, Option<Timestamp>)>,
}

enum Key {
    /// Keyed once; each signature starts from a copy.
    Hmac(Hmac<Sha256>),
    Ed25519(Box<Ed25519KeyPair>),
}

impl Signer {
    pub fn new(secrets: &[EndpointSecret]) -> Signer {
        let keys = secrets
            .iter()
            .filter_map(|one| Some((Key::new(one.secret.signing_key()?), one.expires_at)))
            .collect();
        Signer { keys }
    }

    /// The signature header's value at the time `now`, whose seconds are the signed timestamp;
    /// empty where no secret is live.
    pub fn sign(&self, id: &str, now: Timestamp, body: &[u8]) -> String {
        let start = format!("{id}.{}.", now.as_seconds());
        let mut signatures = String::with_capacity(64);
        for (key, expires_at) in &self.keys {
            if expires_at.is_some_and(|end| end <= now) {
                continue;
            }
            if !signatures.is_empty() {
                signatures.push(' ');
            }
            match key {
                Key::Hmac(keyed) => {
                    signatures.push_str("v1,");
                    let signature = hmac(keyed, &start, body).finalize().into_bytes();
                    STANDARD.encode_string(signature, &mut signatures);
                }
                Key::Ed25519(pair) => {
                    signatures.push_str("v1a,");
                    let content = [start.as_bytes(), body].concat();
                    STANDARD.encode_string(pair.sign(&content), &mut signatures);
                }
            }
        }
        signatures
    }
}

impl Key {
    fn new(key: SigningKey) -> Key {
        match key {
            SigningKey::Hmac(bytes) => {
                Key::Hmac(Hmac::new_from_slice(&bytes).expect("HMAC takes a key of any length"))
            }
            SigningKey::Ed25519(pair) => Key::Ed25519(pair),
        }
    }
}

fn hmac(keyed: &Hmac<Sha256>, start: &str, body: &[u8]) -> Hmac<Sha256> {
    let mut hmac = keyed.clone();
    hmac.update(start.as_bytes());
    hmac.update(body);
    hmac
}

/// The three headers that come with a signed webhook, as text.
#[derive(Clone, Copy, Debug)]
pub struct SignedHeaders<'a> {
    pub id: &'a str,
    pub timestamp: &'a str,
    pub signature: &'a str,
}

/// Why a webhook is not to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotVerified {
    #[error("the secret is not 'whsec_', 'whsk_' or 'whpk_' followed by base64 of a key")]
    BadSecret,
    #[error("the timestamp is not a number of seconds since 1970")]
    BadTimestamp,
    #[error("the timestamp is too old")]
    TooOld,
    #[error("the timestamp lies in the future")]
    TooNew,
    #[error("no signature is made with this secret over this id, timestamp and body")]
    NoMatch,
}

/// Whether a timestamp is one from around `now`.
pub fn check_age(timestamp: &str, now: Timestamp) -> Result<(), NotVerified> {
    let timestamp = timestamp.parse::<u64>();
    let seconds = timestamp.map_err(|_| NotVerified::BadTimestamp)?;
    if seconds.saturating_add(TOLERANCE.as_secs()) < now.as_seconds() {
        return Err(NotVerified::TooOld);
    }
    if seconds > now.as_seconds().saturating_add(TOLERANCE.as_secs()) {
        return Err(NotVerified::TooNew);
    }
    Ok(())
}

/// The part of an endpoint's secret that its receiver needs.
pub enum VerifyingKey {
    Hmac(Hmac<Sha256>),
    Ed25519(Vec<u8>),
}

impl VerifyingKey {
    /// The secret is the endpoint's, or the public key (`whpk_`) of an ed25519 one.
    pub fn parse(secret: &str) -> Result<VerifyingKey, NotVerified> {
        if let Some(encoded) = secret.strip_prefix(ED25519_PUBLIC_PREFIX) {
            return match STANDARD.decode(encoded) {
                Ok(key) if key.len() == 32 => Ok(VerifyingKey::Ed25519(key)),
                _ => Err(NotVerified::BadSecret),
            };
        }
        let key = Secret::parse(secret, SecretForm::StandardWebhooks)
            .ok()
            .and_then(|secret| secret.signing_key())
            .ok_or(NotVerified::BadSecret)?;
        Ok(match Key::new(key) {
            Key::Hmac(keyed) => VerifyingKey::Hmac(keyed),
            Key::Ed25519(pair) => VerifyingKey::Ed25519(pair.public_key().as_ref().to_vec()),
        })
    }

    /// Whether one of the signatures is made with this secret, and at a time near `now`.
    pub fn verify(
        &self,
        headers: SignedHeaders<'_>,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), NotVerified> {
        check_age(headers.timestamp, now)?;
        self.verify_at_any_time(headers, body)
    }

    /// The same without a look at the timestamp's age, for a request that was captured earlier.
    pub fn verify_at_any_time(
        &self,
        headers: SignedHeaders<'_>,
        body: &[u8],
    ) -> Result<(), NotVerified> {
        let SignedHeaders {
            id,
            timestamp,
            signature,
        } = headers;
        // The header's own text is signed, not its parsed value.
        let start = format!("{id}.{timestamp}.");
        let matches = signature.split_ascii_whitespace().any(|one| {
            one.split_once(',')
                .is_some_and(|(version, encoded)| self.matches(version, encoded, &start, body))
        });
        matches.then_some(()).ok_or(NotVerified::NoMatch)
    }

    /// Compares in constant time.
    fn matches(&self, version: &str, encoded: &str, start: &str, body: &[u8]) -> bool {
        let Ok(signature) = STANDARD.decode(encoded) else {
            return false;
        };
        match (self, version) {
            (VerifyingKey::Hmac(keyed), "v1") => {
                hmac(keyed, start, body).verify_slice(&signature).is_ok()
            }
            (VerifyingKey::Ed25519(public), "v1a") => {
                let content = [start.as_bytes(), body].concat();
                UnparsedPublicKey::new(&ED25519, public)
                    .verify(&content, &signature)
                    .is_ok()
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The vectors that the Standard Webhooks libraries and the Svix server test themselves with.
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const NOW: Timestamp = Timestamp::from_seconds(1_614_265_330);
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const HMAC_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const HMAC_SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    const ED25519_SECRET: &str = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
    const ED25519_PUBLIC: &str = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=";
    const ED25519_SIGNATURE: &str = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==";

    fn secrets(secrets: &[(&str, Option<Timestamp>)]) -> Vec<EndpointSecret> {
        secrets
            .iter()
            .map(|(text, expires_at)| EndpointSecret {
                secret: Secret::parse(text, SecretForm::StandardWebhooks).unwrap(),
                expires_at: *expires_at,
            })
            .collect()
    }

    fn verify(
        headers: SignedHeaders<'_>,
        body: &[u8],
        secret: &str,
        now: Timestamp,
    ) -> Result<(), NotVerified> {
        VerifyingKey::parse(secret)?.verify(headers, body, now)
    }

    fn headers(signature: &str) -> SignedHeaders<'_> {
        SignedHeaders {
            id: ID,
            timestamp: "1614265330",
            signature,
        }
    }

    #[test]
    fn signatures_are_those_of_the_standard() {
        for (secret, expected) in [
            (HMAC_SECRET, HMAC_SIGNATURE),
            (ED25519_SECRET, ED25519_SIGNATURE),
        ] {
            let signer = Signer::new(&secrets(&[(secret, None)]));
            assert_eq!(signer.sign(ID, NOW, BODY), expected);
        }
    }

    #[test]
    fn every_live_secret_signs_and_the_newest_comes_first() {
        let signer = Signer::new(&secrets(&[
            (ED25519_SECRET, None),
            (HMAC_SECRET, Some(NOW + Duration::from_millis(1))),
        ]));
        assert_eq!(
            signer.sign(ID, NOW, BODY),
            format!("{ED25519_SIGNATURE} {HMAC_SIGNATURE}")
        );
        let later = signer.sign(ID, NOW + Duration::from_millis(1), BODY);
        assert_eq!(later, ED25519_SIGNATURE, "an expired secret does not sign");
        let none = Signer::new(&secrets(&[(HMAC_SECRET, Some(NOW))]));
        assert_eq!(none.sign(ID, NOW, BODY), "");
    }

    #[test]
    fn a_true_signature_verifies_with_each_form_of_the_secret() {
        let both = format!("v2,AAAA nonsense v1,AAAA {HMAC_SIGNATURE} {ED25519_SIGNATURE}");
        for (secret, signature) in [
            (HMAC_SECRET, HMAC_SIGNATURE),
            (&HMAC_SECRET["whsec_".len()..], HMAC_SIGNATURE),
            (ED25519_SECRET, ED25519_SIGNATURE),
            (ED25519_PUBLIC, ED25519_SIGNATURE),
            (HMAC_SECRET, both.as_str()),
            (ED25519_PUBLIC, both.as_str()),
        ] {
            assert_eq!(verify(headers(signature), BODY, secret, NOW), Ok(()));
        }
    }

    #[test]
    fn anything_changed_does_not_verify() {
        let check = |headers, body, secret, now| verify(headers, body, secret, now);
        let good = headers(HMAC_SIGNATURE);
        let hmac_as_v1a = HMAC_SIGNATURE.replace("v1,", "v1a,");
        let no_match = Err(NotVerified::NoMatch);
        assert_eq!(check(good, b"{}", HMAC_SECRET, NOW), no_match);
        for changed in [
            SignedHeaders {
                id: "msg_1",
                ..good
            },
            SignedHeaders {
                timestamp: "1614265331",
                ..good
            },
            SignedHeaders {
                timestamp: "01614265330",
                ..good
            },
            SignedHeaders {
                signature: "",
                ..good
            },
            SignedHeaders {
                signature: "v1,",
                ..good
            },
            SignedHeaders {
                signature: &HMAC_SIGNATURE[3..],
                ..good
            },
            SignedHeaders {
                signature: &hmac_as_v1a,
                ..good
            },
            SignedHeaders {
                signature: ED25519_SIGNATURE,
                ..good
            },
        ] {
            assert_eq!(
                check(changed, BODY, HMAC_SECRET, NOW),
                no_match,
                "{changed:?}"
            );
        }
        let other = Secret::generate(SecretForm::StandardWebhooks, [3; 32]);
        assert_eq!(check(good, BODY, other.expose(), NOW), no_match);
        assert_eq!(check(good, BODY, ED25519_PUBLIC, NOW), no_match);
    }

    #[test]
    fn a_timestamp_holds_for_five_minutes_in_both_directions() {
        let good = headers(HMAC_SIGNATURE);
        for (now, expected) in [
            (NOW + TOLERANCE, Ok(())),
            (NOW.saturating_sub(TOLERANCE), Ok(())),
            (
                NOW + TOLERANCE + Duration::from_secs(1),
                Err(NotVerified::TooOld),
            ),
            (
                NOW.saturating_sub(TOLERANCE + Duration::from_secs(1)),
                Err(NotVerified::TooNew),
            ),
        ] {
            assert_eq!(verify(good, BODY, HMAC_SECRET, now), expected, "{now}");
        }
        for timestamp in ["", "now", "-1", "1614265330.5", "99999999999999999999"] {
            let bad = SignedHeaders { timestamp, ..good };
            let expected = Err(NotVerified::BadTimestamp);
            assert_eq!(verify(bad, BODY, HMAC_SECRET, NOW), expected, "{timestamp}");
        }
    }

    #[test]
    fn a_captured_request_verifies_however_old_it_is_and_only_with_its_own_timestamp() {
        let key = VerifyingKey::parse(HMAC_SECRET).unwrap_or_else(|error| panic!("{error}"));
        let good = headers(HMAC_SIGNATURE);
        assert_eq!(key.verify_at_any_time(good, BODY), Ok(()));
        let later = SignedHeaders {
            timestamp: "1614265331",
            ..good
        };
        let expected = Err(NotVerified::NoMatch);
        assert_eq!(key.verify_at_any_time(later, BODY), expected);
    }

    #[test]
    fn what_is_no_secret_is_told_from_a_false_signature() {
        for secret in ["", "whsec_", "whpk_AAAA", "whsk_AAAA", "hunter2"] {
            let checked = verify(headers(HMAC_SIGNATURE), BODY, secret, NOW);
            assert_eq!(checked, Err(NotVerified::BadSecret), "{secret}");
        }
    }
}
