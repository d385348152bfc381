//! An application's API keys, which its own people make and revoke.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::caller::{Caller, Credential};
use super::links::keys_end;
use super::narrowing::narrowed;
use super::permits::Action;
use super::{Command, Decided, View};
use crate::catalog::{Catalog, Change};
use crate::clock::Timestamp;
use crate::domain::id::ApplicationId;
use crate::domain::scope::Scope;
use crate::domain::token::{MadeByLink, Role, Token};
use crate::error::Error;

/// The most keys of one application: all of them are in memory.
const KEYS_MAX: usize = 100;

/// The keys of the application, oldest first.
pub fn keys(
    catalog: &Catalog,
    application: ApplicationId,
) -> impl DoubleEndedIterator<Item = &Token> {
    catalog.tokens().map(|token| &**token).filter(move |token| {
        let is_key = token.role == Role::Application && token.session.is_none();
        is_key && token.application == Some(application)
    })
}

/// Makes a key, whose text only its maker knows.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    /// The application's id or uid.
    pub application: String,
    /// The SHA-256 of the text.
    pub hash: [u8; 32],
    pub name: String,
    pub expires_at: Option<Timestamp>,
    pub description: Option<String>,
    pub scopes: Option<BTreeSet<Scope>>,
    pub allowed_ips: Vec<IpNet>,
}

impl Command for CreateKey {
    type Answer = Token;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<Token> {
        let catalog = view.catalog;
        let entry = caller.application(catalog, &self.application, Action::OwnKeys)?;
        let application = entry.application.id;
        if keys(catalog, application).count() >= KEYS_MAX {
            return Err(Error::TooMany(format!(
                "an application has at most {KEYS_MAX} API keys"
            )));
        }
        let link = match caller.credential() {
            Credential::Session(link, _) => catalog.token(link),
            Credential::Token(_) | Credential::Signed { .. } => None,
        };
        let ends_with_link = link.and_then(|link| keys_end(catalog, link));
        let token = Token {
            application: Some(application),
            expires_at: self.expires_at,
            description: self.description,
            scopes: self.scopes,
            allowed_ips: self.allowed_ips,
            made_by: link.map(|link| MadeByLink {
                link: link.id,
                session: link.session.as_ref().and_then(|session| session.id.clone()),
            }),
            ..Token::new(
                caller.organisation,
                Role::Application,
                self.name,
                self.hash,
                view.now,
            )
        };
        let mut token = narrowed(view, caller, token)?;
        for end in [ends_with_link, latest_end(caller, view)] {
            token.expires_at = earlier(token.expires_at, end);
        }
        Ok((vec![Change::PutToken(token.clone())], token))
    }
}

/// The latest end of a key that is made through a link, where there is a limit.
fn latest_end(caller: &Caller, view: &View<'_>) -> Option<Timestamp> {
    let days = view.settings.portal.api_key_days_max;
    let is_link = matches!(caller.credential(), Credential::Session(..));
    (is_link && days > 0).then(|| view.now + Duration::from_secs(u64::from(days) * 24 * 3600))
}

/// The earlier of two ends, each of which may be absent.
fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        _ => one.or(other),
    }
}

/// Revokes a key.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteKey {
    /// The application's id or uid.
    pub application: String,
    pub key: String,
}

impl Command for DeleteKey {
    type Answer = ();

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<()> {
        let entry = caller.application(view.catalog, &self.application, Action::OwnKeys)?;
        let id = self.key.parse().ok();
        let mut keys = keys(view.catalog, entry.application.id);
        let key = id.and_then(|id| keys.find(|token| token.id == id));
        let key = key.ok_or(Error::not_found("API key"))?;
        Ok((vec![Change::DeleteToken(key.id)], ()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::token::{Capability, PortalSession, Revocation};
    use crate::rules::tests::{Example, NOW, outcome};

    const END: Timestamp = Timestamp(NOW.0 + 9000);

    fn create() -> CreateKey {
        CreateKey {
            application: "one".to_owned(),
            hash: [5; 32],
            name: "key".to_owned(),
            expires_at: None,
            description: None,
            scopes: None,
            allowed_ips: Vec::new(),
        }
    }

    fn key(hash: u8) -> Token {
        Token {
            application: Some(Example::application().id),
            ..Token::new(
                Example::ORGANISATION,
                Role::Application,
                "key".to_owned(),
                [hash; 32],
                NOW,
            )
        }
    }

    fn example() -> Example {
        Example::with([Change::PutApplication(Example::application())])
    }

    #[test]
    fn a_key_ends_with_what_it_was_made_through() {
        let later = Timestamp(END.0 + 1000);
        let in_a_day = Timestamp(NOW.0 + 24 * 3600 * 1000);
        let link = Token {
            expires_at: Some(later),
            session: Some(PortalSession {
                id: Some("zoe".to_owned()),
                capabilities: Capability::ALL.into_iter().collect(),
                feature_flags: BTreeSet::new(),
            }),
            ..key(8)
        };
        let ends_keys = Revocation {
            hash: link.hash,
            until: Some(END),
        };
        for (was_ended, asked, days_max, expected) in [
            (false, None, 0, None),
            (false, Some(later), 0, Some(later)),
            (false, None, 1, Some(in_a_day)),
            (false, Some(later), 1, Some(later)),
            (true, None, 0, Some(END)),
            (true, Some(later), 1, Some(END)),
        ] {
            let mut example = example();
            example.settings.portal.api_key_days_max = days_max;
            example.happened(Change::PutToken(link.clone()));
            if was_ended {
                example.happened(Change::PutRevocation(ends_keys.clone()));
            }
            let command = CreateKey {
                expires_at: asked,
                ..create()
            };
            let caller = Example::caller(&link);
            let (changes, made) = example.decide_as(&caller, command).unwrap();
            assert!(matches!(&changes[..], [Change::PutToken(put)] if *put == made));
            assert_eq!(made.expires_at, expected);
            let made_by = made.made_by.expect("a link made it");
            assert_eq!(
                (made_by.link, made_by.session),
                (link.id, Some("zoe".to_owned()))
            );
        }
        let mut example = example();
        example.settings.portal.api_key_days_max = 1;
        let (_, made) = example.decide(create()).unwrap();
        assert_eq!(made.made_by, None, "an owner made it");
        assert_eq!(made.expires_at, None);
    }

    #[test]
    fn an_application_has_so_many_keys() {
        let mut example = example();
        for hash in 0..KEYS_MAX {
            let expected = "";
            assert_eq!(outcome(&example.decide(create())), expected);
            example.happened(Change::PutToken(key(hash as u8 + 100)));
        }
        let expected = "an application has at most 100 API keys";
        assert_eq!(outcome(&example.decide(create())), expected);
    }

    #[test]
    fn a_key_of_the_application_is_revoked_and_no_other_token() {
        let mut example = example();
        let own = key(8);
        example.happened(Change::PutToken(own.clone()));
        let other = Token::new(
            Example::ORGANISATION,
            Role::Viewer,
            "viewer".to_owned(),
            [9; 32],
            NOW,
        );
        example.happened(Change::PutToken(other.clone()));
        for (application, key, expected) in [
            ("one", own.id.to_string(), ""),
            ("one", other.id.to_string(), "API key not found"),
            ("one", "nothing".to_owned(), "API key not found"),
            ("two", own.id.to_string(), "application not found"),
        ] {
            let delete = DeleteKey {
                application: application.to_owned(),
                key,
            };
            assert_eq!(outcome(&example.decide(delete)), expected);
        }
    }
}
