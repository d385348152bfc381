//! A list's way through the slices of history.
//!
//! It walks the slices in its direction and looks at a bounded number of records a call, so a filter that
//! matches nothing costs a bounded time and tells where to read on.

use std::ops::Bound;
use std::time::Duration;

use super::layout;
use super::slice::{Found, Items, Slice};
use super::{Inner, Stretch, Window};
use crate::clock::Timestamp;
use crate::domain::id::{AttemptId, ID_TIME_STEP_MS, IDS_END, MessageId};
use crate::error::Result;

/// Records that one call looks at before it returns what it has.
pub(super) const LOOKED_AT_MAX: usize = 10_000;

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
        }
    }

    /// Ends the walk at ids whose times lie this much, and a step, behind the window. Who looks at
    /// the records leaves out those that are beside it.
    fn until_after(mut self, longest: Duration) -> Self {
        self.latest = self.window.before.map(|before| {
            let latest = before + longest + Duration::from_millis(ID_TIME_STEP_MS);
            latest.min(IDS_END)
        });
        self.to = self
            .latest
            .map(|latest| (self.bytes)(&(self.first_at)(latest)));
        self
    }

    /// Reads on until the window's limit is reached; `look` gives each record's id, and its item
    /// where it is wanted, and counts its bytes and what else it looks at to tell.
    pub(super) fn run<T>(
        &self,
        inner: &Inner,
        prefix: &[u8],
        oldest_slice: u32,
        mut look: impl FnMut(&Slice, &[u8], &Found, &mut Cost) -> Result<(Id, Option<T>)>,
    ) -> Result<Stretch<T, Id>> {
        let mut items = Vec::new();
        let mut cost = Cost::default();
        let mut last = None;
        for number in self.slices(inner, oldest_slice) {
            let Some(slice) = inner.slice(number)? else {
                continue;
            };
            let (from, to) = self.bounds(prefix);
            let mut range = slice.range(from, to);
            let newest_first = self.window.newest_first;
            let next = |range: &mut Items| match newest_first {
                true => range.next_back(),
                false => range.next(),
            };
            while let Some(item) = next(&mut range) {
                let (key, found) = item?;
                let is_long = cost.bytes >= self.window.bytes && !items.is_empty();
                let is_full = items.len() == self.window.limit || is_long;
                if is_full || cost.looked_at >= LOOKED_AT_MAX {
                    return Ok(Stretch { items, next: last });
                }
                cost.looked_at += 1;
                let (id, wanted) = look(&slice, &key, &found, &mut cost)?;
                last = Some(id);
                items.extend(wanted);
            }
        }
        Ok(Stretch { items, next: None })
    }

    /// The numbers of the slices that can hold something of the window, in reading order.
    fn slices(&self, inner: &Inner, oldest: u32) -> Vec<u32> {
        let behind = self.window.behind.as_ref().map(self.time);
        let (mut first, mut last) = (oldest, u32::MAX);
        let at = |time: Timestamp| inner.slices.at(time).unwrap_or_default();
        match behind {
            Some(time) if self.window.newest_first => last = at(time),
            Some(time) => first = first.max(at(time)),
            None => {}
        }
        if let Some(latest) = self.latest {
            last = last.min(at(latest));
        }
        if let Some(after) = self.window.after {
            first = first.max(at(after));
        }
        let slices = inner.slices.list().into_iter().map(|(number, _)| number);
        let mut within: Vec<u32> = slices
            .filter(|number| (first..=last).contains(number))
            .collect();
        if self.window.newest_first {
            within.reverse();
        }
        within
    }

    fn bounds(&self, prefix: &[u8]) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
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
        (from, to)
    }
}
