//! Opening a store, and making a new one.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, Once, OnceLock, RwLock};
use std::time::Instant;

use tokio::sync::watch;

use super::catalog::{Catalog, Change};
use super::checkpoint::{self, Checkpoints};
use super::checkpoint_file;
use super::committer::Committer;
use super::directory::{
    Lock, create_directory, hide_from_others, lock, refuse_beside_another,
    refuse_in_the_remains_of_another,
};
use super::engine::{self, Changes, Engine, EngineError};
use super::layout::{self, FORMAT, Meta, RecordError, SliceMeta, SliceRecord, Stretch};
use super::live::Live;
use super::owner::owner_token;
use super::queue::Queue;
use super::rebuild;
use super::recount::{self, Recount};
use super::replay;
use super::slices::{self, OfJournal, Slices};
use super::{Inner, OpenError, Settings, Store, filters, keeper, page_cache, spares};
use crate::clock::{Clock, Timestamp};
use crate::domain::id::{ID_TIME_STEP_MS, OrganisationId};
use crate::domain::organisation::Organisation;
use crate::domain::token::{Role, Token};
use crate::journal::Journal;
use crate::shortage::Shortage;
use crate::telemetry::Metrics;
use crate::watched::{Kind, Threads};

/// How far commit numbers jump after a process died: further than any that it can have used in a
/// slice beyond the last that the live database has.
const COMMIT_JUMP: u64 = 1_000_000;
/// Dead stretches are forgotten, oldest first, beyond this many: no slice is kept that long.
const DEAD_COMMITS_MAX: usize = 150;

/// A start makes the index of the newest slice again from the journal, and begins a new slice rather than
/// do so with one that is larger than this: how long it takes does not depend on what is kept.
const READ_AGAIN_BYTES_MAX: u64 = 32 << 20;

/// A store's files, opened and locked, before anything runs. The databases have all of the journal.
pub struct Files {
    pub live: Engine,
    pub journal: Journal,
    pub meta: Meta,
    pub catalog: Catalog,
    pub slices: BTreeMap<u32, SliceRecord>,
    pub lock: Lock,
}

impl Store {
    /// Opens or creates the store and starts its committer. A live database that is damaged is made anew
    /// where that can be.
    pub fn open(
        settings: Settings,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Store, OpenError> {
        let opened = Store::open_once(settings.clone(), clock.clone(), metrics.clone());
        match opened {
            // Found when it was counted; the second time begins with a rebuild.
            Err(OpenError::Damaged { .. }) if rebuild::is_damage_noted(&settings.path) => {
                Store::open_once(settings, clock, metrics)
            }
            opened => opened,
        }
    }

    fn open_once(
        settings: Settings,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Store, OpenError> {
        let mut files = rebuild::open_or_rebuild(&settings, &clock, &metrics)?;
        let path = settings.path.clone();
        if files.meta.format < FORMAT && !settings.migrate {
            return Err(OpenError::Older { path });
        }
        let damaged = |error: RecordError| to_open_error(&path, error);
        let is_after_a_crash = !files.meta.clean;
        if is_after_a_crash {
            log::warn!("the last process did not close the store; going on from its last commit");
            if files.meta.format <= layout::FORMAT_OF_SLICES {
                declare_commits_dead(&mut files.meta);
            }
        }
        let in_use = files.lock.mark_open();
        in_use.map_err(|source| OpenError::Io {
            path: path.join("lock"),
            source,
        })?;
        files.meta.format = FORMAT;
        files.meta.clean = false;
        files.meta.commit += 1;
        let slices_path = path.join("slices");
        discard_unknown_slices(&slices_path, &files.slices).map_err(|source| OpenError::Io {
            path: slices_path.clone(),
            source,
        })?;
        let cache_bytes = settings.cache_bytes / 4;
        let opened = metrics.slices_opened.clone();
        let of_journal = OfJournal {
            stream: files.journal.stream(),
            reader: files.journal.reader(),
        };
        let of_then = std::mem::take(&mut files.slices);
        let slices = Slices::new(slices_path, cache_bytes, of_journal, of_then, opened);
        let mut changes = Changes::default();
        for token in undecided_users(&files.catalog) {
            let key = layout::token_key(token.id);
            layout::replace(&files.live, &mut changes, &key, &token)
                .map_err(|error| damaged(error.into()))?;
            files.catalog.apply(Change::PutToken(token));
        }
        let newest = slices.newest();
        let newest = newest.filter(|(number, record)| {
            may_go_on(record, &files.meta) && can_be_read(&slices, *number, &metrics)
        });
        let newest = match newest {
            Some(newest) => newest,
            None => {
                files.meta.last_time = files.meta.last_time.max(clock.now());
                let next = files.journal.next();
                slices::begin(&files.live, &slices, &mut files.meta, &mut changes, next)
                    .map_err(|error| damaged(error.into()))?
            }
        };
        layout::replace(&files.live, &mut changes, &[layout::META], &files.meta)
            .map_err(|error| damaged(error.into()))?;
        let (live, now) = (&files.live, clock.now());
        replay::commit_at_rest(&settings, &mut files.journal, live, changes, now)?;

        let reader = files.journal.reader();
        let file = checkpoint_file::usable(&path, files.journal.stream(), &reader);
        let checkpoints = Checkpoints::from(replay::checkpoint_at(&files.journal), file);
        let meta = files.meta;
        let inner = Arc::new(Inner {
            slices,
            settings,
            threads: Threads::new(clock.clone()),
            clock,
            metrics,
            live: Live::new(files.live),
            checkpoints,
            catalog: RwLock::new(files.catalog),
            queue: Queue::default(),
            watchers: Default::default(),
            listener: OnceLock::new(),
            dead_commits: meta.dead_commits.clone(),
            commit: AtomicU64::new(meta.commit),
            waiting: AtomicU64::new(0),
            waiting_by_slice: Mutex::default(),
            backlog: Default::default(),
            commit_began: Mutex::new(None),
            low_space: AtomicBool::new(false),
            room: Default::default(),
            space: Mutex::default(),
            catalog_version: AtomicU64::new(1),
            orphans: Mutex::default(),
            failure: watch::channel(None).0,
            closed: watch::channel(false).0,
            jobs_changed: watch::channel(()).0,
            recount: Recount::due(is_after_a_crash),
            counters: Default::default(),
            filters: Default::default(),
            damage: Default::default(),
            uses: Default::default(),
            lock: files.lock,
        });
        inner.committed(&meta);
        inner.show_visits(&inner.catalog());
        inner.look_at_space();
        let is_counted = recount::count_some(&inner)
            .inspect_err(|error| rebuild::note_damage(&path, error))
            .map_err(|error| damaged(error.into()))?;
        let zeroing = files.journal.zeroing();
        let committer =
            Committer::new(inner.clone(), meta, files.journal, newest).map_err(damaged)?;
        let mut handles = vec![inner.spawn(Kind::Committer, move || committer.run())];
        let checkpointed = inner.clone();
        handles.push(inner.spawn(Kind::Checkpoints, move || checkpoint::run(&checkpointed)));
        let copied = inner.clone();
        let write_file = move || checkpoint_file::run(&copied, &reader);
        handles.push(inner.spawn(Kind::CheckpointFile, write_file));
        let supplied = inner.clone();
        let make_spares = move || spares::make_ready(&supplied, zeroing);
        handles.push(inner.spawn(Kind::Spares, make_spares));
        let (kept, opened_at) = (inner.clone(), inner.clock.now());
        let keep = move || keeper::keep(&kept, opened_at);
        handles.push(inner.spawn(Kind::Keeper, keep));
        let guarded = inner.clone();
        handles.push(inner.spawn(Kind::Watchdog, move || keeper::watch(&guarded)));
        let filtered = inner.clone();
        handles.push(inner.spawn(Kind::Filters, move || filters::run(&filtered)));
        // A long queue is counted beside normal running.
        if is_after_a_crash || !is_counted {
            let counted = inner.clone();
            handles.push(inner.spawn(Kind::Recount, move || recount::run(&counted)));
        }
        Ok(Store {
            inner,
            handles: Arc::new(Mutex::new(handles)),
        })
    }
}

/// A version without a journal wrote history first and then the live database. What a process that died
/// between the two left in a slice bears a number that the live database never reached: it does not
/// exist, and no later commit bears it.
fn declare_commits_dead(meta: &mut Meta) {
    let first_dead = meta.commit + 1;
    meta.commit += COMMIT_JUMP;
    meta.dead_commits.push((first_dead, meta.commit));
    let too_many = meta.dead_commits.len().saturating_sub(DEAD_COMMITS_MAX);
    meta.dead_commits.drain(..too_many);
}

/// The webhook users from before applications were granted, each with those in which it has an
/// endpoint: there it goes on making endpoints as it did.
fn undecided_users(catalog: &Catalog) -> Vec<Token> {
    let users = catalog
        .tokens()
        .filter(|token| token.role == Role::WebhookUser);
    let undecided = users.filter(|token| token.applications.is_none());
    let decided = undecided.map(|token| {
        let granted = token.grants.iter();
        let endpoints = granted.filter_map(|id| catalog.endpoint(token.organisation, *id));
        Token {
            applications: Some(endpoints.map(|endpoint| endpoint.application).collect()),
            ..(**token).clone()
        }
    });
    decided.collect()
}

/// Whether the newest slice can be written on: a stretch of the journal, of which the index can be made
/// at a start.
fn may_go_on(newest: &SliceRecord, meta: &Meta) -> bool {
    newest.stretch.is_some() && meta.slice.bytes <= READ_AGAIN_BYTES_MAX
}

/// Whether the index of a slice can be made. One that is damaged is left as it is, for `verify-store`.
fn can_be_read(slices: &Slices, number: u32, metrics: &Metrics) -> bool {
    let Err(error) = slices.get(number) else {
        return true;
    };
    metrics.store_problems.inc();
    log::error!("slice {number} is damaged: {error}; run `postrider verify-store`");
    false
}

/// The same as [`open_files`], for a server: after a stop that was not clean, registrations that are
/// missing are damage, too.
pub fn open_checked(settings: &Settings, clock: &Clock) -> Result<Files, OpenError> {
    let files = open_files(settings, clock)?;
    let registrations = files.catalog.len();
    if !files.meta.clean && registrations != files.meta.registrations {
        return Err(OpenError::Damaged {
            path: settings.path.clone(),
            reason: format!(
                "{registrations} registrations are there, and there should be {}",
                files.meta.registrations
            ),
        });
    }
    Ok(files)
}

/// Opens the files of a store, making them where there are none.
pub fn open_files(settings: &Settings, clock: &Clock) -> Result<Files, OpenError> {
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
    refuse_beside_another(path)?;
    if !path.join("live").exists() {
        refuse_in_the_remains_of_another(path)?;
    }
    create_directory(path).map_err(io)?;
    create_directory(&path.join("slices")).map_err(io)?;
    let lock = lock(path)?;
    hide_from_others(path);
    if lock.was_left_open().map_err(io)? {
        read_from_the_disk(path).map_err(io)?;
    }
    let live = open_engine(&path.join("live"), settings.cache_bytes / 2, path)?;
    let damaged = |error| to_open_error(path, error);
    let meta = layout::get::<Meta>(&live, &[layout::META]).map_err(damaged)?;
    match meta {
        Some(record) if record.meta.format > FORMAT => Err(OpenError::Newer {
            path: path.clone(),
            found: record.meta.format,
            known: FORMAT,
        }),
        Some(_) => {
            let journal = replay::open(settings, &live)?;
            // What was replayed has a newer one.
            let record = layout::get::<Meta>(&live, &[layout::META]).map_err(damaged)?;
            let record = record.ok_or_else(|| OpenError::Damaged {
                path: path.clone(),
                reason: "its meta record is missing".to_owned(),
            })?;
            let mut catalog = read_catalog(&live).map_err(damaged)?;
            catalog.reserve_endpoint_numbers(record.meta.last_endpoint_number);
            let slices = read_slices(&live).map_err(damaged)?;
            if slices.is_empty() {
                return Err(OpenError::Damaged {
                    path: path.clone(),
                    reason: "it names no slice".to_owned(),
                });
            }
            Ok(Files {
                live,
                journal,
                meta: record.meta,
                catalog,
                slices,
                lock,
            })
        }
        None if live.prefix(&[]).next().is_some() => Err(OpenError::Damaged {
            path: path.clone(),
            reason: "its meta record is missing".to_owned(),
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
                journal: replay::open(settings, &live)?,
                live,
                meta,
                catalog,
                slices,
                lock,
            })
        }
    }
}

/// The stretch of the first slice of a new store.
const FIRST_STRETCH: Stretch = Stretch {
    segment: 0,
    from: 1,
    to: None,
};

/// Lets the databases be read as the disk has them: see `page_cache`.
fn read_from_the_disk(path: &Path) -> std::io::Result<()> {
    let began = Instant::now();
    let mut bytes = 0;
    for databases in ["live", "slices"] {
        let databases = path.join(databases);
        if databases.is_dir() {
            bytes += page_cache::forget(&databases)?;
        }
    }
    log::info!(
        "reading the databases ({bytes} bytes) from the disk itself, because the last process did not close \
         them; preparing that took {} ms",
        began.elapsed().as_millis()
    );
    Ok(())
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

/// Deletes the files of slices that the live database does not know: of one that was begun and
/// never committed, or dropped and not yet deleted.
fn discard_unknown_slices(path: &Path, known: &BTreeMap<u32, SliceRecord>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok());
        if number.is_some_and(|number| !known.contains_key(&number)) {
            log::info!(
                "deleting slice {}, which is not in use",
                entry.path().display()
            );
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn settings(path: &Path) -> Settings {
        Settings {
            migrate: false,
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
            attempt_recorded_after: std::time::Duration::from_secs(60),
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
