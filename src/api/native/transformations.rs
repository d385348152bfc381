//! Transformations of an endpoint: earlier versions, previews, and texts to start from.
//!
//! The transformation itself is a field of the endpoint (`endpoint_body`). The contract's own path,
//! `…/transformation`, is for programs in JavaScript, which postrider does not run (`not_offered`).

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::web;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::endpoint_body::EndpointIn;
use super::endpoint_path::{named, place};
use super::endpoints::changed;
use super::history::History;
use super::transformation_body::{TransformationIn, TransformationOut};
use crate::api::kit::call::{Call, Reply};
use crate::api::kit::extract::{Body, Patch, answered, json, object_patch, text};
use crate::api::kit::operation::Operation;
use crate::clock::Timestamp;
use crate::domain::endpoint::Endpoint;
use crate::domain::id::MessageId;
use crate::domain::message::Message;
use crate::domain::starting_point::{STARTING_POINTS, StartingPoint};
use crate::domain::transformation::{Transformation, TransformationFault, TransformationVersion};
use crate::error::Result;
use crate::rules::caller::{Action, FeatureFlags};
use crate::rules::checks::{Problems, missing, wrong};
use crate::rules::endpoint_checks::{Named, check_transformation};
use crate::rules::endpoint_edit::EditKind;
use crate::rules::endpoints::ChangeEndpoint;
use crate::store::Window;

/// Messages of one preview.
const PREVIEWED_MAX: usize = 10;

/// Messages of a preview that names none.
const PREVIEWED: usize = 3;

/// A transformation as it was saved once.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct TransformationVersionOut<'a> {
    /// 1 for the endpoint's first.
    number: u32,
    #[serde(serialize_with = "text")]
    saved_at: Timestamp,
    /// Null where it was removed.
    transformation: Option<TransformationOut<'a>>,
    /// Whether it is in effect.
    current: bool,
}

#[derive(Serialize, JsonSchema)]
struct TransformationVersionsOut<'a> {
    /// The newest first: the one in effect, and up to 5 earlier ones.
    data: Vec<TransformationVersionOut<'a>>,
}

/// The version to go back to.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "TransformationRestoreIn", extend("required" = ["number"]))]
struct RestoreIn {
    /// Its number.
    #[schemars(with = "u32", range(min = 1))]
    number: Option<u32>,
}

/// A transformation to try, and on which messages.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct TransformationPreviewIn {
    /// The endpoint's own where absent; none where null.
    #[serde(deserialize_with = "object_patch")]
    transformation: Patch<TransformationIn>,
    /// The last 3 messages that the endpoint takes where absent or null.
    #[schemars(length(min = 1, max = PREVIEWED_MAX))]
    message_ids: Option<Vec<String>>,
    /// The name of a profile in place of the endpoint's.
    profile: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct PreviewedMessageOut {
    message_id: String,
    event_type: String,
    /// The request that the endpoint would get. Credentials and signatures are `***`. Null where there is none.
    #[schemars(with = "Option<std::collections::BTreeMap<String, Value>>")]
    request: Option<Value>,
    /// Why there is no request; null where there is one.
    error: Option<PreviewErrorOut>,
}

#[derive(Serialize, JsonSchema)]
struct PreviewErrorOut {
    /// `body`, or `headers.` and a name; null where the transformation is not the cause.
    key: Option<String>,
    /// The line of the template, where it is known.
    line: Option<usize>,
    message: String,
}

impl From<TransformationFault> for PreviewErrorOut {
    fn from(fault: TransformationFault) -> Self {
        PreviewErrorOut {
            key: fault.key,
            line: fault.line,
            message: fault.message,
        }
    }
}

#[derive(Serialize, JsonSchema)]
struct TransformationPreviewOut {
    data: Vec<PreviewedMessageOut>,
}

/// A transformation to start from.
#[derive(Serialize, JsonSchema)]
struct StartingPointOut<'a> {
    name: &'a str,
    description: &'a str,
    transformation: TransformationOut<'a>,
}

impl<'a> From<&'a StartingPoint> for StartingPointOut<'a> {
    fn from(point: &'a StartingPoint) -> Self {
        StartingPointOut {
            name: point.name,
            description: point.description,
            transformation: (&point.transformation).into(),
        }
    }
}

#[derive(Serialize, JsonSchema)]
struct StartingPointsOut<'a> {
    data: Vec<StartingPointOut<'a>>,
}

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/api/v1/transformation-starting-points",
            "v1.endpoint.transformation-starting-points",
            web::to(starting_points),
        )
        .summary("List transformations to start from")
        .description("To be given to an endpoint as its `transformation`, as they are or changed.")
        .answers::<StartingPointsOut>(200, "The transformations"),
        Operation::get(
            "/api/v1/app/{app_id}/endpoint/{endpoint_id}/transformation-versions",
            "v1.endpoint.transformation-versions",
            web::to(versions),
        )
        .summary("List the versions of an endpoint's transformation")
        .answers::<TransformationVersionsOut>(200, "The versions"),
        Operation::post(
            "/api/v1/app/{app_id}/endpoint/{endpoint_id}/transformation-versions/restore",
            "v1.endpoint.restore-transformation",
            web::to(restore),
        )
        .needs(Action::ChangeEndpoints)
        .summary("Go back to an earlier transformation")
        .description("It becomes a new version, so that this can be undone in turn.")
        .takes::<RestoreIn>()
        .answers::<super::endpoint_body::EndpointOut>(200, "The endpoint"),
        Operation::post(
            "/api/v1/app/{app_id}/endpoint/{endpoint_id}/transformation-preview",
            "v1.endpoint.transformation-preview",
            web::to(preview),
        )
        .needs(Action::ReadHistory)
        .summary("Try a transformation on real messages")
        .description(
            "Shows the requests that the endpoint would get. Nothing is sent and nothing is kept.",
        )
        .may_take::<TransformationPreviewIn>()
        .answers::<TransformationPreviewOut>(200, "A request, or an error, for each message"),
    ]
}

pub async fn starting_points(call: Call) -> Reply {
    call.caller.may(Action::ReadProfiles)?;
    call.query().problems.done()?;
    let data = STARTING_POINTS.iter().map(StartingPointOut::from).collect();
    Ok(json(StatusCode::OK, &StartingPointsOut { data }))
}

pub async fn versions(call: Call) -> Reply {
    let endpoint = named(&call, Action::ReadEndpoints)?;
    call.query().problems.done()?;
    let versions = endpoint.transformations.iter().enumerate();
    let data = versions
        .map(|(index, version)| TransformationVersionOut {
            number: version.number,
            saved_at: version.saved_at,
            transformation: version.transformation.as_ref().map(Into::into),
            current: index == 0,
        })
        .collect();
    Ok(json(StatusCode::OK, &TransformationVersionsOut { data }))
}

/// Saves an earlier version again. It is checked anew: the profile and the settings may have changed.
pub async fn restore(call: Call, flags: FeatureFlags, body: Body) -> Reply {
    let endpoint = named(&call, Action::ChangeEndpoints)?;
    let place_of_number = ["body", "number"];
    let number = body.json::<RestoreIn>()?.number;
    let number = number.ok_or_else(|| missing(&place_of_number))?;
    let mut versions = endpoint.transformations.iter();
    let version = versions.find(|one| one.number == number);
    let version = version.ok_or_else(|| {
        let message = "must be the number of a version that is kept";
        wrong(&place_of_number, message)
    })?;
    let transformation = Patch::given(version.transformation.clone());
    let mut edit = EndpointIn::default().checked(EditKind::Patch, &call.context);
    edit.transformation = transformation;
    let place = place(&call, flags);
    let (config, store) = (&call.context.config, &call.context.store);
    let shown = |done| changed(StatusCode::OK, &done, config, store);
    call.show(ChangeEndpoint { place, edit }, shown).await
}

pub async fn preview(call: Call, body: Body) -> Reply {
    let endpoint = named(&call, Action::ReadHistory)?;
    let history = History::named(&call)?;
    let input = body.json_or_default::<TransformationPreviewIn>()?;
    let mut problems = Problems::default();
    let ids = input.message_ids;
    if let Some(ids) = &ids
        && !(1..=PREVIEWED_MAX).contains(&ids.len())
    {
        let message = format!("must have 1 to {PREVIEWED_MAX} entries");
        problems.add(&["body", "messageIds"], message);
    }
    let endpoint = drafted(
        &endpoint,
        input.transformation,
        input.profile,
        &mut problems,
        &call,
    );
    problems.done()?;
    let (context, store) = (call.context.clone(), call.context.store.clone());
    let read = move || {
        let messages = match ids {
            Some(ids) => ids
                .iter()
                .map(|id| history.message(&store, id))
                .collect::<Result<Vec<_>>>()?,
            None => {
                let newest = newest(context.config.limits.page_bytes);
                let takes = &mut |message: &Message| {
                    let catalog = store.catalog();
                    let event_type =
                        catalog.message_type(endpoint.organisation, &message.event_type);
                    let matches = endpoint.matches(event_type, &message.channels);
                    matches && !message.expunged && endpoint.filter_takes(message)
                };
                history.messages(&store, &newest, true, takes)?.items
            }
        };
        let data = messages
            .iter()
            .map(|message| {
                let made = (context.message_preview)(&endpoint, message);
                let (request, error) = match made {
                    Ok(request) => (Some(request), None),
                    Err(fault) => (None, Some(fault.into())),
                };
                PreviewedMessageOut {
                    message_id: message.id.to_string(),
                    event_type: message.event_type.clone(),
                    request,
                    error,
                }
            })
            .collect();
        Ok(answered(StatusCode::OK, &TransformationPreviewOut { data }))
    };
    call.read(read).await
}

/// The last messages of an application.
fn newest(bytes: usize) -> Window<MessageId> {
    Window {
        limit: PREVIEWED,
        bytes,
        newest_first: true,
        behind: None,
        before: None,
        after: None,
    }
}

/// The endpoint as it would be with these changes.
fn drafted(
    endpoint: &Arc<Endpoint>,
    transformation: Patch<TransformationIn>,
    profile: Option<String>,
    problems: &mut Problems,
    call: &Call,
) -> Arc<Endpoint> {
    let mut drafted = Endpoint::clone(endpoint);
    let config = &call.context.config;
    if let Some(name) = profile {
        if config.profile(Some(&name)).is_none() {
            let message = "must be the name of a profile; GET /api/v1/profile lists them";
            problems.add(&["body", "profile"], message);
        }
        drafted.profile = Some(name);
    }
    let named = Named {
        transformation: transformation.as_set().is_some(),
        ..Named::default()
    };
    match transformation {
        Patch::Absent => {}
        Patch::Null => drafted.transformations.clear(),
        Patch::Set(given) => {
            let checked = given.checked(problems, &call.context);
            drafted.transformations = vec![version(checked.unwrap_or_default(), call.now())];
        }
    }
    check_transformation(problems, &drafted, config, named);
    Arc::new(drafted)
}

fn version(transformation: Transformation, saved_at: Timestamp) -> Arc<TransformationVersion> {
    Arc::new(TransformationVersion {
        number: 1,
        saved_at,
        transformation: Some(transformation),
    })
}
