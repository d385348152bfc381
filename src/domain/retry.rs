//! When a failed delivery is tried again.
//!
//! Pure: the random number that spreads retries comes in as an argument.

use std::time::Duration;

/// The delays after the first, second, … failed attempt; after the last one the delivery is given
/// up.
#[derive(Clone, Debug, PartialEq)]
pub struct RetrySchedule {
    pub delays: Vec<Duration>,
    /// Each delay is spread evenly over `delay × (1 ± jitter)`; 0 to 1.
    pub jitter: f64,
}

impl RetrySchedule {
    /// How long to wait after `attempts` failed attempts; `None` when the schedule has ended.
    /// `random` lies in 0 to 1.
    pub fn delay_after(&self, attempts: u32, random: f64) -> Option<Duration> {
        let index = usize::try_from(attempts.checked_sub(1)?).ok()?;
        let delay = *self.delays.get(index)?;
        Some(delay.mul_f64((1.0 + self.jitter * (2.0 * random - 1.0)).max(0.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_waits_for_its_delay_and_the_last_gives_up() {
        let schedule = RetrySchedule {
            delays: vec![Duration::from_secs(10), Duration::from_secs(100)],
            jitter: 0.2,
        };
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
}
