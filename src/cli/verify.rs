//! `verify`: checks a captured request, by Standard Webhooks or by a profile.
//!
//! The age of the timestamp is not judged: a captured request is old.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Failure, Result, capture, printable, say};
use crate::config::Config;
use crate::delivery;
use crate::delivery::profile::CompiledProfile;
use crate::delivery::sign::{SignedHeaders, VerifyingKey};
use crate::delivery::verifier::{Captured, Verifier};

/// A body larger than this is not one that a server sent.
const BODY_MAX_BYTES: u64 = 64 << 20;

#[derive(clap::Args)]
pub struct Arguments {
    /// The endpoint's secret, or its public key (whpk_…) [required if requests are signed]
    #[arg(long, env = "POSTRIDER_SECRET", hide_env_values = true)]
    secret: Option<String>,
    /// The profile of the request [default: a signature by Standard Webhooks]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// The request's webhook-id header
    #[arg(long, required_unless_present = "profile")]
    id: Option<String>,
    /// The request's webhook-timestamp header
    #[arg(long, required_unless_present = "profile")]
    timestamp: Option<String>,
    /// The request's webhook-signature header
    #[arg(long, required_unless_present = "profile")]
    signature: Option<String>,
    /// With --profile: the request's method, which is not checked otherwise
    #[arg(long, requires = "profile")]
    method: Option<String>,
    /// With --profile: the request's URL, or its path and query
    #[arg(long, requires = "profile")]
    url: Option<String>,
    /// With --profile: a header of the request; as often as needed
    #[arg(
        short = 'H',
        long = "header",
        value_name = "NAME: VALUE",
        requires = "profile"
    )]
    headers: Vec<String>,
    /// With --profile: the whole request as a file (- for standard input): the line with method
    /// and URL, headers, an empty line, body. --method, --url and -H come on top
    #[arg(
        long,
        value_name = "FILE",
        requires = "profile",
        conflicts_with = "body"
    )]
    request: Option<PathBuf>,
    /// The request's body, byte for byte; - is standard input [default: standard input]
    body: Option<PathBuf>,
}

impl Arguments {
    pub fn run(&self, settings: impl FnOnce() -> Result<Config>) -> Result {
        match &self.profile {
            Some(name) => self.verify_by(&profile(name, &settings()?)?),
            None => self.verify(),
        }
    }

    fn verify(&self) -> Result {
        let key = parse_secret(self.required_secret()?)?;
        let body = read("the body", self.body.as_deref())?;
        let headers = SignedHeaders {
            id: self.id.as_deref().unwrap_or_default(),
            timestamp: self.timestamp.as_deref().unwrap_or_default(),
            signature: self.signature.as_deref().unwrap_or_default(),
        };
        key.verify_at_any_time(headers, &body)
            .map_err(Failure::failed)?;
        say("the signature is valid")
    }

    fn verify_by(&self, profile: &Arc<CompiledProfile>) -> Result {
        let secret = match profile.signs() {
            true => Some(self.required_secret()?),
            false => None,
        };
        let verifier = verifier(profile, secret)?;
        let problems = verifier.problems(&self.captured(profile)?, None);
        for problem in &problems {
            say(&printable(problem))?;
        }
        match (problems.len(), verifier.checks_signatures()) {
            (0, true) => say("the signature is valid"),
            (0, false) => say("nothing to check: the profile has no signature"),
            _ => Err(Failure::failed(format!(
                "the request is not one of the profile {:?}",
                profile.name
            ))),
        }
    }

    fn captured(&self, profile: &CompiledProfile) -> Result<Captured> {
        let mut headers = self.standard_headers(profile)?;
        for text in &self.headers {
            let header = capture::header(text.as_bytes());
            headers.push(header.ok_or_else(|| {
                Failure::Usage("--header: must be such as 'name: value'".to_owned())
            })?);
        }
        let mut request = match &self.request {
            Some(path) => capture::parse(&read("the request", Some(path))?)
                .map_err(|why| Failure::failed(format!("--request: {why}")))?,
            None => Captured::default(),
        };
        request.headers.extend(headers);
        if let Some(method) = &self.method {
            request.method = Some(method.to_ascii_uppercase());
        }
        if let Some(url) = &self.url {
            request.url = Some(url.clone());
        }
        let is_get = request.method.as_deref() == Some("GET");
        if self.request.is_none() && (self.body.is_some() || !is_get) {
            request.body = read("the body", self.body.as_deref())?.into();
        }
        Ok(request)
    }

    /// Those that have flags of their own.
    fn standard_headers(&self, profile: &CompiledProfile) -> Result<Vec<(String, Vec<u8>)>> {
        let flags = [
            ("id", &self.id),
            ("timestamp", &self.timestamp),
            ("signature", &self.signature),
        ];
        let mut headers = Vec::new();
        for (part, value) in flags {
            let Some(value) = value else { continue };
            let family = profile.settings.standard_webhooks.as_deref();
            let family = family.ok_or_else(|| {
                Failure::Usage(format!(
                    "--{part}: the profile has no headers of Standard Webhooks; use -H"
                ))
            })?;
            headers.push((format!("{family}-{part}"), value.clone().into_bytes()));
        }
        Ok(headers)
    }

    fn required_secret(&self) -> Result<&str> {
        let secret = self.secret.as_deref();
        secret.ok_or_else(|| Failure::Usage("--secret is missing (see --help)".to_owned()))
    }
}

fn read(what: &str, path: Option<&Path>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = match path.filter(|path| *path != Path::new("-")) {
        Some(path) => {
            File::open(path).and_then(|file| file.take(BODY_MAX_BYTES).read_to_end(&mut bytes))
        }
        None => io::stdin()
            .lock()
            .take(BODY_MAX_BYTES)
            .read_to_end(&mut bytes),
    };
    read.map_err(|error| Failure::failed(format!("cannot read {what}: {error}")))?;
    Ok(bytes)
}

/// The profile for `--profile`.
pub fn profile(name: &str, config: &Config) -> Result<Arc<CompiledProfile>> {
    let profiles = delivery::profiles(config)?;
    profiles.get(name).cloned().ok_or_else(|| {
        let names: Vec<&str> = profiles.keys().map(String::as_str).collect();
        let names = names.join(", ");
        Failure::Usage(format!(
            "--profile: there is no profile {name:?}; there are {names}"
        ))
    })
}

pub fn verifier(profile: &Arc<CompiledProfile>, secret: Option<&str>) -> Result<Verifier> {
    Verifier::new(profile.clone(), secret)
        .map_err(|error| Failure::Usage(format!("--secret: {error}")))
}

/// The key for `--secret`. Not left to the parser of the arguments, whose complaints repeat the
/// value.
pub fn parse_secret(text: &str) -> Result<VerifyingKey> {
    VerifyingKey::parse(text).map_err(|error| Failure::Usage(format!("--secret: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Flags};

    fn defaults() -> Config {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config.toml");
        config::load(Some(Path::new(file)), Flags { dev: false }).unwrap()
    }

    #[test]
    fn a_wrong_secret_is_a_wrong_usage_and_not_repeated() {
        for text in ["hunter2", "whsec_hunter2", "whsk_hunter2", "whpk_hunter2"] {
            match parse_secret(text) {
                Err(Failure::Usage(why)) => assert!(!why.contains("hunter2"), "{why}"),
                _ => panic!("{text} was taken"),
            }
            let standard = profile("standard", &defaults()).ok().expect("it is there");
            match verifier(&standard, Some(text)) {
                Err(Failure::Usage(why)) => assert!(!why.contains("hunter2"), "{why}"),
                _ => panic!("{text} was taken"),
            }
        }
        let github = profile("github", &defaults()).ok().expect("it is there");
        match verifier(&github, Some("hunter2")) {
            Err(Failure::Usage(why)) => assert_eq!(why, "--secret: must have 8 to 256 bytes"),
            _ => panic!("it was taken"),
        }
    }

    #[test]
    fn an_unknown_profile_is_a_wrong_usage_that_names_the_others() {
        match profile("gitlab", &defaults()) {
            Err(Failure::Usage(why)) => {
                assert!(
                    why.contains("\"gitlab\"") && why.contains("github, ioffice"),
                    "{why}"
                );
            }
            _ => panic!("it is there"),
        }
    }
}
