//! An API caller's credential, and what its role allows.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::id::{ApplicationId, EndpointId, OrganisationId, TokenId};
use super::scope::Scope;
use crate::clock::Timestamp;

/// The most endpoints, and the most applications, that are granted to one token: all of them are in
/// memory with it.
pub const GRANTS_MAX: usize = 1000;

/// The most networks that one token may be used from.
pub const ALLOWED_IPS_MAX: usize = 64;

/// The role of a token, which says what its bearer may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Everything in the organisation.
    Owner,
    /// One application: a customer's backend.
    Application,
    /// Publishes messages, and nothing else.
    Publisher,
    /// Every endpoint of the organisation, and who else may use it.
    WebhookAdmin,
    /// The endpoints that were granted to it, and those that it made in applications that were.
    WebhookUser,
    /// Reads everything of the organisation but secrets, and changes nothing.
    Viewer,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Role::Owner => "owner",
            Role::Application => "application",
            Role::Publisher => "publisher",
            Role::WebhookAdmin => "webhook_admin",
            Role::WebhookUser => "webhook_user",
            Role::Viewer => "viewer",
        }
    }

    pub const ALL: [Role; 6] = [
        Role::Owner,
        Role::Application,
        Role::Publisher,
        Role::WebhookAdmin,
        Role::WebhookUser,
        Role::Viewer,
    ];
}

impl std::str::FromStr for Role {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Role::ALL
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or(())
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Token {
    pub id: TokenId,
    pub organisation: OrganisationId,
    pub name: String,
    pub role: Role,
    /// The application that a token of the role application is limited to.
    pub application: Option<ApplicationId>,
    /// SHA-256 of the token's text; the text itself is kept nowhere.
    pub hash: [u8; 32],
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    /// The endpoints that a webhook user may see. One may be gone by now: its id never comes back.
    pub grants: BTreeSet<EndpointId>,
    /// The one endpoint that this token configures where a token is an account of its own (the
    /// surface `/v1/account/settings`). It may be gone by now.
    pub account_endpoint: Option<EndpointId>,
    /// The session that a portal link gives; absent for other tokens.
    pub session: Option<PortalSession>,
    /// The time of its last use. It is written down only now and then, so it may be a little old.
    pub last_used_at: Option<Timestamp>,
    /// For a webhook user the applications in which it may make endpoints; a record from before these
    /// were granted has no set until the start decides it. For other roles the only applications that
    /// it sees, or none for all of the organisation.
    pub applications: Option<BTreeSet<ApplicationId>>,
    /// The portal link through which it was made, which may have ended.
    pub made_by: Option<MadeByLink>,
    /// A description for people: what it is for, who has it.
    pub description: Option<String>,
    /// The only groups of operations that it may do, within its role; none for all that the role may.
    pub scopes: Option<BTreeSet<Scope>>,
    /// The only networks that it may be used from; empty for everywhere.
    pub allowed_ips: Vec<IpNet>,
    /// The address that was noted with `last_used_at`.
    pub last_used_from: Option<IpAddr>,
    /// For a portal link the end of the token that made it: keys that are made through the link end by
    /// then, too. None where that token has no end.
    pub makes_until: Option<Timestamp>,
}

impl Token {
    /// Whether its scopes allow the operations of this one.
    pub fn lets(&self, scope: Option<Scope>) -> bool {
        let own = self.scopes.as_ref();
        own.zip(scope)
            .is_none_or(|(own, scope)| own.contains(&scope))
    }

    /// A token without any grant or limit, and without an end.
    pub fn new(
        organisation: OrganisationId,
        role: Role,
        name: String,
        hash: [u8; 32],
        now: Timestamp,
    ) -> Token {
        Token {
            id: TokenId::at(now),
            organisation,
            name,
            role,
            application: None,
            hash,
            created_at: now,
            expires_at: None,
            grants: BTreeSet::new(),
            account_endpoint: None,
            session: None,
            last_used_at: None,
            applications: None,
            made_by: None,
            description: None,
            scopes: None,
            allowed_ips: Vec::new(),
            last_used_from: None,
            makes_until: None,
        }
    }

    /// Whether it sees some applications of the organisation only, which its record names.
    pub fn is_limited(&self) -> bool {
        self.role != Role::WebhookUser && self.applications.is_some()
    }
}

/// Where an API key comes from that a customer's people made in the portal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MadeByLink {
    pub link: TokenId,
    /// The platform's own name for that session.
    pub session: Option<String>,
}

/// The mark of a credential that ends before its time, by the credential's hash. Either a signed
/// token (JWT) was logged out: it is refused until it would have expired by itself. Or `expire-all`
/// ends a portal link at a later time: keys that are made through the link until then end with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Revocation {
    /// SHA-256 of the credential's text.
    pub hash: [u8; 32],
    pub until: Option<Timestamp>,
}

/// A visit of a customer's people to the portal, by a link that the platform gave them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortalSession {
    /// The platform's own name for it; ends sessions selectively.
    pub id: Option<String>,
    pub capabilities: BTreeSet<Capability>,
    pub feature_flags: BTreeSet<String>,
}

impl Capability {
    pub const ALL: [Capability; 6] = [
        Capability::ViewBase,
        Capability::ViewEndpointSecret,
        Capability::ManageEndpointSecret,
        Capability::ManageTransformations,
        Capability::CreateAttempts,
        Capability::ManageEndpoint,
    ];

    /// The capability's name.
    pub fn name(self) -> &'static str {
        match self {
            Capability::ViewBase => "ViewBase",
            Capability::ViewEndpointSecret => "ViewEndpointSecret",
            Capability::ManageEndpointSecret => "ManageEndpointSecret",
            Capability::ManageTransformations => "ManageTransformations",
            Capability::CreateAttempts => "CreateAttempts",
            Capability::ManageEndpoint => "ManageEndpoint",
        }
    }
}

/// A permission of a portal session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Capability {
    /// Look at everything but secrets.
    ViewBase,
    /// Read an endpoint's secret.
    ViewEndpointSecret,
    /// Read and rotate it.
    ManageEndpointSecret,
    /// Taken and without effect: there are no transformations.
    ManageTransformations,
    /// Send again, replay, send examples.
    CreateAttempts,
    /// Everything with endpoints.
    ManageEndpoint,
}
