//! Laying down the files of a store from the objects of a copy, at one go or again and again.
//!
//! Each object is held against its checksum, each record against the chain, and each part against its own checksum.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::BackupError;
use super::copy::Progress;
use super::restore::{Copy, Plan, SegmentCopy, Stretch};
use super::target::Object;
use crate::clock::Timestamp;
use crate::journal::{self, Disk, Reader, Segment};
use crate::store;

/// A file that gets its name once it is whole.
const BEING_WRITTEN: &str = "restore.new";

/// What lies in a directory by now.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Laid {
    /// By the number of the segment, the names of the objects that its file was made of.
    segments: BTreeMap<u64, Vec<String>>,
    /// By the number of the slice, the same of its index.
    indexes: BTreeMap<u32, String>,
    /// Position and latest time of the records.
    pub(super) last: Option<(u64, Timestamp)>,
}

/// Files being laid down.
pub(super) struct Laying<'a> {
    copy: &'a Copy,
    plan: &'a Plan,
    directory: &'a Path,
    pub(super) only_behind: bool,
    laid: &'a mut Laid,
    progress: Progress,
    tell: &'a mut dyn FnMut(Progress),
    /// Called behind each segment.
    pub(super) laid_one: &'a dyn Fn(&Laid) -> Result<(), BackupError>,
    pub(super) damage: Vec<String>,
}

impl<'a> Laying<'a> {
    pub(super) fn new(
        copy: &'a Copy,
        plan: &'a Plan,
        directory: &'a Path,
        laid: &'a mut Laid,
        tell: &'a mut dyn FnMut(Progress),
    ) -> Laying<'a> {
        Laying {
            copy,
            plan,
            directory,
            only_behind: false,
            laid,
            progress: Progress {
                bytes_done: 0,
                bytes_in_all: plan.bytes,
            },
            tell,
            laid_one: &|_| Ok(()),
            damage: Vec::new(),
        }
    }

    /// Lays down what is not there yet, and removes segments that the plan has not. The checkpoint file comes last.
    pub(super) fn lay(&mut self, with_checkpoint: bool) -> Result<(), BackupError> {
        for name in ["journal", "slices"] {
            make_directory(&self.directory.join(name))?;
        }
        for (at, segment) in self.plan.segments.iter().enumerate() {
            let is_last = at + 1 == self.plan.segments.len();
            self.lay_segment(segment, is_last)?;
            (self.laid_one)(self.laid)?;
        }
        for index in &self.plan.indexes {
            self.lay_index(index.slice, &index.object)?;
        }
        self.remove_others()?;
        sync_directory(&self.directory.join("journal"))?;
        sync_directory(&self.directory.join("slices"))?;
        if with_checkpoint {
            let path = self.directory.join(store::CHECKPOINT_FILE);
            self.write_file(&path, &[Stretch::whole(&self.plan.checkpoint.object)])?;
        }
        sync_directory(self.directory)
    }

    fn lay_index(&mut self, slice: u32, object: &Object) -> Result<(), BackupError> {
        if self.laid.indexes.get(&slice) == Some(&object.name) {
            self.progress.bytes_done += object.bytes;
            return Ok(());
        }
        let path = store::slice_directory(self.directory, slice);
        make_directory(&path)?;
        let file = path.join("index");
        self.write_file(&file, &[Stretch::whole(object)])?;
        if self.only_behind {
            std::fs::remove_file(&file).map_err(|error| BackupError::file(&file, error))?;
        }
        sync_directory(&path)?;
        self.laid.indexes.insert(slice, object.name.clone());
        Ok(())
    }

    /// Removes segments and indexes that the store has removed since they were laid down.
    fn remove_others(&mut self) -> Result<(), BackupError> {
        let planned = |slice: &u32| self.plan.indexes.iter().any(|one| one.slice == *slice);
        let laid = self.laid.indexes.keys().copied();
        for slice in Vec::from_iter(laid.filter(|one| !planned(one))) {
            let path = store::slice_directory(self.directory, slice);
            if_there(&path, std::fs::remove_dir_all(&path))?;
            self.laid.indexes.remove(&slice);
        }
        let planned = |number: &u64| self.plan.segments.iter().any(|one| one.number == *number);
        let laid = self.laid.segments.keys().copied();
        for number in Vec::from_iter(laid.filter(|one| !planned(one))) {
            let path = self.segment_path(number);
            if_there(&path, std::fs::remove_file(&path))?;
            self.laid.segments.remove(&number);
        }
        Ok(())
    }

    fn segment_path(&self, number: u64) -> PathBuf {
        let directory = self.directory.join("journal");
        directory.join(journal::segment_file(number))
    }

    fn lay_segment(&mut self, copy: &SegmentCopy, is_last: bool) -> Result<(), BackupError> {
        let names = Vec::from_iter(copy.objects.iter().map(|one| one.object.name.clone()));
        let known = self.laid.segments.get(&copy.number);
        let is_laid = known == Some(&names);
        if is_laid && !self.has_erased(copy) {
            let bytes = copy.objects.iter().map(|one| one.object.bytes);
            self.progress.bytes_done += bytes.sum::<u64>();
            return Ok(());
        }
        let path = self.segment_path(copy.number);
        let failed = |error| BackupError::file(&path, error);
        let known = known.cloned().unwrap_or_default();
        let goes_on = names.first().is_some_and(|first| known.contains(first));
        let file = match goes_on {
            true => self.write_on(&path, &copy.objects, &known)?,
            false => self.write_file(&path, &copy.objects)?,
        };
        file.set_len(copy.file_bytes).map_err(failed)?;
        let files = Arc::new(Disk::new(self.directory.join("journal")));
        let reader = match Reader::of_segment(files, copy.number, copy.end.position) {
            // The copy has it as the store had it.
            Err(error) if error.is_damage() && copy.is_damaged => {
                self.damage.push(error.to_string());
                self.laid.segments.insert(copy.number, names);
                return Ok(());
            }
            reader => reader?,
        };
        let segment = reader.segments().pop();
        let Some(segment) = segment.filter(|one| one.begin == copy.begin.tip()) else {
            return Err(copy.wrong("its header is not that of the segment"));
        };
        let erased = self.erase(&reader, &segment, &file);
        erased.map_err(failed)?;
        let cut = self.check(&reader, &segment, copy, is_last)?;
        // A journal goes on behind an end mark in the next segment, which is not there.
        let ends_marked = is_last && copy.is_sealed;
        let cut = cut.or(ends_marked.then_some(copy.end.offset));
        if let Some(offset) = cut {
            file.set_len(offset).map_err(failed)?;
            file.set_len(copy.file_bytes).map_err(failed)?;
        }
        self.sync(&file).map_err(failed)?;
        let is_behind = copy.end.position > self.plan.checkpoint.position + 1;
        if self.only_behind && !is_behind && !is_last {
            std::fs::remove_file(&path).map_err(failed)?;
        }
        // One without its end mark is laid down again as it is, once the next one is there.
        let names = if ends_marked { Vec::new() } else { names };
        self.laid.segments.insert(copy.number, names);
        Ok(())
    }

    /// Whether parts of it are erased that the copy still has.
    fn has_erased(&self, copy: &SegmentCopy) -> bool {
        let records = copy.begin.position..copy.end.position;
        let mut erased = self.plan.to_erase.iter();
        erased.any(|part| records.contains(&part.position)) && !self.only_behind
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
        let mut last = self.laid.last;
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
        // An older segment may be laid down again, when the newest is there.
        let is_newer = |last: &(u64, Timestamp)| self.laid.last.is_none_or(|one| one.0 < last.0);
        self.laid.last = last.filter(is_newer).or(self.laid.last);
        let damage = walked.damage.map(|damage| damage.to_string()).or(wrong);
        match damage {
            // The copy has it as the store had it.
            Some(damage) if copy.is_damaged => self.damage.push(damage),
            Some(damage) => return Err(copy.wrong(&damage)),
            None if cut.is_none() && walked.end.tip != copy.end.tip() => {
                let reason = "its last record is not the one that the manifest names";
                return Err(copy.wrong(reason));
            }
            None => {}
        }
        Ok(cut)
    }

    /// Writes a file anew. The one of before is there until this one is whole.
    fn write_file(&mut self, path: &Path, objects: &[Stretch]) -> Result<File, BackupError> {
        let new = self.directory.join(BEING_WRITTEN);
        let failed = |error| BackupError::file(&new, error);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let mut file = options.mode(0o600).open(&new).map_err(failed)?;
        let mut out = BufWriter::with_capacity(256 << 10, &mut file);
        for one in objects {
            self.write_object(one, &mut out)?;
        }
        out.flush().map_err(failed)?;
        drop(out);
        self.sync(&file).map_err(failed)?;
        std::fs::rename(&new, path).map_err(failed)?;
        Ok(file)
    }

    /// Writes those objects that the file does not have yet.
    fn write_on(
        &mut self,
        path: &Path,
        objects: &[Stretch],
        known: &[String],
    ) -> Result<File, BackupError> {
        let failed = |error| BackupError::file(path, error);
        let opened = OpenOptions::new().read(true).write(true).open(path);
        let mut file = opened.map_err(failed)?;
        for one in objects {
            if known.contains(&one.object.name) {
                self.progress.bytes_done += one.object.bytes;
                continue;
            }
            file.seek(SeekFrom::Start(one.from)).map_err(failed)?;
            let mut out = BufWriter::with_capacity(256 << 10, &mut file);
            self.write_object(one, &mut out)?;
            out.flush().map_err(failed)?;
        }
        Ok(file)
    }

    /// What is only looked at is not made durable.
    fn sync(&self, file: &File) -> io::Result<()> {
        match self.only_behind {
            true => Ok(()),
            false => file.sync_all(),
        }
    }

    fn write_object(&mut self, one: &Stretch, out: &mut dyn Write) -> Result<(), BackupError> {
        (self.tell)(self.progress);
        let object = &one.object;
        self.copy.target.get(&object.name, Some(object), out)?;
        self.progress.bytes_done += object.bytes;
        (self.tell)(self.progress);
        Ok(())
    }
}

impl SegmentCopy {
    fn wrong(&self, reason: &str) -> BackupError {
        let objects = self.objects.iter().map(|one| &one.object);
        BackupError::wrong(objects, reason)
    }
}

/// The result of a removal: what is not there need not be removed.
fn if_there(path: &Path, removed: io::Result<()>) -> Result<(), BackupError> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(BackupError::file(path, error))
        }
        _ => Ok(()),
    }
}

fn make_directory(path: &Path) -> Result<(), BackupError> {
    let mut builder = std::fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(path);
    made.map_err(|error| BackupError::file(path, error))
}

pub(super) fn sync_directory(path: &Path) -> Result<(), BackupError> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(|error| BackupError::file(path, error))
}
