//! The load client of the benchmarks: a process that publishes numbered messages.
//!
//! As fast as they are accepted, by tasks on one thread: the fewest system calls and switches. At a
//! fixed rate, by blocking threads: a reactor's timers are a millisecond coarse.

use std::cell::{Cell, RefCell};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::process::{die_with_parent, receiver};
use super::{Latency, monotonic_ns};

pub const EVENT_TYPE: &str = "bench.event";

/// What to publish, where and how fast.
#[derive(Serialize, Deserialize)]
pub struct Load {
    pub address: SocketAddr,
    pub path: String,
    /// The file that holds the token; none is sent without.
    pub token_path: Option<PathBuf>,
    pub connections: usize,
    /// Numbered from 0.
    pub messages: u64,
    /// Messages in one request, of which `messages` is a multiple; more than one go to the path of
    /// batches.
    pub at_a_time: u64,
    /// Messages a second; as fast as they are accepted where absent.
    pub rate: Option<f64>,
    pub payload_bytes: usize,
    /// Members of the payload beside the benchmark's own, such as `"a":1,`.
    pub members: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Published {
    pub accepted: u64,
    /// Answers 429 or 503, after which the same message was published again.
    pub put_off: u64,
    pub started_ns: u64,
    pub ended_ns: u64,
    pub latency: Latency,
    /// At a fixed rate: how late the latest message was sent, in microseconds.
    pub late_max: u32,
    pub cpu_us: u64,
}

impl Published {
    pub fn per_second(&self) -> f64 {
        self.accepted as f64 * 1e9 / (self.ended_ns - self.started_ns) as f64
    }
}

impl Load {
    /// Publishes it all, in a process of its own.
    pub fn publish(&self) -> Published {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command
            .arg("load")
            .arg(serde_json::to_string(self).expect("a load is plain data"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        die_with_parent(&mut command);
        // Bounded without a timer here: every answer has a deadline in the client.
        let output = command
            .spawn()
            .and_then(std::process::Child::wait_with_output)
            .expect("this program can be started");
        assert!(output.status.success(), "the load client failed");
        serde_json::from_slice(&output.stdout).expect("the load client reports")
    }
}

/// The client's process. Panics, and so ends non-zero, when an answer is not as expected.
pub fn run(load: &str) {
    let load: Load = serde_json::from_str(load).expect("the parent says what to publish");
    let mut report = match load.rate {
        None => flood(load),
        Some(rate) => pace(&load, rate),
    };
    report.cpu_us = own_cpu_us();
    println!(
        "{}",
        serde_json::to_string(&report).expect("a report is plain data")
    );
}

/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// How long one message may be put off with 429 or 503.
const PUT_OFF_WITHIN: Duration = Duration::from_secs(120);

fn flood(load: Load) -> Published {
    let load = Rc::new(load);
    let next = Rc::new(Cell::new(0));
    let put_off = Rc::new(Cell::new(0));
    let latencies = Rc::new(RefCell::new(Vec::with_capacity(load.messages as usize)));
    let started_ns = monotonic_ns();
    {
        let (load, next) = (load.clone(), next.clone());
        let (put_off, latencies) = (put_off.clone(), latencies.clone());
        receiver::run(async move {
            let senders: Vec<_> = (0..load.connections)
                .map(|_| {
                    let (load, next) = (load.clone(), next.clone());
                    let (put_off, latencies) = (put_off.clone(), latencies.clone());
                    tokio::task::spawn_local(async move {
                        send_all(&load, &next, &put_off, &latencies)
                            .await
                            .expect("a sender");
                    })
                })
                .collect();
            for sender in senders {
                sender.await.expect("every sender comes to its end");
            }
        });
    }
    let latencies = latencies.take();
    Published {
        accepted: latencies.len() as u64 * load.at_a_time,
        put_off: put_off.get(),
        started_ns,
        ended_ns: monotonic_ns(),
        latency: Latency::of(latencies),
        late_max: 0,
        cpu_us: 0,
    }
}

async fn send_all(
    load: &Load,
    next: &Cell<u64>,
    put_off: &Cell<u64>,
    latencies: &RefCell<Vec<u32>>,
) -> Result<()> {
    let mut stream = tokio::net::TcpStream::connect(load.address).await?;
    stream.set_nodelay(true)?;
    let mut request = Prepared::new(load)?;
    let mut buffer = Vec::with_capacity(8 * 1024);
    while next.get() < load.messages {
        let number = next.replace(next.get() + load.at_a_time);
        let first_try = Instant::now();
        loop {
            let sent = monotonic_ns();
            stream.write_all(request.stamped(number, sent)).await?;
            buffer.clear();
            let status = loop {
                let read = tokio::time::timeout(ANSWER_WITHIN, stream.read_buf(&mut buffer));
                if read.await?? == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                if let Some(status) = whole_answer(&buffer)? {
                    break status;
                }
            };
            if judge(status, &buffer, first_try)? {
                latencies.borrow_mut().push(micros_since(sent));
                break;
            }
            put_off.set(put_off.get() + 1);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

fn pace(load: &Load, rate: f64) -> Published {
    let next = AtomicU64::new(0);
    let put_off = AtomicU64::new(0);
    // Latency, and how late it was sent.
    let samples = Mutex::new(Vec::with_capacity(load.messages as usize));
    let start = Instant::now() + Duration::from_millis(50);
    let started_ns = monotonic_ns() + 50_000_000;
    let send_all = || -> Result<()> {
        let mut stream = TcpStream::connect(load.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        let mut request = Prepared::new(load)?;
        let mut buffer = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= load.messages {
                return Ok(());
            }
            let planned = start + Duration::from_secs_f64(number as f64 / rate);
            std::thread::sleep(planned.saturating_duration_since(Instant::now()));
            let late = u32::try_from(planned.elapsed().as_micros()).unwrap_or(u32::MAX);
            loop {
                let sent = monotonic_ns();
                stream.write_all(request.stamped(number, sent))?;
                buffer.clear();
                let status = loop {
                    let mut part = [0; 8 * 1024];
                    match stream.read(&mut part)? {
                        0 => return Err(ErrorKind::UnexpectedEof.into()),
                        length => buffer.extend_from_slice(&part[..length]),
                    }
                    if let Some(status) = whole_answer(&buffer)? {
                        break status;
                    }
                };
                if judge(status, &buffer, planned)? {
                    let mut samples = samples.lock().expect("no sender panics holding it");
                    samples.push((micros_since(sent), late));
                    break;
                }
                put_off.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..load.connections {
            scope.spawn(|| send_all().expect("a sender"));
        }
    });
    let samples = samples.into_inner().expect("no sender panicked");
    Published {
        accepted: samples.len() as u64,
        put_off: put_off.into_inner(),
        started_ns,
        ended_ns: monotonic_ns(),
        latency: Latency::of(samples.iter().map(|(latency, _)| *latency).collect()),
        late_max: samples.iter().map(|(_, late)| *late).max().unwrap_or(0),
        cpu_us: 0,
    }
}

/// Whether the message was accepted; false where it is to be published again.
fn judge(status: u16, answer: &[u8], first_try: Instant) -> Result<bool> {
    match status {
        200 | 202 => Ok(true),
        429 | 503 if first_try.elapsed() < PUT_OFF_WITHIN => Ok(false),
        _ => Err(Error::other(String::from_utf8_lossy(answer))),
    }
}

fn micros_since(sent: u64) -> u32 {
    u32::try_from((monotonic_ns() - sent) / 1_000).unwrap_or(u32::MAX)
}

/// The status, once the answer is whole.
fn whole_answer(buffer: &[u8]) -> Result<Option<u16>> {
    let Some(head_length) = buffer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .map(|place| place + 4)
    else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&buffer[..head_length]).map_err(Error::other)?;
    let status = head.get(9..12).and_then(|digits| digits.parse().ok());
    let body_length = head
        .split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok());
    match (status, body_length) {
        (Some(status), Some(body)) if buffer.len() >= head_length + body => Ok(Some(status)),
        (Some(_), Some(_)) => Ok(None),
        _ => Err(Error::other(head)),
    }
}

/// A request made once, of which numbers and time are overwritten in place.
struct Prepared {
    bytes: Vec<u8>,
    /// Where each message's stamp begins.
    stamps_at: Vec<usize>,
}

const STAMP: &str = r#"{"n":"0000000000","at":"00000000000000000000""#;
const NUMBER: Digits = Digits { at: 6, count: 10 };
const TIME: Digits = Digits { at: 24, count: 20 };

struct Digits {
    at: usize,
    count: usize,
}

impl Digits {
    fn write(&self, stamp: &mut [u8], mut value: u64) {
        for digit in stamp[self.at..self.at + self.count].iter_mut().rev() {
            *digit = b'0' + (value % 10) as u8;
            value /= 10;
        }
    }

    fn read(&self, stamp: &[u8]) -> Option<u64> {
        let digits = stamp.get(self.at..self.at + self.count)?;
        digits.iter().try_fold(0, |value: u64, digit| {
            let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
            value.checked_mul(10)?.checked_add(u64::from(digit))
        })
    }
}

impl Prepared {
    fn new(load: &Load) -> Result<Prepared> {
        let credential = match &load.token_path {
            Some(path) => {
                let token = std::fs::read_to_string(path)?;
                format!("authorization: Bearer {}\r\n", token.trim())
            }
            None => String::new(),
        };
        let padding = load
            .payload_bytes
            .saturating_sub(STAMP.len() + r#","pad":""}"#.len() + load.members.len());
        let message = format!(
            r#"{{"eventType":"{EVENT_TYPE}","payload":{STAMP},{}"pad":"{}"}}}}"#,
            load.members,
            "x".repeat(padding)
        );
        let (path, body) = match load.at_a_time {
            1 => (load.path.clone(), message),
            many => {
                let messages = vec![message; many as usize];
                let path = format!("{}/batch", load.path);
                (path, format!("[{}]", messages.join(",")))
            }
        };
        let bytes = format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\n{credential}content-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            path,
            load.address,
            body.len()
        )
        .into_bytes();
        let mut stamps_at = Vec::new();
        let mut from = 0;
        while let Some(place) = find_stamp(&bytes[from..]) {
            stamps_at.push(from + place);
            from += place + STAMP.len();
        }
        assert_eq!(stamps_at.len() as u64, load.at_a_time, "one in each");
        Ok(Prepared { bytes, stamps_at })
    }

    /// With the numbers from this one on.
    fn stamped(&mut self, first: u64, sent: u64) -> &[u8] {
        for (number, place) in (first..).zip(&self.stamps_at) {
            let stamp = &mut self.bytes[*place..];
            NUMBER.write(stamp, number);
            TIME.write(stamp, sent);
        }
        &self.bytes
    }
}

fn find_stamp(bytes: &[u8]) -> Option<usize> {
    let start = &STAMP.as_bytes()[..NUMBER.at];
    bytes.windows(start.len()).position(|part| part == start)
}

/// The number and the time of sending in a received body.
pub fn stamp_of(body: &[u8]) -> Option<(u64, u64)> {
    let stamp = &body[find_stamp(&body[..body.len().min(200)])?..];
    Some((NUMBER.read(stamp)?, TIME.read(stamp)?))
}

fn own_cpu_us() -> u64 {
    super::usage::cpu(std::process::id()).as_micros() as u64
}
