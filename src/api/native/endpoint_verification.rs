//! Verification of an endpoint, which shows that its owner wants the traffic: its `verification`,
//! and `…/endpoint/{endpoint_id}/verify`, of an application's endpoints and of the organisation's
//! own. Additions to the contract.

use actix_web::http::StatusCode;
use actix_web::web;
use schemars::JsonSchema;
use serde::Serialize;

use super::endpoint_path::{endpoint_path, named};
use crate::api::kit::call::{Call, Reply};
use crate::api::kit::extract::{Body, json, optional_text};
use crate::api::kit::operation::Operation;
use crate::clock::Timestamp;
use crate::config::{Config, VerifyEndpoints};
use crate::domain::endpoint::Endpoint;
use crate::domain::verification::Verification;
use crate::rules::caller::Action;
use crate::rules::endpoints::AskForChallenge;

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerificationOut<'a> {
    /// Verified: messages are sent. Pending: challenges are sent by themselves. Failed: somebody
    /// must ask for a challenge. Messages are held until the endpoint is verified.
    #[schemars(extend("enum" = ["verified", "pending", "failed"]))]
    status: &'static str,
    /// Challenges that failed since the URL was given or somebody asked for one.
    attempts: u32,
    #[serde(serialize_with = "optional_text")]
    last_attempt_at: Option<Timestamp>,
    #[serde(serialize_with = "optional_text")]
    next_attempt_at: Option<Timestamp>,
    /// Why the last challenge did not verify the endpoint, as a sentence.
    last_error: Option<&'a str>,
}

impl<'a> VerificationOut<'a> {
    /// Returns the verification; nothing where the server does not verify endpoints.
    pub fn of(endpoint: &'a Endpoint, config: &Config) -> Option<VerificationOut<'a>> {
        match config.delivery.verify_endpoints {
            VerifyEndpoints::Off => None,
            VerifyEndpoints::Challenge => Some(endpoint.verification.as_ref().into()),
        }
    }
}

impl<'a> From<Option<&'a Verification>> for VerificationOut<'a> {
    /// Shows a verification. An endpoint without one in its record is verified.
    fn from(verification: Option<&'a Verification>) -> VerificationOut<'a> {
        let status = match verification {
            None => "verified",
            Some(one) if one.next_at.is_some() => "pending",
            Some(_) => "failed",
        };
        VerificationOut {
            status,
            attempts: verification.map_or(0, |one| one.attempts),
            last_attempt_at: verification.and_then(|one| one.last_at),
            next_attempt_at: verification.and_then(|one| one.next_at),
            last_error: verification.and_then(|one| one.last_error.as_deref()),
        }
    }
}

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    vec![
        challenging(
            "/api/v1/app/{app_id}/endpoint/{endpoint_id}/verify",
            "v1.endpoint.verify",
        )
        .needs(Action::SendAgain)
        .summary("Challenge an endpoint to be verified"),
        challenging(
            "/api/v1/operational-webhook/endpoint/{endpoint_id}/verify",
            "v1.operational-webhook.endpoint.verify",
        )
        .needs(Action::OwnEndpoints)
        .summary("Challenge an endpoint of your own to be verified"),
    ]
}

fn challenging(path: &'static str, id: &'static str) -> Operation {
    Operation::post(path, id, web::to(verify))
        .description(
            "A challenge is sent soon after the answer: a signed POST of `{\"type\": \
             \"postrider.verification\", \"timestamp\": …, \"challenge\": \"…\"}` to the endpoint's URL, \
             which must be answered with 200 and the text of `challenge`, or with 200 and \
             `{\"challenge\": \"…\"}`. What came of it is the endpoint's `verification`. An application, \
             as your own endpoints together, has 10 challenges in a minute; further ones wait. Nothing \
             is sent to an endpoint that is verified already, as all are where the server verifies \
             none.",
        )
        .answers::<VerificationOut>(202, "The endpoint's `verification`")
        .answers_nothing(409, "The endpoint is not verified, and disabled or held by the operator")
}

pub async fn verify(call: Call, body: Body) -> Reply {
    named(&call, Action::SendAgain)?;
    body.nothing()?;
    let (owner, endpoint) = endpoint_path(&call);
    let ask = AskForChallenge { owner, endpoint };
    let verification = call.decide(ask).await?;
    let shown = VerificationOut::from(verification.as_ref());
    Ok(json(StatusCode::ACCEPTED, &shown))
}
