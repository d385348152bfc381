//! The mark of a store that was handed over to another machine, which goes on with all that waits in it. No server
//! starts on it: both would send everything.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use super::{OpenError, StoreSettings, engine};
use crate::clock::Timestamp;

const FILE_NAME: &str = "handed.over";

/// Marks the store, durably. `to` is the copy that the other machine follows.
pub fn mark_handed_over(directory: &Path, to: &str, at: Timestamp) -> io::Result<()> {
    let mut file = File::create(directory.join(FILE_NAME))?;
    writeln!(file, "at {at} to whoever follows {to}")?;
    file.sync_all()?;
    engine::sync_directory(directory)
}

/// Refuses to start a server on a store that has the mark.
pub fn refuse_handed_over(settings: &StoreSettings) -> Result<(), OpenError> {
    let path = settings.path.join(FILE_NAME);
    let told = match std::fs::read_to_string(&path) {
        Ok(told) => told,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(OpenError::Io { path, source }),
    };
    Err(OpenError::Unsafe(format!(
        "{} was handed over ({}): another machine goes on with it, and two servers would send everything twice. If no \
         other has taken it, remove {} and start again",
        settings.path.display(),
        told.trim(),
        path.display()
    )))
}
