//! `v`: who is signed in to the console or the portal.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::values::{Address, Id, mirrored};
use super::{Kept, NotARecord, read_struct};
use crate::clock::Timestamp;
use crate::domain::id::{ApplicationId, OrganisationId, TokenId, VisitId};
use crate::domain::jwt::{Claims, Subject};
use crate::domain::visit::{SignedInWith, Surface, Visit};

/// Schema 1.
#[derive(Serialize, Deserialize)]
pub struct Visit1<'a> {
    id: Id<VisitId>,
    key: [u8; 32],
    surface: Surface1,
    organisation: Id<OrganisationId>,
    application: Option<Id<ApplicationId>>,
    credential: [u8; 32],
    with: SignedInWith1<'a>,
    begun_at: u64,
    seen_at: u64,
    address: Address,
    user_agent: Option<Cow<'a, str>>,
}

mirrored! {
    Surface1 of Surface { Console, Portal }
}

#[derive(Serialize, Deserialize)]
pub enum SignedInWith1<'a> {
    Token(Id<TokenId>),
    Signed { claims: Claims1<'a>, seal: [u8; 32] },
}

#[derive(Serialize, Deserialize)]
pub struct Claims1<'a> {
    subject: Subject1,
    issued_at: Option<u64>,
    expires_at: Option<u64>,
    feature_flags: Cow<'a, BTreeSet<String>>,
}

#[derive(Serialize, Deserialize)]
struct Subject1 {
    organisation: Id<OrganisationId>,
    application: Option<Id<ApplicationId>>,
}

impl<'a> From<&'a Visit> for Visit1<'a> {
    fn from(value: &'a Visit) -> Visit1<'a> {
        Visit1 {
            id: Id(value.id),
            key: value.key,
            surface: Surface1::from(&value.surface),
            organisation: Id(value.organisation),
            application: value.application.map(Id),
            credential: value.credential,
            with: SignedInWith1::from(&value.with),
            begun_at: value.begun_at.0,
            seen_at: value.seen_at.0,
            address: Address(value.address),
            user_agent: value.user_agent.as_deref().map(Cow::Borrowed),
        }
    }
}

impl From<Visit1<'_>> for Visit {
    fn from(record: Visit1<'_>) -> Visit {
        Visit {
            id: record.id.0,
            key: record.key,
            surface: Surface::from(record.surface),
            organisation: record.organisation.0,
            application: record.application.map(|id| id.0),
            credential: record.credential,
            with: SignedInWith::from(record.with),
            begun_at: Timestamp(record.begun_at),
            seen_at: Timestamp(record.seen_at),
            address: record.address.0,
            user_agent: record.user_agent.map(Cow::into_owned),
        }
    }
}

impl<'a> From<&'a SignedInWith> for SignedInWith1<'a> {
    fn from(value: &'a SignedInWith) -> SignedInWith1<'a> {
        match value {
            SignedInWith::Token(id) => SignedInWith1::Token(Id(*id)),
            SignedInWith::Signed { claims, seal } => SignedInWith1::Signed {
                claims: Claims1::from(claims),
                seal: *seal,
            },
        }
    }
}

impl From<SignedInWith1<'_>> for SignedInWith {
    fn from(record: SignedInWith1<'_>) -> SignedInWith {
        match record {
            SignedInWith1::Token(id) => SignedInWith::Token(id.0),
            SignedInWith1::Signed { claims, seal } => SignedInWith::Signed {
                claims: Claims::from(claims),
                seal,
            },
        }
    }
}

impl<'a> From<&'a Claims> for Claims1<'a> {
    fn from(value: &'a Claims) -> Claims1<'a> {
        Claims1 {
            subject: Subject1 {
                organisation: Id(value.subject.organisation),
                application: value.subject.application.map(Id),
            },
            issued_at: value.issued_at.map(|at| at.0),
            expires_at: value.expires_at.map(|at| at.0),
            feature_flags: Cow::Borrowed(&value.feature_flags),
        }
    }
}

impl From<Claims1<'_>> for Claims {
    fn from(record: Claims1<'_>) -> Claims {
        Claims {
            subject: Subject {
                organisation: record.subject.organisation.0,
                application: record.subject.application.map(|id| id.0),
            },
            issued_at: record.issued_at.map(Timestamp),
            expires_at: record.expires_at.map(Timestamp),
            feature_flags: record.feature_flags.into_owned(),
        }
    }
}

impl Kept for Visit {
    const SCHEMA: u16 = 1;
    type Record<'a> = Visit1<'a>;

    fn read(_: u16, bytes: &mut &[u8]) -> Result<Visit, NotARecord> {
        Ok(read_struct::<Visit1<'_>>(bytes)?.into())
    }
}
