//! Reads for the workers: stretches of a lane's queue, and messages.
//!
//! Reading blocks on the disk and a worker's thread must not, so workers send wishes to this
//! thread and get what was read as events.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use super::budget::Budget;
use super::lane::{Entry, Place};
use super::worker::WorkerEvent;
use crate::domain::id::ApplicationId;
use crate::domain::message::{Delivery, DeliveryKey};
use crate::error::{Error, Result};
use crate::store::Store;
use crate::watched;

/// Payload bytes that travel with one read; the rest is read when it is sent.
const READ_BYTES_MAX: usize = 256 << 10;

/// How long after a failure the lanes are read again.
const LANES_AGAIN: Duration = Duration::from_secs(1);

pub enum Wish {
    /// The lanes that belong to this worker and in which something waits.
    Lanes { worker: usize, workers: usize },
    /// A stretch of a lane's queue, with the messages of what is due.
    Stretch {
        lane: u64,
        application: Option<ApplicationId>,
        behind: Option<Place>,
        limit: usize,
    },
    /// The message of a delivery that is to be sent.
    Message {
        application: ApplicationId,
        delivery: Delivery,
    },
}

/// A worker's way to the loader.
#[derive(Clone)]
pub struct Loader {
    wishes: Sender<(Wish, UnboundedSender<WorkerEvent>)>,
}

impl Loader {
    pub fn start(store: Store, budget: Arc<Budget>) -> Loader {
        let (wishes, received) = channel();
        // It ends by itself when the last worker has dropped its way to it.
        let failing = store.clone();
        watched::spawn(
            "loader",
            move |thread| failing.thread_panicked(thread),
            move || run(&store, &budget, &received),
        );
        Loader { wishes }
    }

    pub fn wish(&self, wish: Wish, answer: &UnboundedSender<WorkerEvent>) {
        // The loader outlives the workers, so there is always somebody to take it.
        let _ = self.wishes.send((wish, answer.clone()));
    }
}

fn run(
    store: &Store,
    budget: &Arc<Budget>,
    wishes: &Receiver<(Wish, UnboundedSender<WorkerEvent>)>,
) {
    while let Ok((wish, answer)) = wishes.recv() {
        // A worker that has stopped needs no answer.
        let tell = |event| drop(answer.send(event));
        match wish {
            Wish::Lanes { worker, workers } => {
                let read = || {
                    let read = watched::contained(|| lanes(store, worker, workers, &tell));
                    read.unwrap_or(Err(Error::Defect))
                };
                while let Err(error) = read() {
                    log::error!("the lanes could not be read: {error}");
                    // A defect comes again with every try, or nobody waits for them any more.
                    let is_defect = matches!(error, Error::Defect);
                    if is_defect || answer.is_closed() || store.failure().is_some() {
                        break;
                    }
                    std::thread::sleep(LANES_AGAIN);
                }
                tell(WorkerEvent::LanesRead);
            }
            Wish::Stretch {
                lane,
                application,
                behind,
                limit,
            } => {
                let read = || stretch(store, budget, lane, application, behind, limit);
                let read = watched::contained(read).unwrap_or(Err(Error::Defect));
                tell(WorkerEvent::Read { lane, read });
            }
            Wish::Message {
                application,
                delivery,
            } => {
                let read = || store.message(application, delivery.key.message);
                let message = watched::contained(read).unwrap_or(Err(Error::Defect));
                tell(WorkerEvent::Message { delivery, message });
            }
        }
    }
}

fn lanes(store: &Store, worker: usize, workers: usize, tell: &impl Fn(WorkerEvent)) -> Result<()> {
    let mut after = None;
    while let Some(lane) = store.next_lane(after)? {
        if super::worker_of(lane, workers) == worker {
            tell(WorkerEvent::Lane { lane });
        }
        after = Some(lane);
    }
    Ok(())
}

fn stretch(
    store: &Store,
    budget: &Arc<Budget>,
    lane: u64,
    application: Option<ApplicationId>,
    behind: Option<Place>,
    limit: usize,
) -> Result<(Vec<Entry>, bool)> {
    let behind = behind.map(|(due, message)| DeliveryKey { lane, due, message });
    let deliveries = store.waiting(lane, behind, limit)?;
    let whole = deliveries.len() < limit;
    let now = store.clock().now();
    let mut bytes = 0;
    let mut entries = Vec::with_capacity(deliveries.len());
    for delivery in deliveries {
        let wanted = delivery.key.due <= now && bytes < READ_BYTES_MAX;
        let message = match application.filter(|_| wanted) {
            // One that cannot be read is none of the others' business: it is told when its own turn
            // has come.
            Some(application) => store
                .message(application, delivery.key.message)
                .unwrap_or_default(),
            None => None,
        };
        bytes += message.as_ref().map_or(0, |message| message.payload.len());
        let message = message.and_then(|message| budget.keep(message));
        entries.push(Entry { delivery, message });
    }
    Ok((entries, whole))
}

/// What stands in for a message that is not there: nothing that was accepted is ever missing
/// while it waits, so this is damage, and the log says so.
pub fn missing(delivery: &Delivery) -> String {
    let message = delivery.key.message;
    format!("{message} waits and its message is not in the store")
}

/// What the log of attempts says of a message that cannot be read; the server's log says why.
pub fn unreadable(delivery: &Delivery) -> String {
    let message = delivery.key.message;
    format!("{message} cannot be read from the store; no request was made")
}
