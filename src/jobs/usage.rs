//! Counting what an organisation used.
//!
//! What is counted is in memory until it is over: after a restart a count begins anew.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::{Runner, Turn};
use crate::catalog::Catalog;
use crate::clock::Timestamp;
use crate::domain::id::{ApplicationId, MessageId, OrganisationId};
use crate::domain::job::{Job, Progress};
use crate::error::Result;
use crate::store::Span;

/// What a job found out is in memory as long as the job is kept.
const RESULT_BYTES_MAX: usize = 128 << 10;

/// Messages counted in a turn.
const MESSAGES_PER_TURN: usize = 500;
/// How often a job tells how far it is.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// The names are the contract's, also where they differ from ours.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ApplicationUse {
    app_id: ApplicationId,
    app_uid: Option<String>,
    /// Endpoints that messages were attempted at, each message for itself.
    message_destinations: u64,
    // An addition to the contract.
    messages: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventTypeUse<'a> {
    app_id: ApplicationId,
    explicitly_subscribed_event_types: std::collections::BTreeSet<&'a str>,
    has_catch_all_endpoint: bool,
}

/// A count under way.
pub struct Counting {
    /// The next is the last.
    left: Vec<ApplicationId>,
    /// In the one that is being counted.
    behind: Option<MessageId>,
    counted: Vec<ApplicationUse>,
    progress: Progress,
    told: Instant,
}

impl Counting {
    fn new(catalog: &Catalog, job: &Job, applications: Option<&[ApplicationId]>) -> Counting {
        let mut left: Vec<ApplicationId> = match applications {
            Some(some) => some.to_vec(),
            None => {
                let all = catalog.applications(job.organisation);
                all.map(|entry| entry.application.id).collect()
            }
        };
        left.reverse();
        Counting {
            left,
            behind: None,
            counted: Vec::new(),
            progress: Progress::default(),
            told: Instant::now(),
        }
    }
}

impl Runner {
    pub(super) async fn count(
        &mut self,
        job: &Job,
        (since, until): (Timestamp, Timestamp),
        applications: Option<&[ApplicationId]>,
    ) -> Result<Turn> {
        let store = self.store.clone();
        let counting = self
            .counting
            .entry(job.id)
            .or_insert_with(|| Counting::new(&store.catalog(), job, applications));
        let Some(application) = counting.left.last().copied() else {
            let counted = &counting.counted;
            let result = serde_json::json!({ "appStats": counted }).to_string();
            let progress = counting.progress;
            return self.found(job, result, progress).await;
        };
        let uid = {
            let catalog = store.catalog();
            let entry = catalog.application_by_id(application);
            entry.map(|entry| entry.application.uid.clone())
        };
        let Some(uid) = uid else {
            // It was deleted.
            counting.left.pop();
            counting.behind = None;
            return Ok(Turn::Went);
        };
        if counting.counted.last().map(|one| one.app_id) != Some(application) {
            counting.counted.push(ApplicationUse {
                app_id: application,
                app_uid: uid,
                message_destinations: 0,
                messages: 0,
            });
        }
        let count = counting.counted.last_mut().expect("it was pushed above");
        let span = Span {
            application,
            since,
            until,
            behind: counting.behind,
        };
        let visited = store.visit_messages(&span, MESSAGES_PER_TURN, &mut |message| {
            count.messages += 1;
            count.message_destinations += store.destinations(message.id)?;
            counting.progress.looked_at += 1;
            counting.progress.done += 1;
            Ok(true)
        })?;
        counting.behind = visited.behind;
        if visited.over {
            counting.left.pop();
            counting.behind = None;
        }
        if counting.told.elapsed() >= TELL_EVERY {
            counting.told = Instant::now();
            let progress = counting.progress;
            self.note(job, progress).await?;
        }
        Ok(Turn::Went)
    }
}

/// Which event types the endpoints of each application ask for by name, and whether one takes all.
pub fn event_types(catalog: &Catalog, organisation: OrganisationId) -> (String, Progress) {
    let applications = catalog.applications(organisation);
    let uses = applications.map(|entry| EventTypeUse {
        app_id: entry.application.id,
        explicitly_subscribed_event_types: entry
            .endpoints
            .iter()
            .flat_map(|endpoint| endpoint.event_types.iter().flatten())
            .map(String::as_str)
            .collect(),
        has_catch_all_endpoint: entry
            .endpoints
            .iter()
            .any(|endpoint| endpoint.event_types.is_none()),
    });
    let uses: Vec<EventTypeUse> = uses.collect();
    let count = uses.len() as u64;
    let progress = Progress {
        looked_at: count,
        done: count,
    };
    (
        serde_json::json!({ "event_types": uses }).to_string(),
        progress,
    )
}

/// Why a result cannot be kept, where it cannot.
pub fn problem(result: &str) -> Option<String> {
    (result.len() > RESULT_BYTES_MAX).then(|| {
        format!(
            "the result has {} bytes, and at most {RESULT_BYTES_MAX} are kept",
            result.len()
        )
    })
}
