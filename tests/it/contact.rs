//! The contact of an application: an e-mail address is verified by a code, few codes are mailed, and who may
//! do what. Nothing is mailed here: what the mailer would get is read from the store.

use std::time::Duration;

use awc::http::Method;
use postrider::config::Config;
use postrider::domain::contact::CodeToMail;
use serde_json::{Value, json};

use crate::support::{Answer, Server, assert_error, assert_invalid, keys};

const CONTACT: &str = "/api/v1/app/app/contact";
const VERIFY: &str = "/api/v1/app/app/contact/verify";
const ADDRESS: &str = "ops@acme.example";
const MINUTE: Duration = Duration::from_secs(60);

/// A relay that nobody can reach: what is to be mailed stays so.
fn mails(config: &mut Config) {
    config.notify.smtp_host = "127.0.0.1".to_owned();
    config.notify.smtp_port = 9;
    config.notify.from = "hooks@example.com".to_owned();
}

/// A server that could mail, with the application `app`.
async fn start() -> Server {
    let server = Server::start_with(mails).await;
    server.application("app").await;
    server
}

async fn ask(server: &Server, address: &str) -> Answer {
    server.put(CONTACT, json!({ "address": address })).await
}

async fn verify(server: &Server, code: &str) -> Answer {
    server.post(VERIFY, json!({ "code": code })).await
}

/// The one code that is to be mailed.
fn to_mail(server: &Server) -> CodeToMail {
    let mut due = server.store().contact_codes_to_mail();
    assert_eq!(due.len(), 1, "{due:?}");
    due.remove(0)
}

/// Another one than that which was mailed.
fn wrong(code: &CodeToMail) -> &'static str {
    match code.digits.expose() {
        "000000" => "000001",
        _ => "000000",
    }
}

/// The address that hears of the application's endpoints.
fn heard_at(server: &Server) -> Option<String> {
    let catalog = server.store().catalog();
    let organisation = catalog.first_organisation().expect("one").id;
    let entry = catalog.application(organisation, "app")?;
    let address = catalog.contact_of(entry.application.id);
    address.map(str::to_owned)
}

/// The application has no contact.
async fn assert_none(server: &Server) {
    let shown = server.get(CONTACT).await.expect(200);
    assert_eq!(
        (&shown["address"], &shown["verified"]),
        (&Value::Null, &json!(false))
    );
}

/// Seconds until there can be another code.
fn wait(answer: &Answer) -> u64 {
    assert_error(answer, 429, "too_many");
    let wait = answer.header("retry-after").expect("it says when");
    wait.parse().expect("seconds")
}

async fn token(server: &Server, body: Value) -> String {
    let made = server.post("/api/v1/token", body).await.expect(201);
    made["token"].as_str().expect("shown once").to_owned()
}

async fn link(server: &Server, capabilities: Value) -> String {
    let body = json!({ "capabilities": capabilities });
    let path = "/api/v1/auth/app-portal-access/app";
    let made = server.post(path, body).await.expect(200);
    made["token"].as_str().expect("a token").to_owned()
}

#[actix_web::test]
async fn an_address_hears_nothing_before_its_code_came_back() {
    let server = start().await;
    assert_none(&server).await;
    assert_error(&verify(&server, "123456").await, 404, "not_found");
    assert_error(&server.delete(CONTACT).await, 404, "not_found");
    let asked_at = server.now();

    let set = ask(&server, ADDRESS).await.expect(200);
    let expected = json!({
        "address": ADDRESS, "verified": false, "verifiedAt": null,
        "codeExpiresAt": (asked_at + 30 * MINUTE).to_string(), "codeTriesLeft": 5,
        "nextCodeAt": (asked_at + MINUTE).to_string(),
    });
    assert_eq!(set, expected);
    assert_eq!(server.get(CONTACT).await.expect(200), expected);
    assert_eq!(heard_at(&server), None);
    let code = to_mail(&server);
    assert_eq!(
        (code.address.as_str(), code.digits.expose().len()),
        (ADDRESS, 6)
    );
    assert!(!format!("{code:?}").contains(code.digits.expose()));

    server.advance(Duration::from_secs(5));
    let verified = verify(&server, code.digits.expose()).await.expect(200);
    let expected = json!({
        "address": ADDRESS, "verified": true, "verifiedAt": server.now().to_string(),
        "codeExpiresAt": null, "codeTriesLeft": 0,
        "nextCodeAt": (asked_at + MINUTE).to_string(),
    });
    assert_eq!(verified, expected);
    assert_eq!(heard_at(&server).as_deref(), Some(ADDRESS));
    assert!(server.store().contact_codes_to_mail().is_empty());

    // What is so already stays so, whoever repeats it.
    assert_eq!(ask(&server, ADDRESS).await.expect(200), expected);
    assert_eq!(verify(&server, "000000").await.expect(200), expected);
    assert!(server.store().contact_codes_to_mail().is_empty());

    // Another address has to be verified anew, and nobody hears of anything meanwhile.
    server.advance(MINUTE);
    ask(&server, "other@acme.example").await.expect(200);
    assert_eq!(heard_at(&server), None);
    assert_eq!(to_mail(&server).address, "other@acme.example");

    server.delete(CONTACT).await.expect(204);
    assert_none(&server).await;
    assert!(server.store().contact_codes_to_mail().is_empty());
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn a_code_is_good_for_five_tries_and_half_an_hour() {
    let server = start().await;
    ask(&server, ADDRESS).await.expect(200);
    let code = to_mail(&server);
    for left in [
        "4 tries are left",
        "3 tries are left",
        "2 tries are left",
        "1 try is left",
        "no try is left",
    ] {
        let refused = verify(&server, wrong(&code)).await;
        assert_invalid(&refused, &["body.code"]);
        assert!(refused.text.contains(left), "{}", refused.text);
    }
    assert_error(
        &verify(&server, code.digits.expose()).await,
        409,
        "conflict",
    );
    let shown = server.get(CONTACT).await.expect(200);
    assert_eq!(
        (&shown["codeExpiresAt"], &shown["codeTriesLeft"]),
        (&Value::Null, &json!(0))
    );
    assert!(
        server.store().contact_codes_to_mail().is_empty(),
        "it counts no more"
    );

    server.advance(MINUTE);
    ask(&server, ADDRESS).await.expect(200);
    let late = to_mail(&server);
    server.advance(30 * MINUTE - Duration::from_secs(1));
    assert_invalid(&verify(&server, wrong(&late)).await, &["body.code"]);
    server.advance(Duration::from_secs(1));
    assert!(server.store().contact_codes_to_mail().is_empty());
    assert_error(
        &verify(&server, late.digits.expose()).await,
        409,
        "conflict",
    );
    assert_eq!(heard_at(&server), None);

    // A new one replaces the one before.
    ask(&server, ADDRESS).await.expect(200);
    let before = to_mail(&server);
    server.advance(MINUTE);
    ask(&server, ADDRESS).await.expect(200);
    let code = to_mail(&server);
    if before.digits != code.digits {
        assert_invalid(
            &verify(&server, before.digits.expose()).await,
            &["body.code"],
        );
    }
    verify(&server, code.digits.expose()).await.expect(200);
    assert_eq!(heard_at(&server).as_deref(), Some(ADDRESS));
}

#[actix_web::test]
async fn nobodys_mailbox_is_flooded_with_codes() {
    let server = start().await;
    server.application("other").await;
    ask(&server, ADDRESS).await.expect(200);
    assert_eq!(wait(&ask(&server, ADDRESS).await), 60);
    server.advance(Duration::from_millis(59_001));
    assert_eq!(
        wait(&ask(&server, "other@acme.example").await),
        1,
        "whatever the address"
    );
    assert_eq!(
        to_mail(&server).address,
        ADDRESS,
        "a refusal changes nothing"
    );

    // Neither removing it nor verifying it lets more through.
    server.delete(CONTACT).await.expect(204);
    assert_eq!(wait(&ask(&server, ADDRESS).await), 1);
    server.forget_ended().await;
    assert_eq!(wait(&ask(&server, ADDRESS).await), 1);
    server.advance(Duration::from_millis(999));
    ask(&server, ADDRESS).await.expect(200);
    let code = to_mail(&server);
    verify(&server, code.digits.expose()).await.expect(200);
    for _ in 0..3 {
        server.advance(MINUTE);
        ask(
            &server,
            &format!("{}@acme.example", server.now().as_millis()),
        )
        .await
        .expect(200);
    }
    server.advance(MINUTE);
    assert_eq!(
        wait(&ask(&server, ADDRESS).await),
        55 * 60,
        "until the first is an hour ago"
    );
    let mut server = server.restart().await;
    assert_eq!(
        wait(&ask(&server, ADDRESS).await),
        55 * 60,
        "a restart forgets none"
    );
    let path = "/api/v1/app/other/contact";
    server
        .put(path, json!({ "address": ADDRESS }))
        .await
        .expect(200);
    // The operator needs no code.
    let own = json!({ "address": ADDRESS, "verified": true });
    server.put(CONTACT, own).await.expect(200);
    assert_eq!(heard_at(&server).as_deref(), Some(ADDRESS));
    assert_eq!(wait(&ask(&server, "new@acme.example").await), 55 * 60);
    server.advance(55 * MINUTE);
    ask(&server, "new@acme.example").await.expect(200);

    // Nothing is left of a removed contact once its codes do not count.
    server.delete(CONTACT).await.expect(204);
    let registrations = || server.store().catalog().len();
    let before = registrations();
    server.advance(60 * MINUTE - Duration::from_millis(1));
    server.forget_ended().await;
    assert_eq!(registrations(), before);
    server.advance(Duration::from_millis(1));
    server.forget_ended().await;
    assert_eq!(registrations(), before - 1);
    server.leftovers_are_fine();
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn what_is_no_address_and_no_code_is_refused_by_its_name() {
    let server = start().await;
    let long = format!("{}@acme.example", "a".repeat(250));
    for address in [
        "ops",
        "ops@localhost",
        "ops@[127.0.0.1]",
        "a@b.example, c@d.example",
        "",
        &long,
    ] {
        assert_invalid(&ask(&server, address).await, &["body.address"]);
    }
    for (body, place) in [
        (json!({}), "body.address"),
        (json!({ "address": null }), "body.address"),
        (json!({ "address": 7 }), "body.address"),
        (
            json!({ "address": ADDRESS, "verifed": true }),
            "body.verifed",
        ),
        (
            json!({ "address": ADDRESS, "verified": "yes" }),
            "body.verified",
        ),
        (json!({ "address": ADDRESS, "name": "Ann" }), "body.name"),
    ] {
        assert_invalid(&server.put(CONTACT, body).await, &[place]);
    }
    assert!(server.store().contact_codes_to_mail().is_empty());
    ask(&server, ADDRESS).await.expect(200);
    for (body, place) in [
        (json!({}), "body.code"),
        (json!({ "code": 123456 }), "body.code"),
        (json!({ "code": "12345" }), "body.code"),
        (json!({ "code": "12 345" }), "body.code"),
        (
            json!({ "code": "123456", "address": ADDRESS }),
            "body.address",
        ),
    ] {
        assert_invalid(&server.post(VERIFY, body).await, &[place]);
    }
    let shown = server.get(CONTACT).await.expect(200);
    assert_eq!(shown["codeTriesLeft"], 5, "none of these was a try");
    assert_eq!(
        keys(&shown),
        [
            "address",
            "codeExpiresAt",
            "codeTriesLeft",
            "nextCodeAt",
            "verified",
            "verifiedAt"
        ]
    );
}

#[actix_web::test]
async fn whoever_changes_endpoints_sets_the_contact_and_the_operator_alone_answers_for_it() {
    let server = start().await;
    server.application("other").await;
    let own = json!({ "address": ADDRESS, "verified": true });
    server.put(CONTACT, own).await.expect(200);
    let key = server
        .post("/api/v1/app/app/token", json!({ "name": "k" }))
        .await
        .expect(201);
    let key = key["token"].as_str().expect("shown once").to_owned();
    let named = |role: &str| json!({ "name": "t", "role": role });
    let limited = |scope: &str| json!({ "name": "t", "role": "owner", "scopes": [scope] });
    let looking = link(&server, json!(["ViewBase", "CreateAttempts"])).await;
    let managing = link(&server, json!(["ViewBase", "ManageEndpoint"])).await;
    let admin = token(&server, named("webhook_admin")).await;
    let viewer = token(&server, named("viewer")).await;
    let publisher = token(&server, named("publisher")).await;
    let reading = token(&server, limited("read")).await;
    let changing = token(&server, limited("endpoints")).await;
    for (who, credential, reads, sets, answers_for) in [
        ("a link that manages", &managing, 200, 200, 403),
        ("a link that looks", &looking, 200, 403, 403),
        ("an API key", &key, 200, 200, 403),
        ("an admin", &admin, 200, 200, 403),
        ("a viewer", &viewer, 200, 403, 403),
        ("a publisher", &publisher, 403, 403, 403),
        ("an owner who reads", &reading, 200, 403, 403),
        ("an owner of endpoints", &changing, 403, 200, 403),
        ("nobody", &"pr_nobody".to_owned(), 401, 401, 401),
    ] {
        // The same address again: no code is mailed, and who may is all that decides.
        let same = json!({ "address": ADDRESS }).to_string();
        let answering = json!({ "address": ADDRESS, "verified": true }).to_string();
        let code = json!({ "code": "000000" }).to_string();
        for (method, path, body, expected) in [
            (Method::GET, CONTACT, None, reads),
            (Method::PUT, CONTACT, Some(same), sets),
            (Method::PUT, CONTACT, Some(answering), answers_for),
            (Method::POST, VERIFY, Some(code), sets),
        ] {
            let case = format!("{who}: {method} {path} {body:?}");
            let answer = server.call_as(credential, method, path, body).await;
            assert_eq!(answer.status, expected, "{case}: {}", answer.text);
        }
    }
    // Another application's is not there, for anybody of this one.
    for credential in [&managing, &key] {
        for (method, body) in [
            (Method::GET, None),
            (Method::PUT, Some(json!({ "address": ADDRESS }).to_string())),
            (Method::DELETE, None),
        ] {
            let path = "/api/v1/app/other/contact";
            let answer = server.call_as(credential, method, path, body).await;
            assert_error(&answer, 404, "not_found");
        }
    }
    let refused = server
        .call_as(&looking, Method::DELETE, CONTACT, None)
        .await;
    assert_error(&refused, 403, "forbidden");
    assert_eq!(heard_at(&server).as_deref(), Some(ADDRESS));
    let removed = server
        .call_as(&managing, Method::DELETE, CONTACT, None)
        .await;
    assert_eq!(removed.status, 204);
    assert_eq!(heard_at(&server), None);
}

#[actix_web::test]
async fn without_mail_an_address_is_the_operators_to_set() {
    let server = Server::start().await;
    server.application("app").await;
    let session = server.get("/api/v1/session").await.expect(200);
    assert_eq!(session["mail"], false, "pages show nothing of contacts");
    let refused = ask(&server, ADDRESS).await;
    assert_error(&refused, 409, "conflict");
    assert!(
        refused.text.contains("notify.smtp_host"),
        "{}",
        refused.text
    );
    assert_none(&server).await;
    let own = json!({ "address": ADDRESS, "verified": true });
    let set = server.put(CONTACT, own).await.expect(200);
    assert_eq!(
        (&set["verified"], &set["nextCodeAt"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!(heard_at(&server).as_deref(), Some(ADDRESS));

    let server = server.restart_with(mails).await;
    let session = server.get("/api/v1/session").await.expect(200);
    assert_eq!(session["mail"], true);
    assert_eq!(heard_at(&server).as_deref(), Some(ADDRESS));
    ask(&server, "new@acme.example").await.expect(200);
}

#[actix_web::test]
async fn a_restart_loses_no_code_and_no_try_and_mails_none_twice() {
    let server = start().await;
    let mut changed = server.store().contacts_changed();
    ask(&server, ADDRESS).await.expect(200);
    assert!(
        changed.has_changed().expect("the store is open"),
        "the mailer is told"
    );
    changed.mark_unchanged();
    let code = to_mail(&server);
    for _ in 0..4 {
        assert_invalid(&verify(&server, wrong(&code)).await, &["body.code"]);
    }
    let server = server.restart().await;
    let again = to_mail(&server);
    assert_eq!(again, code);
    server
        .store()
        .contact_code_mailed(&again)
        .await
        .expect("it is noted");
    assert!(server.store().contact_codes_to_mail().is_empty());
    server
        .store()
        .contact_code_mailed(&again)
        .await
        .expect("nothing to note");
    let server = server.restart().await;
    assert!(
        server.store().contact_codes_to_mail().is_empty(),
        "it was mailed"
    );
    assert_eq!(server.get(CONTACT).await.expect(200)["codeTriesLeft"], 1);
    verify(&server, code.digits.expose()).await.expect(200);
    let server = server.restart().await;
    assert_eq!(heard_at(&server).as_deref(), Some(ADDRESS));
    // A late note of an older code leaves a newer one alone.
    server.advance(MINUTE);
    ask(&server, "new@acme.example").await.expect(200);
    server
        .store()
        .contact_code_mailed(&code)
        .await
        .expect("nothing to note");
    assert_eq!(to_mail(&server).address, "new@acme.example");
    server.stop_and_verify().await;
}

#[actix_web::test]
async fn a_contact_goes_with_its_application() {
    let server = start().await;
    ask(&server, ADDRESS).await.expect(200);
    let before = server.store().catalog().len();
    server.delete("/api/v1/app/app").await.expect(204);
    assert_eq!(server.store().catalog().len(), before - 2);
    assert!(server.store().contact_codes_to_mail().is_empty());
    server.application("app").await;
    assert_none(&server).await;
    // It is another application, so this is its first code.
    ask(&server, ADDRESS).await.expect(200);
    let server = server.restart().await;
    assert_eq!(to_mail(&server).address, ADDRESS);
    server.stop_and_verify().await;
}
