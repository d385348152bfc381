//! Narrows a new token or link to the limits of the token that makes it.
//!
//! A token that is made may not do more than its maker, may not be used from elsewhere, and may not
//! live longer. A limit that is left out is taken over from the maker; one that goes beyond the
//! maker's is refused.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::View;
use super::caller::Caller;
use super::checks::{Problems, wrong};
use super::permits::{in_want_of, usable_scopes};
use super::scopes::Scopes;
use crate::clock::Timestamp;
use crate::domain::scope::Scope;
use crate::domain::token::Token;
use crate::error::{Error, Result};

/// The limits of the caller that makes a token, as the catalog has them.
struct Maker<'a> {
    record: Option<&'a Token>,
    ends: Option<Timestamp>,
}

impl<'a> Maker<'a> {
    fn of(view: &View<'a>, caller: &Caller) -> Result<Maker<'a>> {
        let record = caller.record(view.catalog)?;
        let ends = match record {
            // The end of keys that are made through a link is bounded by the token that made the
            // link; the link itself ends them with `expire-all`.
            Some(link) if link.session.is_some() => link.makes_until,
            Some(token) => token.expires_at,
            None => caller.signed_end(),
        };
        // A signed token is valid for a little while after its end; the tokens that it made would
        // have expired already.
        if ends.is_some_and(|end| end <= view.now) {
            return Err(Error::Unauthenticated);
        }
        Ok(Maker { record, ends })
    }

    fn networks(&self) -> &'a [IpNet] {
        self.record.map_or(&[], |token| &token.allowed_ips)
    }

    fn scopes(&self) -> Option<Scopes> {
        let scopes = self.record?.scopes.as_ref()?;
        Some(scopes.iter().copied().collect())
    }
}

/// Returns the new token within the limits of the caller; an error where it asks for more.
pub fn narrowed(view: &View<'_>, caller: &Caller, mut token: Token) -> Result<Token> {
    let maker = Maker::of(view, caller)?;
    if let Some(end) = maker.ends {
        if token.expires_at.is_some_and(|own| own > end) {
            let message = format!("must be at most {end}, when the token ends that makes this one");
            return Err(wrong(&["body", "expiresAt"], message));
        }
        token.expires_at = token.expires_at.or(Some(end));
    }
    narrow_networks(maker.networks(), &mut token)?;
    if let Some(own) = maker.scopes() {
        narrow_scopes(own, &mut token)?;
    }
    Ok(token)
}

fn narrow_networks(own: &[IpNet], token: &mut Token) -> Result<()> {
    if own.is_empty() {
        return Ok(());
    }
    let is_within = |network: &IpNet| own.iter().any(|own| own.contains(network));
    let mut problems = Problems::default();
    for (index, network) in token.allowed_ips.iter().enumerate() {
        if !is_within(network) {
            let place = ["body", "allowedIps", &index.to_string()];
            let message = format!(
                "is not within the networks of the token that makes this one: {}",
                listed(own)
            );
            problems.add(&place, message);
        }
    }
    problems.done()?;
    if token.allowed_ips.is_empty() {
        token.allowed_ips = own.to_vec();
    }
    Ok(())
}

fn narrow_scopes(own: Scopes, token: &mut Token) -> Result<()> {
    let place = ["body", "scopes"];
    match &token.scopes {
        Some(asked) => {
            let beyond: Scopes = asked
                .iter()
                .copied()
                .filter(|scope| !own.has(*scope))
                .collect();
            match beyond.iter().next() {
                None => Ok(()),
                Some(_) => Err(wrong(
                    &place,
                    format!(
                        "must be among those of the token that makes this one, {}: {} is not",
                        own.names(),
                        beyond.names()
                    ),
                )),
            }
        }
        None => {
            let usable = usable_scopes(token.role, token.is_limited());
            let shared: BTreeSet<Scope> = own.iter().filter(|scope| usable.has(*scope)).collect();
            match shared.is_empty() {
                true => Err(wrong(
                    &place,
                    format!(
                        "the token that makes this one has the scopes {}, and a token of the role {} \
                         uses none of them",
                        own.names(),
                        token.role.name()
                    ),
                )),
                false => {
                    token.scopes = Some(shared);
                    Ok(())
                }
            }
        }
    }
}

/// Returns a link to the portal within the limits of the token that makes it, and the warnings for
/// the platform about that. A token that may not read makes no link, which would be of no use.
pub fn narrowed_link(
    view: &View<'_>,
    caller: &Caller,
    mut link: Token,
) -> Result<(Token, Vec<String>)> {
    let maker = Maker::of(view, caller)?;
    let mut warnings = Vec::new();
    if let Some(end) = maker.ends {
        link.makes_until = Some(end);
        if link.expires_at.is_none_or(|own| own > end) {
            link.expires_at = Some(end);
            warnings.push(format!(
                "the link ends at {end}, with the token that made it"
            ));
        }
    }
    let networks = maker.networks();
    if !networks.is_empty() {
        link.allowed_ips = networks.to_vec();
        let networks = listed(networks);
        warnings.push(format!(
            "the link opens only from {networks}, as the token that made it may be used from nowhere else"
        ));
    }
    if let Some(own) = maker.scopes() {
        if !own.has(Scope::Read) {
            return Err(Error::lacks_scope(Scope::Read.name()));
        }
        warnings.extend(link.session.iter().flat_map(|session| {
            let missing = Scope::ALL.into_iter().filter(move |scope| !own.has(*scope));
            missing.filter_map(|scope| {
                let lacking = in_want_of(scope, &session.capabilities).join(", ");
                let scope = scope.name();
                (!lacking.is_empty()).then(|| {
                    format!(
                        "the link lacks the scope {scope}, as the token that made it does, so what \
                         {lacking} would allow by that scope is refused"
                    )
                })
            })
        }));
        link.scopes = Some(own.iter().collect());
    }
    Ok((link, warnings))
}

fn listed(networks: &[IpNet]) -> String {
    let texts: Vec<String> = networks.iter().map(IpNet::to_string).collect();
    texts.join(", ")
}
