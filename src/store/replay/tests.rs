//! Starts on journals that are behind, ahead, damaged, cut off, or of another copy of the store.

use super::*;
use crate::clock::Clock;
use crate::domain::id::MessageId;
use crate::domain::message::DeliveryKey;
use crate::journal::Reader;
use crate::store::layout::golden::rows::{APPLICATION, LANE, message};
use crate::store::open::open_files as open_store;
use crate::store::tests::{copy_directory, let_go, message_to, opened_with, register, tree};
use crate::store::{Store, StoreSettings, reset_owner};

const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// A store in which a message waits.
async fn with_a_message(path: &Path) -> (Store, DeliveryKey) {
    let store = opened_with(path, Clock::manual(NOW));
    register(&store).await;
    let message = store.accept_message(message_to(vec![LANE])).await.unwrap();
    let waits = DeliveryKey {
        lane: LANE,
        due: message.first_due(),
        message: message.id,
    };
    (store, waits)
}

fn settings_of(store: &Store) -> StoreSettings {
    store.inner.settings.clone()
}

/// Closes it; its files can be opened again when this returns.
fn close(store: Store) {
    store.close().unwrap();
    let path = store.inner.settings.path.clone();
    drop(store);
    let_go(&path);
}

fn segments(settings: &StoreSettings) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(settings.path.join("journal")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|end| end == "segment"))
        .collect()
}

#[actix_web::test]
async fn after_a_clean_stop_the_live_database_has_all_that_it_is_to_have() {
    let directory = tempfile::tempdir().unwrap();
    let (store, waits) = with_a_message(&directory.path().join("data")).await;
    let settings = settings_of(&store);
    close(store);
    let live = Engine::open(&settings.path.join("live"), 1 << 20).unwrap();
    let meta = layout::get::<Meta>(&live, &[layout::META]).unwrap();
    let meta = meta.unwrap().meta;
    assert_eq!((meta.format, meta.clean), (layout::FORMAT, true));
    assert!(live.get(&layout::waiting_key(&waits)).unwrap().is_some());
}

/// While a process runs, and after it was killed, a version without a journal would miss records.
#[actix_web::test]
async fn a_store_in_use_is_refused_by_the_version_before() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = with_a_message(&directory.path().join("data")).await;
    let crashed = directory.path().join("crashed");
    copy_directory(&store.inner.settings.path, &crashed);
    close(store);
    let live = Engine::open(&crashed.join("live"), 1 << 20).unwrap();
    let meta = layout::get::<Meta>(&live, &[layout::META]).unwrap();
    assert_eq!(meta.unwrap().meta.format, layout::FORMAT);
}

/// Its two databases were synced one after the other: the slice may be ahead.
#[actix_web::test]
async fn what_a_process_without_a_journal_left_half_written_never_happened() {
    let directory = tempfile::tempdir().unwrap();
    let (store, waits) = with_a_message(&directory.path().join("data")).await;
    let settings = settings_of(&store);
    close(store);
    let half = MessageId::first_at(NOW + std::time::Duration::from_secs(1));
    {
        let files = open_store(&settings, &Clock::manual(NOW)).unwrap();
        let mut meta = files.meta.clone();
        meta.clean = false;
        let mut changes = Changes::default();
        layout::replace(&files.live, &mut changes, &[layout::META], &meta).unwrap();
        files.live.commit(changes).unwrap();
        let slice = slices::path_in(&settings.path.join("slices"), 1);
        let slice = Engine::open(&slice, 1 << 20).unwrap();
        let record = layout::MessageMeta {
            commit: meta.commit + 1,
            accepted_at: half.time(),
            ..message()
        };
        let mut changes = Changes::default();
        let key = layout::message_key(APPLICATION, half);
        layout::put(&mut changes, &key, &record, b"{}");
        slice.commit(changes).unwrap();
    }
    let_go(&settings.path);
    let store = opened_with(&settings.path, Clock::manual(NOW));
    for _ in 0..3 {
        store.accept_message(message_to(vec![LANE])).await.unwrap();
    }
    assert!(store.message(APPLICATION, half).unwrap().is_none());
    assert!(store.message(APPLICATION, waits.message).unwrap().is_some());
    close(store);
}

/// The newest segment, and where its last record begins.
fn end_of_journal(settings: &StoreSettings) -> (std::path::PathBuf, usize) {
    let path = settings.path.join("journal");
    let reader = Reader::at_rest(Arc::new(Disk::new(path.clone()))).unwrap();
    let newest = reader.segments().pop().unwrap();
    let mut records = reader.records(newest.begin.position).unwrap();
    let mut last = None;
    while let Ok(Some(record)) = records.next_record() {
        last = Some(record.offset as usize);
    }
    (path.join(&newest.name), last.expect("it has a record"))
}

fn flip(file: &Path, at: usize) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[at] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

/// The data directory of a server that was killed after it had accepted a message.
async fn killed(settings: &StoreSettings, directory: &Path) -> StoreSettings {
    let path = directory.join("killed");
    let store = opened_with(&settings.path, Clock::manual(NOW));
    store.accept_message(message_to(vec![LANE])).await.unwrap();
    copy_directory(&settings.path, &path);
    close(store);
    StoreSettings {
        path,
        ..settings.clone()
    }
}

/// The data directory after a command that has changed something.
fn commanded(settings: &StoreSettings, directory: &Path) -> StoreSettings {
    let path = directory.join("commanded");
    copy_directory(&settings.path, &path);
    let settings = StoreSettings {
        path,
        ..settings.clone()
    };
    reset_owner(&settings, &Clock::manual(NOW)).unwrap();
    let_go(&settings.path);
    settings
}

/// `live` says that the store was closed at its position, which was so when it was copied.
#[actix_web::test]
async fn a_live_database_from_before_the_last_use_hides_no_damage_of_the_journal() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = with_a_message(&directory.path().join("data")).await;
    let settings = settings_of(&store);
    close(store);
    let older = directory.path().join("older");
    copy_directory(&settings.path.join("live"), &older);
    let bring_back = |settings: &StoreSettings| {
        let live = settings.path.join("live");
        std::fs::remove_dir_all(&live).unwrap();
        copy_directory(&older, &live);
    };
    let commanded = commanded(&settings, directory.path());
    let killed = killed(&settings, directory.path()).await;
    for (used, waiting) in [(&commanded, 1), (&killed, 2)] {
        bring_back(used);
        let whole = directory.path().join("whole");
        copy_directory(&used.path, &whole);
        let store = opened_with(&whole, Clock::manual(NOW));
        assert_eq!(store.waiting_count(), waiting);
        close(store);
        std::fs::remove_dir_all(&whole).unwrap();

        let (newest, _) = end_of_journal(used);
        flip(&newest, 20);
        let refused = open_again(used);
        let name = newest.file_name().unwrap().to_str().unwrap();
        let expected = format!("{name} is damaged at byte 0");
        assert!(refused.contains(&expected), "{refused}");
        flip(&newest, 20);
        bring_back(used);
    }
    // The record of the command is the last, and would be taken for a write that the power cut off.
    let (newest, last) = end_of_journal(&commanded);
    flip(&newest, last + 100);
    let refused = open_again(&commanded);
    let position = checkpoint_file::applied(&commanded.path).unwrap().position;
    let expected = format!("gap at position {position}");
    assert!(refused.contains(&expected), "{refused}");
}

#[test]
fn what_is_cut_off_is_told_with_file_position_and_bytes_unless_the_store_was_closed() {
    let cut_off = CutOff {
        file: "7.segment".to_owned(),
        offset: 4096,
        position: 12,
    };
    let opened = Opened {
        zeroed_bytes: 345,
        cut_off: Some(cut_off),
        ..Opened::default()
    };
    let path = Path::new("data/journal");
    let told = told_of_cut_off(path, &opened, false).unwrap();
    let begin = "data/journal/7.segment: 345 bytes behind the last record, from byte 4096 on";
    assert!(
        told.starts_with(begin) && told.contains("position 12"),
        "{told}"
    );
    assert_eq!(told_of_cut_off(path, &opened, true), None);
    assert_eq!(told_of_cut_off(path, &Opened::default(), false), None);
}

/// History is in them, however cleanly the store was closed.
#[actix_web::test]
async fn a_journal_without_its_segments_is_missed() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = with_a_message(&directory.path().join("data")).await;
    let settings = settings_of(&store);
    close(store);
    for path in segments(&settings) {
        std::fs::remove_file(path).unwrap();
    }
    // Nor is it taken for one of the version before, of which it has a slice, and nothing is changed.
    let slice = slices::path_in(&settings.path.join("slices"), 9);
    for has_database in [false, true] {
        if has_database {
            std::fs::create_dir_all(&slice).unwrap();
            std::fs::write(slice.join("db"), b"of then").unwrap();
        }
        for migrate in [false, true] {
            let settings = StoreSettings {
                migrate,
                ..settings.clone()
            };
            let live = tree(&settings.path.join("live"));
            let refused = open_store(&settings, &Clock::manual(NOW)).err();
            let refused = refused.expect("it is refused").to_string();
            assert!(refused.contains("segments are missing"), "{refused}");
            assert!(live == tree(&settings.path.join("live")));
        }
    }
    std::fs::remove_dir_all(slice).unwrap();

    // Of the version before, the databases had it all.
    make_old(&settings, 1);
    let store = opened_with(&settings.path, Clock::manual(NOW));
    assert_eq!(store.waiting_count(), 1);
    store.accept_message(message_to(vec![LANE])).await.unwrap();
    close(store);
    let store = opened_with(&settings.path, Clock::manual(NOW));
    assert_eq!(store.waiting_count(), 2);
    close(store);
}

/// Makes of a store that was closed one of which history is in databases, with a slice of this number.
fn make_old(settings: &StoreSettings, slice: u32) {
    for name in [checkpoint_file::APPLIED_NAME, checkpoint_file::FILE_NAME] {
        let _ = std::fs::remove_file(settings.path.join(name));
    }
    let live = Engine::open(&settings.path.join("live"), 1 << 20).unwrap();
    let meta = layout::get::<Meta>(&live, &[layout::META]).unwrap();
    let mut meta = meta.unwrap().meta;
    meta.format = layout::FORMAT_OF_SLICES;
    meta.slice = Default::default();
    let record = layout::SliceRecord::beginning(NOW, None);
    let mut changes = Changes::default();
    layout::delete(&live, &mut changes, &layout::slice_key(1)).unwrap();
    layout::put(&mut changes, &layout::slice_key(slice), &record, &[]);
    layout::replace(&live, &mut changes, &[layout::META], &meta).unwrap();
    live.commit(changes).unwrap();
    drop(live);
    let_go(&settings.path);
}

/// As soon as sled's threads have let go of its files.
fn open_again(settings: &StoreSettings) -> String {
    let_go(&settings.path);
    let opened = open_store(settings, &Clock::manual(NOW));
    opened.err().expect("it is refused").to_string()
}

/// All files are whole, and of one stream: only the chain tells.
#[actix_web::test]
async fn a_live_database_of_a_copy_that_went_on_by_itself_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = with_a_message(&directory.path().join("data")).await;
    let settings = settings_of(&store);
    close(store);
    let copy = directory.path().join("copy");
    copy_directory(&settings.path, &copy);
    let go_on = async |path: &Path, messages: usize| {
        let store = opened_with(path, Clock::manual(NOW));
        for _ in 0..messages {
            store.accept_message(message_to(vec![LANE])).await.unwrap();
        }
        close(store);
    };
    go_on(&copy, 1).await;
    // As far as the copy, and farther.
    for messages in [1, 3] {
        let used = directory.path().join(format!("used-{messages}"));
        copy_directory(&settings.path, &used);
        go_on(&used, messages).await;
        std::fs::remove_dir_all(used.join("live")).unwrap();
        copy_directory(&copy.join("live"), &used.join("live"));
        let refused = open_again(&StoreSettings {
            path: used,
            ..settings.clone()
        });
        assert!(refused.contains("different copies"), "{refused}");
    }
}

#[actix_web::test]
async fn segments_of_another_copy_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = with_a_message(&directory.path().join("data")).await;
    let settings = settings_of(&store);
    close(store);
    let mut changes = Changes::default();
    changes.delete(&[layout::CHECKPOINT]);
    let live = Engine::open(&settings.path.join("live"), 1 << 20).unwrap();
    live.commit(changes).unwrap();
    drop(live);
    let refused = open_again(&settings);
    assert!(refused.contains("another copy of this store"), "{refused}");
}

/// The record of a commit that changed a database of history, and whose changes of the live database
/// are these.
fn append_change(settings: &StoreSettings, slice: u32, live: &Changes) {
    let mut files = open_store(settings, &Clock::manual(NOW)).unwrap();
    let mut history = Changes::default();
    history.put(b"M", vec![1]);
    let mut content = Vec::new();
    let databases = [(slice, &history)].into_iter();
    effects::encode(databases, live, &[], [].into_iter(), &mut content);
    let draft = crate::journal::RecordDraft {
        effects: &content,
        ..Default::default()
    };
    files.journal.append(&draft, &[]).unwrap();
    drop(files);
    let_go(&settings.path);
}

#[actix_web::test]
async fn a_slice_whose_files_are_missing_is_told_and_not_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = with_a_message(&directory.path().join("data")).await;
    let settings = settings_of(&store);
    close(store);
    make_old(&settings, 7);
    append_change(&settings, 7, &Changes::default());
    let refused = open_again(&settings);
    assert!(
        refused.contains("files of this slice are missing"),
        "{refused}"
    );
    assert!(!slices::path_in(&settings.path.join("slices"), 7).exists());
}

/// Its files may be gone, or half gone.
#[actix_web::test]
async fn what_comes_before_the_end_of_a_slice_is_not_applied_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let (store, waits) = with_a_message(&directory.path().join("data")).await;
    let settings = settings_of(&store);
    close(store);
    let mut live = Changes::default();
    live.delete(&layout::slice_key(7));
    append_change(&settings, 7, &live);
    let store = opened_with(&settings.path, Clock::manual(NOW));
    assert!(!slices::path_in(&settings.path.join("slices"), 7).exists());
    assert!(store.message(APPLICATION, waits.message).unwrap().is_some());
    close(store);
}
