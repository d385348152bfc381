//! The first owner's token.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::Digest;

use super::engine::{self, Changes};
use super::open::{open_files, to_open_error};
use super::{OpenError, StoreSettings, layout, replay};
use crate::clock::{Clock, Timestamp};
use crate::domain::id::{OrganisationId, TokenId};
use crate::domain::token::{Role, Token};

/// Makes a new owner token, in place of all of the first organisation, and writes it to its file.
/// The server must be stopped. Returns the file's path.
pub fn reset_owner(settings: &StoreSettings, clock: &Clock) -> Result<PathBuf, OpenError> {
    let mut files = open_files(settings, clock)?;
    let path = &settings.path;
    let io = |source| OpenError::Io {
        path: path.clone(),
        source,
    };
    let first = files.catalog.first_organisation();
    let organisation = first.map(|one| one.id);
    let organisation = organisation.ok_or_else(|| OpenError::Damaged {
        path: path.clone(),
        reason: "the database `live` has no organisation".to_owned(),
    })?;
    let of_owner =
        |token: &&Arc<Token>| token.role == Role::Owner && token.organisation == organisation;
    let old: Vec<TokenId> = files
        .catalog
        .tokens()
        .filter(of_owner)
        .map(|token| token.id)
        .collect();
    let owner = owner_token(path, organisation, clock.now()).map_err(io)?;
    let mut changes = Changes::default();
    for id in &old {
        changes.delete(&layout::token_key(*id));
    }
    layout::put(&mut changes, &layout::token_key(owner.id), &owner, &[]);
    files.meta.registrations = files.meta.registrations + 1 - old.len() as u64;
    files.meta.commit += 1;
    layout::replace(&files.live, &mut changes, &[layout::META], &files.meta)
        .map_err(|error| to_open_error(path, error.into()))?;
    let (journal, now) = (&mut files.journal, clock.now());
    replay::commit_at_rest(settings, journal, &files.live, changes, now)?;
    Ok(path.join("owner.token"))
}

/// A new owner token, whose text only the file `owner.token` holds, readable by its owner alone.
pub fn owner_token(
    path: &Path,
    organisation: OrganisationId,
    now: Timestamp,
) -> std::io::Result<Token> {
    let text = format!("pr_{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()));
    let file_path = path.join("owner.token");
    let temporary = path.join("owner.token.new");
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    std::fs::rename(&temporary, &file_path)?;
    engine::sync_directory(path)?;
    let hash = sha2::Sha256::digest(&text).into();
    Ok(Token::new(
        organisation,
        Role::Owner,
        "owner".to_owned(),
        hash,
        now,
    ))
}
