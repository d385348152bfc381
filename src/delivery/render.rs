//! An endpoint and a message → the request that is sent.
//!
//! The two built-in profiles, `standard` and `svix`, differ in the names of three headers. This is
//! the hot path: what an endpoint's requests have in common is made once and kept for the next
//! one, for as long as the endpoint stays as it was. Pure, but for that memory.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use actix_web::http::Uri;
use actix_web::http::header::{
    AUTHORIZATION, CONTENT_TYPE, DATE, HOST, HeaderMap, HeaderName, HeaderValue, HttpDate,
    USER_AGENT,
};
use actix_web::web::Bytes;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use url::Url;

use super::sign::Signer;
use super::trace::failure;
use crate::clock::Timestamp;
use crate::domain::attempt::{Failure, FailureKind};
use crate::domain::endpoint::{BasicAuth, Endpoint, EndpointSecret, is_sensitive};
use crate::domain::message::Message;

pub const PRODUCT: &str = concat!("postrider/", env!("CARGO_PKG_VERSION"));

/// Endpoints whose common part is kept; at one to two KiB each.
const ENDPOINTS_KEPT: usize = 4096;

/// Headers that belong to the connection or to the framing of the request: an endpoint's own are
/// left out. `expect` would have the client wait for an interim answer.
const RESERVED: [&str; 10] = [
    "connection",
    "content-length",
    "date",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What a request looks like, as far as it is not the endpoint's.
#[derive(Clone, Debug)]
pub struct Profile {
    id: HeaderName,
    timestamp: HeaderName,
    signature: HeaderName,
}

impl Profile {
    pub fn named(name: &str) -> Option<Profile> {
        let [id, timestamp, signature] = match name {
            "standard" => ["webhook-id", "webhook-timestamp", "webhook-signature"],
            "svix" => ["svix-id", "svix-timestamp", "svix-signature"],
            _ => return None,
        };
        Some(Profile {
            id: HeaderName::from_static(id),
            timestamp: HeaderName::from_static(timestamp),
            signature: HeaderName::from_static(signature),
        })
    }

    fn reserves(&self, name: &HeaderName) -> bool {
        RESERVED.contains(&name.as_str())
            || [&self.id, &self.timestamp, &self.signature].contains(&name)
    }
}

/// A request, ready to be sent.
pub struct Request {
    pub https: bool,
    /// Always `http://`: TLS is the connector's.
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The headers as the log shows them.
    pub shown: Vec<(String, String)>,
}

pub struct Renderer {
    profile: Profile,
    https_only: bool,
    kept: RefCell<HashMap<u64, Rc<Prepared>>>,
}

/// What an endpoint's requests have in common.
struct Prepared {
    source: Source,
    https: bool,
    uri: Uri,
    headers: HeaderMap,
    shown: Vec<(String, String)>,
    signer: Signer,
}

/// What of an endpoint its requests are made from. Compared before every use, so that what is kept
/// can never be older than the endpoint.
struct Source {
    url: String,
    secrets: Vec<EndpointSecret>,
    headers: BTreeMap<String, String>,
    basic_auth: Option<BasicAuth>,
}

impl Renderer {
    pub fn new(profile: Profile, https_only: bool) -> Renderer {
        Renderer {
            profile,
            https_only,
            kept: RefCell::default(),
        }
    }

    /// The request for this message, signed at the time `now`.
    pub fn render(
        &self,
        endpoint: &Endpoint,
        message: &Message,
        now: Timestamp,
    ) -> Result<Request, Failure> {
        let prepared = self.prepared(endpoint)?;
        let id = message.id.to_string();
        let timestamp = now.as_seconds().to_string();
        let signature = prepared.signer.sign(&id, now, &message.payload);
        if signature.is_empty() {
            return Err(not_sendable("The endpoint has no signing secret."));
        }
        let date = HttpDate::from(UNIX_EPOCH + Duration::from_secs(now.as_seconds())).to_string();

        let mut headers = prepared.headers.clone();
        let mut shown = Vec::with_capacity(prepared.shown.len() + 5);
        shown.extend_from_slice(&prepared.shown);
        for (name, value) in [
            (&self.profile.id, id),
            (&self.profile.timestamp, timestamp),
            (&self.profile.signature, signature),
            (&DATE, date),
        ] {
            let value_sent = HeaderValue::try_from(value.as_str())
                .map_err(|_| not_sendable("A signature header cannot be sent."))?;
            headers.insert(name.clone(), value_sent);
            shown.push((name.as_str().to_owned(), value));
        }
        // The client adds this one itself.
        let length = message.payload.len().to_string();
        shown.push(("content-length".to_owned(), length));
        Ok(Request {
            https: prepared.https,
            uri: prepared.uri.clone(),
            headers,
            body: message.payload.clone(),
            shown,
        })
    }

    fn prepared(&self, endpoint: &Endpoint) -> Result<Rc<Prepared>, Failure> {
        if let Some(prepared) = self.kept.borrow().get(&endpoint.number)
            && prepared.source.is_of(endpoint)
        {
            return Ok(prepared.clone());
        }
        let prepared = Rc::new(Prepared::new(endpoint, &self.profile, self.https_only)?);
        let mut kept = self.kept.borrow_mut();
        if kept.len() >= ENDPOINTS_KEPT {
            kept.clear();
        }
        kept.insert(endpoint.number, prepared.clone());
        Ok(prepared)
    }
}

impl Source {
    fn of(endpoint: &Endpoint) -> Source {
        Source {
            url: endpoint.url.clone(),
            secrets: endpoint.secrets.clone(),
            headers: endpoint.headers.clone(),
            basic_auth: endpoint.basic_auth.clone(),
        }
    }

    fn is_of(&self, endpoint: &Endpoint) -> bool {
        self.url == endpoint.url
            && self.secrets == endpoint.secrets
            && self.headers == endpoint.headers
            && self.basic_auth == endpoint.basic_auth
    }
}

impl Prepared {
    fn new(endpoint: &Endpoint, profile: &Profile, https_only: bool) -> Result<Prepared, Failure> {
        let Target { https, uri, host } = target(&endpoint.url)?;
        if https_only && !https {
            return Err(not_sendable("The URL is http, and only https is allowed."));
        }
        let mut headers = HeaderMap::new();
        headers.insert(HOST, header_value("host", &host)?);
        headers.insert(USER_AGENT, HeaderValue::from_static(PRODUCT));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(BasicAuth { username, password }) = &endpoint.basic_auth {
            let credentials = STANDARD.encode(format!("{username}:{password}"));
            let value = header_value("authorization", &format!("Basic {credentials}"))?;
            headers.insert(AUTHORIZATION, value);
        }
        for (name, value) in &endpoint.headers {
            let sent_name = HeaderName::try_from(name.as_str())
                .map_err(|_| not_sendable("The name of a header cannot be sent."))?;
            if !profile.reserves(&sent_name) {
                headers.insert(sent_name, header_value(name, value)?);
            }
        }
        let mut shown: Vec<(String, String)> = headers
            .iter()
            .map(|(name, value)| {
                let value = match is_sensitive(name.as_str()) {
                    true => "***".to_owned(),
                    false => String::from_utf8_lossy(value.as_bytes()).into_owned(),
                };
                (name.as_str().to_owned(), value)
            })
            .collect();
        // The map has no order; the log should have one.
        shown.sort();
        Ok(Prepared {
            source: Source::of(endpoint),
            https,
            uri,
            headers,
            shown,
            signer: Signer::new(&endpoint.secrets),
        })
    }
}

struct Target {
    https: bool,
    uri: Uri,
    /// The `host` header: with the port unless it is the scheme's.
    host: String,
}

fn target(url: &str) -> Result<Target, Failure> {
    let url = Url::parse(url).map_err(|_| not_sendable("The URL is not one."))?;
    let https = match url.scheme() {
        "https" => true,
        "http" => false,
        _ => return Err(not_sendable("The URL is neither http nor https.")),
    };
    let (Some(name), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Err(not_sendable("The URL has no host."));
    };
    let host = match url.port() {
        Some(port) => format!("{name}:{port}"),
        None => name.to_owned(),
    };
    let path_and_query = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let uri = Uri::builder()
        .scheme("http")
        .authority(format!("{name}:{port}"))
        .path_and_query(path_and_query)
        .build()
        .map_err(|_| not_sendable("The URL has characters that cannot be sent."))?;
    Ok(Target { https, uri, host })
}

fn header_value(name: &str, value: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::try_from(value)
        .map_err(|_| not_sendable(&format!("The value of the header {name} cannot be sent.")))?;
    value.set_sensitive(is_sensitive(name));
    Ok(value)
}

fn not_sendable(detail: &str) -> Failure {
    failure(FailureKind::NotSendable, detail)
}
