//! The limits of a token beside its role: scopes, networks and an end.
//!
//! A body's limits are checked here by themselves. `rules::narrowing` narrows them to the limits of
//! the token that makes the new one.

use std::collections::BTreeSet;

use actix_web::HttpRequest;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::kit::client_address::ClientAddress;
use crate::api::kit::context::Context;
use crate::domain::network;
use crate::domain::scope::Scope;
use crate::domain::token::{ALLOWED_IPS_MAX, Role, Token};
use crate::error::{Error, Result};
use crate::rules::caller::Caller;
use crate::rules::checks::{Problems, check_description};
use crate::rules::permits::usable_scopes;
use crate::rules::scopes::Scopes;

/// The names of scopes, for the document.
#[derive(JsonSchema)]
#[schemars(rename = "Scope", extend("enum" = Scope::ALL.map(Scope::name)))]
pub struct ScopeName(#[allow(dead_code, reason = "only its schema is used")] String);

/// A role, and the scopes that a token of it can be limited to.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenRole {
    #[schemars(extend("enum" = Role::ALL.map(Role::name)))]
    role: &'static str,
    #[schemars(with = "Vec<ScopeName>")]
    scopes: Vec<&'static str>,
    /// The scopes for a token that is limited to some applications, too.
    #[schemars(with = "Vec<ScopeName>")]
    scopes_within_applications: Vec<&'static str>,
}

impl TokenRole {
    /// Returns the roles and scopes that a caller may give the tokens that it makes: none beyond
    /// its own scopes.
    pub fn offered_to(caller: &Caller) -> Vec<TokenRole> {
        let own = |scope: &Scope| caller.scopes().is_none_or(|own| own.has(*scope));
        let names = |role, is_limited| {
            let usable = usable_scopes(role, is_limited);
            let offered = usable.iter().filter(own);
            offered.map(Scope::name).collect::<Vec<_>>()
        };
        let roles = Role::ALL.into_iter().map(|role| TokenRole {
            role: role.name(),
            scopes: names(role, false),
            scopes_within_applications: names(role, true),
        });
        roles.filter(|role| !role.scopes.is_empty()).collect()
    }
}

/// Checks that a token may be used from the request's address, and records its use.
pub fn admit(request: &HttpRequest, context: &Context, token: &Token) -> Result<()> {
    if !token.allowed_ips.is_empty() {
        let address = ClientAddress::of(request, context);
        let ip = address.ip;
        if address.is_proxy {
            return Err(Error::ForbiddenAddress(format!(
                "this token may be used from some networks only, and {ip}, a trusted proxy, did not \
                 name its client"
            )));
        }
        if !network::is_in(ip, &token.allowed_ips) {
            return Err(Error::ForbiddenAddress(format!(
                "this token may not be used from this address, {ip}"
            )));
        }
    }
    let from = || ClientAddress::of(request, context).ip;
    context.store.token_used(token.id, from);
    Ok(())
}

/// Returns a description as it is kept: none where the text is empty.
pub fn checked_description(problems: &mut Problems, description: Option<String>) -> Option<String> {
    let description = description.filter(|text| !text.is_empty())?;
    check_description(problems, &["body", "description"], &description);
    Some(description)
}

/// The scopes that a body names, for a token of this role.
pub fn checked_scopes(
    problems: &mut Problems,
    names: Option<&[String]>,
    role: Role,
    is_limited: bool,
) -> Option<BTreeSet<Scope>> {
    let names = names?;
    if names.is_empty() {
        let message = "must name at least one; leave it out for all that the role may";
        problems.add(&["body", "scopes"], message);
    }
    let usable = usable_scopes(role, is_limited);
    let mut scopes = BTreeSet::new();
    for (index, name) in names.iter().enumerate() {
        let place = ["body", "scopes", &index.to_string()];
        match name.parse::<Scope>() {
            Ok(scope) if usable.has(scope) => drop(scopes.insert(scope)),
            Ok(_) => {
                let role = role.name();
                let limited = match is_limited {
                    true => " that is limited to some applications",
                    false => "",
                };
                let usable = usable.names();
                let message =
                    format!("a token of the role {role}{limited} can never use it, only {usable}");
                problems.add(&place, message);
            }
            Err(()) => {
                let known = Scopes::from_iter(Scope::ALL).names();
                problems.add(&place, format!("must be one of {known}"));
            }
        }
    }
    Some(scopes)
}

/// The networks that a body names.
pub fn checked_networks(problems: &mut Problems, texts: Option<&[String]>) -> Vec<IpNet> {
    let Some(texts) = texts else {
        return Vec::new();
    };
    match texts.len() {
        0 => problems.add(
            &["body", "allowedIps"],
            "must name at least one network; leave it out for everywhere",
        ),
        1..=ALLOWED_IPS_MAX => {}
        _ => {
            let message = format!("must have at most {ALLOWED_IPS_MAX} items");
            problems.add(&["body", "allowedIps"], message);
            return Vec::new();
        }
    }
    let mut networks = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match network::read(text) {
            Ok(network) if networks.contains(&network) => {}
            Ok(network) => networks.push(network),
            Err(message) => {
                problems.add(&["body", "allowedIps", &index.to_string()], message);
            }
        }
    }
    networks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_the_names_of_all_scopes() {
        let schema = schemars::schema_for!(ScopeName);
        let names = Scope::ALL.map(Scope::name);
        assert_eq!(schema.get("enum"), Some(&serde_json::json!(names)));
    }

    #[test]
    fn a_list_names_something_or_is_left_out() {
        let many = vec!["192.0.2.7".to_owned(); ALLOWED_IPS_MAX + 1];
        for (networks, places) in [
            (None, vec![]),
            (Some(&many[..2]), vec![]),
            (Some(&many[..ALLOWED_IPS_MAX]), vec![]),
            (Some(&many[..]), vec!["body.allowedIps"]),
            (Some(&[]), vec!["body.allowedIps"]),
        ] {
            let mut problems = Problems::default();
            let found = checked_networks(&mut problems, networks);
            assert!(found.len() <= 1, "named twice, kept once");
            assert_eq!(places_of(problems), places);
        }
        for (names, places) in [
            (vec![], vec!["body.scopes"]),
            (vec!["read", "publish", "read"], vec![]),
            (
                vec!["read", "write", "secrets"],
                vec!["body.scopes.1", "body.scopes.2"],
            ),
        ] {
            let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
            let mut problems = Problems::default();
            checked_scopes(&mut problems, Some(&names), Role::Publisher, false);
            assert_eq!(places_of(problems), places);
        }
    }

    fn places_of(problems: Problems) -> Vec<String> {
        match problems.done() {
            Ok(()) => Vec::new(),
            Err(Error::Invalid(all)) => all.iter().map(|one| one.location.join(".")).collect(),
            Err(other) => panic!("{other}"),
        }
    }
}
