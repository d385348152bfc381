//! A message held against its event type, before it goes to the writer.

use std::sync::Arc;

use super::message_body::{Checked, Payload};
use crate::api::kit::context::Context;
use crate::api::kit::extract::{Body, blocking};
use crate::domain::cost::Budget;
use crate::domain::event_type::EventType;
use crate::domain::id::OrganisationId;
use crate::error::{Invalid, Result};
use crate::rules::announced::{InUse, Published, Verdict, announced};
use crate::telemetry::SchemaOutcome;

/// The longest payload that is parsed on the thread that answers requests. Longer ones take some milliseconds.
const PARSED_AT_ONCE_BYTES_MAX: usize = 16 * 1024;

/// Returns the warnings about a message, or an error with all that is wrong with it.
pub async fn warnings(
    context: &Context,
    organisation: OrganisationId,
    message: &Checked<'_>,
    body: &Body,
    budget: &mut Budget,
) -> Result<Vec<Invalid>> {
    let (mut warnings, schema_of) = known(context, organisation, &message.event_type)?;
    let Some(event_type) = schema_of else {
        return Ok(warnings);
    };
    let ready = context.schemas.ready(&event_type);
    let small = message.payload.len() <= PARSED_AT_ONCE_BYTES_MAX;
    let found = match ready {
        Some(schema) if small => checked(context, &schema, published(&message.payload), budget)?,
        _ => {
            let (bytes, is_raw) = match &message.payload {
                Payload::Object(object) => (body.0.slice_ref(object.get().as_bytes()), false),
                Payload::Raw(text) => (text.clone().into(), true),
            };
            let schemas = context.schemas.clone();
            let mut part = budget.part();
            let check = move || {
                let schema = schemas.of(&event_type);
                let text = std::str::from_utf8(&bytes).expect("it is a part of a text");
                let verdict = schema.check(Published { text, is_raw }, &mut part);
                Ok((schema, verdict, part))
            };
            let (schema, verdict, part) = blocking(check).await?;
            budget.settle(&part);
            told(context, &schema, verdict)?
        }
    };
    warnings.extend(found);
    Ok(warnings)
}

/// The same for the messages of a batch, on a thread that may block.
pub struct BatchChecks<'a> {
    context: &'a Context,
    organisation: OrganisationId,
}

impl BatchChecks<'_> {
    pub fn new(context: &Context, organisation: OrganisationId) -> BatchChecks<'_> {
        BatchChecks {
            context,
            organisation,
        }
    }

    /// Returns the warnings about a message, or an error with all that is wrong with it.
    pub fn warnings(&self, message: &Checked<'_>, budget: &mut Budget) -> Result<Vec<Invalid>> {
        let (mut warnings, schema_of) =
            known(self.context, self.organisation, &message.event_type)?;
        let Some(event_type) = schema_of else {
            return Ok(warnings);
        };
        let schema = self.context.schemas.of(&event_type);
        let payload = published(&message.payload);
        warnings.extend(checked(self.context, &schema, payload, budget)?);
        Ok(warnings)
    }
}

/// What the registrations say: warnings, and the event type where payloads are to be held against its schema.
fn known(
    context: &Context,
    organisation: OrganisationId,
    name: &str,
) -> Result<(Vec<Invalid>, Option<Arc<EventType>>)> {
    let found = announced(
        &context.store.catalog(),
        &context.config,
        organisation,
        name,
    );
    match &found {
        Ok(known) if known.warnings.is_empty() => {}
        Ok(_) => drop(context.metrics.unknown_event_types.warned.inc()),
        Err(_) => drop(context.metrics.unknown_event_types.rejected.inc()),
    }
    found.map(|known| (known.warnings, known.schema_of))
}

fn published<'a>(payload: &'a Payload<'_>) -> Published<'a> {
    match payload {
        Payload::Object(object) => Published {
            text: object.get(),
            is_raw: false,
        },
        Payload::Raw(text) => Published { text, is_raw: true },
    }
}

fn checked(
    context: &Context,
    schema: &InUse,
    payload: Published<'_>,
    budget: &mut Budget,
) -> Result<Vec<Invalid>> {
    told(context, schema, schema.check(payload, budget))
}

/// Counts a verdict, and returns it as the publisher is told of it.
fn told(context: &Context, schema: &InUse, verdict: Verdict) -> Result<Vec<Invalid>> {
    let (fits, too_costly) = (verdict.fits(), verdict.too_costly);
    let result = verdict.into_result();
    let outcome = match &result {
        _ if too_costly => SchemaOutcome::TooCostly,
        Ok(_) if fits => SchemaOutcome::Fits,
        Ok(_) => SchemaOutcome::Warned,
        Err(_) => SchemaOutcome::Rejected,
    };
    context.metrics.schema_check(outcome);
    if !fits && result.is_ok() {
        context.schemas.count_warning(&schema.event_type);
    }
    result
}
