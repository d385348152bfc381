//! The one source of time.
//!
//! Everything that asks for the time or waits for an instant does it here, so that a test can hold
//! a [`Clock::manual`] in its hand and step through hours of retries without sleeping. A leaf: it
//! knows nothing of the rest.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// An instant, in milliseconds since 1970-01-01T00:00:00Z.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The instant `seconds` after 1970-01-01T00:00:00Z.
    pub const fn from_seconds(seconds: u64) -> Self {
        Timestamp(seconds * 1000)
    }

    pub const fn as_millis(self) -> u64 {
        self.0
    }

    pub const fn as_seconds(self) -> u64 {
        self.0 / 1000
    }

    /// How long it is from `earlier` until this instant; zero when it lies after it.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    pub fn saturating_sub(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(duration.as_millis() as u64))
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Timestamp;

    fn add(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(duration.as_millis() as u64))
    }
}

impl Timestamp {
    /// The first instant that does not lie before the one in the text.
    pub fn not_before(text: &str) -> Result<Timestamp, String> {
        let nanoseconds = nanoseconds(text)?;
        Ok(Timestamp::clamped(-(-nanoseconds).div_euclid(1_000_000)))
    }

    /// What lies before 1970 is as past as 1970.
    fn clamped(milliseconds: i128) -> Timestamp {
        Timestamp(u64::try_from(milliseconds).unwrap_or_default())
    }
}

/// RFC 3339 in UTC with milliseconds, as the API shows it: `2026-01-31T08:15:30.250Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0 as i64) {
            Ok(instant) => write!(f, "{instant:.3}"),
            // The last hours of the year 9999 are beyond the library's instants.
            Err(_) => match EPOCH.checked_add(jiff::SignedDuration::from_millis(self.0 as i64)) {
                Ok(in_utc) => write!(f, "{in_utc:.3}Z"),
                Err(_) => write!(f, "{}ms", self.0),
            },
        }
    }
}

const EPOCH: jiff::civil::DateTime = jiff::civil::DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// Nanoseconds since 1970 of a text in RFC 3339, or in the form `2026-01-31 08:15:30 UTC`.
fn nanoseconds(text: &str) -> Result<i128, String> {
    let of_utc = text.strip_suffix(" UTC").map(|start| format!("{start}Z"));
    let text = of_utc.as_deref().unwrap_or(text);
    let why = match text.parse::<jiff::Timestamp>() {
        Ok(instant) => return Ok(instant.as_nanosecond()),
        Err(why) => format!("{why}"),
    };
    // The library's instants end a day before the year 9999 does, its dates do not.
    let pieces = jiff::fmt::temporal::Pieces::parse(text).map_err(|_| why.clone())?;
    let (time, offset) = (pieces.time(), pieces.to_numeric_offset());
    let (Some(time), Some(offset)) = (time, offset) else {
        return Err(why);
    };
    let local = pieces.date().to_datetime(time);
    let since_epoch = local.duration_since(EPOCH).as_nanos();
    Ok(since_epoch - i128::from(offset.seconds()) * 1_000_000_000)
}

/// RFC 3339 with any offset, or `2026-01-31 08:15:30 UTC`; what lies before 1970 is read as 1970.
impl std::str::FromStr for Timestamp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let nanoseconds = nanoseconds(text)?;
        Ok(Timestamp::clamped(nanoseconds.div_euclid(1_000_000)))
    }
}

/// The system's time, or one that a test steps by hand.
#[derive(Clone, Debug)]
pub enum Clock {
    System,
    Manual(Arc<watch::Sender<Timestamp>>),
}

impl Clock {
    /// A clock that stands still until [`Clock::advance_to`] moves it.
    pub fn manual(start: Timestamp) -> Clock {
        Clock::Manual(Arc::new(watch::channel(start).0))
    }

    pub fn now(&self) -> Timestamp {
        match self {
            Clock::System => {
                let since_epoch = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .expect("the system's time lies after 1970");
                Timestamp(planned::told(since_epoch.as_millis() as u64))
            }
            Clock::Manual(now) => *now.borrow(),
        }
    }

    /// Begins to measure how long something takes.
    pub fn stopwatch(&self) -> Stopwatch {
        match self {
            Clock::System => Stopwatch::System(Instant::now()),
            Clock::Manual(_) => Stopwatch::Manual(self.clone(), self.now()),
        }
    }

    /// Returns once the clock has reached `instant`.
    pub async fn sleep_until(&self, instant: Timestamp) {
        match self {
            Clock::System => {
                // In stretches, because a suspended machine or a corrected clock moves the
                // instant while the timer runs on.
                loop {
                    let left = instant.since(self.now());
                    if left.is_zero() {
                        return;
                    }
                    let left = planned::real(left);
                    tokio::time::sleep(left.min(Duration::from_secs(60))).await;
                }
            }
            Clock::Manual(now) => {
                let mut now = now.subscribe();
                // The sender lives in `self`, so waiting cannot fail.
                let _ = now.wait_for(|now| *now >= instant).await;
            }
        }
    }

    pub async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.now() + duration).await;
    }

    /// Sets a manual clock, as an operator corrects one that is wrong: back, too. A system clock is
    /// left alone.
    pub fn set(&self, instant: Timestamp) {
        if let Clock::Manual(now) = self {
            now.send_replace(instant);
        }
    }

    /// Moves a manual clock forward; a system clock and an earlier instant are left alone.
    pub fn advance_to(&self, instant: Timestamp) {
        if let Clock::Manual(now) = self {
            now.send_if_modified(|now| {
                let later = instant > *now;
                *now = instant.max(*now);
                later
            });
        }
    }
}

/// Another time than the system's, where a test of the binary has planned it, so that days pass in
/// minutes. `POSTRIDER_CLOCK` is three numbers: an instant of the system's clock in milliseconds since 1970,
/// the instant that is told in its place, and how many times as fast time passes from there on. Release
/// builds have none of it.
#[cfg(debug_assertions)]
mod planned {
    use std::sync::LazyLock;
    use std::time::Duration;

    struct Planned {
        real: u64,
        told: u64,
        speed: u32,
    }

    static PLANNED: LazyLock<Option<Planned>> = LazyLock::new(|| {
        let text = std::env::var("POSTRIDER_CLOCK").ok()?;
        let mut words = text.split(' ');
        let mut next = || words.next()?.parse().ok();
        Some(Planned {
            real: next()?,
            told: next()?,
            speed: u32::try_from(next()?).ok()?,
        })
    });

    /// Which instant is told at this one of the system.
    pub fn told(system: u64) -> u64 {
        let told = |planned: &Planned| {
            let passed = system.saturating_sub(planned.real);
            planned.told + passed * u64::from(planned.speed)
        };
        PLANNED.as_ref().map_or(system, told)
    }

    /// How long the system's clock takes for what is told to be so long.
    pub fn real(told: Duration) -> Duration {
        let speed = PLANNED.as_ref().map_or(1, |planned| planned.speed.max(1));
        told / speed
    }
}

#[cfg(not(debug_assertions))]
mod planned {
    use std::time::Duration;

    #[inline]
    pub fn told(system: u64) -> u64 {
        system
    }

    #[inline]
    pub fn real(told: Duration) -> Duration {
        told
    }
}

/// The time since its beginning. A correction of the system's clock does not change it.
#[derive(Debug)]
pub enum Stopwatch {
    System(Instant),
    Manual(Clock, Timestamp),
}

impl Stopwatch {
    pub fn elapsed(&self) -> Duration {
        match self {
            Stopwatch::System(begun) => begun.elapsed(),
            Stopwatch::Manual(clock, begun) => clock.now().since(*begun),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_round_trip_through_rfc_3339() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_700_000_000_250, "2023-11-14T22:13:20.250Z"),
        ] {
            assert_eq!(Timestamp(millis).to_string(), text);
            assert_eq!(text.parse(), Ok(Timestamp(millis)));
        }
        assert_eq!(
            "2023-11-15T00:13:20.25+02:00".parse(),
            Ok(Timestamp(1_700_000_000_250))
        );
        for past in ["1969-12-31T23:59:59Z", "0001-01-01T00:00:00Z"] {
            assert_eq!(past.parse(), Ok(Timestamp(0)), "{past}");
        }
        let end = Timestamp(253_402_300_799_000);
        for text in ["9999-12-31T23:59:59Z", "9999-12-31T22:59:59-01:00"] {
            assert_eq!(text.parse(), Ok(end), "{text}");
        }
        assert_eq!(end.to_string(), "9999-12-31T23:59:59.000Z");
        assert_eq!(
            "2023-11-14 22:13:20.25 UTC".parse(),
            Ok(Timestamp(1_700_000_000_250))
        );
        for wrong in [
            "9999-12-31T23:59:59",
            "9999-12-32T00:00:00Z",
            "9999-12-31",
            " UTC",
        ] {
            assert!(wrong.parse::<Timestamp>().is_err(), "{wrong}");
        }
        assert!("yesterday".parse::<Timestamp>().is_err());
    }

    #[test]
    fn an_instant_between_two_milliseconds_is_not_before_the_later() {
        for (text, expected) in [
            ("1970-01-01T00:00:00.250Z", 250),
            ("1970-01-01T00:00:00.250001Z", 251),
            ("1969-12-31T23:59:59Z", 0),
        ] {
            assert_eq!(Timestamp::not_before(text), Ok(Timestamp(expected)));
        }
    }

    #[test]
    fn a_manual_clock_only_moves_forward_unless_it_is_set() {
        let clock = Clock::manual(Timestamp(5));
        clock.advance_to(Timestamp(3));
        assert_eq!(clock.now(), Timestamp(5));
        clock.advance_to(Timestamp(9));
        assert_eq!(clock.now(), Timestamp(9));
        clock.set(Timestamp(3));
        assert_eq!(clock.now(), Timestamp(3));
    }
}
