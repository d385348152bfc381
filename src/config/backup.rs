//! `[backup]`: the place that the store is copied to, and the key that the copy is encrypted with.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::setting::{Rule, Setting, any_text, optional, setting, whole};
use crate::backup::key::BackupKey;
use crate::backup::place::Place;

/// The name of the key among the credentials that systemd hands to a unit.
const CREDENTIAL: &str = "backup.key";

/// A key has 64 bytes in a file. One that is longer than this is not read further.
const FILE_BYTES_MAX: u64 = 4096;

/// The key of config.toml, which everybody knows.
const EXAMPLE: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BackupSection {
    /// A folder, or the URL of a bucket. Nothing is copied where it is not set.
    pub to: Option<String>,
    /// How often the newest records are copied.
    pub every_seconds: u64,
    /// How long states of the past can be restored.
    pub keep_days: u32,
    /// How often the copy is read and checked; 0: never.
    pub verify_every_hours: u64,
    /// The copy is encrypted where there is one. It is not printed.
    #[serde(skip_serializing)]
    pub key: Option<BackupKey>,
    /// The same in a file; once the settings are loaded, `key` has it.
    pub key_file: Option<PathBuf>,
}

pub(super) const SETTINGS: &[Setting] = &[
    // A wrong URL may have a password in it.
    optional(
        "to",
        Rule::Secret {
            problem: Place::problem,
        },
    ),
    setting("every_seconds", whole(1..=3600)),
    setting("keep_days", whole(0..=36_500)),
    setting("verify_every_hours", whole(0..=8784)),
    optional(
        "key",
        Rule::Secret {
            problem: BackupKey::problem,
        },
    ),
    optional("key_file", any_text()),
];

impl BackupSection {
    /// Takes the key from its file where one is named, else from the folder of the unit's credentials
    /// where it is there and no key is set. The error names the setting, and says what is wrong with it.
    pub(super) fn read_key(
        &mut self,
        credentials: Option<&Path>,
    ) -> Result<(), (&'static str, String)> {
        let credential = credentials.map(|folder| folder.join(CREDENTIAL));
        let credential = credential.filter(|path| self.key.is_none() && path.exists());
        if let Some(path) = self.key_file.as_deref().or(credential.as_deref()) {
            let read = read_backup_key(path).map_err(|problem| ("backup.key_file", problem));
            self.key = Some(read?);
        }
        if self.key.is_some() && self.key == BackupKey::parse(EXAMPLE).ok() {
            let problem =
                "is the example, which everybody knows: make one with 'openssl rand -hex 32'";
            return Err(("backup.key", problem.to_owned()));
        }
        Ok(())
    }
}

/// The key in a file. The error says what is wrong with it.
pub fn read_backup_key(path: &Path) -> Result<BackupKey, String> {
    let mut text = Zeroizing::new(String::new());
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text))
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let key = BackupKey::parse(&text);
    key.map_err(|must| format!("the content of {} {must}", path.display()))
}
