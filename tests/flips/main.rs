//! One flipped bit, anywhere in the data directory: right answers, or a word of what is wrong.
//!
//! A store has some of everything: what waits, is held, was delivered, failed, was erased; several slices; a
//! journal of which the databases have only a part, for its server was killed. Of this, and of the same store
//! after a clean stop, copies are made with one random bit flipped in one random file. The binary is started
//! on each, asked everything that is known of it, and what is held is let go. A flip may end in
//!
//! - the right answers;
//! - a start that is refused, with the file or its directory named;
//! - a 503 to what asks for it;
//! - a loss that is told: by health, by the log, or by `verify-store`.
//!
//! It may not end in a wrong answer, a loss of which nothing tells, a panic or a hang. `FLIPS` says how
//! many (200 in CI, else 60), `SEED` which ones. `TMPDIR` says where, such as in memory: nothing here is about
//! syncing.

#[path = "../process/mod.rs"]
mod process;

mod store;

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use process::{Process, Server, say, scratch, seed};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use store::{Answers, Known, LAST, Question, brief, launch, make};

/// A start that takes longer hangs.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// What is held and let go.
const ARRIVES_WITHIN: Duration = Duration::from_secs(10);
const WORKERS: usize = 2;
/// Of the file's bytes the smallest part that counts as in use or not.
const BLOCK: usize = 512;

/// How a flip ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Ended {
    /// Nothing differs, and nothing is said.
    Right,
    /// Nothing differs, and it is said.
    RightAndTold,
    Refused,
    Unreadable,
    LossTold,
    // None of these may be.
    RefusedWithoutName,
    LossSilent,
    WrongAnswer,
    Panic,
    Hang,
}

impl Ended {
    fn is_allowed(self) -> bool {
        self < Ended::RefusedWithoutName
    }
}

struct Flip {
    /// Below the data directory.
    file: PathBuf,
    byte: u64,
    bit: u8,
}

#[test]
fn a_flipped_bit_is_told_or_harmless() {
    let flips: usize = match std::env::var("FLIPS") {
        Ok(text) => text.parse().expect("FLIPS is a whole number"),
        Err(_) if std::env::var("CI").as_deref() == Ok("true") => 200,
        Err(_) => 60,
    };
    let seed = seed("flips");
    let directory = match std::env::var_os("TMPDIR") {
        Some(_) => tempfile::tempdir().expect("TMPDIR can be written to"),
        None => scratch(),
    };
    let killed = make(directory.path().join("killed"));
    let stopped = directory.path().join("stopped");
    stop_a_copy(&killed, &stopped);
    let bases = [killed.data.clone(), stopped];
    let expected = bases.each_ref().map(|base| {
        let place = directory.path().join("as it was");
        let (answers, told) = ask_copy(&killed, base, &place);
        assert_eq!(told, None, "nothing is wrong with it");
        assert_eq!(killed.contradicted(&answers), None);
        answers
    });
    let (next, table) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let place = directory.path().join(format!("worker-{worker}"));
            let (next, table, bases, expected, known) = (&next, &table, &bases, &expected, &killed);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= flips {
                        return;
                    }
                    let mut random = StdRng::seed_from_u64(seed ^ number as u64);
                    let which = number % bases.len();
                    let flip = Flip::choose(&bases[which], &mut random);
                    let trial = Trial {
                        known,
                        base: &bases[which],
                        place: &place,
                        flip: &flip,
                    };
                    let (ended, why) = trial.run(&expected[which]);
                    if !ended.is_allowed() {
                        say(&format!("flips: number {number}, {flip}: {ended:?}: {why}"));
                    } else if std::env::var_os("VERBOSE").is_some() {
                        say(&format!("FLIP: number {number}, {flip}: {ended:?}: {why}"));
                    }
                    let kind = flip.kind();
                    table.lock().expect("no worker panics").push((kind, ended));
                }
            });
        }
    });
    let table = table.into_inner().expect("no worker panics");
    say(&shown(&table));
    let bad = table.iter().filter(|(_, ended)| !ended.is_allowed());
    assert_eq!(bad.count(), 0, "of SEED={seed}, see above");
}

/// One line a kind of file: how often it ended how.
fn shown(table: &[(String, Ended)]) -> String {
    let mut rows: BTreeMap<&str, BTreeMap<Ended, usize>> = BTreeMap::new();
    for (kind, ended) in table {
        *rows.entry(kind).or_default().entry(*ended).or_default() += 1;
    }
    let rows = rows.iter().map(|(kind, counts)| {
        let counts = counts
            .iter()
            .map(|(ended, count)| format!("{ended:?} {count}"));
        format!("{kind:24} {}", counts.collect::<Vec<_>>().join(", "))
    });
    format!(
        "flips: {} in all\n{}",
        table.len(),
        rows.collect::<Vec<_>>().join("\n")
    )
}

/// The same store after a start and a clean stop.
fn stop_a_copy(known: &Known, to: &Path) {
    copy(&known.data, to);
    let mut server = launch(to).start();
    server.process.terminate();
    let status = server.process.wait(READY_WITHIN).expect("it stops");
    assert!(status.success(), "{}", server.process.log());
}

/// What a copy without a flip answers, and whether it says that something is wrong.
fn ask_copy(known: &Known, base: &Path, place: &Path) -> (Answers, Option<String>) {
    copy(base, place);
    let server = launch(place).start();
    let answers = known.ask(&server.api).expect("answers");
    let told = told(&server);
    let come = known.release(&server.api, ARRIVES_WITHIN);
    assert_eq!(come.as_ref(), Ok(&known.held));
    drop(server);
    fs::remove_dir_all(place).expect("it can be removed");
    (answers, told)
}

/// What health or the log say of damage.
fn told(server: &Server) -> Option<String> {
    let health = server.api.request("GET", "/api/v1/health", "");
    let health: Option<Value> = health
        .ok()
        .and_then(|one| serde_json::from_slice(&one.body).ok());
    let problem = health.and_then(|health| health["problem"].as_str().map(str::to_owned));
    problem.or_else(|| complaint(&server.process))
}

/// The first line of the log that is a complaint. That the last process was killed is none.
fn complaint(process: &Process) -> Option<String> {
    let log = process.log();
    let mut lines = log.lines().filter(|line| {
        (line.contains(" ERROR ") || line.contains(" WARN "))
            && !line.contains("the last process did not close the store")
            && !line.contains("DEVELOPMENT MODE")
    });
    lines.next().map(str::to_owned)
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    let mut command = Command::new("cp");
    let command = command.args(["-a", "--sparse=always"]).args([from, to]);
    assert!(command.status().is_ok_and(|status| status.success()), "cp");
}

impl Flip {
    /// A kind of file first, since there are many small ones that matter as much as the large ones.
    fn choose(base: &Path, random: &mut StdRng) -> Flip {
        let mut kinds: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        for file in files(base, Path::new("")) {
            kinds.entry(kind_of(&file)).or_default().push(file);
        }
        // And one that holds much is as likely as four others.
        let is_large = |file: &PathBuf| {
            let meta = fs::metadata(base.join(file));
            meta.is_ok_and(|meta| meta.len() >= 16 * 1024)
        };
        let weight = |files: &&Vec<PathBuf>| if files.iter().any(is_large) { 4 } else { 1 };
        let kinds: Vec<&Vec<PathBuf>> = kinds.values().collect();
        let files = kinds.choose_weighted(random, weight);
        let files = files.expect("a store has files");
        let file = files.choose(random).expect("a kind has files").clone();
        let bytes = fs::read(base.join(&file)).expect("it can be read");
        let in_use = bytes.chunks(BLOCK).enumerate();
        let in_use = in_use.filter(|(_, block)| block.iter().any(|byte| *byte != 0));
        let in_use: Vec<usize> = in_use.map(|(place, _)| place * BLOCK).collect();
        // Files have room for later: most flips are where something is.
        let byte = match in_use.choose(random) {
            Some(block) if random.random_ratio(9, 10) => {
                block + random.random_range(0..BLOCK.min(bytes.len() - block))
            }
            _ => random.random_range(0..bytes.len()),
        };
        Flip {
            file,
            byte: byte as u64,
            bit: random.random_range(0..8),
        }
    }

    fn apply(&self, data: &Path) {
        let path = data.join(&self.file);
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.expect("it is there");
        let mut byte = [0];
        file.read_exact_at(&mut byte, self.byte)
            .expect("it is there");
        byte[0] ^= 1 << self.bit;
        file.write_all_at(&byte, self.byte).expect("it is ours");
    }

    fn kind(&self) -> String {
        kind_of(&self.file)
    }
}

impl std::fmt::Display for Flip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}, byte {}, bit {}",
            self.file.display(),
            self.byte,
            self.bit
        )
    }
}

/// The path with N for each number in it.
fn kind_of(file: &Path) -> String {
    let text = file.to_string_lossy();
    let mut kind = String::new();
    let mut in_number = false;
    for letter in text.chars() {
        let is_digit = letter.is_ascii_digit() || in_number && letter.is_ascii_hexdigit();
        if !is_digit {
            kind.push(letter);
        } else if !in_number {
            kind.push('N');
        }
        in_number = is_digit;
    }
    kind
}

/// Files that have bytes, below the directory.
fn files(base: &Path, below: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = fs::read_dir(base.join(below)).expect("it can be read");
    for entry in entries {
        let entry = entry.expect("it can be read");
        let path = below.join(entry.file_name());
        let meta = entry.metadata().expect("it can be read");
        if meta.is_dir() {
            found.extend(files(base, &path));
        } else if meta.len() > 0 {
            found.push(path);
        }
    }
    found.sort();
    found
}

struct Trial<'a> {
    known: &'a Known,
    base: &'a Path,
    /// Where the copy is made.
    place: &'a Path,
    flip: &'a Flip,
}

impl Trial<'_> {
    fn run(&self, expected: &Answers) -> (Ended, String) {
        self.make_copy();
        let token = || self.known.token.clone();
        let started = launch(self.place)
            .ready_within(READY_WITHIN)
            .try_start(token);
        let mut server = match started {
            Ok(server) => server,
            Err((_, mut process)) => return self.refused(&mut process),
        };
        let answers = self.known.ask(&server.api);
        let said = told(&server);
        let mut worst = match &answers {
            Ok(answers) => self.judge(answers, expected, said.as_deref()),
            // It ends by itself where its storage fails, and says so first.
            Err(why) if said.is_some() => (Ended::Refused, why.clone()),
            Err(why) => (Ended::Hang, why.clone()),
        };
        if worst.0 <= Ended::LossTold && answers.is_ok() {
            // What is known not to be readable need not be waited for.
            let limit = match worst.0 {
                Ended::Right => ARRIVES_WITHIN,
                _ => ARRIVES_WITHIN / 50,
            };
            let released = self.released(&server, limit);
            if worst.0 == Ended::Right || released.0 == Ended::WrongAnswer {
                worst = released;
            }
        }
        server.process.kill();
        let log = server.process.log();
        if log.contains("panicked") {
            return (Ended::Panic, log);
        }
        if worst.0 == Ended::LossSilent && (said.is_some() || self.is_verified_as_damaged()) {
            worst.0 = Ended::LossTold;
        }
        worst
    }

    /// The worst of the answers.
    fn judge(&self, answers: &Answers, expected: &Answers, said: Option<&str>) -> (Ended, String) {
        if let Some(why) = self.known.contradicted(answers) {
            return (Ended::WrongAnswer, why);
        }
        let begin = match said {
            None => (Ended::Right, String::new()),
            Some(said) => (Ended::RightAndTold, said.to_owned()),
        };
        let judged = answers
            .iter()
            .map(|(question, found)| self.compare(question, &expected[question], found));
        judged.fold(
            begin,
            |worst, one| if one.0 > worst.0 { one } else { worst },
        )
    }

    /// What came of what was held, as if nothing else were wrong.
    fn released(&self, server: &Server, limit: Duration) -> (Ended, String) {
        match self.known.release(&server.api, limit) {
            Err(why) => (Ended::WrongAnswer, why),
            Ok(come) if self.all_came(&come) => (Ended::Right, String::new()),
            Ok(come) => {
                let how = format!("{} of {} came", come.len(), self.known.held.len());
                match told(server) {
                    Some(said) => (Ended::LossTold, format!("{how}: {said}")),
                    None => (Ended::LossSilent, how),
                }
            }
        }
    }

    fn make_copy(&self) {
        copy(self.base, self.place);
        self.flip.apply(self.place);
    }

    fn is_in_journal(&self) -> bool {
        self.flip.file.starts_with("journal")
    }

    /// All but the one in the last record before the crash, if it is the journal that was changed.
    fn all_came(&self, come: &std::collections::BTreeSet<usize>) -> bool {
        let mut missing = self.known.held.difference(come);
        missing.all(|number| self.is_in_journal() && *number == LAST)
    }

    fn refused(&self, process: &mut Process) -> (Ended, String) {
        if process.is_running() && process.wait(Duration::from_secs(5)).is_none() {
            process.kill();
            return (Ended::Hang, process.log());
        }
        process.kill();
        let log = process.log();
        if log.contains("panicked") {
            return (Ended::Panic, log);
        }
        let last = log.lines().last().unwrap_or_default();
        let file = self.flip.file.to_string_lossy();
        let directory = self.place.to_string_lossy();
        let is_named = last.contains(&*file) || last.contains(&*directory);
        let ended = if is_named {
            Ended::Refused
        } else {
            Ended::RefusedWithoutName
        };
        (ended, log)
    }

    /// Whether an answer is right, a loss that is to be told, or wrong.
    fn compare(
        &self,
        question: &Question,
        known: &(u16, Value),
        found: &(u16, Value),
    ) -> (Ended, String) {
        let how = || {
            format!(
                "{question:?} was {} and is {}",
                told_of(known),
                told_of(found)
            )
        };
        if known == found {
            return (Ended::Right, String::new());
        }
        if found.0 == 503 && !found.1.is_null() {
            return (Ended::Unreadable, how());
        }
        let last = self.is_in_journal().then(|| self.known.last_id());
        let ended = match (question, found.0) {
            // The message of the last record before the crash.
            (Question::Get(path), _) if last.is_some_and(|last| path.contains(last)) => {
                Ended::Right
            }
            (Question::Get(_), 404) => Ended::LossSilent,
            // A list that ends before what cannot be read, and says that there is more.
            (Question::Get(_), 200) if known.1["done"] == true && found.1["done"] == false => {
                Ended::Unreadable
            }
            (Question::Get(_), 200) => match left_out(&known.1, &found.1) {
                Some(ids) if ids.iter().all(|id| last == Some(id)) => Ended::Right,
                Some(_) => Ended::LossSilent,
                None => Ended::WrongAnswer,
            },
            _ => Ended::WrongAnswer,
        };
        (ended, how())
    }

    fn is_verified_as_damaged(&self) -> bool {
        self.make_copy();
        let output = Command::new(env!("CARGO_BIN_EXE_postrider"))
            .arg("verify-store")
            .env("POSTRIDER__STORE__PATH", self.place)
            .current_dir(self.place.parent().expect("a directory of ours"))
            .output()
            .expect("the binary runs");
        output.status.code() == Some(1)
    }
}

fn told_of((status, body): &(u16, Value)) -> String {
    format!("{status} {}", brief(body))
}

/// The ids, or messages' ids, of those that a list has no more, if all others are as they were.
fn left_out(known: &Value, found: &Value) -> Option<Vec<String>> {
    let (known, found) = (known["data"].as_array()?, found["data"].as_array()?);
    let mut found = found.iter().peekable();
    let mut missing = Vec::new();
    for item in known {
        if found.next_if_eq(&item).is_none() {
            let id = item["msgId"].as_str().or(item["id"].as_str());
            missing.push(id.unwrap_or_default().to_owned());
        }
    }
    found.next().is_none().then_some(missing)
}

#[test]
fn a_list_that_lacks_something_is_told_from_one_that_is_wrong() {
    let list = |ids: &[&str]| {
        let items = ids.iter().map(|id| serde_json::json!({ "id": id }));
        serde_json::json!({ "data": items.collect::<Vec<_>>() })
    };
    let known = list(&["a", "b", "c"]);
    let left_out = |ids: &[&str]| left_out(&known, &list(ids));
    assert_eq!(left_out(&["a", "b", "c"]), Some(vec![]));
    assert_eq!(left_out(&["a", "c"]), Some(vec!["b".to_owned()]));
    for wrong in [&["a", "x", "c"][..], &["b", "a"], &["a", "b", "c", "d"]] {
        assert_eq!(left_out(wrong), None, "{wrong:?}");
    }
}
