//! The differences from Svix's server, as docs/svix.md lists them: one test for each line of the list, named
//! for the line's number.

mod deliveries;
mod registrations;
mod requests;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::Server;

const APPS: &str = "/api/v1/app";
const ENDPOINTS: &str = "/api/v1/app/app/endpoint";
const MESSAGES: &str = "/api/v1/app/app/msg";
const NEVER_DIALLED: &str = "https://receiver.invalid/";

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Every line of the list has one test here, and every test here has its line.
#[test]
fn the_list_and_the_tests_are_the_same() {
    let page = include_str!("../../docs/svix.md");
    let (_, section) = page.split_once("\n## Differences\n").expect("the section");
    let section = section.split("\n## ").next().expect("it has a beginning");
    let number = |rest: &str, end: char| -> u32 {
        let digits = rest.split(end).next().expect("it has a beginning");
        digits.parse().expect("a number")
    };
    let lines = section.lines().filter_map(|line| line.strip_prefix("| D"));
    let listed: Vec<u32> = lines.map(|rest| number(rest, ' ')).collect();
    let source = concat!(
        include_str!("differences/requests.rs"),
        include_str!("differences/registrations.rs"),
        include_str!("differences/deliveries.rs"),
    );
    let tests = source.split("#[actix_web::test]\nasync fn d").skip(1);
    let tested: Vec<u32> = tests.map(|rest| number(rest, '_')).collect();
    let unique: BTreeSet<_> = listed.iter().copied().collect();
    assert_eq!(unique.len(), listed.len(), "a number is there twice");
    assert!(listed.len() > 30, "the list was not found: {listed:?}");
    assert_eq!(listed, tested, "listed in docs/svix.md, and tested here");
}

fn message() -> Value {
    json!({ "eventType": "a", "payload": {} })
}

fn with(mut body: Value, name: &str, value: Value) -> Value {
    body[name] = value;
    body
}

/// An application `app` with an endpoint `ep` that nothing is sent to in the test.
async fn server_with_an_endpoint() -> Server {
    let server = Server::start().await;
    let body = json!({ "url": NEVER_DIALLED, "uid": "ep", "eventTypes": ["never.sent"] });
    server.endpoint_of("app", body).await;
    server
}

async fn destinations(server: &Server, message: &str) -> Value {
    let path = format!("{MESSAGES}/{message}/endpoint");
    server.get(&path).await.expect(200)["data"].clone()
}
