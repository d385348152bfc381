//! `sink`: a test receiver that prints the requests it gets and can misbehave on request.
//!
//! For trying things out and for tests by hand: it keeps nothing, and listens on loopback unless
//! told otherwise.

use std::fmt::Write;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::HeaderMap;
use actix_web::web::{self, Bytes};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};

use super::verify::parse_secret;
use super::{Failure, Result, printable, say};
use crate::clock::{Clock, Timestamp};
use crate::delivery::sign::{NotVerified, SignedHeaders, VerifyingKey};

/// Far above what a server sends; a longer body is answered with 413.
const BODY_MAX_BYTES: usize = 64 << 20;

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
    /// Check signatures with the endpoint's secret (whsec_…) or public key (whpk_…)
    #[arg(long, env = "POSTRIDER_SECRET", hide_env_values = true)]
    secret: Option<String>,
    /// The status to answer with
    #[arg(long, default_value = "200", value_parser = parse_status)]
    status: StatusCode,
    /// Wait before answering, in milliseconds
    #[arg(long, value_name = "N", default_value_t = 0)]
    delay_ms: u64,
    /// The body to answer with
    #[arg(long, value_name = "TEXT", default_value = "")]
    body: String,
    /// Answer the first N requests with 500
    #[arg(long, value_name = "N", default_value_t = 0)]
    fail_first: u64,
    /// Never answer
    #[arg(long)]
    hang: bool,
    /// Print counts only
    #[arg(long)]
    quiet: bool,
}

/// What every request is answered from.
struct Receiver {
    arguments: Arguments,
    key: Option<VerifyingKey>,
    counts: Arc<Counts>,
}

/// What was received so far.
#[derive(Default)]
struct Counts {
    received: AtomicU64,
    verified: AtomicU64,
    not_verified: AtomicU64,
}

/// Whether a request's signature holds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Signature {
    Verifies,
    DoesNotVerify(NotVerified),
    Absent,
    NotChecked,
}

impl Arguments {
    pub fn run(self) -> Result {
        let key = self.secret.as_deref().map(parse_secret).transpose()?;
        actix_rt::System::new().block_on(self.serve(key))
    }

    async fn serve(self, key: Option<VerifyingKey>) -> Result {
        let counts = Arc::new(Counts::default());
        let quiet = self.quiet;
        let listen = self.listen;
        let receiver = web::Data::new(Receiver {
            arguments: self,
            key,
            counts: Arc::clone(&counts),
        });
        let server = HttpServer::new(move || {
            App::new()
                .app_data(receiver.clone())
                .app_data(web::PayloadConfig::new(BODY_MAX_BYTES))
                .default_service(web::to(receive))
        })
        // One thread, so that blocks are printed in the order in which requests came.
        .workers(1)
        // A request that hangs must not hold up the end.
        .shutdown_timeout(0)
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

async fn receive(request: HttpRequest, body: Bytes, receiver: web::Data<Receiver>) -> HttpResponse {
    let Receiver {
        arguments,
        key,
        counts,
    } = receiver.get_ref();
    let number = counts.received.fetch_add(1, Ordering::Relaxed) + 1;
    let now = Clock::System.now();
    let signature = check(key.as_ref(), request.headers(), &body, now);
    match signature {
        Signature::Verifies => counts.verified.fetch_add(1, Ordering::Relaxed),
        Signature::DoesNotVerify(_) | Signature::Absent => {
            counts.not_verified.fetch_add(1, Ordering::Relaxed)
        }
        Signature::NotChecked => 0,
    };
    let status = if number <= arguments.fail_first {
        StatusCode::INTERNAL_SERVER_ERROR
    } else {
        arguments.status
    };
    if !arguments.quiet {
        let answer = if arguments.hang {
            "none (--hang)".to_owned()
        } else {
            status.to_string()
        };
        let block = describe(number, now, &request, signature, &answer, &body);
        if say(&block).is_err() {
            // Nobody reads any more, so nobody needs the receiver.
            actix_rt::System::current().stop();
        }
    }
    if arguments.hang {
        std::future::pending::<()>().await;
    }
    if arguments.delay_ms > 0 {
        actix_rt::time::sleep(Duration::from_millis(arguments.delay_ms)).await;
    }
    HttpResponse::build(status)
        .content_type("text/plain")
        .body(arguments.body.clone())
}

/// Checks `webhook-signature`, or `svix-signature`, with the headers that belong to it.
fn check(
    key: Option<&VerifyingKey>,
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Signature {
    let Some(key) = key else {
        return Signature::NotChecked;
    };
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
        Some(Err(why)) => Signature::DoesNotVerify(why),
    }
}

/// One request as a block of lines.
fn describe(
    number: u64,
    at: Timestamp,
    request: &HttpRequest,
    signature: Signature,
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
        Signature::NotChecked => "not checked (no --secret)".to_owned(),
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
        let then = Timestamp::from_seconds(1_614_265_330);
        let later = then + Duration::from_secs(3600);
        for prefix in ["webhook", "svix"] {
            let request = request(prefix);
            let check = |key, body, now| check(key, request.headers(), body, now);
            assert_eq!(check(Some(&key), BODY, then), Signature::Verifies);
            assert_eq!(
                check(Some(&key), b"{}", then),
                Signature::DoesNotVerify(NotVerified::NoMatch)
            );
            assert_eq!(
                check(Some(&key), BODY, later),
                Signature::DoesNotVerify(NotVerified::TooOld)
            );
            assert_eq!(check(None, BODY, then), Signature::NotChecked);
        }
        let unsigned = TestRequest::post().to_http_request();
        assert_eq!(
            check(Some(&key), unsigned.headers(), BODY, then),
            Signature::Absent
        );
    }

    #[test]
    fn a_block_shows_what_matters_and_no_control_characters() {
        let block = describe(
            3,
            Timestamp(0),
            &request("webhook"),
            Signature::Verifies,
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
