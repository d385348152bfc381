//! Whether a message is as its event type was announced: of a type that is registered, and with a payload that
//! fits the type's newest schema.
//!
//! This is asked before the message goes to the writer, and is decided there and then: the commit does not ask
//! again. An event type that is changed in the microseconds between is as if it had been changed after them.

use std::sync::Arc;

use serde_json::Value;

use super::schema::{Compiled, Fit};
use crate::catalog::Catalog;
use crate::config::Config;
use crate::domain::cost::Budget;
use crate::domain::event_type::{EventType, Strictness};
use crate::domain::id::OrganisationId;
use crate::error::{Error, Invalid, Result};

/// What the registrations say of a message's event type.
#[derive(Debug, Default)]
pub struct Announced {
    pub warnings: Vec<Invalid>,
    /// The event type, where payloads are to be held against its schema.
    pub schema_of: Option<Arc<EventType>>,
}

/// Returns what is known of the event type; an error where it must be registered and is not.
pub fn announced(
    catalog: &Catalog,
    settings: &Config,
    organisation: OrganisationId,
    name: &str,
) -> Result<Announced> {
    let Some(known) = catalog.event_type(organisation, name) else {
        let problem = |message: String| Invalid::body("eventType", message);
        return match settings.limits.require_known_event_types {
            Strictness::Off => Ok(Announced::default()),
            Strictness::Warn => Ok(Announced {
                warnings: vec![problem(format!("the event type {name} is not registered"))],
                schema_of: None,
            }),
            Strictness::Reject => Err(Error::invalid(problem(format!(
                "the event type {name} is not registered, and must be \
                 (limits.require_known_event_types): create it first"
            )))),
        };
    };
    let is_checked = !known.validate.is_off() && known.schemas.is_some();
    Ok(Announced {
        warnings: Vec::new(),
        schema_of: is_checked.then(|| known.clone()),
    })
}

/// A payload as it was published.
#[derive(Clone, Copy, Debug)]
pub struct Published<'a> {
    pub text: &'a str,
    /// It was published as a text, which need not be JSON.
    pub is_raw: bool,
}

/// The result of holding a payload against a schema.
#[derive(Debug)]
pub struct Verdict {
    strictness: Strictness,
    pub too_costly: bool,
    problems: Vec<Invalid>,
}

impl Verdict {
    pub fn fits(&self) -> bool {
        self.problems.is_empty()
    }

    /// The warnings for the publisher, or the refusal.
    pub fn into_result(self) -> Result<Vec<Invalid>> {
        match self.strictness == Strictness::Reject && !self.problems.is_empty() {
            true => Err(Error::Invalid(self.problems)),
            false => Ok(self.problems),
        }
    }
}

/// An event type with its newest schema, compiled.
#[derive(Debug)]
pub struct InUse {
    pub event_type: Arc<EventType>,
    /// The version of the schema and the schema, or why it cannot be used.
    schema: Result<(String, Compiled), String>,
}

impl InUse {
    /// Compiles the newest schema, which may take some milliseconds.
    pub fn of(event_type: &Arc<EventType>) -> InUse {
        let schema = match event_type.newest_schema() {
            None => Err("there is none".to_owned()),
            Some((version, schema)) => match Compiled::of(schema) {
                Ok(compiled) => Ok((version, compiled)),
                Err(problems) => Err(first_of(&version, &problems)),
            },
        };
        InUse {
            event_type: event_type.clone(),
            schema,
        }
    }

    /// Holds a payload against the schema, within the budget of its message.
    pub fn check(&self, payload: Published<'_>, budget: &mut Budget) -> Verdict {
        let before = budget.nanos_left();
        let mut left = before;
        let (problems, too_costly) = problems(self, payload, &mut left);
        budget.settle_nanos(before - left);
        Verdict {
            strictness: self.event_type.validate,
            too_costly,
            problems,
        }
    }
}

fn first_of(version: &str, problems: &[(Vec<String>, String)]) -> String {
    let first = problems.first();
    let (place, message) = first.map_or((String::new(), ""), |(place, message)| {
        (place.join("."), message.as_str())
    });
    format!("{version}.{place}: {message}")
}

/// Returns all that is wrong with a payload, and whether it is that it costs too much to know.
fn problems(entry: &InUse, payload: Published<'_>, budget: &mut u64) -> (Vec<Invalid>, bool) {
    let place: &[&str] = match payload.is_raw {
        true => &["body", "transformationsParams", "rawPayload"],
        false => &["body", "payload"],
    };
    let problem = |rest: &[String], message: String, kind: &'static str| Invalid {
        location: place
            .iter()
            .map(|part| (*part).to_owned())
            .chain(rest.iter().cloned())
            .collect(),
        message,
        kind: kind.into(),
    };
    let name = &entry.event_type.name;
    let (version, schema) = match &entry.schema {
        Ok(schema) => (&schema.0, &schema.1),
        Err(why) => {
            let message = format!(
                "cannot be checked: the schema of the event type {name} cannot be used: {why}"
            );
            return (vec![problem(&[], message, "schema")], false);
        }
    };
    let Ok(value) = serde_json::from_str::<Value>(payload.text) else {
        let message = match payload.is_raw {
            true => format!("is not JSON that can be read, and the event type {name} has a schema"),
            false => format!(
                "has a number too large to be checked against the schema of the event type {name}"
            ),
        };
        return (vec![problem(&[], message, "schema")], false);
    };
    match schema.fit(&value, budget) {
        Fit::Fits => (Vec::new(), false),
        Fit::Misfits(misfits) => {
            let misfits = misfits.into_iter();
            let problems = misfits.map(|misfit| problem(&misfit.place, misfit.message, "schema"));
            (problems.collect(), false)
        }
        Fit::TooCostly => {
            let message = format!(
                "could take too long to check against version {version} of the schema of the event type {name}: \
                 publish a smaller payload, or make the schema simpler"
            );
            (vec![problem(&[], message, "too_costly")], true)
        }
    }
}

/// Returns what keeps payloads from being checked against an event type's newest schema, with places within the
/// body of the event type. It takes some milliseconds.
pub fn schema_problems(event_type: &EventType) -> Vec<Invalid> {
    let Some((version, schema)) = event_type.newest_schema() else {
        return Vec::new();
    };
    let problems = Compiled::of(schema).err().unwrap_or_default();
    let place = ["body".to_owned(), "schemas".to_owned(), version];
    let problems = problems.into_iter().map(|(rest, message)| Invalid {
        location: place.iter().cloned().chain(rest).collect(),
        message,
        kind: "value_error".into(),
    });
    problems.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Change;
    use crate::rules::event_types::blank;
    use crate::rules::tests::{Example, NOW};

    fn event_type(validate: Strictness, schemas: &str) -> Arc<EventType> {
        Arc::new(EventType {
            schemas: Some(schemas.to_owned()),
            validate,
            ..blank(Example::ORGANISATION, "invoice.paid".to_owned(), NOW)
        })
    }

    fn found(event_type: &Arc<EventType>, text: &str, is_raw: bool) -> Vec<String> {
        let mut budget = Budget::of_publish();
        let verdict = InUse::of(event_type).check(Published { text, is_raw }, &mut budget);
        let problems = match verdict.into_result() {
            Ok(warnings) => warnings,
            Err(Error::Invalid(problems)) => problems,
            Err(other) => panic!("{other}"),
        };
        problems
            .iter()
            .map(|one| format!("{}: {}", one.location.join("."), one.message))
            .collect()
    }

    const SCHEMAS: &str = r#"{"9":{"required":["old"]},
        "10":{"type":"object","properties":{"amount":{"type":"number"}},"required":["amount"]}}"#;

    #[test]
    fn the_newest_schema_counts() {
        let reject = event_type(Strictness::Reject, SCHEMAS);
        assert_eq!(found(&reject, r#"{"amount":1}"#, false), [""; 0]);
        assert_eq!(
            found(&reject, "{}", false),
            ["body.payload.amount: is required"]
        );
        let expected = ["body.payload.amount: must be a number"];
        assert_eq!(found(&reject, r#"{"amount":"secret"}"#, false), expected);
        let expected = [
            "body.payload: has a number too large to be checked against the schema of the event type \
                         invoice.paid",
        ];
        assert_eq!(found(&reject, r#"{"amount":1e999}"#, false), expected);
    }

    #[test]
    fn a_raw_payload_is_checked_where_it_is_json() {
        let warn = event_type(Strictness::Warn, SCHEMAS);
        assert_eq!(found(&warn, r#" {"amount":1}"#, true), [""; 0]);
        let place = "body.transformationsParams.rawPayload";
        assert_eq!(
            found(&warn, "{}", true),
            [format!("{place}.amount: is required")]
        );
        assert_eq!(
            found(&warn, "<xml/>", true),
            [format!(
                "{place}: is not JSON that can be read, and the event type invoice.paid has a schema"
            )]
        );
    }

    #[test]
    fn a_schema_that_cannot_be_used_is_told_and_refuses_where_it_must() {
        let text = r##"{"1":{"properties":{"a":{"$ref":"https://example.com/a.json"}}}}"##;
        let reject = event_type(Strictness::Reject, text);
        let problems = schema_problems(&reject);
        let place: Vec<&str> = problems[0].location.iter().map(String::as_str).collect();
        assert_eq!(place, ["body", "schemas", "1", "properties", "a", "$ref"]);
        let told = found(&reject, "{}", false);
        assert!(
            told[0].contains("1.properties.a.$ref: refers to another document"),
            "{told:?}"
        );
    }

    #[test]
    fn unknown_types_are_accepted_warned_of_or_refused() {
        let mut example = Example::with([Change::PutEventType(blank(
            Example::ORGANISATION,
            "known".to_owned(),
            NOW,
        ))]);
        for (strictness, expected) in [
            (Strictness::Off, Some(0)),
            (Strictness::Warn, Some(1)),
            (Strictness::Reject, None),
        ] {
            example.settings.limits.require_known_event_types = strictness;
            let of = |name| {
                announced(
                    &example.catalog,
                    &example.settings,
                    Example::ORGANISATION,
                    name,
                )
            };
            assert_eq!(of("known").unwrap().warnings.len(), 0);
            assert_eq!(
                of("unknown").ok().map(|found| found.warnings.len()),
                expected
            );
        }
    }
}
