//! What went wrong with a target, as meanings, and how the store's errors become them.
//!
//! Decisions go by types, HTTP's status and the service's error code, never by a message. No text of a
//! library is shown: it may have a signed URL in it.

use std::error::Error;
use std::io;
use std::sync::Arc;

use object_store::client::{HttpError, HttpErrorKind};
use rustix::io::Errno;

use super::wire::{Answer, NoCredentials};
use crate::backup::seal::NotOpened;

/// Why a call of a target failed. Each text says where, what is wrong, and what to do, in one line.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The settings name no usable target.
    #[error("{target}: {problem}")]
    Invalid { target: Arc<str>, problem: String },
    #[error(
        "{target}: there is no {name}: it was removed, or this is not the whole backup; look for \
         another copy"
    )]
    NotFound { target: Arc<str>, name: String },
    #[error(
        "{target}: there is a {name} already: if another server copies to the same place, give each \
         one of its own"
    )]
    Exists { target: Arc<str>, name: String },
    /// The credentials, or a folder's permissions.
    #[error("{target}: access is refused ({reason}): check the credentials and their permissions")]
    Refused { target: Arc<str>, reason: String },
    #[error("{target}: the disk or the quota is full: make room there")]
    Full { target: Arc<str> },
    #[error(
        "{target}: cannot be reached ({reason}): check the network and the endpoint if it lasts"
    )]
    Unreachable { target: Arc<str>, reason: String },
    #[error("{target}: there is no such bucket: create it, or correct its name")]
    NoSuchBucket { target: Arc<str> },
    /// There is no key, or the object was sealed with another one.
    #[error("{target}: {name} is encrypted{}", sealed(*.is_other_key))]
    Sealed {
        target: Arc<str>,
        name: String,
        is_other_key: bool,
    },
    /// There is a key, so that plain objects, which anybody could have put there, are refused.
    #[error(
        "{target}: {name} is not encrypted, and only encrypted objects are read where a key is set: \
         unset the key for a backup that was made without one"
    )]
    NotSealed { target: Arc<str>, name: String },
    #[error("{target}: {name} is damaged: it {reason}; use another copy")]
    Damaged {
        target: Arc<str>,
        name: String,
        reason: String,
    },
    #[error(
        "{target}: {name} has the format {format}, which this version does not know: use a newer \
         postrider"
    )]
    Newer {
        target: Arc<str>,
        name: String,
        format: u8,
    },
    /// An object was written over that only creates were made of.
    #[error(
        "{target}: the service writes over objects although it is asked not to (`If-None-Match: *`), and by that two          servers that copy the same store notice each other: use a service or a version of it that honours it, or a folder"
    )]
    Overwrites { target: Arc<str> },
    /// The caller's `is_stopping` said so.
    #[error("stopped before the copy was complete")]
    Stopped,
    /// Of the reader or the writer that was handed in.
    #[error("cannot read or write on this machine: {0}")]
    Io(#[source] io::Error),
    #[error("{target}: {reason}")]
    Other { target: Arc<str>, reason: String },
}

fn sealed(is_other_key: bool) -> &'static str {
    match is_other_key {
        true => " with another key: set backup.key to the one that it was written with",
        false => ": set backup.key or backup.key_file",
    }
}

/// What a request was for: it decides the meaning of "not found".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    Reading,
    Writing,
    Listing,
}

impl TargetError {
    /// Whether the failure may pass by itself, so that the same call can succeed later.
    pub fn passes(&self) -> bool {
        use TargetError::*;
        match self {
            Unreachable { .. } | Full { .. } | Other { .. } => true,
            Invalid { .. }
            | NotFound { .. }
            | Exists { .. }
            | Refused { .. }
            | NoSuchBucket { .. }
            | Sealed { .. }
            | NotSealed { .. }
            | Damaged { .. }
            | Newer { .. }
            | Overwrites { .. }
            | Stopped
            | Io(_) => false,
        }
    }

    /// Whether an object is missing, or is not the one that was written.
    pub fn is_of_object(&self) -> bool {
        use TargetError::*;
        matches!(
            self,
            NotFound { .. } | Sealed { .. } | NotSealed { .. } | Damaged { .. } | Newer { .. }
        )
    }

    /// The meaning of an error of the store.
    pub(super) fn of(
        target: &Arc<str>,
        name: &str,
        doing: Doing,
        error: &object_store::Error,
    ) -> TargetError {
        let target = Arc::clone(target);
        if find::<NoCredentials>(error).is_some() {
            let reason = NoCredentials.to_string();
            return TargetError::Refused { target, reason };
        }
        if let Some(answer) = find::<Answer>(error) {
            return of_answer(target, name, doing, answer);
        }
        if let Some(error) = find::<HttpError>(error) {
            let reason = of_http(error.kind()).to_owned();
            return TargetError::Unreachable { target, reason };
        }
        match error {
            object_store::Error::NotFound { .. } => return not_found(target, name, doing),
            object_store::Error::AlreadyExists { .. }
            | object_store::Error::Precondition { .. } => {
                let name = name.to_owned();
                return TargetError::Exists { target, name };
            }
            _ => {}
        }
        match find::<io::Error>(error) {
            Some(error) => of_io(target, error),
            None => TargetError::Other {
                target,
                reason: "refused a request, or gave an answer that cannot be understood".to_owned(),
            },
        }
    }

    /// The meaning of bytes that do not open.
    pub(super) fn of_seal(target: &Arc<str>, name: &str, error: NotOpened) -> TargetError {
        let (target, name) = (Arc::clone(target), name.to_owned());
        match error {
            NotOpened::Damaged(reason) => TargetError::Damaged {
                target,
                name,
                reason: reason.to_owned(),
            },
            NotOpened::Newer(format) => TargetError::Newer {
                target,
                name,
                format,
            },
            NotOpened::Sealed { is_other_key } => TargetError::Sealed {
                target,
                name,
                is_other_key,
            },
            NotOpened::NotSealed => TargetError::NotSealed { target, name },
        }
    }
}

/// The first error of this type, of an error and its sources.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut sources = std::iter::successors(Some(error), |error| (*error).source());
    sources.find_map(|error| error.downcast_ref())
}

fn of_answer(target: Arc<str>, name: &str, doing: Doing, answer: &Answer) -> TargetError {
    let reason = answer.to_string();
    if answer.is_refusal() {
        return TargetError::Refused { target, reason };
    }
    if answer.may_pass() {
        return TargetError::Unreachable { target, reason };
    }
    match answer.status {
        404 if answer.has_code(&["NoSuchBucket", "ContainerNotFound"]) => {
            TargetError::NoSuchBucket { target }
        }
        404 if answer.has_code(&["NoSuchUpload"]) => TargetError::Other {
            target,
            reason: "ended an upload before it was complete".to_owned(),
        },
        404 => not_found(target, name, doing),
        // An object has a head at least. A range of nothing cannot be satisfied.
        416 => TargetError::Damaged {
            target,
            name: name.to_owned(),
            reason: "is empty".to_owned(),
        },
        507 => TargetError::Full { target },
        _ => TargetError::Other {
            target,
            reason: format!("{reason}: check the region, the endpoint and the name of the bucket"),
        },
    }
}

/// A bucket that is there takes every name, and lists none where it has none.
fn not_found(target: Arc<str>, name: &str, doing: Doing) -> TargetError {
    match doing {
        Doing::Reading => TargetError::NotFound {
            target,
            name: name.to_owned(),
        },
        Doing::Writing | Doing::Listing => TargetError::NoSuchBucket { target },
    }
}

fn of_http(kind: HttpErrorKind) -> &'static str {
    match kind {
        HttpErrorKind::Connect => "no connection",
        HttpErrorKind::Timeout => "no answer in time",
        HttpErrorKind::Request | HttpErrorKind::Interrupted => "the connection broke",
        HttpErrorKind::Decode => "the answer is too long or cannot be read",
        _ => "the request failed",
    }
}

/// An error of a folder.
pub(super) fn of_io(target: Arc<str>, error: &io::Error) -> TargetError {
    let errno = Errno::from_io_error(error);
    let reason = match errno {
        Some(errno) => io::Error::from(errno).to_string(),
        None => error.kind().to_string(),
    };
    match errno {
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => TargetError::Full { target },
        Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => TargetError::Refused { target, reason },
        // Network file systems and disks that went away.
        Some(Errno::STALE | Errno::TIMEDOUT | Errno::NOTCONN | Errno::HOSTDOWN | Errno::IO) => {
            TargetError::Unreachable { target, reason }
        }
        _ => TargetError::Other { target, reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_errno(errno: Errno) -> TargetError {
        let source = io::Error::from(errno);
        let error = object_store::Error::Generic {
            store: "LocalFileSystem",
            source: Box::new(Wrapped(source)),
        };
        TargetError::of(&"/backup".into(), "a", Doing::Writing, &error)
    }

    #[derive(Debug, thiserror::Error)]
    #[error("secret=1")]
    struct Wrapped(#[source] io::Error);

    #[test]
    fn a_full_disk_is_told_from_other_errors_of_the_system() {
        for errno in [Errno::NOSPC, Errno::DQUOT] {
            let error = of_errno(errno);
            assert!(matches!(error, TargetError::Full { .. }), "{error}");
            assert!(error.passes());
        }
        for errno in [Errno::ACCESS, Errno::ROFS] {
            let error = of_errno(errno);
            assert!(matches!(error, TargetError::Refused { .. }), "{error}");
            assert!(!error.passes());
        }
        for errno in [Errno::STALE, Errno::IO] {
            let error = of_errno(errno);
            assert!(matches!(error, TargetError::Unreachable { .. }), "{error}");
        }
        let error = of_errno(Errno::NAMETOOLONG);
        assert!(matches!(error, TargetError::Other { .. }), "{error}");
    }

    #[test]
    fn no_text_of_a_library_is_shown() {
        let error = object_store::Error::Generic {
            store: "S3",
            source: Box::new(Wrapped(io::Error::other("https://x/?sig=secret"))),
        };
        for doing in [Doing::Reading, Doing::Writing, Doing::Listing] {
            let shown = TargetError::of(&"s3://b".into(), "a", doing, &error);
            for text in [shown.to_string(), format!("{shown:?}")] {
                assert!(!text.contains("secret") && !text.contains('\n'), "{text}");
            }
        }
    }

    #[test]
    fn not_found_is_about_the_object_or_about_the_bucket() {
        let error = || object_store::Error::NotFound {
            path: "a".to_owned(),
            source: "x".into(),
        };
        let of = |doing| TargetError::of(&"s3://b".into(), "a", doing, &error());
        assert!(matches!(of(Doing::Reading), TargetError::NotFound { name, .. } if name == "a"));
        assert!(matches!(
            of(Doing::Writing),
            TargetError::NoSuchBucket { .. }
        ));
        assert!(matches!(
            of(Doing::Listing),
            TargetError::NoSuchBucket { .. }
        ));
    }
}
