//! Walking over the records of a segment, and looking through what lies behind the last.

use std::sync::Arc;

use super::error::{JournalError, Result, told};
use super::files::{DataFile, read_all};
use super::record::{Body, HEAD_BYTES, Head, MAGIC, NoHead, PartName, PartRow, PartState, Tip};
use super::segment::{END_BYTES, HEADER_BYTES, Segment};

/// How many bytes are read at once where a whole segment is looked through.
const SEARCH_BYTES: usize = 256 << 10;

/// Where a part stands on this machine: for indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartPlace {
    /// The segment's number.
    pub segment: u64,
    /// Where the record begins in the segment's file.
    pub offset: u32,
    /// Which of the record's parts, from 0.
    pub part: u32,
}

/// A record as read, without the bytes of its parts.
#[derive(Clone, Debug)]
pub struct Record {
    pub head: Head,
    pub effects: Vec<u8>,
    pub erasures: Vec<PartName>,
    pub parts: Vec<PartRow>,
    /// The segment that holds it.
    pub segment: u64,
    /// Where it begins in the segment's file.
    pub offset: u64,
}

impl Record {
    pub fn place(&self, part: u32) -> PartPlace {
        PartPlace {
            segment: self.segment,
            offset: self.offset as u32,
            part,
        }
    }
}

/// A walk over the records of one segment, from the first.
#[derive(Clone)]
pub struct Walk {
    pub segment: Arc<Segment>,
    /// Where the next record begins.
    pub offset: u64,
    /// The position and chain that the next record is expected to have.
    pub tip: Tip,
    /// Where the walk goes on behind a record whose head is whole and whose body is damaged.
    behind: Option<(u64, Tip)>,
}

/// The next thing in a segment.
pub enum Found {
    Record(Record),
    /// The end mark.
    End,
    Nothing(Nothing),
}

/// Bytes that are neither the next record nor the end mark.
#[derive(Clone, Copy, Debug)]
pub struct Nothing {
    pub reason: &'static str,
    /// The record's head is the one expected; its body is damaged.
    pub has_head: bool,
}

impl Walk {
    pub fn new(segment: Arc<Segment>) -> Walk {
        Walk {
            offset: HEADER_BYTES as u64,
            tip: segment.begin,
            behind: None,
            segment,
        }
    }

    /// Refuses a journal of which a checkpoint knows another record before the next one.
    pub fn check_copy(&self, checkpoint: Tip) -> Result<()> {
        if self.tip.position != checkpoint.position || self.tip == checkpoint {
            return Ok(());
        }
        Err(JournalError::OtherCopy {
            file: self.segment.name.clone(),
            position: checkpoint.position,
        })
    }

    /// Reads what stands next, and steps over it if it is a record.
    pub fn next(&mut self, file: &dyn DataFile) -> Result<Found> {
        self.behind = None;
        let room = self.segment.bytes - self.offset;
        let mut bytes = [0; HEAD_BYTES];
        let bytes = &mut bytes[..HEAD_BYTES.min(room as usize)];
        self.read(file, bytes, self.offset)?;
        if let Some(tip) = self.segment.decode_end(bytes) {
            if tip == self.tip {
                return Ok(Found::End);
            }
            let reason = "the end mark does not follow the last record";
            return Ok(nothing(reason, false));
        }
        let head = match Head::decode(bytes, &self.segment.salt) {
            Ok(head) => head,
            Err(NoHead::Newer(version)) => {
                return Err(JournalError::Newer {
                    file: self.segment.name.clone(),
                    version: version.into(),
                });
            }
            Err(NoHead::Invalid) => return Ok(nothing("no record begins here", false)),
        };
        if let Some(reason) = self.out_of_place(&head, room) {
            return Ok(nothing(reason, false));
        }
        let mut body = vec![0; head.body_bytes() as usize];
        self.read(file, &mut body, self.offset + HEAD_BYTES as u64)?;
        let tip = Tip {
            position: head.position + 1,
            chain: head.chain,
        };
        let Some(checked) = Body::decode(&head, &body) else {
            self.behind = Some((self.offset + head.record_bytes(), tip));
            return Ok(nothing(
                "the checksum of the record's effects is wrong",
                true,
            ));
        };
        let offset = self.offset;
        self.offset += head.record_bytes();
        self.tip = tip;
        body.drain(..checked.effects.start);
        Ok(Found::Record(Record {
            head,
            effects: body,
            erasures: checked.erasures,
            parts: checked.parts,
            segment: self.segment.number,
            offset,
        }))
    }

    /// Steps over what [`Walk::next`] found damaged, to the next record of the segment or its end mark. False,
    /// and the walk is where it was, where neither follows.
    pub fn step_over(&mut self, file: &dyn DataFile) -> Result<bool> {
        let next = match self.behind.take() {
            Some(behind) => Some(behind),
            None => self.find_next(file)?,
        };
        let Some((offset, tip)) = next else {
            return Ok(false);
        };
        (self.offset, self.tip) = (offset, tip);
        Ok(true)
    }

    /// The first head or end mark from here on that is of a later position.
    fn find_next(&self, file: &dyn DataFile) -> Result<Option<(u64, Tip)>> {
        let mut found = None;
        each_chunk(&self.segment, file, self.offset, |offset, chunk| {
            let next = find(chunk, |bytes| {
                let head = || Head::decode(bytes, &self.segment.salt).ok();
                let begin = || {
                    head().map(|head| Tip {
                        position: head.position,
                        chain: head.before,
                    })
                };
                let tip = self.segment.decode_end(bytes).or_else(begin);
                tip.filter(|tip| tip.position > self.tip.position)
            });
            found = next.map(|(at, tip)| (offset + at as u64, tip));
            found.is_none()
        })?;
        Ok(found)
    }

    /// Why a valid head is not the one expected.
    fn out_of_place(&self, head: &Head, room: u64) -> Option<&'static str> {
        if head.position != self.tip.position {
            Some("the record's position does not follow the one before")
        } else if head.before != self.tip.chain {
            Some("the record does not continue the chain")
        } else if head.stream != self.segment.stream {
            Some("the record is of another stream")
        } else if head.record_bytes() + END_BYTES as u64 > room {
            Some("the record is longer than the file")
        } else {
            None
        }
    }

    fn read(&self, file: &dyn DataFile, bytes: &mut [u8], offset: u64) -> Result<()> {
        read_all(file, bytes, offset).map_err(told(&self.segment.name, "reading"))
    }

    pub fn damage(&self, reason: &'static str) -> JournalError {
        self.segment.damage(self.tip.position, self.offset, reason)
    }
}

fn nothing(reason: &'static str, has_head: bool) -> Found {
    Found::Nothing(Nothing { reason, has_head })
}

/// A part's bytes with its blind, and their state.
pub fn read_part(
    segment: &Segment,
    file: &dyn DataFile,
    record_offset: u64,
    row: &PartRow,
) -> Result<(Vec<u8>, PartState)> {
    let mut stored = vec![0; row.stored_bytes() as usize];
    read_all(file, &mut stored, record_offset + row.offset)
        .map_err(told(&segment.name, "reading"))?;
    let state = row.judge(&stored, &segment.salt);
    Ok((stored, state))
}

/// The bytes behind the last record of a segment.
#[derive(Debug, Default)]
pub struct Rest {
    /// Where a valid head or end mark begins that continues the segment, the first.
    pub valid_at: Option<u64>,
    /// Stretches that are not zero: offset and bytes.
    pub not_zero: Vec<(u64, u64)>,
}

/// Looks through everything from the end of a walk: from `search_from` on for valid heads and end
/// marks, and from the end on for bytes that are not zero. Heads of earlier positions do not count:
/// a payload may be a copy of a part of this very file.
pub fn look_behind(walk: &Walk, file: &dyn DataFile, search_from: u64) -> Result<Rest> {
    let mut rest = Rest::default();
    each_chunk(&walk.segment, file, walk.offset, |offset, chunk| {
        note_not_zero(chunk, offset, &mut rest.not_zero);
        if rest.valid_at.is_none() {
            let skipped = search_from.saturating_sub(offset).min(chunk.len() as u64);
            let continues = |bytes: &[u8]| continues(walk, bytes).then_some(());
            let found = find(&chunk[skipped as usize..], continues);
            rest.valid_at = found.map(|(at, ())| offset + skipped + at as u64);
        }
        true
    })?;
    Ok(rest)
}

/// Shows a segment's bytes from `offset` on, until they end or are not answered with true. What begins at the
/// end of a chunk is shown again with the next.
fn each_chunk(
    segment: &Segment,
    file: &dyn DataFile,
    mut offset: u64,
    mut show: impl FnMut(u64, &[u8]) -> bool,
) -> Result<()> {
    let mut buffer = vec![0; SEARCH_BYTES];
    while offset < segment.bytes {
        let length = SEARCH_BYTES.min((segment.bytes - offset) as usize);
        let chunk = &mut buffer[..length];
        read_all(file, chunk, offset).map_err(told(&segment.name, "reading"))?;
        if !show(offset, chunk) {
            return Ok(());
        }
        let again = HEAD_BYTES.min(length - 1);
        let is_last = offset + length as u64 == segment.bytes;
        offset += (if is_last { length } else { length - again }) as u64;
    }
    Ok(())
}

fn note_not_zero(chunk: &[u8], offset: u64, found: &mut Vec<(u64, u64)>) {
    const PIECE: usize = 4096;
    static ZEROS: [u8; PIECE] = [0; PIECE];
    for (index, piece) in chunk.chunks(PIECE).enumerate() {
        if *piece == ZEROS[..piece.len()] {
            continue;
        }
        let start = offset + (index * PIECE) as u64;
        let end = start + piece.len() as u64;
        match found.last_mut() {
            Some((from, bytes)) if *from + *bytes >= start => *bytes = end - *from,
            _ => found.push((start, end - start)),
        }
    }
}

/// The first place where something that begins as a head or an end mark is recognised.
fn find<T>(bytes: &[u8], recognise: impl Fn(&[u8]) -> Option<T>) -> Option<(usize, T)> {
    let mut at = 0;
    while let Some(next) = bytes[at..].iter().position(|byte| *byte == MAGIC[0]) {
        at += next;
        if let Some(found) = recognise(&bytes[at..]) {
            return Some((at, found));
        }
        at += 1;
    }
    None
}

fn continues(walk: &Walk, bytes: &[u8]) -> bool {
    let end = walk.segment.decode_end(bytes);
    if end.is_some_and(|tip| tip.position >= walk.tip.position) {
        return true;
    }
    match Head::decode(bytes, &walk.segment.salt) {
        Ok(head) => head.position >= walk.tip.position,
        Err(no_head) => no_head != NoHead::Invalid,
    }
}

/// Whether each part of a record is whole or erased.
pub fn parts_are_sound(segment: &Segment, file: &dyn DataFile, record: &Record) -> Result<bool> {
    for row in &record.parts {
        let (_, state) = read_part(segment, file, record.offset, row)?;
        if state == PartState::Damaged {
            return Ok(false);
        }
    }
    Ok(true)
}
