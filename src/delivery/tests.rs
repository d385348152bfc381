//! Attempts against receivers on loopback whose every byte is scripted.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::domain::endpoint::{BasicAuth, EndpointSecret};
use crate::domain::id::{ApplicationId, EndpointId, MessageId, OrganisationId};
use crate::domain::message::Origin;
use crate::domain::profile as domain;
use crate::domain::secret::{Secret, SecretForm};

mod addresses;
mod answers;
mod connections;
pub mod profiles;
mod requests;
mod signing;
mod timeouts;
mod tls;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\n\r\n";
const BODY: &str = r#"{"type":"invoice.paid","amount":1.10}"#;

/// A server that hands each connection to a script.
struct Receiver {
    address: SocketAddr,
    seen: Rc<Seen>,
}

#[derive(Default)]
struct Seen {
    connections: Cell<usize>,
    open: Cell<usize>,
    /// Head and body, as they came.
    requests: RefCell<Vec<String>>,
}

/// One connection, seen from the receiver.
struct Conversation<S> {
    io: S,
    seen: Rc<Seen>,
}

impl Receiver {
    async fn scripted<F>(script: impl Fn(Conversation<TcpStream>, usize) -> F + 'static) -> Receiver
    where
        F: Future<Output = ()> + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Rc::new(Seen::default());
        let shared = seen.clone();
        actix_rt::spawn(async move {
            loop {
                let (io, _) = listener.accept().await.unwrap();
                let number = shared.connections.get();
                shared.connections.set(number + 1);
                shared.open.set(shared.open.get() + 1);
                let seen = shared.clone();
                let talk = script(Conversation { io, seen }, number);
                let seen = shared.clone();
                actix_rt::spawn(async move {
                    talk.await;
                    seen.open.set(seen.open.get() - 1);
                });
            }
        });
        Receiver { address, seen }
    }

    /// Gives the same answer to every request, for as long as the client likes.
    async fn answering(answer: impl Into<String>) -> Receiver {
        let answer = answer.into();
        Receiver::scripted(move |mut talk, _| {
            let answer = answer.clone();
            async move {
                while talk.request().await.is_some() {
                    talk.say(&answer).await;
                }
            }
        })
        .await
    }

    /// Gives one answer and closes.
    async fn answering_once(answer: impl Into<String>) -> Receiver {
        let answer = answer.into();
        Receiver::scripted(move |mut talk, _| {
            let answer = answer.clone();
            async move {
                talk.request().await;
                talk.say(&answer).await;
            }
        })
        .await
    }

    fn url(&self) -> String {
        format!("http://{}/hook?a=1&b=%20", self.address)
    }

    fn requests(&self) -> Vec<String> {
        self.seen.requests.borrow().clone()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Conversation<S> {
    /// The next request, read whole; `None` once the client has closed.
    async fn request(&mut self) -> Option<String> {
        let mut bytes = Vec::new();
        loop {
            if let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
                let (_, after) = text.split_once("content-length: ").unwrap();
                let length: usize = after.lines().next().unwrap().parse().unwrap();
                if bytes.len() >= head + 4 + length {
                    let request = String::from_utf8(bytes).unwrap();
                    self.seen.requests.borrow_mut().push(request.clone());
                    return Some(request);
                }
            }
            let mut buffer = [0; 4096];
            match self.io.read(&mut buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            }
        }
    }

    async fn say(&mut self, text: &str) {
        // A client that has gone is some scripts' end.
        let _ = self.io.write_all(text.as_bytes()).await;
        let _ = self.io.flush().await;
    }
}

fn config(change: impl FnOnce(&mut Value)) -> Config {
    let mut value = json!({
        "server": {
            "listen": "127.0.0.1:0", "workers": 1, "drain_seconds": 1, "answer_stall_seconds": 30, "metrics_listen": null,
            "cors_origins": [], "trusted_proxies": [], "client_address_header": "X-Forwarded-For"
        },
        "store": {
            "path": "data", "cache_bytes": 1, "retention_days": 1, "min_free_bytes": 1,
            "slice_hours": 1, "slice_bytes": 1, "export_minutes": 1, "commit_timeout_seconds": 1
        },
        "auth": { "default_organisation": null },
        "delivery": {
            "danger_allow_private_addresses": ["127.0.0.0/8"],
            "deny_addresses": [],
            "https_only": false, "extra_ca_file": null, "default_profile": "standard",
            "default_signature_type": "hmac", "verify_endpoints": "off",
            "transformations": true,
            "retry_delays_seconds": [5], "jitter": 0.0, "retry_after_max_seconds": 60,
            "lane_retry_after_max_seconds": 300, "disable_after_hours": 120,
            "breaker": {
                "failures": 10, "min_open_after_seconds": 30, "probe_first_seconds": 30,
                "probe_max_seconds": 900
            },
            "request_timeout_seconds": 15, "connect_timeout_seconds": 5,
            "idle_connection_seconds": 30, "dns_cache_seconds": 30, "dns_servers": [],
            "source_addresses": [], "message_headers": [], "workers": 1,
            "in_flight_max": 64, "in_flight_per_endpoint_max": 8,
            "in_flight_per_host_max": 64,
            "unrecorded_per_endpoint_max": 64
        },
        "limits": limits(),
        "backup": { "every_seconds": 10, "keep_days": 7, "verify_every_hours": 168 },
        "console": { "frame_origins": [] },
        "portal": {
            "name": "Webhooks", "logo_file": null, "accent_color": "#000000",
            "frame_origins": [], "profiles": [], "api_key_days_max": 0,
            "labels": {
                "menu": "m", "add_webhook": "a", "url": "u", "secret": "s", "all_events": "e",
                "all_entities": "e"
            }
        },
        "notify": {
            "smtp_host": "", "smtp_port": 587, "smtp_tls": "starttls", "smtp_username": "", "from": "", "to": [],
            "grace_seconds": 300, "digest_seconds": 3600, "subject_prefix": ""
        },
        "log": { "level": "info", "failures_per_endpoint_minute_max": 5 }
    });
    change(&mut value);
    let mut config: Config = serde_json::from_value(value).unwrap();
    config.profiles = shipped_profiles();
    config
}

/// Apart from the rest because the macro goes only so deep.
fn limits() -> serde_json::Value {
    json!({
        "payload_bytes": 1048576, "url_bytes": 2048, "header_value_bytes": 8192,
        "batch_messages_max": 1000, "batch_bytes": 8388608, "batch_deliveries_max": 10000,
        "headers_max": 64, "endpoints_per_application_max": 50,
        "endpoint_timeout_seconds_max": 60, "endpoint_retries_max": 50,
        "endpoint_retry_days_max": 7,
        "channels_per_endpoint_max": 500, "require_known_event_types": "off",
        "answer_read_bytes": 65536,
        "answer_kept_bytes": 8192, "list_page_max": 250, "page_bytes": 1000, "answers_bytes": 1000,
        "answers_per_customer_bytes": 1000, "requests_per_customer_second_max": 0,
        "requests_per_platform_token_second_max": 0, "requests_burst_seconds": 1,
        "reads_per_customer_max": 2, "reads_waiting_per_customer_max": 64, "read_wait_seconds": 10,
        "waiting_max": 1000, "held_max": 1000,
        "waiting_per_application_max": 1000,
        "commit_queue_max": 100, "connections_max": 100, "connections_per_address_max": 100,
        "auth_failures_per_address_minute_max": 100,
        "auth_failures_per_token_prefix_minute_max": 100,
        "sessions_per_credential_max": 50, "sessions_per_customer_max": 500,
        "sessions_max": 1000, "sign_ins_per_credential_minute_max": 30,
        "sign_ins_per_customer_minute_max": 300
    })
}

fn shipped_profiles() -> BTreeMap<String, domain::Profile> {
    let shipped: toml::Table = crate::config::DEFAULTS.parse().unwrap();
    shipped["profiles"].clone().try_into().unwrap()
}

/// An attempt with an endpoint and a message that nobody else has.
trait Made {
    async fn made(&self, endpoint: &Endpoint, message: &Message, number: u32) -> Outcome;
}

impl Made for Sender {
    async fn made(&self, endpoint: &Endpoint, message: &Message, number: u32) -> Outcome {
        let (endpoint, message) = (Arc::new(endpoint.clone()), Arc::new(message.clone()));
        let attempt = self.attempt(&endpoint, &message, number).await;
        attempt.expect("this machine lacks nothing")
    }
}

fn sender_with(clock: Clock, change: impl FnOnce(&mut Value)) -> Sender {
    let settings = SendSettings::from_config(&config(change), &OwnAddresses::default()).unwrap();
    Sender::new(Arc::new(settings), clock)
}

fn sender() -> Sender {
    sender_with(Clock::System, |_| {})
}

pub const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

pub fn endpoint(url: impl Into<String>) -> Endpoint {
    Endpoint {
        url: url.into(),
        secrets: vec![EndpointSecret {
            secret: Secret::generate(SecretForm::StandardWebhooks, [7; 32]),
            expires_at: None,
        }],
        ..Endpoint::new(
            EndpointId::at(NOW),
            OrganisationId::at(NOW),
            ApplicationId::at(NOW),
            7,
            NOW,
        )
    }
}

fn message() -> Message {
    Message {
        id: MessageId::at(NOW),
        application: ApplicationId::at(NOW),
        event_type: "invoice.paid".to_owned(),
        event_id: None,
        channels: Vec::new(),
        payload: BODY.into(),
        is_raw: false,
        content_type: None,
        accepted_at: NOW,
        origin: Origin::Published,
        tags: Vec::new(),
        deliver_at: None,
        expires_at: None,
        expunged: false,
        endpoints_matched: None,
        metadata: BTreeMap::new(),
        headers: BTreeMap::new(),
    }
}

async fn attempt(receiver: &Receiver) -> Outcome {
    let sender = sender();
    sender.made(&endpoint(receiver.url()), &message(), 1).await
}

fn failure_of(outcome: &Outcome) -> (FailureKind, &str) {
    let failure = outcome.failure.as_ref().expect("the attempt fails");
    (failure.kind, &failure.detail)
}

fn status_of(outcome: &Outcome) -> Option<u16> {
    outcome.answer.as_ref().map(|answer| answer.status)
}

/// Lets other tasks run until `done`, up to a deadline.
async fn until(what: &str, done: impl Fn() -> bool) {
    let waiting = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    assert!(in_time.is_ok(), "waited in vain: {what}");
}

/// Lets all run that is ready, which is on this thread.
async fn others_run() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// A request's header values by lower-case name.
fn header<'a>(request: &'a str, name: &str) -> Vec<&'a str> {
    let (head, _) = request.split_once("\r\n\r\n").unwrap();
    head.lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .filter(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
        .collect()
}

/// A request's signature headers, under the profile's names.
struct Signature<'a> {
    prefix: &'a str,
    request: &'a str,
}

impl<'a> Signature<'a> {
    fn of(request: &'a str) -> Signature<'a> {
        Signature {
            prefix: "webhook",
            request,
        }
    }

    fn check(&self, endpoint: &Endpoint) -> Result<(), sign::NotVerified> {
        let one = |name: &str| header(self.request, &format!("{}-{name}", self.prefix))[0];
        let (_, body) = self.request.split_once("\r\n\r\n").unwrap();
        let headers = sign::SignedHeaders {
            id: one("id"),
            timestamp: one("timestamp"),
            signature: one("signature"),
        };
        let at = Timestamp::from_seconds(headers.timestamp.parse().unwrap());
        let secret = endpoint.secrets[0].secret.expose();
        sign::VerifyingKey::parse(secret)?.verify(headers, body.as_bytes(), at)
    }
}
