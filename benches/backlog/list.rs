//! What a page of the log of attempts costs, with ten thousand attempts kept and with many more.
//!
//! The log is written through the store itself, as a worker writes it, and spread over twenty days,
//! so that there are slices of every age; pages are then asked for over HTTP.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use postrider::catalog::{Catalog, Change};
use postrider::clock::{Clock, Timestamp};
use postrider::config::{self, Flags};
use postrider::domain::application::Application;
use postrider::domain::attempt::{
    Answer, FailureKind, Outcome, SendFailure, Timings, Trigger, Verdict,
};
use postrider::domain::endpoint::Endpoint;
use postrider::domain::id::{ApplicationId, AttemptId, EndpointId, MessageId};
use postrider::domain::message::{Delivery, DeliveryKey};
use postrider::domain::profile::Method;
use postrider::rules::Decided;
use postrider::rules::decision::Decision;
use postrider::store::{AttemptSignal, Event, Finished, Store, StoreSettings};
use postrider::telemetry::Metrics;
use serde_json::Value;

use super::rig::process::{Launch, Server};
use super::rig::{Latency, Options, heading, judged, line, ms, usage};

const FEW: u64 = 10_000;
/// How long ago the first attempt was made: within the retention time.
const DAYS: u64 = 20;
/// One in this many failed.
const FAILED_EVERY: u64 = 10;
/// Attempts that may wait for the disk while the log is written: at most these, and one in so many,
/// for the clock runs ahead by them.
const AHEAD_MAX: u64 = 4_000;
const AHEAD_ONE_IN: u64 = 50;
/// Pages that are timed one behind the other.
const PAGES: usize = 15;

/// What pages took, in microseconds: when they were first read, and when they were read again.
#[derive(Default)]
pub struct Samples {
    pub first: Vec<u32>,
    pub again: Vec<u32>,
}

struct Pages {
    newest: Samples,
    middle: Samples,
    failed: Samples,
}

pub fn run(options: &Options) {
    let many = options.number("attempts", 100_000, 1_000_000);
    heading(&format!("list: pages of 50 out of {FEW} attempts"));
    let few = pages_of(options, FEW);
    heading(&format!("list: pages of 50 out of {many} attempts"));
    let of_many = pages_of(options, many);
    heading(&format!("list: out of {many}, compared to out of {FEW}"));
    for (name, few, many) in [
        ("the newest pages", few.newest, of_many.newest),
        ("pages in the middle", few.middle, of_many.middle),
        ("pages of failed ones", few.failed, of_many.failed),
    ] {
        compare(&format!("{name}, read"), few.first, many.first);
        compare(&format!("{name}, read again"), few.again, many.again);
    }
}

fn compare(name: &str, few: Vec<u32>, many: Vec<u32>) {
    let (few, many) = (Latency::of(few).p50, Latency::of(many).p50);
    let ratio = f64::from(many) / f64::from(few.max(1));
    let figure = format!("× {ratio:.2}");
    judged(name, figure, "≤ 1.5, median", ratio <= 1.5);
}

fn pages_of(options: &Options, attempts: u64) -> Pages {
    let directory = options.scratch();
    let data = directory.path().join("data");
    let now = Clock::System.now();
    let began = now.saturating_sub(Duration::from_secs(DAYS * 24 * 3600));
    let started = Instant::now();
    let (application, endpoint) = fill(&data, attempts, began, now);
    let seconds = started.elapsed().as_secs_f64();
    line("written", format!("{:.0}/s", attempts as f64 / seconds));
    line("disk", format!("{:.0} MiB", usage::disk(directory.path())));
    let slices = std::fs::read_dir(data.join("slices")).map_or(0, Iterator::count);
    line("slices", slices);

    let server = Launch::new(&data)
        .ready_within(Duration::from_secs(600))
        .start();
    let list = format!("/api/v1/app/{application}/attempt/endpoint/{endpoint}?limit=50");
    let (_, newest) = timed(&server, &list, None, "newest");
    let mut middle = Samples::default();
    for quarter in 1..4 {
        let at = Timestamp(began.0 + (now.0 - began.0) / 4 * quarter);
        let (_, samples) = timed(&server, &list, Some(at), "middle");
        middle.first.extend(samples.first);
        middle.again.extend(samples.again);
    }
    let (_, failed) = timed(&server, &format!("{list}&status=2"), None, "failed");
    for (name, samples) in [
        ("the newest pages", &newest),
        ("pages in the middle", &middle),
        ("pages of failed attempts", &failed),
    ] {
        line(&format!("{name}, read"), Latency::of(samples.first.clone()));
        line(
            &format!("{name}, read again"),
            Latency::of(samples.again.clone()),
        );
    }
    Pages {
        newest,
        middle,
        failed,
    }
}

/// How long each of some pages took, reading on from one to the next. The first is read before, and
/// its milliseconds told apart: it opens the slice that it finds itself in.
pub fn timed(server: &Server, list: &str, at: Option<Timestamp>, name: &str) -> (f64, Samples) {
    let mut path = match at {
        Some(at) => format!("{list}&iterator={}", AttemptId::first_at(at)),
        None => list.to_owned(),
    };
    let (first, _) = page(server, &path);
    line(
        &format!("  the first look ({name})"),
        format!("{:.1} ms", ms(first)),
    );
    let mut samples = Samples::default();
    for _ in 0..PAGES {
        let (micros, answer) = page(server, &path);
        samples.first.push(micros);
        samples.again.push(page(server, &path).0);
        let Some(next) = answer["iterator"].as_str() else {
            break;
        };
        path = format!("{list}&iterator={next}");
    }
    (ms(first), samples)
}

/// How long a page took, in microseconds, and the page.
pub fn page(server: &Server, path: &str) -> (u32, Value) {
    let started = Instant::now();
    let answer = server.api.get(path);
    let micros = started.elapsed().as_micros() as u32;
    assert_eq!(answer["data"].as_array().map(Vec::len), Some(50), "{path}");
    (micros, answer)
}

/// Writes a store with this many attempts at one endpoint, made from `began` to `now`.
fn fill(data: &Path, attempts: u64, began: Timestamp, now: Timestamp) -> (String, String) {
    let mut config = config::load(None, Flags::default()).expect("the defaults");
    config.store.path = data.to_owned();
    let clock = Clock::manual(began);
    let settings = StoreSettings::from_config(&config);
    let store =
        Store::open(settings, clock.clone(), Arc::new(Metrics::new())).expect("a new store");
    let (application, endpoint) = register(&store, began);
    let recorded = Arc::new(AtomicU64::new(0));
    let counted = recorded.clone();
    store.attach(Box::new(move |event| {
        if matches!(event, Event::Recorded(_)) {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    }));
    let ahead_max = AHEAD_MAX.min(attempts / AHEAD_ONE_IN);
    for number in 0..attempts {
        let at = Timestamp(began.0 + (now.0 - began.0) * number / attempts);
        clock.advance_to(at);
        while number - recorded.load(Ordering::Relaxed) > ahead_max {
            std::thread::sleep(Duration::from_micros(200));
        }
        store.record_attempt(finished(&endpoint, at, number));
    }
    store.close().expect("a clean close");
    (application.to_string(), endpoint.id.to_string())
}

/// An application with one endpoint.
pub fn register(store: &Store, at: Timestamp) -> (ApplicationId, Arc<Endpoint>) {
    let organisation = store.catalog().organisations().next().map(|one| one.id);
    let organisation = organisation.expect("a new store has one");
    let application = Application {
        id: ApplicationId::at(at),
        organisation,
        uid: None,
        name: "bench".to_owned(),
        metadata: Default::default(),
        throttle_rate: None,
        created_at: at,
        updated_at: at,
        tokens_valid_from: None,
        tokens_ending: None,
    };
    let endpoint = Endpoint {
        url: "https://example.com/in".to_owned(),
        ..Endpoint::new(EndpointId::at(at), organisation, application.id, 1, at)
    };
    let id = application.id;
    let kept = endpoint.clone();
    let changes = vec![
        Change::PutApplication(application),
        Change::PutEndpoint(endpoint),
    ];
    let changed = store.change(Registered(changes));
    actix_rt::System::new()
        .block_on(changed)
        .expect("the store takes it");
    (id, Arc::new(kept))
}

struct Registered(Vec<Change>);

impl Decision for Registered {
    type Answer = ();

    fn decide(self, _: &Catalog, _: Timestamp) -> Decided<()> {
        Ok((self.0, ()))
    }
}

fn finished(endpoint: &Arc<Endpoint>, at: Timestamp, number: u64) -> Finished {
    let failed = number.is_multiple_of(FAILED_EVERY);
    let text = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let message = MessageId::at(at);
    let signature = "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=";
    Finished {
        delivery: Delivery {
            key: DeliveryKey {
                lane: endpoint.number,
                due: at,
                message,
            },
            attempts: 0,
            trigger: Trigger::Scheduled,
        },
        endpoint: endpoint.clone(),
        number: 1,
        outcome: Outcome {
            started_at: at,
            timings: Timings {
                total_us: 12_345,
                ..Timings::default()
            },
            method: Method::Post,
            url: endpoint.url.clone(),
            request_headers: [
                ("webhook-id", message.to_string().as_str()),
                ("webhook-timestamp", "1700000000"),
                ("webhook-signature", signature),
            ]
            .map(text)
            .to_vec(),
            answer: Some(Answer {
                status: if failed { 500 } else { 200 },
                headers: [
                    ("content-type", "application/json"),
                    ("content-length", "2"),
                ]
                .map(text)
                .to_vec(),
                body: b"{}".to_vec(),
                truncated: false,
            }),
            failure: failed.then(|| SendFailure {
                kind: FailureKind::WrongAnswer,
                detail: "status 500".to_owned(),
            }),
            sent_again: false,
            is_final: false,
        },
        verdict: match failed {
            true => Verdict::GiveUp,
            false => Verdict::Delivered,
        },
        test: false,
        event_id: None,
        event_type: None,
        signal: AttemptSignal::Neither,
    }
}
