//! What it costs to find out whether an event id was used within a day, with few and with many used.
//!
//! The ids are written through the store itself, in commits of a thousand messages, by a clock that
//! goes through twenty hours meanwhile: so the slices, their indexes and their filters are those of a
//! day of publishing. The binary then starts on that store and is published to over HTTP.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use postrider::clock::{Clock, Timestamp};
use postrider::config::{self, Flags};
use postrider::domain::message::Origin;
use postrider::store::{Answered, NewBatch, NewMessage, Shown, Store, StoreSettings};
use postrider::telemetry::Metrics;

use super::list::register;
use super::rig::figures::{Figures, MIB, MICROS};
use super::rig::process::{Launch, Server, until};
use super::rig::{Latency, Options, heading, line, usage};

const FEW: u64 = 10_000;
const HOURS: u64 = 20;
const IN_ONE_COMMIT: u64 = 1_000;
const CONNECTIONS: u64 = 8;

pub fn run(options: &Options, figures: &mut Figures) {
    let many = options.number("ids", 50_000, 10_000_000);
    for ids in [FEW, many] {
        with(options, figures, ids / IN_ONE_COMMIT * IN_ONE_COMMIT);
    }
}

fn with(options: &Options, figures: &mut Figures, ids: u64) {
    heading(&format!("event-ids: {ids} ids used within {HOURS} hours"));
    let directory = options.scratch();
    let data = directory.path().join("data");
    let now = Clock::System.now();
    let began = now.saturating_sub(Duration::from_secs(HOURS * 3600));
    let started = Instant::now();
    let application = fill(&data, ids, began, now);
    let seconds = started.elapsed().as_secs_f64();
    line("written", format!("{:.0}/s", ids as f64 / seconds));
    line("disk", format!("{:.0} MiB", usage::disk(directory.path())));
    let slices = std::fs::read_dir(data.join("slices")).map_or(0, Iterator::count);
    line("slices", slices);

    let server = Launch::new(&data).ready_within(Duration::from_secs(600));
    let server = server.start();
    let id = server.process.id();
    usage::cpu_at_rest(id);
    let of = |name: &str| format!("{ids} ids: {name}");
    figures.add(of("memory, filters read"), usage::rss(id), MIB);

    let publish = Publish {
        server: &server,
        path: format!("/api/v1/app/{application}/msg"),
        each: options.number("lookups", 800, 20_000) / CONNECTIONS,
    };
    let total = publish.each * CONNECTIONS;
    publish.all(|_| (None, 202));
    let spread = |number: u64| number * (ids / total.min(ids)) % ids;
    let newest = |number: u64| ids - 1 - number % IN_ONE_COMMIT;
    let new = |number: u64| (Some(format!("new-{number}")), 202);
    let used = |number: u64| (Some(event_id(number)), 409);
    let without = publish.cost(figures, &of("without an id"), |_| (None, 202));
    for (name, cost) in [
        ("a new id", publish.cost(figures, &of("a new id"), new)),
        (
            "a used one, of the whole day",
            publish.cost(figures, &of("a used one, of the whole day"), |number| {
                used(spread(number))
            }),
        ),
        (
            "a used one, the newest",
            publish.cost(figures, &of("a used one, the newest"), |number| {
                used(newest(number))
            }),
        ),
    ] {
        line(
            &format!("  {name}, CPU beyond that without"),
            format!("{:+.1} µs", cost - without),
        );
    }
    figures.add(of("memory after it"), usage::rss(id), MIB);
}

struct Publish<'a> {
    server: &'a Server,
    path: String,
    /// Requests on each connection.
    each: u64,
}

impl Publish<'_> {
    /// Server CPU for each request, in microseconds; it and how long requests took are printed.
    fn cost(
        &self,
        figures: &mut Figures,
        name: &str,
        request: impl Fn(u64) -> (Option<String>, u16) + Sync,
    ) -> f64 {
        let id = self.server.process.id();
        let before = usage::cpu_at_rest(id);
        let latency = self.all(request);
        let cpu = usage::cpu_at_rest(id) - before;
        let each = cpu.as_micros() as f64 / (self.each * CONNECTIONS) as f64;
        figures.add(format!("{name}, CPU"), each, MICROS);
        figures.latency(name, latency);
        each
    }

    /// Requests with what is given for each number: its event id, and the status of its answer.
    fn all(&self, request: impl Fn(u64) -> (Option<String>, u16) + Sync) -> Latency {
        let next = AtomicU64::new(0);
        let publish = || {
            let mut connection = self.server.api.connect().expect("the server listens");
            let mut samples = Vec::new();
            for _ in 0..self.each {
                let (event_id, status) = request(next.fetch_add(1, Ordering::Relaxed));
                let event_id = event_id.map_or(String::new(), |id| format!(r#""eventId":"{id}","#));
                let body = format!(r#"{{{event_id}"eventType":"bench.event","payload":{{}}}}"#);
                let sent = Instant::now();
                let answer = connection.request("POST", &self.path, &body);
                let answer = answer.expect("the server answers");
                samples.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
                let text = String::from_utf8_lossy(&answer.body);
                assert_eq!(answer.status, status, "{body}: {text}");
            }
            samples
        };
        let samples = std::thread::scope(|scope| {
            let threads = Vec::from_iter((0..CONNECTIONS).map(|_| scope.spawn(publish)));
            let samples = threads.into_iter().map(|thread| thread.join());
            Vec::from_iter(samples.flat_map(|samples| samples.expect("no request fails")))
        });
        Latency::of(samples)
    }
}

fn event_id(number: u64) -> String {
    format!("order-{number:010}-paid")
}

/// Writes a store with one application, in which so many event ids were used between the two times.
fn fill(data: &Path, ids: u64, began: Timestamp, now: Timestamp) -> String {
    let mut config = config::load(None, Flags::default()).expect("the defaults");
    config.store.path = data.to_owned();
    let clock = Clock::manual(began);
    let settings = StoreSettings::from_config(&config);
    let store =
        Store::open(settings, clock.clone(), Arc::new(Metrics::new())).expect("a new store");
    let (application, endpoint) = register(&store, began);
    let message = |number: u64| NewMessage {
        organisation: endpoint.organisation,
        application,
        event_type: "bench.event".to_owned(),
        event_id: Some(event_id(number)),
        channels: Vec::new(),
        payload: r#"{"order":17,"total":99.90}"#.into(),
        is_raw: false,
        content_type: None,
        lanes: Vec::new(),
        matched_as_of: None,
        once: None,
        origin: Origin::Published,
        tags: Vec::new(),
        deliver_at: None,
        expires_at: None,
        metadata: BTreeMap::new(),
        headers: BTreeMap::new(),
    };
    actix_rt::System::new().block_on(async {
        for first in (0..ids).step_by(IN_ONE_COMMIT as usize) {
            clock.advance_to(Timestamp(began.0 + (now.0 - began.0) * first / ids));
            let messages = Vec::from_iter((first..first + IN_ONE_COMMIT).map(message));
            let show = Box::new(|accepted: Vec<_>| {
                for message in accepted {
                    message?;
                }
                let answered = Answered {
                    status: 202,
                    body: Vec::new(),
                };
                Ok(Shown {
                    answered,
                    without_payloads: None,
                })
            });
            let accepted = store.accept_batch(NewBatch::new(messages, None, show));
            accepted.await.expect("the store takes it");
        }
    });
    let ready = until(Duration::from_secs(3_600), || {
        store.filters_are_ready().then_some(())
    });
    ready.expect("every slice gets its filter");
    store.close().expect("a clean close");
    application.to_string()
}
