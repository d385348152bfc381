//! From an attempt's outcome to the verdict on its delivery.
//!
//! Called by the worker after every attempt. Pure: time and randomness come in as arguments. A
//! success delivers, 410 disables the endpoint, anything else is retried while the schedule lasts and
//! the message has not expired.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_web::http::header::HttpDate;

use crate::clock::Timestamp;
use crate::domain::attempt::{Answer, FailureKind, Outcome, Verdict};
use crate::domain::retry::RetrySchedule;

/// The verdict on an outcome after `attempts` attempts, this one included, where `random` lies
/// between 0 and 1. A `Retry-After` in the answer makes the wait longer, never shorter, and
/// counts up to `retry_after_max`. From `expires_at` on nothing is sent, so no retry is due then.
pub fn judge(
    outcome: &Outcome,
    attempts: u32,
    schedule: &RetrySchedule,
    now: Timestamp,
    retry_after_max: Duration,
    expires_at: Option<Timestamp>,
    random: f64,
) -> Verdict {
    let Some(failure) = &outcome.failure else {
        return Verdict::Delivered;
    };
    if outcome.is_final
        || matches!(
            failure.kind,
            FailureKind::Expired | FailureKind::BreakerOpen
        )
    {
        return Verdict::GiveUp;
    }
    let status = outcome.answer.as_ref().map(|answer| answer.status);
    if failure.kind == FailureKind::WrongAnswer && status == Some(410) {
        return Verdict::DisableEndpoint;
    }
    match outcome.answer.as_ref().map(control) {
        Some(Control { disables: true, .. }) => return Verdict::DisableEndpoint,
        Some(Control { aborts: true, .. }) => return Verdict::GiveUp,
        _ => {}
    }
    let Some(delay) = schedule.delay_after(attempts, random) else {
        return Verdict::GiveUp;
    };
    let asked_for = outcome
        .answer
        .as_ref()
        .and_then(|answer| retry_after(answer, now))
        .unwrap_or_default()
        .min(retry_after_max);
    let due = now + delay.max(asked_for);
    match expires_at {
        Some(end) if end <= due => Verdict::GiveUp,
        _ => Verdict::RetryAt(due),
    }
}

/// The instructions of the receiver in the header `webhook-delivery` of an answer, as Svix's documents have them
/// (docs.svix.com/receiving/delivery-control).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// `disable`: nothing more is to be sent to the endpoint.
    pub disables: bool,
    /// `abort-message`: this message is not to be tried again.
    pub aborts: bool,
}

/// Returns the instructions in an answer. Others than the two are ignored.
pub fn control(answer: &Answer) -> Control {
    let mut control = Control::default();
    let values = answer.headers.iter();
    let values = values.filter(|(name, _)| name.eq_ignore_ascii_case("webhook-delivery"));
    for word in values.flat_map(|(_, value)| value.split(',')) {
        let word = word.trim();
        control.disables |= word.eq_ignore_ascii_case("disable");
        control.aborts |= word.eq_ignore_ascii_case("abort-message");
    }
    control
}

/// Returns until when nothing is to be sent to the endpoint: the `Retry-After` of an answer 429 or 503, up to `max`
/// from `now`.
pub fn rest_until(outcome: &Outcome, now: Timestamp, max: Duration) -> Option<Timestamp> {
    let answer = outcome.answer.as_ref()?;
    if outcome.failure.is_none() || !matches!(answer.status, 429 | 503) || max.is_zero() {
        return None;
    }
    let asked_for = retry_after(answer, now).filter(|wait| !wait.is_zero())?;
    Some(now + asked_for.min(max))
}

/// How long from `now` the answer asks to be left alone: `Retry-After` in seconds or as a date
/// (RFC 9110, section 10.2.3). Any other value is as good as absent.
fn retry_after(answer: &Answer, now: Timestamp) -> Option<Duration> {
    let (_, value) = answer
        .headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("retry-after"))?;
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number has are a very long time.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date: HttpDate = value.parse().ok()?;
    let since_epoch = SystemTime::from(date).duration_since(UNIX_EPOCH).ok()?;
    Some(Timestamp::from_seconds(since_epoch.as_secs()).since(now))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::attempt::{SendFailure, Timings};
    use crate::domain::profile::Method;
    use crate::domain::retry::Waits;

    /// 2023-11-14T22:13:20Z
    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn outcome(kind: Option<FailureKind>, status: Option<u16>, retry_after: &str) -> Outcome {
        let headers = match retry_after {
            "" => Vec::new(),
            value => vec![("Retry-After".to_owned(), value.to_owned())],
        };
        Outcome {
            method: Method::Post,
            url: String::new(),
            started_at: NOW,
            timings: Timings::default(),
            request_headers: Vec::new(),
            answer: status.map(|status| Answer {
                status,
                headers,
                body: Vec::new(),
                truncated: false,
            }),
            failure: kind.map(|kind| SendFailure {
                kind,
                detail: String::new(),
            }),
            sent_again: false,
            is_final: false,
        }
    }

    fn verdict(outcome: &Outcome, attempts: u32) -> Verdict {
        verdict_until(outcome, attempts, None)
    }

    fn verdict_until(outcome: &Outcome, attempts: u32, expires_at: Option<Timestamp>) -> Verdict {
        let schedule = RetrySchedule {
            waits: Waits::Listed(vec![Duration::from_secs(5), Duration::from_secs(300)]),
            jitter: 0.2,
        };
        judge(
            outcome,
            attempts,
            &schedule,
            NOW,
            Duration::from_secs(3600),
            expires_at,
            0.5,
        )
    }

    fn after(seconds: u64) -> Verdict {
        Verdict::RetryAt(NOW + Duration::from_secs(seconds))
    }

    #[test]
    fn a_failure_that_waiting_cannot_change_is_the_last() {
        let mut outcome = outcome(Some(FailureKind::NotSendable), None, "");
        outcome.is_final = true;
        assert_eq!(verdict(&outcome, 1), Verdict::GiveUp);
    }

    #[test]
    fn each_outcome_has_its_verdict() {
        use FailureKind::*;
        for (kind, status, retry_after, attempts, expected) in [
            (None, Some(200), "", 1, Verdict::Delivered),
            (None, Some(204), "120", 3, Verdict::Delivered),
            (
                Some(WrongAnswer),
                Some(410),
                "",
                1,
                Verdict::DisableEndpoint,
            ),
            (
                Some(WrongAnswer),
                Some(410),
                "",
                3,
                Verdict::DisableEndpoint,
            ),
            (Some(BrokenAnswer), Some(410), "", 1, after(5)),
            (Some(WrongAnswer), Some(500), "", 1, after(5)),
            (Some(WrongAnswer), Some(500), "", 2, after(300)),
            (Some(WrongAnswer), Some(500), "", 3, Verdict::GiveUp),
            (Some(Timeout), None, "", 1, after(5)),
            (Some(Dns), None, "", 3, Verdict::GiveUp),
            (Some(NotSendable), None, "", 1, after(5)),
            // Retry-After lengthens the wait, up to the cap, and nothing else.
            (Some(WrongAnswer), Some(429), "120", 1, after(120)),
            (Some(WrongAnswer), Some(503), " 120 ", 1, after(120)),
            (Some(WrongAnswer), Some(500), "120", 1, after(120)),
            (Some(WrongAnswer), Some(429), "120", 2, after(300)),
            (Some(WrongAnswer), Some(429), "120", 3, Verdict::GiveUp),
            (Some(WrongAnswer), Some(429), "0", 1, after(5)),
            (Some(WrongAnswer), Some(429), "86400", 1, after(3600)),
            (
                Some(WrongAnswer),
                Some(429),
                "99999999999999999999999",
                1,
                after(3600),
            ),
            (Some(WrongAnswer), Some(429), "-5", 1, after(5)),
            (Some(WrongAnswer), Some(429), "soon", 1, after(5)),
            (
                Some(WrongAnswer),
                Some(429),
                "Tue, 14 Nov 2023 22:15:20 GMT",
                1,
                after(120),
            ),
            (
                Some(WrongAnswer),
                Some(503),
                "Tue, 14 Nov 2023 22:12:20 GMT",
                1,
                after(5),
            ),
            (
                Some(WrongAnswer),
                Some(503),
                "Sat, 14 Nov 2043 22:12:20 GMT",
                1,
                after(3600),
            ),
            (
                Some(WrongAnswer),
                Some(503),
                "Thu, 01 Jan 1970 00:00:00 GMT",
                1,
                after(5),
            ),
        ] {
            let outcome = outcome(kind, status, retry_after);
            assert_eq!(
                verdict(&outcome, attempts),
                expected,
                "{kind:?} {status:?} {retry_after:?} after {attempts}"
            );
        }
    }

    #[test]
    fn no_retry_is_due_when_the_message_has_expired() {
        use FailureKind::*;
        let until = |kind, status, retry_after, milliseconds| {
            let end = Timestamp(NOW.0 + milliseconds);
            verdict_until(&outcome(kind, status, retry_after), 1, Some(end))
        };
        for (kind, status, retry_after, milliseconds, expected) in [
            (Some(WrongAnswer), Some(500), "", 5_001, after(5)),
            (Some(WrongAnswer), Some(500), "", 5_000, Verdict::GiveUp),
            (Some(WrongAnswer), Some(500), "6", 6_000, Verdict::GiveUp),
            (Some(WrongAnswer), Some(500), "", 0, Verdict::GiveUp),
            (Some(Expired), None, "", 0, Verdict::GiveUp),
            (
                Some(WrongAnswer),
                Some(410),
                "",
                0,
                Verdict::DisableEndpoint,
            ),
            // It was sent in time.
            (None, Some(200), "", 0, Verdict::Delivered),
        ] {
            let verdict = until(kind, status, retry_after, milliseconds);
            assert_eq!(verdict, expected, "{kind:?} {retry_after} {milliseconds}");
        }
    }

    proptest! {
        #[test]
        fn no_header_shortens_the_wait_or_exceeds_the_cap(value in "\\PC{0,40}") {
            let Verdict::RetryAt(due) =
                verdict(&outcome(Some(FailureKind::WrongAnswer), Some(503), &value), 1)
            else {
                panic!("a retry is left");
            };
            prop_assert!(due.since(NOW) >= Duration::from_secs(5));
            prop_assert!(due.since(NOW) <= Duration::from_secs(3600));
        }
    }
}
