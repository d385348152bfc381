//! What each role may do: every route of the native API for every role, and what ends a token.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use awc::http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Receiver, Server, assert_error, assert_invalid, wait_until};

/// In the order of the table's columns.
const ROLES: [&str; 6] = [
    "owner",
    "publisher",
    "webhook_admin",
    "webhook_user",
    "application",
    "viewer",
];

/// A route, a right body for it, and the status for each role. `{role}` is the role's own name,
/// which the application, an event type and others are called by; the rest is in [`Place`].
type Row = (&'static str, &'static str, Value, [u16; 6]);

const ALL: [u16; 6] = [200; 6];
const OWNERS: [u16; 6] = [200, 403, 403, 403, 403, 403];
/// What only owners change, and viewers look at.
const LOOKED_AT: [u16; 6] = [200, 403, 403, 403, 403, 200];

/// The routes of `src/api`, in an order in which one leaves what the next needs.
fn table() -> Vec<Row> {
    let app = "/api/v1/app/{role}";
    let (endpoint, endpoints) = (
        "/api/v1/app/{role}/endpoint/{endpoint}",
        "/api/v1/app/{role}/endpoint",
    );
    let (headers, secret) = (
        "/api/v1/app/{role}/endpoint/{endpoint}/headers",
        "/api/v1/app/{role}/endpoint/{endpoint}/secret",
    );
    let rotate = "/api/v1/app/{role}/endpoint/{endpoint}/secret/rotate";
    let (own_endpoint, own_endpoints, own_headers) = (
        "/api/v1/operational-webhook/endpoint/own-{role}",
        "/api/v1/operational-webhook/endpoint",
        "/api/v1/operational-webhook/endpoint/own-{role}/headers",
    );
    let messages = "/api/v1/app/{role}/msg";
    let resend = "/api/v1/app/{role}/msg/{message}/endpoint/{endpoint}/resend";
    let event_type = "/api/v1/event-type/made-{role}";
    let (recover, missing, bulk) = (
        "/api/v1/app/{role}/endpoint/{endpoint}/recover",
        "/api/v1/app/{role}/endpoint/{endpoint}/replay-missing",
        "/api/v1/app/{role}/endpoint/{endpoint}/bulk-replay",
    );
    let since = json!({"since": "2024-01-01T00:00:00Z"});
    let grant = "/api/v1/token/{user}/endpoint/{endpoint}";
    let grant_application = "/api/v1/token/{user}/application/{role}";
    let named = json!({"name": "n", "uid": "{role}"});
    let url = json!({"url": "{url}"});
    let no_headers = json!({"headers": {}});
    let publish = json!({"eventType": "a", "payload": {}});
    let described = json!({"description": "d"});
    let none = Value::Null;
    // The viewer makes no endpoint of the organisation, so that there is none of its name to look at.
    // Each row:                       owner, publisher, admin, user, application, viewer.
    vec![
        ("GET", "/api/v1/health", none.clone(), ALL),
        ("GET", "/api/v1/health/ping", none.clone(), [204; 6]),
        ("GET", "/metrics", none.clone(), LOOKED_AT),
        ("GET", "/api/v1/status", none.clone(), LOOKED_AT),
        (
            "GET",
            "/api/v1/lane",
            none.clone(),
            [200, 403, 200, 403, 403, 200],
        ),
        // Applications.
        (
            "GET",
            "/api/v1/app",
            none.clone(),
            [200, 403, 200, 403, 403, 200],
        ),
        (
            "POST",
            "/api/v1/app",
            json!({"name": "n", "uid": "made-{role}"}),
            [201, 403, 403, 403, 403, 403],
        ),
        ("GET", app, none.clone(), ALL),
        ("PUT", app, named, [200, 403, 403, 403, 403, 403]),
        ("PATCH", app, json!({}), [200, 403, 403, 403, 403, 403]),
        // Event types.
        ("GET", "/api/v1/event-type", none.clone(), ALL),
        (
            "POST",
            "/api/v1/event-type",
            json!({"name": "new-{role}", "description": ""}),
            [201, 403, 403, 403, 403, 403],
        ),
        ("GET", event_type, none.clone(), ALL),
        (
            "PUT",
            event_type,
            described.clone(),
            [200, 403, 403, 403, 403, 403],
        ),
        (
            "PATCH",
            event_type,
            described,
            [200, 403, 403, 403, 403, 403],
        ),
        ("GET", "/api/v1/channel", none.clone(), ALL),
        // Profiles and tests.
        ("GET", "/api/v1/profile", none.clone(), ALL),
        ("GET", "/api/v1/delivery-addresses", none.clone(), ALL),
        ("GET", "/api/v1/profile/standard", none.clone(), ALL),
        ("POST", "/api/v1/profile/standard/preview", json!({}), ALL),
        (
            "POST",
            "/api/v1/app/{role}/endpoint/{endpoint}/send-example",
            json!({"eventType": "made-{role}"}),
            [200, 403, 200, 200, 200, 403],
        ),
        (
            // The server of this test verifies none, so there is nothing to send.
            "POST",
            "/api/v1/app/{role}/endpoint/{endpoint}/verify",
            none.clone(),
            [202, 403, 202, 202, 202, 403],
        ),
        (
            "POST",
            "/api/v1/app/{role}/endpoint/{endpoint}/hold",
            none.clone(),
            [200, 403, 200, 403, 403, 403],
        ),
        (
            "POST",
            "/api/v1/app/{role}/endpoint/{endpoint}/release",
            none.clone(),
            [200, 403, 200, 403, 403, 403],
        ),
        (
            "POST",
            "/api/v1/app/{role}/hold",
            none.clone(),
            [200, 403, 200, 403, 403, 403],
        ),
        (
            "POST",
            "/api/v1/app/{role}/release",
            none.clone(),
            [200, 403, 200, 403, 403, 403],
        ),
        ("POST", "/api/v1/hold", none.clone(), OWNERS),
        ("POST", "/api/v1/release", none.clone(), OWNERS),
        (
            "POST",
            "/api/v1/app/{role}/endpoint/{endpoint}/simulate",
            json!({"eventType": "made-{role}"}),
            [202, 403, 202, 202, 202, 403],
        ),
        (
            "DELETE",
            event_type,
            none.clone(),
            [204, 403, 403, 403, 403, 403],
        ),
        // Messages and attempts.
        ("POST", messages, publish, [202, 202, 403, 403, 403, 403]),
        (
            "GET",
            messages,
            none.clone(),
            [200, 403, 200, 200, 200, 200],
        ),
        (
            "POST",
            "/api/v1/app/{role}/msg/batch",
            json!([{"eventType": "a", "payload": {}}]),
            [202, 202, 403, 403, 403, 403],
        ),
        (
            "POST",
            "/api/v1/app/{role}/msg/precheck/active",
            json!({"eventType": "a"}),
            [200, 200, 403, 403, 403, 403],
        ),
        (
            "GET",
            "/api/v1/app/{role}/msg/{message}",
            none.clone(),
            [200, 403, 200, 200, 200, 200],
        ),
        (
            "GET",
            "/api/v1/app/{role}/msg/{message}/attempt/{attempt}",
            none.clone(),
            [200, 403, 200, 200, 200, 200],
        ),
        (
            "GET",
            "/api/v1/app/{role}/attempt/endpoint/{endpoint}",
            none.clone(),
            [200, 403, 200, 200, 200, 200],
        ),
        (
            "GET",
            "/api/v1/app/{role}/attempt/msg/{message}",
            none.clone(),
            [200, 403, 200, 200, 200, 200],
        ),
        (
            "GET",
            "/api/v1/app/{role}/msg/{message}/endpoint",
            none.clone(),
            [200, 403, 200, 200, 200, 200],
        ),
        (
            "GET",
            "/api/v1/app/{role}/endpoint/{endpoint}/msg",
            none.clone(),
            [200, 403, 200, 200, 200, 200],
        ),
        (
            "GET",
            "/api/v1/app/{role}/endpoint/{endpoint}/stats",
            none.clone(),
            [200, 403, 200, 200, 200, 200],
        ),
        (
            "GET",
            "/api/v1/app/{role}/endpoint/{endpoint}/attempt-stats",
            none.clone(),
            [200, 403, 200, 200, 200, 200],
        ),
        ("POST", resend, json!({}), [202, 403, 202, 202, 202, 403]),
        // Replays and other jobs.
        (
            "POST",
            recover,
            since.clone(),
            [202, 403, 202, 202, 202, 403],
        ),
        (
            "POST",
            missing,
            since.clone(),
            [202, 403, 202, 403, 202, 403],
        ),
        ("POST", bulk, since, [202, 403, 202, 202, 202, 403]),
        (
            "GET",
            "/api/v1/background-task",
            none.clone(),
            [200, 403, 200, 200, 200, 200],
        ),
        (
            "GET",
            "/api/v1/background-task/{job}",
            none.clone(),
            [200, 403, 200, 200, 200, 200],
        ),
        (
            "POST",
            "/api/v1/background-task/{job}/cancel",
            none.clone(),
            [200, 403, 200, 200, 200, 403],
        ),
        (
            "POST",
            "/api/v1/stats/usage/app",
            json!({"since": "2024-01-01T00:00:00Z", "until": "2099-01-01T00:00:00Z"}),
            [202, 403, 403, 403, 403, 202],
        ),
        (
            "PUT",
            "/api/v1/stats/usage/event-types",
            none.clone(),
            [202, 403, 403, 403, 403, 202],
        ),
        (
            "DELETE",
            "/api/v1/app/{role}/msg/{message}/attempt/{attempt}/content",
            none.clone(),
            [204, 403, 403, 403, 403, 403],
        ),
        (
            "DELETE",
            "/api/v1/app/{role}/msg/{message}/content",
            none.clone(),
            [204, 403, 403, 403, 403, 403],
        ),
        // Endpoints.
        (
            "GET",
            endpoints,
            none.clone(),
            [200, 403, 200, 200, 200, 200],
        ),
        (
            "POST",
            endpoints,
            url.clone(),
            [201, 403, 201, 201, 201, 403],
        ),
        (
            "GET",
            endpoint,
            none.clone(),
            [200, 403, 200, 200, 200, 200],
        ),
        ("PUT", endpoint, url, [200, 403, 200, 200, 200, 403]),
        ("PATCH", endpoint, json!({}), [200, 403, 200, 200, 200, 403]),
        ("GET", headers, none.clone(), [200, 403, 200, 200, 200, 200]),
        (
            "PUT",
            headers,
            no_headers.clone(),
            [204, 403, 204, 204, 204, 403],
        ),
        ("PATCH", headers, no_headers, [204, 403, 204, 204, 204, 403]),
        ("GET", secret, none.clone(), [200, 403, 200, 200, 200, 403]),
        ("POST", rotate, json!({}), [200, 403, 200, 200, 200, 403]),
        // Portal sessions.
        (
            "POST",
            "/api/v1/auth/app-portal-access/{role}",
            json!({}),
            [200, 403, 403, 403, 403, 403],
        ),
        (
            "POST",
            "/api/v1/auth/app/{role}/expire-all",
            json!({}),
            [204, 403, 403, 403, 403, 403],
        ),
        ("POST", "/api/v1/auth/logout", none.clone(), [403; 6]),
        // The organisation's own endpoints, and the import of event types.
        (
            "POST",
            "/api/v1/event-type/import/openapi",
            json!({"spec": {"webhooks": {}}}),
            [200, 403, 403, 403, 403, 403],
        ),
        ("GET", own_endpoints, none.clone(), LOOKED_AT),
        (
            "POST",
            own_endpoints,
            json!({"url": "{url}"}),
            [201, 403, 403, 403, 403, 403],
        ),
        (
            "PUT",
            own_endpoint,
            json!({"url": "{url}"}),
            [201, 403, 403, 403, 403, 403],
        ),
        (
            "GET",
            own_endpoint,
            none.clone(),
            [200, 403, 403, 403, 403, 404],
        ),
        (
            "GET",
            own_headers,
            none.clone(),
            [200, 403, 403, 403, 403, 404],
        ),
        (
            "PUT",
            own_headers,
            json!({"headers": {}}),
            [204, 403, 403, 403, 403, 403],
        ),
        (
            "PATCH",
            own_headers,
            json!({"headers": {}}),
            [204, 403, 403, 403, 403, 403],
        ),
        (
            "GET",
            "/api/v1/operational-webhook/endpoint/own-{role}/secret",
            none.clone(),
            OWNERS,
        ),
        (
            "POST",
            "/api/v1/operational-webhook/endpoint/own-{role}/secret/rotate",
            json!({}),
            OWNERS,
        ),
        (
            "POST",
            "/api/v1/operational-webhook/endpoint/own-{role}/verify",
            none.clone(),
            [202, 403, 403, 403, 403, 403],
        ),
        (
            "POST",
            "/api/v1/operational-webhook/endpoint/own-{role}/hold",
            none.clone(),
            OWNERS,
        ),
        (
            "POST",
            "/api/v1/operational-webhook/endpoint/own-{role}/release",
            none.clone(),
            OWNERS,
        ),
        (
            "GET",
            "/api/v1/operational-webhook/endpoint/own-{role}/attempt",
            none.clone(),
            [200, 403, 403, 403, 403, 404],
        ),
        (
            "DELETE",
            own_endpoint,
            none.clone(),
            [204, 403, 403, 403, 403, 403],
        ),
        // Tokens and grants. An admin's are those of webhook users.
        (
            "GET",
            "/api/v1/token",
            none.clone(),
            [200, 403, 200, 403, 403, 200],
        ),
        (
            "POST",
            "/api/v1/token",
            json!({"name": "t", "role": "webhook_user"}),
            [201, 403, 403, 403, 403, 403],
        ),
        ("PUT", grant, none.clone(), [204, 403, 204, 403, 403, 403]),
        (
            "GET",
            "/api/v1/token/{user}",
            none.clone(),
            [200, 403, 200, 403, 403, 200],
        ),
        (
            "DELETE",
            grant,
            none.clone(),
            [204, 403, 204, 403, 403, 403],
        ),
        (
            "PUT",
            grant_application,
            none.clone(),
            [204, 403, 204, 403, 403, 403],
        ),
        (
            "DELETE",
            grant_application,
            none.clone(),
            [204, 403, 204, 403, 403, 403],
        ),
        (
            "PUT",
            "/api/v1/token/{other}/endpoint/{endpoint}",
            none.clone(),
            [409, 403, 404, 403, 403, 403],
        ),
        (
            "GET",
            "/api/v1/token/{other}",
            none.clone(),
            [200, 403, 404, 403, 403, 200],
        ),
        (
            "DELETE",
            "/api/v1/token/{other}",
            none.clone(),
            [204, 403, 403, 403, 403, 403],
        ),
        (
            "DELETE",
            "/api/v1/token/{user}",
            none.clone(),
            [204, 403, 403, 403, 403, 403],
        ),
        // What is needed above goes at last.
        (
            "DELETE",
            endpoint,
            none.clone(),
            [204, 403, 204, 204, 204, 403],
        ),
        ("DELETE", app, none, [204, 403, 403, 403, 403, 403]),
    ]
}

/// What a path or a body names, for one role.
type Place = BTreeMap<&'static str, String>;

fn filled(text: &str, place: &Place) -> String {
    place.iter().fold(text.to_owned(), |text, (name, value)| {
        text.replace(&format!("{{{name}}}"), value)
    })
}

async fn token(server: &Server, body: Value) -> (String, String) {
    let made = server.post("/api/v1/token", body).await.expect(201);
    let text = |name: &str| made[name].as_str().expect("a text").to_owned();
    (text("id"), text("token"))
}

/// What makes a token of this role; an application's is limited to the one of that name.
fn of_role(role: &str) -> Value {
    let mut body = json!({"name": role, "role": role});
    if role == "application" {
        body["applicationId"] = json!(role);
    }
    body
}

/// A token of this role that sees the endpoint, if its role sees any.
async fn caller(server: &Server, role: &str, endpoint: &str) -> String {
    let mut body = of_role(role);
    if role == "webhook_user" {
        body["endpointIds"] = json!([endpoint]);
        body["applicationIds"] = json!([role]);
    }
    token(server, body).await.1
}

/// An application of the role's name with an endpoint, a message and its attempt, and two tokens
/// to act upon.
async fn place(server: &Server, role: &'static str, receiver: &Receiver) -> Place {
    let endpoint = server
        .endpoint_of(role, json!({"url": receiver.url()}))
        .await;
    let event_type = json!({"name": format!("made-{role}"), "description": "", "example": {}});
    server
        .post("/api/v1/event-type", event_type)
        .await
        .expect(201);
    let message = server.publish_to(role, "a", json!({})).await;
    server.settle().await;
    let attempt = server.attempts_in(role, &message).await.remove(0);
    // Canceled, and so it can be canceled again.
    let recover = format!("/api/v1/app/{role}/endpoint/{endpoint}/recover");
    server.set_disabled(role, &endpoint, true).await;
    let since = json!({"since": "2024-01-01T00:00:00Z"});
    let job = server.post(&recover, since).await.expect(202);
    let job = job["id"].as_str().expect("an id").to_owned();
    let cancel = format!("/api/v1/background-task/{job}/cancel");
    server.post(&cancel, json!(null)).await.expect(200);
    server.set_disabled(role, &endpoint, false).await;
    let user = token(server, json!({"name": "u", "role": "webhook_user"})).await;
    let other = token(server, json!({"name": "o", "role": "publisher"})).await;
    Place::from([
        ("role", role.to_owned()),
        ("url", receiver.url()),
        ("endpoint", endpoint),
        ("message", message),
        ("job", job),
        ("attempt", attempt["id"].as_str().expect("an id").to_owned()),
        ("user", user.0),
        ("other", other.0),
    ])
}

async fn by(server: &Server, token: &str, row: &Row, place: &Place) -> Answer {
    let (method, path, body, _) = row;
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    let body = (!body.is_null()).then(|| filled(&body.to_string(), place));
    server
        .call_as(token, method, &filled(path, place), body)
        .await
}

#[actix_web::test]
async fn every_role_may_do_on_every_route_what_the_table_says() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    for (column, role) in ROLES.into_iter().enumerate() {
        let place = place(&server, role, &receiver).await;
        let token = caller(&server, role, &place["endpoint"]).await;
        for row in table() {
            let answer = by(&server, &token, &row, &place).await;
            let (method, path, _, statuses) = row;
            let case = format!("{role} {method} {path}: {}", answer.text);
            assert_eq!(answer.status, statuses[column], "{case}");
            match answer.status {
                403 => assert_error(&answer, 403, "forbidden"),
                404 => assert_error(&answer, 404, "not_found"),
                _ => {}
            }
        }
    }
    server.settle().await;
    // What waits for an endpoint that is deleted is forgotten a moment later.
    wait_until("nothing waits", || server.store().waiting_count() == 0).await;
}

#[actix_web::test]
async fn a_refusal_comes_before_the_request_is_judged() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let wrong = "limit=x&order=y&before=z&status=9&with_content=q&get_if_exists=q&expunge=q";
    for (column, role) in ROLES.into_iter().enumerate() {
        let place = place(&server, role, &receiver).await;
        let token = caller(&server, role, &place["endpoint"]).await;
        let refused = table()
            .into_iter()
            .filter(|(_, _, _, statuses)| statuses[column] == 403);
        for (method, path, _, _) in refused {
            let path = format!("{}?{wrong}", filled(path, &place));
            for body in ["{", r#"{"name":1,"url":1,"eventType":1,"headers":1}"#] {
                let method = Method::from_bytes(method.as_bytes()).expect("a method");
                let headers = [("api-key", token.as_str()), ("idempotency-key", "")];
                let body = Some(body.to_owned());
                let answer = server.call(method, &path, &headers, body).await;
                assert_eq!(answer.status, 403, "{role} {path}: {}", answer.text);
            }
        }
        // The same is a 422 for who may: it was wrong indeed.
        if role == "owner" {
            for path in ["/api/v1/app", "/api/v1/event-type", "/api/v1/token"] {
                let answer = server.get(&format!("{path}?limit=x")).await;
                assert_invalid(&answer, &["query.limit"]);
            }
        }
    }
}

/// A path of the table has the methods that the server has there, no fewer.
#[actix_web::test]
async fn the_table_has_every_method_of_its_paths() {
    let server = Server::start().await;
    let mut methods: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (method, path, _, _) in table() {
        let path = path.replace("{other}", "{user}");
        methods.entry(path).or_default().insert(method.to_owned());
    }
    for (path, methods) in methods {
        let path = path.replace(['{', '}'], "");
        let answer = server.call(Method::TRACE, &path, &[], None).await;
        assert_eq!(answer.status, 405, "{path}");
        let allowed = answer.header("allow").expect("it lists the methods");
        let allowed: BTreeSet<String> = allowed.split(", ").map(str::to_owned).collect();
        assert_eq!(methods, allowed, "{path}");
    }
}

#[actix_web::test]
async fn an_ended_token_of_any_role_is_refused() {
    let server = Server::start().await;
    server.application("application").await;
    let end = (server.now() + Duration::from_secs(60)).to_string();
    let mut expiring = Vec::new();
    for role in ROLES {
        let mut body = of_role(role);
        body["expiresAt"] = json!(end);
        expiring.push(token(&server, body).await.1);
        let (id, revoked) = token(&server, of_role(role)).await;
        let read = async |token: &str| {
            let path = "/api/v1/event-type";
            server.call_as(token, Method::GET, path, None).await
        };
        assert_eq!(read(&revoked).await.status, 200, "{role}");
        let path = format!("/api/v1/token/{id}");
        server.delete(&path).await.expect(204);
        assert_error(&read(&revoked).await, 401, "authentication_failed");
    }
    for (end, status) in [(59_999, 200), (1, 401)] {
        server.advance(Duration::from_millis(end));
        for token in &expiring {
            let path = "/api/v1/event-type";
            let answer = server.call_as(token, Method::GET, path, None).await;
            assert_eq!(answer.status, status);
        }
    }
}

#[actix_web::test]
async fn a_publisher_publishes_to_what_there_is_and_creates_nothing() {
    let server = Server::start().await;
    server.application("app").await;
    let (_, publisher) = token(&server, json!({"name": "p", "role": "publisher"})).await;
    let publish = async |application: &str, along: Value| {
        let mut body = json!({"eventType": "a", "payload": {}});
        if !along.is_null() {
            body["application"] = along;
        }
        let path = format!("/api/v1/app/{application}/msg");
        let body = Some(body.to_string());
        server.call_as(&publisher, Method::POST, &path, body).await
    };
    publish("app", Value::Null).await.expect(202);
    publish("app", json!({"name": "n", "uid": "app"}))
        .await
        .expect(202);
    assert_error(&publish("new", Value::Null).await, 404, "not_found");
    let refused = publish("new", json!({"name": "n", "uid": "new"})).await;
    assert_error(&refused, 403, "forbidden");
    assert_error(&server.get("/api/v1/app/new").await, 404, "not_found");
}

#[actix_web::test]
async fn an_admin_sees_the_tokens_of_webhook_users_and_no_others() {
    let server = Server::start().await;
    server.application("application").await;
    let mut users = Vec::new();
    for role in ROLES {
        let (id, _) = token(&server, of_role(role)).await;
        users.extend((role == "webhook_user").then_some(id));
    }
    let (_, admin) = token(&server, of_role("webhook_admin")).await;
    let list = server
        .call_as(&admin, Method::GET, "/api/v1/token", None)
        .await
        .expect(200);
    assert_eq!(crate::support::texts(&list, "id"), users);
    assert_eq!(list["data"][0]["endpointIds"], json!([]));
}
