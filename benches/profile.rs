//! `cargo bench --bench profile [-- --quick] [--dir PATH] [--set SETTING=VALUE] [--against PATH] [--messages N] [--endpoints N] [--frequency HZ] [--rows N]`
//!
//! Where the server's CPU time goes while messages are accepted through 64 connections and delivered to one
//! endpoint, or to as many as `--endpoints` says: by thread, by group (HTTP in, HTTP out, journal, malloc,
//! the kernel's TCP …), and the functions that take most. With `--against`, beside those of another binary.
//! Needs `perf`, and the right to attach it: root, or `sysctl kernel.perf_event_paranoid=1`.

#[path = "profile/samples.rs"]
mod samples;

mod rig;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use rig::perf::Perf;
use rig::threads::Threads;
use rig::world::World;
use rig::{Options, heading, line, usage};

/// Of the stack, copied with each sample and unwound later: release builds have no frame pointers.
const STACK_BYTES: usize = 16_384;

fn main() {
    let Some(options) = rig::options() else {
        return;
    };
    let mut binaries = vec![("now", None)];
    if let Some(old) = &options.against {
        binaries.insert(0, ("before", Some(old.clone())));
    }
    let mut profiles = Vec::new();
    for (name, binary) in binaries {
        match profile(&options.with_binary(binary)) {
            Ok(profile) => profiles.push((name, profile)),
            // Loud and an error: there is nothing else to see here.
            Err(why) => {
                eprintln!("no profile can be taken: {why}");
                std::process::exit(1);
            }
        }
    }
    print_all(&profiles, options.number("rows", 30, 30) as usize);
}

/// Shares of the server's time, in microseconds for each delivery.
struct Profile {
    samples: usize,
    cpu: f64,
    by_thread: Vec<ThreadRow>,
    by_group: Shares,
    by_function: Shares,
}

struct ThreadRow {
    kind: String,
    user: f64,
    system: f64,
    waits: f64,
    preemptions: f64,
}

type Shares = BTreeMap<String, f64>;

fn profile(options: &Options) -> Result<Profile, String> {
    let messages = options.number("messages", 6_000, 100_000);
    let frequency = options.number("frequency", 499, 499).to_string();
    let endpoints = options.number("endpoints", 1, 1) as usize;
    let deliveries = messages * endpoints as u64;
    let world = World::start(options, &[]);
    for place in 0..endpoints {
        world.endpoint(&world.sink.url(&format!("/e/{place}")));
    }
    world.warm_up(endpoints);
    let server = world.server.process.id();
    let cpu = usage::cpu_at_rest(server);

    let threads = Threads::of(server);
    world.flood(messages);
    world.sink.wait(0..endpoints, deliveries);
    let cpu = usage::cpu_at_rest(server) - cpu;
    let used = Threads::of(server).since(&threads);
    world.sink.reset();

    // Once more for the samples, which cost time themselves.
    let stacks = format!("dwarf,{STACK_BYTES}");
    let subcommand = ["record", "-F", &frequency, "--call-graph", &stacks];
    let mut perf = Perf::attach(&subcommand, server)?;
    perf.enable()?;
    world.flood(messages);
    world.sink.wait(0..endpoints, deliveries);
    perf.finish()?;
    drop(world);
    let samples = samples::parse(&script(&perf)?);
    if samples.is_empty() {
        return Err("perf took no samples".to_owned());
    }

    let each = |time: Duration| time.as_secs_f64() * 1e6 / deliveries as f64;
    let cpu = each(cpu);
    let share = cpu / samples.len() as f64;
    let mut profile = Profile {
        samples: samples.len(),
        cpu,
        by_thread: Vec::new(),
        by_group: Shares::new(),
        by_function: Shares::new(),
    };
    for (kind, used) in used {
        profile.by_thread.push(ThreadRow {
            kind,
            user: each(used.user),
            system: each(used.system),
            waits: used.waits as f64 / deliveries as f64,
            preemptions: used.preemptions as f64 / deliveries as f64,
        });
    }
    for sample in &samples {
        let group = samples::group(sample).to_owned();
        *profile.by_group.entry(group).or_default() += share;
        let function = samples::function(sample).to_owned();
        *profile.by_function.entry(function).or_default() += share;
    }
    Ok(profile)
}

/// The samples as text. Inlined functions count for the one they are part of: to find their names takes
/// minutes.
fn script(perf: &Perf) -> Result<String, String> {
    line("unwinding", "takes a minute or two");
    let output = Command::new("perf")
        .args(["script", "--no-inline", "-F", "comm,ip,sym", "-i"])
        .arg(perf.output())
        .output()
        .map_err(|error| format!("perf script: {error}"))?;
    if !output.status.success() {
        let messages = String::from_utf8_lossy(&output.stderr);
        return Err(format!("perf script: {}", messages.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn print_all(profiles: &[(&str, Profile)], rows: usize) {
    let names = Vec::from_iter(profiles.iter().map(|(name, _)| format!("{name:>8}"))).join("  ");
    heading(&format!("µs of CPU for each delivery: {names}"));
    let figures = |name: &str, of: &dyn Fn(&Profile) -> f64| {
        let figures = profiles
            .iter()
            .map(|(_, profile)| format!("{:8.1}", of(profile)));
        line(name, Vec::from_iter(figures).join("  "));
    };
    figures("in all, without perf", &|profile| profile.cpu);
    figures("samples", &|profile| profile.samples as f64);
    for (title, shares) in [
        (
            "by group",
            (|profile| &profile.by_group) as fn(&Profile) -> &Shares,
        ),
        ("by function, innermost", |profile| &profile.by_function),
    ] {
        heading(&format!("{title}, µs: {names}"));
        let mut largest: BTreeMap<&str, f64> = BTreeMap::new();
        for (_, profile) in profiles {
            for (name, share) in shares(profile) {
                let most = largest.entry(name).or_default();
                *most = most.max(*share);
            }
        }
        let mut largest = Vec::from_iter(largest);
        largest.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        for (name, _) in largest.into_iter().take(rows) {
            let short = Vec::from_iter(name.chars().take(100));
            let of = |profile: &Profile| shares(profile).get(name).copied().unwrap_or(0.0);
            let figures = profiles
                .iter()
                .map(|(_, profile)| format!("{:8.2}", of(profile)));
            let figures = Vec::from_iter(figures).join("  ");
            println!("  {figures}  {}", String::from_iter(short));
        }
    }
    for (name, profile) in profiles {
        heading(&format!(
            "by thread, {name}: user µs, system µs, waits, preemptions, for each delivery"
        ));
        for row in &profile.by_thread {
            if row.user + row.system + row.waits < 0.005 {
                continue;
            }
            let ThreadRow {
                user,
                system,
                waits,
                preemptions,
                ..
            } = row;
            line(
                &row.kind,
                format!("{user:8.1}  {system:8.1}  {waits:8.3}  {preemptions:8.3}"),
            );
        }
    }
}
