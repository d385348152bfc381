//! An endpoint's health: whether its receiver takes requests, as its attempts show.
//!
//! Pure: time and randomness come in as arguments. An endpoint whose last attempt succeeded has no [`Health`]
//! unless a person was told of a trouble before. The committer changes it in the commit of the attempt, so that a
//! breaker, the count up to an automatic disabling and the next message to a person all survive a crash.

use std::time::Duration;

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

/// Text of a failure that is kept for a message, in bytes.
const FAILURE_BYTES_MAX: usize = 200;

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

/// When a person is told of a trouble.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NoticeRules {
    /// A trouble that ends within this time is not told of, and an end of a trouble only after this time.
    pub grace: Duration,
    /// The shortest time between two messages about one endpoint.
    pub digest: Duration,
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

impl Default for NoticeRules {
    fn default() -> NoticeRules {
        NoticeRules {
            grace: Duration::from_secs(300),
            digest: Duration::from_secs(3600),
        }
    }
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

impl Notice {
    /// Something happened that a person is to hear of.
    fn trouble(&mut self, rules: &NoticeRules, now: Timestamp) {
        let due = match self.told_at {
            // The clock may have been set back since.
            Some(told_at) => now.max(told_at.min(now) + rules.digest),
            None => now + rules.grace,
        };
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }

    /// An attempt failed, so the trouble that was told of has not ended.
    fn fails_again(&mut self, rules: &NoticeRules) {
        if !self.told_failing {
            return;
        }
        let next_at = self.told_at.map(|told_at| told_at + rules.digest);
        self.due = match self.news == News::default() {
            true => None,
            false => self.due.max(next_at),
        };
    }

    fn well(&mut self, rules: &NoticeRules, now: Timestamp) {
        let due = now + rules.grace;
        if self.told_failing {
            self.due = Some(self.due.map_or(due, |before| before.min(due)));
        } else if self.news.exhausted == 0 {
            self.news = News::default();
            // The trouble ended before anybody was told. What was told before is remembered until then.
            self.due = self.due.filter(|_| self.told_at.is_some());
        }
    }

    fn told(&mut self, told: &Told, fails: bool, mails: bool, digest: Duration) {
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
    fn note(&mut self, attempt: &FailedAttempt<'_>) {
        self.exhausted += u64::from(attempt.exhausted);
        self.failure = shortened(attempt.failure);
        self.event_type = shortened(attempt.event_type);
    }
}

fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(FAILURE_BYTES_MAX)].to_owned()
}

fn spread(interval: Duration, random: f64) -> Duration {
    interval.mul_f64(1.0 + PROBE_JITTER * (2.0 * random - 1.0))
}

#[cfg(test)]
mod tests;
