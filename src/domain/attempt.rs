//! An attempt: one HTTP request made for a delivery, its outcome, and the verdict on it.

use super::id::{ApplicationId, AttemptId, EndpointId, MessageId};
use super::profile::Method;
use crate::clock::Timestamp;

/// Why an attempt was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// By the schedule: the first attempt and its retries.
    Scheduled,
    /// By a caller's hand.
    Manual,
}

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The address rule forbids every address of the endpoint's host.
    AddressForbidden,
    /// The host's name did not resolve.
    Dns,
    /// Nobody listens there.
    ConnectionRefused,
    /// No connection for another reason: unreachable, reset, too slow to connect.
    ConnectionFailed,
    /// The handshake failed or the certificate is not acceptable.
    Tls,
    /// Connect, headers and body together took longer than the attempt may.
    Timeout,
    /// The answer is not HTTP, or it ended early.
    BrokenAnswer,
    /// The answer does not mean success.
    WrongAnswer,
    /// The stored endpoint and message give no request that can be sent; the detail says why.
    NotSendable,
    /// The message expired before its turn came: no request was made.
    Expired,
    /// A defect of postrider broke the attempt off.
    InternalError,
    /// The endpoint's lane was open until the whole schedule would have ended: no request was made.
    BreakerOpen,
    /// Somebody let go of the delivery while it waited for an endpoint that got nothing: no request was made.
    Canceled,
}

impl FailureKind {
    /// The kind's name, the same wherever it is shown.
    pub fn name(self) -> &'static str {
        match self {
            FailureKind::AddressForbidden => "address_forbidden",
            FailureKind::Dns => "dns",
            FailureKind::ConnectionRefused => "connection_refused",
            FailureKind::ConnectionFailed => "connection_failed",
            FailureKind::Tls => "tls",
            FailureKind::Timeout => "timeout",
            FailureKind::BrokenAnswer => "broken_answer",
            FailureKind::WrongAnswer => "wrong_answer",
            FailureKind::NotSendable => "not_sendable",
            FailureKind::Expired => "expired",
            FailureKind::InternalError => "internal_error",
            FailureKind::BreakerOpen => "breaker_open",
            FailureKind::Canceled => "canceled",
        }
    }

    /// Whether it says something about the receiver, or about the way to it.
    pub fn is_the_receivers(self) -> bool {
        match self {
            FailureKind::AddressForbidden
            | FailureKind::Dns
            | FailureKind::ConnectionRefused
            | FailureKind::ConnectionFailed
            | FailureKind::Tls
            | FailureKind::Timeout
            | FailureKind::BrokenAnswer
            | FailureKind::WrongAnswer => true,
            FailureKind::NotSendable
            | FailureKind::Expired
            | FailureKind::InternalError
            | FailureKind::BreakerOpen
            | FailureKind::Canceled => false,
        }
    }

    pub const ALL: [FailureKind; 13] = [
        FailureKind::AddressForbidden,
        FailureKind::Dns,
        FailureKind::ConnectionRefused,
        FailureKind::ConnectionFailed,
        FailureKind::Tls,
        FailureKind::Timeout,
        FailureKind::BrokenAnswer,
        FailureKind::WrongAnswer,
        FailureKind::NotSendable,
        FailureKind::Expired,
        FailureKind::InternalError,
        FailureKind::BreakerOpen,
        FailureKind::Canceled,
    ];
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendFailure {
    pub kind: FailureKind,
    /// A sentence for the log's reader; never holds a secret.
    pub detail: String,
}

/// The receiver's answer, as far as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// The headers in the order they came; values that are not text are shown lossily.
    pub headers: Vec<(String, String)>,
    /// The beginning of the body, up to the size that is kept.
    pub body: Vec<u8>,
    /// The body was longer than what is kept.
    pub truncated: bool,
}

/// How long the parts of an attempt took, in microseconds; absent where a part was not reached or
/// a connection was reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    pub dns_us: Option<u32>,
    pub connect_us: Option<u32>,
    pub tls_us: Option<u32>,
    pub first_byte_us: Option<u32>,
    pub total_us: u32,
}

/// The outcome of one HTTP request: an answer, a failure, or an answer that is a failure.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub started_at: Timestamp,
    pub timings: Timings,
    pub method: Method,
    /// Where the request went; without credentials.
    pub url: String,
    /// Request headers as sent, secrets masked.
    pub request_headers: Vec<(String, String)>,
    pub answer: Option<Answer>,
    /// Absent means success.
    pub failure: Option<SendFailure>,
    /// A reused connection turned out closed before any byte of an answer, and the request went
    /// again on a fresh one.
    pub sent_again: bool,
    /// The message itself is the cause of the failure: another attempt would fail in the same way.
    pub is_final: bool,
}

impl Outcome {
    /// No request could be made.
    pub fn not_sent(
        url: &str,
        method: Method,
        started_at: Timestamp,
        failure: SendFailure,
    ) -> Outcome {
        Outcome {
            started_at,
            timings: Timings::default(),
            method,
            url: url.to_owned(),
            request_headers: Vec::new(),
            answer: None,
            failure: Some(failure),
            sent_again: false,
            is_final: false,
        }
    }
}

/// The meaning of an outcome for its delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Delivered,
    RetryAt(Timestamp),
    GiveUp,
    /// The endpoint said that it is gone: it is disabled, and its deliveries are held.
    DisableEndpoint,
}

/// An attempt as the log keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    pub id: AttemptId,
    pub application: ApplicationId,
    pub message: MessageId,
    pub endpoint: EndpointId,
    /// 1 for the first attempt of a schedule.
    pub number: u32,
    pub trigger: Trigger,
    pub started_at: Timestamp,
    pub timings: Timings,
    /// Where the request went; without credentials.
    pub url: String,
    pub method: String,
    pub request_headers: Vec<(String, String)>,
    pub answer: Option<Answer>,
    pub failure: Option<SendFailure>,
    pub sent_again: bool,
    pub verdict: Verdict,
    /// The message was a test and was not published.
    pub test: bool,
}

impl Attempt {
    /// It was no request: a search of the queue found that the delivery had ended.
    pub fn is_of_a_search(&self) -> bool {
        let kind = self.failure.as_ref().map(|failure| failure.kind);
        kind == Some(FailureKind::BreakerOpen)
    }

    /// Returns why the attempt failed, in words for the middle of a sentence; none where it did not. Like the
    /// log's sentence, from which it is made, it never holds a secret.
    pub fn failure_words(&self) -> Option<String> {
        let failure = self.failure.as_ref()?;
        let detail = failure.detail.trim_end_matches('.');
        let status = self.answer.as_ref().map(|answer| answer.status);
        Some(match (failure.kind, status) {
            (FailureKind::WrongAnswer, Some(status @ 200..=299)) => {
                format!("HTTP {status}, but not the answer that its profile takes for a success")
            }
            (FailureKind::WrongAnswer, Some(status @ 300..=399)) => {
                format!("HTTP {status}, a redirect, which is not followed")
            }
            (FailureKind::WrongAnswer, Some(status)) => format!("HTTP {status}"),
            (FailureKind::Timeout, _) => format!("timed out: {}", begun_small(detail)),
            (FailureKind::ConnectionRefused, _) => "connection refused".to_owned(),
            (FailureKind::InternalError, _) => "an internal error of postrider".to_owned(),
            _ if detail.is_empty() => failure.kind.name().replace('_', " "),
            _ => begun_small(detail),
        })
    }

    /// The rough size of the attempt when it is shown.
    pub fn bytes(&self) -> usize {
        let of_headers = |headers: &[(String, String)]| -> usize {
            let each = headers.iter();
            each.map(|(name, value)| name.len() + value.len() + 8).sum()
        };
        let answer = self
            .answer
            .as_ref()
            .map_or(0, |answer| answer.body.len() + of_headers(&answer.headers));
        self.url.len() + of_headers(&self.request_headers) + answer
    }

    /// When the delivery is next due, where this attempt was not its last.
    pub fn next_due(&self) -> Option<Timestamp> {
        match self.verdict {
            Verdict::RetryAt(due) => Some(due),
            Verdict::Delivered | Verdict::GiveUp | Verdict::DisableEndpoint => None,
        }
    }
}

/// A sentence's text with a small first letter, unless its first word is an abbreviation.
fn begun_small(sentence: &str) -> String {
    let mut letters = sentence.chars();
    match (letters.next(), letters.next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => {
            let rest = &sentence[first.len_utf8()..];
            first.to_lowercase().chain(rest.chars()).collect()
        }
        _ => sentence.to_owned(),
    }
}
