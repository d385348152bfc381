//! Damage of the journal before and behind the checkpoint, at a start and for whoever reads.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::clock::Clock;
use crate::domain::id::ApplicationId;
use crate::error::Error;
use crate::journal::PartPlace;
use crate::store::layout::golden::rows::{APPLICATION, LANE};
use crate::store::slice::FoundItem;
use crate::store::tests::{self, copy_directory, let_go, message_to, register};
use crate::store::{OpenError, Store, StoreSettings, Stretch, Window, verify};
use crate::telemetry::Metrics;

const NOW: Timestamp = Timestamp(1_700_000_000_000);
/// So many messages are in the checkpoint, …
const BEFORE: usize = 9;
/// … and so many in the journal alone.
const BEHIND: usize = 3;

/// Files of the journal that are quick to copy.
fn settings(path: &Path) -> StoreSettings {
    StoreSettings {
        segment_bytes: 1 << 20,
        ..tests::settings(path)
    }
}

fn opened_with(path: &Path, clock: Clock) -> Store {
    Store::open(settings(path), clock, Arc::new(Metrics::new())).unwrap()
}

/// The data directory of a process that was killed, and its messages, a second apart, with the places of
/// their records.
async fn killed(directory: &Path) -> (PathBuf, Vec<(MessageId, PartPlace)>) {
    let path = directory.join("data");
    let clock = Clock::manual(NOW);
    let mut store = opened_with(&path, clock.clone());
    register(&store).await;
    let mut ids = Vec::new();
    for number in 0..BEFORE + BEHIND {
        if number == BEFORE {
            store.close().unwrap();
            drop(store);
            let_go(&path);
            store = opened_with(&path, clock.clone());
        }
        let message = store.accept_message(message_to(vec![LANE])).await.unwrap();
        ids.push(message.id);
        clock.advance_to(clock.now() + Duration::from_secs(1));
    }
    let slice = store.inner.slices.get(1).unwrap();
    let place_of = |id: &MessageId| {
        let found = slice.get(&layout::message_key(APPLICATION, *id)).unwrap();
        let Some(FoundItem::Place(place)) = found else {
            panic!("it is there")
        };
        (*id, slice.part(place).unwrap())
    };
    let placed = ids.iter().map(place_of).collect();
    let crashed = directory.join("crashed");
    copy_directory(&path, &crashed);
    store.close().unwrap();
    (crashed, placed)
}

/// A copy in which a byte of a record is wrong, so far from its beginning.
fn damaged(from: &Path, name: &str, place: PartPlace, at: u64) -> PathBuf {
    let to = from.with_file_name(name);
    copy_directory(from, &to);
    let file = to.join(format!("journal/{:016x}.segment", place.segment));
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(file);
    let (file, at) = (file.unwrap(), u64::from(place.offset) + at);
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    to
}

/// Within the head of a record, and within the table that follows it.
const PLACES: [(&str, u64); 2] = [("head", 20), ("body", 95)];

fn open(path: &Path) -> (Result<Store, OpenError>, Arc<Metrics>) {
    let clock = Clock::manual(NOW + Duration::from_secs(100));
    let metrics = Arc::new(Metrics::new());
    (Store::open(settings(path), clock, metrics.clone()), metrics)
}

fn list(
    store: &Store,
    newest_first: bool,
    change: impl FnOnce(&mut Window<MessageId>),
) -> Result<Stretch<MessageId, MessageId>, Error> {
    let mut window = Window {
        limit: 100,
        bytes: usize::MAX,
        newest_first,
        behind: None,
        before: None,
        after: None,
    };
    change(&mut window);
    let listed = store.messages(APPLICATION, None, &window, true, &mut |_| true)?;
    let ids = listed.items.iter().map(|message| message.id);
    Ok(Stretch {
        items: ids.collect(),
        next: listed.next,
    })
}

fn between(error: Error) -> (Timestamp, Timestamp) {
    match error {
        Error::Unreadable { between, .. } => between.expect("it tells where to read on"),
        other => panic!("{other}"),
    }
}

#[actix_web::test]
async fn damage_that_the_checkpoint_has_refuses_no_start_and_hides_nothing_else() {
    const LOST: usize = 4;
    let directory = tempfile::tempdir().unwrap();
    let (crashed, messages) = killed(directory.path()).await;
    let ids = Vec::from_iter(messages.iter().map(|(id, _)| *id));
    for (name, at) in PLACES {
        let path = damaged(&crashed, name, messages[LOST].1, at);
        let found = {
            let copy = path.with_file_name(format!("{name}-to-verify"));
            copy_directory(&path, &copy);
            verify(&settings(&copy), &Clock::System, &mut |_| {}).unwrap()
        };
        let is_told = |told: &String| told.contains("0000000000000000.segment is damaged at byte");
        assert!(found.problems.iter().any(is_told), "{:?}", found.problems);

        let (store, metrics) = open(&path);
        let store = store.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(metrics.store_problems.get() >= 1, "{name}");
        let told = store.damaged_files();
        assert!(told.len() == 1 && is_told(&told[0]), "{told:?}");
        let told = store.unreadable_slices();
        assert!(
            told.len() == 1 && told[0].0 == 1 && is_told(&told[0].1),
            "{told:?}"
        );
        assert_eq!(store.waiting_count(), ids.len() as u64);

        for (number, id) in ids.iter().enumerate() {
            let read = store.message(APPLICATION, *id);
            match number == LOST {
                true => drop(between(read.unwrap_err())),
                false => assert_eq!(read.unwrap().unwrap().id, *id),
            }
        }
        // Another application has none, and that is not known of the time of the gap alone.
        let other = ApplicationId([9; 20]);
        assert!(store.message(other, ids[LOST + 2]).unwrap().is_none());

        for newest_first in [true, false] {
            let (mut first, mut rest) = (ids[..LOST].to_vec(), ids[LOST + 1..].to_vec());
            if newest_first {
                std::mem::swap(&mut first, &mut rest);
                first.reverse();
                rest.reverse();
            }
            // What comes right before the gap and right behind it is its bound.
            let is_part = |listed: &[MessageId], all: &[MessageId]| {
                listed.len() + 1 >= all.len() && listed.iter().all(|id| all.contains(id))
            };
            let page = list(&store, newest_first, |_| {}).unwrap();
            assert!(is_part(&page.items, &first), "{newest_first}: {page:?}");
            assert_eq!(page.next, page.items.last().copied());
            let behind = page.next;
            let error = list(&store, newest_first, |window| window.behind = behind);
            let (before, after) = between(error.unwrap_err());
            let page = list(&store, newest_first, |window| match newest_first {
                true => window.before = Some(before),
                false => window.after = Some(after),
            });
            let page = page.unwrap();
            assert!(is_part(&page.items, &rest), "{newest_first}: {page:?}");
            assert_eq!(page.next, None);
        }

        store.accept_message(message_to(vec![LANE])).await.unwrap();
        store.close().unwrap();
        drop(store);
        let_go(&path);
        let (again, _) = open(&path);
        let again = again.unwrap();
        assert_eq!(again.waiting_count(), ids.len() as u64 + 1);
        again.close().unwrap();
    }
}

#[actix_web::test]
async fn damage_behind_the_checkpoint_refuses_the_start_with_file_and_position() {
    let directory = tempfile::tempdir().unwrap();
    let (crashed, messages) = killed(directory.path()).await;
    for (name, at) in PLACES {
        let path = damaged(&crashed, name, messages[BEFORE + 1].1, at);
        let (refused, _) = open(&path);
        let told = refused.err().expect("it is refused").to_string();
        assert!(matches!(
            refused_kind(&path),
            OpenError::JournalDamaged { .. }
        ));
        for part in [
            "0000000000000000.segment is damaged at byte",
            ", position ",
            "postrider restore",
        ] {
            assert!(told.contains(part), "{told}");
        }
    }
}

fn refused_kind(path: &Path) -> OpenError {
    let_go(path);
    open(path).0.err().expect("it is refused")
}

/// Of a store that was closed nothing is lost with the end of the journal: it goes on in a new file.
#[actix_web::test]
async fn after_a_clean_stop_no_damage_of_the_newest_file_refuses_a_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    let store = opened_with(&path, Clock::manual(NOW));
    register(&store).await;
    for _ in 0..3 {
        store.accept_message(message_to(vec![LANE])).await.unwrap();
    }
    store.close().unwrap();
    drop(store);
    let_go(&path);
    let segment = PartPlace {
        segment: 0,
        offset: 0,
        part: 0,
    };
    for at in (0..12_000).step_by(500) {
        let path = damaged(&path, &at.to_string(), segment, at);
        let (store, _) = open(&path);
        let store = store.unwrap_or_else(|error| panic!("byte {at}: {error}"));
        assert_eq!(store.waiting_count(), 3, "byte {at}");
        let accepted = store.accept_message(message_to(vec![LANE])).await.unwrap();
        store.close().unwrap();
        drop(store);
        let_go(&path);
        let (store, _) = open(&path);
        let store = store.unwrap_or_else(|error| panic!("byte {at}, again: {error}"));
        assert_eq!(store.waiting_count(), 4, "byte {at}");
        assert!(store.message(APPLICATION, accepted.id).unwrap().is_some());
        store.close().unwrap();
    }
}

#[test]
fn a_gap_reaches_from_the_newest_id_before_it_to_the_oldest_behind_it() {
    let at = |second: u64| Timestamp::from_seconds(1_700_000_000 + second);
    let key = |second| {
        let id = MessageId::first_at(at(second));
        layout::message_key(ApplicationId([1; 20]), id)
    };
    let lost = || JournalError::Removed { segment: 7 };
    let mut gaps = Gaps::between(at(0), at(100));
    gaps.note_lost(lost());
    for second in [20, 10] {
        gaps.note_key(&key(second));
    }
    gaps.record_ends();
    gaps.note_lost(lost());
    // A record that has no id.
    gaps.note_key(&[layout::ONCE; 33]);
    gaps.record_ends();
    gaps.note_lost(lost());
    gaps.note_key(&key(30));
    gaps.record_ends();
    gaps.note_key(&key(25));
    gaps.record_ends();
    gaps.note_lost(lost());
    let times = gaps.done().into_iter().map(|gap| (gap.from, gap.to));
    let expected = [(0, 10), (20, 30), (20, 30), (30, 100)];
    let mut expected = expected.map(|(from, to)| (at(from), at(to)));
    // Ids of the slice are earlier than its end, by a step of their time at least.
    expected[3].1 = expected[3].1.saturating_sub(Duration::from_millis(4));
    assert_eq!(times.collect::<Vec<_>>(), expected);
}
