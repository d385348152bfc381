//! What a server shows, read through its API: applications with their endpoints, messages and attempts, each item with
//! the bytes in which it is shown.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::operator::millis;
use super::process::Api;
use super::process::client::Connection;

/// Everything.
#[derive(Clone)]
pub struct Shown {
    /// By their uids, as endpoints.
    pub apps: BTreeMap<String, ShownApp>,
    /// How many there are, as of event types and tokens.
    pub jobs: usize,
    pub event_types: usize,
    pub tokens: u64,
    pub waiting: u64,
}

#[derive(Clone, Default)]
pub struct ShownApp {
    /// Newest first.
    pub messages: Vec<ShownMessage>,
    pub endpoints: BTreeMap<String, Vec<ShownAttempt>>,
}

#[derive(Clone)]
pub struct ShownMessage {
    pub id: String,
    /// By its tag.
    pub number: Option<u64>,
    pub payload: String,
    pub payload_deleted: bool,
    /// All of it.
    pub body: String,
}

#[derive(Clone)]
pub struct ShownAttempt {
    pub id: String,
    pub message: String,
    /// Of the answer; 0 where none came.
    pub status: u16,
    pub succeeded: bool,
    /// In milliseconds since 1970.
    pub began_at: u64,
    pub body: String,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    data: Vec<&'a RawValue>,
    iterator: Option<String>,
    done: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageItem<'a> {
    id: String,
    tags: Option<Vec<String>>,
    #[serde(borrow)]
    payload: &'a RawValue,
    payload_deleted: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AttemptItem {
    id: String,
    msg_id: String,
    response_status_code: u16,
    status: u8,
    timestamp: String,
}

impl Shown {
    pub fn read(api: &Api) -> Result<Shown, String> {
        let mut connection = api.connect().map_err(|error| error.to_string())?;
        let connection = &mut connection;
        // First: it may change once the server has run for a while.
        let status = get(connection, "/api/v1/status")?;
        let count = |value: &Value| value.as_u64().ok_or(format!("no count in {status}"));
        let waiting = count(&status["waiting"])?;
        let tokens = count(&status["registrations"]["tokens"])?;
        let mut apps = BTreeMap::new();
        for app in uids(connection, "/api/v1/app")? {
            let mut shown = ShownApp {
                messages: messages(connection, &app, usize::MAX)?,
                ..ShownApp::default()
            };
            for uid in uids(connection, &format!("/api/v1/app/{app}/endpoint"))? {
                let attempts = attempts(connection, &app, &uid, usize::MAX)?;
                shown.endpoints.insert(uid, attempts);
            }
            apps.insert(app, shown);
        }
        let (mut jobs, mut event_types) = (0, 0);
        list(connection, "/api/v1/background-task", usize::MAX, |_| {
            jobs += 1;
            Ok(())
        })?;
        let path = "/api/v1/event-type?include_archived=true";
        list(connection, path, usize::MAX, |_| {
            event_types += 1;
            Ok(())
        })?;
        Ok(Shown {
            apps,
            jobs,
            event_types,
            tokens,
            waiting,
        })
    }

    pub fn messages(&self) -> impl Iterator<Item = (&String, &ShownMessage)> {
        let apps = self.apps.iter();
        apps.flat_map(|(app, shown)| shown.messages.iter().map(move |one| (app, one)))
    }

    /// The attempts that began until this moment, by their endpoints.
    pub fn attempts(&self, until: u64) -> impl Iterator<Item = (&String, &ShownAttempt)> {
        let endpoints = self.apps.values().flat_map(|shown| &shown.endpoints);
        let all = endpoints.flat_map(|(uid, attempts)| attempts.iter().map(move |one| (uid, one)));
        all.filter(move |(_, one)| one.began_at <= until)
    }

    pub fn has_endpoint(&self, uid: &str) -> bool {
        let mut apps = self.apps.values();
        apps.any(|shown| shown.endpoints.contains_key(uid))
    }
}

/// The messages of an application, at most so many pages of them. None where it is gone.
pub fn messages(
    connection: &mut Connection,
    app: &str,
    pages_max: usize,
) -> Result<Vec<ShownMessage>, String> {
    let mut messages = Vec::new();
    let path = format!("/api/v1/app/{app}/msg");
    list(connection, &path, pages_max, |item| {
        let read: MessageItem = read_item(item)?;
        let tags = read.tags.unwrap_or_default();
        let number = tags.first().and_then(|tag| tag.strip_prefix('n'));
        messages.push(ShownMessage {
            id: read.id,
            number: number.and_then(|number| number.parse().ok()),
            payload: read.payload.get().to_owned(),
            payload_deleted: read.payload_deleted,
            body: item.to_owned(),
        });
        Ok(())
    })?;
    Ok(messages)
}

/// The attempts at an endpoint, at most so many pages of them. None where it is gone.
pub fn attempts(
    connection: &mut Connection,
    app: &str,
    uid: &str,
    pages_max: usize,
) -> Result<Vec<ShownAttempt>, String> {
    let mut attempts = Vec::new();
    let path = format!("/api/v1/app/{app}/attempt/endpoint/{uid}");
    list(connection, &path, pages_max, |item| {
        let read: AttemptItem = read_item(item)?;
        attempts.push(ShownAttempt {
            id: read.id,
            message: read.msg_id,
            status: read.response_status_code,
            succeeded: read.status == 0,
            began_at: millis(&read.timestamp).ok_or("an attempt without its time")?,
            body: item.to_owned(),
        });
        Ok(())
    })?;
    Ok(attempts)
}

pub fn get(connection: &mut Connection, path: &str) -> Result<Value, String> {
    let answer = connection.request("GET", path, "");
    let answer = answer.map_err(|error| format!("GET {path}: {error}"))?;
    let text = String::from_utf8_lossy(&answer.body);
    match answer.status {
        200 => serde_json::from_str(&text).map_err(|error| format!("GET {path}: {error}")),
        status => Err(format!("GET {path}: {status} {text}")),
    }
}

/// The uids in a list.
fn uids(connection: &mut Connection, path: &str) -> Result<Vec<String>, String> {
    #[derive(Deserialize)]
    struct Item {
        uid: String,
    }
    let mut uids = Vec::new();
    list(connection, path, usize::MAX, |item| {
        uids.push(read_item::<Item>(item)?.uid);
        Ok(())
    })?;
    Ok(uids)
}

fn read_item<'a, T: Deserialize<'a>>(item: &'a str) -> Result<T, String> {
    serde_json::from_str(item).map_err(|error| format!("{error}: {item}"))
}

/// The items of a list, at most so many pages of them, as they are shown. What is not there has none.
fn list(
    connection: &mut Connection,
    path: &str,
    pages_max: usize,
    mut each: impl FnMut(&str) -> Result<(), String>,
) -> Result<(), String> {
    let mut iterator = String::new();
    let separator = if path.contains('?') { '&' } else { '?' };
    for _ in 0..pages_max {
        let path = format!("{path}{separator}limit=250&iterator={iterator}");
        let answer = connection.request("GET", &path, "");
        let answer = answer.map_err(|error| format!("GET {path}: {error}"))?;
        let text = String::from_utf8_lossy(&answer.body);
        if answer.status == 404 {
            return Ok(());
        }
        if answer.status != 200 {
            return Err(format!("GET {path}: {} {text}", answer.status));
        }
        let page: Page = serde_json::from_str(&text).map_err(|error| format!("{path}: {error}"))?;
        for item in &page.data {
            each(item.get())?;
        }
        match page.iterator {
            Some(next) if !page.done => iterator = next,
            _ => break,
        }
    }
    Ok(())
}
