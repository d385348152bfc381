//! The settings: built-in `config.toml` ← file ← environment ← flags, checked once, at start.
//!
//! The commented `config.toml` of the repository is compiled in and is the defaults. The command
//! line calls [`load`]; everything else is handed the finished [`Config`]. A setting that is
//! unknown, of the wrong type, out of range or contradictory stops the start, and the error names
//! every such setting as `section.name` with its bound, its value and its source. Loaded settings are
//! valid: nobody checks them again.
//!
//! A file here is a section: its fields, and beside them a table with the rule of each (`setting`).
//! `layers` has how the values follow each other, `between` the rules between settings,
//! `profiles` the profiles, which have names of their own, and `origin` where each value is from.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::profile::Profile;

mod auth;
mod backup;
mod between;
mod console;
mod delivery;
mod layers;
mod limits;
mod logging;
mod notify;
mod origin;
mod portal;
mod profiles;
mod server;
mod setting;
mod source_address;
mod store;

pub use auth::AuthSection;
pub use backup::{BackupSection, read_backup_key};
pub use console::ConsoleSection;
pub use delivery::{BreakerSection, DeliverySection, DnsServer, VerifyEndpoints};
pub use layers::{Flags, load, load_with_sources, loopback};
pub use limits::LimitsSection;
pub use logging::LogSection;
pub use notify::{NotifySection, SmtpPassword, SmtpTls};
pub use origin::Loaded;
pub use portal::{Labels, PortalSection};
pub use server::{ClientAddressHeader, ServerSection};
pub use source_address::SourceAddress;
pub use store::StoreSection;

use setting::Setting;

/// The commented file of the repository.
pub const DEFAULTS: &str = include_str!("../../config.toml");

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    pub server: ServerSection,
    pub store: StoreSection,
    pub backup: BackupSection,
    pub auth: AuthSection,
    pub delivery: DeliverySection,
    pub limits: LimitsSection,
    pub console: ConsoleSection,
    pub portal: PortalSection,
    pub notify: NotifySection,
    pub log: LogSection,
    /// By name, templates not yet compiled.
    #[serde(skip)]
    pub profiles: BTreeMap<String, Profile>,
}

/// The table of each section.
const SECTIONS: &[(&str, &[Setting])] = &[
    ("server", server::SETTINGS),
    ("store", store::SETTINGS),
    ("backup", backup::SETTINGS),
    ("auth", auth::SETTINGS),
    ("delivery", delivery::SETTINGS),
    ("delivery.breaker", delivery::BREAKER),
    ("limits", limits::SETTINGS),
    ("console", console::SETTINGS),
    ("portal", portal::SETTINGS),
    ("portal.labels", portal::LABELS),
    ("notify", notify::SETTINGS),
    ("log", logging::SETTINGS),
];

/// The setting with this name, which is `section.name`.
fn find(name: &str) -> Option<&'static Setting> {
    let (section, name) = name.rsplit_once('.')?;
    let (_, settings) = SECTIONS.iter().find(|(known, _)| *known == section)?;
    settings.iter().find(|setting| setting.name == name)
}

/// Every setting with its whole name.
fn all() -> impl Iterator<Item = (String, &'static Setting)> {
    SECTIONS.iter().flat_map(|(section, settings)| {
        let named =
            move |setting: &'static Setting| (format!("{section}.{}", setting.name), setting);
        settings.iter().map(named)
    })
}

/// Everything that is wrong with the settings; shown in one line.
#[derive(Debug)]
pub struct ConfigError {
    pub problems: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("; "))
    }
}

impl std::error::Error for ConfigError {}

impl From<String> for ConfigError {
    fn from(problem: String) -> Self {
        ConfigError {
            problems: vec![problem],
        }
    }
}

impl Config {
    /// Says which settings, though valid, may be a mistake.
    pub fn warnings(&self) -> Vec<String> {
        let of_secrets = self.auth.warning().into_iter().chain(self.notify.warning());
        of_secrets.chain(self.void_limits()).collect()
    }

    /// The profile of an endpoint that names this one, or none; absent where it is not configured.
    pub fn profile(&self, name: Option<&str>) -> Option<&Profile> {
        self.profiles
            .get(name.unwrap_or(&self.delivery.default_profile))
    }

    /// The profiles that are offered for an endpoint: in the portal the operator's choice of them.
    pub fn offered_profiles(&self, in_portal: bool) -> Vec<String> {
        match (in_portal, self.portal.profiles.is_empty()) {
            (false, _) => self.profiles.keys().cloned().collect(),
            (true, false) => self.portal.profiles.clone(),
            (true, true) => vec![self.delivery.default_profile.clone()],
        }
    }

    /// The longest that an attempt may take by any of the settings.
    pub fn attempt_time_max(&self) -> Duration {
        let profiles = self.profiles.values().filter_map(|one| one.timeout_seconds);
        let longest = profiles.max().unwrap_or_default();
        let longest = longest.max(self.limits.endpoint_timeout_seconds_max);
        self.delivery
            .request_timeout()
            .max(Duration::from_secs(u64::from(longest)))
    }
}

#[cfg(test)]
mod tests;
