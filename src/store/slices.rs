//! Where history stands: a database for each stretch of time, opened when it is asked for.
//!
//! The committer writes to the newest slice; readers open older ones on demand, and those that
//! nobody asked for in a while are closed again, so that what is kept costs nothing. A slice is
//! found from the time in an id: the one with the latest `first` that is not after it.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;

use super::engine::{Changes, Engine, EngineError, Values};
use super::layout::{self, Meta, SliceMeta, SliceRecord};
use crate::clock::Timestamp;
use crate::lock::locked;

/// How long a slice that nobody reads stays open.
const IDLE: Duration = Duration::from_secs(30);
/// Open slices beside the newest; each takes about 40 bytes for every item in it.
const OPEN_MAX: usize = 4;

pub struct Slices {
    directory: PathBuf,
    cache_bytes: u64,
    index: RwLock<BTreeMap<u32, SliceRecord>>,
    open: Mutex<HashMap<u32, Opened>>,
    /// Counts up.
    opened: Counter,
}

struct Opened {
    /// Its own lock, so that opening one slice does not hold up readers of the others.
    engine: Arc<Mutex<Option<Arc<Engine>>>>,
    used: Instant,
}

impl Slices {
    pub fn new(
        directory: PathBuf,
        cache_bytes: u64,
        index: BTreeMap<u32, SliceRecord>,
        opened: Counter,
    ) -> Slices {
        Slices {
            directory,
            cache_bytes,
            index: RwLock::new(index),
            open: Mutex::default(),
            opened,
        }
    }

    pub fn path(&self, number: u32) -> PathBuf {
        path_in(&self.directory, number)
    }

    /// All slices, oldest first.
    pub fn list(&self) -> Vec<(u32, SliceRecord)> {
        let index = locked(self.index.read());
        index
            .iter()
            .map(|(number, record)| (*number, record.clone()))
            .collect()
    }

    pub fn newest(&self) -> Option<(u32, SliceRecord)> {
        let index = locked(self.index.read());
        index
            .last_key_value()
            .map(|(number, record)| (*number, record.clone()))
    }

    /// The number of the oldest slice; 0 where there is none.
    pub fn oldest(&self) -> u32 {
        let index = locked(self.index.read());
        index.first_key_value().map_or(0, |(number, _)| *number)
    }

    pub fn contains(&self, number: u32) -> bool {
        locked(self.index.read()).contains_key(&number)
    }

    /// The slice that holds what has this time in its id.
    pub fn at(&self, time: Timestamp) -> Option<u32> {
        let index = locked(self.index.read());
        index
            .iter()
            .rev()
            .find(|(_, record)| record.first <= time)
            .map(|(number, _)| *number)
    }

    pub fn add(&self, number: u32, record: SliceRecord) {
        locked(self.index.write()).insert(number, record);
    }

    /// Opens a slice of the index, or creates it; an error where it is not there any more.
    pub fn get(&self, number: u32) -> Result<Arc<Engine>, EngineError> {
        let place = {
            let mut open = self.lock_open();
            let opened = open.entry(number).or_insert_with(|| Opened {
                engine: Arc::default(),
                used: Instant::now(),
            });
            opened.used = Instant::now();
            opened.engine.clone()
        };
        let mut engine = locked(place.lock());
        if let Some(engine) = &*engine {
            return Ok(engine.clone());
        }
        // Opening one that is being removed would make it anew.
        if !self.contains(number) {
            return Err(std::io::Error::from(std::io::ErrorKind::NotFound).into());
        }
        let opened = Arc::new(Engine::open(&self.path(number), self.cache_bytes)?);
        if let Some(sealed) = self.sealed(number) {
            let problem = layout::slice_problem(&opened, &sealed);
            if let Some(problem) = problem.unwrap_or_else(|error| Some(error.to_string())) {
                return Err(EngineError::Damaged(format!(
                    "slice {number} is damaged: {problem}"
                )));
            }
        }
        self.opened.inc();
        *engine = Some(opened.clone());
        Ok(opened)
    }

    #[cfg(test)]
    pub fn is_open(&self, number: u32) -> bool {
        let place = self.lock_open().get(&number).map(|one| one.engine.clone());
        place.is_some_and(|place| place.lock().is_ok_and(|engine| engine.is_some()))
    }

    pub(super) fn sealed(&self, number: u32) -> Option<SliceMeta> {
        let index = locked(self.index.read());
        index.get(&number)?.sealed.clone()
    }

    /// Closes what has not been used for a while, never the newest; called now and then. What
    /// somebody reads right now stays open: closed, it could not be opened until they are done.
    pub fn close_idle(&self) {
        self.close_unused(OPEN_MAX, IDLE);
    }

    pub(super) fn close_unused(&self, open_max: usize, idle: Duration) {
        let newest = self.newest().map(|(number, _)| number);
        let mut by_age: Vec<_> = {
            let open = self.lock_open();
            let old = open.iter().filter(|(number, _)| Some(**number) != newest);
            old.map(|(number, opened)| (opened.used, *number, opened.engine.clone()))
                .collect()
        };
        // One that is being opened right now is being used.
        by_age.retain(|(_, _, place)| place.try_lock().is_ok_and(|engine| engine.is_some()));
        by_age.sort_unstable_by_key(|(used, number, _)| (*used, *number));
        let too_many = by_age.len().saturating_sub(open_max);
        for (at, (used, _, place)) in by_age.into_iter().enumerate() {
            if at >= too_many && used.elapsed() <= idle {
                continue;
            }
            // Closed under the lock that who opens it waits for.
            if let Ok(mut engine) = place.try_lock()
                && engine
                    .as_ref()
                    .is_some_and(|engine| Arc::strong_count(engine) == 1)
            {
                *engine = None;
            }
        }
    }

    /// Forgets a slice and deletes its files. Its catalogue entry is gone already, durably.
    pub fn remove(&self, number: u32) -> std::io::Result<()> {
        locked(self.index.write()).remove(&number);
        let opened = self.lock_open().remove(&number);
        let place = opened.map(|opened| opened.engine).unwrap_or_default();
        // Who is opening it right now comes before, and who comes later finds that it is gone.
        let mut engine = locked(place.lock());
        *engine = None;
        match std::fs::remove_dir_all(self.path(number)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        super::engine::sync_directory(&self.directory)
    }

    /// What all slices take on disk, from the file system, so that none is opened for it.
    pub fn size_bytes(&self) -> u64 {
        let slices = self.list();
        slices
            .iter()
            .map(|(number, _)| directory_bytes(&self.path(*number)))
            .sum()
    }

    fn lock_open(&self) -> MutexGuard<'_, HashMap<u32, Opened>> {
        locked(self.open.lock())
    }
}

/// The directory of a slice's database.
pub fn path_in(slices: &Path, number: u32) -> PathBuf {
    slices.join(format!("{number:08}"))
}

/// Lets history go on in a new slice, once `changes` are committed: the newest is sealed at what it
/// has come to, and ids from `meta.last_time` on belong to the new one. Its files are made when it
/// is opened.
pub fn begin(
    live: &impl Values,
    slices: &Slices,
    meta: &mut Meta,
    changes: &mut Changes,
) -> Result<(u32, SliceRecord), EngineError> {
    let newest = slices.newest();
    let number = newest.as_ref().map_or(1, |(number, _)| number + 1);
    if let Some((newest, mut record)) = newest {
        record.sealed = Some(std::mem::take(&mut meta.slice));
        layout::replace(live, changes, &layout::slice_key(newest), &record)?;
        slices.add(newest, record);
    }
    let record = SliceRecord::beginning(layout::next_slice_first(meta.last_time));
    layout::put(changes, &layout::slice_key(number), &record, &[]);
    slices.add(number, record.clone());
    Ok((number, record))
}

/// The bytes of a directory's files.
pub fn directory_bytes(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else {
        return 0;
    };
    entries
        .filter_map(|entry| {
            let metadata = entry.ok()?.metadata().ok()?;
            Some(if metadata.is_file() {
                metadata.len()
            } else {
                0
            })
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn slices(directory: &Path, count: u32) -> Slices {
        let first = |number| (number, SliceRecord::beginning(Timestamp(u64::from(number))));
        let index = BTreeMap::from_iter((1..=count).map(first));
        let slices = Slices::new(directory.to_owned(), 1 << 20, index, Counter::default());
        for number in 1..=count {
            let mut changes = Changes::default();
            changes.put(b"number", number.to_be_bytes().to_vec());
            let engine = slices.get(number).expect("a new slice");
            engine.commit(changes).expect("room");
        }
        slices
    }

    #[test]
    fn what_is_being_read_is_not_closed() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let slices = slices(directory.path(), 3);
        let reader = slices.get(1).expect("it opens");
        slices.close_unused(0, Duration::ZERO);
        let again = slices.get(1).expect("it is open");
        assert!(Arc::ptr_eq(&reader, &again));
        assert_eq!(slices.opened.get(), 3, "none was opened twice");
        drop((reader, again));
        slices.close_unused(0, Duration::ZERO);
        slices.get(1).expect("it opens again");
        assert_eq!(slices.opened.get(), 4);
    }

    #[test]
    fn what_was_removed_is_not_made_anew_by_who_comes_late() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let slices = slices(directory.path(), 2);
        slices.remove(1).expect("it can be deleted");
        assert!(slices.get(1).is_err());
        assert!(!slices.path(1).exists());
    }

    /// Whoever reads while slices are closed all the time finds what is there.
    #[test]
    fn closing_and_reading_do_not_disturb_each_other() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let slices = slices(directory.path(), 4);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    slices.close_unused(0, Duration::ZERO);
                    std::thread::yield_now();
                }
            });
            let readers = (0..3).map(|reader| {
                let slices = &slices;
                scope.spawn(move || {
                    for round in 0..60 {
                        let number = (round + reader) % 4 + 1;
                        let engine = slices.get(number).map_err(|error| error.to_string());
                        let found = engine.expect("it opens").get(b"number");
                        let found = found.expect("it reads").expect("it is there");
                        assert_eq!(found.as_ref(), number.to_be_bytes());
                    }
                })
            });
            let read: Vec<_> = readers
                .collect::<Vec<_>>()
                .into_iter()
                .map(|one| one.join())
                .collect();
            done.store(true, Ordering::Relaxed);
            assert!(read.iter().all(Result::is_ok));
        });
    }
}
