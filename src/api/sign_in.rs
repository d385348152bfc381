//! Signing in to the console and the portal: `/api/v1/session`.
//!
//! A credential goes in, and the browser gets a cookie that stands for a visit (`visits`). Everything
//! here wants the header that names the surface: a page of another origin can neither sign anybody
//! in nor out.

use actix_web::http::StatusCode;
use actix_web::http::header::SET_COOKIE;
use actix_web::{HttpRequest, HttpResponse, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::access::{Action, Caller, Credential};
use super::credential::{Proof, is_in_header, is_plausible, refused, with_proof, with_proof_of};
use super::error::Failure;
use super::extract::{Body, json, no_content, optional_text, text};
use super::operation::{Operation, Parameter};
use super::rules::{Problems, wrong};
use super::visits::{SURFACE, Surface};
use super::{Context, failures};
use crate::clock::Timestamp;
use crate::domain::id::{ApplicationId, OrganisationId};
use crate::domain::token::{Capability, PortalSession, Role};
use crate::error::{Error, Result};
use crate::store::{Catalog, Change};

const FOREIGN: Error = Error::Forbidden("only a page of this server signs in and out");

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
    /// It came by a link to the portal.
    is_portal_link: bool,
    /// What that link allows.
    capabilities: Option<Vec<&'static str>>,
    #[serde(serialize_with = "optional_text")]
    expires_at: Option<Timestamp>,
    /// All that it may do, if perhaps not everywhere.
    may: Vec<&'static str>,
    /// The applications of those that cannot list them.
    applications: Option<Vec<ApplicationName>>,
    /// The profiles to choose from for an endpoint.
    profiles: Vec<String>,
    /// How long API keys live at most that are made through this link; null where that has no limit.
    api_key_days_max: Option<u32>,
    version: &'static str,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ApplicationName {
    #[serde(serialize_with = "text")]
    id: ApplicationId,
    uid: Option<String>,
    name: String,
    /// Whether it may make endpoints there.
    may_create_endpoints: bool,
}

/// What a proof says beyond what a caller may do.
struct Shown {
    caller: Caller,
    name: Option<String>,
    capabilities: Option<Vec<&'static str>>,
    expires_at: Option<Timestamp>,
}

impl Shown {
    fn of(proof: Proof<'_>) -> Shown {
        let caller = Caller::of(&proof);
        match proof {
            Proof::Token(token) => {
                let session = token.session.as_ref();
                let names = |session: &PortalSession| {
                    let all = session.capabilities.iter();
                    all.copied().map(Capability::name).collect()
                };
                Shown {
                    caller,
                    name: Some(token.name.clone()),
                    capabilities: session.map(names),
                    expires_at: token.expires_at,
                }
            }
            Proof::Signed(claims) => Shown {
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
        Visitor {
            api_key_days_max: days_max.filter(|days| *days > 0),
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

/// The applications that a caller deals with who cannot list them.
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
        says: "Whose cookie is meant.",
        schema: serde_json::json!({
            "type": "string", "enum": Surface::ALL.map(Surface::name),
        }),
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
                 header beside it. The visit ends with the server, after 12 hours without a \
                 request, and with the credential.",
            )
            .parameters([surface()])
            .takes::<SignInIn>()
            .answers::<SessionOut>(200, "Signed in")
            .answers_nothing(401, "There is no such credential")
            .answers_nothing(
                429,
                "There is no such credential, and too many failed within a minute",
            )
            .answers_nothing(
                403,
                "It is not one for the portal, or no page of this server asks",
            )
            .without_credential(),
        Operation::delete("/api/v1/session", "v1.session.delete", web::to(sign_out))
            .summary("Sign out")
            .description("What a portal link gave is ended with it, for good.")
            .parameters([surface()])
            .answers_nothing(204, "Nobody is signed in any more")
            .answers_nothing(403, "No page of this server asks")
            .without_credential(),
    ]
}

/// The surface that is meant, named by a page of ours.
fn surface(request: &HttpRequest) -> Result<Surface> {
    let headers = request.headers();
    if !super::visits::is_from_here(headers) {
        return Err(FOREIGN);
    }
    Surface::of(headers).ok_or_else(no_surface)
}

fn no_surface() -> Error {
    wrong(&["header", SURFACE], "must be console or portal")
}

pub async fn get(
    request: HttpRequest,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    let headers = request.headers();
    if headers.contains_key(SURFACE) && Surface::of(headers).is_none() {
        return Err(no_surface().into());
    }
    let visitor = match with_proof(&request, Shown::of) {
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
    body: Body,
) -> Result<HttpResponse, Failure> {
    let surface = surface(&request)?;
    let input = body.json::<SignInIn>()?;
    let mut problems = Problems::default();
    if input.token.is_none() {
        problems.missing(&["body", "token"]);
    }
    problems.done()?;
    let credential = input.token.unwrap_or_default();
    let credential = zeroize::Zeroizing::new(credential.trim().to_owned());
    let now = context.store.clock().now();
    let proven = match is_plausible(&credential) {
        true => with_proof_of(&request, &credential, &context, Shown::of),
        false => Err(Error::Unauthenticated),
    };
    let shown =
        proven.map_err(|error| failures::refused(&request, &context, Some(&credential), error))?;
    let payer = shown.caller.admitted(&context)?.payer();
    if surface == Surface::Portal && shown.caller.own_application().is_none() {
        return Err(Error::Forbidden(
            "the portal is one application's: its link or its API key opens it",
        )
        .into());
    }
    let visitor = Some(shown.visitor(&context));
    // Whoever was signed in here before is not any more.
    context.visits.end(request.headers());
    let cookie = context.visits.begin(surface, payer, &credential, now);
    let mut response = json(
        StatusCode::OK,
        &SessionOut {
            signed_in: true,
            visitor,
        },
    );
    set_cookie(&mut response, &context, surface, Some(&cookie));
    Ok(response)
}

pub async fn sign_out(
    request: HttpRequest,
    context: web::Data<Context>,
) -> Result<HttpResponse, Failure> {
    let surface = surface(&request)?;
    let link = with_proof(&request, |proof| match Caller::of(&proof).credential() {
        Credential::Session(id, _) => Some(id),
        Credential::Token(_) | Credential::Signed { .. } => None,
    });
    context.visits.end(request.headers());
    if let Ok(Some(id)) = link {
        context
            .store
            .change(move |_| Ok((vec![Change::DeleteToken(id)], ())))
            .await?;
    }
    let mut response = no_content();
    set_cookie(&mut response, &context, surface, None);
    Ok(response)
}

/// Sets the surface's cookie, or takes it away. No script reads it, and only the API gets it. Inside a
/// frame of another site browsers send it only if it says that it is for that (`SameSite=None`), is
/// kept apart for that site (`Partitioned`), and the connection is secure.
fn set_cookie(
    response: &mut HttpResponse,
    context: &Context,
    surface: Surface,
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
    let cookie = format!(
        "{}={}{ends}; Path=/api; HttpOnly; {place}",
        surface.cookie(),
        value.unwrap_or_default(),
    );
    let cookie = cookie.parse().expect("all of it is plain ASCII");
    response.headers_mut().insert(SET_COOKIE, cookie);
}
