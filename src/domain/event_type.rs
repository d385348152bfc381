//! What can happen: `invoice.paid`.

use serde::{Deserialize, Serialize};

use super::id::OrganisationId;
use crate::clock::Timestamp;

/// The longest name of an event type, and of what looks like one.
pub const NAME_MAX: usize = 256;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventType {
    pub organisation: OrganisationId,
    pub name: String,
    pub description: String,
    /// An archived event type takes no new messages and no new filters.
    pub archived: bool,
    pub deprecated: bool,
    pub feature_flag: Option<String>,
    /// JSON text of the object that maps a version to a JSON schema.
    pub schemas: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// JSON text of a payload as it would be published: what tests send.
    #[serde(default)]
    pub example: Option<String>,
    /// The channels that messages of this type come in, such as kinds of entities, for forms to
    /// offer. Nothing is refused by it.
    #[serde(default)]
    pub channels: Option<Vec<String>>,
}

/// The rule for names of event types and channels: 1 to `max` of `a-z A-Z 0-9 - _ .`.
pub fn name_problem(text: &str, max: usize) -> Option<String> {
    if text.is_empty() || text.len() > max {
        return Some(format!("must have 1 to {max} characters"));
    }
    if !text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    {
        return Some("may contain only letters, digits, '-', '_' and '.'".to_owned());
    }
    None
}
