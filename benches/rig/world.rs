//! One server on a fresh store, a sink, and an application to publish to.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::Options;
use super::load::{EVENT_TYPE, Load, Published};
use super::process::{Launch, Server};
use super::sink::Sink;

pub const PAYLOAD_BYTES: usize = 1_024;

pub struct World {
    // Dropped in this order: the server, then its receiver, then its data.
    pub server: Server,
    pub sink: Sink,
    launch: Launch,
    directory: TempDir,
    application: String,
    /// Of every payload, beside the benchmark's own.
    pub members: String,
    pub payload_bytes: usize,
}

impl World {
    /// With the caller's settings, which prevail over the benchmark's own.
    pub fn start(options: &Options, own: &[(&str, u64)]) -> World {
        World::start_with_file(options, own, "")
    }

    /// The same with the text of a `config.toml`, over which both prevail.
    pub fn start_with_file(options: &Options, own: &[(&str, u64)], file: &str) -> World {
        World::start_in(options, own, file, &[])
    }

    /// The same with variables of the environment that are not settings.
    pub fn start_in(
        options: &Options,
        own: &[(&str, u64)],
        file: &str,
        environment: &[(&str, String)],
    ) -> World {
        let directory = options.scratch();
        // The server runs in this directory and reads the file there.
        std::fs::write(directory.path().join("config.toml"), file).expect("a file can be written");
        let launch =
            Launch::new(directory.path().join("data")).ready_within(Duration::from_secs(600));
        let launch = match &options.binary {
            Some(path) => launch.binary(path),
            None => launch,
        };
        let launch = environment
            .iter()
            .fold(launch, |launch, (name, value)| launch.env(name, value));
        let launch = own.iter().fold(launch, |launch, (setting, value)| {
            launch.set(setting, value)
        });
        let launch = options
            .settings
            .iter()
            .fold(launch, |launch, (setting, value)| {
                launch.set(setting, value)
            });
        let server = launch.start();
        let event_type = json!({ "name": EVENT_TYPE, "description": "of the benchmark" });
        server
            .api
            .call("POST", "/api/v1/event-type", &event_type, 201);
        let application = add_application(&server);
        World {
            server,
            sink: Sink::start(),
            launch,
            directory,
            application,
            members: String::new(),
            payload_bytes: PAYLOAD_BYTES,
        }
    }

    pub fn data(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// Kills the server and starts it again on the same data.
    pub fn restart(&mut self) {
        self.server.process.kill();
        self.server = self.launch.start();
    }

    /// Turns to a new application: endpoints and messages are from now on those of this one.
    pub fn next_application(&mut self) {
        self.application = add_application(&self.server);
    }

    /// Adds an endpoint; returns its path in the API.
    pub fn endpoint(&self, url: &str) -> String {
        let path = format!("/api/v1/app/{}/endpoint", self.application);
        let endpoint = self
            .server
            .api
            .call("POST", &path, &json!({ "url": url }), 201);
        format!("{path}/{}", text(&endpoint["id"]))
    }

    pub fn patch(&self, endpoint: &str, change: &Value) {
        self.server.api.call("PATCH", endpoint, change, 200);
    }

    pub fn load(&self, messages: u64, connections: usize, rate: Option<f64>) -> Load {
        Load {
            address: self.server.api.address,
            path: format!("/api/v1/app/{}/msg", self.application),
            token_path: Some(self.server.token_path.clone()),
            connections,
            messages,
            at_a_time: 1,
            rate,
            payload_bytes: self.payload_bytes,
            members: self.members.clone(),
        }
    }

    /// As fast as they are accepted, through 64 connections.
    pub fn flood(&self, messages: u64) -> Published {
        self.load(messages, 64, None).publish()
    }

    /// Fills a store: a hundred messages in each request, of which `messages` is a multiple.
    pub fn fill(&self, messages: u64) -> Published {
        let mut load = self.load(messages, 8, None);
        load.at_a_time = 100;
        load.publish()
    }

    /// At a fixed rate.
    pub fn pace(&self, messages: u64, rate: f64) -> Published {
        self.load(messages, 16, Some(rate)).publish()
    }

    /// Opens connections and fills caches; what it sends is not counted.
    pub fn warm_up(&self, endpoints: usize) {
        const MESSAGES: u64 = 300;
        self.flood(MESSAGES);
        self.sink.wait(0..endpoints, MESSAGES * endpoints as u64);
        self.sink.reset();
    }
}

fn add_application(server: &Server) -> String {
    let application = server
        .api
        .call("POST", "/api/v1/app", &json!({ "name": "bench" }), 201);
    text(&application["id"]).to_owned()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("an id is text")
}
