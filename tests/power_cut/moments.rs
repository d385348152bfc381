//! Cuts at chosen moments of a server under load: while a checkpoint is made, and at a change of segment.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::begin;
use super::hold::{At, Hold, Stand, TRIES};
use super::process::say;
use super::world::World;

const COMMITTER: &str = "store-committer";

/// How far a store was when its server was ready.
#[derive(Clone, Copy)]
struct Before {
    /// The newest position of the journal that is written down in the live database.
    checkpoint: u64,
    /// The number of the newest segment.
    segment: u64,
}

impl Before {
    fn of(data: &Path) -> Before {
        Before {
            checkpoint: newest_checkpoint(data),
            segment: newest_segment(data),
        }
    }
}

#[test]
fn cuts_while_a_checkpoint_is_made() {
    let Some(mut random) = begin("power_cut, checkpoints") else {
        return;
    };
    let mut world = World::new(&mut random);
    let data = world.data();
    let hold = |file: &str| Hold {
        of: vec![data.join(file)],
        at: At::Begin,
        lasts: Duration::from_millis(150),
    };
    let (live, applied) = (hold("live/db"), hold("applied.new"));
    let is_of_before = |before: Before| newest_checkpoint(&data) == before.checkpoint;
    for _ in 0..2 {
        let name = "what the journal has is moved into the live database";
        cut_at(&mut world, name, &live, 2, |_, before| is_of_before(before));
        let name = "between the two flushes of a checkpoint";
        cut_at(&mut world, name, &live, 2, |_, before| {
            !is_of_before(before)
        });
    }
    let name = "behind the two flushes of a checkpoint";
    cut_at(&mut world, name, &applied, 2, |_, _| true);
    say(&format!("power_cut, checkpoints: {}", world.account()));
    world.expect_load();
}

#[test]
fn cuts_at_a_change_of_segment() {
    let Some(mut random) = begin("power_cut, segments") else {
        return;
    };
    let mut world = World::new(&mut random);
    let data = world.data();
    let journal = data.join("journal");
    let numbered = |suffix: &str| -> Vec<PathBuf> {
        let name = |number| journal.join(format!("{number:016x}.{suffix}"));
        (0..32).map(name).collect()
    };
    let hold = |of: Vec<PathBuf>, at: At, millis: u64| Hold {
        of,
        at,
        lasts: Duration::from_millis(millis),
    };
    let has_next = |before: Before| newest_segment(&data) > before.segment;
    let at_directory = |stand: &Stand, before| {
        stand.is_of(COMMITTER) && stand.is_at("journal") && has_next(before)
    };

    let name = "the header of the next segment is written";
    let header = hold(numbered("spare"), At::Begin, 500);
    cut_at(&mut world, name, &header, 14, |stand, _| {
        stand.is_of(COMMITTER)
    });
    let name = "the next segment has its name";
    let named = hold(vec![journal.clone()], At::Begin, 500);
    cut_at(&mut world, name, &named, 14, at_directory);
    let name = "the name of the next segment is on disk";
    let on_disk = hold(vec![journal.clone()], At::End, 1_000);
    cut_at(&mut world, name, &on_disk, 14, at_directory);
    let name = "the end mark of the segment before is written";
    let ended = hold(numbered("segment"), At::Begin, 30);
    cut_at(&mut world, name, &ended, 14, |stand, before| {
        let segment = format!("{:016x}.segment", before.segment);
        stand.is_of(COMMITTER) && stand.is_at(segment) && has_next(before)
    });
    say(&format!("power_cut, segments: {}", world.account()));
    world.expect_load();
}

/// Publishes, with so many batches that fill the journal, until a thread is held where it is wanted, and
/// cuts the power there. What is left is held against what was answered at the next start.
fn cut_at(
    world: &mut World,
    name: &str,
    hold: &Hold,
    fillings: usize,
    is_wanted: impl Fn(&Stand, Before) -> bool,
) {
    for tried in 0..TRIES {
        let hold = hold.longer(tried);
        let words = hold.words();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let launch = world.launch.clone().under(&words);
        let (mut server, path) = world.start(&launch);
        let before = Before::of(&world.data());
        let (filled, is_over) = (Mutex::new(Vec::new()), AtomicBool::new(false));
        let (api, log) = (server.api.clone(), server.api.clone());
        let hit = std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..fillings {
                    let accepted = World::fill(&api);
                    let Some(accepted) = accepted.filter(|_| !is_over.load(Ordering::SeqCst))
                    else {
                        return;
                    };
                    filled.lock().expect("nobody panics with it").push(accepted);
                }
            });
            world.cut_under_load(&mut server, &path, |process| {
                let held = hold.wait(process, |_| false, |stand| is_wanted(stand, before));
                is_over.store(true, Ordering::SeqCst);
                held
            })
        });
        world.filled(filled.into_inner().expect("nobody panics with it"));
        if hit {
            say(&format!("power_cut: {name}"));
            return;
        }
        say(&format!("power_cut: missed: {name}\n{}", log.log()));
    }
    panic!("{name}: not hit");
}

fn newest_segment(data: &Path) -> u64 {
    let names = std::fs::read_dir(data.join("journal"))
        .into_iter()
        .flatten();
    let numbers = names.flatten().filter_map(|entry| {
        let name = entry.file_name();
        let digits = name.to_str()?.strip_suffix(".segment")?;
        u64::from_str_radix(digits, 16).ok()
    });
    numbers.max().unwrap_or_default()
}

/// The newest position that a record of a checkpoint in the file of the live database has: these records
/// stand in it as they are, the older ones, too.
fn newest_checkpoint(data: &Path) -> u64 {
    const HEAD: &[u8] = b"\xB7k\x01\x00";
    const ENVELOPE_BYTES: usize = 12;
    let file = std::fs::read(data.join("live/db")).unwrap_or_default();
    let places = memchr::memmem::find_iter(&file, HEAD);
    let positions = places.filter_map(|place| {
        let mut rest = file.get(place + ENVELOPE_BYTES..)?;
        let _stream = number(&mut rest)?;
        number(&mut rest)
    });
    positions.max().unwrap_or_default()
}

/// A number as bincode writes it.
fn number(rest: &mut &[u8]) -> Option<u64> {
    let (first, bytes) = rest.split_first()?;
    let length = match first {
        251 => 2,
        252 => 4,
        253 => 8,
        254.. => return None,
        _ => 0,
    };
    let (number, left) = bytes.split_at_checked(length)?;
    *rest = left;
    let mut filled = [0; 8];
    filled[..length].copy_from_slice(number);
    Some(if length == 0 {
        u64::from(*first)
    } else {
        u64::from_le_bytes(filled)
    })
}
