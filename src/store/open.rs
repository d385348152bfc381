//! Opening the files of a store, and making new ones. `start` goes on from there.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Instant;

use super::damage::DamagedPart;
use super::directory::{
    Lock, create_directory, hide_from_others, lock, refuse_beside_another,
    refuse_in_the_remains_of_another,
};
use super::engine::{self, Changes, Engine, EngineError};
use super::format::refuse_older;
use super::layout::{self, FORMAT, Meta, RecordError, SliceMeta, SliceRecord, Stretch};
use super::owner::owner_token;
use super::replay;
use super::{OpenError, StoreSettings, page_cache, restored};
use crate::catalog::{Catalog, Change};
use crate::clock::{Clock, Timestamp};
use crate::domain::id::{ID_TIME_STEP_MS, OrganisationId};
use crate::domain::organisation::Organisation;
use crate::journal::Journal;
use crate::shortage::Shortage;

/// A store's files, opened and locked, before anything runs. The databases have all of the journal.
pub struct Files {
    pub live: Engine,
    pub journal: Journal,
    pub meta: Meta,
    pub catalog: Catalog,
    pub slices: BTreeMap<u32, SliceRecord>,
    pub lock: Lock,
    /// Damage that keeps no server from starting.
    pub damage: Vec<DamagedPart>,
}

/// The same as [`open_files`], for a server: after a stop that was not clean, registrations that are
/// missing are damage, too.
pub fn open_checked(settings: &StoreSettings, clock: &Clock) -> Result<Files, OpenError> {
    let files = open_files(settings, clock)?;
    let registrations = files.catalog.len();
    if !files.meta.clean && registrations != files.meta.registrations {
        return Err(OpenError::Damaged {
            path: settings.path.clone(),
            reason: format!(
                "the database `live` has {registrations} registrations, and there should be {}",
                files.meta.registrations
            ),
        });
    }
    Ok(files)
}

/// Opens the files of a store, making them where there are none.
pub fn open_files(settings: &StoreSettings, clock: &Clock) -> Result<Files, OpenError> {
    let path = &settings.path;
    if !engine::syncs_for_real() {
        return Err(OpenError::Unsafe(
            "this build of postrider does not sync its files (sync_file_range is not ours); \
             it must not be used"
                .to_owned(),
        ));
    }
    let io = |source| OpenError::Io {
        path: path.clone(),
        source,
    };
    restored::refuse_unfinished(settings)?;
    refuse_beside_another(path)?;
    if !path.join("live").exists() {
        refuse_in_the_remains_of_another(path)?;
    }
    create_directory(path).map_err(io)?;
    create_directory(&path.join("slices")).map_err(io)?;
    let lock = lock(path)?;
    // Before anything in it is changed.
    replay::refuse_without_segments(path)?;
    refuse_older(settings)?;
    hide_from_others(path);
    forget_unless_closed(path, &lock).map_err(io)?;
    let live = open_engine(&path.join("live"), settings.cache_bytes / 2, path)?;
    let damaged = |error| to_open_error(path, error);
    let meta = layout::get::<Meta>(&live, &[layout::META]).map_err(damaged)?;
    match meta {
        Some(record) if record.meta.format > FORMAT => Err(OpenError::Newer {
            path: path.clone(),
            found: record.meta.format,
            known: FORMAT,
        }),
        Some(record) if record.meta.format < FORMAT && !settings.migrate => {
            Err(OpenError::Older { path: path.clone() })
        }
        Some(_) => {
            let (journal, damage) = replay::open(settings, &live)?;
            // What was replayed has a newer one.
            let record = layout::get::<Meta>(&live, &[layout::META]).map_err(damaged)?;
            let record = record.ok_or_else(|| OpenError::Damaged {
                path: path.clone(),
                reason: NO_META.to_owned(),
            })?;
            let mut catalog = read_catalog(&live).map_err(damaged)?;
            catalog.reserve_endpoint_numbers(record.meta.last_endpoint_number);
            let slices = read_slices(&live).map_err(damaged)?;
            if slices.is_empty() {
                return Err(OpenError::Damaged {
                    path: path.clone(),
                    reason: "the database `live` names no slice of history".to_owned(),
                });
            }
            Ok(Files {
                live,
                journal,
                meta: record.meta,
                catalog,
                slices,
                lock,
                damage,
            })
        }
        None if live.prefix(&[]).next().is_some() => Err(OpenError::Damaged {
            path: path.clone(),
            reason: NO_META.to_owned(),
        }),
        None => {
            refuse_in_the_remains_of_another(path)?;
            let now = clock.now();
            let id = settings
                .default_organisation
                .unwrap_or_else(|| OrganisationId::at(now));
            let organisation = Organisation {
                id,
                name: "default".to_owned(),
                created_at: now,
            };
            let owner = owner_token(path, id, now).map_err(io)?;
            let contents = [
                Change::PutOrganisation(organisation),
                Change::PutToken(owner),
            ];
            let (meta, slices) =
                create(&live, &contents, 0, now).map_err(|error| damaged(error.into()))?;
            let mut catalog = Catalog::default();
            contents
                .into_iter()
                .for_each(|change| catalog.apply(change));
            Ok(Files {
                journal: replay::open(settings, &live)?.0,
                live,
                meta,
                catalog,
                slices,
                lock,
                damage: Vec::new(),
            })
        }
    }
}

const NO_META: &str = "the database `live` does not have the record with its format and counts";

/// The stretch of the first slice of a new store.
const FIRST_STRETCH: Stretch = Stretch {
    segment: 0,
    from: 1,
    to: None,
};

/// Lets the databases and the end of the journal be read as the disk has them, where the last process did
/// not close the store: see `page_cache`.
pub fn forget_unless_closed(path: &Path, lock: &Lock) -> std::io::Result<()> {
    if !lock.was_left_open()? {
        return Ok(());
    }
    let began = Instant::now();
    let mut bytes = 0;
    for databases in ["live", "slices"] {
        let databases = path.join(databases);
        if databases.is_dir() {
            bytes += page_cache::forget(&databases)?;
        }
    }
    for file in end_of_journal(&path.join("journal"))? {
        bytes += page_cache::forget_file(&file)?;
    }
    log::info!(
        "reading the databases and the end of the journal ({bytes} bytes) from the disk itself, because the \
         last process did not close them; preparing that took {} ms",
        began.elapsed().as_millis()
    );
    Ok(())
}

/// The files of the journal that the last process may have written to without a sync: the newest segment,
/// the one before, which gets its end mark last, and those that were to become segments.
fn end_of_journal(journal: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !journal.is_dir() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(journal)?;
    let paths: Result<Vec<PathBuf>, std::io::Error> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect();
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|end| end == "segment");
    let (mut segments, mut others): (Vec<_>, Vec<_>) = paths?.into_iter().partition(is_segment);
    segments.sort_unstable();
    let older = segments.len().saturating_sub(2);
    others.extend(segments.drain(older..));
    Ok(others)
}

/// Fills an empty live database.
pub fn create(
    live: &Engine,
    contents: &[Change],
    last_endpoint_number: u64,
    now: Timestamp,
) -> Result<(Meta, BTreeMap<u32, SliceRecord>), EngineError> {
    let first = Timestamp(now.0 / ID_TIME_STEP_MS * ID_TIME_STEP_MS);
    let slice = SliceRecord::beginning(first, Some(FIRST_STRETCH));
    let meta = Meta {
        format: FORMAT,
        commit: 0,
        clean: true,
        registrations: contents.len() as u64,
        waiting: Vec::new(),
        last_endpoint_number,
        last_time: now,
        slice: SliceMeta::default(),
        dead_commits: Vec::new(),
    };
    let mut changes = Changes::default();
    layout::put(&mut changes, &[layout::META], &meta, &[]);
    layout::put(&mut changes, &layout::slice_key(1), &slice, &[]);
    for change in contents {
        if let (key, Some(record)) = layout::registration(change) {
            layout::put_encoded(&mut changes, &key, record);
        }
    }
    live.commit(changes)?;
    Ok((meta, BTreeMap::from([(1, slice)])))
}

/// Opens a database without the noise of a panic: damage is one clear line.
pub fn open_engine(path: &Path, cache_bytes: u64, store: &Path) -> Result<Engine, OpenError> {
    let opened = without_panic_messages(|| Engine::open(path, cache_bytes));
    opened.map_err(|error| to_open_error(store, error.into()))
}

/// Keeps the panics of this thread, and only those, from being printed while `act` runs. The hook
/// is the process's, so it is set once and for all: two that swap it at the same time would lose
/// each other's.
fn without_panic_messages<T>(act: impl FnOnce() -> T) -> T {
    thread_local!(static QUIET: Cell<bool> = const { Cell::new(false) });
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                hook(panic);
            }
        }));
    });
    QUIET.set(true);
    let value = act();
    QUIET.set(false);
    value
}

pub fn to_open_error(path: &Path, error: RecordError) -> OpenError {
    let path = path.to_owned();
    match error {
        RecordError::Newer { schema, .. } => OpenError::Newer {
            path,
            found: u32::from(schema),
            known: FORMAT,
        },
        RecordError::Engine(EngineError::Busy) => OpenError::Locked { path },
        RecordError::Engine(EngineError::Io(source)) => OpenError::Io { path, source },
        RecordError::Engine(EngineError::Sled(sled_error)) => match io_cause(sled_error) {
            Ok(source) => OpenError::Io { path, source },
            Err(damage) => OpenError::Damaged {
                path,
                reason: EngineError::Sled(damage).to_string(),
            },
        },
        other => OpenError::Damaged {
            path,
            reason: other.to_string(),
        },
    }
}

/// Trouble with the file system is not damage, and its remedy is another.
fn io_cause(error: engine::SledError) -> Result<std::io::Error, engine::SledError> {
    match error {
        engine::SledError::Io(cause)
            if matches!(
                cause.kind(),
                ErrorKind::PermissionDenied
                    | ErrorKind::StorageFull
                    | ErrorKind::ReadOnlyFilesystem
            ) || Shortage::of(&cause).is_some() =>
        {
            Ok(cause)
        }
        other => Err(other),
    }
}

pub fn read_catalog(live: &Engine) -> Result<Catalog, RecordError> {
    let mut catalog = Catalog::default();
    for kind in layout::REGISTRATIONS {
        for item in live.prefix(&[kind]) {
            let (key, value) = item?;
            if !layout::is_chunk(&key)
                && let Some(change) = layout::read_change(live, &key, &value)?
            {
                catalog.apply(change);
            }
        }
    }
    Ok(catalog)
}

pub fn read_slices(live: &Engine) -> Result<BTreeMap<u32, SliceRecord>, RecordError> {
    let mut slices = BTreeMap::new();
    for item in live.prefix(&[layout::SLICE]) {
        let (key, value) = item?;
        let number = key
            .get(1..5)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u32::from_be_bytes);
        let why = "its key is none";
        let number = number.ok_or(RecordError::Damaged {
            kind: layout::SLICE,
            why,
        })?;
        slices.insert(
            number,
            layout::read::<SliceRecord>(live, &key, &value)?.meta,
        );
    }
    Ok(slices)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn settings(path: &Path) -> StoreSettings {
        StoreSettings {
            migrate: false,
            is_being_restored: false,
            path: path.to_owned(),
            cache_bytes: 4 << 20,
            retention: Duration::from_secs(86_400),
            min_free_bytes: 1,
            slice_age: Duration::from_secs(3_600),
            slice_bytes: 1 << 20,
            segment_bytes: 1 << 20,
            export_every: Duration::from_secs(900),
            commit_timeout: Duration::from_secs(30),
            waiting_max: 1_000,
            held_max: 1_000,
            waiting_per_application_max: 1_000,
            commit_queue_max: 100,
            default_organisation: None,
            jwt_secret: None,
            console_url: None,
            attempt_recorded_after: std::time::Duration::from_secs(60),
            notices: Default::default(),
        }
    }

    #[test]
    fn no_store_begins_within_another() {
        let directory = tempfile::tempdir().unwrap();
        let outer = settings(&directory.path().join("outer"));
        drop(open_files(&outer, &Clock::System).unwrap());
        let inner = settings(&outer.path.join("data"));
        let refused = open_files(&inner, &Clock::System)
            .err()
            .unwrap()
            .to_string();
        assert!(refused.contains("set store.path = \""), "{refused}");
        assert!(!inner.path.exists());
    }

    #[test]
    fn no_store_begins_in_the_remains_of_another() {
        for left in ["slices/00000001", "export.json", "journal"] {
            let directory = tempfile::tempdir().unwrap();
            let settings = settings(&directory.path().join("data"));
            drop(open_files(&settings, &Clock::System).unwrap());
            let token = std::fs::read(settings.path.join("owner.token")).unwrap();
            std::fs::remove_dir_all(settings.path.join("live")).unwrap();
            let journal = settings.path.join("journal");
            match left {
                "journal" => assert!(journal.exists()),
                _ => std::fs::remove_dir_all(journal).unwrap(),
            }
            match left {
                "journal" => {}
                "export.json" => std::fs::write(settings.path.join(left), "{}").unwrap(),
                slice => std::fs::create_dir_all(settings.path.join(slice)).unwrap(),
            }
            for empty in [false, true] {
                if empty {
                    std::fs::create_dir(settings.path.join("live")).unwrap();
                }
                let refused = open_files(&settings, &Clock::System).err().unwrap();
                assert!(refused.to_string().contains("`live`"), "{refused}");
            }
            let kept = std::fs::read(settings.path.join("owner.token")).unwrap();
            assert_eq!(kept, token);
        }
    }

    #[test]
    fn a_store_of_a_newer_format_is_refused_in_one_line() {
        let directory = tempfile::tempdir().unwrap();
        let settings = settings(&directory.path().join("data"));
        let clock = Clock::System;
        let mut files = open_files(&settings, &clock).unwrap();
        files.meta.format = FORMAT + 1;
        let mut changes = Changes::default();
        layout::replace(&files.live, &mut changes, &[layout::META], &files.meta).unwrap();
        files.live.commit(changes).unwrap();
        drop(files);
        // Threads of the database let go of its files within moments.
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        let error = loop {
            match open_files(&settings, &clock).err() {
                Some(OpenError::Locked { .. }) if std::time::Instant::now() < deadline => {
                    std::thread::yield_now();
                }
                error => break error.expect("it is refused"),
            }
        };
        let known = FORMAT;
        assert!(
            matches!(error, OpenError::Newer { found, .. } if found == known + 1),
            "{error}"
        );
        let line = error.to_string();
        assert!(
            line.contains("newer postrider (format 4") && !line.contains('\n'),
            "{line}"
        );
    }
}
