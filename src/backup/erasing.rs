//! Erasing in the copy what was erased in the store: objects that hold erased parts are written again without them.
//!
//! A segment is read from the store, or from the copy where the store has removed it, and the parts are written over on
//! the way. One run rewrites a bounded amount; the manifest keeps what is left, and a restore erases it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::BackupError;
use super::copy::{Copier, Source, object_name};
use super::manifest::{ErasedPart, Piece, SealedSegment};
use super::target::Target;
use crate::journal::{self, Disk, PartName, Reader};

/// The most that a run rewrites, but for one segment at least.
const REWRITTEN_BYTES_MAX: u64 = 512 << 20;
/// The most that is left for later runs: the manifest names each part.
const PENDING_MAX: usize = 50_000;
/// The directory, beside the journal, for a segment that only the copy has.
const FETCHED: &str = "backup.fetched";

impl Copier {
    pub(super) fn erase_parts(&mut self, source: &Source) -> Result<(), BackupError> {
        let mut rewritten = 0;
        for (number, parts) in self.parts_by_segment() {
            if rewritten >= REWRITTEN_BYTES_MAX && self.manifest.to_erase.len() <= PENDING_MAX {
                break;
            }
            let names = Vec::from_iter(parts.iter().map(|part| PartName::from(*part)));
            let erased = match self.list.segment(number).cloned() {
                Some(sealed) => Some(self.erase_in_sealed(source, &sealed, &names)?),
                None => self.erase_in_open(source, &names)?,
            };
            if let Some(bytes) = erased {
                rewritten += bytes;
                self.manifest.to_erase.retain(|part| !parts.contains(part));
            }
        }
        Ok(())
    }

    /// The parts to erase, by the segments that hold them. Those in segments that the copy does not have are forgotten.
    fn parts_by_segment(&mut self) -> BTreeMap<u64, BTreeSet<ErasedPart>> {
        let mut by_segment: BTreeMap<u64, BTreeSet<ErasedPart>> = BTreeMap::new();
        let open = self.manifest.open.as_ref();
        let open = open.map(|open| (open.number, open.begin.position..open.end.position));
        let list = &self.list;
        self.manifest.to_erase.retain(|part| {
            let sealed = list.with_record(part.position).map(|one| one.number);
            let open = open
                .as_ref()
                .filter(|(_, positions)| positions.contains(&part.position));
            let number = sealed.or(open.map(|(number, _)| *number));
            if let Some(number) = number {
                by_segment.entry(number).or_default().insert(*part);
            }
            number.is_some()
        });
        by_segment
    }

    fn erase_in_sealed(
        &mut self,
        source: &Source,
        sealed: &SealedSegment,
        names: &[PartName],
    ) -> Result<u64, BackupError> {
        let local = source.journal.segments();
        let is_local = local.iter().any(|one| one.number == sealed.number);
        let fetched = match is_local {
            true => None,
            false => Some(Fetched::from(&self.target, &source.directory, sealed)?),
        };
        let journal = fetched
            .as_ref()
            .map_or(&source.journal, |fetched| &fetched.journal);
        let Some(segment) = journal
            .segments()
            .into_iter()
            .find(|one| one.number == sealed.number)
        else {
            return Err(BackupError::Unusable(format!(
                "{} has no header that can be read",
                sealed.object.name
            )));
        };
        let mut stretches = journal.stretches_of(names)?;
        let erased = stretches.remove(&sealed.number).unwrap_or_default();
        let mut bytes = journal.bytes_of(&segment, 0..sealed.object.bytes, erased);
        let name = object_name("segment", &[sealed.number]);
        let object = self.upload(&name, &mut bytes)?;
        let rewritten = object.bytes;
        let replaced = self.list.put(SealedSegment {
            object,
            ..sealed.clone()
        });
        self.discard(replaced);
        self.list_has_changed = true;
        Ok(rewritten)
    }

    /// None where the store has removed the segment, whose pieces the next run discards.
    fn erase_in_open(
        &mut self,
        source: &Source,
        names: &[PartName],
    ) -> Result<Option<u64>, BackupError> {
        let Some(mut open) = self.manifest.open.take() else {
            return Ok(None);
        };
        let local = source
            .journal
            .segments()
            .into_iter()
            .find(|one| one.number == open.number);
        let Some(segment) = local else {
            self.manifest.open = Some(open);
            return Ok(None);
        };
        let mut stretches = source.journal.stretches_of(names)?;
        let erased = stretches.remove(&open.number).unwrap_or_default();
        let (from, to) = (0, open.pieces.last().map_or(0, |last| last.to));
        let mut bytes = source.journal.bytes_of(&segment, from..to, erased);
        let object = self.upload(&object_name("piece", &[open.number, from]), &mut bytes)?;
        let replaced = std::mem::replace(&mut open.pieces, vec![Piece { from, to, object }]);
        self.discard(replaced.into_iter().map(|piece| piece.object));
        self.manifest.open = Some(open);
        Ok(Some(to))
    }
}

/// A segment that was brought back from the copy, for as long as this lives.
struct Fetched {
    _directory: Directory,
    journal: Reader,
}

struct Directory(std::path::PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Fetched {
    fn from(target: &Target, store: &Path, sealed: &SealedSegment) -> Result<Fetched, BackupError> {
        let path = store.join(FETCHED);
        let failed = |error| BackupError::file(&path, error);
        // Of a process that ended in between.
        let directory = Directory(path.clone());
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).map_err(failed)?;
        let mut file =
            File::create_new(path.join(journal::segment_file(sealed.number))).map_err(failed)?;
        target.get(&sealed.object.name, Some(&sealed.object), &mut file)?;
        file.set_len(sealed.file_bytes).map_err(failed)?;
        Ok(Fetched {
            journal: Reader::beside(Arc::new(Disk::new(path.clone())))?,
            _directory: directory,
        })
    }
}
