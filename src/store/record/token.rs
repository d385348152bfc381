//! `t`: an API caller's token, a portal link's among them.

use std::borrow::Cow;
use std::collections::BTreeSet;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::values::{Address, Id, Network, mirrored};
use super::{Kept, NotARecord, read_struct};
use crate::clock::Timestamp;
use crate::domain::id::{ApplicationId, EndpointId, OrganisationId, TokenId};
use crate::domain::scope::Scope;
use crate::domain::token::{Capability, MadeByLink, PortalSession, Role, Token};

/// Schema 1: before grants.
#[derive(Deserialize)]
struct Token1 {
    id: Id<TokenId>,
    organisation: Id<OrganisationId>,
    name: String,
    role: Role1,
    application: Option<Id<ApplicationId>>,
    hash: [u8; 32],
    created_at: u64,
    expires_at: Option<u64>,
}

/// Schema 2: before portal sessions.
#[derive(Deserialize)]
struct Token2 {
    before: Token1,
    grants: Vec<Id<EndpointId>>,
    account_endpoint: Option<Id<EndpointId>>,
}

/// Schema 3: before their last use was kept.
#[derive(Deserialize)]
struct Token3 {
    before: Token2,
    session: Option<PortalSession1<'static>>,
}

/// Schema 4: before applications were granted, and before it was kept how a key was made.
#[derive(Deserialize)]
struct Token4 {
    before: Token3,
    last_used_at: Option<u64>,
}

/// Schema 5: before scopes, networks and the other limits of a token.
#[derive(Deserialize)]
struct Token5 {
    before: Token4,
    applications: Option<Vec<Id<ApplicationId>>>,
    made_by: Option<MadeByLink1<'static>>,
}

/// Schema 6.
#[derive(Serialize, Deserialize)]
pub struct Token6<'a> {
    id: Id<TokenId>,
    organisation: Id<OrganisationId>,
    name: Cow<'a, str>,
    role: Role1,
    application: Option<Id<ApplicationId>>,
    hash: [u8; 32],
    created_at: u64,
    expires_at: Option<u64>,
    #[serde(default)]
    grants: Vec<Id<EndpointId>>,
    #[serde(default)]
    account_endpoint: Option<Id<EndpointId>>,
    #[serde(default)]
    session: Option<PortalSession1<'a>>,
    #[serde(default)]
    last_used_at: Option<u64>,
    #[serde(default)]
    applications: Option<Vec<Id<ApplicationId>>>,
    #[serde(default)]
    made_by: Option<MadeByLink1<'a>>,
    #[serde(default)]
    description: Option<Cow<'a, str>>,
    #[serde(default)]
    scopes: Option<Vec<Scope1>>,
    #[serde(default)]
    allowed_ips: Vec<Network>,
    #[serde(default)]
    last_used_from: Option<Address>,
    #[serde(default)]
    makes_until: Option<u64>,
}

mirrored! {
    Role1 of Role {
        Owner,
        Application,
        Publisher,
        WebhookAdmin,
        WebhookUser,
        Viewer,
    }
}

mirrored! {
    Scope1 of Scope {
        Publish,
        Read,
        Endpoints,
        Secrets,
        Replays,
        Applications,
        EventTypes,
        Expunge,
        Tokens,
        Portal,
        Status,
        OperationalWebhooks,
    }
}

mirrored! {
    Capability1 of Capability {
        ViewBase,
        ViewEndpointSecret,
        ManageEndpointSecret,
        ManageTransformations,
        CreateAttempts,
        ManageEndpoint,
    }
}

#[derive(Serialize, Deserialize)]
struct PortalSession1<'a> {
    id: Option<Cow<'a, str>>,
    capabilities: Vec<Capability1>,
    feature_flags: Cow<'a, BTreeSet<String>>,
}

#[derive(Serialize, Deserialize)]
struct MadeByLink1<'a> {
    link: Id<TokenId>,
    session: Option<Cow<'a, str>>,
}

impl From<Token1> for Token2 {
    fn from(old: Token1) -> Token2 {
        Token2 {
            before: old,
            grants: Vec::new(),
            account_endpoint: None,
        }
    }
}

impl From<Token2> for Token3 {
    fn from(old: Token2) -> Token3 {
        Token3 {
            before: old,
            session: None,
        }
    }
}

impl From<Token3> for Token4 {
    fn from(old: Token3) -> Token4 {
        Token4 {
            before: old,
            last_used_at: None,
        }
    }
}

impl From<Token4> for Token5 {
    fn from(old: Token4) -> Token5 {
        Token5 {
            before: old,
            applications: None,
            made_by: None,
        }
    }
}

impl From<Token5> for Token6<'static> {
    fn from(old: Token5) -> Token6<'static> {
        let fourth = old.before;
        let third = fourth.before;
        let second = third.before;
        let first = second.before;
        Token6 {
            id: first.id,
            organisation: first.organisation,
            name: Cow::Owned(first.name),
            role: first.role,
            application: first.application,
            hash: first.hash,
            created_at: first.created_at,
            expires_at: first.expires_at,
            grants: second.grants,
            account_endpoint: second.account_endpoint,
            session: third.session,
            last_used_at: fourth.last_used_at,
            applications: old.applications,
            made_by: old.made_by,
            description: None,
            scopes: None,
            allowed_ips: Vec::new(),
            last_used_from: None,
            makes_until: None,
        }
    }
}

impl<'a> From<&'a Token> for Token6<'a> {
    fn from(value: &'a Token) -> Token6<'a> {
        let applications = value.applications.as_ref();
        Token6 {
            id: Id(value.id),
            organisation: Id(value.organisation),
            name: Cow::from(&value.name),
            role: Role1::from(&value.role),
            application: value.application.map(Id),
            hash: value.hash,
            created_at: value.created_at.0,
            expires_at: value.expires_at.map(|at| at.0),
            grants: value.grants.iter().copied().map(Id).collect(),
            account_endpoint: value.account_endpoint.map(Id),
            session: value.session.as_ref().map(PortalSession1::from),
            last_used_at: value.last_used_at.map(|at| at.0),
            applications: applications.map(|ids| ids.iter().copied().map(Id).collect()),
            made_by: value.made_by.as_ref().map(MadeByLink1::from),
            description: value.description.as_deref().map(Cow::Borrowed),
            scopes: value
                .scopes
                .as_ref()
                .map(|scopes| scopes.iter().map(Scope1::from).collect()),
            allowed_ips: value.allowed_ips.iter().map(Network::from).collect(),
            last_used_from: value.last_used_from.map(Address),
            makes_until: value.makes_until.map(|at| at.0),
        }
    }
}

impl TryFrom<Token6<'_>> for Token {
    type Error = NotARecord;

    fn try_from(record: Token6<'_>) -> Result<Token, NotARecord> {
        let networks = record.allowed_ips.into_iter().map(IpNet::try_from);
        let scopes = record.scopes;
        Ok(Token {
            id: record.id.0,
            organisation: record.organisation.0,
            name: record.name.into_owned(),
            role: Role::from(record.role),
            application: record.application.map(|id| id.0),
            hash: record.hash,
            created_at: Timestamp(record.created_at),
            expires_at: record.expires_at.map(Timestamp),
            grants: record.grants.into_iter().map(|id| id.0).collect(),
            account_endpoint: record.account_endpoint.map(|id| id.0),
            session: record.session.map(PortalSession::from),
            last_used_at: record.last_used_at.map(Timestamp),
            applications: record
                .applications
                .map(|ids| ids.into_iter().map(|id| id.0).collect()),
            made_by: record.made_by.map(MadeByLink::from),
            description: record.description.map(Cow::into_owned),
            scopes: scopes.map(|scopes| scopes.into_iter().map(Scope::from).collect()),
            allowed_ips: networks.collect::<Result<_, _>>()?,
            last_used_from: record.last_used_from.map(|address| address.0),
            makes_until: record.makes_until.map(Timestamp),
        })
    }
}

impl<'a> From<&'a PortalSession> for PortalSession1<'a> {
    fn from(value: &'a PortalSession) -> PortalSession1<'a> {
        PortalSession1 {
            id: value.id.as_deref().map(Cow::Borrowed),
            capabilities: value.capabilities.iter().map(Capability1::from).collect(),
            feature_flags: Cow::Borrowed(&value.feature_flags),
        }
    }
}

impl From<PortalSession1<'_>> for PortalSession {
    fn from(record: PortalSession1<'_>) -> PortalSession {
        let capabilities = record.capabilities.into_iter();
        PortalSession {
            id: record.id.map(Cow::into_owned),
            capabilities: capabilities.map(Capability::from).collect(),
            feature_flags: record.feature_flags.into_owned(),
        }
    }
}

impl<'a> From<&'a MadeByLink> for MadeByLink1<'a> {
    fn from(value: &'a MadeByLink) -> MadeByLink1<'a> {
        MadeByLink1 {
            link: Id(value.link),
            session: value.session.as_deref().map(Cow::Borrowed),
        }
    }
}

impl From<MadeByLink1<'_>> for MadeByLink {
    fn from(record: MadeByLink1<'_>) -> MadeByLink {
        MadeByLink {
            link: record.link.0,
            session: record.session.map(Cow::into_owned),
        }
    }
}

impl Kept for Token {
    const SCHEMA: u16 = 6;
    type Record<'a> = Token6<'a>;

    fn read(schema: u16, bytes: &mut &[u8]) -> Result<Token, NotARecord> {
        let newest: Token6<'_> = match schema {
            1 => {
                let second = Token2::from(read_struct::<Token1>(bytes)?);
                Token5::from(Token4::from(Token3::from(second))).into()
            }
            2 => {
                let third = Token3::from(read_struct::<Token2>(bytes)?);
                Token5::from(Token4::from(third)).into()
            }
            3 => Token5::from(Token4::from(read_struct::<Token3>(bytes)?)).into(),
            4 => Token5::from(read_struct::<Token4>(bytes)?).into(),
            5 => read_struct::<Token5>(bytes)?.into(),
            _ => read_struct(bytes)?,
        };
        newest.try_into()
    }
}
