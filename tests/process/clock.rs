//! The clock that the servers of a test go by: faster than the system's, and ahead of it after a jump. Debug builds
//! alone have it.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub struct FastClock {
    /// Time passes so many times as fast as it does.
    speed: u64,
    begun: Mutex<Begun>,
}

/// Instants in milliseconds since 1970: the system's, and the one that is told in its place.
struct Begun {
    real: u64,
    told: u64,
}

impl FastClock {
    /// A clock that tells the system's time now.
    pub fn new(speed: u64) -> FastClock {
        let now = system_now();
        FastClock {
            speed,
            begun: Mutex::new(Begun {
                real: now,
                told: now,
            }),
        }
    }

    /// The instant by this clock, in milliseconds since 1970.
    pub fn now(&self) -> u64 {
        self.told_at(system_now())
    }

    /// The instant that is told at one of the system's, which is not before the last jump.
    pub fn told_at(&self, real: u64) -> u64 {
        let begun = self.begun();
        begun.told + real.saturating_sub(begun.real) * self.speed
    }

    /// Time passes while no server runs.
    pub fn jump(&self, by: Duration) {
        self.begun().told += by.as_millis() as u64;
    }

    /// The value of `POSTRIDER_CLOCK` for a server that goes by this clock.
    pub fn planned(&self) -> String {
        let begun = self.begun();
        format!("{} {} {}", begun.real, begun.told, self.speed)
    }

    fn begun(&self) -> MutexGuard<'_, Begun> {
        self.begun.lock().expect("no holder of the clock panics")
    }
}

/// An instant as the API takes and shows it.
pub fn rfc3339(millis: u64) -> String {
    let instant = jiff::Timestamp::from_millisecond(millis as i64);
    let instant = instant.expect("it is in this century");
    format!("{instant:.3}")
}

fn system_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("it is after 1970").as_millis() as u64
}
