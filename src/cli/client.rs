//! Commands that call a running server over its API, like any other client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Bytes;
use awc::http::{Method, StatusCode};
use rustls::ClientConfig;
use serde_json::{Value, json};

use super::{Failure, Result, printable, say};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::delivery;
use crate::domain::token::Role;

/// How long the server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Longest answer that is read; a page of tokens is below, whatever was granted to them.
const ANSWER_MAX_BYTES: usize = 8 << 20;

const PAGE: usize = 100;

#[derive(clap::Args)]
pub struct Connection {
    /// The server, http:// or https:// [default: server.listen of the settings]
    #[arg(long)]
    url: Option<String>,
    /// A PEM file with certificates to trust beside the system's, for --url [default:
    /// delivery.extra_ca_file]
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// An owner token [default: the file owner.token in the data directory]
    #[arg(long, env = "POSTRIDER_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

/// What the server answered, be it a success or a refusal.
pub struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
}

#[derive(clap::Args)]
pub struct Create {
    #[command(flatten)]
    connection: Connection,
    /// What the token is for
    #[arg(long)]
    name: String,
    /// What it allows
    #[arg(long, value_parser = Role::ALL.map(Role::name), default_value = "owner")]
    role: String,
    /// The application (id or uid) that a token of the role application is limited to, or one in which
    /// a token of the role webhook_user makes endpoints; may be given repeatedly for that
    #[arg(long = "application", required_if_eq("role", "application"))]
    applications: Vec<String>,
    /// An endpoint (id, uid or number) that a token of the role webhook_user sees; may be given
    /// repeatedly
    #[arg(long = "endpoint")]
    endpoints: Vec<String>,
    /// When it ends: 2026-01-31T08:00:00Z
    #[arg(long)]
    expires_at: Option<Timestamp>,
}

#[derive(clap::Args)]
pub struct Revoke {
    #[command(flatten)]
    connection: Connection,
    /// The token's id, tok_…
    id: String,
}

/// One grant; which command it stands under says whether it is given or taken.
#[derive(clap::Args)]
pub struct Grant {
    #[command(flatten)]
    connection: Connection,
    /// The id of a token of the role webhook_user, tok_…
    token_id: String,
    /// The endpoint's id, uid or number
    #[arg(required_unless_present = "application")]
    endpoint: Option<String>,
    /// An application (id or uid) in which the token makes endpoints, in place of an endpoint
    #[arg(long, conflicts_with = "endpoint")]
    application: Option<String>,
}

impl Create {
    /// The token alone goes to standard output, so that a script can take it.
    pub fn run(&self, config: &Config) -> Result {
        let usage = |message: &str| Err(Failure::Usage(message.to_owned()));
        let is_user = self.role == Role::WebhookUser.name();
        match self.applications.len() {
            0 => {}
            1 if self.role == Role::Application.name() => {}
            _ if is_user => {}
            1 => return usage("--application needs --role application or webhook_user"),
            _ => return usage("--application may be repeated with --role webhook_user alone"),
        }
        if !self.endpoints.is_empty() && !is_user {
            return usage("--endpoint needs --role webhook_user");
        }
        let mut body = json!({ "name": self.name, "role": self.role });
        match self.applications.first() {
            Some(_) if is_user => body["applicationIds"] = json!(self.applications),
            Some(application) => body["applicationId"] = json!(application),
            None => {}
        }
        if !self.endpoints.is_empty() {
            body["endpointIds"] = json!(self.endpoints);
        }
        if let Some(end) = self.expires_at {
            body["expiresAt"] = json!(end.to_string());
        }
        let answer = self
            .connection
            .call(config, Method::POST, "/api/v1/token", Some(body))?;
        eprintln_quietly(&format!("made {}", text(&answer, "id")));
        match answer["token"].as_str() {
            Some(token) => say(token),
            None => Err(Failure::failed("the server's answer holds no token")),
        }
    }
}

pub fn list(connection: &Connection, config: &Config) -> Result {
    let mut iterator: Option<String> = None;
    loop {
        let path = match &iterator {
            Some(place) => format!("/api/v1/token?limit={PAGE}&iterator={place}"),
            None => format!("/api/v1/token?limit={PAGE}"),
        };
        let page = connection.call(config, Method::GET, &path, None)?;
        for token in page["data"].as_array().into_iter().flatten() {
            say(&printable(&format!(
                "{}  {:<13}  created {}  expires {}  {}  {}",
                text(token, "id"),
                text(token, "role"),
                text(token, "createdAt"),
                text(token, "expiresAt"),
                text(token, "applicationId"),
                text(token, "name"),
            )))?;
        }
        let next = page["iterator"].as_str().map(str::to_owned);
        if page["done"].as_bool() != Some(false) || next.is_none() || next == iterator {
            return Ok(());
        }
        iterator = next;
    }
}

impl Revoke {
    pub fn run(&self, config: &Config) -> Result {
        let path = format!("/api/v1/token/{}", id_in_path(&self.id)?);
        self.connection.call(config, Method::DELETE, &path, None)?;
        say(&format!("revoked {}", self.id))
    }
}

impl Grant {
    pub fn give(&self, config: &Config) -> Result {
        self.call(config, Method::PUT)?;
        let token = &self.token_id;
        match &self.application {
            Some(application) => say(&format!("{token} may make endpoints in {application}")),
            None => say(&format!("{token} sees {}", self.endpoint())),
        }
    }

    pub fn take(&self, config: &Config) -> Result {
        self.call(config, Method::DELETE)?;
        let token = &self.token_id;
        match &self.application {
            Some(application) => say(&format!("{token} makes no more endpoints in {application}")),
            None => say(&format!(
                "{token} does not see {} any more",
                self.endpoint()
            )),
        }
    }

    fn endpoint(&self) -> &str {
        self.endpoint.as_deref().unwrap_or_default()
    }

    fn call(&self, config: &Config, method: Method) -> Result<Value> {
        let token = id_in_path(&self.token_id)?;
        let path = match &self.application {
            Some(application) => {
                format!(
                    "/api/v1/token/{token}/application/{}",
                    name_in_path(application)?
                )
            }
            None => format!(
                "/api/v1/token/{token}/endpoint/{}",
                name_in_path(self.endpoint())?
            ),
        };
        self.connection.call(config, method, &path, None)
    }
}

/// An id goes into a path as it is, so it must not be able to change it.
fn id_in_path(id: &str) -> Result<&str> {
    let is_id = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    match !id.is_empty() && id.bytes().all(is_id) {
        true => Ok(id),
        false => Err(Failure::Usage(format!("'{id}' is not an id"))),
    }
}

/// The same for a uid, which may have hyphens and points.
fn name_in_path(name: &str) -> Result<&str> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let is_a_way = name.bytes().all(|byte| byte == b'.');
    match !is_a_way && name.bytes().all(is_name) {
        true => Ok(name),
        false => Err(Failure::Usage(format!("'{name}' is not an id or uid"))),
    }
}

impl Connection {
    /// One request that must succeed; the answer's JSON, or null where it has no body.
    fn call(
        &self,
        config: &Config,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value> {
        let body = body.map(|value| value.to_string());
        let answer = self.request(config, method, path, body)?;
        match answer.status.is_success() {
            true => Ok(serde_json::from_slice(&answer.body).unwrap_or(Value::Null)),
            false => Err(Failure::Failed(answer.refusal())),
        }
    }

    /// One request with a JSON text as its body, and whatever the server answers.
    pub fn request(
        &self,
        config: &Config,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Answer> {
        let base = self.base(config)?;
        let token = self.credential(config)?;
        let tls = self.tls(config)?;
        actix_rt::System::new().block_on(async {
            let client = awc::Client::builder()
                .connector(awc::Connector::new().rustls_0_23(tls).timeout(TIMEOUT))
                .disable_redirects()
                .timeout(TIMEOUT)
                .finish();
            let request = client
                .request(method, format!("{base}{path}"))
                .bearer_auth(token);
            let sent = match body {
                Some(body) => {
                    let request = request.content_type("application/json");
                    request.send_body(body).await
                }
                None => request.send().await,
            };
            let mut answer = sent.map_err(|error| {
                Failure::failed(format!("cannot reach the server at {base}: {error}"))
            })?;
            let status = answer.status();
            let body = answer
                .body()
                .limit(ANSWER_MAX_BYTES)
                .await
                .map_err(|error| {
                    Failure::failed(format!("the answer of {base} broke off: {error}"))
                })?;
            Ok(Answer { status, body })
        })
    }

    /// Which certificates of the server are trusted.
    pub fn tls(&self, config: &Config) -> Result<Arc<ClientConfig>> {
        let file = self.ca_file.as_ref();
        let file = file.or(config.delivery.extra_ca_file.as_ref());
        let name = match self.ca_file {
            Some(_) => "--ca-file",
            None => "delivery.extra_ca_file",
        };
        delivery::tls::client_config(name, file.map(PathBuf::as_path))
            .map(Arc::new)
            .map_err(Failure::failed)
    }

    /// Where the server is, and what to say who we are.
    pub fn server(&self, config: &Config) -> Result<(String, String)> {
        Ok((self.base(config)?, self.credential(config)?))
    }

    fn base(&self, config: &Config) -> Result<String> {
        match &self.url {
            Some(url) if url.starts_with("http://") || url.starts_with("https://") => {
                Ok(url.trim_end_matches('/').to_owned())
            }
            Some(_) => Err(Failure::Usage(
                "--url must start with https:// or http://".to_owned(),
            )),
            None => {
                let mut address = config.server.listen;
                if address.ip().is_unspecified() {
                    address.set_ip(match address.ip() {
                        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
                    });
                }
                Ok(format!("http://{address}"))
            }
        }
    }

    fn credential(&self, config: &Config) -> Result<String> {
        if let Some(token) = &self.token {
            return Ok(token.trim().to_owned());
        }
        let path = config.store.path.join("owner.token");
        match std::fs::read_to_string(&path) {
            Ok(token) => Ok(token.trim().to_owned()),
            Err(error) => Err(Failure::failed(format!(
                "no --token, no POSTRIDER_TOKEN, and cannot read {}: {error}",
                path.display()
            ))),
        }
    }
}

impl Answer {
    /// The sentence for whoever asked for what was refused.
    pub fn refusal(&self) -> String {
        let answer = serde_json::from_slice(&self.body).unwrap_or(Value::Null);
        refusal(self.status, &answer)
    }
}

/// What the server said about a request that it did not carry out.
pub fn refusal(status: StatusCode, answer: &Value) -> String {
    let detail = match &answer["detail"] {
        Value::String(text) => text.clone(),
        Value::Array(problems) => problems
            .iter()
            .map(|problem| {
                let place: Vec<&str> = problem["loc"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .collect();
                format!("{}: {}", place.join("."), text(problem, "msg"))
            })
            .collect::<Vec<_>>()
            .join("; "),
        _ => "no reason given".to_owned(),
    };
    printable(&format!("the server answered {status}: {detail}"))
}

/// A field to show; `-` where it is absent.
fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or("-")
}

/// For what accompanies the output; nobody may be listening.
fn eprintln_quietly(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_cannot_change_the_path_that_it_stands_in() {
        for (id, good) in [
            ("tok_2f", true),
            ("", false),
            ("..", false),
            ("a/b", false),
            ("a?b", false),
            ("a%2fb", false),
        ] {
            assert_eq!(id_in_path(id).is_ok(), good, "{id}");
        }
    }

    #[test]
    fn a_refusal_is_told_with_its_reason() {
        for (answer, expected) in [
            (
                json!({ "code": "not_found", "detail": "Entity not found" }),
                "the server answered 404 Not Found: Entity not found",
            ),
            (
                json!({ "detail": [{ "loc": ["body", "role"], "msg": "unknown", "type": "value_error" }] }),
                "the server answered 404 Not Found: body.role: unknown",
            ),
            (
                Value::Null,
                "the server answered 404 Not Found: no reason given",
            ),
        ] {
            assert_eq!(refusal(StatusCode::NOT_FOUND, &answer), expected);
        }
    }
}
