//! The real binary, driven from outside: started, spoken to over HTTP, killed and started again.
//!
//! Included with `#[path]` by the tests that need a process of its own (a kill, a power cut, a
//! trace of its system calls) and by the benchmarks. Nothing here knows the library: what it sees
//! is what an operator and a receiver see. Every process started here is killed, by its id, when
//! its handle goes away, on a panic too; every wait has a deadline.
#![allow(
    dead_code,
    reason = "each target that includes this module uses a part of it"
)]

use std::collections::VecDeque;
use std::fmt::Display;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

pub mod client;
pub mod clock;
pub mod dns;
pub mod ending;
pub mod ledger;
pub mod mounts;
pub mod old_store;
pub mod receiver;
pub mod signature;

use client::{Answer, Connection, connect_from};

/// How long a start may take before it counts as failed. Generous: a debug build on a busy machine
/// with a store to recover.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// Log lines kept for a failure's message; more than that tells nothing more.
const LOG_LINES_MAX: usize = 1_000;

/// How to start the binary. The environment's own `POSTRIDER__…` settings are not passed on.
#[derive(Clone)]
pub struct Launch {
    /// In place of this build's.
    binary: Option<PathBuf>,
    data: PathBuf,
    /// Variables of the environment.
    settings: Vec<(String, String)>,
    wrapper: Vec<String>,
    config: Option<PathBuf>,
    dev: bool,
    migrate: bool,
    ready_within: Duration,
}

impl Launch {
    /// With its data in `data`, on a free port, in `--dev` mode: receivers on loopback are allowed.
    pub fn new(data: impl Into<PathBuf>) -> Launch {
        Launch {
            binary: None,
            data: data.into(),
            settings: Vec::new(),
            wrapper: Vec::new(),
            config: None,
            dev: true,
            migrate: false,
            ready_within: READY_WITHIN,
        }
        .set("server.listen", "127.0.0.1:0")
    }

    /// A setting by its name in `config.toml`: `delivery.in_flight_max`.
    pub fn set(mut self, setting: &str, value: impl Display) -> Launch {
        let variable = format!(
            "POSTRIDER__{}",
            setting.to_ascii_uppercase().replace('.', "__")
        );
        self.settings.push((variable, value.to_string()));
        self
    }

    /// A variable of the environment that is not a setting.
    pub fn env(mut self, name: &str, value: impl Display) -> Launch {
        self.settings.push((name.to_owned(), value.to_string()));
        self
    }

    /// Runs the binary as the arguments of another program, which must end by executing it in
    /// place: the process that this module kills is the one it started.
    pub fn under(mut self, wrapper: &[&str]) -> Launch {
        self.wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// The binary of another version; its path is absolute.
    pub fn binary(mut self, path: impl Into<PathBuf>) -> Launch {
        self.binary = Some(path.into());
        self
    }

    /// With this file of settings.
    pub fn config(mut self, file: impl Into<PathBuf>) -> Launch {
        self.config = Some(file.into());
        self
    }

    /// With `--migrate`.
    pub fn migrating(mut self) -> Launch {
        self.migrate = true;
        self
    }

    pub fn without_dev(mut self) -> Launch {
        self.dev = false;
        self
    }

    pub fn ready_within(mut self, limit: Duration) -> Launch {
        self.ready_within = limit;
        self
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Starts the process and returns at once.
    ///
    /// Linux kills the process when the *thread* that called this ends: call it from one that
    /// outlives the process.
    pub fn spawn(&self) -> Process {
        self.spawn_command(&[])
    }

    /// The same with a command of the binary that ends by itself, as `rebuild`.
    pub fn spawn_command(&self, arguments: &[&str]) -> Process {
        let mut command = self.command(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        die_with_parent(&mut command);
        let started_at = Instant::now();
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stderr = child.stderr.take().expect("stderr is a pipe");
        let log = Arc::new(Log::default());
        let follower = {
            let log = log.clone();
            std::thread::spawn(move || log.follow(stderr))
        };
        Process {
            child,
            log,
            follower: Some(follower),
            started_at,
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let binary = match &self.binary {
            Some(path) => path.to_string_lossy().into_owned(),
            None => other_binary().unwrap_or_else(|| env!("CARGO_BIN_EXE_postrider").to_owned()),
        };
        let mut words = self.wrapper.iter().chain([&binary]);
        let mut command = Command::new(words.next().expect("the binary at least is there"));
        command.args(words);
        if self.dev {
            command.arg("--dev");
        }
        if self.migrate {
            command.arg("--migrate");
        }
        if let Some(file) = &self.config {
            command.arg("--config").arg(file);
        }
        command.args(arguments);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("POSTRIDER__") {
                command.env_remove(name);
            }
        }
        command
            .env("POSTRIDER__STORE__PATH", &self.data)
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            // Where no `config.toml` lies that would be read.
            .current_dir(
                self.data
                    .parent()
                    .expect("the data has a directory of ours"),
            )
            .stdin(Stdio::null());
        command
    }

    /// Runs a command of the binary to its end, as `verify-store`. Its output, and whether it succeeded.
    pub fn run(&self, arguments: &[&str]) -> (bool, String) {
        let output = self.command(arguments).output();
        let output = output.unwrap_or_else(|error| panic!("cannot run {arguments:?}: {error}"));
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        (output.status.success(), text)
    }

    /// Starts the process and waits until it is ready. Panics with its log when it is not.
    pub fn start(&self) -> Server {
        let token = || {
            let path = self.data.join("owner.token");
            std::fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
                .trim()
                .to_owned()
        };
        self.try_start(token).unwrap_or_else(|(why, process)| {
            panic!("the server {why}; its log:\n{}", process.log())
        })
    }

    /// The same with this token; where it is not ready, why, and the process.
    pub fn try_start(
        &self,
        token: impl FnOnce() -> String,
    ) -> Result<Server, (&'static str, Process)> {
        let process = self.spawn();
        let address = match process.log.ready_address(self.ready_within) {
            Ok(address) => address,
            Err(why) => return Err((why, process)),
        };
        let ready_after = process.started_at.elapsed();
        let api = Api {
            address,
            token: token(),
            log: process.log.clone(),
        };
        Ok(Server {
            process,
            api,
            token_path: self.data.join("owner.token"),
            ready_after,
        })
    }
}

/// The binary of another version, to be compared with this one: `POSTRIDER_BINARY`.
pub fn other_binary() -> Option<String> {
    std::env::var("POSTRIDER_BINARY").ok()
}

/// The kernel ends the child when the thread that started it ends, however it ends.
pub fn die_with_parent(command: &mut Command) {
    // SAFETY: prctl with these arguments is async-signal-safe and touches no memory of ours.
    unsafe {
        command.pre_exec(|| {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0 {
                Ok(())
            } else {
                Err(std::io::Error::last_os_error())
            }
        });
    }
}

/// A started process, ready or not. Dropping it kills it.
pub struct Process {
    child: Child,
    log: Arc<Log>,
    follower: Option<std::thread::JoinHandle<()>>,
    pub started_at: Instant,
}

impl Process {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM.
    pub fn terminate(&mut self) {
        self.signal(libc::SIGTERM);
    }

    pub fn signal(&mut self, signal: libc::c_int) {
        // Only while it has not been waited for does its id surely name it.
        if self.is_running() {
            let id = libc::pid_t::try_from(self.child.id()).expect("a process id fits its type");
            // SAFETY: kill touches no memory of ours.
            unsafe { libc::kill(id, signal) };
        }
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until the process has ended by itself; `None` if it is still there.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let status = until(limit, || {
            self.child.try_wait().expect("our child can be waited for")
        })?;
        // The log is complete when its writer is gone.
        if let Some(follower) = self.follower.take() {
            let _ = follower.join();
        }
        Some(status)
    }

    /// `kill -9`, and gone when this returns.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(follower) = self.follower.take() {
            let _ = follower.join();
        }
    }

    /// Whether it has said that it is ready.
    pub fn is_ready(&self) -> bool {
        let lines = self.log.lines.lock();
        lines.expect("no holder of the log panics").ready.is_some()
    }

    /// What it has written to stderr, the last lines of it.
    pub fn log(&self) -> String {
        self.log.text()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A process that has said it is ready.
pub struct Server {
    pub process: Process,
    pub api: Api,
    pub token_path: PathBuf,
    /// From the start of the process to its ready line.
    pub ready_after: Duration,
}

/// How to speak to a server, for as long as it lives.
#[derive(Clone)]
pub struct Api {
    pub address: SocketAddr,
    token: String,
    log: Arc<Log>,
}

impl Api {
    pub fn connect(&self) -> std::io::Result<Connection> {
        Connection::open(self.address, &self.token)
    }

    /// A connection from this address, one of the machine's own.
    pub fn connect_from(&self, from: Ipv4Addr) -> std::io::Result<Connection> {
        Connection::on(connect_from(from, self.address)?, &self.token)
    }

    /// A request on a connection of its own.
    pub fn request(&self, method: &str, path: &str, body: &str) -> std::io::Result<Answer> {
        self.connect()?.request(method, path, body)
    }

    /// A request whose answer must have this status. Returns the body, null where there is none.
    pub fn call(&self, method: &str, path: &str, body: &Value, status: u16) -> Value {
        let text = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let answer = self
            .request(method, path, &text)
            .unwrap_or_else(|error| self.fail(&format!("{method} {path}: {error}")));
        if answer.status != status {
            self.fail(&format!(
                "{method} {path}: {} {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            ));
        }
        serde_json::from_slice(&answer.body).unwrap_or(Value::Null)
    }

    pub fn get(&self, path: &str) -> Value {
        self.call("GET", path, &Value::Null, 200)
    }

    /// Whether the process has ended: it closed its stderr.
    pub fn is_gone(&self) -> bool {
        self.log
            .lines
            .lock()
            .expect("no holder of the log panics")
            .ended
    }

    /// The server's log, for the message of a failure.
    pub fn log(&self) -> String {
        self.log.text()
    }

    fn fail(&self, what: &str) -> ! {
        panic!("{what}; the server's log:\n{}", self.log())
    }
}

#[derive(Default)]
struct Log {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Default)]
struct Lines {
    kept: VecDeque<String>,
    ready: Option<SocketAddr>,
    ended: bool,
}

impl Log {
    fn text(&self) -> String {
        let lines = self.lines.lock().expect("no holder of the log panics");
        Vec::from_iter(lines.kept.iter().map(String::as_str)).join("\n")
    }

    fn follow(&self, stderr: impl std::io::Read) {
        let mut reader = BufReader::new(stderr);
        let mut line = Vec::new();
        while let Ok(1..) = reader.read_until(b'\n', &mut line) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            let mut lines = self.lines.lock().expect("no holder of the log panics");
            if lines.ready.is_none() {
                lines.ready = ready_address(&text);
            }
            if lines.kept.len() == LOG_LINES_MAX {
                lines.kept.pop_front();
            }
            lines.kept.push_back(text);
            self.changed.notify_all();
        }
        self.lines
            .lock()
            .expect("no holder of the log panics")
            .ended = true;
        self.changed.notify_all();
    }

    fn ready_address(&self, limit: Duration) -> Result<SocketAddr, &'static str> {
        let lines = self.lines.lock().expect("no holder of the log panics");
        let (lines, _) = self
            .changed
            .wait_timeout_while(lines, limit, |lines| lines.ready.is_none() && !lines.ended)
            .expect("no holder of the log panics");
        match lines.ready {
            Some(address) => Ok(address),
            None if lines.ended => Err("ended before it was ready"),
            None => Err("was not ready in time"),
        }
    }
}

fn ready_address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening on http://")?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Looks again and again until `look` finds something, at most for `limit`.
pub fn until<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Returns once a test's random time has passed. It waits for nothing: when a process is killed or
/// the power cut is the input of such a test.
pub fn at_random_moment(after: Duration) {
    std::thread::sleep(after);
}

/// A directory for data on a real disk: the system's temporary directory may be in memory, where
/// nothing can be learnt about syncing.
pub fn scratch() -> tempfile::TempDir {
    let place = env!("CARGO_TARGET_TMPDIR");
    tempfile::tempdir_in(place).unwrap_or_else(|error| panic!("no directory in {place}: {error}"))
}

/// For a test that needs something the machine may lack. False, with a line that the test runner
/// does not swallow, where `missing` says what is lacking; a failure where `CI=true` promised it.
pub fn can_run(test: &str, missing: Option<String>) -> bool {
    let Some(missing) = missing else { return true };
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{test} cannot run: {missing}"
    );
    say(&format!("SKIPPED: {test} proves nothing here: {missing}"));
    false
}

/// A line on the real stderr, past the test runner's capture.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The seed of a test's random choices: `SEED` if given, so that a failure can be run again.
pub fn seed(test: &str) -> u64 {
    let seed = match std::env::var("SEED") {
        Ok(text) => text.parse().expect("SEED is a whole number"),
        Err(_) => rand::random(),
    };
    say(&format!("{test}: SEED={seed}"));
    seed
}

/// Which of these programs are missing, as what to do about it.
pub fn missing_programs(programs: &[&str]) -> Option<String> {
    let absent = |program: &&&str| {
        let mut command = Command::new(program);
        command.arg("--version").stdout(Stdio::null());
        !command.status().is_ok_and(|status| status.success())
    };
    let absent: Vec<&str> = programs.iter().filter(absent).copied().collect();
    (!absent.is_empty()).then(|| format!("install {}", absent.join(" and ")))
}

/// Free ports of loopback. All are held until all are known, so that they differ.
pub fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    let listeners = [(); COUNT].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("a bound listener").port())
}
