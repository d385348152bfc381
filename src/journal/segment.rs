//! Segments: files that records are appended to, one after the other.
//!
//! A segment file is `NNNNNNNNNNNNNNNN.segment`, its number in hexadecimal. It gets that name when
//! its header is durable, and has its full length from the beginning: appending changes no metadata.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4096 | header |
//! | 4096 | | records of `record`, without gaps |
//! | | 28 | end mark, once the next segment's header is durable |
//! | | | zeros, or what an earlier use of the file left |
//!
//! | header | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `B7 "journal"` |
//! | 8 | 4 | format: 1 |
//! | 12 | 4 | CRC-32 over the 4096 bytes with this field zero |
//! | 16 | 8 | stream |
//! | 24 | 8 | number |
//! | 32 | 8 | position of the first record |
//! | 40 | 8 | chain before the first record |
//! | 48 | 8 | length of the file |
//! | 56 | 16 | salt, random, new with each use of the file |
//! | 72 | 4 | how many streams this one goes on from |
//! | 76 | 8 each | these streams; their segments stand before the first one of this stream |
//! | | | zeros |
//!
//! | end mark | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic `B7 "end"` |
//! | 4 | 8 | check: SHA-256 of salt, magic and the two fields below, first 8 bytes |
//! | 12 | 8 | position of the next segment's first record |
//! | 20 | 8 | chain of the last record here |

use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::error::{DamagedFile, JournalError, Result, told};
use super::files::{DataFile, Directory, read_all};
use super::record::{Salt, Tip, field, keyed_check};
use crate::lock::locked;

pub const HEADER_BYTES: usize = 4096;
pub const END_BYTES: usize = 28;
const FORMAT: u32 = 1;
const HEADER_MAGIC: [u8; 8] = *b"\xB7journal";
const END_MAGIC: [u8; 4] = *b"\xB7end";
const CRC: std::ops::Range<usize> = 12..16;
const ANCESTORS_AT: usize = 72;
/// The most that a header names.
const ANCESTORS_MAX: usize = 256;

/// A segment file with its header.
pub struct Segment {
    pub name: String,
    pub stream: u64,
    pub number: u64,
    /// Where the first record is expected.
    pub begin: Tip,
    /// The length of the file.
    pub bytes: u64,
    pub salt: Salt,
    /// The streams that this one goes on from: a restored store begins a stream of its own behind the segments
    /// that it came with.
    pub ancestors: Arc<[u64]>,
    /// Held for reading while bytes are read, and for writing while synced bytes are overwritten or
    /// the file is given away; never while anything is synced. Appending takes no part in it: it
    /// writes where nobody reads yet.
    handle: RwLock<Handle>,
}

#[derive(Default)]
struct Handle {
    /// The segment was removed; its file may be another one's by now.
    removed: bool,
    /// Kept open, where it is.
    file: Option<Arc<dyn DataFile>>,
}

/// The name of the segment with this number.
pub fn name_of(number: u64) -> String {
    format!("{number:016x}.segment")
}

/// The number in a segment's name.
pub fn number_in(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".segment")?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    (name_of(number) == name).then_some(number)
}

impl Segment {
    pub fn new(stream: u64, number: u64, begin: Tip, bytes: u64, salt: Salt) -> Segment {
        Segment {
            name: name_of(number),
            stream,
            number,
            begin,
            bytes,
            salt,
            ancestors: Arc::default(),
            handle: RwLock::default(),
        }
    }

    /// The same segment of a stream that goes on from these.
    pub fn going_on_from(self, ancestors: Arc<[u64]>) -> Segment {
        Segment { ancestors, ..self }
    }

    pub fn encode_header(&self) -> Vec<u8> {
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(&HEADER_MAGIC);
        header.extend_from_slice(&FORMAT.to_le_bytes());
        header.extend_from_slice(&[0; 4]);
        let numbers = [
            self.stream,
            self.number,
            self.begin.position,
            self.begin.chain,
            self.bytes,
        ];
        for number in numbers {
            header.extend_from_slice(&number.to_le_bytes());
        }
        header.extend_from_slice(&self.salt);
        header.extend_from_slice(&(self.ancestors.len() as u32).to_le_bytes());
        for ancestor in &*self.ancestors {
            header.extend_from_slice(&ancestor.to_le_bytes());
        }
        header.resize(HEADER_BYTES, 0);
        let crc = crc32fast::hash(&header);
        header[CRC].copy_from_slice(&crc.to_le_bytes());
        header
    }

    /// Reads the header of the segment `number`.
    pub fn open(files: &dyn Directory, number: u64) -> Result<Segment> {
        let name = name_of(number);
        let damage = |reason| DamagedFile {
            file: name_of(number),
            position: None,
            offset: 0,
            reason,
        };
        let file = files.open(&name).map_err(told(&name, "opening"))?;
        let length = file.bytes().map_err(told(&name, "asking for the length"))?;
        if length < HEADER_BYTES as u64 {
            return Err(damage("the file is shorter than a header").into());
        }
        let mut header = vec![0; HEADER_BYTES];
        read_all(&*file, &mut header, 0).map_err(told(&name, "reading the header"))?;
        let crc = u32::from_le_bytes(field(&header, CRC.start));
        header[CRC].fill(0);
        if header[..8] != HEADER_MAGIC || crc32fast::hash(&header) != crc {
            return Err(damage("the header's checksum is wrong").into());
        }
        let format = u32::from_le_bytes(field(&header, 8));
        if format != FORMAT {
            return Err(JournalError::Newer {
                file: name,
                version: format,
            });
        }
        let number_at = |offset| u64::from_le_bytes(field(&header, offset));
        if number_at(24) != number {
            return Err(damage("the header has the number of another segment").into());
        }
        let begin = Tip {
            position: number_at(32),
            chain: number_at(40),
        };
        if number_at(48) != length {
            let reason = "the file's length is not the one in its header";
            return Err(damage(reason).into());
        }
        let salt = field(&header, 56);
        let count = u32::from_le_bytes(field(&header, ANCESTORS_AT)) as usize;
        if count > ANCESTORS_MAX {
            return Err(damage("the header names too many streams").into());
        }
        let ancestors = (0..count).map(|at| number_at(ANCESTORS_AT + 4 + 8 * at));
        let ancestors = ancestors.collect();
        let segment = Segment::new(number_at(16), number, begin, length, salt);
        Ok(segment.going_on_from(ancestors))
    }

    pub fn encode_end(&self, tip: Tip) -> [u8; END_BYTES] {
        let mut end = [0; END_BYTES];
        end[..4].copy_from_slice(&END_MAGIC);
        end[12..20].copy_from_slice(&tip.position.to_le_bytes());
        end[20..].copy_from_slice(&tip.chain.to_le_bytes());
        let check = keyed_check(&self.salt, [&END_MAGIC, &end[12..]]);
        end[4..12].copy_from_slice(&check);
        end
    }

    pub fn decode_end(&self, bytes: &[u8]) -> Option<Tip> {
        let end: &[u8; END_BYTES] = bytes.first_chunk()?;
        let tip = Tip {
            position: u64::from_le_bytes(field(end, 12)),
            chain: u64::from_le_bytes(field(end, 20)),
        };
        (*end == self.encode_end(tip)).then_some(tip)
    }

    /// The length of a segment that takes one record of so many bytes.
    pub fn bytes_for(record_bytes: u64) -> u64 {
        record_bytes + (HEADER_BYTES + END_BYTES) as u64
    }

    /// Bytes of the longest record that a segment of this length takes.
    pub fn record_bytes_max(bytes: u64) -> u64 {
        bytes.saturating_sub((HEADER_BYTES + END_BYTES) as u64)
    }

    pub fn damage(&self, position: u64, offset: u64, reason: &'static str) -> JournalError {
        JournalError::Damaged(DamagedFile {
            file: self.name.clone(),
            position: Some(position),
            offset,
            reason,
        })
    }

    /// Damage where it is not known which record should be there.
    pub fn damage_at(&self, offset: u64, reason: &'static str) -> JournalError {
        JournalError::Damaged(DamagedFile {
            file: self.name.clone(),
            position: None,
            offset,
            reason,
        })
    }

    /// Keeps the file open for readers.
    pub fn keep_open(&self, file: Arc<dyn DataFile>) {
        self.handle_mut().file = Some(file);
    }

    /// Lets readers open the file anew each time.
    pub fn keep_closed(&self) {
        self.handle_mut().file = None;
    }

    /// Runs `read` with the file while nothing is overwritten in it.
    pub fn reading<T>(
        &self,
        files: &dyn Directory,
        read: impl FnOnce(&dyn DataFile) -> Result<T>,
    ) -> Result<T> {
        let handle = self.handle();
        read(&*self.file(&handle, files)?)
    }

    /// As [`Segment::reading`], with a file that the caller keeps open from one call to the next.
    pub fn reading_kept<T>(
        &self,
        files: &dyn Directory,
        kept: &mut Option<Arc<dyn DataFile>>,
        read: impl FnOnce(&dyn DataFile) -> Result<T>,
    ) -> Result<T> {
        let handle = self.handle();
        let segment = self.number;
        match kept {
            _ if handle.removed => Err(JournalError::Removed { segment }),
            Some(file) => read(&**file),
            None => read(&**kept.insert(self.file(&handle, files)?)),
        }
    }

    /// Runs `overwrite` with the file while nobody reads in it.
    pub fn overwriting(
        &self,
        files: &dyn Directory,
        overwrite: impl FnOnce(&dyn DataFile) -> Result<()>,
    ) -> Result<Arc<dyn DataFile>> {
        let handle = self.handle_mut();
        let file = self.file(&handle, files)?;
        overwrite(&*file)?;
        Ok(file)
    }

    /// Runs `give_away`, after which the file is not this segment's any more.
    pub fn removing<T>(&self, give_away: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut handle = self.handle_mut();
        handle.removed = true;
        handle.file = None;
        give_away()
    }

    fn file(&self, handle: &Handle, files: &dyn Directory) -> Result<Arc<dyn DataFile>> {
        let segment = self.number;
        match &handle.file {
            _ if handle.removed => Err(JournalError::Removed { segment }),
            Some(file) => Ok(file.clone()),
            None => files.open(&self.name).map_err(told(&self.name, "opening")),
        }
    }

    fn handle(&self) -> RwLockReadGuard<'_, Handle> {
        locked(self.handle.read())
    }

    fn handle_mut(&self) -> RwLockWriteGuard<'_, Handle> {
        locked(self.handle.write())
    }
}
