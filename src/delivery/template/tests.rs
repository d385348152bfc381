//! Templates: their output, their refusals, their errors.

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

fn scope() -> TemplateScope {
    let bindings = BTreeMap::from([("timestamp".to_owned(), "1614265330".to_owned())]);
    let payload = Bytes::from_static(PAYLOAD.as_bytes());
    TemplateScope::of_bindings(bindings, Some(&payload))
        .with_body(Bytes::from_static(b"{\"a\": 1}"))
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
        (
            "{{ '<!channel> & <a|b>' | mrkdwn }}",
            Text,
            "&lt;!channel&gt; &amp; &lt;a|b&gt;",
        ),
        ("{{ '&lt; \"é*_' | mrkdwn }}", Text, "&amp;lt; \"é*_"),
        ("{{ payload.half | mrkdwn }}", Text, "1.10"),
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
        (
            "{{ payload.missing | mrkdwn }}",
            Text,
            "`payload.missing | mrkdwn` is undefined",
        ),
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
        let scope = TemplateScope::of_bindings(BTreeMap::new(), Some(&payload));
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

#[test]
fn a_value_in_a_string_literal_is_its_content() {
    for (source, expected) in [
        (
            r#"{"a": "x {{ payload.text }}."}"#,
            r#"{"a": "x a b/\"é\"."}"#,
        ),
        (r#""{{ payload.line }}""#, r#""a\r\nb: c""#),
        (r#""{{payload.empty}}""#, r#""""#),
        (
            r#""{{ payload.whole }} {{ payload.half }} {{ payload.long }} {{ payload.yes }} {{ payload.null }}""#,
            r#""25 1.10 12345678901234567890123 true null""#,
        ),
        (r#""{{ payload.list }}""#, r#""[1, 1.10,  \"x\"]""#),
        (r#""{{ payload.object }}""#, r#""{\"b\": 1,  \"a\": 1.10}""#),
        (r#""{{ {'a': payload.plain} }}""#, r#""{\"a\":\"x\"}""#),
        (r#""{{ body }}" {{ body }}"#, r#""{\"a\": 1}" "{\"a\": 1}""#),
        // Quotes and backslashes of the template's own text are read as JSON reads them.
        (
            r#""\" {{ payload.plain }}\\" {{ payload.plain }}"#,
            r#""\" x\\" "x""#,
        ),
        // The text that was written counts, and not the place in the template.
        (
            r#"{% for one in payload.list %}{% if loop.first %}"{% endif %}{{ one }}{% endfor %}""#,
            r#""11.10x""#,
        ),
        (
            r#"{% for one in payload.list %}{{ one }}{% if loop.first %}"{% endif %}{% endfor %}""#,
            r#"1"1.10x""#,
        ),
        (
            r#"{"{{ payload.plain }}": {{ payload.plain }}, "b{{ payload.plain|upper }}": {{ 1 }}}"#,
            r#"{"x": "x", "bX": 1}"#,
        ),
        // A block collects a value, which is written where it is printed.
        (
            r#""{% set x %}{{ payload.plain }}{% endset %}{{ x }}" {{ x }}"#,
            r#""\"x\"" "\"x\"""#,
        ),
        (r#""{{ payload.missing|default('é"') }}""#, r#""é\"""#),
    ] {
        assert_eq!(
            rendered(source, Escape::Json).as_deref(),
            Ok(expected),
            "{source}"
        );
    }
    for source in [
        r#""{{ payload.missing }}""#,
        r#""{{ payload.missing ~ '' }}""#,
    ] {
        let fault = rendered(source, Escape::Json).unwrap_err();
        assert!(fault.ends_with("is undefined"), "{fault}");
    }
}

/// The way of templates before values knew of string literals.
fn rendered_as_before(source: &str, scope: &TemplateScope) -> Option<String> {
    let mut template = Template::compile(source, Escape::Json, 1024).ok()?;
    template.parts = None;
    template
        .environment
        .set_formatter(|out, _, value| write_value(out, value, Escape::Json, Place::Outside));
    template.render(scope, 4096).ok()
}

/// Pieces of JSON with values in and between its string literals.
fn json_source() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "{{ payload.value }}",
        "{{ payload.number }}",
        "{{ payload.list }}",
        "{{ payload.object }}",
        "{{ payload.null }}",
        "{{ payload.yes }}",
        "{{ payload.value|upper }}",
        "{% set x %}{{ payload.value }}{% endset %}",
        "{% set x = payload.value ~ 1 %}{{ x }}",
        "{% for one in payload.list %}{{ one }}{% endfor %}",
        "{% for one in payload.list %}\"{{ one }}\",{% endfor %}",
        "{% if payload.yes %}\"{% endif %}",
        "\"",
        "\"",
        "\"",
        "\\",
        "\\\"",
        ",",
        ":",
        "{",
        "}",
        "[",
        "]",
        " ",
        "a",
        "1",
    ])
    .prop_map(str::to_owned);
    let pieces = prop::collection::vec(piece, 0..7).prop_map(|pieces| pieces.concat());
    prop_oneof![
        pieces.clone(),
        pieces.clone().prop_map(|inside| format!("[\"{inside}\"]")),
        pieces.prop_map(|inside| format!("{{\"a\": \"x{inside}\"}}")),
    ]
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

fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        "[\\PC\"\\\\\n]{0,6}".prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            prop::collection::btree_map("[a\"\\\\]{0,2}", inner, 0..4)
                .prop_map(|members| members.into_iter().collect()),
        ]
    })
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
    /// But for a text of commas, colons and the like, which closed the literal that it stood in, and posed
    /// as structure.
    #[test]
    fn what_was_json_before_stays_as_it_was(source in json_source(), value in "x[\"\\\\a\n]{0,4}") {
        let payload = serde_json::json!({
            "value": value, "number": 1.5, "list": [2, "x,"], "object": {}, "null": null, "yes": true,
        });
        let payload = Bytes::from(payload.to_string());
        let scope = TemplateScope::of_bindings(BTreeMap::new(), Some(&payload));
        let before = rendered_as_before(&source, &scope);
        if let Some(before) = before.filter(|text| is_json(text)) {
            let now = Template::compile(&source, Escape::Json, 1024).unwrap();
            prop_assert_eq!(now.render(&scope, 4096), Ok(before));
        }
    }

    #[test]
    fn whatever_the_payload_has_in_a_string_literal_is_text(
        value in any_json(),
        text in "\\PC{0,8}|[\"\\\\/\u{0}-\u{1f}\u{2028},:]{0,8}",
    ) {
        let payload = serde_json::json!({ "value": value, "text": text.clone() });
        let payload = Bytes::from(payload.to_string());
        let scope = TemplateScope::of_bindings(BTreeMap::new(), Some(&payload));
        for source in [
            r#"["{{ payload.value }}", "a{{ payload.text }}\\", {{ payload.value }}]"#,
            r#"["{{ payload.value ~ '' }}", "a{% if true %}{{ payload.text }}{% endif %}\\", {{ payload.value }}]"#,
        ] {
            let template = Template::compile(source, Escape::Json, 1024).unwrap();
            let made = template.render(&scope, 1 << 20).unwrap();
            let made: serde_json::Value = serde_json::from_str(&made).unwrap();
            prop_assert_eq!(&made[1], &serde_json::json!(format!("a{text}\\")));
            prop_assert_eq!(&made[2], &value);
            let content = made[0].as_str().unwrap();
            match value.as_str() {
                Some(text) => prop_assert_eq!(content, text),
                None => prop_assert_eq!(
                    serde_json::from_str::<serde_json::Value>(content).unwrap_or_default(),
                    if source.contains('~') && (value.is_null() || value.is_boolean()) {
                        serde_json::from_str(content).unwrap_or_default()
                    } else {
                        value.clone()
                    }
                ),
            }
        }
    }

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
            let scope = TemplateScope::of_bindings(BTreeMap::new(), Some(&Bytes::from(payload)));
            let _ = template.render(&scope, 1024);
        }
        let between = "{{ payload.value }}";
        let payload = serde_json::json!({ "value": value.clone() }).to_string();
        let scope = TemplateScope::of_bindings(BTreeMap::new(), Some(&Bytes::from(payload)));
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
