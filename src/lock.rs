//! Locks without poisoning. A leaf.

use std::sync::{LockResult, PoisonError};

/// The guard of a lock, also after a thread panicked while it held the lock.
///
/// Poisoning would protect nobody. If the thread is one that the process needs, the process ends at
/// once, and until then everybody who waits must be answered (see `watched`). If the panic was
/// contained, a poisoned lock would hand it on to every later request while health says that all is
/// well. The rule in its place: between two changes that belong together, nothing that holds a lock
/// runs code that can panic.
pub fn locked<T>(result: LockResult<T>) -> T {
    result.unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn a_panic_under_a_lock_locks_nobody_out() {
        let lock = Mutex::new(1);
        let panicking = std::panic::AssertUnwindSafe(|| {
            let _guard = lock.lock();
            panic!("on purpose");
        });
        assert!(std::panic::catch_unwind(panicking).is_err());
        assert!(lock.is_poisoned());
        assert_eq!(*locked(lock.lock()), 1);
    }
}
