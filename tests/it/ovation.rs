//! Ovation's management API: each row of its document, what the document leaves open, and that its
//! webhooks are the same endpoints that the native API has.

use std::slice;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use awc::http::Method;
use postrider::domain::endpoint::Endpoint;
use serde_json::{Value, json};

use crate::support::{Answer, Receiver, Script, Server, keys, wait_until};

const WEBHOOKS: &str = "/api/v3/project_templates/456/webhook_endpoints";

/// As the public documentation lists them.
const EVENTS: [&str; 7] = [
    "requisition_signed_accession",
    "report_signed",
    "report_corrected",
    "report_ready_for_generation",
    "report_correction_ready_for_generation",
    "sample_rejected",
    "requisition_canceled",
];

/// With the catalogue and the project template 456.
async fn started() -> Server {
    started_with(|_| ()).await
}

async fn started_with(change: impl FnOnce(&mut postrider::config::Config)) -> Server {
    let server = Server::start_with(change).await;
    for name in EVENTS {
        let body = json!({ "name": name, "description": name });
        server.post("/api/v1/event-type", body).await.expect(201);
    }
    server.application("456").await;
    server
}

/// The fields that must be there.
fn least() -> Value {
    json!({
        "target_url": "http://api.test.com/", "event": "report_signed",
        "username": "someUser", "password": "somePassword",
    })
}

/// Those, with these in addition or instead.
fn with(fields: Value) -> Value {
    let mut all = least();
    for (name, value) in fields.as_object().unwrap() {
        all[name] = value.clone();
    }
    wrapped(all)
}

fn wrapped(fields: Value) -> Value {
    json!({ "webhookEndpoint": fields })
}

async fn created(server: &Server, body: Value) -> Value {
    let made = server.post(WEBHOOKS, body).await.expect(201);
    assert_eq!(keys(&made), ["webhook_endpoint"]);
    made["webhook_endpoint"].clone()
}

fn path(webhook: &Value) -> String {
    format!("{WEBHOOKS}/{}", webhook["id"])
}

/// The endpoint as it is stored.
fn stored(server: &Server, webhook: &Value) -> Arc<Endpoint> {
    let number = webhook["id"].as_u64().expect("a number");
    let catalog = server.store().catalog();
    let endpoint = catalog.endpoint_by_number(number);
    endpoint.expect("it is stored").clone()
}

#[track_caller]
fn assert_errors(answer: &Answer, status: u16, errors: &[&str]) {
    assert_eq!(answer.status, status, "{}", answer.text);
    assert_eq!(answer.json(), json!({ "errors": errors }));
}

/// A call with this credential; a null body is none.
async fn by(server: &Server, token: &str, method: Method, path: &str, body: &Value) -> Answer {
    let bearer = format!("Bearer {token}");
    let body = (!body.is_null()).then(|| body.to_string());
    server
        .call(method, path, &[("authorization", &bearer)], body)
        .await
}

#[actix_web::test]
async fn a_key_that_was_used_for_a_template_tells_nothing_to_who_does_not_see_it() {
    let server = started().await;
    server.application("other").await;
    let key = [("idempotency-key", "used")];
    let body = wrapped(least()).to_string();
    let post = async |token: &str, path: &str, body: &str| {
        let headers = [key[0], ("api-key", token)];
        let body = Some(body.to_owned());
        server.call(Method::POST, path, &headers, body).await
    };
    let made = post(&server.token, WEBHOOKS, &body).await.expect(201);
    for (role, more) in [
        ("application", json!({ "applicationId": "other" })),
        ("publisher", json!({})),
    ] {
        let mut token = json!({ "name": role, "role": role });
        token
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let token = server.post("/api/v1/token", token).await.expect(201);
        let token = token["token"].as_str().expect("a text");
        let nowhere = "/api/v3/project_templates/654/webhook_endpoints";
        for body in [body.as_str(), "{}"] {
            let answer = post(token, WEBHOOKS, body).await;
            let absent = post(token, nowhere, body).await;
            match role {
                "application" => {
                    assert_eq!(answer.status, 422);
                    assert_eq!((answer.status, &answer.text), (absent.status, &absent.text));
                    assert_eq!(answer.json()["errors"][0], "Project Template not found");
                }
                _ => assert_eq!(answer.status, 403, "{}", answer.text),
            }
        }
    }
    let again = post(&server.token, WEBHOOKS, &body).await.expect(201);
    assert_eq!(again, made, "who made it is told again");
}

#[actix_web::test]
async fn a_list_ends_where_a_page_has_its_bytes_and_goes_on_from_there() {
    let server = started_with(|config| config.limits.page_bytes = 10_000).await;
    let list = async |query: &str| server.get(&format!("{WEBHOOKS}{query}")).await;
    let mut made = Vec::new();
    // One of them is longer than a page.
    for length in [3_000, 3_000, 3_000, 8_000, 3_000, 10] {
        let header = |length: usize| "h".repeat(length);
        let headers = json!({ "X-A": header(length), "X-B": header(length.min(7_000)) });
        let body = with(json!({ "requestHeaders": headers }));
        made.push(created(&server, body).await);
    }
    let (mut read, mut sizes, mut query) = (Vec::new(), Vec::new(), String::new());
    loop {
        let answer = list(&query).await;
        let bytes = answer.text.len();
        let page = answer.expect(200);
        let webhooks = page["webhook_endpoints"].as_array().expect("a list");
        assert!(bytes < 10_500 || webhooks.len() == 1);
        sizes.push(webhooks.len());
        read.extend(webhooks.clone());
        let Some(iterator) = page["iterator"].as_str() else {
            assert_eq!(keys(&page), ["webhook_endpoints"]);
            break;
        };
        query = format!("?iterator={iterator}");
    }
    assert_eq!(read, made);
    assert_eq!(sizes, [1, 1, 1, 1, 2]);
    let error = "query.iterator: is not an iterator of this list";
    assert_errors(&list("?iterator=x").await, 422, &[error]);
}

#[actix_web::test]
async fn a_webhook_is_created_read_updated_and_deleted_as_documented() {
    let server = started().await;
    let body = json!({ "webhookEndpoint": {
        "target_url": "http://api.test.com/", "event": "report_signed",
        "username": "someUser", "password": "somePassword",
        "requestHeaders": { "X-Lab": "any value", "X-Site": "some other value" },
        "authenticationHeaders": { "api-key": "1234" },
    }});
    let made = server.post(WEBHOOKS, body).await.expect(201);
    let id = made["webhook_endpoint"]["id"].clone();
    assert!(id.is_u64(), "{id}");
    let shown = json!({
        "id": id, "target_url": "http://api.test.com/", "event": "report_signed",
        "username": "someUser", "project_requisition_template_association_id": 456,
        "requestHeaders": { "X-Lab": "any value", "X-Site": "some other value" },
    });
    assert_eq!(made, json!({ "webhook_endpoint": shown }));
    let one = path(&shown);
    for slash in ["", "/"] {
        let get = server.get(&format!("{one}{slash}")).await.expect(200);
        assert_eq!(get, json!({ "webhook_endpoint": shown }));
        let list = server.get(&format!("{WEBHOOKS}{slash}")).await.expect(200);
        assert_eq!(list, json!({ "webhook_endpoints": [shown] }));
    }

    server.advance(Duration::from_secs(60));
    let body = json!({ "webhookEndpoint": {
        "target_url": "https://api.test.com/new", "event": "sample_rejected",
        "username": "other", "password": "changed",
    }});
    let put = server.put(&one, body).await.expect(201);
    let changed = json!({
        "id": id, "target_url": "https://api.test.com/new", "event": "sample_rejected",
        "username": "other", "project_requisition_template_association_id": 456,
        "requestHeaders": { "X-Lab": "any value", "X-Site": "some other value" },
    });
    assert_eq!(put, json!({ "webhook_endpoint": changed }));
    let get = server.get(&one).await.expect(200);
    assert_eq!(get, put);
    let endpoint = stored(&server, &changed);
    assert_eq!(endpoint.updated_at, server.now());
    assert!(endpoint.created_at < endpoint.updated_at);

    let deleted = server.delete(&one).await.expect(201);
    assert_eq!(deleted, put);
    assert_errors(
        &server.get(&one).await,
        404,
        &["Webhook Endpoint not found"],
    );
    assert_errors(
        &server.delete(&one).await,
        422,
        &["Webhook Endpoint not found"],
    );
    let list = server.get(WEBHOOKS).await.expect(200);
    assert_eq!(list, json!({ "webhook_endpoints": [] }));
    let next = created(&server, wrapped(least())).await;
    assert_ne!(next["id"], id, "a number is never given again");
}

#[actix_web::test]
async fn each_event_of_the_catalogue_can_be_chosen_and_no_other() {
    let server = started().await;
    for name in EVENTS {
        let made = created(&server, with(json!({ "event": name }))).await;
        assert_eq!(made["event"], name);
    }
    server
        .patch(
            "/api/v1/event-type/report_signed",
            json!({"archived": true}),
        )
        .await
        .expect(200);
    let kept = server.get(WEBHOOKS).await.expect(200);
    for name in ["report_signed", "report", "Report_Corrected", "*"] {
        let body = with(json!({ "event": name }));
        assert_errors(
            &server.post(WEBHOOKS, body).await,
            422,
            &["Event not found"],
        );
    }
    let list = &kept["webhook_endpoints"];
    let (has_it, has_another) = (&list[1], &list[2]);
    let put = server.put(&path(has_another), wrapped(least())).await;
    assert_errors(&put, 422, &["Event not found"]);
    assert_eq!(server.get(WEBHOOKS).await.expect(200), kept);
    // Who had it before it was archived can still change the rest.
    let body = with(json!({ "password": "new" }));
    server.put(&path(has_it), body).await.expect(201);
}

#[actix_web::test]
async fn every_error_is_in_one_answer() {
    let server = started().await;
    let made = created(&server, wrapped(least())).await;
    let one = path(&made);
    let unknown = "/api/v3/project_templates/789/webhook_endpoints";
    let unknown_one = format!("{unknown}/{}", made["id"]);
    let all_missing = [
        "target_url is required",
        "event is required",
        "username is required",
        "password is required",
    ];
    let told = |first: &[&'static str]| [first, &all_missing[..]].concat();

    let empty = wrapped(json!({}));
    assert_errors(
        &server.post(WEBHOOKS, empty.clone()).await,
        422,
        &all_missing,
    );
    assert_errors(&server.put(&one, empty.clone()).await, 422, &all_missing);
    assert_errors(
        &server.post(unknown, empty.clone()).await,
        422,
        &told(&["Project Template not found"]),
    );
    assert_errors(
        &server.put(&unknown_one, empty.clone()).await,
        422,
        &told(&["Project Template not found"]),
    );
    assert_errors(
        &server.put(&format!("{WEBHOOKS}/999"), empty).await,
        422,
        &told(&["Webhook Endpoint not found"]),
    );

    let mut wrong = with(json!({
        "target_url": "ftp://x/", "event": "nothing", "username": "a:b",
        "requestHeaders": { "X-One": 1, "Host": "x", "X-Two": "é" },
        "authenticationHeaders": { "webhook-id": "x", "Authorization": "x", "no name": "x" },
    }));
    wrong["webhookEndpoint"]
        .as_object_mut()
        .unwrap()
        .remove("password");
    let errors = [
        "Project Template not found",
        "Event not found",
        "target_url must be http or https",
        "password is required",
        "username may not contain a colon, which Basic auth cannot carry",
        "requestHeaders.X-One must be a string",
        "requestHeaders.Host is a header that the server sets itself",
        "requestHeaders.X-Two must have a value of visible ASCII characters",
        "authenticationHeaders.Authorization is a header that the server sets itself",
        "authenticationHeaders.no name is not a header name",
        "authenticationHeaders.webhook-id is a header that the server sets itself",
    ];
    assert_errors(&server.post(unknown, wrong.clone()).await, 422, &errors);
    assert_errors(&server.put(&unknown_one, wrong.clone()).await, 422, &errors);
    assert_errors(
        &server.post(WEBHOOKS, wrong.clone()).await,
        422,
        &errors[1..],
    );
    assert_errors(&server.put(&one, wrong).await, 422, &errors[1..]);

    let list = server.get(WEBHOOKS).await.expect(200);
    assert_eq!(list, json!({ "webhook_endpoints": [made] }));
}

#[actix_web::test]
async fn what_does_not_exist_is_named() {
    let server = started().await;
    let made = created(&server, wrapped(least())).await;
    let number = &made["id"];
    server.application("other").await;
    let unknown = "/api/v3/project_templates/789/webhook_endpoints";
    let template: &[&str] = &["Project Template not found"];
    let webhook: &[&str] = &["Webhook Endpoint not found"];
    let other = format!("/api/v3/project_templates/other/webhook_endpoints/{number}");
    for (path, errors) in [
        (format!("{unknown}/{number}"), template),
        (format!("{WEBHOOKS}/999"), webhook),
        (other, webhook),
        (format!("{WEBHOOKS}/0{number}"), webhook),
        (format!("{WEBHOOKS}/+{number}"), webhook),
        (format!("{WEBHOOKS}/99999999999999999999999"), webhook),
        (format!("{WEBHOOKS}/{}", stored(&server, &made).id), webhook),
        (format!("{WEBHOOKS}/x"), webhook),
    ] {
        assert_errors(&server.get(&path).await, 404, errors);
        assert_errors(&server.put(&path, wrapped(least())).await, 422, errors);
        assert_errors(&server.delete(&path).await, 422, errors);
    }
    assert_errors(&server.get(unknown).await, 404, template);
    let post = server.post(unknown, wrapped(least())).await;
    assert_errors(&post, 422, template);
    server.get(&path(&made)).await.expect(200);
}

#[actix_web::test]
async fn a_template_goes_by_uid_or_id_and_is_shown_as_given() {
    let server = started().await;
    let long = "9".repeat(40);
    for uid in ["007", "lab.a-1", &long] {
        server.application(uid).await;
    }
    let id = server.get("/api/v1/app/456").await.expect(200)["id"].clone();
    let id = id.as_str().unwrap();
    for (given, expected) in [
        ("456", "456"),
        ("007", r#""007""#),
        ("lab.a-1", r#""lab.a-1""#),
        (&long, &long),
        (id, &format!("\"{id}\"")),
    ] {
        let all = format!("/api/v3/project_templates/{given}/webhook_endpoints");
        let made = server.post(&all, wrapped(least())).await;
        let place = format!(r#""project_requisition_template_association_id":{expected},"#);
        assert!(made.text.contains(&place), "{}", made.text);
        let number = made.expect(201)["webhook_endpoint"]["id"].clone();
        for path in [&all, &format!("{all}/{number}")] {
            let read = server.get(path).await;
            assert!(read.text.contains(&place), "{}", read.text);
        }
    }
    let by_uid = server.get(WEBHOOKS).await.expect(200);
    assert_eq!(by_uid["webhook_endpoints"].as_array().unwrap().len(), 2);
}

#[actix_web::test]
async fn a_body_of_another_shape_is_refused_and_changes_nothing() {
    let server = started().await;
    let made = created(&server, wrapped(least())).await;
    let one = path(&made);
    for (body, error) in [
        ("", "body: a JSON body is needed here"),
        ("[]", "body: must be a JSON object"),
        ("{}", "webhookEndpoint is required"),
        (r#"{"webhookEndpoint":null}"#, "webhookEndpoint is required"),
        (r#"{"webhook_endpoint":{}}"#, "webhookEndpoint is required"),
        (
            r#"{"webhookEndpoint":"x"}"#,
            "webhookEndpoint must be an object",
        ),
        (
            r#"{"webhookEndpoint":"#,
            "body: the JSON ends too early, at line 1, column 19",
        ),
    ] {
        for (method, path) in [(Method::POST, WEBHOOKS), (Method::PUT, &one)] {
            let answer = server.call(method, path, &[], Some(body.to_owned())).await;
            assert_errors(&answer, 422, &[error]);
        }
    }
    let long = "x".repeat(1025);
    let many: Value = (0..65).map(|n| (format!("X-{n}"), json!("v"))).collect();
    let some: Value = (0..32).map(|n| (format!("X-{n}"), json!("v"))).collect();
    let others: Value = (0..33).map(|n| (format!("Y-{n}"), json!("v"))).collect();
    for (fields, errors) in [
        (
            json!({"target_url": 1}),
            vec!["target_url must be a string"],
        ),
        (json!({"target_url": null}), vec!["target_url is required"]),
        (json!({"target_url": ""}), vec!["target_url is required"]),
        (
            json!({"event": ["report_signed"]}),
            vec!["event must be a string"],
        ),
        (json!({"event": ""}), vec!["event is required"]),
        (json!({"username": {}}), vec!["username must be a string"]),
        (json!({"username": ""}), vec!["username is required"]),
        (
            json!({"username": long}),
            vec!["username must have at most 1024 bytes"],
        ),
        (
            json!({"username": "a\nb"}),
            vec!["username may not contain control characters"],
        ),
        (json!({"password": 5}), vec!["password must be a string"]),
        (json!({"password": null}), vec!["password is required"]),
        (
            json!({"password": long}),
            vec!["password must have at most 1024 bytes"],
        ),
        (
            json!({"password": "a\u{0}b"}),
            vec!["password may not contain control characters"],
        ),
        (
            json!({"requestHeaders": []}),
            vec!["requestHeaders must be an object"],
        ),
        (
            json!({"requestHeaders": {"someKey": 5, "other": null}}),
            vec![
                "requestHeaders.other must be a string",
                "requestHeaders.someKey must be a string",
            ],
        ),
        (
            json!({"requestHeaders": {"X-A": "1", "x-a": "2"}}),
            vec!["requestHeaders.x-a is given twice"],
        ),
        (
            json!({"authenticationHeaders": "api-key: 1"}),
            vec!["authenticationHeaders must be an object"],
        ),
        (
            json!({"authenticationHeaders": {"api-key": 1234}}),
            vec!["authenticationHeaders.api-key must be a string"],
        ),
        (
            json!({"authenticationHeaders": {"X-A": "a\r\nX-Evil: b"}}),
            vec!["authenticationHeaders.X-A must have a value of visible ASCII characters"],
        ),
        (
            json!({"requestHeaders": {"api-key": "1"}, "authenticationHeaders": {"API-Key": "2"}}),
            vec!["authenticationHeaders.API-Key is in requestHeaders, too"],
        ),
        (
            json!({ "requestHeaders": many }),
            vec![
                "requestHeaders may have at most 64 entries",
                "requestHeaders and authenticationHeaders may have at most 64 entries together",
            ],
        ),
        (
            json!({"requestHeaders": some, "authenticationHeaders": others}),
            vec!["requestHeaders and authenticationHeaders may have at most 64 entries together"],
        ),
    ] {
        let body = with(fields);
        assert_errors(&server.post(WEBHOOKS, body.clone()).await, 422, &errors);
        assert_errors(&server.put(&one, body).await, 422, &errors);
    }
    let list = server.get(WEBHOOKS).await.expect(200);
    assert_eq!(list, json!({ "webhook_endpoints": [made] }));
    assert_eq!(stored(&server, &made).auth_headers.len(), 0);
}

#[actix_web::test]
async fn a_url_is_checked_as_everywhere_and_its_credentials_give_way() {
    let server = started().await;
    let url = json!({ "target_url": "https://ann:s3cret@api.test.com/in?a=b" });
    let made = created(&server, with(url)).await;
    assert_eq!(made["target_url"], "https://api.test.com/in?a=b");
    assert_eq!(made["username"], "someUser");
    let basic_auth = stored(&server, &made).basic_auth.clone().unwrap();
    assert_eq!(basic_auth.username, "someUser");
    assert_eq!(basic_auth.password, "somePassword");
    for url in [
        "api.test.com",
        "https://10.0.0.1/",
        "https://[::ffff:169.254.169.254]/",
        "https://api.test.com/#top",
        "https://api.test.com/ in",
        &format!("https://api.test.com/{}", "x".repeat(2048)),
    ] {
        let answer = server
            .post(WEBHOOKS, with(json!({ "target_url": url })))
            .await;
        assert_eq!(answer.status, 422, "{url}");
        let errors = answer.json()["errors"].clone();
        assert_eq!(errors.as_array().unwrap().len(), 1, "{url}: {errors}");
        assert!(errors[0].as_str().unwrap().starts_with("target_url "));
    }
    let server = server
        .restart_with(|config| config.delivery.https_only = true)
        .await;
    let answer = server.post(WEBHOOKS, wrapped(least())).await;
    assert_errors(&answer, 422, &["target_url must be https"]);
}

#[actix_web::test]
async fn an_endpoint_made_here_has_the_profile_and_a_secret() {
    let server = started().await;
    // The document's own example: though its names speak of keys, they are shown.
    let headers = json!({
        "requestHeaders": { "someKey": "any value", "anotherKey": "some other value" },
        "authenticationHeaders": { "api-key": "1234" },
    });
    let made = created(&server, with(headers)).await;
    let shown = json!({ "someKey": "any value", "anotherKey": "some other value" });
    assert_eq!(made["requestHeaders"], shown);
    let endpoint = stored(&server, &made);
    assert_eq!(endpoint.profile.as_deref(), Some("ovation"));
    assert_eq!(
        endpoint.event_types,
        Some(vec!["report_signed".to_owned()].into())
    );
    assert_eq!(endpoint.headers["someKey"], "any value");
    assert_eq!(endpoint.headers["anotherKey"], "some other value");
    assert_eq!(endpoint.auth_headers["api-key"], "1234");
    assert!(endpoint.disabled.is_none());
    let form = server.config().profiles["ovation"].secret_form();
    assert!(endpoint.secrets[0].secret.fits(form));
    let other = created(&server, wrapped(least())).await;
    assert!(endpoint.secrets != stored(&server, &other).secrets);

    let native = format!("/api/v1/app/456/endpoint/{}", endpoint.id);
    let native = server.get(&native).await.expect(200);
    assert_eq!(native["url"], "http://api.test.com/");
    assert_eq!(native["eventTypes"], json!(["report_signed"]));
}

#[actix_web::test]
async fn an_endpoint_made_elsewhere_is_a_webhook_too() {
    let server = started().await;
    for (body, event, username) in [
        (
            json!({"url": "https://a.test/", "eventTypes": ["report_signed", "custom"]}),
            json!("report_signed,custom"),
            json!(null),
        ),
        (
            json!({"url": "https://ann:pw@a.test/", "channels": ["x"], "throttleRate": 3}),
            json!(null),
            json!("ann"),
        ),
    ] {
        let id = server.endpoint_of("456", body).await;
        let list = server.get(WEBHOOKS).await.expect(200);
        let list = list["webhook_endpoints"].as_array().unwrap();
        let webhook = list.last().expect("the newest is last");
        let expected = json!({
            "id": webhook["id"], "target_url": "https://a.test/", "event": event,
            "username": username, "project_requisition_template_association_id": 456,
            "requestHeaders": {},
        });
        assert_eq!(*webhook, expected);
        let before = stored(&server, webhook);
        assert_eq!(before.id.to_string(), id);

        let put = server
            .put(&path(webhook), wrapped(least()))
            .await
            .expect(201);
        assert_eq!(put["webhook_endpoint"]["event"], "report_signed");
        let after = stored(&server, webhook);
        // What this surface has no field for stays.
        assert_eq!(after.channels, before.channels);
        assert_eq!(after.throttle_rate, before.throttle_rate);
        assert_eq!(after.secrets, before.secrets);
        assert_eq!(after.profile, before.profile);
    }
}

#[actix_web::test]
async fn headers_stay_where_an_update_does_not_name_them_and_go_where_it_clears_them() {
    let server = started().await;
    let both = json!({
        "requestHeaders": { "X-Lab": "7", "X-Api-Key": "s3cret" },
        "authenticationHeaders": { "api-key": "1234" },
    });
    let made = created(&server, with(both.clone())).await;
    let one = path(&made);
    let visible = &both["requestHeaders"];
    assert_eq!(made["requestHeaders"], *visible);
    let headers = |server: &Server| {
        let endpoint = stored(server, &made);
        (endpoint.headers.clone(), endpoint.auth_headers.clone())
    };
    let given = headers(&server);
    assert_eq!(given.0["X-Api-Key"], "s3cret");

    // What was read can be written back, with a password.
    server.put(&one, wrapped(least())).await.expect(201);
    assert_eq!(headers(&server), given);
    let read = json!({ "requestHeaders": visible });
    server.put(&one, with(read)).await.expect(201);
    assert_eq!(headers(&server), given);
    let stars = json!({ "requestHeaders": { "X-Api-Key": "***" } });
    server.put(&one, with(stars)).await.expect(201);
    assert_eq!(headers(&server).0["X-Api-Key"], "***", "it is no mask here");

    // The other kind is compared with what is stored.
    let twice = with(json!({ "requestHeaders": { "API-KEY": "1" } }));
    let error = "authenticationHeaders.api-key is in requestHeaders, too";
    assert_errors(&server.put(&one, twice).await, 422, &[error]);

    for nothing in [json!(null), json!({})] {
        server.put(&one, with(both.clone())).await.expect(201);
        let clear = json!({ "requestHeaders": nothing });
        let put = server.put(&one, with(clear)).await.expect(201);
        assert_eq!(put["webhook_endpoint"]["requestHeaders"], json!({}));
        assert_eq!(headers(&server).1, given.1);
        let clear = json!({ "authenticationHeaders": nothing });
        server.put(&one, with(clear)).await.expect(201);
        assert_eq!(headers(&server).1.len(), 0);
    }
}

#[actix_web::test]
async fn a_sensitive_header_of_an_endpoint_made_elsewhere_is_masked_and_can_be_written_back() {
    let server = started().await;
    let body = json!({
        "url": "https://a.test/", "headers": { "X-Api-Key": "s3cret", "X-Lab": "7" },
    });
    server.endpoint_of("456", body).await;
    let list = server.get(WEBHOOKS).await.expect(200);
    let webhook = list["webhook_endpoints"].as_array().unwrap()[0].clone();
    let shown = json!({ "X-Api-Key": "***", "X-Lab": "7" });
    assert_eq!(webhook["requestHeaders"], shown);
    let one = path(&webhook);
    let renamed = json!({ "requestHeaders": { "x-api-key": "***", "X-Plain": "***" } });
    let put = server.put(&one, with(renamed)).await.expect(201);
    let shown = json!({ "x-api-key": "***", "X-Plain": "***" });
    assert_eq!(put["webhook_endpoint"]["requestHeaders"], shown);
    let headers = stored(&server, &webhook).headers.clone();
    assert_eq!(headers["x-api-key"], "s3cret");
    assert_eq!(headers["X-Plain"], "***", "it is no mask there");

    // A mask stands for nothing where nothing is stored.
    let masked = with(json!({ "requestHeaders": { "X-Token": "***" } }));
    let error = "requestHeaders.X-Token has no value yet that *** could stand for";
    assert_errors(&server.put(&one, masked).await, 422, &[error]);
}

#[actix_web::test]
async fn a_restart_keeps_everything() {
    let server = started().await;
    let headers = json!({
        "requestHeaders": { "X-Lab": "7" }, "authenticationHeaders": { "api-key": "1234" },
    });
    let made = created(&server, with(headers)).await;
    created(&server, with(json!({ "event": "sample_rejected" }))).await;
    let (list, before) = (server.get(WEBHOOKS).await.text, stored(&server, &made));
    let server = server.restart().await;
    assert_eq!(server.get(WEBHOOKS).await.text, list);
    assert_eq!(stored(&server, &made), before);
    server.delete(&path(&made)).await.expect(201);
    let server = server.restart().await;
    assert_eq!(server.get(&path(&made)).await.status, 404);
}

#[actix_web::test]
async fn a_repeated_create_with_an_idempotency_key_makes_one_webhook() {
    let server = started().await;
    let key = [("idempotency-key", "one")];
    let post = async |body: Value| {
        server
            .call(Method::POST, WEBHOOKS, &key, Some(body.to_string()))
            .await
    };
    let first = post(wrapped(least())).await;
    let again = post(wrapped(least())).await;
    assert_eq!((first.status, again.status), (201, 201));
    assert_eq!(first.text, again.text);
    let other = post(with(json!({ "password": "other" }))).await;
    assert_eq!(other.status, 409);
    assert_eq!(keys(&other.json()), ["errors"]);
    let long = "x".repeat(300);
    let answer = server
        .call(
            Method::POST,
            WEBHOOKS,
            &[("idempotency-key", &long)],
            Some(wrapped(least()).to_string()),
        )
        .await;
    let error = "header.idempotency-key: must have 1 to 256 characters";
    assert_errors(&answer, 422, &[error]);
    let list = server.get(WEBHOOKS).await.expect(200);
    assert_eq!(list["webhook_endpoints"].as_array().unwrap().len(), 1);
}

#[actix_web::test]
async fn other_refusals_have_the_same_shape() {
    let server = started_with(|config| config.limits.endpoints_per_application_max = 1).await;
    let made = created(&server, wrapped(least())).await;
    let one = path(&made);
    for credential in ["Bearer pr_wrong", "Basic x", "nonsense"] {
        for (method, path) in [
            (Method::GET, WEBHOOKS),
            (Method::POST, WEBHOOKS),
            (Method::GET, &one),
            (Method::PUT, &one),
            (Method::DELETE, &one),
        ] {
            let body = Some(wrapped(least()).to_string());
            let header = [("authorization", credential)];
            let answer = server.call(method, path, &header, body).await;
            assert_errors(&answer, 401, &["no credential, or one that is not valid"]);
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
    }
    let full = server.post(WEBHOOKS, wrapped(least())).await;
    let error = "a Project Template has at most 1 Webhook Endpoints";
    assert_errors(&full, 429, &[error]);
    let long = with(json!({ "password": "x".repeat(300 * 1024) }));
    let answer = server.post(WEBHOOKS, long).await;
    let error = "the body is longer than this path takes";
    assert_errors(&answer, 413, &[error]);
    let list = server.get(WEBHOOKS).await.expect(200);
    assert_eq!(list, json!({ "webhook_endpoints": [made] }));
}

/// Lines of the log of this whole process that have one of the texts that no line may have.
struct Watch {
    lines: Mutex<Vec<String>>,
}

const HIDDEN: [&str; 3] = ["hidden-password", "hidden-header", "hidden-sensitive"];

/// What shows that the log is watched.
const SEEN: &str = "seen-in-the-log";

impl log::Log for Watch {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        !metadata.target().starts_with("sled")
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = format!("{} {}", record.args(), record.target());
        if HIDDEN.iter().chain([&SEEN]).any(|text| line.contains(text)) {
            self.lines.lock().unwrap().push(line);
        }
    }

    fn flush(&self) {}
}

#[actix_web::test]
async fn what_is_never_shown_is_in_no_answer_and_no_log() {
    static WATCH: Watch = Watch {
        lines: Mutex::new(Vec::new()),
    };
    log::set_logger(&WATCH).expect("no other test has a logger");
    log::set_max_level(log::LevelFilter::Trace);
    log::info!("{SEEN}");

    let receiver = Receiver::answering([500]).await;
    let mut server = started().await;
    server.leftovers_are_fine();
    let fields = json!({
        "target_url": receiver.url(), "password": HIDDEN[0],
        "authenticationHeaders": { "X-Lab": HIDDEN[1], "X-Token": HIDDEN[2] },
    });
    let created = server.post(WEBHOOKS, with(fields.clone())).await;
    let one = path(&created.json()["webhook_endpoint"]);
    let updated = server.put(&one, with(fields.clone())).await;
    let mut wrong = fields.clone();
    wrong["event"] = json!("nothing");
    wrong["requestHeaders"] = json!({ "X-Wrong": format!("{}é", HIDDEN[2]) });
    wrong["authenticationHeaders"]["X-Wrong"] = json!(format!("{}é", HIDDEN[1]));
    wrong["password"] = json!(format!("{}\u{0}", HIDDEN[0]));
    let refused = server.post(WEBHOOKS, with(wrong)).await;
    assert_eq!(refused.status, 422);
    let mut broken = with(fields).to_string();
    broken.truncate(broken.len() - 1);
    let broken = server.call(Method::PUT, &one, &[], Some(broken)).await;
    assert_eq!(broken.status, 422);
    server.publish_to("456", "report_signed", json!({})).await;
    server.settle().await;
    let native = "/api/v1/app/456/endpoint";
    let listed = server.get(native).await;
    let id = listed.json()["data"][0]["id"].as_str().unwrap().to_owned();
    let attempts = format!("/api/v1/app/456/attempt/endpoint/{id}");
    let attempts = server.get(&attempts).await;
    let count = attempts.json()["data"].as_array().unwrap().len();
    assert_eq!(count, 1, "{}", attempts.text);
    let mut answers = vec![created, updated, refused, broken, listed, attempts];
    for path in [
        WEBHOOKS,
        &one,
        &format!("{native}/{id}"),
        &format!("{native}/{id}/headers"),
    ] {
        answers.push(server.get(path).await);
    }
    answers.push(server.delete(&one).await);
    for answer in answers {
        assert!((200..300).contains(&answer.status) || answer.status == 422);
        for hidden in HIDDEN {
            assert!(!answer.text.contains(hidden), "{}", answer.text);
        }
    }
    log::set_max_level(log::LevelFilter::Off);
    let lines = WATCH.lines.lock().unwrap();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains(SEEN));
}

/// A new token with this role; its id and text.
async fn token(server: &Server, role: &str, application: Option<&str>) -> (String, String) {
    let mut body = json!({ "name": "t", "role": role, "applicationId": application });
    if role == "webhook_user" {
        body["applicationIds"] = json!(["456"]);
    }
    let made = server.post("/api/v1/token", body).await.expect(201);
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    (text("id"), text("token"))
}

async fn listed(server: &Server, token: &str) -> Vec<Value> {
    let list = by(server, token, Method::GET, WEBHOOKS, &Value::Null).await;
    let list = list.expect(200);
    assert_eq!(keys(&list), ["webhook_endpoints"]);
    list["webhook_endpoints"].as_array().unwrap().clone()
}

#[actix_web::test]
async fn another_application_does_not_find_the_template() {
    let server = started().await;
    let made = created(&server, wrapped(least())).await;
    let one = path(&made);
    server.application("other").await;
    let (_, own) = token(&server, "application", Some("456")).await;
    let (_, other) = token(&server, "application", Some("other")).await;
    let (body, none) = (wrapped(least()), Value::Null);
    for (method, path, body, own_status, other_status) in [
        (Method::GET, WEBHOOKS, &none, 200, 404),
        (Method::POST, WEBHOOKS, &body, 201, 422),
        (Method::GET, &one, &none, 200, 404),
        (Method::PUT, &one, &body, 201, 422),
        (Method::DELETE, &one, &none, 201, 422),
    ] {
        let answer = by(&server, &other, method.clone(), path, body).await;
        assert_errors(&answer, other_status, &["Project Template not found"]);
        let answer = by(&server, &own, method, path, body).await;
        assert_eq!(answer.status, own_status, "{}", answer.text);
    }
}

#[actix_web::test]
async fn a_publisher_may_not_touch_webhooks() {
    let server = started().await;
    let made = created(&server, wrapped(least())).await;
    let one = path(&made);
    let (_, publisher) = token(&server, "publisher", None).await;
    // What is wrong with the body is not looked at.
    let (body, none) = (json!({}), Value::Null);
    for (method, path, body) in [
        (Method::GET, WEBHOOKS, &none),
        (Method::POST, WEBHOOKS, &body),
        (Method::GET, &one, &none),
        (Method::PUT, &one, &body),
        (Method::DELETE, &one, &none),
    ] {
        let answer = by(&server, &publisher, method, path, body).await;
        assert_errors(&answer, 403, &["this token may not do that"]);
    }
    assert_eq!(listed(&server, &server.token).await, [made]);
}

#[actix_web::test]
async fn a_webhook_admin_manages_every_webhook_of_the_organisation() {
    let server = started().await;
    server.application("789").await;
    let (_, admin) = token(&server, "webhook_admin", None).await;
    let (body, none) = (wrapped(least()), Value::Null);
    for template in ["456", "789"] {
        let all = format!("/api/v3/project_templates/{template}/webhook_endpoints");
        let theirs = server.post(&all, body.clone()).await.expect(201);
        let made = by(&server, &admin, Method::POST, &all, &body).await;
        for webhook in [theirs, made.expect(201)] {
            let one = format!("{all}/{}", webhook["webhook_endpoint"]["id"]);
            let get = by(&server, &admin, Method::GET, &one, &none).await;
            assert_eq!(get.expect(200), webhook);
            let put = by(&server, &admin, Method::PUT, &one, &body).await;
            assert_eq!(put.status, 201, "{}", put.text);
            let delete = by(&server, &admin, Method::DELETE, &one, &none).await;
            assert_eq!(delete.status, 201, "{}", delete.text);
        }
        let list = by(&server, &admin, Method::GET, &all, &none).await;
        assert_eq!(list.expect(200), json!({ "webhook_endpoints": [] }));
    }
}

#[actix_web::test]
async fn a_webhook_user_manages_the_webhooks_that_it_made_and_no_others() {
    let server = started().await;
    let others = created(&server, wrapped(least())).await;
    let (_, user) = token(&server, "webhook_user", None).await;
    let (_, second) = token(&server, "webhook_user", None).await;
    let (body, none) = (wrapped(least()), Value::Null);
    assert_eq!(listed(&server, &user).await, [Value::Null; 0]);
    let made = by(&server, &user, Method::POST, WEBHOOKS, &body).await;
    let made = made.expect(201)["webhook_endpoint"].clone();
    assert_eq!(listed(&server, &user).await, slice::from_ref(&made));
    assert_eq!(listed(&server, &second).await, [Value::Null; 0]);
    let all = listed(&server, &server.token).await;
    assert_eq!(all, [others.clone(), made.clone()]);

    let server = server.restart().await;
    let refused = [(&user, &others), (&second, &others), (&second, &made)];
    for (token, webhook) in refused {
        let one = path(webhook);
        for (method, body, status) in [
            (Method::GET, &none, 404),
            (Method::PUT, &body, 422),
            (Method::DELETE, &none, 422),
        ] {
            let answer = by(&server, token, method, &one, body).await;
            assert_errors(&answer, status, &["Webhook Endpoint not found"]);
        }
    }
    let one = path(&made);
    let get = by(&server, &user, Method::GET, &one, &none).await;
    assert_eq!(get.expect(200), json!({ "webhook_endpoint": made }));
    for (method, body) in [(Method::PUT, &body), (Method::DELETE, &none)] {
        let answer = by(&server, &user, method, &one, body).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
    }
    assert_eq!(listed(&server, &user).await, [Value::Null; 0]);
    assert_eq!(listed(&server, &server.token).await, [others]);
}

#[actix_web::test]
async fn a_create_by_a_webhook_user_that_is_refused_grants_nothing() {
    let server = started_with(|config| config.limits.endpoints_per_application_max = 1).await;
    let (id, user) = token(&server, "webhook_user", None).await;
    let wrong = with(json!({ "event": "nothing" }));
    let answer = by(&server, &user, Method::POST, WEBHOOKS, &wrong).await;
    assert_errors(&answer, 422, &["Event not found"]);
    created(&server, wrapped(least())).await;
    let body = wrapped(least());
    let answer = by(&server, &user, Method::POST, WEBHOOKS, &body).await;
    assert_eq!(answer.status, 429, "{}", answer.text);
    let catalog = server.store().catalog();
    let user = catalog.token(id.parse().unwrap()).unwrap();
    assert_eq!(user.grants.len(), 0);
}

#[actix_web::test]
async fn a_webhook_user_is_added_to_webhooks_and_removed_from_them() {
    let server = started().await;
    let others = created(&server, wrapped(least())).await;
    let made = created(&server, wrapped(least())).await;
    let (_, admin) = token(&server, "webhook_admin", None).await;
    let (id, user) = token(&server, "webhook_user", None).await;
    let grant = format!("/api/v1/token/{id}/endpoint/{}", stored(&server, &made).id);
    let (body, none) = (wrapped(least()), Value::Null);
    let granted = by(&server, &admin, Method::PUT, &grant, &none).await;
    assert!((200..300).contains(&granted.status), "{}", granted.text);
    let server = server.restart().await;
    assert_eq!(listed(&server, &user).await, slice::from_ref(&made));
    let put = by(&server, &user, Method::PUT, &path(&made), &body).await;
    assert_eq!(put.status, 201, "{}", put.text);
    let put = by(&server, &user, Method::PUT, &path(&others), &body).await;
    assert_errors(&put, 422, &["Webhook Endpoint not found"]);

    let taken = by(&server, &admin, Method::DELETE, &grant, &none).await;
    assert!((200..300).contains(&taken.status), "{}", taken.text);
    assert_eq!(listed(&server, &user).await, [Value::Null; 0]);
    for (method, body, status) in [
        (Method::GET, &none, 404),
        (Method::PUT, &body, 422),
        (Method::DELETE, &none, 422),
    ] {
        let answer = by(&server, &user, method, &path(&made), body).await;
        assert_errors(&answer, status, &["Webhook Endpoint not found"]);
    }
    assert_eq!(listed(&server, &server.token).await, [others, made]);
}

#[actix_web::test]
async fn a_webhook_is_called_with_basic_auth_and_both_kinds_of_headers() {
    let receiver = Receiver::answering([204]).await;
    let server = started().await;
    let fields = json!({
        "target_url": receiver.url(),
        "requestHeaders": { "someKey": "any value", "X-Lab": "7" },
        "authenticationHeaders": { "api-key": "1234" },
    });
    created(&server, with(fields)).await;
    let message = server
        .publish_to("456", "report_signed", json!({ "id": 1 }))
        .await;
    server.publish_to("456", "sample_rejected", json!({})).await;
    receiver.received(1).await;
    server.settle().await;
    assert_eq!(receiver.count(), 1, "the other event is not for it");
    let request = &receiver.requests()[0];
    assert_eq!(request.method, "POST");
    assert_eq!(request.body, br#"{"id":1}"#);
    for (name, value) in [
        // someUser:somePassword
        ("authorization", "Basic c29tZVVzZXI6c29tZVBhc3N3b3Jk"),
        ("someKey", "any value"),
        ("X-Lab", "7"),
        ("api-key", "1234"),
        ("webhook-id", &message),
        ("content-type", "application/json"),
    ] {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
    // Any 2xx is a success.
    assert_eq!(server.outcomes_in("456", &message).await, ["delivered"]);
}

#[actix_web::test]
async fn a_fourth_attempt_never_comes() {
    let receiver = Receiver::answering([500, 404, 302]).await;
    let server = started().await;
    created(&server, with(json!({ "target_url": receiver.url() }))).await;
    let message = server.publish_to("456", "report_signed", json!({})).await;
    assert_eq!(server.advance_to_next_due().await.as_secs(), 64);
    assert_eq!(server.advance_to_next_due().await.as_secs(), 729);
    assert!(server.nothing_is_due());
    assert_eq!(receiver.count(), 3);
    let outcomes = server.outcomes_in("456", &message).await;
    assert_eq!(outcomes, ["http 500", "http 404", "http 302"]);
}

#[actix_web::test]
async fn an_answer_has_ten_seconds() {
    let receiver = Receiver::scripted([Script::Hang], Script::Status(200)).await;
    let server = started().await;
    created(&server, with(json!({ "target_url": receiver.url() }))).await;
    let message = server.publish_to("456", "report_signed", json!({})).await;
    receiver.received(1).await;
    server.advance(Duration::from_millis(9_999));
    server.round_trip().await;
    assert_eq!(receiver.open(), 1, "it may take this long");
    server.advance(Duration::from_millis(1));
    wait_until("the connection to be closed", || receiver.open() == 0).await;
    server.settle().await;
    assert_eq!(server.outcomes_in("456", &message).await, ["timeout"]);
    assert_eq!(server.advance_to_next_due().await.as_secs(), 64);
    let outcomes = server.outcomes_in("456", &message).await;
    assert_eq!(outcomes, ["timeout", "delivered"]);
}

#[actix_web::test]
async fn a_link_makes_webhooks_here_only_where_the_portal_offers_their_profile() {
    for (default, offered, status) in [
        ("standard", vec![], 422),
        ("standard", vec!["standard"], 422),
        ("standard", vec!["standard", "ovation"], 201),
        ("ovation", vec![], 201),
    ] {
        let server = started_with(|config| {
            config.delivery.default_profile = default.to_owned();
            config.portal.profiles = offered.iter().map(|name| (*name).to_owned()).collect();
        })
        .await;
        let path = "/api/v1/auth/app-portal-access/456";
        let link = server.post(path, json!({})).await.expect(200);
        let link = link["token"].as_str().expect("a text");
        let made = by(&server, link, Method::POST, WEBHOOKS, &wrapped(least())).await;
        assert_eq!(made.status, status, "{default} {offered:?}: {}", made.text);
        if status == 422 {
            assert!(
                made.text.contains("the portal offers standard"),
                "{}",
                made.text
            );
        }
        created(&server, wrapped(least())).await;
    }
}
