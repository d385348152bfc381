//! How many visits there are at most, and how often one may begin.
//!
//! All visits are in memory, and each begins with a change on the disk, so one credential, one
//! customer and all together have limits. One visit more than the limit ends the one that was idle
//! for the longest: of the same credential, of the same customer's links and keys, or, where there are
//! too many in all, of whoever has the most. So nobody's sign-ins end the visit of somebody else who has
//! few. More sign-ins within a minute than the limit are refused.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use super::fair::Payer;
use super::minute;
use crate::clock::Timestamp;
use crate::config::Limits;
use crate::domain::visit::{SignedInWith, Visit};
use crate::error::{Error, Result};
use crate::lock::locked;
use crate::store::{Catalog, Change, VisitEntry};

/// Whose share a visit takes.
fn payer(visit: &Visit) -> Payer {
    let token = match visit.with {
        SignedInWith::Token(id) => Some(id),
        SignedInWith::Signed { .. } => None,
    };
    Payer::of(visit.organisation, visit.application, token)
}

/// Ends as many visits as must go before this one begins, and tells how many of them a limit ended;
/// `replaced` are those that it takes the place of in its browser.
pub fn room(
    catalog: &Catalog,
    new: &Visit,
    replaced: &HashSet<[u8; 32]>,
    limits: &Limits,
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
    /// Those of them that lived.
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

/// Sign-ins that succeeded in the minute that is running.
#[derive(Default)]
pub struct SignIns(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    since: Timestamp,
    /// By the SHA-256 of the credential. A customer's limit bounds how many are here.
    of_credential: HashMap<[u8; 32], u64>,
    of_payer: HashMap<Payer, u64>,
}

impl SignIns {
    /// Counts a sign-in with a valid credential; an error where there were too many of them.
    pub fn admit(
        &self,
        credential: [u8; 32],
        payer: Payer,
        limits: &Limits,
        now: Timestamp,
    ) -> Result<()> {
        let mut counts = locked(self.0.lock());
        if minute::is_over(counts.since, now) {
            *counts = Counts {
                since: now,
                ..Counts::default()
            };
        }
        for (count, max, whose, setting) in [
            (
                counts.of_payer.get(&payer),
                limits.sign_ins_per_customer_minute_max,
                "this customer's links and keys, or this credential,",
                "limits.sign_ins_per_customer_minute_max",
            ),
            (
                counts.of_credential.get(&credential),
                limits.sign_ins_per_credential_minute_max,
                "this credential",
                "limits.sign_ins_per_credential_minute_max",
            ),
        ] {
            if count.is_some_and(|count| *count >= max) {
                return Err(Error::TooManyNow {
                    reason: format!(
                        "{whose} signed in {max} times within a minute, which is the limit ({setting})"
                    ),
                    retry_after_seconds: minute::seconds_left(counts.since, now),
                });
            }
        }
        *counts.of_payer.entry(payer).or_default() += 1;
        *counts.of_credential.entry(credential).or_default() += 1;
        Ok(())
    }
}
