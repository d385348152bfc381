//! Where history stands: a slice for each stretch of time, opened when it is asked for.
//!
//! The committer writes to the newest slice; readers open older ones on demand, and those that
//! nobody asked for in a while are closed again, so that what is kept costs nothing. A slice is
//! found from the time in an id: the one with the latest `first` that is not after it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;

use super::engine::{Changes, Engine, EngineError, Values};
use super::gap::Gaps;
use super::index::{IndexOf, OpenIndex};
use super::layout::{self, Meta, RecordError, SliceMeta, SliceRecord, Stretch};
use super::slice::{self, InJournal, Slice};
use crate::clock::Timestamp;
use crate::domain::id::{IDS_END, MessageId};
use crate::journal::Reader;
use crate::lock::locked;

/// How long a slice that nobody reads stays open.
const IDLE: Duration = Duration::from_secs(30);
/// Open slices beside the newest. A database takes some 40 bytes for every item in it, the file of an
/// index some 15 bytes for every 4 KiB of it.
const OPEN_MAX: usize = 8;

pub struct Slices {
    directory: PathBuf,
    cache_bytes: u64,
    journal: OfJournal,
    index: RwLock<BTreeMap<u32, SliceRecord>>,
    open: Mutex<HashMap<u32, Opened>>,
    /// Counts up.
    opened: Counter,
    removed: AtomicU64,
    /// Those whose index file was read as a whole since the start.
    looked_through: Mutex<HashSet<u32>>,
}

/// The journal that slices are stretches of.
pub struct OfJournal {
    pub stream: u64,
    pub reader: Reader,
}

/// Stretches of positions that history needs, in their order.
pub struct Stretches(Vec<Range<u64>>);

impl Stretches {
    /// Whether one of them has one of these positions.
    pub fn reach_into(&self, positions: Range<u64>) -> bool {
        let before = self.0.partition_point(|one| one.start < positions.end);
        let last = self.0[..before].last();
        last.is_some_and(|last| positions.start < last.end)
    }
}

struct Opened {
    /// Its own lock, so that opening one slice does not hold up readers of the others.
    slice: Arc<Mutex<Option<Arc<Slice>>>>,
    used: Instant,
}

impl Slices {
    pub fn new(
        directory: PathBuf,
        cache_bytes: u64,
        journal: OfJournal,
        index: BTreeMap<u32, SliceRecord>,
        opened: Counter,
    ) -> Slices {
        Slices {
            directory,
            cache_bytes,
            journal,
            index: RwLock::new(index),
            open: Mutex::default(),
            opened,
            removed: AtomicU64::new(0),
            looked_through: Mutex::default(),
        }
    }

    pub fn path(&self, number: u32) -> PathBuf {
        path_in(&self.directory, number)
    }

    pub fn reader(&self) -> &Reader {
        &self.journal.reader
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

    /// Whether the journal has what the slice has.
    pub fn is_of_journal(&self, number: u32) -> bool {
        let index = locked(self.index.read());
        index
            .get(&number)
            .is_some_and(|record| record.stretch.is_some())
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

    /// The slices that may have attempts for a message, oldest first. None is older than the message.
    pub fn with_attempts_of(&self, message: MessageId) -> Vec<u32> {
        let oldest = self.at(message.time()).unwrap_or_default();
        let index = locked(self.index.read());
        let may_have = |record: &SliceRecord| {
            let since = record.attempts_since;
            since.is_none_or(|since| since <= message)
        };
        let since = index.range(oldest..).filter(|(_, record)| may_have(record));
        since.map(|(number, _)| *number).collect()
    }

    fn add(&self, number: u32, record: SliceRecord) {
        locked(self.index.write()).insert(number, record);
    }

    /// Opens a slice; an error where it is not there any more.
    pub fn get(&self, number: u32) -> Result<Arc<Slice>, RecordError> {
        let place = self.place(number);
        let mut slice = locked(place.lock());
        if let Some(slice) = &*slice {
            return Ok(slice.clone());
        }
        // Opening one that is being removed would make it anew.
        let Some(record) = self.record(number) else {
            return Err(not_there());
        };
        let opened = Arc::new(match record.stretch {
            None => Slice::Database(self.open_database(number, record.sealed)?),
            Some(stretch) => Slice::Journal(self.open_stretch(number, stretch)?),
        });
        self.opened.inc();
        *slice = Some(opened.clone());
        Ok(opened)
    }

    fn open_database(
        &self,
        number: u32,
        sealed: Option<SliceMeta>,
    ) -> Result<Arc<Engine>, RecordError> {
        let path = self.path(number);
        // One that is missing is not made anew, but for one that nothing came into.
        if !path.is_dir() && sealed.as_ref().is_some_and(|sealed| sealed.bytes > 0) {
            return Err(
                EngineError::Damaged(format!("slice {number}: its files are missing")).into(),
            );
        }
        let opened = Arc::new(Engine::open(&path, self.cache_bytes)?);
        if let Some(sealed) = sealed {
            let problem = layout::slice_problem(&opened, &sealed);
            if let Some(problem) = problem.unwrap_or_else(|error| Some(error.to_string())) {
                let damage = format!("slice {number} is damaged: {problem}");
                return Err(EngineError::Damaged(damage).into());
            }
        }
        Ok(opened)
    }

    fn open_stretch(&self, number: u32, stretch: Stretch) -> Result<InJournal, RecordError> {
        let reader = &self.journal.reader;
        let Some(to) = stretch.to else {
            let (index, gaps) = slice::index_of(stretch, reader, self.gaps(number))?;
            return Ok(InJournal::open(
                stretch,
                Arc::new(index),
                gaps,
                reader.clone(),
            ));
        };
        let of = self.index_of(number, stretch, to);
        let path = self.index_path(number);
        // Once is enough: each block is held against its checksum whenever it is read.
        let is_new = !locked(self.looked_through.lock()).contains(&number);
        let open = |looks_through| {
            let gaps = self.gaps(number);
            InJournal::sealed(&path, &of, stretch, reader, gaps, looks_through)
        };
        let (opened, not_believed) = open(is_new)?;
        locked(self.looked_through.lock()).insert(number);
        if let Some(damage) = not_believed {
            log::warn!("the index of slice {number} is made again from the journal: {damage}");
        }
        // A file says that its index has everything.
        let made = opened.in_memory().filter(|_| opened.gaps().is_empty());
        let Some(made) = made else {
            return Ok(opened);
        };
        match self.write_index(number, made, &of) {
            Ok(()) => Ok(open(false)?.0),
            // Then it is in memory for as long as it is asked for.
            Err(error) => {
                log::warn!("the index of slice {number} cannot be written: {error}");
                Ok(opened)
            }
        }
    }

    /// The times that ids in a slice have: from the first to before the second.
    pub fn times(&self, number: u32) -> (Timestamp, Timestamp) {
        let index = locked(self.index.read());
        let first = |record: &SliceRecord| record.first;
        let begin = index.get(&number).map_or(Timestamp(0), first);
        let next = index.range(number + 1..).next();
        (begin, next.map_or(IDS_END, |(_, record)| record.first))
    }

    fn gaps(&self, number: u32) -> Gaps {
        let (begin, end) = self.times(number);
        Gaps::between(begin, end)
    }

    fn index_of(&self, number: u32, stretch: Stretch, to: u64) -> IndexOf {
        // A restored store has slices from before its stream.
        let stream = self.journal.reader.stream_at(stretch.from);
        IndexOf {
            stream: stream.unwrap_or(self.journal.stream),
            slice: number,
            from: stretch.from,
            to,
        }
    }

    fn index_path(&self, number: u32) -> PathBuf {
        self.path(number).join("index")
    }

    fn place(&self, number: u32) -> Arc<Mutex<Option<Arc<Slice>>>> {
        let mut open = self.lock_open();
        let opened = open.entry(number).or_insert_with(|| Opened {
            slice: Arc::default(),
            used: Instant::now(),
        });
        opened.used = Instant::now();
        opened.slice.clone()
    }

    /// Closes a slice that nobody reads, to be opened anew.
    pub fn close(&self, number: u32) {
        *locked(self.place(number).lock()) = None;
    }

    /// Takes in a slice that nothing came into yet.
    fn add_empty(&self, number: u32, record: SliceRecord, stretch: Stretch) {
        let index = Arc::new(OpenIndex::default());
        let slice = InJournal::open(stretch, index, Vec::new(), self.journal.reader.clone());
        *locked(self.place(number).lock()) = Some(Arc::new(Slice::Journal(slice)));
        self.add(number, record);
    }

    /// Makes the index file of a sealed slice whose index is in memory. It is read by it when it is
    /// opened next, which is what the caller does.
    pub fn keep_index(&self, number: u32) -> Result<(), RecordError> {
        let opened = self.get(number)?;
        let Slice::Journal(slice) = &*opened else {
            return Ok(());
        };
        if let Some(gap) = slice.gaps().first() {
            return Err(RecordError::Gap(gap.clone()));
        }
        let stretch = self.record(number).and_then(|record| record.stretch);
        let Some((index, stretch)) = slice.in_memory().zip(stretch) else {
            return Ok(());
        };
        let Some(to) = stretch.to else {
            return Ok(());
        };
        let written = self.write_index(number, index, &self.index_of(number, stretch, to));
        written.map_err(EngineError::from)?;
        let place = self.place(number);
        *locked(place.lock()) = None;
        Ok(())
    }

    fn write_index(&self, number: u32, index: &OpenIndex, of: &IndexOf) -> std::io::Result<()> {
        match std::fs::create_dir(self.path(number)) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
            _ => super::engine::sync_directory(&self.directory)?,
        }
        index.write(&self.index_path(number), of)
    }

    #[cfg(test)]
    pub fn is_open(&self, number: u32) -> bool {
        let place = self.lock_open().get(&number).map(|one| one.slice.clone());
        place.is_some_and(|place| place.lock().is_ok_and(|slice| slice.is_some()))
    }

    pub(super) fn sealed(&self, number: u32) -> Option<SliceMeta> {
        self.record(number)?.sealed
    }

    fn record(&self, number: u32) -> Option<SliceRecord> {
        locked(self.index.read()).get(&number).cloned()
    }

    /// The stretches of the journal that slices are.
    pub fn stretches(&self) -> Stretches {
        let index = locked(self.index.read());
        let stretches = index.values().filter_map(|record| record.stretch);
        let positions = stretches.map(|stretch| stretch.from..stretch.to.unwrap_or(u64::MAX));
        Stretches(positions.collect())
    }

    /// The open ones of which readers could not read something, with the first reason.
    pub fn unreadable(&self) -> Vec<(u32, String)> {
        let open = self.lock_open();
        let open = open.iter().filter_map(|(number, opened)| {
            // One that is being opened or closed right now is looked at the next time.
            let slice = opened.slice.try_lock().ok()?;
            let why = slice.as_ref()?.unreadable()?;
            Some((*number, why.to_owned()))
        });
        open.collect()
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
            old.map(|(number, opened)| (opened.used, *number, opened.slice.clone()))
                .collect()
        };
        // One that is being opened right now is being used.
        by_age.retain(|(_, _, place)| place.try_lock().is_ok_and(|slice| slice.is_some()));
        by_age.sort_unstable_by_key(|(used, number, _)| (*used, *number));
        let too_many = by_age.len().saturating_sub(open_max);
        for (at, (used, _, place)) in by_age.into_iter().enumerate() {
            if at >= too_many && used.elapsed() <= idle {
                continue;
            }
            // Closed under the lock that who opens it waits for.
            if let Ok(mut slice) = place.try_lock()
                && slice.as_ref().is_some_and(is_idle)
            {
                *slice = None;
            }
        }
    }

    /// Forgets a slice and deletes its files. Its catalogue entry is gone already, durably.
    pub fn remove(&self, number: u32) -> std::io::Result<()> {
        locked(self.index.write()).remove(&number);
        let opened = self.lock_open().remove(&number);
        let place = opened.map(|opened| opened.slice).unwrap_or_default();
        // Who is opening it right now comes before, and who comes later finds that it is gone.
        let mut slice = locked(place.lock());
        if let Some(slice) = slice.take() {
            slice.note_removed();
        }
        self.removed.fetch_add(1, Ordering::Relaxed);
        locked(self.looked_through.lock()).remove(&number);
        match std::fs::remove_dir_all(self.path(number)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        super::engine::sync_directory(&self.directory)
    }

    /// How many slices were removed since the start.
    pub fn removed_count(&self) -> u64 {
        self.removed.load(Ordering::Relaxed)
    }

    /// Bytes that the files of all slices take on disk, from the file system, so that none is opened for it.
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

/// Whether nobody reads it right now: a database that is being read could not be opened again until
/// they are done.
fn is_idle(slice: &Arc<Slice>) -> bool {
    let database = match &**slice {
        Slice::Database(engine) => Arc::strong_count(engine),
        Slice::Journal(_) => 1,
    };
    Arc::strong_count(slice) == 1 && database == 1
}

fn not_there() -> RecordError {
    EngineError::from(std::io::Error::from(std::io::ErrorKind::NotFound)).into()
}

/// The directory of a slice.
pub fn path_in(slices: &Path, number: u32) -> PathBuf {
    slices.join(format!("{number:08}"))
}

/// Lets history go on in a new slice, once `changes` are committed: the newest is sealed at what it
/// has come to, and ids from `meta.last_time` on belong to the new one. `next` is where the journal goes
/// on: its segment, and the position of the next record. `attempts_since` is the oldest message that an
/// attempt in the newest is for, where that is known.
pub fn begin(
    live: &impl Values,
    slices: &Slices,
    meta: &mut Meta,
    changes: &mut Changes,
    next: (u64, u64),
    attempts_since: Option<MessageId>,
) -> Result<(u32, SliceRecord), EngineError> {
    let (segment, position) = next;
    let newest = slices.newest();
    let number = newest.as_ref().map_or(1, |(number, _)| number + 1);
    if let Some((newest, mut record)) = newest {
        record.sealed = Some(std::mem::take(&mut meta.slice));
        record.attempts_since = attempts_since;
        if let Some(stretch) = &mut record.stretch {
            stretch.to = Some(position);
        }
        layout::replace(live, changes, &layout::slice_key(newest), &record)?;
        slices.add(newest, record);
    }
    let stretch = Stretch {
        segment,
        from: position,
        to: None,
    };
    let record = SliceRecord::beginning(layout::next_slice_first(meta.last_time), Some(stretch));
    layout::put(changes, &layout::slice_key(number), &record, &[]);
    slices.add_empty(number, record.clone(), stretch);
    Ok((number, record))
}

/// The bytes that a directory's files take on disk.
pub fn directory_bytes(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else {
        return 0;
    };
    entries
        .filter_map(|entry| {
            let metadata = entry.ok()?.metadata().ok()?;
            // In units of 512 bytes, whatever the file system's are; ends that were given back do not count.
            Some(if metadata.is_file() {
                metadata.blocks() * 512
            } else {
                0
            })
        })
        .sum()
}

#[cfg(test)]
mod tests;
