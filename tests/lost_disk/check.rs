//! Compares a store that was brought back with what is known of the one that was lost. Pure: what is wrong is returned.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;

use super::books::{AGAIN, Fate, Lifetime, Message, Pages, Span, payload};
use super::operator::Report;
use super::shown::{Shown, ShownMessage};
use super::witness::{Sight, Version};

/// What is shown in place of a payload that was erased.
const ERASED: &str = r#"{"expired":true}"#;

/// The moment that a store was brought back to, by the server's clock.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The store has what was answered before.
    pub has_before: u64,
    /// The store does not have what was asked for after it.
    pub has_not_after: u64,
    /// What was erased before is erased, whatever moment it is.
    pub erased_before: u64,
    /// What was to be erased after it is not erased.
    pub not_erased_after: u64,
    /// What was published before may have been removed by retention.
    pub kept_since: u64,
}

/// A store that was brought back, and what it shows before anything is delivered.
#[derive(Clone)]
pub struct Found {
    pub moment: Moment,
    pub report: Report,
    pub shown: Shown,
    /// Messages of whose payloads its directory has bytes, with a file of each.
    pub on_disk: BTreeMap<u64, PathBuf>,
    /// The life in which that was read.
    pub life: u32,
}

impl Found {
    /// The endpoints and messages of deliveries that it shows as delivered.
    pub fn delivered(&self) -> HashSet<(&str, u64)> {
        let numbers = self.numbers();
        let attempts = self.shown.attempts(self.report.moment);
        let successes = attempts.filter(|(_, one)| one.succeeded);
        let keys = successes.filter_map(|(uid, one)| {
            let number = numbers.get(one.message.as_str())?;
            Some((uid.as_str(), *number))
        });
        keys.collect()
    }

    /// The numbers of messages, by their ids.
    fn numbers(&self) -> HashMap<&str, u64> {
        let messages = self.shown.messages();
        let numbers = messages.filter_map(|(_, one)| Some((one.id.as_str(), one.number?)));
        numbers.collect()
    }
}

/// How much was compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compared {
    pub messages: usize,
    pub messages_byte_for_byte: usize,
    pub attempts: usize,
    pub attempts_byte_for_byte: usize,
}

impl Compared {
    pub fn plus(self, other: Compared) -> Compared {
        Compared {
            messages: self.messages + other.messages,
            messages_byte_for_byte: self.messages_byte_for_byte + other.messages_byte_for_byte,
            attempts: self.attempts + other.attempts,
            attempts_byte_for_byte: self.attempts_byte_for_byte + other.attempts_byte_for_byte,
        }
    }
}

/// What is wrong with the store, and how much of it was compared.
pub fn check(pages: &Pages, seed: u64, sight: &Sight, found: &Found) -> (Vec<String>, Compared) {
    let mut check = Check {
        pages,
        seed,
        sight,
        found,
        numbers: found.numbers(),
        wrong: Vec::new(),
        compared: Compared::default(),
    };
    check.registrations();
    check.messages();
    check.attempts();
    check.counts();
    check.waiting();
    check.disk();
    (check.wrong, check.compared)
}

struct Check<'a> {
    pages: &'a Pages,
    seed: u64,
    sight: &'a Sight,
    found: &'a Found,
    numbers: HashMap<&'a str, u64>,
    wrong: Vec<String>,
    compared: Compared,
}

impl Check<'_> {
    fn fate(&self, span: Span) -> Fate {
        let moment = &self.found.moment;
        span.fate(moment.has_before, moment.has_not_after)
    }

    fn erasure(&self, span: Option<Span>) -> Fate {
        let moment = &self.found.moment;
        span.map_or(Fate::Not, |span| {
            span.fate(moment.erased_before, moment.not_erased_after)
        })
    }

    /// Whether a thing that was made, and perhaps deleted, is there.
    fn presence(&self, lifetime: &Lifetime) -> Fate {
        let deleted = lifetime.deleted.map_or(Fate::Not, |span| self.fate(span));
        match (self.fate(lifetime.made), deleted) {
            (Fate::Not, _) | (_, Fate::Done) => Fate::Not,
            (Fate::Done, Fate::Not) => Fate::Done,
            _ => Fate::Open,
        }
    }

    /// Whether a message's content is erased, in the store or in its copy. With an application it goes in the background.
    fn content(&self, message: &Message) -> Fate {
        let app = self.pages.apps.get(&message.app);
        let with_app = self.erasure(app.and_then(|app| app.deleted));
        match (self.erasure(message.erased), with_app) {
            (Fate::Done, _) => Fate::Done,
            (Fate::Not, Fate::Not) => Fate::Not,
            _ => Fate::Open,
        }
    }

    fn registrations(&mut self) {
        let shown = &self.found.shown;
        for (app, lifetime) in &self.pages.apps {
            let is_shown = shown.apps.contains_key(app);
            self.compare_presence("application", app, lifetime, is_shown);
        }
        for (uid, endpoint) in &self.pages.endpoints {
            let Some(app) = shown.apps.get(&endpoint.app) else {
                continue;
            };
            let is_shown = app.endpoints.contains_key(uid);
            self.compare_presence("endpoint", uid, &endpoint.lifetime, is_shown);
        }
        let replays = self.pages.replays.iter().map(|one| self.fate(*one));
        let replays = Vec::from_iter(replays);
        let surely = replays.iter().filter(|one| **one == Fate::Done).count();
        let perhaps = replays.iter().filter(|one| **one == Fate::Open).count();
        self.between("replays", shown.jobs as u64, surely, perhaps);
        for (app, one) in &shown.apps {
            let known = &self.pages.endpoints;
            let is_unknown = |uid: &&String| !known.contains_key(*uid);
            let unknown = Vec::from_iter(one.endpoints.keys().filter(is_unknown));
            if !self.pages.apps.contains_key(app) || !unknown.is_empty() {
                self.wrong.push(format!(
                    "it shows {app} with {unknown:?}, of which nobody knows"
                ));
            }
        }
    }

    fn compare_presence(&mut self, kind: &str, uid: &str, lifetime: &Lifetime, is_shown: bool) {
        let Lifetime { made, deleted } = lifetime;
        match (self.presence(lifetime), is_shown) {
            (Fate::Done, false) => self.wrong.push(format!(
                "it does not show {kind} {uid}, made {made:?}, deleted {deleted:?}"
            )),
            (Fate::Not, true) => self.wrong.push(format!(
                "it shows {kind} {uid}, which is not there: made {made:?}, deleted {deleted:?}"
            )),
            _ => {}
        }
    }

    fn messages(&mut self) {
        let (pages, found) = (self.pages, self.found);
        let mut shown_numbers = HashSet::new();
        for (app, shown) in &found.shown.apps {
            if let Some(pair) = shown.messages.windows(2).find(|two| two[0].id <= two[1].id) {
                let (first, second) = (&pair[0].id, &pair[1].id);
                self.wrong
                    .push(format!("{app} shows {first} before {second}"));
            }
            for one in &shown.messages {
                let known = one.number.and_then(|number| pages.messages.get(&number));
                match known.filter(|known| known.app == *app) {
                    Some(known) => self.message(one, known),
                    None => self.wrong.push(format!(
                        "{app} shows {}, of which nobody knows: {:?}",
                        one.id, one.number
                    )),
                }
                if one
                    .number
                    .is_some_and(|number| !shown_numbers.insert(number))
                {
                    self.wrong
                        .push(format!("message {:?} is shown twice", one.number));
                }
            }
        }
        for (number, message) in &pages.messages {
            let must_be_there = self.fate(message.accepted) == Fate::Done
                && message.accepted.asked >= found.moment.kept_since
                && found.shown.apps.contains_key(&message.app);
            if must_be_there && !shown_numbers.contains(number) {
                self.wrong.push(format!(
                    "{} does not show message {number}, {:?}, accepted {:?}",
                    message.app, message.id, message.accepted
                ));
            }
        }
    }

    fn message(&mut self, shown: &ShownMessage, known: &Message) {
        self.compared.messages += 1;
        let number = shown.number.unwrap_or_default();
        if self.fate(known.accepted) == Fate::Not {
            self.wrong.push(format!(
                "message {number} is shown and was published later: {:?}",
                known.accepted
            ));
        }
        if known.id.as_ref().is_some_and(|id| *id != shown.id) {
            self.wrong.push(format!(
                "message {number} is shown as {} and is {:?}",
                shown.id, known.id
            ));
        }
        let is_whole = !shown.payload_deleted && shown.payload == payload(self.seed, number);
        let was_erased = known
            .erased
            .is_some_and(|span| self.fate(span) == Fate::Done);
        let content = self.content(known);
        let is_wrong = match content {
            Fate::Not => !is_whole,
            Fate::Done => shown.payload != ERASED || was_erased && !shown.payload_deleted,
            Fate::Open => !is_whole && shown.payload != ERASED,
        };
        if is_wrong {
            let start: String = shown.payload.chars().take(60).collect();
            self.wrong.push(format!(
                "message {number} is shown with deleted: {}, {start}…; its content is erased: {content:?}, {:?}",
                shown.payload_deleted, known.erased
            ));
        }
        let versions = self
            .sight
            .messages
            .get(&shown.id)
            .map_or(&[][..], Vec::as_slice);
        let is_same = self.is_same(known, versions, &shown.body);
        self.compared.messages_byte_for_byte += usize::from(is_same.is_some());
        if let Some(Err(seen)) = is_same {
            let body = &shown.body;
            self.wrong.push(format!(
                "message {number} is not as it was:\n{seen}\n{body}"
            ));
        }
    }

    /// Whether an item is as it was seen, where it was seen and has not changed since. The error is as it was.
    fn is_same<'v>(
        &self,
        message: &Message,
        versions: &'v [Version],
        body: &str,
    ) -> Option<Result<(), &'v str>> {
        let app = self.pages.apps.get(&message.app);
        let erasures = [message.erased, app.and_then(|app| app.deleted)];
        let erasures = erasures.into_iter().flatten();
        let was_erased = message
            .erased
            .filter(|span| self.fate(*span) == Fate::Done)
            .and_then(|span| span.answered);
        let of_then = |version: &&Version| match (self.content(message), was_erased) {
            (Fate::Not, _) => erasures
                .clone()
                .all(|span| version.first.ended < span.asked),
            (Fate::Done, Some(answered)) => version.last.began > answered,
            _ => false,
        };
        let seen = Vec::from_iter(versions.iter().filter(of_then));
        let other = seen.iter().find(|version| version.body != body);
        match other {
            Some(other) => Some(Err(other.body.as_str())),
            None => (!seen.is_empty()).then_some(Ok(())),
        }
    }

    fn attempts(&mut self) {
        let (pages, found, sight) = (self.pages, self.found, self.sight);
        let mut shown_ids = HashSet::new();
        // By endpoint and message: how many were taken, and how many refused.
        let mut outcomes: HashMap<(&str, u64), [usize; 2]> = HashMap::new();
        for (uid, one) in found.shown.attempts(found.report.moment) {
            self.compared.attempts += 1;
            shown_ids.insert(one.id.as_str());
            let number = self.numbers.get(one.message.as_str()).copied();
            let known = number.and_then(|number| Some((number, pages.messages.get(&number)?)));
            let Some((number, message)) = known else {
                // Retention takes the newest attempts of a message after the message.
                if found.moment.kept_since == 0 {
                    self.wrong.push(format!(
                        "attempt {} at {uid} is of {}, which is not shown",
                        one.id, one.message
                    ));
                }
                continue;
            };
            if one.status != 0 {
                let outcome = outcomes.entry((uid, number)).or_default();
                outcome[usize::from(!one.succeeded)] += 1;
            }
            let seen = sight.attempts.get(&one.id);
            let versions = seen.map_or(&[][..], |seen| &seen.versions);
            let is_same = self.is_same(message, versions, &one.body);
            self.compared.attempts_byte_for_byte += usize::from(is_same.is_some());
            if let Some(Err(seen)) = is_same {
                let (id, body) = (&one.id, &one.body);
                self.wrong.push(format!(
                    "attempt {id} of message {number} is not as it was:\n{seen}\n{body}"
                ));
            }
        }
        for ((uid, number), [taken, refused]) in outcomes {
            let receipts = pages.receipts(uid, number).iter();
            let receipts = receipts.filter(|one| one.life < found.life);
            let (taken_there, refused_there): (Vec<_>, Vec<_>) =
                receipts.partition(|one| one.succeeded);
            if taken > taken_there.len() || refused > refused_there.len() {
                self.wrong.push(format!(
                    "message {number} at {uid} was taken {taken} and refused {refused} times by its attempts, by the \
                     receiver {} and {}",
                    taken_there.len(),
                    refused_there.len()
                ));
            }
        }
        for (id, seen) in &sight.attempts {
            let was_there = seen
                .versions
                .first()
                .is_some_and(|version| version.first.ended < found.moment.has_before);
            let is_kept = self.numbers.contains_key(seen.message.as_str());
            let must_be_there = was_there && is_kept && found.shown.has_endpoint(&seen.uid);
            if must_be_there && !shown_ids.contains(id.as_str()) {
                self.wrong.push(format!(
                    "attempt {id} of {} at {} is not shown",
                    seen.message, seen.uid
                ));
            }
        }
    }

    /// The report of the restore, by what is shown. What is shown of neither is between two bounds: messages of
    /// applications that were deleted, and attempts at endpoints that were.
    fn counts(&mut self) {
        let Found { shown, report, .. } = self.found;
        let messages = shown.messages().count();
        let numbers: HashSet<u64> = self.numbers.values().copied().collect();
        // Retention may go on in the life in which this was read.
        let is_pruned = |number: u64| {
            let message = self.pages.messages.get(&number);
            let is_old =
                message.is_some_and(|one| one.accepted.asked < self.found.moment.kept_since);
            is_old && !numbers.contains(&number)
        };
        let not_shown = |(number, message): &(&u64, &Message)| {
            let is_gone = !shown.apps.contains_key(&message.app) || is_pruned(**number);
            is_gone && self.fate(message.accepted) != Fate::Not
        };
        let unseen_messages = self.pages.messages.iter().filter(not_shown).count();
        let attempts = shown.attempts(report.moment).count();
        let receipts = self.pages.all_receipts();
        let not_shown =
            receipts.filter(|(uid, number, _)| !shown.has_endpoint(uid) || is_pruned(*number));
        let received: usize = not_shown.map(|(_, _, receipts)| receipts.len()).sum();
        // One for each delivery may have found that there was nothing to send any more.
        let uids = self.pages.messages.values().flat_map(|one| &one.uids);
        let unsent = uids.filter(|uid| !shown.has_endpoint(uid)).count();
        let unseen = received + unsent;
        self.between("messages", report.messages, messages, unseen_messages);
        self.between("attempts", report.attempts, attempts, unseen);
        let endpoints: usize = shown.apps.values().map(|app| app.endpoints.len()).sum();
        let registrations = shown.apps.len() + endpoints + shown.event_types + shown.jobs;
        // With the organisation.
        let registrations = registrations as u64 + shown.tokens + 1;
        if report.registrations != registrations {
            self.wrong.push(format!(
                "the report counts {} registrations, and {registrations} are shown",
                report.registrations
            ));
        }
    }

    fn between(&mut self, what: &str, count: u64, surely: usize, perhaps: usize) {
        if !(surely as u64..=(surely + perhaps) as u64).contains(&count) {
            self.wrong.push(format!(
                "{count} {what} are counted; there are {surely}, and perhaps {perhaps} more"
            ));
        }
    }

    /// What waits is what was not delivered. Of what was erased, deleted or sent again it is not known whether it waits.
    fn waiting(&mut self) {
        let Found { shown, report, .. } = self.found;
        let delivered = self.found.delivered();
        let has_replays = self
            .pages
            .replays
            .iter()
            .any(|one| self.fate(*one) != Fate::Not);
        let (mut surely, mut perhaps) = (0, 0);
        for (_, one) in shown.messages() {
            let Some(number) = one.number else { continue };
            let Some(message) = self.pages.messages.get(&number) else {
                continue;
            };
            for uid in &message.uids {
                let is_delivered = delivered.contains(&(uid.as_str(), number));
                let is_again = uid == AGAIN && (message.is_resent || has_replays);
                let is_there = shown.has_endpoint(uid) && !one.payload_deleted;
                match (is_delivered, is_there) {
                    (true, _) => perhaps += usize::from(is_again),
                    (false, true) => surely += 1,
                    (false, false) => perhaps += 1,
                }
            }
        }
        let not_shown = self.pages.messages.values();
        let not_shown = not_shown.filter(|one| !shown.apps.contains_key(&one.app));
        perhaps += not_shown.map(|one| one.uids.len()).sum::<usize>();
        self.between("waiting deliveries", report.waiting, surely, perhaps);
        self.between(
            "waiting deliveries of the status",
            shown.waiting,
            surely,
            perhaps,
        );
    }

    /// What was erased is in no file.
    fn disk(&mut self) {
        for (number, path) in &self.found.on_disk {
            let message = self.pages.messages.get(number);
            if message.is_some_and(|one| self.erasure(one.erased) == Fate::Done) {
                self.wrong.push(format!(
                    "message {number} is erased, and bytes of its payload are in {}",
                    path.display()
                ));
            }
        }
    }
}
