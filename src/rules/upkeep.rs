//! Housekeeping of registrations: forgets those that have ended, and writes down last uses.
//!
//! The store's keeper gathers the work from the catalog and from memory. It gives it as commands,
//! each as large as fits into a commit, until nothing is left.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Decided, OwnCommand};
use crate::catalog::{Catalog, Change};
use crate::clock::Timestamp;
use crate::domain::id::{TokenId, VisitId};
use crate::domain::token::Token;
use crate::domain::visit::Visit;

/// The most changes of one commit.
pub const BATCH: usize = 500;

/// Forgets portal sessions, revocations and visits that had ended at the time `by`, and removed contacts
/// whose codes did not count any more. The keeper
/// chooses that time: if the clock were asked here and was set back meanwhile, the keeper would
/// repeat the command for ever.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForgetEnded {
    pub by: Timestamp,
}

impl ForgetEnded {
    /// The command, where there is anything to forget.
    pub fn due(catalog: &Catalog, now: Timestamp) -> Option<ForgetEnded> {
        let mut ended = ended(catalog, now);
        ended.next().map(|_| ForgetEnded { by: now })
    }
}

fn ended(catalog: &Catalog, now: Timestamp) -> impl Iterator<Item = Change> {
    let is_over = move |end: Option<Timestamp>| end.is_some_and(|end| end <= now);
    let sessions = catalog.all_sessions();
    let sessions = sessions.filter(move |token| is_over(token.expires_at));
    let revocations = catalog.revocations();
    let revocations = revocations.filter(move |revocation| is_over(revocation.until));
    let contacts = catalog.removed_contacts();
    let contacts = contacts.filter(move |contact| !contact.is_needed(now));
    let visits = catalog.visits();
    let visits = visits.filter(move |entry| catalog.is_over(entry, now));
    sessions
        .map(|token| Change::DeleteToken(token.id))
        .chain(revocations.map(|revocation| Change::DeleteRevocation(revocation.hash)))
        .chain(visits.map(|entry| Change::DeleteVisit(entry.visit.key)))
        .chain(contacts.map(|contact| Change::DeleteContact(contact.application)))
}

impl OwnCommand for ForgetEnded {
    type Answer = ();

    fn decide(self, catalog: &Catalog, _: Timestamp) -> Decided<()> {
        Ok((ended(catalog, self.by).take(BATCH).collect(), ()))
    }
}

/// Forgets these visits, as far as they are still there.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForgetVisits {
    pub keys: Vec<[u8; 32]>,
}

impl OwnCommand for ForgetVisits {
    type Answer = ();

    fn decide(self, catalog: &Catalog, _: Timestamp) -> Decided<()> {
        let keys = self.keys.into_iter();
        let known = keys.filter(|key| catalog.visit(key).is_some());
        Ok((known.map(Change::DeleteVisit).collect(), ()))
    }
}

/// The last request of a visit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VisitSeen {
    pub visit: VisitId,
    pub at: Timestamp,
}

/// Writes down last requests of visits that are later than what is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepSeen {
    pub seen: Vec<VisitSeen>,
}

impl OwnCommand for KeepSeen {
    type Answer = ();

    fn decide(self, catalog: &Catalog, _: Timestamp) -> Decided<()> {
        let changes = self.seen.into_iter().filter_map(|VisitSeen { visit, at }| {
            let entry = catalog.visit_by_id(visit)?;
            (at > entry.visit.seen_at).then(|| {
                Change::PutVisit(Visit {
                    seen_at: at,
                    ..entry.visit.clone()
                })
            })
        });
        Ok((changes.collect(), ()))
    }
}

/// The last use of a token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenUse {
    pub token: TokenId,
    pub at: Timestamp,
    pub from: IpAddr,
}

/// Writes down last uses of tokens that are later than what is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepUses {
    pub uses: Vec<TokenUse>,
}

impl OwnCommand for KeepUses {
    type Answer = ();

    fn decide(self, catalog: &Catalog, _: Timestamp) -> Decided<()> {
        let changes = self.uses.into_iter().filter_map(|one| {
            let token = catalog.token(one.token)?;
            (Some(one.at) > token.last_used_at).then(|| {
                Change::PutToken(Token {
                    last_used_at: Some(one.at),
                    last_used_from: Some(one.from),
                    ..(**token).clone()
                })
            })
        });
        Ok((changes.collect(), ()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::token::{PortalSession, Revocation, Role};
    use crate::domain::visit::{SignedInWith, Surface};
    use crate::rules::tests::{Example, NOW};

    const BEFORE: Timestamp = Timestamp(NOW.0 - 1000);
    const AFTER: Timestamp = Timestamp(NOW.0 + 1000);
    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn token(hash: u8) -> Token {
        let name = "token".to_owned();
        Token::new(
            Example::ORGANISATION,
            Role::Viewer,
            name,
            [hash; 32],
            BEFORE,
        )
    }

    fn link(hash: u8, expires_at: Timestamp) -> Token {
        Token {
            application: Some(Example::application().id),
            expires_at: Some(expires_at),
            session: Some(PortalSession {
                id: None,
                capabilities: Default::default(),
                feature_flags: Default::default(),
            }),
            ..token(hash)
        }
    }

    fn visit(token: &Token) -> Visit {
        Visit {
            id: VisitId::in_order(BEFORE, u32::from(token.hash[0]), [0; 11]),
            key: token.hash,
            surface: Surface::Console,
            organisation: token.organisation,
            application: None,
            credential: token.hash,
            with: SignedInWith::Token(token.id),
            begun_at: BEFORE,
            seen_at: BEFORE,
            address: ADDRESS,
            user_agent: None,
        }
    }

    fn revocation(hash: u8, until: Option<Timestamp>) -> Change {
        Change::PutRevocation(Revocation {
            hash: [hash; 32],
            until,
        })
    }

    #[test]
    fn what_has_ended_is_forgotten_and_nothing_else() {
        let (ended, gone) = (link(11, NOW), token(12));
        let of_nobody = visit(&gone);
        let example = Example::with([
            Change::PutApplication(Example::application()),
            Change::PutToken(ended.clone()),
            Change::PutToken(link(13, AFTER)),
            // Only links are forgotten. A token stays, so that its maker sees that it has ended.
            Change::PutToken(Token {
                expires_at: Some(NOW),
                ..token(14)
            }),
            revocation(15, Some(NOW)),
            revocation(16, Some(AFTER)),
            revocation(17, None),
            Change::PutVisit(of_nobody.clone()),
        ]);
        let mut catalog = example.catalog;
        let forget = ForgetEnded::due(&catalog, NOW).expect("something has ended");
        // The clock was set back since.
        let (changes, ()) = forget.decide(&catalog, BEFORE).unwrap();
        match &changes[..] {
            [
                Change::DeleteToken(token),
                Change::DeleteRevocation(revocation),
                Change::DeleteVisit(visit),
            ] => {
                assert_eq!(*token, ended.id);
                assert_eq!((*revocation, *visit), ([15; 32], of_nobody.key));
            }
            other => panic!("{other:?}"),
        }
        changes.into_iter().for_each(|change| catalog.apply(change));
        assert!(ForgetEnded::due(&catalog, NOW).is_none());
        assert!(ForgetEnded::due(&catalog, AFTER).is_some());
    }

    #[test]
    fn a_commit_forgets_only_so_much() {
        let links = (0..BATCH + 1).map(|number| {
            let mut link = link(1, NOW);
            link.hash[..8].copy_from_slice(&number.to_be_bytes());
            Change::PutToken(link)
        });
        let example = Example::with(links);
        let forget = ForgetEnded { by: NOW };
        let (changes, ()) = forget.decide(&example.catalog, NOW).unwrap();
        assert_eq!(changes.len(), BATCH);
    }

    #[test]
    fn last_uses_are_written_only_where_they_are_later_and_of_what_is_there() {
        let token = token(11);
        let visit = visit(&token);
        let example = Example::with([
            Change::PutToken(Token {
                last_used_at: Some(NOW),
                ..token.clone()
            }),
            Change::PutVisit(visit.clone()),
        ]);
        let catalog = &example.catalog;
        for (token, at, expected) in [
            (token.id, AFTER, 1),
            (token.id, NOW, 0),
            (token.id, BEFORE, 0),
            (TokenId([9; 20]), AFTER, 0),
        ] {
            let from = ADDRESS;
            let uses = vec![TokenUse { token, at, from }];
            let (changes, ()) = KeepUses { uses }.decide(catalog, NOW).unwrap();
            let written = changes.iter().filter(|change| match change {
                Change::PutToken(token) => {
                    (token.last_used_at, token.last_used_from) == (Some(at), Some(from))
                }
                _ => false,
            });
            assert_eq!((changes.len(), written.count()), (expected, expected));
        }
        for (visit, at, expected) in [
            (visit.id, NOW, 1),
            (visit.id, BEFORE, 0),
            (VisitId([9; 20]), NOW, 0),
        ] {
            let seen = vec![VisitSeen { visit, at }];
            let (changes, ()) = KeepSeen { seen }.decide(catalog, NOW).unwrap();
            let written = changes
                .iter()
                .filter(|change| matches!(change, Change::PutVisit(visit) if visit.seen_at == at));
            assert_eq!((changes.len(), written.count()), (expected, expected));
        }
        let keys = vec![visit.key, [9; 32]];
        let (changes, ()) = ForgetVisits { keys }.decide(catalog, NOW).unwrap();
        assert!(matches!(changes[..], [Change::DeleteVisit(key)] if key == visit.key));
    }
}
