//! Bringing a store back from its copy, as it was at a moment.
//!
//! The files of the store are laid into an empty directory: the segments of the journal, of which the last may be cut
//! at the moment asked for, the checkpoint file before it, and indexes. `store::begin_restored` then makes the live
//! database of them, as a rebuild does. Each object is held against its checksum, each record against the chain, and
//! each part against its own checksum. Nothing of the target is changed.

use std::path::Path;

use super::BackupError;
use super::copy::Progress;
use super::laying::{Laid, Laying};
use super::manifest::{self, CheckpointCopy, IndexCopy, Manifest, Piece, Place, SealedList};
use super::target::{Object, Target};
use crate::clock::Timestamp;
use crate::journal::PartName;

/// How often a restore begins with a newer manifest: a server that goes on copying deletes what the one before named.
pub(super) const NEWER_MAX: usize = 20;

/// Which copy, and which moment of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice {
    /// The newest one that goes back to the moment, where it is not said.
    pub stream: Option<u64>,
    /// The end of the copy, where it is not said.
    pub at: Option<Timestamp>,
}

/// The result of laying down the files.
#[derive(Clone, Debug)]
pub struct Fetched {
    pub stream: u64,
    /// The last record that is there, and its time: the exact moment.
    pub position: u64,
    pub moment: Timestamp,
    /// When the copy was brought up to date last.
    pub copied_at: Timestamp,
    pub segments: u64,
    pub bytes: u64,
    /// Damage that the store had when it was copied.
    pub damage: Vec<String>,
    /// When the store was handed over to whoever follows the copy: nothing happened in it after the last record.
    pub handed_over_at: Option<Timestamp>,
}

/// The copy of one store, as its newest manifest says.
pub(super) struct Copy {
    /// The stream's folder.
    pub(super) target: Target,
    pub(super) manifest: Manifest,
    list: SealedList,
}

/// The objects that make up the store at a moment.
pub(super) struct Plan {
    pub(super) segments: Vec<SegmentCopy>,
    pub(super) checkpoint: CheckpointCopy,
    pub(super) indexes: Vec<IndexCopy>,
    pub(super) at: Option<Timestamp>,
    pub(super) to_erase: Vec<PartName>,
    pub(super) bytes: u64,
}

pub(super) struct SegmentCopy {
    pub(super) number: u64,
    pub(super) file_bytes: u64,
    pub(super) begin: Place,
    pub(super) end: Place,
    pub(super) is_damaged: bool,
    /// It ends with an end mark.
    pub(super) is_sealed: bool,
    /// One behind the other.
    pub(super) objects: Vec<Stretch>,
}

/// An object that has the bytes of a file from this offset on.
pub(super) struct Stretch {
    pub(super) from: u64,
    pub(super) object: Object,
}

/// Lays the files of a store at a moment into a directory, which has none. With `only_behind`, for a look at them, what
/// nothing but history needs is checked and then left out, and nothing is synced.
pub fn fetch(
    target: &Target,
    choice: Choice,
    directory: &Path,
    only_behind: bool,
    tell: &mut dyn FnMut(Progress),
) -> Result<Fetched, BackupError> {
    let mut copy = Copy::choose(target, choice)?;
    let mut laid = Laid::default();
    let mut damage = Vec::new();
    for _ in 0..NEWER_MAX {
        let plan = copy.plan(choice.at, None)?;
        let mut laying = Laying::new(&copy, &plan, directory, &mut laid, tell);
        laying.only_behind = only_behind;
        let done = laying.lay(true);
        damage.append(&mut laying.damage);
        match done {
            Ok(()) => return Ok(copy.fetched(&plan, &laid, damage)),
            Err(error) if error.is_of_a_missing_object() && copy.renew()? => {}
            Err(error) => return Err(error),
        }
    }
    Err(too_fast())
}

pub(super) fn too_fast() -> BackupError {
    BackupError::Unusable("its objects are deleted faster than they can be read".to_owned())
}

impl Copy {
    pub(super) fn choose(target: &Target, choice: Choice) -> Result<Copy, BackupError> {
        let mut found = Vec::new();
        for folder in target.folders()? {
            let Some(stream) = manifest::stream_of(&folder) else {
                continue;
            };
            if choice.stream.is_some_and(|wanted| wanted != stream) {
                continue;
            }
            let folder = target.folder(&folder);
            if let Some((manifest, _)) = Manifest::newest(&folder)? {
                found.push((folder, manifest));
            }
        }
        if found.is_empty() {
            return Err(BackupError::NoCopy);
        }
        found.sort_by_key(|(_, manifest)| manifest.written_at);
        let goes_back = |manifest: &Manifest| {
            let first = manifest.checkpoints.first();
            first.is_some_and(|first| choice.at.is_none_or(|at| first.time_ms <= at.0))
        };
        let at = found.iter().rposition(|(_, manifest)| goes_back(manifest));
        let (target, mut manifest) = found.swap_remove(at.unwrap_or(found.len() - 1));
        for _ in 0..NEWER_MAX {
            match manifest.read_list(&target) {
                Err(error) if error.is_of_a_missing_object() => {}
                list => {
                    return Ok(Copy {
                        list: list?,
                        target,
                        manifest,
                    });
                }
            }
            let newest = Manifest::newest(&target)?.map(|(newest, _)| newest);
            manifest = newest.filter(|one| *one != manifest).ok_or_else(|| {
                BackupError::Unusable(format!(
                    "{} names a list that is not there",
                    manifest.number
                ))
            })?;
        }
        Err(too_fast())
    }

    /// Reads the newest manifest. False where that is the one that was read before.
    pub(super) fn renew(&mut self) -> Result<bool, BackupError> {
        for _ in 0..NEWER_MAX {
            match self.try_to_renew() {
                // There may be another one already.
                Err(error) if error.is_of_a_missing_object() => {}
                renewed => return renewed,
            }
        }
        self.try_to_renew()
    }

    fn try_to_renew(&mut self) -> Result<bool, BackupError> {
        let newest = Manifest::newest(&self.target)?;
        let newer = newest.filter(|(newest, _)| newest.number > self.manifest.number);
        let Some((manifest, _)) = newer else {
            return Ok(false);
        };
        if manifest.list != self.manifest.list {
            self.list = manifest.read_list(&self.target)?;
        }
        self.manifest = manifest;
        Ok(true)
    }

    pub(super) fn fetched(&self, plan: &Plan, laid: &Laid, damage: Vec<String>) -> Fetched {
        let of_checkpoint = (plan.checkpoint.position, Timestamp(plan.checkpoint.time_ms));
        let (position, moment) = laid.last.unwrap_or(of_checkpoint);
        Fetched {
            stream: self.manifest.stream,
            position,
            moment,
            copied_at: Timestamp(self.manifest.written_at),
            segments: plan.segments.len() as u64,
            bytes: plan.bytes,
            damage,
            handed_over_at: self
                .manifest
                .handed_over_at
                .map(Timestamp)
                .filter(|_| plan.at.is_none()),
        }
    }

    /// The objects of the store at a moment, or at the end of the copy. Where a database has the records up to
    /// `applied`, only those behind it must be there.
    pub(super) fn plan(
        &self,
        at: Option<Timestamp>,
        applied: Option<u64>,
    ) -> Result<Plan, BackupError> {
        let Manifest {
            checkpoints,
            written_at,
            time_ms,
            ..
        } = &self.manifest;
        // A run copies what is committed while it goes on, too.
        let until = Timestamp(*written_at.max(time_ms));
        if let Some(at) = at.filter(|at| *at > until) {
            return Err(BackupError::TooLate { at, until });
        }
        let is_before = |one: &&CheckpointCopy| at.is_none_or(|at| one.time_ms <= at.0);
        let Some(checkpoint) = checkpoints.iter().rfind(is_before).cloned() else {
            let first = checkpoints.first().map(|first| Timestamp(first.time_ms));
            return Err(BackupError::TooEarly { first });
        };
        let applied = applied.unwrap_or(checkpoint.position);
        let segments = self.segments(at, applied);
        refuse_with_gap(&segments, applied)?;
        let indexes = self.list.indexes.iter().filter(|one| one.gone_at.is_none());
        let indexes = Vec::from_iter(indexes.cloned());
        let objects = segments.iter().flat_map(|one| &one.objects);
        let objects = objects.map(|one| &one.object);
        let objects = objects.chain(indexes.iter().map(|one| &one.object));
        Ok(Plan {
            bytes: objects.map(|one| one.bytes).sum::<u64>() + checkpoint.object.bytes,
            segments,
            checkpoint,
            indexes,
            at,
            to_erase: self
                .manifest
                .to_erase
                .iter()
                .map(|part| PartName::from(*part))
                .collect(),
        })
    }

    /// The segments that the store had at a moment, and those of before that have records behind `applied`.
    fn segments(&self, at: Option<Timestamp>, applied: u64) -> Vec<SegmentCopy> {
        let mut segments = Vec::new();
        let mut is_over = false;
        for one in &self.list.segments {
            let was_gone = one
                .gone_at
                .is_some_and(|gone| at.is_none_or(|at| gone <= at.0));
            let is_behind = one.end.position > applied + 1;
            if is_over || was_gone && !is_behind {
                continue;
            }
            segments.push(SegmentCopy {
                number: one.number,
                file_bytes: one.file_bytes,
                begin: one.begin,
                end: one.end,
                is_damaged: one.is_damaged,
                is_sealed: true,
                objects: vec![Stretch::whole(&one.object)],
            });
            is_over = at.is_some_and(|at| one.time_ms > at.0);
        }
        if let Some(open) = self.manifest.open.as_ref().filter(|_| !is_over) {
            segments.push(SegmentCopy {
                number: open.number,
                file_bytes: open.file_bytes,
                begin: open.begin,
                end: open.end,
                is_damaged: false,
                is_sealed: false,
                objects: open.pieces.iter().map(Stretch::from).collect(),
            });
        }
        segments
    }
}

/// Refuses a copy that lacks records behind this one: the target was away for longer than the store kept them.
fn refuse_with_gap(segments: &[SegmentCopy], applied: u64) -> Result<(), BackupError> {
    let mut next = applied + 1;
    for segment in segments.iter().filter(|one| one.end.position > applied) {
        if segment.begin.position > next {
            return Err(BackupError::Gap {
                from: next,
                to: segment.begin.position,
            });
        }
        next = next.max(segment.end.position);
    }
    Ok(())
}

impl Stretch {
    /// An object that has all of a file.
    pub(super) fn whole(object: &Object) -> Stretch {
        let object = object.clone();
        Stretch { from: 0, object }
    }
}

impl From<&Piece> for Stretch {
    fn from(piece: &Piece) -> Stretch {
        Stretch {
            from: piece.from,
            object: piece.object.clone(),
        }
    }
}
