//! Errors of the journal.

use std::io;

use crate::shortage;

/// Bytes of a file of the journal that do not check.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file} is damaged at byte {offset}{}: {reason}", in_words(.position))]
pub struct DamagedFile {
    pub file: String,
    /// The record that is damaged or missing, where it is known.
    pub position: Option<u64>,
    /// From the beginning of the file.
    pub offset: u64,
    pub reason: &'static str,
}

fn in_words(position: &Option<u64>) -> String {
    position.map_or_else(String::new, |position| format!(", position {position}"))
}

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error(transparent)]
    Damaged(#[from] DamagedFile),
    /// Records are known of that no file has.
    #[error("the journal ends or has a gap at position {position}: {reason}")]
    Missing { position: u64, reason: &'static str },
    /// The segment was removed, or its file is not there or has no header that can be read.
    #[error("segment {segment} of the journal is missing")]
    Removed { segment: u64 },
    #[error("{file} was written by a newer postrider: version {version} is needed")]
    Newer { file: String, version: u32 },
    #[error("{file} belongs to stream {found:016x}, not to {expected:016x}")]
    OtherStream {
        file: String,
        found: u64,
        expected: u64,
    },
    /// Both may be whole: what is known of the journal is of another course of its stream.
    #[error(
        "{file} has another record before position {position} than the checkpoint knows: they are of \
         different copies of this store, and both went on"
    )]
    OtherCopy { file: String, position: u64 },
    #[error("a record of {bytes} bytes does not fit into a segment; at most {max} do")]
    TooLong { bytes: u64, max: u64 },
    /// A write or sync failed before: what is on disk is not known until the next start.
    #[error("the journal takes nothing more after a failed write; restart postrider")]
    Failed,
    #[error("{file}: {doing} failed: {cause}")]
    Io {
        file: String,
        doing: &'static str,
        #[source]
        cause: io::Error,
    },
}

impl JournalError {
    /// Whether something is damaged or missing on disk.
    pub fn is_damage(&self) -> bool {
        use JournalError::{Damaged, Missing, Removed};
        matches!(self, Damaged(_) | Missing { .. } | Removed { .. })
    }

    /// Whether it may go another time, as when there was no space. Only for errors that leave the journal as
    /// it was.
    pub fn passes(&self) -> bool {
        matches!(self, JournalError::Io { cause, .. } if shortage::passes(cause))
    }
}

pub type Result<T> = std::result::Result<T, JournalError>;

/// Adds the file and the call to an error of the system.
pub fn told(file: &str, doing: &'static str) -> impl FnOnce(io::Error) -> JournalError {
    move |cause| JournalError::Io {
        file: file.to_owned(),
        doing,
        cause,
    }
}
