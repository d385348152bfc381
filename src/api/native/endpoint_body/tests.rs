//! Tests of bodies that change an endpoint.

use super::*;
use crate::config::{Flags, load};
use crate::domain::application::Application;
use crate::domain::endpoint::BasicAuth;
use crate::domain::id::{ApplicationId, OrganisationId};
use crate::rules::endpoint_checks::blank;
use serde_json::{Value, json};

const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn config() -> Config {
    load(Some("config.toml".as_ref()), Flags::default()).expect("the defaults are valid")
}

fn endpoint() -> Endpoint {
    let application = Application {
        id: ApplicationId::at(NOW),
        organisation: OrganisationId([1; 20]),
        uid: None,
        name: "One".to_owned(),
        metadata: BTreeMap::new(),
        throttle_rate: None,
        created_at: NOW,
        updated_at: NOW,
        tokens_valid_from: None,
        tokens_ending: None,
    };
    blank(&application, 7, NOW)
}

fn headers(name: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(name.to_owned(), value.to_owned())])
}

#[test]
fn an_endpoint_is_shown_without_anything_secret() {
    let mut endpoint = endpoint();
    endpoint.url = "https://example.com/in".to_owned();
    endpoint.event_types = Some(vec!["a".to_owned()].into());
    endpoint.basic_auth = Some(BasicAuth {
        username: "zoe".to_owned(),
        password: "s3cret-1".to_owned(),
    });
    endpoint.headers = headers("X-Token", "s3cret-2");
    endpoint.headers.extend(headers("X-Plain", "p"));
    endpoint.auth_headers = headers("X-Whatever", "s3cret-3");
    endpoint.profile = Some("ioffice".to_owned());
    let config = config();
    let answer = shown(StatusCode::OK, &endpoint, &config, None, &[]);
    let text = String::from_utf8(answer.body).unwrap();
    for hidden in ["s3cret", "whsec_"] {
        assert!(!text.contains(hidden), "{text}");
    }
    let body: Value = serde_json::from_str(&text).unwrap();
    for (field, expected) in [
        ("url", json!("https://example.com/in")),
        ("eventTypes", json!(["a"])),
        ("filterTypes", json!(["a"])),
        ("channels", Value::Null),
        ("basicAuth", json!({ "username": "zoe" })),
        ("headers", json!({ "X-Plain": "p" })),
        ("authHeaderNames", json!(["X-Whatever"])),
        ("profile", json!("ioffice")),
        ("method", json!("POST")),
        ("retry", Value::Null),
    ] {
        assert_eq!(body[field], expected, "{field}");
    }

    // An operator may take a profile away.
    endpoint.profile = Some("gone".to_owned());
    let body = serde_json::to_value(EndpointOut::new(&endpoint, &config, None)).unwrap();
    assert_eq!(
        (&body["profile"], &body["method"]),
        (&json!("gone"), &Value::Null)
    );
}
