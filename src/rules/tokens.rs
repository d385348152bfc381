//! Tokens and grants: made, revoked, and which endpoints and applications a webhook user has.

use std::collections::BTreeSet;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::caller::{Caller, granted};
use super::checks::{Problems, wrong};
use super::narrowing::narrowed;
use super::permits::Action;
use super::{Command, Decided, View};
use crate::catalog::{Catalog, Change};
use crate::clock::Timestamp;
use crate::domain::endpoint::Endpoint;
use crate::domain::id::{ApplicationId, EndpointId, TokenId};
use crate::domain::scope::Scope;
use crate::domain::token::{GRANTS_MAX, Role, Token};
use crate::error::{Error, Result};

pub const NOT_FOUND: Error = Error::not_found("token");
const NO_GRANT: Error = Error::not_found("grant");

/// The token with this id, for a caller that sees it.
pub fn found<'a>(catalog: &'a Catalog, caller: &Caller, id: &str) -> Result<&'a Token> {
    let id: TokenId = id.parse().map_err(|_| NOT_FOUND)?;
    catalog
        .token(id)
        .map(|token| &**token)
        .filter(|token| caller.sees_token(token))
        .ok_or(NOT_FOUND)
}

/// Makes a token, whose text only its maker knows.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// The SHA-256 of the text.
    pub hash: [u8; 32],
    pub name: String,
    pub role: Role,
    /// The id or uid of the one application of a token of the role application.
    pub application: Option<String>,
    pub grants: BTreeSet<EndpointId>,
    /// The ids or uids of those that are granted to a webhook user, or the only ones that another token
    /// sees.
    pub applications: Option<Vec<String>>,
    pub expires_at: Option<Timestamp>,
    pub description: Option<String>,
    pub scopes: Option<BTreeSet<Scope>>,
    pub allowed_ips: Vec<IpNet>,
}

impl Command for CreateToken {
    type Answer = Token;

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<Token> {
        caller.may(Action::ChangeTokens)?;
        let organisation = caller.organisation;
        let catalog = view.catalog;
        let token = Token {
            application: limited_to(catalog, caller, self.application.as_deref())?,
            expires_at: self.expires_at,
            // An endpoint that was deleted meanwhile is not granted.
            grants: self
                .grants
                .into_iter()
                .filter(|id| catalog.endpoint(organisation, *id).is_some())
                .collect(),
            applications: match (self.role, &self.applications) {
                (Role::WebhookUser, None) => Some(BTreeSet::new()),
                (Role::Application, _) | (_, None) => None,
                (_, Some(ids)) => Some(existing_applications(catalog, caller, ids)?),
            },
            description: self.description,
            scopes: self.scopes,
            allowed_ips: self.allowed_ips,
            ..Token::new(organisation, self.role, self.name, self.hash, view.now)
        };
        let token = narrowed(view, caller, token)?;
        Ok((vec![Change::PutToken(token.clone())], token))
    }
}

fn limited_to(
    catalog: &Catalog,
    caller: &Caller,
    application: Option<&str>,
) -> Result<Option<ApplicationId>> {
    let Some(application) = application else {
        return Ok(None);
    };
    match catalog.application(caller.organisation, application) {
        Some(entry) => Ok(Some(entry.application.id)),
        None => Err(wrong(
            &["body", "applicationId"],
            "there is no such application",
        )),
    }
}

/// Returns the ids of a token's granted applications; an error where one of them does not exist.
fn existing_applications(
    catalog: &Catalog,
    caller: &Caller,
    ids: &[String],
) -> Result<BTreeSet<ApplicationId>> {
    let mut problems = Problems::default();
    let mut granted = BTreeSet::new();
    for (index, id) in ids.iter().enumerate() {
        match catalog.application(caller.organisation, id) {
            Some(entry) => drop(granted.insert(entry.application.id)),
            None => {
                let place = ["body", "applicationIds", &index.to_string()];
                problems.add(&place, "there is no application with this id or uid");
            }
        }
    }
    problems.done().map(|()| granted)
}

/// Revokes a token.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteToken {
    pub token: String,
}

impl Command for DeleteToken {
    type Answer = ();

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<()> {
        caller.may(Action::ChangeTokens)?;
        let token = found(view.catalog, caller, &self.token)?;
        Ok((vec![Change::DeleteToken(token.id)], ()))
    }
}

/// The webhook user with this id, for a caller that may change what is granted to it.
fn webhook_user<'a>(
    catalog: &'a Catalog,
    caller: &Caller,
    id: &str,
    things: &str,
) -> Result<&'a Token> {
    caller.may(Action::ChangeGrants)?;
    let token = found(catalog, caller, id)?;
    let role = token.role.name();
    match token.role {
        Role::WebhookUser => Ok(token),
        _ => Err(Error::Conflict(format!(
            "only a token of the role webhook_user is granted {things}, and this one's role is {role}"
        ))),
    }
}

/// The endpoint with this id, uid or number, whichever application of the organisation it belongs
/// to. Uids are an application's own, so several may have one.
fn endpoint<'a>(catalog: &'a Catalog, caller: &Caller, name: &str) -> Result<&'a Arc<Endpoint>> {
    let applications = catalog.applications(caller.organisation);
    let by_uid = applications.filter_map(|entry| entry.endpoint(name));
    endpoint_among(catalog, caller, name, by_uid)
}

/// Like `endpoint`, among the endpoints that have this uid.
pub fn endpoint_among<'a>(
    catalog: &'a Catalog,
    caller: &Caller,
    name: &str,
    by_uid: impl Iterator<Item = &'a Arc<Endpoint>>,
) -> Result<&'a Arc<Endpoint>> {
    let organisation = caller.organisation;
    let none = Error::not_found("endpoint");
    if let Ok(id) = name.parse::<EndpointId>() {
        return catalog.endpoint(organisation, id).ok_or(none);
    }
    let number = name
        .parse::<u64>()
        .ok()
        .filter(|number| number.to_string() == name);
    let by_number = number
        .and_then(|number| catalog.endpoint_by_number(number))
        .filter(|endpoint| endpoint.organisation == organisation && !endpoint.is_operational());
    let by_uid = by_uid.filter(|endpoint| by_number.is_none_or(|other| other.id != endpoint.id));
    let mut found = by_uid.chain(by_number);
    match (found.next(), found.next()) {
        (Some(endpoint), None) => Ok(endpoint),
        (None, _) => Err(none),
        (Some(_), Some(_)) => Err(Error::Conflict(format!(
            "several endpoints go by {name}; name the one that is meant by its id"
        ))),
    }
}

/// Lets a webhook user see an endpoint. Granting again changes nothing.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantEndpoint {
    pub token: String,
    /// An id, uid or number.
    pub endpoint: String,
}

impl Command for GrantEndpoint {
    type Answer = ();

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<()> {
        let token = webhook_user(view.catalog, caller, &self.token, "endpoints")?;
        let endpoint = endpoint(view.catalog, caller, &self.endpoint)?;
        if token.grants.contains(&endpoint.id) {
            return Ok((Vec::new(), ()));
        }
        let token = granted(view.catalog, token, endpoint.id)?;
        Ok((vec![Change::PutToken(token)], ()))
    }
}

/// Takes an endpoint from a webhook user's sight. An endpoint that is not granted is not found, as
/// with everything else that is deleted twice.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeEndpoint {
    pub token: String,
    /// An id, uid or number.
    pub endpoint: String,
}

impl Command for RevokeEndpoint {
    type Answer = ();

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<()> {
        let mut token = webhook_user(view.catalog, caller, &self.token, "endpoints")?.clone();
        let is_gone = match endpoint(view.catalog, caller, &self.endpoint) {
            Ok(endpoint) => token.grants.remove(&endpoint.id),
            Err(Error::NotFound(_)) => false,
            Err(other) => return Err(other),
        };
        match is_gone {
            true => Ok((vec![Change::PutToken(token)], ())),
            false => Err(NO_GRANT),
        }
    }
}

/// Lets a webhook user make endpoints in an application. Granting again changes nothing.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantApplication {
    pub token: String,
    /// An id or uid.
    pub application: String,
}

impl Command for GrantApplication {
    type Answer = ();

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<()> {
        let catalog = view.catalog;
        let mut token = webhook_user(catalog, caller, &self.token, "applications")?.clone();
        let entry = catalog.application(caller.organisation, &self.application);
        let entry = entry.ok_or(Error::not_found("application"))?;
        let granted = token.applications.get_or_insert_default();
        // Grants of applications that were deleted are dropped: their ids never come back.
        granted.retain(|id| catalog.application_by_id(*id).is_some());
        if !granted.insert(entry.application.id) {
            return Ok((Vec::new(), ()));
        }
        match granted.len() <= GRANTS_MAX {
            true => Ok((vec![Change::PutToken(token)], ())),
            false => Err(Error::TooMany(format!(
                "a webhook user is granted at most {GRANTS_MAX} applications"
            ))),
        }
    }
}

/// Takes the grant to make endpoints in an application from a webhook user; it keeps the endpoints
/// that it made.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeApplication {
    pub token: String,
    /// An id or uid.
    pub application: String,
}

impl Command for RevokeApplication {
    type Answer = ();

    fn decide(self, caller: &Caller, view: &View<'_>) -> Decided<()> {
        let mut token = webhook_user(view.catalog, caller, &self.token, "applications")?.clone();
        let entry = view
            .catalog
            .application(caller.organisation, &self.application);
        let granted = token.applications.get_or_insert_default();
        match entry.is_some_and(|entry| granted.remove(&entry.application.id)) {
            true => Ok((vec![Change::PutToken(token)], ())),
            false => Err(NO_GRANT),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::{Example, NOW, outcome};

    fn create(role: Role) -> CreateToken {
        CreateToken {
            hash: [5; 32],
            name: "new".to_owned(),
            role,
            application: None,
            grants: BTreeSet::new(),
            applications: None,
            expires_at: None,
            description: None,
            scopes: None,
            allowed_ips: Vec::new(),
        }
    }

    fn token(role: Role) -> Token {
        Token::new(
            Example::ORGANISATION,
            role,
            "token".to_owned(),
            [9; 32],
            NOW,
        )
    }

    /// The application `one` with an endpoint, and a webhook user.
    fn example() -> (Example, Token) {
        let user = token(Role::WebhookUser);
        let example = Example::with([
            Change::PutApplication(Example::application()),
            Change::PutEndpoint(Example::new().endpoint()),
            Change::PutToken(user.clone()),
        ]);
        (example, user)
    }

    #[test]
    fn a_token_names_what_exists() {
        let (example, _) = example();
        let one = || Some("one".to_owned());
        let applications = |ids: &[&str]| Some(ids.iter().map(|id| (*id).to_owned()).collect());
        for (command, expected) in [
            (create(Role::Owner), ""),
            (create(Role::WebhookUser), ""),
            (
                CreateToken {
                    application: one(),
                    ..create(Role::Application)
                },
                "",
            ),
            (
                CreateToken {
                    application: Some("two".to_owned()),
                    ..create(Role::Application)
                },
                "body.applicationId: there is no such application",
            ),
            (
                CreateToken {
                    applications: applications(&["one"]),
                    ..create(Role::Viewer)
                },
                "",
            ),
            (
                CreateToken {
                    applications: applications(&["one", "two"]),
                    ..create(Role::Viewer)
                },
                "body.applicationIds.1: there is no application with this id or uid",
            ),
        ] {
            let (role, limits) = (command.role, command.applications.clone());
            let decided = example.decide(command);
            assert_eq!(outcome(&decided), expected);
            let Ok((changes, made)) = decided else {
                continue;
            };
            assert!(matches!(&changes[..], [Change::PutToken(put)] if *put == made));
            let expected = match role {
                Role::WebhookUser => Some(0),
                _ => limits.map(|ids: Vec<String>| ids.len()),
            };
            assert_eq!(made.applications.map(|ids| ids.len()), expected);
        }
        let decided = example.decide_as(&example.publisher(), create(Role::Owner));
        assert_eq!(outcome(&decided), "this token may not do that");
    }

    #[test]
    fn an_endpoint_that_is_gone_is_not_granted() {
        let (example, _) = example();
        let own = example.endpoint().id;
        let command = CreateToken {
            grants: BTreeSet::from([own, EndpointId([8; 20])]),
            ..create(Role::WebhookUser)
        };
        let (_, made) = example.decide(command).unwrap();
        assert_eq!(made.grants, BTreeSet::from([own]));
    }

    #[test]
    fn a_token_is_no_more_than_its_maker() {
        let (mut example, _) = example();
        let maker = Token {
            expires_at: Some(Timestamp(NOW.0 + 1000)),
            scopes: Some(BTreeSet::from([Scope::Tokens, Scope::Read])),
            allowed_ips: vec!["192.0.2.0/24".parse().unwrap()],
            ..token(Role::Owner)
        };
        example.happened(Change::PutToken(maker.clone()));
        let caller = Example::caller(&maker);
        let made = example.decide_as(&caller, create(Role::Owner));
        let (_, made) = made.unwrap();
        assert_eq!(made.expires_at, maker.expires_at);
        assert_eq!(made.scopes, maker.scopes);
        assert_eq!(made.allowed_ips, maker.allowed_ips);
        for (command, expected) in [
            (
                CreateToken {
                    expires_at: Some(Timestamp(NOW.0 + 1001)),
                    ..create(Role::Owner)
                },
                "body.expiresAt: must be at most",
            ),
            (
                CreateToken {
                    scopes: Some(BTreeSet::from([Scope::Publish])),
                    ..create(Role::Owner)
                },
                "body.scopes: must be among those of the token that makes this one",
            ),
            (
                CreateToken {
                    allowed_ips: vec!["192.0.0.0/16".parse().unwrap()],
                    ..create(Role::Owner)
                },
                "body.allowedIps.0: is not within the networks",
            ),
        ] {
            let refused = outcome(&example.decide_as(&caller, command));
            assert!(refused.starts_with(expected), "{refused}");
        }
    }

    #[test]
    fn grants_are_given_once_and_taken_once() {
        let (mut example, user) = example();
        let id = user.id.to_string();
        let has = |user: &Token| {
            let applications = user.applications.as_ref();
            (user.grants.len(), applications.map_or(0, BTreeSet::len))
        };
        let grant = |endpoint: &str| GrantEndpoint {
            token: id.clone(),
            endpoint: endpoint.to_owned(),
        };
        let revoke = || RevokeEndpoint {
            token: id.clone(),
            endpoint: "7".to_owned(),
        };
        let grant_application = |application: &str| GrantApplication {
            token: id.clone(),
            application: application.to_owned(),
        };
        let revoke_application = || RevokeApplication {
            token: id.clone(),
            application: "one".to_owned(),
        };
        for (decided, expected, then) in [
            (example.decide(grant("7")), "", Some((1, 0))),
            (example.decide(grant("8")), "endpoint not found", None),
            (example.decide(revoke()), "grant not found", None),
            (example.decide(grant_application("one")), "", Some((0, 1))),
            (
                example.decide(grant_application("two")),
                "application not found",
                None,
            ),
            (
                example.decide(revoke_application()),
                "grant not found",
                None,
            ),
        ] {
            assert_eq!(outcome(&decided), expected);
            let put = decided.ok().map(|(changes, ())| match &changes[..] {
                [Change::PutToken(user)] => has(user),
                other => panic!("{other:?}"),
            });
            assert_eq!(put, then);
        }
        example.happened(Change::PutToken(Token {
            grants: BTreeSet::from([example.endpoint().id]),
            applications: Some(BTreeSet::from([Example::application().id])),
            ..user
        }));
        for decided in [
            example.decide(grant("7")),
            example.decide(grant_application("one")),
        ] {
            assert!(decided.unwrap().0.is_empty(), "it is granted already");
        }
        assert_eq!(outcome(&example.decide(revoke())), "");
        assert_eq!(outcome(&example.decide(revoke_application())), "");
    }

    #[test]
    fn only_a_webhook_user_is_granted_anything_and_what_is_not_there_is_not_revoked() {
        let (mut example, _) = example();
        let viewer = token(Role::Viewer);
        let id = viewer.id.to_string();
        let delete = || DeleteToken { token: id.clone() };
        assert_eq!(outcome(&example.decide(delete())), "token not found");
        example.happened(Change::PutToken(viewer));
        assert_eq!(outcome(&example.decide(delete())), "");
        let grant = GrantEndpoint {
            token: id.clone(),
            endpoint: "7".to_owned(),
        };
        let expected = "only a token of the role webhook_user is granted endpoints, and this one's role is viewer";
        assert_eq!(outcome(&example.decide(grant)), expected);
    }
}
