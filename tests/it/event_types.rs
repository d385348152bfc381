//! Event types: their shape, their life, and what archiving one does.

use serde_json::{Value, json};

use crate::support::{Receiver, Server, assert_error, assert_invalid, assert_pages, keys, texts};

const EVENT_TYPES: &str = "/api/v1/event-type";
const KEYS: [&str; 8] = [
    "archived",
    "createdAt",
    "deprecated",
    "description",
    "featureFlag",
    "name",
    "schemas",
    "updatedAt",
];

#[actix_web::test]
async fn an_event_type_is_created_read_changed_archived_and_expunged() {
    let server = Server::start().await;
    let least = json!({"name": "a.b", "description": "d"});
    let made = server.post(EVENT_TYPES, least.clone()).await.expect(201);
    assert_eq!(keys(&made), KEYS);
    let now = server.now().to_string();
    let expected = json!({
        "name": "a.b", "description": "d", "archived": false, "deprecated": false,
        "featureFlag": null, "schemas": null, "createdAt": now, "updatedAt": now,
    });
    assert_eq!(made, expected);
    let path = "/api/v1/event-type/a.b";
    assert_eq!(server.get(path).await.expect(200), made);
    assert_error(
        &server.post(EVENT_TYPES, least.clone()).await,
        409,
        "conflict",
    );

    server.advance(std::time::Duration::from_secs(60));
    let schemas = json!({"1": {"type": "object", "properties": {"id": {"type": "integer"}}}});
    let patch = json!({"schemas": schemas, "featureFlag": "beta", "deprecated": true});
    let patched = server.patch(path, patch).await.expect(200);
    assert_eq!(patched["schemas"], schemas);
    assert_eq!(patched["featureFlag"], "beta");
    assert_eq!(patched["deprecated"], true);
    assert_eq!(patched["description"], "d");
    assert_eq!(patched["createdAt"], now);
    assert_eq!(patched["updatedAt"], server.now().to_string());
    let cleared = server.patch(path, json!({"schemas": null, "featureFlag": null}));
    let cleared = cleared.await.expect(200);
    assert_eq!(cleared["schemas"], Value::Null);
    assert_eq!(cleared["featureFlag"], Value::Null);
    let put = server
        .put(path, json!({"description": "new"}))
        .await
        .expect(200);
    assert_eq!(put["deprecated"], false);
    assert_eq!(put["createdAt"], now);

    let archived = server.delete(path).await;
    assert_eq!((archived.status, archived.text.as_str()), (204, ""));
    assert_eq!(server.get(path).await.expect(200)["archived"], true);
    // Creating it again takes it back into use.
    let back = server.post(EVENT_TYPES, least).await.expect(201);
    assert_eq!(back["archived"], false);
    let expunged = server.delete("/api/v1/event-type/a.b?expunge=true").await;
    assert_eq!((expunged.status, expunged.text.as_str()), (204, ""));
    assert_error(&server.get(path).await, 404, "not_found");
    assert_error(&server.delete(path).await, 404, "not_found");
    assert_error(&server.patch(path, json!({})).await, 404, "not_found");
    let created = server.put(path, json!({"description": "d"})).await;
    assert_eq!(created.expect(201)["name"], "a.b");
}

#[actix_web::test]
async fn event_types_are_listed_by_name_and_without_the_archived() {
    let server = Server::start().await;
    // Names sort as bytes do; one that begins with a dash is not an iterator that reads back.
    let names = ["-x", "-y", ".a", "A", "a", "a.b", "a.c", "b"];
    for name in names.iter().rev() {
        let body = json!({"name": name, "description": "", "schemas": {"1": {}}});
        server.post(EVENT_TYPES, body).await.expect(201);
    }
    let body = json!({"name": "aa", "description": "", "archived": true});
    server.post(EVENT_TYPES, body).await.expect(201);
    let mut names = names.map(str::to_owned).to_vec();
    assert_pages(&server, EVENT_TYPES, "name", &names).await;
    names.reverse();
    let descending = "/api/v1/event-type?order=descending";
    assert_pages(&server, descending, "name", &names).await;
    names.reverse();
    names.insert(6, "aa".to_owned());
    names.sort();
    let all = "/api/v1/event-type?include_archived=true";
    assert_pages(&server, all, "name", &names).await;

    let list = server.get(EVENT_TYPES).await.expect(200);
    assert_eq!(keys(&list["data"][0]), KEYS);
    assert_eq!(list["data"][0]["schemas"], Value::Null, "left out of lists");
    let list = server.get("/api/v1/event-type?with_content=true").await;
    assert_eq!(list.expect(200)["data"][0]["schemas"], json!({"1": {}}));
}

#[actix_web::test]
async fn archived_types_take_no_messages_and_unknown_ones_do() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let body = json!({"name": "old", "description": ""});
    server.post(EVENT_TYPES, body).await.expect(201);
    server.send_to(&receiver, "old", json!({})).await;
    server.delete("/api/v1/event-type/old").await;
    let message = json!({"eventType": "old", "payload": {}});
    let refused = server.post("/api/v1/app/app/msg", message).await;
    assert_invalid(&refused, &["body.eventType"]);
    // Ids tell 4 ms apart.
    server.advance(std::time::Duration::from_millis(4));
    server.publish("nobody.registered.this", json!({})).await;
    server.settle().await;
    assert_eq!(receiver.count(), 2);
    let list = server.get("/api/v1/app/app/msg").await.expect(200);
    assert_eq!(texts(&list, "eventType"), ["nobody.registered.this", "old"]);
}

#[actix_web::test]
async fn what_is_wrong_with_an_event_type_is_told_at_once() {
    let server = Server::start().await;
    for (body, places) in [
        (json!({}), vec!["body.name", "body.description"]),
        (
            json!({"name": "a b", "description": 7}),
            vec!["body.description"],
        ),
        (
            json!({"name": "", "description": "\u{1}", "featureFlag": "a b", "schemas": {"1": []}}),
            vec![
                "body.name",
                "body.description",
                "body.featureFlag",
                "body.schemas",
            ],
        ),
        (
            json!({"name": "x".repeat(257), "description": ""}),
            vec!["body.name"],
        ),
        (
            json!({"name": "a", "description": "", "archived": 1}),
            vec!["body.archived"],
        ),
        (
            json!({"name": "a", "description": "", "schemas": []}),
            vec!["body.schemas"],
        ),
        (
            json!({"name": "a", "description": "d".repeat(9000)}),
            vec!["body.description"],
        ),
    ] {
        assert_invalid(&server.post(EVENT_TYPES, body).await, &places);
    }
    let put = server.put("/api/v1/event-type/a%20b", json!({"description": ""}));
    assert_invalid(&put.await, &["path.event_type_name"]);
    let delete = server.delete("/api/v1/event-type/a?expunge=1").await;
    assert_invalid(&delete, &["query.expunge"]);
    let list = server.get(EVENT_TYPES).await.expect(200);
    assert_eq!(list["data"], json!([]));
}
