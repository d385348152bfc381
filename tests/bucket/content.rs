//! What can be read in the bucket: nothing that was erased, and nothing at all where there is a key.

use serde_json::Value;

use crate::begin;
use crate::books::{IN_EVERY_ANSWER, IN_EVERY_PAYLOAD, USUAL};
use crate::process::Api;
use crate::service::Service;
use crate::world::{Status, World, assert_whole, run, stop};

const KEY: &str = "8d3f1c6a5b2e49f07786950413a2bcde8d3f1c6a5b2e49f07786950413a2bcd0";
const OTHER_KEY: &str = "0000000000000000000000000000000000000000000000000000000000000001";

#[test]
fn with_a_key_nobody_reads_the_bucket_and_only_the_key_restores_it() {
    let Some(service) = begin("sealed") else {
        return;
    };
    let to = "s3://sealed/copy";
    let world = World::new();
    let plain = world.launch("data", to, service.address);
    let launch = plain.clone().set("backup.key", KEY);
    let server = launch.start();
    let path = world.register(&server.api);
    let numbers = world.books.publish_some(&server.api, &path, 300, 5_000);
    assert!(world.books.arrive(&numbers), "{}", server.api.log());
    Status::wait_copied(&server.api);
    let secret = endpoint_secret(&server.api, &path);
    stop(server);
    assert!(service.objects("sealed").len() >= 4);
    for words in [IN_EVERY_PAYLOAD, IN_EVERY_ANSWER, &secret, "/hook", KEY] {
        assert_eq!(service.holding("sealed", words), [""; 0], "{words}");
    }

    let other = plain.clone().set("backup.key", OTHER_KEY);
    for (launch, words) in [
        (&plain, "is encrypted: set backup.key or backup.key_file"),
        (
            &other,
            "is encrypted with another key: set backup.key to the one that it was written with",
        ),
    ] {
        let refused = [
            world.restore(launch, to, "refused"),
            run(launch, &["verify-backup"]),
            run(launch, &["backup"]),
        ];
        for ended in refused {
            assert!(
                ended.code == Some(1) && ended.said.contains(words),
                "{}",
                ended.said
            );
            assert_eq!(ended.said.trim().lines().count(), 1, "{}", ended.said);
        }
        assert!(!world.path("refused").join("live").exists());
    }
    assert_whole(&launch);
    let restored = world.start_restored(&launch, to, "refused");
    world
        .books
        .assert_has(&restored.api, &path, &world.books.accepted());
}

fn endpoint_secret(api: &Api, path: &str) -> String {
    let endpoints = path
        .strip_suffix("msg")
        .expect("the path of messages")
        .to_owned()
        + "endpoint";
    let all = api.get(&endpoints);
    let id = all["data"][0]["id"].as_str().expect("there is one");
    let secret = api.get(&format!("{endpoints}/{id}/secret"));
    secret["key"].as_str().expect("it has one").to_owned()
}

#[test]
fn what_is_erased_is_gone_from_the_bucket_after_the_next_run() {
    let Some(service) = begin("erased") else {
        return;
    };
    let to = "s3://erased/copy";
    let mut world = World::new();
    let server = world.launch("data", to, service.address).start();
    let path = world.register(&server.api);
    let mut numbers = world.books.publish_some(&server.api, &path, 20, USUAL);
    stop(server);
    world.turn_clock();
    let launch = world.launch("data", to, service.address);
    let server = launch.start();
    let api = server.api.clone();
    numbers.extend(world.books.publish_some(&api, &path, 20, USUAL));
    assert!(world.books.arrive(&numbers), "{}", api.log());
    let status = Status::wait_copied(&api);
    assert!(!status.keeps_versions);
    // One in a segment that is sealed, and one in that which is appended to.
    let accepted = world.books.accepted();
    let (first, last) = (numbers[0], numbers[numbers.len() - 1]);
    assert_is_in(service, &world.books.payload(first), "/segment-");
    assert_is_in(service, &world.books.payload(last), "/piece-");
    for number in [first, last] {
        let content = format!("{path}/{}/content", accepted[&number].id);
        api.call("DELETE", &content, &Value::Null, 204);
    }
    let status = Status::wait_copied(&api);
    assert_eq!(status.still_to_erase, 0);
    for number in [first, last] {
        let payload = world.books.payload(number);
        for part in [&payload, &payload[200..240], &payload[payload.len() - 40..]] {
            assert_eq!(service.holding("erased", part), [""; 0], "{part}");
        }
    }
    stop(server);
    assert_whole(&launch);
    let mut left = accepted;
    left.retain(|number, _| ![first, last].contains(number));
    let restored = world.start_restored(&launch, to, "restored");
    world.books.assert_has(&restored.api, &path, &left);
}

fn assert_is_in(service: &Service, payload: &str, kind: &str) {
    let holding = service.holding("erased", payload);
    assert!(
        holding.len() == 1 && holding[0].contains(kind),
        "{kind}: {holding:?}"
    );
}
