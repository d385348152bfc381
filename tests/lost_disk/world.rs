//! A store with its clients, its receiver and its witness, the copy that is made of it, and what is left when its disk is
//! gone.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::books::{AGAIN, Books, EVERY, KINDS, Manner, SHARED, SOME};
use super::check::Compared;
use super::client::{CLIENTS, Client, Line};
use super::operator::{files_below, millis};
use super::process::ending::Ending;
use super::process::receiver::Receiver;
use super::process::signature::new_secret;
use super::process::{Api, Launch, Server, at_random_moment, scratch};
use super::shown;
use super::witness::Sight;

/// What is waited for comes within some seconds. This is for machines that are busy.
pub const WITHIN: Duration = Duration::from_secs(120);
/// A copy counts once it has so many messages of the life.
const COPIED_MIN: usize = 100;
const LOOK_EVERY: Duration = Duration::from_millis(50);
pub const RETENTION: Duration = Duration::from_secs(24 * 3600);

/// What is special about a round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Plain,
    /// The copy is encrypted.
    Sealed,
    /// The store is brought back to a moment between two copies.
    Earlier,
    /// The server was stopped, and everything must be there.
    Stopped,
    /// Retention removes slices of the store while it is copied, and the copy keeps nothing longer.
    Expiring,
    /// The store that was brought back is lost, too.
    Twice,
}

impl Kind {
    pub const ALL: [Kind; 6] = [
        Kind::Plain,
        Kind::Sealed,
        Kind::Earlier,
        Kind::Stopped,
        Kind::Expiring,
        Kind::Twice,
    ];

    /// How many times as fast time passes for the server. It copies its store once a second, which is every 5 s by its
    /// clock, but where an hour has to pass soon.
    fn speed(self) -> u64 {
        match self {
            Kind::Expiring => 300,
            _ => 5,
        }
    }
}

/// How a server loses its disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// It is killed, and its directory is gone.
    Killed,
    /// Its directory is gone, and it goes on for a moment.
    MovedAway,
    /// It is stopped before.
    Stopped,
}

/// For the line at the end.
#[derive(Default)]
pub struct Tally {
    pub accepted: usize,
    pub load_time: Duration,
    pub compared: Compared,
    pub delivered: usize,
}

pub struct World {
    pub kind: Kind,
    pub name: String,
    pub books: Arc<Books>,
    pub tally: Tally,
    pub sight: Sight,
    directory: tempfile::TempDir,
    pub receiver: Receiver,
    pub clients: Vec<Client>,
    pub random: StdRng,
    /// Of the owner; a backup does not have it.
    pub token: String,
    /// How many stores are lost.
    pub lost: usize,
    /// The folders of their copies.
    pub streams: Vec<String>,
    /// The moments up to which the server said that its store is copied, in the life that ended last.
    pub copied: Vec<u64>,
}

impl World {
    /// `name` is told where something is wrong.
    pub fn new(kind: Kind, seed: u64, name: String) -> World {
        let books = Arc::new(Books::new(seed, kind.speed()));
        let receiver = {
            let books = books.clone();
            Receiver::start(move |request| books.receive(request))
        };
        let world = World {
            kind,
            name,
            books,
            tally: Tally::default(),
            sight: Sight::default(),
            directory: scratch(),
            receiver,
            clients: (0..CLIENTS).map(Client::new).collect(),
            random: StdRng::seed_from_u64(seed),
            token: String::new(),
            lost: 0,
            streams: Vec::new(),
            copied: Vec::new(),
        };
        let key: [u8; 32] = StdRng::seed_from_u64(!seed).random();
        let key = key.map(|byte| format!("{byte:02x}")).concat();
        std::fs::write(world.path("backup.key"), key).expect("a directory of ours");
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The directory of the store.
    pub fn data(&self) -> PathBuf {
        self.path(&format!("data-{}", self.lost))
    }

    pub fn target(&self) -> PathBuf {
        self.path("copy")
    }

    /// Its clock goes on from where that of the life before was.
    pub fn launch(&self) -> Launch {
        let speed = self.kind.speed();
        let retry_delay = (speed * 2 / 5).to_string();
        // A slice that is full ends within a segment, which retention does not take before the next one, then.
        let slice_mebibytes = if self.kind == Kind::Expiring { 64 } else { 1 };
        Launch::new(self.data())
            .env("POSTRIDER_CLOCK", self.books.clock.planned())
            .env("TMPDIR", self.directory.path().display())
            .set("store.retention_days", 1)
            .set("store.slice_hours", 1)
            .set("store.slice_bytes", slice_mebibytes << 20)
            .set("delivery.jitter", 0.5)
            .set(
                "delivery.retry_delays_seconds",
                vec![retry_delay.as_str(); 60].join(","),
            )
            // A receiver that is silent is waited for.
            .set("delivery.request_timeout_seconds", 3600)
            .set("delivery.connect_timeout_seconds", 3600)
    }

    /// The same with the copy.
    pub fn launch_copied(&self) -> Launch {
        let keep_days = if self.kind == Kind::Expiring { 0 } else { 7 };
        let launch = self
            .launch()
            .set("backup.to", self.target().display())
            .set("backup.every_seconds", 1)
            .set("backup.keep_days", keep_days);
        match self.kind {
            Kind::Sealed => launch.set("backup.key_file", self.path("backup.key").display()),
            _ => launch,
        }
    }

    /// Starts a server on the store that is there, and continues its copy.
    pub fn start(&self) -> Server {
        let started = self.launch_copied().try_start(|| self.token.clone());
        started.unwrap_or_else(|(why, process)| panic!("the server {why}:\n{}", process.log()))
    }

    /// Starts the first server, and registers what its clients share.
    pub fn begin(&mut self) -> Server {
        let server = self.launch_copied().start();
        let token = std::fs::read_to_string(&server.token_path);
        self.token = token.expect("a first start writes it").trim().to_owned();
        let mut line = Line::open(&server.api, &self.books, &self.receiver)
            .unwrap_or_else(|why| panic!("{why}; {}", server.api.log()));
        let made = line.create_application(SHARED).and_then(|()| {
            for (uid, kind) in [
                (EVERY, None),
                (AGAIN, Some(KINDS[0])),
                (SOME, Some(KINDS[1])),
            ] {
                line.create_endpoint(SHARED, uid, kind, &new_secret(&mut self.random))?;
            }
            Ok(())
        });
        made.unwrap_or_else(|why| panic!("{why}; {}", server.api.log()));
        server
    }

    /// Two lives whose history retention removes in the next one, beginning with that of the first.
    pub fn fill_slices(&mut self, mut server: Server) -> Server {
        // Slices are closed by their age, and with them segments.
        let less = Duration::from_secs(self.random.random_range(0..600));
        for jump in [Duration::from_secs(3700), RETENTION - less] {
            self.live(
                &mut server,
                Loss::Killed,
                |copied| copied > 0,
                Duration::ZERO,
            );
            let clients = self.clients.iter_mut();
            clients.for_each(|client| client.leave(&self.books, u64::MAX));
            self.books.begin_life(Manner::Choosy);
            self.books.clock.jump(jump);
            server = self.start();
        }
        server
    }

    /// A life with everything going on, at the end of which the disk is lost.
    pub fn live_and_lose(&mut self, mut server: Server) {
        let loss = match self.kind {
            Kind::Stopped => Loss::Stopped,
            _ if self.random.random_ratio(1, 3) => Loss::MovedAway,
            _ => Loss::Killed,
        };
        let copies = if self.kind == Kind::Earlier { 3 } else { 1 };
        let is_expiring = self.kind == Kind::Expiring;
        let target = self.target();
        let is_ready = |copied: usize| copied >= copies && (!is_expiring || has_expired(&target));
        let further = Duration::from_millis(self.random.random_range(0..4_000));
        self.live(&mut server, loss, is_ready, further);
        if loss == Loss::Stopped {
            self.see_all(&server.api);
            self.stop(&mut server);
        }
        if loss != Loss::MovedAway {
            self.expect_no_error(&server);
            std::fs::rename(self.data(), self.path("gone")).expect("a directory of ours");
        }
        drop(server);
        std::fs::remove_dir_all(self.path("gone")).expect("nobody writes there any more");
        self.lost += 1;
        self.expect_nothing_wrong();
    }

    /// A life that ends with a stop, and nothing is lost.
    pub fn live_and_stop(&mut self, mut server: Server) {
        self.live(
            &mut server,
            Loss::Stopped,
            |copied| copied > 0,
            Duration::ZERO,
        );
        self.stop(&mut server);
        drop(server);
        self.receiver.settle();
        let clients = self.clients.iter_mut();
        clients.for_each(|client| client.leave(&self.books, 0));
        self.books.begin_life(Manner::Choosy);
        self.expect_nothing_wrong();
    }

    /// A stop as an operator makes it, which copies the end of the store.
    pub fn stop(&self, server: &mut Server) {
        server.process.terminate();
        let status = server.process.wait(WITHIN);
        if status.and_then(|status| status.code()) != Some(0) {
            let log = server.process.log();
            self.books
                .wrong(format!("the stop ended with {status:?}:\n{log}"));
        }
    }

    /// Runs clients and witness until enough is copied and some time has passed, and ends the server, but for a stop.
    fn live(
        &mut self,
        server: &mut Server,
        loss: Loss,
        is_ready: impl Fn(usize) -> bool,
        further: Duration,
    ) {
        let (ending, begun) = (Ending::default(), Instant::now());
        let api = server.api.clone();
        let (data, gone) = (self.data(), self.path("gone"));
        let goes_on = Duration::from_millis(self.random.random_range(0..100));
        let randoms = self.clients.iter().map(|_| self.random.random());
        let randoms = Vec::from_iter(randoms.map(StdRng::seed_from_u64));
        let (books, receiver, sight) = (&*self.books, &self.receiver, &mut self.sight);
        let clients = self.clients.iter_mut().zip(randoms);
        let (api, ending) = (&api, &ending);
        let (mut copied, mut published) = (Vec::new(), 0_u32);
        std::thread::scope(|scope| {
            let mut working = Vec::new();
            for (client, mut random) in clients {
                working.push(scope.spawn(move || {
                    let line = Line::open(api, books, receiver);
                    client.work(line, books, ending, &mut random)
                }));
            }
            scope.spawn(move || sight.watch(api, books, ending));
            // Nothing here may panic before the end is said: the others would go on for ever.
            copied = follow_copies(api, books, ending, is_ready, further);
            ending.comes();
            match loss {
                Loss::Killed => server.process.kill(),
                Loss::MovedAway => {
                    std::fs::rename(data, gone).expect("a directory of ours");
                    at_random_moment(goes_on);
                    server.process.kill();
                }
                Loss::Stopped => {}
            }
            let all = working.into_iter().map(|one| one.join().unwrap_or(0));
            published = all.sum();
        });
        self.copied = copied;
        self.tally.accepted += published as usize;
        self.tally.load_time += begun.elapsed();
        if loss != Loss::Stopped {
            self.receiver.settle();
        }
    }

    /// The witness reads everything once more.
    fn see_all(&mut self, api: &Api) {
        if let Err(why) = self.sight.look(api, &self.books, usize::MAX) {
            self.books.wrong(format!("the witness: {why}"));
        }
    }

    /// Neither a panic nor anything else that an operator would have to look into.
    pub fn expect_no_error(&self, server: &Server) {
        let log = server.process.log();
        if let Some(line) = log.lines().find(|line| line.contains(" ERROR ")) {
            self.books.wrong(format!("the log says: {line}"));
        }
    }

    pub fn expect_nothing_wrong(&self) {
        let pages = self.books.pages();
        assert!(
            pages.wrong.is_empty(),
            "{} {} things are wrong:\n{}",
            self.name,
            pages.wrong.len(),
            pages.wrong[..pages.wrong.len().min(10)].join("\n")
        );
    }
}

/// Notes up to where the server says that its store is copied, until it is enough and some time has passed.
fn follow_copies(
    api: &Api,
    books: &Books,
    ending: &Ending,
    is_ready: impl Fn(usize) -> bool,
    further: Duration,
) -> Vec<u64> {
    let (begun, since) = (Instant::now(), books.clock.now());
    let mut copied: Vec<u64> = Vec::new();
    let mut end = None;
    loop {
        let read = api.connect().map_err(|error| error.to_string());
        let read = read.and_then(|mut line| shown::get(&mut line, "/api/v1/status"));
        let status = match read {
            Ok(status) => status,
            Err(why) => {
                books.wrong(format!("the status: {why}"));
                return copied;
            }
        };
        let until = status["backup"]["copiedUntil"].as_str().and_then(millis);
        // A copy of nothing proves nothing.
        let until = until.filter(|until| books.accepted_between(since, *until) >= COPIED_MIN);
        if until.is_some() && until != copied.last().copied() {
            copied.extend(until);
        }
        if is_ready(copied.len()) {
            end.get_or_insert_with(|| Instant::now() + further);
        }
        let left = match end {
            Some(end) => end.saturating_duration_since(Instant::now()),
            None if begun.elapsed() > WITHIN => {
                let parts = ["backup", "store", "waiting", "problems", "threads"];
                let status = parts.map(|part| status[part].to_string()).join("\n");
                books.wrong(format!(
                    "it is not copied, or does not expire: {copied:?}\n{status}"
                ));
                return copied;
            }
            None => LOOK_EVERY,
        };
        if left.is_zero() || !books.pages().wrong.is_empty() {
            return copied;
        }
        ending.comes_within(left.min(LOOK_EVERY));
    }
}

/// Whether retention has taken the first segment of the journal, and the copy has let go of it.
fn has_expired(target: &Path) -> bool {
    let is_first = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let number = format!("-{:016x}-", 0);
        ["segment", "piece"]
            .iter()
            .any(|kind| name.starts_with(&format!("{kind}{number}")))
    };
    !files_below(target).iter().any(is_first)
}

/// Copies a directory that nobody writes to.
pub fn copy_all(from: &Path, to: &Path) {
    let mut copy = std::process::Command::new("cp");
    let status = copy.arg("-a").args([from, to]).status();
    assert!(status.is_ok_and(|status| status.success()), "cp -a");
}
