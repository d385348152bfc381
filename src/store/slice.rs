//! One slice of history for whoever reads it.
//!
//! A slice is a stretch of the journal with an index that leads from keys to places in it. One that was
//! written before history was in the journal is a database of its own, and is only read, until
//! retention takes it. Here the two are one: items under keys, and what stands there.

use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::engine::{self, Bytes, Engine};
use super::gap::{self, Gap, Gaps};
use super::index::{IndexError, IndexFile, IndexOf, OpenIndex, Place};
use super::layout::{
    self, AnswerContent, EventIdRecord, LaneHour, MessageMeta, OnceRecord, RecordError,
    RequestContent, Stretch,
};
use crate::clock::Timestamp;
use crate::domain::attempt::Attempt;
use crate::domain::id::{ApplicationId, AttemptId, MessageId};
use crate::domain::payload::PayloadBytes;
use crate::journal::{JournalError, Part, PartPlace, Reader};

mod attempts;
mod items;
mod making;

pub use attempts::{AttemptFound, AttemptsOfMessage};
use items::DatabaseItems;
pub use items::Items;
pub use making::{index_of, places};

type Result<T> = std::result::Result<T, RecordError>;

pub enum Slice {
    Database(Arc<Engine>),
    Journal(InJournal),
}

/// A slice that is a stretch of the journal.
pub struct InJournal {
    stretch: Stretch,
    index: Index,
    /// What the index lacks.
    gaps: Vec<Gap>,
    reader: Reader,
    /// Retention took the slice: what is missing of the journal then is no damage.
    is_removed: AtomicBool,
    /// Why the first part could not be read that a reader came upon.
    unreadable: OnceLock<String>,
}

enum Index {
    /// Of the slice that is written on, or of one whose file is not made yet.
    Memory(Arc<OpenIndex>),
    File(Arc<IndexFile>),
}

/// Where the record of an item stands.
#[derive(Clone)]
pub enum FoundItem {
    /// Its first value in the database.
    Value(Bytes),
    Place(Place),
}

/// A message as far as it was read.
pub struct MessageRead {
    pub meta: MessageMeta,
    /// None where it was not read.
    pub payload: Option<PayloadBytes>,
}

impl MessageRead {
    /// A message of which the payload was erased.
    fn erased(mut meta: MessageMeta) -> MessageRead {
        meta.expunged = true;
        meta.is_raw = false;
        MessageRead {
            meta,
            payload: Some("{}".into()),
        }
    }
}

impl Slice {
    pub fn get(&self, key: &[u8]) -> Result<Option<FoundItem>> {
        Ok(match self {
            Slice::Database(engine) => engine::Values::get(engine, key)?.map(FoundItem::Value),
            Slice::Journal(slice) => slice.get(key)?.map(FoundItem::Place),
        })
    }

    /// What cannot be read of it, oldest first.
    pub fn gaps(&self) -> &[Gap] {
        match self {
            Slice::Database(_) => &[],
            Slice::Journal(slice) => &slice.gaps,
        }
    }

    pub fn contains(&self, key: &[u8]) -> Result<bool> {
        Ok(self.get(key)?.is_some())
    }

    /// The items between two bounds, in the order of their keys; to be read from one end only. An error comes
    /// first where some may be missing.
    pub fn range(&self, from: Bound<Vec<u8>>, to: Bound<Vec<u8>>) -> Items {
        match self.gaps().first() {
            Some(gap) => Items::Unreadable(Some(gap.clone())),
            None => self.readable(from, to),
        }
    }

    /// Those that can be read. The caller sees to the gaps.
    pub fn readable(&self, from: Bound<Vec<u8>>, to: Bound<Vec<u8>>) -> Items {
        match self {
            Slice::Database(engine) => {
                let records = DatabaseItems::new(engine.clone(), from, to);
                Items::Database(Box::new(records))
            }
            Slice::Journal(slice) => match &slice.index {
                Index::Memory(index) => Items::Memory(index.range(from, to)),
                Index::File(index) => Items::File(index.range(from, to)),
            },
        }
    }

    /// The items whose keys start with `prefix`.
    pub fn prefix(&self, prefix: &[u8]) -> Items {
        let end = layout::end_of(prefix);
        self.range(Bound::Included(prefix.to_vec()), Bound::Excluded(end))
    }

    /// The message that was found under its key; its payload only where that costs nothing. None where
    /// the slice was removed meanwhile.
    pub fn message_without_payload(
        &self,
        key: &[u8],
        found: &FoundItem,
    ) -> Result<Option<MessageRead>> {
        match (self, found) {
            (Slice::Database(engine), FoundItem::Value(first)) => {
                if let Some(meta) = layout::at_a_glance::<MessageMeta>(key, first) {
                    let payload = None;
                    return Ok(Some(MessageRead { meta, payload }));
                }
                message_in(engine, key, first).map(Some)
            }
            (Slice::Journal(slice), FoundItem::Place(place)) => {
                let read = slice.reader.part_before(slice.place(*place));
                let Some((part, is_erased)) = slice.kept(read)? else {
                    return Ok(None);
                };
                let (meta, _) = layout::decode(key, &bytes(key, part)?)?;
                let payload = None;
                Ok(Some(match is_erased {
                    true => MessageRead::erased(meta),
                    false => MessageRead { meta, payload },
                }))
            }
            _ => unreachable!("what was found is of this slice"),
        }
    }

    /// The same with its payload.
    pub fn message(&self, key: &[u8], found: &FoundItem) -> Result<Option<MessageRead>> {
        match (self, found) {
            (Slice::Database(engine), FoundItem::Value(first)) => {
                message_in(engine, key, first).map(Some)
            }
            (Slice::Journal(slice), FoundItem::Place(place)) => {
                let Some([record, payload]) = slice.parts(*place)? else {
                    return Ok(None);
                };
                let (meta, _) = layout::decode(key, &bytes(key, record)?)?;
                Ok(Some(match payload {
                    Part::Erased => MessageRead::erased(meta),
                    Part::Whole(payload) => MessageRead {
                        meta,
                        payload: Some(payload.into()),
                    },
                }))
            }
            _ => unreachable!("what was found is of this slice"),
        }
    }

    /// The attempt that was found under its key, by lane and id.
    pub fn attempt(&self, key: &[u8], found: &FoundItem) -> Result<Option<Attempt>> {
        match (self, found) {
            (Slice::Database(engine), FoundItem::Value(first)) => {
                layout::read(engine, key, first).map(|record| Some(record.meta))
            }
            (Slice::Journal(slice), FoundItem::Place(place)) => slice.attempt(key, *place),
            _ => unreachable!("what was found is of this slice"),
        }
    }

    /// The attempts for a message behind this one, or all, in the order of their ids.
    pub fn attempts_of_message(
        &self,
        message: MessageId,
        behind: Option<AttemptId>,
    ) -> AttemptsOfMessage {
        match self.gap_in_attempts_of(message) {
            Some(gap) => AttemptsOfMessage {
                items: Items::Unreadable(Some(gap.clone())),
            },
            None => self.readable_attempts_of_message(message, behind),
        }
    }

    /// A gap that may have attempts for the message. No attempt is older than its message.
    pub fn gap_in_attempts_of(&self, message: MessageId) -> Option<&Gap> {
        self.gaps().iter().find(|gap| gap.to >= message.time())
    }

    /// Those of them that can be read, whatever else there was.
    pub fn readable_attempts_of_message(
        &self,
        message: MessageId,
        behind: Option<AttemptId>,
    ) -> AttemptsOfMessage {
        let prefix = layout::attempts_of_message_prefix(message);
        let to = Bound::Excluded(layout::end_of(&prefix));
        let from = match behind {
            // In the journal the lane follows.
            Some(id) => {
                let key = layout::attempt_of_message_key(message, id);
                Bound::Excluded(layout::behind_record(&key))
            }
            None => Bound::Included(prefix),
        };
        AttemptsOfMessage {
            items: self.readable(from, to),
        }
    }

    /// The attempt that was found among those of a message.
    pub fn attempt_of_message(&self, found: &AttemptFound) -> Result<Option<Attempt>> {
        let key = layout::attempt_key(found.lane, found.id);
        match &found.found {
            // One of a commit that never happened has a place and may have no attempt.
            FoundItem::Value(_) => match self.get(&key)? {
                Some(found) => self.attempt(&key, &found),
                None => Ok(None),
            },
            found => self.attempt(&key, found),
        }
    }

    /// The same without what was sent and what was answered, where these are parts of their own.
    pub fn attempt_without_content(&self, found: &AttemptFound) -> Result<Option<Attempt>> {
        let (Slice::Journal(slice), FoundItem::Place(place)) = (self, &found.found) else {
            return self.attempt_of_message(found);
        };
        let key = layout::attempt_key(found.lane, found.id);
        match slice.parts(*place)? {
            Some([record]) => Ok(Some(layout::decode(&key, &bytes(&key, record)?)?.0)),
            None => Ok(None),
        }
    }

    /// The attempt for a message with this id, and its lane.
    pub fn attempt_by_id(&self, message: MessageId, id: AttemptId) -> Result<Option<AttemptFound>> {
        let from = layout::attempt_of_message_key(message, id);
        let to = layout::behind_record(&from);
        let items = self.readable(Bound::Included(from), Bound::Excluded(to));
        let found = AttemptsOfMessage { items }.next();
        match found.transpose()? {
            None => self.refuse_in_a_gap(id.time()),
            found => Ok(found),
        }
    }

    /// Nothing, but where something of this time may be missing.
    fn refuse_in_a_gap<T>(&self, time: Timestamp) -> Result<Option<T>> {
        match self.gaps().iter().find(|gap| gap.may_have(time)) {
            Some(gap) => Err(RecordError::Gap(gap.clone())),
            None => Ok(None),
        }
    }

    /// The message with this event id, by the key that the event id has.
    pub fn event_id(
        &self,
        event_id_key: &[u8],
        application: ApplicationId,
    ) -> Result<Option<EventIdRecord>> {
        match self {
            Slice::Database(engine) => {
                let record = layout::get::<EventIdRecord>(engine, event_id_key)?;
                Ok(record.map(|record| record.meta))
            }
            Slice::Journal(_) => {
                let newest = self.prefix(event_id_key).next_back().transpose()?;
                Ok(newest.map(|(key, _)| EventIdRecord {
                    commit: 0,
                    application,
                    message: MessageId(layout::last_id(&key)),
                }))
            }
        }
    }

    /// The answer to a request with an idempotency key, and its body.
    pub fn once(&self, key: &[u8]) -> Result<Option<(OnceRecord, Vec<u8>)>> {
        match self {
            Slice::Database(engine) => {
                let record = layout::get::<OnceRecord>(engine, key)?;
                Ok(record.map(|record| (record.meta.clone(), record.raw().to_vec())))
            }
            Slice::Journal(slice) => {
                let Some(place) = slice.get(key)? else {
                    return Ok(None);
                };
                let Some([part]) = slice.parts(place)? else {
                    return Ok(None);
                };
                let mut record = bytes(key, part)?;
                let (once, body_at) = layout::decode::<OnceRecord>(key, &record)?;
                Ok(Some((once, record.split_off(body_at))))
            }
        }
    }

    /// Why the first part of it could not be read that a reader came upon.
    pub fn unreadable(&self) -> Option<&str> {
        match self {
            Slice::Journal(slice) => slice.unreadable.get().map(String::as_str),
            Slice::Database(_) => None,
        }
    }

    /// Notes that retention has taken it, before the journal's segments go.
    pub fn note_removed(&self) {
        if let Slice::Journal(slice) = self {
            slice.is_removed.store(true, Ordering::Release);
        }
    }

    /// Where a part stands in the journal; none in a database.
    pub fn part(&self, place: Place) -> Option<PartPlace> {
        match self {
            Slice::Database(_) => None,
            Slice::Journal(slice) => Some(slice.place(place)),
        }
    }

    /// Counts of the attempts at a lane, by hours from one to before another.
    pub fn hours(&self, lane: u64, from: u64, to: u64) -> Result<Vec<(u64, LaneHour)>> {
        match self {
            Slice::Database(engine) => {
                let range = engine.range(
                    Bound::Included(layout::lane_hour_key(lane, from)),
                    Bound::Excluded(layout::lane_hour_key(lane, to)),
                );
                let hours = range.map(|item| {
                    let (key, value) = item?;
                    let (counts, _) = layout::decode::<LaneHour>(&key, &value)?;
                    Ok((layout::hour_at_end(&key), counts))
                });
                hours.collect()
            }
            Slice::Journal(slice) if !slice.gaps.is_empty() => {
                Err(RecordError::Gap(slice.gaps[0].clone()))
            }
            Slice::Journal(slice) => Ok(match &slice.index {
                Index::Memory(index) => index.hours(lane, from, to),
                Index::File(index) => index.hours(lane, from, to)?,
            }),
        }
    }

    /// Shows the keys of all that must be unique, as filters know them; false where `stop`, which is
    /// asked now and then, said so.
    pub fn each_unique_key(
        &self,
        stop: impl Fn() -> bool,
        mut show: impl FnMut(&[u8]),
    ) -> Result<bool> {
        const STOP_ASKED_EVERY: usize = 1000;
        let mut count = 0;
        for kind in [layout::EVENT_ID, layout::ONCE] {
            for item in self.prefix(&[kind]) {
                let (key, _) = item?;
                show(match kind {
                    layout::EVENT_ID => &key[..layout::EVENT_ID_KEY_BYTES.min(key.len())],
                    _ => &key,
                });
                count += 1;
                if count % STOP_ASKED_EVERY == 0 && stop() {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

impl InJournal {
    /// One whose index is in memory.
    pub fn open(
        stretch: Stretch,
        index: Arc<OpenIndex>,
        gaps: Vec<Gap>,
        reader: Reader,
    ) -> InJournal {
        InJournal {
            stretch,
            index: Index::Memory(index),
            gaps,
            reader,
            is_removed: AtomicBool::new(false),
            unreadable: OnceLock::new(),
        }
    }

    /// One that is sealed: by its index file, which is read as a whole first where `looks_through` says so,
    /// and where there is none that is whole, by the journal. The second value is the reason why a file that
    /// is there was not believed.
    pub fn sealed(
        path: &Path,
        of: &IndexOf,
        stretch: Stretch,
        reader: &Reader,
        gaps: Gaps,
        looks_through: bool,
    ) -> Result<(InJournal, Option<IndexError>)> {
        let look_through = |file: IndexFile| match looks_through {
            true => file.verify().map(|()| file),
            false => Ok(file),
        };
        let opened = IndexFile::open(path, of).and_then(look_through);
        let (index, gaps, not_believed) = match opened {
            Ok(file) => (Index::File(Arc::new(file)), Vec::new(), None),
            Err(error @ IndexError::Io { .. }) => return Err(error.into()),
            Err(error) => {
                let (made, gaps) = index_of(stretch, reader, gaps)?;
                let is_there = !matches!(error, IndexError::Missing { .. });
                (
                    Index::Memory(Arc::new(made)),
                    gaps,
                    is_there.then_some(error),
                )
            }
        };
        let slice = InJournal {
            stretch,
            index,
            gaps,
            reader: reader.clone(),
            is_removed: AtomicBool::new(false),
            unreadable: OnceLock::new(),
        };
        Ok((slice, not_believed))
    }

    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// The index, where it is in memory.
    pub fn in_memory(&self) -> Option<&Arc<OpenIndex>> {
        match &self.index {
            Index::Memory(index) => Some(index),
            Index::File(_) => None,
        }
    }

    pub fn place(&self, place: Place) -> PartPlace {
        PartPlace {
            segment: self.stretch.segment + u64::from(place.segment),
            offset: place.offset,
            part: place.part.into(),
        }
    }

    /// The place of a key; an error where it may be among what the index lacks.
    fn get(&self, key: &[u8]) -> Result<Option<Place>> {
        let found = self.index.get(key)?;
        let time = gap::time_of(key);
        let may_have = |gap: &&Gap| time.is_none_or(|time| gap.may_have(time));
        match self.gaps.iter().find(may_have) {
            Some(gap) if found.is_none() => Err(RecordError::Gap(gap.clone())),
            _ => Ok(found),
        }
    }

    /// Nothing where the segment was removed with the slice while it was read.
    fn kept<T>(&self, read: std::result::Result<T, JournalError>) -> Result<Option<T>> {
        match read {
            Err(JournalError::Removed { .. }) if self.is_removed.load(Ordering::Acquire) => {
                Ok(None)
            }
            Err(error) => {
                if !error.passes() {
                    self.unreadable.get_or_init(|| error.to_string());
                }
                Err(error.into())
            }
            Ok(read) => Ok(Some(read)),
        }
    }

    /// The parts of an entry, of which there are so many; none where the slice was removed meanwhile.
    fn parts<const N: usize>(&self, place: Place) -> Result<Option<[Part; N]>> {
        let parts = self.kept(self.reader.parts(self.place(place), N as u32))?;
        Ok(parts.and_then(|parts| parts.try_into().ok()))
    }

    fn attempt(&self, key: &[u8], place: Place) -> Result<Option<Attempt>> {
        let Some([record, request, answer]) = self.parts(place)? else {
            return Ok(None);
        };
        let (mut attempt, _) = layout::decode::<Attempt>(key, &bytes(key, record)?)?;
        let request = match request {
            Part::Whole(bytes) => {
                layout::decode(&layout::content_key(layout::REQUEST, key), &bytes)?.0
            }
            Part::Erased => RequestContent::erased(),
        };
        let answer = match answer {
            Part::Whole(bytes) => {
                layout::decode(&layout::content_key(layout::ANSWER, key), &bytes)?.0
            }
            Part::Erased => {
                if let Some(answer) = &mut attempt.answer {
                    answer.truncated = false;
                }
                AnswerContent::erased()
            }
        };
        layout::put_content(&mut attempt, request, answer);
        Ok(Some(attempt))
    }
}

impl Index {
    fn get(&self, key: &[u8]) -> Result<Option<Place>> {
        match self {
            Index::Memory(index) => Ok(index.get(key)),
            Index::File(index) => Ok(index.get(key)?),
        }
    }
}

fn message_in(engine: &Arc<Engine>, key: &[u8], first: &Bytes) -> Result<MessageRead> {
    let record = layout::read::<MessageMeta>(engine, key, first)?;
    let meta = record.meta.clone();
    Ok(MessageRead {
        meta,
        payload: Some(record.into_payload()),
    })
}

/// The bytes of a record, which is never erased.
fn bytes(key: &[u8], part: Part) -> Result<Vec<u8>> {
    match part {
        Part::Whole(bytes) => Ok(bytes),
        Part::Erased => Err(RecordError::Damaged {
            kind: key[0],
            why: "it was erased, and only content is",
        }),
    }
}
