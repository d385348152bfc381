//! The thread that copies a running store to its target, every few seconds.
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
use crate::clock::Timestamp;
use crate::lock::locked;
use crate::store::Store;
use crate::telemetry::{BackupState, Metrics};
use crate::watched::{self, Kind};

/// The longest rest after runs that failed.
const REST_MAX: Duration = Duration::from_secs(60);
/// How long a stop of the server waits for the last run.
const LAST_RUN: Duration = Duration::from_secs(5);

/// The settings of `[backup]`.
pub struct BackupSettings {
    pub target: TargetSettings,
    pub every: Duration,
    pub keep: Duration,
}

/// The thread, from outside.
pub struct Backup {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    target: Target,
    store: Store,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
    /// The server is stopping: one more run.
    stops: Mutex<bool>,
    stopped: Condvar,
    /// Nobody waits for a run any more.
    gives_up: Arc<AtomicBool>,
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
        let seconds = settings.every.as_secs();
        log::info!("backup: the store is copied to {target} every {seconds} s");
        let shared = Arc::new(Shared {
            target: target.stop_when(move || asked.load(Ordering::Relaxed)),
            store: store.clone(),
            metrics,
            state: Mutex::new(State {
                looked_at: Some(store.clock().now()),
                ..State::default()
            }),
            stops: Mutex::new(false),
            stopped: Condvar::new(),
            gives_up,
        });
        let run = shared.clone();
        let thread = store.spawn(Kind::Backup, move || run.run(settings.every, settings.keep));
        Ok(Backup {
            shared,
            thread: Some(thread),
        })
    }

    /// Brings the figures up to date that status and metrics show.
    pub fn show(&self) {
        self.shared.show();
    }

    /// Copies the end of the store and ends the thread. Blocks for some seconds at most.
    pub fn stop(&mut self) {
        *locked(self.shared.stops.lock()) = true;
        self.shared.stopped.notify_all();
        let Some(thread) = self.thread.take() else {
            return;
        };
        let deadline = Instant::now() + LAST_RUN;
        while !thread.is_finished() {
            if Instant::now() >= deadline {
                self.shared.gives_up.store(true, Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        thread.join().expect("their panics are caught");
    }
}

impl Shared {
    fn run(&self, every: Duration, keep: Duration) {
        let mut copier = None;
        let mut rest = Duration::ZERO;
        loop {
            let is_last = watched::idle_while(|| self.sleep(rest));
            let run = watched::contained(|| self.copy(&mut copier, keep));
            let failed = match run {
                Ok(result) => self.note(result),
                Err(_) => {
                    copier = None;
                    true
                }
            };
            if is_last {
                return;
            }
            rest = match failed {
                true => (rest * 2).clamp(every, REST_MAX.max(every)),
                false => every,
            };
            self.show();
        }
    }

    /// Sleeps until it is time, or the server stops: true then.
    fn sleep(&self, rest: Duration) -> bool {
        let stops = locked(self.stops.lock());
        let waited = self
            .stopped
            .wait_timeout_while(stops, rest, |stops| !*stops);
        *locked(waited).0
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
                let opened = Copier::open(folder, stream, keep)?;
                self.note_found(&opened);
                copier.insert(opened)
            }
        };
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
                    log::info!(
                        "backup: the copy at {} goes on ({error} before)",
                        self.target
                    );
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
                let told = error.at(&self.target);
                let error = error.to_string();
                // Once for each reason, and not again and again.
                if state.error.as_ref() != Some(&error) {
                    log::error!("backup: the store was not copied: {told}");
                }
                watched::note_error(&error);
                state.failing_since.get_or_insert(now);
                state.error = Some(error);
                true
            }
        }
    }

    fn state(&self) -> BackupState {
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
            requests: self.target.requests().in_all(),
        }
    }

    fn show(&self) {
        self.metrics.show_backup(self.state());
    }
}
