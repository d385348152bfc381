//! Applications: made, replaced, changed, deleted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::caller::Caller;
use super::checks::{Problems, check_uid, refuse_given_id};
use super::patch::Patch;
use super::permits::Action;
use super::{Command, Decided, Saved, View};
use crate::catalog::{Catalog, Change};
use crate::clock::Timestamp;
use crate::domain::application::Application;
use crate::domain::id::{ApplicationId, OrganisationId};
use crate::error::{Error, Result};

/// An application to be made, whose values were checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewApplication {
    pub name: String,
    pub uid: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub throttle_rate: Option<u16>,
    /// An id came along, which no new application can have.
    pub id_is_given: bool,
}

impl NewApplication {
    pub fn into_application(self, organisation: OrganisationId, now: Timestamp) -> Application {
        Application {
            id: ApplicationId::at(now),
            organisation,
            throttle_rate: self.throttle_rate,
            uid: self.uid,
            name: self.name,
            metadata: self.metadata,
            created_at: now,
            updated_at: now,
            tokens_valid_from: None,
            tokens_ending: None,
        }
    }
}

/// A change of an application, whose values were checked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(default)]
pub struct ApplicationEdit {
    #[serde(skip_serializing_if = "Patch::is_absent")]
    pub name: Patch<String>,
    #[serde(skip_serializing_if = "Patch::is_absent")]
    pub uid: Patch<String>,
    #[serde(skip_serializing_if = "Patch::is_absent")]
    pub metadata: Patch<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Patch::is_absent")]
    pub throttle_rate: Patch<u16>,
}

impl ApplicationEdit {
    pub fn apply_to(self, application: &mut Application) {
        self.name.apply_to(&mut application.name);
        self.uid.apply_to_optional(&mut application.uid);
        self.metadata.apply_to(&mut application.metadata);
        self.throttle_rate
            .apply_to_optional(&mut application.throttle_rate);
    }
}

/// Refuses a uid that another application of the organisation has.
fn refuse_taken_uid(catalog: &Catalog, application: &Application) -> Result<()> {
    let Some(uid) = &application.uid else {
        return Ok(());
    };
    match catalog.application(application.organisation, uid) {
        Some(other) if other.application.id != application.id => Err(Error::Conflict(
            "an application with this uid exists already".to_owned(),
        )),
        _ => Ok(()),
    }
}

/// Returns the change that makes a new application; an error where its uid is taken.
pub fn creation(catalog: &Catalog, application: Application) -> Result<Change> {
    refuse_taken_uid(catalog, &application)?;
    Ok(Change::PutApplication(application))
}

/// Makes an application, or finds the one that has its uid already.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateApplication {
    pub application: NewApplication,
    pub get_if_exists: bool,
}

impl Command for CreateApplication {
    type Answer = Saved<Application>;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<Saved<Application>> {
        caller.may(Action::CreateApplications)?;
        let uid = self.application.uid.as_ref();
        let existing = uid.and_then(|uid| view.catalog.application(caller.organisation, uid));
        if let (true, Some(existing)) = (self.get_if_exists, existing) {
            return Ok((Vec::new(), Saved::Old(existing.application.clone())));
        }
        let application = self.application;
        let application = application.into_application(caller.organisation, view.now);
        let change = creation(view.catalog, application.clone())?;
        Ok((vec![change], Saved::New(application)))
    }
}

/// Replaces the application in the path, or makes one with the uid in the path.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplaceApplication {
    /// An id or a uid.
    pub path: String,
    pub application: NewApplication,
}

impl Command for ReplaceApplication {
    type Answer = Saved<Application>;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<Saved<Application>> {
        let path_is_id = self.path.parse::<ApplicationId>().is_ok();
        let mut new = self.application;
        if !path_is_id && new.uid.is_none() {
            new.uid = Some(self.path.clone());
        }
        let id_is_given = new.id_is_given;
        let mut application = new.into_application(caller.organisation, view.now);
        let found = caller.application(view.catalog, &self.path, Action::ChangeApplications);
        let is_new = match found {
            Ok(entry) => {
                application.id = entry.application.id;
                application.created_at = entry.application.created_at;
                // Signed tokens that ended must not become valid again with a new name.
                application.tokens_valid_from = entry.application.tokens_valid_from;
                application.tokens_ending = entry.application.tokens_ending;
                false
            }
            Err(Error::NotFound(_))
                if !path_is_id && caller.may(Action::CreateApplications).is_ok() =>
            {
                let mut problems = Problems::default();
                let place = ["path", "app_id"];
                check_uid(&mut problems, &place, &self.path, ApplicationId::PREFIX);
                problems.done()?;
                refuse_given_id(id_is_given, &["body", "id"])?;
                true
            }
            Err(error) => return Err(error),
        };
        let change = creation(view.catalog, application.clone())?;
        let saved = match is_new {
            true => Saved::New(application),
            false => Saved::Old(application),
        };
        Ok((vec![change], saved))
    }
}

/// Changes what the edit names.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeApplication {
    /// An id or a uid.
    pub path: String,
    pub edit: ApplicationEdit,
}

impl Command for ChangeApplication {
    type Answer = Application;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<Application> {
        let entry = caller.application(view.catalog, &self.path, Action::ChangeApplications)?;
        let mut application = entry.application.clone();
        self.edit.apply_to(&mut application);
        application.updated_at = view.now;
        let change = creation(view.catalog, application.clone())?;
        Ok((vec![change], application))
    }
}

/// Deletes an application with its endpoints and the tokens that were limited to it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteApplication {
    /// An id or a uid.
    pub path: String,
}

impl Command for DeleteApplication {
    type Answer = ();

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<()> {
        let entry = caller.application(view.catalog, &self.path, Action::ChangeApplications)?;
        let id = entry.application.id;
        let tokens = view.catalog.tokens();
        let tokens = tokens.filter(|token| token.application == Some(id));
        let changes = tokens.map(|token| Change::DeleteToken(token.id));
        Ok((changes.chain([Change::DeleteApplication(id)]).collect(), ()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::token::{Role, Token};
    use crate::rules::tests::{Example, NOW, outcome};

    const TAKEN: &str = "an application with this uid exists already";
    const BEFORE: Timestamp = Timestamp(NOW.0 - 1000);

    fn new(uid: Option<&str>) -> NewApplication {
        NewApplication {
            name: "New".to_owned(),
            uid: uid.map(str::to_owned),
            metadata: BTreeMap::new(),
            throttle_rate: Some(3),
            id_is_given: false,
        }
    }

    fn put(changes: &[Change]) -> &Application {
        match changes {
            [Change::PutApplication(application)] => application,
            other => panic!("{other:?}"),
        }
    }

    /// `one`, whose signed tokens ended once, and `two`.
    fn example() -> (Example, Application) {
        let one = Application {
            tokens_valid_from: Some(BEFORE),
            ..new(Some("one")).into_application(Example::ORGANISATION, BEFORE)
        };
        let two = new(Some("two")).into_application(Example::ORGANISATION, BEFORE);
        let key = Token {
            application: Some(one.id),
            ..Token::new(
                Example::ORGANISATION,
                Role::Application,
                "key".to_owned(),
                [9; 32],
                BEFORE,
            )
        };
        let changes = [
            Change::PutApplication(one.clone()),
            Change::PutApplication(two),
            Change::PutToken(key),
        ];
        (Example::with(changes), one)
    }

    #[test]
    fn a_uid_is_ones_own() {
        let (example, _) = example();
        for (uid, get_if_exists, expected) in [
            (None, false, ""),
            (None, true, ""),
            (Some("three"), true, ""),
            (Some("one"), false, TAKEN),
            (Some("one"), true, ""),
        ] {
            let create = CreateApplication {
                application: new(uid),
                get_if_exists,
            };
            let decided = example.decide(create);
            assert_eq!(outcome(&decided), expected, "{uid:?}");
            match decided {
                Ok((changes, Saved::New(made))) => assert_eq!(put(&changes), &made),
                Ok((changes, Saved::Old(found))) => {
                    assert!(changes.is_empty() && uid == Some("one"));
                    assert_eq!(found.created_at, BEFORE);
                }
                Err(_) => {}
            }
        }
        for (path, uid, expected) in [
            ("one", Patch::Set("two".to_owned()), TAKEN),
            ("one", Patch::Set("one".to_owned()), ""),
            ("one", Patch::Null, ""),
            ("three", Patch::Null, "application not found"),
        ] {
            let change = ChangeApplication {
                path: path.to_owned(),
                edit: ApplicationEdit {
                    uid,
                    ..ApplicationEdit::default()
                },
            };
            assert_eq!(outcome(&example.decide(change)), expected, "{path}");
        }
    }

    #[test]
    fn a_replacement_makes_what_its_path_names() {
        let (example, one) = example();
        let unknown_id = ApplicationId([3; 20]).to_string();
        for (path, application, expected) in [
            ("three", new(None), ""),
            ("one", new(None), ""),
            (one.id.to_string().as_str(), new(None), ""),
            ("one", new(Some("two")), TAKEN),
            (unknown_id.as_str(), new(None), "application not found"),
            (
                "no spaces",
                new(Some("good")),
                "path.app_id: may contain only letters",
            ),
            (
                "three",
                NewApplication {
                    id_is_given: true,
                    ..new(None)
                },
                "body.id: is set by the server",
            ),
            (
                "one",
                NewApplication {
                    id_is_given: true,
                    ..new(None)
                },
                "",
            ),
        ] {
            let replace = ReplaceApplication {
                path: path.to_owned(),
                application,
            };
            let decided = example.decide(replace);
            let found = outcome(&decided);
            assert!(found.starts_with(expected), "{path}: {found}");
            assert_eq!(found.is_empty(), expected.is_empty(), "{path}: {found}");
            match decided {
                Ok((changes, Saved::New(made))) => {
                    assert_eq!(put(&changes).uid.as_deref(), Some(path));
                    assert_eq!(made.created_at, NOW);
                }
                Ok((changes, Saved::Old(replaced))) => {
                    assert_eq!(put(&changes), &replaced);
                    assert_eq!((replaced.id, replaced.created_at), (one.id, BEFORE));
                    let ended = replaced.tokens_valid_from;
                    assert_eq!(ended, Some(BEFORE), "what ended does not come back");
                    // The id in the path names no uid, and the body does not, either.
                    assert_eq!(replaced.uid.is_some(), path == "one");
                }
                Err(_) => {}
            }
        }
    }

    #[test]
    fn a_publisher_neither_makes_nor_changes_applications() {
        let (example, _) = example();
        let publisher = example.publisher();
        let replace = ReplaceApplication {
            path: "three".to_owned(),
            application: new(None),
        };
        let decided = example.decide_as(&publisher, replace);
        assert_eq!(outcome(&decided), "application not found");
        let delete = DeleteApplication {
            path: "one".to_owned(),
        };
        let decided = example.decide_as(&publisher, delete);
        assert_eq!(outcome(&decided), "this token may not do that");
    }

    #[test]
    fn the_tokens_of_an_application_go_with_it() {
        let (example, one) = example();
        let delete = |path: &str| DeleteApplication {
            path: path.to_owned(),
        };
        let (changes, ()) = example.decide(delete("one")).unwrap();
        let [Change::DeleteToken(_), Change::DeleteApplication(id)] = changes[..] else {
            panic!("{changes:?}");
        };
        assert_eq!(id, one.id);
        let (changes, ()) = example.decide(delete("two")).unwrap();
        assert!(matches!(changes[..], [Change::DeleteApplication(_)]));
        let decided = example.decide(delete("three"));
        assert_eq!(outcome(&decided), "application not found");
    }
}
