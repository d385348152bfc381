//! Following a copy while its server goes on: each manifest's files are laid into the same directory, so that another
//! machine has everything but the last seconds at any moment.
//!
//! What lies there by now is in a file of the directory, so that a process that is broken off, at any moment, is gone on
//! from. Who goes on with a store that was handed over is decided by the next manifest: only one process can create it.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::BackupError;
use super::copy::Progress;
use super::laying::{Laid, Laying, sync_directory};
use super::manifest::Manifest;
use super::restore::{Choice, Copy, Fetched, NEWER_MAX, too_fast};
use super::target::Target;
use crate::clock::Timestamp;
use crate::store;

/// The file in a directory that follows a copy.
const STATE: &str = store::FOLLOWING;

/// A directory that follows the copy of a store.
pub struct Follow {
    copy: Copy,
    directory: PathBuf,
    state: State,
    /// The manifest that was laid down last.
    number: Option<u64>,
}

/// What lies in the directory, and of which store it is.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    stream: u64,
    /// Who takes the store over, if this one does.
    writer: u64,
    laid: Laid,
}

impl Follow {
    /// Whether a directory follows a copy.
    pub fn is_followed(directory: &Path) -> bool {
        directory.join(STATE).exists()
    }

    /// Follows the copy of a store, from the beginning or from where an earlier process ended. Reads the newest
    /// manifest, and changes nothing in the directory.
    pub fn open(
        target: &Target,
        stream: Option<u64>,
        directory: &Path,
    ) -> Result<Follow, BackupError> {
        let path = directory.join(STATE);
        let state = match std::fs::read(&path) {
            Ok(bytes) => {
                let state: Result<State, _> = serde_json::from_slice(&bytes);
                Some(state.map_err(|error| BackupError::file(&path, error.into()))?)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(BackupError::file(&path, error)),
        };
        let of_state = state.as_ref().map(|state| state.stream);
        if let Some((followed, named)) = of_state.zip(stream).filter(|(one, other)| one != other) {
            return Err(BackupError::Follows { followed, named });
        }
        let choice = Choice {
            stream: of_state.or(stream),
            at: None,
        };
        let copy = Copy::choose(target, choice)?;
        Ok(Follow {
            state: state.unwrap_or_else(|| State {
                stream: copy.manifest.stream,
                writer: rand::random(),
                laid: Laid::default(),
            }),
            copy,
            directory: directory.to_owned(),
            number: None,
        })
    }

    /// The stream that is followed.
    pub fn stream(&self) -> u64 {
        self.state.stream
    }

    /// Lays down what is new; none where nothing is. `applied` is the last record that the database in the directory
    /// has. Where there is none, a checkpoint file is laid down, too.
    ///
    /// # Errors
    /// `Gap` where the copy does not go on from `applied`, and `TakenOver` where another machine goes on with the store.
    pub fn lay(
        &mut self,
        applied: Option<u64>,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<Option<Fetched>, BackupError> {
        if !self.is_behind()? {
            return Ok(None);
        }
        let (directory, stream, writer) =
            (self.directory.clone(), self.state.stream, self.state.writer);
        let save = |laid: &Laid| save(&directory, stream, writer, laid);
        // So that a process that is ended while it lays down the first file is gone on from, too.
        save(&self.state.laid)?;
        for _ in 0..NEWER_MAX {
            self.refuse_if_taken_over()?;
            let plan = self.copy.plan(None, applied)?;
            let laid = &mut self.state.laid;
            let mut laying = Laying::new(&self.copy, &plan, &self.directory, laid, tell);
            laying.laid_one = &save;
            let done = laying.lay(applied.is_none());
            let damage = std::mem::take(&mut laying.damage);
            save(&self.state.laid)?;
            match done {
                Ok(()) => {
                    self.number = Some(self.copy.manifest.number);
                    return Ok(Some(self.copy.fetched(&plan, &self.state.laid, damage)));
                }
                // The server has gone on meanwhile, and deleted what its new manifest does not need.
                Err(error) if error.is_of_a_missing_object() && self.copy.renew()? => {}
                Err(error) => return Err(error),
            }
        }
        Err(too_fast())
    }

    /// Takes the store over that was handed over, which only one may. False where its server goes on after all. After an
    /// error it is not known, and it can be called again.
    pub fn take_over(&mut self, now: Timestamp) -> Result<bool, BackupError> {
        self.copy.renew()?;
        self.refuse_if_taken_over()?;
        let manifest = &self.copy.manifest;
        if manifest.handed_over_at.is_none() || manifest.taken_over_at.is_some() {
            return Ok(manifest.taken_over_at.is_some());
        }
        let claim = Manifest {
            number: manifest.number + 1,
            writer: self.state.writer,
            written_at: now.0,
            taken_over_at: Some(now.0),
            ..manifest.clone()
        };
        match claim.write(&self.copy.target) {
            Ok(_) => Ok(true),
            // Of whom, the next look tells.
            Err(BackupError::OtherWriter) => self.take_over(now),
            Err(error) => Err(error),
        }
    }

    /// Refuses a store that another machine took over.
    fn refuse_if_taken_over(&self) -> Result<(), BackupError> {
        let manifest = &self.copy.manifest;
        match manifest.taken_over_at {
            Some(at) if manifest.writer != self.state.writer => {
                Err(BackupError::TakenOver { at: Timestamp(at) })
            }
            _ => Ok(()),
        }
    }

    /// Says that the directory follows nothing any more.
    pub fn end(self) -> Result<(), BackupError> {
        let path = self.directory.join(STATE);
        std::fs::remove_file(&path).map_err(|error| BackupError::file(&path, error))?;
        sync_directory(&self.directory)
    }

    /// Whether the target has a manifest that was not laid down.
    fn is_behind(&mut self) -> Result<bool, BackupError> {
        self.copy.renew()?;
        Ok(self.number != Some(self.copy.manifest.number))
    }
}

fn save(directory: &Path, stream: u64, writer: u64, laid: &Laid) -> Result<(), BackupError> {
    let path = directory.join(STATE);
    let new = path.with_extension("new");
    let state = State {
        stream,
        writer,
        laid: laid.clone(),
    };
    let bytes = serde_json::to_vec(&state).expect("numbers and texts can be written as JSON");
    let written = File::create(&new).and_then(|mut file| {
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&new, &path)
    });
    written.map_err(|error| BackupError::file(&path, error))?;
    sync_directory(directory)
}
