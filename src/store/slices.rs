//! Where history stands: a database for each stretch of time, opened when it is asked for.
//!
//! The committer writes to the newest slice; readers open older ones on demand, and those that
//! nobody asked for in a while are closed again, so that what is kept costs nothing. A slice is
//! found from the time in an id: the one with the latest `first` that is not after it.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::{Duration, Instant};

use super::engine::{Changes, Engine, EngineError};
use super::layout::{self, Meta, SliceMeta, SliceRecord};
use crate::clock::Timestamp;

/// How long a slice that nobody reads stays open.
const IDLE: Duration = Duration::from_secs(30);
/// Open slices beside the newest; each takes about 40 bytes for every item in it.
const OPEN_MAX: usize = 4;

pub struct Slices {
    directory: PathBuf,
    cache_bytes: u64,
    index: RwLock<BTreeMap<u32, SliceRecord>>,
    open: Mutex<HashMap<u32, Opened>>,
}

struct Opened {
    /// Its own lock, so that opening one slice does not hold up readers of the others.
    engine: Arc<Mutex<Option<Arc<Engine>>>>,
    used: Instant,
}

impl Slices {
    pub fn new(directory: PathBuf, cache_bytes: u64, index: BTreeMap<u32, SliceRecord>) -> Slices {
        Slices {
            directory,
            cache_bytes,
            index: RwLock::new(index),
            open: Mutex::default(),
        }
    }

    pub fn path(&self, number: u32) -> PathBuf {
        self.directory.join(format!("{number:08}"))
    }

    /// All slices, oldest first.
    pub fn list(&self) -> Vec<(u32, SliceRecord)> {
        let index = self.index.read().expect("no panic while it is held");
        index
            .iter()
            .map(|(number, record)| (*number, record.clone()))
            .collect()
    }

    pub fn newest(&self) -> Option<(u32, SliceRecord)> {
        let index = self.index.read().expect("no panic while it is held");
        index
            .last_key_value()
            .map(|(number, record)| (*number, record.clone()))
    }

    /// The number of the oldest slice; 0 where there is none.
    pub fn oldest(&self) -> u32 {
        let index = self.index.read().expect("no panic while it is held");
        index.first_key_value().map_or(0, |(number, _)| *number)
    }

    pub fn contains(&self, number: u32) -> bool {
        self.index
            .read()
            .expect("no panic while it is held")
            .contains_key(&number)
    }

    /// The slice that holds what has this time in its id.
    pub fn at(&self, time: Timestamp) -> Option<u32> {
        let index = self.index.read().expect("no panic while it is held");
        index
            .iter()
            .rev()
            .find(|(_, record)| record.first <= time)
            .map(|(number, _)| *number)
    }

    pub fn add(&self, number: u32, record: SliceRecord) {
        self.index
            .write()
            .expect("no panic while it is held")
            .insert(number, record);
    }

    /// Opens a slice, or creates it.
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
        let mut engine = place.lock().expect("no panic while it is held");
        if let Some(engine) = &*engine {
            return Ok(engine.clone());
        }
        let opened = Arc::new(open_again(&self.path(number), self.cache_bytes)?);
        if let Some(sealed) = self.sealed(number) {
            let problem = layout::slice_problem(&opened, &sealed);
            if let Some(problem) = problem.unwrap_or_else(|error| Some(error.to_string())) {
                return Err(EngineError::Damaged(format!(
                    "slice {number} is damaged: {problem}"
                )));
            }
        }
        *engine = Some(opened.clone());
        Ok(opened)
    }

    fn sealed(&self, number: u32) -> Option<SliceMeta> {
        let index = self.index.read().expect("no panic while it is held");
        index.get(&number)?.sealed.clone()
    }

    /// Closes what has not been used for a while, never the newest; called now and then.
    pub fn close_idle(&self) {
        let newest = self.newest().map(|(number, _)| number);
        let mut open = self.lock_open();
        let mut by_age: Vec<(Instant, u32)> = open
            .iter()
            .filter(|(number, _)| Some(**number) != newest)
            .map(|(number, opened)| (opened.used, *number))
            .collect();
        by_age.sort_unstable();
        let too_many = by_age.len().saturating_sub(OPEN_MAX);
        for (place, (used, number)) in by_age.into_iter().enumerate() {
            if place < too_many || used.elapsed() > IDLE {
                open.remove(&number);
            }
        }
    }

    /// Forgets a slice and deletes its files. Its catalogue entry is gone already, durably.
    pub fn remove(&self, number: u32) -> std::io::Result<()> {
        self.index
            .write()
            .expect("no panic while it is held")
            .remove(&number);
        self.lock_open().remove(&number);
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
        self.open.lock().expect("no panic while it is held")
    }
}

/// Lets history go on in a new slice, once `changes` are committed: the newest is sealed at what it
/// has come to, and ids from `meta.last_time` on belong to the new one. Its files are made when it
/// is opened.
pub fn begin(
    live: &Engine,
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

/// A database that was just closed may still be held by one of sled's own threads, which let go
/// within moments.
fn open_again(path: &Path, cache_bytes: u64) -> Result<Engine, EngineError> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match Engine::open(path, cache_bytes) {
            Err(EngineError::Busy) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            opened => return opened,
        }
    }
}

fn directory_bytes(path: &Path) -> u64 {
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
