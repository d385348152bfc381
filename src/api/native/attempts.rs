//! Attempts: the requests for a message or to an endpoint, and their outcomes.
//!
//! No secret is shown: URLs have no credentials, and headers with a sensitive name are listed
//! without their value.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::web;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::endpoint_path::named;
use super::history::{History, is_wanted};
use super::message_body::MessageOut;
use crate::api::kit::call::{Call, Reply};
use crate::api::kit::extract::{Body, json, optional_text, text};
use crate::api::kit::operation::{Operation, Parameter};
use crate::api::kit::page::{Listed, Page, page_parameters, shown};
use crate::api::kit::query::{
    Query, channel_parameter, event_types_parameter, tag_parameter, time_parameters,
};
use crate::clock::Timestamp;
use crate::domain::attempt::{Attempt, FailureKind, SendFailure, Trigger};
use crate::domain::endpoint::is_sensitive;
use crate::domain::id::{ApplicationId, AttemptId, EndpointId, MessageId};
use crate::domain::message::Message;
use crate::error::{Error, Result};
use crate::rules::caller::Action;
use crate::store::{Answered, Store, Stretch};

/// The text in place of a sensitive value.
const MASK: &str = "***";

/// The contract's message statuses that an attempt can have: it is over when it is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Success = 0,
    Fail = 2,
}

impl Status {
    fn of(attempt: &Attempt) -> Status {
        match attempt.failure {
            None => Status::Success,
            Some(_) => Status::Fail,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Status::Success => "success",
            Status::Fail => "fail",
        }
    }
}

/// One request that was made for a message, and its outcome.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttemptOut<'a> {
    #[serde(serialize_with = "text")]
    id: AttemptId,
    #[serde(serialize_with = "text")]
    msg_id: MessageId,
    #[serde(serialize_with = "text")]
    endpoint_id: EndpointId,
    /// The URL as it was requested, without credentials.
    url: &'a str,
    /// The answer's body, as far as it is kept; empty where it was not asked for.
    response: Cow<'a, str>,
    /// 0 where no answer came.
    response_status_code: u16,
    response_duration_ms: u32,
    /// 0: success, 2: fail.
    #[schemars(extend("enum" = [0, 1, 2, 3]))]
    status: u8,
    #[schemars(extend("enum" = ["success", "pending", "fail", "sending"]))]
    status_text: &'static str,
    /// 0: scheduled, 1: by hand.
    #[schemars(extend("enum" = [0, 1]))]
    trigger_type: u8,
    /// When it began.
    #[serde(serialize_with = "text")]
    timestamp: Timestamp,
    /// The message, where it was asked for and is still kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    msg: Option<MessageOut<'a>>,
    // From here on: additions to the contract.
    /// The number of the attempt, counted from 1.
    attempt: u32,
    /// Why the attempt failed; null where it did not.
    failure: Option<FailureOut<'a>>,
    /// The request, without the payload.
    request: RequestOut<'a>,
    /// The answer's headers; a sensitive value is `***`.
    response_headers: BTreeMap<String, String>,
    /// The answer was longer than the part that is read.
    response_truncated: bool,
    timings: TimingsOut,
    /// The time from the publication to the end of the answer, in milliseconds.
    latency_ms: u64,
    /// A connection that was kept open turned out closed before any answer, so the request was made
    /// once more, on a new one. The receiver may have got both.
    sent_again: bool,
    /// When the next attempt is due; null where none follows.
    #[serde(serialize_with = "optional_text")]
    next_attempt_at: Option<Timestamp>,
    /// The message was sent to try the endpoint out.
    test: bool,
}

/// Why an attempt failed.
#[derive(Serialize, JsonSchema)]
struct FailureOut<'a> {
    #[schemars(extend("enum" = FailureKind::ALL.map(FailureKind::name)))]
    kind: &'static str,
    /// The reason in a sentence.
    detail: &'a str,
}

impl<'a> From<&'a SendFailure> for FailureOut<'a> {
    fn from(failure: &'a SendFailure) -> Self {
        FailureOut {
            kind: failure.kind.name(),
            detail: &failure.detail,
        }
    }
}

/// A request as it was sent.
#[derive(Serialize, JsonSchema)]
struct RequestOut<'a> {
    method: &'a str,
    /// The headers; a sensitive value is `***`.
    headers: BTreeMap<String, String>,
    /// Names of headers that were sent and whose values are not shown.
    masked: Vec<&'a str>,
}

/// Times in microseconds; null where a part was not reached or a connection was reused.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct TimingsOut {
    dns_us: Option<u32>,
    connect_us: Option<u32>,
    tls_us: Option<u32>,
    first_byte_us: Option<u32>,
    total_us: u32,
}

impl<'a> AttemptOut<'a> {
    fn new(attempt: &'a Attempt, with_content: bool) -> Self {
        let answer = attempt.answer.as_ref();
        let status = Status::of(attempt);
        AttemptOut {
            id: attempt.id,
            msg_id: attempt.message,
            endpoint_id: attempt.endpoint,
            url: &attempt.url,
            response: answer
                .filter(|_| with_content)
                .map(|answer| String::from_utf8_lossy(&answer.body))
                .unwrap_or_default(),
            response_status_code: answer.map_or(0, |answer| answer.status),
            response_duration_ms: attempt.timings.total_us / 1000,
            status: status as u8,
            status_text: status.text(),
            trigger_type: match attempt.trigger {
                Trigger::Scheduled => 0,
                Trigger::Manual => 1,
            },
            timestamp: attempt.started_at,
            msg: None,
            attempt: attempt.number,
            failure: attempt.failure.as_ref().map(FailureOut::from),
            request: RequestOut {
                method: &attempt.method,
                headers: shown_headers(&attempt.request_headers),
                masked: attempt
                    .request_headers
                    .iter()
                    .map(|(name, _)| name.as_str())
                    .filter(|name| is_sensitive(name))
                    .collect(),
            },
            response_headers: answer
                .map_or_else(BTreeMap::new, |answer| shown_headers(&answer.headers)),
            response_truncated: answer.is_some_and(|answer| answer.truncated),
            timings: TimingsOut {
                dns_us: attempt.timings.dns_us,
                connect_us: attempt.timings.connect_us,
                tls_us: attempt.timings.tls_us,
                first_byte_us: attempt.timings.first_byte_us,
                total_us: attempt.timings.total_us,
            },
            latency_ms: latency_ms(attempt),
            sent_again: attempt.sent_again,
            next_attempt_at: attempt.next_due(),
            test: attempt.test,
        }
    }

    fn with_message((attempt, message): &'a Listing, with_content: bool) -> Self {
        let message = message.as_deref();
        AttemptOut {
            msg: message.map(|message| MessageOut::with(message, with_content)),
            ..AttemptOut::new(attempt, with_content)
        }
    }
}

/// An attempt, with its message where that was asked for.
type Listing = (Attempt, Option<Arc<Message>>);

/// Computes the latency from the message's id, which has the time of its publication, to some
/// milliseconds.
fn latency_ms(attempt: &Attempt) -> u64 {
    let waited = attempt.started_at.since(attempt.message.time());
    waited.as_millis() as u64 + u64::from(attempt.timings.total_us / 1000)
}

/// Headers by name, repeated ones joined (RFC 9110, 5.2), sensitive ones masked.
fn shown_headers(headers: &[(String, String)]) -> BTreeMap<String, String> {
    let mut shown = BTreeMap::new();
    for (name, value) in headers {
        if is_sensitive(name) {
            shown.insert(name.clone(), MASK.to_owned());
            continue;
        }
        shown
            .entry(name.clone())
            .and_modify(|joined: &mut String| {
                joined.push_str(", ");
                joined.push_str(value);
            })
            .or_insert_with(|| value.clone());
    }
    shown
}

/// The conditions of a list on the attempts themselves.
struct Filter {
    /// The contract's number. It may be one that [`Status`] does not have: no attempt has that.
    status: Option<u8>,
    /// The hundreds of the answer's status; 0 for no answer.
    status_class: Option<u16>,
    endpoint: Option<EndpointId>,
}

impl Filter {
    fn wants(&self, attempt: &Attempt) -> bool {
        let class = attempt
            .answer
            .as_ref()
            .map_or(0, |answer| answer.status / 100);
        self.status
            .is_none_or(|wanted| wanted == Status::of(attempt) as u8)
            && self.status_class.is_none_or(|wanted| wanted == class)
            && self
                .endpoint
                .is_none_or(|wanted| wanted == attempt.endpoint)
    }
}

/// Reads the contract's number of a status. `expanded_statuses` would also show canceled deliveries
/// (4), which postrider does not have: it changes nothing here.
pub fn status_in(query: &mut Query<'_>) -> Option<u8> {
    query.flag(EXPANDED_STATUSES, true);
    let statuses = [("0", 0), ("1", 1), ("2", 2), ("3", 3), ("4", 4)];
    query.choice("status", &statuses)
}

const EXPANDED_STATUSES: &str = "expanded_statuses";

fn expanded_statuses() -> Parameter {
    Parameter::flag_without_effect(
        EXPANDED_STATUSES,
        true,
        "It shows the status 4, canceled, which no attempt has.",
    )
}

/// The conditions of a list on its messages.
pub struct MessageFilter {
    event_types: Option<Vec<String>>,
    channel: Option<String>,
    tag: Option<String>,
}

impl MessageFilter {
    pub fn of(query: &mut Query<'_>) -> MessageFilter {
        MessageFilter {
            event_types: query.event_types(),
            channel: query.channel(),
            tag: query.tag(),
        }
    }

    fn wants_all(&self) -> bool {
        self.event_types.is_none() && self.channel.is_none() && self.tag.is_none()
    }

    pub fn wants(&self, message: &Message) -> bool {
        is_wanted(
            message,
            self.event_types.as_deref(),
            self.channel.as_deref(),
        ) && self
            .tag
            .as_ref()
            .is_none_or(|tag| message.tags.contains(tag))
    }
}

/// Returns the parameters that [`MessageFilter::of`] and [`status_in`] read.
pub fn filter_parameters() -> [Parameter; 4] {
    [
        channel_parameter(),
        event_types_parameter(),
        tag_parameter(),
        expanded_statuses(),
    ]
}

fn filter_in(query: &mut Query<'_>) -> Filter {
    let classes = [
        ("0", 0),
        ("100", 1),
        ("200", 2),
        ("300", 3),
        ("400", 4),
        ("500", 5),
    ];
    Filter {
        status: status_in(query),
        status_class: query.choice("status_code_class", &classes),
        endpoint: None,
    }
}

/// This module's part of the API.
pub fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/api/v1/app/{app_id}/msg/{msg_id}/attempt/{attempt_id}",
            "v1.message-attempt.get",
            web::to(get),
        )
        .summary("Show an attempt")
        .parameters([expanded_statuses()])
        .answers::<AttemptOut>(200, "The attempt"),
        Operation::post(
            "/api/v1/app/{app_id}/msg/{msg_id}/endpoint/{endpoint_id}/resend",
            "v1.message-attempt.resend",
            web::to(resend),
        )
        .needs(Action::SendAgain)
        .summary("Send a message again")
        .description(
            "Sends it to this endpoint now, whether it was delivered before or not. It is retried \
             as any message is. What the body says is ignored.",
        )
        .once()
        .answers::<Empty>(202, "Accepted, and durable")
        .answers_nothing(
            409,
            "The message cannot be sent again, for the reason given",
        ),
        Operation::get(
            "/api/v1/app/{app_id}/attempt/endpoint/{endpoint_id}",
            "v1.message-attempt.list-by-endpoint",
            web::to(list_by_endpoint),
        )
        .summary("List attempts at an endpoint")
        .description("The newest first, unless `order` says otherwise.")
        .parameters(list_parameters())
        .answers::<Listed<AttemptOut>>(200, "A page of attempts"),
        Operation::get(
            "/api/v1/app/{app_id}/attempt/msg/{msg_id}",
            "v1.message-attempt.list-by-msg",
            web::to(list_by_message),
        )
        .summary("List attempts for a message")
        .description("The newest first, unless `order` says otherwise.")
        .parameters(list_parameters())
        .parameters([endpoint_parameter()])
        .answers::<Listed<AttemptOut>>(200, "A page of attempts"),
        Operation::get(
            "/api/v1/app/{app_id}/msg/{msg_id}/attempt",
            "v1.message-attempt.list-by-msg-deprecated",
            web::to(list_by_message),
        )
        .summary("List attempts for a message (older path)")
        .description("As `attempt/msg/{msg_id}`, for older clients.")
        .parameters(list_parameters())
        .parameters([endpoint_parameter()])
        .answers::<Listed<AttemptOut>>(200, "A page of attempts"),
        Operation::get(
            "/api/v1/app/{app_id}/msg/{msg_id}/endpoint/{endpoint_id}/attempt",
            "v1.message-attempt.list-by-endpoint-deprecated",
            web::to(list_by_message),
        )
        .summary("List attempts for a message at an endpoint (older path)")
        .description("As `attempt/msg/{msg_id}` with `endpoint_id`, for older clients.")
        .parameters(list_parameters())
        .answers::<Listed<AttemptOut>>(200, "A page of attempts"),
    ]
}

fn endpoint_parameter() -> Parameter {
    Parameter::query(
        "endpoint_id",
        "Only those at this endpoint, named by its id or uid.",
        json!({ "type": "string" }),
    )
}

/// Returns the parameters of both lists.
pub fn list_parameters() -> Vec<Parameter> {
    let mut parameters = page_parameters(true).to_vec();
    parameters.extend(time_parameters());
    parameters.extend([
        Parameter::query(
            "status",
            "Only those with this status: 0 for success, 2 for fail. No attempt has 1, 3 or 4.",
            json!({ "type": "integer", "enum": [0, 1, 2, 3, 4] }),
        ),
        Parameter::query(
            "status_code_class",
            "Only those whose answer had a status of this hundred; 0 for no answer.",
            json!({ "type": "integer", "enum": [0, 100, 200, 300, 400, 500] }),
        ),
        Parameter::flag(
            "with_content",
            true,
            "Whether `response` is shown, and the message's payload.",
        ),
        Parameter::flag(
            "with_msg",
            false,
            "Whether each comes with its message, in `msg`.",
        ),
    ]);
    parameters.extend(filter_parameters());
    parameters
}

pub async fn list_by_endpoint(call: Call) -> Reply {
    let endpoint = named(&call, Action::ReadHistory)?;
    let (application, lane) = (endpoint.application, endpoint.number);
    let mut query = call.query();
    let page = query.page::<AttemptId>(&call.context.config.limits, true);
    let (before, after) = query.time_bounds();
    let with_content = query.flag("with_content", true);
    let with_message = query.flag("with_msg", false);
    let filter = filter_in(&mut query);
    let about = MessageFilter::of(&mut query);
    query.problems.done()?;
    let window = page.window(before, after);
    let store = call.context.store.clone();
    let read = move || {
        let mut failed = None;
        let stretch = store.attempts_of_endpoint(lane, &window, &mut |attempt| {
            if !filter.wants(attempt) || failed.is_some() {
                return false;
            }
            if about.wants_all() {
                return true;
            }
            match store.message_without_payload(application, attempt.message) {
                Ok(message) => message.is_some_and(|message| about.wants(&message)),
                Err(error) => {
                    failed = Some(error);
                    false
                }
            }
        })?;
        failed.map_or(Ok(()), Err)?;
        let stretch = with_messages(&store, application, stretch, with_message, window.bytes)?;
        Ok(answered_page(&page, stretch, with_content))
    };
    call.read(read).await
}

fn answered_page(
    page: &Page<AttemptId>,
    stretch: Stretch<Listing, AttemptId>,
    with_content: bool,
) -> Answered {
    page.answer(
        stretch,
        |(attempt, _)| attempt.id,
        |listing| shown(&AttemptOut::with_message(listing, with_content)),
    )
}

/// Adds the messages, each read once, until the page has its limit of bytes. Blocks on the disk.
fn with_messages(
    store: &Store,
    application: ApplicationId,
    stretch: Stretch<Attempt, AttemptId>,
    wanted: bool,
    bytes_max: usize,
) -> Result<Stretch<Listing, AttemptId>> {
    let mut next = stretch.next;
    let mut bytes = 0;
    let mut known: HashMap<MessageId, Option<Arc<Message>>> = HashMap::new();
    let mut items = Vec::with_capacity(stretch.items.len());
    for attempt in stretch.items {
        let id = attempt.message;
        if wanted && !known.contains_key(&id) {
            let message = match store.message(application, id) {
                // Its attempts can be read: they are shown without it, and the server's log has the damage.
                Err(Error::Unreadable { .. }) => None,
                read => read?,
            };
            known.insert(id, message);
        }
        let message = known.get(&id).cloned().flatten();
        bytes += message.as_ref().map_or(0, |message| message.payload.len());
        if bytes > bytes_max
            && let Some((last, _)) = items.last()
        {
            let last: &Attempt = last;
            next = Some(last.id);
            break;
        }
        items.push((attempt, message));
    }
    Ok(Stretch { items, next })
}

pub async fn list_by_message(call: Call) -> Reply {
    let history = History::named(&call)?;
    let mut query = call.query();
    let page = query.page::<AttemptId>(&call.context.config.limits, true);
    let (before, after) = query.time_bounds();
    let with_content = query.flag("with_content", true);
    let with_message = query.flag("with_msg", false);
    let mut filter = filter_in(&mut query);
    let about = MessageFilter::of(&mut query);
    let in_path = call.request.match_info().get("endpoint_id");
    let endpoint = in_path
        .or_else(|| query.get("endpoint_id"))
        .map(str::to_owned);
    query.problems.done()?;
    if let Some(endpoint) = endpoint {
        let catalog = call.catalog();
        let (caller, application) = (call.caller, call.path("app_id"));
        let endpoint = caller.endpoint(&catalog, application, &endpoint, Action::ReadHistory)?;
        filter.endpoint = Some(endpoint.id);
    }
    let id = call.path("msg_id").to_owned();
    let window = page.window(before, after);
    let store = call.context.store.clone();
    let read = move || {
        let message = history.message(&store, &id)?;
        if !about.wants(&message) {
            let none = Stretch {
                items: Vec::new(),
                next: None,
            };
            return Ok(answered_page(&page, none, with_content));
        }
        let stretch = store.attempts_of_message(message.id, &window, &mut |attempt| {
            filter.wants(attempt) && history.includes(attempt.endpoint)
        })?;
        let application = history.application;
        let stretch = with_messages(&store, application, stretch, with_message, window.bytes)?;
        Ok(answered_page(&page, stretch, with_content))
    };
    call.read(read).await
}

pub async fn get(call: Call) -> Reply {
    let history = History::named(&call)?;
    let mut query = call.query();
    query.flag(EXPANDED_STATUSES, true);
    query.problems.done()?;
    let message = call.path("msg_id").to_owned();
    let not_found = || Error::not_found("attempt");
    let id: AttemptId = call.path("attempt_id").parse().map_err(|_| not_found())?;
    let store = call.context.store.clone();
    let read = move || {
        let message = history.message(&store, &message)?;
        let attempt = store.attempt(message.id, id)?;
        attempt
            .filter(|attempt| attempt.application == history.application)
            .filter(|attempt| history.includes(attempt.endpoint))
            .ok_or_else(not_found)
    };
    let attempt = call.reading(read).await?;
    Ok(json(StatusCode::OK, &AttemptOut::new(&attempt, true)))
}

/// An object without fields.
#[derive(Serialize, JsonSchema)]
struct Empty {}

/// Sends a message to an endpoint once more, now. The caller must be able to read the delivery: a
/// webhook user cannot get a message that was never for its endpoint by sending it there.
pub async fn resend(call: Call, body: Body) -> Reply {
    let endpoint = named(&call, Action::SendAgain)?;
    let history = History::named_for(&call, Action::SendAgain)?;
    let once = call.once(&body)?;
    let id = call.path("msg_id").to_owned();
    let store = call.context.store.clone();
    let message = call.reading(move || history.message(&store, &id)).await?;
    call.context.store.resend(message, endpoint, once).await?;
    Ok(json(StatusCode::ACCEPTED, &Empty {}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::attempt::{Answer, Timings, Verdict};

    const AT: Timestamp = Timestamp(1_700_000_000_000);

    fn attempt(status: Option<u16>) -> Attempt {
        Attempt {
            id: AttemptId::at(AT),
            application: ApplicationId::at(AT),
            message: MessageId::at(AT),
            endpoint: EndpointId::at(AT),
            number: 2,
            trigger: Trigger::Manual,
            started_at: AT,
            timings: Timings {
                total_us: 12_999,
                ..Timings::default()
            },
            url: "https://example.com/in".to_owned(),
            method: "POST".to_owned(),
            request_headers: [
                ("webhook-id", "msg_1"),
                ("Authorization", "Basic czNjcmV0"),
                ("X-Api-Key", "s3cret"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
            answer: status.map(|status| Answer {
                status,
                headers: [("vary", "a"), ("set-cookie", "s3cret"), ("vary", "b")]
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .to_vec(),
                body: b"oh \xff no".to_vec(),
                truncated: true,
            }),
            failure: (status != Some(200)).then(|| SendFailure {
                kind: FailureKind::Timeout,
                detail: "took longer than 15 s".to_owned(),
            }),
            sent_again: false,
            verdict: Verdict::RetryAt(Timestamp(1_700_000_005_000)),
            test: false,
        }
    }

    fn shown(attempt: &Attempt, with_content: bool) -> serde_json::Value {
        serde_json::to_value(AttemptOut::new(attempt, with_content)).unwrap()
    }

    #[test]
    fn an_attempt_is_shown_without_anything_secret() {
        let body = shown(&attempt(Some(500)), true);
        let text = body.to_string();
        assert!(
            !text.contains("s3cret") && !text.contains("czNjcmV0"),
            "{text}"
        );
        assert_eq!(
            body["request"]["masked"],
            serde_json::json!(["Authorization", "X-Api-Key"])
        );
        assert_eq!(body["request"]["headers"]["webhook-id"], "msg_1");
        assert_eq!(body["responseHeaders"]["vary"], "a, b");
        assert_eq!(body["responseHeaders"]["set-cookie"], MASK);
    }

    #[test]
    fn a_failed_attempt_says_how_and_when_the_next_is_due() {
        let body = shown(&attempt(Some(500)), true);
        assert_eq!(body["status"], 2);
        assert_eq!(body["statusText"], "fail");
        assert_eq!(body["triggerType"], 1);
        assert_eq!(body["attempt"], 2);
        assert_eq!(body["responseStatusCode"], 500);
        assert_eq!(body["responseDurationMs"], 12);
        assert_eq!(body["response"], "oh \u{fffd} no");
        assert_eq!(body["failure"]["kind"], "timeout");
        assert_eq!(body["nextAttemptAt"], "2023-11-14T22:13:25.000Z");
        assert_eq!(shown(&attempt(Some(500)), false)["response"], "");
    }

    #[test]
    fn no_answer_reads_as_status_zero() {
        let body = shown(&attempt(None), true);
        assert_eq!(body["responseStatusCode"], 0);
        assert_eq!(body["response"], "");
    }

    #[test]
    fn filters_want_what_they_name() {
        let filter = |status, status_class, endpoint| Filter {
            status,
            status_class,
            endpoint,
        };
        let good = attempt(Some(200));
        let bad = attempt(Some(503));
        let silent = attempt(None);
        for (filter, expected) in [
            (filter(None, None, None), [true, true, true]),
            (filter(Some(0), None, None), [true, false, false]),
            (filter(Some(2), None, None), [false, true, true]),
            (filter(Some(1), None, None), [false, false, false]),
            (filter(None, Some(2), None), [true, false, false]),
            (filter(None, Some(5), None), [false, true, false]),
            (filter(None, Some(0), None), [false, false, true]),
            (
                filter(None, None, Some(good.endpoint)),
                [true, false, false],
            ),
        ] {
            let found = [&good, &bad, &silent].map(|attempt| filter.wants(attempt));
            assert_eq!(found, expected);
        }
    }
}
