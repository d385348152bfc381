//! Index files, as they are read.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use super::head::{HEAD_BYTES, IndexHead, NoIndexHead};
use super::range::{Between, BothEnds, End, Sorted, Stretch};
use super::table::{Source, Table};
use super::write::{HOUR_BYTES, hour_from_bytes, key_of_hour};
use super::{Entry, IndexError, IndexOf, LaneHour, PLACE_BYTES, Place};

/// The index of a sealed slice. The tables of its blocks are in memory; a block is read, and its
/// checksum compared, each time it is asked for.
pub struct IndexFile {
    source: Source,
    head: IndexHead,
    keys: Table<PLACE_BYTES>,
    hours: Table<HOUR_BYTES>,
}

impl IndexFile {
    /// Opens the index of a slice. One that was made from anything else is refused.
    pub fn open(path: &Path, of: &IndexOf) -> Result<IndexFile, IndexError> {
        let name = path.display().to_string();
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(IndexError::Missing { file: name });
            }
            Err(cause) => {
                return Err(IndexError::Io {
                    file: name,
                    doing: "opening",
                    cause,
                });
            }
        };
        let source = Source { name, file };
        let head = read_head(&source)?;
        if head.of != *of {
            return Err(IndexError::OfAnother { file: source.name });
        }
        let (keys, hours) = read_tables(&source, &head)?;
        Ok(IndexFile {
            source,
            head,
            keys,
            hours,
        })
    }

    pub fn get(&self, key: &[u8]) -> Result<Option<Place>, IndexError> {
        let found = self.keys.get(key, &self.source)?;
        Ok(found.map(Place::from_bytes))
    }

    /// Keys and places between two bounds. A block that does not read ends the range with its error.
    pub fn range(self: &Arc<Self>, from: Bound<Vec<u8>>, to: Bound<Vec<u8>>) -> FileRange {
        FileRange {
            file: self.clone(),
            ends: BothEnds::new(from, to),
        }
    }

    /// The hours of a lane in `from..to`, in order.
    pub fn hours(&self, lane: u64, from: u64, to: u64) -> Result<Vec<(u64, LaneHour)>, IndexError> {
        let mut hours = Vec::new();
        if from >= to {
            return Ok(hours);
        }
        let first = key_of_hour((lane, from));
        let behind = key_of_hour((lane, to));
        let mut block = self.hours.block_of(&first).unwrap_or(0);
        while block < self.hours.len() && *self.hours.first_key(block) < behind[..] {
            self.hours.walk(block, &self.source, |key, counts| {
                let hour = key.last_chunk().map(|hour| u64::from_be_bytes(*hour));
                if let Some(hour) = hour
                    && (&first[..]..&behind[..]).contains(&key)
                {
                    hours.push((hour, hour_from_bytes(counts)));
                }
                key < &behind[..]
            })?;
            block += 1;
        }
        Ok(hours)
    }

    /// How many keys there are.
    #[cfg(test)]
    pub fn len(&self) -> u64 {
        self.head.keys
    }

    /// Memory that it takes while it is open, roughly.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.keys.bytes() + self.hours.bytes()
    }

    /// Reads everything that opening did not.
    pub fn verify(&self) -> Result<(), IndexError> {
        let keys = self.keys.verify(&self.source)?;
        let hours = self.hours.verify(&self.source)?;
        match (keys, hours) == (self.head.keys, self.head.hours) {
            true => Ok(()),
            false => Err(self.source.damaged(0, "the head counts other entries")),
        }
    }
}

fn read_head(source: &Source) -> Result<IndexHead, IndexError> {
    let metadata = source.file.metadata();
    let metadata = metadata.map_err(|cause| source.io("asking for the length", cause))?;
    let file_bytes = metadata.len();
    if file_bytes < HEAD_BYTES as u64 {
        return Err(source.damaged(0, "the file is shorter than its head"));
    }
    let mut head = [0; HEAD_BYTES];
    source.read(&mut head, 0)?;
    let head = IndexHead::decode(head).map_err(|problem| match problem {
        NoIndexHead::Damaged(reason) => source.damaged(0, reason),
        NoIndexHead::OtherFormat(format) => IndexError::OtherFormat {
            file: source.name.clone(),
            format,
        },
    })?;
    // What follows allocates by the lengths in the head, and so by what the file really has.
    if head.parts.file_bytes() != Some(file_bytes) {
        return Err(source.damaged(0, "the file does not have the length that its head says"));
    }
    Ok(head)
}

fn read_tables(
    source: &Source,
    head: &IndexHead,
) -> Result<(Table<PLACE_BYTES>, Table<HOUR_BYTES>), IndexError> {
    let parts = &head.parts;
    let tables_at = parts.tables_at();
    let damaged = |reason| source.damaged(tables_at, reason);
    let mut rows = vec![0; (parts.keys_table_bytes + parts.hours_table_bytes) as usize];
    source.read(&mut rows, tables_at)?;
    if crc32fast::hash(&rows) != head.tables_crc {
        return Err(damaged("the checksum of the tables of blocks is wrong"));
    }
    let (keys, hours) = rows.split_at(parts.keys_table_bytes as usize);
    let keys_at = HEAD_BYTES as u64;
    let keys = Table::of(keys, keys_at, parts.keys_bytes).map_err(damaged)?;
    let hours_at = keys_at + parts.keys_bytes;
    let hours = Table::of(hours, hours_at, parts.hours_bytes).map_err(damaged)?;
    Ok((keys, hours))
}

impl Sorted for IndexFile {
    type Error = IndexError;

    /// The entries of a range in the first of its blocks, or in the last one.
    fn stretch(&self, between: &Between, end: End) -> Result<Stretch, IndexError> {
        match end {
            End::Front => self.first_block_of(between),
            End::Back => self.last_block_of(between),
        }
    }
}

impl IndexFile {
    fn first_block_of(&self, between: &Between) -> Result<Stretch, IndexError> {
        let mut stretch = Stretch::default();
        let mut block = match &between.from {
            Bound::Included(from) | Bound::Excluded(from) => self.keys.block_of(from).unwrap_or(0),
            Bound::Unbounded => 0,
        };
        while stretch.entries.is_empty() && self.may_have(between, block) {
            self.read_block(block, between, &mut stretch.entries)?;
            block += 1;
        }
        stretch.is_last = !self.may_have(between, block);
        Ok(stretch)
    }

    /// Whether there is a block that does not begin behind the range.
    fn may_have(&self, between: &Between, block: usize) -> bool {
        block < self.keys.len() && !between.is_behind(self.keys.first_key(block))
    }

    fn last_block_of(&self, between: &Between) -> Result<Stretch, IndexError> {
        let mut stretch = Stretch::default();
        // How many blocks are left to look into.
        let mut blocks = match &between.to {
            Bound::Included(to) | Bound::Excluded(to) => {
                self.keys.block_of(to).map_or(0, |block| block + 1)
            }
            Bound::Unbounded => self.keys.len(),
        };
        while stretch.entries.is_empty() && blocks > 0 {
            blocks -= 1;
            self.read_block(blocks, between, &mut stretch.entries)?;
            if between.is_before(self.keys.first_key(blocks)) {
                blocks = 0;
            }
        }
        stretch.is_last = blocks == 0;
        Ok(stretch)
    }

    /// Takes the entries of a range that are in a block.
    fn read_block(
        &self,
        block: usize,
        between: &Between,
        entries: &mut VecDeque<Entry>,
    ) -> Result<(), IndexError> {
        self.keys.walk(block, &self.source, |key, place| {
            let is_behind = between.is_behind(key);
            if !is_behind && !between.is_before(key) {
                entries.push_back((key.to_vec(), Place::from_bytes(*place)));
            }
            !is_behind
        })
    }
}

/// A range of an index file.
pub struct FileRange {
    file: Arc<IndexFile>,
    ends: BothEnds,
}

impl Iterator for FileRange {
    type Item = Result<Entry, IndexError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.ends.next(&*self.file)
    }
}

impl DoubleEndedIterator for FileRange {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.ends.next_back(&*self.file)
    }
}
