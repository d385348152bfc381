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

use super::catalog::Change;
use super::{Inner, OpenError, Settings, engine, open};
use crate::clock::{Clock, Timestamp};
use crate::domain::application::Application;
use crate::domain::endpoint::Endpoint;
use crate::domain::event_type::EventType;
use crate::domain::organisation::Organisation;
use crate::domain::token::{Revocation, Token};

pub const FILE_NAME: &str = "export.json";

/// The number of this file's format.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Export {
    format: u32,
    exported_at: Timestamp,
    last_endpoint_number: u64,
    registrations: Vec<Registration>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(
    clippy::large_enum_variant,
    reason = "most of them are endpoints, and all are written one after the other"
)]
enum Registration {
    Organisation(Organisation),
    Token(Token),
    EventType(EventType),
    Application(Application),
    Endpoint(Endpoint),
    Revocation(Revocation),
}

/// What a restore brought back.
#[derive(Debug)]
pub struct RestoreReport {
    pub exported_at: Timestamp,
    /// How many of each kind of registration.
    pub counts: Vec<(String, u64)>,
}

pub fn write(inner: &Inner) -> std::io::Result<()> {
    let export = {
        let catalog = inner.catalog();
        Export {
            format: FORMAT,
            exported_at: inner.clock.now(),
            last_endpoint_number: catalog.last_endpoint_number(),
            registrations: catalog
                .contents()
                .into_iter()
                .filter_map(registration)
                .collect(),
        }
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

fn registration(change: Change) -> Option<Registration> {
    match change {
        Change::PutOrganisation(one) => Some(Registration::Organisation(one)),
        Change::PutToken(one) => Some(Registration::Token(one)),
        Change::PutEventType(one) => Some(Registration::EventType(one)),
        Change::PutApplication(one) => Some(Registration::Application(one)),
        Change::PutEndpoint(one) => Some(Registration::Endpoint(one)),
        Change::PutRevocation(one) => Some(Registration::Revocation(one)),
        Change::PutJob(_)
        | Change::PutVisit(_)
        | Change::DeleteVisit(_)
        | Change::DeleteJob(_)
        | Change::DeleteRevocation(_)
        | Change::DeleteApplication(_)
        | Change::DeleteEndpoint(..)
        | Change::DeleteEventType(..)
        | Change::DeleteToken(_) => None,
    }
}

/// Starts a new store from an export; there must be none at the settings' path.
pub fn restore(
    settings: &Settings,
    from: &Path,
    clock: &Clock,
) -> Result<RestoreReport, OpenError> {
    let path = &settings.path;
    let io = |source| OpenError::Io {
        path: from.to_owned(),
        source,
    };
    let export: Export = serde_json::from_reader(BufReader::new(File::open(from).map_err(io)?))
        .map_err(|error| OpenError::Damaged {
            path: from.to_owned(),
            reason: format!("it is not an export: {error}"),
        })?;
    if export.format > FORMAT {
        return Err(OpenError::Newer {
            path: from.to_owned(),
            found: export.format,
            known: FORMAT,
        });
    }
    let holds_one = |part: &&str| path.join(part).exists();
    if ["live", "slices", "journal"].iter().any(holds_one) {
        return Err(OpenError::Unsafe(format!(
            "{} holds a store already; move it away first",
            path.display()
        )));
    }
    let mut counts = [0; 6];
    let mut contents = Vec::with_capacity(export.registrations.len());
    for registration in export.registrations {
        let (kind, change) = match registration {
            Registration::Organisation(one) => (0, Change::PutOrganisation(one)),
            Registration::Token(one) => (1, Change::PutToken(one)),
            Registration::EventType(one) => (2, Change::PutEventType(one)),
            Registration::Application(one) => (3, Change::PutApplication(one)),
            Registration::Endpoint(one) => (4, Change::PutEndpoint(one)),
            Registration::Revocation(one) => (5, Change::PutRevocation(one)),
        };
        counts[kind] += 1;
        contents.push(change);
    }
    for directory in [path.clone(), path.join("slices")] {
        open::create_directory(&directory).map_err(|source| OpenError::Io {
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
        "endpoints",
        "revoked tokens",
    ];
    Ok(RestoreReport {
        exported_at: export.exported_at,
        counts: names
            .iter()
            .map(|name| (*name).to_owned())
            .zip(counts)
            .collect(),
    })
}
