//! Event types: their shape, their life, and what archiving one does.

use awc::http::Method;
use serde_json::{Value, json};

use crate::support::{
    Answer, Receiver, Server, assert_error, assert_invalid, assert_pages, keys, texts,
};

const EVENT_TYPES: &str = "/api/v1/event-type";
const CHANNELS: &str = "/api/v1/channel";
const KEYS: [&str; 13] = [
    "archived",
    "channels",
    "createdAt",
    "deprecated",
    "description",
    "example",
    "featureFlag",
    "featureFlags",
    "groupName",
    "name",
    "schemas",
    "updatedAt",
    "validate",
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
        "featureFlag": null, "featureFlags": [], "groupName": null, "schemas": null, "createdAt": now, "updatedAt": now,
        "example": null, "channels": null, "validate": "off",
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

/// A call whose body is text, the bytes of which matter.
async fn call(server: &Server, method: Method, path: &str, body: &str) -> Answer {
    server.call(method, path, &[], Some(body.to_owned())).await
}

#[actix_web::test]
async fn an_example_and_channels_are_kept_as_they_were_given() {
    let server = Server::start().await;
    let example = "{ \"b\" : 1.10,\n \"a\":{\"n\":12345678901234567890123} }";
    let body = format!(
        r#"{{"name":"a.b","description":"d","example":{example},"channels":["B","a","B"]}}"#
    );
    let made = call(&server, Method::POST, EVENT_TYPES, &body).await;
    assert!(made.text.contains(example), "{}", made.text);
    let made = made.expect(201);
    assert_eq!(
        made["channels"],
        json!(["B", "a"]),
        "each once, in the order given"
    );
    let path = "/api/v1/event-type/a.b";
    let unchanged = async |server: &Server| {
        let read = server.get(path).await;
        assert!(read.text.contains(example), "{}", read.text);
        assert_eq!(read.expect(200)["channels"], json!(["B", "a"]));
    };
    unchanged(&server).await;
    let server = server.restart().await;
    unchanged(&server).await;
    // Clients that do not know them.
    let put = json!({"description": "new", "schemas": null});
    let put = server.put(path, put).await.expect(200);
    assert_eq!(put["description"], "new");
    unchanged(&server).await;
    server
        .patch(path, json!({"deprecated": true}))
        .await
        .expect(200);
    unchanged(&server).await;

    let list = server.get(EVENT_TYPES).await.expect(200);
    assert_eq!(list["data"][0]["example"], Value::Null, "left out of lists");
    assert_eq!(list["data"][0]["channels"], json!(["B", "a"]));
    let list = server.get("/api/v1/event-type?with_content=true").await;
    assert!(list.text.contains(example), "{}", list.text);

    for (method, body) in [
        (
            Method::PUT,
            json!({"description": "", "example": {"c": 1}, "channels": ["c"]}),
        ),
        (
            Method::PATCH,
            json!({"example": {"c": 1}, "channels": ["c"]}),
        ),
    ] {
        let changed = call(&server, method.clone(), path, &body.to_string()).await;
        let changed = changed.expect(200);
        assert_eq!(changed["example"], json!({"c": 1}), "{method}");
        assert_eq!(changed["channels"], json!(["c"]), "{method}");
        let null = json!({"description": "", "example": null, "channels": null});
        let cleared = call(&server, method, path, &null.to_string()).await;
        let cleared = cleared.expect(200);
        assert_eq!(
            (&cleared["example"], &cleared["channels"]),
            (&Value::Null, &Value::Null)
        );
    }
}

#[actix_web::test]
async fn an_example_has_a_size_and_an_event_type_room_for_it() {
    // `{"a":""}` has 8 bytes.
    let example = |bytes: usize| json!({"a": "x".repeat(bytes - 8)});
    let most = 64 * 1024;
    let server = Server::start().await;
    let long = |n: usize| format!("{n:03}{}", "c".repeat(125));
    let body = json!({
        "name": "a",
        "description": "",
        "schemas": {"1": {"title": "t".repeat(200 * 1024)}},
        "example": example(most),
        "channels": (0..500).map(long).collect::<Vec<_>>(),
    });
    let made = server.post(EVENT_TYPES, body.clone()).await.expect(201);
    assert_eq!(made["example"], body["example"]);
    let server = server.restart().await;
    let read = server.get("/api/v1/event-type/a").await.expect(200);
    assert_eq!(read, made);
    let over = json!({"example": example(most + 1)});
    let refused = server.patch("/api/v1/event-type/a", over).await;
    assert_invalid(&refused, &["body.example"]);
    assert_eq!(server.get("/api/v1/event-type/a").await.expect(200), made);
    // Where payloads are limited to less, so are examples.
    let server = server
        .restart_with(|config| config.limits.payload_bytes = 1000)
        .await;
    for (bytes, good) in [(1000, true), (1001, false)] {
        let body = json!({"example": example(bytes)});
        let answer = server.patch("/api/v1/event-type/a", body).await;
        match good {
            true => drop(answer.expect(200)),
            false => assert_invalid(&answer, &["body.example"]),
        }
    }
}

#[actix_web::test]
async fn the_channels_of_all_event_types_in_use_are_listed() {
    let server = Server::start().await;
    let list = server.get(CHANNELS).await.expect(200);
    let empty = json!({"data": [], "done": true, "iterator": null, "prevIterator": null});
    assert_eq!(list, empty);
    for (name, channels, archived) in [
        ("UPDATE", json!(["Space", "Agreement", "-x"]), false),
        ("CREATE", json!(["Agreement", "Visitor"]), false),
        ("ARCHIVE", json!(["Agreement", "Gone"]), true),
        ("DELETE", Value::Null, false),
    ] {
        let body = json!({
            "name": name, "description": "", "channels": channels, "archived": archived,
        });
        server.post(EVENT_TYPES, body).await.expect(201);
    }
    let names = ["-x", "Agreement", "Space", "Visitor"].map(str::to_owned);
    assert_pages(&server, CHANNELS, "name", &names).await;
    let list = server.get(CHANNELS).await.expect(200);
    let expected = json!([
        {"name": "-x", "eventTypes": ["UPDATE"]},
        {"name": "Agreement", "eventTypes": ["CREATE", "UPDATE"]},
        {"name": "Space", "eventTypes": ["UPDATE"]},
        {"name": "Visitor", "eventTypes": ["CREATE"]},
    ]);
    assert_eq!(list["data"], expected);
    let mut down = names.to_vec();
    down.reverse();
    assert_pages(
        &server,
        &format!("{CHANNELS}?order=descending"),
        "name",
        &down,
    )
    .await;
    let limit = server.get(&format!("{CHANNELS}?limit=251&iterator=")).await;
    assert_invalid(&limit, &["query.limit"]);

    server.application("app").await;
    for role in ["application", "publisher", "webhook_admin"] {
        let application = (role == "application").then_some("app");
        let body = json!({"name": "t", "role": role, "applicationId": application});
        let token = server.post("/api/v1/token", body).await.expect(201);
        let bearer = format!("Bearer {}", token["token"].as_str().unwrap());
        let headers = [("authorization", bearer.as_str())];
        let read = server.call(Method::GET, CHANNELS, &headers, None).await;
        assert_eq!(read.expect(200), list, "{role}");
    }
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
        (
            json!({"name": "a", "description": "", "example": [], "channels": []}),
            vec!["body.example", "body.channels"],
        ),
        (
            json!({"name": "a", "description": "", "example": "{}", "channels": ["a", "b c"]}),
            vec!["body.example", "body.channels.1"],
        ),
        (
            json!({
                "name": "a", "description": "",
                "channels": (0..501).map(|n| format!("c{n}")).collect::<Vec<_>>(),
            }),
            vec!["body.channels"],
        ),
        (
            json!({"name": "a", "description": "", "channels": "a"}),
            vec!["body.channels"],
        ),
    ] {
        assert_invalid(&server.post(EVENT_TYPES, body).await, &places);
    }
    let half = r#"{"name":"a","description":"","example":{"a":"\ud800"}}"#;
    let half = call(&server, Method::POST, EVENT_TYPES, half).await;
    assert_invalid(&half, &["body.example"]);
    let put = server.put("/api/v1/event-type/a%20b", json!({"description": ""}));
    assert_invalid(&put.await, &["path.event_type_name"]);
    let delete = server.delete("/api/v1/event-type/a?expunge=1").await;
    assert_invalid(&delete, &["query.expunge"]);
    let list = server.get(EVENT_TYPES).await.expect(200);
    assert_eq!(list["data"], json!([]));
}
