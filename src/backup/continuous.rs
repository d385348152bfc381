//! The thread that copies a running store to its target, every few seconds, and says when the copy is verified.
//!
//! It takes nothing that commits or requests wait for: it reads files. A target that is away, full or slow costs nothing
//! but lag, and is tried again, less and less often up to a minute; what the store has meanwhile is caught up with. A
//! stop of the server copies the end of the store, within a few seconds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::BackupError;
use super::copy::{Copied, Copier, Source};
use super::manifest;
use super::target::{Target, TargetSettings};
use super::verification::Verification;
use super::verifier::Verifier;
use crate::clock::Timestamp;
use crate::lock::locked;
use crate::store::{self, Store};
use crate::telemetry::{BackupState, BackupVerified, Metrics};
use crate::watched::{self, Kind};

/// The longest rest after runs that failed.
const REST_MAX: Duration = Duration::from_secs(60);
/// How long a stop of the server waits for the last run.
const LAST_RUN: Duration = Duration::from_secs(5);
/// How long a hand-over tries to copy the end of the store, and to say so.
const HAND_OVER_MAX: Duration = Duration::from_secs(20);
/// The rest between two tries of that.
const HAND_OVER_REST: Duration = Duration::from_millis(200);
/// How long it waits for a verification that was told to end: at its low priority that may take a while.
const VERIFYING_ENDS: Duration = Duration::from_secs(2);

/// The settings of `[backup]`.
pub struct BackupSettings {
    pub target: TargetSettings,
    pub every: Duration,
    pub keep: Duration,
    /// How often the copy is verified; none: never.
    pub verify_every: Option<Duration>,
}

/// The thread, from outside.
pub struct Backup {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    verifying: Option<JoinHandle<()>>,
}

struct Shared {
    target: Target,
    store: Store,
    metrics: Arc<Metrics>,
    verifier: Option<Arc<Verifier>>,
    state: Mutex<State>,
    asked: Mutex<Asked>,
    asked_for: Condvar,
    /// Nobody waits for a run any more.
    gives_up: Arc<AtomicBool>,
}

/// What the thread is asked to do next.
#[derive(Default)]
struct Asked {
    /// A run, without waiting for its time.
    run: bool,
    /// One more run, and an end.
    end: Option<End>,
    /// What came of a hand-over.
    handed_over: Option<Result<(), BackupError>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Stop,
    HandOver,
}

#[derive(Default)]
struct State {
    completed_at: Option<Timestamp>,
    copied_until: Option<Timestamp>,
    /// The last record that is in the copy.
    position: u64,
    /// When a run looked at the store last whose copy is complete.
    looked_at: Option<Timestamp>,
    error: Option<String>,
    failing_since: Option<Timestamp>,
    still_to_erase: usize,
    bytes: u64,
}

impl Backup {
    /// # Errors
    /// Where the settings are of no target.
    pub fn start(
        store: &Store,
        settings: BackupSettings,
        metrics: Arc<Metrics>,
    ) -> Result<Backup, BackupError> {
        let gives_up = Arc::new(AtomicBool::new(false));
        let asked = gives_up.clone();
        let target = Target::open(&settings.target)?;
        let verifier = settings
            .verify_every
            .map(|every| Verifier::start(store, &settings.target, every))
            .transpose()?;
        let (verifier, verifying) = verifier.unzip();
        let seconds = settings.every.as_secs();
        log::info!("backup: the store is copied to {target} every {seconds} s");
        let shared = Arc::new(Shared {
            target: target.stop_when(move || asked.load(Ordering::Relaxed)),
            store: store.clone(),
            metrics,
            verifier,
            state: Mutex::new(State {
                looked_at: Some(store.clock().now()),
                ..State::default()
            }),
            asked: Mutex::default(),
            asked_for: Condvar::new(),
            gives_up,
        });
        let run = shared.clone();
        let thread = store.spawn(Kind::Backup, move || run.run(settings.every, settings.keep));
        Ok(Backup {
            shared,
            thread: Some(thread),
            verifying,
        })
    }

    /// Brings the figures up to date that status and metrics show.
    pub fn show(&self) {
        self.shared.show();
    }

    /// Begins a run soon, so that the last one has little left.
    pub fn run_now(&self) {
        self.shared.ask(|asked| asked.run = true);
    }

    /// Copies the end of the store and ends the threads. Blocks for some seconds at most.
    pub fn stop(&mut self) {
        self.end(End::Stop, LAST_RUN);
    }

    /// Copies the end of the store, which is closed, marks it, and tells whoever follows the copy. Where the end cannot
    /// be copied the store is not marked. Where it then is not known whether they were told, it stays marked. Blocks for
    /// half a minute at most.
    pub fn hand_over(&mut self) -> Result<(), BackupError> {
        self.end(End::HandOver, HAND_OVER_MAX + LAST_RUN);
        let result = locked(self.shared.asked.lock()).handed_over.take();
        result.unwrap_or_else(|| Err(BackupError::Unusable("its thread has ended".to_owned())))
    }

    /// Ends a verification that is under way, and begins no other one.
    pub fn stop_verifying(&self) {
        if let Some(verifier) = &self.shared.verifier {
            verifier.stop();
        }
    }

    fn end(&mut self, end: End, within: Duration) {
        self.stop_verifying();
        self.shared.ask(|asked| asked.end = Some(end));
        let Some(thread) = self.thread.take() else {
            return;
        };
        let deadline = Instant::now() + within;
        while !thread.is_finished() {
            if Instant::now() >= deadline {
                self.shared.gives_up.store(true, Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        thread.join().expect("their panics are caught");
        let deadline = Instant::now() + VERIFYING_ENDS;
        let Some(verifying) = self.verifying.take() else {
            return;
        };
        while !verifying.is_finished() {
            if Instant::now() >= deadline {
                // It changes nothing of the store, and the next start removes its files.
                log::warn!("backup: a verification did not end in time and is left behind");
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        verifying.join().expect("their panics are caught");
    }
}

impl Shared {
    fn run(&self, every: Duration, keep: Duration) {
        let mut copier = None;
        let mut rest = Duration::ZERO;
        loop {
            let end = watched::idle_while(|| self.sleep(rest));
            if end == Some(End::HandOver) {
                let ended = watched::contained(|| self.hand_over(&mut copier, keep));
                locked(self.asked.lock()).handed_over = ended.ok();
                return;
            }
            let run = watched::contained(|| self.copy(&mut copier, keep));
            let failed = match run {
                Ok(result) => self.note(result),
                Err(_) => {
                    copier = None;
                    true
                }
            };
            if end.is_some() {
                return;
            }
            if let (false, Some(copier), Some(verifier)) = (failed, &copier, &self.verifier)
                && copier.manifest().is_restorable()
            {
                verifier.copied(copier.manifest().stream);
            }
            rest = match failed {
                true => (rest * 2).clamp(every, REST_MAX.max(every)),
                false => every,
            };
            self.show();
        }
    }

    fn ask(&self, change: impl FnOnce(&mut Asked)) {
        let mut asked = locked(self.asked.lock());
        change(&mut asked);
        drop(asked);
        self.asked_for.notify_all();
    }

    /// Sleeps until it is time, or somebody asks for something. Returns how the thread is to end.
    fn sleep(&self, rest: Duration) -> Option<End> {
        let asked = locked(self.asked.lock());
        let waited = self
            .asked_for
            .wait_timeout_while(asked, rest, |asked| !asked.run && asked.end.is_none());
        let mut asked = locked(waited).0;
        asked.run = false;
        asked.end
    }

    /// The end of a store that another machine goes on with. The mark comes first: after it nobody starts here, and
    /// only then is the other one told.
    fn hand_over(&self, copier: &mut Option<Copier>, keep: Duration) -> Result<(), BackupError> {
        let deadline = Instant::now() + HAND_OVER_MAX;
        self.again_until(deadline, || self.copy(copier, keep).map(drop))?;
        let copier = copier.as_mut().filter(|one| one.manifest().is_restorable());
        let Some(copier) = copier else {
            let reason = "nothing can be restored from the copy yet; try again in a minute";
            return Err(BackupError::Unusable(reason.to_owned()));
        };
        let now = self.store.clock().now();
        let directory = self.store.directory();
        let in_directory = |error| BackupError::file(directory, error);
        store::mark_handed_over(directory, &self.target.to_string(), now).map_err(in_directory)?;
        self.again_until(deadline, || copier.hand_over(now))?;
        log::info!(
            "handed over: record {} is the last, and whoever follows {} goes on",
            copier.manifest().position,
            self.target
        );
        Ok(())
    }

    fn again_until(
        &self,
        deadline: Instant,
        mut act: impl FnMut() -> Result<(), BackupError>,
    ) -> Result<(), BackupError> {
        loop {
            let error = match act() {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if Instant::now() >= deadline || error.is_stopped() {
                return Err(error);
            }
            log::warn!("backup: {}; trying again", error.at(&self.target));
            std::thread::sleep(HAND_OVER_REST);
        }
    }

    /// One run. None where there is nothing to do.
    fn copy(
        &self,
        copier: &mut Option<Copier>,
        keep: Duration,
    ) -> Result<Option<Copied>, BackupError> {
        let now = self.store.clock().now();
        let source = Source {
            directory: self.store.directory().to_owned(),
            journal: self.store.journal(),
        };
        let copier = match copier {
            Some(copier) => copier,
            None => {
                let newest = source.journal.segments().pop();
                let stream = newest.map_or(0, |newest| newest.stream);
                let folder = self.target.folder(&manifest::folder_of(stream));
                let opened = Copier::open(folder.clone(), stream, keep)?;
                if let Some(verifier) = &self.verifier {
                    verifier.found(Verification::newest(&folder)?);
                }
                self.note_found(&opened);
                copier.insert(opened)
            }
        };
        // Nobody but this thread begins to.
        copier.is_read = self.verifier.as_ref().is_some_and(|one| one.is_reading());
        let is_behind = copier.is_behind(&source.journal);
        let copied = match is_behind {
            true => Some(copier.run(&source, now, &mut |_| {})?),
            false => None,
        };
        // Until there is a checkpoint nothing can be restored; the store writes its file in its first seconds.
        if copier.manifest().is_restorable() {
            let mut state = locked(self.state.lock());
            state.looked_at = Some(now);
            state.position = copier.manifest().position;
            state.copied_until = Some(Timestamp(copier.manifest().time_ms));
        }
        Ok(copied)
    }

    /// Notes how far a copy is that an earlier process made.
    fn note_found(&self, copier: &Copier) {
        let manifest = copier.manifest();
        if manifest.is_restorable() {
            let mut state = locked(self.state.lock());
            state.position = manifest.position;
            state.copied_until = Some(Timestamp(manifest.time_ms));
            state.looked_at = Some(Timestamp(manifest.written_at));
        }
    }

    /// Notes the result of a run. True where it failed.
    fn note(&self, result: Result<Option<Copied>, BackupError>) -> bool {
        let now = self.store.clock().now();
        let mut state = locked(self.state.lock());
        match result {
            Ok(copied) => {
                if let Some(error) = state.error.take() {
                    log::info!("backup: the copy goes on ({error} before)");
                }
                state.failing_since = None;
                if state.position > 0 {
                    if state.completed_at.is_none() {
                        log::info!("backup: the copy at {} is up to date", self.target);
                    }
                    state.completed_at = Some(now);
                }
                if let Some(copied) = copied {
                    state.bytes += copied.bytes;
                    state.still_to_erase = copied.still_to_erase;
                    for damage in copied.damage {
                        log::error!("backup: the store is damaged, and so is its copy: {damage}");
                    }
                }
                false
            }
            Err(error) if error.is_stopped() => true,
            Err(error) => {
                let error = error.at(&self.target);
                // Once for each reason, and not again and again.
                if state.error.as_ref() != Some(&error) {
                    log::error!("backup: the store was not copied: {error}");
                }
                watched::note_error(&error);
                state.failing_since.get_or_insert(now);
                state.error = Some(error);
                true
            }
        }
    }

    fn state(&self) -> BackupState {
        let verifier = self.verifier.as_ref().map(|verifier| verifier.shown());
        let verified = verifier.unwrap_or_default();
        let state = locked(self.state.lock());
        let now = self.store.clock().now();
        let is_behind = state.completed_at.is_none()
            || state.position + 1 < self.store.journal().next_position();
        let lag = state
            .looked_at
            .filter(|_| is_behind)
            .map(|at| now.since(at));
        BackupState {
            to: self.target.to_string(),
            completed_at: state.completed_at,
            position: state.position,
            copied_until: state.copied_until.filter(|until| until.0 > 0),
            lag_seconds: lag.unwrap_or_default().as_secs_f64(),
            failing: state.failing_since.zip(state.error.clone()),
            keeps_versions: self.target.keeps_versions(),
            still_to_erase: state.still_to_erase,
            bytes: state.bytes,
            requests: self.target.requests().in_all() + verified.requests,
            whole_at: verified
                .last
                .as_ref()
                .and_then(|last| last.whole_at)
                .map(Timestamp),
            verified: verified.last.map(|last| BackupVerified {
                at: Timestamp(last.at),
                damage: last.damage,
                seconds: last.took_ms as f64 / 1000.0,
                bytes: last.bytes,
            }),
            unverified: verified.unfinished,
            verify_failures: verified.failures,
        }
    }

    fn show(&self) {
        self.metrics.show_backup(self.state());
    }
}
