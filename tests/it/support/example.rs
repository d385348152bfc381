//! The systems that `examples/` ships: a server with the settings and the event types of one.

use serde_json::{Value, json};

use super::Server;

pub struct Example {
    name: &'static str,
    catalogue: toml::Table,
}

impl Example {
    pub fn named(name: &'static str) -> Example {
        let path = format!("examples/{name}/catalogue.toml");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let catalogue = text
            .parse()
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        Example { name, catalogue }
    }

    /// A server with the shipped settings; its organisation has the shipped event types.
    pub async fn start(&self) -> Server {
        let file = format!("examples/{}/config.toml", self.name);
        let server = Server::start_from(&file, |_| ()).await;
        for event_type in self.event_types() {
            let example: Value = serde_json::from_str(text(event_type, "example")).expect("JSON");
            let body = json!({
                "name": text(event_type, "name"),
                "description": text(event_type, "description"),
                "example": example,
            });
            server.post("/api/v1/event-type", body).await.expect(201);
        }
        server
    }

    pub fn names(&self) -> Vec<&str> {
        self.event_types().map(|one| text(one, "name")).collect()
    }

    /// An event type's payload as it stands in the file, but for the lines around it.
    #[track_caller]
    pub fn payload(&self, event_type: &str) -> &str {
        let found = self
            .event_types()
            .find(|one| text(one, "name") == event_type);
        text(found.expect("it ships this event type"), "example").trim()
    }

    fn event_types(&self) -> impl Iterator<Item = &toml::Value> {
        let list = self.catalogue["event_types"].as_array();
        list.expect("a list of event types").iter()
    }
}

fn text<'a>(table: &'a toml::Value, key: &str) -> &'a str {
    table[key].as_str().expect("a text")
}
