//! The content of the journal's records: the puts and deletes of one commit.
//!
//! Effects are whole values under their keys, so that a stretch of records can be applied again from
//! its beginning and gives the same state.
//!
//! | bytes | field |
//! |---|---|
//! | 1 | version: 1 |
//! | … | how many slices are changed; for each its number, and its changes |
//! | … | changes of the live database |
//!
//! Changes are their number, then for each the key's length, the key, the value's length and 1 more,
//! and the value; 0 in place of that length deletes the key. Numbers are as LEB128 has them, and those of
//! slices 4 bytes, little-endian. The record has the checksum.

use super::engine::Changes;

const VERSION: u8 = 1;

/// The changes of one commit.
pub struct Effects {
    /// By the number of the slice, in the order in which they are made.
    pub history: Vec<(u32, Changes)>,
    pub live: Changes,
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
    history: impl ExactSizeIterator<Item = (u32, &'a Changes)>,
    live: &Changes,
    out: &mut Vec<u8>,
) {
    out.clear();
    out.push(VERSION);
    put_number(out, history.len());
    for (slice, changes) in history {
        out.extend_from_slice(&slice.to_le_bytes());
        put_changes(out, changes);
    }
    put_changes(out, live);
}

fn put_changes(out: &mut Vec<u8>, changes: &Changes) {
    put_number(out, changes.count());
    for (key, value) in changes.entries() {
        put_number(out, key.len());
        out.extend_from_slice(key);
        match value {
            None => put_number(out, 0),
            Some(value) => {
                put_number(out, value.len() + 1);
                out.extend_from_slice(value);
            }
        }
    }
}

pub fn decode(bytes: &[u8]) -> Result<Effects, EffectsError> {
    let mut rest = bytes;
    match take(&mut rest, 1)? {
        [VERSION] => {}
        [version] => return Err(EffectsError::Newer(*version)),
        _ => return Err(EffectsError::Damaged),
    }
    let mut history = Vec::new();
    for _ in 0..number(&mut rest)? {
        let slice = take(&mut rest, 4)?.first_chunk().copied();
        let slice = u32::from_le_bytes(slice.ok_or(EffectsError::Damaged)?);
        history.push((slice, changes(&mut rest)?));
    }
    let live = changes(&mut rest)?;
    match rest.is_empty() {
        true => Ok(Effects { history, live }),
        false => Err(EffectsError::Damaged),
    }
}

fn changes(rest: &mut &[u8]) -> Result<Changes, EffectsError> {
    let mut changes = Changes::default();
    for _ in 0..number(rest)? {
        let key_bytes = number(rest)?;
        let key = take(rest, key_bytes)?;
        match number(rest)?.checked_sub(1) {
            None => changes.delete(key),
            Some(value_bytes) => changes.put(key, take(rest, value_bytes)?.to_vec()),
        }
    }
    Ok(changes)
}

fn put_number(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn number(rest: &mut &[u8]) -> Result<usize, EffectsError> {
    let mut number = 0;
    // Five groups of seven bits: no count or length is longer.
    for shift in (0..35).step_by(7) {
        let [byte] = take(rest, 1)? else { break };
        number |= usize::from(byte & 0x7f) << shift;
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

    use super::super::engine::Entry;
    use super::*;

    fn changes_of(entries: &[Entry]) -> Changes {
        let mut changes = Changes::default();
        for (key, value) in entries {
            match value {
                Some(value) => changes.put(key, value.clone()),
                None => changes.delete(key),
            }
        }
        changes
    }

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        vec((vec(any::<u8>(), 0..200), option()), 0..6)
    }

    fn option() -> impl Strategy<Value = Option<Vec<u8>>> {
        proptest::option::of(vec(any::<u8>(), 0..300))
    }

    proptest! {
        #[test]
        fn effects_are_read_as_they_were_written(
            slice: u32,
            history in entries(),
            live in entries(),
        ) {
            let mut bytes = vec![1, 2, 3];
            let slices = [(slice, changes_of(&history)), (7, changes_of(&live))];
            let by_slice = slices.iter().map(|(slice, changes)| (*slice, changes));
            encode(by_slice, &changes_of(&live), &mut bytes);
            let effects = decode(&bytes).unwrap();
            let read = effects.history.iter();
            let read = Vec::from_iter(read.map(|(slice, changes)| (*slice, changes.entries())));
            prop_assert_eq!(read, [(slice, &history[..]), (7, &live)]);
            prop_assert_eq!(effects.live.entries(), live);
            for cut in 0..bytes.len() {
                prop_assert_eq!(decode(&bytes[..cut]).err(), Some(EffectsError::Damaged));
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..100)) {
            let _ = decode(&[&[VERSION][..], &bytes].concat());
        }
    }

    #[test]
    fn the_bytes_are_as_they_were_first_written() {
        let history = changes_of(&[(b"M".to_vec(), Some(vec![7; 130]))]);
        let live = changes_of(&[(b"q1".to_vec(), None), (b"r".to_vec(), Some(Vec::new()))]);
        let mut bytes = Vec::new();
        encode([(258, &history)].into_iter(), &live, &mut bytes);
        let expected = [
            &[1, 1, 2, 1, 0, 0, 1, 1, b'M', 0x83, 1][..],
            &[7; 130],
            &[2, 2, b'q', b'1', 0, 1, b'r', 1],
        ];
        assert_eq!(bytes, expected.concat());
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        assert_eq!(decode(&[2, 0]).err(), Some(EffectsError::Newer(2)));
        assert_eq!(decode(&[]).err(), Some(EffectsError::Damaged));
    }
}
