//! Writing index files.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::head::{HEAD_BYTES, IndexHead, Parts};
use super::table::TableWriter;
use super::{HourOfLane, IndexOf, LaneHour, PLACE_BYTES, Place};
use crate::store::engine;

const BUFFER_BYTES: usize = 128 << 10;

pub const HOUR_BYTES: usize = 7 * 8;

/// An index file that is being written: keys in their order, then lane hours in theirs.
pub struct IndexWriter {
    of: IndexOf,
    path: PathBuf,
    temporary: PathBuf,
    out: BufWriter<File>,
    keys: TableWriter<PLACE_BYTES>,
    hours: TableWriter<HOUR_BYTES>,
    is_finished: bool,
}

impl IndexWriter {
    pub fn create(path: &Path, of: &IndexOf) -> io::Result<IndexWriter> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        let mut writer = IndexWriter {
            of: of.clone(),
            path: path.to_owned(),
            temporary: temporary.into(),
            out: BufWriter::with_capacity(BUFFER_BYTES, file),
            keys: TableWriter::new(),
            hours: TableWriter::new(),
            is_finished: false,
        };
        // The head is known in the end.
        writer.out.write_all(&[0; HEAD_BYTES])?;
        Ok(writer)
    }

    pub fn key(&mut self, key: &[u8], place: Place) -> io::Result<()> {
        debug_assert!(self.hours.entries == 0, "keys come before hours");
        self.keys.add(key, &place.to_bytes(), &mut self.out)
    }

    pub fn hour(&mut self, place: HourOfLane, counts: &LaneHour) -> io::Result<()> {
        self.keys.end_block(&mut self.out)?;
        let (key, value) = (key_of_hour(place), hour_to_bytes(counts));
        self.hours.add(&key, &value, &mut self.out)
    }

    /// Makes the file durable, then gives it its name.
    pub fn finish(mut self) -> io::Result<()> {
        self.keys.end_block(&mut self.out)?;
        self.hours.end_block(&mut self.out)?;
        let mut tables_crc = crc32fast::Hasher::new();
        for rows in [&self.keys.rows, &self.hours.rows] {
            self.out.write_all(rows)?;
            tables_crc.update(rows);
        }
        let head = IndexHead {
            of: self.of.clone(),
            keys: self.keys.entries,
            hours: self.hours.entries,
            parts: Parts {
                keys_bytes: self.keys.bytes,
                hours_bytes: self.hours.bytes,
                keys_table_bytes: self.keys.rows.len() as u64,
                hours_table_bytes: self.hours.rows.len() as u64,
            },
            tables_crc: tables_crc.finalize(),
        };
        self.out.flush()?;
        self.out.get_ref().write_all_at(&head.encode(), 0)?;
        self.out.get_ref().sync_all()?;
        std::fs::rename(&self.temporary, &self.path)?;
        self.is_finished = true;
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => engine::sync_directory(parent),
            _ => engine::sync_directory(Path::new(".")),
        }
    }
}

impl Drop for IndexWriter {
    fn drop(&mut self) {
        if !self.is_finished {
            // The disk may be full. If it stays, the next writer begins it anew.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

pub fn key_of_hour((lane, hour): HourOfLane) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&lane.to_be_bytes());
    key[8..].copy_from_slice(&hour.to_be_bytes());
    key
}

/// The counts in the order of their fields, little-endian.
fn hour_to_bytes(counts: &LaneHour) -> [u8; HOUR_BYTES] {
    let LaneHour {
        attempts_succeeded,
        attempts_failed,
        delivered,
        failed,
        answered,
        answer_us_sum,
        answer_us_max,
    } = *counts;
    let numbers = [
        attempts_succeeded,
        attempts_failed,
        delivered,
        failed,
        answered,
        answer_us_sum,
        answer_us_max,
    ];
    let mut bytes = [0; HOUR_BYTES];
    for (field, number) in bytes.as_chunks_mut().0.iter_mut().zip(numbers) {
        *field = number.to_le_bytes();
    }
    bytes
}

pub fn hour_from_bytes(bytes: &[u8; HOUR_BYTES]) -> LaneHour {
    let fields = bytes.as_chunks().0.iter();
    let mut numbers = fields.map(|field| u64::from_le_bytes(*field));
    let mut next = || numbers.next().expect("there are seven numbers");
    LaneHour {
        attempts_succeeded: next(),
        attempts_failed: next(),
        delivered: next(),
        failed: next(),
        answered: next(),
        answer_us_sum: next(),
        answer_us_max: next(),
    }
}
