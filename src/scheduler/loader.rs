//! Reads for the workers: stretches of a lane's queue, and messages.
//!
//! Reading blocks on the disk and a worker's thread must not, so workers send wishes to this thread and
//! get the results as events.

use std::ops::Bound;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use tokio::sync::mpsc::UnboundedSender;

use super::budget::Budget;
use super::ended::{self, Search};
use super::hosts::HostPlace;
use super::lane::{Entry, Stretch};
use super::worker::WorkerEvent;
use crate::domain::id::ApplicationId;
use crate::domain::message::{Delivery, DeliveryKey};
use crate::domain::retry::RetrySchedule;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::watched::{self, Kind};

/// Payload bytes that travel with one read; the rest is read when it is sent.
const READ_BYTES_MAX: usize = 256 << 10;

pub enum Wish {
    /// The lanes that belong to this worker and in which something waits.
    Lanes { worker: usize, workers: usize },
    /// A stretch of a lane's queue, with the messages of the deliveries that are due.
    Stretch(Stretch),
    /// A page of a lane's queue, searched for deliveries whose schedule has ended.
    Search(Search, RetrySchedule),
    /// The message of a delivery that is to be sent.
    Message {
        application: ApplicationId,
        delivery: Delivery,
        /// Travels with the message: the attempt begins when it is read.
        place: HostPlace,
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
        let reading = store.clone();
        store.spawn(Kind::Loader, move || run(&reading, &budget, &received));
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
    while let Ok((wish, answer)) = watched::idle_while(|| wishes.recv()) {
        // A worker that has stopped needs no answer.
        let tell = |event| drop(answer.send(event));
        match wish {
            Wish::Lanes { worker, workers } => {
                lanes(store, worker, workers, &tell);
                tell(WorkerEvent::LanesRead);
            }
            Wish::Stretch(stretch) => {
                let read = contained(|| read_stretch(store, budget, &stretch));
                let lane = stretch.lane;
                tell(WorkerEvent::Read { lane, read });
            }
            Wish::Search(search, schedule) => {
                let searched = contained(|| ended::search(store, &search, &schedule));
                let lane = search.lane;
                tell(WorkerEvent::Searched { lane, searched });
            }
            Wish::Message {
                application,
                delivery,
                place,
            } => {
                let message = contained(|| store.message(application, delivery.key.message));
                tell(WorkerEvent::Message {
                    delivery,
                    message,
                    place,
                });
            }
        }
    }
}

/// Reads, whatever happens in it, and notes what failed.
fn contained<T>(read: impl FnOnce() -> Result<T>) -> Result<T> {
    let read = watched::contained(read).unwrap_or(Err(Error::Defect));
    if let Err(error) = &read {
        watched::note_error(error);
    }
    read
}

/// Reports the lanes of a worker in which something waits. Where a place cannot be read, the next
/// registered lane is reported without a look, so that it reads its own part, and the search goes on
/// behind it. So the damage of one lane keeps no other from its deliveries.
fn lanes(store: &Store, worker: usize, workers: usize, tell: &impl Fn(WorkerEvent)) {
    let tell_lane = |lane| {
        if super::worker_of(lane, workers) == worker {
            tell(WorkerEvent::Lane { lane });
        }
    };
    let mut registered = None;
    let mut after = None;
    loop {
        let read = || {
            let next = store.next_lane(after)?;
            if let Some(lane) = next {
                watched::planned_panic("lane", lane);
            }
            Ok(next)
        };
        let next = match watched::contained(read).unwrap_or(Err(Error::Defect)) {
            Ok(next) => next,
            Err(error) => {
                if registered.is_none() {
                    log::error!("the lanes could not all be read: {error}");
                    watched::note_error(error);
                }
                let registered = registered.get_or_insert_with(|| store.catalog().lanes());
                registered
                    .range((
                        after.map_or(Bound::Unbounded, Bound::Excluded),
                        Bound::Unbounded,
                    ))
                    .next()
                    .copied()
            }
        };
        let Some(lane) = next else { return };
        tell_lane(lane);
        after = Some(lane);
    }
}

fn read_stretch(
    store: &Store,
    budget: &Arc<Budget>,
    stretch: &Stretch,
) -> Result<(Vec<Entry>, bool)> {
    let Stretch {
        lane,
        application,
        behind,
        limit,
    } = *stretch;
    watched::planned_panic("lane", lane);
    let behind = behind.map(|(due, message)| DeliveryKey { lane, due, message });
    let deliveries = store.waiting(lane, behind, limit)?;
    let whole = deliveries.len() < limit;
    let now = store.clock().now();
    let mut bytes = 0;
    let mut entries = Vec::with_capacity(deliveries.len());
    for delivery in deliveries {
        let wanted = delivery.key.due <= now && bytes < READ_BYTES_MAX;
        let message = match application.filter(|_| wanted) {
            // A message that cannot be read does not stop the others. It is reported when its own
            // turn has come.
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

/// A sentence about a delivery whose message is not in the store. An accepted message is never missing
/// while a delivery of it waits, so this is damage, and the log says so.
pub fn missing(delivery: &Delivery) -> String {
    let message = delivery.key.message;
    format!("{message} waits and its message is not in the store")
}

/// A sentence about a delivery whose message cannot be read; the server's log says why.
pub fn unreadable(delivery: &Delivery) -> String {
    let message = delivery.key.message;
    format!("{message} cannot be read from the store; no request was made")
}
