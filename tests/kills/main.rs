//! Whatever was answered is there, whenever the process is killed: the real binary under everything at once.
//!
//! Clients publish (single messages and batches, with event ids and idempotency keys, some for later), make,
//! change and delete applications and endpoints, rotate secrets, erase payloads, send again and replay and
//! cancel that, while a receiver takes, refuses or ignores what is delivered, slices are closed by their
//! size and their age, and retention removes them: time passes a hundred times as fast as it does, and jumps
//! while no server runs. At random moments the process is killed, at times while it starts, at times it is
//! stopped. What it says and sends in its next lives is compared with every answer it gave:
//!
//! - What was answered is there, what was deleted is not, what was erased is not shown or sent again.
//! - What was not answered was done as a whole or not at all.
//! - A key gives the same answer again, and an event id is not taken twice.
//! - What was accepted arrives, and nothing else does, signed by the newest secret.
//! - `verify-store` finds nothing wrong, after a kill neither, and the log has no error.
//!
//! `KILLS` says how many (80, or 40 where `CI` is not true), `SEED` which ones: the moments and what the clients
//! choose; how far they come by then is theirs.

#[path = "../process/mod.rs"]
mod process;

mod audit;
mod books;
mod client;
mod line;
mod operation;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use audit::{Extent, audit, check_deliveries};
use books::{Books, Fate};
use client::{Client, SHARED, Tally};
use line::Line;
use operation::Operation;
use process::receiver::Receiver;
use process::signature::new_secret;
use process::{Launch, Server, at_random_moment, say, scratch, seed, until};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

const CLIENTS: usize = 4;
/// What is delivered at last has this long, in real time.
const DELIVERED_WITHIN: Duration = Duration::from_secs(120);
/// Looked at one by one at the end.
const DELIVERIES_LOOKED_AT: usize = 300;

#[test]
fn every_answer_holds_across_kills() {
    let kills: u32 = match std::env::var("KILLS") {
        Ok(text) => text.parse().expect("KILLS is a whole number"),
        Err(_) if std::env::var("CI").as_deref() == Ok("true") => 80,
        Err(_) => 40,
    };
    let mut world = World::new(seed("kills"));
    for kill in 0..kills {
        world.live_and_die(kill);
        world.expect_nothing_wrong();
    }
    let said = world.end();
    world.expect_nothing_wrong();
    let accepted = world.accepted().len();
    assert!(accepted > 20 * kills as usize, "too little load: {said}");
    // A day passes in some ten lives.
    assert!(world.slices_removed > 0 || kills < 80, "{said}");
    say(&format!("kills: {kills} kills, {said}"));
}

/// So that the test above can fail: what its clients were told is more than the directory has.
#[test]
fn a_directory_that_went_back_is_noticed() {
    let mut world = World::new(seed("kills, gone back"));
    for kill in 0..3 {
        world.live_and_die(kill);
    }
    world.expect_nothing_wrong();
    let data = world.directory.path().join("data");
    let copy = world.directory.path().join("copy");
    copy_all(&data, &copy);
    let mut server = world.start();
    world.load_until(&mut server, Duration::from_millis(500), Died::Killed);
    drop(server);
    world.expect_nothing_wrong();
    std::fs::remove_dir_all(&data).expect("it can be removed");
    std::fs::rename(&copy, &data).expect("it can be moved");
    let server = world.start();
    audit(
        &server.api,
        &world.books,
        &mut world.clients,
        Extent::Newest,
    );
    let wrong = std::mem::take(&mut world.books.pages().wrong);
    let is_missed = |what: &String| what.contains("does not show message");
    assert!(wrong.iter().any(is_missed), "{wrong:?}");
}

/// The server, its clients and its receiver across lives.
struct World {
    receiver: Receiver,
    books: Arc<Books>,
    clients: Vec<Client>,
    random: StdRng,
    /// Slices of history that retention removed.
    slices_removed: usize,
    directory: tempfile::TempDir,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Died {
    Killed,
    Stopped,
}

impl World {
    fn new(seed: u64) -> World {
        let books = Arc::new(Books::new(seed));
        let receiver = {
            let books = books.clone();
            Receiver::start(move |request| books.receive(request))
        };
        let mut world = World {
            receiver,
            books,
            clients: (0..CLIENTS).map(Client::new).collect(),
            random: StdRng::seed_from_u64(seed),
            slices_removed: 0,
            directory: scratch(),
        };
        world.register();
        world
    }

    /// The application that clients share, with its endpoints.
    fn register(&mut self) {
        let mut server = self.start();
        let mut line = open(&server, &self.books);
        let mut client = Client::new(CLIENTS);
        let mut operations = vec![Operation::CreateApplication];
        for number in 0..2 {
            let uid = format!("{SHARED}-{number}");
            operations.push(Operation::CreateEndpoint {
                url: self.receiver.url(&format!("/{uid}")),
                uid,
                only: None,
                secret: new_secret(&mut self.random),
            });
        }
        for operation in operations {
            let done = client.perform(&mut line, SHARED, operation);
            assert!(done.is_ok(), "{}", server.process.log());
        }
        server.process.kill();
        self.begin_life();
    }

    /// Its clock goes on from where that of the life before was.
    fn launch(&self) -> Launch {
        Launch::new(self.directory.path().join("data"))
            .env("POSTRIDER_CLOCK", self.books.planned_clock())
            .set("store.retention_days", 1)
            .set("store.slice_hours", 1)
            .set("store.slice_bytes", 1024 * 1024)
            .set("store.export_minutes", 1)
            .set("delivery.jitter", 0.5)
            .set("delivery.retry_delays_seconds", vec!["60"; 60].join(","))
            // By the fast clock.
            .set("delivery.request_timeout_seconds", 180)
            .set("delivery.connect_timeout_seconds", 180)
    }

    fn start(&self) -> Server {
        self.launch().start()
    }

    fn begin_life(&mut self) {
        self.receiver.settle();
        self.books.begin_life();
    }

    fn live_and_die(&mut self, kill: u32) {
        // Hours in which nothing runs, so that retention has something to do at the start.
        if self.random.random_ratio(1, 5) {
            let hours = self.random.random_range(1..6);
            self.books.jump(Duration::from_secs(hours * 3600));
        }
        if kill > 0 && self.random.random_ratio(1, 6) {
            // While it starts, recovering from the kill before.
            let mut process = self.launch().spawn();
            at_random_moment(Duration::from_millis(self.random.random_range(0..250)));
            process.kill();
            self.expect_no_error(&process.log());
            self.begin_life();
            return;
        }
        let died = match self.random.random_ratio(1, 12) {
            true => Died::Stopped,
            false => Died::Killed,
        };
        let mut server = self.start();
        let looked_at = self.random.random_range(0..20);
        if looked_at < 8 {
            let extent = if looked_at == 0 {
                Extent::All
            } else {
                Extent::Newest
            };
            audit(&server.api, &self.books, &mut self.clients, extent);
        }
        // The server keeps house once a second.
        let longest = if self.random.random_ratio(1, 8) {
            1_600
        } else {
            500
        };
        let load_time = Duration::from_millis(self.random.random_range(1..longest));
        self.load_until(&mut server, load_time, died);
        // As the kill left it, or the stop.
        if self.random.random_ratio(1, 12) {
            self.verify();
        }
    }

    /// Neither a panic nor anything else that an operator would have to look into.
    fn expect_no_error(&self, log: &str) {
        if let Some(line) = log.lines().find(|line| line.contains(" ERROR ")) {
            self.books.wrong(format!("the log says: {line}"));
        }
    }

    /// Runs the clients for so long, and the server until it died.
    fn load_until(&mut self, server: &mut Server, load_time: Duration, died: Died) {
        let api = server.api.clone();
        let (books, receiver) = (&self.books, &self.receiver);
        let life = books.pages().life;
        std::thread::scope(|scope| {
            for (number, client) in self.clients.iter_mut().enumerate() {
                let seed = books.seed ^ u64::from(life) << 8 ^ number as u64;
                let random = StdRng::seed_from_u64(seed);
                let api = &api;
                scope.spawn(move || client.work(api, books, receiver, random));
            }
            at_random_moment(load_time);
            books.is_dying.store(true, Ordering::SeqCst);
            match died {
                Died::Killed => server.process.kill(),
                Died::Stopped => {
                    server.process.terminate();
                    stopped(server, books);
                }
            }
        });
        let log = server.process.log();
        self.expect_no_error(&log);
        self.slices_removed += log.matches("was older than the retention time").count();
        self.begin_life();
        if life % 20 == 0 {
            self.books.check_receipts();
        }
    }

    /// Lets everything be delivered, and looks at everything, before and after a stop.
    fn end(&mut self) -> String {
        self.enable_all();
        // What was published for later is due.
        self.books.jump(Duration::from_secs(3 * 3600));
        let mut server = self.start();
        let is_over = |books: &Books| books.outstanding().is_empty() || !no_wrong(books);
        until(DELIVERED_WITHIN, || is_over(&self.books).then_some(()));
        // What a job that had begun sends again is due only when it finished.
        until(DELIVERED_WITHIN, || {
            let mut line = open(&server, &self.books);
            for client in &mut self.clients {
                let _ = client.look_at_jobs(&mut line);
            }
            let run = self.clients.iter().any(Client::has_jobs);
            (!run && is_over(&self.books)).then_some(())
        });
        let missing = self.books.outstanding();
        if let Some((uid, number)) = missing.first() {
            self.books.wrong(format!(
                "{} deliveries are missing, the first of message {number} to {uid}:\n{}",
                missing.len(),
                self.known_of(&server, *number)
            ));
        }
        let waiting = || server.api.get("/api/v1/status")["waiting"].as_u64();
        let none_waits = until(DELIVERED_WITHIN, || (waiting() == Some(0)).then_some(()));
        if none_waits.is_none() {
            self.books
                .wrong(format!("{:?} deliveries wait and none should", waiting()));
        }
        self.books.check_receipts();
        let accepted = self.accepted();
        let some: Vec<u64> = {
            let kept = accepted.iter().filter(|(_, is_kept)| *is_kept);
            let kept: Vec<u64> = kept.map(|(number, _)| *number).collect();
            let some = kept.choose_multiple(&mut self.random, DELIVERIES_LOOKED_AT);
            some.copied().collect()
        };
        check_deliveries(&server.api, &self.books, &some);
        audit(&server.api, &self.books, &mut self.clients, Extent::All);
        server.process.terminate();
        stopped(&mut server, &self.books);
        self.verify();
        // The same after a start that had nothing to recover.
        let server = self.start();
        audit(&server.api, &self.books, &mut self.clients, Extent::All);
        check_deliveries(&server.api, &self.books, &some);
        let (tally, received) = (self.tally(), self.books.pages().received());
        format!(
            "{} messages accepted, {received} requests received, {} slices removed, {tally:?}",
            accepted.len(),
            self.slices_removed
        )
    }

    /// Each accepted message that was not deleted, with whether it must still be there.
    fn accepted(&self) -> Vec<(u64, bool)> {
        let gone: Vec<&String> = self.clients.iter().flat_map(|one| &one.gone).collect();
        let pages = self.books.pages();
        let accepted = pages.messages.iter();
        let accepted = accepted.filter(|(_, one)| one.fate == Fate::Accepted);
        let accepted = accepted.map(|(number, one)| {
            let is_there = !gone.contains(&&one.application);
            (*number, is_there && self.books.is_kept(one.asked_at))
        });
        let mut accepted: Vec<(u64, bool)> = accepted.collect();
        accepted.sort_unstable();
        accepted
    }

    fn enable_all(&mut self) {
        let mut server = self.start();
        // Doubts first: an endpoint may be disabled by what was not answered.
        audit(&server.api, &self.books, &mut self.clients, Extent::Newest);
        let mut line = open(&server, &self.books);
        for client in &mut self.clients {
            let Some(app) = client.app.clone() else {
                continue;
            };
            let disabled: Vec<String> = {
                let pages = self.books.pages();
                let all = pages.endpoints_of(&app).filter(|(_, one)| one.disabled);
                all.map(|(uid, _)| uid.clone()).collect()
            };
            for uid in disabled {
                let operation = Operation::PatchEndpoint {
                    uid,
                    description: "enabled at last".to_owned(),
                    disabled: false,
                };
                let done = client.perform(&mut line, &app, operation);
                assert!(done.is_ok(), "{}", server.process.log());
            }
        }
        server.process.kill();
        self.begin_life();
    }

    /// What the server has of a message that did not arrive.
    fn known_of(&self, server: &Server, number: u64) -> String {
        let (app, id) = {
            let pages = self.books.pages();
            let message = &pages.messages[&number];
            let id = message.id.clone().unwrap_or_default();
            (message.application.clone(), id)
        };
        let paths = [
            format!("/api/v1/app/{app}/msg/{id}?with_content=false"),
            format!("/api/v1/app/{app}/msg/{id}/endpoint"),
            format!("/api/v1/app/{app}/attempt/msg/{id}?with_content=false"),
        ];
        let shown = paths.map(|path| match server.api.request("GET", &path, "") {
            Ok(answer) => String::from_utf8_lossy(&answer.body).into_owned(),
            Err(error) => error.to_string(),
        });
        shown.join("\n")
    }

    fn verify(&self) {
        let data = self.directory.path().join("data");
        let output = Command::new(env!("CARGO_BIN_EXE_postrider"))
            .arg("verify-store")
            .env("POSTRIDER__STORE__PATH", &data)
            .env("POSTRIDER_CLOCK", self.books.planned_clock())
            .current_dir(self.directory.path())
            .output()
            .expect("the binary runs");
        if !output.status.success() {
            self.books.wrong(format!(
                "verify-store ends with {}: {}{}",
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            ));
        }
    }

    fn tally(&self) -> Tally {
        let tallies = self.clients.iter().map(|client| client.tally);
        tallies.fold(Tally::default(), Tally::plus)
    }

    fn expect_nothing_wrong(&self) {
        let pages = self.books.pages();
        let (life, seed) = (pages.life, self.books.seed);
        assert!(
            pages.wrong.is_empty(),
            "in life {life} of SEED={seed} {} things are wrong:\n{}",
            pages.wrong.len(),
            pages.wrong[..pages.wrong.len().min(10)].join("\n")
        );
    }
}

fn no_wrong(books: &Books) -> bool {
    books.pages().wrong.is_empty()
}

fn open<'a>(server: &Server, books: &'a Books) -> Line<'a> {
    Line::open(&server.api, books)
        .ok()
        .expect("a server that is ready takes connections")
}

/// It ends by itself, without a complaint.
fn stopped(server: &mut Server, books: &Books) {
    let status = server.process.wait(Duration::from_secs(60));
    if status.and_then(|status| status.code()) != Some(0) {
        let log = server.process.log();
        books.wrong(format!("the stop ended with {status:?}:\n{log}"));
    }
}

fn copy_all(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(status.is_ok_and(|status| status.success()), "cp -a");
}
