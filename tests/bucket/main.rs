//! The copy in a bucket of S3, with the real binary and a real service.
//!
//! `postrider` speaks to moto's server, which speaks S3 on loopback, straight or through a proxy that answers
//! 503, is slow, cuts connections and refuses them. What the bucket has is read by plain HTTP beside it. A
//! folder on a disk that is full is here, too.
//!
//! `tests/bucket/prepare` installs moto under `target/bucket`: skipped with a loud line where that was not
//! done, a failure under `CI=true`. The full disk needs root, and is skipped in the same way.

#[path = "../process/mod.rs"]
mod process;

mod access;
mod away;
mod books;
mod content;
mod full;
mod load;
mod proxy;
mod service;
mod world;
mod writers;

use books::USUAL;
use load::{Load, Next};
use process::can_run;
use service::Service;
use world::{AHEAD, Status, World, assert_whole, stop};

/// Makes a bucket of this name at the service that all tests share. None where nothing can be proven here.
fn begin(bucket: &str) -> Option<&'static Service> {
    if !can_run("bucket", service::missing()) {
        return None;
    }
    let service = service::shared();
    service.create_bucket(bucket);
    Some(service)
}

#[test]
fn after_a_loss_everything_comes_back_that_was_copied() {
    let Some(service) = begin("lost") else { return };
    let to = "s3://lost/a/prefix";
    let mut world = World::new();
    let server = world.launch("data", to, service.address).start();
    let path = world.register(&server.api);
    world.books.publish_some(&server.api, &path, 20, USUAL);
    // A stop copies the end.
    stop(server);
    world.turn_clock();
    let launch = world.launch("data", to, service.address);
    let mut server = launch.start();
    let api = server.api.clone();
    let load = Load::start(&world.books, &api, &path, 3, Next::AtOnce);
    // Under load, so that the last completed copy is one of a part.
    for _ in 0..4 {
        Status::wait_run(&api);
    }
    let last = Status::of(&api);
    load.end_comes();
    server.process.kill();
    drop(load);
    world.books.assert_all_is_right();

    let until = last.copied_until.expect("a run has completed") - AHEAD;
    let copied = world.books.accepted_before(until);
    let accepted = world.books.accepted().len();
    assert!(
        copied.len() > 100,
        "{} of {accepted} were copied, until {until}",
        copied.len()
    );
    assert_whole(&launch);
    let names = service.objects("lost");
    for kind in [
        "segment-",
        "piece-",
        "checkpoint-",
        "sealed-",
        "index-",
        "manifest-",
    ] {
        let has_it = names
            .keys()
            .any(|name| name.starts_with("a/prefix/") && name.contains(kind));
        assert!(has_it, "no {kind} in {:?}", names.keys());
    }

    let restored = world.start_restored(&launch, to, "restored");
    world.books.assert_has(&restored.api, &path, &copied);
    let numbers = Vec::from_iter(copied.keys().copied());
    assert!(
        world.books.arrive(&numbers),
        "not all arrive: {}",
        restored.api.log()
    );
    let next = world.books.publish_some(&restored.api, &path, 1, USUAL);
    assert!(
        world.books.arrive(&next),
        "nothing new arrives: {}",
        restored.api.log()
    );
    world.books.assert_all_is_right();
}
