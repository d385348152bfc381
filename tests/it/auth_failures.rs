//! Requests without a valid credential: limited by address and by the beginning of the credential, late,
//! and never at the cost of somebody whose credential is valid.

use std::future::Future;
use std::time::Duration;

use awc::http::Method;
use serde_json::json;

use crate::support::{Answer, Server, assert_error, wait_until};

const APPLICATIONS: &str = "/api/v1/app";
const SESSION: &str = "/api/v1/session";
const PER_ADDRESS: &str = "limits.auth_failures_per_address_minute_max";
const PER_PREFIX: &str = "limits.auth_failures_per_token_prefix_minute_max";

const ATTACKER: &str = "203.0.113.7";
const VICTIM: &str = "203.0.113.8";

/// Behind a proxy, so that a test says from where a request comes.
async fn start(per_address: u64, per_prefix: u64) -> Server {
    Server::start_with(|config| {
        config.server.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
        config.limits.auth_failures_per_address_minute_max = per_address;
        config.limits.auth_failures_per_token_prefix_minute_max = per_prefix;
    })
    .await
}

/// Asks with a credential from an address.
fn ask(
    server: &Server,
    address: &str,
    credential: &str,
    path: &str,
) -> impl Future<Output = Answer> + use<> {
    let headers = [("x-forwarded-for", address), ("api-key", credential)];
    server.begin(Method::GET, path, &headers, None)
}

/// An answer that is late: the clock is moved once it waits.
async fn late(server: &Server, asking: impl Future<Output = Answer> + 'static) -> Answer {
    let refused = &server.metrics().auth_failures_refused;
    let before = refused.get();
    let answer = actix_rt::spawn(asking);
    wait_until("the request to be refused", || refused.get() > before).await;
    // Somebody else asks and is answered meanwhile.
    server.get(APPLICATIONS).await.expect(200);
    assert!(!answer.is_finished());
    server.advance(Duration::from_secs(1));
    answer.await.expect("no panic")
}

#[track_caller]
fn assert_refused(answer: &Answer, setting: &str, retry_after: &str) {
    assert_error(answer, 429, "too_many");
    assert!(answer.text.contains(setting), "{}", answer.text);
    assert_eq!(answer.header("retry-after"), Some(retry_after));
}

#[actix_web::test]
async fn only_what_would_be_a_401_becomes_a_429_and_only_for_its_address() {
    let server = start(3, 100).await;
    // Handlers that ask for several parts of the credential count one failure.
    for path in [APPLICATIONS, "/api/v1/event-type", "/metrics"] {
        let answer = ask(&server, ATTACKER, "pr_wrong", path).await;
        assert_error(&answer, 401, "authentication_failed");
    }
    let answer = late(&server, ask(&server, ATTACKER, "pr_other", APPLICATIONS)).await;
    assert_refused(&answer, PER_ADDRESS, "60");
    let valid = ask(&server, ATTACKER, &server.token, APPLICATIONS).await;
    valid.expect(200);
    let answer = ask(&server, VICTIM, "pr_typing", APPLICATIONS).await;
    assert_error(&answer, 401, "authentication_failed");
    // One network of IPv6 is one client.
    for host in 1..=3 {
        let address = format!("2001:db8:0:1::{host}");
        let answer = ask(&server, &address, "pr_wrong", APPLICATIONS).await;
        assert_error(&answer, 401, "authentication_failed");
    }
    let asking = ask(&server, "2001:db8:0:1:ffff::", "pr_wrong", APPLICATIONS);
    assert_refused(&late(&server, asking).await, PER_ADDRESS, "60");

    server.advance(Duration::from_secs(58));
    let answer = ask(&server, ATTACKER, "pr_wrong", APPLICATIONS).await;
    assert_error(&answer, 401, "authentication_failed");
}

#[actix_web::test]
async fn what_lacks_a_credential_counts_and_what_needs_none_does_not() {
    let server = start(2, 100).await;
    let from = [("x-forwarded-for", ATTACKER)];
    for path in [SESSION, "/api/v1/health", "/nothing", "/docs"].repeat(3) {
        let nobody = [from[0], ("x-postrider-surface", "console")];
        let answer = server.call(Method::GET, path, &nobody, None).await;
        assert!([200, 404].contains(&answer.status), "{path}");
    }
    let nobody = [from[0], ("authorization", "")];
    for _ in 0..2 {
        let answer = server.call(Method::GET, APPLICATIONS, &nobody, None).await;
        assert_error(&answer, 401, "authentication_failed");
    }
    let asking = server.begin(Method::GET, APPLICATIONS, &nobody, None);
    assert_refused(&late(&server, asking).await, PER_ADDRESS, "60");
    assert_eq!(server.metrics().auth_failures.get(), 3);
    // Where a page asks who is signed in, keys cannot be guessed either.
    let answer = late(&server, ask(&server, ATTACKER, "pr_guess", SESSION)).await;
    assert_refused(&answer, PER_ADDRESS, "59");
    let shown = ask(&server, VICTIM, "pr_guess", SESSION).await.expect(200);
    assert_eq!(shown["signedIn"], false);
}

#[actix_web::test]
async fn a_trusted_proxy_that_names_no_client_is_not_limited() {
    let server = start(2, 100).await;
    for number in 0..10 {
        let credential = format!("pr_wrong-{number}-wrong");
        let key = [("api-key", credential.as_str())];
        let answer = server.call(Method::GET, APPLICATIONS, &key, None).await;
        assert_error(&answer, 401, "authentication_failed");
    }
}

#[actix_web::test]
async fn variants_of_a_token_are_limited_from_all_addresses_and_the_token_is_not() {
    let server = start(100, 2).await;
    let guess = |number: usize| format!("{}{number:036}", &server.token[..10]);
    for number in 0..2 {
        let address = format!("203.0.113.{number}");
        let answer = ask(&server, &address, &guess(number), APPLICATIONS).await;
        assert_error(&answer, 401, "authentication_failed");
    }
    // The address is not over its limit, so it is told at once.
    let answer = ask(&server, VICTIM, &guess(9), APPLICATIONS).await;
    assert_refused(&answer, PER_PREFIX, "60");
    let valid = ask(&server, VICTIM, &server.token, APPLICATIONS).await;
    valid.expect(200);
    let answer = ask(&server, VICTIM, "pr_another-one", APPLICATIONS).await;
    assert_error(&answer, 401, "authentication_failed");
}

async fn sign_in(server: &Server, address: &str, token: &str) -> Answer {
    let headers = [
        ("x-forwarded-for", address),
        ("x-postrider-surface", "console"),
    ];
    let body = json!({ "token": token }).to_string();
    server
        .call(Method::POST, SESSION, &headers, Some(body))
        .await
}

#[actix_web::test]
async fn ones_failed_sign_ins_leave_others_their_typing_errors() {
    let server = start(2, 100).await;
    for _ in 0..2 {
        let answer = sign_in(&server, ATTACKER, "pr_guessed").await;
        assert_error(&answer, 401, "authentication_failed");
    }
    let body = json!({ "token": "x".repeat(5000) })
        .to_string()
        .into_bytes();
    let headers = [
        ("x-forwarded-for", ATTACKER),
        ("x-postrider-surface", "console"),
    ];
    let asking = server.begin(Method::POST, SESSION, &headers, Some(body));
    assert_refused(&late(&server, asking).await, PER_ADDRESS, "60");
    sign_in(&server, ATTACKER, &server.token).await.expect(200);
    let answer = sign_in(&server, VICTIM, "pr_typing").await;
    assert_error(&answer, 401, "authentication_failed");
}

#[actix_web::test]
async fn other_surfaces_have_their_own_shape_of_it() {
    let server = start(1, 100).await;
    ask(&server, ATTACKER, "pr_wrong", APPLICATIONS).await;
    let path = "/v1/account/settings/webhook_details";
    let answer = late(&server, ask(&server, ATTACKER, "pr_wrong", path)).await;
    assert_eq!(answer.header("retry-after"), Some("60"));
    let body = answer.expect(429);
    assert_eq!(body["status"], 429);
    let message = body["message"].as_str().expect("a sentence");
    assert!(message.contains(PER_ADDRESS), "{message}");

    let path = "/api/v3/project_templates/1/webhook_endpoints";
    let answer = late(&server, ask(&server, ATTACKER, "pr_wrong", path)).await;
    assert_eq!(answer.header("retry-after"), Some("59"));
    let body = answer.expect(429);
    let message = body["errors"][0].as_str().expect("a sentence");
    assert!(message.contains(PER_ADDRESS), "{message}");
}

#[actix_web::test]
async fn few_answers_wait_and_the_others_close_their_connection() {
    let server = Server::start_with(|config| {
        config.server.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
        config.limits.auth_failures_per_address_minute_max = 1;
        // A fifth of these wait in all, and a quarter of that for one address.
        config.limits.connections_max = 40;
    })
    .await;
    ask(&server, ATTACKER, "pr_wrong", APPLICATIONS).await;
    let refused = &server.metrics().auth_failures_refused;
    let waiting: Vec<_> = (0..2)
        .map(|_| actix_rt::spawn(ask(&server, ATTACKER, "pr_wrong", APPLICATIONS)))
        .collect();
    wait_until("two to wait", || refused.get() == 2).await;
    let answer = ask(&server, ATTACKER, "pr_wrong", APPLICATIONS).await;
    assert_refused(&answer, PER_ADDRESS, "60");
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(waiting.iter().all(|answer| !answer.is_finished()));

    // A stop waits for none of them, though the clock stands still.
    let directory = server.stopped().await;
    for answer in waiting {
        assert_refused(&answer.await.expect("no panic"), PER_ADDRESS, "60");
    }
    drop(directory);
}

#[actix_web::test]
async fn a_reload_forgets_no_failure() {
    let server = start(1, 100).await;
    ask(&server, ATTACKER, "pr_wrong", APPLICATIONS).await;
    server.reload();
    let answer = late(&server, ask(&server, ATTACKER, "pr_wrong", APPLICATIONS)).await;
    assert_refused(&answer, PER_ADDRESS, "60");
}
