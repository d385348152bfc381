//! A bucket that refuses, is not there, or keeps everything.

use crate::begin;
use crate::books::USUAL;
use crate::process::{Api, Launch, can_run};
use crate::service::{self, Credentials, Service};
use crate::world::{Status, World, assert_whole, run, stop};

const SECRET: &str = "open-sesame-0123456789";

#[test]
fn wrong_credentials_are_told_without_the_secret() {
    if !can_run("bucket", service::missing()) {
        return;
    }
    let service = Service::start();
    service.create_bucket("guarded");
    let right = service.check_signatures();
    let to = "s3://guarded/copy";
    let wrong_secret = Credentials {
        id: right.id.clone(),
        secret: SECRET.to_owned(),
    };
    let wrong_id = Credentials {
        id: "nobody".to_owned(),
        secret: SECRET.to_owned(),
    };
    for (store, credentials, code) in [
        ("one", &wrong_secret, "SignatureDoesNotMatch"),
        ("two", &wrong_id, "InvalidAccessKeyId"),
    ] {
        let world = World::new();
        let launch = world.launch_with(store, to, service.address, credentials);
        let words = format!("access is refused (answers 403 {code}): check the credentials");
        assert_told(&world, &launch, &words);
    }
    // These would have been enough.
    let world = World::new();
    let launch = world.launch_with("three", to, service.address, &right);
    let server = launch.start();
    Status::wait_copied(&server.api);
    stop(server);
    assert_whole(&launch);
}

#[test]
fn a_bucket_that_is_not_there_is_told_and_used_once_it_is() {
    let Some(service) = begin("beside") else {
        return;
    };
    let world = World::new();
    let launch = world.launch("data", "s3://missing/copy", service.address);
    assert_told(
        &world,
        &launch,
        "there is no such bucket: create it, or correct its name",
    );
    let server = launch.start();
    Status::wait_failing(&server.api, "there is no such bucket");
    service.create_bucket("missing");
    Status::wait_copied(&server.api);
    stop(server);
    assert_whole(&launch);
}

/// The server goes on; its status, its log and the command say why nothing is copied, in one line each.
fn assert_told(world: &World, launch: &Launch, words: &str) {
    let server = launch.start();
    let path = world.register(&server.api);
    let reason = Status::wait_failing(&server.api, words);
    let numbers = world.books.publish_some(&server.api, &path, 5, USUAL);
    assert!(world.books.arrive(&numbers), "{}", server.api.log());
    // A second failure, of which the log says nothing more.
    Status::wait(&server.api, "runs go on to fail", |status| {
        status.lag_seconds > 2.0
    });
    assert_one_line(&server.api.log(), words);
    assert!(
        !reason.contains('\n') && !reason.contains(SECRET),
        "{reason}"
    );
    assert_no_secret(&server.api);
    let ended = run(launch, &["backup"]);
    assert_eq!(ended.code, Some(1), "{}", ended.said);
    assert_one_line(&ended.said, words);
    assert_eq!(ended.said.trim().lines().count(), 1, "{}", ended.said);
    stop(server);
    world.books.assert_all_is_right();
}

fn assert_one_line(text: &str, words: &str) {
    let lines = text.lines().filter(|line| line.contains(words));
    assert_eq!(lines.count(), 1, "{words}: {text}");
    assert!(!text.contains(SECRET), "{text}");
}

fn assert_no_secret(api: &Api) {
    let status = api.get("/api/v1/status").to_string();
    assert!(!status.contains(SECRET), "{status}");
}

#[test]
fn a_bucket_that_keeps_versions_is_told() {
    let Some(service) = begin("kept") else { return };
    service.keep_versions("kept");
    let world = World::new();
    let launch = world.launch("data", "s3://kept/copy", service.address);
    let server = launch.start();
    let path = world.register(&server.api);
    world.books.publish_some(&server.api, &path, 5, USUAL);
    let status = Status::wait_copied(&server.api);
    assert!(status.keeps_versions, "{status:?}");
    stop(server);
    let ended = run(&launch, &["backup"]);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    let said = [
        "keeps older versions of objects",
        "not in postrider's hands",
    ];
    assert!(
        said.iter().all(|words| ended.said.contains(words)),
        "{}",
        ended.said
    );
    assert_whole(&launch);
}
