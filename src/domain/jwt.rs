//! Signed tokens (JWT, RFC 7519) with HS256: their claims, and whether a token is valid.
//!
//! The claims are those of the Svix server: `sub` is an organisation, whose owner the bearer is; or
//! `org` is the organisation and `sub` one of its applications. `exp` and `nbf` are obeyed, `iat`
//! and `feature_flags` handed on, others ignored. Checked here by hand and not by a library: with
//! one algorithm it is a page, and the libraries bring RSA and elliptic curves along, and a clock
//! of their own. Pure: the time is an argument.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::id::{ApplicationId, OrganisationId};
use crate::clock::Timestamp;

/// Clocks of two machines may differ by this much.
pub const LEEWAY: Duration = Duration::from_secs(60);

/// As short as the contract's server takes it.
pub const SECRET_BYTES_MIN: usize = 12;

/// HS256 wants a key no shorter than its hash (RFC 7518, 3.2): a shorter one can be guessed.
pub const SECRET_BYTES_GOOD: usize = 32;

/// The secret that tokens are signed with, in a type that does not print.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(from = "String")]
pub struct JwtSecret(Zeroizing<String>);

impl From<String> for JwtSecret {
    fn from(text: String) -> JwtSecret {
        JwtSecret(Zeroizing::new(text))
    }
}

impl fmt::Debug for JwtSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JwtSecret(…)")
    }
}

/// The bearer of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    pub organisation: OrganisationId,
    /// The token is this application's, else the organisation's owner's.
    pub application: Option<ApplicationId>,
}

/// The claims of a token that was verified.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    pub subject: Subject,
    pub issued_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    pub feature_flags: BTreeSet<String>,
}

impl Claims {
    /// Whether the token has expired.
    pub fn have_ended(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end + LEEWAY <= now)
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    /// Extensions that must be understood; we know none (RFC 7515, 4.1.11).
    #[serde(default)]
    crit: Option<serde::de::IgnoredAny>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Payload {
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<serde_json::Value>,
    sub: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    org: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nbf: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iat: Option<f64>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    feature_flags: BTreeSet<String>,
}

impl JwtSecret {
    pub fn is_long_enough(&self) -> bool {
        self.0.len() >= SECRET_BYTES_MIN
    }

    pub fn is_short(&self) -> bool {
        self.0.len() < SECRET_BYTES_GOOD
    }

    /// Whether a text is the secret itself, compared in constant time.
    pub fn is(&self, text: &str) -> bool {
        bool::from(self.0.as_bytes().ct_eq(text.as_bytes()))
    }

    fn mac(&self) -> Hmac<Sha256> {
        Hmac::new_from_slice(self.0.as_bytes()).expect("HMAC takes keys of any length")
    }

    /// A proof that something with this hash was signed with this secret; it reveals neither. It
    /// can never be a token's signature, because the signed part of a token has no colon.
    pub fn seal(&self, hash: &[u8; 32]) -> [u8; 32] {
        self.sealing(hash).finalize().into_bytes().into()
    }

    /// Whether the seal is this secret's, compared in constant time.
    pub fn has_sealed(&self, hash: &[u8; 32], seal: &[u8; 32]) -> bool {
        self.sealing(hash).verify_slice(seal).is_ok()
    }

    fn sealing(&self, hash: &[u8; 32]) -> Hmac<Sha256> {
        self.mac().chain_update("visit:").chain_update(hash)
    }

    /// Returns the token's claims if it was signed with this secret and `now` lies within its time.
    pub fn verify(&self, token: &str, now: Timestamp) -> Option<Claims> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        let header: Header = part(header)?;
        // The only algorithm: a token does not choose how it is checked.
        if header.alg != "HS256" || header.crit.is_some() {
            return None;
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let mac = self.mac().chain_update(signed);
        // Compares in constant time.
        mac.verify_slice(&signature).ok()?;
        part::<Payload>(payload)?.claims(now)
    }

    /// A token for the subject.
    pub fn sign(&self, subject: Subject, now: Timestamp, expires_at: Option<Timestamp>) -> String {
        let seconds = |at: Timestamp| at.as_seconds() as f64;
        let payload = Payload {
            iss: Some("postrider".into()),
            sub: match subject.application {
                Some(application) => application.to_string(),
                None => subject.organisation.to_string(),
            },
            org: subject
                .application
                .map(|_| subject.organisation.to_string()),
            exp: expires_at.map(seconds),
            nbf: Some(seconds(now)),
            iat: Some(seconds(now)),
            feature_flags: BTreeSet::new(),
        };
        let payload = serde_json::to_vec(&payload).expect("text and finite numbers");
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#),
            URL_SAFE_NO_PAD.encode(payload)
        );
        let signature = self.mac().chain_update(&signed).finalize().into_bytes();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn part<T: for<'de> Deserialize<'de>>(encoded: &str) -> Option<T> {
    let text = URL_SAFE_NO_PAD.decode(encoded).ok()?;
    // serde would read an array as a struct's fields in their order.
    text.starts_with(b"{").then_some(())?;
    serde_json::from_slice(&text).ok()
}

/// An instant in seconds, which may have a fraction. An instant before 1970 is read as 1970.
fn instant(seconds: f64) -> Timestamp {
    Timestamp((seconds * 1000.0) as u64)
}

impl Payload {
    fn claims(self, now: Timestamp) -> Option<Claims> {
        let expires_at = self.exp.map(instant);
        if self.nbf.is_some_and(|begin| instant(begin) > now + LEEWAY) {
            return None;
        }
        let subject = match self.org {
            Some(organisation) => Subject {
                organisation: organisation.parse().ok()?,
                application: Some(self.sub.parse().ok()?),
            },
            None => Subject {
                organisation: self.sub.parse().ok()?,
                application: None,
            },
        };
        let claims = Claims {
            subject,
            issued_at: self.iat.map(instant),
            expires_at,
            feature_flags: self.feature_flags,
        };
        (!claims.have_ended(now)).then_some(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);
    const ORGANISATION: &str = "org_23rb8YdGqMT0qIzpgGwdXfHirMu";
    const APPLICATION: &str = "app_1srOrx2ZWZBpBUvZwXKQmoEYga2";

    fn secret() -> JwtSecret {
        "8KjzRXrKkd9YFcNyqLSIY8JwiaCeRc6W".to_owned().into()
    }

    fn signed(header: &Value, payload: &str) -> String {
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(payload)
        );
        let signature = secret().mac().chain_update(&signed).finalize().into_bytes();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn verify(payload: Value) -> Option<Claims> {
        let header = json!({"alg": "HS256", "typ": "JWT"});
        secret().verify(&signed(&header, &payload.to_string()), NOW)
    }

    #[test]
    fn the_subject_is_an_organisation_or_an_application_of_one() {
        let organisation = ORGANISATION.parse().unwrap();
        let application = Some(APPLICATION.parse().unwrap());
        for (payload, expected) in [
            (json!({ "sub": ORGANISATION }), Some(None)),
            (
                json!({"sub": APPLICATION, "org": ORGANISATION}),
                Some(application),
            ),
            (json!({"sub": ORGANISATION, "org": null}), Some(None)),
            (json!({ "sub": APPLICATION }), None),
            (json!({"sub": ORGANISATION, "org": ORGANISATION}), None),
            (json!({"sub": APPLICATION, "org": "mine"}), None),
            (json!({ "org": ORGANISATION }), None),
            (json!({"sub": 1}), None),
            (json!([null, ORGANISATION]), None),
            (json!({}), None),
        ] {
            let expected = expected.map(|application| Subject {
                organisation,
                application,
            });
            let found = verify(payload.clone()).map(|claims| claims.subject);
            assert_eq!(found, expected, "{payload}");
        }
    }

    #[test]
    fn a_token_holds_within_its_time_and_a_little_beyond() {
        let now = NOW.as_seconds();
        for (claim, seconds, holds) in [
            ("exp", json!(now + 1), true),
            ("exp", json!(now - 59), true),
            ("exp", json!(now - 60), false),
            ("exp", json!(now as f64 + 0.5), true),
            ("exp", json!(0), false),
            ("exp", json!(-1), false),
            ("exp", json!(1e300), true),
            ("exp", json!((now + 1).to_string()), false),
            ("nbf", json!(now - 1), true),
            ("nbf", json!(now + 60), true),
            ("nbf", json!(now + 61), false),
            ("nbf", json!(true), false),
            ("iat", json!(now), true),
        ] {
            let payload = json!({"sub": ORGANISATION, claim: seconds});
            assert_eq!(verify(payload.clone()).is_some(), holds, "{payload}");
        }
    }

    #[test]
    fn only_our_algorithm_and_our_signature_count() {
        let payload = json!({ "sub": ORGANISATION }).to_string();
        for (header, holds) in [
            (json!({"alg": "HS256"}), true),
            (json!({"alg": "HS256", "kid": "1"}), true),
            (json!({"alg": "none"}), false),
            (json!({"alg": "hs256"}), false),
            (json!({"alg": "HS512"}), false),
            (json!({"alg": "RS256"}), false),
            (
                json!({"alg": "HS256", "crit": ["b64"], "b64": false}),
                false,
            ),
            (json!({"typ": "JWT"}), false),
        ] {
            let token = signed(&header, &payload);
            assert_eq!(secret().verify(&token, NOW).is_some(), holds, "{header}");
        }
        let good = signed(&json!({"alg": "HS256"}), &payload);
        let (body, signature) = good.rsplit_once('.').unwrap();
        let other: JwtSecret = "another secret that is long enough".to_owned().into();
        assert!(other.verify(&good, NOW).is_none());
        for token in [
            body.to_owned(),
            format!("{body}."),
            format!("{body}.{}", &signature[..signature.len() - 2]),
            format!("{body}.A{}", &signature[1..]),
            format!("{body}.{signature}="),
            format!("x.{good}"),
            String::new(),
            "..".to_owned(),
        ] {
            assert!(secret().verify(&token, NOW).is_none(), "{token}");
        }
    }

    #[test]
    fn a_token_with_the_svix_servers_claims_is_read() {
        let payload = json!({
            "iat": 1_700_000_000, "exp": 2_015_360_000, "nbf": 1_700_000_000,
            "iss": "svix-server", "sub": APPLICATION, "org": ORGANISATION,
            "feature_flags": ["beta"],
        });
        let claims = verify(payload).unwrap();
        assert_eq!(claims.issued_at, Some(NOW));
        assert_eq!(
            claims.expires_at,
            Some(Timestamp::from_seconds(2_015_360_000))
        );
        assert_eq!(claims.feature_flags, BTreeSet::from(["beta".to_owned()]));
        // RFC 7515, A.1: a signature that others made is taken for one.
        let key = URL_SAFE_NO_PAD
            .decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
            .unwrap();
        let signed = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let signature = URL_SAFE_NO_PAD
            .decode("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
            .unwrap();
        let mac = <Hmac<Sha256> as Mac>::new_from_slice(&key).unwrap();
        mac.chain_update(signed).verify_slice(&signature).unwrap();
    }

    #[test]
    fn what_is_signed_here_is_read_here() {
        let subject = Subject {
            organisation: ORGANISATION.parse().unwrap(),
            application: Some(APPLICATION.parse().unwrap()),
        };
        let end = NOW + Duration::from_secs(60);
        let claims = secret()
            .verify(&secret().sign(subject, NOW, Some(end)), NOW)
            .unwrap();
        assert_eq!((claims.subject, claims.expires_at), (subject, Some(end)));
    }

    #[test]
    fn the_secret_does_not_print() {
        assert!(!format!("{:?}", secret()).contains("8Kjz"));
    }

    proptest! {
        #[test]
        fn no_token_panics(header in ".*", payload in ".*", rest in "[A-Za-z0-9._-]{0,80}") {
            let _ = secret().verify(&rest, NOW);
            let token = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header));
            let _ = secret().verify(&token, NOW);
            let good = json!({"alg": "HS256"});
            prop_assert!(secret().verify(&signed(&good, &payload), NOW).is_none());
        }
    }
}
