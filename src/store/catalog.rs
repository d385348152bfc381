//! The registrations in memory: organisations, tokens, event types, applications, endpoints.
//!
//! Loaded at start, changed only after the commit of a [`Change`], read without touching the disk.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::domain::application::Application;
use crate::domain::endpoint::Endpoint;
use crate::domain::event_type::EventType;
use crate::domain::id::{ApplicationId, EndpointId, OrganisationId, TokenId};
use crate::domain::organisation::Organisation;
use crate::domain::token::Token;

/// One change of the registrations. Deleting an application deletes its endpoints with it.
#[derive(Clone, Debug)]
pub enum Change {
    PutOrganisation(Organisation),
    PutApplication(Application),
    DeleteApplication(ApplicationId),
    PutEndpoint(Endpoint),
    DeleteEndpoint(ApplicationId, EndpointId),
    PutEventType(EventType),
    DeleteEventType(OrganisationId, String),
    PutToken(Token),
    DeleteToken(TokenId),
}

/// An application with its endpoints, sorted by id.
#[derive(Clone, Debug)]
pub struct ApplicationEntry {
    pub application: Application,
    pub endpoints: Vec<Arc<Endpoint>>,
}

impl ApplicationEntry {
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
    lanes: HashMap<u64, (ApplicationId, EndpointId)>,
    event_types: BTreeMap<(OrganisationId, String), Arc<EventType>>,
    tokens: BTreeMap<TokenId, Arc<Token>>,
    token_hashes: HashMap<[u8; 32], TokenId>,
    /// The highest endpoint number that was ever given.
    last_endpoint_number: u64,
}

impl Catalog {
    pub fn organisations(&self) -> impl Iterator<Item = &Organisation> {
        self.organisations.values()
    }

    /// Sorted by id.
    pub fn applications(
        &self,
        organisation: OrganisationId,
    ) -> impl DoubleEndedIterator<Item = &Arc<ApplicationEntry>> {
        let first = (organisation, ApplicationId([0; 20]));
        let last = (organisation, ApplicationId([0xff; 20]));
        self.applications
            .range(first..=last)
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
        self.applications.get(&(organisation, id))
    }

    pub fn application_by_id(&self, id: ApplicationId) -> Option<&Arc<ApplicationEntry>> {
        let organisation = self.application_organisations.get(&id)?;
        self.applications.get(&(*organisation, id))
    }

    pub fn endpoint_by_number(&self, lane: u64) -> Option<&Arc<Endpoint>> {
        let (application, endpoint) = self.lanes.get(&lane)?;
        self.application_by_id(*application)?
            .endpoint_by_id(*endpoint)
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
        self.event_types
            .range((organisation, String::new())..)
            .take_while(move |((of, _), _)| *of == organisation)
            .map(|(_, event_type)| event_type)
            .collect::<Vec<_>>()
            .into_iter()
    }

    pub fn event_type(&self, organisation: OrganisationId, name: &str) -> Option<&Arc<EventType>> {
        self.event_types.get(&(organisation, name.to_owned()))
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
}
