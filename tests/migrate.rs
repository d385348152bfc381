//! Taking over a store that the version before wrote: the real binary, on a data directory that the real
//! binary of that version left when it was killed. And restoring a backup that an earlier version made.
//!
//! `POSTRIDER_BEFORE` is the path of that version's binary (for `store-format-2`, of a build of the commit
//! ac1ec2d). Where it is given, the way back is tried with it, too.

#[path = "process/mod.rs"]
mod process;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use process::old_store::{APP, Delivery, ENDPOINTS, OldStore, says_the_same};
use process::receiver::{Receiver, Reply};
use process::{Launch, Server, can_run, say, scratch, until};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const SOON: Duration = Duration::from_secs(60);
const AT_ONCE: Duration = Duration::ZERO;
/// What waits for its retry or its time is due then.
const DAYS_LATER: Duration = Duration::from_secs(3 * 86_400);

#[test]
fn a_store_of_the_version_before_is_refused_unchanged_until_it_is_to_be_taken_over() {
    if !can_run("migrate", OldStore::missing()) {
        return;
    }
    let old = OldStore::of_format(2);
    let directory = scratch();
    let data = old.unpack(directory.path());
    let before = tree(&data);
    let launch = old.launch(&data, AT_ONCE);
    for _ in 0..2 {
        let mut refused = launch.spawn();
        let status = refused.wait(SOON).expect("it ends by itself");
        let log = refused.log();
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(
            log.contains("older postrider") && log.contains("migrate"),
            "{log}"
        );
        assert_same(&before, &tree(&data));
    }

    let (is_done, said) = launch.run(&["migrate"]);
    assert!(
        is_done && said.contains("is of this version from now on"),
        "{said}"
    );
    let (is_done, said) = launch.run(&["migrate"]);
    assert!(is_done && said.contains("nothing to migrate"), "{said}");
    old.check_reads(&launch.start().api);
}

#[test]
fn all_that_the_version_before_had_is_read_across_kills_and_what_waited_arrives() {
    if !can_run("migrate", OldStore::missing()) {
        return;
    }
    let old = Arc::new(OldStore::of_format(2));
    let directory = scratch();
    let data = old.unpack(directory.path());
    let mut server = old.launch(&data, AT_ONCE).migrating().start();
    for _ in 0..2 {
        old.check_reads(&server.api);
        old.check_refusals(&server.api);
        server.process.kill();
        verify(&old.launch(&data, AT_ONCE));
        server = old.launch(&data, AT_ONCE).start();
    }

    let arrived = Arrived::default();
    let receiver = {
        let (old, arrived) = (old.clone(), arrived.clone());
        Receiver::start(move |request| arrived.take(old.received(request)))
    };
    for endpoint in ENDPOINTS {
        let body = json!({ "url": receiver.url(&format!("/{endpoint}")), "disabled": false });
        let path = format!("{APP}/endpoint/{endpoint}");
        server.api.call("PATCH", &path, &body, 200);
    }
    let waiting = old.waiting();
    // What was held is sent at once, the rest when it is due.
    server.process.kill();
    let mut server = old.launch(&data, DAYS_LATER).start();
    let all_arrived = until(SOON, || (arrived.deliveries() == waiting).then_some(()));
    assert!(
        all_arrived.is_some(),
        "{:?} of {waiting:?}",
        arrived.deliveries()
    );
    expect_nothing_waits(&server);
    server.process.kill();

    let mut server = old.launch(&data, DAYS_LATER).start();
    expect_nothing_waits(&server);
    for (endpoint, id) in &waiting {
        let path = format!("{APP}/attempt/msg/{id}?endpoint_id={endpoint}&status=0");
        let attempts = server.api.get(&path);
        assert_ne!(attempts["data"], json!([]), "{endpoint} {id}");
    }
    server.process.terminate();
    let status = server.process.wait(SOON).expect("it stops");
    assert!(status.success(), "{}", server.process.log());
    verify(&old.launch(&data, DAYS_LATER));
    assert_eq!(arrived.deliveries(), waiting);
    assert_eq!(arrived.wrong(), Vec::<String>::new());
}

/// The way back that docs/operations.md has: the copy takes the place of the directory.
#[test]
fn the_way_back_is_the_copy() {
    if !can_run("migrate", OldStore::missing()) {
        return;
    }
    let old = OldStore::of_format(2);
    let directory = scratch();
    let data = old.unpack(directory.path());
    let copy = directory.path().join("data.before");
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([&data, &copy])
        .status();
    assert!(copied.expect("cp runs").success());
    let mut server = old.launch(&data, AT_ONCE).migrating().start();
    let message = json!({ "eventType": "invoice.due", "payload": {} });
    server
        .api
        .call("POST", &format!("{APP}/msg"), &message, 202);
    server.process.terminate();
    let status = server.process.wait(SOON).expect("it stops");
    assert!(status.success(), "{}", server.process.log());

    let Ok(before) = std::env::var("POSTRIDER_BEFORE") else {
        say("SKIPPED: without POSTRIDER_BEFORE the way back is not tried with the binary of then");
        std::fs::remove_dir_all(&data).expect("it can be removed");
        std::fs::rename(&copy, &data).expect("it can be moved");
        let again = old.launch(&data, AT_ONCE);
        assert!(
            again
                .spawn()
                .wait(SOON)
                .is_some_and(|status| !status.success())
        );
        old.check_reads(&again.migrating().start().api);
        return;
    };
    let of_then = old.launch(&data, AT_ONCE).binary(&before);
    let mut refused = of_then.spawn();
    let status = refused.wait(SOON).expect("it ends by itself");
    let log = refused.log();
    assert!(
        !status.success() && log.contains("newer postrider"),
        "{log}"
    );
    std::fs::remove_dir_all(&data).expect("it can be removed");
    std::fs::rename(&copy, &data).expect("it can be moved");
    // A refusal of this version before that changes nothing.
    assert!(old.launch(&data, AT_ONCE).spawn().wait(SOON).is_some());
    old.check_reads(&of_then.start().api);
}

/// `tests/fixtures/make-backup` made it: a copy by a running server, and one by hand with a key.
#[test]
fn a_backup_of_the_first_format_is_restored_with_all_that_is_in_it() {
    if !can_run("migrate", OldStore::missing()) {
        return;
    }
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let known = std::fs::read_to_string(fixtures.join("backup-format-1.json"));
    let known: Value = serde_json::from_str(&known.expect("the fixture is there")).expect("JSON");
    let directory = scratch();
    let unpacked = std::process::Command::new("tar")
        .arg("-xzf")
        .arg(fixtures.join("backup-format-1.tar.gz"))
        .arg("-C")
        .arg(directory.path())
        .status();
    assert!(unpacked.expect("tar runs").success());
    let key = directory.path().join("key");
    let text = |name: &str| known[name].as_str().expect("a text").to_owned();
    std::fs::write(&key, text("key")).expect("room");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.expect("it is after 1970").as_millis();
    let written_at = known["writtenAt"].as_u64().expect("a time");
    for (copy, settings) in [("plain", None), ("sealed", Some(&key))] {
        let from = directory.path().join(copy);
        let from = from.to_str().expect("a text");
        let mut launch = Launch::new(directory.path().join(format!("{copy}-data")))
            .env(
                "POSTRIDER_CLOCK",
                format!("{now} {} 1", written_at + 60_000),
            )
            .set("delivery.retry_delays_seconds", 172_800);
        if let Some(key) = settings {
            launch = launch.set("backup.key_file", key.display());
        }
        let (is_whole, said) = launch.run(&["verify-backup", "--from", from]);
        assert!(is_whole, "{copy}: {said}");
        let (is_done, said) = launch.run(&["restore", "--from", from]);
        assert!(is_done, "{copy}: {said}");
        let messages = said.lines().find_map(|line| line.strip_prefix("messages "));
        let messages = messages.and_then(|count| count.trim().parse().ok());
        assert_eq!(messages, known["messages"].as_u64(), "{copy}: {said}");
        let server = launch.try_start(|| text("owner"));
        let server = server.unwrap_or_else(|(why, process)| panic!("{why}: {}", process.log()));
        for (path, then) in known["answers"].as_object().expect("answers by path") {
            let now = server.api.get(path);
            if let Err(difference) = says_the_same(then, &now) {
                panic!("{copy}, {path}: {difference}\nthen {then}\nnow  {now}");
            }
        }
        drop(server);
        verify(&launch);
    }
}

/// The deliveries that a receiver got.
#[derive(Clone, Default)]
struct Arrived(Arc<Mutex<(BTreeSet<Delivery>, Vec<String>)>>);

impl Arrived {
    fn take(&self, received: Result<Delivery, String>) -> Reply {
        let mut books = self.0.lock().expect("no holder of the books panics");
        match received {
            Ok(delivery) => {
                if !books.0.insert(delivery.clone()) {
                    books.1.push(format!("{delivery:?} came twice"));
                }
            }
            Err(why) => books.1.push(why),
        }
        Reply::Status(200)
    }

    fn deliveries(&self) -> BTreeSet<Delivery> {
        self.0
            .lock()
            .expect("no holder of the books panics")
            .0
            .clone()
    }

    fn wrong(&self) -> Vec<String> {
        self.0
            .lock()
            .expect("no holder of the books panics")
            .1
            .clone()
    }
}

fn expect_nothing_waits(server: &Server) {
    let is_over = || {
        let status = server.api.get("/api/v1/status");
        (status["waiting"] == 0 && status["inFlight"] == 0).then_some(())
    };
    until(SOON, is_over).unwrap_or_else(|| panic!("{}", server.api.get("/api/v1/status")));
}

fn verify(launch: &Launch) {
    let (is_sound, said) = launch.run(&["verify-store"]);
    assert!(is_sound, "{said}");
}

/// All files and directories, with the hashes of their contents.
fn tree(path: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![path.to_owned()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("it can be listed");
            left.extend(entries.map(|entry| entry.expect("it can be listed").path()));
            found.insert(path, "a directory".to_owned());
        } else {
            let bytes = std::fs::read(&path).expect("it can be read");
            found.insert(path, hex::encode(Sha256::digest(bytes)));
        }
    }
    found
}

fn assert_same(before: &BTreeMap<PathBuf, String>, after: &BTreeMap<PathBuf, String>) {
    let paths: BTreeSet<&PathBuf> = before.keys().chain(after.keys()).collect();
    let changed = |path: &&&PathBuf| before.get(**path) != after.get(**path);
    let changed: Vec<&&PathBuf> = paths.iter().filter(changed).collect();
    assert!(changed.is_empty(), "changed: {changed:?}");
}
