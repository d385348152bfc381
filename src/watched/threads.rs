//! The list of a server's threads: the purpose of each, whether it works or waits, and its last error.
//!
//! A thread reports for itself, by functions that find its entry in a thread-local variable. That
//! costs an atomic load where nothing changes, and the time of day where something does.

use std::cell::OnceCell;
use std::fmt::{Display, Write};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::{ACCEPTOR, caught, planned_panic};
use crate::clock::{Clock, Timestamp};
use crate::lock::locked;

/// An error's text is cut after this many bytes.
const ERROR_BYTES_MAX: usize = 500;

/// Every thread that lives as long as the server. Threads of one kind have numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Main,
    Acceptor,
    Http(usize),
    MetricsHttp,
    Committer,
    Keeper,
    Watchdog,
    Checkpoints,
    CheckpointFile,
    Spares,
    Filters,
    Eraser,
    Recount,
    Backup,
    BackupVerifier,
    Reader(usize),
    Loader,
    Delivery(usize),
    Challenges,
    Jobs,
    Notifier,
}

impl Kind {
    /// The name in logs and, as far as 15 bytes, of the thread in the system.
    pub fn name(self) -> String {
        match self {
            Kind::Main => "main".to_owned(),
            Kind::Acceptor => ACCEPTOR.to_owned(),
            Kind::Http(number) => format!("http-{number}"),
            Kind::MetricsHttp => "http-metrics".to_owned(),
            Kind::Committer => "store-committer".to_owned(),
            Kind::Keeper => "store-keeper".to_owned(),
            Kind::Watchdog => "store-watchdog".to_owned(),
            Kind::Checkpoints => "checkpoints".to_owned(),
            Kind::CheckpointFile => "checkpoint-file".to_owned(),
            Kind::Spares => "store-spares".to_owned(),
            Kind::Filters => "store-filters".to_owned(),
            Kind::Eraser => "store-eraser".to_owned(),
            Kind::Recount => "store-recount".to_owned(),
            Kind::Backup => "store-backup".to_owned(),
            Kind::BackupVerifier => "store-verify".to_owned(),
            Kind::Reader(number) => format!("reader-{number}"),
            Kind::Loader => "loader".to_owned(),
            Kind::Delivery(number) => format!("delivery-{number}"),
            Kind::Challenges => "challenges".to_owned(),
            Kind::Jobs => "jobs".to_owned(),
            Kind::Notifier => "notify".to_owned(),
        }
    }

    fn does(self) -> &'static str {
        match self {
            Kind::Main => "starts and stops the server, and keeps gauges up to date",
            Kind::Acceptor => "accepts connections",
            Kind::Http(_) => "answers requests",
            Kind::MetricsHttp => "answers requests for metrics at server.metrics_listen",
            Kind::Committer => "writes every change to the disk",
            Kind::Keeper => "drops old history, exports registrations, watches the free space",
            Kind::Watchdog => "ends the process when a commit hangs",
            Kind::Checkpoints => "brings what the journal has into the databases",
            Kind::CheckpointFile => "copies what waits and what is registered into one file",
            Kind::Spares => "makes files for the journal ready",
            Kind::Filters => "notes which keys each slice of history has",
            Kind::Eraser => "erases messages and attempts of deleted applications",
            Kind::Recount => "counts after a start what waits, and compares it",
            Kind::Backup => "copies the store to backup.to",
            Kind::BackupVerifier => "reads that copy now and then, and checks all of it",
            Kind::Reader(_) => "reads history for requests",
            Kind::Loader => "reads the queue and messages for deliveries",
            Kind::Delivery(_) => "sends messages to endpoints",
            Kind::Challenges => "verifies endpoints",
            Kind::Jobs => "runs background jobs, as replays",
            Kind::Notifier => {
                "tells people of endpoints that fail, by operational events and by mail"
            }
        }
    }
}

/// Whether a thread works, waits or has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It does not report when it works and when it waits.
    Running = 0,
    /// It waits for work.
    Idle = 1,
    Working = 2,
    Ended = 3,
}

impl State {
    fn of(bits: u64) -> State {
        match bits & 3 {
            0 => State::Running,
            1 => State::Idle,
            2 => State::Working,
            _ => State::Ended,
        }
    }
}

/// An error that a thread met and went on after, or ended with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastError {
    pub message: String,
    pub at: Timestamp,
}

/// A thread as [`Threads::list`] shows it.
#[derive(Clone, Debug)]
pub struct Look {
    pub name: String,
    pub does: &'static str,
    pub state: State,
    /// The start of that state.
    pub since: Timestamp,
    pub last_error: Option<LastError>,
    pub errors: u64,
}

/// The entry of one thread.
pub struct Thread {
    kind: Kind,
    name: String,
    clock: Clock,
    /// The state in the two lowest bits, its start in milliseconds above them.
    state: AtomicU64,
    errors: Mutex<Errors>,
}

#[derive(Default)]
struct Errors {
    count: u64,
    last: Option<LastError>,
}

thread_local! {
    static CURRENT: OnceCell<Arc<Thread>> = const { OnceCell::new() };
}

/// Calls `report` with the entry of the current thread, if it has one.
fn current<T>(report: impl FnOnce(&Thread) -> T) -> Option<T> {
    let reported = CURRENT.try_with(|current| current.get().map(|thread| report(thread)));
    reported.ok().flatten()
}

/// The current thread waits for work.
pub fn idle() {
    current(|thread| thread.enter(State::Idle));
}

/// The current thread has found work.
pub fn working() {
    current(|thread| thread.enter(State::Working));
    planned_thread_panic();
}

/// Runs a wait for work, during which the current thread is idle.
pub fn idle_while<T>(wait: impl FnOnce() -> T) -> T {
    idle();
    let waited = wait();
    working();
    waited
}

/// The same for a thread that awaits.
pub async fn idle_during<T>(wait: impl Future<Output = T>) -> T {
    idle();
    let waited = wait.await;
    working();
    waited
}

/// Notes an error of the current thread. The log is told by the caller.
pub fn note_error(error: impl Display) {
    current(|thread| thread.note_error(error));
}

/// The name of the current thread.
pub(super) fn current_name() -> Option<String> {
    current(|thread| thread.name.clone())
}

/// Panics if a test has planned it for the current thread.
pub fn planned_thread_panic() {
    if cfg!(debug_assertions)
        && let Some(name) = current_name()
    {
        planned_panic("thread", name);
    }
}

impl Thread {
    fn enter(&self, state: State) {
        if State::of(self.state.load(Ordering::Relaxed)) != state {
            let since = self.clock.now().as_millis() << 2 | state as u64;
            self.state.store(since, Ordering::Relaxed);
        }
    }

    pub fn note_error(&self, error: impl Display) {
        let mut message = String::new();
        let _ = write!(message, "{error}");
        if message.len() > ERROR_BYTES_MAX {
            let mut end = ERROR_BYTES_MAX;
            while !message.is_char_boundary(end) {
                end -= 1;
            }
            message.truncate(end);
            message.push('…');
        }
        let at = self.clock.now();
        let mut errors = locked(self.errors.lock());
        errors.count += 1;
        errors.last = Some(LastError { message, at });
    }

    fn look(&self) -> Look {
        let bits = self.state.load(Ordering::Relaxed);
        let errors = locked(self.errors.lock());
        Look {
            name: self.name.clone(),
            does: self.kind.does(),
            state: State::of(bits),
            since: Timestamp(bits >> 2),
            last_error: errors.last.clone(),
            errors: errors.count,
        }
    }
}

/// The threads of one server.
#[derive(Clone)]
pub struct Threads {
    clock: Clock,
    all: Arc<Mutex<Vec<Arc<Thread>>>>,
}

impl Threads {
    pub fn new(clock: Clock) -> Threads {
        Threads {
            clock,
            all: Arc::default(),
        }
    }

    /// Starts a thread, and calls `failed` with its name should it panic. Joining it never fails.
    pub fn spawn(
        &self,
        kind: Kind,
        failed: impl FnOnce(String) + Send + 'static,
        run: impl FnOnce() + Send + 'static,
    ) -> JoinHandle<()> {
        let thread = self.add(kind);
        // It may be a while until it runs.
        thread.enter(State::Working);
        std::thread::Builder::new()
            .name(thread.name.clone())
            .spawn(move || {
                let _ = CURRENT.with(|current| current.set(thread.clone()));
                let ended = caught(|| {
                    working();
                    run();
                });
                if ended.is_err() {
                    failed(format!("the thread {}", thread.name));
                }
                thread.enter(State::Ended);
            })
            .expect("the system has room for a thread at start")
    }

    /// Lists a thread that was not started here and does not report whether it works.
    pub fn add(&self, kind: Kind) -> Arc<Thread> {
        let thread = Arc::new(Thread {
            name: kind.name(),
            kind,
            clock: self.clock.clone(),
            state: AtomicU64::new(self.clock.now().as_millis() << 2),
            errors: Mutex::default(),
        });
        locked(self.all.lock()).push(thread.clone());
        thread
    }

    /// Lists the current thread, which was not started here, and names it in the system. One of the
    /// same kind that is listed has ended, and this one is in its place.
    pub fn add_current(&self, kind: Kind) {
        let all = locked(self.all.lock());
        let earlier = all.iter().find(|thread| thread.kind == kind).cloned();
        drop(all);
        let thread = match earlier {
            Some(thread) => {
                thread.note_error("the thread ended by itself and was started again");
                thread
            }
            None => self.add(kind),
        };
        if let Ok(name) = std::ffi::CString::new(thread.name.clone()) {
            // The name is for people only.
            let _ = rustix::thread::set_name(&name);
        }
        let _ = CURRENT.with(|current| current.set(thread));
    }

    /// All of them, in the order in which they started.
    pub fn list(&self) -> Vec<Look> {
        let all = locked(self.all.lock());
        all.iter().map(|thread| thread.look()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    fn clock() -> Clock {
        Clock::manual(Timestamp::from_seconds(1_700_000_000))
    }

    #[test]
    fn a_threads_panic_is_told_by_its_name_and_a_clean_end_is_not() {
        let threads = Threads::new(clock());
        let (told, heard) = channel();
        let quiet = told.clone();
        let clean = threads.spawn(Kind::Loader, move |name| quiet.send(name).unwrap(), || {});
        clean.join().unwrap();
        let fail = move |name| {
            note_error("the end");
            told.send(name).unwrap();
        };
        let broken = threads.spawn(Kind::Delivery(3), fail, || panic!());
        broken.join().unwrap();
        assert_eq!(Vec::from_iter(heard), ["the thread delivery-3"]);
        let [clean, broken] = &threads.list()[..] else {
            panic!("two threads were started");
        };
        assert_eq!((clean.state, clean.errors), (State::Ended, 0));
        assert_eq!((broken.state, broken.errors), (State::Ended, 1));
    }

    #[test]
    fn a_thread_tells_what_it_does_since_when_and_its_last_error() {
        let clock = clock();
        let threads = Threads::new(clock.clone());
        let began = clock.now();
        let (look, looks) = (threads.clone(), clock.clone());
        let step = move || looks.advance_to(looks.now() + Duration::from_secs(1));
        let run = move || {
            let seen = || look.list().remove(0);
            assert_eq!((seen().state, seen().since), (State::Working, began));
            step();
            working();
            assert_eq!(seen().since, began, "nothing has changed");
            idle_while(|| {
                let idle_at = began + Duration::from_secs(1);
                assert_eq!((seen().state, seen().since), (State::Idle, idle_at));
            });
            assert_eq!(seen().state, State::Working);
            assert_eq!((seen().last_error, seen().errors), (None, 0));
            note_error("first");
            step();
            note_error("é".repeat(ERROR_BYTES_MAX));
            assert!(super::super::contained(|| panic!("on purpose")).is_err());
        };
        let failed = |name| panic!("{name}");
        threads.spawn(Kind::Keeper, failed, run).join().unwrap();
        let [seen] = &threads.list()[..] else {
            panic!("one thread was started");
        };
        assert_eq!(
            (seen.name.as_str(), seen.state),
            ("store-keeper", State::Ended)
        );
        assert_eq!(seen.errors, 3, "a contained panic is one");
        let last = seen.last_error.clone().unwrap();
        assert_eq!(last.at, began + Duration::from_secs(2));
        assert!(last.message.contains("panic"), "{}", last.message);
    }

    #[test]
    fn the_text_of_an_error_is_cut_between_letters() {
        let thread = Threads::new(clock()).add(Kind::Main);
        thread.note_error(format_args!("a{}", "é".repeat(ERROR_BYTES_MAX)));
        let message = thread.look().last_error.unwrap().message;
        assert_eq!(message.len(), ERROR_BYTES_MAX - 1 + '…'.len_utf8());
        assert!(message.ends_with("é…"));
    }

    #[test]
    fn a_thread_in_anothers_place_is_listed_once() {
        let threads = Threads::new(clock());
        for errors in 0..3 {
            let listed = threads.clone();
            let begin = move || listed.add_current(Kind::Http(0));
            std::thread::spawn(begin).join().unwrap();
            let [seen] = &threads.list()[..] else {
                panic!("one is listed");
            };
            assert_eq!((seen.name.as_str(), seen.errors), ("http-0", errors));
        }
    }

    #[test]
    fn names_fit_what_the_system_keeps() {
        // The largest numbers that the settings allow; actix names the acceptor.
        for kind in [
            Kind::Main,
            Kind::Http(255),
            Kind::MetricsHttp,
            Kind::Committer,
            Kind::Keeper,
            Kind::Watchdog,
            Kind::Checkpoints,
            Kind::CheckpointFile,
            Kind::Spares,
            Kind::Filters,
            Kind::Eraser,
            Kind::Recount,
            Kind::Backup,
            Kind::BackupVerifier,
            Kind::Reader(99_999_999),
            Kind::Loader,
            Kind::Delivery(63),
            Kind::Challenges,
            Kind::Jobs,
            Kind::Notifier,
        ] {
            assert!(kind.name().len() <= 15, "{kind:?}");
        }
    }
}
