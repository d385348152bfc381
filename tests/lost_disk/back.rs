//! The store that is made of the copy: brought back, compared with what is known, and let go on.

use std::collections::HashMap;
use std::path::PathBuf;

use rand::Rng;

use super::arrivals::{misdelivered, owed, sent_again};
use super::books::{Fate, Lifetime, Manner, Pages, Span};
use super::check::{Found, Moment, check};
use super::operator::{
    Report, files_below, named_objects, newest_manifest, numbers_in, written_at,
};
use super::process::clock::rfc3339;
use super::process::{Api, until};
use super::shown::Shown;
use super::witness::{Look, Sight};
use super::world::{Kind, RETENTION, WITHIN, World};

/// The time of a file may be behind by a tick of the kernel.
const FILE_TIME_SLACK_MS: u64 = 100;

impl World {
    /// Makes a store of the copy, and reads everything that it shows before anything is delivered.
    pub fn bring_back(&mut self) -> Found {
        self.receiver.settle();
        let to = self.target().display().to_string();
        let verified = self.report(&["verify-backup", "--from", &to]);
        let into = self.data().display().to_string();
        let at = match self.kind {
            Kind::Earlier => {
                let (from, to) = (self.copied[0], self.copied[self.copied.len() - 2]);
                Some(self.random.random_range(from..=to))
            }
            _ => None,
        };
        let mut arguments = vec!["restore", "--from", to.as_str(), "--to", into.as_str()];
        let at_text = at.map(rfc3339).unwrap_or_default();
        if at.is_some() {
            arguments.extend(["--at", at_text.as_str()]);
        }
        let report = self.report(&arguments);
        if at.is_none() && (report.moment, &report.stream) != (verified.moment, &verified.stream) {
            self.books.wrong(format!(
                "verify-backup has checked another moment: {verified:?}, {report:?}"
            ));
        }
        if at.is_some_and(|at| report.moment > at) {
            self.books.wrong(format!(
                "{at_text} was asked for, and this came: {report:?}"
            ));
        }
        let moment = self.moment(at, &report, &verified);
        self.verify_store();
        let on_disk = numbers_in(&files_below(&self.data()));
        self.check_copy(&verified.stream, &moment);
        self.streams.push(verified.stream);
        self.books.begin_life(Manner::Silent);
        let life = self.books.pages().life;
        // Nothing has an outcome in this life, and nothing is copied: it shows what was brought back.
        let token = self.token.clone();
        let server = self.launch().try_start(|| token);
        let mut server = server.unwrap_or_else(|(why, process)| {
            panic!("the restored server {why}:\n{}", process.log())
        });
        let shown = Shown::read(&server.api);
        let shown = shown.unwrap_or_else(|why| panic!("{why}; {}", server.api.log()));
        server.process.kill();
        self.expect_no_error(&server);
        self.receiver.settle();
        Found {
            moment,
            report,
            shown,
            on_disk,
            life,
        }
    }

    /// Whether the copy is whole.
    pub fn verifies(&self) -> bool {
        let to = self.target().display().to_string();
        let (is_whole, _) = self.launch_copied().run(&["verify-backup", "--from", &to]);
        is_whole
    }

    fn verify_store(&self) {
        let (is_well, told) = self.launch().run(&["verify-store"]);
        if !is_well {
            self.books.wrong(format!("verify-store: {told}"));
        }
    }

    fn report(&self, arguments: &[&str]) -> Report {
        let (is_well, told) = self.launch_copied().run(arguments);
        match Report::read(&told) {
            Some(report) if is_well => report,
            _ => panic!("{arguments:?} {}: {told}", self.name),
        }
    }

    /// What the store has that was brought back.
    fn moment(&self, at: Option<u64>, report: &Report, verified: &Report) -> Moment {
        let folder = self.target().join(&verified.stream);
        let manifest = newest_manifest(&folder).expect("the copy has been verified");
        let written_at = written_at(&manifest) + FILE_TIME_SLACK_MS;
        let clock = &self.books.clock;
        let copied_until = self.copied.last().copied().unwrap_or_default();
        let kept_since = match self.kind {
            Kind::Expiring => clock.now().saturating_sub(RETENTION.as_millis() as u64 / 2),
            _ => 0,
        };
        match self.kind {
            // All that was answered, and there was nothing afterwards.
            Kind::Stopped => Moment {
                has_before: u64::MAX,
                has_not_after: u64::MAX,
                erased_before: u64::MAX,
                not_erased_after: u64::MAX,
                kept_since,
            },
            _ => Moment {
                // The server has said that this is copied.
                has_before: at.unwrap_or(report.moment.max(copied_until)),
                has_not_after: report.moment,
                erased_before: verified.moment.max(copied_until),
                not_erased_after: clock.told_at(written_at),
                kept_since,
            },
        }
    }

    /// What was erased before the end of the copy is in none of its objects.
    fn check_copy(&self, stream: &str, moment: &Moment) {
        let folder = self.target().join(stream);
        let objects = match self.kind {
            // Nothing was broken off.
            Kind::Stopped | Kind::Sealed => files_below(&folder),
            // A run that was broken off has left some that nothing names.
            _ => named_objects(&folder),
        };
        assert!(!objects.is_empty(), "{stream}");
        let found = numbers_in(&objects);
        if self.kind == Kind::Sealed && !found.is_empty() {
            self.books
                .wrong(format!("payloads can be read in the copy: {found:?}"));
        }
        let pages = self.books.pages();
        let erased = found.iter().filter(|(number, _)| {
            let erased = pages.messages.get(number).and_then(|one| one.erased);
            let fate = erased.map(|one| one.fate(moment.erased_before, moment.not_erased_after));
            fate == Some(Fate::Done)
        });
        let erased = Vec::from_iter(erased);
        let told = format!("these are erased and in the copy: {erased:?}");
        let is_wrong = !erased.is_empty();
        drop(pages);
        if is_wrong {
            self.books.wrong(told);
        }
    }

    /// Compares the store that was brought back with what is known.
    pub fn compare(&mut self, found: &Found) {
        let (wrong, compared) = {
            let pages = self.books.pages();
            check(&pages, self.books.seed, &self.sight, found)
        };
        self.books.pages().wrong.extend(wrong);
        self.expect_nothing_wrong();
        // Otherwise nothing was proven.
        assert!(
            compared.messages >= 50
                && compared.messages_byte_for_byte >= compared.messages / 5
                && compared.attempts_byte_for_byte >= compared.attempts / 5,
            "{} too little was compared: {compared:?}",
            self.name
        );
        self.tally.compared = self.tally.compared.plus(compared);
    }

    /// From here on what is known is what the store shows: the rest is lost.
    pub fn go_on_from(&mut self, found: &Found) {
        let shown = &found.shown;
        let mut pages = self.books.pages();
        let moment = &found.moment;
        let fate = |span: Span| span.fate(moment.has_before, moment.has_not_after);
        // True where it is there, or was: something is left of applications that were deleted.
        let settle = |lifetime: &mut Lifetime, is_shown: bool| {
            lifetime.made = lifetime.made.done();
            let deleted = lifetime.deleted.filter(|_| !is_shown);
            lifetime.deleted = deleted.filter(|span| fate(*span) != Fate::Not);
            lifetime.deleted = lifetime.deleted.map(Span::done);
            is_shown || lifetime.deleted.is_some()
        };
        let apps = &mut pages.apps;
        apps.retain(|app, one| settle(one, shown.apps.contains_key(app)));
        let endpoints = &mut pages.endpoints;
        endpoints.retain(|uid, one| settle(&mut one.lifetime, shown.has_endpoint(uid)));
        let messages = shown.messages();
        let messages = messages.filter_map(|(_, one)| Some((one.number?, one)));
        let messages = HashMap::<_, _>::from_iter(messages);
        let Pages {
            apps,
            messages: all_known,
            ..
        } = &mut *pages;
        all_known.retain(|number, known| {
            let was_accepted = fate(known.accepted) != Fate::Not;
            known.accepted = known.accepted.done();
            let Some(shown) = messages.get(number) else {
                let app = apps.get(&known.app);
                return was_accepted && app.is_some_and(|app| app.deleted.is_some());
            };
            known.id = Some(shown.id.clone());
            known.erased = shown.payload_deleted.then_some(known.accepted);
            true
        });
        pages.resends.retain(|one| fate(one.span) == Fate::Done);
        pages.replays.truncate(shown.jobs);
        for replay in &mut pages.replays {
            *replay = replay.done();
        }
        drop(pages);
        self.sight = Sight::default();
        let look = Look { began: 0, ended: 0 };
        for app in shown.apps.values() {
            self.sight.note_messages(app.messages.clone(), look);
            for (uid, attempts) in &app.endpoints {
                let mut attempts = attempts.clone();
                attempts.retain(|one| one.began_at <= found.report.moment);
                self.sight.note_attempts(uid, attempts, look);
            }
        }
        let clients = self.clients.iter_mut();
        clients.for_each(|client| client.leave(&self.books, 0));
        self.books.begin_life(Manner::Choosy);
    }

    /// What had been delivered before the loss did not come again.
    pub fn expect_nothing_sent_again(&self, found: &Found) {
        let wrong = sent_again(&self.books.pages(), found);
        self.books.pages().wrong.extend(wrong);
        self.expect_nothing_wrong();
    }

    /// Lets everything be delivered, and looks at what arrived, and at what is left of what was erased.
    pub fn deliver(&mut self, found: &Found) {
        self.books.begin_life(Manner::Taking);
        let mut server = self.start();
        let mut owed = owed(&self.books.pages(), self.books.seed, found);
        self.tally.delivered += owed.len();
        let arrived = until(WITHIN, || {
            let pages = self.books.pages();
            owed.retain(|one| !one.is_paid(&pages));
            (owed.is_empty() || !pages.wrong.is_empty()).then_some(())
        });
        if arrived.is_none() {
            self.books.wrong(format!(
                "{} deliveries are missing, the first: {}",
                owed.len(),
                owed[0].told()
            ));
        }
        let at_rest = until(WITHIN, || {
            let waiting = server.api.get("/api/v1/status")["waiting"].as_u64();
            let jobs = server.api.get("/api/v1/background-task?limit=250");
            let jobs = jobs["data"].as_array()?;
            let is_over = jobs.iter().all(|job| job["state"] == "finished");
            (waiting == Some(0) && is_over).then_some(())
        });
        if at_rest.is_none() {
            let status = server.api.get("/api/v1/status");
            self.books
                .wrong(format!("something waits and nothing should: {status}"));
        }
        let wrong = misdelivered(&self.books.pages(), found);
        self.books.pages().wrong.extend(wrong);
        self.expect_nothing_wrong();
        self.expect_erased(&server.api, found);
        self.stop(&mut server);
        self.expect_no_error(&server);
        if self.random.random_ratio(1, 3) {
            self.verify_store();
        }
        self.expect_nothing_wrong();
    }

    /// Waits until no payload that was erased, or was of an application that was deleted, is in the files of the store and
    /// in the copy that it makes of itself.
    fn expect_erased(&self, api: &Api, found: &Found) {
        let is_gone = |number: &u64| {
            let pages = self.books.pages();
            let Some(message) = pages.messages.get(number) else {
                return false;
            };
            let moment = &found.moment;
            let is_done =
                |span: Span| span.fate(moment.erased_before, moment.not_erased_after) == Fate::Done;
            let app = pages.apps.get(&message.app);
            // What retention takes before it was erased goes with its segment.
            let is_in_turn = !found.shown.apps.contains_key(&message.app)
                && message.accepted.asked >= moment.kept_since;
            message.erased.is_some_and(is_done)
                || is_in_turn && app.and_then(|app| app.deleted).is_some_and(is_done)
        };
        let mut left = Vec::new();
        let erased = until(WITHIN, || {
            let backup = &api.get("/api/v1/status")["backup"];
            if !backup["completedAt"].is_string() || !backup["failing"].is_null() {
                return None;
            }
            let mut files = files_below(&self.data());
            let streams = self.running_streams().into_iter();
            files.extend(streams.flat_map(|folder| named_objects(&folder)));
            let numbers = numbers_in(&files).into_iter();
            left = numbers.filter(|(number, _)| is_gone(number)).collect();
            left.is_empty().then_some(())
        });
        if erased.is_none() {
            let backup = &api.get("/api/v1/status")["backup"];
            self.books.wrong(format!(
                "these are erased and still there: {left:?}; {backup}"
            ));
        }
    }

    /// The folder of the copy of the store that is not lost.
    fn running_streams(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.target()).into_iter().flatten();
        let entries = entries.flatten().filter(|entry| {
            let name = entry.file_name();
            !self
                .streams
                .iter()
                .any(|lost| *lost == *name.to_string_lossy())
        });
        entries.map(|entry| entry.path()).collect()
    }
}
