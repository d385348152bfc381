//! The last verification of a copy, and when the next one is due.
//!
//! The result is an object of its own, `verified-…`, beside the manifests: it is about this copy and goes with it. A file
//! in the data directory would tell of another copy once `backup.to` names another place. No manifest names these
//! objects, and retention leaves them alone. There is one, or two where a process ended between writing and deleting.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::target::{Target, TargetError};
use crate::clock::Timestamp;

const FORMAT: u32 = 1;
const NAME: &str = "verified-";
/// The text of an error is the longest part of it.
const BYTES_MAX: u64 = 64 << 10;

/// A process has other things to do in its first minutes.
const SETTLES: Duration = Duration::from_secs(5 * 60);
/// A verification that could not be completed is tried again.
const TRIED_AGAIN_AFTER: Duration = Duration::from_secs(3600);
/// A copy that was found damaged is read again, so that mending it shows.
const DAMAGED_AGAIN_AFTER: Duration = Duration::from_secs(24 * 3600);

/// A verification that came to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    format: u32,
    /// When it ended, in milliseconds since 1970, as all times here.
    pub at: u64,
    pub took_ms: u64,
    /// Content that was read.
    pub bytes: u64,
    /// The first damage that was found.
    pub damage: Option<String>,
    /// The end of the last one that found everything whole: this one, or one before.
    pub whole_at: Option<u64>,
}

impl Verification {
    pub fn new(
        at: Timestamp,
        took: Duration,
        bytes: u64,
        damage: Option<String>,
        before: Option<&Verification>,
    ) -> Verification {
        let whole_at = match damage {
            None => Some(at.0),
            Some(_) => before.and_then(|before| before.whole_at),
        };
        Verification {
            format: FORMAT,
            at: at.0,
            took_ms: took.as_millis() as u64,
            bytes,
            damage,
            whole_at,
        }
    }

    /// The last one of the copy in a stream's folder. One that cannot be read is as good as none: the next one replaces it.
    pub fn newest(folder: &Target) -> Result<Option<Verification>, TargetError> {
        let names = folder.list(NAME)?.into_iter().map(|one| one.name);
        let Some(name) = names.filter(|name| is_name(name)).max() else {
            return Ok(None);
        };
        let bytes = match folder.read(&name, BYTES_MAX) {
            Err(error) if error.is_of_object() => {
                log::warn!(
                    "backup: when the copy was verified last cannot be read, so it is verified soon: {error}"
                );
                return Ok(None);
            }
            bytes => bytes?,
        };
        // Another format would be of a newer version, which was used here before.
        let read = serde_json::from_slice(&bytes).ok();
        Ok(read.filter(|one: &Verification| one.format == FORMAT))
    }

    /// Writes it, and deletes those before.
    pub fn write(&self, folder: &Target) -> Result<(), TargetError> {
        let before = folder.list(NAME)?.into_iter().map(|one| one.name);
        let name = format!("{NAME}{:016x}", self.at);
        let bytes = serde_json::to_vec(self).expect("numbers and texts can be written as JSON");
        folder.put(&name, &mut bytes.as_slice())?;
        let before = before.filter(|one| is_name(one) && *one != name);
        folder.delete(&Vec::from_iter(before))
    }
}

/// Whether an object has this name, which no manifest has.
pub fn is_name(name: &str) -> bool {
    let digits = name.strip_prefix(NAME);
    digits.is_some_and(|digits| digits.len() == 16 && u64::from_str_radix(digits, 16).is_ok())
}

/// The times on which it depends when a copy is verified next.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// The first completed copy of this process.
    pub first_copy_at: Timestamp,
    /// The last verification that came to its end, and whether it found everything whole.
    pub last: Option<(Timestamp, bool)>,
    /// The last try that did not come to its end.
    pub tried_at: Option<Timestamp>,
}

impl Times {
    pub fn is_due(&self, now: Timestamp, every: Duration) -> bool {
        // Where the clock was ahead then, nothing is put off.
        let is_over = |at: Timestamp, rest: Duration| at > now || now.since(at) >= rest;
        let rest = |is_whole| match is_whole {
            true => every,
            false => every.min(DAMAGED_AGAIN_AFTER),
        };
        let last = self.last;
        is_over(self.first_copy_at, SETTLES)
            && last.is_none_or(|(at, is_whole)| is_over(at, rest(is_whole)))
            && self
                .tried_at
                .is_none_or(|at| is_over(at, TRIED_AGAIN_AFTER))
    }
}

#[cfg(test)]
mod tests {
    use super::super::target::TargetSettings;
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
    const START: Timestamp = Timestamp(1_700_000_000_000);

    fn first_due(times: Times, every: Duration) -> Duration {
        let minutes = (0..20 * 24 * 60).map(|minutes| Duration::from_secs(minutes * 60));
        let mut due = minutes.filter(|after| times.is_due(START + *after, every));
        due.next().expect("within twenty days")
    }

    #[test]
    fn a_copy_is_verified_after_its_interval_and_sooner_where_something_was_wrong() {
        let times = |last, tried_at| Times {
            first_copy_at: START,
            last,
            tried_at,
        };
        let before = |hours: u32| START.saturating_sub(HOUR * hours);
        for (times, every, expected) in [
            (times(None, None), WEEK, SETTLES),
            (times(Some((before(1), true)), None), WEEK, WEEK - HOUR),
            // Long ago, and after a restart not at once.
            (times(Some((before(1000), true)), None), WEEK, SETTLES),
            (times(Some((before(1), false)), None), WEEK, HOUR * 23),
            (times(Some((before(1), false)), None), HOUR * 5, HOUR * 4),
            (times(None, Some(START)), WEEK, HOUR),
            (
                times(Some((before(1), true)), Some(START)),
                WEEK,
                WEEK - HOUR,
            ),
            (times(Some((before(200), true)), Some(START)), WEEK, HOUR),
        ] {
            assert_eq!(first_due(times, every), expected, "{times:?} {every:?}");
        }
    }

    #[test]
    fn a_clock_that_was_ahead_puts_nothing_off() {
        let ahead = START + WEEK * 50;
        let times = Times {
            first_copy_at: ahead,
            last: Some((ahead, true)),
            tried_at: Some(ahead),
        };
        assert!(times.is_due(START, WEEK));
    }

    #[test]
    fn the_last_verification_is_found_again_and_is_the_only_one() {
        let directory = tempfile::tempdir().unwrap();
        let settings = TargetSettings {
            to: directory.path().to_str().unwrap().to_owned(),
            key: None,
        };
        let folder = Target::open(&settings).unwrap().folder("00000000000000ff");
        assert_eq!(Verification::newest(&folder).unwrap(), None);
        let whole = Verification::new(START, HOUR, 7, None, None);
        whole.write(&folder).unwrap();
        assert_eq!(Verification::newest(&folder).unwrap(), Some(whole.clone()));
        let damage = Some("it is damaged".to_owned());
        // By a clock that was set back.
        let at = START.saturating_sub(HOUR);
        let damaged = Verification::new(at, HOUR, 7, damage, Some(&whole));
        assert_eq!(damaged.whole_at, Some(START.0));
        damaged.write(&folder).unwrap();
        assert_eq!(Verification::newest(&folder).unwrap(), Some(damaged));
        let names = folder.list("").unwrap();
        assert!(names.len() == 1 && is_name(&names[0].name), "{names:?}");
        let file = directory
            .path()
            .join("00000000000000ff")
            .join(&names[0].name);
        std::fs::write(file, "no object").unwrap();
        assert_eq!(Verification::newest(&folder).unwrap(), None);
    }

    #[test]
    fn only_the_names_of_verifications_are_left_alone() {
        assert!(is_name("verified-00000000000000ff"));
        for name in [
            "verified-ff",
            "verified-",
            "manifest-00000000000000ff",
            "verified-x0000000000000ff",
        ] {
            assert!(!is_name(name), "{name}");
        }
    }
}
