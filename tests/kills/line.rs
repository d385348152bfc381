//! A connection in one life of the server, and what an end of it means.

use serde_json::Value;

use super::books::Books;
use super::process::Api;
use super::process::client::{Answer, Connection};

/// The server is gone, as it should be.
pub struct Gone;

pub type Done<T = ()> = Result<T, Gone>;

/// A connection in one life of the server.
pub struct Line<'a> {
    pub books: &'a Books,
    connection: Connection,
    pub life: u32,
}

impl<'a> Line<'a> {
    pub fn open(api: &Api, books: &'a Books) -> Done<Line<'a>> {
        let life = books.pages().life;
        match api.connect() {
            Ok(connection) => Ok(Line {
                books,
                connection,
                life,
            }),
            Err(error) => Err(gone(books, "connecting", &error.to_string())),
        }
    }

    pub fn ask(&mut self, method: &str, path: &str, body: &str, key: Option<&str>) -> Done<Answer> {
        match self.connection.request_once(method, path, body, key) {
            // A server that stops refuses what comes.
            Ok(answer) if answer.status == 503 && self.books.is_dying() => Err(Gone),
            Ok(answer) => Ok(answer),
            Err(error) => Err(gone(self.books, path, &error.to_string())),
        }
    }

    pub fn get(&mut self, path: &str) -> Done<Answer> {
        self.ask("GET", path, "", None)
    }

    /// What must be there.
    pub fn read(&mut self, path: &str) -> Done<Value> {
        let answer = self.get(path)?;
        let text = String::from_utf8_lossy(&answer.body);
        if answer.status != 200 {
            self.books
                .wrong(format!("GET {path}: {} {text}", answer.status));
        }
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }
}

fn gone(books: &Books, path: &str, why: &str) -> Gone {
    if !books.is_dying() {
        books.wrong(format!("the server is gone: {path}: {why}"));
    }
    Gone
}
