//! Transformations: what endpoints get, what is refused, previews and versions.

use awc::http::Method;
use serde_json::{Value, json};

use crate::profiles::{ENDPOINTS, made, path, read, with};
use crate::support::{Receiver, Server, assert_error, assert_invalid};

const STARTING_POINTS: &str = "/api/v1/transformation-starting-points";

async fn with_transformation(server: &Server, receiver: &Receiver, transformation: Value) -> Value {
    let body = json!({ "url": receiver.url(), "transformation": transformation });
    server.post(ENDPOINTS, body).await.expect(201)
}

async fn started() -> Server {
    let server = Server::start().await;
    server.application("app").await;
    server
}

async fn preview(server: &Server, endpoint: &Value, body: Value) -> Value {
    let path = path(endpoint, "/transformation-preview");
    server.post(&path, body).await.expect(200)
}

#[actix_web::test]
async fn a_request_is_as_the_transformation_says_and_signed_so() {
    let receiver = Receiver::ok().await;
    let server = started().await;
    let transformation = json!({
        "body": "{\"text\": \"It is {{ payload.name }}.\", \"all\": {{ payload }}}",
        "headers": { "X-Kind": "{{ message.event_type }}/{{ payload.n }}" },
        "method": "PUT",
        "contentType": "application/vnd.a+json; v=1",
    });
    let endpoint = with_transformation(&server, &receiver, transformation.clone()).await;
    assert_eq!(endpoint["transformation"], transformation);
    assert_eq!(read(&server, &endpoint).await, endpoint);
    let payload = r#"{"name":  "a \"b\"\n", "n": 1.10}"#;
    let message = server.publish_text("app", "a.b", payload).await;
    server.settle().await;

    let [request] = &receiver.requests()[..] else {
        panic!("one request");
    };
    let body = format!("{{\"text\": \"It is a \\\"b\\\"\\n.\", \"all\": {payload}}}");
    assert_eq!(std::str::from_utf8(&request.body).unwrap(), body);
    assert_eq!(request.method, "PUT");
    assert_eq!(request.header("x-kind"), Some("a.b/1.10"));
    assert_eq!(
        request.header("content-type"),
        Some("application/vnd.a+json; v=1")
    );
    let secret = crate::profiles::secret(&server, &endpoint).await;
    let signed = crate::signatures::check(request, "webhook", &secret, server.now());
    assert_eq!(signed, Ok(()));
    let attempt = &server.attempts_in("app", &message).await[0];
    assert_eq!(attempt["request"]["method"], "PUT");

    // The preview of it is the request but for the moment, the signature and what the log does not show.
    let previewed = preview(&server, &endpoint, json!({ "messageIds": [message] })).await;
    let previewed = &previewed["data"][0];
    assert_eq!(previewed["messageId"], message);
    assert_eq!(previewed["eventType"], "a.b");
    assert_eq!(previewed["error"], Value::Null);
    let shown = &previewed["request"];
    assert_eq!(shown["body"], body);
    assert_eq!(shown["method"], "PUT");
    assert_eq!(shown["url"], receiver.url());
    assert_eq!(shown["headers"]["webhook-signature"], "***");
    for (name, value) in shown["headers"].as_object().unwrap() {
        let is_own = ["webhook-signature", "webhook-timestamp", "date"].contains(&name.as_str());
        assert!(is_own || request.header(name) == value.as_str(), "{name}");
    }
}

#[actix_web::test]
async fn an_error_is_a_failed_attempt_with_its_line_until_somebody_mends_it() {
    let receiver = Receiver::ok().await;
    let server = started().await;
    let broken = json!({ "body": "{\n\"a\": {{ payload.missing.deeper }}}" });
    let endpoint = with_transformation(&server, &receiver, broken).await;
    let message = server
        .publish_text("app", "a", r#"{"secret": "hunter2"}"#)
        .await;
    server.settle().await;
    let attempt = &server.attempts_in("app", &message).await[0];
    let text = attempt.to_string();
    assert!(
        text.contains("The transformation's body cannot be rendered: line 2: `payload.missing.deeper` is undefined."),
        "{text}"
    );
    assert_eq!(receiver.count(), 0);
    let previewed = preview(&server, &endpoint, json!({})).await;
    assert_eq!(
        previewed["data"][0]["error"],
        json!({ "key": "body", "line": 2, "message": "`payload.missing.deeper` is undefined" })
    );
    assert_eq!(previewed["data"][0]["request"], Value::Null);

    let mended = json!({ "transformation": { "body": "{\"a\": {{ payload.secret }}}" } });
    server.patch(&path(&endpoint, ""), mended).await.expect(200);
    server.advance_to_next_due().await;
    server.settle().await;
    assert_eq!(receiver.requests()[0].body, br#"{"a": "hunter2"}"#[..]);
}

#[actix_web::test]
async fn versions_are_kept_over_a_restart_and_can_be_restored() {
    let receiver = Receiver::ok().await;
    let server = started().await;
    let of = |number: i32| json!({ "body": format!("{{\"v\": {number}}}") });
    let endpoint = with_transformation(&server, &receiver, of(1)).await;
    let own = path(&endpoint, "");
    let versions_path = path(&endpoint, "/transformation-versions");
    for number in 2..=8 {
        let body = json!({ "transformation": of(number) });
        server.patch(&own, body.clone()).await.expect(200);
        // The same again is no new version, and neither is a change that does not speak of it.
        server.patch(&own, body).await.expect(200);
        server
            .put(&own, json!({ "url": receiver.url() }))
            .await
            .expect(200);
    }
    let cleared = json!({ "transformation": null });
    let cleared = server.patch(&own, cleared).await.expect(200);
    assert_eq!(cleared["transformation"], Value::Null);
    let versions = server.get(&versions_path).await.expect(200);
    let server = server.restart().await;
    assert_eq!(server.get(&versions_path).await.expect(200), versions);
    let numbers: Vec<(i64, bool, bool)> = versions["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            assert!(one["savedAt"].is_string());
            let number = one["number"].as_i64().unwrap();
            (
                number,
                one["current"] == true,
                one["transformation"].is_null(),
            )
        })
        .collect();
    let earlier = |number| (number, false, false);
    let expected = [
        (9, true, true),
        earlier(8),
        earlier(7),
        earlier(6),
        earlier(5),
        earlier(4),
    ];
    assert_eq!(numbers, expected);

    let restore = format!("{versions_path}/restore");
    let restored = server
        .post(&restore, json!({ "number": 7 }))
        .await
        .expect(200);
    assert_eq!(restored["transformation"]["body"], "{\"v\": 7}");
    let versions = server.get(&versions_path).await.expect(200);
    assert_eq!(versions["data"][0]["number"], 10);
    assert_eq!(versions["data"][5]["number"], 5);
    for number in [json!(4), json!(0), json!(99)] {
        let answer = server.post(&restore, json!({ "number": number })).await;
        assert_invalid(&answer, &["body.number"]);
    }
    server.publish("a", json!({})).await;
    server.settle().await;
    assert_eq!(receiver.requests()[0].body, b"{\"v\": 7}"[..]);

    // After a crash it is as it was told.
    let again = server.after_a_crash().await;
    assert_eq!(again.get(&versions_path).await.expect(200), versions);
}

#[actix_web::test]
async fn what_cannot_be_is_refused_at_its_place() {
    let server = started().await;
    let place = |rest: &str| format!("body.transformation{rest}");
    let many: serde_json::Map<String, Value> =
        (0..21).map(|n| (format!("x-{n}"), json!("a"))).collect();
    for (transformation, rest) in [
        (json!({ "body": "a\n{{ payload.a" }), ".body"),
        (json!({ "body": "{{ payload.a | nosuch }}" }), ".body"),
        (json!({ "body": "{{ [payload] }}" }), ".body"),
        (json!({ "body": "x".repeat(8193) }), ""),
        (json!({ "headers": many }), ".headers"),
        (json!({ "headers": { "Host": "a" } }), ".headers.Host"),
        (
            json!({ "headers": { "webhook-id": "a" } }),
            ".headers.webhook-id",
        ),
        (
            json!({ "headers": { "Authorization": "a" } }),
            ".headers.Authorization",
        ),
        (
            json!({ "headers": { "X-Api-Key": "a" } }),
            ".headers.X-Api-Key",
        ),
        (
            json!({ "headers": { "Content-Type": "a" } }),
            ".headers.Content-Type",
        ),
        (json!({ "headers": { "X-Own": "a" } }), ".headers.X-Own"),
        (json!({ "headers": { "X-A": "{{ a" } }), ".headers.X-A"),
        (json!({ "method": "GET" }), ".method"),
        (json!({ "contentType": "json" }), ".contentType"),
        (json!({ "nosuch": 1 }), ".nosuch"),
    ] {
        let body = json!({
            "url": crate::profiles::URL, "headers": { "x-own": "b" }, "transformation": transformation,
        });
        let answer = server.post(ENDPOINTS, body).await;
        assert_invalid(&answer, &[&place(rest)]);
    }
    let answer = with(json!({ "transformation": { "body": "a\n{{ payload.a | nosuch }}" } }));
    let answer = server.post(ENDPOINTS, answer).await;
    assert!(answer.text.contains("line 2: "), "{}", answer.text);

    // Against the rest of the endpoint, whichever of the two changes.
    let headers = json!({ "headers": { "X-GitHub-Event": "a", "X-One": "b" } });
    let endpoint = made(&server, json!({ "transformation": headers })).await;
    for (body, places) in [
        (
            json!({ "headers": { "x-one": "c" } }),
            ["body.headers.x-one"],
        ),
        (
            json!({ "authHeaders": { "x-one": "c" } }),
            ["body.authHeaders.x-one"],
        ),
        (
            json!({ "profile": "github", "secret": "0123456789abcdef" }),
            ["body.profile"],
        ),
        (
            json!({ "profile": "ovcode", "secret": "0123456789abcdef" }),
            ["body.profile"],
        ),
    ] {
        let answer = server.patch(&path(&endpoint, ""), body).await;
        assert_invalid(&answer, &places);
    }
    // The wire of another system is not its customers' to change.
    let other = json!({ "profile": "ovcode", "transformation": { "method": "PUT" } });
    let answer = server.post(ENDPOINTS, with(other)).await;
    assert_eq!(answer.status, 422);
    assert!(answer.text.contains("not_offered"), "{}", answer.text);
    let profile = server.get("/api/v1/profile/ovcode").await.expect(200);
    assert_eq!(profile["transformations"], false);

    // The contract's own are programs.
    let answer = server.get(&path(&endpoint, "/transformation")).await;
    assert_error(&answer, 404, "not_offered");
    assert!(
        answer.text.contains("the field `transformation`"),
        "{}",
        answer.text
    );
}

#[actix_web::test]
async fn the_operator_turns_them_off() {
    let receiver = Receiver::ok().await;
    let server = started().await;
    let endpoint = with_transformation(&server, &receiver, json!({ "body": "{\"a\": 1}" })).await;
    let server = server
        .restart_with(|config| config.delivery.transformations = false)
        .await;
    let message = server.publish("a", json!({ "b": 1 })).await;
    server.settle().await;
    let attempt = server.attempts(&message).await[0].to_string();
    assert!(
        attempt.contains("does not offer transformations"),
        "{attempt}"
    );
    assert_eq!(receiver.count(), 0);
    let own = path(&endpoint, "");
    let other = json!({ "transformation": { "body": "{}" } });
    let answer = server.patch(&own, other).await;
    assert_invalid(&answer, &["body.transformation"]);
    // Changes that do not speak of it go on, and without it the message arrives as it was published.
    server
        .patch(&own, json!({ "description": "d" }))
        .await
        .expect(200);
    server
        .patch(&own, json!({ "transformation": null }))
        .await
        .expect(200);
    server.advance_to_next_due().await;
    server.settle().await;
    assert_eq!(receiver.requests()[0].body, b"{\"b\":1}"[..]);
}

#[actix_web::test]
async fn a_preview_tries_others_on_the_last_messages_and_sends_nothing() {
    let receiver = Receiver::ok().await;
    let mut server = started().await;
    server.leftovers_are_fine();
    let body = json!({
        "url": receiver.url(), "eventTypes": ["a"], "disabled": true,
        "headers": { "X-Api-Key": "hunter2" },
    });
    let endpoint = server.post(ENDPOINTS, body).await.expect(201);
    for number in 1..=5 {
        server.publish("a", json!({ "n": number })).await;
        server.publish("b", json!({ "n": number })).await;
    }
    let text = json!({ "body": "n={{ payload.n }}", "contentType": "text/plain" });
    let previewed = preview(&server, &endpoint, json!({ "transformation": text })).await;
    let bodies: Vec<&Value> = previewed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["request"]["body"])
        .collect();
    assert_eq!(bodies, [&json!("n=5"), &json!("n=4"), &json!("n=3")]);
    assert!(!previewed.to_string().contains("hunter2"));
    let plain = preview(&server, &endpoint, json!({ "transformation": null })).await;
    assert_eq!(plain["data"][0]["request"]["body"], "{\"n\":5}");
    let github = json!({ "profile": "github", "transformation": { "body": "{}" } });
    let github = preview(&server, &endpoint, github).await;
    // Its own secret is none of that profile's.
    assert_eq!(github["data"][0]["error"]["key"], Value::Null);
    for (body, places) in [
        (
            json!({ "transformation": { "body": "{{ a" } }),
            ["body.transformation.body"],
        ),
        (json!({ "messageIds": [] }), ["body.messageIds"]),
        (json!({ "profile": "nosuch" }), ["body.profile"]),
        (json!({ "nosuch": 1 }), ["body.nosuch"]),
    ] {
        let answer = server
            .post(&path(&endpoint, "/transformation-preview"), body)
            .await;
        assert_invalid(&answer, &places);
    }
    assert_eq!(receiver.count(), 0);
    assert_eq!(
        read(&server, &endpoint).await["transformation"],
        Value::Null
    );
}

#[actix_web::test]
async fn starting_points_can_be_saved_and_thin_ones_lead_to_the_message() {
    let receiver = Receiver::ok().await;
    let server = started().await;
    let points = server.get(STARTING_POINTS).await.expect(200);
    let points = points["data"].as_array().unwrap();
    let names: Vec<&str> = points
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "cloudevents-binary",
            "cloudevents-structured",
            "plain-text",
            "thin",
            "to-discord",
            "to-slack",
            "to-teams",
        ]
    );
    for point in points {
        let body = json!({ "url": receiver.url(), "transformation": point["transformation"] });
        let saved = server.post(ENDPOINTS, body).await.expect(201);
        assert_eq!(saved["transformation"], point["transformation"]);
        assert!(point["description"].as_str().unwrap().len() > 10);
    }
    let message = server.publish("a", json!({ "b": "c" })).await;
    server.settle().await;
    let requests = receiver.requests();
    assert_eq!(requests.len(), names.len());
    let thin = requests
        .iter()
        .filter_map(|one| serde_json::from_slice::<Value>(&one.body).ok())
        .find(|body| body.get("link").is_some())
        .expect("one is thin");
    assert_eq!(thin["id"], message);
    let link = thin["link"].as_str().unwrap();
    let path = link.find("/api/v1/app/").map(|at| &link[at..]).unwrap();
    let read = server.call(Method::GET, path, &[], None).await.expect(200);
    assert_eq!(read["payload"], json!({ "b": "c" }));
}
