//! File systems in files: their power can be cut, and they can break.

use std::fs::File;
use std::io::{Error, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::fs::FallocateFlags;

use super::process::until;

const DISK_BYTES: u64 = 1024 * 1024 * 1024;
/// Of a disk that can break. Its file system's own bytes, with a journal of 16 MiB, lie before all files, in the
/// first of these.
const BREAKABLE_BYTES: [u64; 2] = [24 * 1024 * 1024, 512 * 1024 * 1024];
/// Memory for it.
const MEMORY_BYTES: u64 = 192 * 1024 * 1024;
/// The longest request to it, in KiB: one page of that memory. A loop device answers a request of which only a
/// beginning could be written as if all of it had been (Linux 6.18), so the rest would be lost after a sync that
/// succeeded. A page is written or it is not, and the device says which.
const BREAKABLE_REQUEST_KIB: u32 = 4;
/// For the system's own choice.
const USUAL_REQUEST_KIB: u32 = 0;

/// A directory for disks. It may lie in memory, where syncs are faster: what is lost is what the file system
/// has not written to its file, wherever that is.
pub fn place() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory can be made")
}

/// An ext4 file system in a file. Unmounted when it goes away.
pub struct Disk {
    image: PathBuf,
    pub mount_point: PathBuf,
    /// Where the image lies in a memory file system of its own.
    memory: Option<PathBuf>,
}

impl Disk {
    pub fn create(directory: &Path) -> Disk {
        Disk::create_in(directory, None)
    }

    /// One of which every byte that was never written before can be made unwritable: its image is a sparse
    /// file in memory, and takes more memory for each block that is written first.
    pub fn create_breakable(directory: &Path) -> Disk {
        let memory = directory.join("memory");
        std::fs::create_dir(&memory).expect("a directory can be made");
        let size = format!("size={MEMORY_BYTES}");
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(&memory));
        Disk::create_in(directory, Some(memory))
    }

    fn create_in(directory: &Path, memory: Option<PathBuf>) -> Disk {
        let image = memory.as_deref().unwrap_or(directory).join("image");
        let disk = Disk {
            image,
            mount_point: directory.join("mount"),
            memory,
        };
        let file = File::create(&disk.image).expect("the image can be made");
        std::fs::create_dir(&disk.mount_point).expect("the mount point can be made");
        let mut make = Command::new("mkfs.ext4");
        make.arg("-qF");
        if disk.memory.is_some() {
            let [own, all] = BREAKABLE_BYTES;
            file.set_len(all).expect("it can be long");
            run(make
                .args(["-J", "size=16", "-E", "packed_meta_blocks=1"])
                .arg(&disk.image));
            let keep = FallocateFlags::KEEP_SIZE;
            rustix::fs::fallocate(&file, keep, 0, own).expect("there is memory");
        } else {
            file.set_len(DISK_BYTES).expect("it can be long");
            run(make.arg(&disk.image));
        }
        disk.mount();
        disk
    }

    pub fn mount(&self) {
        run(Command::new("mount")
            .args(["-o", "loop"])
            .args([&self.image, &self.mount_point]));
        self.limit_requests(BREAKABLE_REQUEST_KIB)
            .expect("requests can be limited");
    }

    /// Of a disk that can break. The device keeps it for whoever uses it next.
    fn limit_requests(&self, kib: u32) -> std::io::Result<()> {
        if self.memory.is_none() {
            return Ok(());
        }
        let mounted = self.mount_point.metadata()?;
        let (major, minor) = (libc::major(mounted.dev()), libc::minor(mounted.dev()));
        let limit = format!("/sys/dev/block/{major}:{minor}/queue/max_sectors_kb");
        std::fs::write(limit, kib.to_string())
    }

    /// Retried for a moment: a killed process lets go of its files a little later.
    pub fn unmount(&self) {
        self.limit_requests(USUAL_REQUEST_KIB)
            .expect("the limit can be taken back");
        until(Duration::from_secs(30), || {
            let status = Command::new("umount").arg(&self.mount_point).output();
            status
                .is_ok_and(|output| output.status.success())
                .then_some(())
        })
        .expect("the file system can be unmounted");
    }

    pub fn cut_power(&self) {
        /// EXT4_IOC_SHUTDOWN, `_IOR('X', 125, __u32)`.
        const SHUTDOWN: libc::c_ulong = 0x8004_587d;
        // EXT4_GOING_FLAGS_NOLOGFLUSH: nothing more is written, the journal neither.
        let mut no_log_flush: u32 = 2;
        let root = File::open(&self.mount_point).expect("the mount point can be opened");
        // SAFETY: the ioctl reads one u32 at the pointer, which lives until it returns.
        let result = unsafe { libc::ioctl(root.as_raw_fd(), SHUTDOWN as _, &raw mut no_log_flush) };
        assert_eq!(result, 0, "shutdown: {}", Error::last_os_error());
    }

    /// From now on no block can be written that was not written before, until [`Disk::mend`].
    pub fn break_down(&self) {
        let mut rest = File::create(self.rest()).expect("a file can be made");
        for bytes in [1 << 20, 4096] {
            let zeros = vec![0; bytes];
            while rest.write_all(&zeros).is_ok() {}
        }
    }

    pub fn mend(&self) {
        std::fs::remove_file(self.rest()).expect("it can be removed");
    }

    fn rest(&self) -> PathBuf {
        self.memory().join("rest")
    }

    fn memory(&self) -> &Path {
        self.memory.as_deref().expect("it is one that can break")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.limit_requests(USUAL_REQUEST_KIB);
        for mounted in [Some(&self.mount_point), self.memory.as_ref()] {
            let Some(mounted) = mounted else { continue };
            let _ = Command::new("umount").arg("-l").arg(mounted).status();
        }
    }
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

/// What this machine lacks for it.
pub fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("it needs root".to_owned());
    }
    if !Path::new("/dev/loop-control").exists() {
        return Some("there are no loop devices".to_owned());
    }
    let programs = [("mkfs.ext4", "-V"), ("strace", "-V")];
    programs.iter().find_map(|(program, version)| {
        let error = Command::new(program).arg(version).output().err()?;
        Some(format!("{program}: {error}"))
    })
}
