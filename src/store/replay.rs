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
use crate::journal::{CutOff, Disk, Journal, JournalError, Known, Opened, RecordDraft, Sizes, Tip};

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
    replay(&journal, settings, live, &checkpoint)?;
    Ok((journal, damaged.collect()))
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
fn next_behind(checkpoint: &Checkpoint) -> Tip {
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
        JournalError::OtherStream { .. } => OpenError::Unusable {
            path,
            reason: error.to_string(),
        },
        other => OpenError::JournalDamaged {
            path,
            reason: other.to_string(),
        },
    }
}

/// Applies the records behind the checkpoint `applied` and writes down that the databases have them.
fn replay(
    journal: &Journal,
    settings: &StoreSettings,
    live: &Engine,
    applied: &Checkpoint,
) -> Result<(), OpenError> {
    let checkpoint = checkpoint_at(journal);
    if checkpoint.position == applied.position {
        return Ok(());
    }
    let path = settings.path.join("journal");
    let mut databases = Databases {
        settings,
        live,
        latest: BTreeMap::new(),
        slices: HashMap::new(),
    };
    let mut stretch = Vec::new();
    let reader = journal.reader();
    let records = reader.records_behind(next_behind(applied));
    let mut records = records.map_err(|error| journal_error(&path, error))?;
    while let Some(record) = records
        .next_record()
        .map_err(|error| journal_error(&path, error))?
    {
        let effects = effects::decode(&record.effects);
        let effects = effects.map_err(|error| OpenError::JournalDamaged {
            path: path.clone(),
            reason: format!("the record at position {}: {error}", record.head.position),
        })?;
        stretch.push(effects);
    }
    databases.take_in(stretch)?;
    databases.settle()?;
    write_checkpoint(live, &checkpoint)
        .map_err(|error| to_open_error(&settings.path, error.into()))?;
    log::info!(
        "{} commits of the journal were not in the databases for certain, and are now",
        checkpoint.position - applied.position
    );
    Ok(())
}

/// The databases that records are applied to.
struct Databases<'a> {
    settings: &'a StoreSettings,
    live: &'a Engine,
    /// The newest value of each key of the live database: many are put and deleted again.
    latest: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    slices: HashMap<u32, Engine>,
}

impl Databases<'_> {
    /// Applies a stretch of records: history first, as far as its slices are still there at the end.
    fn take_in(&mut self, stretch: Vec<effects::Effects>) -> Result<(), OpenError> {
        let mut history = Vec::new();
        for effects in stretch {
            history.extend(effects.databases);
            self.latest.extend(effects.live.into_entries());
        }
        for (number, changes) in history {
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
        for (number, slice) in &self.slices {
            let path = slices::path_in(&self.settings.path.join("slices"), *number);
            slice
                .flush_and_sync()
                .map_err(|error| to_open_error(&path, error.into()))?;
        }
        let meta = self.latest.remove(&vec![layout::META]).flatten();
        let mut latest = self.latest.into_iter();
        let applied = latest.try_for_each(|(key, value)| match value {
            Some(value) => self.live.put(&key, value),
            None => self.live.delete(&key),
        });
        let settled = applied.and_then(|()| self.live.flush_and_sync());
        let settled = settled.and_then(|()| match meta {
            Some(meta) => self.live.put(&[layout::META], meta),
            None => Ok(()),
        });
        settled.map_err(|error| to_open_error(&self.settings.path, error.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::domain::id::MessageId;
    use crate::domain::message::DeliveryKey;
    use crate::journal::Reader;
    use crate::store::layout::golden::rows::{APPLICATION, LANE, message};
    use crate::store::open::open_files as open_store;
    use crate::store::tests::{copy_directory, let_go, message_to, opened_with, register};
    use crate::store::{Store, StoreSettings, reset_owner};

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    /// A store in which a message waits.
    async fn with_a_message(path: &Path) -> (Store, DeliveryKey) {
        let store = opened_with(path, Clock::manual(NOW));
        register(&store).await;
        let message = store.accept_message(message_to(vec![LANE])).await.unwrap();
        let waits = DeliveryKey {
            lane: LANE,
            due: message.first_due(),
            message: message.id,
        };
        (store, waits)
    }

    fn settings_of(store: &Store) -> StoreSettings {
        store.inner.settings.clone()
    }

    /// Closes it; its files can be opened again when this returns.
    fn close(store: Store) {
        store.close().unwrap();
        let path = store.inner.settings.path.clone();
        drop(store);
        let_go(&path);
    }

    fn segments(settings: &StoreSettings) -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(settings.path.join("journal")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.extension().is_some_and(|end| end == "segment"))
            .collect()
    }

    #[actix_web::test]
    async fn after_a_clean_stop_the_live_database_has_all_that_it_is_to_have() {
        let directory = tempfile::tempdir().unwrap();
        let (store, waits) = with_a_message(&directory.path().join("data")).await;
        let settings = settings_of(&store);
        close(store);
        let live = Engine::open(&settings.path.join("live"), 1 << 20).unwrap();
        let meta = layout::get::<Meta>(&live, &[layout::META]).unwrap();
        let meta = meta.unwrap().meta;
        assert_eq!((meta.format, meta.clean), (layout::FORMAT, true));
        assert!(live.get(&layout::waiting_key(&waits)).unwrap().is_some());
    }

    /// While a process runs, and after it was killed, a version without a journal would miss records.
    #[actix_web::test]
    async fn a_store_in_use_is_refused_by_the_version_before() {
        let directory = tempfile::tempdir().unwrap();
        let (store, _) = with_a_message(&directory.path().join("data")).await;
        let crashed = directory.path().join("crashed");
        copy_directory(&store.inner.settings.path, &crashed);
        close(store);
        let live = Engine::open(&crashed.join("live"), 1 << 20).unwrap();
        let meta = layout::get::<Meta>(&live, &[layout::META]).unwrap();
        assert_eq!(meta.unwrap().meta.format, layout::FORMAT);
    }

    /// Its two databases were synced one after the other: the slice may be ahead.
    #[actix_web::test]
    async fn what_a_process_without_a_journal_left_half_written_never_happened() {
        let directory = tempfile::tempdir().unwrap();
        let (store, waits) = with_a_message(&directory.path().join("data")).await;
        let settings = settings_of(&store);
        close(store);
        let half = MessageId::first_at(NOW + std::time::Duration::from_secs(1));
        {
            let files = open_store(&settings, &Clock::manual(NOW)).unwrap();
            let mut meta = files.meta.clone();
            meta.clean = false;
            let mut changes = Changes::default();
            layout::replace(&files.live, &mut changes, &[layout::META], &meta).unwrap();
            files.live.commit(changes).unwrap();
            let slice = slices::path_in(&settings.path.join("slices"), 1);
            let slice = Engine::open(&slice, 1 << 20).unwrap();
            let record = layout::MessageMeta {
                commit: meta.commit + 1,
                accepted_at: half.time(),
                ..message()
            };
            let mut changes = Changes::default();
            let key = layout::message_key(APPLICATION, half);
            layout::put(&mut changes, &key, &record, b"{}");
            slice.commit(changes).unwrap();
        }
        let_go(&settings.path);
        let store = opened_with(&settings.path, Clock::manual(NOW));
        for _ in 0..3 {
            store.accept_message(message_to(vec![LANE])).await.unwrap();
        }
        assert!(store.message(APPLICATION, half).unwrap().is_none());
        assert!(store.message(APPLICATION, waits.message).unwrap().is_some());
        close(store);
    }

    /// The newest segment, and where its last record begins.
    fn end_of_journal(settings: &StoreSettings) -> (std::path::PathBuf, usize) {
        let path = settings.path.join("journal");
        let reader = Reader::at_rest(Arc::new(Disk::new(path.clone()))).unwrap();
        let newest = reader.segments().pop().unwrap();
        let mut records = reader.records(newest.begin.position).unwrap();
        let mut last = None;
        while let Ok(Some(record)) = records.next_record() {
            last = Some(record.offset as usize);
        }
        (path.join(&newest.name), last.expect("it has a record"))
    }

    fn flip(file: &Path, at: usize) {
        let mut bytes = std::fs::read(file).unwrap();
        bytes[at] ^= 1;
        std::fs::write(file, bytes).unwrap();
    }

    /// The data directory of a server that was killed after it had accepted a message.
    async fn killed(settings: &StoreSettings, directory: &Path) -> StoreSettings {
        let path = directory.join("killed");
        let store = opened_with(&settings.path, Clock::manual(NOW));
        store.accept_message(message_to(vec![LANE])).await.unwrap();
        copy_directory(&settings.path, &path);
        close(store);
        StoreSettings {
            path,
            ..settings.clone()
        }
    }

    /// The data directory after a command that has changed something.
    fn commanded(settings: &StoreSettings, directory: &Path) -> StoreSettings {
        let path = directory.join("commanded");
        copy_directory(&settings.path, &path);
        let settings = StoreSettings {
            path,
            ..settings.clone()
        };
        reset_owner(&settings, &Clock::manual(NOW)).unwrap();
        let_go(&settings.path);
        settings
    }

    /// `live` says that the store was closed at its position, which was so when it was copied.
    #[actix_web::test]
    async fn a_live_database_from_before_the_last_use_hides_no_damage_of_the_journal() {
        let directory = tempfile::tempdir().unwrap();
        let (store, _) = with_a_message(&directory.path().join("data")).await;
        let settings = settings_of(&store);
        close(store);
        let older = directory.path().join("older");
        copy_directory(&settings.path.join("live"), &older);
        let bring_back = |settings: &StoreSettings| {
            let live = settings.path.join("live");
            std::fs::remove_dir_all(&live).unwrap();
            copy_directory(&older, &live);
        };
        let commanded = commanded(&settings, directory.path());
        let killed = killed(&settings, directory.path()).await;
        for (used, waiting) in [(&commanded, 1), (&killed, 2)] {
            bring_back(used);
            let whole = directory.path().join("whole");
            copy_directory(&used.path, &whole);
            let store = opened_with(&whole, Clock::manual(NOW));
            assert_eq!(store.waiting_count(), waiting);
            close(store);
            std::fs::remove_dir_all(&whole).unwrap();

            let (newest, _) = end_of_journal(used);
            flip(&newest, 20);
            let refused = open_again(used);
            let name = newest.file_name().unwrap().to_str().unwrap();
            let expected = format!("{name} is damaged at byte 0");
            assert!(refused.contains(&expected), "{refused}");
            flip(&newest, 20);
            bring_back(used);
        }
        // The record of the command is the last, and would be taken for a write that the power cut off.
        let (newest, last) = end_of_journal(&commanded);
        flip(&newest, last + 100);
        let refused = open_again(&commanded);
        let position = checkpoint_file::applied(&commanded.path).unwrap().position;
        let expected = format!("gap at position {position}");
        assert!(refused.contains(&expected), "{refused}");
    }

    #[test]
    fn what_is_cut_off_is_told_with_file_position_and_bytes_unless_the_store_was_closed() {
        let cut_off = CutOff {
            file: "7.segment".to_owned(),
            offset: 4096,
            position: 12,
        };
        let opened = Opened {
            zeroed_bytes: 345,
            cut_off: Some(cut_off),
            ..Opened::default()
        };
        let path = Path::new("data/journal");
        let told = told_of_cut_off(path, &opened, false).unwrap();
        let begin = "data/journal/7.segment: 345 bytes behind the last record, from byte 4096 on";
        assert!(
            told.starts_with(begin) && told.contains("position 12"),
            "{told}"
        );
        assert_eq!(told_of_cut_off(path, &opened, true), None);
        assert_eq!(told_of_cut_off(path, &Opened::default(), false), None);
    }

    /// History is in them, however cleanly the store was closed.
    #[actix_web::test]
    async fn a_journal_without_its_segments_is_missed() {
        let directory = tempfile::tempdir().unwrap();
        let (store, _) = with_a_message(&directory.path().join("data")).await;
        let settings = settings_of(&store);
        close(store);
        for path in segments(&settings) {
            std::fs::remove_file(path).unwrap();
        }
        // Nor is it taken for one of the version before, of which it has a slice, and nothing is changed.
        let slice = slices::path_in(&settings.path.join("slices"), 9);
        for has_database in [false, true] {
            if has_database {
                std::fs::create_dir_all(&slice).unwrap();
                std::fs::write(slice.join("db"), b"of then").unwrap();
            }
            for migrate in [false, true] {
                let settings = StoreSettings {
                    migrate,
                    ..settings.clone()
                };
                let live = read_all(&settings.path.join("live"));
                let refused = open_store(&settings, &Clock::manual(NOW)).err();
                let refused = refused.expect("it is refused").to_string();
                assert!(refused.contains("segments are missing"), "{refused}");
                assert!(live == read_all(&settings.path.join("live")));
            }
        }
        std::fs::remove_dir_all(slice).unwrap();

        // Of the version before, the databases had it all.
        make_old(&settings, 1);
        let store = opened_with(&settings.path, Clock::manual(NOW));
        assert_eq!(store.waiting_count(), 1);
        store.accept_message(message_to(vec![LANE])).await.unwrap();
        close(store);
        let store = opened_with(&settings.path, Clock::manual(NOW));
        assert_eq!(store.waiting_count(), 2);
        close(store);
    }

    /// The files in a directory, with their contents.
    fn read_all(path: &Path) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => files.extend(read_all(&path)),
                false => drop(files.insert(path.clone(), std::fs::read(&path).unwrap())),
            }
        }
        files
    }

    /// Makes of a store that was closed one of which history is in databases, with a slice of this number.
    fn make_old(settings: &StoreSettings, slice: u32) {
        for name in [checkpoint_file::APPLIED_NAME, checkpoint_file::FILE_NAME] {
            let _ = std::fs::remove_file(settings.path.join(name));
        }
        let live = Engine::open(&settings.path.join("live"), 1 << 20).unwrap();
        let meta = layout::get::<Meta>(&live, &[layout::META]).unwrap();
        let mut meta = meta.unwrap().meta;
        meta.format = layout::FORMAT_OF_SLICES;
        meta.slice = Default::default();
        let record = layout::SliceRecord::beginning(NOW, None);
        let mut changes = Changes::default();
        layout::delete(&live, &mut changes, &layout::slice_key(1)).unwrap();
        layout::put(&mut changes, &layout::slice_key(slice), &record, &[]);
        layout::replace(&live, &mut changes, &[layout::META], &meta).unwrap();
        live.commit(changes).unwrap();
        drop(live);
        let_go(&settings.path);
    }

    /// As soon as sled's threads have let go of its files.
    fn open_again(settings: &StoreSettings) -> String {
        let_go(&settings.path);
        let opened = open_store(settings, &Clock::manual(NOW));
        opened.err().expect("it is refused").to_string()
    }

    /// All files are whole, and of one stream: only the chain tells.
    #[actix_web::test]
    async fn a_live_database_of_a_copy_that_went_on_by_itself_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (store, _) = with_a_message(&directory.path().join("data")).await;
        let settings = settings_of(&store);
        close(store);
        let copy = directory.path().join("copy");
        copy_directory(&settings.path, &copy);
        let go_on = async |path: &Path, messages: usize| {
            let store = opened_with(path, Clock::manual(NOW));
            for _ in 0..messages {
                store.accept_message(message_to(vec![LANE])).await.unwrap();
            }
            close(store);
        };
        go_on(&copy, 1).await;
        // As far as the copy, and farther.
        for messages in [1, 3] {
            let used = directory.path().join(format!("used-{messages}"));
            copy_directory(&settings.path, &used);
            go_on(&used, messages).await;
            std::fs::remove_dir_all(used.join("live")).unwrap();
            copy_directory(&copy.join("live"), &used.join("live"));
            let refused = open_again(&StoreSettings {
                path: used,
                ..settings.clone()
            });
            assert!(refused.contains("different copies"), "{refused}");
        }
    }

    #[actix_web::test]
    async fn segments_of_another_copy_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (store, _) = with_a_message(&directory.path().join("data")).await;
        let settings = settings_of(&store);
        close(store);
        let mut changes = Changes::default();
        changes.delete(&[layout::CHECKPOINT]);
        let live = Engine::open(&settings.path.join("live"), 1 << 20).unwrap();
        live.commit(changes).unwrap();
        drop(live);
        let refused = open_again(&settings);
        assert!(refused.contains("another copy of this store"), "{refused}");
    }

    /// The record of a commit that changed a database of history, and whose changes of the live database
    /// are these.
    fn append_change(settings: &StoreSettings, slice: u32, live: &Changes) {
        let mut files = open_store(settings, &Clock::manual(NOW)).unwrap();
        let mut history = Changes::default();
        history.put(b"M", vec![1]);
        let mut content = Vec::new();
        let databases = [(slice, &history)].into_iter();
        effects::encode(databases, live, &[], [].into_iter(), &mut content);
        let draft = crate::journal::RecordDraft {
            effects: &content,
            ..Default::default()
        };
        files.journal.append(&draft, &[]).unwrap();
        drop(files);
        let_go(&settings.path);
    }

    #[actix_web::test]
    async fn a_slice_whose_files_are_missing_is_told_and_not_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let (store, _) = with_a_message(&directory.path().join("data")).await;
        let settings = settings_of(&store);
        close(store);
        make_old(&settings, 7);
        append_change(&settings, 7, &Changes::default());
        let refused = open_again(&settings);
        assert!(
            refused.contains("files of this slice are missing"),
            "{refused}"
        );
        assert!(!slices::path_in(&settings.path.join("slices"), 7).exists());
    }

    /// Its files may be gone, or half gone.
    #[actix_web::test]
    async fn what_comes_before_the_end_of_a_slice_is_not_applied_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let (store, waits) = with_a_message(&directory.path().join("data")).await;
        let settings = settings_of(&store);
        close(store);
        let mut live = Changes::default();
        live.delete(&layout::slice_key(7));
        append_change(&settings, 7, &live);
        let store = opened_with(&settings.path, Clock::manual(NOW));
        assert!(!slices::path_in(&settings.path.join("slices"), 7).exists());
        assert!(store.message(APPLICATION, waits.message).unwrap().is_some());
        close(store);
    }
}
