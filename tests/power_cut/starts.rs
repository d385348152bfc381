//! Cuts while a store is begun, taken over from the version before, or made anew from its checkpoint file.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::begin;
use super::disk::{Disk, place};
use super::hold::{At, Hold, Stand, TRIES, end_held};
use super::process::ledger::End;
use super::process::old_store::OldStore;
use super::process::{Launch, Process, can_run, say, until};
use super::world::World;

/// Every sync takes so long at first, so that the wanted one is seen.
const EACH: Duration = Duration::from_millis(40);
const EACH_AT_END: Duration = Duration::from_millis(200);

/// A moment of a process, told by the data directory and the place at which it is held.
struct Moment {
    name: &'static str,
    at: At,
    is_it: fn(&Path, &Stand) -> bool,
}

const FIRST_START: [Moment; 6] = [
    Moment {
        name: "the live database of a first start is made",
        at: At::Begin,
        is_it: |_, stand| stand.is_at("live/db"),
    },
    Moment {
        name: "the live database of a first start has its name",
        at: At::End,
        is_it: |data, stand| stand.file == data && data.join("live/db").exists(),
    },
    Moment {
        name: "the owner's token of a first start is written",
        at: At::Begin,
        is_it: |_, stand| stand.is_at("owner.token.new"),
    },
    Moment {
        name: "a first start has the owner's token, and the live database does not",
        at: At::Begin,
        is_it: |data, stand| stand.is_at("live/db") && data.join("owner.token").exists(),
    },
    Moment {
        name: "the header of the first segment is written",
        at: At::Begin,
        is_it: |_, stand| stand.is_at("journal/0000000000000000.spare"),
    },
    Moment {
        name: "the first record of the journal is written",
        at: At::Begin,
        is_it: |_, stand| stand.is_at("journal/0000000000000000.segment"),
    },
];

#[test]
fn cuts_during_the_first_start() {
    if begin("power_cut, first start").is_none() {
        return;
    }
    let directory = place();
    let disk = Disk::create(directory.path());
    for moment in &FIRST_START {
        let prepare = || Launch::new(new_directory(&disk).join("data"));
        let launch = hit(&disk, &[], moment, prepare);
        let mut server = launch.start();
        let application = serde_json::json!({ "name": "app", "uid": "app" });
        server.api.call("POST", "/api/v1/app", &application, 201);
        server.process.kill();
        let mut server = launch.start();
        assert_eq!(server.api.get("/api/v1/app/app")["name"], "app");
        server.process.kill();
        verify(&launch);
    }
}

const TAKE_OVER: [Moment; 5] = [
    Moment {
        name: "a take-over applies the old journal to the old slices",
        at: At::Begin,
        is_it: |_, stand| stand.is_at("slices/00000002/db"),
    },
    Moment {
        name: "a take-over applies the old journal to the live database",
        at: At::Begin,
        is_it: |_, stand| stand.is_at("live/db"),
    },
    Moment {
        name: "the first record of the new format is written",
        at: At::Begin,
        is_it: |_, stand| {
            stand.is_at("journal/0000000000000000.segment") && stand.is_of("postrider")
        },
    },
    Moment {
        name: "the first record of the new format is on disk",
        at: At::End,
        is_it: |_, stand| {
            stand.is_at("journal/0000000000000000.segment") && stand.is_of("postrider")
        },
    },
    Moment {
        name: "a take-over is noted",
        at: At::Begin,
        is_it: |_, stand| stand.is_at("applied.new"),
    },
];

#[test]
fn cuts_during_the_take_over_of_an_old_store() {
    if !can_run("power_cut, take-over", OldStore::missing()) {
        return;
    }
    if begin("power_cut, take-over").is_none() {
        return;
    }
    let old = OldStore::of_format(2);
    let directory = place();
    let disk = Disk::create(directory.path());
    for (number, moment) in TAKE_OVER.iter().enumerate() {
        let prepare = || {
            let data = old.unpack(&new_directory(&disk));
            rustix::fs::syncfs(File::open(&data).expect("it is there")).expect("it syncs");
            old.launch(&data, Duration::ZERO)
        };
        let launch = hit(&disk, &["migrate"], moment, prepare);
        // The server does it, or the command.
        let mut server = match number % 2 {
            0 => launch.clone().migrating().start(),
            _ => {
                let (is_done, said) = launch.run(&["migrate"]);
                assert!(is_done, "{said}");
                launch.start()
            }
        };
        old.check_reads(&server.api);
        old.check_refusals(&server.api);
        server.process.kill();
        verify(&launch);
    }
}

const REBUILD: [Moment; 4] = [
    Moment {
        name: "a rebuild fills the new live database",
        at: At::Begin,
        is_it: |data, stand| stand.is_at("live.new/db") && data.join("live").exists(),
    },
    Moment {
        name: "a rebuild has moved the old live database away",
        at: At::Begin,
        is_it: |data, stand| stand.file == data && !data.join("live").exists(),
    },
    Moment {
        name: "a rebuild stands between its two renames",
        at: At::End,
        is_it: |data, stand| stand.file == data && !data.join("live").exists(),
    },
    Moment {
        name: "a rebuild has put the new live database in place",
        at: At::Begin,
        is_it: |data, stand| {
            let has_both = data.join("live").exists() && !damaged(data).is_empty();
            stand.file == data && has_both && !data.join("live.new").exists()
        },
    },
];

#[test]
fn cuts_during_a_rebuild() {
    let Some(mut random) = begin("power_cut, rebuild") else {
        return;
    };
    let mut world = World::new(&mut random);
    let launch = world.launch.clone();
    for moment in &REBUILD {
        load_and_kill(&mut world);
        hit(&world.disk, &["rebuild"], moment, || launch.clone());
        world.account();
        for path in damaged(&world.data()) {
            std::fs::remove_dir_all(path).expect("it can be removed");
        }
    }
    say(&format!("power_cut, rebuild: {}", world.account()));
}

/// A life under load, in which a checkpoint file is written, that ends with a kill.
fn load_and_kill(world: &mut World) {
    let launch = world.launch.clone();
    let (mut server, path) = world.start(&launch);
    let (api, end, ledger) = (server.api.clone(), End::by_kill(), world.ledger.clone());
    let data = world.data();
    std::thread::scope(|scope| {
        scope.spawn(|| ledger.publish(&api, &path, 4, &end));
        let before = ledger.accepted();
        ledger.wait_accepted(before + 100, Duration::from_secs(60));
        let has_file = || data.join("checkpoint").exists().then_some(());
        let has_file = until(Duration::from_secs(60), has_file);
        end.comes();
        server.process.kill();
        assert!(has_file.is_some(), "no checkpoint file is written");
    });
    world.next_life();
}

/// A directory on the disk with nothing else around it: no store begins beside another.
fn new_directory(disk: &Disk) -> PathBuf {
    let directory = tempfile::tempdir_in(&disk.mount_point).expect("a directory can be made");
    let parent = File::open(&disk.mount_point).expect("it is mounted");
    parent.sync_all().expect("it syncs");
    // It goes with the disk.
    directory.keep()
}

/// Runs a command, or the server where there is none, on what `prepare` gives, and cuts the power at this
/// moment of it. Returns how to go on.
fn hit(disk: &Disk, arguments: &[&str], moment: &Moment, prepare: impl Fn() -> Launch) -> Launch {
    for tried in 0..TRIES {
        let lasts = match moment.at {
            At::Begin => EACH,
            At::End => EACH_AT_END,
        };
        let (of, at) = (Vec::new(), moment.at);
        let hold = Hold { of, at, lasts }.longer(tried);
        let words = hold.words();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let launch = prepare();
        let data = launch.data().to_owned();
        let mut process = launch.clone().under(&words).spawn_command(arguments);
        let is_it = |stand: &Stand| (moment.is_it)(&data, stand);
        let held = hold.wait(&mut process, Process::is_ready, is_it);
        let is_held = held.is_some();
        disk.cut_power();
        end_held(&mut process, held);
        disk.unmount();
        disk.mount();
        if is_held {
            say(&format!("power_cut: {}", moment.name));
            return launch;
        }
        say(&format!(
            "power_cut: missed: {}\n{}",
            moment.name,
            process.log()
        ));
    }
    panic!("{}: not hit", moment.name);
}

fn damaged(data: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(data).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let is_damaged = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("live.damaged-")
    };
    paths.filter(is_damaged).collect()
}

fn verify(launch: &Launch) {
    let (is_sound, said) = launch.run(&["verify-store"]);
    assert!(is_sound, "{said}");
}
