use super::*;
use crate::api::foreign::ocrolus;
use crate::api::kit::operation::BytesMax;
use crate::api::operations;
use actix_web::http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

fn all() -> Vec<Operation> {
    let mut all = operations(BytesMax {
        message: 0,
        batch: 0,
    });
    all.extend(ocrolus::operations());
    all
}

/// Calls `look` with every object in a document, and where it is.
fn walk(value: &Value, place: &str, look: &mut dyn FnMut(&str, &Map<String, Value>)) {
    match value {
        Value::Object(fields) => {
            look(place, fields);
            for (key, value) in fields {
                walk(value, &format!("{place}/{key}"), look);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                walk(value, &format!("{place}/{index}"), look);
            }
        }
        _ => {}
    }
}

#[test]
fn every_operation_is_in_the_document_once() {
    let operations = all();
    let document = document(&operations);
    let paths = document["paths"].as_object().unwrap();
    let count: usize = paths
        .values()
        .map(|one| one.as_object().unwrap().len())
        .sum();
    assert_eq!(count, operations.len(), "two with the same method and path");
    let ids: BTreeSet<&str> = operations.iter().map(|one| one.id).collect();
    assert_eq!(ids.len(), operations.len(), "two with the same id");
}

#[test]
fn every_operation_is_described() {
    let mut wrong = Vec::new();
    let tags = TAGS.map(|(name, _)| name);
    for operation in all() {
        let mut note = |what: String| wrong.push(format!("{}: {what}", operation.id));
        if operation.summary.is_empty() || operation.summary.ends_with('.') {
            note("needs a summary without a full stop".to_owned());
        }
        if !tags.contains(&tag(&operation).as_str()) {
            note(format!("{} is not one of the sections", tag(&operation)));
        }
        let ends_well = |answer: &AnswerSpec| (200..400).contains(&answer.status);
        if !operation.answers.iter().any(ends_well) {
            note("has no answer but errors".to_owned());
        }
        for answer in &operation.answers {
            let has_body = answer.content.is_some();
            match answer.status {
                200..=203 if !has_body => note(format!("{} needs a body", answer.status)),
                204 | 304 if has_body => note(format!("{} has no body", answer.status)),
                _ => {}
            }
            if answer.says.is_empty() {
                note(format!("{} says nothing", answer.status));
            }
        }
        for part in path_parts(operation.path) {
            if !PATH_PARTS.iter().any(|(name, _)| *name == part) {
                note(format!("{{{part}}} is not described"));
            }
        }
        for parameter in &operation.parameters {
            let known_place = ["query", "header"].contains(&parameter.place);
            if parameter.says.is_empty() || !known_place || parameter.schema.get("type").is_none() {
                note(format!("the parameter {} is not described", parameter.name));
            }
        }
        let writes = [Method::PUT, Method::PATCH].contains(&operation.method);
        let all_in_path = [
            "v1.token.grant",
            "v1.token.grant-application",
            "v1.statistics.aggregate-event-types",
        ];
        if writes && operation.takes.is_empty() && !all_in_path.contains(&operation.id) {
            note("takes no body".to_owned());
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_reference_leads_somewhere_and_every_schema_is_referred_to() {
    let document = document(&all());
    let mut unused: BTreeSet<&str> = document["components"]["schemas"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let mut broken = Vec::new();
    walk(&document, "", &mut |place, fields| {
        let Some(reference) = fields.get("$ref").and_then(Value::as_str) else {
            return;
        };
        let target = reference
            .strip_prefix('#')
            .map(|path| document.pointer(path));
        match target {
            Some(Some(_)) => {
                unused.remove(reference.rsplit('/').next().unwrap());
            }
            _ => broken.push(format!("{place}: {reference}")),
        }
    });
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(unused.is_empty(), "{unused:?}");
}

#[test]
fn names_and_descriptions_are_for_users() {
    let document = document(&all());
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for name in schemas.keys() {
        let is_a_second = name.ends_with(|last: char| last.is_ascii_digit());
        assert!(!is_a_second, "{name}: two types with this name; rename one");
    }
    let mut wrong = Vec::new();
    walk(&document, "", &mut |place, fields| {
        if let Some(text) = fields.get("description").and_then(Value::as_str)
            && (text.contains("[`") || text.contains("Self::"))
        {
            wrong.push(format!("{place}: {text}"));
        }
        let pattern = fields.get("pattern").and_then(Value::as_str);
        if pattern.is_some_and(|pattern| !pattern.starts_with('^') || !pattern.ends_with('$')) {
            wrong.push(format!("{place}: a pattern of parts: {pattern:?}"));
        }
        if let Some(Value::Array(required)) = fields.get("required") {
            for name in required {
                if fields["properties"].get(name.as_str().unwrap()).is_none() {
                    wrong.push(format!("{place}: {name} is required and not there"));
                }
            }
        }
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Looks different where it is read and where it is written, as does what has it.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Both {
    #[serde(default)]
    size: u32,
    /// Over two
    /// lines.
    #[serde(default)]
    note: Option<String>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Holder {
    both: Both,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Same {
    name: String,
}

#[test]
fn a_type_that_is_taken_and_answered_has_two_schemas_where_they_differ() {
    let route = actix_web::web::to(async || "");
    let operation = Operation::post("/a/{app_id}", "v1.application.test", route)
        .takes::<(Holder, Same)>()
        .answers::<(Holder, Same)>(200, "Done");
    let document = document(&[operation]);
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let names: Vec<&String> = schemas.keys().collect();
    let expected = [
        "Both",
        "BothOut",
        "HTTPValidationError",
        "Holder",
        "HolderOut",
        "HttpError",
        "Same",
        "ValidationError",
    ];
    assert_eq!(names, expected);
    let reference = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    assert_eq!(schemas["Holder"]["properties"]["both"], reference("Both"));
    assert_eq!(
        schemas["HolderOut"]["properties"]["both"],
        reference("BothOut")
    );
    assert_eq!(schemas["BothOut"]["required"], json!(["size", "note"]));
    let both = json!({
        "type": "object",
        "properties": {
            "size": { "type": "integer", "minimum": 0, "default": 0 },
            "note": { "type": ["string", "null"], "description": "Over two lines." },
        },
        "description": schemas["Both"]["description"],
    });
    assert_eq!(schemas["Both"], both);
    let operation = &document["paths"]["/a/{app_id}"]["post"];
    let answered = &operation["responses"]["200"]["content"]["application/json"]["schema"];
    assert_eq!(answered["prefixItems"][0], reference("HolderOut"));
    let taken = &operation["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(
        taken["prefixItems"],
        json!([reference("Holder"), reference("Same")])
    );
}

/// The contract, of which HEAD is left out: it goes wherever GET goes. Method, path, id, then the
/// parameters and, behind dots, the fields of the body; `idempotency-key` where it is honoured.
/// Calls that answer with a secret do not honour it.
const CONTRACT: [&str; 41] = [
    "GET /api/v1/app v1.application.list limit iterator order",
    "POST /api/v1/app v1.application.create get_if_exists idempotency-key .metadata .name .throttleRate .uid",
    "DELETE /api/v1/app/{app_id} v1.application.delete",
    "GET /api/v1/app/{app_id} v1.application.get",
    "PATCH /api/v1/app/{app_id} patch_application .metadata .name .throttleRate .uid",
    "PUT /api/v1/app/{app_id} v1.application.update .metadata .name .throttleRate .uid",
    "GET /api/v1/app/{app_id}/attempt/endpoint/{endpoint_id} v1.message-attempt.list-by-endpoint limit iterator status status_code_class channel before after with_content event_types",
    "GET /api/v1/app/{app_id}/attempt/msg/{msg_id} v1.message-attempt.list-by-msg limit iterator status status_code_class channel endpoint_id before after with_content event_types",
    "GET /api/v1/app/{app_id}/endpoint v1.endpoint.list limit iterator order",
    "POST /api/v1/app/{app_id}/endpoint v1.endpoint.create idempotency-key .channels .description .disabled .eventTypes .metadata .secret .throttleRate .uid .url",
    "DELETE /api/v1/app/{app_id}/endpoint/{endpoint_id} v1.endpoint.delete",
    "GET /api/v1/app/{app_id}/endpoint/{endpoint_id} v1.endpoint.get",
    "PATCH /api/v1/app/{app_id}/endpoint/{endpoint_id} patch_endpoint .channels .description .disabled .eventTypes .metadata .throttleRate .uid .url",
    "PUT /api/v1/app/{app_id}/endpoint/{endpoint_id} v1.endpoint.update .channels .description .disabled .eventTypes .metadata .throttleRate .uid .url",
    "GET /api/v1/app/{app_id}/endpoint/{endpoint_id}/headers v1.endpoint.get-headers",
    "PATCH /api/v1/app/{app_id}/endpoint/{endpoint_id}/headers v1.endpoint.patch-headers .headers",
    "PUT /api/v1/app/{app_id}/endpoint/{endpoint_id}/headers v1.endpoint.update-headers .headers",
    "GET /api/v1/app/{app_id}/endpoint/{endpoint_id}/msg v1.message-attempt.list-attempted-messages limit iterator channel status before after with_content event_types",
    "POST /api/v1/app/{app_id}/endpoint/{endpoint_id}/recover v1.endpoint.recover idempotency-key .since .until",
    "GET /api/v1/app/{app_id}/endpoint/{endpoint_id}/secret v1.endpoint.get-secret",
    "POST /api/v1/app/{app_id}/endpoint/{endpoint_id}/secret/rotate v1.endpoint.rotate-secret .gracePeriodSeconds .key",
    "POST /api/v1/app/{app_id}/endpoint/{endpoint_id}/send-example v1.endpoint.send-example idempotency-key .eventType",
    "GET /api/v1/app/{app_id}/endpoint/{endpoint_id}/stats v1.endpoint.get-stats since until",
    "GET /api/v1/app/{app_id}/msg v1.message.list limit iterator channel before after with_content event_types",
    "POST /api/v1/app/{app_id}/msg v1.message.create with_content idempotency-key .application .channels .eventId .eventType .payload .payloadRetentionPeriod",
    "GET /api/v1/app/{app_id}/msg/{msg_id} v1.message.get with_content",
    "GET /api/v1/app/{app_id}/msg/{msg_id}/attempt/{attempt_id} v1.message-attempt.get",
    "DELETE /api/v1/app/{app_id}/msg/{msg_id}/attempt/{attempt_id}/content v1.message-attempt.expunge-content",
    "DELETE /api/v1/app/{app_id}/msg/{msg_id}/content v1.message.expunge-content",
    "GET /api/v1/app/{app_id}/msg/{msg_id}/endpoint v1.message-attempt.list-attempted-destinations limit iterator",
    "POST /api/v1/app/{app_id}/msg/{msg_id}/endpoint/{endpoint_id}/resend v1.message-attempt.resend idempotency-key",
    "POST /api/v1/auth/app-portal-access/{app_id} v1.authentication.app-portal-access .application .featureFlags",
    "POST /api/v1/auth/logout logout_api_v1_auth_logout__post",
    "GET /api/v1/event-type v1.event-type.list limit iterator order include_archived with_content",
    "POST /api/v1/event-type v1.event-type.create idempotency-key .archived .deprecated .description .featureFlag .name .schemas",
    "DELETE /api/v1/event-type/{event_type_name} v1.event-type.delete expunge",
    "GET /api/v1/event-type/{event_type_name} v1.event-type.get",
    "PATCH /api/v1/event-type/{event_type_name} patch_event_type .archived .deprecated .description .featureFlag .schemas",
    "PUT /api/v1/event-type/{event_type_name} v1.event-type.update .archived .deprecated .description .featureFlag .schemas",
    "GET /api/v1/health v1.health.get",
    "GET /api/v1/health/ping v1.health.ping",
];

/// The names of a body's fields.
fn body_fields(document: &Value, operation: &Value) -> Vec<String> {
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    let schema = match schema["$ref"].as_str() {
        Some(reference) => document.pointer(&reference[1..]).unwrap(),
        None => schema,
    };
    let fields = schema["properties"].as_object().into_iter();
    fields.flat_map(|fields| fields.keys().cloned()).collect()
}

#[test]
fn the_whole_contract_is_in_the_document() {
    let document = document(&all());
    let mut missing = Vec::new();
    let mut wrong = Vec::new();
    for line in CONTRACT {
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap();
        let (method, path, id) = (word().to_ascii_lowercase(), word(), word());
        let operation = &document["paths"][path][method];
        if operation.is_null() {
            missing.push(id);
            continue;
        }
        if operation["operationId"] != id {
            wrong.push(format!("{id}: is called {}", operation["operationId"]));
        }
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let parameters: Vec<&Value> = parameters.map(|parameter| &parameter["name"]).collect();
        let fields = body_fields(&document, operation);
        for name in words {
            let is_there = match name.strip_prefix('.') {
                Some(field) => fields.iter().any(|one| one == field),
                None => parameters.iter().any(|one| *one == name),
            };
            if !is_there {
                wrong.push(format!("{id}: has no {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(missing.is_empty(), "missing: {missing:#?}");
}
