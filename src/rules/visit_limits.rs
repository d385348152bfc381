//! The limits on the number of visits.
//!
//! All visits are in memory, so each credential, each customer and all together have limits. A
//! visit beyond a limit ends the one that was idle for the longest: of the same credential, of the
//! same customer's links and keys, or, where there are too many in all, of the payer with the most.
//! So nobody's sign-ins end a visit of somebody who has few.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::payer::Payer;
use crate::catalog::{Catalog, Change, VisitEntry};
use crate::clock::Timestamp;
use crate::config::LimitsSection;
use crate::domain::visit::{SignedInWith, Visit};

/// The payer whose share a visit takes.
fn payer(visit: &Visit) -> Payer {
    let token = match visit.with {
        SignedInWith::Token(id) => Some(id),
        SignedInWith::Signed { .. } => None,
    };
    Payer::of(visit.organisation, visit.application, token)
}

/// Ends as many visits as must end before this one begins, and returns how many of them a limit
/// ended. `replaced` are those whose place it takes in its browser.
pub fn room(
    catalog: &Catalog,
    new: &Visit,
    replaced: &BTreeSet<[u8; 32]>,
    limits: &LimitsSection,
    now: Timestamp,
) -> (Vec<Change>, u64) {
    // The keeper removes those that are over within a minute: they take nobody's place until then.
    let living = catalog
        .visits()
        .filter(|entry| !replaced.contains(&entry.visit.key) && !catalog.is_over(entry, now));
    let mut room = Room {
        living: living.map(|entry| &**entry).collect(),
        crowded_out: 0,
        ended: replaced.iter().copied().collect(),
    };
    let of = payer(new);
    room.make(limits.sessions_per_credential_max, |visit| {
        visit.credential == new.credential
    });
    room.make(limits.sessions_per_customer_max, |visit| payer(visit) == of);
    while room.living.len() >= limits.sessions_max {
        let most = room.who_has_most();
        let left = room.living.iter();
        let of_most = left.filter(|entry| Some(payer(&entry.visit)) == most);
        let of_most = of_most.count();
        // Whoever has the most may not have it after this.
        let excess = room.living.len() + 1 - limits.sessions_max;
        let going = excess.min(of_most.div_ceil(2));
        room.make(of_most + 1 - going, |visit| Some(payer(visit)) == most);
    }
    let ended = room.ended.into_iter().map(Change::DeleteVisit);
    (ended.collect(), room.crowded_out)
}

struct Room<'a> {
    living: Vec<&'a VisitEntry>,
    ended: Vec<[u8; 32]>,
    /// The number of visits that a limit ended before their time.
    crowded_out: u64,
}

impl Room<'_> {
    /// Ends the longest idle of these visits until one more makes `max` of them.
    fn make(&mut self, max: usize, is_one: impl Fn(&Visit) -> bool) {
        let these = self.living.iter().filter(|entry| is_one(&entry.visit));
        let mut these: Vec<_> = these
            .map(|entry| (entry.seen_at(), entry.visit.id, entry.visit.key))
            .collect();
        let too_many = (these.len() + 1).saturating_sub(max);
        if too_many == 0 {
            return;
        }
        these.sort_unstable();
        these.truncate(too_many);
        let keys: HashSet<_> = these.into_iter().map(|(_, _, key)| key).collect();
        self.living.retain(|entry| !keys.contains(&entry.visit.key));
        self.crowded_out += keys.len() as u64;
        self.ended.extend(keys);
    }

    fn who_has_most(&self) -> Option<Payer> {
        let mut counts: HashMap<Payer, usize> = HashMap::new();
        for entry in &self.living {
            *counts.entry(payer(&entry.visit)).or_default() += 1;
        }
        let most = counts.into_iter().max_by_key(|(_, count)| *count);
        most.map(|(payer, _)| payer)
    }
}
