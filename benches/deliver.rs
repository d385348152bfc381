//! `cargo bench --bench deliver [-- --quick] [--dir PATH] [--set SETTING=VALUE] [--against PATH] [--turns N]
//! [throughput|throughput-32|batch|steady|neighbour|fan-out|waiting|profiles|bytes|bytes-again|futexes|threads|backup|
//! restore]`
//!
//! How fast messages are accepted and delivered, at what cost, and how long one takes from the
//! publisher's send to the receiver's hands: the real binary, on loopback, with its client and its
//! receiver on the same machine. Targets are those of a machine with two cores.
//!
//! With `--against`, the binary of another version takes turns with this build's, and each figure is
//! compared. Only settings and calls that older versions have are used.

#[path = "deliver/backup.rs"]
mod backup;
#[path = "deliver/costs.rs"]
mod costs;
mod rig;

use rig::figures::{COUNT, Figures, MIB, MICROS, PER_SECOND, Target, median};
use rig::world::{PAYLOAD_BYTES, World};
use rig::{Options, heading, judged, line, ms, usage};
use serde_json::json;

fn main() {
    let Some(options) = rig::options() else {
        return;
    };
    heading("the machine");
    rig::disk::report(options.scratch().path());
    options.measure("throughput", |options, figures| {
        throughput(options, figures, 64);
    });
    options.measure("throughput-32", |options, figures| {
        throughput(options, figures, 32);
    });
    options.measure("batch", batches);
    options.measure("steady", steady);
    options.measure("neighbour", slow_neighbour);
    options.measure("fan-out", fan_out);
    options.measure("waiting", waiting);
    options.measure("profiles", profiles);
    options.measure("bytes", costs::bytes_written);
    if options.names("bytes-again") {
        options.measure("bytes-again", costs::bytes_written_again);
    }
    options.measure("futexes", costs::futexes);
    options.measure("threads", costs::threads);
    backup::run(&options);
    options.measure("restore", backup::restore);
}

fn throughput(options: &Options, figures: &mut Figures, connections: usize) {
    let messages = options.number("messages", 6_000, 60_000);
    heading(&format!(
        "throughput: {messages} messages of {PAYLOAD_BYTES} bytes, {connections} connections, one endpoint"
    ));
    let world = World::start(options, &[]);
    let mut straight = world.load(messages, connections, None);
    straight.address = world.sink.address;
    straight.path = "/e/0".to_owned();
    straight.token_path = None;
    let ceiling = straight.publish();
    line(
        "ceiling: the client straight to the sink",
        format!("{:.0}/s", ceiling.per_second()),
    );
    line("  its answers", ceiling.latency);
    world.sink.reset();

    world.endpoint(&world.sink.url("/e/0"));
    let server = world.server.process.id();
    figures.judge(
        "memory, idle, before",
        usage::rss(server),
        MIB,
        Target::Below(100.0),
    );
    world.warm_up(1);
    let sink_cpu = usage::cpu(world.sink.id());
    let cpu = usage::cpu_at_rest(server);
    let published = world.load(messages, connections, None).publish();
    let received = world.sink.wait(0..1, messages);
    let cpu = usage::cpu_at_rest(server) - cpu;
    let sink_cpu = usage::cpu(world.sink.id()) - sink_cpu;

    figures.judge(
        "accepted",
        published.per_second(),
        PER_SECOND,
        Target::AtLeast(8_000.0),
    );
    figures.latency("  answers", published.latency);
    if published.put_off > 0 {
        line("  answers 429 or 503, published again", published.put_off);
    }
    figures.judge(
        "delivered, first publish to last receipt",
        per_second(messages, published.started_ns, received.last_ns),
        PER_SECOND,
        Target::AtLeast(8_000.0),
    );
    figures.latency("  publish to receipt", received.latency);
    line("  repeated requests", received.repeats);
    figures.judge(
        "server CPU, accept and delivery",
        cpu.as_micros() as f64 / messages as f64,
        MICROS,
        Target::AtMost(130.0),
    );
    line(
        "  beside it: client, sink",
        format!(
            "{:.0} µs, {:.0} µs",
            published.cpu_us as f64 / messages as f64,
            sink_cpu.as_micros() as f64 / messages as f64
        ),
    );
    figures.add("memory, peak", usage::peak_rss(server), MIB);
    figures.judge(
        "memory, idle, after",
        usage::rss(server),
        MIB,
        Target::Below(100.0),
    );
    figures.add("disk", usage::disk(world.data()), MIB);
}

/// One at a time and a hundred at a time take turns, so that a busy machine is busy for both.
fn batches(options: &Options, figures: &mut Figures) {
    const AT_A_TIME: u64 = 100;
    let messages = options.number("batch", 6_000, 30_000) / AT_A_TIME * AT_A_TIME;
    let rounds = options.number("rounds", 2, 5);
    heading(&format!(
        "batch: {rounds} rounds of {messages} messages of {PAYLOAD_BYTES} bytes, single through 64 \
         connections and {AT_A_TIME} in a request through 8, one endpoint"
    ));
    let world = World::start(options, &[]);
    world.endpoint(&world.sink.url("/e/0"));
    world.warm_up(1);
    let server = world.server.process.id();
    let mut costs = [(64, 1), (8, AT_A_TIME)].map(|(connections, at_a_time)| {
        let mut load = world.load(messages, connections, None);
        load.at_a_time = at_a_time;
        (load, Vec::new(), Vec::new())
    });
    for _ in 0..rounds {
        for (load, accepted, cpus) in &mut costs {
            world.sink.reset();
            let cpu = usage::cpu_at_rest(server);
            let published = load.publish();
            world.sink.wait(0..1, messages);
            let cpu = usage::cpu_at_rest(server) - cpu;
            accepted.push(published.per_second());
            cpus.push(cpu.as_micros() as f64 / messages as f64);
        }
    }
    let of = |figures: &[f64]| median(figures).expect("there is a round at least");
    let [single, batch] = costs.map(|(_, accepted, cpus)| (of(&accepted), of(&cpus)));
    for (name, (accepted, cpu)) in [("single", single), ("in batches", batch)] {
        figures.add(format!("accepted, {name}"), accepted, PER_SECOND);
        figures.add(
            format!("  server CPU, delivery included, {name}"),
            cpu,
            MICROS,
        );
    }
    figures.judge(
        "accepted in batches, of single",
        batch.0 / single.0,
        COUNT,
        Target::AtLeast(1.5),
    );
}

fn steady(options: &Options, figures: &mut Figures) {
    let seconds = options.number("seconds", 3, 20);
    heading(&format!(
        "steady: 200 messages a second for {seconds} s, one endpoint"
    ));
    let world = World::start(options, &[]);
    world.endpoint(&world.sink.url("/e/0"));
    world.warm_up(1);
    let messages = 200 * seconds;
    let cpu = usage::cpu_at_rest(world.server.process.id());
    let published = world.pace(messages, 200.0);
    let received = world.sink.wait(0..1, messages);
    let cpu = usage::cpu_at_rest(world.server.process.id()) - cpu;
    figures.latency("answers", published.latency);
    line(
        "the client's latest send",
        format!("{:.2} ms late", ms(published.late_max)),
    );
    let latency = received.latency;
    figures.latency("publish to receipt", latency);
    judged(
        "  of it p50 and p99",
        format!("{:.2} ms, {:.2} ms", ms(latency.p50), ms(latency.p99)),
        "2 ms p50, 8 ms p99",
        latency.p50 <= 2_000 && latency.p99 <= 8_000,
    );
    figures.add(
        "server CPU, accept and delivery",
        cpu.as_micros() as f64 / messages as f64,
        MICROS,
    );
}

fn slow_neighbour(options: &Options, figures: &mut Figures) {
    let seconds = options.number("seconds", 5, 15);
    heading(&format!(
        "neighbour: 120 messages a second for {seconds} s to ten endpoints, then one of them answers after 5 s"
    ));
    let world = World::start(options, &[]);
    let endpoints: Vec<String> = (0..10)
        .map(|place| world.endpoint(&world.sink.url(&format!("/e/{place}"))))
        .collect();
    world.warm_up(10);
    let messages = 120 * seconds;
    world.pace(messages, 120.0);
    let healthy = world.sink.wait(0..10, messages * 10);
    let without = world.sink.report(0..9).latency;
    figures.latency("the nine, publish to receipt, all healthy", without);
    line("  all ten", healthy.latency);

    world.sink.reset();
    world.patch(
        &endpoints[9],
        &json!({ "url": world.sink.url("/slow/9/5000") }),
    );
    world.pace(messages, 120.0);
    let with = world.sink.wait(0..9, messages * 9).latency;
    figures.latency("the nine beside the slow one", with);
    judged(
        "  of it p99",
        format!("{:.2} ms", ms(with.p99)),
        "p99 ≤ 2 × without + 5 ms",
        with.p99 <= 2 * without.p99 + 5_000,
    );
    let slow = world.sink.report(9..10);
    line(
        "  the slow one got",
        format!("{} of {messages}", slow.deliveries),
    );
}

fn fan_out(options: &Options, figures: &mut Figures) {
    let messages = options.number("fan-out", 2_000, 20_000);
    heading(&format!(
        "fan-out: {messages} messages to ten endpoints each, 64 connections"
    ));
    let world = World::start(options, &[]);
    for place in 0..10 {
        world.endpoint(&world.sink.url(&format!("/e/{place}")));
    }
    world.warm_up(10);
    let server = world.server.process.id();
    let cpu = usage::cpu_at_rest(server);
    let published = world.flood(messages);
    let received = world.sink.wait(0..10, messages * 10);
    let cpu = usage::cpu_at_rest(server) - cpu;
    figures.add("accepted", published.per_second(), PER_SECOND);
    figures.judge(
        "deliveries",
        per_second(messages * 10, published.started_ns, received.last_ns),
        PER_SECOND,
        Target::AtLeast(12_000.0),
    );
    figures.latency("  publish to receipt", received.latency);
    line("  repeated requests", received.repeats);
    figures.add(
        "server CPU per delivery",
        cpu.as_micros() as f64 / (messages * 10) as f64,
        MICROS,
    );
    figures.add("memory, peak", usage::peak_rss(server), MIB);
}

fn waiting(options: &Options, figures: &mut Figures) {
    let messages = options.number("waiting", 10_000, 100_000);
    heading(&format!(
        "waiting: {messages} messages for a disabled endpoint"
    ));
    let world = World::start(options, &[]);
    let endpoint = world.endpoint(&world.sink.url("/e/0"));
    world.patch(&endpoint, &json!({ "disabled": true }));
    let server = world.server.process.id();
    let before = usage::rss(server);
    let published = world.flood(messages);
    usage::cpu_at_rest(server);
    let after = usage::rss(server);
    figures.add("accepted", published.per_second(), PER_SECOND);
    line("memory before", format!("{before:.1} MiB"));
    figures.judge("memory with them waiting", after, MIB, Target::Below(200.0));
    figures.add("memory, peak", usage::peak_rss(server), MIB);

    let enabled = rig::monotonic_ns();
    world.patch(&endpoint, &json!({ "disabled": false }));
    let received = world.sink.wait(0..1, messages);
    line(
        "enabled again: the first, and all of them",
        format!(
            "{:.1} ms, {:.0}/s",
            (received.first_ns - enabled) as f64 / 1e6,
            per_second(messages, enabled, received.last_ns)
        ),
    );
    figures.add(
        "memory, peak, until all are delivered",
        usage::peak_rss(server),
        MIB,
    );
}

/// As the shipped profile of the name, but that any 2xx is a success: the sink's answers are short.
const OVCODE_HEADERS: &str = r#"
[delivery]
default_profile = "bench"
[profiles.bench.headers]
webhook-id = "{{ message.id }}"
reference = "{{ payload.reference }}"
status_code = "{{ payload.status_code }}"
cid = "{{ payload.cid }}"
token_id = "{{ payload.token_id }}"
hash = "{{ payload.hash }}"
file = "{{ payload.file }}"
timestamp = "{{ payload.timestamp }}"
[[profiles.bench.signatures]]
header = "x-api-secret"
algorithm = "static"
"#;

/// What these profiles' templates name.
const MEMBERS: &str = r#""eventType":"CREATE","entityType":"Agreement","entityId":25,"reference":"order-25","status_code":"S","cid":"c-25","token_id":25,"hash":"0xe3b0c44298fc1c149afb","file":"document.pdf","timestamp":"2024-05-31 09:04:53.0","#;

/// One server for each profile, which take turns, so that a busy machine is busy for all of them.
fn profiles(options: &Options, figures: &mut Figures) {
    let messages = options.number("profiles", 2_000, 10_000);
    let rounds = options.number("rounds", 2, 6);
    heading(&format!(
        "profiles: {rounds} rounds of {messages} messages of {PAYLOAD_BYTES} bytes each, one endpoint"
    ));
    let worlds: Vec<(&str, World)> = [
        ("standard", ""),
        ("ioffice", "[delivery]\ndefault_profile = 'ioffice'\n"),
        ("ocrolus", "[delivery]\ndefault_profile = 'ocrolus'\n"),
        ("ovcode-headers", OVCODE_HEADERS),
    ]
    .map(|(name, file)| {
        let mut world = World::start_with_file(options, &[], file);
        world.members = MEMBERS.to_owned();
        world.endpoint(&world.sink.url("/e/0"));
        world.warm_up(1);
        (name, world)
    })
    .into();
    let mut costs = vec![Vec::new(); worlds.len()];
    for _ in 0..rounds {
        for ((_, world), costs) in worlds.iter().zip(&mut costs) {
            let server = world.server.process.id();
            world.sink.reset();
            let cpu = usage::cpu_at_rest(server);
            world.flood(messages);
            world.sink.wait(0..1, messages);
            let cpu = usage::cpu_at_rest(server) - cpu;
            costs.push(cpu.as_micros() as f64 / messages as f64);
        }
    }
    let of_standard = costs[0].clone();
    for ((name, _), costs) in worlds.iter().zip(&costs) {
        // Compared within a round: the machine may be slower in another one.
        let more = costs
            .iter()
            .zip(&of_standard)
            .map(|(own, other)| own - other);
        let [more, cost] = [more.collect(), costs.clone()]
            .map(|figures: Vec<f64>| median(&figures).expect("there is a round at least"));
        figures.add(
            format!("server CPU, accept and delivery, {name}"),
            cost,
            MICROS,
        );
        if *name != "standard" {
            judged(
                "  more than standard",
                format!("{more:+.1} µs"),
                "≤ 20 µs more",
                more <= 20.0,
            );
        }
    }
}

fn per_second(count: u64, start_ns: u64, end_ns: u64) -> f64 {
    count as f64 * 1e9 / (end_ns.saturating_sub(start_ns).max(1)) as f64
}
