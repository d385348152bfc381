//! Who is signed in: sessions survive a restart, are listed and ended, have limits, and those of
//! several portals are in one browser.

use std::time::Duration;

use awc::http::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::{Answer, Server, assert_error, assert_invalid, wait_until};

const SESSION: &str = "/api/v1/session";
const SESSIONS: &str = "/api/v1/sessions";
const SURFACE: &str = "x-postrider-surface";
const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

/// A browser: its cookies, and what else it sends.
#[derive(Clone, Default)]
struct Browser {
    cookies: Vec<(String, String)>,
    headers: Vec<(&'static str, &'static str)>,
}

impl Browser {
    async fn call(
        &self,
        server: &Server,
        method: Method,
        path: &str,
        surface: &str,
        body: Value,
    ) -> Answer {
        let cookies = self.cookies.iter();
        let cookies: Vec<String> = cookies.map(|(name, one)| format!("{name}={one}")).collect();
        let cookies = cookies.join("; ");
        let mut headers = vec![(SURFACE, surface), ("cookie", cookies.as_str())];
        headers.extend(&self.headers);
        let body = (!body.is_null()).then(|| body.to_string());
        server.call(method, path, &headers, body).await
    }

    async fn get(&self, server: &Server, path: &str, surface: &str) -> Answer {
        self.call(server, Method::GET, path, surface, Value::Null)
            .await
    }

    /// Does what the cookies of an answer say.
    fn takes(&mut self, answer: &Answer) {
        let set = answer.headers.iter();
        for (_, line) in set.filter(|(name, _)| name == "set-cookie") {
            let (pair, attributes) = line.split_once("; ").expect("attributes");
            let (name, value) = pair.split_once('=').expect("a name");
            self.cookies.retain(|(own, _)| own != name);
            if !attributes.contains("Max-Age=0") {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
    }

    async fn sign_in(&mut self, server: &Server, surface: &str, token: &str) -> Answer {
        let body = json!({ "token": token });
        let answer = self
            .call(server, Method::POST, SESSION, surface, body)
            .await;
        self.takes(&answer);
        answer
    }

    async fn is_signed_in(&self, server: &Server, surface: &str) -> bool {
        let session = self.get(server, SESSION, surface).await.expect(200);
        session["signedIn"] == true
    }

    async fn sessions(&self, server: &Server, surface: &str) -> Vec<Value> {
        listed(self.get(server, SESSIONS, surface).await)
    }
}

fn listed(answer: Answer) -> Vec<Value> {
    let page = answer.expect(200);
    page["data"].as_array().expect("a list").clone()
}

async fn console(server: &Server, token: &str) -> Browser {
    let mut browser = Browser::default();
    browser.sign_in(server, "console", token).await.expect(200);
    browser
}

async fn link_of(server: &Server, application: &str, body: Value) -> String {
    let path = format!("/api/v1/auth/app-portal-access/{application}");
    let made = server.post(&path, body).await.expect(200);
    text(&made, "token")
}

fn text(of: &Value, name: &str) -> String {
    of[name].as_str().expect("a text").to_owned()
}

async fn token(server: &Server, body: Value) -> Value {
    server.post("/api/v1/token", body).await.expect(201)
}

/// The surface of an application's portal.
async fn portal_of(server: &Server, application: &str) -> String {
    let path = format!("/api/v1/app/{application}");
    let shown = server.get(&path).await.expect(200);
    format!("portal:{}", text(&shown, "id"))
}

#[actix_web::test]
async fn a_session_survives_a_restart_and_nothing_on_disk_opens_it() {
    let server = Server::start().await;
    server.application("app").await;
    let link = link_of(&server, "app", json!({})).await;
    let portal = portal_of(&server, "app").await;
    let mut browser = console(&server, &server.token).await;
    browser.sign_in(&server, "portal", &link).await.expect(200);
    let server = server.restart().await;
    assert!(browser.is_signed_in(&server, "console").await);
    assert!(browser.is_signed_in(&server, &portal).await);
    let shown = browser.get(&server, "/api/v1/app", "console").await;
    shown.expect(200);
    let answer = browser.get(&server, "/api/v1/app/app", &portal).await;
    answer.expect(200);

    // Neither the cookies nor the link are in any file; what stands for them is.
    let cookie = browser.cookies[0].1.as_str();
    let key: [u8; 32] = Sha256::digest(cookie).into();
    let mut is_key_found = false;
    let path = server.config().store.path.clone();
    let mut secrets: Vec<&str> = browser.cookies.iter().map(|(_, one)| &**one).collect();
    secrets.push(&link);
    let mut directories = vec![path];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).expect("a file");
            let holds = |part: &[u8]| bytes.windows(part.len()).any(|found| found == part);
            is_key_found |= holds(&key);
            for secret in &secrets {
                let found = holds(secret.as_bytes());
                assert!(!found, "{} holds a secret", path.display());
            }
        }
    }
    assert!(is_key_found);
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn idleness_counts_over_a_restart_and_what_is_over_is_removed() {
    let server = Server::start().await;
    let browser = console(&server, &server.token).await;
    server.advance(HOUR * 6);
    assert!(browser.is_signed_in(&server, "console").await);
    let server = server.restart().await;
    // The last request was not written down: the sign-in counts from what was.
    server.advance(HOUR * 6 - MINUTE);
    assert!(browser.is_signed_in(&server, "console").await);
    server.keep_visits().await;
    let server = server.restart().await;
    server.advance(HOUR * 12 - MINUTE);
    assert!(browser.is_signed_in(&server, "console").await);
    server.advance(HOUR * 12);
    assert!(!browser.is_signed_in(&server, "console").await);
    let kept = |server: &Server| server.store().catalog().visits().count();
    assert_eq!(kept(&server), 1);
    server.forget_ended().await;
    assert_eq!(kept(&server), 0);
    let server = server.restart().await;
    assert_eq!(kept(&server), 0);
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn a_session_ends_with_its_credential_over_a_restart_too() {
    let server = Server::start().await;
    server.application("app").await;
    let portal = portal_of(&server, "app").await;
    let made = token(&server, json!({ "name": "t", "role": "webhook_admin" })).await;
    let admin = console(&server, &text(&made, "token")).await;
    let link = link_of(&server, "app", json!({ "sessionId": "one" })).await;
    let mut customer = Browser::default();
    customer.sign_in(&server, "portal", &link).await.expect(200);
    let path = format!("/api/v1/token/{}", text(&made, "id"));
    server.delete(&path).await.expect(204);
    let body = json!({ "sessionIds": ["one"] });
    let path = "/api/v1/auth/app/app/expire-all";
    server.post(path, body).await.expect(204);
    let server = server.restart().await;
    assert!(!admin.is_signed_in(&server, "console").await);
    assert!(!customer.is_signed_in(&server, &portal).await);
    assert!(listed(server.get(SESSIONS).await).is_empty());
    server.forget_ended().await;
    assert_eq!(server.store().catalog().visits().count(), 0);
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn a_signed_token_s_session_ends_with_its_secret_its_end_and_by_logout() {
    use postrider::domain::jwt::{JwtSecret, Subject};
    let secret = |text: &str| JwtSecret::from(text.to_owned());
    const FIRST: &str = "8KjzRXrKkd9YFcNyqLSIY8JwiaCeRc6W";
    const SECOND: &str = "9KjzRXrKkd9YFcNyqLSIY8JwiaCeRc6W";
    let server = Server::start_with(|config| config.auth.jwt_secret = Some(secret(FIRST))).await;
    server.application("app").await;
    let portal = portal_of(&server, "app").await;
    let organisation = server.store().first_organisation().expect("one");
    let subject = |application: Option<&str>| Subject {
        organisation,
        application: application.map(|id| id.parse().expect("an id")),
    };
    let now = server.now();
    let of_app = subject(portal.strip_prefix("portal:"));
    let owner = console(&server, &secret(FIRST).sign(subject(None), now, None)).await;
    let ends = secret(FIRST).sign(of_app, now, Some(now + HOUR));
    let mut ending = Browser::default();
    ending.sign_in(&server, "portal", &ends).await.expect(200);
    let stays = secret(FIRST).sign(of_app, now, None);
    let mut leaving = Browser::default();
    leaving.sign_in(&server, "portal", &stays).await.expect(200);
    let sessions = leaving.sessions(&server, &portal).await;
    assert_eq!((sessions.len(), &sessions[0]["name"]), (1, &Value::Null));

    let server = server.restart().await;
    assert!(owner.is_signed_in(&server, "console").await);
    assert!(leaving.is_signed_in(&server, &portal).await);
    let path = "/api/v1/auth/logout";
    let out = leaving.call(&server, Method::POST, path, &portal, Value::Null);
    out.await.expect(204);
    assert!(!leaving.is_signed_in(&server, &portal).await);
    assert!(ending.is_signed_in(&server, &portal).await);
    server.advance(HOUR + MINUTE);
    assert!(!ending.is_signed_in(&server, &portal).await);
    assert!(owner.is_signed_in(&server, "console").await);

    let server = server
        .restart_with(|config| config.auth.jwt_secret = Some(secret(SECOND)))
        .await;
    assert!(!owner.is_signed_in(&server, "console").await);
    // It is forgotten, too, and takes nobody's place.
    let is_forgotten = |server: &Server| server.store().catalog().visits().count() == 0;
    wait_until("the session to be forgotten", || is_forgotten(&server)).await;
    let stays = console(&server, &server.token).await;
    let signed = secret(SECOND).sign(subject(None), now, None);
    let ends = console(&server, &signed).await;
    let server = server
        .restart_with(|config| config.auth.jwt_secret = None)
        .await;
    assert!(!ends.is_signed_in(&server, "console").await);
    let count = |server: &Server| server.store().catalog().visits().count();
    wait_until("the session to be forgotten", || count(&server) == 1).await;
    assert!(stays.is_signed_in(&server, "console").await);
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn sessions_are_listed_to_whom_they_concern() {
    let server = Server::start_with(|config| {
        config.server.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    })
    .await;
    server.application("app").await;
    let portal = portal_of(&server, "app").await;
    let long = Box::leak("x".repeat(5000).into_boxed_str());
    let mut owner = Browser {
        headers: vec![
            ("x-forwarded-for", "198.51.100.7"),
            ("user-agent", "Mozilla/5.0 (X11; Linux x86_64)"),
        ],
        ..Browser::default()
    };
    let token_of_owner = server.token.clone();
    owner
        .sign_in(&server, "console", &token_of_owner)
        .await
        .expect(200);
    let link = link_of(&server, "app", json!({ "sessionId": "anna" })).await;
    let other = link_of(&server, "app", json!({})).await;
    let mut anna = Browser {
        headers: vec![("x-forwarded-for", "2001:db8::7"), ("user-agent", &*long)],
        ..Browser::default()
    };
    server.advance(MINUTE);
    anna.sign_in(&server, "portal", &link).await.expect(200);
    let mut second = Browser::default();
    server.advance(MINUTE);
    second.sign_in(&server, "portal", &link).await.expect(200);
    let mut other_s = Browser::default();
    other_s.sign_in(&server, "portal", &other).await.expect(200);

    let own = anna.sessions(&server, &portal).await;
    assert_eq!(own.len(), 2, "those of the same link");
    let current = own.iter().find(|one| one["current"] == true).expect("one");
    assert_eq!(current["address"], "2001:db8::7");
    assert_eq!(current["userAgent"].as_str().expect("a text").len(), 256);
    assert_eq!(
        (&current["surface"], &current["isPortalLink"]),
        (&json!("portal"), &json!(true))
    );
    assert_eq!(current["linkSessionId"], "anna");
    assert_eq!(
        current["begunAt"],
        (server.now().saturating_sub(MINUTE)).to_string()
    );
    assert_eq!(current["seenAt"], server.now().to_string());

    let all = owner.sessions(&server, "console").await;
    assert_eq!(all.len(), 4);
    let mine = owner
        .get(&server, "/api/v1/sessions?own=true", "console")
        .await;
    let mine = listed(mine);
    assert_eq!(mine.len(), 1);
    assert_eq!(
        (&mine[0]["address"], &mine[0]["userAgent"], &mine[0]["name"]),
        (
            &json!("198.51.100.7"),
            &json!("Mozilla/5.0 (X11; Linux x86_64)"),
            &json!("owner")
        )
    );
    assert_eq!(mine[0]["current"], true);
    // The token itself sees the same, and none of it is this request's.
    let by_token = listed(server.get(SESSIONS).await);
    assert_eq!(by_token.len(), 4);
    assert!(by_token.iter().all(|one| one["current"] == false));
    // No answer holds what would sign somebody in.
    let everything = json!(by_token).to_string();
    assert!(!everything.contains(&link) && !everything.contains(&anna.cookies[0].1));
    // Pages of the list.
    let first = server.get("/api/v1/sessions?limit=3").await.expect(200);
    assert_eq!(first["done"], false);
    let next = format!(
        "/api/v1/sessions?limit=3&iterator={}",
        text(&first, "iterator")
    );
    assert_eq!(listed(server.get(&next).await).len(), 1);
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn sessions_end_one_by_one_by_those_who_see_them() {
    let server = Server::start().await;
    server.application("app").await;
    let portal = portal_of(&server, "app").await;
    let link = link_of(&server, "app", json!({})).await;
    let owner = console(&server, &server.token).await;
    let made = token(&server, json!({ "name": "t", "role": "webhook_admin" })).await;
    let admin = console(&server, &text(&made, "token")).await;
    let (mut one, mut two) = (Browser::default(), Browser::default());
    one.sign_in(&server, "portal", &link).await.expect(200);
    two.sign_in(&server, "portal", &link).await.expect(200);
    let id = |sessions: &[Value]| {
        let current = sessions.iter().find(|session| session["current"] == true);
        format!("{SESSIONS}/{}", text(current.expect("one"), "id"))
    };
    let of_owner = id(&owner.sessions(&server, "console").await);
    let of_two = id(&two.sessions(&server, &portal).await);
    // What one does not see does not exist, as little as what does not.
    for path in [
        &of_owner,
        "/api/v1/sessions/sess_1srOrx2ZWZBpBUvZwXKQmoEYga2",
        "/api/v1/sessions/x",
    ] {
        let refused = one.call(&server, Method::DELETE, path, &portal, Value::Null);
        assert_error(&refused.await, 404, "not_found");
    }
    let refused = admin.call(&server, Method::DELETE, &of_two, "console", Value::Null);
    assert_error(&refused.await, 404, "not_found");
    let ended = one.call(&server, Method::DELETE, &of_two, &portal, Value::Null);
    ended.await.expect(204);
    assert!(!two.is_signed_in(&server, &portal).await);
    assert!(one.is_signed_in(&server, &portal).await);
    assert_error(&server.delete(&of_two).await, 404, "not_found");
    // The link is as good as before; the owner ends everybody's, its own included.
    two.sign_in(&server, "portal", &link).await.expect(200);
    let of_two = id(&two.sessions(&server, &portal).await);
    let ended = owner.call(&server, Method::DELETE, &of_two, "console", Value::Null);
    ended.await.expect(204);
    assert!(!two.is_signed_in(&server, &portal).await);
    let ended = owner.call(&server, Method::DELETE, &of_owner, "console", Value::Null);
    ended.await.expect(204);
    assert!(!owner.is_signed_in(&server, "console").await);
    let server = server.restart().await;
    assert!(!owner.is_signed_in(&server, "console").await);
    assert!(admin.is_signed_in(&server, "console").await);
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn everywhere_is_all_that_one_sees_but_here() {
    let server = Server::start().await;
    server.application("app").await;
    let portal = portal_of(&server, "app").await;
    let (link, other) = (
        link_of(&server, "app", json!({})).await,
        link_of(&server, "app", json!({})).await,
    );
    let made = token(&server, json!({ "name": "t", "role": "owner" })).await;
    let here = console(&server, &server.token).await;
    let there = console(&server, &server.token).await;
    let colleague = console(&server, &text(&made, "token")).await;
    let (mut one, mut two, mut three) =
        (Browser::default(), Browser::default(), Browser::default());
    one.sign_in(&server, "portal", &link).await.expect(200);
    two.sign_in(&server, "portal", &link).await.expect(200);
    three.sign_in(&server, "portal", &other).await.expect(200);
    let path = "/api/v1/sessions/expire-all";
    let ends = |browser: &Browser, surface: &str, body: Value| {
        let (browser, surface) = (browser.clone(), surface.to_owned());
        let server = &server;
        async move {
            let answer = browser.call(server, Method::POST, path, &surface, body);
            answer.await.expect(204);
        }
    };
    ends(&one, &portal, Value::Null).await;
    assert!(one.is_signed_in(&server, &portal).await);
    assert!(!two.is_signed_in(&server, &portal).await);
    assert!(three.is_signed_in(&server, &portal).await);
    ends(&here, "console", json!({ "own": true })).await;
    assert!(here.is_signed_in(&server, "console").await);
    assert!(!there.is_signed_in(&server, "console").await);
    assert!(colleague.is_signed_in(&server, "console").await);
    ends(&here, "console", json!({})).await;
    assert!(here.is_signed_in(&server, "console").await);
    assert!(!colleague.is_signed_in(&server, "console").await);
    assert!(!three.is_signed_in(&server, &portal).await);
    ends(&here, "console", json!({ "current": true })).await;
    assert!(!here.is_signed_in(&server, "console").await);
    assert_invalid(
        &server.post(path, json!({ "current": "yes" })).await,
        &["body.current"],
    );
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn portals_of_two_customers_are_open_beside_each_other() {
    let server = Server::start().await;
    server.application("acme").await;
    server.application("globex").await;
    let (acme, globex) = (
        portal_of(&server, "acme").await,
        portal_of(&server, "globex").await,
    );
    let mut browser = Browser::default();
    let token = link_of(&server, "acme", json!({})).await;
    browser.sign_in(&server, "portal", &token).await.expect(200);
    server.advance(MINUTE);
    let token = link_of(&server, "globex", json!({})).await;
    browser.sign_in(&server, "portal", &token).await.expect(200);
    assert_eq!(browser.cookies.len(), 2);
    for (portal, own, other) in [(&acme, "acme", "globex"), (&globex, "globex", "acme")] {
        let path = format!("/api/v1/app/{own}");
        browser.get(&server, &path, portal).await.expect(200);
        let path = format!("/api/v1/app/{other}");
        assert_error(&browser.get(&server, &path, portal).await, 404, "not_found");
    }
    // Who does not say which means the one that was signed in to last.
    let any = browser.get(&server, SESSION, "portal").await.expect(200);
    assert_eq!(format!("portal:{}", text(&any, "applicationId")), globex);
    // A cookie under the other's name is worth nothing.
    let mut moved = browser.clone();
    let values: Vec<String> = moved.cookies.iter().map(|(_, one)| one.clone()).collect();
    moved.cookies[0].1 = values[1].clone();
    moved.cookies[1].1 = values[0].clone();
    assert!(!moved.is_signed_in(&server, &acme).await);
    assert!(!moved.is_signed_in(&server, &globex).await);
    assert!(!moved.is_signed_in(&server, "portal").await);
    // Nor is it without the header, or from another origin.
    let mut foreign = browser.clone();
    foreign.headers = vec![("sec-fetch-site", "same-site")];
    let answer = foreign.get(&server, "/api/v1/app/acme", &acme).await;
    assert_eq!(answer.status, 401);

    let out = browser.call(&server, Method::DELETE, SESSION, &globex, Value::Null);
    let out = out.await;
    assert_eq!(out.status, 204);
    browser.takes(&out);
    assert_eq!(browser.cookies.len(), 1);
    assert!(browser.is_signed_in(&server, &acme).await);
    let any = browser.get(&server, SESSION, "portal").await.expect(200);
    assert_eq!(format!("portal:{}", text(&any, "applicationId")), acme);
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn one_browser_keeps_a_bounded_number_of_portals() {
    let server = Server::start().await;
    let mut browser = Browser::default();
    let mut portals = Vec::new();
    for number in 0..18 {
        let uid = format!("app-{number}");
        server.application(&uid).await;
        portals.push(portal_of(&server, &uid).await);
        let link = link_of(&server, &uid, json!({})).await;
        server.advance(Duration::from_secs(1));
        browser.sign_in(&server, "portal", &link).await.expect(200);
    }
    assert_eq!(browser.cookies.len(), 16);
    for (number, portal) in portals.iter().enumerate() {
        let expected = number >= 2;
        assert_eq!(browser.is_signed_in(&server, portal).await, expected);
    }
    let kept = server.store().catalog().visits().count();
    assert_eq!(kept, 16, "those of the cookies that went are over");
    // Signing in again to one of them takes nobody's place but its own.
    let link = link_of(&server, "app-17", json!({})).await;
    browser.sign_in(&server, "portal", &link).await.expect(200);
    assert_eq!(browser.cookies.len(), 16);
    assert_eq!(server.store().catalog().visits().count(), 16);
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn sign_ins_of_a_credential_and_of_a_customer_are_limited_by_the_minute() {
    let server = Server::start_with(|config| {
        config.limits.sign_ins_per_credential_minute_max = 2;
        config.limits.sign_ins_per_customer_minute_max = 3;
    })
    .await;
    server.application("app").await;
    server.application("other").await;
    let sign_in = async |surface: &str, token: &str| {
        let mut browser = Browser::default();
        browser.sign_in(&server, surface, token).await
    };
    let (one, two) = (
        link_of(&server, "app", json!({})).await,
        link_of(&server, "app", json!({})).await,
    );
    sign_in("portal", &one).await.expect(200);
    sign_in("portal", &one).await.expect(200);
    let refused = sign_in("portal", &one).await;
    assert_error(&refused, 429, "too_many");
    assert!(
        refused
            .text
            .contains("limits.sign_ins_per_credential_minute_max")
    );
    // A page that knows when to come again keeps the link till then.
    assert_eq!(refused.header("retry-after"), Some("60"));
    sign_in("portal", &two).await.expect(200);
    let refused = sign_in("portal", &two).await;
    assert_error(&refused, 429, "too_many");
    assert!(
        refused
            .text
            .contains("limits.sign_ins_per_customer_minute_max")
    );
    // Nobody else notices, nor does whoever is signed in.
    let other = link_of(&server, "other", json!({})).await;
    sign_in("portal", &other).await.expect(200);
    sign_in("console", &server.token).await.expect(200);
    let metrics = server.get("/metrics").await;
    for line in [
        "postrider_sign_ins_total{outcome=\"succeeded\"} 5",
        "postrider_sign_ins_total{outcome=\"limited\"} 2",
        "postrider_sessions{surface=\"portal\"} 4",
        "postrider_sessions{surface=\"console\"} 1",
    ] {
        assert!(metrics.text.contains(line), "{line}");
    }
    server.advance(MINUTE);
    sign_in("portal", &one).await.expect(200);
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn one_session_too_many_ends_the_idlest_of_the_same_customer() {
    let server = Server::start_with(|config| {
        config.limits.sessions_per_credential_max = 2;
        config.limits.sessions_per_customer_max = 3;
        config.limits.sessions_max = 5;
    })
    .await;
    server.application("app").await;
    server.application("other").await;
    let portal = portal_of(&server, "app").await;
    let sign_in = async |surface: &str, token: &str| {
        server.advance(Duration::from_secs(1));
        let mut browser = Browser::default();
        browser.sign_in(&server, surface, token).await.expect(200);
        browser
    };
    let ended = async || {
        let metrics = server.get("/metrics").await.text;
        let name = "postrider_sessions_crowded_out_total ";
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.expect("the counter").to_owned()
    };
    let owner = sign_in("console", &server.token).await;
    let one = link_of(&server, "app", json!({})).await;
    let two = link_of(&server, "app", json!({})).await;
    let first = sign_in("portal", &one).await;
    let second = sign_in("portal", &one).await;
    server.advance(Duration::from_secs(1));
    assert!(first.is_signed_in(&server, &portal).await, "it was seen");
    assert_eq!(ended().await, "0");
    let third = sign_in("portal", &one).await;
    assert_eq!(ended().await, "1");
    assert!(!second.is_signed_in(&server, &portal).await);
    let fourth = sign_in("portal", &two).await;
    for browser in [&first, &third, &fourth] {
        server.advance(Duration::from_secs(1));
        assert!(browser.is_signed_in(&server, &portal).await);
    }
    let fifth = sign_in("portal", &two).await;
    assert!(!first.is_signed_in(&server, &portal).await);
    // One more than all may have: whoever has the most makes room, and not the owner, idle the longest.
    let other = link_of(&server, "other", json!({})).await;
    sign_in("portal", &other).await;
    sign_in("portal", &other).await;
    assert!(owner.is_signed_in(&server, "console").await);
    assert!(!third.is_signed_in(&server, &portal).await);
    assert!(fourth.is_signed_in(&server, &portal).await);
    assert!(fifth.is_signed_in(&server, &portal).await);
    assert_eq!(server.store().catalog().visits().count(), 5);
    assert_eq!(ended().await, "3");
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn who_is_signed_in_is_not_exported() {
    let server = Server::start().await;
    console(&server, &server.token).await;
    // It is written when the server stops.
    let server = server.restart().await;
    let path = server.config().store.path.clone();
    let export = std::fs::read_to_string(path.join("export.json")).expect("an export");
    assert!(export.contains("token"));
    assert!(!export.contains("visit") && !export.contains("agent"));
    server.stop_and_verify().await;
}
