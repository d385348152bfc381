//! `[auth]`: the default organisation, and the secret of signed tokens.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::setting::{Rule, Setting, any_text, optional, text};
use crate::domain::id::OrganisationId;
use crate::domain::jwt::{JwtSecret, SECRET_BYTES_GOOD, SECRET_BYTES_MIN};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuthSection {
    /// The id of the default organisation, for a deployment that moves over; generated where empty.
    pub default_organisation: Option<String>,
    /// Signed tokens (JWT) are taken where there is one. It is not printed.
    #[serde(skip_serializing)]
    pub jwt_secret: Option<JwtSecret>,
    /// The same in a file; once the settings are loaded, `jwt_secret` has it.
    pub jwt_secret_file: Option<PathBuf>,
}

pub(super) const SETTINGS: &[Setting] = &[
    optional(
        "default_organisation",
        text(
            |id| id.parse::<OrganisationId>().is_ok(),
            "must be an organisation's id: 'org_' and 27 letters and digits",
        ),
    ),
    optional(
        "jwt_secret",
        Rule::Secret {
            problem: |text| {
                let bytes = text.len();
                let is_short = bytes < SECRET_BYTES_MIN;
                is_short
                    .then(|| format!("must have at least {SECRET_BYTES_MIN} bytes, has {bytes}"))
            },
        },
    ),
    optional("jwt_secret_file", any_text()),
];

impl AuthSection {
    /// Takes the secret from its file, where one is named. The error says what is wrong with it.
    pub(super) fn read_jwt_secret(&mut self) -> Result<(), String> {
        let Some(path) = &self.jwt_secret_file else {
            return Ok(());
        };
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let text = text.trim_end_matches(['\r', '\n']);
        let secret = JwtSecret::from(text.to_owned());
        if !secret.is_long_enough() {
            return Err(format!(
                "the secret in {} must have at least {SECRET_BYTES_MIN} bytes, has {}",
                path.display(),
                text.len()
            ));
        }
        self.jwt_secret = Some(secret);
        Ok(())
    }

    /// Says that the secret may be too short.
    pub(super) fn warning(&self) -> Option<String> {
        let is_short = self.jwt_secret.as_ref().is_some_and(JwtSecret::is_short);
        is_short.then(|| {
            format!(
                "auth.jwt_secret: has fewer than {SECRET_BYTES_GOOD} bytes, so that tokens can be \
                 forged by whoever has one and guesses long enough"
            )
        })
    }
}
