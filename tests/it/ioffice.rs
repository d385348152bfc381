//! postrider as iOFFICE: what "How to set up webhooks in iOFFICE" says, with the settings and the
//! event types of `examples/ioffice`.

use serde_json::{Value, json};

use super::support::{Example, Receiver, Server, assert_invalid};

const SECRET: &str = "mySecret";

/// The document's own: HMAC-SHA256 of `CREATE:Agreement:25` with the key `mySecret`.
const SIGNATURE: &str = "6206491ddab1218e7d6a9c8b3fbaa43da7858ee678dc6cd53a4dcabf0216568e";

const PAYLOAD: &str = r#"{"eventType":"CREATE","entityType":"Agreement","entityId":25}"#;

async fn webhook(server: &Server, url: &str, more: Value) -> String {
    let mut body = json!({ "url": url, "secret": SECRET });
    let more = more.as_object().expect("an object").clone();
    body.as_object_mut().expect("an object").extend(more);
    server.endpoint_of("site", body).await
}

/// Publishes a change of an entity, as the platform would: the kind of entity is the channel.
async fn change(server: &Server, event: &str, entity: &str, id: &str) -> String {
    let payload = format!(r#"{{"eventType":"{event}","entityType":"{entity}","entityId":{id}}}"#);
    let body = format!(r#"{{"eventType":"{event}","channels":["{entity}"],"payload":{payload}}}"#);
    let method = awc::http::Method::POST;
    let answer = server
        .call(method, "/api/v1/app/site/msg", &[], Some(body))
        .await;
    answer.expect(202)["id"].as_str().expect("an id").to_owned()
}

#[actix_web::test]
async fn a_post_has_the_json_body_the_path_and_the_documents_signature() {
    let example = Example::named("ioffice");
    let server = example.start().await;
    let receiver = Receiver::ok().await;
    webhook(&server, &receiver.url(), json!({})).await;
    let message = server.publish_text("site", "CREATE", PAYLOAD).await;
    server.settle().await;
    let request = &receiver.requests()[0];
    assert_eq!(request.method, "POST");
    assert_eq!(request.target, "/hook/CREATE/Agreement/25");
    assert_eq!(String::from_utf8_lossy(&request.body), PAYLOAD);
    assert_eq!(request.header("x-ioffice-signature"), Some(SIGNATURE));
    assert_eq!(request.header("webhook-id"), Some(message.as_str()));
    let shipped: Value = serde_json::from_str(example.payload("CREATE")).unwrap();
    assert_eq!(shipped, serde_json::from_str::<Value>(PAYLOAD).unwrap());
}

#[actix_web::test]
async fn a_get_has_no_body_and_the_same_path_and_signature() {
    let server = Example::named("ioffice").start().await;
    let receiver = Receiver::ok().await;
    webhook(&server, &receiver.url(), json!({ "method": "GET" })).await;
    let message = server.publish_text("site", "CREATE", PAYLOAD).await;
    server.settle().await;
    let request = &receiver.requests()[0];
    assert_eq!(request.method, "GET");
    assert_eq!(request.target, "/hook/CREATE/Agreement/25");
    assert!(request.body.is_empty());
    assert_eq!(request.header("content-type"), None);
    assert_eq!(request.header("content-length"), None);
    assert_eq!(request.header("x-ioffice-signature"), Some(SIGNATURE));
    let attempt = &server.attempts_in("site", &message).await[0];
    assert_eq!(attempt["request"]["method"], "GET");
    let url = format!("{}/CREATE/Agreement/25", receiver.url());
    assert_eq!(attempt["url"], url);
}

#[actix_web::test]
async fn values_are_segments_of_the_path_and_a_query_survives() {
    let server = Example::named("ioffice").start().await;
    let receiver = Receiver::ok().await;
    let url = format!("{}/?key=a%20b&x=/y", receiver.url());
    webhook(&server, &url, json!({ "method": "GET" })).await;
    let payload = r#"{"eventType":"UPDATE","entityType":"Floor Plan/2?#%","entityId":1.10}"#;
    server.publish_text("site", "UPDATE", payload).await;
    server.settle().await;
    assert_eq!(
        receiver.requests()[0].target,
        "/hook/UPDATE/Floor%20Plan%2F2%3F%23%25/1.10?key=a%20b&x=/y"
    );
}

#[actix_web::test]
async fn no_payload_leads_out_of_the_endpoints_path() {
    for entity in [r#""..""#, r#"".""#, r#""""#, "null", "{}", "[]"] {
        let mut server = Example::named("ioffice").start().await;
        server.leftovers_are_fine();
        let receiver = Receiver::ok().await;
        webhook(&server, &receiver.url(), json!({})).await;
        let payload = format!(r#"{{"eventType":"CREATE","entityType":{entity},"entityId":25}}"#);
        let message = server.publish_text("site", "CREATE", &payload).await;
        server.settle().await;
        assert_eq!(receiver.count(), 0, "{entity}");
        assert_eq!(
            server.outcomes_in("site", &message).await,
            ["not_sendable"],
            "{entity}"
        );
    }
}

#[actix_web::test]
async fn everything_is_sent_unless_events_and_entities_are_selected() {
    let server = Example::named("ioffice").start().await;
    let everything = Receiver::ok().await;
    let selected = Receiver::ok().await;
    webhook(&server, &everything.url(), json!({})).await;
    let selection = json!({ "eventTypes": ["CREATE"], "channels": ["Agreement", "Asset"] });
    webhook(&server, &selected.url(), selection).await;
    change(&server, "CREATE", "Agreement", "1").await;
    change(&server, "CREATE", "Building", "2").await;
    change(&server, "DELETE", "Agreement", "3").await;
    change(&server, "ARCHIVE", "Asset", "4").await;
    server.settle().await;
    assert_eq!(everything.count(), 4);
    let targets: Vec<String> = selected
        .requests()
        .into_iter()
        .map(|one| one.target)
        .collect();
    assert_eq!(targets, ["/hook/CREATE/Agreement/1"]);
}

#[actix_web::test]
async fn an_endpoint_takes_500_entities_and_not_one_more() {
    let server = Example::named("ioffice").start().await;
    server.application("site").await;
    let entities = |count: usize| (0..count).map(|n| format!("Entity{n}")).collect::<Vec<_>>();
    let body = |count| json!({ "url": "http://127.0.0.1:9/", "channels": entities(count) });
    let path = "/api/v1/app/site/endpoint";
    server.post(path, body(500)).await.expect(201);
    assert_invalid(&server.post(path, body(501)).await, &["body.channels"]);
}

#[actix_web::test]
async fn the_four_kinds_of_events_and_the_entities_can_be_offered_by_a_form() {
    let example = Example::named("ioffice");
    let server = example.start().await;
    assert_eq!(example.names(), ["CREATE", "UPDATE", "DELETE", "ARCHIVE"]);
    let body = json!({ "channels": ["Agreement", "Asset"] });
    server
        .patch("/api/v1/event-type/CREATE", body)
        .await
        .expect(200);
    let offered = server.get("/api/v1/channel").await.expect(200);
    let names: Vec<&str> = offered["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["Agreement", "Asset"]);
}

#[actix_web::test]
async fn the_method_is_get_or_post_and_nothing_else() {
    let server = Example::named("ioffice").start().await;
    server.application("site").await;
    let path = "/api/v1/app/site/endpoint";
    for method in ["PUT", "DELETE", "get", ""] {
        let body = json!({ "url": "http://127.0.0.1:9/", "method": method });
        assert_invalid(&server.post(path, body).await, &["body.method"]);
    }
    assert_eq!(server.get(path).await.expect(200)["data"], json!([]));
}
