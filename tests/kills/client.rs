//! A client of the server: does one thing after the other in an application of its own and in one that it
//! shares with the others, remembers what it was told, and finds out about what it was not.

use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::Value;

use super::books::{Books, Fate};
use super::line::{Done, Line};
use super::operation::{KINDS, Operation, Publish, event_id};
use super::process::Api;
use super::process::clock::rfc3339;
use super::process::receiver::Receiver;
use super::process::signature::new_secret;

pub const SHARED: &str = "shared";
const ENDPOINTS_MAX: usize = 4;
/// More secrets of an endpoint are not valid at a time: another rotation would be refused.
const SECRETS_MAX: usize = 10;
/// Answers that are asked for again are at most this old, by the server's clock; it remembers them for twelve
/// hours.
const ASKED_AGAIN_WITHIN: Duration = Duration::from_secs(10 * 3600);

pub struct Client {
    number: usize,
    /// How many of each were made, for names that are new.
    applications: u32,
    things: u32,
    /// Its own application, where there is one at the moment.
    pub app: Option<String>,
    /// Those that were deleted.
    pub gone: Vec<String>,
    keyed: Vec<Keyed>,
    /// Accepted in its application, the newest last.
    mine: Vec<u64>,
    pub jobs: Vec<Job>,
    doubt: Option<Doubt>,
    pub tally: Tally,
}

/// What was done how often, for the line at the end.
#[derive(Default, Clone, Copy, Debug)]
pub struct Tally {
    pub done: usize,
    pub found_done: usize,
    pub found_not_done: usize,
    pub same_answers: usize,
    pub refused_event_ids: usize,
    pub erased: usize,
    pub replays: usize,
    pub canceled: usize,
}

impl Tally {
    pub fn plus(self, other: Tally) -> Tally {
        Tally {
            done: self.done + other.done,
            found_done: self.found_done + other.found_done,
            found_not_done: self.found_not_done + other.found_not_done,
            same_answers: self.same_answers + other.same_answers,
            refused_event_ids: self.refused_event_ids + other.refused_event_ids,
            erased: self.erased + other.erased,
            replays: self.replays + other.replays,
            canceled: self.canceled + other.canceled,
        }
    }
}

pub struct Job {
    pub id: String,
    pub state: JobState,
    app: String,
    uid: String,
    delivered: Vec<(u64, usize)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JobState {
    Begun,
    Canceled,
    Over,
}

/// A request with an idempotency key that was answered.
struct Keyed {
    app: String,
    publish: Publish,
    messages: Vec<Value>,
    asked_at: u64,
}

/// A request whose answer did not come.
struct Doubt {
    app: String,
    operation: Operation,
    life: u32,
}

impl Client {
    pub fn new(number: usize) -> Client {
        Client {
            number,
            applications: 0,
            things: 0,
            app: None,
            gone: Vec::new(),
            keyed: Vec::new(),
            mine: Vec::new(),
            jobs: Vec::new(),
            doubt: None,
            tally: Tally::default(),
        }
    }

    /// Does this and that until the server is gone.
    pub fn work(&mut self, api: &Api, books: &Books, receiver: &Receiver, mut random: StdRng) {
        let Ok(mut line) = Line::open(api, books) else {
            return;
        };
        if self.settle_doubt(&mut line, Some(&mut random)).is_err() {
            return;
        }
        while books.pages().wrong.is_empty() {
            if self.step(&mut line, receiver, &mut random).is_err() {
                return;
            }
        }
    }

    /// Finds out whether what was not answered was done, and with `random` asks for some of it again.
    pub fn settle_doubt(&mut self, line: &mut Line, random: Option<&mut StdRng>) -> Done {
        let Some(doubt) = &self.doubt else {
            return Ok(());
        };
        let Doubt {
            app,
            operation,
            life,
        } = doubt;
        let (app, operation, life) = (app.clone(), operation.clone(), *life);
        let was_done = match operation.look(&app, line.books) {
            Some(path) => {
                let found = line.get(&path)?;
                match operation.was_pruned(line.books) && found.status == 404 {
                    // Erased or not, it is gone.
                    true => Ok(Some(Vec::new())),
                    false => operation.was_done(&found),
                }
            }
            None => Ok(None),
        };
        self.doubt = None;
        match was_done {
            Err(why) => line.books.wrong(format!(
                "after an answer to {} had not come: {why}",
                operation.request(&app, line.books).path
            )),
            Ok(Some(ids)) => {
                self.tally.found_done += 1;
                operation.done(&app, line.books, life, &ids);
                self.remember(&app, &operation, &Value::Null);
            }
            Ok(None) => {
                self.tally.found_not_done += 1;
                operation.not_done(line.books, life);
            }
        }
        match (operation, random) {
            (Operation::Publish(publish), Some(random)) => match random.random() {
                true => self.publish_again(line, &app, publish),
                false => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// The same request, which is done now if it was not.
    fn publish_again(&mut self, line: &mut Line, app: &str, publish: Publish) -> Done {
        let (was_there, asked_at) = {
            let mut pages = line.books.pages();
            let message = pages.message(publish.first);
            (message.fate == Fate::Accepted, message.asked_at)
        };
        // The key may be forgotten after some nights without a server.
        if Duration::from_millis(line.books.now() - asked_at) > ASKED_AGAIN_WITHIN {
            return Ok(());
        }
        if was_there && publish.key.is_none() {
            return match publish.has_event_ids && !publish.is_batch {
                true => self.refused(line, app, &publish),
                false => Ok(()),
            };
        }
        let ids = |books: &Books| {
            let pages = books.pages();
            let ids = publish.numbers();
            Vec::from_iter(ids.map(|number| pages.messages[&number].id.clone()))
        };
        let before = ids(line.books);
        self.perform(line, app, Operation::Publish(publish.clone()))?;
        if was_there && before != ids(line.books) {
            line.books.wrong(format!(
                "the same key gave other messages: {before:?}, {:?}",
                ids(line.books)
            ));
        }
        Ok(())
    }

    /// What has an event id that was used.
    fn refused(&mut self, line: &mut Line, app: &str, publish: &Publish) -> Done {
        let mut asked = Operation::Publish(publish.clone()).request(app, line.books);
        asked.key = None;
        let answer = line.ask(asked.method, &asked.path, &asked.body, None)?;
        self.tally.refused_event_ids += 1;
        if answer.status != 409 {
            line.books.wrong(format!(
                "{} was taken twice: {}",
                event_id(publish.first),
                answer.status
            ));
        }
        Ok(())
    }

    /// Makes the request and notes its answer, or that there is none.
    pub fn perform(&mut self, line: &mut Line, app: &str, operation: Operation) -> Done<Value> {
        let asked = operation.request(app, line.books);
        operation.asked(app, line.books);
        self.doubt = Some(Doubt {
            app: app.to_owned(),
            operation: operation.clone(),
            life: line.life,
        });
        let answer = line.ask(asked.method, &asked.path, &asked.body, asked.key.as_deref())?;
        self.doubt = None;
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        // A job may end by itself just before it is canceled.
        if let (Operation::Cancel { job }, 409) = (&operation, answer.status) {
            self.jobs
                .iter_mut()
                .filter(|one| one.id == *job)
                .for_each(|one| one.state = JobState::Over);
            return Ok(body);
        }
        if answer.status != asked.expected {
            let (method, path) = (asked.method, asked.path);
            line.books
                .wrong(format!("{method} {path}: {} {body}", answer.status));
            return Ok(body);
        }
        let mut ids = Vec::new();
        if let Operation::Publish(publish) = &operation {
            match publish.messages(&body) {
                Ok(messages) => {
                    let id = |message: &Value| message["id"].as_str().map(str::to_owned);
                    ids = messages.iter().filter_map(id).collect();
                    check_matched(line.books, app, publish, &messages);
                }
                Err(why) => line.books.wrong(why),
            }
        }
        operation.done(app, line.books, line.life, &ids);
        self.tally.done += 1;
        self.remember(app, &operation, &body);
        if let Operation::Publish(publish) = &operation
            && publish.key.is_some()
        {
            self.keyed.push(Keyed {
                app: app.to_owned(),
                publish: publish.clone(),
                messages: publish.messages(&body).unwrap_or_default(),
                asked_at: line.books.now(),
            });
        }
        Ok(body)
    }

    /// Of what was done, what this client needs to know later.
    fn remember(&mut self, app: &str, operation: &Operation, answer: &Value) {
        match operation {
            Operation::Publish(publish) if app != SHARED => self.mine.extend(publish.numbers()),
            Operation::CreateApplication if app != SHARED => self.app = Some(app.to_owned()),
            Operation::DeleteApplication => {
                self.app = None;
                self.gone.push(app.to_owned());
                self.mine.clear();
            }
            Operation::Erase { .. } => self.tally.erased += 1,
            Operation::Replay { uid, delivered } => {
                let Some(id) = answer["id"].as_str() else {
                    return;
                };
                self.tally.replays += 1;
                self.jobs.push(Job {
                    id: id.to_owned(),
                    state: JobState::Begun,
                    app: app.to_owned(),
                    uid: uid.clone(),
                    delivered: delivered.clone(),
                });
            }
            Operation::Cancel { job } => {
                self.tally.canceled += 1;
                let mut jobs = self.jobs.iter_mut();
                if let Some(job) = jobs.find(|one| one.id == *job) {
                    job.state = JobState::Canceled;
                }
            }
            _ => {}
        }
    }

    fn step(&mut self, line: &mut Line, receiver: &Receiver, random: &mut StdRng) -> Done {
        let Some(app) = self.app.clone() else {
            self.applications += 1;
            let app = format!("app-{}-{}", self.number, self.applications);
            return self
                .perform(line, &app, Operation::CreateApplication)
                .map(drop);
        };
        let lot = random.random_range(0..1000);
        match lot {
            0..250 => self.publish(line, SHARED, random),
            250..560 => self.publish(line, &app, random),
            560..640 => self.ask_again(line, random),
            640..680 => self.use_event_id_again(line, &app, random),
            680..800 => self.change_endpoints(line, &app, receiver, random),
            800..804 => self
                .perform(line, &app, Operation::DeleteApplication)
                .map(drop),
            804..850 => self.erase(line, &app, random),
            850..900 => self.resend(line, &app, random),
            900..906 => self.replay(line, &app, random),
            906..912 => self.cancel(line, random),
            _ => self.look_at_one(line, &app, random),
        }
    }

    fn publish(&mut self, line: &mut Line, app: &str, random: &mut StdRng) -> Done {
        let is_batch = random.random_ratio(1, 4);
        let count = if is_batch {
            random.random_range(2..12)
        } else {
            1
        };
        let first = line.books.take_numbers(count);
        let now = line.books.now();
        let deliver_at = random.random_ratio(1, 20);
        let publish = Publish {
            first,
            count,
            is_batch,
            kind: KINDS[random.random_range(0..2)],
            key: random.random_ratio(2, 5).then(|| format!("key-{first}")),
            has_event_ids: random.random(),
            deliver_at: deliver_at.then(|| rfc3339(now + random.random_range(0..7_200_000))),
            asked_after: rfc3339(now.saturating_sub(60_000)),
        };
        self.perform(line, app, Operation::Publish(publish))
            .map(drop)
    }

    /// For an answer that was given: it must be the same.
    fn ask_again(&mut self, line: &mut Line, random: &mut StdRng) -> Done {
        let Some(keyed) = self.keyed.choose(random) else {
            return Ok(());
        };
        let age = Duration::from_millis(line.books.now() - keyed.asked_at);
        if age > ASKED_AGAIN_WITHIN || self.gone.contains(&keyed.app) {
            let now = line.books.now();
            let oldest = now.saturating_sub(ASKED_AGAIN_WITHIN.as_millis() as u64);
            let gone = &self.gone;
            self.keyed
                .retain(|one| one.asked_at > oldest && !gone.contains(&one.app));
            return Ok(());
        }
        let asked = Operation::Publish(keyed.publish.clone()).request(&keyed.app, line.books);
        let answer = line.ask(asked.method, &asked.path, &asked.body, asked.key.as_deref())?;
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        let told = |messages: &[Value]| {
            let told = messages.iter();
            Vec::from_iter(told.map(|one| (one["id"].clone(), one["endpointsMatched"].clone())))
        };
        let again = keyed.publish.messages(&body).unwrap_or_default();
        self.tally.same_answers += 1;
        if answer.status != 202 || told(&again) != told(&keyed.messages) {
            line.books.wrong(format!(
                "the same key was answered {:?} and then {} {body}",
                told(&keyed.messages),
                answer.status
            ));
        }
        Ok(())
    }

    fn use_event_id_again(&mut self, line: &mut Line, app: &str, random: &mut StdRng) -> Done {
        let Some(number) = self.one_of_mine(line.books, random, true) else {
            return Ok(());
        };
        let publish = Publish {
            first: number,
            count: 1,
            is_batch: false,
            kind: KINDS[0],
            key: None,
            has_event_ids: true,
            deliver_at: None,
            asked_after: String::new(),
        };
        self.refused(line, app, &publish)
    }

    /// A message of its application that is kept, one of the newest more often than not.
    fn one_of_mine(&self, books: &Books, random: &mut StdRng, event_id: bool) -> Option<u64> {
        let newest = self.mine.len().saturating_sub(30);
        let from = if random.random() { newest } else { 0 };
        let number = *self.mine[from..].choose(random)?;
        let (asked_at, has_event_id) = {
            let pages = books.pages();
            let message = &pages.messages[&number];
            (message.asked_at, message.has_event_id)
        };
        let will_do = (has_event_id || !event_id) && books.is_kept(asked_at);
        will_do.then_some(number)
    }

    fn change_endpoints(
        &mut self,
        line: &mut Line,
        app: &str,
        receiver: &Receiver,
        random: &mut StdRng,
    ) -> Done {
        let mut uids: Vec<(String, usize)> = {
            let pages = line.books.pages();
            pages
                .endpoints_of(app)
                .map(|(uid, endpoint)| (uid.clone(), endpoint.secrets.len()))
                .collect()
        };
        // So that a seed makes the same choices.
        uids.sort();
        self.things += 1;
        let lot = random.random_range(0..10);
        let operation = match uids.choose(random) {
            Some((uid, secrets)) if lot < 3 && *secrets < SECRETS_MAX => Operation::Rotate {
                uid: uid.clone(),
                secret: new_secret(random),
            },
            Some((uid, _)) if lot < 6 => Operation::PatchEndpoint {
                uid: uid.clone(),
                description: format!("the {}th of client {}", self.things, self.number),
                disabled: random.random_ratio(1, 3),
            },
            Some((uid, _)) if lot == 6 || uids.len() == ENDPOINTS_MAX => {
                Operation::DeleteEndpoint { uid: uid.clone() }
            }
            _ => {
                let uid = format!("ep-{}-{}", self.number, self.things);
                Operation::CreateEndpoint {
                    url: receiver.url(&format!("/{uid}")),
                    uid,
                    only: random.random_ratio(1, 3).then(|| KINDS[0]),
                    secret: new_secret(random),
                }
            }
        };
        self.perform(line, app, operation).map(drop)
    }

    fn erase(&mut self, line: &mut Line, app: &str, random: &mut StdRng) -> Done {
        match self.one_of_mine(line.books, random, false) {
            Some(number) => self
                .perform(line, app, Operation::Erase { number })
                .map(drop),
            None => Ok(()),
        }
    }

    fn resend(&mut self, line: &mut Line, app: &str, random: &mut StdRng) -> Done {
        let Some(number) = self.one_of_mine(line.books, random, false) else {
            return Ok(());
        };
        let id = {
            let pages = line.books.pages();
            let message = &pages.messages[&number];
            if message.may_be_erased {
                return Ok(());
            }
            message.id.clone().expect("it was accepted")
        };
        let shown = line.read(&format!("/api/v1/app/{app}/msg/{id}/endpoint"))?;
        let endpoints = shown["data"].as_array().map_or(&[][..], Vec::as_slice);
        let delivered = endpoints
            .iter()
            .find(|one| one["status"] == 0 && one["deleted"] != true && one["disabled"] != true);
        let Some(uid) = delivered.and_then(|one| one["uid"].as_str()) else {
            return Ok(());
        };
        let successes = line.books.pages().successes(uid, number);
        let uid = uid.to_owned();
        let operation = Operation::Resend {
            uid,
            number,
            successes,
        };
        self.perform(line, app, operation).map(drop)
    }

    fn replay(&mut self, line: &mut Line, app: &str, random: &mut StdRng) -> Done {
        let uids: Vec<String> = {
            let pages = line.books.pages();
            let enabled = pages.endpoints_of(app).filter(|(_, one)| !one.disabled);
            enabled.map(|(uid, _)| uid.clone()).collect()
        };
        let Some(uid) = uids.iter().min() else {
            return Ok(());
        };
        // Those of this day that were delivered before, as far as a page goes.
        let after = rfc3339(
            line.books
                .now()
                .saturating_sub(3_600_000 * random.random_range(1..6)),
        );
        let path = format!("/api/v1/app/{app}/endpoint/{uid}/msg?limit=50&with_content=false");
        let shown = line.read(&format!("{path}&status=0&after={after}"))?;
        let shown = shown["data"].as_array().map_or(&[][..], Vec::as_slice);
        let delivered = {
            let pages = line.books.pages();
            let number = |message: &Value| -> Option<u64> {
                message["tags"][1].as_str()?.strip_prefix('n')?.parse().ok()
            };
            let numbers = shown.iter().filter_map(number);
            Vec::from_iter(numbers.map(|number| (number, pages.successes(uid, number))))
        };
        let uid = uid.clone();
        self.perform(line, app, Operation::Replay { uid, delivered })
            .map(drop)
    }

    fn cancel(&mut self, line: &mut Line, random: &mut StdRng) -> Done {
        let begun = self.jobs.iter();
        let begun = begun.filter(|job| job.state == JobState::Begun && job.app != SHARED);
        let begun: Vec<String> = begun.map(|job| job.id.clone()).collect();
        match begun.choose(random) {
            Some(job) => {
                let job = job.clone();
                self.perform(line, SHARED, Operation::Cancel { job })
                    .map(drop)
            }
            None => Ok(()),
        }
    }

    fn look_at_one(&self, line: &mut Line, app: &str, random: &mut StdRng) -> Done {
        match self.one_of_mine(line.books, random, false) {
            Some(number) => super::audit::look_at(line, app, number),
            None => Ok(()),
        }
    }

    /// Whether it has some that are not over.
    pub fn has_jobs(&self) -> bool {
        self.jobs.iter().any(|job| job.state == JobState::Begun)
    }

    /// Looks at its jobs: what is canceled stays so, and what a finished one sends again is owed.
    pub fn look_at_jobs(&mut self, line: &mut Line) -> Done {
        let count = self.jobs.len();
        for (place, job) in self.jobs.iter_mut().enumerate() {
            if job.state == JobState::Over {
                continue;
            }
            let answer = line.get(&format!("/api/v1/background-task/{}", job.id))?;
            let shown: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
            let state = shown["state"].as_str().unwrap_or_default();
            match (job.state, state) {
                (JobState::Canceled, "canceled") | (JobState::Begun, "running" | "paused") => {}
                (JobState::Begun, "finished") => {
                    job.state = JobState::Over;
                    owe_again(line.books, job);
                }
                // Its endpoint or application was deleted.
                (JobState::Begun, "failed") => job.state = JobState::Over,
                // Of those that are over the newest hundred are kept, of all clients.
                _ if answer.status == 404 && place + 10 < count => job.state = JobState::Over,
                (known, _) => line.books.wrong(format!(
                    "job {} was {known:?} and is {} {shown}",
                    job.id, answer.status
                )),
            }
        }
        Ok(())
    }
}

fn owe_again(books: &Books, job: &Job) {
    let mut pages = books.pages();
    for (number, successes) in &job.delivered {
        let asked_at = pages.messages[number].asked_at;
        let is_new = books.is_kept(asked_at) && !pages.message(*number).may_be_erased;
        if is_new && pages.endpoints[&job.uid].deleted.is_none() {
            pages.owe(&job.uid, *number, successes + 1);
        }
    }
}

/// The endpoints that an answer to a publish counts.
fn check_matched(books: &Books, app: &str, publish: &Publish, messages: &[Value]) {
    let mut pages = books.pages();
    // Of what was asked for once before, the answer is that of the first time.
    if pages.message(publish.first).id.is_some() {
        return;
    }
    let wanting = pages.endpoints_of(app);
    let wanting = wanting.filter(|(_, one)| one.wants(publish.kind)).count();
    let differs = |message: &&Value| message["endpointsMatched"] != wanting;
    if let Some(message) = messages.iter().find(differs) {
        let wrong = format!("{wanting} endpoints of {app} want {message}");
        pages.wrong.push(wrong);
    }
}
