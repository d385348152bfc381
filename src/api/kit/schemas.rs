//! The schemas of event types in use, compiled, and how often each event type warned.
//!
//! A schema is compiled once for each change of its event type, when the first message asks for it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, RwLock};

use crate::domain::event_type::EventType;
use crate::domain::id::OrganisationId;
use crate::lock::locked;
use crate::rules::announced::InUse;

/// The most compiled schemas that are kept. Each may take some hundred kilobytes.
const COMPILED_MAX: usize = 1000;

/// The most event types whose warnings are counted.
const COUNTED_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub struct Schemas {
    /// By the address of the event type, which stays the same until the event type changes, and is not used again
    /// while this keeps it.
    compiled: RwLock<HashMap<usize, Arc<InUse>>>,
    warned: Mutex<BTreeMap<(OrganisationId, String), u64>>,
}

impl Schemas {
    /// The event type's schema, where it is compiled already.
    pub fn ready(&self, event_type: &Arc<EventType>) -> Option<Arc<InUse>> {
        locked(self.compiled.read())
            .get(&address(event_type))
            .cloned()
    }

    /// The event type's schema. Compiling it may take some milliseconds.
    pub fn of(&self, event_type: &Arc<EventType>) -> Arc<InUse> {
        if let Some(ready) = self.ready(event_type) {
            return ready;
        }
        // Without the lock: others need not wait. Where two compile the same, one of them counts.
        let in_use = Arc::new(InUse::of(event_type));
        let mut compiled = locked(self.compiled.write());
        // An event type that nobody else has was changed or deleted.
        compiled.retain(|_, one| Arc::strong_count(&one.event_type) > 1);
        if compiled.len() >= COMPILED_MAX {
            compiled.clear();
        }
        compiled.insert(address(event_type), in_use.clone());
        in_use
    }

    /// How many messages of an event type were accepted with a warning about their payload since the start.
    pub fn warned(&self, event_type: &EventType) -> u64 {
        let warned = locked(self.warned.lock());
        let key = (event_type.organisation, event_type.name.clone());
        warned.get(&key).copied().unwrap_or_default()
    }

    /// Counts a message that was warned of.
    pub fn count_warning(&self, event_type: &EventType) {
        let mut warned = locked(self.warned.lock());
        let has_room = warned.len() < COUNTED_MAX;
        let key = (event_type.organisation, event_type.name.clone());
        match warned.get_mut(&key) {
            Some(count) => *count += 1,
            None if has_room => drop(warned.insert(key, 1)),
            None => {}
        }
    }
}

fn address(event_type: &Arc<EventType>) -> usize {
    Arc::as_ptr(event_type) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::rules::event_types::blank;

    #[test]
    fn a_changed_event_type_is_compiled_anew_and_the_old_one_is_forgotten() {
        let schemas = Schemas::default();
        for _ in 0..5 {
            let organisation = OrganisationId([1; 20]);
            let current = Arc::new(blank(organisation, "a".to_owned(), Timestamp(0)));
            assert!(schemas.ready(&current).is_none());
            let compiled = schemas.of(&current);
            assert!(Arc::ptr_eq(&compiled, &schemas.of(&current)));
            assert_eq!(locked(schemas.compiled.read()).len(), 1);
            schemas.count_warning(&current);
        }
        let same = blank(OrganisationId([1; 20]), "a".to_owned(), Timestamp(9));
        assert_eq!(schemas.warned(&same), 5);
    }
}
