//! What arrives from a store that was brought back, held against what it showed before anything was delivered.

use std::collections::HashMap;

use super::books::{AGAIN, Pages, payload};
use super::check::Found;
use super::shown::ShownMessage;

/// A delivery that has to arrive.
pub struct Owed {
    uid: String,
    number: u64,
    /// It counts from this life on …
    since: u32,
    /// … and has to be taken so many times.
    times: usize,
}

impl Owed {
    pub fn is_paid(&self, pages: &Pages) -> bool {
        pages.successes(&self.uid, self.number, self.since) >= self.times
    }

    pub fn told(&self) -> String {
        format!("message {} to {}", self.number, self.uid)
    }
}

/// The deliveries that have to arrive in the life that has begun: all that the store does not show as delivered.
pub fn owed(pages: &Pages, seed: u64, found: &Found) -> Vec<Owed> {
    let delivered = found.delivered();
    let whole = whole_messages(seed, found);
    let mut owed = Vec::new();
    for number in whole.keys() {
        let Some(message) = pages.messages.get(number) else {
            continue;
        };
        let uids = message.uids.iter();
        let there = uids.filter(|uid| found.shown.has_endpoint(uid));
        let waiting = there.filter(|uid| !delivered.contains(&(uid.as_str(), *number)));
        owed.extend(waiting.map(|uid| Owed {
            uid: uid.clone(),
            number: *number,
            since: pages.life,
            times: 1,
        }));
    }
    let moment = &found.moment;
    let is_answered = |answered: Option<u64>| answered.is_some_and(|at| at < moment.has_before);
    let resends = pages.resends.iter();
    let resends =
        resends.filter(|one| is_answered(one.span.answered) && whole.contains_key(&one.number));
    owed.extend(resends.map(|one| Owed {
        uid: AGAIN.to_owned(),
        number: one.number,
        since: 0,
        times: one.before + 1,
    }));
    owed
}

/// Messages that are shown with their payloads, by their numbers.
fn whole_messages(seed: u64, found: &Found) -> HashMap<u64, &ShownMessage> {
    let all = found.shown.messages();
    let numbered = all.filter_map(|(_, one)| Some((one.number?, one)));
    let whole = numbered
        .filter(|(number, one)| !one.payload_deleted && one.payload == payload(seed, *number));
    whole.collect()
}

/// What had been delivered by all that the store knows and came again since it was brought back.
pub fn sent_again(pages: &Pages, found: &Found) -> Vec<String> {
    let delivered = found.delivered();
    let again = pages.all_receipts().filter(|(uid, number, receipts)| {
        let since = receipts.iter().any(|one| one.life >= found.life);
        let by_hand = || {
            let message = pages.messages.get(number);
            let is_resent = message.is_some_and(|one| one.is_resent);
            *uid == AGAIN && (is_resent || !pages.replays.is_empty())
        };
        since && delivered.contains(&(uid.as_str(), *number)) && !by_hand()
    });
    let told = again.map(|(uid, number, _)| {
        format!("message {number} had been delivered to {uid} and came again")
    });
    told.collect()
}

/// What should not have come since the store was brought back, where nothing was published or changed since.
pub fn misdelivered(pages: &Pages, found: &Found) -> Vec<String> {
    let mut wrong = sent_again(pages, found);
    let shown = found.shown.messages();
    let shown: HashMap<u64, &ShownMessage> = shown
        .filter_map(|(_, one)| Some((one.number?, one)))
        .collect();
    for (uid, number, receipts) in pages.all_receipts() {
        let mut since = receipts.iter().filter(|one| one.life >= found.life);
        let Some(first) = since.next() else { continue };
        let Some(message) = shown.get(&number) else {
            wrong.push(format!(
                "message {number} came to {uid}, and the store does not show it"
            ));
            continue;
        };
        if message.payload_deleted {
            wrong.push(format!("message {number} is erased and came to {uid}"));
        }
        if !found.shown.has_endpoint(uid) {
            wrong.push(format!(
                "message {number} came to {uid}, which is not there"
            ));
        }
        if first.message_id != message.id || since.any(|one| one.message_id != message.id) {
            wrong.push(format!(
                "message {number} came to {uid} as {} and is {}",
                first.message_id, message.id
            ));
        }
        if uid != AGAIN && pages.successes(uid, number, found.life + 1) > 1 {
            wrong.push(format!("message {number} was taken twice by {uid}"));
        }
    }
    wrong
}
