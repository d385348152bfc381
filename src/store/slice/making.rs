//! Making the index of a slice from the journal.

use super::Result;
use crate::journal::{Next, PartPlace, Reader};
use crate::store::effects;
use crate::store::gap::{Gap, Gaps};
use crate::store::index::{OpenIndex, Place};
use crate::store::layout::Stretch;

/// Makes the index of a stretch from the journal's records that can be read.
pub fn index_of(
    stretch: Stretch,
    reader: &Reader,
    mut gaps: Gaps,
) -> Result<(OpenIndex, Vec<Gap>)> {
    let index = OpenIndex::default();
    let mut records = reader.through(stretch.from)?;
    // What comes behind it may be gone.
    while stretch.to.is_none_or(|to| records.position() < to)
        && let Some(next) = records.next()?
    {
        let record = match next {
            Next::Record(record) => record,
            Next::Lost { why, .. } => {
                gaps.note_lost(why);
                continue;
            }
        };
        let effects = effects::decode(&record.effects)?;
        let keys = effects.entries.iter().flat_map(|entry| &entry.keys);
        keys.for_each(|key| gaps.note_key(key));
        gaps.record_ends();
        let places = places(record.place(0), stretch.segment, effects.entries);
        index.add(places, effects.counted);
    }
    Ok((index, gaps.done()))
}

/// The keys of entries with their places, of a record whose first part stands at `first`.
pub fn places(
    first: PartPlace,
    segment: u64,
    entries: Vec<effects::Entry>,
) -> impl Iterator<Item = (Vec<u8>, Place)> {
    let mut part = first.part;
    entries.into_iter().flat_map(move |entry| {
        let place = Place {
            segment: (first.segment - segment) as u16,
            offset: first.offset,
            part: part as u16,
        };
        part += entry.parts;
        entry.keys.into_iter().map(move |key| (key, place))
    })
}
