//! Everything that was answered survives a power cut.
//!
//! The data lies in an ext4 file system of its own, in a loop file. At some moment the file system is shut
//! down by ioctl without writing its journal: whatever was not yet on the
//! device is gone, as after a power cut (all but the loss of a drive's own cache). The process is
//! killed, the file system mounted again, the binary started on what is left, and what it shows and delivers
//! is compared with what was accepted; `verify-store` finds nothing wrong. What is
//! answered after the cut counts for nothing (`End::by_power_cut` says why); that a failed sync is
//! never answered with a 202 is for `syscalls` to show.
//!
//! Most moments are random ones under load, several on the same store. The others are those in which most is
//! at stake, each hit on purpose: a process is held where it syncs a file (`hold`), and the power is cut
//! there. `moments` has those of a server under load, `starts` those in which a store is begun, taken over
//! or made anew, and `restarts` those after a kill and after a disk that failed.
//!
//! Needs root, mkfs.ext4, strace and loop devices: skipped with a loud line where they are missing, a
//! failure under `CI=true`. `CUTS` says how many random cuts (40 in CI, else 3), `SEED` which ones.

#[path = "../process/mod.rs"]
mod process;

mod disk;
mod hold;
mod moments;
mod restarts;
mod starts;
mod world;

use std::time::Duration;

use disk::missing;
use process::mounts::hide_mounts;
use process::{at_random_moment, can_run, say, seed};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use world::World;

const CUTS_PER_STORE_MAX: u32 = 7;

#[test]
fn every_accepted_message_arrives_across_power_cuts() {
    let Some(mut random) = begin("power_cut") else {
        return;
    };
    let cuts: u32 = match std::env::var("CUTS") {
        Ok(text) => text.parse().expect("CUTS is a whole number"),
        Err(_) if std::env::var("CI").as_deref() == Ok("true") => 40,
        Err(_) => 3,
    };
    let mut left = cuts;
    while left > 0 {
        let cuts = left.min(CUTS_PER_STORE_MAX);
        survive(cuts, &mut random);
        left -= cuts;
    }
}

/// So many cuts on one store.
fn survive(cuts: u32, random: &mut StdRng) {
    let mut world = World::new(random);
    let launch = world.launch.clone();
    for _ in 0..cuts {
        let (mut server, path) = world.start(&launch);
        // With an empty queue at times, at times with what earlier cuts left waiting.
        if random.random() {
            world.wait_delivered(&server.api);
        }
        let load_time = Duration::from_millis(random.random_range(1..1_500));
        world.cut_under_load(&mut server, &path, |_| {
            at_random_moment(load_time);
            None
        });
    }
    say(&format!("power_cut: {}", world.account()));
    world.expect_load();
}

/// What each test begins with; none where nothing can be proven here.
fn begin(test: &str) -> Option<StdRng> {
    if !can_run(test, missing()) {
        return None;
    }
    hide_mounts();
    Some(StdRng::seed_from_u64(seed(test)))
}
