//! `perf`, attached to a running process: it counts or takes samples between two moments.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::process::{die_with_parent, until};

/// How long `perf` may take to attach, and to end.
const WITHIN: Duration = Duration::from_secs(60);

pub struct Perf {
    child: Child,
    /// Commands for it, and its acknowledgements.
    control: File,
    acknowledged: File,
    directory: TempDir,
}

impl Perf {
    /// Attaches to the process with `perf SUBCOMMAND`, whose output goes into [`Perf::output`]. Nothing
    /// is counted before [`Perf::enable`]. The error says why it cannot be.
    pub fn attach(subcommand: &[&str], process: u32) -> Result<Perf, String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let fifo = |name: &str| -> std::io::Result<File> {
            let path = directory.path().join(name);
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            let kind = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0)?;
            // For both directions: opening it waits for nobody then.
            let mut options = OpenOptions::new();
            let nonblocking = options
                .read(true)
                .write(true)
                .custom_flags(libc::O_NONBLOCK);
            nonblocking.open(&path)
        };
        let pipes = fifo("control").and_then(|control| Ok((control, fifo("acknowledged")?)));
        let (control, acknowledged) = pipes.map_err(|error| error.to_string())?;
        let messages = File::create(directory.path().join("messages"));
        let messages = messages.map_err(|error| error.to_string())?;
        let at = directory.path().display();
        let mut command = Command::new("perf");
        command
            .args(subcommand)
            .args(["--delay=-1", "-p", &process.to_string()])
            .arg(format!("--control=fifo:{at}/control,{at}/acknowledged"))
            .args(["-o", &format!("{at}/output")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(messages);
        die_with_parent(&mut command);
        let child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                "perf is missing (Debian: apt-get install linux-perf)".to_owned()
            }
            _ => format!("perf cannot be started: {error}"),
        })?;
        let mut perf = Perf {
            child,
            control,
            acknowledged,
            directory,
        };
        // It answers once it is attached.
        perf.tell("disable")?;
        Ok(perf)
    }

    pub fn enable(&mut self) -> Result<(), String> {
        self.tell("enable")
    }

    /// Where it writes.
    pub fn output(&self) -> PathBuf {
        self.directory.path().join("output")
    }

    /// Ends it, and waits until its output is whole.
    pub fn finish(&mut self) -> Result<(), String> {
        self.tell("disable")?;
        let id = libc::pid_t::try_from(self.child.id()).expect("a process id fits its type");
        // SAFETY: kill touches no memory of ours; the child was not waited for, so the id is its own.
        unsafe { libc::kill(id, libc::SIGINT) };
        let ended = until(WITHIN, || self.child.try_wait().ok().flatten());
        ended.map(drop).ok_or_else(|| self.failure("does not end"))
    }

    fn tell(&mut self, word: &str) -> Result<(), String> {
        let written = writeln!(self.control, "{word}");
        written.map_err(|error| error.to_string())?;
        let mut answer = Vec::new();
        let mut part = [0; 64];
        let answered = until(WITHIN, || {
            if let Ok(length) = self.acknowledged.read(&mut part) {
                answer.extend_from_slice(&part[..length]);
            }
            let is_there = answer.windows(3).any(|three| three == b"ack");
            let has_ended = !matches!(self.child.try_wait(), Ok(None));
            (is_there || has_ended).then_some(is_there)
        });
        match answered {
            Some(true) => Ok(()),
            Some(false) => Err(self.failure("ended")),
            None => Err(self.failure("does not answer")),
        }
    }

    fn failure(&self, why: &str) -> String {
        let messages = std::fs::read_to_string(self.directory.path().join("messages"));
        let messages = messages.unwrap_or_default();
        format!("perf {why}: {}", messages.trim())
    }
}

impl Drop for Perf {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
