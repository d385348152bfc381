//! Erasing in one store, without its API.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::applications::Walk;
use super::*;
use crate::catalog::Change;
use crate::clock::{Clock, Timestamp};
use crate::domain::attempt::{Answer, Attempt, Outcome, Timings, Trigger, Verdict};
use crate::domain::message::{Delivery, DeliveryKey, Message};
use crate::domain::profile::Method;
use crate::journal::PartPlace;
use crate::rules::decision::Planned;
use crate::store::layout::Erasure;
use crate::store::layout::golden::rows::{self, LANE};
use crate::store::slice::{AttemptFound, FoundItem};
use crate::store::tests::{
    copy_directory, damage_record, damage_segments, message_to, opened_with, register, settings,
};
use crate::store::{AttemptSignal, Finished, NewMessage};
use crate::telemetry::Metrics;

const START: Timestamp = Timestamp(1_700_000_000_000);

/// A second application, with an endpoint.
const OTHER: ApplicationId = ApplicationId([12; 20]);
const OTHER_LANE: u64 = 8;

struct Fixture {
    directory: tempfile::TempDir,
    clock: Clock,
    store: Store,
}

impl Fixture {
    async fn new() -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::manual(START);
        let store = opened_with(&directory.path().join("data"), clock.clone());
        register(&store).await;
        let other = |_: &Catalog| {
            let mut application = rows::application();
            (application.id, application.uid) = (OTHER, None);
            let mut endpoint = rows::endpoint();
            endpoint.id.0 = [13; 20];
            (endpoint.application, endpoint.number, endpoint.uid) = (OTHER, OTHER_LANE, None);
            let changes = [
                Change::PutApplication(application),
                Change::PutEndpoint(endpoint),
            ];
            Ok((changes.into(), ()))
        };
        store.change(Planned(other)).await.unwrap();
        Fixture {
            directory,
            clock,
            store,
        }
    }

    fn path(&self) -> &Path {
        &self.store.inner.settings.path
    }

    fn later(&self, seconds: u64) {
        let at = self.clock.now() + Duration::from_secs(seconds);
        self.clock.advance_to(at);
    }

    /// Of one of the two applications.
    async fn publish(&self, lane: u64) -> Arc<Message> {
        let application = if lane == LANE {
            rows::APPLICATION
        } else {
            OTHER
        };
        let message = NewMessage {
            application,
            ..message_to(Vec::new())
        };
        self.store.accept_message(message).await.unwrap()
    }

    /// Logs an attempt for a message, whether it waits or not.
    fn log(&self, message: &Message, lane: u64) {
        let endpoint = self.store.catalog().endpoint_by_number(lane).cloned();
        let now = self.clock.now();
        let answer = Answer {
            status: 500,
            headers: vec![("x".to_owned(), "answered".to_owned())],
            body: b"answered".to_vec(),
            truncated: false,
        };
        let outcome = Outcome {
            started_at: now,
            timings: Timings::default(),
            url: "https://a.test/".to_owned(),
            method: Method::Post,
            request_headers: Vec::new(),
            answer: Some(answer),
            failure: None,
            sent_again: false,
            is_final: false,
        };
        self.store.record_attempt(Finished {
            delivery: Delivery {
                key: DeliveryKey {
                    lane,
                    due: now,
                    message: message.id,
                },
                attempts: 0,
                trigger: Trigger::Scheduled,
            },
            endpoint: endpoint.expect("it is registered"),
            number: 1,
            outcome,
            verdict: Verdict::GiveUp,
            test: false,
            event_id: None,
            signal: AttemptSignal::Neither,
            event_type: None,
        });
    }

    /// Nothing of what was handed to the committer is left to do.
    async fn settle(&self) {
        let nothing = |_: &Catalog| Ok((Vec::new(), ()));
        self.store.change(Planned(nothing)).await.unwrap();
    }

    async fn delete_application(&self) {
        let delete = |_: &Catalog| Ok((vec![Change::DeleteApplication(rows::APPLICATION)], ()));
        self.store.change(Planned(delete)).await.unwrap();
    }
}

/// Waits for what the store's threads do beside the test.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::task::yield_now().await;
    }
}

fn attempts_of(store: &Store, message: &Message) -> Vec<Attempt> {
    let window = crate::store::Window {
        limit: 1_000,
        bytes: usize::MAX,
        newest_first: false,
        behind: None,
        before: None,
        after: None,
    };
    let read = store.attempts_of_message(message.id, &window, &mut |_| true);
    read.unwrap().items
}

fn is_erased(attempt: &Attempt) -> bool {
    let answer = attempt.answer.as_ref().expect("there was one");
    let is_erased = attempt.url == "EXPUNGED";
    assert_eq!(answer.body == b"EXPUNGED", is_erased);
    assert_eq!(answer.headers.is_empty(), is_erased);
    is_erased
}

#[actix_web::test]
async fn an_old_slice_is_opened_while_the_committer_is_busy_with_something_else() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Clock::manual(Timestamp(1_700_000_000_000));
    let store = opened_with(&directory.path().join("data"), clock.clone());
    register(&store).await;
    let old = store.accept_message(message_to(vec![LANE])).await.unwrap();
    clock.advance_to(clock.now() + store.inner.settings.slice_age + Duration::from_secs(1));
    store.accept_message(message_to(vec![LANE])).await.unwrap();
    let is_open = || store.inner.slices.is_open(1);
    let deadline = Instant::now() + Duration::from_secs(20);
    // What noted its keys may still hold it.
    while is_open() {
        assert!(Instant::now() < deadline, "it is not closed");
        store.inner.slices.close_unused(0, Duration::ZERO);
    }
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (began, begins) = oneshot::channel();
    let decide = Box::new(move |_: Result<(&Catalog, _)>| {
        let _ = began.send(());
        let _ = wait.recv();
        None
    });
    store.offer(Command::Change { decide }).unwrap();
    begins.await.unwrap();
    let (expunging, id) = (store.clone(), old.id);
    let expunged =
        actix_web::rt::spawn(async move { expunging.expunge_payload(rows::APPLICATION, id).await });
    while !is_open() {
        assert!(Instant::now() < deadline, "it waits for the committer");
        tokio::task::yield_now().await;
    }
    go.send(()).unwrap();
    expunged.await.unwrap().unwrap();
    let old = store.message(rows::APPLICATION, id).unwrap().unwrap();
    assert!(old.expunged && &old.payload[..] == b"{}");
    store.close().unwrap();
}

#[actix_web::test]
async fn what_went_with_its_slice_is_not_found_and_breaks_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Clock::manual(Timestamp(1_700_000_000_000));
    let store = opened_with(&directory.path().join("data"), clock.clone());
    register(&store).await;
    let old = store.accept_message(message_to(Vec::new())).await.unwrap();
    clock.advance_to(clock.now() + store.inner.settings.slice_age + Duration::from_secs(1));
    store.accept_message(message_to(Vec::new())).await.unwrap();
    let (what, content) = payload(&store.inner, rows::APPLICATION, old.id).unwrap();
    store.inner.slices.remove(1).unwrap();
    let (answer, answered) = oneshot::channel();
    let command = Command::Expunge {
        what,
        content,
        answer,
    };
    store.offer(command).unwrap();
    let answered = answered.await.unwrap();
    assert!(matches!(answered, Err(Error::NotFound(_))), "{answered:?}");
    assert_eq!(store.health(), Ok(()));
    store.close().unwrap();
}

#[actix_web::test]
async fn a_message_with_many_attempts_is_erased_in_many_commits() {
    let fixture = Fixture::new().await;
    let message = fixture.publish(LANE).await;
    for _ in 0..20 {
        fixture.log(&message, LANE);
        fixture.later(1);
    }
    fixture.settle().await;
    let (before, _) = fixture.store.written();
    let of = (rows::APPLICATION, message.id);
    fixture.store.expunge_payload(of.0, of.1).await.unwrap();
    let (after, _) = fixture.store.written();
    // The payload, and 2 parts of each attempt in commits of 7 or one more.
    assert_eq!(after - before, 1 + 20 * 2 / 8);
    let attempts = attempts_of(&fixture.store, &message);
    assert_eq!(attempts.len(), 20);
    assert!(attempts.iter().all(is_erased));
    fixture.store.close().unwrap();
}

/// Nobody was told that it is erased; it is when they ask again.
#[actix_web::test]
async fn a_crash_in_the_middle_of_many_commits_leaves_what_was_erased_erased() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let message = fixture.publish(LANE).await;
    for _ in 0..20 {
        fixture.log(&message, LANE);
    }
    fixture.settle().await;
    let application = rows::APPLICATION;
    let id = message.id;
    let find = move |inner: &Inner| payload(inner, application, id);
    store.expunge(find).await.unwrap();
    let Attempts {
        content, reached, ..
    } = attempts(&store.inner, message.id, None).unwrap();
    assert!(reached.is_some());
    let part = store.commit_expunged(Expunged::Attempts, content);
    part.await.unwrap();
    // An attempt that was under way has no content.
    fixture.log(&message, LANE);
    fixture.settle().await;
    let crashed = fixture.directory.path().join("crashed");
    copy_directory(fixture.path(), &crashed);
    store.close().unwrap();

    let store = opened_with(&crashed, fixture.clock.clone());
    let shown = store.message(application, message.id).unwrap().unwrap();
    assert!(shown.expunged);
    let erased: Vec<bool> = attempts_of(&store, &message)
        .iter()
        .map(is_erased)
        .collect();
    assert_eq!(erased.iter().filter(|erased| **erased).count(), 4 + 1);
    assert!(erased[20]);
    store
        .expunge_payload(application, message.id)
        .await
        .unwrap();
    assert!(attempts_of(&store, &message).iter().all(is_erased));
    store.close().unwrap();
}

/// The parts that are to be erased of an application, by looking at every message and every attempt.
fn all_parts(store: &Store, application: ApplicationId) -> BTreeSet<PartPlace> {
    let mut parts = BTreeSet::new();
    for number in store.slices() {
        let slice = store.inner.slice(number).unwrap().expect("it is kept");
        let part = |found: &FoundItem, behind: u16| {
            let FoundItem::Place(place) = found else {
                panic!("it is in the journal")
            };
            let part = place.part + behind;
            slice.part(super::super::index::Place { part, ..*place })
        };
        for item in slice.prefix(&layout::messages_prefix(application)) {
            parts.extend(part(&item.unwrap().1, 1));
        }
        for item in slice.prefix(&[layout::ATTEMPT_OF_MESSAGE]) {
            let (key, found) = item.unwrap();
            let found_attempt = AttemptFound::of(&key, &found).unwrap();
            let attempt = slice.attempt_of_message(&found_attempt).unwrap().unwrap();
            if attempt.application == application {
                parts.extend([1, 2].into_iter().filter_map(|behind| part(&found, behind)));
            }
        }
    }
    parts
}

/// Two applications' messages and attempts in a random order, over slices of which the oldest are gone.
#[actix_web::test]
async fn all_of_an_application_is_found_and_nothing_of_another() {
    for seed in 0..12 {
        let mut random = StdRng::seed_from_u64(seed);
        let fixture = Fixture::new().await;
        let store = &fixture.store;
        let slice_seconds = store.inner.settings.slice_age.as_secs();
        let share = random.random_range(0.05..0.95);
        let mut messages = Vec::new();
        for _ in 0..random.random_range(20..120) {
            let lane = if random.random_bool(share) {
                LANE
            } else {
                OTHER_LANE
            };
            messages.push((fixture.publish(lane).await, lane));
            for _ in 0..random.random_range(0..4) {
                let (message, lane) = &messages[random.random_range(0..messages.len())];
                fixture.log(message, *lane);
            }
            if random.random_bool(0.1) {
                fixture.later(slice_seconds + 1);
            }
        }
        fixture.settle().await;
        let slices = store.slices();
        // Not the oldest alone: one in which something waits stays.
        let dropped = random.random_range(0.0..1.0);
        for number in &slices[..slices.len() - 1] {
            if random.random_bool(dropped) {
                store.inner.slices.remove(*number).unwrap();
            }
        }
        let newest = slices.last().expect("there is one");
        let mut erasure = Erasure::new(START, *newest);
        let mut found = Vec::new();
        loop {
            let mut walk = Walk::new(&store.inner, rows::APPLICATION, erasure);
            let is_over = walk.run();
            assert_eq!(walk.erasure.left_out, 0, "SEED={seed}");
            erasure = walk.erasure.clone();
            let content = walk.finder.found();
            assert!(content.parts.len() <= 8, "SEED={seed}");
            found.extend(content.parts);
            if is_over {
                break;
            }
        }
        let count = found.len();
        let found: BTreeSet<PartPlace> = found.into_iter().collect();
        assert_eq!(found.len(), count, "SEED={seed}: something was found twice");
        assert_eq!(found, all_parts(store, rows::APPLICATION), "SEED={seed}");
        store.close().unwrap();
    }
}

#[actix_web::test]
async fn a_deleted_application_is_erased_beside_another_and_takes_nothing_in() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let (its, others) = (
        fixture.publish(LANE).await,
        fixture.publish(OTHER_LANE).await,
    );
    for _ in 0..20 {
        fixture.log(&its, LANE);
        fixture.log(&others, OTHER_LANE);
    }
    fixture.settle().await;
    fixture.delete_application().await;
    assert_eq!(store.erasures(), 1);
    assert_eq!(store.inner.metrics.erasures.get(), 1);
    // Whoever had named its endpoints before, as a test of one does.
    let refused = store.accept_message(message_to(vec![LANE])).await;
    assert!(matches!(refused, Err(Error::NotFound(_))), "{refused:?}");
    let crashed = fixture.directory.path().join("crashed");
    until("nothing is written meanwhile", || {
        let before = store.is_idle().then(|| store.written());
        let _ = std::fs::remove_dir_all(&crashed);
        copy_directory(fixture.path(), &crashed);
        store.is_idle() && Some(store.written()) == before
    })
    .await;
    let after_a_crash = opened_with(&crashed, fixture.clock.clone());
    for store in [store, &after_a_crash] {
        until("it is erased", || store.erasures() == 0).await;
        let metrics = &store.inner.metrics;
        until("the gauge follows", || metrics.erasures.get() == 0).await;
        let key = layout::erasure_key(rows::APPLICATION);
        assert!(!store.inner.live.contains(&key).unwrap());
        let shown = store.message(rows::APPLICATION, its.id).unwrap().unwrap();
        assert!(shown.expunged);
        let attempts = attempts_of(store, &its);
        assert_eq!(attempts.len(), 20);
        assert!(attempts.iter().all(is_erased));
        let shown = store.message(OTHER, others.id).unwrap().unwrap();
        assert!(!shown.expunged);
        assert!(!attempts_of(store, &others).iter().any(is_erased));
        store.close().unwrap();
    }
}

/// The first attempt is before the damage, and the second behind it.
#[actix_web::test]
async fn damage_keeps_nothing_else_of_a_message_from_being_erased() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let message = fixture.publish(LANE).await;
    fixture.later(1);
    fixture.log(&message, LANE);
    fixture.settle().await;
    fixture.later(1);
    fixture.publish(LANE).await;
    let lost_at = store.inner.slices.reader().next_position() - 1;
    fixture.later(1);
    fixture.log(&message, LANE);
    fixture.settle().await;
    let path = fixture.path().to_owned();
    store.close().unwrap();
    let damaged = fixture.directory.path().join("damaged");
    copy_directory(&path, &damaged);
    damage_record(&damaged, lost_at);

    let store = opened_with(&damaged, fixture.clock.clone());
    let kept = || {
        let slice = store.inner.slices.get(1).unwrap();
        let found = slice.readable_attempts_of_message(message.id, None);
        let attempts = found.map(|found| slice.attempt_of_message(&found.unwrap()));
        let attempts = Vec::from_iter(attempts.map(|attempt| attempt.unwrap().unwrap()));
        assert_eq!(attempts.len(), 2);
        attempts.iter().filter(|one| !is_erased(one)).count()
    };
    assert_eq!(kept(), 2);
    for _ in 0..2 {
        let erased = store.expunge_payload(rows::APPLICATION, message.id).await;
        assert!(
            matches!(erased, Err(Error::Unreadable { .. })),
            "{erased:?}"
        );
        assert_eq!(kept(), 0);
    }
    let shown = store.message(rows::APPLICATION, message.id).unwrap();
    assert!(shown.unwrap().expunged);
    store.close().unwrap();
}

/// The to-do stays, is begun again now and then, and ends with the slice.
#[actix_web::test]
async fn what_cannot_be_read_is_told_and_erased_once_retention_has_taken_it() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Clock::manual(START);
    let mut settings = settings(&directory.path().join("data"));
    settings.segment_bytes = 1 << 20;
    let store = Store::open(settings, clock.clone(), Arc::new(Metrics::new())).unwrap();
    register(&store).await;
    let fixture = Fixture {
        directory,
        clock,
        store,
    };
    let store = &fixture.store;
    // Each begins a file of the journal.
    for _ in 0..5 {
        let mut message = message_to(Vec::new());
        message.payload = format!("\"{}\"", "x".repeat(600 << 10)).into();
        store.accept_message(message).await.unwrap();
    }
    damage_segments(fixture.path());
    fixture.delete_application().await;
    let eraser = || {
        let threads = store.threads().list().into_iter();
        let mut named = threads.filter(|thread| thread.name == "store-eraser");
        named.next().expect("it is listed")
    };
    until("it says so", || eraser().last_error.is_some()).await;
    fixture.settle().await;
    assert_eq!(store.erasures(), 1);
    let retention = store.inner.settings.retention.as_secs();
    for _ in 0..2 {
        fixture.later(2 * retention);
        // In slices of their own.
        let again = |_: &Catalog| Ok((vec![Change::PutApplication(rows::application())], ()));
        store.change(Planned(again)).await.unwrap();
        store.accept_message(message_to(Vec::new())).await.unwrap();
    }
    let pruning = store.clone();
    let pruned = tokio::task::spawn_blocking(move || pruning.prune()).await;
    pruned.unwrap().unwrap();
    // It may have tried once more before the slice went: then the next time is an hour later.
    let stepped = Cell::new(Instant::now());
    until("the slice is gone, and the to-do with it", || {
        if stepped.get().elapsed() > Duration::from_millis(100) {
            stepped.set(Instant::now());
            fixture.later(3_601);
        }
        store.erasures() == 0
    })
    .await;
    store.close().unwrap();
}
