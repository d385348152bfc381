//! Profiles, compiled: every template parsed and tried once, and the rest in the form it is used in.
//!
//! `Settings::from_config` compiles all of them, so that a fault in one stops the start and `postrider
//! check` with the profile's name and the key. `render` asks a profile for the parts of each request;
//! the command line uses its templates to look at requests from the receiver's side. Pure.

use std::time::Duration;

use actix_web::http::Uri;
use actix_web::http::header::HeaderName;
use actix_web::web::Bytes;
use serde::de::IgnoredAny;

use super::escape::{Escape, is_visible};
use super::example;
use super::scope::{self, TemplateScope, VARIABLES};
use super::signature::{CompiledSignature, Keys};
use super::target::Target;
use super::template::{FUNCTIONS, Template, TemplateFault};
use crate::clock::Timestamp;
use crate::config::LimitsSection;
use crate::domain::attempt::{FailureKind, SendFailure};
use crate::domain::endpoint::is_sensitive;
use crate::domain::profile::{self as domain, Algorithm, BodyRule, Method};
use crate::domain::retry::RetrySchedule;

#[derive(Debug)]
pub struct CompiledProfile {
    pub name: String,
    pub settings: domain::Profile,
    pub standard: Option<StandardHeaders>,
    /// Of the part that follows the endpoint's URL.
    pub url: Option<Template>,
    pub body: Option<Template>,
    pub headers: Vec<Header>,
    pub signatures: Vec<CompiledSignature>,
    pub timeout: Option<Duration>,
    pub retry: Option<RetrySchedule>,
    payload_bytes: usize,
    header_value_bytes: usize,
}

/// The names of the headers of Standard Webhooks.
#[derive(Debug)]
pub struct StandardHeaders {
    pub id: HeaderName,
    pub timestamp: HeaderName,
    pub signature: HeaderName,
    /// Their values are never shown.
    pub is_sensitive: bool,
}

#[derive(Debug)]
pub struct Header {
    pub name: HeaderName,
    pub template: Template,
    /// Its value is never shown.
    pub is_sensitive: bool,
}

/// A part of a request that cannot be made for this message.
#[derive(Debug)]
pub struct Unrendered {
    /// Of the profile: `url`, `headers.x-one`, `signatures.0.content`.
    pub key: String,
    pub fault: TemplateFault,
}

impl Unrendered {
    fn at(key: impl Into<String>) -> impl FnOnce(TemplateFault) -> Unrendered {
        |fault| Unrendered {
            key: key.into(),
            fault,
        }
    }
}

impl From<Unrendered> for SendFailure {
    fn from(unrendered: Unrendered) -> SendFailure {
        let Unrendered { key, fault } = unrendered;
        SendFailure {
            kind: FailureKind::NotSendable,
            detail: format!("The profile's {key} cannot be rendered: {fault}."),
        }
    }
}

impl CompiledProfile {
    /// The errors list all problems, a line each: `profiles.NAME.KEY: reason`. `jitter` counts where the
    /// profile's retries have none of their own.
    pub fn compile(
        name: &str,
        settings: &domain::Profile,
        limits: &LimitsSection,
        jitter: f64,
    ) -> Result<CompiledProfile, Vec<String>> {
        let mut compiler = Compiler {
            settings,
            payload_bytes: limits.payload_bytes,
            problems: Vec::new(),
        };
        let standard = settings.standard_webhooks.as_ref().and_then(|family| {
            let name =
                |part| compiler.header_name("standard_webhooks", &format!("{family}-{part}"));
            let [id, timestamp, signature] = ["id", "timestamp", "signature"].map(name);
            Some(StandardHeaders {
                id: id?,
                timestamp: timestamp?,
                signature: signature?,
                is_sensitive: is_sensitive(family),
            })
        });
        let url = settings.url.as_ref().and_then(|url| compiler.url(url));
        let body = settings.body_template.as_ref().and_then(|template| {
            compiler.template(
                "body_template",
                template,
                body_escape(&settings.content_type),
            )
        });
        let mut headers = Vec::new();
        for (name, template) in &settings.headers {
            let key = format!("headers.{name}");
            let header = compiler.header_name(&key, name);
            let template = compiler.template(&key, template, Escape::Header);
            headers.extend(header.zip(template).map(|(name, template)| Header {
                is_sensitive: is_sensitive(name.as_str()),
                name,
                template,
            }));
        }
        let signatures = settings.signatures.iter().enumerate();
        let signatures = signatures
            .filter_map(|(index, one)| compiler.signature(index, one))
            .collect();
        let retry = settings.retry.as_ref().map(|rule| rule.schedule(jitter));
        let retry = retry.transpose().unwrap_or_else(|wrong| {
            for (key, reason) in wrong {
                compiler.problem(&format!("retry.{key}"), &reason);
            }
            None
        });
        let mut problems = compiler.problems;
        let profile = CompiledProfile {
            name: name.to_owned(),
            settings: settings.clone(),
            standard,
            url,
            body,
            headers,
            signatures,
            timeout: settings
                .timeout_seconds
                .map(|seconds| Duration::from_secs(seconds.into())),
            retry,
            payload_bytes: limits.payload_bytes,
            header_value_bytes: limits.header_value_bytes,
        };
        if problems.is_empty() {
            problems = example::problems(&profile);
        }
        match problems.is_empty() {
            true => Ok(profile),
            false => Err(problems
                .into_iter()
                .map(|(key, reason)| format!("profiles.{name}.{key}: {reason}"))
                .collect()),
        }
    }

    /// Whether its requests have more than the headers of Standard Webhooks.
    pub fn is_templated(&self) -> bool {
        let parts = self.headers.len() + self.signatures.len();
        parts > 0 || self.url.is_some() || self.body.is_some()
    }

    pub fn signs(&self) -> bool {
        self.standard.is_some() || !self.signatures.is_empty()
    }

    pub fn sets_header(&self, name: &HeaderName) -> bool {
        let standard = self.standard.as_ref();
        standard.is_some_and(|one| [&one.id, &one.timestamp, &one.signature].contains(&name))
            || self.headers.iter().any(|one| one.name == name)
            || self.signatures.iter().any(|one| one.header == name)
    }

    /// The method that the endpoint chose, if this is one of the profile's; else the first.
    pub fn method(&self, chosen: Option<Method>) -> Method {
        let methods = &self.settings.methods;
        chosen
            .filter(|method| methods.contains(method))
            .or(methods.first().copied())
            .unwrap_or(Method::Post)
    }

    /// Whether a body is part of requests with this method.
    pub fn has_body(&self, method: Method) -> bool {
        method != Method::Get && self.settings.body != BodyRule::None
    }

    /// All templates, by their keys.
    pub fn templates(&self) -> impl Iterator<Item = (String, &Template)> {
        let whole = [("url", &self.url), ("body_template", &self.body)];
        let whole = whole
            .into_iter()
            .filter_map(|(key, template)| Some((key.to_owned(), template.as_ref()?)));
        let headers = self.headers.iter();
        let headers = headers.map(|one| (format!("headers.{}", one.name), &one.template));
        let signatures = self.signatures.iter().enumerate().flat_map(|(index, one)| {
            let both = [("content", &one.content), ("format", &one.format)];
            both.into_iter().filter_map(move |(part, template)| {
                Some((format!("signatures.{index}.{part}"), template.as_ref()?))
            })
        });
        whole.chain(headers).chain(signatures)
    }

    /// Whether the body is made by a template, and is not the published payload.
    pub fn makes_body(&self) -> bool {
        self.body.is_some()
    }

    /// The body of a request that has one.
    pub fn render_body(
        &self,
        scope: &TemplateScope,
        published: &Bytes,
    ) -> Result<Bytes, Unrendered> {
        let Some(template) = &self.body else {
            return Ok(published.clone());
        };
        let rendered = template.render(scope, self.payload_bytes).and_then(|text| {
            let is_json = body_escape(&self.settings.content_type) == Escape::Json;
            match is_json && serde_json::from_str::<IgnoredAny>(&text).is_err() {
                false => Ok(Bytes::from(text)),
                true => Err(template.wrote(TemplateFault::permanent(
                    "what it makes is not JSON; a value is written as JSON, text in quotes, unless it stands in quotes already",
                ))),
            }
        });
        rendered.map_err(Unrendered::at("body_template"))
    }

    /// The URL as text and as it is sent, where the profile has its own.
    pub fn render_url(
        &self,
        scope: &TemplateScope,
        target: &Target,
    ) -> Result<Option<(String, Uri)>, Unrendered> {
        let Some(template) = &self.url else {
            return Ok(None);
        };
        // The limit of the whole is checked with the whole.
        let below = template.render(scope, usize::MAX);
        below
            .and_then(|below| {
                target
                    .extended(&below)
                    .map_err(|fault| template.wrote(fault))
            })
            .map(Some)
            .map_err(Unrendered::at("url"))
    }

    pub fn render_headers(
        &self,
        scope: &TemplateScope,
    ) -> impl Iterator<Item = Result<(&Header, String), Unrendered>> {
        self.headers.iter().map(|header| {
            let value = self.header_value(&header.template, scope);
            let value =
                value.map_err(|fault| Unrendered::at(format!("headers.{}", header.name))(fault))?;
            Ok((header, value))
        })
    }

    /// The value of a signature's header; nothing where no key is live.
    pub fn render_signature(
        &self,
        index: usize,
        keys: &Keys,
        scope: &TemplateScope,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Option<String>, Unrendered> {
        let signature = &self.signatures[index];
        let at = |part: &str| Unrendered::at(format!("signatures.{index}.{part}"));
        let value = signature
            .sign(keys, scope, body, now)
            .map_err(|fault| at("content")(fault))?;
        match &signature.format {
            _ if value.is_empty() => Ok(None),
            None => Ok(Some(value)),
            Some(format) => self
                .header_value(format, &scope.with_signature(&value))
                .map(Some)
                .map_err(at("format")),
        }
    }

    fn header_value(
        &self,
        template: &Template,
        scope: &TemplateScope,
    ) -> Result<String, TemplateFault> {
        let value = template.render(scope, self.header_value_bytes)?;
        match value.bytes().all(is_visible) {
            true => Ok(value),
            false => Err(template.wrote(TemplateFault::permanent(
                "the value has characters that a header cannot carry",
            ))),
        }
    }
}

/// JSON where the media type says so.
pub fn body_escape(content_type: &str) -> Escape {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let subtype = media_type.rsplit('/').next().unwrap_or_default();
    let subtype = subtype.to_ascii_lowercase();
    match subtype == "json" || subtype.ends_with("+json") {
        true => Escape::Json,
        false => Escape::Text,
    }
}

/// Compiles the parts of a profile and collects their problems.
struct Compiler<'a> {
    settings: &'a domain::Profile,
    payload_bytes: usize,
    problems: Vec<(String, String)>,
}

impl Compiler<'_> {
    fn problem(&mut self, key: &str, reason: &str) {
        self.problems.push((key.to_owned(), reason.to_owned()));
    }

    fn header_name(&mut self, key: &str, name: &str) -> Option<HeaderName> {
        let name = HeaderName::try_from(name).ok();
        if name.is_none() {
            self.problem(key, "is not a header name");
        }
        name
    }

    fn url(&mut self, source: &str) -> Option<Template> {
        let Some(below) = behind_endpoint_url(source) else {
            self.problem("url", "must begin with {{ endpoint.url }}");
            return None;
        };
        self.template("url", below, Escape::Url)
    }

    fn signature(
        &mut self,
        index: usize,
        settings: &domain::Signature,
    ) -> Option<CompiledSignature> {
        let mut template = |part: &str, source: &Option<String>, escape| {
            let key = format!("signatures.{index}.{part}");
            let template = self.template(&key, source.as_ref()?, escape)?;
            if part == "format" && !template.uses("signature") {
                self.problem(&key, "must have {{ signature }} in it");
            }
            Some(template)
        };
        let content = template("content", &settings.content, Escape::Text);
        let format = template("format", &settings.format, Escape::Header);
        let header = self.header_name(&format!("signatures.{index}.header"), &settings.header)?;
        let is_static = settings.algorithm == Algorithm::Static;
        Some(CompiledSignature {
            settings: settings.clone(),
            is_sensitive: is_static || is_sensitive(header.as_str()),
            header,
            content,
            format,
        })
    }

    fn template(&mut self, key: &str, source: &str, escape: Escape) -> Option<Template> {
        match Template::compile(source, escape, self.payload_bytes) {
            Ok(template) => {
                for name in template.names() {
                    if let Some(reason) = self.misnamed(key, name) {
                        self.problem(key, &reason);
                    }
                }
                Some(template)
            }
            Err(reason) => {
                self.problem(key, &reason);
                None
            }
        }
    }

    /// The problem with this name in a template, if there is one.
    fn misnamed(&self, key: &str, name: &str) -> Option<String> {
        let variable = name.split('.').next().unwrap_or(name);
        let in_format = key.ends_with(".format");
        match variable {
            "body" if key == "body_template" => {
                Some("`body` is what this makes; what was published is `payload`".to_owned())
            }
            "body" => {
                let methods = &self.settings.methods;
                let missing =
                    self.settings.body == BodyRule::None || methods.contains(&Method::Get);
                let reason = "`body` is named, which GET and body = \"none\" do not have";
                missing.then(|| reason.to_owned())
            }
            _ => unknown_name(name, in_format),
        }
    }
}

/// Why a template cannot name this, if it cannot. Only the format of a signature has that.
pub fn unknown_name(name: &str, in_format: bool) -> Option<String> {
    let (variable, path) = name.split_once('.').unwrap_or((name, ""));
    let field = path.split('.').next().unwrap_or_default();
    match variable {
        "signature" if !in_format => {
            Some("`signature` is known in a signature's format only".to_owned())
        }
        _ if FUNCTIONS.contains(&variable) => None,
        _ if !VARIABLES.contains(&variable) => {
            let known = VARIABLES
                .iter()
                .filter(|one| in_format || **one != "signature");
            Some(format!(
                "`{name}` is not known; there are {}",
                listed(known)
            ))
        }
        _ => {
            let fields = scope::fields(variable)?;
            let known = path.is_empty() || fields.contains(&field);
            let reason = || format!("`{name}` is not known; {variable} has {}", listed(fields));
            (!known).then(reason)
        }
    }
}

/// `a, b and c`.
fn listed<'a>(names: impl IntoIterator<Item = &'a &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().copied().collect();
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

/// The rest of a template behind `{{ endpoint.url }}`, where it begins with that.
fn behind_endpoint_url(source: &str) -> Option<&str> {
    let inner = source.strip_prefix("{{")?.trim_start();
    let inner = inner.strip_prefix("endpoint.url")?.trim_start();
    inner.strip_prefix("}}")
}
