//! Two servers that copy to the same place, because one has a copy of the other's directory, and a service at which they
//! would not notice each other.

use std::time::Duration;

use crate::begin;
use crate::books::USUAL;
use crate::process::{Server, until};
use crate::proxy::{Proxy, Trouble};
use crate::world::{Status, World, assert_whole, copy_directory, run, stop};

const WITHIN: Duration = Duration::from_secs(60);

#[test]
fn of_two_copies_of_a_store_one_is_copied_and_the_other_says_why_not() {
    let Some(service) = begin("shared") else {
        return;
    };
    let to = "s3://shared/copy";
    let world = World::new();
    let launches = ["one", "two"].map(|store| world.launch(store, to, service.address));
    let server = launches[0].start();
    let path = world.register(&server.api);
    world.books.publish_some(&server.api, &path, 20, USUAL);
    Status::wait_copied(&server.api);
    stop(server);
    let common = world.books.accepted();
    copy_directory(&world.path("one"), &world.path("two"));

    let servers = launches.each_ref().map(|launch| launch.start());
    let publish =
        |server: &Server, count| world.books.publish_some(&server.api, &path, count, USUAL);
    // By turns, so that both have something to copy all the time.
    let mut own = [Vec::new(), Vec::new()];
    for _ in 0..10 {
        for (server, own) in servers.iter().zip(&mut own) {
            own.extend(publish(server, 2));
        }
    }
    let is_failing = |server: &Server| Status::of(&server.api).failing.is_some();
    let loser = until(WITHIN, || servers.iter().position(is_failing))
        .expect("one of them says that it cannot copy");
    let winner = 1 - loser;
    // From here on the copy goes further than the other store.
    own[winner].extend(publish(&servers[winner], 50));
    Status::wait_copied(&servers[winner].api);
    let words = "the store has others in their place, or none";
    Status::wait_failing(&servers[loser].api, words);
    // It does not come back, however often it tries.
    Status::wait(&servers[loser].api, "it goes on to fail", |status| {
        assert!(status.failing.is_some(), "{status:?}");
        status.lag_seconds > 5.0
    });
    let log = servers[loser].api.log();
    assert_eq!(
        log.lines().filter(|line| line.contains(words)).count(),
        1,
        "{log}"
    );
    assert_eq!(Status::of(&servers[winner].api).failing, None);
    servers.into_iter().for_each(stop);
    // Nor does it after a start.
    let server = launches[loser].start();
    Status::wait(&server.api, "it fails again", |status| {
        assert_eq!(status.completed_at, None, "{status:?}");
        status
            .failing
            .as_ref()
            .is_some_and(|reason| reason.contains(words))
    });
    stop(server);

    assert_whole(&launches[winner]);
    let restored = world.start_restored(&launches[winner], to, "restored");
    let mut expected = common;
    let accepted = world.books.accepted();
    let with = |number: &u64| (*number, accepted[number].clone());
    expected.extend(own[winner].iter().map(with));
    let others = world.books.assert_has(&restored.api, &path, &expected);
    assert!(
        others.is_empty(),
        "messages of the other server: {others:?}"
    );
    world.books.assert_all_is_right();
}

#[test]
fn a_service_at_which_two_servers_would_not_notice_each_other_is_refused() {
    let Some(service) = begin("careless") else {
        return;
    };
    let world = World::new();
    let proxy = Proxy::start(service.address);
    proxy.begin(Trouble::Unconditional);
    let launch = world.launch("data", "s3://careless/copy", proxy.address);
    let server = launch.start();
    let path = world.register(&server.api);
    let words = "the service writes over objects although it is asked not to";
    let reason = Status::wait_failing(&server.api, words);
    assert!(reason.starts_with("s3://careless/copy/"), "{reason}");
    let numbers = world.books.publish_some(&server.api, &path, 5, USUAL);
    assert!(world.books.arrive(&numbers), "{}", server.api.log());
    let ended = run(&launch, &["backup"]);
    assert!(
        ended.code == Some(1) && ended.said.contains(words),
        "{}",
        ended.said
    );
    let names = service.objects("careless");
    let is_copy = |name: &String| name.contains("manifest-") || name.contains("piece-");
    assert!(!names.keys().any(is_copy), "{:?}", names.keys());

    proxy.begin(Trouble::None);
    Status::wait_copied(&server.api);
    stop(server);
    assert_whole(&launch);
    let left = service.objects("careless");
    let left = left.keys().filter(|name| name.contains("probe-"));
    assert_eq!(left.count(), 0);
}
