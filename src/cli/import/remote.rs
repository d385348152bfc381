//! One of the two servers: requests that are tried again, and lists by pages.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Bytes;
use awc::http::{Method, StatusCode, header};
use rustls::ClientConfig;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::client::{no_answer, refusal, too_slow};
use super::super::pages::Pages;
use super::super::{Failure, Result, printable};
use super::thing::Fields;

/// Longest answer that is read: a page of event types with long schemas.
const ANSWER_MAX_BYTES: usize = 64 << 20;

/// How long an answer may take before it is said that it is waited for.
const QUIET: Duration = Duration::from_secs(2);

/// How often a request is sent at most, and the waits between: 0.5 s, 1 s, … 30 s.
const TRIES: u32 = 10;
const FIRST_WAIT: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(30);
/// The longest wait that a server may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

pub struct Remote {
    /// Its name in messages.
    name: &'static str,
    pub base: String,
    token: String,
    client: awc::Client,
    /// How long one answer may take, to its last byte.
    timeout: Duration,
    /// Where it says that it waits.
    tell: Box<dyn Fn(&str)>,
}

#[derive(Deserialize)]
struct List {
    data: Vec<Fields>,
    iterator: Option<String>,
    done: Option<bool>,
}

impl Remote {
    pub fn new(
        name: &'static str,
        base: &str,
        token: &str,
        tls: Arc<ClientConfig>,
        timeout: Duration,
        tell: impl Fn(&str) + 'static,
    ) -> Remote {
        let connector = awc::Connector::new().rustls_0_23(tls).timeout(timeout);
        let client = awc::Client::builder()
            .connector(connector)
            .disable_redirects()
            .disable_timeout()
            .finish();
        Remote {
            name,
            base: base.to_owned(),
            token: token.to_owned(),
            client,
            timeout,
            tell: Box::new(tell),
        }
    }

    /// The next page of a list; nothing behind the last.
    pub async fn next_page(&self, list: &mut Pages) -> Result<Option<Vec<Fields>>> {
        let Some(path) = list.path() else {
            return Ok(None);
        };
        let answer = self.send(Method::GET, &path, None, None).await?;
        let page: List = answer.succeeded()?.json()?;
        let names = page.data.iter().map(|item| {
            let name = item.get("id").or_else(|| item.get("name"));
            name.map_or("", |name| name.get())
        });
        list.read(names, page.iterator.as_deref(), page.done)
            .map_err(|why| Failure::failed(format!("{}: the list {path} {why}", self.name)))?;
        Ok(Some(page.data))
    }

    /// Sends a request until it is answered with something else than that it should come later.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Fields>,
        idempotency_key: Option<&str>,
    ) -> Result<Answered> {
        let body = body.map(|body| serde_json::to_string(body).expect("its keys are texts"));
        let mut tried = 0;
        loop {
            tried += 1;
            let once = self.try_once(&method, path, body.as_deref(), idempotency_key);
            let outcome = self.in_time(once).await;
            let asked = match &outcome {
                Ok(answer) if !answer.comes_later() => return outcome,
                Ok(answer) => answer.retry_after,
                Err(_) => None,
            };
            if tried == TRIES {
                return outcome.and_then(Answered::succeeded);
            }
            let pause = wait(tried, asked);
            (self.tell)(&self.waiting(&outcome, tried, pause));
            tokio::time::sleep(pause).await;
        }
    }

    /// That a request is sent again, why, and how long that may go on.
    fn waiting(&self, outcome: &Result<Answered>, tried: u32, pause: Duration) -> String {
        let reason = match outcome {
            Ok(answer) => format!("{}: {}", self.name, answer.reason()),
            Err(Failure::Failed(reason)) => reason.clone(),
            Err(_) => String::new(),
        };
        let left = TRIES - tried;
        let pauses: Duration = (tried + 1..TRIES).map(|tried| wait(tried, None)).sum();
        let at_most = pause + pauses + self.timeout * left;
        format!(
            "{reason}; asking again in {} s, and up to {left} times within {} s",
            pause.as_secs_f64(),
            at_most.as_secs_f64().ceil()
        )
    }

    /// To the last byte of the body: a limit of awc's own ends with the head.
    async fn in_time(&self, exchange: impl Future<Output = Result<Answered>>) -> Result<Answered> {
        let mut exchange = pin!(exchange);
        let quiet = QUIET.min(self.timeout);
        if let Ok(answered) = tokio::time::timeout(quiet, &mut exchange).await {
            return answered;
        }
        let left = self.timeout - quiet;
        if !left.is_zero() {
            let (name, base) = (self.name, &self.base);
            let left = left.as_secs_f64();
            (self.tell)(&format!(
                "{name}: waiting for an answer of {base}, for {left} s more at most (Ctrl-C ends the \
                 import; run again, it goes on where it was)"
            ));
        }
        let answered = tokio::time::timeout(left, exchange).await;
        answered.unwrap_or_else(|_| Err(too_slow(&self.base, self.timeout)))
    }

    async fn try_once(
        &self,
        method: &Method,
        path: &str,
        body: Option<&str>,
        idempotency_key: Option<&str>,
    ) -> Result<Answered> {
        let (name, base) = (self.name, &self.base);
        let mut request = self
            .client
            .request(method.clone(), format!("{base}{path}"))
            .bearer_auth(&self.token)
            .insert_header((header::ACCEPT, "application/json"));
        if let Some(key) = idempotency_key {
            request = request.insert_header(("idempotency-key", key));
        }
        let sent = match body {
            Some(body) => {
                let request = request.content_type("application/json");
                request.send_body(body.to_owned()).await
            }
            None => request.send().await,
        };
        let mut answer = sent.map_err(|error| {
            let why = no_answer(&error);
            Failure::failed(format!("{name}: cannot reach the server at {base}: {why}"))
        })?;
        let status = answer.status();
        let retry_after = answer.headers().get(header::RETRY_AFTER);
        let retry_after = retry_after
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            .map(Duration::from_secs);
        let body = answer.body().limit(ANSWER_MAX_BYTES).await;
        let body = body.map_err(|error| {
            Failure::failed(format!("{name}: the answer of {base} broke off: {error}"))
        })?;
        Ok(Answered {
            name,
            status,
            retry_after,
            body,
        })
    }
}

/// How long to wait after this many tries.
fn wait(tried: u32, asked: Option<Duration>) -> Duration {
    let own = FIRST_WAIT
        .saturating_mul(1 << (tried - 1).min(10))
        .min(WAIT_MAX);
    asked.map_or(own, |asked| {
        asked.clamp(own.min(FIRST_WAIT), RETRY_AFTER_MAX)
    })
}

pub struct Answered {
    name: &'static str,
    status: StatusCode,
    retry_after: Option<Duration>,
    body: Bytes,
}

impl Answered {
    fn comes_later(&self) -> bool {
        self.status == StatusCode::TOO_MANY_REQUESTS
            || self.status == StatusCode::REQUEST_TIMEOUT
            || self.status.is_server_error() && self.status != StatusCode::NOT_IMPLEMENTED
    }

    /// Whether the server has understood the request and refuses it; other requests may succeed. A refused
    /// credential does not count.
    pub fn refused(&self) -> bool {
        !self.status.is_success() && self.status != StatusCode::UNAUTHORIZED && !self.comes_later()
    }

    pub fn is_missing(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
    }

    /// Whether the refusal is about this field of the body.
    pub fn is_about(&self, field: &str) -> bool {
        let answer: Value = serde_json::from_slice(&self.body).unwrap_or(Value::Null);
        let problems = answer["detail"].as_array();
        problems
            .into_iter()
            .flatten()
            .any(|problem| problem["loc"][1] == field)
    }

    pub fn reason(&self) -> String {
        let answer = serde_json::from_slice(&self.body).unwrap_or(Value::Null);
        printable(&refusal(self.status, &answer))
    }

    pub fn succeeded(self) -> Result<Answered> {
        match self.status.is_success() {
            true => Ok(self),
            false => Err(Failure::failed(format!("{}: {}", self.name, self.reason()))),
        }
    }

    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|_| {
            Failure::failed(format!(
                "{}: the server's answer is not what its API promises",
                self.name
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source that sends a byte now and then never comes to an end by itself.
    #[actix_web::test]
    async fn an_answer_that_drips_has_a_limit_of_time() {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let dripping = std::thread::spawn(move || {
            let (mut talk, _) = listener.accept().unwrap();
            let pace = Duration::from_millis(20);
            talk.set_read_timeout(Some(pace)).unwrap();
            let mut written = talk.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n");
            while written.is_ok() {
                // Nothing comes within the time, until the other side goes.
                if matches!(talk.read(&mut [0; 4096]), Ok(0)) {
                    return;
                }
                written = talk.write(b" ");
            }
        });
        let tls = crate::delivery::tls::client_config("none", None).unwrap();
        let limit = Duration::from_millis(300);
        let remote = Remote::new("source", &base, "token", Arc::new(tls), limit, |_| {});
        let once = remote.try_once(&Method::GET, "/", None, None);
        let Err(Failure::Failed(reason)) = remote.in_time(once).await else {
            panic!("it has no end");
        };
        let expected =
            format!("the server at {base} did not answer within 0.3 s (--timeout-seconds)");
        assert_eq!(reason, expected);
        drop(remote);
        dripping.join().unwrap();
    }

    #[test]
    fn waits_grow_and_what_the_server_asks_for_counts_within_reason() {
        let seconds =
            |tried, asked: Option<u64>| wait(tried, asked.map(Duration::from_secs)).as_secs_f64();
        assert_eq!(seconds(1, None), 0.5);
        assert_eq!(seconds(3, None), 2.0);
        assert_eq!(seconds(9, None), 30.0);
        assert_eq!(seconds(1, Some(7)), 7.0);
        assert_eq!(seconds(9, Some(0)), 0.5);
        assert_eq!(seconds(1, Some(1_000_000)), 300.0);
    }

    #[test]
    fn an_answer_says_what_to_do_with_it() {
        let answer = |status: u16, body: &'static str| Answered {
            name: "target",
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: None,
            body: Bytes::from_static(body.as_bytes()),
        };
        for (status, later, refused) in [
            (200, false, false),
            (401, false, false),
            (403, false, true),
            (404, false, true),
            (422, false, true),
            (429, true, false),
            (501, false, true),
            (503, true, false),
        ] {
            let answer = answer(status, "");
            assert_eq!(answer.comes_later(), later, "{status}");
            assert_eq!(answer.refused(), refused, "{status}");
        }
        let invalid = r#"{"detail":[{"loc":["body","secret"],"msg":"no","type":"value_error"}]}"#;
        assert!(answer(422, invalid).is_about("secret"));
        assert!(!answer(422, invalid).is_about("headers"));
    }
}
