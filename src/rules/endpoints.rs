//! Endpoints of the native API: made, replaced, changed, deleted, and asked to be verified.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::caller::{Caller, FeatureFlags};
use super::checks::{Problems, check_uid, refuse_given_id};
use super::endpoint_checks::{
    NOT_FOUND, Named, blank, check_headers, check_transformation, profile_name,
    refuse_archived_types, refuse_taken_uid, refuse_too_many, refuse_unregistered_types,
    unregistered_types,
};
use super::endpoint_edit::{EndpointEdit, reset};
use super::ovation;
use super::patch::Patch;
use super::permits::Action;
use super::{Command, Decided, Saved, View};
use crate::catalog::{ApplicationEntry, Catalog, Change};
use crate::config::Config;
use crate::domain::application::Application;
use crate::domain::endpoint::{CatchUp, Endpoint};
use crate::domain::event_type::Strictness;
use crate::domain::id::EndpointId;
use crate::domain::operational::{EVENT_TYPES, PROFILE};
use crate::domain::verification::Verification;
use crate::domain::wildcard;
use crate::error::{Error, Result};

/// The most endpoints of an organisation itself. Whatever happens to a customer's endpoint becomes
/// a message for each of them at once, and so does the end of an application with all its
/// endpoints.
const OWN_ENDPOINTS_MAX: usize = 10;

/// Whose endpoints a command is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Owner {
    /// By its id or uid.
    Application(String),
    /// The organisation itself: its own endpoints, for operational events.
    Organisation,
}

impl Owner {
    /// Returns the application that holds the endpoints; an organisation has none before its first
    /// endpoint.
    pub fn entry<'a>(
        &self,
        caller: &Caller,
        catalog: &'a Catalog,
        action: Action,
    ) -> Result<Option<&'a Arc<ApplicationEntry>>> {
        match self {
            Owner::Application(id) => caller.application(catalog, id, action).map(Some),
            Owner::Organisation => {
                caller.may(match action {
                    Action::ReadEndpoints | Action::ReadHistory => Action::ReadOwnEndpoints,
                    _ => Action::OwnEndpoints,
                })?;
                Ok(catalog.operational(caller.organisation))
            }
        }
    }

    /// Returns the application for a new endpoint, and the change that makes the application where
    /// it is needed.
    fn entry_for_new(
        &self,
        caller: &Caller,
        view: &View<'_>,
        action: Action,
    ) -> Result<(Arc<ApplicationEntry>, Option<Change>)> {
        if let Some(entry) = self.entry(caller, view.catalog, action)? {
            return Ok((Arc::clone(entry), None));
        }
        let application = Application::operational(caller.organisation, view.now);
        let entry = ApplicationEntry::new(application.clone(), 0);
        Ok((Arc::new(entry), Some(Change::PutApplication(application))))
    }

    /// The endpoint with this id or uid.
    pub fn endpoint<'a>(
        &self,
        caller: &Caller,
        catalog: &'a Catalog,
        id: &str,
        action: Action,
    ) -> Result<&'a Arc<Endpoint>> {
        match self {
            Owner::Application(application) => caller.endpoint(catalog, application, id, action),
            Owner::Organisation => self
                .entry(caller, catalog, action)?
                .and_then(|entry| entry.endpoint(id))
                .ok_or(NOT_FOUND),
        }
    }

    fn blank(&self, entry: &ApplicationEntry, view: &View<'_>) -> Endpoint {
        let number = view.catalog.next_endpoint_number();
        let mut endpoint = blank(&entry.application, number, view.now);
        if let Owner::Organisation = self {
            // Whatever the server's default is for its customers.
            endpoint.profile = Some(PROFILE.to_owned());
        }
        endpoint
    }

    fn endpoints_max(&self, settings: &Config) -> usize {
        match self {
            Owner::Application(_) => settings.limits.endpoints_per_application_max,
            Owner::Organisation => OWN_ENDPOINTS_MAX,
        }
    }

    /// Returns warnings about values that were accepted and may be mistakes.
    pub fn warnings(
        &self,
        catalog: &Catalog,
        flags: &FeatureFlags,
        endpoint: &Endpoint,
    ) -> Vec<String> {
        match self {
            Owner::Application(_) => unregistered_types(catalog, flags, endpoint),
            // A filter with other event types than the operational ones was refused.
            Owner::Organisation => Vec::new(),
        }
    }

    /// Refuses event types in a filter: for an application those that were not in it before and are
    /// archived, or are not registered where they must be; for the organisation those that are not operational.
    fn refuse_types(
        &self,
        view: &View<'_>,
        flags: &FeatureFlags,
        before: Option<&[String]>,
        endpoint: &Endpoint,
    ) -> Result<()> {
        match self {
            Owner::Application(_) => {
                if view.settings.limits.require_known_event_types == Strictness::Reject {
                    refuse_unregistered_types(view.catalog, flags, before, endpoint)?;
                }
                refuse_archived_types(view.catalog, flags, before, endpoint)
            }
            Owner::Organisation => refuse_unknown_operational_types(endpoint),
        }
    }
}

fn refuse_unknown_operational_types(endpoint: &Endpoint) -> Result<()> {
    let mut problems = Problems::default();
    let names = endpoint.event_types.iter().flatten().enumerate();
    let takes_some = |wanted: &str| EVENT_TYPES.iter().any(|name| wildcard::takes(wanted, name));
    for (index, name) in names.filter(|(_, name)| !takes_some(name)) {
        let message = format!("{name} is not one of {}", EVENT_TYPES.join(", "));
        problems.add(&["body", "eventTypes", &index.to_string()], message);
    }
    problems.done()
}

/// An endpoint after a change, with warnings about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Changed {
    pub endpoint: Endpoint,
    pub warnings: Vec<String>,
}

/// Makes an endpoint.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateEndpoint {
    pub owner: Owner,
    pub edit: EndpointEdit,
    /// The event types that the caller sees.
    pub flags: FeatureFlags,
}

impl Command for CreateEndpoint {
    type Answer = Changed;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<Changed> {
        let CreateEndpoint { owner, edit, flags } = self;
        let (entry, made) = owner.entry_for_new(caller, view, Action::CreateEndpoints)?;
        let mut endpoint = owner.blank(&entry, view);
        let mut warnings = edit.apply_to(&mut endpoint, caller, view)?;
        refuse_too_many(&entry, owner.endpoints_max(view.settings))?;
        refuse_taken_uid(&entry, &endpoint)?;
        owner.refuse_types(view, &flags, None, &endpoint)?;
        warnings.extend(owner.warnings(view.catalog, &flags, &endpoint));
        let creation = caller.creation(view.catalog, endpoint.clone())?;
        let changes = made.into_iter().chain(creation).collect();
        Ok((changes, Changed { endpoint, warnings }))
    }
}

/// Replaces an endpoint, or makes one with the uid in the path. Where the edit has no uid, the one
/// in the path stays, so that the same command can be repeated. A uid of an endpoint that the
/// caller cannot see is refused as taken, as it is in a body: that much shows.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplaceEndpoint {
    pub owner: Owner,
    /// An id or a uid.
    pub path: String,
    pub edit: EndpointEdit,
    pub flags: FeatureFlags,
}

impl Command for ReplaceEndpoint {
    type Answer = Saved<Changed>;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<Saved<Changed>> {
        let ReplaceEndpoint {
            owner,
            path,
            mut edit,
            flags,
        } = self;
        let path_is_id = path.parse::<EndpointId>().is_ok();
        if !path_is_id && edit.uid.as_set().is_none() {
            let mut problems = Problems::default();
            let place = ["path", "endpoint_id"];
            check_uid(&mut problems, &place, &path, EndpointId::PREFIX);
            problems.done()?;
            edit.uid = Patch::Set(path.clone());
        }
        let (entry, made) = owner.entry_for_new(caller, view, Action::ChangeEndpoints)?;
        let existing = entry.endpoint(&path);
        let existing = existing.filter(|existing| caller.sees_endpoint(view.catalog, existing));
        let mut endpoint = match existing {
            Some(existing) => (**existing).clone(),
            None if path_is_id => return Err(NOT_FOUND),
            None => {
                owner.entry(caller, view.catalog, Action::CreateEndpoints)?;
                refuse_given_id(edit.id_is_given, &["body", "id"])?;
                refuse_too_many(&entry, owner.endpoints_max(view.settings))?;
                owner.blank(&entry, view)
            }
        };
        reset(&mut endpoint);
        let mut warnings = edit.apply_to(&mut endpoint, caller, view)?;
        endpoint.updated_at = view.now;
        refuse_taken_uid(&entry, &endpoint)?;
        let before = existing.and_then(|existing| existing.event_types.as_deref());
        owner.refuse_types(view, &flags, before, &endpoint)?;
        warnings.extend(owner.warnings(view.catalog, &flags, &endpoint));
        let changes = match existing {
            Some(_) => vec![Change::PutEndpoint(endpoint.clone())],
            None => caller.creation(view.catalog, endpoint.clone())?,
        };
        let changed = Changed { endpoint, warnings };
        let saved = match existing {
            Some(_) => Saved::Old(changed),
            None => Saved::New(changed),
        };
        Ok((made.into_iter().chain(changes).collect(), saved))
    }
}

/// The endpoint that a command changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointPlace {
    pub owner: Owner,
    /// Its id or uid.
    pub endpoint: String,
    /// The event types that the caller sees.
    pub flags: FeatureFlags,
}

impl EndpointPlace {
    /// Changes the endpoint by `edit`, which returns warnings.
    pub fn changed(
        &self,
        caller: &Caller,
        view: &View<'_>,
        action: Action,
        edit: impl FnOnce(&mut Endpoint) -> Result<Vec<String>>,
    ) -> Decided<Changed> {
        let owner = &self.owner;
        let entry = owner.entry(caller, view.catalog, action)?;
        let entry = entry.ok_or(NOT_FOUND)?;
        let existing = owner.endpoint(caller, view.catalog, &self.endpoint, action)?;
        let mut endpoint = (**existing).clone();
        let mut warnings = edit(&mut endpoint)?;
        endpoint.updated_at = view.now;
        refuse_taken_uid(entry, &endpoint)?;
        let before = existing.event_types.as_deref();
        owner.refuse_types(view, &self.flags, before, &endpoint)?;
        warnings.extend(owner.warnings(view.catalog, &self.flags, &endpoint));
        let change = Change::PutEndpoint(endpoint.clone());
        Ok((vec![change], Changed { endpoint, warnings }))
    }
}

/// Changes what the edit names.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeEndpoint {
    pub place: EndpointPlace,
    pub edit: EndpointEdit,
}

impl Command for ChangeEndpoint {
    type Answer = Changed;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<Changed> {
        let edit = self.edit;
        let edit = |endpoint: &mut Endpoint| edit.apply_to(endpoint, caller, view);
        self.place
            .changed(caller, view, Action::ChangeEndpoints, edit)
    }
}

/// Replaces the headers that are sent along.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetHeaders {
    pub place: EndpointPlace,
    pub headers: BTreeMap<String, String>,
}

impl Command for SetHeaders {
    type Answer = Changed;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<Changed> {
        let headers = self.headers;
        let edit = |endpoint: &mut Endpoint| set_headers(endpoint, headers, view.settings);
        self.place
            .changed(caller, view, Action::ChangeEndpoints, edit)
    }
}

/// Sets some of the headers that are sent along; a header without a value is removed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeHeaders {
    pub place: EndpointPlace,
    pub headers: BTreeMap<String, Option<String>>,
}

impl Command for ChangeHeaders {
    type Answer = Changed;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<Changed> {
        let changes = self.headers;
        let edit = |endpoint: &mut Endpoint| {
            let mut headers = endpoint.headers.clone();
            change_headers(&mut headers, changes);
            set_headers(endpoint, headers, view.settings)
        };
        self.place
            .changed(caller, view, Action::ChangeEndpoints, edit)
    }
}

fn set_headers(
    endpoint: &mut Endpoint,
    headers: BTreeMap<String, String>,
    settings: &Config,
) -> Result<Vec<String>> {
    let open = profile_name(endpoint, settings) == ovation::PROFILE;
    endpoint.set_headers(headers, open);
    let mut problems = Problems::default();
    let named = Named {
        headers: true,
        ..Named::default()
    };
    check_headers(&mut problems, endpoint, settings, named);
    check_transformation(&mut problems, endpoint, settings, named);
    problems.done().map(|()| Vec::new())
}

/// Sets and removes headers by name, whatever its case.
fn change_headers(
    headers: &mut BTreeMap<String, String>,
    changes: BTreeMap<String, Option<String>>,
) {
    let names: Vec<&String> = changes.keys().collect();
    headers.retain(|name, _| {
        !names
            .iter()
            .any(|changed| changed.eq_ignore_ascii_case(name))
    });
    for (name, value) in changes {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
}

/// Deletes an endpoint.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteEndpoint {
    pub owner: Owner,
    /// Its id or uid.
    pub endpoint: String,
}

impl Command for DeleteEndpoint {
    type Answer = ();

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<()> {
        let action = Action::ChangeEndpoints;
        let found = self
            .owner
            .endpoint(caller, view.catalog, &self.endpoint, action)?;
        let change = Change::DeleteEndpoint(found.application, found.id);
        Ok((vec![change], ()))
    }
}

/// Enables an endpoint, whatever disabled it, and sets the pace of what waits for it. One that is not disabled gets the
/// pace alone.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnableEndpoint {
    pub place: EndpointPlace,
    /// Messages a second of what waits; as fast as its limits allow where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u16>,
}

impl Command for EnableEndpoint {
    type Answer = Changed;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<Changed> {
        let edit = |endpoint: &mut Endpoint| {
            endpoint.disabled = None;
            endpoint.catch_up = CatchUp::at(self.rate, view.now);
            Ok(Vec::new())
        };
        self.place
            .changed(caller, view, Action::ChangeEndpoints, edit)
    }
}

/// Asks for a challenge of an endpoint that is not verified.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskForChallenge {
    pub owner: Owner,
    /// Its id or uid.
    pub endpoint: String,
}

impl Command for AskForChallenge {
    /// The verification; none for an endpoint that is verified already, which is not challenged.
    type Answer = Option<Verification>;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<Option<Verification>> {
        let action = Action::SendAgain;
        let found = self
            .owner
            .endpoint(caller, view.catalog, &self.endpoint, action)?;
        let mut endpoint = (**found).clone();
        let Some(verification) = &mut endpoint.verification else {
            return Ok((Vec::new(), None));
        };
        if endpoint.disabled.is_some() {
            let conflict = "the endpoint is disabled; enable it to have it challenged";
            return Err(Error::Conflict(conflict.to_owned()));
        }
        if endpoint.held.is_some() {
            let conflict =
                "the endpoint is held by the operator, and is challenged once it is released";
            return Err(Error::Conflict(conflict.to_owned()));
        }
        verification.ask_again(view.now);
        let asked = verification.clone();
        Ok((vec![Change::PutEndpoint(endpoint)], Some(asked)))
    }
}

#[cfg(test)]
mod tests;
