//! When a failed delivery is tried again.
//!
//! Pure: the random number that spreads retries comes in as an argument.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Waits longer than this are taken for a slip of the unit.
pub const WAIT_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// More retries than this are no schedule.
pub const RETRIES_MAX: u32 = 1000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetrySchedule {
    pub waits: Waits,
    /// Each wait is spread evenly over `wait × (1 ± jitter)`; 0 to 1.
    pub jitter: f64,
}

/// The waits after the first, second, … failed attempt; after the last one the delivery is given
/// up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Waits {
    Listed(Vec<Duration>),
    /// `first`, and each further one `factor` times the one before, up to `max`, for as long as
    /// the waits added up are at most `give_up_after`.
    Growing {
        first: Duration,
        factor: f64,
        max: Duration,
        give_up_after: Duration,
    },
}

/// A schedule as settings and API bodies spell it: either `delays_seconds`, or the others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryRule {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delays_seconds: Option<Vec<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_seconds: Option<u64>,
    /// 2 where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    /// An hour where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_delay_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub give_up_after_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<f64>,
}

const FACTOR_DEFAULT: f64 = 2.0;
const MAX_DELAY_SECONDS_DEFAULT: u64 = 3600;

impl RetryRule {
    /// The schedule, or every key that is wrong with the reason. `jitter` is what counts where the
    /// rule has none.
    pub fn schedule(&self, jitter: f64) -> Result<RetrySchedule, Vec<(&'static str, String)>> {
        let mut problems = Vec::new();
        let wait_max = WAIT_MAX.as_secs();
        let jitter = self.jitter.unwrap_or(jitter);
        if !(0.0..=1.0).contains(&jitter) {
            problems.push(("jitter", "must be 0 to 1".to_owned()));
        }
        let growing_keys = [
            ("first_seconds", self.first_seconds.is_some()),
            ("factor", self.factor.is_some()),
            ("max_delay_seconds", self.max_delay_seconds.is_some()),
            (
                "give_up_after_seconds",
                self.give_up_after_seconds.is_some(),
            ),
        ];
        let waits = if let Some(delays) = &self.delays_seconds {
            for (key, _) in growing_keys.into_iter().filter(|(_, given)| *given) {
                let message = "cannot stand beside delays_seconds, which lists every wait";
                problems.push((key, message.to_owned()));
            }
            let fits = delays.iter().all(|delay| (1..=wait_max).contains(delay));
            if delays.len() > 100 || !fits {
                let message = "must be at most 100 waits of 1 second to 366 days";
                problems.push(("delays_seconds", message.to_owned()));
            }
            Waits::Listed(delays.iter().copied().map(Duration::from_secs).collect())
        } else {
            let mut seconds = |key, given: Option<u64>, default: Option<u64>| {
                let value = given.or(default);
                match value {
                    Some(value) if (1..=wait_max).contains(&value) => Duration::from_secs(value),
                    Some(_) => {
                        problems.push((key, "must be 1 second to 366 days".to_owned()));
                        Duration::ZERO
                    }
                    None => {
                        let message = "is required where delays_seconds is not given";
                        problems.push((key, message.to_owned()));
                        Duration::ZERO
                    }
                }
            };
            let first = seconds("first_seconds", self.first_seconds, None);
            let max = seconds(
                "max_delay_seconds",
                self.max_delay_seconds,
                Some(MAX_DELAY_SECONDS_DEFAULT.max(first.as_secs())),
            );
            let give_up_after = seconds("give_up_after_seconds", self.give_up_after_seconds, None);
            let factor = self.factor.unwrap_or(FACTOR_DEFAULT);
            if !(1.0..=100.0).contains(&factor) {
                problems.push(("factor", "must be 1 to 100".to_owned()));
            }
            if max < first {
                let message = "must not be shorter than first_seconds".to_owned();
                problems.push(("max_delay_seconds", message));
            }
            Waits::Growing {
                first,
                factor,
                max,
                give_up_after,
            }
        };
        let schedule = RetrySchedule { waits, jitter };
        if problems.is_empty() && schedule.retries() > RETRIES_MAX {
            let message = format!("allows more than {RETRIES_MAX} retries before it");
            problems.push(("give_up_after_seconds", message));
        }
        match problems.is_empty() {
            true => Ok(schedule),
            false => Err(problems),
        }
    }
}

impl RetrySchedule {
    /// How long to wait after `attempts` failed attempts; `None` when the schedule has ended.
    /// `random` lies in 0 to 1.
    pub fn delay_after(&self, attempts: u32, random: f64) -> Option<Duration> {
        let wait = self.wait(attempts.checked_sub(1)?)?;
        Some(wait.mul_f64((1.0 + self.jitter * (2.0 * random - 1.0)).max(0.0)))
    }

    /// How many retries there are at most; one more than [`RETRIES_MAX`] for any that are more.
    pub fn retries(&self) -> u32 {
        match &self.waits {
            Waits::Listed(waits) => waits.len() as u32,
            Waits::Growing { .. } => (0..=RETRIES_MAX)
                .find(|index| self.wait(*index).is_none())
                .unwrap_or(RETRIES_MAX + 1),
        }
    }

    /// By the number of attempts so far, how long after its next attempt the last one of a delivery is due, without
    /// jitter: the waits that are left, added up. After more attempts than are listed the next one is the last.
    pub fn lengths_after(&self) -> Vec<Duration> {
        let waits = (0..=RETRIES_MAX).map_while(|index| self.wait(index));
        let mut lengths = Vec::from_iter(waits);
        let mut left = Duration::ZERO;
        for length in lengths.iter_mut().rev() {
            left += *length;
            *length = left;
        }
        lengths
    }

    /// All waits added up, without jitter.
    pub fn length(&self) -> Duration {
        (0..=RETRIES_MAX).map_while(|index| self.wait(index)).sum()
    }

    /// The wait before the retry with this index, without jitter.
    fn wait(&self, index: u32) -> Option<Duration> {
        match &self.waits {
            Waits::Listed(waits) => waits.get(usize::try_from(index).ok()?).copied(),
            Waits::Growing {
                first,
                factor,
                max,
                give_up_after,
            } => {
                if index > RETRIES_MAX {
                    return None;
                }
                let mut wait = *first;
                let mut sum = wait;
                for _ in 0..index {
                    // Beyond what a Duration holds is beyond every cap.
                    wait = Duration::try_from_secs_f64(wait.as_secs_f64() * factor)
                        .map_or(*max, |longer| longer.min(*max));
                    sum = sum.saturating_add(wait);
                    if sum > *give_up_after {
                        break;
                    }
                }
                (sum <= *give_up_after).then_some(wait)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(rule: RetryRule) -> RetrySchedule {
        rule.schedule(0.2)
            .unwrap_or_else(|error| panic!("{error:?}"))
    }

    fn okhi() -> RetryRule {
        RetryRule {
            first_seconds: Some(5),
            factor: Some(2.0),
            max_delay_seconds: Some(60),
            give_up_after_seconds: Some(300),
            jitter: Some(0.0),
            ..RetryRule::default()
        }
    }

    #[test]
    fn each_failure_waits_for_its_delay_and_the_last_gives_up() {
        let schedule = schedule(RetryRule {
            delays_seconds: Some(vec![10, 100]),
            ..RetryRule::default()
        });
        for (attempts, random, expected) in [
            (1, 0.5, Some(10.0)),
            (1, 0.0, Some(8.0)),
            (1, 1.0, Some(12.0)),
            (2, 0.5, Some(100.0)),
            (3, 0.5, None),
            (0, 0.5, None),
        ] {
            let delay = schedule
                .delay_after(attempts, random)
                .map(|delay| delay.as_secs_f64());
            assert_eq!(delay, expected, "after {attempts} attempts");
        }
    }

    #[test]
    fn growing_waits_are_capped_and_end_at_the_age() {
        let schedule = schedule(okhi());
        let waits: Vec<u64> = (1..)
            .map_while(|attempts| schedule.delay_after(attempts, 0.5))
            .map(|wait| wait.as_secs())
            .collect();
        assert_eq!(
            waits,
            [5, 10, 20, 40, 60, 60, 60],
            "255 s; 315 would be too late"
        );
        assert_eq!(schedule.retries(), 7);
        assert_eq!(schedule.length(), Duration::from_secs(255));
    }

    #[test]
    fn no_factor_overflows() {
        let schedule = schedule(RetryRule {
            first_seconds: Some(1),
            factor: Some(100.0),
            max_delay_seconds: Some(WAIT_MAX.as_secs()),
            give_up_after_seconds: Some(WAIT_MAX.as_secs()),
            ..RetryRule::default()
        });
        assert_eq!(
            schedule.delay_after(4, 0.5),
            Some(Duration::from_secs(1_000_000))
        );
        assert_eq!(schedule.delay_after(1000, 0.5), None);
    }

    #[test]
    fn what_is_wrong_with_a_rule_is_named() {
        type Change = fn(&mut RetryRule);
        let cases: [(Change, &[&str]); 9] = [
            (|_| {}, &[]),
            (
                |rule| rule.delays_seconds = Some(vec![1]),
                &[
                    "first_seconds",
                    "factor",
                    "max_delay_seconds",
                    "give_up_after_seconds",
                ],
            ),
            (
                |rule| *rule = RetryRule::default(),
                &["first_seconds", "give_up_after_seconds"],
            ),
            (|rule| rule.first_seconds = Some(0), &["first_seconds"]),
            (|rule| rule.factor = Some(f64::NAN), &["factor"]),
            (|rule| rule.factor = Some(0.5), &["factor"]),
            (
                |rule| rule.max_delay_seconds = Some(4),
                &["max_delay_seconds"],
            ),
            (|rule| rule.jitter = Some(1.5), &["jitter"]),
            (
                |rule| rule.give_up_after_seconds = Some(100_000),
                &["give_up_after_seconds"],
            ),
        ];
        for (change, expected) in cases {
            let mut rule = okhi();
            change(&mut rule);
            let keys: Vec<&str> = match rule.schedule(0.2) {
                Ok(_) => Vec::new(),
                Err(problems) => problems.into_iter().map(|(key, _)| key).collect(),
            };
            assert_eq!(keys, expected, "{rule:?}");
        }
    }
}
