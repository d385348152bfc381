//! Checks that a JSON document is a JSON Schema.
//!
//! A table of the keywords of all drafts and of OpenAPI's dialect, with the kind of value that each
//! has. Keywords that nobody knows are allowed, as the specification has it. What a schema refers to
//! must be in the same document: nothing is ever fetched.

use serde_json::{Map, Value};

/// One problem of a schema, and the path to it.
#[derive(Debug, PartialEq)]
pub struct Problem {
    pub place: Vec<String>,
    pub message: String,
}

/// The most problems that are reported of one document.
const PROBLEMS_MAX: usize = 20;

/// The kind of value that a keyword must have.
#[derive(Clone, Copy)]
enum Kind {
    Truth,
    Text,
    Number,
    /// A number above 0.
    Divisor,
    /// A number; in older drafts whether a neighbour is meant exclusively.
    NumberOrTruth,
    Count,
    Texts,
    List,
    Schema,
    /// In older drafts a list of schemas, too.
    SchemaOrSchemas,
    Schemas,
    SchemasByName,
    /// By a name, a list of names.
    TextsByName,
    /// By a name, a schema or a list of names.
    SchemasOrTextsByName,
    Types,
    Reference,
}

fn kind_of(keyword: &str) -> Option<Kind> {
    Some(match keyword {
        "readOnly" | "writeOnly" | "deprecated" | "uniqueItems" => Kind::Truth,
        "title" | "description" | "format" | "pattern" | "$comment" | "$id" | "$schema"
        | "$anchor" | "$dynamicAnchor" | "contentEncoding" | "contentMediaType" => Kind::Text,
        "maximum" | "minimum" => Kind::Number,
        "multipleOf" => Kind::Divisor,
        "exclusiveMaximum" | "exclusiveMinimum" => Kind::NumberOrTruth,
        "maxLength" | "minLength" | "maxItems" | "minItems" | "maxProperties" | "minProperties"
        | "maxContains" | "minContains" => Kind::Count,
        "required" => Kind::Texts,
        "enum" | "examples" => Kind::List,
        "additionalProperties"
        | "unevaluatedProperties"
        | "additionalItems"
        | "unevaluatedItems"
        | "contains"
        | "propertyNames"
        | "not"
        | "if"
        | "then"
        | "else"
        | "contentSchema" => Kind::Schema,
        "items" => Kind::SchemaOrSchemas,
        "allOf" | "anyOf" | "oneOf" | "prefixItems" => Kind::Schemas,
        "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas" => {
            Kind::SchemasByName
        }
        "dependentRequired" => Kind::TextsByName,
        "dependencies" => Kind::SchemasOrTextsByName,
        "type" => Kind::Types,
        "$ref" | "$dynamicRef" => Kind::Reference,
        _ => return None,
    })
}

const TYPES: [&str; 7] = [
    "array", "boolean", "integer", "null", "number", "object", "string",
];

/// Returns all reasons why `schema` is not a schema; their places begin within it.
pub fn problems(schema: &Value) -> Vec<Problem> {
    let mut check = Check {
        whole: schema,
        place: Vec::new(),
        found: Vec::new(),
    };
    check.schema(schema);
    check.found
}

struct Check<'a> {
    whole: &'a Value,
    place: Vec<String>,
    found: Vec<Problem>,
}

impl Check<'_> {
    fn wrong(&mut self, message: impl Into<String>) {
        if self.found.len() < PROBLEMS_MAX {
            self.found.push(Problem {
                place: self.place.clone(),
                message: message.into(),
            });
        }
    }

    fn at(&mut self, name: &str, check: impl FnOnce(&mut Self)) {
        self.place.push(name.to_owned());
        check(self);
        self.place.pop();
    }

    fn schema(&mut self, schema: &Value) {
        match schema {
            Value::Bool(_) => {}
            Value::Object(keywords) => {
                for (keyword, value) in keywords {
                    if let Some(kind) = kind_of(keyword) {
                        self.at(keyword, |check| check.value(kind, value));
                    }
                }
            }
            _ => self.wrong("must be a JSON schema: an object, true or false"),
        }
    }

    fn value(&mut self, kind: Kind, value: &Value) {
        match (kind, value) {
            (Kind::Truth | Kind::NumberOrTruth, Value::Bool(_))
            | (Kind::Text, Value::String(_))
            | (Kind::Number | Kind::NumberOrTruth, Value::Number(_))
            | (Kind::List, Value::Array(_)) => {}
            (Kind::Truth, _) => self.wrong("must be true or false"),
            (Kind::Text, _) => self.wrong("must be a string"),
            (Kind::Number | Kind::NumberOrTruth, _) => self.wrong("must be a number"),
            (Kind::Divisor, number) if number.as_f64().is_some_and(|number| number > 0.0) => {}
            (Kind::Divisor, _) => self.wrong("must be a number above 0"),
            (Kind::List, _) => self.wrong("must be an array"),
            (Kind::Count, count) if is_count(count) => {}
            (Kind::Count, _) => self.wrong("must be a whole number, 0 or more"),
            (Kind::Texts, texts) => self.texts(texts),
            (Kind::Schemas, Value::Array(schemas)) if schemas.is_empty() => {
                self.wrong("must have at least one JSON schema");
            }
            (Kind::SchemaOrSchemas | Kind::Schemas, Value::Array(schemas)) => {
                for (index, schema) in schemas.iter().enumerate() {
                    self.at(&index.to_string(), |check| check.schema(schema));
                }
            }
            (Kind::Schema | Kind::SchemaOrSchemas, schema) => self.schema(schema),
            (Kind::Schemas, _) => self.wrong("must be an array of JSON schemas"),
            (Kind::SchemasByName, Value::Object(all)) => self.each(all, Check::schema),
            (Kind::TextsByName, Value::Object(all)) => self.each(all, Check::texts),
            (Kind::SchemasOrTextsByName, Value::Object(all)) => {
                self.each(all, |check, value| match value {
                    Value::Array(_) => check.texts(value),
                    _ => check.schema(value),
                });
            }
            (Kind::SchemasByName | Kind::TextsByName | Kind::SchemasOrTextsByName, _) => {
                self.wrong("must be an object");
            }
            (Kind::Types, Value::Array(types)) => {
                if types.is_empty() {
                    self.wrong("must name at least one type");
                }
                for (index, one) in types.iter().enumerate() {
                    self.at(&index.to_string(), |check| check.one_type(one));
                }
            }
            (Kind::Types, one) => self.one_type(one),
            (Kind::Reference, Value::String(reference)) => self.reference(reference),
            (Kind::Reference, _) => self.wrong("must be a string"),
        }
    }

    fn each(&mut self, all: &Map<String, Value>, check: impl Fn(&mut Self, &Value)) {
        for (name, value) in all {
            self.at(name, |this| check(this, value));
        }
    }

    fn texts(&mut self, texts: &Value) {
        let are_texts = |texts: &Vec<Value>| texts.iter().all(Value::is_string);
        if !texts.as_array().is_some_and(are_texts) {
            self.wrong("must be an array of strings");
        }
    }

    fn one_type(&mut self, one: &Value) {
        if !one.as_str().is_some_and(|name| TYPES.contains(&name)) {
            self.wrong(format!("must be one of {}", TYPES.join(", ")));
        }
    }

    fn reference(&mut self, reference: &str) {
        let Some(fragment) = reference.strip_prefix('#') else {
            let message = "refers to another document; put what it refers to into $defs";
            return self.wrong(message);
        };
        // Anything else behind # is the name of an anchor.
        let is_pointer = fragment.is_empty() || fragment.starts_with('/');
        let pointer = percent_encoding::percent_decode_str(fragment).decode_utf8_lossy();
        if is_pointer && self.whole.pointer(&pointer).is_none() {
            self.wrong("refers to something that is not in this schema");
        }
    }
}

fn is_count(value: &Value) -> bool {
    let whole = |number: f64| number >= 0.0 && number.fract() == 0.0;
    value.is_u64() || value.as_f64().is_some_and(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn places(schema: Value) -> Vec<String> {
        let found = problems(&schema).into_iter();
        found.map(|problem| problem.place.join(".")).collect()
    }

    #[test]
    fn what_schemas_say_is_taken() {
        for schema in [
            json!({}),
            json!(true),
            json!({"type": "object", "properties": {"type": {"type": ["string", "null"]}, "$ref": {}},
                   "required": ["type"], "additionalProperties": false}),
            json!({"$defs": {"a b": {"type": "integer", "minimum": 0}}, "$ref": "#/$defs/a%20b"}),
            json!({"items": [{"type": "string"}], "exclusiveMinimum": true, "minimum": 1.5, "multipleOf": 0.5}),
            json!({"items": {"$ref": "#"}, "minItems": 1.0, "examples": [{"$ref": 7, "type": "x"}]}),
            json!({"const": {"type": "nonsense"}, "default": {"type": 1}, "x-mine": {"type": 1}}),
            json!({"dependencies": {"a": ["b"], "c": {"type": "object"}}, "nullable": true}),
            json!({"$anchor": "here", "properties": {"a": {"$ref": "#here"}}}),
        ] {
            assert_eq!(places(schema.clone()), [""; 0], "{schema}");
        }
    }

    #[test]
    fn what_is_no_schema_is_told_with_its_place() {
        for (schema, expected) in [
            (json!(7), vec![""]),
            (json!({"readOnly": 15}), vec!["readOnly"]),
            (json!({"type": "nonsense"}), vec!["type"]),
            (json!({"type": ["string", 1]}), vec!["type.1"]),
            (
                json!({"properties": {"a": {"type": "int"}, "b": 1}}),
                vec!["properties.a.type", "properties.b"],
            ),
            (json!({"properties": []}), vec!["properties"]),
            (json!({"required": true}), vec!["required"]),
            (json!({"type": [], "anyOf": []}), vec!["anyOf", "type"]),
            (json!({"multipleOf": 0}), vec!["multipleOf"]),
            (
                json!({"minLength": -1, "maxLength": 1.5}),
                vec!["maxLength", "minLength"],
            ),
            (json!({"anyOf": {"type": "string"}}), vec!["anyOf"]),
            (
                json!({"anyOf": [{}, {"pattern": 1}]}),
                vec!["anyOf.1.pattern"],
            ),
            (
                json!({"$ref": "https://example.com/schema.json"}),
                vec!["$ref"],
            ),
            (
                json!({"items": {"$ref": "other.json#/a"}}),
                vec!["items.$ref"],
            ),
            (json!({"$ref": "#/$defs/nothing"}), vec!["$ref"]),
            (
                json!({"dependentRequired": {"a": "b"}}),
                vec!["dependentRequired.a"],
            ),
        ] {
            assert_eq!(places(schema.clone()), expected, "{schema}");
        }
        let many: Vec<Value> = (0..100).map(Value::from).collect();
        assert_eq!(places(json!({ "allOf": many })).len(), PROBLEMS_MAX);
    }
}
