//! The directory of a store: whose it is, who may read it, and that one process at a time uses it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::FlockOperation;

use super::{OpenError, checkpoint_file, engine, export};

/// Makes a directory that others may not read, and its entry durable.
pub fn create_directory(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if path.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => engine::sync_directory(parent),
        _ => engine::sync_directory(Path::new(".")),
    }
}

/// Refuses to begin a store within another one, as where the unit of systemd, whose working directory
/// is the store, no longer says where that is: accepted messages would seem to be gone.
pub fn refuse_beside_another(path: &Path) -> Result<(), OpenError> {
    let begins = !path.join("live").exists();
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Ok(()),
    };
    if !begins || !parent.join("live").exists() || !parent.join("slices").exists() {
        return Ok(());
    }
    let parent = parent.canonicalize().unwrap_or_else(|_| parent.to_owned());
    Err(OpenError::Unsafe(format!(
        "there is no store in {}, and one in the directory around it: set store.path = \"{}\"",
        path.display(),
        parent.display()
    )))
}

/// Refuses to begin a store where parts of another are, as in a copy that is not whole: its export and
/// its owner's token would be overwritten.
pub fn refuse_in_the_remains_of_another(path: &Path) -> Result<(), OpenError> {
    let has_some =
        |name| std::fs::read_dir(path.join(name)).is_ok_and(|mut all| all.next().is_some());
    let has_file = |name| path.join(name).exists();
    let left = if has_some("slices") {
        "slices of history"
    } else if has_some("journal") {
        "the journal"
    } else if has_file(checkpoint_file::FILE_NAME) {
        "the checkpoint file"
    } else if has_file(export::FILE_NAME) {
        export::FILE_NAME
    } else {
        return Ok(());
    };
    let remedy = match has_file(checkpoint_file::FILE_NAME) {
        true => "`postrider rebuild` makes it anew, and so does a start of the server".to_owned(),
        false => format!(
            "bring it back from a copy; or move {} away and restore the registrations from its \
             export.json with `postrider restore`, or begin anew",
            path.display()
        ),
    };
    Err(OpenError::WithoutLive(format!(
        "{} has {left} of a store, and the store's directory `live` is missing, or has nothing that can \
         be read: {remedy}",
        path.display()
    )))
}

/// Takes from others what an earlier version, or a copy, let them read: there are secrets in it.
/// Only our own entries: the directory may have been there before.
pub fn hide_from_others(path: &Path) {
    let mut hidden = 0;
    for name in [
        "lock",
        "live",
        "journal",
        "slices",
        "owner.token",
        checkpoint_file::FILE_NAME,
        checkpoint_file::APPLIED_NAME,
        export::FILE_NAME,
    ] {
        hide_tree(&path.join(name), &mut hidden);
    }
    if hidden > 0 {
        log::warn!(
            "{hidden} files or directories in {} could be read by other users of this machine; \
             they cannot any more. If you do not trust them all, change the secrets",
            path.display()
        );
    }
}

fn hide_tree(path: &Path, hidden: &mut usize) {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return;
    };
    if metadata.is_symlink() {
        return;
    }
    let mode = metadata.permissions().mode();
    if mode & 0o077 != 0 {
        let narrow = std::fs::Permissions::from_mode(mode & 0o7700);
        match std::fs::set_permissions(path, narrow) {
            Ok(()) => *hidden += 1,
            Err(error) => log::warn!(
                "others can read {}, and that could not be changed: {error}",
                path.display()
            ),
        }
    }
    if metadata.is_dir() {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.for_each(|entry| hide_tree(&entry.path(), hidden));
    }
}

/// Says that this process has the store open, until it is dropped.
///
/// The file's length is a mark: 1 from when a server opens the store until it has closed it cleanly, else 0. A
/// length takes no space, so that a full disk does not keep it from being written. It is not synced: it is
/// about what the system's page cache may hold, which a crash of the system takes along.
pub struct Lock(File);

impl Lock {
    /// Whether the last server did not close the store.
    pub fn was_left_open(&self) -> std::io::Result<bool> {
        Ok(self.0.metadata()?.len() > 0)
    }

    pub fn mark_open(&self) -> std::io::Result<()> {
        self.0.set_len(1)
    }

    pub fn mark_closed(&self) -> std::io::Result<()> {
        self.0.set_len(0)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough: a child process that is just being started has it open, too.
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

pub fn lock(path: &Path) -> Result<Lock, OpenError> {
    let lock_path = path.join("lock");
    let io = |source| OpenError::Io {
        path: lock_path.clone(),
        source,
    };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&lock_path)
        .map_err(io)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Locked {
            path: path.to_owned(),
        }),
        Err(error) => Err(io(error.into())),
    }
}
