//! A list's way through the slices of history.
//!
//! It walks the slices in its direction and looks at a bounded number of records a call, so a filter that
//! matches nothing costs a bounded time and tells where to read on.
//!
//! Where something cannot be read, or may be missing, a list ends before it, and says that there is more.
//! Who reads on gets the error, with the times between which to look no more. So a list is complete as far
//! as it goes, and what is newer or older than the damage can be read.

use std::ops::Bound;
use std::time::Duration;

use super::gap::Gap;
use super::layout::{self, RecordError};
use super::slice::{FoundItem, Items, Slice};
use super::{Inner, Stretch, Window};
use crate::clock::Timestamp;
use crate::domain::id::{AttemptId, ID_TIME_STEP_MS, IDS_END, MessageId};
use crate::error::{Error, Result};

/// Records that one call looks at before it returns what it has.
pub(super) const LOOKED_AT_MAX: usize = 10_000;

/// Ids tell times in steps of so much.
const STEP: Duration = Duration::from_millis(ID_TIME_STEP_MS);

/// The cost of a list so far.
#[derive(Default)]
pub(super) struct Cost {
    /// Places that were read.
    pub looked_at: usize,
    /// Of the items that are wanted, roughly.
    pub bytes: usize,
}

/// A list's way through the slices.
pub(super) struct Walk<'a, Id> {
    window: &'a Window<Id>,
    bytes: fn(&Id) -> [u8; 20],
    time: fn(&Id) -> Timestamp,
    first_at: fn(Timestamp) -> Id,
    /// Ids that may be in the window: at least this one …
    from: Option<[u8; 20]>,
    /// … and below this one, …
    to: Option<[u8; 20]>,
    /// … which is the first of this time.
    latest: Option<Timestamp>,
    /// How much later than it shows the time in an id may be.
    longest: Duration,
}

/// The part of a list that was read so far.
struct Page<T, Id> {
    items: Vec<T>,
    cost: Cost,
    /// The last item that was looked at.
    last: Option<Id>,
}

/// Whether a list goes on.
enum Goes {
    On,
    /// The page is full.
    NoFurther,
}

impl<'a> Walk<'a, MessageId> {
    pub(super) fn of_messages(window: &'a Window<MessageId>) -> Self {
        Walk::new(window, MessageId::first_at, |id| id.0, |id| id.time())
            .until_after(Duration::ZERO)
    }
}

impl<'a> Walk<'a, AttemptId> {
    /// An attempt shows when it was started, and its id tells when it was recorded.
    pub(super) fn of_attempts(inner: &Inner, window: &'a Window<AttemptId>) -> Self {
        let recorded_after = inner.settings.attempt_recorded_after;
        Walk::new(window, AttemptId::first_at, |id| id.0, |id| id.time())
            .until_after(recorded_after)
    }
}

impl<'a, Id: Copy> Walk<'a, Id> {
    fn new(
        window: &'a Window<Id>,
        first_at: fn(Timestamp) -> Id,
        bytes: fn(&Id) -> [u8; 20],
        time: fn(&Id) -> Timestamp,
    ) -> Self {
        Walk {
            window,
            bytes,
            time,
            first_at,
            // An id's time is rounded down, and never lies before the time that is shown.
            from: window.after.map(|after| bytes(&first_at(after))),
            to: None,
            latest: None,
            longest: Duration::ZERO,
        }
    }

    /// Ends the walk at ids whose times lie this much, and a step, behind the window. Who looks at
    /// the records leaves out those that are beside it.
    fn until_after(mut self, longest: Duration) -> Self {
        self.longest = longest;
        self.latest = self.window.before.map(|before| {
            let latest = before + longest + STEP;
            latest.min(IDS_END)
        });
        self.to = self
            .latest
            .map(|latest| (self.bytes)(&(self.first_at)(latest)));
        self
    }

    /// Reads on until the window's limit is reached, in all slices or `among` some; `look` gives each record's id, and its item
    /// where it is wanted, and counts its bytes and what else it looks at to tell.
    pub(super) fn run<T>(
        &self,
        inner: &Inner,
        prefix: &[u8],
        among: Option<&[u32]>,
        mut look: impl FnMut(&Slice, &[u8], &FoundItem, &mut Cost) -> Result<(Id, Option<T>)>,
    ) -> Result<Stretch<T, Id>> {
        let mut page = Page {
            items: Vec::new(),
            cost: Cost::default(),
            last: None,
        };
        for number in self.slices(inner, among) {
            let read = inner
                .slice(number)
                .map_err(Error::from)
                .and_then(|slice| match slice {
                    Some(slice) => self.read_slice(&slice, prefix, &mut page, &mut look),
                    None => Ok(Goes::On),
                });
            match read {
                Ok(Goes::On) => {}
                // What comes before it is told first; who reads on gets the error.
                Err(Error::Unreadable { .. }) if page.last.is_some() => return Ok(page.ends()),
                Ok(Goes::NoFurther) => return Ok(page.ends()),
                Err(error @ Error::Unreadable { between: None, .. }) => {
                    let (begin, end) = inner.slices.times(number);
                    return Err(self.with_bounds(error, (begin, end.saturating_sub(STEP))));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Stretch {
            items: page.items,
            next: None,
        })
    }

    fn read_slice<T>(
        &self,
        slice: &Slice,
        prefix: &[u8],
        page: &mut Page<T, Id>,
        look: &mut impl FnMut(&Slice, &[u8], &FoundItem, &mut Cost) -> Result<(Id, Option<T>)>,
    ) -> Result<Goes> {
        let newest_first = self.window.newest_first;
        let gap = self.next_gap(slice.gaps());
        let (from, to) = self.bounds(prefix, gap);
        let mut range = slice.readable(from, to);
        let next = |range: &mut Items| match newest_first {
            true => range.next_back(),
            false => range.next(),
        };
        while let Some(item) = next(&mut range) {
            let (key, found) = item?;
            let is_long = page.cost.bytes >= self.window.bytes && !page.items.is_empty();
            let is_full = page.items.len() == self.window.limit || is_long;
            if is_full || page.cost.looked_at >= LOOKED_AT_MAX {
                return Ok(Goes::NoFurther);
            }
            page.cost.looked_at += 1;
            let looked = look(slice, &key, &found, &mut page.cost);
            let (id, wanted) = looked.map_err(|error| {
                let id = key.get(prefix.len()..).and_then(|id| id.first_chunk());
                let time = MessageId(*id.expect("an id follows")).time();
                self.with_bounds(error, (time, time))
            })?;
            page.last = Some(id);
            page.items.extend(wanted);
        }
        match gap {
            Some(gap) => {
                let error = RecordError::Gap(gap.clone()).into();
                Err(self.with_bounds(error, (gap.from, gap.to)))
            }
            None => Ok(Goes::On),
        }
    }

    /// The first gap in the direction of reading that may have something of the window.
    fn next_gap<'g>(&self, gaps: &'g [Gap]) -> Option<&'g Gap> {
        let (mut after, mut before) = (self.window.after, self.latest);
        if let Some(behind) = self.window.behind.as_ref().map(self.time) {
            match self.window.newest_first {
                // There may be more of the same step.
                true => before = Some(before.unwrap_or(IDS_END).min(behind + STEP)),
                false => after = after.max(Some(behind)),
            }
        }
        let is_within = |gap: &&Gap| {
            let begins = before.is_none_or(|before| gap.from < before);
            begins && after.is_none_or(|after| gap.to >= after)
        };
        match self.window.newest_first {
            true => gaps.iter().rev().find(is_within),
            false => gaps.iter().find(is_within),
        }
    }

    /// Adds to an error where ids of these times cannot be read what a caller asks for to read beside them.
    fn with_bounds(&self, error: Error, (from, to): (Timestamp, Timestamp)) -> Error {
        match error {
            Error::Unreadable { cause, .. } => {
                let before = from.saturating_sub(self.longest + STEP);
                let between = Some((before, to + STEP));
                Error::Unreadable { cause, between }
            }
            other => other,
        }
    }

    /// The numbers of the slices that can hold something of the window, in reading order.
    fn slices(&self, inner: &Inner, among: Option<&[u32]>) -> Vec<u32> {
        let behind = self.window.behind.as_ref().map(self.time);
        let (mut first, mut last) = (0, u32::MAX);
        let at = |time: Timestamp| inner.slices.at(time).unwrap_or_default();
        match behind {
            Some(time) if self.window.newest_first => last = at(time),
            Some(time) => first = first.max(at(time)),
            None => {}
        }
        if let Some(latest) = self.latest {
            // Its ids are earlier: a slice that begins at it has none of them.
            last = last.min(at(latest.saturating_sub(Duration::from_millis(1))));
        }
        if let Some(after) = self.window.after {
            first = first.max(at(after));
        }
        let slices = inner.slices.list().into_iter().map(|(number, _)| number);
        let mut within: Vec<u32> = slices
            .filter(|number| (first..=last).contains(number))
            .filter(|number| among.is_none_or(|among| among.contains(number)))
            .collect();
        if self.window.newest_first {
            within.reverse();
        }
        within
    }

    /// The keys of the window, up to a gap.
    fn bounds(&self, prefix: &[u8], gap: Option<&Gap>) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        let key = |id: &[u8; 20]| [prefix, id].concat();
        let mut from = Bound::Included(self.from.map_or(prefix.to_vec(), |id| key(&id)));
        let mut to = match self.to {
            Some(id) => Bound::Excluded(key(&id)),
            None => Bound::Excluded(layout::end_of(prefix)),
        };
        if let Some(behind) = self.window.behind {
            let behind = (self.bytes)(&behind);
            if self.window.newest_first {
                if self.to.is_none_or(|to| behind < to) {
                    to = Bound::Excluded(key(&behind));
                }
            } else if self.from.is_none_or(|from| behind >= from) {
                // Excluded with what sorts right behind it: further values of a long record, a lane.
                from = Bound::Excluded(layout::behind_record(&key(&behind)));
            }
        }
        let first_at = |time: Timestamp| key(&(self.bytes)(&(self.first_at)(time.min(IDS_END))));
        match gap {
            Some(gap) if self.window.newest_first => {
                from = Bound::Included(first_at(gap.to + STEP));
            }
            Some(gap) => to = Bound::Excluded(first_at(gap.from)),
            None => {}
        }
        (from, to)
    }
}

impl<T, Id> Page<T, Id> {
    /// There is more behind it.
    fn ends(self) -> Stretch<T, Id> {
        Stretch {
            items: self.items,
            next: self.last,
        }
    }
}
