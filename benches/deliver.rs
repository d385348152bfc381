//! `cargo bench --bench deliver [-- --quick] [--dir PATH] [--set SETTING=VALUE] [throughput|batch|steady|neighbour|fan-out|waiting|profiles]`
//!
//! How fast messages are accepted and delivered, at what cost, and how long one takes from the
//! publisher's send to the receiver's hands: the real binary, on loopback, with its client and its
//! receiver on the same machine. Targets are those of a machine with two cores.

mod rig;

use rig::world::{PAYLOAD_BYTES, World};
use rig::{Options, heading, judged, line, ms, usage};
use serde_json::json;

fn main() {
    let Some(options) = rig::options() else {
        return;
    };
    heading("the machine");
    rig::disk::report(options.scratch().path());
    if options.wants("throughput") {
        throughput(&options);
    }
    if options.wants("batch") {
        batches(&options);
    }
    if options.wants("steady") {
        steady(&options);
    }
    if options.wants("neighbour") {
        slow_neighbour(&options);
    }
    if options.wants("fan-out") {
        fan_out(&options);
    }
    if options.wants("waiting") {
        waiting(&options);
    }
    if options.wants("profiles") {
        profiles(&options);
    }
}

fn throughput(options: &Options) {
    let messages = options.number("messages", 6_000, 60_000);
    heading(&format!(
        "throughput: {messages} messages of {PAYLOAD_BYTES} bytes, 64 connections, one endpoint"
    ));
    let world = World::start(options, &[]);
    let mut straight = world.load(messages, 64, None);
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
    let idle = usage::rss(server);
    judged(
        "memory, idle, before",
        format!("{idle:.1} MiB"),
        "< 100 MiB",
        idle < 100.0,
    );
    world.warm_up(1);
    let sink_cpu = usage::cpu(world.sink.id());
    let cpu = usage::cpu_at_rest(server);
    let published = world.flood(messages);
    let received = world.sink.wait(0..1, messages);
    let cpu = usage::cpu_at_rest(server) - cpu;
    let sink_cpu = usage::cpu(world.sink.id()) - sink_cpu;

    let accepted = published.per_second();
    judged(
        "accepted",
        format!("{accepted:.0}/s"),
        "≥ 8,000/s",
        accepted >= 8_000.0,
    );
    line("  answers", published.latency);
    if published.put_off > 0 {
        line("  answers 429 or 503, published again", published.put_off);
    }
    let delivered = per_second(messages, published.started_ns, received.last_ns);
    judged(
        "delivered, first publish to last receipt",
        format!("{delivered:.0}/s"),
        "≥ 8,000/s",
        delivered >= 8_000.0,
    );
    line("  publish to receipt", received.latency);
    line("  repeated requests", received.repeats);
    let cpu_each = cpu.as_micros() as f64 / messages as f64;
    judged(
        "server CPU, accept and delivery",
        format!("{cpu_each:.0} µs"),
        "≤ 130 µs",
        cpu_each <= 130.0,
    );
    line(
        "  beside it: client, sink",
        format!(
            "{:.0} µs, {:.0} µs",
            published.cpu_us as f64 / messages as f64,
            sink_cpu.as_micros() as f64 / messages as f64
        ),
    );
    line(
        "memory, peak",
        format!("{:.1} MiB", usage::peak_rss(server)),
    );
    let idle = usage::rss(server);
    judged(
        "memory, idle, after",
        format!("{idle:.1} MiB"),
        "< 100 MiB",
        idle < 100.0,
    );
    line("disk", format!("{:.1} MiB", usage::disk(world.data())));
}

/// One at a time and a hundred at a time take turns, so that a busy machine is busy for both.
fn batches(options: &Options) {
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
    let [single, batch] = costs.map(|(_, accepted, cpus)| (median(accepted), median(cpus)));
    for (name, (accepted, cpu)) in [("single", single), ("in batches", batch)] {
        line(
            &format!("accepted, {name}"),
            format!("{accepted:.0}/s, {cpu:.0} µs of server CPU, delivery included"),
        );
    }
    judged(
        "accepted in batches, of single",
        format!("{:.2}", batch.0 / single.0),
        "≥ 1.5",
        batch.0 >= 1.5 * single.0,
    );
}

fn steady(options: &Options) {
    let seconds = options.number("seconds", 3, 10);
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
    line("answers", published.latency);
    line(
        "the client's latest send",
        format!("{:.2} ms late", ms(published.late_max)),
    );
    let latency = received.latency;
    judged(
        "publish to receipt",
        latency,
        "2 ms p50, 8 ms p99",
        latency.p50 <= 2_000 && latency.p99 <= 8_000,
    );
    line(
        "server CPU, accept and delivery",
        format!("{:.0} µs", cpu.as_micros() as f64 / messages as f64),
    );
}

fn slow_neighbour(options: &Options) {
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
    line("the nine, publish to receipt, all healthy", without);
    line("  all ten", healthy.latency);

    world.sink.reset();
    world.patch(
        &endpoints[9],
        &json!({ "url": world.sink.url("/slow/9/5000") }),
    );
    world.pace(messages, 120.0);
    let with = world.sink.wait(0..9, messages * 9).latency;
    judged(
        "the nine beside the slow one",
        with,
        "p99 ≤ 2 × without + 5 ms",
        with.p99 <= 2 * without.p99 + 5_000,
    );
    let slow = world.sink.report(9..10);
    line(
        "  the slow one got",
        format!("{} of {messages}", slow.deliveries),
    );
}

fn fan_out(options: &Options) {
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
    line("accepted", format!("{:.0}/s", published.per_second()));
    let delivered = per_second(messages * 10, published.started_ns, received.last_ns);
    judged(
        "deliveries",
        format!("{delivered:.0}/s"),
        "≥ 12,000/s",
        delivered >= 12_000.0,
    );
    line("  publish to receipt", received.latency);
    line("  repeated requests", received.repeats);
    line(
        "server CPU per delivery",
        format!("{:.0} µs", cpu.as_micros() as f64 / (messages * 10) as f64),
    );
    line(
        "memory, peak",
        format!("{:.1} MiB", usage::peak_rss(server)),
    );
}

fn waiting(options: &Options) {
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
    line("accepted", format!("{:.0}/s", published.per_second()));
    line("memory before", format!("{before:.1} MiB"));
    judged(
        "memory with them waiting",
        format!("{after:.1} MiB"),
        "< 200 MiB",
        after < 200.0,
    );
    line(
        "memory, peak",
        format!("{:.1} MiB", usage::peak_rss(server)),
    );

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
    line(
        "memory, peak, until all are delivered",
        format!("{:.1} MiB", usage::peak_rss(server)),
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
fn profiles(options: &Options) {
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
        let more = median(more.collect());
        let cost = median(costs.clone());
        let label = format!("server CPU, accept and delivery, {name}");
        match *name {
            "standard" => line(&label, format!("{cost:.1} µs")),
            _ => judged(
                &label,
                format!("{cost:.1} µs, {more:+.1} µs"),
                "≤ 20 µs more",
                more <= 20.0,
            ),
        }
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn per_second(count: u64, start_ns: u64, end_ns: u64) -> f64 {
    count as f64 * 1e9 / (end_ns.saturating_sub(start_ns).max(1)) as f64
}
