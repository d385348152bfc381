//! The OpenAPI document and its pages, as a running server answers them.

use std::collections::BTreeSet;

use awc::http::Method;
use serde_json::{Value, json};

use crate::support::{Server, assert_error, assert_invalid};

const NOBODY: [(&str, &str); 1] = [("authorization", "")];

async fn document(server: &Server) -> Value {
    let answer = server.call(Method::GET, "/openapi.json", &NOBODY, None);
    answer.await.expect(200)
}

/// Each path with the methods that are documented for it.
fn paths(document: &Value) -> Vec<(String, BTreeSet<String>)> {
    let paths = document["paths"].as_object().expect("paths");
    paths
        .iter()
        .map(|(path, methods)| {
            let methods = methods.as_object().expect("methods").keys();
            (
                path.clone(),
                methods.map(|one| one.to_ascii_uppercase()).collect(),
            )
        })
        .collect()
}

/// The path with something in the place of its parts.
fn filled(path: &str) -> String {
    let parts = path.split('/');
    let parts = parts.map(|part| match part.starts_with('{') {
        true => "something",
        false => part,
    });
    parts.collect::<Vec<_>>().join("/")
}

/// Reads are limited, too, so a client may see one of these anywhere.
#[actix_web::test]
async fn each_call_with_a_credential_may_be_answered_that_a_limit_is_reached() {
    let server = Server::start().await;
    let document = document(&server).await;
    for (path, methods) in paths(&document) {
        for method in methods {
            let operation = &document["paths"][&path][method.to_ascii_lowercase()];
            let is_open = operation["security"].as_array().is_some_and(Vec::is_empty);
            for status in ["429", "503"] {
                let is_there = operation["responses"].get(status).is_some();
                assert!(is_open || is_there, "{method} {path} {status}");
            }
        }
    }
}

/// Whether the other path has an id where this one has a word, and is the same elsewhere.
pub fn takes_as_id(other: &str, path: &str) -> bool {
    let (others, parts) = (other.split('/'), path.split('/'));
    let fits = |(other, part): (&str, &str)| {
        other == part || (other.starts_with('{') && !part.starts_with('{'))
    };
    other != path && others.clone().count() == parts.clone().count() && others.zip(parts).all(fits)
}

#[actix_web::test]
async fn each_path_takes_the_methods_of_the_document_and_no_other() {
    // Each request here is one without a credential.
    let server = Server::start_with(|config| {
        config.limits.auth_failures_per_address_minute_max = 10_000;
    })
    .await;
    let document = document(&server).await;
    assert!(paths(&document).len() > 20);
    for (path, own) in paths(&document) {
        let mut documented = own.clone();
        // `GET …/msg/batch` is that of the message whose own id is `batch`.
        let others = paths(&document).into_iter();
        let others = others.filter(|(other, _)| takes_as_id(other, &path));
        documented.extend(others.flat_map(|(_, methods)| methods));
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let place = filled(&path);
            let as_method = Method::from_bytes(method.as_bytes()).unwrap();
            // Without a credential nothing is done; who is not known hears that the path is there.
            let answer = server.call(as_method, &place, &NOBODY, None).await;
            if documented.contains(method) {
                let operation = &document["paths"][&path][method.to_ascii_lowercase()];
                let is_open = operation["security"].as_array().is_some_and(Vec::is_empty);
                match is_open {
                    true => assert!(!answer.text.contains("no such path"), "{method} {place}"),
                    false => assert_eq!(answer.status, 401, "{method} {place}: {}", answer.text),
                }
                assert_ne!(answer.status, 405, "{method} {place}");
                continue;
            }
            assert_eq!(answer.status, 405, "{method} {place}: not in the document");
            let allowed = answer.header("allow").expect("the methods there are");
            let allowed = allowed.split(", ").map(str::to_owned).collect();
            assert_eq!(own, allowed, "{place}");
        }
    }
}

#[actix_web::test]
async fn the_document_and_its_pages_are_for_everybody_and_are_not_sent_twice() {
    let server = Server::start().await;
    let document = document(&server).await;
    assert_eq!(document["openapi"], "3.1.0");
    let sections = document["tags"].as_array().expect("sections");
    let pages = sections
        .iter()
        .map(|tag| format!("/docs/{}", tag["name"].as_str().unwrap()));
    let mut html = String::new();
    let others = ["/docs", "/docs/", "/docs/guide/profiles", "/openapi.json"];
    for path in pages.chain(others.map(str::to_owned)) {
        let answer = server.call(Method::GET, &path, &NOBODY, None).await;
        assert_eq!(answer.status, 200, "{path}");
        let policy = answer.header("content-security-policy").expect("a policy");
        assert!(
            policy.starts_with("default-src 'none'; style-src 'sha256-"),
            "{policy}"
        );
        let etag = answer.header("etag").expect("an ETag").to_owned();
        for known in [etag.clone(), format!("\"x\", W/{etag}")] {
            let headers = [NOBODY[0], ("if-none-match", known.as_str())];
            let again = server.call(Method::GET, &path, &headers, None).await;
            assert_eq!((again.status, again.text.as_str()), (304, ""), "{path}");
            assert_eq!(again.header("etag"), Some(etag.as_str()));
        }
        let other = [NOBODY[0], ("if-none-match", "\"another\"")];
        let fresh = server.call(Method::GET, &path, &other, None).await;
        assert_eq!((fresh.status, &fresh.text), (200, &answer.text));
        if path.starts_with("/docs") {
            assert_eq!(
                answer.header("content-type"),
                Some("text/html; charset=utf-8")
            );
            html.push_str(&answer.text);
        }
    }
    for (path, methods) in paths(&document) {
        for method in methods {
            let operation = &document["paths"][&path][method.to_ascii_lowercase()];
            let id = operation["operationId"].as_str().expect("an id");
            assert!(
                html.contains(&format!("id=\"{id}\"")),
                "{id} has no place in the pages"
            );
            assert!(html.contains(&format!("#{id}\"")), "nothing leads to {id}");
        }
    }
    // Nothing is loaded, and what runs or is drawn is the page's own.
    for forbidden in [
        "<script",
        " style=",
        "<img",
        "<iframe",
        " src=",
        "href=\"http://",
    ] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
    let nowhere = server
        .call(Method::GET, "/docs/nothing", &NOBODY, None)
        .await;
    assert_error(&nowhere, 404, "not_found");
}

#[actix_web::test]
async fn every_list_refuses_an_iterator_that_is_not_its_own() {
    let mut server = Server::start().await;
    server.leftovers_are_fine();
    let document = document(&server).await;
    server.application("app").await;
    let endpoint = json!({ "url": "https://receiver.invalid/", "uid": "e", "disabled": true });
    for path in [
        "/api/v1/app/app/endpoint",
        "/api/v1/operational-webhook/endpoint",
    ] {
        server.post(path, endpoint.clone()).await.expect(201);
    }
    let message = json!({ "eventType": "a", "eventId": "m", "payload": {}, "channels": ["x"] });
    let message = server.post("/api/v1/app/app/msg", message).await;
    message.expect(202);
    let mut lists = 0;
    for (path, _) in paths(&document) {
        let parameters = document["paths"][&path]["get"]["parameters"].as_array();
        let mut names = parameters.into_iter().flatten().map(|one| &one["name"]);
        // Other surfaces have errors of their own shape, and tests of their own.
        if !path.starts_with("/api/v1/") || !names.any(|name| name == "iterator") {
            continue;
        }
        let path = path
            .replace("{app_id}", "app")
            .replace("{endpoint_id}", "e");
        let path = path.replace("{msg_id}", "m");
        server.get(&path).await.expect(200);
        for wrong in ["no%20id", "-no%20id", "%C3%A9", "%3D%2F"] {
            let answer = server.get(&format!("{path}?iterator={wrong}")).await;
            assert_invalid(&answer, &["query.iterator"]);
        }
        lists += 1;
    }
    assert!(lists >= 15, "{lists}");
}
