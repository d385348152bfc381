//! The format on disk: its specification.
//!
//! A store is a directory with one live database, a journal, and files:
//!
//! | path | what |
//! |---|---|
//! | `live/` | registrations and everything that waits |
//! | `journal/` | all that was committed, in the order it was: messages and attempts, as long as they are kept, and what is not in the live database yet; see `journal` and `effects` |
//! | `slices/NNNNNNNN/index` | where in the journal the messages and attempts of a stretch of time stand; can be made again; see `index` |
//! | `slices/NNNNNNNN/keys` | which keys a sealed slice may hold; can be made again; see `filters` |
//! | `slices/NNNNNNNN/` | written before history was in the journal: a database of messages and attempts |
//! | `checkpoint` | all of `live` in one file, written now and then; see `checkpoint_file` |
//! | `applied` | [`Checkpoint`] once more, for when `live` cannot be read |
//! | `live.new/`, `live.damaged-TIME/` | one that is being made anew, and one that was; see `rebuild` |
//! | `live.unreadable` | the reason for which the next start makes `live` anew; see `rebuild` |
//! | `export.json` | the registrations, written now and then; see `export` |
//! | `owner.token` | the first owner's credential |
//! | `lock` | held while a process has the store open |
//!
//! Keys begin with a letter for the kind. Numbers are big-endian so that keys sort as what they
//! mean; ids are their 20 bytes.
//!
//! | in | key | record |
//! |---|---|---|
//! | live | `m` | [`Meta`]: format, last commit, counts |
//! | live | `k` | [`Checkpoint`]: how far the databases have the journal |
//! | live | `o` organisation | [`Organisation`] |
//! | live | `t` token | [`Token`] |
//! | live | `e` organisation, name | [`EventType`] |
//! | live | `a` application | [`Application`] |
//! | live | `c` application | [`Contact`]: who hears by e-mail of its endpoints, and codes that are on their way |
//! | live | `p` application, endpoint | [`Endpoint`] |
//! | live | `s` slice u32 | [`SliceRecord`] |
//! | live | `j` job | [`Job`] |
//! | live | `x` SHA-256 of a token | [`Revocation`] |
//! | live | `v` SHA-256 of a cookie | [`Visit`]: who is signed in |
//! | live | `r` message, lane u64 | [`Resent`]: where a delivery waits that was made due by hand, or while the clock was set back |
//! | live | `d` application | [`Erasure`]: a deleted application whose messages still have content, and how far erasing it has come |
//! | live | `h` lane u64 | [`Health`]: of an endpoint whose attempts fail, or of which a person was told lately |
//! | live | `q` lane u64, due u64 ms, message | [`Waiting`]: a delivery that waits |
//! | journal | `M` application, message | [`MessageMeta`], and the payload as a part of its own |
//! | journal | `E` application, SHA-256 of the event id (16 bytes), message | leads to the message |
//! | journal | `I` SHA-256 of the idempotency key in its scope | [`OnceRecord`], then the answer's body |
//! | journal | `A` lane u64, attempt | [`Attempt`] without [`RequestContent`] (`Q`) and [`AnswerContent`] (`W`), which are parts of their own |
//! | journal | `T` message, attempt, lane u64 | leads to the attempt |
//! | slice | `m` | [`SliceMeta`] |
//! | slice | `M` application, message | [`MessageMeta`], then the payload's bytes |
//! | slice | `E` application, SHA-256 of the event id (16 bytes) | [`EventIdRecord`]; before, under the organisation |
//! | slice | `I` SHA-256 of the idempotency key in its scope | [`OnceRecord`], then the answer's body |
//! | slice | `A` lane u64, attempt | [`Attempt`] |
//! | slice | `T` message, attempt | [`AttemptPlace`]: which lane the attempt stands under |
//! | slice | `C` lane u64, hours since 1970 u64 | [`LaneHour`]: what happened at a lane in an hour |
//!
//! "Slice" in the first column is a database of history; nothing comes into these any more, and
//! retention takes them one by one.
//!
//! A record stands in an envelope ([`envelope`]) with its kind, which is the key's letter, its schema
//! and a checksum; raw bytes may follow the struct. The structs are those of [`record`](super::record), each frozen with its
//! schema number ([`Kept::SCHEMA`]); `golden` pins the bytes of each schema of each. [`registration`]
//! and [`change`] lead from a change of registrations to what stands on disk and back, [`waiting`] and
//! [`delivery`] from a delivery in the queue.

use super::engine::{Bytes, Values};
use crate::catalog::Change;
pub use envelope::{
    RecordError, at_a_glance, behind_record, decode, delete, encode, get, put, put_encoded, read,
    record_of_chunk, replace, replace_with,
};

use super::record::Kept;
pub use super::record::attempt::AttemptPlace;
pub use super::record::checkpoint::Checkpoint;
pub use super::record::content::{AnswerContent, RequestContent, put_content, take_content};
pub use super::record::erasure::Erasure;
pub use super::record::lane_hour::LaneHour;
pub use super::record::message::MessageMeta;
pub use super::record::meta::Meta;
pub use super::record::slice::{SliceMeta, SliceRecord, Stretch};
pub use super::record::unique::{EventIdRecord, OnceAnswer, OnceRecord};
pub use super::record::waiting::{Resent, Waiting};
use crate::clock::Timestamp;
use crate::domain::application::Application;
use crate::domain::attempt::Attempt;
use crate::domain::contact::Contact;
use crate::domain::endpoint::Endpoint;
use crate::domain::event_type::EventType;
use crate::domain::health::Health;
use crate::domain::id::{
    ApplicationId, AttemptId, EndpointId, ID_TIME_STEP_MS, JobId, MessageId, OrganisationId,
    TokenId,
};
use crate::domain::job::Job;
use crate::domain::message::{Delivery, DeliveryKey};
use crate::domain::organisation::Organisation;
use crate::domain::token::{Revocation, Token};
use crate::domain::visit::Visit;

mod envelope;

/// The number of this format as a whole; a store with a higher one is refused.
pub const FORMAT: u32 = 3;
/// History was in databases of its own, and there was no journal, or all of it was in the databases. It
/// was 2 while the version before this one ran, and after it was killed.
pub const FORMAT_OF_SLICES: u32 = 1;

pub const META: u8 = b'm';
pub const CHECKPOINT: u8 = b'k';
pub const ORGANISATION: u8 = b'o';
pub const TOKEN: u8 = b't';
pub const EVENT_TYPE: u8 = b'e';
pub const APPLICATION: u8 = b'a';
pub const CONTACT: u8 = b'c';
pub const ENDPOINT: u8 = b'p';
pub const SLICE: u8 = b's';
pub const JOB: u8 = b'j';
pub const REVOCATION: u8 = b'x';
pub const VISIT: u8 = b'v';
pub const ERASURE: u8 = b'd';
pub const HEALTH: u8 = b'h';
pub const RESENT: u8 = b'r';
pub const WAITING: u8 = b'q';
pub const MESSAGE: u8 = b'M';
pub const EVENT_ID: u8 = b'E';
pub const ONCE: u8 = b'I';
pub const ATTEMPT: u8 = b'A';
pub const ATTEMPT_OF_MESSAGE: u8 = b'T';
pub const LANE_HOUR: u8 = b'C';
pub const REQUEST: u8 = b'Q';
pub const ANSWER: u8 = b'W';

/// How long a key is under which an event id is looked up.
pub const EVENT_ID_KEY_BYTES: usize = 37;

/// The kinds of registrations, in an order in which they can be read: contacts and endpoints
/// after what owns them.
pub const REGISTRATIONS: [u8; 9] = [
    ORGANISATION,
    TOKEN,
    EVENT_TYPE,
    APPLICATION,
    CONTACT,
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
    CONTACT Contact,
    ENDPOINT Endpoint,
    SLICE SliceRecord,
    JOB Job,
    REVOCATION Revocation,
    VISIT Visit,
    ERASURE Erasure,
    HEALTH Health,
    RESENT Resent,
    WAITING Waiting,
    META SliceMeta,
    MESSAGE MessageMeta,
    EVENT_ID EventIdRecord,
    ONCE OnceRecord,
    ATTEMPT Attempt,
    REQUEST RequestContent,
    ANSWER AnswerContent,
    ATTEMPT_OF_MESSAGE AttemptPlace,
    LANE_HOUR LaneHour,
);

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
        Change::PutContact(one) => there(contact_key(one.application), one),
        Change::PutEndpoint(one) => there(endpoint_key(one.application, one.id), one),
        Change::PutJob(one) => there(job_key(one.id), one),
        Change::PutRevocation(one) => there(revocation_key(&one.hash), one),
        Change::PutVisit(one) => there(visit_key(&one.key), one),
        Change::DeleteToken(id) => (token_key(*id), None),
        Change::DeleteEventType(organisation, name) => (event_type_key(*organisation, name), None),
        Change::DeleteApplication(id) => (application_key(*id), None),
        Change::DeleteContact(application) => (contact_key(*application), None),
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
        Some(&CONTACT) => there(key, record, Change::PutContact),
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
    change(key, &envelope::whole(engine, key, first)?)
}

/// The key and the record of a delivery that waits.
pub fn waiting(delivery: &Delivery) -> (Vec<u8>, Vec<u8>) {
    let key = waiting_key(&delivery.key);
    let waiting = Waiting {
        attempts: delivery.attempts,
        trigger: delivery.trigger,
    };
    let record = encode(&key, &waiting, &[]);
    (key, record)
}

/// The delivery that waits with this key and record.
pub fn delivery(key: &[u8], record: &[u8]) -> Result<Delivery, RecordError> {
    let place = parse_waiting_key(key).ok_or(RecordError::Damaged {
        kind: WAITING,
        why: "its key is not one of a delivery",
    })?;
    let (waiting, _) = decode::<Waiting>(key, record)?;
    Ok(Delivery {
        key: place,
        attempts: waiting.attempts,
        trigger: waiting.trigger,
    })
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
        ORGANISATION | TOKEN | APPLICATION | CONTACT | JOB | ERASURE => 21,
        RESENT => 29,
        EVENT_TYPE => return key[21..].contains(&0),
        ENDPOINT | MESSAGE | ATTEMPT_OF_MESSAGE => 41,
        SLICE => 5,
        HEALTH => 9,
        WAITING => 37,
        EVENT_ID => EVENT_ID_KEY_BYTES,
        ONCE | REVOCATION | VISIT => 33,
        ATTEMPT | REQUEST | ANSWER => 29,
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

pub fn contact_key(application: ApplicationId) -> Vec<u8> {
    key(CONTACT, &[&application.0])
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

pub fn erasure_key(application: ApplicationId) -> Vec<u8> {
    key(ERASURE, &[&application.0])
}

/// The application that such a key names.
pub fn application_of_erasure(key: &[u8]) -> Result<ApplicationId, RecordError> {
    let id = key.get(1..).and_then(|id| id.try_into().ok());
    id.map(ApplicationId).ok_or(RecordError::Damaged {
        kind: ERASURE,
        why: "its key is not one of an application",
    })
}

pub fn health_key(lane: u64) -> Vec<u8> {
    key(HEALTH, &[&lane.to_be_bytes()])
}

/// The lane that such a key names.
pub fn lane_of_health(key: &[u8]) -> Result<u64, RecordError> {
    let lane = key.get(1..).and_then(|lane| lane.try_into().ok());
    lane.map(u64::from_be_bytes).ok_or(RecordError::Damaged {
        kind: HEALTH,
        why: "its key is not one of a lane",
    })
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

/// Where an attempt in the journal is found by its message.
pub fn attempt_of_message_at(message: MessageId, id: AttemptId, lane: u64) -> Vec<u8> {
    key(
        ATTEMPT_OF_MESSAGE,
        &[&message.0, &id.0, &lane.to_be_bytes()],
    )
}

/// The message that such a key names.
pub fn message_of_attempt(key: &[u8]) -> Option<MessageId> {
    let id = key.get(1..).and_then(|id| id.first_chunk());
    id.map(|id| MessageId(*id))
}

/// The attempt and its lane that such a key names.
pub fn parse_attempt_of_message(key: &[u8]) -> Option<(AttemptId, u64)> {
    let (rest, lane) = key.split_last_chunk::<8>()?;
    let id = AttemptId(*rest.last_chunk::<20>()?);
    (key.len() == 49).then_some((id, u64::from_be_bytes(*lane)))
}

/// Where a message in the journal is found by its event id.
pub fn event_id_at(event_id_key: &[u8], message: MessageId) -> Vec<u8> {
    [event_id_key, &message.0].concat()
}

/// The key of the other parts of an attempt.
pub fn content_key(kind: u8, attempt_key: &[u8]) -> Vec<u8> {
    [&[kind], &attempt_key[1..]].concat()
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

/// The problem of a database of history that should have come at least as far as `expected`, if it has one.
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

/// The first key behind everything that starts with `prefix`, which does not end in `0xff` only.
pub fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < 0xff {
            *last += 1;
            return end;
        }
        end.pop();
    }
    end
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
    use super::*;
    use crate::domain::attempt::Trigger;

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
    fn a_delivery_leads_to_its_record_and_back() {
        let waits = Delivery {
            key: DeliveryKey {
                lane: 258,
                due: golden::rows::AT,
                message: golden::rows::MESSAGE_ID,
            },
            attempts: 3,
            trigger: Trigger::Manual,
        };
        let (key, record) = waiting(&waits);
        let pinned = golden::rows::pinned("Waiting", 1);
        assert_eq!((&key, &record), (&pinned.key, &pinned.record));
        assert_eq!(delivery(&key, &record).unwrap(), waits);
        assert!(delivery(&key[1..], &record).is_err());
    }
}
