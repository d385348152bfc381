//! A folder on a disk that is full.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::can_run;
use crate::process::mounts::hide_mounts;
use crate::world::{Status, World, assert_whole, run, stop};

const SMALL: &str = "size=6m";
const LARGER: &str = "size=64m";

#[test]
fn a_full_folder_holds_up_nothing_and_is_caught_up_with_once_there_is_room() {
    if !can_run("bucket, the full disk", missing()) {
        return;
    }
    hide_mounts();
    let world = World::new();
    let disk = Disk::mount(world.path("disk"));
    let to = disk.0.join("copy");
    let to = to.to_str().expect("the directory's name is text");
    // The service is for buckets.
    let nowhere = "127.0.0.1:9".parse().expect("an address");
    let launch = world.launch("data", to, nowhere);
    let server = launch.start();
    let api = server.api.clone();
    let path = world.register(&api);
    let mut numbers = world.books.publish_some(&api, &path, 10, 1_000);
    Status::wait_copied(&api);

    numbers.extend(world.books.publish_some(&api, &path, 40, 200_000));
    let words = "the disk or the quota is full: make room there";
    Status::wait_failing(&api, words);
    numbers.extend(world.books.publish_some(&api, &path, 10, 1_000));
    assert!(world.books.arrive(&numbers), "{}", api.log());
    let ended = run(&launch, &["backup"]);
    assert!(
        ended.code == Some(1) && ended.said.contains(words),
        "{}",
        ended.said
    );
    // The copy of before is as it was.
    assert_whole(&launch);

    disk.remount();
    Status::wait_copied(&api);
    world.books.assert_all_is_right();
    stop(server);
    assert_whole(&launch);
    assert_nothing_unfinished(Path::new(to));
    let restored = world.start_restored(&launch, to, "restored");
    world
        .books
        .assert_has(&restored.api, &path, &world.books.accepted());
}

/// Objects that could not be written take no room.
fn assert_nothing_unfinished(folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("a folder of ours") {
        let path = entry.expect("an entry of it").path();
        assert!(!path.to_string_lossy().contains('#'), "{}", path.display());
        if path.is_dir() {
            assert_nothing_unfinished(&path);
        }
    }
}

/// A small file system in memory. Unmounted when it goes away.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: PathBuf) -> Disk {
        std::fs::create_dir(&at).expect("a directory in ours");
        mount(SMALL, &at);
        Disk(at)
    }

    fn remount(&self) {
        mount(&format!("remount,{LARGER}"), &self.0);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn mount(options: &str, at: &Path) {
    let mut command = Command::new("mount");
    command
        .args(["-t", "tmpfs", "-o", options, "tmpfs"])
        .arg(at);
    let status = command.status();
    assert!(status.is_ok_and(|status| status.success()), "{command:?}");
}

/// What this machine lacks for it.
fn missing() -> Option<String> {
    (!rustix::process::geteuid().is_root())
        .then(|| "it needs root, to mount a file system".to_owned())
}
