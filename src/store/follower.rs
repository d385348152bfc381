//! A store that follows another one: its files are laid down from a backup again and again, and its live database goes
//! along, so that a server can start on it within a second of the last record.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::directory::{Lock, lock};
use super::engine::Engine;
use super::layout::{self, Checkpoint};
use super::open::{open_engine, to_open_error};
use super::restored::{Lost, Restored, being_restored, go_on, is_unfinished};
use super::{OpenError, StoreSettings, rebuild, replay};
use crate::clock::Clock;
use crate::journal::{Disk, Reader};

/// The databases of a store whose files are being laid down.
pub struct Follower {
    settings: StoreSettings,
    live: Engine,
    applied: Checkpoint,
    /// That no second process follows into the same directory.
    _lock: Lock,
}

impl Follower {
    /// Goes on where an earlier process followed into this directory; none where it has no database yet, or one that
    /// the journal does not go on from any more. [`Follower::begin`] makes one then.
    pub fn resume(settings: &StoreSettings) -> Result<Option<Follower>, OpenError> {
        let path = &settings.path;
        if !is_unfinished(path) || !path.join("live").exists() {
            return Ok(None);
        }
        let follower = match Follower::open(settings) {
            // It can be made anew.
            Err(OpenError::Damaged { .. }) => return Ok(None),
            opened => opened?,
        };
        let reader = reader_of(path)?;
        let goes_on = reader.records_behind(replay::next_behind(&follower.applied));
        Ok(goes_on.is_ok().then_some(follower))
    }

    /// Makes the live database of the files that lie there: the journal, and a checkpoint file that it goes on from.
    pub fn begin(settings: &StoreSettings, clock: &Clock) -> Result<Follower, OpenError> {
        let settings = &being_restored(settings);
        let live = settings.path.join("live");
        if live.exists() {
            rebuild::let_go(&live)?;
            fs::remove_dir_all(&live).map_err(|source| OpenError::Io { path: live, source })?;
        }
        let rebuilt = rebuild::rebuild(settings, clock)?;
        // A copy of a sound store has no such sign; a restore at one go tells of it and goes on.
        if let Some(problem) = rebuilt.problems.first() {
            return Err(OpenError::Damaged {
                path: settings.path.clone(),
                reason: problem.clone(),
            });
        }
        let mut follower = Follower::open(settings)?;
        follower.catch_up()?;
        Ok(follower)
    }

    fn open(settings: &StoreSettings) -> Result<Follower, OpenError> {
        let path = &settings.path;
        let lock = lock(path)?;
        let live = open_engine(&path.join("live"), settings.cache_bytes / 2, path)?;
        let applied = layout::get::<Checkpoint>(&live, &[layout::CHECKPOINT]);
        let applied = applied.map_err(|error| to_open_error(path, error))?;
        let applied = applied.ok_or_else(|| OpenError::Damaged {
            path: path.clone(),
            reason: "the database `live` does not know how far it has the journal".to_owned(),
        })?;
        Ok(Follower {
            settings: being_restored(settings),
            live,
            applied: applied.meta,
            _lock: lock,
        })
    }

    /// The stream of the journal that the database belongs to.
    pub fn stream(&self) -> u64 {
        self.applied.stream
    }

    /// The last record that the database has.
    pub fn position(&self) -> u64 {
        self.applied.position
    }

    /// Applies the records that have been laid down since.
    pub fn catch_up(&mut self) -> Result<(), OpenError> {
        let reader = reader_of(&self.settings.path)?;
        self.applied = replay::apply_behind(&reader, &self.settings, &self.live, &self.applied)?;
        Ok(())
    }

    /// Ends following: the store goes on as a stream of its own.
    pub fn end(self, clock: &Clock, lost: Lost) -> Result<Restored, OpenError> {
        let Follower {
            settings,
            live,
            _lock,
            ..
        } = self;
        let flushed = live.flush_and_sync();
        flushed.map_err(|error| to_open_error(&settings.path, error.into()))?;
        drop(live);
        drop(_lock);
        rebuild::let_go(&settings.path.join("live"))?;
        go_on(&settings, clock, Vec::new(), lost)
    }
}

fn reader_of(path: &Path) -> Result<Reader, OpenError> {
    let path = path.join("journal");
    let reader = Reader::beside(Arc::new(Disk::new(path.clone())));
    reader.map_err(|error| replay::journal_error(&path, error))
}
