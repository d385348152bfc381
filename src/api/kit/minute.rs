//! Minutes for counting: each begins with the first event that it counts.

use std::time::Duration;

use crate::clock::Timestamp;

pub const MINUTE: Duration = Duration::from_secs(60);

/// Whether the minute that began then is over. A clock that was set back begins a new one.
pub fn is_over(since: Timestamp, now: Timestamp) -> bool {
    now.since(since) >= MINUTE || now < since
}

/// Seconds until the minute that began then is over, for `Retry-After`.
pub fn seconds_left(since: Timestamp, now: Timestamp) -> u32 {
    whole_seconds((since + MINUTE).since(now))
}

/// Rounds up to whole seconds, at least one.
pub fn whole_seconds(time: Duration) -> u32 {
    let seconds = time.as_millis().div_ceil(1000).max(1);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}
