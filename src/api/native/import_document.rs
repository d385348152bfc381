//! The webhooks of an OpenAPI document, as event types.
//!
//! Pure. Anybody may have written the document, so nothing is taken for granted: each missing or
//! wrong part is noted with its place. The size of all expanded references has a limit, because a
//! schema includes all that it refers to in its `$defs`.

use std::collections::{BTreeMap, VecDeque};

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::event_types::{GROUP_NAME_MAX, check_feature_flags, example_problem, schemas_problems};
use crate::domain::event_type::{name_problem, registered_name_problem};
use crate::rules::checks::{Problems, check_description};

/// The most webhooks of a document.
const WEBHOOKS_MAX: usize = 1000;

/// The most bytes of all schemas and examples of a document, with references resolved: they are in
/// memory while the server runs.
const BYTES_MAX: usize = 4 << 20;

/// The longest chain of references.
const REFERENCES_MAX: usize = 32;

/// The methods where a webhook's operation is looked for.
const METHODS: [&str; 5] = ["post", "put", "patch", "get", "delete"];

/// Keywords whose members are schemas by name, so that a name is no keyword.
const NAMED_SCHEMAS: [&str; 5] = [
    "properties",
    "patternProperties",
    "$defs",
    "definitions",
    "dependentSchemas",
];

/// Keywords whose values are data, not schemas.
const DATA: [&str; 5] = ["example", "examples", "default", "enum", "const"];

/// A webhook as the document describes it.
#[derive(Debug, PartialEq)]
pub struct Webhook {
    pub name: String,
    pub description: String,
    pub deprecated: bool,
    pub group_name: Option<String>,
    pub feature_flags: Vec<String>,
    /// The JSON schema of the payload: an object.
    pub schema: Option<Value>,
    /// A payload: an object.
    pub example: Option<Value>,
}

/// Returns all webhooks of the document; `place` is the document's place in the request. After a
/// problem the result is useless.
pub fn webhooks(
    document: &Value,
    problems: &mut Problems,
    place: &[&str],
    example_bytes_max: usize,
) -> Vec<Webhook> {
    let mut reader = Reader {
        document,
        problems,
        place: place.iter().map(|part| (*part).to_owned()).collect(),
        example_bytes_max,
        bytes_left: BYTES_MAX,
    };
    reader.all()
}

struct Reader<'a> {
    document: &'a Value,
    problems: &'a mut Problems,
    /// The place of the current part.
    place: Vec<String>,
    example_bytes_max: usize,
    /// The bytes that are left of [`BYTES_MAX`].
    bytes_left: usize,
}

impl<'a> Reader<'a> {
    fn all(&mut self) -> Vec<Webhook> {
        let mut found: Vec<Webhook> = Vec::new();
        if !self.document.is_object() {
            self.wrong("must be an OpenAPI document, which is an object");
            return found;
        }
        // Documents of OpenAPI 3.0 have the second.
        let sections = ["webhooks", "x-webhooks"];
        let document = self.document;
        let present = sections.map(|section| (section, document.get(section)));
        if present.iter().all(|(_, items)| items.is_none()) {
            self.wrong("has no webhooks");
        }
        for (section, items) in present {
            let Some(items) = items else { continue };
            self.within(section, |reader| {
                let Some(items) = items.as_object() else {
                    return reader.wrong("must be an object");
                };
                if found.len() + items.len() > WEBHOOKS_MAX {
                    return reader.wrong(format!("may have at most {WEBHOOKS_MAX} webhooks"));
                }
                for (key, item) in items {
                    let webhook = reader.within(key, |reader| reader.webhook(key, item));
                    let Some(webhook) = webhook else { continue };
                    if found.iter().any(|one| one.name == webhook.name) {
                        let message = format!("is the second with the name {}", webhook.name);
                        reader.within(key, |reader| reader.wrong(message));
                        continue;
                    }
                    found.push(webhook);
                }
            });
        }
        found
    }

    fn webhook(&mut self, key: &str, item: &'a Value) -> Option<Webhook> {
        let item = self.object(item)?;
        let Some((method, operation)) = METHODS
            .into_iter()
            .find_map(|method| Some((method, item.get(method)?)))
        else {
            self.wrong("has no operation, such as post");
            return None;
        };
        self.within(method, |reader| reader.operation(key, item, operation))
    }

    fn operation(
        &mut self,
        key: &str,
        item: &'a Map<String, Value>,
        operation: &'a Value,
    ) -> Option<Webhook> {
        let operation = self.object(operation)?;
        // The operation's field counts, else the webhook's.
        let field = |name: &str| operation.get(name).or_else(|| item.get(name));
        let text = |name: &str| field(name).and_then(Value::as_str);
        let name = self.name(key, text("operationId"))?;
        let description = text("description").or(text("summary")).unwrap_or_default();
        self.check("description", |problems, place| {
            check_description(problems, place, description);
        });
        let group_name = text("x-svix-group-name").map(str::to_owned);
        if let Some(group) = &group_name {
            self.check("x-svix-group-name", |problems, place| {
                problems.add_if(place, name_problem(group, GROUP_NAME_MAX));
            });
        }
        let feature_flags = self.feature_flags(field);
        let content = operation
            .get("requestBody")
            .and_then(|body| self.within("requestBody", |reader| reader.content(body)));
        let (schema, example) = content.unwrap_or_default();
        Some(Webhook {
            name,
            description: description.to_owned(),
            deprecated: field("deprecated").and_then(Value::as_bool) == Some(true),
            group_name,
            feature_flags,
            schema,
            example,
        })
    }

    /// Returns the event type's name: the webhook's key, or its `operationId` where only that can
    /// be a name.
    fn name(&mut self, key: &str, operation_id: Option<&str>) -> Option<String> {
        let problem = registered_name_problem(key);
        let is_name = |id: &&str| registered_name_problem(id).is_none();
        match (problem, operation_id.filter(is_name)) {
            (None, _) => Some(key.to_owned()),
            (Some(_), Some(id)) => Some(id.to_owned()),
            (Some(problem), None) => {
                self.wrong(format!(
                    "has a key that is not an event type's name: it {problem}"
                ));
                None
            }
        }
    }

    fn feature_flags(&mut self, field: impl Fn(&str) -> Option<&'a Value>) -> Vec<String> {
        const LIST: &str = "x-svix-feature-flags";
        const ONE: &str = "x-svix-feature-flag";
        let (name, flags) = match (field(LIST), field(ONE)) {
            (Some(Value::Array(flags)), _) => (LIST, flags.iter().map(Value::as_str).collect()),
            (None, Some(Value::String(flag))) => (ONE, vec![Some(flag.as_str())]),
            (None, None) => return Vec::new(),
            (list, _) => (if list.is_some() { LIST } else { ONE }, vec![None]),
        };
        let texts: Option<Vec<String>> = flags.iter().map(|one| one.map(str::to_owned)).collect();
        self.check(name, |problems, place| match &texts {
            Some(texts) => check_feature_flags(problems, place, texts),
            None => problems.add(place, "must be text, or a list of texts"),
        });
        texts.unwrap_or_default()
    }

    /// The schema and the example of a request body.
    fn content(&mut self, body: &'a Value) -> Option<(Option<Value>, Option<Value>)> {
        let body = self.object(body)?;
        let content = body.get("content")?;
        self.within("content", |reader| {
            let content = reader.object(content)?;
            let json = content.iter().find(|(name, _)| name.contains("json"));
            let (name, media) = json.or_else(|| content.iter().next())?;
            reader.within(name, |reader| {
                let media = reader.object(media)?;
                let schema = media
                    .get("schema")
                    .and_then(|schema| reader.within("schema", |reader| reader.schema(schema)));
                Some((schema, reader.example(media)))
            })
        })
    }

    /// The first example that is an object, as payloads are.
    fn example(&mut self, media: &'a Map<String, Value>) -> Option<Value> {
        let first = || media.get("examples")?.as_object()?.iter().next();
        let example = match (media.get("example"), first()) {
            (Some(example), _) => example,
            (None, Some((name, example))) => self.within("examples", |reader| {
                reader
                    .within(name, |reader| reader.object(example))?
                    .get("value")
            })?,
            (None, None) => return None,
        };
        let text = example.is_object().then(|| example.to_string())?;
        if !self.takes(text.len()) {
            return None;
        }
        let max = self.example_bytes_max;
        self.check("example", |problems, place| {
            problems.add_if(place, example_problem(&text, max));
        });
        Some(example.clone())
    }

    /// A schema with all that it refers to.
    fn schema(&mut self, schema: &'a Value) -> Option<Value> {
        let mut whole = match self.resolved(schema)? {
            Value::Bool(true) => Value::Object(Map::new()),
            schema @ Value::Object(_) => schema.clone(),
            _ => {
                self.wrong("must be a JSON schema, which is an object");
                return None;
            }
        };
        let mut names = Names::default();
        if let Some(own) = whole.get("$defs").and_then(Value::as_object) {
            names.taken.extend(own.keys().cloned());
        }
        self.rename_references(&mut whole, false, &mut names)?;
        let mut definitions = Map::new();
        while let Some((pointer, name)) = names.to_do.pop_front() {
            let Some(target) = self.document.pointer(&pointer) else {
                self.wrong(format!("refers to #{pointer}, which is not there"));
                return None;
            };
            let mut target = target.clone();
            self.rename_references(&mut target, false, &mut names)?;
            definitions.insert(name, target);
        }
        if !definitions.is_empty()
            && let Some(whole) = whole.as_object_mut()
        {
            match whole.get_mut("$defs").and_then(Value::as_object_mut) {
                Some(own) => own.extend(definitions),
                None => drop(whole.insert("$defs".to_owned(), Value::Object(definitions))),
            }
        }
        let problems = schemas_problems(&serde_json::json!({ "1": whole }).to_string());
        if problems.is_empty() {
            return Some(whole);
        }
        for (place, message) in problems {
            // Behind the version.
            match place.get(1..).unwrap_or_default() {
                [] => self.wrong(message),
                place => self.wrong(format!("{}: {message}", place.join("."))),
            }
        }
        None
    }

    /// Makes references point into `$defs`, and collects the schemas that must be there. `by_name`:
    /// the document's author named the members of this object.
    fn rename_references(
        &mut self,
        value: &mut Value,
        by_name: bool,
        names: &mut Names,
    ) -> Option<()> {
        let bytes = match value {
            Value::String(text) => text.len() + 2,
            Value::Object(fields) => 2 + fields.keys().map(|key| key.len() + 4).sum::<usize>(),
            _ => 4,
        };
        if !self.takes(bytes) {
            return None;
        }
        match value {
            Value::Array(items) => {
                for item in items {
                    self.rename_references(item, false, names)?;
                }
            }
            Value::Object(fields) => {
                for (key, field) in fields {
                    match (key.as_str(), field) {
                        ("$ref", Value::String(reference)) if !by_name => {
                            *reference = self.renamed(reference, names)?;
                        }
                        ("discriminator", Value::Object(field)) if !by_name => {
                            let mapping = field.get_mut("mapping").and_then(Value::as_object_mut);
                            for reference in mapping.into_iter().flat_map(Map::values_mut) {
                                if let Value::String(reference) = reference
                                    && reference.starts_with("#/")
                                {
                                    *reference = self.renamed(reference, names)?;
                                }
                            }
                        }
                        (key, field) if !by_name && DATA.contains(&key) => {
                            if !self.takes(field.to_string().len()) {
                                return None;
                            }
                        }
                        (key, field) => {
                            let by_name = !by_name && NAMED_SCHEMAS.contains(&key);
                            self.rename_references(field, by_name, names)?;
                        }
                    }
                }
            }
            _ => {}
        }
        Some(())
    }

    fn renamed(&mut self, reference: &str, names: &mut Names) -> Option<String> {
        let pointer = self.pointer(reference)?;
        let name = names.of(pointer);
        Some(format!("#/$defs/{name}"))
    }

    /// The place in this document that a reference names.
    fn pointer(&mut self, reference: &str) -> Option<String> {
        let pointer = reference
            .strip_prefix('#')
            .filter(|pointer| pointer.is_empty() || pointer.starts_with('/'))
            .and_then(|pointer| percent_decode_str(pointer).decode_utf8().ok());
        if pointer.is_none() {
            self.wrong(format!(
                "refers to {reference}: only references into the document itself are followed"
            ));
        }
        pointer.map(|pointer| pointer.into_owned())
    }

    /// Follows references from this value to one that is not a reference.
    fn resolved(&mut self, value: &'a Value) -> Option<&'a Value> {
        let mut value = value;
        for _ in 0..REFERENCES_MAX {
            let Some(reference) = value.get("$ref").and_then(Value::as_str) else {
                return Some(value);
            };
            let pointer = self.pointer(reference)?;
            let document = self.document;
            let Some(target) = document.pointer(&pointer) else {
                self.wrong(format!("refers to {reference}, which is not there"));
                return None;
            };
            value = target;
        }
        self.wrong("refers to itself");
        None
    }

    fn object(&mut self, value: &'a Value) -> Option<&'a Map<String, Value>> {
        let object = self.resolved(value)?.as_object();
        if object.is_none() {
            self.wrong("must be an object");
        }
        object
    }

    /// Takes so many bytes; returns whether there was room for them.
    fn takes(&mut self, bytes: usize) -> bool {
        if self.bytes_left == 0 {
            return false; // Which was said before.
        }
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        if self.bytes_left == 0 {
            let message = "is where schemas and examples, with all that they refer to, come to \
                           more than";
            self.wrong(format!("{message} {BYTES_MAX} bytes"));
        }
        self.bytes_left > 0
    }

    fn within<T>(&mut self, part: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        self.place.push(part.to_owned());
        let read = read(self);
        self.place.pop();
        read
    }

    fn check(&mut self, part: &str, check: impl FnOnce(&mut Problems, &[&str])) {
        let place = self.place.iter().map(String::as_str).chain([part]);
        check(self.problems, &place.collect::<Vec<&str>>());
    }

    fn wrong(&mut self, message: impl Into<String>) {
        let place: Vec<&str> = self.place.iter().map(String::as_str).collect();
        self.problems.add(&place, message);
    }
}

/// Names in `$defs` for places in the document.
#[derive(Default)]
struct Names {
    by_pointer: BTreeMap<String, String>,
    taken: Vec<String>,
    to_do: VecDeque<(String, String)>,
}

impl Names {
    fn of(&mut self, pointer: String) -> String {
        if let Some(name) = self.by_pointer.get(&pointer) {
            return name.clone();
        }
        let last = pointer.rsplit('/').next().unwrap_or_default();
        // These characters need no escaping in a reference.
        let is_plain = |byte: char| byte.is_ascii_alphanumeric() || "-_.".contains(byte);
        let plain: String = last.chars().filter(|one| is_plain(*one)).collect();
        let mut name = plain.clone();
        let mut number = 1;
        while name.is_empty() || self.taken.contains(&name) {
            number += 1;
            name = format!("{plain}{number}");
        }
        self.taken.push(name.clone());
        self.by_pointer.insert(pointer.clone(), name.clone());
        self.to_do.push_back((pointer, name.clone()));
        name
    }
}

#[cfg(test)]
mod tests;
