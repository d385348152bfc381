//! Ocrolus: a token is an account with one endpoint of its own, configured by forms or JSON.

use awc::http::Method;
use postrider::domain::endpoint::{BasicAuth, Endpoint};
use serde_json::{Value, json};

use crate::support::{Answer, Receiver, Server, keys};

mod wire;

const CONFIGURE: &str = "/v1/account/settings/update/webhook_endpoint";
const DETAILS: &str = "/v1/account/settings/webhook_details";
const TEST: &str = "/v1/account/settings/test_webhook_endpoint";
const ROTATE: &str = "/v1/account/settings/webhook/rotate-secret";

/// The catalogue of the document, sorted.
const EVENTS: [&str; 4] = [
    "ANALYTICS_COMPLETED",
    "BOOK_VERIFIED",
    "DOC_VERIFIED",
    "IMAGE_GROUP_VERIFIED",
];

const JSON: &str = "application/json";
const URLENCODED: &str = "application/x-www-form-urlencoded";

/// A server whose catalogue has the document's event types and one that is archived.
async fn furnished(server: Server) -> Server {
    for name in EVENTS.iter().chain(&["BOOK_ADDED"]) {
        let body = json!({ "name": name, "description": "from the document" });
        let path = "/api/v1/event-type";
        server.post(path, body).await.expect(201);
    }
    let archived = "/api/v1/event-type/BOOK_ADDED";
    server.delete(archived).await.expect(204);
    server
}

async fn start() -> Server {
    furnished(Server::start().await).await
}

/// A token of the application `app`.
struct Account {
    id: String,
    authorization: String,
}

impl Account {
    async fn on(server: &Server) -> Account {
        server.application("app").await;
        Account::with(server, "application", "app").await
    }

    async fn with(server: &Server, role: &str, application: &str) -> Account {
        let mut body = json!({ "name": "an API key", "role": role });
        if role == "application" {
            body["applicationId"] = application.into();
        }
        let made = server.post("/api/v1/token", body).await.expect(201);
        Account {
            id: made["id"].as_str().unwrap().to_owned(),
            authorization: format!("Bearer {}", made["token"].as_str().unwrap()),
        }
    }

    async fn get(&self, server: &Server, path: &str) -> Answer {
        let headers = [("authorization", self.authorization.as_str())];
        server.call(Method::GET, path, &headers, None).await
    }

    async fn send(&self, server: &Server, path: &str, kind: &str, body: String) -> Answer {
        let headers = [
            ("authorization", self.authorization.as_str()),
            ("content-type", kind),
        ];
        server.call(Method::POST, path, &headers, Some(body)).await
    }

    async fn post(&self, server: &Server, path: &str, body: Value) -> Answer {
        self.send(server, path, JSON, body.to_string()).await
    }

    async fn configure(&self, server: &Server, body: Value) -> Value {
        let answer = self.post(server, CONFIGURE, body).await;
        response(&answer)
    }
}

/// What a call answered, after checking what is around it.
#[track_caller]
fn response(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.header("content-type"), Some(JSON));
    let body = answer.json();
    assert_eq!(keys(&body), ["code", "message", "response", "status"]);
    let around = (&body["status"], &body["message"], &body["code"]);
    assert_eq!(around, (&json!(200), &json!("OK"), &json!(200)));
    body["response"].clone()
}

/// An error in this system's shape whose message has all these parts.
#[track_caller]
fn assert_refused(answer: &Answer, status: u16, parts: &[&str]) {
    assert_eq!(answer.status, status, "{}", answer.text);
    assert_eq!(answer.header("content-type"), Some(JSON));
    let body = answer.json();
    assert_eq!(keys(&body), ["message", "status"]);
    assert_eq!(body["status"], status);
    let message = body["message"].as_str().expect("a sentence");
    assert!(!message.is_empty());
    for part in parts {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
}

fn endpoints(server: &Server) -> Vec<Endpoint> {
    let catalog = server.store().catalog();
    let organisation = catalog.organisations().next().expect("there is one").id;
    let entry = catalog.application(organisation, "app").expect("it exists");
    let endpoints = entry.endpoints.iter();
    endpoints.map(|endpoint| (**endpoint).clone()).collect()
}

fn multipart(fields: &[(&str, &str)]) -> (&'static str, String) {
    let part = |(name, value): &(&str, &str)| {
        format!("--x1\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let body: String = fields.iter().map(part).collect();
    ("multipart/form-data; boundary=x1", body + "--x1--\r\n")
}

const URL: &str = "http://127.0.0.1:9/webhook";

#[actix_web::test]
async fn configuring_again_replaces_the_accounts_one_endpoint() {
    let server = start().await;
    let account = Account::on(&server).await;
    assert_refused(&account.get(&server, DETAILS).await, 404, &["not found"]);

    let first = json!({ "webhook_endpoint": URL, "event": "BOOK_VERIFIED, DOC_VERIFIED" });
    let shown = account.configure(&server, first).await;
    let expected = json!({ "webhook_endpoint": URL, "events": ["BOOK_VERIFIED", "DOC_VERIFIED"] });
    assert_eq!(shown, expected);
    assert_eq!(response(&account.get(&server, DETAILS).await), expected);
    let [made] = &endpoints(&server)[..] else {
        panic!("one endpoint");
    };
    assert_eq!(made.profile.as_deref(), Some("ocrolus"));
    assert_eq!(made.secrets.len(), 1);

    let other = "http://127.0.0.1:9/other";
    let second = json!({ "webhook_endpoint": other, "event": "ANALYTICS_COMPLETED" });
    let shown = account.configure(&server, second).await;
    let expected = json!({ "webhook_endpoint": other, "events": ["ANALYTICS_COMPLETED"] });
    assert_eq!(shown, expected);
    for path in [DETAILS, &format!("{DETAILS}/")] {
        assert_eq!(response(&account.get(&server, path).await), expected);
    }
    let [changed] = &endpoints(&server)[..] else {
        panic!("still one endpoint");
    };
    assert_eq!((changed.id, changed.number), (made.id, made.number));
    assert_eq!(changed.secrets, made.secrets);

    // The customer's other tools see the same endpoint.
    let native = format!("/api/v1/app/app/endpoint/{}", made.id);
    let native = account.get(&server, &native).await.expect(200);
    assert_eq!(native["url"], other);
    assert_eq!(native["eventTypes"], json!(["ANALYTICS_COMPLETED"]));

    // It is the token's through a restart.
    let server = server.restart().await;
    assert_eq!(response(&account.get(&server, DETAILS).await), expected);
}

#[actix_web::test]
async fn the_three_forms_say_the_same() {
    let server = start().await;
    let encoded = "webhook_endpoint=http%3A%2F%2F127.0.0.1%3A9%2Fwebhook\
                   &event=BOOK_VERIFIED%2C+DOC_VERIFIED&username=ann&password=p%40ss+w";
    let fields = [
        ("webhook_endpoint", URL),
        ("event", "BOOK_VERIFIED, DOC_VERIFIED"),
        ("username", "ann"),
        ("password", "p@ss w"),
    ];
    let (boundary, parts) = multipart(&fields);
    let with = |name: &str, value: Value| {
        let mut body = json!({ "webhook_endpoint": URL, "username": "ann", "password": "p@ss w" });
        body[name] = value;
        body.to_string()
    };
    let repeated = encoded.replace("%2C+", "&event=");
    for (kind, body) in [
        (boundary, parts),
        (URLENCODED, encoded.to_owned()),
        (URLENCODED, repeated),
        (JSON, with("event", json!("BOOK_VERIFIED,DOC_VERIFIED"))),
        (
            JSON,
            with("event", json!(["BOOK_VERIFIED", "DOC_VERIFIED"])),
        ),
        (
            JSON,
            with("events", json!(["BOOK_VERIFIED", "DOC_VERIFIED"])),
        ),
    ] {
        let account = Account::on(&server).await;
        for path in [CONFIGURE, &format!("{CONFIGURE}/")] {
            let answer = account.send(&server, path, kind, body.clone()).await;
            let expected =
                json!({ "webhook_endpoint": URL, "events": ["BOOK_VERIFIED", "DOC_VERIFIED"] });
            assert_eq!(response(&answer), expected, "{body}");
        }
        let all = endpoints(&server);
        let made = all.last().expect("it was made");
        let credentials = BasicAuth {
            username: "ann".to_owned(),
            password: "p@ss w".to_owned(),
        };
        assert_eq!(made.basic_auth, Some(credentials), "{body}");
    }
    assert_eq!(endpoints(&server).len(), 6, "one for each token");
}

#[actix_web::test]
async fn what_is_left_out_stays_and_without_a_list_everything_is_sent() {
    let server = start().await;
    let account = Account::on(&server).await;
    let everything = account
        .configure(&server, json!({ "webhook_endpoint": URL }))
        .await;
    assert_eq!(everything["events"], json!(EVENTS), "archived ones aside");
    assert_eq!(endpoints(&server)[0].event_types, None);

    let one = json!({ "event": "DOC_VERIFIED" });
    let shown = account.configure(&server, one).await;
    let expected = json!({ "webhook_endpoint": URL, "events": ["DOC_VERIFIED"] });
    assert_eq!(shown, expected);

    let other = "http://127.0.0.1:9/other";
    let shown = account
        .configure(&server, json!({ "webhook_endpoint": other, "event": null }))
        .await;
    let expected = json!({ "webhook_endpoint": other, "events": ["DOC_VERIFIED"] });
    assert_eq!(shown, expected);
}

#[actix_web::test]
async fn an_empty_list_deregisters() {
    let server = start().await;
    let account = Account::on(&server).await;
    let (boundary, parts) = multipart(&[("webhook_endpoint", URL), ("event", "")]);
    for (kind, body) in [
        (boundary, parts),
        (URLENCODED, "event=".to_owned()),
        (JSON, r#"{"event":" "}"#.to_owned()),
        (JSON, r#"{"events":[]}"#.to_owned()),
    ] {
        account
            .configure(&server, json!({ "webhook_endpoint": URL }))
            .await;
        let gone = account.send(&server, CONFIGURE, kind, body.clone()).await;
        let expected = json!({ "webhook_endpoint": URL, "events": [] });
        assert_eq!(response(&gone), expected, "{body}");
        assert_eq!(endpoints(&server), [], "{body}");
        assert_refused(&account.get(&server, DETAILS).await, 404, &["not found"]);
        let again = account.send(&server, CONFIGURE, kind, body).await;
        assert_refused(&again, 404, &["not found"]);
    }
    let secret = json!({ "secret_key": "0123456789abcdef" });
    let rotated = account.post(&server, ROTATE, secret).await;
    assert_refused(&rotated, 404, &["not found"]);
    assert_refused(&account.get(&server, TEST).await, 404, &["not found"]);
}

#[actix_web::test]
async fn an_endpoint_that_was_deleted_elsewhere_is_not_configured() {
    let server = start().await;
    let account = Account::on(&server).await;
    let body = json!({ "webhook_endpoint": URL, "event": "DOC_VERIFIED" });
    account.configure(&server, body).await;
    let gone = endpoints(&server)[0].id;
    let native = format!("/api/v1/app/app/endpoint/{gone}");
    server.delete(&native).await.expect(204);
    for path in [DETAILS, TEST] {
        assert_refused(&account.get(&server, path).await, 404, &["not found"]);
    }
    let only_events = json!({ "event": "DOC_VERIFIED" });
    let answer = account.post(&server, CONFIGURE, only_events).await;
    assert_refused(&answer, 422, &["webhook_endpoint: is required"]);
    account
        .configure(&server, json!({ "webhook_endpoint": URL }))
        .await;
    let [made] = &endpoints(&server)[..] else {
        panic!("one endpoint");
    };
    assert!(made.id != gone && made.event_types.is_none());
}

#[actix_web::test]
async fn credentials_come_from_the_fields_or_the_url_and_are_never_shown() {
    let server = start().await;
    let account = Account::on(&server).await;
    let auth = |username: &str, password: &str| {
        Some(BasicAuth {
            username: username.to_owned(),
            password: password.to_owned(),
        })
    };
    let with_user = "http://bob:s3cret%21@127.0.0.1:9/webhook";
    let elsewhere = "http://127.0.0.1:10/webhook";
    for (body, expected) in [
        (
            json!({ "webhook_endpoint": with_user }),
            auth("bob", "s3cret!"),
        ),
        (json!({ "event": "DOC_VERIFIED" }), auth("bob", "s3cret!")),
        (json!({ "webhook_endpoint": URL }), auth("bob", "s3cret!")),
        // Another origin gets others, or none.
        (
            json!({ "webhook_endpoint": elsewhere, "username": "", "password": "" }),
            None,
        ),
        (
            json!({ "username": "zoe", "password": "s3cret:é" }),
            auth("zoe", "s3cret:é"),
        ),
        (
            json!({ "webhook_endpoint": with_user, "username": "dan", "password": "s3cret2" }),
            auth("dan", "s3cret2"),
        ),
        (json!({ "username": "kim" }), auth("kim", "")),
        (json!({ "username": "", "password": "" }), None),
    ] {
        let answer = account.post(&server, CONFIGURE, body.clone()).await;
        assert_eq!(keys(&response(&answer)), ["events", "webhook_endpoint"]);
        let details = account.get(&server, DETAILS).await;
        for text in [answer.text, details.text] {
            for hidden in ["s3cret", "bob", "zoe", "dan", "kim"] {
                assert!(!text.contains(hidden), "{text}");
            }
        }
        assert_eq!(endpoints(&server)[0].basic_auth, expected, "{body}");
    }
}

#[actix_web::test]
async fn what_is_wrong_is_named_as_a_whole_and_changes_nothing() {
    let server = start().await;
    let account = Account::on(&server).await;
    let nothing = account.post(&server, CONFIGURE, json!({})).await;
    assert_refused(&nothing, 422, &["webhook_endpoint: is required"]);
    assert_eq!(endpoints(&server), []);

    let good = json!({ "webhook_endpoint": URL, "event": "DOC_VERIFIED", "username": "ann" });
    account.configure(&server, good).await;
    let before = endpoints(&server);
    let refused = async |kind: &str, body: String, parts: &[&str]| {
        let answer = account.send(&server, CONFIGURE, kind, body.clone()).await;
        assert_refused(&answer, 422, parts);
        assert!(!answer.text.contains("s3cret"), "{}", answer.text);
        assert_eq!(endpoints(&server), before, "{body}");
    };
    for (field, value, part) in [
        ("webhook_endpoint", json!("nowhere"), "must be an absolute"),
        ("webhook_endpoint", json!(""), "must be an absolute URL"),
        ("webhook_endpoint", json!("ftp://host/"), "must be http or"),
        ("webhook_endpoint", json!("http://10.0.0.1/"), ""),
        ("webhook_endpoint", json!(7), "must be a string"),
        ("event", json!("BOOK_BURNT"), "no event type BOOK_BURNT"),
        ("event", json!("BOOK_ADDED"), "type BOOK_ADDED is archived"),
        ("event", json!(7), "must be a text with commas"),
        ("event", json!([7]), "must be a text with commas"),
        ("username", json!("a:b"), "may not contain a colon"),
        ("username", json!("x".repeat(1025)), "at most 1024 bytes"),
        ("username", json!("a\u{7}"), "may not contain control"),
    ] {
        let body = json!({ field: value }).to_string();
        refused(JSON, body, &[&format!("{field}: "), part]).await;
    }
    for (body, parts) in [
        (json!([]), vec!["body: must be a JSON object"]),
        (json!({ "event": "DOC_VERIFIED," }), vec!["event.1: must"]),
        (json!({ "event": [""] }), vec!["event.0: must have 1"]),
        (json!({ "event": "NOT OK" }), vec!["event.0: may contain"]),
        (
            json!({ "event": "", "events": ["DOC_VERIFIED"] }),
            vec!["events: is the same as event"],
        ),
        (
            json!({ "event": "", "webhook_endpoint": "nowhere" }),
            vec!["webhook_endpoint: must be"],
        ),
        (
            json!({ "password": "s3cret" }),
            vec!["username: is required with a password"],
        ),
        (
            json!({
                "webhook_endpoint": "/in", "event": ["BOOK_ADDED", "A", "B B"],
                "username": "a:b", "password": "s3cret\n"
            }),
            vec![
                "webhook_endpoint: must be",
                "event.2: may contain",
                "password: may not contain control",
                "username: may not contain a colon",
                "event: the event type BOOK_ADDED",
                "event: there is no event type A",
            ],
        ),
    ] {
        refused(JSON, body.to_string(), &parts).await;
    }
    let long = format!("event={}", "x".repeat(33_000));
    let many: String = (0..40).map(|n| format!("f{n}=1&")).collect();
    let twice = "username=a&username=b&webhook_endpoint=x&webhook_endpoint=y";
    let multipart = "multipart/form-data; boundary=x1";
    for (kind, body, parts) in [
        (
            URLENCODED,
            twice,
            vec!["username: is given more", "webhook_endpoint: is given"],
        ),
        (URLENCODED, "event=%ff", vec!["event: is not UTF-8"]),
        (URLENCODED, &long, vec!["event: must have at most 32768"]),
        (URLENCODED, &many, vec!["at most 32 fields"]),
        (multipart, "--x1\r\n", vec!["body: is not a multipart"]),
        ("multipart/form-data", "", vec!["body: is not a multipart"]),
        ("text/plain", "event=DOC_VERIFIED", vec!["body: "]),
    ] {
        refused(kind, body.to_owned(), &parts).await;
    }
    let details = response(&account.get(&server, DETAILS).await);
    assert_eq!(details["events"], json!(["DOC_VERIFIED"]));
}

#[actix_web::test]
async fn https_only_holds_here_too() {
    let server = Server::start_with(|config| config.delivery.https_only = true).await;
    let account = Account::on(&server).await;
    let body = json!({ "webhook_endpoint": URL });
    let answer = account.post(&server, CONFIGURE, body).await;
    assert_refused(&answer, 422, &["webhook_endpoint: must be https"]);
}

#[actix_web::test]
async fn every_error_has_this_systems_shape() {
    let server = Server::start_with(|config| config.limits.endpoints_per_application_max = 1);
    let server = furnished(server.await).await;
    let account = Account::on(&server).await;
    let calls = [
        (Method::POST, CONFIGURE),
        (Method::GET, DETAILS),
        (Method::GET, TEST),
        (Method::POST, ROTATE),
    ];
    let nobody = [("authorization", "Bearer pr_nobody")];
    for (method, path) in &calls {
        let answer = server.call(method.clone(), path, &nobody, None).await;
        assert_refused(&answer, 401, &["credential"]);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    for role in ["owner", "publisher", "webhook_admin", "webhook_user"] {
        let other = Account::with(&server, role, "").await;
        let headers = [("authorization", other.authorization.as_str())];
        for (method, path) in &calls {
            let answer = server.call(method.clone(), path, &headers, None).await;
            assert_refused(&answer, 403, &["role application"]);
        }
    }
    server.application("app").await;
    let link = server.post("/api/v1/auth/app-portal-access/app", json!({}));
    let link = link.await.expect(200);
    let link = format!("Bearer {}", link["token"].as_str().expect("a text"));
    for (method, path) in &calls {
        let headers = [("authorization", link.as_str())];
        let answer = server.call(method.clone(), path, &headers, None).await;
        assert_refused(&answer, 403, &["a link to the portal"]);
    }
    let unknown = account.get(&server, "/v1/account/settings/webhooks").await;
    assert_refused(&unknown, 404, &["no such path"]);
    let wrong_method = account.get(&server, CONFIGURE).await;
    assert_refused(&wrong_method, 405, &["POST"]);
    assert_eq!(wrong_method.header("allow"), Some("POST"));
    let long = json!({ "webhook_endpoint": URL, "password": "x".repeat(70_000) });
    let too_long = account.post(&server, CONFIGURE, long).await;
    assert_refused(&too_long, 413, &["longer"]);

    let body = json!({ "webhook_endpoint": URL });
    account.configure(&server, body.clone()).await;
    let second = Account::on(&server).await;
    let one_more = second.post(&server, CONFIGURE, body).await;
    assert_refused(&one_more, 429, &["at most 1 endpoints"]);
    assert_eq!(endpoints(&server).len(), 1);

    let server = server
        .restart_with(|config| config.store.min_free_bytes = u64::MAX)
        .await;
    let no_room = account.get(&server, TEST).await;
    assert_refused(&no_room, 503, &["min_free_bytes"]);
    assert!(no_room.header("retry-after").is_some());
}

#[actix_web::test]
async fn a_revoked_key_configures_nothing_and_leaves_its_endpoint() {
    let server = start().await;
    let account = Account::on(&server).await;
    account
        .configure(&server, json!({ "webhook_endpoint": URL }))
        .await;
    let path = format!("/api/v1/token/{}", account.id);
    server.delete(&path).await.expect(204);
    assert_refused(&account.get(&server, DETAILS).await, 401, &[]);
    assert_eq!(endpoints(&server).len(), 1);
}

#[actix_web::test]
async fn a_rotated_secret_is_the_only_one_and_is_not_shown() {
    let server = start().await;
    let account = Account::on(&server).await;
    account
        .configure(&server, json!({ "webhook_endpoint": URL }))
        .await;
    let secret = |length: usize| "é".repeat(length);
    let (boundary, parts) = multipart(&[("secret_key", "from a multipart form")]);
    for (kind, body, expected) in [
        (
            JSON,
            json!({ "secret_key": secret(16) }).to_string(),
            secret(16),
        ),
        (
            JSON,
            json!({ "secret_key": secret(128) }).to_string(),
            secret(128),
        ),
        (
            URLENCODED,
            "secret_key=from+an+encoded+form".to_owned(),
            "from an encoded form".to_owned(),
        ),
        (boundary, parts, "from a multipart form".to_owned()),
    ] {
        let answer = account.send(&server, ROTATE, kind, body).await;
        assert!(!answer.text.contains(&expected), "{}", answer.text);
        assert_eq!(response(&answer)["webhook_endpoint"], URL);
        let [secret] = &endpoints(&server)[0].secrets[..] else {
            panic!("one secret");
        };
        assert_eq!(secret.secret.expose(), expected);
        assert_eq!(secret.expires_at, None);
    }

    let before = endpoints(&server);
    for (body, part) in [
        (json!({}), "secret_key: must have 16 to 128 characters"),
        (json!({ "secret_key": null }), "secret_key: must have 16"),
        (
            json!({ "secret_key": secret(15) }),
            "secret_key: must have 16",
        ),
        (
            json!({ "secret_key": secret(129) }),
            "secret_key: must have 16",
        ),
        (
            json!({ "secret_key": "line\nbreak, long enough" }),
            "secret_key: may not have control",
        ),
        (
            json!({ "secret_key": 1234567890123456_u64 }),
            "secret_key: must be a string",
        ),
    ] {
        let answer = account.post(&server, ROTATE, body).await;
        assert_refused(&answer, 422, &[part]);
        assert!(!answer.text.contains("break, long"), "{}", answer.text);
        assert_eq!(endpoints(&server), before);
    }
}

#[actix_web::test]
async fn a_disabled_endpoint_is_not_tested_until_a_url_enables_it() {
    let receiver = Receiver::ok().await;
    let server = start().await;
    let account = Account::on(&server).await;
    let body = json!({ "webhook_endpoint": receiver.url() });
    account.configure(&server, body.clone()).await;
    let endpoint = endpoints(&server)[0].id.to_string();
    server.set_disabled("app", &endpoint, true).await;

    let tried = response(&account.get(&server, TEST).await);
    assert_eq!(tried["resp_code"], Value::Null);
    assert!(tried["message"].as_str().unwrap().contains("disabled"));
    assert_eq!(server.store().waiting_count(), 0, "nothing is kept for it");

    account
        .configure(&server, json!({ "event": "DOC_VERIFIED" }))
        .await;
    assert!(endpoints(&server)[0].disabled.is_some());
    account.configure(&server, body).await;
    assert!(endpoints(&server)[0].disabled.is_none());
}
