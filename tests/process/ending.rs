//! The end of something that several threads do until it is said.

use std::sync::{Condvar, Mutex};
use std::time::Duration;

#[derive(Default)]
pub struct Ending {
    has_come: Mutex<bool>,
    comes: Condvar,
}

impl Ending {
    /// To be said just before the server goes: from now on a request may fail.
    pub fn comes(&self) {
        *self.has_come.lock().expect("no holder of it panics") = true;
        self.comes.notify_all();
    }

    pub fn has_come(&self) -> bool {
        self.comes_within(Duration::ZERO)
    }

    /// Whether it has come once this time has passed.
    pub fn comes_within(&self, time: Duration) -> bool {
        let has_come = self.has_come.lock().expect("no holder of it panics");
        let waited = self
            .comes
            .wait_timeout_while(has_come, time, |has_come| !*has_come);
        *waited.expect("no holder of it panics").0
    }
}
