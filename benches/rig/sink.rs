//! The receiver of the benchmarks: a process that counts and times what arrives.
//!
//! Paths say how it behaves: `/e/3` answers at once, `/slow/3/5000` after 5,000 ms, `/hang/3`
//! never. The number is the place in which it is counted. The parent asks by lines on stdin.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::process::receiver::{self, Reply, Request};
use super::process::{die_with_parent, until};
use super::{Latency, load, monotonic_ns};

/// What arrived at a range of places.
#[derive(Debug, Serialize, Deserialize)]
pub struct Received {
    /// Each message once per place.
    pub deliveries: u64,
    /// Requests beyond that.
    pub repeats: u64,
    /// When the first and the last of the deliveries came.
    pub first_ns: u64,
    pub last_ns: u64,
    /// From the client's send to the arrival here.
    pub latency: Latency,
}

#[derive(Serialize, Deserialize)]
enum Question {
    Count(Range<usize>),
    Report(Range<usize>),
    Reset,
}

#[derive(Default)]
struct Place {
    seen: Vec<u64>,
    requests: u64,
    first_ns: u64,
    last_ns: u64,
    latencies: Vec<u32>,
}

impl Place {
    fn note(&mut self, number: u64, latency: u32, now: u64) {
        self.requests += 1;
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        if self.seen[word] & bit == 0 {
            self.seen[word] |= bit;
            self.latencies.push(latency);
            if self.first_ns == 0 {
                self.first_ns = now;
            }
            self.last_ns = now;
        }
    }
}

/// The sink's process; returns when its parent is gone.
pub fn run() {
    raise_descriptor_limit();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on loopback");
    // A longer queue than the standard library's 128: thousands connect at once, and one that is
    // turned away comes again after a second, which would be measured as the server's.
    // SAFETY: the descriptor is the listener's, which lives on.
    unsafe { libc::listen(listener.as_raw_fd(), 4_096) };
    println!("{}", listener.local_addr().expect("a bound listener"));
    let places: Arc<Mutex<Vec<Place>>> = Arc::default();
    {
        let places = places.clone();
        std::thread::spawn(move || {
            for question in std::io::stdin().lines() {
                let question = question
                    .ok()
                    .and_then(|text| serde_json::from_str(&text).ok());
                let Some(question) = question else { break };
                println!("{}", answer(&mut places.lock().expect(UNBROKEN), question));
            }
            std::process::exit(0);
        });
    }
    receiver::run(receiver::serve(
        listener,
        Arc::new(AtomicUsize::new(0)),
        move |request| note(&mut places.lock().expect(UNBROKEN), request),
    ));
}

const UNBROKEN: &str = "no holder of the figures panics";

/// A thousand hanging connections and more are wanted of it.
fn raise_descriptor_limit() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls read or write one rlimit, which is ours.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

fn note(places: &mut Vec<Place>, request: &Request<'_>) -> Reply {
    let now = monotonic_ns();
    let mut words = request.path.split('/').skip(1);
    let kind = words.next().unwrap_or_default();
    let index: usize = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
    let stamp = load::stamp_of(request.body);
    if let Some((number, sent)) = stamp {
        if places.len() <= index {
            places.resize_with(index + 1, Place::default);
        }
        let micros = now.saturating_sub(sent) / 1_000;
        places[index].note(number, u32::try_from(micros).unwrap_or(u32::MAX), now);
    }
    match kind {
        "slow" => {
            let millis = words.next().and_then(|word| word.parse().ok());
            Reply::After(Duration::from_millis(millis.unwrap_or(5_000)), 200)
        }
        "hang" => Reply::Never,
        "tenth" if stamp.is_some_and(|(number, _)| number.is_multiple_of(10)) => Reply::Status(500),
        _ => Reply::Status(200),
    }
}

fn answer(places: &mut Vec<Place>, question: Question) -> String {
    let deliveries = |places: &[Place]| -> u64 {
        places
            .iter()
            .map(|place| place.latencies.len() as u64)
            .sum()
    };
    match question {
        Question::Count(range) => deliveries(within(places, range)).to_string(),
        Question::Report(range) => {
            let places = within(places, range);
            let deliveries = deliveries(places);
            let requests: u64 = places.iter().map(|place| place.requests).sum();
            let firsts = places.iter().map(|place| place.first_ns);
            let report = Received {
                deliveries,
                repeats: requests - deliveries,
                first_ns: firsts.filter(|first| *first != 0).min().unwrap_or(0),
                last_ns: places.iter().map(|place| place.last_ns).max().unwrap_or(0),
                latency: Latency::of(
                    places
                        .iter()
                        .flat_map(|place| place.latencies.clone())
                        .collect(),
                ),
            };
            serde_json::to_string(&report).expect("a report is plain data")
        }
        Question::Reset => {
            places.clear();
            "0".to_owned()
        }
    }
}

fn within(places: &[Place], range: Range<usize>) -> &[Place] {
    &places[range.start.min(places.len())..range.end.min(places.len())]
}

/// The parent's handle on a sink. Dropping it ends the process.
pub struct Sink {
    child: Child,
    pipes: RefCell<(ChildStdin, BufReader<ChildStdout>)>,
    pub address: SocketAddr,
}

impl Sink {
    pub fn start() -> Sink {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command
            .arg("sink")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        die_with_parent(&mut command);
        let mut child = command.spawn().expect("this program can be started");
        let questions = child.stdin.take().expect("stdin is a pipe");
        let mut answers = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        let mut address = String::new();
        answers.read_line(&mut address).expect("the sink speaks");
        Sink {
            child,
            pipes: RefCell::new((questions, answers)),
            address: address.trim().parse().expect("the sink says its address"),
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn report(&self, places: Range<usize>) -> Received {
        serde_json::from_str(&self.ask(&Question::Report(places))).expect("the sink reports")
    }

    pub fn reset(&self) {
        self.ask(&Question::Reset);
    }

    pub fn count(&self, places: Range<usize>) -> u64 {
        let count = self.ask(&Question::Count(places));
        count.trim().parse().expect("the sink counts")
    }

    /// Waits until so many deliveries have come to these places, as long as more are coming.
    pub fn wait(&self, places: Range<usize>, deliveries: u64) -> Received {
        const SILENCE_MAX: Duration = Duration::from_secs(60);
        let (mut before, mut changed_at) = (0, Instant::now());
        until(Duration::from_secs(3_600), || {
            let count = self.count(places.clone());
            if count != before {
                (before, changed_at) = (count, Instant::now());
            }
            (count >= deliveries || changed_at.elapsed() > SILENCE_MAX).then_some(())
        });
        assert!(
            before >= deliveries,
            "{before} of {deliveries} deliveries came, then none for {SILENCE_MAX:?}"
        );
        self.report(places)
    }

    fn ask(&self, question: &Question) -> String {
        let (questions, answers) = &mut *self.pipes.borrow_mut();
        let text = serde_json::to_string(question).expect("a question is plain data");
        writeln!(questions, "{text}").expect("the sink listens");
        let mut answer = String::new();
        answers.read_line(&mut answer).expect("the sink answers");
        answer
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
