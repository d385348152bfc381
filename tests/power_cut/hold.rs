//! Letting a process stand still before it syncs a file, or right after, so that the power is cut there on
//! purpose: strace delays the calls, the kernel tells where each thread stands, and a stopped strace lets none go on.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::process::{Process, until};

/// How long a wanted stand may take to come.
const COMES_WITHIN: Duration = Duration::from_secs(60);

/// How often a moment is tried until the cut finds it.
pub const TRIES: u32 = 5;

/// The delay of syncs.
#[derive(Clone)]
pub struct Hold {
    /// Of these files and directories; of all where there are none.
    pub of: Vec<PathBuf>,
    pub at: At,
    pub lasts: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The call was made and has done nothing yet.
    Begin,
    /// It has done its work and not returned.
    End,
}

impl Hold {
    /// For another try, on a machine that is busy with other things.
    pub fn longer(&self, tried: u32) -> Hold {
        Hold {
            lasts: self.lasts * 2_u32.pow(tried),
            ..self.clone()
        }
    }

    /// The words before those of the process.
    pub fn words(&self) -> Vec<String> {
        let delay = match self.at {
            At::Begin => "delay_enter",
            At::End => "delay_exit",
        };
        let micros = self.lasts.as_micros();
        let inject = format!("inject=fsync,fdatasync:{delay}={micros}");
        let words = ["strace", "-D", "-f", "-qq", "--seccomp-bpf"];
        let words = words.into_iter().chain(["-o", "/dev/null"]);
        let words = words.chain(["-e", "trace=fsync,fdatasync", "-e", &inject]);
        let mut words = Vec::from_iter(words.map(str::to_owned));
        for path in &self.of {
            words.extend(["-P".to_owned(), path.to_string_lossy().into_owned()]);
        }
        words
    }

    /// Waits until a thread stands where `is_wanted` says so, and keeps it there; none if the process ends
    /// before, or comes to where `is_past` says that it was missed.
    pub fn wait(
        &self,
        process: &mut Process,
        is_past: impl Fn(&Process) -> bool,
        is_wanted: impl Fn(&Stand) -> bool,
    ) -> Option<Held> {
        // A thread stops for a moment at the other end of each call, too.
        let steady = match self.at {
            At::Begin => Duration::ZERO,
            At::End => self.lasts / 4,
        };
        // And at the syncs of other files.
        let is_delayed = |stand: &Stand| self.of.is_empty() || self.of.contains(&stand.file);
        let deadline = Instant::now() + COMES_WITHIN;
        let mut since: Option<(Stand, Instant)> = None;
        while Instant::now() < deadline && process.is_running() && !is_past(process) {
            let found = stands(process.id()).into_iter();
            let found = found.filter(is_delayed).find(&is_wanted);
            since = match (since.take(), found) {
                (Some((before, at)), Some(now)) if before == now => Some((before, at)),
                (_, now) => now.map(|now| (now, Instant::now())),
            };
            if let Some((stand, _)) = since.take_if(|(_, at)| at.elapsed() >= steady)
                && let Some(held) = Held::at(stand)
            {
                return Some(held);
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        None
    }
}

/// Kills a process where it is held: what it was about to do is not done.
pub fn end_held(process: &mut Process, held: Option<Held>) {
    process.signal(libc::SIGKILL);
    // It is gone for others once its tracer knows.
    drop(held);
    process.kill();
}

/// A thread that does not go on, because its tracer is stopped. The tracer goes on when this goes away.
pub struct Held(Pid);

impl Held {
    /// None where the thread had gone on before its tracer was stopped.
    fn at(stand: Stand) -> Option<Held> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", stand.process)).ok()?;
        let tracer = status
            .lines()
            .find_map(|line| line.strip_prefix("TracerPid:"))?;
        let tracer = Pid::from_raw(tracer.trim().parse().ok()?)?;
        kill_process(tracer, Signal::STOP).ok()?;
        let held = Held(tracer);
        // It may act on what it had begun, until it has stopped.
        let stat = format!("/proc/{}/stat", tracer.as_raw_nonzero());
        until(COMES_WITHIN, || {
            let stat = std::fs::read_to_string(&stat).ok()?;
            stat.rsplit_once(") ")?.1.starts_with('T').then_some(())
        })?;
        stands(stand.process).contains(&stand).then_some(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// A thread that is held at the sync of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stand {
    process: u32,
    id: String,
    pub thread: String,
    pub file: PathBuf,
}

impl Stand {
    pub fn is_of(&self, thread: &str) -> bool {
        self.thread.starts_with(thread)
    }

    /// Whether the file's path ends like this.
    pub fn is_at(&self, end: impl AsRef<Path>) -> bool {
        self.file.ends_with(end)
    }
}

fn stands(process: u32) -> Vec<Stand> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task"));
    let tasks = tasks.into_iter().flatten().flatten();
    tasks
        .filter_map(|task| stand(process, &task.path()))
        .collect()
}

/// None where the thread runs, or stands somewhere else.
fn stand(process: u32, task: &Path) -> Option<Stand> {
    let stat = std::fs::read_to_string(task.join("stat")).ok()?;
    let (_, state) = stat.rsplit_once(") ")?;
    if !state.starts_with('t') {
        return None;
    }
    let call = std::fs::read_to_string(task.join("syscall")).ok()?;
    let mut words = call.split_whitespace();
    let number: libc::c_long = words.next()?.parse().ok()?;
    if number != libc::SYS_fsync && number != libc::SYS_fdatasync {
        return None;
    }
    let descriptor = i64::from_str_radix(words.next()?.trim_start_matches("0x"), 16).ok()?;
    let file = std::fs::read_link(format!("/proc/{process}/fd/{descriptor}")).ok()?;
    let thread = std::fs::read_to_string(task.join("comm")).ok()?;
    Some(Stand {
        process,
        id: task.file_name()?.to_string_lossy().into_owned(),
        thread: thread.trim_end().to_owned(),
        file,
    })
}
