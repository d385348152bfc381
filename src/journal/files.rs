//! Calls of the file system: the little that the journal needs, so that a layer that fails on
//! purpose can stand in.
//!
//! The promises that the journal builds on: bytes written are durable once [`DataFile::sync`]
//! answered `Ok`, names once [`Directory::sync`] did. Nothing is assumed of what was not synced.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::FallocateFlags;

/// The directory of a journal. Names are without a path.
pub trait Directory: Send + Sync {
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes an empty file and opens it; an error if there is one of that name.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DataFile>>;
    /// Opens a file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DataFile>>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes all names durable.
    fn sync(&self) -> io::Result<()>;
    /// Bytes that may still be written to this file system.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// An open file.
pub trait DataFile: Send + Sync {
    /// The file's length.
    fn bytes(&self) -> io::Result<u64>;
    /// Makes the file `bytes` long; what was not written reads as zeros. Takes the space on disk
    /// where the file system can.
    fn reserve(&self, bytes: u64) -> io::Result<()>;
    /// Gives the space of the file from `offset` to its end back, where the file system can; that reads
    /// as zeros then, or as before.
    fn give_back(&self, offset: u64) -> io::Result<()>;
    /// Whether the file takes at least so much space on disk: writing within it then needs no more.
    fn has_taken(&self, bytes: u64) -> io::Result<bool>;
    /// Writes a beginning of `bytes` at `offset`; answers how many.
    fn write_some(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Reads into a beginning of `bytes` from `offset`; answers how many, 0 at the end of the file.
    fn read_some(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Makes all that was written durable.
    fn sync(&self) -> io::Result<()>;
}

/// Writes all of `bytes` at `offset`: one call unless the system writes less.
pub fn write_all(file: &dyn DataFile, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_some(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Fills `bytes` from `offset`; the error kind is `UnexpectedEof` if the file ends before.
pub fn read_all(file: &dyn DataFile, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.read_some(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                bytes = &mut bytes[read..];
                offset += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A directory of the file system.
pub struct Disk {
    path: PathBuf,
}

impl Disk {
    /// The directory at `path`, which exists.
    pub fn new(path: PathBuf) -> Disk {
        Disk { path }
    }
}

impl Directory for Disk {
    fn list(&self) -> io::Result<Vec<String>> {
        let entries = std::fs::read_dir(&self.path)?;
        let names = entries.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(Result::transpose).collect()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DataFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        Ok(Arc::new(options.open(self.path.join(name))?))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DataFile>> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).open(self.path.join(name))?;
        Ok(Arc::new(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let space = rustix::fs::statvfs(&self.path)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }
}

impl DataFile for File {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        match rustix::fs::fallocate(self, FallocateFlags::empty(), 0, bytes) {
            // A file system that cannot reserve: the space is taken when it is written.
            Err(rustix::io::Errno::OPNOTSUPP) => self.set_len(bytes),
            other => Ok(other?),
        }
    }

    fn give_back(&self, offset: u64) -> io::Result<()> {
        let Some(bytes) = DataFile::bytes(self)?
            .checked_sub(offset)
            .filter(|left| *left > 0)
        else {
            return Ok(());
        };
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(self, flags, offset, bytes) {
            Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            other => Ok(other?),
        }
    }

    fn has_taken(&self, bytes: u64) -> io::Result<bool> {
        // In units of 512 bytes, whatever the file system's are.
        Ok(self.metadata()?.blocks() * 512 >= bytes)
    }

    fn write_some(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.write_at(bytes, offset)
    }

    fn read_some(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
