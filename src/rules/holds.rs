//! Holds and releases, by the operator: of an endpoint, of an application's endpoints, and of all.
//!
//! Many endpoints are changed a part at a time, so that no commit is long and others come in between. Whoever asks
//! lists the lanes first ([`Whose::lanes`]) and then sends a command for each part of them. An endpoint that is made
//! meanwhile is in no part and stays as it is. Nothing else of an endpoint changes, its `updated_at` included: that
//! tells its owner of the owner's changes.

use serde::{Deserialize, Serialize};

use super::caller::{Action, Caller};
use super::endpoints::Owner;
use super::{Command, Decided, View};
use crate::catalog::{Catalog, Change};
use crate::clock::Timestamp;
use crate::domain::endpoint::{CatchUp, Endpoint};
use crate::domain::hold::Held;
use crate::error::Result;

/// Holds an endpoint.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldEndpoint {
    pub owner: Owner,
    /// Its id or uid.
    pub endpoint: String,
}

impl Command for HoldEndpoint {
    /// The number of endpoints that were changed.
    type Answer = usize;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<usize> {
        let (owner, action) = (&self.owner, Action::HoldEndpoints);
        let found = owner.endpoint(caller, view.catalog, &self.endpoint, action)?;
        Ok(held([&**found], view.now))
    }
}

/// Releases an endpoint.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseEndpoint {
    pub owner: Owner,
    /// Its id or uid.
    pub endpoint: String,
    /// Messages a second of what waits; as fast as its limits allow where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u16>,
}

impl Command for ReleaseEndpoint {
    /// The number of endpoints that were changed.
    type Answer = usize;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<usize> {
        let (owner, action) = (&self.owner, Action::HoldEndpoints);
        let found = owner.endpoint(caller, view.catalog, &self.endpoint, action)?;
        Ok(released([&**found], CatchUp::at(self.rate, view.now)))
    }
}

/// Whose endpoints are held or released together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Whose {
    /// An application's, by its id or uid.
    Application(String),
    /// All of the organisation. Its own endpoints are among them where the caller may change those.
    Organisation,
}

impl Whose {
    /// Returns the lanes of the endpoints that are held, or that are not held.
    pub fn lanes(&self, caller: &Caller, catalog: &Catalog, are_held: bool) -> Result<Vec<u64>> {
        let is_one = |endpoint: &&Endpoint| endpoint.held.is_some() == are_held;
        let endpoints = self.endpoints(caller, catalog)?.into_iter();
        let lanes = endpoints.filter(is_one).map(|endpoint| endpoint.number);
        Ok(lanes.collect())
    }

    fn endpoints<'a>(&self, caller: &Caller, catalog: &'a Catalog) -> Result<Vec<&'a Endpoint>> {
        let entries = match self {
            Whose::Application(id) => {
                vec![caller.application(catalog, id, Action::HoldEndpoints)?]
            }
            Whose::Organisation => {
                caller.may(Action::HoldAll)?;
                let own = catalog.operational(caller.organisation);
                let own = own.filter(|_| caller.may(Action::OwnEndpoints).is_ok());
                catalog
                    .applications(caller.organisation)
                    .chain(own)
                    .collect()
            }
        };
        let endpoints = entries.into_iter().flat_map(|entry| &entry.endpoints);
        Ok(endpoints.map(|endpoint| &**endpoint).collect())
    }

    /// Returns the endpoints of these lanes that are among them.
    fn of_lanes<'a>(
        &self,
        caller: &Caller,
        catalog: &'a Catalog,
        lanes: &[u64],
    ) -> Result<Vec<&'a Endpoint>> {
        let application = match self {
            Whose::Application(id) => {
                let entry = caller.application(catalog, id, Action::HoldEndpoints)?;
                Some(entry.application.id)
            }
            Whose::Organisation => {
                caller.may(Action::HoldAll)?;
                None
            }
        };
        let may_own = caller.may(Action::OwnEndpoints).is_ok();
        let is_one = |endpoint: &&Endpoint| match application {
            Some(application) => endpoint.application == application,
            None => {
                endpoint.organisation == caller.organisation
                    && (may_own || !endpoint.is_operational())
            }
        };
        let endpoints = lanes
            .iter()
            .filter_map(|lane| catalog.endpoint_by_number(*lane));
        Ok(endpoints
            .map(|endpoint| &**endpoint)
            .filter(is_one)
            .collect())
    }
}

/// Holds a part of the endpoints.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldEndpoints {
    pub whose: Whose,
    pub lanes: Vec<u64>,
}

impl Command for HoldEndpoints {
    /// The number of endpoints that were changed.
    type Answer = usize;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<usize> {
        let found = self.whose.of_lanes(caller, view.catalog, &self.lanes)?;
        Ok(held(found, view.now))
    }
}

/// Releases a part of the endpoints.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseEndpoints {
    pub whose: Whose,
    pub lanes: Vec<u64>,
    /// For each of them, messages a second of what waits; as fast as its limits allow where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u16>,
}

impl Command for ReleaseEndpoints {
    /// The number of endpoints that were changed.
    type Answer = usize;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<usize> {
        let found = self.whose.of_lanes(caller, view.catalog, &self.lanes)?;
        Ok(released(found, CatchUp::at(self.rate, view.now)))
    }
}

/// Holds those that are not held yet: the first hold's time and reason stay.
fn held<'a>(
    endpoints: impl IntoIterator<Item = &'a Endpoint>,
    now: Timestamp,
) -> (Vec<Change>, usize) {
    let free = endpoints.into_iter().filter(|one| one.held.is_none());
    counted(free.map(|endpoint| Endpoint {
        held: Some(Held::by_hand(now)),
        ..endpoint.clone()
    }))
}

/// Releases those that are held, each with this pace in place of an earlier one.
fn released<'a>(
    endpoints: impl IntoIterator<Item = &'a Endpoint>,
    catch_up: Option<CatchUp>,
) -> (Vec<Change>, usize) {
    let held = endpoints.into_iter().filter(|one| one.held.is_some());
    counted(held.map(|endpoint| Endpoint {
        held: None,
        catch_up,
        ..endpoint.clone()
    }))
}

fn counted(changed: impl Iterator<Item = Endpoint>) -> (Vec<Change>, usize) {
    let changes: Vec<Change> = changed.map(Change::PutEndpoint).collect();
    let count = changes.len();
    (changes, count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::application::Application;
    use crate::domain::id::{ApplicationId, EndpointId, OrganisationId};
    use crate::domain::token::{Role, Token};
    use crate::rules::tests::{Example, NOW, outcome};

    const LATER: Timestamp = Timestamp(NOW.0 + 1);

    fn endpoint(number: u64, application: &Application, held: Option<Held>) -> Endpoint {
        Endpoint {
            id: EndpointId([number as u8; 20]),
            number,
            application: application.id,
            organisation: application.organisation,
            held,
            ..Example::new().endpoint()
        }
    }

    fn two() -> Application {
        Application {
            id: ApplicationId([3; 20]),
            uid: Some("two".to_owned()),
            ..Example::application()
        }
    }

    /// Application `one` with the lanes 1 and 2, of which 2 is held; `two` with 3; the organisation's own endpoint
    /// 4; and 5 of another organisation.
    fn example() -> Example {
        let own = Application::operational(Example::ORGANISATION, NOW);
        let foreign = Application {
            id: ApplicationId([9; 20]),
            organisation: OrganisationId([9; 20]),
            ..Example::application()
        };
        let one = Example::application();
        let endpoints = [
            endpoint(1, &one, None),
            endpoint(2, &one, Some(Held::restored(NOW))),
            endpoint(3, &two(), None),
            endpoint(4, &own, None),
            endpoint(5, &foreign, None),
        ];
        let applications = [one, two(), own, foreign].map(Change::PutApplication);
        let endpoints = endpoints.map(Change::PutEndpoint);
        Example::with(applications.into_iter().chain(endpoints))
    }

    /// The lanes that changes leave held, and those that they leave free.
    fn lanes(changes: &[Change]) -> (Vec<u64>, Vec<u64>) {
        let endpoints = changes.iter().map(|change| match change {
            Change::PutEndpoint(endpoint) => endpoint,
            other => panic!("{other:?}"),
        });
        let (held, free): (Vec<_>, Vec<_>) = endpoints.partition(|one| one.held.is_some());
        let numbers = |these: Vec<&Endpoint>| these.iter().map(|one| one.number).collect();
        (numbers(held), numbers(free))
    }

    fn application(id: &str) -> Whose {
        Whose::Application(id.to_owned())
    }

    #[test]
    fn one_endpoint_is_held_and_released_once() {
        let example = example();
        let at = |application: &str, lane: u8| {
            let owner = Owner::Application(application.to_owned());
            (owner, EndpointId([lane; 20]).to_string())
        };
        for ((owner, endpoint), changed, expected) in [
            (at("one", 1), (1, 0), ""),
            (at("one", 2), (0, 1), ""),
            (at("two", 1), (0, 0), "endpoint not found"),
            (at("three", 1), (0, 0), "application not found"),
            ((Owner::Organisation, at("", 4).1), (1, 0), ""),
            (
                (Owner::Organisation, at("", 1).1),
                (0, 0),
                "endpoint not found",
            ),
        ] {
            let hold = HoldEndpoint {
                owner: owner.clone(),
                endpoint: endpoint.clone(),
            };
            let held = example.decide(hold);
            let released = example.decide(ReleaseEndpoint {
                owner,
                endpoint,
                rate: None,
            });
            assert_eq!(
                (outcome(&held), outcome(&released)),
                (expected.into(), expected.into())
            );
            if let (Ok((made, holds)), Ok((freed, releases))) = (held, released) {
                assert_eq!((holds, releases), changed);
                assert_eq!((made.len(), freed.len()), changed);
            }
        }
    }

    #[test]
    fn a_hold_says_since_when_and_changes_nothing_else() {
        let example = example();
        let whose = Whose::Organisation;
        let lanes = vec![1];
        let (changes, _) = example.decide(HoldEndpoints { whose, lanes }).unwrap();
        let [Change::PutEndpoint(held)] = &changes[..] else {
            panic!("{changes:?}");
        };
        let before = endpoint(1, &Example::application(), None);
        assert!(held.is_held() && !before.is_held());
        let expected = Endpoint {
            held: Some(Held::by_hand(NOW)),
            ..before
        };
        assert_eq!(*held, expected);
    }

    #[test]
    fn parts_are_of_what_the_caller_named_and_of_what_is_still_to_do() {
        let example = example();
        let (own, all) = (example.owner(), vec![1, 2, 3, 4, 5, 6]);
        for (whose, free, held) in [
            (application("one"), vec![1], vec![2]),
            (application("two"), vec![3], vec![]),
            (Whose::Organisation, vec![1, 3, 4], vec![2]),
        ] {
            let listed = |are_held| whose.lanes(&own, &example.catalog, are_held).unwrap();
            assert_eq!((listed(false), listed(true)), (free.clone(), held.clone()));
            let hold = HoldEndpoints {
                whose: whose.clone(),
                lanes: all.clone(),
            };
            let (changes, count) = example.decide(hold).unwrap();
            assert_eq!(
                (lanes(&changes), count),
                ((free.clone(), vec![]), free.len())
            );
            let release = ReleaseEndpoints {
                whose: whose.clone(),
                lanes: all.clone(),
                rate: None,
            };
            let (changes, count) = example.decide(release).unwrap();
            assert_eq!(
                (lanes(&changes), count),
                ((vec![], held.clone()), held.len())
            );
        }
        let missing = HoldEndpoints {
            whose: application("three"),
            lanes: all,
        };
        assert_eq!(outcome(&example.decide(missing)), "application not found");
    }

    #[test]
    fn a_hold_is_the_operators() {
        let mut example = example();
        let nobody = "this token may not do that";
        let limited =
            "this token is limited to some applications, and that concerns the whole organisation";
        let token = |role: Role| {
            let name = role.name().to_owned();
            Token::new(
                Example::ORGANISATION,
                role,
                name,
                [role as u8 + 10; 32],
                NOW,
            )
        };
        let own = Token {
            application: Some(Example::application().id),
            ..token(Role::Application)
        };
        let user = Token {
            grants: [EndpointId([1; 20])].into(),
            ..token(Role::WebhookUser)
        };
        let of_one = Token {
            applications: Some([Example::application().id].into()),
            hash: [30; 32],
            ..token(Role::Owner)
        };
        for (token, of_application, of_all) in [
            (token(Role::Owner), "", ""),
            (token(Role::WebhookAdmin), "", nobody),
            (token(Role::Publisher), nobody, nobody),
            (token(Role::Viewer), nobody, nobody),
            (own, nobody, nobody),
            (user, nobody, nobody),
            (of_one, "", limited),
        ] {
            example.happened(Change::PutToken(token.clone()));
            let caller = Example::caller(&token);
            let (role, lanes) = (token.role, || vec![1, 2]);
            let one = || (Owner::Application("one".to_owned()), EndpointId([1; 20]));
            let of_one = [
                outcome(&example.decide_as(
                    &caller,
                    HoldEndpoint {
                        owner: one().0,
                        endpoint: one().1.to_string(),
                    },
                )),
                outcome(&example.decide_as(
                    &caller,
                    ReleaseEndpoint {
                        owner: one().0,
                        endpoint: one().1.to_string(),
                        rate: None,
                    },
                )),
            ];
            let of = |whose: Whose| {
                let hold = HoldEndpoints {
                    whose: whose.clone(),
                    lanes: lanes(),
                };
                let release = ReleaseEndpoints {
                    whose: whose.clone(),
                    lanes: lanes(),
                    rate: None,
                };
                [
                    outcome(&example.decide_as(&caller, hold)),
                    outcome(&example.decide_as(&caller, release)),
                ]
            };
            assert_eq!(of_one, [of_application; 2], "{role:?}");
            assert_eq!(of(application("one")), [of_application; 2], "{role:?}");
            assert_eq!(of(Whose::Organisation), [of_all; 2], "{role:?}");
        }
    }

    #[test]
    fn a_release_sets_the_pace_of_what_waits_or_takes_an_earlier_one_away() {
        let before = Endpoint {
            catch_up: CatchUp::at(Some(3), NOW),
            ..endpoint(2, &Example::application(), Some(Held::by_hand(NOW)))
        };
        for pace in [CatchUp::at(Some(7), LATER), None] {
            let (changes, count) = released([&before], pace);
            let [Change::PutEndpoint(after)] = &changes[..] else {
                panic!("{changes:?}");
            };
            assert_eq!((after.held, after.catch_up, count), (None, pace, 1));
        }
        let free = endpoint(1, &Example::application(), None);
        assert_eq!(released([&free], CatchUp::at(Some(7), NOW)).1, 0);
    }

    /// The time of a hold is that of the first one, whoever holds it again.
    #[test]
    fn a_second_hold_leaves_the_first() {
        let held = endpoint(2, &Example::application(), Some(Held::restored(NOW)));
        let (changes, count) = super::held([&held], LATER);
        assert!(changes.is_empty() && count == 0, "{changes:?}");
    }
}
