//! Which endpoints a message is for.
//!
//! A message is matched before it goes to the writer, on a catalog that has a number. The commit
//! compares that number with the numbers of the last changes that could decide otherwise: those of
//! the application, of each of its endpoints, and of the organisation's event types. It asks only the
//! endpoints that have changed since, so the writer runs no filter that was run before.
//!
//! A filter is a customer's, so its cost has a budget. Where it does not reach, the message is for
//! nobody: it is refused with the name of the endpoint whose filter cost most.

use std::collections::HashSet;
use std::sync::Arc;

use super::checks::wrong;
use crate::catalog::{ApplicationEntry, Catalog};
use crate::domain::cost::{Budget, TooCostly};
use crate::domain::endpoint::Endpoint;
use crate::domain::filter::Facts;
use crate::domain::id::{ApplicationId, EndpointId, OrganisationId};
use crate::domain::wildcard::MessageType;
use crate::error::{Error, Invalid, Result};

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

/// An application with its endpoints as of one number of the catalog. Messages are matched against it
/// while others change the catalog.
#[derive(Clone)]
pub struct Candidates {
    entry: Arc<ApplicationEntry>,
    /// The event type has feature flags, so that no wildcard takes it.
    is_flagged: bool,
    as_of: u64,
}

/// The endpoints of which some may want a message of this event type.
pub fn candidates(
    catalog: &Catalog,
    application: ApplicationId,
    event_type: &str,
) -> Result<Candidates> {
    let entry = catalog.application_by_id(application);
    let entry = entry.ok_or(Error::not_found("application"))?;
    let organisation = entry.application.organisation;
    refuse_archived_type(catalog, organisation, event_type)?;
    Ok(Candidates {
        entry: entry.clone(),
        is_flagged: catalog.message_type(organisation, event_type).is_flagged,
        as_of: catalog.number(),
    })
}

impl Candidates {
    /// Matches a message. An error names the endpoint whose filter cost most.
    pub fn matched(&self, facts: &Facts<'_>, budget: &mut Budget) -> Result<Matched, Costliest> {
        let mut asked = Asked::about(self.is_flagged);
        let mut lanes = Vec::new();
        for endpoint in &self.entry.endpoints {
            if asked.wants(endpoint, facts, budget)? {
                lanes.push(endpoint.number);
            }
        }
        Ok(Matched {
            organisation: self.entry.application.organisation,
            application: self.entry.application.id,
            lanes,
            as_of: self.as_of,
        })
    }
}

/// Matches a message. For tests, and where nothing is gained by letting the catalog go meanwhile.
pub fn matched(
    catalog: &Catalog,
    application: ApplicationId,
    facts: &Facts<'_>,
    budget: &mut Budget,
) -> Result<Matched> {
    let candidates = candidates(catalog, application, facts.parts().event_type)?;
    Ok(candidates.matched(facts, budget)?)
}

/// Matches a message again that was matched for `lanes` at the number `as_of`; returns `None` where
/// the result would be the same. Only endpoints that have changed since are asked; where even that is
/// beyond the budget, the message can be published again.
pub fn matched_since<'a>(
    as_of: u64,
    lanes: &[u64],
    catalog: &Catalog,
    application: ApplicationId,
    event_type: &str,
    facts: impl FnOnce() -> Facts<'a>,
    budget: &mut Budget,
) -> Result<Option<Matched>> {
    if catalog.number() == as_of {
        return Ok(None);
    }
    let is_same = catalog.application_by_id(application).is_some_and(|entry| {
        let organisation = entry.application.organisation;
        entry.as_of.max(catalog.event_types_as_of(organisation)) <= as_of
    });
    if is_same {
        return Ok(None);
    }
    let Candidates {
        entry,
        is_flagged,
        as_of: now,
    } = candidates(catalog, application, event_type)?;
    let before: HashSet<u64> = lanes.iter().copied().collect();
    let facts = facts();
    let mut asked = Asked::about(is_flagged);
    let mut lanes = Vec::new();
    for (endpoint, changed) in entry.endpoints_as_of() {
        let is_for_it = match changed > as_of {
            true => asked
                .wants(endpoint, &facts, budget)
                .map_err(|_| changed_meanwhile())?,
            false => before.contains(&endpoint.number),
        };
        lanes.extend(is_for_it.then_some(endpoint.number));
    }
    Ok(Some(Matched {
        organisation: entry.application.organisation,
        application,
        lanes,
        as_of: now,
    }))
}

fn changed_meanwhile() -> Error {
    let reason = "filters of the application's endpoints were changed while the message came in; \
                  publish it again";
    Error::Unavailable {
        reason: reason.to_owned(),
        retry_after_seconds: 1,
    }
}

/// The budget does not reach, and this endpoint's filter cost most of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costliest(pub EndpointId);

impl From<Costliest> for Error {
    fn from(Costliest(endpoint): Costliest) -> Error {
        Error::invalid(Invalid {
            location: vec!["body".to_owned()],
            message: format!(
                "filters cost more time than a message has: most of it that of the endpoint \
                 {endpoint}. Make its filter simpler, or the payload smaller"
            ),
            kind: "too_costly".into(),
        })
    }
}

/// The filters that were asked about a message, for the one that cost most.
struct Asked {
    is_flagged: bool,
    costliest: Option<(u64, EndpointId)>,
}

impl Asked {
    /// Nothing was asked yet about a message whose event type is flagged, or not.
    fn about(is_flagged: bool) -> Asked {
        Asked {
            is_flagged,
            costliest: None,
        }
    }

    fn wants(
        &mut self,
        endpoint: &Endpoint,
        facts: &Facts<'_>,
        budget: &mut Budget,
    ) -> Result<bool, Costliest> {
        let parts = facts.parts();
        let event_type = MessageType {
            name: parts.event_type,
            is_flagged: self.is_flagged,
        };
        if !endpoint.matches(event_type, parts.channels) {
            return Ok(false);
        }
        let Some(filter) = &endpoint.filter else {
            return Ok(true);
        };
        let before = budget.spent();
        let result = filter.matches(facts, budget);
        let cost = budget.spent() - before;
        if self.costliest.is_none_or(|(most, _)| cost > most) {
            self.costliest = Some((cost, endpoint.id));
        }
        result.map_err(|TooCostly| {
            Costliest(
                self.costliest
                    .map_or(endpoint.id, |(_, costliest)| costliest),
            )
        })
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
    use crate::domain::event_type::{EventType, Strictness};
    use crate::domain::filter::{Filter, Parts};
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
        /// The step of the last change of an endpoint, by its number.
        endpoint_steps: BTreeMap<u64, usize>,
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
                let filter_fits = match &one.filter {
                    Some(filter) => filter.source() == filter_for(message.number).source(),
                    None => true,
                };
                if of_it && type_fits && channel_fits && filter_fits {
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

        /// How many filters of the message's application have changed after this step.
        fn filters_changed_since(&self, step: usize, message: &Sent) -> usize {
            let its = |one: &&Endpoint| one.application == message.application;
            let steps = self
                .endpoints
                .iter()
                .filter(its)
                .map(|one| (one.number, &one.filter));
            steps
                .filter(|(number, filter)| filter.is_some() && self.endpoint_steps[number] > step)
                .count()
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
                        event_types: some(random).map(Into::into),
                        channels: some(random),
                        filter: some_filter(random),
                        disabled: random.random_bool(0.2).then(|| Disabled::by_hand(NOW)),
                        ..blank(&Example::application(), step as u64 + 1, NOW)
                    };
                    self.endpoints.push(endpoint.clone());
                    self.endpoint_steps.insert(endpoint.number, step);
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
                    self.endpoint_steps.insert(endpoint.number, step);
                    endpoint.event_types = some(random).map(Into::into);
                    endpoint.channels = some(random);
                    endpoint.filter = some_filter(random);
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
        /// A number in its payload, which filters ask for.
        number: u8,
        payload: String,
    }

    impl Sent {
        fn facts(&self) -> Facts<'_> {
            static NOTHING: BTreeMap<String, String> = BTreeMap::new();
            Facts::new(Parts {
                event_type: self.event_type,
                event_id: None,
                channels: &self.channels,
                tags: &[],
                metadata: &NOTHING,
                accepted_at: NOW,
                payload: &self.payload,
                is_raw: false,
            })
        }
    }

    fn filter_for(number: u8) -> Filter {
        let source = format!(r#"{{"data":{{"number":{number}}}}}"#);
        let filter = Filter::parse(&source).expect("it is one");
        filter.expect("it asks for something")
    }

    fn some_filter(random: &mut StdRng) -> Option<Arc<Filter>> {
        let number = random.random_range(0..5);
        (number < 2).then(|| Arc::new(filter_for(number)))
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
                    let number = random.random_range(0..2);
                    let message = Sent {
                        application,
                        event_type: NAMES.choose(&mut random).expect("there are some"),
                        channels: vec![(*NAMES.choose(&mut random).unwrap()).to_owned()],
                        number,
                        payload: format!("{{\"number\": {number}.0}}"),
                    };
                    let mut budget = Budget::of_publish();
                    let now = matched(&catalog, application, &message.facts(), &mut budget);
                    assert_eq!(told(now.as_ref()), model.matched(&message), "seed {seed}");
                    waiting.extend(now.ok().map(|matched| (message, matched, step)));
                }
                while !waiting.is_empty() && random.random_bool(0.45) {
                    let place = random.random_range(0..waiting.len());
                    let (message, matched, then) = waiting.swap_remove(place);
                    let mut budget = Budget::of_publish();
                    let since = matched_since(
                        matched.as_of,
                        &matched.lanes,
                        &catalog,
                        message.application,
                        message.event_type,
                        || message.facts(),
                        &mut budget,
                    );
                    let changed = model.filters_changed_since(then, &message);
                    assert!(
                        changed > 0 || budget.spent() == 0,
                        "a filter was asked in vain"
                    );
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

    #[test]
    fn a_message_that_costs_too_much_names_the_costliest_filter() {
        let application = Example::application();
        let endpoint = |number: u64, filter: &str| Endpoint {
            id: EndpointId([number as u8; 20]),
            filter: Filter::parse(filter).expect("it is one").map(Arc::new),
            ..blank(&application, number, NOW)
        };
        let costly = r#"{"data":{"$or":[{"n":2},{"n":3},{"n":4}]}}"#;
        let endpoints = [
            endpoint(1, r#"{"topic":"a"}"#),
            endpoint(2, costly),
            endpoint(3, r#"{"data":{"n":2}}"#),
        ];
        let id = application.id;
        let named = endpoints[1].id;
        let puts = endpoints.into_iter().map(Change::PutEndpoint);
        let all = [Change::PutApplication(application)]
            .into_iter()
            .chain(puts);
        let catalog = Catalog::of(all);
        let sent = Sent {
            application: id,
            event_type: "a",
            channels: Vec::new(),
            number: 0,
            payload: format!("{{\"n\":[{}0]}}", "0,".repeat(5000)),
        };
        let mut enough = Budget::of_publish();
        let matched_all = matched(&catalog, id, &sent.facts(), &mut enough).unwrap();
        assert_eq!(matched_all.lanes, [1]);
        let mut little = Budget::of_steps(enough.spent() - 1000);
        let refused = matched(&catalog, id, &sent.facts(), &mut little).unwrap_err();
        let Error::Invalid(problems) = refused else {
            panic!("{refused}");
        };
        assert_eq!(problems[0].kind, "too_costly");
        assert!(
            problems[0].message.contains(&named.to_string()),
            "{problems:?}"
        );
    }
}
