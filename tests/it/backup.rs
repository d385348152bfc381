//! The copy that a server makes of its store while it runs, and stores made from it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use postrider::backup::{self, Choice, Fetched, Follow, Target, TargetSettings};
use postrider::clock::{Clock, Timestamp};
use postrider::store::{self, Follower, Lost, OpenError, StoreSettings};
use postrider::telemetry::Metrics;
use rustix::fs::{CWD, FileType, Mode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Receiver, Server, copy_directory, together, wait_until};

/// A server that copies its store to a folder, every second of real time.
async fn copying(folder: &Path) -> Server {
    let to = folder.to_str().expect("a text").to_owned();
    let mut server = Server::start_with(|config| {
        config.backup.to = Some(to);
        config.backup.every_seconds = 1;
        // Nothing is dropped while a test steps through weeks.
        config.backup.keep_days = 60;
    })
    .await;
    server.leftovers_are_fine();
    server
}

/// The same, with an application.
async fn copying_app(folder: &Path) -> Server {
    let server = copying(folder).await;
    server.application("app").await;
    server
}

/// Waits until the copy fails for a reason with these words.
async fn fails_for(server: &Server, words: &str) {
    wait_until("the failure to be told", || {
        server.pulse();
        let failing = server.metrics().backup().and_then(|state| state.failing);
        failing.is_some_and(|(_, reason)| reason.contains(words))
    })
    .await;
}

async fn shown(server: &Server) -> Value {
    server.pulse();
    server.get("/api/v1/status").await.expect(200)["backup"].clone()
}

/// Waits until all that was committed before is in the copy.
async fn caught_up(server: &Server) {
    let position = server.store().journal().next_position() - 1;
    wait_until("the copy to have it all", || {
        server.pulse();
        let state = server.metrics().backup();
        state.is_some_and(|state| state.position >= position)
    })
    .await;
}

fn restored(
    folder: &Path,
    at: Option<Timestamp>,
    like: &Server,
) -> Result<(TempDir, Timestamp), String> {
    restored_and(folder, at, like, |_, _| Ok(()))
}

/// The same; `then` is done before the restore is finished.
fn restored_and(
    folder: &Path,
    at: Option<Timestamp>,
    like: &Server,
    then: fn(&StoreSettings, &Clock) -> Result<(), OpenError>,
) -> Result<(TempDir, Timestamp), String> {
    let to = TempDir::new().expect("a temporary directory");
    let mut settings = StoreSettings::from_config(like.config());
    settings.path = to.path().join("data");
    let target = TargetSettings {
        to: folder.to_str().expect("a text").to_owned(),
        key: None,
    };
    let clock = Clock::manual(like.now());
    // Calls of a target block, which no thread of a runtime may.
    let restoring = std::thread::spawn(move || {
        let target = Target::open(&target).map_err(|error| error.to_string())?;
        store::prepare_restore(&settings).map_err(|error| error.to_string())?;
        let choice = Choice { stream: None, at };
        let fetched = backup::fetch(&target, choice, &settings.path, false, &mut |_| {});
        let fetched = fetched.map_err(|error| error.to_string())?;
        let made = store::begin_restored(&settings, &clock).map_err(|error| error.to_string())?;
        assert_eq!(made.problems, [""; 0]);
        then(&settings, &clock).map_err(|error| error.to_string())?;
        store::finish_restore(&settings).map_err(|error| error.to_string())?;
        Ok::<Timestamp, String>(fetched.moment)
    });
    let moment = restoring.join().expect("no panic")?;
    Ok((to, moment))
}

/// A server on a restored directory, which knows the owner's token of the lost one.
async fn started_on(to: TempDir, lost: &Server) -> Server {
    let token = to.path().join("data/owner.token");
    std::fs::write(token, &lost.token).expect("room");
    let mut server = Server::start_on(to, lost).await;
    server.leftovers_are_fine();
    server
}

async fn messages(server: &Server) -> Vec<Value> {
    let path = "/api/v1/app/app/msg?limit=250&with_content=true";
    let page = server.get(path).await.expect(200);
    page["data"].as_array().expect("a list").clone()
}

fn all_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let below = paths.flat_map(|path| match path.is_dir() {
        true => all_files(&path),
        false => vec![path],
    });
    below.collect()
}

fn has_bytes(folder: &Path, bytes: &[u8]) -> bool {
    let holds = |path: &PathBuf| {
        let content = std::fs::read(path).unwrap_or_default();
        memchr::memmem::find(&content, bytes).is_some()
    };
    all_files(folder).iter().any(holds)
}

#[actix_web::test]
async fn a_store_is_brought_back_as_it_was_at_any_moment() {
    let folder = TempDir::new().unwrap();
    let server = copying_app(folder.path()).await;
    server.publish("a.first", json!({ "n": 1 })).await;
    caught_up(&server).await;
    let first = messages(&server).await;
    let moment = server.now();
    server.advance(Duration::from_secs(60));
    for n in 2..5 {
        server.publish("a.later", json!({ "n": n })).await;
    }
    caught_up(&server).await;
    let all = messages(&server).await;
    let state = shown(&server).await;
    assert_eq!(state["failing"], Value::Null, "{state}");
    assert_eq!(state["lagSeconds"], 0.0, "{state}");
    assert_eq!(state["to"], folder.path().to_str().unwrap(), "{state}");

    let (to, at) = restored(folder.path(), None, &server).unwrap();
    assert_eq!(at, server.now());
    let again = started_on(to, &server).await;
    assert_eq!(messages(&again).await, all);
    // It is another store from here on, with a copy of its own.
    again.publish("a.more", json!({})).await;
    caught_up(&again).await;
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    drop(again.stopped().await);

    let (to, at) = restored(
        folder.path(),
        Some(moment + Duration::from_secs(30)),
        &server,
    )
    .unwrap();
    assert_eq!(at, moment);
    let earlier = started_on(to, &server).await;
    assert_eq!(messages(&earlier).await, first);
    earlier.publish("a.other", json!({})).await;
    assert_eq!(messages(&earlier).await.len(), 2);
    drop(earlier.stopped().await);

    let before = Timestamp(moment.0 - 1);
    let told = restored(folder.path(), Some(before), &server).unwrap_err();
    assert!(told.starts_with("no moment before "), "{told}");
    let after = server.now() + Duration::from_secs(3600);
    let told = restored(folder.path(), Some(after), &server).unwrap_err();
    assert!(told.contains("name an earlier moment"), "{told}");
}

#[actix_web::test]
async fn what_is_erased_is_erased_in_the_copy() {
    let folder = TempDir::new().unwrap();
    let server = copying_app(folder.path()).await;
    let secret = b"rosebud-7731";
    let message = server
        .publish("a.b", json!({ "word": "rosebud-7731" }))
        .await;
    server.publish("a.b", json!({ "word": "plain-9941" })).await;
    caught_up(&server).await;
    assert!(has_bytes(folder.path(), secret));
    let path = format!("/api/v1/app/app/msg/{message}/content");
    server.delete(&path).await.expect(204);
    wait_until("the copy not to have it any more", || {
        !has_bytes(folder.path(), secret)
    })
    .await;
    assert!(has_bytes(folder.path(), b"plain-9941"));
    caught_up(&server).await;
    let (to, _) = restored(folder.path(), None, &server).unwrap();
    assert!(!has_bytes(to.path(), secret));
    let again = started_on(to, &server).await;
    let shown = again
        .get(&format!("/api/v1/app/app/msg/{message}"))
        .await
        .expect(200);
    assert_eq!(shown["payloadDeleted"], true, "{shown}");
}

#[actix_web::test]
async fn a_target_that_is_away_costs_lag_and_is_caught_up_with() {
    let directory = TempDir::new().unwrap();
    let folder = directory.path().join("copy");
    std::fs::write(&folder, "no folder").unwrap();
    let server = copying_app(&folder).await;
    server.publish("a.b", json!({})).await;
    wait_until("the failure to be told", || {
        server.pulse();
        server
            .metrics()
            .backup()
            .is_some_and(|state| state.failing.is_some())
    })
    .await;
    server.advance(Duration::from_secs(90));
    let state = shown(&server).await;
    assert!(state["lagSeconds"].as_f64().unwrap() >= 90.0, "{state}");
    let status = server.get("/api/v1/status").await.expect(200);
    let problems = status["problems"].as_array().unwrap();
    let told = problems.iter().find(|one| one["kind"] == "backup_behind");
    let told = told.expect("it is a problem")["message"].as_str().unwrap();
    assert_eq!(told.matches(folder.to_str().unwrap()).count(), 1, "{told}");
    std::fs::remove_file(&folder).unwrap();
    caught_up(&server).await;
    assert_eq!(shown(&server).await["failing"], Value::Null);
    restored(&folder, None, &server).unwrap();
}

#[actix_web::test]
async fn a_store_that_went_back_is_not_copied_over_the_one_that_went_on() {
    let folder = TempDir::new().unwrap();
    let server = copying_app(folder.path()).await;
    server.publish("a.b", json!({ "n": 1 })).await;
    caught_up(&server).await;
    let old = server.copied().await;
    server.publish("a.b", json!({ "n": 2 })).await;
    caught_up(&server).await;
    let kept = messages(&server).await;
    let went_back = Server::start_on(old, &server).await;
    went_back.publish("a.b", json!({ "n": 3 })).await;
    fails_for(&went_back, "brought back from an older copy").await;
    let (to, _) = restored(folder.path(), None, &server).unwrap();
    let again = started_on(to, &server).await;
    assert_eq!(messages(&again).await, kept);
}

#[actix_web::test]
async fn a_copy_that_is_not_whole_is_refused_by_the_name_of_the_object() {
    let folder = TempDir::new().unwrap();
    let server = copying_app(folder.path()).await;
    server.publish("a.b", json!({ "n": 1 })).await;
    caught_up(&server).await;
    let files = all_files(folder.path());
    for kind in ["piece-", "checkpoint-"] {
        let is_of_kind = |path: &&PathBuf| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with(kind)
        };
        let file = files.iter().find(is_of_kind).expect("there is one");
        let name = file.file_name().unwrap().to_str().unwrap();
        let broken = TempDir::new().unwrap();
        copy_directory(folder.path(), &broken.path().join("copy"));
        let target = broken.path().join("copy");
        let file = target.join(file.strip_prefix(folder.path()).unwrap());
        let mut bytes = std::fs::read(&file).unwrap();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        std::fs::write(&file, &bytes).unwrap();
        let told = restored(&target, None, &server).unwrap_err();
        assert!(told.contains(name), "{told}");
        std::fs::remove_file(&file).unwrap();
        let told = restored(&target, None, &server).unwrap_err();
        assert!(told.contains(name), "{told}");
    }
}

/// One step of `restore --follow` in a process of its own, which ends then. With `end` the directory becomes a store.
fn followed(
    folder: &Path,
    directory: &Path,
    like: &Server,
    end: Option<Lost>,
) -> Result<Fetched, String> {
    let mut settings = StoreSettings::from_config(like.config());
    settings.path = directory.join("data");
    let target = TargetSettings {
        to: folder.to_str().expect("a text").to_owned(),
        key: None,
    };
    let clock = Clock::manual(like.now());
    // Calls of a target block, which no thread of a runtime may.
    let following = std::thread::spawn(move || {
        let target = Target::open(&target).map_err(|error| error.to_string())?;
        if !Follow::is_followed(&settings.path) {
            store::prepare_restore(&settings).map_err(|error| error.to_string())?;
        }
        let follow = Follow::open(&target, None, &settings.path);
        let mut follow = follow.map_err(|error| error.to_string())?;
        let database = Follower::resume(&settings).map_err(|error| error.to_string())?;
        let applied = database.as_ref().map(Follower::position);
        let laid = follow.lay(applied, &mut |_| {});
        let fetched = laid
            .map_err(|error| error.to_string())?
            .expect("a first look");
        let mut database = match database {
            Some(database) => database,
            None => Follower::begin(&settings, &clock).map_err(|error| error.to_string())?,
        };
        database.catch_up().map_err(|error| error.to_string())?;
        assert_eq!(database.position(), fetched.position);
        if let Some(lost) = end {
            let taken = follow.take_over(clock.now());
            assert!(taken.map_err(|error| error.to_string())?);
            let made = database
                .end(&clock, lost)
                .map_err(|error| error.to_string())?;
            assert_eq!(made.problems, [""; 0]);
            follow.end().map_err(|error| error.to_string())?;
            store::finish_restore(&settings).map_err(|error| error.to_string())?;
        }
        Ok(fetched)
    });
    following.join().expect("no panic")
}

#[actix_web::test]
async fn a_directory_follows_until_the_store_is_handed_over() {
    let folder = TempDir::new().unwrap();
    let mut server = copying_app(folder.path()).await;
    let endpoint = json!({ "url": "http://127.0.0.1:9/", "disabled": true });
    let path = "/api/v1/app/app/endpoint";
    server.post(path, endpoint.clone()).await.expect(201);
    server.publish("a.b", json!({ "n": 1 })).await;
    caught_up(&server).await;
    let to = TempDir::new().unwrap();
    let first = followed(folder.path(), to.path(), &server, None).unwrap();
    assert_eq!(first.handed_over_at, None);
    // No server starts there meanwhile, and no other store is followed into it.
    let settings = StoreSettings {
        path: to.path().join("data"),
        ..StoreSettings::from_config(server.config())
    };
    let metrics = Arc::new(Metrics::new());
    let opened = store::Store::open(settings, Clock::manual(server.now()), metrics);
    let told = opened.err().expect("it is refused").to_string();
    assert!(
        told.contains("follows the copy of another server"),
        "{told}"
    );

    // Enough for segments that are sealed, erased in and written again.
    for n in 2..40 {
        let text = format!("part-{n}-{}", "x".repeat(2_000));
        let message = server.publish("a.b", json!({ "n": n, "text": text })).await;
        if n % 10 == 0 {
            let path = format!("/api/v1/app/app/msg/{message}/content");
            server.delete(&path).await.expect(204);
            caught_up(&server).await;
            let step = followed(folder.path(), to.path(), &server, None).unwrap();
            assert!(step.position > first.position);
        }
    }
    let all = messages(&server).await;
    let (_old, handed_over) = server.hand_over().await;
    handed_over.expect("the copy is complete");
    let last = followed(folder.path(), to.path(), &server, Some(Lost::Nothing)).unwrap();
    assert!(last.handed_over_at.is_some());
    assert!(!has_bytes(to.path(), b"part-20-"));
    assert!(has_bytes(to.path(), b"part-21-"));
    let moved = started_on(to, &server).await;
    assert_eq!(messages(&moved).await, all);
    let made = moved.post(path, endpoint).await.expect(201);
    assert!(made["id"].is_string(), "{made}");
    let status = moved.get("/api/v1/status").await.expect(200);
    assert_eq!(status["waiting"], 39, "{status}");
}

#[actix_web::test]
async fn a_store_that_was_handed_over_starts_only_without_its_mark() {
    let folder = TempDir::new().unwrap();
    let mut server = copying_app(folder.path()).await;
    server.publish("a.b", json!({ "n": 1 })).await;
    caught_up(&server).await;
    let (old, handed_over) = server.hand_over().await;
    handed_over.expect("the copy is complete");
    let settings = StoreSettings {
        path: old.path().join("data"),
        ..StoreSettings::from_config(server.config())
    };
    let open = || {
        let metrics = Arc::new(Metrics::new());
        store::Store::open(settings.clone(), Clock::manual(server.now()), metrics)
    };
    let told = open().err().expect("it is refused").to_string();
    assert!(told.contains("was handed over"), "{told}");
    std::fs::remove_file(settings.path.join("handed.over")).unwrap();
    let went_on = Server::start_on(old, &server).await;
    went_on.publish("a.b", json!({ "n": 2 })).await;
    caught_up(&went_on).await;
    // Whoever follows is not told any more that it has all.
    let to = TempDir::new().unwrap();
    let step = followed(folder.path(), to.path(), &server, None).unwrap();
    assert_eq!(step.handed_over_at, None);
    drop(went_on.stopped().await);
}

#[actix_web::test]
async fn a_hand_over_that_cannot_be_completed_changes_nothing() {
    let directory = TempDir::new().unwrap();
    let folder = directory.path().join("copy");
    let mut server = copying_app(&folder).await;
    server.publish("a.b", json!({ "n": 1 })).await;
    caught_up(&server).await;
    server.publish("a.b", json!({ "n": 2 })).await;
    std::fs::rename(&folder, directory.path().join("away")).unwrap();
    std::fs::write(&folder, "no folder").unwrap();
    let (old, handed_over) = server.hand_over().await;
    let told = handed_over.expect_err("nothing can be copied");
    assert!(told.starts_with("not handed over: "), "{told}");
    std::fs::remove_file(&folder).unwrap();
    let goes_on = Server::start_on(old, &server).await;
    assert_eq!(messages(&goes_on).await.len(), 2);
    drop(goes_on.stopped().await);
}

#[actix_web::test]
async fn a_hand_over_is_asked_for_by_the_owner_where_there_is_a_copy() {
    let server = Server::start().await;
    let refused = server
        .post("/api/v1/hand-over", Value::Null)
        .await
        .expect(409);
    let told = refused["detail"].as_str().unwrap();
    assert!(told.contains("set backup.to first"), "{told}");
    drop(server.stopped().await);

    let folder = TempDir::new().unwrap();
    let server = copying_app(folder.path()).await;
    caught_up(&server).await;
    server.pulse();
    let begins = server
        .post("/api/v1/hand-over", Value::Null)
        .await
        .expect(202);
    assert_eq!(begins["to"], folder.path().to_str().unwrap());
    server.hand_over_asked().await;
}

#[actix_web::test]
async fn a_store_that_is_restored_to_be_looked_at_first_sends_nothing_until_it_is_released() {
    let (folder, receiver) = (TempDir::new().unwrap(), Receiver::ok().await);
    let server = copying(folder.path()).await;
    let endpoint = server.endpoint(&receiver).await;
    let path = format!("/api/v1/app/app/endpoint/{endpoint}");
    server.set_disabled("app", &endpoint, true).await;
    let other = server.endpoint(&receiver).await;
    let other = format!("/api/v1/app/app/endpoint/{other}");
    server
        .post(&format!("{other}/hold"), json!({}))
        .await
        .expect(200);
    let own = "/api/v1/operational-webhook/endpoint";
    let none = json!({ "url": receiver.url(), "eventTypes": ["message.attempt.exhausted"] });
    server.post(own, none).await.expect(201);
    // More than one commit holds.
    let more = "/api/v1/app/more/endpoint";
    server.application("more").await;
    let body = || json!({ "url": receiver.url(), "eventTypes": ["another"] });
    for _ in 0..6 {
        for made in together((0..100).map(|_| server.post(more, body()))).await {
            made.expect(201);
        }
    }
    server.publish("a.b", json!({})).await;
    caught_up(&server).await;
    server.advance(Duration::from_secs(3600));
    let by_hand = server.get(&other).await.expect(200)["hold"].clone();
    let (to, _) = restored_and(folder.path(), None, &server, |settings, clock| {
        let held = store::hold_restored(settings, clock)?;
        assert_eq!(held, 603);
        Ok(())
    })
    .unwrap();
    let again = started_on(to, &server).await;
    let held = json!({ "since": again.now().to_string(), "reason": "restored" });
    assert_eq!(again.get(&path).await.expect(200)["hold"], held);
    assert_eq!(again.get(&other).await.expect(200)["hold"], by_hand);
    assert_eq!(
        again.get("/api/v1/status").await.expect(200)["holds"]["endpoints"],
        603
    );
    again.set_disabled("app", &endpoint, false).await;
    again.publish("a.b", json!({})).await;
    again.advance(Duration::from_secs(3600));
    again.settle().await;
    assert_eq!(receiver.count(), 0);
    assert_eq!(again.store().waits().held, 4);
    // A restart changes nothing.
    let again = again.restart().await;
    again.settle().await;
    assert_eq!(receiver.count(), 0);
    let released = again.post("/api/v1/release", json!({})).await.expect(200);
    assert_eq!(released["changed"], 603);
    receiver.received(4).await;
    again.settle().await;
    again.stop_and_verify().await;
}

/// A little more than what a server has to itself before the first verification.
const SETTLED: Duration = Duration::from_secs(6 * 60);
const HOUR: Duration = Duration::from_secs(3600);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// Waits until a verification has come to its end at this time, and answers with it.
async fn verified(server: &Server) -> Value {
    let now = server.now();
    wait_until("the copy to be verified", || {
        server.pulse();
        let state = server.metrics().backup();
        let last = state.and_then(|state| state.verified);
        last.is_some_and(|last| last.at == now)
    })
    .await;
    shown(server).await["verified"].clone()
}

/// Waits until the thread that copies has looked at the time, and said so if a verification is due.
async fn looked(server: &Server) {
    for _ in 0..2 {
        server.publish("a.look", json!({})).await;
        caught_up(server).await;
    }
}

/// What the thread that verifies does, and since when.
async fn verifying(server: &Server) -> (Value, Value) {
    let status = server.get("/api/v1/status").await.expect(200);
    let threads = status["threads"].as_array().expect("a list");
    let thread = threads.iter().find(|one| one["name"] == "store-verify");
    let thread = thread.unwrap_or_else(|| panic!("it is not in {threads:?}"));
    (thread["state"].clone(), thread["since"].clone())
}

async fn problems(server: &Server, kind: &str) -> Vec<String> {
    server.pulse();
    let status = server.get("/api/v1/status").await.expect(200);
    let problems = status["problems"].as_array().expect("a list").clone();
    let of_kind = problems.into_iter().filter(|one| one["kind"] == kind);
    let messages = of_kind.map(|one| one["message"].as_str().expect("a text").to_owned());
    messages.collect()
}

async fn metric(server: &Server, name: &str) -> f64 {
    server.pulse();
    let text = server.get("/metrics").await.text;
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let value = value.unwrap_or_else(|| panic!("{name} is not in {text}"));
    value.trim().parse().expect("a number")
}

/// The first checkpoint file of the copy, which is the only one within the first hour.
fn checkpoint_in(folder: &Path) -> PathBuf {
    let files = all_files(folder).into_iter();
    let mut found = files.filter(|file| name_of(file).starts_with("checkpoint-"));
    found.next().expect("there is one")
}

fn name_of(file: &Path) -> &str {
    file.file_name().unwrap().to_str().unwrap()
}

#[actix_web::test]
async fn a_copy_is_verified_on_schedule_and_a_restart_remembers_when() {
    let folder = TempDir::new().unwrap();
    let server = copying_app(folder.path()).await;
    server.publish("a.b", json!({ "n": 1 })).await;
    looked(&server).await;
    assert_eq!(shown(&server).await["verified"], Value::Null);
    let (state, _) = verifying(&server).await;
    assert_eq!(state, "idle");

    server.advance(SETTLED);
    let first = verified(&server).await;
    assert_eq!(
        (&first["ok"], &first["error"]),
        (&json!(true), &Value::Null)
    );
    assert!(first["bytes"].as_u64().unwrap() > 0, "{first}");
    let at = server.now().0 as f64 / 1000.0;
    assert_eq!(
        metric(&server, "postrider_backup_verified_timestamp_seconds ").await,
        at
    );
    let scratch = server.config().store.path.join("backup.verify");
    wait_until("its files to be removed", || !scratch.exists()).await;

    server.advance(WEEK - HOUR);
    looked(&server).await;
    assert_eq!(shown(&server).await["verified"], first);
    assert_eq!(verifying(&server).await.0, "idle");
    server.advance(HOUR);
    let second = verified(&server).await;
    assert_eq!(second["ok"], true, "{second}");

    // Left behind by a process that was killed.
    let server = server
        .restart_with(|config| {
            std::fs::create_dir(config.store.path.join("backup.verify")).unwrap();
        })
        .await;
    assert!(!scratch.exists());
    looked(&server).await;
    assert_eq!(shown(&server).await["verified"], second);
    let (_, started) = verifying(&server).await;
    server.advance(SETTLED);
    looked(&server).await;
    assert_eq!(verifying(&server).await, (json!("idle"), started));
    server.advance(WEEK);
    assert_eq!(verified(&server).await["ok"], true);
}

#[actix_web::test]
async fn damage_of_the_copy_is_told_by_the_objects_name_until_it_is_mended() {
    let folder = TempDir::new().unwrap();
    let server = copying_app(folder.path()).await;
    looked(&server).await;
    let file = checkpoint_in(folder.path());
    let good = std::fs::read(&file).unwrap();
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    std::fs::write(&file, bad).unwrap();
    server.advance(SETTLED);
    let found = verified(&server).await;
    assert_eq!(found["ok"], false, "{found}");
    let error = found["error"].as_str().unwrap();
    assert!(error.contains(name_of(&file)), "{error}");
    let told = problems(&server, "backup_damaged").await;
    let to = folder.path().to_str().unwrap();
    assert!(
        told.len() == 1 && told[0].contains(name_of(&file)) && told[0].matches(to).count() == 1,
        "{told:?}"
    );
    assert!(problems(&server, "backup_behind").await.is_empty());
    let failures = "postrider_backup_verify_failures_total ";
    assert_eq!(metric(&server, failures).await, 1.0);
    let last_whole = "postrider_backup_verified_timestamp_seconds ";
    assert_eq!(metric(&server, last_whole).await, 0.0);

    let server = server.restart().await;
    looked(&server).await;
    assert_eq!(shown(&server).await["verified"], found);
    assert_eq!(problems(&server, "backup_damaged").await.len(), 1);

    std::fs::write(&file, good).unwrap();
    server.advance(25 * HOUR);
    let again = verified(&server).await;
    assert_eq!(again["ok"], true, "{again}");
    assert!(problems(&server, "backup_damaged").await.is_empty());
    let whole_at = server.now().0 as f64 / 1000.0;
    assert_eq!(metric(&server, last_whole).await, whole_at);

    // Only moments of the past need it now.
    let newer = || {
        let files = all_files(folder.path());
        let checkpoints = files
            .iter()
            .filter(|one| name_of(one).starts_with("checkpoint-"));
        checkpoints.count() > 1
    };
    // The store writes one within seconds, and the next run copies it.
    for _ in 0..20 {
        looked(&server).await;
        if newer() {
            break;
        }
    }
    assert!(newer());
    std::fs::remove_file(&file).unwrap();
    server.advance(WEEK);
    let found = verified(&server).await;
    let error = found["error"].as_str().unwrap();
    assert!(error.contains(name_of(&file)), "{error}");
    assert_eq!(metric(&server, last_whole).await, whole_at);
}

#[actix_web::test]
async fn a_target_that_is_away_during_a_verification_is_no_damage() {
    let folder = TempDir::new().unwrap();
    let server = copying_app(folder.path()).await;
    looked(&server).await;
    let file = checkpoint_in(folder.path());
    let aside = folder.path().join("aside");
    std::fs::rename(&file, &aside).unwrap();
    // Opening it fails, and not because it is missing.
    let _socket = std::os::unix::net::UnixListener::bind(&file).unwrap();
    server.advance(SETTLED);
    wait_until("the failure to be told", || {
        server.pulse();
        let state = server.metrics().backup();
        state.is_some_and(|state| state.unverified.is_some())
    })
    .await;
    let state = shown(&server).await;
    assert_eq!(state["verified"], Value::Null, "{state}");
    assert!(state["unverified"]["reason"].is_string(), "{state}");
    assert_eq!(state["failing"], Value::Null, "{state}");
    for kind in ["backup_damaged", "backup_behind"] {
        assert!(problems(&server, kind).await.is_empty(), "{kind}");
    }
    let failures = "postrider_backup_verify_failures_total ";
    assert_eq!(metric(&server, failures).await, 0.0);

    // A day of it is as late as a copy can be.
    server.advance(25 * HOUR);
    let late = problems(&server, "backup_behind").await;
    assert!(
        late.len() == 1 && late[0].contains("could not be verified"),
        "{late:?}"
    );
    let now = server.now();
    wait_until("the next try to end", || {
        let threads = server.store().threads().list();
        let mut threads = threads.iter().filter(|one| one.name == "store-verify");
        threads.any(|one| format!("{:?}", one.state) == "Idle" && one.since == now)
    })
    .await;
    std::fs::remove_file(&file).unwrap();
    std::fs::rename(&aside, &file).unwrap();
    server.advance(2 * HOUR);
    assert_eq!(verified(&server).await["ok"], true);
    assert_eq!(shown(&server).await["unverified"], Value::Null);
    assert!(problems(&server, "backup_behind").await.is_empty());
}

#[actix_web::test]
async fn nothing_that_a_verification_reads_is_deleted_and_a_stop_ends_it() {
    let folder = TempDir::new().unwrap();
    let server = copying_app(folder.path()).await;
    looked(&server).await;
    let file = checkpoint_in(folder.path());
    let aside = folder.path().join("aside");
    std::fs::rename(&file, &aside).unwrap();
    // Opening it waits for somebody who writes, and nobody does.
    rustix::fs::mknodat(CWD, &file, FileType::Fifo, Mode::RWXU, 0).unwrap();
    server.advance(SETTLED);
    let scratch = server.config().store.path.join("backup.verify");
    // It comes last, behind the only segment.
    let journal = scratch.join("store/journal");
    let begun = scratch.join("store/restore.new");
    wait_until("the verification to come to it", || {
        let mut segments = std::fs::read_dir(&journal).into_iter().flatten();
        segments.next().is_some() && begun.exists()
    })
    .await;
    let objects = || {
        let files = all_files(folder.path());
        let names = files.iter().map(|file| name_of(file).to_owned());
        let names = names.filter(|name| name.starts_with("piece-"));
        std::collections::BTreeSet::from_iter(names)
    };
    let before = objects();
    for n in 2..6 {
        server.publish("a.b", json!({ "n": n })).await;
        caught_up(&server).await;
    }
    let meanwhile = objects();
    assert!(before.is_subset(&meanwhile), "{before:?} {meanwhile:?}");
    assert!(meanwhile.len() > before.len() + 2, "{meanwhile:?}");
    let state = verifying(&server).await.0;
    assert_eq!(state, "working");

    let server = server
        .restart_with(|_| {
            // It has ended, and not only been left behind.
            assert!(!scratch.exists());
            std::fs::remove_file(&file).unwrap();
            std::fs::rename(&aside, &file).unwrap();
        })
        .await;
    wait_until("the pieces of before to be deleted", || {
        !meanwhile.is_subset(&objects())
    })
    .await;
    looked(&server).await;
    assert_eq!(shown(&server).await["verified"], Value::Null);
    server.advance(SETTLED);
    assert_eq!(verified(&server).await["ok"], true);
    caught_up(&server).await;
    restored(folder.path(), None, &server).unwrap();
}

#[actix_web::test]
async fn a_copy_is_not_verified_where_that_is_turned_off_or_there_is_no_room() {
    let folder = TempDir::new().unwrap();
    let server = copying_app(folder.path()).await;
    caught_up(&server).await;
    let server = server
        .restart_with(|config| config.backup.verify_every_hours = 0)
        .await;
    let status = server.get("/api/v1/status").await.expect(200);
    let threads = status["threads"].as_array().unwrap();
    assert!(!threads.iter().any(|one| one["name"] == "store-verify"));
    // As much as no disk has. Messages are not taken either then.
    let server = server
        .restart_with(|config| {
            config.backup.verify_every_hours = 168;
            config.store.min_free_bytes = u64::MAX / 2;
        })
        .await;
    wait_until("the copy to be complete", || {
        server.pulse();
        let state = server.metrics().backup();
        state.is_some_and(|state| state.completed_at.is_some())
    })
    .await;
    // The copier may look at the time only after this, and counts from there.
    server.advance(SETTLED);
    wait_until("the next run", || {
        server.pulse();
        let state = server.metrics().backup();
        state.and_then(|state| state.completed_at) == Some(server.now())
    })
    .await;
    server.advance(SETTLED);
    wait_until("the reason to be told", || {
        server.pulse();
        let state = server.metrics().backup();
        let reason = state.and_then(|state| state.unverified);
        reason.is_some_and(|(_, reason)| reason.contains("store.min_free_bytes"))
    })
    .await;
    let scratch = server.config().store.path.join("backup.verify");
    wait_until("nothing to be left", || !scratch.exists()).await;
}

#[actix_web::test]
async fn one_machine_alone_takes_a_store_over() {
    let folder = TempDir::new().unwrap();
    let mut server = copying_app(folder.path()).await;
    server.publish("a.b", json!({ "n": 1 })).await;
    caught_up(&server).await;
    let [first, second] = [(); 2].map(|()| TempDir::new().unwrap());
    for to in [&first, &second] {
        followed(folder.path(), to.path(), &server, None).unwrap();
    }
    let (old, handed_over) = server.hand_over().await;
    handed_over.expect("the copy is complete");
    followed(folder.path(), first.path(), &server, Some(Lost::Nothing)).unwrap();
    let told = followed(folder.path(), second.path(), &server, Some(Lost::Nothing)).unwrap_err();
    assert!(
        told.contains("another machine took the store over"),
        "{told}"
    );
    // Nor does its own server copy it any more, though somebody made it start.
    std::fs::remove_file(old.path().join("data/handed.over")).unwrap();
    let went_on = Server::start_on(old, &server).await;
    fails_for(&went_on, "another machine took the store over").await;
    drop(went_on.stopped().await);
}

/// Writes a manifest as it is while a copy is brought up to date: it ends with the newest file of the journal that is
/// full, and has nothing of the one behind it.
fn end_with_a_full_file(folder: &Path, stream: u64) {
    let target = TargetSettings {
        to: folder.to_str().expect("a text").to_owned(),
        key: None,
    };
    let writing = std::thread::spawn(move || {
        let target = Target::open(&target).expect("a folder");
        let target = target.folder(&backup::folder_of(stream));
        let read = |name: &str| {
            let bytes = target.read(name, 1 << 20).expect("it is there");
            serde_json::from_slice::<Value>(&bytes).expect("JSON")
        };
        let names = target.list("manifest-").expect("it can be listed");
        let newest = names
            .iter()
            .map(|one| &one.name)
            .max()
            .expect("there is one");
        let mut manifest = read(newest);
        let list = read(manifest["list"]["name"].as_str().expect("there is one"));
        let last = list["segments"].as_array().expect("a list").last();
        let last = last.expect("one is full");
        let number = manifest["number"].as_u64().expect("a number") + 1;
        manifest["number"] = json!(number);
        manifest["open"] = Value::Null;
        manifest["position"] = json!(last["end"]["position"].as_u64().expect("a number") - 1);
        manifest["chain"] = last["end"]["chain"].clone();
        manifest["time_ms"] = last["time_ms"].clone();
        let bytes = serde_json::to_vec(&manifest).expect("JSON");
        let created = target.create(&format!("manifest-{number:016x}"), &bytes);
        created.expect("nobody writes another one");
    });
    writing.join().expect("no panic");
}

#[actix_web::test]
async fn a_copy_that_ends_with_a_full_file_of_the_journal_is_restored_and_followed() {
    let folder = TempDir::new().unwrap();
    let server = copying_app(folder.path()).await;
    server.publish("a.b", json!({ "n": 1 })).await;
    // With a checkpoint file of this moment.
    caught_up(&server).await;
    let segments = || server.store().journal().segments();
    let (many, text) = (segments().len(), "x".repeat(900_000));
    let mut n = 1;
    while segments().len() == many {
        n += 1;
        server.publish("a.b", json!({ "n": n, "text": text })).await;
    }
    caught_up(&server).await;
    let stream = segments().pop().expect("there is one").stream;
    end_with_a_full_file(folder.path(), stream);
    let list = async |server: &Server| {
        let path = "/api/v1/app/app/msg?limit=250&with_content=false";
        server.get(path).await.expect(200)
    };
    let follower = TempDir::new().unwrap();
    let first = followed(folder.path(), follower.path(), &server, None).unwrap();
    let (back, _) = restored(folder.path(), None, &server).unwrap();
    let again = started_on(back, &server).await;
    let page = list(&again).await;
    assert!(page["data"].as_array().unwrap().len() > n - 3, "of {n}");
    drop(again.stopped().await);
    // The server notices that it was not the one who wrote it, and goes on from there.
    server.publish("a.b", json!({ "n": 0 })).await;
    caught_up(&server).await;
    let second = followed(folder.path(), follower.path(), &server, None).unwrap();
    assert!(second.position > first.position);
    let (back, _) = restored(folder.path(), None, &server).unwrap();
    let again = started_on(back, &server).await;
    assert_eq!(list(&again).await, list(&server).await);
    drop(again.stopped().await);
}

#[actix_web::test]
async fn a_copy_is_not_gone_on_with_where_it_is_gone() {
    let directory = TempDir::new().unwrap();
    let [folder, real] = ["copy", "real"].map(|name| directory.path().join(name));
    let server = copying_app(&folder).await;
    server.publish("a.b", json!({ "n": 1 })).await;
    caught_up(&server).await;
    // As where a disk is not mounted any more.
    std::fs::rename(&folder, &real).unwrap();
    std::fs::create_dir(&folder).unwrap();
    server.publish("a.b", json!({ "n": 2 })).await;
    fails_for(&server, "the copy that was there is gone").await;
    let before = shown(&server).await["requests"].clone();
    wait_until("another try", || {
        server.pulse();
        let state = server.metrics().backup();
        state.is_some_and(|state| json!(state.requests) != before)
    })
    .await;
    assert_eq!(all_files(&folder), [""; 0].map(PathBuf::from));
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::rename(&real, &folder).unwrap();
    caught_up(&server).await;
    let (to, _) = restored(&folder, None, &server).unwrap();
    let again = started_on(to, &server).await;
    assert_eq!(messages(&again).await.len(), 2);
}
