//! What a process has used, from /proc.

use std::path::Path;
use std::time::{Duration, Instant};

/// User and system time of all its threads so far, to the kernel's tick (10 ms).
pub fn cpu(process: u32) -> Duration {
    let (user, system) = times(&read(process, "stat"));
    user + system
}

/// User and system time in the text of a `stat` file, of a process or of a thread.
pub fn times(stat: &str) -> (Duration, Duration) {
    // The name, in brackets, may hold anything; the fields behind it are plain.
    let (_, fields) = stat.rsplit_once(')').expect("stat names the process");
    // SAFETY: sysconf takes a constant and touches no memory of ours.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let mut times = fields.split_whitespace().skip(11).map(|field| {
        let ticks: f64 = field.parse().expect("times are numbers");
        Duration::from_secs_f64(ticks / per_second as f64)
    });
    let mut next = || times.next().expect("stat has the times");
    (next(), next())
}

/// The same, once the process has come to rest: what it does after the last answer counts too.
pub fn cpu_at_rest(process: u32) -> Duration {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut before = cpu(process);
    loop {
        std::thread::sleep(Duration::from_millis(300));
        let now = cpu(process);
        // Up to a twentieth of a core is housekeeping.
        if now - before <= Duration::from_millis(20) || Instant::now() > deadline {
            return now;
        }
        before = now;
    }
}

/// Bytes that it has had written to disks: pages that it changed, once for each time that they were
/// clean before. Files in memory (tmpfs) do not count.
pub fn written(process: u32) -> u64 {
    let io = read(process, "io");
    let field = io
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes:"));
    let number = field.and_then(|number| number.trim().parse().ok());
    number.expect("io has the bytes written")
}

/// The same, once nothing has been written for two seconds: databases follow later, and files are
/// made ready beside.
pub fn written_at_rest(process: u32) -> u64 {
    const QUIET: Duration = Duration::from_secs(2);
    let deadline = Instant::now() + Duration::from_secs(60);
    let (mut before, mut since) = (written(process), Instant::now());
    while since.elapsed() < QUIET && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
        let now = written(process);
        if now != before {
            (before, since) = (now, Instant::now());
        }
    }
    before
}

/// Bytes that the device below a directory has written so far, for anybody, once the process is at rest and
/// the file system has written what it had. None where the device is not one of its own, as in memory.
///
/// `/proc/PID/io` counts the pages that a write makes dirty, and with large folios (ext4 from Linux 6.16 on)
/// a whole folio for each small append: ten times what is written.
pub fn device_written_at_rest(process: u32, directory: &Path) -> Option<u64> {
    const SECTOR_BYTES: u64 = 512;
    written_at_rest(process);
    // SAFETY: it takes nothing.
    unsafe { libc::sync() };
    let device = std::os::unix::fs::MetadataExt::dev(&directory.metadata().ok()?);
    let (major, minor) = (libc::major(device), libc::minor(device));
    let stat = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?;
    let sectors: u64 = stat.split_whitespace().nth(6)?.parse().ok()?;
    Some(sectors * SECTOR_BYTES)
}

/// Resident memory now, in MiB.
pub fn rss(process: u32) -> f64 {
    memory(process, "VmRSS:")
}

/// The most resident memory it ever had, in MiB.
pub fn peak_rss(process: u32) -> f64 {
    memory(process, "VmHWM:")
}

fn memory(process: u32, field: &str) -> f64 {
    let status = read(process, "status");
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse::<f64>().ok())
        .expect("status has the memory fields");
    kib / 1_024.0
}

fn read(process: u32, file: &str) -> String {
    let path = format!("/proc/{process}/{file}");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What the files below a directory occupy, in MiB.
pub fn disk(directory: &Path) -> f64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0.0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => disk(&entry.path()),
            Ok(data) => data.blocks() as f64 * 512.0 / (1 << 20) as f64,
            // Gone since it was listed.
            Err(_) => 0.0,
        })
        .sum()
}
