//! Which idempotency keys and event ids a slice may hold, so that a request with one opens no slice
//! that has never seen it.
//!
//! A slice's keys stay as they are once it is sealed. A thread of its own then makes its *filter*
//! and writes it beside the slice's index, in the file `keys`: a Bloom filter in blocks of 64
//! bytes, of which a key concerns one. It takes 4.3 bytes a key, and is wrong about one key in some
//! 100,000, in the direction that costs time: then the slice is opened and does not have the key.
//!
//! Of the last day's slices the newest filters are in memory, as far as they fit into
//! [`MEMORY_MAX`]; of the others one block is read from the open file. So whoever sends millions of keys
//! takes no more memory than that, and costs all others the reading of 64 bytes for each older
//! slice of the day. A slice without a filter is opened, which is as right, and slow: what was just
//! sealed is still open then, and after an update the filters are made anew in the background. The same
//! thread first makes the slice's index file, where it has none.
//!
//! Where a slice cannot be read, its filter still tells of nearly all keys that they are not in it, and
//! requests with these go on. Without one, nobody can tell of any key: all are refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use sha2::Digest;

use super::engine::{self, EngineError};
use super::layout::RecordError;
use super::slice::Slice;
use super::{EVENT_ID_UNIQUE, EventKeys, Inner, Store};
use crate::lock::locked;
use crate::watched;

/// Bytes that the filters in memory may take.
const MEMORY_MAX: usize = 64 << 20;

/// How many files of filters are kept open.
const OPEN_MAX: usize = 128;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Where the disk is full or descriptors have run out.
const SHORT_OF_PAUSE: Duration = Duration::from_secs(60);

const FILE_NAME: &str = "keys";
const MAGIC: &[u8; 8] = b"PRKEYS\x00\x01";

type Block = [u8; BLOCK_BYTES];
const BLOCK_BYTES: usize = 64;
/// A block begins with the checksum of its bits.
const CRC_BYTES: usize = 4;
const BLOCK_BITS: usize = (BLOCK_BYTES - CRC_BYTES) * 8;
const KEYS_PER_BLOCK: usize = BLOCK_BITS / 32;

/// A key as the filters know it.
#[derive(Clone, Copy)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    pub fn of(key: &[u8]) -> KeyHash {
        KeyHash(sha2::Sha256::digest(key).into())
    }

    fn block(&self, blocks: usize) -> usize {
        let (first, _) = self.0.split_at(8);
        let number = first
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte));
        (number % blocks as u64) as usize
    }

    /// Twelve bits of its block.
    fn bits(&self) -> impl Iterator<Item = usize> {
        let pairs = self.0[8..].chunks_exact(2);
        pairs.map(|pair| usize::from(u16::from_be_bytes([pair[0], pair[1]])) % BLOCK_BITS)
    }
}

/// A sealed slice's filter.
pub struct Filter {
    blocks: Vec<Block>,
}

impl Filter {
    fn with_room_for(keys: usize) -> Filter {
        let blocks = keys.div_ceil(KEYS_PER_BLOCK).max(1);
        Filter {
            blocks: vec![[0; BLOCK_BYTES]; blocks],
        }
    }

    fn add(&mut self, key: KeyHash) {
        let place = key.block(self.blocks.len());
        let bits = &mut self.blocks[place][CRC_BYTES..];
        key.bits().for_each(|bit| bits[bit / 8] |= 1 << (bit % 8));
    }

    pub fn may_hold(&self, key: KeyHash) -> bool {
        holds(&self.blocks[key.block(self.blocks.len())], key)
    }

    fn bytes(&self) -> usize {
        self.blocks.len() * BLOCK_BYTES
    }

    /// Makes the filter of a sealed slice; nothing where `stop` says so.
    fn of(slice: &Slice, stop: impl Fn() -> bool) -> Result<Option<Filter>, RecordError> {
        let mut count = 0;
        if !slice.each_unique_key(&stop, |_| count += 1)? {
            return Ok(None);
        }
        let mut filter = Filter::with_room_for(count);
        if !slice.each_unique_key(&stop, |key| filter.add(KeyHash::of(key)))? {
            return Ok(None);
        }
        for block in &mut filter.blocks {
            let crc = crc32fast::hash(&block[CRC_BYTES..]);
            block[..CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
        }
        Ok(Some(filter))
    }

    /// Writes it to its slice's directory, whole or not at all.
    fn write(&self, slice: &Path, sealed_at: u64) -> std::io::Result<()> {
        let temporary = slice.join("keys.new");
        let mut file = File::create(&temporary)?;
        file.write_all(&header(sealed_at, self.blocks.len()))?;
        file.write_all(self.blocks.as_flattened())?;
        file.sync_all()?;
        std::fs::rename(&temporary, slice.join(FILE_NAME))?;
        engine::sync_directory(slice)
    }

    /// Reads the filter of a slice that was sealed at this commit; nothing where there is none, or
    /// none that is whole.
    pub fn read(slice: &Path, sealed_at: u64) -> Option<Filter> {
        let bytes = std::fs::read(slice.join(FILE_NAME)).ok()?;
        let (first, blocks) = bytes.split_at_checked(BLOCK_BYTES)?;
        let (blocks, []) = blocks.as_chunks::<BLOCK_BYTES>() else {
            return None;
        };
        let whole = first == header(sealed_at, blocks.len()) && blocks.iter().all(is_whole);
        let filter = || Filter {
            blocks: blocks.to_vec(),
        };
        (whole && !blocks.is_empty()).then(filter)
    }
}

fn header(sealed_at: u64, blocks: usize) -> Block {
    let mut header = [0; BLOCK_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..16].copy_from_slice(&sealed_at.to_le_bytes());
    header[16..24].copy_from_slice(&(blocks as u64).to_le_bytes());
    header
}

fn is_whole(block: &Block) -> bool {
    let (crc, bits) = block.split_at(CRC_BYTES);
    crc == crc32fast::hash(bits).to_le_bytes()
}

fn holds(block: &Block, key: KeyHash) -> bool {
    let bits = &block[CRC_BYTES..];
    key.bits().all(|bit| bits[bit / 8] & (1 << (bit % 8)) != 0)
}

/// Where the filter of a slice's keys is.
enum Known {
    Memory(Filter),
    /// Its file is whole and has this many blocks.
    File(usize),
    /// The same of a slice that is looked into often.
    OpenFile(Arc<FilterFile>),
}

/// A filter's file. Of the last day's slices they are kept open: opening one for each look costs more than twice as
/// much as reading the block.
struct FilterFile {
    file: File,
    blocks: usize,
}

impl FilterFile {
    fn open(slice: &Path, blocks: usize) -> std::io::Result<Arc<FilterFile>> {
        let file = File::open(slice.join(FILE_NAME))?;
        Ok(Arc::new(FilterFile { file, blocks }))
    }

    /// None where the file does not tell.
    fn may_hold(&self, key: KeyHash) -> Option<bool> {
        let mut block = [0; BLOCK_BYTES];
        let at = (1 + key.block(self.blocks)) * BLOCK_BYTES;
        self.file.read_exact_at(&mut block, at as u64).ok()?;
        is_whole(&block).then(|| holds(&block, key))
    }
}

#[derive(Default)]
pub struct Filters {
    known: RwLock<BTreeMap<u32, Known>>,
}

impl Filters {
    /// Whether the slice may hold one of the keys, by what is in memory. None where that does not tell.
    fn by_memory(&self, slice: u32, keys: &[KeyHash]) -> Option<bool> {
        let known = locked(self.known.read());
        match known.get(&slice) {
            Some(Known::Memory(filter)) => Some(keys.iter().any(|key| filter.may_hold(*key))),
            _ => None,
        }
    }

    /// Whether the slice, whose directory this is, may hold one of the keys. Blocks on the disk.
    fn may_hold(&self, slice: u32, keys: &[KeyHash], directory: &Path) -> bool {
        let known = locked(self.known.read());
        let file = match known.get(&slice) {
            Some(Known::Memory(filter)) => return keys.iter().any(|key| filter.may_hold(*key)),
            Some(Known::File(blocks)) => Err(*blocks),
            Some(Known::OpenFile(file)) => Ok(file.clone()),
            None => return true,
        };
        drop(known);
        let file = file.or_else(|blocks| FilterFile::open(directory, blocks));
        let Ok(file) = file else { return true };
        keys.iter().any(|key| file.may_hold(*key).unwrap_or(true))
    }

    fn is_known(&self, slice: u32) -> bool {
        let known = locked(self.known.read());
        known.contains_key(&slice)
    }

    /// Takes in a filter, of which the file is there. Those of slices before `recent` do not stay
    /// in memory or open, nor do the oldest in memory where it is too much in all. `directory` is that of a slice
    /// that there is.
    fn take_in(
        &self,
        slice: u32,
        filter: Filter,
        recent: u32,
        directory: impl Fn(u32) -> Option<PathBuf>,
    ) {
        let mut all = locked(self.known.write());
        all.insert(slice, Known::Memory(filter));
        all.retain(|slice, _| directory(*slice).is_some());
        let mut left = MEMORY_MAX;
        let mut closed = Vec::new();
        for (slice, known) in all.iter_mut().rev() {
            let blocks = match known {
                Known::Memory(filter) => match left.checked_sub(filter.bytes()) {
                    Some(rest) if *slice >= recent => {
                        left = rest;
                        continue;
                    }
                    _ => filter.blocks.len(),
                },
                Known::OpenFile(file) if *slice < recent => file.blocks,
                Known::OpenFile(_) | Known::File(_) => continue,
            };
            *known = Known::File(blocks);
            closed.push((*slice, blocks));
        }
        let open = all.values().filter(|one| matches!(one, Known::OpenFile(_)));
        let room = OPEN_MAX.saturating_sub(open.count());
        // Requests wait for the lock, and must not wait for the disk.
        drop(all);
        closed.retain(|(slice, _)| *slice >= recent);
        for (slice, blocks) in closed.into_iter().take(room) {
            // Where it cannot be opened now, each look opens it.
            let opened = directory(slice).and_then(|path| FilterFile::open(&path, blocks).ok());
            if let Some(file) = opened
                && let Some(known) = locked(self.known.write()).get_mut(&slice)
            {
                *known = Known::OpenFile(file);
            }
        }
    }
}

impl Inner {
    /// Those of the slices that may hold one of the keys, by what is in memory.
    pub(super) fn may_hold(&self, slices: Range<u32>, keys: &[KeyHash]) -> Vec<u32> {
        let may = |slice: &u32| {
            self.slices.contains(*slice) && self.filters.by_memory(*slice, keys).unwrap_or(true)
        };
        slices.filter(may).collect()
    }

    /// The same for an event id.
    pub(super) fn may_hold_event(&self, slices: Range<u32>, event: &EventKeys) -> Vec<u32> {
        let may = |slice: &u32| {
            let keys = self.event_hashes(*slice, event);
            self.slices.contains(*slice) && self.filters.by_memory(*slice, keys).unwrap_or(true)
        };
        slices.filter(may).collect()
    }

    /// The keys that an event id may stand under in the slice.
    pub(super) fn event_hashes<'a>(&self, slice: u32, event: &'a EventKeys) -> &'a [KeyHash] {
        match self.slices.is_of_journal(slice) {
            // Since before the journal it is written down in one way.
            true => &event.hashes[..1],
            false => &event.hashes,
        }
    }

    /// The slice, opened, if it may hold one of the keys. Blocks on the disk.
    pub(super) fn slice_with(
        &self,
        number: u32,
        keys: &[KeyHash],
    ) -> Result<Option<Arc<Slice>>, RecordError> {
        if !self
            .filters
            .may_hold(number, keys, &self.slices.path(number))
        {
            return Ok(None);
        }
        let opened = self.slice(number);
        let is_damaged = match &opened {
            Ok(slice) => slice.as_ref().is_some_and(|slice| !slice.gaps().is_empty()),
            Err(error) => !error.passes(),
        };
        // The file may be whole, and only not in memory yet.
        match is_damaged && self.is_ruled_out_by_file(number, keys) {
            true => Ok(None),
            false => opened,
        }
    }

    fn is_ruled_out_by_file(&self, number: u32, keys: &[KeyHash]) -> bool {
        let sealed = self.slices.sealed(number);
        let filter =
            sealed.and_then(|sealed| Filter::read(&self.slices.path(number), sealed.commit));
        filter.is_some_and(|filter| !keys.iter().any(|key| filter.may_hold(*key)))
    }
}

impl Store {
    /// Every slice that is written no more has its filter.
    pub fn filters_are_ready(&self) -> bool {
        next_without(&self.inner, &BTreeSet::new()).is_none()
    }
}

/// Gives every sealed slice its filter, the newest first, until the store is closed.
pub fn run(inner: &Inner) {
    // Damaged: tried again at the next start.
    let mut given_up = BTreeSet::new();
    loop {
        let mut pause = LOOK_EVERY;
        while let Some((number, sealed_at)) = next_without(inner, &given_up) {
            let path = inner.slices.path(number);
            let filter = match Filter::read(&path, sealed_at) {
                Some(filter) => Ok(Some(filter)),
                None => {
                    let began = Instant::now();
                    let made = make(inner, number, &path, sealed_at);
                    // Never more than half of a core's time.
                    pause = pause.max(began.elapsed());
                    made
                }
            };
            match filter {
                Ok(Some(filter)) => {
                    let recent = inner.slices_within(EVENT_ID_UNIQUE).0;
                    let slices = &inner.slices;
                    let directory = |number| slices.contains(number).then(|| slices.path(number));
                    inner.filters.take_in(number, filter, recent, directory);
                }
                Ok(None) if *inner.closed.borrow() => return,
                // It was dropped meanwhile.
                Ok(None) => {}
                Err(_) if !inner.slices.contains(number) => {}
                Err(RecordError::Engine(EngineError::Busy)) => break,
                Err(error) if error.passes() => {
                    log::warn!(
                        "the keys of slice {number} cannot be noted just now, and requests with an \
                         idempotency key or an event id are slow until then: {error}"
                    );
                    watched::note_error(error);
                    pause = SHORT_OF_PAUSE;
                    break;
                }
                Err(error) => {
                    inner.note_unreadable_slice(number, &error.to_string());
                    watched::note_error(format_args!("slice {number}: {error}"));
                    given_up.insert(number);
                }
            }
            if pause > LOOK_EVERY {
                break;
            }
        }
        if inner.sleep(pause) {
            return;
        }
    }
}

/// The newest sealed slice that has no filter, and the commit that it was sealed at.
fn next_without(inner: &Inner, given_up: &BTreeSet<u32>) -> Option<(u32, u64)> {
    let slices = inner.slices.list();
    let sealed = slices
        .into_iter()
        .rev()
        .filter_map(|(number, record)| Some((number, record.sealed?.commit)));
    let mut without =
        sealed.filter(|(number, _)| !inner.filters.is_known(*number) && !given_up.contains(number));
    without.next()
}

fn make(
    inner: &Inner,
    number: u32,
    path: &Path,
    sealed_at: u64,
) -> Result<Option<Filter>, RecordError> {
    if !inner.slices.contains(number) {
        return Ok(None);
    }
    inner.slices.keep_index(number)?;
    let Some(slice) = inner.slice(number)? else {
        return Ok(None);
    };
    let filter = Filter::of(&slice, || *inner.closed.borrow())?;
    if let Some(filter) = &filter {
        filter.write(path, sealed_at).map_err(EngineError::from)?;
    }
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::engine::{Changes, Engine};
    use crate::store::layout::golden::assert_bytes;

    fn key(kind: u8, number: u32) -> Vec<u8> {
        [&[kind][..], &[7; 28], &number.to_be_bytes()].concat()
    }

    /// A filter of another version that were read wrongly would let a key be used twice.
    #[test]
    fn the_file_is_as_it_was_first_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("slice");
        let slice = Engine::open(&path, 1 << 20).unwrap();
        let mut changes = Changes::default();
        changes.put(&key(b'E', 1), vec![1]);
        slice.commit(changes).unwrap();
        let slice = Slice::Database(Arc::new(slice));
        let filter = Filter::of(&slice, || false).unwrap().expect("it is made");
        filter.write(&path, 258).unwrap();
        let file = std::fs::read(path.join(FILE_NAME)).unwrap();
        let pinned = "
            50524b4559530001 0201000000000000 0100000000000000 00*40
            95794895 0040008800400000000000020880 00*12 08 00*15 0804 00*9 80000000800000";
        assert_bytes("the file 'keys'", pinned, &file);
    }

    #[test]
    fn a_filter_knows_every_key_and_few_others_and_is_not_believed_when_damaged() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("slice");
        let slice = Engine::open(&path, 1 << 20).unwrap();
        let mut changes = Changes::default();
        for number in 0..20_000 {
            let kind = if number % 2 == 0 { b'E' } else { b'I' };
            changes.put(&key(kind, number), vec![1]);
        }
        changes.put(b"Mother", vec![1]);
        slice.commit(changes).unwrap();
        let slice = Slice::Database(Arc::new(slice));
        assert!(Filter::of(&slice, || true).unwrap().is_none());
        // It is asked all the while: 20 times for each of the two looks.
        let asked = std::cell::Cell::new(0);
        let stop = || asked.replace(asked.get() + 1) == 30;
        assert!(Filter::of(&slice, stop).unwrap().is_none());
        let filter = Filter::of(&slice, || false).unwrap().expect("it is made");
        assert!(filter.bytes() < 20_000 * 9 / 2, "{}", filter.bytes());
        filter.write(&path, 9).unwrap();
        assert!(Filter::read(&path, 8).is_none(), "of another state");
        let read = Filter::read(&path, 9).expect("it is there");
        for number in 0..20_000 {
            let kind = if number % 2 == 0 { b'E' } else { b'I' };
            assert!(read.may_hold(KeyHash::of(&key(kind, number))), "{number}");
        }
        let wrong = (20_000..220_000).filter(|n| read.may_hold(KeyHash::of(&key(b'I', *n))));
        assert!(wrong.count() <= 10);
        let file = path.join(FILE_NAME);
        let whole = std::fs::read(&file).unwrap();
        for at in [3, 20, 63, 64, 70, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&file, bytes).unwrap();
            assert!(Filter::read(&path, 9).is_none(), "byte {at}");
        }
        std::fs::write(&file, &whole[..whole.len() - BLOCK_BYTES]).unwrap();
        assert!(Filter::read(&path, 9).is_none());
    }

    /// What cannot be told apart from what was accepted is refused, and nothing else.
    #[actix_web::test]
    async fn a_damaged_slice_refuses_only_keys_that_it_may_have() {
        use crate::clock::{Clock, Timestamp};
        use crate::error::Error;
        use crate::store::tests::{message_to, opened_with, register};
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp(1_700_000_000_000));
        let store = opened_with(&directory.path().join("data"), clock.clone());
        let inner = &store.inner;
        register(&store).await;
        let publish = async |event_id: Option<&str>| {
            let mut message = message_to(Vec::new());
            message.event_id = event_id.map(str::to_owned);
            store.accept_message(message).await.map(|_| ())
        };
        publish(Some("old")).await.unwrap();
        clock.advance_to(clock.now() + inner.settings.slice_age);
        publish(None).await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while !store.filters_are_ready() || inner.slices.is_open(1) {
            assert!(Instant::now() < deadline);
            inner.slices.close_unused(0, Duration::ZERO);
            tokio::task::yield_now().await;
        }
        let path = inner.slices.path(1);
        // Neither its index nor what that could be made of.
        std::fs::remove_file(path.join("index")).unwrap();
        crate::store::tests::damage_segments(&inner.settings.path);
        assert_eq!(store.unreadable_slices(), []);
        for _ in 0..2 {
            publish(None).await.unwrap();
            let refused = publish(Some("old")).await;
            assert!(
                matches!(refused, Err(Error::Unreadable { .. })),
                "{refused:?}"
            );
            assert_eq!(store.unreadable_slices().len(), 1);
            assert_eq!(inner.metrics.store_problems.get(), 1);
        }
        publish(Some("new")).await.unwrap();
        // The same where the filter is only in its file.
        let other = [KeyHash::of(b"other")];
        inner.filters.known.write().unwrap().clear();
        assert!(inner.slice_with(1, &other).unwrap().is_none());
        // Without it nobody knows.
        std::fs::remove_file(path.join(FILE_NAME)).unwrap();
        inner.filters.known.write().unwrap().clear();
        let slice = inner.slice_with(1, &other).unwrap().expect("it is asked");
        assert!(!slice.gaps().is_empty());
        let refused = publish(Some("another")).await;
        assert!(
            matches!(refused, Err(Error::Unreadable { .. })),
            "{refused:?}"
        );
        publish(None).await.unwrap();
        assert_eq!(inner.metrics.store_problems.get(), 1);
        store.close().unwrap();
    }

    #[test]
    fn a_shortage_passes_and_damage_does_not() {
        let of = |code| EngineError::from(std::io::Error::from_raw_os_error(code));
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOSPC, libc::EDQUOT] {
            let error = of(code);
            assert!(error.passes(), "{error}");
        }
        for error in [of(libc::EIO), EngineError::Damaged("on purpose".to_owned())] {
            assert!(!error.passes(), "{error}");
        }
    }

    fn is_open(filters: &Filters, slice: u32) -> bool {
        let known = locked(filters.known.read());
        matches!(known.get(&slice), Some(Known::OpenFile(_)))
    }

    #[test]
    fn only_so_much_of_filters_is_in_memory_the_newest_of_it() {
        let filters = Filters::default();
        let keys = MEMORY_MAX / 3 / BLOCK_BYTES * KEYS_PER_BLOCK;
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(FILE_NAME), "").unwrap();
        let path = |slice| (slice > 1).then(|| directory.path().to_owned());
        for slice in 1..=5 {
            filters.take_in(slice, Filter::with_room_for(keys), 2, path);
        }
        let in_memory = |slice| filters.by_memory(slice, &[KeyHash::of(b"I")]).is_some();
        assert_eq!(
            [1, 2, 3, 4, 5].map(in_memory),
            [false, false, true, true, true]
        );
        assert_eq!(
            [1, 2, 3].map(|slice| filters.is_known(slice)),
            [false, true, true]
        );
        assert_eq!(
            [1, 2, 3].map(|slice| is_open(&filters, slice)),
            [false, true, false]
        );
        filters.take_in(6, Filter::with_room_for(1), 6, path);
        assert!((1..=6).all(|slice| !is_open(&filters, slice)));
        assert_eq!([4, 5, 6].map(in_memory), [false, false, true]);
    }
}
