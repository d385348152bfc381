use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::error::Error;

fn read(document: &Value) -> Result<Vec<Webhook>, Vec<(String, String)>> {
    let mut problems = Problems::default();
    let webhooks = webhooks(document, &mut problems, &["body", "spec"], 100);
    match problems.done() {
        Ok(()) => Ok(webhooks),
        Err(Error::Invalid(problems)) => Err(problems
            .into_iter()
            .map(|one| (one.location.join("."), one.message))
            .collect()),
        Err(other) => panic!("{other}"),
    }
}

fn with_schema(schema: Value, components: Value) -> Value {
    json!({
        "openapi": "3.1.0",
        "webhooks": {"a": {"post": {"requestBody": {"content": {"application/json":
            {"schema": schema}}}}}},
        "components": {"schemas": components},
    })
}

#[test]
fn a_webhook_becomes_an_event_type_with_all_that_is_known_of_it() {
    let webhooks = read(&json!({
        "openapi": "3.1.0",
        "webhooks": {
            "order.created": {"post": {
                "operationId": "onOrder",
                "summary": "short",
                "description": "An order came.",
                "deprecated": true,
                "x-svix-group-name": "orders",
                "x-svix-feature-flags": ["beta", "new"],
                "requestBody": {"$ref": "#/components/requestBodies/Order"},
            }},
            "not a name!": {"post": {"operationId": "order.paid", "summary": "Paid",
                "x-svix-feature-flag": "beta"}},
        },
        "x-webhooks": {"old": {"$ref": "#/components/pathItems/Old"}},
        "components": {
            "requestBodies": {"Order": {"content": {
                "application/xml": {"schema": {"type": "string"}},
                "application/json": {
                    "schema": {"type": "object"},
                    "examples": {"first": {"$ref": "#/components/examples/One"}},
                },
            }}},
            "examples": {"One": {"value": {"id": 1}}},
            "pathItems": {"Old": {"description": "of the item", "put": {}}},
        },
    }));
    let plain = |name: &str, description: &str| Webhook {
        name: name.to_owned(),
        description: description.to_owned(),
        deprecated: false,
        group_name: None,
        feature_flags: Vec::new(),
        schema: None,
        example: None,
    };
    let mut paid = plain("order.paid", "Paid");
    paid.feature_flags = vec!["beta".to_owned()];
    let order = Webhook {
        deprecated: true,
        group_name: Some("orders".to_owned()),
        feature_flags: vec!["beta".to_owned(), "new".to_owned()],
        schema: Some(json!({"type": "object"})),
        example: Some(json!({"id": 1})),
        ..plain("order.created", "An order came.")
    };
    assert_eq!(
        webhooks.expect("it is right"),
        [paid, order, plain("old", "of the item")]
    );
}

#[test]
fn a_schema_takes_along_what_it_refers_to() {
    let document = with_schema(
        json!({"$ref": "#/components/schemas/Node"}),
        json!({
            "Node": {"type": "object", "properties": {
                "next": {"$ref": "#/components/schemas/Node"},
                "owner": {"$ref": "#/components/schemas/a~1b%20c"},
                // A name, not a keyword; and data, not a reference.
                "$ref": {"type": "string", "example": {"$ref": "#/nowhere"}},
                "enum": {"$ref": "#/components/schemas/Deep"},
            }},
            "a/b c": {"type": "string"},
            "Deep": {"oneOf": [{"$ref": "#/components/schemas/Node"}],
                "discriminator": {"propertyName": "x",
                    "mapping": {"n": "#/components/schemas/Node", "m": "Node"}}},
            "Unused": {},
        }),
    );
    let webhooks = read(&document).expect("it is right");
    let node = |extra: Value| {
        let mut node = json!({"type": "object", "properties": {
            "next": {"$ref": "#/$defs/Node"},
            "owner": {"$ref": "#/$defs/a1bc"},
            "$ref": {"type": "string", "example": {"$ref": "#/nowhere"}},
            "enum": {"$ref": "#/$defs/Deep"},
        }});
        if !extra.is_null() {
            node["$defs"] = extra;
        }
        node
    };
    let defs = json!({
        "Node": node(Value::Null),
        "a1bc": {"type": "string"},
        "Deep": {"oneOf": [{"$ref": "#/$defs/Node"}],
            "discriminator": {"propertyName": "x",
                "mapping": {"n": "#/$defs/Node", "m": "Node"}}},
    });
    assert_eq!(webhooks[0].schema, Some(node(defs)));
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let at = "body.spec.webhooks.a.post.requestBody.content.application/json.schema";
    let schema = |schema| {
        with_schema(
            schema,
            json!({"Loop": {"$ref": "#/components/schemas/Loop"}}),
        )
    };
    for (document, place) in [
        (json!([]), "body.spec"),
        (json!({"openapi": "3.1.0"}), "body.spec"),
        (json!({"webhooks": []}), "body.spec.webhooks"),
        (json!({"webhooks": {"a": 1}}), "body.spec.webhooks.a"),
        (json!({"webhooks": {"a": {}}}), "body.spec.webhooks.a"),
        (
            json!({"webhooks": {"a b": {"post": {}}}}),
            "body.spec.webhooks.a b.post",
        ),
        (
            json!({"webhooks": {"a": {"post": 1}}}),
            "body.spec.webhooks.a.post",
        ),
        (
            json!({"webhooks": {"a": {"post": {}}, "a b": {"post": {"operationId": "a"}}}}),
            "body.spec.webhooks.a b",
        ),
        (
            json!({"webhooks": {"a": {"post": {"x-svix-feature-flags": 1}}}}),
            "body.spec.webhooks.a.post.x-svix-feature-flags",
        ),
        (
            json!({"webhooks": {"a": {"post": {"x-svix-group-name": "a b"}}}}),
            "body.spec.webhooks.a.post.x-svix-group-name",
        ),
        (
            json!({"webhooks": {"a": {"post": {"description": "\u{0}"}}}}),
            "body.spec.webhooks.a.post.description",
        ),
        (schema(json!([])), at),
        (schema(json!({"$ref": "#/components/schemas/Loop"})), at),
        (schema(json!({"$ref": "#/components/schemas/Gone"})), at),
        (
            schema(json!({"items": {"$ref": "#/components/schemas/Gone"}})),
            at,
        ),
        (schema(json!({"items": {"$ref": "other.yaml#/A"}})), at),
    ] {
        let problems = read(&document).expect_err("something is wrong");
        assert_eq!(problems[0].0, place, "{document} {problems:?}");
    }
}

#[test]
fn what_references_come_to_is_bounded() {
    let long = "x".repeat(100_000);
    let webhook = json!({"post": {"requestBody": {"content": {"application/json":
        {"schema": {"items": {"$ref": "#/components/schemas/Long"}}}}}}});
    let webhooks: Map<String, Value> = (0..100)
        .map(|number| (format!("w{number}"), webhook.clone()))
        .collect();
    let document = json!({"webhooks": webhooks,
        "components": {"schemas": {"Long": {"description": long}}}});
    let problems = read(&document).expect_err("it is too much");
    assert_eq!(problems.len(), 1, "it is said once");
    assert!(problems[0].1.contains("4194304"), "{problems:?}");
}

fn any_json() -> impl Strategy<Value = Value> {
    let words = [
        "webhooks",
        "x-webhooks",
        "post",
        "requestBody",
        "content",
        "application/json",
        "schema",
        "$ref",
        "#/webhooks",
        "#/components/a",
        "#",
        "components",
        "a",
        "properties",
        "$defs",
        "discriminator",
        "mapping",
        "examples",
        "example",
        "value",
        "x-svix-feature-flags",
    ];
    let word = prop::sample::select(words.to_vec());
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(8, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((word.clone(), inner), 0..6).prop_map(|fields| {
                Value::Object(
                    fields
                        .into_iter()
                        .map(|(key, value)| (key.to_owned(), value))
                        .collect(),
                )
            }),
        ]
    })
}

proptest! {
    #[test]
    fn no_document_makes_the_reader_panic(document in any_json(), inner in any_json()) {
        let _ = read(&document);
        let _ = read(&json!({"webhooks": {"a": {"post": inner.clone()}}, "components": {"a": inner}}));
    }

    #[test]
    fn what_is_read_has_names_and_schemas_that_can_be_kept(inner in any_json()) {
        let document = with_schema(inner.clone(), json!({"a": inner}));
        for webhook in read(&document).unwrap_or_default() {
            prop_assert!(registered_name_problem(&webhook.name).is_none());
            prop_assert!(webhook.schema.is_none_or(|schema| schema.is_object()));
        }
    }
}
