//! What signals do to the server, and with which modes it makes its files: the real binary.

#[path = "process/mod.rs"]
mod process;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use process::receiver::{Receiver, Reply};
use process::{Api, Launch, Server, scratch, until};
use serde_json::json;

const SOON: Duration = Duration::from_secs(20);

fn register(api: &Api, receiver: &Receiver, profile: &str) {
    let body = json!({ "name": "app", "uid": "app" }).to_string();
    let made = api.request("POST", "/api/v1/app?get_if_exists=true", &body);
    assert!(made.is_ok_and(|answer| [200, 201].contains(&answer.status)));
    let url = format!("http://{}/", receiver.address);
    let body = json!({ "url": url, "profile": profile });
    api.call("POST", "/api/v1/app/app/endpoint", &body, 201);
}

fn publish(api: &Api) -> Option<u16> {
    let body = json!({ "eventType": "a", "payload": {} }).to_string();
    let answer = api.request("POST", "/api/v1/app/app/msg", &body);
    answer.ok().map(|answer| answer.status)
}

fn wait_for_log(server: &Server, text: &str) {
    until(SOON, || server.process.log().contains(text).then_some(()))
        .unwrap_or_else(|| panic!("no {text:?} in:\n{}", server.process.log()));
}

fn stop(mut server: Server) -> String {
    server.process.terminate();
    let status = server.process.wait(SOON).expect("it stops");
    assert!(status.success(), "{}", server.process.log());
    server.process.log()
}

#[test]
fn user_signals_do_nothing_and_a_hangup_reads_the_settings_again() {
    let directory = scratch();
    let file = directory.path().join("mine.toml");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    let profile = |value: &str| {
        format!("[profiles.mine.headers]\nx-version = '{value}'\n[server]\nworkers = 1\n")
    };
    write(&profile("one"));
    let (sent, received) = std::sync::mpsc::channel();
    let receiver = Receiver::start(move |request| {
        let _ = sent.send(request.header("x-version").map(str::to_owned));
        Reply::Status(204)
    });
    let launch = Launch::new(directory.path().join("data")).config(&file);
    let mut server = launch.start();
    register(&server.api, &receiver, "mine");
    let version = |server: &Server| {
        assert_eq!(publish(&server.api), Some(202));
        received.recv_timeout(SOON).expect("it is sent")
    };
    assert_eq!(version(&server).as_deref(), Some("one"));
    for (signal, name) in [(libc::SIGUSR1, "SIGUSR1"), (libc::SIGUSR2, "SIGUSR2")] {
        server.process.signal(signal);
        wait_for_log(&server, &format!("{name} does nothing"));
    }

    write(&format!(
        "{}drain_seconds = 7\n[log]\nlevel = 'debug'\n[profiles.new]\n",
        profile("two")
    ));
    server.process.signal(libc::SIGHUP);
    wait_for_log(
        &server,
        "these need a restart to change: server.drain_seconds",
    );
    // The endpoint's request was rendered and kept with the profile as it was.
    assert_eq!(version(&server).as_deref(), Some("two"));
    server.api.get("/api/v1/profile/new");
    register(&server.api, &receiver, "new");

    write("[profiles.mine.headers]\nx-version = '{{ broken'\n[log]\nlevel = 'off'\n");
    server.process.signal(libc::SIGHUP);
    wait_for_log(
        &server,
        "the settings were not reloaded, nothing changes: profiles.mine",
    );
    assert_eq!(publish(&server.api), Some(202));
    let kinds = [
        received.recv_timeout(SOON).unwrap(),
        received.recv_timeout(SOON).unwrap(),
    ];
    assert!(kinds.contains(&Some("two".to_owned())), "{kinds:?}");
    let log = stop(server);
    assert!(log.contains(" DEBUG "), "{log}");
}

#[test]
fn a_stop_under_slow_receivers_goes_on_accepting() {
    let directory = scratch();
    let began = Arc::new(AtomicUsize::new(0));
    let seen = began.clone();
    let receiver = Receiver::start(move |_| {
        seen.fetch_add(1, Ordering::SeqCst);
        Reply::After(Duration::from_secs(3), 204)
    });
    let launch = Launch::new(directory.path().join("data")).set("server.drain_seconds", 20);
    let mut server = launch.start();
    register(&server.api, &receiver, "standard");
    assert_eq!(publish(&server.api), Some(202));
    until(SOON, || (began.load(Ordering::SeqCst) == 1).then_some(())).expect("it is sent");
    server.process.terminate();
    wait_for_log(&server, "stopping;");
    let stopping = Instant::now();
    let mut accepted = 0;
    // The listener is gone for the last moments.
    until(SOON, || {
        accepted += u32::from(publish(&server.api) == Some(202));
        (accepted == 20 || !server.process.is_running()).then_some(())
    })
    .expect("it accepts or ends");
    assert_eq!(
        accepted, 20,
        "it took nothing while an attempt was under way"
    );
    assert_eq!(began.load(Ordering::SeqCst), 1, "it began no other attempt");
    assert!(
        server
            .process
            .wait(SOON)
            .is_some_and(|status| status.success())
    );
    assert!(
        stopping.elapsed() < Duration::from_secs(15),
        "it ends with the attempt"
    );
    let server = launch.start();
    until(SOON, || (began.load(Ordering::SeqCst) == 21).then_some(())).expect("they are sent");
    drop(server);
}

#[test]
fn nobody_else_reads_what_is_stored_wherever_it_lies() {
    let directory = scratch();
    let data = directory.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
    let launch = Launch::new(&data).under(&["sh", "-c", "umask 022; exec \"$0\" \"$@\""]);
    stop(launch.start());
    let open = readable(&data);
    assert!(open.is_empty(), "{open:?}");

    // As a version before this one left it.
    let database = data.join("live/db");
    std::fs::set_permissions(&database, std::fs::Permissions::from_mode(0o644)).unwrap();
    let log = stop(launch.start());
    assert!(log.contains("1 files or directories in"), "{log}");
    assert!(readable(&data).is_empty());
}

/// What others can read of everything below a directory.
fn readable(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let metadata = std::fs::metadata(&path).unwrap();
        if metadata.is_dir() {
            found.extend(readable(&path));
        }
        if metadata.permissions().mode() & 0o077 != 0 {
            found.push(path);
        }
    }
    found
}

#[test]
fn malformed_requests_are_one_line_a_minute() {
    use std::io::{Read, Write};
    let directory = scratch();
    let server = Launch::new(directory.path().join("data")).start();
    for _ in 0..5 {
        let mut stream = std::net::TcpStream::connect(server.api.address).unwrap();
        stream.write_all(b"GET / NONSENSE\r\n\r\n").unwrap();
        let mut answer = String::new();
        // Its end is the server's: by then it has been logged.
        let _ = stream.read_to_string(&mut answer);
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    let log = stop(server);
    assert_eq!(log.matches("was not valid HTTP").count(), 1, "{log}");
    assert!(!log.contains("ERROR"), "{log}");
}
