//! Which messages an endpoint wants, by what they are and by what is in them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A filter, as its owner wrote it.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Filter {
    source: Box<str>,
}

impl Filter {
    /// Returns the filter in this JSON text, or what is wrong with it.
    pub fn parse(source: &str) -> Result<Filter, String> {
        match serde_json::from_str(source) {
            Ok(serde_json::Value::Object(_)) => Ok(Filter {
                source: source.into(),
            }),
            _ => Err("must be a JSON object".to_owned()),
        }
    }

    /// The JSON text.
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// Prints nothing of it: a customer's values stand in it.
impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filter(…)")
    }
}
