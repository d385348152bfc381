//! The rules for endpoints, whichever surface they are made and changed through.
//!
//! Handlers check a body's values with these rules, and decisions check the endpoint that results.
//! Many of them depend on the endpoint's profile, which an operator may have removed from the
//! settings since. Such an endpoint can still be shown and deleted, and be given another profile.

use std::collections::BTreeMap;

use super::View;
use super::caller::FeatureFlags;
use super::checks::Problems;
use super::target::header_problems;
use crate::catalog::{ApplicationEntry, Catalog};
use crate::clock::Timestamp;
use crate::config::{Config, LimitsSection};
use crate::domain::application::Application;
use crate::domain::endpoint::{Endpoint, EndpointSecret};
use crate::domain::id::{EndpointId, OrganisationId};
use crate::domain::profile::{Method, Profile};
use crate::domain::secret::{Secret, SecretForm};
use crate::domain::wildcard;
use crate::error::{Error, Result};

pub const NOT_FOUND: Error = Error::not_found("endpoint");

/// Why an event type is refused, behind its name.
pub const UNREGISTERED: &str =
    "is not registered, and must be (limits.require_known_event_types): create it first";

pub fn profile_name<'a>(endpoint: &'a Endpoint, config: &'a Config) -> &'a str {
    let default = &config.delivery.default_profile;
    endpoint.profile.as_ref().unwrap_or(default)
}

pub fn profile_of<'a>(endpoint: &Endpoint, config: &'a Config) -> Option<&'a Profile> {
    config.profile(endpoint.profile.as_deref())
}

/// Returns why the endpoint's deliveries are held, if they are.
pub fn held_because(endpoint: &Endpoint) -> Option<&'static str> {
    match endpoint {
        Endpoint {
            disabled: Some(_), ..
        } => Some("the endpoint is disabled"),
        Endpoint { held: Some(_), .. } => Some("the endpoint is held by the operator"),
        Endpoint {
            verification: Some(_),
            ..
        } => Some("the endpoint is not verified"),
        _ => None,
    }
}

/// Returns the method of requests to the endpoint; nothing where it is the profile's and the
/// profile is not configured.
pub fn method_of(endpoint: &Endpoint, config: &Config) -> Option<Method> {
    endpoint
        .method
        .or_else(|| profile_of(endpoint, config)?.methods.first().copied())
}

/// Returns the form of the endpoint's secrets; an error where its profile is not configured.
pub fn secret_form(endpoint: &Endpoint, config: &Config) -> Result<SecretForm> {
    match profile_of(endpoint, config) {
        Some(profile) => Ok(profile.secret_form()),
        None => Err(Error::Conflict(
            "the endpoint's profile is not configured any more; give it another one".to_owned(),
        )),
    }
}

/// Describes the secrets of this form, for people who choose one.
pub fn secret_hint(form: SecretForm) -> &'static str {
    match form {
        SecretForm::StandardWebhooks => {
            "whsec_ and base64 of 24 to 64 bytes, or whsk_ and base64 of an ed25519 key"
        }
        SecretForm::Whsec => "whsec_ and base64 of 24 to 64 bytes",
        SecretForm::Ed25519 => "whsk_ and base64 of an ed25519 key",
        SecretForm::Text {
            base64,
            hex,
            header,
        } => match (hex, base64, header) {
            (true, true, _) => "8 to 256 hex digits that are base64, too",
            (true, false, _) => "8 to 256 hex digits",
            (false, true, _) => "8 to 256 characters of base64",
            (false, false, true) => "any text of 8 to 256 ASCII characters",
            (false, false, false) => "any text of 8 to 256 bytes",
        },
    }
}

pub fn check_timeout(problems: &mut Problems, seconds: u32, limits: &LimitsSection) {
    let max = limits.endpoint_timeout_seconds_max;
    if !(1..=max).contains(&seconds) {
        let message = format!("must be 1 to {max} (limits.endpoint_timeout_seconds_max)");
        problems.add(&["body", "timeoutSeconds"], message);
    }
}

/// Which of the fields that depend on the profile a change names. A problem is reported at one of
/// these.
#[derive(Clone, Copy, Debug, Default)]
pub struct Named {
    pub profile: bool,
    pub method: bool,
    pub headers: bool,
    pub auth_headers: bool,
    /// Whether the change has one; removing it is always possible.
    pub transformation: bool,
}

/// Checks that the method is one of the profile's. Nothing is checked where the change names
/// neither.
pub fn check_method(problems: &mut Problems, endpoint: &Endpoint, profile: &Profile, named: Named) {
    let Some(method) = endpoint.method else {
        return;
    };
    if profile.methods.contains(&method) {
        return;
    }
    let allowed: Vec<&str> = profile.methods.iter().map(|method| method.name()).collect();
    if named.method {
        let message = format!("must be one of {}, by the profile", allowed.join(", "));
        problems.add(&["body", "method"], message);
    } else if named.profile {
        let message = format!(
            "does not allow the endpoint's method {}; it has {}",
            method.name(),
            allowed.join(", ")
        );
        problems.add(&["body", "profile"], message);
    }
}

/// Checks both kinds of headers together: each name is valid, is given once, and is set neither by
/// the server nor by the profile.
pub fn check_headers(problems: &mut Problems, endpoint: &Endpoint, config: &Config, named: Named) {
    let limits = &config.limits;
    let kinds = [
        ("headers", &endpoint.headers, named.headers),
        ("authHeaders", &endpoint.auth_headers, named.auth_headers),
    ];
    let count = endpoint.headers.len() + endpoint.auth_headers.len();
    if let Some((field, ..)) = kinds.iter().find(|(.., is_named)| *is_named)
        && count > limits.headers_max
    {
        let max = limits.headers_max;
        let message = format!("may have at most {max} entries, headers and authHeaders together");
        problems.add(&["body", field], message);
        return;
    }
    let set_by_profile = profile_of(endpoint, config)
        .map(Profile::header_names)
        .unwrap_or_default();
    let is_the_profiles = |name: &str| {
        set_by_profile
            .iter()
            .any(|one| one.eq_ignore_ascii_case(name))
    };
    for (field, headers, is_named) in kinds {
        if !is_named {
            let taken = headers.keys().filter(|name| is_the_profiles(name));
            for name in taken.filter(|_| named.profile) {
                let message =
                    format!("sets the header {name} itself, which the endpoint has in {field}");
                problems.add(&["body", "profile"], message);
            }
            continue;
        }
        let (others, is_in_others) = match field {
            "headers" => (&endpoint.auth_headers, "is in authHeaders, too"),
            _ => (&endpoint.headers, "is in headers, too"),
        };
        // Where the change names both, a header that is in both is reported once.
        let asks_others = field == "authHeaders" || !named.auth_headers;
        let taken = |name: &str| {
            if is_the_profiles(name) {
                return Some("is a header that the profile sets itself");
            }
            let is_there = others.keys().any(|one| one.eq_ignore_ascii_case(name));
            (asks_others && is_there).then_some(is_in_others)
        };
        for (name, message) in header_problems(headers, limits.header_value_bytes, taken) {
            problems.add(&["body", field, &name], message);
        }
    }
}

/// Checks the endpoint's transformation against the rest of it: the server and the profile allow one, its headers
/// are nobody else's, and its body is sent. Nothing is checked where the change names none of these.
pub fn check_transformation(
    problems: &mut Problems,
    endpoint: &Endpoint,
    config: &Config,
    named: Named,
) {
    const FIELD: &str = "transformation";
    let (Some(transformation), Some(profile)) =
        (endpoint.transformation(), profile_of(endpoint, config))
    else {
        return;
    };
    let is_offered = config.delivery.transformations;
    if named.transformation && !(is_offered && profile.transformations) {
        let message = match is_offered {
            false => "is not offered by this server (delivery.transformations)".to_owned(),
            true => format!(
                "is not offered to endpoints with the profile {}",
                profile_name(endpoint, config)
            ),
        };
        problems.not_offered(&["body", FIELD], message);
        return;
    }
    if named.profile && !profile.transformations {
        let message = "does not allow the endpoint's transformation; remove it with null";
        problems.add(&["body", "profile"], message);
        return;
    }
    let of_profile = profile.header_names();
    fn spelled<'a>(names: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
        let mut names = names.keys();
        let found = names.find(|one| one.eq_ignore_ascii_case(name));
        found.map(String::as_str)
    }
    for name in transformation.headers.keys() {
        let is_the_profiles = of_profile.iter().any(|one| one.eq_ignore_ascii_case(name));
        let (in_headers, in_auth_headers) = (
            spelled(&endpoint.headers, name),
            spelled(&endpoint.auth_headers, name),
        );
        let place = ["body", FIELD, "headers", name];
        match (is_the_profiles, in_headers, in_auth_headers) {
            (true, ..) if named.transformation => {
                problems.add(&place, "is a header that the profile sets itself");
            }
            (true, ..) if named.profile => {
                let message = format!(
                    "sets the header {name} itself, which the endpoint's transformation has"
                );
                problems.add(&["body", "profile"], message);
            }
            (_, Some(_), _) if named.transformation => problems.add(&place, "is in headers, too"),
            (_, _, Some(_)) if named.transformation => {
                problems.add(&place, "is in authHeaders, too")
            }
            (_, Some(own), _) if named.headers => {
                problems.add(&["body", "headers", own], "is in the transformation, too");
            }
            (_, _, Some(own)) if named.auth_headers => {
                let place = ["body", "authHeaders", own];
                problems.add(&place, "is in the transformation, too");
            }
            _ => {}
        }
    }
    let method = transformation.method.or(method_of(endpoint, config));
    if transformation.body.is_some() && method == Some(Method::Get) {
        let place: &[&str] = match (named.transformation, named.method) {
            (true, _) => &["body", FIELD, "body"],
            (false, true) => &["body", "method"],
            (false, false) if named.profile => &["body", "profile"],
            (false, false) => return,
        };
        let message = "a GET has no body; the transformation needs a `method`";
        problems.add(place, message);
    }
}

/// Gives a new endpoint its secret: the one in the change, or a generated one. An existing endpoint
/// takes a secret in a change only together with another profile, which its own may not fit.
/// Otherwise a secret is changed by rotating it, and the function returns false where the secret in
/// the change is not the endpoint's.
pub fn settle_secrets(
    problems: &mut Problems,
    endpoint: &mut Endpoint,
    given: Option<&str>,
    form: SecretForm,
    profile_changed: bool,
    view: &View<'_>,
) -> bool {
    let is_new = endpoint.secrets.is_empty();
    let secret = match given.map(|text| Secret::parse(text, form)) {
        Some(Err(message)) => {
            problems.add(&["body", "secret"], message);
            return true;
        }
        Some(Ok(secret)) => Some(secret),
        None if is_new => {
            let kind = view.settings.delivery.default_signature_type;
            Some(Secret::generate(form.of_kind(kind), view.random))
        }
        None => None,
    };
    match secret {
        Some(secret) if is_new || profile_changed => {
            endpoint.secrets = vec![EndpointSecret {
                secret,
                expires_at: None,
            }];
        }
        None if profile_changed
            && !endpoint
                .live_secrets(view.now)
                .all(|secret| secret.fits(form)) =>
        {
            let message = format!(
                "takes other secrets than the endpoint has; send a fitting secret with it: {}",
                secret_hint(form)
            );
            problems.add(&["body", "profile"], message);
        }
        Some(secret) => return endpoint.secrets[0].secret == secret,
        None => {}
    }
    true
}

/// Returns a new endpoint of the application, before the caller's body is applied to it.
pub fn blank(application: &Application, number: u64, now: Timestamp) -> Endpoint {
    let id = EndpointId::at(now);
    Endpoint::new(id, application.organisation, application.id, number, now)
}

pub fn refuse_taken_uid(entry: &ApplicationEntry, endpoint: &Endpoint) -> Result<()> {
    let Some(uid) = &endpoint.uid else {
        return Ok(());
    };
    match entry.endpoint(uid) {
        Some(other) if other.id != endpoint.id => Err(Error::Conflict(
            "an endpoint with this uid exists already".to_owned(),
        )),
        _ => Ok(()),
    }
}

/// Refuses an archived event type in a filter that did not have it before. An event type that the
/// caller's flags do not show counts as one that does not exist.
pub fn refuse_archived_types(
    catalog: &Catalog,
    flags: &FeatureFlags,
    before: Option<&[String]>,
    endpoint: &Endpoint,
) -> Result<()> {
    let mut problems = Problems::default();
    for name in endpoint.event_types.iter().flatten() {
        let is_new = !before.is_some_and(|before| before.contains(name));
        let is_archived = || {
            catalog
                .event_type(endpoint.organisation, name)
                .is_some_and(|event_type| event_type.archived && flags.show(event_type))
        };
        if is_new && is_archived() {
            let message = format!("the event type {name} is archived");
            problems.add(&["body", "eventTypes"], message);
        }
    }
    problems.done()
}

/// The most warnings about one endpoint.
const WARNINGS_MAX: usize = 20;

/// The most comparisons of wildcards with registered event types for one endpoint: a few milliseconds of a thread
/// that others wait for.
pub const COMPARISONS_MAX: usize = 20_000;

/// Whether something with wildcards takes an event type in use that is shown to the caller. It is taken to once
/// the comparisons that are left are used up.
pub fn takes_known(
    catalog: &Catalog,
    organisation: OrganisationId,
    flags: &FeatureFlags,
    wanted: &str,
    comparisons: &mut usize,
) -> bool {
    let mut known = catalog.event_types(organisation);
    known.any(|one| {
        *comparisons = comparisons.saturating_sub(1);
        if *comparisons == 0 {
            return true;
        }
        let is_open = !one.archived && one.feature_flags.is_empty() && flags.show(one);
        is_open && wildcard::takes(wanted, &one.name)
    })
}

/// Returns a warning for each event type in an endpoint's filter that is not registered, or not
/// shown to the caller, and for each wildcard that takes none that is. Such event types are accepted,
/// as messages of them may be, but a misspelled one makes an endpoint that receives nothing.
pub fn unregistered_types(
    catalog: &Catalog,
    flags: &FeatureFlags,
    endpoint: &Endpoint,
) -> Vec<String> {
    let organisation = endpoint.organisation;
    let names = endpoint.event_types.iter().flatten().enumerate();
    let mut comparisons = 0;
    let warnings = names.filter_map(|(index, name)| {
        if !wildcard::is_wildcard(name) {
            let known = catalog.event_type(organisation, name);
            let is_unknown = known.is_none_or(|known| !flags.show(known));
            return is_unknown.then(|| format!("eventTypes[{index}]: {name} is not registered"));
        }
        let mut flagged = None;
        for known in catalog.event_types(organisation).filter(|one| flags.show(one)) {
            comparisons += 1;
            if comparisons > COMPARISONS_MAX {
                return None;
            }
            if wildcard::takes(name, &known.name) {
                match known.feature_flags.is_empty() {
                    true => return None,
                    false => flagged = Some(&known.name),
                }
            }
        }
        Some(match flagged {
            None => format!("eventTypes[{index}]: {name} takes no event type that is registered"),
            Some(flagged) => format!(
                "eventTypes[{index}]: {name} does not take {flagged}, which has feature flags: add its name"
            ),
        })
    });
    warnings.take(WARNINGS_MAX).collect()
}

/// Refuses an event type in a filter that did not have it before where it is not registered, or not shown to
/// the caller. Wildcards are accepted: they also speak of event types to come.
pub fn refuse_unregistered_types(
    catalog: &Catalog,
    flags: &FeatureFlags,
    before: Option<&[String]>,
    endpoint: &Endpoint,
) -> Result<()> {
    let mut problems = Problems::default();
    let names = endpoint.event_types.iter().flatten().enumerate();
    for (index, name) in names.filter(|(_, name)| !wildcard::is_wildcard(name)) {
        let is_new = !before.is_some_and(|before| before.contains(name));
        let known = catalog.event_type(endpoint.organisation, name);
        if is_new && known.is_none_or(|known| !flags.show(known)) {
            let place = ["body", "eventTypes", &index.to_string()];
            problems.add(&place, format!("the event type {name} {UNREGISTERED}"));
        }
    }
    problems.done()
}

pub fn refuse_too_many(entry: &ApplicationEntry, max: usize) -> Result<()> {
    match entry.endpoints.len() < max {
        true => Ok(()),
        false => Err(Error::TooMany(format!(
            "an application has at most {max} endpoints"
        ))),
    }
}
