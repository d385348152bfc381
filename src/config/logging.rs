//! `[log]`: the level, and how often failures are logged.

use serde::{Deserialize, Serialize};

use super::setting::{ANY_U32, Setting, setting, text, whole};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogSection {
    /// As RUST_LOG: "info", "info,postrider::delivery=debug".
    pub level: String,
    /// Lines about failed attempts per endpoint and minute; the rest is counted in one line.
    pub failures_per_endpoint_minute_max: u32,
}

pub(super) const SETTINGS: &[Setting] = &[
    setting(
        "level",
        text(
            |level| level.split(',').all(is_log_directive),
            "must be error, warn, info, debug, trace or off, with 'target=level' for parts",
        ),
    ),
    setting("failures_per_endpoint_minute_max", whole(0..=ANY_U32)),
];

/// Whether a text is a level, or `target=level`. A target alone would be taken too, and a slip of the
/// level's name is a target that logs nothing, so it is refused here.
fn is_log_directive(text: &str) -> bool {
    let level = text.rsplit_once('=').map_or(text, |(_, level)| level);
    level.trim().parse::<log::LevelFilter>().is_ok()
}
