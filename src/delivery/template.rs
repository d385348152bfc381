//! The templates of profiles: minijinja's, with less to reach and a way to end.
//!
//! `profile` compiles them at the start and renders them for each attempt. A template is text for
//! one place of a request, and the place says how a value is written there (`escape`). Templates
//! reach nothing but their scope, and each ends: it has a budget of steps and a limit of bytes. What
//! goes wrong is a [`Fault`], which names the place in the template and never a value.
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
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};

use super::escape::{Escape, Unfit, write_value};
use super::scope::{Scope, VARIABLES};

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

/// What a template without conditions, filters and the like is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Text(String),
    /// A variable or a field, such as `timestamp` and `payload.invoice.id`.
    Name(String),
}

const NAME: &str = "template";

/// What templates may call.
pub const FUNCTIONS: [&str; 3] = ["range", "dict", "namespace"];

/// Why a template cannot be rendered: a sentence without its end, such as "`payload.id` is null".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    text: String,
    /// No message could make it right.
    pub permanent: bool,
}

impl Fault {
    /// One that every message meets.
    pub fn permanent(text: impl Into<String>) -> Fault {
        let text = text.into();
        Fault {
            text,
            permanent: true,
        }
    }

    /// One that is this message's, as far as can be known.
    pub fn unfit(text: impl Into<String>) -> Fault {
        let text = text.into();
        Fault {
            text,
            permanent: false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Template {
    /// The error is one line about the text. Filters and tests are looked for when rendering.
    pub fn compile(source: &str, escape: Escape, payload_bytes: usize) -> Result<Template, String> {
        let mut environment = BASE.clone();
        environment.set_formatter(move |out, _, value| write_value(out, value, escape));
        environment.set_fuel(Some(STEPS + payload_bytes as u64));
        let added = environment.add_template_owned(NAME, source.to_owned());
        added.map_err(|error| {
            let reason = error.detail().unwrap_or("it is no template");
            let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
            match error.line() {
                Some(line) if source.contains('\n') => format!("line {line}: {reason}"),
                _ => reason,
            }
        })?;
        let names = environment
            .get_template(NAME)
            .map(|template| template.undeclared_variables(true))
            .unwrap_or_default();
        Ok(Template {
            source: source.to_owned(),
            escape,
            parts: parts(source),
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

    /// Whether it names this variable, or a field of it.
    pub fn uses(&self, variable: &str) -> bool {
        self.names()
            .any(|name| name.split('.').next() == Some(variable))
    }

    /// What it is made of, where it is nothing but text and names.
    pub fn parts(&self) -> Option<&[Part]> {
        self.parts.as_deref()
    }

    /// The text, of so many bytes at most.
    pub fn render(&self, scope: &Scope, bytes_max: usize) -> Result<String, Fault> {
        let mut text = Limited {
            bytes: Vec::with_capacity(64),
            bytes_max,
        };
        self.render_to(scope, &mut text)?;
        // Templates write text only.
        String::from_utf8(text.bytes).map_err(|_| Fault::permanent("it is not UTF-8"))
    }

    /// Writes the text as it comes. Nothing is copied in between, and a body least of all.
    pub fn render_to(&self, scope: &Scope, writer: impl io::Write) -> Result<(), Fault> {
        if let Some(parts) = &self.parts {
            return self.write_parts(parts, scope, &mut Sink(writer));
        }
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render_captured_to(scope.value(), writer))
            .map(drop)
            .map_err(|error| {
                let place = error.range().and_then(|range| self.tag_at(range.start));
                fault(&error, place)
            })
    }

    fn write_parts(
        &self,
        parts: &[Part],
        scope: &Scope,
        out: &mut impl fmt::Write,
    ) -> Result<(), Fault> {
        for part in parts {
            match part {
                Part::Text(text) => out
                    .write_str(text)
                    .map_err(|error| fault(&error.into(), None))?,
                Part::Name(name) => scope
                    .lookup(name)
                    .and_then(|value| write_value(out, &value, self.escape))
                    .map_err(|error| fault(&error, Some(name)))?,
            }
        }
        Ok(())
    }

    /// A fault of what it wrote: certain only where it writes the same whatever the values are.
    pub fn wrote(&self, mut fault: Fault) -> Fault {
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
fn fault(error: &Error, expression: Option<&str>) -> Fault {
    let known = error.source().and_then(|source| source.downcast_ref());
    let predicate: Cow<'static, str> = match (error.kind(), known) {
        (_, Some(unfit)) => Unfit::predicate(*unfit).into(),
        (ErrorKind::UndefinedError, _) => "is undefined".into(),
        (ErrorKind::OutOfFuel, _) => return Fault::unfit("it takes too many steps"),
        (ErrorKind::WriteFailure, _) => return Fault::unfit("it becomes too long"),
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
    Fault {
        text,
        permanent: is_permanent(error.kind()),
    }
}

/// Whether an error is the template's own, whatever the message. Details of errors are not told:
/// they may have values in them.
fn is_permanent(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::UnknownFilter
            | ErrorKind::UnknownTest
            | ErrorKind::UnknownFunction
            | ErrorKind::UnknownMethod
    )
}

/// None where there is more than text and names of the scope in it.
fn parts(source: &str) -> Option<Vec<Part>> {
    if source.contains("{%") || source.contains("{#") {
        return None;
    }
    let mut parts = Vec::new();
    let mut rest = source;
    while let Some((text, tag)) = rest.split_once("{{") {
        let (name, after) = tag.split_once("}}")?;
        let name = name.trim_ascii();
        if !is_plain_name(name) {
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

/// What all templates have in common: minijinja's own filters, tests and functions without those
/// that would pass a value on unescaped or show more than was asked for.
static BASE: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    for name in ["safe", "escape", "e"] {
        environment.remove_filter(name);
    }
    for name in ["safe", "escaped"] {
        environment.remove_test(name);
    }
    environment.remove_global("debug");
    environment.set_debug(false);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    // What is signed is what is written, to the last newline.
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

/// Text that does not become longer than it may.
struct Limited {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use actix_web::web::Bytes;
    use proptest::prelude::*;

    use super::super::escape::is_visible;
    use super::*;

    const PAYLOAD: &str = r#"{
        "text": "a b/\"é\"", "plain": "x", "empty": "", "dot": ".", "dots": "..", "line": "a\r\nb: c",
        "whole": 25, "half": 1.10, "long": 12345678901234567890123, "yes": true, "no": false,
        "null": null, "list": [1, 1.10,  "x"], "object": {"b": 1,  "a": 1.10}
    }"#;

    fn scope() -> Scope {
        let bindings = BTreeMap::from([("timestamp".to_owned(), "1614265330".to_owned())]);
        let payload = Bytes::from_static(PAYLOAD.as_bytes());
        Scope::of_bindings(bindings, Some(&payload)).with_body(Bytes::from_static(b"{\"a\": 1}"))
    }

    fn rendered(source: &str, escape: Escape) -> Result<String, String> {
        Template::compile(source, escape, 1024)?
            .render(&scope(), 1024)
            .map_err(|fault| fault.to_string())
    }

    #[test]
    fn each_place_has_its_way_of_writing_a_value() {
        use Escape::*;
        for (source, escape, expected) in [
            ("/{{ payload.text }}", Url, "/a%20b%2F%22%C3%A9%22"),
            (
                "/{{ payload.plain ~ '/../' ~ payload.whole }}",
                Url,
                "/x%2F..%2F25",
            ),
            ("/a-._~{{ 'a-._~' }}", Url, "/a-._~a-._~"),
            (
                "{{ payload.whole }} {{ payload.half }} {{ payload.long }}",
                Header,
                "25 1.10 12345678901234567890123",
            ),
            (
                "{{ payload.yes }} {{ payload.no }} {{ payload.empty }}.",
                Header,
                "true false .",
            ),
            ("{{ payload.text }}\n", Text, "a b/\"é\"\n"),
            ("{{ timestamp }}.{{ body }}", Text, "1614265330.{\"a\": 1}"),
            ("{{ payload.text }}", Json, r#""a b/\"é\"""#),
            (
                "{{ payload.half }} {{ payload.yes }} {{ payload.null }} {{ 1.5 }}",
                Json,
                "1.10 true null 1.5",
            ),
            (
                "{{ payload.object }}{{ payload.list }}",
                Json,
                r#"{"b": 1,  "a": 1.10}[1, 1.10,  "x"]"#,
            ),
            (
                "{{ {'o': payload.object, 'l': [payload.half, payload.plain, none]} }}",
                Json,
                r#"{"l":[1.10,"x",null],"o":{"b": 1,  "a": 1.10}}"#,
            ),
            (
                "{% for one in payload.list %}{{ one }};{% endfor %}",
                Text,
                "1;1.10;x;",
            ),
            ("{{ payload['plain'] }}{{ payload.list[1] }}", Text, "x1.10"),
            ("{{ payload.missing|default('none') }}", Text, "none"),
            ("{{ 'yes' if payload.missing else 'no' }}", Text, "no"),
            ("{{ payload.plain|upper }}", Header, "X"),
            // Marking text as safe does not help it out.
            (
                "{% autoescape true %}{% set x %}a/b{% endset %}/{{ x }}{% endautoescape %}",
                Url,
                "/a%2Fb",
            ),
            (
                "{% autoescape true %}{% set x %}a{% endset %}{{ x }}{% endautoescape %}",
                Json,
                "\"a\"",
            ),
        ] {
            assert_eq!(
                rendered(source, escape).as_deref(),
                Ok(expected),
                "{source}"
            );
        }
    }

    #[test]
    fn what_cannot_stand_in_a_place_is_named() {
        use Escape::*;
        for (source, escape, expected) in [
            (
                "/{{ payload.missing }}",
                Url,
                "`payload.missing` is undefined",
            ),
            (
                "{{ payload.missing }}",
                Json,
                "`payload.missing` is undefined",
            ),
            (
                "{{ [payload.missing] }}",
                Json,
                "`[payload.missing]` is undefined",
            ),
            (
                "{{ payload.missing.deeper }}",
                Text,
                "`payload.missing.deeper` is undefined",
            ),
            (
                "a{{ 'a' ~ payload.missing }}",
                Text,
                "`'a' ~ payload.missing` is undefined",
            ),
            (
                "a{{ payload.missing|upper }}",
                Text,
                "`payload.missing|upper` is undefined",
            ),
            ("x{{ payload.null }}", Header, "`payload.null` is null"),
            ("x{{ payload.list }}", Text, "`payload.list` is a list"),
            (
                "x{{ payload.object }}",
                Url,
                "`payload.object` is an object",
            ),
            ("x{{ payload }}", Header, "`payload` is an object"),
            ("/{{ payload.empty }}", Url, "`payload.empty` is empty"),
            ("/{{ payload.dot }}", Url, "`payload.dot` is a dot segment"),
            (
                "/{{ payload.dots }}",
                Url,
                "`payload.dots` is a dot segment",
            ),
            (
                "{{ payload.line }}",
                Header,
                "`payload.line` has characters that a header cannot",
            ),
            (
                "{{ payload.text }}",
                Header,
                "`payload.text` has characters that a header cannot",
            ),
            ("{{ range }}", Text, "`range` is not text"),
            ("{{ '1e999'|float }}", Json, "is no finite number"),
            (
                "{{ payload.plain + 1 }}",
                Text,
                "`payload.plain + 1` cannot be evaluated",
            ),
            (
                "{{ payload.plain|nosuch }}",
                Text,
                "`payload.plain|nosuch` has an unknown filter",
            ),
            (
                "{{ payload.plain|safe }}",
                Header,
                "`payload.plain|safe` has an unknown filter",
            ),
            (
                "{{ payload.plain|escape }}",
                Json,
                "`payload.plain|escape` has an unknown filter",
            ),
            (
                "{{ payload.plain is nosuch }}",
                Text,
                "`payload.plain is nosuch` has an unknown test",
            ),
            ("{{ nosuch() }}", Text, "`nosuch()` has an unknown function"),
            ("{{ debug() }}", Text, "`debug()` has an unknown function"),
            ("{{ payload.plain.upper() }}", Text, "has an unknown method"),
            (
                "{% for i in range(100000) %}{% endfor %}",
                Text,
                "too many steps",
            ),
            ("{% for i in range(100000) %}x{% endfor %}", Text, "too"),
            ("{{ 'x' * 2000 }}", Text, "too long"),
        ] {
            let fault = rendered(source, escape).unwrap_err();
            assert!(fault.contains(expected), "{source}: {fault}");
        }
    }

    #[test]
    fn no_fault_tells_a_value() {
        for source in [
            "{{ payload.secret|int }}",
            "{{ payload.secret|float }}",
            "{{ payload.secret + 1 }}",
            "{{ payload|map(payload.secret)|list }}",
            "{{ [1]|sort(payload.secret) }}",
            "{{ [1]|map(payload.secret)|list }}",
            "{{ payload.secret|batch(0) }}",
            "{{ payload.secret }}",
            "{% for a, b in payload.secret %}{% endfor %}",
        ] {
            let template = Template::compile(source, Escape::Header, 1024).unwrap();
            let payload = Bytes::from_static(b"{\"secret\": \"hunter2\\n\"}");
            let scope = Scope::of_bindings(BTreeMap::new(), Some(&payload));
            let fault = template.render(&scope, 1024).unwrap_err().to_string();
            assert!(!fault.contains("hunter2"), "{source}: {fault}");
        }
    }

    #[test]
    fn a_template_of_text_and_names_has_parts() {
        let text = |text: &str| Part::Text(text.to_owned());
        let name = |name: &str| Part::Name(name.to_owned());
        for (source, expected) in [
            ("", Some(vec![])),
            ("a } b", Some(vec![text("a } b")])),
            (
                "t={{ timestamp }},{{payload.a.b_1}}",
                Some(vec![
                    text("t="),
                    name("timestamp"),
                    text(","),
                    name("payload.a.b_1"),
                ]),
            ),
            ("{{- timestamp }}", None),
            ("{{ timestamp|int }}", None),
            ("{{ payload['a'] }}", None),
            ("{{ payload.a() }}", None),
            ("{{ none }}", None),
            ("{{ range }}", None),
            ("{# no #}a", None),
            ("{% if timestamp %}a{% endif %}", None),
        ] {
            let template = Template::compile(source, Escape::Text, 1024).unwrap();
            assert_eq!(template.parts(), expected.as_deref(), "{source}");
        }
    }

    #[test]
    fn what_is_no_template_is_one_line() {
        for (source, expected) in [
            ("{{ a", "unexpected end of input"),
            ("{{ }}", "unexpected"),
            ("a\n{% if x %}", "line 2: "),
            ("{% nosuch %}", "unknown statement nosuch"),
            ("{% include 'x' %}", "unknown statement include"),
            ("{% macro a() %}{% endmacro %}", "unknown statement macro"),
        ] {
            let reason = Template::compile(source, Escape::Text, 1024).unwrap_err();
            assert!(
                reason.contains(expected) && !reason.contains('\n'),
                "{source}: {reason}"
            );
        }
    }

    #[test]
    fn names_are_those_that_it_does_not_set_itself() {
        let source = "{% for one in payload.items %}{{ one.id }}{% endfor %}{% set x = message.id %}\
                      {{ x }}{{ payload.a.b|default(timestamp) }}{{ body }}";
        let template = Template::compile(source, Escape::Text, 1024).unwrap();
        let names: Vec<&str> = template.names().collect();
        assert_eq!(
            names,
            [
                "body",
                "message.id",
                "payload.a.b",
                "payload.items",
                "timestamp"
            ]
        );
        assert!(template.uses("payload") && !template.uses("endpoint"));
        assert_eq!(template.source(), source);
    }

    #[test]
    fn deep_text_is_refused_and_not_followed() {
        for source in [
            "{{ ".to_owned() + &"(".repeat(20_000),
            "{{ ".to_owned() + &"[".repeat(20_000),
        ] {
            assert!(Template::compile(&source, Escape::Text, 1024).is_err());
        }
        let source = "{% set n = namespace(x=[]) %}{% for i in range(500) %}{% set n.x = [n.x] %}\
                      {% endfor %}{{ n.x }}";
        let fault = rendered(source, Escape::Json).unwrap_err();
        assert!(fault.contains("nests too deeply"), "{fault}");
    }

    fn any_source() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "\\PC{0,6}",
            Just("{{ payload.value }}".to_owned()),
            Just("{{ payload.value ~ payload.value }}".to_owned()),
            Just("{% set x %}{{ payload.value }}{% endset %}{{ x }}".to_owned()),
            Just("{{ payload.value|upper|reverse|trim }}".to_owned()),
            Just("{% autoescape 'html' %}{{ payload.value }}{% endautoescape %}".to_owned()),
            prop::sample::select(vec![
                "{{",
                "}}",
                "{%",
                "%}",
                "{#",
                "#}",
                "if ",
                "for x in ",
                "|",
                "(",
                ")",
                "[",
                "]",
                "'",
                "\"",
                "\\",
                ".",
                "payload",
                "end",
                "set ",
                "-",
                "~",
                "**",
                "is ",
                "not ",
            ])
            .prop_map(str::to_owned),
        ];
        prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
    }

    /// Text and names, mostly.
    fn plain_source() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[a-z{}%#\\n .]{0,4}",
            prop::sample::select(vec![
                "text",
                "plain",
                "empty",
                "dots",
                "line",
                "half",
                "long",
                "yes",
                "null",
                "list",
                "object",
                "missing",
                "missing.deeper",
                "object.b",
                "object.b.c",
                "list.length",
            ])
            .prop_map(|field| format!("{{{{ payload.{field} }}}}")),
            prop::sample::select(vec![
                "{{ timestamp }}",
                "{{body}}",
                "{{ message.id }}",
                "{{ attempt }}"
            ])
            .prop_map(str::to_owned),
        ];
        prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn parts_write_what_minijinja_writes(source in plain_source()) {
            for escape in [Escape::Url, Escape::Header, Escape::Text, Escape::Json] {
                let Ok(mut template) = Template::compile(&source, escape, 1024) else {
                    continue;
                };
                let by_parts = template.render(&scope(), 1024);
                template.parts = None;
                prop_assert_eq!(by_parts, template.render(&scope(), 1024));
            }
        }

        #[test]
        fn no_text_panics_the_compiler_or_gets_a_control_character_into_a_header(
            source in any_source(),
            value in "\\PC{0,10}|[\r\n\t\0a]{0,6}|[./%?#@:]{0,6}",
        ) {
            for escape in [Escape::Url, Escape::Header, Escape::Text, Escape::Json] {
                let Ok(template) = Template::compile(&source, escape, 1024) else {
                    continue;
                };
                let payload = serde_json::json!({ "value": value.clone() }).to_string();
                let scope = Scope::of_bindings(BTreeMap::new(), Some(&Bytes::from(payload)));
                let _ = template.render(&scope, 1024);
            }
            let between = "{{ payload.value }}";
            let payload = serde_json::json!({ "value": value.clone() }).to_string();
            let scope = Scope::of_bindings(BTreeMap::new(), Some(&Bytes::from(payload)));
            let header = Template::compile(between, Escape::Header, 1024).unwrap();
            if let Ok(text) = header.render(&scope, 1024) {
                prop_assert!(text.bytes().all(is_visible));
            }
            let url = Template::compile(between, Escape::Url, 1024).unwrap();
            if let Ok(text) = url.render(&scope, 1024) {
                prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(&b)));
                prop_assert!(!["", ".", ".."].contains(&text.as_str()));
            }
            let json = Template::compile(between, Escape::Json, 1024).unwrap();
            let text = json.render(&scope, 1024).unwrap();
            prop_assert_eq!(serde_json::from_str::<String>(&text).unwrap(), value);
        }
    }
}
