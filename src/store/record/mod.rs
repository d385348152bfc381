//! The values that stand on disk, as types of their own: one file for each kind of record.
//!
//! A *kept* value is what the rest of the store works with: a type of the domain, or one of the
//! store's own in the file of its kind. A *record* is the same value as it is written. It is made
//! of numbers, texts, bytes, lists and other records, never of a type of the domain, so a change of
//! the domain changes no byte on disk: it either leaves the conversion here alone or stops it from
//! compiling. To write a value costs no allocation on the way of a message: its record borrows.
//!
//! A record's name ends in the number of its schema, and it is frozen with that number: order and
//! types of its fields, order of its variants. A change means a struct with the next number beside
//! it, one `From` that leads from the old to the new one, and a new [`Kept::SCHEMA`]. Only the
//! newest is written, and all are read. A schema that only added values holds the one before it:
//! bincode writes a struct within a struct as its values alone. `layout::golden` pins the bytes of
//! each.
//!
//! Keys, and the envelope around a record, are [`layout`](super::layout)'s. A registration's newest
//! record is also what an export holds, as JSON: ids, addresses and networks are texts there, and
//! a field that came later than the first export has a default.

use bincode::Options;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::layout::Listed;

pub mod application;
pub mod attempt;
pub mod checkpoint;
pub mod contact;
pub mod content;
pub mod endpoint;
pub mod erasure;
pub mod event_type;
pub mod health;
pub mod job;
pub mod lane_hour;
pub mod message;
pub mod meta;
pub mod organisation;
pub mod revocation;
pub mod slice;
pub mod token;
pub mod unique;
mod values;
pub mod visit;
pub mod waiting;

/// The longest record: a message's payload and its meta, with room to spare.
pub const RECORD_MAX: usize = 64 << 20;

/// A value that stands in records.
pub trait Kept: Listed + Sized {
    /// The schema that is written; every lower one can be read.
    const SCHEMA: u16;

    /// The record of that schema.
    type Record<'a>: Serialize + From<&'a Self>
    where
        Self: 'a;

    /// Reads the record of this schema, which is at most [`Kept::SCHEMA`], and makes the value of it.
    /// `bytes` is left behind the record.
    fn read(schema: u16, bytes: &mut &[u8]) -> Result<Self, NotARecord>;
}

/// Says why bytes with a good checksum are not a record of their kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotARecord(pub &'static str);

impl From<bincode::Error> for NotARecord {
    fn from(_: bincode::Error) -> NotARecord {
        NotARecord("its content does not fit its kind")
    }
}

/// Appends the record of a value, in the newest schema.
pub fn write<T: Kept>(value: &T, bytes: &mut Vec<u8>) {
    format()
        .serialize_into(bytes, &T::Record::from(value))
        .expect("a struct of ours can be serialised");
}

/// Reads the record of a value in any schema up to the newest; `bytes` is left behind it.
pub fn read<T: Kept>(schema: u16, bytes: &mut &[u8]) -> Result<T, NotARecord> {
    match schema {
        0 => Err(NotARecord("there is no schema 0")),
        _ => T::read(schema, bytes),
    }
}

/// The bytes of a part of a record.
#[cfg(test)]
pub fn bytes_of(part: &impl Serialize) -> Vec<u8> {
    format().serialize(part).expect("plain data")
}

/// Reads one struct; `bytes` is left behind it.
pub(super) fn read_struct<T: DeserializeOwned>(bytes: &mut &[u8]) -> bincode::Result<T> {
    format().deserialize_from(bytes)
}

fn format() -> impl Options {
    bincode::options()
        .with_varint_encoding()
        .allow_trailing_bytes()
        .with_limit(RECORD_MAX as u64)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) mod walls;
