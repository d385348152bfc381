//! `[server]`: where to listen, threads, the time to stop, and whose word counts for where a request
//! comes from.

use std::net::SocketAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::setting::{Rule, Setting, optional, reads, setting, text, texts, whole};
use crate::domain::url;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServerSection {
    pub listen: SocketAddr,
    /// Threads that parse requests.
    pub workers: usize,
    pub drain_seconds: u64,
    /// Without progress of an answer.
    pub answer_stall_seconds: u64,
    /// A second listener for `/metrics` without a credential.
    pub metrics_listen: Option<SocketAddr>,
    /// The URL of the server from outside; `http://` and `listen` where not set.
    pub public_url: Option<String>,
    /// Which origins browsers let call the API: `*` is any.
    pub cors_origins: Vec<String>,
    /// Whose word counts for where a request comes from.
    #[serde(deserialize_with = "super::setting::networks")]
    pub trusted_proxies: Vec<IpNet>,
    pub client_address_header: ClientAddressHeader,
}

pub(super) const SETTINGS: &[Setting] = &[
    setting("listen", address()),
    setting("workers", whole(1..=256)),
    setting("drain_seconds", whole(0..=3600)),
    setting("answer_stall_seconds", whole(1..=3600)),
    optional("metrics_listen", address()),
    optional(
        "public_url",
        text(
            is_base_url,
            "must be an http or https URL without user name, query and fragment",
        ),
    ),
    setting(
        "cors_origins",
        texts(
            |text| text == "*" || is_origin(text),
            "must be '*' or origins such as 'https://example.com', without a slash at the end",
        ),
    ),
    setting(
        "trusted_proxies",
        Rule::Networks {
            not_all: Some("every client would be a trusted proxy"),
        },
    ),
    setting(
        "client_address_header",
        text(
            reads::<ClientAddressHeader>,
            "must be one of X-Forwarded-For, Forwarded",
        ),
    ),
];

const fn address() -> Rule {
    text(
        reads::<SocketAddr>,
        "must be an address and a port such as '127.0.0.1:8071'",
    )
}

/// The header in which trusted proxies write the address of their client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientAddressHeader {
    #[serde(rename = "X-Forwarded-For")]
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

impl ServerSection {
    /// Why links to the portal may lead nowhere; nothing where `public_url` is set.
    pub fn link_problem(&self) -> Option<String> {
        self.public_url.is_none().then(|| {
            format!(
                "links to the portal begin with {}, which only this machine may reach: set \
                 server.public_url",
                self.public_url()
            )
        })
    }

    /// The URL of the server from outside, without a slash at the end.
    pub fn public_url(&self) -> String {
        match &self.public_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("http://{}", self.listen),
        }
    }
}

/// Whether browsers send such a text as `Origin`: `https://host:port`.
pub(super) fn is_origin(text: &str) -> bool {
    url::parse(text).is_ok_and(|url| url.origin().ascii_serialization() == text)
}

fn is_base_url(text: &str) -> bool {
    url::parse(text).is_ok_and(|url| {
        let is_anybodys = url.username().is_empty() && url.password().is_none();
        is_anybodys && url.query().is_none() && url.fragment().is_none()
    })
}
