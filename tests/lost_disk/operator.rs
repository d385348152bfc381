//! What an operator does with the copy, and what lies in it: commands and their reports, the newest manifest, and the
//! bytes of payloads in files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde_json::Value;

use super::books::MARK;

/// The head of an object that is not encrypted.
const PLAIN_HEAD_BYTES: usize = 10;

/// What `restore` and `verify-backup` print.
#[derive(Clone, Debug)]
pub struct Report {
    pub messages: u64,
    pub attempts: u64,
    pub registrations: u64,
    pub waiting: u64,
    /// The time of the last record, in milliseconds since 1970.
    pub moment: u64,
    pub stream: String,
}

impl Report {
    pub fn read(text: &str) -> Option<Report> {
        let count = |kind: &str| -> Option<u64> {
            let mut lines = text.lines();
            let rest = lines.find_map(|line| line.strip_prefix(kind))?;
            rest.trim().parse().ok()
        };
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix("the store is as it was at "))?;
        let (moment, rest) = line.split_once(" (record ")?;
        let (_, stream) = rest.split_once(" of stream ")?;
        Some(Report {
            messages: count("messages ")?,
            attempts: count("attempts ")?,
            registrations: count("registrations ")?,
            waiting: count("waiting deliveries ")?,
            moment: millis(moment)?,
            stream: stream.trim_end_matches(')').to_owned(),
        })
    }
}

/// Milliseconds since 1970 of a time as postrider writes it.
pub fn millis(text: &str) -> Option<u64> {
    let instant: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(instant.as_millisecond()).ok()
}

/// The newest manifest in the folder of a stream.
pub fn newest_manifest(folder: &Path) -> Option<PathBuf> {
    let manifests = files_below(folder).into_iter().filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("manifest-") && !name.contains('#')
    });
    manifests.max()
}

/// When a file was written, in milliseconds since 1970 by the system's clock.
pub fn written_at(path: &Path) -> u64 {
    let modified = std::fs::metadata(path).and_then(|one| one.modified());
    let modified = modified.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let since = modified.duration_since(UNIX_EPOCH);
    since.expect("it is after 1970").as_millis() as u64
}

/// The files of the objects that the newest manifest names, where the copy is not encrypted.
pub fn named_objects(folder: &Path) -> Vec<PathBuf> {
    let Some(manifest) = newest_manifest(folder) else {
        return Vec::new();
    };
    let mut names = Vec::new();
    // The garbage is a list of names alone, and is not needed any more.
    collect_names(&read_json(&manifest), &mut names);
    let lists = names.iter().filter(|name| name.starts_with("sealed-"));
    for list in Vec::from_iter(lists.cloned()) {
        collect_names(&read_json(&folder.join(list)), &mut names);
    }
    names.into_iter().map(|name| folder.join(name)).collect()
}

fn read_json(path: &Path) -> Value {
    // A run may have put another in its place meanwhile.
    let bytes = std::fs::read(path).unwrap_or_default();
    let content = bytes.get(PLAIN_HEAD_BYTES..).unwrap_or_default();
    serde_json::from_slice(content).unwrap_or(Value::Null)
}

fn collect_names(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|one| collect_names(one, names)),
        Value::Object(fields) => {
            if let Some(name) = fields.get("name").and_then(Value::as_str) {
                names.push(name.to_owned());
            }
            fields.values().for_each(|one| collect_names(one, names));
        }
        _ => {}
    }
}

pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let below = paths.flat_map(|path| match path.is_dir() {
        true => files_below(&path),
        false => vec![path],
    });
    below.collect()
}

/// The numbers of messages of whose payloads there are bytes in these files, with the file of each.
pub fn numbers_in(files: &[PathBuf]) -> BTreeMap<u64, PathBuf> {
    let finder = memchr::memmem::Finder::new(MARK);
    let mut found = BTreeMap::new();
    for path in files {
        // One that is gone by now has nothing.
        let content = std::fs::read(path).unwrap_or_default();
        for at in finder.find_iter(&content) {
            let digits = content.get(at + MARK.len()..at + MARK.len() + 8);
            let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
            let number = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
            if let Some(number) = number {
                found.entry(number).or_insert_with(|| path.clone());
            }
        }
    }
    found
}
