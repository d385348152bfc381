//! Blocks of entries, each key without what it shares with the one before.
//!
//! | bytes | field |
//! |---|---|
//! | 4 | CRC-32 over the rest of the block |
//! | | entries, in the order of their keys, without gaps |
//!
//! | entry | field |
//! |---|---|
//! | 1 | how many bytes the key shares with the one before; 0 for the first |
//! | 1 | how many bytes follow |
//! | | the key's other bytes |
//! | `VALUE` | the value, which has one length throughout a table |

/// The longest block.
pub const BLOCK_BYTES: usize = 4096;
const CRC_BYTES: usize = 4;

/// A block that is being filled.
pub struct BlockBuilder<const VALUE: usize> {
    bytes: Vec<u8>,
    last_key: Vec<u8>,
}

impl<const VALUE: usize> BlockBuilder<VALUE> {
    pub fn new() -> Self {
        BlockBuilder {
            bytes: vec![0; CRC_BYTES],
            last_key: Vec::new(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.len() == CRC_BYTES
    }

    /// Adds an entry behind the others. False where there is no room for it; an empty block has room
    /// for any.
    pub fn add(&mut self, key: &[u8], value: &[u8; VALUE]) -> bool {
        debug_assert!(self.is_empty() || self.last_key.as_slice() < key);
        let shared = match self.is_empty() {
            true => 0,
            false => shared(&self.last_key, key),
        };
        let rest = &key[shared..];
        if self.bytes.len() + 2 + rest.len() + VALUE > BLOCK_BYTES {
            return false;
        }
        self.bytes.extend([shared as u8, rest.len() as u8]);
        self.bytes.extend_from_slice(rest);
        self.bytes.extend_from_slice(value);
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(rest);
        true
    }

    /// The bytes of the block.
    pub fn finish(&mut self) -> &[u8] {
        let crc = crc32fast::hash(&self.bytes[CRC_BYTES..]);
        self.bytes[..CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
        &self.bytes
    }

    pub fn clear(&mut self) {
        self.bytes.truncate(CRC_BYTES);
    }
}

fn shared(one: &[u8], other: &[u8]) -> usize {
    let pairs = one.iter().zip(other);
    pairs.take_while(|(one, other)| one == other).count()
}

/// The entries of a block, one after the other.
pub struct Entries<'a, const VALUE: usize> {
    rest: &'a [u8],
    key: [u8; super::KEY_BYTES_MAX],
    key_bytes: usize,
    is_first: bool,
}

impl<'a, const VALUE: usize> Entries<'a, VALUE> {
    /// The error says what is wrong.
    pub fn of(block: &'a [u8]) -> Result<Self, &'static str> {
        let (crc, rest) = block
            .split_first_chunk()
            .ok_or("a block is shorter than its checksum")?;
        if crc32fast::hash(rest) != u32::from_le_bytes(*crc) {
            return Err("a block's checksum is wrong");
        }
        Ok(Entries {
            rest,
            key: [0; super::KEY_BYTES_MAX],
            key_bytes: 0,
            is_first: true,
        })
    }

    /// The key of the entry that was read last.
    pub fn key(&self) -> &[u8] {
        &self.key[..self.key_bytes]
    }

    /// Reads the next entry's key, and answers its value. Nothing is believed for the checksum's sake.
    pub fn next(&mut self) -> Result<Option<&'a [u8; VALUE]>, &'static str> {
        const SHORT: &str = "a block ends within an entry";
        let [shared, rest_bytes, behind @ ..] = self.rest else {
            return match self.rest.is_empty() {
                true => Ok(None),
                false => Err(SHORT),
            };
        };
        let (shared, rest_bytes) = (usize::from(*shared), usize::from(*rest_bytes));
        let (rest, behind) = behind.split_at_checked(rest_bytes).ok_or(SHORT)?;
        let (value, behind) = behind.split_first_chunk().ok_or(SHORT)?;
        let key_bytes = shared + rest_bytes;
        if shared > self.key_bytes || key_bytes > self.key.len() {
            return Err("a block has an entry whose key is too long");
        }
        if !self.is_first && rest <= &self.key[shared..self.key_bytes] {
            return Err("a block's keys are out of order");
        }
        self.key[shared..key_bytes].copy_from_slice(rest);
        self.key_bytes = key_bytes;
        self.is_first = false;
        self.rest = behind;
        Ok(Some(value))
    }
}
