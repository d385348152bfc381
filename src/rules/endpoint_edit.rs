//! A change of an endpoint as data, and its application to the endpoint.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::View;
use super::caller::{Caller, Credential};
use super::checks::Problems;
use super::endpoint_checks::{
    Named, check_headers, check_method, check_transformation, profile_name, profile_of,
    settle_secrets,
};
use super::origin::{Carried, GivenSecrets};
use super::ovation::PROFILE;
use super::patch::Patch;
use super::permits::Action;
use super::target::{EndpointUrl, GivenBasicAuth, retarget};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::domain::disabled::Disabled;
use crate::domain::endpoint::Endpoint;
use crate::domain::filter::Filter;
use crate::domain::operational;
use crate::domain::profile::Method;
use crate::domain::retry::RetrySchedule;
use crate::domain::transformation::{EARLIER_VERSIONS_MAX, Transformation, TransformationVersion};
use crate::domain::wildcard::EventTypes;
use crate::error::Result;

/// The fields of a body about an endpoint, and the problems of their values by themselves.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointEdit {
    pub problems: Problems,
    pub kind: EditKind,
    /// An id came along, which no new endpoint can have.
    pub id_is_given: bool,
    #[serde(default, skip_serializing_if = "Patch::is_absent")]
    pub uid: Patch<String>,
    pub url: Option<EndpointUrl>,
    #[serde(default, skip_serializing_if = "Patch::is_absent")]
    pub description: Patch<String>,
    #[serde(default, skip_serializing_if = "Patch::is_absent")]
    pub disabled: Patch<bool>,
    #[serde(default, skip_serializing_if = "Patch::is_absent")]
    pub event_types: Patch<Vec<String>>,
    #[serde(default, skip_serializing_if = "Patch::is_absent")]
    pub channels: Patch<Vec<String>>,
    #[serde(default, skip_serializing_if = "Patch::is_absent")]
    pub metadata: Patch<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Patch::is_absent")]
    pub throttle_rate: Patch<u16>,
    pub secret: Option<String>,
    #[serde(default, skip_serializing_if = "Patch::is_absent")]
    pub headers: Patch<BTreeMap<String, Option<String>>>,
    #[serde(default, skip_serializing_if = "Patch::is_absent")]
    pub auth_headers: Patch<BTreeMap<String, Option<String>>>,
    #[serde(default, skip_serializing_if = "Patch::is_absent")]
    pub basic_auth: Patch<GivenBasicAuth>,
    #[serde(default, skip_serializing_if = "Patch::is_absent")]
    pub profile: Patch<String>,
    #[serde(default, skip_serializing_if = "Patch::is_absent")]
    pub method: Patch<Method>,
    #[serde(default, skip_serializing_if = "Patch::is_absent")]
    pub retry: Patch<RetrySchedule>,
    #[serde(default, skip_serializing_if = "Patch::is_absent")]
    pub timeout_seconds: Patch<u32>,
    #[serde(default, skip_serializing_if = "Patch::is_absent")]
    pub breaker_failures: Patch<u32>,
    #[serde(default, skip_serializing_if = "Patch::is_absent")]
    pub disable_after_hours: Patch<u32>,
    #[serde(default, skip_serializing_if = "Patch::is_absent")]
    pub transformation: Patch<Transformation>,
    #[serde(default, skip_serializing_if = "Patch::is_absent")]
    pub filter: Patch<Arc<Filter>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EditKind {
    /// Create or replace: null is as good as absent, and a URL is needed.
    Whole,
    /// Null clears, and some fields cannot be cleared.
    Patch,
}

impl EndpointEdit {
    /// Changes the fields that the body names, and returns warnings or all problems. After an error
    /// the endpoint is of no use.
    pub fn apply_to(
        mut self,
        endpoint: &mut Endpoint,
        caller: &Caller,
        view: &View<'_>,
    ) -> Result<Vec<String>> {
        let config = view.settings;
        if endpoint.is_operational() && self.profile == Patch::Null {
            // Whatever the server's default is for its customers.
            self.profile = Patch::Set(operational::PROFILE.to_owned());
        }
        let carried = self.carried(endpoint, config);
        let before = endpoint.clone();
        let (given, named) = (self.given(), self.named());
        let mut problems = self.problems;
        let mut warnings = Vec::new();
        let keeps_secrets = caller.keeps_secrets(match endpoint.is_operational() {
            false => Action::ReadSecrets,
            // Who may change these may read their secrets.
            true => Action::OwnEndpoints,
        });
        if !keeps_secrets {
            carried.refuse(&mut problems, given);
            carried.forget(endpoint);
        } else if carried.secret && given.secret {
            endpoint.secrets.clear();
        }
        let profile_before = profile_name(endpoint, config).to_owned();

        let challenge_at = config.delivery.challenge_at(view.now);
        retarget(
            &mut problems,
            endpoint,
            self.url,
            self.basic_auth,
            challenge_at,
        );
        self.uid.apply_to_optional(&mut endpoint.uid);
        self.description.apply_to(&mut endpoint.description);
        set_disabled(self.disabled, self.kind, endpoint, view.now);
        self.event_types
            .map(EventTypes::from)
            .apply_to_optional(&mut endpoint.event_types);
        self.channels.apply_to_optional(&mut endpoint.channels);
        self.metadata.apply_to(&mut endpoint.metadata);
        self.throttle_rate
            .apply_to_optional(&mut endpoint.throttle_rate);
        let mut headers = endpoint.headers.clone();
        let (given, carried_ones) = (self.headers, &carried.headers);
        replace_headers(&mut problems, "headers", given, &mut headers, carried_ones);
        let auth_headers = &mut endpoint.auth_headers;
        let (given, carried_ones) = (self.auth_headers, &carried.auth_headers);
        replace_headers(
            &mut problems,
            "authHeaders",
            given,
            auth_headers,
            carried_ones,
        );
        self.profile.apply_to_optional(&mut endpoint.profile);
        endpoint.set_headers(headers, profile_name(endpoint, config) == PROFILE);
        self.method.apply_to_optional(&mut endpoint.method);
        self.retry.apply_to_optional(&mut endpoint.retry);
        self.timeout_seconds
            .apply_to_optional(&mut endpoint.timeout_seconds);
        self.breaker_failures
            .apply_to_optional(&mut endpoint.breaker_failures);
        self.disable_after_hours
            .apply_to_optional(&mut endpoint.disable_after_hours);
        set_transformation(self.transformation, endpoint, view.now);
        self.filter.apply_to_optional(&mut endpoint.filter);

        check_headers(&mut problems, endpoint, config, named);
        check_transformation(&mut problems, endpoint, config, named);
        let in_effect = InEffect {
            kind: self.kind,
            secret: self.secret,
            offered: offered(caller, view),
            changed: profile_name(endpoint, config) != profile_before,
        };
        in_effect.settle(&mut problems, &mut warnings, endpoint, named, view);
        problems.done()?;
        if keeps_secrets {
            warnings.extend(carried.warnings(&before, endpoint));
        }
        Ok(warnings)
    }

    fn given(&self) -> GivenSecrets {
        GivenSecrets {
            basic_auth: self.basic_auth != Patch::Absent
                || self.url.as_ref().is_some_and(EndpointUrl::has_credentials),
            headers: self.headers != Patch::Absent,
            auth_headers: self.auth_headers != Patch::Absent,
            secret: self.secret.is_some(),
        }
    }

    fn named(&self) -> Named {
        Named {
            profile: self.profile != Patch::Absent,
            method: self.method != Patch::Absent,
            headers: self.headers != Patch::Absent,
            auth_headers: self.auth_headers != Patch::Absent,
            transformation: self.transformation.as_set().is_some(),
        }
    }

    fn carried(&self, endpoint: &Endpoint, config: &Config) -> Carried {
        let profile = match &self.profile {
            Patch::Absent => endpoint.profile.as_deref(),
            Patch::Null => None,
            Patch::Set(name) => Some(name.as_str()),
        };
        let url = self.url.as_ref().map(|target| &target.url);
        Carried::of(endpoint, url, config.profile(profile), config)
    }
}

/// The parts of a change that depend on the profile in effect.
struct InEffect {
    kind: EditKind,
    secret: Option<String>,
    /// The profiles that may be chosen, where not all are.
    offered: Option<Vec<String>>,
    /// The profile is another one than before.
    changed: bool,
}

impl InEffect {
    /// Checks the method and the profile itself, and gives the endpoint the secret that it is to have.
    fn settle(
        self,
        problems: &mut Problems,
        warnings: &mut Vec<String>,
        endpoint: &mut Endpoint,
        named: Named,
        view: &View<'_>,
    ) {
        let config = view.settings;
        let Some(profile) = profile_of(endpoint, config) else {
            if named.profile || named.method || self.secret.is_some() {
                let message = "must be the name of a profile; GET /api/v1/profile lists them";
                problems.add(&["body", "profile"], message);
            }
            return;
        };
        check_method(problems, endpoint, profile, named);
        check_offered(problems, endpoint, config, self.changed, self.offered);
        let secret = self.secret.as_deref();
        let form = profile.secret_form();
        let taken = settle_secrets(problems, endpoint, secret, form, self.changed, view);
        match self.kind {
            _ if taken => {}
            EditKind::Patch => problems.add(&["body", "secret"], ROTATE),
            // A client may repeat the request that made the endpoint, with the secret of that time.
            EditKind::Whole => warnings.push(format!("secret {ROTATE}")),
        }
    }
}

const ROTATE: &str = "is another one than the endpoint has, and was not taken: \
                      POST …/endpoint/{endpoint_id}/secret/rotate changes it";

/// Replaces headers as a whole. A header without a value keeps the one that it has, which callers
/// may not see. Headers in `forgotten` have no value left to keep and are removed.
fn replace_headers(
    problems: &mut Problems,
    field: &str,
    named: Patch<BTreeMap<String, Option<String>>>,
    headers: &mut BTreeMap<String, String>,
    forgotten: &[String],
) {
    let named = match named {
        Patch::Absent => return,
        Patch::Null => BTreeMap::new(),
        Patch::Set(named) => named,
    };
    let mut before = std::mem::take(headers);
    for (name, value) in named {
        match value.or_else(|| before.remove(&name)) {
            Some(value) => drop(headers.insert(name, value)),
            None if forgotten.iter().any(|one| one.eq_ignore_ascii_case(&name)) => {}
            None => {
                let message = "needs a value: there is none to keep";
                problems.add(&["body", field, &name], message);
            }
        }
    }
}

/// Returns the profiles that the caller may choose where not all are: through a link to the portal,
/// those that the operator offers there.
fn offered(caller: &Caller, view: &View<'_>) -> Option<Vec<String>> {
    let is_session = matches!(caller.credential(), Credential::Session(..));
    is_session.then(|| view.settings.offered_profiles(true))
}

/// Checks that a profile is one of `offered`. The endpoint's present profile, and the default, may
/// stay.
fn check_offered(
    problems: &mut Problems,
    endpoint: &Endpoint,
    config: &Config,
    changed: bool,
    offered: Option<Vec<String>>,
) {
    let Some(offered) = offered.filter(|_| changed && endpoint.profile.is_some()) else {
        return;
    };
    if !offered
        .iter()
        .any(|one| one == profile_name(endpoint, config))
    {
        let message = format!("must be one of {}", offered.join(", "));
        problems.add(&["body", "profile"], message);
    }
}

/// Disables or enables the endpoint. One that its failures or its receiver disabled stays so unless the body says
/// `false`: a client that replaces its endpoints now and then does not speak of that.
fn set_disabled(disabled: Patch<bool>, kind: EditKind, endpoint: &mut Endpoint, now: Timestamp) {
    let is_automatic = endpoint.disabled.is_some_and(Disabled::is_automatic);
    match (disabled, kind) {
        (Patch::Set(true), _) => {
            endpoint.disabled.get_or_insert(Disabled::by_hand(now));
        }
        (Patch::Set(false), _) => endpoint.disabled = None,
        (Patch::Absent | Patch::Null, EditKind::Whole) if !is_automatic => endpoint.disabled = None,
        (Patch::Absent | Patch::Null, _) => {}
    }
}

/// Makes a transformation the newest version, and forgets the oldest where they are too many. One that is in
/// effect already makes none, and one that changes nothing is as good as null.
fn set_transformation(given: Patch<Transformation>, endpoint: &mut Endpoint, now: Timestamp) {
    let transformation = match given {
        Patch::Absent => return,
        Patch::Null => None,
        Patch::Set(given) => Some(given).filter(|given| !given.is_empty()),
    };
    if endpoint.transformation() == transformation.as_ref() {
        return;
    }
    let newest = endpoint.transformations.first();
    let version = TransformationVersion {
        number: newest.map_or(1, |newest| newest.number.saturating_add(1)),
        saved_at: now,
        transformation,
    };
    endpoint.transformations.insert(0, Arc::new(version));
    endpoint.transformations.truncate(1 + EARLIER_VERSIONS_MAX);
}

/// Resets the fields that the contract knows, before a replacement is applied. The others are left,
/// because a client that does not know them does not send them.
pub fn reset(endpoint: &mut Endpoint) {
    endpoint.uid = None;
    endpoint.description = String::new();
    endpoint.event_types = None;
    endpoint.channels = None;
    endpoint.metadata = BTreeMap::new();
    endpoint.throttle_rate = None;
}
