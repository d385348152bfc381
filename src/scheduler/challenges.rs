//! Challenges endpoints that are not verified (see `domain::verification`), on a thread of its own.
//!
//! The due times and the outcomes of challenges are in the endpoints' records, so that a restart and
//! normal running are the same path: the thread looks at the endpoints that a commit changed, and at
//! all of them when it starts. A challenge takes a place at its host as an attempt does, and an
//! application has a few in a minute, so that nobody can aim this server at a stranger by way of its
//! challenges. An application has a part of the challenges under way, so that receivers that hang hold
//! up no other.

use std::collections::BTreeMap;
use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::watch;

use super::Shared;
use super::alarms::Alarms;
use crate::clock::{Clock, Timestamp};
use crate::delivery::{self, Sender};
use crate::domain::endpoint::Endpoint;
use crate::domain::id::{ApplicationId, MessageId};
use crate::domain::message::{Message, Origin};
use crate::domain::verification::{self, EVENT_TYPE};
use crate::error::Result;
use crate::rules::challenges::{KeepChallenge, ReleaseUnverified, unverified};
use crate::rules::decision::Itself;
use crate::store::Store;
use crate::watched;

/// Challenges under way, of all applications.
const UNDER_WAY_MAX: usize = 32;
/// Challenges of one application that are under way: receivers that hang leave places to others.
const UNDER_WAY_PER_APPLICATION_MAX: usize = UNDER_WAY_MAX / 4;
/// Challenges of one application in a minute.
const PER_MINUTE_MAX: usize = 10;
const MINUTE: Duration = Duration::from_secs(60);
/// How long a challenge waits that finds no place at its host, or for which this machine lacks
/// something.
const AGAIN: Duration = Duration::from_secs(5);
/// Endpoints whose deliveries one commit releases where verification was turned off.
const RELEASED_MAX: usize = 500;
/// How long after a commit that failed the next one is tried.
const RELEASE_AGAIN: Duration = Duration::from_secs(1);

pub enum ChallengeEvent {
    /// This lane's endpoint was made, changed or deleted.
    Endpoint(u64),
    /// The settings of requests from now on.
    Settings(Arc<delivery::SendSettings>),
    /// A challenge has ended; where it was not sent, it is tried again then.
    Ended { lane: u64, again: Option<Timestamp> },
}

pub struct Challenger {
    shared: Arc<Shared>,
    store: Store,
    clock: Clock,
    sender: Rc<Sender>,
    /// To itself, for challenges that end.
    news: UnboundedSender<ChallengeEvent>,
    /// When lanes are to be challenged.
    alarms: Alarms,
    /// Lanes with a challenge under way.
    under_way: HashMap<u64, ApplicationId>,
    /// Lanes that wait until a challenge of their application ends, of which enough are under way.
    waiting: HashMap<ApplicationId, HashSet<u64>>,
    /// When an application's challenges of the last minute were sent.
    sent: HashMap<ApplicationId, VecDeque<Timestamp>>,
}

impl Challenger {
    pub fn new(
        shared: Arc<Shared>,
        store: Store,
        settings: Arc<delivery::SendSettings>,
        news: UnboundedSender<ChallengeEvent>,
    ) -> Challenger {
        let clock = store.clock().clone();
        Challenger {
            shared,
            sender: Rc::new(Sender::new(settings, clock.clone())),
            clock,
            store,
            news,
            alarms: Alarms::default(),
            under_way: HashMap::new(),
            waiting: HashMap::new(),
            sent: HashMap::new(),
        }
    }

    /// Runs until `stop` is true. Challenges under way are dropped then, and are sent again after
    /// the next start.
    pub async fn run(
        mut self,
        mut events: UnboundedReceiver<ChallengeEvent>,
        mut stop: watch::Receiver<bool>,
    ) {
        let lanes = self.store.catalog().lanes();
        for lane in lanes {
            self.look_at(lane);
        }
        while !*stop.borrow_and_update() {
            watched::working();
            self.begin_due();
            let room = self.under_way.len() < UNDER_WAY_MAX;
            let next = self.alarms.next().filter(|_| room);
            let clock = self.clock.clone();
            let alarm = async {
                match next {
                    Some(at) => clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            if self.under_way.is_empty() {
                watched::idle();
            }
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.take_in(event),
                    None => return,
                },
                changed = stop.changed() => if changed.is_err() { return },
                () = alarm => {}
            }
        }
    }

    fn take_in(&mut self, event: ChallengeEvent) {
        match event {
            ChallengeEvent::Endpoint(lane) => self.look_at(lane),
            ChallengeEvent::Settings(settings) => {
                self.sender = Rc::new(Sender::new(settings, self.clock.clone()));
            }
            ChallengeEvent::Ended { lane, again } => {
                let application = self.under_way.remove(&lane);
                match again {
                    Some(at) => self.alarms.set(lane, at),
                    None => self.look_at(lane),
                }
                let waiting = application.and_then(|one| self.waiting.remove(&one));
                for lane in waiting.into_iter().flatten() {
                    self.look_at(lane);
                }
            }
        }
    }

    /// Sets the alarm of a lane by its endpoint's record.
    fn look_at(&mut self, lane: u64) {
        if self.under_way.contains_key(&lane) {
            return;
        }
        let due = self
            .challengeable(lane)
            .and_then(|endpoint| endpoint.verification.as_ref()?.next_at);
        match due {
            Some(at) => self.alarms.set(lane, at),
            None => self.alarms.clear(lane),
        }
    }

    /// The endpoint, where it is to be verified. One that is disabled, or held by the operator, gets nothing
    /// at all.
    fn challengeable(&self, lane: u64) -> Option<Arc<Endpoint>> {
        let catalog = self.store.catalog();
        let endpoint = catalog.endpoint_by_number(lane)?;
        let gets_nothing = endpoint.disabled.is_some() || endpoint.held.is_some();
        (endpoint.verification.is_some() && !gets_nothing).then(|| endpoint.clone())
    }

    fn begin_due(&mut self) {
        let now = self.clock.now();
        while self.under_way.len() < UNDER_WAY_MAX
            && let Some(lane) = self.alarms.take_due(now)
        {
            // The endpoint may have changed since the alarm was set.
            let Some(endpoint) = self.challengeable(lane) else {
                continue;
            };
            let application = endpoint.application;
            if let Some(free_at) = self.free_at(application, now) {
                self.alarms.set(lane, free_at);
                continue;
            }
            let of_application = self.under_way.values().filter(|one| **one == application);
            if of_application.count() >= UNDER_WAY_PER_APPLICATION_MAX {
                self.waiting.entry(application).or_default().insert(lane);
                continue;
            }
            let host = self.shared.hosts.of_url(&endpoint.url);
            let Some(place) = host.place_now(application) else {
                self.alarms.set(lane, now + AGAIN);
                continue;
            };
            self.sent.entry(application).or_default().push_back(now);
            self.under_way.insert(lane, application);
            let challenge = challenge(self.store.clone(), self.sender.clone(), endpoint);
            let news = self.news.clone();
            let clock = self.clock.clone();
            actix_rt::spawn(async move {
                let ended = watched::contained_future(challenge).await;
                drop(place);
                // One that broke off says so in the log; its record is as it was.
                let was_sent = ended.unwrap_or(false);
                let again = (!was_sent).then(|| clock.now() + AGAIN);
                // Nobody listens any more where the thread has stopped.
                let _ = news.send(ChallengeEvent::Ended { lane, again });
            });
        }
    }

    /// When the application may be sent a challenge for, where that is not now.
    fn free_at(&mut self, application: ApplicationId, now: Timestamp) -> Option<Timestamp> {
        // A clock that was set back holds up nobody for longer than a minute.
        let is_recent = |at: &Timestamp| *at <= now && now.since(*at) < MINUTE;
        if self.sent.len() > UNDER_WAY_MAX {
            self.sent.retain(|_, sent| sent.iter().any(is_recent));
        }
        let sent = self.sent.get_mut(&application)?;
        sent.retain(is_recent);
        let first = sent.front()?;
        (sent.len() >= PER_MINUTE_MAX).then(|| *first + MINUTE)
    }
}

/// Sends a challenge and stores its outcome. False where nothing was sent or stored.
async fn challenge(store: Store, sender: Rc<Sender>, endpoint: Arc<Endpoint>) -> bool {
    let now = store.clock().now();
    let challenge = hex::encode(rand::random::<[u8; 24]>());
    let message = Message {
        id: MessageId::at(now),
        application: endpoint.application,
        event_type: EVENT_TYPE.to_owned(),
        event_id: None,
        channels: Vec::new(),
        payload: verification::body(&challenge, now).into(),
        is_raw: false,
        content_type: None,
        accepted_at: now,
        origin: Origin::TestOnce,
        tags: Vec::new(),
        deliver_at: None,
        expires_at: None,
        expunged: false,
        endpoints_matched: None,
        metadata: BTreeMap::new(),
        headers: BTreeMap::new(),
    };
    let outcome = match sender.challenge(&endpoint, &Arc::new(message)).await {
        Ok(outcome) => outcome,
        Err(shortage) => {
            let lack = format!(
                "the challenge of {} waits: this machine lacks {}",
                endpoint.id,
                shortage.name()
            );
            log::warn!("{lack}");
            watched::note_error(lack);
            return false;
        }
    };
    let problem = verification::problem(&outcome, &challenge);
    match &problem {
        None => log::info!("endpoint {} is verified", endpoint.id),
        Some(problem) => log::info!("endpoint {} is not verified: {problem}", endpoint.id),
    }
    let keep = KeepChallenge {
        lane: endpoint.number,
        url: endpoint.url.clone(),
        sent_at: now,
        problem,
    };
    let kept = store.change(Itself(keep)).await;
    if let Err(error) = &kept {
        watched::note_error(error);
    }
    kept.is_ok()
}

/// Releases the deliveries of endpoints that were never verified, where endpoints need no verification
/// any more. Failures are tried again, until all are released or `stop` is true.
pub async fn release_all(store: Store, mut stop: watch::Receiver<bool>) {
    let held: Vec<u64> = {
        let catalog = store.catalog();
        let is_one = |lane: &u64| unverified(&catalog, *lane).is_some();
        catalog.lanes().into_iter().filter(is_one).collect()
    };
    for lanes in held.chunks(RELEASED_MAX) {
        while let Err(error) = release(&store, lanes).await {
            log::warn!(
                "endpoints that were not verified could not be let go, which is tried again in \
                 {} s: {error}",
                RELEASE_AGAIN.as_secs()
            );
            tokio::select! {
                () = tokio::time::sleep(RELEASE_AGAIN) => {}
                // Also where nobody is left who could say so.
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }
}

/// Lets go of these lanes.
async fn release(store: &Store, lanes: &[u64]) -> Result<()> {
    let lanes = lanes.to_vec();
    let count = store.change(Itself(ReleaseUnverified { lanes })).await?;
    log::info!(
        "{count} endpoints that were not verified get their messages: delivery.verify_endpoints is off"
    );
    Ok(())
}
