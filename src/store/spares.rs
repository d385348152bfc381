//! The thread that makes files ready for the journal's next segments.

use super::Inner;
use super::keeper::LOOK_EVERY;
use crate::journal::Zeroing;
use crate::watched;

/// Makes files for the journal's next segments ready, until the store is closed.
pub fn make_ready(inner: &Inner, mut zeroing: Zeroing) {
    while !*inner.closed.borrow() {
        match zeroing.step() {
            Ok(true) => {}
            Ok(false) => {
                inner.sleep(LOOK_EVERY / 4);
            }
            Err(error) => {
                log::warn!("no file was made ready for the journal: {error}");
                watched::note_error(error);
                inner.sleep(LOOK_EVERY * 10);
            }
        }
    }
}
