//! Answers of every kind: their statuses, their framing, and the limits in bytes.

use super::*;

#[actix_web::test]
async fn only_2xx_is_a_success() {
    for (status, detail) in [
        ("204 No Content", None),
        ("299 Odd", None),
        ("302 Found", Some("302, and redirects are not followed")),
        ("410 Gone", Some("410")),
        ("500 Oh", Some("500")),
        ("101 Switching Protocols", Some("101")),
    ] {
        let receiver =
            Receiver::answering(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")).await;
        let outcome = attempt(&receiver).await;
        assert_eq!(status_of(&outcome), Some(status[..3].parse().unwrap()));
        match detail {
            None => assert_eq!(outcome.failure, None),
            Some(detail) => {
                let (kind, found) = failure_of(&outcome);
                assert_eq!(kind, FailureKind::WrongAnswer);
                assert!(found.contains(detail), "{found}");
            }
        }
    }
}

#[actix_web::test]
async fn a_redirect_is_not_followed() {
    let private = Receiver::answering(OK).await;
    let receiver = Receiver::answering(format!(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n",
        private.url()
    ))
    .await;
    let outcome = attempt(&receiver).await;
    assert_eq!(failure_of(&outcome).0, FailureKind::WrongAnswer);
    assert_eq!(status_of(&outcome), Some(307));
    assert_eq!(private.seen.connections.get(), 0);
}

#[actix_web::test]
async fn what_is_no_whole_answer_is_broken() {
    let long_head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(200_000));
    let many_headers = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(200));
    // awc's codec panics at it.
    let long_name = format!("HTTP/1.1 200 OK\r\n{}: b\r\n\r\n", "a".repeat(70_000));
    let many_interim = format!("{}{OK}", "HTTP/1.1 103 Early\r\n\r\n".repeat(17));
    let no_end = "HTTP/1.1 100 Continue\r\n\r\n".repeat(100_000);
    for (answer, expected) in [
        ("", "closed before an answer came"),
        ("SSH-2.0-OpenSSH_9.9\r\n", "not HTTP"),
        ("H", "closed within the head"),
        ("HTTP/1.1 200 OK\r\nContent-Le", "closed within the head"),
        ("HTTP/1.1 103 Early\r\n\r\n", "closed within the head"),
        ("HTTP/1.1 2x0 OK\r\n\r\n", "status line"),
        (
            "HTTP/1.1 200 OK\r\na: b\r\nno colon\r\n\r\n",
            "Header 2 of the answer is not valid HTTP: it has no colon.",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "Content-Length",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "Transfer-Encoding",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
            "end of the answer's body",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            "end of the answer's body",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            "end of the answer's body",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            "body of the answer is not valid",
        ),
        (
            long_head.as_str(),
            "head of the answer is larger than 128 KiB",
        ),
        (
            many_headers.as_str(),
            "200 headers, and at most 96 are read",
        ),
        (long_name.as_str(), "its name is longer than 1024 bytes"),
        (many_interim.as_str(), "Too many interim answers"),
        (no_end.as_str(), "Too many interim answers"),
    ] {
        let receiver = Receiver::answering_once(answer).await;
        let outcome = attempt(&receiver).await;
        let start = &answer[..answer.len().min(60)];
        let (kind, detail) = failure_of(&outcome);
        assert_eq!(kind, FailureKind::BrokenAnswer, "{start}");
        assert!(detail.contains(expected), "{start}: {detail}");
        // A fresh connection's failure is never repeated.
        assert!(!outcome.sent_again);
        assert_eq!(receiver.seen.connections.get(), 1);
        let has_status = answer.starts_with("HTTP/1.1 200 OK\r\n");
        assert_eq!(status_of(&outcome), has_status.then_some(200), "{start}");
    }
}

#[actix_web::test]
async fn an_unsound_head_shows_its_sound_headers_and_decides_nothing() {
    let receiver = Receiver::answering_once(
        "HTTP/1.1 410 Gone\r\nx-sound: 1\r\nno colon\r\nx-bad: \u{1}\r\nset-cookie: s\r\n\r\n",
    )
    .await;
    let outcome = attempt(&receiver).await;
    assert_eq!(failure_of(&outcome).0, FailureKind::BrokenAnswer);
    let answer = outcome.answer.unwrap();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        (answer.status, answer.headers),
        (410, vec![pair("x-sound", "1"), pair("set-cookie", "***")])
    );
}

/// RFC 9112, section 5.2.
#[actix_web::test]
async fn a_folded_header_is_taken_for_one_line() {
    let answer = |status: &str| {
        format!(
            "HTTP/1.1 {status}\r\nContent-Security-Policy: default-src 'self';\r\n    script-src \
             'none'\r\nX-Length:\r\n Content-Length: 9\r\nContent-Length:\r\n\t2\r\n\r\nok"
        )
    };
    let receiver = Receiver::answering(answer("200 OK")).await;
    let sender = sender();
    for _ in 0..2 {
        let outcome = sender.made(&endpoint(receiver.url()), &message(), 1).await;
        assert_eq!(outcome.failure, None);
        let answer = outcome.answer.unwrap();
        assert_eq!(answer.body, b"ok");
        let values: Vec<_> = answer
            .headers
            .iter()
            .map(|(_, value)| value.as_str())
            .collect();
        assert_eq!(
            values,
            [
                "default-src 'self';      script-src 'none'",
                "Content-Length: 9",
                "2"
            ]
        );
    }
    assert_eq!(receiver.seen.connections.get(), 1);

    let receiver = Receiver::answering_once(answer("410 Gone")).await;
    let outcome = attempt(&receiver).await;
    assert_eq!(failure_of(&outcome).0, FailureKind::WrongAnswer);
    assert_eq!(status_of(&outcome), Some(410));
}

/// The frames of a body have no limit in awc's codec. The bytes read of them are bounded, and as with a
/// long body the status decides.
#[actix_web::test]
async fn an_answer_without_end_is_cut_after_a_number_of_bytes() {
    const CHUNKED: &str = "Transfer-Encoding: chunked\r\n\r\n";
    for (start, piece) in [
        ("1;", "x".repeat(1000)),
        ("1;", "a=b;".repeat(1000)),
        ("1", " ".repeat(1000)),
        ("0", "0".repeat(1000)),
        ("", "1;x\r\ny\r\n".repeat(100)),
        ("0\r\n", "trailer: x\r\n".repeat(100)),
        ("0\r\nx: ", "x".repeat(1000)),
    ] {
        let form = format!("{start}{}", &piece[..10]);
        let written = Rc::new(Cell::new(0));
        let counter = written.clone();
        let receiver = Receiver::scripted(move |mut talk, _| {
            let (counter, piece) = (counter.clone(), piece.clone());
            async move {
                talk.request().await;
                talk.say(&format!("HTTP/1.1 200 OK\r\n{CHUNKED}{start}"))
                    .await;
                while counter.get() < 100 << 20 && talk.io.write_all(piece.as_bytes()).await.is_ok()
                {
                    counter.set(counter.get() + piece.len());
                }
            }
        })
        .await;
        let outcome = attempt(&receiver).await;
        assert_eq!(outcome.failure, None, "{form}");
        let answer = outcome.answer.unwrap();
        assert!(answer.truncated, "{form}");
        assert_eq!(answer.status, 200);
        until("the connection is closed", || receiver.seen.open.get() == 0).await;
        // What was read, and what the kernel's buffers had room for.
        assert!(written.get() < 20 << 20, "{form}: {}", written.get());
    }
}

/// A body that is always there when it is looked for does not keep the timer from being seen. No
/// other limit is near, and time stands still until much of the body was taken: the attempt ends
/// because of the time, and of nothing else.
#[actix_web::test]
async fn an_answer_without_pause_ends_in_time() {
    const TAKEN_FIRST: usize = 32 << 20;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let clock = Clock::manual(NOW);
    let ticking = clock.clone();
    let flood = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut talk, _) = listener.accept().unwrap();
        let _ = talk.read(&mut [0; 4096]).unwrap();
        let mut written = talk.write(b"HTTP/1.1 200 OK\r\n\r\n");
        let mut total = 0;
        while let Ok(count) = written {
            total += count;
            if total > TAKEN_FIRST {
                ticking.advance_to(NOW + Duration::from_secs(1));
            }
            written = talk.write(&[b'x'; 256 << 10]);
        }
        total
    });
    let sender = sender_with(clock, |config| {
        config["limits"]["answer_read_bytes"] = json!(1_u64 << 50);
        config["delivery"]["request_timeout_seconds"] = json!(1);
        config["delivery"]["connect_timeout_seconds"] = json!(1);
    });
    let endpoint = endpoint(format!("http://{address}/"));
    let message = message();
    let attempt = sender.made(&endpoint, &message, 1);
    let outcome = unconstrained(tokio::time::timeout(Duration::from_secs(60), attempt)).await;
    let outcome = outcome.expect("it ends");
    assert_eq!(
        failure_of(&outcome),
        (
            FailureKind::Timeout,
            "Reading the answer's body took longer than 1 s."
        )
    );
    assert_eq!(status_of(&outcome), Some(200));
    assert!(flood.join().unwrap() > TAKEN_FIRST);
}

#[actix_web::test]
async fn whole_answers_are_taken_in_every_framing() {
    let large_head = format!(
        "HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 2\r\n\r\nok",
        "x".repeat(100_000)
    );
    for (answer, body) in [
        (NO_CONTENT, ""),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", ""),
        (
            "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
            "",
        ),
        (large_head.as_str(), "ok"),
        (OK, "ok"),
        ("HTTP/1.1 200 OK\r\n\r\nto the end", "to the end"),
        (
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end",
            "to the end",
        ),
        ("HTTP/1.0 200 OK\r\n\r\nto the end", "to the end"),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok"),
        ("HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", "ok"),
        ("HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "ok"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n3;x=y\r\nay!\r\n0\r\n\r\n",
            "okay!",
        ),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            "ok",
        ),
    ] {
        let receiver = Receiver::answering_once(answer).await;
        let outcome = attempt(&receiver).await;
        assert_eq!(outcome.failure, None, "{answer}");
        assert_eq!(outcome.answer.unwrap().body, body.as_bytes(), "{answer}");
    }
}

#[actix_web::test]
async fn an_answer_that_comes_byte_by_byte_is_the_same() {
    let answer = format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{OK}");
    let receiver = Receiver::scripted(move |mut talk, _| {
        let answer = answer.clone();
        async move {
            talk.io.set_nodelay(true).unwrap();
            while talk.request().await.is_some() {
                for at in 0..answer.len() {
                    talk.say(&answer[at..=at]).await;
                    tokio::task::yield_now().await;
                }
            }
        }
    })
    .await;
    let sender = sender();
    for _ in 0..3 {
        let outcome = sender.made(&endpoint(receiver.url()), &message(), 1).await;
        assert_eq!(outcome.failure, None);
        let answer = outcome.answer.unwrap();
        assert_eq!(answer.body, b"ok");
        assert_eq!(
            answer.headers,
            [("Content-Length".to_owned(), "2".to_owned())]
        );
    }
    assert_eq!(receiver.seen.connections.get(), 1);
}

#[actix_web::test]
async fn a_huge_body_is_cut_and_the_status_decides() {
    for (status, succeeds) in [(200, true), (500, false)] {
        let written = Rc::new(Cell::new(0));
        let counter = written.clone();
        let receiver = Receiver::scripted(move |mut talk, _| {
            let counter = counter.clone();
            async move {
                talk.request().await;
                let length = 100 * 1024 * 1024;
                talk.say(&format!(
                    "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n"
                ))
                .await;
                let chunk = [b'x'; 16 * 1024];
                while counter.get() < length && talk.io.write_all(&chunk).await.is_ok() {
                    counter.set(counter.get() + chunk.len());
                }
            }
        })
        .await;
        let outcome = attempt(&receiver).await;
        assert_eq!(outcome.failure.is_none(), succeeds);
        let answer = outcome.answer.unwrap();
        assert!(answer.truncated);
        assert_eq!(answer.body, [b'x'; 8192]);
        until("the connection is closed", || receiver.seen.open.get() == 0).await;
        // What was read, and what the kernel's buffers had room for.
        assert!(written.get() < 20 * 1024 * 1024, "{}", written.get());
    }
}

#[actix_web::test]
async fn an_answer_before_the_whole_request_was_taken_is_read() {
    let receiver = Receiver::scripted(|mut talk, _| async move {
        let mut some = [0; 100];
        talk.io.read_exact(&mut some).await.unwrap();
        talk.say("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            .await;
        // Closed with most of the request unread: the client's writing fails.
    })
    .await;
    let sender = sender();
    let big = Message {
        payload: vec![b' '; 30 * 1024 * 1024].into(),
        is_raw: false,
        content_type: None,
        ..message()
    };
    let outcome = sender.made(&endpoint(receiver.url()), &big, 1).await;
    let (kind, detail) = failure_of(&outcome);
    assert_eq!(
        (kind, status_of(&outcome)),
        (FailureKind::WrongAnswer, Some(413)),
        "{detail}"
    );

    // Half a request went there: the connection serves no other.
    let outcome = sender.made(&endpoint(receiver.url()), &message(), 1).await;
    assert_eq!(status_of(&outcome), Some(413));
    assert!(!outcome.sent_again);
    assert_eq!(receiver.seen.connections.get(), 2);
}

#[actix_web::test]
async fn an_answer_that_is_not_kept_decides_all_the_same() {
    let mut config = config(|config| {
        config["limits"]["answer_kept_bytes"] = json!(0);
        config["delivery"]["default_profile"] = json!("picky");
    });
    let picky = toml::from_str("[success]\nstatus = ['200']\nbody = 'OK'\n").unwrap();
    config.profiles.insert("picky".to_owned(), picky);
    let settings = SendSettings::from_config(&config, &OwnAddresses::default()).unwrap();
    let sender = Sender::new(Arc::new(settings), Clock::System);
    for (body, fits) in [
        ("OK", true),
        ("OK\r\n", true),
        ("OK, no", false),
        ("no", false),
    ] {
        let length = body.len();
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
        let receiver = Receiver::answering(&text).await;
        let outcome = sender.made(&endpoint(receiver.url()), &message(), 1).await;
        assert_eq!(
            outcome.failure.is_none(),
            fits,
            "{body}: {:?}",
            outcome.failure
        );
        let answer = outcome.answer.unwrap();
        assert!(answer.body.is_empty() && answer.truncated, "{body}");
    }
}
