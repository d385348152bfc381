//! Erasing: overwriting the bytes of parts in place.
//!
//! The record that names the erased parts is durable before the first byte is overwritten, and the
//! overwriting is durable before the next record is appended. So only the last record's erasures can
//! be unfinished, and a start does those again. Damage does not keep it from starting: it is told, and what can
//! be found in it is overwritten.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::error::{JournalError, Result, told};
use super::files::{DataFile, Directory, write_all};
use super::reader::{Extent, Extents, Shared, row_at};
use super::record::{PartName, erased};
use super::segment::Segment;
use super::walk::{Found, PartPlace, Walk};

/// Bytes that are to be overwritten.
pub struct Overwrite {
    pub name: PartName,
    segment: Arc<Segment>,
    offset: u64,
    bytes: u64,
}

/// Tells the cost of erasing parts. Of many in a row that are of one record, that is read once.
pub struct ErasingCosts {
    shared: Arc<Shared>,
    last: Option<(Arc<Segment>, u32, Extents)>,
}

impl ErasingCosts {
    pub fn new(shared: Arc<Shared>) -> ErasingCosts {
        ErasingCosts { shared, last: None }
    }

    /// The bytes that are overwritten to erase a part, and those that are read to find it.
    ///
    /// # Errors
    /// `Removed` if the segment is not kept any more, `Damaged` if the part cannot be found: then
    /// [`Journal::append`](super::Journal::append) could not erase it either.
    pub fn of(&mut self, place: PartPlace) -> Result<u64> {
        let is_of = |(segment, offset, _): &(Arc<Segment>, u32, Extents)| {
            (segment.number, *offset) == (place.segment, place.offset)
        };
        if let Some((segment, _, extents)) = self.last.as_ref().filter(|last| is_of(last)) {
            return Ok(extents.of(segment, place.part)?.bytes);
        }
        let segment = self.shared.segment(place.segment);
        let segment = segment.ok_or(JournalError::Removed {
            segment: place.segment,
        })?;
        let extents = segment.reading(&*self.shared.files, |file| {
            Extents::at(&segment, file, place.offset.into())
        })?;
        let bytes = extents.of(&segment, place.part)?.bytes + extents.read_bytes;
        self.last = Some((segment, place.offset, extents));
        Ok(bytes)
    }
}

/// Finds the bytes of parts by their places; those in segments that were removed are left out.
pub fn locate(shared: &Shared, places: &[PartPlace]) -> Result<Vec<Overwrite>> {
    let mut found = Vec::with_capacity(places.len());
    let is_one_record = |one: &PartPlace, other: &PartPlace| {
        (one.segment, one.offset) == (other.segment, other.offset)
    };
    for of_record in places.chunk_by(is_one_record) {
        let first = of_record[0];
        let Some(segment) = shared.segment(first.segment) else {
            continue;
        };
        let extents = segment.reading(&*shared.files, |file| {
            Extents::at(&segment, file, first.offset.into())
        })?;
        for place in of_record {
            let Extent {
                position,
                offset,
                bytes,
            } = extents.of(&segment, place.part)?;
            found.push(Overwrite {
                name: PartName {
                    position,
                    part: place.part,
                },
                segment: segment.clone(),
                offset,
                bytes,
            });
        }
    }
    Ok(found)
}

/// Finds the bytes of parts by their names; those in segments that were removed are left out. Damage is noted in
/// `damaged`, once: parts in it are found where the head and the table of their record still tell their place.
pub fn find(
    shared: &Shared,
    names: &[PartName],
    damaged: &mut Vec<JournalError>,
) -> Result<Vec<Overwrite>> {
    let mut by_segment: BTreeMap<u64, (Arc<Segment>, BTreeSet<PartName>)> = BTreeMap::new();
    for name in names {
        if let Some(segment) = shared.segment_at(name.position) {
            let (_, names) = by_segment
                .entry(segment.number)
                .or_insert((segment, BTreeSet::new()));
            names.insert(*name);
        }
    }
    let mut found = Vec::with_capacity(names.len());
    for (segment, names) in by_segment.values() {
        segment.reading(&*shared.files, |file| {
            find_in(segment, file, names, &mut found, damaged)
        })?;
    }
    Ok(found)
}

/// Where the bytes of parts stand, by their names: segment, offset and length. Those in segments that were removed are
/// left out, and damage is passed over.
pub fn extents(shared: &Shared, names: &[PartName]) -> Result<Vec<(u64, u64, u64)>> {
    let found = find(shared, names, &mut Vec::new())?;
    let extents = found
        .iter()
        .map(|one| (one.segment.number, one.offset, one.bytes));
    Ok(extents.collect())
}

fn find_in(
    segment: &Arc<Segment>,
    file: &dyn DataFile,
    names: &BTreeSet<PartName>,
    found: &mut Vec<Overwrite>,
    damaged: &mut Vec<JournalError>,
) -> Result<()> {
    let last = names.last().map_or(0, |name| name.position);
    let mut walk = Walk::new(segment.clone());
    while walk.tip.position <= last {
        let record = match walk.next(file)? {
            Found::Record(record) => record,
            // The others were in segments behind this one that were removed.
            Found::End => return Ok(()),
            Found::Nothing(nothing) => {
                let damage = walk.damage(nothing.reason);
                let (position, offset) = (walk.tip.position, walk.offset);
                let goes_on = walk.step_over(file)?;
                let end = if goes_on { walk.tip.position } else { u64::MAX };
                let lost = names.iter().filter(|name| name.position >= position);
                let lost = Vec::from_iter(lost.filter(|name| name.position < end));
                if !lost.is_empty() {
                    find_in_damaged(segment, file, offset, &lost, found)?;
                    note_once(damaged, damage);
                }
                if !goes_on {
                    return Ok(());
                }
                continue;
            }
        };
        let position = record.head.position;
        for (part, row) in (0..).zip(&record.parts) {
            let name = PartName { position, part };
            if names.contains(&name) {
                found.push(Overwrite {
                    name,
                    segment: segment.clone(),
                    offset: record.offset + row.offset,
                    bytes: row.stored_bytes(),
                });
            }
        }
    }
    Ok(())
}

/// Finds parts of the record at `offset`, whose body is damaged, by the rows of its table as they are. The
/// rows make sense together, or they are not used.
fn find_in_damaged(
    segment: &Arc<Segment>,
    file: &dyn DataFile,
    offset: u64,
    names: &[&PartName],
    found: &mut Vec<Overwrite>,
) -> Result<()> {
    for name in names {
        let (head, row) = match row_at(segment, file, offset, name.part) {
            Err(JournalError::Damaged(_)) => continue,
            row => row?,
        };
        if let Some(row) = row.filter(|_| head.position == name.position) {
            found.push(Overwrite {
                name: **name,
                segment: segment.clone(),
                offset: offset + row.offset,
                bytes: row.stored_bytes(),
            });
        }
    }
    Ok(())
}

/// Notes damage that was not noted before.
fn note_once(damaged: &mut Vec<JournalError>, damage: JournalError) {
    let told = damage.to_string();
    if !damaged.iter().any(|one| one.to_string() == told) {
        damaged.push(damage);
    }
}

/// Overwrites the bytes and syncs them; what was removed meanwhile is left out.
pub fn overwrite(files: &dyn Directory, overwrites: &[Overwrite]) -> Result<()> {
    let mut unsynced: BTreeMap<u64, (&str, Arc<dyn DataFile>)> = BTreeMap::new();
    for one in overwrites {
        let segment = &one.segment;
        let erased = erased(one.bytes as usize, &segment.salt);
        let overwritten = segment.overwriting(files, |file| {
            write_all(file, &erased, one.offset).map_err(told(&segment.name, "erasing"))
        });
        match overwritten {
            Ok(file) => unsynced.insert(segment.number, (&segment.name, file)),
            Err(JournalError::Removed { .. }) => continue,
            Err(error) => return Err(error),
        };
    }
    for (name, file) in unsynced.values() {
        file.sync().map_err(told(name, "syncing"))?;
    }
    Ok(())
}
