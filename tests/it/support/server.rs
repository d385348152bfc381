//! The server under test, with a temporary store and a manual clock, and a client for its API.

use std::net::TcpListener;
use std::time::Duration;

use awc::http::Method;
use postrider::clock::{Clock, Timestamp};
use postrider::config::{self, Config};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{DEADLINE, Receiver};

/// An answer of the API.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub text: String,
}

impl Answer {
    /// The body as JSON; null when it is empty.
    pub fn json(&self) -> Value {
        match self.text.as_str() {
            "" => Value::Null,
            text => serde_json::from_str(text).unwrap_or_else(|_| panic!("not JSON: {text}")),
        }
    }

    /// The body, after checking the status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(one, _)| one.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

pub struct Server {
    running: Option<postrider::server::Server>,
    config: Config,
    directory: Option<TempDir>,
    clock: Clock,
    /// The owner's.
    pub token: String,
    client: awc::Client,
    leftovers_are_fine: bool,
}

impl Server {
    pub async fn start() -> Server {
        Server::start_with(|_| ()).await
    }

    /// Starts with settings other than the tests' usual ones.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Server {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut config = config::load(
            Some(std::path::Path::new("config.toml")),
            config::Flags { dev: true },
        )
        .expect("the defaults are valid");
        config.store.path = directory.path().join("data");
        config.store.min_free_bytes = 1;
        config.server.workers = 1;
        // Retries at known instants.
        config.delivery.jitter = 0.0;
        change(&mut config);
        let now = Clock::System.now();
        Server::run(
            config,
            Some(directory),
            Clock::manual(Timestamp(now.0 / 1000 * 1000)),
        )
        .await
    }

    async fn run(config: Config, directory: Option<TempDir>, clock: Clock) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let running = postrider::server::Server::start(config.clone(), listener, clock.clone())
            .expect("the server starts");
        let token = std::fs::read_to_string(config.store.path.join("owner.token"))
            .expect("the first start writes the owner's token");
        let client = awc::Client::builder().timeout(DEADLINE).finish();
        Server {
            running: Some(running),
            config,
            directory,
            clock,
            token: token.trim().to_owned(),
            client,
            leftovers_are_fine: false,
        }
    }

    /// Stops the server and starts it again on the same data, at the same time.
    pub async fn restart(mut self) -> Server {
        self.stop().await;
        let leftovers_are_fine = self.leftovers_are_fine;
        self.leftovers_are_fine = true;
        let (config, clock) = (self.config.clone(), self.clock.clone());
        let mut again = Server::run(config, self.directory.take(), clock).await;
        again.leftovers_are_fine = leftovers_are_fine;
        again
    }

    async fn stop(&mut self) {
        let mut running = self.running.take().expect("it runs");
        running.stop().await.expect("a clean stop");
    }

    fn running(&self) -> &postrider::server::Server {
        self.running.as_ref().expect("it runs")
    }

    /// Deliveries may still wait when the test ends.
    pub fn leftovers_are_fine(&mut self) {
        self.leftovers_are_fine = true;
    }

    pub fn store(&self) -> &postrider::store::Store {
        &self.running().store
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn advance(&self, duration: Duration) {
        self.clock.advance_to(self.clock.now() + duration);
    }

    /// Waits until nothing is due, in flight or on its way to the disk.
    pub async fn settle(&self) {
        super::wait_until("the server to settle", || {
            self.running().scheduler.is_settled()
        })
        .await;
    }

    /// Settles, steps the clock to the next due time, and settles again. Returns how far it was.
    pub async fn advance_to_next_due(&self) -> Duration {
        self.settle().await;
        let due = self
            .running()
            .scheduler
            .next_due()
            .expect("something is due later");
        let distance = due.since(self.clock.now());
        self.clock.advance_to(due);
        self.settle().await;
        distance
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.running().address)
    }

    pub async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<String>,
    ) -> Answer {
        self.send(method, path, headers, body.map(String::into_bytes))
            .await
    }

    /// The same with a body of any bytes.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Answer {
        let mut request = self.client.request(method, self.url(path));
        if !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("authorization"))
        {
            request = request.insert_header(("authorization", format!("Bearer {}", self.token)));
        }
        for (name, value) in headers {
            request = request.insert_header((*name, *value));
        }
        let sent = match body {
            Some(body) => request
                .insert_header(("content-type", "application/json"))
                .send_body(body),
            None => request.send(),
        };
        let mut response = sent.await.expect("the server answers");
        let body = response.body().limit(64 << 20).await.expect("a whole body");
        let headers = response.headers().iter().map(|(name, value)| {
            (
                name.to_string(),
                value.to_str().unwrap_or_default().to_owned(),
            )
        });
        Answer {
            status: response.status().as_u16(),
            headers: headers.collect(),
            text: String::from_utf8(body.to_vec()).expect("text"),
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, &[], None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, &[], Some(body.to_string()))
            .await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PUT, path, &[], Some(body.to_string()))
            .await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PATCH, path, &[], Some(body.to_string()))
            .await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, &[], None).await
    }

    /// Makes the application `uid` where it does not exist yet.
    pub async fn application(&self, uid: &str) {
        let body = json!({ "name": uid, "uid": uid });
        let answer = self.post("/api/v1/app?get_if_exists=true", body).await;
        assert!([200, 201].contains(&answer.status), "{}", answer.text);
    }

    /// Registers a receiver with the application `app`; returns the endpoint's id.
    pub async fn endpoint(&self, receiver: &Receiver) -> String {
        self.application("app").await;
        let body = json!({ "url": receiver.url() });
        let endpoint = self
            .post("/api/v1/app/app/endpoint", body)
            .await
            .expect(201);
        endpoint["id"].as_str().expect("an id").to_owned()
    }

    /// Publishes to the application `app`; returns the message's id.
    pub async fn publish(&self, event_type: &str, payload: Value) -> String {
        let body = json!({ "eventType": event_type, "payload": payload });
        let message = self.post("/api/v1/app/app/msg", body).await.expect(202);
        message["id"].as_str().expect("an id").to_owned()
    }

    /// Registers the receiver, publishes one message, and waits until its first attempt is over.
    pub async fn send_to(&self, receiver: &Receiver, event_type: &str, payload: Value) -> String {
        self.endpoint(receiver).await;
        let message = self.publish(event_type, payload).await;
        self.settle().await;
        message
    }

    /// The attempts for a message, oldest first, as the log has them.
    pub async fn attempts(&self, message: &str) -> Vec<Value> {
        let list = self
            .get(&format!("/api/v1/app/app/attempt/msg/{message}?limit=250"))
            .await;
        let mut attempts = list.expect(200)["data"].as_array().expect("a list").clone();
        attempts.reverse();
        attempts
    }

    /// `delivered`, or the failure's kind with the status where there was one.
    pub async fn outcomes(&self, message: &str) -> Vec<String> {
        let attempts = self.attempts(message).await;
        let outcome = |attempt: &Value| match attempt["failure"]["kind"].as_str() {
            None => "delivered".to_owned(),
            Some("wrong_answer") => format!("http {}", attempt["responseStatusCode"]),
            Some(kind) => kind.to_owned(),
        };
        attempts.iter().map(outcome).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(running) = &self.running else { return };
        let waiting = running.store.waiting_count();
        if !std::thread::panicking() && !self.leftovers_are_fine {
            assert_eq!(
                waiting, 0,
                "deliveries still wait and the test did not expect it"
            );
        }
        let closed = running.store.close();
        if !std::thread::panicking() {
            closed.expect("a clean close");
        }
    }
}
