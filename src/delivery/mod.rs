//! One HTTP attempt to one endpoint: render, sign, send, and return the outcome.
//!
//! The scheduler's threads hold a [`Sender`] each. They call [`Sender::attempt`], which returns an
//! `Outcome` at the latest when the request's timeout is over, and then [`judge`] on the outcome.
//! Nothing here knows the store. Every request that leaves goes to an address that the rule allows and
//! is signed over the bytes that are sent. No redirect is followed, and an answer is read up to a limit
//! in bytes and in time.

pub mod address;
mod connect;
mod customer;
mod dns;
pub mod escape;
mod example;
mod head;
mod json_place;
mod judge;
pub mod payload;
pub mod profile;
mod render;
mod renderings;
mod resolve;
pub mod scope;
mod send;
pub mod sign;
pub mod signature;
mod stream;
pub mod target;
pub mod template;
pub mod tls;
mod tls_problem;
mod toll;
mod trace;
mod transformation;
pub mod verifier;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tokio::task::unconstrained;

pub use judge::{control, judge, rest_until};
pub use resolve::LOOKUPS_MAX;
pub use tls_problem::tls_problem;

use address::{AddressRule, OwnAddresses};
use connect::took_longer;
use profile::CompiledProfile;
use render::{NotSendable, Renderer, Request};
use renderings::Renderings;
use send::Clients;
use trace::{TRACE, Trace, failure, microseconds};

use crate::clock::{Clock, Timestamp};
use crate::config::{Config, ConfigError};
use crate::domain::attempt::{Answer, FailureKind, Outcome, SendFailure};
use crate::domain::endpoint::Endpoint;
use crate::domain::health::HealthRules;
use crate::domain::id::ApplicationId;
use crate::domain::message::Message;
use crate::domain::profile::{Draft, Method};
use crate::domain::retry::RetrySchedule;
use crate::domain::transformation::{Transformation, TransformationFault};
use crate::shortage::{Descriptors, Shortage};

/// Idle connections per thread above which the clients are replaced at once: file descriptors are
/// a limit of the process, and many endpoints are called only now and then.
pub const IDLE_CONNECTIONS_MAX: usize = 1024;

/// The settings of sending; shared by all delivery threads.
pub struct SendSettings {
    address_rule: AddressRule,
    /// By name.
    profiles: BTreeMap<String, Arc<CompiledProfile>>,
    default_profile: String,
    /// Where neither an endpoint nor its profile has one.
    retry_schedule: RetrySchedule,
    health_rules: HealthRules,
    https_only: bool,
    tls: Arc<ClientConfig>,
    request_timeout: Duration,
    connect_timeout: Duration,
    idle_connection: Duration,
    idle_connections_max: usize,
    dns_cache: Duration,
    /// In place of the system's, unless empty.
    dns_servers: Vec<SocketAddr>,
    answer_read_bytes: usize,
    answer_kept_bytes: usize,
    descriptors: Descriptors,
    /// Whether endpoints may have transformations.
    transformations: bool,
    payload_bytes: usize,
    header_value_bytes: usize,
    /// The address of this server, as templates know it.
    server_url: Arc<str>,
}

impl SendSettings {
    /// Compiles the profiles and reads the certificates that are trusted; `own` are the machine's
    /// addresses, which no endpoint reaches. The error lists all problems with the names of the settings.
    pub fn from_config(config: &Config, own: &OwnAddresses) -> Result<SendSettings, ConfigError> {
        let Config {
            delivery, limits, ..
        } = config;
        let mut problems = Vec::new();
        let profiles = profiles(config).unwrap_or_else(|wrong| {
            problems.extend(wrong.problems);
            BTreeMap::new()
        });
        if !config.profiles.contains_key(&delivery.default_profile) {
            let name = &delivery.default_profile;
            problems.push(format!(
                "delivery.default_profile: there is no profile {name:?}"
            ));
        }
        let extra = delivery.extra_ca_file.as_deref();
        let tls = tls::client_config("delivery.extra_ca_file", extra);
        let tls = tls.map_err(|problem| problems.push(problem));
        let (Ok(tls), true) = (tls, problems.is_empty()) else {
            return Err(ConfigError { problems });
        };
        Ok(SendSettings {
            address_rule: AddressRule::new(delivery, own.clone()),
            profiles,
            default_profile: delivery.default_profile.clone(),
            retry_schedule: delivery.retry_schedule(),
            health_rules: delivery.health_rules(),
            https_only: delivery.https_only,
            tls: Arc::new(tls),
            request_timeout: delivery.request_timeout(),
            connect_timeout: Duration::from_secs(delivery.connect_timeout_seconds),
            idle_connection: Duration::from_secs(delivery.idle_connection_seconds),
            idle_connections_max: IDLE_CONNECTIONS_MAX,
            dns_cache: Duration::from_secs(delivery.dns_cache_seconds),
            dns_servers: delivery.dns_servers.iter().map(|server| server.0).collect(),
            answer_read_bytes: limits.answer_read_bytes,
            answer_kept_bytes: limits.answer_kept_bytes,
            descriptors: Descriptors::of_process(),
            transformations: delivery.transformations,
            payload_bytes: limits.payload_bytes,
            header_value_bytes: limits.header_value_bytes,
            server_url: config.server.public_url().trim_end_matches('/').into(),
        })
    }

    /// When this endpoint's failed deliveries are tried again: as it says itself, else as its
    /// profile does, else as for all.
    pub fn retry_schedule<'a>(&'a self, endpoint: &'a Endpoint) -> &'a RetrySchedule {
        let of_profile = || self.profile(endpoint).ok()?.retry.as_ref();
        let own = endpoint.retry.as_ref().or_else(of_profile);
        own.unwrap_or(&self.retry_schedule)
    }

    /// When this endpoint's lane stops sending, and when the endpoint is disabled: as it says itself, else as its
    /// profile does, else as for all.
    pub fn health_rules(&self, endpoint: &Endpoint) -> HealthRules {
        let profile = self.profile(endpoint).ok();
        let mut rules = profile.map_or(self.health_rules, |profile| {
            profile.settings.health_rules(self.health_rules)
        });
        if let Some(failures) = endpoint.breaker_failures {
            rules.failures = failures;
        }
        if let Some(hours) = endpoint.disable_after_hours {
            rules.disable_after = Duration::from_secs(3600 * u64::from(hours));
        }
        if endpoint.is_operational() {
            // Nobody would hear of it.
            rules.disable_after = Duration::ZERO;
        }
        rules
    }

    /// The method of the endpoint's requests.
    pub fn method(&self, endpoint: &Endpoint) -> Method {
        if let Some(method) = endpoint.transformation().and_then(|one| one.method) {
            return method;
        }
        match self.profile(endpoint) {
            Ok(profile) => profile.method(endpoint.method),
            Err(_) => endpoint.method.unwrap_or(Method::Post),
        }
    }

    /// By the profile's name, a request as it would be sent: `method`, `url`, `headers` and `body`.
    /// A profile whose templates need more than an example has, has none.
    pub fn example_requests(&self) -> BTreeMap<String, serde_json::Value> {
        let all = self.profiles.iter();
        all.filter_map(|(name, profile)| Some((name.clone(), example::request(profile, self)?)))
            .collect()
    }

    /// The request that a profile makes of a draft, in the same form. The error says why there is
    /// none.
    pub fn preview(&self, profile: &str, draft: Draft) -> Result<serde_json::Value, String> {
        let profile = self
            .profiles
            .get(profile)
            .ok_or("The profile is not configured.")?;
        example::draft_request(profile, self, draft)
    }

    /// The problems of a transformation that every message would have.
    pub fn transformation_problems(
        &self,
        transformation: &Transformation,
    ) -> Vec<TransformationFault> {
        let Some(profile) = self.profiles.get(&self.default_profile) else {
            return Vec::new();
        };
        transformation::problems(
            transformation,
            profile,
            self.payload_bytes,
            self.header_value_bytes,
        )
    }

    /// The request that this endpoint would get for this message, in the form of a preview; nothing secret is
    /// in it.
    pub fn preview_message(
        &self,
        endpoint: &Arc<Endpoint>,
        message: &Arc<Message>,
        now: Timestamp,
    ) -> Result<serde_json::Value, TransformationFault> {
        example::endpoint_request(endpoint, message, self, now)
    }

    /// The error is the name of a profile that is not configured.
    fn profile<'a>(&'a self, endpoint: &'a Endpoint) -> Result<&'a Arc<CompiledProfile>, &'a str> {
        let name = endpoint.profile.as_deref();
        let name = name.unwrap_or(&self.default_profile);
        self.profiles.get(name).ok_or(name)
    }

    fn timeout(&self, endpoint: &Endpoint, profile: &CompiledProfile) -> Duration {
        let own = endpoint.timeout_seconds;
        let own = own.map(|seconds| Duration::from_secs(seconds.into()));
        own.or(profile.timeout).unwrap_or(self.request_timeout)
    }
}

/// The profiles of the settings, compiled; or all problems of them.
pub fn profiles(config: &Config) -> Result<BTreeMap<String, Arc<CompiledProfile>>, ConfigError> {
    let mut compiled = BTreeMap::new();
    let mut problems = Vec::new();
    for (name, settings) in &config.profiles {
        match CompiledProfile::compile(name, settings, &config.limits, config.delivery.jitter) {
            Ok(profile) => drop(compiled.insert(name.clone(), Arc::new(profile))),
            Err(wrong) => problems.extend(wrong),
        }
    }
    match problems.is_empty() {
        true => Ok(compiled),
        false => Err(ConfigError { problems }),
    }
}

/// Makes attempts; one per delivery thread, within an actix runtime.
pub struct Sender {
    settings: Arc<SendSettings>,
    clock: Clock,
    renderer: Renderer,
    renderings: Renderings,
    clients: Clients,
    in_flight: Cell<usize>,
}

impl Sender {
    pub fn new(settings: Arc<SendSettings>, clock: Clock) -> Sender {
        Sender {
            renderer: Renderer::new(settings.clone()),
            renderings: Renderings::default(),
            clients: Clients::new(settings.clone(), clock.clone()),
            settings,
            clock,
            in_flight: Cell::new(0),
        }
    }

    /// The settings of its requests.
    pub fn settings(&self) -> &SendSettings {
        &self.settings
    }

    /// One attempt. A reused connection that turns out closed is the one case in which the request
    /// goes out twice, and the outcome says so. The error is a shortage of this machine that prevented a
    /// connection: nothing went out then, and nothing is known of the receiver.
    pub async fn attempt(
        &self,
        endpoint: &Arc<Endpoint>,
        message: &Arc<Message>,
        attempt_number: u32,
    ) -> Result<Outcome, Shortage> {
        let started_at = self.clock.now();
        let started = Instant::now();
        crate::watched::planned_panic("attempt", &message.event_type);
        let render = || {
            let renderer = &self.renderer;
            renderer.render(endpoint, message, attempt_number, started_at)
        };
        let request = match endpoint.transformation() {
            None => render(),
            Some(_) => self.renderings.in_turn(endpoint.application, render).await,
        };
        let mut outcome = match request {
            Ok(request) => {
                let _in_flight = InFlight::of(&self.in_flight);
                self.send(endpoint.application, request, started_at).await?
            }
            Err(not_sendable) => {
                let method = self.settings.method(endpoint);
                let NotSendable {
                    failure, is_final, ..
                } = not_sendable;
                Outcome {
                    is_final,
                    ..Outcome::not_sent(&endpoint.url, method, started_at, failure)
                }
            }
        };
        outcome.timings.total_us = microseconds(started.elapsed());
        if outcome.sent_again {
            log::debug!(
                "attempt {attempt_number} of {} for {}: a reused connection was closed, \
                 sent again on a fresh one",
                message.id,
                endpoint.id
            );
        }
        Ok(outcome)
    }

    /// The same for a challenge. Its request carries the message's payload unchanged, without the
    /// templates of the endpoint's profile. See `domain::verification`.
    pub async fn challenge(
        &self,
        endpoint: &Arc<Endpoint>,
        message: &Arc<Message>,
    ) -> Result<Outcome, Shortage> {
        let started_at = self.clock.now();
        match self.renderer.challenge(endpoint, message, started_at) {
            Ok(request) => {
                let _in_flight = InFlight::of(&self.in_flight);
                self.send(endpoint.application, request, started_at).await
            }
            Err(failure) => {
                let url = &endpoint.url;
                Ok(Outcome::not_sent(url, Method::Post, started_at, failure))
            }
        }
    }

    async fn send(
        &self,
        application: ApplicationId,
        request: Request,
        started_at: Timestamp,
    ) -> Result<Outcome, Shortage> {
        let mut deadline = pin!(self.clock.sleep_until(started_at + request.timeout));
        let answer = RefCell::new(None);
        let mut trace = Trace::new(application, false);
        let mut sent_again = false;
        // The failure of the first sending, where there is a second.
        let mut found_closed = None;
        let mut failure = loop {
            let once = self.send_once(&request, &trace, &answer, deadline.as_mut());
            match once.await {
                Some(Err(failure)) if trace.found_closed() => {
                    // Whether the request was taken before the connection closed cannot be known.
                    // Receivers tell a repeated message by its id.
                    found_closed = Some(failure);
                    sent_again = true;
                    trace = Trace::new(application, true);
                }
                Some(Err(failure)) => break Some(failure),
                Some(Ok(())) => {
                    let answer = answer.borrow();
                    let success = &request.profile.settings.success;
                    let fault = answer.as_ref().and_then(|answer| success.fault(answer));
                    break fault.map(|fault| failure(FailureKind::WrongAnswer, fault));
                }
                None => {
                    let detail = took_longer(trace.phase.get(), request.timeout);
                    break Some(failure(FailureKind::Timeout, detail));
                }
            }
        };
        if failure.is_some()
            && let Some(shortage) = trace.shortage.get()
        {
            if shortage == Shortage::Files {
                self.clients.close_idle();
            }
            // A request that went out is an attempt, and its failure is all that is known of it.
            failure = Some(found_closed.ok_or(shortage)?);
            sent_again = false;
        }
        let mut answer = answer.into_inner();
        if let Some(answer) = &mut answer
            && answer.body.len() > self.settings.answer_kept_bytes
        {
            answer.body.truncate(self.settings.answer_kept_bytes);
            answer.truncated = true;
        }
        Ok(Outcome {
            method: request.method,
            url: request.url,
            started_at,
            timings: trace.timings.get(),
            request_headers: request.shown,
            answer,
            failure,
            sent_again,
            is_final: false,
        })
    }

    /// One exchange of the request and its answer; none where the deadline ended it.
    async fn send_once(
        &self,
        request: &Request,
        trace: &Rc<Trace>,
        answer: &RefCell<Option<Answer>>,
        deadline: Pin<&mut impl Future<Output = ()>>,
    ) -> Option<Result<(), SendFailure>> {
        let client = self.clients.client(request.https, self.in_flight.get());
        let exchange = send::exchange(&client, request, &self.settings, trace, answer);
        tokio::select! {
            biased;
            result = TRACE.scope(Rc::clone(trace), exchange) => Some(result),
            // Outside of the budget of cooperation: an answer that comes without a pause uses it
            // up in each turn, and a timer within it would never be looked at.
            () = unconstrained(deadline) => None,
        }
    }
}

/// Counts an attempt for as long as it lasts, however it ends.
struct InFlight<'a>(&'a Cell<usize>);

impl InFlight<'_> {
    fn of(count: &Cell<usize>) -> InFlight<'_> {
        count.set(count.get() + 1);
        InFlight(count)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests;
