//! Verification: the proof that somebody at an endpoint's URL wants its traffic.
//!
//! Where `delivery.verify_endpoints` is on, an endpoint gets nothing but *challenges* until it has
//! echoed one of them. A challenge is a request with a random text. A receiver that answers with
//! the text has read it and knows its purpose. Pure: `scheduler::challenges` decides what is sent,
//! and when.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::attempt::Outcome;
use crate::clock::Timestamp;

/// The `type` of a challenge's body.
pub const EVENT_TYPE: &str = "postrider.verification";

/// How long a challenge takes at most, whatever the endpoint's own time for an attempt is: places for
/// challenges are few, and whoever knows the text answers at once.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(15);

/// How long after a challenge that was not echoed the next one is sent; after the last one somebody
/// must ask for it.
const DELAYS: [Duration; 4] = [
    Duration::from_secs(10),
    Duration::from_secs(60),
    Duration::from_secs(10 * 60),
    Duration::from_secs(60 * 60),
];

/// The state of an endpoint that has not echoed a challenge yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// Challenges since the URL was given, or since somebody asked for one.
    pub attempts: u32,
    /// When the next challenge is sent; absent where somebody must ask for it.
    pub next_at: Option<Timestamp>,
    pub last_at: Option<Timestamp>,
    /// Why the last challenge failed, as a sentence.
    pub last_error: Option<String>,
}

impl Verification {
    pub fn due(now: Timestamp) -> Verification {
        Verification {
            attempts: 0,
            next_at: Some(now),
            last_at: None,
            last_error: None,
        }
    }

    /// Makes a challenge due now, with the retries after it.
    pub fn ask_again(&mut self, now: Timestamp) {
        self.attempts = 0;
        self.next_at = Some(now);
    }

    /// Takes note of a challenge that was not echoed.
    pub fn failed(&mut self, sent_at: Timestamp, error: String) {
        let delay = DELAYS.get(self.attempts as usize);
        self.next_at = delay.map(|delay| sent_at + *delay);
        self.attempts += 1;
        self.last_at = Some(sent_at);
        self.last_error = Some(error);
    }
}

/// The body of a challenge.
pub fn body(challenge: &str, now: Timestamp) -> String {
    json!({ "type": EVENT_TYPE, "timestamp": now.to_string(), "challenge": challenge }).to_string()
}

/// Why an outcome is not the echo of a challenge, as a sentence; nothing where it is.
///
/// The text must stand alone, or as `{"challenge": "…"}` and nothing else: a server that sends back
/// whatever it gets has agreed to nothing.
pub fn problem(outcome: &Outcome, challenge: &str) -> Option<String> {
    let Some(answer) = &outcome.answer else {
        let failure = outcome.failure.as_ref();
        let detail = failure.map_or("no answer came", |failure| &failure.detail);
        return Some(detail.to_owned());
    };
    if answer.status != 200 {
        return Some(format!(
            "The answer's status is {}, and 200 with the challenge was expected.",
            answer.status
        ));
    }
    let is_echo = !answer.truncated
        && (is_line(&answer.body, challenge) || is_object_with(&answer.body, challenge));
    (!is_echo).then(|| {
        "The answer's body is not the challenge: it must be the text of the body's \"challenge\", \
         alone or as {\"challenge\": \"…\"}."
            .to_owned()
    })
}

/// Whether the answer is the text alone. A line break at the end does not count, because many
/// programs print one.
fn is_line(body: &[u8], challenge: &str) -> bool {
    let line = body.strip_suffix(b"\n").unwrap_or(body);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    line == challenge.as_bytes()
}

/// An object with this one field, named once.
fn is_object_with(body: &[u8], challenge: &str) -> bool {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Echo<'a> {
        challenge: Cow<'a, str>,
    }
    // serde would read an array as the fields in their order.
    body.trim_ascii_start().starts_with(b"{")
        && serde_json::from_slice::<Echo<'_>>(body).is_ok_and(|echo| echo.challenge == challenge)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::attempt::{Answer, FailureKind, SendFailure};
    use crate::domain::profile::Method;

    fn outcome(status: u16, body: &str) -> Outcome {
        let failure = SendFailure {
            kind: FailureKind::WrongAnswer,
            detail: "by the profile".to_owned(),
        };
        Outcome {
            answer: Some(Answer {
                status,
                headers: Vec::new(),
                body: body.as_bytes().to_vec(),
                truncated: false,
            }),
            ..Outcome::not_sent("https://a.test/", Method::Post, Timestamp(0), failure)
        }
    }

    #[test]
    fn only_the_challenge_itself_is_an_echo() {
        let whole = body("abc", Timestamp(0));
        for (status, text, is_echo) in [
            (200, "abc", true),
            (200, "abc\n", true),
            (200, "abc\r\n", true),
            (200, r#"{ "challenge": "abc" }"#, true),
            (200, "{\"challenge\":\"\\u0061bc\"}\r\n", true),
            (201, "abc", false),
            (202, r#"{"challenge":"abc"}"#, false),
            (200, " abc", false),
            (200, "abc\n\n", false),
            (200, "\"abc\"", false),
            (200, r#"["abc"]"#, false),
            (200, r#"[{"challenge":"abc"}]"#, false),
            (200, r#"{"challenge":"x","challenge":"abc"}"#, false),
            (200, r#"{"challenge":"abc","challenge":"abc"}"#, false),
            (200, r#"{"challenge":"abc"} {}"#, false),
            (200, "", false),
            (200, "abcd", false),
            (200, "ok: abc", false),
            (200, r#"{"challenge":"abd"}"#, false),
            (200, r#"{"challenge":"abc","ok":true}"#, false),
            (200, &whole, false),
            (302, "abc", false),
            (404, "abc", false),
        ] {
            let problem = problem(&outcome(status, text), "abc");
            assert_eq!(problem.is_none(), is_echo, "{status} {text}");
        }
        let mut cut = outcome(200, "abc");
        if let Some(answer) = &mut cut.answer {
            answer.truncated = true;
        }
        assert!(problem(&cut, "abc").is_some(), "more came behind it");
    }

    #[test]
    fn no_answer_is_told_as_the_failure() {
        let none = Outcome {
            answer: None,
            ..outcome(200, "")
        };
        assert_eq!(problem(&none, "abc").as_deref(), Some("by the profile"));
    }

    #[test]
    fn challenges_come_later_each_time_and_end() {
        let mut verification = Verification::due(Timestamp(0));
        let mut waits = Vec::new();
        while let Some(at) = verification.next_at {
            verification.failed(at, "no".to_owned());
            waits.push(verification.next_at.map(|next| next.since(at).as_secs()));
        }
        assert_eq!(waits, [Some(10), Some(60), Some(600), Some(3600), None]);
        verification.ask_again(Timestamp(9));
        assert_eq!(
            (verification.attempts, verification.next_at),
            (0, Some(Timestamp(9)))
        );
    }
}
