//! The registrations in memory: organisations, tokens, event types, applications, contacts, endpoints.
//!
//! Loaded at start, changed only after the commit of a [`Change`], read without touching the disk.

mod contacts;
mod visits;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::domain::application::Application;
use crate::domain::contact::Contact;
use crate::domain::endpoint::Endpoint;
use crate::domain::event_type::EventType;
use crate::domain::id::{ApplicationId, EndpointId, JobId, OrganisationId, TokenId};
use crate::domain::job::Job;
use crate::domain::jwt::Claims;
use crate::domain::organisation::Organisation;
use crate::domain::token::{Revocation, Token};
use crate::domain::visit::Visit;
use crate::domain::wildcard::MessageType;
use contacts::Contacts;
pub use visits::VisitEntry;
use visits::Visits;

/// One change of the registrations. Deleting an application deletes its contact and its
/// endpoints with it.
#[derive(Clone, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "few exist at a time, and most of them are endpoints"
)]
pub enum Change {
    PutOrganisation(Organisation),
    PutApplication(Application),
    DeleteApplication(ApplicationId),
    PutContact(Contact),
    DeleteContact(ApplicationId),
    PutEndpoint(Endpoint),
    DeleteEndpoint(ApplicationId, EndpointId),
    PutEventType(EventType),
    DeleteEventType(OrganisationId, String),
    PutToken(Token),
    DeleteToken(TokenId),
    PutJob(Job),
    DeleteJob(JobId),
    PutRevocation(Revocation),
    DeleteRevocation([u8; 32]),
    PutVisit(Visit),
    DeleteVisit([u8; 32]),
}

impl Change {
    /// Whether it changes what an export holds: neither work that goes on nor who is signed in does.
    pub(super) fn is_exported(&self) -> bool {
        !matches!(
            self,
            Change::PutJob(_) | Change::DeleteJob(_) | Change::PutVisit(_) | Change::DeleteVisit(_)
        )
    }

    /// Whose registration it puts.
    pub(super) fn owner(&self) -> Option<OrganisationId> {
        match self {
            Change::PutApplication(one) => Some(one.organisation),
            Change::PutEndpoint(one) => Some(one.organisation),
            Change::PutEventType(one) => Some(one.organisation),
            Change::PutToken(one) => Some(one.organisation),
            Change::PutJob(one) => Some(one.organisation),
            Change::PutOrganisation(_)
            | Change::PutRevocation(_)
            | Change::PutVisit(_)
            | Change::DeleteVisit(_)
            | Change::DeleteApplication(_)
            | Change::PutContact(_)
            | Change::DeleteContact(_)
            | Change::DeleteEndpoint(..)
            | Change::DeleteEventType(..)
            | Change::DeleteToken(_)
            | Change::DeleteJob(_)
            | Change::DeleteRevocation(_) => None,
        }
    }
}

/// An application with its endpoints, sorted by id.
#[derive(Clone, Debug)]
pub struct ApplicationEntry {
    pub application: Application,
    pub endpoints: Vec<Arc<Endpoint>>,
    /// The catalog's number after the last change of the application or of one of its endpoints.
    pub as_of: u64,
    /// The same of each endpoint, in their order.
    endpoints_as_of: Vec<u64>,
}

impl ApplicationEntry {
    /// An application without endpoints.
    pub fn new(application: Application, as_of: u64) -> ApplicationEntry {
        ApplicationEntry {
            application,
            endpoints: Vec::new(),
            as_of,
            endpoints_as_of: Vec::new(),
        }
    }

    /// The endpoints, and of each the catalog's number after its last change.
    pub fn endpoints_as_of(&self) -> impl Iterator<Item = (&Arc<Endpoint>, u64)> {
        let as_of = self.endpoints_as_of.iter().copied();
        self.endpoints.iter().zip(as_of)
    }

    /// By the server's id or the caller's own.
    pub fn endpoint(&self, id_or_uid: &str) -> Option<&Arc<Endpoint>> {
        match id_or_uid.parse::<EndpointId>() {
            Ok(id) => self.endpoint_by_id(id),
            Err(_) => self
                .endpoints
                .iter()
                .find(|endpoint| endpoint.uid.as_deref() == Some(id_or_uid)),
        }
    }

    pub fn endpoint_by_id(&self, id: EndpointId) -> Option<&Arc<Endpoint>> {
        let place = self
            .endpoints
            .binary_search_by_key(&id, |endpoint| endpoint.id)
            .ok()?;
        Some(&self.endpoints[place])
    }
}

#[derive(Debug, Default)]
pub struct Catalog {
    organisations: BTreeMap<OrganisationId, Organisation>,
    applications: BTreeMap<(OrganisationId, ApplicationId), Arc<ApplicationEntry>>,
    application_organisations: HashMap<ApplicationId, OrganisationId>,
    application_uids: HashMap<(OrganisationId, String), ApplicationId>,
    contacts: Contacts,
    lanes: HashMap<u64, (ApplicationId, EndpointId)>,
    endpoint_lanes: HashMap<EndpointId, u64>,
    event_types: BTreeMap<(OrganisationId, String), Arc<EventType>>,
    tokens: BTreeMap<TokenId, Arc<Token>>,
    token_hashes: HashMap<[u8; 32], TokenId>,
    /// The tokens that portal links gave, by their application.
    sessions: BTreeSet<(ApplicationId, TokenId)>,
    jobs: BTreeMap<JobId, Arc<Job>>,
    revocations: HashMap<[u8; 32], Revocation>,
    visits: Visits,
    /// The number of endpoints that the operator holds.
    held_endpoints: usize,
    /// The highest endpoint number that was ever given.
    last_endpoint_number: u64,
    /// Counts the changes since the start.
    number: u64,
    /// The number after the last change of one of an organisation's event types.
    event_types_as_of: HashMap<OrganisationId, u64>,
}

impl Catalog {
    /// The catalog that these changes make of an empty one.
    #[cfg(test)]
    pub fn of(changes: impl IntoIterator<Item = Change>) -> Catalog {
        let mut catalog = Catalog::default();
        changes.into_iter().for_each(|change| catalog.apply(change));
        catalog
    }

    /// A number that grows with each change. It begins anew with each start.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The number after the last change of one of the organisation's event types.
    pub fn event_types_as_of(&self, organisation: OrganisationId) -> u64 {
        let as_of = self.event_types_as_of.get(&organisation);
        as_of.copied().unwrap_or_default()
    }

    pub fn organisations(&self) -> impl Iterator<Item = &Organisation> {
        self.organisations.values()
    }

    /// The one that came with the store. Others came into being later, whatever their ids are.
    pub fn first_organisation(&self) -> Option<&Organisation> {
        self.organisations().min_by_key(|one| one.created_at)
    }

    pub fn organisation(&self, id: OrganisationId) -> Option<&Organisation> {
        self.organisations.get(&id)
    }

    /// Sorted by id. The one that holds the organisation's own endpoints is not among them.
    pub fn applications(
        &self,
        organisation: OrganisationId,
    ) -> impl DoubleEndedIterator<Item = &Arc<ApplicationEntry>> {
        let first = (organisation, ApplicationId([0; 20]));
        let last = (organisation, ApplicationId([0xff; 20]));
        self.applications
            .range(first..=last)
            .filter(move |((_, id), _)| !id.is_operational(organisation))
            .map(|(_, entry)| entry)
    }

    /// By the server's id or the caller's own.
    pub fn application(
        &self,
        organisation: OrganisationId,
        id_or_uid: &str,
    ) -> Option<&Arc<ApplicationEntry>> {
        let id = match id_or_uid.parse::<ApplicationId>() {
            Ok(id) => id,
            Err(_) => *self
                .application_uids
                .get(&(organisation, id_or_uid.to_owned()))?,
        };
        match id.is_operational(organisation) {
            true => None,
            false => self.applications.get(&(organisation, id)),
        }
    }

    /// The entry of the organisation's own endpoints, once there was one.
    pub fn operational(&self, organisation: OrganisationId) -> Option<&Arc<ApplicationEntry>> {
        let id = ApplicationId::operational(organisation);
        self.applications.get(&(organisation, id))
    }

    pub fn application_by_id(&self, id: ApplicationId) -> Option<&Arc<ApplicationEntry>> {
        let organisation = self.application_organisations.get(&id)?;
        self.applications.get(&(*organisation, id))
    }

    pub fn endpoint_by_number(&self, lane: u64) -> Option<&Arc<Endpoint>> {
        self.lane(lane).map(|(_, endpoint)| endpoint)
    }

    /// The lanes of all registered endpoints.
    pub fn lanes(&self) -> BTreeSet<u64> {
        self.lanes.keys().copied().collect()
    }

    /// A lane's endpoint and the application that it belongs to.
    pub fn lane(&self, number: u64) -> Option<(&Arc<ApplicationEntry>, &Arc<Endpoint>)> {
        let (application, endpoint) = self.lanes.get(&number)?;
        let entry = self.application_by_id(*application)?;
        Some((entry, entry.endpoint_by_id(*endpoint)?))
    }

    /// By its id alone, whichever of the organisation's applications it belongs to; the
    /// organisation's own endpoints are not found.
    pub fn endpoint(&self, organisation: OrganisationId, id: EndpointId) -> Option<&Arc<Endpoint>> {
        self.endpoint_by_number(*self.endpoint_lanes.get(&id)?)
            .filter(|endpoint| endpoint.organisation == organisation)
            .filter(|endpoint| !endpoint.is_operational())
    }

    /// How many endpoints the operator holds, of all organisations.
    pub fn held_endpoints(&self) -> usize {
        self.held_endpoints
    }

    /// The number for the next new endpoint.
    pub fn next_endpoint_number(&self) -> u64 {
        self.last_endpoint_number + 1
    }

    /// Sorted by name.
    pub fn event_types(
        &self,
        organisation: OrganisationId,
    ) -> impl DoubleEndedIterator<Item = &Arc<EventType>> {
        // Names are text of ASCII letters, so this bound lies behind all of them.
        let from = (organisation, String::new());
        let to = (organisation, "\u{7f}".to_owned());
        self.event_types
            .range(from..to)
            .map(|(_, event_type)| event_type)
    }

    pub fn event_type(&self, organisation: OrganisationId, name: &str) -> Option<&Arc<EventType>> {
        self.event_types.get(&(organisation, name.to_owned()))
    }

    /// The event type of a message, as endpoints are asked for it.
    pub fn message_type<'a>(&self, organisation: OrganisationId, name: &'a str) -> MessageType<'a> {
        let known = self.event_type(organisation, name);
        MessageType {
            name,
            is_flagged: known.is_some_and(|known| !known.feature_flags.is_empty()),
        }
    }

    /// Of all organisations, sorted by id.
    pub fn tokens(&self) -> impl DoubleEndedIterator<Item = &Arc<Token>> {
        self.tokens.values()
    }

    pub fn token(&self, id: TokenId) -> Option<&Arc<Token>> {
        self.tokens.get(&id)
    }

    /// Looked up by the SHA-256 of what the caller presented: the time this takes tells nothing
    /// about the tokens that exist.
    pub fn token_by_hash(&self, hash: &[u8; 32]) -> Option<&Arc<Token>> {
        self.tokens.get(self.token_hashes.get(hash)?)
    }

    /// The tokens that portal links to this application gave, oldest first.
    pub fn sessions(&self, application: ApplicationId) -> impl Iterator<Item = &Arc<Token>> {
        let first = (application, TokenId([0; 20]));
        let last = (application, TokenId([0xff; 20]));
        let sessions = self.sessions.range(first..=last);
        sessions.filter_map(|(_, id)| self.tokens.get(id))
    }

    /// The same of all applications.
    pub fn all_sessions(&self) -> impl Iterator<Item = &Arc<Token>> {
        let sessions = self.sessions.iter();
        sessions.filter_map(|(_, id)| self.tokens.get(id))
    }

    /// Of all organisations, sorted by id.
    pub fn jobs(&self) -> impl DoubleEndedIterator<Item = &Arc<Job>> {
        self.jobs.values()
    }

    pub fn job(&self, organisation: OrganisationId, id: JobId) -> Option<&Arc<Job>> {
        self.jobs
            .get(&id)
            .filter(|job| job.organisation == organisation)
    }

    /// Of signed tokens, and of links that end at a given time, by the SHA-256 of their text.
    pub fn revocation(&self, hash: &[u8; 32]) -> Option<&Revocation> {
        self.revocations.get(hash)
    }

    pub fn revocations(&self) -> impl Iterator<Item = &Revocation> {
        self.revocations.values()
    }

    /// Whether a signed token with these claims still counts: it was not logged out, its application
    /// did not end it, and whoever signed it did not take one organisation's application for another's.
    pub fn takes_signed(
        &self,
        claims: &Claims,
        hash: impl FnOnce() -> [u8; 32],
        now: Timestamp,
    ) -> bool {
        if !self.revocations.is_empty() && self.revocation(&hash()).is_some() {
            return false;
        }
        let application = claims.subject.application;
        let entry = application.and_then(|id| self.application_by_id(id));
        entry.is_none_or(|entry| {
            let application = &entry.application;
            application.organisation == claims.subject.organisation
                && application.takes_token_issued_at(claims.issued_at, now)
        })
    }

    pub fn last_endpoint_number(&self) -> u64 {
        self.last_endpoint_number
    }

    /// How many registrations there are, of all kinds.
    pub fn len(&self) -> u64 {
        let endpoints: usize = self
            .applications
            .values()
            .map(|entry| entry.endpoints.len())
            .sum();
        let count = self.organisations.len()
            + self.applications.len()
            + endpoints
            + self.event_types.len()
            + self.tokens.len()
            + self.jobs.len()
            + self.revocations.len()
            + self.visits.len()
            + self.contacts.len();
        count as u64
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everything there is but jobs and visits, as the changes that would make it; parents before children.
    pub fn contents(&self) -> Vec<Change> {
        let organisations = self
            .organisations
            .values()
            .cloned()
            .map(Change::PutOrganisation);
        let tokens = self
            .tokens
            .values()
            .map(|token| Change::PutToken((**token).clone()));
        let event_types = self
            .event_types
            .values()
            .map(|kind| Change::PutEventType((**kind).clone()));
        let revocations = self
            .revocations
            .values()
            .cloned()
            .map(Change::PutRevocation);
        let applications = self.applications.values().flat_map(|entry| {
            let endpoints = entry
                .endpoints
                .iter()
                .map(|one| Change::PutEndpoint((**one).clone()));
            let contact = self.contact(entry.application.id);
            let contact = contact.map(|one| Change::PutContact((**one).clone()));
            std::iter::once(Change::PutApplication(entry.application.clone()))
                .chain(contact)
                .chain(endpoints)
        });
        organisations
            .chain(tokens)
            .chain(revocations)
            .chain(event_types)
            .chain(applications)
            .collect()
    }

    /// Endpoint numbers are never given again, even when the endpoint is gone.
    pub(super) fn reserve_endpoint_numbers(&mut self, last: u64) {
        self.last_endpoint_number = self.last_endpoint_number.max(last);
    }

    /// Applies a committed change.
    pub(crate) fn apply(&mut self, change: Change) {
        self.number += 1;
        match change {
            Change::PutOrganisation(organisation) => {
                self.organisations.insert(organisation.id, organisation);
            }
            Change::PutApplication(application) => self.put_application(application),
            Change::DeleteApplication(id) => self.delete_application(id),
            Change::PutContact(contact) => self.contacts.put(contact),
            Change::DeleteContact(application) => self.contacts.delete(application),
            Change::PutEndpoint(endpoint) => self.put_endpoint(endpoint),
            Change::DeleteEndpoint(application, id) => self.delete_endpoint(application, id),
            Change::PutEventType(event_type) => {
                let key = (event_type.organisation, event_type.name.clone());
                self.event_types_as_of.insert(key.0, self.number);
                self.event_types.insert(key, Arc::new(event_type));
            }
            Change::DeleteEventType(organisation, name) => {
                self.event_types_as_of.insert(organisation, self.number);
                self.event_types.remove(&(organisation, name));
            }
            Change::PutToken(token) => {
                if let Some(old) = self.tokens.get(&token.id) {
                    self.token_hashes.remove(&old.hash);
                }
                self.token_hashes.insert(token.hash, token.id);
                if let (Some(_), Some(application)) = (&token.session, token.application) {
                    self.sessions.insert((application, token.id));
                }
                self.tokens.insert(token.id, Arc::new(token));
            }
            Change::PutJob(job) => {
                self.jobs.insert(job.id, Arc::new(job));
            }
            Change::DeleteJob(id) => {
                self.jobs.remove(&id);
            }
            Change::PutRevocation(revocation) => {
                self.revocations.insert(revocation.hash, revocation);
            }
            Change::DeleteRevocation(hash) => {
                self.revocations.remove(&hash);
            }
            Change::PutVisit(visit) => self.visits.put(visit),
            Change::DeleteVisit(key) => self.visits.delete(&key),
            Change::DeleteToken(id) => {
                if let Some(token) = self.tokens.remove(&id) {
                    self.token_hashes.remove(&token.hash);
                    if let Some(application) = token.application {
                        self.sessions.remove(&(application, id));
                    }
                }
            }
        }
    }

    fn put_application(&mut self, application: Application) {
        let key = (application.organisation, application.id);
        let old = self.applications.remove(&key);
        if let Some(uid) = old.as_ref().and_then(|old| old.application.uid.clone()) {
            self.application_uids
                .remove(&(application.organisation, uid));
        }
        if let Some(uid) = application.uid.clone() {
            self.application_uids
                .insert((application.organisation, uid), application.id);
        }
        self.application_organisations
            .insert(application.id, application.organisation);
        let mut entry = ApplicationEntry::new(application, self.number);
        if let Some(old) = old {
            entry.endpoints.clone_from(&old.endpoints);
            entry.endpoints_as_of.clone_from(&old.endpoints_as_of);
        }
        self.applications.insert(key, Arc::new(entry));
    }

    fn delete_application(&mut self, id: ApplicationId) {
        let Some(organisation) = self.application_organisations.remove(&id) else {
            return;
        };
        let Some(entry) = self.applications.remove(&(organisation, id)) else {
            return;
        };
        self.contacts.delete(id);
        if let Some(uid) = &entry.application.uid {
            self.application_uids.remove(&(organisation, uid.clone()));
        }
        for endpoint in &entry.endpoints {
            self.lanes.remove(&endpoint.number);
            self.endpoint_lanes.remove(&endpoint.id);
            self.held_endpoints -= usize::from(endpoint.held.is_some());
        }
    }

    fn put_endpoint(&mut self, endpoint: Endpoint) {
        self.reserve_endpoint_numbers(endpoint.number);
        let key = (endpoint.organisation, endpoint.application);
        let Some(entry) = self.applications.get_mut(&key) else {
            return;
        };
        self.lanes
            .insert(endpoint.number, (endpoint.application, endpoint.id));
        self.endpoint_lanes.insert(endpoint.id, endpoint.number);
        let entry = Arc::make_mut(entry);
        entry.as_of = self.number;
        self.held_endpoints += usize::from(endpoint.held.is_some());
        match entry
            .endpoints
            .binary_search_by_key(&endpoint.id, |one| one.id)
        {
            Ok(place) => {
                let before = std::mem::replace(&mut entry.endpoints[place], Arc::new(endpoint));
                entry.endpoints_as_of[place] = self.number;
                self.held_endpoints -= usize::from(before.held.is_some());
            }
            Err(place) => {
                entry.endpoints.insert(place, Arc::new(endpoint));
                entry.endpoints_as_of.insert(place, self.number);
            }
        }
    }

    fn delete_endpoint(&mut self, application: ApplicationId, id: EndpointId) {
        let Some(organisation) = self.application_organisations.get(&application) else {
            return;
        };
        let Some(entry) = self.applications.get_mut(&(*organisation, application)) else {
            return;
        };
        let entry = Arc::make_mut(entry);
        entry.as_of = self.number;
        if let Ok(place) = entry.endpoints.binary_search_by_key(&id, |one| one.id) {
            let endpoint = entry.endpoints.remove(place);
            entry.endpoints_as_of.remove(place);
            self.lanes.remove(&endpoint.number);
            self.endpoint_lanes.remove(&endpoint.id);
            self.held_endpoints -= usize::from(endpoint.held.is_some());
        }
    }
}
