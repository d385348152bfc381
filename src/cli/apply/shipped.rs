//! The files of `examples/`: they are accepted, and they agree with the documents of those systems.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::file::{Fields, Thing, parse};
use crate::config;
use crate::domain::event_type::name_problem;
use crate::domain::secret::Secret;

const EXAMPLES: [&str; 5] = ["ovcode", "ocrolus", "ovation", "ioffice", "okhi"];

fn shipped(file: &str) -> String {
    let path = format!("{}/examples/{file}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn things(name: &str) -> Vec<Thing> {
    parse(&shipped(&format!("{name}/catalogue.toml")))
        .unwrap_or_else(|problems| panic!("{name}: {problems:?}"))
}

fn body(thing: &Thing) -> Value {
    serde_json::to_value(&thing.body).unwrap()
}

#[test]
fn the_shipped_catalogues_are_whole() {
    for (name, count_expected) in EXAMPLES.into_iter().zip([2, 4, 7, 4, 2]) {
        let things = things(name);
        let count = |kind: &str| {
            let is_one = |thing: &&Thing| thing.title.starts_with(kind);
            things.iter().filter(is_one).count()
        };
        // `examples/try` relies on it.
        assert_eq!((count("application"), count("endpoint")), (1, 1), "{name}");
        let events: Vec<&Thing> = things
            .iter()
            .filter(|thing| thing.title.starts_with("event type"))
            .collect();
        assert_eq!(events.len(), count_expected, "{name}");
        for event in &events {
            let body = body(event);
            assert!(body["example"].is_object(), "{name}: {}", event.title);
            assert_ne!(body["description"], "", "{name}: {}", event.title);
        }
        let endpoint = body(things.last().unwrap());
        let url = endpoint["url"].as_str().unwrap();
        assert!(url.starts_with("http://127.0.0.1:9000/"), "{url}");
        for wanted in endpoint["eventTypes"].as_array().unwrap() {
            let title = format!("event type {}", wanted.as_str().unwrap());
            assert!(events.iter().any(|event| event.title == title), "{title}");
        }
    }
}

#[test]
fn what_an_example_publishes_is_an_example_of_its_catalogue() {
    for name in EXAMPLES {
        let things = things(name);
        let message: Fields =
            serde_json::from_str(&shipped(&format!("{name}/message.json"))).unwrap();
        let event_type: String = serde_json::from_str(message["eventType"].get()).unwrap();
        let title = format!("event type {event_type}");
        let event = things.iter().find(|thing| thing.title == title).unwrap();
        assert_eq!(message["payload"].get(), event.body["example"].get());
    }
}

#[test]
fn the_settings_of_an_example_name_its_profile() {
    for name in EXAMPLES {
        let path = format!("{}/examples/{name}/config.toml", env!("CARGO_MANIFEST_DIR"));
        let config = config::load(Some(path.as_ref()), Default::default()).unwrap();
        assert_eq!(config.delivery.default_profile, name);
        let secret_form = config.profile(None).unwrap().secret_form();
        let things = things(name);
        let endpoint = body(things.last().unwrap());
        let secret = endpoint["secret"].as_str().unwrap();
        assert!(Secret::parse(secret, secret_form).is_ok());
    }
}

#[test]
fn ovcodes_example_is_what_its_document_prints() {
    let things = things("ovcode");
    assert_eq!(
        body(&things[0])["example"],
        json!({
            "reference": "F-95ad51b6-a10a-49b0-b131-84752e2b422d",
            "status_code": "S",
            "cid": "QmdsF6eSo47eLwnHC3ChdefJC1vHaLZSKppVSVMoaYDN78",
            "token_id": 1,
            "hash": "47e795f5a9f9e091e2df10c692fcfe6c0af9e8206c160b2d6f1ea16f7df54057",
            "file": "https://msovcode.blob.core.windows.net/encryption-test/Example.pdf",
            "timestamp": "2024-05-31 09:04:53.0",
        })
    );
    assert_eq!(body(&things[1])["example"]["status_code"], "F");
}

#[test]
fn ioffices_entities_begin_with_agreement_and_are_some_140() {
    let things = things("ioffice");
    let names = |thing: &Thing| body(thing)["channels"].as_array().unwrap().clone();
    let entities = names(&things[0]);
    assert_eq!(entities.len(), 140);
    assert_eq!(entities[0], "Agreement");
    let distinct: BTreeSet<&str> = entities.iter().filter_map(Value::as_str).collect();
    assert_eq!(distinct.len(), entities.len());
    for name in &distinct {
        assert_eq!(name_problem(name, 128), None, "{name}");
    }
    for wanted in names(things.last().unwrap()) {
        assert!(entities.contains(&wanted), "{wanted}");
    }
    assert_eq!(
        body(&things[0])["example"],
        json!({"eventType": "CREATE", "entityType": "Agreement", "entityId": 25})
    );
}
