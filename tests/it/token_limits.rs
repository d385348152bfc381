//! What limits a token beside its role: scopes, applications, networks; and that no token makes another
//! that may more.

use std::time::Duration;

use awc::http::Method;
use postrider::domain::jwt::{JwtSecret, Subject};
use postrider::domain::scope::Scope;
use serde_json::{Value, json};

use crate::support::{Answer, Receiver, Server, assert_error, assert_invalid, texts};

const TOKENS: &str = "/api/v1/token";
const HOUR: Duration = Duration::from_secs(3600);
const SURFACE: (&str, &str) = ("x-postrider-surface", "console");

async fn make(server: &Server, mut body: Value) -> Value {
    body["name"] = json!("t");
    server.post(TOKENS, body).await.expect(201)
}

fn text(made: &Value) -> String {
    made["token"].as_str().expect("a text").to_owned()
}

async fn token(server: &Server, body: Value) -> String {
    text(&make(server, body).await)
}

async fn by(server: &Server, token: &str, method: &str, path: &str, body: &Value) -> Answer {
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    let body = (!body.is_null()).then(|| body.to_string());
    server.call_as(token, method, path, body).await
}

async fn get(server: &Server, token: &str, path: &str) -> Answer {
    by(server, token, "GET", path, &Value::Null).await
}

async fn post(server: &Server, token: &str, path: &str, body: Value) -> Answer {
    by(server, token, "POST", path, &body).await
}

#[track_caller]
fn assert_refused(answer: &Answer, what: &str) {
    assert_error(answer, 403, "forbidden");
    assert!(answer.text.contains(what), "{what}: {}", answer.text);
}

#[track_caller]
fn assert_lacks(answer: &Answer, scope: &str) {
    assert_eq!(answer.status, 403, "{scope}: {}", answer.text);
    let expected = json!({"code": "forbidden", "detail": format!("this token lacks the scope {scope}"),
        "scope": scope});
    assert_eq!(answer.json(), expected);
}

/// For each scope an operation of its own, and what it is answered with.
fn operations(
    endpoint: &str,
    messages: &[String],
) -> Vec<(&'static str, &'static str, String, Value, u16)> {
    let app = "/api/v1/app/app";
    let of_endpoint = |rest: &str| format!("{app}/endpoint/{endpoint}{rest}");
    let none = Value::Null;
    let message = json!({"eventType": "a", "payload": {}});
    let resend = format!("{app}/msg/{}/endpoint/{endpoint}/resend", messages[0]);
    let content = format!("{app}/msg/{}/content", messages[1]);
    vec![
        ("publish", "POST", format!("{app}/msg"), message, 202),
        ("read", "GET", of_endpoint(""), none.clone(), 200),
        ("endpoints", "PATCH", of_endpoint(""), json!({}), 200),
        ("secrets", "GET", of_endpoint("/secret"), none.clone(), 200),
        ("replays", "POST", resend, json!({}), 202),
        ("applications", "PATCH", app.to_owned(), json!({}), 200),
        (
            "event_types",
            "PUT",
            "/api/v1/event-type/a".to_owned(),
            json!({"description": "d"}),
            201,
        ),
        ("expunge", "DELETE", content, none.clone(), 204),
        ("tokens", "GET", TOKENS.to_owned(), none.clone(), 200),
        (
            "portal",
            "POST",
            "/api/v1/auth/app/app/expire-all".to_owned(),
            json!({}),
            204,
        ),
        ("status", "GET", "/metrics".to_owned(), none.clone(), 200),
        (
            "operational_webhooks",
            "GET",
            "/api/v1/operational-webhook/endpoint".to_owned(),
            none,
            200,
        ),
    ]
}

#[actix_web::test]
async fn a_token_does_what_is_in_its_scopes_and_hears_which_one_it_lacks() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    let messages = [
        server.publish("a", json!({})).await,
        server.publish("a", json!({})).await,
    ];
    server.settle().await;
    let operations = operations(&endpoint, &messages);
    for (scope, ..) in &operations {
        let made = make(&server, json!({"role": "owner", "scopes": [scope]})).await;
        assert_eq!(made["scopes"], json!([scope]));
        let token = text(&made);
        for (needed, method, path, body, status) in &operations {
            let answer = by(&server, &token, method, path, body).await;
            let case = format!("{scope}: {method} {path}: {}", answer.text);
            if scope == needed {
                assert_eq!(answer.status, *status, "{case}");
                continue;
            }
            assert_lacks(&answer, needed);
        }
        server.settle().await;
    }
    // A refusal by the role is as it was.
    let publisher = json!({"role": "publisher", "scopes": ["publish"]});
    let publisher = token(&server, publisher).await;
    let refused = get(&server, &publisher, "/api/v1/token").await;
    assert_refused(&refused, "this token may not do that");
    assert_eq!(refused.json().get("scope"), None);
}

#[actix_web::test]
async fn who_lacks_a_scope_does_not_learn_what_exists() {
    let server = Server::start().await;
    server.application("app").await;
    let token = token(&server, json!({"role": "owner", "scopes": ["status"]})).await;
    for path in ["", "/endpoint", "/msg", "/token", "/endpoint/ep/secret"] {
        let there = get(&server, &token, &format!("/api/v1/app/app{path}")).await;
        let absent = get(&server, &token, &format!("/api/v1/app/none{path}")).await;
        assert_eq!(there.status, 403, "{path}");
        assert_eq!((there.status, there.text), (absent.status, absent.text));
    }
}

#[actix_web::test]
async fn scopes_hold_on_the_surfaces_of_other_systems() {
    let server = Server::start().await;
    server.application("app").await;
    let body = json!({"role": "application", "applicationId": "app", "scopes": ["endpoints"]});
    let endpoints = token(&server, body).await;
    let ovation = "/api/v3/project_templates/app/webhook_endpoints";
    let made = json!({"target_url": "https://example.com/in", "event": "a"});
    let answer = post(&server, &endpoints, ovation, made.clone()).await;
    assert_ne!(answer.status, 403, "{}", answer.text);
    let answer = get(&server, &endpoints, ovation).await;
    assert_eq!(answer.status, 403, "{}", answer.text);
    assert!(answer.text.contains("lacks the scope read"));
    let body = json!({"role": "application", "applicationId": "app", "scopes": ["read"]});
    let reads = token(&server, body).await;
    assert_eq!(get(&server, &reads, ovation).await.status, 200);
    let answer = post(&server, &reads, ovation, made).await;
    assert_eq!(answer.status, 403, "{}", answer.text);
    let settings = "/v1/account/settings";
    let update = format!("{settings}/update/webhook_endpoint/");
    for (path, method, scope) in [
        (update, "POST", "endpoints"),
        (
            format!("{settings}/test_webhook_endpoint"),
            "GET",
            "replays",
        ),
        (
            format!("{settings}/webhook/rotate-secret"),
            "POST",
            "secrets",
        ),
    ] {
        let answer = by(&server, &reads, method, &path, &json!({})).await;
        assert_eq!(answer.status, 403, "{path}");
        assert!(answer.text.contains(&format!("lacks the scope {scope}")));
    }
    let details = get(&server, &reads, &format!("{settings}/webhook_details")).await;
    assert_ne!(details.status, 403, "{}", details.text);
}

#[actix_web::test]
async fn a_scope_that_is_unknown_or_of_no_use_to_the_role_is_refused_with_the_reason() {
    let server = Server::start().await;
    server.application("app").await;
    for (body, place, says) in [
        (
            json!({"role": "owner", "scopes": ["read", "write"]}),
            "body.scopes.1",
            "must be one of publish, read, endpoints",
        ),
        (
            json!({"role": "publisher", "scopes": ["endpoints"]}),
            "body.scopes.0",
            "a token of the role publisher can never use it, only publish, read",
        ),
        (
            json!({"role": "owner", "scopes": ["status"], "applicationIds": ["app"]}),
            "body.scopes.0",
            "limited to some applications",
        ),
        (
            json!({"role": "owner", "scopes": []}),
            "body.scopes",
            "leave it out",
        ),
        (
            json!({"role": "owner", "allowedIps": ["10.0.0.1/8"]}),
            "body.allowedIps.0",
            "10.0.0.0/8 is the network",
        ),
        (
            json!({"role": "owner", "applicationIds": ["app", "none"]}),
            "body.applicationIds.1",
            "there is no application",
        ),
        (
            json!({"role": "owner", "description": "x".repeat(8193)}),
            "body.description",
            "at most 8192 bytes",
        ),
    ] {
        let mut body = body;
        body["name"] = json!("n");
        let answer = server.post(TOKENS, body).await;
        assert_invalid(&answer, &[place]);
        assert!(answer.text.contains(says), "{says}: {}", answer.text);
    }
}

/// The `tokenRoles` of the session of a token.
async fn offered(server: &Server, token: &str) -> Value {
    get(server, token, "/api/v1/session").await.expect(200)["tokenRoles"].clone()
}

#[actix_web::test]
async fn a_session_tells_which_scopes_the_roles_can_be_limited_to() {
    let server = Server::start().await;
    server.application("app").await;
    let roles = offered(&server, &server.token).await;
    let roles = roles.as_array().expect("a list");
    assert_eq!(roles.len(), 6);
    for role in roles {
        let name = &role["role"];
        let mut body = json!({"role": name});
        let mut kinds = vec![("scopes", Value::Null)];
        match name.as_str().expect("a name") {
            "application" => body["applicationId"] = json!("app"),
            "webhook_user" => {}
            _ => kinds.push(("scopesWithinApplications", json!(["app"]))),
        }
        for (kind, applications) in kinds {
            body["applicationIds"] = applications;
            let told = role[kind].as_array().expect("a list");
            for scope in Scope::ALL.map(Scope::name) {
                body["scopes"] = json!([scope]);
                body["name"] = json!("t");
                let status = server.post(TOKENS, body.clone()).await.status;
                let expected = if told.contains(&json!(scope)) {
                    201
                } else {
                    422
                };
                assert_eq!(status, expected, "{body}");
            }
        }
    }
    // What a token lacks itself it hands to none.
    let narrow = json!({"role": "owner", "scopes": ["tokens", "publish", "status"]});
    let narrow = offered(&server, &token(&server, narrow).await).await;
    let publisher = json!({"role": "publisher", "scopes": ["publish"],
        "scopesWithinApplications": ["publish"]});
    assert!(
        narrow.as_array().expect("a list").contains(&publisher),
        "{narrow}"
    );
    let told = narrow.to_string();
    assert!(
        !told.contains("read") && !told.contains("webhook_user"),
        "{told}"
    );
    for role in ["viewer", "webhook_admin"] {
        let other = token(&server, json!({"role": role})).await;
        assert_eq!(offered(&server, &other).await, Value::Null, "{role}");
    }
}

#[actix_web::test]
async fn other_applications_do_not_exist_for_a_token_that_is_limited() {
    let receiver = Receiver::ok().await;
    let mut server = Server::start().await;
    server.leftovers_are_fine();
    let mut endpoints = Vec::new();
    let mut messages = Vec::new();
    for app in ["own", "foreign"] {
        endpoints.push(
            server
                .endpoint_of(app, json!({"url": receiver.url()}))
                .await,
        );
        messages.push(server.publish_to(app, "a", json!({})).await);
    }
    server.settle().await;
    let mut jobs = Vec::new();
    for (app, endpoint) in ["own", "foreign"].iter().zip(&endpoints) {
        server.set_disabled(app, endpoint, true).await;
        server.publish_to(app, "a", json!({})).await;
        let path = format!("/api/v1/app/{app}/endpoint/{endpoint}/recover");
        let since = json!({"since": "2024-01-01T00:00:00Z"});
        let job = server.post(&path, since).await.expect(202)["id"].clone();
        jobs.push(job.as_str().expect("an id").to_owned());
    }
    server
        .put("/api/v1/stats/usage/event-types", json!(null))
        .await
        .expect(202);
    for role in ["owner", "webhook_admin", "viewer", "publisher"] {
        let limits = json!({"role": role, "applicationIds": ["own"]});
        let made = make(&server, limits).await;
        assert_eq!(made["applications"][0]["uid"], "own");
        let token = text(&made);
        let reads = role != "publisher";
        let own = get(&server, &token, "/api/v1/app/own").await;
        assert_eq!(own.status, 200, "{role}");
        for rest in [
            "",
            "/endpoint",
            "/msg",
            "/attempt/endpoint/{e}",
            "/endpoint/{e}",
            "/msg/{m}",
        ] {
            let path = |app: &str, at: usize| {
                let rest = rest
                    .replace("{e}", &endpoints[at])
                    .replace("{m}", &messages[at]);
                format!("/api/v1/app/{app}{rest}")
            };
            let foreign = get(&server, &token, &path("foreign", 1)).await;
            let absent = get(&server, &token, &path("absent", 1)).await;
            assert_error(&foreign, 404, "not_found");
            assert_eq!(foreign.text, absent.text, "{role} {rest}");
            // By the way of its own application neither.
            if !rest.is_empty() && reads {
                assert_eq!(
                    get(&server, &token, &path("own", 0)).await.status,
                    200,
                    "{role} {rest}"
                );
                if rest.contains('{') {
                    let mixed = get(&server, &token, &path("own", 1)).await;
                    assert_error(&mixed, 404, "not_found");
                }
            }
        }
        if reads {
            let apps = get(&server, &token, "/api/v1/app").await.expect(200);
            assert_eq!(texts(&apps, "uid"), ["own"], "{role}");
            let lanes = get(&server, &token, "/api/v1/lane").await.expect(200);
            assert_eq!(
                texts(&lanes, "endpointId"),
                [endpoints[0].clone()],
                "{role}"
            );
            assert_eq!(lanes["total"], 1);
            let seen = get(&server, &token, "/api/v1/background-task")
                .await
                .expect(200);
            assert_eq!(texts(&seen, "id"), [jobs[0].clone()], "{role}");
            let foreign = get(
                &server,
                &token,
                &format!("/api/v1/background-task/{}", jobs[1]),
            )
            .await;
            assert_error(&foreign, 404, "not_found");
        }
    }
    let owner = token(&server, json!({"role": "owner", "applicationIds": ["own"]})).await;
    let cancel = |job: &str| format!("/api/v1/background-task/{job}/cancel");
    let canceled = post(&server, &owner, &cancel(&jobs[1]), Value::Null).await;
    assert_error(&canceled, 404, "not_found");
    assert_eq!(
        post(&server, &owner, &cancel(&jobs[0]), Value::Null)
            .await
            .status,
        200
    );
    // Once its applications are gone, nothing is left.
    server.delete("/api/v1/app/own").await.expect(204);
    let apps = get(&server, &owner, "/api/v1/app").await.expect(200);
    assert_eq!(apps["data"], json!([]));
}

#[actix_web::test]
async fn a_token_that_is_limited_to_applications_changes_nothing_of_the_organisation() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let endpoint = server
        .endpoint_of("own", json!({"url": receiver.url()}))
        .await;
    let foreign = server
        .endpoint_of("foreign", json!({"url": receiver.url()}))
        .await;
    let user = make(&server, json!({"role": "webhook_user"})).await;
    let user = user["id"].as_str().expect("an id").to_owned();
    let owner = token(&server, json!({"role": "owner", "applicationIds": ["own"]})).await;
    let none = Value::Null;
    let message = json!({"eventType": "a", "payload": {}});
    let mut with_new = message.clone();
    with_new["application"] = json!({"name": "n", "uid": "new"});
    for (method, path, body) in [
        ("POST", "/api/v1/app", json!({"name": "n"})),
        (
            "POST",
            "/api/v1/app?get_if_exists=true",
            json!({"name": "n", "uid": "foreign"}),
        ),
        ("PUT", "/api/v1/event-type/x", json!({"description": ""})),
        (
            "POST",
            "/api/v1/event-type/import/openapi",
            json!({"spec": {"webhooks": {}}}),
        ),
        ("GET", TOKENS, none.clone()),
        ("POST", TOKENS, json!({"name": "n", "role": "owner"})),
        (
            "POST",
            TOKENS,
            json!({"name": "n", "role": "owner", "applicationIds": ["own"]}),
        ),
        ("GET", &format!("{TOKENS}/{user}"), none.clone()),
        ("DELETE", &format!("{TOKENS}/{user}"), none.clone()),
        (
            "PUT",
            &format!("{TOKENS}/{user}/endpoint/{endpoint}"),
            none.clone(),
        ),
        (
            "PUT",
            &format!("{TOKENS}/{user}/application/own"),
            none.clone(),
        ),
        ("GET", "/api/v1/status", none.clone()),
        ("GET", "/metrics", none.clone()),
        (
            "POST",
            "/api/v1/stats/usage/app",
            json!({"since": "2024-01-01T00:00:00Z", "until": "2099-01-01T00:00:00Z", "appIds": ["own"]}),
        ),
        ("PUT", "/api/v1/stats/usage/event-types", none.clone()),
        ("GET", "/api/v1/operational-webhook/endpoint", none.clone()),
        (
            "POST",
            "/api/v1/operational-webhook/endpoint",
            json!({"url": receiver.url()}),
        ),
    ] {
        let answer = by(&server, &owner, method, path, &body).await;
        assert_refused(&answer, "limited to some applications");
    }
    for (method, path, body, status) in [
        // What would make an application by the way finds none, and makes none.
        ("POST", "/api/v1/app/new/msg", with_new.clone(), 404),
        ("POST", "/api/v1/app/new/msg/batch", json!([with_new]), 404),
        (
            "POST",
            "/api/v1/auth/app-portal-access/new",
            json!({"application": {"name": "n", "uid": "new"}}),
            404,
        ),
        ("GET", "/api/v1/event-type", none.clone(), 200),
        ("GET", "/api/v1/profile", none.clone(), 200),
        ("PATCH", "/api/v1/app/own", json!({"name": "m"}), 200),
        (
            "PUT",
            "/api/v1/app/own",
            json!({"name": "m", "uid": "own"}),
            200,
        ),
        ("PATCH", "/api/v1/app/foreign", json!({"name": "m"}), 404),
        ("PUT", "/api/v1/app/foreign", json!({"name": "m"}), 404),
        ("PUT", "/api/v1/app/absent", json!({"name": "m"}), 404),
        ("DELETE", "/api/v1/app/foreign", none.clone(), 404),
        ("POST", "/api/v1/app/own/msg", message.clone(), 202),
        ("POST", "/api/v1/app/foreign/msg", message.clone(), 404),
        (
            "POST",
            "/api/v1/app/foreign/msg/batch",
            json!([message]),
            404,
        ),
        (
            "POST",
            "/api/v1/app/foreign/endpoint",
            json!({"url": receiver.url()}),
            404,
        ),
        (
            "GET",
            &format!("/api/v1/app/foreign/endpoint/{foreign}/secret"),
            none.clone(),
            404,
        ),
        (
            "GET",
            &format!("/api/v1/app/foreign/endpoint/{foreign}/stats"),
            none.clone(),
            404,
        ),
        (
            "POST",
            &format!("/api/v1/app/foreign/endpoint/{foreign}/send-example"),
            json!({"eventType": "svix.ping"}),
            404,
        ),
        (
            "DELETE",
            &format!("/api/v1/app/own/endpoint/{foreign}"),
            none.clone(),
            404,
        ),
        (
            "GET",
            "/api/v3/project_templates/foreign/webhook_endpoints",
            none.clone(),
            404,
        ),
        ("GET", "/api/v1/app/own/token", none.clone(), 200),
        ("POST", "/api/v1/app/own/token", json!({"name": "k"}), 201),
        ("GET", "/api/v1/app/foreign/token", none.clone(), 404),
        (
            "POST",
            "/api/v1/app/foreign/token",
            json!({"name": "k"}),
            404,
        ),
        ("POST", "/api/v1/auth/app-portal-access/own", json!({}), 200),
        (
            "POST",
            "/api/v1/auth/app-portal-access/foreign",
            json!({}),
            404,
        ),
        (
            "POST",
            "/api/v1/auth/app/foreign/expire-all",
            json!({}),
            404,
        ),
    ] {
        let answer = by(&server, &owner, method, path, &body).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
    }
    assert_error(&server.get("/api/v1/app/new").await, 404, "not_found");
    let session = [("authorization", &*format!("Bearer {owner}"))];
    let session = server
        .call(Method::GET, "/api/v1/session", &session, None)
        .await;
    let may = session.expect(200)["may"].clone();
    let may: Vec<&str> = may
        .as_array()
        .expect("a list")
        .iter()
        .flat_map(Value::as_str)
        .collect();
    assert!(may.contains(&"changeApplications") && may.contains(&"listApplications"));
    for refused in [
        "createApplications",
        "readStatus",
        "readTokens",
        "changeEventTypes",
    ] {
        assert!(!may.contains(&refused), "{refused}");
    }
    server.settle().await;
}

#[actix_web::test]
async fn a_token_makes_none_that_may_more_than_itself() {
    let server = Server::start().await;
    server.application("app").await;
    let end = (server.now() + HOUR).to_string();
    let body = json!({"role": "owner", "scopes": ["tokens", "read"], "expiresAt": end,
        "allowedIps": ["127.0.0.0/8"]});
    let maker = token(&server, body).await;
    let made = async |path: &str, body: Value| {
        let mut body = body;
        body["name"] = json!("n");
        post(&server, &maker, path, body).await
    };
    let later = (server.now() + HOUR + Duration::from_millis(1)).to_string();
    for (body, place) in [
        (
            json!({"role": "owner", "scopes": ["read", "publish"]}),
            "body.scopes",
        ),
        (
            json!({"role": "owner", "expiresAt": later}),
            "body.expiresAt",
        ),
        (
            json!({"role": "owner", "allowedIps": ["127.0.0.1", "0.0.0.0/0"]}),
            "body.allowedIps.1",
        ),
        (
            json!({"role": "owner", "allowedIps": ["::1"]}),
            "body.allowedIps.0",
        ),
    ] {
        assert_invalid(&made(TOKENS, body).await, &[place]);
    }
    // What is left out is the maker's.
    let all = made(TOKENS, json!({"role": "owner"})).await.expect(201);
    assert_eq!(all["scopes"], json!(["read", "tokens"]));
    assert_eq!(all["allowedIps"], json!(["127.0.0.0/8"]));
    assert_eq!(all["expiresAt"], end);
    let publisher = made(TOKENS, json!({"role": "publisher"})).await.expect(201);
    assert_eq!(publisher["scopes"], json!(["read"]));
    let sooner = (server.now() + HOUR / 2).to_string();
    let less = json!({"role": "viewer", "scopes": ["read"], "allowedIps": ["127.0.0.1"],
        "expiresAt": sooner});
    let less = made(TOKENS, less).await.expect(201);
    assert_eq!(less["allowedIps"], json!(["127.0.0.1/32"]));
    // And so it is with the API keys of an application, …
    let keys = "/api/v1/app/app/token";
    let key = made(keys, json!({"description": "d"})).await.expect(201);
    assert_eq!(
        (&key["scopes"], &key["expiresAt"]),
        (&json!(["read"]), &json!(end))
    );
    assert_eq!(
        (&key["allowedIps"], &key["description"]),
        (&json!(["127.0.0.0/8"]), &json!("d"))
    );
    let secrets = get(&server, &text(&key), "/api/v1/app/app/endpoint/e/secret").await;
    assert_lacks(&secrets, "secrets");
    assert_invalid(
        &made(keys, json!({"scopes": ["secrets"]})).await,
        &["body.scopes"],
    );
    assert_invalid(
        &made(keys, json!({"expiresAt": later})).await,
        &["body.expiresAt"],
    );
    let only_tokens = token(&server, json!({"role": "owner", "scopes": ["tokens"]})).await;
    let none = post(&server, &only_tokens, keys, json!({"name": "n"})).await;
    assert_invalid(&none, &["body.scopes"]);
    assert!(none.text.contains("uses none of them"), "{}", none.text);
    // … and further down: what these make has no more either.
    let second = text(&all);
    let third = post(
        &server,
        &second,
        TOKENS,
        json!({"name": "n", "role": "owner"}),
    )
    .await;
    assert_eq!(third.expect(201)["expiresAt"], end);
    let more = json!({"name": "n", "role": "owner", "scopes": ["publish"]});
    assert_invalid(
        &post(&server, &second, TOKENS, more).await,
        &["body.scopes"],
    );
    let link = post(
        &server,
        &maker,
        "/api/v1/auth/app-portal-access/app",
        json!({}),
    )
    .await;
    assert_lacks(&link, "portal");
}

#[actix_web::test]
async fn a_link_may_no_more_than_the_token_that_makes_it() {
    let server = Server::start().await;
    let endpoint = server
        .endpoint_of("app", json!({"url": "http://127.0.0.1:1/"}))
        .await;
    let access = "/api/v1/auth/app-portal-access/app";
    let end = server.now() + HOUR;
    let body = json!({"role": "owner", "expiresAt": end.to_string(), "allowedIps": ["127.0.0.1"],
        "scopes": ["portal", "read", "endpoints", "tokens"]});
    let maker = token(&server, body).await;
    let link = post(&server, &maker, access, json!({})).await.expect(200);
    let warnings = link["warnings"].to_string();
    assert!(
        warnings.contains(&format!("the link ends at {end}")),
        "{warnings}"
    );
    assert!(
        warnings.contains("opens only from 127.0.0.1/32"),
        "{warnings}"
    );
    for (scope, lacking) in [
        (
            "secrets",
            "ViewEndpointSecret, ManageEndpointSecret, ManageEndpoint",
        ),
        ("replays", "CreateAttempts"),
    ] {
        let expected = format!(
            "the link lacks the scope {scope}, as the token that made it does, so what {lacking} would"
        );
        assert!(warnings.contains(&expected), "{warnings}");
    }
    assert_eq!(warnings.matches("lacks the scope").count(), 2, "{warnings}");
    let shown = get(&server, &text(&link), "/api/v1/session").await;
    assert_eq!(
        shown.expect(200)["capabilities"],
        json!(["ViewBase", "ManageTransformations", "ManageEndpoint"])
    );
    let looking = json!({"readOnly": true});
    let looking = post(&server, &maker, access, looking).await.expect(200);
    assert!(!looking["warnings"].to_string().contains("lacks the scope"));
    let link = text(&link);
    let path = format!("/api/v1/app/app/endpoint/{endpoint}");
    assert_eq!(
        by(&server, &link, "PATCH", &path, &json!({})).await.status,
        200
    );
    let secret = get(&server, &link, &format!("{path}/secret")).await;
    assert_lacks(&secret, "secrets");
    // A key that is made through it is bounded by who made the link, and not by the link.
    let keys = "/api/v1/app/app/token";
    let key = post(&server, &link, keys, json!({"name": "k"}))
        .await
        .expect(201);
    assert_eq!(key["expiresAt"], end.to_string());
    assert_eq!(key["scopes"], json!(["read", "endpoints"]));
    assert_eq!(key["allowedIps"], json!(["127.0.0.1/32"]));
    let later = (end + HOUR).to_string();
    let longer = post(
        &server,
        &link,
        keys,
        json!({"name": "k", "expiresAt": later}),
    )
    .await;
    assert_invalid(&longer, &["body.expiresAt"]);
    let new = json!({"application": {"name": "n", "uid": "new"}});
    let new = post(&server, &maker, "/api/v1/auth/app-portal-access/new", new).await;
    assert_lacks(&new, "applications");
    let blind = token(&server, json!({"role": "owner", "scopes": ["portal"]})).await;
    assert_lacks(&post(&server, &blind, access, json!({})).await, "read");
    // Without limits there is nothing to warn of, and nothing is taken away.
    let made = server.post(access, json!({})).await.expect(200);
    assert!(!made.to_string().contains("the link"), "{made}");
    server.advance(HOUR);
    assert_eq!(get(&server, &link, "/api/v1/app/app").await.status, 401);
    assert_eq!(
        get(&server, &text(&key), "/api/v1/app/app").await.status,
        401
    );
    assert_eq!(
        get(&server, &text(&made), "/api/v1/app/app").await.status,
        200
    );
}

#[actix_web::test]
async fn a_signed_owner_makes_nothing_that_outlives_it() {
    const SECRET: &str = "8KjzRXrKkd9YFcNyqLSIY8JwiaCeRc6W";
    let secret = JwtSecret::from(SECRET.to_owned());
    let server =
        Server::start_with(|config| config.auth.jwt_secret = Some(SECRET.to_owned().into()));
    let server = server.await;
    server.application("app").await;
    let organisation = server
        .store()
        .catalog()
        .organisations()
        .next()
        .expect("there is one")
        .id;
    let subject = Subject {
        organisation,
        application: None,
    };
    let end = server.now() + HOUR;
    let signed = secret.sign(subject, server.now(), Some(end));
    let body = json!({"name": "n", "role": "owner"});
    let made = post(&server, &signed, TOKENS, body.clone())
        .await
        .expect(201);
    let made: postrider::clock::Timestamp = made["expiresAt"]
        .as_str()
        .expect("an end")
        .parse()
        .expect("a time");
    assert!(made <= end, "{made}");
    let mut longer = body.clone();
    longer["expiresAt"] = json!((end + HOUR).to_string());
    assert_invalid(
        &post(&server, &signed, TOKENS, longer).await,
        &["body.expiresAt"],
    );
    let endless = secret.sign(subject, server.now(), None);
    let made = post(&server, &endless, TOKENS, body).await.expect(201);
    assert_eq!(
        (&made["expiresAt"], &made["scopes"]),
        (&Value::Null, &Value::Null)
    );
}

/// Behind a proxy, which this test is.
async fn behind_a_proxy() -> Server {
    let network = "127.0.0.0/8".parse().expect("a network");
    Server::start_with(move |config| config.server.trusted_proxies = vec![network]).await
}

async fn from(server: &Server, client: Option<&str>, token: &str, path: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let mut headers = vec![("authorization", bearer.as_str())];
    headers.extend(client.map(|client| ("x-forwarded-for", client)));
    server.call(Method::GET, path, &headers, None).await
}

#[actix_web::test]
async fn a_token_is_used_from_its_networks_only() {
    let server = behind_a_proxy().await;
    server.application("app").await;
    let body = json!({"role": "owner", "allowedIps": ["198.51.100.0/24", "2001:db8::7"]});
    let made = make(&server, body).await;
    assert_eq!(
        made["allowedIps"],
        json!(["198.51.100.0/24", "2001:db8::7/128"])
    );
    let (token, path) = (text(&made), "/api/v1/app/app");
    for (client, status, says) in [
        (Some("198.51.100.9"), 200, ""),
        (Some("2001:db8::7"), 200, ""),
        (Some("203.0.113.1, 198.51.100.9"), 200, ""),
        (Some("203.0.113.1"), 403, "this address, 203.0.113.1"),
        (
            Some("198.51.100.9, 203.0.113.1"),
            403,
            "this address, 203.0.113.1",
        ),
        (Some("2001:db8::8"), 403, "this address, 2001:db8::8"),
        (
            None,
            403,
            "127.0.0.1, a trusted proxy, did not name its client",
        ),
        (Some("unknown"), 403, "did not name its client"),
    ] {
        let answer = from(&server, client, &token, path).await;
        assert_eq!(answer.status, status, "{client:?}: {}", answer.text);
        match status {
            403 => assert_refused(&answer, says),
            _ => assert!(answer.text.contains(r#""uid":"app""#)),
        }
    }
    // Nobody learns from this whether a token exists: one that does not is a 401 from everywhere.
    let wrong = from(&server, Some("203.0.113.1"), "pr_wrong", path).await;
    assert_error(&wrong, 401, "authentication_failed");
    // A token without networks is used from everywhere.
    let free = text(&make(&server, json!({"role": "owner"})).await);
    assert_eq!(from(&server, None, &free, path).await.status, 200);
}

#[actix_web::test]
async fn a_visit_is_bound_to_the_networks_of_its_token() {
    let server = behind_a_proxy().await;
    let token = token(
        &server,
        json!({"role": "owner", "allowedIps": ["198.51.100.9"]}),
    )
    .await;
    let body = json!({ "token": token }).to_string();
    let sign_in = async |client: &str| {
        let headers = [SURFACE, ("x-forwarded-for", client)];
        let body = Some(body.clone());
        server
            .call(Method::POST, "/api/v1/session", &headers, body)
            .await
    };
    assert_refused(&sign_in("203.0.113.1").await, "this address, 203.0.113.1");
    let answer = sign_in("198.51.100.9").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let cookie = answer.header("set-cookie").expect("a cookie");
    let cookie = cookie.split(';').next().expect("its value");
    let visit = async |client: &str, path: &str| {
        let headers = [SURFACE, ("cookie", cookie), ("x-forwarded-for", client)];
        server.call(Method::GET, path, &headers, None).await
    };
    assert_eq!(visit("198.51.100.9", "/api/v1/app").await.status, 200);
    assert_refused(&visit("203.0.113.1", "/api/v1/app").await, "this address");
    let session = visit("203.0.113.1", "/api/v1/session").await.expect(200);
    assert_eq!(session, json!({"signedIn": false}));
    assert_eq!(visit("198.51.100.9", "/api/v1/app").await.status, 200);
}

#[actix_web::test]
async fn where_a_token_was_last_used_is_told_and_outlives_a_restart() {
    let server = behind_a_proxy().await;
    let made = make(
        &server,
        json!({"role": "owner", "allowedIps": ["198.51.100.0/24"]}),
    )
    .await;
    let (token, path) = (
        text(&made),
        format!("{TOKENS}/{}", made["id"].as_str().expect("an id")),
    );
    let last = async |server: &Server| {
        let seen = server.get(&path).await.expect(200);
        (seen["lastUsedAt"].clone(), seen["lastUsedFrom"].clone())
    };
    assert_eq!(last(&server).await, (Value::Null, Value::Null));
    from(&server, Some("203.0.113.1"), &token, "/api/v1/app").await;
    assert_eq!(
        last(&server).await,
        (Value::Null, Value::Null),
        "it was refused"
    );
    from(&server, Some("198.51.100.1"), &token, "/api/v1/app")
        .await
        .expect(200);
    from(&server, Some("198.51.100.2"), &token, "/api/v1/app")
        .await
        .expect(200);
    assert_eq!(
        last(&server).await.1,
        "198.51.100.1",
        "the first of the minute"
    );
    server.advance(Duration::from_secs(60));
    from(&server, Some("198.51.100.2"), &token, "/api/v1/app")
        .await
        .expect(200);
    let used = last(&server).await;
    assert_eq!(used.1, "198.51.100.2");
    let store = server.store().clone();
    let kept = tokio::task::spawn_blocking(move || store.keep_uses()).await;
    kept.expect("no panic").expect("it is written");
    let server = server.restart().await;
    assert_eq!(last(&server).await, used);
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn the_limits_of_a_token_survive_a_restart() {
    let server = Server::start().await;
    server.application("app").await;
    let body = json!({"role": "owner", "scopes": ["read", "secrets"], "applicationIds": ["app"],
        "allowedIps": ["127.0.0.0/8"], "description": "Nightly backup"});
    let made = make(&server, body).await;
    let path = format!("{TOKENS}/{}", made["id"].as_str().expect("an id"));
    let before = server.get(&path).await.expect(200);
    assert_eq!(before["description"], "Nightly backup");
    let server = server.restart().await;
    assert_eq!(server.get(&path).await.expect(200), before);
    let apps = get(&server, &text(&made), "/api/v1/app").await.expect(200);
    assert_eq!(texts(&apps, "uid"), ["app"]);
    let answer = post(&server, &text(&made), "/api/v1/app/app/msg", json!({})).await;
    assert_lacks(&answer, "publish");
    server.stop_and_verify().await;
}
