//! `restore --follow`: a directory that has everything but the last seconds of a server on another machine, and
//! becomes a store of its own once that one hands over.

use std::path::Path;
use std::time::Duration;

use super::backup::{Bar, Report};
use super::progress::Lines;
use super::{Failure, Result, complain};
use crate::backup::{BackupError, Fetched, Follow, Target};
use crate::clock::Clock;
use crate::store::{self, Follower, Lost, StoreSettings};

/// How often the target is asked for a newer manifest.
const ASKED_EVERY: Duration = Duration::from_secs(1);
/// The longest rest while the target cannot be reached.
const REST_MAX: Duration = Duration::from_secs(10);

/// When following ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    HandedOver,
    /// With what is copied now: the other server is lost.
    Now,
}

/// Follows into the directory of the settings, until the store is one of its own but for [`store::finish_restore`]. A
/// process that is ended on the way is gone on from by the next one.
pub fn follow(
    target: &Target,
    stream: Option<u64>,
    settings: &StoreSettings,
    until: Until,
) -> Result<Report> {
    let failed = |error: BackupError| Failure::failed(error.at(target));
    let directory = &settings.path;
    if !Follow::is_followed(directory) {
        store::prepare_restore(settings).map_err(Failure::failed)?;
    }
    let mut following = Following {
        follow: open(target, stream, directory, until).map_err(failed)?,
        database: Follower::resume(settings).map_err(Failure::failed)?,
        settings,
    };
    let mut rest = ASKED_EVERY;
    let mut lines = Lines::new();
    let mut is_told = false;
    loop {
        match following.step() {
            Ok(Some(fetched)) => {
                rest = ASKED_EVERY;
                is_told = false;
                if until == Until::Now || fetched.handed_over_at.is_some() {
                    let restored = following.end(fetched.handed_over_at.is_some())?;
                    let target = target.to_string();
                    return Ok(Report {
                        fetched,
                        restored,
                        target,
                    });
                }
                lines.show_line(|| told(&fetched));
            }
            Ok(None) => rest = ASKED_EVERY,
            Err(Stopped::For(failure)) => return Err(failure),
            Err(Stopped::Target(error)) if until == Until::Now => return Err(failed(error)),
            Err(Stopped::Target(error)) => {
                if !is_told {
                    complain(&format!("{}; trying again", error.at(target)));
                }
                is_told = true;
                rest = (rest * 2).min(REST_MAX);
            }
        }
        std::thread::sleep(rest);
    }
}

/// Waits for the beginning of the copy where there is none yet.
fn open(
    target: &Target,
    stream: Option<u64>,
    directory: &Path,
    until: Until,
) -> std::result::Result<Follow, BackupError> {
    let mut is_told = false;
    loop {
        match Follow::open(target, stream, directory) {
            Err(error) if error.is_too_early_for_all() && until == Until::HandedOver => {
                if !is_told {
                    complain(&format!("{}; waiting for one", error.at(target)));
                }
                is_told = true;
            }
            opened => return opened,
        }
        std::thread::sleep(ASKED_EVERY);
    }
}

fn told(fetched: &Fetched) -> String {
    let age = Clock::System.now().since(fetched.moment).as_secs();
    format!(
        "everything up to {} is here (record {}), {age} s ago",
        fetched.moment, fetched.position
    )
}

/// Why a step was not made.
enum Stopped {
    /// The target is away, full of errors, or changing: it may be better soon.
    Target(BackupError),
    For(Failure),
}

struct Following<'a> {
    follow: Follow,
    database: Option<Follower>,
    settings: &'a StoreSettings,
}

impl Following<'_> {
    /// Lays down what is new, and takes it into the database. None where nothing is new.
    fn step(&mut self) -> std::result::Result<Option<Fetched>, Stopped> {
        let applied = self.database.as_ref().map(Follower::position);
        let mut bar = applied.is_none().then(|| Bar::new("restored"));
        let laid = self.follow.lay(applied, &mut |progress| {
            if let Some(bar) = &mut bar {
                bar.show(progress);
            }
        });
        if let Some(bar) = &bar {
            bar.finish();
        }
        let fetched = match laid {
            Ok(None) => return Ok(None),
            Ok(Some(fetched)) => fetched,
            // It was not followed for longer than the copy goes back: the database is made of the next checkpoint.
            Err(BackupError::Gap { .. }) if applied.is_some() => {
                self.database = None;
                return self.step();
            }
            Err(error) if error.is_too_early_for_all() => return Err(Stopped::Target(error)),
            Err(error @ BackupError::Target(_)) => return Err(Stopped::Target(error)),
            Err(error) => return Err(Stopped::For(Failure::failed(error))),
        };
        let opened = match &mut self.database {
            Some(database) => database.catch_up(),
            database => {
                let begun = Follower::begin(self.settings, &Clock::System);
                begun.map(|begun| *database = Some(begun))
            }
        };
        opened.map_err(|error| Stopped::For(Failure::failed(error)))?;
        Ok(Some(fetched))
    }

    fn end(self, is_handed_over: bool) -> Result<store::Restored> {
        let lost = match is_handed_over {
            true => Lost::Nothing,
            false => Lost::Something,
        };
        let database = self.database.expect("something was laid down");
        // From here on a process that is ended has to begin anew.
        self.follow.end().map_err(Failure::failed)?;
        let ended = database.end(&Clock::System, lost);
        ended.map_err(Failure::failed)
    }
}
