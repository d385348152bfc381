//! What is on disk: the format's specification.
//!
//! A store is a directory with one live database, a database for each slice of history, and files:
//!
//! | path | what |
//! |---|---|
//! | `live/` | registrations and everything that waits |
//! | `journal/` | what was committed and is not in the databases yet; see `journal` and `effects` |
//! | `slices/NNNNNNNN/` | messages and attempts of a stretch of time |
//! | `slices/NNNNNNNN/keys` | which keys a sealed slice may hold; can be made anew; see `filters` |
//! | `export.json` | the registrations, written now and then; see `export` |
//! | `owner.token` | the first owner's credential |
//! | `lock` | held while a process has the store open |
//!
//! Keys begin with a letter for the kind. Numbers are big-endian so that keys sort as what they
//! mean; ids are their 20 bytes.
//!
//! | database | key | record |
//! |---|---|---|
//! | live | `m` | [`Meta`]: format, last commit, counts |
//! | live | `k` | [`Checkpoint`]: how far the databases have the journal |
//! | live | `o` organisation | [`Organisation`] |
//! | live | `t` token | [`Token`] |
//! | live | `e` organisation, name | [`EventType`] |
//! | live | `a` application | [`Application`] |
//! | live | `p` application, endpoint | [`Endpoint`] |
//! | live | `s` slice u32 | [`SliceRecord`] |
//! | live | `j` job | [`Job`] |
//! | live | `x` SHA-256 of a token | [`Revocation`] |
//! | live | `v` SHA-256 of a cookie | [`Visit`]: who is signed in |
//! | live | `r` message, lane u64 | [`Resent`]: where a delivery waits that was made due by hand, or while the clock was set back |
//! | live | `q` lane u64, due u64 ms, message | [`Waiting`]: a delivery that waits |
//! | slice | `m` | [`SliceMeta`] |
//! | slice | `M` application, message | [`MessageMeta`], then the payload's bytes |
//! | slice | `E` application, SHA-256 of the event id (16 bytes) | [`EventIdRecord`]; before, under the organisation |
//! | slice | `I` SHA-256 of the idempotency key in its scope | [`OnceRecord`], then the answer's body |
//! | slice | `A` lane u64, attempt | [`Attempt`] |
//! | slice | `T` message, attempt | [`AttemptPlace`]: which lane the attempt stands under |
//! | slice | `C` lane u64, hours since 1970 u64 | [`LaneHour`]: what happened at a lane in an hour |
//!
//! A record is an envelope: magic `0xB7`, kind (the key's letter), schema u16 LE, crc32 u32 LE over
//! the key and all of the record but the crc, length u32 LE of all that follows the length; then the
//! bincode of the struct (varint), then raw bytes. A record longer than [`engine::VALUE_MAX`] goes
//! on under its key with `0x00` and a chunk number u16 appended.
//!
//! The structs are [`record`]'s, each frozen with its schema number ([`Kept::SCHEMA`]); `golden` pins
//! the bytes of each schema of each. From a change of registrations to what stands on disk and back
//! lead [`registration`] and [`change`].

use super::catalog::Change;
use super::engine::{Bytes, Changes, EngineError, VALUE_MAX, Values};
pub use super::record::attempt::AttemptPlace;
pub use super::record::checkpoint::Checkpoint;
pub use super::record::lane_hour::LaneHour;
pub use super::record::message::MessageMeta;
pub use super::record::meta::Meta;
pub use super::record::slice::{SliceMeta, SliceRecord};
pub use super::record::unique::{EventIdRecord, OnceAnswer, OnceRecord};
pub use super::record::waiting::{Resent, Waiting};
use super::record::{self, Kept, Misfit, RECORD_MAX};
use crate::clock::Timestamp;
use crate::domain::application::Application;
use crate::domain::attempt::Attempt;
use crate::domain::endpoint::Endpoint;
use crate::domain::event_type::EventType;
use crate::domain::id::{
    ApplicationId, AttemptId, EndpointId, ID_TIME_STEP_MS, JobId, MessageId, OrganisationId,
    TokenId,
};
use crate::domain::job::Job;
use crate::domain::message::DeliveryKey;
use crate::domain::organisation::Organisation;
use crate::domain::payload::PayloadBytes;
use crate::domain::token::{Revocation, Token};
use crate::domain::visit::Visit;

#[cfg(doc)]
use super::engine;

/// The number of this format as a whole; a store with a higher one is refused.
pub const FORMAT: u32 = 2;
/// The number that a store has after a clean stop: the databases have all of the journal then, and the
/// version before, which knows of none, goes on with them.
pub const FORMAT_AT_REST: u32 = 1;

const MAGIC: u8 = 0xB7;
const HEADER_BYTES: usize = 12;

pub const META: u8 = b'm';
pub const CHECKPOINT: u8 = b'k';
pub const ORGANISATION: u8 = b'o';
pub const TOKEN: u8 = b't';
pub const EVENT_TYPE: u8 = b'e';
pub const APPLICATION: u8 = b'a';
pub const ENDPOINT: u8 = b'p';
pub const SLICE: u8 = b's';
pub const JOB: u8 = b'j';
pub const REVOCATION: u8 = b'x';
pub const VISIT: u8 = b'v';
pub const RESENT: u8 = b'r';
pub const WAITING: u8 = b'q';
pub const MESSAGE: u8 = b'M';
pub const EVENT_ID: u8 = b'E';
pub const ONCE: u8 = b'I';
pub const ATTEMPT: u8 = b'A';
pub const ATTEMPT_OF_MESSAGE: u8 = b'T';
pub const LANE_HOUR: u8 = b'C';

/// The kinds of registrations, in an order in which they can be read: endpoints after what owns them.
pub const REGISTRATIONS: [u8; 8] = [
    ORGANISATION,
    TOKEN,
    EVENT_TYPE,
    APPLICATION,
    JOB,
    REVOCATION,
    VISIT,
    ENDPOINT,
];

/// A value that is in the list of all that stand in records.
pub trait Listed {
    /// The letter that its keys begin with.
    const KIND: u8;
}

macro_rules! kinds {
    ($($letter:ident $kind:ident),* $(,)?) => {
        $(impl Listed for $kind {
            const KIND: u8 = $letter;
        })*

        /// The values with the schema that is written of each.
        #[cfg(test)]
        const KINDS: &[(&str, u16)] = &[$((stringify!($kind), $kind::SCHEMA)),*];
    };
}

kinds!(
    META Meta,
    CHECKPOINT Checkpoint,
    ORGANISATION Organisation,
    TOKEN Token,
    EVENT_TYPE EventType,
    APPLICATION Application,
    ENDPOINT Endpoint,
    SLICE SliceRecord,
    JOB Job,
    REVOCATION Revocation,
    VISIT Visit,
    RESENT Resent,
    WAITING Waiting,
    META SliceMeta,
    MESSAGE MessageMeta,
    EVENT_ID EventIdRecord,
    ONCE OnceRecord,
    ATTEMPT Attempt,
    ATTEMPT_OF_MESSAGE AttemptPlace,
    LANE_HOUR LaneHour,
);

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("a record of kind '{}' was written by a newer version (schema {schema})", *.kind as char)]
    Newer { kind: u8, schema: u16 },
    #[error("a record of kind '{}' is damaged: {why}", *.kind as char)]
    Damaged { kind: u8, why: &'static str },
    #[error(transparent)]
    Engine(#[from] EngineError),
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
    let meta = record::read(schema, &mut rest).map_err(|Misfit(why)| damaged(why))?;
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
    for (number, chunk) in record.chunks(VALUE_MAX).enumerate() {
        match number {
            0 => changes.put(key, chunk.to_vec()),
            _ => changes.put(&chunk_key(key, number), chunk.to_vec()),
        }
    }
}

/// The key that a change of registrations concerns, and the record to stand there; none where it
/// is deleted.
pub fn registration(change: &Change) -> (Vec<u8>, Option<Vec<u8>>) {
    fn there<T: Kept>(key: Vec<u8>, one: &T) -> (Vec<u8>, Option<Vec<u8>>) {
        let record = encode(&key, one, &[]);
        (key, Some(record))
    }
    match change {
        Change::PutOrganisation(one) => there(organisation_key(one.id), one),
        Change::PutToken(one) => there(token_key(one.id), one),
        Change::PutEventType(one) => there(event_type_key(one.organisation, &one.name), one),
        Change::PutApplication(one) => there(application_key(one.id), one),
        Change::PutEndpoint(one) => there(endpoint_key(one.application, one.id), one),
        Change::PutJob(one) => there(job_key(one.id), one),
        Change::PutRevocation(one) => there(revocation_key(&one.hash), one),
        Change::PutVisit(one) => there(visit_key(&one.key), one),
        Change::DeleteToken(id) => (token_key(*id), None),
        Change::DeleteEventType(organisation, name) => (event_type_key(*organisation, name), None),
        Change::DeleteApplication(id) => (application_key(*id), None),
        Change::DeleteEndpoint(application, id) => (endpoint_key(*application, *id), None),
        Change::DeleteJob(id) => (job_key(*id), None),
        Change::DeleteRevocation(hash) => (revocation_key(hash), None),
        Change::DeleteVisit(key) => (visit_key(key), None),
    }
}

/// The change that put a registration there, from its whole record; none where the key is not a
/// registration's.
pub fn change(key: &[u8], record: &[u8]) -> Result<Option<Change>, RecordError> {
    fn there<T: Kept>(
        key: &[u8],
        record: &[u8],
        put: fn(T) -> Change,
    ) -> Result<Option<Change>, RecordError> {
        let (one, _) = decode(key, record)?;
        Ok(Some(put(one)))
    }
    match key.first() {
        Some(&ORGANISATION) => there(key, record, Change::PutOrganisation),
        Some(&TOKEN) => there(key, record, Change::PutToken),
        Some(&EVENT_TYPE) => there(key, record, Change::PutEventType),
        Some(&APPLICATION) => there(key, record, Change::PutApplication),
        Some(&ENDPOINT) => there(key, record, Change::PutEndpoint),
        Some(&JOB) => there(key, record, Change::PutJob),
        Some(&REVOCATION) => there(key, record, Change::PutRevocation),
        Some(&VISIT) => there(key, record, Change::PutVisit),
        _ => Ok(None),
    }
}

/// The same from the record's first value, as a range gives it.
pub fn read_change(
    engine: &impl Values,
    key: &[u8],
    first: &Bytes,
) -> Result<Option<Change>, RecordError> {
    change(key, &whole(engine, key, first)?)
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
pub struct Record<T> {
    pub meta: T,
    bytes: Vec<u8>,
    raw_at: usize,
}

impl<T> Record<T> {
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
pub fn get<T: Kept>(engine: &impl Values, key: &[u8]) -> Result<Option<Record<T>>, RecordError> {
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
) -> Result<Record<T>, RecordError> {
    let bytes = whole(engine, key, first)?;
    let (meta, raw_at) = decode(key, &bytes)?;
    Ok(Record {
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
pub fn is_long(first: &[u8]) -> bool {
    chunks(first) > 1
}

/// Behind the record and all its values, and before the next.
pub fn behind_record(key: &[u8]) -> Vec<u8> {
    [key, &[0, 0xff, 0xff]].concat()
}

/// The record that this is a further value of, and the value's number.
pub fn record_of_chunk(key: &[u8]) -> (&[u8], usize) {
    let (record, number) = key.split_at(key.len() - 3);
    (
        record,
        usize::from(u16::from_be_bytes([number[1], number[2]])),
    )
}

fn whole(engine: &impl Values, key: &[u8], first: &Bytes) -> Result<Vec<u8>, RecordError> {
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

/// Whether a key of this kind, once put, is not put again before it was deleted: the committer sees
/// to that for deliveries.
pub fn is_never_put_twice(key: &[u8]) -> bool {
    key.first() == Some(&WAITING)
}

/// How long a key of this kind is, so that a range can tell a record from the further chunks of
/// the one before. Event types end with a name, which has no zero byte.
pub fn is_chunk(key: &[u8]) -> bool {
    let length = match key[0] {
        META | CHECKPOINT => 1,
        ORGANISATION | TOKEN | APPLICATION | JOB => 21,
        RESENT => 29,
        EVENT_TYPE => return key[21..].contains(&0),
        ENDPOINT | MESSAGE | ATTEMPT_OF_MESSAGE => 41,
        SLICE => 5,
        WAITING => 37,
        EVENT_ID => 37,
        ONCE | REVOCATION | VISIT => 33,
        ATTEMPT => 29,
        LANE_HOUR => 17,
        _ => return false,
    };
    key.len() > length
}

fn key(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = Vec::with_capacity(48);
    key.push(kind);
    for part in parts {
        key.extend_from_slice(part);
    }
    key
}

pub fn organisation_key(id: OrganisationId) -> Vec<u8> {
    key(ORGANISATION, &[&id.0])
}

pub fn token_key(id: TokenId) -> Vec<u8> {
    key(TOKEN, &[&id.0])
}

pub fn event_type_key(organisation: OrganisationId, name: &str) -> Vec<u8> {
    key(EVENT_TYPE, &[&organisation.0, name.as_bytes()])
}

pub fn application_key(id: ApplicationId) -> Vec<u8> {
    key(APPLICATION, &[&id.0])
}

pub fn endpoint_key(application: ApplicationId, id: EndpointId) -> Vec<u8> {
    key(ENDPOINT, &[&application.0, &id.0])
}

pub fn job_key(id: JobId) -> Vec<u8> {
    key(JOB, &[&id.0])
}

pub fn revocation_key(hash: &[u8; 32]) -> Vec<u8> {
    key(REVOCATION, &[hash])
}

pub fn visit_key(hash: &[u8; 32]) -> Vec<u8> {
    key(VISIT, &[hash])
}

pub fn resent_key(message: MessageId, lane: u64) -> Vec<u8> {
    key(RESENT, &[&message.0, &lane.to_be_bytes()])
}

pub fn slice_key(number: u32) -> Vec<u8> {
    key(SLICE, &[&number.to_be_bytes()])
}

pub fn lane_prefix(lane: u64) -> Vec<u8> {
    key(WAITING, &[&lane.to_be_bytes()])
}

pub fn waiting_key(delivery: &DeliveryKey) -> Vec<u8> {
    key(
        WAITING,
        &[
            &delivery.lane.to_be_bytes(),
            &delivery.due.0.to_be_bytes(),
            &delivery.message.0,
        ],
    )
}

pub fn message_key(application: ApplicationId, id: MessageId) -> Vec<u8> {
    key(MESSAGE, &[&application.0, &id.0])
}

pub fn messages_prefix(application: ApplicationId) -> Vec<u8> {
    key(MESSAGE, &[&application.0])
}

/// Where an event id of an application stands, and where it stood in the format before: then it was
/// unique in the organisation, and counts now where its record names the same application.
pub fn event_id_keys(
    organisation: OrganisationId,
    application: ApplicationId,
    event_id: &str,
) -> [Vec<u8>; 2] {
    use sha2::Digest;
    let hash = sha2::Sha256::digest(event_id);
    [application.0, organisation.0].map(|owner| key(EVENT_ID, &[&owner, &hash[..16]]))
}

pub fn once_key(scoped_key: &[u8; 32]) -> Vec<u8> {
    key(ONCE, &[scoped_key])
}

pub fn attempt_key(lane: u64, id: AttemptId) -> Vec<u8> {
    key(ATTEMPT, &[&lane.to_be_bytes(), &id.0])
}

pub fn attempts_prefix(lane: u64) -> Vec<u8> {
    key(ATTEMPT, &[&lane.to_be_bytes()])
}

pub fn attempt_of_message_key(message: MessageId, id: AttemptId) -> Vec<u8> {
    key(ATTEMPT_OF_MESSAGE, &[&message.0, &id.0])
}

pub fn attempts_of_message_prefix(message: MessageId) -> Vec<u8> {
    key(ATTEMPT_OF_MESSAGE, &[&message.0])
}

pub fn lane_hour_key(lane: u64, hour: u64) -> Vec<u8> {
    key(LANE_HOUR, &[&lane.to_be_bytes(), &hour.to_be_bytes()])
}

/// The hour at the end of a `C` key.
pub fn hour_at_end(key: &[u8]) -> u64 {
    let tail = key.last_chunk::<8>().copied();
    tail.map_or(0, u64::from_be_bytes)
}

/// When a slice may begin that comes after ids up to `last`: ids tell time in steps, so with the
/// next step.
pub fn next_slice_first(last: Timestamp) -> Timestamp {
    Timestamp((last.0 / ID_TIME_STEP_MS + 1) * ID_TIME_STEP_MS)
}

/// What is wrong with a slice that should have come at least as far as `expected`, if anything is.
pub fn slice_problem(
    slice: &impl Values,
    expected: &SliceMeta,
) -> Result<Option<String>, RecordError> {
    let found = get::<SliceMeta>(slice, &[META])?
        .map(|record| record.meta)
        .unwrap_or_default();
    let whole = found.commit >= expected.commit
        && found.messages >= expected.messages
        && found.attempts >= expected.attempts;
    let problem = || {
        format!(
            "it ends at commit {} with {} messages and {} attempts, and should at {} with {} and {}",
            found.commit,
            found.messages,
            found.attempts,
            expected.commit,
            expected.messages,
            expected.attempts
        )
    };
    Ok((!whole).then(problem))
}

/// The id at the end of a key.
pub fn last_id(key: &[u8]) -> [u8; 20] {
    let mut id = [0; 20];
    if let Some(tail) = key.len().checked_sub(20).and_then(|at| key.get(at..)) {
        id.copy_from_slice(tail);
    }
    id
}

/// The delivery that a `q` key names.
pub fn parse_waiting_key(key: &[u8]) -> Option<DeliveryKey> {
    if key.len() != 37 || key[0] != WAITING {
        return None;
    }
    let number = |at: usize| key[at..at + 8].try_into().map(u64::from_be_bytes).ok();
    Some(DeliveryKey {
        lane: number(1)?,
        due: Timestamp(number(9)?),
        message: MessageId(last_id(key)),
    })
}

#[cfg(test)]
pub(super) mod golden;

#[cfg(test)]
mod tests {
    use super::super::engine::Engine;
    use super::*;
    use proptest::prelude::*;

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
                &SliceRecord::beginning(Timestamp(7)),
                &raw,
            );
            engine.commit(changes).unwrap();
            let record: Record<SliceRecord> = get(&engine, &key).unwrap().unwrap();
            assert_eq!(record.meta.first, Timestamp(7));
            assert_eq!(record.raw(), raw);
            assert_eq!(record.into_payload()[..], raw);
        }
        assert_eq!(engine.prefix(&[SLICE]).count(), 1);
    }

    #[test]
    fn a_newer_schema_and_a_wrong_place_are_named() {
        let key = slice_key(1);
        let mut record = encode(&key, &SliceRecord::beginning(Timestamp(7)), &[]);
        assert!(decode::<SliceRecord>(&key, &record).is_ok());
        assert!(matches!(
            decode::<SliceRecord>(&slice_key(2), &record),
            Err(RecordError::Damaged { .. })
        ));
        record[2] = 2;
        assert!(matches!(
            decode::<SliceRecord>(&key, &record),
            Err(RecordError::Newer {
                kind: SLICE,
                schema: 2
            })
        ));
    }

    #[test]
    fn a_change_of_registrations_leads_to_its_record_and_back() {
        let mut kinds = Vec::new();
        for row in golden::rows::all() {
            let Some(put) = change(&row.key, &row.record).unwrap() else {
                continue;
            };
            kinds.push(row.key[0]);
            let (key, record) = registration(&put);
            assert_eq!(key, row.key);
            let record = record.expect("it is put");
            // Older schemas are written as the newest.
            let again = change(&key, &record).unwrap();
            assert_eq!(format!("{again:?}"), format!("{:?}", Some(put)));
        }
        kinds.sort();
        kinds.dedup();
        let mut expected = REGISTRATIONS;
        expected.sort();
        assert_eq!(kinds, expected);
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
