//! `p`: an endpoint.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::values::{Duration1, Id, mirrored};
use super::{Kept, NotARecord, read_struct};
use crate::clock::Timestamp;
use crate::domain::disabled::{Disabled, DisabledReason};
use crate::domain::endpoint::{BasicAuth, CatchUp, Endpoint, EndpointSecret};
use crate::domain::filter::Filter;
use crate::domain::hold::{Held, HeldReason};
use crate::domain::id::{ApplicationId, EndpointId, OrganisationId};
use crate::domain::profile::Method;
use crate::domain::retry::{RetrySchedule, Waits};
use crate::domain::secret::Secret;
use crate::domain::transformation::{Transformation, TransformationVersion};
use crate::domain::verification::Verification;

/// Schema 1: before profiles.
#[derive(Deserialize)]
struct Endpoint1 {
    id: Id<EndpointId>,
    number: u64,
    organisation: Id<OrganisationId>,
    application: Id<ApplicationId>,
    uid: Option<String>,
    url: String,
    description: String,
    disabled: bool,
    event_types: Option<Vec<String>>,
    channels: Option<Vec<String>>,
    metadata: BTreeMap<String, String>,
    throttle_rate: Option<u16>,
    secrets: Vec<EndpointSecret1<'static>>,
    headers: BTreeMap<String, String>,
    basic_auth: Option<BasicAuth1<'static>>,
    created_at: u64,
    updated_at: u64,
}

/// Schema 2: before it was kept how headers were given.
#[derive(Deserialize)]
struct Endpoint2 {
    before: Endpoint1,
    profile: Option<String>,
    method: Option<Method1>,
    auth_headers: BTreeMap<String, String>,
    retry: Option<RetrySchedule1>,
    timeout_seconds: Option<u32>,
}

/// Schema 3: before endpoints were verified.
#[derive(Deserialize)]
struct Endpoint3 {
    before: Endpoint2,
    open_headers: BTreeSet<String>,
}

/// Schema 4: before the operator could hold endpoints.
#[derive(Deserialize)]
struct Endpoint4 {
    before: Endpoint3,
    verification: Option<Verification1<'static>>,
}

/// Schema 5: before it was kept why an endpoint is disabled, and before endpoints had breakers.
#[derive(Deserialize)]
struct Endpoint5 {
    before: Endpoint4,
    held: Option<Held1>,
}

/// Schema 6: before filters and transformations.
#[derive(Deserialize)]
struct Endpoint6 {
    before: Endpoint5,
    disabling: Option<Disabled1>,
    breaker_failures: Option<u32>,
    disable_after_hours: Option<u32>,
    catch_up: Option<CatchUp1>,
}

/// Schema 7.
#[derive(Serialize, Deserialize)]
pub struct Endpoint7<'a> {
    id: Id<EndpointId>,
    number: u64,
    organisation: Id<OrganisationId>,
    application: Id<ApplicationId>,
    uid: Option<Cow<'a, str>>,
    url: Cow<'a, str>,
    description: Cow<'a, str>,
    disabled: bool,
    event_types: Option<Cow<'a, [String]>>,
    channels: Option<Cow<'a, [String]>>,
    metadata: Cow<'a, BTreeMap<String, String>>,
    throttle_rate: Option<u16>,
    secrets: Vec<EndpointSecret1<'a>>,
    headers: Cow<'a, BTreeMap<String, String>>,
    basic_auth: Option<BasicAuth1<'a>>,
    created_at: u64,
    updated_at: u64,
    #[serde(default)]
    profile: Option<Cow<'a, str>>,
    #[serde(default)]
    method: Option<Method1>,
    #[serde(default)]
    auth_headers: Cow<'a, BTreeMap<String, String>>,
    #[serde(default)]
    retry: Option<RetrySchedule1>,
    #[serde(default)]
    timeout_seconds: Option<u32>,
    #[serde(default)]
    open_headers: Cow<'a, BTreeSet<String>>,
    #[serde(default)]
    verification: Option<Verification1<'a>>,
    #[serde(default)]
    held: Option<Held1>,
    /// Absent where `disabled` is false, and where an earlier version disabled it.
    #[serde(default)]
    disabling: Option<Disabled1>,
    #[serde(default)]
    breaker_failures: Option<u32>,
    #[serde(default)]
    disable_after_hours: Option<u32>,
    #[serde(default)]
    catch_up: Option<CatchUp1>,
    #[serde(default)]
    filter: Option<Cow<'a, str>>,
    #[serde(default)]
    transformations: Vec<TransformationVersion1<'a>>,
}

#[derive(Serialize, Deserialize)]
struct TransformationVersion1<'a> {
    number: u32,
    saved_at: u64,
    transformation: Option<Transformation1<'a>>,
}

#[derive(Serialize, Deserialize)]
struct Transformation1<'a> {
    body: Option<Cow<'a, str>>,
    headers: Cow<'a, BTreeMap<String, String>>,
    method: Option<Method1>,
    content_type: Option<Cow<'a, str>>,
}

#[derive(Serialize, Deserialize)]
struct EndpointSecret1<'a> {
    secret: Cow<'a, str>,
    expires_at: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct BasicAuth1<'a> {
    username: Cow<'a, str>,
    password: Cow<'a, str>,
}

mirrored! {
    #[serde(rename_all = "UPPERCASE")]
    Method1 of Method { Post, Put, Patch, Get }
}

#[derive(Serialize, Deserialize)]
struct RetrySchedule1 {
    waits: Waits1,
    jitter: f64,
}

#[derive(Serialize, Deserialize)]
pub enum Waits1 {
    Listed(Vec<Duration1>),
    Growing {
        first: Duration1,
        factor: f64,
        max: Duration1,
        give_up_after: Duration1,
    },
}

#[derive(Serialize, Deserialize)]
struct Verification1<'a> {
    attempts: u32,
    next_at: Option<u64>,
    last_at: Option<u64>,
    last_error: Option<Cow<'a, str>>,
}

#[derive(Serialize, Deserialize)]
struct Held1 {
    since: u64,
    reason: HeldReason1,
}

mirrored! {
    HeldReason1 of HeldReason { ByHand, Restored }
}

#[derive(Serialize, Deserialize)]
struct Disabled1 {
    at: u64,
    reason: DisabledReason1,
}

mirrored! {
    DisabledReason1 of DisabledReason { Unknown, ByHand, Gone, Requested, Failing }
}

#[derive(Serialize, Deserialize)]
struct CatchUp1 {
    rate: u16,
    published_before: u64,
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

impl From<Endpoint3> for Endpoint4 {
    fn from(old: Endpoint3) -> Endpoint4 {
        Endpoint4 {
            before: old,
            verification: None,
        }
    }
}

impl From<Endpoint4> for Endpoint5 {
    fn from(old: Endpoint4) -> Endpoint5 {
        Endpoint5 {
            before: old,
            held: None,
        }
    }
}

impl From<Endpoint5> for Endpoint6 {
    fn from(old: Endpoint5) -> Endpoint6 {
        Endpoint6 {
            before: old,
            disabling: None,
            breaker_failures: None,
            disable_after_hours: None,
            catch_up: None,
        }
    }
}

impl From<Endpoint6> for Endpoint7<'static> {
    fn from(old: Endpoint6) -> Endpoint7<'static> {
        let fifth = old.before;
        let fourth = fifth.before;
        let third = fourth.before;
        let second = third.before;
        let first = second.before;
        Endpoint7 {
            id: first.id,
            number: first.number,
            organisation: first.organisation,
            application: first.application,
            uid: first.uid.map(Cow::Owned),
            url: Cow::Owned(first.url),
            description: Cow::Owned(first.description),
            disabled: first.disabled,
            event_types: first.event_types.map(Cow::Owned),
            channels: first.channels.map(Cow::Owned),
            metadata: Cow::Owned(first.metadata),
            throttle_rate: first.throttle_rate,
            secrets: first.secrets,
            headers: Cow::Owned(first.headers),
            basic_auth: first.basic_auth,
            created_at: first.created_at,
            updated_at: first.updated_at,
            profile: second.profile.map(Cow::Owned),
            method: second.method,
            auth_headers: Cow::Owned(second.auth_headers),
            retry: second.retry,
            timeout_seconds: second.timeout_seconds,
            open_headers: Cow::Owned(third.open_headers),
            verification: fourth.verification,
            held: fifth.held,
            disabling: old.disabling,
            breaker_failures: old.breaker_failures,
            disable_after_hours: old.disable_after_hours,
            catch_up: old.catch_up,
            filter: None,
            transformations: Vec::new(),
        }
    }
}

impl<'a> From<&'a Endpoint> for Endpoint7<'a> {
    fn from(value: &'a Endpoint) -> Endpoint7<'a> {
        Endpoint7 {
            id: Id(value.id),
            number: value.number,
            organisation: Id(value.organisation),
            application: Id(value.application),
            uid: value.uid.as_deref().map(Cow::Borrowed),
            url: Cow::from(&value.url),
            description: Cow::from(&value.description),
            disabled: value.disabled.is_some(),
            event_types: value.event_types.as_deref().map(Cow::Borrowed),
            channels: value.channels.as_deref().map(Cow::Borrowed),
            metadata: Cow::Borrowed(&value.metadata),
            throttle_rate: value.throttle_rate,
            secrets: value.secrets.iter().map(EndpointSecret1::from).collect(),
            headers: Cow::Borrowed(&value.headers),
            basic_auth: value.basic_auth.as_ref().map(BasicAuth1::from),
            created_at: value.created_at.0,
            updated_at: value.updated_at.0,
            profile: value.profile.as_deref().map(Cow::Borrowed),
            method: value.method.as_ref().map(Method1::from),
            auth_headers: Cow::Borrowed(&value.auth_headers),
            retry: value.retry.as_ref().map(RetrySchedule1::from),
            timeout_seconds: value.timeout_seconds,
            open_headers: Cow::Borrowed(&value.open_headers),
            verification: value.verification.as_ref().map(Verification1::from),
            held: value.held.as_ref().map(Held1::from),
            disabling: value.disabled.as_ref().map(Disabled1::from),
            breaker_failures: value.breaker_failures,
            disable_after_hours: value.disable_after_hours,
            catch_up: value.catch_up.as_ref().map(CatchUp1::from),
            filter: value.filter.as_ref().map(|one| Cow::Borrowed(one.source())),
            transformations: value
                .transformations
                .iter()
                .map(|one| TransformationVersion1::from(&**one))
                .collect(),
        }
    }
}

impl TryFrom<Endpoint7<'_>> for Endpoint {
    type Error = NotARecord;

    fn try_from(record: Endpoint7<'_>) -> Result<Endpoint, NotARecord> {
        let secrets = record.secrets.into_iter().map(EndpointSecret::from);
        let retry = record.retry.map(RetrySchedule::try_from).transpose()?;
        let filter = record.filter.map(|source| Filter::read(&source));
        let filter = filter
            .transpose()
            .map_err(|_| NotARecord("its filter is no filter"))?
            .map(Arc::new);
        let transformations = record.transformations.into_iter();
        let transformations = transformations.map(|one| Arc::new(TransformationVersion::from(one)));
        let unknown = Disabled {
            at: Timestamp(record.updated_at),
            reason: DisabledReason::Unknown,
        };
        let disabled = record.disabling.map_or(unknown, Disabled::from);
        Ok(Endpoint {
            id: record.id.0,
            number: record.number,
            organisation: record.organisation.0,
            application: record.application.0,
            uid: record.uid.map(Cow::into_owned),
            url: record.url.into_owned(),
            description: record.description.into_owned(),
            disabled: record.disabled.then_some(disabled),
            event_types: record.event_types.map(|names| names.into_owned().into()),
            channels: record.channels.map(Cow::into_owned),
            metadata: record.metadata.into_owned(),
            throttle_rate: record.throttle_rate,
            secrets: secrets.collect(),
            headers: record.headers.into_owned(),
            basic_auth: record.basic_auth.map(BasicAuth::from),
            created_at: Timestamp(record.created_at),
            updated_at: Timestamp(record.updated_at),
            profile: record.profile.map(Cow::into_owned),
            method: record.method.map(Method::from),
            auth_headers: record.auth_headers.into_owned(),
            retry,
            timeout_seconds: record.timeout_seconds,
            open_headers: record.open_headers.into_owned(),
            verification: record.verification.map(Verification::from),
            held: record.held.map(Held::from),
            breaker_failures: record.breaker_failures,
            disable_after_hours: record.disable_after_hours,
            catch_up: record.catch_up.map(CatchUp::from),
            filter,
            transformations: transformations.collect(),
        })
    }
}

impl<'a> From<&'a EndpointSecret> for EndpointSecret1<'a> {
    fn from(value: &'a EndpointSecret) -> EndpointSecret1<'a> {
        EndpointSecret1 {
            secret: Cow::Borrowed(value.secret.expose()),
            expires_at: value.expires_at.map(|at| at.0),
        }
    }
}

impl From<EndpointSecret1<'_>> for EndpointSecret {
    fn from(record: EndpointSecret1<'_>) -> EndpointSecret {
        EndpointSecret {
            secret: Secret::kept(record.secret.into_owned()),
            expires_at: record.expires_at.map(Timestamp),
        }
    }
}

impl<'a> From<&'a BasicAuth> for BasicAuth1<'a> {
    fn from(value: &'a BasicAuth) -> BasicAuth1<'a> {
        BasicAuth1 {
            username: Cow::from(&value.username),
            password: Cow::from(&value.password),
        }
    }
}

impl From<BasicAuth1<'_>> for BasicAuth {
    fn from(record: BasicAuth1<'_>) -> BasicAuth {
        BasicAuth {
            username: record.username.into_owned(),
            password: record.password.into_owned(),
        }
    }
}

impl From<&RetrySchedule> for RetrySchedule1 {
    fn from(value: &RetrySchedule) -> RetrySchedule1 {
        RetrySchedule1 {
            waits: Waits1::from(&value.waits),
            jitter: value.jitter,
        }
    }
}

impl TryFrom<RetrySchedule1> for RetrySchedule {
    type Error = NotARecord;

    fn try_from(record: RetrySchedule1) -> Result<RetrySchedule, NotARecord> {
        Ok(RetrySchedule {
            waits: Waits::try_from(record.waits)?,
            jitter: record.jitter,
        })
    }
}

impl From<&Waits> for Waits1 {
    fn from(value: &Waits) -> Waits1 {
        match value {
            Waits::Listed(waits) => Waits1::Listed(waits.iter().map(Duration1::from).collect()),
            Waits::Growing {
                first,
                factor,
                max,
                give_up_after,
            } => Waits1::Growing {
                first: Duration1::from(first),
                factor: *factor,
                max: Duration1::from(max),
                give_up_after: Duration1::from(give_up_after),
            },
        }
    }
}

impl TryFrom<Waits1> for Waits {
    type Error = NotARecord;

    fn try_from(record: Waits1) -> Result<Waits, NotARecord> {
        Ok(match record {
            Waits1::Listed(waits) => {
                let waits = waits.into_iter().map(Duration::try_from);
                Waits::Listed(waits.collect::<Result<_, _>>()?)
            }
            Waits1::Growing {
                first,
                factor,
                max,
                give_up_after,
            } => Waits::Growing {
                first: first.try_into()?,
                factor,
                max: max.try_into()?,
                give_up_after: give_up_after.try_into()?,
            },
        })
    }
}

impl<'a> From<&'a Verification> for Verification1<'a> {
    fn from(value: &'a Verification) -> Verification1<'a> {
        Verification1 {
            attempts: value.attempts,
            next_at: value.next_at.map(|at| at.0),
            last_at: value.last_at.map(|at| at.0),
            last_error: value.last_error.as_deref().map(Cow::Borrowed),
        }
    }
}

impl From<Verification1<'_>> for Verification {
    fn from(record: Verification1<'_>) -> Verification {
        Verification {
            attempts: record.attempts,
            next_at: record.next_at.map(Timestamp),
            last_at: record.last_at.map(Timestamp),
            last_error: record.last_error.map(Cow::into_owned),
        }
    }
}

impl From<&Held> for Held1 {
    fn from(value: &Held) -> Held1 {
        Held1 {
            since: value.since.0,
            reason: HeldReason1::from(&value.reason),
        }
    }
}

impl From<Held1> for Held {
    fn from(record: Held1) -> Held {
        Held {
            since: Timestamp(record.since),
            reason: record.reason.into(),
        }
    }
}

impl From<&Disabled> for Disabled1 {
    fn from(value: &Disabled) -> Disabled1 {
        Disabled1 {
            at: value.at.0,
            reason: DisabledReason1::from(&value.reason),
        }
    }
}

impl From<Disabled1> for Disabled {
    fn from(record: Disabled1) -> Disabled {
        Disabled {
            at: Timestamp(record.at),
            reason: record.reason.into(),
        }
    }
}

impl From<&CatchUp> for CatchUp1 {
    fn from(value: &CatchUp) -> CatchUp1 {
        CatchUp1 {
            rate: value.rate,
            published_before: value.published_before.0,
        }
    }
}

impl From<CatchUp1> for CatchUp {
    fn from(record: CatchUp1) -> CatchUp {
        CatchUp {
            rate: record.rate,
            published_before: Timestamp(record.published_before),
        }
    }
}

impl<'a> From<&'a TransformationVersion> for TransformationVersion1<'a> {
    fn from(value: &'a TransformationVersion) -> TransformationVersion1<'a> {
        let transformation = value.transformation.as_ref();
        TransformationVersion1 {
            number: value.number,
            saved_at: value.saved_at.0,
            transformation: transformation.map(|one| Transformation1 {
                body: one.body.as_deref().map(Cow::Borrowed),
                headers: Cow::Borrowed(&one.headers),
                method: one.method.as_ref().map(Method1::from),
                content_type: one.content_type.as_deref().map(Cow::Borrowed),
            }),
        }
    }
}

impl From<TransformationVersion1<'_>> for TransformationVersion {
    fn from(record: TransformationVersion1<'_>) -> TransformationVersion {
        TransformationVersion {
            number: record.number,
            saved_at: Timestamp(record.saved_at),
            transformation: record.transformation.map(|one| Transformation {
                body: one.body.map(Cow::into_owned),
                headers: one.headers.into_owned(),
                method: one.method.map(Method::from),
                content_type: one.content_type.map(Cow::into_owned),
            }),
        }
    }
}

impl Kept for Endpoint {
    const SCHEMA: u16 = 7;
    type Record<'a> = Endpoint7<'a>;

    fn read(schema: u16, bytes: &mut &[u8]) -> Result<Endpoint, NotARecord> {
        let newest: Endpoint7<'_> = match schema {
            1 => {
                let second = Endpoint2::from(read_struct::<Endpoint1>(bytes)?);
                let fourth = Endpoint4::from(Endpoint3::from(second));
                Endpoint6::from(Endpoint5::from(fourth)).into()
            }
            2 => {
                let third = Endpoint3::from(read_struct::<Endpoint2>(bytes)?);
                Endpoint6::from(Endpoint5::from(Endpoint4::from(third))).into()
            }
            3 => {
                let fourth = Endpoint4::from(read_struct::<Endpoint3>(bytes)?);
                Endpoint6::from(Endpoint5::from(fourth)).into()
            }
            4 => Endpoint6::from(Endpoint5::from(read_struct::<Endpoint4>(bytes)?)).into(),
            5 => Endpoint6::from(read_struct::<Endpoint5>(bytes)?).into(),
            6 => read_struct::<Endpoint6>(bytes)?.into(),
            _ => read_struct(bytes)?,
        };
        newest.try_into()
    }
}
