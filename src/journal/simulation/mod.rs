//! The journal under a seeded workload on a disk that fails, against a model.
//!
//! `SEED=n cargo test simulation` plays one seed again, `SEEDS=n` plays as many.

mod disk;
mod flips;
mod model;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngCore, SeedableRng};

use self::disk::{FAULTS, Fault, FaultyDisk};
use self::model::{Model, ModelPart, ModelRecord};
use super::append::{Journal, Known, Sizes};
use super::error::JournalError;
use super::reader::{Part, Records};
use super::record::{self, PartName, RecordDraft, Tip};
use super::spares::Zeroing;
use super::walk::PartPlace;

const STREAM: u64 = 0x5eed;
const EFFECTS_BYTES_MAX: usize = 700;

const LIFE_STEPS: usize = 45;

/// A disk, the process on it, and what it has to hold.
struct World {
    disk: FaultyDisk,
    random: StdRng,
    sizes: Sizes,
    model: Model,
    process: Option<Process>,
    /// Whether faults come by themselves.
    is_random: bool,
    /// What the test has seen, to know that it tests something.
    seen: Seen,
}

struct Process {
    journal: Journal,
    zeroing: Zeroing,
    /// Reads on as records are appended, and the next position that it gives.
    follower: Option<(Records, u64)>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    appended: u64,
    erased: u64,
    removed: u64,
    starts: u64,
    failed_starts: u64,
    adopted: u64,
    dropped: u64,
    faults: u64,
    segments: u64,
    refused: u64,
}

/// Says which seed it was when the test panics.
struct Named(String);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed: {}", self.0);
        }
    }
}

impl World {
    fn new(seed: u64, is_random: bool) -> World {
        let mut random = StdRng::seed_from_u64(seed);
        let sizes = Sizes {
            segment_bytes: segment_bytes(&mut random),
            free_bytes_min: 1_000_000,
        };
        World {
            disk: FaultyDisk::new(seed),
            random,
            sizes,
            model: Model::default(),
            process: None,
            is_random,
            seen: Seen::default(),
        }
    }

    fn known(&mut self) -> Known {
        let applied = self.model.applied;
        Known {
            stream: STREAM,
            begin: Tip {
                position: 1,
                chain: 0,
            },
            applied,
            newest: self.random.random_range(applied..=self.model.last()),
            is_closed: false,
        }
    }

    fn arm(&mut self) {
        if self.is_random && self.random.random_bool(0.6) {
            let calls = self.random.random_range(1..150);
            self.disk
                .arm(calls, *FAULTS.choose(&mut self.random).unwrap());
            self.seen.faults += 1;
        }
    }

    /// Ends the process and starts it until it is ready, then compares.
    fn restart(&mut self) {
        self.process = None;
        let mut tries = 0;
        let journal = loop {
            if self.random.random() {
                self.disk.cut_power();
            } else {
                self.disk.kill();
            }
            tries += 1;
            if tries > 3 {
                self.disk.disarm();
            } else if !self.disk.is_armed() {
                self.arm();
            }
            let was_armed = self.disk.is_armed();
            if self.random.random_bool(0.1) {
                self.sizes.segment_bytes = segment_bytes(&mut self.random);
            }
            let known = self.known();
            let random = StdRng::seed_from_u64(self.random.next_u64());
            match Journal::open(self.disk.mount(), self.sizes, &known, random) {
                Ok((journal, opened)) => {
                    assert!(opened.damaged.is_empty(), "{:?}", opened.damaged);
                    break journal;
                }
                Err(error @ JournalError::Io { .. }) if was_armed => {
                    self.seen.failed_starts += 1;
                    let _ = error;
                }
                Err(error) => panic!("the start failed: {error}"),
            }
        };
        self.seen.starts += 1;
        self.settle(journal);
    }

    fn settle(&mut self, journal: Journal) {
        let fault = self.disk.disarm();
        if self.model.unanswered.is_some() {
            let is_there = journal.tip().position == self.model.last() + 2;
            *(if is_there {
                &mut self.seen.adopted
            } else {
                &mut self.seen.dropped
            }) += 1;
        }
        let reader = journal.reader();
        self.model.decide(journal.tip().position, &reader);
        self.model.decide_removals(&reader);
        self.model.compare(&reader, &mut |error| {
            panic!("damage without cause: {error}")
        });
        self.process = Some(Process {
            zeroing: journal.zeroing(),
            follower: None,
            journal,
        });
        if let Some((calls, fault)) = fault {
            self.disk.arm(calls, fault);
        }
    }

    fn step(&mut self) {
        if self.process.is_none() {
            self.restart();
        }
        match self.random.random_range(0..100) {
            0..48 => self.append(false),
            48..50 => self.begin_segment(),
            50..60 => self.append(true),
            60..70 => self.zero(),
            70..78 => self.remove(),
            78..84 => self.read_part(),
            84..90 => self.follow(),
            90..92 => {
                let free = [0, u64::MAX].choose(&mut self.random);
                self.disk.set_free_bytes(*free.unwrap());
            }
            92..97 => {
                let last = self.model.last();
                self.model.applied = self.random.random_range(self.model.applied..=last);
            }
            _ => self.restart(),
        }
        if self.disk.is_dead() {
            self.restart();
        } else if !self.disk.is_armed() {
            self.arm();
        }
    }

    fn bytes(&mut self, max: usize) -> Vec<u8> {
        let length = self.random.random_range(0..=max);
        match self.random.random_range(0..5) {
            0 => vec![0; length],
            3 => self.forged_record(),
            1 => self.erased_bytes(length),
            2 => self.copied_bytes(length),
            _ => {
                let mut bytes = vec![0; length];
                self.random.fill_bytes(&mut bytes);
                bytes
            }
        }
    }

    /// A piece of some file of the journal: the worst that a publisher could send.
    fn copied_bytes(&mut self, length: usize) -> Vec<u8> {
        let mut names = self.disk.names();
        names.retain(|name| !name.ends_with(".zeroing"));
        let Some(name) = names.choose(&mut self.random) else {
            return Vec::new();
        };
        let bytes = self.disk.bytes(name);
        let heads: Vec<usize> = (0..bytes.len().saturating_sub(4))
            .filter(|at| bytes[*at] == 0xB7)
            .collect();
        let start = heads.choose(&mut self.random).copied().unwrap_or(0);
        bytes[start..(start + length).min(bytes.len())].to_vec()
    }

    /// The bytes of an erased part of the open segment, or one before.
    fn erased_bytes(&mut self, length: usize) -> Vec<u8> {
        let segments = self.process.as_ref().unwrap().journal.reader().segments();
        record::erased(length, &segments.choose(&mut self.random).unwrap().salt)
    }

    /// A record as one could make it who knows everything but the salt.
    fn forged_record(&mut self) -> Vec<u8> {
        let tip = Tip {
            position: self.model.last() + self.random.random_range(1..4),
            chain: self.process.as_ref().unwrap().journal.tip().chain,
        };
        let draft = RecordDraft {
            effects: b"forged",
            ..RecordDraft::default()
        };
        let mut forged = Vec::new();
        record::encode(&draft, &[], STREAM, tip, || 0, &mut forged).unwrap();
        record::seal(&mut forged, &record::Salt::default());
        forged
    }

    fn append(&mut self, erases: bool) {
        let parts = self.random.random_range(0..4);
        // Now and then one that is longer than a segment.
        let bytes_max = if self.random.random_ratio(1, 40) {
            30_000
        } else {
            900
        };
        let parts: Vec<Vec<u8>> = (0..parts).map(|_| self.bytes(bytes_max)).collect();
        let names = if erases { self.names() } else { Vec::new() };
        let record = ModelRecord {
            effects: self.bytes(EFFECTS_BYTES_MAX),
            parts: parts
                .iter()
                .map(|bytes| ModelPart {
                    bytes: bytes.clone(),
                    is_erased: false,
                })
                .collect(),
            erases: names
                .iter()
                .filter(|name| !self.model.is_removed(**name))
                .copied()
                .collect(),
            segment: None,
            offset: 0,
        };
        let places: Vec<PartPlace> = names
            .iter()
            .map(|name| self.model.place(*name).unwrap())
            .collect();
        let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let draft = RecordDraft {
            epoch: 1,
            time_ms: self.model.last(),
            effects: &record.effects,
            parts: &slices,
            ..RecordDraft::default()
        };
        let journal = &mut self.process.as_mut().unwrap().journal;
        match journal.append(&draft, &places) {
            Ok(appended) => {
                assert_eq!(appended.position, self.model.last() + 1);
                let place = appended.place(0);
                self.seen.appended += 1;
                self.seen.erased += record.erases.len() as u64;
                self.seen.segments = self.seen.segments.max(place.segment);
                self.model.add(ModelRecord {
                    segment: Some(place.segment),
                    offset: place.offset,
                    ..record
                });
            }
            Err(JournalError::Io { .. }) if journal.has_failed() => {
                self.model.unanswered = Some(record.clone());
                let again = journal.append(&draft, &[]);
                assert!(matches!(again, Err(JournalError::Failed)), "{again:?}");
                self.restart();
            }
            // Refused before anything was written.
            Err(JournalError::Io { .. }) => self.seen.refused += 1,
            Err(error) => panic!("{error}"),
        }
    }

    /// Some parts of records that are known.
    fn names(&mut self) -> Vec<PartName> {
        let mut names = Vec::new();
        for _ in 0..self.random.random_range(1..4) {
            let position = self.random.random_range(0..=self.model.last());
            let parts = self
                .model
                .records
                .get(&position)
                .map_or(0, |one| one.parts.len());
            if parts > 0 {
                let part = self.random.random_range(0..parts as u32);
                names.push(PartName { position, part });
            }
        }
        names
    }

    /// Whatever comes of it, no record is lost; what came of it, the next start tells.
    fn begin_segment(&mut self) {
        let journal = &mut self.process.as_mut().unwrap().journal;
        let (before, position) = journal.next();
        match journal.begin_segment() {
            Ok(()) => {
                let is_empty =
                    journal.reader().segments().last().unwrap().begin.position == position;
                assert!(is_empty && journal.next().0 <= before + 1);
            }
            Err(_) if journal.has_failed() => self.restart(),
            Err(_) => {}
        }
    }

    fn zero(&mut self) {
        let zeroing = &mut self.process.as_mut().unwrap().zeroing;
        for _ in 0..self.random.random_range(1..8) {
            // An error gives up the one file.
            if !zeroing.step().unwrap_or(true) {
                break;
            }
        }
    }

    fn remove(&mut self) {
        let chosen: u64 = self.random.random();
        let journal = &mut self.process.as_mut().unwrap().journal;
        let may_go = |number: u64| chosen >> (number % 64) & 1 == 1;
        let applied = self.model.applied;
        let asked = std::cell::RefCell::new(Vec::new());
        let removed = journal.remove_segments(applied, |segment, _| {
            let goes = may_go(segment.number);
            if goes {
                asked.borrow_mut().push(segment.number);
            }
            goes
        });
        let mut asked = asked.into_inner();
        match removed {
            Ok(count) => {
                assert_eq!(count, asked.len());
                self.seen.removed += count as u64;
            }
            Err(_) => {
                let unsure = asked.pop();
                self.model.removing.extend(unsure);
            }
        }
        self.model.removed.extend(asked);
        if self.process.as_ref().unwrap().journal.has_failed() {
            self.restart();
        }
    }

    fn read_part(&mut self) {
        let names = self.names();
        let reader = self.process.as_ref().unwrap().journal.reader();
        for name in names {
            self.model.compare_part(&reader, name, &mut |error| {
                assert!(matches!(error, JournalError::Io { .. }), "{error}");
            });
        }
    }

    fn follow(&mut self) {
        let process = self.process.as_mut().unwrap();
        let reader = process.journal.reader();
        let newest = reader.segments().pop().unwrap();
        let (mut records, mut position) = process.follower.take().unwrap_or_else(|| {
            let position = newest.begin.position;
            (reader.records(position).unwrap(), position)
        });
        loop {
            match records.next_record() {
                Ok(Some(record)) => {
                    assert_eq!(record.head.position, position);
                    assert_eq!(record.effects, self.model.records[&position].effects);
                    position += 1;
                }
                Ok(None) => break,
                // It was too slow, or the disk fails.
                Err(JournalError::Removed { .. } | JournalError::Io { .. }) => return,
                Err(JournalError::Missing { position, .. }) => {
                    let segment = self.model.records[&position].segment.unwrap();
                    assert!(self.model.removed.contains(&segment));
                    return;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(position, self.model.last() + 1);
        process.follower = Some((records, position));
    }
}

fn segment_bytes(random: &mut StdRng) -> u32 {
    *[8_192, 12_288, 20_480].choose(random).unwrap()
}

fn number_in_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect("a number"))
}

/// The seeds to play.
fn seeds(count: u64) -> std::ops::Range<u64> {
    match number_in_environment("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number_in_environment("SEEDS").unwrap_or(count),
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_else_appears() {
    let mut all = Seen::default();
    for seed in seeds(3_000) {
        let _named = Named(format!("SEED={seed}"));
        let mut world = World::new(seed, true);
        for _ in 0..80 {
            world.step();
        }
        world.restart();
        let seen = world.seen;
        all.appended += seen.appended;
        all.erased += seen.erased;
        all.removed += seen.removed;
        all.starts += seen.starts;
        all.failed_starts += seen.failed_starts;
        all.adopted += seen.adopted;
        all.dropped += seen.dropped;
        all.faults += seen.faults;
        all.segments += seen.segments;
        all.refused += seen.refused;
    }
    println!("{all:?}");
}

/// A life of this seed, with one fault or none.
fn live(seed: u64, fault: Option<(u64, Fault)>) -> World {
    let mut world = World::new(seed, false);
    if let Some((call, fault)) = fault {
        world.disk.arm(call, fault);
    }
    for _ in 0..LIFE_STEPS {
        world.step();
    }
    world
}

#[test]
fn a_fault_at_each_call_of_a_short_life_loses_nothing() {
    let has_everything = |seed: &u64| {
        let seen = live(*seed, None).seen;
        seen.segments > 3 && seen.erased > 0 && seen.removed > 0 && seen.starts > 2
    };
    let seed = (0..).find(has_everything).expect("there are many seeds");
    for fault in FAULTS {
        let mut call = 1;
        loop {
            let _named = Named(format!("{fault:?} at call {call} of seed {seed}"));
            let mut world = live(seed, Some((call, fault)));
            if world.disk.is_armed() {
                break; // The whole life passed before that call.
            }
            world.restart();
            call += 1;
        }
        println!("{fault:?} at each of {call} calls");
        assert!(call > 100, "the life has only {call} calls");
    }
}

/// Of a journal that begins.
fn nothing_known() -> Known {
    Known {
        stream: STREAM,
        begin: Tip {
            position: 1,
            chain: 0,
        },
        applied: 0,
        newest: 0,
        is_closed: false,
    }
}

/// The record that erases a part is durable before its first byte is overwritten: however much of it is
/// left, a reader finds it erased, and not damaged.
#[test]
fn a_part_whose_overwriting_failed_is_whole_or_erased_to_readers() {
    const BYTE: u8 = 0xA7;
    let known = nothing_known();
    let sizes = Sizes {
        segment_bytes: 20_480,
        free_bytes_min: 0,
    };
    let mut half_overwritten = 0;
    for seed in 0..30 {
        for call in 1..15 {
            let _named = Named(format!("call {call} of seed {seed}"));
            let disk = FaultyDisk::new(seed);
            let random = StdRng::seed_from_u64(seed);
            let (mut journal, _) = Journal::open(disk.mount(), sizes, &known, random).unwrap();
            let draft = RecordDraft {
                parts: &[&[BYTE; 3_000]],
                ..RecordDraft::default()
            };
            let place = journal.append(&draft, &[]).unwrap().place(0);
            disk.arm(call, Fault::InputOutput);
            let erased = journal.append(&RecordDraft::default(), &[place]);
            disk.disarm();
            let part = journal.reader().part(place);
            let part = part.unwrap_or_else(|error| panic!("{error}"));
            assert!(erased.is_err() || part == Part::Erased);
            let segment = journal.reader().segments().pop().unwrap();
            let bytes = disk.bytes(&segment.name);
            let left = bytes.iter().filter(|byte| **byte == BYTE).count();
            half_overwritten += usize::from((100..2_900).contains(&left));
        }
    }
    assert!(half_overwritten > 10, "{half_overwritten}");
}

#[test]
fn room_that_cannot_be_made_leaves_the_journal_as_it_was_and_can_be_made_later() {
    let known = nothing_known();
    let sizes = Sizes {
        segment_bytes: 8_192,
        free_bytes_min: u64::MAX,
    };
    for call in 1..3 {
        let disk = FaultyDisk::new(call);
        let random = StdRng::seed_from_u64(call);
        let (mut journal, _) = Journal::open(disk.mount(), sizes, &known, random).unwrap();
        let effects = [1; 3_000];
        let draft = RecordDraft {
            effects: &effects,
            ..RecordDraft::default()
        };
        let spares = || {
            // A file whose creation failed may be there, empty, until the next start.
            let is_spare = |name: &String| name.ends_with(".spare") && !disk.bytes(name).is_empty();
            disk.names().into_iter().filter(is_spare).count()
        };
        journal.make_room(3_500).unwrap();
        assert_eq!(spares(), 0, "the open segment has room");
        journal.append(&draft, &[]).unwrap();
        // Creating the file, or taking its space.
        disk.arm(call, Fault::NoSpace);
        let refused = journal.make_room(3_500).unwrap_err();
        assert!(refused.passes(), "{refused}");
        assert!(!journal.has_failed());
        for _ in 0..2 {
            journal.make_room(3_500).unwrap();
        }
        assert_eq!(spares(), 1, "one is enough");
        assert_eq!(journal.append(&draft, &[]).unwrap().position, 2);
        assert_eq!(spares(), 0, "the next segment was begun in it");
    }
}
