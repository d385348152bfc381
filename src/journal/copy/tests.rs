//! Segments as a backup reads them, and streams that go on from others.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::journal::tests::{KNOWN, open};
use crate::journal::{Disk, Journal, Known, Part, PartPlace, RecordDraft};

const STREAM: u64 = 5;

fn known(stream: u64) -> Known {
    Known { stream, ..KNOWN }
}

fn append(journal: &mut Journal, number: u8, erase: &[PartPlace]) -> PartPlace {
    let draft = RecordDraft {
        effects: &[number],
        time_ms: 1_000 + u64::from(number),
        parts: &[&[number; 3_000]],
        ..RecordDraft::default()
    };
    journal.append(&draft, erase).unwrap().place(0)
}

fn filled(records: u8) -> (TempDir, Journal, Vec<PartPlace>) {
    let directory = TempDir::new().unwrap();
    let (mut journal, _) = open(directory.path(), known(STREAM)).unwrap();
    let places = (0..records)
        .map(|number| append(&mut journal, number, &[]))
        .collect();
    (directory, journal, places)
}

/// All records' numbers and the bytes of their parts, of the segments in a directory.
fn numbers(path: &Path) -> Vec<u8> {
    let reader = Reader::beside(Arc::new(Disk::new(path.to_owned()))).unwrap();
    let mut numbers = Vec::new();
    for segment in reader.segments() {
        let walked = reader.walk_segment(&segment, None, |record| {
            reader.check_record(&segment, record).unwrap();
            numbers.extend_from_slice(&record.effects);
        });
        assert!(walked.unwrap().damage.is_none());
    }
    numbers
}

/// Copies what a reader sees, each segment as far as it goes.
fn copy(reader: &Reader, erased: &[PartName], to: &Path) {
    let mut stretches = reader.stretches_of(erased).unwrap();
    for segment in reader.segments() {
        let walked = reader.walk_segment(&segment, None, |_| {}).unwrap();
        let end = walked.copied_to(&segment);
        let erased = stretches.remove(&segment.number).unwrap_or_default();
        let mut bytes = Vec::new();
        // In small pieces, so that erased stretches begin and end anywhere.
        let mut copied = reader.bytes_of(&segment, 0..end, erased);
        let mut piece = [0; 777];
        loop {
            match copied.read(&mut piece).unwrap() {
                0 => break,
                read => bytes.extend_from_slice(&piece[..read]),
            }
        }
        assert_eq!(bytes.len() as u64, end);
        bytes.resize(segment.bytes as usize, 0);
        std::fs::write(to.join(segment_file(segment.number)), bytes).unwrap();
    }
}

#[test]
fn a_copy_beside_the_writer_is_the_journal_up_to_then() {
    let (directory, mut journal, _) = filled(20);
    let reader = Reader::beside(Arc::new(Disk::new(directory.path().to_owned()))).unwrap();
    assert_eq!(reader.next_position(), 21);
    append(&mut journal, 20, &[]);
    let to = TempDir::new().unwrap();
    copy(&reader, &[], to.path());
    assert_eq!(numbers(to.path()), Vec::from_iter(0..20));
    // A journal goes on from it, and knows its own end.
    let (mut copied, opened) = open(to.path(), known(STREAM)).unwrap();
    assert_eq!(opened.zeroed_bytes, 0);
    append(&mut copied, 99, &[]);
    drop(copied);
    assert_eq!(numbers(to.path()).last(), Some(&99));
}

#[test]
fn a_walk_goes_on_from_a_place_and_tells_what_was_erased() {
    let (_directory, mut journal, places) = filled(2);
    let reader = journal.reader();
    let segment = reader.segments().pop().unwrap();
    let first = reader.walk_segment(&segment, None, |_| {}).unwrap();
    assert_eq!((first.time_ms, first.is_sealed), (1_001, false));
    append(&mut journal, 3, &places[..1]);
    let mut seen = Vec::new();
    let next = reader.walk_segment(&segment, Some(first.end), |record| {
        seen.extend_from_slice(&record.effects);
    });
    let next = next.unwrap();
    assert_eq!(seen, [3]);
    let name = PartName {
        position: 1,
        part: 0,
    };
    assert_eq!(next.erasures, [name]);
    assert_eq!(next.end.tip.position, 4);
}

/// Whatever the file had when it was read: the bytes of an erased part are not in the copy.
#[test]
fn a_copy_writes_over_erased_parts_itself() {
    let (directory, journal, places) = filled(20);
    let to = TempDir::new().unwrap();
    let names = [2_u64, 7, 8, 19].map(|position| PartName { position, part: 0 });
    copy(&journal.reader(), &names, to.path());
    let (copied, _) = open(to.path(), known(STREAM)).unwrap();
    for (number, place) in (1..).zip(&places) {
        let part = copied.reader().part(*place).unwrap();
        let is_erased = names.iter().any(|name| name.position == number);
        assert_eq!(part == Part::Erased, is_erased, "{number}");
    }
    // And not from the source's file.
    assert_ne!(journal.reader().part(places[1]).unwrap(), Part::Erased);
    drop(directory);
}

#[test]
fn what_cannot_be_read_is_copied_as_it_is() {
    let (directory, journal, _) = filled(20);
    let reader = journal.reader();
    let segment = reader.segments().remove(1);
    let path = directory.path().join(segment_file(segment.number));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4_096 + 102] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let walked = reader.walk_segment(&segment, None, |_| {}).unwrap();
    assert!(walked.damage.is_some() && walked.is_sealed);
    assert_eq!(walked.copied_to(&segment), segment.bytes);
}

#[test]
fn a_journal_goes_on_as_another_stream_and_neither_is_taken_for_the_other() {
    let (directory, mut journal, places) = filled(6);
    journal.branch(6).unwrap();
    append(&mut journal, 6, &[]);
    let tip = journal.tip();
    drop(journal);
    assert_eq!(numbers(directory.path()), Vec::from_iter(0..7));
    let (mut journal, _) = open(directory.path(), known(6)).unwrap();
    assert_eq!(journal.tip(), tip);
    assert_ne!(journal.reader().part(places[0]).unwrap(), Part::Erased);
    // Its streams are known from each of its segments, whatever segments are left.
    for number in 7..15 {
        append(&mut journal, number, &[]);
    }
    let streams = journal.reader().segments();
    let streams = Vec::from_iter(streams.iter().map(|one| one.stream));
    assert!(
        streams.starts_with(&[5, 5]) && streams.ends_with(&[6, 6]),
        "{streams:?}"
    );
    drop(journal);
    drop(open(directory.path(), known(6)).unwrap());
    let other = open(directory.path(), known(STREAM)).err().unwrap();
    assert!(matches!(other, JournalError::OtherStream { .. }), "{other}");
    // And once more.
    let (mut journal, _) = open(directory.path(), known(6)).unwrap();
    journal.branch(7).unwrap();
    append(&mut journal, 15, &[]);
    drop(journal);
    drop(open(directory.path(), known(7)).unwrap());
    assert_eq!(numbers(directory.path()), Vec::from_iter(0..16));
}

/// The file of a removed segment becomes the next one: what was read of it is not believed.
#[test]
fn a_segment_that_is_gone_is_noticed() {
    let (directory, mut journal, _) = filled(20);
    let beside = Reader::beside(Arc::new(Disk::new(directory.path().to_owned()))).unwrap();
    let first = beside.segments().remove(0);
    assert!(beside.is_kept(&first).unwrap());
    journal
        .remove_segments(20, |segment, _| segment.number == 0)
        .unwrap();
    assert!(!beside.is_kept(&first).unwrap());
    let walked = journal.reader().walk_segment(&first, None, |_| {});
    assert!(walked.is_err());
}
