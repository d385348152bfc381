//! Who is signed in in a browser, and ending that.

use serde::{Deserialize, Serialize};

use super::caller::Caller;
use super::{Command, Decided, View};
use crate::clock::Timestamp;
use crate::domain::id::{OrganisationId, VisitId};
use crate::domain::visit::Visit;
use crate::error::Error;
use crate::store::catalog::Change;

/// Visits that end in one commit.
const END_BATCH: usize = 500;

/// Which visits exist as far as a caller can tell.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sight {
    pub organisation: OrganisationId,
    /// Only those of the credential with this hash.
    pub credential: Option<[u8; 32]>,
}

impl Sight {
    pub fn sees(&self, visit: &Visit) -> bool {
        let is_own = |credential: [u8; 32]| credential == visit.credential;
        visit.organisation == self.organisation && self.credential.is_none_or(is_own)
    }
}

/// Ends a visit.
#[derive(Serialize, Deserialize)]
pub struct EndVisit {
    pub sight: Sight,
    /// None for what is no id at all.
    pub visit: Option<VisitId>,
}

impl Command for EndVisit {
    type Answer = ();

    fn decide(self, _: &Caller, view: &View<'_>) -> Decided<()> {
        let found = self.visit.and_then(|id| view.catalog.visit_by_id(id));
        let found = found.filter(|entry| self.sight.sees(&entry.visit));
        let found = found.filter(|entry| !view.catalog.is_over(entry, view.now));
        let entry = found.ok_or(Error::NotFound("session"))?;
        Ok((vec![Change::DeleteVisit(entry.visit.key)], ()))
    }
}

/// Ends many visits, as many as fit into a commit: given again until there are no more.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct EndVisits {
    pub sight: Sight,
    pub spared: Option<VisitId>,
    /// Whoever signs in later stays.
    pub begun_by: Timestamp,
}

impl Command for EndVisits {
    /// Whether there may be more.
    type Answer = bool;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<bool> {
        let ending = view.catalog.visits().filter(|entry| {
            let visit = &entry.visit;
            let is_meant = Some(visit.id) != self.spared && visit.begun_at <= self.begun_by;
            is_meant && self.sight.sees(visit)
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
    use crate::domain::visit::{SignedInWith, Surface};
    use crate::rules::tests::{Example, NOW, outcome};

    fn visit(number: u32, credential: u8, token: &Token) -> Visit {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        Visit {
            id: VisitId::in_order(NOW, number, [0; 11]),
            key,
            surface: Surface::Console,
            organisation: Example::ORGANISATION,
            application: None,
            credential: [credential; 32],
            with: SignedInWith::Token(token.id),
            begun_at: NOW,
            seen_at: NOW,
            address: [127, 0, 0, 1].into(),
            user_agent: None,
        }
    }

    fn sight(credential: Option<u8>) -> Sight {
        Sight {
            organisation: Example::ORGANISATION,
            credential: credential.map(|byte| [byte; 32]),
        }
    }

    /// Visits with the credential 11, and one more with 12.
    fn example(count: u32) -> (Example, Visit) {
        let token = |hash: u8| {
            let name = "viewer".to_owned();
            Token::new(Example::ORGANISATION, Role::Viewer, name, [hash; 32], NOW)
        };
        let (first, second) = (token(11), token(12));
        let other = visit(u32::MAX, 12, &second);
        let visits = (0..count).map(|number| visit(number, 11, &first));
        let visits: Vec<Visit> = visits.chain([other.clone()]).collect();
        let tokens = [first, second].map(Change::PutToken);
        let visits = visits.into_iter().map(Change::PutVisit);
        (Example::with(tokens.into_iter().chain(visits)), other)
    }

    #[test]
    fn one_ends_what_one_sees() {
        let (example, other) = example(1);
        let none = "session not found";
        for (credential, visit, expected) in [
            (None, Some(other.id), ""),
            (Some(12), Some(other.id), ""),
            (Some(11), Some(other.id), none),
            (None, Some(VisitId([8; 20])), none),
            (None, None, none),
        ] {
            let sight = sight(credential);
            let decided = example.decide(EndVisit { sight, visit });
            assert_eq!(outcome(&decided), expected);
        }
    }

    #[test]
    fn many_end_in_batches_and_whoever_comes_later_stays() {
        for (count, credential, spares, begun_by, ended, is_full) in [
            (3, None, false, NOW, 4, false),
            (3, None, true, NOW, 3, false),
            (3, Some(12), false, NOW, 1, false),
            (3, None, false, Timestamp(NOW.0 - 1), 0, false),
            (600, Some(11), false, NOW, 500, true),
        ] {
            let (example, other) = example(count);
            let command = EndVisits {
                sight: sight(credential),
                spared: spares.then_some(other.id),
                begun_by,
            };
            let (changes, more) = example.decide(command).unwrap();
            assert_eq!((changes.len(), more), (ended, is_full));
        }
    }

    #[test]
    fn the_callers_own_visit_ends_last_and_the_caller_with_it() {
        for (count, ended) in [(3, 4), (499, 500), (500, 500)] {
            let (mut example, own) = example(count);
            let caller = example.owner().by_visit(own.key);
            let command = EndVisits {
                sight: sight(None),
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
