//! The templates of profiles: minijinja's, with less to reach and a way to end.
//!
//! `profile` compiles them at the start and renders them for each attempt. A template is text for
//! one place of a request, and the place says how a value is written there (`escape`). Templates
//! reach nothing but their scope, and each ends: it has a budget of steps and a limit of bytes. An
//! error is a [`TemplateFault`], which names the place in the template and never a value.
//!
//! Most templates are nothing but text and names, `{{ timestamp }}.{{ body }}`. These are kept as
//! [`Part`]s and written straight, several times faster than by minijinja's machine, and the text
//! of a captured request can be matched with them.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::error::Error as _;
use std::fmt;
use std::io;
use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value};

use super::customer;
use super::escape::{
    Escape, Unfit, excerpt_text, header_text, mrkdwn_text, percent_text, write_value,
};
use super::json_place::{Collector, Limited, Place, collected, write_printed};
use super::scope::{TemplateScope, VARIABLES};

/// Steps that any template may take. One more for each byte of the largest payload comes on top,
/// because printing a body or an object takes a quarter of a step for each of its bytes.
const STEPS: u64 = 20_000;

/// How an expression that is shown in a sentence is cut.
const EXPRESSION_CHARACTERS_MAX: usize = 80;

/// A compiled template.
pub struct Template {
    source: String,
    escape: Escape,
    /// Where it is nothing else.
    parts: Option<Vec<Part>>,
    /// With this template alone in it, under the name [`NAME`].
    environment: Environment<'static>,
    names: BTreeSet<String>,
}

/// A part of a template without conditions, filters and the like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Text(String),
    /// A variable or a field, such as `timestamp` and `payload.invoice.id`.
    Name(String),
}

const NAME: &str = "template";

/// The functions that templates may call.
pub const FUNCTIONS: [&str; 3] = ["range", "dict", "namespace"];

/// Why a template cannot be rendered: a sentence without its end, such as "`payload.id` is null".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateFault {
    text: String,
    /// No message could make it right.
    pub permanent: bool,
    /// Of the template's source, where it is known.
    pub line: Option<usize>,
}

impl TemplateFault {
    /// One that every message meets.
    pub fn permanent(text: impl Into<String>) -> TemplateFault {
        let text = text.into();
        TemplateFault {
            text,
            permanent: true,
            line: None,
        }
    }

    /// One that is this message's, as far as can be known.
    pub fn unfit(text: impl Into<String>) -> TemplateFault {
        let text = text.into();
        TemplateFault {
            text,
            permanent: false,
            line: None,
        }
    }
}

impl TemplateFault {
    pub fn on_line(self, line: Option<usize>) -> TemplateFault {
        TemplateFault { line, ..self }
    }
}

impl fmt::Display for TemplateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Template {
    /// The error is one line about the text. Filters and tests are looked for when rendering.
    pub fn compile(source: &str, escape: Escape, payload_bytes: usize) -> Result<Template, String> {
        let steps = STEPS + payload_bytes as u64;
        Template::compile_with(source, escape, steps, &BASE).map_err(|fault| match fault.line {
            Some(line) if source.contains('\n') => format!("line {line}: {fault}"),
            _ => fault.to_string(),
        })
    }

    /// The same for the template of a customer, who must not be able to take more time or memory than the
    /// steps and the toll allow: see `customer`.
    pub fn compile_bounded(
        source: &str,
        escape: Escape,
        steps: u64,
    ) -> Result<Template, TemplateFault> {
        customer::check(source)?;
        Template::compile_with(source, escape, steps, &customer::BASE)
    }

    fn compile_with(
        source: &str,
        escape: Escape,
        steps: u64,
        base: &Environment<'static>,
    ) -> Result<Template, TemplateFault> {
        let mut environment = base.clone();
        environment.set_formatter(move |out, _, value| {
            write_printed(out, |mut out, place| {
                write_value(&mut out, value, escape, place)
            })
        });
        environment.set_fuel(Some(steps));
        let added = environment.add_template_owned(NAME, source.to_owned());
        added.map_err(|error| {
            let reason = error.detail().unwrap_or("it is no template");
            TemplateFault {
                line: error.line(),
                ..TemplateFault::permanent(reason.split_whitespace().collect::<Vec<_>>().join(" "))
            }
        })?;
        let names = environment
            .get_template(NAME)
            .map(|template| template.undeclared_variables(true))
            .unwrap_or_default();
        Ok(Template {
            source: source.to_owned(),
            escape,
            parts: parts(source, escape),
            environment,
            names: names.into_iter().collect(),
        })
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    /// The variables that it names, with the fields as far as they are plainly written:
    /// `timestamp`, `payload.invoice.id`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Whether the template names this variable, or a field of it.
    pub fn uses(&self, variable: &str) -> bool {
        self.names()
            .any(|name| name.split('.').next() == Some(variable))
    }

    /// Its parts, where it is nothing but text and names.
    pub fn parts(&self) -> Option<&[Part]> {
        self.parts.as_deref()
    }

    /// Renders the text, of `bytes_max` bytes at most.
    pub fn render(&self, scope: &TemplateScope, bytes_max: usize) -> Result<String, TemplateFault> {
        let bytes = match &self.parts {
            None => collected(bytes_max, |out| self.run(scope, out))
                .map_err(|error| self.fault(&error))?,
            Some(parts) => {
                let mut text = Limited::new(bytes_max);
                self.write_parts(parts, scope, &mut text)?;
                text.bytes
            }
        };
        // Templates write text only.
        String::from_utf8(bytes).map_err(|_| TemplateFault::permanent("it is not UTF-8"))
    }

    /// Writes the text, where it is nothing but text and names as it comes: nothing is copied in between,
    /// and a body least of all.
    pub fn render_to(
        &self,
        scope: &TemplateScope,
        mut writer: impl io::Write,
    ) -> Result<(), TemplateFault> {
        if let Some(parts) = &self.parts {
            return self.write_parts(parts, scope, &mut Sink(writer));
        }
        let text = self.render(scope, usize::MAX)?;
        let written = writer.write_all(text.as_bytes());
        written.map_err(|_| TemplateFault::unfit(TOO_LONG))
    }

    /// Runs minijinja's machine.
    fn run(&self, scope: &TemplateScope, writer: Collector) -> Result<(), Error> {
        let template = self.environment.get_template(NAME)?;
        template.render_captured_to(scope.value(), writer).map(drop)
    }

    fn fault(&self, error: &Error) -> TemplateFault {
        let place = error.range().and_then(|range| self.tag_at(range.start));
        fault(error, place)
    }

    fn write_parts(
        &self,
        parts: &[Part],
        scope: &TemplateScope,
        out: &mut impl fmt::Write,
    ) -> Result<(), TemplateFault> {
        let mut place = Place::Outside;
        for (index, part) in parts.iter().enumerate() {
            match part {
                Part::Text(text) => {
                    if self.escape == Escape::Json {
                        place = place.after(text.as_bytes());
                    }
                    out.write_str(text)
                        .map_err(|error| fault(&error.into(), None))?;
                }
                Part::Name(name) => scope
                    .lookup(name)
                    .and_then(|value| write_value(out, &value, self.escape, place))
                    .map_err(|error| TemplateFault {
                        line: self.line_of(index).filter(|_| has_line(&error)),
                        ..fault(&error, Some(name))
                    })?,
            }
        }
        Ok(())
    }

    /// The line of the name that is this part.
    fn line_of(&self, part: usize) -> Option<usize> {
        let names = self.parts.as_ref()?.get(..part)?.iter();
        let before = names.filter(|one| matches!(one, Part::Name(_))).count();
        let (tag, _) = self.source.match_indices("{{").nth(before)?;
        let inside = self.source.get(tag + 2..)?;
        let start = tag + 2 + (inside.len() - inside.trim_ascii_start().len());
        Some(1 + self.source.get(..start)?.matches('\n').count())
    }

    /// A fault of its output: permanent only where the values do not change the output.
    pub fn wrote(&self, mut fault: TemplateFault) -> TemplateFault {
        fault.permanent &= !self.source.contains("{%");
        fault
    }

    /// The inside of the tag at this place of the source.
    fn tag_at(&self, place: usize) -> Option<&str> {
        let (before, after) = self.source.split_at_checked(place)?;
        let start = before.rfind("{{").max(before.rfind("{%"))? + 2;
        let ends = [after.find("}}"), after.find("%}")];
        let end = place + ends.into_iter().flatten().min()?;
        let inside = self.source.get(start..end)?.trim_matches('-').trim();
        (!inside.is_empty()).then_some(inside)
    }
}

/// The sentence for an error in this expression.
fn fault(error: &Error, expression: Option<&str>) -> TemplateFault {
    let known = error.source().and_then(|source| source.downcast_ref());
    let predicate: Cow<'static, str> = match (error.kind(), known) {
        (_, Some(unfit)) => Unfit::predicate(*unfit).into(),
        (ErrorKind::UndefinedError, _) => "is undefined".into(),
        (ErrorKind::OutOfFuel, _) => {
            return TemplateFault {
                line: error.line(),
                ..TemplateFault::unfit(TOO_MANY_STEPS)
            };
        }
        (ErrorKind::WriteFailure, _) => return TemplateFault::unfit(TOO_LONG),
        (kind, _) if is_permanent(kind) => format!("has an {kind}").into(),
        (kind, _) => format!("cannot be evaluated ({kind})").into(),
    };
    let text = match expression {
        Some(text) => {
            let mut shown: String = text.chars().take(EXPRESSION_CHARACTERS_MAX).collect();
            if shown.len() < text.len() {
                shown.push('…');
            }
            format!("`{shown}` {predicate}")
        }
        None => format!("a value {predicate}"),
    };
    TemplateFault {
        text,
        permanent: is_permanent(error.kind()),
        line: error.line().filter(|_| has_line(error)),
    }
}

/// Whether an error comes from the line that it names: text becomes too long as a whole.
fn has_line(error: &Error) -> bool {
    error.kind() != ErrorKind::WriteFailure
}

const TOO_LONG: &str = "it becomes too long";
pub const TOO_MANY_STEPS: &str = "it takes too many steps";

/// Whether an error is the template's own, so that every message meets it. Details of errors are not
/// told: they may have values in them.
fn is_permanent(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::UnknownFilter
            | ErrorKind::UnknownTest
            | ErrorKind::UnknownFunction
            | ErrorKind::UnknownMethod
    )
}

/// None where there is more than text and names of the scope in it, or a value behind the backslash of a JSON
/// string, which could begin anything.
fn parts(source: &str, escape: Escape) -> Option<Vec<Part>> {
    let mut place = Place::Outside;
    if source.contains("{%") || source.contains("{#") {
        return None;
    }
    let mut parts = Vec::new();
    let mut rest = source;
    while let Some((text, tag)) = rest.split_once("{{") {
        let (name, after) = tag.split_once("}}")?;
        let name = name.trim_ascii();
        if escape == Escape::Json {
            place = place.after(text.as_bytes());
        }
        if !is_plain_name(name) || place == Place::Escape {
            return None;
        }
        if !text.is_empty() {
            parts.push(Part::Text(text.to_owned()));
        }
        parts.push(Part::Name(name.to_owned()));
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    Some(parts)
}

fn is_plain_name(text: &str) -> bool {
    let is_identifier = |word: &str| {
        let mut bytes = word.bytes();
        let starts = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
        bytes.next().is_some_and(starts)
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let mut words = text.split('.');
    words
        .next()
        .is_some_and(|variable| VARIABLES.contains(&variable))
        && words.all(is_identifier)
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Template").field(&self.source).finish()
    }
}

/// The environment of all templates: minijinja's own filters, tests and functions without those that
/// would pass a value on unescaped or show more than was asked for.
pub static BASE: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    for name in ["safe", "escape", "e"] {
        environment.remove_filter(name);
    }
    for name in ["safe", "escaped"] {
        environment.remove_test(name);
    }
    environment.add_filter("header", |value: &Value| Ok(header_text(value)?));
    environment.add_filter("percent", |value: &Value| Ok(percent_text(value)?));
    environment.add_filter("excerpt", |value: &Value, characters: usize| {
        Ok(excerpt_text(value, characters)?)
    });
    environment.add_filter("mrkdwn", |value: &Value| Ok(mrkdwn_text(value)?));
    environment.remove_global("debug");
    environment.set_debug(false);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    // The signed bytes are the written bytes, to the last newline.
    if let Ok(syntax) = SyntaxConfig::builder().keep_trailing_newline(true).build() {
        environment.set_syntax(syntax);
    }
    environment
});

/// Text into a writer of bytes.
struct Sink<W>(W);

impl<W: io::Write> fmt::Write for Sink<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_all(text.as_bytes()).map_err(|_| fmt::Error)
    }
}

#[cfg(test)]
mod tests;
