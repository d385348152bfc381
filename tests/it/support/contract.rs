//! What the API's contract says of every answer: shapes of objects, errors and lists.

use serde_json::Value;

use super::{Answer, Server};

/// The names in an object, sorted.
#[track_caller]
pub fn keys(object: &Value) -> Vec<&str> {
    let object = object.as_object().expect("an object");
    object.keys().map(String::as_str).collect()
}

/// The texts that the items of a list have at `field`.
#[track_caller]
pub fn texts(list: &Value, field: &str) -> Vec<String> {
    let items = list["data"].as_array().expect("a list");
    let text = |item: &Value| item[field].as_str().expect("a text").to_owned();
    items.iter().map(text).collect()
}

/// An error other than 422: a code and a sentence, and nothing else.
#[track_caller]
pub fn assert_error(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{}", answer.text);
    let body = answer.json();
    assert_eq!(keys(&body), ["code", "detail"]);
    assert_eq!(body["code"], code);
    assert!(!body["detail"].as_str().expect("a sentence").is_empty());
}

/// A 422 that names exactly these places (`body.url`), in this order.
#[track_caller]
pub fn assert_invalid(answer: &Answer, places: &[&str]) {
    assert_eq!(answer.status, 422, "{}", answer.text);
    let body = answer.json();
    assert_eq!(keys(&body), ["detail"]);
    let mut found = Vec::new();
    for problem in body["detail"].as_array().expect("a list of problems") {
        assert_eq!(keys(problem), ["loc", "msg", "type"]);
        assert!(!problem["msg"].as_str().expect("a sentence").is_empty());
        assert!(!problem["type"].as_str().expect("a word").is_empty());
        let place = problem["loc"].as_array().expect("a place").iter();
        let place: Vec<&str> = place.map(|part| part.as_str().expect("a text")).collect();
        found.push(place.join("."));
    }
    assert_eq!(found, places, "{}", answer.text);
}

/// Reads the list to its end and back to its beginning, in pages of several sizes. `expected` is
/// what its items have at `field`, in the list's order; there must be at least three.
pub async fn assert_pages(server: &Server, path: &str, field: &str, expected: &[String]) {
    assert!(expected.len() >= 3, "too short to tell pages apart");
    let joint = if path.contains('?') { '&' } else { '?' };
    for limit in [1, 2, expected.len() - 1, expected.len(), expected.len() + 1] {
        let page = async |iterator: Option<String>| {
            let iterator = iterator.map_or(String::new(), |at| format!("&iterator={at}"));
            let path = format!("{path}{joint}limit={limit}{iterator}");
            let page = server.get(&path).await.expect(200);
            assert_eq!(keys(&page), ["data", "done", "iterator", "prevIterator"]);
            page
        };
        let text = |page: &Value, name: &str| page[name].as_str().map(str::to_owned);
        let mut read = Vec::new();
        let mut starts = Vec::new();
        let mut iterator = None;
        let last = loop {
            let next = page(iterator).await;
            starts.push(read.len());
            read.extend(texts(&next, field));
            let done = next["done"].as_bool().expect("a truth");
            assert_eq!(done, read.len() == expected.len(), "{path} {limit}");
            let whole = read.len() - starts[starts.len() - 1] == limit;
            assert!(whole || done, "{path} {limit}: a short page before the end");
            iterator = text(&next, "iterator");
            if done {
                break next;
            }
        };
        assert_eq!(read, expected, "{path} {limit}");

        let behind = page(iterator).await;
        assert_eq!(behind["data"], Value::Array(Vec::new()), "{path} {limit}");
        assert_eq!(behind["done"], true, "{path} {limit}");

        let mut end = starts[starts.len() - 1];
        let mut previous = text(&last, "prevIterator");
        while end > 0 {
            let before = page(previous).await;
            let begin = end.saturating_sub(limit);
            assert_eq!(
                texts(&before, field),
                expected[begin..end],
                "{path} {limit}"
            );
            assert_eq!(before["done"], begin == 0, "{path} {limit}");
            previous = text(&before, "prevIterator");
            end = begin;
        }
    }
}
