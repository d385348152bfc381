//! Decides when each delivery is attempted, and hands it to a delivery actor.
//!
//! `server` starts it with the store; from then on commits wake it. Endpoints are spread over the
//! workers by their number, and each worker is a thread of its own. The scheduler's memory is a cache of
//! the store: a restart and normal running are the same path.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{oneshot, watch};

use crate::clock::Timestamp;
use crate::config::{Config, VerifyEndpoints};
use crate::delivery;
use crate::domain::id::MessageId;
use crate::domain::message::DeliveryKey;
use crate::store::{Event, Store};
use crate::telemetry::{AttemptLog, Metrics};
use crate::watched::Kind;
use budget::Budget;
use challenges::{ChallengeEvent, Challenger};
use lane::{Entry, LaneLimits};
use loader::Loader;
use turns::TurnLimits;
use worker::{News, Worker, WorkerEvent};

pub use turns::LaneLook;

mod alarms;
mod budget;
mod challenges;
mod ended;
mod gate;
mod hosts;
mod lane;
mod loader;
#[cfg(test)]
mod simulation;
mod throttle;
mod turns;
mod worker;

/// Payloads in memory beside those that are being sent.
const KEPT_BYTES_MAX: usize = 32 << 20;

/// The state that all workers and their attempts share.
pub struct Shared {
    workers: usize,
    /// Those of one worker.
    limits: TurnLimits,
    retry_after_max: Duration,
    lane_retry_after_max: Duration,
    metrics: Arc<Metrics>,
    log: AttemptLog,
    budget: Arc<Budget>,
    throttles: throttle::Applications,
    hosts: hosts::Hosts,
}

impl Shared {
    fn new(config: &Config, now: Timestamp, metrics: Arc<Metrics>) -> Shared {
        let delivery = &config.delivery;
        let workers = delivery.workers;
        Shared {
            workers,
            limits: TurnLimits {
                slots: (delivery.in_flight_max / workers).max(1),
                lane: LaneLimits {
                    in_flight_max: delivery.in_flight_per_endpoint_max,
                    unrecorded_max: delivery.unrecorded_per_endpoint_max,
                },
            },
            retry_after_max: Duration::from_secs(delivery.retry_after_max_seconds),
            lane_retry_after_max: match delivery.retry_after_max_seconds {
                // The header counts for nothing.
                0 => Duration::ZERO,
                _ => Duration::from_secs(delivery.lane_retry_after_max_seconds),
            },
            metrics,
            log: AttemptLog::new(&config.log),
            budget: Budget::new(KEPT_BYTES_MAX),
            throttles: throttle::Applications::new(now),
            hosts: hosts::Hosts::new(delivery.in_flight_per_host_max),
        }
    }
}

/// A worker's state, as of its last look around.
#[derive(Clone, Copy, Debug, Default)]
pub struct WorkerStatus {
    /// Events from the store that it has taken in.
    pub handled: u64,
    /// Nothing is due, in flight, being read or being recorded.
    pub quiet: bool,
    pub next_due: Option<Timestamp>,
    /// When the delivery that waits longest was due; at most a second old.
    pub oldest_due: Option<Timestamp>,
    pub in_flight: usize,
}

/// Asks the workers how lanes do.
#[derive(Clone)]
pub struct Lanes(Vec<UnboundedSender<WorkerEvent>>);

impl Lanes {
    /// How these lanes do; those in which nothing goes on may be left out.
    pub async fn look(&self, lanes: Arc<[u64]>) -> Vec<LaneLook> {
        self.ask(|answer| WorkerEvent::Look {
            lanes: lanes.clone(),
            answer,
        })
        .await
    }

    /// The deliveries of these lanes that are being sent, or whose outcome is not stored yet; only
    /// those of a message where one is given.
    pub async fn sending(&self, lanes: Arc<[u64]>, message: Option<MessageId>) -> Vec<DeliveryKey> {
        self.ask(|answer| WorkerEvent::Sending {
            lanes: lanes.clone(),
            message,
            answer,
        })
        .await
    }

    /// Asks all workers before it waits for the first.
    async fn ask<T>(&self, question: impl Fn(oneshot::Sender<Vec<T>>) -> WorkerEvent) -> Vec<T> {
        let each = self.0.iter();
        let asked: Vec<_> = each
            .map(|worker| {
                let (answer, answered) = oneshot::channel();
                drop(worker.send(question(answer)));
                answered
            })
            .collect();
        let mut answers = Vec::new();
        for answered in asked {
            // A worker that has stopped knows nothing more.
            answers.extend(answered.await.unwrap_or_default());
        }
        answers
    }
}

pub struct Scheduler {
    lanes: Lanes,
    shared: Arc<Shared>,
    told: Arc<Vec<AtomicU64>>,
    workers: Vec<(JoinHandle<()>, watch::Receiver<WorkerStatus>)>,
    /// Present where endpoints are verified.
    challenges: Option<UnboundedSender<ChallengeEvent>>,
    /// Present where endpoints are not verified: releases the deliveries held for want of it.
    releasing: Option<tokio::task::JoinHandle<()>>,
    stop: watch::Sender<bool>,
    store: Store,
}

/// The worker that has this lane.
fn worker_of(lane: u64, workers: usize) -> usize {
    (lane % workers as u64) as usize
}

impl Scheduler {
    /// Starts the workers; each begins to deliver as soon as it has found due deliveries.
    pub fn start(
        store: Store,
        config: &Config,
        send_settings: Arc<delivery::SendSettings>,
        metrics: Arc<Metrics>,
    ) -> Scheduler {
        let workers = config.delivery.workers;
        let shared = Arc::new(Shared::new(config, store.clock().now(), metrics));
        let (stop, _) = watch::channel(false);
        let loader = Loader::start(store.clone(), shared.budget.clone());
        let told: Arc<Vec<AtomicU64>> = Arc::new((0..workers).map(|_| AtomicU64::new(0)).collect());
        let mut senders = Vec::new();
        let mut handles = Vec::new();
        for number in 0..workers {
            let (sender, status, handle) = start_worker(
                number,
                &shared,
                &store,
                &loader,
                &send_settings,
                stop.subscribe(),
            );
            senders.push(sender);
            handles.push((handle, status));
        }
        let lanes = Lanes(senders.clone());
        let (challenges, releasing) = match config.delivery.verify_endpoints {
            VerifyEndpoints::Challenge => {
                let (sender, events) = unbounded_channel();
                start_challenger(&shared, &store, &send_settings, (&sender, events), &stop);
                (Some(sender), None)
            }
            VerifyEndpoints::Off => {
                let release = challenges::release_all(store.clone(), stop.subscribe());
                (None, Some(actix_rt::spawn(release)))
            }
        };
        let waiting_room = shared.budget.clone();
        attach(
            &store,
            senders,
            told.clone(),
            waiting_room,
            challenges.clone(),
        );
        Scheduler {
            lanes,
            shared,
            told,
            workers: handles,
            challenges,
            releasing,
            stop,
            store,
        }
    }

    /// Gives these settings to attempts that begin from now on; those under way keep theirs.
    pub fn reload(&self, settings: &Arc<delivery::SendSettings>) {
        for worker in &self.lanes.0 {
            // A worker that has stopped sends nothing more.
            let _ = worker.send(WorkerEvent::Settings(settings.clone()));
        }
        if let Some(challenges) = &self.challenges {
            let _ = challenges.send(ChallengeEvent::Settings(settings.clone()));
        }
    }

    /// Stops sending; returns once the attempts in flight have ended and their outcomes are durable.
    pub async fn drain(&mut self) {
        self.stop.send_replace(true);
        for (_, status) in &mut self.workers {
            // A worker's status channel closes when it has ended.
            while status.changed().await.is_ok() {}
        }
        if let Some(releasing) = self.releasing.take() {
            // A panic of it was logged.
            let _ = releasing.await;
        }
    }

    /// Nothing is queued, due, in flight or unrecorded anywhere.
    pub fn is_settled(&self) -> bool {
        let now = self.store.clock().now();
        let quiet = |number: usize| {
            let status = *self.workers[number].1.borrow();
            // A clock that was stepped may be ahead of the worker's last look.
            let awake = status.next_due.is_none_or(|due| due > now);
            awake && status.quiet && status.handled == self.told[number].load(Ordering::Acquire)
        };
        // The order matters: a commit that ends after the first look makes a worker unquiet before
        // the second.
        self.store.is_idle() && (0..self.shared.workers).all(quiet) && self.store.is_idle()
    }

    /// When something is due that is not due now.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.workers
            .iter()
            .filter_map(|(_, status)| status.borrow().next_due)
            .min()
    }

    /// When the delivery that waits longest was due, where one is overdue.
    pub fn oldest_due(&self) -> Option<Timestamp> {
        self.workers
            .iter()
            .filter_map(|(_, status)| status.borrow().oldest_due)
            .min()
    }

    pub fn lanes(&self) -> Lanes {
        self.lanes.clone()
    }

    /// Lanes that wait for a place at their host.
    pub fn waiting_for_host(&self) -> usize {
        self.shared.hosts.waiting()
    }

    /// Attempts being sent now.
    pub fn in_flight(&self) -> usize {
        self.workers
            .iter()
            .map(|(_, status)| status.borrow().in_flight)
            .sum()
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

fn start_worker(
    number: usize,
    shared: &Arc<Shared>,
    store: &Store,
    loader: &Loader,
    send_settings: &Arc<delivery::SendSettings>,
    stop: watch::Receiver<bool>,
) -> (
    UnboundedSender<WorkerEvent>,
    watch::Receiver<WorkerStatus>,
    JoinHandle<()>,
) {
    let (sender, events) = unbounded_channel();
    let (status, status_seen) = watch::channel(WorkerStatus::default());
    let (shared, store, loader) = (shared.clone(), store.clone(), loader.clone());
    let news = sender.clone();
    let send_settings = send_settings.clone();
    let sending = store.clone();
    let handle = store.spawn(Kind::Delivery(number), move || {
        actix_rt::System::new().block_on(async move {
            Worker::new(number, shared, sending, loader, send_settings, news)
                .run(events, status, stop)
                .await;
        });
    });
    (sender, status_seen, handle)
}

fn start_challenger(
    shared: &Arc<Shared>,
    store: &Store,
    settings: &Arc<delivery::SendSettings>,
    (sender, events): (
        &UnboundedSender<ChallengeEvent>,
        UnboundedReceiver<ChallengeEvent>,
    ),
    stop: &watch::Sender<bool>,
) {
    let (shared, store, settings) = (shared.clone(), store.clone(), settings.clone());
    let (news, stop) = (sender.clone(), stop.subscribe());
    let challenged = store.clone();
    // It ends by itself at `stop`, and none of its work must be waited for.
    store.spawn(Kind::Challenges, move || {
        actix_rt::System::new().block_on(async move {
            Challenger::new(shared, challenged, settings, news)
                .run(events, stop)
                .await;
        });
    });
}

/// From now on commits wake the workers whose lanes they concern.
fn attach(
    store: &Store,
    senders: Vec<UnboundedSender<WorkerEvent>>,
    told: Arc<Vec<AtomicU64>>,
    budget: Arc<Budget>,
    challenges: Option<UnboundedSender<ChallengeEvent>>,
) {
    store.attach(Box::new(move |event| {
        let lane = match &event {
            Event::Waiting { delivery, .. } => delivery.key.lane,
            Event::Gone(key) | Event::Recorded(key) => key.lane,
            Event::Endpoint { lane } | Event::Health { lane } | Event::Expunged { lane, .. } => {
                *lane
            }
        };
        let number = worker_of(lane, senders.len());
        told[number].fetch_add(1, Ordering::Release);
        let news = match event {
            Event::Waiting { delivery, message } => {
                let message = message.and_then(|message| budget.keep(message));
                News::Waiting(Entry { delivery, message })
            }
            Event::Gone(key) => News::Gone(key),
            Event::Recorded(key) => News::Recorded(key),
            Event::Endpoint { lane } => {
                if let Some(challenges) = &challenges {
                    // Nor does the thread that has stopped.
                    let _ = challenges.send(ChallengeEvent::Endpoint(lane));
                }
                News::Endpoint { lane }
            }
            Event::Health { lane } => News::Health { lane },
            Event::Expunged { lane, message } => News::Expunged { lane, message },
        };
        // A worker that has stopped for good needs no news.
        let _ = senders[number].send(WorkerEvent::Stored(news));
    }));
}
