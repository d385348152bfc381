//! Reading files from the disk itself, after a stop that was not clean.
//!
//! After `kill -9` the system's page cache may show bytes that the disk does not have yet. After a sync that
//! failed it may show bytes that the disk never gets: the kernel marks such pages clean, and no later sync
//! writes them. sled takes all that it finds at a start for durable, and the checkpoint after it lets the
//! journal's segments go: a power cut would then lose what neither of them has. So before sled opens its
//! files, what was not written is written (or the start fails), and every page is dropped.
//!
//! The journal writes its end again before it syncs (`journal::recovery`). That is not enough after a sync that
//! failed: in space that was only reserved, ext4 takes the page that it could not write for written, and
//! does so when it is written again. The sync then succeeds, and after a power cut there are zeros. Where the pages
//! are dropped first, it looks at the disk.
//!
//! Such pages do not outlive the system, so that the mark of an open store (`directory::Lock`) needs no sync.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{Advice, fadvise};

/// Lets all files under `directory` be read from the disk from now on. Answers how many bytes they have.
/// It takes no time by itself, but what is read next comes from the disk.
pub fn forget(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            bytes += forget(&entry.path())?;
        } else if kind.is_file() {
            bytes += forget_file(&entry.path())?;
        }
    }
    Ok(bytes)
}

/// The same for one file.
pub fn forget_file(path: &Path) -> io::Result<u64> {
    let file = File::open(path)?;
    // Pages that wait to be written are not dropped.
    file.sync_data()?;
    fadvise(&file, 0, None, Advice::DontNeed)?;
    Ok(file.metadata()?.len())
}

#[cfg(test)]
mod tests {
    use std::io::IoSliceMut;

    use rustix::io::{Errno, ReadWriteFlags, preadv2};

    use super::*;

    /// Whether the first bytes can be read without the disk; none where the file system does not say.
    fn is_cached(path: &Path) -> Option<bool> {
        let file = File::open(path).unwrap();
        let mut bytes = [0; 16];
        let bytes = &mut [IoSliceMut::new(&mut bytes)];
        match preadv2(&file, bytes, 0, ReadWriteFlags::NOWAIT) {
            Ok(read) => Some(read > 0),
            Err(Errno::AGAIN) => Some(false),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => None,
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn what_was_written_is_not_read_from_memory_and_is_unchanged() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("blobs");
        std::fs::create_dir(&inner).unwrap();
        let files = [directory.path().join("db"), inner.join("7")];
        for file in &files {
            std::fs::write(file, vec![7; 1 << 20]).unwrap();
        }
        let before = is_cached(&files[0]);
        assert_ne!(before, Some(false));
        assert_eq!(forget(directory.path()).unwrap(), 2 << 20);
        for file in &files {
            if before.is_some() {
                assert_eq!(is_cached(file), Some(false));
            }
            assert_eq!(std::fs::read(file).unwrap(), vec![7; 1 << 20]);
        }
    }
}
