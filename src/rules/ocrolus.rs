//! Accounts of Ocrolus's surface. An account is a token of the role application with one endpoint
//! of its own, which the token's record names.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::caller::{Caller, Credential, FeatureFlags};
use super::checks::{EVENT_TYPE_NAME_MAX, Problems, wrong};
use super::endpoint_checks::{COMPARISONS_MAX, blank, refuse_too_many, takes_known};
use super::origin::Carried;
use super::patch::Patch;
use super::permits::Action;
use super::target::EndpointUrl;
use super::{Command, Decided, View};
use crate::catalog::{ApplicationEntry, Catalog, Change};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::domain::endpoint::{BasicAuth, Endpoint, EndpointSecret};
use crate::domain::id::{EndpointId, OrganisationId};
use crate::domain::secret::{Secret, SecretForm};
use crate::domain::token::{Role, Token};
use crate::domain::wildcard;
use crate::error::{Error, Result};

/// The profile of endpoints that are made through this surface.
const PROFILE: &str = "ocrolus";

/// An account is a customer's, and has no feature flags.
pub const ACCOUNT_FLAGS: FeatureFlags = FeatureFlags::Only(BTreeSet::new());

const NOT_CONFIGURED: Error = Error::not_found("webhook endpoint");

/// The part of an account's endpoint that is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccountEndpoint {
    pub url: String,
    pub events: Vec<String>,
}

impl AccountEndpoint {
    /// Shows an endpoint. One that names no events receives all of them.
    pub fn of(endpoint: &Endpoint, catalog: &Catalog) -> AccountEndpoint {
        let all = || {
            let known = catalog.event_types(endpoint.organisation);
            let current =
                known.filter(|event_type| !event_type.archived && ACCOUNT_FLAGS.show(event_type));
            current.map(|event_type| event_type.name.clone()).collect()
        };
        AccountEndpoint {
            url: endpoint.url.clone(),
            events: endpoint.event_types.clone().map_or_else(all, Vec::from),
        }
    }
}

/// A token with its application, and its endpoint if it has one.
pub struct Account<'a> {
    token: &'a Token,
    entry: &'a ApplicationEntry,
    endpoint: Option<&'a Endpoint>,
}

impl<'a> Account<'a> {
    pub fn of(catalog: &'a Catalog, caller: &Caller, action: Action) -> Result<Account<'a>> {
        let (Role::Application, Credential::Token(id)) = (caller.role(), caller.credential())
        else {
            return Err(Error::forbidden(
                "an account is an API key of an application, or another token of the role application: a \
                 link to the portal and a signed token are none",
            ));
        };
        caller.may_with_some(action)?;
        // It may have been revoked since the request came in.
        let token = catalog.token(id).ok_or(Error::Unauthenticated)?;
        let entry = token
            .application
            .and_then(|id| catalog.application_by_id(id))
            .ok_or(Error::not_found("application"))?;
        let endpoint = token
            .account_endpoint
            .and_then(|id| entry.endpoint_by_id(id));
        Ok(Account {
            token,
            entry,
            endpoint: endpoint.map(|endpoint| &**endpoint),
        })
    }

    pub fn configured(&self) -> Result<&'a Endpoint> {
        self.endpoint.ok_or(NOT_CONFIGURED)
    }

    /// Returns the change that makes this endpoint the account's, or leaves the account without
    /// one.
    fn keeping(&self, endpoint: Option<EndpointId>) -> Change {
        Change::PutToken(Token {
            account_endpoint: endpoint,
            ..self.token.clone()
        })
    }
}

/// Makes the account's endpoint, or changes it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigureAccount {
    pub settings: AccountSettings,
    /// The problems of the settings by themselves.
    pub problems: Problems,
}

impl Command for ConfigureAccount {
    type Answer = AccountEndpoint;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<AccountEndpoint> {
        let ConfigureAccount {
            settings,
            mut problems,
        } = self;
        let account = Account::of(view.catalog, caller, Action::ChangeEndpoints)?;
        let is_configured = account.endpoint.is_some();
        let organisation = caller.organisation;
        settings.check(view.catalog, organisation, is_configured, &mut problems);
        if let Some(endpoint) = account.endpoint {
            settings.check_origin(endpoint, view.settings, &mut problems);
        }
        problems.done()?;
        let mut endpoint = match account.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => {
                let max = view.settings.limits.endpoints_per_application_max;
                refuse_too_many(account.entry, max)?;
                new_endpoint(account.entry, view)
            }
        };
        settings.apply_to(&mut endpoint, view.settings.delivery.challenge_at(view.now));
        endpoint.updated_at = view.now;
        let shown = AccountEndpoint::of(&endpoint, view.catalog);
        let kept = account.keeping(Some(endpoint.id));
        Ok((vec![Change::PutEndpoint(endpoint), kept], shown))
    }
}

fn new_endpoint(entry: &ApplicationEntry, view: &View<'_>) -> Endpoint {
    let form = secret_form(view.settings, Some(PROFILE));
    let number = view.catalog.next_endpoint_number();
    Endpoint {
        profile: Some(PROFILE.to_owned()),
        secrets: vec![newest(Secret::generate(form, view.random))],
        ..blank(&entry.application, number, view.now)
    }
}

/// Deletes the account's endpoint.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeregisterAccount {}

impl Command for DeregisterAccount {
    /// The endpoint as it was, without events.
    type Answer = AccountEndpoint;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<AccountEndpoint> {
        let account = Account::of(view.catalog, caller, Action::ChangeEndpoints)?;
        let endpoint = account.configured()?;
        let gone = Change::DeleteEndpoint(endpoint.application, endpoint.id);
        let shown = AccountEndpoint {
            url: endpoint.url.clone(),
            events: Vec::new(),
        };
        Ok((vec![gone, account.keeping(None)], shown))
    }
}

/// Signs with this secret from now on, and with no other: a request carries one signature.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotateAccountSecret {
    pub secret: String,
}

impl Command for RotateAccountSecret {
    type Answer = AccountEndpoint;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<AccountEndpoint> {
        let account = Account::of(view.catalog, caller, Action::ChangeSecrets)?;
        let mut endpoint = account.configured()?.clone();
        // The profile is this surface's, unless somebody changed it through another one.
        let form = secret_form(view.settings, endpoint.profile.as_deref());
        let secret = Secret::parse(&self.secret, form)
            .map_err(|message| wrong(&["body", "secret_key"], message))?;
        endpoint.secrets = vec![newest(secret)];
        endpoint.updated_at = view.now;
        let shown = AccountEndpoint::of(&endpoint, view.catalog);
        Ok((vec![Change::PutEndpoint(endpoint)], shown))
    }
}

fn newest(secret: Secret) -> EndpointSecret {
    EndpointSecret {
        secret,
        expires_at: None,
    }
}

/// Returns the form of a profile's secrets.
fn secret_form(settings: &Config, profile: Option<&str>) -> SecretForm {
    let profile = settings.profile(profile);
    profile.map_or(SecretForm::TEXT, |profile| profile.secret_form())
}

/// The settings that an account asks for its endpoint.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountSettings {
    pub url_given: bool,
    /// The URL; absent where none was given, or a wrong one.
    pub target: Option<EndpointUrl>,
    /// An empty list deletes the endpoint.
    pub events: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Patch::is_absent")]
    pub credentials: Patch<BasicAuth>,
}

impl AccountSettings {
    pub fn deregisters(&self) -> bool {
        self.events.as_ref().is_some_and(Vec::is_empty)
    }

    /// Checks the settings against the catalog and the account.
    pub fn check(
        &self,
        catalog: &Catalog,
        organisation: OrganisationId,
        is_configured: bool,
        problems: &mut Problems,
    ) {
        if !self.url_given && !is_configured {
            problems.missing(&["body", "webhook_endpoint"]);
        }
        let well_formed = |name: &&String| wildcard::problem(name, EVENT_TYPE_NAME_MAX).is_none();
        let mut comparisons = COMPARISONS_MAX;
        for name in self.events.iter().flatten().filter(well_formed) {
            if wildcard::is_wildcard(name) {
                let left = &mut comparisons;
                if !takes_known(catalog, organisation, &ACCOUNT_FLAGS, name, left) {
                    let message = format!("there is no event type that {name} takes");
                    problems.add(&["body", "event"], message);
                }
                continue;
            }
            let known = catalog.event_type(organisation, name);
            match known.filter(|event_type| ACCOUNT_FLAGS.show(event_type)) {
                None => {
                    let message = format!("there is no event type {name}");
                    problems.add(&["body", "event"], message);
                }
                Some(event_type) if event_type.archived => {
                    let message = format!("the event type {name} is archived");
                    problems.add(&["body", "event"], message);
                }
                Some(_) => {}
            }
        }
    }

    /// Adds the problems of secrets that may not go along to another origin. The account is never
    /// shown them.
    pub fn check_origin(&self, endpoint: &Endpoint, config: &Config, problems: &mut Problems) {
        let url = self.target.as_ref().map(|target| &target.url);
        let profile = config.profile(endpoint.profile.as_deref());
        let carried = Carried::of(endpoint, url, profile, config);
        let has_new = self
            .target
            .as_ref()
            .is_some_and(EndpointUrl::has_credentials)
            || self.credentials != Patch::Absent;
        if carried.basic_auth && !has_new {
            let message = "was given for the former URL, as was the password: enter both again, or send \
                           them empty to clear them";
            problems.add(&["body", "username"], message);
        }
        let headers = carried.headers.iter().map(|name| format!("headers.{name}"));
        let auth_headers = carried.auth_headers.iter();
        let auth_headers = auth_headers.map(|name| format!("authHeaders.{name}"));
        let secret = carried.secret.then(|| "secret".to_owned());
        for name in headers.chain(auth_headers).chain(secret) {
            let message = format!(
                "is another receiver than {name} was given for: change the URL in the native API, \
                 which takes it anew"
            );
            problems.add(&["body", "webhook_endpoint"], message);
        }
    }

    /// Whoever gives a URL wants requests there, so a disabled endpoint is enabled by it.
    pub fn apply_to(self, endpoint: &mut Endpoint, challenge_at: Option<Timestamp>) {
        if let Some(target) = self.target {
            target.apply_to(endpoint, challenge_at);
            endpoint.disabled = None;
        }
        if let Some(names) = self.events {
            endpoint.event_types = Some(names.into());
        }
        self.credentials.apply_to_optional(&mut endpoint.basic_auth);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::event_types::blank as event_type;
    use crate::rules::target::target;
    use crate::rules::tests::{Example, NOW, outcome};

    /// An account of the application `one`, with the endpoint that it names if it names one.
    fn example(endpoint: Option<EndpointId>) -> (Example, Caller) {
        let token = Token {
            application: Some(Example::application().id),
            account_endpoint: endpoint,
            ..Token::new(
                Example::ORGANISATION,
                Role::Application,
                "account".to_owned(),
                [9; 32],
                NOW,
            )
        };
        let known = event_type(Example::ORGANISATION, "current".to_owned(), NOW);
        let example = Example::with([
            Change::PutApplication(Example::application()),
            Change::PutEndpoint(Example::new().endpoint()),
            Change::PutEventType(known),
            Change::PutToken(token.clone()),
        ]);
        (example, Example::caller(&token))
    }

    fn configure(url: Option<&str>, events: &[&str]) -> ConfigureAccount {
        let events = events.iter().map(|name| (*name).to_owned());
        ConfigureAccount {
            settings: AccountSettings {
                url_given: url.is_some(),
                target: url.map(|url| target(url, 100).unwrap()),
                events: Some(events.collect()),
                credentials: Patch::Absent,
            },
            problems: Problems::default(),
        }
    }

    #[test]
    fn an_account_configures_one_endpoint_of_its_own() {
        let own = Example::new().endpoint().id;
        let url = Some("https://example.com/other");
        let missing = "body.webhook_endpoint: is required";
        let strange = "body.event: there is no event type strange";
        for (endpoint, url, events, expected) in [
            (None, url, "current", ""),
            (None, None, "current", missing),
            (None, url, "strange", strange),
            (Some(own), url, "current", ""),
            (Some(own), None, "current", ""),
            // The endpoint in the record was deleted.
            (Some(EndpointId([2; 20])), None, "current", missing),
        ] {
            let (example, caller) = example(endpoint);
            let decided = example.decide_as(&caller, configure(url, &[events]));
            assert_eq!(outcome(&decided), expected);
            let Ok((changes, shown)) = decided else {
                continue;
            };
            let [Change::PutEndpoint(put), Change::PutToken(kept)] = &changes[..] else {
                panic!("{changes:?}");
            };
            assert_eq!(kept.account_endpoint, Some(put.id));
            assert_eq!(put.id == own, endpoint == Some(own));
            assert_eq!(shown.events, ["current"]);
            assert_eq!(shown.url, put.url);
        }
    }

    #[test]
    fn only_a_token_of_an_application_is_an_account() {
        let (example, _) = example(None);
        let decided = example.decide(configure(None, &["current"]));
        let refused = outcome(&decided);
        assert!(refused.starts_with("an account is an API key"), "{refused}");
    }

    #[test]
    fn what_is_not_configured_is_neither_rotated_nor_taken_away() {
        let own = Example::new().endpoint().id;
        for (endpoint, expected) in [(None, "webhook endpoint not found"), (Some(own), "")] {
            let (example, caller) = example(endpoint);
            let rotate = RotateAccountSecret {
                secret: Secret::generate(SecretForm::Whsec, [5; 32]).readable(),
            };
            let decided = example.decide_as(&caller, rotate);
            assert_eq!(outcome(&decided), expected);
            let decided = example.decide_as(&caller, DeregisterAccount {});
            assert_eq!(outcome(&decided), expected);
            if let Ok((changes, shown)) = decided {
                let [Change::DeleteEndpoint(_, id), Change::PutToken(kept)] = &changes[..] else {
                    panic!("{changes:?}");
                };
                assert_eq!((*id, kept.account_endpoint), (own, None));
                assert!(shown.events.is_empty());
            }
        }
        let (example, caller) = example(Some(own));
        let rotate = RotateAccountSecret {
            secret: "short".to_owned(),
        };
        let refused = outcome(&example.decide_as(&caller, rotate));
        assert!(refused.starts_with("body.secret_key: "), "{refused}");
    }
}
