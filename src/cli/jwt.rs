//! `token jwt`: signs a token with the secret of the settings. No server is asked, and none keeps a
//! record of it.

use std::time::Duration;

use super::{Failure, Result, say};
use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::domain::id::{ApplicationId, OrganisationId};
use crate::domain::jwt::Subject;

const DAY: Duration = Duration::from_secs(24 * 3600);

#[derive(clap::Args)]
pub struct Arguments {
    /// Whose owner the token is [default: auth.default_organisation of the settings]
    #[arg(long)]
    organisation: Option<String>,
    /// The application (id) of the organisation that the token is limited to
    #[arg(long)]
    application: Option<String>,
    /// For how many days it holds
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    expires_in: u32,
}

impl Arguments {
    pub fn run(self, config: &Config) -> Result {
        say(&self.signed(config, Clock::System.now())?)
    }

    fn signed(&self, config: &Config, now: Timestamp) -> Result<String> {
        let Some(secret) = &config.auth.jwt_secret else {
            return Err(Failure::failed("auth.jwt_secret is not set"));
        };
        let organisation = self.organisation.as_ref();
        let organisation = organisation.or(config.auth.default_organisation.as_ref());
        let organisation = organisation
            .ok_or_else(|| Failure::Usage("--organisation is needed".to_owned()))?
            .parse::<OrganisationId>()
            .map_err(|error| Failure::Usage(format!("--organisation: {error}")))?;
        let application = self.application.as_ref().map(|id| id.parse());
        let application: Option<ApplicationId> = application
            .transpose()
            .map_err(|error| Failure::Usage(format!("--application: {error}")))?;
        let subject = Subject {
            organisation,
            application,
        };
        Ok(secret.sign(subject, now, Some(now + DAY * self.expires_in)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Flags};

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

    fn arguments(organisation: Option<&str>, application: Option<&str>) -> Arguments {
        Arguments {
            organisation: organisation.map(str::to_owned),
            application: application.map(str::to_owned),
            expires_in: 1,
        }
    }

    #[test]
    fn what_is_signed_is_what_the_server_takes() {
        let mut config = config::load(None, Flags::default()).unwrap();
        let organisation = "org_23rb8YdGqMT0qIzpgGwdXfHirMu";
        let application = "app_1srOrx2ZWZBpBUvZwXKQmoEYga2";
        assert!(
            arguments(Some(organisation), None)
                .signed(&config, NOW)
                .is_err()
        );
        config.auth.jwt_secret = Some("8KjzRXrKkd9YFcNyqLSIY8JwiaCeRc6W".to_owned().into());
        for (arguments, holds) in [
            (arguments(Some(organisation), None), true),
            (arguments(Some(organisation), Some(application)), true),
            (arguments(None, None), false),
            (arguments(Some(application), None), false),
            (arguments(Some(organisation), Some("acme")), false),
        ] {
            let signed = arguments.signed(&config, NOW);
            assert_eq!(signed.is_ok(), holds);
            let Ok(signed) = signed else { continue };
            let secret = config.auth.jwt_secret.as_ref().unwrap();
            let claims = secret.verify(&signed, NOW).unwrap();
            assert_eq!(claims.subject.organisation.to_string(), organisation);
            assert_eq!(
                claims.subject.application.is_some(),
                arguments.application.is_some()
            );
            assert_eq!(claims.expires_at, Some(NOW + DAY));
        }
    }
}
