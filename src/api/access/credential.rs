//! Credentials: where a request carries one, and how it is proved.
//!
//! A request has its credential in a header, or belongs to a visit that stands for one. A cookie
//! names the visit: see `visits`.
//!
//! One of our tokens is found by its SHA-256, which is compared once more in constant time. Where
//! `auth.jwt_secret` is set, a credential with a dot is a signed token (JWT), because none of our
//! tokens has one. `rules::caller` decides what a caller may do.

use std::sync::Arc;

use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use actix_web::{HttpMessage, HttpRequest};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::failures;
use super::token_limits::admit;
use super::visits::{self, Meant};
use crate::api::kit::context::{Context, context_of};
use crate::catalog::Catalog;
use crate::clock::Timestamp;
use crate::domain::jwt::{Claims, JwtSecret};
use crate::domain::token::Token;
use crate::domain::visit::{SignedInWith, Visit};
use crate::error::{Error, Result};
use crate::rules::caller::Proof;

/// The longest credential that is looked up as one of our tokens, which are much shorter; longer
/// ones are not hashed.
const TOKEN_BYTES_MAX: usize = 512;

/// The longest signed token: these carry their claims with them.
const SIGNED_BYTES_MAX: usize = 4096;

/// The other header for a credential.
const API_KEY: &str = "api-key";

/// Returns the proof of a request's credential. The credential is proved at the first call, and the
/// proof is kept with the request for later ones.
pub fn proof(request: &HttpRequest) -> Result<Proof> {
    kept(request, || match shown(request.headers())? {
        Some(credential) => proof_of(request, credential, context_of(request)),
        None => proof_of_visit(request, context_of(request)),
    })
}

/// Like [`proof`], for operations that need a credential: a request without a valid one counts as a
/// failure (see `failures`).
pub fn required(request: &HttpRequest) -> Result<Proof> {
    proof(request).map_err(|error| refused(request, error))
}

/// Returns the proof that the request has. Where it has none yet, one is made and kept.
fn kept(request: &HttpRequest, prove: impl FnOnce() -> Result<Proof>) -> Result<Proof> {
    let earlier = request.extensions().get::<Proof>().cloned();
    if let Some(proof) = earlier {
        return Ok(proof);
    }
    let proof = prove()?;
    request.extensions_mut().insert(proof.clone());
    Ok(proof)
}

/// The error for a request whose credential is not valid.
pub fn refused(request: &HttpRequest, error: Error) -> Error {
    failures::refused(request, in_header(request.headers()), error)
}

/// Returns the proof of a credential that a request has, in a header or in its body.
pub fn proof_of(request: &HttpRequest, credential: &str, context: &Context) -> Result<Proof> {
    let catalog = context.store.catalog();
    let secret = context.config.auth.jwt_secret.as_ref();
    let proof = prove(&catalog, secret, credential, context.store.clock().now())?;
    admitted(request, context, proof)
}

/// Returns the proof for a request that belongs to a visit: that of the visit's credential.
fn proof_of_visit(request: &HttpRequest, context: &Context) -> Result<Proof> {
    let (catalog, now) = (context.store.catalog(), context.store.clock().now());
    let entry = visits::visit_of(request.headers(), &catalog, now);
    let entry = entry.ok_or(Error::Unauthenticated)?;
    let secret = context.config.auth.jwt_secret.as_ref();
    let proof = prove_visit(&catalog, secret, &entry.visit).ok_or(Error::Unauthenticated)?;
    let proof = admitted(request, context, proof)?;
    // A request from a place where the credential may not be used does not keep the visit alive.
    entry.seen(now);
    request.extensions_mut().insert(ByVisit(entry.visit.key));
    Ok(proof)
}

/// Marks a request whose credential was proved by the visit with this key.
struct ByVisit([u8; 32]);

/// The key of the visit that stood for a request's credential, once that was proved.
pub fn visit_used(request: &HttpRequest) -> Option<[u8; 32]> {
    let extensions = request.extensions();
    extensions.get::<ByVisit>().map(|ByVisit(key)| *key)
}

fn admitted(request: &HttpRequest, context: &Context, proof: Proof) -> Result<Proof> {
    if let Proof::Token(token) = &proof {
        admit(request, context, token)?;
    }
    Ok(proof)
}

/// Whether a request has a credential in a header, valid or not.
pub fn is_in_header(headers: &HeaderMap) -> bool {
    headers.contains_key(AUTHORIZATION) || headers.contains_key(API_KEY)
}

/// The credential in a header; none where the request may belong to a visit. A request with neither
/// is refused here, without a context, too.
fn shown(headers: &HeaderMap) -> Result<Option<&str>> {
    if is_in_header(headers) {
        return in_header(headers).map(Some).ok_or(Error::Unauthenticated);
    }
    match Meant::of(headers) {
        Some(_) => Ok(None),
        None => Err(Error::Unauthenticated),
    }
}

/// Returns the proof of the credential that a visit stands for, if it is still valid.
fn prove_visit(catalog: &Catalog, secret: Option<&JwtSecret>, visit: &Visit) -> Option<Proof> {
    match &visit.with {
        SignedInWith::Token(id) => catalog.token(*id).cloned().map(Proof::Token),
        SignedInWith::Signed { claims, seal } => {
            let is_ours = |secret: &JwtSecret| secret.has_sealed(&visit.credential, seal);
            let holds = secret.is_some_and(is_ours);
            holds.then(|| Proof::Signed(Arc::new(claims.clone()), visit.credential))
        }
    }
}

/// The credential in `Authorization: Bearer T`, or in `Api-Key: T` where there is no
/// `Authorization`: two that disagree must not be tried one after the other.
fn in_header(headers: &HeaderMap) -> Option<&str> {
    let credential = match headers.get(AUTHORIZATION) {
        Some(value) => bearer(value.to_str().ok()?)?,
        None => headers.get(API_KEY)?.to_str().ok()?,
    };
    let credential = credential.trim();
    is_plausible(credential).then_some(credential)
}

/// Whether the text can be a credential, by its length.
pub fn is_plausible(credential: &str) -> bool {
    !credential.is_empty() && credential.len() <= SIGNED_BYTES_MAX
}

/// Returns the credential after `Bearer`. The scheme's case does not matter (RFC 9110, 11.1).
fn bearer(header: &str) -> Option<&str> {
    let (scheme, credential) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(credential)
}

fn prove(
    catalog: &Catalog,
    secret: Option<&JwtSecret>,
    credential: &str,
    now: Timestamp,
) -> Result<Proof> {
    let proof = match secret {
        Some(secret) if credential.contains('.') => signed(catalog, secret, credential, now)
            .map(|(claims, hash)| Proof::Signed(Arc::new(claims), hash)),
        _ => token(catalog, credential, now).cloned().map(Proof::Token),
    };
    proof.ok_or_else(|| match secret {
        Some(secret) if secret.is(credential) => Error::SecretForToken,
        _ => Error::Unauthenticated,
    })
}

fn token<'a>(catalog: &'a Catalog, credential: &str, now: Timestamp) -> Option<&'a Arc<Token>> {
    if credential.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let hash: [u8; 32] = Sha256::digest(credential).into();
    let token = catalog.token_by_hash(&hash)?;
    let same = bool::from(token.hash.ct_eq(&hash));
    let alive = token.expires_at.is_none_or(|end| end > now);
    (same && alive).then_some(token)
}

fn signed(
    catalog: &Catalog,
    secret: &JwtSecret,
    credential: &str,
    now: Timestamp,
) -> Option<(Claims, [u8; 32])> {
    let claims = secret.verify(credential, now)?;
    let hash = Sha256::digest(credential).into();
    let holds = catalog.takes_signed(&claims, || hash, now);
    holds.then_some((claims, hash))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::OrganisationId;
    use crate::domain::jwt::Subject;
    use crate::domain::token::Role;
    use actix_web::http::header::{HeaderName, HeaderValue};
    use actix_web::test::TestRequest;
    use std::cell::Cell;

    #[test]
    fn a_credential_stands_in_one_of_two_headers_and_has_a_sane_length() {
        let long = "x".repeat(SIGNED_BYTES_MAX + 1);
        let long_bearer = format!("Bearer {long}");
        let key = Some("pr_key");
        for (authorization, api_key, expected) in [
            (Some("Bearer pr_abc"), None, Some("pr_abc")),
            (Some("bearer  pr_abc "), None, Some("pr_abc")),
            (None, Some("pr_key"), Some("pr_key")),
            (None, Some(" pr_key "), Some("pr_key")),
            (None, Some(""), None),
            (None, Some(long.as_str()), None),
            (None, None, None),
            // Where there is an Authorization it counts, right or wrong.
            (Some("Bearer pr_abc"), key, Some("pr_abc")),
            (Some("Bearer "), key, None),
            (Some("Bearer"), key, None),
            (Some("Basic pr_abc"), key, None),
            (Some("pr_abc"), key, None),
            (Some(""), key, None),
            (Some(long_bearer.as_str()), key, None),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in [("authorization", authorization), ("api-key", api_key)] {
                if let Some(value) = value {
                    let name = HeaderName::from_static(name);
                    headers.insert(name, HeaderValue::from_str(value).unwrap());
                }
            }
            let case = format!("{authorization:?} {api_key:?}");
            assert_eq!(in_header(&headers), expected, "{case}");
        }
    }

    #[test]
    fn a_credential_is_proved_once_a_request() {
        let request = TestRequest::default().to_http_request();
        let subject = Subject {
            organisation: OrganisationId([1; 20]),
            application: None,
        };
        let proofs = Cell::new(0);
        let prove = || {
            proofs.set(proofs.get() + 1);
            let hash = [proofs.get(); 32];
            let name = "t".to_owned();
            let now = Timestamp::from_seconds(1_700_000_000);
            let token = Token::new(subject.organisation, Role::Owner, name, hash, now);
            Ok(Proof::Token(Arc::new(token)))
        };
        // What is not valid now may be so a moment later.
        assert!(kept(&request, || Err(Error::Unauthenticated)).is_err());
        for _ in 0..3 {
            let Ok(Proof::Token(token)) = kept(&request, prove) else {
                panic!("it was proved");
            };
            assert_eq!((token.hash, proofs.get()), ([1; 32], 1));
        }
        let other = TestRequest::default().to_http_request();
        assert!(kept(&other, prove).is_ok());
        assert_eq!(proofs.get(), 2);
        // Whoever asks for it by a request gets the same.
        assert!(matches!(proof(&request), Ok(Proof::Token(token)) if token.hash == [1; 32]));
    }

    #[test]
    fn an_unknown_credential_is_refused_and_a_signed_one_without_a_secret() {
        let catalog = Catalog::default();
        let now = Timestamp::from_seconds(1_700_000_000);
        let secret: JwtSecret = "8KjzRXrKkd9YFcNyqLSIY8JwiaCeRc6W".to_owned().into();
        let subject = Subject {
            organisation: OrganisationId([1; 20]),
            application: None,
        };
        let signed = secret.sign(subject, now, None);
        for (secret, credential, holds) in [
            (None, "pr_unknown", false),
            (Some(&secret), "pr_unknown", false),
            (Some(&secret), signed.as_str(), true),
            (None, signed.as_str(), false),
        ] {
            let proof = prove(&catalog, secret, credential, now);
            assert_eq!(proof.is_ok(), holds, "{credential}");
        }
        let text = "8KjzRXrKkd9YFcNyqLSIY8JwiaCeRc6W";
        let proof = prove(&catalog, Some(&secret), text, now);
        assert!(matches!(proof, Err(Error::SecretForToken)));
        let proof = prove(&catalog, None, text, now);
        assert!(matches!(proof, Err(Error::Unauthenticated)));
    }
}
