//! Records as they were written by earlier versions, and what becomes of them when they are read.
//!
//! `layout` calls this for a record with a lower schema number. Nothing here is ever written; a
//! struct here is never changed. A version that only added values holds the one before it: bincode writes
//! a struct within a struct as its values alone.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::layout::{Kept, MessageMeta, read_struct};
use crate::clock::Timestamp;
use crate::domain::application::Application;
use crate::domain::attempt::{Answer, Attempt, Failure, Timings, Trigger, Verdict};
use crate::domain::endpoint::{BasicAuth, Endpoint, EndpointSecret};
use crate::domain::event_type::EventType;
use crate::domain::id::{ApplicationId, AttemptId, EndpointId, MessageId, OrganisationId, TokenId};
use crate::domain::message::Origin;
use crate::domain::profile::Method;
use crate::domain::retry::RetrySchedule;
use crate::domain::token::{MadeByLink, PortalSession, Role, Token};

/// `p`, schema 1: before profiles.
#[derive(Deserialize)]
struct Endpoint1 {
    id: EndpointId,
    number: u64,
    organisation: OrganisationId,
    application: ApplicationId,
    uid: Option<String>,
    url: String,
    description: String,
    disabled: bool,
    event_types: Option<Vec<String>>,
    channels: Option<Vec<String>>,
    metadata: BTreeMap<String, String>,
    throttle_rate: Option<u16>,
    secrets: Vec<EndpointSecret>,
    headers: BTreeMap<String, String>,
    basic_auth: Option<BasicAuth>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// `p`, schema 2: before it was kept how headers were given.
#[derive(Deserialize)]
struct Endpoint2 {
    before: Endpoint1,
    profile: Option<String>,
    method: Option<Method>,
    auth_headers: BTreeMap<String, String>,
    retry: Option<RetrySchedule>,
    timeout_seconds: Option<u32>,
}

impl From<Endpoint1> for Endpoint2 {
    fn from(old: Endpoint1) -> Endpoint2 {
        Endpoint2 {
            before: old,
            profile: None,
            method: None,
            auth_headers: BTreeMap::new(),
            retry: None,
            timeout_seconds: None,
        }
    }
}

/// `p`, schema 3: before endpoints were verified.
#[derive(Deserialize)]
struct Endpoint3 {
    before: Endpoint2,
    open_headers: BTreeSet<String>,
}

impl From<Endpoint2> for Endpoint3 {
    fn from(old: Endpoint2) -> Endpoint3 {
        // Until then the profile decided which headers Ovation's surface shows.
        let open_headers = match old.profile.as_deref() {
            Some("ovation") => old.before.headers.keys().cloned().collect(),
            _ => BTreeSet::new(),
        };
        Endpoint3 {
            before: old,
            open_headers,
        }
    }
}

impl Kept for Endpoint {
    const SCHEMA: u16 = 4;

    fn read_older(schema: u16, bytes: &mut &[u8]) -> bincode::Result<Endpoint> {
        let third: Endpoint3 = match schema {
            1 => Endpoint2::from(read_struct::<Endpoint1>(bytes)?).into(),
            2 => read_struct::<Endpoint2>(bytes)?.into(),
            _ => read_struct(bytes)?,
        };
        let second = third.before;
        let first = second.before;
        Ok(Endpoint {
            id: first.id,
            number: first.number,
            organisation: first.organisation,
            application: first.application,
            uid: first.uid,
            url: first.url,
            description: first.description,
            disabled: first.disabled,
            event_types: first.event_types,
            channels: first.channels,
            metadata: first.metadata,
            throttle_rate: first.throttle_rate,
            secrets: first.secrets,
            headers: first.headers,
            basic_auth: first.basic_auth,
            created_at: first.created_at,
            updated_at: first.updated_at,
            profile: second.profile,
            method: second.method,
            auth_headers: second.auth_headers,
            retry: second.retry,
            timeout_seconds: second.timeout_seconds,
            open_headers: third.open_headers,
            verification: None,
        })
    }
}

/// `e`, schema 1: before examples.
#[derive(Deserialize)]
struct EventType1 {
    organisation: OrganisationId,
    name: String,
    description: String,
    archived: bool,
    deprecated: bool,
    feature_flag: Option<String>,
    schemas: Option<String>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// `e`, schema 2: before groups, and with one feature flag at most.
#[derive(Deserialize)]
struct EventType2 {
    before: EventType1,
    example: Option<String>,
    channels: Option<Vec<String>>,
}

impl From<EventType1> for EventType2 {
    fn from(old: EventType1) -> EventType2 {
        EventType2 {
            before: old,
            example: None,
            channels: None,
        }
    }
}

impl Kept for EventType {
    const SCHEMA: u16 = 3;

    fn read_older(schema: u16, bytes: &mut &[u8]) -> bincode::Result<EventType> {
        let second: EventType2 = match schema {
            1 => read_struct::<EventType1>(bytes)?.into(),
            _ => read_struct(bytes)?,
        };
        let first = second.before;
        Ok(EventType {
            organisation: first.organisation,
            name: first.name,
            description: first.description,
            archived: first.archived,
            deprecated: first.deprecated,
            feature_flags: first.feature_flag.into_iter().collect(),
            schemas: first.schemas,
            created_at: first.created_at,
            updated_at: first.updated_at,
            example: second.example,
            channels: second.channels,
            group_name: None,
        })
    }
}

/// `t`, schema 1: before grants.
#[derive(Deserialize)]
struct Token1 {
    id: TokenId,
    organisation: OrganisationId,
    name: String,
    role: Role,
    application: Option<ApplicationId>,
    hash: [u8; 32],
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
}

/// `t`, schema 2: before portal sessions.
#[derive(Deserialize)]
struct Token2 {
    before: Token1,
    grants: BTreeSet<EndpointId>,
    account_endpoint: Option<EndpointId>,
}

impl From<Token1> for Token2 {
    fn from(old: Token1) -> Token2 {
        Token2 {
            before: old,
            grants: BTreeSet::new(),
            account_endpoint: None,
        }
    }
}

/// `t`, schema 3: before their last use was kept.
#[derive(Deserialize)]
struct Token3 {
    before: Token2,
    session: Option<PortalSession>,
}

impl From<Token2> for Token3 {
    fn from(old: Token2) -> Token3 {
        Token3 {
            before: old,
            session: None,
        }
    }
}

/// `t`, schema 4: before applications were granted, and before it was kept how a key was made.
#[derive(Deserialize)]
struct Token4 {
    before: Token3,
    last_used_at: Option<Timestamp>,
}

impl From<Token3> for Token4 {
    fn from(old: Token3) -> Token4 {
        Token4 {
            before: old,
            last_used_at: None,
        }
    }
}

/// `t`, schema 5: before scopes, networks and the other limits of a token.
#[derive(Deserialize)]
struct Token5 {
    before: Token4,
    applications: Option<BTreeSet<ApplicationId>>,
    made_by: Option<MadeByLink>,
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

impl Kept for Token {
    const SCHEMA: u16 = 6;

    fn read_older(schema: u16, bytes: &mut &[u8]) -> bincode::Result<Token> {
        let fifth: Token5 = match schema {
            1 => {
                let second = Token2::from(read_struct::<Token1>(bytes)?);
                Token4::from(Token3::from(second)).into()
            }
            2 => Token4::from(Token3::from(read_struct::<Token2>(bytes)?)).into(),
            3 => Token4::from(read_struct::<Token3>(bytes)?).into(),
            4 => read_struct::<Token4>(bytes)?.into(),
            _ => read_struct(bytes)?,
        };
        let fourth = fifth.before;
        let third = fourth.before;
        let second = third.before;
        let first = second.before;
        Ok(Token {
            id: first.id,
            expires_at: first.expires_at,
            application: first.application,
            grants: second.grants,
            account_endpoint: second.account_endpoint,
            session: third.session,
            last_used_at: fourth.last_used_at,
            applications: fifth.applications,
            made_by: fifth.made_by,
            ..Token::new(
                first.organisation,
                first.role,
                first.name,
                first.hash,
                first.created_at,
            )
        })
    }
}

/// `a`, schema 1: before signed tokens.
#[derive(Deserialize)]
struct Application1 {
    id: ApplicationId,
    organisation: OrganisationId,
    uid: Option<String>,
    name: String,
    metadata: BTreeMap<String, String>,
    throttle_rate: Option<u16>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl Kept for Application {
    const SCHEMA: u16 = 2;

    fn read_older(_: u16, bytes: &mut &[u8]) -> bincode::Result<Application> {
        let old: Application1 = read_struct(bytes)?;
        Ok(Application {
            id: old.id,
            organisation: old.organisation,
            uid: old.uid,
            name: old.name,
            metadata: old.metadata,
            throttle_rate: old.throttle_rate,
            created_at: old.created_at,
            updated_at: old.updated_at,
            tokens_valid_from: None,
            tokens_ending: None,
        })
    }
}

/// `M`, schema 1: before tests.
#[derive(Deserialize)]
struct MessageMeta1 {
    commit: u64,
    accepted_at: Timestamp,
    event_type: String,
    event_id: Option<String>,
    channels: Vec<String>,
}

/// `M`, schema 2: before tags, and instants to deliver at and to expire.
#[derive(Deserialize)]
struct MessageMeta2 {
    before: MessageMeta1,
    origin: Origin,
}

impl From<MessageMeta1> for MessageMeta2 {
    fn from(old: MessageMeta1) -> MessageMeta2 {
        MessageMeta2 {
            before: old,
            origin: Origin::Published,
        }
    }
}

/// `M`, schema 3: before raw payloads.
#[derive(Deserialize)]
struct MessageMeta3 {
    before: MessageMeta2,
    tags: Vec<String>,
    deliver_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    expunged: bool,
}

impl From<MessageMeta2> for MessageMeta3 {
    fn from(old: MessageMeta2) -> MessageMeta3 {
        MessageMeta3 {
            before: old,
            tags: Vec::new(),
            deliver_at: None,
            expires_at: None,
            expunged: false,
        }
    }
}

/// `M`, schema 4: before it was kept how many endpoints matched.
#[derive(Deserialize)]
struct MessageMeta4 {
    before: MessageMeta3,
    is_raw: bool,
    content_type: Option<String>,
}

impl From<MessageMeta3> for MessageMeta4 {
    fn from(old: MessageMeta3) -> MessageMeta4 {
        MessageMeta4 {
            before: old,
            is_raw: false,
            content_type: None,
        }
    }
}

impl Kept for MessageMeta {
    const SCHEMA: u16 = 5;

    fn read_older(schema: u16, bytes: &mut &[u8]) -> bincode::Result<MessageMeta> {
        let fourth: MessageMeta4 = match schema {
            1 => {
                let first = MessageMeta2::from(read_struct::<MessageMeta1>(bytes)?);
                MessageMeta3::from(first).into()
            }
            2 => MessageMeta3::from(read_struct::<MessageMeta2>(bytes)?).into(),
            3 => read_struct::<MessageMeta3>(bytes)?.into(),
            _ => read_struct(bytes)?,
        };
        let third = fourth.before;
        let second = third.before;
        let first = second.before;
        Ok(MessageMeta {
            commit: first.commit,
            accepted_at: first.accepted_at,
            event_type: first.event_type,
            event_id: first.event_id,
            channels: first.channels,
            origin: second.origin,
            tags: third.tags,
            deliver_at: third.deliver_at,
            expires_at: third.expires_at,
            expunged: third.expunged,
            is_raw: fourth.is_raw,
            content_type: fourth.content_type,
            endpoints_matched: None,
        })
    }
}

/// `A`, schema 1: before tests.
#[derive(Deserialize)]
struct Attempt1 {
    id: AttemptId,
    application: ApplicationId,
    message: MessageId,
    endpoint: EndpointId,
    number: u32,
    trigger: Trigger,
    started_at: Timestamp,
    timings: Timings,
    url: String,
    method: String,
    request_headers: Vec<(String, String)>,
    answer: Option<Answer>,
    failure: Option<Failure>,
    sent_again: bool,
    verdict: Verdict,
}

impl Kept for Attempt {
    const SCHEMA: u16 = 2;

    fn read_older(_: u16, bytes: &mut &[u8]) -> bincode::Result<Attempt> {
        let old: Attempt1 = read_struct(bytes)?;
        Ok(Attempt {
            id: old.id,
            application: old.application,
            message: old.message,
            endpoint: old.endpoint,
            number: old.number,
            trigger: old.trigger,
            started_at: old.started_at,
            timings: old.timings,
            url: old.url,
            method: old.method,
            request_headers: old.request_headers,
            answer: old.answer,
            failure: old.failure,
            sent_again: old.sent_again,
            verdict: old.verdict,
            test: false,
        })
    }
}

#[cfg(test)]
mod tests;
