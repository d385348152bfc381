//! The live database with what was committed lately on top of it.
//!
//! The committer puts durable changes into an ordered map in memory, the *overlay*, where readers find
//! them at once. Now and then a checkpoint takes the overlay aside, moves it into the database in the
//! order of its keys, and drops it once that is on disk (see `checkpoint`). A delivery that is accepted
//! and delivered between two checkpoints never touches the database: its put and its delete cancel out.
//!
//! Readers look into the overlay, then into the one that is being moved, then into the database. A
//! range keeps hold of both from its beginning: what is moved and dropped while it goes on is not
//! missed. It is no snapshot; a change that is made meanwhile may be seen or not.

use std::collections::{BTreeMap, VecDeque};
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};

use super::engine::{self, Bytes, Changes, Engine, EngineError, Values};
use crate::lock::locked;

/// Memory that an entry takes beside its key and value, roughly.
const ENTRY_BYTES: usize = 100;
/// Bytes that a deleted key counts as: ranges walk over it again and again until the next checkpoint.
const TOMBSTONE_BYTES: usize = 900;
/// How many entries of an overlay a range takes at a time.
const STRETCH: usize = 32;

/// Changes between two checkpoints, each key with its newest value; none where it was deleted.
#[derive(Default)]
struct Overlay {
    entries: RwLock<BTreeMap<Vec<u8>, Entry>>,
    /// Of keys and values together, with what the map takes for each.
    bytes: AtomicUsize,
}

struct Entry {
    value: Option<Bytes>,
    /// Neither the database nor an older overlay has the key.
    is_new: bool,
}

impl Overlay {
    fn get(&self, key: &[u8]) -> Option<Option<Bytes>> {
        let entries = locked(self.entries.read());
        entries.get(key).map(|entry| entry.value.clone())
    }

    /// The first entries between two bounds.
    fn stretch(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> VecDeque<(Vec<u8>, Option<Bytes>)> {
        let entries = locked(self.entries.read());
        let range = entries.range::<[u8], _>((from, to)).take(STRETCH);
        range
            .map(|(key, entry)| (key.clone(), entry.value.clone()))
            .collect()
    }
}

#[derive(Clone)]
struct Overlays {
    newest: Arc<Overlay>,
    /// The one that a checkpoint is moving into the database.
    moving: Option<Arc<Overlay>>,
}

pub struct Live {
    engine: Arc<Engine>,
    overlays: RwLock<Overlays>,
}

impl Live {
    pub fn new(engine: Engine) -> Live {
        Live {
            engine: Arc::new(engine),
            overlays: RwLock::new(Overlays {
                newest: Arc::default(),
                moving: None,
            }),
        }
    }

    /// The database alone, without what was committed lately.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    pub fn contains(&self, key: &[u8]) -> Result<bool, EngineError> {
        Ok(self.get(key)?.is_some())
    }

    /// Keys and values between two bounds, in order.
    pub fn range(&self, from: Bound<Vec<u8>>, to: Bound<Vec<u8>>) -> Range {
        let overlays = self.overlays();
        // The overlays first: what leaves them is in the database by then.
        let overlays = [Some(overlays.newest), overlays.moving];
        let overlays = overlays.into_iter().flatten();
        Range {
            overlays: overlays
                .map(|overlay| Cursor {
                    overlay,
                    from: from.clone(),
                    to: to.clone(),
                    stretch: VecDeque::new(),
                    is_over: false,
                })
                .collect(),
            stored: self.engine.range(from, to).peekable(),
        }
    }

    /// Everything whose key starts with `prefix`.
    pub fn prefix(&self, prefix: &[u8]) -> Range {
        let end = super::layout::end_of(prefix);
        let to = match end.is_empty() {
            true => Bound::Unbounded,
            false => Bound::Excluded(end),
        };
        self.range(Bound::Included(prefix.to_vec()), to)
    }

    /// Shows changes that are durable. Only one thread at a time makes changes, and only it takes
    /// overlays aside.
    pub fn apply(&self, changes: Changes, is_new: impl Fn(&[u8]) -> bool) {
        let overlay = self.overlays().newest;
        let mut entries = locked(overlay.entries.write());
        let mut bytes = overlay.bytes.load(Ordering::Relaxed);
        for (key, value) in changes.into_entries() {
            let before = entries.get(&key);
            bytes -= before.map_or(0, |before| cost(&key, before.value.as_ref()));
            let is_new = match before {
                Some(before) => before.is_new,
                None => value.is_some() && is_new(&key),
            };
            if value.is_none() && is_new {
                entries.remove(&key);
                continue;
            }
            let value = value.map(Bytes::from);
            bytes += cost(&key, value.as_ref());
            entries.insert(key, Entry { value, is_new });
        }
        overlay.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Memory that the overlay takes in which changes are collected now.
    pub fn overlay_bytes(&self) -> usize {
        self.overlays().newest.bytes.load(Ordering::Relaxed)
    }

    /// Takes the overlay aside for [`Live::move_aside_into_engine`]; changes go into a new one from now on.
    ///
    /// # Panics
    /// If the one before was not dropped yet.
    pub fn take_aside(&self) {
        let mut overlays = locked(self.overlays.write());
        assert!(overlays.moving.is_none(), "one overlay is moved at a time");
        overlays.moving = Some(std::mem::take(&mut overlays.newest));
    }

    /// Makes the changes that were taken aside in the database, in the order of their keys; they are on
    /// disk after its next flush. `step` is called before each.
    pub fn move_aside_into_engine(&self, step: impl Fn()) -> Result<(), EngineError> {
        let Some(moving) = self.overlays().moving else {
            return Ok(());
        };
        // Nobody changes it any more.
        for (key, entry) in locked(moving.entries.read()).iter() {
            step();
            match &entry.value {
                Some(value) => self.engine.put(key, value)?,
                None => self.engine.delete(key)?,
            }
        }
        Ok(())
    }

    /// Forgets the overlay that was taken aside: the database has it all, on disk.
    pub fn drop_aside(&self) {
        let moved = locked(self.overlays.write()).moving.take();
        // Its memory is given back without the lock.
        drop(moved);
    }

    fn overlays(&self) -> Overlays {
        locked(self.overlays.read()).clone()
    }
}

fn cost(key: &[u8], value: Option<&Bytes>) -> usize {
    key.len() + value.map_or(TOMBSTONE_BYTES, |value| value.len()) + ENTRY_BYTES
}

impl Values for Live {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let overlays = self.overlays();
        let newest = overlays.newest.get(key);
        let found = newest.or_else(|| overlays.moving?.get(key));
        match found {
            Some(value) => Ok(value),
            None => self.engine.get(key),
        }
    }
}

/// A way through one overlay.
struct Cursor {
    overlay: Arc<Overlay>,
    /// Behind the last entry that was read.
    from: Bound<Vec<u8>>,
    to: Bound<Vec<u8>>,
    stretch: VecDeque<(Vec<u8>, Option<Bytes>)>,
    /// There was nothing behind `from`.
    is_over: bool,
}

impl Cursor {
    /// Reads on where nothing is left of the last stretch.
    fn fill(&mut self) {
        if self.stretch.is_empty() && !self.is_over && !is_empty(&self.from, &self.to) {
            let (from, to) = (as_slice(&self.from), as_slice(&self.to));
            self.stretch = self.overlay.stretch(from, to);
            self.is_over = self.stretch.len() < STRETCH;
            if let Some((last, _)) = self.stretch.back() {
                self.from = Bound::Excluded(last.clone());
            }
        }
    }

    /// The key of the next entry, of a cursor that is filled.
    fn key(&self) -> Option<&[u8]> {
        self.stretch.front().map(|(key, _)| key.as_slice())
    }
}

fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    match bound {
        Bound::Included(key) => Bound::Included(key),
        Bound::Excluded(key) => Bound::Excluded(key),
        Bound::Unbounded => Bound::Unbounded,
    }
}

/// Whether no key lies between the bounds; the map panics for such.
fn is_empty(from: &Bound<Vec<u8>>, to: &Bound<Vec<u8>>) -> bool {
    match (from, to) {
        (Bound::Excluded(from), Bound::Excluded(to) | Bound::Included(to))
        | (Bound::Included(from), Bound::Excluded(to)) => from >= to,
        (Bound::Included(from), Bound::Included(to)) => from > to,
        _ => false,
    }
}

pub struct Range {
    /// The newest first.
    overlays: Vec<Cursor>,
    stored: Peekable<engine::Range>,
}

impl Iterator for Range {
    type Item = Result<(Bytes, Bytes), EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Range { overlays, stored } = self;
            overlays.iter_mut().for_each(Cursor::fill);
            let filled = overlays.iter_mut().filter(|one| one.key().is_some());
            // Of equal keys the first, which has the newest value.
            let first = filled.min_by(|one, other| one.key().cmp(&other.key()));
            let Some(first) = first else {
                return stored.next();
            };
            match stored.peek() {
                Some(Err(_)) => return stored.next(),
                Some(Ok((key, _))) if Some(key.as_ref()) < first.key() => return stored.next(),
                Some(Ok((key, _))) if Some(key.as_ref()) == first.key() => drop(stored.next()),
                _ => {}
            }
            let (key, value) = first.stretch.pop_front()?;
            for older in overlays.iter_mut() {
                if older.key() == Some(key.as_slice()) {
                    older.stretch.pop_front();
                }
            }
            if let Some(value) = value {
                return Some(Ok((key.into(), value)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use rand::rngs::StdRng;
    use rand::seq::IndexedRandom;
    use rand::{Rng, SeedableRng};

    use super::*;

    type Model = BTreeMap<Vec<u8>, Vec<u8>>;

    fn live() -> (tempfile::TempDir, Live) {
        let directory = tempfile::tempdir().unwrap();
        let engine = Engine::open(&directory.path().join("live"), 1 << 20).unwrap();
        (directory, Live::new(engine))
    }

    /// Keys that begin with `q` are never put twice without a delete in between.
    fn is_new(key: &[u8]) -> bool {
        key[0] == b'q'
    }

    fn key(random: &mut StdRng) -> Vec<u8> {
        let kind = *b"aqz".choose(random).unwrap();
        let number = random.random_range(0..60_u8);
        match random.random() {
            true => vec![kind, number],
            false => vec![kind, number, 0],
        }
    }

    fn read(range: Range) -> Vec<(Vec<u8>, Vec<u8>)> {
        let items = range.map(|item| item.unwrap());
        items
            .map(|(key, value)| (key.to_vec(), value.to_vec()))
            .collect()
    }

    fn bound(random: &mut StdRng) -> Bound<Vec<u8>> {
        match random.random_range(0..5) {
            0 => Bound::Unbounded,
            1 | 2 => Bound::Excluded(key(random)),
            _ => Bound::Included(key(random)),
        }
    }

    /// What a checkpoint does, in steps with changes in between.
    #[derive(Clone, Copy, PartialEq)]
    enum Step {
        TakeAside,
        Move,
        Drop,
    }

    #[test]
    fn it_reads_as_one_map_whatever_was_moved() {
        for seed in 0..60 {
            let mut random = StdRng::seed_from_u64(seed);
            let (_directory, live) = live();
            let mut model = Model::new();
            let mut next = Step::TakeAside;
            for _ in 0..200 {
                let mut changes = Changes::default();
                for _ in 0..random.random_range(0..12) {
                    let key = key(&mut random);
                    let may_put = !is_new(&key) || !model.contains_key(&key);
                    if may_put && random.random_bool(0.6) {
                        let value = vec![random.random(); random.random_range(0..40)];
                        changes.put(&key, value.clone());
                        model.insert(key, value);
                    } else {
                        changes.delete(&key);
                        model.remove(&key);
                    }
                }
                live.apply(changes, is_new);
                if random.random_bool(0.3) {
                    next = match next {
                        Step::TakeAside => {
                            live.take_aside();
                            Step::Move
                        }
                        Step::Move => {
                            live.move_aside_into_engine(|| {}).unwrap();
                            Step::Drop
                        }
                        Step::Drop => {
                            live.drop_aside();
                            Step::TakeAside
                        }
                    };
                }
                let one = key(&mut random);
                let found = live.get(&one).unwrap().map(|value| value.to_vec());
                assert_eq!(found.as_ref(), model.get(&one), "SEED={seed}");
                let (from, to) = (bound(&mut random), bound(&mut random));
                if !is_empty(&from, &to) {
                    let expected = model.range((from.clone(), to.clone()));
                    let expected = expected.map(|(key, value)| (key.clone(), value.clone()));
                    assert_eq!(
                        read(live.range(from, to)),
                        Vec::from_iter(expected),
                        "SEED={seed}"
                    );
                }
                let of_kind = model.iter().filter(|(key, _)| key[0] == b'q');
                let of_kind = of_kind.map(|(key, value)| (key.clone(), value.clone()));
                assert_eq!(
                    read(live.prefix(b"q")),
                    Vec::from_iter(of_kind),
                    "SEED={seed}"
                );
            }
            if next == Step::TakeAside {
                live.take_aside();
            }
            live.move_aside_into_engine(|| {}).unwrap();
            live.drop_aside();
            live.take_aside();
            live.move_aside_into_engine(|| {}).unwrap();
            let stored = live.engine.prefix(&[]).map(|item| item.unwrap());
            let stored = stored.map(|(key, value)| (key.to_vec(), value.to_vec()));
            assert_eq!(Model::from_iter(stored), model, "SEED={seed}");
        }
    }

    #[test]
    fn what_is_put_and_deleted_between_two_checkpoints_never_reaches_the_database() {
        let (_directory, live) = live();
        let mut changes = Changes::default();
        changes.put(b"q1", vec![1]);
        changes.put(b"a1", vec![1]);
        live.apply(changes, is_new);
        let mut changes = Changes::default();
        changes.delete(b"q1");
        live.apply(changes, is_new);
        let overlay = live.overlays().newest;
        assert_eq!(locked(overlay.entries.read()).len(), 1);
        // A tombstone is needed where the database may have the key.
        live.take_aside();
        let mut changes = Changes::default();
        changes.delete(b"a1");
        live.apply(changes, is_new);
        live.move_aside_into_engine(|| {}).unwrap();
        live.drop_aside();
        assert_eq!(live.get(b"a1").unwrap(), None);
        assert!(live.engine.get(b"a1").unwrap().is_some());
        assert_eq!(read(live.prefix(b"")), []);
    }

    /// A range that began before a checkpoint finds what was there all the while.
    #[test]
    fn nothing_is_missed_while_it_is_moved() {
        let (_directory, live) = live();
        let keys = || (0..400_u16).map(|number| [&b"a"[..], &number.to_be_bytes()].concat());
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (live, done) = (&live, &done);
            let mut changes = Changes::default();
            keys().for_each(|key| changes.put(&key, vec![0]));
            live.apply(changes, is_new);
            let readers = [0, 1].map(|_| {
                scope.spawn(move || {
                    let mut rounds = 0;
                    while !done.load(Ordering::Relaxed) || rounds == 0 {
                        let found = read(live.prefix(b"a"));
                        assert!(found.iter().map(|(key, _)| key.clone()).eq(keys()));
                        rounds += 1;
                    }
                })
            });
            for round in 1..30 {
                live.take_aside();
                let mut changes = Changes::default();
                keys().for_each(|key| changes.put(&key, vec![round]));
                live.apply(changes, is_new);
                live.move_aside_into_engine(|| {}).unwrap();
                live.drop_aside();
            }
            done.store(true, Ordering::Relaxed);
            for reader in readers {
                reader.join().unwrap();
            }
        });
    }
}
