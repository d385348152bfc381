//! The endpoint's signing secret, as a type that cannot be printed by accident.
//!
//! The profile decides which texts can be secrets ([`SecretForm`]). Two forms are those of Standard
//! Webhooks 1.0.0 ("Signature scheme"): `whsec_` and base64 of 24 to 64 bytes for HMAC-SHA256,
//! `whsk_` and base64 of an ed25519 key (a 32-byte seed, or 64 bytes of seed and public key). The
//! public half of the latter is shown as `whpk_`. A secret of another form is any text, as it is.

use std::fmt;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

pub const HMAC_PREFIX: &str = "whsec_";
pub const ED25519_PREFIX: &str = "whsk_";
pub const ED25519_PUBLIC_PREFIX: &str = "whpk_";

/// The shortest and the longest secret that is any text, in bytes.
const TEXT_BYTES: std::ops::RangeInclusive<usize> = 8..=256;

/// A secret in its text form, which was checked against a [`SecretForm`] when it was made.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(String);

/// The form that a secret must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretForm {
    /// `whsec_…`, its bare base64, or `whsk_…`.
    StandardWebhooks,
    /// `whsec_…` or its bare base64.
    Whsec,
    /// `whsk_…`.
    Ed25519,
    /// Any text of 8 to 256 bytes. A signature may read it as base64 or as hex, and a header may
    /// have to carry it.
    Text {
        base64: bool,
        hex: bool,
        header: bool,
    },
}

/// The two kinds of keys of Standard Webhooks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignatureType {
    #[default]
    Hmac,
    Ed25519,
}

/// The key of a secret in the form of Standard Webhooks.
pub enum SigningKey {
    Hmac(Zeroizing<Vec<u8>>),
    Ed25519(Box<Ed25519KeyPair>),
}

impl SecretForm {
    pub const TEXT: SecretForm = SecretForm::Text {
        base64: false,
        hex: false,
        header: false,
    };

    /// The form of a secret that is made up: where both kinds of keys are taken, one of this kind.
    pub fn of_kind(self, kind: SignatureType) -> SecretForm {
        match (self, kind) {
            (SecretForm::StandardWebhooks, SignatureType::Hmac) => SecretForm::Whsec,
            (SecretForm::StandardWebhooks, SignatureType::Ed25519) => SecretForm::Ed25519,
            (only_one, _) => only_one,
        }
    }
}

impl Secret {
    /// The error is a sentence for the caller that does not repeat the secret.
    pub fn parse(text: &str, form: SecretForm) -> Result<Secret, &'static str> {
        match form {
            SecretForm::StandardWebhooks if text.starts_with(ED25519_PREFIX) => ed25519(text),
            SecretForm::StandardWebhooks => {
                whsec(text, "must be 'whsec_' or 'whsk_' followed by base64")
            }
            SecretForm::Whsec => whsec(text, "must be 'whsec_' followed by base64"),
            SecretForm::Ed25519 => ed25519(text),
            SecretForm::Text {
                base64,
                hex,
                header,
            } => plain(text, base64, hex, header),
        }
    }

    /// A secret that was checked when it was made, from its text as it was kept.
    pub fn kept(text: String) -> Secret {
        Secret(text)
    }

    /// A new secret from 32 random bytes.
    pub fn generate(form: SecretForm, bytes: [u8; 32]) -> Secret {
        match form {
            SecretForm::StandardWebhooks | SecretForm::Whsec => {
                Secret(format!("{HMAC_PREFIX}{}", STANDARD.encode(bytes)))
            }
            SecretForm::Ed25519 => Secret(format!("{ED25519_PREFIX}{}", STANDARD.encode(bytes))),
            // 64 hex digits are base64, too.
            SecretForm::Text { .. } => Secret(hex::encode(bytes)),
        }
    }

    /// Which kind of key it is, where it is one of Standard Webhooks.
    pub fn kind(&self) -> SignatureType {
        match self.0.starts_with(ED25519_PREFIX) {
            true => SignatureType::Ed25519,
            false => SignatureType::Hmac,
        }
    }

    /// Whether the secret would be taken as one of this form.
    pub fn fits(&self, form: SecretForm) -> bool {
        Secret::parse(&self.0, form).is_ok_and(|same| same == *self)
    }

    /// The secret's text, for those entitled to it and for storage.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The text that the API shows: for an ed25519 key its public key, else the secret itself.
    pub fn readable(&self) -> String {
        match self.signing_key() {
            Some(SigningKey::Ed25519(pair)) => {
                format!(
                    "{ED25519_PUBLIC_PREFIX}{}",
                    STANDARD.encode(pair.public_key())
                )
            }
            _ => self.0.clone(),
        }
    }

    /// The key by Standard Webhooks; none where the secret is another text.
    pub fn signing_key(&self) -> Option<SigningKey> {
        if let Some(encoded) = self.0.strip_prefix(ED25519_PREFIX) {
            let key = Zeroizing::new(STANDARD.decode(encoded).ok()?);
            return Some(SigningKey::Ed25519(Box::new(ed25519_key(&key).ok()?)));
        }
        let encoded = self.0.strip_prefix(HMAC_PREFIX)?;
        let key = STANDARD.decode(encoded).ok()?;
        Some(SigningKey::Hmac(Zeroizing::new(key)))
    }
}

fn whsec(text: &str, wrong: &'static str) -> Result<Secret, &'static str> {
    let encoded = text.strip_prefix(HMAC_PREFIX).unwrap_or(text);
    let key = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| wrong)?);
    if !(24..=64).contains(&key.len()) {
        return Err("must encode 24 to 64 bytes");
    }
    Ok(Secret(format!("{HMAC_PREFIX}{encoded}")))
}

fn ed25519(text: &str) -> Result<Secret, &'static str> {
    let encoded = text
        .strip_prefix(ED25519_PREFIX)
        .ok_or("must be 'whsk_' followed by base64")?;
    let key = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| "is not base64")?);
    ed25519_key(&key)?;
    Ok(Secret(text.to_owned()))
}

fn plain(text: &str, base64: bool, as_hex: bool, header: bool) -> Result<Secret, &'static str> {
    if !TEXT_BYTES.contains(&text.len()) {
        return Err("must have 8 to 256 bytes");
    }
    if text.chars().any(char::is_control) || text.trim() != text {
        return Err("may not have control characters, or a space at either end");
    }
    if header && !text.is_ascii() {
        return Err("must be ASCII: it is sent as a header's value");
    }
    if as_hex && hex::decode(text).map(Zeroizing::new).is_err() {
        return Err("must be hex digits");
    }
    if base64 && STANDARD.decode(text).map(Zeroizing::new).is_err() {
        return Err("must be base64");
    }
    // This text would be read as an ed25519 key, and sign in another way than the caller means.
    if text.starts_with(ED25519_PREFIX) {
        return Err("must not look like an ed25519 key");
    }
    Ok(Secret(text.to_owned()))
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

    const STANDARD_FORM: SecretForm = SecretForm::StandardWebhooks;

    #[test]
    fn only_keys_of_the_right_form_are_taken() {
        let parse = |text: &str| Secret::parse(text, STANDARD_FORM);
        let hmac = format!("whsec_{}", STANDARD.encode([7; 24]));
        let seed = format!("whsk_{}", STANDARD.encode([7; 32]));
        assert_eq!(parse(&hmac).unwrap().expose(), hmac);
        assert_eq!(
            parse(&hmac[6..]).unwrap().expose(),
            hmac,
            "the prefix may be left out"
        );
        assert!(parse(&seed).is_ok());
        assert!(Secret::parse(&seed, SecretForm::Whsec).is_err());
        assert!(Secret::parse(&hmac, SecretForm::Ed25519).is_err());
        for bad in ["", "whsec_", "whsec_AAAA", "whsec_not base64!", "whsk_AAAA"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let too_long = format!("whsec_{}", STANDARD.encode([7; 65]));
        assert!(parse(&too_long).is_err());
    }

    #[test]
    fn a_plain_secret_is_any_text_that_its_signatures_can_read() {
        let text = |base64, hex| SecretForm::Text {
            base64,
            hex,
            header: true,
        };
        for (secret, form, expected) in [
            ("mySecret", SecretForm::TEXT, true),
            ("whsec_but not base64", SecretForm::TEXT, true),
            ("short", SecretForm::TEXT, false),
            (" spaces around ", SecretForm::TEXT, false),
            ("line\nbreak", SecretForm::TEXT, false),
            ("geheimnisträger", SecretForm::TEXT, true),
            ("geheimnisträger", text(false, false), false),
            ("geheimnis", text(false, false), true),
            ("whsk_0123456789", SecretForm::TEXT, false),
            ("c2VjcmV0IQ==", text(true, false), true),
            ("c2VjcmV0IQ==", text(false, true), false),
            ("00ff00ff", text(false, true), true),
            ("00ff00ff", text(true, true), true),
            ("not base64!", text(true, false), false),
        ] {
            let parsed = Secret::parse(secret, form);
            assert_eq!(parsed.is_ok(), expected, "{secret} {form:?}");
        }
        assert!(Secret::parse(&"x".repeat(257), SecretForm::TEXT).is_err());
    }

    #[test]
    fn what_is_generated_fits() {
        for form in [
            STANDARD_FORM,
            SecretForm::Whsec,
            SecretForm::Ed25519,
            SecretForm::TEXT,
            SecretForm::Text {
                base64: true,
                hex: true,
                header: true,
            },
        ] {
            assert!(Secret::generate(form, [0xfe; 32]).fits(form), "{form:?}");
        }
        let bare = Secret(STANDARD.encode([7; 32]));
        assert!(
            !bare.fits(STANDARD_FORM),
            "it would be kept with its prefix"
        );
    }

    #[test]
    fn an_ed25519_secret_reads_back_as_its_public_key() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let mut both = vec![7; 32];
        both.extend_from_slice(pair.public_key().as_ref());
        let public = format!("whpk_{}", STANDARD.encode(pair.public_key()));
        for key in [vec![7; 32], both] {
            let text = format!("whsk_{}", STANDARD.encode(key));
            let secret = Secret::parse(&text, STANDARD_FORM).unwrap();
            assert_eq!(secret.readable(), public);
        }
    }

    #[test]
    fn a_secret_does_not_print() {
        let secret = Secret::generate(STANDARD_FORM, [9; 32]);
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }
}
