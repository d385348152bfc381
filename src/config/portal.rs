//! `[portal]` and `[portal.labels]`: the pages for the platform's customers.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::console::frame_origins;
use super::setting::{Rule, Setting, any_text, is_label, optional, setting, text, texts, whole};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PortalSection {
    /// The name at the top of each page.
    pub name: String,
    /// A picture beside it.
    pub logo_file: Option<PathBuf>,
    /// `#rrggbb`.
    pub accent_color: String,
    /// The origins whose pages may show it in a frame.
    pub frame_origins: Vec<String>,
    /// The profiles that customers choose from; the default one where empty.
    pub profiles: Vec<String>,
    /// The longest life of an API key that is made through a link; none where 0.
    pub api_key_days_max: u32,
    /// Words on the pages in place of ours.
    pub labels: Labels,
}

pub(super) const SETTINGS: &[Setting] = &[
    setting("name", label()),
    // Read where the pages are made, which tells what is wrong with it.
    optional("logo_file", any_text()),
    setting(
        "accent_color",
        text(is_color, "must be a colour such as '#3949c6'"),
    ),
    setting("frame_origins", frame_origins()),
    setting("profiles", texts(|_| true, "")),
    setting("api_key_days_max", whole(0..=36_500)),
];

/// The words for things that other systems call differently.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Labels {
    /// The place in the menu that leads to webhooks.
    pub menu: String,
    /// The button that adds a webhook.
    pub add_webhook: String,
    /// The field for the URL.
    pub url: String,
    /// The field for the secret.
    pub secret: String,
    /// The switch for all events.
    pub all_events: String,
    /// The switch for all entities.
    pub all_entities: String,
}

pub(super) const LABELS: &[Setting] = &[
    setting("menu", label()),
    setting("add_webhook", label()),
    setting("url", label()),
    setting("secret", label()),
    setting("all_events", label()),
    setting("all_entities", label()),
];

const fn label() -> Rule {
    text(is_label, "must have 1 to 60 characters, on one line")
}

/// Whether a text is `#rrggbb`.
fn is_color(text: &str) -> bool {
    let digits = text.strip_prefix('#');
    digits.is_some_and(|digits| {
        digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}
