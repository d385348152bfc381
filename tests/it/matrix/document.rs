//! What the document says of each operation, as far as requests are made of it.

use awc::http::Method;
use serde_json::{Map, Value, json};

use crate::support::Server;

pub struct Operation {
    pub id: String,
    pub method: Method,
    pub path: String,
    /// The names in braces in the path, in their order.
    pub parts: Vec<String>,
    pub queries: Vec<String>,
    /// It takes an `idempotency-key`.
    pub is_once: bool,
    /// It names the surface whose cookie is meant.
    pub has_surface: bool,
    pub is_open: bool,
    /// A JSON body that its schema allows.
    pub body: Option<Value>,
    /// The body's fields, with dots between those within each other.
    pub fields: Vec<String>,
}

impl Operation {
    /// One that is not in the document.
    pub fn undocumented(method: &str, path: &str) -> Operation {
        let id = format!("{method} {path}");
        operation(path, method, &json!({ "operationId": id }), &Value::Null)
    }
}

/// All that the running server documents.
pub async fn operations(server: &Server) -> Vec<Operation> {
    let document = server.get("/openapi.json").await.expect(200);
    let paths = document["paths"].as_object().expect("paths");
    let each = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().expect("methods");
        methods
            .iter()
            .map(move |(method, described)| (path, method, described))
    });
    each.map(|(path, method, described)| operation(path, method, described, &document))
        .collect()
}

fn operation(path: &str, method: &str, described: &Value, document: &Value) -> Operation {
    let parameters = described["parameters"].as_array();
    let names = |place: &str| -> Vec<String> {
        let there = parameters.into_iter().flatten();
        let there = there.filter(|parameter| parameter["in"] == place);
        there
            .map(|parameter| parameter["name"].as_str().expect("a name").to_owned())
            .collect()
    };
    let headers = names("header");
    let has = |name: &str| headers.iter().any(|header| header == name);
    let schema = &described["requestBody"]["content"]["application/json"]["schema"];
    let mut fields = Vec::new();
    collect_fields(schema, document, "", 0, &mut fields);
    Operation {
        id: described["operationId"].as_str().expect("an id").to_owned(),
        method: Method::from_bytes(method.to_ascii_uppercase().as_bytes()).expect("a method"),
        path: path.to_owned(),
        parts: path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .map(str::to_owned)
            .collect(),
        queries: names("query"),
        is_once: has("idempotency-key"),
        has_surface: has("x-postrider-surface"),
        is_open: described["security"].as_array().is_some_and(Vec::is_empty),
        body: (!schema.is_null()).then(|| example(schema, document)),
        fields,
    }
}

/// Follows references, and takes the first that is not null where there is a choice.
fn resolved<'a>(schema: &'a Value, document: &'a Value) -> &'a Value {
    if let Some(reference) = schema["$ref"].as_str() {
        let pointer = reference.trim_start_matches('#');
        return resolved(
            document.pointer(pointer).expect("it refers to something"),
            document,
        );
    }
    let choices = ["anyOf", "oneOf", "allOf"];
    let mut choices = choices.iter().filter_map(|name| schema[*name].as_array());
    let first = choices.next().and_then(|all| {
        let mut all = all.iter();
        all.find(|one| one["type"] != "null")
    });
    first.map_or(schema, |first| resolved(first, document))
}

/// The least that the schema allows: what must be there.
fn example(schema: &Value, document: &Value) -> Value {
    let schema = resolved(schema, document);
    for known in [&schema["example"], &schema["const"], &schema["enum"][0]] {
        if !known.is_null() {
            return known.clone();
        }
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds
            .iter()
            .find_map(|kind| kind.as_str().filter(|kind| *kind != "null")),
        kind => kind.as_str(),
    };
    match (kind, schema["format"].as_str()) {
        (Some("string"), Some("date-time")) => json!("2024-01-01T00:00:00Z"),
        (Some("string"), Some("uri")) => json!("https://receiver.invalid/"),
        (Some("string"), _) => json!("example"),
        (Some("integer" | "number"), _) => {
            let least = &schema["minimum"];
            if least.is_null() {
                json!(0)
            } else {
                least.clone()
            }
        }
        (Some("boolean"), _) => json!(false),
        (Some("array"), _) => json!([]),
        (Some("object"), _) => {
            let required = schema["required"].as_array();
            let names = required.into_iter().flatten().filter_map(Value::as_str);
            let fields = names.map(|name| {
                (
                    name.to_owned(),
                    example(&schema["properties"][name], document),
                )
            });
            Value::Object(fields.collect::<Map<_, _>>())
        }
        _ => json!({}),
    }
}

fn collect_fields(
    schema: &Value,
    document: &Value,
    before: &str,
    depth: usize,
    all: &mut Vec<String>,
) {
    let schema = resolved(schema, document);
    if depth < 4 {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let name = format!("{before}{name}");
            collect_fields(field, document, &format!("{name}."), depth + 1, all);
            all.push(name);
        }
        if !schema["items"].is_null() {
            collect_fields(&schema["items"], document, before, depth + 1, all);
        }
    }
}
