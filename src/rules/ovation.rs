//! Webhooks of Ovation's surface: endpoints under other names, with other rules for bodies.
//!
//! All problems are told in one answer, as sentences: those of the body by itself, and those that
//! only the registrations show.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::caller::{Caller, Credential, FeatureFlags};
use super::checks::EVENT_TYPE_NAME_MAX;
use super::endpoint_checks::{COMPARISONS_MAX, blank, takes_known};
use super::endpoints::Changed;
use super::origin::{Carried, ENTER_AGAIN};
use super::permits::Action;
use super::target::{EndpointUrl, header_problems};
use super::{Command, Decided, View};
use crate::catalog::{ApplicationEntry, Catalog, Change};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::domain::application::Application;
use crate::domain::endpoint::{BasicAuth, Endpoint, EndpointSecret, is_sensitive};
use crate::domain::id::OrganisationId;
use crate::domain::profile::Profile;
use crate::domain::secret::{Secret, SecretForm};
use crate::domain::wildcard;
use crate::error::{Error, Invalid, Result};

/// The profile of endpoints that are made through this surface; one of the built-in ones.
pub const PROFILE: &str = "ovation";

/// The text in place of a header's value that is not shown.
pub const MASK: &str = "***";

/// The longest user name, and the longest password: more than any real one has, and both fit into a
/// header.
pub const CREDENTIAL_BYTES_MAX: usize = 1024;

const NO_TEMPLATE: Error = Error::not_found("Project Template");
const NO_WEBHOOK: Error = Error::not_found("Webhook Endpoint");

/// Returns one error with these sentences.
pub fn invalid(sentences: Vec<String>) -> Error {
    let problem = |message| Invalid {
        location: Vec::new(),
        message,
        kind: "value_error".into(),
    };
    Error::Invalid(sentences.into_iter().map(problem).collect())
}

/// A body as far as it can be read, and its problems by itself.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookDraft {
    pub target: Option<EndpointUrl>,
    pub event: Option<String>,
    pub username: Option<String>,
    pub password: Option<String>,
    /// Absent leaves the headers as they are; null and an empty object clear them.
    pub request_headers: Option<BTreeMap<String, String>>,
    pub authentication_headers: Option<BTreeMap<String, String>>,
    /// The body's problems, as sentences.
    pub errors: Vec<String>,
}

/// Makes a webhook.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateWebhook {
    /// The project template's id or uid.
    pub template: String,
    pub draft: WebhookDraft,
    /// Which event types the caller knows.
    pub flags: FeatureFlags,
}

impl Command for CreateWebhook {
    type Answer = Endpoint;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<Endpoint> {
        let CreateWebhook {
            template: id,
            draft,
            flags,
        } = self;
        let (catalog, settings) = (view.catalog, view.settings);
        let mut errors = Vec::new();
        let found = template(caller, catalog, &id, Action::CreateEndpoints);
        let entry = noted(found, &mut errors)?;
        refuse_unoffered(caller, settings, &mut errors);
        let checked = draft.checked(catalog, caller, &flags, None, settings, &mut errors);
        let (Some(entry), Some(webhook)) = (entry, checked) else {
            return Err(invalid(errors));
        };
        refuse_too_many(entry, settings.limits.endpoints_per_application_max)?;
        let mut endpoint = new_endpoint(&entry.application, view);
        webhook.apply_to(&mut endpoint, settings.delivery.challenge_at(view.now));
        let changes = caller.creation(catalog, endpoint.clone())?;
        Ok((changes, endpoint))
    }
}

/// Changes what the body has fields for, and leaves the rest as it was: an endpoint that was made
/// through another surface may have more.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeWebhook {
    /// The project template's id or uid.
    pub template: String,
    /// The webhook's number.
    pub webhook: String,
    pub draft: WebhookDraft,
    /// Which event types the caller knows.
    pub flags: FeatureFlags,
}

impl Command for ChangeWebhook {
    type Answer = Changed;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<Changed> {
        let (catalog, settings) = (view.catalog, view.settings);
        let mut errors = Vec::new();
        let found = template(caller, catalog, &self.template, Action::ChangeEndpoints);
        let stored = match noted(found, &mut errors)? {
            Some(entry) => {
                let found = webhook(caller, catalog, entry, &self.webhook);
                noted(found, &mut errors)?
            }
            None => None,
        };
        let before = stored.map(|stored| &**stored);
        let draft = self.draft;
        let checked = draft.checked(catalog, caller, &self.flags, before, settings, &mut errors);
        let (Some(before), Some(webhook)) = (before, checked) else {
            return Err(invalid(errors));
        };
        let mut endpoint = before.clone();
        let warnings = webhook.apply_to(&mut endpoint, settings.delivery.challenge_at(view.now));
        endpoint.updated_at = view.now;
        let change = Change::PutEndpoint(endpoint.clone());
        Ok((vec![change], Changed { endpoint, warnings }))
    }
}

/// Deletes a webhook.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteWebhook {
    /// The project template's id or uid.
    pub template: String,
    /// The webhook's number.
    pub webhook: String,
}

impl Command for DeleteWebhook {
    /// The webhook as it was.
    type Answer = Endpoint;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<Endpoint> {
        let found = template(
            caller,
            view.catalog,
            &self.template,
            Action::ChangeEndpoints,
        )
        .and_then(|entry| webhook(caller, view.catalog, entry, &self.webhook));
        let mut errors = Vec::new();
        let Some(endpoint) = noted(found, &mut errors)? else {
            return Err(invalid(errors));
        };
        let change = Change::DeleteEndpoint(endpoint.application, endpoint.id);
        Ok((vec![change], (**endpoint).clone()))
    }
}

impl WebhookDraft {
    /// Returns the webhook that the endpoint is to become. Adds the problems that the catalog and
    /// the stored endpoint show; returns nothing where there are any.
    fn checked(
        self,
        catalog: &Catalog,
        caller: &Caller,
        flags: &FeatureFlags,
        stored: Option<&Endpoint>,
        settings: &Config,
        errors: &mut Vec<String>,
    ) -> Option<Webhook> {
        if let Some(event) = &self.event
            && !may_be_chosen(catalog, caller.organisation, flags, event, stored)
        {
            errors.push("Event not found".to_owned());
        }
        let carried = self.carried(stored, settings);
        errors.extend(self.errors);
        let authentication_headers = self.authentication_headers;
        let mut forgotten = stored.cloned();
        let mut kept = Carried::default();
        if caller.keeps_secrets(Action::ReadSecrets) {
            kept = carried;
        } else {
            let names = (
                self.request_headers.is_some(),
                authentication_headers.is_some(),
            );
            errors.extend(carried_problems(&carried, names));
            forgotten.iter_mut().for_each(|one| carried.forget(one));
        }
        let given = self.request_headers;
        let request_headers = given.map(|given| unmasked(given, forgotten.as_ref(), errors));
        let profile = match stored {
            Some(stored) => settings.profile(stored.profile.as_deref()),
            None => settings.profile(Some(PROFILE)),
        };
        if let Some(headers) = &request_headers {
            check_headers("requestHeaders", headers, profile, settings, errors);
        }
        if let Some(headers) = &authentication_headers {
            check_headers("authenticationHeaders", headers, profile, settings, errors);
        }
        if request_headers.is_some() || authentication_headers.is_some() {
            let none = BTreeMap::new();
            let stored_ones = stored.map_or((&none, &none), |stored| {
                (&stored.headers, &stored.auth_headers)
            });
            check_together(
                request_headers.as_ref().unwrap_or(stored_ones.0),
                authentication_headers.as_ref().unwrap_or(stored_ones.1),
                settings,
                errors,
            );
        }
        if !errors.is_empty() {
            return None;
        }
        Some(Webhook {
            target: self.target?,
            event: self.event?,
            basic_auth: BasicAuth {
                username: self.username?,
                password: self.password?,
            },
            request_headers,
            authentication_headers,
            kept,
        })
    }

    fn carried(&self, stored: Option<&Endpoint>, settings: &Config) -> Carried {
        let Some(stored) = stored else {
            return Carried::default();
        };
        let url = self.target.as_ref().map(|target| &target.url);
        let profile = settings.profile(stored.profile.as_deref());
        let carried = Carried::of(stored, url, profile, settings);
        Carried {
            // A body always has both the user name and the password.
            basic_auth: false,
            ..carried
        }
    }
}

/// Returns a sentence for each secret that may not go along to another origin. `named` says whether
/// the body names request headers and authentication headers.
fn carried_problems(carried: &Carried, named: (bool, bool)) -> Vec<String> {
    let kinds = [
        ("requestHeaders", &carried.headers, named.0),
        ("authenticationHeaders", &carried.auth_headers, named.1),
    ];
    let unnamed = kinds.into_iter().filter(|(.., is_named)| !is_named);
    let mut problems: Vec<String> = unnamed
        .flat_map(|(field, names, _)| {
            names
                .iter()
                .map(move |name| format!("{field}.{name} {ENTER_AGAIN}"))
        })
        .collect();
    if carried.secret {
        let message = "target_url is another receiver, which the profile would send the secret itself: \
                       change it in the native API, with a secret";
        problems.push(message.to_owned());
    }
    problems
}

/// Whether the event type may be chosen: an archived one stays only at an endpoint that has it
/// already. One with wildcards may be if it takes an event type that may.
fn may_be_chosen(
    catalog: &Catalog,
    organisation: OrganisationId,
    flags: &FeatureFlags,
    event: &str,
    stored: Option<&Endpoint>,
) -> bool {
    let before = stored.and_then(|stored| stored.event_types.as_deref());
    let has_it = before.is_some_and(|names| names.iter().any(|name| name == event));
    if wildcard::is_wildcard(event) {
        let is_well_formed = wildcard::problem(event, EVENT_TYPE_NAME_MAX).is_none();
        let mut comparisons = COMPARISONS_MAX;
        let mut takes_some = || takes_known(catalog, organisation, flags, event, &mut comparisons);
        return has_it || is_well_formed && takes_some();
    }
    let known = catalog.event_type(organisation, event);
    let known = known.filter(|known| flags.show(known));
    known.is_some_and(|known| !known.archived || has_it)
}

/// Whether the header's value is shown as [`MASK`]. Ovation's users know that `requestHeaders` are
/// shown, and have `authenticationHeaders` for secrets. A sensitive header that was given in
/// another way is not shown.
pub fn is_masked(endpoint: &Endpoint, name: &str) -> bool {
    is_sensitive(name) && !endpoint.open_headers.contains(name)
}

/// Returns the headers with the stored values in place of masks, so that headers which were read
/// can be written back.
fn unmasked(
    mut given: BTreeMap<String, String>,
    stored: Option<&Endpoint>,
    errors: &mut Vec<String>,
) -> BTreeMap<String, String> {
    for (name, value) in &mut given {
        if value != MASK || stored.is_none_or(|stored| !is_masked(stored, name)) {
            continue;
        }
        let mut before = stored.iter().flat_map(|stored| &stored.headers);
        match before.find(|(one, _)| one.eq_ignore_ascii_case(name)) {
            Some((_, kept)) => value.clone_from(kept),
            None => errors.push(format!(
                "requestHeaders.{name} has no value yet that {MASK} could stand for"
            )),
        }
    }
    given
}

fn check_headers(
    field: &str,
    headers: &BTreeMap<String, String>,
    profile: Option<&Profile>,
    config: &Config,
    errors: &mut Vec<String>,
) {
    let limits = &config.limits;
    if headers.len() > limits.headers_max {
        let max = limits.headers_max;
        errors.push(format!("{field} may have at most {max} entries"));
        return;
    }
    let mut taken = profile.map(Profile::header_names).unwrap_or_default();
    // This header carries the user name and the password.
    taken.push("authorization".to_owned());
    let taken = |name: &str| {
        let is_taken = taken.contains(&name.to_ascii_lowercase());
        is_taken.then_some("is a header that the server sets itself")
    };
    for (name, message) in header_problems(headers, limits.header_value_bytes, taken) {
        errors.push(format!("{field}.{name} {message}"));
    }
}

/// Checks that no header is of both kinds: both are sent with the same request.
fn check_together(
    request_headers: &BTreeMap<String, String>,
    authentication_headers: &BTreeMap<String, String>,
    config: &Config,
    errors: &mut Vec<String>,
) {
    let max = config.limits.headers_max;
    if request_headers.len() + authentication_headers.len() > max {
        errors.push(format!(
            "requestHeaders and authenticationHeaders may have at most {max} entries together"
        ));
        return;
    }
    for name in authentication_headers.keys() {
        let mut others = request_headers.keys();
        if others.any(|other| other.eq_ignore_ascii_case(name)) {
            let message = format!("authenticationHeaders.{name} is in requestHeaders, too");
            errors.push(message);
        }
    }
}

/// A webhook that an endpoint is to become, checked by itself and against everything else.
struct Webhook {
    /// The secrets that go along to another origin if they stay as they are.
    kept: Carried,
    target: EndpointUrl,
    event: String,
    basic_auth: BasicAuth,
    request_headers: Option<BTreeMap<String, String>>,
    authentication_headers: Option<BTreeMap<String, String>>,
}

impl Webhook {
    /// Returns warnings.
    fn apply_to(self, endpoint: &mut Endpoint, challenge_at: Option<Timestamp>) -> Vec<String> {
        let before = endpoint.clone();
        self.target.apply_to(endpoint, challenge_at);
        // After the URL: credentials in it give way to those that have a field of their own.
        endpoint.basic_auth = Some(self.basic_auth);
        endpoint.event_types = Some(vec![self.event].into());
        if let Some(headers) = self.request_headers {
            endpoint.set_headers(headers, true);
        }
        if let Some(headers) = self.authentication_headers {
            endpoint.auth_headers = headers;
        }
        self.kept.warnings(&before, endpoint)
    }
}

/// A new endpoint, before the caller's body is applied to it.
fn new_endpoint(application: &Application, view: &View<'_>) -> Endpoint {
    let form = view
        .settings
        .profile(Some(PROFILE))
        .map_or(SecretForm::TEXT, Profile::secret_form);
    Endpoint {
        profile: Some(PROFILE.to_owned()),
        // The profile signs nothing; an endpoint that changes to another one has a secret by then.
        secrets: vec![EndpointSecret {
            secret: Secret::generate(
                form.of_kind(view.settings.delivery.default_signature_type),
                view.random,
            ),
            expires_at: None,
        }],
        ..blank(application, view.catalog.next_endpoint_number(), view.now)
    }
}

/// Returns the project template in the path, for a caller that may do this with its webhooks.
pub fn template<'a>(
    caller: &Caller,
    catalog: &'a Catalog,
    id: &str,
    action: Action,
) -> Result<&'a Arc<ApplicationEntry>> {
    let found = caller.application(catalog, id, action);
    found.map_err(|error| match error {
        Error::NotFound(_) => NO_TEMPLATE,
        other => other,
    })
}

/// The template's webhooks that the caller may see.
pub fn webhooks<'a>(
    caller: &'a Caller,
    catalog: &'a Catalog,
    entry: &'a ApplicationEntry,
) -> impl Iterator<Item = &'a Arc<Endpoint>> {
    let sees = |endpoint: &&Arc<Endpoint>| caller.sees_endpoint(catalog, endpoint);
    entry.endpoints.iter().filter(sees)
}

/// The webhook with this number in its one spelling.
pub fn webhook<'a>(
    caller: &'a Caller,
    catalog: &'a Catalog,
    entry: &'a ApplicationEntry,
    id: &str,
) -> Result<&'a Arc<Endpoint>> {
    webhooks(caller, catalog, entry)
        .find(|endpoint| endpoint.number.to_string() == id)
        .ok_or(NO_WEBHOOK)
}

/// Returns the value that was found. A value that does not exist becomes one problem among others.
fn noted<T>(found: Result<T>, errors: &mut Vec<String>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error @ Error::NotFound(_)) => {
            errors.push(error.to_string());
            Ok(None)
        }
        Err(other) => Err(other),
    }
}

/// Refuses this surface's profile to a caller from a link to the portal where the operator does not
/// offer it there.
fn refuse_unoffered(caller: &Caller, config: &Config, errors: &mut Vec<String>) {
    let is_session = matches!(caller.credential(), Credential::Session(..));
    let offered = config.offered_profiles(true);
    let is_offered = offered.iter().any(|one| one == PROFILE);
    if is_session && !is_offered && config.delivery.default_profile != PROFILE {
        let offered = offered.join(", ");
        errors.push(format!(
            "webhooks made here have the profile {PROFILE}, and the portal offers {offered}"
        ));
    }
}

fn refuse_too_many(entry: &ApplicationEntry, max: usize) -> Result<()> {
    match entry.endpoints.len() < max {
        true => Ok(()),
        false => Err(Error::TooMany(format!(
            "a Project Template has at most {max} Webhook Endpoints"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::event_types::blank as event_type;
    use crate::rules::target::target;
    use crate::rules::tests::{Example, NOW, outcome};

    /// The template `one` with the webhook 7.
    fn example() -> Example {
        let stored = Endpoint {
            profile: Some(PROFILE.to_owned()),
            ..Example::new().endpoint()
        };
        let known = event_type(Example::ORGANISATION, "current".to_owned(), NOW);
        Example::with([
            Change::PutApplication(Example::application()),
            Change::PutEndpoint(stored),
            Change::PutEventType(known),
        ])
    }

    fn draft() -> WebhookDraft {
        WebhookDraft {
            target: Some(target("https://example.com/other", 100).unwrap()),
            event: Some("current".to_owned()),
            username: Some("ann".to_owned()),
            password: Some("secret".to_owned()),
            ..WebhookDraft::default()
        }
    }

    fn create(template: &str, draft: WebhookDraft) -> CreateWebhook {
        CreateWebhook {
            template: template.to_owned(),
            draft,
            flags: FeatureFlags::All,
        }
    }

    fn change(template: &str, webhook: &str, draft: WebhookDraft) -> ChangeWebhook {
        ChangeWebhook {
            template: template.to_owned(),
            webhook: webhook.to_owned(),
            draft,
            flags: FeatureFlags::All,
        }
    }

    fn strange() -> WebhookDraft {
        WebhookDraft {
            event: Some("strange".to_owned()),
            errors: vec!["password is required".to_owned()],
            ..draft()
        }
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let example = example();
        let wrong = ["Event not found", "password is required"];
        let no_template = "Project Template not found";
        let no_webhook = "Webhook Endpoint not found";
        let sentences = |decided: Result<()>| match decided {
            Ok(()) => Vec::new(),
            Err(Error::Invalid(all)) => all.into_iter().map(|one| one.message).collect(),
            Err(other) => panic!("{other}"),
        };
        let none: Vec<String> = Vec::new();
        for (template, draft, expected) in [
            ("one", draft(), none.clone()),
            ("one", strange(), wrong.map(str::to_owned).to_vec()),
            ("two", draft(), vec![no_template.to_owned()]),
            (
                "two",
                strange(),
                [no_template, wrong[0], wrong[1]]
                    .map(str::to_owned)
                    .to_vec(),
            ),
        ] {
            let decided = example.decide(create(template, draft)).map(|_| ());
            assert_eq!(sentences(decided), expected, "{template}");
        }
        for (webhook, draft, expected) in [
            ("7", draft(), none),
            ("07", draft(), vec![no_webhook.to_owned()]),
            (
                "8",
                strange(),
                [no_webhook, wrong[0], wrong[1]].map(str::to_owned).to_vec(),
            ),
        ] {
            let decided = example.decide(change("one", webhook, draft)).map(|_| ());
            assert_eq!(sentences(decided), expected, "{webhook}");
        }
    }

    #[test]
    fn a_webhook_is_an_endpoint_by_its_number() {
        let example = example();
        let (changes, made) = example.decide(create("one", draft())).unwrap();
        assert!(matches!(&changes[..], [Change::PutEndpoint(put)] if *put == made));
        assert_eq!((made.number, made.secrets.len()), (8, 1));
        assert_eq!(made.profile.as_deref(), Some(PROFILE));
        let (_, changed) = example.decide(change("one", "7", draft())).unwrap();
        assert_eq!(changed.endpoint.id, example.endpoint().id);
        assert_eq!(
            changed.endpoint.event_types,
            Some(vec!["current".to_owned()].into())
        );
        for (webhook, expected) in [("7", ""), ("8", ": Webhook Endpoint not found")] {
            let delete = DeleteWebhook {
                template: "one".to_owned(),
                webhook: webhook.to_owned(),
            };
            assert_eq!(outcome(&example.decide(delete)), expected);
        }
    }

    #[test]
    fn a_template_has_so_many_webhooks() {
        let mut example = example();
        example.settings.limits.endpoints_per_application_max = 1;
        let decided = example.decide(create("one", draft()));
        let expected = "a Project Template has at most 1 Webhook Endpoints";
        assert_eq!(outcome(&decided), expected);
    }
}
