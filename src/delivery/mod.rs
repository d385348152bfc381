//! One HTTP attempt to one endpoint: render, sign, send, and say what came of it.
//!
//! The scheduler's threads hold a [`Sender`] each and call [`Sender::attempt`], which always ends
//! in an `Outcome`, at the latest when the request's timeout is over, and [`judge`] on what came
//! of it. Nothing here knows the store. What holds for every request that leaves: it goes to an
//! address that the rule allows, it is signed over the bytes that are sent, no redirect is
//! followed, and what is read of an answer has a limit in bytes and in time.

pub mod address;
mod connect;
mod judge;
mod render;
mod resolve;
mod send;
pub mod sign;
mod stream;
mod trace;

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

pub use judge::judge;

use address::AddressRule;
use connect::took_longer;
use render::{Profile, Renderer, Request};
use send::Clients;
use trace::{TRACE, Trace, failure, microseconds};

use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::domain::attempt::{Answer, Failure, FailureKind, Outcome};
use crate::domain::endpoint::Endpoint;
use crate::domain::message::Message;
use crate::domain::profile::Method;

/// Idle connections per thread above which the clients are replaced at once: file descriptors are
/// a limit of the process, and many endpoints are called only now and then.
const IDLE_CONNECTIONS_MAX: usize = 1024;

/// What the configuration says about sending; shared by all delivery threads.
pub struct Settings {
    address_rule: AddressRule,
    profile: Profile,
    https_only: bool,
    tls: Arc<ClientConfig>,
    request_timeout: Duration,
    connect_timeout: Duration,
    idle_connection: Duration,
    idle_connections_max: usize,
    dns_cache: Duration,
    answer_read_bytes: usize,
    answer_kept_bytes: usize,
}

impl Settings {
    /// Reads the certificates that are trusted. The error names the setting.
    pub fn from_config(config: &Config) -> Result<Settings, String> {
        let Config {
            delivery, limits, ..
        } = config;
        let profile = Profile::named(&delivery.default_profile).ok_or_else(|| {
            format!(
                "delivery.default_profile: {:?} is neither \"standard\" nor \"svix\"",
                delivery.default_profile
            )
        })?;
        Ok(Settings {
            address_rule: AddressRule::new(delivery.danger_allow_private_addresses.clone()),
            profile,
            https_only: delivery.https_only,
            tls: Arc::new(tls_config(delivery.extra_ca_file.as_deref())?),
            request_timeout: delivery.request_timeout(),
            connect_timeout: Duration::from_secs(delivery.connect_timeout_seconds),
            idle_connection: Duration::from_secs(delivery.idle_connection_seconds),
            idle_connections_max: IDLE_CONNECTIONS_MAX,
            dns_cache: Duration::from_secs(delivery.dns_cache_seconds),
            answer_read_bytes: limits.answer_read_bytes,
            answer_kept_bytes: limits.answer_kept_bytes,
        })
    }
}

/// Trusts the system's certificates, or Mozilla's where the system has none, and the extra ones.
fn tls_config(extra_ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    // A store with an unreadable file in it is still a store.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    if let Some(path) = extra_ca_file {
        let problem = |what: &str| format!("delivery.extra_ca_file: {}: {what}", path.display());
        let certificates = CertificateDer::pem_file_iter(path)
            .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>())
            .map_err(|error| problem(&error.to_string()))?;
        if certificates.is_empty() {
            return Err(problem("there is no certificate in it"));
        }
        for certificate in certificates {
            roots
                .add(certificate)
                .map_err(|error| problem(&error.to_string()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has ciphers for TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Makes attempts; one per delivery thread, within an actix runtime.
pub struct Sender {
    settings: Arc<Settings>,
    clock: Clock,
    renderer: Renderer,
    clients: Clients,
    in_flight: Cell<usize>,
}

impl Sender {
    pub fn new(settings: Arc<Settings>, clock: Clock) -> Sender {
        Sender {
            renderer: Renderer::new(settings.profile.clone(), settings.https_only),
            clients: Clients::new(settings.clone(), clock.clone()),
            settings,
            clock,
            in_flight: Cell::new(0),
        }
    }

    /// One attempt. A reused connection that turns out closed is the one case in which the request
    /// goes out twice, and the outcome says so.
    pub async fn attempt(
        &self,
        endpoint: &Endpoint,
        message: &Message,
        attempt_number: u32,
    ) -> Outcome {
        let started_at = self.clock.now();
        let started = Instant::now();
        let mut outcome = match self.renderer.render(endpoint, message, started_at) {
            Ok(request) => {
                let _in_flight = InFlight::of(&self.in_flight);
                self.send(request, &endpoint.url, started_at).await
            }
            Err(not_sendable) => {
                Outcome::not_sent(&endpoint.url, Method::Post, started_at, not_sendable)
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
        outcome
    }

    async fn send(&self, request: Request, url: &str, started_at: Timestamp) -> Outcome {
        let mut deadline = pin!(
            self.clock
                .sleep_until(started_at + self.settings.request_timeout)
        );
        let answer = RefCell::new(None);
        let mut trace = Trace::new(false);
        let mut sent_again = false;
        let failure = loop {
            let client = self.clients.client(request.https, self.in_flight.get());
            let exchange = send::exchange(&client, &request, &self.settings, &trace, &answer);
            let result = tokio::select! {
                biased;
                result = TRACE.scope(Rc::clone(&trace), exchange) => result,
                () = &mut deadline => {
                    let limit = self.settings.request_timeout;
                    let detail = took_longer(trace.phase.get(), limit);
                    break Some(failure(FailureKind::Timeout, detail));
                }
            };
            if result.is_err() && trace.found_closed() {
                // Whether the request was taken before the connection closed cannot be known.
                // Receivers tell a repeated message by its id.
                sent_again = true;
                trace = Trace::new(true);
                continue;
            }
            break match result {
                Ok(()) => answer.borrow().as_ref().and_then(wrong_answer),
                Err(failure) => Some(failure),
            };
        };
        Outcome {
            method: Method::Post,
            url: url.to_owned(),
            started_at,
            timings: trace.timings.get(),
            request_headers: request.shown,
            answer: answer.into_inner(),
            failure,
            sent_again,
        }
    }
}

/// The failure that an answer is, unless it means success.
fn wrong_answer(answer: &Answer) -> Option<Failure> {
    let status = answer.status;
    let detail = match status {
        200..=299 => return None,
        300..=399 => {
            format!("The receiver answered {status}, and redirects are not followed.")
        }
        _ => format!("The receiver answered {status}."),
    };
    Some(failure(FailureKind::WrongAnswer, detail))
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
