//! Many messages in one request: `/api/v1/app/{app_id}/msg/batch`. An addition to the contract.
//!
//! The body is a JSON array, or has a message on each line. Each message is judged as if it had
//! come alone. Those that can be accepted are accepted with one commit: after a crash there are all
//! of them or none. A body is long enough to delay a reactor, so it is read on a thread that may
//! block.

use std::fmt;

use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, web};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::applications::{ApplicationIn, create_beside};
use super::message_body::{Bounds, Checked, MessageIn, checked, with_content_parameter};
use super::message_checks::BatchChecks;
use crate::api::kit::call::{Call, Reply};
use crate::api::kit::context::Context;
use crate::api::kit::error::Failure;
use crate::api::kit::extract::{Body, blocking, invalid_body, once_key, respond};
use crate::api::kit::operation::{Content, Operation};
use crate::domain::cost::Budget;
use crate::domain::filter::Facts;
use crate::domain::id::ApplicationId;
use crate::error::{Error, Invalid, Result};
use crate::misfit;
use crate::rules::caller::{Action, Caller};
use crate::rules::checks::wrong;
use crate::rules::matching::{Matched, candidates};
use crate::rules::payer::Payer;
use crate::store::{BatchAnswer, NewBatch, NewMessage, Once};
use answer::{BatchOut, show, shown_again};

mod answer;

/// Media types of a body with a message on each line.
const LINES: [&str; 3] = [
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
];

/// This module's part of the API.
pub fn operation(body_bytes_max: usize) -> Operation {
    let lines = Content {
        media_type: LINES[0],
        ..Content::json::<MessageIn<'_>>()
    };
    Operation::post(
        "/api/v1/app/{app_id}/msg/batch",
        "v1.message.create-batch",
        web::to(create),
    )
    .needs(Action::Publish)
    .summary("Publish many messages")
    .description(
        "A JSON array, or a message on each line (`application/x-ndjson`, `application/jsonl`, or \
         any body that begins with `{`). Each is judged as if it had come alone; those that can be \
         accepted are, all of them or none should the server die. The answer is 202 where any is \
         accepted, and lists what came of each; where none is, it is a 422 that names what is \
         wrong with each at `body` and its number, from 0. How many messages, bytes and deliveries \
         a batch may have are settings of the server (413 beyond); where its deliveries find no \
         room, it is refused as a whole (429).",
    )
    .parameters([with_content_parameter(false)])
    .once()
    .takes::<Vec<MessageIn<'_>>>()
    .takes_content(lines)
    .body_bytes_max(body_bytes_max)
    .answers::<BatchOut<'_>>(202, "At least one is accepted, and durable")
    .answers_nothing(409, "The `idempotency-key` was used with another body")
}

pub async fn create(call: Call, body: Body) -> Reply {
    let path = call.path("app_id");
    call.caller.may_in(&call.catalog(), path, Action::Publish)?;
    let mut query = call.query();
    let with_content = query.flag("with_content", false);
    query.problems.done()?;
    let batch = Unread {
        context: call.context.clone(),
        caller: call.caller,
        path: path.to_owned(),
        is_lines: is_lines(&call.request, &body),
        once_key: once_key(&call.request, &call.caller)?,
        body: body.0,
    };
    let read = match batch.read().await? {
        Found::Batch(read) => read,
        Found::NoApplication(application) => {
            create_beside(&call, *application).await?;
            match batch.read().await? {
                Found::Batch(read) => read,
                Found::NoApplication(_) => return Err(Error::not_found("application").into()),
            }
        }
    };
    let Read {
        application,
        messages,
        judged,
        once,
    } = read;
    if messages.is_empty() && once.is_none() {
        return Err(show(judged, Vec::new(), with_content, false)
            .expect_err("nothing is accepted")
            .into());
    }
    let is_kept = once.is_some();
    let show = Box::new(move |results| show(judged, results, with_content, is_kept));
    let new = NewBatch::new(messages, once, show);
    let max = call.context.config.limits.batch_deliveries_max;
    if new.deliveries() > max as u64 {
        return Err(Failure::TooLarge(format!(
            "it would make {} deliveries, and a batch makes at most {max} \
             (limits.batch_deliveries_max): publish it in smaller parts",
            new.deliveries()
        )));
    }
    match call.context.store.accept_batch(new).await? {
        BatchAnswer::Accepted(answered) => Ok(respond(answered)),
        BatchAnswer::Earlier(kept) => {
            let store = call.context.store.clone();
            let read = move || shown_again(&store, application, kept, with_content);
            Ok(respond(call.reading(read).await?))
        }
    }
}

/// A request whose body was not read yet.
#[derive(Clone)]
struct Unread {
    context: web::Data<Context>,
    caller: Caller,
    path: String,
    body: Bytes,
    is_lines: bool,
    once_key: Option<[u8; 32]>,
}

struct Read {
    application: ApplicationId,
    messages: Vec<NewMessage>,
    /// Why each item of the body is refused, or the warnings about it where it is the next of `messages`.
    judged: Vec<Judged>,
    once: Option<Once>,
}

enum Found {
    Batch(Read),
    /// The application does not exist, and a message has this one to create.
    NoApplication(Box<ApplicationIn>),
}

impl Unread {
    async fn read(&self) -> Result<Found, Failure> {
        let unread = self.clone();
        let read = move || Ok(unread.read_now());
        match self.whose_filters() {
            // Filters are a customer's own work, which takes the turns that its reads have.
            Some(customer) => {
                let now = self.context.store.clock().now();
                let payer = Payer::Application(customer);
                self.context.shares.read(payer, now, read).await?
            }
            None => blocking(read).await?,
        }
    }

    /// The application, where endpoints of it have filters.
    fn whose_filters(&self) -> Option<ApplicationId> {
        let catalog = self.context.store.catalog();
        let entry = self
            .caller
            .application(&catalog, &self.path, Action::Publish);
        let entry = entry.ok()?;
        let mut endpoints = entry.endpoints.iter();
        let has_filters = endpoints.any(|one| one.filter.is_some());
        has_filters.then_some(entry.application.id)
    }

    fn read_now(&self) -> Result<Found, Failure> {
        let (store, limits) = (&self.context.store, &self.context.config.limits);
        let items = items(&self.body, self.is_lines, limits.batch_messages_max)?;
        let bounds = Bounds::of(&self.context, &self.path);
        let mut judged: Vec<Result<Checked<'_>, Failure>> =
            items.iter().map(|item| checked(item, &bounds)).collect();
        let application = self
            .caller
            .application(&store.catalog(), &self.path, Action::Publish)
            .map(|entry| entry.application.id);
        let application = match application {
            Err(Error::NotFound(what)) => {
                let mut messages = judged.iter_mut().flatten();
                let application = messages.find_map(|message| message.application.take());
                let application = application.ok_or(Error::NotFound(what))?;
                return Ok(Found::NoApplication(Box::new(application)));
            }
            found => found?,
        };
        let checks = BatchChecks::new(&self.context, self.caller.organisation);
        let mut budget = Budget::of_batch();
        let (messages, judged) = match_all(judged, &self.body, |message| {
            let mut part = budget.part();
            let judged = checks.warnings(message, &mut part).and_then(|warnings| {
                // The catalog is held for as long as this takes: whoever changes it waits.
                let candidates = candidates(&store.catalog(), application, &message.event_type)?;
                let facts = Facts::new(message.parts(bounds.now));
                Ok((candidates.matched(&facts, &mut part)?, warnings))
            });
            budget.settle(&part);
            judged
        })?;
        let once = self.once_key.map(|key| Once {
            key,
            body: Sha256::digest(&self.body).into(),
        });
        Ok(Found::Batch(Read {
            application,
            messages,
            judged,
            once,
        }))
    }
}

/// Why an item of the body is refused, or the warnings about it.
pub type Judged = Result<Vec<Invalid>, Failure>;

/// Messages to accept, and what becomes of each item of the body.
type Sorted = (Vec<NewMessage>, Vec<Judged>);

/// Matches the messages that are sound. An error where their application is gone: it may have been deleted
/// since it was looked up, which is no fault of any one message.
fn match_all(
    judged: Vec<Result<Checked<'_>, Failure>>,
    body: &Bytes,
    mut match_one: impl FnMut(&Checked<'_>) -> Result<(Matched, Vec<Invalid>)>,
) -> Result<Sorted> {
    let (mut messages, mut sorted) = (Vec::new(), Vec::new());
    for message in judged {
        let mut message = match message {
            Ok(message) => message,
            Err(failure) => {
                sorted.push(Err(failure));
                continue;
            }
        };
        match match_one(&message) {
            Err(gone @ Error::NotFound(_)) => return Err(gone),
            Err(error) => sorted.push(Err(error.into())),
            Ok((matched, warnings)) => {
                let payload = message.payload.bytes(body);
                // What waits to be sent stays in memory, and must not keep the whole body there.
                let payload = match matched.lanes.is_empty() || message.payload.is_raw() {
                    true => payload,
                    false => Bytes::copy_from_slice(&payload),
                };
                messages.push(message.into_new(matched, payload, None));
                sorted.push(Ok(warnings));
            }
        }
    }
    Ok((messages, sorted))
}

fn is_lines(request: &HttpRequest, body: &Body) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let media_type = content_type.and_then(|value| value.split(';').next());
    let by_type = media_type
        .map(str::trim)
        .is_some_and(|name| LINES.iter().any(|one| one.eq_ignore_ascii_case(name)));
    by_type || body.0.trim_ascii_start().starts_with(b"{")
}

/// Returns the messages in the body as they are, without reading them.
fn items(body: &Bytes, is_lines: bool, max: usize) -> Result<Vec<Body>, Failure> {
    let found = match is_lines {
        true => lines(body, max),
        false => array(body, max)?,
    };
    match found {
        Items { items, .. } if items.is_empty() => {
            Err(wrong(&["body"], format!("must have 1 to {max} messages")).into())
        }
        Items { more: true, .. } => Err(Failure::TooLarge(format!(
            "a batch has at most {max} messages (limits.batch_messages_max)"
        ))),
        Items { items, .. } => Ok(items
            .into_iter()
            .map(|item| Body(body.slice_ref(item)))
            .collect()),
    }
}

/// The first items of a body.
struct Items<'a> {
    items: Vec<&'a [u8]>,
    /// The body has more items than were asked for.
    more: bool,
}

fn lines(body: &[u8], max: usize) -> Items<'_> {
    let mut lines = body
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty());
    Items {
        items: lines.by_ref().take(max).collect(),
        more: lines.next().is_some(),
    }
}

fn array(body: &[u8], max: usize) -> Result<Items<'_>> {
    let broken = |message| invalid_body(Vec::new(), message, "value_error.jsondecode");
    let text = std::str::from_utf8(body)
        .map_err(|error| broken(format!("is not UTF-8 from byte {}", error.valid_up_to())))?;
    if !text.trim_ascii_start().starts_with('[') {
        let message = "must be a JSON array of messages, or have a message on each line";
        return Err(invalid_body(Vec::new(), message.to_owned(), "type_error"));
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let items = AtMost(max).deserialize(&mut json);
    let items = items.and_then(|items| json.end().map(|()| items));
    items.map_err(|error| broken(misfit::not_json(&error)))
}

/// Reads an array and keeps this many of its items at most.
struct AtMost(usize);

impl<'de> DeserializeSeed<'de> for AtMost {
    type Value = Items<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Items<'de>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for AtMost {
    type Value = Items<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Items<'de>, A::Error> {
        let mut items = Vec::new();
        while items.len() < self.0 {
            let Some(item) = array.next_element::<&'de RawValue>()? else {
                return Ok(Items { items, more: false });
            };
            items.push(item.get().as_bytes());
        }
        let mut more = false;
        while array.next_element::<IgnoredAny>()?.is_some() {
            more = true;
        }
        Ok(Items { items, more })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::domain::id::{ApplicationId, OrganisationId};
    use crate::rules::message_headers::HeaderRules;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn texts(body: &str, is_lines: bool, max: usize) -> Result<Vec<String>, u16> {
        let body = Bytes::copy_from_slice(body.as_bytes());
        match items(&body, is_lines, max) {
            Ok(items) => Ok(items
                .iter()
                .map(|item| String::from_utf8(item.0.to_vec()).unwrap())
                .collect()),
            Err(failure) => Err(actix_web::ResponseError::status_code(&failure).as_u16()),
        }
    }

    #[test]
    fn arrays_and_lines_are_taken_apart_within_their_limit() {
        let list = |items: &[&str]| Ok(items.iter().map(|one| (*one).to_owned()).collect());
        for (body, is_lines, expected) in [
            (" [ {\"a\": 1} ,2]\n", false, list(&["{\"a\": 1}", "2"])),
            ("[]", false, Err(422)),
            ("", false, Err(422)),
            ("7", false, Err(422)),
            ("[1,2,3]", false, list(&["1", "2", "3"])),
            ("[1,2,3,4]", false, Err(413)),
            ("[1,2,3,x]", false, Err(422)),
            ("[1,]", false, Err(422)),
            ("[1] 2", false, Err(422)),
            ("[1", false, Err(422)),
            (
                "{\"a\":1}\n\n \r\n{\"b\": [ ]}\r\n",
                true,
                list(&["{\"a\":1}", "{\"b\": [ ]}"]),
            ),
            // A problem of a line concerns that line alone.
            ("{\n}", true, list(&["{", "}"])),
            ("1\n2\n3\n\n", true, list(&["1", "2", "3"])),
            ("1\n2\n3\n4", true, Err(413)),
            (" \n", true, Err(422)),
        ] {
            assert_eq!(texts(body, is_lines, 3), expected, "{body}");
        }
    }

    #[test]
    fn lines_are_told_by_their_media_type_or_by_how_they_begin() {
        for (content_type, body, expected) in [
            ("application/json", "[{}]", false),
            ("application/json", " {}", true),
            ("application/x-ndjson", "", true),
            ("Application/JSONL; charset=utf-8", "[", true),
            ("text/plain", "\n[", false),
        ] {
            let request = actix_web::test::TestRequest::post();
            let request = request.insert_header((CONTENT_TYPE, content_type));
            let body = Body(Bytes::from(body));
            let found = is_lines(&request.to_http_request(), &body);
            assert_eq!(found, expected, "{content_type}");
        }
    }

    fn bounds() -> Bounds<'static> {
        Bounds {
            application: "app",
            now: NOW,
            ahead_max: std::time::Duration::from_secs(86_400),
            payload_bytes_max: 100,
            headers: HeaderRules {
                allowed: &[],
                count_max: 64,
                value_bytes_max: 8192,
            },
        }
    }

    #[test]
    fn a_batch_whose_application_is_deleted_meanwhile_is_not_found_as_a_whole() {
        let body = Bytes::from_static(
            br#"[{"eventType":"a","payload":{}},{"eventType":"b","payload":{}},7]"#,
        );
        let items = items(&body, false, 3).unwrap();
        let sorted = |is_deleted: bool| {
            let judged = items.iter().map(|item| checked(item, &bounds())).collect();
            match_all(judged, &body, |message| {
                match is_deleted && message.event_type == "b" {
                    true => Err(Error::not_found("application")),
                    false => Ok((
                        Matched {
                            organisation: OrganisationId::at(NOW),
                            application: ApplicationId::at(NOW),
                            lanes: Vec::new(),
                            as_of: 1,
                        },
                        Vec::new(),
                    )),
                }
            })
        };
        let (messages, refused) = sorted(false).unwrap();
        assert_eq!((messages.len(), refused.len()), (2, 3));
        let gone = sorted(true).err().expect("nothing can be accepted");
        assert!(matches!(gone, Error::NotFound(_)), "{gone}");
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        use serde_json::{Value, json};
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from),
            Just(json!({"eventType": "a", "payload": {"x": "\n[{,"}})),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-z\\n\"]{0,3}", inner, 0..4)
                    .prop_map(|map| Value::from(serde_json::Map::from_iter(map))),
            ]
        })
    }

    proptest! {
        #[test]
        fn an_array_and_its_lines_are_the_same_items(
            values in proptest::collection::vec(json(), 1..8),
            space in "[ \\t\\r\\n]{0,3}",
        ) {
            let texts_of = Vec::from_iter(values.iter().map(ToString::to_string));
            let array = format!("{space}[{space}{}{space}]{space}", texts_of.join(&format!("{space},{space}")));
            let lines = texts_of.join(&format!("{space}\n{space}")) + &space;
            prop_assert_eq!(texts(&array, false, 8), Ok(texts_of.clone()));
            prop_assert_eq!(texts(&lines, true, 8), Ok(texts_of));
        }

        #[test]
        fn any_body_is_taken_or_refused_without_panic(
            bytes in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..200),
                "[\\[\\]{}\",:a0\\\\u\\n ]{0,60}".prop_map(String::into_bytes),
                r#"(\[|\{|\{"eventType":"a","payload":\{\}\}|,|\n|\]){0,12}"#.prop_map(String::into_bytes),
            ],
            is_lines: bool,
            max in 1usize..5,
        ) {
            let body = Bytes::from(bytes);
            if let Ok(items) = items(&body, is_lines, max) {
                prop_assert!((1..=max).contains(&items.len()));
                for item in &items {
                    let _ = checked(item, &bounds());
                }
            }
        }
    }
}
