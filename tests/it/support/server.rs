//! The server under test, with a temporary store and a manual clock, and a client for its API.

use std::future::Future;
use std::net::{IpAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use awc::http::Method;
use postrider::clock::{Clock, Timestamp};
use postrider::config::{self, Config};
use postrider::store::OpenError;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::{JoinError, JoinSet};

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
        Server::start_from("config.toml", change).await
    }

    /// The same with another file of settings.
    pub async fn start_from(file: &str, change: impl FnOnce(&mut Config)) -> Server {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut config = config::load(Some(Path::new(file)), config::Flags { dev: true })
            .unwrap_or_else(|error| panic!("{file}: {error}"));
        config.store.path = directory.path().join("data");
        config.store.min_free_bytes = 1;
        config.server.workers = 1;
        // Retries at known instants.
        config.delivery.jitter = 0.0;
        change(&mut config);
        let now = Clock::System.now();
        let clock = Clock::manual(Timestamp(now.0 / 1000 * 1000));
        Server::run(config, directory, clock).await
    }

    /// Starts on what is in `directory/data`, with the settings of another server.
    pub async fn start_on(directory: TempDir, like: &Server) -> Server {
        let mut config = like.config.clone();
        config.store.path = directory.path().join("data");
        Server::run(config, directory, Clock::manual(like.now())).await
    }

    async fn run(config: Config, directory: TempDir, clock: Clock) -> Server {
        let start = || {
            let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
            let started = postrider::server::Server::start(config.clone(), listener, clock.clone());
            match &started {
                Err(error) if matches!(error.downcast_ref(), Some(OpenError::Locked { .. })) => {
                    None
                }
                _ => Some(started),
            }
        };
        let what = "the threads of a server that was stopped just now to let go of the store";
        let started = super::wait_for(what, start).await;
        let running = started.expect("the server starts");
        let token = std::fs::read_to_string(config.store.path.join("owner.token"))
            .expect("the first start writes the owner's token");
        let client = awc::Client::builder().timeout(DEADLINE).finish();
        Server {
            running: Some(running),
            config,
            directory: Some(directory),
            clock,
            token: token.trim().to_owned(),
            client,
            leftovers_are_fine: false,
        }
    }

    /// Stops the server and starts it again on the same data, at the same time.
    pub async fn restart(self) -> Server {
        self.restart_with(|_| ()).await
    }

    /// The same with other settings; `change` runs while no server has the data.
    pub async fn restart_with(mut self, change: impl FnOnce(&mut Config)) -> Server {
        self.stop().await;
        let leftovers_are_fine = self.leftovers_are_fine;
        let mut config = self.config.clone();
        change(&mut config);
        let directory = self.directory.take().expect("it was not taken before");
        let mut again = Server::run(config, directory, self.clock.clone()).await;
        again.leftovers_are_fine = leftovers_are_fine;
        again
    }

    /// What a start finds after this process died now: a server on a copy of the data. This server stays
    /// as it is; the copy has a clock of its own.
    pub async fn after_a_crash(&self) -> Server {
        Server::start_on(self.copied().await, self).await
    }

    /// A copy of the data as it was at one moment. The store's own threads write when they like, so it is
    /// taken until nothing was written meanwhile.
    pub async fn copied(&self) -> TempDir {
        let copy = || {
            let before = self.store().is_idle().then(|| self.store().written())?;
            let directory = tempfile::tempdir().expect("a temporary directory");
            try_copy(&self.config.store.path, &directory.path().join("data")).ok()?;
            let is_same = self.store().is_idle() && self.store().written() == before;
            is_same.then_some(directory)
        };
        super::wait_for("the store to be idle while it is copied", copy).await
    }

    /// Stops the server; returns the directory with its data. What waits is still there.
    pub async fn stopped(mut self) -> TempDir {
        self.stop().await;
        let lock = self.config.store.path.join("lock");
        super::wait_until(
            "the threads of the stopped server to let go of the store",
            || {
                let file = std::fs::File::open(&lock).expect("it stays there");
                let exclusive = rustix::fs::FlockOperation::NonBlockingLockExclusive;
                rustix::fs::flock(&file, exclusive).is_ok()
            },
        )
        .await;
        self.directory.take().expect("it was not taken before")
    }

    /// Hands the store over, which ends the server. Returns the directory with its data, and what came of it.
    pub async fn hand_over(&mut self) -> (TempDir, Result<(), String>) {
        let mut running = self.running.take().expect("it runs");
        let handed_over = running.hand_over().await;
        let directory = self.directory.take().expect("it was not taken before");
        (directory, handed_over)
    }

    /// Returns once the server was asked to hand its store over.
    pub async fn hand_over_asked(&self) {
        self.running().hand_over_asked().await;
    }

    /// Stops the server and looks at every record: nothing may be damaged or miscounted.
    pub async fn stop_and_verify(mut self) -> Vec<(String, u64)> {
        self.stop().await;
        let report = super::verify(
            &postrider::store::StoreSettings::from_config(&self.config),
            &self.clock,
        )
        .await;
        assert_eq!(report.problems, [""; 0]);
        report.counts
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

    /// The addresses that the server takes for its machine's.
    pub fn own_addresses(&self) -> &postrider::delivery::address::OwnAddresses {
        &self.running().own_addresses
    }

    /// What the command line's server does every second.
    pub fn pulse(&self) {
        self.running().pulse();
    }

    pub fn metrics(&self) -> &postrider::telemetry::Metrics {
        &self.running().metrics
    }

    /// How many connections the address has.
    pub fn connections_of(&self, ip: IpAddr) -> usize {
        self.running().connections.of(ip)
    }

    /// Reads the settings again, which are the same.
    pub fn reload(&self) {
        let reloaded = self.running().reload(&self.config);
        reloaded.expect("they were good before");
    }

    pub fn in_flight(&self) -> usize {
        self.running().scheduler.in_flight()
    }

    /// Nothing is due later.
    pub fn nothing_is_due(&self) -> bool {
        self.running().scheduler.next_due().is_none()
    }

    /// Removes what is older than the retention time, as the server itself does every minute.
    pub async fn prune(&self) {
        let store = self.store().clone();
        let pruned = tokio::task::spawn_blocking(move || store.prune()).await;
        pruned.expect("no panic").expect("pruning succeeds");
    }

    /// Forgets credentials that have ended, as the server itself does every minute.
    pub async fn forget_ended(&self) {
        let store = self.store().clone();
        let forgotten = tokio::task::spawn_blocking(move || store.forget_ended()).await;
        forgotten.expect("no panic").expect("the store works");
    }

    /// Writes down when sessions were last used, as the server itself does every minute.
    pub async fn keep_visits(&self) {
        let store = self.store().clone();
        let kept = tokio::task::spawn_blocking(move || store.keep_visits()).await;
        kept.expect("no panic").expect("the store works");
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

    /// Sets the clock back, as somebody does who corrects it.
    pub fn set_back(&self, duration: Duration) {
        self.clock.set(self.clock.now().saturating_sub(duration));
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
        self.begin(method, path, headers, body).await
    }

    /// A request that need not be waited for.
    pub fn begin(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> impl Future<Output = Answer> + use<> {
        let mut request = self.client.request(method, self.url(path));
        if !headers.iter().any(|(name, _)| {
            ["authorization", "api-key", "x-postrider-surface"]
                .contains(&name.to_ascii_lowercase().as_str())
        }) {
            request = request.insert_header(("authorization", format!("Bearer {}", self.token)));
        }
        for (name, value) in headers {
            request = request.insert_header((*name, *value));
        }
        let sent = match body {
            Some(body) => request
                .insert_header_if_none(("content-type", "application/json"))
                .send_body(body),
            None => request.send(),
        };
        async move {
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
    }

    /// The same with another credential than the owner's, in the header `Api-Key`.
    pub async fn call_as(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Answer {
        self.call(method, path, &[("api-key", token)], body).await
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
        self.endpoint_of("app", json!({ "url": receiver.url() }))
            .await
    }

    /// Registers an endpoint with an application; returns its id.
    pub async fn endpoint_of(&self, application: &str, body: Value) -> String {
        self.application(application).await;
        let path = format!("/api/v1/app/{application}/endpoint");
        let endpoint = self.post(&path, body).await.expect(201);
        endpoint["id"].as_str().expect("an id").to_owned()
    }

    pub async fn set_disabled(&self, application: &str, endpoint: &str, disabled: bool) {
        let path = format!("/api/v1/app/{application}/endpoint/{endpoint}");
        let body = json!({ "disabled": disabled });
        self.patch(&path, body).await.expect(200);
    }

    /// Publishes to the application `app`; returns the message's id.
    pub async fn publish(&self, event_type: &str, payload: Value) -> String {
        self.publish_to("app", event_type, payload).await
    }

    pub async fn publish_to(&self, application: &str, event_type: &str, payload: Value) -> String {
        let body = json!({ "eventType": event_type, "payload": payload });
        let path = format!("/api/v1/app/{application}/msg");
        let message = self.post(&path, body).await.expect(202);
        message["id"].as_str().expect("an id").to_owned()
    }

    /// Publishes these payloads, several at a time; returns the messages' ids, in no order.
    pub async fn publish_all(
        &self,
        application: &str,
        payloads: impl IntoIterator<Item = Value>,
    ) -> Vec<String> {
        const AT_A_TIME: usize = 32;
        let path = format!("/api/v1/app/{application}/msg");
        let mut under_way = JoinSet::new();
        let mut ids = Vec::new();
        let mut take = |joined: Option<Result<Answer, JoinError>>| {
            let answer = joined.expect("one is under way").expect("no panic");
            let message = answer.expect(202);
            ids.push(message["id"].as_str().expect("an id").to_owned());
        };
        for payload in payloads {
            if under_way.len() == AT_A_TIME {
                take(under_way.join_next().await);
            }
            let body = json!({ "eventType": "invoice.paid", "payload": payload });
            under_way.spawn_local(self.begin(
                Method::POST,
                &path,
                &[],
                Some(body.to_string().into_bytes()),
            ));
        }
        while !under_way.is_empty() {
            take(under_way.join_next().await);
        }
        ids
    }

    /// Publishes these very bytes to an application; returns the message's id.
    pub async fn publish_text(&self, application: &str, event_type: &str, payload: &str) -> String {
        let body = format!(r#"{{"eventType":"{event_type}","payload":{payload}}}"#);
        let path = format!("/api/v1/app/{application}/msg");
        let answer = self.call(Method::POST, &path, &[], Some(body)).await;
        let message = answer.expect(202);
        message["id"].as_str().expect("an id").to_owned()
    }

    /// A delivery of another application: the worker has seen to all that was due before it.
    /// Whatever it would have sent or ended, it has.
    pub async fn round_trip(&self) {
        let receiver = Receiver::ok().await;
        let application = format!("round-trip-{}", receiver.port);
        let body = json!({ "url": receiver.url(), "profile": "standard" });
        self.endpoint_of(&application, body).await;
        self.publish_to(&application, "round.trip", json!({})).await;
        receiver.received(1).await;
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
        self.attempts_in("app", message).await
    }

    pub async fn attempts_in(&self, application: &str, message: &str) -> Vec<Value> {
        let path = format!("/api/v1/app/{application}/attempt/msg/{message}?limit=250");
        let list = self.get(&path).await;
        let mut attempts = list.expect(200)["data"].as_array().expect("a list").clone();
        attempts.reverse();
        attempts
    }

    /// `delivered`, or the failure's kind with the status where there was one.
    pub async fn outcomes(&self, message: &str) -> Vec<String> {
        self.outcomes_in("app", message).await
    }

    pub async fn outcomes_in(&self, application: &str, message: &str) -> Vec<String> {
        let attempts = self.attempts_in(application, message).await;
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

/// Flips a bit where these bytes stand for the first time in the journal's first file, in a copy of a server's
/// directory.
pub fn rot_in_journal(copy: &Path, text: &[u8]) {
    let file = copy.join("data/journal/0000000000000000.segment");
    let mut bytes = std::fs::read(&file).expect("it was copied");
    let at = memchr::memmem::find(&bytes, text).expect("the record is there as it is");
    bytes[at] ^= 1;
    std::fs::write(&file, bytes).expect("it can be written");
}

pub fn copy_directory(from: &Path, to: &Path) {
    try_copy(from, to).expect("it can be copied");
}

fn try_copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => try_copy(&entry.path(), &to)?,
            false => drop(std::fs::copy(entry.path(), to)?),
        }
    }
    Ok(())
}
