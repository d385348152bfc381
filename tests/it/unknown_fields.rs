//! Fields and parameters that are not known: refused by name, so that nobody relies on what is not
//! done.

use awc::http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Receiver, Server, assert_invalid};

/// What a 422 says of the only thing that is wrong: its type and its message.
#[track_caller]
fn problem(answer: &Answer, place: &str) -> (String, String) {
    assert_invalid(answer, &[place]);
    let body = answer.json();
    let text = |name: &str| body["detail"][0][name].as_str().unwrap().to_owned();
    (text("type"), text("msg"))
}

/// An application `app`, and the path of an endpoint `ep` of it.
async fn world(server: &Server) -> String {
    let endpoint = json!({ "url": "http://a.test/", "uid": "ep" });
    server.endpoint_of("app", endpoint).await;
    "/api/v1/app/app/endpoint/ep".to_owned()
}

#[actix_web::test]
async fn no_body_has_a_field_that_is_not_known() {
    let server = Server::start().await;
    let endpoint = world(&server).await;
    let url = "http://a.test/";
    let since = "2026-01-01T00:00:00Z";
    for (method, path, body) in [
        ("POST", "/api/v1/app", json!({ "name": "n" })),
        ("PUT", "/api/v1/app/app", json!({ "name": "n" })),
        ("PATCH", "/api/v1/app/app", json!({})),
        ("POST", "/api/v1/app/app/endpoint", json!({ "url": url })),
        ("PUT", &endpoint, json!({ "url": url })),
        ("PATCH", &endpoint, json!({})),
        (
            "PUT",
            &format!("{endpoint}/headers"),
            json!({ "headers": {} }),
        ),
        (
            "PATCH",
            &format!("{endpoint}/headers"),
            json!({ "headers": {} }),
        ),
        ("POST", &format!("{endpoint}/secret/rotate"), json!({})),
        (
            "POST",
            &format!("{endpoint}/send-example"),
            json!({ "eventType": "a" }),
        ),
        (
            "POST",
            &format!("{endpoint}/simulate"),
            json!({ "eventType": "a" }),
        ),
        (
            "POST",
            &format!("{endpoint}/recover"),
            json!({ "since": since }),
        ),
        (
            "POST",
            &format!("{endpoint}/replay-missing"),
            json!({ "since": since }),
        ),
        (
            "POST",
            &format!("{endpoint}/bulk-replay"),
            json!({ "since": since }),
        ),
        ("POST", &format!("{endpoint}/enable"), json!({})),
        ("POST", &format!("{endpoint}/cancel-held"), json!({})),
        ("POST", &format!("{endpoint}/release"), json!({})),
        ("POST", "/api/v1/release", json!({})),
        (
            "POST",
            "/api/v1/operational-webhook/endpoint",
            json!({ "url": url }),
        ),
        (
            "POST",
            "/api/v1/event-type",
            json!({ "name": "a", "description": "" }),
        ),
        ("PUT", "/api/v1/event-type/a", json!({ "description": "" })),
        ("PATCH", "/api/v1/event-type/a", json!({})),
        (
            "POST",
            "/api/v1/event-type/import/openapi",
            json!({ "spec": {} }),
        ),
        (
            "POST",
            "/api/v1/app/app/msg",
            json!({ "eventType": "a", "payload": {} }),
        ),
        (
            "POST",
            "/api/v1/app/app/msg/precheck/active",
            json!({ "eventType": "a" }),
        ),
        (
            "POST",
            "/api/v1/token",
            json!({ "name": "t", "role": "owner" }),
        ),
        ("POST", "/api/v1/app/app/token", json!({ "name": "t" })),
        ("POST", "/api/v1/profile/standard/preview", json!({})),
        ("POST", "/api/v1/auth/app-portal-access/app", json!({})),
        ("POST", "/api/v1/auth/app/app/expire-all", json!({})),
        (
            "POST",
            "/api/v1/stats/usage/app",
            json!({ "since": since, "until": since }),
        ),
    ] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut with_more: Value = body;
        with_more["surprise"] = json!(1);
        let sent = server.call(method.clone(), path, &[], Some(with_more.to_string()));
        let (kind, message) = problem(&sent.await, "body.surprise");
        let expected = ("value_error.extra", "there is no such field here");
        assert_eq!(
            (kind.as_str(), message.as_str()),
            expected,
            "{method} {path}"
        );
    }
    // Within what a body has, too, and in each message of a batch.
    let nested = json!({ "url": url, "basicAuth": { "username": "u", "passwort": "p" } });
    let answer = server.patch(&endpoint, nested).await;
    let (_, message) = problem(&answer, "body.basicAuth.passwort");
    assert!(message.ends_with("did you mean password?"), "{message}");
    let message = json!({ "eventType": "a", "payload": {}, "application": { "name": "n", "uid": "app", "rate": 1 } });
    let answer = server.post("/api/v1/app/app/msg", message).await;
    problem(&answer, "body.application.rate");
    let batch = json!([{ "eventType": "a", "payload": {}, "eventid": "x" }]);
    let answer = server.post("/api/v1/app/app/msg/batch", batch).await;
    let (_, message) = problem(&answer, "body.0.eventid");
    assert!(message.ends_with("did you mean eventId?"), "{message}");
}

/// The contract's own take whatever stands there, as they always did.
const CONTRACTS: [&str; 3] = [
    "v1.message-attempt.resend",
    "v1.statistics.aggregate-event-types",
    "logout_api_v1_auth_logout__post",
];

#[actix_web::test]
async fn what_needs_no_body_takes_none_but_an_empty_one() {
    let server = Server::start().await;
    world(&server).await;
    let own = json!({ "url": "http://a.test/", "uid": "ep" });
    let own = server
        .post("/api/v1/operational-webhook/endpoint", own)
        .await;
    own.expect(201);
    let user = json!({ "name": "u", "role": "webhook_user" });
    let user = server.post("/api/v1/token", user).await.expect(201);
    let document = server.get("/openapi.json").await.json();
    let mut found = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            let has_body = !operation["requestBody"].is_null();
            if has_body || !["post", "put"].contains(&method.as_str()) || CONTRACTS.contains(&id) {
                continue;
            }
            found += 1;
            let path = path
                .replace("{app_id}", "app")
                .replace("{endpoint_id}", "ep")
                .replace("{token_id}", user["id"].as_str().unwrap())
                .replace("{task_id}", "t");
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let send = async |body: Option<&str>| {
                let body = body.map(str::to_owned);
                server.call(method.clone(), &path, &[], body).await
            };
            problem(&send(Some(r#"{"zz":1}"#)).await, "body.zz");
            problem(&send(Some("{bad")).await, "body");
            for taken in [None, Some(""), Some("null"), Some("{}")] {
                // A task of this id there is not, and a server without a copy hands nothing over.
                let status = send(taken).await.status;
                let none = if id == "v1.server.hand-over" {
                    409
                } else {
                    404
                };
                assert!([200, 202, 204, none].contains(&status), "{id}: {status}");
            }
        }
    }
    assert_eq!(found, 12);
}

/// The kinds of JSON that a field takes; none where it takes anything.
fn kinds(schema: &Value, document: &Value) -> Vec<String> {
    if let Some(name) = schema["$ref"].as_str() {
        return kinds(document.pointer(&name[1..]).unwrap(), document);
    }
    for choice in ["anyOf", "oneOf", "allOf"] {
        if let Some(all) = schema[choice].as_array() {
            return all.iter().flat_map(|one| kinds(one, document)).collect();
        }
    }
    match &schema["type"] {
        Value::String(kind) => vec![kind.clone()],
        Value::Array(all) => all
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        _ => Vec::new(),
    }
}

/// What a required field may hold.
fn sample(name: &str, schema: &Value) -> Value {
    match name {
        "url" | "target_url" | "webhook_endpoint" => json!("http://a.test/"),
        "since" | "until" => json!("2026-01-01T00:00:00Z"),
        "role" => json!("owner"),
        _ if schema["type"] == "object" || name == "payload" => json!({}),
        _ if schema["type"] == "array" => json!([]),
        _ => json!("a"),
    }
}

/// For every field of every body in the document.
#[actix_web::test]
async fn a_wrong_type_is_told_in_plain_words() {
    const LEAKS: [&str; 18] = [
        "u8",
        "u16",
        "u32",
        "u64",
        "i64",
        "usize",
        "invalid type",
        "invalid value",
        "struct",
        "enum ",
        "at line",
        "Option",
        "variant",
        "sled",
        "serde",
        "backtrace",
        "bincode",
        "untagged",
    ];
    let server = Server::start().await;
    world(&server).await;
    server
        .post(
            "/api/v1/event-type",
            json!({ "name": "a", "description": "" }),
        )
        .await;
    let document = server.get("/openapi.json").await.json();
    let mut told = 0;
    let mut bad = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let body = &operation["requestBody"]["content"]["application/json"]["schema"];
            let body = match body["$ref"].as_str() {
                Some(name) => document.pointer(&name[1..]).unwrap(),
                None => body,
            };
            let Some(fields) = body["properties"].as_object() else {
                continue;
            };
            let path = path
                .replace("{app_id}", "app")
                .replace("{endpoint_id}", "ep")
                .replace("{event_type_name}", "a")
                .replace("{name}", "standard");
            // A sign-in says where; elsewhere this takes the credential out of a cookie.
            let headers: &[(&str, &str)] = match path.ends_with("/session") {
                true => &[("x-postrider-surface", "console")],
                false => &[],
            };
            for (field, schema) in fields {
                let kinds = kinds(schema, &document);
                if kinds.is_empty() || schema.get("x-without-effect").is_some() {
                    continue;
                }
                for (kind, wrong) in [
                    ("string", json!("abc")),
                    ("number", json!(7.5)),
                    ("array", json!([[1]])),
                    ("boolean", json!(true)),
                    ("object", json!({ "zz": [1] })),
                ] {
                    if kinds.iter().any(|one| one == kind) {
                        continue;
                    }
                    let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
                    let mut sent = json!({ field: wrong });
                    for name in body["required"].as_array().into_iter().flatten() {
                        let name = name.as_str().unwrap();
                        if name != field {
                            sent[name] = sample(name, &fields[name]);
                        }
                    }
                    let sent = sent.to_string();
                    let answer = server
                        .call(method.clone(), &path, headers, Some(sent.clone()))
                        .await;
                    let text = answer.json().to_string();
                    let at = format!("{method} {path} {sent}: {} {text}", answer.status);
                    if !(400..500).contains(&answer.status) {
                        bad.push(at.clone());
                        continue;
                    }
                    assert!(text.len() < 1000, "{at}");
                    let message = text.replace(field.as_str(), "");
                    for leak in LEAKS {
                        if message.contains(leak) {
                            bad.push(format!("{leak}: {at}"));
                        }
                    }
                    if answer.status == 422 {
                        if !text.contains(field.as_str()) {
                            bad.push(at.clone());
                        }
                        told += 1;
                    }
                }
            }
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
    assert!(told > 200, "only {told} were told");
}

#[actix_web::test]
async fn what_is_open_by_its_nature_stays_so() {
    let server = Server::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = json!({ "url": receiver.url(), "metadata": { "surprise": "1" }, "headers": { "X-Surprise": "1" } });
    server.endpoint_of("app", endpoint).await;
    let message = server
        .publish("a", json!({ "surprise": { "trottleRate": 1 } }))
        .await;
    server.settle().await;
    assert_eq!(server.outcomes(&message).await, ["delivered"]);
}

#[actix_web::test]
async fn a_near_miss_says_what_may_be_meant() {
    let server = Server::start().await;
    let endpoint = world(&server).await;
    for (name, meant) in [
        ("trottleRate", "throttleRate"),
        ("throttle_rate", "throttleRate"),
        ("eventType", "eventTypes"),
        ("ratelimit", "rateLimit"),
    ] {
        let answer = server.patch(&endpoint, json!({ name: 1 })).await;
        let (_, message) = problem(&answer, &format!("body.{name}"));
        assert_eq!(
            message,
            format!("there is no such field here; did you mean {meant}?")
        );
    }
    // What is shown can be sent back; where something is made, its id is not to be chosen.
    server
        .patch(&endpoint, json!({ "createdAt": "x", "id": "y" }))
        .await
        .expect(200);
    for (path, body) in [
        ("/api/v1/app", json!({ "name": "n", "id": "mine" })),
        (
            "/api/v1/app/app/endpoint",
            json!({ "url": "http://a.test/", "id": "mine" }),
        ),
    ] {
        let refused = [
            server.post(path, body.clone()).await,
            server.put(&format!("{path}/fresh"), body).await,
        ];
        for answer in refused {
            let (_, message) = problem(&answer, "body.id");
            assert_eq!(
                message,
                "is set by the server and cannot be sent; your own id is the uid"
            );
        }
    }
}

#[actix_web::test]
async fn an_application_beside_a_message_or_a_link_is_made_without_an_id() {
    let server = Server::start().await;
    server.application("app").await;
    let beside = |uid: &str| json!({ "name": "n", "uid": uid, "id": "mine" });
    for (uid, status) in [("fresh", 422), ("app", 202)] {
        let body = json!({ "eventType": "a", "payload": {}, "application": beside(uid) });
        let answer = server.post(&format!("/api/v1/app/{uid}/msg"), body).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        let body = json!({ "application": beside(uid) });
        let path = format!("/api/v1/auth/app-portal-access/{uid}");
        let answer = server.post(&path, body).await;
        assert_eq!(answer.status == 200, status == 202, "{}", answer.text);
    }
    server.get("/api/v1/app/fresh").await.expect(404);
}

#[actix_web::test]
async fn what_promises_something_is_refused_as_not_offered() {
    let server = Server::start().await;
    let endpoint = world(&server).await;
    let message = || json!({ "eventType": "a", "payload": {} });
    let replay = || json!({ "since": "2026-01-01T00:00:00Z" });
    let bulk = format!("{endpoint}/bulk-replay");
    for (path, body, name, value) in [
        (
            "/api/v1/app/app/endpoint",
            json!({ "url": "http://a.test/" }),
            "ordered",
            json!(true),
        ),
        ("/api/v1/app/app/msg", message(), "orderingKey", json!("k")),
        (bulk.as_str(), replay(), "dryRun", json!(true)),
        // Sooner than the operator has it: what is to be gone would still be there.
        (
            "/api/v1/app/app/msg",
            message(),
            "payloadRetentionHours",
            json!(1),
        ),
        (
            "/api/v1/app/app/msg",
            message(),
            "payloadRetentionPeriod",
            json!(5),
        ),
    ] {
        let mut body = body;
        body[name] = value;
        let answer = server.post(path, body).await;
        let (kind, said) = problem(&answer, &format!("body.{name}"));
        assert_eq!(kind, "not_offered", "{name}");
        assert!(said.starts_with("postrider does not offer "), "{said}");
    }
    assert_eq!(
        server.get("/api/v1/app/app/msg").await.json()["data"],
        json!([])
    );
    assert_eq!(
        server.get("/api/v1/background-task").await.json()["data"],
        json!([])
    );

    let own = json!({ "url": "http://a.test/", "channels": ["c"], "profile": "github" });
    let answer = server
        .post("/api/v1/operational-webhook/endpoint", own)
        .await;
    assert_invalid(&answer, &["body.channels"]);
}

/// Fields that are taken and ignored, with the reason: they only tune what is so anyway.
#[actix_web::test]
async fn the_fields_without_effect_are_these() {
    let server = Server::start().await;
    server.application("app").await;
    let document = server.get("/openapi.json").await.expect(200);
    let mut found = Vec::new();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        let Some(fields) = schema["properties"].as_object() else {
            continue;
        };
        for (field, schema) in fields {
            if let Some(reason) = schema["x-without-effect"].as_str() {
                assert!(!reason.is_empty());
                found.push(format!("{name}.{field}"));
            }
        }
    }
    let names = |schema: &str, fields: &[&str]| -> Vec<String> {
        fields
            .iter()
            .map(|field| format!("{schema}.{field}"))
            .collect()
    };
    let of_endpoints = [
        "authHeaderNames",
        "breaker",
        "catchUp",
        "createdAt",
        "disabledAt",
        "disabledReason",
        "disablesAt",
        "failingSince",
        "failures",
        "hold",
        "id",
        "updatedAt",
        "verification",
        "version",
        "warnings",
    ];
    let expected = [
        names("ApplicationIn", &["createdAt", "id", "updatedAt"]),
        names("ApplicationPatch", &["createdAt", "id", "updatedAt"]),
        names("EndpointIn", &of_endpoints),
        names("EndpointPatch", &of_endpoints),
        names("EventTypeIn", &["createdAt", "schemaWarnings", "updatedAt"]),
        names(
            "EventTypePatch",
            &["createdAt", "schemaWarnings", "updatedAt"],
        ),
        names(
            "EventTypeUpdate",
            &["createdAt", "schemaWarnings", "updatedAt"],
        ),
        names(
            "MessageIn",
            &["payloadRetentionHours", "payloadRetentionPeriod"],
        ),
        names("OperationalWebhookEndpointIn", &of_endpoints),
    ];
    found.sort();
    assert_eq!(found, expected.concat());
    for (name, value) in [
        ("payloadRetentionPeriod", 30),
        ("payloadRetentionPeriod", 90),
        ("payloadRetentionHours", 720),
    ] {
        let body = json!({ "eventType": "a", "payload": {}, name: value });
        server.post("/api/v1/app/app/msg", body).await.expect(202);
    }
}

#[actix_web::test]
async fn an_unknown_parameter_is_refused_where_the_route_is_ours() {
    let server = Server::start().await;
    let endpoint = world(&server).await;
    for path in [
        "/api/v1/token?surprise=1",
        "/api/v1/profile?surprise",
        "/api/v1/channel?surprise=1",
        "/api/v1/lane?surprise=",
        "/api/v1/status?surprise=1",
        "/api/v1/session?surprise=1",
        "/api/v1/app/app/token?surprise=1",
        &format!("{endpoint}/attempt-series?surprise=1"),
    ] {
        problem(&server.get(path).await, "query.surprise");
    }
    let (_, message) = problem(&server.get("/api/v1/token?limt=1").await, "query.limt");
    assert_eq!(
        message,
        "there is no such parameter here; did you mean limit?"
    );
    server.get("/api/v1/token?limit=1").await.expect(200);
    // Clients of the contract may be newer than this.
    for path in [
        "/api/v1/app?surprise=1",
        "/api/v1/app/app/msg?surprise=1",
        "/api/v1/health?surprise=1",
    ] {
        server.get(path).await.expect(200);
    }
}

/// What a viewer may do that is no GET.
const OF_VIEWERS: [&str; 7] = [
    "v1.endpoint.test-filter",
    "v1.profile.preview",
    "v1.endpoint.transformation-preview",
    "v1.statistics.aggregate-app-stats",
    "v1.statistics.aggregate-event-types",
    "v1.session.expire-all",
    "v1.session.delete-other",
];

#[actix_web::test]
async fn no_change_has_a_parameter_that_is_not_known() {
    let server = Server::start().await;
    let viewer = json!({ "name": "v", "role": "viewer" });
    let viewer = server.post("/api/v1/token", viewer).await.expect(201);
    let viewer = viewer["token"].as_str().expect("shown once");
    let document = server.get("/openapi.json").await.expect(200);
    let paths = document["paths"].as_object().expect("paths");
    let native = paths
        .iter()
        .filter(|(path, _)| path.starts_with("/api/v1/"));
    let operations = native.flat_map(|(path, methods)| {
        let methods = methods.as_object().expect("operations");
        let changes = methods.iter().filter(|(method, _)| *method != "get");
        changes.map(move |(method, operation)| (path, method, operation))
    });
    let mut changes = 0;
    for (path, method, operation) in operations {
        let mut path = format!("{path}?surprise=1");
        while let Some((begin, rest)) = path.split_once('{') {
            let (_, end) = rest.split_once('}').expect("a part of a path");
            path = format!("{begin}x{end}");
        }
        let method: Method = method.to_uppercase().parse().expect("a method");
        let id = operation["operationId"].as_str().expect("an id");
        let is_open = operation["security"] == json!([]);
        let by = |token| server.call_as(token, method.clone(), &path, None);
        // Logging out is for a portal's people: see below.
        if id != "logout_api_v1_auth_logout__post" {
            let owned = server.call(method.clone(), &path, &[], None).await;
            problem(&owned, "query.surprise");
        }
        let (strangers, viewers) = match (is_open, OF_VIEWERS.contains(&id)) {
            (true, _) => (422, 422),
            (false, true) => (401, 422),
            (false, false) => (401, 403),
        };
        assert_eq!(by("pr_nobody").await.status, strangers, "{id}");
        assert_eq!(by(viewer).await.status, viewers, "{id}");
        changes += 1;
    }
    assert!(changes > 40, "{changes}");
}

#[actix_web::test]
async fn a_change_with_an_unknown_parameter_is_not_made_and_with_a_known_one_it_is() {
    let server = Server::start().await;
    let application = json!({ "name": "n", "uid": "app" });
    let misspelled = "/api/v1/app?get_if_exist=true";
    let refused = server.post(misspelled, application.clone()).await;
    let (_, message) = problem(&refused, "query.get_if_exist");
    assert_eq!(
        message,
        "there is no such parameter here; did you mean get_if_exists?"
    );
    let listed = server.get("/api/v1/app").await.expect(200);
    assert_eq!(listed["data"], json!([]));
    let made = "/api/v1/app?get_if_exists=true";
    server.post(made, application.clone()).await.expect(201);
    server.post(made, application).await.expect(200);

    let message = json!({ "eventType": "a.b", "payload": {} });
    let published = "/api/v1/app/app/msg?with_content=false";
    server.post(published, message).await.expect(202);
    let event_type = json!({ "name": "a.b", "description": "" });
    server
        .post("/api/v1/event-type", event_type)
        .await
        .expect(201);
    server
        .delete("/api/v1/event-type/a.b?expunge=false&expunged=1")
        .await
        .expect(422);
    server
        .delete("/api/v1/event-type/a.b?expunge=true")
        .await
        .expect(204);

    let link = "/api/v1/auth/app-portal-access/app";
    let link = server.post(link, json!({})).await.expect(200);
    let link = link["token"].as_str().expect("a token");
    let log_out = async |token: &str, query: &str| {
        let path = format!("/api/v1/auth/logout{query}");
        server.call_as(token, Method::POST, &path, None).await
    };
    problem(&log_out(link, "?surprise=1").await, "query.surprise");
    log_out(link, "").await.expect(204);
}

#[actix_web::test]
async fn the_older_name_of_the_rate_is_taken_everywhere() {
    let server = Server::start().await;
    world(&server).await;
    for (path, whole) in [
        ("/api/v1/app", json!({ "name": "n", "uid": "rated" })),
        (
            "/api/v1/app/app/endpoint",
            json!({ "url": "http://a.test/", "uid": "rated" }),
        ),
    ] {
        let one = format!("{path}/rated");
        let with = |name: &str, value: Value| {
            let mut body = whole.clone();
            body[name] = value;
            body
        };
        let made = server
            .post(path, with("rateLimit", json!(3)))
            .await
            .expect(201);
        assert_eq!(made["throttleRate"], 3, "{made}");
        let put = server
            .put(&one, with("rateLimit", json!(4)))
            .await
            .expect(200);
        assert_eq!(put["throttleRate"], 4);
        let patched = server
            .patch(&one, json!({ "rateLimit": 5 }))
            .await
            .expect(200);
        assert_eq!(patched["throttleRate"], 5);
        let both = server
            .patch(&one, json!({ "rateLimit": 6, "throttleRate": 6 }))
            .await;
        assert_eq!(both.expect(200)["throttleRate"], 6);
        let differing = json!({ "rateLimit": 6, "throttleRate": 7 });
        assert_invalid(&server.patch(&one, differing).await, &["body.rateLimit"]);
        let mut differing = with("rateLimit", json!(6));
        differing["throttleRate"] = json!(7);
        assert_invalid(&server.put(&one, differing).await, &["body.rateLimit"]);
        let cleared = server
            .patch(&one, json!({ "rateLimit": null }))
            .await
            .expect(200);
        assert_eq!(cleared.get("throttleRate"), None);
        assert_invalid(
            &server.patch(&one, json!({ "rateLimit": 0 })).await,
            &["body.rateLimit"],
        );
    }
}

#[actix_web::test]
async fn an_event_type_keeps_the_name_in_its_path() {
    let server = Server::start().await;
    let body = json!({ "name": "a", "description": "" });
    server
        .put("/api/v1/event-type/a", body.clone())
        .await
        .expect(201);
    server
        .patch("/api/v1/event-type/a", body.clone())
        .await
        .expect(200);
    for answer in [
        server.put("/api/v1/event-type/b", body.clone()).await,
        server
            .patch("/api/v1/event-type/a", json!({ "name": "c" }))
            .await,
    ] {
        assert_invalid(&answer, &["body.name"]);
    }
}

/// What clients of other systems send along is theirs; what looks misspelled is told.
#[actix_web::test]
async fn other_systems_surfaces_refuse_only_what_looks_misspelled() {
    let server = Server::start().await;
    server.application("7").await;
    let body = json!({ "name": "CREATE", "description": "" });
    server.post("/api/v1/event-type", body).await.expect(201);
    let path = "/api/v3/project_templates/7/webhook_endpoints";
    let webhook = |name: &str, value: Value| {
        let mut fields = json!({ "target_url": "http://a.test/", "event": "CREATE", "username": "u", "password": "p" });
        fields[name] = value;
        json!({ "webhookEndpoint": fields })
    };
    let made = server.post(path, webhook("id", json!(3))).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let refused = server
        .post(path, webhook("request_headers", json!({ "X-A": "1" })))
        .await;
    assert_eq!(refused.status, 422);
    assert_eq!(
        refused.json(),
        json!({ "errors": ["request_headers: there is no such field here; did you mean requestHeaders?"] })
    );
}
