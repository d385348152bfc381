//! What the continuous backup costs, and how long the way back takes: servers with and without one, in turns in one
//! call.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::rig::figures::{COUNT, Figures, MIB, MICROS, PER_SECOND, SECONDS, Turns};
use super::rig::process::{Launch, until};
use super::rig::world::{PAYLOAD_BYTES, World};
use super::rig::{Options, heading, line, usage};

/// Of the copy, in seconds.
const EVERY: u64 = 5;
const COPIED_WITHIN: Duration = Duration::from_secs(600);

pub fn run(options: &Options) {
    if !options.wants("backup") {
        return;
    }
    let both = options.number("turns", 1, 3);
    let mut turns = Turns::default();
    for turn in 0..both {
        let order = [turn % 2 == 1, turn % 2 == 0];
        for is_copied in order {
            let name = if is_copied { "with" } else { "without" };
            heading(&format!("backup, turn {} of {both}: {name}", turn + 1));
            let mut figures = Figures::default();
            cost(options, &mut figures, is_copied);
            match is_copied {
                true => turns.new.push(figures),
                false => turns.old.push(figures),
            }
        }
    }
    heading(&format!(
        "backup: medians of {both} turns, without -> with, with / without"
    ));
    print!("{}", turns.table());
}

/// Throughput, then 200 messages a second.
fn cost(options: &Options, figures: &mut Figures, is_copied: bool) {
    let messages = options.number("messages", 6_000, 200_000);
    let seconds = options.number("seconds", 3, 20);
    let target = options.scratch();
    let world = start(options, is_copied.then_some(target.path()));
    world.endpoint(&world.sink.url("/e/0"));
    world.warm_up(1);
    let server = world.server.process.id();
    let cpu = usage::cpu_at_rest(server);
    let published = world.flood(messages);
    world.sink.wait(0..1, messages);
    caught_up(&world, is_copied);
    let spent = usage::cpu_at_rest(server) - cpu;
    figures.add("accepted", published.per_second(), PER_SECOND);
    figures.latency("  answers", published.latency);
    let of_each = |spent: Duration, messages: u64| spent.as_micros() as f64 / messages as f64;
    figures.add("  server CPU", of_each(spent, messages), MICROS);
    world.sink.reset();

    let before = requests(&world);
    let messages = 200 * seconds;
    let cpu = usage::cpu_at_rest(server);
    let published = world.pace(messages, 200.0);
    let received = world.sink.wait(0..1, messages);
    caught_up(&world, is_copied);
    let spent = usage::cpu_at_rest(server) - cpu;
    figures.latency("200 a second: answers", published.latency);
    figures.latency("  publish to receipt", received.latency);
    figures.add(
        "  server CPU at that rate",
        of_each(spent, messages),
        MICROS,
    );
    if let Some((before, after)) = before.zip(requests(&world)) {
        let in_a_day = (after - before) * 86_400 / (seconds + EVERY);
        line("requests to the target in a day of that", in_a_day);
    }
    figures.add("memory, peak", usage::peak_rss(server), MIB);
}

/// How long a whole restore takes of a store whose messages are delivered, with some that wait.
pub fn restore(options: &Options, figures: &mut Figures) {
    let messages = options.number("restored", 20_000, 1_000_000);
    heading(&format!(
        "restore: {messages} messages of {PAYLOAD_BYTES} bytes, delivered, from a folder"
    ));
    let target = options.scratch();
    let mut world = start(options, Some(target.path()));
    world.endpoint(&world.sink.url("/e/0"));
    world.fill(messages);
    world.sink.wait(0..1, messages);
    caught_up(&world, true);
    world.server.process.kill();
    figures.add("the copy", usage::disk(target.path()), MIB);
    let objects = walk(target.path());
    figures.add("  its objects", objects as f64, COUNT);
    let place = options.scratch();
    let launch = Launch::new(place.path().join("data"));
    let launch = match &options.binary {
        Some(path) => launch.binary(path),
        None => launch,
    };
    let from = target.path().join("copy").to_string_lossy().into_owned();
    let timed = |arguments: &[&str]| {
        let began = Instant::now();
        let (succeeded, told) = launch.run(arguments);
        assert!(succeeded, "{told}");
        began.elapsed().as_secs_f64()
    };
    let seconds = timed(&["verify-backup", "--from", &from]);
    figures.add("verify-backup", seconds, SECONDS);
    let seconds = timed(&["restore", "--from", &from]);
    figures.add("restore", seconds, SECONDS);
    figures.add("  messages", messages as f64 / seconds, PER_SECOND);
    // The owner's token is in no backup.
    let token = std::fs::read_to_string(&world.server.token_path).expect("it was written");
    let server = launch.try_start(|| token.trim().to_owned());
    let server = server.unwrap_or_else(|(why, process)| panic!("{why}: {}", process.log()));
    figures.add(
        "the first start on it",
        server.ready_after.as_secs_f64(),
        SECONDS,
    );
}

fn start(options: &Options, target: Option<&Path>) -> World {
    let file = target.map_or(String::new(), |target| {
        let to = target.join("copy");
        format!(
            "[backup]\nto = \"{}\"\nevery_seconds = {EVERY}\n",
            to.display()
        )
    });
    World::start_with_file(options, &[], &file)
}

/// Waits until the copy has everything, so that its cost is counted.
fn caught_up(world: &World, is_copied: bool) {
    if !is_copied {
        return;
    }
    until(COPIED_WITHIN, || {
        let backup = world.server.api.get("/api/v1/status")["backup"].clone();
        let is_complete = backup["completedAt"].is_string() && backup["lagSeconds"] == 0.0;
        is_complete.then_some(())
    })
    .expect("the copy catches up");
}

fn requests(world: &World) -> Option<u64> {
    let status: Value = world.server.api.get("/api/v1/status");
    status["backup"]["requests"].as_u64()
}

fn walk(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let counts = entries.map(|entry| match entry.path().is_dir() {
        true => walk(&entry.path()),
        false => 1,
    });
    counts.sum()
}
