//! Traces of system calls: how they are made, and read.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::process::{Process, until};

pub const RECEIVING: [&str; 4] = ["read", "readv", "recvfrom", "recvmsg"];
pub const SENDING: [&str; 4] = ["write", "writev", "sendto", "sendmsg"];

pub fn tracer(trace: &Path, traced: &str, text_max: &str) -> Vec<String> {
    let trace = trace.to_str().expect("a temporary path is UTF-8");
    let words = ["strace", "-D", "-f", "-q", "-y", "-s", text_max, "-o"];
    let words = words.into_iter().chain([trace, "-e", traced]);
    words.map(str::to_owned).collect()
}

/// The calls of a process that has ended. The tracer outlives what it traces by a moment.
pub fn finished(trace: &Path, process: &Process) -> Vec<Call> {
    let end = format!("{} +++ exited", process.id());
    until(Duration::from_secs(60), || {
        let text = std::fs::read(trace).ok()?;
        let text = String::from_utf8_lossy(&text);
        let complete = text.lines().any(|line| {
            let mut words = line.split_whitespace();
            let start: Vec<&str> = words.by_ref().take(3).collect();
            start.join(" ") == end
        });
        complete.then(|| parse(&text))
    })
    .unwrap_or_else(|| panic!("the trace has no end; {}", process.log()))
}

pub fn missing() -> Option<String> {
    let runs = Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .status();
    match runs {
        Ok(status) if status.success() => None,
        Ok(status) => Some(format!("strace cannot trace here ({status})")),
        Err(error) => Some(format!("strace: {error}")),
    }
}

/// A system call. Points in time are line numbers of the trace.
#[derive(Debug, PartialEq)]
pub struct Call {
    pub name: String,
    pub arguments: String,
    pub started: usize,
    /// `None` for one that had not returned when the trace ended.
    pub ended: Option<usize>,
    pub result: Option<i64>,
}

impl Call {
    /// The file descriptor and what it stands for: `7</data/live/db>`.
    pub fn file(&self) -> &str {
        let end = self.arguments.find([',', ')']);
        &self.arguments[..end.unwrap_or(self.arguments.len())]
    }

    pub fn is_sync(&self) -> bool {
        matches!(self.name.as_str(), "fsync" | "fdatasync") && self.result == Some(0)
    }

    pub fn is_write(&self) -> bool {
        self.name.starts_with("pwrite")
    }
}

/// Reads the output of `strace -f -y -o`. A call that others interrupted stands in two lines.
pub fn parse(trace: &str) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let mut unfinished: HashMap<&str, usize> = HashMap::new();
    for (line_number, line) in trace.lines().enumerate() {
        let Some((thread, text)) = line.split_once(' ') else {
            continue;
        };
        let text = text.trim_start();
        if let Some(rest) = text.strip_prefix("<... ") {
            let Some(place) = unfinished.remove(thread) else {
                continue;
            };
            let rest = rest.split_once("resumed>").map_or("", |(_, rest)| rest);
            let (arguments, result) = split_result(rest);
            calls[place].arguments.push_str(arguments);
            calls[place].ended = Some(line_number);
            calls[place].result = result;
        } else if let Some((name, rest)) = text.split_once('(')
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            let (arguments, ended, result) = match rest.strip_suffix("<unfinished ...>") {
                Some(arguments) => {
                    unfinished.insert(thread, calls.len());
                    (arguments.trim_end(), None, None)
                }
                None => {
                    let (arguments, result) = split_result(rest);
                    (arguments, Some(line_number), result)
                }
            };
            calls.push(Call {
                name: name.to_owned(),
                arguments: arguments.to_owned(),
                started: line_number,
                ended,
                result,
            });
        }
    }
    calls
}

pub fn split_result(text: &str) -> (&str, Option<i64>) {
    match text.rsplit_once(" = ") {
        Some((arguments, result)) => {
            let number = result.split_whitespace().next();
            (
                arguments.trim_end(),
                number.and_then(|number| number.parse().ok()),
            )
        }
        None => (text, None),
    }
}

/// Whether a call concerns a segment of the journal.
pub fn is_of_journal(call: &Call) -> bool {
    let file = Path::new(call.file().trim_end_matches('>'));
    let mut parts = file.components();
    file.extension()
        .is_some_and(|end| end == "segment" || end == "spare")
        && parts.any(|part| part.as_os_str() == "journal")
}

pub fn synced_before(calls: &[Call], write: &Call, limit: usize) -> bool {
    calls.iter().any(|call| {
        call.is_sync()
            && call.file() == write.file()
            && write.ended.is_some_and(|ended| call.started > ended)
            && call.ended.is_some_and(|ended| ended < limit)
    })
}
