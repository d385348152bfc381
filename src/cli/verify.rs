//! `verify`: checks the signature of a captured request by Standard Webhooks.
//!
//! The age of the timestamp is not judged: a captured request is old.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use super::{Failure, Result, say};
use crate::delivery::sign::{SignedHeaders, VerifyingKey};

/// A body larger than this is not one that a server sent.
const BODY_MAX_BYTES: u64 = 64 << 20;

#[derive(clap::Args)]
pub struct Arguments {
    /// The endpoint's secret (whsec_…), or its public key (whpk_…)
    #[arg(long, env = "POSTRIDER_SECRET", hide_env_values = true)]
    secret: String,
    /// The request's webhook-id header
    #[arg(long)]
    id: String,
    /// The request's webhook-timestamp header
    #[arg(long)]
    timestamp: String,
    /// The request's webhook-signature header
    #[arg(long)]
    signature: String,
    /// The request's body, byte for byte [default: standard input]
    body: Option<PathBuf>,
}

impl Arguments {
    pub fn run(&self) -> Result {
        let key = parse_secret(&self.secret)?;
        let body = self
            .read_body()
            .map_err(|error| Failure::failed(format!("cannot read the body: {error}")))?;
        let headers = SignedHeaders {
            id: &self.id,
            timestamp: &self.timestamp,
            signature: &self.signature,
        };
        key.verify_at_any_time(headers, &body)
            .map_err(Failure::failed)?;
        say("the signature is valid")
    }

    fn read_body(&self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        match &self.body {
            Some(path) => File::open(path)?
                .take(BODY_MAX_BYTES)
                .read_to_end(&mut body)?,
            None => io::stdin()
                .lock()
                .take(BODY_MAX_BYTES)
                .read_to_end(&mut body)?,
        };
        Ok(body)
    }
}

/// The key for `--secret`. Not left to the parser of the arguments, whose complaints repeat the
/// value.
pub fn parse_secret(text: &str) -> Result<VerifyingKey> {
    VerifyingKey::parse(text).map_err(|error| Failure::Usage(format!("--secret: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_secret_is_a_wrong_usage_and_not_repeated() {
        for text in ["hunter2", "whsec_hunter2", "whsk_hunter2", "whpk_hunter2"] {
            match parse_secret(text) {
                Err(Failure::Usage(why)) => assert!(!why.contains("hunter2"), "{why}"),
                _ => panic!("{text} was taken"),
            }
        }
    }
}
