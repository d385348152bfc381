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

use super::directory::create_directory;
use super::effects;
use super::engine::{Changes, Engine, EngineError, Values};
use super::layout::{self, Checkpoint, FORMAT, Meta, RecordError};
use super::open::{open_engine, to_open_error};
use super::{OpenError, StoreSettings, checkpoint_file, slices};
use crate::clock::Timestamp;
use crate::journal::{Disk, Journal, JournalError, Known, RecordDraft, Sizes, Tip};

/// Opens the journal of a store whose databases nobody uses yet, and applies the records behind the
/// last checkpoint. The second value says what is damaged before that, a sentence each.
pub fn open(settings: &StoreSettings, live: &Engine) -> Result<(Journal, Vec<String>), OpenError> {
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
                 of this store. Bring both back from the same copy",
                path.display(),
                settings.path.join("live").display()
            )));
        }
        None => begin(live).map_err(|error| damaged(error.into()))?,
    };
    if !has_segments && checkpoint.position > 0 {
        allow_without_segments(live, &path).map_err(|error| error.unwrap_or_else(damaged))?;
    }
    let is_closed = was_closed(settings, live, &checkpoint).map_err(damaged)?;
    let (journal, opened) = open_files(settings, &path, &checkpoint, 0, is_closed)?;
    let told = opened.damaged.iter().map(|error| {
        format!(
            "{}/{error}; the messages and attempts that are in it cannot be read",
            path.display()
        )
    });
    replay(&journal, settings, live, checkpoint.position)?;
    Ok((journal, told.collect()))
}

/// Whether the last process ended cleanly, with all of the journal in the databases.
fn was_closed(
    settings: &StoreSettings,
    live: &Engine,
    checkpoint: &Checkpoint,
) -> Result<bool, RecordError> {
    let meta = layout::get::<Meta>(live, &[layout::META])?;
    let is_closed = meta.is_some_and(|record| record.meta.clean && record.meta.format == FORMAT);
    // A database that went back to an older state may say so of another process.
    let applied = checkpoint_file::applied(&settings.path);
    Ok(is_closed && applied.is_none_or(|applied| applied.position <= checkpoint.position))
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
/// commit, then the database, with that record as its checkpoint.
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
    changes.put(&key, layout::encode(&key, &checkpoint_at(journal), &[]));
    let committed = live.commit(changes);
    committed.map_err(|error| to_open_error(&settings.path, error.into()))
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
    Err(Ok(OpenError::Damaged {
        path: path.to_owned(),
        reason:
            "its segments are missing: the messages and attempts that are kept are in them, and \
                 what was accepted last. Bring them back from the same copy as the rest"
                .to_owned(),
    }))
}

/// Opens the files of a journal of which everything up to a checkpoint may be missing, and nothing else up
/// to the position `newest`.
pub fn open_files(
    settings: &StoreSettings,
    path: &Path,
    checkpoint: &Checkpoint,
    newest: u64,
    is_closed: bool,
) -> Result<(Journal, crate::journal::Opened), OpenError> {
    let known = Known {
        stream: checkpoint.stream,
        begin: Tip {
            position: checkpoint.position + 1,
            chain: checkpoint.chain,
        },
        applied: checkpoint.position,
        newest: newest.max(checkpoint.position),
        is_closed,
    };
    let sizes = Sizes {
        segment_bytes: settings.segment_bytes,
        free_bytes_min: settings.min_free_bytes,
    };
    let files = Arc::new(Disk::new(path.to_owned()));
    Journal::open(files, sizes, &known, StdRng::from_os_rng())
        .map_err(|error| journal_error(path, error))
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
        other => OpenError::JournalDamaged {
            path,
            reason: other.to_string(),
        },
    }
}

/// Applies the records behind `applied` and writes down that the databases have them.
fn replay(
    journal: &Journal,
    settings: &StoreSettings,
    live: &Engine,
    applied: u64,
) -> Result<(), OpenError> {
    let checkpoint = checkpoint_at(journal);
    if checkpoint.position == applied {
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
    let records = reader.records(applied + 1);
    let mut records = records.map_err(|error| journal_error(&path, error))?;
    while let Some(record) = records
        .next_record()
        .map_err(|error| journal_error(&path, error))?
    {
        let effects = effects::decode(&record.effects).map_err(|error| OpenError::Damaged {
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
        checkpoint.position - applied
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
                return Err(OpenError::Damaged {
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
    use crate::store::layout::golden::rows::{APPLICATION, LANE, message};
    use crate::store::open::open_files as open_store;
    use crate::store::tests::{copy_directory, let_go, message_to, opened_with, register};
    use crate::store::{Store, StoreSettings};

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
        let refused = open_again(&settings);
        assert!(refused.contains("segments are missing"), "{refused}");

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

    /// Makes of a store that was closed one of which history is in databases, with a slice of this number.
    fn make_old(settings: &StoreSettings, slice: u32) {
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
