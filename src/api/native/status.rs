//! The server's state and its current problems: `GET /api/v1/status`, for owners.
//!
//! Applications, endpoints and jobs are shown for the caller's organisation. Figures of the whole
//! process (disk, samples, all deliveries) are shown only to the owner of the first organisation.
//! All figures are in memory, except for the due time of each lane's first delivery, which is read
//! on a thread that may block.

use std::collections::HashSet;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web;
use schemars::JsonSchema;
use serde::Serialize;

use super::jobs::pause;
use crate::api::kit::call::{Call, Reply};
use crate::api::kit::context::Context;
use crate::api::kit::extract::{json, optional_text, text};
use crate::api::kit::operation::Operation;
use crate::catalog::ApplicationEntry;
use crate::catalog::Catalog;
use crate::clock::Timestamp;
use crate::domain::endpoint::Endpoint;
use crate::domain::id::{ApplicationId, EndpointId, JobId, OrganisationId};
use crate::domain::job::{Job, JobState};
use crate::rules::caller::Action;
use crate::shortage::Shortage;
use crate::store::{Space, Unreadable, WaitingCounts};
use crate::telemetry::Sample;
use backup::BackupOut;
use breakers::{BreakersOut, DisabledOut};
use holds::HoldsOut;
use threads::ThreadOut;

mod backup;
mod breakers;
mod holds;
mod threads;

/// A lane whose first delivery has been due for longer is late.
const LATE: Duration = Duration::from_secs(5 * 60);
const LATE_MAX: usize = 10;
const FAILING_MAX: usize = 20;
const LARGE_MAX: usize = 20;
const UNREADABLE_MAX: usize = 50;
/// How long a job that has failed is a problem.
const JOB_FAILED_LATELY: Duration = Duration::from_secs(24 * 3600);

/// The state of the server.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct StatusOut {
    version: &'static str,
    #[serde(serialize_with = "text")]
    started_at: Timestamp,
    #[serde(serialize_with = "text")]
    now: Timestamp,
    health: HealthOut,
    /// Deliveries that wait, due or not, held ones included. Null for other organisations than the
    /// first.
    waiting: Option<u64>,
    /// The part of them that is held: their endpoint is disabled, not verified, or held by the
    /// operator. Null for other organisations than the first.
    held: Option<u64>,
    /// Endpoints of the organisation that the operator holds; null where there are none.
    holds: Option<HoldsOut>,
    breakers: BreakersOut,
    disabled_automatically: DisabledOut,
    /// Requests under way. Null for other organisations than the first.
    in_flight: Option<u64>,
    /// How long the oldest due delivery has been due that is not held back by its endpoint. Null for other organisations than the first.
    oldest_due_seconds: Option<f64>,
    /// Null for other organisations than the first.
    store: Option<StoreOut>,
    /// Null where the store is not copied (`backup.to`), and for other organisations than the first.
    backup: Option<BackupOut>,
    registrations: RegistrationsOut,
    /// One for every five seconds of the last half an hour, oldest first. None for other
    /// organisations than the first.
    samples: Vec<SampleOut>,
    /// The threads of the server, in the order in which they started. None for other organisations than
    /// the first.
    threads: Vec<ThreadOut>,
    /// The worst first.
    problems: Vec<Problem>,
}

#[derive(Serialize, JsonSchema)]
struct HealthOut {
    #[schemars(extend("enum" = ["ok", "failed"]))]
    status: &'static str,
    /// Why messages cannot be accepted.
    reason: Option<String>,
}

/// The store's files on the disk.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct StoreOut {
    /// The bytes of the queue and the registrations.
    live_bytes: u64,
    /// The bytes of the history.
    slices_bytes: u64,
    slices: usize,
    /// When the oldest history begins.
    #[serde(serialize_with = "optional_text")]
    oldest_at: Option<Timestamp>,
    /// Free bytes on the disk; null where the system does not tell.
    free_bytes: Option<u64>,
    /// Files that the database would not make durable; anything but 0 is a defect.
    blob_files: usize,
    /// Deleted applications whose messages and attempts still have content on disk: it is being erased.
    erasures: usize,
}

impl StoreOut {
    fn new(space: Space, erasures: usize) -> Self {
        StoreOut {
            live_bytes: space.live_bytes,
            slices_bytes: space.slices_bytes,
            slices: space.slices,
            oldest_at: space.oldest_at,
            free_bytes: space.free_bytes,
            blob_files: space.blob_files,
            erasures,
        }
    }
}

/// The numbers of registrations in the caller's organisation.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RegistrationsOut {
    applications: usize,
    endpoints: usize,
    event_types: usize,
    /// Tokens, without those of portal links.
    tokens: usize,
}

impl RegistrationsOut {
    fn of(catalog: &Catalog, organisation: OrganisationId) -> RegistrationsOut {
        let applications = || catalog.applications(organisation);
        let tokens = catalog.tokens();
        RegistrationsOut {
            applications: applications().count(),
            endpoints: applications().map(|entry| entry.endpoints.len()).sum(),
            event_types: catalog.event_types(organisation).count(),
            tokens: tokens
                .filter(|token| token.organisation == organisation && token.session.is_none())
                .count(),
        }
    }
}

/// Counts since the sample before.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct SampleOut {
    #[serde(serialize_with = "text")]
    at: Timestamp,
    /// Messages that were accepted.
    accepted: u64,
    /// Attempts.
    delivered: u64,
    /// Attempts.
    failed: u64,
    /// The time from the publication to the receiver's answer, for messages delivered at the first
    /// attempt; accurate to an eighth. Null where there were none.
    latency_ms_p50: Option<f64>,
    latency_ms_p95: Option<f64>,
}

impl From<Sample> for SampleOut {
    fn from(sample: Sample) -> Self {
        SampleOut {
            at: sample.at,
            accepted: sample.accepted,
            delivered: sample.delivered,
            failed: sample.failed,
            latency_ms_p50: sample.latency_ms.map(|(median, _)| median),
            latency_ms_p95: sample.latency_ms.map(|(_, most)| most),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Severity {
    Critical,
    Warning,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Kind {
    StoreFailed,
    LowSpace,
    StoreDamaged,
    BlobFiles,
    /// The copy of the store (`backup.to`) was read and something in it is damaged or missing.
    BackupDamaged,
    /// The copy cannot be made, is five minutes behind, or could not be verified for a day.
    BackupBehind,
    /// At least half as many deliveries wait, or are held, as may; a critical problem from four
    /// fifths on.
    BacklogHigh,
    /// At least half of one application's share is in use, in the same way.
    ApplicationBacklogHigh,
    /// A lane's first delivery has been due for more than five minutes, and the lane does not rest.
    LaneLate,
    /// Mails about endpoints do not reach the operator.
    NotifyFailing,
    /// Every attempt of this hour and the last has failed.
    EndpointFailing,
    /// Endpoints have an open breaker: nothing but probes is sent to them.
    EndpointsOpen,
    /// The operator holds endpoints, for which messages wait until they are released.
    EndpointsHeld,
    /// A job has failed within the last day.
    TaskFailed,
    TaskPaused,
    PrivateAddresses,
    /// There are links to the portal, and `server.public_url` is not set.
    NoPublicUrl,
    /// File descriptors have run out within the last seconds: deliveries wait without an attempt.
    FileDescriptors,
    /// The kernel has no memory for more sockets: deliveries wait in the same way.
    SocketMemory,
    /// No local port is free for connections to some address: deliveries to its endpoints wait in
    /// the same way.
    LocalPorts,
}

/// A problem that somebody should look at.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "StatusProblem")]
struct Problem {
    severity: Severity,
    kind: Kind,
    /// A sentence for people.
    message: String,
    #[serde(serialize_with = "optional_text")]
    application_id: Option<ApplicationId>,
    application_name: Option<String>,
    #[serde(serialize_with = "optional_text")]
    endpoint_id: Option<EndpointId>,
    /// The endpoint's URL.
    url: Option<String>,
    #[serde(serialize_with = "optional_text")]
    task_id: Option<JobId>,
}

impl Problem {
    fn new(severity: Severity, kind: Kind, message: impl Into<String>) -> Problem {
        Problem {
            severity,
            kind,
            message: message.into(),
            application_id: None,
            application_name: None,
            endpoint_id: None,
            url: None,
            task_id: None,
        }
    }

    fn of_application(self, application: &ApplicationEntry) -> Problem {
        let application = &application.application;
        let of_customer = !application.id.is_operational(application.organisation);
        let application = of_customer.then_some(application);
        Problem {
            application_id: application.map(|one| one.id),
            application_name: application.map(|one| one.name.clone()),
            ..self
        }
    }

    fn of_endpoint(self, application: &ApplicationEntry, endpoint: &Endpoint) -> Problem {
        // The organisation's own endpoints are no customer's.
        let application = (!endpoint.is_operational()).then_some(&application.application);
        Problem {
            application_id: application.map(|one| one.id),
            application_name: application.map(|one| one.name.clone()),
            endpoint_id: Some(endpoint.id),
            url: Some(endpoint.url.clone()),
            ..self
        }
    }
}

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/v1/status", "v1.status.get", web::to(get))
            .summary("Show the server's state and its current problems")
            .description(
                "Applications, endpoints and background jobs are those of the caller's \
                 organisation. What is the whole process's is told to the owner of the first \
                 organisation alone: the store, samples, threads, and the deliveries of all.",
            )
            .answers::<StatusOut>(200, "The status"),
    ]
}

pub async fn get(call: Call) -> Reply {
    let (caller, context) = (call.caller, &call.context);
    caller.may(Action::ReadStatus)?;
    let store = context.store.clone();
    let heads = call.reading(move || store.lane_heads()).await?;
    let now = context.store.clock().now();
    let failing = context.store.failing_lanes();
    let resting = context.store.resting();
    let health = context.store.health();
    let is_first = context.store.first_organisation() == Some(caller.organisation);
    let metrics = &context.metrics;
    let space = context.store.space();
    let limits = &context.config.limits;
    let share = limits.waiting_per_application_max;

    let mut problems = Vec::new();
    if is_first {
        let process = Process {
            failure: context.store.failure().map(|fault| fault.to_string()),
            space,
            free_bytes_min: context.config.store.min_free_bytes,
            damage: metrics.store_problems.get(),
            damaged_files: context.store.damaged_files(),
            unreadable_slices: context.store.unreadable_slices(),
            waits: context.store.waits(),
            waiting_max: limits.waiting_max,
            held_max: limits.held_max,
            private_addresses: context
                .config
                .delivery
                .danger_allow_private_addresses
                .iter()
                .map(ToString::to_string)
                .collect(),
            shortages: metrics.shortages.current(now),
            notify: metrics.notify().failing,
            link: context.config.server.link_problem().filter(|_| {
                let catalog = context.store.catalog();
                catalog.tokens().any(|token| token.session.is_some())
            }),
        };
        problems.extend(process.problems());
        let copied = metrics.backup();
        problems.extend(copied.iter().flat_map(|state| backup::problems(state, now)));
    }
    let catalog = context.store.catalog();
    let ours = Ours {
        catalog: &catalog,
        organisation: caller.organisation,
        now,
    };
    let holds = HoldsOut::of(&context.store, &catalog, caller.organisation);
    problems.extend(holds.as_ref().map(HoldsOut::problem));
    let breakers = BreakersOut::of(&context.store, &catalog, caller.organisation, &resting);
    problems.extend(breakers.problem());
    problems.extend(ours.unreadable(context.store.unreadable()));
    let rests: HashSet<u64> = resting.iter().map(|(lane, _)| *lane).collect();
    problems.extend(ours.late(&heads, &rests));
    problems.extend(ours.failing(failing));
    problems.extend(ours.large(context.store.large_backlogs(share.div_ceil(2)), share));
    let jobs = catalog.jobs().rev();
    problems.extend(
        jobs.filter(|job| job.organisation == caller.organisation)
            .filter_map(|job| ours.of_job(job, pause(&context.store, &catalog, job))),
    );
    // Problems of the same severity stay in this order.
    problems.sort_by_key(|problem| problem.severity);
    let of_process = |figure: i64| is_first.then(|| u64::try_from(figure).unwrap_or_default());
    let status = StatusOut {
        version: env!("CARGO_PKG_VERSION"),
        started_at: context.started_at,
        now,
        health: HealthOut {
            status: if health.is_ok() { "ok" } else { "failed" },
            reason: health.err(),
        },
        waiting: is_first.then(|| context.store.waiting_count()),
        held: is_first.then(|| context.store.waits().held),
        holds,
        breakers,
        disabled_automatically: DisabledOut::of(&catalog, caller.organisation),
        in_flight: of_process(metrics.in_flight.get()),
        oldest_due_seconds: is_first.then(|| metrics.oldest_due_seconds.get()),
        store: is_first.then(|| StoreOut::new(space, context.store.erasures())),
        backup: metrics.backup().filter(|_| is_first).map(BackupOut::from),
        registrations: RegistrationsOut::of(&catalog, caller.organisation),
        samples: match is_first {
            true => metrics.samples().into_iter().map(SampleOut::from).collect(),
            false => Vec::new(),
        },
        threads: match is_first {
            true => list_threads(context),
            false => Vec::new(),
        },
        problems,
    };
    drop(catalog);
    Ok(json(StatusCode::OK, &status))
}

fn list_threads(context: &Context) -> Vec<ThreadOut> {
    let threads = context.store.threads().list().into_iter();
    threads.map(ThreadOut::from).collect()
}

/// Returns the severity of `count` waiting deliveries where at most `max` may wait; nothing below
/// half.
fn severity_of(count: u64, max: u64) -> Option<Severity> {
    let (count, max) = (u128::from(count), u128::from(max));
    match () {
        _ if max > 0 && count * 5 >= max * 4 => Some(Severity::Critical),
        _ if max > 0 && count * 2 >= max => Some(Severity::Warning),
        _ => None,
    }
}

/// The possible problems of the process.
#[derive(Default)]
struct Process {
    failure: Option<String>,
    space: Space,
    free_bytes_min: u64,
    /// The number of signs of damage since the start.
    damage: i64,
    /// The damage that the start found, a sentence each.
    damaged_files: Vec<String>,
    /// The slices of which something cannot be read, with the reasons.
    unreadable_slices: Vec<(u32, String)>,
    waits: WaitingCounts,
    waiting_max: u64,
    held_max: u64,
    private_addresses: Vec<String>,
    /// Why existing links to the portal may lead nowhere.
    link: Option<String>,
    /// The resources that this machine lacks at the moment.
    shortages: Vec<Shortage>,
    /// Since when mails do not reach the operator, and why.
    notify: Option<(Timestamp, String)>,
}

impl Process {
    fn problems(&self) -> Vec<Problem> {
        use Severity::{Critical, Warning};
        let mut problems = Vec::new();
        if let Some(failure) = &self.failure {
            let message = format!("Nothing is accepted until the next start: {failure}");
            problems.push(Problem::new(Critical, Kind::StoreFailed, message));
        }
        let min = self.free_bytes_min;
        match self.space.free_bytes {
            Some(free) if free < min => {
                let message = format!(
                    "{free} bytes are free on the disk, less than store.min_free_bytes ({min}): \
                     publishing is refused."
                );
                problems.push(Problem::new(Critical, Kind::LowSpace, message));
            }
            Some(free) if free < min.saturating_mul(2) => {
                let message = format!(
                    "{free} bytes are free on the disk; below {min} (store.min_free_bytes) \
                     publishing is refused."
                );
                problems.push(Problem::new(Warning, Kind::LowSpace, message));
            }
            _ => {}
        }
        if self.damage > 0 {
            let message = format!(
                "Damage to the store was noticed since the start, {} times; the log says where, and \
                 `postrider verify-store` looks at all of it.",
                self.damage
            );
            problems.push(Problem::new(Critical, Kind::StoreDamaged, message));
        }
        for told in self.damaged_files.iter().take(UNREADABLE_MAX) {
            let message = format!("{told}.");
            problems.push(Problem::new(Critical, Kind::StoreDamaged, message));
        }
        for (number, reason) in self.unreadable_slices.iter().take(UNREADABLE_MAX) {
            let message = format!(
                "Something in slice {number} of the history cannot be read: {reason}. What needs it is \
                 answered 503, and so are requests with an idempotency key or an event id that may be in \
                 it, until it is older than a day."
            );
            problems.push(Problem::new(Critical, Kind::StoreDamaged, message));
        }
        if self.space.blob_files > 0 {
            let message = format!(
                "The database has {} files that are not made durable.",
                self.space.blob_files
            );
            problems.push(Problem::new(Critical, Kind::BlobFiles, message));
        }
        for shortage in &self.shortages {
            let kind = match shortage {
                Shortage::Files => Kind::FileDescriptors,
                Shortage::Memory => Kind::SocketMemory,
                Shortage::Ports => Kind::LocalPorts,
            };
            problems.push(Problem::new(Critical, kind, shortage.sentence()));
        }
        for (count, max, what) in [
            (
                self.waits.to_send,
                self.waiting_max,
                "deliveries wait to be sent, of {max} that may (limits.waiting_max)",
            ),
            (
                self.waits.held,
                self.held_max,
                "deliveries are held, of {max} that may be (limits.held_max)",
            ),
        ] {
            let what = what.replace("{max}", &max.to_string());
            problems.extend(severity_of(count, max).map(|severity| {
                let message = format!(
                    "{count} {what}; when that many do, publishing is refused for everybody."
                );
                Problem::new(severity, Kind::BacklogHigh, message)
            }));
        }
        if !self.private_addresses.is_empty() {
            let message = format!(
                "Endpoints may reach private addresses: {} \
                 (delivery.danger_allow_private_addresses).",
                self.private_addresses.join(", ")
            );
            problems.push(Problem::new(Warning, Kind::PrivateAddresses, message));
        }
        if let Some((since, reason)) = &self.notify {
            let message =
                format!("Mails about endpoints do not reach everybody since {since}: {reason}.");
            problems.push(Problem::new(Warning, Kind::NotifyFailing, message));
        }
        if let Some(link) = &self.link {
            problems.push(Problem::new(
                Warning,
                Kind::NoPublicUrl,
                format!("The {link}."),
            ));
        }
        problems
    }
}

/// The possible problems of an organisation's registrations.
struct Ours<'a> {
    catalog: &'a Catalog,
    organisation: OrganisationId,
    now: Timestamp,
}

impl<'a> Ours<'a> {
    /// Returns the application and the endpoint of a lane of the organisation that sends.
    fn lane(&self, lane: u64) -> Option<(&'a ApplicationEntry, &'a Endpoint)> {
        let (entry, endpoint) = self.catalog.lane(lane)?;
        let sends = endpoint.organisation == self.organisation && !endpoint.is_held();
        sends.then_some((&**entry, &**endpoint))
    }

    /// Returns problems for waiting deliveries whose message is damaged or gone.
    fn unreadable(&self, found: Vec<Unreadable>) -> Vec<Problem> {
        let ours = found.into_iter().filter_map(|found| {
            let (entry, endpoint) = self.catalog.lane(found.lane)?;
            let what = match found.message {
                Some(message) => format!("{message} waits and cannot be read"),
                None => "The queue of this endpoint cannot be read".to_owned(),
            };
            let message = format!("{what}: {}.", found.reason);
            let problem = Problem::new(Severity::Critical, Kind::StoreDamaged, message);
            let is_ours = endpoint.organisation == self.organisation;
            is_ours.then(|| problem.of_endpoint(entry, endpoint))
        });
        ours.take(UNREADABLE_MAX).collect()
    }

    /// Returns problems for lanes that are late, except for those that rest; `heads` has when each lane's first delivery
    /// is or was due.
    fn late(&self, heads: &[(u64, Timestamp)], resting: &HashSet<u64>) -> Vec<Problem> {
        let late = heads.iter().filter_map(|(lane, due)| {
            let late = self.now.since(*due);
            (late > LATE && !resting.contains(lane)).then_some((late, self.lane(*lane)?))
        });
        let mut late: Vec<_> = late.collect();
        late.sort_by_key(|(late, _)| std::cmp::Reverse(*late));
        let late = late.into_iter().take(LATE_MAX);
        let problem = |(late, (entry, endpoint)): (Duration, (&_, &Endpoint))| {
            let minutes = late.as_secs() / 60;
            let message = format!("A delivery has been due for {minutes} minutes.");
            Problem::new(Severity::Warning, Kind::LaneLate, message).of_endpoint(entry, endpoint)
        };
        late.map(problem).collect()
    }

    /// Returns problems for endpoints where every attempt failed; `failing` has the lanes with the
    /// number of failures.
    fn failing(&self, failing: Vec<(u64, u64)>) -> Vec<Problem> {
        let ours = failing.into_iter();
        let ours = ours.filter_map(|(lane, failed)| Some((failed, lane, self.lane(lane)?)));
        let mut ours: Vec<_> = ours.collect();
        ours.sort_by_key(|(failed, lane, _)| (std::cmp::Reverse(*failed), *lane));
        let worst = ours.into_iter().take(FAILING_MAX);
        let problem = |(failed, _, (entry, endpoint)): (u64, u64, (&_, &Endpoint))| {
            let message = match failed {
                1 => "The one attempt of this hour and the last has failed.".to_owned(),
                _ => format!("All {failed} attempts of this hour and the last have failed."),
            };
            Problem::new(Severity::Warning, Kind::EndpointFailing, message)
                .of_endpoint(entry, endpoint)
        };
        worst.map(problem).collect()
    }

    /// Returns problems for applications with many waiting deliveries; each may have `share` at
    /// most.
    fn large(&self, large: Vec<(ApplicationId, WaitingCounts)>, share: u64) -> Vec<Problem> {
        let ours = large.into_iter().filter_map(|(application, waits)| {
            let entry = self.catalog.application_by_id(application)?;
            let severity = severity_of(waits.all(), share)?;
            let is_ours = entry.application.organisation == self.organisation;
            is_ours.then_some((severity, waits, entry))
        });
        let mut ours: Vec<_> = ours.collect();
        ours.sort_by_key(|(_, waits, entry)| {
            (std::cmp::Reverse(waits.all()), entry.application.id)
        });
        let worst = ours.into_iter().take(LARGE_MAX);
        worst
            .map(|(severity, waits, entry)| {
                let message = format!(
                    "{} deliveries of the application wait, {} of them held; \
                     when {share} do (limits.waiting_per_application_max), its messages are refused.",
                    waits.all(),
                    waits.held
                );
                Problem::new(severity, Kind::ApplicationBacklogHigh, message).of_application(entry)
            })
            .collect()
    }

    fn of_job(&self, job: &Job, pause: Option<String>) -> Option<Problem> {
        let what = job.work.title();
        let (kind, message) = match (&job.state, pause) {
            (JobState::Failed(why), _) if self.now.since(job.updated_at) <= JOB_FAILED_LATELY => {
                let message = format!("A {what} has failed: {why}.");
                (Kind::TaskFailed, message)
            }
            (JobState::Running, Some(why)) => {
                let message = format!("A {what} is paused: {why}.");
                (Kind::TaskPaused, message)
            }
            _ => return None,
        };
        let mut problem = Problem::new(Severity::Warning, kind, message);
        if let Some(replay) = job.replay() {
            let lane = self
                .catalog
                .endpoint(self.organisation, replay.endpoint)
                .and_then(|endpoint| self.catalog.lane(endpoint.number));
            if let Some((entry, endpoint)) = lane {
                problem = problem.of_endpoint(entry, endpoint);
            }
        }
        problem.task_id = Some(job.id);
        Some(problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(process: &Process) -> Vec<(Severity, Kind)> {
        let problems = process.problems().into_iter();
        problems
            .map(|problem| (problem.severity, problem.kind))
            .collect()
    }

    #[test]
    fn each_fault_of_the_process_is_a_problem() {
        use Severity::{Critical, Warning};
        let free = |free_bytes| Process {
            space: Space {
                free_bytes,
                ..Space::default()
            },
            free_bytes_min: 100,
            ..Process::default()
        };
        let waits = |to_send, held| Process {
            waits: WaitingCounts { to_send, held },
            waiting_max: 100,
            held_max: 100,
            ..Process::default()
        };
        for (process, expected) in [
            (Process::default(), vec![]),
            (free(None), vec![]),
            (free(Some(200)), vec![]),
            (free(Some(199)), vec![(Warning, Kind::LowSpace)]),
            (free(Some(100)), vec![(Warning, Kind::LowSpace)]),
            (free(Some(99)), vec![(Critical, Kind::LowSpace)]),
            (waits(49, 49), vec![]),
            (
                waits(50, 80),
                vec![(Warning, Kind::BacklogHigh), (Critical, Kind::BacklogHigh)],
            ),
            (
                Process {
                    failure: Some("no disk".to_owned()),
                    damage: 2,
                    unreadable_slices: vec![(3, "gone".to_owned())],
                    damaged_files: vec!["a file is damaged".to_owned()],
                    space: Space {
                        blob_files: 1,
                        ..Space::default()
                    },
                    private_addresses: vec!["10.0.0.0/8".to_owned()],
                    link: Some("links lead nowhere".to_owned()),
                    notify: Some((Timestamp(0), "no connection".to_owned())),
                    shortages: Shortage::ALL.to_vec(),
                    ..Process::default()
                },
                vec![
                    (Critical, Kind::StoreFailed),
                    (Critical, Kind::StoreDamaged),
                    (Critical, Kind::StoreDamaged),
                    (Critical, Kind::StoreDamaged),
                    (Critical, Kind::BlobFiles),
                    (Critical, Kind::FileDescriptors),
                    (Critical, Kind::SocketMemory),
                    (Critical, Kind::LocalPorts),
                    (Warning, Kind::PrivateAddresses),
                    (Warning, Kind::NotifyFailing),
                    (Warning, Kind::NoPublicUrl),
                ],
            ),
        ] {
            assert_eq!(found(&process), expected);
        }
    }

    #[test]
    fn a_job_is_a_problem_while_it_is_paused_and_for_a_day_after_it_failed() {
        use crate::domain::job::Work;
        let catalog = Catalog::default();
        let organisation = OrganisationId([1; 20]);
        let ended = Timestamp::from_seconds(1_700_000_000);
        let day = JOB_FAILED_LATELY;
        let failed = || JobState::Failed("no".to_owned());
        for (state, pause, now, expected) in [
            (failed(), None, ended + day, Some(Kind::TaskFailed)),
            (failed(), None, ended + day + LATE, None),
            (JobState::Running, None, ended, None),
            (
                JobState::Running,
                Some("full"),
                ended,
                Some(Kind::TaskPaused),
            ),
            (JobState::Canceled, Some("full"), ended, None),
            (JobState::Finished, None, ended, None),
        ] {
            let ours = Ours {
                catalog: &catalog,
                organisation,
                now,
            };
            let mut job = Job::new(organisation, Work::EventTypeUsage, ended);
            job.state = state;
            let problem = ours.of_job(&job, pause.map(str::to_owned));
            assert_eq!(problem.map(|problem| problem.kind), expected);
        }
    }
}
