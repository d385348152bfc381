//! The thread that writes the checkpoint file now and then.
//!
//! Between two that are due by their time it writes one where damage of the journal was told behind the newest: a
//! rebuild from that would come upon it.
//!
//! It reads the database alone and takes nothing that commits wait for. It works for a quarter of the
//! time at most and syncs every few megabytes, so that the journal's syncs never wait behind much.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::format::Encoder;
use super::{FILE_NAME, replace};
use crate::clock::Timestamp;
use crate::journal::Reader;
use crate::store::Inner;
use crate::store::engine::EngineError;
use crate::store::keeper::LOOK_EVERY;
use crate::store::layout::{self, Checkpoint};
use crate::watched;

/// How often a file is written, if anything has changed.
pub const EVERY: Duration = Duration::from_secs(600);
/// How much of the journal may lie behind a file before the next is written sooner.
const BEHIND_BYTES: u64 = 1 << 30;
/// How much may be kept for it alone before it is given up, where no other can be written.
const KEPT_BYTES_MAX: u64 = 2 * BEHIND_BYTES;
/// How long after a failure it is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// After so many bytes the file is synced.
const SYNC_BYTES: u64 = 4 << 20;
/// For each stretch of work, a rest so many times as long.
const REST: u32 = 3;

/// Writes checkpoint files as they fall due, until the store is closed.
pub fn run(inner: &Inner, journal: &Reader) {
    let mut last_at = inner.clock.now();
    let mut failed_at: Option<Timestamp> = None;
    while !inner.sleep(LOOK_EVERY) {
        let now = inner.clock.now();
        let (behind, kept) = bytes_behind(inner, journal);
        let is_early = failed_at.is_some_and(|failed| now.since(failed) < AGAIN_AFTER);
        let is_due = now.since(last_at) >= EVERY || behind >= BEHIND_BYTES;
        let may_write = !is_early && !inner.low_space.load(Ordering::Relaxed);
        let Some(checkpoint) = inner.checkpoints.not_in_file(is_due) else {
            if may_write {
                ask_for_checkpoint(inner);
            }
            continue;
        };
        if !may_write {
            give_up_if_too_much(inner, kept);
            continue;
        }
        match write(inner, journal, &checkpoint) {
            Ok(true) => {
                (last_at, failed_at) = (now, None);
                inner.let_segments_go();
            }
            Ok(false) => return,
            Err(error) => {
                let error = format!("the checkpoint file was not written: {error}");
                log::error!("{error}");
                watched::note_error(error);
                failed_at = Some(now);
            }
        }
    }
}

/// Asks for a commit where a file waits for a checkpoint: the committer begins one behind it. Asked again each
/// time, since that may have found another under way.
fn ask_for_checkpoint(inner: &Inner) {
    if inner.checkpoints.is_wanted() && inner.checkpoints.is_idle() && inner.queue.is_idle() {
        inner.let_segments_go();
    }
}

/// Bytes of the journal's segments behind the checkpoint file, all of which a rebuild applies, and of those
/// among them that are kept for it alone: history does not need them.
fn bytes_behind(inner: &Inner, journal: &Reader) -> (u64, u64) {
    let Some(position) = inner.checkpoints.file() else {
        return (0, 0);
    };
    let stretches = inner.slices.stretches();
    let (mut behind, mut kept) = (0, 0);
    let segments = journal.segments();
    for (at, segment) in segments.iter().enumerate() {
        let begin = segment.begin.position;
        if begin <= position {
            continue;
        }
        behind += segment.bytes;
        let end = segments
            .get(at + 1)
            .map_or(u64::MAX, |next| next.begin.position);
        if !stretches.reach_into(begin..end) {
            kept += segment.bytes;
        }
    }
    (behind, kept)
}

/// Lets the journal's segments go as if there were no file: a disk that runs full is worse.
fn give_up_if_too_much(inner: &Inner, kept: u64) {
    if kept >= KEPT_BYTES_MAX {
        inner.checkpoints.give_file_up();
        let error = "no checkpoint file could be written for long: the journal behind the last one is \
                     not kept any more, and `live` cannot be made anew until the next one is there";
        log::error!("{error}");
        watched::note_error(error);
    }
}

/// Writes the database as it is now. False where the store was closed before the end.
pub fn write(inner: &Inner, journal: &Reader, begun_at: &Checkpoint) -> Result<bool, EngineError> {
    let mut problem = None;
    let path = &inner.settings.path;
    let written = replace(path, FILE_NAME, |file| {
        let result = write_entries(inner, journal, begun_at, file);
        match result {
            Ok(true) => Ok(()),
            Ok(false) => Err(io::ErrorKind::Interrupted.into()),
            Err(EngineError::Io(error)) => Err(error),
            Err(error) => {
                problem = Some(error);
                Err(io::ErrorKind::Other.into())
            }
        }
    });
    match (written, problem) {
        (Ok(()), _) => {
            inner.checkpoints.file_was_written(begun_at.position);
            Ok(true)
        }
        (Err(error), None) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
        (Err(error), None) => Err(error.into()),
        (Err(_), Some(problem)) => Err(problem),
    }
}

fn write_entries(
    inner: &Inner,
    journal: &Reader,
    begun_at: &Checkpoint,
    file: &mut File,
) -> Result<bool, EngineError> {
    let mut encoder = Encoder::begin(BufWriter::with_capacity(256 << 10, file), begun_at)?;
    let mut began = Instant::now();
    let mut unsynced = 0;
    for item in inner.live.engine().prefix(&[]) {
        let (key, value) = item?;
        // It is of the database alone: the file says in its head how far it is.
        if *key == [layout::CHECKPOINT] {
            continue;
        }
        unsynced += (key.len() + value.len()) as u64;
        if !encoder.put(&key, &value)? {
            continue;
        }
        if unsynced >= SYNC_BYTES {
            let writer = encoder.get_mut();
            writer.flush()?;
            writer.get_ref().sync_data()?;
            unsynced = 0;
        }
        if inner.sleep(began.elapsed() * REST) {
            return Ok(false);
        }
        began = Instant::now();
    }
    // No value that was read is from a later record.
    encoder.finish(journal.next_position() - 1)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;
    use crate::clock::Clock;
    use crate::store::Store;
    use crate::store::tests::{message_to, register, settings};
    use crate::telemetry::Metrics;

    /// A rebuild applies all of it, though history keeps it, too.
    #[actix_web::test]
    async fn what_history_needs_lies_behind_the_file_and_is_not_kept_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = settings(&directory.path().join("data"));
        settings.segment_bytes = 1 << 20;
        let clock = Clock::manual(Timestamp(1_700_000_000_000));
        let store = Store::open(settings, clock, Arc::new(Metrics::new())).unwrap();
        register(&store).await;
        let inner = &store.inner;
        let deadline = Instant::now() + Duration::from_secs(60);
        while inner.checkpoints.file().is_none() {
            assert!(Instant::now() < deadline, "no checkpoint file is written");
            tokio::task::yield_now().await;
        }
        for _ in 0..4 {
            let mut message = message_to(Vec::new());
            message.payload = format!("\"{}\"", "x".repeat(600 << 10)).into();
            store.accept_message(message).await.unwrap();
        }
        let (behind, kept) = bytes_behind(inner, inner.slices.reader());
        assert!(behind >= 3 << 20, "{behind}");
        assert_eq!(kept, 0);
        store.close().unwrap();
    }
}
