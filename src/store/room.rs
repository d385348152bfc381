//! Room on the disk, without which nothing is written.
//!
//! Publishing stops while less than `store.min_free_bytes` is free; this is about the little that is left
//! then. sled cannot go on after a write for which there was no space, so nothing may be written to it, nor
//! committed, while less is free than it may need within moments. See `committer::room` for the wait.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Inner, unavailable};
use crate::error::Error;
use crate::lock::locked;

/// Nothing is written while less than this is free: as much as a checkpoint may write in one go. A smaller
/// `store.min_free_bytes` makes it an eighth of that.
const FREE_BYTES_MIN: u64 = 64 << 20;

/// Whether there is room.
#[derive(Default)]
pub struct Room {
    /// Too little was free when it was last looked at.
    is_short: AtomicBool,
    /// The committer waits for room; the reason is in `lack`.
    is_waited_for: AtomicBool,
    lack: Mutex<String>,
    #[cfg(test)]
    pub pretended_free_bytes: Mutex<Option<u64>>,
}

impl Room {
    pub fn is_short(&self) -> bool {
        self.is_short.load(Ordering::Relaxed)
    }

    /// The committer waits for room.
    pub fn wait_begins(&self, lack: &str) {
        *locked(self.lack.lock()) = lack.to_owned();
        self.is_waited_for.store(true, Ordering::Release);
    }

    pub fn wait_ended(&self) {
        self.is_waited_for.store(false, Ordering::Release);
    }

    /// Why the committer waits, while it does.
    pub fn lack(&self) -> Option<String> {
        let waits = self.is_waited_for.load(Ordering::Acquire);
        waits.then(|| locked(self.lack.lock()).clone())
    }
}

/// The answer to a request that would have to be written.
pub fn refusal(lack: &str) -> Error {
    unavailable(&format!("nothing can be written to the disk: {lack}"))
}

impl Inner {
    pub(super) fn free_bytes_min(&self) -> u64 {
        FREE_BYTES_MIN.min(self.settings.min_free_bytes / 8)
    }

    /// Bytes that are free on the disk.
    pub(super) fn look_at_free_bytes(&self) -> rustix::io::Result<u64> {
        let space = rustix::fs::statvfs(&self.settings.path)?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        #[cfg(test)]
        let free = locked(self.room.pretended_free_bytes.lock()).unwrap_or(free);
        let is_short = free < self.free_bytes_min();
        self.room.is_short.store(is_short, Ordering::Relaxed);
        Ok(free)
    }
}
