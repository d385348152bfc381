//! What the templates of customers have of minijinja: less than those of the operator.
//!
//! A customer's template must end within its budget of time and memory, whoever wrote it. minijinja's steps
//! bound most of that, but not all: two lists that hold each other many times over are compared or
//! printed for hours in one step, and a list that is repeated a million times is one value until it becomes
//! text. So these templates make no lists and objects of their own, and repeat none: they have no
//! literals for them, no `+` and `*`, no `range`, `dict` and `namespace`, and lack the filters of
//! [`TAKEN_AWAY`]. They still go through the payload's lists and objects, whose cost is a `toll`. Pure.

use std::sync::LazyLock;

use minijinja::Environment;

use super::template::{self, FUNCTIONS, TemplateFault};

/// Those of minijinja's that make lists of lists, repeat values, or show more than was asked for.
const TAKEN_AWAY: [&str; 16] = [
    "attr",
    "batch",
    "chain",
    "format",
    "groupby",
    "indent",
    "map",
    "pprint",
    "reject",
    "rejectattr",
    "select",
    "selectattr",
    "slice",
    "sum",
    "tojson",
    "zip",
];

/// The environment of customers' templates.
pub static BASE: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = template::BASE.clone();
    for name in TAKEN_AWAY {
        environment.remove_filter(name);
    }
    for name in FUNCTIONS {
        environment.remove_global(name);
    }
    environment
});

/// Finds the first thing in the tags of a template that customers do not have. A template that is none is
/// left to the compiler.
pub fn check(source: &str) -> Result<(), TemplateFault> {
    let mut rest = source;
    while let Some(start) = next_tag(rest) {
        let is_comment = rest[start..].starts_with("{#");
        let is_statement = rest[start..].starts_with("{%");
        let inside = &rest[start + 2..];
        if is_comment {
            let Some(end) = inside.find("#}") else {
                return Ok(());
            };
            rest = &inside[end + 2..];
            continue;
        }
        let end = tag_problem(inside, if is_statement { "%}" } else { "}}" });
        match end {
            Ok(end) => rest = inside.get(end..).unwrap_or_default(),
            Err((at, reason)) => {
                let place = source.len() - inside.len() + at;
                let before = source.get(..place).unwrap_or_default();
                let line = 1 + before.matches('\n').count();
                return Err(TemplateFault::permanent(reason).on_line(Some(line)));
            }
        }
    }
    Ok(())
}

fn next_tag(text: &str) -> Option<usize> {
    ["{{", "{%", "{#"]
        .into_iter()
        .filter_map(|mark| text.find(mark))
        .min()
}

const LITERAL: &str =
    "a template makes no lists and objects of its own; write them as text around its values";
const COMMA: &str = "a comma may only stand between arguments, and between the names of a `for`";
const OPERATOR: &str = "`+` and `*` are not offered in a transformation; `~` joins texts";

/// Reads the inside of a tag. Returns the place behind its end, or the place and the reason of the first
/// thing that is not offered.
fn tag_problem(inside: &str, end: &str) -> Result<usize, (usize, &'static str)> {
    let bytes = inside.as_bytes();
    // Of the brackets that are open: whether each is of a call, whose commas are between arguments.
    let mut open: Vec<bool> = Vec::new();
    // Whether a value has just ended, so that a bracket looks into it or calls it.
    let mut behind_value = false;
    let mut in_names_of_for = false;
    let mut at = 0;
    while at < bytes.len() {
        if open.is_empty() && inside[at..].starts_with(end) {
            return Ok(at + 2);
        }
        match bytes[at] {
            quote @ (b'"' | b'\'') => {
                at = behind_string(bytes, at, quote);
                behind_value = true;
                continue;
            }
            b'[' | b'{' if bytes[at] == b'{' || !behind_value => return Err((at, LITERAL)),
            b'[' => open.push(false),
            b'(' => open.push(behind_value),
            b')' | b']' => {
                open.pop();
                at += 1;
                behind_value = true;
                continue;
            }
            b',' if in_names_of_for || open.last() == Some(&true) => {}
            b',' => return Err((at, COMMA)),
            b'+' | b'*' => return Err((at, OPERATOR)),
            byte if is_word(byte) => {
                let start = at;
                while at < bytes.len() && is_word(bytes[at]) {
                    at += 1;
                }
                let word = &bytes[start..at];
                match word {
                    b"for" => in_names_of_for = true,
                    b"in" => in_names_of_for = false,
                    _ => {}
                }
                behind_value = !KEYWORDS.contains(&word);
                continue;
            }
            byte if byte.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            _ => {}
        }
        behind_value = false;
        // The text is cut only at ASCII characters.
        at += 1;
        while at < bytes.len() && !inside.is_char_boundary(at) {
            at += 1;
        }
    }
    Ok(at)
}

fn behind_string(bytes: &[u8], start: usize, quote: u8) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != quote {
        at += 1 + usize::from(bytes[at] == b'\\');
    }
    (at + 1).min(bytes.len())
}

/// Words in names and numbers, non-ASCII ones too.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Words behind which a value begins.
const KEYWORDS: [&[u8]; 14] = [
    b"and",
    b"or",
    b"not",
    b"in",
    b"is",
    b"if",
    b"elif",
    b"else",
    b"for",
    b"set",
    b"with",
    b"filter",
    b"recursive",
    b"autoescape",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::escape::Escape;
    use super::super::scope::TemplateScope;
    use super::super::template::Template;
    use super::*;

    /// The filters that a customer's template may use.
    const FILTERS: [&str; 33] = [
        "abs",
        "bool",
        "capitalize",
        "count",
        "d",
        "default",
        "dictsort",
        "excerpt",
        "first",
        "float",
        "header",
        "int",
        "items",
        "join",
        "last",
        "length",
        "lines",
        "list",
        "lower",
        "max",
        "min",
        "mrkdwn",
        "percent",
        "replace",
        "reverse",
        "round",
        "sort",
        "split",
        "string",
        "title",
        "trim",
        "unique",
        "upper",
    ];

    /// An update of minijinja with new filters fails here, if they are among those that are known to be costly.
    #[test]
    fn filters_are_those_that_cost_what_they_are_charged() {
        let scope = TemplateScope::of_bindings(Default::default(), None);
        let is_unknown = |name: &str| {
            let source = format!("{{{{ '1' | {name} }}}}");
            let template = Template::compile_bounded(&source, Escape::Json, 1000).unwrap();
            let rendered = template.render(&scope, 1000);
            rendered.is_err_and(|fault| fault.to_string().contains("unknown filter"))
        };
        for name in TAKEN_AWAY
            .into_iter()
            .chain(["safe", "escape", "e", "urlencode"])
        {
            assert!(is_unknown(name), "{name}");
        }
        for name in FILTERS {
            assert!(!is_unknown(name), "{name}");
        }
        for name in FUNCTIONS {
            let source = format!("{{{{ {name}(1) }}}}");
            let template = Template::compile_bounded(&source, Escape::Json, 1000).unwrap();
            let fault = template.render(&scope, 1000).unwrap_err().to_string();
            assert!(fault.contains("unknown function"), "{fault}");
        }
    }

    #[test]
    fn no_template_makes_a_list_or_repeats_one() {
        for (source, line, reason) in [
            ("{{ [payload] }}", 1, LITERAL),
            ("a\n{% set a = [a, a] %}", 2, LITERAL),
            ("{{ {'a': payload} }}", 1, LITERAL),
            ("{{ payload.a[[1]] }}", 1, LITERAL),
            ("{% if x in [1] %}{% endif %}", 1, LITERAL),
            ("{% for x in [1] %}{% endfor %}", 1, LITERAL),
            ("{{ not [1] }}", 1, LITERAL),
            ("{{ 1 | default([]) }}", 1, LITERAL),
            ("{{ (payload, payload) }}", 1, COMMA),
            ("{% set a = payload, payload %}", 1, COMMA),
            ("{{ payload[1, 2] }}", 1, COMMA),
            ("{{ f((1, 2)) }}", 1, COMMA),
            ("{% for a in payload, payload %}{% endfor %}", 1, COMMA),
            ("{{ '}}' * 5 }}", 1, OPERATOR),
            ("{{ payload.a + payload.b }}", 1, OPERATOR),
            ("{{ f(*payload) }}", 1, OPERATOR),
            ("{{ 2 ** 100 }}", 1, OPERATOR),
            ("{# [ #}\n{{ \"\\\"}}\" ~ [] }}", 2, LITERAL),
        ] {
            let fault = check(source).expect_err(source);
            assert_eq!(
                (fault.to_string().as_str(), fault.line),
                (reason, Some(line)),
                "{source}"
            );
        }
        for source in [
            "",
            "[1, 2] + { } * {# [1] + #} {",
            "{{ payload.a[0] ~ payload['b'][1:2] }}",
            "{{ payload.a | replace('[', \"+*,{\") | default('', true) }}",
            "{% for name, value in payload | items %}{{ name }}{% endfor %}",
            "{% if (payload.a and payload.b) or not (payload.c) %}x{% endif %}",
            "{%- set a = (payload.a)[0] -%}{{- a -}}",
            "{{ payload.é[0] }} {{ 'é' }}",
            "{{ a",
            "{% for",
        ] {
            assert_eq!(check(source), Ok(()), "{source}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(source in "([{}%#\\[\\](),'\"\\\\ +*aé\n-]|for |in |\\{\\{|\\}\\}){0,40}") {
            let _ = check(&source);
        }
    }
}
