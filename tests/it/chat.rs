//! Operational events into a chat: what Slack, Teams and Discord get, and what of their answers counts.
//!
//! The forms of requests and answers are those that the services document:
//! - Slack: <https://api.slack.com/messaging/webhooks>, and for `unfurl_…` the arguments that Slack's own
//!   client sends, <https://docs.slack.dev/tools/node-slack-sdk/reference/webhook>
//! - Teams: <https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using>
//! - Discord: <https://docs.discord.com/developers/resources/webhook#execute-webhook>

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Receiver, Request, Script, Server, assert_invalid};

const OWN: &str = "/api/v1/operational-webhook/endpoint";
const PROFILES: [&str; 3] = ["to-slack", "to-teams", "to-discord"];

fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body).expect("JSON")
}

/// A success as the service answers it.
fn success(profile: &str) -> Script {
    match profile {
        "to-slack" => Script::answer(200, &[("content-type", "text/html")], "ok"),
        "to-teams" => Script::Status(202),
        _ => Script::Raw(b"HTTP/1.1 204 X\r\n\r\n".to_vec()),
    }
}

/// The text that a person reads.
fn text(profile: &str, body: &Value) -> String {
    let text = match profile {
        "to-slack" => &body["text"],
        "to-teams" => &body["attachments"][0]["content"]["body"][0]["text"],
        _ => &body["content"],
    };
    text.as_str().expect("a text").to_owned()
}

/// The body in the documented form, with these places filled.
fn documented(profile: &str, text: &str, link: Option<&str>) -> Value {
    let below = |link: Option<&str>| link.map_or(String::new(), |link| format!("\n{link}"));
    match profile {
        "to-slack" => {
            let link = link.map(|link| format!("<{link}|Open in the console>"));
            let text = format!("{text}{}", below(link.as_deref()));
            json!({"text": text, "unfurl_links": false, "unfurl_media": false})
        }
        "to-teams" => {
            let open =
                |url| json!({"type": "Action.OpenUrl", "title": "Open in the console", "url": url});
            let actions: Vec<Value> = link.into_iter().map(open).collect();
            json!({"type": "message", "attachments": [{
                "contentType": "application/vnd.microsoft.card.adaptive",
                "contentUrl": null,
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard",
                    "version": "1.4",
                    "body": [{"type": "TextBlock", "text": text, "wrap": true}],
                    "actions": actions,
                },
            }]})
        }
        _ => json!({
            "content": format!("{text}{}", below(link)),
            "allowed_mentions": {"parse": []},
            "flags": 4,
        }),
    }
}

/// An own endpoint that hears these events in this profile.
async fn hears(server: &Server, profile: &str, chat: &Receiver, event_types: &[&str]) -> String {
    let own = json!({"url": chat.url(), "profile": profile, "eventTypes": event_types});
    let made = server.post(OWN, own).await.expect(201);
    assert_eq!(made["profile"], profile);
    made["id"].as_str().expect("an id").to_owned()
}

#[actix_web::test]
async fn an_event_is_written_into_each_chat_with_a_link_to_the_console() {
    let failing = Receiver::scripted([], Script::Status(503)).await;
    let mut server = Server::start_with(|config| {
        config.server.public_url = Some("https://postrider.example/base/".to_owned());
    })
    .await;
    server.leftovers_are_fine();
    let application = json!({"name": "A&B <!channel> [x](y)", "uid": "app"});
    let made = server.post("/api/v1/app", application).await.expect(201);
    let retry = json!({"delaysSeconds": [1]});
    let endpoint = server
        .endpoint_of("app", json!({"url": failing.url(), "retry": retry}))
        .await;
    let mut chats = Vec::new();
    for profile in PROFILES {
        let chat = Receiver::scripted([], success(profile)).await;
        let id = hears(&server, profile, &chat, &["message.attempt.exhausted"]).await;
        chats.push((profile, chat, id));
    }
    server.publish("invoice.paid", json!({})).await;
    server.settle().await;
    server.advance(Duration::from_secs(2));
    let app = made["id"].as_str().expect("an id");
    let link = format!("https://postrider.example/base/console/app/{app}/endpoint/{endpoint}");
    for (profile, chat, id) in &chats {
        let request = &chat.received(1).await[0];
        server.settle().await;
        let name = match *profile {
            "to-slack" => "A&amp;B &lt;!channel&gt; [x](y)",
            _ => r"A&B <!channel> \[x](y)",
        };
        let url = failing.url();
        let text = format!(
            "{url} of {name}: a delivery of invoice.paid failed for good after 2 attempts: HTTP 503."
        );
        assert_eq!(body(request), documented(profile, &text, Some(&link)));
        assert_eq!(request.method, "POST");
        assert_eq!(request.header("content-type"), Some("application/json"));
        let signed = |(name, _): &&(String, String)| name.contains("signature");
        assert_eq!(request.headers.iter().find(signed), None);
        let attempts = server.get(&format!("{OWN}/{id}/attempt")).await.expect(200);
        assert_eq!(attempts["data"][0]["status"], 0, "{attempts}");
        assert_eq!(attempts["data"].as_array().map(Vec::len), Some(1));
    }
}

#[actix_web::test]
async fn without_a_public_url_there_is_no_link() {
    let server = Server::start().await;
    server.application("app").await;
    for profile in PROFILES {
        let chat = Receiver::scripted([], success(profile)).await;
        let id = hears(&server, profile, &chat, &["endpoint.created"]).await;
        server
            .endpoint_of("app", json!({"url": "https://example.com/in?key=k"}))
            .await;
        let request = &chat.received(1).await[0];
        let text = "https://example.com/in of app was added.";
        assert_eq!(body(request), documented(profile, text, None));
        server.settle().await;
        server.delete(&format!("{OWN}/{id}")).await.expect(204);
    }
}

#[actix_web::test]
async fn only_the_services_own_answer_is_a_success_and_a_429_is_heeded() {
    let busy = Script::answer(429, &[("retry-after", "120")], "");
    for (profile, other, succeeds) in [
        // A page of a proxy, for one.
        ("to-slack", Script::answer(200, &[], "<html>"), false),
        ("to-slack", Script::answer(404, &[], "no_service"), false),
        ("to-slack", Script::answer(200, &[], "ok"), true),
        ("to-teams", Script::Status(204), false),
        ("to-teams", Script::answer(200, &[], "1"), true),
        ("to-discord", Script::Status(202), false),
        // As it answers where the URL has ?wait=true.
        ("to-discord", Script::answer(200, &[], "{}"), true),
    ] {
        let chat = Receiver::scripted([busy.clone(), other], success(profile)).await;
        let server = Server::start().await;
        let id = hears(&server, profile, &chat, &["endpoint.created"]).await;
        server.application("app").await;
        server
            .endpoint_of("app", json!({"url": "https://example.com/"}))
            .await;
        chat.received(1).await;
        server.settle().await;
        server.advance(Duration::from_secs(119));
        server.settle().await;
        assert_eq!(chat.count(), 1, "{profile}: it asked for 120 s");
        server.advance(Duration::from_secs(2));
        chat.received(2).await;
        server.settle().await;
        if !succeeds {
            server.advance_to_next_due().await;
            chat.received(3).await;
            server.settle().await;
        }
        let attempts = server.get(&format!("{OWN}/{id}/attempt")).await.expect(200);
        let attempts = attempts["data"].as_array().expect("a list");
        let expected = if succeeds { 2 } else { 3 };
        assert_eq!(attempts.len(), expected, "{profile}: {attempts:?}");
        assert_eq!(attempts[0]["status"], 0, "{profile}");
    }
}

#[actix_web::test]
async fn a_message_that_is_no_event_is_told_by_its_type_and_id() {
    let server = Server::start().await;
    server.application("app").await;
    for profile in PROFILES {
        let chat = Receiver::scripted([], success(profile)).await;
        let endpoint = json!({"url": chat.url(), "profile": profile});
        let endpoint = server.endpoint_of("app", endpoint).await;
        let long = "<&".repeat(3_000);
        let mut count = 0;
        for (payload, expected) in [
            (json!({}), None),
            (json!({"data": null}), None),
            (json!({"data": {"summary": ""}}), None),
            (json!({"data": [1]}), None),
            (json!({"data": {"link": "x"}}), None),
            (
                json!({"data": {"summary": "Paid \"in full\""}}),
                Some("Paid \"in full\""),
            ),
            (
                json!({"data": {"summary": {"a": [1, null]}}}),
                Some(r#"{"a":[1,null]}"#),
            ),
            (json!({"data": {"summary": 1.5}}), Some("1.5")),
            (json!({"data": {"summary": long}}), Some("")),
        ] {
            let message = server.publish("invoice.paid", payload.clone()).await;
            server.settle().await;
            count += 1;
            let requests = chat.received(count).await;
            let body = body(&requests[count - 1]);
            let text = text(profile, &body).replace('\\', "");
            let other = format!("invoice.paid ({message})");
            let expected = expected.unwrap_or(&other);
            assert!(text.starts_with(expected), "{profile} {payload}: {body}");
            assert_eq!(server.outcomes(&message).await, ["delivered"]);
            if profile == "to-discord" {
                assert!(text.chars().count() <= 2_000, "the most that it takes");
            }
        }
        let raw = json!({
            "eventType": "a.b", "payload": {},
            "transformationsParams": {"rawPayload": "no JSON"},
        });
        let raw = server.post("/api/v1/app/app/msg", raw).await.expect(202);
        server.settle().await;
        let requests = chat.received(count + 1).await;
        let expected = format!("a.b ({})", raw["id"].as_str().expect("an id"));
        assert_eq!(
            text(profile, &body(&requests[count])),
            expected,
            "{profile}"
        );
        let path = format!("/api/v1/app/app/endpoint/{endpoint}");
        server.delete(&path).await.expect(204);
    }
}

#[actix_web::test]
async fn an_own_endpoint_may_name_any_profile_and_has_the_standard_one_without() {
    let heard = Receiver::ok().await;
    let server =
        Server::start_with(|config| config.delivery.default_profile = "okhi".to_owned()).await;
    let made = server
        .post(OWN, json!({"url": heard.url()}))
        .await
        .expect(201);
    assert_eq!(made["profile"], "standard");
    let path = format!("{OWN}/{}", made["id"].as_str().expect("an id"));
    for (change, profile, method) in [
        (
            json!({"profile": "ioffice", "method": "GET", "secret": "12345678"}),
            "ioffice",
            "GET",
        ),
        // What is not named stays, as with every endpoint.
        (json!({}), "ioffice", "GET"),
        (
            json!({"profile": "to-discord", "method": null}),
            "to-discord",
            "POST",
        ),
    ] {
        let mut body = json!({"url": heard.url()});
        let fields = change.as_object().expect("an object").clone();
        body.as_object_mut().expect("an object").extend(fields);
        let shown = server.put(&path, body).await.expect(200);
        assert_eq!(shown["profile"], profile);
        assert_eq!(shown["method"], method);
    }
    let back = json!({"url": heard.url(), "profile": null, "secret": null});
    let refused = server.put(&path, back).await;
    assert_invalid(&refused, &["body.profile"]);
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let back = json!({"url": heard.url(), "profile": null, "secret": secret});
    let shown = server.put(&path, back).await.expect(200);
    assert_eq!(shown["profile"], "standard", "not the server's default");
    for (body, place) in [
        (
            json!({"url": heard.url(), "profile": "nosuch"}),
            "body.profile",
        ),
        (
            json!({"url": heard.url(), "profile": "to-slack", "method": "GET"}),
            "body.method",
        ),
    ] {
        assert_invalid(&server.post(OWN, body).await, &[place]);
    }
}
