//! Background jobs as they are seen: lists, who sees which, how many, and what usage counts.

use std::time::Duration;

use awc::http::Method;
use serde_json::{Value, json};

use crate::support::{
    Receiver, Server, assert_error, assert_invalid, assert_pages, keys, texts, wait_until,
};

const TASKS: &str = "/api/v1/background-task";

pub fn runs(server: &Server, id: &str) -> bool {
    let catalog = server.store().catalog();
    catalog
        .jobs()
        .any(|job| job.id.to_string() == id && job.is_running())
}

pub async fn status_of(server: &Server, id: &str) -> Value {
    server.get(&format!("{TASKS}/{id}")).await.expect(200)
}

/// The job once it is over.
pub async fn over(server: &Server, id: &str) -> Value {
    wait_until("the job to be over", || !runs(server, id)).await;
    status_of(server, id).await
}

async fn replay(server: &Server, application: &str, endpoint: &str, what: &str) -> String {
    let path = format!("/api/v1/app/{application}/endpoint/{endpoint}/{what}");
    let body = json!({ "since": "2024-01-01T00:00:00Z" });
    let begun = server.post(&path, body).await.expect(202);
    begun["id"].as_str().expect("an id").to_owned()
}

#[actix_web::test]
async fn jobs_are_listed_in_pages_and_by_filters() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    let mut ids = Vec::new();
    for what in ["recover", "replay-missing", "bulk-replay", "recover"] {
        let id = replay(&server, "app", &endpoint, what).await;
        over(&server, &id).await;
        ids.push(id);
        server.advance(Duration::from_secs(1));
    }
    server.set_disabled("app", &endpoint, true).await;
    ids.push(replay(&server, "app", &endpoint, "recover").await);
    let newest_first: Vec<String> = ids.iter().rev().cloned().collect();
    assert_pages(&server, TASKS, "id", &newest_first).await;
    assert_pages(&server, &format!("{TASKS}?order=ascending"), "id", &ids).await;
    for (query, expected) in [
        ("status=running", vec![4]),
        ("status=finished", vec![3, 2, 1, 0]),
        ("status=failed", vec![]),
        ("task=endpoint.recover", vec![4, 3, 0]),
        ("task=endpoint.bulk-replay", vec![2]),
        ("task=endpoint.recover&status=finished", vec![3, 0]),
        ("task=sdk.generate", vec![]),
    ] {
        let list = server.get(&format!("{TASKS}?{query}")).await.expect(200);
        let expected: Vec<String> = expected.iter().map(|at: &usize| ids[*at].clone()).collect();
        assert_eq!(texts(&list, "id"), expected, "{query}");
    }
    let wrong = server.get(&format!("{TASKS}?status=paused&task=x")).await;
    assert_invalid(&wrong, &["query.status", "query.task"]);
    for id in ["qtask_none", ids[0].trim_end_matches(char::is_alphanumeric)] {
        let path = format!("{TASKS}/{id}");
        assert_error(&server.get(&path).await, 404, "not_found");
    }
    let shown = status_of(&server, &ids[0]).await;
    assert_eq!(
        keys(&shown),
        [
            "applicationId",
            "applicationName",
            "createdAt",
            "data",
            "endpointId",
            "endpointUrl",
            "id",
            "progress",
            "reason",
            "state",
            "status",
            "task",
            "updatedAt"
        ]
    );
    assert_eq!(shown["endpointId"], endpoint);
}

#[actix_web::test]
async fn each_sees_the_jobs_that_concern_it() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let url = json!({ "url": receiver.url() });
    let mut endpoints = Vec::new();
    let mut jobs = Vec::new();
    for application in ["one", "two"] {
        let endpoint = server.endpoint_of(application, url.clone()).await;
        jobs.push(replay(&server, application, &endpoint, "recover").await);
        endpoints.push(endpoint);
    }
    let second = server.endpoint_of("one", url).await;
    jobs.push(replay(&server, "one", &second, "replay-missing").await);
    let counted = server
        .put("/api/v1/stats/usage/event-types", Value::Null)
        .await
        .expect(202);
    jobs.push(counted["id"].as_str().unwrap().to_owned());
    let user = json!({ "name": "t", "role": "webhook_user", "endpointIds": [second] });
    let application = json!({ "name": "t", "role": "application", "applicationId": "one" });
    let admin = json!({ "name": "t", "role": "webhook_admin" });
    for (token, seen) in [
        (admin, [true; 4]),
        (application, [true, false, true, false]),
        (user, [false, false, true, false]),
    ] {
        let token = server.post("/api/v1/token", token).await.expect(201);
        let token = token["token"].as_str().unwrap();
        let list = server.call_as(token, Method::GET, TASKS, None).await;
        let listed = texts(&list.expect(200), "id");
        assert_eq!(listed.len(), seen.iter().filter(|seen| **seen).count());
        for (id, seen) in jobs.iter().zip(seen) {
            assert_eq!(listed.contains(id), seen);
            let path = format!("{TASKS}/{id}");
            let shown = server.call_as(token, Method::GET, &path, None).await;
            assert_eq!(shown.status, if seen { 200 } else { 404 });
        }
    }
    let publisher = json!({ "name": "t", "role": "publisher" });
    let token = server.post("/api/v1/token", publisher).await.expect(201);
    let token = token["token"].as_str().unwrap();
    let refused = server.call_as(token, Method::GET, TASKS, None).await;
    assert_error(&refused, 403, "forbidden");
    // An endpoint that is gone takes what was sent to it out of a webhook user's sight.
    for id in jobs {
        over(&server, &id).await;
    }
}

#[actix_web::test]
async fn jobs_that_run_are_limited_and_those_over_are_forgotten() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    server.set_disabled("app", &endpoint, true).await;
    for _ in 0..100 {
        replay(&server, "app", &endpoint, "recover").await;
    }
    let path = format!("/api/v1/app/app/endpoint/{endpoint}/recover");
    let body = json!({ "since": "2024-01-01T00:00:00Z" });
    let refused = server.post(&path, body).await;
    assert_error(&refused, 429, "too_many");
    let list = server.get(&format!("{TASKS}?limit=1")).await.expect(200);
    let id = texts(&list, "id").remove(0);
    let cancel = format!("{TASKS}/{id}/cancel");
    server.post(&cancel, Value::Null).await.expect(200);
    replay(&server, "app", &endpoint, "recover").await;
    server.set_disabled("app", &endpoint, false).await;
    let count = || server.store().catalog().jobs().count();
    // All are over, and one of them was too many.
    wait_until("the oldest to be forgotten", || count() == 100).await;
    server.advance(Duration::from_secs(91 * 24 * 3600));
    wait_until("all to be forgotten", || count() == 0).await;
}

#[actix_web::test]
async fn a_customer_s_jobs_take_no_room_of_others_and_of_the_platform() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let held = json!({ "url": receiver.url(), "disabled": true });
    let begin = async |token: &str, application: &str, endpoint: &str| {
        let path = format!("/api/v1/app/{application}/endpoint/{endpoint}/recover");
        let body = json!({ "since": "2024-01-01T00:00:00Z" }).to_string();
        let call = server.call_as(token, Method::POST, &path, Some(body));
        call.await
    };
    let mut customers = Vec::new();
    for number in 0..9 {
        let application = format!("app{number}");
        let endpoint = server.endpoint_of(&application, held.clone()).await;
        let key = json!({ "name": "k", "role": "application", "applicationId": application });
        let key = server.post("/api/v1/token", key).await.expect(201);
        let key = key["token"].as_str().expect("a text").to_owned();
        customers.push((application, endpoint, key));
    }
    let (first, endpoint, key) = &customers[0];
    for _ in 0..10 {
        begin(key, first, endpoint).await.expect(202);
    }
    let refused = begin(key, first, endpoint).await;
    assert_error(&refused, 429, "too_many");
    assert!(refused.text.contains("of an application"), "{refused:?}");
    let user = json!({ "name": "u", "role": "webhook_user", "endpointIds": [endpoint] });
    let user = server.post("/api/v1/token", user).await.expect(201);
    let user = user["token"].as_str().expect("a text");
    assert_error(&begin(user, first, endpoint).await, 429, "too_many");
    // The platform may, there too, and so may other customers, but not all that is left.
    begin(&server.token, first, endpoint).await.expect(202);
    for count in 11..75 {
        let (application, endpoint, key) = &customers[1 + (count - 11) / 10];
        begin(key, application, endpoint).await.expect(202);
    }
    let (last, endpoint, key) = &customers[8];
    let refused = begin(key, last, endpoint).await;
    assert_error(&refused, 429, "too_many");
    assert!(refused.text.contains("of the organisation"), "{refused:?}");
    begin(&server.token, last, endpoint).await.expect(202);
    for (application, endpoint, _) in &customers {
        server.set_disabled(application, endpoint, false).await;
    }
    let running = || {
        let catalog = server.store().catalog();
        catalog.jobs().any(|job| job.is_running())
    };
    wait_until("all to be over", || !running()).await;
    begin(key, last, endpoint).await.expect(202);
}

#[actix_web::test]
async fn usage_counts_messages_and_where_they_went() {
    let receiver = Receiver::answering([500]).await;
    let server = Server::start().await;
    let url = json!({ "url": receiver.url() });
    let mut ids = Vec::new();
    for application in ["busy", "quiet"] {
        server.application(application).await;
        let path = format!("/api/v1/app/{application}");
        let shown = server.get(&path).await.expect(200);
        ids.push(shown["id"].clone());
        // Ids of one instant are in no order.
        server.advance(Duration::from_millis(10));
    }
    server.endpoint_of("busy", url.clone()).await;
    server.endpoint_of("busy", url).await;
    server.publish_to("busy", "a", json!({})).await;
    server.settle().await;
    server.advance_to_next_due().await;
    server.publish_to("busy", "a", json!({})).await;
    server.settle().await;
    let body = json!({
        "since": "2024-01-01T00:00:00Z",
        "until": "2099-01-01T00:00:00Z",
        "appIds": ["busy", "none", ids[1], "busy"],
    });
    let begun = server
        .post("/api/v1/stats/usage/app", body.clone())
        .await
        .expect(202);
    assert_eq!(begun["task"], "application.stats");
    assert_eq!(begun["unresolvedAppIds"], json!(["none"]));
    let job = over(&server, begun["id"].as_str().unwrap()).await;
    let expected = json!({ "appStats": [
        { "appId": ids[0], "appUid": "busy", "messageDestinations": 4, "messages": 2 },
        { "appId": ids[1], "appUid": "quiet", "messageDestinations": 0, "messages": 0 },
    ] });
    assert_eq!(job["data"], expected);
    assert_eq!(
        job["progress"],
        json!({ "lookedAt": 2, "done": 2, "fraction": 1.0 })
    );
    let job = job["id"].as_str().unwrap().to_owned();
    let server = server.restart().await;
    assert_eq!(status_of(&server, &job).await["data"], expected);

    let mut all = body.clone();
    all.as_object_mut().unwrap().remove("appIds");
    let begun = server
        .post("/api/v1/stats/usage/app", all)
        .await
        .expect(202);
    assert_eq!(begun["unresolvedAppIds"], json!([]));
    let job = over(&server, begun["id"].as_str().unwrap()).await;
    assert_eq!(job["data"], expected);
    let mut none = body.clone();
    none["appIds"] = json!(["none"]);
    let answer = server.post("/api/v1/stats/usage/app", none).await;
    assert_invalid(&answer, &["body.appIds"]);
    let answer = server.post("/api/v1/stats/usage/app", json!({})).await;
    assert_invalid(&answer, &["body.since", "body.until"]);
}

#[actix_web::test]
async fn usage_lists_the_event_types_that_are_asked_for() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    for (application, filter) in [
        ("all", json!(null)),
        ("some", json!(["b", "a"])),
        ("some", json!(["c", "a"])),
    ] {
        let body = json!({ "url": receiver.url(), "filterTypes": filter });
        server.endpoint_of(application, body).await;
    }
    let begun = server
        .put("/api/v1/stats/usage/event-types", Value::Null)
        .await
        .expect(202);
    assert_eq!(keys(&begun), ["id", "status", "task", "updatedAt"]);
    assert_eq!(begun["task"], "event-type.aggregate");
    let job = over(&server, begun["id"].as_str().unwrap()).await;
    let mut found = Vec::new();
    for one in job["data"]["event_types"].as_array().expect("a list") {
        found.push((
            one["explicitlySubscribedEventTypes"].clone(),
            one["hasCatchAllEndpoint"].clone(),
        ));
    }
    let expected = [
        (json!([]), json!(true)),
        (json!(["a", "b", "c"]), json!(false)),
    ];
    // Applications that were made in one step of time stand in any order.
    found.sort_by_key(|(names, _)| names.as_array().map(Vec::len));
    assert_eq!(found, expected);
}
