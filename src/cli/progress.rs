//! How far a command has come that takes long: a line on standard error now and then.

use std::time::{Duration, Instant};

use super::complain;
use crate::store::VerifyProgress;

/// Often enough to see that something happens, and no more than a log can take.
const EVERY: Duration = Duration::from_secs(3);

/// Whoever runs the command is shown lines, on a terminal and in a log alike.
pub struct Lines {
    began: Instant,
    pace: Pace,
}

/// When the next line is due.
struct Pace {
    every: Duration,
    last: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            every: EVERY,
            last: Duration::ZERO,
        }
    }
}

impl Lines {
    pub fn new() -> Lines {
        Lines {
            began: Instant::now(),
            pace: Pace::default(),
        }
    }

    pub fn every(every: Duration) -> Lines {
        Lines {
            pace: Pace {
                every,
                ..Pace::default()
            },
            ..Lines::new()
        }
    }

    pub fn show(&mut self, progress: &VerifyProgress) {
        self.show_line(|| line(progress));
    }

    pub fn show_line(&mut self, line: impl FnOnce() -> String) {
        if self.pace.is_due(self.began.elapsed()) {
            complain(&line());
        }
    }
}

impl Pace {
    /// So long after the beginning. A command that ends before the first line shows none.
    fn is_due(&mut self, now: Duration) -> bool {
        let is_due = now >= self.last + self.every;
        if is_due {
            self.last = now;
        }
        is_due
    }
}

fn line(progress: &VerifyProgress) -> String {
    let mebibytes = |bytes: u64| bytes >> 20;
    let VerifyProgress {
        reading,
        bytes,
        bytes_in_all,
    } = progress;
    format!(
        "reading {reading}: {} of {} MiB of history",
        mebibytes(*bytes),
        mebibytes(*bytes_in_all)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_every_few_seconds_at_most() {
        let mut pace = Pace::default();
        let due = [0, 1, 2_999, 3_000, 3_001, 5_999, 9_000, 11_999, 12_000];
        let due = due.map(|ms| pace.is_due(Duration::from_millis(ms)));
        assert_eq!(
            due,
            [false, false, false, true, false, false, true, false, true]
        );
    }

    #[test]
    fn a_line_says_which_of_what_and_how_much() {
        let progress = VerifyProgress {
            reading: "slice 3 of 12".to_owned(),
            bytes: 70 << 20,
            bytes_in_all: 4 << 30,
        };
        assert_eq!(
            line(&progress),
            "reading slice 3 of 12: 70 of 4096 MiB of history"
        );
    }
}
