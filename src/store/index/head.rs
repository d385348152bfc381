//! An index file, and its head.
//!
//! | part of the file | bytes |
//! |---|---|
//! | head | 128 |
//! | blocks of keys ([`block`](super::block)), each value a place | in the head |
//! | blocks of lane hours; a key is a lane u64 and hours u64, big-endian | in the head |
//! | table of the blocks of keys ([`table`](super::table)) | in the head |
//! | table of the blocks of lane hours | in the head |
//!
//! There are no gaps, and nothing follows. The numbers below are little-endian.
//!
//! | offset | bytes | field of the head |
//! |---|---|---|
//! | 0 | 8 | magic `B7 "indices"` |
//! | 8 | 4 | format: 1 |
//! | 12 | 4 | CRC-32 over the head with this field zero |
//! | 16 | 8 | stream |
//! | 24 | 8 | slice |
//! | 32 | 8 | first position |
//! | 40 | 8 | position behind the last |
//! | 48 | 8 | number of keys |
//! | 56 | 8 | number of lane hours |
//! | 64 | 8 | bytes of the blocks of keys |
//! | 72 | 8 | bytes of the blocks of lane hours |
//! | 80 | 8 | bytes of the table of the blocks of keys |
//! | 88 | 8 | bytes of the table of the blocks of lane hours |
//! | 96 | 4 | CRC-32 over both tables |
//! | 100 | 28 | zeros |

use super::IndexOf;

pub const HEAD_BYTES: usize = 128;
const MAGIC: [u8; 8] = *b"\xB7indices";
const FORMAT: u32 = 1;
const CRC_AT: usize = 12;
const NUMBERS_AT: usize = 16;
const TABLES_CRC_AT: usize = 96;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexHead {
    pub of: IndexOf,
    pub keys: u64,
    pub hours: u64,
    pub parts: Parts,
    pub tables_crc: u32,
}

/// The lengths of the parts behind the head, in their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    pub keys_bytes: u64,
    pub hours_bytes: u64,
    pub keys_table_bytes: u64,
    pub hours_table_bytes: u64,
}

impl Parts {
    /// The length of the whole file.
    pub fn file_bytes(&self) -> Option<u64> {
        (HEAD_BYTES as u64)
            .checked_add(self.keys_bytes)?
            .checked_add(self.hours_bytes)?
            .checked_add(self.keys_table_bytes)?
            .checked_add(self.hours_table_bytes)
    }

    /// Where the tables begin.
    pub fn tables_at(&self) -> u64 {
        HEAD_BYTES as u64 + self.keys_bytes + self.hours_bytes
    }
}

pub enum NoIndexHead {
    Damaged(&'static str),
    OtherFormat(u32),
}

impl IndexHead {
    pub fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut head = [0; HEAD_BYTES];
        head[..8].copy_from_slice(&MAGIC);
        head[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        let numbers = [
            self.of.stream,
            self.of.slice.into(),
            self.of.from,
            self.of.to,
            self.keys,
            self.hours,
            self.parts.keys_bytes,
            self.parts.hours_bytes,
            self.parts.keys_table_bytes,
            self.parts.hours_table_bytes,
        ];
        let fields = head[NUMBERS_AT..].chunks_exact_mut(8);
        for (field, number) in fields.zip(numbers) {
            field.copy_from_slice(&number.to_le_bytes());
        }
        head[TABLES_CRC_AT..][..4].copy_from_slice(&self.tables_crc.to_le_bytes());
        let crc = crc32fast::hash(&head);
        head[CRC_AT..][..4].copy_from_slice(&crc.to_le_bytes());
        head
    }

    pub fn decode(mut head: [u8; HEAD_BYTES]) -> Result<IndexHead, NoIndexHead> {
        let crc = u32_at(&head, CRC_AT);
        head[CRC_AT..][..4].fill(0);
        if head[..8] != MAGIC || crc32fast::hash(&head) != crc {
            return Err(NoIndexHead::Damaged("the head's checksum is wrong"));
        }
        let format = u32_at(&head, 8);
        if format != FORMAT {
            return Err(NoIndexHead::OtherFormat(format));
        }
        let number = |which: usize| u64_at(&head, NUMBERS_AT + 8 * which);
        Ok(IndexHead {
            of: IndexOf {
                stream: number(0),
                slice: u32_at(&head, NUMBERS_AT + 8),
                from: number(2),
                to: number(3),
            },
            keys: number(4),
            hours: number(5),
            parts: Parts {
                keys_bytes: number(6),
                hours_bytes: number(7),
                keys_table_bytes: number(8),
                hours_table_bytes: number(9),
            },
            tables_crc: u32_at(&head, TABLES_CRC_AT),
        })
    }
}

fn u32_at(head: &[u8; HEAD_BYTES], at: usize) -> u32 {
    u32::from_le_bytes(field(head, at))
}

fn u64_at(head: &[u8; HEAD_BYTES], at: usize) -> u64 {
    u64::from_le_bytes(field(head, at))
}

fn field<const BYTES: usize>(head: &[u8; HEAD_BYTES], at: usize) -> [u8; BYTES] {
    let bytes = head[at..].first_chunk();
    *bytes.expect("the fields lie within the head")
}
