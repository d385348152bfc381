//! What there is to be seen: places, each an application with everything in it.

use std::collections::BTreeMap;

use awc::http::Method;
use serde_json::{Value, json};

use crate::support::{Receiver, Server};

/// By kind, the names that a thing goes by: its id, then others that a path takes.
pub type Things = BTreeMap<&'static str, Vec<String>>;

/// What a part of a path names. Profiles and pages are the server's, and nobody's.
pub fn kind(path: &str, part: &str) -> &'static str {
    match part {
        "app_id" | "template_id" => "application",
        "endpoint_id" if path.starts_with("/api/v1/operational-webhook/") => "own endpoint",
        "endpoint_id" => "endpoint",
        "msg_id" => "message",
        "attempt_id" => "attempt",
        "event_type_name" => "event type",
        "token_id" if path.starts_with("/api/v1/app/") => "key",
        "token_id" => "token",
        "session_id" => "visit",
        "task_id" => "job",
        "webhook_id" => "webhook",
        "profile_name" => "profile",
        "page" if path.starts_with("/docs/guide/") => "guide",
        "page" => "page",
        other => panic!("{path}: of which kind is {other}? See the head of table.rs"),
    }
}

/// What a parameter of a query names; nothing where it names nothing.
pub fn kind_in_query(path: &str, name: &str) -> Option<&'static str> {
    match name {
        "endpoint_id" => Some("endpoint"),
        "iterator" => listed(path),
        name if name.ends_with("_id") || name.ends_with("_ids") => {
            panic!("{path}: of which kind is {name}? See the head of table.rs")
        }
        _ => None,
    }
}

/// What the list at this path has, where its iterators are names: an endpoint's number is a place in
/// an order, and whose it is makes no difference.
fn listed(path: &str) -> Option<&'static str> {
    let words = path.split('/').filter(|part| !part.starts_with('{'));
    let words: Vec<&str> = words.collect();
    Some(match words.last() {
        _ if words.contains(&"attempt") => "attempt",
        _ if words.contains(&"operational-webhook") => "own endpoint",
        Some(&"msg") => "message",
        Some(&"endpoint") => "endpoint",
        Some(&"app") => "application",
        Some(&"token") if words.contains(&"app") => "key",
        Some(&"token") => "token",
        Some(&"sessions") => "visit",
        Some(&"background-task") => "job",
        Some(&"webhook_endpoints") => return None,
        Some(&"event-type" | &"channel" | &"profile") => "event type",
        _ => panic!("{path}: what does this list have? See the head of table.rs"),
    })
}

/// An application, with everything that there is.
#[derive(Clone)]
pub struct Place {
    pub label: String,
    pub things: Things,
    /// Another endpoint there, and what was sent to it alone: its webhook user was not granted it.
    pub second: Things,
    /// An event type that only portal sessions with its flag see.
    pub flagged: String,
    /// What stands in braces in bodies, beside kinds.
    words: BTreeMap<&'static str, String>,
    /// Secrets, names and notes that are to be seen nowhere else.
    pub private: Vec<String>,
    owner: String,
}

/// Calls as the owner of a place's organisation.
struct Owner<'a>(&'a Server, &'a str);

impl Owner<'_> {
    async fn call(&self, method: Method, path: &str, body: Value) -> Value {
        let body = (!body.is_null()).then(|| body.to_string());
        let case = format!("{method} {path}");
        let answer = self.0.call_as(self.1, method, path, body).await;
        assert!(answer.status < 300, "{case}: {}", answer.text);
        answer.json()
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.call(Method::POST, path, body).await
    }

    async fn get(&self, path: &str) -> Value {
        self.call(Method::GET, path, Value::Null).await
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

impl Place {
    /// One in the organisation of this owner. What is sent there has yet to arrive: see
    /// [`Place::finish`].
    pub async fn made(server: &Server, owner: &str, label: &str, receiver: &Receiver) -> Place {
        let by = Owner(server, owner);
        let note = format!("note-of-{label}");
        let application = json!({
            "name": format!("application-of-{label}"), "uid": format!("uid-of-{label}"),
            "metadata": {"note": note},
        });
        let application = text(&by.post("/api/v1/app", application).await["id"]);
        let address = format!("ops@{label}.example");
        let contact = json!({"address": address, "verified": true});
        by.call(
            Method::PUT,
            &format!("/api/v1/app/{application}/contact"),
            contact,
        )
        .await;
        let flagged = format!("flagged.{label}");
        for (name, flags) in [
            (format!("type.{label}"), json!([])),
            (flagged.clone(), json!(["f"])),
        ] {
            let body = json!({
                "name": name, "description": note, "example": {}, "featureFlags": flags,
            });
            by.post("/api/v1/event-type", body).await;
        }
        let mut private = vec![
            note.clone(),
            format!("application-of-{label}"),
            address.clone(),
        ];
        let mut ends = Vec::new();
        for (number, event_type) in [
            ("1", format!("type.{label}")),
            ("2", format!("second.{label}")),
        ] {
            let end = Place::end(&by, &application, label, number, &event_type, receiver);
            ends.push(end.await);
            let list = by.get(&format!("/api/v1/app/{application}/endpoint")).await;
            private.extend(
                list["data"]
                    .as_array()
                    .expect("a list")
                    .iter()
                    .map(|one| text(&one["url"])),
            );
        }
        // Others, for who takes away an endpoint by one interface and then by another and is to have one
        // that is left.
        let mut spare = Vec::new();
        for _ in 0..2 {
            let body = json!({"url": format!("{}spare", receiver.url()), "disabled": true});
            let made = by
                .post(&format!("/api/v1/app/{application}/endpoint"), body)
                .await;
            spare.push(text(&made["id"]));
        }
        let second = ends.pop().expect("two");
        let mut things = ends.pop().expect("two");
        let user = json!({
            "name": format!("user-of-{label}"), "role": "webhook_user",
            "endpointIds": [things["endpoint"][0]], "applicationIds": [application],
        });
        let user = by.post("/api/v1/token", user).await;
        let key = format!("/api/v1/app/{application}/token");
        let key = by
            .post(&key, json!({"name": format!("key-of-{label}")}))
            .await;
        let visit = Place::visit(&by, &application, &text(&key["token"])).await;
        let link = format!("/api/v1/auth/app-portal-access/{application}");
        let session = format!("session-of-{label}");
        let link = by.post(&link, json!({"sessionId": session})).await;
        private.extend([&user, &key, &link].map(|made| text(&made["token"])));
        private.extend(["user", "key"].map(|what| format!("{what}-of-{label}")));
        things.extend([
            ("application", vec![application, format!("uid-of-{label}")]),
            ("event type", vec![format!("type.{label}")]),
            ("spare endpoint", spare),
            ("token", vec![text(&user["id"])]),
            ("key", vec![text(&key["id"])]),
            ("session", vec![session]),
            ("visit", vec![visit]),
            ("profile", vec!["standard".to_owned()]),
            ("page", vec!["application".to_owned()]),
            ("guide", vec!["profiles".to_owned()]),
        ]);
        Place {
            label: label.to_owned(),
            things,
            second,
            flagged,
            words: BTreeMap::from([
                ("url", format!("{}made", receiver.url())),
                ("label", label.to_owned()),
                ("address", address),
                ("owner", owner.to_owned()),
            ]),
            private,
            owner: owner.to_owned(),
        }
    }

    /// An endpoint of the application, a job for it, and a message that is for it alone.
    async fn end(
        by: &Owner<'_>,
        application: &str,
        label: &str,
        number: &str,
        event_type: &str,
        receiver: &Receiver,
    ) -> Things {
        let application = format!("/api/v1/app/{application}");
        let uid = format!("hook-{number}-of-{label}");
        let body = json!({
            "url": format!("{}{number}-of-{label}", receiver.url()), "uid": uid, "disabled": true,
            "eventTypes": [event_type], "headers": {"x-note": format!("note-of-{label}")},
            "transformation": {"method": "POST"},
        });
        let endpoint = by.post(&format!("{application}/endpoint"), body).await;
        let endpoint = text(&endpoint["id"]);
        let place = format!("{application}/endpoint/{endpoint}");
        // Nothing of it goes on while the endpoint is disabled, so there is something to cancel;
        // what is canceled can be canceled again.
        let since = json!({"since": "2024-01-01T00:00:00Z"});
        let job = by.post(&format!("{place}/recover"), since).await;
        let job = text(&job["id"]);
        by.post(
            &format!("/api/v1/background-task/{job}/cancel"),
            Value::Null,
        )
        .await;
        by.call(Method::PATCH, &place, json!({"disabled": false}))
            .await;
        let event_id = format!("event-{number}-of-{label}");
        let body = json!({
            "eventType": event_type, "eventId": event_id,
            "payload": {"note": format!("note-of-{label}")},
        });
        let message = by.post(&format!("{application}/msg"), body).await;
        Things::from([
            ("endpoint", vec![endpoint, uid]),
            ("message", vec![text(&message["id"]), event_id]),
            ("job", vec![job]),
        ])
    }

    /// Somebody who is signed in to the portal, with a key of the application.
    async fn visit(by: &Owner<'_>, application: &str, key: &str) -> String {
        let surface = [("x-postrider-surface", "portal")];
        let body = json!({"token": key}).to_string();
        let path = "/api/v1/session";
        let signed_in = by.0.call(Method::POST, path, &surface, Some(body)).await;
        assert_eq!(signed_in.status, 200, "{}", signed_in.text);
        let sessions = by.get("/api/v1/sessions?limit=250").await;
        let mut sessions = sessions["data"].as_array().expect("a list").iter();
        let own = sessions.find(|one| one["applicationId"] == application);
        text(&own.expect("it is signed in")["id"])
    }

    /// Makes one of the organisation's own endpoints, of which there are few.
    pub async fn own_endpoint(&mut self, server: &Server) {
        let uid = format!("own-of-{}", self.label);
        let by = Owner(server, &self.owner);
        let body = json!({"url": self.words["url"], "uid": uid, "disabled": true});
        let made = by.post("/api/v1/operational-webhook/endpoint", body).await;
        self.things
            .insert("own endpoint", vec![text(&made["id"]), uid]);
    }

    /// Adds what is there once everything was sent: attempts, and the numbers of endpoints.
    pub async fn finish(&mut self, server: &Server) {
        let by = Owner(server, &self.owner);
        let application = &self.things["application"][0];
        let webhooks = format!("/api/v3/project_templates/{application}/webhook_endpoints");
        let webhooks = by.get(&webhooks).await;
        let webhooks = webhooks["webhook_endpoints"]
            .as_array()
            .expect("a list")
            .clone();
        let [first, second, spare, _] = &webhooks[..] else {
            panic!("{webhooks:?}");
        };
        for (things, own, webhook) in [
            (&mut self.things, first, spare),
            (&mut self.second, second, second),
        ] {
            let endpoint = things.get_mut("endpoint").expect("made before");
            endpoint.push(own["id"].to_string());
            things.insert("webhook", vec![webhook["id"].to_string()]);
        }
        let application = self.things["application"][0].clone();
        for things in [&mut self.things, &mut self.second] {
            let message = &things["message"][0];
            let path = format!("/api/v1/app/{application}/attempt/msg/{message}");
            let attempts = by.get(&path).await;
            things.insert("attempt", vec![text(&attempts["data"][0]["id"])]);
        }
        for things in [&self.things, &self.second] {
            let path = format!(
                "/api/v1/app/{application}/endpoint/{}/secret",
                things["endpoint"][0]
            );
            self.private.push(text(&by.get(&path).await["key"]));
        }
    }

    /// The text with what this place has where a kind or a word stands in braces.
    pub fn filled(&self, text: &str) -> String {
        let kinds = self.things.iter().map(|(kind, names)| (kind, &names[0]));
        let all = kinds.chain(&self.words);
        all.fold(text.to_owned(), |text, (name, value)| {
            text.replace(&format!("{{{name}}}"), value)
        })
    }

    /// Everything that its owner can read of the place; with `all`, of the whole organisation.
    pub async fn state(&self, server: &Server, all: bool) -> Vec<(String, String)> {
        let application = format!("/api/v1/app/{}", self.things["application"][0]);
        let mut paths: Vec<String> = ["", "/contact", "/endpoint", "/msg", "/token"]
            .map(|list| format!("{application}{list}"))
            .to_vec();
        for things in [&self.things, &self.second] {
            let (endpoint, message) = (&things["endpoint"][0], &things["message"][0]);
            paths.extend(
                ["secret", "headers", "stats"]
                    .map(|what| format!("{application}/endpoint/{endpoint}/{what}")),
            );
            paths.push(format!("{application}/attempt/endpoint/{endpoint}"));
            paths.push(format!("{application}/msg/{message}/endpoint"));
        }
        if all {
            let lists = [
                "app",
                "event-type",
                "token",
                "background-task",
                "operational-webhook/endpoint",
                "lane",
            ];
            paths.extend(lists.map(|list| format!("/api/v1/{list}")));
        }
        let mut state = Vec::new();
        for path in paths {
            let answer = server.call_as(&self.owner, Method::GET, &path, None).await;
            // Whatever it is: that it is another one later is what counts.
            state.push((path, format!("{} {}", answer.status, answer.text)));
        }
        state
    }
}

/// The same names for things that never were: as long, and made at the same time.
pub fn absent(things: &Things) -> Things {
    let each = things.iter().map(|(kind, names)| {
        let names = names.iter().map(|name| never_was(name)).collect();
        (*kind, names)
    });
    each.collect()
}

fn never_was(name: &str) -> String {
    // An endpoint's number: they are counted from 1.
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        return format!("{}", 90_000 + name.parse::<u64>().expect("a number"));
    }
    let (before, last) = name.split_at(name.len() - 1);
    // What ids are made of, in its order: the next one, so that an id stays one.
    let next = match last.as_bytes()[0] {
        b'9' => 'A',
        b'Z' => 'a',
        b'z' => 'y',
        byte => char::from(byte + 1),
    };
    format!("{before}{next}")
}
