//! The format of a store, told without opening its databases: opening one writes to its files.
//!
//! Each commit has the record of the store in it, with the format, and from one format to the next there is
//! no way back. So the journal tells, and only its newest segment is read, where something was committed
//! since that was begun.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::layout::{self, FORMAT, Meta};
use super::{OpenError, StoreSettings, effects, replay};
use crate::journal::{Disk, Next, Reader};

/// Refuses a store of an older format that may not be taken over.
pub fn refuse_older(settings: &StoreSettings) -> Result<(), OpenError> {
    let path = &settings.path;
    let is_older = match by_journal(&path.join("journal")) {
        Some(format) => format < FORMAT,
        None => has_databases_alone(path),
    };
    match is_older && !settings.migrate {
        true => Err(OpenError::Older { path: path.clone() }),
        false => Ok(()),
    }
}

/// Whether history is in databases, and there is no journal, which all that this version writes is in.
fn has_databases_alone(path: &Path) -> bool {
    let slices = std::fs::read_dir(path.join("slices"));
    let mut slices = slices.into_iter().flatten().flatten();
    let has_segments = replay::has_segments(&path.join("journal")).unwrap_or(false);
    !has_segments && slices.any(|slice| slice.path().join("db").exists())
}

/// The format by the last commit in the journal that can be read; none where there is no journal yet, or
/// none that tells.
pub(super) fn by_journal(path: &Path) -> Option<u32> {
    let reader = Reader::at_rest(Arc::new(Disk::new(path.to_owned()))).ok()?;
    let mut end = u64::MAX;
    for segment in reader.segments().iter().rev() {
        let begin = segment.begin.position;
        match in_records(&reader, begin..end) {
            Some(format) => return Some(format),
            None => end = begin,
        }
    }
    None
}

/// The format by these records, whatever is damaged among them.
fn in_records(reader: &Reader, positions: Range<u64>) -> Option<u32> {
    let mut records = reader.through(positions.start).ok()?;
    let mut format = None;
    while format.is_none_or(|format| format < FORMAT)
        && records.position() < positions.end
        && let Ok(Some(next)) = records.next()
    {
        let Next::Record(record) = next else {
            continue;
        };
        let effects = effects::decode(&record.effects).ok();
        let live = effects.map(|effects| effects.live.into_entries());
        // It is deleted and put: the later counts.
        let meta = live
            .into_iter()
            .flatten()
            .rfind(|(key, _)| *key == [layout::META]);
        let meta = meta.and_then(|(key, value)| layout::decode::<Meta>(&key, &value?).ok());
        format = meta.map(|(meta, _)| meta.format).or(format);
    }
    format
}
