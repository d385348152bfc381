//! Whose files a command makes in a data directory.
//!
//! The server runs as a user of its own. A command that opens its directory as root would leave files
//! of root there, and the server would not start again: so it becomes the directory's owner first.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Failure, Result};

/// Becomes the owner of the store at `path`, or of where it is to be made, if this is root and the
/// owner is not. Before any thread is begun.
pub fn become_owner_of(path: &Path) -> Result {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let absolute = std::path::absolute(path).map_err(Failure::failed)?;
    let live = absolute.join("live");
    let there = live.ancestors().find_map(|one| one.metadata().ok());
    let Some(there) = there.filter(|there| there.uid() != 0) else {
        return Ok(());
    };
    let (user, group) = (there.uid(), there.gid());
    let shown = path.display();
    become_user(user, group).map_err(|error| {
        Failure::failed(format!(
            "{shown} belongs to user {user}, and this command, run as root, cannot become that user \
             ({error}): run it as that user"
        ))
    })?;
    // The directory of a unit with DynamicUser stands where only root gets: systemd mounts it for the
    // unit.
    match live.metadata() {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(Failure::failed(format!(
                "{shown} belongs to user {user}, who cannot reach it from here, as is the case for \
                 the data directory of a systemd unit: run this command in the unit's place, with \
                 `systemd-run` as docs/operations.md shows"
            )))
        }
        _ => Ok(()),
    }
}

fn become_user(user: u32, group: u32) -> io::Result<()> {
    // SAFETY: plain numbers and an empty list; the C library's functions concern all threads.
    let done = unsafe {
        libc::setgroups(0, std::ptr::null()) == 0
            && libc::setgid(group) == 0
            && libc::setuid(user) == 0
    };
    match done {
        true => Ok(()),
        false => Err(io::Error::last_os_error()),
    }
}
