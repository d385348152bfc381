//! What messages that wait cost: memory, and the time until a server that was killed is ready again.

use std::time::{Duration, Instant};

use super::rig::figures::{Figures, MIB, MILLIS, SECONDS, Target};
use super::rig::process::until;
use super::rig::world::World;
use super::rig::{Options, heading, line, monotonic_ns, usage};
use serde_json::json;

/// For a disabled endpoint, so that nothing is sent before it is asked for.
pub fn run(options: &Options, figures: &mut Figures) {
    let default = [
        options.number("waiting", 20_000, 1_000_000),
        options.number("waiting", 20_000, 5_000_000),
    ];
    let sizes = if default[0] == default[1] {
        &default[..1]
    } else {
        &default
    };
    for waiting in sizes {
        with(options, figures, *waiting);
    }
}

fn with(options: &Options, figures: &mut Figures, waiting: u64) {
    heading(&format!(
        "waiting: {waiting} messages of 1 KiB for a disabled endpoint, then kill -9"
    ));
    // None of the limits is to stop so many for one endpoint.
    let own = [
        "limits.waiting_max",
        "limits.held_max",
        "limits.waiting_per_application_max",
    ]
    .map(|limit| (limit, waiting * 2));
    let mut world = World::start(options, &own);
    let endpoint = world.endpoint(&world.sink.url("/e/0"));
    world.patch(&endpoint, &json!({ "disabled": true }));
    let published = world.fill(waiting);
    line("accepted", format!("{:.0}/s", published.per_second()));
    usage::cpu_at_rest(world.server.process.id());
    let of = |name: &str| format!("{waiting}: {name}");
    let memory = usage::rss(world.server.process.id());
    figures.add(of("memory with them waiting"), memory, MIB);
    figures.add(of("disk"), usage::disk(world.data()), MIB);

    // The median of three, for the first start finds a busy disk.
    let mut starts = [(); 3].map(|()| start_again(&mut world));
    starts.sort_by_key(|start| start.healthy);
    let [_, start, slowest] = starts;
    figures.judge(
        &of("exec to ready line"),
        start.ready.as_secs_f64(),
        SECONDS,
        Target::Below(5.0),
    );
    figures.add(of("exec to healthy"), start.healthy.as_secs_f64(), SECONDS);
    line(
        "  the slowest of three",
        format!("{:.2} s", slowest.healthy.as_secs_f64()),
    );
    figures.add(of("memory when healthy"), start.memory, MIB);
    usage::cpu_at_rest(world.server.process.id());
    let memory = usage::rss(world.server.process.id());
    figures.add(of("memory at rest after it"), memory, MIB);

    let enabled = monotonic_ns();
    world.patch(&endpoint, &json!({ "disabled": false }));
    let received = world.sink.wait(0..1, 1);
    let first = received.first_ns.saturating_sub(enabled) as f64 / 1e6;
    figures.add(of("enabled to first delivery"), first, MILLIS);
}

struct Start {
    /// From the start of the process to its ready line.
    ready: Duration,
    /// From there to the first 200 of the health check.
    healthy: Duration,
    memory: f64,
}

fn start_again(world: &mut World) -> Start {
    // A start that begins while the one before still counts the queue is not the usual one.
    usage::cpu_at_rest(world.server.process.id());
    world.restart();
    let server = &world.server;
    let healthy = until(Duration::from_secs(600), || {
        let answer = server.api.request("GET", "/api/v1/health", "");
        let is_healthy = answer.is_ok_and(|answer| answer.status / 100 == 2);
        is_healthy.then(Instant::now)
    });
    let healthy = healthy.expect("the server becomes healthy");
    Start {
        ready: server.ready_after,
        healthy: healthy - server.process.started_at,
        memory: usage::rss(server.process.id()),
    }
}
