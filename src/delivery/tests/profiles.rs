//! Requests by a profile, without sending them, and the profiles that are refused.

use proptest::prelude::*;

use super::*;
use crate::delivery::render::{Prepared, Request};
use crate::delivery::scope::{ScopedAttempt, TemplateScope};
use crate::domain::attempt::SendFailure;
use crate::domain::retry::{RetrySchedule, Waits};

/// The settings with the shipped profiles and those of a file.
pub fn settings_with(profiles: &str) -> Result<SendSettings, Vec<String>> {
    let mut config = config(|_| {});
    let profiles: BTreeMap<String, domain::Profile> = toml::from_str(profiles).unwrap();
    config.profiles.extend(profiles);
    SendSettings::from_config(&config, &OwnAddresses::default()).map_err(|error| error.problems)
}

/// An endpoint of the profile, with this secret.
pub fn endpoint_of(profile: &str, secret: &str) -> Endpoint {
    Endpoint {
        profile: Some(profile.to_owned()),
        uid: Some("site/7".to_owned()),
        secrets: vec![secret_until(secret, None)],
        ..endpoint("https://example.com/in?key=a%20b")
    }
}

pub fn secret_until(text: &str, expires_at: Option<Timestamp>) -> EndpointSecret {
    let form = match text.starts_with("wh") {
        true => SecretForm::StandardWebhooks,
        false => SecretForm::TEXT,
    };
    let secret = Secret::parse(text, form).unwrap();
    EndpointSecret { secret, expires_at }
}

pub fn message_with(payload: impl Into<String>) -> Message {
    Message {
        payload: payload.into().into(),
        is_raw: false,
        content_type: None,
        channels: vec!["Agreement".to_owned()],
        ..message()
    }
}

pub fn request_at(
    settings: &SendSettings,
    endpoint: Endpoint,
    message: Message,
    now: Timestamp,
) -> Result<Request, SendFailure> {
    let (endpoint, message) = (Arc::new(endpoint), Arc::new(message));
    let prepared = Prepared::new(&endpoint, settings).map_err(|error| error.failure)?;
    let request = prepared.request(&message, now, || {
        TemplateScope::of_attempt(ScopedAttempt {
            message: message.clone(),
            endpoint: endpoint.clone(),
            number: 2,
            now,
            server_url: settings.server_url.clone(),
        })
    });
    request.map_err(|not_sendable| not_sendable.failure)
}

pub fn request(profiles: &str, endpoint: Endpoint, payload: &str) -> Result<Request, SendFailure> {
    let settings = settings_with(profiles).unwrap_or_else(|problems| panic!("{problems:?}"));
    request_at(&settings, endpoint, message_with(payload), NOW)
}

pub fn failed(failure: SendFailure) -> Request {
    panic!("{failure:?}")
}

pub fn detail(result: Result<Request, SendFailure>) -> String {
    let Err(failure) = result else {
        panic!("it can be sent");
    };
    assert_eq!(failure.kind, FailureKind::NotSendable);
    failure.detail
}

pub fn sent<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request
        .headers
        .get(name)
        .map(|value| value.to_str().unwrap())
}

pub fn shown<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    let mut found = request.shown.iter().filter(|(shown, _)| shown == name);
    let value = found.next().map(|(_, value)| value.as_str());
    assert_eq!(found.next(), None, "{name} is shown twice");
    value
}

pub fn body(request: &Request) -> Option<&str> {
    request
        .body
        .as_deref()
        .map(|body| std::str::from_utf8(body).unwrap())
}

#[test]
fn what_is_wrong_with_a_profile_is_named_with_its_key() {
    for (profile, expected) in [
        (
            "url = '/x'",
            vec!["url: must begin with {{ endpoint.url }}"],
        ),
        (
            "url = 'https://a.test/{{ endpoint.url }}'",
            vec!["url: must begin with"],
        ),
        ("url = '{{ endpoint.urls }}'", vec!["url: must begin with"]),
        (
            "url = '{{ endpoint.url }}/../x'",
            vec!["url: the URL has dot segments"],
        ),
        (
            "url = '{{ endpoint.url }}/a b'",
            vec!["url: the URL has dot segments or characters"],
        ),
        (
            "url = '{{ endpoint.url }}/#x'",
            vec!["url: the URL has a fragment"],
        ),
        (
            "url = '{{ endpoint.url }}/{{ payload.x'",
            vec!["url: unexpected end"],
        ),
        (
            "headers.x-a = '{{ mesage.id }}'",
            vec![
                "headers.x-a: `mesage.id` is not known; there are message, endpoint, attempt, timestamp, payload, server and body",
            ],
        ),
        (
            "headers.x-a = '{{ message.ids }}'",
            vec![
                "headers.x-a: `message.ids` is not known; message has id, event_type, event_id, channels, accepted_at, application and metadata",
            ],
        ),
        (
            "headers.x-a = '{{ endpoint.secrets }}'",
            vec!["headers.x-a: `endpoint.secrets` is not known; endpoint has"],
        ),
        (
            "headers.x-a = '{{ attempt.count }}'",
            vec!["headers.x-a: `attempt.count` is not known; attempt has number"],
        ),
        (
            "headers.x-a = '{{ signature }}'",
            vec!["headers.x-a: `signature` is known in a signature's format only"],
        ),
        (
            "headers.x-a = '{{ payload.a|nosuch }}'",
            vec!["headers.x-a: `payload.a|nosuch` has an unknown filter"],
        ),
        (
            "headers.x-a = '{% if payload.a is nosuch %}{% endif %}'",
            vec!["headers.x-a: `if payload.a is nosuch` has an unknown test"],
        ),
        (
            "headers.x-a = '{% if payload.a %}b{% else %}{{ 1|nosuch }}{% endif %}'",
            vec!["headers.x-a: `1|nosuch` has an unknown filter"],
        ),
        (
            "headers.x-a = '{{ payload.a|safe }}'",
            vec!["headers.x-a: `payload.a|safe` has an unknown filter"],
        ),
        (
            "headers.x-a = 'é'",
            vec!["headers.x-a: the value has characters that a header cannot carry"],
        ),
        (
            "headers.x-a = \"a\\nb\"",
            vec!["headers.x-a: the value has characters"],
        ),
        (
            "headers.x-a = '{{ a'\nheaders.x-b = '{{ b.c }}'",
            vec![
                "headers.x-a: unexpected end",
                "headers.x-b: `b.c` is not known",
            ],
        ),
        (
            "methods = ['POST', 'GET']\nheaders.x-a = '{{ body }}'",
            vec!["headers.x-a: `body` is named, which GET"],
        ),
        (
            "body = 'none'\nsignatures = [{ header = 'x-a', algorithm = 'hmac-sha1', content = '{{ body }}' }]",
            vec!["signatures.0.content: `body` is named, which GET"],
        ),
        (
            "signatures = [{ header = 'x-a', algorithm = 'hmac-sha1', format = 't={{ timestamp }}' }]",
            vec!["signatures.0.format: must have {{ signature }} in it"],
        ),
        (
            "signatures = [{ header = 'x-a', algorithm = 'hmac-sha1', content = '{{ signature }}' }]",
            vec!["signatures.0.content: `signature` is known"],
        ),
        (
            "body = 'template'\nbody_template = '{{ body }}'",
            vec!["body_template: `body` is what this makes"],
        ),
        (
            "body = 'template'\nbody_template = '{\"a\": {{ payload.a }}'",
            vec!["body_template: what it makes is not JSON"],
        ),
        (
            "body = 'template'\nbody_template = '{\"a\": \"{{ payload.a }}\"}'",
            vec![],
        ),
        (
            "retry = { first_seconds = 5 }",
            vec!["retry.give_up_after_seconds: is required"],
        ),
        // Not everything that an example does not fit is wrong.
        ("headers.x-a = '{{ payload.amount * 2 }}'", vec![]),
        (
            "headers.x-a = '{{ payload[\"a b\"].c[0] }}{{ message.channels[0] }}'",
            vec![],
        ),
        (
            "headers.x-a = '{{ endpoint.metadata.region }}-{{ endpoint.uid }}'",
            vec![],
        ),
        ("headers.x-a = '{% set x = range(3)|join %}{{ x }}'", vec![]),
        ("url = '{{endpoint.url}}?id={{ payload.id }}'", vec![]),
        (
            "body = 'template'\nbody_template = '{% if payload.a == 1 %}{}{% endif %}'",
            vec![],
        ),
        (
            "body = 'template'\ncontent_type = 'text/plain; charset=utf-8'\nbody_template = 'a \"{{ payload.a }}\"'",
            vec![],
        ),
    ] {
        let problems = settings_with(&format!("[mine]\n{profile}"))
            .err()
            .unwrap_or_default();
        assert_eq!(problems.len(), expected.len(), "{profile}: {problems:?}");
        for (problem, expected) in problems.iter().zip(expected) {
            let expected = format!("profiles.mine.{expected}");
            assert!(problem.starts_with(&expected), "{profile}: {problem}");
            assert!(!problem.contains('\n'), "{problem}");
        }
    }
}

#[test]
fn all_profiles_are_checked_before_any_is_refused() {
    let problems = settings_with("[one]\nurl = 'x'\n[two]\nheaders.x-a = '{{ a }}'")
        .err()
        .unwrap();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(
        problems[0].starts_with("profiles.one.url")
            && problems[1].starts_with("profiles.two.headers")
    );
}

#[test]
fn a_url_has_the_payloads_fields_as_segments_and_keeps_its_query() {
    let payload = r#"{"eventType":"CREATE","entityType":"Lease / Agreement","entityId":25}"#;
    let ioffice = request("", endpoint_of("ioffice", "mySecret"), payload).unwrap_or_else(failed);
    let expected = "https://example.com/in/CREATE/Lease%20%2F%20Agreement/25?key=a%20b";
    assert_eq!(ioffice.url, expected);
    assert_eq!(
        ioffice.uri.to_string(),
        expected.replace("https://example.com/", "http://example.com:443/")
    );
    assert_eq!(sent(&ioffice, "host"), Some("example.com"));
    for (payload, expected) in [
        (
            r#"{"entityType":"A","entityId":1}"#,
            "The profile's url cannot be rendered: `payload.eventType` is undefined.",
        ),
        (
            r#"{"eventType":null,"entityType":"A","entityId":1}"#,
            "`payload.eventType` is null.",
        ),
        (
            r#"{"eventType":"..","entityType":"A","entityId":1}"#,
            "`payload.eventType` is a dot segment",
        ),
        (
            r#"{"eventType":"","entityType":"A","entityId":1}"#,
            "`payload.eventType` is empty",
        ),
        (
            r#"{"eventType":{"a":1},"entityType":"A","entityId":1}"#,
            "`payload.eventType` is an object",
        ),
    ] {
        let found = detail(request("", endpoint_of("ioffice", "mySecret"), payload));
        assert!(found.contains(expected), "{found}");
    }
    let long = format!(
        r#"{{"eventType":"{}","entityType":"A","entityId":1}}"#,
        "x".repeat(9000)
    );
    let found = detail(request("", endpoint_of("ioffice", "mySecret"), &long));
    assert!(found.contains("longer than 8192 bytes"), "{found}");
}

#[test]
fn get_has_neither_a_body_nor_headers_of_one() {
    let payload = r#"{"eventType":"CREATE","entityType":"Agreement","entityId":25}"#;
    let chosen = |method| Endpoint {
        method: Some(method),
        headers: BTreeMap::from([("Content-Type".to_owned(), "text/x".to_owned())]),
        ..endpoint_of("ioffice", "mySecret")
    };
    let get = request("", chosen(Method::Get), payload).unwrap_or_else(failed);
    assert_eq!((get.method, body(&get)), (Method::Get, None));
    for name in ["content-type", "content-length"] {
        assert_eq!(
            (sent(&get, name), shown(&get, name)),
            (None, None),
            "{name}"
        );
    }
    let post = request("", chosen(Method::Post), payload).unwrap_or_else(failed);
    assert_eq!((post.method, body(&post)), (Method::Post, Some(payload)));
    assert_eq!(shown(&post, "content-type"), Some("text/x"));
    assert_eq!(shown(&post, "content-length"), Some("61"));
    for request in [&get, &post] {
        let expected = "6206491ddab1218e7d6a9c8b3fbaa43da7858ee678dc6cd53a4dcabf0216568e";
        assert_eq!(sent(request, "x-ioffice-signature"), Some(expected));
    }
    // One that the profile does not have counts as none.
    let put = request("", chosen(Method::Put), payload).unwrap_or_else(failed);
    assert_eq!(put.method, Method::Post);
    let without = "[mine]\nbody = 'none'\nmethods = ['PUT']";
    let put = request(without, endpoint_of("mine", "mySecret"), payload).unwrap_or_else(failed);
    assert_eq!((put.method, body(&put)), (Method::Put, None));
    assert_eq!(
        (shown(&put, "content-length"), shown(&put, "content-type")),
        (Some("0"), None)
    );
}

#[test]
fn a_body_is_made_of_json_values() {
    let profiles = "[mine]\nbody = 'template'\nmethods = ['PATCH']\n\
         body_template = '{\"type\": {{ message.event_type }}, \"items\": {{ payload.items }}, \"at\": {{ timestamp }}}'\n\
         [[mine.signatures]]\nheader = 'x-sign'\nalgorithm = 'hmac-sha256'\n";
    let payload = r#"{"items": [{"price":  1.10}], "x": "\"}"}"#;
    let made = request(profiles, endpoint_of("mine", "a-secret"), payload).unwrap_or_else(failed);
    let expected = r#"{"type": "invoice.paid", "items": [{"price":  1.10}], "at": 1700000000}"#;
    assert_eq!(body(&made), Some(expected));
    assert_eq!(
        shown(&made, "content-length"),
        Some(expected.len().to_string().as_str())
    );
    // The signed bytes are the sent bytes.
    let published = "[mine]\n[[mine.signatures]]\nheader = 'x-sign'\nalgorithm = 'hmac-sha256'\n";
    let same = request(published, endpoint_of("mine", "a-secret"), expected).unwrap_or_else(failed);
    assert_eq!(sent(&made, "x-sign"), sent(&same, "x-sign"));
    let missing = detail(request(profiles, endpoint_of("mine", "a-secret"), "{}"));
    assert_eq!(
        missing,
        "The profile's body_template cannot be rendered: `payload.items` is undefined."
    );
    let twice = "[mine]\nbody = 'template'\nbody_template = '[{{ payload }}, {{ payload }}]'";
    let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(600_000));
    let found = detail(request(twice, endpoint_of("mine", "a-secret"), &large));
    assert!(found.contains("becomes too long"), "{found}");
}

#[test]
fn a_large_body_is_within_a_templates_budget() {
    let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(1_048_000));
    for profile in ["stripe", "ocrolus", "slack"] {
        let request = request("", endpoint_of(profile, "a-secret"), &large).unwrap_or_else(failed);
        assert_eq!(body(&request).map(str::len), Some(large.len()));
    }
}

#[test]
fn headers_may_name_everything_of_the_endpoint_and_the_message() {
    let profiles = "[mine.headers]\nx-all = '{{ endpoint.url }} {{ endpoint.uid }} {{ endpoint.number }} \
         {{ endpoint.metadata.region }} {{ message.event_type }} {{ message.channels|join }} \
         {{ message.accepted_at }} {{ attempt.number }} {{ timestamp }}'\nx-event = '{{ message.event_id }}'";
    let endpoint = || Endpoint {
        metadata: BTreeMap::from([("region".to_owned(), "eu".to_owned())]),
        ..endpoint_of("mine", "a-secret")
    };
    let found = detail(request(profiles, endpoint(), "{}"));
    assert_eq!(
        found,
        "The profile's headers.x-event cannot be rendered: `message.event_id` is null."
    );
    let profiles = profiles.replace(
        "{{ message.event_id }}",
        "{{ message.event_id|default(\"none\", true) }}",
    );
    let request = request(&profiles, endpoint(), "{}").unwrap_or_else(failed);
    let expected = "https://example.com/in?key=a%20b site/7 7 eu invoice.paid Agreement \
                    2023-11-14T22:13:20.000Z 2 1700000000";
    assert_eq!(sent(&request, "x-all"), Some(expected));
    assert_eq!(sent(&request, "x-event"), Some("none"));
}

#[test]
fn timeouts_and_retries_are_the_endpoints_else_the_profiles_else_the_servers() {
    let settings = settings_with("").unwrap_or_else(|problems| panic!("{problems:?}"));
    let own = RetrySchedule {
        waits: Waits::Listed(vec![Duration::from_secs(1)]),
        jitter: 0.0,
    };
    let listed =
        |seconds: &[u64]| Waits::Listed(seconds.iter().copied().map(Duration::from_secs).collect());
    for (profile, timeout_seconds, retry, expected_timeout, expected_waits) in [
        ("standard", None, None, 15, listed(&[5])),
        ("ovation", None, None, 10, listed(&[64, 729])),
        ("ovation", Some(3), Some(own.clone()), 3, listed(&[1])),
        ("standard", Some(3), Some(own.clone()), 3, listed(&[1])),
        ("gone", None, None, 15, listed(&[5])),
    ] {
        let endpoint = Endpoint {
            timeout_seconds,
            retry,
            ..endpoint_of(profile, "a-secret")
        };
        assert_eq!(
            settings.retry_schedule(&endpoint).waits,
            expected_waits,
            "{profile}"
        );
        if let Ok(compiled) = settings.profile(&endpoint) {
            let timeout = settings.timeout(&endpoint, compiled);
            assert_eq!(timeout, Duration::from_secs(expected_timeout), "{profile}");
        }
    }
}

#[test]
fn every_shipped_profile_has_an_example_request() {
    let settings = settings_with(
        "[mine]\nurl = '{{ endpoint.url }}/{{ payload.order.id }}/{{ payload[\"a b\"][0].c }}'\n\
         [mine.headers]\nx-region = '{{ endpoint.metadata.region }}'\n\
         [[mine.signatures]]\nheader = 'x-from'\nalgorithm = 'static'\n\
         [odd.headers]\nx-half = '{{ payload.amount / 2 }}'",
    )
    .unwrap_or_else(|problems| panic!("{problems:?}"));
    let examples = settings.example_requests();
    assert_eq!(
        examples,
        settings.example_requests(),
        "it is always the same"
    );
    let with_example = settings.profiles.keys().filter(|name| *name != "odd");
    assert!(examples.keys().eq(with_example), "{:?}", examples.keys());
    for (name, example) in &examples {
        assert_eq!(example["headers"]["host"], "example.com");
        let media_type = match name.as_str() {
            "ovcode-headers-only" => &Value::Null,
            _ => &json!("application/json"),
        };
        assert_eq!(&example["headers"]["content-type"], media_type);
    }
    let ioffice = &examples["ioffice"];
    assert_eq!(ioffice["method"], "POST");
    assert_eq!(
        ioffice["url"],
        "https://example.com/webhooks/CREATE/Agreement/25"
    );
    assert_eq!(
        ioffice["body"],
        r#"{"entityId":25,"entityType":"Agreement","eventType":"CREATE"}"#
    );
    assert_eq!(
        examples["ovcode"]["headers"]["x-api-secret"],
        "example-secret"
    );
    let mine = &examples["mine"];
    assert_eq!(mine["url"], "https://example.com/webhooks/example/example");
    assert_eq!(mine["headers"]["x-region"], "example");
    assert_eq!(mine["headers"]["x-from"], "example-secret");
    assert_eq!(
        mine["headers"]["content-length"],
        mine["body"].as_str().unwrap().len().to_string()
    );
    let standard = &examples["standard"]["headers"];
    assert!(
        standard["webhook-signature"]
            .as_str()
            .unwrap()
            .starts_with("v1,"),
        "{standard}"
    );
}

/// Payload values of every kind, the awkward more often than not.
fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        "\\PC{0,12}".prop_map(Value::from),
        "[./\\\\%?#@:;&=a\\r\\n\\t\\x00é]{0,8}".prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
        Just(json!(["a"])),
        Just(json!({ "a": 1 })),
    ]
}

proptest! {
    #[test]
    fn no_payload_leaves_its_place(values in prop::collection::vec(any_value(), 3)) {
        let profiles = "[mine]\nurl = '{{ endpoint.url }}/{{ payload.a }}/x{{ payload.b }}{% if payload.c %}?c={{ payload.c }}{% endif %}'\n\
             [mine.headers]\nx-a = '{{ payload.a }}:{{ payload.b }}'";
        thread_local! {
            static SETTINGS: RefCell<Option<SendSettings>> = const { RefCell::new(None) };
        }
        let payload = json!({ "a": values[0], "b": values[1], "c": values[2] }).to_string();
        for url in ["https://example.com", "https://example.com:8443/in/?k=v"] {
            let endpoint = Endpoint { url: url.to_owned(), ..endpoint_of("mine", "a-secret") };
            let result = SETTINGS.with_borrow_mut(|settings| {
                let settings = settings.get_or_insert_with(|| settings_with(profiles).unwrap_or_else(|p| panic!("{p:?}")));
                request_at(settings, endpoint, message_with(payload.clone()), NOW)
            });
            match result {
                Ok(request) => {
                    let (sent, own) = (url::Url::parse(&request.url).unwrap(), url::Url::parse(url).unwrap());
                    prop_assert_eq!(sent.origin(), own.origin());
                    prop_assert!(sent.path().starts_with(own.path()), "{}", sent);
                    let inside = own.path_segments().unwrap().filter(|one| !one.is_empty()).count();
                    prop_assert_eq!(sent.path_segments().unwrap().count(), inside + 2);
                    let header = request.headers.get("x-a").unwrap().as_bytes();
                    prop_assert!(header.iter().all(|byte| (b' '..=b'~').contains(byte)));
                }
                Err(failure) => {
                    prop_assert_eq!(failure.kind, FailureKind::NotSendable);
                    for value in &values {
                        // A long text cannot be in the sentence by accident.
                        let text = value.as_str().unwrap_or_default();
                        prop_assert!(text.chars().count() < 6 || !failure.detail.contains(text));
                    }
                }
            }
        }
    }
}

#[test]
#[ignore = "a measurement; run it with --release and --nocapture"]
fn what_rendering_costs() {
    const ROUNDS: u32 = 20_000;
    let settings = settings_with("").unwrap_or_else(|problems| panic!("{problems:?}"));
    let members = r#""eventType":"CREATE","entityType":"Agreement","entityId":25,"reference":"r","status_code":"S","cid":"c","token_id":25,"hash":"h","file":"f","timestamp":"t""#;
    let payload = format!(r#"{{{members},"pad":"{}"}}"#, "x".repeat(800));
    let message = Arc::new(message_with(payload));
    let key = Secret::generate(SecretForm::StandardWebhooks, [7; 32]);
    for _ in 0..2 {
        for name in ["standard", "github", "ocrolus", "ioffice", "ovcode-headers"] {
            let endpoint = Arc::new(endpoint_of(name, key.expose()));
            let prepared = Prepared::new(&endpoint, &settings).unwrap_or_else(|_| panic!("{name}"));
            let started = Instant::now();
            for number in 0..ROUNDS {
                let request = prepared.request(&message, NOW, || {
                    TemplateScope::of_attempt(ScopedAttempt {
                        message: message.clone(),
                        endpoint: endpoint.clone(),
                        number,
                        now: NOW,
                        server_url: settings.server_url.clone(),
                    })
                });
                std::hint::black_box(request.unwrap_or_else(|one| failed(one.failure)));
            }
            println!("{name}: {:?} a request", started.elapsed() / ROUNDS);
        }
    }
}

#[test]
fn an_unknown_profile_stops_the_start_with_its_name() {
    let config = config(|config| {
        config["delivery"]["default_profile"] = json!("slak");
    });
    let error = SendSettings::from_config(&config, &OwnAddresses::default())
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("delivery.default_profile: "), "{error}");
}
