//! Sessions of the console and the portal in browsers, and ending them: `/api/v1/sessions`.
//!
//! A caller that may revoke tokens sees the sessions of the whole organisation. Everybody else sees
//! those that were begun with the same credential as this request has: for a link to the portal its
//! own.

use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::visits;
use crate::api::kit::context::Context;
use crate::api::kit::error::Failure;
use crate::api::kit::extract::{Body, no_content, optional_text, path_part, respond, text};
use crate::api::kit::operation::{Operation, Parameter, anybody};
use crate::api::kit::page::{Listed, page_parameters, shown};
use crate::api::kit::query::Query;
use crate::catalog::{Catalog, VisitEntry};
use crate::clock::Timestamp;
use crate::domain::id::{ApplicationId, VisitId};
use crate::domain::token::Token;
use crate::domain::visit::{SignedInWith, Surface};
use crate::error::Result;
use crate::rules::caller::Caller;
use crate::rules::visits::{EndVisit, EndVisits, Sight};

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct SignedInOut<'a> {
    #[serde(serialize_with = "text")]
    id: VisitId,
    #[schemars(extend("enum" = Surface::ALL.map(Surface::name)))]
    surface: &'static str,
    /// The application that the credential is limited to; null where it has no such limit.
    #[serde(serialize_with = "optional_text")]
    application_id: Option<ApplicationId>,
    application_name: Option<&'a str>,
    /// The name of the token that somebody signed in with; signed tokens have none.
    name: Option<&'a str>,
    /// Somebody came by a link to the portal.
    is_portal_link: bool,
    /// The platform's own name for that link.
    link_session_id: Option<&'a str>,
    /// Where the sign-in came from.
    #[serde(serialize_with = "text")]
    address: std::net::IpAddr,
    /// The browser's header `User-Agent`, at most 256 bytes of it.
    user_agent: Option<&'a str>,
    #[serde(serialize_with = "text")]
    begun_at: Timestamp,
    /// The time of the last request; after a restart of the server it may be some minutes before
    /// that.
    #[serde(serialize_with = "text")]
    seen_at: Timestamp,
    /// This request belongs to this session.
    current: bool,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct SessionsExpireIn {
    /// End the session that this request belongs to, too.
    current: Option<bool>,
    /// Only sessions that were begun with the same credential as this request has.
    own: Option<bool>,
}

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    let own = Parameter::flag(
        "own",
        false,
        "Only sessions that were begun with the credential of this request.",
    );
    // A fixed name comes before the place of any id.
    vec![
        Operation::get("/api/v1/sessions", "v1.session.list", web::to(list))
            .summary("List who is signed in to the console and the portal")
            .description(
                "Who may revoke tokens sees all sessions of the organisation; everybody else those \
                 that were begun with the same credential. The newest come first.",
            )
            .parameters(page_parameters(true))
            .parameters([own])
            .answers::<Listed<SignedInOut>>(200, "A page of sessions"),
        Operation::post(
            "/api/v1/sessions/expire-all",
            "v1.session.expire-all",
            web::to(expire_all),
        )
        .needs_to_be(anybody)
        .summary("Sign all other browsers out")
        .description(
            "All sessions that the caller can list end, but for the one that this request belongs \
             to. Credentials hold as before.",
        )
        .may_take::<SessionsExpireIn>()
        .answers_nothing(204, "They are signed out"),
        Operation::delete(
            "/api/v1/sessions/{session_id}",
            "v1.session.delete-other",
            web::to(delete),
        )
        .needs_to_be(anybody)
        .summary("Sign a browser out")
        .description(
            "The session ends; the credential that it was begun with holds as before, and so does \
             a link to the portal.",
        )
        .answers_nothing(204, "It is signed out"),
    ]
}

pub async fn list(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    let mut query = Query::of(&request);
    let page = query.page::<VisitId>(&context.config.limits, true);
    let own = query.flag("own", false);
    query.problems.done()?;
    let now = context.store.clock().now();
    let catalog = context.store.catalog();
    let sight = Sight::of(&caller, &catalog, own)?;
    let current = visits::visit_of(request.headers(), &catalog, now);
    let current = current.map(|entry| entry.visit.id);
    let seen = catalog
        .visits()
        .filter(|entry| sight.sees(&entry.visit) && !catalog.is_over(entry, now));
    let listed = page.list(
        seen,
        |entry| entry.visit.id,
        |entry| shown(&out(&catalog, entry, current)),
    );
    Ok(respond(listed))
}

fn out<'a>(
    catalog: &'a Catalog,
    entry: &'a VisitEntry,
    current: Option<VisitId>,
) -> SignedInOut<'a> {
    let visit = &entry.visit;
    let token: Option<&Token> = match &visit.with {
        SignedInWith::Token(id) => catalog.token(*id).map(|token| &**token),
        SignedInWith::Signed { .. } => None,
    };
    let application = visit
        .application
        .and_then(|id| catalog.application_by_id(id));
    let link = token.and_then(|token| token.session.as_ref());
    SignedInOut {
        id: visit.id,
        surface: visit.surface.name(),
        application_id: visit.application,
        application_name: application.map(|entry| entry.application.name.as_str()),
        name: token.map(|token| token.name.as_str()),
        is_portal_link: link.is_some(),
        link_session_id: link.and_then(|link| link.id.as_deref()),
        address: visit.address,
        user_agent: visit.user_agent.as_deref(),
        begun_at: visit.begun_at,
        seen_at: entry.seen_at(),
        current: current == Some(visit.id),
    }
}

pub async fn delete(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    let visit = path_part(&request, "session_id").parse::<VisitId>().ok();
    context.decide(caller, EndVisit { visit }).await?;
    Ok(no_content())
}

pub async fn expire_all(
    request: HttpRequest,
    caller: Caller,
    context: web::Data<Context>,
    body: Body,
) -> Result<HttpResponse, Failure> {
    let input = body.json_or_default::<SessionsExpireIn>()?;
    let now = context.store.clock().now();
    let spared = match input.current {
        Some(true) => None,
        _ => {
            let catalog = context.store.catalog();
            let current = visits::visit_of(request.headers(), &catalog, now);
            current.map(|entry| entry.visit.id)
        }
    };
    let command = EndVisits {
        own: input.own == Some(true),
        spared,
        begun_by: now,
    };
    while context.decide(caller, command).await? {}
    Ok(no_content())
}
