//! When mails are sent: how long messages are gathered, and how long is waited after trouble. Pure.

use std::time::Duration;

use crate::clock::Timestamp;

/// The time from the first message that waits to the round of mails that has it, so that endpoints that fail
/// together are in one mail. There is at most one round in this time.
pub const GATHER: Duration = Duration::from_secs(60);

/// The waits after trouble: each is twice the one before.
const WAIT_MIN: Duration = Duration::from_secs(10);
const WAIT_MAX: Duration = Duration::from_secs(600);

/// The time of the next round.
#[derive(Debug, Default)]
pub struct Pace {
    next_at: Option<Timestamp>,
    wait: Duration,
}

impl Pace {
    /// When the next round begins, where messages wait at `now`.
    pub fn begins_at(&mut self, now: Timestamp) -> Timestamp {
        // A clock that was set back holds nothing up for longer than a wait.
        let at = self.next_at.unwrap_or(now + GATHER).min(now + WAIT_MAX);
        self.next_at = Some(at);
        at
    }

    /// A round has ended well; `is_more` where messages are left for the next one.
    pub fn ended(&mut self, now: Timestamp, is_more: bool) {
        self.wait = Duration::ZERO;
        self.next_at = is_more.then_some(now + GATHER);
    }

    /// A round has failed.
    pub fn failed(&mut self, now: Timestamp) {
        self.wait = (self.wait * 2).clamp(WAIT_MIN, WAIT_MAX);
        self.next_at = Some(now + self.wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(1_700_000_000 + seconds)
    }

    #[test]
    fn messages_are_gathered_for_a_minute() {
        let mut pace = Pace::default();
        assert_eq!(pace.begins_at(at(0)), at(60));
        assert_eq!(
            pace.begins_at(at(50)),
            at(60),
            "more messages change nothing"
        );
        pace.ended(at(60), false);
        assert_eq!(pace.begins_at(at(61)), at(121));
        pace.ended(at(121), true);
        assert_eq!(pace.begins_at(at(130)), at(181));
    }

    #[test]
    fn waits_after_trouble_grow_to_ten_minutes_and_begin_anew_after_a_success() {
        let mut pace = Pace::default();
        let mut now = at(0);
        for seconds in [10, 20, 40, 80, 160, 320, 600, 600] {
            pace.failed(now);
            assert_eq!(pace.begins_at(now), now + Duration::from_secs(seconds));
            now = pace.begins_at(now);
        }
        pace.ended(now, false);
        pace.failed(now);
        assert_eq!(pace.begins_at(now), now + Duration::from_secs(10));
    }

    #[test]
    fn a_clock_that_was_set_back_holds_nothing_up() {
        let mut pace = Pace::default();
        pace.begins_at(at(1_000_000));
        assert_eq!(pace.begins_at(at(0)), at(600));
        assert_eq!(pace.begins_at(at(300)), at(600));
    }
}
