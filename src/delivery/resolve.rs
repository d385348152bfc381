//! Names to addresses, with a small cache and turns for each application.
//!
//! One per delivery thread. Everything is kept per application, so that no customer's names wait
//! for another's: an application may always have one look-up under way, and further ones share a
//! pool of which each gets a part. Several attempts that need the same name share one look-up. Its
//! answer, also that the name has no address, is kept for `dns_cache_seconds`. While DNS is silent, the
//! addresses of the last look-up that succeeded are still used (RFC 8767).

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::dns::Dns;
use crate::domain::id::ApplicationId;
use crate::shortage::Shortage;

/// Look-ups of one application under way; its further ones wait.
const LOOKUPS_PER_APPLICATION: usize = 16;
/// Look-ups under way beside the first one of each application. Each takes a socket or two.
pub const LOOKUPS_MAX: usize = 256;
/// Names remembered for one application; at about 200 bytes each.
const NAMES_PER_APPLICATION: usize = 1024;
/// Names remembered per thread.
const NAMES_MAX: usize = 16_384;
/// How long the silence of a name's servers is remembered.
const SILENCE_KEPT: Duration = Duration::from_secs(10);
/// How long the addresses of a look-up that succeeded may serve while DNS is silent.
const GOOD_FOR: Duration = Duration::from_secs(60 * 60);
/// How long an attempt waits for a look-up when there are addresses from before.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why a name has no addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAddress {
    /// DNS answered: there is no such name, or it has no address.
    Unknown,
    /// No DNS server answered in time, or those that did could not tell.
    Silent(Rc<str>),
    /// This machine had no socket to ask with.
    NotAsked(Shortage),
}

pub type Resolved = Result<Rc<[IpAddr]>, NoAddress>;

pub struct Resolver {
    inner: Rc<Inner>,
}

struct Inner {
    keep: Duration,
    /// The time of one look-up.
    limit: Duration,
    dns: Dns,
    /// Look-ups beside the first one of each application.
    pool: Arc<Semaphore>,
    applications: RefCell<HashMap<ApplicationId, Application>>,
}

struct Application {
    /// One look-up that waits for no other application's.
    first: Arc<Semaphore>,
    turns: Arc<Semaphore>,
    names: HashMap<String, Name>,
}

#[derive(Default)]
struct Name {
    /// The answer of the last look-up, and until when it counts.
    last: Option<(Resolved, Instant)>,
    /// The last addresses that DNS gave, and until when they may serve.
    good: Option<(Rc<[IpAddr]>, Instant)>,
    /// The look-up that is under way.
    running: Option<watch::Receiver<Option<Resolved>>>,
}

/// A look-up's place among the others; free again when it is dropped.
struct Turn {
    _of_application: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Resolver {
    pub fn new(dns: Dns, keep: Duration, limit: Duration) -> Resolver {
        Resolver {
            inner: Rc::new(Inner {
                keep,
                limit,
                dns,
                pool: Arc::new(Semaphore::new(LOOKUPS_MAX)),
                applications: RefCell::default(),
            }),
        }
    }

    /// The addresses of an application's receiver.
    pub async fn resolve(&self, application: ApplicationId, name: &str) -> Resolved {
        let inner = &self.inner;
        if let Some(fresh) = inner.fresh(application, name) {
            return fresh;
        }
        match inner.good(application, name) {
            None => inner.ask(application, name).await,
            Some(good) => tokio::time::timeout(PATIENCE, inner.ask(application, name))
                .await
                .unwrap_or(Ok(good)),
        }
    }
}

impl Inner {
    fn fresh(&self, application: ApplicationId, name: &str) -> Option<Resolved> {
        let applications = self.applications.borrow();
        let name = applications.get(&application)?.names.get(name)?;
        let (resolved, until) = name.last.as_ref()?;
        (Instant::now() < *until).then(|| resolved.clone())
    }

    fn good(&self, application: ApplicationId, name: &str) -> Option<Rc<[IpAddr]>> {
        let applications = self.applications.borrow();
        let name = applications.get(&application)?.names.get(name)?;
        name.good()
    }

    fn running(
        &self,
        application: ApplicationId,
        name: &str,
    ) -> Option<watch::Receiver<Option<Resolved>>> {
        let applications = self.applications.borrow();
        let name = applications.get(&application)?.names.get(name)?;
        name.running().cloned()
    }

    /// Waits for a look-up of this name, which is begun where none is under way.
    async fn ask(self: &Rc<Self>, application: ApplicationId, name: &str) -> Resolved {
        let mut answer = match self.running(application, name) {
            Some(running) => running,
            None => {
                // The attempt itself waits for the turn: one that gives up leaves the queue.
                let turn = self.turn(application).await;
                if let Some(fresh) = self.fresh(application, name) {
                    return fresh;
                }
                match self.running(application, name) {
                    Some(running) => running,
                    None => self.start(application, name, turn),
                }
            }
        };
        let answer = answer.wait_for(Option::is_some).await;
        match answer.as_deref() {
            Ok(Some(resolved)) => resolved.clone(),
            // The look-up's task ended without an answer: the runtime is stopping, or it panicked.
            _ => {
                let given_up = || NoAddress::Silent("the look-up was given up".into());
                self.good(application, name).ok_or_else(given_up)
            }
        }
    }

    async fn turn(&self, application: ApplicationId) -> Turn {
        let (turns, first) = {
            let mut applications = self.applications.borrow_mut();
            let known = applications.entry(application).or_default();
            (known.turns.clone(), known.first.clone())
        };
        const OPEN: &str = "no semaphore of look-ups is ever closed";
        let of_application = turns.acquire_owned().await.expect(OPEN);
        let of_all = tokio::select! {
            biased;
            permit = first.acquire_owned() => permit,
            permit = self.pool.clone().acquire_owned() => permit,
        };
        Turn {
            _of_application: of_application,
            _of_all: of_all.expect(OPEN),
        }
    }

    /// Begins a look-up, in a task of its own: an attempt that gives up does not end it for others.
    fn start(
        self: &Rc<Self>,
        application: ApplicationId,
        name: &str,
        turn: Turn,
    ) -> watch::Receiver<Option<Resolved>> {
        let (sender, answer) = watch::channel(None);
        self.make_room(application);
        {
            let mut applications = self.applications.borrow_mut();
            let known = applications.entry(application).or_default();
            let known = known.names.entry(name.to_owned()).or_default();
            known.running = Some(answer.clone());
        }
        let (inner, name) = (self.clone(), name.to_owned());
        actix_rt::spawn(async move {
            let found = inner.dns.look_up(&name, inner.limit).await;
            drop(turn);
            sender.send_replace(Some(inner.ended(application, &name, found)));
        });
        answer
    }

    /// Notes a look-up's answer; returns the result for those who wait.
    fn ended(&self, application: ApplicationId, name: &str, found: Resolved) -> Resolved {
        let mut applications = self.applications.borrow_mut();
        let known = applications
            .get_mut(&application)
            .and_then(|known| known.names.get_mut(name));
        let Some(known) = known else {
            return found;
        };
        let now = Instant::now();
        let (resolved, kept) = match found {
            Ok(addresses) => {
                // Where nothing is to be kept, nothing serves later either.
                known.good = (!self.keep.is_zero()).then(|| (addresses.clone(), now + GOOD_FOR));
                (Ok(addresses), self.keep)
            }
            Err(NoAddress::Unknown) => {
                known.good = None;
                (Err(NoAddress::Unknown), self.keep)
            }
            // It passes with the shortage, which says nothing about the name.
            Err(lacking @ NoAddress::NotAsked(_)) => (known.good().ok_or(lacking), Duration::ZERO),
            Err(silent) => (known.good().ok_or(silent), SILENCE_KEPT),
        };
        known.running = None;
        known.last = Some((resolved.clone(), now + kept));
        resolved
    }

    /// Forgets names where there are too many: first of this application, then of all.
    fn make_room(&self, application: ApplicationId) {
        let mut applications = self.applications.borrow_mut();
        if let Some(known) = applications.get_mut(&application)
            && known.names.len() >= NAMES_PER_APPLICATION
        {
            known.forget(NAMES_PER_APPLICATION / 2);
        }
        let names = |known: &Application| known.names.len();
        if applications.values().map(names).sum::<usize>() < NAMES_MAX {
            return;
        }
        // Each application keeps its share, however many names another has.
        let share = NAMES_MAX / 2 / applications.len().max(1);
        match share {
            // Where there are more applications than names to keep, those that count for longest.
            0 => {
                let ends = applications.values().flat_map(Application::ends).collect();
                let limit = last_of_the_forgotten(ends, NAMES_MAX / 2);
                if let Some(limit) = limit {
                    let all = applications.values_mut();
                    all.for_each(|known| known.forget_until(limit));
                }
            }
            share => {
                let all = applications.values_mut();
                all.for_each(|known| known.forget(share));
            }
        }
        applications.retain(|_, known| !known.is_idle());
    }
}

impl Default for Application {
    fn default() -> Application {
        Application {
            first: Arc::new(Semaphore::new(1)),
            turns: Arc::new(Semaphore::new(LOOKUPS_PER_APPLICATION)),
            names: HashMap::new(),
        }
    }
}

impl Application {
    /// Keeps this many names at most, those that count for longest, and those being looked up.
    fn forget(&mut self, keep: usize) {
        if let Some(limit) = last_of_the_forgotten(self.ends().collect(), keep) {
            self.forget_until(limit);
        }
    }

    /// Until when its names count.
    fn ends(&self) -> impl Iterator<Item = Instant> {
        self.names.values().filter_map(Name::counts_until)
    }

    fn forget_until(&mut self, limit: Instant) {
        self.names.retain(|_, name| {
            name.running().is_some() || name.counts_until().is_some_and(|end| end > limit)
        });
    }

    fn is_idle(&self) -> bool {
        // Each task that waits for a turn has a clone of the semaphore.
        self.names.is_empty() && Arc::strong_count(&self.turns) == 1
    }
}

/// When the last of the forgotten names ends, if the `keep` names that end last are kept; none where no
/// name is forgotten.
fn last_of_the_forgotten(mut ends: Vec<Instant>, keep: usize) -> Option<Instant> {
    let last = ends.len().checked_sub(keep + 1)?;
    ends.sort_unstable();
    Some(ends[last])
}

impl Name {
    fn good(&self) -> Option<Rc<[IpAddr]>> {
        let (addresses, until) = self.good.as_ref()?;
        (Instant::now() < *until).then(|| addresses.clone())
    }

    /// The look-up under way. One whose task panicked does not count.
    fn running(&self) -> Option<&watch::Receiver<Option<Resolved>>> {
        let running = self.running.as_ref();
        running.filter(|running| running.has_changed().is_ok())
    }

    fn counts_until(&self) -> Option<Instant> {
        self.last.as_ref().map(|(_, until)| *until)
    }
}

#[cfg(test)]
mod tests;
