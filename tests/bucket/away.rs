//! A bucket that is away, slow, or reached over a line that breaks.

use std::time::Duration;

use crate::begin;
use crate::load::{Load, Next};
use crate::process::{Api, Launch, until};
use crate::proxy::{Proxy, Trouble};
use crate::world::{Status, World, assert_whole, run, stop};

/// Longer than the rests between runs that fail.
const WITHIN: Duration = Duration::from_secs(60);
/// More than one part of an object has, in messages of this length.
const LARGE: usize = 200_000;
const LARGE_COUNT: usize = 50;
/// Between two messages of a client.
const PAUSE: Duration = Duration::from_millis(20);

#[test]
fn a_bucket_in_trouble_holds_up_nothing_and_is_caught_up_with() {
    let Some(service) = begin("away") else { return };
    let to = "s3://away/copy";
    let world = World::new();
    let proxy = Proxy::start(service.address);
    let launch = world
        .launch("data", to, proxy.address)
        .set("store.slice_bytes", 64 << 20);
    let server = launch.start();
    let api = server.api.clone();
    let path = world.register(&api);
    Status::wait_copied(&api);
    let next = Next::OnceArrivedAndAfter(PAUSE);
    let load = Load::start(&world.books, &api, &path, 2, next);
    Status::wait_run(&api);

    proxy.begin(Trouble::Unavailable);
    Status::wait_failing(&api, "cannot be reached (answers 503 SlowDown)");
    assert_lag_grows(&api);
    assert_arrivals_go_on(&world, &api);

    // It takes longer, and is no failure.
    proxy.begin(Trouble::Slow);
    Status::wait_run(&api);
    let status = Status::of(&api);
    assert!(proxy.met("") > 0 && status.failing.is_none(), "{status:?}");
    assert_arrivals_go_on(&world, &api);

    // A run that fails is followed by one that begins anew, and reads what is there.
    proxy.begin(Trouble::Cut);
    wait_met(&api, || proxy.met("GET ") >= 3);
    Status::wait_failing(&api, "the connection broke");
    assert_arrivals_go_on(&world, &api);
    assert_goes_on(&proxy, &api);

    proxy.begin(Trouble::CutUploads);
    let large = world.books.publish_some(&api, &path, LARGE_COUNT, LARGE);
    // A part of an object that has several.
    wait_met(&api, || proxy.met("partNumber=") >= 3);
    Status::wait_failing(&api, "the connection broke");
    assert!(world.books.arrive(&large), "{}", api.log());
    assert_goes_on(&proxy, &api);

    proxy.begin(Trouble::Refused);
    Status::wait_failing(&api, "no connection");
    assert_lag_grows(&api);
    assert_arrivals_go_on(&world, &api);
    assert_goes_on(&proxy, &api);

    // Every second answer is lost, and each request is made again.
    proxy.begin(Trouble::CutAnswers);
    for _ in 0..2 {
        Status::wait_run(&api);
    }
    assert!(
        proxy.met("") >= 2 && Status::of(&api).failing.is_none(),
        "{}",
        api.log()
    );

    proxy.begin(Trouble::None);
    drop(load);
    Status::wait_copied(&api);
    world.books.assert_all_is_right();
    let log = api.log();
    assert!(log.contains("goes on"), "{log}");
    stop(server);
    assert_whole(&launch);
    restore_over_a_bad_line(&world, &proxy, &launch, to, &path);
}

fn restore_over_a_bad_line(world: &World, proxy: &Proxy, launch: &Launch, to: &str, path: &str) {
    proxy.begin(Trouble::Cut);
    let ended = world.restore(launch, to, "restored");
    assert!(
        ended.code == Some(1) && ended.said.contains("the connection broke"),
        "{}",
        ended.said
    );
    let ended = run(launch, &["verify-backup"]);
    assert!(
        ended.code == Some(1) && ended.said.contains("the connection broke"),
        "{}",
        ended.said
    );
    proxy.begin(Trouble::CutAnswers);
    let restored = world.start_restored(launch, to, "restored");
    assert!(proxy.met("") > 0);
    let accepted = world.books.accepted();
    world.books.assert_has(&restored.api, path, &accepted);
}

/// The oldest commit that is not copied becomes older.
fn assert_lag_grows(api: &Api) {
    let first = Status::wait(api, "the copy is behind", |status| status.lag_seconds > 0.0);
    Status::wait(api, "the lag grows", |status| {
        status.lag_seconds > first.lag_seconds + 1.0
    });
}

/// Without trouble a run completes, though not with everything: the load goes on.
fn assert_goes_on(proxy: &Proxy, api: &Api) {
    proxy.begin(Trouble::None);
    Status::wait_run(api);
    assert_eq!(Status::of(api).failing, None);
}

/// Messages that are published from now on arrive.
fn assert_arrivals_go_on(world: &World, api: &Api) {
    let before = world.books.arrived();
    let more = until(WITHIN, || {
        (world.books.arrived() > before + 20).then_some(())
    });
    assert!(more.is_some(), "nothing arrives; {}", api.log());
    world.books.assert_all_is_right();
}

fn wait_met(api: &Api, is_met: impl Fn() -> bool) {
    let met = until(WITHIN, || is_met().then_some(()));
    assert!(met.is_some(), "the trouble is not met; {}", api.log());
}
