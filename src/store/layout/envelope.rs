//! How a record stands in a database: its envelope, and its chunks where it is long.
//!
//! An envelope is: magic `0xB7`, kind (the key's letter), schema u16 LE, crc32 u32 LE over the key and
//! all of the record but the crc, length u32 LE of all that follows the length; then the bincode of the
//! struct (varint), then raw bytes. A record longer than [`VALUE_MAX`] goes on under its key with
//! `0x00` and a chunk number u16 appended.

use crate::domain::payload::PayloadBytes;
use crate::journal::JournalError;
use crate::shortage::Shortage;
use crate::store::effects::EffectsError;
use crate::store::engine::{Bytes, Changes, EngineError, VALUE_MAX, Values};
use crate::store::gap::Gap;
use crate::store::index::IndexError;
use crate::store::record::{self, Kept, NotARecord, RECORD_MAX};

const MAGIC: u8 = 0xB7;
const HEADER_BYTES: usize = 12;

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("a record of kind '{}' was written by a newer version (schema {schema})", *.kind as char)]
    Newer { kind: u8, schema: u16 },
    #[error("a record of kind '{}' is damaged: {why}", *.kind as char)]
    Damaged { kind: u8, why: &'static str },
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the journal: {0}")]
    Journal(#[from] JournalError),
    /// What is looked for may be among what cannot be read.
    #[error("the journal: {0}")]
    Gap(Gap),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error("the journal: the content of a record cannot be read: {0}")]
    Effects(#[from] EffectsError),
}

impl RecordError {
    /// Whether it may go another time, without anything being mended.
    pub fn passes(&self) -> bool {
        match self {
            RecordError::Engine(error) => error.passes(),
            _ => self.shortage().is_some(),
        }
    }

    /// The resource that this machine lacked for it; nothing is damaged then.
    pub fn shortage(&self) -> Option<Shortage> {
        match self {
            RecordError::Engine(error) => error.shortage(),
            RecordError::Journal(JournalError::Io { cause, .. }) => Shortage::of(cause),
            RecordError::Index(IndexError::Io { cause, .. }) => Shortage::of(cause),
            _ => None,
        }
    }
}

/// The bytes of a record under `key`.
pub fn encode<T: Kept>(key: &[u8], meta: &T, raw: &[u8]) -> Vec<u8> {
    debug_assert_eq!(key[0], T::KIND, "a record under another kind's key");
    let mut record = Vec::with_capacity(HEADER_BYTES + 160 + raw.len());
    record.extend_from_slice(&[MAGIC, key[0]]);
    record.extend_from_slice(&T::SCHEMA.to_le_bytes());
    record.extend_from_slice(&[0; 8]);
    record::write(meta, &mut record);
    record.extend_from_slice(raw);
    let length = (record.len() - HEADER_BYTES) as u32;
    record[8..HEADER_BYTES].copy_from_slice(&length.to_le_bytes());
    let crc = checksum(key, &record);
    record[4..8].copy_from_slice(&crc.to_le_bytes());
    record
}

fn checksum(key: &[u8], record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(&record[..4]);
    hasher.update(&record[8..]);
    hasher.finalize()
}

/// The struct and where the raw bytes begin in a whole record.
pub fn decode<T: Kept>(key: &[u8], record: &[u8]) -> Result<(T, usize), RecordError> {
    let kind = key.first().copied().unwrap_or(b'?');
    let damaged = |why| RecordError::Damaged { kind, why };
    if record.len() < HEADER_BYTES || record[0] != MAGIC || record[1] != kind {
        return Err(damaged("it does not begin as one"));
    }
    let schema = u16::from_le_bytes([record[2], record[3]]);
    if schema > T::SCHEMA {
        return Err(RecordError::Newer { kind, schema });
    }
    if record.len() - HEADER_BYTES != announced(record) {
        return Err(damaged("its length is wrong"));
    }
    if checksum(key, record).to_le_bytes() != record[4..8] {
        return Err(damaged("its checksum is wrong"));
    }
    let mut rest = &record[HEADER_BYTES..];
    let meta = record::read(schema, &mut rest).map_err(|NotARecord(why)| damaged(why))?;
    Ok((meta, record.len() - rest.len()))
}

/// How many bytes follow the header, by the header.
fn announced(record: &[u8]) -> usize {
    u32::from_le_bytes([record[8], record[9], record[10], record[11]]) as usize
}

/// How many values a record with this first value takes.
fn chunks(first: &[u8]) -> usize {
    if first.len() < HEADER_BYTES {
        return 1;
    }
    (HEADER_BYTES + announced(first).min(RECORD_MAX))
        .div_ceil(VALUE_MAX)
        .max(1)
}

fn chunk_key(key: &[u8], number: usize) -> Vec<u8> {
    let mut chunk = Vec::with_capacity(key.len() + 3);
    chunk.extend_from_slice(key);
    chunk.push(0);
    chunk.extend_from_slice(&(number as u16).to_be_bytes());
    chunk
}

/// Puts a record that is not there yet.
pub fn put<T: Kept>(changes: &mut Changes, key: &[u8], meta: &T, raw: &[u8]) {
    put_encoded(changes, key, encode(key, meta, raw));
}

/// The same for a record whose bytes are at hand.
pub fn put_encoded(changes: &mut Changes, key: &[u8], record: Vec<u8>) {
    if record.len() <= VALUE_MAX {
        changes.put(key, record);
        return;
    }
    // The first one last: whoever finds it finds the others.
    for (number, chunk) in record.chunks(VALUE_MAX).enumerate().rev() {
        match number {
            0 => changes.put(key, chunk.to_vec()),
            _ => changes.put(&chunk_key(key, number), chunk.to_vec()),
        }
    }
}

/// Deletes a record that may be long; false if there was none.
pub fn delete(
    engine: &impl Values,
    changes: &mut Changes,
    key: &[u8],
) -> Result<bool, EngineError> {
    let Some(first) = engine.get(key)? else {
        return Ok(false);
    };
    changes.delete(key);
    for number in 1..chunks(&first) {
        changes.delete(&chunk_key(key, number));
    }
    Ok(true)
}

/// Puts a record in the place of an older one that may have been longer; false if there was none.
pub fn replace<T: Kept>(
    engine: &impl Values,
    changes: &mut Changes,
    key: &[u8],
    meta: &T,
) -> Result<bool, EngineError> {
    replace_with(engine, changes, key, meta, &[])
}

/// The same with raw bytes behind the struct.
pub fn replace_with<T: Kept>(
    engine: &impl Values,
    changes: &mut Changes,
    key: &[u8],
    meta: &T,
    raw: &[u8],
) -> Result<bool, EngineError> {
    let replaced = delete(engine, changes, key)?;
    put(changes, key, meta, raw);
    Ok(replaced)
}

/// A whole record as read: the struct, and the raw bytes behind it.
pub struct Recorded<T> {
    pub meta: T,
    bytes: Vec<u8>,
    raw_at: usize,
}

impl<T> Recorded<T> {
    /// The raw bytes behind the struct.
    pub fn raw(&self) -> &[u8] {
        &self.bytes[self.raw_at..]
    }

    /// The same as a message's payload, without a copy.
    pub fn into_payload(self) -> PayloadBytes {
        PayloadBytes::behind(self.bytes, self.raw_at)
    }
}

/// Reads the record under `key`.
pub fn get<T: Kept>(engine: &impl Values, key: &[u8]) -> Result<Option<Recorded<T>>, RecordError> {
    let Some(first) = engine.get(key)? else {
        return Ok(None);
    };
    read(engine, key, &first).map(Some)
}

/// Reads the record whose first value is at hand, as a range gives it.
pub fn read<T: Kept>(
    engine: &impl Values,
    key: &[u8],
    first: &Bytes,
) -> Result<Recorded<T>, RecordError> {
    let bytes = whole(engine, key, first)?;
    let (meta, raw_at) = decode(key, &bytes)?;
    Ok(Recorded {
        meta,
        bytes,
        raw_at,
    })
}

/// The struct of a record of more than one value, from the first value alone: nothing where the record
/// is short, or the struct goes on in the next. The checksum is of the whole, so this is not held against
/// it, but for the database's own of what it reads.
pub fn at_a_glance<T: Kept>(key: &[u8], first: &[u8]) -> Option<T> {
    let is_one = is_long(first) && first[0] == MAGIC && first[1] == key[0];
    let schema = is_one.then(|| u16::from_le_bytes([first[2], first[3]]))?;
    let mut rest = &first[HEADER_BYTES..];
    if schema > T::SCHEMA {
        return None;
    }
    record::read(schema, &mut rest).ok()
}

/// Whether the record with this first value has others.
fn is_long(first: &[u8]) -> bool {
    chunks(first) > 1
}

/// Behind the record and all its values, and before the next.
pub fn behind_record(key: &[u8]) -> Vec<u8> {
    [key, &[0xff; 9]].concat()
}

/// The record that this is a further value of, and the value's number.
pub fn record_of_chunk(key: &[u8]) -> (&[u8], usize) {
    let (record, number) = key.split_at(key.len() - 3);
    (
        record,
        usize::from(u16::from_be_bytes([number[1], number[2]])),
    )
}

/// The whole record with this first value.
pub fn whole(engine: &impl Values, key: &[u8], first: &Bytes) -> Result<Vec<u8>, RecordError> {
    let chunks = chunks(first);
    let mut bytes = Vec::with_capacity(if chunks == 1 {
        first.len()
    } else {
        chunks * VALUE_MAX
    });
    bytes.extend_from_slice(first);
    for number in 1..chunks {
        let chunk = engine.get(&chunk_key(key, number))?;
        let why = "a part of it is missing";
        bytes.extend_from_slice(&chunk.ok_or(RecordError::Damaged { kind: key[0], why })?);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Timestamp;
    use crate::domain::id::{ApplicationId, MessageId, OrganisationId};
    use crate::domain::token::Token;
    use crate::store::engine::Engine;
    use crate::store::layout::{
        EventIdRecord, SLICE, SliceRecord, event_id_keys, golden, slice_key,
    };

    fn event_key() -> Vec<u8> {
        let [key, _] = event_id_keys(OrganisationId([2; 20]), ApplicationId([1; 20]), "x");
        key
    }

    fn engine() -> (tempfile::TempDir, Engine) {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::open(&dir.path().join("db"), 1 << 20).unwrap();
        (dir, engine)
    }

    #[test]
    fn records_of_any_length_read_back_and_a_shorter_one_leaves_no_chunk() {
        let (_dir, engine) = engine();
        let key = slice_key(1);
        for length in [
            0,
            1,
            VALUE_MAX,
            3 * VALUE_MAX - HEADER_BYTES - 2,
            1_000_000,
            10,
        ] {
            let raw: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let mut changes = Changes::default();
            delete(&engine, &mut changes, &key).unwrap();
            put(
                &mut changes,
                &key,
                &SliceRecord::beginning(Timestamp(7), None),
                &raw,
            );
            engine.commit(changes).unwrap();
            let record: Recorded<SliceRecord> = get(&engine, &key).unwrap().unwrap();
            assert_eq!(record.meta.first, Timestamp(7));
            assert_eq!(record.raw(), raw);
            assert_eq!(record.into_payload()[..], raw);
        }
        assert_eq!(engine.prefix(&[SLICE]).count(), 1);
    }

    #[test]
    fn a_newer_schema_and_a_wrong_place_are_named() {
        let key = slice_key(1);
        let mut record = encode(&key, &SliceRecord::beginning(Timestamp(7), None), &[]);
        assert!(decode::<SliceRecord>(&key, &record).is_ok());
        assert!(matches!(
            decode::<SliceRecord>(&slice_key(2), &record),
            Err(RecordError::Damaged { .. })
        ));
        record[2] = 4;
        assert!(matches!(
            decode::<SliceRecord>(&key, &record),
            Err(RecordError::Newer {
                kind: SLICE,
                schema: 4
            })
        ));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let row = golden::rows::pinned("Token", 6);
        let network = [0, 192, 0, 2, 0, 24];
        let at = row.record.windows(6).position(|six| six == network);
        let mut record = row.record;
        record[at.expect("it is there") + 5] = 33;
        let crc = checksum(&row.key, &record);
        record[4..8].copy_from_slice(&crc.to_le_bytes());
        let why = decode::<Token>(&row.key, &record).unwrap_err();
        assert_eq!(
            why.to_string(),
            "a record of kind 't' is damaged: the prefix of a network is longer than its address"
        );
        record[2] = 0;
        let crc = checksum(&row.key, &record);
        record[4..8].copy_from_slice(&crc.to_le_bytes());
        let why = decode::<Token>(&row.key, &record).unwrap_err();
        assert_eq!(
            why.to_string(),
            "a record of kind 't' is damaged: there is no schema 0"
        );
    }

    proptest! {
        #[test]
        fn no_flipped_bit_goes_unnoticed(byte in 0usize..60, bit in 0u8..8) {
            let key = event_key();
            let meta = EventIdRecord {
                commit: 9,
                application: ApplicationId([3; 20]),
                message: MessageId([4; 20]),
            };
            let mut record = encode(&key, &meta, b"0123456789");
            let byte = byte % record.len();
            record[byte] ^= 1 << bit;
            prop_assert!(decode::<EventIdRecord>(&key, &record).is_err());
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let key = slice_key(1);
            prop_assert!(decode::<SliceRecord>(&key, &bytes).is_err());
        }
    }
}
