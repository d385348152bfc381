//! One customer does its worst, and another's publishing, deliveries and pages are measured.
//!
//! The real binary runs with its usual settings, but for smaller limits of what waits and of requests a
//! second, so that they can be met in seconds, and names that are not remembered for long, so that the victim's is
//! looked up while it is measured. Each attack runs for [`MEASURED`] while the victim publishes,
//! receives and reads twenty times a second. Each of its times stays within three times its quiet
//! 99th percentile, or a floor where that is less, and the server's memory under [`MEMORY_MAX`].
//! All load is bounded and stops by itself.
//!
//! `ATTACK` runs only the attacks whose names have this text, and `POSTRIDER_BINARY` measures another
//! version without judging it: docs/testing.md says how, and what was found.
#![cfg(target_os = "linux")]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

#[path = "process/mod.rs"]
mod process;

use process::client::{Connection, connect_from};
use process::dns::Dns;
use process::receiver::{Receiver, Reply};
use process::{Api, Launch, other_binary, say, until};

/// How long each attack is measured.
const MEASURED: Duration = Duration::from_secs(6);
/// Between two rounds of the victim.
const ROUND: Duration = Duration::from_millis(50);
/// How long the victim's message may take before it is given up.
const DELIVERED_WITHIN: Duration = Duration::from_secs(20);
/// A time under attack is no failure below this, however quiet it was before: the attackers are threads
/// of this test and share the machine's processors with the server.
const FLOOR: Duration = Duration::from_millis(50);
/// The same where others keep the processors and the disk busy, too, and for a debug build: there a
/// single wait for the disk is a hundred times the server's own work. What this test is about took a
/// second and more.
const BUSY_FLOOR: Duration = Duration::from_millis(500);
/// What the server's resident memory stays under: 64 MiB of the database's cache, the answers of the
/// settings below, a thousand endpoints at work, and room for what is being made.
const MEMORY_MAX: u64 = 600 << 20;
const ANSWERS_BYTES: u64 = 128 << 20;

/// The victim is at an address of its own, the attackers at 127.0.0.1.
const VICTIMS_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Connections that the server takes, and those that attackers leave idle: enough to take all of them, if
/// one address could.
const CONNECTIONS_MAX: usize = 4000;
const IDLE_EACH: usize = 1000;
const IDLERS: usize = 6;

const HELD_SHARE: u64 = 20_000;
/// As many as one application may have.
const SILENT_NAMES: usize = 1000;

struct World {
    api: Api,
    victim: Victim,
    /// The attacker's API key.
    key: String,
    /// The attacker's portal link.
    link: String,
    /// The attacker's endpoint, with a log of attempts.
    endpoint: String,
    /// The key of an application whose endpoints have long headers.
    long_key: String,
}

/// What is measured.
struct Victim {
    key: String,
    /// When each message of the victim's came to its receiver, by its number.
    received: Arc<Mutex<HashMap<u64, Instant>>>,
    published: AtomicU64,
}

/// Of publishing, from there to the receiver, and of a page.
#[derive(Default)]
struct Times {
    each: [Vec<Duration>; 3],
    /// What the victim was refused or never got.
    failures: Vec<String>,
}

const WHAT: [&str; 3] = ["publish", "delivery", "page"];

/// Zero where nothing was measured.
fn quantile(times: &[Duration], per_cent: usize) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = times.len().saturating_sub(1) * per_cent / 100;
    times.get(at).copied().unwrap_or_default()
}

impl Times {
    fn text(&self) -> String {
        let each = WHAT.iter().zip(&self.each).map(|(what, times)| {
            let ms = |per_cent| quantile(times, per_cent).as_secs_f64() * 1e3;
            format!("{what} {:.1}/{:.1} ms", ms(50), ms(99))
        });
        let text = Vec::from_iter(each).join(", ");
        match self.failures.len() {
            0 => text,
            failures => format!("{text}, {failures} failures"),
        }
    }
}

/// What the server and the machine were seen to do meanwhile.
#[derive(Default)]
struct Seen {
    /// The most resident memory of the server, in bytes.
    memory_most: u64,
    /// Threads of the whole machine that ran or waited for a processor: their sum, and how often
    /// they were counted.
    runnable: (f64, f64),
}

impl Seen {
    fn look(&mut self, server: u32) {
        self.memory_most = self.memory_most.max(memory(server));
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let counts = load.split(' ').nth(3).and_then(|text| text.split_once('/'));
        let running = counts.and_then(|(running, _)| running.parse().ok());
        self.runnable.0 += running.unwrap_or(0.0);
        self.runnable.1 += 1.0;
    }

    /// Whether others keep all processors busy.
    fn is_busy(&self) -> bool {
        let processors = std::thread::available_parallelism().map_or(1, |count| count.get());
        self.runnable.0 / self.runnable.1.max(1.0) > processors as f64
    }
}

/// The end of an attack, for its threads.
#[derive(Default)]
struct Stop {
    came: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    fn comes(&self) {
        *self.came.lock().expect("nobody panics") = true;
        self.changed.notify_all();
    }

    fn has_come(&self) -> bool {
        *self.came.lock().expect("nobody panics")
    }

    /// Paces the load: returns after this time, or when the end comes.
    fn pause(&self, at_most: Duration) {
        let came = self.came.lock().expect("nobody panics");
        let waited = self
            .changed
            .wait_timeout_while(came, at_most, |came| !*came);
        drop(waited.expect("nobody panics"));
    }
}

fn token(api: &Api, application: &str) -> String {
    let body = json!({ "name": "key", "role": "application", "applicationId": application });
    let made = api.call("POST", "/api/v1/token", &body, 201);
    made["token"].as_str().expect("a token").to_owned()
}

fn application(api: &Api, uid: &str) {
    let body = json!({ "name": uid, "uid": uid });
    api.call("POST", "/api/v1/app", &body, 201);
}

fn endpoint(api: &Api, application: &str, body: &Value) -> String {
    let path = format!("/api/v1/app/{application}/endpoint");
    let made = api.call("POST", &path, body, 201);
    made["id"].as_str().expect("an id").to_owned()
}

fn publish(api: &Api, application: &str, payload: &Value) {
    let body = json!({ "eventType": "a", "payload": payload });
    let path = format!("/api/v1/app/{application}/msg");
    api.call("POST", &path, &body, 202);
}

impl World {
    /// Publishes, receives and reads for a while.
    fn measure(&self) -> Times {
        let mut times = Times::default();
        let publisher = self.api.connect_from(VICTIMS_ADDRESS);
        let mut publisher = publisher.expect("the server takes a connection");
        let reader = connect_from(VICTIMS_ADDRESS, self.api.address);
        let reader = reader.and_then(|stream| Connection::on(stream, &self.victim.key));
        let mut reader = reader.expect("the same");
        let pace = Stop::default();
        let end = Instant::now() + MEASURED;
        while Instant::now() < end {
            let round = Instant::now();
            self.measure_message(&mut publisher, round, &mut times);
            let begun = Instant::now();
            let page = reader.request("GET", "/api/v1/app/victim/msg?limit=50", "");
            times.each[2].push(begun.elapsed());
            match page.expect("the page is answered").status {
                200 => {}
                status => times.failures.push(format!("the page: {status}")),
            }
            pace.pause(ROUND.saturating_sub(round.elapsed()));
        }
        times
    }

    fn measure_message(&self, publisher: &mut Connection, round: Instant, times: &mut Times) {
        let number = self.victim.published.fetch_add(1, Ordering::Relaxed);
        let body = json!({ "eventType": "a", "payload": { "n": number } }).to_string();
        let answer = publisher.request("POST", "/api/v1/app/victim/msg", &body);
        let answer = answer.expect("publishing is answered");
        let took = round.elapsed();
        if answer.status != 202 {
            let why = String::from_utf8_lossy(&answer.body).into_owned();
            times.failures.push(format!("{} {why}", answer.status));
            return;
        }
        times.each[0].push(took);
        let came = until(DELIVERED_WITHIN, || {
            let received = self.victim.received.lock().expect("nobody panics");
            received.get(&number).copied()
        });
        let Some(came) = came else {
            return times.failures.push("not delivered".to_owned());
        };
        times.each[1].push(came.saturating_duration_since(round));
    }

    /// What the victim gets while this runs, and what else was seen.
    fn under(&self, attack: &Kind, server: u32) -> (Times, Seen) {
        let stop = Stop::default();
        let begun = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for number in 0..attack.threads {
                let build = std::thread::Builder::new().stack_size(256 << 10);
                let (stop, begun) = (&stop, &begun);
                let run = move || {
                    yield_to_the_server();
                    begun.fetch_add(1, Ordering::Relaxed);
                    while !stop.has_come() {
                        (attack.once)(self, stop, number);
                    }
                };
                build.spawn_scoped(scope, run).expect("a thread");
            }
            let watch = scope.spawn(|| {
                let mut seen = Seen::default();
                while !stop.has_come() {
                    seen.look(server);
                    stop.pause(Duration::from_millis(20));
                }
                seen
            });
            until(DELIVERED_WITHIN, || {
                (begun.load(Ordering::Relaxed) == attack.threads).then_some(())
            })
            .expect("the attack begins");
            let times = self.measure();
            stop.comes();
            (times, watch.join().expect("it only looks"))
        })
    }
}

/// The server's resident memory, in bytes.
fn memory(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

/// Attackers are on machines of their own: what this thread does itself comes after the server's work.
fn yield_to_the_server() {
    // SAFETY: it takes numbers only; 0 is the calling thread, and anybody may lower its priority.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 10) };
}

/// Being refused is what the server is for here; coming again at once is not.
const AFTER_A_REFUSAL: Duration = Duration::from_millis(5);

/// Asks with a credential, if there is one, for more than sockets hold, and takes nothing of it until it
/// is cut off.
fn read_nothing(address: SocketAddr, credential: Option<&str>, path: &str, stop: &Stop) {
    let Ok(mut connection) = TcpStream::connect(address) else {
        return stop.pause(AFTER_A_REFUSAL);
    };
    let credential = credential.map_or(String::new(), |one| {
        format!("authorization: Bearer {one}\r\n")
    });
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n{credential}\r\n");
    let _ = connection.write_all(request.repeat(4).as_bytes());
    stop.pause(2 * MEASURED);
}

/// Reads a whole answer.
fn read_all(address: SocketAddr, credential: &str, path: &str, stop: &Stop) {
    let answer = Connection::open(address, credential)
        .and_then(|mut connection| connection.request("GET", path, ""));
    if answer.map_or(true, |answer| answer.status >= 400) {
        stop.pause(AFTER_A_REFUSAL);
    }
}

/// Publishes, whether that is accepted or refused.
fn press(world: &World, application: &str, stop: &Stop) {
    let body = json!({ "eventType": "a", "payload": {} }).to_string();
    let path = format!("/api/v1/app/{application}/msg");
    let answer = world.api.request("POST", &path, &body);
    if answer.map_or(true, |answer| answer.status >= 400) {
        stop.pause(AFTER_A_REFUSAL);
    }
}

fn sign_in(address: SocketAddr, credential: &str) -> Option<(u16, String)> {
    sign_in_on(TcpStream::connect(address).ok()?, credential)
}

fn sign_in_on(mut connection: TcpStream, credential: &str) -> Option<(u16, String)> {
    let body = json!({ "token": credential }).to_string();
    let request = format!(
        "POST /api/v1/session HTTP/1.1\r\nhost: x\r\nx-postrider-surface: portal\r\n\
         content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer))
}

/// Opens connections and leaves each in the middle of its second request.
fn leave_idle(address: SocketAddr, stop: &Stop) {
    let mut idle = Vec::new();
    while idle.len() < IDLE_EACH && !stop.has_come() {
        let Ok(mut connection) = TcpStream::connect(address) else {
            return stop.pause(AFTER_A_REFUSAL);
        };
        let requests = b"GET /api/v1/health/ping HTTP/1.1\r\nhost: x\r\n\r\nGET /";
        if connection.write_all(requests).is_ok() {
            idle.push(connection);
        }
        stop.pause(Duration::from_millis(1));
    }
    stop.pause(2 * MEASURED);
}

/// Tries a key that nobody else tries, on a connection of its own.
fn guess(address: SocketAddr, stop: &Stop) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let key = format!("pr_{number:07}{}", "x".repeat(36));
    read_all(address, &key, "/api/v1/app/victim/msg", stop);
}

/// A receiver that answers each request with a chunk whose extension does not end.
fn endless_extensions() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut connection = connection;
                let _ = connection.read(&mut [0; 4096]);
                let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;x=";
                let mut sent = connection.write_all(head);
                let more = [b'a'; 16 << 10];
                let end = Instant::now() + 3 * MEASURED;
                while sent.is_ok() && Instant::now() < end {
                    sent = connection.write_all(&more);
                }
            });
        }
    });
    address
}

struct Kind {
    name: &'static str,
    /// How many run it at a time, again and again.
    threads: usize,
    /// Is given the number of its thread, from 0.
    once: fn(&World, &Stop, usize),
}

const IDLE_CONNECTIONS: &str = "idle connections";

const QUIET: Kind = Kind {
    name: "quiet",
    threads: 0,
    once: |_, _, _| {},
};

/// The largest payload, of which a filter may look at every number.
fn worst_payload() -> &'static str {
    static TEXT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    TEXT.get_or_init(|| {
        let list = "1,".repeat(520_000);
        format!("{{\"eventType\":\"a\",\"payload\":{{\"list\":[{list}1]}}}}")
    })
}

/// As many conditions as a filter may have, of which each looks at all of a list.
fn worst_filter() -> Value {
    let asks: Vec<Value> = (0..200)
        .map(|n| json!({ "list": { "$or": [[n + 2]] } }))
        .collect();
    json!({ "data": { "$or": asks } })
}

const ATTACKS: [Kind; 18] = [
    Kind {
        name: "slow readers of large pages",
        threads: 60,
        once: |world, stop, _| {
            let path = "/api/v1/app/attacker/msg?limit=250";
            read_nothing(world.api.address, Some(&world.key), path, stop);
        },
    },
    Kind {
        name: "slow readers without a credential",
        threads: 400,
        once: |world, stop, _| read_nothing(world.api.address, None, "/openapi.json", stop),
    },
    Kind {
        name: "large pages",
        threads: 8,
        once: |world, stop, _| {
            let path = "/api/v1/app/attacker/msg?limit=250";
            read_all(world.api.address, &world.key, path, stop);
        },
    },
    Kind {
        name: "long lists of endpoints",
        threads: 8,
        once: |world, stop, _| {
            let path = "/api/v1/app/long/endpoint?limit=250";
            read_all(world.api.address, &world.long_key, path, stop);
        },
    },
    Kind {
        name: "requests without end",
        threads: 32,
        once: |world, stop, _| {
            let path = "/api/v1/app/attacker";
            read_all(world.api.address, &world.key, path, stop);
        },
    },
    Kind {
        name: "held deliveries",
        threads: 4,
        once: |world, stop, _| press(world, "holder", stop),
    },
    // Each is refused when its budget is spent.
    Kind {
        name: "filters that cost most, and payloads",
        threads: 16,
        once: |world, stop, _| {
            let path = "/api/v1/app/sieves/msg";
            let answer = world.api.request("POST", path, worst_payload());
            if answer.map_or(true, |answer| answer.status >= 400) {
                stop.pause(AFTER_A_REFUSAL);
            }
        },
    },
    // These are within the budget of each message.
    Kind {
        name: "filters that cost most, in batches",
        threads: 8,
        once: |world, stop, _| {
            let list = "1,".repeat(90);
            let one = format!("{{\"eventType\":\"a\",\"payload\":{{\"list\":[{list}1]}}}}\n");
            let path = "/api/v1/app/sieves/msg/batch";
            let answer = world.api.request("POST", path, &one.repeat(1000));
            if answer.map_or(true, |answer| answer.status >= 400) {
                stop.pause(AFTER_A_REFUSAL);
            }
        },
    },
    Kind {
        name: "filtered lists of messages",
        // More than may wait.
        threads: 80,
        once: |world, stop, _| {
            let path = "/api/v1/app/attacker/msg?event_types=nothing.like.it&with_content=false";
            read_all(world.api.address, &world.key, path, stop);
        },
    },
    Kind {
        name: "lists and statistics of all kinds",
        threads: 64,
        once: |world, stop, number| {
            let (base, endpoint) = ("/api/v1/app/attacker", &world.endpoint);
            let path = match number % 5 {
                0 => format!("{base}/msg?tag=nothing&with_content=false"),
                1 => format!("{base}/attempt/endpoint/{endpoint}?status=2&with_content=false"),
                2 => format!("{base}/attempt/endpoint/{endpoint}?event_types=nothing.like.it"),
                3 => format!("{base}/endpoint/{endpoint}/msg?status=2&with_content=false"),
                _ => format!("{base}/endpoint/{endpoint}/attempt-series"),
            };
            read_all(world.api.address, &world.key, &path, stop);
        },
    },
    Kind {
        name: "sign-ins",
        threads: 8,
        once: |world, _, number| match number % 2 {
            0 => drop(sign_in(world.api.address, &world.link)),
            _ => drop(sign_in(world.api.address, "pr_guessed")),
        },
    },
    Kind {
        name: "guessed keys",
        threads: 150,
        once: |world, stop, _| guess(world.api.address, stop),
    },
    Kind {
        name: IDLE_CONNECTIONS,
        threads: IDLERS,
        once: |world, stop, _| leave_idle(world.api.address, stop),
    },
    Kind {
        name: "sign-ins, and calls with guessed keys",
        threads: 64,
        once: |world, stop, number| match number % 4 {
            0 => drop(sign_in(world.api.address, &world.link)),
            1 => drop(sign_in(world.api.address, &world.key)),
            2 => drop(sign_in(world.api.address, "pr_guessed")),
            _ => {
                let path = "/api/v1/app/victim/msg";
                read_all(world.api.address, "pr_guessed", path, stop);
            }
        },
    },
    Kind {
        name: "endpoints whose names nobody answers for",
        threads: 1,
        once: |world, stop, _| {
            press(world, "silent", stop);
            stop.pause(Duration::from_millis(100));
        },
    },
    Kind {
        name: "payloads against schemas that try each other",
        threads: 8,
        once: |world, stop, _| {
            // Just within the budget, and just beyond it.
            for depth in [6, 7] {
                let mut payload = json!({});
                for _ in 0..depth {
                    payload = json!({ "a": payload });
                }
                let body = json!({ "eventType": "tried", "payload": payload }).to_string();
                let answer = world.api.request("POST", "/api/v1/app/attacker/msg", &body);
                if answer.map_or(true, |answer| answer.status >= 500) {
                    stop.pause(AFTER_A_REFUSAL);
                }
            }
        },
    },
    Kind {
        name: "50 endpoints with the worst template",
        threads: 1,
        once: |world, stop, _| {
            press(world, "templates", stop);
            stop.pause(Duration::from_millis(100));
        },
    },
    // The last: its requests go on for as long as an attempt may take.
    Kind {
        name: "endless chunk extensions",
        threads: 1,
        once: |world, stop, _| {
            press(world, "chunks", stop);
            stop.pause(Duration::from_millis(50));
        },
    },
];

/// The settings, as far as another version may have them, and the server of names.
fn launch(data: std::path::PathBuf) -> (Launch, Dns) {
    let launch = Launch::new(data)
        .set("limits.waiting_max", 50_000)
        .set("delivery.dns_cache_seconds", 1)
        .set("store.min_free_bytes", 1);
    if other_binary().is_some() {
        return (launch, Dns::start_at("127.0.0.1:53"));
    }
    let dns = Dns::start();
    let launch = launch
        .set("limits.held_max", 50_000)
        .set("limits.waiting_per_application_max", HELD_SHARE)
        // What one attacker on these processors can reach.
        .set("limits.requests_per_customer_second_max", 200)
        .set("limits.connections_max", CONNECTIONS_MAX)
        .set("limits.answers_bytes", ANSWERS_BYTES)
        .set("delivery.dns_servers", dns.address);
    (launch, dns)
}

/// Compares two long texts for as long as its steps last, which takes the most time of those that are known
/// (src/delivery/transformation/tests.rs), and then fails.
fn worst_template() -> String {
    let doubled = |name: &str| {
        let set = format!("{{% set {name} = 'x' %}}");
        let double = format!("{{% set {name} = {name} ~ {name} %}}");
        set + &double.repeat(16)
    };
    let loops = "{% set l = a[:90] | list %}{% for i in l %}{% for j in l %}{% if a == b %}{% endif %}\
                 {% endfor %}{% endfor %}";
    doubled("a") + &doubled("b") + loops
}

/// What must live as long as the test.
struct Kept {
    server: process::Server,
    _well: Receiver,
    _dns: Dns,
    _directory: tempfile::TempDir,
}

fn start() -> (World, Kept) {
    let directory = process::scratch();
    let (launch, dns) = launch(directory.path().join("data"));
    let server = launch.start();
    let api = server.api.clone();
    let received: Arc<Mutex<HashMap<u64, Instant>>> = Arc::default();
    let noted = received.clone();
    let well = Receiver::start(move |request| {
        let payload: Value = serde_json::from_slice(request.body).unwrap_or_default();
        let number = payload["n"].as_u64();
        let is_the_victims = number.is_some();
        if let Some(number) = number {
            let now = Instant::now();
            noted.lock().expect("nobody panics").insert(number, now);
        }
        // The victim's name is to be looked up again.
        match is_the_victims {
            true => Reply::StatusThenClose(200),
            false => Reply::Status(200),
        }
    });
    for name in [
        "victim",
        "attacker",
        "holder",
        "silent",
        "chunks",
        "long",
        "sieves",
        "templates",
    ] {
        application(&api, name);
    }
    let port = well.address.port();
    let by_name = format!("http://hook.victim.test:{port}/");
    endpoint(&api, "victim", &json!({ "url": by_name }));
    for _ in 0..200 {
        let held = json!({ "url": well.url("/"), "disabled": true });
        endpoint(&api, "holder", &held);
    }
    for number in 0..SILENT_NAMES {
        let url = format!("http://{number}.silent.test:{port}/");
        endpoint(&api, "silent", &json!({ "url": url }));
    }
    if other_binary().is_none() {
        let next = json!({ "properties": { "a": { "$ref": "#/$defs/n" } }, "required": ["x"] });
        let schema = json!({ "$ref": "#/$defs/n", "$defs": { "n": { "anyOf": [next, next] } } });
        let tried = json!({ "name": "tried", "description": "", "schemas": { "1": schema }, "validate": "warn" });
        api.call("POST", "/api/v1/event-type", &tried, 201);
        for _ in 0..50 {
            let costly =
                json!({ "url": well.url("/"), "transformation": { "body": worst_template() } });
            endpoint(&api, "templates", &costly);
        }
    }
    let chunks = format!("http://{}/", endless_extensions());
    endpoint(&api, "chunks", &json!({ "url": chunks }));
    let headers: HashMap<String, String> = (0..30)
        .map(|number| (format!("x-{number}"), "h".repeat(8000)))
        .collect();
    for _ in 0..20 {
        let long = json!({ "url": well.url("/"), "headers": headers });
        endpoint(&api, "long", &long);
    }
    if other_binary().is_none() {
        for _ in 0..50 {
            let sieve = json!({ "url": well.url("/"), "filter": worst_filter() });
            endpoint(&api, "sieves", &sieve);
        }
    }
    // It gets what is small.
    let attacked = json!({ "url": well.url("/"), "filterTypes": ["b"] });
    let attacked = endpoint(&api, "attacker", &attacked);
    // A page of the attacker's could have 60 MB, and its filters have much to look through.
    for _ in 0..60 {
        publish(&api, "attacker", &json!({ "text": "t".repeat(1_000_000) }));
    }
    for number in 0..20 {
        let event_type = if number % 2 == 0 { "a" } else { "b" };
        let message = json!({ "eventType": event_type, "payload": { "text": "small" } });
        let batch = vec![message; 1000];
        api.call("POST", "/api/v1/app/attacker/msg/batch", &json!(batch), 202);
    }
    for _ in 0..60 {
        publish(&api, "attacker", &json!({ "text": "t".repeat(1_000_000) }));
    }
    let link = "/api/v1/auth/app-portal-access/attacker";
    let link = api.call("POST", link, &json!({}), 200);
    let world = World {
        victim: Victim {
            key: token(&api, "victim"),
            received,
            published: AtomicU64::new(0),
        },
        key: token(&api, "attacker"),
        link: link["token"].as_str().expect("a token").to_owned(),
        endpoint: attacked,
        long_key: token(&api, "long"),
        api,
    };
    let kept = Kept {
        server,
        _well: well,
        _dns: dns,
        _directory: directory,
    };
    (world, kept)
}

fn figures(attack: &Kind, times: &Times, seen: &Seen) -> String {
    format!(
        "attack: {}: p50/p99 of {}; at most {} MiB",
        attack.name,
        times.text(),
        seen.memory_most >> 20
    )
}

/// A counter of the server; absent in versions that do not count it.
fn counted(api: &Api, series: &str) -> Option<u64> {
    // From where it is not refused itself.
    let connection = api.connect_from(VICTIMS_ADDRESS);
    let metrics = connection.and_then(|mut one| one.request("GET", "/metrics", ""));
    let metrics = metrics.expect("the metrics are answered").body;
    let metrics = String::from_utf8(metrics).expect("they are text");
    let mut lines = metrics.lines();
    let count = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(count.parse().expect("a number"))
}

/// How many connections the server refused to addresses that have too many.
fn refused_connections(api: &Api) -> u64 {
    counted(api, "postrider_connections_refused_total").unwrap_or(0)
}

/// How many requests this limit has refused.
fn refused(api: &Api, limit: &str) -> u64 {
    let series = format!("postrider_requests_refused_total{{limit=\"limits.{limit}\"}}");
    counted(api, &series).expect("it is shown from the start")
}

/// Test and server have both ends of many connections. The server raises its limit by itself.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("up to the maximum anybody may");
}

/// Whether the browser with this answer's cookie is signed in.
fn is_signed_in(address: SocketAddr, answer: &str) -> bool {
    let mut lines = answer.lines();
    let cookie = lines.find_map(|line| line.strip_prefix("set-cookie: "));
    let cookie = cookie.and_then(|cookie| cookie.split(';').next());
    let request = format!(
        "GET /api/v1/session HTTP/1.1\r\nhost: x\r\nx-postrider-surface: portal\r\n\
         connection: close\r\ncookie: {}\r\n\r\n",
        cookie.expect("a cookie")
    );
    let mut connection = TcpStream::connect(address).expect("a connection");
    connection.write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("an answer");
    answer.contains("\"signedIn\":true")
}

#[test]
fn one_customers_worst_leaves_others_what_they_had() {
    raise_file_limit();
    let (world, kept) = start();
    let id = kept.server.process.id();
    // Signed in all the while.
    let victim = sign_in(world.api.address, &world.victim.key).expect("an answer");
    assert_eq!(victim.0, 200, "{}", victim.1);
    // What the preparations left to do is done with.
    world.measure();
    let (quiet, seen) = world.under(&QUIET, id);
    assert_eq!(quiet.failures, [""; 0]);
    say(&figures(&QUIET, &quiet, &seen));
    let is_busy = seen.is_busy();
    if is_busy {
        say(
            "attack: others keep this machine's processors busy; the times are held against little",
        );
    }
    let floor = match is_busy || cfg!(debug_assertions) {
        true => BUSY_FLOOR,
        false => FLOOR,
    };
    let only = std::env::var("ATTACK").unwrap_or_default();
    let mut problems = Vec::new();
    for attack in ATTACKS.iter().filter(|one| one.name.contains(&only)) {
        let name = attack.name;
        let (times, seen) = world.under(attack, id);
        say(&figures(attack, &times, &seen));
        for (what, (quiet, under)) in WHAT.iter().zip(quiet.each.iter().zip(&times.each)) {
            let allowed = (3 * quantile(quiet, 99)).max(floor);
            let found = quantile(under, 99);
            if found > allowed {
                problems.push(format!(
                    "{name}: {what} took {found:?}, allowed {allowed:?}"
                ));
            }
        }
        if let Some(first) = times.failures.first() {
            let count = times.failures.len();
            problems.push(format!("{name}: {count} failures, the first: {first}"));
        }
        // Whatever others tried, a typing error is told for what it is.
        let connection = connect_from(VICTIMS_ADDRESS, world.api.address);
        let typed = connection
            .ok()
            .and_then(|one| sign_in_on(one, "pr_typing error"));
        let status = typed.map(|(status, _)| status);
        if status != Some(401) {
            problems.push(format!("{name}: the victim's typing error is a {status:?}"));
        }
        if name == IDLE_CONNECTIONS && refused_connections(&world.api) == 0 {
            problems.push(format!("{name}: none was refused, so nothing was tried"));
        }
        if seen.memory_most > MEMORY_MAX {
            let mib = seen.memory_most >> 20;
            problems.push(format!("{name}: {mib} MiB of memory"));
        }
    }
    if other_binary().is_some() {
        return say("attack: another version was measured, and is not judged");
    }
    assert_eq!(problems, [""; 0], "{}", world.api.log());
    if only.is_empty() {
        // What was held is what the customer may hold, and only it was refused.
        let status = world.api.get("/api/v1/status");
        let held = status["held"].as_u64().expect("a number");
        assert!(
            (HELD_SHARE - 200..=HELD_SHARE + 10_000).contains(&held),
            "{held}"
        );
        for limit in [
            "requests_per_customer_second_max",
            "reads_waiting_per_customer_max",
            "answers_per_customer_bytes",
        ] {
            assert_ne!(refused(&world.api, limit), 0, "no attack met {limit}");
        }
        // They were met before what all share was used up.
        assert_eq!(refused(&world.api, "answers_bytes"), 0);
    }
    assert!(
        is_signed_in(world.api.address, &victim.1),
        "somebody's sign-ins ended the victim's"
    );
}
