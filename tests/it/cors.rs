//! What browsers are told before a page of another origin calls the API.

use awc::http::Method;
use serde_json::json;

use crate::support::Server;

const PAGE: &str = "https://app.example.com";
const ALLOW: &str = "access-control-allow-origin";

#[actix_web::test]
async fn a_browser_may_ask_without_a_credential_and_any_page_may_call() {
    let server = Server::start().await;
    server.application("app").await;
    let asking = [
        ("api-key", "none that is valid"),
        ("origin", PAGE),
        ("access-control-request-method", "PATCH"),
        (
            "access-control-request-headers",
            "authorization,svix-req-id",
        ),
    ];
    for path in ["/api/v1/app/app", "/api/v1/app/app/msg/", "/api/v1/nothing"] {
        let answer = server.call(Method::OPTIONS, path, &asking, None).await;
        assert_eq!((answer.status, answer.text.as_str()), (204, ""), "{path}");
        assert_eq!(answer.header(ALLOW), Some("*"));
        let listed = |name: &str| answer.header(name).unwrap().to_owned();
        assert!(listed("access-control-allow-methods").contains("PATCH"));
        for name in [
            "authorization",
            "content-type",
            "idempotency-key",
            "svix-req-id",
            "api-key",
        ] {
            assert!(
                listed("access-control-allow-headers").contains(name),
                "{name}"
            );
        }
        assert_eq!(answer.header("access-control-max-age"), Some("86400"));
        assert_eq!(answer.header("access-control-allow-credentials"), None);
    }
    // Answers and refusals alike can be read by the page.
    for (token, status) in [(server.token.as_str(), 200), ("wrong", 401)] {
        let headers = [("api-key", token), ("origin", PAGE)];
        let answer = server
            .call(Method::GET, "/api/v1/app/app", &headers, None)
            .await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header(ALLOW), Some("*"));
    }
    // Who is no page hears nothing of it, and a plain OPTIONS is a method like others.
    let plain = server.get("/api/v1/app/app").await;
    assert_eq!(plain.header(ALLOW), None);
    let plain = server
        .call(Method::OPTIONS, "/api/v1/app/app", &[], None)
        .await;
    assert_eq!(plain.status, 405);
    let elsewhere = [("origin", PAGE)];
    let elsewhere = server.call(Method::GET, "/metrics", &elsewhere, None).await;
    assert_eq!((elsewhere.status, elsewhere.header(ALLOW)), (200, None));
}

#[actix_web::test]
async fn origins_can_be_few_or_none() {
    for (origins, expected) in [(vec![PAGE.to_owned()], Some(PAGE)), (vec![], None)] {
        let server = Server::start_with(|config| config.server.cors_origins = origins).await;
        let body = json!({"name": "n"}).to_string();
        for (origin, expected) in [(PAGE, expected), ("https://evil.example", None)] {
            let headers = [("origin", origin)];
            let path = "/api/v1/app";
            let answer = server
                .call(Method::POST, path, &headers, Some(body.clone()))
                .await;
            assert_eq!((answer.status, answer.header(ALLOW)), (201, expected));
            assert_eq!(answer.header("vary"), expected.map(|_| "origin"));
            let asking = [
                ("origin", origin),
                ("access-control-request-method", "POST"),
            ];
            let answer = server.call(Method::OPTIONS, path, &asking, None).await;
            assert_eq!((answer.status, answer.header(ALLOW)), (204, expected));
            let methods = answer.header("access-control-allow-methods");
            assert_eq!(methods.is_some(), expected.is_some());
        }
    }
}
