//! Starting a store: what its files have is taken into memory, a slice to write on is found or begun, and
//! the threads begin.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::thread::JoinHandle;

use tokio::sync::watch;

use super::checkpoint::{self, Checkpoints};
use super::checkpoint_file;
use super::committer::Committer;
use super::engine::Changes;
use super::health::Healths;
use super::layout::{self, FORMAT, Meta, RecordError, SliceRecord};
use super::live::Live;
use super::open::{open_files, to_open_error};
use super::queue::Queue;
use super::rebuild;
use super::recount::{self, Recount};
use super::replay;
use super::slices::{self, OfJournal, Slices};
use super::{
    Inner, OpenError, Store, StoreSettings, expunge, filters, handed_over, keeper, spares,
};
use crate::catalog::{Catalog, Change};
use crate::clock::Clock;
use crate::domain::token::{Role, Token};
use crate::journal::{Reader, Zeroing};
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

impl Store {
    /// Opens or creates the store and starts its committer. A live database that is damaged is made anew
    /// where that can be.
    pub fn open(
        settings: StoreSettings,
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
        settings: StoreSettings,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Store, OpenError> {
        handed_over::refuse_handed_over(&settings)?;
        let mut files = rebuild::open_or_rebuild(&settings, &clock, &metrics)?;
        // Again, with the lock: the process before may have marked it only now.
        handed_over::refuse_handed_over(&settings)?;
        let path = settings.path.clone();
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
        let newest = newest.filter(|(_, record)| may_go_on(record, &files.meta));
        let looked_at = newest.as_ref().map(|(number, _)| *number);
        let newest = newest.filter(|(number, _)| is_whole(&slices, *number));
        let damaged_slice = looked_at.filter(|_| newest.is_none());
        let newest = match newest {
            Some(newest) => newest,
            None => {
                files.meta.last_time = files.meta.last_time.max(clock.now());
                let next = files.journal.next();
                slices::begin(
                    &files.live,
                    &slices,
                    &mut files.meta,
                    &mut changes,
                    next,
                    None,
                )
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
        let healths = Healths::read(&files.live).map_err(damaged)?;
        let erasures = expunge::Erasures::of(&files.live).map_err(damaged)?;
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
            contacts_changed: watch::channel(()).0,
            recount: Recount::due(is_after_a_crash),
            counters: Default::default(),
            filters: Default::default(),
            damage: Default::default(),
            uses: Default::default(),
            erasures,
            healths,
            lock: files.lock,
        });
        inner.committed(&meta);
        inner.show_visits(&inner.catalog());
        inner.show_held_endpoints(&inner.catalog());
        inner.show_resting();
        inner.look_at_space();
        files
            .damage
            .into_iter()
            .for_each(|one| inner.note_damaged_file(one));
        // Opening it tells.
        let _ = damaged_slice.map(|number| inner.slice(number));
        let is_counted = recount::count_some(&inner)
            .inspect_err(|error| rebuild::note_damage(&path, error))
            .map_err(|error| damaged(error.into()))?;
        let zeroing = files.journal.zeroing();
        let committer =
            Committer::new(inner.clone(), meta, files.journal, newest).map_err(damaged)?;
        let mut handles = vec![inner.spawn(Kind::Committer, move || committer.run())];
        handles.extend(start_helpers(&inner, reader, zeroing));
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

/// Starts the threads around the committer.
fn start_helpers(inner: &Arc<Inner>, reader: Reader, zeroing: Zeroing) -> [JoinHandle<()>; 7] {
    fn start(
        inner: &Arc<Inner>,
        kind: Kind,
        run: impl FnOnce(&Arc<Inner>) + Send + 'static,
    ) -> JoinHandle<()> {
        let helped = inner.clone();
        inner.spawn(kind, move || run(&helped))
    }
    let opened_at = inner.clock.now();
    let write_file = move |inner: &Arc<Inner>| checkpoint_file::run(inner, &reader);
    let make_spares = move |inner: &Arc<Inner>| spares::make_ready(inner, zeroing);
    let keep = move |inner: &Arc<Inner>| keeper::keep(inner, opened_at);
    [
        start(inner, Kind::Checkpoints, |inner| checkpoint::run(inner)),
        start(inner, Kind::CheckpointFile, write_file),
        start(inner, Kind::Spares, make_spares),
        start(inner, Kind::Keeper, keep),
        start(inner, Kind::Watchdog, |inner| keeper::watch(inner)),
        start(inner, Kind::Filters, |inner| filters::run(inner)),
        start(inner, Kind::Eraser, |inner| expunge::run(inner)),
    ]
}

/// Takes over a store that an older version wrote, which cannot open it any more then. The server must be
/// stopped. True where there was something to take over.
pub fn migrate(settings: &StoreSettings, clock: &Clock) -> Result<bool, OpenError> {
    if !settings.path.join("live").exists() {
        return Ok(false);
    }
    let migrating = StoreSettings {
        migrate: true,
        ..settings.clone()
    };
    let is_older = open_files(&migrating, clock)?.meta.format < FORMAT;
    if is_older {
        let store = Store::open(migrating, clock.clone(), Arc::new(Metrics::new()))?;
        let closed = store.close();
        closed.map_err(OpenError::Unsafe)?;
    }
    Ok(is_older)
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

/// Whether all of a slice can be read. One of which something cannot is not written on; it is opened again when
/// it is known where it ends.
fn is_whole(slices: &Slices, number: u32) -> bool {
    let is_whole = slices
        .get(number)
        .is_ok_and(|slice| slice.gaps().is_empty());
    if !is_whole {
        slices.close(number);
    }
    is_whole
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
