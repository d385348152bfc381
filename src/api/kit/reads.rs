//! Turns to read history: the threads that read, and the queue before them.
//!
//! A read blocks on the disk and makes an answer that may be long, so it runs on one of a few threads
//! that do nothing else. (They have the priority of all others: a lower one made no difference to
//! publishing that could be measured, and one that is interrupted may hold what the committer waits
//! for.) Each [`Payer`] has a line of its own, first come first served, and some of its reads at most are
//! under way at once. Payers take turns, one read a turn, so how long one of them waits depends on how
//! many others read, and not on how much they ask for.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::lock::locked;
use crate::rules::payer::Payer;
use crate::telemetry::Metrics;
use crate::watched::{self, Kind, Threads};

/// The limits of one payer.
#[derive(Clone, Copy, Debug)]
pub struct ReadBounds {
    /// Reads under way at once.
    pub reads: usize,
    /// Reads that wait for their turn.
    pub waiting: usize,
    /// A read that has waited for longer is given up.
    pub wait: Duration,
}

/// Why a read was not made.
#[derive(Debug, PartialEq, Eq)]
pub enum NoTurn {
    /// The payer has as many waiting reads as it may.
    LineIsFull,
    /// The read waited for too long.
    WaitedTooLong,
}

pub struct Readers {
    shared: Arc<Shared>,
    bounds: ReadBounds,
}

struct Shared {
    queue: Mutex<Queue<Read>>,
    changed: Condvar,
    metrics: Arc<Metrics>,
}

type Read = Box<dyn FnOnce() + Send>;

impl Readers {
    /// Starts the threads. `failed` is called if a thread itself ends by a panic; a panic in a read
    /// ends that read alone.
    pub fn start(
        bounds: ReadBounds,
        metrics: Arc<Metrics>,
        threads: &Threads,
        failed: impl Fn(String) + Clone + Send + 'static,
    ) -> Readers {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue::new(bounds)),
            changed: Condvar::new(),
            metrics,
        });
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        // No payer can have all of them.
        for number in 0..(2 * cores).max(2 * bounds.reads) {
            let shared = shared.clone();
            let serve = move || shared.serve();
            drop(threads.spawn(Kind::Reader(number), failed.clone(), serve));
        }
        Readers { shared, bounds }
    }

    /// Runs a read when it is its turn. Dropping the future gives up the turn.
    pub async fn run<T: Send + 'static>(
        &self,
        payer: Payer,
        read: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<Result<T>, NoTurn> {
        let (answer, mut answered) = oneshot::channel();
        let place = self.shared.enter(
            payer,
            Box::new(move || {
                let result = watched::contained(read).unwrap_or(Err(Error::Defect));
                if let Err(error @ (Error::Unreadable { .. } | Error::Storage(_))) = &result {
                    watched::note_error(error);
                }
                let _ = answer.send(result);
            }),
        )?;
        let result = match tokio::time::timeout(self.bounds.wait, &mut answered).await {
            Ok(result) => result,
            Err(_) if place.leave() => return Err(NoTurn::WaitedTooLong),
            Err(_) => answered.await,
        };
        Ok(result.unwrap_or_else(|_| {
            Err(Error::Unavailable {
                reason: "the server is stopping".to_owned(),
                retry_after_seconds: 1,
            })
        }))
    }
}

impl Drop for Readers {
    /// Each thread ends with the read that it has under way.
    fn drop(&mut self) {
        let waiting = self.shared.lock().close();
        self.shared.changed.notify_all();
        drop(waiting);
    }
}

impl Shared {
    fn enter(&self, payer: Payer, read: Read) -> Result<Place<'_>, NoTurn> {
        let mut queue = self.lock();
        let number = queue.enter(payer, read).ok_or(NoTurn::LineIsFull)?;
        self.show(&queue);
        drop(queue);
        self.changed.notify_one();
        let shared = self;
        Ok(Place {
            shared,
            payer,
            number,
        })
    }

    /// Runs reads on one of the threads, until the queue is closed.
    fn serve(&self) {
        let mut queue = self.lock();
        loop {
            let Some((payer, read)) = queue.next() else {
                if queue.is_closed {
                    return;
                }
                let waited = watched::idle_while(|| self.changed.wait(queue));
                queue = locked(waited);
                continue;
            };
            self.show(&queue);
            drop(queue);
            read();
            queue = self.lock();
            queue.done(payer);
            self.show(&queue);
        }
    }

    fn show(&self, queue: &Queue<Read>) {
        self.metrics.reads_waiting.set(queue.waiting as i64);
        self.metrics.reads_under_way.set(queue.under_way as i64);
    }

    fn lock(&self) -> MutexGuard<'_, Queue<Read>> {
        locked(self.queue.lock())
    }
}

/// A place in a payer's line, given up when it is dropped.
struct Place<'a> {
    shared: &'a Shared,
    payer: Payer,
    number: u64,
}

impl Place<'_> {
    /// Takes the read out of the queue; returns whether it was still waiting, and so never runs.
    fn leave(&self) -> bool {
        let mut queue = self.shared.lock();
        let left = queue.leave(self.payer, self.number);
        self.shared.show(&queue);
        drop(queue);
        // The read's own values are dropped here, where no lock is held.
        left.is_some()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The queue of reads, and whose turn is next. It knows nothing of threads and time.
struct Queue<R> {
    bounds: ReadBounds,
    /// The lines of payers with reads that wait or are under way.
    lines: HashMap<Payer, Line<R>>,
    /// The payers with a read that may begin, each once, in the order of their turns.
    turns: VecDeque<Payer>,
    /// The number of the next read.
    number: u64,
    waiting: usize,
    under_way: usize,
    is_closed: bool,
}

struct Line<R> {
    waiting: VecDeque<(u64, R)>,
    under_way: usize,
    /// The payer is among the turns.
    has_turn: bool,
}

impl<R> Queue<R> {
    fn new(bounds: ReadBounds) -> Queue<R> {
        Queue {
            bounds,
            lines: HashMap::new(),
            turns: VecDeque::new(),
            number: 0,
            waiting: 0,
            under_way: 0,
            is_closed: false,
        }
    }

    /// Puts a read at the end of its payer's line and returns its number; nothing where the line is
    /// full.
    fn enter(&mut self, payer: Payer, read: R) -> Option<u64> {
        let line = self.lines.entry(payer).or_insert_with(|| Line {
            waiting: VecDeque::new(),
            under_way: 0,
            has_turn: false,
        });
        if line.waiting.len() >= self.bounds.waiting {
            return None;
        }
        self.number += 1;
        if self.is_closed {
            // The waiting caller notices that the read is dropped.
            return Some(self.number);
        }
        line.waiting.push_back((self.number, read));
        self.waiting += 1;
        self.give_turn(payer);
        Some(self.number)
    }

    /// The read whose turn it is, which is under way from now on.
    fn next(&mut self) -> Option<(Payer, R)> {
        loop {
            let payer = self.turns.pop_front()?;
            let line = self.lines.get_mut(&payer).expect("it has a turn");
            line.has_turn = false;
            let Some((_, read)) = line.waiting.pop_front() else {
                // All that waited have left.
                self.forget_if_idle(payer);
                continue;
            };
            line.under_way += 1;
            self.waiting -= 1;
            self.under_way += 1;
            self.give_turn(payer);
            return Some((payer, read));
        }
    }

    /// A read that was under way is over.
    fn done(&mut self, payer: Payer) {
        let line = self.lines.get_mut(&payer).expect("it has a read under way");
        line.under_way -= 1;
        self.under_way -= 1;
        self.give_turn(payer);
        self.forget_if_idle(payer);
    }

    /// Takes a read out of its line, where it still waits.
    fn leave(&mut self, payer: Payer, number: u64) -> Option<R> {
        let line = self.lines.get_mut(&payer)?;
        let at = line.waiting.iter().position(|(one, _)| *one == number)?;
        let (_, read) = line.waiting.remove(at)?;
        self.waiting -= 1;
        self.forget_if_idle(payer);
        Some(read)
    }

    /// Closes the queue: no read begins any more. Returns the waiting reads.
    fn close(&mut self) -> Vec<R> {
        self.is_closed = true;
        self.waiting = 0;
        let lines = self.lines.values_mut();
        let waiting = lines.flat_map(|line| line.waiting.drain(..));
        waiting.map(|(_, read)| read).collect()
    }

    /// Puts the payer behind all others in turn, where one of its reads may begin.
    fn give_turn(&mut self, payer: Payer) {
        let line = self.lines.get_mut(&payer).expect("it was found before");
        let may_begin = !line.waiting.is_empty() && line.under_way < self.bounds.reads;
        if may_begin && !line.has_turn {
            line.has_turn = true;
            self.turns.push_back(payer);
        }
    }

    fn forget_if_idle(&mut self, payer: Payer) {
        let is_idle =
            |line: &Line<R>| line.waiting.is_empty() && line.under_way == 0 && !line.has_turn;
        if self.lines.get(&payer).is_some_and(is_idle) {
            self.lines.remove(&payer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::domain::id::TokenId;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    const BOUNDS: ReadBounds = ReadBounds {
        reads: 2,
        waiting: 64,
        wait: Duration::from_secs(10),
    };

    fn payer(number: usize) -> Payer {
        let mut id = [1; 20];
        id[..8].copy_from_slice(&(number as u64).to_be_bytes());
        Payer::Token(TokenId(id))
    }

    /// A read in the simulation below.
    #[derive(Clone, Copy)]
    struct Simulated {
        payer: usize,
        asked_at: u64,
        takes: u64,
        /// How many of its payer's were waiting or under way when it came.
        before: u64,
    }

    /// Threads that read, payers of which some ask for as much as they may all the time, and what
    /// becomes of each read.
    struct Simulation {
        queue: Queue<Simulated>,
        now: u64,
        threads: usize,
        /// With the time at which each is over.
        under_way: Vec<(u64, usize)>,
        /// How many reads of others began since the payer could have had a turn, by payer.
        passed_by: HashMap<usize, HashMap<usize, usize>>,
        /// Of each payer, when the last of its reads to begin was asked for.
        last_begun: HashMap<usize, u64>,
        /// The longest wait in which no other read of the payer was before it.
        longest_wait: HashMap<usize, u64>,
    }

    impl Simulation {
        fn owed(&self, number: usize) -> bool {
            let line = self.queue.lines.get(&payer(number));
            line.is_some_and(|line| !line.waiting.is_empty() && line.under_way < BOUNDS.reads)
        }

        fn ask(&mut self, number: usize, takes: u64) -> bool {
            let line = self.queue.lines.get(&payer(number));
            let before = line.map_or(0, |line| line.waiting.len() + line.under_way) as u64;
            let read = Simulated {
                payer: number,
                asked_at: self.now,
                takes,
                before,
            };
            let was_owed = self.owed(number);
            let entered = self.queue.enter(payer(number), read).is_some();
            if !was_owed {
                self.passed_by.remove(&number);
            }
            entered
        }

        /// Ends what is over and begins what may begin.
        fn step(&mut self, payers: usize) {
            let (over, rest): (Vec<_>, Vec<_>) = self
                .under_way
                .drain(..)
                .partition(|(end, _)| *end <= self.now);
            self.under_way = rest;
            for (_, number) in over {
                let was_owed = self.owed(number);
                self.queue.done(payer(number));
                if !was_owed {
                    self.passed_by.remove(&number);
                }
            }
            while self.under_way.len() < self.threads {
                let Some((_, read)) = self.queue.next() else {
                    assert!((0..payers).all(|one| !self.owed(one)), "a thread is idle");
                    break;
                };
                self.begun(read, payers);
            }
        }

        fn begun(&mut self, read: Simulated, payers: usize) {
            let number = read.payer;
            let earlier = self.last_begun.insert(number, read.asked_at);
            assert!(earlier <= Some(read.asked_at), "first come, first served");
            self.under_way.push((self.now + read.takes, number));
            let own = self.under_way.iter().filter(|(_, one)| *one == number);
            assert!(own.count() <= BOUNDS.reads);
            self.passed_by.remove(&number);
            for other in (0..payers).filter(|other| *other != number) {
                if self.owed(other) {
                    let passed = self.passed_by.entry(other).or_default();
                    let times = passed.entry(number).or_default();
                    *times += 1;
                    assert!(
                        *times <= 1,
                        "{number} had two turns while {other} waited for one"
                    );
                }
            }
            if read.before == 0 {
                let longest = self.longest_wait.entry(number).or_default();
                *longest = (*longest).max(self.now - read.asked_at);
            }
        }
    }

    #[test]
    fn how_long_a_payer_waits_depends_on_how_many_read_and_not_on_how_much() {
        const LONGEST: u64 = 20;
        for seed in 0..40 {
            let mut random = StdRng::seed_from_u64(seed);
            let threads = random.random_range(2..=8);
            let payers = random.random_range(2..=40);
            let greedy = random.random_range(1..payers);
            let mut simulation = Simulation {
                queue: Queue::new(BOUNDS),
                now: 0,
                threads,
                under_way: Vec::new(),
                passed_by: HashMap::new(),
                last_begun: HashMap::new(),
                longest_wait: HashMap::new(),
            };
            let mut honest = 0;
            for now in 0..3_000 {
                simulation.now = now;
                for number in 0..payers {
                    match number < greedy {
                        true => while simulation.ask(number, random.random_range(1..=LONGEST)) {},
                        false if random.random_bool(0.02) => {
                            assert!(simulation.ask(number, random.random_range(1..=LONGEST)));
                            honest += 1;
                        }
                        false => {}
                    }
                }
                simulation.step(payers);
            }
            assert!(honest > 0);
            // Each of the others has one turn before, and each turn is over after the longest time.
            let rounds = payers.div_ceil(threads) as u64;
            for (number, wait) in &simulation.longest_wait {
                let most = rounds * LONGEST;
                assert!(
                    *wait <= most,
                    "seed {seed}: {number} waited {wait} of {most}"
                );
            }
        }
    }

    #[test]
    fn who_leaves_takes_nothing_along_and_leaves_nothing_behind() {
        let mut queue = Queue::new(BOUNDS);
        let first = queue.enter(payer(1), 'a').expect("a place");
        let second = queue.enter(payer(1), 'b').expect("a place");
        let other = queue.enter(payer(2), 'c').expect("a place");
        assert_eq!(queue.leave(payer(1), first), Some('a'));
        assert_eq!(queue.leave(payer(1), first), None);
        assert_eq!(queue.next(), Some((payer(1), 'b')));
        assert_eq!(queue.leave(payer(1), second), None, "it is under way");
        assert_eq!(queue.leave(payer(2), other), Some('c'));
        assert_eq!(queue.next(), None);
        queue.done(payer(1));
        assert_eq!((queue.waiting, queue.under_way), (0, 0));
        assert!(queue.lines.is_empty() && queue.turns.is_empty());
    }

    #[test]
    fn a_line_has_an_end() {
        let mut queue = Queue::new(BOUNDS);
        let entered = (0..100).filter(|_| queue.enter(payer(1), ()).is_some());
        assert_eq!(entered.count(), BOUNDS.waiting);
        assert!(queue.enter(payer(2), ()).is_some());
        assert_eq!(queue.next(), Some((payer(1), ())));
        assert!(queue.enter(payer(1), ()).is_some());
        assert_eq!(queue.close().len(), BOUNDS.waiting + 1);
    }

    #[tokio::test]
    async fn a_read_begins_in_time_or_never_and_a_panic_is_one_reads_end() {
        let bounds = ReadBounds {
            reads: 1,
            wait: Duration::from_millis(500),
            ..BOUNDS
        };
        let metrics = Arc::new(Metrics::new());
        let threads = Threads::new(Clock::System);
        let failed = |thread| panic!("{thread}");
        let readers = Readers::start(bounds, metrics.clone(), &threads, failed);
        let panicking = readers.run::<()>(payer(1), || panic!("on purpose")).await;
        assert!(matches!(panicking, Ok(Err(Error::Defect))));
        assert_eq!(readers.run(payer(1), || Ok(7)).await.unwrap().unwrap(), 7);

        let (end, ending) = std::sync::mpsc::channel::<()>();
        let (begin, begun) = oneshot::channel();
        let long = readers.run(payer(1), move || {
            let _ = begin.send(());
            let _ = ending.recv();
            Ok(1)
        });
        let beside = async {
            begun.await.expect("it begins");
            let late = readers.run(payer(1), || Ok(2)).await;
            assert_eq!(late.unwrap_err(), NoTurn::WaitedTooLong);
            assert_eq!(metrics.reads_waiting.get(), 0);
            assert_eq!(metrics.reads_under_way.get(), 1);
            assert_eq!(readers.run(payer(2), || Ok(3)).await.unwrap().unwrap(), 3);
            end.send(()).expect("it waits for that");
        };
        let (long, ()) = tokio::join!(long, beside);
        assert_eq!(
            long.unwrap().unwrap(),
            1,
            "however long it takes once begun"
        );
    }
}
