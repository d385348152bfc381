//! The attempts of a message, as a slice has them.

use super::items::{Item, Items};
use super::{FoundItem, Result};
use crate::domain::id::AttemptId;
use crate::store::layout::{self, AttemptPlace, RecordError};

/// An attempt that was found by its message.
pub struct AttemptFound {
    pub id: AttemptId,
    pub lane: u64,
    pub found: FoundItem,
}

pub struct AttemptsOfMessage {
    pub(super) items: Items,
}

impl AttemptFound {
    /// Reads the entry under the key of an attempt of a message.
    pub fn of(key: &[u8], found: &FoundItem) -> Result<AttemptFound> {
        let (id, lane) = match found {
            FoundItem::Value(value) => {
                let (place, _) = layout::decode::<AttemptPlace>(key, value)?;
                (AttemptId(layout::last_id(key)), place.lane)
            }
            FoundItem::Place(_) => {
                layout::parse_attempt_of_message(key).ok_or(RecordError::Damaged {
                    kind: layout::ATTEMPT_OF_MESSAGE,
                    why: "its key is not one of an attempt",
                })?
            }
        };
        let found = found.clone();
        Ok(AttemptFound { id, lane, found })
    }

    fn of_item(item: Item) -> Result<AttemptFound> {
        let (key, found) = item?;
        AttemptFound::of(&key, &found)
    }
}

impl Iterator for AttemptsOfMessage {
    type Item = Result<AttemptFound>;

    fn next(&mut self) -> Option<Self::Item> {
        self.items.next().map(AttemptFound::of_item)
    }
}

impl DoubleEndedIterator for AttemptsOfMessage {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.items.next_back().map(AttemptFound::of_item)
    }
}
