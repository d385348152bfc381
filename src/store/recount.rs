//! A start counts the queue: how much waits at each lane, and is all there that should be?
//!
//! The counts are in memory only (see `backlog`). They are compared with the meta record, which says
//! how many deliveries wait: sled can lose records when its file was damaged, or go back to an older
//! state, without an error.
//!
//! A short queue is counted before the store is open, a long one on a thread of its own while the
//! server runs: a million deliveries take a second or two, and nobody should wait for it. Changes go
//! on meanwhile; those behind the counter's cursor are added to or taken off what it has counted.

use std::collections::{HashMap, HashSet};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard};

use super::engine::EngineError;
use super::{Fault, Inner, layout, rebuild};
use crate::domain::message::DeliveryKey;
use crate::lock::locked;
use crate::watched;

/// Keys counted under the lock that a commit needs.
const STRETCH: usize = 500;
/// Stretches that are counted before the store is open: they take some milliseconds, also after a crash, where
/// each leaf of the database is read from the disk itself.
const AT_ONCE: usize = 4;

pub struct Recount {
    progress: Mutex<Option<Progress>>,
    /// The last process did not close the store.
    is_after_a_crash: bool,
}

#[derive(Default)]
struct Progress {
    /// The last key that was counted.
    cursor: Vec<u8>,
}

/// Held by the committer around a commit, so that a stretch is counted before it or after it.
pub struct Commit<'a> {
    progress: MutexGuard<'a, Option<Progress>>,
}

impl Recount {
    /// A count that is to be made.
    pub fn due(is_after_a_crash: bool) -> Recount {
        Recount {
            progress: Mutex::new(Some(Progress::default())),
            is_after_a_crash,
        }
    }

    pub fn commit(&self) -> Commit<'_> {
        Commit {
            progress: self.lock(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Progress>> {
        locked(self.progress.lock())
    }
}

impl Commit<'_> {
    /// The commit is durable; it put and deleted these.
    pub fn done(self, inner: &Inner, put: &HashSet<DeliveryKey>, deleted: &HashSet<DeliveryKey>) {
        let progress = &*self.progress;
        let is_counted = |key: &DeliveryKey| match progress {
            None => true,
            Some(progress) => layout::waiting_key(key) <= progress.cursor,
        };
        let put = put.iter().map(|key| (key, 1));
        let changes = put.chain(deleted.iter().map(|key| (key, -1)));
        let counted = changes.filter(|(key, _)| is_counted(key));
        let catalog = inner.catalog();
        inner
            .backlog
            .count(&catalog, counted.map(|(key, more)| (key.lane, more)));
        drop(catalog);
        inner.show_held();
    }
}

/// Counts what can be counted in some milliseconds; true when that was all.
pub fn count_some(inner: &Inner) -> Result<bool, EngineError> {
    for _ in 0..AT_ONCE {
        if count_stretch(inner)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Counts until done or until the store is closed, and says so loudly if some are missing.
pub fn run(inner: &Inner) {
    while !*inner.closed.borrow() {
        match count_stretch(inner) {
            Ok(false) => {}
            Ok(true) => return,
            Err(error) => {
                rebuild::note_damage(&inner.settings.path, &error);
                inner.fail(Fault::Storage(format!(
                    "the waiting deliveries could not be counted: {error}"
                )));
                return;
            }
        }
    }
}

/// Counts on; true when all are counted.
fn count_stretch(inner: &Inner) -> Result<bool, EngineError> {
    let mut guard = inner.recount.lock();
    let Some(progress) = &mut *guard else {
        return Ok(true);
    };
    let from = match progress.cursor.is_empty() {
        true => Bound::Included(vec![layout::WAITING]),
        false => Bound::Excluded(progress.cursor.clone()),
    };
    let mut count = 0;
    let mut lanes: HashMap<u64, i64> = HashMap::new();
    for item in inner
        .live
        .range(from, Bound::Excluded(vec![layout::WAITING + 1]))
        .take(STRETCH)
    {
        progress.cursor = item?.0.to_vec();
        count += 1;
        if let Some(key) = layout::parse_waiting_key(&progress.cursor) {
            *lanes.entry(key.lane).or_default() += 1;
        }
    }
    inner.backlog.count(&inner.catalog(), lanes.into_iter());
    inner.show_held();
    if count == STRETCH {
        return Ok(false);
    }
    let (seen, expected) = (inner.backlog.all().all(), inner.waiting());
    if seen == expected {
        let level = match inner.recount.is_after_a_crash {
            true => log::Level::Info,
            false => log::Level::Debug,
        };
        log::log!(
            level,
            "all {seen} deliveries that should be waiting are there"
        );
    } else {
        inner.metrics.store_problems.inc();
        let damage = format!(
            "{seen} deliveries wait and there should be {expected}: the store was damaged; stop \
             the server, run `postrider verify-store`, and `postrider rebuild` if it finds the same"
        );
        log::error!("{damage}");
        watched::note_error(damage);
    }
    *guard = None;
    Ok(true)
}
