//! What a delivered message costs beside time: bytes written to the disk, futex calls, and each
//! thread's share of time and context switches.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::rig::calls::futex_calls;
use super::rig::figures::{COUNT, Figures, KIB, MICROS, Target};
use super::rig::threads::Threads;
use super::rig::world::World;
use super::rig::{Options, heading, line, usage};

/// Of the journal's segments, which are made ready as a whole.
const SEGMENT_BYTES: u64 = 64 << 20;

/// Of a new store: each segment's file is zeroed first, which counts.
pub fn bytes_written(options: &Options, figures: &mut Figures) {
    let messages = options.number("written", 10_000, 300_000);
    heading(&format!(
        "bytes: {messages} messages, 64 connections, one endpoint, a new store"
    ));
    let world = World::start(options, &[]);
    world.endpoint(&world.sink.url("/e/0"));
    world.warm_up(1);
    let server = world.server.process.id();
    let before = usage::device_written_at_rest(server, world.data());
    world.flood(messages);
    world.sink.wait(0..1, messages);
    let written = usage::device_written_at_rest(server, world.data()).zip(before);
    judge_written(figures, written, messages, 5.0);
}

/// Days pass in minutes, so that retention takes segments while others are filled. Only builds with debug
/// assertions can do that: the bytes are the same in any build.
pub fn bytes_written_again(options: &Options, figures: &mut Figures) {
    let messages = options.number("written", 40_000, 300_000);
    let speed = options.number("speed", 3_000, 3_000);
    heading(&format!(
        "bytes-again: {messages} messages, 64 connections, one endpoint; a day is kept, which takes {:.0} s",
        86_400.0 / speed as f64
    ));
    let binary = options.binary.clone().unwrap_or_else(debug_binary);
    if !binary.is_file() {
        line(
            "SKIPPED",
            format!("{} is missing: cargo build", binary.display()),
        );
        return;
    }
    let options = options.with_binary(Some(binary));
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("the clock is past 1970").as_millis();
    let clock = [("POSTRIDER_CLOCK", format!("{now} {now} {speed}"))];
    let own = [
        ("store.retention_days", 1),
        // One segment each, so that retention frees files one by one.
        ("store.slice_bytes", SEGMENT_BYTES),
        // The most that is allowed: what ends by its age gives the rest of its segment back unused.
        ("store.slice_hours", 24),
    ];
    let world = World::start_in(&options, &own, "", &clock);
    world.endpoint(&world.sink.url("/e/0"));
    let began = told(&world);
    world.warm_up(1);
    // Until retention takes as much as comes.
    let mut number_of_fills = 0;
    while told(&world).saturating_sub(began) < 3 * 86_400_000 {
        world.flood(messages / 10);
        world.sink.wait(0..1, messages / 10);
        world.sink.reset();
        number_of_fills += 1;
        assert!(
            number_of_fills < 1_000,
            "the clock stands still: not a debug build"
        );
    }
    line(
        "disk, with what a day takes",
        format!("{:.0} MiB", usage::disk(world.data())),
    );
    let server = world.server.process.id();
    let before = usage::device_written_at_rest(server, world.data());
    world.flood(messages);
    world.sink.wait(0..1, messages);
    let written = usage::device_written_at_rest(server, world.data()).zip(before);
    line(
        "disk, at the end",
        format!("{:.0} MiB", usage::disk(world.data())),
    );
    judge_written(figures, written, messages, 3.0);
}

/// `target/debug/postrider`, beside the release build that is measured otherwise.
fn debug_binary() -> PathBuf {
    let this = PathBuf::from(env!("CARGO_BIN_EXE_postrider"));
    let profile = this.parent().expect("a binary has a directory");
    profile.with_file_name("debug").join("postrider")
}

/// The server's clock, in milliseconds since 1970, by the time of an application it makes.
fn told(world: &World) -> u64 {
    let application = serde_json::json!({ "name": "clock" });
    let made = world
        .server
        .api
        .call("POST", "/api/v1/app", &application, 201);
    let at = made["createdAt"]
        .as_str()
        .expect("an application tells its time");
    let at: jiff::Timestamp = at.parse().expect("times are of RFC 3339");
    u64::try_from(at.as_millisecond()).expect("it is past 1970")
}

fn judge_written(figures: &mut Figures, counted: Option<(u64, u64)>, messages: u64, target: f64) {
    let Some(written) = counted.map(|(after, before)| after - before) else {
        line(
            "SKIPPED",
            "nothing was counted: --dir leads to no disk of its own, such as a file system in memory",
        );
        return;
    };
    figures.judge(
        "written for each delivered message",
        written as f64 / messages as f64 / 1_024.0,
        KIB,
        Target::AtMost(target),
    );
    // A file that is made ready, or one that was ready before, may fall on either side of the measurement.
    line(
        "  one segment more or less would be",
        format!(
            "{:.2} KiB",
            SEGMENT_BYTES as f64 / messages as f64 / 1_024.0
        ),
    );
}

pub fn futexes(options: &Options, figures: &mut Figures) {
    let messages = options.number("counted", 5_000, 20_000);
    let paced = messages / 10;
    heading(&format!(
        "futexes: {messages} messages, 64 connections, and {paced} at 200 a second, one endpoint"
    ));
    let world = World::start(options, &[]);
    world.endpoint(&world.sink.url("/e/0"));
    world.warm_up(1);
    let server = world.server.process.id();
    let flooded = futex_calls(server, || {
        world.flood(messages);
        world.sink.wait(0..1, messages);
    });
    match flooded {
        Ok((calls, by)) => {
            let each = calls as f64 / messages as f64;
            figures.judge(
                "futex calls, 64 connections",
                each,
                COUNT,
                Target::AtMost(2.0),
            );
            line("  counted by", by);
        }
        Err(why) => {
            line("SKIPPED", why);
            return;
        }
    }
    world.sink.reset();
    let paced_calls = futex_calls(server, || {
        world.pace(paced, 200.0);
        world.sink.wait(0..1, paced);
    });
    if let Ok((calls, _)) = paced_calls {
        figures.add(
            "futex calls, 200 a second",
            calls as f64 / paced as f64,
            COUNT,
        );
    }
}

pub fn threads(options: &Options, figures: &mut Figures) {
    let messages = options.number("messages", 6_000, 60_000);
    heading(&format!(
        "threads: {messages} messages, 64 connections, one endpoint; for each message"
    ));
    let world = World::start(options, &[]);
    world.endpoint(&world.sink.url("/e/0"));
    world.warm_up(1);
    let server = world.server.process.id();
    let cpu = usage::cpu_at_rest(server);
    let before = Threads::of(server);
    world.flood(messages);
    world.sink.wait(0..1, messages);
    let cpu = usage::cpu_at_rest(server) - cpu;
    let used = Threads::of(server).since(&before);
    let each = |time: Duration| time.as_secs_f64() * 1e6 / messages as f64;
    figures.add("all threads, CPU", each(cpu), MICROS);
    let switches: u64 = used.iter().map(|(_, used)| used.switches()).sum();
    figures.add(
        "all threads, context switches",
        switches as f64 / messages as f64,
        COUNT,
    );
    for (kind, used) in used {
        // Threads that only look now and then whether there is work.
        if each(used.cpu()) < 0.2 && used.switches() * 20 < messages {
            continue;
        }
        figures.add(format!("{kind}: CPU"), each(used.cpu()), MICROS);
        line(
            "  user, system",
            format!("{:.1} µs, {:.1} µs", each(used.user), each(used.system)),
        );
        figures.add(
            format!("{kind}: context switches"),
            used.switches() as f64 / messages as f64,
            COUNT,
        );
    }
}
