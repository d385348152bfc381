//! The key that objects of a backup are encrypted with, as a type that does not print.
//!
//! A key is 32 random bytes. A passphrase is refused: it can be guessed by whoever has the objects,
//! as fast as their machines allow.

use std::fmt;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

pub const KEY_BYTES: usize = 32;

/// Base64 with or without `=` at its end.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

const MUST: &str = "must be a key of 32 bytes, as 64 hex digits or as base64, and not a passphrase: \
                    'openssl rand -hex 32' makes one";

/// The master key of a backup. Each object has a key of its own that is derived from it.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct BackupKey(Zeroizing<[u8; KEY_BYTES]>);

impl BackupKey {
    /// Reads a key of 64 hex digits or of base64. The error is a sentence that does not repeat the text.
    pub fn parse(text: &str) -> Result<BackupKey, &'static str> {
        let text = text.trim();
        let bytes = match text.len() == 2 * KEY_BYTES {
            true => hex::decode(text).map_err(|_| MUST),
            false => BASE64.decode(text).map_err(|_| MUST),
        };
        let bytes = Zeroizing::new(bytes?);
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        if bytes.len() != KEY_BYTES {
            return Err(MUST);
        }
        key.copy_from_slice(&bytes);
        Ok(BackupKey(key))
    }

    /// Says why a text is no key, without repeating it. Nothing where it is one.
    pub fn problem(text: &str) -> Option<String> {
        BackupKey::parse(text).err().map(str::to_owned)
    }

    /// The key's bytes, for the derivation of other keys.
    pub(super) fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl TryFrom<String> for BackupKey {
    type Error = &'static str;

    fn try_from(text: String) -> Result<BackupKey, &'static str> {
        BackupKey::parse(&Zeroizing::new(text))
    }
}

impl PartialEq for BackupKey {
    /// Compares in constant time.
    fn eq(&self, other: &BackupKey) -> bool {
        bool::from(self.0.as_slice().ct_eq(other.0.as_slice()))
    }
}

impl fmt::Debug for BackupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BackupKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;

    const HEX: &str = "00112233445566778899aabbccddeeff0123456789abcdef0123456789ABCDEF";

    #[test]
    fn a_key_is_32_bytes_in_hex_or_base64() {
        let key = BackupKey::parse(HEX).unwrap();
        assert_eq!(key.expose().as_slice(), hex::decode(HEX).unwrap());
        let base64 = STANDARD.encode(key.expose());
        for text in [
            &base64,
            base64.trim_end_matches('='),
            &format!(" {HEX}\n"),
            &HEX.to_lowercase(),
        ] {
            assert!(BackupKey::parse(text).unwrap() == key, "{text}");
        }
        assert!(BackupKey::parse(&"0".repeat(64)).unwrap() != key);
    }

    #[test]
    fn anything_else_is_refused_with_the_way_to_make_a_key() {
        for text in [
            "",
            "correct horse battery staple",
            &HEX[1..],
            &HEX.replace('0', "g"),
            &STANDARD.encode([7; 31]),
            &STANDARD.encode([7; 33]),
            &format!("{HEX}{HEX}"),
        ] {
            let problem = BackupKey::problem(text).unwrap();
            assert!(problem.contains("openssl rand -hex 32"), "{problem}");
            assert!(text.is_empty() || !problem.contains(text), "{problem}");
        }
        assert_eq!(BackupKey::problem(HEX), None);
    }

    #[test]
    fn a_key_does_not_print() {
        let key = BackupKey::parse(HEX).unwrap();
        assert_eq!(format!("{key:?}"), "BackupKey(…)");
    }
}
