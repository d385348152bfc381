//! The request as a receiver sees it, and the same in the log of attempts.

use super::*;

#[actix_web::test]
async fn a_success_carries_the_whole_exchange() {
    let receiver = Receiver::answering(
        "HTTP/1.1 201 Created\r\nX-Second: 2\r\nX-First: 1\r\nSet-Cookie: s=1\r\n\
         Content-Length: 4\r\n\r\ndone",
    )
    .await;
    let clock = Clock::manual(NOW + Duration::from_millis(250));
    let sender = sender_with(clock, |_| {});
    let endpoint = Endpoint {
        headers: BTreeMap::from([
            ("X-Api-Key".to_owned(), "hunter2".to_owned()),
            ("X-Colour".to_owned(), "grün".to_owned()),
        ]),
        basic_auth: Some(BasicAuth {
            username: "ann".to_owned(),
            password: "s:cret".to_owned(),
        }),
        ..endpoint(receiver.url())
    };
    let message = message();
    let outcome = sender.made(&endpoint, &message, 1).await;

    assert_eq!(outcome.failure, None);
    assert!(!outcome.sent_again);
    assert_eq!(outcome.started_at, NOW + Duration::from_millis(250));
    let answer = outcome.answer.unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (201, &b"done"[..]));
    assert!(!answer.truncated);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        answer.headers,
        [
            pair("X-Second", "2"),
            pair("X-First", "1"),
            pair("Set-Cookie", "***"),
            pair("Content-Length", "4"),
        ]
    );
    let timings = outcome.timings;
    assert_eq!((timings.dns_us, timings.tls_us), (None, None));
    assert!(timings.connect_us.is_some() && timings.first_byte_us.is_some());
    assert!(timings.total_us >= timings.first_byte_us.unwrap());

    let requests = receiver.requests();
    let request = &requests[0];
    assert!(
        request.starts_with("POST /hook?a=1&b=%20 HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(request.ends_with(&format!("\r\n\r\n{BODY}")), "{request}");
    let first = request.lines().nth(1).unwrap();
    assert_eq!(first, format!("host: {}", receiver.address));
    let signature = Signature::of(request);
    assert_eq!(signature.check(&endpoint), Ok(()));
    for (name, value) in [
        ("accept", "*/*"),
        ("host", receiver.address.to_string().as_str()),
        (
            "user-agent",
            concat!("postrider/", env!("CARGO_PKG_VERSION")),
        ),
        ("content-type", "application/json"),
        ("content-length", &BODY.len().to_string()),
        ("webhook-id", &message.id.to_string()),
        ("webhook-timestamp", "1700000000"),
        ("date", "Tue, 14 Nov 2023 22:13:20 GMT"),
        ("x-api-key", "hunter2"),
        ("x-colour", "grün"),
        ("authorization", "Basic YW5uOnM6Y3JldA=="),
    ] {
        assert_eq!(header(request, name), [value], "{name} in {request}");
    }

    // The log shows the request exactly as sent, but for the secrets.
    let (head, _) = request.split_once("\r\n\r\n").unwrap();
    let mut sent: Vec<String> = head.lines().skip(1).map(str::to_owned).collect();
    let mut shown: Vec<String> = outcome
        .request_headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    sent.sort();
    shown.sort();
    let sent: Vec<String> = sent
        .iter()
        .map(|line| match line.split_once(": ").unwrap() {
            (name @ ("authorization" | "x-api-key"), _) => format!("{name}: ***"),
            _ => line.clone(),
        })
        .collect();
    assert_eq!(shown, sent);
}

#[actix_web::test]
async fn the_svix_profile_has_its_own_header_names() {
    let receiver = Receiver::answering(OK).await;
    let sender = sender_with(Clock::System, |config| {
        config["delivery"]["default_profile"] = json!("svix");
    });
    let endpoint = endpoint(receiver.url());
    let outcome = sender.made(&endpoint, &message(), 1).await;
    assert_eq!(outcome.failure, None);
    let requests = receiver.requests();
    let signature = Signature {
        prefix: "svix",
        request: &requests[0],
    };
    assert_eq!(signature.check(&endpoint), Ok(()));
    assert!(!requests[0].contains("webhook-"), "{}", requests[0]);
}

#[actix_web::test]
async fn an_endpoints_headers_override_what_is_theirs_to_choose() {
    let receiver = Receiver::answering(OK).await;
    let sender = sender();
    let mut endpoint = endpoint(receiver.url());
    for (name, value) in [
        ("User-Agent", "mine/1"),
        ("content-TYPE", "application/cloudevents+json"),
        ("Accept", "text/plain"),
        ("Webhook-Signature", "v1,forged"),
        ("webhook-id", "forged"),
        ("Host", "internal.example"),
        ("Content-Length", "1"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "close"),
        ("Expect", "100-continue"),
        ("Upgrade", "websocket"),
    ] {
        endpoint.headers.insert(name.to_owned(), value.to_owned());
    }
    let outcome = sender.made(&endpoint, &message(), 1).await;
    assert_eq!(outcome.failure, None);
    let requests = receiver.requests();
    let request = &requests[0];
    assert_eq!(Signature::of(request).check(&endpoint), Ok(()));
    let length = BODY.len().to_string();
    let host = receiver.address.to_string();
    for (name, values) in [
        ("user-agent", vec!["mine/1"]),
        ("content-type", vec!["application/cloudevents+json"]),
        ("accept", vec!["text/plain"]),
        ("host", vec![host.as_str()]),
        ("content-length", vec![length.as_str()]),
        ("transfer-encoding", vec![]),
        ("connection", vec![]),
        ("expect", vec![]),
        ("upgrade", vec![]),
        ("accept-encoding", vec![]),
    ] {
        assert_eq!(header(request, name), values, "{name}");
    }
}

#[actix_web::test]
async fn a_changed_endpoint_is_rendered_anew() {
    let receiver = Receiver::answering(OK).await;
    let sender = sender();
    let first = endpoint(receiver.url());
    let mut changed = first.clone();
    changed.secrets[0].secret = Secret::generate(SecretForm::StandardWebhooks, [8; 32]);
    changed.headers.insert("x-new".to_owned(), "1".to_owned());
    for endpoint in [&first, &changed, &first] {
        let outcome = sender.made(endpoint, &message(), 1).await;
        assert_eq!(outcome.failure, None);
        let request = receiver.requests().pop().unwrap();
        assert_eq!(Signature::of(&request).check(endpoint), Ok(()));
        assert_eq!(header(&request, "x-new").len(), endpoint.headers.len());
    }
}

#[actix_web::test]
async fn what_cannot_be_sent_fails_with_a_sentence() {
    let with_header = |name: &str, value: &str| Endpoint {
        headers: BTreeMap::from([(name.to_owned(), value.to_owned())]),
        ..endpoint("http://127.0.0.1:9/")
    };
    let without_secret = Endpoint {
        secrets: Vec::new(),
        ..endpoint("http://127.0.0.1:9/")
    };
    let sender = sender();
    for (endpoint, expected) in [
        (endpoint("nonsense"), "URL"),
        (
            endpoint("ftp://example.com/"),
            "The URL must be http or https.",
        ),
        // It could be registered once.
        (endpoint("http://a{b}.test/"), "The URL has a host with '{'"),
        (with_header("x y", "1"), "name of a header"),
        (with_header("x-secret", "hunter2\r\nx-more: 1"), "x-secret"),
        (without_secret, "no signing secret"),
    ] {
        let outcome = sender.made(&endpoint, &message(), 1).await;
        let (kind, detail) = failure_of(&outcome);
        assert_eq!(kind, FailureKind::NotSendable);
        assert!(detail.contains(expected), "{detail}");
        assert!(!detail.contains("hunter2"), "{detail}");
    }
    let strict = sender_with(Clock::System, |config| {
        config["delivery"]["https_only"] = json!(true);
    });
    let outcome = strict
        .made(&endpoint("http://127.0.0.1:9/"), &message(), 1)
        .await;
    assert_eq!(failure_of(&outcome).0, FailureKind::NotSendable);
    let outcome = strict
        .made(&endpoint("https://127.0.0.1:9/"), &message(), 1)
        .await;
    assert_eq!(failure_of(&outcome).0, FailureKind::ConnectionRefused);
}
