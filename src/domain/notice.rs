//! What a person is told of an endpoint that fails, and when: one message for a trouble, a digest of what follows, one
//! when it is over, and none for what ends within the grace time.
//!
//! Pure, and a part of [`super::health::Health`], so that it survives a crash with it.

use std::time::Duration;

use super::health::FailedAttempt;
use crate::clock::Timestamp;

/// Text of a failure that is kept for a message, in bytes.
const FAILURE_BYTES_MAX: usize = 200;

/// When a person is told of a trouble.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NoticeRules {
    /// A trouble that ends within this time is not told of, and an end of a trouble only after this time.
    pub grace: Duration,
    /// The shortest time between two messages about one endpoint.
    pub digest: Duration,
}

/// A message to a person, now or later. One at most for each endpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Notice {
    /// When the next message is due, if its cause is still there.
    pub due: Option<Timestamp>,
    /// The news that the next message has.
    pub news: News,
    /// When the last message was told.
    pub told_at: Option<Timestamp>,
    /// The last message told of a trouble whose end was not told yet.
    pub told_failing: bool,
    /// A message that is to be mailed.
    pub mail: Option<Told>,
}

/// What happened since the last message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct News {
    /// Deliveries that failed for good.
    pub exhausted: u64,
    /// The last failure in words.
    pub failure: String,
    /// The event type of the message that failed last; empty where it is not known.
    pub event_type: String,
    /// The endpoint was disabled, by its receiver or after failures.
    pub disabled: bool,
}

/// A message to a person.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub at: Timestamp,
    pub kind: ToldKind,
    /// Since when attempts have failed without a success; absent where the last attempt succeeded.
    pub failing_since: Option<Timestamp>,
    /// When the endpoint will be disabled if nothing succeeds; absent where it is not warned of.
    pub disables_at: Option<Timestamp>,
    pub news: News,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToldKind {
    /// The endpoint fails, was disabled, or deliveries failed for good.
    Failing,
    /// It is well again.
    Recovered,
}

impl Default for NoticeRules {
    fn default() -> NoticeRules {
        NoticeRules {
            grace: Duration::from_secs(300),
            digest: Duration::from_secs(3600),
        }
    }
}

impl Notice {
    /// Something happened that a person is to hear of.
    pub(super) fn trouble(&mut self, rules: &NoticeRules, now: Timestamp) {
        let due = match self.told_at {
            // The clock may have been set back since.
            Some(told_at) => now.max(told_at.min(now) + rules.digest),
            None => now + rules.grace,
        };
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }

    /// An attempt failed, so the trouble that was told of has not ended.
    pub(super) fn fails_again(&mut self, rules: &NoticeRules) {
        if !self.told_failing {
            return;
        }
        let next_at = self.told_at.map(|told_at| told_at + rules.digest);
        self.due = match self.news == News::default() {
            true => None,
            false => self.due.max(next_at),
        };
    }

    pub(super) fn well(&mut self, rules: &NoticeRules, now: Timestamp) {
        let due = now + rules.grace;
        if self.told_failing {
            self.due = Some(self.due.map_or(due, |before| before.min(due)));
        } else if self.news.exhausted == 0 && !self.news.disabled {
            self.news = News::default();
            // The trouble ended before anybody was told. What was told before is remembered until then.
            self.due = self.due.filter(|_| self.told_at.is_some());
        }
    }

    pub(super) fn told(&mut self, told: &Told, fails: bool, mails: bool, digest: Duration) {
        self.told_at = Some(told.at);
        self.told_failing = told.kind == ToldKind::Failing && fails;
        if !self.told_failing {
            // Until then it bounds the next message; afterwards it is forgotten.
            self.due = Some(told.at + digest);
        }
        if mails {
            self.mail = match self.mail.take() {
                Some(unsent) => told.clone().after_unsent(unsent),
                None => Some(told.clone()),
            };
        }
    }
}

impl Told {
    /// The message to mail in place of one that could not be mailed; none where that told of a trouble that has
    /// ended since without a loss.
    fn after_unsent(mut self, unsent: Told) -> Option<Told> {
        self.news.exhausted += unsent.news.exhausted;
        let is_over = self.kind == ToldKind::Recovered && unsent.kind == ToldKind::Failing;
        (!is_over || self.news.exhausted > 0).then_some(self)
    }
}

impl News {
    pub(super) fn note(&mut self, attempt: &FailedAttempt<'_>) {
        self.exhausted += u64::from(attempt.exhausted);
        self.failure = shortened(attempt.failure);
        self.event_type = shortened(attempt.event_type);
    }
}

pub(super) fn shortened(text: &str) -> String {
    let mut end = text.len().min(FAILURE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::health::Health;
    use crate::domain::health::tests::{Endpoint, NOTICES, RULES, at};
    use proptest::prelude::*;

    #[test]
    fn an_endpoint_that_is_disabled_is_told_of_at_once() {
        let mut endpoint = Endpoint::default();
        endpoint.exhausts(0);
        endpoint.health.disabled("HTTP 410", at(1));
        let told = endpoint.health.tell(&NOTICES, true, false, at(1)).unwrap();
        assert_eq!((told.news.exhausted, told.news.disabled), (1, true));

        // A success that was under way when the endpoint was disabled leaves that to be told.
        let mut endpoint = Endpoint::default();
        endpoint.health.disabled("HTTP 410", at(1));
        endpoint.succeeds(1);
        let told = endpoint.health.tell(&NOTICES, true, false, at(1)).unwrap();
        assert_eq!((told.news.exhausted, told.news.disabled), (0, true));
    }

    #[test]
    fn a_trouble_that_ends_within_the_grace_time_is_not_told_of() {
        let mut endpoint = Endpoint::default();
        endpoint.fails(0).fails(10).fails(30);
        assert_eq!(endpoint.due(), Some(330));
        assert_eq!(endpoint.told(329), None);
        endpoint.succeeds(329);
        assert!(endpoint.health.is_default());
    }

    #[test]
    fn a_trouble_is_told_of_once_and_so_is_its_end() {
        let mut endpoint = Endpoint::default();
        endpoint.fails(0).fails(10).fails(30);
        assert_eq!(endpoint.told(330), Some((ToldKind::Failing, 0)));
        for seconds in [400, 500, 90_000] {
            endpoint.fails(seconds);
        }
        assert_eq!(endpoint.due(), Some(90_000), "a warning");
        endpoint.told(90_000);
        endpoint.succeeds(90_001);
        assert_eq!(endpoint.due(), Some(90_301));
        endpoint.succeeds(90_200);
        assert_eq!(endpoint.told(90_301), Some((ToldKind::Recovered, 0)));
        assert_eq!(
            endpoint.due(),
            Some(90_301 + 3600),
            "it is remembered until then"
        );
        assert_eq!(endpoint.told(90_301 + 3600), None);
        assert!(endpoint.health.is_default());
    }

    #[test]
    fn deliveries_that_failed_for_good_are_told_of_though_the_endpoint_is_well() {
        let mut endpoint = Endpoint::default();
        endpoint.exhausts(0).succeeds(1).exhausts(2).succeeds(3);
        assert_eq!(endpoint.told(300), Some((ToldKind::Failing, 2)));
        assert_eq!(
            endpoint.health.notice.as_ref().map(|one| one.told_failing),
            Some(false)
        );
        endpoint.exhausts(400).succeeds(401);
        assert_eq!(endpoint.told(3899), None);
        assert_eq!(endpoint.told(3900), Some((ToldKind::Failing, 1)));
    }

    #[test]
    fn news_of_an_hour_are_one_message() {
        let mut endpoint = Endpoint::default();
        endpoint.exhausts(0);
        assert_eq!(endpoint.told(300), Some((ToldKind::Failing, 1)));
        for seconds in 301..400 {
            endpoint.exhausts(seconds);
        }
        assert_eq!(endpoint.told(3899), None);
        assert_eq!(endpoint.told(3900), Some((ToldKind::Failing, 99)));
        // It seems to be well for a moment.
        endpoint.exhausts(3950).succeeds(4000).fails(4001);
        assert_eq!(endpoint.due(), Some(7500));
    }

    #[test]
    fn a_mail_that_could_not_be_sent_is_replaced_by_the_next() {
        let mut health = Health::default();
        let told = |health: &mut Health, seconds| health.tell(&NOTICES, false, true, at(seconds));
        let mut endpoint = Endpoint {
            health: health.clone(),
        };
        endpoint.exhausts(0);
        assert!(told(&mut endpoint.health, 300).is_some());
        endpoint.exhausts(400);
        assert!(told(&mut endpoint.health, 3900).is_some());
        let mail = endpoint
            .health
            .notice
            .as_ref()
            .and_then(|notice| notice.mail.clone());
        assert_eq!(
            mail.as_ref().map(|mail| (mail.at, mail.news.exhausted)),
            Some((at(3900), 2))
        );
        endpoint.health.mailed(at(300));
        assert!(
            endpoint.health.notice.as_ref().unwrap().mail.is_some(),
            "that was an earlier one"
        );
        endpoint.health.mailed(at(3900));
        assert!(endpoint.health.notice.as_ref().unwrap().mail.is_none());

        // A trouble without a loss that is over before the mail could be sent is no news.
        let mut endpoint = Endpoint {
            health: std::mem::take(&mut health),
        };
        endpoint.fails(0).fails(10).fails(30);
        assert!(told(&mut endpoint.health, 330).is_some());
        endpoint.succeeds(400);
        assert!(told(&mut endpoint.health, 700).is_some());
        assert!(endpoint.health.notice.as_ref().unwrap().mail.is_none());
    }

    proptest! {
        /// However attempts come: no two messages about troubles are less than the digest apart, nothing grows, and an
        /// endpoint that succeeds long enough is forgotten.
        #[test]
        fn messages_keep_their_distance(
            steps in prop::collection::vec((1u64..4000, 0u8..4), 0..200),
            random in 0.0f64..1.0,
        ) {
            let mut endpoint = Endpoint::default();
            let mut now = 0;
            let mut told_at = None;
            for (wait, what) in steps {
                now += wait;
                let due = endpoint.due();
                if let Some(due) = due.filter(|due| *due <= now)
                    && let Some((kind, _)) = endpoint.told(due)
                    && kind == ToldKind::Failing
                {
                    let before: Option<u64> = told_at.replace(due);
                    prop_assert!(before.is_none_or(|before| due >= before + 3600));
                }
                match what {
                    0 => {
                        endpoint.succeeds(now);
                    }
                    1 => {
                        endpoint.exhausts(now);
                    }
                    _ => {
                        let attempt = FailedAttempt {
                            started_at: at(now),
                            rest_until: (what == 2).then(|| at(now + 50)),
                            exhausted: false,
                            failure: &"é".repeat(300),
                            event_type: "a.b",
                        };
                        endpoint.health.failed(&attempt, &RULES, &NOTICES, at(now), random);
                    }
                }
                if let Some(rest) = endpoint.health.rest() {
                    prop_assert!(rest.probe_at <= at(now) + RULES.probe_max.mul_f64(1.2));
                }
            }
            for _ in 0..4 {
                now += 4000;
                endpoint.succeeds(now);
                while let Some(due) = endpoint.due() {
                    now = now.max(due);
                    endpoint.told(now);
                }
            }
            prop_assert!(endpoint.health.is_default(), "{:?}", endpoint.health);
        }
    }
}
