//! Bodies of tokens in the native API: the fields that are taken, and those that are shown.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::access::token_limits::{
    ScopeName, checked_description, checked_networks, checked_scopes,
};
use crate::api::kit::extract::{optional_text, text};
use crate::catalog::Catalog;
use crate::clock::Timestamp;
use crate::domain::id::{ApplicationId, EndpointId, TokenId};
use crate::domain::scope::Scope;
use crate::domain::token::{ALLOWED_IPS_MAX, GRANTS_MAX, Role, Token};
use crate::error::Result;
use crate::rules::checks::{DESCRIPTION_BYTES_MAX, NAME_BYTES_MAX, Problems, check_name};
use crate::store::LastUse;

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(extend("required" = ["name", "role"]))]
pub struct TokenIn {
    /// A name for people.
    #[schemars(with = "String", length(min = 1, max = NAME_BYTES_MAX))]
    name: Option<String>,
    /// The role, which says what the token's bearer may do.
    #[schemars(with = "String", extend("enum" = Role::ALL.map(Role::name)))]
    role: Option<String>,
    /// The id or uid of the one application that a token of the role application is limited to;
    /// needed there, and refused with any other role.
    application_id: Option<String>,
    /// The endpoints that a webhook user is granted from the beginning, by their ids, uids or
    /// numbers; refused with any other role.
    #[schemars(length(max = GRANTS_MAX))]
    endpoint_ids: Option<Vec<String>>,
    /// The ids or uids of applications. A webhook user may make endpoints in these. For a token of
    /// another role, only these exist; all of the organisation where absent. Refused with the role
    /// application, which has `applicationId`.
    #[schemars(length(max = GRANTS_MAX))]
    application_ids: Option<Vec<String>>,
    /// When the token stops being valid, in the future; never where absent.
    #[schemars(extend("format" = "date-time"))]
    expires_at: Option<String>,
    /// A description for people, such as the token's purpose.
    #[schemars(length(max = DESCRIPTION_BYTES_MAX))]
    description: Option<String>,
    /// The only groups of operations that the token may do, within its role; all that the role may
    /// where absent.
    #[schemars(with = "Option<Vec<ScopeName>>")]
    scopes: Option<Vec<String>>,
    /// The only networks or addresses that the token may be used from; everywhere where absent.
    /// Behind a proxy they are its clients', if `server.trusted_proxies` names it.
    #[schemars(length(max = ALLOWED_IPS_MAX))]
    allowed_ips: Option<Vec<String>>,
}

/// A body that is valid by itself. The catalog decides whether the application and the endpoints
/// exist.
#[derive(Debug)]
pub struct CheckedToken {
    pub name: String,
    pub role: Role,
    pub application: Option<String>,
    pub endpoints: Vec<String>,
    /// The applications that are granted to a webhook user, or the only ones that another token
    /// sees.
    pub applications: Option<Vec<String>>,
    pub expires_at: Option<Timestamp>,
    pub description: Option<String>,
    pub scopes: Option<BTreeSet<Scope>>,
    pub allowed_ips: Vec<IpNet>,
}

impl TokenIn {
    pub fn checked(self, now: Timestamp) -> Result<CheckedToken> {
        let mut problems = Problems::default();
        match &self.name {
            Some(name) => check_name(&mut problems, &["body", "name"], name),
            None => problems.missing(&["body", "name"]),
        }
        let role = match self.role.as_deref().map(str::parse::<Role>) {
            Some(Ok(role)) => Some(role),
            Some(Err(())) => {
                let names = Role::ALL.map(Role::name).join(", ");
                problems.add(&["body", "role"], format!("must be one of {names}"));
                None
            }
            None => {
                problems.missing(&["body", "role"]);
                None
            }
        };
        match (role, &self.application_id) {
            (Some(Role::Application), None) => problems.missing(&["body", "applicationId"]),
            (Some(Role::Application), Some(_)) | (_, None) | (None, _) => {}
            (Some(_), Some(_)) => {
                let message = "only a token of the role application is limited to one";
                problems.add(&["body", "applicationId"], message);
            }
        }
        let endpoints = self.endpoint_ids.unwrap_or_default();
        if !endpoints.is_empty() && role.is_some_and(|role| role != Role::WebhookUser) {
            let message = "only a token of the role webhook_user is granted any";
            problems.add(&["body", "endpointIds"], message);
        }
        let applications = self.application_ids;
        check_applications(&mut problems, role, applications.as_deref());
        for (field, ids) in [
            ("endpointIds", Some(&endpoints)),
            ("applicationIds", applications.as_ref()),
        ] {
            if ids.is_some_and(|ids| ids.len() > GRANTS_MAX) {
                let message = format!("must have at most {GRANTS_MAX} items");
                problems.add(&["body", field], message);
            }
        }
        let is_limited = role != Some(Role::WebhookUser) && applications.is_some();
        let scopes = self.scopes.as_deref();
        let scopes = role.and_then(|role| checked_scopes(&mut problems, scopes, role, is_limited));
        let description = checked_description(&mut problems, self.description);
        let allowed_ips = checked_networks(&mut problems, self.allowed_ips.as_deref());
        let expires_at = checked_end(&mut problems, self.expires_at.as_deref(), now);
        problems.done()?;
        Ok(CheckedToken {
            name: self.name.unwrap_or_default(),
            role: role.expect("without a problem there is a role"),
            application: self.application_id,
            endpoints,
            applications,
            expires_at,
            description,
            scopes,
            allowed_ips,
        })
    }
}

fn check_applications(problems: &mut Problems, role: Option<Role>, ids: Option<&[String]>) {
    let message = match (role, ids) {
        (Some(Role::Application), Some([_, ..])) => {
            "a token of the role application is limited to one, by applicationId"
        }
        (Some(Role::WebhookUser | Role::Application) | None, _) | (_, None | Some([_, ..])) => {
            return;
        }
        (Some(_), Some([])) => "must name at least one; leave it out for all of the organisation",
    };
    problems.add(&["body", "applicationIds"], message);
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenOut<'a> {
    #[serde(serialize_with = "text")]
    id: TokenId,
    /// The credential itself, only in the answer that creates it: it cannot be shown again.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    name: &'a str,
    #[schemars(extend("enum" = Role::ALL.map(Role::name)))]
    role: &'static str,
    /// The application that the token is limited to.
    #[serde(serialize_with = "optional_text")]
    application_id: Option<ApplicationId>,
    /// The name of that application; null where there is none, or it was deleted.
    application_name: Option<String>,
    /// The endpoints that a webhook user sees; absent for other roles.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint_ids: Option<Vec<EndpointId>>,
    /// The same endpoints with their applications.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoints: Option<Vec<GrantedEndpoint>>,
    /// The applications in which a webhook user may make endpoints, or the only ones that exist for
    /// another token; absent for a token that sees all of the organisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    application_ids: Option<Vec<ApplicationId>>,
    /// The same applications with their names.
    #[serde(skip_serializing_if = "Option::is_none")]
    applications: Option<Vec<GrantedApplication>>,
    /// The endpoint that the token configures where it is an account (Ocrolus).
    #[serde(skip_serializing_if = "Option::is_none")]
    account_endpoint: Option<TokenAccountEndpoint>,
    /// The link to the portal through which an API key was made; absent for others.
    #[serde(skip_serializing_if = "Option::is_none")]
    made_by_link: Option<LinkOut<'a>>,
    #[serde(serialize_with = "text")]
    created_at: Timestamp,
    #[serde(serialize_with = "optional_text")]
    expires_at: Option<Timestamp>,
    /// The time of its last use, to the minute; null where it was not used yet.
    #[serde(serialize_with = "optional_text")]
    last_used_at: Option<Timestamp>,
    /// The address of its last use; a trusted proxy's own where the proxy named no client. Null
    /// where none was noted.
    #[serde(serialize_with = "optional_text")]
    last_used_from: Option<IpAddr>,
    description: Option<&'a str>,
    /// The only groups of operations that the token may do; null for all that the role may.
    #[schemars(with = "Option<Vec<ScopeName>>")]
    scopes: Option<Vec<&'static str>>,
    /// The only networks that the token may be used from; null for everywhere.
    allowed_ips: Option<Vec<String>>,
}

/// The names of the scopes that a token is limited to.
pub fn scope_names(token: &Token) -> Option<Vec<&'static str>> {
    let scopes = token.scopes.as_ref()?;
    Some(scopes.iter().copied().map(Scope::name).collect())
}

/// The networks that a token is limited to.
pub fn network_texts(token: &Token) -> Option<Vec<String>> {
    let networks = &token.allowed_ips;
    (!networks.is_empty()).then(|| networks.iter().map(IpNet::to_string).collect())
}

/// An endpoint that a webhook user sees.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct GrantedEndpoint {
    #[serde(serialize_with = "text")]
    id: EndpointId,
    url: String,
    #[serde(serialize_with = "text")]
    application_id: ApplicationId,
    application_name: String,
}

/// An application in which a webhook user may make endpoints, or that a token is limited to.
#[derive(Serialize, JsonSchema)]
struct GrantedApplication {
    #[serde(serialize_with = "text")]
    id: ApplicationId,
    uid: Option<String>,
    name: String,
}

/// The endpoint of a token that is an account.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AccountEndpoint")]
pub struct TokenAccountEndpoint {
    #[serde(serialize_with = "text")]
    id: EndpointId,
    url: String,
}

impl TokenAccountEndpoint {
    /// Returns the account's endpoint; none where the token has none, or it was deleted.
    pub fn of(catalog: &Catalog, token: &Token) -> Option<TokenAccountEndpoint> {
        let endpoint = catalog.endpoint(token.organisation, token.account_endpoint?)?;
        Some(TokenAccountEndpoint {
            id: endpoint.id,
            url: endpoint.url.clone(),
        })
    }
}

/// The link to the portal through which an API key was made; `expire-all` ends it with the link.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinkOut<'a> {
    /// The platform's own name for the session, where it gave one.
    session_id: Option<&'a str>,
}

impl<'a> LinkOut<'a> {
    pub fn of(token: &'a Token) -> Option<LinkOut<'a>> {
        let made_by = token.made_by.as_ref()?;
        Some(LinkOut {
            session_id: made_by.session.as_deref(),
        })
    }
}

/// The application's name, if it exists.
fn name_of(catalog: &Catalog, application: ApplicationId) -> Option<String> {
    let entry = catalog.application_by_id(application)?;
    Some(entry.application.name.clone())
}

impl<'a> TokenOut<'a> {
    pub fn new(catalog: &Catalog, token: &'a Token, last_use: LastUse) -> Self {
        let grants = || {
            let ids = token.grants.iter();
            let existing = ids.filter_map(|id| catalog.endpoint(token.organisation, *id));
            existing.map(|endpoint| GrantedEndpoint {
                id: endpoint.id,
                url: endpoint.url.clone(),
                application_id: endpoint.application,
                application_name: name_of(catalog, endpoint.application).unwrap_or_default(),
            })
        };
        let endpoints: Option<Vec<_>> =
            (token.role == Role::WebhookUser).then(|| grants().collect());
        let applications = token.applications.as_ref().map(|granted| {
            let existing = granted
                .iter()
                .filter_map(|id| catalog.application_by_id(*id));
            let named = existing.map(|entry| GrantedApplication {
                id: entry.application.id,
                uid: entry.application.uid.clone(),
                name: entry.application.name.clone(),
            });
            named.collect::<Vec<_>>()
        });
        TokenOut {
            id: token.id,
            token: None,
            name: &token.name,
            role: token.role.name(),
            application_id: token.application,
            application_name: token.application.and_then(|id| name_of(catalog, id)),
            endpoint_ids: endpoints
                .as_ref()
                .map(|endpoints| endpoints.iter().map(|one| one.id).collect()),
            endpoints,
            application_ids: applications
                .as_ref()
                .map(|applications| applications.iter().map(|one| one.id).collect()),
            applications,
            account_endpoint: TokenAccountEndpoint::of(catalog, token),
            made_by_link: LinkOut::of(token),
            created_at: token.created_at,
            expires_at: token.expires_at,
            last_used_at: last_use.at,
            last_used_from: last_use.from,
            description: token.description.as_deref(),
            scopes: scope_names(token),
            allowed_ips: network_texts(token),
        }
    }

    /// Shows a token with its credential, for the answer to its creation.
    pub fn created(catalog: &Catalog, token: &'a Token, credential: &'a str) -> Self {
        TokenOut {
            token: Some(credential),
            ..TokenOut::new(catalog, token, LastUse::default())
        }
    }
}

/// Reads the end of a token, which must be in the future.
pub fn checked_end(
    problems: &mut Problems,
    expires_at: Option<&str>,
    now: Timestamp,
) -> Option<Timestamp> {
    match expires_at.map(str::parse::<Timestamp>) {
        None => None,
        Some(Ok(end)) if end > now => Some(end),
        Some(Ok(_)) => {
            problems.add(&["body", "expiresAt"], "must lie in the future");
            None
        }
        Some(Err(_)) => {
            let message = "must be an RFC 3339 date and time";
            problems.add(&["body", "expiresAt"], message);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    #[test]
    fn a_token_needs_a_role_and_what_belongs_to_its_role() {
        for (text, expected) in [
            (r#"{"name":"n","role":"owner"}"#, vec![]),
            (
                r#"{"name":"n","role":"application","applicationId":"c","expiresAt":"2040-01-01T00:00:00Z"}"#,
                vec![],
            ),
            ("{}", vec!["body.name", "body.role"]),
            (r#"{"name":"n","role":"king"}"#, vec!["body.role"]),
            (
                r#"{"name":"n","role":"application"}"#,
                vec!["body.applicationId"],
            ),
            (
                r#"{"name":"n","role":"owner","applicationId":"c"}"#,
                vec!["body.applicationId"],
            ),
            (
                r#"{"name":"n","role":"webhook_user","endpointIds":["e"]}"#,
                vec![],
            ),
            (
                r#"{"name":"n","role":"publisher","applicationId":"c","endpointIds":[]}"#,
                vec!["body.applicationId"],
            ),
            (
                r#"{"name":"n","role":"webhook_admin","endpointIds":["e"]}"#,
                vec!["body.endpointIds"],
            ),
            (
                r#"{"name":"n","role":"viewer","applicationIds":["a"],"scopes":["read"],
                    "allowedIps":["192.0.2.7"],"description":"d"}"#,
                vec![],
            ),
            (
                r#"{"name":"n","role":"viewer","applicationIds":[],"scopes":[],"allowedIps":[]}"#,
                vec!["body.applicationIds", "body.scopes", "body.allowedIps"],
            ),
            (
                r#"{"name":"n","role":"application","applicationId":"c","applicationIds":["a"]}"#,
                vec!["body.applicationIds"],
            ),
            (
                r#"{"name":"n","role":"owner","applicationIds":["a"],"scopes":["read","status"]}"#,
                vec!["body.scopes.1"],
            ),
            (
                r#"{"name":"n","role":"king","applicationId":"c","endpointIds":["e"]}"#,
                vec!["body.role"],
            ),
            (
                r#"{"name":"n","role":"owner","expiresAt":"2020-01-01T00:00:00Z"}"#,
                vec!["body.expiresAt"],
            ),
            (
                r#"{"name":"n","role":"owner","expiresAt":"soon"}"#,
                vec!["body.expiresAt"],
            ),
        ] {
            let input: TokenIn = serde_json::from_str(text).unwrap();
            let places: Vec<String> = match input.checked(NOW) {
                Ok(_) => Vec::new(),
                Err(Error::Invalid(all)) => all.iter().map(|one| one.location.join(".")).collect(),
                Err(other) => panic!("{other}"),
            };
            assert_eq!(places, expected, "{text}");
        }
    }

    #[test]
    fn a_token_is_shown_without_text_and_hash() {
        let organisation = crate::domain::id::OrganisationId([1; 20]);
        let token = Token::new(organisation, Role::Owner, "n".to_owned(), [7; 32], NOW);
        let shown = |token: &Token| {
            serde_json::to_value(TokenOut::new(
                &Catalog::default(),
                token,
                LastUse::default(),
            ))
        };
        let body = shown(&token).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "id": token.id.to_string(), "name": "n", "role": "owner", "applicationId": null,
                "applicationName": null,
                "createdAt": "2023-11-14T22:13:20.000Z", "expiresAt": null, "lastUsedAt": null,
                "lastUsedFrom": null, "description": null, "scopes": null, "allowedIps": null,
            })
        );
        let user = Token {
            role: Role::WebhookUser,
            grants: BTreeSet::from([EndpointId::at(NOW)]),
            ..token
        };
        let ids = &shown(&user).unwrap()["endpointIds"];
        assert_eq!(*ids, serde_json::json!([]), "that endpoint does not exist");
    }
}
