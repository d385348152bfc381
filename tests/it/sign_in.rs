//! Signing in to the console and the portal: what the cookie is worth, to whom, and for how long.

use std::time::Duration;

use awc::http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Server, assert_error, assert_invalid};

const SESSION: &str = "/api/v1/session";
const SURFACE: &str = "x-postrider-surface";
const HOUR: Duration = Duration::from_secs(3600);

/// A browser: its cookie, as a header.
struct Browser<'a> {
    server: &'a Server,
    surface: &'static str,
    cookie: String,
}

impl Browser<'_> {
    async fn call(&self, method: Method, path: &str, body: Value) -> Answer {
        let headers = [(SURFACE, self.surface), ("cookie", self.cookie.as_str())];
        let body = (!body.is_null()).then(|| body.to_string());
        self.server.call(method, path, &headers, body).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, Value::Null).await
    }

    async fn session(&self) -> Value {
        self.get(SESSION).await.expect(200)
    }
}

async fn answer_to(server: &Server, surface: &str, token: &str) -> Answer {
    let body = json!({ "token": token }).to_string();
    server
        .call(Method::POST, SESSION, &[(SURFACE, surface)], Some(body))
        .await
}

async fn sign_in<'a>(server: &'a Server, surface: &'static str, token: &str) -> Browser<'a> {
    let answer = answer_to(server, surface, token).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let cookie = answer.header("set-cookie").expect("a cookie").to_owned();
    let cookie = cookie.split(';').next().expect("its value").to_owned();
    Browser {
        server,
        surface,
        cookie,
    }
}

async fn link(server: &Server, body: Value) -> String {
    let path = "/api/v1/auth/app-portal-access/app";
    let made = server.post(path, body).await.expect(200);
    made["token"].as_str().expect("a text").to_owned()
}

async fn token(server: &Server, body: Value) -> Value {
    server.post("/api/v1/token", body).await.expect(201)
}

fn may(session: &Value, what: &str) -> bool {
    let names = session["may"].as_array().expect("a list");
    names.iter().any(|name| name == what)
}

#[actix_web::test]
async fn the_owner_signs_in_and_out_again() {
    let server = Server::start().await;
    server.application("app").await;
    let nobody = server
        .call(Method::GET, SESSION, &[(SURFACE, "console")], None)
        .await;
    assert_eq!(nobody.expect(200), json!({ "signedIn": false }));

    let browser = sign_in(&server, "console", &server.token).await;
    let session = browser.session().await;
    assert_eq!(session["signedIn"], true);
    assert_eq!(
        (&session["role"], &session["name"]),
        (&json!("owner"), &json!("owner"))
    );
    assert!(may(&session, "changeTokens") && may(&session, "ownKeys"));
    assert_eq!(session["isPortalLink"], false);
    browser.get("/api/v1/app/app").await.expect(200);
    let made = browser.call(Method::POST, "/api/v1/app", json!({ "name": "b" }));
    made.await.expect(201);

    let out = browser.call(Method::DELETE, SESSION, Value::Null).await;
    assert_eq!(out.status, 204);
    let gone = out.header("set-cookie").expect("the cookie is taken away");
    assert!(gone.starts_with("postrider_console=;") && gone.contains("Max-Age=0"));
    // The old cookie is worth nothing, the token as much as before.
    assert_eq!(browser.session().await, json!({ "signedIn": false }));
    assert_error(
        &browser.get("/api/v1/app").await,
        401,
        "authentication_failed",
    );
    server.get("/api/v1/app").await.expect(200);
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn a_cookie_counts_only_for_pages_of_the_server_itself() {
    let server = Server::start().await;
    let browser = sign_in(&server, "console", &server.token).await;
    let cookie = ("cookie", browser.cookie.as_str());
    let none = ("x-postrider-surface", "none");
    for (headers, status) in [
        (vec![cookie, (SURFACE, "console")], 200),
        (
            vec![
                cookie,
                (SURFACE, "console"),
                ("sec-fetch-site", "same-origin"),
            ],
            200,
        ),
        (vec![cookie, none], 401),
        (vec![cookie, (SURFACE, "portal")], 401),
        (
            vec![
                cookie,
                (SURFACE, "console"),
                ("sec-fetch-site", "cross-site"),
            ],
            401,
        ),
        (
            vec![
                cookie,
                (SURFACE, "console"),
                ("sec-fetch-site", "same-site"),
            ],
            401,
        ),
        // A credential in a header counts, right or wrong.
        (
            vec![cookie, (SURFACE, "console"), ("api-key", "wrong")],
            401,
        ),
    ] {
        let answer = server
            .call(Method::GET, "/api/v1/app", &headers, None)
            .await;
        assert_eq!(answer.status, status, "{headers:?}");
    }
    let unknown = [cookie, none];
    let answer = server.call(Method::GET, SESSION, &unknown, None).await;
    assert_invalid(&answer, &["header.x-postrider-surface"]);
    // Nor can another page sign anybody in or out.
    let body = || Some(json!({ "token": server.token }).to_string());
    let foreign = [(SURFACE, "console"), ("sec-fetch-site", "cross-site")];
    let answer = server.call(Method::POST, SESSION, &foreign, body()).await;
    assert_error(&answer, 403, "forbidden");
    let unnamed = [("api-key", "none"), ("content-type", "text/plain")];
    let answer = server.call(Method::POST, SESSION, &unnamed, body()).await;
    assert_invalid(&answer, &["header.x-postrider-surface"]);
    let foreign = [
        cookie,
        (SURFACE, "console"),
        ("sec-fetch-site", "cross-site"),
    ];
    let answer = server.call(Method::DELETE, SESSION, &foreign, None).await;
    assert_error(&answer, 403, "forbidden");
    assert_eq!(browser.session().await["signedIn"], true);
    // The question that browsers ask first names no header of ours as allowed.
    let asking = [
        ("origin", "https://other.example"),
        ("access-control-request-method", "GET"),
        ("access-control-request-headers", SURFACE),
    ];
    let answer = server
        .call(Method::OPTIONS, "/api/v1/app", &asking, None)
        .await;
    let allowed = answer
        .header("access-control-allow-headers")
        .expect("a list");
    assert!(!allowed.contains(SURFACE), "{allowed}");
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn what_is_no_credential_or_not_one_for_the_portal_is_refused() {
    let server = Server::start().await;
    server.application("app").await;
    for token in ["", "wrong", &"x".repeat(5000)] {
        let answer = answer_to(&server, "console", token).await;
        assert_error(&answer, 401, "authentication_failed");
        assert_eq!(answer.header("set-cookie"), None);
    }
    let answer = server
        .call(
            Method::POST,
            SESSION,
            &[(SURFACE, "console")],
            Some("{}".to_owned()),
        )
        .await;
    assert_invalid(&answer, &["body.token"]);
    let answer = answer_to(&server, "portal", &server.token).await;
    assert_error(&answer, 403, "forbidden");
    let key = json!({ "name": "k", "role": "application", "applicationId": "app" });
    let key = token(&server, key).await;
    let key = key["token"].as_str().expect("a text");
    let session = sign_in(&server, "portal", key).await.session().await;
    assert!(!may(&session, "ownKeys"), "a key makes no keys");
    assert_eq!(session["applications"][0]["uid"], "app");
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn a_visit_ends_with_its_token_and_with_idleness() {
    let server = Server::start().await;
    let made = token(&server, json!({ "name": "t", "role": "webhook_admin" })).await;
    let text = made["token"].as_str().expect("a text");
    let browser = sign_in(&server, "console", text).await;
    assert_eq!(browser.session().await["role"], "webhook_admin");
    let path = format!("/api/v1/token/{}", made["id"].as_str().expect("an id"));
    assert_eq!(server.delete(&path).await.status, 204);
    assert_eq!(browser.session().await["signedIn"], false);

    let ends =
        json!({ "name": "t", "role": "owner", "expiresAt": (server.now() + HOUR).to_string() });
    let made = token(&server, ends).await;
    let browser = sign_in(&server, "console", made["token"].as_str().expect("a text")).await;
    assert_eq!(browser.session().await["expiresAt"], made["expiresAt"]);
    server.advance(HOUR);
    assert_eq!(browser.session().await["signedIn"], false);

    let browser = sign_in(&server, "console", &server.token).await;
    server.advance(HOUR * 12 - Duration::from_secs(1));
    assert_eq!(browser.session().await["signedIn"], true);
    server.advance(HOUR * 12);
    assert_eq!(browser.session().await["signedIn"], false);

    server.stop_and_verify().await;
}

#[actix_web::test]
async fn signing_out_of_the_portal_ends_its_link() {
    let server = Server::start().await;
    server.application("app").await;
    let token = link(
        &server,
        json!({ "capabilities": ["ManageEndpoint", "CreateAttempts"] }),
    )
    .await;
    let browser = sign_in(&server, "portal", &token).await;
    let session = browser.session().await;
    assert_eq!(session["isPortalLink"], true);
    assert_eq!(
        session["capabilities"],
        json!(["ViewBase", "CreateAttempts", "ManageEndpoint"])
    );
    assert!(may(&session, "changeEndpoints") && may(&session, "ownKeys"));
    assert!(!may(&session, "publish"));
    assert_eq!(session["profiles"], json!(["standard"]));
    assert_eq!(session["apiKeyDaysMax"], 365);
    assert_eq!(
        browser
            .call(Method::DELETE, SESSION, Value::Null)
            .await
            .status,
        204
    );
    let again = answer_to(&server, "portal", &token).await;
    assert_error(&again, 401, "authentication_failed");

    let token = link(&server, json!({ "readOnly": true })).await;
    let session = sign_in(&server, "portal", &token).await.session().await;
    assert!(!may(&session, "changeEndpoints") && !may(&session, "readSecrets"));
    assert!(!may(&session, "ownKeys"));
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn a_webhook_user_is_told_the_applications_of_its_endpoints() {
    let server = Server::start().await;
    server.application("app").await;
    server.application("other").await;
    let endpoint = server
        .endpoint_of("app", json!({ "url": "http://127.0.0.1:9/" }))
        .await;
    let made = json!({ "name": "u", "role": "webhook_user", "endpointIds": [endpoint] });
    let made = token(&server, made).await;
    let id = made["id"].as_str().expect("an id");
    let grant = format!("/api/v1/token/{id}/application/other");
    server
        .call(Method::PUT, &grant, &[], None)
        .await
        .expect(204);
    let browser = sign_in(&server, "console", made["token"].as_str().expect("a text")).await;
    let session = browser.session().await;
    let applications = session["applications"].as_array().expect("a list");
    let told: Vec<_> = applications
        .iter()
        .map(|one| (one["uid"].as_str(), one["mayCreateEndpoints"].as_bool()))
        .collect();
    let expected = [(Some("app"), Some(false)), (Some("other"), Some(true))];
    assert!(expected.iter().all(|one| told.contains(one)), "{told:?}");
    assert_eq!(told.len(), 2);
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn the_cookie_is_for_the_api_alone_and_as_strict_as_it_can_be() {
    for (public_url, frames, expected) in [
        (None, &[][..], ["SameSite=Strict", "SameSite=Strict"]),
        (
            Some("https://hooks.example"),
            &[][..],
            ["SameSite=Strict; Secure", "SameSite=Strict; Secure"],
        ),
        (
            None,
            &["https://app.example"][..],
            ["SameSite=Strict", "SameSite=None; Secure; Partitioned"],
        ),
    ] {
        let server = Server::start_with(|config| {
            config.server.public_url = public_url.map(str::to_owned);
            config.portal.frame_origins = frames.iter().map(|one| (*one).to_owned()).collect();
        })
        .await;
        server.application("app").await;
        let token = link(&server, json!({})).await;
        for (surface, expected) in ["console", "portal"].into_iter().zip(expected) {
            let answer = answer_to(&server, surface, &token).await;
            let cookie = answer.header("set-cookie").expect("a cookie");
            let (_, attributes) = cookie.split_once("; ").expect("attributes");
            assert_eq!(attributes, format!("Path=/api; HttpOnly; {expected}"));
            let name = cookie.split('=').next().expect("a name");
            match surface {
                "console" => assert_eq!(name, "postrider_console"),
                _ => assert!(name.starts_with("postrider_portal_app_"), "{name}"),
            }
        }
        server.stop_and_verify().await;
    }
}

#[actix_web::test]
async fn the_portal_chooses_among_the_profiles_that_are_offered() {
    let server = Server::start_with(|config| {
        config.portal.profiles = vec!["github".into(), "ioffice".into()];
    })
    .await;
    server.application("app").await;
    let token = link(&server, json!({})).await;
    let browser = sign_in(&server, "portal", &token).await;
    assert_eq!(
        browser.session().await["profiles"],
        json!(["github", "ioffice"])
    );
    let path = "/api/v1/app/app/endpoint";
    let endpoint = |profile: Value| json!({ "url": "http://127.0.0.1:9/", "profile": profile });
    let made = browser
        .call(Method::POST, path, endpoint(json!("github")))
        .await;
    made.expect(201);
    let made = browser
        .call(Method::POST, path, endpoint(Value::Null))
        .await;
    made.expect(201);
    let refused = browser
        .call(Method::POST, path, endpoint(json!("stripe")))
        .await;
    assert_invalid(&refused, &["body.profile"]);
    // The operator may, and what is there may stay.
    let body = json!({ "url": "http://127.0.0.1:9/", "profile": "stripe", "uid": "s" });
    server.post(path, body).await.expect(201);
    let change = json!({ "profile": "stripe", "description": "d" });
    let changed = browser
        .call(Method::PATCH, "/api/v1/app/app/endpoint/s", change)
        .await;
    assert_eq!(changed.expect(200)["description"], "d");
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn sign_ins_with_one_link_end_nobody_elses_visit() {
    let server = Server::start().await;
    server.application("app").await;
    let owner = sign_in(&server, "console", &server.token).await;
    let colleague = sign_in(&server, "portal", &link(&server, json!({})).await).await;
    let token = link(&server, json!({})).await;
    let first = sign_in(&server, "portal", &token).await;
    // What one credential may have, and more.
    for _ in 0..60 {
        server.advance(Duration::from_secs(3));
        sign_in(&server, "portal", &token).await;
    }
    assert_eq!(first.session().await["signedIn"], false);
    assert_eq!(colleague.session().await["signedIn"], true);
    assert_eq!(owner.session().await["signedIn"], true);
}
