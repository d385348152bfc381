//! A client of the server: publishes at its rate, in an application of its own and in one that it shares with the
//! others, and between that makes and deletes applications and endpoints, erases payloads, sends again and replays.

use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};

use super::books::{AGAIN, Books, KINDS, Resend, SHARED, Span, payload};
use super::process::Api;
use super::process::client::Connection;
use super::process::clock::rfc3339;
use super::process::ending::Ending;
use super::process::receiver::Receiver;
use super::process::signature::new_secret;

pub const CLIENTS: usize = 4;
/// Messages a second of all clients, where the server keeps up.
pub const RATE: u32 = 500;
/// Between two messages of a client.
const EVERY: Duration = Duration::from_micros(1_000_000 * CLIENTS as u64 / RATE as u64);
/// Erased and sent again is one of so many of its newest.
const NEWEST: usize = 200;
/// In a life of the server.
const REPLAYS_MAX: u32 = 5;

pub struct Client {
    number: usize,
    /// How many things it has named: names are never given twice.
    named: u32,
    /// Its own application, where there is one at the moment, with its endpoints.
    app: Option<String>,
    endpoints: Vec<String>,
    /// Accepted in the applications that are there, the newest last.
    mine: Vec<u64>,
}

/// What a client has in one life of the server.
pub struct Line<'a> {
    pub books: &'a Books,
    pub receiver: &'a Receiver,
    connection: Connection,
    /// By the server's clock.
    opened_at: u64,
    replays: u32,
}

impl<'a> Line<'a> {
    pub fn open(api: &Api, books: &'a Books, receiver: &'a Receiver) -> Result<Line<'a>, String> {
        let connection = api.connect().map_err(|error| error.to_string())?;
        Ok(Line {
            books,
            receiver,
            connection,
            opened_at: books.clock.now(),
            replays: 0,
        })
    }

    /// The answer to a request, and its status.
    fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<(u16, Value), String> {
        let answer = self.connection.request(method, path, body);
        let answer = answer.map_err(|error| format!("{method} {path}: {error}"))?;
        let body = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        Ok((answer.status, body))
    }

    /// The same with the status that it must have.
    fn done(
        &mut self,
        method: &str,
        path: &str,
        body: &str,
        expected: u16,
    ) -> Result<Value, String> {
        match self.ask(method, path, body)? {
            (status, answer) if status == expected => Ok(answer),
            (status, answer) => Err(format!("{method} {path}: {status} {answer}")),
        }
    }

    pub fn create_application(&mut self, app: &str) -> Result<(), String> {
        self.books.app_asked(app);
        let body = json!({ "name": app, "uid": app }).to_string();
        self.done("POST", "/api/v1/app", &body, 201)?;
        self.books.made(app);
        Ok(())
    }

    pub fn create_endpoint(
        &mut self,
        app: &str,
        uid: &str,
        kind: Option<&str>,
        secret: &str,
    ) -> Result<(), String> {
        self.books.endpoint_asked(app, uid, secret);
        let url = self.receiver.url(&format!("/{uid}"));
        let kinds = kind.map(|kind| [kind]);
        let body = json!({ "uid": uid, "url": url, "eventTypes": kinds, "secret": secret });
        let path = format!("/api/v1/app/{app}/endpoint");
        self.done("POST", &path, &body.to_string(), 201)?;
        self.books.made(uid);
        Ok(())
    }

    fn delete(&mut self, path: &str, uid: &str) -> Result<(), String> {
        self.books.deletion_asked(uid);
        self.done("DELETE", path, "", 204)?;
        self.books.deleted(uid);
        Ok(())
    }
}

impl Client {
    pub fn new(number: usize) -> Client {
        Client {
            number,
            named: 0,
            app: None,
            endpoints: Vec::new(),
            mine: Vec::new(),
        }
    }

    /// Does this and that until the end comes. Returns how many messages it has published.
    pub fn work(
        &mut self,
        line: Result<Line<'_>, String>,
        books: &Books,
        end: &Ending,
        random: &mut StdRng,
    ) -> u32 {
        let mut published = 0;
        let done = line.and_then(|mut line| self.work_on(&mut line, end, random, &mut published));
        if let Err(why) = done
            && !end.has_come()
        {
            books.wrong(format!("client {}: {why}", self.number));
        }
        published
    }

    fn work_on(
        &mut self,
        line: &mut Line,
        end: &Ending,
        random: &mut StdRng,
        published: &mut u32,
    ) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            // The load is the input of the test: nothing is waited for here.
            let due = begun + EVERY * *published;
            if end.comes_within(due.saturating_duration_since(Instant::now())) {
                return Ok(());
            }
            *published += self.step(line, random)?;
        }
    }

    /// Does one thing. Returns how many messages it has published.
    fn step(&mut self, line: &mut Line, random: &mut StdRng) -> Result<u32, String> {
        let Some(app) = self.app.clone() else {
            let app = self.name("app");
            line.create_application(&app)?;
            self.app = Some(app);
            return Ok(0);
        };
        match random.random_range(0..1000) {
            0..400 => return self.publish(line, SHARED, random),
            400..800 => return self.publish(line, &app, random),
            800..870 => self.erase(line, random)?,
            870..930 => self.resend(line, random)?,
            930..940 => self.replay(line)?,
            940..985 => self.change_endpoints(line, &app, random)?,
            _ => self.delete_application(line, &app)?,
        }
        Ok(0)
    }

    fn name(&mut self, kind: &str) -> String {
        self.named += 1;
        format!("{kind}-{}-{}", self.number, self.named)
    }

    fn publish(&mut self, line: &mut Line, app: &str, random: &mut StdRng) -> Result<u32, String> {
        let count: u32 = random.random_range(1..=8);
        let kind = KINDS[random.random_range(0..KINDS.len())];
        let first = line.books.publish_asked(app, kind, count.into());
        let numbers = first..first + u64::from(count);
        let message = |number: u64| {
            // The payload as it is.
            let payload = payload(line.books.seed, number);
            format!(r#"{{"eventType":"{kind}","tags":["n{number}"],"payload":{payload}}}"#)
        };
        let messages = Vec::from_iter(numbers.clone().map(message));
        let path = format!("/api/v1/app/{app}/msg/batch");
        let answer = line.done("POST", &path, &format!("[{}]", messages.join(",")), 202)?;
        let items = answer["data"].as_array().map_or(&[][..], Vec::as_slice);
        let id = |item: &Value| item["message"]["id"].as_str().map(str::to_owned);
        let ids: Option<Vec<String>> = items.iter().map(id).collect();
        match ids {
            Some(ids) if ids.len() == messages.len() => line.books.accepted(first, ids),
            _ => return Err(format!("{count} messages were answered with {answer}")),
        }
        self.mine.extend(numbers);
        Ok(count)
    }

    fn one_of_mine(&self, random: &mut StdRng) -> Option<u64> {
        let newest = self.mine.len().saturating_sub(NEWEST);
        self.mine[newest..].choose(random).copied()
    }

    fn erase(&mut self, line: &mut Line, random: &mut StdRng) -> Result<(), String> {
        let Some(number) = self.one_of_mine(random) else {
            return Ok(());
        };
        let now = line.books.clock.now();
        let (app, id) = {
            let mut pages = line.books.pages();
            let message = pages.message(number);
            if message.erased.is_some() {
                return Ok(());
            }
            message.erased = Some(Span::begun(now));
            (message.app.clone(), message.id.clone().unwrap_or_default())
        };
        let path = format!("/api/v1/app/{app}/msg/{id}/content");
        line.done("DELETE", &path, "", 204)?;
        let now = line.books.clock.now();
        if let Some(erased) = &mut line.books.pages().message(number).erased {
            erased.answered = Some(now);
        }
        Ok(())
    }

    /// One that was delivered.
    fn resend(&mut self, line: &mut Line, random: &mut StdRng) -> Result<(), String> {
        let Some(number) = self.one_of_mine(random) else {
            return Ok(());
        };
        let now = line.books.clock.now();
        let id = {
            let mut pages = line.books.pages();
            let before = pages.successes(AGAIN, number, 0);
            let message = pages.message(number);
            if before == 0 || message.erased.is_some() || message.is_resent {
                return Ok(());
            }
            message.is_resent = true;
            let id = message.id.clone().unwrap_or_default();
            pages.resends.push(Resend {
                number,
                before,
                span: Span::begun(now),
            });
            id
        };
        let path = format!("/api/v1/app/{SHARED}/msg/{id}/endpoint/{AGAIN}/resend");
        let (status, answer) = line.ask("POST", &path, "")?;
        let now = line.books.clock.now();
        let mut pages = line.books.pages();
        // It arrived just now, and its outcome is not on disk yet.
        if status == 409 {
            pages.resends.retain(|one| one.number != number);
            return Ok(());
        }
        if status != 202 {
            return Err(format!("POST {path}: {status} {answer}"));
        }
        let mut resends = pages.resends.iter_mut();
        let resend = resends.find(|one| one.number == number);
        resend.expect("it was noted").span.answered = Some(now);
        Ok(())
    }

    fn replay(&mut self, line: &mut Line) -> Result<(), String> {
        // They stay few, or what is old would wait again and again, and retention would never take it.
        if self.number > 0 || line.replays == REPLAYS_MAX {
            return Ok(());
        }
        line.replays += 1;
        let now = line.books.clock.now();
        line.books.pages().replays.push(Span::begun(now));
        let path = format!("/api/v1/app/{SHARED}/endpoint/{AGAIN}/bulk-replay");
        let body = json!({ "since": rfc3339(line.opened_at) }).to_string();
        line.done("POST", &path, &body, 202)?;
        let now = line.books.clock.now();
        if let Some(replay) = line.books.pages().replays.last_mut() {
            replay.answered = Some(now);
        }
        Ok(())
    }

    fn change_endpoints(
        &mut self,
        line: &mut Line,
        app: &str,
        random: &mut StdRng,
    ) -> Result<(), String> {
        if self.endpoints.len() < 2 || random.random() && self.endpoints.len() < 4 {
            let uid = self.name("ep");
            line.create_endpoint(app, &uid, None, &new_secret(random))?;
            self.endpoints.push(uid);
            return Ok(());
        }
        let at = random.random_range(0..self.endpoints.len());
        let uid = self.endpoints.swap_remove(at);
        line.delete(&format!("/api/v1/app/{app}/endpoint/{uid}"), &uid)
    }

    fn delete_application(&mut self, line: &mut Line, app: &str) -> Result<(), String> {
        self.leave(line.books, 0);
        line.delete(&format!("/api/v1/app/{app}"), app)
    }

    /// Leaves its own application, and everything but messages in [`SHARED`] from this moment on that are not lost.
    pub fn leave(&mut self, books: &Books, since: u64) {
        let pages = books.pages();
        self.mine.retain(|number| {
            let message = pages.messages.get(number);
            message.is_some_and(|one| one.app == SHARED && one.accepted.asked >= since)
        });
        self.endpoints.clear();
        self.app = None;
    }
}
