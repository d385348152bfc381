//! Transformations, compiled: the templates of one endpoint's requests.
//!
//! A customer writes them, so they have less to reach than a profile's (`customer`), and a budget: few steps,
//! and a [`Toll`] for everything else. `render` compiles one when its endpoint changes, and the API
//! when somebody saves one, to tell the problems that every message would have. Pure.

use std::sync::Arc;

use actix_web::http::header::HeaderName;
use actix_web::web::Bytes;
use serde::de::IgnoredAny;

use super::escape::{Escape, is_visible};
use super::example;
use super::profile::{CompiledProfile, Header, body_escape, unknown_name};
use super::scope::TemplateScope;
use super::template::{TOO_MANY_STEPS, Template, TemplateFault};
use super::toll::Toll;
use crate::domain::attempt::{FailureKind, SendFailure};
use crate::domain::endpoint::Endpoint;
use crate::domain::profile::Method;
use crate::domain::transformation::{Transformation, TransformationFault};

/// Steps that the template of a body may take. minijinja compares texts of any length in one step, and
/// a template can make longer ones the more steps it has, so the time grows with the square.
const BODY_STEPS: u64 = 4_000;

/// The same for each header.
const HEADER_STEPS: u64 = 150;

/// Bytes that may be parsed, copied and written for one request.
const TOLL_BYTES: u64 = 2_500_000;

/// A transformation in the form that it is used in.
#[derive(Debug)]
pub struct CompiledTransformation {
    body: Option<Template>,
    pub headers: Vec<Header>,
    pub method: Option<Method>,
    pub content_type: Option<String>,
    is_json: bool,
    payload_bytes: usize,
    header_value_bytes: usize,
}

/// A body and the values of headers, by their places in `headers`.
pub struct Transformed {
    pub body: Option<Bytes>,
    pub headers: Vec<String>,
}

impl CompiledTransformation {
    /// Compiles one whose body has this media type where it has none of its own. The error has all problems.
    pub fn compile(
        transformation: &Transformation,
        content_type: &str,
        payload_bytes: usize,
        header_value_bytes: usize,
    ) -> Result<CompiledTransformation, Vec<TransformationFault>> {
        let Transformation {
            body,
            headers,
            method,
            content_type: own,
        } = transformation;
        let escape = body_escape(own.as_deref().unwrap_or(content_type));
        let mut faults = Vec::new();
        let body = body.as_ref().and_then(|source| {
            compiled(source, escape, BODY_STEPS, "body", true)
                .map_err(|fault| faults.push(fault))
                .ok()
        });
        let mut made = Vec::new();
        for (name, source) in headers {
            let key = format!("headers.{name}");
            let template = compiled(source, Escape::Header, HEADER_STEPS, &key, false);
            match (HeaderName::try_from(name.as_str()), template) {
                (Ok(name), Ok(template)) => made.push(Header {
                    name,
                    template,
                    is_sensitive: false,
                }),
                (Err(_), _) => {
                    faults.push(at(key, TemplateFault::permanent("is not a header name")))
                }
                (_, Err(fault)) => faults.push(fault),
            }
        }
        match faults.is_empty() {
            true => Ok(CompiledTransformation {
                body,
                headers: made,
                method: *method,
                content_type: own.clone(),
                is_json: escape == Escape::Json,
                payload_bytes,
                header_value_bytes,
            }),
            false => Err(faults),
        }
    }

    pub fn makes_body(&self) -> bool {
        self.body.is_some()
    }

    pub fn sets_header(&self, name: &HeaderName) -> bool {
        self.headers.iter().any(|header| header.name == name)
    }

    /// The parts of a request. The body of its profile is made by `body_of_profile` where it has none itself.
    pub fn render<E>(
        &self,
        scope: &TemplateScope,
        has_body: bool,
        body_of_profile: impl FnOnce() -> Result<Option<Bytes>, E>,
    ) -> Result<Result<Transformed, TransformationFault>, E> {
        let own_body = match &self.body {
            Some(template) if has_body => {
                let made = Toll::within(TOLL_BYTES, || self.body(template, scope));
                match in_time(made, "body") {
                    Ok(body) => Some(body),
                    Err(fault) => return Ok(Err(fault)),
                }
            }
            _ => None,
        };
        let body = match own_body {
            Some(body) => Some(body),
            None => body_of_profile()?,
        };
        let scope = match &body {
            Some(body) => scope.with_body(body.clone()),
            None => scope.clone(),
        };
        let mut headers = Vec::with_capacity(self.headers.len());
        for header in &self.headers {
            let toll = TOLL_BYTES / (10 * self.headers.len() as u64);
            let made = Toll::within(toll, || self.header(header, &scope));
            match in_time(made, &format!("headers.{}", header.name)) {
                Ok(value) => headers.push(value),
                Err(fault) => return Ok(Err(fault)),
            }
        }
        Ok(Ok(Transformed { body, headers }))
    }

    fn body(&self, template: &Template, scope: &TemplateScope) -> Result<Bytes, TemplateFault> {
        let text = template.render(scope, self.payload_bytes)?;
        if self.is_json
            && let Err(error) = serde_json::from_str::<IgnoredAny>(&text)
        {
            return Err(TemplateFault::unfit(format!(
                "what it makes is not JSON, at line {} and column {} of it",
                error.line(),
                error.column()
            )));
        }
        Ok(Bytes::from(text))
    }

    fn header(&self, header: &Header, scope: &TemplateScope) -> Result<String, TemplateFault> {
        let value = header.template.render(scope, self.header_value_bytes)?;
        match value.bytes().all(is_visible) {
            true => Ok(value),
            false => Err(TemplateFault::unfit(
                "the value has characters that a header cannot carry",
            )),
        }
    }

    /// The problems that every message would have, found by rendering an example, with and without a payload.
    fn problems(&self, profile: &CompiledProfile) -> Vec<TransformationFault> {
        let whole = example::attempt(profile, Arc::from("https://example.com"));
        let mut bare = (*whole.message).clone();
        bare.payload = "{}".into();
        let bare = super::scope::ScopedAttempt {
            message: Arc::new(bare),
            endpoint: whole.endpoint.clone(),
            server_url: whole.server_url.clone(),
            ..whole
        };
        let scopes = [
            TemplateScope::of_example(whole),
            TemplateScope::of_attempt(bare),
        ];
        let mut problems = Vec::new();
        for scope in scopes {
            let scope = scope.with_body(Bytes::from_static(b"{}"));
            let templates = self
                .body
                .iter()
                .map(|template| ("body".to_owned(), template));
            let headers = self.headers.iter();
            let headers = headers.map(|one| (format!("headers.{}", one.name), &one.template));
            for (key, template) in templates.chain(headers) {
                let made = Toll::within(TOLL_BYTES, || template.render(&scope, self.payload_bytes));
                if let Some(Err(fault)) = made
                    && fault.permanent
                {
                    let problem = at(key, fault);
                    if !problems.contains(&problem) {
                        problems.push(problem);
                    }
                }
            }
        }
        problems
    }
}

/// The problems of a transformation that every message would have, whatever endpoint it is of.
pub fn problems(
    transformation: &Transformation,
    profile: &CompiledProfile,
    payload_bytes: usize,
    header_value_bytes: usize,
) -> Vec<TransformationFault> {
    let content_type = &profile.settings.content_type;
    let compiled = CompiledTransformation::compile(
        transformation,
        content_type,
        payload_bytes,
        header_value_bytes,
    );
    match compiled {
        Ok(compiled) => compiled.problems(profile),
        Err(faults) => faults,
    }
}

/// The media type of the published body of an endpoint's requests, and of one that a transformation makes
/// and gives none.
pub fn content_type<'a>(endpoint: &'a Endpoint, profile: &'a CompiledProfile) -> &'a str {
    let headers = endpoint.headers.iter().chain(&endpoint.auth_headers);
    let mut own = headers.filter(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    own.next()
        .map_or(&profile.settings.content_type, |(_, value)| value)
}

/// The failure of an attempt for which a transformation made no request.
pub fn failure(fault: &TransformationFault) -> SendFailure {
    let TransformationFault { key, line, message } = fault;
    let key = key.as_deref().unwrap_or("template");
    let line = line.map_or(String::new(), |line| format!("line {line}: "));
    SendFailure {
        kind: FailureKind::NotSendable,
        detail: format!("The transformation's {key} cannot be rendered: {line}{message}."),
    }
}

fn at(key: String, fault: TemplateFault) -> TransformationFault {
    TransformationFault {
        key: Some(key),
        line: fault.line,
        message: fault.to_string(),
    }
}

fn in_time<T>(made: Option<Result<T, TemplateFault>>, key: &str) -> Result<T, TransformationFault> {
    made.unwrap_or_else(|| Err(TemplateFault::unfit(TOO_MANY_STEPS)))
        .map_err(|fault| at(key.to_owned(), fault))
}

fn compiled(
    source: &str,
    escape: Escape,
    steps: u64,
    key: &str,
    is_body: bool,
) -> Result<Template, TransformationFault> {
    let template = Template::compile_bounded(source, escape, steps)
        .map_err(|fault| at(key.to_owned(), fault))?;
    let unknown = template.names().find_map(|name| {
        let variable = name.split('.').next();
        match is_body && variable == Some("body") {
            true => Some("`body` is what this makes; what was published is `payload`".to_owned()),
            false => unknown_name(name, false),
        }
    });
    match unknown {
        Some(reason) => Err(at(key.to_owned(), TemplateFault::permanent(reason))),
        None => Ok(template),
    }
}

#[cfg(test)]
mod tests;
