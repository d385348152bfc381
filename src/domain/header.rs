//! The names of request headers that neither an endpoint nor a profile may choose.
//!
//! The same for messages, which may have fewer. One list for all, and for the renderer, so that no header is accepted and then silently not
//! sent. Names are in lower case.

use super::endpoint::is_sensitive;

/// Headers of the connection, the framing or the moment of a request.
const OF_HTTP: [&str; 11] = [
    "connection",
    "content-length",
    "date",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "trailers",
    "transfer-encoding",
    "upgrade",
];

/// Prefixes of names by which a receiver knows who signed or carried the request.
const OF_THE_SIGNATURE: [&str; 4] = ["webhook-", "svix-", "x-svix-", "x-amzn-"];

/// Headers that say how the request itself is to be read and answered.
const OF_THE_REQUEST: [&str; 5] = [
    "accept",
    "accept-encoding",
    "content-encoding",
    "content-type",
    "user-agent",
];

/// The longest name of a header.
const NAME_BYTES_MAX: usize = 256;

/// Whether HTTP itself needs the header, so that the server alone sets it.
pub fn belongs_to_http(name: &str) -> bool {
    OF_HTTP.contains(&name) || name.starts_with("proxy-")
}

/// Whether an endpoint may not have it as a header of its own.
pub fn is_reserved(name: &str) -> bool {
    belongs_to_http(name)
        || OF_THE_SIGNATURE
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// Why no message may have a header of this name, in lower case, whatever the operator allows.
pub fn never_of_a_message(name: &str) -> Option<&'static str> {
    if is_reserved(name) {
        return Some("is a header that the server sets itself");
    }
    if OF_THE_REQUEST.contains(&name) {
        return Some("belongs to the request, and a message does not set it");
    }
    let may_be_secret = is_sensitive(name) || name == "set-cookie";
    may_be_secret.then_some("may be a secret, and the headers of messages are kept and shown")
}

/// Whether the operator may allow messages to have a header of this name.
pub fn may_be_of_a_message(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(is_token)
        && never_of_a_message(&name.to_ascii_lowercase()).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_allows_names_that_are_neither_reserved_nor_secret() {
        for (name, expected) in [
            ("traceparent", true),
            ("X-Correlation-Id", true),
            ("", false),
            ("a b", false),
            ("Host", false),
            ("Webhook-Id", false),
            ("Proxy-Thing", false),
            ("Content-Type", false),
            ("Authorization", false),
            ("Cookie", false),
            ("Set-Cookie", false),
            ("X-Api-Key", false),
            ("X-Secret", false),
        ] {
            assert_eq!(may_be_of_a_message(name), expected, "{name}");
        }
    }
}
