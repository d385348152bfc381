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

mod profiles;
mod signing;

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
            "retry_delays_seconds": [5], "jitter": 0.0, "retry_after_max_seconds": 60,
            "request_timeout_seconds": 15, "connect_timeout_seconds": 5,
            "idle_connection_seconds": 30, "dns_cache_seconds": 30, "dns_servers": [],
            "source_addresses": [], "workers": 1,
            "in_flight_max": 64, "in_flight_per_endpoint_max": 8,
            "in_flight_per_host_max": 64,
            "unrecorded_per_endpoint_max": 64
        },
        "limits": limits(),
        "console": { "frame_origins": [] },
        "portal": {
            "name": "Webhooks", "logo_file": null, "accent_color": "#000000",
            "frame_origins": [], "profiles": [], "api_key_days_max": 0,
            "labels": {
                "menu": "m", "add_webhook": "a", "url": "u", "secret": "s", "all_events": "e",
                "all_entities": "e"
            }
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
        "channels_per_endpoint_max": 500, "answer_read_bytes": 65536,
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
    let settings = Settings::from_config(&config(change), &OwnAddresses::default()).unwrap();
    Sender::new(Arc::new(settings), clock)
}

fn sender() -> Sender {
    sender_with(Clock::System, |_| {})
}

const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

fn endpoint(url: impl Into<String>) -> Endpoint {
    Endpoint {
        id: EndpointId::at(NOW),
        number: 7,
        organisation: OrganisationId::at(NOW),
        application: ApplicationId::at(NOW),
        uid: None,
        url: url.into(),
        description: String::new(),
        disabled: false,
        event_types: None,
        channels: None,
        metadata: BTreeMap::new(),
        throttle_rate: None,
        secrets: vec![EndpointSecret {
            secret: Secret::generate(SecretForm::StandardWebhooks, [7; 32]),
            expires_at: None,
        }],
        headers: BTreeMap::new(),
        basic_auth: None,
        created_at: NOW,
        updated_at: NOW,
        profile: None,
        method: None,
        auth_headers: BTreeMap::new(),
        retry: None,
        timeout_seconds: None,
        open_headers: Default::default(),
        verification: None,
    }
}

fn message() -> Message {
    Message {
        id: MessageId::at(NOW),
        application: ApplicationId::at(NOW),
        event_type: "invoice.paid".to_owned(),
        event_id: None,
        channels: Vec::new(),
        payload: actix_web::web::Bytes::from_static(BODY.as_bytes()),
        is_raw: false,
        content_type: None,
        accepted_at: NOW,
        origin: Origin::Published,
        tags: Vec::new(),
        deliver_at: None,
        expires_at: None,
        expunged: false,
        endpoints_matched: None,
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

#[actix_web::test]
async fn a_success_carries_the_whole_exchange() {
    let receiver = Receiver::answering(
        "HTTP/1.1 201 Created\r\nX-Second: 2\r\nX-First: 1\r\nSet-Cookie: s=1\r\n\
         Content-Length: 4\r\n\r\ndone",
    )
    .await;
    let clock = Clock::manual(NOW + Duration::from_millis(250));
    let sender = sender_with(clock, |_| {});
    let endpoint = Endpoint {
        headers: BTreeMap::from([
            ("X-Api-Key".to_owned(), "hunter2".to_owned()),
            ("X-Colour".to_owned(), "grün".to_owned()),
        ]),
        basic_auth: Some(BasicAuth {
            username: "ann".to_owned(),
            password: "s:cret".to_owned(),
        }),
        ..endpoint(receiver.url())
    };
    let message = message();
    let outcome = sender.made(&endpoint, &message, 1).await;

    assert_eq!(outcome.failure, None);
    assert!(!outcome.sent_again);
    assert_eq!(outcome.started_at, NOW + Duration::from_millis(250));
    let answer = outcome.answer.unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (201, &b"done"[..]));
    assert!(!answer.truncated);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        answer.headers,
        [
            pair("X-Second", "2"),
            pair("X-First", "1"),
            pair("Set-Cookie", "***"),
            pair("Content-Length", "4"),
        ]
    );
    let timings = outcome.timings;
    assert_eq!((timings.dns_us, timings.tls_us), (None, None));
    assert!(timings.connect_us.is_some() && timings.first_byte_us.is_some());
    assert!(timings.total_us >= timings.first_byte_us.unwrap());

    let requests = receiver.requests();
    let request = &requests[0];
    assert!(
        request.starts_with("POST /hook?a=1&b=%20 HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(request.ends_with(&format!("\r\n\r\n{BODY}")), "{request}");
    let first = request.lines().nth(1).unwrap();
    assert_eq!(first, format!("host: {}", receiver.address));
    let signature = Signature::of(request);
    assert_eq!(signature.check(&endpoint), Ok(()));
    for (name, value) in [
        ("accept", "*/*"),
        ("host", receiver.address.to_string().as_str()),
        (
            "user-agent",
            concat!("postrider/", env!("CARGO_PKG_VERSION")),
        ),
        ("content-type", "application/json"),
        ("content-length", &BODY.len().to_string()),
        ("webhook-id", &message.id.to_string()),
        ("webhook-timestamp", "1700000000"),
        ("date", "Tue, 14 Nov 2023 22:13:20 GMT"),
        ("x-api-key", "hunter2"),
        ("x-colour", "grün"),
        ("authorization", "Basic YW5uOnM6Y3JldA=="),
    ] {
        assert_eq!(header(request, name), [value], "{name} in {request}");
    }

    // The log shows exactly what was sent, but for the secrets.
    let (head, _) = request.split_once("\r\n\r\n").unwrap();
    let mut sent: Vec<String> = head.lines().skip(1).map(str::to_owned).collect();
    let mut shown: Vec<String> = outcome
        .request_headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    sent.sort();
    shown.sort();
    let sent: Vec<String> = sent
        .iter()
        .map(|line| match line.split_once(": ").unwrap() {
            (name @ ("authorization" | "x-api-key"), _) => format!("{name}: ***"),
            _ => line.clone(),
        })
        .collect();
    assert_eq!(shown, sent);
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

#[actix_web::test]
async fn the_svix_profile_has_its_own_header_names() {
    let receiver = Receiver::answering(OK).await;
    let sender = sender_with(Clock::System, |config| {
        config["delivery"]["default_profile"] = json!("svix");
    });
    let endpoint = endpoint(receiver.url());
    let outcome = sender.made(&endpoint, &message(), 1).await;
    assert_eq!(outcome.failure, None);
    let requests = receiver.requests();
    let signature = Signature {
        prefix: "svix",
        request: &requests[0],
    };
    assert_eq!(signature.check(&endpoint), Ok(()));
    assert!(!requests[0].contains("webhook-"), "{}", requests[0]);
}

#[actix_web::test]
async fn an_endpoints_headers_override_what_is_theirs_to_choose() {
    let receiver = Receiver::answering(OK).await;
    let sender = sender();
    let mut endpoint = endpoint(receiver.url());
    for (name, value) in [
        ("User-Agent", "mine/1"),
        ("content-TYPE", "application/cloudevents+json"),
        ("Accept", "text/plain"),
        ("Webhook-Signature", "v1,forged"),
        ("webhook-id", "forged"),
        ("Host", "internal.example"),
        ("Content-Length", "1"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "close"),
        ("Expect", "100-continue"),
        ("Upgrade", "websocket"),
    ] {
        endpoint.headers.insert(name.to_owned(), value.to_owned());
    }
    let outcome = sender.made(&endpoint, &message(), 1).await;
    assert_eq!(outcome.failure, None);
    let requests = receiver.requests();
    let request = &requests[0];
    assert_eq!(Signature::of(request).check(&endpoint), Ok(()));
    let length = BODY.len().to_string();
    let host = receiver.address.to_string();
    for (name, values) in [
        ("user-agent", vec!["mine/1"]),
        ("content-type", vec!["application/cloudevents+json"]),
        ("accept", vec!["text/plain"]),
        ("host", vec![host.as_str()]),
        ("content-length", vec![length.as_str()]),
        ("transfer-encoding", vec![]),
        ("connection", vec![]),
        ("expect", vec![]),
        ("upgrade", vec![]),
        ("accept-encoding", vec![]),
    ] {
        assert_eq!(header(request, name), values, "{name}");
    }
}

#[actix_web::test]
async fn a_changed_endpoint_is_rendered_anew() {
    let receiver = Receiver::answering(OK).await;
    let sender = sender();
    let first = endpoint(receiver.url());
    let mut changed = first.clone();
    changed.secrets[0].secret = Secret::generate(SecretForm::StandardWebhooks, [8; 32]);
    changed.headers.insert("x-new".to_owned(), "1".to_owned());
    for endpoint in [&first, &changed, &first] {
        let outcome = sender.made(endpoint, &message(), 1).await;
        assert_eq!(outcome.failure, None);
        let request = receiver.requests().pop().unwrap();
        assert_eq!(Signature::of(&request).check(endpoint), Ok(()));
        assert_eq!(header(&request, "x-new").len(), endpoint.headers.len());
    }
}

#[actix_web::test]
async fn what_cannot_be_sent_fails_with_a_sentence() {
    let with_header = |name: &str, value: &str| Endpoint {
        headers: BTreeMap::from([(name.to_owned(), value.to_owned())]),
        ..endpoint("http://127.0.0.1:9/")
    };
    let without_secret = Endpoint {
        secrets: Vec::new(),
        ..endpoint("http://127.0.0.1:9/")
    };
    let sender = sender();
    for (endpoint, expected) in [
        (endpoint("nonsense"), "URL"),
        (
            endpoint("ftp://example.com/"),
            "The URL must be http or https.",
        ),
        // It could be registered once.
        (endpoint("http://a{b}.test/"), "The URL has a host with '{'"),
        (with_header("x y", "1"), "name of a header"),
        (with_header("x-secret", "hunter2\r\nx-more: 1"), "x-secret"),
        (without_secret, "no signing secret"),
    ] {
        let outcome = sender.made(&endpoint, &message(), 1).await;
        let (kind, detail) = failure_of(&outcome);
        assert_eq!(kind, FailureKind::NotSendable);
        assert!(detail.contains(expected), "{detail}");
        assert!(!detail.contains("hunter2"), "{detail}");
    }
    let strict = sender_with(Clock::System, |config| {
        config["delivery"]["https_only"] = json!(true);
    });
    let outcome = strict
        .made(&endpoint("http://127.0.0.1:9/"), &message(), 1)
        .await;
    assert_eq!(failure_of(&outcome).0, FailureKind::NotSendable);
    let outcome = strict
        .made(&endpoint("https://127.0.0.1:9/"), &message(), 1)
        .await;
    assert_eq!(failure_of(&outcome).0, FailureKind::ConnectionRefused);
}

#[actix_web::test]
async fn only_2xx_is_a_success() {
    for (status, detail) in [
        ("204 No Content", None),
        ("299 Odd", None),
        ("302 Found", Some("302, and redirects are not followed")),
        ("410 Gone", Some("410")),
        ("500 Oh", Some("500")),
        ("101 Switching Protocols", Some("101")),
    ] {
        let receiver =
            Receiver::answering(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")).await;
        let outcome = attempt(&receiver).await;
        assert_eq!(status_of(&outcome), Some(status[..3].parse().unwrap()));
        match detail {
            None => assert_eq!(outcome.failure, None),
            Some(detail) => {
                let (kind, found) = failure_of(&outcome);
                assert_eq!(kind, FailureKind::WrongAnswer);
                assert!(found.contains(detail), "{found}");
            }
        }
    }
}

#[actix_web::test]
async fn a_redirect_is_not_followed() {
    let private = Receiver::answering(OK).await;
    let receiver = Receiver::answering(format!(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n",
        private.url()
    ))
    .await;
    let outcome = attempt(&receiver).await;
    assert_eq!(failure_of(&outcome).0, FailureKind::WrongAnswer);
    assert_eq!(status_of(&outcome), Some(307));
    assert_eq!(private.seen.connections.get(), 0);
}

#[actix_web::test]
async fn a_connection_that_nobody_takes_is_refused() {
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let sender = sender();
    let endpoint = endpoint(format!("http://{address}/"));
    let outcome = sender.made(&endpoint, &message(), 1).await;
    assert_eq!(failure_of(&outcome).0, FailureKind::ConnectionRefused);
    assert_eq!(outcome.answer, None);
    assert!(!outcome.request_headers.is_empty());
}

#[actix_web::test]
async fn a_forbidden_address_is_not_dialled() {
    let receiver = Receiver::answering(OK).await;
    let port = receiver.address.port();
    let sender = sender_with(Clock::System, |config| {
        config["delivery"]["danger_allow_private_addresses"] = json!([]);
    });
    for host in [
        "127.0.0.1",
        "127.1.2.3",
        "0x7f.1",
        "2130706433",
        "0177.0.0.1",
        "0",
        "localhost",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
    ] {
        for scheme in ["http", "https"] {
            let endpoint = endpoint(format!("{scheme}://{host}:{port}/"));
            let outcome = sender.made(&endpoint, &message(), 1).await;
            let (kind, detail) = failure_of(&outcome);
            // A name is not told from one that does not exist.
            let expected = match host {
                "localhost" => FailureKind::Dns,
                _ => FailureKind::AddressForbidden,
            };
            assert_eq!(kind, expected, "{host}: {detail}");
        }
    }
    assert_eq!(receiver.seen.connections.get(), 0);
}

#[actix_web::test]
async fn a_name_that_does_not_resolve_is_told() {
    let sender = sender();
    let endpoint = endpoint("http://does-not-exist.invalid/");
    let outcome = sender.made(&endpoint, &message(), 1).await;
    assert_eq!(failure_of(&outcome).0, FailureKind::Dns);
    assert!(outcome.timings.dns_us.is_some());
}

#[actix_web::test]
async fn a_name_is_resolved_and_kept_in_the_host_header() {
    let receiver = Receiver::answering(OK).await;
    let sender = sender();
    let endpoint = endpoint(format!("http://localhost:{}/", receiver.address.port()));
    let outcome = sender.made(&endpoint, &message(), 1).await;
    assert_eq!(outcome.failure, None);
    assert!(outcome.timings.dns_us.is_some());
    let host = format!("localhost:{}", receiver.address.port());
    assert_eq!(header(&receiver.requests()[0], "host"), [host]);
}

/// Runs an attempt on a manual clock; once `ready`, the clock moves past the timeout.
async fn timed_out(receiver: &Receiver, ready: impl Fn(&Seen) -> bool) -> Outcome {
    let clock = Clock::manual(NOW);
    let sender = sender_with(clock.clone(), |_| {});
    let endpoint = endpoint(receiver.url());
    let message = message();
    let finished = Cell::new(false);
    let passing = async {
        until("the receiver is ready", || ready(&receiver.seen)).await;
        clock.advance_to(NOW + Duration::from_millis(14_999));
        others_run().await;
        assert!(!finished.get(), "it ends before its time");
        clock.advance_to(NOW + Duration::from_secs(15));
    };
    let attempt = async {
        let outcome = sender.made(&endpoint, &message, 1).await;
        finished.set(true);
        outcome
    };
    let (outcome, ()) = tokio::join!(attempt, passing);
    until("the connection is closed", || receiver.seen.open.get() == 0).await;
    outcome
}

#[actix_web::test]
async fn a_receiver_that_hangs_is_a_timeout() {
    let receiver = Receiver::scripted(|mut talk, _| async move {
        talk.request().await;
        talk.request().await;
    })
    .await;
    let outcome = timed_out(&receiver, |seen| seen.requests.borrow().len() == 1).await;
    assert_eq!(
        failure_of(&outcome),
        (
            FailureKind::Timeout,
            "Waiting for the answer took longer than 15 s."
        )
    );
    assert_eq!(outcome.answer, None);
    assert!(!outcome.sent_again);
}

#[actix_web::test]
async fn a_body_that_drips_is_a_timeout() {
    let dripped = Rc::new(Cell::new(0));
    let counter = dripped.clone();
    let receiver = Receiver::scripted(move |mut talk, _| {
        let counter = counter.clone();
        async move {
            talk.request().await;
            talk.say("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                .await;
            while talk.io.write_all(b".").await.is_ok() {
                counter.set(counter.get() + 1);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    })
    .await;
    let outcome = timed_out(&receiver, |_| dripped.get() > 5).await;
    assert_eq!(
        failure_of(&outcome),
        (
            FailureKind::Timeout,
            "Reading the answer's body took longer than 15 s."
        )
    );
    assert_eq!(status_of(&outcome), Some(200));
}

#[actix_web::test]
async fn a_handshake_that_hangs_ends_with_the_connect_timeout() {
    let receiver = Receiver::scripted(|mut talk, _| async move {
        let mut buffer = Vec::new();
        let _ = talk.io.read_to_end(&mut buffer).await;
    })
    .await;
    let clock = Clock::manual(NOW);
    let sender = sender_with(clock.clone(), |config| {
        config["delivery"]["connect_timeout_seconds"] = json!(1);
    });
    let endpoint = endpoint(receiver.url().replace("http:", "https:"));
    let passing = async {
        until("it is connected", || receiver.seen.open.get() == 1).await;
        clock.advance_to(NOW + Duration::from_millis(999));
        others_run().await;
        assert_eq!(receiver.seen.open.get(), 1);
        clock.advance_to(NOW + Duration::from_secs(1));
    };
    let message = message();
    let (outcome, ()) = tokio::join!(sender.made(&endpoint, &message, 1), passing);
    assert_eq!(
        failure_of(&outcome),
        (
            FailureKind::ConnectionFailed,
            "The TLS handshake took longer than 1 s."
        )
    );
    until("the connection is closed", || receiver.seen.open.get() == 0).await;
}

#[actix_web::test]
async fn what_is_no_whole_answer_is_broken() {
    let long_head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(200_000));
    let many_headers = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(200));
    // awc's codec panics at it.
    let long_name = format!("HTTP/1.1 200 OK\r\n{}: b\r\n\r\n", "a".repeat(70_000));
    let many_interim = format!("{}{OK}", "HTTP/1.1 103 Early\r\n\r\n".repeat(17));
    let no_end = "HTTP/1.1 100 Continue\r\n\r\n".repeat(100_000);
    for (answer, expected) in [
        ("", "closed before an answer came"),
        ("SSH-2.0-OpenSSH_9.9\r\n", "not HTTP"),
        ("H", "closed within the head"),
        ("HTTP/1.1 200 OK\r\nContent-Le", "closed within the head"),
        ("HTTP/1.1 103 Early\r\n\r\n", "closed within the head"),
        ("HTTP/1.1 2x0 OK\r\n\r\n", "status line"),
        (
            "HTTP/1.1 200 OK\r\na: b\r\nno colon\r\n\r\n",
            "Header 2 of the answer is not valid HTTP: it has no colon.",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "Content-Length",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "Transfer-Encoding",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
            "end of the answer's body",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            "end of the answer's body",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            "end of the answer's body",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            "body of the answer is not valid",
        ),
        (
            long_head.as_str(),
            "head of the answer is larger than 128 KiB",
        ),
        (
            many_headers.as_str(),
            "200 headers, and at most 96 are read",
        ),
        (long_name.as_str(), "its name is longer than 1024 bytes"),
        (many_interim.as_str(), "Too many interim answers"),
        (no_end.as_str(), "Too many interim answers"),
    ] {
        let receiver = Receiver::answering_once(answer).await;
        let outcome = attempt(&receiver).await;
        let start = &answer[..answer.len().min(60)];
        let (kind, detail) = failure_of(&outcome);
        assert_eq!(kind, FailureKind::BrokenAnswer, "{start}");
        assert!(detail.contains(expected), "{start}: {detail}");
        // A fresh connection's failure is never repeated.
        assert!(!outcome.sent_again);
        assert_eq!(receiver.seen.connections.get(), 1);
        let has_status = answer.starts_with("HTTP/1.1 200 OK\r\n");
        assert_eq!(status_of(&outcome), has_status.then_some(200), "{start}");
    }
}

#[actix_web::test]
async fn an_unsound_head_shows_its_sound_headers_and_decides_nothing() {
    let receiver = Receiver::answering_once(
        "HTTP/1.1 410 Gone\r\nx-sound: 1\r\nno colon\r\nx-bad: \u{1}\r\nset-cookie: s\r\n\r\n",
    )
    .await;
    let outcome = attempt(&receiver).await;
    assert_eq!(failure_of(&outcome).0, FailureKind::BrokenAnswer);
    let answer = outcome.answer.unwrap();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        (answer.status, answer.headers),
        (410, vec![pair("x-sound", "1"), pair("set-cookie", "***")])
    );
}

/// RFC 9112, section 5.2.
#[actix_web::test]
async fn a_folded_header_is_taken_for_one_line() {
    let answer = |status: &str| {
        format!(
            "HTTP/1.1 {status}\r\nContent-Security-Policy: default-src 'self';\r\n    script-src \
             'none'\r\nX-Length:\r\n Content-Length: 9\r\nContent-Length:\r\n\t2\r\n\r\nok"
        )
    };
    let receiver = Receiver::answering(answer("200 OK")).await;
    let sender = sender();
    for _ in 0..2 {
        let outcome = sender.made(&endpoint(receiver.url()), &message(), 1).await;
        assert_eq!(outcome.failure, None);
        let answer = outcome.answer.unwrap();
        assert_eq!(answer.body, b"ok");
        let values: Vec<_> = answer
            .headers
            .iter()
            .map(|(_, value)| value.as_str())
            .collect();
        assert_eq!(
            values,
            [
                "default-src 'self';      script-src 'none'",
                "Content-Length: 9",
                "2"
            ]
        );
    }
    assert_eq!(receiver.seen.connections.get(), 1);

    let receiver = Receiver::answering_once(answer("410 Gone")).await;
    let outcome = attempt(&receiver).await;
    assert_eq!(failure_of(&outcome).0, FailureKind::WrongAnswer);
    assert_eq!(status_of(&outcome), Some(410));
}

/// The frames of a body have no limit in awc's codec. What is read of them is bounded, and as with a
/// long body the status decides.
#[actix_web::test]
async fn an_answer_without_end_is_cut_after_a_number_of_bytes() {
    const CHUNKED: &str = "Transfer-Encoding: chunked\r\n\r\n";
    for (start, piece) in [
        ("1;", "x".repeat(1000)),
        ("1;", "a=b;".repeat(1000)),
        ("1", " ".repeat(1000)),
        ("0", "0".repeat(1000)),
        ("", "1;x\r\ny\r\n".repeat(100)),
        ("0\r\n", "trailer: x\r\n".repeat(100)),
        ("0\r\nx: ", "x".repeat(1000)),
    ] {
        let form = format!("{start}{}", &piece[..10]);
        let written = Rc::new(Cell::new(0));
        let counter = written.clone();
        let receiver = Receiver::scripted(move |mut talk, _| {
            let (counter, piece) = (counter.clone(), piece.clone());
            async move {
                talk.request().await;
                talk.say(&format!("HTTP/1.1 200 OK\r\n{CHUNKED}{start}"))
                    .await;
                while counter.get() < 100 << 20 && talk.io.write_all(piece.as_bytes()).await.is_ok()
                {
                    counter.set(counter.get() + piece.len());
                }
            }
        })
        .await;
        let outcome = attempt(&receiver).await;
        assert_eq!(outcome.failure, None, "{form}");
        let answer = outcome.answer.unwrap();
        assert!(answer.truncated, "{form}");
        assert_eq!(answer.status, 200);
        until("the connection is closed", || receiver.seen.open.get() == 0).await;
        // What was read, and what the kernel's buffers had room for.
        assert!(written.get() < 20 << 20, "{form}: {}", written.get());
    }
}

/// A body that is always there when it is looked for does not keep the timer from being seen. No
/// other limit is near, and time stands still until much of the body was taken: the attempt ends
/// because of the time, and of nothing else.
#[actix_web::test]
async fn an_answer_without_pause_ends_in_time() {
    const TAKEN_FIRST: usize = 32 << 20;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let clock = Clock::manual(NOW);
    let ticking = clock.clone();
    let flood = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut talk, _) = listener.accept().unwrap();
        let _ = talk.read(&mut [0; 4096]).unwrap();
        let mut written = talk.write(b"HTTP/1.1 200 OK\r\n\r\n");
        let mut total = 0;
        while let Ok(count) = written {
            total += count;
            if total > TAKEN_FIRST {
                ticking.advance_to(NOW + Duration::from_secs(1));
            }
            written = talk.write(&[b'x'; 256 << 10]);
        }
        total
    });
    let sender = sender_with(clock, |config| {
        config["limits"]["answer_read_bytes"] = json!(1_u64 << 50);
        config["delivery"]["request_timeout_seconds"] = json!(1);
        config["delivery"]["connect_timeout_seconds"] = json!(1);
    });
    let endpoint = endpoint(format!("http://{address}/"));
    let message = message();
    let attempt = sender.made(&endpoint, &message, 1);
    let outcome = unconstrained(tokio::time::timeout(Duration::from_secs(60), attempt)).await;
    let outcome = outcome.expect("it ends");
    assert_eq!(
        failure_of(&outcome),
        (
            FailureKind::Timeout,
            "Reading the answer's body took longer than 1 s."
        )
    );
    assert_eq!(status_of(&outcome), Some(200));
    assert!(flood.join().unwrap() > TAKEN_FIRST);
}

#[actix_web::test]
async fn whole_answers_are_taken_in_every_framing() {
    let large_head = format!(
        "HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 2\r\n\r\nok",
        "x".repeat(100_000)
    );
    for (answer, body) in [
        (NO_CONTENT, ""),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", ""),
        (
            "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
            "",
        ),
        (large_head.as_str(), "ok"),
        (OK, "ok"),
        ("HTTP/1.1 200 OK\r\n\r\nto the end", "to the end"),
        (
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end",
            "to the end",
        ),
        ("HTTP/1.0 200 OK\r\n\r\nto the end", "to the end"),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok"),
        ("HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", "ok"),
        ("HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "ok"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n3;x=y\r\nay!\r\n0\r\n\r\n",
            "okay!",
        ),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            "ok",
        ),
    ] {
        let receiver = Receiver::answering_once(answer).await;
        let outcome = attempt(&receiver).await;
        assert_eq!(outcome.failure, None, "{answer}");
        assert_eq!(outcome.answer.unwrap().body, body.as_bytes(), "{answer}");
    }
}

#[actix_web::test]
async fn an_answer_that_comes_byte_by_byte_is_the_same() {
    let answer = format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{OK}");
    let receiver = Receiver::scripted(move |mut talk, _| {
        let answer = answer.clone();
        async move {
            talk.io.set_nodelay(true).unwrap();
            while talk.request().await.is_some() {
                for at in 0..answer.len() {
                    talk.say(&answer[at..=at]).await;
                    tokio::task::yield_now().await;
                }
            }
        }
    })
    .await;
    let sender = sender();
    for _ in 0..3 {
        let outcome = sender.made(&endpoint(receiver.url()), &message(), 1).await;
        assert_eq!(outcome.failure, None);
        let answer = outcome.answer.unwrap();
        assert_eq!(answer.body, b"ok");
        assert_eq!(
            answer.headers,
            [("Content-Length".to_owned(), "2".to_owned())]
        );
    }
    assert_eq!(receiver.seen.connections.get(), 1);
}

#[actix_web::test]
async fn a_huge_body_is_cut_and_the_status_decides() {
    for (status, succeeds) in [(200, true), (500, false)] {
        let written = Rc::new(Cell::new(0));
        let counter = written.clone();
        let receiver = Receiver::scripted(move |mut talk, _| {
            let counter = counter.clone();
            async move {
                talk.request().await;
                let length = 100 * 1024 * 1024;
                talk.say(&format!(
                    "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n"
                ))
                .await;
                let chunk = [b'x'; 16 * 1024];
                while counter.get() < length && talk.io.write_all(&chunk).await.is_ok() {
                    counter.set(counter.get() + chunk.len());
                }
            }
        })
        .await;
        let outcome = attempt(&receiver).await;
        assert_eq!(outcome.failure.is_none(), succeeds);
        let answer = outcome.answer.unwrap();
        assert!(answer.truncated);
        assert_eq!(answer.body, [b'x'; 8192]);
        until("the connection is closed", || receiver.seen.open.get() == 0).await;
        // What was read, and what the kernel's buffers had room for.
        assert!(written.get() < 20 * 1024 * 1024, "{}", written.get());
    }
}

#[actix_web::test]
async fn an_answer_before_the_whole_request_was_taken_is_read() {
    let receiver = Receiver::scripted(|mut talk, _| async move {
        let mut some = [0; 100];
        talk.io.read_exact(&mut some).await.unwrap();
        talk.say("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            .await;
        // Closed with most of the request unread: the client's writing fails.
    })
    .await;
    let sender = sender();
    let big = Message {
        payload: actix_web::web::Bytes::from(vec![b' '; 30 * 1024 * 1024]),
        is_raw: false,
        content_type: None,
        ..message()
    };
    let outcome = sender.made(&endpoint(receiver.url()), &big, 1).await;
    let (kind, detail) = failure_of(&outcome);
    assert_eq!(
        (kind, status_of(&outcome)),
        (FailureKind::WrongAnswer, Some(413)),
        "{detail}"
    );

    // Half a request went there: the connection serves no other.
    let outcome = sender.made(&endpoint(receiver.url()), &message(), 1).await;
    assert_eq!(status_of(&outcome), Some(413));
    assert!(!outcome.sent_again);
    assert_eq!(receiver.seen.connections.get(), 2);
}

#[actix_web::test]
async fn a_connection_is_kept_for_the_next_attempt() {
    for answer in [OK, NO_CONTENT] {
        let receiver = Receiver::answering(answer).await;
        let sender = sender();
        let endpoint = endpoint(receiver.url());
        let first = sender.made(&endpoint, &message(), 1).await;
        let second = sender.made(&endpoint, &message(), 2).await;
        assert_eq!((first.failure, second.failure), (None, None));
        assert!(first.timings.connect_us.is_some());
        assert_eq!(second.timings.connect_us, None);
        assert!(second.timings.first_byte_us.is_some());
        assert!(!second.sent_again);
        assert_eq!(receiver.seen.connections.get(), 1);
        assert_eq!(receiver.requests().len(), 2);
    }
}

#[actix_web::test]
async fn a_body_that_ends_with_the_connection_ends_its_use() {
    let receiver = Receiver::answering_once("HTTP/1.1 200 OK\r\n\r\nall").await;
    let sender = sender();
    for _ in 0..3 {
        let outcome = sender.made(&endpoint(receiver.url()), &message(), 1).await;
        assert_eq!(outcome.failure, None);
        assert_eq!(outcome.answer.unwrap().body, b"all");
        assert!(!outcome.sent_again);
    }
    assert_eq!(receiver.seen.connections.get(), 3);
}

#[actix_web::test]
async fn a_reused_connection_that_was_closed_is_replaced_within_the_attempt() {
    // Closes each connection, without a word, when its second request has come.
    let receiver = Receiver::scripted(|mut talk, _| async move {
        if talk.request().await.is_some() {
            talk.say(OK).await;
            talk.request().await;
        }
    })
    .await;
    let sender = sender();
    let endpoint = endpoint(receiver.url());
    let first = sender.made(&endpoint, &message(), 1).await;
    let second = sender.made(&endpoint, &message(), 2).await;
    assert_eq!((first.failure, first.sent_again), (None, false));
    assert_eq!((second.failure, second.sent_again), (None, true));
    assert!(second.timings.connect_us.is_some());
    let requests = receiver.requests();
    assert_eq!(requests.len(), 3, "the second attempt went out twice");
    assert_eq!(
        header(&requests[1], "webhook-id"),
        header(&requests[2], "webhook-id")
    );
    assert_eq!(receiver.seen.connections.get(), 2);
}

#[actix_web::test]
async fn the_second_sending_is_on_a_fresh_connection_though_others_are_idle() {
    // The first four requests come at the same time, on four connections, which all then close
    // when they are used again. Only new connections answer.
    let receiver = Receiver::scripted(|mut talk, _| async move {
        if talk.request().await.is_some() {
            until("all have come", || talk.seen.requests.borrow().len() >= 4).await;
            talk.say(OK).await;
            talk.request().await;
        }
    })
    .await;
    let sender = sender();
    let endpoint = endpoint(receiver.url());
    let message = message();
    let one = || sender.made(&endpoint, &message, 1);
    let outcomes = tokio::join!(one(), one(), one(), one());
    assert_eq!(outcomes.3.failure, None);
    assert_eq!(receiver.seen.connections.get(), 4);
    let outcome = one().await;
    assert_eq!((outcome.failure, outcome.sent_again), (None, true));
    assert_eq!(receiver.seen.connections.get(), 5);
    assert_eq!(receiver.requests().len(), 6);
}

#[actix_web::test]
async fn a_second_failure_in_the_same_attempt_is_final() {
    // The first connection answers once; those after it close when the request has come.
    let receiver = Receiver::scripted(|mut talk, number| async move {
        talk.request().await;
        if number == 0 {
            talk.say(OK).await;
            talk.request().await;
        }
    })
    .await;
    let sender = sender();
    let endpoint = endpoint(receiver.url());
    sender.made(&endpoint, &message(), 1).await;
    let outcome = sender.made(&endpoint, &message(), 2).await;
    assert_eq!(failure_of(&outcome).0, FailureKind::BrokenAnswer);
    assert!(outcome.sent_again);
    assert_eq!(receiver.requests().len(), 3);
}

#[actix_web::test]
async fn a_request_that_went_out_is_an_attempt_though_no_second_connection_could_be_made() {
    let receiver = Receiver::scripted(|mut talk, _| async move {
        talk.request().await;
        talk.say(OK).await;
        talk.request().await;
        Descriptors::run_out(true);
    })
    .await;
    let sender = sender();
    let endpoint = endpoint(receiver.url());
    sender.made(&endpoint, &message(), 1).await;
    let outcome = sender.made(&endpoint, &message(), 2).await;
    assert_eq!(
        failure_of(&outcome),
        (
            FailureKind::BrokenAnswer,
            "The connection was closed before an answer came."
        )
    );
    assert!(!outcome.sent_again, "once in all");
    assert_eq!(receiver.requests().len(), 2);

    // What has not left is put off.
    let (endpoint, message) = (Arc::new(endpoint), Arc::new(message()));
    let put_off = sender.attempt(&endpoint, &message, 3).await;
    assert_eq!(put_off.unwrap_err(), Shortage::Files);
    Descriptors::run_out(false);
    assert_eq!(receiver.requests().len(), 2);
}

#[actix_web::test]
async fn an_answer_that_breaks_on_a_reused_connection_is_not_sent_again() {
    let receiver = Receiver::scripted(|mut talk, _| async move {
        talk.request().await;
        talk.say(OK).await;
        talk.request().await;
        talk.say("HTTP/1.1 2").await;
    })
    .await;
    let sender = sender();
    let endpoint = endpoint(receiver.url());
    sender.made(&endpoint, &message(), 1).await;
    let outcome = sender.made(&endpoint, &message(), 2).await;
    assert_eq!(failure_of(&outcome).0, FailureKind::BrokenAnswer);
    assert!(!outcome.sent_again);
    assert_eq!(receiver.requests().len(), 2);
}

#[actix_web::test]
async fn idle_connections_close_without_further_attempts() {
    let receiver = Receiver::answering(OK).await;
    let clock = Clock::manual(NOW);
    let sender = sender_with(clock.clone(), |_| {});
    let endpoint = endpoint(receiver.url());
    sender.made(&endpoint, &message(), 1).await;
    assert_eq!(
        (receiver.seen.open.get(), sender.clients.open_connections()),
        (1, 1)
    );
    clock.advance_to(NOW + Duration::from_secs(30));
    until("the idle connection is closed", || {
        receiver.seen.open.get() == 0
    })
    .await;
    let outcome = sender.made(&endpoint, &message(), 1).await;
    assert_eq!((outcome.failure, outcome.sent_again), (None, false));
}

#[actix_web::test]
async fn one_of_many_shortages_closes_the_idle_connections() {
    let receiver = Receiver::answering(OK).await;
    let sender = sender();
    let endpoint = endpoint(receiver.url());
    sender.made(&endpoint, &message(), 1).await;
    sender.clients.close_idle();
    assert_eq!(sender.clients.open_connections(), 0);
    sender.made(&endpoint, &message(), 2).await;
    sender.clients.close_idle();
    assert_eq!(sender.clients.open_connections(), 1);
}

#[actix_web::test]
async fn many_receivers_do_not_pile_up_connections() {
    let receiver_count = 40;
    let mut settings = Settings::from_config(&config(|_| {}), &OwnAddresses::default()).unwrap();
    settings.idle_connections_max = 8;
    let sender = Sender::new(Arc::new(settings), Clock::System);
    let mut receivers = Vec::new();
    for number in 0..receiver_count {
        let receiver = Receiver::answering(NO_CONTENT).await;
        let endpoint = Endpoint {
            number,
            ..endpoint(receiver.url())
        };
        let outcome = sender.made(&endpoint, &message(), 1).await;
        assert_eq!(outcome.failure, None);
        receivers.push(receiver);
        let open = || -> usize { receivers.iter().map(|one| one.seen.open.get()).sum() };
        // Eight idle ones, one in use, and the one that exceeded.
        until("surplus connections are closed", || open() <= 10).await;
    }
}

mod tls {
    use std::sync::Arc;

    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
    use rustls::server::WebPkiClientVerifier;
    use rustls::server::danger::ClientCertVerifier;
    use rustls::{RootCertStore, ServerConfig};
    use tokio_rustls::TlsAcceptor;

    use super::*;

    struct Authority {
        issuer: Issuer<'static, KeyPair>,
        /// Where its certificate is, as PEM.
        file: tempfile::NamedTempFile,
    }

    /// A new authority; its file holds the certificates in `already` too.
    fn authority(name: &str, already: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{already}{}", certificate.pem())).unwrap();
        Authority {
            issuer: Issuer::new(params, key),
            file,
        }
    }

    fn acceptor(authority: &Authority, name: &str, expired: bool) -> TlsAcceptor {
        acceptor_asking(
            authority,
            name,
            expired,
            WebPkiClientVerifier::no_client_auth(),
        )
    }

    fn acceptor_asking(
        authority: &Authority,
        name: &str,
        expired: bool,
        verifier: Arc<dyn ClientCertVerifier>,
    ) -> TlsAcceptor {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if expired {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &authority.issuer).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }

    /// Answers every request on every connection; drops connections without a goodbye.
    async fn receiver(acceptor: TlsAcceptor, answer: &'static str, requests: usize) -> Receiver {
        Receiver::scripted(move |talk, _| {
            let acceptor = acceptor.clone();
            async move {
                let Conversation { io, seen } = talk;
                let Ok(io) = acceptor.accept(io).await else {
                    return;
                };
                let mut talk = Conversation { io, seen };
                for _ in 0..requests {
                    if talk.request().await.is_some() {
                        talk.say(answer).await;
                    }
                }
            }
        })
        .await
    }

    fn sender(trusted: &Authority) -> Sender {
        sender_with(Clock::System, |config| {
            config["delivery"]["extra_ca_file"] = json!(trusted.file.path());
        })
    }

    #[actix_web::test]
    async fn a_valid_certificate_is_accepted_and_the_connection_reused() {
        let authority = authority("ours", "");
        // Also a literal address, which has no name to send.
        for host in ["localhost", "127.0.0.1"] {
            let receiver = receiver(acceptor(&authority, host, false), OK, 2).await;
            let sender = sender(&authority);
            let url = format!("https://{host}:{}/hook", receiver.address.port());
            let endpoint = endpoint(url);
            let first = sender.made(&endpoint, &message(), 1).await;
            assert_eq!(first.failure, None);
            assert!(first.timings.tls_us.is_some());
            let second = sender.made(&endpoint, &message(), 1).await;
            assert_eq!((second.failure, second.sent_again), (None, false));
            assert_eq!(second.timings.tls_us, None);
            assert_eq!(receiver.seen.connections.get(), 1);
            // The third finds the connection closed, and makes a new one.
            let third = sender.made(&endpoint, &message(), 1).await;
            assert_eq!(third.failure, None);
            assert_eq!(receiver.seen.connections.get(), 2);
            let expected = format!("{host}:{}", receiver.address.port());
            assert_eq!(header(&receiver.requests()[0], "host"), [expected]);
        }
    }

    #[actix_web::test]
    async fn what_is_wrong_with_a_certificate_is_told() {
        let ours = authority("ours", "");
        let other = authority("another", "");
        for (acceptor, expected) in [
            (acceptor(&ours, "localhost", true), "has expired"),
            (acceptor(&ours, "example.com", false), "is for another host"),
            (acceptor(&other, "localhost", false), "is unknown"),
        ] {
            let receiver = receiver(acceptor, OK, 1).await;
            let sender = sender(&ours);
            let endpoint = endpoint(format!("https://localhost:{}/", receiver.address.port()));
            let outcome = sender.made(&endpoint, &message(), 1).await;
            let (kind, detail) = failure_of(&outcome);
            assert_eq!(kind, FailureKind::Tls);
            assert!(detail.contains(expected), "{detail}");
            assert!(receiver.requests().is_empty());
        }
    }

    /// The certificate that `openssl req -x509` makes: its own authority, and a server's at once.
    #[actix_web::test]
    async fn a_certificate_of_the_extra_file_is_trusted_for_its_own_names_while_it_is_valid() {
        let self_signed = |name: &str, expired: bool| {
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            if expired {
                params.not_before = rcgen::date_time_ymd(2020, 1, 1);
                params.not_after = rcgen::date_time_ymd(2021, 1, 1);
            }
            let key = KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            (certificate, key)
        };
        let other = self_signed("localhost", false).0;
        for (name, expired, is_pinned, expected) in [
            ("localhost", false, true, None),
            ("localhost", false, false, Some("not acceptable")),
            ("localhost", true, true, Some("has expired")),
            ("example.com", false, true, Some("is for another host")),
        ] {
            let (certificate, key) = self_signed(name, expired);
            let file = tempfile::NamedTempFile::new().unwrap();
            let pem = if is_pinned { &certificate } else { &other };
            std::fs::write(file.path(), pem.pem()).unwrap();
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
            let receiver = receiver(acceptor_of(certificate.der().clone(), key), OK, 1).await;
            let sender = sender_with(Clock::System, |config| {
                config["delivery"]["extra_ca_file"] = json!(file.path());
            });
            let endpoint = endpoint(format!("https://localhost:{}/", receiver.address.port()));
            let outcome = sender.made(&endpoint, &message(), 1).await;
            match (expected, &outcome.failure) {
                (None, None) => assert_eq!(receiver.requests().len(), 1),
                (Some(part), Some(failure)) => {
                    assert_eq!(failure.kind, FailureKind::Tls);
                    assert!(failure.detail.contains(part), "{}", failure.detail);
                    assert!(receiver.requests().is_empty());
                }
                _ => panic!("{name}, {expired}, {is_pinned}: {:?}", outcome.failure),
            }
        }
    }

    /// Keys of P-521, and certificates that are signed with it: ecdsa-with-SHA512.
    #[actix_web::test]
    async fn a_certificate_with_a_key_of_p_521_is_accepted_and_so_is_one_signed_with_sha_512() {
        let p_521 = || KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
        let p_256 = || KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        for (case, authority_key, leaf_key) in [
            ("both", p_521(), p_521()),
            ("the chain", p_521(), p_256()),
            ("the key", p_256(), p_521()),
        ] {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let file = tempfile::NamedTempFile::new().unwrap();
            let own = params.self_signed(&authority_key).unwrap();
            std::fs::write(file.path(), own.pem()).unwrap();
            let issuer = Issuer::new(params, authority_key);
            let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            let certificate = params.signed_by(&leaf_key, &issuer).unwrap();
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
            let receiver = receiver(acceptor_of(certificate.der().clone(), key), OK, 1).await;
            let sender = sender_with(Clock::System, |config| {
                config["delivery"]["extra_ca_file"] = json!(file.path());
            });
            let endpoint = endpoint(format!("https://localhost:{}/", receiver.address.port()));
            let outcome = sender.made(&endpoint, &message(), 1).await;
            assert_eq!(outcome.failure, None, "{case}");
            assert_eq!(receiver.requests().len(), 1, "{case}");
        }
    }

    fn acceptor_of(
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
    ) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    /// h2 is linked by way of awc, and has a known fault.
    #[actix_web::test]
    async fn a_receiver_of_http_2_alone_gets_no_byte_of_it() {
        let authority = authority("ours", "");
        let acceptor = acceptor(&authority, "localhost", false);
        let mut config = ServerConfig::clone(acceptor.config());
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let handshakes = Rc::new(Cell::new((0, 0)));
        let counted = handshakes.clone();
        let receiver = Receiver::scripted(move |talk, _| {
            let (acceptor, counted) = (acceptor.clone(), counted.clone());
            async move {
                let result = acceptor.accept(talk.io).await;
                let (begun, done) = counted.get();
                counted.set((begun + 1, done + usize::from(result.is_ok())));
            }
        })
        .await;
        let sender = sender(&authority);
        let endpoint = endpoint(format!("https://localhost:{}/", receiver.address.port()));
        let outcome = sender.made(&endpoint, &message(), 1).await;
        let (kind, detail) = failure_of(&outcome);
        assert_eq!(kind, FailureKind::Tls);
        assert!(detail.contains("HTTP/2 is not offered"), "{detail}");
        until("the handshake ends", || handshakes.get().0 == 1).await;
        assert_eq!(handshakes.get(), (1, 0));
    }

    #[actix_web::test]
    async fn a_refusal_after_the_handshake_is_a_failure_of_tls() {
        let authority = authority("ours", "");
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(authority.file.path()).unwrap() {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .unwrap();
        let acceptor = acceptor_asking(&authority, "localhost", false, verifier);
        let receiver = receiver(acceptor, OK, 1).await;
        let sender = sender(&authority);
        let endpoint = endpoint(format!("https://localhost:{}/", receiver.address.port()));
        let outcome = sender.made(&endpoint, &message(), 1).await;
        let (kind, detail) = failure_of(&outcome);
        assert_eq!(kind, FailureKind::Tls, "{detail}");
        assert!(detail.contains("wants a client certificate"), "{detail}");
        assert!(!outcome.sent_again);
    }

    #[actix_web::test]
    async fn a_receiver_without_tls_is_told_from_one_that_closes() {
        let sender = super::sender();
        for (answer, expected) in [
            (OK, "does not speak TLS"),
            ("", "ended within the TLS handshake"),
        ] {
            let receiver = Receiver::scripted(move |mut talk, _| async move {
                let mut some = [0; 16];
                talk.io.read_exact(&mut some).await.unwrap();
                talk.say(answer).await;
                let mut rest = [0; 4096];
                let _ = talk.io.read(&mut rest).await;
            })
            .await;
            let endpoint = endpoint(receiver.url().replace("http:", "https:"));
            let outcome = sender.made(&endpoint, &message(), 1).await;
            let (kind, detail) = failure_of(&outcome);
            assert_eq!(kind, FailureKind::Tls);
            assert!(detail.contains(expected), "{detail}");
        }
    }

    #[actix_web::test]
    async fn an_end_without_goodbye_ends_a_body_only_where_no_length_is_known() {
        let authority = authority("ours", "");
        for (answer, broken) in [
            ("HTTP/1.1 200 OK\r\n\r\nall", false),
            ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nall", true),
        ] {
            let receiver = receiver(acceptor(&authority, "localhost", false), answer, 1).await;
            let sender = sender(&authority);
            let endpoint = endpoint(format!("https://localhost:{}/", receiver.address.port()));
            let outcome = sender.made(&endpoint, &message(), 1).await;
            let kind = outcome.failure.map(|failure| failure.kind);
            assert_eq!(
                kind,
                broken.then_some(FailureKind::BrokenAnswer),
                "{answer}"
            );
        }
    }

    #[test]
    fn the_extra_file_may_hold_several_certificates() {
        let first = authority("first", "");
        let already = std::fs::read_to_string(first.file.path()).unwrap();
        let both = authority("second", &already);
        let load = |path: PathBuf| {
            let config = config(|config| {
                config["delivery"]["extra_ca_file"] = json!(path);
            });
            Settings::from_config(&config, &OwnAddresses::default())
                .map(|_| ())
                .map_err(|error| error.to_string())
        };
        assert_eq!(load(both.file.path().to_owned()), Ok(()));
        let empty = tempfile::NamedTempFile::new().unwrap();
        for path in [
            empty.path().to_owned(),
            PathBuf::from("/does/not/exist.pem"),
        ] {
            let error = load(path).unwrap_err();
            assert!(error.starts_with("delivery.extra_ca_file: "), "{error}");
        }
    }
}

#[actix_web::test]
async fn an_answer_that_is_not_kept_decides_all_the_same() {
    let mut config = config(|config| {
        config["limits"]["answer_kept_bytes"] = json!(0);
        config["delivery"]["default_profile"] = json!("picky");
    });
    let picky = toml::from_str("[success]\nstatus = ['200']\nbody = 'OK'\n").unwrap();
    config.profiles.insert("picky".to_owned(), picky);
    let settings = Settings::from_config(&config, &OwnAddresses::default()).unwrap();
    let sender = Sender::new(Arc::new(settings), Clock::System);
    for (body, fits) in [
        ("OK", true),
        ("OK\r\n", true),
        ("OK, no", false),
        ("no", false),
    ] {
        let length = body.len();
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
        let receiver = Receiver::answering(&text).await;
        let outcome = sender.made(&endpoint(receiver.url()), &message(), 1).await;
        assert_eq!(
            outcome.failure.is_none(),
            fits,
            "{body}: {:?}",
            outcome.failure
        );
        let answer = outcome.answer.unwrap();
        assert!(answer.body.is_empty() && answer.truncated, "{body}");
    }
}

#[test]
fn an_unknown_profile_stops_the_start_with_its_name() {
    let config = config(|config| {
        config["delivery"]["default_profile"] = json!("slak");
    });
    let error = Settings::from_config(&config, &OwnAddresses::default())
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("delivery.default_profile: "), "{error}");
}
