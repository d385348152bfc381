//! The journal on real files, and cases that the simulation meets too rarely.

use std::path::Path;
use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tempfile::TempDir;

use super::append::{CutOff, Journal, Known, Opened, Sizes};
use super::error::{JournalError, Result};
use super::files::Disk;
use super::reader::Part;
use super::record::{RecordDraft, Tip};
use super::segment::{HEADER_BYTES, Segment, name_of};
use super::walk::PartPlace;

const SIZES: Sizes = Sizes {
    segment_bytes: 16 << 10,
    free_bytes_min: 0,
};
pub(super) const KNOWN: Known = Known {
    stream: 5,
    begin: Tip {
        position: 1,
        chain: 0,
    },
    applied: 0,
    newest: 0,
    is_closed: false,
};

pub(super) fn open(path: &Path, known: Known) -> Result<(Journal, Opened)> {
    let files = Arc::new(Disk::new(path.to_owned()));
    Journal::open(files, SIZES, &known, StdRng::seed_from_u64(1))
}

fn refused(path: &Path, known: Known) -> String {
    match open(path, known) {
        Ok(_) => panic!("the journal was opened"),
        Err(error) => error.to_string(),
    }
}

/// Appends a record with one part.
fn append(journal: &mut Journal, effects: &[u8], part: &[u8]) -> PartPlace {
    let draft = RecordDraft {
        effects,
        parts: &[part],
        ..RecordDraft::default()
    };
    journal.append(&draft, &[]).unwrap().place(0)
}

/// A journal of several segments in a directory; the places of its records' parts by number.
fn filled(records: u8) -> (TempDir, Vec<PartPlace>) {
    let directory = TempDir::new().unwrap();
    let (mut journal, _) = open(directory.path(), KNOWN).unwrap();
    let places = (0..records)
        .map(|number| append(&mut journal, &[number], &[number; 3_000]))
        .collect();
    (directory, places)
}

#[test]
fn records_and_parts_are_read_again_from_files() {
    let (directory, places) = filled(20);
    let (mut journal, opened) = open(directory.path(), KNOWN).unwrap();
    assert_eq!((opened.zeroed_bytes, opened.cut_off), (0, None));
    let reader = journal.reader();
    assert!(reader.segments().len() > 4);
    let mut records = reader.records(3).unwrap();
    for number in 2..20 {
        let record = records.next_record().unwrap().unwrap();
        assert_eq!(record.effects, [number]);
        assert_eq!(record.place(0), places[usize::from(number)]);
    }
    assert!(records.next_record().unwrap().is_none());
    append(&mut journal, b"one more", b"");
    let record = records.next_record().unwrap().unwrap();
    assert_eq!(record.effects, b"one more");
    assert_eq!(reader.part(places[4]).unwrap(), Part::Whole(vec![4; 3_000]));
}

#[test]
fn erased_bytes_are_in_no_file() {
    let (directory, places) = filled(9);
    let (mut journal, _) = open(directory.path(), KNOWN).unwrap();
    let reader = journal.reader();
    journal
        .append(&RecordDraft::default(), &places[2..4])
        .unwrap();
    for number in 0..9 {
        let has_bytes = std::fs::read_dir(directory.path()).unwrap().any(|entry| {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            bytes.windows(100).any(|window| window == [number; 100])
        });
        let is_erased = (2..4).contains(&number);
        // Zeros are everywhere.
        assert_eq!(has_bytes, !is_erased || number == 0, "{number}");
        let part = reader.part(places[usize::from(number)]).unwrap();
        assert_eq!(part == Part::Erased, is_erased);
    }
}

#[test]
fn a_record_that_is_known_elsewhere_is_never_cut_off() {
    let (directory, places) = filled(3);
    let file = directory.path().join(name_of(0));
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[places[2].offset as usize + 200] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let newest = 3;
    let told = refused(directory.path(), Known { newest, ..KNOWN });
    assert!(told.contains("position 3"), "{told}");
    assert_eq!(std::fs::read(&file).unwrap(), bytes, "nothing was changed");
    let (journal, opened) = open(directory.path(), KNOWN).unwrap();
    assert_eq!(journal.tip().position, 3);
    assert!(opened.zeroed_bytes >= 3_000);
    let cut_off = CutOff {
        file: name_of(0),
        offset: places[2].offset.into(),
        position: 3,
    };
    assert_eq!(opened.cut_off, Some(cut_off));
    let behind = &std::fs::read(&file).unwrap()[places[2].offset as usize..];
    assert!(behind.iter().all(|byte| *byte == 0), "the rest is zeroed");
}

#[test]
fn damage_before_the_last_record_is_told_with_file_and_position() {
    let (directory, places) = filled(3);
    let file = directory.path().join(name_of(0));
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[places[1].offset as usize + 30] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let told = refused(directory.path(), KNOWN);
    let expected = format!(
        "{} is damaged at byte {}, position 2: no record begins here",
        name_of(0),
        places[1].offset
    );
    assert_eq!(told, expected);
}

#[test]
fn a_missing_segment_is_told_unless_a_checkpoint_has_its_records() {
    let (directory, _) = filled(20);
    std::fs::remove_file(directory.path().join(name_of(1))).unwrap();
    let told = refused(directory.path(), KNOWN);
    assert!(told.contains("position 1"), "{told}");
    let (journal, _) = open(
        directory.path(),
        Known {
            applied: 9,
            ..KNOWN
        },
    )
    .unwrap();
    assert_eq!(journal.tip().position, 21);
    let mut records = journal.reader().records(1).unwrap();
    let gap = loop {
        match records.next_record() {
            Ok(record) => assert!(record.is_some()),
            Err(error) => break error,
        }
    };
    assert!(matches!(gap, JournalError::Missing { .. }), "{gap}");
}

#[test]
fn a_lost_newest_segment_is_missed_by_the_end_mark_before_it() {
    let (directory, _) = filled(20);
    let (journal, _) = open(directory.path(), KNOWN).unwrap();
    let newest = journal.reader().segments().pop().unwrap();
    drop(journal);
    std::fs::remove_file(directory.path().join(&newest.name)).unwrap();
    let told = refused(directory.path(), KNOWN);
    assert!(told.contains("is not there"), "{told}");
}

#[test]
fn another_stream_and_a_newer_format_are_named() {
    let (directory, _) = filled(1);
    let other = refused(directory.path(), Known { stream: 6, ..KNOWN });
    assert!(other.ends_with("belongs to stream 0000000000000005, not to 0000000000000006"));
    let file = directory.path().join(name_of(0));
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[8] = 2;
    bytes[12..16].fill(0);
    let crc = crc32fast::hash(&bytes[..HEADER_BYTES]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&file, bytes).unwrap();
    let newer = refused(directory.path(), KNOWN);
    assert!(newer.contains("version 2 is needed"), "{newer}");
}

#[test]
fn a_place_that_is_none_is_an_error_and_takes_no_memory() {
    let (directory, places) = filled(3);
    let (journal, _) = open(directory.path(), KNOWN).unwrap();
    let reader = journal.reader();
    let first = places[0];
    let none = |place| reader.part(place).unwrap_err().to_string();
    let beyond = none(PartPlace {
        part: u32::MAX,
        ..first
    });
    assert!(beyond.contains("beyond the end of the file"), "{beyond}");
    let no_part = none(PartPlace { part: 1, ..first });
    assert!(no_part.contains("does not have"), "{no_part}");
    let no_record = none(PartPlace {
        offset: first.offset + 1,
        ..first
    });
    assert!(no_record.contains("no record begins"), "{no_record}");
    let removed = none(PartPlace {
        segment: 99,
        ..first
    });
    assert_eq!(removed, "segment 99 of the journal is missing");
}

#[test]
fn segments_are_begun_in_zeroed_files_and_in_removed_ones() {
    let (directory, _) = filled(4);
    let (mut journal, _) = open(directory.path(), KNOWN).unwrap();
    let mut zeroing = journal.zeroing();
    assert!(
        !zeroing.step().unwrap(),
        "none is wanted before a quarter of a segment is used"
    );
    journal.spares.want();
    while zeroing.step().unwrap() {}
    let names = |suffix: &str| {
        let entries = std::fs::read_dir(directory.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(suffix)).count()
    };
    assert_eq!((names(".spare"), names(".zeroing")), (2, 0));
    let before = names(".segment");
    for _ in 0..12 {
        append(&mut journal, b"", &[7; 3_000]);
    }
    assert_eq!(names(".spare"), 0);
    let last = journal.tip().position - 1;
    let removed = journal
        .remove_segments(last, |segment, _| segment.number < 3)
        .unwrap();
    assert_eq!((removed, names(".spare")), (3, 3));
    assert!(!zeroing.step().unwrap(), "there is one ready");
    let salt = |journal: &Journal| journal.reader().segments().pop().unwrap().salt;
    let old_salt = salt(&journal);
    for _ in 0..12 {
        append(&mut journal, b"", &[8; 3_000]);
    }
    assert!(names(".segment") > before);
    assert_ne!(salt(&journal), old_salt);
    while zeroing.step().unwrap() {}
    assert_eq!(names(".spare"), 2);
}

#[test]
fn where_as_much_is_removed_as_is_written_nothing_is_zeroed() {
    let (directory, _) = filled(4);
    let (mut journal, _) = open(directory.path(), KNOWN).unwrap();
    let mut zeroing = journal.zeroing();
    journal.spares.want();
    while zeroing.step().unwrap() {}
    let mut idle = Vec::new();
    for _ in 0..5 {
        // A slice of eight segments is written, and then another one is removed.
        let begun = journal.next().0;
        while journal.next().0 < begun + 8 {
            append(&mut journal, b"", &[7; 3_000]);
            let was_idle = !zeroing.step().unwrap();
            while zeroing.step().unwrap() {}
            idle.push(was_idle);
        }
        let last = journal.tip().position - 1;
        let removed = journal
            .remove_segments(last, |segment, _| segment.number < begun)
            .unwrap();
        assert!(removed >= 1, "{removed}");
    }
    // The first of the slices was begun in zeroed files.
    assert!(idle[idle.len() / 2..].iter().all(|was_idle| *was_idle));
}

#[test]
fn spares_beyond_one_are_removed_where_space_is_short() {
    let (directory, _) = filled(20);
    let (mut journal, _) = open(directory.path(), KNOWN).unwrap();
    let last = journal.tip().position - 1;
    assert!(journal.remove_segments(last, |_, _| true).unwrap() > 2);
    drop(journal);
    let short = Sizes {
        free_bytes_min: u64::MAX,
        ..SIZES
    };
    let files = Arc::new(Disk::new(directory.path().to_owned()));
    let known = Known {
        applied: last,
        ..KNOWN
    };
    let random = StdRng::seed_from_u64(1);
    let (journal, _) = Journal::open(files, short, &known, random).unwrap();
    let mut zeroing = journal.zeroing();
    while zeroing.step().unwrap() {}
    let entries = std::fs::read_dir(directory.path()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.ends_with(".spare")).count(), 1);
}

#[test]
fn a_record_that_is_longer_than_a_segment_gets_one_of_its_own() {
    let directory = TempDir::new().unwrap();
    let (mut journal, _) = open(directory.path(), KNOWN).unwrap();
    let usual = u64::from(SIZES.segment_bytes);
    let fits = (usual - Segment::bytes_for(0)) as usize - super::record::HEAD_BYTES;
    let lengths = [fits, fits + 1, 5 * fits, 1];
    for length in lengths {
        append_effects(&mut journal, &vec![7; length]);
    }
    let bytes = |applied| {
        let known = Known { applied, ..KNOWN };
        let (journal, _) = open(directory.path(), known).unwrap();
        let segments = journal.reader().segments();
        Vec::from_iter(segments.iter().map(|segment| segment.bytes))
    };
    let long = Segment::bytes_for((5 * fits + super::record::HEAD_BYTES) as u64);
    assert_eq!(bytes(0), [usual, usual + 1, long, usual]);
    drop(journal);
    let (mut journal, _) = open(directory.path(), KNOWN).unwrap();
    let mut records = journal.reader().records(1).unwrap();
    for length in lengths {
        let record = records.next_record().unwrap().unwrap();
        assert_eq!(record.effects.len(), length);
    }
    // Only files of the usual length are used again.
    assert_eq!(journal.remove_segments(4, |_, _| true).unwrap(), 3);
    append_effects(&mut journal, &vec![7; fits]);
    drop(journal);
    assert_eq!(bytes(4), [usual, usual]);
}

fn append_effects(journal: &mut Journal, effects: &[u8]) {
    let draft = RecordDraft {
        effects,
        ..RecordDraft::default()
    };
    journal.append(&draft, &[]).unwrap();
}

/// These bytes are on disks. A change of the format is a new one beside this.
#[test]
fn header_and_end_mark_of_format_1_stay_as_they_are() {
    let tip = Tip {
        position: 7,
        chain: 0x0102_0304_0506_0708,
    };
    let segment = Segment::new(0xABCD, 3, tip, 65_536, *b"salt of the file");
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let mut golden = include_str!("format_1.hex").lines();
    let header = segment.encode_header();
    assert_eq!(Some(&*hex(&header[..72])), golden.next());
    assert_eq!(header[72..], [0; HEADER_BYTES - 72]);
    assert_eq!(Some(&*hex(&segment.encode_end(tip))), golden.next());
    assert_eq!(segment.name, "0000000000000003.segment");
}

/// A journal in one segment, with the places of its records' parts and the place behind each record.
fn in_one_segment(records: u8) -> (TempDir, Vec<(PartPlace, Tip)>) {
    let directory = TempDir::new().unwrap();
    let (mut journal, _) = open(directory.path(), KNOWN).unwrap();
    let places = (0..records).map(|number| {
        let place = append(&mut journal, &[number], &[number; 1_000]);
        (place, journal.tip())
    });
    let places = places.collect();
    (directory, places)
}

fn flip(directory: &TempDir, at: usize) {
    let file = directory.path().join(name_of(0));
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&file, bytes).unwrap();
}

/// A checkpoint has the first records.
fn known(places: &[(PartPlace, Tip)], applied: usize) -> Known {
    Known {
        begin: places[applied - 1].1,
        applied: applied as u64,
        newest: applied as u64,
        ..KNOWN
    }
}

/// In the head of a record, and in the table behind it.
const IN_A_RECORD: [usize; 2] = [30, super::record::HEAD_BYTES + 1];

#[test]
fn damage_that_a_checkpoint_has_is_stepped_over_and_told() {
    for at in IN_A_RECORD {
        let (directory, places) = in_one_segment(6);
        flip(&directory, places[2].0.offset as usize + at);
        let told = refused(directory.path(), known(&places, 2));
        assert!(told.contains("position 3"), "{told}");
        for applied in 3..=6 {
            let (journal, opened) = open(directory.path(), known(&places, applied)).unwrap();
            assert_eq!(journal.tip(), places[5].1);
            let damaged = Vec::from_iter(opened.damaged.iter().map(ToString::to_string));
            assert!(damaged.len() == 1 && damaged[0] == told, "{damaged:?}");
            assert_eq!(opened.zeroed_bytes, 0);
            let reader = journal.reader();
            let mut records = reader.records(4).unwrap();
            assert_eq!(records.next_record().unwrap().unwrap().effects, [3]);
            assert!(reader.records(3).unwrap().next_record().is_err());
            let (mut read, mut lost) = (Vec::new(), Vec::new());
            let mut through = reader.through(1).unwrap();
            while let Some(next) = through.next().unwrap() {
                match next {
                    super::Next::Record(record) => read.push(record.head.position),
                    super::Next::Lost { positions, .. } => lost.push(positions),
                }
            }
            assert_eq!(read, [1, 2, 4, 5, 6]);
            assert!(lost.len() == 1 && lost[0] == (3..4), "{lost:?}");
        }
    }
}

/// The chain says whether what follows is what the checkpoint knows.
#[test]
fn what_follows_damage_and_is_not_what_the_checkpoint_knows_is_refused() {
    let (directory, places) = in_one_segment(6);
    flip(&directory, places[2].0.offset as usize + 30);
    let mut known = known(&places, 3);
    known.begin.chain ^= 1;
    let told = refused(directory.path(), known);
    assert!(told.contains("position 3"), "{told}");
}

#[test]
fn behind_a_closed_end_that_is_damaged_the_journal_goes_on_in_a_new_segment() {
    let last = 5;
    for at in [20, usize::MAX] {
        let (directory, places) = in_one_segment(last as u8);
        let place = places[last - 1].0.offset as usize;
        flip(&directory, if at == usize::MAX { place + 30 } else { at });
        let mut known = known(&places, last);
        let told = refused(directory.path(), known);
        assert!(told.contains("segment is damaged at byte"), "{told}");
        known.is_closed = true;
        for time in 0..2 {
            let (mut journal, opened) = open(directory.path(), known).unwrap();
            assert!(opened.damaged.len() == 1 || time > 0);
            assert_eq!(journal.tip().position, last as u64 + 1 + time);
            append(&mut journal, b"more", b"");
            known.is_closed = false;
        }
    }
}

/// The places of a missing segment are told as lost, wherever reading begins.
#[test]
fn what_a_missing_segment_had_is_lost_and_the_rest_is_read() {
    let (directory, _) = filled(20);
    let (journal, _) = open(directory.path(), KNOWN).unwrap();
    let segments = journal.reader().segments();
    drop(journal);
    let known = Known {
        applied: 20,
        begin: Tip {
            position: 1,
            chain: 0,
        },
        ..KNOWN
    };
    let missing = segments[1].begin.position..segments[2].begin.position;
    for number in [1, 0] {
        std::fs::remove_file(directory.path().join(name_of(number))).unwrap();
        let (journal, _) = open(directory.path(), known).unwrap();
        let mut through = journal.reader().through(missing.start).unwrap();
        assert_eq!(through.position(), missing.start);
        match through.next().unwrap() {
            Some(super::Next::Lost { positions, .. }) => assert_eq!(positions, missing),
            _ => panic!("it is missing"),
        }
        let mut read = 0;
        while let Some(super::Next::Record(_)) = through.next().unwrap() {
            read += 1;
        }
        assert_eq!(read, 20 - (missing.end - 1));
    }
}

/// The last record erases a part of a record that was damaged since, and the bytes were not overwritten yet.
#[test]
fn erasing_a_part_of_a_damaged_record_is_done_where_it_can_be_and_told_once() {
    let head = super::record::HEAD_BYTES;
    let in_head = ("no record begins here", 30, false);
    // The table of one part takes 8 bytes.
    let in_effects = (
        "the checksum of the record's effects is wrong",
        head + 8,
        true,
    );
    // In the segment that is written on, and in an older one.
    for records in [3, 12] {
        for (reason, at, is_overwritten) in [in_head, in_effects] {
            let (directory, places) = filled(records);
            let file = directory.path().join(name_of(0));
            let before = std::fs::read(&file).unwrap();
            let (mut journal, _) = open(directory.path(), KNOWN).unwrap();
            let erasing = &[places[1], places[2]];
            journal.append(&RecordDraft::default(), erasing).unwrap();
            let tip = journal.tip();
            drop(journal);
            let offset = places[1].offset as usize;
            let part = offset + head..places[2].offset as usize + head + 9 + 3_000;
            let mut bytes = std::fs::read(&file).unwrap();
            bytes[part.clone()].copy_from_slice(&before[part]);
            bytes[offset + at] ^= 1;
            std::fs::write(&file, bytes).unwrap();

            let known = Known {
                begin: tip,
                applied: tip.position - 1,
                newest: tip.position - 1,
                ..KNOWN
            };
            for _ in 0..2 {
                let (journal, opened) = open(directory.path(), known).unwrap();
                let damaged = Vec::from_iter(opened.damaged.iter().map(ToString::to_string));
                let place = format!("{} is damaged at byte {offset}, position 2", name_of(0));
                let told = format!("{place}: {reason}");
                assert_eq!(damaged, [told], "{records} records");
                let has = |number: u8| {
                    let bytes = std::fs::read(&file).unwrap();
                    bytes.windows(100).any(|window| window == [number; 100])
                };
                assert_eq!(has(1), !is_overwritten, "{reason}");
                assert!(!has(2), "the part of the whole record is overwritten");
                assert_eq!(journal.tip(), tip);
            }
        }
    }
}

/// The next segment begins with the record that follows, so nothing is lost.
#[test]
fn a_damaged_end_mark_keeps_nobody_from_reading_on() {
    let (directory, _) = filled(20);
    let (journal, _) = open(directory.path(), KNOWN).unwrap();
    let segments = journal.reader().segments();
    drop(journal);
    assert!(segments.len() > 3);
    for pair in segments.windows(2) {
        let file = directory.path().join(&pair[0].name);
        let mut bytes = std::fs::read(&file).unwrap();
        let mark = pair[0].encode_end(pair[1].begin);
        let found = bytes.windows(mark.len()).position(|bytes| bytes == mark);
        bytes[found.expect("it has its mark") + 20] ^= 1;
        std::fs::write(&file, bytes).unwrap();
    }
    let (journal, _) = open(directory.path(), KNOWN).unwrap();
    for begin in 1..=20 {
        let mut records = journal.reader().records(begin).unwrap();
        for number in begin..=20 {
            let record = records.next_record().unwrap().unwrap();
            assert_eq!(record.effects, [number as u8 - 1]);
        }
    }
}
