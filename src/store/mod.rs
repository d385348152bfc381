//! The changes of state: everything postrider knows is read and changed here.
//!
//! The API and the scheduler call this module; nothing above it knows sled, keys or slices. A
//! method is named for the change it makes and returns once that change is on disk, so that an
//! answer given after it survives a power cut. Reads of history block on the disk: call them off
//! the reactor. Registrations are in memory and cost nothing to read.

use std::path::PathBuf;
use std::sync::{Arc, RwLockReadGuard};
use std::time::Duration;

use crate::clock::{Clock, Timestamp};
use crate::domain::attempt::{Attempt, Outcome, Verdict};
use crate::domain::endpoint::Endpoint;
use crate::domain::id::{ApplicationId, AttemptId, MessageId, OrganisationId};
use crate::domain::message::{Delivery, DeliveryKey, Message};
use crate::error::Result;
use crate::telemetry::Metrics;

pub mod catalog;

pub use catalog::{Catalog, Change};

pub struct Settings {
    pub path: PathBuf,
    pub cache_bytes: u64,
    pub retention: Duration,
    pub min_free_bytes: u64,
    pub slice_age: Duration,
    pub slice_bytes: u64,
    pub export_every: Duration,
    pub commit_timeout: Duration,
    pub waiting_max: u64,
    pub commit_queue_max: usize,
    pub default_organisation: Option<OrganisationId>,
}

/// Why a store cannot be opened: one clear line each.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{path} is in use by another postrider process")]
    Locked { path: PathBuf },
    #[error(
        "{path} was written by a newer postrider (format {found}, this one knows {known}); install that version again"
    )]
    Newer {
        path: PathBuf,
        found: u32,
        known: u32,
    },
    #[error(
        "{path} is damaged: {reason}; `postrider restore` starts a new store from the last export"
    )]
    Damaged { path: PathBuf, reason: String },
    #[error("cannot use {path}: {source}")]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{0}")]
    Unsafe(String),
}

/// The caller's wish that a request happens once: both are SHA-256, of the key in its scope
/// (organisation, method, path) and of the request's body.
#[derive(Clone, Copy, Debug)]
pub struct Once {
    pub key: [u8; 32],
    pub body: [u8; 32],
}

/// What a request was answered with; kept where the request came with an idempotency key.
#[derive(Clone, Debug)]
pub struct Answered {
    pub status: u16,
    pub body: Vec<u8>,
}

/// A message to accept. `lanes` are the numbers of the endpoints that match it.
pub struct NewMessage {
    pub organisation: OrganisationId,
    pub application: ApplicationId,
    pub event_type: String,
    pub event_id: Option<String>,
    pub channels: Vec<String>,
    pub payload: actix_web::web::Bytes,
    pub lanes: Vec<u64>,
    pub once: Option<Once>,
}

/// Which stretch of a list is wanted.
#[derive(Clone, Debug)]
pub struct Window<Id> {
    /// How many at most.
    pub limit: usize,
    pub newest_first: bool,
    /// Start behind this one, in the direction of reading.
    pub behind: Option<Id>,
    /// Only what is older than this.
    pub before: Option<Timestamp>,
    /// Only what is newer than this.
    pub after: Option<Timestamp>,
}

/// A stretch of a list, in the direction of reading.
#[derive(Debug)]
pub struct Stretch<T, Id> {
    pub items: Vec<T>,
    /// Where to read on: the last item looked at. Absent when there is nothing behind it.
    pub next: Option<Id>,
}

/// What came of an attempt, for the log and the queue.
pub struct Finished {
    pub delivery: Delivery,
    pub endpoint: Arc<Endpoint>,
    pub number: u32,
    pub outcome: Outcome,
    pub method: &'static str,
    pub verdict: Verdict,
}

/// What the scheduler is told after a commit. It acts on what is stored; the message that travels
/// along only saves it a read.
pub enum Event {
    /// A delivery waits that did not before, or waits at another time.
    Waiting {
        delivery: Delivery,
        message: Option<Arc<Message>>,
    },
    /// The endpoint was changed, enabled, disabled or deleted.
    Endpoint { lane: u64 },
}

#[derive(Clone)]
pub struct Store {
    // The one shared state.
}

#[allow(unused_variables, clippy::unused_async)]
impl Store {
    /// Opens or creates the store and starts its committer.
    pub fn open(
        settings: Settings,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Store, OpenError> {
        todo!()
    }

    /// All registrations, as of the last commit. Do not hold it across an await.
    pub fn catalog(&self) -> RwLockReadGuard<'_, Catalog> {
        todo!()
    }

    pub fn clock(&self) -> &Clock {
        todo!()
    }

    /// Decides on a change of registrations where nothing races with it, commits it, and returns
    /// what was decided. An `Err` from `decide` changes nothing.
    pub async fn change<T: Send + 'static>(
        &self,
        decide: impl FnOnce(&Catalog) -> Result<(Vec<Change>, T)> + Send + 'static,
    ) -> Result<T> {
        todo!()
    }

    /// The same for a request that may carry an idempotency key: a key seen within 12 hours gets
    /// the earlier answer, or a conflict if it came with another body.
    pub async fn change_once(
        &self,
        once: Option<Once>,
        decide: impl FnOnce(&Catalog) -> Result<(Vec<Change>, Answered)> + Send + 'static,
    ) -> Result<Answered> {
        todo!()
    }

    /// Stores the message with one delivery for each of its lanes, due now. Conflict if its
    /// `event_id` was used in the organisation within a day; the earlier message if the
    /// idempotency key was seen with the same body.
    pub async fn accept_message(&self, message: NewMessage) -> Result<Arc<Message>> {
        todo!()
    }

    /// Makes a delivery of this message to this endpoint due now, by hand.
    pub async fn resend(
        &self,
        message: Arc<Message>,
        endpoint: Arc<Endpoint>,
        once: Option<Once>,
    ) -> Result<()> {
        todo!()
    }

    /// Blocks on the disk.
    pub fn message(
        &self,
        application: ApplicationId,
        id: MessageId,
    ) -> Result<Option<Arc<Message>>> {
        todo!()
    }

    /// The newest message of the application with this `eventId`. Blocks on the disk.
    pub fn message_by_event_id(
        &self,
        application: ApplicationId,
        event_id: &str,
    ) -> Result<Option<Arc<Message>>> {
        todo!()
    }

    /// Messages of an application that `keep` wants. Blocks on the disk.
    pub fn messages(
        &self,
        application: ApplicationId,
        window: &Window<MessageId>,
        keep: &mut dyn FnMut(&Message) -> bool,
    ) -> Result<Stretch<Arc<Message>, MessageId>> {
        todo!()
    }

    /// Blocks on the disk.
    pub fn attempt(&self, message: MessageId, id: AttemptId) -> Result<Option<Attempt>> {
        todo!()
    }

    /// Attempts at an endpoint that `keep` wants. Blocks on the disk.
    pub fn attempts_of_endpoint(
        &self,
        lane: u64,
        window: &Window<AttemptId>,
        keep: &mut dyn FnMut(&Attempt) -> bool,
    ) -> Result<Stretch<Attempt, AttemptId>> {
        todo!()
    }

    /// Attempts for a message that `keep` wants. Blocks on the disk.
    pub fn attempts_of_message(
        &self,
        message: MessageId,
        window: &Window<AttemptId>,
        keep: &mut dyn FnMut(&Attempt) -> bool,
    ) -> Result<Stretch<Attempt, AttemptId>> {
        todo!()
    }

    /// The first deliveries of a lane behind `after`, in due order, due or not. Blocks on the disk.
    pub fn waiting(
        &self,
        lane: u64,
        after: Option<DeliveryKey>,
        limit: usize,
    ) -> Result<Vec<Delivery>> {
        todo!()
    }

    /// The first lane above `after` in which something waits. Blocks on the disk.
    pub fn next_lane(&self, after: Option<u64>) -> Result<Option<u64>> {
        todo!()
    }

    /// Writes the attempt to the log and moves its delivery to what the verdict says.
    pub async fn record_attempt(&self, finished: Finished) -> Result<()> {
        todo!()
    }

    /// Who is told of commits; set once, by the scheduler.
    pub fn attach(&self, listener: Box<dyn Fn(Event) + Send + Sync>) {
        todo!()
    }

    /// Whether publishing can be taken now; the reason if not.
    pub fn health(&self) -> Result<(), String> {
        todo!()
    }

    /// Stops taking changes, makes all that was taken durable and closes the databases.
    pub fn close(&self) -> Result<()> {
        todo!()
    }
}

/// What `verify-store` found.
#[derive(Debug, Default)]
pub struct VerifyReport {
    /// One line for each thing that is damaged.
    pub problems: Vec<String>,
    /// How many of each kind there are.
    pub counts: Vec<(String, u64)>,
}

/// What `restore` brought back.
#[derive(Debug, Default)]
pub struct RestoreReport {
    pub counts: Vec<(String, u64)>,
}

/// Replaces the default organisation's owner token while no server runs; returns where the new
/// one is written.
pub fn reset_owner(settings: Settings) -> Result<PathBuf, OpenError> {
    let _ = settings;
    todo!()
}

/// Reads everything that is stored and checks it, while no server runs.
pub fn verify(settings: Settings) -> Result<VerifyReport, OpenError> {
    let _ = settings;
    todo!()
}

/// Makes a new store from an export; never over an existing one.
pub fn restore(settings: Settings, from: &std::path::Path) -> Result<RestoreReport, OpenError> {
    let _ = (settings, from);
    todo!()
}
