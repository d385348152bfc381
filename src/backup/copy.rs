//! Copying a store to a target: one run brings the copy to where the store is now.
//!
//! A run uploads what the copy lacks, then writes a manifest that names it, and only then deletes what no manifest
//! needs any more. A run that is broken off leaves the manifest of before, or one of its own with the sealed segments
//! that it got through, and the next run goes on from there.
//!
//! | object | copied |
//! |---|---|
//! | a sealed segment | once; again where a part in it was erased |
//! | the open segment | as pieces; small ones are joined, and its whole takes their place when it is sealed |
//! | the checkpoint file | once an hour |
//! | the index of a sealed slice | once |
//!
//! What the store has removed stays in the copy for `keep`, so that any moment of that time can be restored.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::BackupError;
use super::manifest::{
    self, CheckpointCopy, ErasedPart, IndexCopy, Manifest, OpenSegment, Piece, Place, SealedList,
    SealedSegment,
};
use super::target::{Object, Target, TargetError};
use crate::clock::Timestamp;
use crate::journal::{JournalError, PartName, Reader, Segment, SegmentPlace, Tip, Walked};
use crate::store;

/// How old a checkpoint may be before another is copied.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(3600);
/// After so many bytes of sealed segments a manifest is written, from which a run that is broken off goes on.
const NOTED_EVERY_BYTES: u64 = 512 << 20;
/// How often a run looks for parts that were erased while it read.
const PASSES_MAX: usize = 4;

/// The files of a store that are copied.
pub struct Source {
    pub directory: PathBuf,
    pub journal: Reader,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    pub bytes_done: u64,
    /// As far as it is known by now.
    pub bytes_in_all: u64,
}

/// The result of a run.
#[derive(Clone, Debug, Default)]
pub struct Copied {
    /// The last record that is in the copy, and its time.
    pub position: u64,
    pub time_ms: u64,
    pub bytes: u64,
    pub objects: u64,
    /// Erased parts that are still in the copy, for the next run.
    pub still_to_erase: usize,
    /// Damage of the store that was met. The copy has the bytes as they are.
    pub damage: Vec<String>,
}

/// Copies one store to one target, run after run.
pub struct Copier {
    pub(super) target: Target,
    pub(super) keep: Duration,
    pub(super) manifest: Manifest,
    pub(super) list: SealedList,
    pub(super) list_has_changed: bool,
    /// Names of the newest manifest and older ones: the next one takes their place.
    pub(super) older: Vec<String>,
    /// The store is the one that the manifest is of.
    is_checked: bool,
    pub(super) orphans_deleted: bool,
    /// Somebody reads the copy: what it does not need any more is deleted later.
    pub(super) is_read: bool,
    writer: u64,
    /// The manifest in memory is the one that was written last.
    is_as_written: bool,
    /// Objects that were uploaded since.
    unnoted: Vec<String>,
    run: Run,
}

/// The state of one run.
#[derive(Default)]
struct Run {
    copied: Copied,
    /// The position behind the last record when the run began.
    began_at: u64,
    /// Bytes since the last manifest.
    unnoted_bytes: u64,
    /// Segments that this run has uploaded.
    uploaded: HashSet<u64>,
    progress: Progress,
}

impl Copier {
    /// `target` is the stream's folder. One at which two processes that copy the same store would not notice each other
    /// is refused.
    pub fn open(target: Target, stream: u64, keep: Duration) -> Result<Copier, BackupError> {
        let copier = Copier::read(target, stream, keep)?;
        copier.target.refuse_overwriting()?;
        Ok(copier)
    }

    fn read(target: Target, stream: u64, keep: Duration) -> Result<Copier, BackupError> {
        let (manifest, older) = match Manifest::newest(&target)? {
            Some(newest) => newest,
            None => (Manifest::first(stream), Vec::new()),
        };
        if manifest.stream != stream {
            return Err(BackupError::Unusable(
                "its folder has the copy of another store".to_owned(),
            ));
        }
        Ok(Copier {
            list: manifest.read_list(&target)?,
            target,
            keep,
            manifest,
            list_has_changed: false,
            older,
            is_checked: false,
            orphans_deleted: false,
            is_read: false,
            writer: rand::random(),
            is_as_written: true,
            unnoted: Vec::new(),
            run: Run::default(),
        })
    }

    /// Reads the manifest anew, after a run that was broken off. What that has uploaded is of no use.
    fn begin_anew(&mut self) -> Result<(), BackupError> {
        let unnoted = std::mem::take(&mut self.unnoted);
        let read = Copier::read(self.target.clone(), self.manifest.stream, self.keep);
        let read = match read {
            Ok(read) => read,
            Err(error) => {
                self.unnoted = unnoted;
                return Err(error);
            }
        };
        // The number of this one may not have been written.
        if read.manifest.number < self.manifest.number.saturating_sub(1) {
            self.unnoted = unnoted;
            return Err(BackupError::Gone);
        }
        let (orphans_deleted, is_read) = (self.orphans_deleted, self.is_read);
        *self = Copier {
            orphans_deleted,
            is_read,
            ..read
        };
        let named: HashSet<&String> = self
            .manifest
            .objects(&self.list)
            .map(|one| &one.name)
            .collect();
        let lost = unnoted.into_iter().filter(|name| !named.contains(name));
        let lost = Vec::from_iter(lost);
        self.manifest.garbage.extend(lost);
        Ok(())
    }

    /// Refuses a target of which the newest manifest is not the one that was written last: whatever was added to it
    /// would be of no use.
    fn check_newest(&self) -> Result<(), BackupError> {
        let newest = Manifest::newest_number(&self.target)?.unwrap_or(0);
        match newest.cmp(&self.manifest.number) {
            Ordering::Less => Err(BackupError::Gone),
            Ordering::Equal => Ok(()),
            Ordering::Greater => Err(BackupError::OtherWriter),
        }
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Whether there is something to copy, to erase or to delete. A store of which it is not known yet whether it is the
    /// one that was copied is behind: the copy may go further than it does.
    pub fn is_behind(&self, journal: &Reader) -> bool {
        let Manifest {
            position,
            checkpoints,
            to_erase,
            garbage,
            ..
        } = &self.manifest;
        !self.is_checked
            || position + 1 < journal.next_position()
            || checkpoints.is_empty()
            || !to_erase.is_empty()
            || !garbage.is_empty() && !self.is_read
    }

    /// Brings the copy to where the store is now.
    pub fn run(
        &mut self,
        source: &Source,
        now: Timestamp,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<Copied, BackupError> {
        match std::mem::replace(&mut self.is_as_written, false) {
            true => self.check_newest()?,
            false => self.begin_anew()?,
        }
        self.check_course(&source.journal)?;
        if let Some(at) = self.manifest.taken_over_at {
            return Err(BackupError::TakenOver { at: Timestamp(at) });
        }
        if source.journal.next_position() > self.manifest.position + 1 {
            // It goes on after all.
            self.manifest.handed_over_at = None;
        }
        self.run = Run {
            began_at: source.journal.next_position(),
            ..Run::default()
        };
        let checkpoint = self.copy_checkpoint(source, now)?;
        let mut erased_meanwhile = Vec::new();
        for _ in 0..PASSES_MAX {
            self.copy_segments(source, now, tell)?;
            self.erase_parts(source)?;
            erased_meanwhile = self.erased_meanwhile(&source.journal)?;
            if erased_meanwhile.is_empty() {
                break;
            }
        }
        // The records that erase these are not in the copy yet. A restore, and the next run, write over them.
        self.manifest.to_erase.extend(erased_meanwhile);
        self.take_in_checkpoint(checkpoint);
        self.copy_indexes(source)?;
        self.note_gone(source, now);
        self.drop_old(now);
        self.write(now)?;
        self.delete_orphans(now);
        self.is_as_written = true;
        let mut copied = std::mem::take(&mut self.run).copied;
        copied.position = self.manifest.position;
        copied.time_ms = self.manifest.time_ms;
        copied.still_to_erase = self.manifest.to_erase.len();
        Ok(copied)
    }

    /// Tells whoever follows the copy that it has all of the store, which ends here. It can be called again with the
    /// same time after an error, when it is not known whether that was told.
    pub fn hand_over(&mut self, now: Timestamp) -> Result<(), BackupError> {
        if !std::mem::replace(&mut self.is_as_written, false) {
            self.begin_anew()?;
        }
        // Whoever followed may have taken it over by now.
        if self.manifest.handed_over_at != Some(now.0) {
            self.manifest.handed_over_at = Some(now.0);
            self.write(now)?;
        }
        self.is_as_written = true;
        Ok(())
    }

    /// Refuses a store that is not the one that was copied: one that was brought back from an older copy and went
    /// on has other records at the same positions.
    fn check_course(&mut self, journal: &Reader) -> Result<(), BackupError> {
        let Manifest {
            position, chain, ..
        } = self.manifest;
        if self.is_checked || position == 0 {
            self.is_checked = true;
            return Ok(());
        }
        if journal.next_position() <= position {
            return Err(BackupError::OtherCourse);
        }
        let next = Tip {
            position: position + 1,
            chain,
        };
        match journal.records_behind(next) {
            Ok(_) => {}
            Err(JournalError::OtherCopy { .. }) => {
                return Err(BackupError::OtherCourse);
            }
            // The target was away for so long that the store has removed the records meanwhile.
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error.into()),
        }
        self.is_checked = true;
        Ok(())
    }

    /// Copies the checkpoint file where the last copy is old. It belongs to the copy once the journal is copied, too.
    fn copy_checkpoint(
        &mut self,
        source: &Source,
        now: Timestamp,
    ) -> Result<Option<(u64, Object)>, BackupError> {
        let newest = self.manifest.checkpoints.last();
        let age = newest.map(|newest| now.since(Timestamp(newest.time_ms)));
        if age.is_some_and(|age| age < CHECKPOINT_EVERY) {
            return Ok(None);
        }
        let Some(position) = store::checkpoint_position(&source.directory, self.manifest.stream)?
        else {
            return Ok(None);
        };
        if newest.is_some_and(|newest| newest.position >= position) {
            return Ok(None);
        }
        let path = source.directory.join(store::CHECKPOINT_FILE);
        let file = File::open(&path).map_err(|error| BackupError::file(&path, error))?;
        let name = object_name("checkpoint", &[position]);
        let object = self.upload(&name, &mut BufReader::new(file))?;
        Ok(Some((position, object)))
    }

    /// Copies the segments, or as much of them as the copy lacks.
    fn copy_segments(
        &mut self,
        source: &Source,
        now: Timestamp,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<(), BackupError> {
        let segments = source.journal.segments();
        let missing = segments
            .iter()
            .filter(|one| self.list.segment(one.number).is_none());
        let missing = Vec::from_iter(missing.cloned());
        self.run.progress.bytes_in_all =
            self.run.progress.bytes_done + missing.iter().map(|one| one.bytes).sum::<u64>();
        for segment in &missing {
            tell(self.run.progress);
            self.copy_segment(source, segment)?;
            self.run.progress.bytes_done += segment.bytes;
            if self.run.unnoted_bytes >= NOTED_EVERY_BYTES {
                self.write(now)?;
            }
        }
        tell(self.run.progress);
        Ok(())
    }

    fn copy_segment(&mut self, source: &Source, segment: &Arc<Segment>) -> Result<(), BackupError> {
        let open = self.manifest.open.as_ref();
        let from = open.filter(|open| open.number == segment.number);
        let from = from.map(|open| SegmentPlace::from(open.end));
        let began_at = self.run.began_at;
        // Parts that were erased before the run began are overwritten in all that it reads.
        let mut lately: Vec<PartName> = Vec::new();
        let is_known = |position| self.is_copied_before(position);
        let walked = source.journal.walk_segment(segment, from, |record| {
            let is_late = record.head.position + 1 >= began_at;
            let names = record.erasures.iter();
            lately.extend(names.filter(|name| is_late || is_known(name.position)));
        });
        let walked = match walked {
            // Retention took it.
            Err(JournalError::Removed { .. }) => return Ok(()),
            walked => walked?,
        };
        self.manifest
            .to_erase
            .extend(lately.into_iter().map(ErasedPart::from));
        self.manifest.time_ms = self.manifest.time_ms.max(walked.time_ms);
        if let Some(damage) = &walked.damage {
            self.run.copied.damage.push(damage.to_string());
        }
        let copied = match walked.is_sealed {
            true => self.copy_sealed(source, segment, &walked),
            false => self.copy_open(source, segment, &walked, from),
        };
        match copied {
            Err(BackupError::Journal(JournalError::Removed { .. })) => return Ok(()),
            copied => copied?,
        }
        if walked.end.tip.position > self.manifest.position {
            self.manifest.position = walked.end.tip.position - 1;
            self.manifest.chain = walked.end.tip.chain;
        }
        self.run.uploaded.insert(segment.number);
        Ok(())
    }

    /// Whether an object of an earlier run has the record.
    fn is_copied_before(&self, position: u64) -> bool {
        let sealed = self.list.with_record(position).map(|one| one.number);
        let open = self.manifest.open.as_ref();
        let open = open.filter(|open| (open.begin.position..open.end.position).contains(&position));
        let number = sealed.or(open.map(|open| open.number));
        number.is_some_and(|number| !self.run.uploaded.contains(&number))
    }

    fn copy_sealed(
        &mut self,
        source: &Source,
        segment: &Arc<Segment>,
        walked: &Walked,
    ) -> Result<(), BackupError> {
        let end = walked.copied_to(segment);
        let name = object_name("segment", &[segment.number]);
        let mut bytes = source.journal.bytes_of(segment, 0..end, BTreeMap::new());
        let object = self.upload(&name, &mut bytes)?;
        self.refuse_if_removed(source, segment, &object)?;
        let replaced = self.list.put(SealedSegment {
            number: segment.number,
            file_bytes: segment.bytes,
            begin: beginning(segment),
            end: walked.end.into(),
            time_ms: self.manifest.time_ms,
            is_damaged: walked.damage.is_some(),
            gone_at: None,
            object,
        });
        self.discard(replaced);
        self.list_has_changed = true;
        if self
            .manifest
            .open
            .as_ref()
            .is_some_and(|open| open.number == segment.number)
        {
            let open = self.manifest.open.take();
            let pieces = open.into_iter().flat_map(|open| open.pieces);
            self.discard(pieces.map(|piece| piece.object));
        }
        Ok(())
    }

    /// Adds a piece that goes to the end. It takes the place of those before it that are no longer than it, so that a
    /// segment has few pieces however slowly it fills.
    fn copy_open(
        &mut self,
        source: &Source,
        segment: &Arc<Segment>,
        walked: &Walked,
        from: Option<SegmentPlace>,
    ) -> Result<(), BackupError> {
        let to = walked.copied_to(segment);
        let mut from = from.map_or(0, |from| from.offset);
        if from == to {
            return Ok(());
        }
        let mut pieces = Vec::new();
        if let Some(open) = self.manifest.open.take() {
            match open.number == segment.number {
                true => pieces = open.pieces,
                // The store has removed that segment before its whole was copied.
                false => self.discard(open.pieces.into_iter().map(|piece| piece.object)),
            }
        }
        while let Some(before) = pieces
            .last()
            .filter(|before| before.to - before.from <= to - from)
        {
            from = before.from;
            self.discard(pieces.pop().map(|piece| piece.object));
        }
        let name = object_name("piece", &[segment.number, from]);
        let mut bytes = source.journal.bytes_of(segment, from..to, BTreeMap::new());
        let object = self.upload(&name, &mut bytes)?;
        pieces.push(Piece { from, to, object });
        self.manifest.open = Some(OpenSegment {
            number: segment.number,
            file_bytes: segment.bytes,
            begin: beginning(segment),
            end: walked.end.into(),
            pieces,
        });
        Ok(())
    }

    /// Parts in the copy that the journal erases behind the copy's end: some of their bytes may have been read half
    /// overwritten.
    fn erased_meanwhile(&self, journal: &Reader) -> Result<Vec<ErasedPart>, BackupError> {
        let Some(open) = &self.manifest.open else {
            return Ok(Vec::new());
        };
        let mut erased = Vec::new();
        for segment in journal.segments() {
            let from = match segment.number.cmp(&open.number) {
                Ordering::Less => continue,
                Ordering::Equal => Some(open.end.into()),
                Ordering::Greater => None,
            };
            erased.extend(journal.walk_segment(&segment, from, |_| {})?.erasures);
        }
        let is_copied = |name: &PartName| name.position <= self.manifest.position;
        let erased = erased.into_iter().filter(is_copied);
        Ok(erased.map(ErasedPart::from).collect())
    }

    /// Takes in a checkpoint that was copied before the journal, where the copy has all records behind it.
    fn take_in_checkpoint(&mut self, checkpoint: Option<(u64, Object)>) {
        let Some((position, object)) = checkpoint else {
            return;
        };
        let Manifest {
            position: last,
            open,
            time_ms,
            ..
        } = &self.manifest;
        let sealed_end = open.as_ref().map_or(last + 1, |open| open.begin.position);
        let has_all = position + 1 >= sealed_end || self.list.has_all(position + 1, sealed_end);
        match has_all && position <= *last {
            true => {
                let time_ms = *time_ms;
                self.manifest.checkpoints.push(CheckpointCopy {
                    position,
                    time_ms,
                    object,
                });
            }
            // The store has removed some of them since: the next file is behind those.
            false => self.discard(Some(object)),
        }
    }

    fn copy_indexes(&mut self, source: &Source) -> Result<(), BackupError> {
        let slices = source.directory.join("slices");
        let entries =
            std::fs::read_dir(&slices).map_err(|error| BackupError::file(&slices, error))?;
        for entry in entries {
            let entry = entry.map_err(|error| BackupError::file(&slices, error))?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.parse::<u32>().ok());
            let Some(slice) = number else { continue };
            if self.list.indexes.iter().any(|one| one.slice == slice) {
                continue;
            }
            let file = match File::open(entry.path().join("index")) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                file => file.map_err(|error| BackupError::file(&entry.path(), error))?,
            };
            let name = object_name("index", &[slice.into()]);
            let object = self.upload(&name, &mut BufReader::new(file))?;
            self.list.indexes.push(IndexCopy {
                slice,
                gone_at: None,
                object,
            });
            self.list_has_changed = true;
        }
        Ok(())
    }

    /// Writes the manifest, from which on the copy is this, and deletes what it does not need any more.
    fn write(&mut self, now: Timestamp) -> Result<(), BackupError> {
        if std::mem::take(&mut self.list_has_changed) {
            let list = self.list.to_bytes();
            let object = self.upload(&object_name("sealed", &[]), &mut &list[..])?;
            let replaced = self.manifest.list.replace(object);
            self.discard(replaced);
        }
        let manifest = &mut self.manifest;
        manifest.number += 1;
        manifest.writer = self.writer;
        manifest.written_at = now.0;
        manifest.postrider = env!("CARGO_PKG_VERSION").to_owned();
        let name = manifest.write(&self.target)?;
        self.unnoted.clear();
        self.run.unnoted_bytes = 0;
        // The one before stays, so that a process that has read it cannot write this one's number again.
        let mut old = std::mem::take(&mut self.older);
        let before = manifest::name_of(self.manifest.number - 1);
        old.retain(|one| *one != before);
        self.older.extend([before, name]);
        if !self.is_read {
            old.extend_from_slice(&self.manifest.garbage);
        }
        match self.target.delete(&old) {
            Ok(()) if self.is_read => {}
            Ok(()) => self.manifest.garbage.clear(),
            // The next run deletes it.
            Err(error) => {
                log::warn!(
                    "backup: objects that are not needed any more were not deleted: {error}"
                );
                self.older.extend(old);
            }
        }
        Ok(())
    }

    pub(super) fn upload(
        &mut self,
        name: &str,
        content: &mut dyn Read,
    ) -> Result<Object, BackupError> {
        self.unnoted.push(name.to_owned());
        let object = self.target.put(name, content).map_err(as_read)?;
        self.run.copied.bytes += object.bytes;
        self.run.copied.objects += 1;
        self.run.unnoted_bytes += object.bytes;
        Ok(object)
    }

    pub(super) fn discard(&mut self, objects: impl IntoIterator<Item = Object>) {
        let names = objects.into_iter().map(|object| object.name);
        self.manifest.garbage.extend(names);
    }

    /// A segment's file that was removed while it was read may have been another one's by then.
    fn refuse_if_removed(
        &mut self,
        source: &Source,
        segment: &Segment,
        object: &Object,
    ) -> Result<(), BackupError> {
        if source.journal.is_kept(segment)? {
            return Ok(());
        }
        self.discard(Some(object.clone()));
        let segment = segment.number;
        Err(JournalError::Removed { segment }.into())
    }
}

/// An error of the journal, which reading it met on the way to the target.
fn as_read(error: TargetError) -> BackupError {
    match error {
        TargetError::Io(error) => match error.downcast::<JournalError>() {
            Ok(error) => error.into(),
            Err(error) => TargetError::Io(error).into(),
        },
        error => error.into(),
    }
}

fn beginning(segment: &Segment) -> Place {
    let (offset, tip) = (0, segment.begin);
    SegmentPlace { offset, tip }.into()
}

/// A name that no object had before.
pub(super) fn object_name(kind: &str, numbers: &[u64]) -> String {
    let mut name = kind.to_owned();
    for number in numbers.iter().chain([&rand::random()]) {
        name.push_str(&format!("-{number:016x}"));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_never_the_same_twice() {
        let name = || object_name("piece", &[3, 4096]);
        assert!(name().starts_with("piece-0000000000000003-0000000000001000-"));
        assert_ne!(name(), name());
    }
}
