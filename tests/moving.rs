//! Moving to another machine, by the commands of docs/backup.md: two data directories and two processes stand for the two
//! machines. Publishers go on meanwhile, at whichever of the two takes their messages.
//!
//! `WAITING` says how many deliveries wait meanwhile (2,000). Needs bash and curl: skipped with a loud line where
//! they are missing, a failure under `CI=true`.

#[path = "process/mod.rs"]
mod process;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use process::client::Connection;
use process::receiver::{Receiver, Reply};
use process::{
    Api, Launch, can_run, die_with_parent, free_ports, missing_programs, other_binary, say,
    scratch, until,
};
use serde_json::{Value, json};

const DOCS: &str = include_str!("../docs/backup.md");
const BATCH: usize = 100;
const FOLLOWS_WITHIN: Duration = Duration::from_secs(120);
const MOVED_WITHIN: Duration = Duration::from_secs(120);
/// What docs/backup.md promises for a release build; a debug build on a busy machine is slower.
const REFUSED_MAX: Duration = Duration::from_secs(if cfg!(debug_assertions) { 20 } else { 5 });

#[test]
fn a_server_moves_while_its_customers_publish() {
    if !can_run("moving", missing_programs(&["bash", "curl"])) {
        return;
    }
    let directory = scratch();
    let [new_machine, old_machine] = blocks();
    let received: Arc<Mutex<HashMap<String, u32>>> = Arc::default();
    let receiver = {
        let received = received.clone();
        Receiver::start(move |request| {
            let body = String::from_utf8_lossy(request.body).into_owned();
            *received.lock().unwrap().entry(body).or_default() += 1;
            Reply::Status(200)
        })
    };
    let ports = free_ports();
    let [old, new] = ["old", "new"].map(|name| directory.path().join(name));
    for (path, port) in [(&old, ports[0]), (&new, ports[1])] {
        std::fs::create_dir(path).expect("room");
        let to = directory.path().join("copy");
        let config = format!(
            "[server]\nlisten = \"127.0.0.1:{port}\"\n[store]\npath = \"{}/data\"\n[delivery]\n\
             danger_allow_private_addresses = [\"127.0.0.0/8\"]\n[backup]\nto = \"{}\"\nevery_seconds = 1\n",
            path.display(),
            to.display()
        );
        std::fs::write(path.join("config.toml"), config).expect("room");
    }
    let launch = Launch::new(old.join("data"))
        .config(old.join("config.toml"))
        .set("server.listen", format!("127.0.0.1:{}", ports[0]))
        .without_dev();
    let mut server = launch.start();
    let api = server.api.clone();
    let token = std::fs::read_to_string(old.join("data/owner.token")).expect("the token");
    let token = token.trim().to_owned();
    let waiting = number("WAITING", 2_000);
    fill(&api, &receiver, waiting);

    let to = directory.path().join("copy");
    let commands = |block: &str, path: &Path, port: u16| {
        let binary = other_binary().unwrap_or_else(|| env!("CARGO_BIN_EXE_postrider").to_owned());
        block
            .replace(
                "/etc/postrider/config.toml",
                &format!("'{}/config.toml'", path.display()),
            )
            .replace(
                "s3://example-backups/postrider",
                &format!("'{}'", to.display()),
            )
            .replace("postrider --config", &format!("'{binary}' --config"))
            .replace("8071", &port.to_string())
    };
    let following = Shell::run(&commands(&new_machine, &new, ports[1]), &token);
    // The database of the new machine is there once it has the beginning.
    let is_following = || new.join("data/live").exists().then_some(());
    until(FOLLOWS_WITHIN, is_following).unwrap_or_else(|| panic!("{}", following.ended()));

    let publishers = Publishers::start(ports, &token);
    let published = |more: usize| {
        let had = publishers.accepted();
        until(MOVED_WITHIN, || {
            (publishers.accepted() >= had + more).then_some(())
        })
        .expect("messages are accepted");
    };
    published(200);
    let mut handing_over = Shell::run(&commands(&old_machine, &old, ports[0]), &token);
    let answered = handing_over.child.wait().expect("our child");
    assert!(answered.success(), "{}", handing_over.ended());
    let status = server.process.wait(MOVED_WITHIN);
    let status = status.unwrap_or_else(|| panic!("it does not end: {}", server.process.log()));
    assert!(status.success(), "{status}: {}", server.process.log());
    until(MOVED_WITHIN, || publishers.took_over().then_some(()))
        .unwrap_or_else(|| panic!("nobody takes over: {}", following.ended()));
    published(200);
    let accepted = publishers.end();
    let refused = accepted.refused;
    say(&format!(
        "moving: {waiting} deliveries waiting, {} published meanwhile; refused for {refused:.2?}",
        accepted.messages.len()
    ));
    let told = || format!("{}\n{}", server.process.log(), following.ended());
    assert!(refused <= REFUSED_MAX, "{refused:?}\n{}", told());

    // Everything arrives, once, and what waited still waits.
    let all_came = || {
        let received = received.lock().unwrap();
        accepted
            .messages
            .iter()
            .all(|one| received.contains_key(one))
            .then_some(())
    };
    until(MOVED_WITHIN, all_came).expect("what was accepted arrives");
    for (message, times) in received.lock().unwrap().iter() {
        assert_eq!(*times, 1, "{message}");
    }
    let mut connection = connect(ports[1], &token).expect("the new server listens");
    let mut status = Value::Null;
    let waits = until(MOVED_WITHIN, || {
        let answer = connection.request("GET", "/api/v1/status", "");
        let answer = answer.expect("an answer");
        status = serde_json::from_slice(&answer.body).expect("JSON");
        (status["waiting"] == json!(waiting)).then_some(())
    });
    assert!(waits.is_some(), "{status}");
    // Two servers with one queue would send everything twice.
    let mut again = launch.spawn();
    let ended = again.wait(MOVED_WITHIN).map(|status| status.success());
    let told = again.log();
    assert!(
        ended == Some(false) && told.contains("was handed over"),
        "{told}"
    );
    drop(following);
}

/// The commands for the new machine and for the old one.
fn blocks() -> [String; 2] {
    ["new-machine", "old-machine"].map(|name| {
        let (_, rest) = DOCS
            .split_once(&format!("```sh {name}\n"))
            .unwrap_or_else(|| panic!("docs/backup.md has a block {name}"));
        let (commands, _) = rest.split_once("\n```").expect("a block ends");
        commands.to_owned()
    })
}

fn number(name: &str, otherwise: usize) -> usize {
    let given = std::env::var(name).ok();
    given.map_or(otherwise, |text| text.parse().expect("a whole number"))
}

/// An endpoint, and as many deliveries to it that are due tomorrow.
fn fill(api: &Api, receiver: &Receiver, waiting: usize) {
    api.call(
        "POST",
        "/api/v1/app",
        &json!({"name": "app", "uid": "app"}),
        201,
    );
    let endpoint = json!({"url": receiver.url("/"), "uid": "endpoint"});
    api.call("POST", "/api/v1/app/app/endpoint", &endpoint, 201);
    let tomorrow = jiff::Timestamp::now() + Duration::from_secs(24 * 3600);
    let one = json!({"eventType": "later", "payload": {}, "deliverAt": tomorrow.to_string()});
    let mut connection = api.connect().expect("it listens");
    let mut left = waiting;
    while left > 0 {
        let batch = json!(vec![one.clone(); left.min(BATCH)]).to_string();
        let answer = connection.request("POST", "/api/v1/app/app/msg/batch", &batch);
        let answer = answer.expect("an answer");
        let told = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, 202, "{told}");
        left -= left.min(BATCH);
    }
}

fn connect(port: u16, token: &str) -> std::io::Result<Connection> {
    Connection::open(SocketAddr::from(([127, 0, 0, 1], port)), token)
}

/// Publishes to the old server, or to the new one where the old one takes nothing.
struct Publishers {
    shared: Arc<Published>,
    thread: std::thread::JoinHandle<Duration>,
}

#[derive(Default)]
struct Published {
    ends: AtomicBool,
    took_over: AtomicBool,
    messages: Mutex<Vec<String>>,
}

struct Accepted {
    messages: Vec<String>,
    /// The longest time without one.
    refused: Duration,
}

impl Publishers {
    fn start(ports: [u16; 2], token: &str) -> Publishers {
        let shared = Arc::new(Published::default());
        let (thread_shared, token) = (shared.clone(), token.to_owned());
        let thread = std::thread::spawn(move || thread_shared.run(ports, &token));
        Publishers { shared, thread }
    }

    fn accepted(&self) -> usize {
        self.shared.messages.lock().unwrap().len()
    }

    fn took_over(&self) -> bool {
        self.shared.took_over.load(Ordering::SeqCst)
    }

    fn end(self) -> Accepted {
        self.shared.ends.store(true, Ordering::SeqCst);
        let refused = self.thread.join().expect("no panic");
        let messages = std::mem::take(&mut *self.shared.messages.lock().unwrap());
        Accepted { messages, refused }
    }
}

impl Published {
    fn run(&self, ports: [u16; 2], token: &str) -> Duration {
        let mut connections: [Option<Connection>; 2] = [None, None];
        let mut last = Instant::now();
        let mut longest = Duration::ZERO;
        let mut number = 0;
        while !self.ends.load(Ordering::SeqCst) {
            let payload = format!("{{\"number\":{number}}}");
            let body = json!({"eventType": "now", "eventId": format!("event-{number}"), "payload": {"number": number}});
            let mut taken_by = None;
            for (at, connection) in connections.iter_mut().enumerate() {
                if connection.is_none() {
                    *connection = connect(ports[at], token).ok();
                }
                let Some(open) = connection else { continue };
                match open.request("POST", "/api/v1/app/app/msg", &body.to_string()) {
                    // A 409 is the answer to a second try, where that to the first was lost.
                    Ok(answer) if [202, 409].contains(&answer.status) => taken_by = Some(at),
                    Ok(answer) => {
                        let told = String::from_utf8_lossy(&answer.body);
                        assert_eq!(answer.status, 503, "{told}");
                    }
                    Err(_) => *connection = None,
                }
                if taken_by.is_some() {
                    break;
                }
            }
            if let Some(at) = taken_by {
                longest = longest.max(last.elapsed());
                last = Instant::now();
                number += 1;
                self.messages.lock().unwrap().push(payload);
                if at == 1 {
                    self.took_over.store(true, Ordering::SeqCst);
                }
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        longest
    }
}

/// The commands of a block, and all that they start.
struct Shell {
    child: Child,
    output: Arc<Mutex<String>>,
}

impl Shell {
    fn run(commands: &str, token: &str) -> Shell {
        use std::io::Read;
        use std::os::unix::process::CommandExt;
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let mut shell = Command::new("bash");
        shell
            .args(["-c", commands])
            .env("TOKEN", token)
            .stdin(Stdio::null())
            .process_group(0)
            .stdout(writer.try_clone().expect("a second end of the pipe"))
            .stderr(writer);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("POSTRIDER_") || text.to_lowercase().ends_with("_proxy") {
                shell.env_remove(&name);
            }
        }
        die_with_parent(&mut shell);
        let child = shell.spawn().expect("bash starts");
        // Our own ends of the pipe.
        drop(shell);
        let output = Arc::new(Mutex::new(String::new()));
        let kept = output.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
                kept.lock().unwrap().push_str(&text);
            }
        });
        Shell { child, output }
    }

    /// What it printed, for a failure's message.
    fn ended(&self) -> String {
        self.output.lock().unwrap().clone()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let group = libc::pid_t::try_from(self.child.id()).expect("a process id fits its type");
        if matches!(self.child.try_wait(), Ok(None)) {
            // SAFETY: kill touches no memory of ours. The group is there while its first process is.
            unsafe { libc::kill(-group, libc::SIGKILL) };
        }
        let _ = self.child.wait();
    }
}
