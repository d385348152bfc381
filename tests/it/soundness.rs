//! After all that can happen, every record is sound and everything adds up; and damage is named.

use std::os::unix::fs::FileExt;
use std::time::Duration;

use postrider::clock::Clock;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::json;

use crate::support::{Receiver, Script, Server, copy_directory, verify, wait_until};

/// A customer as the test knows it.
struct Known {
    application: String,
    endpoints: Vec<String>,
    messages: Vec<String>,
}

/// Does something that a day may bring.
async fn something(
    server: &Server,
    receiver: &Receiver,
    random: &mut StdRng,
    all: &mut Vec<Known>,
) {
    let place = random.random_range(0..all.len());
    let known = &mut all[place];
    let app = known.application.clone();
    let endpoint = known.endpoints.choose(random).cloned();
    let message = known.messages.choose(random).cloned();
    match random.random_range(0..20) {
        0..6 => {
            let length = if random.random_bool(0.2) { 9_000 } else { 10 };
            let payloads = vec![json!({ "x": "y".repeat(length) }); random.random_range(1..6)];
            known
                .messages
                .extend(server.publish_all(&app, payloads).await);
        }
        6..8 => receiver.then(Script::Status(
            *[200, 200, 500, 503].choose(random).unwrap(),
        )),
        8..12 => {
            let seconds = *[0, 1, 5, 300, 1_800, 20_000].choose(random).unwrap();
            server.advance(Duration::from_secs(seconds));
        }
        12 => server.settle().await,
        13..15 => {
            if let Some(endpoint) = endpoint {
                server.set_disabled(&app, &endpoint, random.random()).await;
            }
        }
        15..17 => {
            if let (Some(endpoint), Some(message)) = (endpoint, message) {
                let path = format!("/api/v1/app/{app}/msg/{message}/endpoint/{endpoint}/resend");
                for _ in 0..random.random_range(1..4) {
                    // The message may be older than the retention time.
                    let answer = server.post(&path, json!({})).await;
                    assert!([202, 404].contains(&answer.status), "{}", answer.text);
                    server.advance(Duration::from_millis(1));
                }
            }
        }
        17 => {
            if known.endpoints.len() < 4 {
                let body = json!({ "url": receiver.url() });
                known.endpoints.push(server.endpoint_of(&app, body).await);
            } else {
                let endpoint = known.endpoints.swap_remove(random.random_range(0..4));
                let path = format!("/api/v1/app/{app}/endpoint/{endpoint}");
                server.delete(&path).await.expect(204);
            }
        }
        18 => server.prune().await,
        _ => {
            if all.len() > 2 && random.random_bool(0.3) {
                let known = all.swap_remove(place);
                let path = format!("/api/v1/app/{}", known.application);
                server.delete(&path).await.expect(204);
            }
        }
    }
}

async fn a_random_life(seed: u64) {
    let random = &mut StdRng::seed_from_u64(seed);
    let receiver = Receiver::ok().await;
    let mut server = Server::start_with(|config| {
        config.store.slice_hours = 2;
        config.store.retention_days = 1;
        config.delivery.jitter = *[0.0, 0.2].choose(random).unwrap();
    })
    .await;
    let mut all = Vec::new();
    for number in 0..4 {
        let application = format!("customer-{number}");
        let body = json!({ "url": receiver.url() });
        let endpoints = vec![server.endpoint_of(&application, body).await];
        all.push(Known {
            application,
            endpoints,
            messages: Vec::new(),
        });
    }
    for step in 0..120 {
        something(&server, &receiver, random, &mut all).await;
        if step % 30 == 29 {
            server.settle().await;
            server = match random.random() {
                true => server.restart().await,
                false => {
                    let next = server.after_a_crash().await;
                    server.leftovers_are_fine();
                    next
                }
            };
        }
    }
    server.settle().await;
    // With something waiting or not: what is there is what was counted.
    let waiting = server.store().waiting_count();
    let mut server = {
        let settings = server.config().clone();
        server.restart_with(|config| *config = settings).await
    };
    server.leftovers_are_fine();
    assert_eq!(server.store().waiting_count(), waiting, "seed {seed}");

    // In the end everything is delivered or given up.
    receiver.then(Script::Status(200));
    for known in &all {
        for endpoint in &known.endpoints {
            server
                .set_disabled(&known.application, endpoint, false)
                .await;
        }
    }
    for _ in 0..12 {
        server.settle().await;
        server.advance(Duration::from_secs(40_000));
    }
    wait_until(&format!("nothing to wait, seed {seed}"), || {
        server.store().waiting_count() == 0
    })
    .await;
    let counts = server.stop_and_verify().await;
    assert!(counts.contains(&("waiting deliveries".to_owned(), 0)));
}

#[actix_web::test]
async fn a_random_life_adds_up_1() {
    a_random_life(1).await;
}

#[actix_web::test]
async fn a_random_life_adds_up_2() {
    a_random_life(2).await;
}

#[actix_web::test]
async fn a_random_life_adds_up_3() {
    a_random_life(3).await;
}

#[actix_web::test]
async fn a_store_with_something_waiting_is_sound() {
    let receiver = Receiver::scripted([], Script::Status(500)).await;
    let mut server = Server::start().await;
    server.leftovers_are_fine();
    server.endpoint(&receiver).await;
    let held = server.endpoint(&receiver).await;
    server.set_disabled("app", &held, true).await;
    server
        .publish_all("app", vec![json!({ "x": "y".repeat(5_000) }); 30])
        .await;
    server.settle().await;
    let counts = server.stop_and_verify().await;
    for (kind, count) in [
        // The organisation, its owner's token, the application, two endpoints.
        ("registrations", 5),
        ("waiting deliveries", 60),
        ("slices", 1),
        ("messages", 30),
        ("attempts", 30),
    ] {
        assert!(counts.contains(&(kind.to_owned(), count)), "{counts:?}");
    }
}

/// Bits that rot where a payload lies: what does not fit is named, and nothing panics.
#[actix_web::test]
async fn damage_in_history_is_named() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    server.endpoint(&receiver).await;
    let marker = "an unmistakable payload";
    let payloads = vec![json!({ "x": marker }); 300];
    server.publish_all("app", payloads).await;
    server.settle().await;
    let mut settings = postrider::store::Settings::from_config(server.config());
    let whole = server.stopped().await;
    let file = whole.path().join("data/slices/00000001/db");
    let bytes = std::fs::read(&file).expect("it is there");
    let windows = bytes.windows(marker.len()).enumerate();
    let places: Vec<usize> = windows
        .filter(|(_, window)| *window == marker.as_bytes())
        .map(|(at, _)| at)
        .collect();
    assert!(places.len() >= 300, "payloads lie in the file as they are");
    let mut named = 0;
    for at in places.iter().step_by(places.len() / 12) {
        let copy = tempfile::tempdir().expect("a temporary directory");
        settings.path = copy.path().join("data");
        copy_directory(&whole.path().join("data"), &settings.path);
        let file = settings.path.join("slices/00000001/db");
        let opened = std::fs::OpenOptions::new().write(true).open(&file);
        let opened = opened.expect("it is there");
        opened
            .write_at(b"AN", *at as u64)
            .expect("it can be written");
        let report = verify(&settings, &Clock::System).await;
        named += usize::from(!report.problems.is_empty());
        let of_slice = |problem: &String| problem.contains("slice 1");
        assert!(
            report.problems.iter().all(of_slice),
            "{:?}",
            report.problems
        );
    }
    // Some of the file is not in use any more.
    assert!(named > 0, "nothing was noticed");
}
