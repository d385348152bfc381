//! Profiles: how a request looks, as data. A profile has the method, the URL, the headers, the body
//! and the signatures of a request. It also says which answers are a success, and when a failed
//! attempt is repeated.
//!
//! A [`Profile`] is a table of `config.toml`; [`Profile::problems`] checks the rules that the types
//! cannot express. `delivery` compiles its templates and makes requests from it. The API shows it,
//! and checks endpoints' secrets and methods against it. No template is parsed here.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::attempt::Answer;
use super::endpoint::BasicAuth;
use super::header;
use super::health::{DISABLE_AFTER_HOURS_MAX, FAILURES_MAX, HealthRules};
use super::payload::PayloadBytes;
use super::retry::RetryRule;
use super::secret::{Secret, SecretForm};

/// An HTTP method of requests to endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    Post,
    Put,
    Patch,
    Get,
}

impl Method {
    pub const ALL: [Method; 4] = [Method::Post, Method::Put, Method::Patch, Method::Get];

    pub fn name(self) -> &'static str {
        match self {
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Get => "GET",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Profile {
    /// A sentence for people who choose a profile.
    pub description: String,
    /// The methods that an endpoint may choose from; the first is the default. A GET has no body.
    pub methods: Vec<Method>,
    /// Template of the URL; the endpoint's where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    pub body: BodyRule,
    /// Template of the body, where `body` says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_template: Option<String>,
    /// Media type of the body. A JSON body template writes JSON values.
    pub content_type: String,
    /// The three headers of Standard Webhooks, beginning with this: `webhook` or `svix`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standard_webhooks: Option<String>,
    pub success: Success,
    /// The time for one attempt; the server's where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
    /// The server's where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryRule>,
    /// What the server's breaker does not say where it is given here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerRule>,
    /// Hours of failures after which an endpoint is disabled, 0 for never; the server's where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disable_after_hours: Option<u32>,
    /// Whether its endpoints may have transformations.
    #[serde(skip_serializing_if = "Clone::clone")]
    pub transformations: bool,
    /// Templates of further headers, by their names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<Signature>,
}

/// A profile's breaker: each value in place of the server's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerRule {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_open_after_seconds: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe_first_seconds: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe_max_seconds: Option<u32>,
}

/// The values for a preview of a profile's request. Where one is absent, the built-in example's is
/// used.
#[derive(Default)]
pub struct Draft {
    pub url: Option<String>,
    pub basic_auth: Option<BasicAuth>,
    pub method: Option<Method>,
    pub secret: Option<Secret>,
    pub event_type: Option<String>,
    pub payload: Option<PayloadBytes>,
    pub channels: Option<Vec<String>>,
    /// The endpoint's own headers.
    pub headers: BTreeMap<String, String>,
}

impl Default for Profile {
    fn default() -> Profile {
        Profile {
            description: String::new(),
            methods: vec![Method::Post],
            url: None,
            body: BodyRule::default(),
            body_template: None,
            content_type: "application/json".to_owned(),
            standard_webhooks: None,
            success: Success::default(),
            timeout_seconds: None,
            retry: None,
            breaker: None,
            disable_after_hours: None,
            transformations: true,
            headers: BTreeMap::new(),
            signatures: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BodyRule {
    /// The published bytes.
    #[default]
    Published,
    None,
    Template,
}

/// A header by which the receiver knows the sender.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    pub header: String,
    pub algorithm: Algorithm,
    /// The encoding of the signature; hex where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// The encoding of the key in the secret's text; the text itself is the key where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyEncoding>,
    /// Template of the signed content; the body's bytes where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The text before each signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// The text between signatures: during a rotation each live secret makes one, the newest first.
    /// Where it is absent, only the newest secret signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub separator: Option<String>,
    /// Template of the header's value around `{{ signature }}`; the value is the signature alone
    /// where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    #[serde(rename = "hmac-sha1")]
    HmacSha1,
    #[serde(rename = "hmac-sha256")]
    HmacSha256,
    #[serde(rename = "hmac-sha512")]
    HmacSha512,
    #[serde(rename = "ed25519")]
    Ed25519,
    /// The newest secret itself.
    #[serde(rename = "static")]
    Static,
}

impl Algorithm {
    pub fn is_hmac(self) -> bool {
        matches!(
            self,
            Algorithm::HmacSha1 | Algorithm::HmacSha256 | Algorithm::HmacSha512
        )
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    #[default]
    Hex,
    Base64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyEncoding {
    #[default]
    Given,
    Base64,
    Hex,
    /// `whsec_` and base64, as Standard Webhooks has it.
    Whsec,
}

/// Which answers mean success; any 2xx where nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Success {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusSet>,
    /// The whole body; one newline at its end does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The media type, without parameters such as charset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
}

/// Statuses, spelled `"200"`, `"2xx"` and `"200-204"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusSet(Vec<(u16, u16)>);

impl StatusSet {
    pub fn contains(&self, status: u16) -> bool {
        self.0
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&status))
    }

    pub fn first(&self) -> Option<u16> {
        self.0.first().map(|(first, _)| *first)
    }
}

fn parse_statuses(text: &str) -> Option<(u16, u16)> {
    let status = |text: &str| {
        let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u16>().ok()).flatten()
    };
    let range = match (text.strip_suffix("xx"), text.split_once('-')) {
        (Some(class), _) => {
            let class = status(&format!("{class}00"))?;
            (class, class + 99)
        }
        (None, Some((first, last))) => (status(first)?, status(last)?),
        (None, None) => (status(text)?, status(text)?),
    };
    (range.0 <= range.1 && range.0 >= 200 && range.1 <= 599).then_some(range)
}

impl fmt::Display for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            match first == last {
                true => write!(f, "{separator}{first}")?,
                false => write!(f, "{separator}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl Serialize for StatusSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        }))
    }
}

impl<'de> Deserialize<'de> for StatusSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<StatusSet, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let ranges = texts.iter().map(|text| {
            parse_statuses(text).ok_or_else(|| {
                de::Error::custom(format!(
                    "{text:?} is not a status from 200 to 599, such as \"200\", \"2xx\" or \"200-204\""
                ))
            })
        });
        ranges.collect::<Result<_, _>>().map(StatusSet)
    }
}

impl Success {
    /// The number of bytes of an answer's body that are compared with the expected body: its
    /// length, a line break, and one byte too many.
    pub fn compared_bytes(&self) -> usize {
        self.body.as_ref().map_or(0, |body| body.len() + 3)
    }

    /// Returns why this answer is not a success, or nothing where it is one. At least
    /// [`Success::compared_bytes`] of the answer's body must have been kept.
    pub fn fault(&self, answer: &Answer) -> Option<String> {
        let status = answer.status;
        let status_fits = match &self.status {
            Some(statuses) => statuses.contains(status),
            None => (200..=299).contains(&status),
        };
        if !status_fits {
            return Some(match (status, &self.status) {
                (300..=399, _) => {
                    format!("The receiver answered {status}, and redirects are not followed.")
                }
                (_, Some(statuses)) => {
                    format!("The receiver answered {status}; only {statuses} is a success.")
                }
                (_, None) => format!("The receiver answered {status}."),
            });
        }
        if let Some(expected) = &self.content_type {
            let given = answer
                .headers
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case("content-type"))
                .map(|(_, value)| value.split(';').next().unwrap_or_default().trim());
            match given {
                Some(given) if given.eq_ignore_ascii_case(expected) => {}
                Some(given) => {
                    return Some(format!(
                        "The receiver answered {status} with the media type {given:?}; only \
                         {expected:?} is a success."
                    ));
                }
                None => {
                    return Some(format!(
                        "The receiver answered {status} without a Content-Type; only \
                         {expected:?} is a success."
                    ));
                }
            }
        }
        if let Some(expected) = &self.body {
            let body = answer.body.strip_suffix(b"\n").unwrap_or(&answer.body);
            let body = match body.len() < answer.body.len() {
                true => body.strip_suffix(b"\r").unwrap_or(body),
                false => body,
            };
            if answer.truncated || body != expected.as_bytes() {
                return Some(format!(
                    "The receiver answered {status} with another body than {expected:?}, which \
                     alone is a success."
                ));
            }
        }
        None
    }
}

const HEADERS_MAX: usize = 64;
const SIGNATURES_MAX: usize = 10;
const DAY_SECONDS: u32 = 86_400;
const TIMEOUT_SECONDS_MAX: u32 = 3600;
/// The longest body that an answer can be compared with. So much of each answer is read, whatever
/// the limit of kept answers is, and is in memory meanwhile.
const SUCCESS_BODY_BYTES_MAX: usize = 60_000;

impl Profile {
    /// The names of the headers that this profile sets, in lower case.
    pub fn header_names(&self) -> Vec<String> {
        let family = self.standard_webhooks.iter().flat_map(|family| {
            ["id", "timestamp", "signature"].map(|name| format!("{family}-{name}"))
        });
        let signatures = self.signatures.iter().map(|one| one.header.clone());
        family
            .chain(signatures)
            .chain(self.headers.keys().cloned())
            .map(|name| name.to_ascii_lowercase())
            .collect()
    }

    /// Whether a request carries the secret itself.
    pub fn sends_secret(&self) -> bool {
        let mut signatures = self.signatures.iter();
        signatures.any(|one| one.algorithm == Algorithm::Static)
    }

    /// The form of secrets that this profile needs.
    pub fn secret_form(&self) -> SecretForm {
        self.checked_secret_form().unwrap_or(SecretForm::TEXT)
    }

    /// Like [`Profile::secret_form`]; the error says why no secret can serve all signatures.
    fn checked_secret_form(&self) -> Result<SecretForm, &'static str> {
        let has = |algorithm| self.signatures.iter().any(|one| one.algorithm == algorithm);
        let hmacs = || self.signatures.iter().filter(|one| one.algorithm.is_hmac());
        let decoded = |key| hmacs().any(|one| one.key.unwrap_or_default() == key);
        let (base64, hex) = (decoded(KeyEncoding::Base64), decoded(KeyEncoding::Hex));
        let whsec = decoded(KeyEncoding::Whsec);
        let standard = self.standard_webhooks.is_some();
        if has(Algorithm::Ed25519) {
            return match hmacs().next().is_some() || has(Algorithm::Static) {
                true => Err("an ed25519 key cannot stand beside another algorithm's secret"),
                false => Ok(SecretForm::Ed25519),
            };
        }
        if (standard || whsec) && (base64 || hex) {
            return Err(
                "a whsec_ secret is neither base64 nor hex as a whole; use key = \"whsec\"",
            );
        }
        if standard && has(Algorithm::Static) {
            return Err("a static header would send the key that Standard Webhooks signs with");
        }
        Ok(match (standard, whsec) {
            (true, false) if hmacs().next().is_none() => SecretForm::StandardWebhooks,
            (true, _) | (_, true) => SecretForm::Whsec,
            (false, false) => SecretForm::Text {
                base64,
                hex,
                header: has(Algorithm::Static),
            },
        })
    }

    /// The rules for its endpoints, where `rules` are those for all.
    pub fn health_rules(&self, mut rules: HealthRules) -> HealthRules {
        let breaker = self.breaker.unwrap_or_default();
        let set = |of: &mut Duration, seconds: Option<u32>| {
            if let Some(seconds) = seconds {
                *of = Duration::from_secs(seconds.into());
            }
        };
        rules.failures = breaker.failures.unwrap_or(rules.failures);
        set(&mut rules.min_open_after, breaker.min_open_after_seconds);
        set(&mut rules.probe_first, breaker.probe_first_seconds);
        set(&mut rules.probe_max, breaker.probe_max_seconds);
        if let Some(hours) = self.disable_after_hours {
            rules.disable_after = Duration::from_secs(3600 * u64::from(hours));
        }
        rules
    }

    /// The numbers of its breaker and its disabling, with the values that they may have.
    fn health_values(&self) -> [(&'static str, Option<u32>, RangeInclusive<u32>); 5] {
        let breaker = self.breaker.unwrap_or_default();
        [
            ("breaker.failures", breaker.failures, 0..=FAILURES_MAX),
            (
                "breaker.min_open_after_seconds",
                breaker.min_open_after_seconds,
                0..=DAY_SECONDS,
            ),
            (
                "breaker.probe_first_seconds",
                breaker.probe_first_seconds,
                1..=DAY_SECONDS,
            ),
            (
                "breaker.probe_max_seconds",
                breaker.probe_max_seconds,
                1..=DAY_SECONDS,
            ),
            (
                "disable_after_hours",
                self.disable_after_hours,
                0..=DISABLE_AFTER_HOURS_MAX,
            ),
        ]
    }

    /// All problems of the profile by itself, as the key and the reason. Templates are not checked.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut check = |holds: bool, key: &str, reason: &str| {
            if !holds {
                problems.push((key.to_owned(), reason.to_owned()));
            }
        };
        let distinct: HashSet<_> = self.methods.iter().collect();
        check(
            !self.methods.is_empty(),
            "methods",
            "must have at least one",
        );
        check(
            distinct.len() == self.methods.len(),
            "methods",
            "has one twice",
        );
        check(
            (self.body == BodyRule::Template) == self.body_template.is_some(),
            "body_template",
            "must be given where body = \"template\", and only there",
        );
        check(
            self.methods != [Method::Get] || self.body != BodyRule::Template,
            "body",
            "cannot be a template where the only method is GET, which has no body",
        );
        check(
            is_media_type(&self.content_type),
            "content_type",
            "must be a media type such as \"application/json\"",
        );
        check(
            self.timeout_seconds
                .is_none_or(|seconds| (1..=TIMEOUT_SECONDS_MAX).contains(&seconds)),
            "timeout_seconds",
            "must be 1 to 3600",
        );
        for (key, value, range) in self.health_values() {
            check(
                value.is_none_or(|value| range.contains(&value)),
                key,
                &format!("must be {} to {}", range.start(), range.end()),
            );
        }
        let rule = &self.success;
        check(
            rule.status.as_ref().is_none_or(|set| !set.0.is_empty()),
            "success.status",
            "must have at least one",
        );
        check(
            rule.status.is_some() || rule.body.is_none(),
            "success.body",
            "needs success.status beside it",
        );
        check(
            rule.body
                .as_ref()
                .is_none_or(|body| body.len() <= SUCCESS_BODY_BYTES_MAX),
            "success.body",
            "must have at most 60000 bytes",
        );
        check(
            rule.status.is_some() || rule.content_type.is_none(),
            "success.content_type",
            "needs success.status beside it",
        );
        check(
            rule.content_type
                .as_deref()
                .is_none_or(|text| is_media_type(text) && !text.contains(';')),
            "success.content_type",
            "must be a media type without parameters, such as \"text/plain\"",
        );
        check(
            rule.status.as_ref().is_none_or(|set| {
                set.0
                    .iter()
                    .all(|(first, last)| *last < 300 || *first > 399)
            }),
            "success.status",
            "cannot have a 3xx: redirects are not followed",
        );
        check(
            self.headers.len() <= HEADERS_MAX,
            "headers",
            "may have at most 64 entries",
        );
        check(
            self.signatures.len() <= SIGNATURES_MAX,
            "signatures",
            "may have at most 10 entries",
        );
        if let Err(reason) = self.checked_secret_form() {
            check(false, "signatures", reason);
        }
        check(
            self.standard_webhooks.as_deref().is_none_or(is_token),
            "standard_webhooks",
            "must be what the names of the headers begin with, such as \"webhook\"",
        );
        self.check_bodies(&mut check);
        self.check_headers(&mut check);
        for (index, signature) in self.signatures.iter().enumerate() {
            signature.check(&mut |holds, key, reason| {
                check(holds, &format!("signatures.{index}.{key}"), reason);
            });
        }
        if let Some(Err(wrong)) = self.retry.as_ref().map(|rule| rule.schedule(0.0)) {
            for (key, reason) in wrong {
                check(false, &format!("retry.{key}"), &reason);
            }
        }
        problems
    }

    /// Checks that a request which needs a body has one.
    fn check_bodies(&self, check: &mut impl FnMut(bool, &str, &str)) {
        let has_get = self.methods.contains(&Method::Get);
        let no_body = self.body == BodyRule::None;
        check(
            self.standard_webhooks.is_none() || !(has_get || no_body),
            "standard_webhooks",
            "signs the body, which GET and body = \"none\" do not have",
        );
        for (index, signature) in self.signatures.iter().enumerate() {
            let signs_body =
                signature.content.is_none() && signature.algorithm != Algorithm::Static;
            check(
                !(signs_body && (has_get || no_body)),
                &format!("signatures.{index}.content"),
                "is needed: without it the body is signed, which GET and body = \"none\" do not have",
            );
        }
    }

    fn check_headers(&self, check: &mut impl FnMut(bool, &str, &str)) {
        let mut seen = HashSet::new();
        let family = self.standard_webhooks.iter().flat_map(|family| {
            ["id", "timestamp", "signature"]
                .map(|name| ("standard_webhooks".to_owned(), format!("{family}-{name}")))
        });
        let signatures = self
            .signatures
            .iter()
            .enumerate()
            .map(|(index, one)| (format!("signatures.{index}.header"), one.header.clone()));
        let headers = self
            .headers
            .keys()
            .map(|name| (format!("headers.{name}"), name.clone()));
        for (key, name) in family.chain(signatures).chain(headers) {
            let name = name.to_ascii_lowercase();
            check(is_token(&name), &key, "is not a header name");
            check(
                !header::belongs_to_http(&name) && name != "content-type",
                &key,
                "is a header that the server sets itself",
            );
            check(seen.insert(name), &key, "is set twice");
        }
    }
}

impl Signature {
    fn check(&self, check: &mut impl FnMut(bool, &str, &str)) {
        let is_static = self.algorithm == Algorithm::Static;
        for (key, given) in [
            ("encoding", self.encoding.is_some()),
            ("content", self.content.is_some()),
            ("separator", self.separator.is_some()),
        ] {
            let reason = "has no meaning where algorithm = \"static\"";
            check(!(is_static && given), key, reason);
        }
        check(
            self.algorithm.is_hmac() || self.key.is_none(),
            "key",
            "has a meaning only for an hmac; an ed25519 key is whsk_ and base64",
        );
        for (key, text) in [("prefix", &self.prefix), ("separator", &self.separator)] {
            let visible = |text: &String| text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
            check(
                text.as_ref().is_none_or(visible),
                key,
                "must be visible ASCII characters",
            );
        }
        check(
            self.separator.as_deref() != Some(""),
            "separator",
            "must not be empty; without one only the newest secret signs",
        );
    }
}

/// A token of RFC 9110, 5.6.2.
fn is_token(text: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=256).contains(&text.len()) && text.bytes().all(is_token)
}

/// The rule for a profile's name.
pub fn is_name(text: &str) -> bool {
    let fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(fits)
}

/// Whether a text can stand in a `content-type` header: `text/xml; charset=utf-8`.
pub fn is_media_type(text: &str) -> bool {
    let visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    text.split_once('/')
        .is_some_and(|(kind, rest)| !kind.is_empty() && !rest.is_empty() && visible(kind))
        && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(change: serde_json::Value) -> Profile {
        serde_json::from_value(change).unwrap_or_else(|error| panic!("{error}"))
    }

    fn keys(change: serde_json::Value) -> Vec<String> {
        let problems = profile(change).problems();
        problems.into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn statuses_are_spelled_in_three_ways() {
        for (text, expected) in [
            ("200", Some((200, 200))),
            ("2xx", Some((200, 299))),
            ("200-204", Some((200, 204))),
            ("204-200", None),
            ("1xx", None),
            ("6xx", None),
            ("20", None),
            ("+20", None),
            ("200-", None),
            ("x", None),
            ("é00", None),
            ("", None),
        ] {
            assert_eq!(parse_statuses(text), expected, "{text}");
        }
    }

    #[test]
    fn only_the_answer_that_the_rule_names_is_a_success() {
        let rule: Success = serde_json::from_value(serde_json::json!({
            "status": ["200"], "body": "OK", "content_type": "text/plain"
        }))
        .unwrap();
        for (status, content_type, body, truncated, expected) in [
            (200, Some("text/plain"), "OK", false, None),
            (200, Some("TEXT/Plain; charset=utf-8"), "OK\n", false, None),
            (200, Some("text/plain"), "OK\r\n", false, None),
            (200, Some("text/plain"), "OK\n\n", false, Some("body")),
            (200, Some("text/plain"), "OK\r", false, Some("body")),
            (200, Some("text/plain"), "ok", false, Some("body")),
            (200, Some("text/plain"), "", false, Some("body")),
            (200, Some("text/plain"), "OK", true, Some("body")),
            (
                200,
                Some("application/json"),
                "OK",
                false,
                Some("media type"),
            ),
            (200, None, "OK", false, Some("Content-Type")),
            (201, Some("text/plain"), "OK", false, Some("201")),
            (302, Some("text/plain"), "OK", false, Some("redirects")),
        ] {
            let answer = Answer {
                status,
                headers: content_type
                    .map(|value| ("Content-Type".to_owned(), value.to_owned()))
                    .into_iter()
                    .collect(),
                body: body.as_bytes().to_vec(),
                truncated,
            };
            let fault = rule.fault(&answer);
            match expected {
                None => assert_eq!(fault, None, "{status} {content_type:?} {body:?}"),
                Some(part) => assert!(
                    fault.as_ref().is_some_and(|fault| fault.contains(part)),
                    "{status} {content_type:?} {body:?}: {fault:?}"
                ),
            }
        }
    }

    #[test]
    fn impossible_combinations_are_named() {
        use serde_json::json;
        let hmac = |more: serde_json::Value| {
            let mut one = json!({ "header": "x-one", "algorithm": "hmac-sha256" });
            one.as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            one
        };
        for (change, expected) in [
            (json!({}), vec![]),
            (json!({ "methods": [] }), vec!["methods"]),
            (json!({ "methods": ["GET", "GET"] }), vec!["methods"]),
            (json!({ "body": "template" }), vec!["body_template"]),
            (json!({ "body_template": "x" }), vec!["body_template"]),
            (
                json!({ "methods": ["GET"], "body": "template", "body_template": "x" }),
                vec!["body"],
            ),
            (json!({ "content_type": "json" }), vec!["content_type"]),
            (json!({ "timeout_seconds": 0 }), vec!["timeout_seconds"]),
            (json!({ "success": { "body": "OK" } }), vec!["success.body"]),
            (
                json!({ "success": { "content_type": "text/plain" } }),
                vec!["success.content_type"],
            ),
            (
                json!({ "success": { "status": ["200"], "content_type": "text/plain; a=b" } }),
                vec!["success.content_type"],
            ),
            (
                json!({ "success": { "status": ["200-302"] } }),
                vec!["success.status"],
            ),
            (
                json!({ "success": { "status": [] } }),
                vec!["success.status"],
            ),
            (
                json!({ "standard_webhooks": "webhook", "methods": ["POST", "GET"] }),
                vec!["standard_webhooks"],
            ),
            (
                json!({ "standard_webhooks": "web hook" }),
                vec!["standard_webhooks"; 4],
            ),
            (
                json!({ "methods": ["GET"], "signatures": [hmac(json!({}))] }),
                vec!["signatures.0.content"],
            ),
            (
                json!({ "body": "none", "signatures": [hmac(json!({}))] }),
                vec!["signatures.0.content"],
            ),
            (
                json!({ "methods": ["GET"], "signatures": [hmac(json!({ "content": "x" }))] }),
                vec![],
            ),
            (
                json!({ "signatures": [hmac(json!({ "separator": "" }))] }),
                vec!["signatures.0.separator"],
            ),
            (
                json!({ "signatures": [hmac(json!({ "prefix": "\n" }))] }),
                vec!["signatures.0.prefix"],
            ),
            (
                json!({ "signatures": [hmac(json!({})), hmac(json!({}))] }),
                vec!["signatures.1.header"],
            ),
            (
                json!({ "signatures": [{ "header": "x", "algorithm": "static", "content": "c" }] }),
                vec!["signatures.0.content"],
            ),
            (
                json!({ "signatures": [{ "header": "x", "algorithm": "ed25519", "key": "hex" }] }),
                vec!["signatures.0.key"],
            ),
            (
                json!({ "signatures": [{ "header": "x", "algorithm": "ed25519" }, hmac(json!({}))] }),
                vec!["signatures"],
            ),
            (
                json!({ "standard_webhooks": "svix", "signatures": [hmac(json!({ "key": "hex" }))] }),
                vec!["signatures"],
            ),
            (
                json!({ "standard_webhooks": "svix", "headers": { "svix-id": "x" } }),
                vec!["headers.svix-id"],
            ),
            (
                json!({ "headers": { "Host": "x", "a b": "x" } }),
                vec!["headers.Host", "headers.a b"],
            ),
            (
                json!({ "retry": { "delays_seconds": [0] } }),
                vec!["retry.delays_seconds"],
            ),
        ] {
            assert_eq!(keys(change.clone()), expected, "{change}");
        }
    }

    #[test]
    fn a_profile_says_which_secrets_it_takes() {
        use serde_json::json;
        let signature = |algorithm: &str, key: Option<&str>| {
            let mut one = json!({ "header": format!("x-{algorithm}-{key:?}").replace(['(', ')', '"'], ""), "algorithm": algorithm });
            if let Some(key) = key {
                one["key"] = json!(key);
            }
            one
        };
        for (change, expected) in [
            (json!({}), SecretForm::TEXT),
            (
                json!({ "standard_webhooks": "svix" }),
                SecretForm::StandardWebhooks,
            ),
            (
                json!({ "standard_webhooks": "svix", "signatures": [signature("hmac-sha1", None)] }),
                SecretForm::Whsec,
            ),
            (
                json!({ "signatures": [signature("hmac-sha1", Some("whsec"))] }),
                SecretForm::Whsec,
            ),
            (
                json!({ "signatures": [signature("ed25519", None)] }),
                SecretForm::Ed25519,
            ),
            (
                json!({ "signatures": [signature("static", None)] }),
                SecretForm::Text {
                    base64: false,
                    hex: false,
                    header: true,
                },
            ),
            (
                json!({ "signatures": [signature("hmac-sha256", Some("hex")), signature("hmac-sha512", Some("base64"))] }),
                SecretForm::Text {
                    base64: true,
                    hex: true,
                    header: false,
                },
            ),
        ] {
            assert_eq!(profile(change.clone()).secret_form(), expected, "{change}");
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        for text in [
            r#"{"mehtods":["POST"]}"#,
            r#"{"methods":["DELETE"]}"#,
            r#"{"success":{"code":200}}"#,
            r#"{"signatures":[{"header":"x","algorithm":"md5"}]}"#,
            r#"{"retry":{"delays":[1]}}"#,
            r#"{"body":"whole"}"#,
        ] {
            assert!(serde_json::from_str::<Profile>(text).is_err(), "{text}");
        }
    }
}
