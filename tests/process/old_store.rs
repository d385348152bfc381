//! A store that an earlier version wrote, and what that version said of it: `tests/fixtures/make-store`
//! made both.
//!
//! Time goes on from where that version's ended: keys are remembered for hours and history is kept for days,
//! and the fixture is to be of use for years.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::receiver::Request;
use super::signature::signs;
use super::{Api, Launch};

pub const APP: &str = "/api/v1/app/acme";
/// The endpoints at which something waits.
pub const ENDPOINTS: [&str; 6] = ["good", "bad", "held", "north", "slow", "gone"];

pub struct OldStore {
    archive: PathBuf,
    known: Value,
    loaded_at: u64,
}

/// A delivery: the uid of its endpoint, and its message.
pub type Delivery = (String, String);

impl OldStore {
    /// Why nothing can be done with it; a release build takes no other time than the system's.
    pub fn missing() -> Option<String> {
        let has_clock = cfg!(debug_assertions) && super::other_binary().is_none();
        (!has_clock).then(|| "only a debug build goes by another clock".to_owned())
    }

    /// Of the format with this number.
    pub fn of_format(number: u32) -> OldStore {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let name = format!("store-format-{number}");
        let known = std::fs::read_to_string(fixtures.join(format!("{name}.json")));
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        OldStore {
            archive: fixtures.join(format!("{name}.tar.gz")),
            known: serde_json::from_str(&known.expect("the fixture is there")).expect("JSON"),
            loaded_at: now.expect("it is after 1970").as_millis() as u64,
        }
    }

    /// Puts the data directory into `directory`; returns its path.
    pub fn unpack(&self, directory: &Path) -> PathBuf {
        let status = Command::new("tar")
            .arg("-xzf")
            .arg(&self.archive)
            .arg("-C")
            .arg(directory)
            .status();
        assert!(status.expect("tar runs").success());
        directory.join("data")
    }

    /// With the settings under which it was written, a minute later and more.
    pub fn launch(&self, data: &Path, later: Duration) -> Launch {
        let written_at = self.known["writtenAt"].as_u64().expect("a time");
        let told = written_at + 60_000 + later.as_millis() as u64;
        Launch::new(data)
            .env("POSTRIDER_CLOCK", format!("{} {told} 1", self.loaded_at))
            .set("server.public_url", "https://hooks.invalid")
            .set("store.slice_bytes", 1024 * 1024)
            .set("store.min_free_bytes", 1024 * 1024)
            .set("delivery.retry_delays_seconds", "172800,172800")
            .set("delivery.jitter", 0)
    }

    /// Reads everything: what that version answered is answered still.
    pub fn check_reads(&self, api: &Api) {
        let last = &self.known["last"]["id"];
        let answers = self.known["answers"].as_object().expect("answers by path");
        for (path, then) in answers {
            let mut now = api.get(path);
            // That version was killed right after it had taken one more.
            if let Some(data) = now["data"].as_array_mut() {
                data.retain(|item| item["id"] != *last);
            }
            if let Err(difference) = says_the_same(then, &now) {
                panic!("{path}: {difference}\nthen {then}\nnow  {now}");
            }
        }
        let last = self.published_last();
        let shown = api.get(&format!("{APP}/msg/{}", last["id"].as_str().unwrap()));
        assert_eq!(shown["payload"], last["message"]["payload"]);
        self.check_padding(api);
        self.check_tokens(api);
    }

    fn published_last(&self) -> &Value {
        &self.known["last"]
    }

    fn check_padding(&self, api: &Api) {
        let padding = &self.known["padding"];
        let text = "x".repeat(padding["bytes"].as_u64().expect("a length") as usize);
        let page = api.get(&format!("{APP}/msg?event_types=padding&limit=250"));
        let shown = page["data"].as_array().expect("a list");
        assert_eq!(json!(shown.len()), padding["messages"]);
        for message in shown {
            assert!(message["payload"]["text"] == text, "{}", message["id"]);
        }
    }

    fn check_tokens(&self, api: &Api) {
        for (name, token) in self.known["tokens"].as_object().expect("tokens by name") {
            let path = match name.as_str() {
                "of other" => "/api/v1/app/other",
                "user" => "/api/v1/app/acme/endpoint/good",
                _ => APP,
            };
            let token = token["token"].as_str().expect("a token");
            let mut connection = super::client::Connection::open(api.address, token).unwrap();
            let answer = connection.request("GET", path, "").unwrap();
            let expected = if name == "revoked" { 401 } else { 200 };
            let body = String::from_utf8_lossy(&answer.body);
            assert_eq!(answer.status, expected, "{name}: {body}");
        }
    }

    /// Keys and event ids are known, and what may not be done cannot be done. Changes nothing.
    pub fn check_refusals(&self, api: &Api) {
        let keyed = self.published().find(|one| !one["key"].is_null());
        let keyed = keyed.expect("one with a key");
        let batch = &self.known["batch"];
        let publish = |path: &str, body: &str, key: Option<&str>| {
            let path = format!("{APP}/{path}");
            let mut connection = api.connect().expect("it accepts");
            let answer = connection.request_once("POST", &path, body, key);
            let answer = answer.expect("an answer");
            let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            (answer.status, body)
        };
        // A key is the body's, byte by byte.
        let (key, body) = (keyed["key"].as_str(), text(&keyed["body"]));
        let (status, again) = publish("msg", body, key);
        assert_eq!((status, &again["id"]), (202, &keyed["id"]), "{again}");
        let (key_of_batch, of_batch) = (batch["key"].as_str(), text(&batch["body"]));
        let (status, again) = publish("msg/batch", of_batch, key_of_batch);
        assert_eq!((status, &again), (202, &batch["answer"]));
        assert_eq!(
            publish("msg", r#"{"eventType":"a","payload":{}}"#, key).0,
            409
        );
        assert_eq!(publish("msg", body, None).0, 409, "an event id");
        let archived = r#"{"eventType":"old.type","payload":{}}"#;
        assert_eq!(publish("msg", archived, None).0, 422);
        let resend = format!("msg/{}/endpoint/good/resend", self.erased());
        assert_eq!(publish(&resend, "", None).0, 409);
    }

    fn published(&self) -> impl Iterator<Item = &Value> {
        let published = self.known["published"].as_array();
        published.expect("a list").iter()
    }

    fn erased(&self) -> &str {
        let is_erased = |one: &&Value| {
            let path = format!("{APP}/msg/{}", one["id"].as_str().unwrap_or_default());
            self.known["answers"][&path]["payloadDeleted"] == true
        };
        let erased = self.published().find(is_erased);
        erased.and_then(|one| one["id"].as_str()).expect("one was")
    }

    /// What waits or is held, and can be sent.
    pub fn waiting(&self) -> BTreeSet<Delivery> {
        let mut waiting = BTreeSet::new();
        let last = self.published_last()["id"].as_str().expect("an id");
        for endpoint in ENDPOINTS {
            let path = format!("{APP}/endpoint/{endpoint}/msg?limit=250&with_content=false");
            let page = self.known["answers"][&path]["data"].as_array();
            for item in page.expect("a list") {
                let id = item["id"].as_str().expect("an id");
                // 1: it is pending.
                if item["status"] == 1 && id != self.erased() {
                    waiting.insert((endpoint.to_owned(), id.to_owned()));
                }
            }
        }
        for endpoint in ["good", "held"] {
            waiting.insert((endpoint.to_owned(), last.to_owned()));
        }
        waiting
    }

    /// Which delivery a request is: the path is `/UID`, the body is as it was published, and the secret of
    /// its endpoint has signed it.
    pub fn received(&self, request: &Request<'_>) -> Result<Delivery, String> {
        let endpoint = request.path.trim_start_matches('/');
        let id = request.header("webhook-id").unwrap_or_default();
        let message = self.published().chain([self.published_last()]);
        let message = message.into_iter().find(|one| one["id"] == id);
        let message = &message.ok_or_else(|| format!("{id} at {endpoint}"))?["message"];
        let raw = &message["transformationsParams"]["rawPayload"];
        let is_as_published = match raw.as_str() {
            Some(raw) => request.body == raw.as_bytes(),
            None => serde_json::from_slice(request.body)
                .is_ok_and(|body: Value| body == message["payload"]),
        };
        if !is_as_published {
            return Err(format!("{id} came with another body: {message}"));
        }
        let secret = &self.known["answers"][format!("{APP}/endpoint/{endpoint}/secret")]["key"];
        if !signs(secret.as_str().unwrap_or_default(), request) {
            return Err(format!("{id} at {endpoint} is not signed by {secret}"));
        }
        Ok((endpoint.to_owned(), id.to_owned()))
    }
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// Whether all that was answered then is answered now; more may be. Says where not.
pub fn says_the_same(then: &Value, now: &Value) -> Result<(), String> {
    match (then, now) {
        (Value::Object(then), Value::Object(now)) => {
            for (name, then) in then {
                // Places in lists, and the use that this test makes of a token.
                if ["iterator", "prevIterator", "lastUsedAt"].contains(&name.as_str()) {
                    continue;
                }
                let now = now.get(name).ok_or_else(|| format!("{name} is missing"))?;
                says_the_same(then, now).map_err(|why| format!("{name}: {why}"))?;
            }
            Ok(())
        }
        (Value::Array(then), Value::Array(now)) if then.len() == now.len() => {
            let mut pairs = then.iter().zip(now);
            pairs.try_for_each(|(then, now)| says_the_same(then, now))
        }
        _ if then == now => Ok(()),
        _ => Err(format!("{then} was {now}")),
    }
}
