//! Opening the journal of a store, and bringing the databases up to its end.
//!
//! Commits after the last checkpoint are in the journal for certain, and in the live database as
//! far as it happened to write them. Applying them again, from the checkpoint on, gives the same state,
//! however often a start is broken off.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::damage::DamagedPart;
use super::directory::create_directory;
use super::effects;
use super::engine::{Changes, Engine, EngineError, Values};
use super::layout::{self, Checkpoint, FORMAT, Meta, RecordError};
use super::open::{open_engine, to_open_error};
use super::{OpenError, StoreSettings, checkpoint_file, slices};
use crate::clock::Timestamp;
use crate::journal::{
    CutOff, Disk, Journal, JournalError, Known, Opened, Reader, RecordDraft, Sizes, Tip,
};

/// How many changed keys of the live database are collected before they are applied: behind a checkpoint file of an hour
/// ago there are more than should be in memory. Tests have several such stretches in few records.
pub const COLLECTED_MAX: usize = if cfg!(test) { 8 } else { 1 << 19 };

/// Opens the journal of a store whose databases nobody uses yet, and applies the records behind the
/// last checkpoint. The second value is the damage before that.
pub fn open(
    settings: &StoreSettings,
    live: &Engine,
) -> Result<(Journal, Vec<DamagedPart>), OpenError> {
    let path = settings.path.join("journal");
    create_directory(&path).map_err(|source| OpenError::Io {
        path: path.clone(),
        source,
    })?;
    let damaged = |error| to_open_error(&settings.path, error);
    let checkpoint = layout::get::<Checkpoint>(live, &[layout::CHECKPOINT]).map_err(damaged)?;
    let has_segments = has_segments(&path)?;
    let checkpoint = match checkpoint {
        Some(record) => record.meta,
        None if has_segments => {
            return Err(OpenError::Unsafe(format!(
                "{} has segments, and the database {} knows of none: they belong to another copy \
                 of this store. Bring both back from the same copy, or run `postrider rebuild`, which makes the \
                 database anew",
                path.display(),
                settings.path.join("live").display()
            )));
        }
        None => begin(live).map_err(|error| damaged(error.into()))?,
    };
    if !has_segments && checkpoint.position > 0 {
        allow_without_segments(live, &path).map_err(|error| error.unwrap_or_else(damaged))?;
    }
    let newest = newest_noted(&settings.path, checkpoint.stream);
    let is_closed = was_closed(live, &checkpoint, newest).map_err(damaged)?;
    let (journal, opened) = open_files(settings, &path, &checkpoint, newest, is_closed)?;
    let damaged = opened.damaged.iter();
    let damaged = damaged.map(|error| DamagedPart::of(&path, error));
    let damaged = damaged.collect();
    if checkpoint_at(&journal).position > checkpoint.position {
        let now = apply_behind(&journal.reader(), settings, live, &checkpoint)?;
        log::info!(
            "{} commits of the journal were not in the databases for certain, and are now",
            now.position - checkpoint.position
        );
    }
    Ok((journal, damaged))
}

/// The newest position of the journal that the file `applied` knows; 0 where it knows none of this stream.
fn newest_noted(directory: &Path, stream: u64) -> u64 {
    let applied = checkpoint_file::applied(directory);
    let applied = applied.filter(|applied| applied.stream == stream);
    applied.map_or(0, |applied| applied.position)
}

/// Whether the last process ended cleanly, with all of the journal in the databases.
fn was_closed(
    live: &Engine,
    checkpoint: &Checkpoint,
    newest_noted: u64,
) -> Result<bool, RecordError> {
    let meta = layout::get::<Meta>(live, &[layout::META])?;
    let is_closed = meta.is_some_and(|record| record.meta.clean && record.meta.format == FORMAT);
    // A database that was brought back from an older copy has the mark of an earlier stop. Every process that
    // changed the store since has noted a later position, before it answered anybody.
    Ok(is_closed && newest_noted <= checkpoint.position)
}

pub fn has_segments(path: &Path) -> Result<bool, OpenError> {
    let io = |source| OpenError::Io {
        path: path.to_owned(),
        source,
    };
    for entry in std::fs::read_dir(path).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        if Path::new(&name)
            .extension()
            .is_some_and(|end| end == "segment")
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Begins the journal of a store that has none.
fn begin(live: &Engine) -> Result<Checkpoint, EngineError> {
    let checkpoint = Checkpoint {
        stream: rand::random(),
        position: 0,
        chain: 0,
    };
    write_checkpoint(live, &checkpoint)?;
    Ok(checkpoint)
}

/// Changes the live database of a store that no server uses yet: a record of the journal, as any other
/// commit, then the database, with that record as its checkpoint. The file `applied` notes the position, by
/// which a later start recognises a database from before.
pub fn commit_at_rest(
    settings: &StoreSettings,
    journal: &mut Journal,
    live: &Engine,
    mut changes: Changes,
    now: Timestamp,
) -> Result<(), OpenError> {
    let mut content = Vec::new();
    let (none, no_counts) = ([].into_iter(), [].into_iter());
    effects::encode(none, &changes, &[], no_counts, &mut content);
    let draft = RecordDraft {
        time_ms: now.0,
        effects: &content,
        ..RecordDraft::default()
    };
    let appended = journal.append(&draft, &[]);
    appended.map_err(|error| journal_error(&settings.path.join("journal"), error))?;
    let key = [layout::CHECKPOINT];
    let checkpoint = checkpoint_at(journal);
    changes.put(&key, layout::encode(&key, &checkpoint, &[]));
    let committed = live.commit(changes);
    committed.map_err(|error| to_open_error(&settings.path, error.into()))?;
    checkpoint_file::try_to_note_applied(&settings.path, &checkpoint);
    Ok(())
}

/// The place of the first record that the checkpoint lacks.
pub fn next_behind(checkpoint: &Checkpoint) -> Tip {
    Tip {
        position: checkpoint.position + 1,
        chain: checkpoint.chain,
    }
}

/// A checkpoint at the end of the journal.
pub fn checkpoint_at(journal: &Journal) -> Checkpoint {
    let tip = journal.tip();
    Checkpoint {
        stream: journal.stream(),
        position: tip.position - 1,
        chain: tip.chain,
    }
}

/// Writes down how far the databases have the journal: the slices are on disk, and the live database is
/// when this returns.
pub fn write_checkpoint(live: &Engine, checkpoint: &Checkpoint) -> Result<(), EngineError> {
    live.flush()?;
    let key = [layout::CHECKPOINT];
    live.put(&key, layout::encode(&key, checkpoint, &[]))?;
    live.flush()
}

/// Nothing is lost with the segments of a store that was closed cleanly.
fn allow_without_segments(
    live: &Engine,
    path: &Path,
) -> Result<(), Result<OpenError, RecordError>> {
    let meta = layout::get::<Meta>(live, &[layout::META]).map_err(Err)?;
    // History was in databases then; now it would be lost.
    let is_at_rest = |meta: &Meta| meta.clean && meta.format <= layout::FORMAT_OF_SLICES;
    if meta.is_some_and(|record| is_at_rest(&record.meta)) {
        log::warn!(
            "{} has no segments; going on with a new one",
            path.display()
        );
        return Ok(());
    }
    Err(Ok(without_segments(path)))
}

/// The refusal of a journal whose directory has no segments.
fn without_segments(path: &Path) -> OpenError {
    OpenError::Unusable {
        path: path.to_owned(),
        reason:
            "its segments are missing: the messages and attempts that are kept are in them, and what \
             was accepted last"
                .to_owned(),
    }
}

/// Refuses a store of which the journal's segments are missing, as far as that shows without the live
/// database, which is changed when it is opened. The version before wrote no file `applied`.
pub fn refuse_without_segments(directory: &Path) -> Result<(), OpenError> {
    let path = directory.join("journal");
    let applied = checkpoint_file::applied(directory);
    let is_noted = applied.is_some_and(|applied| applied.position > 0);
    if !is_noted || path.is_dir() && has_segments(&path)? {
        return Ok(());
    }
    Err(without_segments(&path))
}

/// Opens the files of a journal of which everything up to a checkpoint may be missing, and nothing else up
/// to the position `newest`.
pub fn open_files(
    settings: &StoreSettings,
    path: &Path,
    checkpoint: &Checkpoint,
    newest: u64,
    is_closed: bool,
) -> Result<(Journal, Opened), OpenError> {
    let known = Known {
        stream: checkpoint.stream,
        begin: next_behind(checkpoint),
        applied: checkpoint.position,
        newest: newest.max(checkpoint.position),
        is_closed,
    };
    let sizes = Sizes {
        segment_bytes: settings.segment_bytes,
        free_bytes_min: settings.min_free_bytes,
    };
    let files = Arc::new(Disk::new(path.to_owned()));
    let opened = Journal::open(files, sizes, &known, StdRng::from_os_rng());
    let (journal, opened) = opened.map_err(|error| journal_error(path, error))?;
    if let Some(told) = told_of_cut_off(path, &opened, is_closed) {
        log::warn!("{told}");
    }
    Ok((journal, opened))
}

/// The line that tells of bytes that were cut off behind the last record. Behind a clean stop there are only those
/// of an earlier use of the file, of which nobody need know.
fn told_of_cut_off(path: &Path, opened: &Opened, is_closed: bool) -> Option<String> {
    let CutOff {
        file,
        offset,
        position,
    } = opened.cut_off.as_ref().filter(|_| !is_closed)?;
    let bytes = opened.zeroed_bytes;
    Some(format!(
        "{}/{file}: {bytes} bytes behind the last record, from byte {offset} on, were cut off: what was written of \
         the record at position {position} when the last process ended, and not synced or answered, or what an \
         earlier use of the file left",
        path.display()
    ))
}

pub fn journal_error(path: &Path, error: JournalError) -> OpenError {
    let path = path.to_owned();
    match error {
        JournalError::Io { cause, file, .. } => OpenError::Io {
            path: path.join(file),
            source: cause,
        },
        JournalError::Newer { version, .. } => OpenError::Newer {
            path,
            found: version,
            known: 1,
        },
        JournalError::OtherStream { .. } => OpenError::OfAnotherStore {
            path,
            reason: error.to_string(),
        },
        other => OpenError::JournalDamaged {
            path,
            reason: other.to_string(),
        },
    }
}

/// Applies the records behind the checkpoint `applied` and writes down that the databases have them. Returns how far
/// that is.
pub fn apply_behind(
    reader: &Reader,
    settings: &StoreSettings,
    live: &Engine,
    applied: &Checkpoint,
) -> Result<Checkpoint, OpenError> {
    let path = settings.path.join("journal");
    let in_journal = |error| journal_error(&path, error);
    let mut checkpoint = *applied;
    let mut databases = Databases {
        settings,
        live,
        latest: BTreeMap::new(),
        of_slices: Vec::new(),
        slices: HashMap::new(),
    };
    let records = reader.records_behind(next_behind(applied));
    let mut records = records.map_err(in_journal)?;
    while let Some(record) = records.next_record().map_err(in_journal)? {
        let effects = effects::decode(&record.effects);
        let effects = effects.map_err(|error| OpenError::JournalDamaged {
            path: path.clone(),
            reason: format!("the record at position {}: {error}", record.head.position),
        })?;
        databases.take_in(effects)?;
        checkpoint.position = record.head.position;
        checkpoint.chain = record.head.chain;
    }
    if checkpoint.position == applied.position {
        return Ok(checkpoint);
    }
    databases.settle()?;
    write_checkpoint(live, &checkpoint)
        .map_err(|error| to_open_error(&settings.path, error.into()))?;
    Ok(checkpoint)
}

/// The databases that records are applied to.
struct Databases<'a> {
    settings: &'a StoreSettings,
    live: &'a Engine,
    /// The newest value of each key of the live database: many are put and deleted again.
    latest: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// Changes of slices that a version without a journal began.
    of_slices: Vec<(u32, Changes)>,
    slices: HashMap<u32, Engine>,
}

impl Databases<'_> {
    fn take_in(&mut self, effects: effects::Effects) -> Result<(), OpenError> {
        self.of_slices.extend(effects.databases);
        self.latest.extend(effects.live.into_entries());
        if self.latest.len() >= COLLECTED_MAX {
            self.apply_latest()?;
        }
        Ok(())
    }

    /// Applies what was collected, but for the record that may say that the store was closed. The checkpoint stays
    /// where it is: what is applied here is applied again by a start that comes after a crash, with the same result.
    fn apply_latest(&mut self) -> Result<(), OpenError> {
        let meta = self.latest.remove(&vec![layout::META]);
        let latest = std::mem::take(&mut self.latest);
        let mut latest = latest.into_iter();
        let applied = latest.try_for_each(|(key, value)| match value {
            Some(value) => self.live.put(&key, value),
            None => self.live.delete(&key),
        });
        self.latest
            .extend(meta.map(|meta| (vec![layout::META], meta)));
        applied.map_err(|error| to_open_error(&self.settings.path, error.into()))
    }

    /// Applies history, as far as its slices are still there at the end.
    fn apply_to_slices(&mut self) -> Result<(), OpenError> {
        for (number, changes) in std::mem::take(&mut self.of_slices) {
            if self.is_kept(number)? {
                self.apply_to_slice(number, changes)?;
            }
        }
        Ok(())
    }

    /// Whether no record drops the slice, whose files may be gone then, or half gone.
    fn is_kept(&self, number: u32) -> Result<bool, OpenError> {
        let key = layout::slice_key(number);
        if let Some(latest) = self.latest.get(&key) {
            return Ok(latest.is_some());
        }
        let found = self.live.get(&key);
        let found = found.map_err(|error| to_open_error(&self.settings.path, error.into()))?;
        Ok(found.is_some())
    }

    fn apply_to_slice(&mut self, number: u32, changes: Changes) -> Result<(), OpenError> {
        let path = slices::path_in(&self.settings.path.join("slices"), number);
        if !self.slices.contains_key(&number) {
            // Its directory was durable before the first record of it.
            if !path.is_dir() {
                return Err(OpenError::Unusable {
                    path,
                    reason: "the files of this slice are missing".to_owned(),
                });
            }
            let slice = open_engine(&path, self.settings.cache_bytes / 4, &path)?;
            self.slices.insert(number, slice);
        }
        let applied = self.slices[&number].apply(changes);
        applied.map_err(|error| to_open_error(&path, error.into()))
    }

    /// Makes it all durable; the record that may say that the store was closed comes last.
    fn settle(mut self) -> Result<(), OpenError> {
        self.apply_to_slices()?;
        for (number, slice) in &self.slices {
            let path = slices::path_in(&self.settings.path.join("slices"), *number);
            slice
                .flush_and_sync()
                .map_err(|error| to_open_error(&path, error.into()))?;
        }
        self.apply_latest()?;
        let meta = self.latest.remove(&vec![layout::META]).flatten();
        let settled = self.live.flush_and_sync();
        let settled = settled.and_then(|()| match meta {
            Some(meta) => self.live.put(&[layout::META], meta),
            None => Ok(()),
        });
        settled.map_err(|error| to_open_error(&self.settings.path, error.into()))
    }
}

#[cfg(test)]
mod tests;
