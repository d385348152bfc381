//! An endpoint's own headers: `/api/v1/app/{app_id}/endpoint/{endpoint_id}/headers`.
//!
//! Sensitive headers are sent like the others and shown by name only. Authentication headers are
//! not among them: they are set together with the endpoint.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use actix_web::web;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::endpoint_path::{named, place};
use crate::api::kit::call::{Call, Reply};
use crate::api::kit::extract::{Body, json};
use crate::api::kit::operation::Operation;
use crate::domain::endpoint::is_sensitive;
use crate::rules::caller::{Action, FeatureFlags};
use crate::rules::checks::missing;
use crate::rules::endpoints::{ChangeHeaders, SetHeaders};

/// Headers that are sent along with every request, in addition to those of the profile and the
/// authentication.
#[derive(Serialize, JsonSchema)]
pub struct HeadersOut<'a> {
    headers: BTreeMap<&'a str, &'a str>,
    /// Names whose values are not shown.
    sensitive: Vec<&'a str>,
}

fn headers_out(headers: &BTreeMap<String, String>) -> HeadersOut<'_> {
    let (sensitive, plain): (Vec<_>, Vec<_>) = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .partition(|(name, _)| is_sensitive(name));
    HeadersOut {
        headers: plain.into_iter().collect(),
        sensitive: sensitive.into_iter().map(|(name, _)| name).collect(),
    }
}

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/api/v1/app/{app_id}/endpoint/{endpoint_id}/headers",
            "v1.endpoint.get-headers",
            web::to(get),
        )
        .summary("Show the headers that are sent along")
        .answers::<HeadersOut>(200, "The headers"),
        Operation::put(
            "/api/v1/app/{app_id}/endpoint/{endpoint_id}/headers",
            "v1.endpoint.update-headers",
            web::to(put),
        )
        .needs(Action::ChangeEndpoints)
        .summary("Replace the headers that are sent along")
        .takes::<HeadersIn>()
        .answers_nothing(204, "Replaced"),
        Operation::patch(
            "/api/v1/app/{app_id}/endpoint/{endpoint_id}/headers",
            "v1.endpoint.patch-headers",
            web::to(patch),
        )
        .needs(Action::ChangeEndpoints)
        .summary("Change some of the headers that are sent along")
        .takes::<HeadersPatch>()
        .answers_nothing(204, "Changed"),
    ]
}

pub async fn get(call: Call) -> Reply {
    let endpoint = named(&call, Action::ReadEndpoints)?;
    Ok(json(StatusCode::OK, &headers_out(&endpoint.headers)))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["headers"]))]
pub struct HeadersIn {
    /// All headers of the endpoint.
    #[schemars(with = "BTreeMap<String, String>")]
    headers: Option<BTreeMap<String, String>>,
}

pub async fn put(call: Call, flags: FeatureFlags, body: Body) -> Reply {
    let action = Action::ChangeEndpoints;
    named(&call, action)?;
    let Some(headers) = body.json::<HeadersIn>()?.headers else {
        return Err(missing(&["body", "headers"]).into());
    };
    let place = place(&call, flags);
    call.done(SetHeaders { place, headers }).await
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("required" = ["headers"]))]
pub struct HeadersPatch {
    /// The headers to change; null removes one.
    #[schemars(with = "BTreeMap<String, Option<String>>")]
    headers: Option<BTreeMap<String, Option<String>>>,
    /// The names of headers to remove, because newer clients cannot send null.
    delete_headers: Option<Vec<String>>,
}

pub async fn patch(call: Call, flags: FeatureFlags, body: Body) -> Reply {
    let action = Action::ChangeEndpoints;
    named(&call, action)?;
    let input = body.json::<HeadersPatch>()?;
    let Some(mut headers) = input.headers else {
        return Err(missing(&["body", "headers"]).into());
    };
    for name in input.delete_headers.unwrap_or_default() {
        // A header that also has a value is replaced.
        headers.entry(name).or_insert(None);
    }
    let command = ChangeHeaders {
        place: place(&call, flags),
        headers,
    };
    call.done(command).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sensitive_headers_are_shown_by_name_only() {
        let headers = BTreeMap::from([
            ("Authorization".to_owned(), "Bearer s3".to_owned()),
            ("X-Api-Key".to_owned(), "s3".to_owned()),
            ("X-Plain".to_owned(), "shown".to_owned()),
        ]);
        let body = serde_json::to_value(headers_out(&headers)).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "headers": {"X-Plain": "shown"}, "sensitive": ["Authorization", "X-Api-Key"]
            })
        );
    }
}
