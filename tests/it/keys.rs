//! An application's API keys, and when tokens were last used.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use awc::http::Method;
use serde_json::{Value, json};

use crate::jwt;
use crate::support::{Answer, DEADLINE, Server, assert_error, assert_invalid};

const KEYS: &str = "/api/v1/app/app/token";

async fn as_token(server: &Server, token: &str, method: Method, path: &str, body: Value) -> Answer {
    let body = (!body.is_null()).then(|| body.to_string());
    server.call_as(token, method, path, body).await
}

async fn link(server: &Server, body: Value) -> String {
    let path = "/api/v1/auth/app-portal-access/app";
    let made = server.post(path, body).await.expect(200);
    made["token"].as_str().expect("a text").to_owned()
}

#[actix_web::test]
async fn the_portal_makes_lists_and_revokes_keys() {
    let server = Server::start().await;
    server.application("app").await;
    server.application("other").await;
    let portal = link(&server, json!({})).await;
    let made = as_token(
        &server,
        &portal,
        Method::POST,
        KEYS,
        json!({ "name": "build" }),
    )
    .await;
    let made = made.expect(201);
    let key = made["token"].as_str().expect("shown once");
    let endpoints = "/api/v1/app/app/endpoint";
    as_token(&server, key, Method::GET, endpoints, Value::Null)
        .await
        .expect(200);
    let other = as_token(&server, key, Method::GET, "/api/v1/app/other", Value::Null).await;
    assert_eq!(other.status, 404);

    let listed = as_token(&server, &portal, Method::GET, KEYS, Value::Null)
        .await
        .expect(200);
    let listed = listed["data"].as_array().expect("a list").clone();
    assert_eq!(listed.len(), 1, "the portal's own session is none");
    assert_eq!(listed[0]["name"], "build");
    assert_eq!(listed[0].get("token"), None);
    assert!(listed[0]["lastUsedAt"].is_string());
    // The same token, from the operator's side.
    let id = made["id"].as_str().expect("an id");
    let seen = server.get(&format!("/api/v1/token/{id}")).await.expect(200);
    assert_eq!(seen["role"], "application");

    let path = format!("{KEYS}/{id}");
    let foreign = format!("/api/v1/app/other/token/{id}");
    assert_error(&server.delete(&foreign).await, 404, "not_found");
    assert_eq!(
        as_token(&server, &portal, Method::DELETE, &path, Value::Null)
            .await
            .status,
        204
    );
    assert_error(&server.delete(&path).await, 404, "not_found");
    let gone = as_token(&server, key, Method::GET, endpoints, Value::Null).await;
    assert_eq!(gone.status, 401);
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn keys_are_for_owners_and_for_portal_links_that_may_do_as_much_as_a_key() {
    let server = Server::start().await;
    server.application("app").await;
    let body = || json!({ "name": "k" });
    let key = server.post(KEYS, body()).await.expect(201);
    let key = key["token"].as_str().expect("a text").to_owned();
    let mut cases = vec![
        (key, 403),
        (link(&server, json!({ "readOnly": true })).await, 403),
        (
            link(&server, json!({ "capabilities": ["CreateAttempts"] })).await,
            403,
        ),
        (
            link(&server, json!({ "capabilities": ["ManageEndpoint"] })).await,
            403,
        ),
        (
            link(
                &server,
                json!({ "capabilities": ["ManageEndpoint", "CreateAttempts"] }),
            )
            .await,
            201,
        ),
    ];
    for role in ["publisher", "webhook_admin", "webhook_user"] {
        let made = json!({ "name": "t", "role": role });
        let made = server.post("/api/v1/token", made).await.expect(201);
        // A webhook user without a grant does not see the application.
        let status = if role == "webhook_user" { 404 } else { 403 };
        cases.push((made["token"].as_str().expect("a text").to_owned(), status));
    }
    for (index, (token, status)) in cases.iter().enumerate() {
        let answer = as_token(&server, token, Method::POST, KEYS, body()).await;
        assert_eq!(answer.status, *status, "{index}");
        let answer = as_token(&server, token, Method::GET, KEYS, Value::Null).await;
        assert_eq!(answer.status == 200, *status == 201, "{index}");
    }
    let past = json!({ "name": "", "expiresAt": "2001-01-01T00:00:00Z" });
    let answer = server.post(KEYS, past).await;
    assert_invalid(&answer, &["body.name", "body.expiresAt"]);
    for _ in 2..100 {
        server.post(KEYS, body()).await.expect(201);
    }
    assert_error(&server.post(KEYS, body()).await, 429, "too_many");
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn when_a_token_was_last_used_is_told_to_the_minute_and_outlives_a_restart() {
    let server = Server::start().await;
    server.application("app").await;
    let made = server.post(KEYS, json!({ "name": "k" })).await.expect(201);
    let (key, id) = (
        made["token"].as_str().unwrap(),
        made["id"].as_str().unwrap(),
    );
    let path = format!("/api/v1/token/{id}");
    let last = async |server: &Server| server.get(&path).await.expect(200)["lastUsedAt"].clone();
    assert_eq!(last(&server).await, Value::Null);
    server.advance(Duration::from_secs(3600));
    as_token(&server, key, Method::GET, "/api/v1/app/app", Value::Null)
        .await
        .expect(200);
    let now = server.now();
    let used = last(&server).await;
    let used_at: postrider::clock::Timestamp = used.as_str().unwrap().parse().unwrap();
    assert!(now.since(used_at) < Duration::from_secs(60), "{used}");
    // A stop writes it down, too.
    let server = server.restart().await;
    assert_eq!(last(&server).await, used);
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn a_key_that_a_link_made_ends_by_itself_and_with_expire_all() {
    let server = Server::start_with(|config| config.portal.api_key_days_max = 30).await;
    server.application("app").await;
    let portal = link(&server, json!({ "sessionId": "ann" })).await;
    let make = async |body: Value| as_token(&server, &portal, Method::POST, KEYS, body).await;
    let made = make(json!({ "name": "long" })).await.expect(201);
    let end = made["expiresAt"].as_str().expect("it ends").to_owned();
    let last = server.now() + Duration::from_secs(30 * 24 * 3600);
    assert_eq!(end, last.to_string());
    assert_eq!(made["madeByLink"], json!({ "sessionId": "ann" }));
    let soon = server.now() + Duration::from_secs(3600);
    let short = json!({ "name": "short", "expiresAt": soon.to_string() });
    assert_eq!(make(short).await.expect(201)["expiresAt"], soon.to_string());
    let far = server.now() + Duration::from_secs(31 * 24 * 3600);
    let far = json!({ "name": "far", "expiresAt": far.to_string() });
    assert_invalid(&make(far.clone()).await, &["body.expiresAt"]);
    // The platform's own keys live as long as it says.
    let own = server
        .post(KEYS, json!({ "name": "own" }))
        .await
        .expect(201);
    assert_eq!(
        (&own["expiresAt"], &own["madeByLink"]),
        (&Value::Null, &Value::Null)
    );
    server.post(KEYS, far).await.expect(201);
    let seen = server
        .get(&format!(
            "/api/v1/token/{}",
            made["id"].as_str().expect("an id")
        ))
        .await
        .expect(200);
    assert_eq!(seen["madeByLink"], json!({ "sessionId": "ann" }));

    let server = server.restart().await;
    let works = async |key: &Value| {
        let key = key["token"].as_str().expect("shown once");
        as_token(&server, key, Method::GET, "/api/v1/app/app", Value::Null)
            .await
            .status
    };
    let expire = "/api/v1/auth/app/app/expire-all";
    server
        .post(expire, json!({ "sessionIds": ["bob"] }))
        .await
        .expect(204);
    assert_eq!(works(&made).await, 200);
    server
        .post(expire, json!({ "sessionIds": ["ann"], "expiry": 60 }))
        .await
        .expect(204);
    assert_eq!(works(&made).await, 200);
    server.advance(Duration::from_secs(61));
    assert_eq!(works(&made).await, 401);
    let portal = link(&server, json!({})).await;
    let body = json!({ "name": "again" });
    let again = as_token(&server, &portal, Method::POST, KEYS, body)
        .await
        .expect(201);
    server.post(expire, json!({})).await.expect(204);
    assert_eq!((works(&again).await, works(&own).await), (401, 200));
    let listed = server.get(KEYS).await.expect(200);
    let names: Vec<&Value> = listed["data"].as_array().expect("a list").iter().collect();
    assert!(names.iter().all(|key| key["name"] != "again"), "{listed}");
}

/// A request whose body is there but for its last byte, once its head has been let in: the server has
/// said that it waits for the body.
fn begun(server: &Server, token: &str, path: &str, body: &str) -> TcpStream {
    begun_by(server, token, "POST", path, body)
}

fn begun_by(server: &Server, token: &str, method: &str, path: &str, body: &str) -> TcpStream {
    let credential = format!("authorization: Bearer {token}");
    begun_with(server, &credential, method, path, body)
}

/// The same with these headers for a credential.
fn begun_with(
    server: &Server,
    credential: &str,
    method: &str,
    path: &str,
    body: &str,
) -> TcpStream {
    let address = server.url("");
    let address = address.trim_start_matches("http://");
    let mut connection = TcpStream::connect(address).expect("the server listens");
    connection.set_read_timeout(Some(DEADLINE)).expect("it may");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\n{credential}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\
         expect: 100-continue\r\nconnection: close\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).expect("a head");
    let mut answer = [0; 25];
    connection.read_exact(&mut answer).expect("it goes on");
    assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
    let most = &body.as_bytes()[..body.len() - 1];
    connection.write_all(most).expect("most of a body");
    connection
}

/// The status of the answer once the last byte is there, too.
fn ended(mut connection: TcpStream) -> String {
    connection.write_all(b"}").expect("the last byte");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("an answer");
    answer.split(' ').nth(1).expect("a status").to_owned()
}

#[actix_web::test]
async fn a_key_ends_with_who_made_its_link_where_expire_all_would_let_it_live_longer() {
    let server = Server::start().await;
    server.application("app").await;
    let minute = Duration::from_secs(60);
    let end = server.now() + minute * 60;
    let owner = json!({ "name": "n", "role": "owner", "expiresAt": end.to_string() });
    let owner = server.post("/api/v1/token", owner).await.expect(201);
    let owner = owner["token"].as_str().expect("a text");
    let path = "/api/v1/auth/app-portal-access/app";
    let link = as_token(&server, owner, Method::POST, path, json!({})).await;
    let link = link.expect(200)["token"]
        .as_str()
        .expect("a text")
        .to_owned();
    let in_two_hours = json!({ "expiry": 7200 });
    server
        .post("/api/v1/auth/app/app/expire-all", in_two_hours)
        .await
        .expect(204);
    let made = as_token(&server, &link, Method::POST, KEYS, json!({ "name": "k" })).await;
    assert_eq!(made.expect(201)["expiresAt"], end.to_string());
}

#[actix_web::test]
async fn a_key_made_while_its_link_is_ending_ends_with_it_and_not_later() {
    let server = Server::start().await;
    server.application("app").await;
    let minute = Duration::from_secs(60);
    let asked = link(&server, json!({ "sessionId": "ann" })).await;
    let other = link(&server, json!({ "sessionId": "bob", "expiry": 3600 })).await;
    let make = async |server: &Server, link: &str, body: Value| {
        let made = as_token(server, link, Method::POST, KEYS, body).await;
        made.expect(201)
    };
    let expire = "/api/v1/auth/app/app/expire-all";
    let in_ten = json!({ "sessionIds": ["ann"], "expiry": 600 });
    server.post(expire, in_ten).await.expect(204);
    let end = server.now() + minute * 10;
    server.advance(minute);
    // A later end that is asked for again puts nothing off.
    let in_twenty = json!({ "sessionIds": ["ann"], "expiry": 1200 });
    server.post(expire, in_twenty).await.expect(204);
    let server = server.restart().await;
    let late = server.now() + minute * 60;
    let soon = server.now() + minute;
    for (body, expected) in [
        (json!({ "name": "k" }), end),
        (json!({ "name": "k", "expiresAt": late.to_string() }), end),
        (json!({ "name": "k", "expiresAt": soon.to_string() }), soon),
    ] {
        let made = make(&server, &asked, body.clone()).await;
        assert_eq!(made["expiresAt"], expected.to_string(), "{body}");
    }
    let made = make(&server, &asked, json!({ "name": "k" })).await;
    let key = made["token"].as_str().expect("a text").to_owned();
    // A link that ends by itself leaves its keys: nobody ended them.
    let own = make(&server, &other, json!({ "name": "k" })).await;
    let year = server.now() + minute * 60 * 24 * 365;
    assert_eq!(own["expiresAt"], year.to_string());
    server.advance(minute * 9);
    let endpoints = "/api/v1/app/app/endpoint";
    let refused = as_token(&server, &key, Method::GET, endpoints, Value::Null).await;
    assert_error(&refused, 401, "authentication_failed");

    // One that ends before that by itself, too: what it makes lives until then.
    let all = json!({ "expiry": 7200 });
    server.post(expire, all).await.expect(204);
    let end = server.now() + minute * 120;
    let made = make(&server, &other, json!({ "name": "k" })).await;
    assert_eq!(made["expiresAt"], end.to_string());
    server.advance(minute * 120);
    server.forget_ended().await;
    assert_eq!(server.store().catalog().revocations().count(), 0);
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn what_is_ended_while_a_body_arrives_leaves_no_credential_behind() {
    let server = Server::start().await;
    server.application("app").await;
    let endpoint = server
        .endpoint_of("app", json!({ "url": "https://a.test/in" }))
        .await;
    let secret = format!("/api/v1/app/app/endpoint/{endpoint}/secret");
    let secret_before = server.get(&secret).await.expect(200);
    let portal = link(&server, json!({})).await;
    let owner = json!({ "name": "second", "role": "owner" });
    let owner = server.post("/api/v1/token", owner).await.expect(201);
    let (id, owner) = (&owner["id"], owner["token"].as_str().expect("shown once"));

    let body = r#"{"name":"late"}"#;
    let key = begun(&server, &portal, KEYS, body);
    let rotation = begun(&server, &portal, &format!("{secret}/rotate"), "{}");
    let token = r#"{"name":"late","role":"owner"}"#;
    let token = begun(&server, owner, "/api/v1/token", token);
    let access = "/api/v1/auth/app-portal-access/app";
    let access = begun(&server, owner, access, r#"{"sessionId":"late"}"#);
    server
        .post("/api/v1/auth/app/app/expire-all", json!({}))
        .await
        .expect(204);
    let id = id.as_str().expect("an id");
    server
        .delete(&format!("/api/v1/token/{id}"))
        .await
        .expect(204);
    let statuses = [key, rotation, token, access].map(ended);
    assert_eq!(statuses, ["401", "401", "401", "401"]);
    let keys = server.get(KEYS).await.expect(200);
    assert_eq!(keys["data"], json!([]));
    let tokens = server.get("/api/v1/token").await.expect(200).to_string();
    assert!(!tokens.contains("late"), "{tokens}");
    assert_eq!(server.get(&secret).await.expect(200), secret_before);
}

/// The proof of a credential is kept for its request alone.
#[actix_web::test]
async fn each_request_of_a_connection_has_its_own_credential_proved() {
    let server = Server::start().await;
    let viewer = json!({ "name": "v", "role": "viewer" });
    let viewer = server.post("/api/v1/token", viewer).await.expect(201);
    let token = viewer["token"].as_str().expect("shown once");
    let request = |credential: &str, last: &str| {
        format!("GET /api/v1/token HTTP/1.1\r\nhost: x\r\n{credential}connection: {last}\r\n\r\n")
    };
    let valid = format!("authorization: Bearer {token}\r\n");
    let address = server.url("");
    let address = address.trim_start_matches("http://");
    let mut connection = TcpStream::connect(address).expect("the server listens");
    connection.set_read_timeout(Some(DEADLINE)).expect("it may");
    let requests = [
        request(&valid, "keep-alive"),
        request("", "keep-alive"),
        request(&valid, "keep-alive"),
        request("authorization: Bearer pr_nobody\r\n", "close"),
    ];
    let all = requests.concat();
    connection.write_all(all.as_bytes()).expect("requests");
    let mut answers = String::new();
    connection.read_to_string(&mut answers).expect("answers");
    let lines = answers
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|answer| &answer[..3]);
    assert_eq!(Vec::from_iter(lines), ["200", "401", "200", "401"]);
}

/// Each kind of change that has a body, and of these each that once did not ask again.
#[actix_web::test]
async fn what_is_ended_while_a_body_arrives_changes_nothing() {
    let server = Server::start().await;
    server.application("app").await;
    let endpoint = json!({ "url": "https://a.test/in", "uid": "e" });
    server.endpoint_of("app", endpoint).await;
    let event_type = json!({ "name": "old", "description": "as it was" });
    server
        .post("/api/v1/event-type", event_type)
        .await
        .expect(201);
    let owner = json!({ "name": "second", "role": "owner" });
    let owner = server.post("/api/v1/token", owner).await.expect(201);
    let token = owner["token"].as_str().expect("shown once");
    let id = owner["id"].as_str().expect("an id");
    let shown = async || {
        let mut all = Vec::new();
        for path in [
            "/api/v1/app",
            "/api/v1/event-type?include_archived=true&with_content=true",
            "/api/v1/background-task",
            "/api/v1/app/app/endpoint",
            "/api/v1/app/app/endpoint/e/headers",
        ] {
            all.push(server.get(path).await.expect(200));
        }
        all
    };
    let before = shown().await;

    let new = r#"{"name":"late","description":"late"}"#;
    let described = r#"{"description":"late"}"#;
    let begin = server.now().saturating_sub(Duration::from_secs(3600));
    let since = format!(r#"{{"since":"{begin}"}}"#);
    let usage = format!(r#"{{"since":"{begin}","until":"{}"}}"#, server.now());
    let import = r#"{"spec":{"openapi":"3.1.0","webhooks":{"late":{"post":{}}}}}"#;
    let endpoint = r#"{"url":"https://late.test/"}"#;
    let changes = [
        ("POST", "/api/v1/app", r#"{"name":"late"}"#),
        ("PUT", "/api/v1/app/late", r#"{"name":"late"}"#),
        ("PATCH", "/api/v1/app/app", r#"{"name":"late"}"#),
        ("POST", "/api/v1/event-type", new),
        ("PUT", "/api/v1/event-type/old", described),
        ("PATCH", "/api/v1/event-type/old", described),
        ("POST", "/api/v1/event-type/import/openapi", import),
        ("POST", "/api/v1/app/app/endpoint", endpoint),
        ("PUT", "/api/v1/app/app/endpoint/e", endpoint),
        (
            "PATCH",
            "/api/v1/app/app/endpoint/e",
            r#"{"disabled":true}"#,
        ),
        (
            "PUT",
            "/api/v1/app/app/endpoint/e/headers",
            r#"{"headers":{"x-late":"1"}}"#,
        ),
        ("POST", "/api/v1/app/app/endpoint/e/recover", &since),
        ("POST", "/api/v1/app/app/endpoint/e/replay-missing", &since),
        ("POST", "/api/v1/app/app/endpoint/e/bulk-replay", &since),
        ("POST", "/api/v1/stats/usage/app", &usage),
        ("POST", "/api/v1/auth/app/app/expire-all", "{}"),
    ];
    let waiting: Vec<_> = changes
        .map(|(method, path, body)| begun_by(&server, token, method, path, body))
        .into();
    server
        .delete(&format!("/api/v1/token/{id}"))
        .await
        .expect(204);
    for (connection, change) in waiting.into_iter().zip(changes) {
        assert_eq!(ended(connection), "401", "{change:?}");
    }
    assert_eq!(shown().await, before);
}

#[actix_web::test]
async fn a_signed_token_that_is_ended_while_a_body_arrives_changes_nothing() {
    let server = jwt::start().await;
    server.application("app").await;
    let application = server.get("/api/v1/app/app").await.expect(200);
    let application = application["id"].as_str().expect("an id");
    let application = application.parse().expect("of an application");
    let organisation = jwt::own_organisation(&server);
    let hour = Duration::from_secs(3600);
    let end = Some(server.now() + hour);
    let signed = jwt::signed(&server, organisation, Some(application), end);
    let endpoints = "/api/v1/app/app/endpoint";
    let late = begun(&server, &signed, endpoints, r#"{"url":"https://a.test/"}"#);
    server.advance(Duration::from_secs(1));
    server
        .post("/api/v1/auth/app/app/expire-all", json!({}))
        .await
        .expect(204);
    assert_eq!(ended(late), "401");
    let listed = server.get(endpoints).await.expect(200);
    assert_eq!(listed["data"], json!([]));

    // For a minute beyond its end it is let in, since clocks differ, and what is let in may do all.
    let end = Some(server.now() + hour);
    let signed = jwt::signed(&server, organisation, Some(application), end);
    server.advance(hour + Duration::from_secs(30));
    let body = json!({ "url": "https://a.test/" });
    as_token(&server, &signed, Method::POST, endpoints, body)
        .await
        .expect(201);
    // A token that would end with the one that makes it would be over at once, though.
    let end = Some(server.now() + hour);
    let signed = jwt::signed(&server, organisation, None, end);
    server.advance(hour + Duration::from_secs(30));
    let body = json!({ "name": "n", "role": "viewer" });
    let token = as_token(&server, &signed, Method::POST, "/api/v1/token", body).await;
    assert_error(&token, 401, "authentication_failed");
}

#[actix_web::test]
async fn a_browser_that_is_signed_out_while_a_body_arrives_changes_nothing() {
    let server = Server::start().await;
    let surface = ("x-postrider-surface", "console");
    let credential = json!({ "token": server.token }).to_string();
    let signed_in = server
        .call(
            Method::POST,
            "/api/v1/session",
            &[surface],
            Some(credential),
        )
        .await;
    let cookie = signed_in.header("set-cookie").expect("a cookie");
    let cookie = cookie.split(';').next().expect("its value");
    let browser = format!("x-postrider-surface: console\r\ncookie: {cookie}");
    let body = r#"{"name":"x","role":"owner"}"#;
    let in_time = begun_with(&server, &browser, "POST", "/api/v1/token", body);
    assert_eq!(ended(in_time), "201");
    let late = begun_with(&server, &browser, "POST", "/api/v1/token", body);
    let all = json!({ "current": true });
    let end = server.post("/api/v1/sessions/expire-all", all).await;
    end.expect(204);
    assert_eq!(ended(late), "401");
}

#[actix_web::test]
async fn a_token_that_ends_while_a_body_arrives_changes_no_secret_of_another_surface() {
    let server = Server::start().await;
    server.application("app").await;
    let end = server.now() + Duration::from_secs(3600);
    let account = json!({
        "name": "a", "role": "application", "applicationId": "app", "expiresAt": end.to_string(),
    });
    let new = json!({ "name": "n", "role": "webhook_admin", "expiresAt": end.to_string() });
    let token = async |body: Value| {
        let made = server.post("/api/v1/token", body).await.expect(201);
        made["token"].as_str().expect("shown once").to_owned()
    };
    let (account, admin) = (token(account).await, token(new).await);
    let update = "/v1/account/settings/update/webhook_endpoint";
    let body = json!({ "webhook_endpoint": "https://a.test/in" });
    as_token(&server, &account, Method::POST, update, body.clone())
        .await
        .expect(200);
    let endpoints = "/api/v1/app/app/endpoint";
    let before = server.get(endpoints).await.expect(200);
    let id = before["data"][0]["id"].as_str().expect("an id");
    let secret = format!("{endpoints}/{id}/secret");
    let secret_before = server.get(&secret).await.expect(200);

    let rotate = "/v1/account/settings/webhook/rotate-secret";
    let rotation = r#"{"secret_key":"0123456789abcdef"}"#;
    let rotation = begun(&server, &account, rotate, rotation);
    let update = begun(
        &server,
        &account,
        update,
        r#"{"webhook_endpoint":"https://b.test/"}"#,
    );
    let event_type = json!({ "name": "report_signed", "description": "" });
    server
        .post("/api/v1/event-type", event_type)
        .await
        .expect(201);
    let webhooks = "/api/v3/project_templates/app/webhook_endpoints";
    let made = r#"{"webhookEndpoint":{"target_url":"https://c.test/","event":"report_signed"}}"#;
    let made = begun(&server, &admin, webhooks, made);
    server.advance(Duration::from_secs(7200));
    let statuses = [rotation, update, made].map(ended);
    assert_eq!(statuses, ["401", "401", "401"]);
    assert_eq!(server.get(endpoints).await.expect(200), before);
    assert_eq!(server.get(&secret).await.expect(200), secret_before);
}

#[actix_web::test]
async fn a_signed_token_that_is_logged_out_while_a_body_arrives_changes_nothing() {
    let server = jwt::start().await;
    server.application("app").await;
    let application = server.get("/api/v1/app/app").await.expect(200);
    let application = application["id"].as_str().expect("an id");
    let application = application.parse().expect("of an application");
    let organisation = jwt::own_organisation(&server);
    let end = Some(server.now() + Duration::from_secs(3600));
    let signed = jwt::signed(&server, organisation, Some(application), end);
    let endpoints = "/api/v1/app/app/endpoint";
    let late = begun(&server, &signed, endpoints, r#"{"url":"https://a.test/"}"#);
    let logout = "/api/v1/auth/logout";
    as_token(&server, &signed, Method::POST, logout, Value::Null)
        .await
        .expect(204);
    assert_eq!(ended(late), "401");
    let listed = server.get(endpoints).await.expect(200);
    assert_eq!(listed["data"], json!([]));
}

#[actix_web::test]
async fn a_key_shows_the_endpoint_that_it_configured() {
    let server = Server::start().await;
    server.application("app").await;
    let made = server.post(KEYS, json!({ "name": "k" })).await.expect(201);
    assert_eq!(made["accountEndpoint"], Value::Null);
    let key = made["token"].as_str().expect("shown once");
    let body = json!({ "webhook_endpoint": "https://a.test/in" });
    let update = "/v1/account/settings/update/webhook_endpoint";
    as_token(&server, key, Method::POST, update, body)
        .await
        .expect(200);
    let listed = server.get(KEYS).await.expect(200);
    let shown = &listed["data"][0]["accountEndpoint"];
    assert_eq!(shown["url"], "https://a.test/in");
    let endpoint = format!(
        "/api/v1/app/app/endpoint/{}",
        shown["id"].as_str().expect("an id")
    );
    server.get(&endpoint).await.expect(200);
    let id = made["id"].as_str().expect("an id");
    let token = server.get(&format!("/api/v1/token/{id}")).await.expect(200);
    assert_eq!(&token["accountEndpoint"], shown);
    server.delete(&endpoint).await.expect(204);
    let listed = server.get(KEYS).await.expect(200);
    assert_eq!(listed["data"][0]["accountEndpoint"], Value::Null);
}

#[actix_web::test]
async fn answers_of_the_api_are_kept_by_nobody() {
    let server = Server::start().await;
    server.application("app").await;
    let made = server.post(KEYS, json!({ "name": "k" })).await;
    assert_eq!(made.header("cache-control"), Some("no-store"));
    for path in [
        "/api/v1/app",
        "/api/v1/nothing",
        "/api/v1/app/none",
        "/v1/account/settings/x",
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
    }
    let page = server.get("/console").await;
    assert_eq!(
        page.header("cache-control"),
        Some("no-cache"),
        "files say it themselves"
    );
}
