//! Cuts right after a start that followed a kill, and one that followed a sync that failed: what the start
//! found may never have come to the disk.

use std::sync::Mutex;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;

use super::begin;
use super::disk::Disk;
use super::hold::{At, Hold, end_held};
use super::process::ledger::End;
use super::process::{Api, at_random_moment, say, until};
use super::world::World;

const PUBLISHERS: u64 = 8;
/// How soon after the ready line the power is cut.
const CUT_WITHIN: Duration = Duration::from_millis(50);

/// Messages with keys whose answers did not come, so that they are published again.
type Unanswered = Mutex<Vec<u64>>;

#[test]
fn cuts_soon_after_a_start_that_followed_a_kill() {
    let Some(mut random) = begin("power_cut, kills") else {
        return;
    };
    let mut world = World::new(&mut random);
    let plain = world.launch.clone();
    // Held with a record that is written and not synced.
    let hold = Hold {
        of: vec![world.data().join("journal/0000000000000000.segment")],
        at: At::Begin,
        lasts: Duration::from_millis(60),
    };
    let words = hold.words();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let held = plain.clone().under(&words);
    for after in moments(&mut random) {
        let (mut server, path) = world.start(&held);
        let unanswered = Unanswered::default();
        let end = End::by_kill();
        std::thread::scope(|scope| {
            for _ in 0..PUBLISHERS {
                scope.spawn(|| publish_with_keys(&world, &server.api, &path, &end, &unanswered));
            }
            let accepted = world.ledger.accepted();
            world
                .ledger
                .wait_accepted(accepted + 30, Duration::from_secs(60));
            let written = hold.wait(
                &mut server.process,
                |_| false,
                |stand| stand.is_of("store-committer"),
            );
            end.comes();
            let is_held = written.is_some();
            end_held(&mut server.process, written);
            assert!(is_held, "{}", server.process.log());
        });
        world.next_life();
        restart_and_cut(&mut world, unanswered, after);
    }
    say(&format!("power_cut, kills: {}", world.account()));
    world.expect_load();
}

#[test]
fn a_cut_soon_after_a_start_that_followed_a_failed_sync() {
    let Some(mut random) = begin("power_cut, failed sync") else {
        return;
    };
    let mut world = World::on(&mut random, Disk::create_breakable);
    let launch = world.launch.clone();
    for after in moments(&mut random) {
        let (mut server, path) = world.start(&launch);
        let unanswered = Unanswered::default();
        let end = End::by_kill();
        std::thread::scope(|scope| {
            for _ in 0..PUBLISHERS {
                scope.spawn(|| publish_with_keys(&world, &server.api, &path, &end, &unanswered));
            }
            let accepted = world.ledger.accepted();
            world
                .ledger
                .wait_accepted(accepted + 100, Duration::from_secs(60));
            end.comes();
            world.disk.break_down();
        });
        let status = server.process.wait(Duration::from_secs(60));
        let log = server.process.log();
        assert!(status.is_some_and(|status| !status.success()), "{log}");
        assert!(
            log.contains("storage failed") && log.contains("syncing"),
            "{log}"
        );
        world.disk.mend();
        world.next_life();
        restart_and_cut(&mut world, unanswered, after);
    }
    say(&format!("power_cut, failed sync: {}", world.account()));
    world.expect_load();
}

/// Publishes until no answer comes; notes the message that had none.
fn publish_with_keys(world: &World, api: &Api, path: &str, end: &End, unanswered: &Unanswered) {
    let Ok(mut connection) = api.connect() else {
        return;
    };
    loop {
        let number = world.ledger.next_number();
        let key = format!("key-{number}");
        let published = world
            .ledger
            .publish_one(&mut connection, path, number, Some(&key), end);
        if published.is_err() {
            unanswered
                .lock()
                .expect("nobody panics with it")
                .push(number);
            return;
        }
    }
}

/// When the power is cut after a restart.
#[derive(Clone, Copy, Debug)]
enum After {
    /// The ready line, so long.
    Ready(Duration),
    /// The first answer.
    Answer,
}

fn moments(random: &mut StdRng) -> [After; 3] {
    let soon = CUT_WITHIN.as_micros() as u64;
    let mut ready = || After::Ready(Duration::from_micros(random.random_range(0..soon)));
    [After::Answer, ready(), ready()]
}

/// Starts, publishes again what had no answer, and cuts the power soon after the ready line: what is answered
/// before that counts.
fn restart_and_cut(world: &mut World, unanswered: Unanswered, after: After) {
    let unanswered = unanswered.into_inner().expect("nobody panics with it");
    assert!(!unanswered.is_empty());
    let launch = world.launch.clone();
    let (mut server, path) = world.start(&launch);
    let (end, before) = (End::by_power_cut(), world.ledger.accepted());
    std::thread::scope(|scope| {
        let (world, api, path, end) = (&*world, &server.api, &path, &end);
        for number in unanswered {
            scope.spawn(move || {
                let key = format!("key-{number}");
                let mut connection = api.connect().ok()?;
                let ledger = &world.ledger;
                ledger
                    .publish_one(&mut connection, path, number, Some(&key), end)
                    .ok()
            });
        }
        match after {
            After::Ready(time) => at_random_moment(time),
            After::Answer => {
                let is_answered = || (world.ledger.accepted() > before).then_some(());
                until(Duration::from_secs(60), is_answered);
            }
        }
        end.comes();
        world.disk.cut_power();
        server.process.kill();
    });
    let again = world.ledger.accepted() - before;
    say(&format!(
        "power_cut: after {after:?}, {again} answered again"
    ));
    if let After::Answer = after {
        assert!(again > 0, "{}", server.process.log());
    }
    world.power_returns();
    world.account();
}
