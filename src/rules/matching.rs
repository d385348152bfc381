//! Which endpoints a message is for.
//!
//! A message is matched before it goes to the writer, on a catalog that has a number. The commit
//! compares that number with the numbers of the last changes that could decide otherwise: those of
//! the application with its endpoints and of the organisation's event types. It matches again only
//! where one of them has changed since.

use super::checks::wrong;
use crate::catalog::Catalog;
use crate::domain::id::{ApplicationId, OrganisationId};
use crate::error::{Error, Result};

/// The endpoints that a message is for, as of one number of the catalog.
#[derive(Debug, PartialEq)]
pub struct Matched {
    pub organisation: OrganisationId,
    pub application: ApplicationId,
    /// The numbers of the endpoints. Disabled ones are among them.
    pub lanes: Vec<u64>,
    /// The number of the catalog.
    pub as_of: u64,
}

/// Matches a message with this event type and these channels.
pub fn matched(
    catalog: &Catalog,
    application: ApplicationId,
    event_type: &str,
    channels: &[String],
) -> Result<Matched> {
    let entry = catalog.application_by_id(application);
    let entry = entry.ok_or(Error::not_found("application"))?;
    let organisation = entry.application.organisation;
    refuse_archived_type(catalog, organisation, event_type)?;
    let endpoints = entry.endpoints.iter();
    let event_type = catalog.message_type(organisation, event_type);
    let wanting = endpoints.filter(|one| one.matches(event_type, channels));
    Ok(Matched {
        organisation,
        application,
        lanes: wanting.map(|one| one.number).collect(),
        as_of: catalog.number(),
    })
}

/// Matches a message again that was matched at this number; returns `None` where the result would
/// be the same.
pub fn matched_since(
    as_of: u64,
    catalog: &Catalog,
    application: ApplicationId,
    event_type: &str,
    channels: &[String],
) -> Result<Option<Matched>> {
    if catalog.number() == as_of {
        return Ok(None);
    }
    let is_same = catalog.application_by_id(application).is_some_and(|entry| {
        let organisation = entry.application.organisation;
        entry.as_of.max(catalog.event_types_as_of(organisation)) <= as_of
    });
    match is_same {
        true => Ok(None),
        false => matched(catalog, application, event_type, channels).map(Some),
    }
}

/// Refuses an event type that is archived. One that is not registered is accepted: registration is
/// for documentation.
pub fn refuse_archived_type(
    catalog: &Catalog,
    organisation: OrganisationId,
    event_type: &str,
) -> Result<()> {
    match catalog.event_type(organisation, event_type) {
        Some(known) if known.archived => Err(wrong(
            &["body", "eventType"],
            format!("the event type {event_type} is archived"),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use rand::rngs::StdRng;
    use rand::seq::IndexedRandom;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::catalog::Change;
    use crate::domain::application::Application;
    use crate::domain::disabled::Disabled;
    use crate::domain::endpoint::Endpoint;
    use crate::domain::event_type::{EventType, Strictness};
    use crate::domain::id::EndpointId;
    use crate::domain::token::{Role, Token};
    use crate::rules::endpoint_checks::blank;
    use crate::rules::tests::{Example, NOW};

    const NAMES: [&str; 3] = ["a", "b", "c"];

    /// All that matching depends on, in plain lists that are searched from end to end.
    #[derive(Default)]
    struct Model {
        applications: Vec<(OrganisationId, ApplicationId)>,
        endpoints: Vec<Endpoint>,
        archived: BTreeSet<(OrganisationId, &'static str)>,
        /// The step of the last change of an application or of an organisation's event types.
        application_steps: BTreeMap<ApplicationId, usize>,
        type_steps: BTreeMap<OrganisationId, usize>,
    }

    impl Model {
        fn organisation(&self, application: ApplicationId) -> Option<OrganisationId> {
            let mut all = self.applications.iter();
            let found = all.find(|(_, id)| *id == application);
            found.map(|(organisation, _)| *organisation)
        }

        /// The lanes, or why there are none.
        fn matched(&self, message: &Sent) -> Result<Vec<u64>, &'static str> {
            let Some(organisation) = self.organisation(message.application) else {
                return Err("application not found");
            };
            if self.archived.contains(&(organisation, message.event_type)) {
                return Err("archived");
            }
            let mut lanes = Vec::new();
            for one in &self.endpoints {
                let of_it = one.application == message.application;
                let type_fits = match &one.event_types {
                    Some(wanted) => wanted.contains(&message.event_type.to_owned()),
                    None => true,
                };
                let channel_fits = match &one.channels {
                    Some(wanted) => wanted.iter().any(|one| message.channels.contains(one)),
                    None => true,
                };
                if of_it && type_fits && channel_fits {
                    lanes.push(one.number);
                }
            }
            lanes.sort_unstable();
            Ok(lanes)
        }

        /// Whether something that decides the message has changed after this step.
        fn changed_since(&self, step: usize, message: &Sent) -> bool {
            let later = |at: Option<&usize>| at.is_some_and(|at| *at > step);
            let organisation = self.organisation(message.application);
            later(self.application_steps.get(&message.application))
                || organisation.is_some_and(|one| later(self.type_steps.get(&one)))
        }

        /// A random change, noted and returned.
        fn change(&mut self, random: &mut StdRng, step: usize) -> Change {
            let organisation = OrganisationId([random.random_range(1..3); 20]);
            let some = |random: &mut StdRng| {
                let chosen = NAMES.iter().filter(|_| random.random_bool(0.5));
                let chosen: Vec<String> = chosen.map(|one| (*one).to_owned()).collect();
                (!chosen.is_empty()).then_some(chosen)
            };
            let known = self.applications.choose(random).copied();
            match (random.random_range(0..20), known) {
                (0..2, _) | (_, None) => {
                    let id = ApplicationId([step as u8; 20]);
                    self.applications.push((organisation, id));
                    self.application_steps.insert(id, step);
                    Change::PutApplication(Application {
                        id,
                        organisation,
                        uid: None,
                        ..Example::application()
                    })
                }
                (2, Some((organisation, id))) => {
                    self.application_steps.insert(id, step);
                    Change::PutApplication(Application {
                        id,
                        organisation,
                        uid: None,
                        ..Example::application()
                    })
                }
                (3, Some((_, id))) => {
                    self.applications.retain(|(_, one)| *one != id);
                    self.endpoints.retain(|one| one.application != id);
                    self.application_steps.insert(id, step);
                    Change::DeleteApplication(id)
                }
                (4..9, Some((organisation, application))) => {
                    let endpoint = Endpoint {
                        id: EndpointId([step as u8; 20]),
                        number: step as u64 + 1,
                        organisation,
                        application,
                        event_types: some(random),
                        channels: some(random),
                        disabled: random.random_bool(0.2).then(|| Disabled::by_hand(NOW)),
                        ..blank(&Example::application(), step as u64 + 1, NOW)
                    };
                    self.endpoints.push(endpoint.clone());
                    self.application_steps.insert(application, step);
                    Change::PutEndpoint(endpoint)
                }
                (9..14, _) if !self.endpoints.is_empty() => {
                    let place = random.random_range(0..self.endpoints.len());
                    let application = self.endpoints[place].application;
                    self.application_steps.insert(application, step);
                    if random.random_bool(0.3) {
                        let gone = self.endpoints.remove(place);
                        return Change::DeleteEndpoint(application, gone.id);
                    }
                    let endpoint = &mut self.endpoints[place];
                    endpoint.event_types = some(random);
                    endpoint.channels = some(random);
                    Change::PutEndpoint(endpoint.clone())
                }
                (14..17, _) => {
                    let name = *NAMES.choose(random).expect("there are some");
                    self.type_steps.insert(organisation, step);
                    let archived = random.random_bool(0.4);
                    match archived {
                        true => self.archived.insert((organisation, name)),
                        false => self.archived.remove(&(organisation, name)),
                    };
                    if !archived && random.random_bool(0.5) {
                        return Change::DeleteEventType(organisation, name.to_owned());
                    }
                    Change::PutEventType(event_type(organisation, name, archived))
                }
                _ => {
                    let name = "of no account".to_owned();
                    let hash = [step as u8; 32];
                    let token = Token::new(organisation, Role::Viewer, name, hash, NOW);
                    Change::PutToken(token)
                }
            }
        }
    }

    struct Sent {
        application: ApplicationId,
        event_type: &'static str,
        channels: Vec<String>,
    }

    fn event_type(organisation: OrganisationId, name: &str, archived: bool) -> EventType {
        EventType {
            organisation,
            name: name.to_owned(),
            description: String::new(),
            archived,
            deprecated: false,
            feature_flags: Vec::new(),
            schemas: None,
            created_at: NOW,
            updated_at: NOW,
            example: None,
            channels: None,
            group_name: None,
            validate: Strictness::Off,
        }
    }

    fn told(result: Result<&Matched, &Error>) -> Result<Vec<u64>, &'static str> {
        match result {
            Ok(matched) => {
                let mut lanes = matched.lanes.clone();
                lanes.sort_unstable();
                Ok(lanes)
            }
            Err(Error::NotFound(_)) => Err("application not found"),
            Err(Error::Invalid(_)) => Err("archived"),
            Err(other) => panic!("{other}"),
        }
    }

    /// Messages are matched at one moment and committed at another, with random changes in between.
    #[test]
    fn what_is_committed_is_what_a_naive_model_says_and_nothing_is_matched_in_vain() {
        let (mut again, mut same) = (0, 0);
        for seed in 0..60 {
            let mut random = StdRng::seed_from_u64(seed);
            let (mut catalog, mut model) = (Catalog::default(), Model::default());
            let mut waiting: Vec<(Sent, Matched, usize)> = Vec::new();
            for step in 0..250 {
                catalog.apply(model.change(&mut random, step));
                let known = model.applications.choose(&mut random).copied();
                if let Some((_, application)) = known {
                    let message = Sent {
                        application,
                        event_type: NAMES.choose(&mut random).expect("there are some"),
                        channels: vec![(*NAMES.choose(&mut random).unwrap()).to_owned()],
                    };
                    let Sent {
                        event_type,
                        channels,
                        ..
                    } = &message;
                    let now = matched(&catalog, application, event_type, channels);
                    assert_eq!(told(now.as_ref()), model.matched(&message), "seed {seed}");
                    waiting.extend(now.ok().map(|matched| (message, matched, step)));
                }
                while !waiting.is_empty() && random.random_bool(0.45) {
                    let place = random.random_range(0..waiting.len());
                    let (message, matched, then) = waiting.swap_remove(place);
                    let Sent {
                        application,
                        event_type,
                        channels,
                    } = &message;
                    let since =
                        matched_since(matched.as_of, &catalog, *application, event_type, channels);
                    let was_needed = model.changed_since(then, &message);
                    let place = format!("seed {seed}, step {step}");
                    assert_eq!(!matches!(since, Ok(None)), was_needed, "{place}");
                    let found = match &since {
                        Ok(None) => told(Ok(&matched)),
                        Ok(Some(anew)) => told(Ok(anew)),
                        Err(error) => told(Err(error)),
                    };
                    assert_eq!(found, model.matched(&message), "{place}");
                    *if was_needed { &mut again } else { &mut same } += 1;
                }
            }
        }
        assert!(again > 500 && same > 500, "both happen: {again}, {same}");
    }
}
