//! Background jobs: sending many messages again, and counting.
//!
//! `server` starts the one thread that runs them all. A job takes turns: each looks at some
//! hundreds of messages at most and commits what it did with how far it has come, so that a job of
//! a million messages holds up no other, and neither a crash nor a restart repeats anything or
//! leaves it out. What a job is and how far it has come is in the store; the API makes and cancels
//! jobs there, and the commit wakes this thread. It also looks now and then unasked.
//!
//! A job that sends keeps only few of its deliveries due at a time and waits for those to be sent
//! before it goes on: what is published meanwhile waits behind that many, and other endpoints do
//! not notice. It waits, too, while the endpoint is disabled or held, the disk is nearly full or too many
//! deliveries wait in all.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::clock::Timestamp;
use crate::config::Config;
use crate::domain::id::JobId;
use crate::domain::job::{Job, JobState, Progress, Work};
use crate::error::{Error, Result};
use crate::rules::OwnCommand;
use crate::rules::decision::Itself;
use crate::rules::jobs::{EndJob, ForgetJobs, NoteProgress};
use crate::store::Store;
use crate::watched::{self, Kind};
use usage::Counting;

mod replay;
mod usage;

/// How long a job that has to wait waits before it looks again: longer each time, up to this.
const REST_MIN: Duration = Duration::from_millis(2);
const REST_MAX: Duration = Duration::from_secs(1);
/// How often jobs that are to be forgotten are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(1);

/// The deliveries of a lane that may be due when a job adds to them, whatever the lane can send at
/// a time: it is what a message that is published then waits behind.
const DUE_MAX: usize = 64;

/// What came of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Went,
    /// Something must happen first.
    Waits,
}

pub struct Jobs {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Jobs {
    /// Goes on with what was running when the process ended.
    pub fn start(store: Store, config: &Config) -> Jobs {
        let (stop, stopping) = watch::channel(false);
        // Twice what is in flight, so that the lane has work while the next step is committed.
        let due_max = (2 * config.delivery.in_flight_per_endpoint_max).clamp(2, DUE_MAX);
        let runner = Runner {
            store,
            due_max,
            stopping,
            resting: HashMap::new(),
            counting: HashMap::new(),
            forgot: Instant::now(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("the system has room for a thread at start");
        let store = runner.store.clone();
        let thread = store.spawn(Kind::Jobs, move || runtime.block_on(runner.run()));
        Jobs {
            stop,
            thread: Some(thread),
        }
    }

    /// Ends with the turn that is under way. What is not over goes on after the next start.
    pub async fn stop(&mut self) {
        self.stop.send_replace(true);
        let Some(thread) = self.thread.take() else {
            return;
        };
        drop(tokio::task::spawn_blocking(move || thread.join()).await);
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

struct Runner {
    store: Store,
    /// Deliveries that may be due in a lane with those that a job adds.
    due_max: usize,
    stopping: watch::Receiver<bool>,
    resting: HashMap<JobId, Rest>,
    /// What jobs have counted so far; they begin anew after a restart.
    counting: HashMap<JobId, Counting>,
    forgot: Instant,
}

struct Rest {
    until: Instant,
    pause: Duration,
}

impl Rest {
    fn after(earlier: Option<&Rest>, now: Instant) -> Rest {
        let pause = earlier.map_or(REST_MIN, |rest| (2 * rest.pause).min(REST_MAX));
        Rest {
            until: now + pause,
            pause,
        }
    }
}

/// Why a job ends at history that is damaged or missing between these times. The paths of files are for the
/// log alone: customers read this.
fn meets_damage(between: Option<(Timestamp, Timestamp)>) -> String {
    let reason = "a part of the history cannot be read, and the server's log says more";
    match between {
        None => reason.to_owned(),
        Some((from, to)) => format!(
            "{reason}; what is older than {from} and what is as new as {to} or newer can be asked for, by \
             until and since"
        ),
    }
}

impl Runner {
    async fn run(mut self) {
        let mut changed = self.store.jobs_changed();
        let mut stopping = self.stopping.clone();
        while !*stopping.borrow() {
            changed.borrow_and_update(); // Before we look: a commit in between is not missed.
            let pause = self.round().await;
            watched::idle_during(async {
                tokio::select! {
                    _ = tokio::time::sleep(pause) => {}
                    _ = changed.changed() => {}
                    _ = stopping.changed() => {}
                }
            })
            .await;
        }
    }

    /// Gives each job that does not rest a turn; returns how long none of them has anything to do.
    async fn round(&mut self) -> Duration {
        let running = self.running();
        let ids: HashSet<JobId> = running.iter().map(|job| job.id).collect();
        self.resting.retain(|id, _| ids.contains(id));
        self.counting.retain(|id, _| ids.contains(id));
        let mut pause = REST_MAX;
        for job in running {
            if *self.stopping.borrow() {
                break;
            }
            let now = Instant::now();
            let rest = self.resting.get(&job.id);
            if let Some(rest) = rest.filter(|rest| rest.until > now) {
                pause = pause.min(rest.until - now);
                continue;
            }
            let turn = watched::contained_future(self.turn(&job)).await;
            let turn = match turn {
                // It would meet the same damage in each turn, and tell nobody but the log.
                Ok(Err(Error::Unreadable { cause, between })) => {
                    log::error!("job {} ends at damaged history: {cause}", job.id);
                    self.fail(&job, &meets_damage(between)).await
                }
                Ok(turn) => turn,
                Err(watched::Panicked) => {
                    // It would do so again after each start.
                    self.counting.remove(&job.id);
                    let reason = "an error of the server ended it; the server's log says more";
                    self.fail(&job, reason).await
                }
            };
            let turn = turn.unwrap_or_else(|error| {
                let error = format!(
                    "job {} stopped early and goes on in a moment: {error}",
                    job.id
                );
                log::warn!("{error}");
                watched::note_error(error);
                Turn::Waits
            });
            match turn {
                Turn::Went => {
                    self.resting.remove(&job.id);
                    pause = Duration::ZERO;
                }
                Turn::Waits => {
                    let rest = Rest::after(self.resting.get(&job.id), Instant::now());
                    pause = pause.min(rest.pause);
                    self.resting.insert(job.id, rest);
                }
            }
        }
        self.forget().await;
        pause
    }

    fn running(&self) -> Vec<Arc<Job>> {
        let catalog = self.store.catalog();
        let running = catalog.jobs().filter(|job| job.is_running());
        running.cloned().collect()
    }

    async fn turn(&mut self, job: &Job) -> Result<Turn> {
        match &job.work {
            Work::Replay(replay) => self.replay(job, replay).await,
            Work::ApplicationUsage {
                since,
                until,
                applications,
            } => {
                let span = (*since, *until);
                self.count(job, span, applications.as_deref()).await
            }
            Work::EventTypeUsage => {
                let (result, progress) =
                    usage::event_types(&self.store.catalog(), job.organisation);
                self.found(job, result, progress).await
            }
        }
    }

    /// Ends a job with what it found out.
    async fn found(&self, job: &Job, result: String, progress: Progress) -> Result<Turn> {
        let problem = usage::problem(&result);
        self.change(EndJob {
            organisation: job.organisation,
            job: job.id,
            result: problem.is_none().then_some(result),
            state: problem.map_or(JobState::Finished, JobState::Failed),
            progress: Some(progress),
        })
        .await
    }

    async fn fail(&self, job: &Job, reason: &str) -> Result<Turn> {
        self.change(EndJob {
            organisation: job.organisation,
            job: job.id,
            result: None,
            state: JobState::Failed(reason.to_owned()),
            progress: None,
        })
        .await
    }

    async fn note(&self, job: &Job, progress: Progress) -> Result<Turn> {
        self.change(NoteProgress {
            organisation: job.organisation,
            job: job.id,
            progress,
        })
        .await
    }

    async fn change(&self, command: impl OwnCommand<Answer = ()>) -> Result<Turn> {
        self.store.change(Itself(command)).await?;
        Ok(Turn::Went)
    }

    /// Forgets jobs that have been over for long, or are too many.
    async fn forget(&mut self) {
        if self.forgot.elapsed() < FORGET_EVERY {
            return;
        }
        self.forgot = Instant::now();
        let now = self.store.clock().now();
        let is_due = !ForgetJobs::due(&self.store.catalog(), now).is_empty();
        if is_due && let Err(error) = self.change(ForgetJobs {}).await {
            let error = format!("jobs that are over were not forgotten: {error}");
            log::warn!("{error}");
            watched::note_error(error);
        }
    }
}
