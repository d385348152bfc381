//! The endpoint's signing secret, as a type that cannot be printed by accident.
//!
//! Two forms, by Standard Webhooks 1.0.0 ("Signature scheme"): `whsec_` and base64 of 24 to 64
//! bytes for HMAC-SHA256, `whsk_` and base64 of an ed25519 key (a 32-byte seed, or 64 bytes of
//! seed and public key). The public half of the latter is shown as `whpk_`.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

pub const HMAC_PREFIX: &str = "whsec_";
pub const ED25519_PREFIX: &str = "whsk_";
pub const ED25519_PUBLIC_PREFIX: &str = "whpk_";

/// A valid secret in its text form, prefix included.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(String);

/// What a secret signs with.
pub enum SigningKey {
    Hmac(Zeroizing<Vec<u8>>),
    Ed25519(Box<Ed25519KeyPair>),
}

impl Secret {
    /// Takes `whsec_…`, `whsk_…`, or the bare base64 of the former. The error is a sentence for
    /// the caller that does not repeat the secret.
    pub fn parse(text: &str) -> Result<Secret, &'static str> {
        if let Some(encoded) = text.strip_prefix(ED25519_PREFIX) {
            let key = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| "is not base64")?);
            ed25519_key(&key)?;
            return Ok(Secret(text.to_owned()));
        }
        let encoded = text.strip_prefix(HMAC_PREFIX).unwrap_or(text);
        let key = Zeroizing::new(
            STANDARD
                .decode(encoded)
                .map_err(|_| "must be 'whsec_' or 'whsk_' followed by base64")?,
        );
        if !(24..=64).contains(&key.len()) {
            return Err("must encode 24 to 64 bytes");
        }
        Ok(Secret(format!("{HMAC_PREFIX}{encoded}")))
    }

    /// A new HMAC secret from 32 random bytes.
    pub fn from_random(bytes: [u8; 32]) -> Secret {
        Secret(format!("{HMAC_PREFIX}{}", STANDARD.encode(bytes)))
    }

    /// The secret's text, for those entitled to it and for storage.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What the API gives back: the secret itself for HMAC, only the public key for ed25519.
    pub fn readable(&self) -> String {
        match self.signing_key() {
            SigningKey::Hmac(_) => self.0.clone(),
            SigningKey::Ed25519(pair) => {
                format!(
                    "{ED25519_PUBLIC_PREFIX}{}",
                    STANDARD.encode(pair.public_key())
                )
            }
        }
    }

    pub fn signing_key(&self) -> SigningKey {
        const CHECKED: &str = "a secret is checked when it is made";
        if let Some(encoded) = self.0.strip_prefix(ED25519_PREFIX) {
            let key = Zeroizing::new(STANDARD.decode(encoded).expect(CHECKED));
            return SigningKey::Ed25519(Box::new(ed25519_key(&key).expect(CHECKED)));
        }
        let encoded = self.0.strip_prefix(HMAC_PREFIX).expect(CHECKED);
        SigningKey::Hmac(Zeroizing::new(STANDARD.decode(encoded).expect(CHECKED)))
    }
}

fn ed25519_key(bytes: &[u8]) -> Result<Ed25519KeyPair, &'static str> {
    let wrong = "must encode an ed25519 key: a 32-byte seed, or the seed and its public key";
    match bytes.len() {
        32 => Ed25519KeyPair::from_seed_unchecked(bytes).map_err(|_| wrong),
        64 => {
            Ed25519KeyPair::from_seed_and_public_key(&bytes[..32], &bytes[32..]).map_err(|_| wrong)
        }
        _ => Err(wrong),
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_of_the_right_form_are_taken() {
        let hmac = format!("whsec_{}", STANDARD.encode([7; 24]));
        let seed = format!("whsk_{}", STANDARD.encode([7; 32]));
        assert_eq!(Secret::parse(&hmac).unwrap().expose(), hmac);
        assert_eq!(
            Secret::parse(&hmac[6..]).unwrap().expose(),
            hmac,
            "the prefix may be left out"
        );
        assert!(Secret::parse(&seed).is_ok());
        for bad in ["", "whsec_", "whsec_AAAA", "whsec_not base64!", "whsk_AAAA"] {
            assert!(Secret::parse(bad).is_err(), "{bad}");
        }
        let too_long = format!("whsec_{}", STANDARD.encode([7; 65]));
        assert!(Secret::parse(&too_long).is_err());
    }

    #[test]
    fn an_ed25519_secret_reads_back_as_its_public_key() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let mut both = vec![7; 32];
        both.extend_from_slice(pair.public_key().as_ref());
        let public = format!("whpk_{}", STANDARD.encode(pair.public_key()));
        for key in [vec![7; 32], both] {
            let secret = Secret::parse(&format!("whsk_{}", STANDARD.encode(key))).unwrap();
            assert_eq!(secret.readable(), public);
        }
    }

    #[test]
    fn a_secret_does_not_print() {
        let secret = Secret::from_random([9; 32]);
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }
}
