//! Applications: `/api/v1/app`.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::web;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::kit::call::{Call, Reply};
use crate::api::kit::decide::saved;
use crate::api::kit::extract::{Body, Patch, answered, respond, text};
use crate::api::kit::fields::ShownField;
use crate::api::kit::operation::{Operation, Parameter};
use crate::api::kit::page::{Listed, page_parameters, shown as shown_in_list};
use crate::api::kit::query::{Search, search_parameter};
use crate::catalog::ApplicationEntry;
use crate::clock::Timestamp;
use crate::domain::application::Application;
use crate::domain::id::ApplicationId;
use crate::error::Result;
use crate::rules::applications::{
    ApplicationEdit, ChangeApplication, CreateApplication, DeleteApplication, NewApplication,
    ReplaceApplication,
};
use crate::rules::caller::Action;
use crate::rules::checks::{
    NAME_BYTES_MAX, NAME_PATTERN, Problems, check_metadata, check_name, check_uid,
    checked_throttle_rate,
};
use crate::store::Answered;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(extend("required" = ["name"]))]
pub struct ApplicationIn {
    /// A name for people, such as your customer's.
    #[schemars(with = "String", length(min = 1, max = NAME_BYTES_MAX))]
    pub name: Option<String>,
    /// Your own id for it, unique in the organisation. Paths take it as `app_id`.
    #[schemars(length(min = 1, max = 256), regex(pattern = NAME_PATTERN))]
    pub uid: Option<String>,
    /// Data of your own, 4 KiB in all.
    metadata: Option<BTreeMap<String, String>>,
    /// How many messages a second are sent to all of its endpoints together; no such limit where
    /// absent.
    #[schemars(range(min = 1))]
    throttle_rate: Patch<u16>,
    /// The older name of `throttleRate`. Both can be given where they are the same.
    #[schemars(range(min = 1))]
    rate_limit: Patch<u16>,
    pub id: ShownField,
    created_at: ShownField,
    updated_at: ShownField,
}

impl ApplicationIn {
    /// Adds the problems; `place` is the object's place in the request.
    pub fn check(&self, problems: &mut Problems, place: &[&str]) {
        let at =
            |field: &'static str| -> Vec<&str> { place.iter().copied().chain([field]).collect() };
        match &self.name {
            Some(name) => check_name(problems, &at("name"), name),
            None => problems.missing(&at("name")),
        }
        if let Some(uid) = &self.uid {
            check_uid(problems, &at("uid"), uid, ApplicationId::PREFIX);
        }
        if let Some(metadata) = &self.metadata {
            check_metadata(problems, &at("metadata"), metadata);
        }
        self.throttle_rate(problems, place);
    }

    /// Returns the rate by either name. Where one is null and the other is not, as older clients
    /// may send it, the other one counts.
    fn throttle_rate(&self, problems: &mut Problems, place: &[&str]) -> Option<u16> {
        let absent = |rate: &Patch<u16>| match rate {
            Patch::Null => Patch::Absent,
            rate => rate.clone(),
        };
        let (rate, older) = (absent(&self.throttle_rate), absent(&self.rate_limit));
        checked_throttle_rate(problems, place, rate, older).into_set()
    }

    /// Like [`ApplicationIn::check`], for an application that comes with another request, to be
    /// made where the one in the path does not exist.
    pub fn check_beside(&self, problems: &mut Problems, path: &str) {
        self.check(problems, &["body", "application"]);
        match self.uid.as_deref() {
            None => problems.missing(&["body", "application", "uid"]),
            // Where the path has a server's id, the application exists and this is ignored.
            Some(uid) if uid != path && path.parse::<ApplicationId>().is_err() => {
                let message = "must be the application's uid in the path";
                problems.add(&["body", "application", "uid"], message);
            }
            Some(_) => {}
        }
    }

    fn checked(self) -> Result<ApplicationIn> {
        let mut problems = Problems::default();
        self.check(&mut problems, &["body"]);
        problems.done()?;
        Ok(self)
    }

    /// Returns the rate of a body that was checked.
    fn checked_rate(&self) -> Option<u16> {
        self.throttle_rate(&mut Problems::default(), &[])
    }

    /// Returns the checked body as a new application.
    pub fn into_new(self) -> NewApplication {
        NewApplication {
            throttle_rate: self.checked_rate(),
            uid: self.uid,
            name: self.name.unwrap_or_default(),
            metadata: self.metadata.unwrap_or_default(),
            id_is_given: self.id.is_given(),
        }
    }
}

/// A change of an application. An absent field stays as it is; null clears a field that can be
/// cleared.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct ApplicationPatch {
    /// A name for people.
    #[schemars(with = "String", length(min = 1, max = NAME_BYTES_MAX))]
    name: Patch<String>,
    /// Your own id for it.
    #[schemars(length(min = 1, max = 256), regex(pattern = NAME_PATTERN))]
    uid: Patch<String>,
    /// Replaces the metadata as a whole.
    #[schemars(with = "BTreeMap<String, String>")]
    metadata: Patch<BTreeMap<String, String>>,
    /// How many messages a second are sent to all of its endpoints together; null for no such
    /// limit.
    #[schemars(range(min = 1))]
    throttle_rate: Patch<u16>,
    /// The older name of `throttleRate`. Both can be given where they are the same.
    #[schemars(range(min = 1))]
    rate_limit: Patch<u16>,
    id: ShownField,
    created_at: ShownField,
    updated_at: ShownField,
}

impl ApplicationPatch {
    fn checked(mut self) -> Result<ApplicationPatch> {
        let mut problems = Problems::default();
        match &self.name {
            Patch::Set(name) => check_name(&mut problems, &["body", "name"], name),
            Patch::Null => problems.add(&["body", "name"], "may not be null"),
            Patch::Absent => {}
        }
        if let Patch::Set(uid) = &self.uid {
            check_uid(&mut problems, &["body", "uid"], uid, ApplicationId::PREFIX);
        }
        match &self.metadata {
            Patch::Set(metadata) => {
                check_metadata(&mut problems, &["body", "metadata"], metadata);
            }
            Patch::Null => problems.add(&["body", "metadata"], "may not be null"),
            Patch::Absent => {}
        }
        let older = std::mem::take(&mut self.rate_limit);
        self.throttle_rate =
            checked_throttle_rate(&mut problems, &["body"], self.throttle_rate, older);
        problems.done()?;
        Ok(self)
    }

    /// Returns the checked body as a change.
    fn into_edit(self) -> ApplicationEdit {
        ApplicationEdit {
            name: self.name,
            uid: self.uid,
            metadata: self.metadata,
            throttle_rate: self.throttle_rate,
        }
    }
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ApplicationOut<'a> {
    #[serde(serialize_with = "text")]
    id: ApplicationId,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a str>,
    name: &'a str,
    metadata: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    throttle_rate: Option<u16>,
    #[serde(serialize_with = "text")]
    created_at: Timestamp,
    #[serde(serialize_with = "text")]
    updated_at: Timestamp,
}

impl<'a> From<&'a Application> for ApplicationOut<'a> {
    fn from(application: &'a Application) -> Self {
        ApplicationOut {
            id: application.id,
            uid: application.uid.as_deref(),
            name: &application.name,
            metadata: &application.metadata,
            throttle_rate: application.throttle_rate,
            created_at: application.created_at,
            updated_at: application.updated_at,
        }
    }
}

fn shown(status: StatusCode, application: &Application) -> Answered {
    answered(status, &ApplicationOut::from(application))
}

/// Leaves out applications with endpoints at the hosted service's page for trying webhooks out.
const WITHOUT_PLAY: &str = "exclude_apps_with_svix_play_endpoints";

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/v1/app", "v1.application.list", web::to(list))
            .summary("List applications")
            .description("In the order in which they were created.")
            .parameters(page_parameters(false))
            .parameters([
                Parameter::flag(
                    "exclude_apps_with_no_endpoints",
                    false,
                    "Leaves out those without an endpoint.",
                ),
                Parameter::flag(
                    "exclude_apps_with_disabled_endpoints",
                    false,
                    "Leaves out those whose endpoints are all disabled.",
                ),
                Parameter::flag_without_effect(
                    WITHOUT_PLAY,
                    false,
                    "There is no Svix Play, so no endpoint leads there.",
                ),
                search_parameter(
                    "Only those with this text in their name or uid, or with this id.",
                ),
            ])
            .answers::<Listed<ApplicationOut>>(200, "A page of applications"),
        Operation::post("/api/v1/app", "v1.application.create", web::to(create))
            .needs(Action::CreateApplications)
            .summary("Create an application")
            .description(
                "An application is usually one customer of yours: it has endpoints, and messages \
                 are published for it.",
            )
            .parameters([Parameter::flag(
                "get_if_exists",
                false,
                "Where there is one with the `uid` given, it is answered as it is, with 200.",
            )])
            .once()
            .takes::<ApplicationIn>()
            .answers::<ApplicationOut>(200, "There was one with this uid; nothing was changed")
            .answers::<ApplicationOut>(201, "Created")
            .answers_nothing(409, UID_TAKEN),
        Operation::get("/api/v1/app/{app_id}", "v1.application.get", web::to(get))
            .summary("Show an application")
            .answers::<ApplicationOut>(200, "The application"),
        Operation::put(
            "/api/v1/app/{app_id}",
            "v1.application.update",
            web::to(put),
        )
        .needs(Action::ChangeApplications)
        .summary("Replace an application, or create it")
        .description(
            "Where the path names a uid that does not exist yet, an application is created with \
             it. A uid in the path and not in the body stays.",
        )
        .takes::<ApplicationIn>()
        .answers::<ApplicationOut>(200, "Replaced")
        .answers::<ApplicationOut>(201, "Created")
        .answers_nothing(409, UID_TAKEN),
        Operation::patch("/api/v1/app/{app_id}", "patch_application", web::to(patch))
            .needs(Action::ChangeApplications)
            .summary("Change an application")
            .takes::<ApplicationPatch>()
            .answers::<ApplicationOut>(200, "Changed")
            .answers_nothing(409, UID_TAKEN),
        Operation::delete(
            "/api/v1/app/{app_id}",
            "v1.application.delete",
            web::to(delete),
        )
        .needs(Action::ChangeApplications)
        .summary("Delete an application with its endpoints")
        .description(
            "Its endpoints and the tokens that are limited to it go with it. What was not \
             delivered yet is not sent any more.",
        )
        .answers_nothing(204, "Deleted"),
    ]
}

const UID_TAKEN: &str = "Another application has this uid";

pub async fn create(call: Call, body: Body) -> Reply {
    call.caller.may(Action::CreateApplications)?;
    let mut query = call.query();
    let get_if_exists = query.flag("get_if_exists", false);
    query.problems.done()?;
    let input = body.json::<ApplicationIn>()?;
    input.id.refuse(&["body", "id"])?;
    let input = input.checked()?;
    let command = CreateApplication {
        application: input.into_new(),
        get_if_exists,
    };
    let once = call.once(&body)?;
    let shown = |made| saved(made, shown);
    call.show_once(once, command, shown).await
}

/// Creates the application that came with a message. One that was created in the meantime is used
/// as it is.
pub async fn create_beside(call: &Call, input: ApplicationIn) -> Result<()> {
    call.caller.may(Action::CreateApplications)?;
    input.id.refuse(&["body", "application", "id"])?;
    let command = CreateApplication {
        application: input.into_new(),
        get_if_exists: true,
    };
    call.decide(command).await.map(|_| ())
}

pub async fn list(call: Call) -> Reply {
    call.caller.may_with_some(Action::ListApplications)?;
    let mut query = call.query();
    let page = query.page::<ApplicationId>(&call.context.config.limits, false);
    let without_endpoints = !query.flag("exclude_apps_with_no_endpoints", false);
    let with_disabled_only = !query.flag("exclude_apps_with_disabled_endpoints", false);
    query.flag(WITHOUT_PLAY, false);
    let search = query.search();
    query.problems.done()?;
    let catalog = call.catalog();
    let found = |application: &Application| {
        let uid = application.uid.as_deref().unwrap_or_default();
        let texts = [&*application.name, uid];
        let is_it = |search: &Search| search.is_in(texts) || search.is_id(application.id);
        search.as_ref().is_none_or(is_it)
    };
    let wanted = |entry: &&Arc<ApplicationEntry>| {
        let by_endpoints = match &entry.endpoints[..] {
            [] => without_endpoints,
            endpoints => with_disabled_only || endpoints.iter().any(|one| one.disabled.is_none()),
        };
        by_endpoints && found(&entry.application) && call.caller.sees_application(&catalog, entry)
    };
    let applications = catalog
        .applications(call.caller.organisation)
        .filter(wanted);
    let listed = page.list(
        applications,
        |entry| entry.application.id,
        |entry| shown_in_list(&ApplicationOut::from(&entry.application)),
    );
    Ok(respond(listed))
}

pub async fn get(call: Call) -> Reply {
    let catalog = call.catalog();
    let (caller, path) = (call.caller, call.path("app_id"));
    let entry = caller.application(&catalog, path, Action::ReadApplication)?;
    Ok(respond(shown(StatusCode::OK, &entry.application)))
}

/// Replaces an application, or creates one with the uid in the path. Where the body has no uid, the
/// one in the path stays, so that the same request can be repeated.
pub async fn put(call: Call, body: Body) -> Reply {
    let path = call.path("app_id").to_owned();
    call.caller
        .may_in(&call.catalog(), &path, Action::ChangeApplications)?;
    let application = body.json::<ApplicationIn>()?.checked()?.into_new();
    let command = ReplaceApplication { path, application };
    call.show(command, |made| saved(made, shown)).await
}

pub async fn patch(call: Call, body: Body) -> Reply {
    call.caller.application(
        &call.catalog(),
        call.path("app_id"),
        Action::ChangeApplications,
    )?;
    let input = body.json::<ApplicationPatch>()?.checked()?;
    let command = ChangeApplication {
        path: call.path("app_id").to_owned(),
        edit: input.into_edit(),
    };
    let shown = |changed| shown(StatusCode::OK, &changed);
    call.show(command, shown).await
}

/// Deletes an application with its endpoints and the tokens that were limited to it.
pub async fn delete(call: Call) -> Reply {
    let path = call.path("app_id").to_owned();
    call.done(DeleteApplication { path }).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::OrganisationId;
    use crate::error::Error;

    fn application() -> Application {
        let input: ApplicationIn = serde_json::from_str(
            r#"{"name":"One","uid":"one","metadata":{"a":"b"},"throttleRate":3}"#,
        )
        .unwrap();
        input
            .checked()
            .unwrap()
            .into_new()
            .into_application(OrganisationId([1; 20]), Timestamp(1_700_000_000_000))
    }

    #[test]
    fn an_application_is_shown_as_the_contract_says() {
        let application = application();
        let body: serde_json::Value =
            serde_json::from_slice(&shown(StatusCode::OK, &application).body).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "id": application.id.to_string(), "uid": "one", "name": "One",
                "metadata": {"a": "b"}, "throttleRate": 3,
                "createdAt": "2023-11-14T22:13:20.000Z", "updatedAt": "2023-11-14T22:13:20.000Z",
            })
        );
    }

    #[test]
    fn a_patch_changes_what_it_names_and_null_clears_what_can_be_cleared() {
        let mut application = application();
        let patch: ApplicationPatch =
            serde_json::from_str(r#"{"throttleRate":null,"name":"Two"}"#).unwrap();
        patch
            .checked()
            .unwrap()
            .into_edit()
            .apply_to(&mut application);
        assert_eq!(application.name, "Two");
        assert_eq!(application.throttle_rate, None);
        assert_eq!(application.uid.as_deref(), Some("one"));
        let nulls: ApplicationPatch =
            serde_json::from_str(r#"{"name":null,"metadata":null}"#).unwrap();
        let Err(Error::Invalid(problems)) = nulls.checked() else {
            panic!("a name cannot be cleared");
        };
        assert_eq!(problems.len(), 2);
    }

    #[test]
    fn an_application_needs_a_name() {
        let Err(Error::Invalid(problems)) = ApplicationIn::default().checked() else {
            panic!("it was taken");
        };
        assert_eq!(problems[0].location, ["body", "name"]);
        assert_eq!(problems[0].kind, "missing");
    }
}
