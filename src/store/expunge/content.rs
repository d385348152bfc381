//! The content that one commit erases, found where it stands.
//!
//! Whoever waits for a commit waits for its erasing, too. So a commit erases a bounded number of parts and
//! bytes, and an erasure of more is several commits.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::engine::{Changes, Engine};
use super::super::index::Place;
use super::super::layout::{self, AnswerContent, MessageMeta, RecordError, RequestContent};
use super::super::slice::{AttemptFound, FoundItem, Slice};
use crate::domain::attempt::Attempt;
use crate::journal::{ErasingCosts, PartPlace, Reader};

/// How many parts a commit erases, or one or two more; few in tests, which then need many commits.
const PARTS_MAX: usize = if cfg!(test) { 7 } else { 512 };
/// How many bytes a commit overwrites and reads for it, or changes in databases: a few milliseconds' worth.
/// A single part may have more.
const BYTES_MAX: u64 = 2 << 20;
/// In how many files of the journal: each is opened, overwritten and synced, and looked through again by a start
/// after a crash.
const SEGMENTS_MAX: usize = 8;

/// Content that is erased by one commit.
#[derive(Default)]
pub struct Content {
    /// In the order in which they stand there.
    pub parts: Vec<PartPlace>,
    pub databases: Vec<OfDatabase>,
}

/// Changes of a database of history.
pub struct OfDatabase {
    pub number: u32,
    pub engine: Arc<Engine>,
    pub changes: Changes,
}

impl Content {
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.databases.is_empty()
    }
}

/// A slice with its number.
pub type Numbered<'a> = (u32, &'a Slice);

/// Finds content for one commit.
pub struct Finder {
    costs: ErasingCosts,
    bytes: u64,
    segments: BTreeSet<u64>,
    content: Content,
}

impl Finder {
    pub fn new(reader: &Reader) -> Finder {
        Finder {
            costs: reader.erasing_costs(),
            bytes: 0,
            segments: BTreeSet::new(),
            content: Content::default(),
        }
    }

    /// Whether it is enough for one commit.
    pub fn is_full(&self) -> bool {
        self.content.parts.len() >= PARTS_MAX
            || self.bytes >= BYTES_MAX
            || self.segments.len() >= SEGMENTS_MAX
    }

    pub fn found(self) -> Content {
        let mut content = self.content;
        content.parts.sort_unstable();
        content
    }

    /// Finds the payload of a message that was found under its key.
    pub fn payload(
        &mut self,
        (number, slice): Numbered<'_>,
        key: &[u8],
        found: &FoundItem,
    ) -> Result<(), RecordError> {
        match (slice, found) {
            (Slice::Journal(_), FoundItem::Place(record)) => self.parts(slice, *record, &[1]),
            (Slice::Database(engine), FoundItem::Value(_)) => {
                self.change(number, engine, |engine, changes| {
                    without_payload(engine, changes, key)
                })
            }
            _ => unreachable!("what was found is of this slice"),
        }
    }

    /// Finds the answer to an attempt, and its request where that is wanted, too.
    pub fn attempt(
        &mut self,
        (number, slice): Numbered<'_>,
        found: &AttemptFound,
        with_request: bool,
    ) -> Result<(), RecordError> {
        match (slice, &found.found) {
            (Slice::Journal(_), FoundItem::Place(record)) => {
                let behind: &[u16] = if with_request { &[1, 2] } else { &[2] };
                self.parts(slice, *record, behind)
            }
            (Slice::Database(engine), _) => {
                let key = layout::attempt_key(found.lane, found.id);
                self.change(number, engine, |engine, changes| {
                    without_answer(engine, changes, &key, with_request)
                })
            }
            _ => unreachable!("what was found is of this slice"),
        }
    }

    /// Takes parts behind the record at a place. One that cannot be found is told here, and not by the
    /// committer.
    fn parts(&mut self, slice: &Slice, record: Place, behind: &[u16]) -> Result<(), RecordError> {
        let part = |behind: &u16| record.part + behind;
        let places = behind.iter().map(|behind| Place {
            part: part(behind),
            ..record
        });
        let places: Vec<PartPlace> = places.filter_map(|place| slice.part(place)).collect();
        let costs = places.iter().map(|place| self.costs.of(*place));
        let bytes = costs.sum::<Result<u64, _>>()?;
        self.bytes += bytes;
        self.segments
            .extend(places.iter().map(|place| place.segment));
        self.content.parts.extend(places);
        Ok(())
    }

    fn change(
        &mut self,
        number: u32,
        engine: &Arc<Engine>,
        change: impl FnOnce(&Engine, &mut Changes) -> Result<(), RecordError>,
    ) -> Result<(), RecordError> {
        let mut changes = Changes::default();
        change(engine, &mut changes)?;
        self.bytes += changes.bytes() as u64;
        let engine = engine.clone();
        self.content.databases.push(OfDatabase {
            number,
            engine,
            changes,
        });
        Ok(())
    }
}

fn without_payload(engine: &Engine, changes: &mut Changes, key: &[u8]) -> Result<(), RecordError> {
    let Some(record) = layout::get::<MessageMeta>(engine, key)? else {
        return Ok(());
    };
    let mut meta = record.meta;
    meta.expunged = true;
    meta.is_raw = false;
    layout::replace_with(engine, changes, key, &meta, b"{}")?;
    Ok(())
}

fn without_answer(
    engine: &Engine,
    changes: &mut Changes,
    key: &[u8],
    with_request: bool,
) -> Result<(), RecordError> {
    let Some(record) = layout::get::<Attempt>(engine, key)? else {
        return Ok(());
    };
    let mut attempt = record.meta;
    let (request, _) = layout::take_content(&mut attempt);
    let request = match with_request {
        true => RequestContent::erased(),
        false => request,
    };
    layout::put_content(&mut attempt, request, AnswerContent::erased());
    if let Some(answer) = &mut attempt.answer {
        answer.truncated = false;
    }
    layout::replace(engine, changes, key, &attempt)?;
    Ok(())
}
