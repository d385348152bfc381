//! Compares what a server shows with what is known, while nothing is asked for. What is wrong goes into the
//! books.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::books::{Books, Fate, payload};
use super::client::{Client, SHARED};
use super::line::{Gone, Line};
use super::operation::event_id;
use super::process::Api;

/// How much of the messages is compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// The newest of each application.
    Newest,
    All,
}

/// A message as it is shown.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    id: String,
    event_id: Option<String>,
    tags: Vec<String>,
    #[serde(borrow)]
    payload: &'a RawValue,
    payload_deleted: bool,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    data: Vec<Shown<'a>>,
    iterator: Option<String>,
    done: bool,
}

/// What ought to be shown.
struct Expected {
    number: u64,
    is_kept: bool,
    has_event_id: bool,
    is_erased: bool,
}

/// Compares everything. Doubts are settled first.
pub fn audit(api: &Api, books: &Books, clients: &mut [Client], extent: Extent) {
    let Ok(mut line) = Line::open(api, books) else {
        return;
    };
    // The server may die of what it is asked, which is in the books then.
    let _ = audit_on(&mut line, clients, extent);
}

fn audit_on(line: &mut Line, clients: &mut [Client], extent: Extent) -> Result<(), Gone> {
    for client in &mut *clients {
        client.settle_doubt(line, None)?;
        client.look_at_jobs(line)?;
    }
    let mut apps: BTreeSet<String> = clients.iter().filter_map(|one| one.app.clone()).collect();
    apps.insert(SHARED.to_owned());
    let shown = uids(line, "/api/v1/app")?;
    if !shown.keys().eq(&apps) {
        let shown: Vec<_> = shown.keys().collect();
        line.books
            .wrong(format!("the applications are {shown:?}, not {apps:?}"));
    }
    for app in &apps {
        endpoints(line, app)?;
        messages(line, app, extent)?;
    }
    Ok(())
}

/// All pages of a list, by their uids.
fn uids(line: &mut Line, path: &str) -> Result<BTreeMap<String, Value>, Gone> {
    let mut found = BTreeMap::new();
    let mut iterator = String::new();
    loop {
        let page = line.read(&format!("{path}?limit=250&iterator={iterator}"))?;
        for one in page["data"].as_array().map_or(&[][..], Vec::as_slice) {
            let uid = one["uid"].as_str().unwrap_or_default();
            found.insert(uid.to_owned(), one.clone());
        }
        match page["iterator"].as_str() {
            Some(next) if page["done"] != true => iterator = next.to_owned(),
            _ => return Ok(found),
        }
    }
}

fn endpoints(line: &mut Line, app: &str) -> Result<(), Gone> {
    let shown = uids(line, &format!("/api/v1/app/{app}/endpoint"))?;
    let expected: BTreeMap<String, Value> = {
        let pages = line.books.pages();
        let all = pages.endpoints_of(app);
        let fields = all.map(|(uid, one)| {
            let fields = serde_json::json!([one.disabled, one.description, one.newest_secret()]);
            (uid.clone(), fields)
        });
        fields.collect()
    };
    let mut found = BTreeMap::new();
    for (uid, one) in shown {
        let secret = line.read(&format!("/api/v1/app/{app}/endpoint/{uid}/secret"))?;
        let fields = serde_json::json!([one["disabled"], one["description"], secret["key"]]);
        found.insert(uid, fields);
    }
    if found != expected {
        line.books.wrong(format!(
            "the endpoints of {app} are {found:?}, not {expected:?}"
        ));
    }
    Ok(())
}

/// Messages are shown newest first, and their ids are in the order in which they were accepted.
fn messages(line: &mut Line, app: &str, extent: Extent) -> Result<(), Gone> {
    let expected = expected(line.books, app);
    let mut expected = expected.iter().rev().peekable();
    let (limit, mut iterator) = match extent {
        Extent::Newest => (50, String::new()),
        Extent::All => (250, String::new()),
    };
    loop {
        let path = format!("/api/v1/app/{app}/msg?limit={limit}&iterator={iterator}");
        let answer = line.get(&path)?;
        let text = String::from_utf8_lossy(&answer.body);
        let page: Page = match serde_json::from_str(&text) {
            Ok(page) => page,
            Err(error) => {
                let shown: String = text.chars().take(300).collect();
                line.books
                    .wrong(format!("GET {path}: {} {error} {shown}", answer.status));
                return Ok(());
            }
        };
        for shown in &page.data {
            while let Some((id, missing)) = expected.next_if(|(id, _)| **id > shown.id) {
                missed(line.books, app, id, missing);
            }
            match expected.next_if(|(id, _)| **id == shown.id) {
                Some((_, known)) => compare(line.books, known, shown),
                None => line.books.wrong(format!(
                    "{app} shows {} {:?}, of which nobody knows",
                    shown.id, shown.tags
                )),
            }
        }
        match page.iterator {
            Some(next) if !page.done && extent == Extent::All => iterator = next,
            _ if page.done => break,
            _ => return Ok(()),
        }
    }
    expected.for_each(|(id, missing)| missed(line.books, app, id, missing));
    Ok(())
}

fn missed(books: &Books, app: &str, id: &str, missing: &Expected) {
    if missing.is_kept {
        let number = missing.number;
        books.wrong(format!("{app} does not show message {number}, {id}"));
    }
}

fn expected(books: &Books, app: &str) -> BTreeMap<String, Expected> {
    let pages = books.pages();
    let all = pages.messages.iter();
    let here = all.filter(|(_, one)| one.application == app && one.fate == Fate::Accepted);
    let known = here.map(|(number, one)| {
        let expected = Expected {
            number: *number,
            is_kept: books.is_kept(one.asked_at),
            has_event_id: one.has_event_id,
            is_erased: one.erased.is_some(),
        };
        (one.id.clone().unwrap_or_default(), expected)
    });
    known.collect()
}

fn compare(books: &Books, known: &Expected, shown: &Shown) {
    let number = known.number;
    let expected = match known.is_erased {
        true => r#"{"expired":true}"#.to_owned(),
        false => payload(books.seed, number),
    };
    let own_id = known.has_event_id.then(|| event_id(number));
    let is_right = shown.payload.get() == expected
        && shown.payload_deleted == known.is_erased
        && shown.event_id == own_id
        && shown.tags.get(1) == Some(&format!("n{number}"));
    if !is_right {
        let start: String = shown.payload.get().chars().take(60).collect();
        books.wrong(format!(
            "message {number} is shown as {:?}, {:?}, deleted: {}, {start}…",
            shown.event_id, shown.tags, shown.payload_deleted
        ));
    }
}

/// Looks at one message, by its id or its own.
pub fn look_at(line: &mut Line, app: &str, number: u64) -> Result<(), Gone> {
    let (id, known) = {
        let pages = line.books.pages();
        let message = &pages.messages[&number];
        let known = Expected {
            number,
            is_kept: true,
            has_event_id: message.has_event_id,
            is_erased: message.erased.is_some(),
        };
        let id = message.id.clone().unwrap_or_default();
        (
            if known.has_event_id {
                event_id(number)
            } else {
                id
            },
            known,
        )
    };
    let path = format!("/api/v1/app/{app}/msg/{id}");
    let answer = line.get(&path)?;
    let text = String::from_utf8_lossy(&answer.body);
    match serde_json::from_str::<Shown>(&text) {
        Ok(shown) => compare(line.books, &known, &shown),
        Err(_) => line
            .books
            .wrong(format!("GET {path}: {} {text}", answer.status)),
    }
    Ok(())
}

/// How each delivery of some messages stands must be what was received.
pub fn check_deliveries(api: &Api, books: &Books, numbers: &[u64]) {
    let Ok(mut line) = Line::open(api, books) else {
        return;
    };
    for number in numbers {
        let (app, id, is_erased) = {
            let pages = books.pages();
            let message = &pages.messages[number];
            let id = message.id.clone().unwrap_or_default();
            (message.application.clone(), id, message.erased.is_some())
        };
        let Ok(shown) = line.read(&format!("/api/v1/app/{app}/msg/{id}/endpoint")) else {
            return;
        };
        let pages = books.pages();
        let mut wrong = Vec::new();
        for one in shown["data"].as_array().map_or(&[][..], Vec::as_slice) {
            let uid = one["uid"].as_str().unwrap_or_default();
            let successes = pages.successes(uid, *number);
            let is_right = match one["status"].as_u64() {
                _ if one["deleted"] == true => true,
                Some(0) => successes > 0,
                Some(2) => is_erased,
                _ => false,
            };
            if !is_right {
                wrong.push(format!(
                    "message {number} has {} at {uid} and was received {successes} times",
                    one["statusText"]
                ));
            }
        }
        drop(pages);
        wrong.into_iter().for_each(|what| books.wrong(what));
    }
}
