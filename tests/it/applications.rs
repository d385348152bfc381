//! Applications: their shape, their life, their uids.

use serde_json::{Value, json};

use crate::support::{
    Receiver, Server, assert_error, assert_invalid, assert_pages, keys, texts, together,
};

const APPS: &str = "/api/v1/app";

#[actix_web::test]
async fn an_application_is_created_read_changed_and_deleted_by_id_and_by_uid() {
    let server = Server::start().await;
    let body = json!({"name": "One", "uid": "one", "metadata": {"a": "b"}, "throttleRate": 7});
    let one = server.post(APPS, body).await.expect(201);
    let expected = [
        "createdAt",
        "id",
        "metadata",
        "name",
        "throttleRate",
        "uid",
        "updatedAt",
    ];
    assert_eq!(keys(&one), expected);
    assert!(one["id"].as_str().unwrap().starts_with("app_"));
    assert_eq!(one["createdAt"], server.now().to_string());
    assert_eq!(one["metadata"], json!({"a": "b"}));
    assert_eq!(one["throttleRate"], 7);

    let by_id = format!("{APPS}/{}", one["id"].as_str().unwrap());
    for path in [by_id.as_str(), "/api/v1/app/one"] {
        assert_eq!(server.get(path).await.expect(200), one, "{path}");
    }
    server.advance(std::time::Duration::from_secs(60));
    for path in [by_id.as_str(), "/api/v1/app/one"] {
        let patched = server.patch(path, json!({"name": "Two"})).await.expect(200);
        assert_eq!(patched["name"], "Two");
        assert_eq!(patched["uid"], "one");
        assert_eq!(patched["metadata"], json!({"a": "b"}));
        assert_eq!(patched["createdAt"], one["createdAt"]);
        assert_eq!(patched["updatedAt"], server.now().to_string());
        let put = server.put(path, json!({"name": "Three", "uid": "one"}));
        let put = put.await.expect(200);
        // What a replacement does not name is gone.
        assert_eq!(put["metadata"], json!({}));
        assert_eq!(put["throttleRate"], Value::Null);
        assert_eq!(put["id"], one["id"]);
        assert_eq!(server.get(&by_id).await.expect(200), put);
        server
            .patch(path, json!({"metadata": {"a": "b"}}))
            .await
            .expect(200);
    }
    let deleted = server.delete(&by_id).await;
    assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
    for path in [by_id.as_str(), "/api/v1/app/one"] {
        assert_error(&server.get(path).await, 404, "not_found");
        assert_error(&server.delete(path).await, 404, "not_found");
        let patch = server.patch(path, json!({"name": "Four"})).await;
        assert_error(&patch, 404, "not_found");
    }
    let put = server.put(&by_id, json!({"name": "Five"})).await;
    assert_error(&put, 404, "not_found");
}

#[actix_web::test]
async fn put_creates_what_its_uid_does_not_name_yet() {
    let server = Server::start().await;
    let body = json!({"name": "One"});
    let created = server.put("/api/v1/app/one", body.clone()).await;
    let created = created.expect(201);
    assert_eq!(created["uid"], "one");
    let again = server.put("/api/v1/app/one", body).await.expect(200);
    assert_eq!(again["id"], created["id"]);
    assert_eq!(again["uid"], "one");
    let moved = server.put("/api/v1/app/one", json!({"name": "One", "uid": "two"}));
    assert_eq!(moved.await.expect(200)["id"], created["id"]);
    assert_error(&server.get("/api/v1/app/one").await, 404, "not_found");
    assert_eq!(
        server.get("/api/v1/app/two").await.expect(200)["id"],
        created["id"]
    );
    let bad = server.put("/api/v1/app/a%20b", json!({"name": "One"}));
    assert_invalid(&bad.await, &["path.app_id"]);
}

#[actix_web::test]
async fn a_uid_belongs_to_one_application_until_it_goes() {
    let server = Server::start().await;
    for uid in ["one", "two"] {
        server.application(uid).await;
    }
    let same = json!({"name": "Another", "uid": "one"});
    assert_error(&server.post(APPS, same.clone()).await, 409, "conflict");
    assert_error(
        &server.put("/api/v1/app/two", same.clone()).await,
        409,
        "conflict",
    );
    let patch = json!({"uid": "one"});
    assert_error(
        &server.patch("/api/v1/app/two", patch.clone()).await,
        409,
        "conflict",
    );
    server.patch("/api/v1/app/one", patch).await.expect(200);
    let existing = server.get("/api/v1/app/one").await.expect(200);
    let path = "/api/v1/app?get_if_exists=true";
    let got = server.post(path, same.clone()).await.expect(200);
    assert_eq!(got, existing, "what exists is given as it is");

    let cleared = server.patch("/api/v1/app/one", json!({"uid": null})).await;
    assert_eq!(cleared.expect(200)["uid"], Value::Null);
    let new = server.post(path, same).await.expect(201);
    assert_ne!(new["id"], existing["id"]);
    server.delete("/api/v1/app/two").await;
    server.application("two").await;
}

#[actix_web::test]
async fn a_burst_for_one_uid_makes_one() {
    let server = Server::start().await;
    let body = json!({"name": "n", "uid": "one"});
    let answers = together((0..20).map(|_| server.post(APPS, body.clone()))).await;
    let count = |status| answers.iter().filter(|one| one.status == status).count();
    assert_eq!((count(201), count(409)), (1, 19));
    let puts = (0..20).map(|_| server.put("/api/v1/app/two", json!({"name": "n"})));
    let answers = together(puts).await;
    let count = |status| answers.iter().filter(|one| one.status == status).count();
    assert_eq!((count(201), count(200)), (1, 19));
    let gets = "/api/v1/app?get_if_exists=true";
    let body = json!({"name": "n", "uid": "three"});
    let answers = together((0..20).map(|_| server.post(gets, body.clone()))).await;
    let count = |status| answers.iter().filter(|one| one.status == status).count();
    assert_eq!((count(201), count(200)), (1, 19));
    let deletes = (0..20).map(|_| server.delete("/api/v1/app/one"));
    let answers = together(deletes).await;
    let count = |status| answers.iter().filter(|one| one.status == status).count();
    assert_eq!((count(204), count(404)), (1, 19));
    let mut uids = texts(&server.get(APPS).await.expect(200), "uid");
    uids.sort();
    assert_eq!(uids, ["three", "two"]);
}

#[actix_web::test]
async fn what_is_wrong_with_an_application_is_told_at_once() {
    let server = Server::start().await;
    server.application("one").await;
    let app_like = server.get("/api/v1/app/one").await.expect(200)["id"].clone();
    let long = "x".repeat(257);
    for (body, places) in [
        (json!({}), vec!["body.name"]),
        (json!({"name": null}), vec!["body.name"]),
        (json!({"name": ""}), vec!["body.name"]),
        (json!({"name": "bell \u{7}"}), vec!["body.name"]),
        (
            json!({"uid": "a b", "throttleRate": 0}),
            vec!["body.name", "body.uid", "body.throttleRate"],
        ),
        (json!({"name": "n", "uid": ""}), vec!["body.uid"]),
        (json!({"name": "n", "uid": long}), vec!["body.uid"]),
        (json!({"name": "n", "uid": app_like}), vec!["body.uid"]),
        (json!({"name": 7}), vec!["body.name"]),
        (
            json!({"name": "n", "throttleRate": -1}),
            vec!["body.throttleRate"],
        ),
        (
            json!({"name": "n", "throttleRate": 65536}),
            vec!["body.throttleRate"],
        ),
        (
            json!({"name": "n", "metadata": {"a": 1}}),
            vec!["body.metadata.a"],
        ),
        (
            json!({"name": "n", "metadata": {"a": "b".repeat(5000)}}),
            vec!["body.metadata"],
        ),
    ] {
        assert_invalid(&server.post(APPS, body.clone()).await, &places);
        assert_invalid(&server.put("/api/v1/app/one", body).await, &places);
    }
    let nulls = json!({"name": null, "metadata": null});
    assert_invalid(
        &server.patch("/api/v1/app/one", nulls).await,
        &["body.name", "body.metadata"],
    );
    let query = server.post("/api/v1/app?get_if_exists=maybe", json!({"name": "n"}));
    assert_invalid(&query.await, &["query.get_if_exists"]);
    // None of that left anything behind.
    let list = server.get(APPS).await.expect(200);
    assert_eq!(texts(&list, "name"), ["one"]);
}

#[actix_web::test]
async fn applications_are_listed_in_the_order_of_their_making() {
    let server = Server::start().await;
    let empty = server.get(APPS).await.expect(200);
    assert_eq!(
        empty,
        json!({"data": [], "iterator": null, "prevIterator": null, "done": true})
    );
    let mut ids = Vec::new();
    for number in 0..5 {
        // Ids tell 4 ms apart.
        server.advance(std::time::Duration::from_millis(4));
        let body = json!({"name": format!("n{number}")});
        let made = server.post(APPS, body).await.expect(201);
        ids.push(made["id"].as_str().unwrap().to_owned());
    }
    assert_pages(&server, APPS, "id", &ids).await;
    assert_pages(&server, "/api/v1/app?order=ascending", "id", &ids).await;
    ids.reverse();
    assert_pages(&server, "/api/v1/app?order=descending", "id", &ids).await;
}

#[actix_web::test]
async fn what_belongs_to_a_deleted_application_goes_with_it() {
    let receiver = Receiver::answering([500]).await;
    let server = Server::start().await;
    let message = server
        .send_to(&receiver, "invoice.paid", json!({"id": 1}))
        .await;
    assert_eq!(server.store().waiting_count(), 1, "a retry waits");
    let token = json!({"name": "t", "role": "application", "applicationId": "app"});
    let token = server.post("/api/v1/token", token).await.expect(201);
    let endpoint = server.get("/api/v1/app/app/endpoint").await.expect(200);
    let endpoint = texts(&endpoint, "id").remove(0);

    assert_eq!(server.delete("/api/v1/app/app").await.status, 204);
    server.application("app").await;
    for path in [
        format!("/api/v1/app/app/endpoint/{endpoint}"),
        format!("/api/v1/app/app/msg/{message}"),
        format!("/api/v1/app/app/attempt/msg/{message}"),
        format!("/api/v1/app/app/attempt/endpoint/{endpoint}"),
        format!("/api/v1/token/{}", token["id"].as_str().unwrap()),
    ] {
        assert_error(&server.get(&path).await, 404, "not_found");
    }
    for list in ["endpoint", "msg"] {
        let list = server.get(&format!("/api/v1/app/app/{list}")).await;
        assert_eq!(list.expect(200)["data"], json!([]));
    }
    crate::support::wait_until("the retry to be forgotten", || {
        server.store().waiting_count() == 0
    })
    .await;
    server.advance(std::time::Duration::from_secs(5));
    server.settle().await;
    assert_eq!(receiver.count(), 1);
}

#[actix_web::test]
async fn applications_without_endpoints_or_with_disabled_ones_only_can_be_left_out() {
    let server = Server::start().await;
    for (uid, disabled) in [
        ("none", &[][..]),
        ("off", &[true]),
        ("both", &[true, false]),
        ("on", &[false]),
    ] {
        server.advance(std::time::Duration::from_millis(4));
        server.application(uid).await;
        for disabled in disabled {
            let body = json!({"url": "https://example.com/", "disabled": disabled});
            server.endpoint_of(uid, body).await;
        }
    }
    for (query, expected) in [
        ("", &["none", "off", "both", "on"][..]),
        (
            "exclude_apps_with_no_endpoints=true",
            &["off", "both", "on"],
        ),
        (
            "exclude_apps_with_disabled_endpoints=true",
            &["none", "both", "on"],
        ),
        (
            "exclude_apps_with_no_endpoints=true&exclude_apps_with_disabled_endpoints=true&exclude_apps_with_svix_play_endpoints=true",
            &["both", "on"],
        ),
    ] {
        let list = server.get(&format!("{APPS}?{query}")).await.expect(200);
        assert_eq!(texts(&list, "uid"), expected, "{query}");
    }
}
