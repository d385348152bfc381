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

/// How often it is told how far it is.
const TOLD_EVERY: Duration = Duration::from_secs(10);
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
    let follow = open(target, stream, directory, until).map_err(failed)?;
    let database = Follower::resume(settings).map_err(Failure::failed)?;
    // A process was ended in the moment after the store had become one of its own.
    if database
        .as_ref()
        .is_some_and(|one| one.stream() != follow.stream())
    {
        return Err(Failure::failed(format!(
            "{} was not finished: remove it, and run `postrider restore` without --follow",
            directory.display()
        )));
    }
    let mut following = Following {
        follow,
        database,
        settings,
        handed_over: None,
    };
    let mut rest = ASKED_EVERY;
    let mut lines = Lines::every(TOLD_EVERY);
    let mut is_told = false;
    let mut last = None;
    loop {
        match following.step(until) {
            Ok(Step::Ended(fetched)) => {
                let restored = following.end(fetched.handed_over_at.is_some())?;
                let target = target.to_string();
                return Ok(Report {
                    fetched,
                    restored,
                    target,
                });
            }
            Ok(step) => {
                rest = ASKED_EVERY;
                is_told = false;
                if let Step::Laid(fetched) = step {
                    last = Some(fetched);
                }
                if let Some(fetched) = &last {
                    lines.show_line(|| told(fetched));
                }
            }
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
        "everything that is copied is here: up to record {}, of {} ({age} s ago)",
        fetched.position, fetched.moment
    )
}

/// Why a step was not made.
enum Stopped {
    /// The target is away, full of errors, or changing: it may be better soon.
    Target(BackupError),
    For(Failure),
}

impl From<BackupError> for Stopped {
    fn from(error: BackupError) -> Stopped {
        match error {
            BackupError::Target(_) => Stopped::Target(error),
            error if error.is_too_early_for_all() => Stopped::Target(error),
            error => Stopped::For(Failure::failed(error)),
        }
    }
}

struct Following<'a> {
    follow: Follow,
    database: Option<Follower>,
    settings: &'a StoreSettings,
    /// What is there of a store that was handed over.
    handed_over: Option<Fetched>,
}

enum Step {
    Nothing,
    Laid(Fetched),
    /// The store is this one's to go on with.
    Ended(Fetched),
}

impl Following<'_> {
    fn step(&mut self, until: Until) -> std::result::Result<Step, Stopped> {
        let laid = self.lay()?;
        if let Some(fetched) = &laid {
            self.handed_over = fetched.handed_over_at.and(Some(fetched.clone()));
        }
        match (laid, self.handed_over.clone()) {
            (Some(fetched), _) if until == Until::Now => Ok(Step::Ended(fetched)),
            (_, Some(fetched)) => match self.follow.take_over(Clock::System.now()) {
                Ok(true) => Ok(Step::Ended(fetched)),
                Ok(false) => Ok(Step::Nothing),
                Err(error) => Err(error.into()),
            },
            (Some(fetched), None) => Ok(Step::Laid(fetched)),
            (None, None) => Ok(Step::Nothing),
        }
    }

    /// Lays down what is new, and takes it into the database. None where nothing is new.
    fn lay(&mut self) -> std::result::Result<Option<Fetched>, Stopped> {
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
                return self.lay();
            }
            Err(error) => return Err(error.into()),
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
        let ended = database.end(&Clock::System, lost);
        let ended = ended.map_err(Failure::failed)?;
        self.follow.end().map_err(Failure::failed)?;
        Ok(ended)
    }
}
