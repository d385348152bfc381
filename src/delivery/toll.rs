//! What a customer's template may cost beyond its steps: bytes that are read, copied and written for it.
//!
//! minijinja counts steps and the bytes of its own values. It cannot know what an object of ours costs,
//! such as a payload that is parsed at its first look. These objects pay here, per thread, while a
//! [`Toll::within`] lasts; outside of one everything is free. Once the toll is used up, all further
//! payments fail, and the rendering with them, whatever it made of what it got.

use std::cell::Cell;

thread_local! {
    static LEFT: Cell<Option<u64>> = const { Cell::new(None) };
}

/// The budget of one rendering.
pub struct Toll;

impl Toll {
    /// Runs this with a budget of so many bytes; nothing where it was not enough.
    pub fn within<T>(bytes: u64, run: impl FnOnce() -> T) -> Option<T> {
        /// Ends the budget however the run ends.
        struct End;
        impl Drop for End {
            fn drop(&mut self) {
                LEFT.set(None);
            }
        }
        let _end = End;
        LEFT.set(Some(bytes));
        let ran = run();
        (LEFT.get() != Some(0)).then_some(ran)
    }

    /// Whether there is a budget now.
    pub fn is_due() -> bool {
        LEFT.get().is_some()
    }

    /// Pays for the work on so many bytes. False where the budget does not have them, and from then on.
    pub fn pay(bytes: usize) -> bool {
        let Some(left) = LEFT.get() else {
            return true;
        };
        let left = left.saturating_sub(bytes as u64);
        LEFT.set(Some(left));
        left > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_that_is_used_up_stays_so_and_ends_with_its_run() {
        assert!(Toll::pay(usize::MAX));
        assert_eq!(Toll::within(10, || Toll::pay(9)), Some(true));
        let both = || (Toll::pay(10), Toll::pay(0));
        let mut seen = None;
        assert_eq!(Toll::within(10, || seen = Some(both())), None);
        assert_eq!(seen, Some((false, false)));
        assert!(Toll::pay(usize::MAX));
    }
}
