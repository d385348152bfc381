//! What a journal has to hold, and comparing one with it.

use std::collections::{BTreeMap, BTreeSet};

use super::super::error::JournalError;
use super::super::reader::{Part, Reader, Records};
use super::super::record::PartName;
use super::super::walk::{PartPlace, Record};

#[derive(Clone, Debug)]
pub struct ModelRecord {
    pub effects: Vec<u8>,
    pub parts: Vec<ModelPart>,
    pub erases: Vec<PartName>,
    /// Where it was appended; unknown while it is not known whether it was.
    pub segment: Option<u64>,
    pub offset: u32,
}

#[derive(Clone, Debug)]
pub struct ModelPart {
    pub bytes: Vec<u8>,
    pub is_erased: bool,
}

#[derive(Clone, Default)]
pub struct Model {
    /// Acknowledged, or found after a start, by position.
    pub records: BTreeMap<u64, ModelRecord>,
    /// The last append, where it was not answered or answered with an error.
    pub unanswered: Option<ModelRecord>,
    /// Segments whose removal was acknowledged.
    pub removed: BTreeSet<u64>,
    /// Segments whose removal may have happened.
    pub removing: BTreeSet<u64>,
    /// What a durable checkpoint has.
    pub applied: u64,
}

impl Model {
    pub fn last(&self) -> u64 {
        self.records.len() as u64
    }

    pub fn add(&mut self, record: ModelRecord) {
        for name in &record.erases {
            let erased = self.records.get_mut(&name.position);
            erased.unwrap().parts[name.part as usize].is_erased = true;
        }
        self.records.insert(self.last() + 1, record);
    }

    /// Decides about the unanswered record after a start whose next position is this.
    pub fn decide(&mut self, next: u64, reader: &Reader) {
        let unanswered = self.unanswered.take();
        if next == self.last() + 2 {
            let mut record = unanswered.expect("a record is there that was never appended");
            let found = reader.records(next - 1).unwrap().next_record();
            let found = found.unwrap().expect("the last record is there");
            record.segment = Some(found.segment);
            record.offset = found.offset as u32;
            self.add(record);
        }
        assert_eq!(next, self.last() + 1, "the next position");
    }

    pub fn place(&self, name: PartName) -> Option<PartPlace> {
        let record = &self.records[&name.position];
        Some(PartPlace {
            segment: record.segment?,
            offset: record.offset,
            part: name.part,
        })
    }

    pub fn is_removed(&self, name: PartName) -> bool {
        let segment = self.records[&name.position].segment.unwrap();
        self.removed.contains(&segment)
    }

    /// Notes which removals have happened, after a start.
    pub fn decide_removals(&mut self, reader: &Reader) {
        let segments = reader.segments();
        let present: BTreeSet<u64> = segments.iter().map(|segment| segment.number).collect();
        for record in self.records.values() {
            let segment = record.segment.unwrap();
            let is_there = present.contains(&segment);
            assert!(
                !is_there || !self.removed.contains(&segment),
                "segment {segment} is back"
            );
            if !is_there && !self.removed.contains(&segment) {
                assert!(
                    self.removing.contains(&segment),
                    "segment {segment} is lost"
                );
                self.removed.insert(segment);
            }
        }
        self.removing.clear();
    }

    /// Compares all that there is with what there has to be; damage ends in `damaged`, which says
    /// whether it is expected.
    pub fn compare(&self, reader: &Reader, damaged: &mut dyn FnMut(JournalError)) {
        let mut before: Option<(u64, Records)> = None;
        for segment in reader.segments() {
            // From one segment into the next by its end mark, where none is missing.
            let goes_on = before.filter(|(number, _)| number + 1 == segment.number);
            let records = goes_on.map_or_else(
                || reader.records(segment.begin.position).unwrap(),
                |(_, records)| records,
            );
            let compared = self.compare_segment(reader, segment.number, records);
            before = match compared {
                Ok(records) => Some((segment.number, records)),
                Err(error) => {
                    damaged(error);
                    None
                }
            };
        }
        for (position, record) in &self.records {
            if *position >= reader.next_position() {
                continue;
            }
            for part in 0..record.parts.len() as u32 {
                let position = *position;
                self.compare_part(reader, PartName { position, part }, damaged);
            }
        }
    }

    /// Compares the records of a segment with the next ones of `records`.
    fn compare_segment(
        &self,
        reader: &Reader,
        number: u64,
        mut records: Records,
    ) -> Result<Records, JournalError> {
        let next = reader.next_position();
        let all = self.records.iter();
        // What the end is has been judged by the caller.
        let expected = all.filter(|(at, one)| one.segment == Some(number) && **at < next);
        for (position, expected) in expected {
            let found = records.next_record()?;
            expected.compare(*position, &found.expect("the journal goes on"));
        }
        Ok(records)
    }

    pub fn compare_part(
        &self,
        reader: &Reader,
        name: PartName,
        damaged: &mut dyn FnMut(JournalError),
    ) {
        let part = &self.records[&name.position].parts[name.part as usize];
        let place = self.place(name).expect("every record has a place");
        match reader.part(place) {
            Ok(Part::Whole(bytes)) => {
                assert!(!part.is_erased, "{name:?} was erased and is whole");
                assert_eq!(bytes, part.bytes, "{name:?}");
                assert!(!self.is_removed(name), "{name:?} was removed and is there");
            }
            Ok(Part::Erased) => assert!(part.is_erased, "{name:?} is erased and was not"),
            Err(JournalError::Removed { .. }) if self.is_removed(name) => {}
            Err(error) => damaged(error),
        }
    }
}

impl ModelRecord {
    fn compare(&self, position: u64, found: &Record) {
        assert_eq!(found.head.position, position, "the position");
        assert_eq!(
            found.effects, self.effects,
            "the effects of position {position}"
        );
        assert_eq!(
            found.erasures, self.erases,
            "the erasures of position {position}"
        );
        assert_eq!(found.parts.len(), self.parts.len());
        assert_eq!(found.segment, self.segment.unwrap());
        assert_eq!(found.offset, u64::from(self.offset));
    }
}
