//! The documentation as pages for people: the OpenAPI document, as an outline and a page for each
//! section, and the guides.
//!
//! Pure: a document in, HTML out. Pages need no script and nothing from elsewhere; whatever comes
//! from the document is escaped.

use std::collections::BTreeMap;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::guide::{self, GUIDES};
use super::html::escape;

const STYLE: &str = include_str!("docs.css");

/// The methods of a path, in the order in which they are shown.
const METHODS: [&str; 5] = ["post", "get", "put", "patch", "delete"];

/// The deepest nesting of an example: deeper than any of our schemas, and the end of one that
/// contains itself.
const DEPTH_MAX: usize = 6;

/// The content security policy: a page may load its own style, and nothing else.
pub fn policy() -> String {
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    )
}

/// All pages by their paths.
pub fn pages(document: &Value) -> BTreeMap<String, String> {
    let docs = Docs { document };
    let sections = docs.sections();
    let mut pages = BTreeMap::from([(OUTLINE.to_owned(), docs.outline(&sections))]);
    for section in &sections {
        let html = docs.section(section, &sections);
        pages.insert(section_path(section.name), html);
    }
    for guide in GUIDES {
        let path = guide::path(guide.name);
        let html = page(guide.label, &path, &sections, &guide.html());
        pages.insert(path, html);
    }
    pages
}

const OUTLINE: &str = "/docs";

fn section_path(name: &str) -> String {
    format!("{OUTLINE}/{name}")
}

/// A tag with its operations.
struct Section<'a> {
    name: &'a str,
    about: &'a str,
    operations: Vec<Operation<'a>>,
}

#[derive(Clone, Copy)]
struct Operation<'a> {
    method: &'a str,
    path: &'a str,
    says: &'a Value,
}

struct Docs<'a> {
    document: &'a Value,
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A line of text, in which backticks stand around code.
fn line(text: &str) -> String {
    let mut html = String::new();
    for (index, part) in text.split('`').enumerate() {
        let part = escape(part);
        match index % 2 {
            0 => html.push_str(&part),
            _ => drop(write!(html, "<code>{part}</code>")),
        }
    }
    html
}

/// Paragraphs with blank lines between them.
fn prose(text: &str) -> String {
    let paragraphs = text.split("\n\n").filter(|text| !text.is_empty());
    paragraphs
        .map(|paragraph| format!("<p>{}</p>\n", line(paragraph)))
        .collect()
}

/// A path that may be broken at its slashes.
fn path(path: &str) -> String {
    format!(
        "<code>{}</code>",
        escape(path)
            .replace('/', "/<wbr>")
            .replace("/<wbr>api", "/api")
    )
}

fn method(method: &str) -> String {
    let name = method.to_ascii_uppercase();
    format!("<span class=\"method {method}\">{name}</span>")
}

/// `message-attempt` as a heading.
fn title(name: &str) -> String {
    let name = name.replace('-', " ");
    let mut characters = name.chars();
    let first = characters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(characters).collect()
}

impl<'a> Docs<'a> {
    fn sections(&self) -> Vec<Section<'a>> {
        let tags = items(&self.document["tags"]);
        tags.map(|tag| {
            let name = text(tag, "name");
            let operations = fields(&self.document["paths"]).flat_map(|(path, methods)| {
                METHODS.iter().filter_map(move |method| {
                    let says = methods.get(*method)?;
                    Some(Operation { method, path, says })
                })
            });
            let is_in = |one: &Operation| items(&one.says["tags"]).any(|tag| *tag == *name);
            Section {
                name,
                about: text(tag, "description"),
                operations: operations.filter(is_in).collect(),
            }
        })
        .collect()
    }

    fn outline(&self, sections: &[Section]) -> String {
        let info = &self.document["info"];
        let mut main = format!("<h1>{} API</h1>\n", escape(text(info, "title")));
        let version = escape(text(info, "version"));
        let _ = writeln!(
            main,
            "<p class=\"meta\">Version {version} · <a href=\"/openapi.json\">OpenAPI document</a></p>"
        );
        main.push_str(&prose(text(info, "description")));
        main.push_str(
            "<p>The examples on these pages expect the server's URL and a credential in two \
             variables:</p>\n<pre tabindex=\"0\"><code>export POSTRIDER=https://webhooks.example.com\n\
             export TOKEN=pr_…</code></pre>\n",
        );
        for section in sections {
            let name = escape(section.name);
            let _ = write!(
                main,
                "<section class=\"outline\"><h2 id=\"{name}\"><a href=\"/docs/{name}\">{}</a></h2>\n{}",
                escape(&title(section.name)),
                prose(section.about),
            );
            main.push_str(&contents(section, true));
            main.push_str("</section>\n");
        }
        page("API", OUTLINE, sections, &main)
    }

    fn section(&self, section: &Section, sections: &[Section]) -> String {
        let heading = title(section.name);
        let mut main = format!("<h1>{}</h1>\n{}", escape(&heading), prose(section.about));
        if section.operations.len() > 1 {
            main.push_str(&contents(section, false));
        }
        for operation in &section.operations {
            self.operation(&mut main, *operation);
        }
        page(&heading, &section_path(section.name), sections, &main)
    }

    fn operation(&self, html: &mut String, operation: Operation) {
        let Operation { says, .. } = operation;
        let _ = write!(
            html,
            "<section class=\"operation\" id=\"{id}\">\n<h2><a class=\"anchor\" href=\"#{id}\">{summary}</a></h2>\n\
             <p class=\"request\">{method} {path}</p>\n",
            id = escape(text(says, "operationId")),
            summary = escape(text(says, "summary")),
            method = method(operation.method),
            path = path(operation.path),
        );
        html.push_str(&prose(text(says, "description")));
        if says["security"] == json!([]) {
            html.push_str("<p class=\"note\">Needs no credential.</p>\n");
        }
        self.parameters(html, &says["parameters"]);
        self.body(html, &says["requestBody"]);
        self.answers(html, &says["responses"]);
        let example = escape(&self.curl(operation));
        let _ = write!(
            html,
            "<h3>Example</h3>\n<pre tabindex=\"0\"><code>{example}</code></pre>\n</section>\n"
        );
    }

    fn parameters(&self, html: &mut String, parameters: &Value) {
        if items(parameters).next().is_none() {
            return;
        }
        html.push_str(
            "<h3>Parameters</h3>\n<table>\n<thead><tr><th scope=\"col\">Name</th>\
             <th scope=\"col\">In</th><th scope=\"col\">Type</th><th scope=\"col\">Meaning</th></tr></thead>\n<tbody>\n",
        );
        for parameter in items(parameters) {
            let _ = writeln!(
                html,
                "<tr><th scope=\"row\"><code>{}</code>{}</th><td>{}</td><td>{}</td><td>{}{}</td></tr>",
                escape(text(parameter, "name")),
                required(parameter["required"] == true),
                escape(text(parameter, "in")),
                self.kind(&parameter["schema"]),
                line(text(parameter, "description")),
                limits(&parameter["schema"]),
            );
        }
        html.push_str("</tbody>\n</table>\n");
    }

    fn body(&self, html: &mut String, body: &Value) {
        let contents: Vec<_> = fields(&body["content"]).collect();
        let Some((_, first)) = contents.first() else {
            return;
        };
        let types: Vec<String> = contents.iter().map(|(name, _)| escape(name)).collect();
        let optional = match body["required"] == true {
            true => "",
            false => "It may be left out. ",
        };
        let _ = write!(
            html,
            "<h3>Body</h3>\n<p class=\"meta\">{optional}{}</p>\n",
            types.join(" or ")
        );
        self.schema(html, &first["schema"], 0);
    }

    fn answers(&self, html: &mut String, answers: &Value) {
        html.push_str("<h3>Answers</h3>\n");
        let (errors, others): (Vec<_>, Vec<_>) =
            fields(answers).partition(|(status, _)| status.as_str() >= "400");
        for (status, answer) in others {
            let label = answer_label(status, answer);
            let Some((media_type, content)) = fields(&answer["content"]).next() else {
                let _ = writeln!(html, "<p class=\"answer\">{label}</p>");
                continue;
            };
            let _ = write!(
                html,
                "<details class=\"answer\"><summary>{label}</summary>\n<p class=\"meta\">{}</p>\n",
                escape(media_type)
            );
            self.schema(html, &content["schema"], 0);
            html.push_str("</details>\n");
        }
        self.errors(html, &errors);
    }

    /// All errors under one heading, those that look the same together.
    fn errors(&self, html: &mut String, errors: &[(&String, &Value)]) {
        if errors.is_empty() {
            return;
        }
        let mut shapes: Vec<(&Value, String)> = Vec::new();
        for (status, answer) in errors {
            let schema = fields(&answer["content"]).next();
            let schema = schema.map_or(&Value::Null, |(_, content)| &content["schema"]);
            let label = format!("<p>{}</p>\n", answer_label(status, answer));
            match shapes.iter_mut().find(|(shape, _)| *shape == schema) {
                Some((_, labels)) => labels.push_str(&label),
                None => shapes.push((schema, label)),
            }
        }
        let statuses: Vec<String> = errors.iter().map(|(status, _)| escape(status)).collect();
        let _ = writeln!(
            html,
            "<details class=\"answer\"><summary>Errors: <span class=\"status s4\">{}</span></summary>",
            statuses.join(" ")
        );
        for (schema, labels) in shapes {
            html.push_str(&labels);
            if !schema.is_null() {
                self.schema(html, schema, 0);
            }
        }
        html.push_str("</details>\n");
    }

    /// Returns the target of a reference; any other schema as it is.
    fn resolved<'s>(&'s self, schema: &'s Value) -> &'s Value {
        let name = schema["$ref"]
            .as_str()
            .and_then(|text| text.strip_prefix("#/components/schemas/"));
        match name {
            Some(name) => &self.document["components"]["schemas"][name],
            None => schema,
        }
    }

    /// Describes a schema in a few words.
    fn kind(&self, schema: &Value) -> String {
        let alternatives = ["anyOf", "oneOf"].iter().find_map(|key| schema.get(*key));
        if let Some(alternatives) = alternatives {
            let kinds = items(alternatives).map(|one| self.kind(one));
            return kinds.collect::<Vec<_>>().join(" or ");
        }
        let schema = self.resolved(schema);
        let names: Vec<&str> = match &schema["type"] {
            Value::String(name) => vec![name],
            Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
            _ if schema.get("enum").is_some() => vec!["one of"],
            _ => vec!["anything"],
        };
        let kinds = names.into_iter().map(|name| match name {
            "array" => format!("list of {}", self.kind(&schema["items"])),
            "object" if schema.get("properties").is_none() => self.map_kind(schema),
            other => escape(other),
        });
        kinds.collect::<Vec<_>>().join(" or ")
    }

    fn map_kind(&self, schema: &Value) -> String {
        match schema.get("additionalProperties") {
            Some(values) if values.get("type").is_some() => {
                format!("object of {}", self.kind(values))
            }
            _ => "object".to_owned(),
        }
    }

    /// Returns the object whose fields are worth a table: the schema itself, or one inside it.
    fn inner<'s>(&'s self, schema: &'s Value) -> Option<&'s Value> {
        let schema = self.resolved(schema);
        if schema.get("properties").is_some() {
            return Some(schema);
        }
        let alternatives = ["anyOf", "oneOf"].iter().find_map(|key| schema.get(*key));
        if let Some(alternatives) = alternatives {
            return items(alternatives).find_map(|one| self.inner(one));
        }
        let within = schema.get("items").or(schema.get("additionalProperties"));
        within.and_then(|within| self.inner(within))
    }

    fn schema(&self, html: &mut String, schema: &Value, depth: usize) {
        let Some(object) = self.inner(schema) else {
            let _ = writeln!(
                html,
                "<p>{}. {}</p>",
                self.kind(schema),
                line(text(schema, "description"))
            );
            return;
        };
        html.push_str(&prose(text(object, "description")));
        let needed = |name: &str| items(&object["required"]).any(|one| *one == *name);
        let mut rows: Vec<_> = fields(&object["properties"]).collect();
        if rows.is_empty() {
            html.push_str("<p>An object without fields.</p>\n");
            return;
        }
        rows.sort_by_key(|(name, _)| !needed(name));
        html.push_str(
            "<table class=\"fields\">\n<thead><tr><th scope=\"col\">Field</th><th scope=\"col\">Type</th>\
             <th scope=\"col\">Meaning</th></tr></thead>\n<tbody>\n",
        );
        for (name, field) in rows {
            let _ = write!(
                html,
                "<tr><th scope=\"row\"><code>{}</code>{}</th><td>{}</td><td>{}{}",
                escape(name),
                required(needed(name)),
                self.kind(field),
                line(text(field, "description")),
                limits(field),
            );
            if let Some(inner) = self.inner(field).filter(|_| depth < DEPTH_MAX) {
                let _ = writeln!(
                    html,
                    "<details><summary>Fields of <code>{}</code></summary>",
                    escape(name)
                );
                self.schema(html, inner, depth + 1);
                html.push_str("</details>");
            }
            html.push_str("</td></tr>\n");
        }
        html.push_str("</tbody>\n</table>\n");
    }

    fn curl(&self, operation: Operation) -> String {
        let says = operation.says;
        let mut url = String::from("$POSTRIDER");
        for part in operation.path.split('/').skip(1) {
            let name = part
                .strip_prefix('{')
                .and_then(|part| part.strip_suffix('}'));
            match name {
                Some(name) => drop(write!(url, "/${}", name.to_ascii_uppercase())),
                None => drop(write!(url, "/{part}")),
            }
        }
        let mut lines = vec![match operation.method {
            "get" => format!("curl \"{url}\""),
            other => format!("curl -X {} \"{url}\"", other.to_ascii_uppercase()),
        }];
        if says["security"] != json!([]) {
            lines.push("-H \"Authorization: Bearer $TOKEN\"".to_owned());
        }
        if let Some(content) = says["requestBody"]["content"].get("application/json") {
            let body = self.example(&content["schema"], "", 0);
            let body = serde_json::to_string_pretty(&body).unwrap_or_default();
            lines.push("-H \"Content-Type: application/json\"".to_owned());
            lines.push(format!("-d '{}'", body.replace('\'', "'\\''")));
        }
        lines.join(" \\\n  ")
    }

    /// Returns a value that fits a schema. An object has its required fields, or one field where
    /// none is required.
    fn example(&self, schema: &Value, name: &str, depth: usize) -> Value {
        let schema = self.resolved(schema);
        let given = items(&schema["examples"]).next();
        if let Some(given) = given.or(schema.get("example")) {
            return given.clone();
        }
        if let Some(first) = items(&schema["enum"]).next() {
            return first.clone();
        }
        let alternatives = ["anyOf", "oneOf"].iter().find_map(|key| schema.get(*key));
        if let Some(first) = alternatives.and_then(|all| items(all).next()) {
            return self.example(first, name, depth);
        }
        let kind = schema["type"]
            .as_str()
            .or_else(|| schema["type"][0].as_str());
        match kind {
            Some("object") => self.example_object(schema, depth),
            Some("array") => json!([self.example(&schema["items"], name, depth)]),
            Some("boolean") => json!(true),
            Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or(json!(1)),
            _ => example_text(schema, name).into(),
        }
    }

    fn example_object(&self, schema: &Value, depth: usize) -> Value {
        let needed: Vec<&str> = items(&schema["required"])
            .filter_map(Value::as_str)
            .collect();
        let shown = |name: &str| match needed.is_empty() {
            true => ["description", "url", "name"].contains(&name),
            false => needed.contains(&name),
        };
        let properties = fields(&schema["properties"]).filter(|_| depth < DEPTH_MAX);
        let values: Map<String, Value> = properties
            .filter(|(name, _)| shown(name))
            .map(|(name, field)| (name.clone(), self.example(field, name, depth + 1)))
            .collect();
        values.into()
    }
}

fn example_text(schema: &Value, name: &str) -> &'static str {
    match (text(schema, "format"), name) {
        ("uri", _) => "https://receiver.example.com/webhooks",
        ("date-time", _) => "2026-01-31T08:15:30Z",
        (_, "eventType" | "event_type" | "eventTypes" | "event") => "invoice.paid",
        (_, "name") => "Acme",
        (_, "description") => "An invoice was paid",
        (_, "username") => "postrider",
        (_, "password" | "secret_key") => "at least sixteen characters",
        _ => "text",
    }
}

fn required(is: bool) -> &'static str {
    match is {
        true => " <span class=\"required\">required</span>",
        false => "",
    }
}

fn answer_label(status: &str, answer: &Value) -> String {
    let class = status.chars().next().filter(char::is_ascii_digit);
    format!(
        "<span class=\"status s{}\">{}</span> {}",
        class.unwrap_or('0'),
        escape(status),
        line(text(answer, "description"))
    )
}

/// Describes the limits of a value beside its type.
fn limits(schema: &Value) -> String {
    let mut limits = Vec::new();
    let mut stretch = |least: &str, most: &str, what: &str| {
        let least = schema.get(least).filter(|least| **least != json!(0));
        match (least, schema.get(most)) {
            (Some(least), Some(most)) => limits.push(format!("{least} to {most}{what}")),
            (Some(least), None) if *least == json!(1) && !what.is_empty() => {
                limits.push("not empty".to_owned());
            }
            (Some(least), None) => limits.push(format!("at least {least}{what}")),
            (None, Some(most)) => limits.push(format!("at most {most}{what}")),
            (None, None) => {}
        }
    };
    stretch("minimum", "maximum", "");
    stretch("minLength", "maxLength", " characters");
    stretch("minItems", "maxItems", " items");
    let words: Vec<String> = items(&schema["enum"])
        .filter(|word| !word.is_null())
        .map(|word| format!("<code>{}</code>", escape(&shown(word))))
        .collect();
    if !words.is_empty() {
        limits.push(format!("one of {}", words.join(", ")));
    }
    // The width of a number in this program means nothing to a reader.
    let format = schema["format"].as_str();
    if let Some(format) = format.filter(|name| !name.starts_with("int") && *name != "double") {
        limits.push(escape(format));
    }
    let pattern = schema["pattern"].as_str();
    if let Some(pattern) = pattern.or(schema["items"]["pattern"].as_str()) {
        limits.push(format!("<code>{}</code>", escape(pattern)));
    }
    if let Some(default) = schema.get("default") {
        let default = escape(&shown(default));
        limits.push(format!("<code>{default}</code> by default"));
    }
    match limits.is_empty() {
        true => String::new(),
        false => format!(" <span class=\"limits\">{}</span>", limits.join(" · ")),
    }
}

/// A value without the quotes of a text.
fn shown(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// Links to a section's operations.
fn contents(section: &Section, from_outside: bool) -> String {
    let page = match from_outside {
        true => format!("/docs/{}", section.name),
        false => String::new(),
    };
    let mut html = String::from("<ul class=\"contents\">\n");
    for operation in &section.operations {
        let _ = writeln!(
            html,
            "<li><a href=\"{}#{}\">{}</a><span class=\"request\">{} {}</span></li>",
            escape(&page),
            escape(text(operation.says, "operationId")),
            escape(text(operation.says, "summary")),
            method(operation.method),
            path(operation.path),
        );
    }
    html.push_str("</ul>\n");
    html
}

fn page(heading: &str, current: &str, sections: &[Section], main: &str) -> String {
    let link = |path: &str, label: &str| {
        let is_here = match path == current {
            true => " aria-current=\"page\"",
            false => "",
        };
        let (path, label) = (escape(path), escape(label));
        format!("<li><a href=\"{path}\"{is_here}>{label}</a></li>\n")
    };
    let guides: String = GUIDES
        .iter()
        .map(|guide| link(&guide::path(guide.name), guide.label))
        .collect();
    let mut reference = link(OUTLINE, "Overview");
    for section in sections {
        reference.push_str(&link(&section_path(section.name), &title(section.name)));
    }
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{heading} – postrider</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#main\">Skip to the content</a>\n\
         <header><a href=\"/docs\">postrider</a> <span>Documentation</span> \
         <a class=\"to-pages\" href=\"#pages\">All pages</a></header>\n\
         <div class=\"columns\">\n<nav id=\"pages\" aria-label=\"Pages\">\n<h2>Guides</h2>\n<ul>\n{guides}</ul>\n\
         <h2>API reference</h2>\n<ul>\n{reference}</ul>\n</nav>\n\
         <main id=\"main\">\n{main}</main>\n</div>\n</body>\n</html>\n",
        heading = escape(heading),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A document that tries to be more than text.
    fn hostile() -> Value {
        let bad = "<script>alert('x')</script>\"&";
        json!({
            "info": { "title": bad, "version": bad, "description": bad },
            "tags": [{ "name": "things", "description": bad }],
            "paths": { "/<b>/{id}": { "post": {
                "operationId": bad,
                "summary": bad,
                "description": bad,
                "tags": ["things"],
                "parameters": [{
                    "name": bad, "in": bad, "description": bad,
                    "schema": { "type": bad, "enum": [bad], "pattern": bad, "default": bad },
                }],
                "requestBody": { "content": { "application/json": {
                    "schema": { "$ref": "#/components/schemas/Thing" },
                } } },
                "responses": { bad: { "description": bad } },
            } } },
            "components": { "schemas": { "Thing": {
                "type": "object",
                "description": bad,
                "required": ["name"],
                "properties": {
                    "name": { "type": "string", "format": bad, "examples": [bad] },
                    bad: { "type": "string", "description": bad },
                    "self": { "$ref": "#/components/schemas/Thing" },
                },
            } } },
        })
    }

    #[test]
    fn nothing_in_a_document_becomes_markup() {
        let pages = pages(&hostile());
        for path in ["/docs", "/docs/things"] {
            let html = &pages[path];
            assert!(!html.contains("<script") && !html.contains("<b>"), "{html}");
            assert!(html.contains("&lt;script&gt;"));
        }
    }

    #[test]
    fn an_example_has_what_is_required_and_survives_the_shell() {
        let document = json!({ "components": {} });
        let docs = Docs {
            document: &document,
        };
        let says = json!({ "requestBody": { "content": { "application/json": { "schema": {
            "type": "object",
            "required": ["url", "note"],
            "properties": {
                "url": { "type": "string", "format": "uri" },
                "note": { "type": "string", "examples": ["it's"] },
                "more": { "type": "string" },
            },
        } } } } });
        let operation = Operation {
            method: "post",
            path: "/a/{thing_id}",
            says: &says,
        };
        let expected = "curl -X POST \"$POSTRIDER/a/$THING_ID\" \\\n  \
                        -H \"Authorization: Bearer $TOKEN\" \\\n  \
                        -H \"Content-Type: application/json\" \\\n  \
                        -d '{\n  \"note\": \"it'\\''s\",\n  \
                        \"url\": \"https://receiver.example.com/webhooks\"\n}'";
        assert_eq!(docs.curl(operation), expected);
    }

    #[test]
    fn what_is_checked_is_said() {
        for (schema, expected) in [
            (json!({ "minimum": 1, "maximum": 250 }), "1 to 250"),
            (
                json!({ "minLength": 0, "maxLength": 9 }),
                "at most 9 characters",
            ),
            (json!({ "minItems": 1 }), "not empty"),
            (json!({ "minItems": 2 }), "at least 2 items"),
            (json!({ "enum": ["a", null] }), "one of <code>a</code>"),
            (json!({ "default": true }), "<code>true</code> by default"),
        ] {
            let html = format!(" <span class=\"limits\">{expected}</span>");
            assert_eq!(limits(&schema), html, "{schema}");
        }
        assert_eq!(limits(&json!({ "type": "string" })), "");
    }
}
