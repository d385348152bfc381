//! Transformations: what they make, what they refuse, and what they cost.

use std::time::{Duration, Instant};

use super::super::scope::ScopedAttempt;
use super::super::tests::profiles::{message_with, settings_with};
use super::super::tests::{NOW, endpoint};
use super::*;
use crate::domain::starting_point::STARTING_POINTS;
use crate::domain::transformation::TRANSFORMATION_BYTES_MAX;

const PAYLOAD_BYTES: usize = 1 << 20;

fn of_body(source: &str) -> Transformation {
    Transformation {
        body: Some(source.to_owned()),
        ..Transformation::default()
    }
}

fn scope(payload: &str) -> TemplateScope {
    TemplateScope::of_attempt(ScopedAttempt {
        message: Arc::new(message_with(payload)),
        endpoint: Arc::new(endpoint("https://example.com/in")),
        number: 1,
        now: NOW,
        server_url: "https://hooks.example.com".into(),
    })
}

fn compiled_json(transformation: &Transformation) -> CompiledTransformation {
    let content_type = "application/json";
    CompiledTransformation::compile(transformation, content_type, PAYLOAD_BYTES, 8192)
        .unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn made(
    transformation: &Transformation,
    scope: &TemplateScope,
) -> Result<(String, Vec<(String, String)>), TransformationFault> {
    let compiled = compiled_json(transformation);
    let published = || Ok::<_, ()>(Some(Bytes::from_static(b"published")));
    let made = compiled.render(scope, true, published).unwrap()?;
    let names = compiled
        .headers
        .iter()
        .map(|header| header.name.to_string());
    let body = made.body.unwrap();
    let body = std::str::from_utf8(&body).unwrap().to_owned();
    Ok((body, names.zip(made.headers).collect()))
}

#[test]
fn a_fault_has_the_key_and_the_line_and_no_value() {
    let payload = r#"{"secret": "hunter2\n", "a": {"b": 1}}"#;
    for (body, line, expected) in [
        (
            "{\n\"a\": {{ payload.missing }}}",
            Some(2),
            "`payload.missing` is undefined",
        ),
        (
            "{\n\n\"a\": {{ payload.secret|int }}}",
            Some(3),
            "cannot be evaluated",
        ),
        (
            "{\n\"a\": {% if payload.a %}{{ payload.c.d }}{% endif %}}",
            Some(2),
            "is undefined",
        ),
        (
            "{{ payload.a }}\n{",
            None,
            "is not JSON, at line 2 and column 1",
        ),
        (
            "{% for a in payload.secret|list %}{% for b in payload.secret|list %}{% for c in payload.secret|list %}{% for d in payload.secret|list %}{% endfor %}{% endfor %}{% endfor %}{% endfor %}",
            Some(1),
            "too many steps",
        ),
    ] {
        let fault = made(&of_body(body), &scope(payload)).unwrap_err();
        assert_eq!(fault.key.as_deref(), Some("body"), "{body}");
        assert_eq!(fault.line, line, "{body}");
        assert!(fault.message.contains(expected), "{body}: {fault:?}");
        let detail = failure(&fault).detail;
        assert!(!detail.contains("hunter2"), "{detail}");
        assert!(
            detail.starts_with("The transformation's body cannot be rendered: "),
            "{detail}"
        );
    }
    let header = Transformation {
        headers: [("X-A".to_owned(), "{{ payload.secret }}".to_owned())].into(),
        ..Transformation::default()
    };
    let fault = made(&header, &scope(payload)).unwrap_err();
    assert_eq!(fault.key.as_deref(), Some("headers.x-a"));
    assert!(!fault.message.contains("hunter2"), "{fault:?}");
}

#[test]
fn what_every_message_would_meet_is_found_when_it_is_saved() {
    let settings = settings_with("").unwrap_or_else(|problems| panic!("{problems:?}"));
    let problems = |body: &str| settings.transformation_problems(&of_body(body));
    for (body, line, expected) in [
        ("{{ payload.a", Some(1), "unexpected end"),
        ("\n{% if x %}", Some(2), "unexpected end"),
        ("\n{{ payload.a | nosuch }}", Some(2), "unknown filter"),
        (
            "\n{{ nosuch }}",
            None,
            "`nosuch` is not known; there are message",
        ),
        (
            "{{ message.nosuch }}",
            None,
            "`message.nosuch` is not known; message has id",
        ),
        ("{{ body }}", None, "`body` is what this makes"),
        ("{{ signature }}", None, "in a signature's format only"),
        ("{{ range(5) }}", Some(1), "unknown function"),
        (
            "{{ payload.a * 5 }}",
            Some(1),
            "are not offered in a transformation",
        ),
    ] {
        let found = problems(body);
        assert_eq!(found.len(), 1, "{body}: {found:?}");
        assert_eq!(found[0].line, line, "{body}: {found:?}");
        assert!(found[0].message.contains(expected), "{body}: {found:?}");
    }
    // These are a message's own.
    for body in [
        "",
        "{{ payload.a }}",
        "{{ payload.a.b.c }}",
        "{\"a\": {{ server.url }}}",
    ] {
        assert_eq!(problems(body), [], "{body}");
    }
    for point in STARTING_POINTS.iter() {
        let found = settings.transformation_problems(&point.transformation);
        assert_eq!(found, [], "{}", point.name);
        assert!(point.transformation.bytes() <= TRANSFORMATION_BYTES_MAX);
    }
}

fn starting_point(name: &str) -> &'static Transformation {
    let mut points = STARTING_POINTS.iter();
    &points
        .find(|point| point.name == name)
        .unwrap()
        .transformation
}

/// The facts of the schema that CloudEvents 1.0 publishes (cloudevents/spec, formats/cloudevents.json).
#[test]
fn cloudevents_have_what_their_schema_asks_for() {
    let payload = r#"{"text": "a\"b", "number": 1.10}"#;
    let scope = scope(payload);
    let (body, _) = made(starting_point("cloudevents-structured"), &scope).unwrap();
    let event: serde_json::Value = serde_json::from_str(&body).unwrap();
    let text = |name: &str| {
        event[name]
            .as_str()
            .unwrap_or_else(|| panic!("{name}: {event}"))
    };
    for name in ["id", "source", "specversion", "type"] {
        assert!(!text(name).is_empty(), "{name}");
    }
    assert_eq!(text("specversion"), "1.0");
    assert!(url::Url::parse(text("source")).is_ok());
    assert!(chrono_like(text("time")), "{event}");
    assert_eq!(text("datacontenttype"), "application/json");
    assert!(body.contains(&format!("\"data\": {payload}")), "{body}");
    let names = event.as_object().unwrap().keys();
    for name in names {
        let is_attribute = name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        assert!(is_attribute && name.len() <= 20, "{name}");
    }

    let (body, headers) = made(starting_point("cloudevents-binary"), &scope).unwrap();
    assert_eq!(body, "published");
    let header = |name: &str| {
        let found = headers.iter().find(|(one, _)| one == name);
        found.map(|(_, value)| value.as_str())
    };
    assert_eq!(header("ce-specversion"), Some("1.0"));
    assert_eq!(header("ce-id"), Some(text("id")));
    assert_eq!(header("ce-type"), Some(text("type")));
    assert_eq!(header("ce-source"), Some(text("source")));
    assert_eq!(header("ce-time"), Some(text("time")));
    assert_eq!(headers.len(), 5);
}

/// Whether it is a time of RFC 3339.
fn chrono_like(text: &str) -> bool {
    let date = text.split_once('T').map(|(date, _)| date.len());
    date == Some(10) && text.ends_with('Z')
}

#[test]
fn starting_points_make_json_of_any_payload() {
    let nasty = serde_json::json!({ "text": "``` <!channel> [a](b) \\ \" \n\u{1}é", "list": [1] });
    let long = serde_json::json!({ "text": "x\"".repeat(200_000) });
    for payload in [nasty.to_string(), long.to_string(), "{}".to_owned()] {
        for point in STARTING_POINTS.iter() {
            if point.name == "cloudevents-structured" && payload.len() > 100_000 {
                continue;
            }
            let content_type = point.transformation.content_type.clone();
            let (body, _) = made(&point.transformation, &scope(&payload))
                .unwrap_or_else(|fault| panic!("{}: {fault:?}", point.name));
            if content_type.is_some_and(|one| one.contains("json")) {
                let made: serde_json::Value = serde_json::from_str(&body).unwrap();
                if point.name == "to-discord" {
                    let content = made["content"].as_str().unwrap();
                    assert!(content.chars().count() <= 2000);
                    assert_eq!(content.matches("```").count(), 2, "{content}");
                }
            }
        }
    }
}

/// The costliest templates and payloads that are known. In an optimised build none takes more than
/// the two milliseconds that docs/transformations.md promises, of the processor's time.
#[test]
fn the_worst_template_takes_two_milliseconds() {
    const BUDGET: Duration = Duration::from_millis(2);
    let text = |bytes: usize| "ab\\\"é".repeat(bytes / 7);
    let flat = format!("[{}]", vec!["1"; 500_000].join(","));
    let words = format!(
        "[{}]",
        vec!["\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\""; 20_000].join(",")
    );
    let objects = format!(
        "[{}]",
        vec![r#"{"a":{"b":[1,2,3]},"c":"d"}"#; 30_000].join(",")
    );
    let deep = (0..60).fold(format!("\"{}\"", "x".repeat(900_000)), |inner, _| {
        format!("{{\"a\":{inner}}}")
    });
    let two = |one: &str| format!("{{\"l\":{one},\"m\":{}}}", one.replace('3', "3 "));
    let half = |one: &str| one.chars().take(400_000).collect::<String>();
    let strings = format!(
        "{{\"l\":\"{0}\",\"m\":\"{0}\",\"s\":\"{1}\",\"t\":\"{1}\",\"n\":[{2}]}}",
        half(&"x".repeat(400_000)),
        "y".repeat(16_000),
        vec!["1"; 3_000].join(",")
    );
    let nested =
        r#"{% for a in payload.n %}{% if payload.s == payload.t %}{% endif %}{% endfor %}"#;
    let doubled = "{% set a = 'x' %}".to_owned()
        + &"{% set a = a ~ a %}".repeat(16)
        + "{% set b = 'x' %}"
        + &"{% set b = b ~ b %}".repeat(16)
        + "{% for i in payload.n %}{% if a == b %}{% endif %}{% endfor %}";
    let cases: Vec<(String, String)> = [
        ("{{ payload }}", flat.clone()),
        ("\"{{ payload }}\"", words.clone()),
        ("\"{{ payload.l }}\"", strings.clone()),
        ("{{ payload | length }}", flat.clone()),
        ("{{ payload | sort | first }}", words.clone()),
        ("{{ payload | unique | list | length }}", words.clone()),
        ("{{ payload | reverse | first }}", objects.clone()),
        ("{{ payload | join(',') | length }}", words.clone()),
        ("{{ payload | string | length }}", words.clone()),
        ("{{ payload.l == payload.m }}", two(&objects[..400_000].rsplit_once(",{").map_or("[]".into(), |(a, _)| format!("{a}]")))),
        ("{% for a in payload %}{% for b in payload %}{{ a.c }}{% endfor %}{% endfor %}", objects.clone()),
        ("{% for a in payload %}{{ message.id }}{{ message.channels }}{{ endpoint.metadata }}{% endfor %}", flat.clone()),
        ("{% for a in payload.n %}{{ payload | excerpt(1) }}{% endfor %}", strings.clone()),
        ("{% for a in payload.n %}{{ payload.s | replace('y', 'zzzz') | length }}{% endfor %}", strings.clone()),
        ("{{ payload.s | replace('y', payload.t) | length }}", strings.clone()),
        ("{% for a in payload.n %}{{ payload.s | upper | lower | title | length }}{% endfor %}", strings.clone()),
        ("{% for a in payload.n %}{{ payload.s | split('y') | length }}{% endfor %}", strings.clone()),
        ("{% for a in payload.n %}{% if payload.t in payload.s %}{% endif %}{% endfor %}", strings.clone()),
        ("{% for a in payload.n %}{{ payload.s[::-1] | length }}{% endfor %}", strings.clone()),
        (nested, strings.clone()),
        (doubled.as_str(), strings.clone()),
        ("{{ payload.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a }}", deep),
        ("{{ payload | dictsort | length }}", format!("{{{}}}", (0..60_000).map(|i| format!("\"k{i}\":1")).collect::<Vec<_>>().join(","))),
        ("\"{{ payload }}\"", format!("\"{}\"", text(900_000))),
    ]
    .map(|(template, payload)| (template.to_owned(), payload))
    .to_vec();
    for (template, payload) in cases {
        let compiled = compiled_json(&of_body(&template));
        let once = || {
            let scope = scope(&payload);
            let started = Instant::now();
            let made = compiled.render(&scope, true, || Ok::<_, ()>(None));
            let took = started.elapsed();
            let made = made
                .unwrap()
                .map(|made| made.body.map_or(0, |body| body.len()));
            (took, made)
        };
        // The least of some: others use the caches, too.
        let (took, made) = (0..15)
            .map(|_| once())
            .min_by_key(|(took, _)| *took)
            .unwrap();
        let shown: String = template.chars().take(70).collect();
        let made = made.map_err(|fault| fault.message);
        println!("{took:>12?} {made:?} {shown}");
        if !cfg!(debug_assertions) {
            assert!(took <= BUDGET, "{template}");
        }
    }
}
