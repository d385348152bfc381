//! The log of attempts: a line each, and a limit of lines for each endpoint.

use std::collections::HashMap;
use std::sync::Mutex;

use super::DELIVERED;
use crate::clock::Timestamp;
use crate::config;
use crate::domain::attempt::{Outcome, Verdict};
use crate::domain::id::{EndpointId, MessageId};
use crate::lock::locked;

/// The target of the lines about attempts, for filters of the log.
const ATTEMPT_TARGET: &str = "postrider::attempt";

/// One attempt, as a line of the log.
pub struct AttemptLine<'a> {
    pub message: MessageId,
    pub endpoint: EndpointId,
    pub number: u32,
    pub outcome: &'a Outcome,
    pub verdict: Verdict,
    /// The message was a test.
    pub test: bool,
}

/// One line for each attempt: successes at debug, failures at info, of which each endpoint gets
/// only so many in a minute.
pub struct AttemptLog {
    limiter: Mutex<Limiter>,
}

impl AttemptLog {
    pub fn new(settings: &config::LogSection) -> AttemptLog {
        AttemptLog {
            limiter: Mutex::new(Limiter::new(settings.failures_per_endpoint_minute_max)),
        }
    }

    pub fn record(&self, now: Timestamp, line: &AttemptLine<'_>) {
        let failed = line.outcome.failure.is_some();
        let (suppressed, shown) = {
            let mut limiter = locked(self.limiter.lock());
            let suppressed = limiter.begin_minute(now);
            (suppressed, !failed || limiter.admits(line.endpoint))
        };
        for (endpoint, count) in suppressed {
            let whose = match endpoint {
                Some(endpoint) => format!("endpoint={endpoint}"),
                None => "of further endpoints".to_owned(),
            };
            log::info!(target: ATTEMPT_TARGET, "failed attempts {whose} suppressed={count}");
        }
        if failed && shown {
            log::info!(target: ATTEMPT_TARGET, "{line}");
        } else if !failed {
            log::debug!(target: ATTEMPT_TARGET, "{line}");
        }
    }
}

impl std::fmt::Display for AttemptLine<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let AttemptLine {
            message,
            endpoint,
            number,
            outcome,
            verdict,
            test,
        } = self;
        let failure = outcome.failure.as_ref();
        let name = failure.map_or(DELIVERED, |failure| failure.kind.name());
        write!(
            f,
            "attempt message={message} endpoint={endpoint} number={number}"
        )?;
        if *test {
            f.write_str(" test=true")?;
        }
        write!(f, " outcome={name}")?;
        if let Some(answer) = &outcome.answer {
            write!(f, " status={}", answer.status)?;
        }
        write!(f, " ms={}", outcome.timings.total_us / 1000)?;
        match verdict {
            Verdict::RetryAt(due) => write!(f, " next_due={due}")?,
            Verdict::GiveUp => f.write_str(" next_due=never")?,
            Verdict::DisableEndpoint => f.write_str(" next_due=never endpoint_disabled=true")?,
            Verdict::Delivered => {}
        }
        if let Some(failure) = failure {
            // Quoted and escaped: parts of it can come from the receiver.
            write!(f, " detail={:?}", failure.detail)?;
        }
        Ok(())
    }
}

/// Endpoints that are told apart in one minute; failures of further ones are counted together.
const LIMITER_ENDPOINTS_MAX: usize = 10_000;

/// Which failures of the running minute are shown. Pure: the time comes in.
struct Limiter {
    per_minute_max: u32,
    minute: u64,
    failures: HashMap<EndpointId, u32>,
    beyond: u32,
}

impl Limiter {
    fn new(per_minute_max: u32) -> Limiter {
        Limiter {
            per_minute_max,
            minute: 0,
            failures: HashMap::new(),
            beyond: 0,
        }
    }

    /// Forgets the minute before, once it is over, and says how many failures of which endpoint
    /// were not shown in it; `None` stands for all endpoints that were too many to tell apart.
    fn begin_minute(&mut self, now: Timestamp) -> Vec<(Option<EndpointId>, u32)> {
        let minute = now.as_seconds() / 60;
        if minute == self.minute {
            return Vec::new();
        }
        self.minute = minute;
        let shown = self.per_minute_max;
        let mut suppressed: Vec<_> = self
            .failures
            .drain()
            .filter(|(_, count)| *count > shown)
            .map(|(endpoint, count)| (Some(endpoint), count - shown))
            .collect();
        if self.beyond > 0 {
            suppressed.push((None, std::mem::take(&mut self.beyond)));
        }
        suppressed
    }

    /// Counts a failure and says whether it is shown.
    fn admits(&mut self, endpoint: EndpointId) -> bool {
        if self.failures.len() >= LIMITER_ENDPOINTS_MAX && !self.failures.contains_key(&endpoint) {
            self.beyond = self.beyond.saturating_add(1);
            return false;
        }
        let count = self.failures.entry(endpoint).or_default();
        *count = count.saturating_add(1);
        *count <= self.per_minute_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::attempt::{Answer, FailureKind, SendFailure, Timings};
    use crate::domain::profile::Method;

    fn endpoint(number: u32) -> EndpointId {
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        EndpointId(bytes)
    }

    #[test]
    fn each_endpoint_is_shown_up_to_its_limit_and_the_rest_is_counted() {
        let mut limiter = Limiter::new(2);
        let minute = Timestamp::from_seconds(600);
        assert_eq!(limiter.begin_minute(minute), []);
        let shown: Vec<bool> = (0..5).map(|_| limiter.admits(endpoint(1))).collect();
        assert_eq!(shown, [true, true, false, false, false]);
        assert!(limiter.admits(endpoint(2)), "another endpoint has its own");
        assert_eq!(limiter.begin_minute(Timestamp::from_seconds(659)), []);
        assert_eq!(
            limiter.begin_minute(Timestamp::from_seconds(660)),
            [(Some(endpoint(1)), 3)]
        );
        assert!(limiter.admits(endpoint(1)), "a new minute begins anew");
    }

    #[test]
    fn a_limit_of_zero_shows_none_and_counts_all() {
        let mut limiter = Limiter::new(0);
        limiter.begin_minute(Timestamp::from_seconds(60));
        assert!(!limiter.admits(endpoint(1)));
        assert_eq!(
            limiter.begin_minute(Timestamp::from_seconds(120)),
            [(Some(endpoint(1)), 1)]
        );
    }

    #[test]
    fn the_memory_for_the_limit_is_bounded() {
        let mut limiter = Limiter::new(1);
        limiter.begin_minute(Timestamp::from_seconds(60));
        for number in 0..LIMITER_ENDPOINTS_MAX as u32 {
            assert!(limiter.admits(endpoint(number)));
        }
        for number in 0..7 {
            assert!(!limiter.admits(endpoint(1_000_000 + number)));
        }
        assert_eq!(limiter.failures.len(), LIMITER_ENDPOINTS_MAX);
        assert_eq!(
            limiter.begin_minute(Timestamp::from_seconds(120)),
            [(None, 7)]
        );
        assert!(limiter.failures.is_empty());
    }

    #[test]
    fn a_line_tells_the_attempt_and_cannot_be_broken_by_the_receiver() {
        let outcome = Outcome {
            method: Method::Post,
            url: String::new(),
            started_at: Timestamp(0),
            timings: Timings {
                total_us: 12_345,
                ..Timings::default()
            },
            request_headers: Vec::new(),
            answer: Some(Answer {
                status: 500,
                headers: Vec::new(),
                body: Vec::new(),
                truncated: false,
            }),
            failure: Some(SendFailure {
                kind: FailureKind::WrongAnswer,
                detail: "status 500\nattempt forged".to_owned(),
            }),
            sent_again: false,
            is_final: false,
        };
        let message = MessageId([1; 20]);
        let endpoint = EndpointId([2; 20]);
        let line = AttemptLine {
            message,
            endpoint,
            number: 2,
            outcome: &outcome,
            verdict: Verdict::RetryAt(Timestamp(1_700_000_000_250)),
            test: false,
        };
        let expected = format!(
            "attempt message={message} endpoint={endpoint} number=2 outcome=wrong_answer \
             status=500 ms=12 next_due=2023-11-14T22:13:20.250Z \
             detail=\"status 500\\nattempt forged\""
        );
        assert_eq!(line.to_string(), expected);
        let line = AttemptLine { test: true, ..line };
        let expected = expected.replacen(" outcome", " test=true outcome", 1);
        assert_eq!(line.to_string(), expected);
    }
}
