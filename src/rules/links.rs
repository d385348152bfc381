//! Links to the portal, their sessions, and the end of both.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::applications::{NewApplication, creation};
use super::caller::{Caller, Credential};
use super::checks::refuse_given_id;
use super::keys::keys;
use super::narrowing::narrowed_link;
use super::permits::Action;
use super::{Command, Decided, View};
use crate::catalog::{Catalog, Change};
use crate::clock::Timestamp;
use crate::domain::id::ApplicationId;
use crate::domain::jwt::LEEWAY;
use crate::domain::token::{PortalSession, Revocation, Role, Token};
use crate::error::{Error, Result};

/// The most sessions of one application at a time: all of them are in memory.
const SESSIONS_MAX: usize = 1000;

/// Makes a link, and first its application where the request describes one and it does not exist.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateLink {
    /// The application's id or uid.
    pub path: String,
    pub application: Option<NewApplication>,
    /// The SHA-256 of the text, which only its maker knows.
    pub hash: [u8; 32],
    pub lasts: Duration,
    pub session: PortalSession,
}

impl Command for CreateLink {
    /// Sentences on how the token that makes the link narrows it.
    type Answer = Vec<String>;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<Vec<String>> {
        let (application, made) = found_or_made(caller, view, &self.path, self.application)?;
        let mut changes: Vec<Change> = made.into_iter().collect();
        changes.extend(room_for_another(view, application)?);
        let name = "portal".to_owned();
        let token = Token {
            application: Some(application),
            expires_at: Some(view.now + self.lasts),
            session: Some(self.session),
            ..Token::new(
                caller.organisation,
                Role::Application,
                name,
                self.hash,
                view.now,
            )
        };
        let (token, limits) = narrowed_link(view, caller, token)?;
        changes.push(Change::PutToken(token));
        Ok((changes, limits))
    }
}

/// Returns the application in the path, or the one in the request where it does not exist.
fn found_or_made(
    caller: &Caller,
    view: &View<'_>,
    path: &str,
    new: Option<NewApplication>,
) -> Result<(ApplicationId, Option<Change>)> {
    let found = caller.application(view.catalog, path, Action::ChangeSessions);
    match (found, new) {
        (Ok(entry), _) => Ok((entry.application.id, None)),
        (Err(Error::NotFound(_)), Some(new)) if path.parse::<ApplicationId>().is_err() => {
            caller.may(Action::CreateApplications)?;
            refuse_given_id(new.id_is_given, &["body", "application", "id"])?;
            let application = new.into_application(caller.organisation, view.now);
            let id = application.id;
            Ok((id, Some(creation(view.catalog, application)?)))
        }
        (Err(error), _) => Err(error),
    }
}

/// Returns the changes that delete ended sessions, where the others leave room for one more; else
/// an error.
fn room_for_another(view: &View<'_>, application: ApplicationId) -> Result<Vec<Change>> {
    let is_over = |token: &Token| token.expires_at.is_some_and(|end| end <= view.now);
    let sessions = view.catalog.sessions(application);
    let (ended, live): (Vec<_>, Vec<_>) = sessions.partition(|token| is_over(token));
    match live.len() < SESSIONS_MAX {
        true => Ok(ended
            .iter()
            .map(|token| Change::DeleteToken(token.id))
            .collect()),
        false => Err(Error::TooMany(format!(
            "an application has at most {SESSIONS_MAX} portal sessions; they end by themselves, \
             or by expire-all"
        ))),
    }
}

/// Ends an application's sessions, the keys that were made through them, and its signed tokens.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpireSessions {
    /// The application's id or uid.
    pub application: String,
    pub after: Duration,
    /// Only those with one of these ids; all, and signed tokens, where absent.
    pub chosen: Option<BTreeSet<String>>,
}

impl Command for ExpireSessions {
    type Answer = ();

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<()> {
        let (catalog, now) = (view.catalog, view.now);
        let (end, chosen) = (now + self.after, self.chosen.as_ref());
        let entry = caller.application(catalog, &self.application, Action::ChangeSessions)?;
        let mut application = entry.application.clone();
        let links = catalog.sessions(application.id).map(|token| &**token);
        let links: Vec<&Token> = links.filter(|token| is_chosen(token, chosen)).collect();
        let made_by_links = keys(catalog, application.id).filter(|token| token.made_by.is_some());
        let mut changes: Vec<Change> = made_by_links
            .filter(|token| is_chosen(token, chosen))
            .chain(links.iter().copied())
            .filter_map(|token| ending(token, now, end))
            .collect();
        if end > now {
            changes.extend(links.iter().map(|link| keys_ending(catalog, link, end)));
        }
        if chosen.is_none() {
            application.end_tokens(now, end);
            changes.push(Change::PutApplication(application));
        }
        Ok((changes, ()))
    }
}

fn is_chosen(token: &Token, chosen: Option<&BTreeSet<String>>) -> bool {
    let own = token
        .session
        .as_ref()
        .and_then(|session| session.id.as_ref());
    let id = own.or_else(|| token.made_by.as_ref()?.session.as_ref());
    chosen.is_none_or(|chosen| id.is_some_and(|id| chosen.contains(id)))
}

/// Returns the change that makes the token end at `end`; nothing where it ends before that by
/// itself.
fn ending(token: &Token, now: Timestamp, end: Timestamp) -> Option<Change> {
    if end <= now {
        return Some(Change::DeleteToken(token.id));
    }
    let lives_longer = token.expires_at.is_none_or(|own| own > end);
    lives_longer.then(|| {
        Change::PutToken(Token {
            expires_at: Some(end),
            ..token.clone()
        })
    })
}

/// Records that keys which are made through this link until then end at `end`, or earlier where an
/// earlier end was recorded before. The link itself does not show whether its end was its own or
/// asked for.
fn keys_ending(catalog: &Catalog, link: &Token, end: Timestamp) -> Change {
    let until = keys_end(catalog, link).map_or(end, |before| before.min(end));
    Change::PutRevocation(Revocation {
        hash: link.hash,
        until: Some(until),
    })
}

/// The latest end of keys that are made through this link, where `expire-all` set one.
pub fn keys_end(catalog: &Catalog, link: &Token) -> Option<Timestamp> {
    catalog.revocation(&link.hash)?.until
}

const NOT_LOGGED_OUT: Error =
    Error::forbidden("only a portal session and an application's signed token can be logged out");

/// Checks that the caller's credential is one that can be logged out.
pub fn one_that_logs_out(caller: &Caller) -> Result<()> {
    match (caller.credential(), caller.role()) {
        (Credential::Session(..), _) | (Credential::Signed { .. }, Role::Application) => Ok(()),
        (Credential::Signed { .. } | Credential::Token(_), _) => Err(NOT_LOGGED_OUT),
    }
}

/// Ends the credential that the caller showed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogOut {}

impl Command for LogOut {
    type Answer = ();

    fn decide(self, caller: &Caller, _: &View<'_>) -> Decided<()> {
        one_that_logs_out(caller)?;
        let change = match caller.credential() {
            Credential::Session(id, _) => Change::DeleteToken(id),
            Credential::Signed {
                expires_at, hash, ..
            } => Change::PutRevocation(Revocation {
                hash,
                // The token is accepted until a little beyond its end.
                until: expires_at.map(|end| end + LEEWAY),
            }),
            Credential::Token(_) => return Err(NOT_LOGGED_OUT),
        };
        Ok((vec![change], ()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::token::{Capability, MadeByLink};
    use crate::rules::tests::{Example, NOW, outcome};
    use std::collections::BTreeMap;

    const HOUR: Duration = Duration::from_secs(3600);

    fn session(id: Option<&str>) -> PortalSession {
        PortalSession {
            id: id.map(str::to_owned),
            capabilities: Capability::ALL.into_iter().collect(),
            feature_flags: BTreeSet::new(),
        }
    }

    fn link(hash: u8, id: Option<&str>, expires_at: Timestamp) -> Token {
        Token {
            application: Some(Example::application().id),
            expires_at: Some(expires_at),
            session: Some(session(id)),
            ..Token::new(
                Example::ORGANISATION,
                Role::Application,
                "portal".to_owned(),
                [hash; 32],
                NOW,
            )
        }
    }

    fn example() -> Example {
        Example::with([Change::PutApplication(Example::application())])
    }

    fn create(path: &str, uid: Option<&str>) -> CreateLink {
        CreateLink {
            path: path.to_owned(),
            application: uid.map(|uid| NewApplication {
                name: "New".to_owned(),
                uid: Some(uid.to_owned()),
                metadata: BTreeMap::new(),
                throttle_rate: None,
                id_is_given: false,
            }),
            hash: [5; 32],
            lasts: HOUR,
            session: session(None),
        }
    }

    #[test]
    fn a_link_brings_its_application_along_where_there_is_none() {
        let example = example();
        for (path, uid, expected, count) in [
            ("one", None, "", 1),
            ("one", Some("one"), "", 1),
            ("two", Some("two"), "", 2),
            ("two", None, "application not found", 0),
        ] {
            let decided = example.decide(create(path, uid));
            assert_eq!(outcome(&decided), expected, "{path}");
            let Ok((changes, limits)) = decided else {
                continue;
            };
            assert!(limits.is_empty());
            let Some(Change::PutToken(made)) = changes.last() else {
                panic!("{changes:?}");
            };
            assert_eq!(changes.len(), count, "{path}");
            assert_eq!(made.expires_at, Some(NOW + HOUR));
        }
        let decided = example.decide_as(&example.publisher(), create("one", None));
        assert_eq!(outcome(&decided), "this token may not do that");
    }

    #[test]
    fn ended_sessions_make_room() {
        let mut example = example();
        let ended = link(1, None, NOW);
        example.happened(Change::PutToken(ended.clone()));
        let (changes, _) = example.decide(create("one", None)).unwrap();
        let first = &changes[0];
        assert!(matches!(first, Change::DeleteToken(id) if *id == ended.id));
        for number in 0..SESSIONS_MAX as u32 {
            let mut live = link(2, None, NOW + HOUR);
            live.hash[..4].copy_from_slice(&number.to_be_bytes());
            example.happened(Change::PutToken(live));
        }
        let refused = outcome(&example.decide(create("one", None)));
        let expected = "an application has at most 1000 portal sessions";
        assert!(refused.starts_with(expected), "{refused}");
    }

    #[test]
    fn sessions_end_with_the_keys_that_they_made() {
        let zoe = link(1, Some("zoe"), NOW + 3 * HOUR);
        let ann = link(2, Some("ann"), NOW + HOUR);
        let key = Token {
            session: None,
            expires_at: None,
            made_by: Some(MadeByLink {
                link: zoe.id,
                session: Some("zoe".to_owned()),
            }),
            ..link(3, None, NOW)
        };
        let own = Token {
            made_by: None,
            hash: [4; 32],
            ..Token::new(
                Example::ORGANISATION,
                Role::Application,
                "own".to_owned(),
                [4; 32],
                NOW,
            )
        };
        let mut example = example();
        for token in [&zoe, &ann, &key, &own] {
            example.happened(Change::PutToken(token.clone()));
        }
        let only_zoe = || Some(BTreeSet::from(["zoe".to_owned()]));
        for (after, chosen, deleted, ending, revoked, application) in [
            (Duration::ZERO, None, 3, 0, 0, true),
            (Duration::ZERO, only_zoe(), 2, 0, 0, false),
            // Ann's ends before that by itself; keys that are made through it do then, too.
            (2 * HOUR, None, 0, 2, 2, true),
            (2 * HOUR, only_zoe(), 0, 2, 1, false),
        ] {
            let expire = ExpireSessions {
                application: "one".to_owned(),
                after,
                chosen,
            };
            let (changes, ()) = example.decide(expire).unwrap();
            let count = |is: fn(&Change) -> bool| changes.iter().filter(|one| is(one)).count();
            assert_eq!(count(|one| matches!(one, Change::DeleteToken(_))), deleted);
            assert_eq!(count(|one| matches!(one, Change::PutToken(_))), ending);
            assert_eq!(
                count(|one| matches!(one, Change::PutRevocation(_))),
                revoked
            );
            let applications = count(|one| matches!(one, Change::PutApplication(_)));
            assert_eq!(applications == 1, application);
        }
    }

    #[test]
    fn a_session_is_logged_out_and_a_token_is_not() {
        let mut example = example();
        let session = link(1, None, NOW + HOUR);
        example.happened(Change::PutToken(session.clone()));
        let caller = Example::caller(&session);
        let (changes, ()) = example.decide_as(&caller, LogOut {}).unwrap();
        assert!(matches!(changes[..], [Change::DeleteToken(id)] if id == session.id));
        let refused = outcome(&example.decide(LogOut {}));
        assert!(refused.starts_with("only a portal session"), "{refused}");
    }
}
