//! Portal sessions: what a link gives, how far it reaches, and how it ends.

use std::time::Duration;

use awc::http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Receiver, Server, assert_error, assert_invalid, keys};

const HOUR: Duration = Duration::from_secs(3600);
const LINK: &str = "/api/v1/auth/app-portal-access/app";

async fn link(server: &Server, body: Value) -> String {
    let made = server.post(LINK, body).await.expect(200);
    made["token"].as_str().expect("a text").to_owned()
}

async fn by(server: &Server, token: &str, method: Method, path: &str, body: Value) -> Answer {
    let bearer = format!("Bearer {token}");
    let body = (!body.is_null()).then(|| body.to_string());
    server
        .call(method, path, &[("authorization", &bearer)], body)
        .await
}

async fn sees_its_application(server: &Server, token: &str) -> u16 {
    let answer = by(server, token, Method::GET, "/api/v1/app/app", Value::Null).await;
    answer.status
}

fn sessions(server: &Server) -> usize {
    let catalog = server.store().catalog();
    let tokens = catalog.tokens();
    tokens.filter(|token| token.session.is_some()).count()
}

#[actix_web::test]
async fn a_link_has_a_token_that_holds_for_as_long_as_was_asked() {
    let server = Server::start_with(|config| {
        config.server.public_url = Some("https://hooks.example/".into())
    })
    .await;
    server.application("app").await;
    server.application("other").await;
    let made = server.post(LINK, json!({"expiry": 3600})).await.expect(200);
    assert_eq!(keys(&made), ["token", "url"]);
    let token = made["token"].as_str().unwrap();
    assert_eq!(
        made["url"],
        format!("https://hooks.example/portal#token={token}")
    );
    assert_eq!(sees_its_application(&server, token).await, 200);
    let other = by(
        &server,
        token,
        Method::GET,
        "/api/v1/app/other",
        Value::Null,
    )
    .await;
    assert_error(&other, 404, "not_found");
    let account = "/v1/account/settings/webhook_details";
    let answer = by(&server, token, Method::GET, account, Value::Null).await;
    assert_eq!(answer.status, 403, "it is no account");
    let listed = server.get("/api/v1/token").await.expect(200);
    assert_eq!(listed["data"].as_array().unwrap().len(), 1, "the owner's");

    let week = link(&server, json!({})).await;
    server.advance(HOUR);
    assert_eq!(sees_its_application(&server, token).await, 401);
    server.forget_ended().await;
    assert_eq!(sessions(&server), 1, "it is forgotten");
    let server = server.restart().await;
    server.advance(HOUR * 24 * 7 - HOUR - Duration::from_millis(1));
    assert_eq!(sees_its_application(&server, &week).await, 200);
    server.advance(Duration::from_millis(1));
    assert_eq!(sees_its_application(&server, &week).await, 401);
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn a_link_is_never_given_twice_and_makes_its_application_where_asked() {
    let server = Server::start().await;
    assert_error(&server.post(LINK, json!({})).await, 404, "not_found");
    let body = json!({"application": {"name": "n", "uid": "app"}}).to_string();
    let key = [("idempotency-key", "k")];
    let again = || server.call(Method::POST, LINK, &key, Some(body.clone()));
    let (first, second) = (again().await.expect(200), again().await.expect(200));
    assert_ne!(first["token"], second["token"]);
    server.get("/api/v1/app/app").await.expect(200);
    for (body, place) in [
        (json!({"expiry": 60}), "body.expiry"),
        (json!({"capabilities": ["Fly"]}), "body.capabilities.0"),
        (json!({"featureFlags": "beta"}), "body.featureFlags"),
    ] {
        assert_invalid(&server.post(LINK, body).await, &[place]);
    }
    let none = "/api/v1/auth/app-portal-access/app_1srOrx2ZWZBpBUvZwXKQmoEYga2";
    let body = json!({"application": {"name": "n", "uid": "x"}});
    assert_error(&server.post(none, body).await, 404, "not_found");
}

#[actix_web::test]
async fn capabilities_decide_what_a_session_does() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    let example = json!({"name": "a", "description": "", "example": {}});
    server.post("/api/v1/event-type", example).await.expect(201);
    let path = |rest: &str| format!("/api/v1/app/app/endpoint/{endpoint}{rest}");
    let requests = [
        (Method::GET, path(""), Value::Null, 200),
        (Method::GET, path("/headers"), Value::Null, 200),
        (
            Method::GET,
            "/api/v1/app/app/msg".to_owned(),
            Value::Null,
            200,
        ),
        (Method::GET, path("/secret"), Value::Null, 200),
        (Method::POST, path("/secret/rotate"), json!({}), 200),
        (
            Method::POST,
            path("/send-example"),
            json!({"eventType": "a"}),
            200,
        ),
        (Method::PATCH, path(""), json!({"description": "d"}), 200),
    ];
    // Looking, secret, rotation, example, change.
    for (body, may) in [
        (json!({}), [true, true, true, true]),
        (json!({"readOnly": true}), [false, false, false, false]),
        (
            json!({"capabilities": ["ViewBase"]}),
            [false, false, false, false],
        ),
        (
            json!({"capabilities": ["ViewBase", "ViewEndpointSecret"]}),
            [true, false, false, false],
        ),
        (
            json!({"capabilities": ["ViewBase", "ManageEndpointSecret"]}),
            [true, true, false, false],
        ),
        (
            json!({"capabilities": ["ViewBase", "CreateAttempts"]}),
            [false, false, true, false],
        ),
        (
            json!({"capabilities": ["ViewBase", "ManageEndpoint"]}),
            [true, true, false, true],
        ),
    ] {
        let token = link(&server, body.clone()).await;
        let may = [true, true, true].into_iter().chain(may);
        for ((method, path, input, status), may) in requests.iter().zip(may) {
            let answer = by(&server, &token, method.clone(), path, input.clone()).await;
            let case = format!("{body} {method} {path}: {}", answer.text);
            assert_eq!(answer.status, if may { *status } else { 403 }, "{case}");
        }
    }
    server.settle().await;
}

#[actix_web::test]
async fn event_types_with_feature_flags_are_shown_to_who_has_one() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    for (name, flags) in [("open", json!(null)), ("new", json!(["beta", "early"]))] {
        let body = json!({
            "name": name, "description": "", "example": {}, "channels": [name],
            "featureFlags": flags,
        });
        server.post("/api/v1/event-type", body).await.expect(201);
    }
    let token = json!({"name": "t", "role": "application", "applicationId": "app"});
    let backend = server.post("/api/v1/token", token).await.expect(201)["token"].clone();
    let with = link(&server, json!({"featureFlags": ["beta"]})).await;
    let without = link(&server, json!({"featureFlags": ["other"]})).await;
    let example = format!("/api/v1/app/app/endpoint/{endpoint}/send-example");
    let owner = server.token.clone();
    for (token, sees) in [
        (owner.as_str(), true),
        (with.as_str(), true),
        (without.as_str(), false),
        (backend.as_str().unwrap(), false),
    ] {
        for path in ["/api/v1/event-type", "/api/v1/channel"] {
            let listed = by(&server, token, Method::GET, path, Value::Null).await;
            let listed = listed.expect(200);
            let names = listed["data"].as_array().unwrap().iter();
            let names: Vec<&str> = names.map(|one| one["name"].as_str().unwrap()).collect();
            let expected = if sees {
                vec!["new", "open"]
            } else {
                vec!["open"]
            };
            assert_eq!(names, expected, "{path}");
        }
        let shown = by(
            &server,
            token,
            Method::GET,
            "/api/v1/event-type/new",
            Value::Null,
        )
        .await;
        assert_eq!(shown.status, if sees { 200 } else { 404 });
        let body = json!({"eventType": "new"});
        let sent = by(&server, token, Method::POST, &example, body).await;
        match sees {
            true => drop(sent.expect(200)),
            false => assert_invalid(&sent, &["body.eventType"]),
        }
    }
    let account = "/v1/account/settings/update/webhook_endpoint";
    let backend = backend.as_str().unwrap();
    let body = json!({"webhook_endpoint": receiver.url(), "events": ["new"]});
    let refused = by(&server, backend, Method::POST, account, body).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    let body = json!({"webhook_endpoint": receiver.url()});
    let taken = by(&server, backend, Method::POST, account, body).await;
    assert_eq!(taken.expect(200)["response"]["events"], json!(["open"]));
    server.settle().await;
}

/// Whoever names one in a filter hears no more of it than of one that there is not.
#[actix_web::test]
async fn a_filter_tells_nothing_of_event_types_whose_flags_one_has_not() {
    let server = Server::start().await;
    server.application("app").await;
    for (name, flags) in [("new", json!(["beta"])), ("old", json!(["beta"]))] {
        let body = json!({ "name": name, "description": "", "featureFlags": flags });
        server.post("/api/v1/event-type", body).await.expect(201);
    }
    server.delete("/api/v1/event-type/old").await.expect(204);
    let with = link(&server, json!({"featureFlags": ["beta"]})).await;
    let without = link(&server, json!({})).await;
    let endpoints = "/api/v1/app/app/endpoint";
    let uid = format!("{endpoints}/e");
    for (token, sees) in [
        (server.token.as_str(), true),
        (&with, true),
        (&without, false),
    ] {
        for (method, path) in [
            (Method::POST, endpoints),
            (Method::PUT, &uid),
            (Method::PATCH, &uid),
        ] {
            let asked = async |name: &str| {
                let mut body = json!({ "eventTypes": [name] });
                if method != Method::PATCH {
                    body["url"] = json!("https://receiver.invalid/");
                }
                by(&server, token, method.clone(), path, body).await
            };
            let unknown = asked("none").await.json()["warnings"].clone();
            assert_eq!(unknown, json!(["eventTypes[0]: none is not registered"]));
            let new = asked("new").await;
            let old = asked("old").await;
            if sees {
                assert_eq!(new.json().get("warnings"), None, "{}", new.text);
                assert_invalid(&old, &["body.eventTypes"]);
            } else {
                for (name, answer) in [("new", new), ("old", old)] {
                    assert!(answer.status < 300, "{}", answer.text);
                    let warning = format!("eventTypes[0]: {name} is not registered");
                    assert_eq!(answer.json()["warnings"], json!([warning]));
                }
            }
        }
    }
}

#[actix_web::test]
async fn a_session_is_logged_out_for_good_and_other_tokens_are_not() {
    let server = Server::start().await;
    server.application("app").await;
    let (first, second) = (
        link(&server, json!({})).await,
        link(&server, json!({})).await,
    );
    let logout = "/api/v1/auth/logout";
    by(&server, &first, Method::POST, logout, Value::Null)
        .await
        .expect(204);
    let server = server.restart().await;
    let again = by(&server, &first, Method::POST, logout, Value::Null).await;
    assert_error(&again, 401, "authentication_failed");
    assert_eq!(sees_its_application(&server, &second).await, 200);
    let backend = json!({"name": "t", "role": "application", "applicationId": "app"});
    let backend = server.post("/api/v1/token", backend).await.expect(201);
    for token in [&server.token, backend["token"].as_str().unwrap()] {
        let answer = by(&server, token, Method::POST, logout, Value::Null).await;
        assert_error(&answer, 403, "forbidden");
    }
}

#[actix_web::test]
async fn expire_all_ends_sessions_by_id_at_once_or_later_and_no_token() {
    let server = Server::start().await;
    server.application("app").await;
    server.application("other").await;
    let backend = json!({"name": "t", "role": "application", "applicationId": "app"});
    let backend = server.post("/api/v1/token", backend).await.expect(201)["token"].clone();
    let one = link(&server, json!({"sessionId": "one"})).await;
    let two = link(&server, json!({"sessionId": "two"})).await;
    let short = link(&server, json!({"expiry": 3600})).await;
    let path = "/api/v1/auth/app/app/expire-all";
    server
        .post("/api/v1/auth/app/other/expire-all", json!({}))
        .await
        .expect(204);
    server
        .post(path, json!({"sessionIds": ["one", "none"]}))
        .await
        .expect(204);
    assert_eq!(sees_its_application(&server, &one).await, 401);
    assert_eq!(sees_its_application(&server, &two).await, 200);

    server.post(path, json!({"expiry": 7200})).await.expect(204);
    server.advance(HOUR);
    assert_eq!(
        sees_its_application(&server, &short).await,
        401,
        "no longer than before"
    );
    let server = server.restart().await;
    assert_eq!(sees_its_application(&server, &two).await, 200);
    server.advance(HOUR);
    assert_eq!(sees_its_application(&server, &two).await, 401);
    assert_eq!(
        sees_its_application(&server, backend.as_str().unwrap()).await,
        200
    );
    let three = link(&server, json!({})).await;
    // A body is not needed.
    server.call(Method::POST, path, &[], None).await.expect(204);
    assert_eq!(sees_its_application(&server, &three).await, 401);
    let four = link(&server, json!({})).await;
    assert_invalid(
        &server.post(path, json!({"sessionIds": []})).await,
        &["body.sessionIds"],
    );
    assert_eq!(sees_its_application(&server, &four).await, 200);
    assert_invalid(
        &server.post(path, json!({"expiry": -1})).await,
        &["body.expiry"],
    );
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn sessions_are_bounded_and_those_that_ended_make_room() {
    let server = Server::start().await;
    server.application("app").await;
    for _ in 0..1000 {
        link(&server, json!({"expiry": 3600})).await;
    }
    assert_error(&server.post(LINK, json!({})).await, 429, "too_many");
    server.advance(HOUR);
    link(&server, json!({})).await;
    assert_eq!(sessions(&server), 1);
}

#[actix_web::test]
async fn a_link_names_the_port_that_the_system_chose() {
    let server = Server::start().await;
    server.application("app").await;
    let made = server.post(LINK, json!({})).await.expect(200);
    let url = made["url"].as_str().expect("a text");
    assert!(url.starts_with(&server.url("/portal#token=")), "{url}");
}

#[actix_web::test]
async fn a_link_says_that_nobody_knows_where_the_server_is_reached() {
    let mut server = Server::start().await;
    server.application("app").await;
    let problem = async |server: &Server| {
        let status = server.get("/api/v1/status").await.expect(200);
        let problems = status["problems"].as_array().expect("a list").clone();
        problems.iter().any(|one| one["kind"] == "no_public_url")
    };
    assert!(!problem(&server).await, "there is no link");
    let answer = server.post(LINK, json!({})).await.expect(200);
    let warning = answer["warnings"][0].as_str().expect("a sentence");
    assert!(warning.contains("set server.public_url"), "{warning}");
    assert!(problem(&server).await);
    server = server
        .restart_with(|config| config.server.public_url = Some("https://hooks.test".to_owned()))
        .await;
    let answer = server.post(LINK, json!({})).await.expect(200);
    assert_eq!(answer.get("warnings"), None);
    assert!(!problem(&server).await);
}
