//! Records: their bytes, and the checks that tell a record from anything else.
//!
//! Pure: nothing here reads or writes files. Decoding takes any bytes, never panics, and never
//! allocates by a length that it has not checked against the bytes at hand.
//!
//! Numbers are little-endian. A record, version 1:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic `B7 72 65 63` |
//! | 4 | 2 | version |
//! | 6 | 8 | check: SHA-256 of the segment's salt and the head without this field, first 8 bytes |
//! | 14 | 8 | stream |
//! | 22 | 8 | position; the first is 1, each next one more |
//! | 30 | 8 | epoch: which leader wrote it |
//! | 38 | 8 | time, ms since 1970 |
//! | 46 | 8 | chain: SHA-256 of the head of the record before without its check, first 8 bytes |
//! | 54 | 4 | key id; 0: plain |
//! | 58 | 16 | nonce; zeros with key 0 |
//! | 74 | 4 | number of parts |
//! | 78 | 4 | number of erased parts named |
//! | 82 | 4 | bytes of effects |
//! | 86 | 4 | bytes of all parts with their blinds |
//! | 90 | 4 | CRC-32 of the body: table, names and effects |
//! | 94 | 8 each | table of parts: bytes u32, CRC-32 u32 over the part's bytes and its blind |
//! | | 12 each | names of parts that this record erases: position u64, part u32 |
//! | | | effects |
//! | | | parts, one after the other: bytes, then blind u32 |
//!
//! - The check is keyed with a salt that only the file's owner can read: bytes that a publisher
//!   chose, or that an earlier use of the file left, do not pass for a head. The position is part of
//!   the head, so a head is valid in one file and at one position only.
//! - The chain leaves the check out, so it is the same in every file that holds the record. It
//!   includes the CRC of the body, and through the table the CRC of every part.
//! - The body's CRC covers the parts' places and lengths but not their bytes: erasing a part does
//!   not break its record. The bytes and the blind of an erased part are those of [`erased`], which
//!   depend on the salt: zeros, as a broken disk leaves them, are damage, and so is what was erased in
//!   an earlier use of the file and shows through where a new record was not written in full.
//! - The blind is random and erased with the part. The CRC that stays in the table therefore says
//!   nothing about the bytes: every value is equally likely.
//! - Magic, version, check and the length of the head are the same in all versions: a version that is
//!   not known is told from damage.

use std::ops::Range;

use sha2::{Digest, Sha256};

pub const HEAD_BYTES: usize = 94;
pub const MAGIC: [u8; 4] = *b"\xB7rec";
pub const VERSION: u16 = 1;
pub const BLIND_BYTES: usize = 4;
pub const SALT_BYTES: usize = 16;

const CHECK: Range<usize> = 6..14;
const PART_ROW_BYTES: usize = 8;
const ERASURE_BYTES: usize = 12;

/// Random bytes of one use of a segment file.
pub type Salt = [u8; SALT_BYTES];

/// A place between two records: the position of the next one, and the chain of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    pub position: u64,
    /// 0 before the first record of a stream.
    pub chain: u64,
}

/// A part by the record that holds it, the same on every machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartName {
    pub position: u64,
    pub part: u32,
}

/// The content of a record that is to be appended.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecordDraft<'a> {
    pub epoch: u64,
    /// Milliseconds since 1970.
    pub time_ms: u64,
    /// 0: plain.
    pub key: u32,
    pub nonce: [u8; 16],
    pub effects: &'a [u8],
    pub parts: &'a [&'a [u8]],
}

/// A record's head, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub stream: u64,
    pub position: u64,
    pub epoch: u64,
    pub time_ms: u64,
    /// The chain of the record before.
    pub before: u64,
    pub key: u32,
    pub nonce: [u8; 16],
    pub parts: u32,
    pub erasures: u32,
    pub effects_bytes: u32,
    pub parts_bytes: u32,
    pub body_crc: u32,
    /// This record's chain, which the next one has in its head.
    pub chain: u64,
}

/// Why bytes are no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoHead {
    /// The magic or the check is wrong.
    Invalid,
    /// The check is right; this program does not know the version.
    Newer(u16),
}

/// A part's row in the table, with its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartRow {
    /// From the beginning of the record.
    pub offset: u64,
    /// Without the blind.
    pub bytes: u32,
    pub crc: u32,
}

/// A record's body, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    pub parts: Vec<PartRow>,
    pub erasures: Vec<PartName>,
    /// Where the effects are within the body.
    pub effects: Range<usize>,
}

/// The state of a part's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartState {
    Whole,
    Erased,
    Damaged,
}

/// A record has more bytes than its fields can count.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLong;

impl Head {
    /// Reads the head at the beginning of `bytes`.
    pub fn decode(bytes: &[u8], salt: &Salt) -> Result<Head, NoHead> {
        let head: &[u8; HEAD_BYTES] = bytes
            .get(..HEAD_BYTES)
            .and_then(|head| head.try_into().ok())
            .ok_or(NoHead::Invalid)?;
        if head[..4] != MAGIC || head[CHECK] != check_of(head, salt) {
            return Err(NoHead::Invalid);
        }
        let version = u16::from_le_bytes(field(head, 4));
        if version != VERSION {
            return Err(NoHead::Newer(version));
        }
        Ok(Head {
            stream: u64::from_le_bytes(field(head, 14)),
            position: u64::from_le_bytes(field(head, 22)),
            epoch: u64::from_le_bytes(field(head, 30)),
            time_ms: u64::from_le_bytes(field(head, 38)),
            before: u64::from_le_bytes(field(head, 46)),
            key: u32::from_le_bytes(field(head, 54)),
            nonce: field(head, 58),
            parts: u32::from_le_bytes(field(head, 74)),
            erasures: u32::from_le_bytes(field(head, 78)),
            effects_bytes: u32::from_le_bytes(field(head, 82)),
            parts_bytes: u32::from_le_bytes(field(head, 86)),
            body_crc: u32::from_le_bytes(field(head, 90)),
            chain: chain_of(head),
        })
    }

    /// Bytes of table, names and effects.
    pub fn body_bytes(&self) -> u64 {
        u64::from(self.parts) * PART_ROW_BYTES as u64
            + u64::from(self.erasures) * ERASURE_BYTES as u64
            + u64::from(self.effects_bytes)
    }

    /// Bytes of the whole record.
    pub fn record_bytes(&self) -> u64 {
        HEAD_BYTES as u64 + self.body_bytes() + u64::from(self.parts_bytes)
    }

    /// Bytes of the head and the table's rows up to and with that of `part`.
    pub fn bytes_to_row(part: u32) -> u64 {
        HEAD_BYTES as u64 + (u64::from(part) + 1) * PART_ROW_BYTES as u64
    }

    /// The last of the given rows. They are not checked by the body's CRC: the part's own CRC has to
    /// be right. None if the rows are not those of a record with this head.
    pub fn row_unchecked(&self, rows: &[u8]) -> Option<PartRow> {
        let rows = self.rows_unchecked(rows)?;
        rows.last().copied()
    }

    /// All of the given rows; as [`Head::row_unchecked`].
    pub fn rows_unchecked(&self, rows: &[u8]) -> Option<Vec<PartRow>> {
        let first = HEAD_BYTES as u64 + self.body_bytes();
        decode_rows(rows, first, self.record_bytes())
    }
}

impl Body {
    /// Reads a body of exactly [`Head::body_bytes`]. None if it is damaged.
    pub fn decode(head: &Head, bytes: &[u8]) -> Option<Body> {
        if bytes.len() as u64 != head.body_bytes() || crc32fast::hash(bytes) != head.body_crc {
            return None;
        }
        let (rows, rest) = bytes.split_at(head.parts as usize * PART_ROW_BYTES);
        let (names, effects) = rest.split_at(head.erasures as usize * ERASURE_BYTES);
        let end = head.record_bytes();
        let parts = decode_rows(rows, end - u64::from(head.parts_bytes), end)?;
        let parts_end = parts
            .last()
            .map_or(end - u64::from(head.parts_bytes), end_of);
        if parts_end != end {
            return None;
        }
        let name = |name: &[u8]| PartName {
            position: u64::from_le_bytes(field(name, 0)),
            part: u32::from_le_bytes(field(name, 8)),
        };
        Some(Body {
            parts,
            erasures: names.chunks_exact(ERASURE_BYTES).map(name).collect(),
            effects: bytes.len() - effects.len()..bytes.len(),
        })
    }
}

/// Rows whose parts begin at `first` and do not go beyond `end`.
fn decode_rows(rows: &[u8], first: u64, end: u64) -> Option<Vec<PartRow>> {
    let mut offset = first;
    let mut parts = Vec::with_capacity(rows.len() / PART_ROW_BYTES);
    for row in rows.chunks_exact(PART_ROW_BYTES) {
        let row = PartRow {
            offset,
            bytes: u32::from_le_bytes(field(row, 0)),
            crc: u32::from_le_bytes(field(row, 4)),
        };
        offset = end_of(&row);
        if offset > end {
            return None;
        }
        parts.push(row);
    }
    Some(parts)
}

fn end_of(row: &PartRow) -> u64 {
    row.offset + row.stored_bytes()
}

impl PartRow {
    /// With the blind.
    pub fn stored_bytes(&self) -> u64 {
        u64::from(self.bytes) + BLIND_BYTES as u64
    }

    /// The state of the part, given its bytes and blind as read.
    pub fn judge(&self, stored: &[u8], salt: &Salt) -> PartState {
        if stored.len() as u64 == self.stored_bytes() && crc32fast::hash(stored) == self.crc {
            PartState::Whole
        } else if stored == erased(stored.len(), salt) {
            PartState::Erased
        } else {
            PartState::Damaged
        }
    }
}

/// The bytes that a part of so many bytes, with its blind, is overwritten with: the first 16 of
/// SHA-256 over the salt and `erased`, again and again.
pub fn erased(bytes: usize, salt: &Salt) -> Vec<u8> {
    let hash = Sha256::new_with_prefix(salt).chain_update(b"erased");
    let filler: [u8; 16] = field(&hash.finalize(), 0);
    filler.into_iter().cycle().take(bytes).collect()
}

/// Bytes that the record of a draft takes, with so many erased parts named.
pub fn encoded_bytes(draft: &RecordDraft, erasures: usize) -> u64 {
    let parts = draft.parts.iter();
    let parts: u64 = parts.map(|part| (part.len() + BLIND_BYTES) as u64).sum();
    let rows = (draft.parts.len() * PART_ROW_BYTES + erasures * ERASURE_BYTES) as u64;
    HEAD_BYTES as u64 + rows + draft.effects.len() as u64 + parts
}

/// Writes the record of `draft` to `out`, which is cleared; its check is left zero for [`seal`].
/// `blind` gives a random number for each part.
pub fn encode(
    draft: &RecordDraft,
    erasures: &[PartName],
    stream: u64,
    tip: Tip,
    mut blind: impl FnMut() -> u32,
    out: &mut Vec<u8>,
) -> Result<(), TooLong> {
    let parts = draft.parts.iter().map(|part| part.len() + BLIND_BYTES);
    let count = |number: usize| u32::try_from(number).map_err(|_| TooLong);
    let counts = [
        count(draft.parts.len())?,
        count(erasures.len())?,
        count(draft.effects.len())?,
        count(parts.sum())?,
    ];
    out.clear();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    for number in [stream, tip.position, draft.epoch, draft.time_ms, tip.chain] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&draft.key.to_le_bytes());
    out.extend_from_slice(&draft.nonce);
    for number in counts {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&[0; 4]);
    debug_assert_eq!(out.len(), HEAD_BYTES);
    out.resize(HEAD_BYTES + draft.parts.len() * PART_ROW_BYTES, 0);
    for name in erasures {
        out.extend_from_slice(&name.position.to_le_bytes());
        out.extend_from_slice(&name.part.to_le_bytes());
    }
    out.extend_from_slice(draft.effects);
    let body_end = out.len();
    for (index, part) in draft.parts.iter().enumerate() {
        let start = out.len();
        out.extend_from_slice(part);
        out.extend_from_slice(&blind().to_le_bytes());
        let crc = crc32fast::hash(&out[start..]);
        let row = HEAD_BYTES + index * PART_ROW_BYTES;
        out[row..row + 4].copy_from_slice(&(part.len() as u32).to_le_bytes());
        out[row + 4..row + 8].copy_from_slice(&crc.to_le_bytes());
    }
    let body_crc = crc32fast::hash(&out[HEAD_BYTES..body_end]);
    out[90..HEAD_BYTES].copy_from_slice(&body_crc.to_le_bytes());
    Ok(())
}

/// Makes an encoded record valid in the file with this salt.
///
/// # Panics
/// If `record` is shorter than a head.
pub fn seal(record: &mut [u8], salt: &Salt) {
    let check = check_of(head_of(record), salt);
    record[CHECK].copy_from_slice(&check);
}

/// The chain of an encoded record.
///
/// # Panics
/// If `record` is shorter than a head.
pub fn chain(record: &[u8]) -> u64 {
    chain_of(head_of(record))
}

fn head_of(record: &[u8]) -> &[u8; HEAD_BYTES] {
    record
        .first_chunk()
        .expect("an encoded record begins with a head")
}

fn check_of(head: &[u8; HEAD_BYTES], salt: &Salt) -> [u8; 8] {
    keyed_check(salt, [&head[..CHECK.start], &head[CHECK.end..]])
}

/// The first 8 bytes of SHA-256 over the salt and the bytes given.
pub fn keyed_check(salt: &Salt, bytes: [&[u8]; 2]) -> [u8; 8] {
    let hash = Sha256::new_with_prefix(salt);
    field(
        &hash
            .chain_update(bytes[0])
            .chain_update(bytes[1])
            .finalize(),
        0,
    )
}

fn chain_of(head: &[u8; HEAD_BYTES]) -> u64 {
    let hash = Sha256::new_with_prefix(&head[..CHECK.start]);
    u64::from_le_bytes(field(&hash.chain_update(&head[CHECK.end..]).finalize(), 0))
}

/// The `N` bytes at `offset`.
///
/// # Panics
/// If they go beyond the end: callers have checked the length.
pub fn field<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    let field = bytes[offset..].first_chunk();
    *field.expect("the caller has checked the length")
}

#[cfg(test)]
mod tests;
