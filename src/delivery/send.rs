//! The HTTP client: one request on one connection, and its answer up to the limits.
//!
//! awc does HTTP/1.1 and keeps connections for the next request; everything that it would do
//! beyond that (redirects, decompression, timeouts of its own, headers of its own) is off. awc
//! closes no idle connection to a host that gets no further request, so the clients, and with
//! them their pools, are replaced now and then.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::body::None as NoBody;
use actix_web::http;
use actix_web::web::Bytes;
use awc::Client;
use futures_core::Stream as _;

use super::SendSettings;
use super::connect::Connector;
use super::dns::Dns;
use super::head::{self, sound_headers};
use super::render::Request;
use super::resolve::Resolver;
use super::stream::OpenConnections;
use super::trace::{Trace, failure};
use crate::clock::Clock;
use crate::domain::attempt::{Answer, FailureKind, SendFailure};
use crate::domain::endpoint::is_sensitive;
use crate::domain::profile::Method;

/// Longer than any attempt: the limits of time are ours, not awc's.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// How often idle connections are closed for want of file descriptors, in the system's time.
const CLOSED_EVERY: Duration = Duration::from_secs(1);

pub struct Clients {
    settings: Arc<SendSettings>,
    clock: Clock,
    resolver: Rc<Resolver>,
    current: Rc<RefCell<Option<Generation>>>,
    /// When a shortage last ended a generation.
    closed: Cell<Option<Instant>>,
}

/// Two clients with a pool each, for a while.
#[derive(Clone)]
struct Generation {
    http: Client,
    https: Client,
    open: Rc<OpenConnections>,
}

impl Clients {
    pub fn new(settings: Arc<SendSettings>, clock: Clock) -> Clients {
        let resolver = Rc::new(Resolver::new(
            Dns::new(settings.dns_servers.clone(), settings.descriptors),
            settings.dns_cache,
            settings.connect_timeout,
        ));
        Clients {
            settings,
            clock,
            resolver,
            current: Rc::default(),
            closed: Cell::new(None),
        }
    }

    /// The client for a request, while `in_flight` requests are under way.
    pub fn client(&self, https: bool, in_flight: usize) -> Client {
        let mut current = self.current.borrow_mut();
        if let Some(generation) = &*current
            && generation.open.count() > in_flight + self.settings.idle_connections_max
        {
            *current = None;
        }
        let generation = current.get_or_insert_with(|| self.new_generation());
        match https {
            true => generation.https.clone(),
            false => generation.http.clone(),
        }
    }

    /// Closes the connections that serve no request, unless that was just done: of many attempts that meet
    /// the same shortage the first frees all there are.
    pub fn close_idle(&self) {
        let last = self.closed.get();
        if last.is_some_and(|last| last.elapsed() < CLOSED_EVERY) {
            return;
        }
        self.closed.set(Some(Instant::now()));
        *self.current.borrow_mut() = None;
    }

    /// A pool's idle connections close when its client is gone and its last request has ended.
    fn new_generation(&self) -> Generation {
        let open = OpenConnections::default();
        let generation = Generation {
            http: self.new_client(false, &open),
            https: self.new_client(true, &open),
            open: Rc::new(open),
        };
        let this_one = Rc::downgrade(&generation.open);
        let current = Rc::downgrade(&self.current);
        let clock = self.clock.clone();
        let lifetime = self.settings.idle_connection;
        actix_rt::spawn(async move {
            clock.sleep(lifetime).await;
            let (Some(current), Some(this_one)) = (current.upgrade(), this_one.upgrade()) else {
                return;
            };
            current
                .borrow_mut()
                .take_if(|generation| Rc::ptr_eq(&generation.open, &this_one));
        });
        generation
    }

    fn new_client(&self, tls: bool, open: &OpenConnections) -> Client {
        let connector = awc::Connector::new()
            .connector(Connector {
                settings: self.settings.clone(),
                clock: self.clock.clone(),
                resolver: self.resolver.clone(),
                open: open.clone(),
                tls,
            })
            .limit(0)
            .timeout(NEVER)
            .conn_keep_alive(self.settings.idle_connection)
            .conn_lifetime(NEVER);
        Client::builder()
            .connector(connector)
            .no_default_headers()
            .disable_timeout()
            .disable_redirects()
            .finish()
    }

    #[cfg(test)]
    pub fn open_connections(&self) -> usize {
        let current = self.current.borrow();
        current.as_ref().map_or(0, |current| current.open.count())
    }
}

/// Sends the request and reads its answer into `answer`, as far as it comes. Runs in the scope of
/// the exchange's trace. The error is why there is no whole answer.
pub async fn exchange(
    client: &Client,
    request: &Request,
    settings: &SendSettings,
    trace: &Trace,
    answer: &RefCell<Option<Answer>>,
) -> Result<(), SendFailure> {
    let method = match request.method {
        Method::Post => http::Method::POST,
        Method::Put => http::Method::PUT,
        Method::Patch => http::Method::PATCH,
        Method::Get => http::Method::GET,
    };
    let mut call = client.request(method, &request.uri).no_decompress();
    *call.headers_mut() = request.headers.clone();
    let sending = match (&request.body, request.method) {
        (Some(body), _) => call.send_body(body.clone()),
        (None, Method::Get) => call.send_body(NoBody::new()),
        // These methods may have a body, so its absence is stated: `content-length: 0`.
        (None, _) => call.send_body(Bytes::new()),
    };
    let sent = sending.await;
    *answer.borrow_mut() = begun_answer(&trace.head.borrow());
    let mut response = sent.map_err(|_| no_head(trace))?;
    let status = response.status().as_u16();
    if matches!(status, 101 | 204 | 304) {
        // None of these has a body, whatever its head says; after 101 another protocol follows.
        return Ok(());
    }
    // The bytes that decide on success are read and held, however little the log keeps.
    let compared = request.profile.settings.success.compared_bytes();
    let read_max = settings.answer_read_bytes.max(compared);
    let held_max = settings.answer_kept_bytes.max(compared);
    let mut read = 0;
    while let Some(chunk) = poll_fn(|cx| Pin::new(&mut response).poll_next(cx)).await {
        if chunk.is_err() && trace.cut.get() {
            // As with a body that is too long, the status decides.
            if let Some(answer) = &mut *answer.borrow_mut() {
                answer.truncated = true;
            }
            return Ok(());
        }
        let chunk = chunk.map_err(|_| broken_body(trace))?;
        read += chunk.len();
        if let Some(answer) = &mut *answer.borrow_mut() {
            let room = held_max - answer.body.len();
            answer
                .body
                .extend_from_slice(&chunk[..chunk.len().min(room)]);
            answer.truncated = read > answer.body.len();
        }
        if read > read_max {
            // Dropping the response closes the connection.
            return Ok(());
        }
    }
    // awc takes an end of the connection for an end of the body.
    if trace.ended.get() && !trace.body_ends_with_connection.get() {
        return Err(broken_body(trace));
    }
    Ok(())
}

/// The answer, once its status is known.
fn begun_answer(head: &[u8]) -> Option<Answer> {
    Some(Answer {
        status: head::status(head)?,
        headers: shown_headers(head),
        body: Vec::new(),
        truncated: false,
    })
}

fn no_head(trace: &Trace) -> SendFailure {
    if let Some(noted) = trace.take_failure() {
        return noted;
    }
    broken_answer(match (trace.answer_bytes.get(), trace.ended.get()) {
        (0, _) => "The connection was closed before an answer came.",
        (_, true) => "The connection was closed within the head of the answer.",
        _ => "What came back is not valid HTTP.",
    })
}

fn broken_body(trace: &Trace) -> SendFailure {
    broken_answer(match trace.ended.get() {
        true => "The connection was closed before the end of the answer's body.",
        false => "The body of the answer is not valid HTTP.",
    })
}

fn broken_answer(detail: &str) -> SendFailure {
    failure(FailureKind::BrokenAnswer, detail)
}

/// As they came, but for the values of those that may hold secrets.
fn shown_headers(head: &[u8]) -> Vec<(String, String)> {
    sound_headers(head)
        .map(|(name, value)| {
            let name = String::from_utf8_lossy(name).into_owned();
            let value = match is_sensitive(&name) {
                true => "***".to_owned(),
                false => String::from_utf8_lossy(value).into_owned(),
            };
            (name, value)
        })
        .collect()
}
