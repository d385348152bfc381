//! `[notify]`: the mails to people about endpoints that fail, and the relay that takes them.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Config;
use super::setting::{
    DAY_SECONDS, Rule, Setting, any_text, optional, reads, setting, text, texts, whole,
};
use crate::domain::email::EmailAddress;
use crate::domain::notice::NoticeRules;

/// The operator's addresses; each is told of everything.
pub(super) const TO_MAX: usize = 20;

/// SASL has no bound; providers give out some hundred bytes at most.
const LOGIN_BYTES_MAX: usize = 1024;

const HOST_BYTES_MAX: usize = 255;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NotifySection {
    /// The relay. Nothing is mailed where it is empty.
    pub smtp_host: String,
    pub smtp_port: u16,
    pub smtp_tls: SmtpTls,
    /// No login where it is empty.
    pub smtp_username: String,
    /// It is not printed.
    #[serde(skip_serializing)]
    pub smtp_password: Option<SmtpPassword>,
    /// The same in a file; once the settings are loaded, `smtp_password` has it.
    pub smtp_password_file: Option<PathBuf>,
    /// Certificates to trust beside the public ones.
    pub smtp_ca_file: Option<PathBuf>,
    /// The sender; empty only where nothing is mailed.
    pub from: String,
    /// The operator's addresses.
    pub to: Vec<EmailAddress>,
    pub grace_seconds: u64,
    pub digest_seconds: u64,
    pub subject_prefix: String,
}

/// How the connection to the relay is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SmtpTls {
    /// By the command STARTTLS, before anything else; a relay that does not offer it gets no mail.
    Starttls,
    /// From the first byte on.
    Tls,
    /// Not at all.
    None,
}

/// The password at the relay, in a type that does not print.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(from = "String")]
pub struct SmtpPassword(Zeroizing<String>);

pub(super) const SETTINGS: &[Setting] = &[
    setting(
        "smtp_host",
        text(
            |host| host.is_empty() || is_host(host),
            "must be a host name or an address such as 'mail.example.com', or empty",
        ),
    ),
    setting("smtp_port", whole(1..=65_535)),
    setting(
        "smtp_tls",
        text(reads::<SmtpTls>, "must be one of starttls, tls, none"),
    ),
    setting(
        "smtp_username",
        text(
            |name| name.len() <= LOGIN_BYTES_MAX && !name.chars().any(char::is_control),
            "must have at most 1024 bytes, on one line",
        ),
    ),
    optional(
        "smtp_password",
        Rule::Secret {
            problem: |text| password_problem(text).map(str::to_owned),
        },
    ),
    optional("smtp_password_file", any_text()),
    // Read where the relay is made, which tells what is wrong with it.
    optional("smtp_ca_file", any_text()),
    setting(
        "from",
        text(
            |text| text.is_empty() || EmailAddress::parse(text).is_ok(),
            "must be an e-mail address such as 'postrider@example.com', or empty",
        ),
    ),
    setting(
        "to",
        texts(
            |text| EmailAddress::parse(text).is_ok(),
            "must be e-mail addresses such as 'ops@example.com'",
        ),
    ),
    setting("grace_seconds", whole(0..=DAY_SECONDS)),
    setting("digest_seconds", whole(60..=7 * DAY_SECONDS)),
    setting(
        "subject_prefix",
        text(
            |text| text.chars().count() <= 60 && !text.chars().any(char::is_control),
            "must have at most 60 characters, on one line",
        ),
    ),
];

impl NotifySection {
    /// When a person is told of a trouble.
    pub fn rules(&self) -> NoticeRules {
        NoticeRules {
            grace: Duration::from_secs(self.grace_seconds),
            digest: Duration::from_secs(self.digest_seconds),
        }
    }

    /// Whether there is a relay.
    pub fn is_on(&self) -> bool {
        !self.smtp_host.is_empty()
    }

    /// Whether what is said to the relay stays on this machine.
    pub fn is_local(&self) -> bool {
        let address = self.smtp_host.parse::<IpAddr>();
        match address {
            Ok(address) => address.is_loopback(),
            Err(_) => self.smtp_host.eq_ignore_ascii_case("localhost"),
        }
    }

    /// Takes the password from its file, where one is named. The error says what is wrong with it.
    pub(super) fn read_password(&mut self) -> Result<(), String> {
        let Some(path) = &self.smtp_password_file else {
            return Ok(());
        };
        let mut text = Zeroizing::new(String::new());
        // One byte more than may be, and a line break.
        let most = LOGIN_BYTES_MAX as u64 + 3;
        File::open(path)
            .and_then(|file| file.take(most).read_to_string(&mut text))
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let password = text.trim_end_matches(['\r', '\n']);
        if let Some(must) = password_problem(password) {
            return Err(format!("the password in {} {must}", path.display()));
        }
        self.smtp_password = Some(SmtpPassword::from(password.to_owned()));
        Ok(())
    }

    /// Says what others on the way to the relay can read.
    pub(super) fn warning(&self) -> Option<String> {
        let is_open = self.is_on() && self.smtp_tls == SmtpTls::None && !self.is_local();
        is_open.then(|| {
            format!(
                "notify.smtp_tls: mails go to {} unencrypted, so that whoever is on the way reads and changes \
                 them",
                self.smtp_host
            )
        })
    }
}

/// How `notify.smtp_password` breaks a rule between settings.
pub(super) fn password_contradiction(Config { notify, .. }: &Config) -> Option<String> {
    let is_set = notify.smtp_password.is_some() || notify.smtp_password_file.is_some();
    if !notify.is_on() {
        return None;
    }
    match (is_set, notify.smtp_username.is_empty()) {
        (true, true) => Some("needs notify.smtp_username beside it".to_owned()),
        (false, false) => Some("must be set where notify.smtp_username is".to_owned()),
        (true, false) if notify.smtp_tls == SmtpTls::None && !notify.is_local() => Some(
            "would go over the network unencrypted: set notify.smtp_tls to \"starttls\" or \"tls\""
                .to_owned(),
        ),
        _ => None,
    }
}

fn password_problem(text: &str) -> Option<&'static str> {
    // PLAIN separates its parts by NUL.
    let is_right = (1..=LOGIN_BYTES_MAX).contains(&text.len()) && !text.contains('\0');
    (!is_right).then_some("must have 1 to 1024 bytes")
}

/// Whether a text is a host name or an address, as a certificate has it.
fn is_host(text: &str) -> bool {
    text.len() <= HOST_BYTES_MAX && rustls::pki_types::ServerName::try_from(text).is_ok()
}

impl SmtpPassword {
    /// The password's text, for the login alone.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for SmtpPassword {
    fn from(text: String) -> SmtpPassword {
        SmtpPassword(Zeroizing::new(text))
    }
}

impl fmt::Debug for SmtpPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SmtpPassword(…)")
    }
}
