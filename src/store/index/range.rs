//! Ranges of keys that are read from both ends, a stretch at a time.

use std::collections::VecDeque;
use std::ops::Bound;

use super::Entry;

/// The bounds of a range, narrowed as stretches are taken from its ends.
#[derive(Clone, Debug)]
pub struct Between {
    pub from: Bound<Vec<u8>>,
    pub to: Bound<Vec<u8>>,
}

impl Between {
    /// Whether no key can lie between the bounds.
    pub fn is_empty(&self) -> bool {
        match (&self.from, &self.to) {
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
            (Bound::Included(from), Bound::Included(to)) => from > to,
            (
                Bound::Included(from) | Bound::Excluded(from),
                Bound::Included(to) | Bound::Excluded(to),
            ) => from >= to,
        }
    }

    /// Whether a key lies before the range.
    pub fn is_before(&self, key: &[u8]) -> bool {
        match &self.from {
            Bound::Included(from) => key < from.as_slice(),
            Bound::Excluded(from) => key <= from.as_slice(),
            Bound::Unbounded => false,
        }
    }

    /// Whether a key lies behind the range.
    pub fn is_behind(&self, key: &[u8]) -> bool {
        match &self.to {
            Bound::Included(to) => key > to.as_slice(),
            Bound::Excluded(to) => key >= to.as_slice(),
            Bound::Unbounded => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Front,
    Back,
}

/// Entries from one end of a range, in the order of their keys.
#[derive(Default)]
pub struct Stretch {
    pub entries: VecDeque<Entry>,
    /// Nothing is left of the range. Always true if there are no entries.
    pub is_last: bool,
}

/// Keys in order, of which stretches can be taken.
pub trait Sorted {
    type Error;

    fn stretch(&self, between: &Between, end: End) -> Result<Stretch, Self::Error>;
}

/// A range that is under way from both ends.
pub struct BothEnds {
    /// The part that neither end has taken yet.
    between: Between,
    front: VecDeque<Entry>,
    back: VecDeque<Entry>,
    /// Nothing is left between the two.
    is_over: bool,
}

impl BothEnds {
    pub fn new(from: Bound<Vec<u8>>, to: Bound<Vec<u8>>) -> BothEnds {
        let between = Between { from, to };
        BothEnds {
            is_over: between.is_empty(),
            between,
            front: VecDeque::new(),
            back: VecDeque::new(),
        }
    }

    pub fn next<S: Sorted>(&mut self, keys: &S) -> Option<Result<Entry, S::Error>> {
        if self.front.is_empty()
            && let Err(error) = self.take(keys, End::Front)
        {
            return Some(Err(error));
        }
        let next = self.front.pop_front().or_else(|| self.back.pop_front());
        next.map(Ok)
    }

    pub fn next_back<S: Sorted>(&mut self, keys: &S) -> Option<Result<Entry, S::Error>> {
        if self.back.is_empty()
            && let Err(error) = self.take(keys, End::Back)
        {
            return Some(Err(error));
        }
        let next = self.back.pop_back().or_else(|| self.front.pop_back());
        next.map(Ok)
    }

    /// Takes the next stretch of an end that has nothing left. An error ends the range at both ends:
    /// a reader that goes on behind it would miss entries without a word.
    fn take<S: Sorted>(&mut self, keys: &S, end: End) -> Result<(), S::Error> {
        if self.is_over {
            return Ok(());
        }
        let stretch = keys.stretch(&self.between, end).inspect_err(|_| {
            self.is_over = true;
            self.front.clear();
            self.back.clear();
        })?;
        self.is_over = stretch.is_last;
        match end {
            End::Front => {
                if let Some((last, _)) = stretch.entries.back() {
                    self.between.from = Bound::Excluded(last.clone());
                }
                self.front = stretch.entries;
            }
            End::Back => {
                if let Some((first, _)) = stretch.entries.front() {
                    self.between.to = Bound::Excluded(first.clone());
                }
                self.back = stretch.entries;
            }
        }
        Ok(())
    }
}
