//! The receiver's side of a profile: the problems of a captured request.
//!
//! The command line calls it, for a request that somebody kept and for those that `sink` receives.
//! A request is taken apart with the templates that made it: the text of a header or the URL at the
//! place of a name is bound to the name ([`TemplateScope::of_bindings`]), and with these bindings the signed
//! content is rendered again. A value that a request has in two places must be the same in both. A
//! template with more than text and names in it cannot be taken apart; it is rendered and compared,
//! where everything that it names is known. Pure; problems quote values of the request, never the
//! secret.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix_web::http::header::HeaderName;
use actix_web::web::Bytes;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use serde::de::IgnoredAny;

use super::profile::CompiledProfile;
use super::scope::TemplateScope;
use super::sign::{SignedHeaders, VerifyingKey, check_age};
use super::signature::Known;
use super::template::{FUNCTIONS, Part, Template};
use crate::clock::Timestamp;
use crate::domain::profile::{BodyRule, Method};
use crate::domain::secret::{ED25519_PUBLIC_PREFIX, Secret, SecretForm};

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub struct Captured {
    /// Not judged where it is not known.
    pub method: Option<String>,
    /// Whole, or from the path on; not judged where it is not known.
    pub url: Option<String>,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Bytes,
}

/// Verifies requests by one profile, with one secret.
pub struct Verifier {
    profile: Arc<CompiledProfile>,
    /// None where nothing is signed, or the secret is not known.
    secret: Option<Known>,
    standard: Option<VerifyingKey>,
}

impl Verifier {
    /// The secret must be one of the profile's form, or the public key of an ed25519 one; the error
    /// is a predicate that does not repeat it. Without one, signatures are not looked at. Where the
    /// profile has none, neither is the secret.
    pub fn new(profile: Arc<CompiledProfile>, secret: Option<&str>) -> Result<Verifier, String> {
        let mut verifier = Verifier {
            profile,
            secret: None,
            standard: None,
        };
        let Some(text) = secret.filter(|_| verifier.profile.signs()) else {
            return Ok(verifier);
        };
        let form = verifier.profile.settings.secret_form();
        let may_be_public = matches!(form, SecretForm::Ed25519 | SecretForm::StandardWebhooks);
        verifier.secret = Some(match text.strip_prefix(ED25519_PUBLIC_PREFIX) {
            Some(encoded) if may_be_public => match STANDARD.decode(encoded) {
                Ok(key) if key.len() == 32 => Known::Public(key),
                _ => return Err("must be 'whpk_' followed by base64 of 32 bytes".to_owned()),
            },
            _ => Known::Secret(Secret::parse(text, form)?),
        });
        if verifier.profile.standard.is_some() {
            let key = VerifyingKey::parse(text).map_err(|error| error.to_string())?;
            verifier.standard = Some(key);
        }
        Ok(verifier)
    }

    pub fn profile(&self) -> &CompiledProfile {
        &self.profile
    }

    /// Whether signatures are looked at.
    pub fn checks_signatures(&self) -> bool {
        self.secret.is_some()
    }

    /// All problems, each a sentence without its full stop; none if the request is as the profile makes
    /// it. A timestamp's age is judged where the time is given.
    pub fn problems(&self, request: &Captured, now: Option<Timestamp>) -> Vec<String> {
        let mut checking = Checking {
            profile: &self.profile,
            request,
            bindings: BTreeMap::new(),
            problems: Vec::new(),
        };
        let has_body = checking.method();
        let headers = checking.headers();
        checking.url(has_body);
        if let (Some(now), Some((timestamp, _))) = (now, checking.bindings.get("timestamp"))
            && let Err(why) = check_age(timestamp, now)
        {
            checking.problem(why.to_string());
        }
        let payload = checking.payload(has_body);
        let scope = checking.scope(has_body, payload.as_ref());
        checking.rendered(&headers, &scope, payload.is_some());
        if let Some(secret) = &self.secret {
            checking.signatures(&headers, secret, self.standard.as_ref(), &scope);
        }
        checking.problems
    }
}

/// One request under examination.
struct Checking<'a> {
    profile: &'a CompiledProfile,
    request: &'a Captured,
    /// By the name: the text and where it was found first.
    bindings: BTreeMap<String, (String, String)>,
    problems: Vec<String>,
}

/// The profile's headers as they came. Headers that are missing or no text have been reported.
#[derive(Default)]
struct Found<'a> {
    values: BTreeMap<&'a str, &'a str>,
    /// The signatures' texts, by their places in the profile.
    signatures: BTreeMap<usize, String>,
}

impl<'a> Checking<'a> {
    fn problem(&mut self, problem: impl Into<String>) {
        self.problems.push(problem.into());
    }

    /// Whether there is a body to look at.
    fn method(&mut self) -> bool {
        let is_empty = self.request.body.is_empty();
        let Some(given) = &self.request.method else {
            return !is_empty && self.profile.settings.body != BodyRule::None;
        };
        let methods = &self.profile.settings.methods;
        let names: Vec<&str> = methods.iter().map(|method| method.name()).collect();
        if !names.contains(&given.as_str()) {
            let names = names.join(", ");
            self.problem(format!("the method is {given:?}; the profile has {names}"));
        }
        let method = Method::ALL
            .into_iter()
            .find(|method| method.name() == given);
        let has_body = self.profile.has_body(method.unwrap_or(Method::Post));
        match (has_body, is_empty) {
            (true, true) => self.problem("there is no body"),
            (false, false) => self.problem(format!(
                "there is a body, which the profile's {given} requests do not have"
            )),
            _ => {}
        }
        has_body && !is_empty
    }

    /// Looks up the headers and takes them apart.
    fn headers(&mut self) -> Found<'a> {
        let profile = self.profile;
        let mut found = Found::default();
        if let Some(standard) = &profile.standard {
            let names = [
                (&standard.id, "message.id"),
                (&standard.timestamp, "timestamp"),
            ];
            for (name, stands_for) in names {
                if let Some(value) = self.header(name, &mut found) {
                    self.bind(&format!("header {name}"), stands_for, value.to_owned());
                }
            }
            self.header(&standard.signature, &mut found);
        }
        for header in &profile.headers {
            if let Some(value) = self.header(&header.name, &mut found) {
                self.take_apart(&header.name, &header.template, value);
            }
        }
        for (index, signature) in profile.signatures.iter().enumerate() {
            let Some(value) = self.header(&signature.header, &mut found) else {
                continue;
            };
            let signature = match &signature.format {
                None => Some(value.to_owned()),
                Some(format) if separable(format).is_none() => {
                    self.problem(format!(
                        "header {} cannot be taken apart: its format has more than text and names \
                         between them",
                        signature.header
                    ));
                    None
                }
                Some(format) => self.take_apart(&signature.header, format, value),
            };
            found.signatures.extend(signature.map(|text| (index, text)));
        }
        found
    }

    /// A header's text. Reports a problem where the request does not have it exactly once, as text.
    fn header(&mut self, name: &'a HeaderName, found: &mut Found<'a>) -> Option<&'a str> {
        let request = self.request;
        let mut values = request
            .headers
            .iter()
            .filter(|(given, _)| given.eq_ignore_ascii_case(name.as_str()))
            .map(|(_, value)| std::str::from_utf8(value));
        match (values.next(), values.next()) {
            (None, _) => self.problem(format!("header {name} is missing")),
            (Some(_), Some(_)) => self.problem(format!("header {name} is there more than once")),
            (Some(Err(_)), None) => self.problem(format!("header {name} is not text")),
            (Some(Ok(value)), None) => {
                let value = value.trim_ascii();
                found.values.insert(name.as_str(), value);
                return Some(value);
            }
        }
        None
    }

    /// Binds the parts of a header's text to the names in its template; returns the part of `signature`.
    fn take_apart(
        &mut self,
        name: &HeaderName,
        template: &Template,
        value: &str,
    ) -> Option<String> {
        let parts = separable(template)?;
        let place = format!("header {name}");
        let Some((bound, "")) = matched(parts, value, |_| true) else {
            let source = template.source();
            self.problem(format!("{place} does not have the form {source}"));
            return None;
        };
        let mut signature = None;
        for (name, text) in bound {
            match name {
                "signature" => signature = Some(text.to_owned()),
                // Of the whole body as a header, there is nothing to learn.
                "body" => {}
                _ => self.bind(&place, name, text.to_owned()),
            }
        }
        signature
    }

    /// Binds a text to a name; one that is found twice must be the same.
    fn bind(&mut self, place: &str, name: &str, text: String) {
        match self.bindings.get(name) {
            Some((first, _)) if *first == text => {}
            Some((_, elsewhere)) => {
                let problem = format!("{place} has another {name} than {elsewhere}");
                self.problem(problem);
            }
            None => drop(
                self.bindings
                    .insert(name.to_owned(), (text, place.to_owned())),
            ),
        }
    }

    /// Takes the end of the path apart, and the beginning of the query where the template has one. The text
    /// before and behind is the endpoint's URL.
    fn url(&mut self, has_body: bool) {
        let Some((start, path, query)) = self.request.url.as_deref().map(divided) else {
            return;
        };
        let Some(template) = &self.profile.url else {
            self.bind_endpoint_url(start, path, query);
            return;
        };
        let Some(parts) = separable(template) else {
            return;
        };
        let (path_parts, query_parts) = divided_parts(parts);
        let starts = (0..=path.len())
            .rev()
            .filter(|at| path.is_char_boundary(*at));
        let below = starts
            .filter_map(|at| {
                let (bound, rest) = matched(&path_parts, &path[at..], is_url_value)?;
                rest.is_empty().then_some((&path[..at], bound))
            })
            .next();
        let behind = match query_parts.is_empty() {
            true => Some((Vec::new(), query)),
            false => query.and_then(|query| {
                let (bound, rest) = matched(&query_parts, query, is_url_value)?;
                let is_whole = rest.is_empty() || rest.starts_with('&');
                is_whole.then_some((bound, rest.strip_prefix('&')))
            }),
        };
        let (Some((before, in_path)), Some((in_query, query))) = (below, behind) else {
            // With a body, the expected text is known, and a difference is reported later.
            if !has_body {
                let source = template.source();
                self.problem(format!("the URL does not end in the form {source}"));
            }
            return;
        };
        self.bind_endpoint_url(start, before, query);
        for (name, text) in in_path.into_iter().chain(in_query) {
            match percent_decode_str(text).decode_utf8() {
                Ok(text) => self.bind("the URL", name, text.into_owned()),
                Err(_) => self.problem(format!("the URL's {name} is not text")),
            }
        }
    }

    fn bind_endpoint_url(&mut self, start: &str, path: &str, query: Option<&str>) {
        let host = || {
            let host = self
                .request
                .headers
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case("host"));
            Some(format!("http://{}", std::str::from_utf8(&host?.1).ok()?))
        };
        let start = match start.is_empty() {
            true => host(),
            false => Some(start.to_owned()),
        };
        let Some(start) = start else {
            return;
        };
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        self.bind("the URL", "endpoint.url", format!("{start}{path}{query}"));
    }

    /// The body, if it is the published payload.
    fn payload(&mut self, has_body: bool) -> Option<Bytes> {
        if !has_body || self.profile.settings.body != BodyRule::Published {
            return None;
        }
        let body = &self.request.body;
        let is_needed = self.profile.templates().any(|(_, one)| one.uses("payload"));
        if is_needed && serde_json::from_slice::<IgnoredAny>(body).is_err() {
            self.problem("the body is not JSON");
            return None;
        }
        Some(body.clone())
    }

    /// The scope to render again with. Where there is a payload, its own values count in place of those
    /// bound elsewhere.
    fn scope(&self, has_body: bool, payload: Option<&Bytes>) -> TemplateScope {
        let bindings = self.bindings.iter();
        let bindings = bindings
            .filter(|(name, _)| payload.is_none() || !is_of_payload(name))
            .map(|(name, (text, _))| (name.clone(), text.clone()));
        let scope = TemplateScope::of_bindings(bindings.collect(), payload);
        match has_body {
            true => scope.with_body(self.request.body.clone()),
            false => scope,
        }
    }

    /// Renders headers and the URL again and compares, as far as that can tell something that was
    /// not bound from the very same place.
    fn rendered(&mut self, found: &Found<'_>, scope: &TemplateScope, has_payload: bool) {
        let tells = |template: &Template| {
            let is_known = |name: &str| {
                FUNCTIONS.contains(&name)
                    || (has_payload && is_of_payload(name))
                    || scope.lookup(name).is_ok_and(|value| !value.is_undefined())
            };
            let is_compared = separable(template).is_none()
                || template.uses("body")
                || (has_payload && template.uses("payload"));
            is_compared && template.names().all(is_known)
        };
        let says = |template: &Template| match template.uses("payload") {
            true => "the payload says",
            false => "the rest of the request says",
        };
        for header in self
            .profile
            .headers
            .iter()
            .filter(|one| tells(&one.template))
        {
            let (name, template) = (&header.name, &header.template);
            let Some(value) = found.values.get(name.as_str()) else {
                continue;
            };
            match template.render(scope, usize::MAX) {
                Ok(expected) if expected.trim_ascii() == *value => {}
                Ok(_) => self.problem(format!("header {name} is not what {}", says(template))),
                Err(fault) => self.problem(format!("header {name} cannot be compared: {fault}")),
            }
        }
        let url = self.request.url.as_deref().map(divided);
        let template = self.profile.url.as_ref().filter(|one| tells(one));
        let (Some((_, path, query)), Some(template)) = (url, template) else {
            return;
        };
        match template.render(scope, usize::MAX) {
            Ok(expected) if ends_in(path, query, &expected) => {}
            Ok(expected) => self.problem(format!(
                "the URL does not end in {expected:?}, as {}",
                says(template)
            )),
            Err(fault) => self.problem(format!("the URL cannot be compared: {fault}")),
        }
    }

    fn signatures(
        &mut self,
        found: &Found<'_>,
        secret: &Known,
        standard: Option<&VerifyingKey>,
        scope: &TemplateScope,
    ) {
        let body = &self.request.body;
        if let (Some(names), Some(key)) = (&self.profile.standard, standard) {
            let value = |name: &HeaderName| found.values.get(name.as_str()).copied();
            let signed = || {
                Some(SignedHeaders {
                    id: value(&names.id)?,
                    timestamp: value(&names.timestamp)?,
                    signature: value(&names.signature)?,
                })
            };
            if let Some(signed) = signed()
                && let Err(why) = key.verify_at_any_time(signed, body)
            {
                self.problem(format!("header {}: {why}", names.signature));
            }
        }
        for (index, value) in &found.signatures {
            let signature = &self.profile.signatures[*index];
            let header = &signature.header;
            match signature.verifies(secret, scope, body, value) {
                Ok(true) => {}
                Ok(false) if signature.is_static() => {
                    self.problem(format!("header {header} is not the secret"));
                }
                Ok(false) => self.problem(format!(
                    "header {header}: no signature is made with this secret over this request"
                )),
                Err(fault) => self.problem(format!(
                    "header {header} cannot be verified: what it signs is not all in the request, \
                     {fault}"
                )),
            }
        }
    }
}

fn is_of_payload(name: &str) -> bool {
    name == "payload" || name.starts_with("payload.")
}

/// A template's parts, where there is text between any two names.
fn separable(template: &Template) -> Option<&[Part]> {
    let parts = template.parts()?;
    let touch = |pair: &[Part]| pair.iter().all(|part| matches!(part, Part::Name(_)));
    (!parts.windows(2).any(touch)).then_some(parts)
}

/// The text at the place of each name, and the text behind the last part. A value ends where the text
/// behind its name first comes, or with the last of the characters that it may have.
fn matched<'p, 't>(
    parts: &'p [Part],
    text: &'t str,
    may_have: fn(u8) -> bool,
) -> Option<(Vec<(&'p str, &'t str)>, &'t str)> {
    let mut bound = Vec::new();
    let mut rest = text;
    for (index, part) in parts.iter().enumerate() {
        let name = match part {
            Part::Text(literal) => {
                rest = rest.strip_prefix(literal.as_str())?;
                continue;
            }
            Part::Name(name) => name,
        };
        let allowed = rest.bytes().take_while(|byte| may_have(*byte)).count();
        let end = match parts.get(index + 1) {
            Some(Part::Text(literal)) => rest.find(literal.as_str())?,
            _ => allowed,
        };
        if end > allowed {
            return None;
        }
        let (value, after) = rest.split_at_checked(end)?;
        bound.push((name.as_str(), value));
        rest = after;
    }
    Some((bound, rest))
}

/// Whether a value in a URL may be written with this byte.
fn is_url_value(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte)
}

/// A URL's scheme and host, its path, and its query.
fn divided(url: &str) -> (&str, &str, Option<&str>) {
    let url = url.split('#').next().unwrap_or_default();
    let (whole, query) = match url.split_once('?') {
        Some((whole, query)) => (whole, Some(query)),
        None => (url, None),
    };
    let host = whole
        .find("://")
        .map(|at| at + 3)
        .filter(|_| !whole.starts_with('/'));
    let path = match host {
        Some(host) => whole[host..].find('/').map_or(whole.len(), |at| host + at),
        None => 0,
    };
    (&whole[..path], &whole[path..], query)
}

/// The parts before the first question mark, and those behind it.
fn divided_parts(parts: &[Part]) -> (Vec<Part>, Vec<Part>) {
    let (mut path, mut query) = (Vec::new(), Vec::new());
    let mut is_query = false;
    for part in parts {
        match part {
            Part::Text(text) if !is_query && text.contains('?') => {
                let (before, behind) = text.split_once('?').unwrap_or_default();
                is_query = true;
                path.extend((!before.is_empty()).then(|| Part::Text(before.to_owned())));
                query.extend((!behind.is_empty()).then(|| Part::Text(behind.to_owned())));
            }
            part if is_query => query.push(part.clone()),
            part => path.push(part.clone()),
        }
    }
    (path, query)
}

/// Whether a URL with this path and query is the endpoint's with `below` behind its path.
fn ends_in(path: &str, query: Option<&str>, below: &str) -> bool {
    match below.split_once('?') {
        None => path.ends_with(below),
        Some((below, expected)) => {
            let behind = query.and_then(|query| query.strip_prefix(expected));
            let is_whole = behind.is_some_and(|rest| rest.is_empty() || rest.starts_with('&'));
            is_whole && path.ends_with(below)
        }
    }
}

#[cfg(test)]
mod tests;
