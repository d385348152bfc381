//! Tokens: their shape and life, and what each role may do.

use std::time::Duration;

use awc::http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Receiver, Server, assert_error, assert_invalid, assert_pages, keys};

const TOKENS: &str = "/api/v1/token";
const KEYS: [&str; 12] = [
    "allowedIps",
    "applicationId",
    "applicationName",
    "createdAt",
    "description",
    "expiresAt",
    "id",
    "lastUsedAt",
    "lastUsedFrom",
    "name",
    "role",
    "scopes",
];

/// A call with this credential; a null body is none.
async fn by(server: &Server, token: &str, method: Method, path: &str, body: &Value) -> Answer {
    let bearer = format!("Bearer {token}");
    let body = (!body.is_null()).then(|| body.to_string());
    server
        .call(method, path, &[("authorization", &bearer)], body)
        .await
}

async fn token(server: &Server, body: Value) -> (String, String) {
    let made = server.post(TOKENS, body).await.expect(201);
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    (text("id"), text("token"))
}

#[actix_web::test]
async fn a_token_is_shown_once_and_works_until_it_is_revoked() {
    let server = Server::start().await;
    server.application("app").await;
    let app = server.get("/api/v1/app/app").await.expect(200)["id"].clone();
    let body = json!({"name": "t", "role": "application", "applicationId": "app"});
    let made = server.post(TOKENS, body).await.expect(201);
    let mut with_text = KEYS.to_vec();
    with_text.push("token");
    assert_eq!(keys(&made), with_text);
    assert!(made["id"].as_str().unwrap().starts_with("tok_"));
    let credential = made["token"].as_str().unwrap();
    assert!(credential.starts_with("pr_") && credential.len() > 40);
    assert_eq!(made["applicationId"], app);
    assert_eq!(made["expiresAt"], Value::Null);
    assert_eq!(made["createdAt"], server.now().to_string());

    let path = format!("{TOKENS}/{}", made["id"].as_str().unwrap());
    let read = server.get(&path).await.expect(200);
    assert_eq!(keys(&read), KEYS);
    let listed = server.get(TOKENS).await;
    assert!(!listed.text.contains("pr_"), "{}", listed.text);
    let listed = listed.expect(200);
    assert!(listed["data"].as_array().unwrap().contains(&read));

    let own = async |server: &Server| {
        by(
            server,
            credential,
            Method::GET,
            "/api/v1/app/app",
            &Value::Null,
        )
        .await
        .status
    };
    assert_eq!(own(&server).await, 200);
    let server = server.restart().await;
    assert_eq!(own(&server).await, 200);
    let revoked = server.delete(&path).await;
    assert_eq!((revoked.status, revoked.text.as_str()), (204, ""));
    assert_eq!(own(&server).await, 401);
    assert_error(&server.get(&path).await, 404, "not_found");
    assert_error(&server.delete(&path).await, 404, "not_found");
    let server = server.restart().await;
    assert_eq!(own(&server).await, 401);
}

#[actix_web::test]
async fn a_token_ends_when_it_was_said_to() {
    let server = Server::start().await;
    let end = (server.now() + Duration::from_secs(60)).to_string();
    let body = json!({"name": "t", "role": "owner", "expiresAt": end});
    let made = server.post(TOKENS, body).await.expect(201);
    assert_eq!(made["expiresAt"], end);
    let credential = made["token"].as_str().unwrap();
    let list = async || {
        by(
            &server,
            credential,
            Method::GET,
            "/api/v1/app",
            &Value::Null,
        )
        .await
    };
    server.advance(Duration::from_millis(59_999));
    assert_eq!(list().await.status, 200);
    server.advance(Duration::from_millis(1));
    assert_error(&list().await, 401, "authentication_failed");
}

#[actix_web::test]
async fn a_bad_credential_is_told_from_a_good_one_only() {
    let server = Server::start().await;
    let bearer = |text: &str| format!("Bearer {text}");
    let mut changed = server.token.clone();
    let last = changed.pop().expect("it is not empty");
    changed.push(if last == 'A' { 'B' } else { 'A' });
    for header in [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        server.token.clone(),
        format!("Basic {}", server.token),
        bearer("pr_"),
        bearer(&changed),
        bearer(&server.token.to_uppercase()),
        bearer(&format!("{}x", server.token)),
        bearer(&"x".repeat(4000)),
    ] {
        for path in ["/api/v1/app", "/api/v1/app/none/msg"] {
            let headers = [("authorization", header.as_str())];
            // A body that is wrong is no way to learn anything.
            let body = Some("{".to_owned());
            let answer = server.call(Method::POST, path, &headers, body).await;
            assert_error(&answer, 401, "authentication_failed");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
    }
    for scheme in ["bearer", "BEARER"] {
        let header = format!("{scheme} {}", server.token);
        let headers = [("authorization", header.as_str())];
        let answer = server
            .call(Method::GET, "/api/v1/app", &headers, None)
            .await;
        assert_eq!(answer.status, 200);
    }
}

#[actix_web::test]
async fn a_credential_may_come_as_an_api_key() {
    let server = Server::start().await;
    let bearer = format!("Bearer {}", server.token);
    let good = server.token.as_str();
    let list = async |headers: &[(&str, &str)]| {
        server.call(Method::GET, "/api/v1/app", headers, None).await
    };
    for headers in [
        vec![("Api-Key", good)],
        vec![("api-key", good), ("authorization", &bearer)],
        vec![("api-key", "pr_wrong"), ("authorization", &bearer)],
    ] {
        assert_eq!(list(&headers).await.status, 200, "{headers:?}");
    }
    for headers in [
        vec![("api-key", "pr_wrong")],
        vec![("api-key", "")],
        vec![("api-key", bearer.as_str())],
        // An Authorization counts where there is one.
        vec![("api-key", good), ("authorization", "Bearer pr_wrong")],
        vec![("api-key", good), ("authorization", "Basic Og==")],
        vec![("api-key", good), ("authorization", "")],
    ] {
        let answer = list(&headers).await;
        assert_error(&answer, 401, "authentication_failed");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
}

#[actix_web::test]
async fn what_is_wrong_with_a_token_is_told_at_once() {
    let server = Server::start().await;
    server.application("app").await;
    let past = server.now().to_string();
    for (body, places) in [
        (json!({}), vec!["body.name", "body.role"]),
        (
            json!({"name": "", "role": "king", "expiresAt": "soon"}),
            vec!["body.name", "body.role", "body.expiresAt"],
        ),
        (
            json!({"name": "t", "role": "application"}),
            vec!["body.applicationId"],
        ),
        (
            json!({"name": "t", "role": "owner", "applicationId": "app"}),
            vec!["body.applicationId"],
        ),
        (
            json!({"name": "t", "role": "application", "applicationId": "none"}),
            vec!["body.applicationId"],
        ),
        (
            json!({"name": "t", "role": "owner", "expiresAt": past}),
            vec!["body.expiresAt"],
        ),
        (json!({"name": 1, "role": "owner"}), vec!["body.name"]),
    ] {
        assert_invalid(&server.post(TOKENS, body).await, &places);
    }
    let list = server.get(TOKENS).await.expect(200);
    assert_eq!(
        list["data"].as_array().unwrap().len(),
        1,
        "the first owner's"
    );
}

#[actix_web::test]
async fn tokens_are_listed_in_the_order_of_their_making() {
    let server = Server::start().await;
    let list = server.get(TOKENS).await.expect(200);
    let mut ids = crate::support::texts(&list, "id");
    for number in 0..4 {
        server.advance(Duration::from_millis(4));
        let body = json!({"name": format!("t{number}"), "role": "owner"});
        ids.push(token(&server, body).await.0);
    }
    assert_pages(&server, TOKENS, "id", &ids).await;
    ids.reverse();
    assert_pages(&server, "/api/v1/token?order=descending", "id", &ids).await;
}

#[actix_web::test]
async fn an_applications_token_does_what_the_table_says_and_no_more() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let message = server.send_to(&receiver, "a", json!({})).await;
    let attempt = server.attempts(&message).await.remove(0);
    let endpoint = attempt["endpointId"].as_str().unwrap().to_owned();
    let attempt = attempt["id"].as_str().unwrap().to_owned();
    server.application("other").await;
    let url = json!({"url": receiver.url(), "uid": "e"});
    server
        .post("/api/v1/app/other/endpoint", url.clone())
        .await
        .expect(201);
    let event_type = json!({"name": "t", "description": ""});
    server
        .post("/api/v1/event-type", event_type.clone())
        .await
        .expect(201);
    let body = json!({"name": "t", "role": "application", "applicationId": "app"});
    let (own_id, own) = token(&server, body).await;
    let (other_id, _) = token(&server, json!({"name": "o", "role": "owner"})).await;

    let none = Value::Null;
    let name = json!({"name": "n"});
    let publish = json!({"eventType": "a", "payload": {}});
    let (get, post, put, patch, delete) = (
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
    );
    let app = |rest: String| format!("/api/v1/app/app{rest}");
    let other = |rest: &str| format!("/api/v1/app/other{rest}");
    let headers = json!({"headers": {}});
    let table = [
        // Its own application: to read, not to change.
        (&get, app(String::new()), &none, 200),
        (&put, app(String::new()), &name, 403),
        (&patch, app(String::new()), &name, 403),
        (&delete, app(String::new()), &none, 403),
        (&get, "/api/v1/app".to_owned(), &none, 403),
        (&post, "/api/v1/app".to_owned(), &name, 403),
        // Its endpoints: everything.
        (&get, app("/endpoint".into()), &none, 200),
        (&post, app("/endpoint".into()), &url, 201),
        (&get, app("/endpoint/e".into()), &none, 200),
        (&put, app("/endpoint/e".into()), &url, 200),
        (&patch, app("/endpoint/e".into()), &json!({}), 200),
        (&get, app("/endpoint/e/secret".into()), &none, 200),
        (
            &post,
            app("/endpoint/e/secret/rotate".into()),
            &json!({}),
            200,
        ),
        (&get, app("/endpoint/e/headers".into()), &none, 200),
        (&put, app("/endpoint/e/headers".into()), &headers, 204),
        (&patch, app("/endpoint/e/headers".into()), &headers, 204),
        (&delete, app("/endpoint/e".into()), &none, 204),
        // Its messages and attempts: to read, and to send again.
        (&post, app("/msg".into()), &publish, 403),
        (&post, app("/msg".into()), &json!({}), 403),
        (&get, app("/msg".into()), &none, 200),
        (&get, app(format!("/msg/{message}")), &none, 200),
        (&get, app(format!("/attempt/msg/{message}")), &none, 200),
        (
            &get,
            app(format!("/attempt/endpoint/{endpoint}")),
            &none,
            200,
        ),
        (
            &get,
            app(format!("/msg/{message}/attempt/{attempt}")),
            &none,
            200,
        ),
        (
            &post,
            app(format!("/msg/{message}/endpoint/{endpoint}/resend")),
            &json!({}),
            202,
        ),
        // Others' do not exist.
        (&get, other(""), &none, 404),
        (&delete, other(""), &none, 404),
        (&patch, other(""), &name, 404),
        (&put, other(""), &name, 404),
        (&put, "/api/v1/app/new".to_owned(), &name, 404),
        (&get, other("/endpoint"), &none, 404),
        (&post, other("/endpoint"), &url, 404),
        (&post, other("/endpoint"), &json!({}), 404),
        (&get, other("/endpoint/e"), &none, 404),
        (&put, other("/endpoint/e"), &url, 404),
        (&delete, other("/endpoint/e"), &none, 404),
        (&get, other("/endpoint/e/secret"), &none, 404),
        (&post, other("/endpoint/e/secret/rotate"), &json!({}), 404),
        (&post, other("/msg"), &publish, 404),
        (&get, other("/msg"), &none, 404),
        (&get, other(&format!("/msg/{message}")), &none, 404),
        (&get, other(&format!("/attempt/msg/{message}")), &none, 404),
        (&get, "/api/v1/app/none/msg".to_owned(), &none, 404),
        // Event types: to read.
        (&get, "/api/v1/event-type".to_owned(), &none, 200),
        (&get, "/api/v1/event-type/t".to_owned(), &none, 200),
        (&post, "/api/v1/event-type".to_owned(), &event_type, 403),
        (&put, "/api/v1/event-type/t".to_owned(), &event_type, 403),
        (&patch, "/api/v1/event-type/t".to_owned(), &event_type, 403),
        (&delete, "/api/v1/event-type/t".to_owned(), &none, 403),
        // Tokens and metrics: nothing.
        (&get, TOKENS.to_owned(), &none, 403),
        (
            &post,
            TOKENS.to_owned(),
            &json!({"name": "t", "role": "owner"}),
            403,
        ),
        (&get, format!("{TOKENS}/{own_id}"), &none, 403),
        (&delete, format!("{TOKENS}/{other_id}"), &none, 403),
        (&get, "/metrics".to_owned(), &none, 403),
    ];
    for (method, path, body, status) in &table {
        let answer = by(&server, &own, (*method).clone(), path, body).await;
        assert_eq!(answer.status, *status, "{method} {path}: {}", answer.text);
        match status {
            403 => assert_error(&answer, 403, "forbidden"),
            404 => assert_error(&answer, 404, "not_found"),
            _ => {}
        }
    }
    server.settle().await;
    assert_eq!(receiver.count(), 2, "one resend and nothing else");
    // An application that comes along with a message is made by owners only.
    let along =
        json!({"eventType": "a", "payload": {}, "application": {"name": "n", "uid": "new"}});
    let answer = by(&server, &own, Method::POST, "/api/v1/app/new/msg", &along).await;
    assert!([403, 404].contains(&answer.status), "{}", answer.text);
    assert_error(&server.get("/api/v1/app/new").await, 404, "not_found");
}
