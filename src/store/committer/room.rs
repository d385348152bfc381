//! Waiting for room on the disk, before anything is staged.
//!
//! A full disk is somebody's to free, and no reason to end the process: that would lose the outcomes of
//! attempts, which would be made again, and the next start would need space, too. So the committer makes
//! sure of the room for a batch before it takes one together, when nothing has to be undone yet. While
//! there is none, outcomes wait in memory, where the lanes bound them. Everything else is refused at once,
//! with nothing of it done: a caller would otherwise wait for as long as the disk stays full.
//!
//! Retention is not refused, because it frees space. The little that it writes goes into the open segment of
//! the journal, whose space is taken already.

use std::collections::VecDeque;
use std::time::Duration;

use super::{BATCH_BYTES_MAX, Batch, CommitError, Committer, Staged};
use crate::journal::JournalError;
use crate::store::queue::Command;
use crate::store::room::refusal;
use crate::watched;

/// How often it looks again.
const TRY_EVERY: Duration = Duration::from_secs(1);
/// The longest record of a command that frees space: a few hundred deliveries that are forgotten.
const ROOM_MAKER_BYTES: u64 = 256 << 10;

impl Committer {
    /// Waits until there is room for the next batch; `pending` is left with what is not refused meanwhile.
    /// A stop does not wait.
    pub(super) fn wait_for_room(
        &mut self,
        pending: &mut VecDeque<Command>,
    ) -> Result<(), CommitError> {
        let Some(mut lack) = self.lack_of_room(pending)? else {
            return Ok(());
        };
        let inner = self.inner.clone();
        log::error!(
            "nothing can be written to the disk: {lack}. Free some of it: until then outcomes of attempts \
             wait, and what is asked for is refused"
        );
        watched::note_error(&lack);
        loop {
            inner.room.wait_begins(&lack);
            let (outcomes, mut others): (VecDeque<_>, VecDeque<_>) = std::mem::take(pending)
                .into_iter()
                .partition(Command::is_outcome);
            *pending = outcomes;
            others.extend(inner.queue.take_all_but_outcomes());
            for command in others {
                match command.makes_room() && self.journal.has_taken(ROOM_MAKER_BYTES) {
                    true => self.commit_alone(command)?,
                    false => command.refuse(refusal(&lack)),
                }
            }
            if inner.sleep(TRY_EVERY) || inner.failure.borrow().is_some() {
                return Err(CommitError::NoRoom(lack));
            }
            inner.look_at_space();
            // Those that the databases have by now may be what is missing.
            self.remove_segments()?;
            match self.lack_of_room(pending)? {
                Some(still) => lack = still,
                None => break,
            }
        }
        inner.room.wait_ended();
        log::info!("there is room on the disk again; everything goes on");
        Ok(())
    }

    fn commit_alone(&mut self, command: Command) -> Result<(), CommitError> {
        let mut batch = Batch {
            commands: 1,
            ..Batch::default()
        };
        match self.stage(&mut batch, command)? {
            Staged::More | Staged::Enough => self.commit(batch),
            Staged::Later(_) => unreachable!("the batch holds nothing that it could depend on"),
        }
    }

    /// Why the next batch cannot be written now, if so.
    fn lack_of_room(
        &mut self,
        pending: &VecDeque<Command>,
    ) -> Result<Option<String>, JournalError> {
        if self.inner.room.is_short() {
            let min = self.inner.free_bytes_min();
            return Ok(Some(format!("less than {min} bytes are free")));
        }
        // A command that is longer than a batch has one of its own, so it is the first.
        let first = pending.front().map_or(0, Command::bytes);
        let record_bytes = (2 * BATCH_BYTES_MAX + first) as u64;
        self.inner.commit_began();
        let made = self.journal.make_room(record_bytes);
        self.inner.commit_ended();
        match made {
            Ok(()) => Ok(None),
            Err(error) if error.passes() => Ok(Some(error.to_string())),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::time::Instant;

    use super::*;
    use crate::catalog::Catalog;
    use crate::clock::{Clock, Timestamp};
    use crate::domain::attempt::{FailureKind, Outcome, SendFailure, Verdict};
    use crate::domain::disabled::Disabled;
    use crate::domain::profile::Method;
    use crate::error::Error;
    use crate::rules::decision::Planned;
    use crate::store::layout::golden::rows::{self, LANE};
    use crate::store::tests::{message_to, register, settings};
    use crate::store::{AttemptSignal, Finished, Store};
    use crate::telemetry::Metrics;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn pretend_free(store: &Store, bytes: Option<u64>) {
        let pretended = &store.inner.room.pretended_free_bytes;
        *pretended.lock().unwrap() = bytes;
        store.inner.look_at_space();
    }

    fn delivered(store: &Store) -> Finished {
        let delivery = store.waiting(LANE, None, 1).unwrap()[0];
        let failure = SendFailure {
            kind: FailureKind::NotSendable,
            detail: String::new(),
        };
        Finished {
            delivery,
            endpoint: Arc::new(rows::endpoint()),
            number: 1,
            outcome: Outcome::not_sent("http://a.test/", Method::Post, NOW, failure),
            verdict: Verdict::Delivered,
            test: false,
            event_id: None,
            signal: AttemptSignal::Neither,
            event_type: None,
        }
    }

    /// A store in which a delivery waits, and that needs little room.
    async fn with_a_delivery(directory: &tempfile::TempDir) -> Store {
        let mut settings = settings(&directory.path().join("data"));
        settings.min_free_bytes = 8 << 10;
        let store = Store::open(settings, Clock::manual(NOW), Arc::new(Metrics::new())).unwrap();
        register(&store).await;
        store.accept_message(message_to(vec![LANE])).await.unwrap();
        store
    }

    #[actix_web::test]
    async fn on_a_full_disk_callers_are_refused_and_outcomes_wait_until_there_is_room() {
        let directory = tempfile::tempdir().unwrap();
        let store = with_a_delivery(&directory).await;
        let change = || store.change(Planned(|_: &Catalog| Ok((Vec::new(), ()))));
        pretend_free(&store, Some(1023));
        let commits = || store.inner.commit.load(Ordering::Acquire);
        let before = commits();
        for _ in 0..2 {
            let refused = change().await.unwrap_err();
            assert!(matches!(refused, Error::Unavailable { .. }), "{refused}");
            let told = refused.to_string();
            assert!(told.contains("less than 1024 bytes are free"), "{told}");
        }
        store.record_attempt(delivered(&store));
        let told = store.health().unwrap_err();
        assert!(told.contains("less than 1024 bytes are free"), "{told}");
        assert!(store.accept_message(message_to(vec![LANE])).await.is_err());
        assert_eq!(commits(), before, "nothing was written");
        assert_eq!(store.waiting_count(), 1);

        pretend_free(&store, None);
        let deadline = Instant::now() + Duration::from_secs(60);
        while store.waiting_count() > 0 {
            assert!(Instant::now() < deadline, "the outcome is not written");
            std::thread::yield_now();
        }
        change().await.unwrap();
        assert_eq!(store.health(), Ok(()));
        store.close().unwrap();
    }

    /// It frees space, and it alone can.
    #[actix_web::test]
    async fn retention_goes_on_while_the_disk_is_full() {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = settings(&directory.path().join("data"));
        settings.min_free_bytes = 8 << 10;
        settings.segment_bytes = 1 << 20;
        let clock = Clock::manual(NOW);
        let store = Store::open(settings.clone(), clock.clone(), Arc::new(Metrics::new())).unwrap();
        register(&store).await;
        // In the first two slices something is kept, and in the second a delivery is held, too.
        for (slice, lanes) in [(1, Vec::new()), (2, vec![LANE]), (3, Vec::new())] {
            store.accept_message(message_to(lanes)).await.unwrap();
            assert_eq!(store.slices().last(), Some(&slice));
            clock.advance_to(clock.now() + settings.slice_age + Duration::from_secs(1));
        }
        let mut held = rows::endpoint();
        held.disabled = Some(Disabled::by_hand(NOW));
        let disable = |_: &Catalog| Ok((vec![crate::catalog::Change::PutEndpoint(held)], ()));
        store.change(Planned(disable)).await.unwrap();
        clock.advance_to(clock.now() + settings.retention);
        pretend_free(&store, Some(1023));
        let change = || store.change(Planned(|_: &Catalog| Ok((Vec::new(), ()))));
        assert!(change().await.is_err(), "the disk is full");
        let (pruned, ended) = std::sync::mpsc::channel();
        let pruning = store.clone();
        std::thread::spawn(move || pruned.send(pruning.prune()));
        let result = ended.recv_timeout(Duration::from_secs(60));
        result.expect("it does not wait for room").unwrap();
        assert_eq!(store.slices(), [3, 4]);
        assert_eq!(store.waiting_count(), 0);
        assert!(change().await.is_err(), "the disk is still full");
        pretend_free(&store, None);
        let deadline = Instant::now() + Duration::from_secs(60);
        while change().await.is_err() {
            assert!(Instant::now() < deadline, "it does not go on");
            tokio::task::yield_now().await;
        }
        store.close().unwrap();
        drop(store);
        crate::store::tests::let_go(&settings.path);
        let store = Store::open(settings, clock, Arc::new(Metrics::new())).unwrap();
        assert_eq!(store.slices(), [3, 4]);
        store.close().unwrap();
    }

    #[actix_web::test]
    async fn a_stop_does_not_wait_for_room() {
        let directory = tempfile::tempdir().unwrap();
        let store = with_a_delivery(&directory).await;
        pretend_free(&store, Some(0));
        store.record_attempt(delivered(&store));
        let told = store.close().unwrap_err();
        assert!(told.contains("less than 1024 bytes are free"), "{told}");
    }
}
