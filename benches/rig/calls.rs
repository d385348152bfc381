//! How often a process calls futex, by the kernel's counter or by a tracer.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::perf::Perf;
use super::process::{die_with_parent, until};

/// How long a tracer may take to attach and to let go.
const WITHIN: Duration = Duration::from_secs(60);

/// Calls of futex by all threads of the process while `run` goes on, and who counted them. The error
/// says why neither `perf` nor `strace` can.
pub fn futex_calls(process: u32, mut run: impl FnMut()) -> Result<(u64, &'static str), String> {
    let by_perf = by_perf(process, &mut run);
    let why = match by_perf {
        Ok(calls) => return Ok((calls, "perf")),
        Err(why) => why,
    };
    let by_strace = by_strace(process, &mut run);
    let calls = by_strace.map_err(|other| format!("{why}; {other}"))?;
    // Each traced call stops its thread twice, so batches are larger than they are otherwise.
    Ok((calls, "strace, which slows the server down"))
}

fn by_perf(process: u32, run: &mut impl FnMut()) -> Result<u64, String> {
    let subcommand = ["stat", "-x", ",", "-e", "syscalls:sys_enter_futex"];
    let mut perf = Perf::attach(&subcommand, process)?;
    perf.enable()?;
    run();
    perf.finish()?;
    let output = std::fs::read_to_string(perf.output()).map_err(|error| error.to_string())?;
    counted_by_perf(&output).ok_or_else(|| format!("perf counted nothing: {}", output.trim()))
}

fn by_strace(process: u32, run: &mut impl FnMut()) -> Result<u64, String> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let output = directory.path().join("calls");
    let mut command = Command::new("strace");
    command
        .args(["-f", "-c", "-e", "trace=futex", "-o"])
        .arg(&output)
        .args(["-p", &process.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    die_with_parent(&mut command);
    let mut tracer = command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            "strace is missing (Debian: apt-get install strace)".to_owned()
        }
        _ => format!("strace cannot be started: {error}"),
    })?;
    let mut messages = BufReader::new(tracer.stderr.take().expect("stderr is a pipe")).lines();
    let mut said = Vec::new();
    let attached = messages.by_ref().map_while(Result::ok).any(|line| {
        let is_attached = line.contains("attached");
        said.push(line);
        is_attached
    });
    if !attached {
        let _ = tracer.wait();
        return Err(format!("strace cannot attach: {}", said.join(" ")));
    }
    // Its pipe must not fill up.
    std::thread::spawn(move || messages.for_each(drop));
    run();
    let id = libc::pid_t::try_from(tracer.id()).expect("a process id fits its type");
    // SAFETY: kill touches no memory of ours; the child was not waited for, so the id is its own.
    unsafe { libc::kill(id, libc::SIGINT) };
    if until(WITHIN, || tracer.try_wait().ok().flatten()).is_none() {
        let _ = tracer.kill();
        let _ = tracer.wait();
        return Err("strace does not let go".to_owned());
    }
    let output = std::fs::read_to_string(&output).map_err(|error| error.to_string())?;
    counted_by_strace(&output).ok_or_else(|| format!("strace counted nothing: {}", output.trim()))
}

/// The count in the output of `perf stat -x ,`.
pub fn counted_by_perf(output: &str) -> Option<u64> {
    let row = output
        .lines()
        .find(|line| line.contains("sys_enter_futex"))?;
    row.split(',').next()?.parse().ok()
}

/// The count of futex calls in the table of `strace -c`.
pub fn counted_by_strace(output: &str) -> Option<u64> {
    let row = output.lines().find(|line| line.ends_with(" futex"))?;
    row.split_whitespace().nth(3)?.parse().ok()
}
