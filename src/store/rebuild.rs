//! Making the live database anew from the checkpoint file and the journal: `postrider rebuild`, and a
//! start whose live database is damaged.
//!
//! In steps, each of which may be the last before the power fails:
//! 1. The checkpoint file is read whole, and the journal opened and read from the file's position on, to its
//!    end or as far as fits into memory.
//! 2. `live.new` is filled with the file's values and the newer ones of the journal, which is read to its end, and its
//!    counts are compared. Nothing else is changed before all is known to be whole. Its own checkpoint is the last one of the old database, so that the next start applies the
//!    records behind that to it and to the slices, as after a crash.
//! 3. `live` becomes `live.damaged-TIME`.
//! 4. `live.new` becomes `live`.
//!
//! Between 3 and 4 there is no `live`: a start then begins with step 1 again, as it does where `live` is
//! missing for another reason. It may be broken off there any number of times: what was set aside once is
//! not set aside again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use super::checkpoint_file::{self, End, FILE_NAME};
use super::directory::lock;
use super::engine::{self, Bytes, Engine, EngineError, Values};
use super::layout::{self, Checkpoint, Meta, SliceMeta};
use super::open::{self, Files, open_engine, to_open_error};
use super::{OpenError, StoreSettings, effects, replay, restored, slices};
use crate::clock::{Clock, Timestamp};
use crate::journal::{Journal, Records};
use crate::telemetry::Metrics;

const LIVE: &str = "live";
const NEW: &str = "live.new";
const DAMAGED: &str = "live.damaged-";
/// A start makes the database anew by itself only while fewer damaged ones lie beside it: a disk that
/// breaks one after the other is for a person to look at.
const DAMAGED_MAX: usize = 3;
/// A file with the reason, by which a process tells the next start that the live database was damaged
/// where a start does not look.
const NOTE: &str = "live.unreadable";
/// How long the threads of a database that failed may take to let go of its files.
const LET_GO_MAX: Duration = Duration::from_secs(10);

/// The result of a rebuild: how many of each thing are back.
#[derive(Debug)]
pub struct RebuildReport {
    /// When the checkpoint file was written.
    pub written_at: Option<Timestamp>,
    /// How many of each thing are in the new database.
    pub counts: Vec<(String, u64)>,
    /// Signs that it is not complete, a sentence each.
    pub problems: Vec<String>,
    /// Where the old database is now, if there was one.
    pub kept_as: Option<PathBuf>,
}

/// Makes the live database anew. The server must be stopped.
pub fn rebuild(settings: &StoreSettings, clock: &Clock) -> Result<RebuildReport, OpenError> {
    rebuild_unless(settings, clock, &|| false)
}

/// The same, and ends with [`OpenError::Interrupted`] soon after `is_stopping` says so.
pub fn rebuild_unless(
    settings: &StoreSettings,
    clock: &Clock,
    is_stopping: &dyn Fn() -> bool,
) -> Result<RebuildReport, OpenError> {
    let path = &settings.path;
    if !path.join("slices").is_dir() {
        return Err(OpenError::Unsafe(format!(
            "there is no store at {}",
            path.display()
        )));
    }
    if !path.join(FILE_NAME).exists() {
        return Err(OpenError::Unsafe(format!(
            "{} has no checkpoint file, from which `live` could be made anew: a server writes one \
             within its first minutes. `postrider restore` starts a new store from an export",
            path.display()
        )));
    }
    restored::refuse_unfinished(settings)?;
    let lock = lock(path)?;
    open::forget_unless_closed(path, &lock).map_err(|source| to_io(path, source))?;
    let built = build(settings, is_stopping).inspect_err(|_| {
        let _ = let_go(&path.join(NEW));
        remove_new(path);
    })?;
    let kept_as = swap(path, clock.now())?;
    match std::fs::remove_file(path.join(NOTE)) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(to_io(path, error)),
        _ => {}
    }
    Ok(RebuildReport { kept_as, ..built })
}

/// Opens the files of a store for a server. Where the live database is damaged, or missing beside the
/// rest of a store, it is made anew first, if all that this takes is there.
pub fn open_or_rebuild(
    settings: &StoreSettings,
    clock: &Clock,
    metrics: &Metrics,
) -> Result<Files, OpenError> {
    // A note is of no use without the file that it refers to.
    let noted = std::fs::read_to_string(settings.path.join(NOTE));
    let can_rebuild = settings.path.join(FILE_NAME).exists();
    let opened = match noted {
        Ok(reason) if can_rebuild => Err(OpenError::Damaged {
            path: settings.path.clone(),
            reason: reason.trim().to_owned(),
        }),
        _ => open::open_checked(settings, clock),
    };
    let lost = match opened {
        Err(error) if is_of_live(&error, settings) => error,
        // Of a rebuild that was broken off.
        opened => return opened.inspect(|_| remove_new(&settings.path)),
    };
    if !can_rebuild {
        return Err(lost);
    }
    metrics.store_problems.inc();
    log::error!("{lost}");
    log::error!("making the live database anew from the checkpoint file and the journal");
    let report = allow_by_itself(&settings.path).and_then(|()| rebuild(settings, clock));
    let report = report.map_err(|error| OpenError::NotRebuilt {
        lost: lost.to_string(),
        why: error.to_string(),
    })?;
    report.log();
    open::open_checked(settings, clock)
}

/// Notes for the next start that the live database was found damaged, if it can be made anew.
pub fn note_damage(path: &Path, error: &EngineError) {
    let is_damage = match error {
        EngineError::Damaged(_) => true,
        EngineError::Sled(_) => !error.passes(),
        EngineError::Busy | EngineError::Io(_) => false,
    };
    if !is_damage || !path.join(FILE_NAME).exists() {
        return;
    }
    log::error!("the live database is damaged: {error}; the next start makes it anew");
    if let Err(problem) = std::fs::write(path.join(NOTE), format!("{error}\n")) {
        log::error!("{} was not written: {problem}", path.join(NOTE).display());
    }
}

/// Whether [`note_damage`] has left a note.
pub fn is_damage_noted(path: &Path) -> bool {
    path.join(NOTE).exists()
}

impl RebuildReport {
    fn log(&self) {
        let counts = self.counts.iter();
        let counts = Vec::from_iter(counts.map(|(kind, count)| format!("{kind}: {count}")));
        let kept_as = match &self.kept_as {
            Some(path) => format!("the damaged one is kept as {}", path.display()),
            None => "there was none".to_owned(),
        };
        log::error!(
            "the live database was made anew ({}); {kept_as}. Look at the disk, and run `postrider \
             verify-store` when the server can be stopped",
            counts.join(", ")
        );
        for problem in &self.problems {
            log::error!("the new live database: {problem}");
        }
    }
}

/// Whether a rebuild was broken off between its two renames.
pub fn was_broken_off(path: &Path) -> bool {
    let is_left = |name: &str| name == NEW || name.starts_with(DAMAGED);
    let mut names = std::fs::read_dir(path).into_iter().flatten().flatten();
    !path.join(LIVE).exists() && names.any(|entry| entry.file_name().to_str().is_some_and(is_left))
}

/// Whether the live database is what cannot be used. Damage of the journal or of a slice has another
/// path, and a journal that lacks records, or is another's, is never helped by a rebuild.
fn is_of_live(error: &OpenError, settings: &StoreSettings) -> bool {
    match error {
        OpenError::WithoutLive(_) => true,
        OpenError::Damaged { path, .. } => *path == settings.path,
        _ => false,
    }
}

fn allow_by_itself(path: &Path) -> Result<(), OpenError> {
    // No other is set aside: one was already, by a rebuild that was broken off.
    if !path.join(LIVE).exists() {
        return Ok(());
    }
    let io = |source| to_io(path, source);
    let mut damaged = 0;
    for entry in std::fs::read_dir(path).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        damaged += usize::from(name.to_string_lossy().starts_with(DAMAGED));
    }
    if damaged < DAMAGED_MAX {
        return Ok(());
    }
    Err(OpenError::Unsafe(format!(
        "{damaged} damaged databases ({DAMAGED}…) lie in {} already: check the disk, move them away, \
         then start again or run `postrider rebuild`",
        path.display()
    )))
}

fn remove_new(path: &Path) {
    let new = path.join(NEW);
    if new.exists()
        && let Err(error) = std::fs::remove_dir_all(&new)
    {
        log::warn!(
            "{} is not needed and was not removed: {error}",
            new.display()
        );
    }
}

fn to_io(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io {
        path: path.to_owned(),
        source,
    }
}

fn refuse_when(is_stopping: &dyn Fn() -> bool) -> Result<(), OpenError> {
    match is_stopping() {
        true => Err(OpenError::Interrupted),
        false => Ok(()),
    }
}

/// Makes `live.new`, whole and on disk.
fn build(
    settings: &StoreSettings,
    is_stopping: &dyn Fn() -> bool,
) -> Result<RebuildReport, OpenError> {
    let path = &settings.path;
    let file_path = path.join(FILE_NAME);
    let in_file = |error| checkpoint_file::to_open_error(file_path.clone(), error);
    let mut file = checkpoint_file::open(path).map_err(in_file)?;
    let begun_at = file.begun_at();
    while file.next_entry().map_err(in_file)?.is_some() {
        refuse_when(is_stopping)?;
    }
    let end = file.check().map_err(in_file)?;
    let applied = checkpoint_file::applied(path);
    let applied = applied.filter(|applied| applied.stream == begun_at.stream);
    let mut behind = Behind::open(settings, &begun_at, &end, applied)?;
    let mut goes_on = behind.collect(is_stopping)?;

    let new_path = path.join(NEW);
    match std::fs::remove_dir_all(&new_path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(to_io(&new_path, error)),
        _ => {}
    }
    let mut new = NewLive {
        live: open_engine(&new_path, settings.cache_bytes / 2, &new_path)?,
        waiting: 0,
    };
    let meta_in_file = new.fill(settings, behind.take(), is_stopping)?;
    while goes_on {
        goes_on = behind.collect(is_stopping)?;
        new.apply(settings, behind.take(), is_stopping)?;
    }
    check_first_commit(path, &Latest(&meta_in_file), behind.first_commit)?;
    let (records, last_commit) = (behind.count, behind.last_commit);
    drop(behind);
    let applied = applied.filter(|applied| applied.position > begun_at.position);
    let checkpoint = applied.unwrap_or(begun_at);
    replay::write_checkpoint(&new.live, &checkpoint)
        .and_then(|()| new.live.flush_and_sync())
        .map_err(|error| to_open_error(&new_path, error.into()))?;
    let (registrations, problems) = new.check(settings, last_commit)?;
    let waiting = new.waiting;
    drop(new);
    let_go(&new_path)?;
    // It writes some files when it is closed.
    engine::sync_files(&new_path).map_err(|error| to_io(&new_path, error))?;
    let written = std::fs::metadata(&file_path).and_then(|file| file.modified());
    let since = written
        .ok()
        .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    let count = |kind: &str, count| (kind.to_owned(), count);
    Ok(RebuildReport {
        written_at: since.map(|since| Timestamp(since.as_millis() as u64)),
        counts: vec![
            count("registrations", registrations),
            count("waiting deliveries", waiting),
            count("records of the journal behind the file", records),
        ],
        problems,
        kept_as: None,
    })
}

fn unusable(path: &Path, reason: &str) -> OpenError {
    OpenError::Unusable {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}

/// The error of a rebuild where the journal lacks something: no rebuild helps then.
fn in_rebuild(error: OpenError) -> OpenError {
    match error {
        OpenError::JournalDamaged { path, reason } => OpenError::Unusable { path, reason },
        other => other,
    }
}

/// The newest value of each key of the live database; none where it is deleted.
type Collected = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The journal behind a checkpoint file.
struct Behind {
    path: PathBuf,
    _journal: Journal,
    records: Records,
    /// The last checkpoint of the old database.
    applied: Option<Checkpoint>,
    /// Of the records that were read last.
    latest: Collected,
    /// Records that were read.
    count: u64,
    /// The number of the first commit behind the file …
    first_commit: Option<u64>,
    /// … and of the last.
    last_commit: Option<u64>,
}

impl Behind {
    /// Opens a journal at the file's position, and refuses one that lacks something of it.
    fn open(
        settings: &StoreSettings,
        begun_at: &Checkpoint,
        end: &End,
        applied: Option<Checkpoint>,
    ) -> Result<Behind, OpenError> {
        let path = settings.path.join("journal");
        if !path.is_dir() || !replay::has_segments(&path)? {
            return Err(unusable(&path, "its segments are missing"));
        }
        let noted = applied.as_ref().map_or(0, |applied| applied.position);
        let newest = end.newest.max(noted);
        let opened = replay::open_files(settings, &path, begun_at, newest, false);
        let (journal, _) = opened.map_err(in_rebuild)?;
        let records = journal
            .reader()
            .records_behind(replay::next_behind(begun_at));
        let records = records.map_err(|error| in_rebuild(replay::journal_error(&path, error)));
        Ok(Behind {
            records: records?,
            path,
            _journal: journal,
            applied,
            latest: BTreeMap::new(),
            count: 0,
            first_commit: None,
            last_commit: None,
        })
    }

    /// Reads the next records, until so many keys are collected as may be. False once there are no more. Refuses a
    /// journal that lacks a record, or that is not all that happened since.
    fn collect(&mut self, is_stopping: &dyn Fn() -> bool) -> Result<bool, OpenError> {
        while self.latest.len() < replay::COLLECTED_MAX {
            refuse_when(is_stopping)?;
            let record = self.records.next_record();
            let record =
                record.map_err(|error| in_rebuild(replay::journal_error(&self.path, error)))?;
            let Some(record) = record else {
                return Ok(false);
            };
            let (position, chain) = (record.head.position, record.head.chain);
            let is_other = |one: &Checkpoint| one.position == position && one.chain != chain;
            if self.applied.as_ref().is_some_and(is_other) {
                let reason = "it is not the one that the file `applied` knows";
                return Err(unusable(&self.path, reason));
            }
            self.add(&record.effects).map_err(|why| {
                unusable(
                    &self.path,
                    &format!("the record at position {position}: {why}"),
                )
            })?;
        }
        Ok(true)
    }

    /// The keys that were collected.
    fn take(&mut self) -> Collected {
        std::mem::take(&mut self.latest)
    }

    fn add(&mut self, content: &[u8]) -> Result<(), String> {
        let effects = effects::decode(content).map_err(|error| error.to_string())?;
        self.latest.extend(effects.live.into_entries());
        self.count += 1;
        let meta = layout::get::<Meta>(&Latest(&self.latest), &[layout::META]);
        let meta = meta.map_err(|error| error.to_string())?;
        let Some(meta) = meta.map(|record| record.meta) else {
            return Ok(());
        };
        // What an older version does has no records: the numbers of its commits are missing here.
        let is_next = |last| meta.commit == last || meta.commit == last + 1;
        if self.last_commit.is_some_and(|last| !is_next(last)) {
            return Err(NOT_ALL.to_owned());
        }
        self.first_commit.get_or_insert(meta.commit);
        self.last_commit = Some(meta.commit);
        Ok(())
    }
}

/// Values that were collected, as records are read from them.
struct Latest<'a>(&'a Collected);

impl Values for Latest<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let value = self.0.get(key).and_then(Option::as_ref);
        Ok(value.map(|value| Bytes::from(value.as_slice())))
    }
}

const NOT_ALL: &str = "commits before it are not in the journal: an older version of postrider has used \
                       the store since the checkpoint file was written";

/// The database that is being made.
struct NewLive {
    live: Engine,
    waiting: u64,
}

impl NewLive {
    /// Puts the values of the file and the newer ones of the journal, in the order of their keys: a new
    /// database takes them fastest so. Returns the meta records of the file.
    fn fill(
        &mut self,
        settings: &StoreSettings,
        newer: Collected,
        is_stopping: &dyn Fn() -> bool,
    ) -> Result<Collected, OpenError> {
        let file_path = settings.path.join(FILE_NAME);
        let in_file = |error| checkpoint_file::to_open_error(file_path.clone(), error);
        let in_new = |error: EngineError| to_open_error(&settings.path.join(NEW), error.into());
        let mut meta = BTreeMap::new();
        let mut file = checkpoint_file::open(&settings.path).map_err(in_file)?;
        let mut newer = newer.into_iter().peekable();
        while let Some((key, value)) = file.next_entry().map_err(in_file)? {
            refuse_when(is_stopping)?;
            if key.first() == Some(&layout::META) {
                meta.insert(key.to_vec(), Some(value.to_vec()));
            }
            while let Some((before, value)) = newer.next_if(|(newer, _)| newer.as_slice() < key) {
                self.put(&before, value).map_err(in_new)?;
            }
            match newer.next_if(|(newer, _)| newer.as_slice() == key) {
                Some((_, value)) => self.put(key, value).map_err(in_new)?,
                None => self.put(key, Some(value)).map_err(in_new)?,
            }
        }
        for (key, value) in newer {
            refuse_when(is_stopping)?;
            self.put(&key, value).map_err(in_new)?;
        }
        Ok(meta)
    }

    /// Brings it up to records behind those before.
    fn apply(
        &mut self,
        settings: &StoreSettings,
        newer: Collected,
        is_stopping: &dyn Fn() -> bool,
    ) -> Result<(), OpenError> {
        let in_new = |error: EngineError| to_open_error(&settings.path.join(NEW), error.into());
        for (key, value) in newer {
            refuse_when(is_stopping)?;
            if key.first() == Some(&layout::WAITING) {
                let waited = self.live.get(&key).map_err(in_new)?.is_some();
                self.waiting -= u64::from(waited);
            }
            match value {
                None => self.live.delete(&key).map_err(in_new)?,
                value => self.put(&key, value).map_err(in_new)?,
            }
        }
        Ok(())
    }

    fn put(&mut self, key: &[u8], value: Option<impl Into<Bytes>>) -> Result<(), EngineError> {
        let Some(value) = value else { return Ok(()) };
        if key == [layout::CHECKPOINT] {
            return Ok(());
        }
        self.waiting += u64::from(key.first() == Some(&layout::WAITING));
        self.live.put(key, value)
    }

    /// Compares what is there with the counts in its meta record, as a start does. Returns how many
    /// registrations there are, and what is missing without making it useless.
    fn check(
        &self,
        settings: &StoreSettings,
        last_commit: Option<u64>,
    ) -> Result<(u64, Vec<String>), OpenError> {
        let path = settings.path.join(FILE_NAME);
        let damaged = |reason: String| OpenError::Unusable {
            path: path.clone(),
            reason: format!("what it and the journal give is not whole: {reason}"),
        };
        let in_new = |error| to_open_error(&path, error);
        let meta = layout::get::<Meta>(&self.live, &[layout::META]).map_err(in_new)?;
        let meta = meta.ok_or_else(|| damaged("the meta record is missing".to_owned()))?;
        let meta = meta.meta;
        if meta.format > layout::FORMAT {
            return Err(OpenError::Newer {
                path,
                found: meta.format,
                known: layout::FORMAT,
            });
        }
        debug_assert!(last_commit.is_none_or(|last| last == meta.commit));
        let registrations = open::read_catalog(&self.live).map_err(in_new)?.len();
        if registrations != meta.registrations {
            return Err(damaged(format!(
                "{registrations} registrations are there, and there should be {}",
                meta.registrations
            )));
        }
        let known = open::read_slices(&self.live).map_err(in_new)?;
        let Some(newest) = known.keys().next_back() else {
            return Err(damaged("no slice is named".to_owned()));
        };
        refuse_behind_slices(settings, *newest, meta.commit)?;
        let expected: u64 = meta.waiting.iter().map(|(_, count)| count).sum();
        let waiting = self.waiting;
        let mut problems = Vec::new();
        if waiting != expected {
            problems.push(format!(
                "{waiting} deliveries wait, and there should be {expected}"
            ));
        }
        Ok((registrations, problems))
    }
}

/// Refuses a file after which commits are missing in the journal.
fn check_first_commit(
    path: &Path,
    in_file: &impl Values,
    first_commit: Option<u64>,
) -> Result<(), OpenError> {
    let meta = layout::get::<Meta>(in_file, &[layout::META]);
    let meta = meta.map_err(|error| to_open_error(&path.join(FILE_NAME), error))?;
    // It may be newer than the position of the file, and never older.
    let last = meta.map_or(0, |record| record.meta.commit);
    match first_commit {
        Some(first) if first > last + 1 => Err(OpenError::Unusable {
            path: path.join("journal"),
            reason: format!("the first record behind the checkpoint file: {NOT_ALL}"),
        }),
        _ => Ok(()),
    }
}

/// Refuses to go back behind what a slice has: history is written after its record in the journal, and
/// slices that the live database does not know are deleted by the next start.
fn refuse_behind_slices(
    settings: &StoreSettings,
    newest: u32,
    commit: u64,
) -> Result<(), OpenError> {
    let directory = settings.path.join("slices");
    let io = |source| to_io(&directory, source);
    for entry in std::fs::read_dir(&directory).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        let number = name.to_str().and_then(|name| name.parse::<u32>().ok());
        let Some(number) = number.filter(|number| *number >= newest) else {
            continue;
        };
        let path = slices::path_in(&directory, number);
        if !path.join("db").exists() {
            continue;
        }
        // One that cannot be read tells nothing.
        let Ok(slice) = open_engine(&path, settings.cache_bytes / 4, &path) else {
            continue;
        };
        let found = layout::get::<SliceMeta>(&slice, &[layout::META]);
        let found = found.ok().flatten().map_or(0, |record| record.meta.commit);
        if found > commit {
            return Err(OpenError::Unusable {
                path,
                reason: format!(
                    "it has commit {found}, and the journal ends at {commit}: the end of the journal is \
                     missing, or an older version of postrider has used the store since the checkpoint \
                     file was written"
                ),
            });
        }
    }
    Ok(())
}

/// Puts the new database in the place of the old one, which is kept. Returns where.
fn swap(path: &Path, now: Timestamp) -> Result<Option<PathBuf>, OpenError> {
    let io = |source| to_io(path, source);
    let old = path.join(LIVE);
    let mut kept_as = None;
    if old.exists() {
        let_go(&old)?;
        kept_as = Some(set_aside(path, now).map_err(io)?);
    }
    std::fs::rename(path.join(NEW), &old).map_err(io)?;
    engine::sync_directory(path).map_err(io)?;
    Ok(kept_as)
}

/// Gives the old database another name, durably.
fn set_aside(path: &Path, now: Timestamp) -> io::Result<PathBuf> {
    let time = now
        .to_string()
        .replace(|c: char| !c.is_ascii_alphanumeric(), "");
    let mut kept_as = path.join(format!("{DAMAGED}{time}"));
    let mut number = 1;
    while kept_as.exists() {
        number += 1;
        kept_as = path.join(format!("{DAMAGED}{time}-{number}"));
    }
    std::fs::rename(path.join(LIVE), &kept_as)?;
    engine::sync_directory(path)?;
    Ok(kept_as)
}

/// Waits until no thread of a database that was closed, or failed to open, has its files: they write some
/// of them by their names.
pub fn let_go(database: &Path) -> Result<(), OpenError> {
    let file = match File::open(database.join("db")) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(to_io(database, error)),
    };
    let deadline = Instant::now() + LET_GO_MAX;
    while rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if Instant::now() >= deadline {
            return Err(OpenError::Locked {
                path: database.to_owned(),
            });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Waits in the same way for the databases that a rebuild in this directory has made, or begun to make.
pub fn let_go_of_all(path: &Path) -> Result<(), OpenError> {
    let mut names = [LIVE, NEW].into_iter();
    names.try_for_each(|name| let_go(&path.join(name)))
}

#[cfg(test)]
mod tests;
