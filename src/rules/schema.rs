//! JSON schemas of event types, compiled, and payloads held against them.
//!
//! Pure. A crate evaluates (`jsonschema`); what is here makes that safe for a server where nobody pays for
//! another's schema. A schema is refused where its price has no bound (`graph`). A payload's price is told before
//! it is held against the schema (`price`), and one beyond the budget is not evaluated. Nothing is ever fetched,
//! patterns are matched in linear time, and `format` is an annotation, as the specification has it.

mod graph;
mod price;
mod words;

use std::fmt;

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use graph::{Graph, Problem};
use price::{Purpose, price};
pub use words::Misfit;

/// The longest schema that payloads are held against, in bytes.
pub const SCHEMA_BYTES_MAX: usize = 64 * 1024;

/// The most places of one payload that are told.
pub const MISFITS_MAX: usize = 20;

/// One schema on one value, without its keywords.
const NANOS_PER_VISIT: u64 = 120;

/// A compiled pattern, and what its matcher may remember, in bytes.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Compiling is as deep as the longest chain of references, so it has a stack of its own.
const STACK_BYTES: usize = 256 << 20;

/// A schema that payloads can be held against.
pub struct Compiled {
    validator: Validator,
    graph: Graph,
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compiled").finish_non_exhaustive()
    }
}

/// What became of a payload that was held against a schema.
#[derive(Debug, PartialEq, Eq)]
pub enum Fit {
    Fits,
    /// The places where it does not fit, [`MISFITS_MAX`] at most.
    Misfits(Vec<Misfit>),
    /// Evaluating it could cost more than the budget.
    TooCostly,
}

impl Compiled {
    /// Compiles the JSON text of a schema, or returns all that is in the way of it, with places within the schema.
    /// It may take some milliseconds, and makes a thread of its own meanwhile.
    pub fn of(schema: &str) -> Result<Compiled, Vec<Problem>> {
        let at_all = |message: String| vec![(Vec::new(), message)];
        if schema.len() > SCHEMA_BYTES_MAX {
            return Err(at_all(format!(
                "must have at most {SCHEMA_BYTES_MAX} bytes to be checked against"
            )));
        }
        let mut schema: Value =
            serde_json::from_str(schema).map_err(|error| at_all(error.to_string()))?;
        if let Some(keywords) = schema.as_object_mut() {
            // All references are within the schema, so its own name has no use, and could mislead them.
            keywords.remove("$id");
            keywords.remove("id");
        }
        let graph = Graph::of(&schema)?;
        let compiling = std::thread::Builder::new()
            .name("schema".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || validator(&schema));
        let compiled = match compiling.map(std::thread::JoinHandle::join) {
            Ok(Ok(compiled)) => compiled,
            Ok(Err(_panic)) => Err(at_all("cannot be compiled".to_owned())),
            Err(_no_thread) => Err(at_all(
                "cannot be compiled for want of a thread: try again".to_owned(),
            )),
        };
        compiled.map(|validator| Compiled { validator, graph })
    }

    /// Holds a payload against the schema, and takes what that may cost from the budget, in nanoseconds.
    pub fn fit(&self, payload: &Value, budget: &mut u64) -> Fit {
        match price(&self.graph, payload, Purpose::Fits, *budget) {
            Ok(spent) => *budget -= spent,
            Err(_) => return Fit::TooCostly,
        }
        if self.validator.is_valid(payload) {
            return Fit::Fits;
        }
        match price(&self.graph, payload, Purpose::Places, *budget) {
            Ok(spent) => *budget -= spent,
            Err(_) => {
                *budget = 0;
                let message = "does not fit, and is too large for its schema to say where";
                return Fit::Misfits(vec![Misfit {
                    place: Vec::new(),
                    message: message.to_owned(),
                }]);
            }
        }
        let misfits = self
            .validator
            .iter_errors(payload)
            .flat_map(|error| words::misfits(&error));
        Fit::Misfits(misfits.take(MISFITS_MAX).collect())
    }
}

fn validator(schema: &Value) -> Result<Validator, Vec<Problem>> {
    let patterns = PatternOptions::regex()
        .size_limit(PATTERN_BYTES_MAX)
        .dfa_size_limit(PATTERN_BYTES_MAX);
    let options = jsonschema::options()
        .offline()
        .should_validate_formats(false)
        .with_pattern_options(patterns);
    options.build(schema).map_err(|error| {
        let misfits = words::misfits(&error).into_iter();
        misfits
            .map(|misfit| (misfit.place, misfit.message))
            .collect()
    })
}

#[cfg(test)]
mod tests;
