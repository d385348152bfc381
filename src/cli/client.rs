//! Commands that call a running server over its API, like any other client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::web::Bytes;
use awc::error::{ConnectError, SendRequestError};
use awc::http::{Method, StatusCode};
use rustls::ClientConfig;
use serde_json::{Value, json};

use super::pages::Pages;
use super::{Failure, Result, TOKEN_BYTES_MAX, printable, read_text, say};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::delivery;
use crate::domain::scope::Scope;
use crate::domain::token::Role;
use crate::domain::url;

/// Longest answer that is read; a page of tokens is shorter even where each has all its grants.
const ANSWER_MAX_BYTES: usize = 8 << 20;

const PAGE: usize = 100;

/// For how long a list is read: one whose items are always new may have no last page.
const LIST_TIME_MAX: Duration = Duration::from_secs(600);

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
    /// How long one answer may take, in seconds, to its last byte
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout_seconds: u64,
}

/// The server's answer, a success or a refusal.
pub struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
}

#[derive(clap::Args)]
pub struct Create {
    #[command(flatten)]
    connection: Connection,
    /// The purpose of the token
    #[arg(long)]
    name: String,
    /// Its role
    #[arg(long, value_parser = Role::ALL.map(Role::name), default_value = "owner")]
    role: String,
    /// An application (id or uid): the one of a token of the role application, one in which a token of
    /// the role webhook_user makes endpoints, or one that a token of another role is limited to; may be
    /// given repeatedly, but for the role application
    #[arg(long = "application", required_if_eq("role", "application"))]
    applications: Vec<String>,
    /// An endpoint (id, uid or number) that a token of the role webhook_user sees; may be given
    /// repeatedly
    #[arg(long = "endpoint")]
    endpoints: Vec<String>,
    /// When it ends: 2026-01-31T08:00:00Z
    #[arg(long, value_parser = instant)]
    expires_at: Option<Timestamp>,
    /// Its holder and use, for people
    #[arg(long)]
    description: Option<String>,
    /// A group of operations that it is limited to, within its role; may be given repeatedly
    #[arg(long = "scope", value_parser = Scope::ALL.map(Scope::name))]
    scopes: Vec<String>,
    /// A network or an address that it may be used from, 192.0.2.0/24; may be given repeatedly
    #[arg(long = "allowed-ip", value_name = "NETWORK")]
    allowed_ips: Vec<String>,
}

#[derive(clap::Args)]
pub struct Revoke {
    #[command(flatten)]
    connection: Connection,
    /// The token's id, tok_…
    id: String,
}

/// One grant, to be given or taken by the command.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("granted").required(true).args(["endpoint", "application"]))]
pub struct Grant {
    #[command(flatten)]
    connection: Connection,
    /// The id of a token of the role webhook_user, tok_…
    token_id: String,
    /// The endpoint's id, uid or number
    endpoint: Option<String>,
    /// An application (id or uid) in which the token makes endpoints, in place of an endpoint
    #[arg(long)]
    application: Option<String>,
}

impl Create {
    /// The token alone goes to standard output, so that a script can take it.
    pub fn run(&self, config: &Config) -> Result {
        let usage = |message: &str| Err(Failure::Usage(message.to_owned()));
        let is_user = self.role == Role::WebhookUser.name();
        let is_of_one = self.role == Role::Application.name();
        if is_of_one && self.applications.len() > 1 {
            return usage("a token of the role application has one --application");
        }
        if !self.endpoints.is_empty() && !is_user {
            return usage("--endpoint needs --role webhook_user");
        }
        let mut body = json!({ "name": self.name, "role": self.role });
        match self.applications.first() {
            Some(application) if is_of_one => body["applicationId"] = json!(application),
            Some(_) => body["applicationIds"] = json!(self.applications),
            None => {}
        }
        if let Some(description) = &self.description {
            body["description"] = json!(description);
        }
        for (field, values) in [("scopes", &self.scopes), ("allowedIps", &self.allowed_ips)] {
            if !values.is_empty() {
                body[field] = json!(values);
            }
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
    let begun = Instant::now();
    let mut list = Pages::of("/api/v1/token?".to_owned(), PAGE);
    while let Some(path) = list.path() {
        if begun.elapsed() > LIST_TIME_MAX {
            let limit = LIST_TIME_MAX.as_secs();
            let message = format!("the server's list of tokens did not end within {limit} s");
            return Err(Failure::failed(message));
        }
        let page = connection.call(config, Method::GET, &path, None)?;
        let tokens = page["data"].as_array().map_or(&[][..], Vec::as_slice);
        for token in tokens {
            say(&printable(&line(token)))?;
        }
        let ids = tokens.iter().map(|token| text(token, "id"));
        list.read(ids, page["iterator"].as_str(), page["done"].as_bool())
            .map_err(|why| Failure::failed(format!("the server's list of tokens {why}")))?;
    }
    Ok(())
}

/// A token in one line; its limits, if it has any, come last.
fn line(token: &Value) -> String {
    let mut line = format!(
        "{}  {:<13}  created {}  expires {}  {}  {}",
        text(token, "id"),
        text(token, "role"),
        text(token, "createdAt"),
        text(token, "expiresAt"),
        text(token, "applicationId"),
        text(token, "name"),
    );
    for (label, field) in [
        ("scopes", "scopes"),
        ("applications", "applicationIds"),
        ("from", "allowedIps"),
    ] {
        let values = token[field].as_array().into_iter().flatten();
        let values: Vec<&str> = values.filter_map(Value::as_str).collect();
        if !values.is_empty() {
            line += &format!("  {label} {}", values.join(","));
        }
    }
    if let Some(at) = token["lastUsedAt"].as_str() {
        line += &format!("  used {at}");
        if let Some(from) = token["lastUsedFrom"].as_str() {
            line += &format!(" from {from}");
        }
    }
    if let Some(description) = token["description"].as_str() {
        line += &format!("  ({description})");
    }
    line
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

fn instant(text: &str) -> std::result::Result<Timestamp, String> {
    let wrong = |_| "must be a date and time such as 2026-01-31T08:00:00Z".to_owned();
    text.parse().map_err(wrong)
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

    /// Sends one request with a JSON text as its body; returns any answer of the server.
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
        let limit = self.timeout();
        let exchange = async {
            let client = awc::Client::builder()
                .connector(awc::Connector::new().rustls_0_23(tls).timeout(limit))
                .disable_redirects()
                .disable_timeout()
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
                let why = no_answer(&error);
                Failure::failed(format!("cannot reach the server at {base}: {why}"))
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
        };
        // To the last byte of the body: a limit of awc's own ends with the head.
        let in_time = async { tokio::time::timeout(limit, exchange).await };
        let answered = actix_rt::System::new().block_on(in_time);
        answered.unwrap_or_else(|_| Err(too_slow(&base, limit)))
    }

    /// How long one answer may take.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds)
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

    /// The server's URL, and the credential for it.
    pub fn server(&self, config: &Config) -> Result<(String, String)> {
        Ok((self.base(config)?, self.credential(config)?))
    }

    fn base(&self, config: &Config) -> Result<String> {
        match &self.url {
            Some(url) => server_url("--url", url),
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
        match read_text(&path, TOKEN_BYTES_MAX) {
            Ok(token) => Ok(token.trim().to_owned()),
            Err(problem) => Err(Failure::failed(format!(
                "no --token, no POSTRIDER_TOKEN, and {problem}"
            ))),
        }
    }
}

/// The failure of a request whose answer did not come, or not whole.
pub fn too_slow(base: &str, limit: Duration) -> Failure {
    Failure::failed(format!(
        "the server at {base} did not answer within {} s (--timeout-seconds)",
        limit.as_secs_f64()
    ))
}

/// A server's URL as a flag gives it, without a slash at the end.
pub fn server_url(flag: &str, text: &str) -> Result<String> {
    let usage = |problem: &str| Failure::Usage(format!("{flag} {problem}"));
    let url = url::parse(text).map_err(|problem| usage(&problem))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(usage(
            "may not have a user name; the token is given by itself",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(usage("may not have a query or a fragment"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

impl Answer {
    /// The refusal, as a sentence for the user.
    pub fn refusal(&self) -> String {
        let answer = serde_json::from_slice(&self.body).unwrap_or(Value::Null);
        refusal(self.status, &answer)
    }
}

/// The server's reason for a refusal, as a sentence.
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

/// Prints a remark beside the output; a closed standard error changes nothing.
fn eprintln_quietly(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Why a request has no answer, in plain words.
pub fn no_answer(error: &SendRequestError) -> String {
    let reason = match error {
        SendRequestError::Connect(ConnectError::Io(cause)) => {
            // What is a receiver to deliveries is the server here.
            let of_tls = delivery::tls_problem(cause);
            return of_tls.map_or_else(
                || cause.to_string(),
                |told| told.replace("receiver", "server"),
            );
        }
        SendRequestError::Send(cause) => return format!("the connection broke: {cause}"),
        SendRequestError::Connect(
            ConnectError::Resolver(_) | ConnectError::NoRecords | ConnectError::Unresolved,
        ) => "its host's name does not resolve",
        SendRequestError::Connect(ConnectError::Disconnected) => {
            "the connection was closed before an answer came"
        }
        SendRequestError::Connect(ConnectError::Timeout) | SendRequestError::Timeout => {
            "connecting took too long"
        }
        SendRequestError::Response(_) => "what came back is not HTTP",
        other => return other.to_string(),
    };
    reason.to_owned()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn what_keeps_an_answer_away_is_told_without_names_of_a_library() {
        let of_tls = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let of_tls = io::Error::new(io::ErrorKind::InvalidData, of_tls);
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        for (error, expected) in [
            (
                SendRequestError::Connect(ConnectError::Io(of_tls)),
                "The issuer of the server's certificate is unknown; the server may have left out an \
                 intermediate certificate.",
            ),
            (
                SendRequestError::Connect(ConnectError::Io(refused)),
                "connection refused",
            ),
            (
                SendRequestError::Connect(ConnectError::NoRecords),
                "its host's name does not resolve",
            ),
            (
                SendRequestError::Connect(ConnectError::Disconnected),
                "the connection was closed before an answer came",
            ),
            (SendRequestError::Timeout, "connecting took too long"),
        ] {
            assert_eq!(no_answer(&error), expected);
        }
    }

    #[test]
    fn a_tokens_line_ends_with_its_limits() {
        let token = json!({
            "id": "tok_1", "role": "owner", "createdAt": "C", "expiresAt": null, "name": "n",
            "scopes": ["publish", "read"], "applicationIds": ["app_1"],
            "allowedIps": ["192.0.2.0/24"], "lastUsedAt": "U", "lastUsedFrom": "192.0.2.7",
            "description": "d",
        });
        let line = line(&token);
        let limits = "  n  scopes publish,read  applications app_1  from 192.0.2.0/24  used U from \
                      192.0.2.7  (d)";
        assert!(line.ends_with(limits), "{line}");
    }

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
