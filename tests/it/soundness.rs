//! After all that can happen, every record is sound and everything adds up; and damage is named.

use std::os::unix::fs::FileExt;
use std::time::Duration;

use postrider::clock::Clock;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{
    Receiver, Script, Server, copy_directory, rot_in_journal, verify, wait_until,
};

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
    let mut settings = postrider::store::StoreSettings::from_config(server.config());
    let whole = server.stopped().await;
    let file = whole.path().join("data/journal/0000000000000000.segment");
    let bytes = std::fs::read(&file).expect("it is there");
    let windows = bytes.windows(marker.len()).enumerate();
    let places: Vec<usize> = windows
        .filter(|(_, window)| *window == marker.as_bytes())
        .map(|(at, _)| at)
        .collect();
    assert!(places.len() >= 300, "payloads lie in the file as they are");
    for at in places.iter().step_by(places.len() / 12) {
        let copy = tempfile::tempdir().expect("a temporary directory");
        settings.path = copy.path().join("data");
        copy_directory(&whole.path().join("data"), &settings.path);
        let file = settings.path.join("journal/0000000000000000.segment");
        let opened = std::fs::OpenOptions::new().write(true).open(&file);
        let opened = opened.expect("it is there");
        opened
            .write_at(b"AN", *at as u64)
            .expect("it can be written");
        let report = verify(&settings, &Clock::System).await;
        let problems = &report.problems;
        assert!(!problems.is_empty(), "byte {at} is not noticed");
        let is_told = |problem: &String| {
            problem.contains("slice 1") && problem.contains("0000000000000000.segment is damaged")
        };
        assert!(problems.iter().all(is_told), "{problems:?}");
    }
}

/// Runs `more` and takes a copy of the data as if the process had died before anything of it reached the
/// live database.
async fn died_before_a_checkpoint(server: &Server, more: impl AsyncFnOnce(&Server)) -> TempDir {
    let before = server.copied().await;
    more(server).await;
    let directory = server.copied().await;
    let live = directory.path().join("data/live");
    std::fs::remove_dir_all(&live).expect("it was copied");
    std::fs::rename(before.path().join("data/live"), live).expect("it was copied");
    directory
}

/// Whoever looks after a crash finds all that was answered, and no damage.
#[actix_web::test]
async fn what_the_databases_lack_comes_from_the_journal() {
    let receiver = Receiver::ok().await;
    for attempts in [false, true] {
        let mut server = Server::start().await;
        server.leftovers_are_fine();
        server.endpoint(&receiver).await;
        let later = (server.now() + Duration::from_secs(60)).to_string();
        let body = json!({ "eventType": "a", "payload": {}, "deliverAt": later });
        server
            .post("/api/v1/app/app/msg", body.clone())
            .await
            .expect(202);
        let directory = died_before_a_checkpoint(&server, async |server| match attempts {
            true => {
                server.advance(Duration::from_secs(60));
                server.settle().await;
            }
            false => drop(server.post("/api/v1/app/app/msg", body).await.expect(202)),
        })
        .await;
        let settings = |path: &std::path::Path| {
            let mut settings = postrider::store::StoreSettings::from_config(server.config());
            settings.path = path.join("data");
            settings
        };
        let copy = tempfile::tempdir().expect("a temporary directory");
        copy_directory(directory.path(), copy.path());
        let at_once = verify(&settings(copy.path()), &Clock::System).await;
        assert_eq!(at_once.problems, [""; 0]);
        let accepted = if attempts { 1 } else { 2 };
        let messages = ("messages".to_owned(), accepted);
        assert!(at_once.counts.contains(&messages), "{:?}", at_once.counts);

        let mut next = Server::start_on(directory, &server).await;
        next.leftovers_are_fine();
        next.publish("b", json!({})).await;
        next.settle().await;
        let list = next.get("/api/v1/app/app/msg").await.expect(200);
        let listed = list["data"].as_array().map(Vec::len);
        assert_eq!(listed, Some(accepted as usize + 1));
        let counts = next.stop_and_verify().await;
        let messages = ("messages".to_owned(), accepted + 1);
        assert!(counts.contains(&messages), "{counts:?}");
    }
}

/// A message that waits in a damaged slice is sent as it was published, or the operator is told which
/// one is not; and what `verify-store` does not notice does no harm.
#[actix_web::test]
async fn what_waits_in_a_damaged_slice_is_sent_or_told() {
    const WAITING: usize = 30;
    let random = &mut StdRng::seed_from_u64(53);
    let receiver = Receiver::scripted([], Script::Status(500)).await;
    let mut server = Server::start_with(|config| config.store.slice_hours = 1).await;
    server.leftovers_are_fine();
    server.endpoint(&receiver).await;
    let later = (server.now() + Duration::from_secs(4 * 3600)).to_string();
    let mut messages = Vec::new();
    for number in 0..WAITING {
        let payload = json!({ "n": number, "x": "y".repeat(random.random_range(0..6_000)) });
        let body = json!({ "eventType": "a", "payload": payload, "deliverAt": later });
        let made = server.post("/api/v1/app/app/msg", body).await.expect(202);
        let id = made["id"].as_str().expect("an id").to_owned();
        messages.push((id, payload.to_string()));
    }
    server.advance(Duration::from_secs(3600));
    let body = json!({ "eventType": "b", "payload": {}, "deliverAt": later });
    server.post("/api/v1/app/app/msg", body).await.expect(202);
    let whole = server.after_a_crash().await.stopped().await;
    receiver.then(Script::Status(200));

    let (mut told, mut unnoticed) = (0, 0);
    for _ in 0..12 {
        let directory = tempfile::tempdir().expect("a temporary directory");
        copy_directory(whole.path(), directory.path());
        let name = "data/journal/0000000000000000.segment";
        let file = directory.path().join(name);
        let mut bytes = std::fs::read(&file).expect("it is there");
        // Within a payload: the rest of a record is looked at by a start, too.
        let at = loop {
            let at = random.random_range(0..bytes.len().min(200_000));
            if bytes[at..].starts_with(b"yyyy") {
                break at;
            }
        };
        bytes[at] ^= 1 << random.random_range(0..8);
        std::fs::write(&file, bytes).expect("room");
        let copy = tempfile::tempdir().expect("a temporary directory");
        copy_directory(directory.path(), copy.path());
        let mut settings = postrider::store::StoreSettings::from_config(server.config());
        settings.path = copy.path().join("data");
        let noticed = !verify(&settings, &Clock::System).await.problems.is_empty();

        let before = receiver.count();
        let mut next = Server::start_on(directory, &server).await;
        next.leftovers_are_fine();
        next.advance(Duration::from_secs(3 * 3600));
        next.settle().await;
        let requests = receiver.requests().split_off(before);
        let status = next.get("/api/v1/status").await.expect(200);
        let problems = status["problems"].to_string();
        let mut missing = 0;
        for (id, payload) in &messages {
            let mut of_it = requests
                .iter()
                .filter(|one| one.header("webhook-id") == Some(id));
            match of_it.next() {
                Some(request) => assert_eq!(request.body, payload.as_bytes(), "byte {at}"),
                None => {
                    missing += 1;
                    assert!(
                        problems.contains(id.as_str()),
                        "byte {at}: {id} is not told"
                    );
                }
            }
        }
        if missing > 0 {
            told += 1;
            assert!(
                noticed,
                "byte {at}: verify-store says nothing of {missing} messages"
            );
            let text = next.get("/metrics").await.text;
            assert!(!text.contains("postrider_store_problems 0"), "byte {at}");
            let health = next.get("/api/v1/health").await.expect(200);
            assert!(health["problem"].is_string(), "byte {at}");
            assert_eq!(next.store().waiting_count(), missing, "none is dropped");
        }
        unnoticed += u32::from(!noticed);
    }
    println!("12 flips: {told} cost a message, {unnoticed} lie where nothing is read");
    assert!(told > 0, "no flip hit a message");
}

/// The index of a slice is made from the journal, and can be made again at any time.
#[actix_web::test]
async fn an_index_that_is_damaged_or_missing_is_made_again() {
    let receiver = Receiver::ok().await;
    let server = Server::start_with(|config| config.store.slice_hours = 1).await;
    server.endpoint(&receiver).await;
    let payloads = (0..100).map(|number| json!({ "n": number }));
    server.publish_all("app", payloads).await;
    server.settle().await;
    server.advance(Duration::from_secs(3600));
    server.publish("b", json!({})).await;
    server.settle().await;
    wait_until("the first slice to have its index", || {
        server.store().filters_are_ready()
    })
    .await;
    let whole = server.copied().await;
    let index = "data/slices/00000001/index";
    let bytes = std::fs::read(whole.path().join(index)).expect("it was made");
    let read = async |server: &Server| {
        let list = server.get("/api/v1/app/app/msg?limit=250").await;
        let list = list.expect(200)["data"].clone();
        assert_eq!(list.as_array().map(Vec::len), Some(101));
        list
    };
    let expected = read(&server).await;
    for damage in 0..=5 {
        let copy = tempfile::tempdir().expect("a temporary directory");
        copy_directory(whole.path(), copy.path());
        let file = copy.path().join(index);
        match damage {
            0 => std::fs::remove_file(&file).expect("it was copied"),
            1 => std::fs::write(&file, &bytes[..bytes.len() / 2]).expect("room"),
            _ => {
                let mut bytes = bytes.clone();
                let at = bytes.len() * (damage - 2) / 4;
                bytes[at] ^= 1;
                std::fs::write(&file, bytes).expect("room");
            }
        }
        let server = Server::start_on(copy, &server).await;
        assert_eq!(read(&server).await, expected);
        let again = server.config().store.path.join("slices/00000001/index");
        assert_eq!(std::fs::read(again).expect("it is made again"), bytes);
        server.stop_and_verify().await;
    }
}

/// What stood in a file of the journal that is not there any more is told, and never taken for what never
/// was.
#[actix_web::test]
async fn a_missing_file_of_the_journal_is_told_where_something_in_it_is_asked_for() {
    let server = Server::start_with(|config| config.store.slice_hours = 1).await;
    server.application("app").await;
    let publish = async |server: &Server, key: &str| {
        let body = json!({ "eventType": "a", "payload": { "k": key } }).to_string();
        let headers = [("idempotency-key", key)];
        let path = "/api/v1/app/app/msg";
        server
            .call(awc::http::Method::POST, path, &headers, Some(body))
            .await
    };
    let lost = publish(&server, "lost").await.expect(202)["id"].clone();
    server.advance(Duration::from_secs(3600));
    let kept = publish(&server, "kept").await.expect(202)["id"].clone();
    // A start after this one needs nothing of the first file.
    let server = server.restart().await;
    wait_until("the first slice to have its index", || {
        server.store().filters_are_ready()
    })
    .await;
    for case in ["missing", "damaged", "missing, and the index"] {
        let copy = server.copied().await;
        let file = copy.path().join("data/journal/0000000000000000.segment");
        match case {
            "damaged" => {
                let opened = std::fs::OpenOptions::new().write(true).open(&file);
                let written = opened.expect("it was copied").write_at(b"?", 20);
                written.expect("it can be written");
            }
            _ => std::fs::remove_file(&file).expect("it was copied"),
        }
        if case.ends_with("index") {
            let index = copy.path().join("data/slices/00000001/index");
            std::fs::remove_file(index).expect("it was copied");
        }
        let server = Server::start_on(copy, &server).await;
        let path = |id: &serde_json::Value| {
            let id = id.as_str().expect("an id");
            format!("/api/v1/app/app/msg/{id}")
        };
        assert_eq!(server.get(&path(&lost)).await.status, 503);
        // The answer says that the log tells more: so do the status and the metrics.
        wait_until("the damage to be told", || {
            let told = server.store().unreadable_slices();
            told.len() == 1 && told[0].0 == 1
        })
        .await;
        let erased = server.delete(&format!("{}/content", path(&lost))).await;
        assert_eq!(erased.status, 503);
        assert_eq!(publish(&server, "lost").await.status, 503);
        let list = async |query: &str| server.get(&format!("/api/v1/app/app/msg?{query}")).await;
        // A list has what is newer, and says that there is more; who reads on is told what is missing.
        let page = list("").await.expect(200);
        assert_eq!(page["data"].as_array().map(Vec::len), Some(1));
        assert_eq!(
            (&page["data"][0]["id"], &page["done"]),
            (&kept, &json!(false))
        );
        let iterator = page["iterator"].as_str().expect("there is more");
        let next = list(&format!("iterator={iterator}")).await;
        assert_eq!(next.status, 503);
        let told = next.json();
        assert_eq!(told["code"], "history_unreadable");
        let told = told["detail"].as_str().expect("a sentence");
        let time_behind = |name: &str| {
            let behind = told.split_once(name).expect("it tells a time").1;
            let end = behind.find('Z').expect("in UTC") + 1;
            behind[..end].to_owned()
        };
        let (before, after) = (time_behind("before="), time_behind("after="));
        let older = list(&format!("before={before}")).await.expect(200);
        assert_eq!(older["data"], json!([]));
        let oldest_first = list("order=ascending").await;
        assert_eq!(oldest_first.status, 503);
        let newer = list(&format!("order=ascending&after={after}"))
            .await
            .expect(200);
        assert_eq!(newer["data"].as_array().map(Vec::len), Some(1));
        assert_eq!(
            (&newer["data"][0]["id"], &newer["done"]),
            (&kept, &json!(true))
        );
        server.get(&path(&kept)).await.expect(200);
        publish(&server, "new").await.expect(202);
        let again = publish(&server, "kept").await;
        assert_eq!(again.expect(202)["id"], kept);
        server.stopped().await;
    }
}

/// What was delivered is shown, also where the message itself rots.
#[actix_web::test]
async fn an_attempt_is_shown_without_its_message_where_that_cannot_be_read() {
    let receiver = Receiver::ok().await;
    let server = Server::start().await;
    let endpoint = server.endpoint(&receiver).await;
    for event_type in ["fresh.event", "rotten.event"] {
        let body = json!({ "eventType": event_type, "payload": {} });
        server.post("/api/v1/app/app/msg", body).await.expect(202);
        server.settle().await;
    }
    let copy = server.copied().await;
    rot_in_journal(copy.path(), b"rotten.event");

    let mut server = Server::start_on(copy, &server).await;
    server.leftovers_are_fine();
    let path = format!("/api/v1/app/app/attempt/endpoint/{endpoint}?with_msg=true");
    let list = server.get(&path).await.expect(200);
    let attempts = list["data"].as_array().expect("a list");
    assert_eq!(attempts.len(), 2);
    assert!(attempts[0]["msg"].is_null(), "{list}");
    assert_eq!(attempts[1]["msg"]["eventType"], "fresh.event");
    wait_until("the damage to be told", || {
        !server.store().unreadable_slices().is_empty()
    })
    .await;
}
