//! Where each setting comes from, and the settings as `check` prints them.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::layers::{ENVIRONMENT_PREFIX, assemble};
use super::{Config, profiles};

/// Settings that are not shown, with their sections.
const SECRETS: [(&str, &str); 3] = [
    ("auth", "jwt_secret"),
    ("backup", "key"),
    ("notify", "smtp_password"),
];

/// Settings and how they came about.
pub struct Loaded {
    pub config: Config,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// By `section.name`, the source of each value that is not left at its default: a file, a variable, a
    /// flag, or the setting that it follows.
    pub sources: BTreeMap<String, String>,
}

impl Loaded {
    /// One line for the log: which file, and which variables win over it.
    pub fn summary(&self) -> String {
        let file = match &self.file {
            Some(path) => {
                let whole = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
                format!("settings from {}", whole.display())
            }
            None => "settings are the defaults, no file was found".to_owned(),
        };
        let variables: Vec<&str> = self
            .sources
            .values()
            .filter(|source| source.starts_with(ENVIRONMENT_PREFIX))
            .map(String::as_str)
            .collect();
        match variables.is_empty() {
            true => file,
            false => format!("{file}, and from {}", variables.join(", ")),
        }
    }

    /// Files with a secret in them that every user of this machine can read.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.config.warnings();
        let mut check = |path: &Path, what: &str| {
            let mode = std::fs::metadata(path).map(|metadata| metadata.permissions().mode());
            if mode.is_ok_and(|mode| mode & 0o004 != 0) {
                warnings.push(format!(
                    "every user of this machine can read {} in {}: chmod o-r {}",
                    what,
                    path.display(),
                    path.display()
                ));
            }
        };
        if let Some(path) = &self.config.auth.jwt_secret_file {
            check(path, "the secret of signed tokens");
        }
        if let Some(path) = &self.config.backup.key_file {
            check(path, "the key of the backup");
        }
        if let Some(path) = &self.config.notify.smtp_password_file {
            check(path, "the password of the mail relay");
        }
        let in_file = |key: &str| {
            let source = self.sources.get(key);
            let file = self.file.as_ref().map(|path| path.display().to_string());
            source.is_some() && source == file.as_ref()
        };
        if let Some(path) = self.file.as_ref().filter(|_| in_file("auth.jwt_secret")) {
            check(path, "the secret of signed tokens (auth.jwt_secret)");
        }
        if let Some(path) = self.file.as_ref().filter(|_| in_file("backup.key")) {
            check(path, "the key of the backup (backup.key)");
        }
        if let Some(path) = self
            .file
            .as_ref()
            .filter(|_| in_file("notify.smtp_password"))
        {
            check(
                path,
                "the password of the mail relay (notify.smtp_password)",
            );
        }
        warnings
    }

    /// The settings as a file that reads back to the same: those that differ from the defaults, or
    /// all of them. Comments say where each is from; secrets are left out.
    pub fn to_toml(&self, all: bool) -> String {
        let defaults = assemble(None, Default::default(), Default::default());
        let defaults = defaults.expect("the defaults are valid").config;
        let mut text = format!(
            "# postrider {}: {}\n",
            env!("CARGO_PKG_VERSION"),
            self.summary()
        );
        let defaults_tree = defaults.tree();
        for (section, settings) in self.config.tree() {
            let mut lines = String::new();
            // Text, numbers, truth values and lists of them are written alike in JSON and TOML.
            let mut line = |name: &str, value: &Json, default: &Json| {
                if value.is_null() || !(all || value != default) {
                    return;
                }
                lines.push_str(&format!("{name} = {value}"));
                if let Some(source) = self.sources.get(&format!("{section}.{name}")) {
                    lines.push_str(&format!(" # from {source}"));
                }
                lines.push('\n');
            };
            for (key, value) in settings.as_object().into_iter().flatten() {
                let default = &defaults_tree[&section][key];
                match value.as_object() {
                    Some(inner) => inner.iter().for_each(|(name, value)| {
                        line(&format!("{key}.{name}"), value, &default[name]);
                    }),
                    None => line(key, value, default),
                }
            }
            for (_, name) in SECRETS.iter().filter(|(of, _)| *of == section) {
                if let Some(source) = self.sources.get(&format!("{section}.{name}")) {
                    lines.push_str(&format!("# {name} is set and not shown, from {source}\n"));
                }
            }
            if !lines.is_empty() {
                text.push_str(&format!("\n[{section}]\n{lines}"));
            }
        }
        let mut shown = self.config.profiles.clone();
        if !all {
            shown.retain(|name, profile| defaults.profiles.get(name) != Some(profile));
        }
        if !shown.is_empty() {
            text.push('\n');
            text.push_str(&profiles::print(&shown));
        }
        text
    }
}

impl Config {
    /// The settings by section, without profiles and secrets.
    pub(super) fn tree(&self) -> serde_json::Map<String, Json> {
        match serde_json::to_value(self) {
            Ok(Json::Object(sections)) => sections,
            _ => unreachable!("settings are sections of plain values"),
        }
    }

    /// The same without the secrets that were read from files: beside the name of its file, none is set.
    fn as_written(&self) -> Config {
        let mut written = self.clone();
        if written.auth.jwt_secret_file.is_some() {
            written.auth.jwt_secret = None;
        }
        if written.backup.key_file.is_some() {
            written.backup.key = None;
        }
        if written.notify.smtp_password_file.is_some() {
            written.notify.smtp_password = None;
        }
        written
    }

    /// What a reload makes of settings that were read again: the ones in effect from then on, and
    /// the names of those that differ and need a restart. The error says why nothing can change.
    pub fn reloaded(&self, read: &Config) -> Result<(Config, Vec<String>), super::ConfigError> {
        let mut next = self.clone();
        next.profiles = read.profiles.clone();
        next.delivery.extra_ca_file = read.delivery.extra_ca_file.clone();
        next.log.level = read.log.level.clone();
        // A setting that stays may contradict a new one.
        let judged = next.as_written();
        let contradictions = judged.contradictions();
        let problems: Vec<String> = contradictions
            .map(|(between, what)| format!("{}: {what}", between[0]))
            .collect();
        if !problems.is_empty() {
            return Err(super::ConfigError { problems });
        }
        let wanted = read.tree();
        let mut waiting = Vec::new();
        for (section, settings) in next.tree() {
            for (key, value) in settings.as_object().into_iter().flatten() {
                if wanted[&section][key] != *value {
                    waiting.push(format!("{section}.{key}"));
                }
            }
        }
        if next.auth.jwt_secret != read.auth.jwt_secret {
            waiting.push("auth.jwt_secret".to_owned());
        }
        if next.backup.key != read.backup.key {
            waiting.push("backup.key".to_owned());
        }
        if next.notify.smtp_password != read.notify.smtp_password {
            waiting.push("notify.smtp_password".to_owned());
        }
        Ok((next, waiting))
    }
}
