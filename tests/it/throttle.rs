//! `throttleRate` holds at the receiver, for an endpoint and for an application, and for nobody
//! else. The clock stands still while messages go out, so what arrives between two steps of it is
//! what the throttle let through.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Receiver, Script, Server};

const SECOND: Duration = Duration::from_secs(1);

/// A server that has run for a second: bursts are whole.
async fn start() -> Server {
    let server = Server::start_with(|config| config.delivery.workers = 2).await;
    server.settle().await;
    server.advance(SECOND);
    server
}

async fn publish(server: &Server, application: &str, count: usize) {
    let payloads = (0..count).map(|number| json!({ "n": number }));
    server.publish_all(application, payloads).await;
    server.settle().await;
}

/// What each receiver gets in each of so many seconds, stepped through in tenths.
async fn by_second<const N: usize>(
    server: &Server,
    receivers: [&Receiver; N],
    seconds: usize,
) -> Vec<[usize; N]> {
    let mut found = Vec::new();
    for _ in 0..seconds {
        let before = receivers.map(Receiver::count);
        for _ in 0..10 {
            server.advance(SECOND / 10);
            server.settle().await;
        }
        let mut counts = receivers.map(Receiver::count);
        for (count, before) in counts.iter_mut().zip(before) {
            *count -= before;
        }
        found.push(counts);
    }
    found
}

async fn throttled(server: &Server, application: &str, receiver: &Receiver, rate: u16) -> String {
    let body = json!({ "url": receiver.url(), "throttleRate": rate });
    server.endpoint_of(application, body).await
}

/// The rate holds for the lanes, too, when this returns: the scheduler is told after the answer.
async fn throttle_application(server: &Server, application: &str, rate: Value) {
    server.application(application).await;
    let path = format!("/api/v1/app/{application}");
    let body = json!({ "throttleRate": rate });
    server.patch(&path, body).await.expect(200);
    server.settle().await;
}

#[actix_web::test]
async fn an_endpoint_gets_a_burst_and_then_its_rate_and_others_are_unaffected() {
    let (slow, sibling, other) = (
        Receiver::ok().await,
        Receiver::ok().await,
        Receiver::ok().await,
    );
    let server = start().await;
    throttled(&server, "app", &slow, 10).await;
    server.endpoint(&sibling).await;
    server
        .endpoint_of("other", json!({ "url": other.url() }))
        .await;
    publish(&server, "app", 55).await;
    publish(&server, "other", 20).await;
    assert_eq!(slow.count(), 10, "a second's worth at once");
    assert_eq!((sibling.count(), other.count()), (55, 20));
    let counts = by_second(&server, [&slow], 6).await;
    assert_eq!(counts, [[10], [10], [10], [10], [5], [0]]);

    // What was not used in that last second and a half is the next burst, and no more.
    publish(&server, "app", 30).await;
    assert_eq!(slow.count(), 65);
    let counts = by_second(&server, [&slow], 2).await;
    assert_eq!(counts, [[10], [10]]);
    assert!(server.nothing_is_due());
}

#[actix_web::test]
async fn a_lane_that_was_idle_for_a_moment_does_not_get_another_burst() {
    let receiver = Receiver::ok().await;
    let server = start().await;
    throttled(&server, "app", &receiver, 4).await;
    // Each time everything is delivered and the lane has nothing to do.
    for (published, in_all) in [(4, 4), (0, 4)] {
        publish(&server, "app", published).await;
        assert_eq!(receiver.count(), in_all);
    }
    server.advance(SECOND / 4);
    publish(&server, "app", 4).await;
    assert_eq!(receiver.count(), 5, "one more after a quarter of a second");
    assert_eq!(by_second(&server, [&receiver], 1).await, [[3]]);
}

#[actix_web::test]
async fn retries_and_resends_count() {
    let failing = Receiver::scripted([], Script::Status(500)).await;
    let mut server = start().await;
    server.leftovers_are_fine();
    let endpoint = throttled(&server, "app", &failing, 5).await;
    let payloads = (0..5).map(|number| json!({ "n": number }));
    let messages = server.publish_all("app", payloads).await;
    server.settle().await;
    assert_eq!(failing.count(), 5);
    // Five retries come due at once, with a burst that is whole again; what is resent has to wait.
    server.advance(Duration::from_secs(5));
    server.settle().await;
    assert_eq!(failing.count(), 10);
    for message in &messages {
        let path = format!("/api/v1/app/app/msg/{message}/endpoint/{endpoint}/resend");
        server.post(&path, Value::Null).await.expect(202);
    }
    server.settle().await;
    assert_eq!(failing.count(), 10);
    server.advance(SECOND / 5);
    server.settle().await;
    assert_eq!(failing.count(), 11);
    assert_eq!(by_second(&server, [&failing], 1).await, [[4]]);
}

#[actix_web::test]
async fn endpoints_of_an_application_share_its_rate_fairly() {
    let (busy, quiet, other) = (
        Receiver::ok().await,
        Receiver::ok().await,
        Receiver::ok().await,
    );
    let mut server = start().await;
    server.leftovers_are_fine();
    throttle_application(&server, "app", json!(10)).await;
    server.endpoint(&busy).await;
    server
        .endpoint_of("other", json!({ "url": other.url() }))
        .await;
    publish(&server, "app", 1_000).await;
    assert_eq!(busy.count(), 10);

    // It comes late and has little; another worker has its lane.
    server.endpoint(&quiet).await;
    publish(&server, "app", 15).await;
    assert_eq!((busy.count(), quiet.count()), (10, 0));
    let counts = by_second(&server, [&busy, &quiet], 4).await;
    for (second, [busy, quiet]) in counts.iter().take(3).enumerate() {
        assert_eq!(busy + quiet, 10, "{second}");
        assert!((4..=6).contains(quiet), "{second}: {quiet}");
    }
    assert_eq!(quiet.count(), 15, "before the others' backlog");
    assert_eq!(counts[3][0] + counts[3][1], 10);
    publish(&server, "other", 50).await;
    assert_eq!(other.count(), 50);
}

#[actix_web::test]
async fn the_lower_of_both_rates_holds() {
    let (slow, fast) = (Receiver::ok().await, Receiver::ok().await);
    let server = start().await;
    throttle_application(&server, "app", json!(10)).await;
    throttled(&server, "app", &slow, 2).await;
    throttled(&server, "app", &fast, 60_000).await;
    publish(&server, "app", 12).await;
    assert_eq!(slow.count() + fast.count(), 10);
    let burst = slow.count();
    assert!(burst <= 2, "{burst}");
    let counts = by_second(&server, [&slow, &fast], 6).await;
    // The application's rate may have kept back some of its burst, which then comes late.
    let mut most = 2 - burst;
    for [slow, _] in &counts {
        most += 2;
        assert!(*slow <= most, "{counts:?}");
        most -= slow;
    }
    assert_eq!((slow.count(), fast.count()), (12, 12));
}

#[actix_web::test]
async fn a_change_of_a_rate_applies_at_once() {
    let receiver = Receiver::ok().await;
    let server = start().await;
    let endpoint = throttled(&server, "app", &receiver, 1).await;
    let path = format!("/api/v1/app/app/endpoint/{endpoint}");
    publish(&server, "app", 100).await;
    assert_eq!(receiver.count(), 1);
    let set = |rate: Value| {
        let (server, path) = (&server, &path);
        async move {
            let body = json!({ "throttleRate": rate });
            server.patch(path, body).await.expect(200);
            server.settle().await;
        }
    };
    set(json!(20)).await;
    assert_eq!(receiver.count(), 1, "what was sent stays sent");
    assert_eq!(by_second(&server, [&receiver], 2).await, [[20], [20]]);
    set(json!(3)).await;
    assert_eq!(by_second(&server, [&receiver], 2).await, [[3], [3]]);

    // While the endpoint has none, its application's rate takes over, and then nothing.
    throttle_application(&server, "app", json!(5)).await;
    set(Value::Null).await;
    assert_eq!(receiver.count(), 52, "the application's burst");
    assert_eq!(by_second(&server, [&receiver], 1).await, [[5]]);
    throttle_application(&server, "app", json!(7)).await;
    assert_eq!(by_second(&server, [&receiver], 1).await, [[7]]);
    throttle_application(&server, "app", Value::Null).await;
    assert_eq!(receiver.count(), 100);
    assert!(server.nothing_is_due());
}

#[actix_web::test]
async fn who_is_disabled_or_deleted_while_it_waits_leaves_its_turn_to_others() {
    let (first, second, third) = (
        Receiver::ok().await,
        Receiver::ok().await,
        Receiver::ok().await,
    );
    let mut server = start().await;
    // The deleted endpoint's, until they are forgotten.
    server.leftovers_are_fine();
    throttle_application(&server, "app", json!(2)).await;
    let disabled = server.endpoint(&first).await;
    let deleted = server.endpoint(&second).await;
    server.endpoint(&third).await;
    publish(&server, "app", 8).await;
    assert_eq!(first.count() + second.count() + third.count(), 2);
    server.set_disabled("app", &disabled, true).await;
    let path = format!("/api/v1/app/app/endpoint/{deleted}");
    server.delete(&path).await.expect(204);
    let left = 8 - third.count();
    server.settle().await;
    let others = first.count() + second.count();
    by_second(&server, [&third], left.div_ceil(2) + 1).await;
    assert_eq!(third.count(), 8, "all of the rate is its own");
    assert_eq!(first.count() + second.count(), others);
    let before = first.count();
    server.set_disabled("app", &disabled, false).await;
    server.settle().await;
    assert!(first.count() - before <= 2, "a burst");
    by_second(&server, [&first], 4).await;
    assert_eq!(first.count(), 8);
}

#[actix_web::test]
async fn a_restart_gives_no_second_burst() {
    let receiver = Receiver::ok().await;
    let server = start().await;
    throttled(&server, "app", &receiver, 10).await;
    publish(&server, "app", 30).await;
    assert_eq!(receiver.count(), 10);
    let server = server.restart().await;
    server.settle().await;
    assert_eq!(receiver.count(), 10);
    assert_eq!(by_second(&server, [&receiver], 2).await, [[10], [10]]);
}
