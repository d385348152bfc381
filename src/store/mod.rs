//! The changes of state: everything postrider knows is read and changed here.
//!
//! The API and the scheduler call this module; nothing above it knows sled, keys or slices. A
//! method is named for the change it makes and returns once that change is on disk, so that an
//! answer given after it survives a power cut. Reads of history block on the disk: call them off
//! the reactor. Registrations are in memory and cost nothing to read.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::catalog::{Catalog, Change};
use crate::clock::Clock;
use crate::domain::id::{ApplicationId, OrganisationId};
use crate::error::{Error, Result};
use crate::lock::locked;
use crate::telemetry::Metrics;
use crate::watched::{self, Kind, Threads};
use backlog::Backlog;
use checkpoint::Checkpoints;
use counters::Counters;
use damage::Damage;
use expunge::Erasures;
use filters::{Filters, KeyHash};
use health::Healths;
use layout::Meta;
use live::Live;
use queue::Queue;
use recount::Recount;
use room::Room;
use slices::Slices;
pub use uses::LastUse;
use uses::Uses;
use watchers::Watchers;

mod backlog;
mod batch;
mod cancel;
mod changes;
mod checkpoint;
mod checkpoint_file;
mod committer;
mod contacts;
mod counters;
mod damage;
mod deliveries;
mod directory;
mod effects;
mod engine;
mod export;
mod expunge;
mod fault;
mod filters;
mod follower;
mod format;
mod gap;
mod handed_over;
mod health;
mod history;
mod hold;
mod index;
mod jobs;
mod keeper;
mod layout;
mod live;
mod open;
mod owner;
mod page_cache;
mod queue;
mod rebuild;
mod record;
mod recount;
mod replay;
mod restored;
mod room;
mod settings;
mod slice;
mod slices;
mod spares;
mod start;
mod unique;
mod uses;
mod values;
mod verify;
mod visits;
mod walk;
mod watchers;

pub use backlog::WaitingCounts;
pub use batch::{BatchAnswer, NewBatch, Show, Shown};
pub use cancel::{CancelHeld, HeldPart};
pub use counters::HOUR;
pub use damage::Unreadable;
pub use deliveries::{DeliveryState, LogEnd, SendAgain};
pub use export::{RestoreReport, restore};
use fault::unavailable;
pub use fault::{Fault, OpenError};
pub use follower::Follower;
pub use handed_over::{mark_handed_over, refuse_handed_over};
pub use hold::hold_restored;
pub use jobs::{ReplaySend, ReplayStep, Span};
pub use layout::LaneHour;
pub use owner::reset_owner;
pub use rebuild::{RebuildReport, rebuild};
pub use restored::{
    CHECKPOINT_FILE, FOLLOWING, Lost, Restored, begin_restored, checkpoint_position,
    effects_problem, finish_restore, make_databases, prepare_restore, refuse_unfinished,
    remove_databases, slice_directory,
};
pub use settings::StoreSettings;
pub use start::migrate;
pub use unique::Once;
use unique::{EVENT_ID_UNIQUE, EventKeys, Remembered, Searched};
pub use values::{
    Answered, AttemptSignal, Event, FailureSignal, Finished, NewMessage, Space, Stretch, Window,
};
pub use verify::{VerifyProgress, VerifyReport, verify};
pub use watchers::FirstAttempt;

/// How often a resend looks anew for a delivery that was attempted before the committer came to it.
const LOOK_AGAIN_MAX: usize = 10;

/// How long after a failure a close waits for the store's threads, in moments.
const THREADS_END_WITHIN: Duration = Duration::from_secs(5);
const MOMENT: Duration = Duration::from_millis(2);

type Listener = Box<dyn Fn(Event) + Send + Sync>;

#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
    /// Of the store's own threads.
    handles: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

/// The state that the committer, the keeper and all callers share.
struct Inner {
    settings: StoreSettings,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// All of the server's, whose panic is this store's failure.
    threads: Threads,
    live: Live,
    checkpoints: Checkpoints,
    slices: Slices,
    catalog: RwLock<Catalog>,
    queue: Queue,
    watchers: Arc<Watchers>,
    listener: OnceLock<Listener>,
    /// Stretches of commit numbers, first and last, of commits that never happened.
    dead_commits: Vec<(u64, u64)>,
    /// The last commit that is durable.
    commit: AtomicU64,
    /// Deliveries that wait, in all and by the slice of their message.
    waiting: AtomicU64,
    waiting_by_slice: Mutex<Vec<(u32, u64)>>,
    /// The same by lane and application.
    backlog: Backlog,
    /// When the commit that is under way began; absent between two.
    commit_began: Mutex<Option<Instant>>,
    /// Free space is below `min_free_bytes`.
    low_space: AtomicBool,
    room: Room,
    /// As the keeper has seen it last.
    space: Mutex<Space>,
    /// Counts up with every change of registrations, so that an export knows whether it is due.
    catalog_version: AtomicU64,
    /// Lanes of deleted endpoints, whose deliveries are to be forgotten.
    orphans: Mutex<Vec<u64>>,
    /// Why nothing more is taken; the first is final.
    failure: watch::Sender<Option<Fault>>,
    closed: watch::Sender<bool>,
    /// Told of commits in which a job changed.
    jobs_changed: watch::Sender<()>,
    /// Told of commits in which a contact changed.
    contacts_changed: watch::Sender<()>,
    /// The count of the queue that a start makes.
    recount: Recount,
    /// Counts of the last two hours.
    counters: Counters,
    filters: Filters,
    damage: Damage,
    uses: Uses,
    erasures: Erasures,
    healths: Healths,
    /// Held for as long as the store is open.
    lock: directory::Lock,
}

impl Inner {
    /// See [`Store::catalog`].
    fn catalog(&self) -> RwLockReadGuard<'_, Catalog> {
        locked(self.catalog.read())
    }

    fn tell(&self, event: Event) {
        if let Some(listener) = self.listener.get() {
            listener(event);
        }
    }

    fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    fn commit_began(&self) {
        *locked(self.commit_began.lock()) = Some(Instant::now());
    }

    fn committed(&self, meta: &Meta) {
        let waiting = meta.waiting.iter().map(|(_, count)| count).sum();
        self.waiting.store(waiting, Ordering::Relaxed);
        self.metrics.waiting.set(waiting as i64);
        locked(self.waiting_by_slice.lock()).clone_from(&meta.waiting);
        self.commit_ended();
    }

    fn commit_ended(&self) {
        *locked(self.commit_began.lock()) = None;
    }

    fn show_held(&self) {
        self.metrics.held.set(self.backlog.all().held as i64);
    }

    /// Takes committed changes of registrations into memory and tells of changed endpoints.
    fn apply(&self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        let mut lanes = Vec::new();
        let mut orphans = Vec::new();
        let is_job = |change: &Change| matches!(change, Change::PutJob(_) | Change::DeleteJob(_));
        let jobs = changes.iter().any(is_job);
        let is_visit =
            |change: &Change| matches!(change, Change::PutVisit(_) | Change::DeleteVisit(_));
        let visits = changes.iter().any(is_visit);
        let is_contact = |change: &Change| matches!(change, Change::PutContact(_));
        let contacts = changes.iter().any(is_contact);
        let is_exported = changes.iter().any(Change::is_exported);
        {
            let mut catalog = locked(self.catalog.write());
            for change in changes {
                match &change {
                    Change::PutEndpoint(endpoint) => lanes.push(endpoint.number),
                    Change::PutApplication(application) => {
                        let rate = application.throttle_rate;
                        let entry = catalog.application_by_id(application.id);
                        let entry = entry.filter(|old| old.application.throttle_rate != rate);
                        let endpoints = entry.iter().flat_map(|entry| &entry.endpoints);
                        lanes.extend(endpoints.map(|endpoint| endpoint.number));
                    }
                    Change::DeleteEndpoint(application, id) => {
                        let entry = catalog.application_by_id(*application);
                        let endpoint = entry.and_then(|entry| entry.endpoint_by_id(*id));
                        orphans.extend(endpoint.map(|endpoint| endpoint.number));
                    }
                    Change::DeleteApplication(id) => {
                        self.erasure_begins(*id);
                        let entry = catalog.application_by_id(*id);
                        let endpoints = entry.iter().flat_map(|entry| &entry.endpoints);
                        orphans.extend(endpoints.map(|endpoint| endpoint.number));
                    }
                    _ => {}
                }
                catalog.apply(change);
            }
            if visits {
                self.show_visits(&catalog);
            }
            self.show_held_endpoints(&catalog);
        }
        if is_exported {
            self.catalog_version.fetch_add(1, Ordering::Relaxed);
        }
        lanes.extend(&orphans);
        self.backlog.sort_anew(&self.catalog(), &lanes);
        self.show_held();
        locked(self.orphans.lock()).extend(orphans);
        lanes
            .into_iter()
            .for_each(|lane| self.tell(Event::Endpoint { lane }));
        if jobs {
            self.jobs_changed.send_replace(());
        }
        if contacts {
            self.contacts_changed.send_replace(());
        }
    }

    /// Notes why the process must end: from now on nothing is accepted, and all that waits for the
    /// committer is answered.
    fn fail(&self, fault: Fault) {
        watched::note_error(&fault);
        let first = self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            if first {
                log::error!("nothing more is accepted: {fault}");
                *failure = Some(fault.clone());
            }
            first
        });
        if first {
            self.queue.abandon(|| Error::storage(fault.clone()));
            self.watchers.abandon();
        }
    }

    /// Starts a thread whose panic is the store's failure.
    fn spawn(self: &Arc<Self>, kind: Kind, run: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
        let failing = self.clone();
        let failed = move |thread| failing.fail(Fault::Panicked(thread));
        self.threads.spawn(kind, failed, run)
    }

    /// Whether what a slice says was committed: its number is durable in the live database and
    /// not one of those that ended halfway.
    fn happened(&self, commit: u64) -> bool {
        commit <= self.commit.load(Ordering::Acquire)
            && !self
                .dead_commits
                .iter()
                .any(|(first, last)| (first..=last).contains(&&commit))
    }

    /// Files of a slice that was never committed, left by a process that died.
    fn discard_slice_files(&self, number: u32) -> std::io::Result<()> {
        match std::fs::remove_dir_all(self.slices.path(number)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Store {
    /// All registrations, as of the last commit. Do not hold it across an await, and never take it
    /// while it is held: the second taking waits for the committer, which waits for the first.
    pub fn catalog(&self) -> RwLockReadGuard<'_, Catalog> {
        self.inner.catalog()
    }

    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// Who is told of commits; set once, by the scheduler.
    pub fn attach(&self, listener: Listener) {
        if self.inner.listener.set(listener).is_err() {
            log::error!("a second listener for commits was refused");
        }
    }

    /// Whether publishing can be taken now; the reason if not.
    pub fn health(&self) -> Result<(), String> {
        if let Some(fault) = &*self.inner.failure.borrow() {
            return Err(fault.to_string());
        }
        if let Some(lack) = self.inner.room.lack() {
            return Err(room::refusal(&lack).to_string());
        }
        if self.inner.low_space.load(Ordering::Relaxed) {
            return Err(low_space(&self.inner.settings));
        }
        Ok(())
    }

    /// The numbers of the slices of history that are kept, oldest first.
    pub fn slices(&self) -> Vec<u32> {
        let slices = self.inner.slices.list().into_iter();
        slices.map(|(number, _)| number).collect()
    }

    /// The space that the store takes on disk, as it was at most a second or so ago.
    pub fn space(&self) -> Space {
        *locked(self.inner.space.lock())
    }

    /// Whose owner runs the server: the one that came with the store, or the default of the settings.
    pub fn first_organisation(&self) -> Option<OrganisationId> {
        let default = self.inner.settings.default_organisation;
        default.or_else(|| self.catalog().first_organisation().map(|one| one.id))
    }

    /// Why the store takes nothing more until the next start.
    pub fn failure(&self) -> Option<Fault> {
        self.inner.failure.borrow().clone()
    }

    /// Resolves once there is a [`Store::failure`]; the process should then end.
    pub async fn failed(&self) -> Fault {
        let mut failure = self.inner.failure.subscribe();
        let failed = failure.wait_for(Option::is_some).await;
        let fault = failed.ok().and_then(|fault| fault.clone());
        fault.unwrap_or_else(|| Fault::Storage("the store is gone".to_owned()))
    }

    /// Starts a thread without which the process is of no use: its panic is the store's failure.
    pub fn spawn(&self, kind: Kind, run: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
        self.inner.spawn(kind, run)
    }

    /// The threads of the server.
    pub fn threads(&self) -> &Threads {
        &self.inner.threads
    }

    /// A thread without which the process is of no use has panicked: takes nothing more.
    pub fn thread_panicked(&self, thread: String) {
        self.inner.fail(Fault::Panicked(thread));
    }

    /// Nothing is queued, nothing is being committed, and no checkpoint is being made.
    pub fn is_idle(&self) -> bool {
        self.inner.queue.is_idle() && self.inner.checkpoints.is_idle()
    }

    /// The last commit and the position of the last checkpoint: where both are as they were, nothing was
    /// written.
    pub fn written(&self) -> (u64, u64) {
        let commit = self.inner.commit.load(Ordering::Acquire);
        (commit, self.inner.checkpoints.done())
    }

    /// How many deliveries wait, held ones included.
    pub fn waiting_count(&self) -> u64 {
        self.inner.waiting()
    }

    /// How many wait to be sent and how many are held; for the first seconds after a start less
    /// than all, while a long queue is counted.
    pub fn waits(&self) -> WaitingCounts {
        self.inner.backlog.all()
    }

    /// The applications of which at least this many deliveries wait.
    pub fn large_backlogs(&self, min: u64) -> Vec<(ApplicationId, WaitingCounts)> {
        self.inner.backlog.large(min)
    }

    /// Stops taking changes, makes all that was taken durable and ends the store's threads. The
    /// databases close when the last clone is dropped.
    pub fn close(&self) -> Result<(), String> {
        self.inner.queue.close();
        self.inner.closed.send_replace(true);
        let handles = std::mem::take(&mut *locked(self.handles.lock()));
        let mut moments = THREADS_END_WITHIN;
        for thread in handles {
            // After a failure one may hang on the disk; it ends with the process.
            while !thread.is_finished() && (self.failure().is_none() || !moments.is_zero()) {
                std::thread::sleep(MOMENT);
                if self.failure().is_some() {
                    moments = moments.saturating_sub(MOMENT);
                }
            }
            if thread.is_finished() {
                thread.join().expect("their panics are caught");
            }
        }
        if let Some(fault) = self.failure() {
            return Err(fault.to_string());
        }
        // Without it the next start only takes longer.
        if let Err(error) = self.inner.lock.mark_closed() {
            log::warn!("that the store was closed could not be noted: {error}");
        }
        Ok(())
    }
}

fn low_space(settings: &StoreSettings) -> String {
    format!(
        "less than {} bytes are free on the disk (store.min_free_bytes)",
        settings.min_free_bytes
    )
}

#[cfg(test)]
mod tests;
