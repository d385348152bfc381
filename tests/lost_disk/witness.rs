//! A witness of a server's history: reads messages and attempts while the server runs, and remembers their bytes.

use std::collections::HashMap;
use std::time::Duration;

use super::books::Books;
use super::process::Api;
use super::process::ending::Ending;
use super::shown::{self, ShownAttempt, ShownMessage};

/// Between two looks.
const REST: Duration = Duration::from_millis(200);

/// What was seen, by the ids of items.
#[derive(Default)]
pub struct Sight {
    pub messages: HashMap<String, Vec<Version>>,
    pub attempts: HashMap<String, SeenAttempt>,
}

pub struct SeenAttempt {
    pub message: String,
    /// The endpoint.
    pub uid: String,
    pub versions: Vec<Version>,
}

/// The bytes in which an item was shown, and when.
pub struct Version {
    pub body: String,
    pub first: Look,
    pub last: Look,
}

/// A request and its answer, in milliseconds by the server's clock.
#[derive(Clone, Copy)]
pub struct Look {
    pub began: u64,
    pub ended: u64,
}

impl Sight {
    pub fn note_messages(&mut self, messages: Vec<ShownMessage>, look: Look) {
        for one in messages {
            note(self.messages.entry(one.id).or_default(), one.body, look);
        }
    }

    pub fn note_attempts(&mut self, uid: &str, attempts: Vec<ShownAttempt>, look: Look) {
        for one in attempts {
            let seen = self.attempts.entry(one.id).or_insert_with(|| SeenAttempt {
                message: one.message,
                uid: uid.to_owned(),
                versions: Vec::new(),
            });
            note(&mut seen.versions, one.body, look);
        }
    }

    /// Looks at the newest of everything, again and again, until the end comes.
    pub fn watch(&mut self, api: &Api, books: &Books, end: &Ending) {
        while !end.comes_within(REST) {
            if let Err(why) = self.look(api, books, 1)
                && !end.has_come()
            {
                books.wrong(format!("the witness: {why}"));
                return;
            }
        }
    }

    /// Looks at so many pages of everything that is there.
    pub fn look(&mut self, api: &Api, books: &Books, pages_max: usize) -> Result<(), String> {
        let mut connection = api.connect().map_err(|error| error.to_string())?;
        let (apps, endpoints) = {
            let pages = books.pages();
            let apps = pages.apps.iter().filter(|(_, one)| one.is_there());
            let apps = Vec::from_iter(apps.map(|(app, _)| app.clone()));
            let endpoints = pages.endpoints.iter();
            let endpoints = endpoints.filter(|(_, one)| one.lifetime.is_there());
            let endpoints = endpoints.filter(|(_, one)| apps.contains(&one.app));
            let endpoints = endpoints.map(|(uid, one)| (one.app.clone(), uid.clone()));
            let endpoints = Vec::from_iter(endpoints);
            (apps, endpoints)
        };
        for app in &apps {
            let began = books.clock.now();
            let messages = shown::messages(&mut connection, app, pages_max)?;
            let ended = books.clock.now();
            self.note_messages(messages, Look { began, ended });
        }
        for (app, uid) in &endpoints {
            let began = books.clock.now();
            let attempts = shown::attempts(&mut connection, app, uid, pages_max)?;
            let ended = books.clock.now();
            self.note_attempts(uid, attempts, Look { began, ended });
        }
        Ok(())
    }
}

fn note(versions: &mut Vec<Version>, body: String, look: Look) {
    match versions.last_mut() {
        Some(version) if version.body == body => version.last = look,
        _ => versions.push(Version {
            body,
            first: look,
            last: look,
        }),
    }
}
