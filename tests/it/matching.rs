//! Which endpoints a message is for: those that there are at its commit, and how many is said.

use std::collections::BTreeMap;
use std::sync::Arc;

use awc::http::Method;
use postrider::domain::cost::Budget;
use postrider::domain::filter::{Facts, Parts};
use postrider::domain::message::{Message, Origin};
use postrider::rules::matching;
use postrider::store::{Answered, NewBatch, NewMessage, Shown};
use serde_json::{Value, json};

use crate::support::{Receiver, Server, assert_error};

const MESSAGES: &str = "/api/v1/app/app/msg";
const URL: &str = "https://receiver.invalid/";

fn message(event_type: &str) -> Value {
    json!({ "eventType": event_type, "payload": {} })
}

#[actix_web::test]
async fn a_publish_says_how_many_endpoints_it_matched() {
    let mut server = Server::start().await;
    // What is for disabled endpoints is held.
    server.leftovers_are_fine();
    server.application("app").await;
    let publish = async |event_type: &str, key: &str| {
        let headers = [("idempotency-key", key)];
        let body = message(event_type).to_string();
        server
            .call(Method::POST, MESSAGES, &headers, Some(body))
            .await
            .expect(202)
    };
    assert_eq!(publish("a", "1").await["endpointsMatched"], 0);
    let disabled = json!({ "url": URL, "disabled": true });
    let disabled = server.endpoint_of("app", disabled).await;
    let only_b = json!({ "url": URL, "eventTypes": ["b"], "disabled": true });
    server.endpoint_of("app", only_b).await;
    let of_a = publish("a", "2").await;
    assert_eq!(of_a["endpointsMatched"], 1);
    assert_eq!(publish("b", "3").await["endpointsMatched"], 2);

    let lines = format!("{}\n{}\n{{}}\n", message("a"), message("b"));
    let batch = async || {
        let path = format!("{MESSAGES}/batch");
        let headers = [("idempotency-key", "4")];
        let answer = server.call(Method::POST, &path, &headers, Some(lines.clone()));
        answer.await.expect(202)
    };
    let of_batch = batch().await;
    let matched = |at: usize| &of_batch["data"][at]["message"]["endpointsMatched"];
    assert_eq!((matched(0), matched(1)), (&json!(1), &json!(2)));
    assert_eq!(of_batch["data"][2]["status"], 422);

    // The same request again has the same answer, whatever has changed since, and after a restart.
    server
        .endpoint_of("app", json!({ "url": URL, "disabled": true }))
        .await;
    assert_eq!(publish("a", "2").await, of_a);
    assert_eq!(batch().await, of_batch);
    assert_eq!(publish("a", "5").await["endpointsMatched"], 2);
    let precheck = format!("{MESSAGES}/precheck/active");
    let precheck = server.post(&precheck, json!({ "eventType": "b" }));
    assert_eq!(
        precheck.await.expect(200),
        json!({ "active": false, "endpointsMatched": 3 })
    );
    let path = format!("{MESSAGES}/{}", of_a["id"].as_str().expect("an id"));
    let read = server.get(&path).await.expect(200);
    assert_eq!(
        read.get("endpointsMatched"),
        None,
        "its reader may not know of all"
    );

    server.set_disabled("app", &disabled, false).await;
    for (kind, status) in [("simulate", 202), ("send-example", 200)] {
        let path = format!("/api/v1/app/app/endpoint/{disabled}/{kind}");
        let body = json!({ "eventType": "svix.ping" });
        let test = server.post(&path, body).await.expect(status);
        assert_eq!(test["endpointsMatched"], 1, "{kind}");
    }
}

/// The numbers that messages have after a restart are read from disk.
#[actix_web::test]
async fn a_repeated_publish_has_the_same_number_after_a_restart() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    server.endpoint(&receiver).await;
    let publish = async |server: &Server| {
        let headers = [("idempotency-key", "k")];
        let body = Some(message("a").to_string());
        let answer = server.call(Method::POST, MESSAGES, &headers, body).await;
        answer.expect(202)
    };
    let first = publish(&server).await;
    assert_eq!(first["endpointsMatched"], 1);
    server.settle().await;
    let server = server.restart().await;
    server.endpoint(&receiver).await;
    assert_eq!(publish(&server).await, first);
}

/// A message as the API makes one, matched against the endpoints that there are now.
fn matched(server: &Server) -> NewMessage {
    let catalog = server.store().catalog();
    let organisation = catalog.organisations().next().expect("the default one").id;
    let entry = catalog.application(organisation, "app");
    let application = entry.expect("it was made").application.id;
    let metadata = BTreeMap::new();
    let facts = Facts::new(Parts {
        event_type: "a",
        event_id: None,
        channels: &[],
        tags: &[],
        metadata: &metadata,
        accepted_at: server.now(),
        payload: "{}",
        is_raw: false,
    });
    let matched = matching::matched(&catalog, application, &facts, &mut Budget::of_publish());
    let matched = matched.expect("nothing is archived");
    NewMessage {
        organisation,
        application,
        event_type: "a".to_owned(),
        event_id: None,
        channels: Vec::new(),
        payload: "{}".into(),
        is_raw: false,
        content_type: None,
        lanes: matched.lanes,
        matched_as_of: Some(matched.as_of),
        once: None,
        origin: Origin::Published,
        tags: Vec::new(),
        deliver_at: None,
        expires_at: None,
        metadata: BTreeMap::new(),
        headers: BTreeMap::new(),
    }
}

/// The answer to a batch, where nobody reads it.
fn nothing() -> Shown {
    Shown {
        answered: Answered {
            status: 202,
            body: Vec::new(),
        },
        without_payloads: None,
    }
}

async fn accept(server: &Server, message: NewMessage, in_batch: bool) -> Arc<Message> {
    if !in_batch {
        let accepted = server.store().accept_message(message).await;
        return accepted.expect("it is accepted");
    }
    let (sender, receiver) = std::sync::mpsc::channel();
    let show = move |results: Vec<postrider::error::Result<Arc<Message>>>| {
        drop(sender.send(results));
        Ok(nothing())
    };
    let batch = NewBatch::new(vec![message], None, Box::new(show));
    server.store().accept_batch(batch).await.expect("an answer");
    let results = receiver.recv().expect("it was shown").into_iter();
    let accepted = results.last().expect("one message");
    accepted.expect("it is accepted")
}

#[actix_web::test]
async fn what_changes_between_matching_and_commit_counts() {
    let held =
        |event_type: &str| json!({ "url": URL, "eventTypes": [event_type], "disabled": true });
    for in_batch in [false, true] {
        let mut server = Server::start().await;
        server.leftovers_are_fine();
        server.application("app").await;
        let one = server.endpoint_of("app", held("a")).await;
        let other = server.endpoint_of("app", held("b")).await;
        let path = |endpoint: &str| format!("/api/v1/app/app/endpoint/{endpoint}");
        let expect = async |new: NewMessage, expected: &[&str], what: &str| {
            let message = accept(&server, new, in_batch).await;
            let matched = message.endpoints_matched;
            assert_eq!(matched, u32::try_from(expected.len()).ok(), "{what}");
            let deliveries = server
                .get(&format!("{MESSAGES}/{}/endpoint", message.id))
                .await;
            let deliveries = deliveries.expect(200);
            let data = deliveries["data"].as_array().expect("a list");
            let mut found: Vec<&str> = data.iter().filter_map(|one| one["id"].as_str()).collect();
            let mut expected = expected.to_vec();
            found.sort_unstable();
            expected.sort_unstable();
            assert_eq!(found, expected, "{what}");
        };
        expect(matched(&server), &[&one], "nothing changes").await;

        let new = matched(&server);
        let another = server.endpoint_of("app", held("a")).await;
        expect(new, &[&one, &another], "an endpoint is made").await;

        let new = matched(&server);
        server.delete(&path(&one)).await.expect(204);
        expect(new, &[&another], "an endpoint is deleted").await;

        let new = matched(&server);
        let filter = json!({ "eventTypes": ["a", "b"] });
        server.patch(&path(&other), filter).await.expect(200);
        expect(new, &[&another, &other], "a filter takes more").await;

        let new = matched(&server);
        let filter = json!({ "eventTypes": ["b"] });
        server.patch(&path(&another), filter).await.expect(200);
        expect(new, &[&other], "a filter takes less").await;

        let new = matched(&server);
        let filter = json!({ "filter": { "data": { "n": 1 } } });
        server.patch(&path(&other), filter).await.expect(200);
        expect(new, &[], "what is in a message is asked for").await;

        let new = matched(&server);
        let filter = json!({ "filter": { "data": { "n": { "$exist": false } } } });
        server.patch(&path(&other), filter).await.expect(200);
        expect(new, &[&other], "and asked for no more").await;

        // A filter that costs more than the writer has for a message.
        let asks: Vec<Value> = (0..200).map(|n| json!({ "list": n + 1 })).collect();
        let costly = json!({ "filter": { "data": { "$or": asks } } });
        let new = NewMessage {
            payload: format!("{{\"list\":[{}0]}}", "0,".repeat(1000)).into(),
            ..matched(&server)
        };
        server.patch(&path(&another), costly).await.expect(200);
        let types = json!({ "eventTypes": ["a"] });
        server.patch(&path(&another), types).await.expect(200);
        let refused = match in_batch {
            false => server.store().accept_message(new).await.err(),
            true => {
                let show = |_: Vec<_>| panic!("there is nothing to show");
                let batch = NewBatch::new(vec![new], None, Box::new(show));
                server.store().accept_batch(batch).await.err()
            }
        };
        let refused = refused.expect("it is asked at the commit").to_string();
        assert!(refused.contains("publish it again"), "{refused}");
        let types = json!({ "eventTypes": ["b"] });
        server.patch(&path(&another), types).await.expect(200);

        let new = matched(&server);
        server.application("elsewhere").await;
        server.endpoint_of("elsewhere", held("a")).await;
        expect(new, &[&other], "another application changes").await;

        let new = matched(&server);
        server.delete("/api/v1/app/app").await.expect(204);
        let refused = match in_batch {
            false => server.store().accept_message(new).await.err(),
            true => {
                let show = |_: Vec<_>| panic!("there is nothing to show");
                let batch = NewBatch::new(vec![new], None, Box::new(show));
                server.store().accept_batch(batch).await.err()
            }
        };
        let refused = refused.expect("there is no such application").to_string();
        assert!(refused.contains("application"), "{refused}");
        assert_error(&server.get(MESSAGES).await, 404, "not_found");
    }
}

#[actix_web::test]
async fn a_type_that_is_archived_between_matching_and_commit_takes_no_message() {
    let server = Server::start().await;
    server.application("app").await;
    let types = "/api/v1/event-type";
    let body = json!({ "name": "a", "description": "" });
    server.post(types, body).await.expect(201);
    let archive = async |archived: bool| {
        let body = json!({ "archived": archived });
        let path = format!("{types}/a");
        server.patch(&path, body).await.expect(200);
    };
    let archived = "body.eventType: the event type a is archived";
    let new = matched(&server);
    archive(true).await;
    let refused = server.store().accept_message(new).await;
    assert_eq!(refused.expect_err("it is archived").to_string(), archived);

    // Of a batch the others are accepted all the same.
    archive(false).await;
    let other = NewMessage {
        event_type: "b".to_owned(),
        ..matched(&server)
    };
    let messages = vec![matched(&server), other, matched(&server)];
    archive(true).await;
    let (sender, receiver) = std::sync::mpsc::channel();
    let show = move |results: Vec<postrider::error::Result<Arc<Message>>>| {
        let text = |result: postrider::error::Result<Arc<Message>>| match result {
            Ok(message) => message.event_type.clone(),
            Err(error) => error.to_string(),
        };
        drop(sender.send(results.into_iter().map(text).collect::<Vec<_>>()));
        Ok(nothing())
    };
    let batch = NewBatch::new(messages, None, Box::new(show));
    server.store().accept_batch(batch).await.expect("an answer");
    assert_eq!(receiver.recv().unwrap(), [archived, "b", archived]);
    let stored = server.get(MESSAGES).await.expect(200);
    assert_eq!(stored["data"].as_array().map(Vec::len), Some(1));
}
