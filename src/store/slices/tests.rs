//! Opening, closing and removing slices, by several at a time.

use std::sync::atomic::AtomicBool;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::journal::{Disk, Journal, Known, Sizes, Tip};
use crate::store::slice::FoundItem;

fn journal(directory: &Path) -> Journal {
    let known = Known {
        stream: 1,
        begin: Tip {
            position: 1,
            chain: 0,
        },
        applied: 0,
        newest: 0,
        is_closed: false,
    };
    let sizes = Sizes {
        segment_bytes: 1 << 20,
        free_bytes_min: 0,
    };
    let path = directory.join("journal");
    std::fs::create_dir(&path).expect("room");
    let random = StdRng::seed_from_u64(1);
    let opened = Journal::open(Arc::new(Disk::new(path)), sizes, &known, random);
    opened.expect("a new journal").0
}

/// Slices that are databases, each with its number in it.
fn slices(directory: &Path, count: u32) -> Slices {
    let first = |number| {
        let at = Timestamp(u64::from(number));
        (number, SliceRecord::beginning(at, None))
    };
    let index = BTreeMap::from_iter((1..=count).map(first));
    let of_journal = OfJournal {
        stream: 1,
        reader: journal(directory).reader(),
    };
    let opened = Counter::default();
    let slices = Slices::new(directory.to_owned(), 1 << 20, of_journal, index, opened);
    for number in 1..=count {
        let mut changes = Changes::default();
        changes.put(b"number", number.to_be_bytes().to_vec());
        let slice = slices.get(number).expect("a new slice");
        let Slice::Database(engine) = &*slice else {
            panic!("it is a database")
        };
        engine.commit(changes).expect("room");
    }
    slices
}

#[test]
fn positions_are_needed_where_a_stretch_has_one_of_them() {
    let stretches = Stretches(vec![5..9, 9..12, 20..u64::MAX]);
    for (positions, expected) in [
        (1..5, false),
        (1..6, true),
        (8..9, true),
        (11..20, true),
        (12..20, false),
        (12..21, true),
        (30..31, true),
    ] {
        let found = stretches.reach_into(positions.clone());
        assert_eq!(found, expected, "{positions:?}");
    }
    assert!(!Stretches(Vec::new()).reach_into(1..u64::MAX));
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
                    let Ok(Some(FoundItem::Value(found))) = found else {
                        panic!("it is not there")
                    };
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
