//! The README's five minutes, as written: every command of its terminals runs, and what it says
//! happens.
//!
//! Only three things are not as in the README: the two ports are free ones, and the binary under
//! test stands where the README builds and runs one with cargo. Needs bash and curl: skipped with a
//! loud line where they are missing, a failure under `CI=true`.

#[path = "process/mod.rs"]
mod process;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use process::{can_run, die_with_parent, free_ports, missing_programs, scratch};
use serde_json::Value;

const README: &str = include_str!("../README.md");
const OPERATIONS: &str = include_str!("../docs/operations.md");

/// For anything that should happen at once; generous for a debug build on a busy machine.
const SOON: Duration = Duration::from_secs(60);
/// For the second attempt, some 5 seconds after the first.
const SECOND_ATTEMPT_WITHIN: Duration = Duration::from_secs(20);

#[test]
fn the_five_minutes_go_as_written() {
    if !can_run("readme", missing_programs(&["bash", "curl"])) {
        return;
    }
    let directory = scratch();
    let [server, sink, register, publish, log, stopped, started] = blocks(&Ports::free());

    let mut terminal_1 = Terminal::run(directory.path(), &server);
    terminal_1.wait_for("listening on http://");
    let mut terminal_2 = Terminal::run(directory.path(), &sink);
    terminal_2.wait_for("listening on http://");
    let mut terminal_3 = Session::start(directory.path());
    terminal_3.run(&register);

    terminal_3.run(&publish);
    let request = terminal_2.wait_for(r#"{"invoice": 17, "total": 99.90}"#);
    assert!(request.contains("signature verifies"), "{request}");
    assert!(request.contains("webhook-id: msg_"), "{request}");

    let delivered = terminal_3.run_until(&log, |answer| has_attempt(answer, 0));
    assert_eq!(delivered["data"][0]["responseStatusCode"], 200);

    terminal_2.control_c();
    let failed = terminal_3.run_until(&stopped, |answer| has_attempt(answer, 2));
    assert_eq!(failed["data"].as_array().map(Vec::len), Some(1), "{failed}");

    let mut terminal_2 = Terminal::run(directory.path(), &sink);
    terminal_2.wait_for("listening on http://");
    let second = r#"{"invoice": 18, "total": 100.00}"#;
    if terminal_2.find(second, SECOND_ATTEMPT_WITHIN).is_none() {
        // The second attempt came before the receiver, on a machine that is slow enough.
        let listing = last_command(&stopped);
        let failed = terminal_3.run_until(listing, |answer| has_attempt(answer, 2));
        let count = failed["data"].as_array().map(Vec::len);
        assert_eq!(count, Some(2), "it neither arrived nor failed: {failed}");
    }
    terminal_3.run(&started);
    let request = terminal_2.wait_for(second);
    assert!(request.contains("signature verifies"), "{request}");

    terminal_2.control_c();
    terminal_1.control_c();
    assert!(directory.path().join("data/live").is_dir());
}

#[test]
fn the_readme_names_the_default_address() {
    let default = r#"listen = "127.0.0.1:8071""#;
    assert!(postrider::config::DEFAULTS.contains(default));
    assert!(README.contains("http://127.0.0.1:8071/"));
}

#[test]
fn the_documentation_names_every_metric() {
    let text = postrider::telemetry::Metrics::new().encode();
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|rest| rest.split(' ').next())
        .collect();
    assert!(names.len() > 10, "{text}");
    for name in names {
        assert!(OPERATIONS.contains(&format!("`{name}")), "{name}");
    }
}

/// Whether the log of attempts lists one with this status.
fn has_attempt(answer: &Value, status: u8) -> bool {
    let attempts = answer["data"].as_array();
    attempts.is_some_and(|all| all.iter().any(|attempt| attempt["status"] == status))
}

/// What stands in for 8071 and 9000.
struct Ports {
    server: u16,
    sink: u16,
}

impl Ports {
    fn free() -> Ports {
        let [server, sink] = free_ports();
        Ports { server, sink }
    }

    fn put_into(&self, commands: &str) -> String {
        commands
            .replace("8071", &self.server.to_string())
            .replace("9000", &self.sink.to_string())
            .replace(
                "cargo run --release --",
                &format!("'{}'", env!("CARGO_BIN_EXE_postrider")),
            )
    }
}

/// The commands of the README's terminals, in its order.
fn blocks(ports: &Ports) -> [String; 7] {
    let (_, part) = README
        .split_once("## Five minutes\n")
        .expect("the README has the part");
    let (part, _) = part.split_once("\n## ").expect("others follow it");
    let mut names = Vec::new();
    let mut blocks = Vec::new();
    for block in part.split("\n```sh").skip(1) {
        let (name, rest) = block.split_once('\n').expect("a line ends");
        let (commands, _) = rest.split_once("\n```").expect("a block ends");
        let mut commands = ports.put_into(commands);
        if name.trim() == "terminal-1" && !commands.contains(&ports.server.to_string()) {
            let address = format!("127.0.0.1:{}", ports.server);
            commands = format!("POSTRIDER__SERVER__LISTEN={address} {commands}");
        }
        names.push(name.trim());
        blocks.push(commands);
    }
    assert_eq!(
        names,
        [
            "terminal-1",
            "terminal-2",
            "terminal-3",
            "terminal-3",
            "terminal-3",
            "terminal-3 receiver-stopped",
            "terminal-3 receiver-started",
        ],
        "the README's terminals are what this test knows"
    );
    let count = blocks.len();
    blocks
        .try_into()
        .unwrap_or_else(|_| panic!("{count} blocks are as many as names"))
}

/// The commands of a block are set apart by empty lines.
fn last_command(commands: &str) -> &str {
    commands.rsplit("\n\n").next().expect("there is one")
}

/// A shell and all that it starts, in a process group of its own as in a terminal.
struct Terminal {
    child: Child,
    output: Receiver<String>,
    seen: String,
}

impl Terminal {
    /// Runs the commands in the foreground of a new terminal.
    fn run(directory: &Path, commands: &str) -> Terminal {
        let mut shell = Command::new("bash");
        shell.args(["-c", commands]).stdin(Stdio::null());
        Terminal::open(directory, shell)
    }

    fn open(directory: &Path, mut shell: Command) -> Terminal {
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            // Settings and proxies of whoever runs the tests.
            if text.starts_with("POSTRIDER_") || text.to_lowercase().ends_with("_proxy") {
                shell.env_remove(&name);
            }
        }
        let (reader, writer) = std::io::pipe().expect("a pipe");
        shell
            .current_dir(directory)
            .process_group(0)
            .stdout(writer.try_clone().expect("a second end of the pipe"))
            .stderr(writer);
        die_with_parent(&mut shell);
        let child = shell.spawn().expect("bash starts");
        // Our own ends of the pipe, without which the reader would not see its end.
        drop(shell);
        let (sender, output) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Terminal {
            child,
            output,
            seen: String::new(),
        }
    }

    /// Reads on until a line with this text; returns what was printed since the last one that was
    /// found.
    fn wait_for(&mut self, text: &str) -> String {
        self.find(text, SOON)
            .unwrap_or_else(|| panic!("{text:?} is not printed; what is:\n{}", self.seen))
    }

    /// The same, where it may not come.
    fn find(&mut self, text: &str, limit: Duration) -> Option<String> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push_str(&line);
                    self.seen.push('\n');
                    if line.contains(text) {
                        return Some(std::mem::take(&mut self.seen));
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// Ctrl-C, which must end what runs here, and well.
    fn control_c(mut self) {
        self.signal(libc::SIGINT);
        let ended = process::until(SOON, || self.child.try_wait().expect("our child"));
        let rest: Vec<String> = self.output.try_iter().collect();
        let rest = format!("{}{}", self.seen, rest.join("\n"));
        match ended {
            Some(status) => assert!(status.success(), "Ctrl-C ended it with {status}:\n{rest}"),
            None => panic!("Ctrl-C does not end it:\n{rest}"),
        }
    }

    fn signal(&mut self, signal: libc::c_int) {
        // Only while it has not been waited for does its id surely name it and its group.
        if matches!(self.child.try_wait(), Ok(None)) {
            let group = libc::pid_t::try_from(self.child.id()).expect("a process id fits its type");
            // SAFETY: kill touches no memory of ours.
            unsafe { libc::kill(-group, signal) };
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.signal(libc::SIGKILL);
        let _ = self.child.wait();
    }
}

/// A terminal at which command after command is given; the shell keeps its variables.
struct Session {
    terminal: Terminal,
}

impl Session {
    const DONE: &str = "== these commands are done ==";

    fn start(directory: &Path) -> Session {
        let mut shell = Command::new("bash");
        // A command that fails ends the session, and the test with it.
        shell.arg("-eu").stdin(Stdio::piped());
        Session {
            terminal: Terminal::open(directory, shell),
        }
    }

    /// Runs commands that must succeed; returns what they print.
    fn run(&mut self, commands: &str) -> String {
        let stdin = self.terminal.child.stdin.as_mut().expect("a pipe");
        // Answers do not end with a new line, so the mark brings one.
        writeln!(stdin, "{commands}\nprintf '\\n%s\\n' '{}'", Session::DONE)
            .unwrap_or_else(|error| panic!("the session is over: {error}"));
        let printed = self.terminal.find(Session::DONE, SOON);
        printed.unwrap_or_else(|| {
            let seen = &self.terminal.seen;
            panic!("a command fails of\n{commands}\nThey print:\n{seen}")
        })
    }

    /// Runs the commands, and the last of them again until its answer is as expected: an attempt
    /// takes a moment to be in the log. Returns that answer.
    fn run_until(&mut self, commands: &str, expected: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + SOON;
        let mut printed = self.run(commands);
        loop {
            let answer = last_answer(&printed);
            if expected(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "not as expected: {answer}");
            printed = self.run(last_command(commands));
        }
    }
}

/// The last JSON value that was printed.
fn last_answer(printed: &str) -> Value {
    let printed = printed.replace(Session::DONE, "");
    serde_json::Deserializer::from_str(&printed)
        .into_iter()
        .map(|value| value.unwrap_or_else(|error| panic!("{error} in\n{printed}")))
        .last()
        .unwrap_or_else(|| panic!("no answer in\n{printed}"))
}
