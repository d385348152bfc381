//! An endpoint's signing secret: `/api/v1/app/{app_id}/endpoint/{endpoint_id}/secret`.
//!
//! Which texts are secrets is the profile's to say. An ed25519 secret is shown as its public key.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Context;
use super::access::{Action, Caller, FeatureFlags};
use super::endpoint_rules::{NOT_FOUND, secret_form};
use super::endpoints::{change, named};
use super::error::Failure;
use super::extract::{Body, json, no_content, optional_text};
use super::older_clients;
use super::operation::Operation;
use super::rules::Problems;
use crate::clock::Timestamp;
use crate::domain::endpoint::EndpointSecret;
use crate::domain::secret::{Secret, SecretForm, SignatureType};
use crate::error::{Error, Result};

/// How long a rotated secret stays valid where the caller does not say.
const GRACE_SECONDS_DEFAULT: u32 = 24 * 60 * 60;
const GRACE_SECONDS_MAX: u32 = 7 * 24 * 60 * 60;

/// Each live secret adds a signature to every request's headers.
const LIVE_SECRETS_MAX: usize = 10;

/// What requests are signed with.
#[derive(Serialize, JsonSchema)]
pub struct SecretOut {
    /// Of an ed25519 key, the public part.
    key: String,
    /// The older ones that requests are signed with, too, until they end.
    previous: Vec<PreviousSecret>,
}

/// A secret that was rotated and is still valid.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreviousSecret {
    #[serde(serialize_with = "optional_text")]
    expires_at: Option<Timestamp>,
}

impl SecretOut {
    /// The newest of an endpoint's secrets, and the others as of now.
    fn of(secrets: &[EndpointSecret], now: Timestamp) -> Option<SecretOut> {
        let (newest, older) = secrets.split_first()?;
        let is_valid = |one: &&EndpointSecret| one.expires_at.is_none_or(|end| end > now);
        let previous = older.iter().filter(is_valid).map(|one| PreviousSecret {
            expires_at: one.expires_at,
        });
        Some(SecretOut {
            key: newest.secret.readable(),
            previous: previous.collect(),
        })
    }
}

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/api/v1/app/{app_id}/endpoint/{endpoint_id}/secret",
            "v1.endpoint.get-secret",
            web::to(get),
        )
        .summary("Show the signing secret")
        .answers::<SecretOut>(200, "The newest secret"),
        Operation::post(
            "/api/v1/app/{app_id}/endpoint/{endpoint_id}/secret/rotate",
            "v1.endpoint.rotate-secret",
            web::to(rotate),
        )
        .needs(Action::ChangeSecrets)
        .summary("Rotate the signing secret")
        .description(
            "Requests are signed with the new secret and, for a while, with the old ones, too, so \
             that receivers have time to learn the new one.",
        )
        .may_take::<RotateIn>()
        .answers::<SecretOut>(200, "The new secret")
        .answers_nothing(204, "Rotated; to clients that know no other answer")
        .answers_nothing(
            409,
            "The endpoint's profile is not configured any more, or was changed at the same time",
        )
        .answers_nothing(400, "Too many secrets are valid at the same time"),
    ]
}

pub async fn get(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    let endpoint = named(&context, &caller, &request, Action::ReadSecrets)?;
    let now = context.store.clock().now();
    let shown = SecretOut::of(&endpoint.secrets, now).ok_or(NOT_FOUND)?;
    Ok(json(StatusCode::OK, &shown))
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RotateIn {
    /// The new secret; where absent, one is made up that is of the same kind as the newest. The
    /// endpoint's profile says which texts are taken.
    key: Option<String>,
    /// How long requests are signed with the old one, too; a day where absent.
    #[schemars(range(max = GRACE_SECONDS_MAX))]
    grace_period_seconds: Option<u32>,
}

impl RotateIn {
    /// The new secret and how long the old ones stay valid.
    fn checked(self, form: SecretForm, kind: SignatureType) -> Result<(Secret, Duration)> {
        let mut problems = Problems::default();
        let parse = |text| Secret::parse(text, form);
        let secret = match self.key.as_deref().map(parse) {
            None => Some(Secret::generate(form.of_kind(kind), rand::random())),
            Some(Ok(secret)) => Some(secret),
            Some(Err(message)) => {
                problems.add(&["body", "key"], message);
                None
            }
        };
        let grace = self.grace_period_seconds.unwrap_or(GRACE_SECONDS_DEFAULT);
        if grace > GRACE_SECONDS_MAX {
            let message = format!("must be 0 to {GRACE_SECONDS_MAX}");
            problems.add(&["body", "gracePeriodSeconds"], message);
        }
        problems.done()?;
        let secret = secret.expect("without a problem there is a secret");
        Ok((secret, Duration::from_secs(grace.into())))
    }
}

pub async fn rotate(
    request: HttpRequest,
    caller: Caller,
    flags: FeatureFlags,
    context: web::Data<Context>,
    body: Body,
) -> Result<HttpResponse, Failure> {
    let action = Action::ChangeSecrets;
    let endpoint = named(&context, &caller, &request, action)?;
    let form = secret_form(&endpoint, &context.config)?;
    // Its receiver goes on verifying as it does.
    let newest = endpoint.secrets.first().map(|newest| newest.secret.kind());
    let kind = newest.unwrap_or(context.config.delivery.default_signature_type);
    let rotation = body.json_or_default::<RotateIn>()?;
    let (secret, grace) = rotation.checked(form, kind)?;
    let key = secret.readable();
    let now = context.store.clock().now();
    let config = Arc::clone(&context.config);
    change(&request, &context, caller, flags, action, move |endpoint| {
        if secret_form(endpoint, &config)? != form {
            let message = "the endpoint's profile was changed at the same time; try again";
            return Err(Error::Conflict(message.to_owned()));
        }
        let secrets = std::mem::take(&mut endpoint.secrets);
        endpoint.secrets = rotated(secrets, secret, grace, now)?;
        Ok(Vec::new())
    })
    .await?;
    if older_clients::is_strict(&request) {
        return Ok(no_content());
    }
    let endpoint = named(&context, &caller, &request, action)?;
    let as_it_is = SecretOut::of(&endpoint.secrets, now).ok_or(NOT_FOUND)?;
    // Whoever rotated it a moment later has another.
    Ok(json(StatusCode::OK, &SecretOut { key, ..as_it_is }))
}

/// The new secret, and behind it the old ones that are still valid for a while.
fn rotated(
    old: Vec<EndpointSecret>,
    new: Secret,
    grace: Duration,
    now: Timestamp,
) -> Result<Vec<EndpointSecret>> {
    let end = now + grace;
    let mut secrets = vec![EndpointSecret {
        secret: new,
        expires_at: None,
    }];
    for one in old {
        let expires_at = one.expires_at.map_or(end, |sooner| sooner.min(end));
        if expires_at > now && one.secret != secrets[0].secret {
            secrets.push(EndpointSecret {
                secret: one.secret,
                expires_at: Some(expires_at),
            });
        }
    }
    match secrets.len() <= LIVE_SECRETS_MAX {
        true => Ok(secrets),
        false => Err(Error::LimitReached(format!(
            "at most {LIVE_SECRETS_MAX} secrets are valid at a time; rotate with a shorter grace period"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: SecretForm = SecretForm::StandardWebhooks;
    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn secret(byte: u8) -> Secret {
        Secret::generate(FORM, [byte; 32])
    }

    #[test]
    fn a_rotated_secret_stays_for_the_grace_period() {
        let grace = Duration::from_secs(60);
        let first = vec![EndpointSecret {
            secret: secret(1),
            expires_at: None,
        }];
        let second = rotated(first, secret(2), grace, NOW).unwrap();
        assert_eq!(second[0].secret, secret(2));
        assert_eq!(second[0].expires_at, None);
        assert_eq!(second[1].expires_at, Some(NOW + grace));

        let later = NOW + Duration::from_secs(30);
        let third = rotated(second.clone(), secret(3), grace, later).unwrap();
        let ends: Vec<_> = third.iter().map(|one| one.expires_at).collect();
        assert_eq!(
            ends,
            [None, Some(later + grace), Some(NOW + grace)],
            "an end is not put off"
        );

        let much_later = NOW + Duration::from_secs(600);
        let fourth = rotated(third, secret(4), Duration::ZERO, much_later).unwrap();
        assert_eq!(fourth.len(), 1, "expired ones go, and no grace means none");
    }

    #[test]
    fn a_secret_that_comes_again_is_there_once() {
        let first = vec![EndpointSecret {
            secret: secret(1),
            expires_at: None,
        }];
        let again = rotated(first, secret(1), Duration::from_secs(60), NOW).unwrap();
        assert_eq!(again.len(), 1);
        assert_eq!(again[0].expires_at, None);
    }

    #[test]
    fn live_secrets_are_bounded() {
        let mut secrets = Vec::new();
        for byte in 0..LIVE_SECRETS_MAX as u8 {
            secrets = rotated(secrets, secret(byte), Duration::from_secs(60), NOW).unwrap();
        }
        let refused = rotated(secrets, secret(99), Duration::from_secs(60), NOW);
        assert!(matches!(refused, Err(Error::LimitReached(_))));
    }

    #[test]
    fn a_rotation_is_checked() {
        let rotate = |text: &str| {
            serde_json::from_str::<RotateIn>(text)
                .unwrap()
                .checked(FORM, SignatureType::Hmac)
        };
        let (_, grace) = rotate("{}").unwrap();
        assert_eq!(grace, Duration::from_secs(86_400));
        assert!(rotate(r#"{"gracePeriodSeconds":604800,"key":null}"#).is_ok());
        assert!(rotate(r#"{"gracePeriodSeconds":604801}"#).is_err());
        assert!(rotate(r#"{"key":"short"}"#).is_err());
        let made_up = RotateIn::default().checked(FORM, SignatureType::Ed25519);
        assert_eq!(made_up.unwrap().0.kind(), SignatureType::Ed25519);
    }
}
