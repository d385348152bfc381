//! The store as a whole, and what tests of its parts share.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::oneshot;

use super::queue::Command;
use super::*;
use crate::clock::Timestamp;
use crate::domain::id::MessageId;
use crate::domain::message::{DeliveryKey, Origin};
use crate::rules::decision::Planned;

pub(in crate::store) fn settings(path: &Path) -> StoreSettings {
    let mut config = crate::config::load(None, Default::default()).unwrap();
    config.store.path = path.to_owned();
    config.store.min_free_bytes = 1;
    StoreSettings {
        migrate: true,
        is_being_restored: false,
        ..StoreSettings::from_config(&config)
    }
}

fn opened(path: &Path) -> Store {
    opened_with(path, Clock::System)
}

pub(in crate::store) fn opened_with(path: &Path, clock: Clock) -> Store {
    Store::open(settings(path), clock, Arc::new(Metrics::new())).unwrap()
}

/// Waits until sled's threads have let go of a store's files: they can be opened again.
pub(in crate::store) fn let_go(path: &Path) {
    let live = path.join("live");
    drop(engine::Engine::open(&live, 1 << 20).unwrap());
}

/// Copies the files of a store on which nothing is being written.
pub(in crate::store) fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_directory(&entry.path(), &to),
            false => match std::fs::copy(entry.path(), to) {
                // A file that was replaced, or made ready for the journal under another name, just now.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                copied => drop(copied.unwrap()),
            },
        }
    }
}

/// Overwrites what the journal of a store has, but for the headers of its files.
pub(in crate::store) fn damage_segments(path: &Path) {
    use std::os::unix::fs::FileExt;
    for entry in std::fs::read_dir(path.join("journal")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "segment") {
            let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all_at(&[0xaa; 4096], 4096).unwrap();
        }
    }
}

/// Flips a bit in the head of the record at this position.
pub(in crate::store) fn damage_record(path: &Path, position: u64) {
    use crate::journal::{Disk, Reader};
    let journal = path.join("journal");
    let reader = Reader::at_rest(Arc::new(Disk::new(journal.clone()))).unwrap();
    let mut records = reader.records(position).unwrap();
    let record = records.next_record().unwrap().expect("it is there");
    let segments = reader.segments().into_iter();
    let mut segment = segments.filter(|one| one.number == record.segment);
    let file = journal.join(&segment.next().unwrap().name);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[record.offset as usize + 30] ^= 1;
    std::fs::write(&file, bytes).unwrap();
}

/// With the application and the endpoint of the golden rows.
pub(in crate::store) async fn register(store: &Store) {
    use layout::golden::rows;
    let registered = |_: &Catalog| {
        let changes = vec![
            Change::PutApplication(rows::application()),
            Change::PutEndpoint(rows::endpoint()),
        ];
        Ok((changes, ()))
    };
    store.change(Planned(registered)).await.unwrap();
}

#[test]
fn a_slice_that_cannot_be_opened_for_want_of_descriptors_is_not_damaged() {
    let of = |code| {
        Error::from(engine::EngineError::Io(std::io::Error::from_raw_os_error(
            code,
        )))
    };
    assert!(matches!(of(libc::EMFILE), Error::Unavailable { .. }));
    assert!(matches!(of(libc::EIO), Error::Unreadable { .. }));
}

#[actix_web::test]
async fn a_decision_that_panics_harms_nobody_else() {
    fn panics(_: &Catalog) -> Result<(Vec<Change>, ())> {
        panic!("on purpose")
    }
    fn not_reached() -> Answered {
        panic!("there is nothing to show")
    }
    let directory = tempfile::tempdir().unwrap();
    let store = opened(&directory.path().join("data"));
    let once = Once {
        key: [1; 32],
        body: [2; 32],
    };
    let decided = store
        .change_once(Planned(panics), once, |()| not_reached())
        .await;
    assert!(matches!(decided, Err(Error::Defect)), "{decided:?}");
    let decided = store.change(Planned(panics)).await;
    assert!(matches!(decided, Err(Error::Defect)), "{decided:?}");
    let nothing = |_: &Catalog| Ok((Vec::new(), 7));
    let shown = |_: i32| -> Answered { panic!("on purpose") };
    let decided = store.change_once(Planned(nothing), once, shown).await;
    assert!(matches!(decided, Err(Error::Defect)), "{decided:?}");
    assert_eq!(store.change(Planned(nothing)).await.unwrap(), 7);
    assert_eq!(store.health(), Ok(()));
    store.close().unwrap();
}

#[actix_web::test]
async fn a_panic_of_the_committer_is_said_and_all_who_wait_are_answered() {
    let directory = tempfile::tempdir().unwrap();
    let store = opened(&directory.path().join("data"));
    store
        .offer(Command::Change {
            decide: Box::new(|_| Some((Vec::new(), Box::new(|_| panic!("on purpose"))))),
        })
        .unwrap();
    // In the queue with it or behind it, before it is known or after.
    for _ in 0..3 {
        let answer = store
            .change(Planned(|_: &Catalog| Ok((Vec::new(), ()))))
            .await;
        assert!(matches!(answer, Err(Error::Storage(_))), "{answer:?}");
    }
    let fault = store.failed().await.to_string();
    assert!(fault.contains("store-committer panicked"), "{fault}");
    let committer = || {
        let threads = store.threads().list().into_iter();
        let mut named = threads.filter(|thread| thread.name == "store-committer");
        named.next().expect("it is listed")
    };
    let error = committer().last_error.expect("it is its error, too");
    assert_eq!(error.message, fault);
    assert_eq!(store.health(), Err(fault.clone()));
    let answer = store
        .change(Planned(|_: &Catalog| Ok((Vec::new(), ()))))
        .await;
    assert!(matches!(answer, Err(Error::Storage(_))), "{answer:?}");
    assert_eq!(store.close(), Err(fault));
    assert_eq!(committer().state, watched::State::Ended);
}

/// The committer drops a batch that fails before it can say why.
#[actix_web::test]
async fn who_waits_in_a_batch_that_fails_is_told_why() {
    let directory = tempfile::tempdir().unwrap();
    let store = opened(&directory.path().join("data"));
    let (dropped, answer) = oneshot::channel::<Result<()>>();
    drop(dropped);
    let fails = async {
        let reason = "on purpose".to_owned();
        store.inner.fail(Fault::Storage(reason));
    };
    let (answered, ()) = tokio::join!(store.answered(answer), fails);
    let told = answered.unwrap_err().to_string();
    assert!(told.contains("on purpose"), "{told}");
    assert!(store.close().is_err());
}

/// Whoever holds the catalog may ask for room, also where room is scarce and while the committer
/// waits to write.
#[test]
fn room_is_told_while_the_catalog_is_held_and_the_committer_waits_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = settings(&directory.path().join("data"));
    (settings.waiting_max, settings.held_max) = (0, 0);
    let store = Store::open(settings, Clock::System, Arc::new(Metrics::new())).unwrap();
    let (told, answer) = std::sync::mpsc::channel();
    let asking = store.clone();
    std::thread::spawn(move || {
        let catalog = asking.catalog();
        let writing = asking.clone();
        let writer = std::thread::spawn(move || drop(writing.inner.catalog.write()));
        // It waits: nobody else is let in.
        while asking.inner.catalog.try_read().is_ok() {
            std::thread::yield_now();
        }
        let room = asking.has_room(&layout::golden::rows::endpoint(), 1);
        drop(catalog);
        writer.join().unwrap();
        told.send(room)
    });
    let room = answer.recv_timeout(Duration::from_secs(20));
    let room = room.expect("an answer, since it waits for nobody");
    assert!(matches!(room, Err(Error::TooMany(_))), "{room:?}");
    store.close().unwrap();
}

pub(in crate::store) fn message_to(lanes: Vec<u64>) -> NewMessage {
    NewMessage {
        organisation: layout::golden::rows::ORGANISATION,
        application: layout::golden::rows::APPLICATION,
        event_type: "a".to_owned(),
        event_id: None,
        channels: Vec::new(),
        payload: "{}".into(),
        is_raw: false,
        content_type: None,
        lanes,
        matched_as_of: None,
        once: None,
        origin: Origin::Published,
        tags: Vec::new(),
        deliver_at: None,
        expires_at: None,
        metadata: BTreeMap::new(),
        headers: BTreeMap::new(),
    }
}

#[actix_web::test]
async fn an_answer_that_cannot_be_made_harms_nobody_else_and_publishes_nothing_twice() {
    let directory = tempfile::tempdir().unwrap();
    let store = opened(&directory.path().join("data"));
    register(&store).await;
    let once = Once {
        key: [1; 32],
        body: [2; 32],
    };
    for _ in 0..2 {
        let show: batch::Show = Box::new(|_| panic!("on purpose"));
        let batch = NewBatch::new(vec![message_to(Vec::new())], Some(once), show);
        let (BatchAnswer::Accepted(answered) | BatchAnswer::Earlier(answered)) =
            store.accept_batch(batch).await.unwrap();
        assert_eq!(answered.status, 500);
        serde_json::from_slice::<serde_json::Value>(&answered.body).unwrap();
    }
    assert_eq!(store.health(), Ok(()));
    assert_eq!(store.inner.metrics.accepted.get(), 1);
    store.close().unwrap();
}

/// What is put back into the queue while the keeper is about to drop its slice is not lost.
#[actix_web::test]
async fn a_slice_in_which_something_waits_again_is_not_dropped() {
    use layout::golden::rows;
    let directory = tempfile::tempdir().unwrap();
    let store = opened(&directory.path().join("data"));
    register(&store).await;
    let message = store.accept_message(message_to(vec![rows::LANE])).await;
    let message = message.unwrap();
    let drop_slice = async |number| {
        let (answer, dropped) = oneshot::channel();
        store.offer(Command::DropSlice { number, answer }).unwrap();
        dropped.await.unwrap()
    };
    let refused = drop_slice(1).await;
    assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
    let waits = DeliveryKey {
        lane: rows::LANE,
        due: message.first_due(),
        message: message.id,
    };
    let (answer, taken) = oneshot::channel();
    let deliveries = vec![waits];
    store.offer(Command::Cancel { deliveries, answer }).unwrap();
    taken.await.unwrap().unwrap();
    assert_eq!(
        drop_slice(1).await.map_err(|error| error.to_string()),
        Ok(())
    );
    store.close().unwrap();
}

#[test]
fn a_damaged_key_in_the_queue_hides_no_lane_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = opened(&directory.path().join("data"));
    let mut changes = engine::Changes::default();
    let key = |lane| DeliveryKey {
        lane,
        due: Timestamp(5),
        message: layout::golden::rows::MESSAGE_ID,
    };
    for lane in [1, 3] {
        changes.put(&layout::waiting_key(&key(lane)), Vec::new());
    }
    let damaged = [&layout::lane_prefix(2)[..], &[1, 2]].concat();
    changes.put(&damaged, Vec::new());
    store.inner.live.engine().commit(changes).unwrap();
    let due = Timestamp(5);
    assert_eq!(store.lane_heads().unwrap(), [(1, due), (3, due)]);
    store.close().unwrap();
}

/// Once it is taken over, the version before cannot open it.
#[test]
fn a_store_of_the_version_before_is_taken_over_only_where_that_is_allowed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    let format = |format: Option<u32>| {
        let_go(&path);
        let live = engine::Engine::open(&path.join("live"), 1 << 20).unwrap();
        let meta = layout::get::<Meta>(&live, &[layout::META]).unwrap();
        let mut meta = meta.unwrap().meta;
        if let Some(format) = format {
            meta.format = format;
            let mut changes = engine::Changes::default();
            layout::replace(&live, &mut changes, &[layout::META], &meta).unwrap();
            live.commit(changes).unwrap();
        }
        drop(live);
        let_go(&path);
        meta.format
    };
    opened(&path).close().unwrap();
    let allowed = settings(&path);
    let not_allowed = StoreSettings {
        migrate: false,
        ..settings(&path)
    };
    let open = |settings: &StoreSettings| {
        let opened = Store::open(settings.clone(), Clock::System, Arc::new(Metrics::new()));
        opened.map(|store| store.close().unwrap())
    };
    for older in [1, 2] {
        format(Some(older));
        let refused = open(&not_allowed).unwrap_err().to_string();
        assert!(refused.contains("--migrate"), "{refused}");
        assert_eq!(format(None), older);
        assert!(migrate(&not_allowed, &Clock::System).unwrap());
        assert_eq!(format(None), layout::FORMAT);
        assert!(!migrate(&not_allowed, &Clock::System).unwrap());
        let_go(&path);
        open(&not_allowed).unwrap();
        format(Some(older));
        open(&allowed).unwrap();
        assert_eq!(format(None), layout::FORMAT);
    }
}

/// The files of a directory with their bytes and modes.
pub(in crate::store) fn tree(path: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(tree(&entry.path())),
            false => {
                let bytes = std::fs::read(entry.path()).unwrap();
                found.insert(entry.path(), (mode, bytes));
            }
        }
    }
    found
}

/// Commits that the store has this format.
fn append_format(files: &mut open::Files, format: u32) -> crate::journal::Appended {
    files.meta.format = format;
    let mut changes = engine::Changes::default();
    layout::replace(&files.live, &mut changes, &[layout::META], &files.meta).unwrap();
    let mut content = Vec::new();
    let (none, no_counts) = ([].into_iter(), [].into_iter());
    effects::encode(none, &changes, &[], no_counts, &mut content);
    files.live.commit(changes).unwrap();
    let draft = crate::journal::RecordDraft {
        effects: &content,
        ..Default::default()
    };
    files.journal.append(&draft, &[]).unwrap()
}

/// As in the segment in which a store of before was taken over.
#[actix_web::test]
async fn a_damaged_record_of_the_version_before_hides_no_later_format() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    let store = opened(&path);
    store.close().unwrap();
    drop(store);
    let_go(&path);
    let mut files = open::open_files(&settings(&path), &Clock::System).unwrap();
    files.journal.begin_segment().unwrap();
    let positions = [2, 2, layout::FORMAT].map(|format| append_format(&mut files, format).position);
    drop(files);
    let_go(&path);
    // The newest segment alone, and in it the record in the middle is damaged.
    let journal = path.join("journal");
    let mut segments: Vec<PathBuf> = tree(&journal).into_keys().collect();
    segments.retain(|path| path.extension() == Some("segment".as_ref()));
    segments.pop();
    for older in segments {
        std::fs::remove_file(older).unwrap();
    }
    damage_record(&path, positions[1]);
    assert_eq!(format::by_journal(&journal), Some(layout::FORMAT));
}

/// Its version can go on with it, as it was.
#[actix_web::test]
async fn a_store_of_an_older_version_that_was_killed_is_refused_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    let store = opened(&path);
    register(&store).await;
    store.close().unwrap();
    drop(store);
    let_go(&path);
    // Its last commit is in the journal alone.
    let mut files = open::open_files(&settings(&path), &Clock::System).unwrap();
    files.meta.clean = false;
    files.meta.commit += 1;
    files.journal.begin_segment().unwrap();
    append_format(&mut files, 2);
    drop(files);
    let_go(&path);
    assert_eq!(format::by_journal(&path.join("journal")), Some(2));
    // A mode that a start would change, too.
    let token = path.join("owner.token");
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();

    let before = tree(&path);
    let not_allowed = StoreSettings {
        migrate: false,
        ..settings(&path)
    };
    let opened = Store::open(not_allowed.clone(), Clock::System, Arc::new(Metrics::new()));
    let refused = opened.err().expect("it is refused").to_string();
    assert!(refused.contains("--migrate"), "{refused}");
    let refused = verify(&not_allowed, &Clock::System, &mut |_| {})
        .unwrap_err()
        .to_string();
    assert!(refused.contains("--migrate"), "{refused}");
    let after = tree(&path);
    let changed = before
        .iter()
        .filter(|(path, file)| after.get(*path) != Some(file));
    let changed = Vec::from_iter(changed.map(|(path, _)| path));
    assert!(
        changed.is_empty() && after.len() == before.len(),
        "{changed:?}"
    );

    assert!(migrate(&not_allowed, &Clock::System).unwrap());
    let_go(&path);
    self::opened(&path).close().unwrap();
}

/// Of a message that was delivered at once, one slice tells, however many came since.
#[actix_web::test]
async fn the_attempts_of_an_old_message_are_found_without_opening_what_cannot_have_any() {
    use crate::domain::attempt::{FailureKind, Outcome, SendFailure, Verdict};
    use crate::domain::profile::Method;
    use layout::golden::rows::{self, LANE};
    const SLICES: u32 = 8;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    let clock = Clock::manual(Timestamp(1_700_000_000_000));
    let store = opened_with(&path, clock.clone());
    register(&store).await;
    let attempt = async |delivery| {
        let failure = SendFailure {
            kind: FailureKind::NotSendable,
            detail: String::new(),
        };
        store.record_attempt(Finished {
            delivery,
            endpoint: Arc::new(rows::endpoint()),
            number: 1,
            outcome: Outcome::not_sent("http://a.test/", Method::Post, clock.now(), failure),
            verdict: Verdict::Delivered,
            test: false,
            event_id: None,
            signal: AttemptSignal::Neither,
            event_type: None,
        });
        let nothing = |_: &Catalog| Ok((Vec::new(), ()));
        store.change(Planned(nothing)).await.unwrap();
    };
    let mut ids = Vec::new();
    for number in 1..=SLICES {
        if number > 1 {
            let age = store.inner.settings.slice_age + Duration::from_secs(1);
            clock.advance_to(clock.now() + age);
        }
        ids.push(store.accept_message(message_to(vec![LANE])).await.unwrap());
        attempt(store.waiting(LANE, None, 1).unwrap()[0]).await;
        if number == 5 {
            // The second message is sent again then.
            let endpoint = Arc::new(rows::endpoint());
            store.resend(ids[1].clone(), endpoint, None).await.unwrap();
            attempt(store.waiting(LANE, None, 1).unwrap()[0]).await;
        }
    }
    assert_eq!(store.slices().len(), SLICES as usize);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !store.filters_are_ready() {
        assert!(Instant::now() < deadline, "the indexes are not made");
        std::thread::yield_now();
    }
    store.close().unwrap();
    drop(store);
    let_go(&path);

    let attempts = |store: &Store, message: MessageId| {
        let window = Window {
            limit: 10,
            bytes: usize::MAX,
            newest_first: true,
            behind: None,
            before: None,
            after: None,
        };
        let found = store.attempts_of_message(message, &window, &mut |_| true);
        found.unwrap().items.len()
    };
    // With the slices in which there are attempts of it, or of an older one.
    for (message, found, opened) in [(0, 1, 1), (1, 2, 2), (3, 1, 2), (6, 1, 1)] {
        let metrics = Arc::new(Metrics::new());
        let store = Store::open(settings(&path), clock.clone(), metrics.clone()).unwrap();
        let before = metrics.slices_opened.get();
        assert_eq!(attempts(&store, ids[message].id), found, "{message}");
        let endpoint = Arc::new(rows::endpoint());
        let state = store.delivery(&ids[message], &endpoint).unwrap();
        assert!(state.is_some_and(|state| state.last.is_some()), "{message}");
        assert_eq!(metrics.slices_opened.get() - before, opened, "{message}");
        store.close().unwrap();
        drop(store);
        let_go(&path);
    }
}
