//! Messages: their shape, what a payload may be and that it is kept to the byte, unique ids, lists.

use std::time::Duration;

use awc::http::Method;
use serde_json::{Value, json};

use crate::support::{
    Receiver, Server, as_read, assert_error, assert_invalid, assert_pages, keys, texts, together,
};

const MESSAGES: &str = "/api/v1/app/app/msg";
const KEYS: [&str; 13] = [
    "channels",
    "contentType",
    "deliverAt",
    "eventId",
    "eventType",
    "expiresAt",
    "id",
    "payload",
    "payloadDeleted",
    "rawPayload",
    "tags",
    "test",
    "timestamp",
];

/// A body whose payload is these bytes.
fn with_payload(payload: impl AsRef<[u8]>) -> Vec<u8> {
    [b"{\"eventType\":\"a\",\"payload\":", payload.as_ref(), b"}"].concat()
}

async fn started() -> Server {
    let server = Server::start().await;
    server.application("app").await;
    server
}

async fn publish_raw(server: &Server, body: Vec<u8>) -> crate::support::Answer {
    server.send(Method::POST, MESSAGES, &[], Some(body)).await
}

#[actix_web::test]
async fn a_message_is_accepted_and_read_by_its_id_and_its_event_id() {
    let server = started().await;
    let least = json!({"eventType": "a.b", "payload": {}});
    let least = server.post(MESSAGES, least).await.expect(202);
    assert_eq!(keys(&as_read(&least)), KEYS);
    assert!(least["id"].as_str().unwrap().starts_with("msg_"));
    for absent in ["channels", "tags", "eventId", "deliverAt", "expiresAt"] {
        assert_eq!(least[absent], Value::Null);
    }
    assert_eq!(least["timestamp"], server.now().to_string());

    let all = json!({
        "eventType": "a.b", "payload": {"k": [1, null]}, "eventId": "e-1", "channels": ["x", "y", "x"],
        "payloadRetentionHours": 720, "tags": ["t", "u", "t"], "transformationsParams": {"headers": null},
    });
    let one = as_read(&server.post(MESSAGES, all).await.expect(202));
    assert_eq!(keys(&one), KEYS);
    assert_eq!(one["eventId"], "e-1");
    assert_eq!(one["channels"], json!(["x", "y"]));
    assert_eq!(one["tags"], json!(["t", "u"]));
    assert_eq!(one["payload"], json!({"k": [1, null]}));
    for id in [one["id"].as_str().unwrap(), "e-1"] {
        let path = format!("{MESSAGES}/{id}");
        assert_eq!(server.get(&path).await.expect(200), one);
        assert_eq!(server.get(&format!("{path}/")).await.expect(200), one);
        let without = server.get(&format!("{path}?with_content=false")).await;
        let without = without.expect(200);
        assert_eq!(keys(&without), KEYS);
        assert_eq!(without["payload"], json!({}));
    }
    let query = format!("{MESSAGES}?with_content=false");
    let body = json!({"eventType": "a.b", "payload": {"k": 1}});
    let short = server.post(&query, body).await.expect(202);
    assert_eq!(short["payload"], json!({}));
    let whole = server
        .get(&format!("{MESSAGES}/{}", short["id"].as_str().unwrap()))
        .await;
    assert_eq!(whole.expect(200)["payload"], json!({"k": 1}));
    let list = server.get(&query).await.expect(200);
    for message in list["data"].as_array().unwrap() {
        assert_eq!(message["payload"], json!({}));
    }
}

#[actix_web::test]
async fn what_is_not_there_is_not_found() {
    let server = started().await;
    server.application("other").await;
    let body = json!({"eventType": "a", "eventId": "e-1", "payload": {}});
    let made = server.post(MESSAGES, body.clone()).await.expect(202);
    let id = made["id"].as_str().unwrap();
    for path in [
        "/api/v1/app/none/msg".to_owned(),
        "/api/v1/app/app_2ZyJJJJJJJJJJJJJJJJJJJJJJJJ/msg".to_owned(),
        format!("/api/v1/app/other/msg/{id}"),
        "/api/v1/app/other/msg/e-1".to_owned(),
        format!("{MESSAGES}/e-2"),
        format!("{MESSAGES}/msg_2ZyJJJJJJJJJJJJJJJJJJJJJJJJ"),
    ] {
        assert_error(&server.get(&path).await, 404, "not_found");
    }
    let body = json!({"eventType": "a", "payload": {}});
    let posted = server.post("/api/v1/app/none/msg", body).await;
    assert_error(&posted, 404, "not_found");
}

#[actix_web::test]
async fn an_application_can_come_along_with_its_first_message() {
    let server = Server::start().await;
    let body = json!({
        "eventType": "a", "payload": {}, "application": {"name": "New", "uid": "new"},
    });
    let path = "/api/v1/app/new/msg";
    for _ in 0..2 {
        server.post(path, body.clone()).await.expect(202);
    }
    assert_eq!(
        server.get("/api/v1/app/new").await.expect(200)["name"],
        "New"
    );
    let list = server.get(path).await.expect(200);
    assert_eq!(list["data"].as_array().unwrap().len(), 2);
    // A burst makes one.
    let body = json!({
        "eventType": "a", "payload": {}, "application": {"name": "Burst", "uid": "burst"},
    });
    let burst = (0..8).map(|_| server.post("/api/v1/app/burst/msg", body.clone()));
    for answer in together(burst).await {
        answer.expect(202);
    }
    let mut apps = texts(&server.get("/api/v1/app").await.expect(200), "uid");
    apps.sort();
    assert_eq!(apps, ["burst", "new"]);
    let wrong = server.post("/api/v1/app/third/msg", body).await;
    assert_invalid(&wrong, &["body.application.uid"]);
}

#[actix_web::test]
async fn payloads_are_kept_and_sent_to_the_byte() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    server.endpoint(&receiver).await;
    let deepest = format!("{{\"a\":{}{}}}", "[".repeat(127), "]".repeat(127));
    let long = format!("{{\"a\":\"{}\"}}", "é".repeat(8000));
    for payload in [
        "{}",
        r#"{"z":1,"a":2,"m":{"b":1,"a":2}}"#,
        r#"{"n":[1.10,-0,-0.0,1e400,1E+2,123456789012345678901234567890,0.1e-7]}"#,
        "{ \"a\" :\t1 ,\n \"b\":\r\n[ ] }",
        r#"{"a":"\u00e9\/\"\\\n\ud83d\ude00\u0000","\u0061":1}"#,
        "{\"é😀\":\"\u{2028}\u{7f}\u{10ffff}\"}",
        r#"{"a":1,"a":2,"a":{"a":3}}"#,
        &deepest,
        &long,
    ] {
        let accepted = publish_raw(&server, with_payload(payload)).await;
        let expected = format!("\"payload\":{payload},");
        assert_eq!(accepted.status, 202, "{}", accepted.text);
        assert!(accepted.text.contains(&expected), "{}", accepted.text);
        let start = accepted.text.find("msg_").expect("an id");
        let id = &accepted.text[start..start + 31];
        let read = server.get(&format!("{MESSAGES}/{id}")).await;
        assert!(read.text.contains(&expected), "{}", read.text);
        // A second copy, so that one is read before and one after the restart.
        server.settle().await;
        let sent = receiver.requests().pop().expect("it was sent");
        assert_eq!(String::from_utf8_lossy(&sent.body), payload);
    }
    let before = server.get(MESSAGES).await.text;
    let server = server.restart().await;
    assert_eq!(server.get(MESSAGES).await.text, before);
}

#[actix_web::test]
async fn payloads_up_to_the_limit_are_taken_and_longer_ones_refused() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    server.endpoint(&receiver).await;
    let max = server.config().limits.payload_bytes;
    assert_eq!(max, 1 << 20);
    let payload = |bytes: usize| {
        let text: String = ('a'..='z').cycle().take(bytes - 8).collect();
        format!("{{\"a\":\"{text}\"}}")
    };
    for bytes in [max - 1, max] {
        let payload = payload(bytes);
        assert_eq!(payload.len(), bytes);
        assert_eq!(
            publish_raw(&server, with_payload(&payload)).await.status,
            202
        );
        server.settle().await;
        let sent = receiver.requests().pop().expect("it was sent");
        assert!(sent.body == payload.as_bytes(), "{bytes} bytes, changed");
    }
    for bytes in [max + 1, max + 200_000, 4 * max] {
        let answer = publish_raw(&server, with_payload(payload(bytes))).await;
        assert_error(&answer, 413, "payload_too_large");
    }
    // Other bodies have a lower limit.
    let description = "d".repeat(256 << 10);
    let body = json!({"url": "https://example.com/", "description": description});
    let answer = server.post("/api/v1/app/app/endpoint", body).await;
    assert_error(&answer, 413, "payload_too_large");
    server.settle().await;
    assert_eq!(receiver.count(), 2);
}

#[actix_web::test]
async fn what_is_no_payload_is_refused() {
    let server = started().await;
    let too_deep = format!("{{\"a\":{}{}}}", "[".repeat(128), "]".repeat(128));
    let far_too_deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    for payload in [
        "[]",
        r#"[{"a":1}]"#,
        "\"text\"",
        "1",
        "true",
        r#"{"a":"\ud800"}"#,
        r#"{"a":"\udc00\ud800"}"#,
        r#"{"\ud83d":1}"#,
        &too_deep,
        "null",
    ] {
        let answer = publish_raw(&server, with_payload(payload)).await;
        assert_invalid(&answer, &["body.payload"]);
    }
    let answer = publish_raw(&server, with_payload(far_too_deep)).await;
    assert_eq!(answer.status, 422);
    // These are not JSON at all.
    for payload in [
        &b"{\"a\":\"\xff\"}"[..],
        b"{\"a\":\"\xc0\xaf\"}",
        b"{\"a\":\"\xed\xa0\x80\"}",
        b"{\"a\":01}",
        b"{\"a\":1,}",
        b"{\"a\":NaN}",
        b"{\"a\":\"\n\"}",
        b"{\"a\":\"\\x\"}",
        b"{\"a\":\"\\u12\"}",
        b"{'a':1}",
        b"{\"a\":1}}",
        b"{\"a\":",
        b"",
    ] {
        let answer = publish_raw(&server, with_payload(payload)).await;
        assert_invalid(&answer, &["body"]);
    }
    let list = server.get(MESSAGES).await.expect(200);
    assert_eq!(list["data"], json!([]));
}

#[actix_web::test]
async fn what_is_wrong_with_a_message_is_told_at_once() {
    let server = started().await;
    let with = |field: &str, value: Value| json!({"eventType": "a", "payload": {}, field: value});
    for (body, places) in [
        (json!({}), vec!["body.eventType", "body.payload"]),
        (
            json!({"eventType": "a b", "payload": [], "eventId": "", "channels": ["ö"]}),
            vec![
                "body.eventType",
                "body.eventId",
                "body.channels.0",
                "body.payload",
            ],
        ),
        (
            with("eventType", json!("x".repeat(257))),
            vec!["body.eventType"],
        ),
        (with("eventType", json!(["a"])), vec!["body.eventType"]),
        (with("channels", json!([])), vec!["body.channels"]),
        (
            with("channels", json!(["1", "2", "3", "4", "5", "6"])),
            vec!["body.channels"],
        ),
        (
            with("eventId", json!("e".repeat(257))),
            vec!["body.eventId"],
        ),
        (
            with("eventId", json!("msg_2ZyJJJJJJJJJJJJJJJJJJJJJJJJ")),
            vec!["body.eventId"],
        ),
        (
            with("payloadRetentionPeriod", json!(91)),
            vec!["body.payloadRetentionPeriod"],
        ),
        (
            with("payloadRetentionPeriod", json!("9")),
            vec!["body.payloadRetentionPeriod"],
        ),
        (
            with("payloadRetentionHours", json!(0)),
            vec!["body.payloadRetentionHours"],
        ),
        (
            json!({"eventType": "a", "payload": {}, "payloadRetentionHours": 720, "payloadRetentionPeriod": 30}),
            vec!["body.payloadRetentionHours"],
        ),
        (with("tags", json!([])), vec!["body.tags"]),
        (with("tags", json!(["a b"])), vec!["body.tags.0"]),
        (with("tags", json!(["t".repeat(129)])), vec!["body.tags.0"]),
        (
            with("tags", Value::from_iter((0..11).map(|n| format!("t{n}")))),
            vec!["body.tags"],
        ),
        (with("deliverAt", json!(7)), vec!["body.deliverAt"]),
    ] {
        assert_invalid(&server.post(MESSAGES, body).await, &places);
    }
    let body = json!({"eventType": "a", "payload": {}});
    let query = server.post("/api/v1/app/app/msg?with_content=1", body);
    assert_invalid(&query.await, &["query.with_content"]);
    assert_eq!(server.get(MESSAGES).await.expect(200)["data"], json!([]));
}

#[actix_web::test]
async fn an_event_id_is_taken_once_even_in_a_burst() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    server.endpoint(&receiver).await;
    server.application("other").await;
    let body = json!({"eventType": "a", "eventId": "e-1", "payload": {}});
    let burst = (0..20).map(|_| server.post(MESSAGES, body.clone()));
    let answers = together(burst).await;
    let count = |status| answers.iter().filter(|one| one.status == status).count();
    assert_eq!((count(202), count(409)), (1, 19));
    for refused in answers.iter().filter(|one| one.status == 409) {
        assert_error(refused, 409, "conflict");
    }
    server.settle().await;
    assert_eq!(receiver.count(), 1);
    // It is the application's: the same event may concern two customers.
    const OTHER: &str = "/api/v1/app/other/msg";
    let elsewhere = server.post(OTHER, body.clone()).await.expect(202);
    for path in [OTHER, MESSAGES] {
        assert_error(&server.post(path, body.clone()).await, 409, "conflict");
    }
    let found = server.get(&format!("{OTHER}/e-1")).await.expect(200);
    assert_eq!(found["id"], elsewhere["id"]);
    let found = server.get(&format!("{MESSAGES}/e-1")).await.expect(200);
    assert_ne!(found["id"], elsewhere["id"]);
    let another = json!({"eventType": "a", "eventId": "e-2", "payload": {}});
    server.post(MESSAGES, another).await.expect(202);
    server.settle().await;
}

#[actix_web::test]
async fn an_event_id_is_free_again_after_a_day() {
    for slice_hours in [1, 24, 100] {
        let server = Server::start_with(|config| config.store.slice_hours = slice_hours).await;
        server.application("app").await;
        let body = json!({"eventType": "a", "eventId": "e-1", "payload": {}});
        let first = server.post(MESSAGES, body.clone()).await.expect(202);
        for hours in [3, 9, 11] {
            server.advance(Duration::from_secs(hours * 3600));
            let refused = server.post(MESSAGES, body.clone()).await;
            assert_error(&refused, 409, "conflict");
            // So that slices are begun on the way.
            server.publish("b", json!({})).await;
        }
        let server = server.restart().await;
        server.advance(Duration::from_secs(3600));
        let refused = server.post(MESSAGES, body.clone()).await;
        assert_error(&refused, 409, "conflict");
        server.advance(Duration::from_millis(8));
        let again = server.post(MESSAGES, body).await.expect(202);
        assert_ne!(again["id"], first["id"]);
        let found = server.get(&format!("{MESSAGES}/e-1")).await.expect(200);
        assert_eq!(found["id"], again["id"], "the newest goes by the name");
        let old = format!("{MESSAGES}/{}", first["id"].as_str().unwrap());
        assert_eq!(server.get(&old).await.expect(200), as_read(&first));
    }
}

#[actix_web::test]
async fn lists_of_messages_are_filtered() {
    let server = started().await;
    let mut at = Vec::new();
    for (event_id, event_type, channels, tags) in [
        ("m0", "a", json!(["x"]), json!(["t"])),
        ("m1", "b", json!(["x", "y"]), json!(["t", "u"])),
        ("m2", "c", json!(null), json!(null)),
        ("m3", "a", json!(["y"]), json!(["u"])),
        ("m4", "a.b", json!(["x"]), json!(["x"])),
    ] {
        server.advance(Duration::from_secs(1));
        at.push(server.now());
        let body = json!({
            "eventId": event_id, "eventType": event_type, "channels": channels, "tags": tags,
            "payload": {},
        });
        server.post(MESSAGES, body).await.expect(202);
    }
    let first = at[1].to_string();
    let between = (at[2] + Duration::from_millis(500)).to_string();
    let with_offset = "1970-01-01T02:00:00%2B02:00";
    for (query, expected) in [
        (String::new(), vec!["m4", "m3", "m2", "m1", "m0"]),
        ("order=ascending".into(), vec!["m0", "m1", "m2", "m3", "m4"]),
        ("event_types=a".into(), vec!["m3", "m0"]),
        ("event_types=a&event_types=c".into(), vec!["m3", "m2", "m0"]),
        ("event_types=a,c".into(), vec!["m3", "m2", "m0"]),
        (
            "event_types[]=a&event_types[]=b".into(),
            vec!["m3", "m1", "m0"],
        ),
        ("event_types=none".into(), vec![]),
        ("channel=x".into(), vec!["m4", "m1", "m0"]),
        ("channel=y&event_types=a".into(), vec!["m3"]),
        ("tag=t".into(), vec!["m1", "m0"]),
        ("tag=u&channel=y&event_types=a".into(), vec!["m3"]),
        ("tag=".into(), vec!["m4", "m3", "m2", "m1", "m0"]),
        ("tag=y".into(), vec![]),
        (format!("before={between}"), vec!["m2", "m1", "m0"]),
        (format!("after={between}"), vec!["m4", "m3"]),
        (
            format!("after={first}&before={}", at[4]),
            vec!["m3", "m2", "m1"],
        ),
        (format!("after={between}&before={first}"), vec![]),
        (format!("after={first}&before={first}"), vec![]),
        (format!("before={first}"), vec!["m0"]),
        (format!("after={first}"), vec!["m4", "m3", "m2", "m1"]),
        (
            format!("after={with_offset}"),
            vec!["m4", "m3", "m2", "m1", "m0"],
        ),
        (format!("before={with_offset}"), vec![]),
        ("after=9999-01-01T00:00:00Z".into(), vec![]),
        ("limit=2".into(), vec!["m4", "m3"]),
    ] {
        let list = server.get(&format!("{MESSAGES}?{query}")).await.expect(200);
        assert_eq!(texts(&list, "eventId"), expected, "{query}");
        assert_eq!(list["done"], query != "limit=2", "{query}");
    }
    for (query, places) in [
        ("limit=0", vec!["query.limit"]),
        ("limit=251", vec!["query.limit"]),
        ("limit=x", vec!["query.limit"]),
        ("iterator=x", vec!["query.iterator"]),
        (
            "iterator=app_2ZyJJJJJJJJJJJJJJJJJJJJJJJJ",
            vec!["query.iterator"],
        ),
        ("order=up", vec!["query.order"]),
        ("before=yesterday", vec!["query.before"]),
        ("after=1", vec!["query.after"]),
        ("with_content=2", vec!["query.with_content"]),
        ("channel=a%20b", vec!["query.channel"]),
        ("tag=a%20b", vec!["query.tag"]),
        ("event_types=a%20b", vec!["query.event_types"]),
        (
            "limit=-1&with_content=no&channel=%C3%A4",
            vec!["query.limit", "query.with_content", "query.channel"],
        ),
    ] {
        let answer = server.get(&format!("{MESSAGES}?{query}")).await;
        assert_invalid(&answer, &places);
    }
}

#[actix_web::test]
async fn history_goes_on_over_many_slices() {
    let receiver = Receiver::ok().await;
    let server = Server::start_with(|config| config.store.slice_hours = 1).await;
    let endpoint = server.endpoint(&receiver).await;
    let mut ids = Vec::new();
    let mut times = Vec::new();
    for number in 0..9 {
        server.advance(Duration::from_secs(25 * 60));
        let body = json!({
            "eventType": format!("t{}", number % 2), "eventId": format!("e{number}"),
            "channels": [format!("c{}", number % 3)], "payload": {"n": number},
        });
        let made = server.post(MESSAGES, body).await.expect(202);
        ids.push(made["id"].as_str().unwrap().to_owned());
        // A new slice's first instant is up to 4 ms ahead of a clock that stands still.
        server.advance(Duration::from_millis(4));
        server.settle().await;
        server.advance(Duration::from_secs(1));
        times.push(server.now());
    }
    assert_eq!(receiver.count(), 9);
    let slices = server.store().slices();
    assert!(slices.len() >= 3, "the test is about several slices");

    let server = server.restart().await;
    for (number, id) in ids.iter().enumerate() {
        let by_id = server.get(&format!("{MESSAGES}/{id}")).await.expect(200);
        assert_eq!(by_id["payload"], json!({"n": number}));
        let by_event_id = server.get(&format!("{MESSAGES}/e{number}")).await;
        assert_eq!(by_event_id.expect(200), by_id);
        assert_eq!(server.outcomes(id).await, ["delivered"]);
    }
    let attempts = format!("/api/v1/app/app/attempt/endpoint/{endpoint}");
    for (list, field) in [(MESSAGES, "id"), (attempts.as_str(), "msgId")] {
        assert_pages(&server, &format!("{list}?order=ascending"), field, &ids).await;
        let mut newest_first = ids.clone();
        newest_first.reverse();
        assert_pages(&server, list, field, &newest_first).await;
        for (filter, wanted) in [
            ("event_types=t1", vec![7, 5, 3, 1]),
            ("channel=c2", vec![8, 5, 2]),
            ("channel=c0&event_types=t0", vec![6, 0]),
        ] {
            let wanted: Vec<String> = wanted.iter().map(|n: &usize| ids[*n].clone()).collect();
            let whole = server.get(&format!("{list}?{filter}")).await.expect(200);
            assert_eq!(texts(&whole, field), wanted, "{list} {filter}");
        }
        let after = server.get(&format!("{list}?after={}", times[5])).await;
        assert_eq!(texts(&after.expect(200), field), newest_first[..3]);
        let before = server.get(&format!("{list}?before={}", times[5])).await;
        assert_eq!(texts(&before.expect(200), field), newest_first[3..]);
        // A filter lets pages be short, but the list is the same.
        let mut read = Vec::new();
        let mut iterator = String::new();
        loop {
            let path = format!("{list}?event_types=t0&limit=1{iterator}");
            let page = server.get(&path).await.expect(200);
            read.extend(texts(&page, field));
            if page["done"] == true {
                break;
            }
            iterator = format!("&iterator={}", page["iterator"].as_str().unwrap());
        }
        let wanted: Vec<String> = [8, 6, 4, 2, 0].map(|n: usize| ids[n].clone()).to_vec();
        assert_eq!(read, wanted, "{list}");
    }
}

#[actix_web::test]
async fn a_precheck_tells_whether_anybody_would_get_it() {
    let server = started().await;
    let path = "/api/v1/app/app/msg/precheck/active";
    let url = "https://example.com/";
    server
        .endpoint_of(
            "app",
            json!({"url": url, "eventTypes": ["a"], "channels": ["x"]}),
        )
        .await;
    let disabled = json!({"url": url, "eventTypes": ["b"], "disabled": true});
    let disabled = server.endpoint_of("app", disabled).await;
    let event_type = json!({"name": "old", "description": "", "archived": true});
    server
        .post("/api/v1/event-type", event_type)
        .await
        .expect(201);
    for (body, active) in [
        (json!({"eventType": "a", "channels": ["y", "x"]}), true),
        (json!({"eventType": "a", "channels": ["y"]}), false),
        (json!({"eventType": "a"}), false),
        (json!({"eventType": "b"}), false),
        (json!({"eventType": "old"}), false),
    ] {
        let answer = server.post(path, body.clone()).await.expect(200);
        assert_eq!(answer["active"], active, "{body}");
    }
    server.set_disabled("app", &disabled, false).await;
    let answer = server.post(path, json!({"eventType": "b"})).await;
    assert_eq!(answer.expect(200)["active"], true);
    // One that wants everything would get it, and cannot: it cannot be published.
    server.endpoint_of("app", json!({"url": url})).await;
    let answer = server.post(path, json!({"eventType": "old"})).await;
    let nobody = json!({"active": false, "endpointsMatched": 0});
    assert_eq!(answer.expect(200), nobody);
    let wrong = json!({"channels": []});
    let answer = server.post(path, wrong).await;
    assert_invalid(&answer, &["body.eventType", "body.channels"]);
    let elsewhere = "/api/v1/app/none/msg/precheck/active";
    let answer = server.post(elsewhere, json!({"eventType": "a"})).await;
    assert_error(&answer, 404, "not_found");
    assert_eq!(server.get(MESSAGES).await.expect(200)["data"], json!([]));
}

/// What is shown has milliseconds, ids have steps of 4 ms, and a slice begins with a step.
#[actix_web::test]
async fn every_instant_has_each_message_on_one_side() {
    let server = Server::start_with(|config| config.store.slice_bytes = 4000).await;
    server.application("app").await;
    let start = server.now();
    let mut times = Vec::new();
    for step in [0, 1, 1, 0, 2, 3, 1, 0, 0, 5, 1, 1, 1, 1, 4, 1] {
        server.advance(Duration::from_millis(step));
        let body = json!({"eventType": "a", "payload": {"text": "x".repeat(400)}});
        let made = server.post(MESSAGES, body).await.expect(202);
        times.push(made["timestamp"].as_str().unwrap().to_owned());
    }
    times.reverse();
    let until = server.now() + Duration::from_millis(9);
    for millisecond in start.as_millis() - 5..until.as_millis() {
        // What is shown has whole milliseconds: between two of them is on the later one's side.
        for (more, from) in [("", millisecond), ("500", millisecond + 1)] {
            let whole = postrider::clock::Timestamp(millisecond).to_string();
            let at = whole.replace('Z', &format!("{more}Z"));
            let from = postrider::clock::Timestamp(from).to_string();
            let list = async |side: &str| {
                let path = format!("{MESSAGES}?limit=100&{side}={at}");
                texts(&server.get(&path).await.expect(200), "timestamp")
            };
            let (later, earlier): (Vec<_>, Vec<_>) =
                times.iter().cloned().partition(|time| *time >= from);
            assert_eq!(list("after").await, later, "after {at}");
            assert_eq!(list("before").await, earlier, "before {at}");
        }
    }
}

/// It reads from the newest time that it saw, and knows what it has by the id.
#[actix_web::test]
async fn a_mirror_that_polls_by_time_misses_nothing() {
    const BURSTS: usize = 40;
    let server = started().await;
    let mut published = std::collections::BTreeSet::new();
    let mut mirrored = std::collections::BTreeSet::new();
    let mut newest = server.now().to_string();
    for burst in 0..BURSTS {
        server.advance(Duration::from_millis(burst as u64 % 3));
        let body = json!({"eventType": "a", "payload": {}});
        let publish = (0..5).map(|_| server.post(MESSAGES, body.clone()));
        let half = together(publish).await;
        let path = format!("{MESSAGES}?limit=250&after={newest}");
        let seen = server.get(&path).await.expect(200);
        mirrored.extend(texts(&seen, "id"));
        newest = seen["data"][0]["timestamp"].as_str().unwrap().to_owned();
        // In the same millisecond as the newest that was seen.
        let rest = server.post(MESSAGES, body.clone()).await;
        for answer in half.into_iter().chain([rest]) {
            published.insert(answer.expect(202)["id"].as_str().unwrap().to_owned());
        }
    }
    let path = format!("{MESSAGES}?limit=250&after={newest}");
    mirrored.extend(texts(&server.get(&path).await.expect(200), "id"));
    assert_eq!(mirrored, published);
}
