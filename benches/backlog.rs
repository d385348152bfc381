//! `cargo bench --bench backlog [-- --quick] [--waiting N] [--finished N] [--behind N] [--attempts N] [--ids N]
//! [--against PATH] [--turns N] [start|dead|hanging|list|waiting|pages|event-ids]`
//!
//! What a backlog costs: the start of a server with a million messages waiting, with and without
//! two million finished ones kept beside them, and the way of a fresh message past backlogs of
//! others; and what a page of the log costs, out of ten thousand attempts and out of a million (or
//! `--attempts N`; ten million take some 10 GiB). A full run publishes some five million messages
//! and needs about 25 GiB of disk for a while.
//!
//! `waiting` (memory and starts with one and with five million waiting) and `pages` (pages of a log that
//! was made by publishing) can be run with the binary of another version, too: `--against`. These and
//! `event-ids` (what it costs to know whether one was used) run only where they are named.

#[path = "backlog/event_ids.rs"]
mod event_ids;
#[path = "backlog/list.rs"]
mod list;
#[path = "backlog/pages.rs"]
mod pages;
mod rig;
#[path = "backlog/waiting.rs"]
mod waiting;

use std::net::TcpListener;
use std::time::Duration;

use rig::figures::Figures;
use rig::sink::Sink;
use rig::world::World;
use rig::{Latency, Options, heading, judged, line, ms, usage};
use serde_json::json;

fn main() {
    let Some(options) = rig::options() else {
        return;
    };
    heading("the machine");
    rig::disk::report(options.scratch().path());
    if options.wants("start") {
        start(&options);
    }
    if options.wants("dead") {
        dead_and_hanging(&options);
    }
    if options.wants("hanging") {
        many_hanging(&options);
    }
    if options.wants("list") {
        list::run(&options);
    }
    if options.names("waiting") {
        options.measure("waiting", waiting::run);
    }
    if options.names("pages") {
        options.measure("pages", pages::run);
    }
    if options.names("event-ids") {
        event_ids::run(&options, &mut Figures::default());
    }
}

/// One row: a start after a kill.
struct Start {
    ready: Duration,
    memory: f64,
    memory_at_rest: f64,
}

fn start(options: &Options) {
    let waiting = options.number("waiting", 20_000, 1_000_000);
    let finished = options.number("finished", 40_000, 2_000_000);
    heading(&format!(
        "start: after kill -9, {waiting} messages of 1 KiB waiting"
    ));
    let alone = start_with(options, waiting, 0);
    heading(&format!(
        "start: the same, {finished} finished messages kept beside them"
    ));
    let beside = start_with(options, waiting, finished);

    heading("start: with the finished ones, compared to without");
    let ratio = beside.ready.as_secs_f64() / alone.ready.as_secs_f64();
    judged(
        "time to ready",
        format!("× {ratio:.2}"),
        "≤ 1.10",
        ratio <= 1.10,
    );
    let ratio = beside.memory_at_rest / alone.memory_at_rest;
    judged("memory", format!("× {ratio:.2}"), "≤ 1.10", ratio <= 1.10);
}

fn start_with(options: &Options, waiting: u64, finished: u64) -> Start {
    let own = [("limits.waiting_max", (waiting + finished) * 2)];
    let mut world = World::start(options, &own);
    let endpoint = world.endpoint(&world.sink.url("/e/0"));
    if finished > 0 {
        let published = world.flood(finished);
        world.sink.wait(0..1, finished);
        world.sink.reset();
        line(
            "finished ones accepted",
            format!("{:.0}/s", published.per_second()),
        );
    }
    world.patch(&endpoint, &json!({ "disabled": true }));
    let published = world.flood(waiting);
    line(
        "waiting ones accepted",
        format!("{:.0}/s", published.per_second()),
    );
    line("disk", format!("{:.0} MiB", usage::disk(world.data())));

    // The median of three, for the first start finds a busy disk.
    let mut starts: Vec<Start> = (0..3).map(|_| restart(&mut world)).collect();
    starts.sort_by_key(|start| start.ready);
    let slowest = starts[2].ready;
    let start = starts.swap_remove(1);
    let seconds = start.ready.as_secs_f64();
    judged(
        "from exec to ready, median of three",
        format!("{seconds:.2} s (slowest {:.2} s)", slowest.as_secs_f64()),
        "< 5 s",
        seconds < 5.0,
    );
    let memory = start.memory.max(start.memory_at_rest);
    judged(
        "memory after it",
        format!(
            "{:.0} MiB at ready, {:.0} MiB at rest",
            start.memory, start.memory_at_rest
        ),
        "< 300 MiB",
        memory < 300.0,
    );

    let enabled = rig::monotonic_ns();
    world.patch(&endpoint, &json!({ "disabled": false }));
    let received = world.sink.wait(0..1, 1);
    line(
        "from enabling the endpoint to the first delivery",
        format!(
            "{:.1} ms",
            received.first_ns.saturating_sub(enabled) as f64 / 1e6
        ),
    );
    start
}

fn restart(world: &mut World) -> Start {
    world.restart();
    let server = world.server.process.id();
    let memory = usage::rss(server);
    usage::cpu_at_rest(server);
    Start {
        ready: world.server.ready_after,
        memory,
        memory_at_rest: usage::rss(server),
    }
}

fn dead_and_hanging(options: &Options) {
    let behind = options.number("behind", 5_000, 200_000);
    heading(&format!(
        "dead: {behind} messages waiting for a dead endpoint and as many for a hanging one"
    ));
    let mut world = World::start(options, &[("limits.waiting_max", behind * 4)]);
    let fresh = fresh_latency(&mut world, options);
    line("a fresh message elsewhere, before", fresh);

    world.next_application();
    let dead = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let dead = dead.expect("a port on which nobody listens once this is dropped");
    // Its own process: what is measured is not how one receiver copes with both.
    let hanging = Sink::start();
    world.endpoint(&format!("http://{dead}/"));
    world.endpoint(&hanging.url("/hang/1"));
    let published = world.flood(behind);
    line("accepted", format!("{:.0}/s", published.per_second()));
    judge_fresh(&mut world, options);
}

fn many_hanging(options: &Options) {
    let endpoints = options.number("endpoints", 100, 500);
    let messages = options.number("behind", 5_000, 200_000) / endpoints;
    heading(&format!(
        "hanging: {endpoints} hanging endpoints with {messages} messages waiting for each"
    ));
    let own = [
        ("limits.waiting_max", endpoints * messages * 4),
        ("limits.endpoints_per_application_max", endpoints),
    ];
    let mut world = World::start(options, &own);
    let fresh = fresh_latency(&mut world, options);
    line("a fresh message elsewhere, before", fresh);

    world.next_application();
    let hanging = Sink::start();
    for place in 0..endpoints {
        world.endpoint(&hanging.url(&format!("/hang/{place}")));
    }
    world.flood(messages);
    judge_fresh(&mut world, options);
    line(
        "  deliveries that hang or hung meanwhile",
        hanging.count(0..endpoints as usize),
    );
}

fn judge_fresh(world: &mut World, options: &Options) {
    let fresh = fresh_latency(world, options);
    judged(
        "a fresh message elsewhere",
        fresh,
        "< 100 ms",
        ms(fresh.max) < 100.0,
    );
    line(
        "memory",
        format!("{:.0} MiB", usage::rss(world.server.process.id())),
    );
}

/// Publish to receipt of messages to a healthy endpoint of a new application, a few a second, for
/// longer than an attempt may take: over the time-outs of what hangs.
fn fresh_latency(world: &mut World, options: &Options) -> Latency {
    let messages = options.number("fresh", 30, 200);
    world.next_application();
    world.endpoint(&world.sink.url("/e/0"));
    world.sink.reset();
    world.pace(messages, 10.0);
    world.sink.wait(0..1, messages).latency
}
