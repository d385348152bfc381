//! `sink`: a test receiver that prints the requests it gets and can misbehave on request.
//!
//! For trying things out and for tests by hand: it keeps nothing, and listens on loopback unless
//! told otherwise. With a profile it checks that requests are as the profile makes them, and gives an
//! answer that the profile takes for success.

use std::fmt::Write;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::HeaderMap;
use actix_web::web::{self, Bytes};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use futures_core::Stream as _;

use super::verify::{parse_secret, profile, verifier};
use super::{Failure, Result, printable, say};
use crate::api;
use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::delivery::sign::{SignedHeaders, VerifyingKey};
use crate::delivery::verifier::{Captured, Verifier};
use crate::domain::profile::Success;
use crate::domain::verification;

/// Far above a body that a server sends; a longer one is answered with 413.
const BODY_MAX_BYTES: usize = 64 << 20;

/// Bodies of all requests that are being read; those beyond it are answered with 503.
const BODIES_MAX_BYTES: usize = 256 << 20;

/// How long is read on, and forgotten, after an answer to a body that was too long, so that the
/// answer arrives.
const LAST_READS: Duration = Duration::from_secs(1);

/// Above the number of requests that a server has in flight by default.
const CONNECTIONS_MAX: usize = 10_000;

/// With --quiet, how often the counts are printed if they changed.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// Headers that say nothing about the webhook.
const DULL_HEADERS: [&str; 6] = [
    "host",
    "accept",
    "connection",
    "content-length",
    "date",
    "transfer-encoding",
];

#[derive(Clone, clap::Args)]
pub struct Arguments {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// The profile of the requests, which also gives the answer [default: signatures by Standard
    /// Webhooks, and 200]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Check signatures with the endpoint's secret, or its public key (whpk_…)
    #[arg(long, env = "POSTRIDER_SECRET", hide_env_values = true)]
    secret: Option<String>,
    /// The status to answer with [default: the profile's for success, or 200]
    #[arg(long, value_parser = parse_status)]
    status: Option<StatusCode>,
    /// Wait before answering, in milliseconds
    #[arg(long, value_name = "N", default_value_t = 0)]
    delay_ms: u64,
    /// The body to answer with [default: without --status the profile's for success, or none]
    #[arg(long, value_name = "TEXT")]
    body: Option<String>,
    /// Answer the first N requests with 500
    #[arg(long, value_name = "N", default_value_t = 0)]
    fail_first: u64,
    /// Never answer
    #[arg(long)]
    hang: bool,
    /// How long a request's body may take to come, in seconds; then it is answered with 408
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    read_timeout_seconds: u64,
    /// Print counts only
    #[arg(long)]
    quiet: bool,
}

/// The settings and counts that every request is answered from.
struct Receiver {
    arguments: Arguments,
    check: Check,
    answer: Answer,
    counts: Arc<Counts>,
    /// Bytes of bodies that are held.
    held: AtomicUsize,
}

/// How signatures are checked.
enum Check {
    No,
    /// Of either family of headers.
    StandardWebhooks(VerifyingKey),
    Profile(Verifier),
}

/// The answer to a request that is not made to fail.
#[derive(Debug, PartialEq)]
struct Answer {
    status: StatusCode,
    content_type: String,
    body: String,
}

/// The counts of received requests.
#[derive(Default)]
struct Counts {
    received: AtomicU64,
    verified: AtomicU64,
    not_verified: AtomicU64,
}

/// Whether a request's signature holds.
#[derive(Clone, Debug, PartialEq)]
enum Signature {
    Verifies,
    /// With the reasons.
    DoesNotVerify(String),
    Absent,
    /// With the reason.
    NotChecked(&'static str),
}

impl Arguments {
    pub fn run(self, settings: impl FnOnce() -> Result<Config>) -> Result {
        let secret = self.secret.as_deref();
        let check = match (&self.profile, secret) {
            (Some(name), _) => Check::Profile(verifier(&profile(name, &settings()?)?, secret)?),
            (None, Some(secret)) => Check::StandardWebhooks(parse_secret(secret)?),
            (None, None) => Check::No,
        };
        actix_rt::System::new().block_on(self.serve(check))
    }

    /// The answer by the arguments; where they say nothing, one that the profile takes for success.
    fn answer(&self, success: &Success) -> Answer {
        let statuses = success.status.as_ref();
        let first = statuses
            .filter(|all| !all.contains(200))
            .and_then(|all| all.first());
        let first = first.and_then(|status| StatusCode::from_u16(status).ok());
        let content_type = success.content_type.as_deref().unwrap_or("text/plain");
        let body = match self.status {
            None => success.body.clone(),
            Some(_) => None,
        };
        Answer {
            status: self.status.or(first).unwrap_or(StatusCode::OK),
            content_type: content_type.to_owned(),
            body: self.body.clone().or(body).unwrap_or_default(),
        }
    }

    async fn serve(self, check: Check) -> Result {
        let counts = Arc::new(Counts::default());
        let quiet = self.quiet;
        let listen = self.listen;
        let answer = match &check {
            Check::Profile(verifier) => self.answer(&verifier.profile().settings.success),
            _ => self.answer(&Success::default()),
        };
        let receiver = web::Data::new(Receiver {
            arguments: self,
            check,
            answer,
            counts: Arc::clone(&counts),
            held: AtomicUsize::new(0),
        });
        let server = HttpServer::new(move || {
            App::new()
                .wrap_fn(api::close_unread)
                .app_data(receiver.clone())
                .default_service(web::to(receive))
        })
        .on_connect(|_, data| drop(data.insert(api::Unread::default())))
        // One thread, so that blocks are printed in the order in which requests came.
        .workers(1)
        // A request that hangs must not hold up the end.
        .shutdown_timeout(0)
        .max_connections(CONNECTIONS_MAX)
        .client_disconnect_timeout(LAST_READS)
        .bind(listen)
        .map_err(|error| Failure::failed(format!("cannot listen on {listen}: {error}")))?;
        for address in server.addrs() {
            say(&format!("listening on http://{address}"))?;
        }
        if quiet {
            actix_rt::spawn(print_counts(Arc::clone(&counts)));
        }
        server.run().await.map_err(Failure::failed)?;
        say(&counts.to_string())
    }
}

async fn receive(
    request: HttpRequest,
    mut payload: web::Payload,
    receiver: web::Data<Receiver>,
) -> HttpResponse {
    let Receiver {
        arguments,
        check,
        answer,
        counts,
        held,
    } = receiver.get_ref();
    let mut room = Held { bytes: 0, of: held };
    let limit = Duration::from_secs(arguments.read_timeout_seconds);
    let body = match tokio::time::timeout(limit, read(&mut payload, &mut room)).await {
        Ok(Ok(body)) => body,
        Ok(Err(status)) => return unread(status),
        Err(_) => return unread(StatusCode::REQUEST_TIMEOUT),
    };
    let number = counts.received.fetch_add(1, Ordering::Relaxed) + 1;
    let now = Clock::System.now();
    let signature = check.signature(&request, &body, now);
    match &signature {
        Signature::Verifies => counts.verified.fetch_add(1, Ordering::Relaxed),
        Signature::DoesNotVerify(_) | Signature::Absent => {
            counts.not_verified.fetch_add(1, Ordering::Relaxed)
        }
        Signature::NotChecked(_) => 0,
    };
    let status = if number <= arguments.fail_first {
        StatusCode::INTERNAL_SERVER_ERROR
    } else {
        answer.status
    };
    let challenge = match &signature {
        Signature::Verifies | Signature::NotChecked(_) => challenge(&body),
        Signature::DoesNotVerify(_) | Signature::Absent => None,
    };
    if !arguments.quiet {
        let told = if arguments.hang {
            "none (--hang)".to_owned()
        } else {
            status.to_string()
        };
        let block = describe(number, now, &request, &signature, &told, &body);
        if say(&block).is_err() {
            // Nobody reads any more, so nobody needs the receiver.
            actix_rt::System::current().stop();
        }
    }
    // Answers that wait hold no bodies.
    drop((body, room));
    if arguments.hang {
        std::future::pending::<()>().await;
    }
    if arguments.delay_ms > 0 {
        actix_rt::time::sleep(Duration::from_millis(arguments.delay_ms)).await;
    }
    if let Some(challenge) = challenge.filter(|_| status.is_success()) {
        return HttpResponse::Ok()
            .content_type("text/plain")
            .body(challenge);
    }
    HttpResponse::build(status)
        .content_type(answer.content_type.as_str())
        .body(answer.body.clone())
}

/// The answer to a challenge of a server that verifies endpoints; none for other requests.
fn challenge(body: &[u8]) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let is_challenge = body["type"] == verification::EVENT_TYPE;
    is_challenge.then(|| body["challenge"].as_str().map(str::to_owned))?
}

/// The answer to a request whose body was not read to its end, and the end of its connection.
fn unread(status: StatusCode) -> HttpResponse {
    HttpResponse::build(status).force_close().finish()
}

/// The bytes of a request's body, of those that all bodies together may take.
struct Held<'a> {
    bytes: usize,
    of: &'a AtomicUsize,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A request's body. The error is the status that says why it is not read.
async fn read(
    payload: &mut web::Payload,
    room: &mut Held<'_>,
) -> std::result::Result<Bytes, StatusCode> {
    let mut body = web::BytesMut::new();
    while let Some(chunk) = poll_fn(|cx| Pin::new(&mut *payload).poll_next(cx)).await {
        let chunk = chunk.map_err(|_| StatusCode::BAD_REQUEST)?;
        if body.len() + chunk.len() > BODY_MAX_BYTES {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        room.bytes += chunk.len();
        if room.of.fetch_add(chunk.len(), Ordering::Relaxed) + chunk.len() > BODIES_MAX_BYTES {
            return Err(StatusCode::SERVICE_UNAVAILABLE);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

impl Check {
    fn signature(&self, request: &HttpRequest, body: &Bytes, now: Timestamp) -> Signature {
        match self {
            Check::No => Signature::NotChecked("no --secret"),
            Check::StandardWebhooks(key) => standard(key, request.headers(), body, now),
            Check::Profile(verifier) => {
                let headers = request.headers().iter();
                let captured = Captured {
                    method: Some(request.method().to_string()),
                    url: Some(request.uri().to_string()),
                    headers: headers
                        .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
                        .collect(),
                    body: body.clone(),
                };
                let problems = verifier.problems(&captured, Some(now));
                let signs = verifier.profile().signs();
                match (problems.is_empty(), verifier.checks_signatures()) {
                    (false, _) => Signature::DoesNotVerify(problems.join("; ")),
                    (true, true) => Signature::Verifies,
                    (true, false) if signs => Signature::NotChecked("no --secret"),
                    (true, false) => Signature::NotChecked("the profile has no signature"),
                }
            }
        }
    }
}

/// Checks `webhook-signature`, or `svix-signature`, with the headers that belong to it.
fn standard(key: &VerifyingKey, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Signature {
    let header = |prefix: &str, name: &str| headers.get(format!("{prefix}-{name}"))?.to_str().ok();
    let signed = ["webhook", "svix"].into_iter().find_map(|prefix| {
        Some(SignedHeaders {
            id: header(prefix, "id")?,
            timestamp: header(prefix, "timestamp")?,
            signature: header(prefix, "signature")?,
        })
    });
    match signed.map(|signed| key.verify(signed, body, now)) {
        None => Signature::Absent,
        Some(Ok(())) => Signature::Verifies,
        Some(Err(why)) => Signature::DoesNotVerify(why.to_string()),
    }
}

/// One request as a block of lines.
fn describe(
    number: u64,
    at: Timestamp,
    request: &HttpRequest,
    signature: &Signature,
    answer: &str,
    body: &[u8],
) -> String {
    let mut block = format!("#{number} {at} {} {}\n", request.method(), request.uri());
    let mut headers: Vec<_> = request.headers().iter().collect();
    headers.retain(|(name, _)| !DULL_HEADERS.contains(&name.as_str()));
    headers.sort_by_key(|(name, _)| name.as_str());
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        writeln!(block, "  {name}: {value}").expect("writing to a String does not fail");
    }
    let verdict = match signature {
        Signature::Verifies => "verifies".to_owned(),
        Signature::DoesNotVerify(why) => format!("DOES NOT VERIFY: {why}"),
        Signature::Absent => "MISSING".to_owned(),
        Signature::NotChecked(why) => format!("not checked ({why})"),
    };
    let body = String::from_utf8_lossy(body);
    write!(
        block,
        "  signature {verdict}\n  answer {answer}\n\n{body}\n"
    )
    .expect("writing to a String does not fail");
    printable(&block)
}

async fn print_counts(counts: Arc<Counts>) {
    let mut printed = String::new();
    loop {
        actix_rt::time::sleep(COUNT_EVERY).await;
        let now = counts.to_string();
        if now != printed {
            if say(&now).is_err() {
                actix_rt::System::current().stop();
            }
            printed = now;
        }
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "received {} verified {} not verified {}",
            self.received.load(Ordering::Relaxed),
            self.verified.load(Ordering::Relaxed),
            self.not_verified.load(Ordering::Relaxed)
        )
    }
}

fn parse_status(text: &str) -> std::result::Result<StatusCode, String> {
    match StatusCode::from_str(text) {
        // 1xx are not final answers, and actix would wait for one.
        Ok(status) if !status.is_informational() => Ok(status),
        _ => Err("must be a status from 200 to 999".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_answered_and_other_requests_are_not_taken_for_one() {
        let sent = verification::body("abc", Timestamp(0));
        for (body, expected) in [
            (sent.as_str(), Some("abc")),
            (r#"{"type":"invoice.paid","challenge":"abc"}"#, None),
            (r#"{"type":"postrider.verification"}"#, None),
            ("abc", None),
        ] {
            assert_eq!(challenge(body.as_bytes()).as_deref(), expected, "{body}");
        }
    }
    use crate::config;
    use crate::delivery::sign::NotVerified;
    use actix_web::test::TestRequest;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;

    fn request(prefix: &str) -> HttpRequest {
        TestRequest::post()
            .uri("/hooks?a=1")
            .insert_header((format!("{prefix}-id"), "msg_p5jXN8AQM9LWM0D4loKWxJek"))
            .insert_header((format!("{prefix}-timestamp"), "1614265330"))
            .insert_header((
                format!("{prefix}-signature"),
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ))
            .to_http_request()
    }

    #[test]
    fn both_header_families_are_checked() {
        let key = parse_secret(SECRET).ok().expect("a secret");
        let check = Check::StandardWebhooks(key);
        let then = Timestamp::from_seconds(1_614_265_330);
        let later = then + Duration::from_secs(3600);
        let body = Bytes::from_static(BODY);
        let unverified = |why: NotVerified| Signature::DoesNotVerify(why.to_string());
        for prefix in ["webhook", "svix"] {
            let request = request(prefix);
            let verdict = check.signature(&request, &body, then);
            assert_eq!(verdict, Signature::Verifies);
            let verdict = check.signature(&request, &Bytes::from_static(b"{}"), then);
            assert_eq!(verdict, unverified(NotVerified::NoMatch));
            let verdict = check.signature(&request, &body, later);
            assert_eq!(verdict, unverified(NotVerified::TooOld));
            let verdict = Check::No.signature(&request, &body, then);
            assert_eq!(verdict, Signature::NotChecked("no --secret"));
        }
        let unsigned = TestRequest::post().to_http_request();
        let verdict = check.signature(&unsigned, &body, then);
        assert_eq!(verdict, Signature::Absent);
    }

    fn by_profile(name: &str, secret: Option<&str>) -> Check {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config.toml");
        let flags = config::Flags { dev: false };
        let config = config::load(Some(file.as_ref()), flags).unwrap();
        let profile = profile(name, &config).ok().expect("it is shipped");
        Check::Profile(verifier(&profile, secret).ok().expect("it fits"))
    }

    #[test]
    fn a_profile_says_what_is_checked() {
        let then = Timestamp::from_seconds(1_614_265_330);
        let body = Bytes::from_static(BODY);
        let webhook = request("webhook");
        for (profile, secret, expected) in [
            ("standard", Some(SECRET), Signature::Verifies),
            ("standard", None, Signature::NotChecked("no --secret")),
            (
                "okhi",
                None,
                Signature::NotChecked("the profile has no signature"),
            ),
            (
                "slack",
                Some("some secret"),
                Signature::DoesNotVerify(
                    "header x-slack-request-timestamp is missing; \
                     header x-slack-signature is missing"
                        .to_owned(),
                ),
            ),
        ] {
            let verdict = by_profile(profile, secret).signature(&webhook, &body, then);
            assert_eq!(verdict, expected, "{profile}");
        }
        let later = then + Duration::from_secs(3600);
        let verdict = by_profile("standard", Some(SECRET)).signature(&webhook, &body, later);
        let expected = Signature::DoesNotVerify(NotVerified::TooOld.to_string());
        assert_eq!(verdict, expected);
    }

    #[test]
    fn the_answer_is_what_the_profile_takes_for_success_unless_told_otherwise() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            arguments: Arguments,
        }
        let Check::Profile(ovcode) = by_profile("ovcode", None) else {
            panic!("it is a profile's");
        };
        for (line, status, body) in [
            ("sink", 200, "OK"),
            ("sink --body no", 200, "no"),
            ("sink --status 503", 503, ""),
            ("sink --status 201 --body OK", 201, "OK"),
        ] {
            let line: Line = clap::Parser::parse_from(line.split(' '));
            let expected = Answer {
                status: StatusCode::from_u16(status).unwrap(),
                content_type: "text/plain".to_owned(),
                body: body.to_owned(),
            };
            let answer = line.arguments.answer(&ovcode.profile().settings.success);
            assert_eq!(answer, expected);
        }
        let line: Line = clap::Parser::parse_from(["sink"]);
        let mut success = Success::default();
        assert_eq!(line.arguments.answer(&success).status, StatusCode::OK);
        success.status = serde_json::from_str("[\"202-204\"]").unwrap();
        assert_eq!(line.arguments.answer(&success).status, StatusCode::ACCEPTED);
    }

    #[test]
    fn a_block_shows_what_matters_and_no_control_characters() {
        let block = describe(
            3,
            Timestamp(0),
            &request("webhook"),
            &Signature::Verifies,
            "200 OK",
            b"{\"a\":\"\x1b[2J\"}",
        );
        assert!(
            block.starts_with("#3 1970-01-01T00:00:00.000Z POST /hooks?a=1\n"),
            "{block}"
        );
        assert!(
            block.contains("  webhook-id: msg_p5jXN8AQM9LWM0D4loKWxJek\n"),
            "{block}"
        );
        assert!(
            block.ends_with("  signature verifies\n  answer 200 OK\n\n{\"a\":\"\\u{1b}[2J\"}\n"),
            "{block}"
        );
    }

    #[test]
    fn only_final_statuses_can_be_answered() {
        assert!(parse_status("204").is_ok());
        for bad in ["100", "99", "abc", ""] {
            assert!(parse_status(bad).is_err(), "{bad}");
        }
    }
}
