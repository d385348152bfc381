//! Requests without a valid credential: they are counted and limited, and a client that sends many
//! is answered late.
//!
//! A request that would be answered 401 is a failure. Beyond a limit of failures a minute, further ones
//! are answered 429: by the client's address, and by the first characters of the credential, so that
//! variants of one token cannot be tried from many addresses. A valid credential is never looked up
//! here, so nobody's failures refuse it. All workers share the counts, and a reload keeps them.
//!
//! Over the limit of an address, answers are late by [`LATE_BY`], as mail servers do it: whoever guesses
//! one key after the other gets few guesses, and costs the others nothing. Waiting holds no thread. Few
//! answers wait at a time; beyond these they are given at once, and their connection is closed.
//!
//! Memory is bounded: the address, or the beginning of a credential, whose minute began first is
//! forgotten for one more. That makes the limits looser for a moment, and never refuses anybody.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse};
use actix_web::http::{ConnectionType, StatusCode};
use actix_web::web::Data;
use actix_web::{HttpMessage, HttpRequest};
use tokio::sync::Semaphore;

use crate::api::kit::by_address::{ByAddress, Count};
use crate::api::kit::client_address::ClientAddress;
use crate::api::kit::context::context_of;
use crate::api::kit::minute;
use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::error::Error;
use crate::lock::locked;
use crate::telemetry::Metrics;

/// The most addresses that are remembered, and the most beginnings of credentials.
const KEPT_MAX: usize = 4096;
/// The characters of a credential by which it is counted: the `pr_` of all tokens, and 42 bits of it.
const PREFIX_CHARS: usize = 10;

/// How late answers are over the limit of an address.
const LATE_BY: Duration = Duration::from_secs(1);
/// The most answers that wait at a time, and the least number of connections for each of them: they
/// must not take the places of others. Each holds as much as an idle connection does.
const LATE_MAX: usize = 2000;
const CONNECTIONS_FOR_ONE: usize = 5;
/// One address has at most one in so many of them.
const SHARE: usize = 4;

const PER_ADDRESS: &str = "limits.auth_failures_per_address_minute_max";
const PER_PREFIX: &str = "limits.auth_failures_per_token_prefix_minute_max";

pub struct Failures {
    per_address_max: u64,
    per_prefix_max: u64,
    late_max: usize,
    counts: Mutex<Counts>,
    /// Hashes credentials with a random key, so that no text of one is kept, and nobody can choose
    /// which ones count as the same.
    hashing: RandomState,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// Closed when the server stops: then nobody waits any longer.
    stopping: Semaphore,
}

#[derive(Default)]
struct Counts {
    addresses: Windows<IpAddr>,
    /// The failures by the hash of the credential's beginning.
    prefixes: Windows<u64>,
    for_log: ByAddress,
    /// Answers that wait, by address, and in all.
    late: HashMap<IpAddr, usize>,
    late_in_all: usize,
}

/// How often each key failed in the minute that began with its first failure.
struct Windows<K> {
    by_key: HashMap<K, Window>,
    first_begun_first: VecDeque<K>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    since: Timestamp,
    count: u64,
}

impl Window {
    fn is_over(&self, now: Timestamp) -> bool {
        minute::is_over(self.since, now)
    }

    fn seconds_left(&self, now: Timestamp) -> u32 {
        minute::seconds_left(self.since, now)
    }
}

impl<K> Default for Windows<K> {
    fn default() -> Self {
        Windows {
            by_key: HashMap::new(),
            first_begun_first: VecDeque::new(),
        }
    }
}

impl<K: Copy + Eq + Hash> Windows<K> {
    /// Counts one more of the key; returns its window.
    fn count(&mut self, key: K, now: Timestamp) -> Window {
        while self.first_is_over(now) {
            self.forget_first();
        }
        if !self.by_key.contains_key(&key) {
            if self.by_key.len() >= KEPT_MAX {
                self.forget_first();
            }
            self.first_begun_first.push_back(key);
        }
        let new = Window {
            since: now,
            count: 0,
        };
        let window = self.by_key.entry(key).or_insert(new);
        if window.is_over(now) {
            *window = new;
        }
        window.count += 1;
        *window
    }

    fn first_is_over(&self, now: Timestamp) -> bool {
        let first = self.first_begun_first.front();
        first.is_some_and(|first| self.by_key[first].is_over(now))
    }

    fn forget_first(&mut self) {
        if let Some(first) = self.first_begun_first.pop_front() {
            self.by_key.remove(&first);
        }
    }
}

/// The error of a refused request. It is counted once, however many parts of the request ask for
/// the caller.
struct Refused(Error);

/// How the answer to a refused request is given.
enum Late {
    Waits(Place),
    /// At once, since too many wait; the connection is closed.
    Closes,
}

/// The place of an answer that waits; given back when it is dropped.
struct Place {
    failures: Arc<Failures>,
    address: IpAddr,
    until: Timestamp,
}

impl Place {
    async fn wait(self) {
        let failures = &self.failures;
        tokio::select! {
            () = failures.clock.sleep_until(self.until) => {}
            _ = failures.stopping.acquire() => {}
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.failures.lock();
        counts.late_in_all -= 1;
        if let Some(of_address) = counts.late.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                counts.late.remove(&self.address);
            }
        }
    }
}

impl Failures {
    pub fn new(config: &Config, clock: Clock, metrics: Arc<Metrics>) -> Failures {
        let limits = &config.limits;
        Failures {
            per_address_max: limits.auth_failures_per_address_minute_max,
            per_prefix_max: limits.auth_failures_per_token_prefix_minute_max,
            late_max: LATE_MAX.min(limits.connections_max / CONNECTIONS_FOR_ONE),
            counts: Mutex::default(),
            hashing: RandomState::new(),
            clock,
            metrics,
            stopping: Semaphore::new(0),
        }
    }

    /// Counts a failure; returns why it is answered 429, where it is, and how.
    fn failed(
        self: &Arc<Self>,
        address: Option<IpAddr>,
        credential: Option<&str>,
    ) -> Option<(Error, Option<Late>)> {
        let now = self.clock.now();
        let prefix = credential.map(|text| self.hashing.hash_one(beginning(text)));
        let mut counts = self.lock();
        let over = |window: Option<Window>, max| window.filter(|window| window.count > max);
        let of_address = address.map(|address| counts.addresses.count(address, now));
        let of_address = over(of_address, self.per_address_max);
        let of_prefix = prefix.map(|prefix| counts.prefixes.count(prefix, now));
        let of_prefix = over(of_prefix, self.per_prefix_max);
        let is_refused = of_address.or(of_prefix).is_some();
        let lines = counts.for_log.note(address, is_refused, now);
        let late = match address {
            Some(address) if of_address.is_some() => Some(self.late(&mut counts, address)),
            _ => None,
        };
        drop(counts);
        tell(lines);
        self.metrics.auth_failures.inc();
        let why = match (of_address, of_prefix) {
            (Some(window), _) => too_many(
                format!("{} requests from this address", self.per_address_max),
                PER_ADDRESS,
                window.seconds_left(now),
            ),
            (None, Some(window)) => too_many(
                format!(
                    "{} requests with a credential that begins like this one",
                    self.per_prefix_max
                ),
                PER_PREFIX,
                window.seconds_left(now),
            ),
            (None, None) => return None,
        };
        self.metrics.auth_failures_refused.inc();
        Some((why, late))
    }

    fn late(self: &Arc<Self>, counts: &mut Counts, address: IpAddr) -> Late {
        let of_address = counts.late.get(&address).copied().unwrap_or(0);
        let of_address_max = self.late_max.div_ceil(SHARE);
        if counts.late_in_all >= self.late_max || of_address >= of_address_max {
            return Late::Closes;
        }
        counts.late_in_all += 1;
        counts.late.insert(address, of_address + 1);
        Late::Waits(Place {
            failures: self.clone(),
            address,
            until: self.clock.now() + LATE_BY,
        })
    }

    /// Logs the minute that is over, if one is; to be called now and then.
    pub fn tell(&self) {
        let lines = self.lock().for_log.ended(self.clock.now());
        tell(lines);
    }

    /// Before the server stops: answers wait no longer, and what was not logged yet is.
    pub fn stop(&self) {
        self.stopping.close();
        let lines = self.lock().for_log.end();
        tell(lines);
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        locked(self.counts.lock())
    }
}

fn too_many(what: String, setting: &str, retry_after_seconds: u32) -> Error {
    Error::TooManyNow {
        reason: format!(
            "{what} had no valid credential within a minute ({setting}), and this one has none \
             either; a valid one is taken at any time"
        ),
        retry_after_seconds,
    }
}

/// Returns the part of a credential by which its failures are counted. Signed tokens all begin
/// alike and differ in their claims, so for these it is everything before the signature.
fn beginning(credential: &str) -> &str {
    if let Some((claims, _)) = credential.rsplit_once('.') {
        return claims;
    }
    let end = credential.char_indices().nth(PREFIX_CHARS);
    end.map_or(credential, |(end, _)| &credential[..end])
}

fn tell(lines: Vec<(String, Count)>) {
    for (who, Count { all, refused }) in lines {
        match refused {
            0 => log::info!("{who}: {all} requests without a valid credential within a minute"),
            _ => log::warn!(
                "{who}: {all} requests without a valid credential within a minute; {refused} of \
                 them were answered 429 ({PER_ADDRESS}, {PER_PREFIX})"
            ),
        }
    }
}

/// Returns the error for a request without a valid credential: this one, or a 429 where too many
/// failed. Other errors are returned unchanged.
pub fn refused(request: &HttpRequest, credential: Option<&str>, error: Error) -> Error {
    if !matches!(error, Error::Unauthenticated | Error::SecretForToken) {
        return error;
    }
    if let Some(Refused(before)) = request.extensions().get::<Refused>() {
        return before.clone();
    }
    // A test of the routes alone counts nothing.
    let Some(failures) = request.app_data::<Data<Failures>>() else {
        return error;
    };
    let address = ClientAddress::of(request, context_of(request)).counted_as();
    let refused = failures.failed(address, credential);
    let mut extensions = request.extensions_mut();
    let error = match refused {
        None => error,
        Some((why, late)) => {
            if let Some(late) = late {
                extensions.insert(late);
            }
            why
        }
    };
    extensions.insert(Refused(error.clone()));
    error
}

/// Answers by the service, and late where `refused` asked for it.
pub fn around<S, B>(
    request: ServiceRequest,
    service: &S,
) -> impl Future<Output = Result<ServiceResponse<B>, actix_web::Error>> + use<S, B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error>,
    B: MessageBody,
{
    let answering = service.call(request);
    async move {
        let mut answer = answering.await?;
        if answer.status() != StatusCode::TOO_MANY_REQUESTS {
            return Ok(answer);
        }
        let late = answer.request().extensions_mut().remove::<Late>();
        match late {
            Some(Late::Waits(place)) => place.wait().await,
            Some(Late::Closes) => {
                let head = answer.response_mut().head_mut();
                head.set_connection_type(ConnectionType::Close);
            }
            None => {}
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn failures(clock: &Clock) -> Arc<Failures> {
        Arc::new(Failures {
            per_address_max: 3,
            per_prefix_max: 5,
            late_max: 8,
            counts: Mutex::default(),
            hashing: RandomState::new(),
            clock: clock.clone(),
            metrics: Arc::new(Metrics::new()),
            stopping: Semaphore::new(0),
        })
    }

    fn address(number: u32) -> Option<IpAddr> {
        Some(IpAddr::V4(Ipv4Addr::from_bits(number)))
    }

    /// The setting that a request was refused by, with the seconds to wait.
    fn why(refused: Option<(Error, Option<Late>)>) -> Option<(&'static str, u32)> {
        let (error, _) = refused?;
        let Error::TooManyNow {
            reason,
            retry_after_seconds,
        } = error
        else {
            panic!("{error}")
        };
        let settings = [PER_ADDRESS, PER_PREFIX].into_iter();
        let mut named = settings.filter(|setting| reason.contains(&format!("({setting})")));
        Some((named.next().expect(&reason), retry_after_seconds))
    }

    #[test]
    fn an_address_is_limited_for_the_minute_and_no_other() {
        let clock = Clock::manual(NOW);
        let failures = failures(&clock);
        for _ in 0..3 {
            assert_eq!(why(failures.failed(address(1), None)), None);
        }
        clock.advance_to(NOW + Duration::from_millis(20_500));
        let refused = why(failures.failed(address(1), None));
        assert_eq!(refused, Some((PER_ADDRESS, 40)));
        assert_eq!(why(failures.failed(address(2), None)), None);
        for _ in 0..10 {
            assert_eq!(why(failures.failed(None, None)), None, "a proxy is many");
        }
        clock.advance_to(NOW + minute::MINUTE);
        assert_eq!(why(failures.failed(address(1), None)), None);
    }

    #[test]
    fn variants_of_one_token_are_limited_from_whatever_address() {
        let clock = Clock::manual(NOW);
        let failures = failures(&clock);
        for number in 0..5 {
            let guess = format!("pr_abcdefg{number}");
            assert_eq!(why(failures.failed(address(number), Some(&guess))), None);
        }
        let refused = why(failures.failed(address(9), Some("pr_abcdefgX")));
        assert_eq!(refused, Some((PER_PREFIX, 60)));
        let other = why(failures.failed(address(10), Some("pr_abcdefh5")));
        assert_eq!(other, None, "not all that begins with pr_ is one");
    }

    #[test]
    fn credentials_are_counted_by_their_beginning_and_signed_ones_by_their_claims() {
        for (credential, expected) in [
            ("", ""),
            ("pr_", "pr_"),
            ("pr_abcdefghijk", "pr_abcdefg"),
            ("äöüäöüäöüäöü", "äöüäöüäöüä"),
            ("eyJhbGciOi.eyJzdWIiOi.c2lnbg", "eyJhbGciOi.eyJzdWIiOi"),
            (".", ""),
        ] {
            assert_eq!(beginning(credential), expected);
        }
    }

    #[test]
    fn memory_is_bounded_and_many_addresses_refuse_nobody() {
        let clock = Clock::manual(NOW);
        let failures = failures(&clock);
        for _ in 0..4 {
            failures.failed(address(0), None);
        }
        for number in 1..3 * KEPT_MAX as u32 {
            let guess = format!("{number:010}");
            let refused = failures.failed(address(number), Some(&guess));
            assert_eq!(why(refused), None);
        }
        let counts = failures.lock();
        for len in [counts.addresses.by_key.len(), counts.prefixes.by_key.len()] {
            assert_eq!(len, KEPT_MAX);
        }
        for len in [
            counts.addresses.first_begun_first.len(),
            counts.prefixes.first_begun_first.len(),
        ] {
            assert_eq!(len, KEPT_MAX);
        }
        drop(counts);
        assert_eq!(why(failures.failed(address(0), None)), None, "forgotten");
        clock.advance_to(NOW + minute::MINUTE);
        failures.failed(address(1), None);
        assert_eq!(failures.lock().addresses.by_key.len(), 1);
    }

    #[test]
    fn few_answers_wait_at_a_time_and_the_others_close_their_connection() {
        let clock = Clock::manual(NOW);
        let failures = failures(&clock);
        let network = Some(IpAddr::V6(Ipv6Addr::LOCALHOST));
        let mut waiting = Vec::new();
        for (address, of_address) in [(address(1), 2), (network, 2)] {
            for _ in 0..3 {
                assert!(failures.failed(address, None).is_none());
            }
            for number in 0..4 {
                let (_, late) = failures.failed(address, None).expect("it is refused");
                match late.expect("the address is over its limit") {
                    Late::Waits(place) => waiting.push(place),
                    Late::Closes => assert!(number >= of_address),
                }
            }
        }
        assert_eq!(waiting.len(), 4);
        drop(waiting);
        let counts = failures.lock();
        assert_eq!((counts.late_in_all, counts.late.len()), (0, 0));
    }

    #[test]
    fn a_stop_waits_for_no_answer() {
        use std::pin::pin;
        use std::task::{Context, Poll, Waker};
        let clock = Clock::manual(NOW);
        let failures = failures(&clock);
        let place = |failures: &Arc<Failures>| {
            let Late::Waits(place) = failures.late(&mut failures.lock(), IpAddr::from([1; 4]))
            else {
                panic!("there is room")
            };
            place
        };
        let mut context = Context::from_waker(Waker::noop());
        let mut by_time = pin!(place(&failures).wait());
        assert_eq!(by_time.as_mut().poll(&mut context), Poll::Pending);
        clock.advance_to(NOW + LATE_BY);
        assert_eq!(by_time.as_mut().poll(&mut context), Poll::Ready(()));
        let mut by_stop = pin!(place(&failures).wait());
        assert_eq!(by_stop.as_mut().poll(&mut context), Poll::Pending);
        failures.stop();
        assert_eq!(by_stop.as_mut().poll(&mut context), Poll::Ready(()));
    }
}
