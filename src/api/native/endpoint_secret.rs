//! An endpoint's signing secret: `/api/v1/app/{app_id}/endpoint/{endpoint_id}/secret`.
//!
//! The profile determines the form of secrets. An ed25519 secret is shown as its public key.

use actix_web::http::StatusCode;
use actix_web::web;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::endpoint_path::{named, place};
use super::older_clients;
use crate::api::kit::call::{Call, Reply};
use crate::api::kit::extract::{Body, json, no_content, optional_text};
use crate::api::kit::operation::Operation;
use crate::clock::Timestamp;
use crate::domain::endpoint::EndpointSecret;
use crate::rules::caller::{Action, FeatureFlags};
use crate::rules::endpoint_checks::{NOT_FOUND, secret_form};
use crate::rules::rotation::{GRACE_SECONDS_MAX, RotateSecret};

/// The secrets that sign an endpoint's requests.
#[derive(Serialize, JsonSchema)]
pub struct SecretOut {
    /// The newest secret; the public key of an ed25519 one.
    key: String,
    /// The older secrets that still sign requests, until they end.
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
    /// Returns the newest of an endpoint's secrets, and the others that are valid now.
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
        .answers_nothing(409, "The endpoint's profile is not configured any more")
        .answers_nothing(400, "Too many secrets are valid at the same time"),
    ]
}

pub async fn get(call: Call) -> Reply {
    let endpoint = named(&call, Action::ReadSecrets)?;
    let now = call.now();
    let shown = SecretOut::of(&endpoint.secrets, now).ok_or(NOT_FOUND)?;
    Ok(json(StatusCode::OK, &shown))
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RotateIn {
    /// The new secret; where absent, one is generated that is of the same kind as the newest. The
    /// endpoint's profile determines its form.
    key: Option<String>,
    /// How long the old secrets still sign requests, too; a day where absent.
    #[schemars(range(max = GRACE_SECONDS_MAX))]
    grace_period_seconds: Option<u32>,
}

pub async fn rotate(call: Call, flags: FeatureFlags, body: Body) -> Reply {
    let action = Action::ChangeSecrets;
    let endpoint = named(&call, action)?;
    secret_form(&endpoint, &call.context.config)?;
    let rotation = body.json_or_default::<RotateIn>()?;
    let command = RotateSecret {
        place: place(&call, flags),
        key: rotation.key,
        grace_period_seconds: rotation.grace_period_seconds,
    };
    let secrets = call.decide(command).await?.endpoint.secrets;
    if older_clients::is_strict(&call.request) {
        return Ok(no_content());
    }
    let now = call.now();
    let shown = SecretOut::of(&secrets, now).ok_or(NOT_FOUND)?;
    Ok(json(StatusCode::OK, &shown))
}
