//! Bringing a store back from its copy, as it was at a moment.
//!
//! The files of the store are laid into an empty directory: the segments of the journal, of which the last may be cut
//! at the moment asked for, the checkpoint file before it, and indexes. `store::begin_restored` then makes the live
//! database of them, as a rebuild does. Each object is held against its checksum, each record against the chain, and
//! each part against its own checksum. Nothing of the target is changed.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use super::BackupError;
use super::copy::Progress;
use super::manifest::{self, CheckpointCopy, IndexCopy, Manifest, Place, SealedList};
use super::target::{Object, Target};
use crate::clock::Timestamp;
use crate::journal::{self, Disk, PartName, Reader, Segment};
use crate::store;

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
}

/// The copy of one store, as its newest manifest says.
struct Copy {
    target: Target,
    manifest: Manifest,
    list: SealedList,
}

/// The objects that make up the store at a moment.
struct Plan {
    segments: Vec<SegmentCopy>,
    checkpoint: CheckpointCopy,
    indexes: Vec<IndexCopy>,
    at: Option<Timestamp>,
    to_erase: Vec<PartName>,
    bytes: u64,
}

struct SegmentCopy {
    number: u64,
    file_bytes: u64,
    begin: Place,
    end: Place,
    is_damaged: bool,
    /// One behind the other.
    objects: Vec<Object>,
}

/// Lays the files of a store at a moment into a directory, which has none. With `only_behind` those segments are
/// checked and then left out that nothing but history needs.
pub fn fetch(
    target: &Target,
    choice: Choice,
    directory: &Path,
    only_behind: bool,
    tell: &mut dyn FnMut(Progress),
) -> Result<Fetched, BackupError> {
    let copy = Copy::choose(target, choice)?;
    let plan = copy.plan(choice.at)?;
    let mut laying = Laying {
        copy: &copy,
        plan: &plan,
        directory,
        only_behind,
        progress: Progress {
            bytes_done: 0,
            bytes_in_all: plan.bytes,
        },
        tell,
        last: None,
        damage: Vec::new(),
    };
    laying.lay()?;
    let (position, moment) = laying
        .last
        .unwrap_or((plan.checkpoint.position, Timestamp(plan.checkpoint.time_ms)));
    Ok(Fetched {
        stream: copy.manifest.stream,
        position,
        moment,
        copied_at: Timestamp(copy.manifest.written_at),
        segments: plan.segments.len() as u64,
        bytes: plan.bytes,
        damage: laying.damage,
    })
}

impl Copy {
    fn choose(target: &Target, choice: Choice) -> Result<Copy, BackupError> {
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
        let (target, manifest) = found.swap_remove(at.unwrap_or(found.len() - 1));
        Ok(Copy {
            list: manifest.read_list(&target)?,
            target,
            manifest,
        })
    }

    fn plan(&self, at: Option<Timestamp>) -> Result<Plan, BackupError> {
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
        let mut segments = Vec::new();
        let mut is_over = false;
        for one in &self.list.segments {
            let was_gone = one
                .gone_at
                .is_some_and(|gone| at.is_none_or(|at| gone <= at.0));
            let is_behind = one.end.position > checkpoint.position + 1;
            if is_over || was_gone && !is_behind {
                continue;
            }
            segments.push(SegmentCopy {
                number: one.number,
                file_bytes: one.file_bytes,
                begin: one.begin,
                end: one.end,
                is_damaged: one.is_damaged,
                objects: vec![one.object.clone()],
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
                objects: open
                    .pieces
                    .iter()
                    .map(|piece| piece.object.clone())
                    .collect(),
            });
        }
        refuse_with_gap(&segments, &checkpoint)?;
        let indexes = self.list.indexes.iter().filter(|one| one.gone_at.is_none());
        let indexes = Vec::from_iter(indexes.cloned());
        let objects = segments.iter().flat_map(|one| &one.objects);
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
}

/// Refuses a copy that lacks records behind the checkpoint: the target was away for longer than the store kept them.
fn refuse_with_gap(
    segments: &[SegmentCopy],
    checkpoint: &CheckpointCopy,
) -> Result<(), BackupError> {
    let mut next = checkpoint.position + 1;
    for segment in segments
        .iter()
        .filter(|one| one.end.position > checkpoint.position)
    {
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

/// Files being laid down.
struct Laying<'a> {
    copy: &'a Copy,
    plan: &'a Plan,
    directory: &'a Path,
    only_behind: bool,
    progress: Progress,
    tell: &'a mut dyn FnMut(Progress),
    /// Position and latest time of the records so far.
    last: Option<(u64, Timestamp)>,
    damage: Vec<String>,
}

impl Laying<'_> {
    fn lay(&mut self) -> Result<(), BackupError> {
        for name in ["journal", "slices"] {
            make_directory(&self.directory.join(name))?;
        }
        for (at, segment) in self.plan.segments.iter().enumerate() {
            let is_last = at + 1 == self.plan.segments.len();
            self.lay_segment(segment, is_last)?;
        }
        for index in &self.plan.indexes {
            let path = store::slice_directory(self.directory, index.slice);
            make_directory(&path)?;
            self.write_file(&path.join("index"), &[&index.object])?;
        }
        sync_directory(&self.directory.join("journal"))?;
        sync_directory(&self.directory.join("slices"))?;
        let path = self.directory.join(store::CHECKPOINT_FILE);
        self.write_file(&path, &[&self.plan.checkpoint.object])?;
        sync_directory(self.directory)
    }

    fn lay_segment(&mut self, copy: &SegmentCopy, is_last: bool) -> Result<(), BackupError> {
        let directory = self.directory.join("journal");
        let path = directory.join(journal::segment_file(copy.number));
        let objects = Vec::from_iter(&copy.objects);
        let file = self.write_file(&path, &objects)?;
        let failed = |error| BackupError::file(&path, error);
        file.set_len(copy.file_bytes).map_err(failed)?;
        let files = Arc::new(Disk::new(directory));
        let reader = match Reader::of_segment(files, copy.number, copy.end.position) {
            // The copy has it as the store had it.
            Err(error) if error.is_damage() && copy.is_damaged => {
                self.damage.push(error.to_string());
                return Ok(());
            }
            reader => reader?,
        };
        let Some(segment) = reader
            .segments()
            .pop()
            .filter(|one| one.begin == copy.begin.tip())
        else {
            return Err(BackupError::wrong(
                &copy.objects,
                "its header is not that of the segment",
            ));
        };
        let erased = self.erase(&reader, &segment, &file);
        erased.map_err(failed)?;
        let cut = self.check(&reader, &segment, copy, is_last)?;
        if let Some(offset) = cut {
            file.set_len(offset).map_err(failed)?;
            file.set_len(copy.file_bytes).map_err(failed)?;
        }
        file.sync_all().map_err(failed)?;
        let is_behind = copy.end.position > self.plan.checkpoint.position + 1;
        if self.only_behind && !is_behind && !is_last {
            std::fs::remove_file(&path).map_err(failed)?;
        }
        Ok(())
    }

    /// Erases what the copy still has of it.
    fn erase(&self, reader: &Reader, segment: &Arc<Segment>, file: &File) -> io::Result<()> {
        if self.plan.to_erase.is_empty() {
            return Ok(());
        }
        let mut stretches = reader
            .stretches_of(&self.plan.to_erase)
            .map_err(io::Error::other)?;
        let stretches = stretches.remove(&segment.number).unwrap_or_default();
        for (offset, length) in stretches.clone() {
            let mut bytes = reader.bytes_of(segment, offset..offset + length, stretches.clone());
            let mut file = file;
            file.seek(SeekFrom::Start(offset))?;
            io::copy(&mut bytes, &mut file)?;
        }
        Ok(())
    }

    /// Reads all of a segment. Answers where it is to be cut: before the first record behind the moment.
    fn check(
        &mut self,
        reader: &Reader,
        segment: &Arc<Segment>,
        copy: &SegmentCopy,
        is_last: bool,
    ) -> Result<Option<u64>, BackupError> {
        let at = self.plan.at.filter(|_| is_last);
        let mut cut = None;
        let mut last = self.last;
        let mut wrong = None;
        let walked = reader.walk_segment(segment, None, |record| {
            let time = Timestamp(record.head.time_ms);
            if cut.is_some() || at.is_some_and(|at| time > at) {
                cut = cut.or(Some(record.offset));
                return;
            }
            let latest = last.map_or(time, |(_, latest)| latest.max(time));
            last = Some((record.head.position, latest));
            let checked = reader.check_record(segment, record);
            let problem = checked.err().map(|error| error.to_string());
            let problem = problem.or_else(|| store::effects_problem(&record.effects));
            wrong = wrong.take().or(problem);
        })?;
        self.last = last;
        let damage = walked.damage.map(|damage| damage.to_string()).or(wrong);
        match damage {
            // The copy has it as the store had it.
            Some(damage) if copy.is_damaged => self.damage.push(damage),
            Some(damage) => return Err(BackupError::wrong(&copy.objects, &damage)),
            None if cut.is_none() && walked.end.tip != copy.end.tip() => {
                let reason = "its last record is not the one that the manifest names";
                return Err(BackupError::wrong(&copy.objects, reason));
            }
            None => {}
        }
        Ok(cut)
    }

    fn write_file(&mut self, path: &Path, objects: &[&Object]) -> Result<File, BackupError> {
        let failed = |error| BackupError::file(path, error);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let mut file = options.open(path).map_err(failed)?;
        let mut out = BufWriter::with_capacity(256 << 10, &mut file);
        for object in objects {
            (self.tell)(self.progress);
            self.copy.target.get(&object.name, Some(object), &mut out)?;
            self.progress.bytes_done += object.bytes;
        }
        out.flush().map_err(failed)?;
        drop(out);
        (self.tell)(self.progress);
        file.sync_all().map_err(failed)?;
        Ok(file)
    }
}

fn make_directory(path: &Path) -> Result<(), BackupError> {
    let mut builder = std::fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(path);
    made.map_err(|error| BackupError::file(path, error))
}

fn sync_directory(path: &Path) -> Result<(), BackupError> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(|error| BackupError::file(path, error))
}
