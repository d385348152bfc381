//! Ids that callers choose: each one that is accepted can be read back, whatever words the paths of
//! the API have.

use std::collections::BTreeSet;

use awc::http::Method;
use serde_json::{Value, json};

use crate::support::{Server, assert_error, assert_invalid};

/// Each documented call.
async fn calls(server: &Server) -> Vec<(Method, String)> {
    let document = server.get("/openapi.json").await.expect(200);
    let paths = document["paths"].as_object().expect("paths");
    let calls = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().expect("methods").keys();
        methods.map(move |method| {
            let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes());
            (method.expect("a method"), path.clone())
        })
    });
    calls.collect()
}

/// Every word of a path that could be taken for an id; those of what is not offered, too.
fn words(calls: &[(Method, String)]) -> BTreeSet<String> {
    let parts = calls.iter().flat_map(|(_, path)| path.split('/'));
    let fixed = parts.filter(|part| !part.is_empty() && !part.starts_with('{'));
    let others = [
        "expunge-all-contents",
        "asyncapi",
        "connection",
        "poller",
        "transformation",
    ];
    fixed.chain(others).map(str::to_owned).collect()
}

#[actix_web::test]
async fn whatever_the_words_of_paths_each_id_is_read_back() {
    let mut server = Server::start().await;
    server.leftovers_are_fine();
    let calls = calls(&server).await;
    let words = words(&calls);
    for word in [
        "batch",
        "bulk-expunge",
        "precheck",
        "import",
        "usage",
        "expire-all",
    ] {
        assert!(words.contains(word), "{word}");
    }
    server.application("container").await;
    let url = "https://receiver.invalid/";
    for word in &words {
        let application = json!({ "name": word, "uid": word });
        server.post("/api/v1/app", application).await.expect(201);
        let endpoint = json!({ "url": url, "uid": word, "disabled": true });
        let made = server
            .post("/api/v1/app/container/endpoint", endpoint)
            .await;
        let endpoint = made.expect(201)["id"].clone();
        let event_type = json!({ "name": word, "description": "" });
        server
            .post("/api/v1/event-type", event_type)
            .await
            .expect(201);
        let message = json!({ "eventType": "a", "eventId": word, "payload": {} });
        let message = server
            .post("/api/v1/app/container/msg", message)
            .await
            .expect(202);
        for (path, field, value) in [
            (format!("/api/v1/app/{word}"), "uid", json!(word)),
            (
                format!("/api/v1/app/container/endpoint/{word}"),
                "id",
                endpoint,
            ),
            (format!("/api/v1/event-type/{word}"), "name", json!(word)),
            (
                format!("/api/v1/app/container/msg/{word}"),
                "id",
                message["id"].clone(),
            ),
        ] {
            for path in [path.clone(), format!("{path}/")] {
                assert_eq!(server.get(&path).await.expect(200)[field], value, "{path}");
                let head = server.call(Method::HEAD, &path, &[], None).await;
                assert_eq!(head.status, 200, "{path}");
            }
        }
    }
}

/// Every call that takes an id reaches the thing with it: no fixed path and nothing that is not
/// offered is before it.
#[actix_web::test]
async fn no_call_with_a_callers_id_is_taken_for_another() {
    let server = Server::start().await;
    let calls = calls(&server).await;
    let words = words(&calls);
    // Ids that the caller chooses; the others are the server's own.
    let chosen = ["{app_id}", "{endpoint_id}", "{msg_id}", "{event_type_name}"];
    let mut tried = 0;
    for (method, path) in &calls {
        let parts = path.split('/').enumerate();
        for (at, part) in parts.filter(|(_, part)| chosen.contains(part)) {
            // Only what stands there in another path can be before it.
            let there = |word: &&String| {
                let mut paths = calls.iter().map(|(_, path)| path.split('/').nth(at));
                paths.any(|other| other == Some(word)) || *word == "expunge-all-contents"
            };
            for word in words.iter().filter(there) {
                let place = path.replace(part, word);
                let filled = place.split('/').map(|part| match part.starts_with('{') {
                    true => "other",
                    false => part,
                });
                let place = filled.collect::<Vec<_>>().join("/");
                let body = (*method != Method::GET).then(|| "[]".to_owned());
                let answer = server.call(method.clone(), &place, &[], body).await;
                // What is the matter is the thing, or the body, and not the path or the method.
                assert_ne!(answer.status, 405, "{method} {place}");
                let is_wrong =
                    answer.text.contains("not_offered") || answer.text.contains("no such path");
                assert!(!is_wrong, "{method} {place}: {}", answer.text);
                tried += 1;
            }
        }
    }
    assert!(tried > 300, "{tried}");
    // And what is not offered is told where it is asked for.
    let not_offered = "/api/v1/app/app/msg/expunge-all-contents";
    let answer = server.call(Method::POST, not_offered, &[], None).await;
    assert_error(&answer, 404, "not_offered");
    let answer = server
        .call(Method::DELETE, "/api/v1/app/app/msg/batch", &[], None)
        .await;
    assert_eq!(answer.status, 405);
    assert_eq!(answer.header("allow"), Some("POST"));
}

/// Clients take such steps out of a URL before they send it.
#[actix_web::test]
async fn a_step_in_a_path_is_no_id() {
    let server = Server::start().await;
    server.application("app").await;
    let url = "https://receiver.invalid/";
    for dots in [".", ".."] {
        for (path, body, field) in [
            (
                "/api/v1/app",
                json!({ "name": "N", "uid": dots }),
                "body.uid",
            ),
            (
                "/api/v1/app/app/endpoint",
                json!({ "url": url, "uid": dots }),
                "body.uid",
            ),
            (
                "/api/v1/app/app/msg",
                json!({ "eventType": "a", "eventId": dots, "payload": {} }),
                "body.eventId",
            ),
            (
                "/api/v1/event-type",
                json!({ "name": dots, "description": "" }),
                "body.name",
            ),
        ] {
            let answer = server.post(path, body).await;
            assert_invalid(&answer, &[field]);
            let said = answer.json()["detail"][0]["msg"].clone();
            assert!(
                said.as_str().is_some_and(|said| said.contains("path")),
                "{said}"
            );
        }
    }
    let applications: Value = server.get("/api/v1/app").await.expect(200);
    assert_eq!(applications["data"].as_array().map(Vec::len), Some(1));
}
