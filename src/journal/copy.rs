//! Copying segments byte by byte, for backups: how far a segment's durable records go, and its bytes.
//!
//! A copy may be made while records are appended, parts are overwritten and segments are removed. Bytes that are
//! being overwritten are read half old and half new, so a copy writes over the parts itself that a record before
//! its end erases.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, RwLock};

use super::erase;
use super::error::{JournalError, Result, told};
use super::files::{DataFile, Directory};
use super::reader::{Reader, Shared};
use super::record::{PartName, Tip, erased};
use super::segment::{END_BYTES, Segment, name_of, number_in};
use super::walk::{Found, Record, Walk, parts_are_sound};

/// A place between two records of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentPlace {
    /// From the beginning of the file.
    pub offset: u64,
    pub tip: Tip,
}

/// The durable records of a segment, from a place in it on.
#[derive(Debug)]
pub struct Walked {
    /// The place behind the last record.
    pub end: SegmentPlace,
    /// Nothing more is appended to the segment.
    pub is_sealed: bool,
    /// The latest time of a record; 0 where there is none.
    pub time_ms: u64,
    /// The parts that these records erase.
    pub erasures: Vec<PartName>,
    /// The first damage that was met. The segment is to be copied whole then.
    pub damage: Option<JournalError>,
}

impl Walked {
    /// Where the segment's bytes end that are worth copying.
    pub fn copied_to(&self, segment: &Segment) -> u64 {
        match (&self.damage, self.is_sealed) {
            (Some(_), _) => segment.bytes,
            (None, true) => (self.end.offset + END_BYTES as u64).min(segment.bytes),
            (None, false) => self.end.offset,
        }
    }
}

/// Stretches of a segment's file, by their offsets, that hold erased parts.
pub type ErasedStretches = BTreeMap<u64, u64>;

impl Reader {
    /// A reader beside a process that may be appending, or of a journal that nobody has open. It sees what is on
    /// disk when this returns, and nothing that is appended later.
    ///
    /// # Errors
    /// `Io` if the directory cannot be listed, or the newest segment not be synced. Segments without a header that
    /// can be read are left out.
    pub fn beside(files: Arc<dyn Directory>) -> Result<Reader> {
        let names = files.list().map_err(told("the journal", "listing"))?;
        let mut segments = BTreeMap::new();
        for number in names.iter().filter_map(|name| number_in(name)) {
            match Segment::open(&*files, number) {
                Ok(segment) => drop(segments.insert(number, Arc::new(segment))),
                // It is not one any more, or never was whole.
                Err(JournalError::Io { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {}
                Err(error) if error.is_damage() => {}
                Err(error) => return Err(error),
            }
        }
        let next = match segments.values().next_back() {
            Some(newest) => end_on_disk(&*files, newest)?,
            None => 0,
        };
        Ok(Reader {
            shared: Arc::new(Shared {
                segments: RwLock::new(segments),
                files,
                next: AtomicU64::new(next),
                being_erased: Mutex::default(),
            }),
        })
    }

    /// A reader of one segment's file alone, which has the records before this position.
    pub fn of_segment(files: Arc<dyn Directory>, number: u64, next: u64) -> Result<Reader> {
        let segment = Arc::new(Segment::open(&*files, number)?);
        Ok(Reader {
            shared: Arc::new(Shared {
                segments: RwLock::new(BTreeMap::from([(number, segment)])),
                files,
                next: AtomicU64::new(next),
                being_erased: Mutex::default(),
            }),
        })
    }

    /// Reads all parts of a record.
    ///
    /// # Errors
    /// `Damaged` if one is neither whole nor erased.
    pub fn check_record(&self, segment: &Segment, record: &Record) -> Result<()> {
        let files = &*self.shared.files;
        let is_sound = segment.reading(files, |file| parts_are_sound(segment, file, record))?;
        match is_sound {
            true => Ok(()),
            false => {
                let reason = "the checksum of a part is wrong";
                Err(segment.damage(record.head.position, record.offset, reason))
            }
        }
    }

    /// Walks over the durable records of a segment, from its beginning or a place in it, and shows each.
    ///
    /// # Errors
    /// `Removed` if the segment is not kept any more, and those that are no damage. Damage is part of the answer.
    pub fn walk_segment(
        &self,
        segment: &Arc<Segment>,
        from: Option<SegmentPlace>,
        mut show: impl FnMut(&Record),
    ) -> Result<Walked> {
        let mut walk = Walk::new(segment.clone());
        if let Some(from) = from {
            (walk.offset, walk.tip) = (from.offset, from.tip);
        }
        let next_segment = self.shared.segment(segment.number + 1);
        let (mut time_ms, mut erasures, mut damage) = (0, Vec::new(), None);
        let mut file = None;
        let is_sealed = loop {
            if next_segment.is_none() && walk.tip.position >= self.next_position() {
                break false;
            }
            let files = &*self.shared.files;
            match segment.reading_kept(files, &mut file, |file| walk.next(file))? {
                Found::Record(record) => {
                    time_ms = time_ms.max(record.head.time_ms);
                    erasures.extend_from_slice(&record.erasures);
                    show(&record);
                }
                Found::End => break true,
                // A process that ended in between has not written the end mark.
                Found::Nothing(_)
                    if next_segment
                        .as_ref()
                        .is_some_and(|next| next.begin == walk.tip) =>
                {
                    break true;
                }
                Found::Nothing(nothing) => {
                    damage.get_or_insert_with(|| walk.damage(nothing.reason));
                    let goes_on =
                        segment.reading_kept(files, &mut file, |file| walk.step_over(file))?;
                    if !goes_on {
                        break next_segment.is_some();
                    }
                }
            }
        };
        Ok(Walked {
            end: SegmentPlace {
                offset: walk.offset,
                tip: walk.tip,
            },
            is_sealed,
            time_ms,
            erasures,
            damage,
        })
    }

    /// Whether the segment's file is still its own.
    pub fn is_kept(&self, segment: &Segment) -> Result<bool> {
        match Segment::open(&*self.shared.files, segment.number) {
            Ok(found) => Ok(found.salt == segment.salt),
            Err(JournalError::Io { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {
                Ok(false)
            }
            Err(error) if error.is_damage() => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The stretches of the segments' files that the parts with these names take, by the segments' numbers. Parts of
    /// segments that are not kept any more are left out.
    pub fn stretches_of(&self, names: &[PartName]) -> Result<BTreeMap<u64, ErasedStretches>> {
        let mut stretches: BTreeMap<u64, ErasedStretches> = BTreeMap::new();
        for (segment, offset, bytes) in erase::extents(&self.shared, names)? {
            stretches.entry(segment).or_default().insert(offset, bytes);
        }
        Ok(stretches)
    }

    /// Reads these bytes of a segment's file, and instead of those in `erased` what erased parts hold.
    pub fn bytes_of(
        &self,
        segment: &Arc<Segment>,
        range: Range<u64>,
        erased: ErasedStretches,
    ) -> SegmentBytes {
        SegmentBytes {
            reader: self.clone(),
            segment: segment.clone(),
            file: None,
            range,
            erased,
        }
    }
}

/// The position behind the last record that is on disk.
fn end_on_disk(files: &dyn Directory, newest: &Arc<Segment>) -> Result<u64> {
    let name = &newest.name;
    let file = files.open(name).map_err(told(name, "opening"))?;
    // Another process may not have synced yet what it appended last.
    file.sync().map_err(told(name, "syncing"))?;
    let mut walk = Walk::new(newest.clone());
    let mut last = None;
    while let Found::Record(record) = walk.next(&*file)? {
        last = Some(record);
    }
    // A start would cut it off.
    let is_whole = last.map_or(Ok(true), |last| parts_are_sound(newest, &*file, &last))?;
    Ok(walk.tip.position - u64::from(!is_whole))
}

/// Bytes of a segment's file; see [`Reader::bytes_of`].
pub struct SegmentBytes {
    reader: Reader,
    segment: Arc<Segment>,
    file: Option<Arc<dyn DataFile>>,
    range: Range<u64>,
    erased: ErasedStretches,
}

impl io::Read for SegmentBytes {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let left = self.range.end.saturating_sub(self.range.start);
        let wanted = bytes.len().min(left as usize);
        let (from, files) = (self.range.start, &*self.reader.shared.files);
        let read = self.segment.reading_kept(files, &mut self.file, |file| {
            let read = file.read_some(&mut bytes[..wanted], from);
            read.map_err(told(&self.segment.name, "reading"))
        });
        let read = read.map_err(io::Error::other)?;
        if read == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let end = from + read as u64;
        for (offset, length) in self.erased.range(..end) {
            let stretch = (*offset).max(from)..(offset + length).min(end);
            if stretch.is_empty() {
                continue;
            }
            let filler = erased((stretch.end - offset) as usize, &self.segment.salt);
            let into = (stretch.start - from) as usize..(stretch.end - from) as usize;
            bytes[into].copy_from_slice(&filler[(stretch.start - offset) as usize..]);
        }
        self.range.start = end;
        Ok(read)
    }
}

/// The name of a segment's file.
pub fn segment_file(number: u64) -> String {
    name_of(number)
}

#[cfg(test)]
mod tests;
