//! Where an endpoint's requests go and which headers a caller may add to them.
//!
//! Pure. Whether the host's address is allowed is not decided here: the caller asks the address
//! rule, which is applied once more at each connection.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use url::Url;

use super::checks::Problems;
use super::patch::Patch;
use crate::clock::Timestamp;
use crate::domain::endpoint::{BasicAuth, Endpoint};
use crate::domain::header::is_reserved;

const HEADER_NAME_BYTES_MAX: usize = 256;

/// The longest user name and password together: as much as a URL could carry.
const BASIC_AUTH_BYTES_MAX: usize = 2048;

/// An endpoint's URL without credentials, and the credentials that stood in it.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointUrl {
    #[serde(with = "as_text")]
    pub url: Url,
    basic_auth: Option<BasicAuth>,
}

/// Prints the origin alone: a path or a query may hold a key.
impl fmt::Debug for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "EndpointUrl({}…)",
            self.url.origin().ascii_serialization()
        )
    }
}

impl EndpointUrl {
    pub fn has_credentials(&self) -> bool {
        self.basic_auth.is_some()
    }

    pub fn into_parts(self) -> (String, Option<BasicAuth>) {
        (self.url.into(), self.basic_auth)
    }

    /// Sets the URL, and the credentials that stood in it.
    pub fn apply_to(self, endpoint: &mut Endpoint, challenge_at: Option<Timestamp>) {
        // Nothing can be wrong where no credentials are given beside the URL.
        retarget(
            &mut Problems::default(),
            endpoint,
            Some(self),
            Patch::Absent,
            challenge_at,
        );
    }
}

/// A URL, whose own crate is built without serde.
mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use url::Url;

    pub fn serialize<S: Serializer>(url: &Url, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(url.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Basic authentication as a caller gives it.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenBasicAuth {
    pub username: Option<String>,
    /// Where absent, the present password stays if the user name is the same.
    pub password: Option<String>,
}

/// Sets an endpoint's URL and Basic authentication, as far as a change names them. A URL with
/// another origin or path is challenged at `challenge_at`, where that is given. The caller has
/// removed the secrets before that must not follow the URL to another origin: see `origin`.
pub fn retarget(
    problems: &mut Problems,
    endpoint: &mut Endpoint,
    target: Option<EndpointUrl>,
    given: Patch<GivenBasicAuth>,
    challenge_at: Option<Timestamp>,
) {
    let kept = endpoint.basic_auth.take();
    let mut in_url = None;
    if let Some(target) = target {
        in_url = target.basic_auth;
        endpoint.set_url(target.url.into(), challenge_at);
    }
    endpoint.basic_auth = match given {
        Patch::Absent => in_url.or(kept),
        Patch::Null => in_url,
        Patch::Set(given) => {
            let basic_auth = basic_auth(problems, given, in_url.as_ref().or(kept.as_ref()));
            if basic_auth.is_some() && in_url.is_some() && in_url != basic_auth {
                let message = "is not what the URL says; give the credentials once";
                problems.add(&["body", "basicAuth"], message);
            }
            basic_auth
        }
    };
}

/// Returns the credentials that were given, with the password from `known` where it is not named.
fn basic_auth(
    problems: &mut Problems,
    given: GivenBasicAuth,
    known: Option<&BasicAuth>,
) -> Option<BasicAuth> {
    let Some(username) = given.username else {
        problems.missing(&["body", "basicAuth", "username"]);
        return None;
    };
    let known = known.filter(|known| known.username == username);
    if username.contains(':') {
        let message = "may not have a colon, which Basic auth cannot carry";
        problems.add(&["body", "basicAuth", "username"], message);
    }
    check_credential(problems, "username", &username);
    match (given.password, known) {
        (Some(password), _) => {
            check_credential(problems, "password", &password);
            Some(BasicAuth { username, password })
        }
        (None, Some(known)) => Some(known.clone()),
        (None, None) => {
            let message = "is required: there is none for this user name and this URL";
            problems.add(&["body", "basicAuth", "password"], message);
            None
        }
    }
}

fn check_credential(problems: &mut Problems, field: &str, text: &str) {
    if text.len() > BASIC_AUTH_BYTES_MAX {
        let message = format!("must have at most {BASIC_AUTH_BYTES_MAX} bytes");
        problems.add(&["body", "basicAuth", field], message);
    }
    if text.chars().any(char::is_control) {
        let message = "may not contain control characters";
        problems.add(&["body", "basicAuth", field], message);
    }
}

/// Parses an absolute http(s) URL. The error is a sentence for the caller.
pub fn target(text: &str, bytes_max: usize) -> Result<EndpointUrl, String> {
    if text.len() > bytes_max {
        return Err(format!("must have at most {bytes_max} bytes"));
    }
    let mut url = crate::domain::url::parse(text)?;
    if url.fragment().is_some() {
        return Err("may not have a fragment".to_owned());
    }
    let basic_auth = credentials(&url)?;
    let cleared = url.set_username("").and_then(|()| url.set_password(None));
    cleared.map_err(|()| "must have a host".to_owned())?;
    // International names and odd characters grow when they are encoded.
    if url.as_str().len() > bytes_max {
        return Err(format!("must have at most {bytes_max} bytes when encoded"));
    }
    Ok(EndpointUrl { url, basic_auth })
}

fn credentials(url: &Url) -> Result<Option<BasicAuth>, String> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let decoded = |text: &str| {
        let text = percent_decode_str(text)
            .decode_utf8()
            .map_err(|_| "has credentials that are not UTF-8".to_owned())?;
        match text.chars().any(char::is_control) {
            true => Err("has credentials with control characters".to_owned()),
            false => Ok(text.into_owned()),
        }
    };
    let username = decoded(url.username())?;
    if username.contains(':') {
        return Err("has a user name with a colon, which Basic auth cannot carry".to_owned());
    }
    Ok(Some(BasicAuth {
        username,
        password: decoded(url.password().unwrap_or_default())?,
    }))
}

/// Returns the problems of headers that are to be sent along, by the headers' names. `taken`
/// returns why a name cannot be used. Values are not repeated in the texts.
pub fn header_problems(
    headers: &BTreeMap<String, String>,
    value_bytes_max: usize,
    taken: impl Fn(&str) -> Option<&'static str>,
) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    let mut seen = HashSet::new();
    for (name, value) in headers {
        let is_new = seen.insert(name.to_ascii_lowercase());
        let problem = name_problem(name)
            .or((!is_new).then_some("is given twice"))
            .or_else(|| taken(name));
        if let Some(message) = problem {
            problems.push((name.clone(), message.to_owned()));
        }
        if let Some(message) = value_problem(value, value_bytes_max) {
            problems.push((name.clone(), message));
        }
    }
    problems
}

/// Returns why a header cannot have this name: it is not a token of RFC 9110, 5.6.2, or the server
/// sets the header itself.
fn name_problem(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.len() > HEADER_NAME_BYTES_MAX {
        return Some("must have a name of 1 to 256 characters");
    }
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !name.bytes().all(is_token) {
        return Some("is not a header name");
    }
    let reserved = is_reserved(&name.to_ascii_lowercase());
    reserved.then_some("is a header that the server sets itself")
}

fn value_problem(value: &str, bytes_max: usize) -> Option<String> {
    if value.len() > bytes_max {
        return Some(format!("must have a value of at most {bytes_max} bytes"));
    }
    let visible = |byte: u8| matches!(byte, b' '..=b'~' | b'\t');
    if !value.bytes().all(visible) {
        return Some("must have a value of visible ASCII characters".to_owned());
    }
    (value.trim_ascii() != value).then(|| "may not begin or end with a space".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Change;
    use crate::clock::Timestamp;
    use crate::domain::application::Application;
    use crate::domain::endpoint::EndpointSecret;
    use crate::domain::id::{ApplicationId, OrganisationId};
    use crate::domain::secret::{Secret, SecretForm};
    use crate::error::Error;
    use crate::rules::endpoint_checks::blank;
    use crate::rules::tests::{Example, NOW};
    use actix_web::http::header::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    #[test]
    fn nothing_that_a_customer_keeps_secret_prints() {
        let kept_back = |name: &str| (name.to_owned(), "kept-back".to_owned());
        let basic_auth = BasicAuth {
            username: "kept-back".to_owned(),
            password: "kept-back".to_owned(),
        };
        let url = "https://hooks.example.com:8443/kept-back?key=kept-back";
        let mut endpoint = Endpoint {
            url: url.to_owned(),
            description: "kept-back".to_owned(),
            metadata: BTreeMap::from([kept_back("note")]),
            secrets: vec![EndpointSecret {
                secret: Secret::parse("kept-back", SecretForm::TEXT).unwrap(),
                expires_at: None,
            }],
            basic_auth: Some(basic_auth.clone()),
            auth_headers: BTreeMap::from([kept_back("authorization")]),
            ..blank(&Example::application(), 7, NOW)
        };
        endpoint.set_headers(BTreeMap::from([kept_back("X-Plain")]), true);
        let target = EndpointUrl {
            url: url.parse().unwrap(),
            basic_auth: Some(basic_auth),
        };
        let printed = format!("{:?} {target:?}", Change::PutEndpoint(endpoint));
        assert!(!printed.contains("kept-back"), "{printed}");
        // The origin prints, because it helps to find the endpoint.
        let origin = "https://hooks.example.com:8443";
        for (shown, times) in [
            (origin, 2),
            ("X-Plain", 1),
            ("authorization", 1),
            ("number: 7", 1),
        ] {
            assert_eq!(printed.matches(shown).count(), times, "{shown}: {printed}");
        }
    }

    #[test]
    fn urls_are_absolute_and_without_surprises() {
        for (text, expected) in [
            (
                "https://example.com/in?a=b",
                Ok("https://example.com/in?a=b"),
            ),
            ("http://127.0.0.1:8080", Ok("http://127.0.0.1:8080/")),
            ("http://[::1]:8080/x", Ok("http://[::1]:8080/x")),
            (
                "https://user:pa%3Ass@example.com/",
                Ok("https://example.com/"),
            ),
            ("HTTPS://EXAMPLE.com/A", Ok("https://example.com/A")),
            ("/in", Err("absolute")),
            ("example.com", Err("absolute")),
            ("ftp://example.com/", Err("http or https")),
            ("javascript:alert(1)", Err("http or https")),
            ("https://", Err("must have a host")),
            ("http://a{b}.test/", Err("a host with '{'")),
            ("https://example.com/#top", Err("fragment")),
            ("https://example.com/ a", Err("spaces")),
            (" https://example.com/", Err("spaces")),
            ("https://exa\tmple.com/", Err("spaces")),
            ("https://a%3Ab:c@example.com/", Err("colon")),
            ("https://a:%0a@example.com/", Err("control")),
            ("https://%ff:x@example.com/", Err("UTF-8")),
            (
                "https://example.com/0123456789012345678901234567890123456789",
                Err("50 bytes"),
            ),
            ("https://example.com/éééééééééé", Err("when encoded")),
        ] {
            match (target(text, 50), expected) {
                (Ok(target), Ok(url)) => assert_eq!(target.url.as_str(), url),
                (Err(message), Err(part)) => assert!(message.contains(part), "{text}: {message}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }

    #[test]
    fn userinfo_becomes_credentials() {
        let found = target("https://ann:p%40ss%20w@example.com/", 2048).unwrap();
        let expected = BasicAuth {
            username: "ann".to_owned(),
            password: "p@ss w".to_owned(),
        };
        assert_eq!(found.basic_auth, Some(expected));
        let only_name = target("https://ann@example.com/", 2048).unwrap();
        assert_eq!(only_name.basic_auth.unwrap().password, "");
    }

    #[test]
    fn what_the_server_sets_and_what_is_not_a_header_is_refused() {
        for name in [
            "Host",
            "content-length",
            "Transfer-Encoding",
            "Connection",
            "Keep-Alive",
            "TE",
            "Trailer",
            "Upgrade",
            "Proxy-Authorization",
            "Webhook-Id",
            "svix-signature",
            "X-Svix-Id",
            "x-amzn-trace-id",
            "Date",
            "",
            "a b",
            "a:b",
            "é",
            "a\r\nb",
        ] {
            assert!(name_problem(name).is_some(), "{name}");
        }
        for name in [
            "Authorization",
            "X-Webhook",
            "User-Agent",
            "x_y.z",
            "Content-Type",
        ] {
            assert_eq!(name_problem(name), None, "{name}");
        }
        for value in ["a\r\nX-Evil: 1", "a\0", "\u{7f}", " a", "a\t", "é"] {
            assert!(value_problem(value, 100).is_some(), "{value:?}");
        }
        for value in ["", "a b\tc", "Bearer !~"] {
            assert_eq!(value_problem(value, 100), None, "{value:?}");
        }
        assert!(value_problem("12345", 4).is_some());
    }

    #[test]
    fn a_name_stands_once_and_is_nobody_elses() {
        let headers = |names: &[&str]| {
            names
                .iter()
                .map(|name| ((*name).to_owned(), "v".to_owned()))
                .collect::<BTreeMap<_, _>>()
        };
        let taken = |name: &str| (name == "x-taken").then_some("is taken");
        for (names, expected) in [
            (vec!["A", "B"], vec![]),
            (vec!["A", "a"], vec![("a", "is given twice")]),
            (vec!["B", "x-taken"], vec![("x-taken", "is taken")]),
            (
                vec!["Host"],
                vec![("Host", "is a header that the server sets itself")],
            ),
        ] {
            let problems = header_problems(&headers(&names), 10, taken);
            let found: Vec<_> = problems.iter().map(|(a, b)| (&a[..], &b[..])).collect();
            assert_eq!(found, expected);
        }
    }

    /// Gives an endpoint at example.com with ann's password `old` another target; returns its
    /// credentials, or the places of the problems.
    fn retargeted(url: Option<&str>, given: &str) -> Result<Option<(String, String)>, Vec<String>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Given {
            #[serde(default)]
            basic_auth: Patch<GivenBasicAuth>,
        }
        let now = Timestamp(1_700_000_000_000);
        let application = Application {
            id: ApplicationId::at(now),
            organisation: OrganisationId([1; 20]),
            uid: None,
            name: String::new(),
            metadata: BTreeMap::new(),
            throttle_rate: None,
            created_at: now,
            updated_at: now,
            tokens_valid_from: None,
            tokens_ending: None,
        };
        let mut endpoint = blank(&application, 1, now);
        endpoint.url = "https://example.com/in".to_owned();
        endpoint.basic_auth = Some(BasicAuth {
            username: "ann".to_owned(),
            password: "old".to_owned(),
        });
        let url = url.map(|url| target(url, 2048).expect("a good URL"));
        let given: Given = serde_json::from_str(given).expect("it has the right types");
        let mut problems = Problems::default();
        retarget(&mut problems, &mut endpoint, url, given.basic_auth, None);
        match problems.done() {
            Ok(()) => Ok(endpoint.basic_auth.map(|one| (one.username, one.password))),
            Err(Error::Invalid(all)) => Err(all.iter().map(|one| one.location.join(".")).collect()),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn credentials_stay_with_their_user_name() {
        let elsewhere = "https://example.net/in";
        let with_userinfo = "https://bob:new@example.com/in";
        let ann = Some(("ann", "old"));
        let bob = Some(("bob", "new"));
        for (url, given, expected) in [
            (None, "{}", Ok(ann)),
            (Some("https://example.com/other"), "{}", Ok(ann)),
            (Some(elsewhere), "{}", Ok(ann)),
            (Some(with_userinfo), "{}", Ok(bob)),
            (None, r#"{"basicAuth":null}"#, Ok(None)),
            (Some(with_userinfo), r#"{"basicAuth":null}"#, Ok(bob)),
            (
                None,
                r#"{"basicAuth":{"username":"bob","password":"new"}}"#,
                Ok(bob),
            ),
            (
                Some(elsewhere),
                r#"{"basicAuth":{"username":"ann","password":""}}"#,
                Ok(Some(("ann", ""))),
            ),
            (None, r#"{"basicAuth":{"username":"ann"}}"#, Ok(ann)),
            (
                None,
                r#"{"basicAuth":{"username":"bob"}}"#,
                Err(vec!["body.basicAuth.password"]),
            ),
            (
                Some(with_userinfo),
                r#"{"basicAuth":{"username":"bob"}}"#,
                Ok(bob),
            ),
            (
                Some(with_userinfo),
                r#"{"basicAuth":{"username":"bob","password":"new"}}"#,
                Ok(bob),
            ),
            (
                Some(with_userinfo),
                r#"{"basicAuth":{"username":"bob","password":"other"}}"#,
                Err(vec!["body.basicAuth"]),
            ),
            (
                None,
                r#"{"basicAuth":{}}"#,
                Err(vec!["body.basicAuth.username"]),
            ),
            (
                None,
                r#"{"basicAuth":{"username":"a:b","password":"\n"}}"#,
                Err(vec!["body.basicAuth.username", "body.basicAuth.password"]),
            ),
        ] {
            let expected = expected
                .map(|auth: Option<(&str, &str)>| {
                    auth.map(|(name, password)| (name.to_owned(), password.to_owned()))
                })
                .map_err(|places| places.into_iter().map(str::to_owned).collect());
            assert_eq!(retargeted(url, given), expected, "{url:?} {given}");
        }
    }

    proptest! {
        /// A header that is accepted can be put on a request.
        #[test]
        fn headers_that_pass_are_headers(name in "\\PC{1,20}", value in "[ -\u{ff}]{0,20}") {
            if name_problem(&name).is_none() {
                prop_assert!(HeaderName::from_bytes(name.as_bytes()).is_ok());
            }
            if value_problem(&value, 100).is_none() {
                prop_assert!(HeaderValue::from_str(&value).is_ok());
            }
        }

        #[test]
        fn a_url_that_passes_has_no_userinfo(text in "https?://[a-z:@%0-9./?]{1,40}") {
            if let Ok(target) = target(&text, 2048) {
                prop_assert!(target.url.username().is_empty());
                prop_assert!(target.url.password().is_none());
            }
        }
    }
}
