//! Secrets stay with the receiver that they were given for: what a change of an endpoint's scheme,
//! host or port does to them, for each kind of caller and in every way in.

use awc::http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Receiver, Server, assert_invalid};

const ENDPOINTS: &str = "/api/v1/app/app/endpoint";
const OLD: &str = "https://old.test/in";
const NEW: &str = "https://new.test/in";
const ENTER_AGAIN: &str = "was given for the former URL: enter it again, or clear it with null";

/// An endpoint with every kind of secret.
fn whole() -> Value {
    json!({
        "url": OLD, "profile": "ovcode", "secret": "s3cret-shared",
        "basicAuth": { "username": "ann", "password": "s3cret-password" },
        "headers": { "X-Plain": "p", "X-Api-Key": "s3cret-key" },
        "authHeaders": { "X-Whatever": "s3cret-whatever" },
    })
}

const ALL: [&str; 4] = [
    "body.basicAuth",
    "body.headers.X-Api-Key",
    "body.authHeaders.X-Whatever",
    "body.secret",
];

async fn by(server: &Server, token: &str, method: Method, path: &str, body: Value) -> Answer {
    let body = (!body.is_null()).then(|| body.to_string());
    server.call_as(token, method, path, body).await
}

async fn token(server: &Server, body: Value) -> String {
    let made = server.post("/api/v1/token", body).await.expect(201);
    made["token"].as_str().expect("a text").to_owned()
}

async fn link(server: &Server) -> String {
    let path = "/api/v1/auth/app-portal-access/app";
    let made = server.post(path, json!({})).await.expect(200);
    made["token"].as_str().expect("a text").to_owned()
}

/// A token of one of the platform's roles with these scopes.
async fn scoped(server: &Server, role: &str, scopes: &[&str]) -> String {
    token(
        server,
        json!({ "name": "s", "role": role, "scopes": scopes }),
    )
    .await
}

/// Those who are never shown what an endpoint of the application sends.
async fn strangers(server: &Server, endpoint: &str) -> [(&'static str, String); 5] {
    let key = json!({ "name": "k", "role": "application", "applicationId": "app" });
    let user = json!({ "name": "u", "role": "webhook_user", "endpointIds": [endpoint] });
    let scopes = ["endpoints", "read"];
    [
        ("link", link(server).await),
        ("key", token(server, key).await),
        ("user", token(server, user).await),
        ("owner", scoped(server, "owner", &scopes).await),
        ("admin", scoped(server, "webhook_admin", &scopes).await),
    ]
}

/// What the stored endpoint has: Basic authentication, headers, authentication headers, and the
/// newest secret.
fn kept(server: &Server, id: &str) -> (bool, Vec<String>, Vec<String>, String) {
    let catalog = server.store().catalog();
    let organisation = catalog.organisations().next().expect("there is one").id;
    let endpoint = catalog.endpoint(organisation, id.parse().expect("an id"));
    let endpoint = endpoint.expect("it is there");
    (
        endpoint.basic_auth.is_some(),
        endpoint.headers.keys().cloned().collect(),
        endpoint.auth_headers.keys().cloned().collect(),
        endpoint.secrets[0].secret.expose().to_owned(),
    )
}

#[actix_web::test]
async fn who_may_not_read_secrets_names_each_again_to_take_it_to_another_origin() {
    let server = Server::start().await;
    let id = server.endpoint_of("app", whole()).await;
    let path = format!("{ENDPOINTS}/{id}");
    let before = kept(&server, &id);
    for (who, token) in strangers(&server, &id).await {
        for (method, url) in [
            (Method::PATCH, NEW),
            (Method::PUT, NEW),
            (Method::PATCH, "http://old.test/in"),
            (Method::PATCH, "https://old.test:8443/in"),
        ] {
            let body = json!({ "url": url });
            let refused = by(&server, &token, method.clone(), &path, body).await;
            assert_invalid(&refused, &ALL);
            assert!(refused.text.contains(ENTER_AGAIN), "{}", refused.text);
            assert!(!refused.text.contains("s3cret"), "{}", refused.text);
        }
        // One that is named is not asked for; a name without a value keeps nothing.
        let body = json!({ "url": NEW, "basicAuth": { "username": "ann" }, "secret": "s3cret-other",
            "authHeaders": null });
        let refused = by(&server, &token, Method::PATCH, &path, body).await;
        assert_invalid(
            &refused,
            &["body.headers.X-Api-Key", "body.basicAuth.password"],
        );
        assert_eq!(kept(&server, &id), before, "{who}");
        // The same receiver is no other.
        for url in ["https://old.test/other", "https://old.test:443/", OLD] {
            let body = json!({ "url": url });
            let same = by(&server, &token, Method::PATCH, &path, body)
                .await
                .expect(200);
            assert_eq!(same.get("warnings"), None, "{who}");
        }
        assert_eq!(kept(&server, &id), before, "{who}");
    }
}

#[actix_web::test]
async fn what_is_entered_again_or_cleared_goes_through() {
    let server = Server::start().await;
    for method in [Method::PATCH, Method::PUT] {
        let id = server.endpoint_of("app", whole()).await;
        let path = format!("{ENDPOINTS}/{id}");
        let portal = link(&server).await;
        let again = json!({
            "url": NEW, "secret": "s3cret-again",
            "basicAuth": { "username": "ann", "password": "s3cret-2" },
            "headers": { "X-Api-Key": "s3cret-2" }, "authHeaders": { "X-Whatever": "s3cret-2" },
        });
        by(&server, &portal, method.clone(), &path, again)
            .await
            .expect(200);
        let (has_basic, headers, auth_headers, secret) = kept(&server, &id);
        assert_eq!((has_basic, headers), (true, vec!["X-Api-Key".to_owned()]));
        assert_eq!(auth_headers, ["X-Whatever"]);
        assert_eq!(secret, "s3cret-again");
        // What was entered again is no news to who entered it, even where it is the same.
        let same = json!({
            "url": "https://third.test/", "secret": "s3cret-again",
            "basicAuth": { "username": "ann", "password": "s3cret-2" },
            "headers": { "X-Api-Key": "s3cret-2" }, "authHeaders": { "X-Whatever": "s3cret-2" },
        });
        let moved = by(&server, &portal, method.clone(), &path, same)
            .await
            .expect(200);
        assert_eq!(moved.get("warnings"), None, "{moved}");
        let cleared = json!({
            "url": OLD, "secret": "s3cret-again", "basicAuth": null,
            "headers": { "X-Api-Key": null, "X-New": "n" }, "authHeaders": { "X-Whatever": null },
        });
        by(&server, &portal, method, &path, cleared)
            .await
            .expect(200);
        let (has_basic, headers, auth_headers, _) = kept(&server, &id);
        assert_eq!((has_basic, headers), (false, vec!["X-New".to_owned()]));
        assert_eq!(auth_headers, [""; 0]);
    }
    // Credentials in the URL itself are Basic authentication that is entered again.
    let body = json!({ "url": OLD, "basicAuth": { "username": "ann", "password": "s3cret" } });
    let id = server.endpoint_of("app", body).await;
    let portal = link(&server).await;
    let body = json!({ "url": "https://bob:new@new.test/" });
    let path = format!("{ENDPOINTS}/{id}");
    let patched = by(&server, &portal, Method::PATCH, &path, body)
        .await
        .expect(200);
    assert_eq!(patched["basicAuth"], json!({ "username": "bob" }));
}

#[actix_web::test]
async fn owners_and_admins_keep_secrets_and_are_warned() {
    let server = Server::start().await;
    let admin = token(&server, json!({ "name": "a", "role": "webhook_admin" })).await;
    let scoped_owner = scoped(&server, "owner", &["endpoints", "read", "secrets"]).await;
    for token in [server.token.clone(), admin, scoped_owner] {
        for method in [Method::PATCH, Method::PUT] {
            let id = server.endpoint_of("app", whole()).await;
            let path = format!("{ENDPOINTS}/{id}");
            let before = kept(&server, &id);
            let body = json!({ "url": NEW });
            let moved = by(&server, &token, method.clone(), &path, body)
                .await
                .expect(200);
            assert_eq!(kept(&server, &id), before);
            let warnings = moved["warnings"].as_array().expect("there are some");
            let about = |name: &str| {
                let mut texts = warnings.iter().filter_map(Value::as_str);
                texts.any(|text| text.starts_with(&format!("{name} was given for another")))
            };
            for name in [
                "basicAuth",
                "headers.X-Api-Key",
                "authHeaders.X-Whatever",
                "secret",
            ] {
                assert!(about(name), "{name}: {warnings:?}");
            }
            assert_eq!(warnings.len(), 4, "the plain header is no secret");
            // What is given anew is not warned of, and the next look has no warning.
            let body = json!({ "url": OLD, "headers": null, "secret": "s3cret-new",
                "basicAuth": { "username": "ann", "password": "new" } });
            let moved = by(&server, &token, Method::PATCH, &path, body)
                .await
                .expect(200);
            assert_eq!(
                moved["warnings"].as_array().map(Vec::len),
                Some(1),
                "{moved}"
            );
            assert_eq!(kept(&server, &id).3, "s3cret-new");
            let shown = by(&server, &token, Method::GET, &path, Value::Null).await;
            assert_eq!(shown.expect(200).get("warnings"), None);
        }
    }
}

#[actix_web::test]
async fn the_scope_for_the_organisations_own_endpoints_includes_their_secrets() {
    let server = Server::start().await;
    let token = scoped(&server, "owner", &["operational_webhooks"]).await;
    let own = "/api/v1/operational-webhook/endpoint";
    let body = json!({ "url": OLD, "headers": { "X-Api-Key": "s3cret" } });
    let made = by(&server, &token, Method::POST, own, body).await;
    let path = format!("{own}/{}", made.expect(201)["id"].as_str().expect("an id"));
    let moved = json!({ "url": NEW });
    let moved = by(&server, &token, Method::PUT, &path, moved).await;
    let moved = moved.expect(200);
    assert_eq!(
        moved["warnings"].as_array().map(Vec::len),
        Some(1),
        "{moved}"
    );
}

#[actix_web::test]
async fn http_may_become_https_at_the_default_ports_and_not_back() {
    let server = Server::start().await;
    let id = server
        .endpoint_of(
            "app",
            json!({ "url": "http://old.test/", "authHeaders": { "X-A": "s" } }),
        )
        .await;
    let path = format!("{ENDPOINTS}/{id}");
    let portal = link(&server).await;
    let to = async |url: &str| {
        let body = json!({ "url": url });
        by(&server, &portal, Method::PATCH, &path, body).await
    };
    assert_invalid(
        &to("https://old.test:8443/").await,
        &["body.authHeaders.X-A"],
    );
    to("https://old.test/").await.expect(200);
    assert_invalid(&to("http://old.test/").await, &["body.authHeaders.X-A"]);
}

#[actix_web::test]
async fn a_profile_that_sends_the_secret_itself_wants_it_again() {
    let server = Server::start_with(|config| {
        config.portal.profiles = vec!["ovcode".to_owned(), "ocrolus".to_owned()];
    })
    .await;
    let body = json!({ "url": OLD, "profile": "ocrolus", "secret": "s3cret-shared" });
    let id = server.endpoint_of("app", body).await;
    let path = format!("{ENDPOINTS}/{id}");
    for (who, token) in strangers(&server, &id).await {
        let to = json!({ "profile": "ovcode" });
        let refused = by(&server, &token, Method::PATCH, &path, to).await;
        assert_invalid(&refused, &["body.secret"]);
        assert_eq!(kept(&server, &id).3, "s3cret-shared", "{who}");
    }
    // A signature tells nobody the secret, wherever it is sent.
    let portal = link(&server).await;
    let moved = by(
        &server,
        &portal,
        Method::PATCH,
        &path,
        json!({ "url": NEW }),
    )
    .await;
    moved.expect(200);
    let warned = server
        .patch(&path, json!({ "profile": "ovcode" }))
        .await
        .expect(200);
    assert_eq!(warned["warnings"].as_array().map(Vec::len), Some(1));
}

#[actix_web::test]
async fn nothing_secret_reaches_another_receiver_through_an_example() {
    let thief = Receiver::ok().await;
    let mut server = Server::start().await;
    server.leftovers_are_fine();
    let id = server.endpoint_of("app", whole()).await;
    let path = format!("{ENDPOINTS}/{id}");
    let portal = link(&server).await;
    let cleared = json!({ "url": thief.url(), "basicAuth": null, "headers": { "X-Api-Key": null },
        "authHeaders": null, "secret": "s3cret-mine" });
    by(&server, &portal, Method::PATCH, &path, cleared)
        .await
        .expect(200);
    server.publish("a", json!({})).await;
    server.settle().await;
    let request = &thief.requests()[0];
    for name in ["authorization", "x-api-key", "x-whatever"] {
        assert_eq!(request.header(name), None, "{name}");
    }
    assert_eq!(request.header("x-api-secret"), Some("s3cret-mine"));
}

const WEBHOOKS: &str = "/api/v3/project_templates/app/webhook_endpoints";

fn ovation(url: &str, fields: Value) -> Value {
    let mut webhook = json!({ "target_url": url, "event": "e", "username": "u", "password": "p" });
    for (name, value) in fields.as_object().expect("an object") {
        webhook[name] = value.clone();
    }
    json!({ "webhookEndpoint": webhook })
}

async fn ovation_server(change: impl FnOnce(&mut postrider::config::Config)) -> Server {
    let server = Server::start_with(change).await;
    let body = json!({ "name": "e", "description": "e" });
    server.post("/api/v1/event-type", body).await.expect(201);
    server.application("app").await;
    server
}

/// The only webhook as Ovation's surface shows it.
async fn shown(server: &Server, token: &str) -> Value {
    let list = by(server, token, Method::GET, WEBHOOKS, Value::Null)
        .await
        .expect(200);
    list["webhook_endpoints"][0].clone()
}

#[actix_web::test]
async fn ovations_surface_takes_no_secret_along_either() {
    let server = ovation_server(|_| ()).await;
    let body = ovation(
        OLD,
        json!({ "authenticationHeaders": { "api-id": "s3cret" },
        "requestHeaders": { "X-Api-Key": "open" } }),
    );
    let made = server.post(WEBHOOKS, body).await.expect(201);
    let path = format!("{WEBHOOKS}/{}", made["webhook_endpoint"]["id"]);
    let portal = link(&server).await;
    let scoped = scoped(&server, "owner", &["endpoints"]).await;
    for token in [&portal, &scoped] {
        let moved = ovation(NEW, json!({}));
        let refused = by(&server, token, Method::PUT, &path, moved).await;
        assert_eq!(refused.status, 422, "{}", refused.text);
        let error = format!("authenticationHeaders.api-id {ENTER_AGAIN}");
        assert_eq!(
            refused.json(),
            json!({ "errors": [error] }),
            "the open header is no secret"
        );
    }
    for headers in [json!(null), json!({ "api-id": "new" })] {
        let body = ovation(NEW, json!({ "authenticationHeaders": headers }));
        by(&server, &portal, Method::PUT, &path, body)
            .await
            .expect(201);
        server.put(&path, ovation(OLD, json!({}))).await.expect(201);
    }
    let moved = server.put(&path, ovation(NEW, json!({}))).await.expect(201);
    assert_eq!(
        moved["warnings"].as_array().map(Vec::len),
        Some(1),
        "{moved}"
    );
}

#[actix_web::test]
async fn a_mask_stands_for_nothing_at_another_origin() {
    let server = ovation_server(|_| ()).await;
    let body = json!({ "url": OLD, "headers": { "X-Api-Key": "s3cret" } });
    let id = server.endpoint_of("app", body).await;
    let portal = link(&server).await;
    let path = format!("{WEBHOOKS}/{}", shown(&server, &portal).await["id"]);
    let masked = ovation(NEW, json!({ "requestHeaders": { "X-Api-Key": "***" } }));
    let answer = by(&server, &portal, Method::PUT, &path, masked).await;
    assert_eq!(answer.status, 422, "{}", answer.text);
    assert!(answer.text.contains("requestHeaders"), "{}", answer.text);
    let catalog = server.store().catalog();
    let organisation = catalog.organisations().next().expect("there is one").id;
    let endpoint = catalog
        .endpoint(organisation, id.parse().expect("an id"))
        .expect("it is there");
    assert_eq!(endpoint.url, OLD);
    assert_eq!(endpoint.headers["X-Api-Key"], "s3cret");
}

#[actix_web::test]
async fn another_profile_shows_no_header_that_was_given_as_a_secret() {
    let server = ovation_server(|config| {
        config.portal.profiles = vec!["standard".to_owned(), "ovation".to_owned()];
    })
    .await;
    let body = json!({ "url": OLD, "headers": { "X-Api-Key": "s3cret", "X-Lab": "7" } });
    let id = server.endpoint_of("app", body).await;
    let portal = link(&server).await;
    let path = format!("{ENDPOINTS}/{id}");
    let to = json!({ "profile": "ovation" });
    by(&server, &portal, Method::PATCH, &path, to)
        .await
        .expect(200);
    let masked = json!({ "X-Api-Key": "***", "X-Lab": "7" });
    assert_eq!(shown(&server, &portal).await["requestHeaders"], masked);
    let server = server.restart().await;
    assert_eq!(shown(&server, &portal).await["requestHeaders"], masked);
    // What is given to a webhook of Ovation's is known to be shown.
    let body = json!({ "headers": { "X-Api-Key": "open" } });
    by(&server, &portal, Method::PATCH, &path, body)
        .await
        .expect(200);
    let open = json!({ "X-Api-Key": "open" });
    assert_eq!(shown(&server, &portal).await["requestHeaders"], open);
    // And stays so, whatever the profile is then.
    server
        .patch(&path, json!({ "profile": "standard" }))
        .await
        .expect(200);
    assert_eq!(shown(&server, &portal).await["requestHeaders"], open);
    let native = server.get(&format!("{path}/headers")).await.expect(200);
    assert_eq!(native["sensitive"], json!(["X-Api-Key"]));
}

#[actix_web::test]
async fn the_profile_in_effect_decides_how_a_header_was_given() {
    let server =
        ovation_server(|config| config.delivery.default_profile = "ovation".to_owned()).await;
    let body = json!({ "url": OLD, "headers": { "X-Api-Key": "open" } });
    let id = server.endpoint_of("app", body).await;
    let portal = link(&server).await;
    let open = json!({ "X-Api-Key": "open" });
    assert_eq!(shown(&server, &portal).await["requestHeaders"], open);
    let put = json!({ "headers": { "X-Token": "too" } });
    server
        .put(&format!("{ENDPOINTS}/{id}/headers"), put)
        .await
        .expect(204);
    let too = json!({ "X-Token": "too" });
    assert_eq!(shown(&server, &portal).await["requestHeaders"], too);
}

#[actix_web::test]
async fn an_account_takes_no_secret_along_either() {
    let server = Server::start().await;
    server.application("app").await;
    let body = json!({ "name": "k", "role": "application", "applicationId": "app" });
    let key = token(&server, body).await;
    let update = "/v1/account/settings/update/webhook_endpoint";
    let body = json!({ "webhook_endpoint": OLD, "username": "ann", "password": "s3cret" });
    by(&server, &key, Method::POST, update, body)
        .await
        .expect(200);
    let only_url = json!({ "webhook_endpoint": NEW });
    let refused = by(&server, &key, Method::POST, update, only_url.clone()).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    assert!(refused.text.contains("username"), "{}", refused.text);
    let cleared = json!({ "webhook_endpoint": NEW, "username": "", "password": "" });
    by(&server, &key, Method::POST, update, cleared)
        .await
        .expect(200);
    // A header that the platform added has no field here.
    let list = server.get(ENDPOINTS).await.expect(200);
    let path = format!(
        "{ENDPOINTS}/{}",
        list["data"][0]["id"].as_str().expect("an id")
    );
    let header = json!({ "authHeaders": { "X-A": "s3cret" } });
    server.patch(&path, header).await.expect(200);
    let back = json!({ "webhook_endpoint": OLD });
    let refused = by(&server, &key, Method::POST, update, back.clone()).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    assert!(refused.text.contains("authHeaders.X-A"), "{}", refused.text);
    server
        .patch(&path, json!({ "authHeaders": null }))
        .await
        .expect(200);
    by(&server, &key, Method::POST, update, back)
        .await
        .expect(200);
}
