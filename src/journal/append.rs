//! Appending: the journal's one writer.
//!
//! At most one record is unsynced at any time. A change of segment writes the new segment's header,
//! then its name, then the end mark of the old one, each synced before the next.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rand::rngs::StdRng;
use rand::{Rng, RngCore};

use super::erase::{self, Overwrite};
use super::error::{JournalError, Result, told};
use super::files::{DataFile, Directory, write_all};
use super::reader::{Reader, Shared};
use super::record::{self, PartName, RecordDraft, Tip};
use super::segment::{END_BYTES, HEADER_BYTES, Segment};
use super::spares::{Spares, Zeroing};
use super::walk::PartPlace;
use crate::lock::locked;

/// Memory that is kept for the next record, once one was longer.
const BUFFER_BYTES_KEPT: usize = 8 << 20;
/// Of file systems: less is not given back.
const BLOCK_BYTES: u64 = 4096;
/// How many of the newest segments' files stay open for readers.
const OPEN_FILES: u64 = 16;

#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// The length of a new segment; one that begins with a longer record is as long as that needs.
    pub segment_bytes: u32,
    /// Spares are made and kept only while this much stays free on the disk.
    pub free_bytes_min: u64,
}

/// The knowledge that others have of the journal when it is opened.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    pub stream: u64,
    /// Where the stream begins: 1 and 0 for one that begins with nothing before it.
    pub begin: Tip,
    /// Everything up to this position is in a durable checkpoint: segments before it may be missing.
    pub applied: u64,
    /// The highest position that a checkpoint, an index, a backup or another journal has.
    pub newest: u64,
    /// Nothing was appended behind `applied` that anybody was told of: the last process ended cleanly.
    pub is_closed: bool,
}

/// The findings of opening the journal.
#[derive(Debug, Default)]
pub struct Opened {
    /// Damage that keeps nobody from going on, since everything up to there is in a checkpoint: headers of
    /// old segments, of which nothing can be read then, records of the newest, and records of which the last
    /// one erases parts.
    pub damaged: Vec<JournalError>,
    /// Bytes behind the last record that were not zero and are now: an unfinished record, or what an
    /// earlier use of the file left.
    pub zeroed_bytes: u64,
    /// Where these bytes were, if there were any.
    pub cut_off: Option<CutOff>,
}

/// The place behind the last record from which on bytes were zeroed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutOff {
    pub file: String,
    /// From the beginning of the file.
    pub offset: u64,
    /// The position that a record there would have.
    pub position: u64,
}

/// A durable record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub position: u64,
    /// Bytes of the record in its file.
    pub bytes: u64,
    segment: u64,
    offset: u32,
}

impl Appended {
    /// The place of one of the record's parts, from 0.
    pub fn place(&self, part: u32) -> PartPlace {
        PartPlace {
            segment: self.segment,
            offset: self.offset,
            part,
        }
    }
}

/// The writer's side of a journal.
pub struct Journal {
    pub(super) shared: Arc<Shared>,
    pub(super) spares: Arc<Spares>,
    pub(super) sizes: Sizes,
    pub(super) stream: u64,
    /// The streams that this one goes on from.
    pub(super) ancestors: Arc<[u64]>,
    pub(super) open: Open,
    pub(super) tip: Tip,
    pub(super) random: StdRng,
    /// The record being written; kept for its memory.
    pub(super) buffer: Vec<u8>,
    /// A write or sync failed: see [`JournalError::Failed`].
    pub(super) has_failed: bool,
}

/// The segment that is appended to.
pub struct Open {
    pub segment: Arc<Segment>,
    pub file: Arc<dyn DataFile>,
    /// Where the next record begins.
    pub offset: u64,
}

impl Journal {
    /// Appends one record and erases the given parts of earlier ones. When it returns, the record is
    /// durable and the parts are overwritten on disk. Parts of segments that were removed are left
    /// out.
    ///
    /// # Errors
    /// `TooLong`, `Damaged` (a part to erase cannot be found) and `Io` with a new segment for which
    /// there is no space leave the journal as it was. After any other error it is not known whether
    /// the record is there, and the journal takes nothing more: `Failed`.
    pub fn append(&mut self, draft: &RecordDraft, erase: &[PartPlace]) -> Result<Appended> {
        self.refuse_if_failed()?;
        let overwrites = erase::locate(&self.shared, erase)?;
        let names: Vec<PartName> = overwrites.iter().map(|one| one.name).collect();
        let bytes = record::encoded_bytes(draft, names.len());
        let max = Segment::record_bytes_max(u32::MAX.into());
        if bytes > max {
            return Err(JournalError::TooLong { bytes, max });
        }
        if self.open.offset + bytes + END_BYTES as u64 > self.open.segment.bytes {
            self.roll(bytes)?;
        }
        let appended = self.write(draft, &names)?;
        self.erase(&overwrites)?;
        Ok(appended)
    }

    /// Begins a new segment, where the open one has a record: what comes from now on is removed by
    /// itself. What is left of the old one is given back to the file system.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn begin_segment(&mut self) -> Result<()> {
        self.refuse_if_failed()?;
        if self.open.segment.begin == self.tip {
            return Ok(());
        }
        let ended = (self.open.file.clone(), self.open.offset + END_BYTES as u64);
        self.roll(0)?;
        let (file, end) = ended;
        // Nothing depends on it, and where it cannot be done, the space is there as before.
        let _ = file.give_back(end.next_multiple_of(BLOCK_BYTES));
        Ok(())
    }

    /// Goes on as another stream, in a new segment: from here on this is no copy of the journal that it was,
    /// and neither is taken for the other.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn branch(&mut self, stream: u64) -> Result<()> {
        self.refuse_if_failed()?;
        let segments = self.shared.all_segments();
        let streams: BTreeSet<u64> = segments.iter().map(|segment| segment.stream).collect();
        self.ancestors = streams.into_iter().collect();
        self.stream = stream;
        self.roll(0)
    }

    /// Makes certain that the next record, if it has at most so many bytes, finds its space on disk taken:
    /// the open segment has room for it, or a file for another segment of the usual length is there.
    ///
    /// # Errors
    /// Where no file can be made; the journal is as it was.
    pub fn make_room(&mut self, record_bytes: u64) -> Result<()> {
        self.refuse_if_failed()?;
        let fits = self.open.offset + record_bytes + END_BYTES as u64 <= self.open.segment.bytes;
        match fits {
            true => Ok(()),
            false => self.spares.have_one(),
        }
    }

    /// Whether the next record, if it has at most so many bytes, goes into the open segment, and the file system
    /// has given that all its space: it can be appended to a disk that is full.
    pub fn has_taken(&self, record_bytes: u64) -> bool {
        let Open {
            segment,
            file,
            offset,
        } = &self.open;
        let fits = offset + record_bytes + END_BYTES as u64 <= segment.bytes;
        !self.has_failed && fits && file.has_taken(segment.bytes).unwrap_or(false)
    }

    /// Which stream of records this is.
    pub fn stream(&self) -> u64 {
        self.stream
    }

    /// The place that the next record gets.
    pub fn tip(&self) -> Tip {
        self.tip
    }

    /// The segment that is appended to, and the position of the next record: it stands there, or begins
    /// the next segment where it does not fit.
    pub fn next(&self) -> (u64, u64) {
        (self.open.segment.number, self.tip.position)
    }

    /// Whether a write or sync failed, after which the process has to end.
    pub fn has_failed(&self) -> bool {
        self.has_failed
    }

    pub fn reader(&self) -> Reader {
        Reader {
            shared: self.shared.clone(),
        }
    }

    /// The maker of spares, for a thread of its own.
    pub fn zeroing(&self) -> Zeroing {
        Zeroing::new(self.spares.clone())
    }

    /// Removes the segments of which `may_go` says so, by the segment and the position at which the
    /// next one begins. Only segments that lie before `applied`, the position up to which a durable checkpoint has everything, are
    /// asked for; the open one never is. Answers how many were removed.
    pub fn remove_segments(
        &mut self,
        applied: u64,
        may_go: impl Fn(&Segment, u64) -> bool,
    ) -> Result<usize> {
        self.refuse_if_failed()?;
        let segments = self.shared.all_segments();
        let mut removed = 0;
        for pair in segments.windows(2) {
            // The next one that is left begins at or behind this one's end.
            let end = pair[1].begin.position;
            let is_applied = end <= applied.saturating_add(1);
            if is_applied && may_go(&pair[0], end) {
                let result = self.remove(&pair[0]);
                self.note_failure(result)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn write(&mut self, draft: &RecordDraft, erasures: &[PartName]) -> Result<Appended> {
        let random = &mut self.random;
        let blind = || random.next_u32();
        let record = &mut self.buffer;
        record::encode(draft, erasures, self.stream, self.tip, blind, record)
            .expect("a record that fits into a segment can be counted");
        record::seal(record, &self.open.segment.salt);
        let chain = record::chain(record);
        let name = &self.open.segment.name;
        let written = write_all(&*self.open.file, record, self.open.offset)
            .map_err(told(name, "writing"))
            .and_then(|()| self.open.file.sync().map_err(told(name, "syncing")));
        let bytes = self.buffer.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        self.note_failure(written)?;
        let appended = Appended {
            position: self.tip.position,
            bytes,
            segment: self.open.segment.number,
            offset: self.open.offset as u32,
        };
        self.open.offset += bytes;
        if self.open.offset > self.open.segment.bytes / 4 {
            self.spares.want();
        }
        self.tip = Tip {
            position: self.tip.position + 1,
            chain,
        };
        self.shared.next.store(self.tip.position, Ordering::Release);
        Ok(appended)
    }

    fn erase(&mut self, overwrites: &[Overwrite]) -> Result<()> {
        if overwrites.is_empty() {
            return Ok(());
        }
        self.shared.erasure_begins(overwrites);
        let erased = erase::overwrite(&*self.shared.files, overwrites);
        // After a failure the parts stay as they are, half overwritten, until the next start.
        self.note_failure(erased)?;
        self.shared.erasure_ended();
        Ok(())
    }

    /// Goes on in a new segment, which has room for a record of so many bytes.
    fn roll(&mut self, record_bytes: u64) -> Result<()> {
        // Without space nothing is changed yet, and the next append tries again.
        let usual = u64::from(self.sizes.segment_bytes);
        let needed = Segment::bytes_for(record_bytes);
        let (bytes, spare) = match needed <= usual {
            true => (usual, self.spares.take()?),
            false => (needed, self.spares.make(needed)?),
        };
        let number = self.open.segment.number + 1;
        let salt = self.random.random();
        let segment = Segment::new(self.stream, number, self.tip, bytes, salt);
        let segment = segment.going_on_from(self.ancestors.clone());
        let begun = begin(&*self.shared.files, &spare, segment);
        let next = self.note_failure(begun)?;
        let ended = write_end(&self.open, self.tip);
        self.note_failure(ended)?;
        let mut segments = locked(self.shared.segments.write());
        segments.insert(number, next.segment.clone());
        let closed = number.checked_sub(OPEN_FILES);
        if let Some(segment) = closed.and_then(|number| segments.get(&number)) {
            segment.keep_closed();
        }
        drop(segments);
        self.open = next;
        Ok(())
    }

    fn remove(&self, segment: &Segment) -> Result<()> {
        let files = &*self.shared.files;
        let name = &segment.name;
        let spare = self.spares.name_for_used(segment.bytes);
        // Its end may have been given back.
        let is_whole = |file: Arc<dyn DataFile>| file.reserve(segment.bytes);
        let spare = spare.filter(|_| files.open(name).and_then(is_whole).is_ok());
        segment.removing(|| {
            match &spare {
                Some(spare) => files.rename(name, spare).map_err(told(name, "renaming"))?,
                None => files.remove(name).map_err(told(name, "removing"))?,
            }
            files.sync().map_err(told(name, "syncing the directory"))
        })?;
        let mut segments = locked(self.shared.segments.write());
        segments.remove(&segment.number);
        if let Some(spare) = spare {
            self.spares.give(spare);
        }
        Ok(())
    }

    fn refuse_if_failed(&self) -> Result<()> {
        match self.has_failed {
            true => Err(JournalError::Failed),
            false => Ok(()),
        }
    }

    fn note_failure<T>(&mut self, result: Result<T>) -> Result<T> {
        self.has_failed |= result.is_err();
        result
    }
}

/// Makes a spare file a segment, durably.
pub fn begin(files: &dyn Directory, spare: &str, segment: Segment) -> Result<Open> {
    let name = &segment.name;
    let file = files.open(spare).map_err(told(spare, "opening"))?;
    let header = segment.encode_header();
    write_all(&*file, &header, 0).map_err(told(spare, "writing the header"))?;
    file.sync().map_err(told(spare, "syncing"))?;
    files.rename(spare, name).map_err(told(spare, "renaming"))?;
    files.sync().map_err(told(name, "syncing the directory"))?;
    segment.keep_open(file.clone());
    Ok(Open {
        segment: Arc::new(segment),
        file,
        offset: HEADER_BYTES as u64,
    })
}

/// Writes and syncs the end mark of a segment whose next one is durable.
pub fn write_end(open: &Open, tip: Tip) -> Result<()> {
    let name = &open.segment.name;
    let end = open.segment.encode_end(tip);
    write_all(&*open.file, &end, open.offset).map_err(told(name, "writing the end mark"))?;
    open.file.sync().map_err(told(name, "syncing"))
}
