//! Failures of the store: why it cannot be opened, why it takes nothing more, and why something in it
//! cannot be read.

use std::path::PathBuf;
use std::sync::Arc;

use super::{engine, layout};
use crate::error::Error;

/// Why a store cannot be opened: one clear line each.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{path} is in use by another postrider process")]
    Locked { path: PathBuf },
    #[error(
        "{path} was written by a newer postrider (format {found}, this one knows {known}); install that version again"
    )]
    Newer {
        path: PathBuf,
        found: u32,
        known: u32,
    },
    #[error(
        "{path} was written by an older postrider, which cannot open it any more once this one has used it; \
         copy the directory, then run `postrider migrate` once, or start with --migrate (see docs/operations.md)"
    )]
    Older { path: PathBuf },
    #[error(
        "{path} is damaged: {reason}; `postrider rebuild` makes a damaged `live` anew, and `postrider \
         restore` starts a new store from the last export"
    )]
    Damaged { path: PathBuf, reason: String },
    #[error(
        "{path} is damaged: {reason}. The server does not start without commits that no other file has. If only \
         `live` is older than the rest, because it was brought back from a copy, run `postrider rebuild`; else look \
         at the disk and bring the file back from a copy, or start a new store from the last export with \
         `postrider restore`"
    )]
    JournalDamaged { path: PathBuf, reason: String },
    /// A file that nothing else can stand in for.
    #[error(
        "{path} cannot be used: {reason}. Bring it, or the whole data directory, back from a copy; or start a new \
         store from the last export with `postrider restore`"
    )]
    Unusable { path: PathBuf, reason: String },
    /// Which of the two is the right one, the operator knows.
    #[error(
        "{path} and `live` are not of one store: {reason}. If `live` is the wrong one, `postrider rebuild` makes it \
         anew from the checkpoint file and the journal; else bring the right journal back from a copy"
    )]
    OfAnotherStore { path: PathBuf, reason: String },
    #[error("{path} is no export that a store can be made from: {reason}")]
    NoExport { path: PathBuf, reason: String },
    /// The live database is missing, or empty, beside other parts of a store.
    #[error("{0}")]
    WithoutLive(String),
    /// The live database cannot be used, and was not made anew.
    #[error("{lost}. It was not made anew by itself: {why}")]
    NotRebuilt { lost: String, why: String },
    #[error("cannot use {path}: {source}{}", what_helps(source))]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{0}")]
    Unsafe(String),
    /// The caller said so.
    #[error("stopped before the databases were made")]
    Interrupted,
}

impl OpenError {
    /// Whether it is about this machine or this process, and not about what the files hold.
    pub fn is_of_this_machine(&self) -> bool {
        matches!(
            self,
            OpenError::Locked { .. }
                | OpenError::Io { .. }
                | OpenError::Unsafe(_)
                | OpenError::Interrupted
        )
    }
}

fn what_helps(error: &std::io::Error) -> &'static str {
    // sled tells some of its errors as text alone.
    let is_full = error.kind() == std::io::ErrorKind::StorageFull
        || error.to_string().contains("StorageFull");
    match is_full {
        true => "; the disk is full: a start needs some MiB, free them and start again",
        false => "",
    }
}

/// Why the process takes nothing more until it starts again.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Fault {
    #[error("storage failed: {0}")]
    Storage(String),
    /// A thread without which nothing works; the text is its name.
    #[error("{0} panicked; the server's log says where")]
    Panicked(String),
}

pub fn unavailable(reason: &str) -> Error {
    Error::Unavailable {
        reason: reason.to_owned(),
        retry_after_seconds: 5,
    }
}

impl From<layout::RecordError> for Error {
    fn from(error: layout::RecordError) -> Error {
        match error {
            layout::RecordError::Engine(engine::EngineError::Busy) => Error::Unavailable {
                reason: "a part of the history is just being closed; it can be read in a moment"
                    .to_owned(),
                retry_after_seconds: 1,
            },
            layout::RecordError::Engine(error) if error.shortage().is_some() => {
                let reason = format!("a part of the history cannot be opened just now: {error}");
                unavailable(&reason)
            }
            damage => Error::Unreadable {
                between: match &damage {
                    layout::RecordError::Gap(gap) => Some((gap.from, gap.to)),
                    _ => None,
                },
                cause: Arc::new(damage),
            },
        }
    }
}

impl From<engine::EngineError> for Error {
    fn from(error: engine::EngineError) -> Error {
        layout::RecordError::from(error).into()
    }
}
