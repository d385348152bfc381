//! Damage of every kind, a start and a rebuild after it, and every moment at which a rebuild can be broken
//! off.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::catalog::Catalog;
use crate::domain::attempt::{FailureKind, Outcome, SendFailure, Trigger, Verdict};
use crate::domain::id::MessageId;
use crate::domain::message::{Delivery, DeliveryKey};
use crate::domain::profile::Method;
use crate::rules::decision::Planned;
use crate::store::layout::golden::rows::{self, APPLICATION, LANE};
use crate::store::tests::{copy_directory, damage_record, message_to, register};
use crate::store::{AttemptSignal, Finished, Store, reset_owner, restore, verify};

const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn settings(path: &Path) -> StoreSettings {
    let mut config = crate::config::load(None, Default::default()).unwrap();
    config.store.path = path.to_owned();
    config.store.min_free_bytes = 1;
    StoreSettings {
        segment_bytes: 1 << 20,
        ..StoreSettings::from_config(&config)
    }
}

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new())
}

fn open_at(path: &Path, clock: Clock) -> Store {
    Store::open(settings(path), clock, metrics()).unwrap()
}

fn open(path: &Path) -> Store {
    open_at(path, Clock::manual(NOW))
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for the checkpoint file of a position, at least.
fn file_is_written(store: &Store, position: u64) {
    let checkpoints = &store.inner.checkpoints;
    let is_written = || checkpoints.file().is_some_and(|file| file >= position);
    until("a checkpoint file is written", is_written);
}

fn close(store: Store) {
    store.close().unwrap();
    let path = store.inner.settings.path.clone();
    drop(store);
    let_go(&path.join(LIVE)).unwrap();
}

/// What a store shows of its live database, but for what each start writes.
fn shown(store: &Store) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let items = store.inner.live.prefix(b"").map(Result::unwrap);
    let items = items.map(|(key, value)| (key.to_vec(), value.to_vec()));
    items
        .filter(|(key, _)| ![layout::META, layout::CHECKPOINT].contains(&key[0]))
        .collect()
}

/// Publishes, and records an attempt that is to be made again.
async fn work(store: &Store) -> Vec<MessageId> {
    let mut ids = Vec::new();
    for _ in 0..3 {
        let message = store.accept_message(message_to(vec![LANE])).await.unwrap();
        ids.push(message.id);
        let delivery = Delivery {
            key: DeliveryKey {
                lane: LANE,
                due: message.first_due(),
                message: message.id,
            },
            attempts: 0,
            trigger: Trigger::Scheduled,
        };
        let failure = SendFailure {
            kind: FailureKind::Timeout,
            detail: String::new(),
        };
        store.record_attempt(Finished {
            delivery,
            endpoint: Arc::new(rows::endpoint()),
            number: 1,
            outcome: Outcome::not_sent("http://localhost/", Method::Post, NOW, failure),
            verdict: Verdict::RetryAt(NOW + Duration::from_secs(60)),
            test: false,
            event_id: None,
            signal: AttemptSignal::Neither,
            event_type: None,
        });
    }
    store.accept_message(message_to(vec![LANE])).await.unwrap();
    until("all is written", || store.is_idle());
    ids
}

/// The directory of a process that was killed: with registrations, a job, deliveries that wait for their
/// first attempt or another, in the checkpoint file and behind it. And what it showed.
async fn crashed(directory: &Path) -> (PathBuf, BTreeMap<Vec<u8>, Vec<u8>>, Vec<MessageId>) {
    let path = directory.join("data");
    let store = open(&path);
    register(&store).await;
    let put_job = |_: &Catalog| {
        let job = rows::pinned("Job", 1);
        let job = layout::change(&job.key, &job.record).unwrap();
        Ok((vec![job.expect("it is one")], ()))
    };
    store.change(Planned(put_job)).await.unwrap();
    let mut ids = work(&store).await;
    close(store);
    // The file of the first process has nothing of it yet; that of the second has.
    let _ = std::fs::remove_file(path.join(FILE_NAME));
    let store = open(&path);
    file_is_written(&store, 1);
    ids.extend(work(&store).await);
    let shows = shown(&store);
    let copy = directory.join("crashed");
    copy_directory(&path, &copy);
    assert_eq!(shown(&store), shows);
    assert_eq!(store.waiting_count(), 8);
    close(store);
    (copy, shows, ids)
}

/// A start finds everything.
fn opens_with_all(path: &Path, shows: &BTreeMap<Vec<u8>, Vec<u8>>, ids: &[MessageId]) {
    let store = open(path);
    check_all_there(&store, shows, ids);
    close(store);
}

fn check_all_there(store: &Store, shows: &BTreeMap<Vec<u8>, Vec<u8>>, ids: &[MessageId]) {
    assert_eq!(&shown(store), shows);
    assert_eq!(store.waiting_count(), 8);
    for id in ids {
        assert!(store.message(APPLICATION, *id).unwrap().is_some());
    }
}

/// A copy of a directory, with damage.
fn copy_with(from: &Path, name: &str, damage: impl FnOnce(&Path)) -> PathBuf {
    let to = from.with_file_name(name);
    copy_directory(from, &to);
    damage(&to);
    to
}

fn damaged_copies(path: &Path) -> usize {
    let entries = std::fs::read_dir(path).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    names
        .filter(|name| name.to_string_lossy().starts_with(DAMAGED))
        .count()
}

fn flip(file: &Path, at: impl Fn(usize) -> std::ops::Range<usize>) {
    let mut bytes = std::fs::read(file).unwrap();
    let at = at(bytes.len());
    bytes[at].iter_mut().for_each(|byte| *byte ^= 0x55);
    std::fs::write(file, bytes).unwrap();
}

/// A store with registrations and a checkpoint file, cleanly closed.
async fn closed_with_a_file(path: &Path) {
    let store = open(path);
    register(&store).await;
    file_is_written(&store, 1);
    close(store);
}

fn remove_live(path: &Path) {
    std::fs::remove_dir_all(path.join(LIVE)).unwrap();
}

/// What is done to the files of a store, by the name of the case.
type Case<'a> = (&'a str, &'a dyn Fn(&Path));

/// Damage after which the database cannot be opened.
const DAMAGES: [Case<'static>; 5] = [
    ("missing", &remove_live),
    ("empty", &|path| {
        remove_live(path);
        std::fs::create_dir(path.join(LIVE)).unwrap();
    }),
    ("without its file", &|path| {
        std::fs::remove_file(path.join("live/db")).unwrap();
    }),
    ("truncated", &|path| {
        std::fs::write(path.join("live/db"), b"short").unwrap();
    }),
    ("overwritten", &|path| {
        flip(&path.join("live/db"), |bytes| 0..bytes)
    }),
];

#[actix_web::test]
async fn whatever_happened_to_the_live_database_a_start_has_everything() {
    let directory = tempfile::tempdir().unwrap();
    let (crashed, shows, ids) = crashed(directory.path()).await;
    for (name, damage) in DAMAGES {
        let path = copy_with(&crashed, name, damage);
        let metrics = metrics();
        let store = Store::open(settings(&path), Clock::manual(NOW), metrics.clone());
        let store = store.unwrap_or_else(|error| panic!("{name}: {error}"));
        check_all_there(&store, &shows, &ids);
        assert_eq!(metrics.store_problems.get(), 1, "{name}");
        let is_there = usize::from(name != "missing");
        assert_eq!(damaged_copies(&path), is_there, "{name}");
        close(store);
        // It is a store as any other.
        let store = open(&path);
        check_all_there(&store, &shows, &ids);
        assert_eq!(damaged_copies(&path), is_there, "{name}");
        close(store);
    }
}

#[actix_web::test]
async fn whatever_happened_to_the_live_database_the_command_makes_it_anew() {
    let directory = tempfile::tempdir().unwrap();
    let (crashed, shows, ids) = crashed(directory.path()).await;
    let undamaged: Case<'_> = ("sound", &|_| {});
    for (name, damage) in DAMAGES.into_iter().chain([undamaged]) {
        let path = copy_with(&crashed, name, damage);
        // Twice: the second finds what the first has made.
        for time in 0..2 {
            let report = rebuild(&settings(&path), &Clock::manual(NOW)).unwrap();
            assert_eq!(report.problems, [""; 0]);
            let waiting = ("waiting deliveries".to_owned(), 8);
            assert!(report.counts.contains(&waiting), "{report:?}");
            let was_there = name != "missing" || time > 0;
            assert_eq!(report.kept_as.is_some(), was_there, "{name}");
        }
        let store = open(&path);
        check_all_there(&store, &shows, &ids);
        let in_use = rebuild(&settings(&path), &Clock::System);
        assert!(matches!(in_use, Err(OpenError::Locked { .. })));
        close(store);
    }
}

/// Bytes of the queue that a start does not look at before it counts it.
#[actix_web::test]
async fn flipped_bytes_anywhere_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (crashed, shows, ids) = crashed(directory.path()).await;
    let bytes = std::fs::metadata(crashed.join("live/db")).unwrap().len() as usize;
    let mut rebuilt = 0;
    for part in 0..12 {
        let at = bytes * part / 12;
        let name = format!("flipped-{at}");
        let damage = |path: &Path| flip(&path.join("live/db"), |_| at..(at + 64).min(bytes));
        let path = copy_with(&crashed, &name, damage);
        let store = Store::open(settings(&path), Clock::manual(NOW), metrics());
        let store = store.unwrap_or_else(|error| panic!("{name}: {error}"));
        check_all_there(&store, &shows, &ids);
        rebuilt += damaged_copies(&path);
        close(store);
    }
    assert!(rebuilt > 0, "no byte mattered");
}

/// It is written while commits go on: some of what they put and delete is in it, and some is not.
#[actix_web::test]
async fn a_file_that_has_some_of_what_came_later_gives_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let (path, shows, ids) = crashed(directory.path()).await;
    let mut file = checkpoint_file::open(&path).unwrap();
    let begun_at = file.begun_at();
    let mut entries = BTreeMap::new();
    while let Some((key, value)) = file.next_entry().unwrap() {
        entries.insert(key.to_vec(), value.to_vec());
    }
    let mut keys = 0;
    entries.retain(|key, _| {
        keys += 1;
        shows.contains_key(key) || key[0] == layout::META || keys % 2 == 0
    });
    let later = shows.iter().filter(|(key, _)| !entries.contains_key(*key));
    let later = Vec::from_iter(later.map(|(key, value)| (key.clone(), value.clone())));
    assert!(later.len() > 3, "something came later");
    entries.extend(later.into_iter().step_by(2));
    let mut encoder = checkpoint_file::Encoder::begin(Vec::new(), &begun_at).unwrap();
    for (key, value) in &entries {
        encoder.put(key, value).unwrap();
    }
    let bytes = encoder.finish(begun_at.position + 1).unwrap();
    std::fs::write(path.join(FILE_NAME), bytes).unwrap();
    remove_live(&path);
    opens_with_all(&path, &shows, &ids);
}

#[actix_web::test]
async fn a_rebuild_that_is_broken_off_leaves_the_old_database_or_the_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let (crashed, shows, ids) = crashed(directory.path()).await;
    let build_new = |path: &Path| drop(build(&settings(path), &|| false).unwrap());
    let moments: [Case<'_>; 4] = [
        ("half built", &|path: &Path| {
            build_new(path);
            std::fs::write(path.join("live.new/db"), b"half").unwrap();
        }),
        ("built", &build_new),
        ("old one aside", &|path: &Path| {
            build_new(path);
            set_aside(path, NOW).unwrap();
        }),
        ("old one aside, new one half there", &|path: &Path| {
            build_new(path);
            set_aside(path, NOW).unwrap();
            std::fs::write(path.join("live.new/db"), b"half").unwrap();
        }),
    ];
    for (name, moment) in moments {
        let path = copy_with(&crashed, name, moment);
        let store = open(&path);
        check_all_there(&store, &shows, &ids);
        assert!(!path.join(NEW).exists(), "{name}");
        close(store);
        let path = copy_with(&crashed, &format!("{name}, again"), moment);
        rebuild(&settings(&path), &Clock::manual(NOW)).unwrap();
        assert!(!path.join(NEW).exists());
        opens_with_all(&path, &shows, &ids);
    }
}

/// As often as there are damaged databases that a start lets lie, and once more.
#[actix_web::test]
async fn a_rebuild_that_is_broken_off_again_and_again_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let (path, shows, ids) = crashed(directory.path()).await;
    for number in 0..=DAMAGED_MAX {
        std::fs::create_dir_all(path.join(LIVE)).unwrap();
        set_aside(&path, NOW).unwrap();
        assert_eq!(damaged_copies(&path), number + 1);
        let told = verify(&settings(&path), &Clock::System, &mut |_| {}).unwrap_err();
        let told = told.to_string();
        assert!(
            told.contains("was broken off") && told.contains("postrider rebuild"),
            "{told}"
        );
        opens_with_all(&path, &shows, &ids);
        drop(build(&settings(&path), &|| false).unwrap());
    }
    remove_live(&path);
    rebuild(&settings(&path), &Clock::manual(NOW)).unwrap();
    opens_with_all(&path, &shows, &ids);
}

#[test]
fn verify_tells_a_store_without_its_database_from_no_store() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    let told = |path: &Path| {
        let told = verify(&settings(path), &Clock::System, &mut |_| {}).unwrap_err();
        told.to_string()
    };
    assert!(told(&path).contains("there is no store at"));
    close(open(&path));
    remove_live(&path);
    let told = told(&path);
    assert!(told.contains("`live` is missing"), "{told}");
}

#[actix_web::test]
async fn verify_reads_the_checkpoint_file_though_nobody_needs_it_yet() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    closed_with_a_file(&path).await;
    let problems = || {
        let report = verify(&settings(&path), &Clock::System, &mut |_| {});
        report.unwrap().problems
    };
    assert_eq!(problems(), [""; 0]);
    flip(&path.join(FILE_NAME), |bytes| bytes - 1..bytes);
    let told = problems();
    assert!(
        told.len() == 1 && told[0].contains("checkpoint: it is damaged"),
        "{told:?}"
    );
    std::fs::remove_file(path.join(FILE_NAME)).unwrap();
    assert_eq!(problems(), [""; 0]);
}

/// What refuses a rebuild, by the command and by a start, changes nothing.
#[actix_web::test]
async fn nothing_is_made_anew_from_what_is_not_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (crashed, ..) = crashed(directory.path()).await;
    let other = directory.path().join("other");
    let store = open(&other);
    file_is_written(&store, 1);
    close(store);
    let segments = |path: &Path| {
        let entries = std::fs::read_dir(path.join("journal")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let is_one = |path: &PathBuf| path.extension().is_some_and(|end| end == "segment");
        Vec::from_iter(paths.filter(is_one))
    };
    // By what is said of them.
    let cases: [Case<'_>; 6] = [
        ("it is damaged at byte", &|path: &Path| {
            flip(&path.join(FILE_NAME), |bytes| bytes / 2..bytes / 2 + 1);
        }),
        ("ends too early", &|path: &Path| {
            let bytes = std::fs::read(path.join(FILE_NAME)).unwrap();
            std::fs::write(path.join(FILE_NAME), &bytes[..bytes.len() - 1]).unwrap();
        }),
        ("belongs to stream", &|path: &Path| {
            std::fs::copy(other.join(FILE_NAME), path.join(FILE_NAME)).unwrap();
        }),
        ("segments are missing", &|path: &Path| {
            std::fs::remove_dir_all(path.join("journal")).unwrap();
        }),
        ("the journal ends or has a gap", &|path: &Path| {
            let position = checkpoint_file::open(path).unwrap().begun_at().position;
            let stream = checkpoint_file::open(path).unwrap().begun_at().stream;
            let ahead = Checkpoint {
                stream,
                position: position + 1_000,
                chain: 0,
            };
            checkpoint_file::note_applied(path, &ahead).unwrap();
        }),
        ("segment is damaged at byte", &|path: &Path| {
            for segment in segments(path) {
                flip(&segment, |bytes| 4096..bytes);
            }
        }),
    ];
    for (name, spoil) in cases {
        let path = copy_with(&crashed, name, |path| {
            std::fs::write(path.join("live/db"), b"short").unwrap();
            spoil(path);
        });
        let refused = rebuild(&settings(&path), &Clock::manual(NOW)).unwrap_err();
        assert!(refused.to_string().contains(name), "{name}: {refused}");
        let refused = Store::open(settings(&path), Clock::manual(NOW), metrics());
        let refused = refused.err().expect("it is refused").to_string();
        assert!(refused.contains(name), "{name}: {refused}");
        assert!(
            !path.join(NEW).exists() && damaged_copies(&path) == 0,
            "{name}"
        );
        assert_eq!(std::fs::read(path.join("live/db")).unwrap(), b"short");
    }
}

/// An older version knows neither of the file nor of the journal: what it did is in the databases alone.
#[actix_web::test]
async fn a_store_that_another_version_used_meanwhile_is_not_taken_back_behind_that() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    closed_with_a_file(&path).await;
    let change = |path: &Path| {
        let live = Engine::open(&path.join(LIVE), 1 << 20).unwrap();
        let mut changes = engine::Changes::default();
        let meta = layout::get::<Meta>(&live, &[layout::META]).unwrap();
        let mut meta = meta.unwrap().meta;
        meta.commit += 7;
        layout::replace(&live, &mut changes, &[layout::META], &meta).unwrap();
        live.commit(changes).unwrap();
        drop(live);
        let_go(&path.join(LIVE)).unwrap();
        meta.commit
    };
    let commit = change(&path);
    // Nothing of this version has come after it: the slice tells.
    let only_old = copy_with(&path, "only the old one", |path| {
        let slice = slices::path_in(&path.join("slices"), 1);
        let slice_engine = Engine::open(&slice, 1 << 20).unwrap();
        let mut changes = engine::Changes::default();
        let meta = SliceMeta {
            commit,
            ..SliceMeta::default()
        };
        layout::replace(&slice_engine, &mut changes, &[layout::META], &meta).unwrap();
        slice_engine.commit(changes).unwrap();
        drop(slice_engine);
        let_go(&slice).unwrap();
        remove_live(path);
    });
    let refused = rebuild(&settings(&only_old), &Clock::manual(NOW)).unwrap_err();
    assert!(refused.to_string().contains("older version"), "{refused}");
    // This version has, and the file is from before.
    let store = open(&path);
    close(store);
    remove_live(&path);
    let refused = rebuild(&settings(&path), &Clock::manual(NOW)).unwrap_err();
    assert!(refused.to_string().contains("older version"), "{refused}");
}

#[actix_web::test]
async fn what_commands_and_starts_change_is_not_taken_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    closed_with_a_file(&path).await;
    reset_owner(&settings(&path), &Clock::manual(NOW)).unwrap();
    let_go(&path.join(LIVE)).unwrap();
    let store = open(&path);
    let shows = shown(&store);
    close(store);
    remove_live(&path);
    let store = open(&path);
    assert_eq!(shown(&store), shows);
    close(store);
}

#[actix_web::test]
async fn a_command_that_finds_nothing_in_live_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    closed_with_a_file(&path).await;
    remove_live(&path);
    std::fs::create_dir(path.join(LIVE)).unwrap();
    let refused = || {
        let verified = crate::store::verify(&settings(&path), &Clock::System, &mut |_| {});
        verified.expect_err("it is refused").to_string()
    };
    assert!(
        refused().contains("`postrider rebuild` makes it anew"),
        "{}",
        refused()
    );
    std::fs::remove_file(path.join(FILE_NAME)).unwrap();
    assert!(
        refused().contains("bring it back from a copy"),
        "{}",
        refused()
    );
}

#[test]
fn without_a_checkpoint_file_damage_is_told_as_before() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    close(open(&path));
    let _ = std::fs::remove_file(path.join(FILE_NAME));
    flip(&path.join("live/db"), |bytes| 0..bytes);
    let refused = Store::open(settings(&path), Clock::manual(NOW), metrics());
    let refused = refused.err().expect("it is refused");
    assert!(is_of_live(&refused, &settings(&path)), "{refused}");
    let refused = rebuild(&settings(&path), &Clock::System).unwrap_err();
    assert!(
        refused.to_string().contains("no checkpoint file"),
        "{refused}"
    );
    remove_live(&path);
    let refused = Store::open(settings(&path), Clock::manual(NOW), metrics());
    assert!(matches!(refused.err(), Some(OpenError::WithoutLive(_))));
    let nowhere = rebuild(&settings(&directory.path().join("no")), &Clock::System);
    assert!(nowhere.unwrap_err().to_string().contains("no store at"));
}

#[actix_web::test]
async fn a_disk_that_breaks_one_database_after_the_other_is_for_a_person() {
    let directory = tempfile::tempdir().unwrap();
    let (path, ..) = crashed(directory.path()).await;
    for _ in 0..DAMAGED_MAX {
        std::fs::write(path.join("live/db"), b"short").unwrap();
        close(open(&path));
    }
    std::fs::write(path.join("live/db"), b"short").unwrap();
    let refused = Store::open(settings(&path), Clock::manual(NOW), metrics());
    let refused = refused.err().expect("it is refused").to_string();
    assert!(refused.contains("check the disk"), "{refused}");
    rebuild(&settings(&path), &Clock::manual(NOW)).unwrap();
    close(open(&path));
}

/// Found while the server runs: the process ends, and the next start begins with a rebuild.
#[actix_web::test]
async fn damage_that_a_start_did_not_see_is_noted_for_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let (path, shows, ids) = crashed(directory.path()).await;
    note_damage(&path, &EngineError::Busy);
    assert!(!is_damage_noted(&path));
    note_damage(&path, &EngineError::Damaged("on purpose".to_owned()));
    assert!(is_damage_noted(&path));
    let store = open(&path);
    check_all_there(&store, &shows, &ids);
    assert_eq!(damaged_copies(&path), 1);
    assert!(!is_damage_noted(&path));
    close(store);
}

/// Segments behind the checkpoint file stay until the next one, which comes when its time has come.
#[actix_web::test]
async fn the_journal_behind_the_checkpoint_file_is_kept_until_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    let clock = Clock::manual(NOW);
    let store = open_at(&path, clock.clone());
    register(&store).await;
    file_is_written(&store, 1);
    let inner = store.inner.clone();
    let first = inner.checkpoints.file().unwrap();
    let payload = format!("\"{}\"", "x".repeat(500 << 10));
    let publish = async || {
        let mut message = message_to(vec![LANE]);
        message.payload = payload.clone().into();
        store.accept_message(message).await.unwrap().id
    };
    let oldest = || {
        let numbers = std::fs::read_dir(path.join("journal")).unwrap();
        let names = numbers.map(|entry| entry.unwrap().file_name());
        let names = names.filter_map(|name| name.into_string().ok());
        names.filter(|name| name.ends_with(".segment")).min()
    };
    let began_with = oldest();
    let mut ids = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    while inner.metrics.checkpoints.get() < 2 {
        assert!(Instant::now() < deadline, "no checkpoint is made");
        ids.push(publish().await);
    }
    ids.push(publish().await);
    assert_eq!(inner.checkpoints.file(), Some(first));
    assert_eq!(inner.checkpoints.removable(), first);
    assert_eq!(oldest(), began_with);
    // From the one of the start and all that came later.
    let copy = directory.path().join("copy");
    until("all is written", || store.is_idle());
    let shows = shown(&store);
    copy_directory(&path, &copy);
    remove_live(&copy);
    let again = open(&copy);
    assert_eq!(shown(&again), shows);
    for id in &ids {
        assert!(again.message(APPLICATION, *id).unwrap().is_some());
    }
    close(again);

    clock.advance_to(NOW + Duration::from_secs(600));
    file_is_written(&store, first + 1);
    publish().await;
    until("what is before it may go", || {
        inner.checkpoints.removable() > first
    });
    // What is kept of history is in them.
    assert_eq!(oldest(), began_with);
    drop(inner);
    close(store);
}

/// The same without the slices: a start begins a new one where it finds the newest damaged.
fn shown_but_slices(store: &Store) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut shown = shown(store);
    shown.retain(|key, _| key[0] != layout::SLICE);
    shown
}

/// `live` has what the damaged record has, and the file lies before it.
#[actix_web::test]
async fn damage_behind_the_checkpoint_file_that_a_start_finds_brings_a_new_file_at_once() {
    let directory = tempfile::tempdir().unwrap();
    crashed(directory.path()).await;
    // The same store, closed: its database has all of the journal.
    let path = directory.path().join("data");
    let position = checkpoint_file::open(&path).unwrap().begun_at().position + 2;
    damage_record(&path, position);
    let without_live = copy_with(&path, "before", remove_live);
    let refused = rebuild(&settings(&without_live), &Clock::manual(NOW)).unwrap_err();
    let expected = format!("position {position}");
    assert!(refused.to_string().contains(&expected), "{refused}");

    let store = open(&path);
    let told = store.damaged_files();
    assert!(told.len() == 1 && told[0].contains(&expected), "{told:?}");
    file_is_written(&store, position);
    let shows = shown_but_slices(&store);
    close(store);
    let without_live = copy_with(&path, "after", remove_live);
    rebuild(&settings(&without_live), &Clock::manual(NOW)).unwrap();
    let store = open(&without_live);
    assert_eq!(shown_but_slices(&store), shows);
    assert_eq!(store.waiting_count(), 8);
    close(store);
}

#[actix_web::test]
async fn damage_behind_the_checkpoint_file_that_is_told_later_brings_a_new_file_at_once_and_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    let store = open(&path);
    register(&store).await;
    file_is_written(&store, 1);
    let mut ids = Vec::new();
    for _ in 0..3 {
        let message = store.accept_message(message_to(vec![LANE])).await.unwrap();
        ids.push(message.id);
    }
    let checkpoints = &store.inner.checkpoints;
    let mut records = store.inner.slices.reader().records(1).unwrap();
    let mut messages = Vec::new();
    while let Some(record) = records.next_record().unwrap() {
        if !record.parts.is_empty() {
            messages.push(record.head.position);
        }
    }
    let position = messages[1];
    assert!(checkpoints.file().unwrap() < position);
    damage_record(&path, position);
    let unreadable = store.message(APPLICATION, ids[1]).unwrap_err().to_string();
    assert!(store.note_unreadable_message(LANE, ids[1], &unreadable));
    file_is_written(&store, position);

    // It is written for the slice; of more damage there it is known.
    store.note_unreadable_message(LANE, ids[2], &unreadable);
    assert!(!checkpoints.is_wanted() && checkpoints.not_in_file(false).is_none());
    until("all is written", || store.is_idle());
    let shows = shown_but_slices(&store);
    let copy = copy_with(&path, "copy", remove_live);
    close(store);
    rebuild(&settings(&copy), &Clock::manual(NOW)).unwrap();
    let store = open(&copy);
    assert_eq!(shown_but_slices(&store), shows);
    close(store);
}

/// The file of another store is not taken for the new one's.
#[test]
fn an_export_is_not_restored_beside_a_checkpoint_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join(FILE_NAME), "of another").unwrap();
    let from = directory.path().join("export.json");
    let export = r#"{"format":1,"exported_at":0,"last_endpoint_number":0,"registrations":[]}"#;
    std::fs::write(&from, export).unwrap();
    let refused = restore(&settings(&path), &from, &Clock::System, false).unwrap_err();
    assert!(refused.to_string().contains("a store already"), "{refused}");
    let refused = Store::open(settings(&path), Clock::System, metrics());
    let refused = refused.err().expect("it is refused").to_string();
    assert!(
        refused.contains("the checkpoint file of a store"),
        "{refused}"
    );
}

/// A million waiting deliveries.
#[test]
#[ignore = "a measurement; run it with --release and --nocapture"]
fn a_million_waiting_deliveries_come_back_within_ten_seconds() {
    const COUNT: u64 = 1_000_000;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    close(open(&path));
    let settings = settings(&path);
    let mut files = open::open_files(&settings, &Clock::manual(NOW)).unwrap();
    for number in 0..COUNT {
        let (key, record) = layout::waiting(&Delivery {
            key: DeliveryKey {
                lane: number / 1_000,
                due: NOW,
                message: MessageId::first_at(NOW + Duration::from_secs(number % 1_000)),
            },
            attempts: 0,
            trigger: Trigger::Scheduled,
        });
        files.live.put(&key, record).unwrap();
    }
    files.meta.commit += 1;
    files.meta.waiting = vec![(1, COUNT)];
    let mut changes = engine::Changes::default();
    layout::replace(&files.live, &mut changes, &[layout::META], &files.meta).unwrap();
    replay::commit_at_rest(&settings, &mut files.journal, &files.live, changes, NOW).unwrap();
    drop(files);
    let_go(&path.join(LIVE)).unwrap();
    std::fs::remove_file(path.join(FILE_NAME)).ok();
    let store = open(&path);
    let began = Instant::now();
    until("a checkpoint file is written", || {
        store.inner.checkpoints.file().is_some()
    });
    eprintln!("the file was written within {:?}", began.elapsed());
    close(store);
    eprintln!(
        "it has {} bytes",
        std::fs::metadata(path.join(FILE_NAME)).unwrap().len()
    );
    remove_live(&path);
    let began = Instant::now();
    let report = rebuild(&settings, &Clock::manual(NOW)).unwrap();
    let took = began.elapsed();
    eprintln!("rebuilt within {took:?}: {report:?}");
    assert_eq!(report.problems, [""; 0]);
    assert!(took < Duration::from_secs(10), "{took:?}");
    let began = Instant::now();
    let store = open(&path);
    eprintln!("started within {:?}", began.elapsed());
    assert_eq!(store.waiting_count(), COUNT);
    close(store);
}
