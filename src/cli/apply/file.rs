//! The file that `apply` reads: event types, applications and endpoints, and the operator's own endpoints
//! for operational webhooks, in TOML.
//!
//! Pure. [`parse`] reads and checks the file as a whole, so that nothing of a faulty one is sent. It
//! returns the things in the order in which the server is to get them. Checks that only the server can
//! make, such as whether a URL is allowed, are left to it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::{self, SeqAccess, Visitor};
use serde::ser::{self, Serializer};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::domain::contact::address_problem;
use crate::domain::event_type::{Strictness, registered_name_problem};
use crate::domain::id::{ApplicationId, EndpointId, uid_problem};
use crate::domain::payload;
use crate::domain::profile::Method;
use crate::domain::retry::RetryRule;
use crate::misfit::{self, Step};

/// The characters that a segment of a path may not hold as they are.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// A JSON object's fields as they are spelled.
pub type Fields = BTreeMap<String, Box<RawValue>>;

/// A registration that the server is to have.
pub struct Thing {
    /// Its place in the file: `applications.0.endpoints.2`.
    pub place: String,
    /// Its name for people: `endpoint acme/books`.
    pub title: String,
    /// Its path in the API.
    pub path: String,
    /// The wanted state: the body of its PUT.
    pub body: Fields,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    /// Lists of channels by a name of their own, for event types and endpoints to refer to.
    channel_sets: BTreeMap<String, Vec<String>>,
    event_types: Vec<EventType>,
    applications: Vec<Application>,
    /// The operator's own, which are told what happens to customers' endpoints.
    operational_endpoints: Vec<Endpoint>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all(serialize = "camelCase"))]
struct EventType {
    #[serde(skip_serializing)]
    name: String,
    description: String,
    example: Option<Json>,
    schemas: Option<Json>,
    channels: Option<Channels>,
    /// Where the file does not say, it stays as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    validate: Option<Strictness>,
    #[serde(default)]
    archived: bool,
    #[serde(default)]
    deprecated: bool,
    feature_flag: Option<String>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all(serialize = "camelCase"))]
struct Application {
    uid: String,
    name: String,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    throttle_rate: Option<u16>,
    /// The e-mail address of its contact, which the file's author answers for; left alone where absent.
    #[serde(skip_serializing)]
    contact: Option<String>,
    #[serde(default, skip_serializing)]
    endpoints: Vec<Endpoint>,
}

/// A field that is left out gets its default, but for `profile` and the fields below it: these stay as
/// they are, as with every PUT that does not name them. The server shows the value in effect there, from
/// which nobody can tell whether it was set.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all(serialize = "camelCase"))]
struct Endpoint {
    uid: String,
    url: String,
    #[serde(default)]
    description: String,
    event_types: Option<Vec<String>>,
    channels: Option<Channels>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    throttle_rate: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<Method>,
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "in_camel_case"
    )]
    retry: Option<RetryRule>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_seconds: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    breaker_failures: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disable_after_hours: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transformation: Option<Transformation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<Hidden>,
    #[serde(skip_serializing_if = "Option::is_none")]
    basic_auth: Option<BasicAuth>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<BTreeMap<String, Hidden>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_headers: Option<BTreeMap<String, Hidden>>,
}

/// As the API shows one, so that the same file a second time changes nothing.
#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default, rename_all(serialize = "camelCase"))]
struct Transformation {
    body: Option<String>,
    headers: BTreeMap<String, String>,
    method: Option<Method>,
    content_type: Option<String>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct BasicAuth {
    username: String,
    password: Hidden,
}

/// The keys as the API spells them.
fn in_camel_case<S: Serializer>(
    retry: &Option<RetryRule>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let Some(rule) = retry else {
        return serializer.serialize_none();
    };
    let rule = serde_json::to_value(rule).map_err(ser::Error::custom)?;
    let keys = rule.as_object().into_iter().flatten();
    serializer.collect_map(keys.map(|(key, value)| (camel_case(key), value)))
}

fn camel_case(key: &str) -> String {
    let mut words = key.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |spelled, word| {
        let (initial, rest) = word.split_at(word.len().min(1));
        spelled + &initial.to_ascii_uppercase() + rest
    })
}

/// A text that may be a credential: no complaint about it repeats it.
#[derive(Serialize)]
struct Hidden(String);

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Hidden, D::Error> {
        match toml::Value::deserialize(deserializer)? {
            toml::Value::String(text) => Ok(Hidden(text)),
            _ => Err(de::Error::custom("must be a text in quotes")),
        }
    }
}

/// A JSON object, given as text and sent as it is.
#[derive(Serialize)]
struct Json(Box<RawValue>);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        let text = String::deserialize(deserializer)?;
        let json: Box<RawValue> = serde_json::from_str(&text)
            .map_err(|error| de::Error::custom(misfit::not_json(&error)))?;
        match payload::problem(json.get()) {
            None => Ok(Json(json)),
            Some(problem) => Err(de::Error::custom(problem)),
        }
    }
}

enum Channels {
    Listed(Vec<String>),
    /// The name of one of the file's sets.
    Set(String),
}

impl<'de> Deserialize<'de> for Channels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Channels, D::Error> {
        struct ListOrName;

        impl<'de> Visitor<'de> for ListOrName {
            type Value = Channels;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of channels, or the name of one of channel_sets")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Channels, E> {
                Ok(Channels::Set(name.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Channels, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = items.next_element()? {
                    names.push(name);
                }
                Ok(Channels::Listed(names))
            }
        }

        deserializer.deserialize_any(ListOrName)
    }
}

impl Serialize for Channels {
    /// Sets have given way to their lists before anything is sent.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Channels::Listed(names) => names.serialize(serializer),
            Channels::Set(name) => name.serialize(serializer),
        }
    }
}

/// The body of a contact.
#[derive(Serialize)]
struct Contact<'a> {
    address: &'a str,
    verified: bool,
}

/// The things of the file: event types before the applications, each of these before its contact and its endpoints.
/// The operator's own endpoints come last: new ones are not told that the file's other endpoints were made.
/// The errors are the file's problems with their places.
pub fn parse(text: &str) -> Result<Vec<Thing>, Vec<String>> {
    let mut file = read(text).map_err(|problem| vec![problem])?;
    let mut problems = Problems::default();
    let mut things = Vec::new();
    let mut names = Unique::default();
    for (index, event_type) in file.event_types.iter_mut().enumerate() {
        let place = format!("event_types.{index}");
        problems.add_if(&place, "name", registered_name_problem(&event_type.name));
        problems.add_if(&place, "name", names.taken(&event_type.name, &place));
        let unknown = spell_out(&mut event_type.channels, &file.channel_sets);
        problems.add_if(&place, "channels", unknown);
        things.push(Thing {
            title: format!("event type {}", event_type.name),
            path: format!("/api/v1/event-type/{}", segment(&event_type.name)),
            body: fields(event_type),
            place,
        });
    }
    let mut uids = Unique::default();
    for (index, application) in file.applications.iter_mut().enumerate() {
        let place = format!("applications.{index}");
        let problem = uid_problem(&application.uid, ApplicationId::PREFIX);
        problems.add_if(&place, "uid", problem);
        problems.add_if(&place, "uid", uids.taken(&application.uid, &place));
        let path = format!("/api/v1/app/{}", segment(&application.uid));
        things.push(Thing {
            title: format!("application {}", application.uid),
            path: path.clone(),
            body: fields(application),
            place: place.clone(),
        });
        if let Some(address) = &application.contact {
            problems.add_if(&place, "contact", address_problem(address));
            let verified = true;
            things.push(Thing {
                title: format!("contact of {}", application.uid),
                path: format!("{path}/contact"),
                body: fields(&Contact { address, verified }),
                place: format!("{place}.contact"),
            });
        }
        let list = EndpointList {
            title: format!("endpoint {}/", application.uid),
            path: format!("{path}/endpoint"),
            place: format!("{place}.endpoints"),
        };
        let endpoints = &mut application.endpoints;
        things.extend(list.things(endpoints, &file.channel_sets, &mut problems));
    }
    for (index, endpoint) in file.operational_endpoints.iter().enumerate() {
        let channels = endpoint.channels.as_ref();
        let problem = channels.map(|_| "an endpoint for operational webhooks has none");
        problems.add_if(
            &format!("operational_endpoints.{index}"),
            "channels",
            problem,
        );
    }
    let own = EndpointList {
        title: "operational endpoint ".to_owned(),
        path: "/api/v1/operational-webhook/endpoint".to_owned(),
        place: "operational_endpoints".to_owned(),
    };
    let endpoints = &mut file.operational_endpoints;
    things.extend(own.things(endpoints, &file.channel_sets, &mut problems));
    match problems.0.is_empty() {
        true => Ok(things),
        false => Err(problems.0),
    }
}

/// A list of endpoints in the file.
struct EndpointList {
    /// The beginning of each one's title.
    title: String,
    /// Their path in the API.
    path: String,
    /// The list's place in the file.
    place: String,
}

impl EndpointList {
    fn things(
        &self,
        endpoints: &mut [Endpoint],
        channel_sets: &BTreeMap<String, Vec<String>>,
        problems: &mut Problems,
    ) -> Vec<Thing> {
        let mut uids = Unique::default();
        let mut things = Vec::new();
        for (index, endpoint) in endpoints.iter_mut().enumerate() {
            let place = format!("{}.{index}", self.place);
            let problem = uid_problem(&endpoint.uid, EndpointId::PREFIX);
            problems.add_if(&place, "uid", problem);
            problems.add_if(&place, "uid", uids.taken(&endpoint.uid, &place));
            let unknown = spell_out(&mut endpoint.channels, channel_sets);
            problems.add_if(&place, "channels", unknown);
            if let Some(Err(wrong)) = endpoint.retry.as_ref().map(|rule| rule.schedule(0.0)) {
                for (key, reason) in wrong {
                    problems.add_if(&place, &format!("retry.{key}"), Some(reason));
                }
            }
            things.push(Thing {
                title: format!("{}{}", self.title, endpoint.uid),
                path: format!("{}/{}", self.path, segment(&endpoint.uid)),
                body: fields(endpoint),
                place,
            });
        }
        things
    }
}

/// The error names the first value that the types do not allow.
fn read(text: &str) -> Result<File, String> {
    let deserializer = toml::Deserializer::parse(text).map_err(|error| {
        let line = error.span().map(|span| line_at(text, span.start));
        // The error's own rendering quotes the line, which may have a secret.
        format!("{}{}", error.message(), in_line(line))
    })?;
    misfit::read(deserializer).map_err(|misfit| {
        let place = misfit.place();
        let line = in_line(line_of(text, place));
        let steps = place.iter().map(|step| match step {
            Step::Key(key) => key.clone(),
            Step::Index(index) => index.to_string(),
        });
        let place = steps.collect::<Vec<_>>().join(".");
        format!("{place}: {misfit:#}{line}")
    })
}

fn in_line(line: Option<usize>) -> String {
    line.map_or(String::new(), |line| format!(" (line {line})"))
}

/// The line of the value, or of the innermost table around it that exists.
fn line_of(text: &str, place: &[Step]) -> Option<usize> {
    let table = DeTable::parse(text).ok()?;
    let mut line = None;
    let mut value: Option<&Spanned<DeValue<'_>>> = None;
    for step in place {
        let below = match (step, value.map(|value| value.get_ref())) {
            (Step::Key(key), None) => table.get_ref().get(key.as_str()),
            (Step::Key(key), Some(DeValue::Table(table))) => table.get(key.as_str()),
            (Step::Index(index), Some(DeValue::Array(items))) => items.get(*index),
            _ => None,
        };
        let Some(below) = below else {
            break;
        };
        line = Some(line_at(text, below.span().start));
        value = Some(below);
    }
    line
}

fn line_at(text: &str, place: usize) -> usize {
    let before = &text.as_bytes()[..place.min(text.len())];
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn add_if(&mut self, place: &str, key: &str, problem: Option<impl fmt::Display>) {
        if let Some(problem) = problem {
            self.0.push(format!("{place}.{key}: {problem}"));
        }
    }
}

/// Names that may be given once, with the place where each was.
#[derive(Default)]
struct Unique(HashMap<String, String>);

impl Unique {
    fn taken(&mut self, name: &str, place: &str) -> Option<String> {
        if let Some(earlier) = self.0.get(name) {
            return Some(format!("is that of {earlier}, too"));
        }
        self.0.insert(name.to_owned(), place.to_owned());
        None
    }
}

/// Puts the list in the place of the name of a set.
fn spell_out(
    channels: &mut Option<Channels>,
    sets: &BTreeMap<String, Vec<String>>,
) -> Option<String> {
    let Some(Channels::Set(name)) = channels else {
        return None;
    };
    match sets.get(name) {
        Some(names) => {
            *channels = Some(Channels::Listed(names.clone()));
            None
        }
        None => Some(format!("channel_sets has no {name}")),
    }
}

fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

fn fields(body: &impl Serialize) -> Fields {
    serde_json::to_string(body)
        .and_then(|text| serde_json::from_str(&text))
        .expect("our types have text keys")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const EVENT_TYPE: &str = "[[event_types]]\nname = 'a'\ndescription = ''\n";
    const ENDPOINT: &str = "[[applications]]\nuid = 'a'\nname = 'A'\n\
         [[applications.endpoints]]\nuid = 'e'\nurl = 'http://x/'\n";

    fn things(text: &str) -> Vec<Thing> {
        parse(text).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    fn problems(text: &str) -> Vec<String> {
        match parse(text) {
            Ok(_) => panic!("it was taken: {text}"),
            Err(problems) => problems,
        }
    }

    fn body(thing: &Thing) -> Value {
        serde_json::to_value(&thing.body).unwrap()
    }

    #[test]
    fn a_file_becomes_the_bodies_of_the_api_in_their_order() {
        let things = things(
            r#"
            [[applications]]
            uid = "acme"
            name = "Acme"
            metadata = { plan = "gold" }
            contact = "ops@acme.example"
            [[applications.endpoints]]
            uid = "books"
            url = "https://example.com/"
            event_types = ["a.b"]
            channels = "all"
            method = "PUT"
            timeout_seconds = 7
            auth_headers = { api-key = "k" }
            basic_auth = { username = "u", password = "p" }
            retry = { first_seconds = 5, max_delay_seconds = 60, give_up_after_seconds = 300 }
            [[event_types]]
            name = "a.b"
            description = "d"
            feature_flag = "beta"
            channels = ["one"]
            [[operational_endpoints]]
            uid = "chat"
            url = "https://example.com/chat"
            profile = "to-slack"
            event_types = ["endpoint.disabled"]
            [channel_sets]
            all = ["one", "two"]
            "#,
        );
        let titles: Vec<&str> = things.iter().map(|thing| thing.title.as_str()).collect();
        assert_eq!(
            titles,
            [
                "event type a.b",
                "application acme",
                "contact of acme",
                "endpoint acme/books",
                "operational endpoint chat"
            ]
        );
        assert_eq!(things[2].path, "/api/v1/app/acme/contact");
        assert_eq!(things[2].place, "applications.0.contact");
        assert_eq!(
            body(&things[2]),
            json!({"address": "ops@acme.example", "verified": true})
        );
        assert_eq!(things[3].path, "/api/v1/app/acme/endpoint/books");
        assert_eq!(things[3].place, "applications.0.endpoints.0");
        assert_eq!(things[4].path, "/api/v1/operational-webhook/endpoint/chat");
        assert_eq!(things[4].place, "operational_endpoints.0");
        assert_eq!(body(&things[4])["profile"], "to-slack");
        assert_eq!(
            body(&things[0]),
            json!({
                "description": "d", "example": null, "schemas": null, "channels": ["one"],
                "archived": false, "deprecated": false, "featureFlag": "beta",
            })
        );
        assert_eq!(
            body(&things[1]),
            json!({
                "uid": "acme", "name": "Acme", "metadata": {"plan": "gold"}, "throttleRate": null,
            })
        );
        assert_eq!(
            body(&things[3]),
            json!({
                "uid": "books", "url": "https://example.com/", "description": "",
                "eventTypes": ["a.b"], "channels": ["one", "two"], "metadata": {},
                "throttleRate": null, "method": "PUT",
                "retry": {"firstSeconds": 5, "maxDelaySeconds": 60, "giveUpAfterSeconds": 300},
                "timeoutSeconds": 7, "basicAuth": {"username": "u", "password": "p"},
                "authHeaders": {"api-key": "k"},
            }),
            "what is left out is sent as its default, but for the additions"
        );
    }

    #[test]
    fn an_example_keeps_its_bytes() {
        let text =
            format!("{EVENT_TYPE}example = '''\n {{\"b\": 1.10,  \"a\":\n\"\\u00e9\"}}\n'''\n");
        assert_eq!(
            things(&text)[0].body["example"].get(),
            "{\"b\": 1.10,  \"a\":\n\"\\u00e9\"}"
        );
    }

    #[test]
    fn what_the_types_do_not_allow_is_named_with_its_place() {
        for (text, expected) in [
            (
                format!("{EVENT_TYPE}{EVENT_TYPE}exmaple = '{{}}'\n"),
                "event_types.1.exmaple: there is no such setting here; did you mean example?",
            ),
            (
                "[[event_types]]\nname = 'a'\n".to_owned(),
                "event_types.0.description: is required (line 1)",
            ),
            (
                format!("{EVENT_TYPE}deprecated = 'no'\n"),
                "event_types.0.deprecated: must be true or false, not \"no\" (line 4)",
            ),
            (
                format!("{EVENT_TYPE}channels = 3\n"),
                "event_types.0.channels: must be a list of channels, or the name of one of \
                 channel_sets, not a number (line 4)",
            ),
            (
                format!("{EVENT_TYPE}channels = ['a', 3]\n"),
                "event_types.0.channels.1: must be text in quotes, not a number",
            ),
            (
                format!("{EVENT_TYPE}example = '{{'\n"),
                "event_types.0.example: the JSON ends too early, at line 1, column 1 (line 4)",
            ),
            (
                format!("{EVENT_TYPE}example = '[]'\n"),
                "event_types.0.example: must be a JSON object (line 4)",
            ),
            (
                format!("{ENDPOINT}method = 'post'\n"),
                "applications.0.endpoints.0.method: must be one of POST, ",
            ),
            (
                format!("{ENDPOINT}retry = {{ delays = [1] }}\n"),
                "applications.0.endpoints.0.retry.delays: there is no such setting here",
            ),
            (
                format!("{ENDPOINT}basic_auth = {{ username = 'u' }}\n"),
                "applications.0.endpoints.0.basic_auth.password: is required",
            ),
            (
                "endpoints = []\n".to_owned(),
                "endpoints: there is no such setting here",
            ),
            ("[[event_types]\n".to_owned(), "unclosed array table"),
        ] {
            let problems = problems(&text);
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].starts_with(expected), "{text}\n{problems:?}");
            assert!(problems[0].contains("(line "), "{problems:?}");
        }
    }

    #[test]
    fn everything_that_breaks_a_rule_is_named_at_once() {
        let problems = problems(
            r#"
            [[event_types]]
            name = "a b"
            description = ""
            channels = "nowhere"
            [[event_types]]
            name = "c"
            description = ""
            [[event_types]]
            name = "c"
            description = ""
            [[applications]]
            uid = ""
            name = "A"
            [[applications.endpoints]]
            uid = "e/f"
            url = "http://x/"
            [[applications.endpoints]]
            uid = "e"
            url = "http://x/"
            [[applications.endpoints]]
            uid = "e"
            url = "http://x/"
            retry = { delays_seconds = [0], first_seconds = 1 }
            [[operational_endpoints]]
            uid = "o"
            url = "http://x/"
            channels = ["a"]
            "#,
        );
        let places: Vec<&str> = problems
            .iter()
            .filter_map(|problem| problem.split_once(": "))
            .map(|(place, _)| place)
            .collect();
        assert_eq!(
            places,
            [
                "event_types.0.name",
                "event_types.0.channels",
                "event_types.2.name",
                "applications.0.uid",
                "applications.0.endpoints.0.uid",
                "applications.0.endpoints.2.uid",
                "applications.0.endpoints.2.retry.first_seconds",
                "applications.0.endpoints.2.retry.delays_seconds",
                "operational_endpoints.0.channels",
            ]
        );
        assert_eq!(
            problems[2],
            "event_types.2.name: is that of event_types.1, too"
        );
    }

    #[test]
    fn a_wrong_credential_is_not_repeated() {
        for wrong in [
            "secret = 31337",
            "secret = '31337",
            "secret = '31337' '31337'",
            "secret = [31337]",
            "basic_auth = { username = 'u', password = 31337 }",
            "headers = { authorization = 31337 }",
            "auth_headers = { api-key = ['31337'] }",
        ] {
            let problems = problems(&format!("{ENDPOINT}{wrong}\n"));
            assert!(!problems.concat().contains("31337"), "{problems:?}");
        }
    }
}
