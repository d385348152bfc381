//! Receivers that hang, and handshakes that never end.

use super::*;

/// Runs an attempt on a manual clock; once `ready`, the clock moves past the timeout.
async fn timed_out(receiver: &Receiver, ready: impl Fn(&Seen) -> bool) -> Outcome {
    let clock = Clock::manual(NOW);
    let sender = sender_with(clock.clone(), |_| {});
    let endpoint = endpoint(receiver.url());
    let message = message();
    let finished = Cell::new(false);
    let passing = async {
        until("the receiver is ready", || ready(&receiver.seen)).await;
        clock.advance_to(NOW + Duration::from_millis(14_999));
        others_run().await;
        assert!(!finished.get(), "it ends before its time");
        clock.advance_to(NOW + Duration::from_secs(15));
    };
    let attempt = async {
        let outcome = sender.made(&endpoint, &message, 1).await;
        finished.set(true);
        outcome
    };
    let (outcome, ()) = tokio::join!(attempt, passing);
    until("the connection is closed", || receiver.seen.open.get() == 0).await;
    outcome
}

#[actix_web::test]
async fn a_receiver_that_hangs_is_a_timeout() {
    let receiver = Receiver::scripted(|mut talk, _| async move {
        talk.request().await;
        talk.request().await;
    })
    .await;
    let outcome = timed_out(&receiver, |seen| seen.requests.borrow().len() == 1).await;
    assert_eq!(
        failure_of(&outcome),
        (
            FailureKind::Timeout,
            "Waiting for the answer took longer than 15 s."
        )
    );
    assert_eq!(outcome.answer, None);
    assert!(!outcome.sent_again);
}

#[actix_web::test]
async fn a_body_that_drips_is_a_timeout() {
    let dripped = Rc::new(Cell::new(0));
    let counter = dripped.clone();
    let receiver = Receiver::scripted(move |mut talk, _| {
        let counter = counter.clone();
        async move {
            talk.request().await;
            talk.say("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                .await;
            while talk.io.write_all(b".").await.is_ok() {
                counter.set(counter.get() + 1);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    })
    .await;
    let outcome = timed_out(&receiver, |_| dripped.get() > 5).await;
    assert_eq!(
        failure_of(&outcome),
        (
            FailureKind::Timeout,
            "Reading the answer's body took longer than 15 s."
        )
    );
    assert_eq!(status_of(&outcome), Some(200));
}

#[actix_web::test]
async fn a_handshake_that_hangs_ends_with_the_connect_timeout() {
    let receiver = Receiver::scripted(|mut talk, _| async move {
        let mut buffer = Vec::new();
        let _ = talk.io.read_to_end(&mut buffer).await;
    })
    .await;
    let clock = Clock::manual(NOW);
    let sender = sender_with(clock.clone(), |config| {
        config["delivery"]["connect_timeout_seconds"] = json!(1);
    });
    let endpoint = endpoint(receiver.url().replace("http:", "https:"));
    let passing = async {
        until("it is connected", || receiver.seen.open.get() == 1).await;
        clock.advance_to(NOW + Duration::from_millis(999));
        others_run().await;
        assert_eq!(receiver.seen.open.get(), 1);
        clock.advance_to(NOW + Duration::from_secs(1));
    };
    let message = message();
    let (outcome, ()) = tokio::join!(sender.made(&endpoint, &message, 1), passing);
    assert_eq!(
        failure_of(&outcome),
        (
            FailureKind::ConnectionFailed,
            "The TLS handshake took longer than 1 s."
        )
    );
    until("the connection is closed", || receiver.seen.open.get() == 0).await;
}
