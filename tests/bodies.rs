//! Requests whose body never ends: the real binary answers, and closes the connection soon.

#[path = "process/mod.rs"]
mod process;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use process::{Launch, Server, say, scratch, until};

/// An answered connection is closed within a second or two; without that it never is.
const CLOSED_WITHIN: Duration = Duration::from_secs(12);

const CHUNKED: &str = "transfer-encoding: chunked\r\n";

/// A request that goes on for ever.
struct Endless {
    name: &'static str,
    to: SocketAddr,
    /// The request line and the header lines.
    head: String,
    /// The body's beginning, and what is repeated after it.
    begins: &'static str,
    goes_on: String,
    /// Between two pieces.
    pause: Duration,
    status: u16,
}

/// What became of one.
struct Outcome {
    name: &'static str,
    answer: String,
    expected: u16,
    /// Sent until the connection was closed.
    bytes: u64,
    /// From the answer to the end of the connection; `None` where it did not end.
    closed_after: Option<Duration>,
}

impl Endless {
    fn run(self) -> Outcome {
        let mut stream = TcpStream::connect(self.to).expect("the server listens");
        stream.set_write_timeout(Some(CLOSED_WITHIN)).expect("set");
        let head = format!("{}host: x\r\n\r\n{}", self.head, self.begins);
        stream.write_all(head.as_bytes()).expect("a request");
        let mut writing = stream.try_clone().expect("a second handle");
        let writer = std::thread::spawn(move || {
            let mut bytes = 0;
            while writing.write_all(self.goes_on.as_bytes()).is_ok() {
                bytes += self.goes_on.len() as u64;
                // Paces the client; it waits for nothing.
                std::thread::sleep(self.pause);
            }
            bytes
        });
        let deadline = Instant::now() + CLOSED_WITHIN;
        let (mut answer, mut answered_at, mut buffer) = (Vec::new(), None, [0; 4096]);
        let closed_after = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break None;
            }
            stream.set_read_timeout(Some(left)).expect("not zero");
            match stream.read(&mut buffer) {
                Ok(length @ 1..) => {
                    answered_at.get_or_insert_with(Instant::now);
                    answer.extend(&buffer[..length]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break None,
                Ok(0) | Err(_) => break Some(answered_at.map(|at| at.elapsed())),
            }
        };
        let _ = stream.shutdown(Shutdown::Both);
        Outcome {
            name: self.name,
            answer: String::from_utf8_lossy(&answer).into_owned(),
            expected: self.status,
            bytes: writer.join().expect("the writer does not panic"),
            closed_after: closed_after.map(Option::unwrap_or_default),
        }
    }
}

fn metrics_address(server: &Server) -> SocketAddr {
    let log = until(CLOSED_WITHIN, || {
        let log = server.process.log();
        log.contains("/metrics").then_some(log)
    });
    let log = log.expect("the address of the metrics is in the log");
    let (_, rest) = log.split_once("credential on http://").expect("its line");
    let (address, _) = rest.split_once("/metrics").expect("its path");
    address.parse().expect("an address")
}

fn start(data: &std::path::Path) -> Server {
    Launch::new(data)
        .set("server.metrics_listen", "127.0.0.1:0")
        .set("server.workers", 2)
        .start()
}

#[test]
fn a_body_without_end_ends_with_the_answer() {
    let directory = scratch();
    let server = start(&directory.path().join("data"));
    let (api, metrics) = (server.api.address, metrics_address(&server));
    let token = std::fs::read_to_string(&server.token_path).expect("the owner's token");
    let right = format!("authorization: Bearer {}\r\n", token.trim());
    let wrong = "authorization: Bearer wrong\r\n";
    let post = |rest: &str| format!("POST /api/v1/app HTTP/1.1\r\n{rest}{CHUNKED}");
    let chunks = || format!("1000\r\n{}\r\n", "x".repeat(0x1000)).repeat(4);
    let endless = |name, to, head, status| Endless {
        name,
        to,
        head,
        begins: "",
        goes_on: chunks(),
        pause: Duration::ZERO,
        status,
    };
    let framing = |name, begins| Endless {
        begins,
        goes_on: "x".repeat(0x4000),
        ..endless(name, api, post(""), 401)
    };
    let unknown = format!("POST /nothing/here HTTP/1.1\r\n{CHUNKED}");
    let long = "POST /api/v1/app HTTP/1.1\r\ncontent-length: 10000000000\r\n";
    let requests = [
        endless("no credential", api, post(""), 401),
        endless("a wrong credential", api, post(wrong), 401),
        endless("a body that is too long", api, post(&right), 413),
        endless("an unknown path", api, unknown.clone(), 404),
        endless("unknown metrics", metrics, unknown, 404),
        endless(
            "metrics",
            metrics,
            format!("GET /metrics HTTP/1.1\r\n{CHUNKED}"),
            200,
        ),
        framing("an endless chunk extension", "1;"),
        framing("an endless trailer", "0\r\nx: "),
        Endless {
            goes_on: "1\r\nx\r\n".to_owned(),
            pause: Duration::from_millis(300),
            ..endless("a byte now and then", api, post(""), 401)
        },
        endless("a length of 10 GB", api, long.to_owned(), 401),
    ];
    let running = requests.map(|request| std::thread::spawn(move || request.run()));
    let outcomes = running.map(|one| one.join().expect("no client panics"));
    for outcome in &outcomes {
        say(&format!(
            "{}: {:?}, {} bytes sent, closed after {:?}",
            outcome.name,
            outcome.answer.lines().next().unwrap_or_default(),
            outcome.bytes,
            outcome.closed_after
        ));
    }
    for outcome in outcomes {
        let Outcome {
            name,
            answer,
            expected,
            ..
        } = outcome;
        let status = format!("HTTP/1.1 {expected} ");
        assert!(answer.starts_with(&status), "{name}: {answer}");
        assert!(outcome.closed_after.is_some(), "{name} is read for ever");
        let head = answer.to_lowercase();
        assert!(
            head.contains("\r\nconnection: close\r\n"),
            "{name}: {answer}"
        );
    }
}

#[test]
fn a_short_body_that_nobody_reads_leaves_the_connection_open() {
    let directory = scratch();
    let server = start(&directory.path().join("data"));
    let mut stream = TcpStream::connect(server.api.address).expect("the server listens");
    stream.set_read_timeout(Some(CLOSED_WITHIN)).expect("set");
    for _ in 0..3 {
        let head = format!("POST /api/v1/app HTTP/1.1\r\nhost: x\r\n{CHUNKED}\r\n");
        stream.write_all(head.as_bytes()).expect("a head");
        // The body comes by itself, as from clients that write each piece.
        stream.write_all(b"2\r\n{}\r\n0\r\n\r\n").expect("a body");
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        while !answer.ends_with(b"}") {
            let length = stream.read(&mut buffer).expect("the answer comes");
            assert!(length > 0, "closed: {}", String::from_utf8_lossy(&answer));
            answer.extend(&buffer[..length]);
        }
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
}
