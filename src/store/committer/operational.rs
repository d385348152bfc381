//! Operational events: messages that the committer makes itself, for the organisation's own
//! endpoints, in the commit of what they tell of. So they are as durable as it.
//!
//! Where no such endpoint wants an event, all that it costs is a look into the catalog. The own
//! endpoints raise none themselves, and neither do tests.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::{Batch, Committer};
use crate::catalog::{Catalog, Change};
use crate::clock::Timestamp;
use crate::domain::application::Application;
use crate::domain::attempt::Attempt;
use crate::domain::endpoint::Endpoint;
use crate::domain::id::{ApplicationId, OrganisationId};
use crate::domain::message::Origin;
use crate::domain::notice::Told;
use crate::domain::operational::{AttemptedMessage, OperationalEvent, Subject, attempt_event};
use crate::domain::payload::PayloadBytes;
use crate::domain::wildcard::MessageType;
use crate::store::NewMessage;
use crate::store::backlog::Room;

/// An event with whom it is for, made while the catalog was looked at.
struct ToldEvent {
    organisation: OrganisationId,
    name: &'static str,
    payload: PayloadBytes,
    lanes: Vec<u64>,
}

impl ToldEvent {
    /// Nothing where nobody wants it.
    fn of(
        catalog: &Catalog,
        organisation: OrganisationId,
        event: &OperationalEvent<'_>,
    ) -> Option<ToldEvent> {
        let own = catalog.operational(organisation)?;
        let wants =
            |one: &&std::sync::Arc<Endpoint>| one.matches(MessageType::open(event.name), &[]);
        let lanes = own.endpoints.iter().filter(wants).map(|one| one.number);
        let lanes: Vec<u64> = lanes.collect();
        if lanes.is_empty() {
            return None;
        }
        let payload = serde_json::to_vec(event).expect("our types have text keys");
        Some(ToldEvent {
            organisation,
            name: event.name,
            payload: payload.into(),
            lanes,
        })
    }
}

impl Committer {
    /// Of endpoints that were made, changed and deleted by a caller. The catalog is as it was
    /// before.
    pub(super) fn tell_of_changes(&mut self, batch: &mut Batch, changes: &[Change]) {
        let told = {
            let catalog = self.inner.catalog();
            let console_url = self.inner.settings.console_url.as_deref();
            told_of_changes(&catalog, console_url, changes)
        };
        told.into_iter().for_each(|told| self.tell(batch, told));
    }

    /// Of a delivery that fails again and again, was given up, or came through after all.
    pub(super) fn tell_of_attempt(
        &mut self,
        batch: &mut Batch,
        lane: u64,
        attempt: &Attempt,
        message: AttemptedMessage<'_>,
    ) {
        if attempt.test || attempt_event(attempt.number, attempt.verdict).is_none() {
            return;
        }
        let told = {
            let catalog = self.inner.catalog();
            let endpoint = catalog.endpoint_by_number(lane);
            endpoint.and_then(|endpoint| {
                let subject = self.subject(&catalog, endpoint)?;
                let event = OperationalEvent::of_attempt(subject, attempt, message)?;
                ToldEvent::of(&catalog, endpoint.organisation, &event)
            })
        };
        if let Some(told) = told {
            self.tell(batch, told);
        }
    }

    /// Of an endpoint that its attempts disable, and that has failed since then.
    pub(super) fn tell_of_disabled(
        &mut self,
        batch: &mut Batch,
        endpoint: &Endpoint,
        fail_since: Timestamp,
    ) {
        let told = {
            let catalog = self.inner.catalog();
            self.subject(&catalog, endpoint).and_then(|subject| {
                let event = OperationalEvent::disabled(subject, fail_since);
                ToldEvent::of(&catalog, endpoint.organisation, &event)
            })
        };
        if let Some(told) = told {
            self.tell(batch, told);
        }
    }

    /// Of an endpoint that has failed for a while, or is well again.
    pub(super) fn tell_of_notice(&mut self, batch: &mut Batch, endpoint: &Endpoint, told: &Told) {
        let told = {
            let catalog = self.inner.catalog();
            self.subject(&catalog, endpoint).and_then(|subject| {
                let event = OperationalEvent::of_notice(subject, told);
                ToldEvent::of(&catalog, endpoint.organisation, &event)
            })
        };
        if let Some(told) = told {
            self.tell(batch, told);
        }
    }

    fn subject<'a>(&'a self, catalog: &'a Catalog, endpoint: &'a Endpoint) -> Option<Subject<'a>> {
        subject_of(
            catalog,
            self.inner.settings.console_url.as_deref(),
            endpoint,
        )
    }

    /// Puts the event where messages are. Nobody waits for it who could be refused, so what bounds
    /// those that wait for a receiver which is away is that they are dropped.
    fn tell(&mut self, batch: &mut Batch, told: ToldEvent) {
        let inner = &self.inner;
        let own = ApplicationId::operational(told.organisation);
        // Beyond what may be published, for then there is much to tell; within the share of an
        // application all the same.
        let Room {
            to_send,
            held,
            application,
        } = Room::of(&inner.settings);
        let room = Room {
            to_send: to_send.saturating_mul(2),
            held: held.saturating_mul(2),
            application,
        };
        let more = batch.put.len() + told.lanes.len();
        let refusal = inner.refusal(&room, own, more as u64, told.lanes.iter());
        if refusal.is_some() || inner.low_space.load(Ordering::Relaxed) {
            batch.untold += 1;
            return;
        }
        let message = NewMessage {
            organisation: told.organisation,
            application: own,
            event_type: told.name.to_owned(),
            event_id: None,
            channels: Vec::new(),
            payload: told.payload,
            is_raw: false,
            content_type: None,
            lanes: told.lanes,
            matched_as_of: None,
            once: None,
            origin: Origin::Published,
            tags: Vec::new(),
            deliver_at: None,
            expires_at: None,
            metadata: BTreeMap::new(),
            headers: BTreeMap::new(),
        };
        self.put_message(batch, message, None);
    }
}

/// The endpoint with its application, where anybody could want to hear of it.
fn subject_of<'a>(
    catalog: &'a Catalog,
    console_url: Option<&'a str>,
    endpoint: &'a Endpoint,
) -> Option<Subject<'a>> {
    if endpoint.is_operational() {
        return None;
    }
    catalog.operational(endpoint.organisation)?;
    let entry = catalog.application_by_id(endpoint.application)?;
    Some(Subject {
        application: &entry.application,
        endpoint,
        console_url,
    })
}

fn told_of_changes(
    catalog: &Catalog,
    console_url: Option<&str>,
    changes: &[Change],
) -> Vec<ToldEvent> {
    let mut told = Vec::new();
    for change in changes {
        match change {
            Change::PutEndpoint(endpoint) if !endpoint.is_operational() => {
                let Some(application) = application_of(catalog, changes, endpoint) else {
                    continue;
                };
                let before = catalog.endpoint_by_number(endpoint.number);
                let subject = Subject {
                    application,
                    endpoint,
                    console_url,
                };
                let events = OperationalEvent::put(subject, before.map(|one| &**one));
                let organisation = endpoint.organisation;
                let of = |event| ToldEvent::of(catalog, organisation, event);
                told.extend(events.iter().filter_map(of));
            }
            Change::DeleteEndpoint(application, id) => {
                let entry = catalog.application_by_id(*application);
                let endpoint = entry.and_then(|entry| entry.endpoint_by_id(*id));
                told.extend(endpoint.and_then(|endpoint| told_of_deletion(catalog, endpoint)));
            }
            Change::DeleteApplication(id) => {
                let entry = catalog.application_by_id(*id);
                let endpoints = entry.iter().flat_map(|entry| &entry.endpoints);
                told.extend(endpoints.filter_map(|one| told_of_deletion(catalog, one)));
            }
            _ => {}
        }
    }
    told
}

fn told_of_deletion(catalog: &Catalog, endpoint: &Endpoint) -> Option<ToldEvent> {
    let event = OperationalEvent::deleted(subject_of(catalog, None, endpoint)?);
    ToldEvent::of(catalog, endpoint.organisation, &event)
}

/// The endpoint's application, which may be new with it.
fn application_of<'a>(
    catalog: &'a Catalog,
    changes: &'a [Change],
    endpoint: &Endpoint,
) -> Option<&'a Application> {
    catalog.operational(endpoint.organisation)?;
    let made = changes.iter().find_map(|change| match change {
        Change::PutApplication(one) if one.id == endpoint.application => Some(one),
        _ => None,
    });
    let known = || catalog.application_by_id(endpoint.application);
    made.or_else(|| known().map(|entry| &entry.application))
}
