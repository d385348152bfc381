//! Event types: `/api/v1/event-type`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use actix_web::web;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::api::kit::call::{Call, Reply};
use crate::api::kit::context::Context;
use crate::api::kit::decide::saved;
use crate::api::kit::extract::{Body, Patch, answered, blocking, respond, text};
use crate::api::kit::fields::ShownField;
use crate::api::kit::operation::{BODY_BYTES_MAX, Operation, Parameter};
use crate::api::kit::page::{Listed, Name, page_parameters, shown as shown_in_list};
use crate::api::kit::query::search_parameter;
use crate::api::kit::schemas::Schemas;
use crate::clock::Timestamp;
use crate::domain::event_type::{EventType, Strictness, name_problem, registered_name_problem};
use crate::domain::{json_schema, payload};
use crate::error::{Error, Result};
use crate::rules::announced::schema_problems;
use crate::rules::caller::{Action, FeatureFlags};
use crate::rules::checks::{
    CHANNEL_NAME_MAX, DESCRIPTION_BYTES_MAX, EVENT_TYPE_NAME_MAX, NAME_PATTERN, Problems,
    check_channels, check_description, without_repeats, wrong,
};
use crate::rules::event_types::{
    ChangeEventType, CreateEventType, DeleteEventType, EventTypeEdit, NOT_FOUND, ReplaceEventType,
    blank,
};
use crate::store::Answered;

/// Flags are names, as event types are.
pub const FEATURE_FLAG_MAX: usize = 256;
pub const FEATURE_FLAGS_MAX: usize = 100;

/// Groups are named as event types are.
pub const GROUP_NAME_MAX: usize = 256;

/// The longest example, where payloads may be longer: examples are in memory while the server
/// runs.
const EXAMPLE_BYTES_MAX: usize = 64 * 1024;

/// The most channels of an event type: as many as an endpoint can select.
const CHANNELS_PER_EVENT_TYPE_MAX: usize = 500;

/// The room of all channels in a body, with quotes and commas.
const CHANNELS_BYTES_MAX: usize = CHANNELS_PER_EVENT_TYPE_MAX * (CHANNEL_NAME_MAX + 3);

/// The longest body of an event type: the usual length, and room for the example and the channels.
const EVENT_TYPE_BYTES_MAX: usize = BODY_BYTES_MAX + EXAMPLE_BYTES_MAX + CHANNELS_BYTES_MAX;

/// A body of create, replace and patch, which differ in the meaning of absent and null.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(
    rename = "EventTypePatch",
    description = "An absent field stays as it is; null clears a field that can be cleared."
)]
struct EventTypeIn {
    /// The name, such as `invoice.paid`. A change can only repeat it.
    #[schemars(with = "String", length(min = 1, max = EVENT_TYPE_NAME_MAX), regex(pattern = NAME_PATTERN))]
    name: Patch<String>,
    #[schemars(with = "String", length(max = DESCRIPTION_BYTES_MAX))]
    description: Patch<String>,
    /// An archived event type takes no new messages, and no endpoint can choose it.
    #[schemars(with = "bool")]
    archived: Patch<bool>,
    /// Messages are accepted as before; people who choose event types are told.
    #[schemars(with = "bool")]
    deprecated: Patch<bool>,
    /// The older form of `featureFlags`, with room for one. Only one of the two can be given.
    #[schemars(length(min = 1, max = FEATURE_FLAG_MAX), regex(pattern = NAME_PATTERN))]
    feature_flag: Patch<String>,
    // Newer clients send this in place of `featureFlag`.
    /// The feature flags. Where there are any, only portal sessions with one of them see the event
    /// type.
    #[schemars(
        length(max = FEATURE_FLAGS_MAX),
        inner(length(min = 1, max = FEATURE_FLAG_MAX), regex(pattern = NAME_PATTERN))
    )]
    feature_flags: Patch<Vec<String>>,
    /// The group under which lists show the event type.
    #[schemars(length(min = 1, max = GROUP_NAME_MAX), regex(pattern = NAME_PATTERN))]
    group_name: Patch<String>,
    /// JSON schemas of the payload, by their versions. `validate` says whether payloads are checked against the newest.
    #[schemars(with = "Option<BTreeMap<String, BTreeMap<String, Value>>>")]
    schemas: Patch<Box<RawValue>>,
    // From here on: additions to the contract.
    /// An example of a payload, which tests send; at most 64 KiB.
    #[schemars(with = "Option<BTreeMap<String, Value>>")]
    example: Patch<Box<RawValue>>,
    /// The channels of messages of this type, for forms to offer.
    #[schemars(
        length(min = 1, max = CHANNELS_PER_EVENT_TYPE_MAX),
        inner(length(min = 1, max = CHANNEL_NAME_MAX), regex(pattern = NAME_PATTERN))
    )]
    channels: Patch<Vec<String>>,
    /// What becomes of a message whose payload does not fit the newest schema: `off` accepts it, `warn` accepts it with
    /// `warnings` in the answer, `reject` refuses it (422). The newest schema must be one that can be checked
    /// against: at most 64 KiB, without references to other documents, and with patterns that are matched in linear
    /// time.
    #[schemars(extend("enum" = ["off", "warn", "reject", null]))]
    validate: Patch<String>,
    created_at: ShownField,
    updated_at: ShownField,
    schema_warnings: ShownField,
}

/// [`EventTypeIn`] where one is created, for the document.
struct NewEventTypeIn;

impl JsonSchema for NewEventTypeIn {
    fn schema_name() -> Cow<'static, str> {
        "EventTypeIn".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        whole_schema(generator, &["name", "description"])
    }
}

/// [`EventTypeIn`] where one is replaced, for the document.
struct EventTypeUpdate;

impl JsonSchema for EventTypeUpdate {
    fn schema_name() -> Cow<'static, str> {
        "EventTypeUpdate".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        whole_schema(generator, &["description"])
    }
}

fn whole_schema(generator: &mut SchemaGenerator, required: &[&str]) -> Schema {
    let mut schema = EventTypeIn::json_schema(generator);
    schema.insert("required".to_owned(), serde_json::json!(required));
    let description = "A replacement resets the fields that it does not name, except for example, channels \
                       and validate: those stay unless they are null.";
    schema.insert("description".to_owned(), description.into());
    schema
}

impl EventTypeIn {
    /// Checks a whole event type: the fields that the contract requires are there.
    fn whole(self, needs_name: bool, example_bytes_max: usize) -> Result<EventTypeIn> {
        let mut problems = Problems::default();
        if needs_name && self.name.as_set().is_none() {
            problems.missing(&["body", "name"]);
        }
        if self.description.as_set().is_none() {
            problems.missing(&["body", "description"]);
        }
        self.checked(problems, example_bytes_max)
    }

    fn patch(self, example_bytes_max: usize) -> Result<EventTypeIn> {
        let mut problems = Problems::default();
        for (field, is_null) in [
            ("description", self.description == Patch::Null),
            ("archived", self.archived == Patch::Null),
            ("deprecated", self.deprecated == Patch::Null),
        ] {
            if is_null {
                problems.add(&["body", field], "may not be null");
            }
        }
        self.checked(problems, example_bytes_max)
    }

    fn checked(mut self, mut problems: Problems, example_bytes_max: usize) -> Result<EventTypeIn> {
        if let Patch::Set(name) = &self.name {
            let problem = registered_name_problem(name);
            problems.add_if(&["body", "name"], problem);
        }
        if let Patch::Set(description) = &self.description {
            check_description(&mut problems, &["body", "description"], description);
        }
        if let Patch::Set(flag) = &self.feature_flag {
            let problem = name_problem(flag, FEATURE_FLAG_MAX);
            problems.add_if(&["body", "featureFlag"], problem);
        }
        if self.feature_flag.as_set().is_some() && self.feature_flags.as_set().is_some() {
            let message = "cannot be given together with featureFlags";
            problems.add(&["body", "featureFlag"], message);
        }
        self.feature_flags = self.feature_flags.map(without_repeats);
        if let Patch::Set(flags) = &self.feature_flags {
            check_feature_flags(&mut problems, &["body", "featureFlags"], flags);
        }
        if let Patch::Set(group) = &self.group_name {
            let problem = name_problem(group, GROUP_NAME_MAX);
            problems.add_if(&["body", "groupName"], problem);
        }
        if let Patch::Set(schemas) = &self.schemas {
            for (place, message) in schemas_problems(schemas.get()) {
                let place = ["body", "schemas"]
                    .into_iter()
                    .chain(place.iter().map(String::as_str));
                problems.add(&place.collect::<Vec<_>>(), message);
            }
        }
        if let Patch::Set(example) = &self.example {
            let problem = example_problem(example.get(), example_bytes_max);
            problems.add_if(&["body", "example"], problem);
        }
        self.channels = self.channels.map(without_repeats);
        if let Patch::Set(channels) = &self.channels {
            let max = CHANNELS_PER_EVENT_TYPE_MAX;
            check_channels(&mut problems, &["body", "channels"], channels, max);
        }
        if let Patch::Set(validate) = &self.validate {
            let message = "must be off, warn or reject";
            problems.add_if(
                &["body", "validate"],
                strictness(validate).is_none().then_some(message),
            );
        }
        problems.done()?;
        Ok(self)
    }

    /// Returns the checked body as a change.
    fn into_edit(self) -> EventTypeEdit {
        let json = |text: Patch<Box<RawValue>>| text.map(|text| text.get().to_owned());
        EventTypeEdit {
            description: self.description,
            archived: self.archived,
            deprecated: self.deprecated,
            feature_flags: match self.feature_flags {
                Patch::Absent => self.feature_flag.map(|flag| vec![flag]),
                flags => flags,
            },
            group_name: self.group_name,
            schemas: json(self.schemas),
            example: json(self.example),
            channels: self.channels,
            validate: self.validate.and_then(|name| strictness(&name)),
        }
    }
}

const STRICTNESSES: [(&str, Strictness); 3] = [
    ("off", Strictness::Off),
    ("warn", Strictness::Warn),
    ("reject", Strictness::Reject),
];

fn strictness(name: &str) -> Option<Strictness> {
    let found = STRICTNESSES.iter().find(|(one, _)| *one == name);
    found.map(|(_, strictness)| *strictness)
}

fn strictness_name(strictness: Strictness) -> &'static str {
    let found = STRICTNESSES.iter().find(|(_, one)| *one == strictness);
    found.map_or("", |(name, _)| name)
}

/// Refuses what an event type would become if payloads were to be checked against a schema that cannot be checked
/// against. It is asked before the decision, which others would wait for.
async fn refuse_unusable_schema(event_type: EventType, edit: &EventTypeEdit) -> Result<()> {
    let mut event_type = event_type;
    edit.clone().apply_to(&mut event_type);
    if event_type.validate.is_off() {
        return Ok(());
    }
    if edit.validate.as_set().is_some() && event_type.newest_schema().is_none() {
        let message = "has no schema to check payloads against: give schemas, too, or leave it off";
        return Err(wrong(&["body", "validate"], message));
    }
    let problems = blocking(move || Ok(schema_problems(&event_type))).await?;
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Error::Invalid(problems)),
    }
}

/// Checks that a body repeats the name in the path, because an event type keeps its name.
fn check_same_name(problems: &mut Problems, input: &EventTypeIn, path: &str) {
    if input.name.as_set().is_some_and(|name| name != path) {
        problems.add(&["body", "name"], "must be the name in the path");
    }
}

/// Returns the problems of an object that maps versions to JSON schemas, each with the path to it.
pub fn schemas_problems(schemas: &str) -> Vec<(Vec<String>, String)> {
    let at_all = |message: String| vec![(Vec::new(), message)];
    if let Some(problem) = payload::problem(schemas) {
        return at_all(problem);
    }
    let versions = match serde_json::from_str::<BTreeMap<String, Value>>(schemas) {
        Ok(versions) => versions,
        Err(error) => return at_all(error.to_string()),
    };
    if !versions.values().all(Value::is_object) {
        let message = "must map each version to a JSON schema, which is an object";
        return at_all(message.to_owned());
    }
    let of_version = |(version, schema): (&String, &Value)| {
        let place = |rest: Vec<String>| [vec![version.clone()], rest].concat();
        let problems = json_schema::problems(schema).into_iter();
        let placed = problems.map(|problem| (place(problem.place), problem.message));
        placed.collect::<Vec<_>>()
    };
    versions.iter().flat_map(of_version).collect()
}

/// Checks that there are at most [`FEATURE_FLAGS_MAX`] flags, and that each is a valid name.
pub fn check_feature_flags(problems: &mut Problems, place: &[&str], flags: &[String]) {
    if flags.len() > FEATURE_FLAGS_MAX {
        let message = format!("must have at most {FEATURE_FLAGS_MAX} items");
        problems.add(place, message);
        return;
    }
    for (index, flag) in flags.iter().enumerate() {
        let index = index.to_string();
        let place: Vec<&str> = place.iter().copied().chain([index.as_str()]).collect();
        problems.add_if(&place, name_problem(flag, FEATURE_FLAG_MAX));
    }
}

pub fn example_problem(example: &str, bytes_max: usize) -> Option<String> {
    match example.len() > bytes_max {
        true => Some(format!("must have at most {bytes_max} bytes")),
        false => payload::problem(example),
    }
}

pub fn example_bytes_max(context: &Context) -> usize {
    EXAMPLE_BYTES_MAX.min(context.config.limits.payload_bytes)
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct EventTypeOut<'a> {
    name: &'a str,
    description: &'a str,
    archived: bool,
    deprecated: bool,
    /// The first of the flags, for clients that know only one.
    feature_flag: Option<&'a str>,
    feature_flags: &'a [String],
    group_name: Option<&'a str>,
    /// JSON schemas of the payload, by their versions; null where content was not asked for.
    #[schemars(with = "Option<BTreeMap<String, Value>>")]
    schemas: Option<&'a RawValue>,
    #[serde(serialize_with = "text")]
    created_at: Timestamp,
    #[serde(serialize_with = "text")]
    updated_at: Timestamp,
    // From here on: additions to the contract.
    /// An example of a payload; null where content was not asked for.
    #[schemars(with = "Option<BTreeMap<String, Value>>")]
    example: Option<&'a RawValue>,
    channels: Option<&'a [String]>,
    /// What becomes of a message whose payload does not fit the newest schema.
    #[schemars(extend("enum" = ["off", "warn", "reject"]))]
    validate: &'static str,
    /// How many messages were accepted with a warning about their payload since the server started. Only where there
    /// were any, or `validate` is `warn`.
    #[serde(skip_serializing_if = "Option::is_none")]
    schema_warnings: Option<u64>,
}

impl<'a> EventTypeOut<'a> {
    fn new(event_type: &'a EventType, with_content: bool, schemas: &Schemas) -> Self {
        let warned = schemas.warned(event_type);
        let json = |text: &'a Option<String>| {
            let text = text.as_deref().filter(|_| with_content)?;
            serde_json::from_str(text).ok()
        };
        EventTypeOut {
            name: &event_type.name,
            description: &event_type.description,
            archived: event_type.archived,
            deprecated: event_type.deprecated,
            feature_flag: event_type.feature_flags.first().map(String::as_str),
            feature_flags: &event_type.feature_flags,
            group_name: event_type.group_name.as_deref(),
            schemas: json(&event_type.schemas),
            created_at: event_type.created_at,
            updated_at: event_type.updated_at,
            example: json(&event_type.example),
            channels: event_type.channels.as_deref(),
            validate: strictness_name(event_type.validate),
            schema_warnings: Some(warned)
                .filter(|warned| *warned > 0 || event_type.validate == Strictness::Warn),
        }
    }
}

fn shown(status: StatusCode, event_type: &EventType, schemas: &Schemas) -> Answered {
    answered(status, &EventTypeOut::new(event_type, true, schemas))
}

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/v1/event-type", "v1.event-type.list", web::to(list))
            .summary("List event types")
            .description("By their names.")
            .parameters(page_parameters(false))
            .parameters([
                Parameter::flag(
                    "include_archived",
                    false,
                    "Whether archived ones are listed, too.",
                ),
                search_parameter("Only those with this text in their name, description or group."),
                Parameter::flag(
                    "with_content",
                    false,
                    "Whether schemas and examples are shown.",
                ),
            ])
            .answers::<Listed<EventTypeOut>>(200, "A page of event types"),
        Operation::post(
            "/api/v1/event-type",
            "v1.event-type.create",
            web::to(create),
        )
        .needs(Action::ChangeEventTypes)
        .summary("Create an event type")
        .description("An archived one with this name is taken back into use.")
        .once()
        .takes::<NewEventTypeIn>()
        .answers::<EventTypeOut>(201, "Created")
        .answers_nothing(409, "There is one with this name")
        .body_bytes_max(EVENT_TYPE_BYTES_MAX),
        Operation::get(
            "/api/v1/event-type/{event_type_name}",
            "v1.event-type.get",
            web::to(get),
        )
        .summary("Show an event type")
        .answers::<EventTypeOut>(200, "The event type"),
        Operation::put(
            "/api/v1/event-type/{event_type_name}",
            "v1.event-type.update",
            web::to(put),
        )
        .needs(Action::ChangeEventTypes)
        .summary("Replace an event type, or create it")
        .takes::<EventTypeUpdate>()
        .answers::<EventTypeOut>(200, "Replaced")
        .answers::<EventTypeOut>(201, "Created")
        .body_bytes_max(EVENT_TYPE_BYTES_MAX),
        Operation::patch(
            "/api/v1/event-type/{event_type_name}",
            "patch_event_type",
            web::to(patch),
        )
        .needs(Action::ChangeEventTypes)
        .summary("Change an event type")
        .takes::<EventTypeIn>()
        .answers::<EventTypeOut>(200, "Changed")
        .body_bytes_max(EVENT_TYPE_BYTES_MAX),
        Operation::delete(
            "/api/v1/event-type/{event_type_name}",
            "v1.event-type.delete",
            web::to(delete),
        )
        .needs(Action::ChangeEventTypes)
        .summary("Archive or delete an event type")
        .description("Filters of endpoints that name it stay as they are.")
        .parameters([Parameter::flag(
            "expunge",
            false,
            "Deletes it altogether, where it is archived otherwise.",
        )])
        .answers_nothing(204, "Archived or deleted"),
    ]
}

/// Creates an event type, or takes an archived one back into use with what the body says.
pub async fn create(call: Call, body: Body) -> Reply {
    call.caller.may(Action::ChangeEventTypes)?;
    let input = body
        .json::<EventTypeIn>()?
        .whole(true, example_bytes_max(&call.context))?;
    let command = CreateEventType {
        name: input.name.as_set().cloned().unwrap_or_default(),
        edit: input.into_edit(),
    };
    let new = blank(call.caller.organisation, command.name.clone(), call.now());
    refuse_unusable_schema(new, &command.edit).await?;
    let schemas = call.context.schemas.clone();
    let shown = move |made: EventType| shown(StatusCode::CREATED, &made, &schemas);
    call.show_once(call.once(&body)?, command, shown).await
}

pub async fn list(call: Call, flags: FeatureFlags) -> Reply {
    call.caller.may(Action::ReadEventTypes)?;
    let mut query = call.query();
    let page = query.page::<Name>(&call.context.config.limits, false);
    let include_archived = query.flag("include_archived", false);
    let with_content = query.flag("with_content", false);
    let search = query.search();
    query.problems.done()?;
    let found = |event_type: &EventType| {
        let group = event_type.group_name.as_deref().unwrap_or_default();
        let texts = [&*event_type.name, &*event_type.description, group];
        search.as_ref().is_none_or(|search| search.is_in(texts))
    };
    let stretch = {
        let catalog = call.catalog();
        let event_types = catalog
            .event_types(call.caller.organisation)
            .filter(|event_type| found(event_type))
            .filter(|event_type| include_archived || !event_type.archived)
            .filter(|event_type| flags.show(event_type));
        page.of(event_types.cloned(), |event_type| {
            Name(event_type.name.clone())
        })
    };
    // Event types with all their schemas can be long.
    let schemas = call.context.schemas.clone();
    let read = move || {
        Ok(page.answer(
            stretch,
            |event_type| Name(event_type.name.clone()),
            |event_type| shown_in_list(&EventTypeOut::new(event_type, with_content, &schemas)),
        ))
    };
    call.read(read).await
}

pub async fn get(call: Call, flags: FeatureFlags) -> Reply {
    call.caller.may(Action::ReadEventTypes)?;
    let catalog = call.catalog();
    let name = call.path("event_type_name");
    let event_type = catalog
        .event_type(call.caller.organisation, name)
        .filter(|event_type| flags.show(event_type))
        .ok_or(NOT_FOUND)?;
    Ok(respond(shown(
        StatusCode::OK,
        event_type,
        &call.context.schemas,
    )))
}

pub async fn put(call: Call, body: Body) -> Reply {
    call.caller.may(Action::ChangeEventTypes)?;
    let input = body
        .json::<EventTypeIn>()?
        .whole(false, example_bytes_max(&call.context))?;
    let name = call.path("event_type_name").to_owned();
    let mut problems = Problems::default();
    let problem = registered_name_problem(&name);
    problems.add_if(&["path", "event_type_name"], problem);
    check_same_name(&mut problems, &input, &name);
    problems.done()?;
    let edit = input.into_edit();
    let organisation = call.caller.organisation;
    let mut new = blank(organisation, name.clone(), call.now());
    if let Some(existing) = call.catalog().event_type(organisation, &name) {
        new.validate = existing.validate;
    }
    refuse_unusable_schema(new, &edit).await?;
    let command = ReplaceEventType { name, edit };
    let schemas = call.context.schemas.clone();
    let shown = move |status, made: &EventType| shown(status, made, &schemas);
    call.show(command, |made| saved(made, shown)).await
}

pub async fn patch(call: Call, body: Body) -> Reply {
    call.caller.may(Action::ChangeEventTypes)?;
    let input = body
        .json::<EventTypeIn>()?
        .patch(example_bytes_max(&call.context))?;
    let name = call.path("event_type_name").to_owned();
    let mut problems = Problems::default();
    check_same_name(&mut problems, &input, &name);
    problems.done()?;
    let edit = input.into_edit();
    let existing = call
        .catalog()
        .event_type(call.caller.organisation, &name)
        .cloned();
    if let Some(existing) = existing {
        refuse_unusable_schema((*existing).clone(), &edit).await?;
    }
    let command = ChangeEventType { name, edit };
    let schemas = call.context.schemas.clone();
    let shown = move |changed: EventType| shown(StatusCode::OK, &changed, &schemas);
    call.show(command, shown).await
}

/// Archives an event type, or deletes it with `expunge=true`. Filters that name it stay.
pub async fn delete(call: Call) -> Reply {
    call.caller.may(Action::ChangeEventTypes)?;
    let mut query = call.query();
    let expunge = query.flag("expunge", false);
    query.problems.done()?;
    let name = call.path("event_type_name").to_owned();
    call.done(DeleteEventType { name, expunge }).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::OrganisationId;

    fn input(text: &str) -> EventTypeIn {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn schemas_map_versions_to_objects() {
        for (text, good) in [
            (r#"{"1":{"type":"object"},"2":{}}"#, true),
            ("{}", true),
            ("[]", false),
            (r#"{"1":[]}"#, false),
            (r#""text""#, false),
        ] {
            assert_eq!(schemas_problems(text).is_empty(), good, "{text}");
        }
    }

    #[test]
    fn schemas_are_shown_as_they_were_given() {
        let schemas = r#"{"2": {"b": 1.10,  "a": 1}}"#;
        let mut event_type = blank(OrganisationId([1; 20]), "a.b".to_owned(), Timestamp(0));
        let text = format!(r#"{{"description":"d","schemas":{schemas}}}"#);
        input(&text)
            .whole(false, 100)
            .unwrap()
            .into_edit()
            .apply_to(&mut event_type);
        let shown = String::from_utf8(shown(StatusCode::OK, &event_type, &Schemas::default()).body)
            .unwrap();
        assert!(shown.contains(schemas), "{shown}");
        let short =
            serde_json::to_value(EventTypeOut::new(&event_type, false, &Schemas::default()))
                .unwrap();
        assert_eq!(short["schemas"], serde_json::Value::Null);
    }

    #[test]
    fn examples_are_objects_of_a_size_and_shown_as_they_were_given() {
        for (example, good) in [
            (r#"{"b": 1.10,  "a":"\u00e9"}"#.to_owned(), true),
            (format!(r#"{{"a":"{}"}}"#, "x".repeat(92)), true),
            (format!(r#"{{"a":"{}"}}"#, "x".repeat(93)), false),
            ("[]".to_owned(), false),
            (r#"{"a":"\ud800"}"#.to_owned(), false),
        ] {
            let text = format!(r#"{{"description":"d","example":{example}}}"#);
            let checked = input(&text).whole(false, 100);
            assert_eq!(checked.is_ok(), good, "{example}");
            let Ok(checked) = checked else { continue };
            let mut event_type = blank(OrganisationId([1; 20]), "a.b".to_owned(), Timestamp(0));
            checked.into_edit().apply_to(&mut event_type);
            let shown =
                String::from_utf8(shown(StatusCode::OK, &event_type, &Schemas::default()).body)
                    .unwrap();
            assert!(shown.contains(&example), "{shown}");
        }
    }

    #[test]
    fn a_whole_one_needs_name_and_description_and_a_patch_nothing() {
        let Err(Error::Invalid(problems)) = input("{}").whole(true, 100) else {
            panic!("it was taken");
        };
        assert_eq!(problems.len(), 2);
        assert!(input("{}").patch(100).is_ok());
        assert!(input(r#"{"description":null}"#).patch(100).is_err());
        assert!(
            input(r#"{"name":"not a name","description":""}"#)
                .whole(true, 100)
                .is_err()
        );
    }

    #[test]
    fn the_older_flag_counts_where_the_newer_ones_are_absent() {
        for (text, expected) in [
            ("{}", Patch::Absent),
            (r#"{"featureFlag":"a"}"#, Patch::Set(vec!["a".to_owned()])),
            (r#"{"featureFlag":null}"#, Patch::Null),
            (r#"{"featureFlag":"a","featureFlags":null}"#, Patch::Null),
            (
                r#"{"featureFlag":null,"featureFlags":["b"]}"#,
                Patch::Set(vec!["b".to_owned()]),
            ),
        ] {
            let edit = input(text).patch(100).unwrap().into_edit();
            assert_eq!(edit.feature_flags, expected, "{text}");
        }
    }
}
