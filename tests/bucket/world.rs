//! A store with its receiver and its books, the server on it, and what an operator does with them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::books::{Books, EVENT_TYPE};
use crate::process::receiver::Receiver;
use crate::process::{Api, Launch, Server, scratch, until};
use crate::service::{Credentials, REGION};

/// What is waited for comes within some seconds. This is for machines that are busy.
const WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub struct World {
    pub books: Arc<Books>,
    directory: TempDir,
    receiver: Receiver,
    /// The clock of the binary, where it is not the system's.
    clock: Option<String>,
}

/// How far the clock of the binary goes ahead once it is turned: slices that were begun before are old.
pub const AHEAD: SignedDuration = SignedDuration::from_hours(2);

/// The copy as the server's status has it.
#[derive(Debug)]
pub struct Status {
    pub completed_at: Option<Timestamp>,
    pub copied_until: Option<Timestamp>,
    pub lag_seconds: f64,
    /// Why the store cannot be copied.
    pub failing: Option<String>,
    pub keeps_versions: bool,
    pub still_to_erase: u64,
}

/// The end of a command.
pub struct Ended {
    pub code: Option<i32>,
    /// What it wrote to stderr.
    pub said: String,
}

impl World {
    pub fn new() -> World {
        let books: Arc<Books> = Arc::default();
        let receiver = {
            let books = books.clone();
            Receiver::start(move |request| books.receive(request))
        };
        World {
            books,
            directory: scratch(),
            receiver,
            clock: None,
        }
    }

    /// Servers and commands that are launched from now on live [`AHEAD`] of the system's clock. The next commit
    /// closes the slice that was begun before, and with it the journal's segment.
    pub fn turn_clock(&mut self) {
        let now = Timestamp::now();
        let (now, ahead) = (now.as_millisecond(), (now + AHEAD).as_millisecond());
        self.clock = Some(format!("{now} {ahead} 1"));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A server or a command on the store in this directory, which is copied every second.
    pub fn launch(&self, store: &str, to: &str, service: SocketAddr) -> Launch {
        let credentials = Credentials {
            id: "test".to_owned(),
            secret: "test".to_owned(),
        };
        self.launch_with(store, to, service, &credentials)
    }

    pub fn launch_with(
        &self,
        store: &str,
        to: &str,
        service: SocketAddr,
        credentials: &Credentials,
    ) -> Launch {
        let endpoint = format!("http://{service}");
        self.launch_alone(store)
            .set("backup.to", to)
            .set("backup.every_seconds", 1)
            // Indexes are written soon.
            .set("store.slice_bytes", 1 << 20)
            .set("store.slice_hours", 1)
            .env("AWS_ACCESS_KEY_ID", &credentials.id)
            .env("AWS_SECRET_ACCESS_KEY", &credentials.secret)
            .env("AWS_REGION", REGION)
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_ENDPOINT_URL", &endpoint)
            // What the environment of the test may have goes nowhere else.
            .env("AWS_ENDPOINT_URL_S3", &endpoint)
            .env("NO_PROXY", "127.0.0.1")
            .env("no_proxy", "127.0.0.1")
            .env("TMPDIR", self.directory.path().display())
    }

    /// A server on this directory that is not copied.
    fn launch_alone(&self, store: &str) -> Launch {
        let launch = Launch::new(self.path(store));
        match &self.clock {
            Some(clock) => launch.env("POSTRIDER_CLOCK", clock),
            None => launch,
        }
    }

    /// Registers an application and its endpoint. Returns the path of its messages.
    pub fn register(&self, api: &Api) -> String {
        let event_type = json!({ "name": EVENT_TYPE, "description": "for the books" });
        api.call("POST", "/api/v1/event-type", &event_type, 201);
        let application = api.call("POST", "/api/v1/app", &json!({ "name": "bucket" }), 201);
        let application = application["id"].as_str().expect("an application's id");
        let endpoint = json!({ "url": self.receiver.url("/hook") });
        api.call(
            "POST",
            &format!("/api/v1/app/{application}/endpoint"),
            &endpoint,
            201,
        );
        format!("/api/v1/app/{application}/msg")
    }

    /// Restores into an empty directory and starts a server there, which is not copied.
    pub fn start_restored(&self, launch: &Launch, from: &str, into: &str) -> Server {
        let ended = self.restore(launch, from, into);
        assert_eq!(ended.code, Some(0), "restore: {}", ended.said);
        let token = std::fs::read_to_string(launch.data().join("owner.token"));
        let token = token
            .expect("the token of the server before")
            .trim()
            .to_owned();
        let server = self.launch_alone(into).try_start(|| token);
        server
            .unwrap_or_else(|(why, process)| panic!("the restored server {why}: {}", process.log()))
    }

    pub fn restore(&self, launch: &Launch, from: &str, into: &str) -> Ended {
        let into = self.path(into);
        let into = into.to_str().expect("the directory's name is text");
        run(launch, &["restore", "--from", from, "--to", into])
    }
}

/// Runs a command of the binary to its end.
pub fn run(launch: &Launch, arguments: &[&str]) -> Ended {
    let mut process = launch.spawn_command(arguments);
    let status = process.wait(WITHIN);
    let said = process.log();
    let status = status.unwrap_or_else(|| panic!("{arguments:?} does not end: {said}"));
    Ended {
        code: status.code(),
        said,
    }
}

/// Everything in the copy is whole.
pub fn assert_whole(launch: &Launch) {
    let ended = run(launch, &["verify-backup"]);
    assert_eq!(ended.code, Some(0), "verify-backup: {}", ended.said);
}

/// A stop as an operator makes it.
pub fn stop(mut server: Server) {
    server.process.terminate();
    let status = server.process.wait(WITHIN);
    let log = server.process.log();
    assert!(
        status.is_some_and(|status| status.success()),
        "{status:?}: {log}"
    );
}

impl Status {
    pub fn of(api: &Api) -> Status {
        let status = api.get("/api/v1/status");
        let backup = &status["backup"];
        let time = |name: &str| -> Option<Timestamp> {
            let text = backup[name].as_str()?;
            Some(
                text.parse()
                    .unwrap_or_else(|error| panic!("{name}: {error}")),
            )
        };
        let failing = backup["failing"]["reason"].as_str();
        // A problem for those who look at that alone.
        let problems = status["problems"].as_array().expect("a list of problems");
        let tells = |reason: &str| problems.iter().any(|one| one.to_string().contains(reason));
        assert!(
            failing.is_none_or(tells),
            "{failing:?} is no problem: {problems:?}"
        );
        Status {
            completed_at: time("completedAt"),
            copied_until: time("copiedUntil"),
            lag_seconds: backup["lagSeconds"].as_f64().expect("a number"),
            failing: failing.map(str::to_owned),
            keeps_versions: backup["keepsVersions"] == Value::Bool(true),
            still_to_erase: backup["stillToErase"].as_u64().expect("a number"),
        }
    }

    /// Waits for a status of which this is so.
    pub fn wait(api: &Api, what: &str, mut is_so: impl FnMut(&Status) -> bool) -> Status {
        let mut last = None;
        let mut next_look = Instant::now();
        let found = until(WITHIN, || {
            // An answer is work for a server that is busy enough.
            if Instant::now() < next_look {
                return None;
            }
            next_look = Instant::now() + LOOK_EVERY;
            let status = Status::of(api);
            let is_so = is_so(&status);
            last = Some(format!("{status:?}"));
            is_so.then_some(status)
        });
        found.unwrap_or_else(|| panic!("{what}, but {last:?}; {}", api.log()))
    }

    /// Waits until a run has completed that began after this call, and the copy has everything.
    pub fn wait_copied(api: &Api) -> Status {
        // The first one that ends may have begun before.
        for _ in 0..2 {
            Status::wait_run(api);
        }
        Status::wait(api, "the copy has everything", |status| {
            status.lag_seconds == 0.0 && status.failing.is_none()
        })
    }

    /// Waits until one more run has completed.
    pub fn wait_run(api: &Api) -> Status {
        let before = Status::of(api).completed_at;
        Status::wait(api, "a run completes", |status| {
            status.completed_at > before
        })
    }

    /// Waits until a run has failed for a reason with these words.
    pub fn wait_failing(api: &Api, words: &str) -> String {
        let is_it = |status: &Status| {
            status
                .failing
                .as_ref()
                .is_some_and(|reason| reason.contains(words))
        };
        let status = Status::wait(api, &format!("copying fails: {words}"), is_it);
        status.failing.expect("it was looked for")
    }
}

/// Copies a data directory that no server uses.
pub fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("a directory in ours");
    for entry in std::fs::read_dir(from).expect("a directory of ours") {
        let entry = entry.expect("an entry of it");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match from.is_dir() {
            true => copy_directory(&from, &to),
            false => drop(std::fs::copy(from, to).expect("a file can be copied")),
        }
    }
}
