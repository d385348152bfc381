//! Payloads held against the schemas of their event types, names that must be registered, and wildcards.

use awc::http::Method;
use postrider::domain::event_type::Strictness;
use serde_json::{Value, json};

use crate::support::{Receiver, Server, assert_invalid};

const EVENT_TYPES: &str = "/api/v1/event-type";
const MESSAGES: &str = "/api/v1/app/app/msg";
const ENDPOINTS: &str = "/api/v1/app/app/endpoint";
const URL: &str = "https://receiver.invalid/";

fn schemas() -> Value {
    json!({
        "1": {"required": ["old"]},
        "2": {"type": "object", "required": ["amount"], "properties": {"amount": {"type": "number"}}},
    })
}

async fn server_with(validate: &str) -> Server {
    let server = Server::start().await;
    server.application("app").await;
    let body = json!({"name": "invoice.paid", "description": "", "schemas": schemas(), "validate": validate});
    let made = server.post(EVENT_TYPES, body).await.expect(201);
    assert_eq!(made["validate"], validate);
    server
}

fn message(payload: Value) -> Value {
    json!({ "eventType": "invoice.paid", "payload": payload })
}

#[actix_web::test]
async fn a_payload_that_does_not_fit_is_refused_at_each_place() {
    let server = server_with("reject").await;
    server
        .post(MESSAGES, message(json!({"amount": 1})))
        .await
        .expect(202);
    let refused = server
        .post(MESSAGES, message(json!({"amount": "a secret"})))
        .await;
    assert_invalid(&refused, &["body.payload.amount"]);
    let detail = &refused.expect(422)["detail"][0];
    assert_eq!(detail["msg"], "must be a number");
    assert_eq!(detail["type"], "schema");
    let refused = server.post(MESSAGES, message(json!({}))).await;
    assert_invalid(&refused, &["body.payload.amount"]);

    let raw = |text: &str| {
        let params = json!({ "rawPayload": text });
        json!({ "eventType": "invoice.paid", "payload": {}, "transformationsParams": params })
    };
    server
        .post(MESSAGES, raw(" {\"amount\": 1}"))
        .await
        .expect(202);
    let place = "body.transformationsParams.rawPayload";
    assert_invalid(&server.post(MESSAGES, raw("<paid/>")).await, &[place]);
    let place = format!("{place}.amount");
    assert_invalid(&server.post(MESSAGES, raw("{}")).await, &[&place]);

    // A large payload is parsed elsewhere, with the same result.
    let large = json!({"amount": 1, "text": "t".repeat(100_000)});
    server.post(MESSAGES, message(large)).await.expect(202);
    let large = json!({"text": "t".repeat(100_000)});
    assert_invalid(
        &server.post(MESSAGES, message(large)).await,
        &["body.payload.amount"],
    );
}

#[actix_web::test]
async fn a_warning_is_told_to_the_publisher_and_counted() {
    let server = server_with("warn").await;
    let path = "/api/v1/event-type/invoice.paid";
    assert_eq!(server.get(path).await.expect(200)["schemaWarnings"], 0);
    let accepted = server
        .post(MESSAGES, message(json!({"amount": "x"})))
        .await
        .expect(202);
    let warning =
        json!({"loc": ["body", "payload", "amount"], "msg": "must be a number", "type": "schema"});
    assert_eq!(accepted["warnings"], json!([warning]));
    let fine = server
        .post(MESSAGES, message(json!({"amount": 1})))
        .await
        .expect(202);
    assert_eq!(fine["warnings"], Value::Null);
    assert_eq!(server.get(path).await.expect(200)["schemaWarnings"], 1);
    let shown = server
        .get(&format!("{MESSAGES}/{}", accepted["id"].as_str().unwrap()))
        .await;
    assert_eq!(
        shown.expect(200)["warnings"],
        Value::Null,
        "only the publisher is told"
    );
    let metrics = server.get("/metrics").await.text;
    for (outcome, count) in [("fits", 1), ("warned", 1), ("rejected", 0)] {
        let series = format!("postrider_schema_checks_total{{outcome=\"{outcome}\"}} {count}");
        assert!(metrics.contains(&series), "{series}");
    }
}

#[actix_web::test]
async fn each_message_of_a_batch_is_held_against_its_schema() {
    let server = server_with("warn").await;
    let reject = json!({"name": "strict", "description": "", "validate": "reject",
                        "schemas": {"1": {"required": ["id"]}}});
    server.post(EVENT_TYPES, reject).await.expect(201);
    let batch = json!([
        message(json!({"amount": "x"})),
        {"eventType": "strict", "payload": {}},
        {"eventType": "strict", "payload": {"id": 1}},
    ]);
    let send = async || {
        let path = format!("{MESSAGES}/batch");
        let headers = [("idempotency-key", "once")];
        server
            .call(Method::POST, &path, &headers, Some(batch.to_string()))
            .await
            .expect(202)
    };
    let answer = send().await;
    let data = &answer["data"];
    assert_eq!(
        data[0]["message"]["warnings"][0]["loc"],
        json!(["body", "payload", "amount"])
    );
    assert_eq!(data[1]["status"], 422);
    assert_eq!(
        data[1]["error"]["detail"][0]["loc"],
        json!(["body", "payload", "id"])
    );
    assert_eq!(data[2]["message"]["warnings"], Value::Null);
    assert_eq!(send().await, answer, "the same request again");
}

#[actix_web::test]
async fn the_schema_in_effect_follows_each_change() {
    let server = server_with("reject").await;
    let path = "/api/v1/event-type/invoice.paid";
    let publish = async |payload: Value| server.post(MESSAGES, message(payload)).await;
    assert_invalid(&publish(json!({"id": 1})).await, &["body.payload.amount"]);
    let newer = json!({"schemas": {"2": {"required": ["amount"]}, "10": {"required": ["id"]}}});
    server.patch(path, newer).await.expect(200);
    publish(json!({"id": 1})).await.expect(202);
    assert_invalid(&publish(json!({"amount": 1})).await, &["body.payload.id"]);
    // A client that does not know the field leaves it, also where it takes the schemas away.
    let replaced = server
        .put(path, json!({"description": "d"}))
        .await
        .expect(200);
    assert_eq!(
        (&replaced["validate"], &replaced["schemas"]),
        (&json!("reject"), &Value::Null)
    );
    publish(json!({})).await.expect(202);
    server
        .patch(path, json!({"schemas": schemas()}))
        .await
        .expect(200);
    assert_invalid(&publish(json!({})).await, &["body.payload.amount"]);
    let off = server
        .patch(path, json!({"validate": "off"}))
        .await
        .expect(200);
    server.put(path, off).await.expect(200);
    publish(json!({})).await.expect(202);
}

#[actix_web::test]
async fn a_schema_that_cannot_be_checked_against_is_refused_at_its_place() {
    let server = Server::start().await;
    for (schemas, place) in [
        (
            json!({"1": {"properties": {"a": {"$ref": "https://example.com/a"}}}}),
            "body.schemas.1.properties.a.$ref",
        ),
        (json!({"1": {"allOf": [{"$ref": "#"}]}}), "body.schemas.1"),
        (
            json!({"1": {"properties": {"a": {"pattern": "(?=b)a"}}}}),
            "body.schemas.1.properties.a.pattern",
        ),
        (
            json!({"1": {"$comment": "x".repeat(70_000)}}),
            "body.schemas.1",
        ),
        (json!({}), "body.validate"),
    ] {
        let body =
            json!({"name": "a", "description": "", "schemas": schemas, "validate": "reject"});
        assert_invalid(&server.post(EVENT_TYPES, body).await, &[place]);
    }
    let body = json!({"name": "a", "description": "", "validate": "strict"});
    assert_invalid(&server.post(EVENT_TYPES, body).await, &["body.validate"]);
    // Where nothing is checked, a schema is documentation; it is looked at once it is to hold.
    let body = json!({"name": "a", "description": "", "schemas": {"1": {"pattern": "(?=b)a"}}});
    server.post(EVENT_TYPES, body).await.expect(201);
    let patched = server
        .patch("/api/v1/event-type/a", json!({"validate": "warn"}))
        .await;
    assert_invalid(&patched, &["body.schemas.1.pattern"]);
}

#[actix_web::test]
async fn what_could_take_too_long_is_not_checked() {
    let server = Server::start().await;
    server.application("app").await;
    let next = json!({"properties": {"a": {"$ref": "#/$defs/n"}}, "required": ["x"]});
    let schema = json!({"$ref": "#/$defs/n", "$defs": {"n": {"anyOf": [next, next]}}});
    for validate in ["reject", "warn"] {
        let body = json!({"name": validate, "description": "", "schemas": {"1": schema}, "validate": validate});
        server.post(EVENT_TYPES, body).await.expect(201);
    }
    let mut payload = json!({});
    for _ in 0..60 {
        payload = json!({ "a": payload });
    }
    let refused = server
        .post(MESSAGES, json!({"eventType": "reject", "payload": payload}))
        .await;
    assert_invalid(&refused, &["body.payload"]);
    let problem = &refused.expect(422)["detail"][0];
    assert_eq!(problem["type"], "too_costly");
    assert!(
        problem["msg"]
            .as_str()
            .unwrap()
            .contains("event type reject"),
        "{problem}"
    );
    let accepted = server
        .post(MESSAGES, json!({"eventType": "warn", "payload": payload}))
        .await;
    assert_eq!(accepted.expect(202)["warnings"][0]["type"], "too_costly");
}

#[actix_web::test]
async fn event_types_can_be_required_to_be_registered() {
    let publish = json!({"eventType": "unknown", "payload": {}});
    let choose =
        json!({"url": URL, "eventTypes": ["known", "unknown", "other.*"], "disabled": true});
    for (strictness, status) in [
        (Strictness::Off, 202),
        (Strictness::Warn, 202),
        (Strictness::Reject, 422),
    ] {
        let server = Server::start_with(|config| {
            config.limits.require_known_event_types = strictness;
        });
        let server = server.await;
        server.application("app").await;
        server
            .post(EVENT_TYPES, json!({"name": "known", "description": ""}))
            .await
            .expect(201);
        let answer = server.post(MESSAGES, publish.clone()).await;
        assert_eq!(answer.status, status, "{strictness:?}");
        match strictness {
            Strictness::Off => assert_eq!(answer.expect(202)["warnings"], Value::Null),
            Strictness::Warn => {
                let warning = json!({"loc": ["body", "eventType"], "type": "value_error",
                                     "msg": "the event type unknown is not registered"});
                assert_eq!(answer.expect(202)["warnings"], json!([warning]));
            }
            Strictness::Reject => assert_invalid(&answer, &["body.eventType"]),
        }
        let made = server.post(ENDPOINTS, choose.clone()).await;
        match strictness {
            Strictness::Reject => assert_invalid(&made, &["body.eventTypes.1"]),
            _ => assert_eq!(
                made.expect(201)["warnings"],
                json!([
                    "eventTypes[1]: unknown is not registered",
                    "eventTypes[2]: other.* takes no event type that is registered",
                ])
            ),
        }
    }
}

#[actix_web::test]
async fn an_endpoint_with_wildcards_gets_what_they_take() {
    let receiver = Receiver::answering([200]).await;
    let server = Server::start().await;
    server.application("app").await;
    let wanted = json!(["invoice.**", "*.created", "order.*.paid"]);
    let body = json!({ "url": receiver.url(), "eventTypes": wanted });
    let made = server.post(ENDPOINTS, body).await.expect(201);
    assert_eq!(
        (&made["eventTypes"], &made["filterTypes"]),
        (&wanted, &wanted)
    );
    for (name, matched) in [
        ("invoice", 0),
        ("invoice.paid", 1),
        ("invoice.item.added", 1),
        ("user.created", 1),
        ("eu.user.created", 0),
        ("order.7.paid", 1),
        ("order.paid", 0),
    ] {
        let accepted = server
            .post(MESSAGES, json!({"eventType": name, "payload": {}}))
            .await;
        assert_eq!(accepted.expect(202)["endpointsMatched"], matched, "{name}");
        let path = format!("{MESSAGES}/precheck/active");
        let precheck = server.post(&path, json!({ "eventType": name })).await;
        assert_eq!(precheck.expect(200)["active"], matched == 1, "{name}");
    }
    server.settle().await;
    for (names, place) in [
        (json!(["a", "inv*"]), "body.eventTypes.1"),
        (json!(["**.a"]), "body.eventTypes.0"),
        (json!(["a.b c"]), "body.eventTypes.0"),
    ] {
        let refused = server
            .post(ENDPOINTS, json!({ "url": URL, "eventTypes": names }))
            .await;
        assert_invalid(&refused, &[place]);
    }
}

#[actix_web::test]
async fn a_wildcard_does_not_take_what_has_feature_flags() {
    let mut server = Server::start().await;
    server.leftovers_are_fine();
    server.application("app").await;
    let beta = json!({"name": "invoice.beta", "description": "", "featureFlags": ["beta"]});
    server.post(EVENT_TYPES, beta).await.expect(201);
    let endpoint = async |names: Value| {
        let body = json!({ "url": URL, "eventTypes": names, "disabled": true });
        server.post(ENDPOINTS, body).await.expect(201)
    };
    let wild = endpoint(json!(["invoice.*"])).await;
    let warning = "eventTypes[0]: invoice.* does not take invoice.beta, which has feature flags: add its name";
    assert_eq!(wild["warnings"], json!([warning]));
    let matched = async || {
        let message = json!({"eventType": "invoice.beta", "payload": {}});
        server.post(MESSAGES, message).await.expect(202)["endpointsMatched"].clone()
    };
    assert_eq!(matched().await, 0);
    endpoint(json!(["invoice.*", "invoice.beta"])).await;
    endpoint(Value::Null).await;
    assert_eq!(matched().await, 2, "by its name, and without a list");
    let open = json!({"featureFlags": null});
    server
        .patch("/api/v1/event-type/invoice.beta", open)
        .await
        .expect(200);
    assert_eq!(matched().await, 3);
}
