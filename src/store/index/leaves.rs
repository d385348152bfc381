//! Keys and places in memory, in order: a list of sorted leaves.
//!
//! A leaf is one stretch of memory with entries of one size, since the keys of a kind have one
//! length. No key has an allocation of its own, and a search touches few lines of the cache.

use std::collections::VecDeque;
use std::ops::Bound;

use super::range::{Between, End, Stretch};
use super::{Entry, PLACE_BYTES, Place};

/// A full leaf. Larger ones move more bytes for each key that is added, smaller ones make the list
/// longer, of which half is moved where a leaf is added.
const LEAF_BYTES: usize = 8 << 10;
/// The steps in which a leaf's memory grows.
const GROWTH_BYTES: usize = LEAF_BYTES / 8;

#[derive(Default)]
pub struct Leaves {
    /// In the order of their keys; none is empty.
    leaves: Vec<Leaf>,
    len: usize,
}

/// Entries in order: each a key, and its place.
#[derive(Default)]
pub struct Leaf {
    key_bytes: usize,
    entries: Vec<u8>,
}

/// An entry, or where one would be added.
#[derive(Clone, Copy)]
struct Position {
    leaf: usize,
    at: usize,
}

impl Leaves {
    pub fn len(&self) -> usize {
        self.len
    }

    /// Memory that is taken; a walk over the list, without its leaves.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        let list = self.leaves.capacity() * size_of::<Leaf>();
        let each = self.leaves.iter().map(|leaf| leaf.entries.capacity());
        list + each.sum::<usize>()
    }

    pub fn get(&self, key: &[u8]) -> Option<Place> {
        let leaf = &self.leaves[self.leaf_of(key)?];
        let at = leaf.search(key).ok()?;
        Some(leaf.place(at))
    }

    /// Adds a key, or replaces its place.
    pub fn insert(&mut self, key: &[u8], place: Place) {
        let Some(leaf) = self.leaf_of(key) else {
            self.leaves.push(Leaf::with(key, place));
            self.len += 1;
            return;
        };
        match self.leaves[leaf].search(key) {
            Ok(at) => self.leaves[leaf].replace(at, place),
            Err(at) => {
                self.insert_at(Position { leaf, at }, key, place);
                self.len += 1;
            }
        }
    }

    fn insert_at(&mut self, Position { mut leaf, mut at }: Position, key: &[u8], place: Place) {
        let takes = |leaf: &Leaf| leaf.key_bytes == key.len();
        if !takes(&self.leaves[leaf]) {
            if at > 0 && at < self.leaves[leaf].len() {
                self.split(leaf, at);
            }
            // Between two leaves; the one behind takes the key if it is of its kind.
            (leaf, at) = (leaf + usize::from(at > 0), 0);
            if !self.leaves.get(leaf).is_some_and(takes) {
                self.leaves.insert(leaf, Leaf::with(key, place));
                return;
            }
        }
        let len = self.leaves[leaf].len();
        if self.leaves[leaf].is_full() {
            // Most keys ascend: the leaf that they leave behind stays full.
            if at == len {
                self.leaves.insert(leaf + 1, Leaf::with(key, place));
                return;
            }
            self.split(leaf, len / 2);
            if at > len / 2 {
                (leaf, at) = (leaf + 1, at - len / 2);
            }
        }
        self.leaves[leaf].insert(at, key, place);
    }

    /// Moves the entries from `at` on to a leaf of their own.
    fn split(&mut self, leaf: usize, at: usize) {
        let behind = self.leaves[leaf].split_off(at);
        self.leaves.insert(leaf + 1, behind);
    }

    /// The leaf in which a key is, or to which it would be added: the last that begins at or before it.
    fn leaf_of(&self, key: &[u8]) -> Option<usize> {
        let behind = self.leaves.partition_point(|leaf| leaf.key(0) <= key);
        (!self.leaves.is_empty()).then(|| behind.saturating_sub(1))
    }

    /// The first entries of a range, or its last ones; at most `max`.
    pub fn stretch(&self, between: &Between, end: End, max: usize) -> Stretch {
        let mut entries = VecDeque::new();
        let mut position = match end {
            End::Front => self.first_at(&between.from, false),
            End::Back => self.first_at(&between.to, true),
        };
        while entries.len() < max {
            let found = match end {
                End::Front => self.next(&mut position),
                End::Back => self.next_back(&mut position),
            };
            let Some((leaf, at)) = found else { break };
            let key = leaf.key(at);
            if between.is_before(key) || between.is_behind(key) {
                break;
            }
            let entry: Entry = (key.to_vec(), leaf.place(at));
            match end {
                End::Front => entries.push_back(entry),
                End::Back => entries.push_front(entry),
            }
        }
        Stretch {
            is_last: entries.len() < max,
            entries,
        }
    }

    /// The position of the first entry within a bound where a range begins, or behind one where it ends.
    fn first_at(&self, bound: &Bound<Vec<u8>>, is_end: bool) -> Position {
        let (key, is_behind_key) = match bound {
            Bound::Included(key) => (key, is_end),
            Bound::Excluded(key) => (key, !is_end),
            Bound::Unbounded if is_end => return self.end(),
            Bound::Unbounded => return Position { leaf: 0, at: 0 },
        };
        let Some(leaf) = self.leaf_of(key) else {
            return self.end();
        };
        let at = match self.leaves[leaf].search(key) {
            Ok(at) => at + usize::from(is_behind_key),
            Err(at) => at,
        };
        Position { leaf, at }
    }

    fn end(&self) -> Position {
        Position {
            leaf: self.leaves.len(),
            at: 0,
        }
    }

    fn next(&self, position: &mut Position) -> Option<(&Leaf, usize)> {
        let mut leaf = self.leaves.get(position.leaf)?;
        if position.at == leaf.len() {
            *position = Position {
                leaf: position.leaf + 1,
                at: 0,
            };
            leaf = self.leaves.get(position.leaf)?;
        }
        position.at += 1;
        Some((leaf, position.at - 1))
    }

    fn next_back(&self, position: &mut Position) -> Option<(&Leaf, usize)> {
        if position.at == 0 {
            position.leaf = position.leaf.checked_sub(1)?;
            position.at = self.leaves[position.leaf].len();
        }
        position.at -= 1;
        Some((&self.leaves[position.leaf], position.at))
    }

    /// A copy of the first leaf with a key behind this one, to be read without a lock. It may begin
    /// with keys up to this one.
    pub fn copy_behind(&self, key: Option<&[u8]>) -> Option<Leaf> {
        let leaf = match key {
            None => 0,
            Some(key) => {
                let leaf = self.leaf_of(key)?;
                leaf + usize::from(self.leaves[leaf].last_key() <= key)
            }
        };
        self.leaves.get(leaf).map(|leaf| Leaf {
            key_bytes: leaf.key_bytes,
            entries: leaf.entries.clone(),
        })
    }
}

impl Leaf {
    fn with(key: &[u8], place: Place) -> Leaf {
        let mut leaf = Leaf {
            key_bytes: key.len(),
            entries: Vec::new(),
        };
        leaf.insert(0, key, place);
        leaf
    }

    fn entry_bytes(&self) -> usize {
        self.key_bytes + PLACE_BYTES
    }

    pub fn len(&self) -> usize {
        self.entries.len() / self.entry_bytes()
    }

    fn is_full(&self) -> bool {
        self.entries.len() + self.entry_bytes() > LEAF_BYTES
    }

    pub fn key(&self, at: usize) -> &[u8] {
        &self.entries[at * self.entry_bytes()..][..self.key_bytes]
    }

    pub fn last_key(&self) -> &[u8] {
        self.key(self.len() - 1)
    }

    pub fn place(&self, at: usize) -> Place {
        let place = &self.entries[at * self.entry_bytes() + self.key_bytes..];
        let place = place.first_chunk().expect("an entry ends in its place");
        Place::from_bytes(*place)
    }

    /// Where a key is, or else where it would be added.
    fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let (mut from, mut to) = (0, self.len());
        // Most keys that are added are the last of their leaf.
        if self.last_key() < key {
            return Err(to);
        }
        while from < to {
            let middle = from + (to - from) / 2;
            match self.key(middle).cmp(key) {
                std::cmp::Ordering::Less => from = middle + 1,
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Greater => to = middle,
            }
        }
        Err(from)
    }

    fn insert(&mut self, at: usize, key: &[u8], place: Place) {
        let entry_bytes = self.entry_bytes();
        let has_room = self.entries.capacity() - self.entries.len() >= entry_bytes;
        if !has_room {
            self.entries.reserve_exact(GROWTH_BYTES.max(entry_bytes));
        }
        self.entries.extend_from_slice(key);
        self.entries.extend_from_slice(&place.to_bytes());
        self.entries[at * entry_bytes..].rotate_right(entry_bytes);
    }

    fn replace(&mut self, at: usize, place: Place) {
        let place_at = at * self.entry_bytes() + self.key_bytes;
        self.entries[place_at..][..PLACE_BYTES].copy_from_slice(&place.to_bytes());
    }

    fn split_off(&mut self, at: usize) -> Leaf {
        let entries = self.entries.split_off(at * self.entry_bytes());
        self.entries.shrink_to(self.entries.len() + GROWTH_BYTES);
        Leaf {
            key_bytes: self.key_bytes,
            entries,
        }
    }
}
