//! A look at every record of a store that no server uses: `postrider verify-store`.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checkpoint_file::{self, FileError};
use super::directory::refuse_in_the_remains_of_another;
use super::engine::Engine;
use super::filters::{Filter, KeyHash};
use super::gap::Gaps;
use super::index::{Entry, IndexError, IndexFile, IndexOf, OpenIndex};
use super::layout::{self, Erasure, RecordError, SliceMeta, SliceRecord, Stretch};
use super::open::Files;
use super::slice::{self, InJournal, Slice};
use super::{OpenError, StoreSettings, open, rebuild, slices};
use crate::clock::{Clock, Timestamp};
use crate::domain::attempt::Attempt;
use crate::domain::health::Health;
use crate::domain::id::{IDS_END, MessageId};
use crate::domain::message::Delivery;
use crate::journal::Journal;

/// Problems that are listed one by one; the rest is counted.
const PROBLEMS_MAX: usize = 100;
/// After how many items of a slice it is told how far it has come.
const TOLD_EVERY: u64 = 256;

#[derive(Debug, Default)]
pub struct VerifyReport {
    /// The damage found, a sentence each; empty means that the store is sound.
    pub problems: Vec<String>,
    /// How many of each thing were found.
    pub counts: Vec<(String, u64)>,
}

impl VerifyReport {
    fn problem(&mut self, text: String) {
        match self.problems.len() {
            0..PROBLEMS_MAX => self.problems.push(text),
            PROBLEMS_MAX => self.problems.push("… and more".to_owned()),
            _ => {}
        }
    }

    fn unknown_keys(&mut self, slice: u32, count: u64) {
        self.problem(format!(
            "slice {slice}: its file `keys` does not know {count} of its keys; delete that file"
        ));
    }
}

/// How far a look at everything has come.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifyProgress {
    /// What is being read, such as "slice 3 of 12".
    pub reading: String,
    /// Bytes of history that were read, of so many.
    pub bytes: u64,
    pub bytes_in_all: u64,
}

/// Tells how far it has come, as slices are read.
struct Told<'a> {
    progress: VerifyProgress,
    /// Where the slice that is being read ends.
    slice_ends: u64,
    tell: &'a mut dyn FnMut(&VerifyProgress),
}

impl Told<'_> {
    fn begins(&mut self, number: usize, of: usize, bytes: u64) {
        self.progress.bytes = self.slice_ends;
        self.slice_ends += bytes;
        self.progress.reading = format!("slice {number} of {of}");
        (self.tell)(&self.progress);
    }

    /// So many items of the slice were read, of so many.
    fn read(&mut self, items: u64, in_all: u64, slice_bytes: u64) {
        if items.is_multiple_of(TOLD_EVERY) {
            let share =
                slice_bytes as u128 * u128::from(items.min(in_all)) / u128::from(in_all.max(1));
            self.progress.bytes = self.slice_ends - slice_bytes + share as u64;
            (self.tell)(&self.progress);
        }
    }
}

/// Reads everything, and tells how far it has come. An error means that not even the beginning could be
/// read.
pub fn verify(
    settings: &StoreSettings,
    clock: &Clock,
    tell: &mut dyn FnMut(&VerifyProgress),
) -> Result<VerifyReport, OpenError> {
    let path = &settings.path;
    if !path.join("live").is_dir() {
        let shown = path.display();
        if rebuild::was_broken_off(path) {
            return Err(OpenError::Unsafe(format!(
                "a rebuild of {shown} was broken off, and the directory `live` is not there yet: run \
                 `postrider rebuild`, or start the server, which goes on with it"
            )));
        }
        refuse_in_the_remains_of_another(path)?;
        return Err(OpenError::Unsafe(format!("there is no store at {shown}")));
    }
    let files = open::open_files(settings, clock)?;
    let mut report = VerifyReport::default();
    for damage in &files.damage {
        report.problem(damage.told.clone());
    }
    let registrations = files.catalog.len();
    if registrations != files.meta.registrations {
        report.problem(format!(
            "{registrations} registrations are there, and there should be {}",
            files.meta.registrations
        ));
    }
    report
        .counts
        .push(("registrations".to_owned(), registrations));

    let mut waiting: BTreeMap<u32, Vec<(u64, MessageId)>> = BTreeMap::new();
    let slice_of = |message: MessageId| {
        let time = message.time();
        let slice = files
            .slices
            .iter()
            .rev()
            .find(|(_, record)| record.first <= time);
        slice.map_or(0, |(number, _)| *number)
    };
    for item in files.live.prefix(&[layout::WAITING]) {
        let checked = item
            .map_err(RecordError::from)
            .and_then(|(key, value)| layout::delivery(&key, &value));
        match checked {
            Ok(Delivery { key, .. }) => {
                waiting
                    .entry(slice_of(key.message))
                    .or_default()
                    .push((key.lane, key.message));
            }
            Err(error) => {
                report.problem(format!("live: {error}"));
                if matches!(error, RecordError::Engine(_)) {
                    break;
                }
            }
        }
    }
    let counted: u64 = waiting
        .values()
        .map(|deliveries| deliveries.len() as u64)
        .sum();
    let expected: u64 = files.meta.waiting.iter().map(|(_, count)| count).sum();
    if counted != expected {
        report.problem(format!(
            "{counted} deliveries wait, and there should be {expected}"
        ));
    }
    report
        .counts
        .push(("waiting deliveries".to_owned(), counted));

    check_erasures(&files, &mut report);
    check_healths(&files, &mut report);
    check_checkpoint_file(path, &mut report);
    let expected_of = |record: &SliceRecord| {
        let expected = record.sealed.as_ref().unwrap_or(&files.meta.slice);
        expected.clone()
    };
    let bytes = files
        .slices
        .values()
        .map(|record| expected_of(record).bytes);
    let mut told = Told {
        progress: VerifyProgress {
            reading: String::new(),
            bytes: 0,
            bytes_in_all: bytes.sum(),
        },
        slice_ends: 0,
        tell,
    };
    let mut totals = Totals::default();
    let sealed_at = |number| {
        let sealed = files
            .slices
            .get(&number)
            .and_then(|record| record.sealed.as_ref());
        sealed.map_or(0, |sealed| sealed.commit)
    };
    for (place, (number, record)) in (1..).zip(&files.slices) {
        let expected = expected_of(record);
        told.begins(place, files.slices.len(), expected.bytes);
        let before = sealed_at(number.wrapping_sub(1));
        let slice = match record.stretch {
            Some(stretch) => {
                let next = files.slices.range(number + 1..).next();
                let end = next.map_or(IDS_END, |(_, next)| next.first);
                let of = OfStretch {
                    number: *number,
                    stretch,
                    times: (record.first, end),
                    path: path.join("slices").join(format!("{number:08}")),
                    expected: &expected,
                };
                check_stretch(&files.journal, &of, &mut totals, &mut told, &mut report)
            }
            None => check_database(&files, settings, *number, before, &mut totals, &mut report),
        };
        let Some(slice) = slice else { continue };
        let deliveries = waiting.get(number).map_or(&[][..], Vec::as_slice);
        for (lane, message) in deliveries {
            let endpoint = files.catalog.endpoint_by_number(*lane);
            let Some(endpoint) = endpoint else { continue };
            let key = layout::message_key(endpoint.application, *message);
            if !slice.contains(&key).unwrap_or(false) {
                report.problem(format!("{message} waits for an endpoint and is not there"));
            }
        }
    }
    report
        .counts
        .push(("slices".to_owned(), files.slices.len() as u64));
    report.counts.push(("messages".to_owned(), totals.messages));
    report.counts.push(("attempts".to_owned(), totals.attempts));
    if totals.dead > 0 {
        let kind = "messages that were never answered".to_owned();
        report.counts.push((kind, totals.dead));
    }
    if totals.hours > 0 {
        let kind = "hours of statistics in databases of history".to_owned();
        report.counts.push((kind, totals.hours));
    }
    Ok(report)
}

/// Nobody reads the checkpoint file until `live` is damaged, and then it is too late to know.
fn check_checkpoint_file(path: &Path, report: &mut VerifyReport) {
    let checked = checkpoint_file::open(path).and_then(|file| file.check());
    match checked {
        Err(FileError::Io(error)) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => report.problem(format!(
            "{}: {error}; without it a damaged `live` cannot be made anew. Delete it, and a server that runs \
             writes it anew at once",
            path.join(checkpoint_file::FILE_NAME).display()
        )),
        Ok(_) => {}
    }
}

/// Reads what is still to be erased of deleted applications.
fn check_erasures(files: &Files, report: &mut VerifyReport) {
    let mut erasures = 0;
    for item in files.live.prefix(&[layout::ERASURE]) {
        let read = item.map_err(RecordError::from).and_then(|(key, value)| {
            layout::application_of_erasure(&key)?;
            layout::read::<Erasure>(&files.live, &key, &value).map(drop)
        });
        match read {
            Ok(()) => erasures += 1,
            Err(error) => report.problem(format!("live: {error}")),
        }
    }
    if erasures > 0 {
        let kind = "deleted applications that are being erased".to_owned();
        report.counts.push((kind, erasures));
    }
}

/// Reads the health of endpoints.
fn check_healths(files: &Files, report: &mut VerifyReport) {
    let mut failing = 0;
    for item in files.live.prefix(&[layout::HEALTH]) {
        let read = item.map_err(RecordError::from).and_then(|(key, value)| {
            layout::lane_of_health(&key)?;
            layout::read::<Health>(&files.live, &key, &value).map(drop)
        });
        match read {
            Ok(()) => failing += 1,
            Err(error) => report.problem(format!("live: {error}")),
        }
    }
    if failing > 0 {
        let kind = "endpoints that fail or were told of lately".to_owned();
        report.counts.push((kind, failing));
    }
}

#[derive(Default)]
struct Totals {
    messages: u64,
    /// Messages of commits that never happened.
    dead: u64,
    attempts: u64,
    /// Hours of a lane in which something happened.
    hours: u64,
}

/// Which commits have happened, around a slice.
struct Commits<'a> {
    dead: &'a [(u64, u64)],
    /// The last that the live database knows.
    last: u64,
    /// The one at which the slice before ended.
    before: u64,
}

impl Commits<'_> {
    fn never_happened(&self, commit: u64) -> bool {
        let within = |(first, last): &(u64, u64)| (first..=last).contains(&&commit);
        commit > self.last || self.dead.iter().any(within)
    }

    /// A process died while the slice was written, so that it may hold what never happened.
    fn may_be_dead_in(&self, ends_at: u64) -> bool {
        let within = |(first, _): &(u64, u64)| *first > self.before && *first <= ends_at;
        ends_at > self.last || self.dead.iter().any(within)
    }
}

/// A slice that is a stretch of the journal.
struct OfStretch<'a> {
    number: u32,
    stretch: Stretch,
    /// The times that its ids have, from and to before.
    times: (Timestamp, Timestamp),
    /// The directory of its files.
    path: PathBuf,
    expected: &'a SliceMeta,
}

/// Reads all that came into a slice, and holds its index against it, both ways.
fn check_stretch(
    journal: &Journal,
    of: &OfStretch,
    totals: &mut Totals,
    told: &mut Told,
    report: &mut VerifyReport,
) -> Option<Slice> {
    let number = of.number;
    let reader = journal.reader();
    let (begin, end) = of.times;
    let (made, gaps) = match slice::index_of(of.stretch, &reader, Gaps::between(begin, end)) {
        Ok((made, gaps)) => (Arc::new(made), gaps),
        Err(error) => {
            report.problem(format!("slice {number}: {error}"));
            return None;
        }
    };
    for gap in &gaps {
        report.problem(format!("slice {number}: the journal: {gap}"));
    }
    let is_whole = gaps.is_empty();
    let slice = Slice::Journal(InJournal::open(of.stretch, made.clone(), gaps, reader));
    let (mut messages, mut attempts) = (0, 0);
    for item in slice.readable(Bound::Unbounded, Bound::Unbounded) {
        let checked = item.and_then(|(key, found)| match key.first() {
            Some(&layout::MESSAGE) => {
                messages += 1;
                slice.message(&key, &found).map(drop)
            }
            Some(&layout::ATTEMPT) => {
                attempts += 1;
                slice.attempt(&key, &found).map(drop)
            }
            Some(&layout::ONCE) => slice.once(&key).map(drop),
            _ => Ok(()),
        });
        let in_all = of.expected.messages + of.expected.attempts;
        told.read(messages + attempts, in_all, of.expected.bytes);
        if let Err(error) = checked {
            report.problem(format!("slice {number}: {error}"));
        }
    }
    let SliceMeta {
        messages: expected_messages,
        attempts: expected_attempts,
        ..
    } = of.expected;
    if (messages, attempts) != (*expected_messages, *expected_attempts) {
        report.problem(format!(
            "slice {number}: {messages} messages and {attempts} attempts are there, and there \
             should be {expected_messages} and {expected_attempts}"
        ));
    }
    totals.messages += messages;
    totals.attempts += attempts;
    if let Some(to) = of.stretch.to {
        check_index(journal, of, to, &made, is_whole, report);
        check_filter(of, &slice, report);
    }
    Some(slice)
}

/// An index that is not there is made when it is needed. The file may have what the journal has lost.
fn check_index(
    journal: &Journal,
    of: &OfStretch,
    to: u64,
    made: &Arc<OpenIndex>,
    is_whole: bool,
    report: &mut VerifyReport,
) {
    let number = of.number;
    // A restored store has slices from before its stream.
    let stream = journal.reader().stream_at(of.stretch.from);
    let index_of = IndexOf {
        stream: stream.unwrap_or(journal.stream()),
        slice: number,
        from: of.stretch.from,
        to,
    };
    let all = || (Bound::Unbounded, Bound::Unbounded);
    let compared = IndexFile::open(&of.path.join("index"), &index_of).and_then(|file| {
        file.verify()?;
        let file = Arc::new(file);
        let (from, end) = all();
        let mut kept = file.range(from, end);
        let (from, end) = all();
        for expected in made.range(from, end) {
            let found = loop {
                let found = kept.next().transpose()?;
                let is_extra = |(key, _): &Entry| !is_whole && *key < expected.0;
                if !found.as_ref().is_some_and(is_extra) {
                    break found;
                }
            };
            if found != Some(expected) {
                return Ok(false);
            }
        }
        Ok(!is_whole || kept.next().is_none())
    });
    match compared {
        Ok(true) | Err(IndexError::Missing { .. }) => {}
        Ok(false) => report.problem(format!(
            "slice {number}: its file `index` does not have what the journal has; delete that file, it \
             is made again"
        )),
        Err(error) => report.problem(format!(
            "slice {number}: {error}; delete that file, it is made again"
        )),
    }
}

fn check_filter(of: &OfStretch, slice: &Slice, report: &mut VerifyReport) {
    let Some(filter) = Filter::read(&of.path, of.expected.commit) else {
        return;
    };
    let mut unknown = 0;
    let shown = slice.each_unique_key(
        || false,
        |key| unknown += u64::from(!filter.may_hold(KeyHash::of(key))),
    );
    if shown.is_ok() && unknown > 0 {
        report.unknown_keys(of.number, unknown);
    }
}

/// Reads all of a slice that is a database of its own.
fn check_database(
    files: &Files,
    settings: &StoreSettings,
    number: u32,
    before: u64,
    totals: &mut Totals,
    report: &mut VerifyReport,
) -> Option<Slice> {
    let path = slices::path_in(&settings.path.join("slices"), number);
    let sealed = files.slices.get(&number)?.sealed.as_ref();
    let expected = sealed.unwrap_or(&files.meta.slice);
    if !path.is_dir() {
        // It was named before the first message made its files.
        if expected.bytes > 0 {
            report.problem(format!("slice {number}: its files are missing"));
        }
        return None;
    }
    let slice = match open::open_engine(&path, settings.cache_bytes / 4, &path) {
        Ok(slice) => slice,
        Err(error) => {
            report.problem(format!("slice {number}: {error}"));
            return None;
        }
    };
    match layout::slice_problem(&slice, expected) {
        Ok(None) => {}
        Ok(Some(problem)) => report.problem(format!("slice {number}: {problem}")),
        Err(error) => report.problem(format!("slice {number}: {error}")),
    }
    let filter = sealed.and_then(|sealed| Filter::read(&path, sealed.commit));
    let commits = Commits {
        dead: &files.meta.dead_commits,
        last: files.meta.commit,
        before,
    };
    let ends_at = check_records(number, &slice, filter.as_ref(), &commits, totals, report);
    if ends_at > files.meta.commit + 1 {
        report.problem(format!(
            "live: it ends at commit {}, and slice {number} at {ends_at}: it went back to an older \
             state",
            files.meta.commit
        ));
    }
    Some(Slice::Database(Arc::new(slice)))
}

/// Reads all records of a database; returns the commit it ends at.
fn check_records(
    number: u32,
    slice: &Engine,
    filter: Option<&Filter>,
    commits: &Commits,
    totals: &mut Totals,
    report: &mut VerifyReport,
) -> u64 {
    let mut messages = 0_u64;
    let mut attempts = 0_u64;
    let mut unknown = 0;
    let mut dead = 0;
    for item in slice.prefix(&[]) {
        let checked = item.map_err(RecordError::from).and_then(|(key, value)| {
            if layout::is_chunk(&key) {
                return Ok(());
            }
            let is_unique = matches!(key.first(), Some(&layout::EVENT_ID | &layout::ONCE));
            let knows = |filter: &Filter| filter.may_hold(KeyHash::of(&key));
            unknown += u64::from(is_unique && !filter.is_none_or(knows));
            match key.first() {
                Some(&layout::META) => {
                    layout::read::<layout::SliceMeta>(slice, &key, &value).map(drop)
                }
                Some(&layout::MESSAGE) => {
                    messages += 1;
                    let message = layout::read::<layout::MessageMeta>(slice, &key, &value)?;
                    dead += u64::from(commits.never_happened(message.meta.commit));
                    Ok(())
                }
                Some(&layout::EVENT_ID) => {
                    layout::read::<layout::EventIdRecord>(slice, &key, &value).map(drop)
                }
                Some(&layout::ONCE) => {
                    layout::read::<layout::OnceRecord>(slice, &key, &value).map(drop)
                }
                Some(&layout::ATTEMPT) => {
                    attempts += 1;
                    layout::read::<Attempt>(slice, &key, &value).map(drop)
                }
                Some(&layout::ATTEMPT_OF_MESSAGE) => {
                    layout::read::<layout::AttemptPlace>(slice, &key, &value).map(drop)
                }
                Some(&layout::LANE_HOUR) => {
                    totals.hours += 1;
                    layout::read::<layout::LaneHour>(slice, &key, &value).map(drop)
                }
                kind => Err(RecordError::Damaged {
                    kind: kind.copied().unwrap_or(b'?'),
                    why: "there is no such kind",
                }),
            }
        });
        if let Err(error) = checked {
            report.problem(format!("slice {number}: {error}"));
            if matches!(error, RecordError::Engine(_)) {
                break;
            }
        }
    }
    if unknown > 0 {
        report.unknown_keys(number, unknown);
    }
    let meta = layout::get::<layout::SliceMeta>(slice, &[layout::META]);
    let meta = meta
        .ok()
        .flatten()
        .map(|record| record.meta)
        .unwrap_or_default();
    // A commit that never happened may have left more than was counted. An attempt does not say to
    // which it belongs.
    let more_messages = messages.saturating_sub(meta.messages);
    let more_attempts = attempts.saturating_sub(meta.attempts);
    let fewer = messages < meta.messages || attempts < meta.attempts;
    let explained =
        more_messages <= dead && (more_attempts == 0 || commits.may_be_dead_in(meta.commit));
    if fewer || !explained {
        report.problem(format!(
            "slice {number}: {messages} messages and {attempts} attempts are there, and there \
             should be {} and {}",
            meta.messages, meta.attempts
        ));
    }
    totals.dead += dead;
    totals.messages += messages - dead;
    totals.attempts += attempts;
    meta.commit
}
