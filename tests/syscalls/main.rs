//! Proof, at the level of system calls, that a 202 goes out only after what it promises is on disk.
//!
//! A kill cannot show this (the kernel keeps what a dead process wrote), a power cut shows it by
//! chance; the trace shows it for every single answer. Needs strace: skipped with a loud line where
//! it is missing, a failure under `CI=true`.

#[path = "../process/mod.rs"]
mod process;

mod kinds;
mod trace;

use std::collections::HashMap;
use std::time::Duration;

use process::receiver::{Receiver, Reply};
use process::{Launch, can_run, scratch};
use serde_json::json;
use trace::{
    Call, RECEIVING, SENDING, finished, is_of_journal, missing, parse, synced_before, tracer,
};

const TRACED: &str = "trace=openat,read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg,\
                      pwrite64,pwritev,fsync,fdatasync,sync_file_range";
/// Of a start: not what is read, which is long.
const TRACED_AT_A_START: &str = "trace=pread64,fadvise64,fsync,fdatasync";

#[test]
fn with_nothing_else_going_on_no_write_is_unsynced_when_a_202_goes_out() {
    if !can_run("syscalls", missing()) {
        return;
    }
    let calls = trace_publishing(Load {
        connections: 1,
        messages_each: 20,
        disabled: true,
        failing_after: None,
    });
    let answers = accepted(&calls);
    assert_eq!(answers.len(), 20, "each message is answered with a 202");
    for answer in &answers {
        assert_eq!(last_write_synced(&calls, answer), Ok(()));
    }
    check_trace(&calls, &answers);
}

#[test]
fn under_load_each_message_is_synced_in_the_journal_before_its_202() {
    if !can_run("syscalls", missing()) {
        return;
    }
    let calls = trace_publishing(Load {
        connections: 8,
        messages_each: 15,
        disabled: false,
        failing_after: None,
    });
    let answers = accepted(&calls);
    assert_eq!(answers.len(), 8 * 15, "each message is answered with a 202");
    for answer in &answers {
        assert_eq!(own_write_synced(&calls, answer), Ok(()));
    }
    check_trace(&calls, &answers);
}

/// A power cut in a test cannot show this: a file system that is shut down while it syncs may say
/// that it did.
#[test]
fn a_sync_that_fails_is_never_answered_with_a_202_and_ends_the_process() {
    if !can_run("syscalls", missing()) {
        return;
    }
    let calls = trace_publishing(Load {
        connections: 4,
        messages_each: 500,
        disabled: true,
        failing_after: Some(60),
    });
    let failed = |call: &&Call| call.name == "fdatasync" && call.result == Some(-1);
    let first_failure = calls.iter().find(failed).expect("a sync was made to fail");
    let answers = accepted(&calls);
    assert!(answers.len() > 10, "only {} 202s: no proof", answers.len());
    for answer in &answers {
        assert_eq!(own_write_synced(&calls, answer), Ok(()));
        // What was on disk in time may still be on its way out.
        let in_time = answer.received < first_failure.started;
        assert!(in_time, "{} came after a sync had failed", answer.marker);
    }
}

/// What a process that was killed, or whose sync failed, left in the page cache may never have come to the
/// disk.
#[test]
fn after_a_kill_the_databases_are_read_from_the_disk_and_after_a_stop_they_need_not_be() {
    if !can_run("syscalls", missing()) {
        return;
    }
    let directory = scratch();
    let launch = Launch::new(directory.path().join("data"));
    let mut server = launch.start();
    let application = json!({ "name": "app", "uid": "app" });
    server.api.call("POST", "/api/v1/app", &application, 201);
    server.process.kill();
    for was_killed in [true, false] {
        let trace = directory.path().join(format!("trace-{was_killed}"));
        let tracer = tracer(&trace, TRACED_AT_A_START, "16");
        let words: Vec<&str> = tracer.iter().map(String::as_str).collect();
        let mut server = launch.clone().under(&words).start();
        server.api.get("/api/v1/app/app");
        server.process.terminate();
        let status = server.process.wait(Duration::from_secs(60));
        assert!(status.expect("the server stops").success());
        let calls = finished(&trace, &server.process);
        let is_of_live = |call: &&Call| call.file().ends_with("/live/db>");
        let of_it = Vec::from_iter(calls.iter().filter(is_of_live));
        let read = of_it.iter().position(|call| call.name == "pread64");
        let read = read.expect("it is read");
        let dropped = of_it.iter().position(|call| call.name == "fadvise64");
        if !was_killed {
            assert_eq!(dropped, None);
            continue;
        }
        let dropped = dropped.expect("its pages are dropped");
        assert!(dropped < read, "before it is read");
        assert!(of_it[dropped].arguments.contains("DONTNEED"));
        assert_eq!(of_it[dropped].result, Some(0));
        assert!(of_it[..dropped].iter().any(|call| call.is_sync()));
    }
}

/// What holds for a trace as a whole.
fn check_trace(calls: &[Call], answers: &[Accepted]) {
    let ranges = calls.iter().filter(|call| call.name == "sync_file_range");
    assert_eq!(ranges.count(), 0, "sync_file_range syncs nothing for good");
    let blob = calls
        .iter()
        .find(|call| call.name == "openat" && call.arguments.contains("/blobs/"));
    assert!(blob.is_none(), "blob files are never synced: {blob:?}");
    // A file whose directory entry is not on disk is lost with its bytes.
    let first_answer = answers.iter().map(|answer| answer.answered).min();
    for directory in ["/live>", "/journal>"] {
        assert!(
            calls.iter().any(|call| call.is_sync()
                && call.arguments.trim_end_matches(')').ends_with(directory)
                && call.ended < first_answer),
            "the directory …{directory} is not synced before the first 202"
        );
    }
}

struct Load {
    connections: usize,
    messages_each: usize,
    /// Whether the endpoint is: its deliveries are held, and nothing else writes.
    disabled: bool,
    /// After how many syncs by one thread every further one fails; the server must end by itself.
    failing_after: Option<u32>,
}

/// Runs a server under strace, publishes to it, stops it and returns what it called.
fn trace_publishing(load: Load) -> Vec<Call> {
    let directory = scratch();
    let trace = directory.path().join("trace");
    let mut tracer = tracer(&trace, TRACED, "1000000");
    if let Some(count) = load.failing_after {
        let inject = format!("inject=fdatasync:error=EIO:when={}+", count + 1);
        tracer.extend(["-e".to_owned(), inject]);
    }
    let words: Vec<&str> = tracer.iter().map(String::as_str).collect();
    let launch = Launch::new(directory.path().join("data")).under(&words);
    let receiver = Receiver::start(|_| Reply::Status(200));
    let mut server = launch.start();
    let event_type = json!({ "name": "traced.event", "description": "for the test" });
    server
        .api
        .call("POST", "/api/v1/event-type", &event_type, 201);
    let application = server
        .api
        .call("POST", "/api/v1/app", &json!({ "name": "traced" }), 201);
    let application = application["id"].as_str().expect("an application's id");
    let endpoint = json!({ "url": receiver.url("/"), "disabled": load.disabled });
    let endpoint_path = format!("/api/v1/app/{application}/endpoint");
    server.api.call("POST", &endpoint_path, &endpoint, 201);

    let path = format!("/api/v1/app/{application}/msg");
    std::thread::scope(|scope| {
        for connection in 0..load.connections {
            let (api, path) = (&server.api, &path);
            scope.spawn(move || {
                let mut stream = api.connect().expect("the server accepts connections");
                for number in 0..load.messages_each {
                    // One in ten is longer than one chunk of the store.
                    let padding = "x".repeat(if number % 10 == 3 { 20_000 } else { 300 });
                    let message = json!({
                        "eventType": "traced.event",
                        "payload": { "marker": marker(connection, number), "text": padding },
                    });
                    let answer = stream.request("POST", path, &message.to_string());
                    if load.failing_after.is_some()
                        && answer.as_ref().map_or(true, |answer| answer.status != 202)
                    {
                        // Whoever was in the batch that failed, too.
                        if let Ok(refused) = &answer {
                            let told = String::from_utf8_lossy(&refused.body);
                            assert!(told.contains("storage failed"), "{told}");
                        }
                        break;
                    }
                    assert_eq!(answer.expect("the server answers").status, 202);
                }
            });
        }
    });
    if load.failing_after.is_none() {
        server.process.terminate();
    }
    let status = server
        .process
        .wait(Duration::from_secs(60))
        .expect("the server stops");
    assert_eq!(status.success(), load.failing_after.is_none(), "{status}");
    finished(&trace, &server.process)
}

fn marker(connection: usize, number: usize) -> String {
    format!("marker-{connection:03}-{number:03}-end")
}

/// A message's way through the trace: when the server had its request, and when it answered.
#[derive(Debug)]
struct Accepted {
    marker: String,
    received: usize,
    answered: usize,
}

/// Every message whose 202 is in the trace. A connection has one request at a time, so that the
/// next answer on the socket is the request's own.
fn accepted(calls: &[Call]) -> Vec<Accepted> {
    let mut found: HashMap<String, Accepted> = HashMap::new();
    for (place, call) in calls.iter().enumerate() {
        let Some(start) = call.arguments.find("marker-").filter(|_| {
            RECEIVING.contains(&call.name.as_str()) && call.arguments.contains("socket:")
                || RECEIVING.contains(&call.name.as_str()) && call.arguments.contains("TCP")
        }) else {
            continue;
        };
        let Some(marker) = call.arguments.get(start..start + marker(0, 0).len()) else {
            continue;
        };
        let answer = calls[place..].iter().find(|later| {
            SENDING.contains(&later.name.as_str())
                && later.file() == call.file()
                && later.arguments.contains("\"HTTP/1.1 ")
        });
        if let Some(answer) = answer
            && answer.arguments.contains("\"HTTP/1.1 202 ")
        {
            found.entry(marker.to_owned()).or_insert_with(|| Accepted {
                marker: marker.to_owned(),
                received: call.started,
                answered: answer.started,
            });
        }
    }
    found.into_values().collect()
}

/// Where nothing but this message was written: the last write before its 202 was synced before it.
fn last_write_synced(calls: &[Call], of: &Accepted) -> Result<(), String> {
    let write = calls
        .iter()
        .filter(|call| call.is_write() && is_of_journal(call))
        .rfind(|call| call.started > of.received && call.started < of.answered)
        .ok_or_else(|| format!("{}: nothing was written to the journal", of.marker))?;
    synced_before(calls, write, of.answered)
        .then_some(())
        .ok_or_else(|| format!("{}: the journal was not synced before the 202", of.marker))
}

/// Where others write at the same time: between request and 202 there is the write with this message's
/// bytes, and a sync that began after it.
fn own_write_synced(calls: &[Call], of: &Accepted) -> Result<(), String> {
    calls
        .iter()
        .filter(|call| call.is_write() && is_of_journal(call))
        .filter(|call| call.started > of.received && call.started < of.answered)
        .filter(|call| call.arguments.contains(&of.marker))
        .any(|write| synced_before(calls, write, of.answered))
        .then_some(())
        .ok_or_else(|| format!("{}: the journal was not synced before the 202", of.marker))
}

#[test]
fn the_proof_tells_a_synced_trace_from_an_unsynced_one() {
    let received = r#"7 recvfrom(9<socket:[5]>, "POST /m\r\n\r\nmarker-000-000-end", 8192, 0, NULL, NULL) = 80"#;
    let answered =
        r#"7 sendto(9<socket:[5]>, "HTTP/1.1 202 Accepted\r\n\r\n", 25, 0, NULL, 0) = 25"#;
    let write = r#"8 pwrite64(4</d/journal/0.segment>, "marker-000-000-end", 8, 0) = 8"#;
    let sync = "8 fdatasync(4</d/journal/0.segment>)          = 0";
    let cases: [(&str, &[&str], bool); 8] = [
        ("in order", &[received, write, sync, answered], true),
        ("never", &[received, write, answered], false),
        ("too late", &[received, write, answered, sync], false),
        ("too early", &[received, sync, write, answered], false),
        ("nothing written", &[received, sync, answered], false),
        (
            "failed",
            &[
                received,
                write,
                "8 fdatasync(4</d/journal/0.segment>) = -1 EIO (Input/output error)",
                answered,
            ],
            false,
        ),
        (
            "another file",
            &[
                received,
                write,
                "8 fdatasync(5</d/slices/1/db>) = 0",
                answered,
            ],
            false,
        ),
        (
            "not yet done",
            &[
                received,
                write,
                "8 fdatasync(4</d/journal/0.segment> <unfinished ...>",
                answered,
                "8 <... fdatasync resumed>) = 0",
            ],
            false,
        ),
    ];
    for (name, lines, expected) in cases {
        let calls = parse(&lines.join("\n"));
        let answers = accepted(&calls);
        assert_eq!(answers.len(), 1, "{name}");
        for proof in [last_write_synced, own_write_synced] {
            let verdict = proof(&calls, &answers[0]);
            assert_eq!(verdict.is_ok(), expected, "{name}: {verdict:?}");
        }
    }
}
