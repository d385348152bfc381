//! Signed tokens: whose they are, when they hold, and what they may do.

use std::time::Duration;

use awc::http::Method;
use postrider::clock::Timestamp;
use postrider::config::Config;
use postrider::domain::id::{ApplicationId, OrganisationId};
use postrider::domain::jwt::{JwtSecret, Subject};
use serde_json::{Value, json};

use crate::support::{Answer, Receiver, Server, assert_error};

const SECRET: &str = "8KjzRXrKkd9YFcNyqLSIY8JwiaCeRc6W";
pub const OTHER: &str = "org_23rb8YdGqMT0qIzpgGwdXfHirMu";
const HOUR: Duration = Duration::from_secs(3600);

pub async fn start() -> Server {
    start_with(|_| ()).await
}

/// The same with other settings, too.
pub async fn start_with(change: impl FnOnce(&mut Config)) -> Server {
    Server::start_with(|config| {
        config.auth.jwt_secret = Some(SECRET.to_owned().into());
        change(config);
    })
    .await
}

pub fn signed(
    server: &Server,
    organisation: OrganisationId,
    application: Option<ApplicationId>,
    end: Option<Timestamp>,
) -> String {
    let subject = Subject {
        organisation,
        application,
    };
    JwtSecret::from(SECRET.to_owned()).sign(subject, server.now(), end)
}

pub fn owner_of(server: &Server, organisation: &str) -> String {
    signed(server, organisation.parse().unwrap(), None, None)
}

pub async fn by(server: &Server, token: &str, method: Method, path: &str, body: Value) -> Answer {
    let bearer = format!("Bearer {token}");
    let body = (!body.is_null()).then(|| body.to_string());
    server
        .call(method, path, &[("authorization", &bearer)], body)
        .await
}

/// The organisation of the tokens that the API made.
pub fn own_organisation(server: &Server) -> OrganisationId {
    let catalog = server.store().catalog();
    catalog.organisations().next().expect("there is one").id
}

async fn application_token(server: &Server, uid: &str, end: Option<Timestamp>) -> String {
    server.application(uid).await;
    let id = server.get(&format!("/api/v1/app/{uid}")).await.expect(200)["id"].clone();
    let id = id.as_str().unwrap().parse().unwrap();
    signed(server, own_organisation(server), Some(id), end)
}

#[actix_web::test]
async fn an_unknown_organisation_is_a_world_of_its_own_that_comes_to_be_with_its_first_registration()
 {
    let server = start().await;
    server.application("app").await;
    let owner = owner_of(&server, OTHER);
    let count = |server: &Server| server.store().catalog().organisations().count();
    let listed = by(&server, &owner, Method::GET, "/api/v1/app", Value::Null).await;
    assert_eq!(
        listed.expect(200)["data"],
        json!([]),
        "others' are not seen"
    );
    by(&server, &owner, Method::GET, "/api/v1/app/app", Value::Null)
        .await
        .expect(404);
    assert_eq!(count(&server), 1, "reading makes nothing");

    let body = json!({"name": "n", "uid": "app"});
    let made = by(&server, &owner, Method::POST, "/api/v1/app", body).await;
    let made = made.expect(201)["id"].clone();
    assert_eq!(count(&server), 2);

    let server = server.restart().await;
    assert_eq!(count(&server), 2);
    let shown = by(&server, &owner, Method::GET, "/api/v1/app/app", Value::Null).await;
    assert_eq!(shown.expect(200)["id"], made);
    let own = server.get("/api/v1/app/app").await.expect(200);
    assert_ne!(own["id"], made);
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn every_kind_of_first_registration_brings_its_organisation() {
    let server = start().await;
    let made = |number: u8| OrganisationId([number; 20]).to_string();
    let message = json!({
        "eventType": "a", "payload": {}, "application": {"name": "n", "uid": "app"},
    });
    for (number, path, body, status) in [
        (
            1,
            "/api/v1/event-type",
            json!({"name": "a", "description": ""}),
            201,
        ),
        (
            2,
            "/api/v1/token",
            json!({"name": "t", "role": "owner"}),
            201,
        ),
        (3, "/api/v1/app/app/msg", message, 202),
    ] {
        let organisation = made(number);
        let owner = owner_of(&server, &organisation);
        by(&server, &owner, Method::POST, path, body)
            .await
            .expect(status);
        let catalog = server.store().catalog();
        assert!(
            catalog
                .organisation(organisation.parse().unwrap())
                .is_some()
        );
    }
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn an_applications_token_sees_its_own_application_alone() {
    let receiver = Receiver::ok().await;
    let server = start().await;
    let token = application_token(&server, "app", None).await;
    server.application("other").await;
    let endpoint = json!({"url": receiver.url()});
    let path = "/api/v1/app/app/endpoint";
    by(&server, &token, Method::POST, path, endpoint)
        .await
        .expect(201);
    for (method, path, status) in [
        (Method::GET, "/api/v1/app/app", 200),
        (Method::GET, "/api/v1/app/other", 404),
        (Method::GET, "/api/v1/app/other/endpoint", 404),
        (Method::GET, "/api/v1/app", 403),
        (Method::POST, "/api/v1/app/app/msg", 403),
        (Method::GET, "/v1/account/settings/webhook_details", 403),
    ] {
        let answer = by(&server, &token, method, path, Value::Null).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text);
    }
    // One that does not exist (any more), and one that is another organisation's.
    let nobody = ApplicationId([9; 20]);
    let stranger = signed(&server, own_organisation(&server), Some(nobody), None);
    let answer = by(
        &server,
        &stranger,
        Method::GET,
        "/api/v1/app/app",
        Value::Null,
    )
    .await;
    assert_error(&answer, 404, "not_found");
    let app = server.get("/api/v1/app/app").await.expect(200)["id"].clone();
    let app: ApplicationId = app.as_str().unwrap().parse().unwrap();
    let foreign = signed(&server, OTHER.parse().unwrap(), Some(app), None);
    let path = format!("/api/v1/app/{app}");
    let answer = by(&server, &foreign, Method::GET, &path, Value::Null).await;
    assert_error(&answer, 401, "authentication_failed");
    let session = by(
        &server,
        &foreign,
        Method::GET,
        "/api/v1/session",
        Value::Null,
    )
    .await;
    assert_eq!(
        session.expect(200),
        json!({ "signedIn": false }),
        "no name of it is told"
    );
}

#[actix_web::test]
async fn a_token_ends_by_the_servers_clock_and_is_none_without_the_secret() {
    let server = start().await;
    let own = own_organisation(&server);
    let token = signed(&server, own, None, Some(server.now() + HOUR));
    let forged = format!("{}A", &token[..token.len() - 1]);
    let forged = if forged == token {
        format!("{}B", &token[..token.len() - 1])
    } else {
        forged
    };
    let long = format!("{token}{}", "x".repeat(5000));
    let app = async |server: &Server, token: &str| {
        let answer = by(server, token, Method::GET, "/api/v1/app", Value::Null).await;
        answer.status
    };
    assert_eq!(app(&server, &token).await, 200);
    // The last character of a signature holds two bits that say nothing; they must be zero.
    assert_eq!(app(&server, &forged).await, 401);
    assert_eq!(app(&server, &long).await, 401);
    assert_eq!(
        server
            .call_as(&token, Method::GET, "/api/v1/app", None)
            .await
            .status,
        200,
        "in the other header, too"
    );
    server.advance(HOUR + Duration::from_secs(59));
    assert_eq!(app(&server, &token).await, 200, "clocks may differ");
    server.advance(Duration::from_secs(1));
    assert_eq!(app(&server, &token).await, 401);

    let lasting = signed(&server, own, None, None);
    assert_eq!(app(&server, &lasting).await, 200);
    let server = server
        .restart_with(|config| config.auth.jwt_secret = None)
        .await;
    assert_eq!(app(&server, &lasting).await, 401);
    server.get("/api/v1/app").await.expect(200);
}

#[actix_web::test]
async fn an_applications_token_is_logged_out_for_good_and_forgotten_when_it_would_have_ended() {
    let server = start().await;
    let token = application_token(&server, "app", Some(server.now() + HOUR)).await;
    let logout = "/api/v1/auth/logout";
    by(&server, &token, Method::POST, logout, Value::Null)
        .await
        .expect(204);
    let server = server.restart().await;
    let answer = by(&server, &token, Method::POST, logout, Value::Null).await;
    assert_error(&answer, 401, "authentication_failed");
    let forget = async |server: &Server| {
        server.forget_ended().await;
        server.store().catalog().revocations().count()
    };
    server.advance(HOUR + Duration::from_secs(59));
    assert_eq!(forget(&server).await, 1, "the leeway is not over");
    server.advance(Duration::from_secs(1));
    assert_eq!(forget(&server).await, 0);
    let answer = by(&server, &token, Method::GET, "/api/v1/app/app", Value::Null).await;
    assert_eq!(answer.status, 401);

    let owner = signed(&server, own_organisation(&server), None, None);
    let answer = by(&server, &owner, Method::POST, logout, Value::Null).await;
    assert_error(&answer, 403, "forbidden");
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn expire_all_ends_the_applications_tokens_that_were_issued_before() {
    let server = start().await;
    let old = application_token(&server, "app", None).await;
    let other = application_token(&server, "other", None).await;
    server.advance(Duration::from_secs(1));
    let path = "/api/v1/auth/app/app/expire-all";
    server.post(path, json!({"expiry": 60})).await.expect(204);
    let new = application_token(&server, "app", None).await;
    let sees = async |server: &Server, token: &str, app: &str| {
        let path = format!("/api/v1/app/{app}");
        by(server, token, Method::GET, &path, Value::Null)
            .await
            .status
    };
    assert_eq!(sees(&server, &old, "app").await, 200, "not yet");
    server.advance(Duration::from_secs(60));
    let server = server.restart().await;
    assert_eq!(sees(&server, &old, "app").await, 401);
    assert_eq!(sees(&server, &new, "app").await, 200);
    assert_eq!(sees(&server, &other, "other").await, 200);
    server.post(path, json!({})).await.expect(204);
    assert_eq!(sees(&server, &new, "app").await, 401, "at once");
    server
        .patch("/api/v1/app/app", json!({"name": "n"}))
        .await
        .expect(200);
    assert_eq!(
        sees(&server, &new, "app").await,
        401,
        "whatever else changes"
    );
    let body = json!({"name": "n", "uid": "app"});
    server.put("/api/v1/app/app", body).await.expect(200);
    assert_eq!(sees(&server, &new, "app").await, 401, "or is replaced");
    server.stop_and_verify().await;
}
