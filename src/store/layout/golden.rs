//! The bytes on disk, pinned: a field or a variant that moved, a schema that changed without a new
//! number, and a record that is not read any more fail here.
//!
//! `rows` has a row for each schema of each struct that stands in records. A row says the key, the
//! whole record and the value. The record is read as the value, and if the schema is the one that is
//! written, the value is written as the record. The bytes of a row are never changed: what is on
//! somebody's disk does not change either.
//!
//! A new schema or struct needs a row (see docs/testing.md). Give the value, with no option absent
//! and no two fields alike, and no bytes. The test says which bytes it found, spelled for the row:
//! check them by hand before you copy them. The row of the schema before keeps its bytes; only its
//! value gains the new fields.

use std::collections::BTreeSet;
use std::fmt::Debug;

use serde::Serialize;

use super::*;
use crate::domain::attempt::Trigger;
use crate::domain::message::Origin;
use crate::store::record::{self, NotARecord};

pub(in crate::store) mod rows;
mod variants;

/// A pinned record.
pub(in crate::store) struct Row {
    name: &'static str,
    schema: u16,
    pub key: Vec<u8>,
    pub record: Vec<u8>,
    problems: Vec<String>,
}

/// Reads pinned bytes: hex digits with spaces wherever they help; `04*20` is 20 bytes, all `04`.
pub(in crate::store) fn bytes(pinned: &str) -> Vec<u8> {
    let word = |word: &str| {
        let (digits, times) = word.split_once('*').unwrap_or((word, "1"));
        let bytes = hex::decode(digits).unwrap_or_else(|_| panic!("'{word}' is not hex"));
        bytes.repeat(times.parse().expect("a number of times"))
    };
    pinned.split_whitespace().flat_map(word).collect()
}

/// Bytes as a row spells them.
fn spelled(bytes: &[u8]) -> String {
    let mut text = String::new();
    let runs = bytes.chunk_by(|one, next| one == next);
    let mut in_run = true;
    for run in runs {
        let is_long = run.len() >= 8;
        if (is_long || in_run) && !text.is_empty() {
            text.push(' ');
        }
        in_run = is_long;
        match is_long {
            true => text += &format!("{:02x}*{}", run[0], run.len()),
            false => text += &hex::encode(run),
        }
    }
    text
}

/// Nothing, or the lines of 16 bytes in which the two differ, and what was found.
fn difference(what: &str, pinned: &[u8], found: &[u8]) -> Option<String> {
    const WIDTH: usize = 16;
    if pinned == found {
        return None;
    }
    let mut text = format!("{what}:\n");
    let length = pinned.len().max(found.len());
    for from in (0..length).step_by(WIDTH) {
        let line = |bytes: &[u8]| {
            let to = bytes.len().min(from + WIDTH);
            let line = bytes.get(from..to).unwrap_or_default();
            let each = line.iter().map(|byte| format!("{byte:02x}"));
            each.collect::<Vec<_>>().join(" ")
        };
        let (pinned, found) = (line(pinned), line(found));
        if pinned != found {
            text += &format!("  {from:4}  pinned  {pinned}\n        found   {found}\n");
        }
    }
    text += &format!("  found, as a row spells it: {}\n", spelled(found));
    Some(text)
}

/// For what is on disk and is no record.
#[track_caller]
pub(in crate::store) fn assert_bytes(what: &str, pinned: &str, found: &[u8]) {
    if let Some(problem) = difference(what, &bytes(pinned), found) {
        panic!("the format changed.\n{problem}");
    }
}

/// A row, checked. `key` is what is pinned, and what is made today.
fn row<T: Kept + Debug + PartialEq>(
    schema: u16,
    key: (&str, Vec<u8>),
    record: &str,
    value: &T,
    raw: &[u8],
) -> Row {
    let name = std::any::type_name::<T>().rsplit("::").next();
    let name = name.expect("a type has a name");
    let (pinned_key, key) = (bytes(key.0), key.1);
    let pinned = bytes(record);
    let mut problems = Vec::new();
    problems.extend(difference("the key", &pinned_key, &key));
    if key[0] != T::KIND || is_chunk(&key) {
        problems.push("the key is not one of its kind\n".to_owned());
    }
    if schema == T::SCHEMA {
        let written = encode(&key, value, raw);
        problems.extend(difference("the record as written", &pinned, &written));
    } else if pinned.get(2..4) != Some(&schema.to_le_bytes()) {
        problems.push("the record is of another schema\n".to_owned());
    }
    match decode::<T>(&key, &pinned) {
        Err(error) => problems.push(format!("the record does not read: {error}\n")),
        Ok((read, raw_at)) => {
            if read != *value {
                problems.push(format!(
                    "it reads as another value:\n  {read:?}\nin place of\n  {value:?}\n"
                ));
            }
            problems.extend(difference("the raw bytes", raw, &pinned[raw_at..]));
        }
    }
    Row {
        name,
        schema,
        key,
        record: pinned,
        problems,
    }
}

#[test]
fn records_are_written_and_read_as_ever() {
    let problems: String = rows::all()
        .iter()
        .filter(|row| !row.problems.is_empty())
        .map(|row| {
            let problems = row.problems.concat();
            format!("{}, schema {}: {problems}", row.name, row.schema)
        })
        .collect();
    assert!(problems.is_empty(), "the format changed.\n{problems}");
}

#[test]
fn every_schema_of_every_struct_has_a_row() {
    let expected: BTreeSet<_> = KINDS
        .iter()
        .flat_map(|(name, newest)| (1..=*newest).map(move |schema| (*name, schema)))
        .collect();
    let pinned: BTreeSet<_> = rows::all()
        .iter()
        .map(|row| (row.name, row.schema))
        .collect();
    assert_eq!(pinned, expected, "see docs/testing.md");
    let letters: BTreeSet<u8> = rows::all().iter().map(|row| row.key[0]).collect();
    let letters: Vec<u8> = letters.into_iter().collect();
    assert_eq!(
        String::from_utf8_lossy(&letters),
        "ACEIMQTWacdehjkmopqrstvx"
    );
}

/// Every variant of every enum that stands in records, with its bytes.
#[test]
fn variants_are_written_and_read_as_ever() {
    let mut problems = Vec::new();
    let pinned = variants::all(&mut problems);
    assert!(
        problems.is_empty(),
        "the format changed.\n{}",
        problems.concat()
    );
    for (name, file) in enums_of_records() {
        assert!(
            pinned.contains(name.as_str()),
            "{name} of {file} has no rows, see docs/testing.md"
        );
    }
}

/// Problems of a variant: in its record as it is written, or in the value that its bytes are read as.
fn check_variant<T: Debug + PartialEq>(
    pinned: &str,
    value: &T,
    record: impl Serialize,
    read: impl Fn(&[u8]) -> Result<T, NotARecord>,
) -> Option<String> {
    let pinned = bytes(pinned);
    let what = format!("{value:?}");
    let read = read(&pinned);
    if read.as_ref().is_ok_and(|read| read != value) {
        return Some(format!("{what}: the pinned bytes read as {read:?}\n"));
    }
    let written = record::bytes_of(&record);
    difference(&what, &pinned, &written)
}

/// The enums that stand in records, and their files.
fn enums_of_records() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (file, text) in record::walls::files() {
        if file == "values.rs" {
            continue; // It has the macro, and enums that rows pin.
        }
        let mut is_written = false;
        for line in text.lines().map(str::trim_start) {
            if line.starts_with("#[derive(") {
                is_written = line.contains("Serialize");
            }
            let words: Vec<&str> = line.split([' ', '<']).collect();
            match words[..] {
                ["pub", "enum", name, ..] if is_written => {
                    found.push((name.to_owned(), file.clone()));
                }
                // In `mirrored!`.
                [name, "of", _, "{", ..] if !line.starts_with("//") => {
                    found.push((name.to_owned(), file.clone()));
                }
                _ => {}
            }
        }
    }
    assert!(found.len() > 10, "the sources have moved: {found:?}");
    found
}
