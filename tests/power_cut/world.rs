//! A store on a disk of its own, what is published to it and what comes of that.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::json;

use super::disk::{Disk, place};
use super::hold::{Held, end_held};
use super::process::ledger::{End, Ledger};
use super::process::receiver::Receiver;
use super::process::{Api, Launch, Process, Server, until};

const IN_FLIGHT_MAX: usize = 16;
const UNRECORDED_MAX: usize = 32;
const PUBLISHERS: usize = 8;
const DELIVERED_WITHIN: Duration = Duration::from_secs(120);
/// A batch of so many messages with so many bytes fills the journal fast. Nobody gets them.
const FILLING: (usize, usize) = (7, 1_000_000);

pub struct World {
    pub ledger: Arc<Ledger>,
    receiver: Receiver,
    pub launch: Launch,
    publish_path: Option<String>,
    /// The last message of each batch that filled the journal.
    fillings: Vec<String>,
    cuts: usize,
    pub disk: Disk,
    _directory: tempfile::TempDir,
}

impl World {
    pub fn new(random: &mut StdRng) -> World {
        World::on(random, Disk::create)
    }

    pub fn on(random: &mut StdRng, disk: impl FnOnce(&Path) -> Disk) -> World {
        let directory = place();
        let disk = disk(directory.path());
        // One delivery in seven fails at first: outcomes and new due times are at stake too.
        let ledger = Arc::new(Ledger::new(random.random(), 7));
        let receiver = {
            let ledger = ledger.clone();
            Receiver::start(move |request| ledger.receive(request))
        };
        let launch = Launch::new(disk.mount_point.join("data"))
            .set("delivery.in_flight_per_endpoint_max", IN_FLIGHT_MAX)
            .set("delivery.unrecorded_per_endpoint_max", UNRECORDED_MAX)
            .set("delivery.retry_delays_seconds", "1,1,1,1,1,1,1,1,1,1")
            .set("store.min_free_bytes", 32 * 1024 * 1024)
            // Slices are rolled in the middle of it all.
            .set("store.slice_bytes", 4 * 1024 * 1024);
        World {
            ledger,
            receiver,
            launch,
            publish_path: None,
            fillings: Vec::new(),
            cuts: 0,
            disk,
            _directory: directory,
        }
    }

    pub fn data(&self) -> PathBuf {
        self.launch.data().to_owned()
    }

    /// A server, and where to publish.
    pub fn start(&mut self, launch: &Launch) -> (Server, String) {
        let server = launch.start();
        let path = self.publish_path.get_or_insert_with(|| {
            let filler = json!({ "name": "filler", "uid": "filler" });
            server.api.call("POST", "/api/v1/app", &filler, 201);
            Ledger::register(&server.api, &self.receiver)
        });
        (server, path.clone())
    }

    /// Waits until everything that was accepted is delivered.
    pub fn wait_delivered(&self, api: &Api) {
        self.ledger.wait_delivered(DELIVERED_WITHIN, api);
    }

    /// Publishes until `moment` returns, cuts the power then, and kills the server. True where `moment` answers
    /// with a thread that is held.
    pub fn cut_under_load(
        &mut self,
        server: &mut Server,
        path: &str,
        moment: impl FnOnce(&mut Process) -> Option<Held>,
    ) -> bool {
        let (api, end) = (server.api.clone(), End::by_power_cut());
        let is_held = std::thread::scope(|scope| {
            let publishing = scope.spawn(|| self.ledger.publish(&api, path, PUBLISHERS, &end));
            let held = moment(&mut server.process);
            end.comes();
            self.disk.cut_power();
            // It may write and answer yet: each publisher hears from it once more, or that it ended.
            if held.is_none() {
                until(Duration::from_secs(30), || {
                    publishing.is_finished().then_some(())
                })
                .expect("a server without a disk answers or ends");
            }
            let is_held = held.is_some();
            end_held(&mut server.process, held);
            is_held
        });
        self.power_returns();
        is_held
    }

    /// After a cut, when no process is left.
    pub fn power_returns(&mut self) {
        self.cuts += 1;
        self.receiver.settle();
        self.ledger.begin_life();
        self.disk.unmount();
        self.disk.mount();
    }

    /// After a kill.
    pub fn next_life(&self) {
        self.receiver.settle();
        self.ledger.begin_life();
    }

    /// Publishes a batch that fills the journal. Its last message; none where it was not accepted.
    pub fn fill(api: &Api) -> Option<String> {
        let (messages, bytes) = FILLING;
        let message = json!({ "eventType": "filling", "payload": { "text": "z".repeat(bytes) } });
        let body = json!(vec![message; messages]).to_string();
        let answer = api
            .request("POST", "/api/v1/app/filler/msg/batch", &body)
            .ok()?;
        let body: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
        let last = body["data"][messages - 1]["message"]["id"].as_str();
        last.filter(|_| answer.status == 202).map(str::to_owned)
    }

    /// Notes that these were accepted before the power was cut.
    pub fn filled(&mut self, fillings: Vec<String>) {
        self.fillings.extend(fillings);
    }

    /// Starts on what is left, and holds it against everything that was answered. Returns a line about it.
    pub fn account(&mut self) -> String {
        let launch = self.launch.clone();
        let (mut server, _) = self.start(&launch);
        self.wait_delivered(&server.api);
        for id in &self.fillings {
            let shown = server.api.get(&format!("/api/v1/app/filler/msg/{id}"));
            let text = shown["payload"]["text"].as_str().unwrap_or_default();
            assert!(text.len() == FILLING.1 && text.bytes().all(|byte| byte == b'z'));
        }
        server.process.kill();
        self.next_life();
        let totals = self.ledger.check_books(IN_FLIGHT_MAX + UNRECORDED_MAX);
        let (is_sound, said) = self.launch.run(&["verify-store"]);
        assert!(is_sound, "{said}");
        format!("{} cuts, {totals:?}", self.cuts)
    }

    pub fn expect_load(&self) {
        let accepted = self.ledger.accepted();
        assert!(
            accepted > 20 * self.cuts,
            "too little load to prove anything: {accepted}"
        );
    }
}
