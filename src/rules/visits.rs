//! Visits: signing in and out in a browser.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::caller::Caller;
use super::permits::Action;
use super::visit_limits::room;
use super::{Command, Decided, OwnCommand, View};
use crate::catalog::{Catalog, Change};
use crate::clock::Timestamp;
use crate::domain::id::{OrganisationId, TokenId, VisitId};
use crate::domain::visit::{SignedInWith, Surface, Visit};
use crate::error::{Error, Result};

/// The most visits that end in one commit.
const END_BATCH: usize = 500;

/// Begins a visit of the caller, in the place of others of the same browser.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeginVisit {
    /// SHA-256 of the cookie, which only the browser has.
    pub key: [u8; 32],
    pub surface: Surface,
    /// How the credential is proved again at each request.
    pub with: SignedInWith,
    /// Where the sign-in comes from.
    pub address: IpAddr,
    pub user_agent: Option<String>,
    /// The keys of the browser's visits that end when this one begins.
    pub replaced: BTreeSet<[u8; 32]>,
}

impl Command for BeginVisit {
    /// The number of visits that a limit ended.
    type Answer = u64;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<u64> {
        let visit = Visit {
            id: VisitId::at(view.now),
            key: self.key,
            surface: self.surface,
            organisation: caller.organisation,
            application: caller.own_application(),
            credential: caller.credential_hash(view.catalog)?,
            with: self.with,
            begun_at: view.now,
            seen_at: view.now,
            address: self.address,
            user_agent: self.user_agent,
        };
        let limits = &view.settings.limits;
        let (mut changes, crowded_out) =
            room(view.catalog, &visit, &self.replaced, limits, view.now);
        changes.push(Change::PutVisit(visit));
        Ok((changes, crowded_out))
    }
}

/// Signs a browser out: ends its visit, and its link. Everybody may sign out, and nothing happens
/// where the visit has ended already.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignOut {
    /// The key of the visit.
    pub visit: Option<[u8; 32]>,
    pub link: Option<TokenId>,
}

impl OwnCommand for SignOut {
    type Answer = ();

    fn decide(self, catalog: &Catalog, _: Timestamp) -> Decided<()> {
        let visit = self.visit.filter(|key| catalog.visit(key).is_some());
        let link = self.link.filter(|id| catalog.token(*id).is_some());
        let visit = visit.map(Change::DeleteVisit).into_iter();
        Ok((visit.chain(link.map(Change::DeleteToken)).collect(), ()))
    }
}

/// The visits that exist as far as a caller can tell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sight {
    organisation: OrganisationId,
    /// Only those of the credential with this hash.
    credential: Option<[u8; 32]>,
}

impl Sight {
    /// Returns the visits that the caller sees. A caller that may revoke tokens sees all of the
    /// organisation. Every other caller, or one that asks for its `own`, sees those that were begun
    /// with its credential.
    pub fn of(caller: &Caller, catalog: &Catalog, own: bool) -> Result<Sight> {
        let sees_all = !own && caller.may(Action::ChangeTokens).is_ok();
        Ok(Sight {
            organisation: caller.organisation,
            credential: match sees_all {
                true => None,
                false => Some(caller.credential_hash(catalog)?),
            },
        })
    }

    pub fn sees(&self, visit: &Visit) -> bool {
        let is_own = |credential: [u8; 32]| credential == visit.credential;
        visit.organisation == self.organisation && self.credential.is_none_or(is_own)
    }
}

/// Ends a visit that the caller sees.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndVisit {
    /// The id in the path; none where the text is not an id.
    pub visit: Option<VisitId>,
}

impl Command for EndVisit {
    type Answer = ();

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<()> {
        let sight = Sight::of(caller, view.catalog, false)?;
        let found = self.visit.and_then(|id| view.catalog.visit_by_id(id));
        let found = found.filter(|entry| sight.sees(&entry.visit));
        let found = found.filter(|entry| !view.catalog.is_over(entry, view.now));
        let entry = found.ok_or(Error::not_found("session"))?;
        Ok((vec![Change::DeleteVisit(entry.visit.key)], ()))
    }
}

/// Ends many visits that the caller sees, as many as fit into a commit: given again until there are no
/// more.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndVisits {
    /// Only those that were begun with the caller's credential.
    pub own: bool,
    pub spared: Option<VisitId>,
    /// The command ends no visit that began later.
    pub begun_by: Timestamp,
}

impl Command for EndVisits {
    /// Whether there may be more visits to end.
    type Answer = bool;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<bool> {
        let sight = Sight::of(caller, view.catalog, self.own)?;
        let ending = view.catalog.visits().filter(|entry| {
            let visit = &entry.visit;
            let is_meant = Some(visit.id) != self.spared && visit.begun_at <= self.begun_by;
            is_meant && sight.sees(visit)
        });
        let ending = ending.map(|entry| entry.visit.key);
        // The caller's own ends last: after it the caller may end no more.
        let (own, others): (Vec<_>, Vec<_>) = ending.partition(|key| Some(*key) == caller.visit());
        let has_more = others.len() >= END_BATCH;
        let own = own.into_iter().filter(|_| !has_more);
        let keys = others.into_iter().take(END_BATCH).chain(own);
        Ok((keys.map(Change::DeleteVisit).collect(), has_more))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::token::{Role, Token};
    use crate::domain::visit::{IDLE_MAX, SignedInWith, Surface};
    use crate::rules::tests::{Example, NOW, outcome};

    const COUNT_MAX: usize = 3;

    fn visit(number: u32, token: &Token) -> Visit {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        Visit {
            id: VisitId::in_order(NOW, number, [0; 11]),
            key,
            surface: Surface::Console,
            organisation: Example::ORGANISATION,
            application: None,
            credential: token.hash,
            with: SignedInWith::Token(token.id),
            begun_at: NOW,
            seen_at: NOW,
            address: [127, 0, 0, 1].into(),
            user_agent: None,
        }
    }

    fn token(role: Role, hash: u8) -> Token {
        let name = role.name().to_owned();
        Token::new(Example::ORGANISATION, role, name, [hash; 32], NOW)
    }

    /// Somebody who sees their own visits only, with so many, and one more of an owner.
    fn example(count: u32) -> (Example, Caller, Visit) {
        let (viewer, owner) = (token(Role::Viewer, 11), token(Role::Owner, 12));
        let other = visit(u32::MAX, &owner);
        let visits = (0..count).map(|number| visit(number, &viewer));
        let visits: Vec<Visit> = visits.chain([other.clone()]).collect();
        let caller = Example::caller(&viewer);
        let tokens = [viewer, owner].map(Change::PutToken);
        let visits = visits.into_iter().map(Change::PutVisit);
        (
            Example::with(tokens.into_iter().chain(visits)),
            caller,
            other,
        )
    }

    #[test]
    fn a_visit_begins_in_the_place_of_others_and_limits_end_the_longest_idle() {
        let viewer = token(Role::Viewer, 11);
        let idle = |number: u32, seconds: u64| Visit {
            seen_at: Timestamp(NOW.0 - seconds * 1000),
            ..visit(number, &viewer)
        };
        let over = IDLE_MAX.as_secs();
        for (others, replaced, ended, crowded_out) in [
            (vec![], vec![], vec![], 0),
            (vec![idle(1, 5), idle(2, 9)], vec![], vec![], 0),
            (vec![idle(1, 5), idle(2, 9), idle(3, 7)], vec![], vec![2], 1),
            (
                vec![idle(1, 5), idle(2, 9), idle(3, 7)],
                vec![1],
                vec![1],
                0,
            ),
            // An ended visit takes nobody's place.
            (
                vec![idle(1, 5), idle(2, over), idle(3, 7)],
                vec![],
                vec![],
                0,
            ),
        ] {
            let changes = others.into_iter().map(Change::PutVisit);
            let mut example = Example::with([Change::PutToken(viewer.clone())]);
            changes.for_each(|change| example.happened(change));
            example.settings.limits.sessions_per_credential_max = COUNT_MAX;
            let replaced = replaced
                .into_iter()
                .map(|number| visit(number, &viewer).key);
            let begin = BeginVisit {
                key: [9; 32],
                surface: Surface::Console,
                with: SignedInWith::Token(viewer.id),
                address: [127, 0, 0, 1].into(),
                user_agent: None,
                replaced: replaced.collect(),
            };
            let caller = Example::caller(&viewer);
            let (mut changes, count) = example.decide_as(&caller, begin).unwrap();
            assert_eq!(count, crowded_out);
            let Some(Change::PutVisit(begun)) = changes.pop() else {
                panic!("{changes:?}");
            };
            assert_eq!((begun.key, begun.credential), ([9; 32], viewer.hash));
            let keys = changes.iter().map(|change| match change {
                Change::DeleteVisit(key) => u32::from_be_bytes([key[0], key[1], key[2], key[3]]),
                other => panic!("{other:?}"),
            });
            assert_eq!(Vec::from_iter(keys), ended);
        }
    }

    #[test]
    fn a_browser_is_signed_out_of_what_is_there() {
        let (example, _, visit) = example(0);
        let link = token(Role::Application, 13);
        let mut catalog = example.catalog;
        catalog.apply(Change::PutToken(link.clone()));
        for (visit, link, expected) in [
            (Some(visit.key), Some(link.id), 2),
            (Some([0; 32]), Some(link.id), 1),
            (Some(visit.key), None, 1),
            (None, Some(TokenId([9; 20])), 0),
        ] {
            let (changes, ()) = SignOut { visit, link }.decide(&catalog, NOW).unwrap();
            assert_eq!(changes.len(), expected);
        }
    }

    #[test]
    fn one_ends_what_one_sees() {
        let (example, viewer, other) = example(1);
        let own = VisitId::in_order(NOW, 0, [0; 11]);
        let none = "session not found";
        for (caller, visit, expected) in [
            (example.owner(), Some(other.id), ""),
            (example.owner(), Some(own), ""),
            (viewer, Some(own), ""),
            (viewer, Some(other.id), none),
            (example.owner(), Some(VisitId([8; 20])), none),
            (example.owner(), None, none),
        ] {
            let decided = example.decide_as(&caller, EndVisit { visit });
            assert_eq!(outcome(&decided), expected);
        }
    }

    #[test]
    fn many_end_in_batches_and_whoever_comes_later_stays() {
        for (count, is_viewer, own, spares, begun_by, ended, is_full) in [
            (3, false, false, false, NOW, 4, false),
            (3, false, false, true, NOW, 3, false),
            (3, true, false, false, NOW, 3, false),
            (3, false, true, false, NOW, 0, false),
            (3, false, false, false, Timestamp(NOW.0 - 1), 0, false),
            (600, true, true, false, NOW, 500, true),
        ] {
            let (example, viewer, other) = example(count);
            let command = EndVisits {
                own,
                spared: spares.then_some(other.id),
                begun_by,
            };
            let caller = if is_viewer { viewer } else { example.owner() };
            let (changes, more) = example.decide_as(&caller, command).unwrap();
            assert_eq!((changes.len(), more), (ended, is_full));
        }
    }

    #[test]
    fn the_callers_own_visit_ends_last_and_the_caller_with_it() {
        for (count, ended) in [(3, 4), (499, 500), (500, 500)] {
            let (mut example, _, own) = example(count);
            let caller = example.owner().by_visit(own.key);
            let command = EndVisits {
                own: false,
                spared: None,
                begun_by: NOW,
            };
            let (changes, more) = example.decide_as(&caller, command).unwrap();
            assert_eq!((changes.len(), more), (ended, count == 500));
            changes
                .into_iter()
                .for_each(|change| example.happened(change));
            let again = example.decide_as(&caller, command);
            let expected = match more {
                true => "",
                false => "authentication failed",
            };
            assert_eq!(outcome(&again), expected, "{count}");
        }
    }
}
