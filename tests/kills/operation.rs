//! What a client asks for: the request, what is known once it was done, and how to find out whether it
//! was where no answer came.

use serde_json::{Value, json};

use super::books::{Books, Endpoint, Fate, Message, Secret, payload};
use super::process::client::Answer;

#[derive(Clone)]
pub enum Operation {
    Publish(Publish),
    CreateApplication,
    DeleteApplication,
    CreateEndpoint {
        uid: String,
        url: String,
        only: Option<&'static str>,
        secret: String,
    },
    PatchEndpoint {
        uid: String,
        description: String,
        disabled: bool,
    },
    DeleteEndpoint {
        uid: String,
    },
    Rotate {
        uid: String,
        secret: String,
    },
    Erase {
        number: u64,
    },
    /// One that was delivered, and how often until now.
    Resend {
        uid: String,
        number: u64,
        successes: usize,
    },
    /// Of everything; with what was delivered before, and how often.
    Replay {
        uid: String,
        delivered: Vec<(u64, usize)>,
    },
    Cancel {
        job: String,
    },
}

/// One message or a batch.
#[derive(Clone)]
pub struct Publish {
    pub first: u64,
    pub count: u64,
    pub is_batch: bool,
    pub kind: &'static str,
    pub key: Option<String>,
    pub has_event_ids: bool,
    /// RFC 3339.
    pub deliver_at: Option<String>,
    /// RFC 3339, from before it was asked for the first time.
    pub asked_after: String,
}

pub const KINDS: [&str; 2] = ["kind.a", "kind.b"];

impl Publish {
    pub fn numbers(&self) -> std::ops::Range<u64> {
        self.first..self.first + self.count
    }

    /// A word that finds all of it.
    pub fn tag(&self) -> String {
        format!("op{}", self.first)
    }

    fn body(&self, seed: u64) -> String {
        let messages = self.numbers().map(|number| self.message(seed, number));
        match self.is_batch {
            true => format!("[{}]", messages.collect::<Vec<_>>().join(",")),
            false => messages.collect(),
        }
    }

    fn message(&self, seed: u64, number: u64) -> String {
        let mut fields =
            json!({ "eventType": self.kind, "tags": [self.tag(), format!("n{number}")] });
        if self.has_event_ids {
            fields["eventId"] = json!(event_id(number));
        }
        if let Some(at) = &self.deliver_at {
            fields["deliverAt"] = json!(at);
        }
        // The payload as it is.
        let fields = fields.to_string();
        let head = fields.trim_end_matches('}');
        format!("{head},\"payload\":{}}}", payload(seed, number))
    }

    /// The messages of an answer, in order.
    pub fn messages(&self, answer: &Value) -> Result<Vec<Value>, String> {
        let messages: Vec<Value> = match (self.is_batch, answer["data"].as_array()) {
            (false, _) => vec![answer.clone()],
            (true, None) => Vec::new(),
            (true, Some(items)) => items.iter().map(|item| item["message"].clone()).collect(),
        };
        let all_have_ids = messages.iter().all(|message| message["id"].is_string());
        match messages.len() as u64 == self.count && all_have_ids {
            true => Ok(messages),
            false => Err(format!(
                "{} messages were answered with {answer}",
                self.count
            )),
        }
    }
}

pub fn event_id(number: u64) -> String {
    format!("event-{number}")
}

/// A request as it is made.
pub struct Asked {
    pub method: &'static str,
    pub path: String,
    pub body: String,
    pub key: Option<String>,
    pub expected: u16,
}

impl Operation {
    pub fn request(&self, app: &str, books: &Books) -> Asked {
        let base = format!("/api/v1/app/{app}");
        let (method, path, body, expected) = match self {
            Operation::Publish(publish) => {
                let batch = if publish.is_batch { "/batch" } else { "" };
                let asked = Asked {
                    method: "POST",
                    path: format!("{base}/msg{batch}"),
                    body: publish.body(books.seed),
                    key: publish.key.clone(),
                    expected: 202,
                };
                return asked;
            }
            Operation::CreateApplication => {
                let body = json!({ "name": app, "uid": app });
                ("POST", "/api/v1/app".to_owned(), body, 201)
            }
            Operation::DeleteApplication => ("DELETE", base, Value::Null, 204),
            Operation::CreateEndpoint {
                uid,
                url,
                only,
                secret,
            } => {
                let only = only.map(|kind| [kind]);
                let body = json!({ "uid": uid, "url": url, "eventTypes": only, "secret": secret });
                ("POST", format!("{base}/endpoint"), body, 201)
            }
            Operation::PatchEndpoint {
                uid,
                description,
                disabled,
            } => {
                let body = json!({ "description": description, "disabled": disabled });
                ("PATCH", format!("{base}/endpoint/{uid}"), body, 200)
            }
            Operation::DeleteEndpoint { uid } => {
                ("DELETE", format!("{base}/endpoint/{uid}"), Value::Null, 204)
            }
            Operation::Rotate { uid, secret } => {
                let body = json!({ "key": secret, "gracePeriodSeconds": 30 });
                let path = format!("{base}/endpoint/{uid}/secret/rotate");
                ("POST", path, body, 200)
            }
            Operation::Erase { number } => {
                let path = format!("{base}/msg/{}/content", id_of(books, *number));
                ("DELETE", path, Value::Null, 204)
            }
            Operation::Resend { uid, number, .. } => {
                let id = id_of(books, *number);
                let path = format!("{base}/msg/{id}/endpoint/{uid}/resend");
                ("POST", path, Value::Null, 202)
            }
            Operation::Replay { uid, .. } => {
                let body = json!({ "since": "1970-01-01T00:00:00Z" });
                let path = format!("{base}/endpoint/{uid}/bulk-replay");
                ("POST", path, body, 202)
            }
            Operation::Cancel { job } => {
                let path = format!("/api/v1/background-task/{job}/cancel");
                ("POST", path, Value::Null, 200)
            }
        };
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        Asked {
            method,
            path,
            body,
            key: None,
            expected,
        }
    }

    /// To be noted before the request: its traces may come before its answer.
    pub fn asked(&self, app: &str, books: &Books) {
        let now = books.now();
        let mut pages = books.pages();
        let life = pages.life;
        match self {
            Operation::Publish(publish) => {
                for number in publish.numbers() {
                    let message = pages.messages.entry(number).or_insert_with(|| Message {
                        application: app.to_owned(),
                        id: None,
                        fate: Fate::Asked,
                        asked_at: now,
                        has_event_id: publish.has_event_ids,
                        erased: None,
                        may_be_erased: false,
                    });
                    message.fate = Fate::Asked;
                }
            }
            Operation::CreateEndpoint {
                uid, only, secret, ..
            } => {
                let only = only.map(str::to_owned);
                let endpoint = Endpoint::new(app, only, secret.clone(), life);
                pages.endpoints.insert(uid.clone(), endpoint);
            }
            Operation::Rotate { uid, secret } => pages.endpoint(uid).secrets.push(Secret {
                text: secret.clone(),
                settled: None,
            }),
            Operation::Erase { number } => pages.message(*number).may_be_erased = true,
            Operation::PatchEndpoint {
                uid,
                disabled: false,
                ..
            } => pages.endpoint(uid).may_be_enabled(life),
            _ => {}
        }
    }

    /// It was done, in this life. `ids` are those of the messages that were published.
    pub fn done(&self, app: &str, books: &Books, life: u32, ids: &[String]) {
        let horizon = books.now();
        let mut pages = books.pages();
        match self {
            Operation::Publish(publish) => {
                let wanting = pages.endpoints_of(app);
                let wanting = wanting.filter(|(_, one)| one.wants(publish.kind));
                let wanting: Vec<String> = wanting.map(|(uid, _)| uid.clone()).collect();
                for (number, id) in publish.numbers().zip(ids) {
                    let message = pages.message(number);
                    if let Some(known) = message.id.replace(id.clone())
                        && known != *id
                    {
                        let wrong = format!("message {number} was {known} and is {id}");
                        pages.wrong.push(wrong);
                    }
                    pages.message(number).fate = Fate::Accepted;
                    for uid in &wanting {
                        pages.owe(uid, number, 1);
                    }
                }
            }
            Operation::DeleteApplication => {
                let all = pages.endpoints_of(app).map(|(uid, _)| uid.clone());
                for uid in all.collect::<Vec<_>>() {
                    pages.endpoint(&uid).deleted = Some(life);
                }
            }
            Operation::DeleteEndpoint { uid } => pages.endpoint(uid).deleted = Some(life),
            Operation::PatchEndpoint {
                uid,
                description,
                disabled,
            } => {
                let was_disabled = pages.endpoint(uid).disabled;
                pages.endpoint(uid).description = description.clone();
                let kept = super::books::RETENTION.as_millis() as u64 / 2;
                match (was_disabled, disabled) {
                    (false, true) => pages.disable(uid, life),
                    (true, false) => pages.enable(uid, life, horizon - kept),
                    _ => {}
                }
            }
            Operation::Rotate { uid, secret } => {
                let mut secrets = pages.endpoint(uid).secrets.iter_mut();
                if let Some(secret) = secrets.find(|one| one.text == *secret) {
                    secret.settled = Some(life);
                }
            }
            Operation::Erase { number } => {
                pages.message(*number).erased.get_or_insert(life);
            }
            Operation::Resend {
                uid,
                number,
                successes,
            } => pages.owe(uid, *number, successes + 1),
            Operation::CreateApplication
            | Operation::CreateEndpoint { .. }
            | Operation::Replay { .. }
            | Operation::Cancel { .. } => {}
        }
    }

    /// It was not done, and never will be.
    pub fn not_done(&self, books: &Books, life: u32) {
        let mut pages = books.pages();
        match self {
            Operation::Publish(publish) => {
                for number in publish.numbers() {
                    pages.message(number).fate = Fate::Absent;
                }
            }
            Operation::CreateEndpoint { uid, .. } => pages.endpoint(uid).deleted = Some(life),
            Operation::Rotate { uid, secret } => {
                pages
                    .endpoint(uid)
                    .secrets
                    .retain(|one| one.text != *secret);
            }
            Operation::Erase { number } => pages.message(*number).may_be_erased = false,
            Operation::PatchEndpoint { uid, .. } => pages.endpoint(uid).was_not_enabled(),
            _ => {}
        }
    }

    /// What tells whether it was done.
    pub fn look(&self, app: &str, books: &Books) -> Option<String> {
        let base = format!("/api/v1/app/{app}");
        Some(match self {
            Operation::Publish(publish) => format!(
                "{base}/msg?limit=250&with_content=false&tag={}&after={}",
                publish.tag(),
                publish.asked_after
            ),
            Operation::CreateApplication | Operation::DeleteApplication => base,
            Operation::CreateEndpoint { uid, .. }
            | Operation::PatchEndpoint { uid, .. }
            | Operation::DeleteEndpoint { uid } => format!("{base}/endpoint/{uid}"),
            Operation::Rotate { uid, .. } => format!("{base}/endpoint/{uid}/secret"),
            Operation::Erase { number } => format!("{base}/msg/{}", id_of(books, *number)),
            Operation::Cancel { job } => format!("/api/v1/background-task/{job}"),
            Operation::Resend { .. } | Operation::Replay { .. } => return None,
        })
    }

    /// Whether retention may have taken meanwhile what was to be erased.
    pub fn was_pruned(&self, books: &Books) -> bool {
        match self {
            Operation::Erase { number } => {
                let asked_at = books.pages().messages[number].asked_at;
                !books.is_kept(asked_at)
            }
            _ => false,
        }
    }

    /// By what [`Operation::look`] found, whether it was done, with the ids of messages. An error is
    /// what can be neither.
    pub fn was_done(&self, found: &Answer) -> Result<Option<Vec<String>>, String> {
        let body: Value = serde_json::from_slice(&found.body).unwrap_or(Value::Null);
        let neither = || Err(format!("it was found to be {} {body}", found.status));
        let is_there = match found.status {
            200 => true,
            404 => false,
            _ => return neither(),
        };
        let done = match self {
            Operation::CreateApplication | Operation::CreateEndpoint { .. } => is_there,
            Operation::DeleteApplication | Operation::DeleteEndpoint { .. } => !is_there,
            _ if !is_there => return neither(),
            Operation::PatchEndpoint { description, .. } => {
                body["description"] == description.as_str()
            }
            Operation::Rotate { secret, .. } => body["key"] == secret.as_str(),
            Operation::Erase { .. } => body["payloadDeleted"] == true,
            Operation::Cancel { .. } => body["state"] == "canceled",
            Operation::Resend { .. } | Operation::Replay { .. } => false,
            Operation::Publish(publish) => {
                let messages = body["data"].as_array().map_or(&[][..], Vec::as_slice);
                if messages.is_empty() {
                    return Ok(None);
                }
                let id_of = |number: u64| {
                    let tag = format!("n{number}");
                    let found = messages.iter().find(|message| message["tags"][1] == tag)?;
                    Some(found["id"].as_str()?.to_owned())
                };
                let ids: Option<Vec<String>> = publish.numbers().map(id_of).collect();
                return match ids {
                    Some(ids) if messages.len() == ids.len() => Ok(Some(ids)),
                    _ => Err(format!(
                        "of {} messages of one request, {} are there",
                        publish.count,
                        messages.len()
                    )),
                };
            }
        };
        Ok(done.then(Vec::new))
    }
}

fn id_of(books: &Books, number: u64) -> String {
    let pages = books.pages();
    let id = pages.messages[&number].id.clone();
    id.expect("it was accepted")
}
