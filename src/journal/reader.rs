//! Reading: a part by its place, and stretches of records by position.
//!
//! A [`Reader`] is a handle for any thread. It sees records that are durable, and nothing after.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use super::erase::{ErasingCosts, Overwrite};
use super::error::{JournalError, Result, told};
use super::files::{DataFile, Directory, read_all};
use super::record::{Body, HEAD_BYTES, Head, PartName, PartRow, PartState, Tip, erased};
use super::segment::{Segment, number_in};
use super::walk::{Found, PartPlace, Record, Walk, read_part};
use crate::lock::locked;

/// How many of a part's bytes tell whether it was erased: what it is overwritten with repeats itself
/// after 16, and nobody can guess it.
const ERASED_LOOK_BYTES: u64 = 16;

/// A part as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Whole(Vec<u8>),
    Erased,
}

/// The state that the journal and its readers share.
pub struct Shared {
    pub files: Arc<dyn Directory>,
    /// By number; the last is the open one. Locked for look-ups only, never while a file is used.
    pub segments: RwLock<BTreeMap<u64, Arc<Segment>>>,
    /// The position after the last durable record.
    pub next: AtomicU64,
    /// Parts whose bytes are being overwritten, and are not yet certain to be on disk. The record that
    /// erases them is durable, so they count as erased, whatever is left of them.
    pub being_erased: Mutex<BTreeSet<PartName>>,
}

impl Shared {
    /// Notes the parts before the first of their bytes is overwritten.
    pub fn erasure_begins(&self, overwrites: &[Overwrite]) {
        let names = overwrites.iter().map(|one| one.name);
        locked(self.being_erased.lock()).extend(names);
    }

    /// The bytes of all noted parts are overwritten and synced.
    pub fn erasure_ended(&self) {
        locked(self.being_erased.lock()).clear();
    }

    fn is_being_erased(&self, name: &PartName) -> bool {
        locked(self.being_erased.lock()).contains(name)
    }

    pub fn segment(&self, number: u64) -> Option<Arc<Segment>> {
        let segments = locked(self.segments.read());
        segments.get(&number).cloned()
    }

    /// The newest segment that begins at or before this position.
    pub fn segment_at(&self, position: u64) -> Option<Arc<Segment>> {
        let segments = locked(self.segments.read());
        let mut newest_first = segments.values().rev();
        newest_first
            .find(|segment| segment.begin.position <= position)
            .cloned()
    }

    pub fn all_segments(&self) -> Vec<Arc<Segment>> {
        let segments = locked(self.segments.read());
        segments.values().cloned().collect()
    }
}

#[derive(Clone)]
pub struct Reader {
    pub(super) shared: Arc<Shared>,
}

/// How many of the newest segments tell what a journal is that nobody has open.
const AT_REST_MAX: usize = 3;

impl Reader {
    /// A reader of the newest segments of a journal that nobody has open, which is left as it is. Where
    /// the journal ends is not decided: what follows the last record reads as damage.
    ///
    /// # Errors
    /// `Io` if the directory cannot be listed. Segments without a header that can be read are left out.
    pub fn at_rest(files: Arc<dyn Directory>) -> Result<Reader> {
        let names = files.list().map_err(told("the journal", "listing"))?;
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| number_in(name)).collect();
        numbers.sort_unstable();
        let newest = numbers.into_iter().rev().take(AT_REST_MAX);
        let opened =
            newest.filter_map(|number| Some((number, Segment::open(&*files, number).ok()?)));
        let segments = opened.map(|(number, segment)| (number, Arc::new(segment)));
        Ok(Reader {
            shared: Arc::new(Shared {
                segments: RwLock::new(segments.collect()),
                files,
                next: AtomicU64::new(u64::MAX),
                being_erased: Mutex::default(),
            }),
        })
    }

    /// The position after the last durable record.
    pub fn next_position(&self) -> u64 {
        self.shared.next.load(Ordering::Acquire)
    }

    /// The segments there are, by number; the last is the open one.
    pub fn segments(&self) -> Vec<Arc<Segment>> {
        self.shared.all_segments()
    }

    /// The stream of the record at this position, where a segment has it.
    pub fn stream_at(&self, position: u64) -> Option<u64> {
        let segment = self.shared.segment_at(position);
        segment.map(|segment| segment.stream)
    }

    /// Reads one part: two reads, of the record's table and of the part.
    ///
    /// # Errors
    /// `Removed` if the segment is not kept any more, `Damaged` if the part or the way to it is.
    pub fn part(&self, place: PartPlace) -> Result<Part> {
        self.reading(place, |segment, file| {
            part_at(&self.shared, segment, file, place)
        })
    }

    /// Reads `count` parts of one record that follow each other: two reads, of the table and of all
    /// their bytes.
    ///
    /// # Errors
    /// As [`Reader::part`].
    pub fn parts(&self, first: PartPlace, count: u32) -> Result<Vec<Part>> {
        self.reading(first, |segment, file| {
            let rows = rows_at(segment, file, first, count)?;
            let read = read_together(segment, file, &rows, u64::from(first.offset), |row| {
                row.stored_bytes()
            })?;
            let parts = (first.part..).zip(rows.iter().zip(read));
            parts
                .map(
                    |(part, (row, stored))| match row.judge(&stored, &segment.salt) {
                        PartState::Whole => Ok(whole(stored, row)),
                        _ => part_at(&self.shared, segment, file, PartPlace { part, ..first }),
                    },
                )
                .collect()
        })
    }

    /// Reads one part, and tells whether the one behind it was erased, of which it reads no more than
    /// some bytes: two reads.
    ///
    /// # Errors
    /// As [`Reader::part`]. Damage of the part behind is not noticed.
    pub fn part_before(&self, place: PartPlace) -> Result<(Part, bool)> {
        self.reading(place, |segment, file| {
            let rows = rows_at(segment, file, place, 2)?;
            let [row, behind] = rows[..] else {
                unreachable!("as many rows as were asked for")
            };
            let looked_at = |one: &PartRow| match one.offset == row.offset {
                true => one.stored_bytes(),
                false => one.stored_bytes().min(ERASED_LOOK_BYTES),
            };
            let read = read_together(segment, file, &rows, u64::from(place.offset), looked_at)?;
            let [stored, beginning] = &read[..] else {
                unreachable!("as many parts as rows")
            };
            let seems_erased = *beginning == erased(beginning.len(), &segment.salt);
            // A short one that only looks like it is told by its checksum.
            let is_whole = behind.stored_bytes() <= ERASED_LOOK_BYTES
                && behind.judge(beginning, &segment.salt) == PartState::Whole;
            let part = match row.judge(stored, &segment.salt) {
                PartState::Whole => whole(stored.clone(), &row),
                _ => part_at(&self.shared, segment, file, place)?,
            };
            Ok((part, seems_erased && !is_whole))
        })
    }

    /// Tells for parts, one after the other, the cost of erasing them.
    pub fn erasing_costs(&self) -> ErasingCosts {
        ErasingCosts::new(self.shared.clone())
    }

    fn reading<T>(
        &self,
        place: PartPlace,
        read: impl FnOnce(&Segment, &dyn DataFile) -> Result<T>,
    ) -> Result<T> {
        let segment = self.shared.segment(place.segment);
        let segment = segment.ok_or(JournalError::Removed {
            segment: place.segment,
        })?;
        segment.reading(&*self.shared.files, |file| read(&segment, file))
    }

    /// The durable records from this position on, in order. It can be asked again after its end was
    /// reached: it goes on with what was appended meanwhile.
    ///
    /// # Errors
    /// `Missing` if no segment has the position.
    pub fn records(&self, position: u64) -> Result<Records> {
        let segment = self.shared.segment_at(position);
        let segment = segment.ok_or(JournalError::Missing {
            position,
            reason: "no segment begins before it",
        })?;
        Ok(Records {
            file: None,
            walk: Walk::new(segment),
            reader: self.clone(),
            position,
        })
    }

    /// The same behind a checkpoint, which is of this journal.
    ///
    /// # Errors
    /// `OtherCopy` if another record is before it, as well as those of [`Records::next_record`].
    pub fn records_behind(&self, checkpoint: Tip) -> Result<Records> {
        let mut records = self.records(checkpoint.position)?;
        while records.walk.tip.position < checkpoint.position {
            records.step()?;
        }
        records.walk.check_copy(checkpoint)?;
        Ok(records)
    }
}

fn part_at(
    shared: &Shared,
    segment: &Segment,
    file: &dyn DataFile,
    place: PartPlace,
) -> Result<Part> {
    let (offset, part) = (u64::from(place.offset), place.part);
    let (head, row) = row_at(segment, file, offset, part)?;
    let damage = |reason| segment.damage(head.position, offset, reason);
    if let Some(row) = row {
        let (mut stored, state) = read_part(segment, file, offset, &row)?;
        if state == PartState::Whole {
            stored.truncate(row.bytes as usize);
            return Ok(Part::Whole(stored));
        }
    }
    // Erased or damaged: the row itself may be wrong, which only the body's checksum tells.
    let body = body_at(segment, file, offset, &head)?;
    let row = &body.parts[part as usize];
    match read_part(segment, file, offset, row)? {
        (_, PartState::Erased) => Ok(Part::Erased),
        // Looked up last: a part that is noted later was not touched before it was read.
        _ if shared.is_being_erased(&PartName {
            position: head.position,
            part,
        }) =>
        {
            Ok(Part::Erased)
        }
        _ => Err(damage("the checksum of a part is wrong")),
    }
}

/// The head of the record at `offset`, and the row of its part as far as it makes sense.
pub(super) fn row_at(
    segment: &Segment,
    file: &dyn DataFile,
    offset: u64,
    part: u32,
) -> Result<(Head, Option<PartRow>)> {
    let bytes = Head::bytes_to_row(part);
    let unknown = |reason| segment.damage_at(offset, reason);
    if offset.saturating_add(bytes) > segment.bytes {
        return Err(unknown("a part is looked for beyond the end of the file"));
    }
    let mut rows = vec![0; bytes as usize];
    read_all(file, &mut rows, offset).map_err(told(&segment.name, "reading"))?;
    let head = Head::decode(&rows, &segment.salt)
        .map_err(|_| unknown("a part is looked for where no record begins"))?;
    if part >= head.parts || offset + head.record_bytes() > segment.bytes {
        return Err(unknown(
            "a part is looked for that the record does not have",
        ));
    }
    let row = head.row_unchecked(&rows[HEAD_BYTES..]);
    Ok((head, row))
}

/// The rows of `count` parts from this one on, as far as they make sense.
fn rows_at(
    segment: &Segment,
    file: &dyn DataFile,
    first: PartPlace,
    count: u32,
) -> Result<Vec<PartRow>> {
    let offset = u64::from(first.offset);
    let unknown = |reason| segment.damage_at(offset, reason);
    let no_such = || unknown("a part is looked for that the record does not have");
    let last = first.part.checked_add(count.saturating_sub(1));
    let bytes = Head::bytes_to_row(last.ok_or_else(no_such)?);
    if offset.saturating_add(bytes) > segment.bytes {
        return Err(unknown("a part is looked for beyond the end of the file"));
    }
    let mut rows = vec![0; bytes as usize];
    read_all(file, &mut rows, offset).map_err(told(&segment.name, "reading"))?;
    let head = Head::decode(&rows, &segment.salt)
        .map_err(|_| unknown("a part is looked for where no record begins"))?;
    let known = u64::from(first.part) + u64::from(count) <= u64::from(head.parts);
    if !known || offset + head.record_bytes() > segment.bytes {
        return Err(no_such());
    }
    if let Some(rows) = head.rows_unchecked(&rows[HEAD_BYTES..]) {
        return Ok(rows[first.part as usize..].to_vec());
    }
    // The table is damaged: the body's checksum says so.
    let body = body_at(segment, file, offset, &head)?;
    Ok(body.parts[first.part as usize..][..count as usize].to_vec())
}

/// The beginnings of parts that follow each other, of each so many bytes as `wanted` says, with one
/// read.
fn read_together(
    segment: &Segment,
    file: &dyn DataFile,
    rows: &[PartRow],
    record: u64,
    wanted: impl Fn(&PartRow) -> u64,
) -> Result<Vec<Vec<u8>>> {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
        return Ok(Vec::new());
    };
    let end = last.offset + wanted(last);
    let mut bytes = vec![0; (end - first.offset) as usize];
    read_all(file, &mut bytes, record + first.offset).map_err(told(&segment.name, "reading"))?;
    let stretch = |row: &PartRow| {
        let from = (row.offset - first.offset) as usize;
        bytes[from..from + wanted(row) as usize].to_vec()
    };
    Ok(rows.iter().map(stretch).collect())
}

fn whole(mut stored: Vec<u8>, row: &PartRow) -> Part {
    stored.truncate(row.bytes as usize);
    Part::Whole(stored)
}

fn body_at(segment: &Segment, file: &dyn DataFile, offset: u64, head: &Head) -> Result<Body> {
    let mut body = vec![0; head.body_bytes() as usize];
    read_all(file, &mut body, offset + HEAD_BYTES as u64)
        .map_err(told(&segment.name, "reading"))?;
    Body::decode(head, &body).ok_or_else(|| {
        let reason = "the checksum of the record's effects is wrong";
        segment.damage(head.position, offset, reason)
    })
}

/// Where a part's bytes and blind stand in a segment's file.
pub struct Extent {
    /// The record's position.
    pub position: u64,
    pub offset: u64,
    pub bytes: u64,
}

/// The extents of a record's parts, checked by the body's checksum: the body is read once for all of them.
pub struct Extents {
    /// The record's position.
    position: u64,
    /// Where the record begins.
    offset: u64,
    parts: Vec<PartRow>,
    /// Bytes that were read to find them.
    pub read_bytes: u64,
}

impl Extents {
    pub fn at(segment: &Segment, file: &dyn DataFile, offset: u64) -> Result<Extents> {
        let (head, _) = row_at(segment, file, offset, 0)?;
        let body = body_at(segment, file, offset, &head)?;
        Ok(Extents {
            position: head.position,
            offset,
            parts: body.parts,
            read_bytes: head.body_bytes(),
        })
    }

    pub fn of(&self, segment: &Segment, part: u32) -> Result<Extent> {
        let row = self.parts.get(part as usize).ok_or_else(|| {
            let reason = "a part is looked for that the record does not have";
            segment.damage(self.position, self.offset, reason)
        })?;
        Ok(Extent {
            position: self.position,
            offset: self.offset + row.offset,
            bytes: row.stored_bytes(),
        })
    }
}

/// A stretch of records; see [`Reader::records`].
pub struct Records {
    reader: Reader,
    walk: Walk,
    file: Option<Arc<dyn DataFile>>,
    /// The next position to hand out.
    position: u64,
}

impl Records {
    /// The position of the next record.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next durable record, `None` after the last.
    pub fn next_record(&mut self) -> Result<Option<Record>> {
        while self.position < self.reader.next_position() {
            if let Found::Record(record) = self.step()?
                && record.head.position == self.position
            {
                self.position += 1;
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    fn step(&mut self) -> Result<Found> {
        let files = &*self.reader.shared.files;
        let segment = self.walk.segment.clone();
        let (walk, kept) = (&mut self.walk, &mut self.file);
        let found = segment.reading_kept(files, kept, |file| walk.next(file))?;
        match &found {
            Found::Record(_) => {}
            // Only its end mark is damaged: the next one begins with the record that follows.
            Found::Nothing(_) if self.is_at_end_of_segment() => self.go_on(segment.number + 1)?,
            Found::Nothing(nothing) => self.pass_damage(nothing.reason)?,
            Found::End => self.go_on(segment.number + 1)?,
        }
        Ok(found)
    }

    /// Whether the next segment goes on with the next record, by its chain, too.
    fn is_at_end_of_segment(&self) -> bool {
        let next = self.reader.shared.segment(self.walk.segment.number + 1);
        next.is_some_and(|next| next.begin == self.walk.tip)
    }

    /// Steps over damage of which nobody asked for anything: it lies before the next position.
    fn pass_damage(&mut self, reason: &'static str) -> Result<()> {
        let damage = self.walk.damage(reason);
        let mut walk = self.walk.clone();
        let is_wanted = walk.tip.position >= self.position
            || !self.read(|file| walk.step_over(file))?
            || walk.tip.position > self.position;
        if is_wanted {
            return Err(damage);
        }
        self.walk = walk;
        Ok(())
    }

    /// Goes on behind damage that [`Records::next_record`] has told: with the next record that can be read, in
    /// this segment or a later one, or at the end. Returns the positions that are left out; there are none
    /// where only an end mark was damaged.
    pub(super) fn skip_damage(&mut self) -> Range<u64> {
        let from = self.position;
        let mut walk = self.walk.clone();
        let is_found = self.read(|file| walk.step_over(file));
        let segments = self.reader.segments();
        let next = segments
            .into_iter()
            .find(|next| next.number > walk.segment.number);
        self.position = match (is_found, next) {
            (Ok(true), _) => walk.tip.position,
            (_, Some(next)) => {
                walk = Walk::new(next);
                self.file = None;
                walk.tip.position
            }
            (_, None) => self.reader.next_position(),
        };
        self.walk = walk;
        self.position = self.position.max(from);
        from..self.position
    }

    fn read<T>(&mut self, read: impl FnOnce(&dyn DataFile) -> Result<T>) -> Result<T> {
        let files = &*self.reader.shared.files;
        let segment = self.walk.segment.clone();
        segment.reading_kept(files, &mut self.file, read)
    }

    fn go_on(&mut self, number: u64) -> Result<()> {
        let tip = self.walk.tip;
        let segment = self.reader.shared.segment(number);
        let segment = segment.ok_or(JournalError::Missing {
            position: tip.position,
            reason: "the segment that begins with it is not there",
        })?;
        if segment.begin != tip {
            let reason = "the segment does not continue the one before";
            return Err(segment.damage(tip.position, 0, reason));
        }
        self.walk = Walk::new(segment);
        self.file = None;
        Ok(())
    }
}
