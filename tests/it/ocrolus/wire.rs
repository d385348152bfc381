//! What an account's endpoint receives, and what a test tells of it.

use std::time::Duration;

use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{Account, ROTATE, TEST, endpoints, response, start};
use crate::support::{Receiver, Request, Script, Server};

const TEST_BODY: &str = r#"{"status":"VERIFICATION_COMPLETE","uploaded_doc_pk":0,"book_pk":0}"#;

#[track_caller]
fn header<'a>(request: &'a Request, name: &str) -> &'a str {
    let value = request.header(name);
    value.unwrap_or_else(|| panic!("no {name}"))
}

/// The signature as any receiver would compute it.
fn signature(request: &Request, secret: &str) -> String {
    let timestamp = header(request, "webhook-timestamp");
    let id = header(request, "webhook-request-id");
    let mut hmac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
    hmac.update(format!("{timestamp}.{id}.").as_bytes());
    hmac.update(&request.body);
    hex::encode(hmac.finalize().into_bytes())
}

async fn configured(server: &Server, receiver: &Receiver) -> Account {
    let account = Account::on(server).await;
    let body = json!({ "webhook_endpoint": receiver.url() });
    account.configure(server, body).await;
    account
}

/// The attempts at the account's endpoint, newest first.
async fn log(server: &Server) -> Vec<Value> {
    let endpoint = endpoints(server)[0].id;
    let path = format!("/api/v1/app/app/attempt/endpoint/{endpoint}");
    let list = server.get(&path).await.expect(200);
    list["data"].as_array().expect("a list").clone()
}

#[actix_web::test]
async fn a_request_has_its_time_its_id_and_one_signature_over_them_and_the_body() {
    let receiver = Receiver::answering([500]).await;
    let server = start().await;
    let account = configured(&server, &receiver).await;
    let generated = endpoints(&server)[0].secrets[0].secret.expose().to_owned();
    let message = server
        .publish(
            "BOOK_VERIFIED",
            json!({ "event": "BOOK_VERIFIED", "book_pk": 7 }),
        )
        .await;
    server.settle().await;
    let secret = json!({ "secret_key": "a secret of the customer" });
    response(&account.post(&server, ROTATE, secret).await);
    server.advance_to_next_due().await;

    let requests = receiver.requests();
    assert_eq!(requests.len(), 2);
    for (request, secret) in requests
        .iter()
        .zip([generated.as_str(), "a secret of the customer"])
    {
        assert_eq!(request.method, "POST");
        assert_eq!(request.body, br#"{"book_pk":7,"event":"BOOK_VERIFIED"}"#);
        assert_eq!(header(request, "content-type"), "application/json");
        assert_eq!(header(request, "webhook-request-id"), message);
        assert_eq!(
            header(request, "webhook-signature"),
            signature(request, secret)
        );
    }
    // The time is the attempt's, the id the message's.
    let times = requests.iter().map(|one| header(one, "webhook-timestamp"));
    let times: Vec<u64> = times.map(|time| time.parse().expect("seconds")).collect();
    assert_eq!(times[1], server.now().as_seconds());
    assert_eq!(times[1] - times[0], 5);
    assert!(
        requests[0].header("webhook-id").is_none(),
        "not the standard's"
    );
}

#[actix_web::test]
async fn two_keys_of_one_application_have_two_endpoints_and_both_receive() {
    let (first, second) = (Receiver::ok().await, Receiver::ok().await);
    let server = start().await;
    let one = configured(&server, &first).await;
    let two = configured(&server, &second).await;
    two.configure(&server, json!({ "event": "DOC_VERIFIED" }))
        .await;
    for (account, receiver) in [(&one, &first), (&two, &second)] {
        let details = response(&account.get(&server, super::DETAILS).await);
        assert_eq!(details["webhook_endpoint"], receiver.url());
    }
    server.publish("DOC_VERIFIED", json!({ "doc_pk": 1 })).await;
    server
        .publish("BOOK_VERIFIED", json!({ "book_pk": 2 }))
        .await;
    server.settle().await;
    assert_eq!((first.count(), second.count()), (2, 1));

    // A new URL takes the place of the old one, and the other key's endpoint stays.
    let third = Receiver::ok().await;
    one.configure(&server, json!({ "webhook_endpoint": third.url() }))
        .await;
    server.publish("DOC_VERIFIED", json!({ "doc_pk": 3 })).await;
    server.settle().await;
    let counts = (first.count(), second.count(), third.count());
    assert_eq!(counts, (2, 2, 1));

    // What is deregistered receives nothing.
    one.configure(&server, json!({ "event": "" })).await;
    server.publish("DOC_VERIFIED", json!({ "doc_pk": 4 })).await;
    server.settle().await;
    let counts = (first.count(), second.count(), third.count());
    assert_eq!(counts, (2, 3, 1));
}

#[actix_web::test]
async fn only_200_is_a_success() {
    let receiver = Receiver::answering([201, 204, 302]).await;
    let server = start().await;
    configured(&server, &receiver).await;
    let message = server.publish("BOOK_VERIFIED", json!({})).await;
    for _ in 0..3 {
        server.advance_to_next_due().await;
    }
    let expected = ["http 201", "http 204", "http 302", "delivered"];
    assert_eq!(server.outcomes(&message).await, expected);
}

#[actix_web::test]
async fn credentials_arrive_as_basic_authentication() {
    let receiver = Receiver::ok().await;
    let server = start().await;
    let account = Account::on(&server).await;
    let with_user = receiver.url().replace("://", "://ann:s3cret@");
    for (body, expected) in [
        (json!({ "webhook_endpoint": receiver.url() }), None),
        (
            json!({ "webhook_endpoint": with_user }),
            Some("Basic YW5uOnMzY3JldA=="),
        ),
        (
            json!({ "username": "bob", "password": "p@ss w" }),
            Some("Basic Ym9iOnBAc3Mgdw=="),
        ),
    ] {
        account.configure(&server, body).await;
        server.publish("BOOK_VERIFIED", json!({})).await;
        server.settle().await;
        let requests = receiver.requests();
        let last = requests.last().expect("it came");
        assert_eq!(last.header("authorization"), expected);
    }
    let text = json!(log(&server).await).to_string();
    for hidden in ["s3cret", "YW5u", "p@ss", "Ym9i"] {
        assert!(!text.contains(hidden), "{text}");
    }
}

#[actix_web::test]
async fn a_test_is_sent_once_and_tells_how_the_endpoint_answered() {
    let receiver = Receiver::answering([200, 500, 201]).await;
    let server = start().await;
    let account = configured(&server, &receiver).await;
    // Whatever the account wants to hear of, it is tested.
    account
        .configure(&server, json!({ "event": "DOC_VERIFIED" }))
        .await;
    for (index, (status, part)) in [(200, "200"), (500, "500"), (201, "only 200")]
        .into_iter()
        .enumerate()
    {
        let answer = account.get(&server, TEST).await;
        let tried = response(&answer);
        assert_eq!(crate::support::keys(&tried), ["message", "resp_code"]);
        assert_eq!(tried["resp_code"], status);
        let message = tried["message"].as_str().expect("a sentence");
        assert!(message.contains(part), "{message}");

        let request = &receiver.requests()[index];
        assert_eq!(request.body, TEST_BODY.as_bytes());
        let secret = endpoints(&server)[0].secrets[0].secret.expose().to_owned();
        assert_eq!(
            header(request, "webhook-signature"),
            signature(request, &secret)
        );
        server.settle().await;
        assert!(server.nothing_is_due(), "it is not tried again");
        let attempts = log(&server).await;
        assert_eq!(attempts.len(), index + 1);
        assert_eq!(attempts[0]["test"], true);
        assert_eq!(attempts[0]["responseStatusCode"], status);
    }
    server.publish("DOC_VERIFIED", json!({})).await;
    server.settle().await;
    assert_eq!(log(&server).await[0]["test"], false);
}

#[actix_web::test]
async fn a_test_that_nobody_answers_says_why() {
    let free = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("it is bound").port()
    };
    let server = start().await;
    let account = Account::on(&server).await;
    let url = format!("http://127.0.0.1:{free}/webhook");
    account
        .configure(&server, json!({ "webhook_endpoint": url }))
        .await;
    let tried = response(&account.get(&server, TEST).await);
    assert_eq!(tried["resp_code"], Value::Null);
    server.settle().await;
    let attempts = log(&server).await;
    assert_eq!(attempts[0]["failure"]["kind"], "connection_refused");
    assert_eq!(tried["message"], attempts[0]["failure"]["detail"]);
    assert!(server.nothing_is_due());

    let silent = Receiver::scripted([], Script::Hang).await;
    let url = json!({ "webhook_endpoint": silent.url() });
    account.configure(&server, url).await;
    let asking = async {
        let answer = account.get(&server, TEST).await;
        response(&answer)
    };
    let stepping = async {
        silent.received(1).await;
        server.advance(Duration::from_secs(15));
    };
    let (tried, ()) = tokio::join!(asking, stepping);
    assert_eq!(tried["resp_code"], Value::Null);
    server.settle().await;
    let attempts = log(&server).await;
    assert_eq!(attempts[0]["failure"]["kind"], "timeout");
    assert_eq!(tried["message"], attempts[0]["failure"]["detail"]);
    assert!(server.nothing_is_due());
}

#[actix_web::test]
async fn a_test_that_does_not_get_its_turn_is_not_waited_for_without_end() {
    let receiver = Receiver::scripted([Script::Hang], Script::AtGate(200)).await;
    let mut server =
        Server::start_with(|config| config.delivery.in_flight_per_endpoint_max = 1).await;
    server.leftovers_are_fine();
    let account = configured(&server, &receiver).await;
    server.publish("BOOK_VERIFIED", json!({})).await;
    receiver.received(1).await;
    let asking = async {
        let answer = account.get(&server, TEST).await;
        response(&answer)
    };
    let stepping = async {
        crate::support::wait_until("the test to wait", || server.store().waiting_count() == 2)
            .await;
        server.advance(Duration::from_secs(20));
    };
    let (tried, ()) = tokio::join!(asking, stepping);
    assert_eq!(tried["resp_code"], Value::Null);
    let message = tried["message"].as_str().expect("a sentence");
    assert!(message.contains("within 20 seconds"), "{message}");
    receiver.open_gate();
    server.settle().await;
}

#[actix_web::test]
async fn a_slow_answer_is_waited_for() {
    let receiver = Receiver::scripted([], Script::AtGate(200)).await;
    let server = start().await;
    let account = configured(&server, &receiver).await;
    let asking = async {
        let answer = account.get(&server, TEST).await;
        response(&answer)
    };
    let stepping = async {
        receiver.received(1).await;
        server.advance(Duration::from_secs(14));
        receiver.open_gate();
    };
    let (tried, ()) = tokio::join!(asking, stepping);
    assert_eq!(tried["resp_code"], 200);
}
