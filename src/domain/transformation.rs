//! How the requests of one endpoint differ from what its profile makes.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::profile::Method;
use crate::clock::Timestamp;

/// The bytes of one in all: its templates, the names of its headers and its media type.
pub const TRANSFORMATION_BYTES_MAX: usize = 8192;

pub const TRANSFORMATION_HEADERS_MAX: usize = 20;

/// The versions of an endpoint that are kept to go back to, beside the one in effect.
pub const EARLIER_VERSIONS_MAX: usize = 5;

/// Methods with a body, which a transformation may choose.
pub const TRANSFORMATION_METHODS: [Method; 3] = [Method::Post, Method::Put, Method::Patch];

/// Templates as in profiles; what is absent stays as the profile has it.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Transformation {
    pub body: Option<String>,
    /// In addition to the profile's.
    pub headers: BTreeMap<String, String>,
    pub method: Option<Method>,
    pub content_type: Option<String>,
}

impl Transformation {
    /// Its size, by which it is limited.
    pub fn bytes(&self) -> usize {
        let headers = self.headers.iter();
        let headers: usize = headers.map(|(name, value)| name.len() + value.len()).sum();
        let texts = [&self.body, &self.content_type];
        headers + texts.into_iter().flatten().map(String::len).sum::<usize>()
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Transformation::default()
    }
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

/// Why a transformation makes no request, of any message or of this one. It has no value of a payload in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransformationFault {
    /// `body`, or `headers.` and a name; absent where the fault is not the transformation's.
    pub key: Option<String>,
    /// Of the template, where the fault has a line.
    pub line: Option<usize>,
    /// A sentence without its end.
    pub message: String,
}

/// Prints no template: a header's may be a secret.
impl fmt::Debug for Transformation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transformation(…)")
    }
}
