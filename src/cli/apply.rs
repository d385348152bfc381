//! `apply`: brings the registrations of a file to a running server, as a client of its API.
//!
//! The file is read and checked before anything is sent. Then each thing is read from the server
//! and written only where the two differ, so that applying a file again changes nothing. Things
//! that the file does not name are left alone: nothing is deleted. The first refusal stops it; the
//! changes printed until then are made.

use std::fmt;
use std::path::PathBuf;

use awc::http::{Method, StatusCode};
use serde_json::Value;
use serde_json::value::RawValue;
use url::Url;

use self::file::{Fields, Thing};
use super::client::{Answer, Connection};
use super::{Failure, Result, read_text, say};
use crate::config::Config;
use crate::domain::secret::{Secret, SecretForm};

mod file;
#[cfg(test)]
mod shipped;

/// Far above a file that describes the largest installation.
const FILE_BYTES_MAX: u64 = 64 << 20;

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    connection: Connection,
    /// The event types, applications, endpoints and operational endpoints, in TOML
    file: PathBuf,
}

impl Arguments {
    pub fn run(&self, config: &Config) -> Result {
        let things = self.read()?;
        let server = Server {
            connection: &self.connection,
            config,
        };
        let mut counts = Counts::default();
        for thing in &things {
            let outcome = server.bring_about(thing).map_err(|why| at(thing, why))?;
            counts.add(&outcome);
            tell(&format!("{outcome}  {}{}", thing.title, outcome.detail()))?;
        }
        tell(&counts.to_string())
    }

    fn read(&self) -> Result<Vec<Thing>> {
        let name = self.file.display();
        let text = read_text(&self.file, FILE_BYTES_MAX).map_err(Failure::failed)?;
        file::parse(&text).map_err(|problems| {
            let problems = problems.join("; ");
            Failure::Failed(format!("{name}: {problems}; nothing was sent"))
        })
    }
}

/// The failure with the thing that it is about.
fn at(thing: &Thing, failure: Failure) -> Failure {
    match failure {
        Failure::Failed(reason) => {
            Failure::Failed(format!("{} ({}): {reason}", thing.place, thing.title))
        }
        other => other,
    }
}

/// Says how far it is. That nobody reads it does not end the work in its middle.
fn tell(line: &str) -> Result {
    match say(line) {
        Err(Failure::ReaderGone) => Ok(()),
        told => told,
    }
}

/// The change made to a thing.
enum Outcome {
    Created,
    /// The fields that are not as they were.
    Changed(Vec<String>),
    /// The fields that were sent nevertheless, because the server does not show them as they are
    /// given: passwords, for one.
    Unchanged(Vec<String>),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Created => "created  ",
            Outcome::Changed(_) => "changed  ",
            Outcome::Unchanged(_) => "unchanged",
        })
    }
}

impl Outcome {
    fn detail(&self) -> String {
        match self {
            Outcome::Changed(fields) if !fields.is_empty() => format!(": {}", fields.join(", ")),
            Outcome::Unchanged(fields) if !fields.is_empty() => {
                format!(
                    " (sent again, because the server does not show it so: {})",
                    fields.join(", ")
                )
            }
            _ => String::new(),
        }
    }
}

#[derive(Default)]
struct Counts {
    created: usize,
    changed: usize,
    unchanged: usize,
}

impl Counts {
    fn add(&mut self, outcome: &Outcome) {
        *match outcome {
            Outcome::Created => &mut self.created,
            Outcome::Changed(_) => &mut self.changed,
            Outcome::Unchanged(_) => &mut self.unchanged,
        } += 1;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts {
            created,
            changed,
            unchanged,
        } = self;
        write!(
            f,
            "{created} created, {changed} changed, {unchanged} unchanged"
        )
    }
}

struct Server<'a> {
    connection: &'a Connection,
    config: &'a Config,
}

impl Server<'_> {
    /// Brings the server's thing to the state in the file.
    fn bring_about(&self, thing: &Thing) -> Result<Outcome> {
        let before = self.look(thing)?;
        if let Some(before) = &before
            && unlike(before, &thing.body).is_empty()
        {
            warn(thing, before)?;
            return Ok(Outcome::Unchanged(Vec::new()));
        }
        let body = spelled(&thing.body);
        let answer = succeeded(self.send(Method::PUT, &thing.path, Some(body))?)?;
        warn(thing, &fields(&answer)?)?;
        let Some(before) = before else {
            return Ok(Outcome::Created);
        };
        let mut after = self.look_again(thing)?;
        if let Some(secret) = thing.body.get("secret")
            && unlike(&after, &thing.body).contains(&"secret".to_owned())
        {
            // The old secret stays valid for a while, as its receiver expects.
            let path = format!("{}/secret/rotate", thing.path);
            let body = format!("{{\"key\":{secret}}}");
            succeeded(self.send(Method::POST, &path, Some(body))?)?;
            after = self.look_again(thing)?;
        }
        let changes = changes(&before, &after);
        match changes.is_empty() {
            true => Ok(Outcome::Unchanged(unlike(&after, &thing.body))),
            false => Ok(Outcome::Changed(changes)),
        }
    }

    /// The server's view of the thing, as far as the file names it; none where the server does not have it.
    fn look(&self, thing: &Thing) -> Result<Option<Fields>> {
        let answer = self.send(Method::GET, &thing.path, None)?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let mut shown = fields(&succeeded(answer)?)?;
        if thing.body.contains_key("headers") {
            let path = format!("{}/headers", thing.path);
            shown.extend(fields(&succeeded(self.send(Method::GET, &path, None)?)?)?);
        }
        if thing.body.contains_key("secret") {
            let path = format!("{}/secret", thing.path);
            let mut secret = fields(&succeeded(self.send(Method::GET, &path, None)?)?)?;
            shown.extend(secret.remove("key").map(|key| ("secret".to_owned(), key)));
        }
        Ok(Some(shown))
    }

    fn look_again(&self, thing: &Thing) -> Result<Fields> {
        let shown = self.look(thing)?;
        shown.ok_or_else(|| Failure::failed("somebody deleted it just now"))
    }

    fn send(&self, method: Method, path: &str, body: Option<String>) -> Result<Answer> {
        self.connection.request(self.config, method, path, body)
    }
}

fn succeeded(answer: Answer) -> Result<Answer> {
    match answer.status.is_success() {
        true => Ok(answer),
        false => Err(Failure::Failed(answer.refusal())),
    }
}

fn fields(answer: &Answer) -> Result<Fields> {
    serde_json::from_slice(&answer.body)
        .map_err(|_| Failure::failed("the server's answer is not a JSON object"))
}

/// Prints the server's warnings about the thing.
fn warn(thing: &Thing, shown: &Fields) -> Result {
    let warnings = shown.get("warnings").map(|warnings| warnings.get());
    let warnings = warnings.and_then(|text| serde_json::from_str::<Vec<String>>(text).ok());
    for warning in warnings.unwrap_or_default() {
        tell(&format!("warning:   {}: {warning}", thing.title))?;
    }
    Ok(())
}

fn spelled(body: &Fields) -> String {
    serde_json::to_string(body).expect("its keys are texts")
}

/// The wanted fields that are not shown as they are wanted.
fn unlike(shown: &Fields, wanted: &Fields) -> Vec<String> {
    let unlike = wanted.iter().filter(|(name, wanted)| {
        let shown = shown.get(*name).map_or("null", |value| value.get());
        !is_like(name, shown, wanted)
    });
    unlike.map(|(name, _)| name.clone()).collect()
}

fn is_like(name: &str, shown: &str, wanted: &RawValue) -> bool {
    let wanted = wanted.get();
    let value = |text: &str| serde_json::from_str::<Value>(text).ok();
    let text = |text: &str| serde_json::from_str::<String>(text).ok();
    match name {
        // Kept as they are spelled.
        "example" | "schemas" => shown == wanted,
        // An empty one lets everything pass, and is shown as none.
        "filter" if shown == "null" => value(wanted) == value("{}"),
        "filter" => shown == wanted,
        "url" => text(shown) == text(wanted).map(|url| normal_url(&url)),
        "secret" => match (text(shown), text(wanted)) {
            (Some(shown), Some(wanted)) => is_same_secret(&shown, &wanted),
            _ => false,
        },
        _ => value(shown) == value(wanted),
    }
}

/// A URL as the server shows it; an invalid one is left for the server to refuse.
fn normal_url(url: &str) -> String {
    Url::parse(url).map_or(url.to_owned(), String::from)
}

/// Of a key pair the server shows the public half, and a bare key with its prefix.
fn is_same_secret(shown: &str, wanted: &str) -> bool {
    let readable = Secret::parse(wanted, SecretForm::StandardWebhooks)
        .map(|secret| secret.readable())
        .unwrap_or_default();
    shown == wanted || shown == readable
}

/// Fields that change by themselves, and by what a change of others brings.
const NOT_TOLD: [&str; 9] = [
    "updatedAt",
    "warnings",
    "breaker",
    "catchUp",
    "disabledAt",
    "disabledReason",
    "disablesAt",
    "failingSince",
    "failures",
];

/// The fields that differ between two looks at the same thing, but for those that no file decides.
fn changes(before: &Fields, after: &Fields) -> Vec<String> {
    let names = before
        .keys()
        .chain(after.keys().filter(|name| !before.contains_key(*name)));
    names
        .filter(|name| !NOT_TOLD.contains(&name.as_str()))
        .filter(|name| {
            let value = |fields: &Fields| fields.get(*name).map(|value| value.get().to_owned());
            value(before) != value(after)
        })
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Fields {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_is_shown_is_compared_as_the_server_shows_it() {
        for (name, shown, wanted, expected) in [
            (
                "metadata",
                r#"{"a":"1","b":"2"}"#,
                r#"{"b":"2","a":"1"}"#,
                true,
            ),
            ("eventTypes", r#"["a","b"]"#, r#"["b","a"]"#, false),
            ("throttleRate", "null", "null", true),
            ("throttleRate", "3", "4", false),
            ("example", r#"{"a":1.10}"#, r#"{"a":1.10}"#, true),
            ("example", r#"{"a":1.1}"#, r#"{"a":1.10}"#, false),
            ("filter", r#"{"data":{"a":1}}"#, r#"{"data":{"a":1}}"#, true),
            (
                "filter",
                r#"{"data":{"a":1}}"#,
                r#"{"data":{"a":1.0}}"#,
                false,
            ),
            ("filter", "null", "{ }", true),
            ("filter", "null", r#"{"data":{"a":1}}"#, false),
            ("url", r#""http://x.test/""#, r#""HTTP://X.test""#, true),
            (
                "url",
                r#""http://x.test/""#,
                r#""http://u:p@x.test/""#,
                false,
            ),
            ("url", r#""http://x.test/""#, r#""no url""#, false),
            ("secret", r#""mySecret""#, r#""mySecret""#, true),
            ("secret", r#""mySecret""#, r#""another""#, false),
        ] {
            let found = is_like(
                name,
                shown,
                &RawValue::from_string(wanted.to_owned()).unwrap(),
            );
            assert_eq!(found, expected, "{name}: {shown} and {wanted}");
        }
    }

    #[test]
    fn a_secret_is_known_by_what_the_server_shows_of_it() {
        for (form, prefix) in [
            (SecretForm::Whsec, "whsec_"),
            (SecretForm::Ed25519, "whsk_"),
        ] {
            let secret = Secret::generate(form, [7; 32]);
            assert!(is_same_secret(&secret.readable(), secret.expose()));
            let other = Secret::generate(form, [8; 32]);
            assert!(!is_same_secret(&other.readable(), secret.expose()));
            if form == SecretForm::Whsec {
                let bare = secret.expose().trim_start_matches(prefix);
                assert!(is_same_secret(&secret.readable(), bare));
            }
        }
    }

    #[test]
    fn only_what_is_wanted_counts_and_absent_is_null() {
        let shown = fields(r#"{"name":"a","id":"app_1"}"#);
        assert!(unlike(&shown, &fields(r#"{"name":"a","throttleRate":null}"#)).is_empty());
        let wanted = fields(r#"{"basicAuth":{"username":"u","password":"p"},"name":"b"}"#);
        assert_eq!(unlike(&shown, &wanted), ["basicAuth", "name"]);
    }

    #[test]
    fn a_change_is_named_and_its_time_is_none() {
        let before = fields(r#"{"a":1,"b":2,"updatedAt":"1","warnings":["w"]}"#);
        let after = fields(r#"{"a":1,"c":2,"updatedAt":"2"}"#);
        assert_eq!(changes(&before, &after), ["b", "c"]);
        assert!(changes(&before, &fields(r#"{"a":1,"b":2,"updatedAt":"2"}"#)).is_empty());
    }
}
