//! How a profile's requests are signed, with which secrets, and how the log shows the signatures.

use super::profiles::{
    body, detail, endpoint_of, failed, message_with, request, request_at, secret_until, sent,
    settings_with, shown,
};
use super::*;

#[test]
fn signatures_are_those_that_the_vendors_document() {
    let slack = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow\
                 &channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner\
                 &command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com\
                 %2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN\
                 &trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    for (profile, secret, seconds, payload, header, expected) in [
        (
            "github",
            "It's a Secret to Everybody",
            0,
            "Hello, World!",
            "X-Hub-Signature-256",
            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
        ),
        (
            "slack",
            "8f742231b10e8888abcd99yyyzzz85a5",
            1_531_420_618,
            slack,
            "X-Slack-Signature",
            "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
        ),
        (
            "stripe",
            "whsec_example_text",
            1_700_000_000,
            r#"{"a":1}"#,
            "Stripe-Signature",
            "t=1700000000,v1=e9f1100473e31363d2f178595c2e6c31687a365bceded3b5784f06c78d7fc1f2",
        ),
        (
            "shopify",
            "example-key",
            0,
            r#"{"a":1}"#,
            "X-Shopify-Hmac-SHA256",
            "I4ZOC9pekDzfZcumVojjvsRAREo/ZcbLEzufcF4GDnc=",
        ),
        (
            "ovcode",
            "an api secret",
            0,
            "{}",
            "x-api-secret",
            "an api secret",
        ),
    ] {
        let settings = settings_with("").unwrap_or_else(|problems| panic!("{problems:?}"));
        let endpoint = Endpoint {
            secrets: vec![EndpointSecret {
                secret: Secret::parse(secret, SecretForm::TEXT).unwrap(),
                expires_at: None,
            }],
            ..endpoint_of(profile, "replaced")
        };
        let now = Timestamp::from_seconds(seconds);
        let request =
            request_at(&settings, endpoint, message_with(payload), now).unwrap_or_else(failed);
        assert_eq!(sent(&request, header), Some(expected), "{profile}");
        assert_eq!(body(&request), Some(payload));
    }
}

#[test]
fn each_algorithm_key_and_encoding_signs() {
    let body = r#"{"a":1}"#;
    for (signature, secret, expected) in [
        (
            "algorithm = 'hmac-sha1'",
            "example-key",
            "c6fd3563b874bc50fda6fb53affaa99217e6201e",
        ),
        (
            "algorithm = 'hmac-sha512'",
            "example-key",
            "90af5852d8cfe8140ee0554247fc6aca1baae6b63ec44bc4279432325ab1174a279f9e7ff5ed9eea2494eae04a7f56b2769ee3a09fcc42deb2313a926708ecdb",
        ),
        (
            "algorithm = 'hmac-sha256'\nencoding = 'base64'\nprefix = 'v1='",
            "example-key",
            "v1=I4ZOC9pekDzfZcumVojjvsRAREo/ZcbLEzufcF4GDnc=",
        ),
        (
            "algorithm = 'hmac-sha256'\nkey = 'hex'",
            "0011223344556677",
            "735a0d71446d6a8b74c8e0ae6500bac31c0ab2f7b60a21db6e61ccd1b0a76ad3",
        ),
        (
            "algorithm = 'hmac-sha256'\nkey = 'base64'",
            "ABEiM0RVZnc=",
            "735a0d71446d6a8b74c8e0ae6500bac31c0ab2f7b60a21db6e61ccd1b0a76ad3",
        ),
        (
            "algorithm = 'static'\nprefix = 'Key '",
            "example-key",
            "Key example-key",
        ),
    ] {
        let profile = format!("[[mine.signatures]]\nheader = 'x-sign'\n{signature}\n");
        let request = request(&profile, endpoint_of("mine", secret), body).unwrap_or_else(failed);
        assert_eq!(sent(&request, "x-sign"), Some(expected), "{signature}");
    }
}

#[test]
fn standard_webhooks_compose_with_other_signatures() {
    let profiles = "[mine]\nstandard_webhooks = 'x-hook'\n\
         [[mine.signatures]]\nheader = 'x-old'\nalgorithm = 'hmac-sha256'\nkey = 'whsec'\n\
         encoding = 'base64'\nprefix = 'v1,'\ncontent = '{{ message.id }}.{{ timestamp }}.{{ body }}'\n\
         [mine.headers]\nx-count = '{{ attempt.number }}'\n";
    let key = Secret::generate(SecretForm::Whsec, [7; 32]);
    let request = request(profiles, endpoint_of("mine", key.expose()), BODY).unwrap_or_else(failed);
    let signature = sent(&request, "x-hook-signature").unwrap();
    assert!(signature.starts_with("v1,"), "{signature}");
    assert_eq!(sent(&request, "x-old"), Some(signature));
    assert_eq!(sent(&request, "x-hook-timestamp"), Some("1700000000"));
    assert_eq!(sent(&request, "x-count"), Some("2"));
}

#[test]
fn an_ed25519_key_signs_the_content() {
    let profiles = "[[mine.signatures]]\nheader = 'x-sign'\nalgorithm = 'ed25519'\n\
                    prefix = 'v1a,'\ncontent = '{{ timestamp }}.{{ body }}'\n";
    let key = Secret::generate(SecretForm::Ed25519, [7; 32]);
    let request = request(profiles, endpoint_of("mine", key.expose()), BODY).unwrap_or_else(failed);
    let signature = sent(&request, "x-sign").unwrap().strip_prefix("v1a,");
    let signature = hex::decode(signature.unwrap()).unwrap();
    let pair = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let public = aws_lc_rs::signature::KeyPair::public_key(&pair)
        .as_ref()
        .to_vec();
    let content = format!("1700000000.{BODY}");
    let key = aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ED25519, public);
    key.verify(content.as_bytes(), &signature).unwrap();
}

#[test]
fn a_rotation_signs_with_every_live_secret_where_the_scheme_lists_them() {
    let soon = Some(NOW + Duration::from_millis(1));
    let rotated = |profile: &str| Endpoint {
        secrets: vec![
            secret_until("newest-secret", None),
            secret_until("second-secret", soon),
            secret_until("expired-secret", Some(NOW)),
        ],
        ..endpoint_of(profile, "replaced")
    };
    let alone = |profile: &str, secret: &str, header: &str| {
        let request = request("", endpoint_of(profile, secret), BODY).unwrap_or_else(failed);
        sent(&request, header).unwrap().to_owned()
    };
    let stripe = request("", rotated("stripe"), BODY).unwrap_or_else(failed);
    let newest = alone("stripe", "newest-secret", "stripe-signature");
    let second = alone("stripe", "second-secret", "stripe-signature");
    let second = second.strip_prefix("t=1700000000").unwrap();
    assert_eq!(
        sent(&stripe, "stripe-signature"),
        Some(format!("{newest}{second}").as_str())
    );
    for (profile, header) in [
        ("github", "x-hub-signature-256"),
        ("ovcode", "x-api-secret"),
    ] {
        let request = request("", rotated(profile), BODY).unwrap_or_else(failed);
        let expected = alone(profile, "newest-secret", header);
        assert_eq!(sent(&request, header), Some(expected.as_str()), "{profile}");
    }
}

#[test]
fn a_secret_that_does_not_fit_signs_nothing() {
    let plain = |profile: &str| endpoint_of(profile, "plain-secret");
    let misfit = "The endpoint's secret does not fit its profile.";
    assert_eq!(detail(request("", plain("standard"), BODY)), misfit);
    let hex = "[[mine.signatures]]\nheader = 'x-sign'\nalgorithm = 'hmac-sha256'\nkey = 'hex'";
    assert_eq!(detail(request(hex, plain("mine"), BODY)), misfit);
    // While it expires, one of another profile's time does not keep the newest from signing.
    let fitting = Secret::generate(SecretForm::StandardWebhooks, [1; 32]);
    let mut changed = endpoint_of("standard", fitting.expose());
    changed.secrets.push(secret_until(
        "plain-secret",
        Some(NOW + Duration::from_secs(60)),
    ));
    let request_changed = request("", changed, BODY).unwrap_or_else(failed);
    assert_eq!(
        sent(&request_changed, "webhook-signature")
            .unwrap()
            .split(' ')
            .count(),
        1
    );
    let none = Endpoint {
        secrets: Vec::new(),
        ..plain("github")
    };
    assert_eq!(
        detail(request("", none, BODY)),
        "The endpoint has no signing secret."
    );
    // Where nothing is signed, none is needed.
    let none = Endpoint {
        secrets: Vec::new(),
        ..plain("okhi")
    };
    assert!(request("", none, BODY).is_ok());
    let unknown = detail(request("", plain("gone"), BODY));
    assert_eq!(
        unknown,
        "The endpoint's profile \"gone\" is not configured."
    );
}

#[test]
fn what_is_secret_is_sent_and_not_shown() {
    let payload = r#"{"reference":"r","status_code":"S","cid":"c","token_id":1.10,"hash":"h","file":"f","timestamp":"t"}"#;
    let pairs = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    };
    let endpoint = Endpoint {
        headers: pairs(&[
            ("X-Colour", "grey"),
            ("X-Api-Key", "hunter2"),
            ("Reference", "mine"),
            ("HOST", "b.test"),
            ("Content-Type", "application/x+json"),
            ("Authorization", "Bearer hunter2"),
        ]),
        auth_headers: pairs(&[
            ("X-Plain", "hunter2"),
            ("Webhook-Id", "mine"),
            ("Content-Length", "1"),
        ]),
        basic_auth: Some(BasicAuth {
            username: "ann".to_owned(),
            password: "hunter2".to_owned(),
        }),
        ..endpoint_of("ovcode-headers", "hunter2-secret")
    };
    let request = request("", endpoint, payload).unwrap_or_else(failed);
    for (name, expected, as_shown) in [
        ("x-api-secret", "hunter2-secret", "***"),
        ("x-plain", "hunter2", "***"),
        ("x-api-key", "hunter2", "***"),
        ("authorization", "Bearer hunter2", "***"),
        // It speaks of a token and is none.
        ("token_id", "1.10", "1.10"),
        ("reference", "r", "r"),
        ("x-colour", "grey", "grey"),
        ("host", "example.com", "example.com"),
        ("content-type", "application/x+json", "application/x+json"),
    ] {
        assert_eq!(sent(&request, name), Some(expected), "{name}");
        assert_eq!(shown(&request, name), Some(as_shown), "{name}");
    }
    assert!(sent(&request, "webhook-id").unwrap().starts_with("msg_"));
    assert_eq!(sent(&request, "content-length"), None, "it is the client's");
    assert!(!format!("{:?}", request.shown).contains("hunter2"));
    let plain_name = "[[mine.signatures]]\nheader = 'x-from'\nalgorithm = 'static'";
    let request = super::profiles::request(plain_name, endpoint_of("mine", "hunter2-secret"), "{}")
        .unwrap_or_else(failed);
    assert_eq!(
        (sent(&request, "x-from"), shown(&request, "x-from")),
        (Some("hunter2-secret"), Some("***"))
    );
}
