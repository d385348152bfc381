//! `[console]`: the pages for those who operate the server.

use serde::{Deserialize, Serialize};

use super::setting::{Rule, Setting, setting, texts};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConsoleSection {
    /// The origins whose pages may show it in a frame.
    pub frame_origins: Vec<String>,
}

pub(super) const SETTINGS: &[Setting] = &[setting("frame_origins", frame_origins())];

/// Origins alone: `*` would let any page lure the clicks of those who are signed in.
pub(super) const fn frame_origins() -> Rule {
    texts(
        super::server::is_origin,
        "must be origins such as 'https://example.com', without a slash at the end",
    )
}
