//! When a failed delivery is attempted again, and what the log says of each attempt.

use std::time::{Duration, UNIX_EPOCH};

use actix_web::http::header::HttpDate;
use postrider::clock::Timestamp;
use serde_json::{Value, json};

use crate::support::{Receiver, Script, Server, wait_until};

fn instant(value: &Value) -> Timestamp {
    value.as_str().expect("an instant").parse().expect("valid")
}

/// From an attempt to the one it announces.
fn announced_wait(attempt: &Value) -> Option<Duration> {
    let next = &attempt["nextAttemptAt"];
    (!next.is_null()).then(|| instant(next).since(instant(&attempt["timestamp"])))
}

#[actix_web::test]
async fn the_default_schedule_makes_eight_attempts_and_gives_up() {
    let receiver = Receiver::scripted([], Script::Status(500)).await;
    let server = Server::start().await;
    let published_at = server.now();
    let message = server.send_to(&receiver, "invoice.paid", json!({})).await;
    let waits = [5, 300, 1800, 7200, 18000, 36000, 36000].map(Duration::from_secs);
    for wait in waits {
        assert_eq!(server.advance_to_next_due().await, wait);
    }
    assert!(server.nothing_is_due());
    assert_eq!(server.store().waiting_count(), 0);
    server.advance(Duration::from_secs(7 * 86_400));
    server.settle().await;
    assert_eq!(receiver.count(), 8);

    let attempts = server.attempts(&message).await;
    assert_eq!(attempts.len(), 8);
    let mut expected_at = published_at;
    for (index, attempt) in attempts.iter().enumerate() {
        assert_eq!(attempt["attempt"], index + 1);
        assert_eq!(instant(&attempt["timestamp"]), expected_at);
        assert_eq!(announced_wait(attempt), waits.get(index).copied());
        assert_eq!(attempt["responseStatusCode"], 500);
        assert_eq!(attempt["failure"]["kind"], "wrong_answer");
        assert_eq!(
            (&attempt["status"], &attempt["statusText"]),
            (&json!(2), &json!("fail"))
        );
        assert_eq!(attempt["triggerType"], 0);
        assert!(attempt["timings"]["totalUs"].as_u64() > Some(0));
        expected_at = expected_at + waits.get(index).copied().unwrap_or_default();
    }
}

#[actix_web::test]
async fn jitter_spreads_the_waits_within_its_bounds() {
    let receiver = Receiver::scripted([], Script::Status(500)).await;
    let mut server = Server::start_with(|config| config.delivery.jitter = 0.2).await;
    server.leftovers_are_fine();
    server.endpoint(&receiver).await;
    let messages = server.publish_all("app", vec![json!({}); 40]).await;
    server.settle().await;
    let mut waits = Vec::new();
    for message in &messages {
        let attempts = server.attempts(message).await;
        waits.push(announced_wait(&attempts[0]).expect("a retry is left"));
    }
    let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
    assert!(*least >= Duration::from_secs(4), "{least:?}");
    assert!(*most <= Duration::from_secs(6), "{most:?}");
    assert!(*most - *least > Duration::from_millis(500), "{waits:?}");

    // The log says when, and that is when.
    server.advance(*least - Duration::from_millis(1));
    server.settle().await;
    assert_eq!(receiver.count(), 40);
    server.advance(*most - *least + Duration::from_millis(1));
    server.settle().await;
    assert_eq!(receiver.count(), 80);
}

#[actix_web::test]
async fn the_log_shows_the_exchange_and_no_secret() {
    let body = "no, ".repeat(5_000);
    let answer_headers = [
        ("X-Request-Id", "r-7"),
        ("Set-Cookie", "session=s3cret"),
        ("Vary", "a"),
        ("Vary", "b"),
    ];
    let long = Script::answer(503, &answer_headers, &body);
    let receiver = Receiver::scripted([long, Script::answer(200, &[], "taken")], Script::Hang);
    let receiver = receiver.await;
    let server = Server::start().await;
    let url = receiver.url().replace("://", "://caller:s3cret@");
    let endpoint = json!({ "url": url, "headers": { "X-Api-Key": "s3cret", "X-Plain": "seen" } });
    server.endpoint_of("app", endpoint).await;
    let message = server.publish("invoice.paid", json!({ "n": 1 })).await;
    server.advance_to_next_due().await;

    let sent = &receiver.requests()[0];
    assert_eq!(sent.header("x-api-key"), Some("s3cret"));
    let credentials = "Basic Y2FsbGVyOnMzY3JldA==";
    assert_eq!(sent.header("authorization"), Some(credentials));

    let attempts = server.attempts(&message).await;
    let text = json!(attempts).to_string();
    assert!(
        !text.contains("s3cret") && !text.contains("Y2FsbGVy"),
        "{text}"
    );
    let [failed, delivered] = &attempts[..] else {
        panic!("{} attempts", attempts.len());
    };
    let shown = &failed["request"]["headers"];
    assert_eq!(failed["request"]["method"], "POST");
    assert_eq!(failed["url"], receiver.url());
    for (name, value) in &sent.headers {
        let shown = shown
            .as_object()
            .expect("headers")
            .iter()
            .find(|(one, _)| one.eq_ignore_ascii_case(name));
        let secret = ["authorization", "x-api-key"].contains(&name.to_ascii_lowercase().as_str());
        let expected = if secret { "***" } else { value.as_str() };
        assert_eq!(
            shown.map(|(_, value)| value),
            Some(&json!(expected)),
            "{name}"
        );
    }
    let masked = failed["request"]["masked"].as_array().expect("names");
    assert_eq!(masked.len(), 2, "{masked:?}");

    assert_eq!(failed["responseHeaders"]["X-Request-Id"], "r-7");
    assert_eq!(failed["responseHeaders"]["Set-Cookie"], "***");
    assert_eq!(failed["responseHeaders"]["Vary"], "a, b");
    assert_eq!(failed["response"], body[..8192]);
    assert_eq!(failed["responseTruncated"], true);
    assert_eq!(delivered["response"], "taken");
    assert_eq!(delivered["responseTruncated"], false);
    assert_eq!(
        (&delivered["status"], &delivered["failure"]),
        (&json!(0), &Value::Null)
    );
    assert_eq!(delivered["nextAttemptAt"], Value::Null);
}

#[actix_web::test]
async fn retry_after_lengthens_a_wait_up_to_the_cap() {
    let mut server = Server::start().await;
    server.leftovers_are_fine();
    let in_ten_minutes = UNIX_EPOCH + Duration::from_secs(server.now().as_seconds() + 600);
    let date = HttpDate::from(in_ten_minutes).to_string();
    for (value, expected) in [
        ("120", 120),
        ("1", 5),
        ("3600", 3600),
        ("3601", 3600),
        ("99999999999999999999999", 3600),
        (&date, 600),
        ("-1", 5),
        ("soon", 5),
    ] {
        let answer = Script::answer(503, &[("Retry-After", value)], "");
        let receiver = Receiver::scripted([answer], Script::Status(200)).await;
        let endpoint = json!({ "url": receiver.url(), "eventTypes": ["retry.after"] });
        let endpoint = server.endpoint_of("app", endpoint).await;
        let message = server.publish("retry.after", json!({})).await;
        server.settle().await;
        let attempts = server.attempts(&message).await;
        let wait = announced_wait(&attempts[0]);
        assert_eq!(wait, Some(Duration::from_secs(expected)), "{value}");
        server
            .delete(&format!("/api/v1/app/app/endpoint/{endpoint}"))
            .await
            .expect(204);
    }
}

#[actix_web::test]
async fn retry_after_is_when_it_is_attempted_and_zero_turns_it_off() {
    for (max, expected) in [(3600, 90), (0, 5)] {
        let answer = Script::answer(429, &[("Retry-After", "90")], "");
        let receiver = Receiver::scripted([answer], Script::Status(200)).await;
        let server =
            Server::start_with(|config| config.delivery.retry_after_max_seconds = max).await;
        let message = server.send_to(&receiver, "invoice.paid", json!({})).await;
        let waited = server.advance_to_next_due().await;
        assert_eq!(waited.as_secs(), expected);
        assert_eq!(server.outcomes(&message).await, ["http 429", "delivered"]);
    }
}

#[actix_web::test]
async fn gone_disables_the_endpoint_and_holds_the_delivery() {
    let receiver = Receiver::scripted([Script::Status(410)], Script::Status(200)).await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    let path = format!("/api/v1/app/app/endpoint/{endpoint}");
    let first = server.publish("invoice.paid", json!({ "n": 1 })).await;
    server.settle().await;
    assert_eq!(server.get(&path).await.expect(200)["disabled"], true);
    assert_eq!(server.outcomes(&first).await, ["http 410"]);
    assert_eq!(
        server.attempts(&first).await[0]["nextAttemptAt"],
        Value::Null
    );

    let second = server.publish("invoice.paid", json!({ "n": 2 })).await;
    server.advance(Duration::from_secs(2 * 86_400));
    server.settle().await;
    assert!(server.nothing_is_due());
    assert_eq!(server.store().waiting_count(), 2, "both are held");
    assert_eq!(receiver.count(), 1);

    server.set_disabled("app", &endpoint, false).await;
    receiver.received(3).await;
    server.settle().await;
    assert_eq!(server.outcomes(&first).await, ["http 410", "delivered"]);
    assert_eq!(server.outcomes(&second).await, ["delivered"]);
    assert_eq!(server.attempts(&first).await[1]["attempt"], 2);
}

#[actix_web::test]
async fn a_resend_by_hand_is_now_and_says_so() {
    let receiver = Receiver::answering([500]).await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    let message = server.publish("invoice.paid", json!({})).await;
    server.settle().await;
    let resend = format!("/api/v1/app/app/msg/{message}/endpoint/{endpoint}/resend");
    // The waiting retry is moved …
    server.post(&resend, json!({})).await.expect(202);
    server.settle().await;
    assert_eq!(server.outcomes(&message).await, ["http 500", "delivered"]);
    assert!(server.nothing_is_due());
    // … and what was delivered begins anew.
    server.advance(Duration::from_secs(60));
    server.post(&resend, json!({})).await.expect(202);
    server.settle().await;
    let attempts = server.attempts(&message).await;
    let of = |field: &str| Vec::from_iter(attempts.iter().map(|one| one[field].as_u64()));
    assert_eq!(of("triggerType"), [Some(0), Some(1), Some(1)]);
    assert_eq!(of("attempt"), [Some(1), Some(2), Some(1)]);
    assert_eq!(receiver.count(), 3);
}

#[actix_web::test]
async fn resends_at_the_same_moment_are_counted_as_what_they_are() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    let message = server.publish("invoice.paid", json!({})).await;
    server.settle().await;
    server.advance(Duration::from_secs(1));
    let resend = format!("/api/v1/app/app/msg/{message}/endpoint/{endpoint}/resend");
    let post = || {
        let body = Some("{}".to_owned());
        tokio::task::spawn_local(server.begin(
            awc::http::Method::POST,
            &resend,
            &[],
            body.map(String::into_bytes),
        ))
    };
    for answer in Vec::from_iter((0..20).map(|_| post())) {
        answer.await.expect("no panic").expect(202);
    }
    wait_until("nothing to wait", || server.store().waiting_count() == 0).await;
    server.settle().await;
    assert!(receiver.count() >= 2, "at least one was sent again");
    server.stop_and_verify().await;
}
