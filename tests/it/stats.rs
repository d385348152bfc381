//! Statistics: what is counted, from when to when, and what survives.

use std::time::Duration;

use postrider::clock::Timestamp;
use serde_json::{Value, json};

use crate::support::{Receiver, Script, Server, assert_error, assert_invalid};

async fn stats(server: &Server, endpoint: &str, what: &str, query: &str) -> Value {
    let path = format!("/api/v1/app/app/endpoint/{endpoint}/{what}{query}");
    server.get(&path).await.expect(200)
}

fn counts(success: u64, pending: u64, fail: u64) -> Value {
    json!({"success": success, "pending": pending, "sending": 0, "fail": fail, "canceled": 0})
}

/// Steps to the beginning of the next hour, so that no test runs over one by chance.
fn to_the_hour(server: &Server) {
    const HOUR_MS: u64 = 3_600_000;
    let left = HOUR_MS - server.now().0 % HOUR_MS;
    server.advance(Duration::from_millis(left));
}

#[actix_web::test]
async fn deliveries_and_attempts_are_counted_by_what_became_of_them() {
    let receiver = Receiver::answering([500, 200, 500, 500]).await;
    let server = Server::start().await;
    to_the_hour(&server);
    let body = json!({"url": receiver.url(), "retry": {"delaysSeconds": [5]}});
    let endpoint = server.endpoint_of("app", body).await;
    assert_eq!(
        stats(&server, &endpoint, "stats", "").await,
        counts(0, 0, 0)
    );
    server.publish("a", json!({})).await;
    server.settle().await;
    assert_eq!(
        stats(&server, &endpoint, "stats", "").await,
        counts(0, 1, 0)
    );
    server.advance_to_next_due().await;
    assert_eq!(
        stats(&server, &endpoint, "stats", "").await,
        counts(1, 0, 0)
    );
    server.publish("a", json!({})).await;
    server.advance_to_next_due().await;
    assert_eq!(
        stats(&server, &endpoint, "stats", "").await,
        counts(1, 0, 1)
    );
    let attempts = stats(&server, &endpoint, "attempt-stats", "").await;
    assert_eq!(attempts, json!({"success": 1, "fail": 3, "canceled": 0}));

    server.set_disabled("app", &endpoint, true).await;
    server.publish("a", json!({})).await;
    assert_eq!(
        stats(&server, &endpoint, "stats", "").await,
        counts(1, 1, 1)
    );
    server.set_disabled("app", &endpoint, false).await;
    server.settle().await;
}

#[actix_web::test]
async fn the_stretch_is_of_whole_hours_and_at_most_28_days() {
    let receiver = Receiver::ok().await;
    let server = Server::start_with(|config| config.store.slice_hours = 1).await;
    to_the_hour(&server);
    let endpoint = server.endpoint(&receiver).await;
    let began = server.now();
    for _ in 0..3 {
        server.publish("a", json!({})).await;
        // The first id in a new slice is some milliseconds ahead of the clock.
        let ahead = Duration::from_millis(10);
        server.advance(ahead);
        server.settle().await;
        server.advance(Duration::from_secs(3_600) - ahead);
    }
    let at = |minutes: u64| began + Duration::from_secs(minutes * 60);
    let success = async |since: Timestamp, until: Timestamp| {
        let query = format!("?since={since}&until={until}");
        let stats = stats(&server, &endpoint, "stats", &query).await;
        stats["success"].as_u64().expect("a number")
    };
    for (since, until, expected) in [
        (0, 180, 3),
        (0, 60, 1),
        (30, 61, 2),
        (60, 120, 1),
        (180, 180, 0),
    ] {
        let found = success(at(since), at(until)).await;
        assert_eq!(found, expected, "{since} to {until}");
    }
    assert_eq!(stats(&server, &endpoint, "stats", "").await["success"], 3);

    let day = Duration::from_secs(24 * 3_600);
    let path = format!("/api/v1/app/app/endpoint/{endpoint}/stats");
    let (now, too_long) = (server.now(), server.now().saturating_sub(29 * day));
    for query in [
        format!("since={}&until={began}", at(1)),
        "since=yesterday".to_owned(),
    ] {
        let answer = server.get(&format!("{path}?{query}")).await;
        assert_invalid(&answer, &["query.since"]);
    }
    for kind in ["stats", "attempt-stats", "attempt-series"] {
        let path = format!("/api/v1/app/app/endpoint/{endpoint}/{kind}");
        let query = format!("since={too_long}&until={now}");
        let answer = server.get(&format!("{path}?{query}")).await;
        assert_error(&answer, 400, "invalid_range");
    }
    // A caller's clock need not agree with ours.
    let about = now.saturating_sub(28 * day + Duration::from_secs(60));
    server
        .get(&format!("{path}?since={about}"))
        .await
        .expect(200);
    let days_later = server.now() + 40 * day;
    server.advance(days_later.since(server.now()));
    assert_eq!(stats(&server, &endpoint, "stats", "").await["success"], 0);
}

#[actix_web::test]
async fn neither_a_stop_nor_a_crash_costs_statistics() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    to_the_hour(&server);
    let endpoint = server.endpoint(&receiver).await;
    for _ in 0..2 {
        server.publish("a", json!({})).await;
        server.settle().await;
    }
    server.advance(Duration::from_secs(1));
    assert_eq!(stats(&server, &endpoint, "stats", "").await["success"], 2);

    let crashed = server.after_a_crash().await;
    assert_eq!(stats(&crashed, &endpoint, "stats", "").await["success"], 2);
    crashed.publish("a", json!({})).await;
    crashed.settle().await;
    assert_eq!(stats(&crashed, &endpoint, "stats", "").await["success"], 3);

    let server = server.restart().await;
    assert_eq!(stats(&server, &endpoint, "stats", "").await["success"], 2);
    server.publish("a", json!({})).await;
    server.settle().await;
    assert_eq!(stats(&server, &endpoint, "stats", "").await["success"], 3);
    server.stop_and_verify().await;
    drop(crashed);
}

#[actix_web::test]
async fn hours_tell_how_long_answers_took() {
    let receiver = Receiver::scripted([Script::Close], Script::Status(200)).await;
    let server = Server::start().await;
    to_the_hour(&server);
    let endpoint = server.endpoint(&receiver).await;
    server.publish("a", json!({})).await;
    server.advance_to_next_due().await;
    let number = {
        let catalog = server.store().catalog();
        let id = endpoint.parse().expect("an id");
        let organisation = catalog.organisations().next().expect("there is one").id;
        let entry = catalog
            .application(organisation, "app")
            .expect("it is there");
        let endpoint = entry.endpoint_by_id(id).expect("it is there");
        endpoint.number
    };
    let (store, now) = (server.store().clone(), server.now());
    let hours =
        tokio::task::spawn_blocking(move || store.hours(number, now, now + postrider::store::HOUR));
    let hours = hours.await.expect("no panic").expect("it reads");
    let (_, counts) = hours.first_key_value().expect("an hour");
    assert_eq!((counts.attempts_failed, counts.attempts_succeeded), (1, 1));
    assert_eq!(counts.answered, 1);
    assert!(counts.answer_us_max > 0 && counts.answer_us_sum == counts.answer_us_max);
}

#[actix_web::test]
async fn attempts_are_shown_by_the_hour_with_how_long_answers_took() {
    let receiver = Receiver::answering([500, 200, 200]).await;
    let server = Server::start().await;
    to_the_hour(&server);
    let body = json!({"url": receiver.url(), "retry": {"delaysSeconds": [3700]}});
    let endpoint = server.endpoint_of("app", body).await;
    let began = server.now();
    let series = async || stats(&server, &endpoint, "attempt-series", "").await["data"].clone();
    assert_eq!(series().await, json!([]));
    server.publish("a", json!({})).await;
    server.settle().await;
    server.advance_to_next_due().await;
    let hours = series().await;
    let hours = hours.as_array().expect("a list");
    assert_eq!(hours.len(), 2, "{hours:?}");
    assert_eq!(hours[0]["at"], began.to_string());
    let of = |hour: &Value| (hour["success"].clone(), hour["fail"].clone());
    assert_eq!(of(&hours[0]), (json!(0), json!(1)));
    assert_eq!(of(&hours[1]), (json!(1), json!(0)));
    assert_eq!(hours[1]["answered"], 1);
    let latency = hours[1]["latencyMsMax"].as_f64().expect("a number");
    // The clock stood still but for the step to the retry, which was due then.
    assert!(latency < 60_000.0, "{latency}");
    assert_eq!(hours[1]["latencyMsAverage"], hours[1]["latencyMsMax"]);
    let path = format!("/api/v1/app/app/endpoint/{endpoint}/attempt-series?since=never");
    assert_invalid(&server.get(&path).await, &["query.since"]);
}
