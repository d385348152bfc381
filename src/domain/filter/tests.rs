use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::clock::Timestamp;

/// 2023-11-14T22:13:20.250Z
const NOW: Timestamp = Timestamp(1_700_000_000_250);

static NOTHING: BTreeMap<String, String> = BTreeMap::new();

fn parts<'a>(event_type: &'a str, payload: &'a str) -> Parts<'a> {
    Parts {
        event_type,
        event_id: None,
        channels: &[],
        tags: &[],
        metadata: &NOTHING,
        accepted_at: NOW,
        payload,
        is_raw: false,
    }
}

fn filter(source: &str) -> Filter {
    let parsed = Filter::parse(source).unwrap_or_else(|faults| panic!("{source}: {faults:?}"));
    parsed.unwrap_or_else(|| panic!("{source} is empty"))
}

/// Whether a payload fulfils these conditions on it.
fn holds(conditions: &str, payload: &str) -> bool {
    let filter = filter(&format!(r#"{{"data":{conditions}}}"#));
    let facts = Facts::new(parts("a.b", payload));
    let mut budget = Budget::of_publish();
    let matches = filter.matches(&facts, &mut budget).expect("it is cheap");
    let reasons = filter.explain(&facts, &mut budget).expect("it is cheap");
    assert_eq!(
        matches,
        reasons.is_empty(),
        "{conditions} {payload}: {reasons:?}"
    );
    assert!(filter.reads_data());
    matches
}

/// Conditions on the field `a`, its value (nothing where it is not there), and whether it fulfils them.
type Row = (&'static str, &'static str, bool);

fn check(rows: &[Row]) {
    for (condition, value, expected) in rows {
        let payload = match *value {
            "" => r#"{"other":1}"#.to_owned(),
            value => format!(r#"{{"other":[{{}}], "a" : {value} }}"#),
        };
        let conditions = format!(r#"{{"a":{condition}}}"#);
        let found = holds(&conditions, &payload);
        assert_eq!(found, *expected, "{condition} of {value}");
    }
}

#[test]
fn plain_values_are_equal_or_in_a_list() {
    check(&[
        ("1", "1", true),
        ("1", "1.0", true),
        ("1", "10e-1", true),
        ("1", "2", false),
        ("1", "\"1\"", false),
        ("1", "true", false),
        ("1", "", false),
        ("1", "{}", false),
        ("1", "[0, 1]", true),
        ("1", "[[0, [1]]]", true),
        ("1", "[]", false),
        ("1", "[{\"a\":1}]", false),
        ("\"x\"", "\"x\"", true),
        ("\"x\"", "\"\\u0078\"", true),
        ("\"\\u0078\"", "\"x\"", true),
        ("\"x\"", "\"X\"", false),
        ("\"x\"", "\"xx\"", false),
        ("\"\"", "\"\"", true),
        ("\"é\"", "[\"\\u00e9\"]", true),
        ("\"\u{1f600}\"", "\"\\ud83d\\ude00\"", true),
        ("true", "true", true),
        ("true", "false", false),
        ("true", "1", false),
        ("false", "false", true),
        ("false", "0", false),
        ("false", "", false),
        ("null", "null", true),
        ("null", "0", false),
        ("null", "\"\"", false),
        ("null", "", false),
        ("null", "[1, null]", true),
    ]);
}

#[test]
fn plain_lists_are_contained() {
    check(&[
        ("[1]", "[1, 2]", true),
        ("[2, 1]", "[1, 2]", true),
        ("[1, 3]", "[1, 2]", false),
        ("[1, 1]", "[1]", true),
        ("[1]", "1", false),
        ("[]", "[]", true),
        ("[]", "[1]", true),
        ("[]", "1", false),
        ("[]", "", false),
        ("[{\"b\":1}]", "[{\"b\":1, \"c\":2}]", true),
        ("[{\"b\":{\"$gt\":1}}]", "[{\"b\":1}, {\"b\":2}]", true),
        ("[{\"$gt\":5}]", "[1, 9]", true),
        ("[[1]]", "[[1, 2]]", true),
        ("[[1]]", "[1]", false),
    ]);
}

#[test]
fn objects_are_looked_into() {
    check(&[
        ("{\"b\":1}", "{\"b\":1, \"c\":2}", true),
        ("{\"b\":1, \"c\":2}", "{\"c\":2, \"b\":1}", true),
        ("{\"b\":1, \"c\":3}", "{\"c\":2, \"b\":1}", false),
        ("{\"b\":{\"c\":[1]}}", "{\"b\":{\"c\":[1, 2]}}", true),
        ("{\"b\":1}", "[{\"b\":2}, {\"b\":1}]", true),
        // One item has to fulfil all.
        ("{\"b\":1, \"c\":2}", "[{\"b\":1}, {\"c\":2}]", false),
        ("{\"b\":1}", "[[{\"b\":1}]]", true),
        ("{\"b\":1}", "1", false),
        ("{\"b\":1}", "null", false),
        ("{\"b\":1}", "", false),
        ("{}", "{}", true),
        ("{}", "{\"b\":1}", true),
        ("{}", "1", false),
        ("{}", "[1]", false),
        ("{}", "[1, {}]", true),
        ("{}", "", false),
        // Of a name that comes twice the last one counts.
        ("{\"b\":1}", "{\"b\":1, \"b\":2}", false),
        ("{\"b\":2}", "{\"b\":1, \"b\":2}", true),
        ("{\"b\":2}", "{\"\\u0062\":2}", true),
        ("{\"\\u0062\":2}", "{\"b\":2}", true),
        // A name with a point is a name.
        ("{\"b.c\":2}", "{\"b.c\":2}", true),
        ("{\"b.c\":2}", "{\"b\":{\"c\":2}}", false),
    ]);
}

#[test]
fn eq_and_neq_compare_whole_values() {
    check(&[
        ("{\"$eq\":1}", "1.00", true),
        ("{\"$eq\":1}", "\"1\"", false),
        ("{\"$eq\":1}", "[1]", false),
        ("{\"$eq\":1}", "", false),
        ("{\"$eq\":null}", "null", true),
        ("{\"$eq\":null}", "", false),
        ("{\"$eq\":[1, {\"b\":2}]}", "[1.0, {\"b\":2e0}]", true),
        ("{\"$eq\":[1, 2]}", "[2, 1]", false),
        ("{\"$eq\":[1]}", "[1, 2]", false),
        ("{\"$eq\":[1, 2]}", "[1]", false),
        ("{\"$eq\":[]}", "[]", true),
        ("{\"$eq\":{\"b\":1, \"c\":2}}", "{\"c\":2, \"b\":1}", true),
        ("{\"$eq\":{\"b\":1}}", "{\"b\":1, \"c\":2}", false),
        ("{\"$eq\":{\"b\":1}}", "{\"b\":3, \"b\":1}", true),
        ("{\"$eq\":{\"b\":1, \"c\":2}}", "{\"b\":1}", false),
        ("{\"$eq\":{}}", "{}", true),
        ("{\"$eq\":{\"$gt\":1}}", "{\"$gt\":1}", true),
        ("{\"$neq\":1}", "2", true),
        ("{\"$neq\":1}", "1.0", false),
        ("{\"$neq\":1}", "\"1\"", true),
        ("{\"$neq\":1}", "null", true),
        ("{\"$neq\":1}", "[1]", true),
        ("{\"$neq\":[1]}", "[1]", false),
        ("{\"$neq\":1}", "", false),
    ]);
}

#[test]
fn numbers_and_texts_have_an_order_each() {
    check(&[
        ("{\"$gt\":1}", "1.0000000000000000000001", true),
        ("{\"$gt\":1}", "1", false),
        ("{\"$gt\":9007199254740992}", "9007199254740993", true),
        ("{\"$gt\":9007199254740993}", "9007199254740992", false),
        ("{\"$gt\":9007199254740993}", "9007199254740993.0", false),
        ("{\"$gte\":1}", "1.0", true),
        ("{\"$gte\":1}", "0.99", false),
        ("{\"$lt\":-1}", "-1e0", false),
        ("{\"$lt\":-1}", "-1.5", true),
        ("{\"$lt\":0.1}", "1e-2", true),
        ("{\"$lte\":0.1}", "0.10", true),
        ("{\"$lte\":1e3}", "1000.1", false),
        ("{\"$gt\":\"b\"}", "\"c\"", true),
        ("{\"$gt\":\"b\"}", "\"b\"", false),
        ("{\"$gte\":\"b\"}", "\"b\"", true),
        ("{\"$lt\":\"b\"}", "\"B\"", true),
        ("{\"$lte\":\"b\"}", "\"bb\"", false),
        // By code points, not by half characters or by language.
        ("{\"$gt\":\"\u{fffd}\"}", "\"\u{1f600}\"", true),
        ("{\"$gt\":\"z\"}", "\"\\u00e9\"", true),
        // Different types are not compared.
        ("{\"$gt\":1}", "\"2\"", false),
        ("{\"$lte\":1}", "\"2\"", false),
        ("{\"$gt\":\"1\"}", "2", false),
        ("{\"$gt\":1}", "true", false),
        ("{\"$lt\":1}", "null", false),
        ("{\"$gte\":1}", "[5]", false),
        ("{\"$gte\":1}", "{}", false),
        ("{\"$gte\":1}", "", false),
        // All have to hold.
        ("{\"$gte\":1, \"$lt\":5}", "4.9", true),
        ("{\"$gte\":1, \"$lt\":5}", "5", false),
    ]);
}

#[test]
fn in_and_nin_look_into_a_list_of_either_side() {
    check(&[
        ("{\"$in\":[1, \"x\", null, true]}", "1.0", true),
        ("{\"$in\":[1, \"x\", null, true]}", "\"x\"", true),
        ("{\"$in\":[1, \"x\", null, true]}", "null", true),
        ("{\"$in\":[1, \"x\", null, true]}", "true", true),
        ("{\"$in\":[1, \"x\", null, true]}", "false", false),
        ("{\"$in\":[1]}", "\"1\"", false),
        ("{\"$in\":[]}", "1", false),
        ("{\"$in\":[1]}", "[1]", false),
        ("{\"$in\":[1]}", "{}", false),
        ("{\"$in\":[1]}", "", false),
        // A part of a text.
        ("{\"$in\":\"voi\"}", "\"invoice\"", true),
        ("{\"$in\":\"\"}", "\"invoice\"", true),
        ("{\"$in\":\"Voi\"}", "\"invoice\"", false),
        ("{\"$in\":\"é\"}", "\"caf\\u00e9s\"", true),
        ("{\"$in\":1}", "\"1\"", false),
        ("{\"$in\":\"1\"}", "1", false),
        // An item of a list.
        ("{\"$in\":\"x\"}", "[\"x\", \"y\"]", true),
        ("{\"$in\":\"x\"}", "[\"xx\"]", false),
        ("{\"$in\":1}", "[2, 1.0]", true),
        ("{\"$in\":null}", "[null]", true),
        ("{\"$in\":\"x\"}", "{\"x\":1}", false),
        ("{\"$nin\":[1, 2]}", "3", true),
        ("{\"$nin\":[1, 2]}", "2", false),
        ("{\"$nin\":[]}", "2", true),
        ("{\"$nin\":[1]}", "\"1\"", true),
        ("{\"$nin\":[1]}", "[1]", false),
        ("{\"$nin\":[1]}", "[2]", false),
        ("{\"$nin\":[1]}", "", false),
        ("{\"$nin\":\"voi\"}", "\"bill\"", true),
        ("{\"$nin\":\"voi\"}", "\"invoice\"", false),
        ("{\"$nin\":\"voi\"}", "1", false),
        ("{\"$nin\":\"x\"}", "[\"y\"]", true),
        ("{\"$nin\":\"x\"}", "[\"x\"]", false),
    ]);
}

#[test]
fn texts_begin_and_end() {
    check(&[
        ("{\"$startsWith\":\"in\"}", "\"invoice\"", true),
        ("{\"$startsWith\":\"in\"}", "\"IN\"", false),
        ("{\"$startsWith\":\"in\"}", "\"i\"", false),
        ("{\"$startsWith\":\"\"}", "\"\"", true),
        ("{\"$startsWith\":[\"b\", \"in\"]}", "\"invoice\"", true),
        ("{\"$startsWith\":[]}", "\"invoice\"", false),
        ("{\"$startsWith\":\"1\"}", "12", false),
        ("{\"$startsWith\":\"a\"}", "[\"ab\"]", false),
        ("{\"$startsWith\":\"a\"}", "", false),
        (
            "{\"$endsWith\":\"@example.com\"}",
            "\"ann@example.com\"",
            true,
        ),
        (
            "{\"$endsWith\":\"@example.com\"}",
            "\"ann@example.org\"",
            false,
        ),
        ("{\"$endsWith\":[\"x\", \"\\u00e9\"]}", "\"café\"", true),
        ("{\"$endsWith\":\"2\"}", "12", false),
        ("{\"$endsWith\":\"a\"}", "null", false),
    ]);
}

#[test]
fn exist_asks_whether_a_field_is_there() {
    check(&[
        ("{\"$exist\":true}", "1", true),
        ("{\"$exist\":true}", "null", true),
        ("{\"$exist\":true}", "{}", true),
        ("{\"$exist\":true}", "[]", true),
        ("{\"$exist\":true}", "", false),
        ("{\"$exist\":false}", "", true),
        ("{\"$exist\":false}", "null", false),
        ("{\"$exist\":false}", "[]", false),
        ("{\"$exist\":true, \"$gt\":1}", "2", true),
        ("{\"$exist\":true, \"$gt\":1}", "1", false),
        ("{\"b\":{\"$exist\":false}}", "{}", true),
        ("{\"b\":{\"$exist\":false}}", "1", false),
        // Nothing is inside what is not there.
        ("{\"b\":{\"$exist\":false}}", "", false),
        ("{\"$or\":[{\"$exist\":false}, {\"$lt\":3}]}", "", true),
        ("{\"$or\":[{\"$exist\":false}, {\"$lt\":3}]}", "2", true),
        ("{\"$or\":[{\"$exist\":false}, {\"$lt\":3}]}", "4", false),
        ("{\"$and\":[{\"$exist\":false}, {\"$lt\":3}]}", "", false),
        (
            "{\"$and\":[{\"$exist\":false}, {\"$exist\":false}]}",
            "",
            true,
        ),
    ]);
}

#[test]
fn not_and_or_stand_inside_and_outside() {
    check(&[
        ("{\"$not\":1}", "2", true),
        ("{\"$not\":1}", "1", false),
        ("{\"$not\":1}", "[2, 1]", false),
        ("{\"$not\":{\"$gt\":5}}", "5", true),
        ("{\"$not\":{\"$gt\":5}}", "6", false),
        // Not comparable is not fulfilled.
        ("{\"$not\":{\"$gt\":5}}", "\"6\"", true),
        ("{\"$not\":{\"b\":1}}", "{\"b\":2}", true),
        ("{\"$not\":{\"b\":1}}", "{}", true),
        ("{\"$not\":{\"b\":1}}", "{\"b\":1}", false),
        // Nothing but `$exist` is fulfilled by what is not there.
        ("{\"$not\":1}", "", false),
        ("{\"$not\":{\"$exist\":true}}", "", true),
        ("{\"$not\":{\"$exist\":true}}", "1", false),
        ("{\"$not\":{\"$exist\":false}}", "", false),
        ("{\"$not\":{\"$exist\":false}}", "1", true),
        ("{\"$not\":{\"$not\":1}}", "1", true),
        ("{\"$or\":[1, 5]}", "5", true),
        ("{\"$or\":[1, 5]}", "2", false),
        ("{\"$or\":[1, 5]}", "[2, 5]", true),
        ("{\"$or\":[1, 5]}", "", false),
        ("{\"$or\":[{\"$lt\":1}, {\"$gt\":5}]}", "6", true),
        ("{\"$or\":[{\"b\":1}, {\"c\":1}]}", "{\"c\":1}", true),
        ("{\"$and\":[{\"$gt\":1}, {\"$lt\":5}]}", "3", true),
        ("{\"$and\":[{\"$gt\":1}, {\"$lt\":5}]}", "5", false),
        ("{\"$and\":[\"x\", \"y\"]}", "[\"y\", \"x\"]", true),
        ("{\"$gt\":1, \"$or\":[2, 3]}", "3", true),
        ("{\"$gt\":2, \"$or\":[2, 3]}", "2", false),
        (
            "{\"b\":1, \"$or\":[{\"c\":1}, {\"c\":2}]}",
            "{\"b\":1, \"c\":2}",
            true,
        ),
        (
            "{\"b\":1, \"$or\":[{\"c\":1}, {\"c\":2}]}",
            "{\"b\":1, \"c\":3}",
            false,
        ),
        ("{\"b\":1, \"$not\":{\"c\":1}}", "{\"b\":1}", true),
        ("{\"b\":1, \"$not\":{\"c\":1}}", "{\"b\":1, \"c\":1}", false),
        // One item of a list has to fulfil all of it.
        (
            "{\"b\":1, \"$not\":{\"c\":1}}",
            "[{\"b\":1, \"c\":1}, {\"b\":1}]",
            true,
        ),
    ]);
    for (conditions, payload, expected) in [
        (r#"{"$or":[{"a":1},{"b":1}]}"#, r#"{"b":1}"#, true),
        (r#"{"$or":[{"a":1},{"b":1}]}"#, r#"{"b":2}"#, false),
        (r#"{"$not":{"test":true}}"#, r#"{}"#, true),
        (r#"{"$not":{"test":true}}"#, r#"{"test":true}"#, false),
        (r#"{"a":1,"$not":{"b":1}}"#, r#"{"a":1,"b":1}"#, false),
        (r#"{"$exist":true}"#, r#"{}"#, true),
    ] {
        assert_eq!(
            holds(conditions, payload),
            expected,
            "{conditions} {payload}"
        );
    }
}

#[test]
fn all_parts_of_a_message_can_be_asked_for() {
    let metadata = BTreeMap::from([("tenant".to_owned(), "eu-1".to_owned())]);
    let (channels, tags) = (["red".to_owned(), "blue".to_owned()], ["vip".to_owned()]);
    let facts = Facts::new(Parts {
        event_id: Some("evt_1"),
        channels: &channels,
        tags: &tags,
        metadata: &metadata,
        ..parts("invoice.paid", r#"{"a":1}"#)
    });
    for (source, expected) in [
        (r#"{"id":"evt_1"}"#, true),
        (r#"{"id":{"$startsWith":"x"}}"#, false),
        (r#"{"topic":"invoice.paid"}"#, true),
        (
            r#"{"eventType":{"$startsWith":["bill.","invoice."]}}"#,
            true,
        ),
        (r#"{"topic":"invoice.paid","eventType":"other"}"#, false),
        (r#"{"time":"2023-11-14T22:13:20Z"}"#, true),
        (
            r#"{"time":{"$gte":"2023-11-14T22:13:20Z","$lt":"2024"}}"#,
            true,
        ),
        (r#"{"time":{"$gt":"2023-11-14T22:13:20Z"}}"#, false),
        (r#"{"metadata":{"tenant":"eu-1"}}"#, true),
        (r#"{"metadata":{"tenant":{"$startsWith":"us"}}}"#, false),
        (r#"{"metadata":{"other":{"$exist":false}}}"#, true),
        (r#"{"metadata":{"$eq":{"tenant":"eu-1"}}}"#, true),
        (r#"{"metadata":{"$eq":{"tenant":"eu-1","more":1}}}"#, false),
        (r#"{"metadata":{"$neq":{}}}"#, true),
        (r#"{"channels":"red"}"#, true),
        (r#"{"channels":["blue","red"]}"#, true),
        (r#"{"channels":{"$in":"green"}}"#, false),
        (r#"{"channels":{"$or":["green","red"]}}"#, true),
        (r#"{"tags":"vip"}"#, true),
        (r#"{"tags":{"$nin":"vip"}}"#, false),
        (r#"{"tags":{"$eq":["vip"]}}"#, true),
        (r#"{"data":{"a":1},"tags":"vip"}"#, true),
        (r#"{"data":{"a":2},"tags":"vip"}"#, false),
        (r#"{"$or":[{"tags":"none"},{"data":{"a":1}}]}"#, true),
        (
            r#"{"$and":[{"tags":"vip"},{"$not":{"data":{"a":1}}}]}"#,
            false,
        ),
        (r#"{"tags":"vip","$not":{"topic":"invoice.paid"}}"#, false),
        (r#"{"$or":[{}]}"#, true),
    ] {
        let mut budget = Budget::of_publish();
        let found = filter(source).matches(&facts, &mut budget);
        assert_eq!(found, Ok(expected), "{source}");
        let reasons = filter(source).explain(&facts, &mut budget).unwrap();
        assert_eq!(reasons.is_empty(), expected, "{source}: {reasons:?}");
    }
}

#[test]
fn a_message_may_lack_an_id_and_its_payload_may_be_no_json() {
    for (payload, source, expected) in [
        ("", r#"{"id":{"$exist":false}}"#, true),
        ("", r#"{"id":{"$neq":"x"}}"#, false),
        ("<xml/>", r#"{"data":{"a":1}}"#, false),
        ("<xml/>", r#"{"data":{"$exist":false}}"#, true),
        (" {\"a\": 1}\n", r#"{"data":{"a":1}}"#, true),
        (" [1, 2]", r#"{"data":2}"#, true),
        ("\"text\"", r#"{"data":{"$in":"ex"}}"#, true),
    ] {
        let facts = Facts::new(Parts {
            is_raw: true,
            ..parts("a", payload)
        });
        let found = filter(source).matches(&facts, &mut Budget::of_publish());
        assert_eq!(found, Ok(expected), "{source}");
    }
}

fn faults(source: &str) -> Vec<(String, String)> {
    let faults = Filter::parse(source).err().unwrap_or_default();
    let each = faults.into_iter();
    each.map(|fault| (fault.place.join("/"), fault.message))
        .collect()
}

#[test]
fn what_is_no_filter_is_told_at_its_place() {
    for (source, place, part) in [
        ("", "", "must be a JSON object"),
        ("[]", "", "must be a JSON object"),
        ("7", "", "must be a JSON object"),
        (r#"{"data":{"a":"\ud800"}}"#, "", "half a surrogate pair"),
        (
            r#"{"dta":1}"#,
            "dta",
            "is no part of a message; a filter takes id, topic",
        ),
        (
            r#"{"amount":1}"#,
            "amount",
            "Fields of the payload belong into data",
        ),
        (r#"{"$gt":1}"#, "$gt", "cannot stand here"),
        (
            r#"{"$or":[{"data":1},{"dta":1}]}"#,
            "$or/1/dta",
            "is no part",
        ),
        (r#"{"$or":[1]}"#, "$or/0", "must be an object of conditions"),
        (r#"{"$not":"x"}"#, "$not", "must be an object of conditions"),
        (r#"{"$not":{"x":1}}"#, "$not/x", "is no part"),
        (
            r#"{"$or":[]}"#,
            "$or",
            "must be a list of at least one condition",
        ),
        (
            r#"{"$and":{"data":1}}"#,
            "$and",
            "must be a list of at least one",
        ),
        (r#"{"data":{"a":{"$or":[]}}}"#, "data/a/$or", "at least one"),
        (
            r#"{"data":{"a":{"$ne":1}}}"#,
            "data/a/$ne",
            "is not an operator. There are $eq, $neq",
        ),
        (
            r#"{"data":{"a":{"$exists":true}}}"#,
            "data/a/$exists",
            "Did you mean $exist?",
        ),
        (
            r#"{"data":{"a":{"$ref":"b"}}}"#,
            "data/a/$ref",
            "is not an operator",
        ),
        (
            r#"{"data":{"a":{"$gt":null}}}"#,
            "data/a/$gt",
            "must be a number or a text, not null",
        ),
        (
            r#"{"data":{"a":{"$lte":[1]}}}"#,
            "data/a/$lte",
            "not a list",
        ),
        (
            r#"{"data":{"a":{"$in":{}}}}"#,
            "data/a/$in",
            "not an object",
        ),
        (
            r#"{"data":{"a":{"$nin":[1,[2]]}}}"#,
            "data/a/$nin/1",
            "not a list",
        ),
        (
            r#"{"data":{"a":{"$startsWith":1}}}"#,
            "data/a/$startsWith",
            "must be a text or a list of texts, not a number",
        ),
        (
            r#"{"data":{"a":{"$endsWith":["x",true]}}}"#,
            "data/a/$endsWith/1",
            "not true",
        ),
        (
            r#"{"data":{"a":{"$exist":"yes"}}}"#,
            "data/a/$exist",
            "must be true or false, not a text",
        ),
        (
            r#"{"data":{"a":{"$gt":1,"b":2}}}"#,
            "data/a",
            "an operator belongs to one field",
        ),
        (
            r#"{"data":{"a":{"$exist":false,"$eq":1}}}"#,
            "data/a",
            "beside other operators",
        ),
        (r#"{"data":1,"data":2}"#, "data", "is there twice"),
        (
            r#"{"data":{"a":{"$eq":{"b":1,"\u0062":2}}}}"#,
            "data/a/$eq/b",
            "is there twice",
        ),
        (r#"{"data":{"a":1e99999999999}}"#, "data/a", "exponent"),
    ] {
        let found = faults(source);
        assert_eq!(found.len(), 1, "{source}: {found:?}");
        assert_eq!(found[0].0, place, "{source}");
        assert!(found[0].1.contains(part), "{source}: {}", found[0].1);
    }
    let several = faults(r#"{"dta":1,"data":{"a":{"$foo":1,"$bar":2}}}"#);
    assert_eq!(several.len(), 3, "{several:?}");
}

#[test]
fn a_filter_has_limits_and_one_of_a_store_is_read_beyond_them() {
    let many = |count: usize| {
        let conditions = (0..count).map(|place| format!("\"f{place}\":{place}"));
        format!("{{\"data\":{{{}}}}}", Vec::from_iter(conditions).join(","))
    };
    let nested = |depth: usize| {
        format!(
            "{{\"data\":{}1{}}}",
            "{\"a\":".repeat(depth),
            "}".repeat(depth)
        )
    };
    let long = |bytes: usize| format!(r#"{{"data":{{"a":"{}"}}}}"#, "x".repeat(bytes));
    assert!(faults(&many(CONDITIONS_MAX)).is_empty());
    assert!(faults(&nested(DEPTH_MAX - 1)).is_empty());
    assert!(faults(&long(BYTES_MAX - 17)).is_empty());
    for (beyond, part) in [
        (many(CONDITIONS_MAX + 1), "has 201 conditions"),
        (nested(DEPTH_MAX + 1), "nests deeper than 32 levels"),
        (long(BYTES_MAX), "a filter has at most 16384"),
        (nested(200), "nests deeper"),
    ] {
        assert!(faults(&beyond)[0].1.contains(part), "{:?}", faults(&beyond));
    }
    for kept in [many(CONDITIONS_MAX + 1), nested(60), long(BYTES_MAX)] {
        assert_eq!(Filter::read(&kept).expect("it is one").source(), kept);
    }
}

#[test]
fn an_empty_one_is_none_and_a_filter_stays_as_it_was_written() {
    for empty in ["{}", " { } ", "{\n}"] {
        assert_eq!(Filter::parse(empty), Ok(None));
    }
    let source = "{ \"data\" :\n{\"a\": 1.10} }";
    let kept = filter(source);
    assert_eq!(kept.source(), source);
    assert_eq!(format!("{kept:?}"), "Filter(…)");
    let text = serde_json::to_string(&kept).unwrap();
    assert_eq!(serde_json::from_str::<Filter>(&text).unwrap(), kept);
    assert!(!filter(r#"{"tags":"data","metadata":{"data":"x"}}"#).reads_data());
    assert!(filter(r#"{"$not":{"$or":[{"data":{}}]}}"#).reads_data());
}

#[test]
fn reasons_say_what_is_there_and_what_must_be() {
    let payload = r#"{"amount": 5, "status":"open", "items":[{"sku":"a"}], "long": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}"#;
    let facts = Facts::new(parts("a.b", payload));
    for (conditions, expected) in [
        (
            r#"{"amount":{"$gt":100}}"#,
            [
                "data.amount",
                "$gt",
                "100",
                "5",
                "data.amount is 5, and must be more than 100",
            ],
        ),
        (
            r#"{"amount":{"$gt":"1"}}"#,
            [
                "data.amount",
                "$gt",
                "\"1\"",
                "5",
                "data.amount is 5, and must be a text of more than \"1\"",
            ],
        ),
        (
            r#"{"amount":"5"}"#,
            [
                "data.amount",
                "$eq",
                "\"5\"",
                "5",
                "data.amount is 5, and must be \"5\"",
            ],
        ),
        (
            r#"{"status":{"$in":["paid","void"]}}"#,
            [
                "data.status",
                "$in",
                r#"["paid","void"]"#,
                "\"open\"",
                r#"data.status is "open", and must be one of ["paid","void"]"#,
            ],
        ),
        (
            r#"{"status":{"$neq":"open"}}"#,
            [
                "data.status",
                "$neq",
                "\"open\"",
                "\"open\"",
                "data.status is \"open\", and must not be",
            ],
        ),
        (
            r#"{"status":{"$exist":false}}"#,
            [
                "data.status",
                "$exist",
                "false",
                "\"open\"",
                "data.status is there, and must not be",
            ],
        ),
        (
            r#"{"gone":{"b":1}}"#,
            ["data.gone", "$and", "", "", "data.gone is not there"],
        ),
        (
            r#"{"gone":{"$gte":1}}"#,
            ["data.gone", "$gte", "1", "", "data.gone is not there"],
        ),
        (
            r#"{"items":{"sku":"b"}}"#,
            [
                "data.items",
                "$and",
                "",
                r#"[{"sku":"a"}]"#,
                "data.items has no item that fulfils all conditions on sku",
            ],
        ),
        (
            r#"{"items":"b"}"#,
            [
                "data.items",
                "$eq",
                "\"b\"",
                r#"[{"sku":"a"}]"#,
                "data.items has no item \"b\"",
            ],
        ),
        (
            r#"{"items":["b"]}"#,
            [
                "data.items",
                "$eq",
                "\"b\"",
                r#"[{"sku":"a"}]"#,
                "data.items has no item \"b\"",
            ],
        ),
        (
            r#"{"items":{"$in":["b"]}}"#,
            [
                "data.items",
                "$in",
                "[\"b\"]",
                r#"[{"sku":"a"}]"#,
                "data.items is a list, and $in with a list takes a single value; $or with the same list asks for one of its items",
            ],
        ),
        (
            r#"{"$not":{"amount":5}}"#,
            [
                "data",
                "$not",
                "",
                payload,
                "data fulfils the condition of $not, and must not",
            ],
        ),
        (
            r#"{"long":{"$startsWith":["a","b"]}}"#,
            [
                "data.long",
                "$startsWith",
                "[\"a\",\"b\"]",
                "…",
                "data.long is a text of 90 bytes, and must be a text that begins with one of [\"a\",\"b\"]",
            ],
        ),
    ] {
        let filter = filter(&format!(r#"{{"data":{conditions}}}"#));
        let reasons = filter.explain(&facts, &mut Budget::of_publish()).unwrap();
        assert_eq!(reasons.len(), 1, "{conditions}: {reasons:?}");
        let found = reasons[0].found.as_deref().unwrap_or_default();
        let found = if found.contains("xxx") && found.len() < 100 {
            "…"
        } else {
            found
        };
        let expected_json = reasons[0].expected.as_deref().unwrap_or_default();
        let told = [
            &*reasons[0].path,
            reasons[0].operator,
            expected_json,
            found,
            &*reasons[0].message,
        ];
        assert_eq!(told, expected, "{conditions}");
    }
    let filter = filter(r#"{"$or":[{"data":{"amount":1}},{"topic":"x"}],"tags":"t"}"#);
    let reasons = filter.explain(&facts, &mut Budget::of_publish()).unwrap();
    let messages: Vec<&str> = reasons.iter().map(|one| &*one.message).collect();
    let expected = [
        "tags has no item \"t\"",
        "the message fulfils none of the 2 conditions of $or",
        "data.amount is 5, and must be 1",
        "topic is \"a.b\", and must be \"x\"",
    ];
    assert_eq!(messages, expected);
}

/// What customers can enter at its worst stops at the budget.
#[test]
fn a_costly_filter_stops() {
    let wide = (0..20_000).map(|place| format!("\"k{place:05}\":[]"));
    let wide = format!("{{{}}}", Vec::from_iter(wide).join(","));
    let facts = Facts::new(parts("a", &wide));
    let asks = (0..CONDITIONS_MAX).map(|place| format!("{{\"k{place:05}\":7}}"));
    let worst = format!(
        r#"{{"data":{{"$or":[{}]}}}}"#,
        Vec::from_iter(asks).join(",")
    );
    let worst = filter(&worst);
    let mut budget = Budget::of_publish();
    assert_eq!(worst.matches(&facts, &mut budget), Err(TooCostly));
    let cheap = filter(r#"{"topic":"a"}"#);
    assert_eq!(cheap.matches(&facts, &mut Budget::of_steps(5)), Ok(true));
    assert_eq!(
        cheap.matches(&facts, &mut Budget::of_steps(1)),
        Err(TooCostly)
    );
}

/// The meaning of plain values and a few operators, over parsed values.
fn naive(condition: &Value, value: Option<&Value>) -> bool {
    let Some(value) = value else {
        return match condition.get("$or") {
            Some(Value::Array(any)) => any.iter().any(|one| naive(one, None)),
            _ => condition == &json!({ "$exist": false }),
        };
    };
    match (condition, value) {
        (Value::Object(parts), _) if parts.keys().any(|name| name.starts_with('$')) => parts
            .iter()
            .all(|(name, operand)| match (&**name, operand) {
                ("$gt", operand) => match (value.as_i64(), operand.as_i64()) {
                    (Some(value), Some(operand)) => value > operand,
                    _ => false,
                },
                ("$neq", operand) => value != operand,
                ("$exist", operand) => operand == &json!(true),
                ("$not", operand) => !naive(operand, Some(value)),
                ("$or", Value::Array(any)) => any.iter().any(|one| naive(one, Some(value))),
                _ => unreachable!("{name}"),
            }),
        (Value::Object(_), Value::Array(items)) => {
            items.iter().any(|item| naive(condition, Some(item)))
        }
        (Value::Object(fields), Value::Object(_)) => {
            fields.iter().all(|(name, one)| naive(one, value.get(name)))
        }
        (Value::Object(_), _) => false,
        (Value::Array(all), Value::Array(items)) => all
            .iter()
            .all(|one| items.iter().any(|item| naive(one, Some(item)))),
        (Value::Array(_), _) => false,
        (plain, Value::Array(items)) => items.iter().any(|item| naive(plain, Some(item))),
        (plain, value) => plain == value,
    }
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..4).prop_map(Value::from),
        "[ab\"]{0,1}".prop_map(Value::from),
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[ab\"]", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_condition() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        scalar(),
        (0..4).prop_map(|than| json!({ "$gt": than })),
        any_value().prop_map(|than| json!({ "$neq": than })),
        any::<bool>().prop_map(|wanted| json!({ "$exist": wanted })),
    ];
    leaf.prop_recursive(3, 16, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec(inner.clone(), 1..3).prop_map(|any| json!({ "$or": any })),
            prop::collection::btree_map("[ab\"]", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn a_filter_means_what_a_naive_reading_says(
        condition in any_condition(),
        value in any_value(),
        is_there: bool,
    ) {
        // `$exist` within `$or` is where a missing value is more than the naive reading has.
        let asks_there = condition.to_string().contains("$exist");
        let payload = match is_there || asks_there {
            true => json!({ "a": value }),
            false => json!({}),
        };
        let found = holds(&json!({ "a": condition }).to_string(), &payload.to_string());
        prop_assert_eq!(found, naive(&condition, payload.get("a")), "{} {}", condition, payload);
        if !asks_there {
            let negated = json!({ "a": { "$not": condition } });
            let found = holds(&negated.to_string(), &payload.to_string());
            prop_assert_eq!(found, is_there && !naive(&condition, payload.get("a")));
        }
    }

    #[test]
    fn any_text_is_a_filter_or_has_faults(
        text in prop_oneof![
            "\\PC{0,40}",
            r#"(\{|\}|\[|\]|"data":|"\$or":|"\$not":|"\$in":|"\$gt":|"a":|,|1|"x"|null|\{\}){0,14}"#,
        ],
        payload in any_value(),
    ) {
        let payload = payload.to_string();
            let facts = Facts::new(Parts {
            is_raw: true,
            ..parts("a", &payload)
        });
        match Filter::parse(&text) {
            Ok(Some(filter)) => {
                let _ = filter.explain(&facts, &mut Budget::of_steps(1000));
                prop_assert_eq!(Filter::read(filter.source()), Ok(filter));
            }
            Ok(None) => {}
            Err(faults) => prop_assert!(!faults.is_empty()),
        }
    }
}
