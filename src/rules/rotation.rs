//! Rotation of an endpoint's signing secrets.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::caller::Caller;
use super::checks::Problems;
use super::endpoint_checks::secret_form;
use super::endpoints::{Changed, EndpointPlace};
use super::permits::Action;
use super::{Command, Decided, View};
use crate::clock::Timestamp;
use crate::domain::endpoint::{Endpoint, EndpointSecret};
use crate::domain::secret::Secret;
use crate::error::{Error, Result};

/// How long a rotated secret stays valid by default.
const GRACE_SECONDS_DEFAULT: u32 = 24 * 60 * 60;
pub const GRACE_SECONDS_MAX: u32 = 7 * 24 * 60 * 60;

/// The most live secrets of an endpoint: each adds a signature to every request's headers.
const LIVE_SECRETS_MAX: usize = 10;

/// Signs with another secret from now on, and for a while with the old ones, too.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotateSecret {
    pub place: EndpointPlace,
    /// The new secret; where absent, one is generated that is of the same kind as the newest.
    pub key: Option<String>,
    pub grace_period_seconds: Option<u32>,
}

impl Command for RotateSecret {
    type Answer = Changed;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<Changed> {
        let (key, grace) = (self.key, self.grace_period_seconds);
        let edit = |endpoint: &mut Endpoint| {
            let (secret, grace) = checked(endpoint, key.as_deref(), grace, view)?;
            let old = std::mem::take(&mut endpoint.secrets);
            endpoint.secrets = rotated(old, secret, grace, view.now)?;
            Ok(Vec::new())
        };
        self.place
            .changed(caller, view, Action::ChangeSecrets, edit)
    }
}

/// Returns the new secret and how long the old ones stay valid.
fn checked(
    endpoint: &Endpoint,
    key: Option<&str>,
    grace_seconds: Option<u32>,
    view: &View<'_>,
) -> Result<(Secret, Duration)> {
    let form = secret_form(endpoint, view.settings)?;
    // The receiver can go on verifying in the same way.
    let newest = endpoint.secrets.first().map(|newest| newest.secret.kind());
    let kind = newest.unwrap_or(view.settings.delivery.default_signature_type);
    let mut problems = Problems::default();
    let secret = match key.map(|text| Secret::parse(text, form)) {
        None => Some(Secret::generate(form.of_kind(kind), view.random)),
        Some(Ok(secret)) => Some(secret),
        Some(Err(message)) => {
            problems.add(&["body", "key"], message);
            None
        }
    };
    let grace = grace_seconds.unwrap_or(GRACE_SECONDS_DEFAULT);
    if grace > GRACE_SECONDS_MAX {
        let message = format!("must be 0 to {GRACE_SECONDS_MAX}");
        problems.add(&["body", "gracePeriodSeconds"], message);
    }
    problems.done()?;
    let secret = secret.expect("without a problem there is a secret");
    Ok((secret, Duration::from_secs(grace.into())))
}

/// Returns the new secret, followed by the old ones that are still valid for a while.
fn rotated(
    old: Vec<EndpointSecret>,
    new: Secret,
    grace: Duration,
    now: Timestamp,
) -> Result<Vec<EndpointSecret>> {
    let end = now + grace;
    let mut secrets = vec![EndpointSecret {
        secret: new,
        expires_at: None,
    }];
    for one in old {
        let expires_at = one.expires_at.map_or(end, |sooner| sooner.min(end));
        if expires_at > now && one.secret != secrets[0].secret {
            secrets.push(EndpointSecret {
                secret: one.secret,
                expires_at: Some(expires_at),
            });
        }
    }
    match secrets.len() <= LIVE_SECRETS_MAX {
        true => Ok(secrets),
        false => Err(Error::LimitReached(format!(
            "at most {LIVE_SECRETS_MAX} secrets are valid at a time; rotate with a shorter grace period"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::secret::{SecretForm, SignatureType};
    use crate::rules::tests::{Example, NOW};

    const FORM: SecretForm = SecretForm::StandardWebhooks;

    fn secret(byte: u8) -> Secret {
        Secret::generate(FORM, [byte; 32])
    }

    #[test]
    fn a_rotated_secret_stays_for_the_grace_period() {
        let grace = Duration::from_secs(60);
        let first = vec![EndpointSecret {
            secret: secret(1),
            expires_at: None,
        }];
        let second = rotated(first, secret(2), grace, NOW).unwrap();
        assert_eq!(second[0].secret, secret(2));
        assert_eq!(second[0].expires_at, None);
        assert_eq!(second[1].expires_at, Some(NOW + grace));

        let later = NOW + Duration::from_secs(30);
        let third = rotated(second.clone(), secret(3), grace, later).unwrap();
        let ends: Vec<_> = third.iter().map(|one| one.expires_at).collect();
        assert_eq!(
            ends,
            [None, Some(later + grace), Some(NOW + grace)],
            "an end is not put off"
        );

        let much_later = NOW + Duration::from_secs(600);
        let fourth = rotated(third, secret(4), Duration::ZERO, much_later).unwrap();
        assert_eq!(fourth.len(), 1, "expired ones go, and no grace means none");
    }

    #[test]
    fn a_secret_that_comes_again_is_there_once() {
        let first = vec![EndpointSecret {
            secret: secret(1),
            expires_at: None,
        }];
        let again = rotated(first, secret(1), Duration::from_secs(60), NOW).unwrap();
        assert_eq!(again.len(), 1);
        assert_eq!(again[0].expires_at, None);
    }

    #[test]
    fn live_secrets_are_bounded() {
        let mut secrets = Vec::new();
        for byte in 0..LIVE_SECRETS_MAX as u8 {
            secrets = rotated(secrets, secret(byte), Duration::from_secs(60), NOW).unwrap();
        }
        let refused = rotated(secrets, secret(99), Duration::from_secs(60), NOW);
        assert!(matches!(refused, Err(Error::LimitReached(_))));
    }

    #[test]
    fn a_rotation_is_checked() {
        let example = Example::new();
        let view = example.view();
        let mut endpoint = example.endpoint();
        let mut check = |newest: Secret, key: Option<&str>, seconds| {
            endpoint.secrets = vec![EndpointSecret {
                secret: newest,
                expires_at: None,
            }];
            checked(&endpoint, key, seconds, &view)
        };
        let (made_up, grace) = check(secret(1), None, None).unwrap();
        assert_eq!(grace, Duration::from_secs(86_400));
        assert_eq!(made_up.kind(), SignatureType::Hmac);
        let text = secret(2).readable();
        assert!(check(secret(1), Some(&text), Some(604_800)).is_ok());
        for (key, seconds, expected) in [
            (
                None,
                Some(604_801),
                "body.gracePeriodSeconds: must be 0 to 604800",
            ),
            (Some("short"), None, "body.key: "),
        ] {
            let refused = check(secret(1), key, seconds).unwrap_err().to_string();
            assert!(refused.starts_with(expected), "{refused}");
        }
        let ed25519 = Secret::generate(SecretForm::Ed25519, [3; 32]);
        let (made_up, _) = check(ed25519, None, None).unwrap();
        assert_eq!(made_up.kind(), SignatureType::Ed25519, "as the newest is");
    }
}
