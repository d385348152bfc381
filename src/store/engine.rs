//! The only file that knows sled: an ordered map of bytes on disk.
//!
//! Changes are made one by one with [`Engine::apply`], which promises nothing about the disk, and are
//! durable when [`Engine::flush`] returns. Between the two the journal is what keeps them.
//!
//! The verbs are few, so that another ordered key-value engine could stand here. What makes
//! sled 0.34 keep its word when the power fails is here too, and is not optional:
//! - sled syncs its log with `sync_file_range`, which does not make a file durable. This binary
//!   brings its own function of that name which calls `fdatasync`; sled's calls end there.
//! - A sled page above 128 KiB goes to a file of its own that is never synced. A leaf has at most
//!   16 items, so no value here exceeds [`VALUE_MAX`].
//! - `flush_async` can deadlock and is never called, but for the blocking `flush`.
//! - sled answers damage with a panic as often as with an error, so opening and reading catch it.

use std::collections::HashMap;
use std::ffi::c_uint;
use std::fs::File;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::shortage::{self, Shortage};

/// The largest value, in bytes; longer records are split by `layout`.
pub const VALUE_MAX: usize = 4096;

/// How long opening waits for a database that is being closed.
const BUSY_MAX: Duration = Duration::from_secs(10);

/// A key or value as read; cheap to clone.
pub type Bytes = sled::IVec;

pub type SledError = sled::Error;

/// Replaces the C library's function for this whole process: see the module's comment.
///
/// # Safety
/// As the C function: `fd` is a plain number, and nothing else is dereferenced.
#[cfg(target_os = "linux")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sync_file_range(
    fd: libc::c_int,
    _offset: libc::off64_t,
    _bytes: libc::off64_t,
    _flags: c_uint,
) -> libc::c_int {
    // SAFETY: fdatasync takes any number and answers EBADF for one that is not open.
    unsafe { libc::fdatasync(fd) }
}

/// Whether calls of `sync_file_range` in this process end in our function.
pub fn syncs_for_real() -> bool {
    #[cfg(target_os = "linux")]
    {
        std::ptr::eq(
            libc::sync_file_range as *const (),
            sync_file_range as *const (),
        )
    }
    #[cfg(not(target_os = "linux"))]
    {
        true // sled calls fsync there.
    }
}

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("{}", in_plain_words(.0))]
    Sled(#[from] sled::Error),
    /// The bytes that were read make no sense.
    #[error("{0}")]
    Damaged(String),
    /// The database is still open elsewhere; that passes.
    #[error("the database is still being closed")]
    Busy,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl EngineError {
    /// Whether it may go another time, without anything being mended.
    pub fn passes(&self) -> bool {
        match self {
            EngineError::Busy => true,
            EngineError::Sled(sled::Error::Io(cause)) | EngineError::Io(cause) => {
                shortage::passes(cause)
            }
            _ => false,
        }
    }

    /// The resource that this machine lacked for it; nothing is damaged then.
    pub fn shortage(&self) -> Option<Shortage> {
        match self {
            EngineError::Sled(sled::Error::Io(cause)) | EngineError::Io(cause) => {
                Shortage::of(cause)
            }
            _ => None,
        }
    }
}

/// Puts sled's error into words for a person who does not know sled.
fn in_plain_words(error: &sled::Error) -> String {
    match error {
        sled::Error::Io(cause) if cause.kind() == std::io::ErrorKind::UnexpectedEof => {
            "one of its files ends too early".to_owned()
        }
        sled::Error::Io(cause) => cause.to_string(),
        sled::Error::Corruption { .. } => MAKES_NO_SENSE.to_owned(),
        sled::Error::Unsupported(_) => {
            "its files were not written by the database of this program".to_owned()
        }
        sled::Error::CollectionNotFound(_) => "a part of it is missing".to_owned(),
        sled::Error::ReportableBug(_) => MAKES_NO_SENSE.to_owned(),
    }
}

const MAKES_NO_SENSE: &str = "what one of its files holds makes no sense";

/// A put, or a delete where there is no value.
pub type Entry = (Vec<u8>, Option<Vec<u8>>);

/// Puts and deletes, in order: of two with the same key the later one counts.
#[derive(Clone, Default)]
pub struct Changes {
    entries: Vec<Entry>,
    bytes: usize,
}

impl Changes {
    pub fn put(&mut self, key: &[u8], value: Vec<u8>) {
        debug_assert!(value.len() <= VALUE_MAX, "a value of {} bytes", value.len());
        self.bytes += key.len() + value.len();
        self.entries.push((key.to_vec(), Some(value)));
    }

    pub fn delete(&mut self, key: &[u8]) {
        self.entries.push((key.to_vec(), None));
    }

    /// How many puts and deletes there are.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of all puts together, keys included.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub fn into_entries(self) -> Vec<Entry> {
        self.entries
    }
}

/// A map that records are read from.
pub trait Values {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError>;
}

/// One open database.
pub struct Engine {
    db: sled::Db,
    path: PathBuf,
}

/// Deletes what a process left that ended while sled wrote a snapshot, as on a full disk: sled would take it
/// for one, and itself for damaged. The one before is there until the new one is whole.
fn discard_unfinished_snapshots(path: &Path) -> std::io::Result<()> {
    if !path.is_dir() {
        return Ok(());
    }
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "generating") {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

impl Engine {
    /// Opens or creates the database in the directory `path`. A new one is durable, its directory
    /// entry included, when this returns. One that was just closed may still be held by one of sled's
    /// own threads: this waits until they have let go, which they do within moments.
    pub fn open(path: &Path, cache_bytes: u64) -> Result<Engine, EngineError> {
        discard_unfinished_snapshots(path)?;
        let deadline = Instant::now() + BUSY_MAX;
        loop {
            match Engine::open_at_once(path, cache_bytes) {
                Err(EngineError::Busy) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                opened => return opened,
            }
        }
    }

    fn open_at_once(path: &Path, cache_bytes: u64) -> Result<Engine, EngineError> {
        let config = sled::Config::new()
            .path(path)
            .cache_capacity(cache_bytes)
            // The periodic flush is a thread per database that we do not need: every commit
            // flushes.
            .flush_every_ms(None);
        let db = caught(|| {
            config.open().map_err(|error| match error {
                // The only error of this kind in sled's `open` is a lock that is held.
                sled::Error::Io(cause) if cause.kind() == std::io::ErrorKind::Other => {
                    EngineError::Busy
                }
                other => other.into(),
            })
        })?;
        let engine = Engine {
            db,
            path: path.to_owned(),
        };
        if !engine.db.was_recovered() {
            engine.flush()?;
            engine.sync_new_files()?;
        }
        Ok(engine)
    }

    /// Makes the changes, all or none; they are on disk when this returns. For a store that nobody
    /// else uses: readers wait meanwhile.
    pub fn commit(&self, changes: Changes) -> Result<(), EngineError> {
        let mut batch = sled::Batch::default();
        for (key, value) in changes.entries {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        caught(|| Ok(self.db.apply_batch(batch)?))?;
        self.flush()
    }

    /// Puts a value; on disk after the next [`Engine::flush`].
    pub fn put(&self, key: &[u8], value: impl Into<Bytes>) -> Result<(), EngineError> {
        caught(|| {
            self.db.insert(key, value)?;
            Ok(())
        })
    }

    /// Deletes a key; on disk after the next [`Engine::flush`].
    pub fn delete(&self, key: &[u8]) -> Result<(), EngineError> {
        caught(|| {
            self.db.remove(key)?;
            Ok(())
        })
    }

    /// Makes changes that are durable elsewhere, one by one: readers see some before others. Each key is
    /// changed once, and deletes come last, so that a record that is replaced is never gone. They are on
    /// disk after the next [`Engine::flush`].
    pub fn apply(&self, changes: Changes) -> Result<(), EngineError> {
        let is_delete = |entry: &Entry| entry.1.is_none();
        if !changes.entries.iter().any(is_delete) {
            let mut entries = changes.entries.into_iter();
            return entries.try_for_each(|(key, value)| self.change(&key, value));
        }
        let last: HashMap<&[u8], usize> = changes
            .entries
            .iter()
            .enumerate()
            .map(|(place, (key, _))| (key.as_slice(), place))
            .collect();
        for deletes in [false, true] {
            for (place, entry) in changes.entries.iter().enumerate() {
                if is_delete(entry) == deletes && last[entry.0.as_slice()] == place {
                    self.change(&entry.0, entry.1.clone())?;
                }
            }
        }
        Ok(())
    }

    fn change(&self, key: &[u8], value: Option<Vec<u8>>) -> Result<(), EngineError> {
        match value {
            Some(value) => self.put(key, value),
            None => self.delete(key),
        }
    }

    /// Flushes, and syncs its files once more. After a start this engine takes all that it read for
    /// durable, and puts that change nothing write nothing: the disk may lack what a process that was
    /// killed had written and not synced.
    pub fn flush_and_sync(&self) -> Result<(), EngineError> {
        self.flush()?;
        Ok(self.sync_new_files()?)
    }

    /// Makes durable what was changed before this was called, by other threads too.
    pub fn flush(&self) -> Result<(), EngineError> {
        caught(|| {
            self.db.flush()?;
            Ok(())
        })
    }

    /// Keys and values between two bounds, in order; from either end. Not a snapshot: what is
    /// changed meanwhile may be seen or not.
    pub fn range(&self, from: Bound<Vec<u8>>, to: Bound<Vec<u8>>) -> Range {
        Range {
            iter: self.db.range((from, to)),
        }
    }

    /// Everything whose key starts with `prefix`.
    pub fn prefix(&self, prefix: &[u8]) -> Range {
        Range {
            iter: self.db.scan_prefix(prefix),
        }
    }

    /// Bytes that the database takes on disk.
    pub fn size_bytes(&self) -> u64 {
        self.db.size_on_disk().unwrap_or(0)
    }

    /// Files that sled keeps outside its log; there must be none, because it does not sync them.
    pub fn blob_files(&self) -> usize {
        std::fs::read_dir(self.path.join("blobs")).map_or(0, Iterator::count)
    }

    fn sync_new_files(&self) -> std::io::Result<()> {
        sync_files(&self.path)?;
        match self.path.parent() {
            Some(parent) => sync_directory(parent),
            None => Ok(()),
        }
    }
}

impl Values for Engine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        caught(|| Ok(self.db.get(key)?))
    }
}

impl<T: Values> Values for Arc<T> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        (**self).get(key)
    }
}

/// Makes the files in a directory durable, and their names.
pub fn sync_files(path: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_directory(path)
}

/// Makes the entries of a directory durable.
pub fn sync_directory(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}

pub struct Range {
    iter: sled::Iter,
}

impl Iterator for Range {
    type Item = Result<(Bytes, Bytes), EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = caught(|| self.iter.next().transpose().map_err(EngineError::from));
        next.transpose()
    }
}

impl DoubleEndedIterator for Range {
    fn next_back(&mut self) -> Option<Self::Item> {
        let next = caught(|| self.iter.next_back().transpose().map_err(EngineError::from));
        next.transpose()
    }
}

/// Turns a panic inside sled into an error. Its data is in a state that nobody will use again:
/// the store takes nothing more after an error.
fn caught<T>(act: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| {
        let reason = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("sled panicked");
        let first_line = reason.lines().next().unwrap_or_default();
        // For who mends sled; it is of no use to anybody else.
        log::debug!("sled panicked: {first_line}");
        Err(EngineError::Damaged(MAKES_NO_SENSE.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sled_syncs_through_our_function() {
        assert!(syncs_for_real());
    }

    #[test]
    fn a_snapshot_that_was_not_finished_is_no_damage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let mut changes = Changes::default();
        changes.put(b"key", b"value".to_vec());
        Engine::open(&path, 1 << 20)
            .unwrap()
            .commit(changes)
            .unwrap();
        for bytes in [0, 100] {
            let unfinished = path.join("snap.00000000FFFFFFFF.generating");
            std::fs::write(&unfinished, vec![1; bytes]).unwrap();
            let engine = Engine::open(&path, 1 << 20).unwrap();
            assert_eq!(engine.get(b"key").unwrap().unwrap(), b"value".as_slice());
            assert!(!unfinished.exists());
        }
    }

    #[test]
    fn a_commit_is_all_there_after_opening_again_and_makes_no_blob_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        {
            let engine = Engine::open(&path, 1 << 20).unwrap();
            for round in 0..20u8 {
                let mut changes = Changes::default();
                for item in 0..50u8 {
                    changes.put(&[round, item], vec![item; VALUE_MAX]);
                }
                if round > 0 {
                    changes.delete(&[round - 1, 0]);
                }
                engine.commit(changes).unwrap();
            }
            assert_eq!(engine.blob_files(), 0);
        }
        let engine = Engine::open(&path, 1 << 20).unwrap();
        assert_eq!(engine.prefix(&[]).count(), 20 * 50 - 19);
        assert_eq!(engine.get(&[3, 7]).unwrap().unwrap(), vec![7; VALUE_MAX]);
        assert!(engine.get(&[3, 0]).unwrap().is_none());
        let last = engine
            .range(Bound::Unbounded, Bound::Excluded(vec![5]))
            .next_back();
        assert_eq!(last.unwrap().unwrap().0, &[4, 49]);
    }
}
