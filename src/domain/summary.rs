//! The sentences in which operational events are told: what happened to which endpoint, and why.
//!
//! Chats and mails show them as they are, so whatever comes from others is kept on its line and cut.

use super::attempt::{Attempt, Verdict};
use super::disabled::DisabledReason;
use super::endpoint::Endpoint;
use super::notice::{Told, ToldKind};
use super::one_line::one_line;
use super::operational::{AttemptedMessage, Subject};
use crate::clock::Timestamp;

/// Characters of a URL, of a name and of a failure in an event. They bound the summary, as the services
/// that show it do.
const URL_CHARACTERS_MAX: usize = 200;
const NAME_CHARACTERS_MAX: usize = 100;
const FAILURE_CHARACTERS_MAX: usize = 300;

/// The endpoint and its owner as a sentence begins with them. Without the URL's query, which often carries a key of
/// the receiver's: summaries are read by many.
pub fn title(subject: Subject<'_>) -> String {
    let url = subject.endpoint.url.split(['?', '#']).next();
    format!(
        "{} of {}",
        one_line(url.unwrap_or_default(), URL_CHARACTERS_MAX),
        one_line(&subject.application.name, NAME_CHARACTERS_MAX)
    )
}

/// A failure in words, for the middle of a sentence.
pub fn failure(words: &str) -> String {
    one_line(words, FAILURE_CHARACTERS_MAX)
}

/// Why attempts disabled the endpoint, as the end of a sentence. They have failed since then, if none has succeeded
/// meanwhile.
pub fn why_disabled(endpoint: &Endpoint, fail_since: Option<Timestamp>) -> String {
    let reason = endpoint.disabled.map(|disabled| disabled.reason);
    match (reason, fail_since) {
        (Some(DisabledReason::Gone), _) => {
            "was disabled, because it answered HTTP 410: it is gone".to_owned()
        }
        (Some(DisabledReason::Requested), _) => {
            "was disabled, because its receiver asked for it".to_owned()
        }
        (_, Some(since)) => {
            format!("was disabled, because nothing but failures came since {since}")
        }
        (_, None) => "was disabled".to_owned(),
    }
}

/// A message to people, as the end of a sentence.
pub fn of_notice(endpoint: &Endpoint, told: &Told) -> String {
    let news = &told.news;
    let lost = match news.exhausted {
        0 => String::new(),
        1 => "1 delivery failed for good".to_owned(),
        many => format!("{many} deliveries failed for good"),
    };
    let mut parts = Vec::new();
    match (told.kind, told.failing_since) {
        (ToldKind::Recovered, _) => parts.push("is well again".to_owned()),
        (ToldKind::Failing, since) if news.disabled => parts.push(why_disabled(endpoint, since)),
        (ToldKind::Failing, Some(since)) => parts.push(format!("has failed since {since}")),
        (ToldKind::Failing, None) => parts.push("is well, but did not take everything".to_owned()),
    }
    if !news.failure.is_empty() && told.kind == ToldKind::Failing {
        parts[0].push_str(&format!(" ({})", failure(&news.failure)));
    }
    parts.extend(Some(lost).filter(|lost| !lost.is_empty()));
    if let Some(at) = told.disables_at.filter(|_| told.kind == ToldKind::Failing) {
        parts.push(format!("it is disabled at {at} if nothing succeeds"));
    }
    parts.join("; ")
}

/// The summary of an attempt's event.
pub fn of_attempt(
    subject: Subject<'_>,
    attempt: &Attempt,
    message: AttemptedMessage<'_>,
    failure: Option<&str>,
) -> String {
    let delivery = match message.event_type {
        Some(name) => format!("a delivery of {}", one_line(name, NAME_CHARACTERS_MAX)),
        None => "a delivery".to_owned(),
    };
    let number = attempt.number;
    let predicate = match (attempt.verdict, number) {
        (Verdict::Delivered, _) => format!("came through at attempt {number}"),
        (Verdict::GiveUp, 1) => "failed for good after 1 attempt".to_owned(),
        (Verdict::GiveUp, _) => format!("failed for good after {number} attempts"),
        (Verdict::RetryAt(_) | Verdict::DisableEndpoint, _) => {
            format!("has failed {number} times and will be tried again")
        }
    };
    let why = failure.map_or(String::new(), |why| format!(": {why}"));
    format!("{}: {delivery} {predicate}{why}.", title(subject))
}
