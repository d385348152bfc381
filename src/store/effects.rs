//! The content of the journal's records: what one commit put and deleted, and what it added to history.
//!
//! Effects are whole values under their keys, so that a stretch of records can be applied again from
//! its beginning and gives the same state.
//!
//! | bytes | field |
//! |---|---|
//! | 1 | version: 2 |
//! | … | how many databases of history are changed; for each its slice's number, and its changes |
//! | … | changes of the live database |
//! | … | how many entries of history there are; for each its keys, and how many of the record's parts it has |
//! | … | how many hours of lanes are counted; for each lane, hour, and the counts |
//!
//! Changes are their number, then for each the key's length, the key, the value's length and 1 more,
//! and the value; 0 in place of that length deletes the key. An entry is the number of its keys, for each
//! its length and its bytes, then the number of its parts; the record's parts belong to the entries in
//! their order. Numbers are as LEB128 has them, and those of slices 4 bytes, little-endian. The record has
//! the checksum.
//!
//! Version 1 ends after the changes of the live database: history was in databases of its own then, and
//! nothing else wrote there.

use super::engine::Changes;
use super::layout::LaneHour;

const VERSION: u8 = 2;

/// The changes of one commit.
#[derive(Default)]
pub struct Effects {
    /// Of databases of history, by the number of the slice, in the order in which they are made.
    pub databases: Vec<(u32, Changes)>,
    pub live: Changes,
    /// Entries of the slice that was the newest.
    pub entries: Vec<Entry>,
    /// Counts of attempts by lane and hour.
    pub counted: Vec<(LaneAndHour, LaneHour)>,
}

/// A lane, and hours since 1970.
pub type LaneAndHour = (u64, u64);

/// Something in history: where it is looked up, and how many of the record's parts it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub keys: Vec<Vec<u8>>,
    pub parts: u32,
}

/// Why a record's content cannot be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EffectsError {
    #[error("it was written by a newer postrider (version {0})")]
    Newer(u8),
    #[error("its content makes no sense")]
    Damaged,
}

/// Writes effects to `out`, which is cleared.
pub fn encode<'a>(
    databases: impl ExactSizeIterator<Item = (u32, &'a Changes)>,
    live: &Changes,
    entries: &[Entry],
    counted: impl ExactSizeIterator<Item = (LaneAndHour, LaneHour)>,
    out: &mut Vec<u8>,
) {
    out.clear();
    out.push(VERSION);
    put_number(out, databases.len() as u64);
    for (slice, changes) in databases {
        out.extend_from_slice(&slice.to_le_bytes());
        put_changes(out, changes);
    }
    put_changes(out, live);
    put_number(out, entries.len() as u64);
    for entry in entries {
        put_number(out, entry.keys.len() as u64);
        for key in &entry.keys {
            put_number(out, key.len() as u64);
            out.extend_from_slice(key);
        }
        put_number(out, entry.parts.into());
    }
    put_number(out, counted.len() as u64);
    for ((lane, hour), counts) in counted {
        put_number(out, lane);
        put_number(out, hour);
        let numbers = numbers_of(&counts);
        numbers
            .into_iter()
            .for_each(|number| put_number(out, number));
    }
}

fn numbers_of(counts: &LaneHour) -> [u64; 7] {
    [
        counts.attempts_succeeded,
        counts.attempts_failed,
        counts.delivered,
        counts.failed,
        counts.answered,
        counts.answer_us_sum,
        counts.answer_us_max,
    ]
}

fn put_changes(out: &mut Vec<u8>, changes: &Changes) {
    put_number(out, changes.count() as u64);
    for (key, value) in changes.entries() {
        put_number(out, key.len() as u64);
        out.extend_from_slice(key);
        match value {
            None => put_number(out, 0),
            Some(value) => {
                put_number(out, value.len() as u64 + 1);
                out.extend_from_slice(value);
            }
        }
    }
}

pub fn decode(bytes: &[u8]) -> Result<Effects, EffectsError> {
    let mut rest = bytes;
    let version = match take(&mut rest, 1)? {
        [version @ 1..=VERSION] => *version,
        [version] => return Err(EffectsError::Newer(*version)),
        _ => return Err(EffectsError::Damaged),
    };
    let mut effects = Effects::default();
    for _ in 0..number(&mut rest)? {
        let slice = take(&mut rest, 4)?.first_chunk().copied();
        let slice = u32::from_le_bytes(slice.ok_or(EffectsError::Damaged)?);
        effects.databases.push((slice, changes(&mut rest)?));
    }
    effects.live = changes(&mut rest)?;
    if version >= 2 {
        for _ in 0..number(&mut rest)? {
            effects.entries.push(entry(&mut rest)?);
        }
        for _ in 0..number(&mut rest)? {
            effects.counted.push(counted(&mut rest)?);
        }
    }
    match rest.is_empty() {
        true => Ok(effects),
        false => Err(EffectsError::Damaged),
    }
}

fn entry(rest: &mut &[u8]) -> Result<Entry, EffectsError> {
    let mut keys = Vec::new();
    for _ in 0..number(rest)? {
        let bytes = length(rest)?;
        keys.push(take(rest, bytes)?.to_vec());
    }
    let parts = u32::try_from(number(rest)?).map_err(|_| EffectsError::Damaged)?;
    Ok(Entry { keys, parts })
}

fn counted(rest: &mut &[u8]) -> Result<(LaneAndHour, LaneHour), EffectsError> {
    let place = (number(rest)?, number(rest)?);
    let counts = LaneHour {
        attempts_succeeded: number(rest)?,
        attempts_failed: number(rest)?,
        delivered: number(rest)?,
        failed: number(rest)?,
        answered: number(rest)?,
        answer_us_sum: number(rest)?,
        answer_us_max: number(rest)?,
    };
    Ok((place, counts))
}

fn changes(rest: &mut &[u8]) -> Result<Changes, EffectsError> {
    let mut changes = Changes::default();
    for _ in 0..number(rest)? {
        let key_bytes = length(rest)?;
        let key = take(rest, key_bytes)?;
        match length(rest)?.checked_sub(1) {
            None => changes.delete(key),
            Some(value_bytes) => changes.put(key, take(rest, value_bytes)?.to_vec()),
        }
    }
    Ok(changes)
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn length(rest: &mut &[u8]) -> Result<usize, EffectsError> {
    usize::try_from(number(rest)?).map_err(|_| EffectsError::Damaged)
}

fn number(rest: &mut &[u8]) -> Result<u64, EffectsError> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let [byte] = take(rest, 1)? else { break };
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            break;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(EffectsError::Damaged)
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Result<&'a [u8], EffectsError> {
    let (taken, left) = rest.split_at_checked(bytes).ok_or(EffectsError::Damaged)?;
    *rest = left;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::engine;
    use super::*;

    fn changes_of(entries: &[engine::Entry]) -> Changes {
        let mut changes = Changes::default();
        for (key, value) in entries {
            match value {
                Some(value) => changes.put(key, value.clone()),
                None => changes.delete(key),
            }
        }
        changes
    }

    fn entries() -> impl Strategy<Value = Vec<engine::Entry>> {
        vec((vec(any::<u8>(), 0..200), option()), 0..6)
    }

    fn option() -> impl Strategy<Value = Option<Vec<u8>>> {
        proptest::option::of(vec(any::<u8>(), 0..300))
    }

    fn some_entries() -> impl Strategy<Value = Vec<Entry>> {
        let keys = vec(vec(any::<u8>(), 0..60), 0..3);
        let entry = (keys, any::<u32>()).prop_map(|(keys, parts)| Entry { keys, parts });
        vec(entry, 0..4)
    }

    fn counts(at: u64) -> LaneHour {
        LaneHour {
            attempts_succeeded: at,
            attempts_failed: 2,
            delivered: 3,
            failed: 4,
            answered: 5,
            answer_us_sum: u64::MAX,
            answer_us_max: 7,
        }
    }

    proptest! {
        #[test]
        fn effects_are_read_as_they_were_written(
            slice: u32,
            history in entries(),
            live in entries(),
            added in some_entries(),
            lane: u64,
        ) {
            let mut bytes = vec![1, 2, 3];
            let slices = [(slice, changes_of(&history)), (7, changes_of(&live))];
            let by_slice = slices.iter().map(|(slice, changes)| (*slice, changes));
            let counted = [((lane, 9), counts(1)), ((3, lane), counts(lane))];
            encode(by_slice, &changes_of(&live), &added, counted.into_iter(), &mut bytes);
            let effects = decode(&bytes).unwrap();
            let read = effects.databases.iter();
            let read = Vec::from_iter(read.map(|(slice, changes)| (*slice, changes.entries())));
            prop_assert_eq!(read, [(slice, &history[..]), (7, &live)]);
            prop_assert_eq!(effects.live.entries(), live);
            prop_assert_eq!(effects.entries, added);
            prop_assert_eq!(effects.counted, counted);
            for cut in 0..bytes.len() {
                prop_assert_eq!(decode(&bytes[..cut]).err(), Some(EffectsError::Damaged));
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..100)) {
            for version in [1, VERSION] {
                let _ = decode(&[&[version][..], &bytes].concat());
            }
        }
    }

    #[test]
    fn the_bytes_are_as_they_were_first_written() {
        let history = changes_of(&[(b"M".to_vec(), Some(vec![7; 130]))]);
        let live = changes_of(&[(b"q1".to_vec(), None), (b"r".to_vec(), Some(Vec::new()))]);
        let entry = Entry {
            keys: vec![b"A1".to_vec(), b"T".to_vec()],
            parts: 3,
        };
        let counted = [(
            (300, 5),
            LaneHour {
                answer_us_sum: 0,
                ..counts(1)
            },
        )];
        let mut bytes = Vec::new();
        encode(
            [(258, &history)].into_iter(),
            &live,
            &[entry],
            counted.into_iter(),
            &mut bytes,
        );
        // Version 1, after its number.
        let first = [
            &[1, 2, 1, 0, 0, 1, 1, b'M', 0x83, 1][..],
            &[7; 130],
            &[2, 2, b'q', b'1', 0, 1, b'r', 1],
        ];
        let first = first.concat();
        let more = [
            &[1, 2, 2, b'A', b'1', 1, b'T', 3][..],
            &[1, 0xac, 2, 5, 1, 2, 3, 4, 5, 0, 7],
        ];
        assert_eq!(bytes, [&[2], &first[..], &more.concat()].concat());
        let older = decode(&[&[1], &first[..]].concat()).unwrap();
        assert_eq!(older.live.entries(), live.entries());
        assert_eq!((older.databases.len(), older.entries.len()), (1, 0));
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        assert_eq!(decode(&[3, 0]).err(), Some(EffectsError::Newer(3)));
        assert_eq!(decode(&[]).err(), Some(EffectsError::Damaged));
    }
}
