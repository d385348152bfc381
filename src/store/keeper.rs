//! Housekeeping: retention, free space, exports, idle slices, credentials that have ended, and a
//! watch on commits that hang.
//!
//! Two threads. The keeper looks around once a second and does what is due; its changes go through
//! the committer like all others. The watchdog only looks at how long the running commit takes,
//! and how long each step of a checkpoint, so that nothing the keeper waits for can hold it up.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::changes::deciding;
use super::queue::Command;
use super::visits::WRITTEN_EVERY;
use super::{Fault, Inner, Space, Store, export, layout};
use crate::catalog::Catalog;
use crate::clock::Timestamp;
use crate::domain::hold::HeldReason;
use crate::domain::message::DeliveryKey;
use crate::error::{Error, Result};
use crate::lock::locked;
use crate::rules::OwnCommand;
use crate::rules::decision::Itself;
use crate::rules::upkeep::ForgetEnded;
use crate::watched;

pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);
const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// Deliveries forgotten in one commit.
const CANCEL_BATCH: usize = 500;

/// Looks at the running commit, and at the step of the checkpoint that is being made, until the committer
/// has ended: the last commits and checkpoints are made while the store is closed.
pub fn watch(inner: &Inner) {
    let timeout = inner.settings.commit_timeout;
    let hangs = |began: Option<Instant>| began.is_some_and(|began| began.elapsed() > timeout);
    let is_over = || inner.checkpoints.is_over_within(LOOK_EVERY / 2);
    while !watched::idle_while(is_over) {
        let commit_began = *locked(inner.commit_began.lock());
        let what = match (hangs(commit_began), hangs(inner.checkpoints.step_began())) {
            (true, _) => "a commit",
            (_, true) => "a step of a checkpoint",
            _ => continue,
        };
        let seconds = timeout.as_secs();
        inner.fail(Fault::Storage(format!(
            "{what} takes longer than {seconds} s (store.commit_timeout_seconds)"
        )));
        // The committer may be waiting for it.
        inner.checkpoints.give_up();
        return;
    }
}

/// Keeps house until the store is closed, by the time at which it was opened: the thread may begin later.
pub fn keep(inner: &Arc<Inner>, opened_at: Timestamp) {
    let mut last_prune = opened_at;
    let mut last_export = opened_at;
    let mut exported_version = 0;
    let mut seals_checked = false;
    loop {
        let closing = inner.sleep(LOOK_EVERY);
        let now = inner.clock.now();
        inner.look_at_space();
        for (number, why) in inner.slices.unreadable() {
            inner.note_unreadable_slice(number, &why);
        }
        inner.slices.close_idle();
        if closing || now.since(last_export) >= inner.settings.export_every {
            last_export = now;
            let version = inner.catalog_version.load(Ordering::Relaxed);
            if version != exported_version {
                match export::write(inner) {
                    Ok(()) => exported_version = version,
                    Err(error) => {
                        let error = format!("the registrations were not exported: {error}");
                        log::error!("{error}");
                        watched::note_error(error);
                    }
                }
            }
        }
        if closing {
            return;
        }
        let is_due = now.since(last_prune) >= PRUNE_EVERY;
        let kept = inner.forget_orphans().and_then(|()| {
            if !seals_checked {
                inner.forget_unsealed_visits()?;
                seals_checked = true;
            }
            if !is_due {
                return Ok(());
            }
            inner.forget_ended()?;
            inner.keep_uses()?;
            inner.keep_visits(WRITTEN_EVERY)
        });
        // Whatever came of the rest: on a full disk only this goes, and frees space.
        let pruned = match is_due {
            true => {
                last_prune = now;
                inner.prune()
            }
            false => Ok(()),
        };
        for error in [kept, pruned].into_iter().filter_map(Result::err) {
            log::warn!("housekeeping stopped early and will be tried again: {error}");
            watched::note_error(error);
        }
    }
}

impl Store {
    /// Removes what is older than the retention time now; the keeper does this every minute.
    /// Blocks on the disk.
    pub fn prune(&self) -> Result<()> {
        self.inner.prune()
    }

    /// Forgets portal sessions, revocations and visits that have come to their end; the keeper does this
    /// every minute. Blocks on the disk.
    pub fn forget_ended(&self) -> Result<()> {
        self.inner.forget_ended()
    }

    /// Forgets the deliveries of a lane whose endpoint does not exist any more.
    pub fn forget_lane(&self, lane: u64) {
        locked(self.inner.orphans.lock()).push(lane);
    }
}

impl Inner {
    /// Waits, as a thread without work; true when the store is being closed.
    pub(super) fn sleep(&self, duration: Duration) -> bool {
        watched::idle_while(|| self.sleep_or_close(duration))
    }

    fn sleep_or_close(&self, duration: Duration) -> bool {
        let deadline = Instant::now() + duration;
        while !*self.closed.borrow() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
        true
    }

    pub(super) fn look_at_space(&self) {
        let path = &self.settings.path;
        let slices = self.slices.list();
        let mut space = Space {
            live_bytes: self.live.engine().size_bytes(),
            slices_bytes: self.slices.size_bytes()
                + super::slices::directory_bytes(&path.join("journal")),
            slices: slices.len(),
            oldest_at: slices.first().map(|(_, record)| record.first),
            free_bytes: None,
            blob_files: self.live.engine().blob_files(),
        };
        match self.look_at_free_bytes() {
            Ok(free) => {
                space.free_bytes = Some(free);
                let low = free < self.settings.min_free_bytes;
                if low != self.low_space.swap(low, Ordering::Relaxed) {
                    match low {
                        true => log::error!(
                            "{}; publishing is refused",
                            super::low_space(&self.settings)
                        ),
                        false => log::info!("enough disk is free again; publishing goes on"),
                    }
                }
            }
            Err(error) => {
                let error = format!("cannot tell the free space at {}: {error}", path.display());
                log::warn!("{error}");
                watched::note_error(error);
            }
        }
        let file = path.join(super::checkpoint_file::FILE_NAME);
        let file_bytes = std::fs::metadata(file).map_or(0, |file| file.len());
        let bytes = space.live_bytes + space.slices_bytes + file_bytes;
        self.metrics.store_bytes.set(bytes as i64);
        self.metrics.blob_files.set(space.blob_files as i64);
        *locked(self.space.lock()) = space;
    }

    pub(super) fn run<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T>>) -> Command,
    ) -> Result<T> {
        let (sender, answer) = oneshot::channel();
        let stopping = || super::unavailable("the server is stopping");
        if !self.queue.push(command(sender)) {
            return Err(stopping());
        }
        answer.blocking_recv().unwrap_or_else(|_| Err(stopping()))
    }

    /// Gives the committer commands until nothing is left to do; `next` makes one of as much as one
    /// commit takes.
    pub(super) fn change_while<C: OwnCommand<Answer = ()>>(
        &self,
        next: impl Fn(&Catalog) -> Option<C>,
    ) -> Result<()> {
        loop {
            // The catalog is let go of before the committer is waited for.
            let command = next(&self.catalog());
            let Some(command) = command else {
                return Ok(());
            };
            self.run(|answer| Command::Change {
                decide: deciding(Itself(command), answer),
            })?;
        }
    }

    fn forget_ended(&self) -> Result<()> {
        let now = self.clock.now();
        self.change_while(|catalog| ForgetEnded::due(catalog, now))
    }

    /// Forgets what waits for endpoints that were deleted.
    fn forget_orphans(&self) -> Result<()> {
        loop {
            let lane = locked(self.orphans.lock()).last().copied();
            let Some(lane) = lane else { return Ok(()) };
            loop {
                let mut deliveries = Vec::new();
                for item in self
                    .live
                    .prefix(&layout::lane_prefix(lane))
                    .take(CANCEL_BATCH)
                {
                    deliveries.extend(layout::parse_waiting_key(&item?.0));
                }
                if deliveries.is_empty() {
                    break;
                }
                self.run(|answer| Command::Cancel { deliveries, answer })?;
            }
            locked(self.orphans.lock()).retain(|one| *one != lane);
        }
    }

    /// Drops slices that are older than the retention time, once none of their deliveries waits;
    /// what is held for a disabled endpoint is held no longer than that.
    fn prune(&self) -> Result<()> {
        let now = self.clock.now();
        let horizon = now.saturating_sub(self.settings.retention);
        let slices = self.slices.list();
        for pair in slices.windows(2) {
            let [(number, _), (_, next)] = pair else {
                continue;
            };
            if next.first > horizon {
                break;
            }
            if self.waits_in(*number) {
                self.cancel_held(next.first)?;
            }
            if self.waits_in(*number) {
                continue;
            }
            let number = *number;
            match self.run(|answer| Command::DropSlice { number, answer }) {
                // Something of it waits again: it was sent again by hand meanwhile.
                Err(Error::Conflict(_)) => continue,
                dropped => dropped?,
            }
            self.slices.remove(number).map_err(Error::storage)?;
            self.let_segments_go();
            log::info!("slice {number} was older than the retention time and is deleted");
        }
        Ok(())
    }

    /// Asks for a commit, which lets go of the journal's segments that nothing needs any more: there may be
    /// no other for long. Nobody waits for it, since on a full disk it may take as long as that lasts.
    pub(super) fn let_segments_go(&self) {
        let (answer, _) = oneshot::channel();
        let deliveries = Vec::new();
        self.queue.push(Command::Cancel { deliveries, answer });
    }

    fn waits_in(&self, slice: u32) -> bool {
        let waiting = locked(self.waiting_by_slice.lock());
        waiting
            .iter()
            .any(|(number, count)| *number == slice && *count > 0)
    }

    /// Forgets the held deliveries of messages that are older than `horizon`. What a restore holds is not forgotten:
    /// nobody has looked at it yet.
    fn cancel_held(&self, horizon: Timestamp) -> Result<()> {
        let mut deliveries: Vec<DeliveryKey> = Vec::new();
        let mut lane = None;
        let mut held = false;
        for item in self.live.prefix(&[layout::WAITING]) {
            let Some(key) = layout::parse_waiting_key(&item?.0) else {
                continue;
            };
            if lane != Some(key.lane) {
                lane = Some(key.lane);
                let endpoint = self.catalog().endpoint_by_number(key.lane).cloned();
                held = endpoint.is_none_or(|endpoint| {
                    let reason = endpoint.held.as_ref().map(|held| held.reason);
                    endpoint.is_held() && reason != Some(HeldReason::Restored)
                });
            }
            if held && key.message.time() < horizon {
                deliveries.push(key);
            }
            if deliveries.len() >= CANCEL_BATCH {
                let deliveries = std::mem::take(&mut deliveries);
                self.run(|answer| Command::Cancel { deliveries, answer })?;
            }
        }
        self.run(|answer| Command::Cancel { deliveries, answer })
    }
}
