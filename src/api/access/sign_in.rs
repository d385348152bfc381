//! Signing in to the console and the portal: `/api/v1/session`.
//!
//! A credential goes in, and the browser gets a cookie that stands for a visit (`visits`). That is
//! one change of the store. Every request here must have the header that names the surface: a page
//! of another origin can sign nobody in or out.

use std::collections::BTreeSet;

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderMap, SET_COOKIE, USER_AGENT};
use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::credential::{is_in_header, is_plausible, proof, proof_of, refused};
use super::failures;
use super::token_limits::TokenRole;
use super::visit_limits::SignIns;
use super::visits::{self, Meant, PORTALS_PER_BROWSER_MAX, SURFACE, SURFACE_PATTERN};
use crate::api::kit::client_address::ClientAddress;
use crate::api::kit::context::Context;
use crate::api::kit::error::Failure;
use crate::api::kit::extract::{Body, json, no_content, optional_text, text};
use crate::api::kit::operation::{Operation, Parameter};
use crate::catalog::Catalog;
use crate::clock::Timestamp;
use crate::domain::id::{ApplicationId, OrganisationId};
use crate::domain::jwt::Claims;
use crate::domain::token::{Capability, PortalSession, Role};
use crate::domain::visit::{SignedInWith, Surface, USER_AGENT_BYTES_MAX};
use crate::error::{Error, Result};
use crate::rules::caller::{Action, Caller, Credential, Proof};
use crate::rules::checks::{Problems, wrong};
use crate::rules::decision::Itself;
use crate::rules::permits::scope_of_capability;
use crate::rules::visits::{BeginVisit, SignOut};

const FOREIGN: Error = Error::forbidden("only a page of this server signs in and out");

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(extend("required" = ["token"]))]
struct SignInIn {
    /// A credential as it would stand in `Authorization`; for the portal that of a link, or another
    /// that is limited to one application.
    #[schemars(with = "String")]
    token: Option<String>,
}

/// Who is signed in, and what pages may show.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct SessionOut {
    /// Without the rest where it is false.
    signed_in: bool,
    #[serde(flatten)]
    visitor: Option<Visitor>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Visitor {
    #[schemars(extend("enum" = Role::ALL.map(Role::name)))]
    role: &'static str,
    /// The token's name; signed tokens have none.
    name: Option<String>,
    #[serde(serialize_with = "text")]
    organisation_id: OrganisationId,
    /// The only application that it can see.
    #[serde(serialize_with = "optional_text")]
    application_id: Option<ApplicationId>,
    /// The caller came by a link to the portal.
    is_portal_link: bool,
    /// The capabilities of that link, as far as its scopes let it use them.
    capabilities: Option<Vec<&'static str>>,
    #[serde(serialize_with = "optional_text")]
    expires_at: Option<Timestamp>,
    /// All actions that the caller may do, at least somewhere.
    may: Vec<&'static str>,
    /// The applications of a caller that cannot list them.
    applications: Option<Vec<ApplicationName>>,
    /// The profiles to choose from for an endpoint.
    profiles: Vec<String>,
    /// The most days that an API key made through this link lives; null for no such limit.
    api_key_days_max: Option<u32>,
    /// The addresses that requests to endpoints come from, as the operator states them.
    source_addresses: Vec<String>,
    /// Whether the server sends e-mail, to applications' contacts among others.
    mail: bool,
    /// The roles of tokens that the caller may create, with the scopes that each can be limited to;
    /// null where it may create none.
    token_roles: Option<Vec<TokenRole>>,
    version: &'static str,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ApplicationName {
    #[serde(serialize_with = "text")]
    id: ApplicationId,
    uid: Option<String>,
    name: String,
    /// Whether the caller may make endpoints there.
    may_create_endpoints: bool,
}

/// A caller with the details of its credential that pages show.
struct Shown {
    caller: Caller,
    name: Option<String>,
    capabilities: Option<Vec<&'static str>>,
    expires_at: Option<Timestamp>,
}

impl Shown {
    fn of(proof: &Proof) -> Shown {
        let caller = Caller::of(proof);
        match proof {
            Proof::Token(token) => {
                let session = token.session.as_ref();
                let names = |session: &PortalSession| {
                    let all = session.capabilities.iter().copied();
                    let working = all.filter(|one| token.lets(scope_of_capability(*one)));
                    working.map(Capability::name).collect()
                };
                Shown {
                    caller,
                    name: Some(token.name.clone()),
                    capabilities: session.map(names),
                    expires_at: token.expires_at,
                }
            }
            Proof::Signed(claims, _) => Shown {
                caller,
                name: None,
                capabilities: None,
                expires_at: claims.expires_at,
            },
        }
    }

    fn visitor(self, context: &Context) -> Visitor {
        let caller = self.caller;
        let catalog = context.store.catalog();
        let days_max = context.config.portal.api_key_days_max;
        let days_max = self.capabilities.as_ref().map(|_| days_max);
        let addresses = &context.config.delivery.source_addresses;
        let makes_tokens = caller.may(Action::ChangeTokens).is_ok();
        Visitor {
            api_key_days_max: days_max.filter(|days| *days > 0),
            source_addresses: addresses.iter().map(ToString::to_string).collect(),
            mail: context.config.notify.is_on(),
            token_roles: makes_tokens.then(|| TokenRole::offered_to(&caller)),
            role: caller.role().name(),
            name: self.name,
            organisation_id: caller.organisation,
            application_id: caller.own_application(),
            is_portal_link: self.capabilities.is_some(),
            profiles: context.config.offered_profiles(self.capabilities.is_some()),
            capabilities: self.capabilities,
            expires_at: self.expires_at,
            may: caller.may_do(),
            applications: applications(&catalog, &caller),
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// The applications of a caller that cannot list them.
fn applications(catalog: &Catalog, caller: &Caller) -> Option<Vec<ApplicationName>> {
    let ids: Vec<ApplicationId> = match (caller.role(), caller.own_application()) {
        (_, Some(own)) => vec![own],
        (Role::WebhookUser, None) => {
            let token = caller.own_view().and_then(|id| catalog.token(id))?;
            let endpoints = token
                .grants
                .iter()
                .filter_map(|id| catalog.endpoint(caller.organisation, *id));
            let granted = token.applications.iter().flatten().copied();
            let mut ids: Vec<_> = endpoints
                .map(|endpoint| endpoint.application)
                .chain(granted)
                .collect();
            ids.sort_unstable();
            ids.dedup();
            ids
        }
        _ => return None,
    };
    let entries = ids
        .into_iter()
        .filter_map(|id| catalog.application_by_id(id));
    let named = entries.map(|entry| ApplicationName {
        may_create_endpoints: match caller.role() {
            Role::WebhookUser => caller.is_granted(catalog, entry.application.id),
            _ => caller.may_with_some(Action::CreateEndpoints).is_ok(),
        },
        id: entry.application.id,
        uid: entry.application.uid.clone(),
        name: entry.application.name.clone(),
    });
    Some(named.collect())
}

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    let surface = || Parameter {
        name: SURFACE,
        place: "header",
        says: "Whose cookie is meant: that of `console`, or that of an application's portal, \
               `portal:app_…`. `portal` alone means the portal that this browser signed in to last.",
        schema: serde_json::json!({ "type": "string", "pattern": SURFACE_PATTERN }),
    };
    vec![
        Operation::get("/api/v1/session", "v1.session.get", web::to(get))
            .summary("Show who is signed in")
            .parameters([surface()])
            .answers::<SessionOut>(200, "Who it is, or that it is nobody")
            .answers_nothing(
                429,
                "A header has a credential that is not valid, and too many were not within a minute",
            )
            .without_credential(),
        Operation::post("/api/v1/session", "v1.session.create", web::to(sign_in))
            .summary("Sign in to the console or the portal")
            .description(
                "For the pages of this server: the answer sets a cookie that counts only with the \
                 header beside it, one for the console and one for each application's portal. The \
                 session ends after 12 hours without a request, with the credential, and by \
                 `DELETE /api/v1/sessions/{session_id}`.",
            )
            .parameters([surface()])
            .takes::<SignInIn>()
            .answers::<SessionOut>(200, "Signed in")
            .answers_nothing(401, "The credential is not valid")
            .answers_nothing(
                429,
                "Too many sign-ins within a minute: with this credential, with this customer's, or \
                 without a valid one",
            )
            .answers_nothing(
                403,
                "The credential is not one for the portal, or the request is not from a page of this server",
            )
            .without_credential(),
        Operation::delete("/api/v1/session", "v1.session.delete", web::to(sign_out))
            .summary("Sign out")
            .description("A link to the portal that was used to sign in ends, too, for good.")
            .parameters([surface()])
            .answers_nothing(204, "Nobody is signed in any more")
            .answers_nothing(403, "The request is not from a page of this server")
            .without_credential(),
    ]
}

/// Returns whose cookie a request means, if a page of this server sent it.
fn meant(request: &HttpRequest) -> Result<Meant> {
    let headers = request.headers();
    if !visits::is_from_here(headers) {
        return Err(FOREIGN);
    }
    Meant::of(headers).ok_or_else(no_surface)
}

fn no_surface() -> Error {
    wrong(
        &["header", SURFACE],
        "must be console, portal, or portal: with an application's id behind it",
    )
}

pub async fn get(
    request: HttpRequest,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    let headers = request.headers();
    if headers.contains_key(SURFACE) && Meant::of(headers).is_none() {
        return Err(no_surface().into());
    }
    let visitor = match proof(&request).map(|proof| Shown::of(&proof)) {
        Ok(shown) => {
            shown.caller.admitted(&context)?;
            Some(shown.visitor(&context))
        }
        Err(error) => match is_in_header(headers) {
            // Keys could be guessed here, too.
            true => match refused(&request, error) {
                Error::Unauthenticated | Error::SecretForToken => None,
                too_many => return Err(too_many.into()),
            },
            // Pages ask whether somebody is signed in.
            false => None,
        },
    };
    let shown = SessionOut {
        signed_in: visitor.is_some(),
        visitor,
    };
    Ok(json(StatusCode::OK, &shown))
}

pub async fn sign_in(
    request: HttpRequest,
    context: web::Data<Context>,
    sign_ins: web::Data<SignIns>,
    body: Body,
) -> Result<HttpResponse, Failure> {
    let surface = meant(&request)?.surface();
    let input = body.json::<SignInIn>()?;
    let mut problems = Problems::default();
    if input.token.is_none() {
        problems.missing(&["body", "token"]);
    }
    problems.done()?;
    let credential = input.token.unwrap_or_default();
    let credential = zeroize::Zeroizing::new(credential.trim().to_owned());
    let now = context.store.clock().now();
    let (shown, hash, with) = may_sign_in(&request, &context, surface, &credential)?;
    let caller = shown.caller;
    sign_ins
        .admit(hash, caller.payer(), &context.config.limits, now)
        .inspect_err(|_| {
            context.metrics.sign_ins.limited.inc();
        })?;
    let (cookie, key) = visits::new_cookie();
    let application = caller.own_application();
    let (replaced, left) = replaced(&request, &context, surface, application, now);
    let begin = BeginVisit {
        key,
        surface,
        with,
        address: ClientAddress::of(&request, &context).ip,
        user_agent: user_agent(request.headers()),
        replaced,
    };
    let crowded_out = context.decide(caller, begin).await?;
    context.metrics.sessions_crowded_out.inc_by(crowded_out);
    context.metrics.sign_ins.succeeded.inc();
    let visitor = Some(shown.visitor(&context));
    let mut response = json(
        StatusCode::OK,
        &SessionOut {
            signed_in: true,
            visitor,
        },
    );
    for application in left {
        let name = visits::cookie_name(surface, Some(application));
        set_cookie(&mut response, &context, surface, &name, None);
    }
    let name = visits::cookie_name(surface, application);
    set_cookie(&mut response, &context, surface, &name, Some(&cookie));
    Ok(response)
}

/// Returns the caller with this credential, if it is valid and fits the surface; with the
/// credential's hash, and the reference to it for a visit.
fn may_sign_in(
    request: &HttpRequest,
    context: &Context,
    surface: Surface,
    credential: &str,
) -> Result<(Shown, [u8; 32], SignedInWith)> {
    let metrics = &context.metrics.sign_ins;
    let proven = match is_plausible(credential) {
        true => proof_of(request, credential, context).map(|proof| {
            let (hash, with) = signed_in_with(context, credential, &proof);
            (Shown::of(&proof), hash, with)
        }),
        false => Err(Error::Unauthenticated),
    };
    let (shown, hash, with) = proven.map_err(|error| {
        metrics.failed.inc();
        failures::refused(request, Some(credential), error)
    })?;
    let caller = shown.caller.admitted(context)?;
    if surface == Surface::Portal && caller.own_application().is_none() {
        return Err(Error::forbidden(
            "the portal is one application's: its link or its API key opens it",
        ));
    }
    Ok((shown, hash, with))
}

/// Returns the hash of a credential, and the reference to it for a visit.
fn signed_in_with(context: &Context, credential: &str, proof: &Proof) -> ([u8; 32], SignedInWith) {
    let hash: [u8; 32] = Sha256::digest(credential).into();
    let with = match proof {
        Proof::Token(token) => SignedInWith::Token(token.id),
        Proof::Signed(claims, _) => {
            let secret = context.config.auth.jwt_secret.as_ref();
            let secret = secret.expect("it proved this credential a moment ago");
            SignedInWith::Signed {
                claims: Claims::clone(claims),
                seal: secret.seal(&hash),
            }
        }
    };
    (hash, with)
}

/// Returns the browser's `User-Agent`, if it is printable, cut to its longest length.
fn user_agent(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(USER_AGENT)?.to_str().ok()?.trim();
    // Header values that are text are ASCII, so every place is between two characters.
    let text = &text[..text.len().min(USER_AGENT_BYTES_MAX)];
    (!text.is_empty()).then(|| text.to_owned())
}

/// Returns the visits of this browser that end when a new one begins, and the portals that it
/// leaves with that.
fn replaced(
    request: &HttpRequest,
    context: &Context,
    surface: Surface,
    application: Option<ApplicationId>,
    now: Timestamp,
) -> (BTreeSet<[u8; 32]>, Vec<ApplicationId>) {
    let (headers, catalog) = (request.headers(), context.store.catalog());
    match surface {
        Surface::Console => {
            let old = visits::visit_of(headers, &catalog, now);
            let old = old.map(|entry| entry.visit.key);
            (old.into_iter().collect(), Vec::new())
        }
        Surface::Portal => replaced_portals(headers, &catalog, application),
    }
}

/// Returns the same for portals: the browser leaves the oldest, so that the number of cookies has a
/// limit.
fn replaced_portals(
    headers: &HeaderMap,
    catalog: &Catalog,
    new: Option<ApplicationId>,
) -> (BTreeSet<[u8; 32]>, Vec<ApplicationId>) {
    let (same, others): (Vec<_>, Vec<_>) =
        visits::portals(headers, catalog).partition(|entry| entry.visit.application == new);
    let mut replaced: BTreeSet<_> = same.iter().map(|entry| entry.visit.key).collect();
    let begun = |application: ApplicationId| {
        let mut of_it = others
            .iter()
            .filter(|entry| entry.visit.application == Some(application));
        of_it.next().map(|entry| entry.visit.id)
    };
    let mut cookies: Vec<_> = visits::portal_cookies(headers)
        .filter(|application| Some(*application) != new)
        .map(|application| (begun(application), application))
        .collect();
    cookies.sort_unstable();
    cookies.dedup();
    let too_many = (cookies.len() + 1).saturating_sub(PORTALS_PER_BROWSER_MAX);
    cookies.truncate(too_many);
    let left: Vec<_> = cookies.into_iter().map(|(_, one)| one).collect();
    let ended = others.iter().filter(|entry| {
        let application = entry.visit.application;
        application.is_some_and(|application| left.contains(&application))
    });
    replaced.extend(ended.map(|entry| entry.visit.key));
    (replaced, left)
}

pub async fn sign_out(
    request: HttpRequest,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    let meant = meant(&request)?;
    let link = proof(&request).map(|proof| match Caller::of(&proof).credential() {
        Credential::Session(id, _) => Some(id),
        Credential::Token(_) | Credential::Signed { .. } => None,
    });
    let now = context.store.clock().now();
    let visit = {
        let catalog = context.store.catalog();
        let entry = visits::visit_of(request.headers(), &catalog, now);
        entry.map(|entry| (entry.visit.key, entry.visit.application))
    };
    let ended = SignOut {
        visit: visit.map(|(key, _)| key),
        link: link.ok().flatten(),
    };
    if ended.visit.is_some() || ended.link.is_some() {
        context.store.change(Itself(ended)).await?;
    }
    let application = match meant {
        Meant::Portal(application) => Some(application),
        Meant::Console | Meant::AnyPortal => visit.and_then(|(_, application)| application),
    };
    let mut response = no_content();
    let surface = meant.surface();
    if surface == Surface::Console || application.is_some() {
        let name = visits::cookie_name(surface, application);
        set_cookie(&mut response, &context, surface, &name, None);
    }
    Ok(response)
}

/// Sets a cookie, or deletes it. No script can read the cookie, and only the API gets it. Inside a
/// frame of another site, browsers send a cookie only if it is marked for that (`SameSite=None`),
/// is kept apart for that site (`Partitioned`), and the connection is secure. By hand: name and
/// value are plain ASCII without a character that needs escaping, and the crate `cookie` that
/// actix-web has (0.16) does not know `Partitioned`.
fn set_cookie(
    response: &mut HttpResponse,
    context: &Context,
    surface: Surface,
    name: &str,
    value: Option<&str>,
) {
    let config = &context.config;
    let is_framed = surface == Surface::Portal && !config.portal.frame_origins.is_empty();
    let is_secure = config.server.public_url().starts_with("https:");
    let ends = match value {
        Some(_) => "",
        None => "; Max-Age=0",
    };
    let place = match (is_framed, is_secure) {
        (true, _) => "SameSite=None; Secure; Partitioned",
        (false, true) => "SameSite=Strict; Secure",
        (false, false) => "SameSite=Strict",
    };
    let value = value.unwrap_or_default();
    let cookie = format!("{name}={value}{ends}; Path=/api; HttpOnly; {place}");
    let cookie = cookie.parse().expect("all of it is plain ASCII");
    response.headers_mut().append(SET_COOKIE, cookie);
}
