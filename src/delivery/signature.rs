//! The headers by which a receiver knows the sender, other than those of Standard Webhooks.
//!
//! `profile` compiles them; `render` prepares an endpoint's secrets as [`Keys`] once and signs each
//! attempt. The signed content is written into the MAC as its template renders, with no copy of the
//! body. `verifier` compares the signatures of a captured request. Pure, and no secret leaves in an
//! error.

use std::io;

use actix_web::http::header::HeaderName;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::scope::TemplateScope;
use super::template::{Template, TemplateFault};
use crate::clock::Timestamp;
use crate::domain::endpoint::EndpointSecret;
use crate::domain::profile::{self, Algorithm, Encoding, KeyEncoding};
use crate::domain::secret::{Secret, SigningKey};

/// A compiled signature of a profile.
#[derive(Debug)]
pub struct CompiledSignature {
    pub settings: profile::Signature,
    pub header: HeaderName,
    /// Its value is never shown.
    pub is_sensitive: bool,
    /// Of the signed content; the body's bytes where absent.
    pub content: Option<Template>,
    /// Of the header's value; the signature alone where absent.
    pub format: Option<Template>,
}

/// An endpoint's secrets as keys of one signature, newest first.
pub struct Keys(Vec<(Key, Option<Timestamp>)>);

enum Key {
    /// Keyed once; each signature starts from a copy.
    HmacSha1(Hmac<Sha1>),
    HmacSha256(Hmac<Sha256>),
    HmacSha512(Box<Hmac<Sha512>>),
    Ed25519(Box<Ed25519KeyPair>),
    /// The secret itself.
    Static(Secret),
}

impl CompiledSignature {
    /// Secrets that are no keys of this signature are left out.
    pub fn keys<'a>(&self, secrets: impl IntoIterator<Item = &'a EndpointSecret>) -> Keys {
        let key = |one: &EndpointSecret| {
            let key = Key::new(
                &one.secret,
                self.settings.algorithm,
                self.settings.key.unwrap_or_default(),
            )?;
            Some((key, one.expires_at))
        };
        Keys(secrets.into_iter().filter_map(key).collect())
    }

    /// `{{ signature }}`: the signatures of the keys that are live at this time, each with the prefix.
    /// Where the scheme has no separator it is the newest key's alone; where no key is live it is empty.
    pub fn sign(
        &self,
        keys: &Keys,
        scope: &TemplateScope,
        body: &[u8],
        now: Timestamp,
    ) -> Result<String, TemplateFault> {
        let separator = self.settings.separator.as_deref();
        let prefix = self.settings.prefix.as_deref().unwrap_or_default();
        let live = keys
            .0
            .iter()
            .filter(|(_, expires_at)| expires_at.is_none_or(|end| end > now));
        let signing = live.take(if separator.is_some() { usize::MAX } else { 1 });
        let mut value = String::new();
        for (index, (key, _)) in signing.enumerate() {
            if index > 0 {
                value.push_str(separator.unwrap_or_default());
            }
            value.push_str(prefix);
            let content = |writer: &mut dyn io::Write| self.write_content(scope, body, writer);
            match (
                key.sign(&content)?,
                self.settings.encoding.unwrap_or_default(),
            ) {
                (Signed::Bytes(bytes), Encoding::Hex) => value.push_str(&hex::encode(bytes)),
                (Signed::Bytes(bytes), Encoding::Base64) => {
                    STANDARD.encode_string(bytes, &mut value);
                }
                (Signed::Text(text), _) => value.push_str(text),
            }
        }
        Ok(value)
    }

    /// Whether one of the signatures in `value`, in the form that `sign` returns, is made with this secret.
    /// Compares in constant time.
    pub fn verifies(
        &self,
        secret: &Known,
        scope: &TemplateScope,
        body: &[u8],
        value: &str,
    ) -> Result<bool, TemplateFault> {
        let key = match secret {
            Known::Public(_) => None,
            Known::Secret(secret) => {
                let encoding = self.settings.key.unwrap_or_default();
                match Key::new(secret, self.settings.algorithm, encoding) {
                    None => return Ok(false),
                    key => key,
                }
            }
        };
        let public = match (secret, &key) {
            (Known::Public(public), _) => Some(public.as_slice()),
            (_, Some(Key::Ed25519(pair))) => Some(pair.public_key().as_ref()),
            _ => None,
        };
        let content = |writer: &mut dyn io::Write| self.write_content(scope, body, writer);
        let mut signed = Vec::new();
        let expected = match (public, &key) {
            (None, Some(key)) => Some(key.sign(&content)?),
            _ => {
                content(&mut signed)?;
                None
            }
        };
        let is_true = |given: &str| match (&expected, public) {
            (Some(Signed::Text(text)), _) => text.as_bytes().ct_eq(given.as_bytes()).into(),
            (Some(Signed::Bytes(bytes)), _) => self
                .decoded(given)
                .is_some_and(|given| bytes.ct_eq(&given).into()),
            (None, Some(public)) => self.decoded(given).is_some_and(|given| {
                let public = UnparsedPublicKey::new(&ED25519, public);
                public.verify(&signed, &given).is_ok()
            }),
            (None, None) => false,
        };
        let prefix = self.settings.prefix.as_deref().unwrap_or_default();
        let unprefixed = |one: &str| one.strip_prefix(prefix).is_some_and(is_true);
        Ok(match self.settings.separator.as_deref() {
            Some(separator) => value.split(separator).any(unprefixed),
            None => unprefixed(value),
        })
    }

    /// Whether it is the secret itself.
    pub fn is_static(&self) -> bool {
        self.settings.algorithm == Algorithm::Static
    }

    fn decoded(&self, signature: &str) -> Option<Vec<u8>> {
        match self.settings.encoding.unwrap_or_default() {
            Encoding::Hex => hex::decode(signature).ok(),
            Encoding::Base64 => STANDARD.decode(signature).ok(),
        }
    }

    fn write_content(
        &self,
        scope: &TemplateScope,
        body: &[u8],
        writer: &mut dyn io::Write,
    ) -> Result<(), TemplateFault> {
        match &self.content {
            Some(template) => template.render_to(scope, writer),
            None => {
                let written = writer.write_all(body);
                written.map_err(|_| TemplateFault::unfit("the body cannot be signed"))
            }
        }
    }
}

/// The part of an endpoint's secret that a receiver knows.
pub enum Known {
    Secret(Secret),
    /// The public half of an ed25519 one.
    Public(Vec<u8>),
}

/// A key's signature of a content.
enum Signed<'a> {
    Bytes(Vec<u8>),
    Text(&'a str),
}

type Content<'a> = &'a dyn Fn(&mut dyn io::Write) -> Result<(), TemplateFault>;

impl Key {
    /// None where the secret is not one that this algorithm can sign with.
    fn new(secret: &Secret, algorithm: Algorithm, encoding: KeyEncoding) -> Option<Key> {
        Some(match algorithm {
            Algorithm::Static => Key::Static(secret.clone()),
            Algorithm::Ed25519 => match secret.signing_key()? {
                SigningKey::Ed25519(pair) => Key::Ed25519(pair),
                SigningKey::Hmac(_) => return None,
            },
            Algorithm::HmacSha1 => Key::HmacSha1(keyed(&decoded(secret, encoding)?)),
            Algorithm::HmacSha256 => Key::HmacSha256(keyed(&decoded(secret, encoding)?)),
            Algorithm::HmacSha512 => Key::HmacSha512(Box::new(keyed(&decoded(secret, encoding)?))),
        })
    }

    fn sign(&self, content: Content<'_>) -> Result<Signed<'_>, TemplateFault> {
        Ok(match self {
            Key::HmacSha1(keyed) => Signed::Bytes(mac(keyed, content)?),
            Key::HmacSha256(keyed) => Signed::Bytes(mac(keyed, content)?),
            Key::HmacSha512(keyed) => Signed::Bytes(mac(&**keyed, content)?),
            Key::Ed25519(pair) => {
                let mut whole = Vec::new();
                content(&mut whole)?;
                Signed::Bytes(pair.sign(&whole).as_ref().to_vec())
            }
            Key::Static(secret) => Signed::Text(secret.expose()),
        })
    }
}

/// The secret's text as the bytes of a key.
fn decoded(secret: &Secret, encoding: KeyEncoding) -> Option<Zeroizing<Vec<u8>>> {
    let text = secret.expose();
    match encoding {
        KeyEncoding::Given => Some(Zeroizing::new(text.as_bytes().to_vec())),
        KeyEncoding::Base64 => STANDARD.decode(text).ok().map(Zeroizing::new),
        KeyEncoding::Hex => hex::decode(text).ok().map(Zeroizing::new),
        KeyEncoding::Whsec => match secret.signing_key()? {
            SigningKey::Hmac(bytes) => Some(bytes),
            SigningKey::Ed25519(_) => None,
        },
    }
}

fn keyed<M: hmac::digest::KeyInit + Mac>(key: &[u8]) -> M {
    <M as Mac>::new_from_slice(key).expect("HMAC takes a key of any length")
}

fn mac<M: Mac + Clone>(keyed: &M, content: Content<'_>) -> Result<Vec<u8>, TemplateFault> {
    let mut updates = Updates(keyed.clone());
    content(&mut updates)?;
    Ok(updates.0.finalize().into_bytes().to_vec())
}

/// Writes into a MAC.
struct Updates<M>(M);

impl<M: Mac> io::Write for Updates<M> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
