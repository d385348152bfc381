//! Tables of sorted entries on disk: blocks, and a row for each with its first key.
//!
//! The rows are in memory while the file is open, the blocks are read when they are asked for.
//!
//! | row | field |
//! |---|---|
//! | 2 | the block's length, little-endian |
//! | 1 | the length of its first key |
//! | | its first key |

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use super::IndexError;
use super::block::{BLOCK_BYTES, BlockBuilder, Entries};

/// Writes a table's blocks as they become full, and collects its rows.
pub struct TableWriter<const VALUE: usize> {
    block: BlockBuilder<VALUE>,
    first_key: Vec<u8>,
    pub rows: Vec<u8>,
    /// Of all blocks that are written.
    pub bytes: u64,
    pub entries: u64,
}

impl<const VALUE: usize> TableWriter<VALUE> {
    pub fn new() -> Self {
        TableWriter {
            block: BlockBuilder::new(),
            first_key: Vec::new(),
            rows: Vec::new(),
            bytes: 0,
            entries: 0,
        }
    }

    /// Adds an entry whose key is behind all others.
    pub fn add(&mut self, key: &[u8], value: &[u8; VALUE], out: &mut impl Write) -> io::Result<()> {
        if self.block.is_empty() || !self.block.add(key, value) {
            self.end_block(out)?;
            self.first_key.extend_from_slice(key);
            let is_added = self.block.add(key, value);
            debug_assert!(is_added, "an empty block has room for any entry");
        }
        self.entries += 1;
        Ok(())
    }

    /// Writes the last block, if there is something in it.
    pub fn end_block(&mut self, out: &mut impl Write) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let block = self.block.finish();
        out.write_all(block)?;
        self.bytes += block.len() as u64;
        let block_bytes = block.len() as u16;
        self.rows.extend(block_bytes.to_le_bytes());
        self.rows.push(self.first_key.len() as u8);
        self.rows.append(&mut self.first_key);
        self.block.clear();
        Ok(())
    }
}

/// A file that is read from, with the errors of reading it.
pub struct Source {
    pub name: String,
    pub file: File,
}

impl Source {
    /// Fills `bytes` from `offset`.
    pub fn read(&self, bytes: &mut [u8], offset: u64) -> Result<(), IndexError> {
        match self.file.read_exact_at(bytes, offset) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.damaged(offset, "the file ends early"))
            }
            read => read.map_err(|cause| self.io("reading", cause)),
        }
    }

    pub fn damaged(&self, offset: u64, reason: &'static str) -> IndexError {
        IndexError::Damaged {
            file: self.name.clone(),
            offset,
            reason,
        }
    }

    pub fn io(&self, doing: &'static str, cause: io::Error) -> IndexError {
        IndexError::Io {
            file: self.name.clone(),
            doing,
            cause,
        }
    }
}

/// The rows of a table.
pub struct Table<const VALUE: usize> {
    blocks: Vec<Block>,
    /// The first keys, one after the other.
    first_keys: Vec<u8>,
}

struct Block {
    offset: u64,
    bytes: u16,
    first_key_bytes: u8,
    first_key_at: u32,
}

impl<const VALUE: usize> Table<VALUE> {
    /// Reads the rows of a table whose blocks take `bytes` from `offset` on. The error says what is
    /// wrong.
    pub fn of(mut rows: &[u8], mut offset: u64, bytes: u64) -> Result<Self, &'static str> {
        const SHORT: &str = "a table of blocks ends within a row";
        let end = offset + bytes;
        let mut table = Table {
            blocks: Vec::new(),
            first_keys: Vec::new(),
        };
        while !rows.is_empty() {
            let [low, high, first_key_bytes, rest @ ..] = rows else {
                return Err(SHORT);
            };
            let block = Block {
                offset,
                bytes: u16::from_le_bytes([*low, *high]),
                first_key_bytes: *first_key_bytes,
                first_key_at: u32::try_from(table.first_keys.len())
                    .map_err(|_| "a table of blocks is too long")?,
            };
            let first_key;
            (first_key, rows) = rest
                .split_at_checked(usize::from(*first_key_bytes))
                .ok_or(SHORT)?;
            if usize::from(block.bytes) > BLOCK_BYTES {
                return Err("a table of blocks has a block that is too long");
            }
            let last = table.blocks.len().checked_sub(1);
            if last.is_some_and(|last| table.first_key(last) >= first_key) {
                return Err("a table of blocks is out of order");
            }
            offset += u64::from(block.bytes);
            table.first_keys.extend_from_slice(first_key);
            table.blocks.push(block);
        }
        match offset == end {
            true => Ok(table),
            false => Err("a table of blocks does not fit the blocks"),
        }
    }

    /// How many blocks there are.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Memory that it takes.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.blocks.capacity() * size_of::<Block>() + self.first_keys.capacity()
    }

    pub fn first_key(&self, block: usize) -> &[u8] {
        let block = &self.blocks[block];
        &self.first_keys[block.first_key_at as usize..][..usize::from(block.first_key_bytes)]
    }

    /// The block that has a key if any has: the last one that begins at or before it.
    pub fn block_of(&self, key: &[u8]) -> Option<usize> {
        let (mut from, mut to) = (0, self.len());
        while from < to {
            let middle = from + (to - from) / 2;
            match self.first_key(middle) <= key {
                true => from = middle + 1,
                false => to = middle,
            }
        }
        from.checked_sub(1)
    }

    /// Reads a block, and shows its entries until one is not answered with true.
    pub fn walk(
        &self,
        block: usize,
        source: &Source,
        mut goes_on: impl FnMut(&[u8], &[u8; VALUE]) -> bool,
    ) -> Result<(), IndexError> {
        let Block { offset, bytes, .. } = self.blocks[block];
        let damaged = |reason| source.damaged(offset, reason);
        let mut buffer = [0; BLOCK_BYTES];
        let bytes = &mut buffer[..usize::from(bytes)];
        source.read(bytes, offset)?;
        let mut entries = Entries::of(bytes).map_err(damaged)?;
        let mut value = entries.next().map_err(damaged)?;
        // A block that is whole could stand in the place of another.
        if value.is_none() || entries.key() != self.first_key(block) {
            return Err(damaged("a block does not begin with its first key"));
        }
        while let Some(found) = value {
            if !goes_on(entries.key(), found) {
                break;
            }
            value = entries.next().map_err(damaged)?;
        }
        Ok(())
    }

    pub fn get(&self, key: &[u8], source: &Source) -> Result<Option<[u8; VALUE]>, IndexError> {
        let Some(block) = self.block_of(key) else {
            return Ok(None);
        };
        let mut found = None;
        self.walk(block, source, |one, value| {
            if one == key {
                found = Some(*value);
            }
            one < key
        })?;
        Ok(found)
    }

    /// Reads all blocks, and answers how many entries they have.
    pub fn verify(&self, source: &Source) -> Result<u64, IndexError> {
        let mut count = 0;
        let mut last = Vec::new();
        for block in 0..self.len() {
            if block > 0 && last.as_slice() >= self.first_key(block) {
                let offset = self.blocks[block].offset;
                return Err(source.damaged(offset, "the blocks are out of order"));
            }
            self.walk(block, source, |key, _| {
                count += 1;
                last.clear();
                last.extend_from_slice(key);
                true
            })?;
        }
        Ok(count)
    }
}
