//! Connections that are used again, replaced and closed.

use super::*;

#[actix_web::test]
async fn a_connection_is_kept_for_the_next_attempt() {
    for answer in [OK, NO_CONTENT] {
        let receiver = Receiver::answering(answer).await;
        let sender = sender();
        let endpoint = endpoint(receiver.url());
        let first = sender.made(&endpoint, &message(), 1).await;
        let second = sender.made(&endpoint, &message(), 2).await;
        assert_eq!((first.failure, second.failure), (None, None));
        assert!(first.timings.connect_us.is_some());
        assert_eq!(second.timings.connect_us, None);
        assert!(second.timings.first_byte_us.is_some());
        assert!(!second.sent_again);
        assert_eq!(receiver.seen.connections.get(), 1);
        assert_eq!(receiver.requests().len(), 2);
    }
}

#[actix_web::test]
async fn a_body_that_ends_with_the_connection_ends_its_use() {
    let receiver = Receiver::answering_once("HTTP/1.1 200 OK\r\n\r\nall").await;
    let sender = sender();
    for _ in 0..3 {
        let outcome = sender.made(&endpoint(receiver.url()), &message(), 1).await;
        assert_eq!(outcome.failure, None);
        assert_eq!(outcome.answer.unwrap().body, b"all");
        assert!(!outcome.sent_again);
    }
    assert_eq!(receiver.seen.connections.get(), 3);
}

#[actix_web::test]
async fn a_reused_connection_that_was_closed_is_replaced_within_the_attempt() {
    // Closes each connection, without a word, when its second request has come.
    let receiver = Receiver::scripted(|mut talk, _| async move {
        if talk.request().await.is_some() {
            talk.say(OK).await;
            talk.request().await;
        }
    })
    .await;
    let sender = sender();
    let endpoint = endpoint(receiver.url());
    let first = sender.made(&endpoint, &message(), 1).await;
    let second = sender.made(&endpoint, &message(), 2).await;
    assert_eq!((first.failure, first.sent_again), (None, false));
    assert_eq!((second.failure, second.sent_again), (None, true));
    assert!(second.timings.connect_us.is_some());
    let requests = receiver.requests();
    assert_eq!(requests.len(), 3, "the second attempt went out twice");
    assert_eq!(
        header(&requests[1], "webhook-id"),
        header(&requests[2], "webhook-id")
    );
    assert_eq!(receiver.seen.connections.get(), 2);
}

#[actix_web::test]
async fn the_second_sending_is_on_a_fresh_connection_though_others_are_idle() {
    // The first four requests come at the same time, on four connections, which all then close
    // when they are used again. Only new connections answer.
    let receiver = Receiver::scripted(|mut talk, _| async move {
        if talk.request().await.is_some() {
            until("all have come", || talk.seen.requests.borrow().len() >= 4).await;
            talk.say(OK).await;
            talk.request().await;
        }
    })
    .await;
    let sender = sender();
    let endpoint = endpoint(receiver.url());
    let message = message();
    let one = || sender.made(&endpoint, &message, 1);
    let outcomes = tokio::join!(one(), one(), one(), one());
    assert_eq!(outcomes.3.failure, None);
    assert_eq!(receiver.seen.connections.get(), 4);
    let outcome = one().await;
    assert_eq!((outcome.failure, outcome.sent_again), (None, true));
    assert_eq!(receiver.seen.connections.get(), 5);
    assert_eq!(receiver.requests().len(), 6);
}

#[actix_web::test]
async fn a_second_failure_in_the_same_attempt_is_final() {
    // The first connection answers once; those after it close when the request has come.
    let receiver = Receiver::scripted(|mut talk, number| async move {
        talk.request().await;
        if number == 0 {
            talk.say(OK).await;
            talk.request().await;
        }
    })
    .await;
    let sender = sender();
    let endpoint = endpoint(receiver.url());
    sender.made(&endpoint, &message(), 1).await;
    let outcome = sender.made(&endpoint, &message(), 2).await;
    assert_eq!(failure_of(&outcome).0, FailureKind::BrokenAnswer);
    assert!(outcome.sent_again);
    assert_eq!(receiver.requests().len(), 3);
}

#[actix_web::test]
async fn a_request_that_went_out_is_an_attempt_though_no_second_connection_could_be_made() {
    let receiver = Receiver::scripted(|mut talk, _| async move {
        talk.request().await;
        talk.say(OK).await;
        talk.request().await;
        Descriptors::run_out(true);
    })
    .await;
    let sender = sender();
    let endpoint = endpoint(receiver.url());
    sender.made(&endpoint, &message(), 1).await;
    let outcome = sender.made(&endpoint, &message(), 2).await;
    assert_eq!(
        failure_of(&outcome),
        (
            FailureKind::BrokenAnswer,
            "The connection was closed before an answer came."
        )
    );
    assert!(!outcome.sent_again, "once in all");
    assert_eq!(receiver.requests().len(), 2);

    // A request that has not left is put off.
    let (endpoint, message) = (Arc::new(endpoint), Arc::new(message()));
    let put_off = sender.attempt(&endpoint, &message, 3).await;
    assert_eq!(put_off.unwrap_err(), Shortage::Files);
    Descriptors::run_out(false);
    assert_eq!(receiver.requests().len(), 2);
}

#[actix_web::test]
async fn an_answer_that_breaks_on_a_reused_connection_is_not_sent_again() {
    let receiver = Receiver::scripted(|mut talk, _| async move {
        talk.request().await;
        talk.say(OK).await;
        talk.request().await;
        talk.say("HTTP/1.1 2").await;
    })
    .await;
    let sender = sender();
    let endpoint = endpoint(receiver.url());
    sender.made(&endpoint, &message(), 1).await;
    let outcome = sender.made(&endpoint, &message(), 2).await;
    assert_eq!(failure_of(&outcome).0, FailureKind::BrokenAnswer);
    assert!(!outcome.sent_again);
    assert_eq!(receiver.requests().len(), 2);
}

#[actix_web::test]
async fn idle_connections_close_without_further_attempts() {
    let receiver = Receiver::answering(OK).await;
    let clock = Clock::manual(NOW);
    let sender = sender_with(clock.clone(), |_| {});
    let endpoint = endpoint(receiver.url());
    sender.made(&endpoint, &message(), 1).await;
    assert_eq!(
        (receiver.seen.open.get(), sender.clients.open_connections()),
        (1, 1)
    );
    clock.advance_to(NOW + Duration::from_secs(30));
    until("the idle connection is closed", || {
        receiver.seen.open.get() == 0
    })
    .await;
    let outcome = sender.made(&endpoint, &message(), 1).await;
    assert_eq!((outcome.failure, outcome.sent_again), (None, false));
}

#[actix_web::test]
async fn one_of_many_shortages_closes_the_idle_connections() {
    let receiver = Receiver::answering(OK).await;
    let sender = sender();
    let endpoint = endpoint(receiver.url());
    sender.made(&endpoint, &message(), 1).await;
    sender.clients.close_idle();
    assert_eq!(sender.clients.open_connections(), 0);
    sender.made(&endpoint, &message(), 2).await;
    sender.clients.close_idle();
    assert_eq!(sender.clients.open_connections(), 1);
}

#[actix_web::test]
async fn many_receivers_do_not_pile_up_connections() {
    let receiver_count = 40;
    let mut settings =
        SendSettings::from_config(&config(|_| {}), &OwnAddresses::default()).unwrap();
    settings.idle_connections_max = 8;
    let sender = Sender::new(Arc::new(settings), Clock::System);
    let mut receivers = Vec::new();
    for number in 0..receiver_count {
        let receiver = Receiver::answering(NO_CONTENT).await;
        let endpoint = Endpoint {
            number,
            ..endpoint(receiver.url())
        };
        let outcome = sender.made(&endpoint, &message(), 1).await;
        assert_eq!(outcome.failure, None);
        receivers.push(receiver);
        let open = || -> usize { receivers.iter().map(|one| one.seen.open.get()).sum() };
        // Eight idle ones, one in use, and the one that exceeded.
        until("surplus connections are closed", || open() <= 10).await;
    }
}
