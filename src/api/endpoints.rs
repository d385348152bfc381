//! Endpoints: `/api/v1/app/{app_id}/endpoint`.
//!
//! What a body may say is in `endpoint_body`, what holds for every endpoint in `endpoint_rules`.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json as value;

use super::Context;
use super::access::{Action, Caller, Credential, FeatureFlags};
use super::endpoint_body::{Checked, EndpointIn, EndpointOut, Kind, WholeEndpointIn, reset, shown};
use super::endpoint_rules::{
    NOT_FOUND, blank, refuse_archived_types, refuse_taken_uid, refuse_too_many, unregistered_types,
};
use super::error::Failure;
use super::extract::{Body, Patch, answered, no_content, once, path_part, reading, respond};
use super::operation::{Operation, Parameter};
use super::page::{
    Listed, Query, Search, page_parameters, search_parameter, shown as shown_in_list,
};
use super::rules::{Problems, check_uid};
use super::stats::Health;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::domain::application::Application;
use crate::domain::endpoint::Endpoint;
use crate::domain::id::EndpointId;
use crate::domain::operational::{EVENT_TYPES, PROFILE};
use crate::error::Result;
use crate::store::catalog::ApplicationEntry;
use crate::store::{Answered, Catalog, Change, Store};

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/api/v1/app/{app_id}/endpoint",
            "v1.endpoint.list",
            web::to(list),
        )
        .summary("List endpoints")
        .description(
            "Those that the caller may see, the newest first unless `order` says otherwise.",
        )
        .parameters(page_parameters(true))
        .parameters(list_parameters())
        .answers::<Listed<ListedEndpoint>>(200, "A page of endpoints"),
        Operation::post(
            "/api/v1/app/{app_id}/endpoint",
            "v1.endpoint.create",
            web::to(create),
        )
        .needs(Action::CreateEndpoints)
        .summary("Register an endpoint")
        .description(
            "From now on, the application's messages that it takes are sent to it. An address that \
             may not be sent to is refused here where that can be told.",
        )
        .once()
        .takes::<WholeEndpointIn>()
        .answers::<EndpointOut>(201, "Registered")
        .answers_nothing(409, UID_TAKEN),
        Operation::get(
            "/api/v1/app/{app_id}/endpoint/{endpoint_id}",
            "v1.endpoint.get",
            web::to(get),
        )
        .summary("Show an endpoint")
        .answers::<EndpointOut>(200, "The endpoint"),
        Operation::put(
            "/api/v1/app/{app_id}/endpoint/{endpoint_id}",
            "v1.endpoint.update",
            web::to(put),
        )
        .needs(Action::ChangeEndpoints)
        .summary("Replace an endpoint, or register it")
        .description(
            "Where the path names a uid that does not exist yet, an endpoint is registered with \
             it. A uid in the path and not in the body stays.",
        )
        .takes::<WholeEndpointIn>()
        .answers::<EndpointOut>(200, "Replaced")
        .answers::<EndpointOut>(201, "Registered")
        .answers_nothing(409, UID_TAKEN),
        Operation::patch(
            "/api/v1/app/{app_id}/endpoint/{endpoint_id}",
            "patch_endpoint",
            web::to(patch),
        )
        .needs(Action::ChangeEndpoints)
        .summary("Change an endpoint")
        .takes::<EndpointIn>()
        .answers::<EndpointOut>(200, "Changed")
        .answers_nothing(409, UID_TAKEN),
        Operation::delete(
            "/api/v1/app/{app_id}/endpoint/{endpoint_id}",
            "v1.endpoint.delete",
            web::to(delete),
        )
        .needs(Action::ChangeEndpoints)
        .summary("Delete an endpoint")
        .description("What was not delivered to it yet is not sent any more.")
        .answers_nothing(204, "Deleted"),
    ]
}

pub fn list_parameters() -> [Parameter; 3] {
    let status = value!({ "type": "string", "enum": ["enabled", "disabled"] });
    [
        search_parameter(
            "Only those with this text in their URL, description or uid, or with this id.",
        ),
        Parameter::query(
            "status",
            "Only those that are enabled, or disabled.",
            status,
        ),
        Parameter::flag(
            "with_health",
            false,
            "Whether to tell how each of them does.",
        ),
    ]
}

/// An endpoint in a list.
#[derive(Serialize, JsonSchema)]
pub struct ListedEndpoint<'a> {
    #[serde(flatten)]
    endpoint: EndpointOut<'a>,
    /// Only where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<&'a Health>,
}

const UID_TAKEN: &str = "Another endpoint of the application has this uid";

pub async fn create(
    request: HttpRequest,
    caller: Caller,
    flags: FeatureFlags,
    context: web::Data<Context>,
    body: Body,
) -> Result<HttpResponse, Failure> {
    let owner = Owner::of(&request);
    owner.reachable(&context, &caller, Action::CreateEndpoints)?;
    let input = owner.input(&caller, &body, Kind::Whole, &context)?;
    input.id.refuse(&["body", "id"])?;
    let once = once(&request, &caller, &body)?;
    let now = context.store.clock().now();
    let config = Arc::clone(&context.config);
    let answer = context
        .store
        .change_once(caller, once, move |catalog| {
            let (entry, made) =
                owner.entry_for_new(&caller, catalog, Action::CreateEndpoints, now)?;
            let mut endpoint = owner.blank(&entry, catalog, now);
            let mut warnings = input.apply_to(&mut endpoint, &config, now)?;
            refuse_too_many(&entry, owner.endpoints_max(&config))?;
            refuse_taken_uid(&entry, &endpoint)?;
            owner.refuse_types(catalog, &flags, None, &endpoint)?;
            warnings.extend(owner.warnings(catalog, &flags, &endpoint));
            let answer = shown(StatusCode::CREATED, &endpoint, &config, &warnings);
            let creation = caller.creation(catalog, endpoint)?;
            Ok((made.into_iter().chain(creation).collect(), answer))
        })
        .await?;
    Ok(respond(answer))
}

pub async fn list(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    let owner = Owner::of(&request);
    owner.entry(&caller, &context.store.catalog(), Action::ReadEndpoints)?;
    let mut query = Query::of(&request);
    let page = query.page::<EndpointId>(&context.config.limits, true);
    let search = query.search();
    let disabled = query.choice("status", &[("enabled", false), ("disabled", true)]);
    let with_health = query.flag("with_health", false);
    query.problems.done()?;
    let stretch = {
        let catalog = context.store.catalog();
        let entry = owner.entry(&caller, &catalog, Action::ReadEndpoints)?;
        let endpoints = entry.map_or(&[][..], |entry| &entry.endpoints).iter();
        let wanted = |endpoint: &&Arc<Endpoint>| {
            let searched = search.as_ref().is_none_or(|search| found(search, endpoint));
            let has_status = disabled.is_none_or(|disabled| endpoint.disabled == disabled);
            has_status && searched && caller.sees_endpoint(&catalog, endpoint)
        };
        page.of(endpoints.filter(wanted).cloned(), |endpoint| endpoint.id)
    };
    let (store, config) = (context.store.clone(), context.config.clone());
    // With all their headers endpoints can be long.
    let read = move || {
        let health = match with_health {
            true => health_of(&store, &stretch.items)?,
            false => Vec::new(),
        };
        let mut healths = health.iter();
        let listed = page.answer(
            stretch,
            |endpoint| endpoint.id,
            |endpoint| {
                shown_in_list(&ListedEndpoint {
                    endpoint: EndpointOut::new(endpoint, &config),
                    health: healths.next(),
                })
            },
        );
        Ok(answered(StatusCode::OK, &listed))
    };
    Ok(respond(reading(&context, &caller, read).await?))
}

fn found(search: &Search, endpoint: &Endpoint) -> bool {
    let uid = endpoint.uid.as_deref().unwrap_or_default();
    search.is_in([&*endpoint.url, &*endpoint.description, uid]) || search.is_id(endpoint.id)
}

/// How each of the endpoints does. Blocks on the disk.
fn health_of(store: &Store, endpoints: &[Arc<Endpoint>]) -> Result<Vec<Health>> {
    let each = endpoints.iter();
    each.map(|endpoint| Health::of(store, endpoint)).collect()
}

/// Whose endpoints a request is about, by its path.
pub enum Owner {
    Application(String),
    /// The organisation itself: its own endpoints, for operational events.
    Organisation,
}

impl Owner {
    pub fn of(request: &HttpRequest) -> Owner {
        match request.match_info().get("app_id") {
            Some(application) => Owner::Application(application.to_owned()),
            None => Owner::Organisation,
        }
    }

    /// What the endpoints stand under; an organisation has none before its first.
    fn entry<'a>(
        &self,
        caller: &Caller,
        catalog: &'a Catalog,
        action: Action,
    ) -> Result<Option<&'a Arc<ApplicationEntry>>> {
        match self {
            Owner::Application(id) => caller.application(catalog, id, action).map(Some),
            Owner::Organisation => {
                caller.may(match action {
                    Action::ReadEndpoints | Action::ReadHistory => Action::ReadOwnEndpoints,
                    _ => Action::OwnEndpoints,
                })?;
                Ok(catalog.operational(caller.organisation))
            }
        }
    }

    /// The same for a new endpoint, and the change that makes it first, where needed.
    fn entry_for_new(
        &self,
        caller: &Caller,
        catalog: &Catalog,
        action: Action,
        now: Timestamp,
    ) -> Result<(Arc<ApplicationEntry>, Option<Change>)> {
        if let Some(entry) = self.entry(caller, catalog, action)? {
            return Ok((Arc::clone(entry), None));
        }
        let application = Application::operational(caller.organisation, now);
        let entry = ApplicationEntry {
            application: application.clone(),
            endpoints: Vec::new(),
        };
        Ok((Arc::new(entry), Some(Change::PutApplication(application))))
    }

    /// The endpoint with this id or uid, for a caller that may do this with it.
    pub fn endpoint<'a>(
        &self,
        caller: &Caller,
        catalog: &'a Catalog,
        id: &str,
        action: Action,
    ) -> Result<&'a Arc<Endpoint>> {
        match self {
            Owner::Application(application) => caller.endpoint(catalog, application, id, action),
            Owner::Organisation => self
                .entry(caller, catalog, action)?
                .and_then(|entry| entry.endpoint(id))
                .ok_or(NOT_FOUND),
        }
    }

    /// Who may not deal with these endpoints hears that before what is wrong with the body.
    fn reachable(&self, context: &Context, caller: &Caller, action: Action) -> Result<()> {
        let catalog = context.store.catalog();
        self.entry(caller, &catalog, action).map(|_| ())
    }

    fn input(
        &self,
        caller: &Caller,
        body: &Body,
        kind: Kind,
        context: &Context,
    ) -> Result<Checked> {
        let input = body.json::<EndpointIn>()?;
        if let Owner::Organisation = self {
            input.refuse_not_operational()?;
        }
        let mut checked = input.checked(kind, context);
        checked.keeps_secrets = caller.keeps_secrets(match self {
            Owner::Application(_) => Action::ReadSecrets,
            // Who may change these may read their secrets.
            Owner::Organisation => Action::OwnEndpoints,
        });
        if let Credential::Session(..) = caller.credential() {
            checked.offered = Some(context.config.offered_profiles(true));
        }
        Ok(checked)
    }

    fn blank(&self, entry: &ApplicationEntry, catalog: &Catalog, now: Timestamp) -> Endpoint {
        let mut endpoint = blank(&entry.application, catalog.next_endpoint_number(), now);
        if let Owner::Organisation = self {
            // Whatever the server's default is for its customers.
            endpoint.profile = Some(PROFILE.to_owned());
        }
        endpoint
    }

    fn endpoints_max(&self, config: &Config) -> usize {
        match self {
            Owner::Application(_) => config.limits.endpoints_per_application_max,
            Owner::Organisation => OWN_ENDPOINTS_MAX,
        }
    }

    /// What was taken and may not be meant.
    fn warnings(
        &self,
        catalog: &Catalog,
        flags: &FeatureFlags,
        endpoint: &Endpoint,
    ) -> Vec<String> {
        match self {
            Owner::Application(_) => unregistered_types(catalog, flags, endpoint),
            // Others than there are are refused.
            Owner::Organisation => Vec::new(),
        }
    }

    /// A filter names what there is: of applications, event types that are not archived.
    fn refuse_types(
        &self,
        catalog: &Catalog,
        flags: &FeatureFlags,
        before: Option<&[String]>,
        endpoint: &Endpoint,
    ) -> Result<()> {
        match self {
            Owner::Application(_) => refuse_archived_types(catalog, flags, before, endpoint),
            Owner::Organisation => refuse_unknown_operational_types(endpoint),
        }
    }
}

/// Whatever happens to an endpoint becomes a message for each of them at once, and so does the end
/// of an application with all its endpoints.
const OWN_ENDPOINTS_MAX: usize = 10;

fn refuse_unknown_operational_types(endpoint: &Endpoint) -> Result<()> {
    let mut problems = Problems::default();
    let names = endpoint.event_types.iter().flatten().enumerate();
    for (index, name) in names.filter(|(_, name)| !EVENT_TYPES.contains(&name.as_str())) {
        let message = format!("{name} is none of {}", EVENT_TYPES.join(", "));
        problems.add(&["body", "eventTypes", &index.to_string()], message);
    }
    problems.done()
}

/// The endpoint that the path names, for a caller that may do this with it.
pub fn named(
    context: &Context,
    caller: &Caller,
    request: &HttpRequest,
    action: Action,
) -> Result<Arc<Endpoint>> {
    let catalog = context.store.catalog();
    let id = path_part(request, "endpoint_id");
    Owner::of(request)
        .endpoint(caller, &catalog, id, action)
        .cloned()
}

pub async fn get(
    request: HttpRequest,
    caller: Caller,
    flags: FeatureFlags,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    let catalog = context.store.catalog();
    let (owner, id) = endpoint_path(&request);
    let endpoint = owner.endpoint(&caller, &catalog, &id, Action::ReadEndpoints)?;
    let warnings = owner.warnings(&catalog, &flags, endpoint);
    let shown = shown(StatusCode::OK, endpoint, &context.config, &warnings);
    Ok(respond(shown))
}

/// Replaces an endpoint, or creates one with the uid in the path. A uid that the path names and
/// the body does not stays: the same request can come again. A uid that belongs to an endpoint
/// which the caller cannot see is taken, as it is when it stands in a body: that much shows.
pub async fn put(
    request: HttpRequest,
    caller: Caller,
    flags: FeatureFlags,
    context: web::Data<Context>,
    body: Body,
) -> Result<HttpResponse, Failure> {
    let owner = Owner::of(&request);
    owner.reachable(&context, &caller, Action::ChangeEndpoints)?;
    let mut input = owner.input(&caller, &body, Kind::Whole, &context)?;
    let id = path_part(&request, "endpoint_id").to_owned();
    let path_is_id = id.parse::<EndpointId>().is_ok();
    if !path_is_id && input.uid.as_set().is_none() {
        let mut problems = Problems::default();
        check_uid(
            &mut problems,
            &["path", "endpoint_id"],
            &id,
            EndpointId::PREFIX,
        );
        problems.done()?;
        input.uid = Patch::Set(id.clone());
    }
    let now = context.store.clock().now();
    let config = Arc::clone(&context.config);
    let answer = context
        .store
        .change(caller, move |catalog| {
            let (entry, made) =
                owner.entry_for_new(&caller, catalog, Action::ChangeEndpoints, now)?;
            let existing = entry.endpoint(&id);
            let existing = existing.filter(|existing| caller.sees_endpoint(catalog, existing));
            let (mut endpoint, status) = match existing {
                Some(existing) => ((**existing).clone(), StatusCode::OK),
                None if path_is_id => return Err(NOT_FOUND),
                None => {
                    owner.entry(&caller, catalog, Action::CreateEndpoints)?;
                    input.id.refuse(&["body", "id"])?;
                    refuse_too_many(&entry, owner.endpoints_max(&config))?;
                    (owner.blank(&entry, catalog, now), StatusCode::CREATED)
                }
            };
            reset(&mut endpoint);
            let mut warnings = input.apply_to(&mut endpoint, &config, now)?;
            endpoint.updated_at = now;
            refuse_taken_uid(&entry, &endpoint)?;
            let before = existing.and_then(|existing| existing.event_types.as_deref());
            owner.refuse_types(catalog, &flags, before, &endpoint)?;
            warnings.extend(owner.warnings(catalog, &flags, &endpoint));
            let answer = shown(status, &endpoint, &config, &warnings);
            let changes = match existing {
                Some(_) => vec![Change::PutEndpoint(endpoint)],
                None => caller.creation(catalog, endpoint)?,
            };
            Ok((made.into_iter().chain(changes).collect(), answer))
        })
        .await?;
    Ok(respond(answer))
}

pub async fn patch(
    request: HttpRequest,
    caller: Caller,
    flags: FeatureFlags,
    context: web::Data<Context>,
    body: Body,
) -> Result<HttpResponse, Failure> {
    named(&context, &caller, &request, Action::ChangeEndpoints)?;
    let input = Owner::of(&request).input(&caller, &body, Kind::Patch, &context)?;
    let config = Arc::clone(&context.config);
    let now = context.store.clock().now();
    let action = Action::ChangeEndpoints;
    let answer = change(&request, &context, caller, flags, action, move |endpoint| {
        input.apply_to(endpoint, &config, now)
    })
    .await?;
    Ok(respond(answer))
}

pub async fn delete(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    let (owner, id) = endpoint_path(&request);
    context
        .store
        .change(caller, move |catalog| {
            let endpoint = owner.endpoint(&caller, catalog, &id, Action::ChangeEndpoints)?;
            let change = Change::DeleteEndpoint(endpoint.application, endpoint.id);
            Ok((vec![change], ()))
        })
        .await?;
    Ok(no_content())
}

fn endpoint_path(request: &HttpRequest) -> (Owner, String) {
    (
        Owner::of(request),
        path_part(request, "endpoint_id").to_owned(),
    )
}

/// Changes the endpoint that the path names, where nothing races with it, and shows it with what the
/// edit warns of.
pub async fn change(
    request: &HttpRequest,
    context: &Context,
    caller: Caller,
    flags: FeatureFlags,
    action: Action,
    edit: impl FnOnce(&mut Endpoint) -> Result<Vec<String>> + Send + 'static,
) -> Result<Answered> {
    let (owner, id) = endpoint_path(request);
    let now = context.store.clock().now();
    let config = Arc::clone(&context.config);
    context
        .store
        .change(caller, move |catalog| {
            let entry = owner.entry(&caller, catalog, action)?.ok_or(NOT_FOUND)?;
            let existing = owner.endpoint(&caller, catalog, &id, action)?;
            let mut endpoint = (**existing).clone();
            let mut warnings = edit(&mut endpoint)?;
            endpoint.updated_at = now;
            refuse_taken_uid(entry, &endpoint)?;
            let before = existing.event_types.as_deref();
            owner.refuse_types(catalog, &flags, before, &endpoint)?;
            warnings.extend(owner.warnings(catalog, &flags, &endpoint));
            let answer = shown(StatusCode::OK, &endpoint, &config, &warnings);
            Ok((vec![Change::PutEndpoint(endpoint)], answer))
        })
        .await
}
