//! A URL that receives an application's messages.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::cost::Budget;
use super::disabled::Disabled;
use super::filter::{Facts, Filter, Parts};
use super::hold::Held;
use super::id::{ApplicationId, EndpointId, OrganisationId};
use super::message::Message;
use super::profile::Method;
use super::retry::RetrySchedule;
use super::secret::Secret;
use super::transformation::{Transformation, TransformationVersion};
use super::verification::Verification;
use super::wildcard::{EventTypes, MessageType};
use crate::clock::Timestamp;

#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    pub id: EndpointId,
    /// A small integer, never given twice in one store: names the endpoint's lane, and the
    /// endpoint itself in APIs whose ids are numeric.
    pub number: u64,
    pub organisation: OrganisationId,
    pub application: ApplicationId,
    /// The caller's own id, unique in the application; works wherever the id works.
    pub uid: Option<String>,
    /// Without userinfo, which became `basic_auth`.
    pub url: String,
    pub description: String,
    /// Its deliveries are held, not dropped, until it is enabled again.
    pub disabled: Option<Disabled>,
    /// Only messages of these event types; all where absent.
    pub event_types: Option<EventTypes>,
    /// Only messages in at least one of these channels; all where absent.
    pub channels: Option<Vec<String>>,
    pub metadata: BTreeMap<String, String>,
    /// Messages a second.
    pub throttle_rate: Option<u16>,
    /// The newest first; those after it are valid until they expire.
    pub secrets: Vec<EndpointSecret>,
    /// Sent with every request, names as given.
    pub headers: BTreeMap<String, String>,
    pub basic_auth: Option<BasicAuth>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// The name of its profile; the server's default profile where absent.
    pub profile: Option<String>,
    /// One of its profile's methods; the first of them where absent.
    pub method: Option<Method>,
    /// Sent as `headers` are, and never shown.
    pub auth_headers: BTreeMap<String, String>,
    /// The retry schedule, in place of the profile's.
    pub retry: Option<RetrySchedule>,
    /// The time for one attempt, in place of its profile's.
    pub timeout_seconds: Option<u32>,
    /// Names of `headers` that were given as Ovation's `requestHeaders`, whose values that API
    /// shows whatever their names are. The others stay hidden there, too, if their names are
    /// sensitive: how a header was given decides, and not the profile that the endpoint has now.
    pub open_headers: BTreeSet<String>,
    /// The state of its verification, while its URL must be verified first; its deliveries are held
    /// until then.
    pub verification: Option<Verification>,
    /// Held by the operator, until it is released; whatever its owner changes leaves that alone.
    pub held: Option<Held>,
    /// Failed attempts in a row that open its breaker, in place of its profile's; 0 keeps it closed.
    pub breaker_failures: Option<u32>,
    /// Hours of failures after which it is disabled, in place of its profile's; 0 never does.
    pub disable_after_hours: Option<u32>,
    /// How fast it gets what waited when it was enabled or released.
    pub catch_up: Option<CatchUp>,
    /// Only messages that it matches; all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Arc<Filter>>,
    /// How its requests differ from what its profile makes: the newest version is in effect, the others are
    /// kept to go back to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transformations: Vec<Arc<TransformationVersion>>,
}

/// The pace of a backlog: what was published before a release is sent at most at this rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatchUp {
    /// Messages a second.
    pub rate: u16,
    pub published_before: Timestamp,
}

impl CatchUp {
    /// Returns the pace of what waits at this time, where it is to have one.
    pub fn at(rate: Option<u16>, now: Timestamp) -> Option<CatchUp> {
        rate.map(|rate| CatchUp {
            rate,
            published_before: now,
        })
    }
}

/// A signing secret and how long it is used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointSecret {
    pub secret: Secret,
    /// When it stops being used for signatures; the newest has no end.
    pub expires_at: Option<Timestamp>,
}

/// Credentials for HTTP Basic authentication at the receiver.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BasicAuth {
    pub username: String,
    pub password: String,
}

impl fmt::Debug for BasicAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BasicAuth(…)")
    }
}

/// Prints nothing that could be a secret of a customer: of the URL its origin, since a path or a query may
/// hold a key, and of headers their names.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Every field is named, so that a new one is decided on here.
        let Endpoint {
            id,
            number,
            organisation,
            application,
            uid,
            url,
            description: _,
            disabled,
            event_types,
            channels,
            metadata: _,
            throttle_rate,
            secrets,
            headers,
            basic_auth,
            created_at,
            updated_at,
            profile,
            method,
            auth_headers,
            retry,
            timeout_seconds,
            open_headers: _,
            verification,
            held,
            breaker_failures,
            disable_after_hours,
            catch_up,
            filter,
            transformations,
        } = self;
        let origin = url::Url::parse(url).map(|url| url.origin().ascii_serialization());
        let origin = origin.unwrap_or_default();
        let names =
            |headers: &BTreeMap<String, String>| headers.keys().cloned().collect::<Vec<_>>();
        f.debug_struct("Endpoint")
            .field("id", id)
            .field("number", number)
            .field("organisation", organisation)
            .field("application", application)
            .field("uid", uid)
            .field("origin", &origin)
            .field("disabled", disabled)
            .field("event_types", event_types)
            .field("channels", channels)
            .field("throttle_rate", throttle_rate)
            .field("secrets", secrets)
            .field("headers", &names(headers))
            .field("auth_headers", &names(auth_headers))
            .field("basic_auth", basic_auth)
            .field("profile", profile)
            .field("method", method)
            .field("retry", retry)
            .field("timeout_seconds", timeout_seconds)
            .field("verification", verification)
            .field("held", held)
            .field("breaker_failures", breaker_failures)
            .field("disable_after_hours", disable_after_hours)
            .field("catch_up", catch_up)
            .field("is_filtered", &filter.is_some())
            .field("transformations", &transformations.len())
            .field("created_at", created_at)
            .field("updated_at", updated_at)
            .finish()
    }
}

impl Endpoint {
    /// Returns an endpoint that takes all messages, before anything is said of it. It has no URL yet, and no
    /// secret: its profile decides which form that must have.
    pub fn new(
        id: EndpointId,
        organisation: OrganisationId,
        application: ApplicationId,
        number: u64,
        now: Timestamp,
    ) -> Endpoint {
        Endpoint {
            id,
            number,
            organisation,
            application,
            uid: None,
            url: String::new(),
            description: String::new(),
            disabled: None,
            event_types: None,
            channels: None,
            metadata: BTreeMap::new(),
            throttle_rate: None,
            secrets: Vec::new(),
            headers: BTreeMap::new(),
            basic_auth: None,
            created_at: now,
            updated_at: now,
            profile: None,
            method: None,
            auth_headers: BTreeMap::new(),
            retry: None,
            timeout_seconds: None,
            open_headers: BTreeSet::new(),
            verification: None,
            held: None,
            breaker_failures: None,
            disable_after_hours: None,
            catch_up: None,
            filter: None,
            transformations: Vec::new(),
        }
    }

    /// Its deliveries wait until somebody enables it, until its URL is verified, or until the operator
    /// releases it.
    pub fn is_held(&self) -> bool {
        self.disabled.is_some() || self.verification.is_some() || self.held.is_some()
    }

    /// Returns the path of its page in the console, behind `/console/`.
    pub fn console_page(&self) -> String {
        format!("app/{}/endpoint/{}", self.application, self.id)
    }

    /// The answer to whoever would let go of its deliveries where they do not wait for it.
    pub const SENDS: &str = "the endpoint is neither disabled nor held, so its deliveries are being sent: disable or \
                             hold it first";

    /// Why its deliveries wait for it, in words that go on "the endpoint was"; nothing where they are sent.
    pub fn why_held(&self) -> Option<&'static str> {
        match self {
            Endpoint { held: Some(_), .. } => Some("held by the operator"),
            Endpoint {
                disabled: Some(_), ..
            } => Some("disabled"),
            Endpoint {
                verification: Some(_),
                ..
            } => Some("not verified"),
            _ => None,
        }
    }

    /// Sets the URL. Where `challenge_at` says when it is challenged, one that leads to another
    /// place must be verified: another origin or path. A query may change.
    pub fn set_url(&mut self, url: String, challenge_at: Option<Timestamp>) {
        let leads = |url: &str| url.split(['?', '#']).next().map(str::to_owned);
        if let Some(at) = challenge_at
            && leads(&self.url) != leads(&url)
        {
            self.verification = Some(Verification::due(at));
        }
        self.url = url;
    }

    /// How its requests differ from what its profile makes.
    pub fn transformation(&self) -> Option<&Transformation> {
        self.transformations.first()?.transformation.as_ref()
    }

    /// Whether it is one of the platform's own endpoints.
    pub fn is_operational(&self) -> bool {
        self.application.is_operational(self.organisation)
    }

    /// Whether a message of this event type and these channels is for this endpoint, as far as its
    /// filter does not say otherwise. Being disabled does not matter here: its deliveries are held.
    pub fn matches(&self, event_type: MessageType<'_>, channels: &[String]) -> bool {
        self.takes_event_type(event_type) && self.takes_channels(channels)
    }

    /// Whether its filter takes a message that was accepted. One that costs more than a publish may is not taken.
    pub fn filter_takes(&self, message: &Message) -> bool {
        self.filter.as_ref().is_none_or(|filter| {
            let facts = Facts::new(Parts::of(message));
            filter.matches(&facts, &mut Budget::of_publish()) == Ok(true)
        })
    }

    pub fn takes_event_type(&self, event_type: MessageType<'_>) -> bool {
        match &self.event_types {
            None => true,
            Some(wanted) => wanted.takes(event_type),
        }
    }

    pub fn takes_channels(&self, channels: &[String]) -> bool {
        match &self.channels {
            None => true,
            Some(wanted) => channels.iter().any(|channel| wanted.contains(channel)),
        }
    }

    /// The secrets to sign with at this time, newest first.
    pub fn live_secrets(&self, now: Timestamp) -> impl Iterator<Item = &Secret> {
        self.secrets
            .iter()
            .filter(move |one| one.expires_at.is_none_or(|end| end > now))
            .map(|one| &one.secret)
    }

    /// Sets `headers`. Those with another value than before were given as `requestHeaders` if
    /// `open` says so; the others were given as they were.
    pub fn set_headers(&mut self, headers: BTreeMap<String, String>, open: bool) {
        let is_open = |(name, value): (&String, &String)| {
            let mut before = self.headers.iter();
            match before.find(|(one, _)| one.eq_ignore_ascii_case(name)) {
                Some((one, same)) if same == value => self.open_headers.contains(one),
                _ => open,
            }
        };
        let names = headers.iter().filter(|one| is_open(*one));
        self.open_headers = names.map(|(name, _)| name.clone()).collect();
        self.headers = headers;
    }
}

/// Words that name a secret wherever they stand in a header's name, in the plural, too, or with
/// digits behind them, and also at either end of a word: `accesstoken`, `oauth2`, `authdata`.
const SECRET_WORDS: [&str; 13] = [
    "auth",
    "authn",
    "authz",
    "authorization",
    "authorisation",
    "authentication",
    "secret",
    "token",
    "cookie",
    "password",
    "passwd",
    "passphrase",
    "credential",
];

/// Words that begin like one of these do not name a secret, though they begin like one that does.
const NO_SECRETS: [&str; 7] = [
    "author",
    "secretar",
    "tokenid",
    "tokenis",
    "tokeniz",
    "tokentype",
    "tokenversion",
];

/// Kinds of keys, which stand before `key` in one word. Not every word that ends in `key` is a key:
/// `monkey`.
const KINDS_OF_KEYS: [&str; 15] = [
    "access",
    "account",
    "api",
    "app",
    "auth",
    "client",
    "encryption",
    "license",
    "master",
    "private",
    "secret",
    "session",
    "shared",
    "signing",
    "subscription",
];

/// Endings that make another word of `key`, such as `keyboard`.
const NO_KEYS: [&str; 4] = ["board", "note", "stone", "word"];

/// Words at the end of a name which says something about a token or a key without holding it:
/// `token_id`, `key-type`.
const SPOKEN_OF: [&str; 4] = ["id", "ids", "type", "version"];

/// Whether the value of a header with this name is shown as `***` wherever headers are shown: one
/// of its words is a secret's. Words end where something other than a letter or digit stands, and
/// where a capital follows a small letter.
pub fn is_sensitive(name: &str) -> bool {
    let words = words(name);
    let is_spoken_of = words
        .last()
        .is_some_and(|last| SPOKEN_OF.contains(&last.as_str()));
    words.iter().any(|word| {
        let word = word.trim_end_matches(|c: char| c.is_ascii_digit());
        let word = word.strip_suffix('s').unwrap_or(word);
        match word == "token" || names_a_key(word) {
            true => !is_spoken_of,
            false => SECRET_WORDS
                .iter()
                .any(|secret| word.ends_with(secret) || begins_with(word, secret)),
        }
    })
}

/// Whether a word is `key`, or has it behind a kind of keys: `xapikey`, `apikeyvalue`.
fn names_a_key(word: &str) -> bool {
    let is_key = |(at, key): (usize, &str)| {
        let after = &word[at + key.len()..];
        KINDS_OF_KEYS.iter().any(|kind| word[..at].ends_with(kind))
            && !NO_KEYS.iter().any(|one| after.starts_with(one))
            && !SPOKEN_OF.contains(&after)
    };
    word == "key" || word.match_indices("key").any(is_key)
}

fn begins_with(word: &str, secret: &str) -> bool {
    let mut others = NO_SECRETS.iter().filter(|one| one.starts_with(secret));
    word.starts_with(secret) && !others.any(|one| word.starts_with(one))
}

/// The words of a name, in small letters.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut after_small = false;
    for character in name.chars() {
        let begins =
            !character.is_ascii_alphanumeric() || (after_small && character.is_ascii_uppercase());
        if begins {
            words.push(String::new());
        }
        if let (true, Some(word)) = (character.is_ascii_alphanumeric(), words.last_mut()) {
            word.push(character.to_ascii_lowercase());
        }
        after_small = character.is_ascii_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_end_at_signs_and_before_capitals() {
        for (name, expected) in [
            ("x-ClientSecret", vec!["x", "client", "secret"]),
            ("X-API-KEY", vec!["x", "api", "key"]),
            ("a__b.c", vec!["a", "b", "c"]),
            ("", vec![]),
        ] {
            assert_eq!(words(name), expected);
        }
    }

    #[test]
    fn names_that_speak_of_secrets_are_sensitive() {
        for (name, expected) in [
            ("Authorization", true),
            ("X-API-KEY", true),
            ("x-api-key", true),
            ("Set-Cookie", true),
            ("x-ClientSecret", true),
            ("X-Access-Token", true),
            ("db-password", true),
            ("okhi-authorization", true),
            ("x-auth-token", true),
            ("apikey", true),
            ("x-apikey", true),
            ("xapikey", true),
            ("accesstoken", true),
            ("X-AccessToken", true),
            ("x-clientsecret", true),
            ("X-Auth-Keys", true),
            ("x_oauth2", true),
            ("key", true),
            ("api_key_2", true),
            ("Idempotency-Key", true),
            ("x-secret-id", true),
            ("x-auth-id", true),
            ("cookies", true),
            ("x-credentials", true),
            ("X-Authz", true),
            ("X-Authn", true),
            ("xauthz", true),
            ("authdata", true),
            ("tokenvalue", true),
            ("secretvalue", true),
            ("apikeyvalue", true),
            ("x-passwordhash", true),
            ("authorizationdata", true),
            ("token_id", false),
            ("tokenid", false),
            ("tokentype", false),
            ("apikeyid", false),
            ("appkeynote", false),
            ("authors", false),
            ("authority", false),
            ("secretariat", false),
            ("tokenized", false),
            ("keynote", false),
            ("X-Token-Id", false),
            ("tokenId", false),
            ("key-type", false),
            ("x-monkey", false),
            ("monkeys", false),
            ("keyboard", false),
            ("X-Keyboard-Layout", false),
            ("author", false),
            ("x-author", false),
            ("secretary", false),
            ("x-keyed", false),
            ("tokenizer", false),
            ("webhook-signature", false),
            ("webhook-id", false),
            ("Content-Type", false),
            ("", false),
            ("-", false),
        ] {
            assert_eq!(is_sensitive(name), expected, "{name}");
        }
    }
}
