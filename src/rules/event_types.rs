//! Event types: made, changed, archived, imported.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::caller::Caller;
use super::patch::Patch;
use super::permits::Action;
use super::{Command, Decided, Saved, View};
use crate::catalog::Change;
use crate::clock::Timestamp;
use crate::domain::event_type::{EventType, Strictness};
use crate::domain::id::OrganisationId;
use crate::error::Error;

pub const NOT_FOUND: Error = Error::not_found("event type");

/// A change of an event type, whose values were checked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(default)]
pub struct EventTypeEdit {
    #[serde(skip_serializing_if = "Patch::is_absent")]
    pub description: Patch<String>,
    #[serde(skip_serializing_if = "Patch::is_absent")]
    pub archived: Patch<bool>,
    #[serde(skip_serializing_if = "Patch::is_absent")]
    pub deprecated: Patch<bool>,
    #[serde(skip_serializing_if = "Patch::is_absent")]
    pub feature_flags: Patch<Vec<String>>,
    #[serde(skip_serializing_if = "Patch::is_absent")]
    pub group_name: Patch<String>,
    /// JSON text, as it was given.
    #[serde(skip_serializing_if = "Patch::is_absent")]
    pub schemas: Patch<String>,
    /// JSON text, as it was given.
    #[serde(skip_serializing_if = "Patch::is_absent")]
    pub example: Patch<String>,
    #[serde(skip_serializing_if = "Patch::is_absent")]
    pub channels: Patch<Vec<String>>,
    #[serde(skip_serializing_if = "Patch::is_absent")]
    pub validate: Patch<Strictness>,
}

impl EventTypeEdit {
    pub fn apply_to(self, event_type: &mut EventType) {
        self.validate.apply_to(&mut event_type.validate);
        self.description.apply_to(&mut event_type.description);
        self.archived.apply_to(&mut event_type.archived);
        self.deprecated.apply_to(&mut event_type.deprecated);
        self.feature_flags.apply_to(&mut event_type.feature_flags);
        self.group_name
            .apply_to_optional(&mut event_type.group_name);
        self.schemas.apply_to_optional(&mut event_type.schemas);
        self.example.apply_to_optional(&mut event_type.example);
        self.channels.apply_to_optional(&mut event_type.channels);
    }
}

pub fn blank(organisation: OrganisationId, name: String, now: Timestamp) -> EventType {
    EventType {
        organisation,
        name,
        description: String::new(),
        archived: false,
        deprecated: false,
        feature_flags: Vec::new(),
        schemas: None,
        created_at: now,
        updated_at: now,
        example: None,
        channels: None,
        group_name: None,
        validate: Strictness::Off,
    }
}

/// Makes an event type, or takes an archived one back into use with what the edit says.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateEventType {
    pub name: String,
    pub edit: EventTypeEdit,
}

impl Command for CreateEventType {
    type Answer = EventType;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<EventType> {
        caller.may(Action::ChangeEventTypes)?;
        let existing = view.catalog.event_type(caller.organisation, &self.name);
        let mut event_type = blank(caller.organisation, self.name, view.now);
        match existing {
            Some(existing) if !existing.archived => {
                return Err(Error::Conflict(
                    "an event type with this name exists already".to_owned(),
                ));
            }
            Some(archived) => event_type.created_at = archived.created_at,
            None => {}
        }
        self.edit.apply_to(&mut event_type);
        Ok((vec![Change::PutEventType(event_type.clone())], event_type))
    }
}

/// Makes the event type, or replaces it by the edit.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplaceEventType {
    pub name: String,
    pub edit: EventTypeEdit,
}

impl Command for ReplaceEventType {
    type Answer = Saved<EventType>;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<Saved<EventType>> {
        caller.may(Action::ChangeEventTypes)?;
        let existing = view.catalog.event_type(caller.organisation, &self.name);
        let mut event_type = blank(caller.organisation, self.name, view.now);
        if let Some(existing) = existing {
            event_type.created_at = existing.created_at;
            // A client that does not know these leaves them as they were.
            event_type.example.clone_from(&existing.example);
            event_type.channels.clone_from(&existing.channels);
            event_type.validate = existing.validate;
        }
        self.edit.apply_to(&mut event_type);
        let change = Change::PutEventType(event_type.clone());
        let saved = match existing {
            Some(_) => Saved::Old(event_type),
            None => Saved::New(event_type),
        };
        Ok((vec![change], saved))
    }
}

/// Changes what the edit names.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeEventType {
    pub name: String,
    pub edit: EventTypeEdit,
}

impl Command for ChangeEventType {
    type Answer = EventType;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<EventType> {
        caller.may(Action::ChangeEventTypes)?;
        let existing = view.catalog.event_type(caller.organisation, &self.name);
        let mut event_type = (**existing.ok_or(NOT_FOUND)?).clone();
        self.edit.apply_to(&mut event_type);
        event_type.updated_at = view.now;
        Ok((vec![Change::PutEventType(event_type.clone())], event_type))
    }
}

/// Archives an event type, or deletes it. Filters that name it stay.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteEventType {
    pub name: String,
    pub expunge: bool,
}

impl Command for DeleteEventType {
    type Answer = ();

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<()> {
        caller.may(Action::ChangeEventTypes)?;
        let existing = view.catalog.event_type(caller.organisation, &self.name);
        let existing = existing.ok_or(NOT_FOUND)?;
        let change = match self.expunge {
            true => Change::DeleteEventType(caller.organisation, self.name),
            false => Change::PutEventType(EventType {
                archived: true,
                updated_at: view.now,
                ..(**existing).clone()
            }),
        };
        Ok((vec![change], ()))
    }
}

/// An event type as a document describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Described {
    pub name: String,
    pub description: String,
    pub deprecated: bool,
    pub feature_flags: Vec<String>,
    pub group_name: Option<String>,
    /// JSON text.
    pub schemas: Option<String>,
    /// JSON text; where absent, the present one stays.
    pub example: Option<String>,
}

impl Described {
    /// Describes the event type by the document and takes it back into use. Fields that a document
    /// cannot have stay.
    fn apply_to(self, event_type: &mut EventType) {
        event_type.archived = false;
        event_type.description = self.description;
        event_type.deprecated = self.deprecated;
        event_type.feature_flags = self.feature_flags;
        event_type.group_name = self.group_name;
        event_type.schemas = self.schemas;
        event_type.example = self.example.or(event_type.example.take());
    }
}

/// Makes or changes all event types of a document.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportEventTypes {
    pub event_types: Vec<Described>,
    /// Archive the organisation's other event types.
    pub replace_all: bool,
}

impl Command for ImportEventTypes {
    /// The names of those that were made, changed or archived.
    type Answer = Vec<String>;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<Vec<String>> {
        caller.may(Action::ChangeEventTypes)?;
        let organisation = caller.organisation;
        let imported = self.event_types.into_iter().map(|described| {
            let existing = view.catalog.event_type(organisation, &described.name);
            let mut event_type = match existing {
                Some(existing) => (**existing).clone(),
                None => blank(organisation, described.name.clone(), view.now),
            };
            event_type.updated_at = view.now;
            described.apply_to(&mut event_type);
            event_type
        });
        let mut event_types: Vec<EventType> = imported.collect();
        if self.replace_all {
            let others = archived_others(view, &event_types, organisation);
            event_types.extend(others);
        }
        let names = event_types.iter().map(|one| one.name.clone()).collect();
        let changes = event_types.into_iter().map(Change::PutEventType);
        Ok((changes.collect(), names))
    }
}

/// Returns the event types in use that are not among these, archived.
fn archived_others(
    view: &View<'_>,
    these: &[EventType],
    organisation: OrganisationId,
) -> Vec<EventType> {
    let names: HashSet<&str> = these.iter().map(|one| one.name.as_str()).collect();
    let all = view.catalog.event_types(organisation);
    all.filter(|one| !one.archived && !names.contains(one.name.as_str()))
        .map(|one| EventType {
            archived: true,
            updated_at: view.now,
            ..(**one).clone()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::{Example, NOW, outcome};

    const BEFORE: Timestamp = Timestamp(NOW.0 - 1000);

    fn described(name: &str, description: &str) -> EventType {
        EventType {
            description: description.to_owned(),
            example: Some("{}".to_owned()),
            ..blank(Example::ORGANISATION, name.to_owned(), BEFORE)
        }
    }

    /// `in.use` and `archived`.
    fn example() -> Example {
        let archived = EventType {
            archived: true,
            ..described("archived", "old")
        };
        Example::with([
            Change::PutEventType(described("in.use", "old")),
            Change::PutEventType(archived),
        ])
    }

    fn edit() -> EventTypeEdit {
        EventTypeEdit {
            description: Patch::Set("new".to_owned()),
            ..EventTypeEdit::default()
        }
    }

    /// The one event type that the changes put.
    fn put(changes: &[Change]) -> &EventType {
        match changes {
            [Change::PutEventType(event_type)] => event_type,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_name_is_taken_unless_it_is_archived() {
        let example = example();
        for (name, expected, created_at) in [
            ("new", "", NOW),
            ("archived", "", BEFORE),
            ("in.use", "an event type with this name exists already", NOW),
        ] {
            let create = CreateEventType {
                name: name.to_owned(),
                edit: edit(),
            };
            let decided = example.decide(create);
            assert_eq!(outcome(&decided), expected, "{name}");
            let Ok((changes, answer)) = decided else {
                continue;
            };
            assert_eq!(put(&changes), &answer);
            assert_eq!((answer.created_at, answer.updated_at), (created_at, NOW));
            assert!(!answer.archived && answer.example.is_none(), "{name}");
        }
    }

    #[test]
    fn a_replacement_keeps_what_older_clients_do_not_know() {
        let example = example();
        for (name, is_new, kept) in [("new", true, None), ("in.use", false, Some("{}"))] {
            let replace = ReplaceEventType {
                name: name.to_owned(),
                edit: edit(),
            };
            let (changes, answer) = example.decide(replace).unwrap();
            let found = put(&changes);
            assert_eq!(found.description, "new");
            assert_eq!(found.example.as_deref(), kept, "{name}");
            let expected = match is_new {
                true => Saved::New(found.clone()),
                false => Saved::Old(found.clone()),
            };
            assert_eq!(answer, expected);
        }
    }

    #[test]
    fn a_change_and_a_deletion_need_an_event_type() {
        let example = example();
        for (name, expected) in [("in.use", ""), ("new", "event type not found")] {
            let name = || name.to_owned();
            let change = ChangeEventType {
                name: name(),
                edit: edit(),
            };
            assert_eq!(outcome(&example.decide(change)), expected);
            for expunge in [false, true] {
                let delete = DeleteEventType {
                    name: name(),
                    expunge,
                };
                assert_eq!(outcome(&example.decide(delete)), expected);
            }
        }
    }

    #[test]
    fn a_deletion_archives_unless_it_expunges() {
        let example = example();
        let delete = |expunge| DeleteEventType {
            name: "in.use".to_owned(),
            expunge,
        };
        let (changes, ()) = example.decide(delete(false)).unwrap();
        let archived = put(&changes);
        assert!(archived.archived && archived.description == "old");
        assert_eq!((archived.created_at, archived.updated_at), (BEFORE, NOW));
        let (changes, ()) = example.decide(delete(true)).unwrap();
        let is_gone = |change: &Change| matches!(change, Change::DeleteEventType(_, name) if name == "in.use");
        assert!(changes.len() == 1 && is_gone(&changes[0]), "{changes:?}");
    }

    #[test]
    fn an_import_describes_anew_and_archives_the_others_where_it_is_asked_to() {
        let example = example();
        let import = |name: &str, replace_all| ImportEventTypes {
            event_types: vec![Described {
                name: name.to_owned(),
                description: "new".to_owned(),
                deprecated: false,
                feature_flags: Vec::new(),
                group_name: None,
                schemas: None,
                example: None,
            }],
            replace_all,
        };
        for (name, replace_all, expected) in [
            ("new", false, vec!["new"]),
            ("new", true, vec!["new", "in.use"]),
            ("in.use", true, vec!["in.use"]),
            ("archived", true, vec!["archived", "in.use"]),
        ] {
            let (changes, names) = example.decide(import(name, replace_all)).unwrap();
            assert_eq!(names, expected);
            let Change::PutEventType(first) = &changes[0] else {
                panic!("{changes:?}");
            };
            assert!(!first.archived && first.description == "new");
            assert_eq!(first.example.is_some(), name != "new", "it stays");
            let archived = changes[1..].iter().all(
                |change| matches!(change, Change::PutEventType(one) if one.archived && one.updated_at == NOW),
            );
            assert!(archived, "{changes:?}");
        }
    }

    #[test]
    fn who_may_not_change_event_types_is_refused() {
        let example = Example::new();
        let create = CreateEventType {
            name: "new".to_owned(),
            edit: edit(),
        };
        let decided = example.decide_as(&example.publisher(), create);
        assert_eq!(outcome(&decided), "this token may not do that");
    }
}
