//! Following a copy while its server goes on: each manifest's files are laid into the same directory, so that another
//! machine has everything but the last seconds at any moment.
//!
//! What lies there by now is in a file of the directory, so that a process that is broken off, at any moment, is gone on
//! from. The file is removed before the directory becomes a store.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::BackupError;
use super::copy::Progress;
use super::laying::{Laid, Laying, sync_directory};
use super::restore::{Choice, Copy, Fetched};
use super::target::Target;

/// The file in a directory that follows a copy.
const STATE: &str = "restore.following";

/// A directory that follows the copy of a store.
pub struct Follow {
    copy: Copy,
    directory: PathBuf,
    state: State,
    /// The manifest that was laid down last.
    number: Option<u64>,
}

/// What lies in the directory, and of which store it is.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    stream: u64,
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
                laid: Laid::default(),
            }),
            copy,
            directory: directory.to_owned(),
            number: None,
        })
    }

    /// Lays down what is new; none where nothing is. `applied` is the last record that the database in the directory
    /// has. Where there is none, a checkpoint file is laid down, too.
    ///
    /// # Errors
    /// `Gap` where the copy does not go on from `applied`.
    pub fn lay(
        &mut self,
        applied: Option<u64>,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<Option<Fetched>, BackupError> {
        if !self.is_behind()? {
            return Ok(None);
        }
        loop {
            let plan = self.copy.plan(None, applied)?;
            let laid = &mut self.state.laid;
            let mut laying = Laying::new(&self.copy, &plan, &self.directory, laid, tell);
            let done = laying.lay(applied.is_none());
            let damage = std::mem::take(&mut laying.damage);
            self.save()?;
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

    fn save(&self) -> Result<(), BackupError> {
        let path = self.directory.join(STATE);
        let new = path.with_extension("new");
        let bytes =
            serde_json::to_vec(&self.state).expect("numbers and texts can be written as JSON");
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()?;
            std::fs::rename(&new, &path)
        });
        written.map_err(|error| BackupError::file(&path, error))?;
        sync_directory(&self.directory)
    }
}
