//! An endpoint's health: whether its receiver takes requests, as its attempts show.
//!
//! Pure: time and randomness come in as arguments. An endpoint whose last attempt succeeded has no [`Health`]
//! unless a person was told of a trouble before. The committer changes it in the commit of the attempt, so that a
//! breaker, the count up to an automatic disabling and the next message to a person all survive a crash.

use std::time::Duration;

use super::notice::{News, Notice, NoticeRules, Told, ToldKind, shortened};
use crate::clock::Timestamp;

/// However short `disable_after` is, an endpoint is disabled only after failures over this time.
pub const FAILING_AT_LEAST: Duration = Duration::from_secs(12 * 3600);

/// The most failures in a row that a breaker may wait for.
pub const FAILURES_MAX: u32 = 100_000;
/// A year.
pub const DISABLE_AFTER_HOURS_MAX: u32 = 8784;

/// Parts of `disable_after` after which a warning is due, in tenths.
const WARNINGS_TENTHS: [u32; 3] = [2, 5, 8];

/// Probe intervals are spread over `interval × (1 ± PROBE_JITTER)`, so that lanes that opened together do not
/// probe together.
const PROBE_JITTER: f64 = 0.2;

/// The rules in effect for an endpoint: its own, else its profile's, else those for all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HealthRules {
    /// Failed attempts in a row that open the breaker; 0 keeps it closed.
    pub failures: u32,
    /// The breaker stays closed for this long after the first failure in a row.
    pub min_open_after: Duration,
    /// The interval before the first probe; each further one is twice as long …
    pub probe_first: Duration,
    /// … up to this.
    pub probe_max: Duration,
    /// Failures for this long, without a success, disable the endpoint; zero never does.
    pub disable_after: Duration,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health {
    /// Absent where the last attempt succeeded.
    pub failing: Option<Failing>,
    /// A trouble that a person hears of, or has heard of lately.
    pub notice: Option<Notice>,
}

/// Failed attempts in a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Failing {
    /// When the first of them ended.
    pub since: Timestamp,
    pub last_at: Timestamp,
    pub failures: u32,
    pub rest: Option<Rest>,
    /// Warnings of an automatic disabling that are due or told of.
    pub warned: u8,
    /// When the endpoint is disabled if nothing succeeds; absent where it never is.
    pub disables_at: Option<Timestamp>,
}

/// The lane of an endpoint rests: it sends one probe at a time, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rest {
    pub reason: RestReason,
    pub since: Timestamp,
    /// No request is made before this.
    pub probe_at: Timestamp,
    /// Probes that failed.
    pub probes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestReason {
    /// The breaker is open.
    Failures,
    /// The receiver asked for it, by `Retry-After` in a 429 or a 503.
    RetryAfter,
}

impl RestReason {
    /// The name of the state of an endpoint's breaker, and of its lane.
    pub fn name(self) -> &'static str {
        match self {
            RestReason::Failures => "open",
            RestReason::RetryAfter => "resting",
        }
    }
}

/// A failed attempt, as far as health depends on it.
#[derive(Clone, Copy, Debug)]
pub struct FailedAttempt<'a> {
    pub started_at: Timestamp,
    /// Until when the receiver asked to be left alone, as far as that is heeded.
    pub rest_until: Option<Timestamp>,
    /// The delivery failed for good.
    pub exhausted: bool,
    /// In words.
    pub failure: &'a str,
    pub event_type: &'a str,
}

impl Health {
    /// Takes in a failed attempt that ended at `now`; `random` is between 0 and 1.
    pub fn failed(
        &mut self,
        attempt: &FailedAttempt<'_>,
        rules: &HealthRules,
        notices: &NoticeRules,
        now: Timestamp,
        random: f64,
    ) {
        let failing = self.failing.get_or_insert(Failing {
            since: now,
            last_at: now,
            failures: 0,
            rest: None,
            warned: 0,
            disables_at: None,
        });
        // A clock that was set back begins the time anew.
        failing.since = failing.since.min(now);
        failing.failures = failing.failures.saturating_add(1);
        failing.last_at = now;
        let opened = failing.rest_after(attempt, rules, now, random);
        let warned = failing.warn(rules, now);
        if let Some(notice) = &mut self.notice {
            notice.fails_again(notices);
        }
        if opened || warned || attempt.exhausted {
            let notice = self.notice.get_or_insert_default();
            notice.news.note(attempt);
            notice.trouble(notices, now);
        }
    }

    /// Takes in the success at `now` of an attempt that began at `started_at`. The lane sends freely again.
    pub fn succeeded(&mut self, started_at: Timestamp, rules: &NoticeRules, now: Timestamp) {
        // One that was under way when the receiver asked for a rest does not end that.
        let is_earlier = |rest: Rest| {
            rest.reason == RestReason::RetryAfter && started_at < rest.since && rest.since <= now
        };
        if self.rest().is_some_and(is_earlier) {
            return;
        }
        self.failing = None;
        if let Some(notice) = &mut self.notice {
            notice.well(rules, now);
        }
        self.drop_notice_without_use();
    }

    /// A delivery failed for good while the breaker was open.
    pub fn ended(&mut self, failure: &str, rules: &NoticeRules, now: Timestamp) {
        let notice = self.notice.get_or_insert_default();
        notice.news.exhausted += 1;
        if notice.news.failure.is_empty() {
            notice.news.failure = shortened(failure);
        }
        notice.trouble(rules, now);
    }

    /// Somebody asks for a probe: a lane that rests may send its next one from `now` on.
    pub fn probes_now(&mut self, now: Timestamp) {
        let rest = self.failing.as_mut().and_then(|one| one.rest.as_mut());
        if let Some(rest) = rest.filter(|rest| rest.probe_at > now) {
            rest.probe_at = now;
            // It comes in place of the one that was due later, so it makes the interval no longer.
            rest.probes = rest.probes.saturating_sub(1);
        }
    }

    /// The endpoint was disabled, by its receiver or after failures.
    pub fn disabled(&mut self, failure: &str, now: Timestamp) {
        let notice = self.notice.get_or_insert_default();
        if notice.news.failure.is_empty() {
            notice.news.failure = shortened(failure);
        }
        notice.news.disabled = true;
        // That is told at once: nothing that comes makes it less.
        notice.due = Some(now);
    }

    /// Somebody enabled the endpoint or gave it another URL: its receiver gets a fresh start.
    pub fn starts_anew(&mut self) {
        self.failing = None;
        if let Some(notice) = &mut self.notice {
            notice.news = News::default();
            notice.due = None;
        }
        self.drop_notice_without_use();
    }

    /// The endpoint has no breaker any more.
    pub fn closes(&mut self) {
        if let Some(failing) = &mut self.failing {
            failing.rest = failing
                .rest
                .filter(|rest| rest.reason != RestReason::Failures);
        }
    }

    /// The failures so far disable the endpoint.
    pub fn disables(&self) -> bool {
        let Some(failing) = &self.failing else {
            return false;
        };
        failing.disables_at.is_some_and(|at| failing.last_at >= at)
    }

    /// When the next message is due.
    pub fn notice_due(&self) -> Option<Timestamp> {
        self.notice.as_ref().and_then(|notice| notice.due)
    }

    /// Takes the message that is due, if there is still something to tell. `is_disabled` is the endpoint's state;
    /// with `mails` the message is kept until [`Health::mailed`].
    pub fn tell(
        &mut self,
        rules: &NoticeRules,
        is_disabled: bool,
        mails: bool,
        now: Timestamp,
    ) -> Option<Told> {
        let failing = self.failing.as_ref();
        let notice = self.notice.as_mut()?;
        if notice.due.is_none_or(|due| due > now) {
            return None;
        }
        let news = std::mem::take(&mut notice.news);
        let fails = failing.is_some() || is_disabled;
        let kind = match () {
            // Deliveries that failed for good meanwhile are told of with it.
            () if !fails && notice.told_failing => Some(ToldKind::Recovered),
            () if news != News::default() && (fails || news.exhausted > 0) => {
                Some(ToldKind::Failing)
            }
            () => None,
        };
        let told = kind.map(|kind| Told {
            at: now,
            kind,
            failing_since: failing.map(|failing| failing.since),
            disables_at: failing
                .filter(|failing| failing.warned > 0 && !is_disabled)
                .and_then(|failing| failing.disables_at),
            news,
        });
        notice.due = None;
        if let Some(told) = &told {
            notice.told(told, fails, mails, rules.digest);
        }
        self.drop_notice_without_use();
        told
    }

    /// The message that was told at this time is mailed.
    pub fn mailed(&mut self, told_at: Timestamp) {
        if let Some(notice) = &mut self.notice
            && notice.mail.as_ref().is_some_and(|mail| mail.at <= told_at)
        {
            notice.mail = None;
        }
        self.drop_notice_without_use();
    }

    /// Nothing of it is worth keeping.
    pub fn is_default(&self) -> bool {
        *self == Health::default()
    }

    /// The rest of its lane.
    pub fn rest(&self) -> Option<Rest> {
        self.failing.as_ref().and_then(|failing| failing.rest)
    }

    fn drop_notice_without_use(&mut self) {
        let is_used =
            |notice: &Notice| notice.due.is_some() || notice.told_failing || notice.mail.is_some();
        if !self.notice.as_ref().is_some_and(is_used) {
            self.notice = None;
        }
    }
}

impl Failing {
    /// Lets the lane rest where that is due, and returns whether the breaker opened by it.
    fn rest_after(
        &mut self,
        attempt: &FailedAttempt<'_>,
        rules: &HealthRules,
        now: Timestamp,
        random: f64,
    ) -> bool {
        let is_up = rules.failures > 0
            && self.failures >= rules.failures
            && now.since(self.since) >= rules.min_open_after;
        let was_open = self.rest.filter(|rest| rest.reason == RestReason::Failures);
        let opens = is_up && was_open.is_none();
        if opens {
            self.rest = Some(Rest {
                reason: RestReason::Failures,
                since: now,
                // A receiver that asked for a longer rest has it.
                probe_at: (now + spread(rules.probe_first, random)).max(self.asked_until(now)),
                probes: 0,
            });
        } else if let Some(rest) = &mut self.rest
            // An attempt that was under way when the lane came to rest was no probe.
            && (attempt.started_at >= rest.probe_at || now < rest.since)
        {
            match rest.reason {
                RestReason::Failures => rest.probe_failed(rules, now, random),
                // The receiver is asked as usual again, unless it asks for more.
                RestReason::RetryAfter => self.rest = None,
            }
        }
        if let Some(until) = attempt.rest_until {
            let rest = self.rest.get_or_insert(Rest {
                reason: RestReason::RetryAfter,
                since: now,
                probe_at: until,
                probes: 0,
            });
            rest.probe_at = rest.probe_at.max(until);
        }
        opens
    }

    /// Until when the receiver asked to be left alone.
    fn asked_until(&self, now: Timestamp) -> Timestamp {
        let asked = self
            .rest
            .filter(|rest| rest.reason == RestReason::RetryAfter && rest.since <= now);
        asked.map_or(now, |rest| rest.probe_at)
    }

    /// Counts the warnings that are due, and returns whether one is new.
    fn warn(&mut self, rules: &HealthRules, now: Timestamp) -> bool {
        if rules.disable_after.is_zero() {
            self.disables_at = None;
            return false;
        }
        let after = rules.disable_after.max(FAILING_AT_LEAST);
        self.disables_at = Some(self.since + after);
        let failing_for = now.since(self.since);
        let is_due = |tenths: &&u32| failing_for >= after / 10 * **tenths;
        let due = WARNINGS_TENTHS.iter().filter(is_due).count() as u8;
        let is_new = due > self.warned;
        self.warned = self.warned.max(due);
        is_new
    }
}

impl Rest {
    fn probe_failed(&mut self, rules: &HealthRules, now: Timestamp, random: f64) {
        self.probes = self.probes.saturating_add(1);
        let doublings = self.probes.min(20);
        let interval = rules.probe_first.saturating_mul(1 << doublings);
        self.probe_at = now + spread(interval.min(rules.probe_max), random);
    }
}

fn spread(interval: Duration, random: f64) -> Duration {
    interval.mul_f64(1.0 + PROBE_JITTER * (2.0 * random - 1.0))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::domain::notice::ToldKind;

    pub const RULES: HealthRules = HealthRules {
        failures: 3,
        min_open_after: Duration::from_secs(30),
        probe_first: Duration::from_secs(30),
        probe_max: Duration::from_secs(100),
        disable_after: Duration::from_secs(100 * 3600),
    };

    pub const NOTICES: NoticeRules = NoticeRules {
        grace: Duration::from_secs(300),
        digest: Duration::from_secs(3600),
    };

    const BEGIN: u64 = 1_700_000_000;

    pub fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(BEGIN + seconds)
    }

    /// The middle of the spread.
    pub const EVEN: f64 = 0.5;

    /// An endpoint with the time of its last attempt.
    #[derive(Default)]
    pub struct Endpoint {
        pub health: Health,
    }

    impl Endpoint {
        pub fn fails_with(
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

        pub fn fails(&mut self, seconds: u64) -> &mut Self {
            self.fails_with(seconds, |_| {})
        }

        pub fn exhausts(&mut self, seconds: u64) -> &mut Self {
            self.fails_with(seconds, |attempt| attempt.exhausted = true)
        }

        pub fn succeeds(&mut self, seconds: u64) -> &mut Self {
            self.health.succeeded(at(seconds), &NOTICES, at(seconds));
            self
        }

        pub fn told(&mut self, seconds: u64) -> Option<(ToldKind, u64)> {
            let told = self.health.tell(&NOTICES, false, false, at(seconds));
            told.map(|told| (told.kind, told.news.exhausted))
        }

        fn rest(&self) -> Option<(RestReason, u64)> {
            let rest = self.health.rest()?;
            Some((rest.reason, rest.probe_at.as_seconds() - BEGIN))
        }

        pub fn due(&self) -> Option<u64> {
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
        let asks = |until: u64| {
            move |attempt: &mut FailedAttempt<'_>| attempt.rest_until = Some(at(until))
        };
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

        for (disable_after, hours, disables) in [(1, 11, false), (1, 12, true), (0, 10_000, false)]
        {
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
}
