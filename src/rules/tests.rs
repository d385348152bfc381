//! The common part of the tests of decisions: registrations to decide on, and the walls of the
//! room.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::caller::{Caller, Proof};
use super::endpoint_checks::blank;
use super::{Command, Decided, View, decide};
use crate::catalog::{Catalog, Change};
use crate::clock::Timestamp;
use crate::config::{Config, Flags, load};
use crate::domain::application::Application;
use crate::domain::endpoint::{Endpoint, EndpointSecret};
use crate::domain::id::{ApplicationId, EndpointId, OrganisationId};
use crate::domain::organisation::Organisation;
use crate::domain::secret::{Secret, SecretForm};
use crate::domain::token::{Role, Token};
use crate::error::Error;

pub const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// Registrations of one organisation, with the settings that config.toml has.
pub struct Example {
    pub catalog: Catalog,
    pub settings: Config,
    owner: Token,
    publisher: Token,
}

impl Example {
    pub const ORGANISATION: OrganisationId = OrganisationId([1; 20]);

    /// Returns registrations with nothing but an organisation and tokens.
    pub fn new() -> Example {
        Example::with([])
    }

    pub fn with(changes: impl IntoIterator<Item = Change>) -> Example {
        let token = |role: Role, hash| {
            let name = role.name().to_owned();
            Token::new(Example::ORGANISATION, role, name, [hash; 32], NOW)
        };
        let organisation = Organisation {
            id: Example::ORGANISATION,
            name: "One".to_owned(),
            created_at: NOW,
        };
        let (owner, publisher) = (token(Role::Owner, 1), token(Role::Publisher, 2));
        let first = [
            Change::PutOrganisation(organisation),
            Change::PutToken(owner.clone()),
            Change::PutToken(publisher.clone()),
        ];
        Example {
            catalog: Catalog::of(first.into_iter().chain(changes)),
            settings: load(Some("config.toml".as_ref()), Flags::default())
                .expect("the defaults are valid"),
            owner,
            publisher,
        }
    }

    /// The caller with this token.
    pub fn caller(token: &Token) -> Caller {
        Caller::of(&Proof::Token(Arc::new(token.clone())))
    }

    pub fn owner(&self) -> Caller {
        Example::caller(&self.owner)
    }

    pub fn publisher(&self) -> Caller {
        Example::caller(&self.publisher)
    }

    /// The application `one`, which is in no catalog by itself.
    pub fn application() -> Application {
        Application {
            id: ApplicationId([2; 20]),
            organisation: Example::ORGANISATION,
            uid: Some("one".to_owned()),
            name: "One".to_owned(),
            metadata: BTreeMap::new(),
            throttle_rate: None,
            created_at: NOW,
            updated_at: NOW,
            tokens_valid_from: None,
            tokens_ending: None,
        }
    }

    /// An endpoint of it, which is in no catalog by itself.
    pub fn endpoint(&self) -> Endpoint {
        let form = SecretForm::StandardWebhooks;
        Endpoint {
            id: EndpointId([1; 20]),
            url: "https://example.com/in".to_owned(),
            secrets: vec![EndpointSecret {
                secret: Secret::generate(form, [1; 32]),
                expires_at: None,
            }],
            ..blank(&Example::application(), 7, NOW)
        }
    }

    pub fn happened(&mut self, change: Change) {
        self.catalog.apply(change);
    }

    pub fn view(&self) -> View<'_> {
        View {
            catalog: &self.catalog,
            settings: &self.settings,
            now: NOW,
            random: [7; 32],
        }
    }

    /// Decides on a command of the owner.
    pub fn decide<C: Command>(&self, command: C) -> Decided<C::Answer> {
        self.decide_as(&self.owner(), command)
    }

    pub fn decide_as<C: Command>(&self, caller: &Caller, command: C) -> Decided<C::Answer> {
        decide(command, caller, &self.view())
    }
}

/// Returns why a decision changes nothing; an empty text where it changes something.
pub fn outcome<T>(decided: &Decided<T>) -> String {
    match decided {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_credential_that_ended_meanwhile_decides_nothing() {
    use super::event_types::{CreateEventType, EventTypeEdit};
    let create = || CreateEventType {
        name: "invoice.paid".to_owned(),
        edit: EventTypeEdit::default(),
    };
    let example = Example::new();
    let token = &example.owner;
    for (change, expected) in [
        (Change::PutToken(token.clone()), true),
        (
            Change::PutToken(Token {
                expires_at: Some(NOW),
                ..token.clone()
            }),
            false,
        ),
        (Change::DeleteToken(token.id), false),
    ] {
        let then = Example {
            catalog: Catalog::of([Change::PutToken(token.clone()), change]),
            ..Example::new()
        };
        let decided = then.decide_as(&example.owner(), create());
        match (decided, expected) {
            (Ok(_), true) | (Err(Error::Unauthenticated), false) => {}
            (other, _) => panic!("{}", outcome(&other)),
        }
    }
}

/// This room and the catalog's, and the modules that each may import.
const IMPORTS: [(&str, &[&str]); 2] = [
    (
        "src/rules",
        &[
            "catalog::",
            "clock::",
            "config::",
            "domain::",
            "error::",
            "rules::",
        ],
    ),
    ("src/catalog", &["catalog::", "clock::", "domain::"]),
];

#[test]
fn rules_and_catalog_know_no_http_no_engine_and_nothing_that_waits() {
    let folders = IMPORTS.iter().flat_map(|(folder, imports)| {
        let files = files(folder.as_ref());
        assert!(files.len() > 1, "{folder} has moved");
        files.into_iter().map(move |file| (file, imports))
    });
    for (file, allowed) in folders {
        let text = fs::read_to_string(&file).unwrap();
        let (code, _tests) = text
            .split_once("#[cfg(test)]\nmod tests {")
            .unwrap_or((&text, ""));
        let code = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        for (number, line) in code.enumerate() {
            let mut imports = line.split("crate::").skip(1);
            let strange = imports.find(|path| !allowed.iter().any(|one| path.starts_with(one)));
            assert_eq!(strange, None, "{}", file.display());
            for word in ["actix", "sled", "tokio", "async ", ".await", "std::fs"] {
                let place = format!("{}, line {number} of code", file.display());
                assert!(!line.contains(word), "{place}: {word}");
            }
        }
    }
}

/// The files with code; that of tests may look anywhere.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => files(&path),
            false => vec![path],
        })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .filter(|path| !path.ends_with("tests.rs"))
        .collect()
}
