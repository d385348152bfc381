//! Single bits that are wrong on a disk at rest.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::super::append::Journal;
use super::super::error::JournalError;
use super::super::record::RecordDraft;
use super::super::segment::name_of;
use super::disk::FaultyDisk;
use super::{Named, World, seeds};

#[derive(Debug, Default)]
struct Seen {
    /// The start refused.
    refused: u64,
    /// Told when it was read.
    told: u64,
    /// The same, of the newest segment: a start looked at it and went on.
    below_checkpoint: u64,
    cut: u64,
    harmless: u64,
}

/// Opens and reads everything from a disk with one wrong bit in the file `name`.
fn judge(world: &mut World, disk: &FaultyDisk, name: &str, seen: &mut Seen) {
    let mut known = world.known();
    if world.random.random() {
        known.newest = known.applied;
    }
    let random = StdRng::seed_from_u64(1);
    let (mut journal, opened) = match Journal::open(disk.mount(), world.sizes, &known, random) {
        Ok(opened) => opened,
        Err(error) => {
            match error {
                JournalError::Damaged(damage) => {
                    assert_eq!(damage.file, name, "{damage}");
                    // What a checkpoint has refuses no start, but where the end cannot be told, or where the
                    // last record erases something there, which a start does again.
                    let last = &world.model.records[&world.model.last()];
                    let is_erased = |at| last.erases.iter().any(|name| name.position == at);
                    let is_needed =
                        |at| at > known.applied || at == world.model.last() || is_erased(at);
                    assert!(damage.position.is_none_or(is_needed), "{damage}");
                }
                JournalError::Missing { .. } => {}
                other => panic!("{other}"),
            }
            seen.refused += 1;
            return;
        }
    };
    let model = &world.model;
    let next = journal.tip().position;
    let is_cut = next == model.last();
    if is_cut {
        assert!(known.newest < next, "a record that is known of was cut off");
        let segment = model.records[&next].segment.unwrap();
        assert_eq!(name_of(segment), name, "a record was cut off without cause");
    } else {
        assert_eq!(next, model.last() + 1);
    }
    let mut told = opened.damaged.len();
    let is_newest = world
        .disk
        .names()
        .into_iter()
        .filter(|one| one.ends_with("segment"))
        .max();
    seen.below_checkpoint += u64::from(told > 0 && is_newest.as_deref() == Some(name));
    for error in &opened.damaged {
        assert!(matches!(error, JournalError::Damaged(damage) if damage.file == name));
    }
    let has_lost_a_segment = told > 0;
    model.compare(&journal.reader(), &mut |error| {
        told += 1;
        match error {
            JournalError::Damaged(damage) => assert_eq!(damage.file, name, "{damage}"),
            JournalError::Missing { .. } | JournalError::Removed { .. } => {
                assert!(has_lost_a_segment, "{error}");
            }
            other => panic!("{other}"),
        }
    });
    match (is_cut, told) {
        (true, _) => seen.cut += 1,
        (false, 0) => seen.harmless += 1,
        (false, _) => seen.told += 1,
    }
    let draft = RecordDraft {
        effects: b"after the damage",
        ..RecordDraft::default()
    };
    journal.append(&draft, &[]).unwrap();
    drop(journal);
    disk.kill();
    let again = Journal::open(disk.mount(), world.sizes, &known, StdRng::seed_from_u64(2));
    assert_eq!(again.unwrap().0.tip().position, next + 1);
}

#[test]
fn a_wrong_bit_is_told_with_its_file_or_changes_nothing() {
    let mut seen = Seen::default();
    for seed in seeds(600) {
        let mut world = World::new(seed, false);
        for _ in 0..60 {
            world.step();
        }
        world.restart();
        world.process = None;
        world.disk.kill();
        for _ in 0..8 {
            let names = world.disk.names();
            let name = names.choose(&mut world.random).unwrap();
            let offset = world.random.random_range(0..world.disk.bytes(name).len());
            let bit = world.random.random_range(0..8);
            let _named = Named(format!("SEED={seed}, bit {bit} of byte {offset} of {name}"));
            let disk = world.disk.copy(seed);
            disk.flip(name, offset, bit);
            judge(&mut world, &disk, name, &mut seen);
        }
    }
    println!("{seen:?}");
    let saw_all = seen.refused > 0
        && seen.told > 0
        && seen.below_checkpoint > 0
        && seen.cut > 0
        && seen.harmless > 0;
    assert!(saw_all || seeds(2).count() == 1, "{seen:?}");
}
