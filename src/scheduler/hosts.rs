//! The attempts under way to each receiving host, of all applications together.
//!
//! A host has a fixed number of *places*, and an attempt holds one from its turn until its end. The
//! last quarter of a host's places goes only to applications without an attempt there, as the last
//! quarter of a worker's slots does to lanes: receivers that hang, however many of them one customer
//! has at a host, never keep another customer from it. Lanes that find no place wait in line, and
//! places that are given back go to applications in turns, and within one to its lanes in turns. A
//! lane that waits holds no slot of its worker.
//!
//! Hosts are counted by name, without the port: the machine behind it is the same. A subdomain is a
//! host of its own. Only hosts with lanes in memory are known here.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::domain::id::ApplicationId;
use crate::lock::locked;

/// All hosts to which something may be sent soon.
pub struct Hosts {
    places_max: usize,
    waiting: Arc<AtomicUsize>,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
}

impl Hosts {
    pub fn new(places_max: usize) -> Hosts {
        Hosts {
            places_max,
            waiting: Arc::default(),
            hosts: Mutex::default(),
        }
    }

    /// The host of an endpoint's URL. A profile may extend the URL, but cannot change its host.
    pub fn of_url(&self, url: &str) -> Arc<Host> {
        let name = host_name(url);
        let mut hosts = locked(self.hosts.lock());
        if let Some(host) = hosts.get(&name) {
            return host.clone();
        }
        let host = Arc::new(Host {
            places_max: self.places_max,
            waiting: self.waiting.clone(),
            line: Mutex::default(),
        });
        hosts.insert(name, host.clone());
        host
    }

    /// Forgets hosts that no lane and no attempt refers to.
    pub fn forget_idle(&self) {
        let mut hosts = locked(self.hosts.lock());
        hosts.retain(|_, host| Arc::strong_count(host) > 1);
    }

    /// Lanes that wait for a place.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// The host in small letters, without the port and the final point of a full name. A URL that cannot be
/// read counts as the empty name, which does no harm: nothing is sent to it.
fn host_name(url: &str) -> String {
    let url = url::Url::parse(url).ok();
    let name = url.as_ref().and_then(url::Url::host_str);
    let name = name.unwrap_or_default();
    name.strip_suffix('.').unwrap_or(name).to_owned()
}

pub struct Host {
    places_max: usize,
    waiting: Arc<AtomicUsize>,
    line: Mutex<Line>,
}

#[derive(Default)]
struct Line {
    /// Places that are taken.
    taken: usize,
    /// Applications with a place or with lanes that wait for one.
    shares: HashMap<ApplicationId, Share>,
    /// Applications with lanes that wait, each once.
    round: VecDeque<ApplicationId>,
}

/// An application's part in a host.
#[derive(Default)]
struct Share {
    taken: usize,
    waiting: VecDeque<Waiting>,
}

/// Takes the places of lanes that waited in line.
pub trait PlaceTaker: Send + Sync {
    /// Passes the place on to the lane. Returns it where nobody works for the lane any more.
    fn take(&self, lane: u64, place: HostPlace) -> Result<(), HostPlace>;
}

/// A lane that waits for a place, and the taker that passes the place on to it.
struct Waiting {
    lane: u64,
    taker: Arc<dyn PlaceTaker>,
}

/// A right to one attempt at a host; given back when it is dropped.
pub struct HostPlace {
    /// Absent where it was given back already.
    host: Option<Arc<Host>>,
    application: ApplicationId,
}

impl Drop for HostPlace {
    fn drop(&mut self) {
        if let Some(host) = self.host.take() {
            host.give_back(self.application);
        }
    }
}

impl HostPlace {
    pub fn is_at(&self, host: &Arc<Host>) -> bool {
        self.host.as_ref().is_some_and(|one| Arc::ptr_eq(one, host))
    }
}

impl Host {
    /// Takes a place for an attempt. Where none is free, the lane waits in line, and the taker gets the
    /// place when there is one. A lane that waits already must not ask again.
    pub fn place(
        self: &Arc<Host>,
        application: ApplicationId,
        lane: u64,
        taker: &Arc<dyn PlaceTaker>,
    ) -> Option<HostPlace> {
        let mut line = self.line();
        if self.take(&mut line, application) {
            return Some(self.place_of(application));
        }
        let share = line.shares.entry(application).or_default();
        let is_first = share.waiting.is_empty();
        let taker = taker.clone();
        share.waiting.push_back(Waiting { lane, taker });
        if is_first {
            line.round.push_back(application);
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// A place for a caller that does not wait in line; none where no place is free.
    pub fn place_now(self: &Arc<Host>, application: ApplicationId) -> Option<HostPlace> {
        let is_taken = self.take(&mut self.line(), application);
        is_taken.then(|| self.place_of(application))
    }

    /// Takes a place, if one is free and no other lane of the application came before.
    fn take(&self, line: &mut Line, application: ApplicationId) -> bool {
        let share = line.shares.get(&application);
        let own = share.map_or(0, |share| share.taken);
        let is_first = share.is_none_or(|share| share.waiting.is_empty());
        let takes = is_first && self.has_place(line.taken, own);
        if takes {
            line.shares.entry(application).or_default().taken += 1;
            line.taken += 1;
        }
        takes
    }

    fn place_of(self: &Arc<Host>, application: ApplicationId) -> HostPlace {
        HostPlace {
            host: Some(self.clone()),
            application,
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        locked(self.line.lock())
    }

    /// Whether an application that has `own` of the places that are taken may have one more.
    fn has_place(&self, taken: usize, own: usize) -> bool {
        let open = (self.places_max - self.places_max / 4).max(1);
        taken < open || (own == 0 && taken < self.places_max)
    }

    /// Takes a place back from an application and hands out all that are free.
    fn give_back(self: &Arc<Host>, application: ApplicationId) {
        self.line().give_back(application);
        while let Some((application, next)) = self.take_next() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            let Waiting { lane, taker } = next;
            let place = self.place_of(application);
            // A worker that has stopped takes none. Its place is given back here and not by being
            // dropped, which would call this anew for each lane that waits.
            if let Err(mut place) = taker.take(lane, place) {
                place.host = None;
                self.line().give_back(application);
            }
        }
    }

    /// The lane whose turn it is, with its place taken; nothing where no place is free for any.
    fn take_next(&self) -> Option<(ApplicationId, Waiting)> {
        let mut line = self.line();
        let Line {
            taken,
            shares,
            round,
        } = &mut *line;
        if *taken >= self.places_max {
            return None;
        }
        // Only those with places are passed by, and they are no more than there are places.
        let at = round.iter().position(|application| {
            let own = shares.get(application).map_or(0, |share| share.taken);
            self.has_place(*taken, own)
        })?;
        let application = round.remove(at)?;
        let share = shares.get_mut(&application)?;
        let next = share.waiting.pop_front()?;
        share.taken += 1;
        *taken += 1;
        if !share.waiting.is_empty() {
            round.push_back(application);
        }
        Some((application, next))
    }
}

impl Line {
    fn give_back(&mut self, application: ApplicationId) {
        self.taken -= 1;
        if let Some(share) = self.shares.get_mut(&application) {
            share.taken -= 1;
            if share.taken == 0 && share.waiting.is_empty() {
                self.shares.remove(&application);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    const PLACES_MAX: usize = 8;
    /// Three quarters of them.
    const OPEN: usize = 6;

    fn host() -> (Hosts, Arc<Host>) {
        let hosts = Hosts::new(PLACES_MAX);
        let host = hosts.of_url("https://hooks.example.com/a");
        (hosts, host)
    }

    fn application(number: u64) -> ApplicationId {
        ApplicationId([number as u8; 20])
    }

    impl PlaceTaker for Sender<(u64, HostPlace)> {
        fn take(&self, lane: u64, place: HostPlace) -> Result<(), HostPlace> {
            self.send((lane, place)).map_err(|refused| refused.0.1)
        }
    }

    /// A worker, and the places that its lanes get.
    fn worker() -> (Arc<dyn PlaceTaker>, Receiver<(u64, HostPlace)>) {
        let (taker, places) = channel();
        (Arc::new(taker), places)
    }

    /// The next lane that was told that it has a place, with the place.
    fn told(places: &Receiver<(u64, HostPlace)>) -> Option<(u64, HostPlace)> {
        places.try_recv().ok()
    }

    #[test]
    fn a_host_is_its_name_without_port_and_final_point() {
        let (hosts, host) = host();
        for (url, same) in [
            ("https://hooks.example.com/b?c", true),
            ("http://HOOKS.example.com:8080/", true),
            ("https://hooks.example.com./", true),
            ("https://eu.hooks.example.com/", false),
            ("https://example.com/", false),
            ("http://127.0.0.1/", false),
        ] {
            assert_eq!(Arc::ptr_eq(&hosts.of_url(url), &host), same, "{url}");
        }
    }

    #[test]
    fn a_host_is_forgotten_when_nobody_refers_to_it() {
        let (hosts, host) = host();
        let (worker, _places) = worker();
        let place = host.place(application(1), 1, &worker);
        drop(host);
        hosts.forget_idle();
        assert_eq!(hosts.hosts.lock().unwrap().len(), 1, "an attempt is there");
        drop(place);
        hosts.forget_idle();
        assert_eq!(hosts.hosts.lock().unwrap().len(), 0);
    }

    #[test]
    fn one_application_leaves_a_quarter_to_others_which_take_turns_with_it() {
        let (hosts, host) = host();
        let (worker, places_told) = worker();
        let mut greedy: Vec<Option<HostPlace>> = (0..20)
            .map(|lane| host.place(application(1), lane, &worker))
            .filter(Option::is_some)
            .collect();
        assert_eq!((greedy.len(), hosts.waiting()), (OPEN, 14));
        let others: Vec<_> = (2..=5)
            .map(|number| host.place(application(number), 100 * number, &worker))
            .collect();
        let got: Vec<bool> = others.iter().map(Option::is_some).collect();
        assert_eq!(got, [true, true, false, false]);
        // Those without a place go first, whoever waits for longer; then the turns go round.
        greedy.pop();
        greedy.pop();
        let (fourth, _a) = told(&places_told).expect("a place is free");
        let (fifth, _b) = told(&places_told).expect("a place is free");
        assert_eq!((fourth, fifth), (400, 500));
        assert!(told(&places_told).is_none());
        assert!(host.place(application(4), 401, &worker).is_none());
        greedy.pop();
        greedy.pop();
        assert!(told(&places_told).is_none(), "three quarters are taken");
        greedy.pop();
        let (first, _c) = told(&places_told).expect("a place is free");
        assert_eq!(first, 6, "of the greedy one's, the lane that came first");
        greedy.pop();
        let (second, _d) = told(&places_told).expect("a place is free");
        assert_eq!(second, 401, "and then another application's");
    }

    #[test]
    fn a_worker_that_stopped_keeps_no_place() {
        let (hosts, host) = host();
        let (stopped, _) = worker();
        let (worker, places_told) = worker();
        let mut places: Vec<_> = (0..OPEN as u64)
            .map(|lane| host.place(application(1), lane, &worker))
            .collect();
        for lane in 0..50_000 {
            assert!(host.place(application(1), lane, &stopped).is_none());
        }
        assert!(host.place(application(1), 7, &worker).is_none());
        places.pop();
        let (lane, _place) = told(&places_told).expect("the others are gone");
        assert_eq!((lane, hosts.waiting()), (7, 0));
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// A lane has something to send.
        Ask { lane: u64 },
        /// A worker looks at its events.
        Look { worker: usize, uses: bool },
        /// An attempt ends.
        End { at: usize },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0u64..40).prop_map(|lane| Step::Ask { lane }),
            2 => (0usize..2, prop::bool::weighted(0.8))
                .prop_map(|(worker, uses)| Step::Look { worker, uses }),
            2 => (0usize..PLACES_MAX).prop_map(|at| Step::End { at }),
        ]
    }

    proptest! {
        /// Lanes of four applications and two workers, in any order of questions, answers and
        /// ends: the limits hold, no place is idle while somebody may have it, and everybody
        /// who waits is told.
        #[test]
        fn places_are_shared(steps in prop::collection::vec(step(), 0..300)) {
            let (_, host) = host();
            let (first, first_places) = worker();
            let (second, second_places) = worker();
            let workers = [first, second];
            let places = [first_places, second_places];
            let mut attempts: Vec<HostPlace> = Vec::new();
            let mut in_line: Vec<u64> = Vec::new();
            let settle = (0..2000).map(|n| match n % 3 {
                0 => Step::End { at: 0 },
                _ => Step::Look { worker: n % 2, uses: true },
            });
            for step in steps.into_iter().chain(settle) {
                match step {
                    Step::Ask { lane } if !in_line.contains(&lane) => {
                        // Half of the lanes are one application's.
                        let application = application((lane % 8).saturating_sub(4));
                        match host.place(application, lane, &workers[(lane % 2) as usize]) {
                            Some(place) => attempts.push(place),
                            None => in_line.push(lane),
                        }
                    }
                    Step::Ask { .. } => {}
                    Step::Look { worker, uses } => if let Some((lane, place)) = told(&places[worker]) {
                        let at = in_line.iter().position(|one| *one == lane);
                        in_line.swap_remove(at.expect("it waited"));
                        if uses { attempts.push(place) }
                    },
                    Step::End { at } => if at < attempts.len() { drop(attempts.swap_remove(at)) },
                }
                let line = host.line();
                prop_assert!(line.taken <= PLACES_MAX);
                prop_assert_eq!(line.taken, line.shares.values().map(|share| share.taken).sum::<usize>());
                for share in line.shares.values() {
                    prop_assert!(share.taken <= OPEN);
                    let could = host.has_place(line.taken, share.taken);
                    prop_assert!(share.waiting.is_empty() || !could, "a place is idle");
                }
            }
            prop_assert!(in_line.is_empty(), "{} were never told", in_line.len());
            drop(attempts);
            let line = host.line();
            prop_assert!(line.taken == 0 && line.shares.is_empty() && line.round.is_empty());
        }
    }
}
