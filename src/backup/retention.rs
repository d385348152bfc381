//! What the copy lets go of: checkpoints, segments and indexes that no moment needs that can still be asked for, and what
//! broken runs have left.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use super::copy::{Copier, Source};
use super::manifest::{CheckpointCopy, IndexCopy, SealedSegment};
use super::target::Listed;
use super::verification;
use crate::clock::Timestamp;
use crate::{journal, store};

/// Checkpoints of this age are thinned to one a day: the journal behind one leads to any later moment.
const HOURLY_FOR: Duration = Duration::from_secs(24 * 3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// An object that no manifest names is deleted at this age: another process may have uploaded it just now.
const ORPHAN_AGE: Duration = Duration::from_secs(24 * 3600);

impl Copier {
    /// Notes which segments and indexes the store does not have any more.
    pub(super) fn note_gone(&mut self, source: &Source, now: Timestamp) {
        let directory = source.directory.join("journal");
        let kept: HashSet<u64> = source
            .journal
            .segments()
            .iter()
            .map(|one| one.number)
            .collect();
        let is_gone = |path: PathBuf| !path.exists();
        for segment in &mut self.list.segments {
            let name = journal::segment_file(segment.number);
            if segment.gone_at.is_none()
                && !kept.contains(&segment.number)
                && is_gone(directory.join(name))
            {
                segment.gone_at = Some(now.0);
                self.list_has_changed = true;
            }
        }
        for index in &mut self.list.indexes {
            let path = store::slice_directory(&source.directory, index.slice);
            if index.gone_at.is_none() && is_gone(path) {
                index.gone_at = Some(now.0);
                self.list_has_changed = true;
            }
        }
    }

    /// Lets go of what no moment needs that can still be asked for.
    pub(super) fn drop_old(&mut self, now: Timestamp) {
        let horizon = now.0.saturating_sub(self.keep.as_millis() as u64);
        let kept = kept_checkpoints(&self.manifest.checkpoints, horizon, now);
        let all = std::mem::take(&mut self.manifest.checkpoints).into_iter();
        let (kept, dropped): (Vec<_>, Vec<_>) = all.zip(kept).partition(|(_, kept)| *kept);
        self.discard(dropped.into_iter().map(|(one, _)| one.object));
        self.manifest.checkpoints = kept.into_iter().map(|(one, _)| one).collect();
        let Some(oldest) = self
            .manifest
            .checkpoints
            .first()
            .map(|oldest| oldest.position)
        else {
            return;
        };
        let is_old = |gone_at: Option<u64>| gone_at.is_some_and(|gone_at| gone_at <= horizon);
        let segments = std::mem::take(&mut self.list.segments).into_iter();
        let (dropped, kept) =
            segments.partition(|one| is_old(one.gone_at) && one.end.position <= oldest + 1);
        self.list.segments = kept;
        let indexes = std::mem::take(&mut self.list.indexes).into_iter();
        let (old, kept) = indexes.partition(|one| is_old(one.gone_at));
        self.list.indexes = kept;
        let (dropped, old): (Vec<SealedSegment>, Vec<IndexCopy>) = (dropped, old);
        self.list_has_changed |= !dropped.is_empty() || !old.is_empty();
        self.discard(dropped.into_iter().map(|one| one.object));
        self.discard(old.into_iter().map(|one| one.object));
    }

    /// Deletes what no manifest names, left by runs that were broken off; once for each process.
    pub(super) fn delete_orphans(&mut self, now: Timestamp) {
        if self.is_read || std::mem::replace(&mut self.orphans_deleted, true) {
            return;
        }
        let named: HashSet<&str> = self
            .manifest
            .objects(&self.list)
            .map(|one| one.name.as_str())
            .collect();
        let is_orphan = |one: &&Listed| {
            let age = now.since(one.modified_at);
            !named.contains(one.name.as_str())
                && !self.older.contains(&one.name)
                && !verification::is_name(&one.name)
                && age > ORPHAN_AGE
        };
        let deleted = self.target.list("").and_then(|all| {
            let orphans: Vec<String> = all
                .iter()
                .filter(is_orphan)
                .map(|one| one.name.clone())
                .collect();
            self.target.delete(&orphans)
        });
        if let Err(error) = deleted {
            log::warn!("backup: objects that nothing names were not deleted: {error}");
        }
    }
}

/// Which checkpoints are kept: the newest from before the horizon, from which its moments are restored, and behind it
/// all of the last day and the first of each day before.
fn kept_checkpoints(all: &[CheckpointCopy], horizon: u64, now: Timestamp) -> Vec<bool> {
    let before = all.partition_point(|one| one.time_ms <= horizon);
    let first = before.saturating_sub(1);
    let day = |one: &CheckpointCopy| one.time_ms / DAY.as_millis() as u64;
    let is_recent = |one: &CheckpointCopy| now.since(Timestamp(one.time_ms)) <= HOURLY_FOR;
    let kept = all.iter().enumerate().map(|(at, one)| {
        let is_last = at + 1 == all.len();
        let is_first_of_day = || day(&all[at - 1]) != day(one);
        at == first || at > first && (is_last || is_recent(one) || is_first_of_day())
    });
    kept.collect()
}

#[cfg(test)]
mod tests {
    use super::super::target::Object;
    use super::*;

    const HOUR: u64 = 3_600_000;

    /// Checkpoints that were copied so many hours ago, oldest first.
    fn copied(hours_ago: impl IntoIterator<Item = u64>, now: u64) -> Vec<CheckpointCopy> {
        let copies = hours_ago.into_iter().map(|hours| CheckpointCopy {
            position: 10_000 - hours,
            time_ms: now - hours * HOUR,
            object: Object {
                name: format!("{hours}"),
                bytes: 1,
                sha256: [0; 32],
            },
        });
        copies.collect()
    }

    fn kept(hours_ago: &[u64], keep_hours: u64) -> Vec<u64> {
        let now = 1_000 * 24 * HOUR;
        let all = copied(hours_ago.iter().copied(), now);
        let kept = kept_checkpoints(&all, now - keep_hours * HOUR, Timestamp(now));
        let kept = hours_ago.iter().zip(kept).filter(|(_, kept)| *kept);
        kept.map(|(hours, _)| *hours).collect()
    }

    #[test]
    fn checkpoints_are_kept_as_long_as_a_moment_needs_them() {
        // The newest from before the horizon leads to the moments right behind it.
        assert_eq!(kept(&[9, 8, 5, 3, 1], 7), [8, 5, 3, 1]);
        assert_eq!(kept(&[9, 8, 5, 3, 1], 0), [1]);
        assert_eq!(kept(&[9], 7), [9]);
        assert!(kept(&[], 7).is_empty());
        // One a day is left of those that are older than a day.
        let hours: Vec<u64> = (0..=100).rev().collect();
        let kept = kept(&hours, 96);
        assert_eq!(kept[..4], [96, 72, 48, 24]);
        assert_eq!(kept[4..], Vec::from_iter((0..24).rev()));
    }
}
