//! How the requests of one endpoint differ from what its profile makes.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::profile::Method;
use crate::clock::Timestamp;

/// Templates as in profiles; what is absent stays as the profile has it.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Transformation {
    pub body: Option<String>,
    /// In addition to the profile's.
    pub headers: BTreeMap<String, String>,
    pub method: Option<Method>,
    pub content_type: Option<String>,
}

/// A transformation as it was saved once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransformationVersion {
    /// 1 for the endpoint's first.
    pub number: u32,
    pub saved_at: Timestamp,
    /// Absent where it was removed.
    pub transformation: Option<Transformation>,
}

/// Prints no template: a header's may be a secret.
impl fmt::Debug for Transformation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transformation(…)")
    }
}
