//! The checkpoint file: the whole live database in one file beside it, from which it can be made again.
//!
//! `checkpoint` in the data directory holds every key and value of `live` (registrations, the queue,
//! jobs, the last numbers and times; no payloads) as of a position of the journal. It is *fuzzy*: it is
//! read from the database while commits go on, so some values may be newer than that position. The
//! records of the journal behind the position put and delete whole values, and all of them are applied
//! to it (see `rebuild`), so the result is exact. Segments of the journal behind the position are kept
//! until the next file is durable.
//!
//! `applied` is a small file that repeats the last checkpoint of the databases, and what a start has
//! committed behind that. A rebuild needs it where `live` cannot be read: slices have everything up to there.
//! A start recognises by it a `live` that was brought back from an older copy.
//!
//! `format` has the bytes, `writing` the thread that writes them.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::layout::{self, Checkpoint};
use super::{OpenError, engine};
use crate::journal::Reader;
use crate::watched;

mod format;
mod writing;

#[cfg(test)]
pub use format::Encoder;
pub use format::{Decoder, End, FileError};
pub use writing::run;

pub const FILE_NAME: &str = "checkpoint";
/// The name of the file that repeats how far the databases have the journal.
pub const APPLIED_NAME: &str = "applied";

/// More than the record of `applied` takes in any schema.
const APPLIED_BYTES_MAX: u64 = 4096;

/// Opens the checkpoint file of a store.
pub fn open(directory: &Path) -> Result<Decoder<BufReader<File>>, FileError> {
    let file = File::open(directory.join(FILE_NAME))?;
    Decoder::open(BufReader::with_capacity(256 << 10, file))
}

/// The position of the checkpoint file, where it is of this journal and the journal has all records
/// behind it. The rest of the file is not checked.
pub fn usable(directory: &Path, stream: u64, journal: &Reader) -> Option<u64> {
    let head = open(directory).ok()?.begun_at();
    let segments = journal.segments();
    // The newest that begins before it, and all that follow; older ones may be kept for history.
    let next = segments.partition_point(|one| one.begin.position <= head.position + 1);
    let has_next = next.checked_sub(1).is_some_and(|first| {
        let needed = segments[first..].windows(2);
        needed
            .into_iter()
            .all(|pair| pair[0].number + 1 == pair[1].number)
    });
    let is_reached = head.position < journal.next_position();
    (head.stream == stream && has_next && is_reached).then_some(head.position)
}

/// Writes down for a rebuild how far the databases have the journal.
pub fn note_applied(directory: &Path, checkpoint: &Checkpoint) -> io::Result<()> {
    let record = layout::encode(&[layout::CHECKPOINT], checkpoint, &[]);
    let written = replace(directory, APPLIED_NAME, |file| file.write_all(&record));
    written.map(drop)
}

/// The same, and where that fails, a warning: without the note a rebuild applies more of the journal, and a
/// start may not recognise a `live` that is older than the rest.
pub fn try_to_note_applied(directory: &Path, checkpoint: &Checkpoint) {
    if let Err(error) = note_applied(directory, checkpoint) {
        let error = format!("the file `{APPLIED_NAME}` was not written: {error}");
        log::warn!("{error}");
        watched::note_error(error);
    }
}

/// The last checkpoint that [`note_applied`] has written; none where that cannot be read.
pub fn applied(directory: &Path) -> Option<Checkpoint> {
    let mut record = Vec::new();
    let file = File::open(directory.join(APPLIED_NAME)).ok()?;
    file.take(APPLIED_BYTES_MAX).read_to_end(&mut record).ok()?;
    let (checkpoint, _) = layout::decode(&[layout::CHECKPOINT], &record).ok()?;
    Some(checkpoint)
}

/// Replaces a file in one step: it is on disk when this returns, and whoever reads it finds a whole one.
fn replace<T>(
    directory: &Path,
    name: &str,
    write: impl FnOnce(&mut File) -> io::Result<T>,
) -> io::Result<T> {
    let temporary = directory.join(format!("{name}.new"));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    let written = write(&mut file).and_then(|written| file.sync_all().map(|()| written));
    let written = written.inspect_err(|_| drop(std::fs::remove_file(&temporary)))?;
    std::fs::rename(&temporary, directory.join(name))?;
    engine::sync_directory(directory)?;
    Ok(written)
}

/// Why the file at `path` cannot be used.
pub fn to_open_error(path: PathBuf, error: FileError) -> OpenError {
    match error {
        FileError::Io(source) => OpenError::Io { path, source },
        FileError::Newer(format) => OpenError::Newer {
            path,
            found: format,
            known: format::FORMAT,
        },
        FileError::Damaged { .. } => OpenError::Unusable {
            path,
            reason: error.to_string(),
        },
    }
}
