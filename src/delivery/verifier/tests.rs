use actix_web::web::Bytes;
use proptest::prelude::*;

use super::super::example::{self, NOW};
use super::super::render::Prepared;
use super::super::scope::ScopedAttempt;
use super::*;
use crate::config::{Config, Flags, LimitsSection, load};
use crate::delivery::SendSettings;
use crate::delivery::address::OwnAddresses;
use crate::domain::profile as domain;
use crate::domain::secret::Secret;

fn config() -> Config {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config.toml");
    load(Some(file.as_ref()), Flags { dev: false }).unwrap()
}

/// A request by the profile, with its secret.
fn request(
    settings: &SendSettings,
    profile: &CompiledProfile,
    method: Method,
) -> (Captured, String) {
    let ScopedAttempt {
        message, endpoint, ..
    } = example::attempt(profile, "https://webhooks.example.com".into());
    let mut endpoint = (*endpoint).clone();
    endpoint.method = Some(method);
    let secret = endpoint.secrets[0].secret.expose().to_owned();
    (sent(settings, message, endpoint), secret)
}

fn sent(
    settings: &SendSettings,
    message: Arc<crate::domain::message::Message>,
    endpoint: crate::domain::endpoint::Endpoint,
) -> Captured {
    let endpoint = Arc::new(endpoint);
    let attempt = ScopedAttempt {
        message: message.clone(),
        endpoint: endpoint.clone(),
        number: 1,
        now: NOW,
        server_url: settings.server_url.clone(),
    };
    let prepared = Prepared::new(&endpoint, settings).unwrap();
    let request = prepared.request(&message, NOW, || TemplateScope::of_attempt(attempt));
    let request = request.unwrap();
    Captured {
        method: Some(request.method.name().to_owned()),
        url: Some(request.url),
        headers: request
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
            .collect(),
        body: request.body.unwrap_or_default(),
    }
}

fn verifier(profile: &Arc<CompiledProfile>, secret: &str) -> Verifier {
    Verifier::new(profile.clone(), Some(secret)).unwrap()
}

fn compiled(toml: &str) -> Arc<CompiledProfile> {
    let settings: domain::Profile = toml::from_str(toml).unwrap();
    let limits: LimitsSection = config().limits;
    Arc::new(CompiledProfile::compile("own", &settings, &limits, 0.0).unwrap())
}

/// Headers whose change goes unnoticed: nothing signs them, and nothing else has the same value.
fn is_free(profile: &str, header: &str) -> bool {
    match profile {
        "github" => header.starts_with("x-github-"),
        "shopify" => header.starts_with("x-shopify-") && header != "x-shopify-hmac-sha256",
        // There is no body to compare them with.
        "ovcode-headers-only" => header != "x-api-secret",
        _ => header == "webhook-id" && !["standard", "svix"].contains(&profile),
    }
}

#[test]
fn requests_of_each_profile_verify_and_no_change_goes_unnoticed() {
    let settings = SendSettings::from_config(&config(), &OwnAddresses::default()).unwrap();
    for (name, profile) in &settings.profiles {
        for method in profile.settings.methods.clone() {
            let (request, secret) = request(&settings, profile, method);
            let verifier = verifier(profile, &secret);
            assert_eq!(verifier.checks_signatures(), profile.signs());
            let whole: [String; 0] = [];
            assert_eq!(verifier.problems(&request, Some(NOW)), whole, "{name}");

            let told = |changed: &Captured, what: &str| {
                let problems = verifier.problems(changed, Some(NOW));
                assert!(!problems.is_empty(), "{name}: {what} goes unnoticed");
                let text = problems.join("; ");
                assert!(!text.contains(&secret), "{name}: {what}: {text}");
                text
            };
            let headers = profile.settings.header_names();
            for at in 0..request.headers.len() {
                let header = request.headers[at].0.clone();
                if !headers.contains(&header) {
                    continue;
                }
                let mut without = request.clone();
                without.headers.remove(at);
                let text = told(&without, &header);
                assert!(
                    text.contains(&format!("header {header} is missing")),
                    "{text}"
                );
                let mut twice = request.clone();
                twice.headers.push(request.headers[at].clone());
                told(&twice, &header);
                let mut binary = request.clone();
                binary.headers[at].1 = vec![0xff];
                told(&binary, &header);
                let mut changed = request.clone();
                let last = changed.headers[at].1.last_mut().unwrap();
                *last = if *last == b'1' { b'2' } else { b'1' };
                match is_free(name, &header) {
                    true => assert_eq!(verifier.problems(&changed, Some(NOW)), whole),
                    false => drop(told(&changed, &header)),
                }
            }
            let mut changed = request.clone();
            changed.method = Some("PUT".to_owned());
            assert!(told(&changed, "the method").contains("the method is \"PUT\""));
            changed.method = Some("DELETE".to_owned());
            told(&changed, "the method");
            if !request.body.is_empty() {
                let mut changed = request.clone();
                changed.body = Bytes::new();
                assert!(told(&changed, "no body").contains("there is no body"));
            }
            let signs_body = profile.standard.is_some()
                || profile.signatures.iter().any(|one| match &one.content {
                    None => !one.is_static(),
                    Some(content) => content.uses("body"),
                });
            for at in (0..request.body.len()).filter(|_| signs_body) {
                let mut body = request.body.to_vec();
                body[at] ^= 1;
                let mut changed = request.clone();
                changed.body = body.into();
                told(&changed, "a byte of the body");
            }
            if profile.signs() {
                let form = profile.settings.secret_form();
                let other = Secret::generate(form, [7; 32]);
                let other = Verifier::new(profile.clone(), Some(other.expose())).unwrap();
                assert_ne!(other.problems(&request, Some(NOW)), whole, "{name}");
            }
            let unknown = Verifier::new(profile.clone(), None).unwrap();
            assert!(!unknown.checks_signatures());
            assert_eq!(unknown.problems(&request, Some(NOW)), whole, "{name}");
        }
    }
}

#[test]
fn a_get_verifies_from_its_path_and_a_post_says_the_same_in_both_places() {
    let settings = SendSettings::from_config(&config(), &OwnAddresses::default()).unwrap();
    let profile = &settings.profiles["ioffice"];
    let (get, secret) = request(&settings, profile, Method::Get);
    let verifier = verifier(profile, &secret);
    assert!(get.body.is_empty());
    let url = get.url.clone().unwrap();
    assert!(url.ends_with("/CREATE/Agreement/25"), "{url}");
    let problems = |request: &Captured, url: &str| {
        let url = Some(url.to_owned());
        verifier.problems(
            &Captured {
                url,
                ..request.clone()
            },
            None,
        )
    };
    let none: [String; 0] = [];
    for same in [
        "/webhooks/CREATE/Agreement/25",
        "/CREATE/Agreement/%325?k=v",
        &url,
    ] {
        assert_eq!(problems(&get, same), none, "{same}");
    }
    for other in [
        "/CREATE/Agreement/26",
        "/CREATE/Room/25",
        "/x/CREATE/Agreement/25/",
        "/25",
    ] {
        assert_ne!(problems(&get, other), none, "{other}");
    }
    assert!(problems(&get, "/25")[0].contains("does not end in the form"));
    let mut with_body = get.clone();
    with_body.body = Bytes::from_static(b"{}");
    assert!(problems(&with_body, &url)[0].contains("there is a body"));

    let (post, _) = request(&settings, profile, Method::Post);
    assert_eq!(problems(&post, &url), none);
    let told = "the URL does not end in \"/CREATE/Agreement/25\", as the payload says";
    for other in ["/CREATE/Agreement/26", "/25", ""] {
        assert_eq!(problems(&post, other), [told], "{other}");
    }
    let mut unlike = post.clone();
    unlike.body = Bytes::from_static(b"[");
    assert!(problems(&unlike, &url)[0].contains("not JSON"));
}

#[test]
fn headers_are_compared_with_the_payload() {
    let settings = SendSettings::from_config(&config(), &OwnAddresses::default()).unwrap();
    let profile = &settings.profiles["ovcode-headers"];
    let (mut request, secret) = request(&settings, profile, Method::Post);
    let header = request
        .headers
        .iter_mut()
        .find(|(name, _)| name == "reference");
    header.unwrap().1 = b"order-26".to_vec();
    let problems = verifier(profile, &secret).problems(&request, None);
    assert_eq!(problems, ["header reference is not what the payload says"]);
}

#[test]
fn any_of_several_signatures_is_enough() {
    let settings = SendSettings::from_config(&config(), &OwnAddresses::default()).unwrap();
    for (name, separator) in [("stripe", ","), ("standard", " ")] {
        let profile = &settings.profiles[name];
        let attempt = example::attempt(profile, "https://webhooks.example.com".into());
        let mut endpoint = (*attempt.endpoint).clone();
        let form = profile.settings.secret_form();
        let mut newest = endpoint.secrets[0].clone();
        newest.secret = Secret::generate(form, [7; 32]);
        endpoint.secrets.insert(0, newest);
        let secrets = endpoint.secrets.clone();
        let request = sent(&settings, attempt.message.clone(), endpoint);
        let signature = request
            .headers
            .iter()
            .find(|(name, _)| name.ends_with("-signature"));
        let signature = String::from_utf8_lossy(&signature.unwrap().1).into_owned();
        assert!(signature.contains(&format!("{separator}v1")), "{signature}");
        for one in secrets {
            let verifier = verifier(profile, one.secret.expose());
            let none: [String; 0] = [];
            assert_eq!(verifier.problems(&request, Some(NOW)), none, "{name}");
        }
    }
}

#[test]
fn a_timestamp_is_judged_where_the_time_is_known() {
    let settings = SendSettings::from_config(&config(), &OwnAddresses::default()).unwrap();
    let later = NOW + std::time::Duration::from_secs(3600);
    for name in ["standard", "svix", "stripe", "slack", "ocrolus"] {
        let profile = &settings.profiles[name];
        let (request, secret) = request(&settings, profile, Method::Post);
        let verifier = verifier(profile, &secret);
        assert_eq!(verifier.problems(&request, None), [""; 0], "{name}");
        let expected = ["the timestamp is too old"];
        assert_eq!(verifier.problems(&request, Some(later)), expected, "{name}");
    }
}

/// A request by a profile of somebody's own, made by its parts alone.
fn with(headers: &[(&str, &str)], url: &str, body: &'static str) -> Captured {
    let headers = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
    Captured {
        method: Some("POST".to_owned()),
        url: Some(url.to_owned()),
        headers: headers.collect(),
        body: Bytes::from_static(body.as_bytes()),
    }
}

#[test]
fn ed25519_takes_the_secret_and_its_public_key() {
    let profile = compiled(
        "[[signatures]]\nheader = 'x-sig'\nalgorithm = 'ed25519'\nencoding = 'base64'\n\
         content = '{{ body }}'",
    );
    let secret = Secret::generate(SecretForm::Ed25519, [7; 32]);
    let pair = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let signature = STANDARD.encode(pair.sign(b"{}"));
    let request = with(&[("X-Sig", &signature)], "/", "{}");
    for text in [secret.expose(), &secret.readable()] {
        let verifier = verifier(&profile, text);
        assert_eq!(verifier.problems(&request, None), [""; 0]);
        let other = with(&[("X-Sig", &signature)], "/", "{ }");
        assert_eq!(verifier.problems(&other, None).len(), 1);
    }
    for wrong in ["whpk_AAAA", "whsk_AAAA", "any-other-secret"] {
        let why = Verifier::new(profile.clone(), Some(wrong)).err().unwrap();
        assert!(!why.contains(wrong), "{why}");
    }
}

#[test]
fn what_is_found_twice_must_be_the_same_and_the_endpoints_url_is_what_is_left() {
    let profile = compiled(
        "url = '{{ endpoint.url }}/{{ message.id }}?at={{ timestamp }}'\n\
         headers = { x-id = '{{ message.id }}', x-time = 't={{ timestamp }}!', \
                     x-url = '{{ endpoint.url }}', x-upper = '{{ message.id|upper }}' }\n\
         [[signatures]]\nheader = 'x-key'\nalgorithm = 'static'\nprefix = 'Bearer '",
    );
    let verifier = verifier(&profile, "the-secret");
    let headers = [
        ("x-id", "m1"),
        ("x-time", "t=25!"),
        ("x-url", "https://a.test/in?k=v"),
        ("x-upper", "M1"),
        ("x-key", "Bearer the-secret"),
    ];
    let url = "https://a.test/in/m1?at=25&k=v";
    assert_eq!(verifier.problems(&with(&headers, url, "{}"), None), [""; 0]);
    for (at, value, expected) in [
        (0, "m2", "the URL has another message.id than header x-id"),
        (
            1,
            "t=26!",
            "the URL has another timestamp than header x-time",
        ),
        (
            1,
            "25",
            "header x-time does not have the form t={{ timestamp }}!",
        ),
        (
            2,
            "https://a.test",
            "the URL has another endpoint.url than header x-url",
        ),
        (
            3,
            "m1",
            "header x-upper is not what the rest of the request says",
        ),
        (4, "Bearer other", "header x-key is not the secret"),
        (4, "the-secret", "header x-key is not the secret"),
    ] {
        let mut changed = headers;
        changed[at].1 = value;
        let problems = verifier.problems(&with(&changed, url, "{}"), None);
        assert!(
            problems.iter().any(|one| one == expected),
            "{value}: {problems:?}"
        );
    }
}

proptest! {
    #[test]
    fn no_captured_bytes_panic(
        method in prop::option::of("GET|POST|PUT|\\PC{0,3}"),
        url in prop::option::of("\\PC{0,20}|(https?://)?[a/?%&#:=é]{0,20}"),
        values in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..12),
                "(t=|v1=|v1,|sha256=|v0=)?[0-9a-f,= ]{0,10}".prop_map(String::into_bytes),
            ],
            24,
        ),
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..12),
            "[{}\\[\\]\"a:,0-9]{0,12}".prop_map(String::into_bytes),
            Just(br#"{"eventType": [], "entityType": null, "reference": {}}"#.to_vec()),
        ],
    ) {
        thread_local! {
            static PROFILES: Vec<Arc<CompiledProfile>> =
                crate::delivery::profiles(&config()).unwrap().into_values().collect();
        }
        PROFILES.with(|profiles| for profile in profiles {
            let names = profile.settings.header_names();
            let request = Captured {
                method: method.clone(),
                url: url.clone(),
                headers: names.into_iter().zip(values.iter().cloned()).collect(),
                body: body.clone().into(),
            };
            let secret = Secret::generate(profile.settings.secret_form(), [7; 32]);
            let verifier = Verifier::new(profile.clone(), Some(secret.expose())).unwrap();
            verifier.problems(&request, Some(NOW));
        });
    }
}
