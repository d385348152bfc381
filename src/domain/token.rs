//! An API caller's credential, and what its role allows.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::id::{ApplicationId, EndpointId, OrganisationId, TokenId};
use crate::clock::Timestamp;

/// The most endpoints, and the most applications, that are granted to one token: all of them are in
/// memory with it.
pub const GRANTS_MAX: usize = 1000;

/// What a caller may do. New roles are appended: the store knows them by their place.
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
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Role::Owner => "owner",
            Role::Application => "application",
            Role::Publisher => "publisher",
            Role::WebhookAdmin => "webhook_admin",
            Role::WebhookUser => "webhook_user",
        }
    }

    pub const ALL: [Role; 5] = [
        Role::Owner,
        Role::Application,
        Role::Publisher,
        Role::WebhookAdmin,
        Role::WebhookUser,
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
    #[serde(default)]
    pub grants: BTreeSet<EndpointId>,
    /// The one endpoint that this token configures where a token is an account of its own (the
    /// surface `/v1/account/settings`). It may be gone by now.
    #[serde(default)]
    pub account_endpoint: Option<EndpointId>,
    /// What a portal link gives; other tokens have none.
    #[serde(default)]
    pub session: Option<PortalSession>,
    /// When it was last used, as far as that has been written down, which is now and then.
    #[serde(default)]
    pub last_used_at: Option<Timestamp>,
    /// The applications in which a webhook user may make endpoints; other roles have no such set. A
    /// record from before there was one has none either, until the start decides it.
    #[serde(default)]
    pub applications: Option<BTreeSet<ApplicationId>>,
    /// The portal link through which it was made, which may have ended.
    #[serde(default)]
    pub made_by: Option<MadeByLink>,
}

/// Where an API key comes from that a customer's people made in the portal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MadeByLink {
    pub link: TokenId,
    /// The platform's own name for that session.
    pub session: Option<String>,
}

/// A signed token (JWT) that was logged out: refused until it would have ended by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Revocation {
    /// SHA-256 of the token's text.
    pub hash: [u8; 32],
    pub until: Option<Timestamp>,
}

/// A visit of a customer's people to the portal, by a link that the platform gave them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

    /// The contract's word for it.
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

/// What a portal session may do. New ones are appended: the store knows them by their place.
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
