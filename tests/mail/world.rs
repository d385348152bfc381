//! A server with a receiver that fails when a test says so, and the mails that come of it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::clock::FastClock;
use crate::process::receiver::{Receiver, Reply};
use crate::process::{Api, Launch, Server, scratch, until};
use crate::relay::{LOGIN, PASSWORD, Setup, WITHIN};

/// The minute in which mails are gathered takes a second.
const SPEED: u64 = 60;

pub const FROM: &str = "postrider@example.com";
pub const OPERATOR: &str = "ops@example.com";

pub struct World {
    directory: TempDir,
    receiver: Receiver,
    status: Arc<AtomicU16>,
    clock: FastClock,
}

impl World {
    /// With a receiver that answers 500.
    pub fn new() -> World {
        let status = Arc::new(AtomicU16::new(500));
        let answered = status.clone();
        World {
            directory: scratch(),
            receiver: Receiver::start(move |_| Reply::Status(answered.load(Ordering::SeqCst))),
            status,
            clock: FastClock::new(SPEED),
        }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// From now on the receiver answers with this status.
    pub fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    pub fn url(&self, path: &str) -> String {
        self.receiver.url(path)
    }

    /// A server that tells at once that a delivery has failed, and sends each once.
    pub fn launch(&self, setup: &Setup, port: u16) -> Launch {
        self.launch_command(setup, port)
            .env("POSTRIDER_CLOCK", self.clock.planned())
            .set("delivery.retry_delays_seconds", "")
            .set("server.public_url", "https://hooks.example.com")
            .set("notify.grace_seconds", 0)
            .set("notify.digest_seconds", 60)
    }

    /// The settings of the mails alone.
    pub fn launch_command(&self, setup: &Setup, port: u16) -> Launch {
        let mut launch = Launch::new(self.path().join("data"))
            .set("notify.smtp_host", "localhost")
            .set("notify.smtp_port", port)
            .set("notify.smtp_tls", setup.tls)
            .set("notify.from", FROM)
            .set("notify.to", OPERATOR);
        if !setup.mechanism.is_empty() {
            launch = launch
                .set("notify.smtp_username", LOGIN)
                .set("notify.smtp_password", PASSWORD);
        }
        match &setup.certificate {
            Some(files) => launch.set("notify.smtp_ca_file", files.authority.display()),
            None => launch,
        }
    }

    /// An application with this name, and an endpoint for each path.
    pub fn register(&self, api: &Api, application: &str, paths: &[&str]) -> Vec<String> {
        let event_type = json!({ "name": "invoice.paid", "description": "An invoice was paid" });
        let _ = api.request("POST", "/api/v1/event-type", &event_type.to_string());
        let body = json!({ "name": application, "uid": application });
        api.call("POST", "/api/v1/app", &body, 201);
        let each = paths.iter().map(|path| {
            let body = json!({ "url": self.url(path), "description": "Orders" });
            let made = api.call(
                "POST",
                &format!("/api/v1/app/{application}/endpoint"),
                &body,
                201,
            );
            made["id"].as_str().expect("an id").to_owned()
        });
        each.collect()
    }

    pub fn publish(&self, api: &Api, application: &str) {
        let body = json!({ "eventType": "invoice.paid", "payload": { "id": 1 } });
        api.call(
            "POST",
            &format!("/api/v1/app/{application}/msg"),
            &body,
            202,
        );
    }
}

/// The sentences of the problem `notify_failing`.
pub fn problems(api: &Api) -> Vec<String> {
    let status = api.get("/api/v1/status");
    let all = status["problems"].as_array().expect("a list").iter();
    let ours = all.filter(|problem| problem["kind"] == "notify_failing");
    let text = |problem: &Value| problem["message"].as_str().expect("a sentence").to_owned();
    ours.map(text).collect()
}

/// Waits for a problem with these words.
pub fn wait_problem(api: &Api, words: &str) {
    let found = until(WITHIN, || {
        problems(api)
            .iter()
            .any(|one| one.contains(words))
            .then_some(())
    });
    assert!(
        found.is_some(),
        "{words}, but {:?}; {}",
        problems(api),
        api.log()
    );
}

pub fn wait_no_problem(api: &Api) {
    let found = until(WITHIN, || problems(api).is_empty().then_some(()));
    assert!(found.is_some(), "{:?}; {}", problems(api), api.log());
}

/// The number of mails with this outcome.
pub fn counted(api: &Api, outcome: &str) -> u64 {
    let answer = api.request("GET", "/metrics", "").expect("an answer");
    let text = String::from_utf8(answer.body).expect("text");
    let name = format!("postrider_notify_mails_total{{outcome=\"{outcome}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    let count = line.unwrap_or_else(|| panic!("no {name}: {text}"));
    count.parse().expect("a number")
}

/// A stop as an operator makes it.
pub fn stop(mut server: Server) -> String {
    server.process.terminate();
    let status = server.process.wait(Duration::from_secs(60));
    let log = server.process.log();
    assert!(
        status.is_some_and(|status| status.success()),
        "{status:?}: {log}"
    );
    log
}
