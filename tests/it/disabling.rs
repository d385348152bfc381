//! Endpoints that their attempts disable: after failures over days, by a 410, or because the receiver asks for it.

use std::time::Duration;

use postrider::config::Config;
use serde_json::{Value, json};

use crate::support::{Receiver, Request, Script, Server};

const HOUR: Duration = Duration::from_secs(3600);
const TOLD_AFTER: Duration = Duration::from_secs(301);

fn path(endpoint: &str) -> String {
    format!("/api/v1/app/app/endpoint/{endpoint}")
}

async fn shown(server: &Server, endpoint: &str) -> Value {
    server.get(&path(endpoint)).await.expect(200)
}

/// Starts without breakers: attempts are made when the schedule has them.
async fn start(change: impl FnOnce(&mut Config)) -> Server {
    let mut server = Server::start_with(|config| {
        config.delivery.breaker.failures = 0;
        change(config);
    })
    .await;
    server.leftovers_are_fine();
    server
}

/// A retry every six hours, for long enough.
fn every_six_hours(config: &mut Config) {
    config.delivery.retry_delays_seconds = vec![6 * 3600; 40];
}

fn single_attempts(config: &mut Config) {
    config.delivery.retry_delays_seconds = Vec::new();
}

async fn failing() -> Receiver {
    Receiver::scripted([], Script::Status(500)).await
}

/// Publishes a message now, and waits until all that is due was attempted.
async fn attempt(server: &Server) -> String {
    let message = server.publish("invoice.paid", json!({})).await;
    server.settle().await;
    message
}

/// Makes the messages to people that are due.
async fn tell(server: &Server) {
    let told = server.store().tell_due(|_, _| false).await;
    told.expect("the store takes them");
    server.settle().await;
}

async fn hears(server: &Server, receiver: &Receiver, event_types: &[&str]) -> String {
    let body = json!({ "url": receiver.url(), "eventTypes": event_types });
    let path = "/api/v1/operational-webhook/endpoint";
    let made = server.post(path, body).await.expect(201);
    made["id"].as_str().expect("an id").to_owned()
}

fn told(request: &Request) -> (String, Value) {
    let payload: Value = serde_json::from_slice(&request.body).expect("JSON");
    let name = payload["type"].as_str().expect("a name").to_owned();
    (name, payload["data"].clone())
}

#[actix_web::test]
async fn failures_for_five_days_disable_an_endpoint_after_three_warnings() {
    let (receiver, heard) = (failing().await, Receiver::ok().await);
    let server = start(every_six_hours).await;
    let names = ["endpoint.failing", "endpoint.disabled", "endpoint.enabled"];
    hears(&server, &heard, &names).await;
    let endpoint = server.endpoint(&receiver).await;
    let begin = server.now();
    let message = attempt(&server).await;
    assert_eq!(
        shown(&server, &endpoint).await["failingSince"],
        begin.to_string()
    );
    let mut server = server;
    for attempt in 1..=20 {
        server.advance_to_next_due().await;
        // The time until somebody is told is over, even where a new slice begins a few milliseconds later.
        server.advance(TOLD_AFTER);
        tell(&server).await;
        let now = shown(&server, &endpoint).await;
        assert_eq!(now["disabled"], json!(attempt == 20), "{attempt}");
        if attempt == 10 {
            // What it knows of the endpoint outlives the process.
            server = server.restart().await;
            server.leftovers_are_fine();
        }
    }
    assert_eq!(receiver.count(), 21);
    let end = begin + 120 * HOUR;
    let disabled = shown(&server, &endpoint).await;
    assert_eq!(disabled["disabledReason"], "failing");
    assert_eq!(disabled["disabledAt"], end.to_string());
    assert!(disabled.get("disablesAt").is_none());

    let requests = heard.received(5).await;
    let events: Vec<(String, Value)> = requests.iter().map(told).collect();
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "endpoint.failing",
            "endpoint.failing",
            "endpoint.failing",
            "endpoint.disabled",
            "endpoint.failing",
        ]
    );
    for (request, hours) in requests.iter().zip([24, 60, 96]) {
        let at = begin + hours * HOUR + TOLD_AFTER;
        let sent = request.header("webhook-timestamp").expect("a time");
        assert_eq!(sent, at.as_seconds().to_string());
        let (_, data) = told(request);
        assert_eq!(data["disablesAt"], end.to_string(), "{hours}");
        assert_eq!(data["failSince"], begin.to_string(), "{hours}");
    }
    assert_eq!(events[3].1["trigger"], "automatic");
    assert_eq!(events[3].1["failSince"], begin.to_string());
    assert!(events[4].1.get("disablesAt").is_none());
    let metrics = server.get("/metrics").await.text;
    let counted = "postrider_endpoints_disabled_total{reason=\"failing\"} 1";
    assert!(metrics.lines().any(|line| line == counted), "{metrics}");
    let status = server.get("/api/v1/status").await.expect(200);
    assert_eq!(
        status["disabledAutomatically"],
        json!({ "gone": 0, "requested": 0, "failing": 1 })
    );

    // What waits is sent once somebody enables it, and the endpoint has a fresh start.
    assert_eq!(server.store().waits().held, 1);
    receiver.then(Script::Status(200));
    let enable = format!("{}/enable", path(&endpoint));
    let enabled = server.post(&enable, json!({})).await.expect(200);
    assert_eq!(enabled["disabled"], false);
    assert!(enabled.get("disabledReason").is_none() && enabled.get("failingSince").is_none());
    server.advance_to_next_due().await;
    let outcomes = server.outcomes(&message).await;
    assert_eq!(outcomes.last().map(String::as_str), Some("delivered"));
    let last = heard.received(6).await;
    assert_eq!(told(&last[5]).0, "endpoint.enabled");
}

#[actix_web::test]
async fn a_success_begins_the_count_anew() {
    let receiver = failing().await;
    let server = start(|config| {
        single_attempts(config);
        config.delivery.disable_after_hours = 24;
    })
    .await;
    let endpoint = server.endpoint(&receiver).await;
    let mut disabled_at = None;
    for hour in 0..=60 {
        receiver.then(Script::Status(if hour == 20 { 200 } else { 500 }));
        attempt(&server).await;
        let now = shown(&server, &endpoint).await;
        if now["disabled"] == true {
            disabled_at = Some(hour);
            break;
        }
        assert_eq!(now.get("failingSince").is_none(), hour == 20, "{hour}");
        server.advance(HOUR);
    }
    assert_eq!(disabled_at, Some(21 + 24));
}

#[actix_web::test]
async fn an_endpoint_has_its_own_hours_else_its_profiles_and_never_less_than_twelve() {
    let receiver = failing().await;
    let server = start(|config| {
        single_attempts(config);
        config.delivery.disable_after_hours = 15;
        let profile = config.profiles.get_mut("github").expect("it is shipped");
        profile.disable_after_hours = Some(18);
    })
    .await;
    let mut endpoints = Vec::new();
    for (own, profile, expected) in [
        (None, "standard", Some(15)),
        (None, "github", Some(18)),
        (Some(0), "standard", None),
        (Some(0), "github", None),
        (Some(1), "standard", Some(12)),
        (Some(20), "github", Some(20)),
    ] {
        let body = json!({
            "url": receiver.url(), "profile": profile, "disableAfterHours": own,
        });
        endpoints.push((server.endpoint_of("app", body).await, expected, None));
    }
    for hour in 0..=30 {
        attempt(&server).await;
        for (endpoint, _, disabled_at) in &mut endpoints {
            if disabled_at.is_none() && shown(&server, endpoint).await["disabled"] == true {
                *disabled_at = Some(hour);
            }
        }
        server.advance(HOUR);
    }
    for (place, (_, expected, disabled_at)) in endpoints.iter().enumerate() {
        assert_eq!(disabled_at, expected, "{place}");
    }
    let profile = |name: &str| format!("/api/v1/profile/{name}");
    for (name, hours) in [("standard", 15), ("github", 18)] {
        let shown = server.get(&profile(name)).await.expect(200);
        assert_eq!(shown["disableAfterHours"], hours);
        assert_eq!(shown["breaker"]["failures"], 0);
    }
}

#[actix_web::test]
async fn a_replacement_that_does_not_speak_of_it_leaves_an_automatic_disabling_alone() {
    let receiver = Receiver::scripted([], Script::Status(410)).await;
    let server = start(single_attempts).await;
    let endpoint = server.endpoint(&receiver).await;
    let place = path(&endpoint);
    attempt(&server).await;
    let url = receiver.url();
    let gone = |shown: &Value| {
        assert_eq!(shown["disabled"], true);
        assert_eq!(shown["disabledReason"], "gone");
    };
    gone(&shown(&server, &endpoint).await);
    for body in [
        json!({ "url": url }),
        json!({ "url": url, "disabled": true }),
    ] {
        gone(&server.put(&place, body).await.expect(200));
    }
    for body in [
        json!({}),
        json!({ "description": "d" }),
        json!({ "disabled": true }),
    ] {
        gone(&server.patch(&place, body).await.expect(200));
    }
    // A change that says that it is enabled lifts it, whatever it is.
    let body = json!({ "url": url, "disabled": false });
    assert_eq!(
        server.put(&place, body).await.expect(200)["disabled"],
        false
    );
    server.settle().await;
    gone(&shown(&server, &endpoint).await);
    let body = json!({ "disabled": false });
    assert_eq!(
        server.patch(&place, body).await.expect(200)["disabled"],
        false
    );
    server.settle().await;
    gone(&shown(&server, &endpoint).await);

    // A disabling by hand is a field like any other.
    let by_hand = server.endpoint(&receiver).await;
    server.set_disabled("app", &by_hand, true).await;
    let disabled = shown(&server, &by_hand).await;
    assert_eq!(disabled["disabledReason"], "by-hand");
    let replaced = server.put(&path(&by_hand), json!({ "url": url })).await;
    assert_eq!(replaced.expect(200)["disabled"], false);
}

#[actix_web::test]
async fn a_receiver_disables_its_endpoint_or_ends_a_message_with_a_header() {
    for (status, header, outcome, disabled, waits) in [
        (200, "disable", "delivered", true, false),
        (500, "disable", "http 500", true, true),
        (500, "Abort-Message, disable", "http 500", true, true),
        (500, "abort-message", "http 500", false, false),
        (200, "abort-message", "delivered", false, false),
        (500, "something-else", "http 500", false, true),
    ] {
        let script = Script::answer(status, &[("webhook-delivery", header)], "");
        let receiver = Receiver::scripted([script], Script::Status(200)).await;
        let server = start(|_| ()).await;
        let endpoint = server.endpoint(&receiver).await;
        let message = attempt(&server).await;
        let case = format!("{status} {header}");
        assert_eq!(server.outcomes(&message).await, [outcome], "{case}");
        let now = shown(&server, &endpoint).await;
        assert_eq!(now["disabled"], disabled, "{case}");
        if disabled {
            assert_eq!(now["disabledReason"], "requested", "{case}");
        }
        assert_eq!(server.store().waiting_count(), u64::from(waits), "{case}");
        assert_eq!(
            server.store().waits().held,
            u64::from(waits && disabled),
            "{case}"
        );
    }
}

#[actix_web::test]
async fn the_platforms_own_endpoints_are_never_disabled_by_failures() {
    let receiver = failing().await;
    let server = start(every_six_hours).await;
    let own = hears(&server, &receiver, &["endpoint.created"]).await;
    let body = json!({ "url": receiver.url() });
    server.endpoint_of("app", body).await;
    server.settle().await;
    for _ in 0..25 {
        server.advance_to_next_due().await;
    }
    assert_eq!(receiver.count(), 26);
    let place = format!("/api/v1/operational-webhook/endpoint/{own}");
    let shown = server.get(&place).await.expect(200);
    assert_eq!(shown["disabled"], false);
    assert!(shown.get("failingSince").is_some() && shown.get("disablesAt").is_none());
}
