//! A webhook user: the endpoints granted to it, what was sent to them, and nothing else.

use std::slice::from_ref;
use std::time::Duration;

use awc::http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Receiver, Server, assert_error, assert_invalid, assert_pages, texts};

const TOKENS: &str = "/api/v1/token";
/// Ids that are made this much apart sort in the order of their making.
const STEP: Duration = Duration::from_millis(4);
const ENDPOINTS: &str = "/api/v1/app/app/endpoint";

/// A token of the role, and who calls with it.
struct User<'a> {
    server: &'a Server,
    id: String,
    token: String,
}

impl<'a> User<'a> {
    async fn seeing(server: &'a Server, endpoints: &[&str]) -> User<'a> {
        User::made(server, endpoints, &[]).await
    }

    /// One that may make endpoints in the application `app`.
    async fn making(server: &'a Server) -> User<'a> {
        User::made(server, &[], &["app"]).await
    }

    async fn made(server: &'a Server, endpoints: &[&str], applications: &[&str]) -> User<'a> {
        let body = json!({"name": "u", "role": "webhook_user", "endpointIds": endpoints,
            "applicationIds": applications});
        let made = server.post(TOKENS, body).await.expect(201);
        let mut endpoints = endpoints.to_vec();
        endpoints.sort_unstable();
        assert_eq!(made["endpointIds"], json!(endpoints));
        let text = |name: &str| made[name].as_str().expect("a text").to_owned();
        User {
            server,
            id: text("id"),
            token: text("token"),
        }
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> Answer {
        let body = (!body.is_null()).then(|| body.to_string());
        self.server.call_as(&self.token, method, path, body).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, Value::Null).await
    }

    async fn ids(&self, path: &str) -> Vec<String> {
        texts(&self.get(path).await.expect(200), "id")
    }

    /// The grants, as the owner sees them.
    async fn grants(&self) -> Value {
        let path = format!("{TOKENS}/{}", self.id);
        self.server.get(&path).await.expect(200)["endpointIds"].clone()
    }

    fn grant_path(&self, endpoint: &str) -> String {
        format!("{TOKENS}/{}/endpoint/{endpoint}", self.id)
    }

    async fn grant(&self, endpoint: &str) -> Answer {
        let path = self.grant_path(endpoint);
        self.server.call(Method::PUT, &path, &[], None).await
    }
}

fn id(shown: &Value) -> String {
    shown["id"].as_str().expect("an id").to_owned()
}

#[actix_web::test]
async fn what_is_not_granted_answers_as_if_it_did_not_exist() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let url = json!({"url": receiver.url(), "uid": "hidden"});
    let hidden = server.endpoint_of("app", url.clone()).await;
    let absent = server
        .endpoint_of("app", json!({"url": receiver.url()}))
        .await;
    let path = format!("{ENDPOINTS}/{absent}");
    server.delete(&path).await.expect(204);
    let message = server.publish("a", json!({})).await;
    server.settle().await;
    let user = User::seeing(&server, &[]).await;
    let headers = json!({"headers": {}});
    let resend = format!("/api/v1/app/app/msg/{message}/endpoint");
    let routes = [
        (Method::GET, ENDPOINTS, "", Value::Null),
        (Method::PUT, ENDPOINTS, "", json!({"url": receiver.url()})),
        (Method::PATCH, ENDPOINTS, "", json!({"disabled": true})),
        (Method::PATCH, ENDPOINTS, "", json!({"url": 1})),
        (Method::DELETE, ENDPOINTS, "", Value::Null),
        (Method::GET, ENDPOINTS, "/headers", Value::Null),
        (Method::PUT, ENDPOINTS, "/headers", headers.clone()),
        (Method::PATCH, ENDPOINTS, "/headers", headers),
        (Method::GET, ENDPOINTS, "/secret", Value::Null),
        (Method::POST, ENDPOINTS, "/secret/rotate", json!({})),
        (Method::POST, &resend, "/resend", json!({})),
        (
            Method::GET,
            "/api/v1/app/app/attempt/endpoint",
            "",
            Value::Null,
        ),
    ];
    for (method, before, after, body) in routes {
        let mut answers = Vec::new();
        for name in [hidden.as_str(), absent.as_str(), "hidden", "absent"] {
            // A uid that nobody sees can be put there: the next test.
            if method == Method::PUT && after.is_empty() && !name.starts_with("ep_") {
                continue;
            }
            let path = format!("{before}/{name}{after}");
            let answer = user.call(method.clone(), &path, body.clone()).await;
            assert_error(&answer, 404, "not_found");
            answers.push(answer.text);
        }
        answers.dedup();
        assert_eq!(answers.len(), 1, "{method} {before}{after}: {answers:?}");
    }
    let shown = server
        .get(&format!("{ENDPOINTS}/{hidden}"))
        .await
        .expect(200);
    assert_eq!(shown["disabled"], false);
    server.settle().await;
    assert_eq!(receiver.count(), 1, "nothing was sent again");
}

#[actix_web::test]
async fn a_list_of_endpoints_has_those_granted_in_whole_pages() {
    let mut server = Server::start().await;
    let mut seen = Vec::new();
    for number in 0..12 {
        server.advance(STEP);
        let url = json!({"url": "https://example.com/"});
        let endpoint = server.endpoint_of("app", url).await;
        if number % 3 == 1 {
            seen.push(endpoint);
        }
    }
    let granted: Vec<&str> = seen.iter().map(String::as_str).collect();
    let token = User::seeing(&server, &granted).await.token;
    let owner = std::mem::replace(&mut server.token, token);
    assert_pages(
        &server,
        &format!("{ENDPOINTS}?order=ascending"),
        "id",
        &seen,
    )
    .await;
    server.token = owner;
}

#[actix_web::test]
async fn what_a_user_creates_is_granted_to_it_and_to_nobody_else() {
    let server = Server::start().await;
    server.application("app").await;
    let (one, two) = (User::making(&server).await, User::making(&server).await);
    let url = json!({"url": "https://example.com/"});
    let posted = one.call(Method::POST, ENDPOINTS, url.clone()).await;
    let posted = id(&posted.expect(201));
    server.advance(STEP);
    let path = format!("{ENDPOINTS}/put");
    let put = id(&one.call(Method::PUT, &path, url.clone()).await.expect(201));
    assert_eq!(one.grants().await, json!([posted, put]));
    assert_eq!(one.ids(ENDPOINTS).await, [put.clone(), posted.clone()]);
    assert_eq!(two.ids(ENDPOINTS).await, [""; 0]);
    // Put again, it is changed and not made.
    let again = one.call(Method::PUT, &path, url.clone()).await.expect(200);
    assert_eq!(id(&again), put);
    for answer in [
        two.call(Method::PUT, &path, url.clone()).await,
        two.call(
            Method::POST,
            ENDPOINTS,
            json!({"url": "https://a.example/", "uid": "put"}),
        )
        .await,
    ] {
        assert_error(&answer, 409, "conflict");
    }
    let path = format!("{ENDPOINTS}/{put}");
    assert_eq!(one.get(&path).await.expect(200), again, "it is unchanged");
    // Another's answer is not given for the same idempotency key.
    server.advance(STEP);
    let mut made = Vec::new();
    for user in [&one, &two, &one] {
        let headers = [("api-key", user.token.as_str()), ("idempotency-key", "k")];
        let body = Some(url.to_string());
        let answer = server.call(Method::POST, ENDPOINTS, &headers, body).await;
        made.push(id(&answer.expect(201)));
    }
    assert_ne!(made[0], made[1]);
    assert_eq!(made[0], made[2]);
    assert_eq!(two.grants().await, json!([made[1]]));
}

#[actix_web::test]
async fn a_refused_creation_grants_nothing() {
    let server = Server::start_with(|config| {
        config.limits.endpoints_per_application_max = 1;
    })
    .await;
    server.application("app").await;
    let user = User::making(&server).await;
    let url = json!({"url": "https://example.com/"});
    let made = user.call(Method::POST, ENDPOINTS, url.clone()).await;
    let made = id(&made.expect(201));
    let refused = user.call(Method::POST, ENDPOINTS, url).await;
    assert_error(&refused, 429, "too_many");
    assert_eq!(user.grants().await, json!([made]));
}

#[actix_web::test]
async fn messages_and_attempts_are_those_of_granted_endpoints() {
    let (own, foreign) = (Receiver::ok().await, Receiver::ok().await);
    let server = Server::start().await;
    let endpoint = async |receiver: &Receiver, types: &[&str]| {
        let body = json!({"url": receiver.url(), "eventTypes": types});
        server.endpoint_of("app", body).await
    };
    let granted = endpoint(&own, &["a", "c"]).await;
    let hidden = endpoint(&foreign, &["b", "c"]).await;
    let mut sent = Vec::new();
    for event_type in ["a", "b", "c", "d"] {
        server.advance(STEP);
        let body = json!({"eventType": event_type, "eventId": event_type, "payload": {}});
        let message = server.post("/api/v1/app/app/msg", body).await;
        sent.push(id(&message.expect(202)));
        server.settle().await;
    }
    let [a, b, c, d] = &sent[..] else {
        panic!("four were sent");
    };
    let user = User::made(&server, &[&granted], &["app"]).await;
    let messages = "/api/v1/app/app/msg";
    assert_eq!(user.ids(messages).await, [c.clone(), a.clone()]);
    let page = user.get(&format!("{messages}?limit=1")).await.expect(200);
    assert_eq!(
        (texts(&page, "id"), &page["done"]),
        (vec![c.clone()], &json!(false))
    );
    let next = page["iterator"].as_str().expect("it reads on");
    let path = format!("{messages}?limit=1&iterator={next}");
    assert_eq!(user.ids(&path).await, from_ref(a));
    let by_type = format!("{messages}?event_types=b,c");
    assert_eq!(user.ids(&by_type).await, from_ref(c));

    for (message, event_id, status) in [(a, "a", 200), (b, "b", 404), (c, "c", 200), (d, "d", 404)]
    {
        for name in [message.as_str(), event_id] {
            for path in [
                format!("{messages}/{name}"),
                format!("/api/v1/app/app/attempt/msg/{name}"),
            ] {
                assert_eq!(user.get(&path).await.status, status, "{path}");
            }
        }
    }
    let attempts = user.get(&format!("/api/v1/app/app/attempt/msg/{c}")).await;
    assert_eq!(
        texts(&attempts.expect(200), "endpointId"),
        from_ref(&granted)
    );
    let attempts = server.attempts(c).await;
    assert_eq!(attempts.len(), 2, "the owner sees both");
    for attempt in attempts {
        let path = format!("{messages}/{c}/attempt/{}", id(&attempt));
        let status = if attempt["endpointId"] == granted {
            200
        } else {
            404
        };
        assert_eq!(user.get(&path).await.status, status);
    }
    for (endpoint, status) in [(&granted, 200), (&hidden, 404)] {
        for path in [
            format!("/api/v1/app/app/attempt/endpoint/{endpoint}"),
            format!("/api/v1/app/app/attempt/msg/{c}?endpoint_id={endpoint}"),
        ] {
            assert_eq!(user.get(&path).await.status, status, "{path}");
        }
    }
    // What went to others is not to be had by sending it here.
    for (message, status) in [(a, 202), (b, 404), (c, 202), (d, 404)] {
        let path = format!("{messages}/{message}/endpoint/{granted}/resend");
        let answer = user.call(Method::POST, &path, json!({})).await;
        assert_eq!(answer.status, status, "{}", answer.text);
    }
    server.settle().await;
    assert_eq!((own.count(), foreign.count()), (4, 2));

    let path = user.grant_path(&granted);
    server.delete(&path).await.expect(204);
    assert_eq!(user.ids(messages).await, [""; 0]);
    assert_error(
        &user.get(&format!("{messages}/{a}")).await,
        404,
        "not_found",
    );
    assert_eq!(user.ids(ENDPOINTS).await, [""; 0]);
    user.grant(&hidden).await.expect(204);
    assert_eq!(user.ids(messages).await, [c.clone(), b.clone()]);
}

#[actix_web::test]
async fn a_message_that_waits_for_its_first_attempt_is_seen() {
    let receiver = Receiver::ok().await;
    let mut server = Server::start().await;
    server.leftovers_are_fine();
    let granted = server.endpoint(&receiver).await;
    server.set_disabled("app", &granted, true).await;
    let message = server.publish("a", json!({})).await;
    server.settle().await;
    let user = User::seeing(&server, &[&granted]).await;
    assert_eq!(user.ids("/api/v1/app/app/msg").await, from_ref(&message));
    let path = format!("/api/v1/app/app/msg/{message}");
    assert_eq!(user.get(&path).await.status, 200);
    assert_eq!(receiver.count(), 0);
    // After a failure it waits for its second, and the first is in the log.
    let failing = Receiver::answering([500]).await;
    let url = json!({"url": failing.url()});
    let path = format!("{ENDPOINTS}/{granted}");
    server.patch(&path, url).await.expect(200);
    server.set_disabled("app", &granted, false).await;
    server.settle().await;
    assert_eq!(user.ids("/api/v1/app/app/msg").await, [message]);
}

#[actix_web::test]
async fn a_message_that_is_sent_to_a_granted_endpoint_much_later_is_seen_then() {
    let (own, foreign) = (Receiver::ok().await, Receiver::ok().await);
    let server = Server::start_with(|config| config.store.slice_hours = 1).await;
    let body = json!({"url": own.url(), "eventTypes": ["never"]});
    let granted = server.endpoint_of("app", body).await;
    server.endpoint(&foreign).await;
    let message = server.publish("a", json!({})).await;
    server.settle().await;
    let user = User::seeing(&server, &[&granted]).await;
    let path = format!("/api/v1/app/app/msg/{message}");
    assert_error(&user.get(&path).await, 404, "not_found");
    // Its attempt is in another slice than the message. A slice begins up to 10 ms ahead of the
    // clock, and what is written then is due when it begins.
    for _ in 0..3 {
        server.advance(Duration::from_secs(3600));
        server.publish("b", json!({})).await;
        server.advance(Duration::from_millis(10));
        server.settle().await;
    }
    let resend = format!("{path}/endpoint/{granted}/resend");
    server.post(&resend, json!({})).await.expect(202);
    server.settle().await;
    assert_eq!((own.count(), foreign.count()), (1, 4));
    assert_eq!(user.get(&path).await.status, 200);
    assert_eq!(user.ids("/api/v1/app/app/msg").await, [message]);
}

/// A list looks at a bounded number of records a page, and says where to read on.
#[actix_web::test]
async fn a_message_behind_thousands_of_others_is_found_page_by_page() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let body = json!({"url": receiver.url(), "eventTypes": ["wanted"]});
    let granted = server.endpoint_of("app", body).await;
    let wanted = server.publish("wanted", json!({})).await;
    server.advance(STEP);
    server
        .publish_all("app", (0..4000).map(|_| json!({})))
        .await;
    server.settle().await;
    let user = User::seeing(&server, &[&granted]).await;
    let mut pages = 0;
    let mut path = "/api/v1/app/app/msg".to_owned();
    let found = loop {
        let page = user.get(&path).await.expect(200);
        pages += 1;
        let ids = texts(&page, "id");
        if page["done"] == true || pages == 10 {
            break ids;
        }
        assert_eq!(ids, [""; 0], "it is the oldest");
        let next = page["iterator"].as_str().expect("it reads on");
        path = format!("/api/v1/app/app/msg?iterator={next}");
    };
    assert_eq!((found, pages), (vec![wanted], 2));
    // Who sees no endpoint need not read on.
    let nobody = User::making(&server).await;
    let page = nobody.get("/api/v1/app/app/msg").await.expect(200);
    assert_eq!(
        (&page["done"], &page["iterator"]),
        (&json!(true), &Value::Null)
    );
}

#[actix_web::test]
async fn a_grant_is_given_and_taken_by_owners_and_admins() {
    let server = Server::start().await;
    let url = json!({"url": "https://example.com/", "uid": "e"});
    let endpoint = server.endpoint_of("app", url).await;
    let user = User::seeing(&server, &[]).await;
    let admin = json!({"name": "a", "role": "webhook_admin"});
    let admin = server.post(TOKENS, admin).await.expect(201);
    let admin_token = admin["token"].as_str().expect("a text");
    let path = user.grant_path(&endpoint);
    for token in [admin_token, &server.token] {
        for (method, status) in [
            (Method::PUT, 204),
            (Method::PUT, 204),
            (Method::DELETE, 204),
            (Method::DELETE, 404),
        ] {
            let answer = server.call_as(token, method.clone(), &path, None).await;
            assert_eq!(answer.status, status, "{method}: {}", answer.text);
            let sees = method == Method::PUT;
            assert_eq!(
                user.get(&format!("{ENDPOINTS}/e")).await.status == 200,
                sees
            );
            let expected = if sees { json!([endpoint]) } else { json!([]) };
            assert_eq!(user.grants().await, expected);
        }
    }
    let stranger = endpoint.replace("ep_", "ep_0");
    for name in ["f", "99", "none", &stranger[..31], &user.id] {
        for method in [Method::PUT, Method::DELETE] {
            let path = user.grant_path(name);
            let answer = server.call(method, &path, &[], None).await;
            assert_error(&answer, 404, "not_found");
        }
    }
    for (token, status, code) in [
        (id(&admin), 409, "conflict"),
        ("tok_none".to_owned(), 404, "not_found"),
        (endpoint.clone(), 404, "not_found"),
    ] {
        let path = format!("{TOKENS}/{token}/endpoint/{endpoint}");
        for method in [Method::PUT, Method::DELETE] {
            let answer = server.call(method, &path, &[], None).await;
            assert_error(&answer, status, code);
        }
    }
    for (kind, name, things) in [
        ("endpoint", endpoint.as_str(), "endpoints"),
        ("application", "app", "applications"),
    ] {
        let path = format!("{TOKENS}/{}/{kind}/{name}", id(&admin));
        let answer = server.call(Method::PUT, &path, &[], None).await;
        assert_error(&answer, 409, "conflict");
        let expected = format!("is granted {things}, and this one's role is webhook_admin");
        assert!(answer.text.contains(&expected), "{}", answer.text);
    }
}

#[actix_web::test]
async fn a_user_can_be_made_with_grants_that_exist() {
    let server = Server::start().await;
    let endpoint = server
        .endpoint_of("app", json!({"url": "https://example.com/"}))
        .await;
    let body = |role: &str, ids: Value| json!({"name": "t", "role": role, "endpointIds": ids});
    let long: Vec<&str> = std::iter::repeat_n(endpoint.as_str(), 1001).collect();
    for (body, places) in [
        (
            body("webhook_user", json!(["none", endpoint, "ep_none"])),
            vec!["body.endpointIds.0", "body.endpointIds.2"],
        ),
        (body("webhook_user", json!(long)), vec!["body.endpointIds"]),
        (body("webhook_user", json!([1])), vec!["body.endpointIds.0"]),
        (
            body("publisher", json!([endpoint])),
            vec!["body.endpointIds"],
        ),
        (
            json!({"name": "t", "role": "webhook_user", "applicationId": "app"}),
            vec!["body.applicationId"],
        ),
    ] {
        assert_invalid(&server.post(TOKENS, body).await, &places);
    }
    let tokens = server.get(TOKENS).await.expect(200);
    assert_eq!(texts(&tokens, "role"), ["owner"]);
    User::seeing(&server, &[&endpoint]).await;
}

#[actix_web::test]
async fn grants_end_with_their_endpoint_and_survive_a_restart() {
    let server = Server::start().await;
    let url = json!({"url": "https://example.com/", "uid": "e"});
    let kept = server.endpoint_of("app", url.clone()).await;
    let deleted = server
        .endpoint_of("app", json!({"url": "https://example.com/"}))
        .await;
    server.endpoint_of("gone", url.clone()).await;
    let gone = server.get("/api/v1/app/gone/endpoint/e").await.expect(200);
    let granted = [kept.as_str(), &deleted, &id(&gone)];
    let user = User::made(&server, &granted, &["app", "gone"]).await;
    let path = format!("{ENDPOINTS}/{deleted}");
    user.call(Method::DELETE, &path, Value::Null)
        .await
        .expect(204);
    server.delete("/api/v1/app/gone").await.expect(204);
    // What comes in their place is another's.
    server.endpoint_of("gone", url).await;
    let (user_id, token) = (user.id.clone(), user.token.clone());
    let server = server.restart().await;
    let user = User {
        server: &server,
        id: user_id,
        token,
    };
    assert_eq!(user.grants().await, json!([kept]));
    assert_eq!(user.ids(ENDPOINTS).await, [kept]);
    let gone = user.get("/api/v1/app/gone/endpoint").await;
    assert_error(&gone, 404, "not_found");
    let path = user.grant_path(&deleted);
    assert_error(&server.delete(&path).await, 404, "not_found");
}

#[actix_web::test]
async fn a_user_has_a_bounded_number_of_endpoints_and_deleted_ones_make_room() {
    let server = Server::start_with(|config| {
        config.limits.endpoints_per_application_max = 1001;
    })
    .await;
    server.application("app").await;
    let url = json!({"url": "https://example.com/"});
    let mut ids = Vec::new();
    for _ in 0..1001 {
        let made = server.post(ENDPOINTS, url.clone()).await;
        ids.push(id(&made.expect(201)));
    }
    let last = ids.pop().expect("a thousand and one");
    ids.sort();
    let body =
        json!({"name": "u", "role": "webhook_user", "applicationIds": ["app"], "endpointIds": ids});
    let made = server.post(TOKENS, body).await.expect(201);
    assert_eq!(made["endpointIds"], json!(ids));
    let user = User {
        server: &server,
        id: id(&made),
        token: made["token"].as_str().expect("a text").to_owned(),
    };
    assert_error(&user.grant(&last).await, 429, "too_many");
    user.grant(&ids[0]).await.expect(204);
    let path = format!("{ENDPOINTS}/{last}");
    server.delete(&path).await.expect(204);
    let refused = user.call(Method::POST, ENDPOINTS, url.clone()).await;
    assert_error(&refused, 429, "too_many");
    let listed = format!(
        "{ENDPOINTS}?order=ascending&limit=250&iterator={}",
        ids[900]
    );
    let listed = texts(&server.get(&listed).await.expect(200), "id");
    assert_eq!(listed, ids[901..], "it was not made");
    let path = format!("{ENDPOINTS}/{}", ids[0]);
    user.call(Method::DELETE, &path, Value::Null)
        .await
        .expect(204);
    user.call(Method::POST, ENDPOINTS, url).await.expect(201);
}

#[actix_web::test]
async fn without_a_grant_an_application_is_not_there_and_takes_no_endpoint() {
    let server = Server::start().await;
    for uid in ["app", "other"] {
        server.application(uid).await;
    }
    let url = json!({"url": "https://example.com/"});
    let endpoint = server.endpoint_of("other", url.clone()).await;
    let user = User::seeing(&server, &[&endpoint]).await;
    let webhooks = "/api/v3/project_templates/app/webhook_endpoints";
    for (method, path, body) in [
        (Method::POST, ENDPOINTS, url.clone()),
        (Method::PUT, "/api/v1/app/app/endpoint/mine", url.clone()),
        (Method::GET, ENDPOINTS, Value::Null),
        (Method::GET, "/api/v1/app/app", Value::Null),
        (Method::GET, "/api/v1/app/app/msg", Value::Null),
        (Method::GET, webhooks, Value::Null),
    ] {
        let answer = user.call(method.clone(), path, body).await;
        assert_eq!(answer.status, 404, "{method} {path}: {}", answer.text);
    }
    let ovation = json!({"webhookEndpoint": {"target_url": "https://example.com/", "event": "a",
        "username": "u", "password": "p"}});
    let answer = user.call(Method::POST, webhooks, ovation).await;
    assert_eq!(answer.status, 422, "{}", answer.text);
    assert!(answer.text.contains("Project Template not found"));
    // The grant of an endpoint shows its application, and makes no others there.
    user.get("/api/v1/app/other").await.expect(200);
    assert_eq!(
        user.ids("/api/v1/app/other/endpoint").await,
        from_ref(&endpoint)
    );
    for (method, path) in [
        (Method::POST, "/api/v1/app/other/endpoint"),
        (Method::PUT, "/api/v1/app/other/endpoint/mine"),
    ] {
        assert_error(
            &user.call(method, path, url.clone()).await,
            403,
            "forbidden",
        );
    }
    assert_eq!(user.grants().await, json!([endpoint]));
}

#[actix_web::test]
async fn an_application_is_granted_and_taken_by_owners_and_admins() {
    let server = Server::start().await;
    server.application("app").await;
    let hidden = server
        .endpoint_of("app", json!({"url": "https://example.com/"}))
        .await;
    let app = id(&server.get("/api/v1/app/app").await.expect(200));
    let user = User::seeing(&server, &[]).await;
    let admin = json!({"name": "a", "role": "webhook_admin"});
    let admin = server.post(TOKENS, admin).await.expect(201);
    let admin = admin["token"].as_str().expect("a text");
    let path = |name: &str| format!("{TOKENS}/{}/application/{name}", user.id);
    for name in ["app", &app] {
        let granted = server.call_as(admin, Method::PUT, &path(name), None).await;
        assert_eq!(granted.status, 204, "{}", granted.text);
    }
    let shown = server
        .get(&format!("{TOKENS}/{}", user.id))
        .await
        .expect(200);
    assert_eq!(shown["applicationIds"], json!([app]));
    assert_eq!(shown["applications"][0]["uid"], "app");
    assert_eq!(
        user.ids(ENDPOINTS).await,
        [""; 0],
        "endpoints of others stay hidden"
    );
    let url = json!({"url": "https://example.com/"});
    let made = id(&user
        .call(Method::POST, ENDPOINTS, url.clone())
        .await
        .expect(201));
    assert_ne!(made, hidden);

    assert_error(
        &user.call(Method::PUT, &path("app"), Value::Null).await,
        403,
        "forbidden",
    );
    assert_error(
        &server.call(Method::PUT, &path("no"), &[], None).await,
        404,
        "not_found",
    );
    server.delete(&path("app")).await.expect(204);
    assert_error(&server.delete(&path("app")).await, 404, "not_found");
    assert_error(
        &user.call(Method::POST, ENDPOINTS, url).await,
        403,
        "forbidden",
    );
    assert_eq!(
        user.ids(ENDPOINTS).await,
        [made],
        "what it made stays its own"
    );

    let mut one = json!({"name": "o", "role": "application", "applicationId": "app"});
    one["applicationIds"] = json!(["app"]);
    assert_invalid(&server.post(TOKENS, one).await, &["body.applicationIds"]);
    let gone = json!({"name": "o", "role": "webhook_user", "applicationIds": ["app", "no"]});
    assert_invalid(&server.post(TOKENS, gone).await, &["body.applicationIds.1"]);
    let owner = server
        .post(TOKENS, json!({"name": "o", "role": "owner"}))
        .await;
    let owner = id(&owner.expect(201));
    let refused = server
        .call(
            Method::PUT,
            &format!("{TOKENS}/{owner}/application/app"),
            &[],
            None,
        )
        .await;
    assert_error(&refused, 409, "conflict");
}

#[actix_web::test]
async fn grants_survive_a_restart_and_end_with_the_application() {
    let server = Server::start().await;
    server.application("app").await;
    let (token, user_id) = {
        let user = User::making(&server).await;
        (user.token, user.id)
    };
    let server = server.restart().await;
    let path = format!("{TOKENS}/{user_id}");
    let url = Some(json!({"url": "https://example.com/"}).to_string());
    let made = server.call_as(&token, Method::POST, ENDPOINTS, url).await;
    made.expect(201);
    server.delete("/api/v1/app/app").await.expect(204);
    let shown = server.get(&path).await.expect(200);
    assert_eq!(
        (&shown["applicationIds"], &shown["endpointIds"]),
        (&json!([]), &json!([]))
    );
    server.application("app").await;
    let again = server.call_as(&token, Method::GET, ENDPOINTS, None).await;
    assert_error(&again, 404, "not_found");
}

#[actix_web::test]
async fn an_endpoint_is_granted_by_id_uid_or_number() {
    let server = Server::start().await;
    let url = "https://example.com/";
    let by_uid = server
        .endpoint_of("app", json!({"url": url, "uid": "mine"}))
        .await;
    let by_number = server
        .endpoint_of("other", json!({"url": url, "uid": "twice"}))
        .await;
    server
        .endpoint_of("app", json!({"url": url, "uid": "twice"}))
        .await;
    let number = {
        let catalog = server.store().catalog();
        let organisation = catalog.organisations().next().expect("there is one").id;
        let id = by_number.parse().expect("an id");
        catalog
            .endpoint(organisation, id)
            .expect("it is there")
            .number
            .to_string()
    };
    let user = User::seeing(&server, &[]).await;
    user.grant("mine").await.expect(204);
    assert_eq!(user.grants().await, json!([by_uid]));
    user.grant(&number).await.expect(204);
    let path = user.grant_path("mine");
    server.delete(&path).await.expect(204);
    assert_eq!(user.grants().await, json!([by_number]));
    assert_error(&user.grant("twice").await, 409, "conflict");
    for name in ["nobody", "999", "01"] {
        assert_error(&user.grant(name).await, 404, "not_found");
    }
    // A uid that looks like another's number could mean both.
    server
        .endpoint_of("app", json!({"url": url, "uid": number}))
        .await;
    assert_error(&user.grant(&number).await, 409, "conflict");
    let body = json!({"name": "u", "role": "webhook_user", "endpointIds": ["mine", by_number]});
    let made = server.post(TOKENS, body).await.expect(201);
    assert_eq!(made["endpointIds"].as_array().map(Vec::len), Some(2));
    let body = json!({"name": "u", "role": "webhook_user", "endpointIds": ["twice"]});
    assert_invalid(&server.post(TOKENS, body).await, &["body.endpointIds.0"]);
}
