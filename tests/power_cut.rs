//! Every message that got a 202 survives a power cut.
//!
//! The data lies in an ext4 file system of its own, in a loop file. At a random moment under load
//! the file system is shut down by ioctl without writing its journal: whatever was not yet on the
//! device is gone, as after a power cut (all but the loss of a drive's own cache). The process is
//! killed, the file system mounted again, the binary started on what is left, and what it delivers
//! is compared with what was accepted. Several cuts follow one another on the same store. What is
//! answered after the cut counts for nothing (`End::by_power_cut` says why); that a failed sync is
//! never answered with a 202 is for `syscalls` to show.
//!
//! Needs root, mkfs.ext4 and loop devices: skipped with a loud line where they are missing, a
//! failure under `CI=true`. `CUTS` says how many cuts (20 in CI, else 3), `SEED` which ones.

#[path = "process/mod.rs"]
mod process;

use std::ffi::CString;
use std::fs::File;
use std::io::Error;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use process::ledger::{End, Ledger};
use process::receiver::Receiver;
use process::{Launch, Server, at_random_moment, can_run, say, scratch, seed, until};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const IN_FLIGHT_MAX: usize = 16;
const UNRECORDED_MAX: usize = 32;
const CUTS_PER_STORE_MAX: u32 = 7;
const DISK_BYTES: u64 = 1024 * 1024 * 1024;

#[test]
fn every_accepted_message_arrives_across_power_cuts() {
    if !can_run("power_cut", missing()) {
        return;
    }
    let cuts: u32 = match std::env::var("CUTS") {
        Ok(text) => text.parse().expect("CUTS is a whole number"),
        Err(_) if std::env::var("CI").as_deref() == Ok("true") => 20,
        Err(_) => 3,
    };
    let seed = seed("power_cut");
    let mut random = StdRng::seed_from_u64(seed);
    hide_mounts();
    let mut left = cuts;
    while left > 0 {
        let cuts = left.min(CUTS_PER_STORE_MAX);
        survive(cuts, &mut random);
        left -= cuts;
    }
}

/// So many cuts on one store.
fn survive(cuts: u32, random: &mut StdRng) {
    let directory = scratch();
    let disk = Disk::create(directory.path());
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
    let mut publish_path = None;
    for _ in 0..cuts {
        let mut server = launch.start();
        let path = publish_path.get_or_insert_with(|| Ledger::register(&server.api, &receiver));
        // With an empty queue at times, at times with what earlier cuts left waiting.
        if random.random() {
            ledger.wait_delivered(Duration::from_secs(120), &server.api);
        }
        let load_time = Duration::from_millis(random.random_range(1..1_500));
        cut_under_load(&mut server, &disk, &ledger, path, load_time);
        receiver.settle();
        ledger.begin_life();
        disk.unmount();
        disk.mount();
    }
    let mut server = launch.start();
    ledger.wait_delivered(Duration::from_secs(120), &server.api);
    server.process.kill();
    let totals = ledger.check_books(IN_FLIGHT_MAX + UNRECORDED_MAX);
    assert!(
        ledger.accepted() > 20 * cuts as usize,
        "too little load to prove anything: {totals:?}"
    );
    say(&format!("power_cut: {cuts} cuts, {totals:?}"));
}

fn cut_under_load(
    server: &mut Server,
    disk: &Disk,
    ledger: &Ledger,
    path: &str,
    load_time: Duration,
) {
    let api = server.api.clone();
    let end = End::by_power_cut();
    std::thread::scope(|scope| {
        let publishing = scope.spawn(|| ledger.publish(&api, path, 8, &end));
        at_random_moment(load_time);
        end.comes();
        disk.cut_power();
        // It may write and answer yet: each publisher hears from it once more, or that it ended.
        until(Duration::from_secs(30), || {
            publishing.is_finished().then_some(())
        })
        .expect("a server without a disk answers or ends");
        server.process.kill();
    });
}

/// A file system in a file. Unmounted when it goes away.
struct Disk {
    image: PathBuf,
    mount_point: PathBuf,
}

impl Disk {
    fn create(directory: &Path) -> Disk {
        let disk = Disk {
            image: directory.join("image"),
            mount_point: directory.join("mount"),
        };
        File::create(&disk.image)
            .and_then(|file| file.set_len(DISK_BYTES))
            .expect("the image can be made");
        std::fs::create_dir(&disk.mount_point).expect("the mount point can be made");
        run(Command::new("mkfs.ext4").arg("-qF").arg(&disk.image));
        disk.mount();
        disk
    }

    fn mount(&self) {
        run(Command::new("mount")
            .args(["-o", "loop"])
            .args([&self.image, &self.mount_point]));
    }

    /// Retried for a moment: a killed process lets go of its files a little later.
    fn unmount(&self) {
        until(Duration::from_secs(30), || {
            let status = Command::new("umount").arg(&self.mount_point).status();
            status.is_ok_and(|status| status.success()).then_some(())
        })
        .expect("the file system can be unmounted");
    }

    fn cut_power(&self) {
        /// EXT4_IOC_SHUTDOWN, `_IOR('X', 125, __u32)`.
        const SHUTDOWN: libc::c_ulong = 0x8004_587d;
        // EXT4_GOING_FLAGS_NOLOGFLUSH: nothing more is written, the journal neither.
        let mut no_log_flush: u32 = 2;
        let root = File::open(&self.mount_point).expect("the mount point can be opened");
        // SAFETY: the ioctl reads one u32 at the pointer, which lives until it returns.
        let result = unsafe { libc::ioctl(root.as_raw_fd(), SHUTDOWN as _, &raw mut no_log_flush) };
        assert_eq!(result, 0, "shutdown: {}", Error::last_os_error());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("-l")
            .arg(&self.mount_point)
            .status();
    }
}

/// Gives this thread, and the processes it starts, a view of the mounts of its own: however it
/// ends, no mount is left behind.
fn hide_mounts() {
    let root = CString::new("/").expect("no zero byte in it");
    // SAFETY: both calls take constants and a string that outlives them.
    let result = unsafe {
        match libc::unshare(libc::CLONE_NEWNS) {
            0 => libc::mount(
                std::ptr::null(),
                root.as_ptr(),
                std::ptr::null(),
                libc::MS_REC | libc::MS_PRIVATE,
                std::ptr::null(),
            ),
            failed => failed,
        }
    };
    assert_eq!(
        result,
        0,
        "no mounts of our own: {}",
        Error::last_os_error()
    );
}

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("it needs root".to_owned());
    }
    if !Path::new("/dev/loop-control").exists() {
        return Some("there are no loop devices".to_owned());
    }
    Command::new("mkfs.ext4")
        .arg("-V")
        .output()
        .err()
        .map(|error| format!("mkfs.ext4: {error}"))
}
