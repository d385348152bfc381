//! The thread that verifies the copy of a running store, now and then: it does what a restore does, in a directory that
//! it removes again, and reads what only the past needs, too.
//!
//! - The thread that copies says when to begin, between two of its runs. Until the end nothing is deleted from the copy
//!   but old manifests, so that all is there that the manifest names which is read first.
//! - Reading, opening and checking is the bulk of the work. It goes on at the lowest priority, for processor and disk.
//! - Memory is bounded: by a stretch of an object, by the lists of the manifest, and by the database of what waits.
//! - It ends soon after a stop, and has nothing open of the store. What it leaves is removed by the next start.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::manifest::{self, Manifest, SealedList};
use super::restore::{self, Choice};
use super::target::{Object, Target, TargetError, TargetSettings};
use super::verification::{Times, Verification};
use super::{BackupError, Fetched};
use crate::clock::{Clock, Timestamp};
use crate::lock::locked;
use crate::store::{self, Store, StoreSettings};
use crate::watched::{self, Kind, Panicked};

/// The directory, beside the journal, that a verification lays files into.
const SCRATCH: &str = "backup.verify";
/// The directory of the databases in it, so that they do not lie right beside those of the store.
const WITHIN: &str = "store";
/// A database takes more than the checkpoint file that it is made of.
const DATABASE_TIMES: u64 = 4;
/// What a database takes that has nothing in it, and what is written beside it.
const DATABASE_BYTES: u64 = 64 << 20;

/// The thread, from outside.
pub struct Verifier {
    /// With a connection of its own: the threads of a connection that this uses have its priority.
    target: Target,
    clock: Clock,
    /// Where the store is.
    directory: PathBuf,
    /// Of the databases that are made.
    settings: StoreSettings,
    every: Duration,
    state: Mutex<State>,
    changed: Condvar,
    stops: Arc<AtomicBool>,
}

#[derive(Default)]
struct State {
    first_copy_at: Option<Timestamp>,
    last: Option<Verification>,
    unfinished: Option<Unfinished>,
    failures: u64,
    /// The stream whose copy is being verified.
    under_way: Option<u64>,
}

/// Tries that did not come to their end, since the last one that did.
#[derive(Clone, Debug)]
struct Unfinished {
    since: Timestamp,
    tried_at: Timestamp,
    reason: String,
}

/// A copy that was read to its end.
struct AllRead {
    bytes: u64,
    /// Damage that the store had when it was copied.
    damage: Vec<String>,
}

/// The state of verifications, for status and metrics.
#[derive(Default)]
pub struct Shown {
    pub last: Option<Verification>,
    /// Since when no verification has come to its end, and why.
    pub unfinished: Option<(Timestamp, String)>,
    pub failures: u64,
    pub requests: u64,
}

/// Removes what a process left that was ended during a verification.
pub fn discard_scratch(store: &Path) {
    let path = store.join(SCRATCH);
    match std::fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            log::warn!(
                "{} is not needed and was not removed: {error}",
                path.display()
            );
        }
        _ => {}
    }
}

impl Verifier {
    /// # Errors
    /// Where the settings are of no target.
    pub fn start(
        store: &Store,
        settings: &TargetSettings,
        every: Duration,
    ) -> Result<(Arc<Verifier>, JoinHandle<()>), BackupError> {
        let stops = Arc::new(AtomicBool::new(false));
        let asked = stops.clone();
        let target = Target::open(settings)?;
        let verifier = Arc::new(Verifier {
            target: target.stop_when(move || asked.load(Ordering::Relaxed)),
            clock: store.clock().clone(),
            directory: store.directory().to_owned(),
            settings: store.settings_for(&store.directory().join(SCRATCH).join(WITHIN)),
            every,
            state: Mutex::default(),
            changed: Condvar::new(),
            stops,
        });
        let run = verifier.clone();
        let thread = store.spawn(Kind::BackupVerifier, move || run.run());
        Ok((verifier, thread))
    }

    /// Notes the last verification of the copy that is being made.
    pub fn found(&self, last: Option<Verification>) {
        locked(self.state.lock()).last = last;
    }

    /// The copy of this stream is complete, and its copier between two runs: begins a verification if one is due.
    pub fn copied(&self, stream: u64) {
        let now = self.clock.now();
        let mut state = locked(self.state.lock());
        let first_copy_at = *state.first_copy_at.get_or_insert(now);
        let last = state.last.as_ref();
        let times = Times {
            first_copy_at,
            last: last.map(|last| (Timestamp(last.at), last.damage.is_none())),
            tried_at: state.unfinished.as_ref().map(|tried| tried.tried_at),
        };
        if state.under_way.is_none() && times.is_due(now, self.every) {
            state.under_way = Some(stream);
            self.changed.notify_all();
        }
    }

    /// Objects that the copy does not need any more may still be read.
    pub fn is_reading(&self) -> bool {
        locked(self.state.lock()).under_way.is_some()
    }

    /// Ends the thread, within a second or so.
    pub fn stop(&self) {
        // Under the lock, so that the thread does not miss it between its look and its wait.
        let _state = locked(self.state.lock());
        self.stops.store(true, Ordering::Relaxed);
        self.changed.notify_all();
    }

    pub fn shown(&self) -> Shown {
        let state = locked(self.state.lock());
        let unfinished = state.unfinished.clone();
        Shown {
            last: state.last.clone(),
            unfinished: unfinished.map(|tried| (tried.since, tried.reason)),
            failures: state.failures,
            requests: self.target.requests().in_all(),
        }
    }

    fn stops(&self) -> bool {
        self.stops.load(Ordering::Relaxed)
    }

    fn run(&self) {
        while let Some(stream) = watched::idle_while(|| self.next()) {
            let folder = self.target.folder(&manifest::folder_of(stream));
            let stopwatch = self.clock.stopwatch();
            log::info!("backup: the copy at {folder} is being verified");
            let result = watched::contained(|| self.verify(stream, &folder));
            self.note(&folder, result, stopwatch.elapsed());
            locked(self.state.lock()).under_way = None;
        }
    }

    /// Waits for a copy to verify. None once the server stops.
    fn next(&self) -> Option<u64> {
        let state = locked(self.state.lock());
        let waits = |state: &mut State| state.under_way.is_none() && !self.stops();
        let state = locked(self.changed.wait_while(state, waits));
        state.under_way.filter(|_| !self.stops())
    }

    fn verify(&self, stream: u64, folder: &Target) -> Result<AllRead, BackupError> {
        let Some((manifest, _)) = Manifest::newest(folder)? else {
            return Err(BackupError::NoCopy);
        };
        let list = manifest.read_list(folder)?;
        let _scratch = Scratch::within(&self.directory);
        let settings = &self.settings;
        let needed = room_needed(&manifest, &list);
        refuse_without_room(settings, needed, &self.directory)?;
        store::prepare_restore(settings)?;
        let all_read = at_low_priority(|| {
            let choice = Choice {
                stream: Some(stream),
                at: None,
            };
            let fetched = restore::fetch(&self.target, choice, &settings.path, true, &mut |_| {})?;
            let past = read_past(folder, &manifest, &list)?;
            let Fetched { bytes, damage, .. } = fetched;
            Ok(AllRead {
                bytes: bytes + past,
                damage,
            })
        })?;
        // Not at low priority: the threads of databases are shared with those of the running store, and a thread
        // hands its priority on to those that it starts.
        let problems = store::make_databases(settings, &self.clock, &|| self.stops())?;
        let damage = [all_read.damage, problems].concat();
        Ok(AllRead { damage, ..all_read })
    }

    fn note(
        &self,
        folder: &Target,
        result: Result<Result<AllRead, BackupError>, Panicked>,
        took: Duration,
    ) {
        let (bytes, damage) = match result {
            Ok(Ok(AllRead { bytes, damage })) => {
                let damage = damage.first().map(|first| {
                    format!(
                        "{folder}: it has damage that the store had when it was copied: {first}"
                    )
                });
                (bytes, damage)
            }
            Ok(Err(error)) if error.is_stopped() => return,
            Ok(Err(error)) if error.is_damage() => (0, Some(error.at(folder))),
            Ok(Err(error)) => return self.note_unfinished(error.at(folder)),
            Err(Panicked) => {
                let reason = "a panic ended it; the server's log says where";
                return self.note_unfinished(format!("{folder}: {reason}"));
            }
        };
        let (mebibytes, seconds) = (bytes >> 20, took.as_secs());
        match &damage {
            None => log::info!(
                "backup: the copy at {folder} is whole: {mebibytes} MiB were read in {seconds} s"
            ),
            Some(damage) => {
                log::error!("backup: the copy is damaged, and may be of no use: {damage}");
                watched::note_error(damage);
            }
        }
        let now = self.clock.now();
        let is_damaged = damage.is_some();
        let last = {
            let state = locked(self.state.lock());
            Verification::new(now, took, bytes, damage, state.last.as_ref())
        };
        // Before anybody sees it: what was shown once is remembered by a restart.
        if let Err(error) = last.write(folder) {
            log::warn!("backup: that the copy was verified is forgotten by a restart: {error}");
        }
        let mut state = locked(self.state.lock());
        state.failures += u64::from(is_damaged);
        state.unfinished = None;
        state.last = Some(last);
    }

    fn note_unfinished(&self, reason: String) {
        log::warn!("backup: the copy was not verified, which is tried again in an hour: {reason}");
        watched::note_error(&reason);
        let now = self.clock.now();
        let mut state = locked(self.state.lock());
        let before = state.unfinished.take();
        state.unfinished = Some(Unfinished {
            since: before.map_or(now, |before| before.since),
            tried_at: now,
            reason,
        });
    }
}

/// The directory of a verification, for as long as this lives.
struct Scratch(PathBuf);

impl Scratch {
    fn within(store: &Path) -> Scratch {
        discard_scratch(store);
        Scratch(store.join(SCRATCH))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let removed = store::remove_databases(&self.0.join(WITHIN))
            .map_err(|error| error.to_string())
            .and_then(|()| match std::fs::remove_dir_all(&self.0) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.to_string()),
                _ => Ok(()),
            });
        if let Err(error) = removed {
            let path = self.0.display();
            log::warn!("{path} is not needed any more and was not removed: {error}");
        }
    }
}

/// The most that a verification takes on the disk at a time: segments behind the checkpoint stay until the end, others
/// and indexes are removed one by one.
fn room_needed(manifest: &Manifest, list: &SealedList) -> u64 {
    let Some(checkpoint) = manifest.checkpoints.last() else {
        return 0;
    };
    let sealed = list.segments.iter();
    let sealed = sealed.map(|one| (one.end.position, one.file_bytes));
    let open = manifest.open.iter();
    let open = open.map(|open| (open.end.position, open.file_bytes));
    let (mut kept, mut largest) = (0, 0);
    for (end, bytes) in sealed.chain(open) {
        match end > checkpoint.position + 1 {
            true => kept += bytes,
            false => largest = bytes.max(largest),
        }
    }
    let indexes = list.indexes.iter().map(|one| one.object.bytes);
    let one_by_one = indexes.fold(largest, u64::max);
    kept + one_by_one + checkpoint.object.bytes * (1 + DATABASE_TIMES) + DATABASE_BYTES
}

fn refuse_without_room(
    settings: &StoreSettings,
    needed: u64,
    disk: &Path,
) -> Result<(), BackupError> {
    let space = rustix::fs::statvfs(disk);
    let space = space.map_err(|error| BackupError::file(disk, error.into()))?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let min = settings.min_free_bytes;
    match free.saturating_sub(needed) < min {
        true => Err(BackupError::NoRoom { needed, free, min }),
        false => Ok(()),
    }
}

/// Reads what a restore of the newest moment leaves out. Returns how much that was.
fn read_past(folder: &Target, manifest: &Manifest, list: &SealedList) -> Result<u64, BackupError> {
    let mut bytes = 0;
    for object in of_the_past(manifest, list) {
        folder.get(&object.name, Some(object), &mut io::sink())?;
        bytes += object.bytes;
    }
    Ok(bytes)
}

/// Objects that only moments of the past need.
fn of_the_past<'a>(
    manifest: &'a Manifest,
    list: &'a SealedList,
) -> impl Iterator<Item = &'a Object> {
    let newer = manifest.checkpoints.len().saturating_sub(1);
    let checkpoints = manifest.checkpoints[..newer].iter().map(|one| &one.object);
    let segments = list.segments.iter().filter(|one| one.gone_at.is_some());
    let indexes = list.indexes.iter().filter(|one| one.gone_at.is_some());
    let segments = segments.map(|one| &one.object);
    checkpoints
        .chain(segments)
        .chain(indexes.map(|one| &one.object))
}

/// Does something on a thread of its own that gets processor and disk only where nobody else wants them. No thread can
/// have its former priority back.
fn at_low_priority<T: Send>(
    act: impl FnOnce() -> Result<T, BackupError> + Send,
) -> Result<T, BackupError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("verify-reader".to_owned());
        let started = thread.spawn_scoped(scope, || {
            lower_priority();
            act()
        });
        match started.map_err(TargetError::Io)?.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Lowers the priority of the current thread. Where the system refuses that, the work goes on without.
#[cfg(target_os = "linux")]
fn lower_priority() {
    const LOWEST: i32 = 19;
    // Of linux/ioprio.h: this thread, and the class of those who get the disk when it is idle.
    const WHO_PROCESS: libc::c_int = 1;
    const CLASS_IDLE: libc::c_int = 3 << 13;
    // On Linux this is the thread's alone.
    if let Err(error) = rustix::process::setpriority_process(None, LOWEST) {
        log::debug!("the priority of a thread was not lowered: {error}");
    }
    // SAFETY: the call takes three numbers and dereferences nothing.
    let done = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, CLASS_IDLE) };
    if done != 0 {
        let error = io::Error::last_os_error();
        log::debug!("the priority of a thread for the disk was not lowered: {error}");
    }
}

#[cfg(not(target_os = "linux"))]
fn lower_priority() {}

#[cfg(test)]
mod tests {
    use super::super::manifest::{CheckpointCopy, IndexCopy, OpenSegment, Place, SealedSegment};
    use super::*;

    const MIB: u64 = 1 << 20;

    fn object(name: &str, bytes: u64) -> Object {
        Object {
            name: name.to_owned(),
            bytes,
            sha256: [0; 32],
        }
    }

    fn place(position: u64) -> Place {
        Place {
            offset: 0,
            position,
            chain: 0,
        }
    }

    fn segment(number: u64, end: u64, gone_at: Option<u64>) -> SealedSegment {
        SealedSegment {
            number,
            file_bytes: 64 * MIB,
            begin: place(end - 10),
            end: place(end),
            time_ms: 0,
            is_damaged: false,
            gone_at,
            object: object(&format!("segment-{number}"), MIB),
        }
    }

    fn checkpoint(position: u64) -> CheckpointCopy {
        CheckpointCopy {
            position,
            time_ms: 0,
            object: object(&format!("checkpoint-{position}"), MIB),
        }
    }

    fn copy() -> (Manifest, SealedList) {
        let mut manifest = Manifest::first(7);
        manifest.checkpoints = vec![checkpoint(5), checkpoint(25)];
        manifest.open = Some(OpenSegment {
            number: 4,
            file_bytes: 64 * MIB,
            begin: place(40),
            end: place(45),
            pieces: Vec::new(),
        });
        let list = SealedList {
            format: 1,
            segments: vec![
                segment(1, 10, Some(1)),
                segment(2, 20, None),
                segment(3, 40, None),
            ],
            indexes: vec![
                IndexCopy {
                    slice: 1,
                    gone_at: Some(1),
                    object: object("index-1", MIB),
                },
                IndexCopy {
                    slice: 2,
                    gone_at: None,
                    object: object("index-2", 70 * MIB),
                },
            ],
        };
        (manifest, list)
    }

    #[test]
    fn a_verification_takes_the_segments_behind_the_checkpoint_and_one_file_beside() {
        let (mut manifest, mut list) = copy();
        let databases = 5 * MIB + DATABASE_BYTES;
        // Segment 3 and the open one stay; the largest of the rest is an index.
        assert_eq!(
            room_needed(&manifest, &list),
            (2 * 64 + 70) * MIB + databases
        );
        list.indexes.clear();
        assert_eq!(room_needed(&manifest, &list), 3 * 64 * MIB + databases);
        manifest.checkpoints.clear();
        assert_eq!(room_needed(&manifest, &list), 0);
    }

    #[test]
    fn everything_that_a_restore_of_now_leaves_out_is_read_beside() {
        let (manifest, list) = copy();
        let names = of_the_past(&manifest, &list).map(|object| object.name.as_str());
        assert_eq!(
            Vec::from_iter(names),
            ["checkpoint-5", "segment-1", "index-1"]
        );
    }

    #[test]
    fn it_is_not_begun_where_it_would_leave_too_little_room() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = crate::config::load(None, Default::default()).unwrap();
        config.store.min_free_bytes = 1;
        let settings = StoreSettings::from_config(&config);
        refuse_without_room(&settings, 1, directory.path()).unwrap();
        let error = refuse_without_room(&settings, u64::MAX, directory.path()).unwrap_err();
        assert!(!error.is_damage(), "{error}");
        assert!(
            error.to_string().contains("store.min_free_bytes"),
            "{error}"
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn only_the_thread_that_reads_has_a_low_priority() {
        let priority = || rustix::process::getpriority_process(None).unwrap();
        let before = priority();
        assert_eq!(at_low_priority(|| Ok(priority())).unwrap(), 19);
        assert_eq!(priority(), before);
    }
}
