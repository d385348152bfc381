//! Opening a journal: what is there, where it ends, and making sure that the disk has it.
//!
//! Only the headers of all segments and the records of the newest segment are read here; the records
//! since the checkpoint are checked as the caller reads them.
//!
//! The end. The walk over the newest segment stops where no next record begins, or where one does
//! whose body or parts are wrong. It is the end, and that last record is cut off, if nothing speaks
//! against it: no valid head or end mark of this segment stands anywhere behind, and nobody knows of
//! a record that is not there. Otherwise it is damage. At most one record is ever cut off.
//!
//! Damage that lies wholly before the end of a durable checkpoint loses nothing that a start needs: it is
//! reported, and the walk goes on behind it. Damage that reaches further refuses the start.
//!
//! Then, before anything is answered: after `kill -9` or a failed sync the system may show bytes
//! that the disk lacks, and syncing would not write them. So the last record is written again,
//! everything behind it that is not zero is zeroed, and both are synced.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, RwLock};

use rand::Rng;
use rand::rngs::StdRng;

use super::append::{CutOff, Journal, Known, Open, Opened, Sizes, begin, write_end};
use super::erase;
use super::error::{JournalError, Result, told};
use super::files::{DataFile, Directory, read_all, write_all};
use super::reader::Shared;
use super::record::{HEAD_BYTES, Tip};
use super::segment::{END_BYTES, Segment, number_in};
use super::spares::Spares;
use super::walk::{Found, Record, Walk, look_behind, parts_are_sound};

const ZEROS_BYTES: usize = 1 << 20;

pub type Segments = BTreeMap<u64, Arc<Segment>>;

impl Journal {
    /// Opens the journal in a directory, and begins it where there is none.
    ///
    /// `random` is for salts and blinds, and is to be unpredictable. Nobody else may have the
    /// directory open.
    ///
    /// # Errors
    /// `Damaged`, `Missing`, `OtherStream` or `Newer` if records that were appended cannot be read;
    /// nothing was changed then.
    pub fn open(
        files: Arc<dyn Directory>,
        sizes: Sizes,
        known: &Known,
        mut random: StdRng,
    ) -> Result<(Journal, Opened)> {
        let names = files.list().map_err(told("the journal", "listing"))?;
        let mut opened = Opened::default();
        let (segments, last_number) = open_segments(&*files, &names, known, &mut opened)?;
        let newest = segments.last_key_value().map(|(_, newest)| newest.clone());
        let newest = newest.filter(|newest| Some(newest.number) == last_number);
        let end = match &newest {
            Some(segment) => find_end(&*files, segment, known, &mut opened)?,
            None => None,
        };
        let tip = end.as_ref().map_or(known.begin, |end| end.tip);
        if tip.position <= known.newest {
            return Err(JournalError::Missing {
                position: tip.position,
                reason: "a checkpoint, an index, a backup or another journal has that record",
            });
        }
        let bytes = sizes.segment_bytes.into();
        let spares = Spares::open(files.clone(), &names, bytes, sizes.free_bytes_min)?;
        let open = match (newest, &end) {
            (Some(segment), Some(end)) => {
                if end.tip == segment.begin {
                    finish_before(&*files, &segments, &segment, known, &mut opened)?;
                }
                opened.zeroed_bytes = end.not_zero.iter().map(|(_, bytes)| bytes).sum();
                opened.cut_off = (opened.zeroed_bytes > 0).then(|| CutOff {
                    file: segment.name.clone(),
                    offset: end.offset,
                    position: end.tip.position,
                });
                settle(segment, end)?
            }
            _ => {
                // Behind a segment of which the end cannot be told, or as the first.
                let number = last_number.map_or(0, |last| last + 1);
                let salt = random.random();
                let next = Segment::new(known.stream, number, tip, bytes, salt);
                let next = next.going_on_from(ancestors(&segments, known.stream));
                begin(&*files, &spares.take()?, next)?
            }
        };
        files
            .sync()
            .map_err(told("the journal", "syncing the directory"))?;
        let mut segments = segments;
        segments.insert(open.segment.number, open.segment.clone());
        let ancestors = ancestors(&segments, known.stream);
        let shared = Arc::new(Shared {
            files,
            segments: RwLock::new(segments),
            next: AtomicU64::new(tip.position),
            being_erased: Mutex::default(),
        });
        if let Some(record) = end.and_then(|end| end.last) {
            let again = erase::find(&shared, &record.erasures, &mut opened.damaged)?;
            erase::overwrite(&*shared.files, &again)?;
        }
        let journal = Journal {
            shared,
            spares: Arc::new(spares),
            sizes,
            stream: known.stream,
            ancestors,
            open,
            tip,
            random,
            buffer: Vec::new(),
            has_failed: false,
        };
        Ok((journal, opened))
    }
}

/// Reads the headers of all segments and checks that none is missing that is needed. Answers with the number
/// of the newest, of which the header may be damaged.
fn open_segments(
    files: &dyn Directory,
    names: &[String],
    known: &Known,
    opened: &mut Opened,
) -> Result<(Segments, Option<u64>)> {
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| number_in(name)).collect();
    numbers.sort_unstable();
    let mut segments = Segments::new();
    for number in &numbers {
        match Segment::open(files, *number) {
            Ok(segment) => {
                segments.insert(*number, Arc::new(segment));
            }
            Err(error @ JournalError::Damaged(_))
                if known.is_closed || Some(number) != numbers.last() =>
            {
                opened.damaged.push(error);
            }
            Err(error) => return Err(error),
        }
    }
    check_streams(&segments, known.stream)?;
    if let Err(gap) = check_sequence(&segments, known) {
        // A damaged header says more than the gap that it leaves.
        return Err(opened.damaged.pop().unwrap_or(gap));
    }
    Ok((segments, numbers.last().copied()))
}

/// The streams that a stream goes on from, as the newest of its segments says.
pub fn ancestors(segments: &Segments, stream: u64) -> Arc<[u64]> {
    let of_stream = |segment: &&Arc<Segment>| segment.stream == stream;
    let newest = segments.values().rfind(of_stream);
    newest.map_or_else(Arc::default, |newest| newest.ancestors.clone())
}

/// Refuses segments of a stream that this one does not go on from, or that stand behind its first.
fn check_streams(segments: &Segments, stream: u64) -> Result<()> {
    let ancestors = ancestors(segments, stream);
    let mut is_begun = false;
    for segment in segments.values() {
        let is_own = segment.stream == stream;
        is_begun |= is_own;
        if !is_own && (is_begun || !ancestors.contains(&segment.stream)) {
            return Err(JournalError::OtherStream {
                file: segment.name.clone(),
                found: segment.stream,
                expected: stream,
            });
        }
    }
    Ok(())
}

fn check_sequence(segments: &Segments, known: &Known) -> Result<()> {
    let wanted = known.applied + 1;
    let mut before: Option<&Segment> = None;
    for segment in segments.values() {
        let position = segment.begin.position;
        let follows = before.is_some_and(|before| before.number + 1 == segment.number);
        if !follows && position > wanted {
            return Err(JournalError::Missing {
                position: before.map_or(wanted, |before| before.begin.position.max(wanted)),
                reason: "no segment has the records from there up to the next segment",
            });
        }
        // One without a record is followed by another where the first record did not fit into it.
        if before.is_some_and(|before| before.begin.position > position) {
            let reason = "the segment begins before the one before it";
            return Err(segment.damage(position, 0, reason));
        }
        before = Some(segment);
    }
    Ok(())
}

/// The end of the newest segment.
struct End {
    offset: u64,
    tip: Tip,
    /// The last record; none if one behind it was cut off, before which it was synced.
    last: Option<Record>,
    /// Stretches from the end on that are not zero: offset and bytes.
    not_zero: Vec<(u64, u64)>,
    file: Arc<dyn DataFile>,
}

/// None where the end cannot be told, and nothing was appended behind the checkpoint.
fn find_end(
    files: &dyn Directory,
    segment: &Arc<Segment>,
    known: &Known,
    opened: &mut Opened,
) -> Result<Option<End>> {
    let file = files
        .open(&segment.name)
        .map_err(told(&segment.name, "opening"))?;
    let mut walk = Walk::new(segment.clone());
    let mut last: Option<(Tip, Record)> = None;
    let nothing = loop {
        let before = walk.tip;
        walk.check_copy(known.begin)?;
        match walk.next(&*file)? {
            Found::Record(record) => last = Some((before, record)),
            Found::Nothing(nothing) if before.position > known.applied => break nothing,
            Found::Nothing(nothing) => {
                let damage = walk.damage(nothing.reason);
                let goes_on = walk.step_over(&*file)?;
                if goes_on && !is_in_checkpoint(walk.tip, known) || !goes_on && !known.is_closed {
                    return Err(damage);
                }
                opened.damaged.push(damage);
                if !goes_on {
                    return Ok(None);
                }
                last = None;
            }
            Found::End => {
                return Err(JournalError::Missing {
                    position: walk.tip.position,
                    reason: "the segment that begins with it is not there",
                });
            }
        }
    };
    // A head that is as expected, with a damaged body, is no witness against itself.
    let own_head = if nothing.has_head {
        HEAD_BYTES as u64
    } else {
        0
    };
    let search_from = walk.offset + own_head;
    let mut rest = look_behind(&walk, &*file, search_from)?;
    if rest.valid_at.is_some() {
        return Err(walk.damage(nothing.reason));
    }
    if let Some((before, record)) = &last
        && record.head.position > known.applied
        && !nothing.has_head
        && !parts_are_sound(segment, &*file, record)?
    {
        let bytes = walk.offset - record.offset;
        rest.not_zero.insert(0, (record.offset, bytes));
        walk.offset = record.offset;
        walk.tip = *before;
        last = None;
    }
    Ok(Some(End {
        offset: walk.offset,
        tip: walk.tip,
        last: last.map(|(_, record)| record),
        not_zero: rest.not_zero,
        file,
    }))
}

/// Whether everything before this place is in the checkpoint, which ends there at the latest.
fn is_in_checkpoint(tip: Tip, known: &Known) -> bool {
    let is_its_end = tip.position == known.begin.position;
    tip.position <= known.applied + 1 && (!is_its_end || tip == known.begin)
}

/// Writes the last record again, zeroes everything behind it, and syncs.
fn settle(segment: Arc<Segment>, end: &End) -> Result<Open> {
    let file = &*end.file;
    let name = &segment.name;
    if let Some(record) = &end.last {
        let mut bytes = vec![0; record.head.record_bytes() as usize];
        read_all(file, &mut bytes, record.offset).map_err(told(name, "reading"))?;
        write_all(file, &bytes, record.offset).map_err(told(name, "writing"))?;
    }
    let zeros = vec![0; ZEROS_BYTES];
    for (offset, bytes) in &end.not_zero {
        let mut done = 0;
        while done < *bytes {
            let length = zeros.len().min((bytes - done) as usize);
            write_all(file, &zeros[..length], offset + done).map_err(told(name, "zeroing"))?;
            done += length as u64;
        }
    }
    file.sync().map_err(told(name, "syncing"))?;
    segment.keep_open(end.file.clone());
    Ok(Open {
        segment,
        file: end.file.clone(),
        offset: end.offset,
    })
}

/// Writes again the end mark of the segment before `empty`: the change of segment may be unfinished
/// while the new one has no record.
fn finish_before(
    files: &dyn Directory,
    segments: &Segments,
    empty: &Segment,
    known: &Known,
    opened: &mut Opened,
) -> Result<()> {
    let before = empty.number.checked_sub(1);
    let Some(segment) = before.and_then(|number| segments.get(&number)) else {
        return Ok(());
    };
    let file = files
        .open(&segment.name)
        .map_err(told(&segment.name, "opening"))?;
    let mut walk = Walk::new(segment.clone());
    let reason = loop {
        match walk.next(&*file)? {
            Found::Record(_) => {}
            Found::End => break "the next segment does not begin where this one ends",
            Found::Nothing(nothing)
                if walk.tip == empty.begin || walk.tip.position > known.applied =>
            {
                break nothing.reason;
            }
            Found::Nothing(nothing) => {
                let damage = walk.damage(nothing.reason);
                let goes_on = walk.step_over(&*file)? && is_in_checkpoint(walk.tip, known);
                if !goes_on && empty.begin.position > known.applied + 1 {
                    return Err(damage);
                }
                opened.damaged.push(damage);
                if !goes_on {
                    return Ok(());
                }
            }
        }
    };
    if walk.tip != empty.begin || walk.offset + END_BYTES as u64 > segment.bytes {
        return Err(walk.damage(reason));
    }
    let open = Open {
        segment: segment.clone(),
        file,
        offset: walk.offset,
    };
    write_end(&open, walk.tip)
}
