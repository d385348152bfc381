//! Test events: what they send, to whom, how they are marked, and what is in their way.

use awc::http::Method;
use serde_json::{Value, json};

use crate::support::{
    Answer, Receiver, Server, as_read, assert_error, assert_invalid, keys, texts, wait_until,
};

/// Spelled as no serializer would.
const EXAMPLE: &str = "{ \"total\" : 1.10,\n  \"id\":12345678901234567890123, \"who\":{\"name\":\"\\u00c9va\",\"age\":1e1} }";

const APP: &str = "/api/v1/app/app";

/// A server with the event type `invoice.paid`, whose example is [`EXAMPLE`].
async fn server() -> Server {
    let server = Server::start().await;
    event_type(&server, "invoice.paid", &format!("\"example\":{EXAMPLE}")).await;
    server
}

/// Makes an event type with more fields, as text.
async fn event_type(server: &Server, name: &str, more: &str) {
    let body = format!(r#"{{"name":"{name}","description":"",{more}}}"#);
    let made = server
        .call(Method::POST, "/api/v1/event-type", &[], Some(body))
        .await;
    made.expect(201);
}

async fn send_example(server: &Server, endpoint: &str, event_type: &str) -> Answer {
    let path = format!("{APP}/endpoint/{endpoint}/send-example");
    server.post(&path, json!({ "eventType": event_type })).await
}

/// The body is text, whose bytes matter.
async fn simulate(server: &Server, endpoint: &str, body: &str) -> Answer {
    let path = format!("{APP}/endpoint/{endpoint}/simulate");
    server
        .call(Method::POST, &path, &[], Some(body.to_owned()))
        .await
}

fn id_of(message: &Value) -> String {
    message["id"].as_str().expect("an id").to_owned()
}

async fn nothing_is_sent(server: &Server) {
    server.settle().await;
    let list = server.get(&format!("{APP}/msg")).await.expect(200);
    assert_eq!(list["data"], json!([]));
}

#[actix_web::test]
async fn an_example_goes_to_the_one_endpoint_byte_for_byte_and_is_marked() {
    let (receiver, other) = (Receiver::ok().await, Receiver::ok().await);
    let server = server().await;
    // Its filter is for something else.
    let body = json!({ "url": receiver.url(), "eventTypes": ["other"], "channels": ["c"] });
    let endpoint = server.endpoint_of("app", body).await;
    server.endpoint(&other).await;

    let answer = send_example(&server, &endpoint, "invoice.paid").await;
    assert!(answer.text.contains(EXAMPLE), "{}", answer.text);
    let message = answer.expect(200);
    assert_eq!(
        keys(&message),
        [
            "channels",
            "contentType",
            "deliverAt",
            "endpointsMatched",
            "eventId",
            "eventType",
            "expiresAt",
            "id",
            "payload",
            "payloadDeleted",
            "rawPayload",
            "tags",
            "test",
            "timestamp"
        ]
    );
    assert_eq!(message["eventType"], "invoice.paid");
    assert_eq!(message["channels"], Value::Null);
    assert_eq!(message["test"], true);
    server.settle().await;
    assert_eq!(receiver.count(), 1);
    assert_eq!(receiver.requests()[0].body, EXAMPLE.as_bytes());
    let request = &receiver.requests()[0];
    assert_eq!(request.header("webhook-id"), message["id"].as_str());
    assert!(request.header("webhook-signature").is_some());
    assert_eq!(other.count(), 0);

    let id = id_of(&message);
    let attempts = server.attempts(&id).await;
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0]["test"], true);
    let read = server.get(&format!("{APP}/msg/{id}")).await.expect(200);
    assert_eq!(read, as_read(&message));
    // What is published is no test, before a restart and after.
    let published = server.publish("a", json!({})).await;
    server.settle().await;
    assert_eq!(server.attempts(&published).await[0]["test"], false);
    let server = server.restart().await;
    let list = server.get(&format!("{APP}/msg")).await.expect(200);
    let marks = |list: &Value| -> Vec<(String, bool)> {
        let items = list["data"].as_array().unwrap().iter();
        let mark = |item: &Value| (id_of(item), item["test"].as_bool().unwrap());
        items.map(mark).collect()
    };
    let mut found = marks(&list);
    found.sort();
    let mut expected = vec![(id.clone(), true), (published, false)];
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(server.attempts(&id).await, attempts);
}

#[actix_web::test]
async fn without_an_example_one_of_the_newest_schema_is_sent() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    let schemas =
        r#""schemas":{"9":{"examples":[{"v":9}]},"10":{"examples":[{"v" : 10.0},{"v":1}]}}"#;
    event_type(&server, "a.b", schemas).await;
    send_example(&server, &endpoint, "a.b").await.expect(200);
    server.settle().await;
    assert_eq!(receiver.requests()[0].body, br#"{"v" : 10.0}"#);
    let body = json!({ "eventType": "a.b", "exampleIndex": 1 });
    let path = format!("{APP}/endpoint/{endpoint}/send-example");
    // An SDK that takes nothing but 202 for a success.
    let older = [("user-agent", "svix-libs/1.24.0/python")];
    let sent = server.call(Method::POST, &path, &older, Some(body.to_string()));
    sent.await.expect(202);
    server.settle().await;
    assert_eq!(receiver.requests()[1].body, br#"{"v":1}"#);
    let example = json!({ "example": { "own": true } });
    server
        .patch("/api/v1/event-type/a.b", example)
        .await
        .expect(200);
    send_example(&server, &endpoint, "a.b").await.expect(200);
    server.settle().await;
    assert_eq!(receiver.requests()[2].body, br#"{"own":true}"#);
}

#[actix_web::test]
async fn a_test_is_retried_as_any_message_is() {
    let receiver = Receiver::answering([500, 500]).await;
    let server = server().await;
    let endpoint = server.endpoint(&receiver).await;
    let message = send_example(&server, &endpoint, "invoice.paid").await;
    let message = id_of(&message.expect(200));
    assert_eq!(server.advance_to_next_due().await.as_secs(), 5);
    assert_eq!(server.advance_to_next_due().await.as_secs(), 300);
    assert_eq!(
        server.outcomes(&message).await,
        ["http 500", "http 500", "delivered"]
    );
    let attempts = server.attempts(&message).await;
    assert!(attempts.iter().all(|attempt| attempt["test"] == true));
    let ids = receiver.requests();
    assert!(
        ids.iter()
            .all(|one| one.header("webhook-id") == Some(&message))
    );
}

#[actix_web::test]
async fn tests_do_not_count_into_the_time_from_publish_to_receipt() {
    let receiver = Receiver::ok().await;
    let server = server().await;
    let endpoint = server.endpoint(&receiver).await;
    let series = async |name: &str| {
        let text = server.get("/metrics").await.text;
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value.expect("it is there").trim().to_owned()
    };
    const RECEIPTS: &str = "postrider_publish_to_receipt_seconds_count";
    send_example(&server, &endpoint, "invoice.paid")
        .await
        .expect(200);
    server.settle().await;
    assert_eq!(series(RECEIPTS).await, "0");
    let delivered = "postrider_attempts_total{outcome=\"delivered\"}";
    assert_eq!(series(delivered).await, "1");
    server.publish("a", json!({})).await;
    server.settle().await;
    assert_eq!(series(RECEIPTS).await, "1");
}

#[actix_web::test]
async fn a_simulation_replaces_fields_and_leaves_the_bytes_of_the_others() {
    let receiver = Receiver::ok().await;
    let server = server().await;
    let endpoint = server.endpoint(&receiver).await;
    for (overrides, expected) in [
        ("", EXAMPLE.to_owned()),
        (r#","overrides":null"#, EXAMPLE.to_owned()),
        (r#","overrides":{}"#, EXAMPLE.to_owned()),
        (
            r#","overrides":{"total": 7.50}"#,
            EXAMPLE.replace("1.10", "7.50"),
        ),
        (
            r#","overrides":{"who":{"age":null,"name":"Zo\u00eb"}}"#,
            EXAMPLE.replace(r#""\u00c9va","age":1e1"#, r#""Zo\u00eb""#),
        ),
        (
            r#","overrides":{"more":[1.0]}"#,
            EXAMPLE.replace("1e1}", "1e1}, \"more\":[1.0]"),
        ),
    ] {
        let body = format!(r#"{{"eventType":"invoice.paid"{overrides}}}"#);
        let answer = simulate(&server, &endpoint, &body).await;
        assert!(
            answer.text.contains(&expected),
            "{overrides}: {}",
            answer.text
        );
        let message = answer.expect(202);
        assert_eq!(message["test"], true);
        server.settle().await;
        let requests = receiver.requests();
        let sent = requests.last().expect("a request");
        assert_eq!(String::from_utf8_lossy(&sent.body), expected);
        assert_eq!(server.attempts(&id_of(&message)).await[0]["test"], true);
    }
    // The example itself stays.
    let shown = server.get("/api/v1/event-type/invoice.paid").await;
    assert!(shown.text.contains(EXAMPLE), "{}", shown.text);
}

#[actix_web::test]
async fn a_simulation_comes_in_channels_and_with_an_id_of_its_own() {
    let receiver = Receiver::ok().await;
    let server = server().await;
    let endpoint = server.endpoint(&receiver).await;
    let body = r#"{"eventType":"invoice.paid","channels":["x","y","x"],"eventId":"e-1"}"#;
    let message = simulate(&server, &endpoint, body).await.expect(202);
    assert_eq!(message["channels"], json!(["x", "y"]));
    assert_eq!(message["eventId"], "e-1");
    let read = server.get(&format!("{APP}/msg/e-1")).await.expect(200);
    assert_eq!(read, as_read(&message));
    assert_error(&simulate(&server, &endpoint, body).await, 409, "conflict");
    server.settle().await;
    assert_eq!(receiver.count(), 1);
}

#[actix_web::test]
async fn an_idempotency_key_that_comes_again_sends_nothing_more() {
    let receiver = Receiver::ok().await;
    let server = server().await;
    let endpoint = server.endpoint(&receiver).await;
    for (call, status) in [("send-example", 200), ("simulate", 202)] {
        let path = format!("{APP}/endpoint/{endpoint}/{call}");
        let post = async |body: Value| {
            let headers = [("idempotency-key", "k")];
            server
                .call(Method::POST, &path, &headers, Some(body.to_string()))
                .await
        };
        let body = json!({ "eventType": "invoice.paid" });
        let before = receiver.count();
        let first = post(body.clone()).await.expect(status);
        // What is answered is what was sent, not what the example has become.
        let changed = json!({ "example": { "call": call } });
        server
            .patch("/api/v1/event-type/invoice.paid", changed)
            .await
            .expect(200);
        assert_eq!(post(body).await.expect(status), first);
        let other = post(json!({ "eventType": "invoice.paid", "payload": { "more": 1 } })).await;
        assert_error(&other, 409, "conflict");
        server.settle().await;
        assert_eq!(receiver.count(), before + 1);
    }
}

#[actix_web::test]
async fn what_is_in_the_way_of_a_test_is_named_and_nothing_is_sent() {
    let receiver = Receiver::ok().await;
    let server = server().await;
    let endpoint = server.endpoint(&receiver).await;
    event_type(&server, "bare", r#""schemas":{"1":{}}"#).await;
    event_type(&server, "old", r#""example":{},"archived":true"#).await;
    for (name, why) in [
        ("bare", "has no example"),
        ("old", "is archived"),
        ("unknown", "there is no event type unknown"),
        ("a b", "may contain only"),
    ] {
        let example = send_example(&server, &endpoint, name).await;
        assert_invalid(&example, &["body.eventType"]);
        assert!(example.text.contains(why), "{}", example.text);
        let body = format!(r#"{{"eventType":"{name}"}}"#);
        let simulated = simulate(&server, &endpoint, &body).await;
        assert_invalid(&simulated, &["body.eventType"]);
        assert!(simulated.text.contains(why), "{}", simulated.text);
    }
    let path = format!("{APP}/endpoint/{endpoint}/send-example");
    assert_invalid(&server.post(&path, json!({})).await, &["body.eventType"]);
    let number = server.post(&path, json!({ "eventType": 7 })).await;
    assert_invalid(&number, &["body.eventType"]);
    assert_invalid(
        &server.call(Method::POST, &path, &[], None).await,
        &["body"],
    );
    for (body, places) in [
        (
            r#"{"eventType":"invoice.paid","overrides":[]}"#,
            vec!["body.overrides"],
        ),
        (
            r#"{"eventType":"invoice.paid","overrides":{"total":"\udc00"}}"#,
            vec!["body.overrides"],
        ),
        (
            r#"{"eventType":"bare","overrides":1,"channels":["no channel"],"eventId":"no id"}"#,
            vec![
                "body.eventType",
                "body.overrides",
                "body.channels.0",
                "body.eventId",
            ],
        ),
        (
            r#"{"eventType":"invoice.paid","channels":["1","2","3","4","5","6"]}"#,
            vec!["body.channels"],
        ),
        (
            r#"{"eventType":"invoice.paid","channels":1}"#,
            vec!["body.channels"],
        ),
    ] {
        assert_invalid(&simulate(&server, &endpoint, body).await, &places);
    }
    for endpoint in ["nowhere", "ep_1srOrx2ZWZBpBUvZwXKQmoEYga2"] {
        let lost = send_example(&server, endpoint, "invoice.paid").await;
        assert_error(&lost, 404, "not_found");
    }
    nothing_is_sent(&server).await;
    assert_eq!(receiver.count(), 0);
}

#[actix_web::test]
async fn what_results_has_the_limits_of_a_payload() {
    let receiver = Receiver::ok().await;
    let server = Server::start_with(|config| config.limits.payload_bytes = 200).await;
    let endpoint = server.endpoint(&receiver).await;
    event_type(
        &server,
        "a",
        &format!(r#""example":{{"a":"{}"}}"#, "x".repeat(150)),
    )
    .await;
    let body = |bytes: usize| {
        format!(
            r#"{{"eventType":"a","overrides":{{"b":"{}"}}}}"#,
            "y".repeat(bytes)
        )
    };
    // The example has 158 bytes, and `,"b":""` 7.
    let over = simulate(&server, &endpoint, &body(36)).await;
    assert_invalid(&over, &["body.overrides"]);
    assert!(over.text.contains("201 bytes"), "{}", over.text);
    simulate(&server, &endpoint, &body(35)).await.expect(202);
    server.settle().await;
    assert_eq!(receiver.requests()[0].body.len(), 200);
    // An example that was registered when the limit was higher.
    let server = server
        .restart_with(|config| config.limits.payload_bytes = 100)
        .await;
    let long = send_example(&server, &endpoint, "a").await;
    assert_invalid(&long, &["body.eventType"]);
}

#[actix_web::test]
async fn a_disabled_endpoint_takes_no_tests() {
    let receiver = Receiver::ok().await;
    let server = server().await;
    let endpoint = server.endpoint(&receiver).await;
    server.set_disabled("app", &endpoint, true).await;
    let refused = send_example(&server, &endpoint, "invoice.paid").await;
    assert_error(&refused, 409, "conflict");
    assert!(
        refused.text.contains("endpoint is disabled"),
        "{}",
        refused.text
    );
    let refused = simulate(&server, &endpoint, r#"{"eventType":"invoice.paid"}"#).await;
    assert_error(&refused, 409, "conflict");
    nothing_is_sent(&server).await;
    server.set_disabled("app", &endpoint, false).await;
    send_example(&server, &endpoint, "invoice.paid")
        .await
        .expect(200);
    server.settle().await;
    assert_eq!(receiver.count(), 1);
}

#[actix_web::test]
async fn who_may_deal_with_the_endpoint_may_test_it() {
    let receiver = Receiver::ok().await;
    let server = server().await;
    let endpoint = server.endpoint(&receiver).await;
    server.application("other").await;
    let token = async |body: Value| {
        let made = server.post("/api/v1/token", body).await.expect(201);
        made["token"].as_str().expect("it is shown once").to_owned()
    };
    let application = |uid: &str| json!({"name": "t", "role": "application", "applicationId": uid});
    let own = token(application("app")).await;
    let stranger = token(application("other")).await;
    let publisher = token(json!({"name": "t", "role": "publisher"})).await;
    let admin = token(json!({"name": "t", "role": "webhook_admin"})).await;
    for call in ["send-example", "simulate"] {
        let path = format!("{APP}/endpoint/{endpoint}/{call}");
        let by = async |token: &str, body: Value| {
            let bearer = format!("Bearer {token}");
            let headers = [("authorization", bearer.as_str())];
            server
                .call(Method::POST, &path, &headers, Some(body.to_string()))
                .await
        };
        let body = json!({ "eventType": "invoice.paid" });
        for allowed in [&own, &admin] {
            let status = by(allowed, body.clone()).await.status;
            assert!([200, 202].contains(&status), "{status}");
        }
        // What is wrong with the body is not told to those who may not send it.
        for body in [body, json!({})] {
            assert_error(&by(&publisher, body.clone()).await, 403, "forbidden");
            assert_error(&by(&stranger, body).await, 404, "not_found");
        }
    }
    wait_until("the tests", || receiver.count() == 4).await;
    server.settle().await;
    let list = server.get(&format!("{APP}/msg")).await.expect(200);
    assert_eq!(texts(&list, "id").len(), 4);
}

#[actix_web::test]
async fn a_payload_of_ones_own_is_sent_in_place_of_the_example() {
    let receiver = Receiver::ok().await;
    let server = server().await;
    event_type(&server, "without.example", "\"groupName\":\"g\"").await;
    let endpoint = server.endpoint(&receiver).await;
    let payload = "{\"b\" : 1.10,  \"a\":null}";
    for name in ["invoice.paid", "without.example"] {
        let body = format!(r#"{{"eventType":"{name}","payload":{payload}}}"#);
        let message = simulate(&server, &endpoint, &body).await;
        assert!(message.text.contains(payload), "{}", message.text);
        assert_eq!(message.expect(202)["test"], true);
    }
    server.settle().await;
    let requests = receiver.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests.iter().all(|one| one.body == payload.as_bytes()));
    for (body, places) in [
        (
            r#"{"eventType":"invoice.paid","payload":{},"overrides":{}}"#,
            vec!["body.overrides"],
        ),
        (
            r#"{"eventType":"invoice.paid","payload":[1]}"#,
            vec!["body.payload"],
        ),
        (
            r#"{"eventType":"nothing","payload":{}}"#,
            vec!["body.eventType"],
        ),
        (r#"{"payload":{}}"#, vec!["body.eventType"]),
    ] {
        assert_invalid(&simulate(&server, &endpoint, body).await, &places);
    }
}
