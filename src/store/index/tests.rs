//! Both kinds of index against a plain map, the bytes of a file, and readers beside the writer.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::*;
use crate::store::layout::golden::assert_bytes;

mod damage;
mod figures;

type Keys = BTreeMap<Vec<u8>, Place>;
type Hours = BTreeMap<HourOfLane, LaneHour>;

fn of() -> IndexOf {
    IndexOf {
        stream: 0x0102_0304_0506_0708,
        slice: 9,
        from: 1_000,
        to: 2_000,
    }
}

fn place(random: &mut StdRng) -> Place {
    Place {
        segment: random.random(),
        offset: random.random(),
        part: random.random(),
    }
}

fn counts(number: u64) -> LaneHour {
    LaneHour {
        attempts_succeeded: number,
        attempts_failed: 2,
        delivered: number + 3,
        failed: 4,
        answered: number + 5,
        answer_us_sum: number << 30,
        answer_us_max: number * 7,
    }
}

/// Keys of all kinds, alike enough that they meet again, share beginnings and are each other's.
fn key(random: &mut StdRng, ids: u32) -> Vec<u8> {
    let id = |random: &mut StdRng| {
        let mut id = [7; 20];
        id[4..8].copy_from_slice(&random.random_range(0..ids).to_be_bytes());
        id
    };
    let few = |random: &mut StdRng| u64::from(random.random_range(0..4_u8)).to_be_bytes();
    let parts: Vec<Vec<u8>> = match random.random_range(0..8) {
        0 | 1 => vec![b"M".into(), few(random).into(), id(random).into()],
        2 | 3 => vec![b"A".into(), few(random).into(), id(random).into()],
        4 | 5 => {
            let (message, attempt) = (id(random), id(random));
            let lane = few(random).into();
            vec![b"T".into(), message.into(), attempt.into(), lane]
        }
        6 => vec![b"I".into(), vec![random.random(); 32]],
        _ => {
            let length = *[0, 1, 2, 30, 59, 255].choose(random).unwrap();
            vec![
                b"MAT"[..length.min(1)].into(),
                vec![7; length.saturating_sub(1)],
            ]
        }
    };
    parts.concat()
}

/// A bound near the keys.
fn bound(random: &mut StdRng, ids: u32) -> Bound<Vec<u8>> {
    let mut key = key(random, ids);
    if random.random_bool(0.3) {
        key.truncate(random.random_range(0..=key.len()));
    }
    match random.random_range(0..6) {
        0 => Bound::Unbounded,
        1..=3 => Bound::Included(key),
        _ => Bound::Excluded(key),
    }
}

/// What lies between two bounds, without what a map says of bounds that are the wrong way round.
fn between(keys: &Keys, from: &Bound<Vec<u8>>, to: &Bound<Vec<u8>>) -> Vec<Entry> {
    let is_within = |key: &Vec<u8>| {
        let is_behind_from = match from {
            Bound::Included(from) => key >= from,
            Bound::Excluded(from) => key > from,
            Bound::Unbounded => true,
        };
        let is_before_to = match to {
            Bound::Included(to) => key <= to,
            Bound::Excluded(to) => key < to,
            Bound::Unbounded => true,
        };
        is_behind_from && is_before_to
    };
    let found = keys.iter().filter(|(key, _)| is_within(key));
    found.map(|(key, place)| (key.clone(), *place)).collect()
}

/// Reads a range from its ends in turns, as often from either as `from_front` says.
fn read(
    mut range: impl DoubleEndedIterator<Item = Entry>,
    random: &mut StdRng,
    from_front: f64,
) -> Vec<Entry> {
    let (mut front, mut back) = (Vec::new(), Vec::new());
    loop {
        let is_front = random.random_bool(from_front);
        let next = match is_front {
            true => range.next(),
            false => range.next_back(),
        };
        match next {
            Some(entry) if is_front => front.push(entry),
            Some(entry) => back.push(entry),
            None => break,
        }
    }
    assert!(range.next().is_none() && range.next_back().is_none());
    front.extend(back.into_iter().rev());
    front
}

/// Either kind of index.
trait Index {
    fn place_of(&self, key: &[u8]) -> Option<Place>;
    fn between(
        &self,
        from: Bound<Vec<u8>>,
        to: Bound<Vec<u8>>,
    ) -> impl DoubleEndedIterator<Item = Entry>;
    fn hours_of(&self, lane: u64, from: u64, to: u64) -> Vec<(u64, LaneHour)>;
    fn count(&self) -> usize;
}

impl Index for Arc<OpenIndex> {
    fn place_of(&self, key: &[u8]) -> Option<Place> {
        self.get(key)
    }

    fn between(
        &self,
        from: Bound<Vec<u8>>,
        to: Bound<Vec<u8>>,
    ) -> impl DoubleEndedIterator<Item = Entry> {
        self.range(from, to)
    }

    fn hours_of(&self, lane: u64, from: u64, to: u64) -> Vec<(u64, LaneHour)> {
        self.hours(lane, from, to)
    }

    fn count(&self) -> usize {
        self.len()
    }
}

impl Index for Arc<IndexFile> {
    fn place_of(&self, key: &[u8]) -> Option<Place> {
        self.get(key).unwrap()
    }

    fn between(
        &self,
        from: Bound<Vec<u8>>,
        to: Bound<Vec<u8>>,
    ) -> impl DoubleEndedIterator<Item = Entry> {
        self.range(from, to).map(Result::unwrap)
    }

    fn hours_of(&self, lane: u64, from: u64, to: u64) -> Vec<(u64, LaneHour)> {
        self.hours(lane, from, to).unwrap()
    }

    fn count(&self) -> usize {
        self.len() as usize
    }
}

/// Asks an index at random, and compares with the maps.
fn compare(index: &impl Index, keys: &Keys, hours: &Hours, random: &mut StdRng, ids: u32) {
    assert_eq!(index.count(), keys.len());
    for _ in 0..20 {
        let known = keys.keys().nth(random.random_range(0..=keys.len()));
        let asked = match known {
            Some(known) if random.random() => known.clone(),
            _ => key(random, ids),
        };
        assert_eq!(
            index.place_of(&asked),
            keys.get(&asked).copied(),
            "{asked:?}"
        );
    }
    for _ in 0..5 {
        let (from, to) = (bound(random, ids), bound(random, ids));
        let expected = between(keys, &from, &to);
        let from_front = *[0.0, 0.1, 0.5, 0.9, 1.0].choose(random).unwrap();
        let range = index.between(from.clone(), to.clone());
        let found = read(range, random, from_front);
        assert!(found == expected, "{from:?} to {to:?}, {from_front}");
    }
    let all = index.between(Bound::Unbounded, Bound::Unbounded);
    let expected = keys.iter().map(|(key, place)| (key.clone(), *place));
    assert!(all.eq(expected));
    for _ in 0..5 {
        let lane = random.random_range(0..6);
        let (from, to) = (random.random_range(0..40), random.random_range(0..40));
        let expected = hours
            .iter()
            .filter(|((of, hour), _)| *of == lane && (from..to).contains(hour))
            .map(|((_, hour), counts)| (*hour, *counts));
        let found = index.hours_of(lane, from, to);
        assert_eq!(found, Vec::from_iter(expected), "{lane}: {from} to {to}");
    }
}

fn opened(path: &Path) -> Arc<IndexFile> {
    Arc::new(IndexFile::open(path, &of()).unwrap())
}

#[test]
fn both_kinds_answer_as_a_map_would() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index");
    for seed in 0..60 {
        println!("SEED={seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let ids = *[3, 40, 1_000_000].choose(&mut random).unwrap();
        let batch_max = *[1, 20, 400].choose(&mut random).unwrap();
        let index = Arc::new(OpenIndex::default());
        let (mut keys, mut hours) = (Keys::new(), Hours::new());
        for _ in 0..20 {
            let mut entries = Vec::new();
            for _ in 0..random.random_range(0..=batch_max) {
                entries.push((key(&mut random, ids), place(&mut random)));
            }
            let mut counted = Vec::new();
            for _ in 0..random.random_range(0..20) {
                let at = (random.random_range(0..5), random.random_range(0..30));
                counted.push((at, counts(random.random_range(0..1_000))));
            }
            keys.extend(entries.iter().cloned());
            for (at, counts) in &counted {
                hours.entry(*at).or_default().add(counts);
            }
            index.add(entries, counted);
            compare(&index, &keys, &hours, &mut random, ids);
        }
        index.write(&path, &of()).unwrap();
        let file = opened(&path);
        file.verify().unwrap();
        for _ in 0..5 {
            compare(&file, &keys, &hours, &mut random, ids);
        }
    }
}

#[test]
fn an_empty_index_has_a_file_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index");
    let index = Arc::new(OpenIndex::default());
    index.write(&path, &of()).unwrap();
    let file = opened(&path);
    file.verify().unwrap();
    let mut random = StdRng::seed_from_u64(1);
    compare(&index, &Keys::new(), &Hours::new(), &mut random, 10);
    compare(&file, &Keys::new(), &Hours::new(), &mut random, 10);
}

#[test]
fn the_bytes_of_a_file_are_as_ever() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index");
    let at = |segment, offset, part| Place {
        segment,
        offset,
        part,
    };
    let index = OpenIndex::default();
    let entries = [
        (b"Mapp_two".to_vec(), at(0x0102, 0x0304_0506, 0x0708)),
        (b"Mapp_one".to_vec(), at(0, 4096, 0)),
        (b"A".to_vec(), at(1, 5000, 2)),
    ];
    let hours = [((7, 470_000), counts(1)), ((7, 470_001), counts(2))];
    index.add(entries, hours);
    index.write(&path, &of()).unwrap();
    let pinned = "
        b7696e6469636573
        0100000074759b2c
        08070605040302010900000000000000
        e803000000000000d007000000000000
        03000000000000000200000000000000
        2e000000000000008900000000000000
        04000000000000001300000000000000
        87a993ab 00*28
        43e7e351
        0001410100881300000200
        00084d6170705f6f6e650000001000000000
        050374776f0201060504030807
        8c80d645
        001000000000000000070000000000072bf0
        01000000000000000200000000000000040000000000000004000000
        00000000060000000000000000000040000000000700000000000000
        0f01f1
        02000000000000000200000000000000050000000000000004000000
        00000000070000000000000000000080000000000e00000000000000
        2e000141
        89001000000000000000070000000000072bf0
    ";
    assert_bytes("an index file", pinned, &std::fs::read(&path).unwrap());
    opened(&path).verify().unwrap();
}

#[test]
fn readers_go_on_while_the_writer_adds_and_writes_the_file() {
    const BATCHES: usize = 400;
    const BATCH: usize = 25;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index");
    let index = Arc::new(OpenIndex::default());
    let mut random = StdRng::seed_from_u64(5);
    let keys = (0..(BATCHES * BATCH) as u64).map(|number| {
        let mut key = key(&mut random, 1_000_000);
        key.truncate(100);
        key.extend(number.to_be_bytes());
        key
    });
    let keys = Vec::from_iter(keys);
    let batches_done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for from_front in [0.0, 0.5, 1.0] {
            let (index, keys, batches_done) = (&index, &keys, &batches_done);
            scope.spawn(move || {
                let mut random = StdRng::seed_from_u64(6);
                loop {
                    let done = batches_done.load(Ordering::Acquire);
                    let range = index.range(Bound::Unbounded, Bound::Unbounded);
                    let found = read(range, &mut random, from_front);
                    assert!(found.is_sorted_by(|one, next| one.0 < next.0));
                    let found = BTreeMap::from_iter(found);
                    for key in &keys[..done * BATCH] {
                        assert!(found.contains_key(key) && index.get(key).is_some());
                    }
                    if done == BATCHES {
                        break;
                    }
                }
            });
        }
        for batch in keys.chunks(BATCH) {
            let entries = batch.iter().map(|key| (key, Place::from_bytes([1; 8])));
            index.add(entries, [((1, 1), counts(1))]);
            batches_done.fetch_add(1, Ordering::Release);
        }
        index.write(&path, &of()).unwrap();
    });
    let file = opened(&path);
    file.verify().unwrap();
    assert_eq!(file.len(), index.len() as u64);
    assert_eq!(index.hours(1, 0, 2)[0].1.delivered, BATCHES as u64 * 4);
}
