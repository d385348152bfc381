//! Checkpoints: what the journal alone had is brought into the live database, on disk, so that a start
//! need not apply it, and its segments can go once history does not need them.
//!
//! The committer decides when, between two commits, and takes the overlay of the live database aside. A
//! thread of its own then moves it into the database, flushes this and the slices that were written
//! to, writes down the position, flushes again, and drops the overlay. Commits go on meanwhile, until
//! what they add has reached its bound, too: then they wait.
//!
//! How long a checkpoint takes depends on what was committed and on the load of the disk, so its whole time
//! has no limit. Each of its steps has: a record that is moved, the flush of a slice, or the flushes of the live
//! database. See `keeper::watch`.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::engine::{Engine, EngineError};
use super::keeper::LOOK_EVERY;
use super::layout::Checkpoint;
use super::{Fault, Inner, checkpoint_file, rebuild, replay};
use crate::lock::locked;
use crate::watched;

/// Bytes of the journal, or of the overlay, after which the next checkpoint begins: few enough that a
/// start after a crash applies them within half a second.
const BYTES: u64 = 8 << 20;
/// And at which commits wait for the checkpoint that is under way.
const BYTES_MAX: u64 = 64 << 20;

/// The checkpoint that is to be made, and the last that was.
#[derive(Default)]
pub struct Checkpoints {
    state: Mutex<State>,
    changed: Condvar,
    /// When the step that is under way began; absent between two checkpoints.
    step_began: Mutex<Option<Instant>>,
    /// Runs in each step, as a disk that is slow or hangs would.
    #[cfg(test)]
    pretended_disk: Mutex<Option<Box<dyn Fn() + Send>>>,
}

#[derive(Default)]
struct State {
    due: Option<Arc<Due>>,
    /// The position of the last one that is on disk.
    done: u64,
    /// The last one that is on disk, of this process or of the start.
    latest: Option<Checkpoint>,
    /// The position of the checkpoint file, where it can be used.
    file: Option<u64>,
    /// A checkpoint file of this position or a later one is wanted at once: the journal is damaged before it.
    file_wanted: u64,
    /// No other is made: the store is closed, or one failed.
    is_over: bool,
}

/// A checkpoint whose overlay was taken aside.
struct Due {
    checkpoint: Checkpoint,
    /// The databases of history that were written to since the one before, by the numbers of their slices.
    slices: BTreeMap<u32, Arc<Engine>>,
}

/// The additions of the committer since the last checkpoint began.
#[derive(Default)]
pub struct Since {
    pub journal_bytes: u64,
    slices: BTreeMap<u32, Arc<Engine>>,
    /// A database of history was written to: it stays open until the next checkpoint.
    pub has_databases: bool,
}

impl Since {
    pub fn wrote_to(&mut self, number: u32, slice: &Arc<Engine>) {
        self.slices.entry(number).or_insert_with(|| slice.clone());
    }
}

impl Inner {
    /// Begins a checkpoint where enough was committed since the last, and waits where it is too much.
    /// On the committer's thread, between two commits.
    pub(super) fn checkpoint_if_due(&self, since: &mut Since, now_at: Checkpoint) {
        let bytes = since.journal_bytes.max(self.live.overlay_bytes() as u64);
        self.metrics.journal_ahead_bytes.set(bytes as i64);
        if bytes < BYTES && !since.has_databases && !self.checkpoints.is_wanted() {
            return;
        }
        // Commits stop, too, until there is room.
        if self.room.is_short() {
            return;
        }
        let state = self.checkpoints.state();
        if state.due.is_some() && bytes < BYTES_MAX {
            return;
        }
        drop(self.checkpoints.when_idle(state));
        self.begin_checkpoint(since, now_at);
    }

    /// Begins a checkpoint and waits for its end. False where it failed.
    pub(super) fn checkpoint_now(&self, since: &mut Since, now_at: Checkpoint) -> bool {
        drop(self.checkpoints.when_idle(self.checkpoints.state()));
        self.begin_checkpoint(since, now_at);
        let state = self.checkpoints.when_idle(self.checkpoints.state());
        state.done == now_at.position
    }

    fn begin_checkpoint(&self, since: &mut Since, checkpoint: Checkpoint) {
        let mut state = self.checkpoints.state();
        if state.is_over {
            return;
        }
        self.live.take_aside();
        let slices = std::mem::take(since).slices;
        state.due = Some(Arc::new(Due { checkpoint, slices }));
        self.checkpoints.changed.notify_all();
    }

    fn make_checkpoint(&self, due: &Due) -> Result<(), EngineError> {
        let step = || self.checkpoints.step_begins();
        let moved = self.live.move_aside_into_engine(step);
        moved.inspect_err(|error| rebuild::note_damage(&self.settings.path, error))?;
        for (number, slice) in &due.slices {
            step();
            match slice.flush() {
                // It was dropped meanwhile.
                Err(_) if !self.slices.contains(*number) => {}
                flushed => flushed?,
            }
        }
        step();
        replay::write_checkpoint(self.live.engine(), &due.checkpoint)?;
        self.live.drop_aside();
        checkpoint_file::try_to_note_applied(&self.settings.path, &due.checkpoint);
        self.metrics.checkpoints.inc();
        Ok(())
    }
}

impl Checkpoints {
    /// For a start, when the databases have all of the journal up to `latest`, and there is a checkpoint
    /// file of the position `file`.
    pub fn from(latest: Checkpoint, file: Option<u64>) -> Checkpoints {
        let state = State {
            done: latest.position,
            latest: Some(latest),
            file,
            ..State::default()
        };
        Checkpoints {
            state: Mutex::new(state),
            ..Checkpoints::default()
        }
    }

    /// The position up to which the databases have the journal, on disk.
    pub fn done(&self) -> u64 {
        self.state().done
    }

    /// The position up to which segments of the journal may be removed: the databases have it up to
    /// there, and the checkpoint file does.
    pub fn removable(&self) -> u64 {
        let state = self.state();
        state.file.map_or(state.done, |file| state.done.min(file))
    }

    /// The position of the checkpoint file, where it can be used.
    pub fn file(&self) -> Option<u64> {
        self.state().file
    }

    /// The last checkpoint, where the next checkpoint file is to be begun at it: there is no file yet, or
    /// one is due, or wanted, and is behind.
    pub fn not_in_file(&self, is_due: bool) -> Option<Checkpoint> {
        let state = self.state();
        let is_behind = |latest: &Checkpoint| match state.file {
            Some(file) => {
                let is_wanted = (file + 1..=latest.position).contains(&state.file_wanted);
                (is_due || is_wanted) && file < latest.position
            }
            None => true,
        };
        state.latest.filter(is_behind)
    }

    /// Asks for a checkpoint file of this position or a later one: a rebuild from the one that is there would
    /// come upon damage before that.
    pub fn want_file(&self, position: u64) {
        let mut state = self.state();
        state.file_wanted = state.file_wanted.max(position);
    }

    /// Whether the checkpoint file that is wanted waits for a checkpoint.
    pub fn is_wanted(&self) -> bool {
        let state = self.state();
        let is_behind = state.file.is_some_and(|file| file < state.file_wanted);
        is_behind
            && state
                .latest
                .is_none_or(|latest| latest.position < state.file_wanted)
    }

    pub fn file_was_written(&self, position: u64) {
        self.state().file = Some(position);
    }

    /// Keeps no segments for the checkpoint file any more.
    pub fn give_file_up(&self) {
        self.state().file = None;
    }

    pub fn is_idle(&self) -> bool {
        self.state().due.is_none()
    }

    fn step_begins(&self) {
        *locked(self.step_began.lock()) = Some(Instant::now());
        #[cfg(test)]
        if let Some(disk) = &*locked(self.pretended_disk.lock()) {
            disk();
        }
    }

    /// When the step that is under way began.
    pub fn step_began(&self) -> Option<Instant> {
        *locked(self.step_began.lock())
    }

    /// Waits for this long, or until no other checkpoint is made; true then.
    pub fn is_over_within(&self, duration: Duration) -> bool {
        let goes_on = |state: &mut State| !state.is_over;
        let waited = self
            .changed
            .wait_timeout_while(self.state(), duration, goes_on);
        locked(waited).0.is_over
    }

    /// Lets nobody wait for a checkpoint any more.
    pub fn give_up(&self) {
        self.state().is_over = true;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(self.state.lock())
    }

    fn when_idle<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let is_busy = |state: &mut State| state.due.is_some() && !state.is_over;
        locked(self.changed.wait_while(state, is_busy))
    }
}

/// Makes checkpoints as they fall due, until the store is closed.
pub fn run(inner: &Inner) {
    let checkpoints = &inner.checkpoints;
    let _ends = Ends(checkpoints);
    loop {
        let state = checkpoints.state();
        let nothing_due = |state: &mut State| state.due.is_none() && !state.is_over;
        // It looks now and then unasked, so that one that is gone is noticed.
        let wait = || {
            let waited = checkpoints
                .changed
                .wait_timeout_while(state, LOOK_EVERY, nothing_due);
            locked(waited).0
        };
        let state = watched::idle_while(wait);
        // It stays due until it is made.
        let Some(due) = state.due.clone() else {
            if state.is_over {
                return;
            }
            continue;
        };
        drop(state);
        let made = inner.make_checkpoint(&due);
        *locked(checkpoints.step_began.lock()) = None;
        if let Err(error) = made {
            inner.fail(Fault::Storage(format!("a checkpoint failed: {error}")));
            return;
        }
        let mut state = checkpoints.state();
        state.due = None;
        state.done = due.checkpoint.position;
        state.latest = Some(due.checkpoint);
        drop(state);
        checkpoints.changed.notify_all();
    }
}

/// Ends checkpoints when it is dropped, as the thread that holds it ends, in a panic too: nobody waits
/// for one that nobody makes.
pub struct Ends<'a>(pub &'a Checkpoints);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    use crate::clock::{Clock, Timestamp};
    use crate::store::Store;
    use crate::store::layout::golden::rows::{APPLICATION, LANE};
    use crate::store::tests::{
        copy_directory, let_go, message_to, opened_with, register, settings,
    };
    use crate::telemetry::Metrics;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    /// What waits and what is kept is the same before a checkpoint, while it is made, after it, and after
    /// a start from what it left on disk.
    #[actix_web::test]
    async fn a_checkpoint_brings_everything_into_the_databases_and_lets_segments_go() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        let store = opened_with(&path, Clock::manual(NOW));
        register(&store).await;
        let inner = store.inner.clone();
        let mut ids = Vec::new();
        let payload = format!("\"{}\"", "x".repeat(1 << 20));
        let deadline = Instant::now() + Duration::from_secs(60);
        while inner.metrics.checkpoints.get() < 3 {
            assert!(Instant::now() < deadline, "no checkpoint is made");
            let mut message = message_to(vec![LANE]);
            message.payload = payload.clone().into();
            ids.push(store.accept_message(message).await.unwrap().id);
            let waiting = store.waiting(LANE, None, 1_000).unwrap();
            let waiting = waiting.iter().map(|one| one.key.message);
            assert!(waiting.eq(ids.iter().copied()));
        }
        assert!(inner.checkpoints.done() > 1);
        // All that a stop has not brought into the databases by itself.
        let crashed = directory.path().join("crashed");
        copy_directory(&path, &crashed);
        drop(inner);
        store.close().unwrap();
        drop(store);
        for path in [crashed, path] {
            let_go(&path);
            let store = opened_with(&path, Clock::manual(NOW));
            assert_eq!(store.waiting_count(), ids.len() as u64);
            for id in &ids {
                let message = store.message(APPLICATION, *id).unwrap().unwrap();
                assert_eq!(message.payload.len(), payload.len());
            }
            store.close().unwrap();
        }
    }

    /// A store whose commits, and steps of checkpoints, hang after two seconds. Something waits in it.
    async fn impatient(path: &Path) -> Store {
        let mut settings = settings(path);
        settings.commit_timeout = Duration::from_secs(2);
        let store = Store::open(settings, Clock::manual(NOW), Arc::new(Metrics::new())).unwrap();
        register(&store).await;
        for _ in 0..60 {
            store.accept_message(message_to(vec![LANE])).await.unwrap();
        }
        store
    }

    fn pretend_disk(store: &Store, disk: impl Fn() + Send + 'static) {
        let pretended = &store.inner.checkpoints.pretended_disk;
        *pretended.lock().unwrap() = Some(Box::new(disk));
    }

    #[actix_web::test]
    async fn a_close_whose_checkpoint_hangs_ends_and_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let store = impatient(&directory.path().join("data")).await;
        let (go, wait) = mpsc::channel::<()>();
        pretend_disk(&store, move || {
            let _ = wait.recv();
        });
        let (closed, ended) = mpsc::channel();
        let closing = store.clone();
        std::thread::spawn(move || closed.send(closing.close()));
        let told = ended.recv_timeout(Duration::from_secs(60));
        let told = told.expect("it ends").expect_err("it was not closed");
        assert!(
            told.contains("a step of a checkpoint takes longer"),
            "{told}"
        );
        drop(go);
    }

    #[actix_web::test]
    async fn a_checkpoint_that_is_slow_and_goes_on_is_not_taken_for_hung() {
        let directory = tempfile::tempdir().unwrap();
        let store = impatient(&directory.path().join("data")).await;
        pretend_disk(&store, || std::thread::sleep(Duration::from_millis(50)));
        let began = Instant::now();
        assert_eq!(store.close(), Ok(()));
        assert!(began.elapsed() > store.inner.settings.commit_timeout);
    }
}
