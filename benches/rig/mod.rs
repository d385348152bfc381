//! What the benchmarks stand on: a server with its sink, a load client, and a ruler.
//!
//! Server, sink and client are three processes on loopback; sink and client are this same program,
//! executed again with a hidden first argument, and cost as little as they can, for they share the
//! machine with what is measured. The client puts the time at which it sends into the payload and
//! the sink subtracts it: CLOCK_MONOTONIC is the same for all processes of a machine.

#![allow(
    dead_code,
    reason = "each benchmark that includes this module uses a part of it"
)]

#[path = "../../tests/process/mod.rs"]
pub mod process;

pub mod calls;
pub mod disk;
pub mod figures;
pub mod load;
mod options;
pub mod perf;
pub mod sink;
pub mod threads;
pub mod usage;
pub mod world;

pub use options::Options;
use serde::{Deserialize, Serialize};

/// Does the work of a child process, if this is one, or nothing where nobody asked for a
/// benchmark: `cargo test --benches` runs this program too. `None` in these cases.
pub fn options() -> Option<Options> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("sink") => sink::run(),
        Some("load") => load::run(&arguments[1]),
        _ if !arguments.iter().any(|argument| argument == "--bench") => {
            println!("nothing is measured here; `cargo bench` does");
        }
        _ => return Some(Options::parse(arguments)),
    }
    None
}

pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call writes one timespec, which is ours.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// In microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Latency {
    pub p50: u32,
    pub p95: u32,
    pub p99: u32,
    pub max: u32,
}

impl Latency {
    pub fn of(mut samples: Vec<u32>) -> Latency {
        samples.sort_unstable();
        let at = |share: f64| {
            let place = (samples.len() as f64 * share) as usize;
            samples.get(place).or(samples.last()).copied().unwrap_or(0)
        };
        Latency {
            p50: at(0.50),
            p95: at(0.95),
            p99: at(0.99),
            max: at(1.0),
        }
    }
}

impl std::fmt::Display for Latency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [p50, p95, p99, max] =
            [self.p50, self.p95, self.p99, self.max].map(|micros| f64::from(micros) / 1_000.0);
        write!(
            f,
            "p50 {p50:.2}  p95 {p95:.2}  p99 {p99:.2}  max {max:.2} ms"
        )
    }
}

pub fn heading(text: &str) {
    println!("\n{text}");
}

pub fn line(name: &str, figure: impl std::fmt::Display) {
    println!("  {name:<44} {figure}");
}

/// A figure with the target that it is held against.
pub fn judged(name: &str, figure: impl std::fmt::Display, target: &str, met: bool) {
    let verdict = if met { "met" } else { "MISSED" };
    println!("  {name:<44} {figure:<44} target {target}: {verdict}");
}

pub fn ms(micros: u32) -> f64 {
    f64::from(micros) / 1_000.0
}
