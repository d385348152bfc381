//! The bytes of a checkpoint file.
//!
//! | head | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `B7 "chkfile"` |
//! | 8 | 4 | format: 1 |
//! | 12 | 4 | CRC-32 of the 40 bytes with this field zero |
//! | 16 | 8 | stream of the journal |
//! | 24 | 8 | position of the journal at which the file was begun |
//! | 32 | 8 | chain of the record at that position |
//!
//! | block | bytes | field |
//! |---|---|---|
//! | 0 | 4 | bytes of the entries, never 0 |
//! | 4 | 4 | CRC-32 of the head's CRC-32, the block's number (u64, from 0), the field above and the entries |
//! | 8 | … | entries: the key's length, the key, the value's length, the value; lengths as LEB128 |
//!
//! | end mark | bytes | field |
//! |---|---|---|
//! | 0 | 4 | 0 |
//! | 4 | 8 | how many entries there are |
//! | 12 | 8 | position of the newest record that any entry may be from |
//! | 20 | 32 | SHA-256 of everything before it |
//!
//! Keys are in order and none is there twice. The file ends with the end mark. Numbers are
//! little-endian. The count is in the end mark because it is not known before the last entry.

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

use crate::store::layout::Checkpoint;

pub const FORMAT: u32 = 1;
const MAGIC: [u8; 8] = *b"\xB7chkfile";
const HEAD_BYTES: usize = 40;
const SUM_BYTES: usize = 32;
/// A block ends with the entry that reaches this.
const BLOCK_BYTES: usize = 64 << 10;
/// The longest entry; values have at most 4 KiB.
const ENTRY_BYTES_MAX: usize = 32 << 10;
const BLOCK_BYTES_MAX: usize = BLOCK_BYTES + ENTRY_BYTES_MAX;

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("it is damaged at byte {offset}: {reason}")]
    Damaged { offset: u64, reason: &'static str },
    #[error("it was written by a newer postrider (format {0})")]
    Newer(u32),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The end mark of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// How many entries there are.
    pub count: u64,
    /// The position of the newest record that any entry may be from.
    pub newest: u64,
}

/// Writes a file, entry by entry.
pub struct Encoder<W> {
    out: W,
    head_crc: u32,
    sum: Sha256,
    blocks: u64,
    count: u64,
    entries: Vec<u8>,
}

impl<W: Write> Encoder<W> {
    pub fn begin(out: W, at: &Checkpoint) -> io::Result<Encoder<W>> {
        let mut head = [0; HEAD_BYTES];
        head[..8].copy_from_slice(&MAGIC);
        head[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        head[16..24].copy_from_slice(&at.stream.to_le_bytes());
        head[24..32].copy_from_slice(&at.position.to_le_bytes());
        head[32..].copy_from_slice(&at.chain.to_le_bytes());
        let head_crc = crc32fast::hash(&head);
        head[12..16].copy_from_slice(&head_crc.to_le_bytes());
        let mut encoder = Encoder {
            out,
            head_crc,
            sum: Sha256::new(),
            blocks: 0,
            count: 0,
            entries: Vec::with_capacity(BLOCK_BYTES_MAX),
        };
        encoder.write(&head)?;
        Ok(encoder)
    }

    /// Adds an entry, whose key comes after those before it. True where that ended a block.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> io::Result<bool> {
        if key.len() + value.len() + 10 > ENTRY_BYTES_MAX {
            let reason = "an entry is too long for a checkpoint file";
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        for part in [key, value] {
            put_number(&mut self.entries, part.len());
            self.entries.extend_from_slice(part);
        }
        self.count += 1;
        let is_full = self.entries.len() >= BLOCK_BYTES;
        if is_full {
            self.end_block()?;
        }
        Ok(is_full)
    }

    /// Writes the end mark. `newest` is the position of the newest record that any entry may be from.
    pub fn finish(mut self, newest: u64) -> io::Result<W> {
        if !self.entries.is_empty() {
            self.end_block()?;
        }
        let mut end = [0; 20];
        end[4..12].copy_from_slice(&self.count.to_le_bytes());
        end[12..].copy_from_slice(&newest.to_le_bytes());
        self.write(&end)?;
        self.out.write_all(&self.sum.finalize())?;
        self.out.flush()?;
        Ok(self.out)
    }

    /// The destination of the bytes.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.out
    }

    fn end_block(&mut self) -> io::Result<()> {
        let entries = std::mem::take(&mut self.entries);
        let crc = block_crc(self.head_crc, self.blocks, &entries);
        self.write(&(entries.len() as u32).to_le_bytes())?;
        self.write(&crc.to_le_bytes())?;
        self.write(&entries)?;
        self.blocks += 1;
        self.entries = entries;
        self.entries.clear();
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.out.write_all(bytes)
    }
}

/// A key with its value.
pub type Entry<'a> = (&'a [u8], &'a [u8]);

/// Reads a file, entry by entry. What it hands out is certain to be what was written only when it has
/// come to the end.
pub struct Decoder<R> {
    source: R,
    /// Where the next byte of the source stands in the file.
    offset: u64,
    begun_at: Checkpoint,
    head_crc: u32,
    sum: Sha256,
    blocks: u64,
    count: u64,
    entries: Vec<u8>,
    /// How much of `entries` was handed out.
    at: usize,
    key: Vec<u8>,
    end: Option<End>,
}

impl<R: Read> Decoder<R> {
    /// Reads the head.
    pub fn open(source: R) -> Result<Decoder<R>, FileError> {
        let mut decoder = Decoder {
            source,
            offset: 0,
            begun_at: Checkpoint {
                stream: 0,
                position: 0,
                chain: 0,
            },
            head_crc: 0,
            sum: Sha256::new(),
            blocks: 0,
            count: 0,
            entries: Vec::new(),
            at: 0,
            key: Vec::new(),
            end: None,
        };
        let mut head: [u8; HEAD_BYTES] = decoder.read()?;
        let [crc, format] = [12, 8].map(|at| u32::from_le_bytes(field(&head, at)));
        head[12..16].fill(0);
        if head[..8] != MAGIC || crc32fast::hash(&head) != crc {
            let reason = "its head is not one of a checkpoint file, or its checksum is wrong";
            return Err(FileError::Damaged { offset: 0, reason });
        }
        if format != FORMAT {
            return Err(FileError::Newer(format));
        }
        let [stream, position, chain] = [16, 24, 32].map(|at| u64::from_le_bytes(field(&head, at)));
        decoder.head_crc = crc;
        decoder.begun_at = Checkpoint {
            stream,
            position,
            chain,
        };
        Ok(decoder)
    }

    /// The place in the journal at which the file was begun: it has everything up to there.
    pub fn begun_at(&self) -> Checkpoint {
        self.begun_at
    }

    /// The next entry; none at the end of a file that is whole.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>, FileError> {
        if self.at == self.entries.len() && !self.next_block()? {
            return Ok(None);
        }
        let mut rest = &self.entries[self.at..];
        let (key, value) = entry(&mut rest).ok_or_else(|| self.damage("an entry is cut off"))?;
        if self.count > 0 && key <= &self.key[..] {
            return Err(self.damage("its keys are not in order"));
        }
        self.key.clear();
        self.key.extend_from_slice(key);
        self.count += 1;
        self.at = self.entries.len() - rest.len();
        Ok(Some((&self.key, value)))
    }

    /// Reads to the end, and so checks all of it.
    pub fn check(mut self) -> Result<End, FileError> {
        while self.next_entry()?.is_some() {}
        self.end.ok_or_else(|| self.damage("it has no end"))
    }

    /// Reads the next block; false at the end.
    fn next_block(&mut self) -> Result<bool, FileError> {
        if self.end.is_some() {
            return Ok(false);
        }
        let bytes = u32::from_le_bytes(self.read()?) as usize;
        if bytes == 0 {
            self.end = Some(self.read_end()?);
            return Ok(false);
        }
        if bytes > BLOCK_BYTES_MAX {
            return Err(self.damage("a block is longer than any"));
        }
        let crc = u32::from_le_bytes(self.read()?);
        self.at = 0;
        self.entries.resize(bytes, 0);
        let mut entries = std::mem::take(&mut self.entries);
        let filled = self.fill(&mut entries);
        self.entries = entries;
        filled?;
        if block_crc(self.head_crc, self.blocks, &self.entries) != crc {
            return Err(self.damage("the checksum of a block is wrong"));
        }
        self.blocks += 1;
        Ok(true)
    }

    fn read_end(&mut self) -> Result<End, FileError> {
        let end: [u8; 16] = self.read()?;
        let expected = self.sum.clone().finalize();
        let sum: [u8; SUM_BYTES] = self.read()?;
        let [count, newest] = [0, 8].map(|at| u64::from_le_bytes(field(&end, at)));
        if sum[..] != expected[..] || count != self.count {
            return Err(self.damage("the checksum at its end is wrong"));
        }
        if self.source.read(&mut [0])? != 0 {
            return Err(self.damage("something stands behind its end"));
        }
        Ok(End { count, newest })
    }

    fn read<const N: usize>(&mut self) -> Result<[u8; N], FileError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), FileError> {
        self.source.read_exact(bytes).map_err(|error| match error {
            error if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.damage("it ends too early")
            }
            error => error.into(),
        })?;
        self.sum.update(&*bytes);
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn damage(&self, reason: &'static str) -> FileError {
        let offset = self.offset;
        FileError::Damaged { offset, reason }
    }
}

fn block_crc(head_crc: u32, number: u64, entries: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&head_crc.to_le_bytes());
    hasher.update(&number.to_le_bytes());
    hasher.update(&(entries.len() as u32).to_le_bytes());
    hasher.update(entries);
    hasher.finalize()
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

fn put_number(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn number(rest: &mut &[u8]) -> Option<usize> {
    let mut number = 0;
    // Three groups of seven bits: no entry is longer.
    for shift in [0, 7, 14] {
        let (byte, left) = rest.split_first()?;
        *rest = left;
        number |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn entry<'a>(rest: &mut &'a [u8]) -> Option<Entry<'a>> {
    let mut part = || {
        let bytes = number(rest)?;
        let (part, left) = rest.split_at_checked(bytes)?;
        *rest = left;
        Some(part)
    };
    Some((part()?, part()?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;

    const AT: Checkpoint = Checkpoint {
        stream: 0x0102_0304_0506_0708,
        position: 258,
        chain: 0x1112_1314_1516_1718,
    };

    type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

    fn written(entries: &Entries, newest: u64) -> Vec<u8> {
        let mut encoder = Encoder::begin(Vec::new(), &AT).unwrap();
        for (key, value) in entries {
            encoder.put(key, value).unwrap();
        }
        encoder.finish(newest).unwrap()
    }

    fn read(bytes: &[u8]) -> Result<(Entries, End), FileError> {
        let mut decoder = Decoder::open(bytes)?;
        assert_eq!(decoder.begun_at(), AT);
        let mut entries = BTreeMap::new();
        while let Some((key, value)) = decoder.next_entry()? {
            entries.insert(key.to_vec(), value.to_vec());
        }
        Ok((entries, decoder.check()?))
    }

    fn small() -> Entries {
        let entries: [(&[u8], &[u8]); 3] = [(b"a1", &[7; 130]), (b"m", b""), (b"q", b"xy")];
        let entries = entries.map(|(key, value)| (key.to_vec(), value.to_vec()));
        entries.into()
    }

    #[test]
    fn the_bytes_are_as_they_were_first_written() {
        let bytes = written(&small(), 300);
        let mut hex = String::new();
        for byte in bytes {
            use std::fmt::Write;
            write!(hex, "{byte:02x}").unwrap();
        }
        assert_eq!(hex, include_str!("format_1.hex").trim_end());
    }

    /// Many blocks, with values as long as they get.
    #[test]
    fn a_long_file_is_read_as_it_was_written() {
        let one = |number: u32| (number.to_be_bytes().to_vec(), vec![number as u8; 4096]);
        let entries: BTreeMap<_, _> = (0..100).map(one).collect();
        let bytes = written(&entries, 9);
        let (found, end) = read(&bytes).unwrap();
        assert_eq!((end.count, end.newest), (100, 9));
        assert!(found == entries);
        // Two blocks change places.
        let first =
            HEAD_BYTES..HEAD_BYTES + 8 + u32::from_le_bytes(field(&bytes, HEAD_BYTES)) as usize;
        let swapped = [
            &bytes[..HEAD_BYTES],
            &bytes[first.end..2 * first.end - HEAD_BYTES],
            &bytes[first.clone()],
            &bytes[2 * first.end - HEAD_BYTES..],
        ];
        let problem = read(&swapped.concat()).unwrap_err().to_string();
        assert!(problem.contains("the checksum of a block"), "{problem}");
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_found() {
        let bytes = written(&small(), 300);
        for at in 0..bytes.len() {
            assert!(read(&bytes[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert!(read(&flipped).is_err(), "bit {bit} of byte {at}");
            }
        }
        assert!(read(&[&bytes[..], &[0]].concat()).is_err());
        assert!(read(&bytes).is_ok());
    }

    /// With checksums that fit: only the order of the keys is wrong.
    #[test]
    fn keys_out_of_order_or_twice_are_refused() {
        for keys in [["b", "a"], ["a", "a"]] {
            let mut encoder = Encoder::begin(Vec::new(), &AT).unwrap();
            for key in keys {
                encoder.put(key.as_bytes(), b"").unwrap();
            }
            let bytes = encoder.finish(0).unwrap();
            let problem = read(&bytes).unwrap_err().to_string();
            assert!(problem.contains("not in order"), "{problem}");
        }
    }

    #[test]
    fn a_newer_format_and_a_long_entry_are_told() {
        let mut bytes = written(&small(), 300);
        bytes[8] = 2;
        bytes[12..16].fill(0);
        let crc = crc32fast::hash(&bytes[..HEAD_BYTES]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        assert!(matches!(read(&bytes), Err(FileError::Newer(2))));
        let mut encoder = Encoder::begin(Vec::new(), &AT).unwrap();
        assert!(encoder.put(b"a", &[0; ENTRY_BYTES_MAX]).is_err());
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            entries in btree_map(vec(any::<u8>(), 0..60), vec(any::<u8>(), 0..4097), 0..60),
            newest: u64,
        ) {
            let (found, end) = read(&written(&entries, newest)).unwrap();
            prop_assert_eq!(end, End { count: entries.len() as u64, newest });
            prop_assert!(found == entries);
        }

        /// Behind a head and lengths that make sense, so that more than the head is tried.
        #[test]
        fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200), length in 0_u32..200) {
            let _ = Decoder::open(&bytes[..]).map(Decoder::check);
            let head = &written(&BTreeMap::new(), 0)[..HEAD_BYTES];
            let _ = Decoder::open(&[head, &bytes[..]].concat()[..]).unwrap().check();
            let crc = u32::from_le_bytes(field(head, 12));
            let crc = block_crc(crc, 0, &bytes);
            let block = [&(bytes.len() as u32).to_le_bytes()[..], &crc.to_le_bytes(), &bytes];
            let all = [head, &block.concat(), &length.to_le_bytes(), &bytes].concat();
            prop_assert!(Decoder::open(&all[..]).unwrap().check().is_err());
        }
    }
}
