//! One endpoint's attempts in a row, and what becomes of them.

use super::*;
use proptest::prelude::*;

const RULES: HealthRules = HealthRules {
    failures: 3,
    min_open_after: Duration::from_secs(30),
    probe_first: Duration::from_secs(30),
    probe_max: Duration::from_secs(100),
    disable_after: Duration::from_secs(100 * 3600),
};

const NOTICES: NoticeRules = NoticeRules {
    grace: Duration::from_secs(300),
    digest: Duration::from_secs(3600),
};

const BEGIN: u64 = 1_700_000_000;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_seconds(BEGIN + seconds)
}

/// The middle of the spread.
const EVEN: f64 = 0.5;

/// An endpoint with the time of its last attempt.
#[derive(Default)]
struct Endpoint {
    health: Health,
}

impl Endpoint {
    fn fails_with(
        &mut self,
        seconds: u64,
        change: impl FnOnce(&mut FailedAttempt<'_>),
    ) -> &mut Self {
        let mut attempt = FailedAttempt {
            started_at: at(seconds),
            rest_until: None,
            exhausted: false,
            failure: "HTTP 500",
            event_type: "a.b",
        };
        change(&mut attempt);
        self.health
            .failed(&attempt, &RULES, &NOTICES, at(seconds), EVEN);
        self
    }

    fn fails(&mut self, seconds: u64) -> &mut Self {
        self.fails_with(seconds, |_| {})
    }

    fn exhausts(&mut self, seconds: u64) -> &mut Self {
        self.fails_with(seconds, |attempt| attempt.exhausted = true)
    }

    fn succeeds(&mut self, seconds: u64) -> &mut Self {
        self.health.succeeded(at(seconds), &NOTICES, at(seconds));
        self
    }

    fn told(&mut self, seconds: u64) -> Option<(ToldKind, u64)> {
        let told = self.health.tell(&NOTICES, false, false, at(seconds));
        told.map(|told| (told.kind, told.news.exhausted))
    }

    fn rest(&self) -> Option<(RestReason, u64)> {
        let rest = self.health.rest()?;
        Some((rest.reason, rest.probe_at.as_seconds() - BEGIN))
    }

    fn due(&self) -> Option<u64> {
        self.health.notice_due().map(|due| due.as_seconds() - BEGIN)
    }
}

#[test]
fn a_breaker_opens_after_enough_failures_and_enough_time() {
    let mut many = Endpoint::default();
    for seconds in [0, 1, 2, 29] {
        many.fails(seconds);
        assert_eq!(many.rest(), None, "a receiver that restarts, {seconds}");
    }
    many.fails(30);
    assert_eq!(many.rest(), Some((RestReason::Failures, 60)));

    let mut few = Endpoint::default();
    few.fails(0).fails(1000);
    assert_eq!(few.rest(), None);
    few.fails(1001);
    assert_eq!(few.rest(), Some((RestReason::Failures, 1031)));

    let mut between = Endpoint::default();
    between.fails(0).fails(40).succeeds(41).fails(42).fails(80);
    assert_eq!(between.rest(), None, "the count begins anew");
    assert!(between.succeeds(90).health.is_default());

    let off = HealthRules {
        failures: 0,
        ..RULES
    };
    let mut health = Health::default();
    let attempt = FailedAttempt {
        started_at: at(0),
        rest_until: None,
        exhausted: false,
        failure: "",
        event_type: "",
    };
    for seconds in 0..1000 {
        health.failed(&attempt, &off, &NOTICES, at(seconds), EVEN);
    }
    assert_eq!(health.rest(), None);
}

#[test]
fn probes_come_at_growing_intervals_up_to_the_longest() {
    let mut endpoint = Endpoint::default();
    endpoint.fails(0).fails(1).fails(30);
    // Attempts that were under way when it opened are no probes.
    endpoint.fails_with(40, |attempt| attempt.started_at = at(29));
    let mut probe = 60;
    for interval in [60, 100, 100, 100] {
        assert_eq!(endpoint.rest(), Some((RestReason::Failures, probe)));
        endpoint.fails(probe);
        probe += interval;
    }
    let since = endpoint.health.rest().map(|rest| rest.since);
    assert_eq!(since, Some(at(30)), "it is the same opening");
    endpoint.succeeds(probe);
    assert_eq!(endpoint.rest(), None);
}

#[test]
fn a_probe_by_hand_comes_in_place_of_the_next_one() {
    let mut endpoint = Endpoint::default();
    endpoint.health.probes_now(at(0));
    assert!(endpoint.health.is_default());
    endpoint.fails(0).fails(1).fails(30);
    for seconds in [40, 45] {
        endpoint.health.probes_now(at(seconds));
        let due = Some((RestReason::Failures, 40));
        assert_eq!(endpoint.rest(), due, "it is due already, {seconds}");
    }
    endpoint.fails(50);
    assert_eq!(endpoint.rest(), Some((RestReason::Failures, 110)));
    for seconds in [60, 70, 80] {
        endpoint.health.probes_now(at(seconds));
        endpoint.fails(seconds);
        let next = Some((RestReason::Failures, seconds + 60));
        assert_eq!(endpoint.rest(), next, "they make the interval no longer");
    }
    endpoint.fails(140);
    assert_eq!(endpoint.rest(), Some((RestReason::Failures, 240)));
}

#[test]
fn a_receiver_that_asks_for_a_rest_is_asked_once_after_it() {
    let mut endpoint = Endpoint::default();
    let asks =
        |until: u64| move |attempt: &mut FailedAttempt<'_>| attempt.rest_until = Some(at(until));
    endpoint.fails_with(0, asks(100));
    assert_eq!(endpoint.rest(), Some((RestReason::RetryAfter, 100)));
    endpoint.fails_with(1, asks(50));
    assert_eq!(
        endpoint.rest(),
        Some((RestReason::RetryAfter, 100)),
        "the longest counts"
    );
    endpoint.fails_with(100, asks(200));
    assert_eq!(
        endpoint.rest(),
        Some((RestReason::Failures, 200)),
        "enough failed, and it asks"
    );

    let mut other = Endpoint::default();
    other.fails_with(0, asks(20)).fails(20);
    assert_eq!(other.rest(), None, "it did not ask again");
    other.fails_with(21, asks(40)).succeeds(41);
    assert_eq!(other.rest(), None);
}

#[test]
fn a_success_that_was_under_way_does_not_end_a_rest_that_was_asked_for() {
    let mut endpoint = Endpoint::default();
    endpoint.fails_with(10, |attempt| attempt.rest_until = Some(at(100)));
    endpoint.health.succeeded(at(9), &NOTICES, at(11));
    assert_eq!(endpoint.rest(), Some((RestReason::RetryAfter, 100)));
    endpoint.health.succeeded(at(100), &NOTICES, at(101));
    assert!(endpoint.health.is_default());
    // A breaker is closed by any success.
    endpoint.fails(0).fails(10).fails(30);
    endpoint.health.succeeded(at(29), &NOTICES, at(31));
    assert_eq!(endpoint.rest(), None);
}

#[test]
fn a_breaker_that_opens_leaves_the_receiver_the_rest_that_it_asked_for() {
    let mut endpoint = Endpoint::default();
    endpoint
        .fails(0)
        .fails_with(29, |attempt| attempt.rest_until = Some(at(300)));
    endpoint.fails_with(31, |attempt| attempt.started_at = at(28));
    assert_eq!(endpoint.rest(), Some((RestReason::Failures, 300)));
}

#[test]
fn a_clock_that_is_set_back_puts_nothing_off() {
    let mut endpoint = Endpoint::default();
    endpoint.fails(10_000).fails(10_010).exhausts(10_030);
    assert_eq!(endpoint.rest(), Some((RestReason::Failures, 10_060)));
    endpoint.fails(100);
    assert_eq!(
        endpoint.rest(),
        Some((RestReason::Failures, 160)),
        "it was a probe"
    );
    endpoint.exhausts(101);
    assert_eq!(endpoint.due(), Some(401));
}

#[test]
fn an_endpoint_that_is_disabled_is_told_of_at_once() {
    let mut endpoint = Endpoint::default();
    endpoint.exhausts(0);
    endpoint.health.disabled("HTTP 410", at(1));
    let told = endpoint.health.tell(&NOTICES, true, false, at(1)).unwrap();
    assert_eq!((told.news.exhausted, told.news.disabled), (1, true));
}

#[test]
fn failures_over_hours_disable_with_warnings_before() {
    let mut endpoint = Endpoint::default();
    const HOUR: u64 = 3600;
    endpoint.fails(0);
    for (hours, warned, disables) in [
        (1, 0, false),
        (20, 1, false),
        (49, 1, false),
        (50, 2, false),
        (80, 3, false),
        (99, 3, false),
        (100, 3, true),
    ] {
        endpoint.fails(hours * HOUR);
        let failing = endpoint.health.failing.as_ref().unwrap();
        assert_eq!(
            (failing.warned, endpoint.health.disables()),
            (warned, disables),
            "{hours}"
        );
        assert_eq!(failing.disables_at, Some(at(100 * HOUR)));
    }
    endpoint.succeeds(101 * HOUR).fails(102 * HOUR);
    assert!(!endpoint.health.disables());

    for (disable_after, hours, disables) in [(1, 11, false), (1, 12, true), (0, 10_000, false)] {
        let rules = HealthRules {
            disable_after: Duration::from_secs(disable_after * HOUR),
            ..RULES
        };
        let mut health = Health::default();
        for seconds in [0, hours * HOUR] {
            let attempt = FailedAttempt {
                started_at: at(seconds),
                rest_until: None,
                exhausted: false,
                failure: "",
                event_type: "",
            };
            health.failed(&attempt, &rules, &NOTICES, at(seconds), EVEN);
        }
        assert_eq!(health.disables(), disables, "{disable_after} {hours}");
    }
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
