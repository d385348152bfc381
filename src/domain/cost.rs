//! The cost of what customers enter and the server computes: filters and schemas.
//!
//! Cost is counted in steps, not measured by a clock: the same message and the same filters have the
//! same result on every machine, however busy it is. Each loop over what a customer wrote spends
//! steps for the work that it does, before it does it. Pure.

/// A step is work of at most 5 ns in a release build on the slowest processor that the figures of
/// docs/benchmarks.md were made on. So these are 5 ms.
const PUBLISH_STEPS: u64 = 1_000_000;
const NANOS_PER_STEP: u64 = 5;

/// The part of it that a thread spends which other requests wait for: 0.5 ms.
const AT_ONCE_STEPS: u64 = 100_000;

/// What the writer spends on one command at most: 0.5 ms. All customers wait for it.
const COMMIT_STEPS: u64 = 100_000;

/// For all messages of one batch: 100 ms.
const BATCH_STEPS: u64 = 20_000_000;

/// Steps that may be spent.
#[derive(Debug)]
pub struct Budget {
    whole: u64,
    left: u64,
}

/// The budget does not reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooCostly;

impl Budget {
    pub fn of_steps(steps: u64) -> Budget {
        Budget {
            whole: steps,
            left: steps,
        }
    }

    /// For one message, on a thread that nobody else waits for.
    pub fn of_publish() -> Budget {
        Budget::of_steps(PUBLISH_STEPS)
    }

    /// For one command of the writer.
    pub fn of_commit() -> Budget {
        Budget::of_steps(COMMIT_STEPS)
    }

    /// For all messages of a batch; each has a [`part`](Budget::part) of it.
    pub fn of_batch() -> Budget {
        Budget::of_steps(BATCH_STEPS)
    }

    /// A budget for one of several messages: that of a publish, or what is left of this one.
    pub fn part(&self) -> Budget {
        Budget::of_steps(self.left.min(PUBLISH_STEPS))
    }

    /// Takes what a part has spent.
    pub fn settle(&mut self, part: &Budget) {
        self.left = self.left.saturating_sub(part.spent());
    }

    /// Spends steps. An error where so many are not left; then none is.
    #[inline]
    pub fn spend(&mut self, steps: usize) -> Result<(), TooCostly> {
        match self.left.checked_sub(steps as u64) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(TooCostly)
            }
        }
    }

    pub fn left(&self) -> u64 {
        self.left
    }

    /// The part of it that a thread spends which other requests wait for.
    pub fn part_at_once(&self) -> Budget {
        Budget::of_steps(self.left.min(AT_ONCE_STEPS))
    }

    /// The time that the steps take which are left, in nanoseconds.
    pub fn nanos_left(&self) -> u64 {
        self.left * NANOS_PER_STEP
    }

    /// Takes the steps that this time stands for.
    pub fn settle_nanos(&mut self, nanos: u64) {
        self.left = self.left.saturating_sub(nanos.div_ceil(NANOS_PER_STEP));
    }

    pub fn spent(&self) -> u64 {
        self.whole - self.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_ends_and_a_part_of_it_is_no_more_than_what_is_left() {
        let mut budget = Budget::of_steps(10);
        assert_eq!(budget.spend(4), Ok(()));
        let mut part = budget.part();
        assert_eq!((part.spend(5), budget.spent()), (Ok(()), 4));
        budget.settle(&part);
        assert_eq!(budget.spent(), 9);
        assert_eq!(budget.spend(2), Err(TooCostly));
        assert_eq!((budget.spent(), budget.spend(1)), (10, Err(TooCostly)));
        assert_eq!(Budget::of_batch().part().spend(1_000_001), Err(TooCostly));
    }
}
