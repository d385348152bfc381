//! Why a copy cannot be made, or a store not be brought back from one.

use std::path::{Path, PathBuf};

use super::manifest::folder_of;
use super::target::{Object, Target, TargetError};
use crate::clock::Timestamp;
use crate::journal::JournalError;
use crate::store::OpenError;

/// One clear line each. [`BackupError::at`] adds which target it is about.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("the store's journal cannot be read: {0}")]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error("cannot use {path}: {source}")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("it cannot be used: {0}")]
    Unusable(String),
    #[error("{name} was written by a newer postrider (format {format}): use that version")]
    Newer { name: String, format: u32 },
    #[error(
        "the copy that was there is gone: if a disk is not mounted there, mount it; if somebody removed the copy, start the \
         server again, which begins another one"
    )]
    Gone,
    /// It has written a manifest since ours.
    #[error("another process copies the same store there at the same time: end one of the two")]
    OtherWriter,
    /// The store was brought back from an older copy of its directory and went on.
    #[error(
        "the copy has records of this store, and the store has others in their place, or none: it was brought back from \
         an older copy of its directory. Copy it to another place, or move the folder of the stream away first"
    )]
    OtherCourse,
    #[error("{object} is damaged: {reason}")]
    Wrong { object: String, reason: String },
    #[error("there is no copy of a store there")]
    NoCopy,
    #[error(
        "the copy was brought up to date at {until}, which is before {at}: name an earlier moment, or none"
    )]
    TooLate { at: Timestamp, until: Timestamp },
    #[error("no moment before {} can be restored", first.map_or_else(|| "the first checkpoint is copied".to_owned(), |first| first.to_string()))]
    TooEarly { first: Option<Timestamp> },
    #[error(
        "the copy lacks the records from {from} to before {to}: the target was away for longer than the store kept them. \
         Name a moment before that, or one after the next checkpoint"
    )]
    Gap { from: u64, to: u64 },
    #[error(
        "the directory follows the stream {}, not {}: name another directory, or leave out --stream",
        folder_of(*followed),
        folder_of(*named)
    )]
    Follows { followed: u64, named: u64 },
    #[error(
        "another machine took the store over at {at}, and goes on with it in a stream of its own: only one may. Stop this \
         one; to follow the other, wait for its first copy, or name its stream with --stream"
    )]
    TakenOver { at: Timestamp },
    #[error(
        "reading all of it takes up to {needed} bytes in the data directory for a while, and {free} are free there: less \
         than store.min_free_bytes ({min}) would be left"
    )]
    NoRoom { needed: u64, free: u64, min: u64 },
}

impl BackupError {
    pub fn file(path: &Path, source: std::io::Error) -> BackupError {
        BackupError::File {
            path: path.to_owned(),
            source,
        }
    }

    /// The line about this target. An error of the target itself names it already.
    pub fn at(&self, target: &Target) -> String {
        match self {
            BackupError::Target(error) => error.to_string(),
            error => format!("{target}: {error}"),
        }
    }

    /// Bytes of the target that are not those of the store.
    pub fn wrong<'a>(objects: impl Iterator<Item = &'a Object>, reason: &str) -> BackupError {
        let names = objects.map(|object| object.name.as_str());
        BackupError::Wrong {
            object: Vec::from_iter(names).join(", "),
            reason: reason.to_owned(),
        }
    }

    /// An object is not there any more: there may be a newer manifest, which does not name it.
    pub fn is_of_a_missing_object(&self) -> bool {
        matches!(self, BackupError::Target(TargetError::NotFound { .. }))
    }

    /// Nothing can be restored yet, and may be soon: the server has not made its first copy, or not its first
    /// checkpoint file.
    pub fn is_too_early_for_all(&self) -> bool {
        matches!(
            self,
            BackupError::NoCopy | BackupError::TooEarly { first: None }
        )
    }

    /// Ended because the process is stopping.
    pub fn is_stopped(&self) -> bool {
        matches!(
            self,
            BackupError::Target(TargetError::Stopped) | BackupError::Store(OpenError::Interrupted)
        )
    }

    /// Whether the target lacks something of the copy, or has something else in its place. An error of reading or
    /// making the files says nothing about the copy.
    pub fn is_damage(&self) -> bool {
        use BackupError::*;
        match self {
            Target(error) => error.is_of_object(),
            Journal(error) => error.is_damage(),
            Store(error) => !error.is_of_this_machine(),
            Unusable(_) | Newer { .. } | Wrong { .. } | NoCopy | TooEarly { .. } | Gap { .. } => {
                true
            }
            File { .. }
            | Gone
            | OtherWriter
            | OtherCourse
            | TooLate { .. }
            | NoRoom { .. }
            | Follows { .. }
            | TakenOver { .. } => false,
        }
    }
}
