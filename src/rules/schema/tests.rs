use std::time::Instant;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// That of a publish, in nanoseconds of a release build.
const BUDGET_NANOS: u64 = 5_000_000;

fn compiled(schema: &Value) -> Compiled {
    Compiled::of(&schema.to_string()).unwrap_or_else(|problems| panic!("{schema}: {problems:?}"))
}

fn fit(schema: &Value, payload: &Value) -> Fit {
    compiled(schema).fit(payload, &mut { BUDGET_NANOS })
}

fn misfits(schema: &Value, payload: &Value) -> Vec<String> {
    match fit(schema, payload) {
        Fit::Fits => Vec::new(),
        Fit::Misfits(misfits) => {
            let misfits = misfits.iter();
            misfits
                .map(|one| format!("{}: {}", one.place.join("."), one.message))
                .collect()
        }
        Fit::TooCostly => vec!["too costly".to_owned()],
    }
}

fn nested(depth: usize, mut leaf: Value) -> Value {
    for _ in 0..depth {
        leaf = json!({ "a": leaf });
    }
    leaf
}

#[test]
fn each_place_is_told_in_plain_words() {
    for (schema, payload, expected) in [
        (json!({}), json!({"a": 1}), vec![]),
        (json!({"type": "object"}), json!({}), vec![]),
        (
            json!({"properties": {"a": {"type": "string"}, "b": {"type": ["integer", "null"]}}}),
            json!({"a": 1, "b": "x"}),
            vec!["a: must be a string", "b: must be null or a whole number"],
        ),
        (
            json!({"required": ["a", "b"]}),
            json!({}),
            vec!["a: is required", "b: is required"],
        ),
        (
            json!({"properties": {"a": {}}, "additionalProperties": false}),
            json!({"a": 1, "b/c": 2}),
            vec!["b/c: is not in the schema, which allows no other members"],
        ),
        (
            json!({"additionalProperties": false}),
            json!({"a": 1}),
            vec![": has a member, and the schema allows none"],
        ),
        (
            json!({"properties": {"a": {"items": {"minimum": 3, "maximum": 4}}}}),
            json!({"a": [1, 3, 7]}),
            vec!["a.0: must be at least 3", "a.2: must be at most 4"],
        ),
        (
            json!({"properties": {"a": {"enum": ["x", 1]}, "b": {"const": {"c": 1}}}}),
            json!({"a": "secret", "b": 1}),
            vec!["a: must be one of \"x\", 1", "b: must be {\"c\":1}"],
        ),
        (
            json!({"properties": {"a": {"pattern": "^[a-z]+$", "maxLength": 2}}}),
            json!({"a": "ABC"}),
            vec![
                "a: must have at most 2 characters",
                "a: must match the pattern ^[a-z]+$",
            ],
        ),
        (
            json!({"properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}, "b": {"not": {}}}}),
            json!({"a": 1, "b": 1}),
            vec![
                "a: fits none of the schemas in anyOf",
                "b: fits the schema in not, and may not",
            ],
        ),
        (
            json!({"properties": {"a": {"uniqueItems": true, "minItems": 3}}}),
            json!({"a": [1, 1]}),
            vec![
                "a: must have at least 3 items",
                "a: must not have two items that are the same",
            ],
        ),
        // Annotations only.
        (
            json!({"properties": {"a": {"format": "email"}}}),
            json!({"a": "no mail"}),
            vec![],
        ),
        (
            json!({"$schema": "http://json-schema.org/draft-04/schema#", "id": "http://example.com/x",
                   "definitions": {"p": {"minimum": 1, "exclusiveMinimum": true}},
                   "properties": {"a": {"$ref": "#/definitions/p"}}}),
            json!({"a": 1}),
            vec!["a: must be more than 1"],
        ),
        (
            json!({"$id": "https://example.com/y", "$defs": {"p": {"$anchor": "here", "type": "null"}},
                   "properties": {"a": {"$ref": "#here"}, "b": {"$ref": "#/$defs/p"}}}),
            json!({"a": 1, "b": 2}),
            vec!["a: must be null", "b: must be null"],
        ),
    ] {
        let mut found = misfits(&schema, &payload);
        found.sort_unstable();
        assert_eq!(found, expected, "{schema} {payload}");
    }
    let many: Vec<u32> = (0..100).collect();
    let all = misfits(
        &json!({"properties": {"a": {"items": {"type": "string"}}}}),
        &json!({"a": many}),
    );
    assert_eq!(all.len(), MISFITS_MAX);
}

#[test]
fn a_schema_whose_price_has_no_bound_is_refused_at_its_place() {
    let doubling = |levels: usize| {
        let mut defs = serde_json::Map::new();
        for level in 0..levels {
            let next = json!({"$ref": format!("#/$defs/d{}", level + 1)});
            defs.insert(format!("d{level}"), json!({"allOf": [next, next]}));
        }
        defs.insert(format!("d{levels}"), json!({}));
        json!({"$ref": "#/$defs/d0", "$defs": defs, "unevaluatedProperties": false})
    };
    let members: serde_json::Map<String, Value> = (0..2000)
        .map(|number| (format!("m{number}"), json!({})))
        .collect();
    for (schema, place) in [
        (json!({"$ref": "https://example.com/a.json"}), "$ref"),
        (
            json!({"properties": {"a": {"$ref": "other.json#/a"}}}),
            "properties.a.$ref",
        ),
        (json!({"$ref": "#/enum/0", "enum": [{}]}), "$ref"),
        (json!({"$ref": "#nowhere"}), "$ref"),
        (json!({"allOf": [{"$ref": "#"}]}), ""),
        (
            json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"not": {"$ref": "#/$defs/a"}}}}),
            "$defs.a",
        ),
        (
            json!({"properties": {"a": {"$id": "https://example.com/b"}}}),
            "properties.a.$id",
        ),
        (
            json!({"properties": {"a": {"pattern": "(?=b)a"}}}),
            "properties.a.pattern",
        ),
        (json!({"pattern": r"(a)\1"}), "pattern"),
        (json!({"pattern": "[ab]{1001}"}), "pattern"),
        (
            json!({"patternProperties": {"(([ab]{50}){50}){50}": {}}}),
            "patternProperties.(([ab]{50}){50}){50}",
        ),
        (json!({"$schema": "https://example.com/schema"}), ""),
        (json!({"properties": members}), ""),
        (doubling(30), ""),
        (json!({"$comment": "x".repeat(SCHEMA_BYTES_MAX)}), ""),
    ] {
        let problems = Compiled::of(&schema.to_string()).err().unwrap_or_default();
        let places: Vec<String> = problems.iter().map(|(place, _)| place.join(".")).collect();
        assert!(
            places.iter().any(|one| one == place),
            "{place}: {problems:?}"
        );
    }
}

/// The worst that was thought of, each with the worst payload for it. In a release build each stays within twice the
/// budget, on a machine that has other work, too; most take a hundredth of it. A debug build is slower.
#[test]
fn the_worst_schemas_end_within_the_budget() {
    let tries = |keyword: &str| {
        let next = json!({"properties": {"a": {"$ref": "#/$defs/n"}}, "required": ["x"]});
        json!({"$ref": "#/$defs/n", "$defs": {"n": {keyword: [next, next, {"type": "string"}]}}})
    };
    let mut chain = json!({});
    for _ in 0..60 {
        chain = json!({"allOf": [chain], "properties": {"a": {"$ref": "#"}}});
    }
    let mut looking = json!({"properties": {"x": true}});
    for level in 0..20 {
        let name = format!("p{level}");
        looking = json!({"anyOf": [looking, {"required": ["no"]}], "properties": {name: true},
                         "unevaluatedProperties": false});
    }
    let numbers: Vec<u32> = (0..100_000).collect();
    let lists: Vec<Value> = (0..15)
        .map(|number| json!([numbers[..3000], number]))
        .collect();
    let mut seed = 88_172_645_463_325_252_u64;
    let letters: String = (0..200_000)
        .map(|_| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            if seed.is_multiple_of(2) { 'a' } else { 'b' }
        })
        .collect();
    let texts: Vec<&str> = (0..1000)
        .map(|at| &letters[at * 200..at * 200 + 200])
        .collect();
    let members: serde_json::Map<String, Value> = (0..3000)
        .map(|number| (format!("k{number}"), json!([number, "text"])))
        .collect();
    let many: Vec<Value> = (0..500)
        .map(|number| json!({"required": [format!("q{number}")]}))
        .collect();
    let options: Vec<Value> = (0..2000)
        .map(|number| json!([[1, 2, 3, 4], number]))
        .collect();
    let at_a = |schema: Value| json!({"properties": {"a": schema}});
    for (name, schema, payload) in [
        (
            "anyOf that tries itself twice",
            tries("anyOf"),
            nested(100, json!(1)),
        ),
        ("the same a little", tries("anyOf"), nested(9, json!(1))),
        (
            "oneOf that tries itself twice",
            tries("oneOf"),
            nested(30, json!(1)),
        ),
        ("a chain at each depth", chain, nested(100, json!(1))),
        (
            "looking again and again",
            looking,
            json!({"x": 1, "p3": 1, "q": 1}),
        ),
        (
            "many items",
            at_a(json!({"items": {"type": "string"}})),
            json!({"a": numbers}),
        ),
        (
            "many items none of which is sought",
            at_a(json!({"contains": {"const": -1}})),
            json!({"a": numbers}),
        ),
        (
            "unique items",
            at_a(json!({"uniqueItems": true})),
            json!({"a": numbers}),
        ),
        (
            "unique items that are nearly the same",
            at_a(json!({"uniqueItems": true})),
            json!({"a": lists}),
        ),
        (
            "a pattern that is everywhere",
            at_a(json!({"pattern": "a[ab]{490}c"})),
            json!({"a": letters}),
        ),
        (
            "a pattern on many texts",
            at_a(json!({"items": {"pattern": "^(?:[ab]{0,20}a){0,20}c$"}})),
            json!({"a": texts}),
        ),
        (
            "members that fit nothing",
            json!({"anyOf": many}),
            Value::Object(members.clone()),
        ),
        (
            "members that miss much",
            json!({"allOf": many}),
            Value::Object(members),
        ),
        (
            "options",
            at_a(json!({"items": {"enum": options}})),
            json!({"a": vec![json!([[1, 2, 3, 4], 1999]); 2000]}),
        ),
        (
            "fractions",
            at_a(json!({"items": {"multipleOf": 1e-300}})),
            json!({"a": vec![1.234e300; 5000]}),
        ),
    ] {
        let schema = compiled(&schema);
        let times = (0..3).map(|_| {
            let begun = Instant::now();
            let fit = schema.fit(&payload, &mut { BUDGET_NANOS });
            assert_ne!(fit, Fit::Fits, "{name}");
            begun.elapsed()
        });
        let fastest = times.min().expect("there are three");
        let most = match cfg!(debug_assertions) {
            false => 2 * BUDGET_NANOS,
            true => 60 * BUDGET_NANOS,
        };
        assert!(fastest.as_nanos() < u128::from(most), "{name}: {fastest:?}");
    }
}

#[test]
fn calls_within_calls_fit_on_a_small_stack() {
    let mut chain = json!({"properties": {"a": {"$ref": "#"}}});
    for _ in 0..58 {
        chain = json!({"allOf": [chain]});
    }
    let mut long = serde_json::Map::new();
    for level in 0..900 {
        let next = json!({"properties": {"a": {"$ref": format!("#/$defs/d{}", level + 1)}}});
        long.insert(format!("d{level}"), next);
    }
    long.insert("d900".to_owned(), json!({}));
    let on_a_thread = std::thread::Builder::new()
        .stack_size(1 << 20)
        .spawn(move || {
            for depth in [3, 8, 9, 20, 100] {
                let found = misfits(&chain, &nested(depth, json!(1)));
                assert!(found.is_empty() || found == ["too costly"], "{found:?}");
            }
            let found = misfits(
                &json!({"$ref": "#/$defs/d0", "$defs": long}),
                &nested(120, json!(1)),
            );
            assert_eq!(found, [""; 0]);
        });
    on_a_thread.unwrap().join().unwrap();
}

fn schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({})),
        Just(json!(true)),
        Just(json!({"$ref": "#"})),
        Just(json!({"type": "string", "pattern": "^a+$"})),
        Just(json!({"type": ["object", "array"]})),
        Just(json!({"minimum": 1, "multipleOf": 0.5})),
        Just(json!({"enum": ["a", 1, null]})),
        Just(json!({"required": ["b"]})),
        Just(json!({"uniqueItems": true})),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let two = (inner.clone(), inner.clone());
        prop_oneof![
            (prop_oneof![Just("allOf"), Just("anyOf"), Just("oneOf")], two.clone())
                .prop_map(|(keyword, (one, other))| json!({keyword: [one, other]})),
            two.clone().prop_map(|(a, b)| json!({"properties": {"a": a, "b": b}})),
            two.clone().prop_map(|(a, rest)| json!({"properties": {"a": a}, "additionalProperties": rest})),
            two.prop_map(|(a, rest)| json!({"if": a, "then": rest, "unevaluatedProperties": false})),
            inner.clone().prop_map(|one| json!({"items": one, "contains": {"type": "string"}})),
            inner.clone().prop_map(|one| json!({"patternProperties": {"^[ab]$": one}, "propertyNames": {"maxLength": 1}})),
            inner.prop_map(|one| json!({"not": one})),
        ]
    })
}

fn payload() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        Just(json!(1.5)),
        Just(json!("aaa")),
        Just(json!("b")),
    ];
    leaf.prop_recursive(6, 60, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[abc]{1,2}", inner, 0..4)
                .prop_map(|members| Value::from(serde_json::Map::from_iter(members))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Held against the evaluator with nothing around it, and to a time.
    #[test]
    fn what_fits_is_what_the_evaluator_says_and_takes_no_longer_than_was_told(
        schema in schema(),
        payload in payload(),
    ) {
        let Ok(compiled) = Compiled::of(&schema.to_string()) else {
            return Ok(());
        };
        let begun = Instant::now();
        let found = compiled.fit(&payload, &mut { BUDGET_NANOS });
        let taken = begun.elapsed();
        let most = if cfg!(debug_assertions) { 60 } else { 4 } * u128::from(BUDGET_NANOS);
        prop_assert!(taken.as_nanos() < most, "{taken:?}");
        if found != Fit::TooCostly {
            let expected = jsonschema::options().should_validate_formats(false).build(&schema).unwrap();
            prop_assert_eq!(found == Fit::Fits, expected.is_valid(&payload));
        }
        if let Fit::Misfits(misfits) = found {
            prop_assert!((1..=MISFITS_MAX).contains(&misfits.len()));
        }
    }

    #[test]
    fn any_text_is_a_schema_or_refused(text in r##"[{}\[\]":,a#$/0-9]{0,30}|\{"(pattern|\$ref|allOf|items|type|required)":[\[{"a^*#/}\]0-9]{0,12}\}"##) {
        let _ = Compiled::of(&text);
    }
}
