//! Filters of endpoints: which messages they let pass on every way, what is said of them, and what they
//! may cost.

use awc::http::Method;
use serde_json::{Value, json};

use crate::profiles::{ENDPOINTS, URL, made, path, read, started, with};
use crate::support::{Receiver, Server, assert_error, assert_invalid};

const MESSAGES: &str = "/api/v1/app/app/msg";

fn large() -> Value {
    json!({ "data": { "amount": { "$gt": 100 } } })
}

async fn filtered(server: &Server, receiver: &Receiver, filter: Value) -> String {
    let body = json!({ "url": receiver.url(), "filter": filter });
    server.endpoint_of("app", body).await
}

async fn publish(server: &Server, payload: Value) -> Value {
    let body = json!({ "eventType": "a.b", "payload": payload });
    server.post(MESSAGES, body).await.expect(202)
}

#[actix_web::test]
async fn only_what_a_filter_takes_is_sent() {
    let (wanted, all) = (Receiver::ok().await, Receiver::ok().await);
    let server = started().await;
    filtered(&server, &wanted, large()).await;
    server.endpoint(&all).await;
    assert_eq!(
        publish(&server, json!({ "amount": 5 })).await["endpointsMatched"],
        1
    );
    assert_eq!(
        publish(&server, json!({ "amount": 100.5 })).await["endpointsMatched"],
        2
    );
    // The same in a batch, and a payload whose number no binary number has.
    let lines = r#"{"eventType":"a.b","payload":{"amount":1e2}}
        {"eventType":"a.b","payload":{"amount":100.00000000000000000001}}
        {"eventType":"a.b","payload":{"amount":"500"}}"#;
    let batch = format!("{MESSAGES}/batch");
    let answer = server
        .call(Method::POST, &batch, &[], Some(lines.to_owned()))
        .await;
    let answer = answer.expect(202);
    let matched = |at: usize| answer["data"][at]["message"]["endpointsMatched"].as_u64();
    assert_eq!(
        [matched(0), matched(1), matched(2)],
        [Some(1), Some(2), Some(1)]
    );
    server.settle().await;
    assert_eq!((wanted.count(), all.count()), (2, 5));
}

#[actix_web::test]
async fn a_filter_asks_for_every_part_of_a_message() {
    let receiver = Receiver::ok().await;
    let server = started().await;
    let filter = json!({
        "topic": { "$startsWith": "invoice." }, "id": { "$startsWith": "evt-" },
        "metadata": { "region": "eu" }, "tags": "vip", "channels": ["red"],
        "time": { "$gte": "2000-01-01T00:00:00Z" }, "data": { "paid": true },
    });
    filtered(&server, &receiver, filter).await;
    let message = json!({
        "eventType": "invoice.paid", "eventId": "evt-1", "metadata": { "region": "eu" },
        "tags": ["vip", "new"], "channels": ["blue", "red"], "payload": { "paid": true },
    });
    for (number, (field, value)) in [
        ("eventType", json!("invoice")),
        ("eventId", Value::Null),
        ("metadata", Value::Null),
        ("tags", json!(["new"])),
        ("channels", json!(["blue"])),
        ("payload", json!({ "paid": "true" })),
    ]
    .into_iter()
    .enumerate()
    {
        let mut other = message.clone();
        other["eventId"] = json!(format!("evt-other-{number}"));
        other[field] = value;
        let answer = server.post(MESSAGES, other).await.expect(202);
        assert_eq!(answer["endpointsMatched"], 0, "{field}");
    }
    let answer = server.post(MESSAGES, message).await.expect(202);
    assert_eq!(answer["endpointsMatched"], 1);
    server.settle().await;
    assert_eq!(receiver.count(), 1);
}

#[actix_web::test]
async fn a_filter_is_shown_as_it_was_given_and_cleared_by_null() {
    let server = started().await;
    let endpoint = made(&server, json!({ "filter": large() })).await;
    assert_eq!(endpoint["filter"], large());
    let own = path(&endpoint, "");
    let text = r#"{"url":"https://example.com/in","filter":{ "data":{"n":1.10 } }}"#;
    let answer = server
        .call(Method::PUT, &own, &[], Some(text.to_owned()))
        .await;
    assert!(
        answer.text.contains(r#""filter":{ "data":{"n":1.10 } }"#),
        "{}",
        answer.text
    );
    // A client that does not know it leaves it, in a PUT and in a PATCH.
    server.put(&own, json!({ "url": URL })).await.expect(200);
    server
        .patch(&own, json!({ "description": "d" }))
        .await
        .expect(200);
    let shown = read(&server, &endpoint).await;
    assert_eq!(shown["filter"], json!({ "data": { "n": 1.1 } }));
    // What is shown can be sent back.
    server.put(&own, shown.clone()).await.expect(200);
    for nothing in [Value::Null, json!({})] {
        server
            .patch(&own, json!({ "filter": large() }))
            .await
            .expect(200);
        let cleared = server
            .patch(&own, json!({ "filter": nothing }))
            .await
            .expect(200);
        assert_eq!(cleared["filter"], Value::Null);
        server
            .put(&own, with(json!({ "filter": large() })))
            .await
            .expect(200);
        let cleared = server
            .put(&own, with(json!({ "filter": nothing })))
            .await
            .expect(200);
        assert_eq!(cleared["filter"], Value::Null);
    }
    server
        .patch(&own, json!({ "filter": large() }))
        .await
        .expect(200);
    server.settle().await;
    let server = server.restart().await;
    assert_eq!(read(&server, &endpoint).await["filter"], large());
}

#[actix_web::test]
async fn what_is_no_filter_is_refused_at_its_place() {
    let server = started().await;
    for (filter, place) in [
        (json!([]), "body.filter"),
        (json!("x"), "body.filter"),
        (json!({ "dta": 1 }), "body.filter.dta"),
        (
            json!({ "data": { "a": { "$gt": null } } }),
            "body.filter.data.a.$gt",
        ),
        (
            json!({ "$or": [{ "data": 1 }, { "x": 1 }] }),
            "body.filter.$or.1.x",
        ),
        (
            json!({ "data": { "a": { "$regex": "x" } } }),
            "body.filter.data.a.$regex",
        ),
        (
            json!({ "data": { "a": "x".repeat(17_000) } }),
            "body.filter",
        ),
    ] {
        let answer = server
            .post(ENDPOINTS, with(json!({ "filter": filter })))
            .await;
        assert_invalid(&answer, &[place]);
    }
    // The platform's own endpoints choose by event types alone.
    let own = "/api/v1/operational-webhook/endpoint";
    let answer = server.post(own, with(json!({ "filter": large() }))).await;
    assert_invalid(&answer, &["body.filter"]);
    let own = server.post(own, with(json!({ "filter": null }))).await;
    own.expect(201);
}

#[actix_web::test]
async fn missing_messages_are_those_that_the_filter_takes_and_tests_pass_it() {
    let receiver = Receiver::ok().await;
    let server = started().await;
    for amount in [5, 500, 6, 600] {
        publish(&server, json!({ "amount": amount })).await;
    }
    server.settle().await;
    let endpoint = filtered(&server, &receiver, large()).await;
    let path = format!("{ENDPOINTS}/{endpoint}");
    let since = json!({ "since": "2000-01-01T00:00:00Z" });
    let job = server.post(&format!("{path}/replay-missing"), since).await;
    job.expect(202);
    let sent = receiver.received(2).await;
    server.settle().await;
    assert_eq!((sent.len(), receiver.count()), (2, 2));
    let test = json!({ "eventType": "svix.ping" });
    server
        .post(&format!("{path}/simulate"), test)
        .await
        .expect(202);
    server.settle().await;
    assert_eq!(receiver.count(), 3);
}

#[actix_web::test]
async fn a_filter_is_tried_on_a_logged_message_and_on_one_that_is_not_published() {
    let receiver = Receiver::ok().await;
    let server = started().await;
    let body = json!({ "url": receiver.url(), "filter": large(), "eventTypes": ["a.b"] });
    let endpoint = server.endpoint_of("app", body).await;
    let test = format!("{ENDPOINTS}/{endpoint}/filter/test");
    let message = publish(&server, json!({ "amount": 5 })).await;
    let id = message["id"].as_str().expect("an id");
    let found = server
        .post(&test, json!({ "messageId": id }))
        .await
        .expect(200);
    let expected = json!({
        "matches": false, "eventTypeMatches": true, "channelsMatch": true, "filterMatches": false,
        "reasons": [{
            "path": "data.amount", "operator": "$gt", "expected": 100, "found": 5,
            "message": "data.amount is 5, and must be more than 100",
        }],
    });
    assert_eq!(found, expected);
    // Another filter, and none.
    for filter in [json!({ "data": { "amount": 5 } }), json!({}), Value::Null] {
        let found = server
            .post(&test, json!({ "messageId": id, "filter": filter }))
            .await;
        assert_eq!(found.expect(200)["matches"], true, "{filter}");
    }
    let given = json!({ "eventType": "c", "payload": { "amount": 101 } });
    let found = server
        .post(&test, json!({ "message": given }))
        .await
        .expect(200);
    let expected = json!({
        "matches": false, "eventTypeMatches": false, "channelsMatch": true, "filterMatches": true,
        "reasons": [],
    });
    assert_eq!(found, expected);
    server.settle().await;
    assert_eq!(receiver.count(), 0, "nothing is sent");

    for (body, place) in [
        (json!({}), "body.messageId"),
        (json!({ "messageId": id, "message": given }), "body.message"),
        (
            json!({ "messageId": id, "filter": { "x": 1 } }),
            "body.filter.x",
        ),
        (
            json!({ "message": { "payload": {} } }),
            "body.message.eventType",
        ),
        (json!({ "messageId": id, "more": 1 }), "body.more"),
    ] {
        assert_invalid(&server.post(&test, body).await, &[place]);
    }
    let nobody = server.post(&test, json!({ "messageId": "nothing" })).await;
    assert_error(&nobody, 404, "not_found");
    server
        .delete(&format!("{MESSAGES}/{id}/content"))
        .await
        .expect(204);
    let gone = server.post(&test, json!({ "messageId": id })).await;
    assert_error(&gone, 409, "conflict");
}

/// The largest payload that a publish may have by default, and a filter that looks at all of it again and
/// again.
#[actix_web::test]
async fn a_publish_that_costs_too_much_names_the_filter_and_others_are_taken() {
    let mut server = started().await;
    server.leftovers_are_fine();
    let asks: Vec<Value> = (1..=200).map(|n| json!({ "list": n })).collect();
    let worst = json!({ "data": { "$or": asks } });
    let worst = made(&server, json!({ "filter": worst, "disabled": true })).await;
    made(&server, json!({ "filter": large(), "disabled": true })).await;
    let long = json!({ "list": vec![0; 100_000] });
    let body = json!({ "eventType": "a.b", "payload": long });
    let answer = server.post(MESSAGES, body.clone()).await;
    assert_invalid(&answer, &["body"]);
    let problem = &answer.json()["detail"][0];
    assert_eq!(problem["type"], "too_costly");
    let message = problem["msg"].as_str().expect("a sentence");
    assert!(
        message.contains(worst["id"].as_str().expect("an id")),
        "{message}"
    );
    // Of a batch the others are taken.
    let small = json!({ "eventType": "a.b", "payload": { "list": [1] } });
    let batch = server
        .post(&format!("{MESSAGES}/batch"), json!([body, small]))
        .await;
    let batch = batch.expect(202);
    assert_eq!(batch["data"][0]["status"], 422, "{batch}");
    assert_eq!(batch["data"][1]["message"]["endpointsMatched"], 1);
    // What costs more than a thread of requests has, and less than a publish may.
    let middling = json!({ "eventType": "a.b", "payload": { "list": vec![0; 200] } });
    let middling = server.post(MESSAGES, middling).await.expect(202);
    assert_eq!(middling["endpointsMatched"], 0);
}

#[actix_web::test]
async fn messages_have_metadata_and_headers_that_the_operator_allows() {
    let receiver = Receiver::ok().await;
    let server = Server::start_with(|config| {
        config.delivery.message_headers = vec!["Traceparent".to_owned(), "x-tenant".to_owned()];
        let ioffice = config.profiles.get_mut("ioffice").expect("it is shipped");
        let region = "{{ message.metadata.region }}".to_owned();
        ioffice.headers.insert("X-Region".to_owned(), region);
    })
    .await;
    server.application("app").await;
    let own = json!({ "url": receiver.url(), "headers": { "X-Tenant": "its own" } });
    server.endpoint_of("app", own).await;
    let message = json!({
        "eventType": "a", "payload": { "n": 1 }, "metadata": { "region": "eu" },
        "headers": { "TraceParent": "00-1" },
        "transformationsParams": { "headers": { "X-Tenant": "t", "content-type": "text/x" } },
    });
    let published = server.post(MESSAGES, message).await.expect(202);
    assert_eq!(published["metadata"], json!({ "region": "eu" }));
    let headers = json!({ "TraceParent": "00-1", "X-Tenant": "t" });
    assert_eq!(published["headers"], headers);
    server.settle().await;
    let sent = &receiver.received(1).await[0];
    assert_eq!(sent.header("traceparent"), Some("00-1"));
    assert_eq!(sent.header("content-type"), Some("text/x"));
    assert_eq!(
        sent.header("x-tenant"),
        Some("its own"),
        "the endpoint's own stays"
    );
    assert!(sent.header("webhook-signature").is_some());
    let id = published["id"].as_str().expect("an id");
    let read = server.get(&format!("{MESSAGES}/{id}")).await.expect(200);
    assert_eq!(
        (&read["headers"], &read["metadata"]["region"]),
        (&headers, &json!("eu"))
    );
    let plain = publish(&server, json!({})).await;
    assert_eq!((plain.get("headers"), plain.get("metadata")), (None, None));

    // After a restart it is all the same.
    server.settle().await;
    let server = server.restart().await;
    let again = server.get(&format!("{MESSAGES}/{id}")).await.expect(200);
    assert_eq!(again, read);

    for (name, kind) in [
        ("x-other", "not_offered"),
        ("host", "value_error"),
        ("webhook-id", "value_error"),
        ("Authorization", "value_error"),
        ("cookie", "value_error"),
        ("X-Api-Key", "value_error"),
        ("user-agent", "value_error"),
    ] {
        let body = json!({ "eventType": "a", "payload": {}, "headers": { name: "1" } });
        let answer = server.post(MESSAGES, body).await;
        assert_invalid(&answer, &[&format!("body.headers.{name}")]);
        assert_eq!(answer.json()["detail"][0]["type"], kind, "{name}");
    }
    let many: serde_json::Map<String, Value> =
        (0..51).map(|n| (format!("k{n}"), json!("v"))).collect();
    for metadata in [Value::Object(many), json!({ "k": "v".repeat(5000) })] {
        let body = json!({ "eventType": "a", "payload": {}, "metadata": metadata });
        assert_invalid(&server.post(MESSAGES, body).await, &["body.metadata"]);
    }
}
