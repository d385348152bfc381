//! The names of request headers that neither an endpoint nor a profile may choose.
//!
//! One list for both, and for the renderer, so that no header is accepted and then silently not
//! sent. Names are in lower case.

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
