//! The registrations as a file beside the database, and a new store made from one.
//!
//! The file is JSON, readable by its owner alone because it holds the endpoints' secrets, and is
//! replaced in one step: whoever reads it finds a whole one. A destroyed database then costs at
//! most the history and what was waiting.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::record::NotARecord;
use super::record::application::Application2;
use super::record::contact::Contact1;
use super::record::endpoint::Endpoint7;
use super::record::event_type::EventType4;
use super::record::organisation::Organisation1;
use super::record::revocation::Revocation1;
use super::record::token::Token6;
use super::{Inner, OpenError, StoreSettings, checkpoint_file, directory, engine, hold, open};
use crate::catalog::Change;
use crate::clock::{Clock, Timestamp};

pub const FILE_NAME: &str = "export.json";

/// The name by which a report counts them.
const ENDPOINTS: &str = "endpoints";

/// The number of this file's format. The first one had no contacts.
const FORMAT: u32 = 2;

#[derive(Serialize, Deserialize)]
struct Export<'a> {
    format: u32,
    exported_at: u64,
    last_endpoint_number: u64,
    registrations: Vec<Registration<'a>>,
}

/// A registration by its newest record.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(
    clippy::large_enum_variant,
    reason = "most of them are endpoints, and all are written one after the other"
)]
enum Registration<'a> {
    Organisation(Organisation1<'a>),
    Token(Token6<'a>),
    EventType(EventType4<'a>),
    Application(Application2<'a>),
    Contact(Contact1<'a>),
    Endpoint(Endpoint7<'a>),
    Revocation(Revocation1),
}

/// The result of a restore: how many of each thing are back.
#[derive(Debug)]
pub struct RestoreReport {
    pub exported_at: Timestamp,
    /// How many of each kind of registration.
    pub counts: Vec<(String, u64)>,
}

impl RestoreReport {
    pub fn endpoints(&self) -> usize {
        let endpoints = self.counts.iter().find(|(kind, _)| kind == ENDPOINTS);
        endpoints.map_or(0, |(_, count)| *count as usize)
    }
}

pub fn write(inner: &Inner) -> std::io::Result<()> {
    let (contents, last_endpoint_number) = {
        let catalog = inner.catalog();
        (catalog.contents(), catalog.last_endpoint_number())
    };
    let export = Export {
        format: FORMAT,
        exported_at: inner.clock.now().0,
        last_endpoint_number,
        registrations: contents.iter().filter_map(registration).collect(),
    };
    let path = &inner.settings.path;
    let temporary = path.join("export.json.new");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    let mut writer = BufWriter::new(file);
    serde_json::to_writer(&mut writer, &export)?;
    writer.flush()?;
    writer
        .into_inner()
        .map_err(|error| error.into_error())?
        .sync_all()?;
    std::fs::rename(&temporary, path.join(FILE_NAME))?;
    engine::sync_directory(path)
}

fn registration(change: &Change) -> Option<Registration<'_>> {
    match change {
        Change::PutOrganisation(one) => Some(Registration::Organisation(one.into())),
        Change::PutToken(one) => Some(Registration::Token(one.into())),
        Change::PutEventType(one) => Some(Registration::EventType(one.into())),
        Change::PutApplication(one) => Some(Registration::Application(one.into())),
        Change::PutContact(one) => Some(Registration::Contact(one.into())),
        Change::PutEndpoint(one) => Some(Registration::Endpoint(one.into())),
        Change::PutRevocation(one) => Some(Registration::Revocation(one.into())),
        Change::PutJob(_)
        | Change::PutVisit(_)
        | Change::DeleteVisit(_)
        | Change::DeleteJob(_)
        | Change::DeleteRevocation(_)
        | Change::DeleteApplication(_)
        | Change::DeleteContact(_)
        | Change::DeleteEndpoint(..)
        | Change::DeleteEventType(..)
        | Change::DeleteToken(_) => None,
    }
}

/// The place of the kind among those that a report counts, and the change that puts it there.
fn read(registration: Registration<'_>) -> Result<(usize, Change), NotARecord> {
    Ok(match registration {
        Registration::Organisation(one) => (0, Change::PutOrganisation(one.into())),
        Registration::Token(one) => (1, Change::PutToken(one.try_into()?)),
        Registration::EventType(one) => (2, Change::PutEventType(one.into())),
        Registration::Application(one) => (3, Change::PutApplication(one.into())),
        Registration::Endpoint(one) => (4, Change::PutEndpoint(one.try_into()?)),
        Registration::Revocation(one) => (5, Change::PutRevocation(one.into())),
        Registration::Contact(one) => (6, Change::PutContact(one.into())),
    })
}

/// Starts a new store from an export; there must be none at the settings' path. With `hold` all its endpoints are
/// held until somebody releases them.
pub fn restore(
    settings: &StoreSettings,
    from: &Path,
    clock: &Clock,
    hold: bool,
) -> Result<RestoreReport, OpenError> {
    let path = &settings.path;
    let io = |source| OpenError::Io {
        path: from.to_owned(),
        source,
    };
    let not_one = |reason: String| OpenError::NoExport {
        path: from.to_owned(),
        reason,
    };
    let file = BufReader::new(File::open(from).map_err(io)?);
    let export: Export<'_> =
        serde_json::from_reader(file).map_err(|error| not_one(error.to_string()))?;
    if export.format > FORMAT {
        return Err(OpenError::Newer {
            path: from.to_owned(),
            found: export.format,
            known: FORMAT,
        });
    }
    let holds_one = |part: &&str| path.join(part).exists();
    let parts = ["live", "slices", "journal", checkpoint_file::FILE_NAME];
    if parts.iter().any(holds_one) {
        return Err(OpenError::Unsafe(format!(
            "{} holds a store already; move it away first",
            path.display()
        )));
    }
    let mut counts = [0; 7];
    let mut contents = Vec::with_capacity(export.registrations.len());
    for registration in export.registrations {
        let (kind, change) =
            read(registration).map_err(|NotARecord(why)| not_one(why.to_owned()))?;
        counts[kind] += 1;
        contents.push(change);
    }
    if hold {
        hold::hold_contents(&mut contents, clock.now());
    }
    for directory in [path.clone(), path.join("slices")] {
        directory::create_directory(&directory).map_err(|source| OpenError::Io {
            path: directory,
            source,
        })?;
    }
    let live = open::open_engine(&path.join("live"), settings.cache_bytes / 2, path)?;
    open::create(&live, &contents, export.last_endpoint_number, clock.now())
        .map_err(|error| open::to_open_error(path, error.into()))?;
    let names = [
        "organisations",
        "tokens",
        "event types",
        "applications",
        ENDPOINTS,
        "revoked tokens",
        "contacts",
    ];
    Ok(RestoreReport {
        exported_at: Timestamp(export.exported_at),
        counts: names
            .iter()
            .map(|name| (*name).to_owned())
            .zip(counts)
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::layout::{self, golden::rows};

    /// A registration of each kind, with everything that it can have.
    fn exported() -> Vec<Change> {
        let rows = [
            rows::pinned("Organisation", 1),
            rows::pinned("Token", 6),
            rows::pinned("EventType", 4),
            rows::pinned("Application", 2),
            rows::pinned("Contact", 1),
            rows::pinned("Endpoint", 7),
            rows::pinned("Revocation", 1),
        ];
        let changes = rows.map(|row| layout::change(&row.key, &row.record));
        let changes = changes.into_iter();
        changes
            .map(|change| change.unwrap().expect("it is one"))
            .collect()
    }

    #[test]
    fn registrations_are_written_and_read_as_ever() {
        let golden = include_str!("export.golden");
        let lines: Vec<&str> = golden.lines().collect();
        let changes = exported();
        assert_eq!(lines.len(), changes.len());
        for (line, change) in lines.into_iter().zip(&changes) {
            let written = serde_json::to_string(&registration(change)).unwrap();
            assert_eq!(written, line);
            let (_, again) = read(serde_json::from_str(line).unwrap()).unwrap();
            assert_eq!(format!("{again:?}"), format!("{change:?}"));
        }
        for line in include_str!("export-before.golden").lines() {
            read(serde_json::from_str(line).unwrap()).unwrap();
        }
    }
}
