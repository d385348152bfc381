//! The pages' files: what is served, to whom, and what the pages may do.

use awc::http::Method;
use serde_json::Value;

use crate::support::{Answer, Server};

async fn fetch(server: &Server, path: &str) -> Answer {
    server
        .call(Method::GET, path, &[("api-key", "none")], None)
        .await
}

fn policy(answer: &Answer) -> &str {
    answer.header("content-security-policy").expect("a policy")
}

#[actix_web::test]
async fn pages_are_served_without_a_credential_wherever_they_are_in_the_application() {
    let server = Server::start().await;
    for (path, surface) in [
        ("/console", "console"),
        ("/console/", "console"),
        ("/console/app/acme/endpoint/ep_1", "console"),
        ("/portal", "portal"),
        ("/portal/endpoint/ep_1/secret", "portal"),
    ] {
        let answer = fetch(&server, path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(
            answer.header("content-type"),
            Some("text/html; charset=utf-8")
        );
        assert!(
            answer.text.contains(&format!("data-surface=\"{surface}\"")),
            "{path}"
        );
        assert!(!answer.text.contains("{{"));
        let policy = policy(&answer);
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"));
        assert!(policy.ends_with("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
    }
    for path in ["/console/assets/nothing.js", "/portal/logo", "/consoles"] {
        assert_eq!(fetch(&server, path).await.status, 404, "{path}");
    }
    let posted = server
        .call(Method::POST, "/console", &[], Some("{}".to_owned()))
        .await;
    assert!([404, 405].contains(&posted.status));
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn what_a_page_names_is_there_with_its_type_and_kept_by_browsers() {
    let server = Server::start().await;
    let shell = fetch(&server, "/portal").await;
    let names: Vec<&str> = shell
        .text
        .split('"')
        .filter(|part| part.starts_with("/console/assets/") || *part == "/portal/theme.css")
        .collect();
    assert!(names.len() > 5, "{names:?}");
    for name in names {
        let answer = fetch(&server, name).await;
        assert_eq!(answer.status, 200, "{name}");
        let expected = match name.rsplit_once('.').expect("an ending").1 {
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            _ => "image/svg+xml",
        };
        assert_eq!(answer.header("content-type"), Some(expected), "{name}");
        let etag = answer.header("etag").expect("a tag");
        let again = [("api-key", "none"), ("if-none-match", etag)];
        let again = server.call(Method::GET, name, &again, None).await;
        assert_eq!((again.status, again.text.as_str()), (304, ""), "{name}");
    }
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn the_portal_is_the_operators_in_name_colour_picture_and_frame() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let logo = directory.path().join("logo");
    std::fs::write(&logo, "<svg xmlns='http://www.w3.org/2000/svg'/>").expect("room");
    let server = Server::start_with(|config| {
        config.portal.name = "Tom & <Jerry>".into();
        config.portal.accent_color = "#0a7f55".into();
        config.portal.logo_file = Some(logo.clone());
        config.portal.frame_origins = vec!["https://app.example".into()];
    })
    .await;
    let shell = fetch(&server, "/portal").await;
    assert!(
        shell.text.contains("data-name=\"Tom &amp; &lt;Jerry&gt;\""),
        "{}",
        shell.text
    );
    assert!(shell.text.contains("data-logo=\"/portal/logo\""));
    assert!(policy(&shell).ends_with("frame-ancestors https://app.example"));
    assert!(policy(&fetch(&server, "/console").await).ends_with("frame-ancestors 'none'"));
    assert!(
        fetch(&server, "/portal/theme.css")
            .await
            .text
            .contains("#0a7f55")
    );
    let picture = fetch(&server, "/portal/logo").await;
    assert_eq!(picture.header("content-type"), Some("image/svg+xml"));
    assert!(policy(&picture).contains("sandbox"));
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn the_document_of_the_api_is_as_it_was_with_pages_beside_it() {
    let server = Server::start().await;
    let document: Value = fetch(&server, "/openapi.json").await.json();
    assert!(document["paths"]["/api/v1/session"]["post"].is_object());
    assert!(document["paths"]["/api/v1/app/{app_id}/token"]["get"].is_object());
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn the_address_alone_leads_to_the_console_and_there_is_a_favicon() {
    let server = Server::start().await;
    // The client follows where it is sent.
    let answer = fetch(&server, "/").await;
    assert_eq!(answer.status, 200);
    assert!(answer.text.contains("data-surface=\"console\""));
    let icon = fetch(&server, "/favicon.ico").await;
    assert_eq!(
        (icon.status, icon.header("content-type")),
        (200, Some("image/svg+xml"))
    );
}

#[actix_web::test]
async fn the_portal_has_the_operators_words() {
    let server = Server::start_with(|config| {
        config.portal.labels.add_webhook = "+ \"Create\" <Webhook>".to_owned();
    })
    .await;
    let page = fetch(&server, "/portal").await;
    let words = r#"&quot;add_webhook&quot;:&quot;+ \&quot;Create\&quot; &lt;Webhook&gt;&quot;"#;
    assert!(page.text.contains(words), "{}", page.text);
    assert!(page.text.contains("&quot;menu&quot;:&quot;Webhooks&quot;"));
}
