//! The URLs that requests can be sent to.
//!
//! The only parser of these URLs. An endpoint's URL is checked here when it is registered, and
//! again when a request is made; commands check the URL that they call. So a URL that was
//! registered can be sent to. The address behind the host is checked at each connection, not here.

use http::Uri;
use url::{Host, ParseError, Position, Url};

/// RFC 1035, section 2.3.4.
const LABEL_BYTES_MAX: usize = 63;
const NAME_BYTES_MAX: usize = 253;

/// Parses an absolute http(s) URL to which a request can be sent. The error continues a sentence
/// that begins with the URL.
pub fn parse(text: &str) -> Result<Url, String> {
    // The parser would drop these without an error, and the URL would not be the one that was
    // given.
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("may not contain spaces or control characters".to_owned());
    }
    if text.contains('\\') {
        return Err("may not contain a backslash, which would count as a slash".to_owned());
    }
    let url = Url::parse(text).map_err(|error| explained(error).to_owned())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must be http or https".to_owned());
    }
    // The parser would take what follows, whatever the number of slashes, for the host.
    let after_scheme = text.get(url.scheme().len()..).unwrap_or_default();
    if !matches!(after_scheme.as_bytes(), [b':', b'/', b'/', first, ..] if *first != b'/') {
        return Err("must have a host, after two slashes".to_owned());
    }
    if let Some(Host::Domain(name)) = url.host() {
        check_name(name, url.scheme() == "https")?;
    }
    if url.port() == Some(0) {
        return Err("has the port 0, at which nobody can listen".to_owned());
    }
    request_uri(&url).map(|_| url)
}

/// Returns the URI of a request to the URL. It is always `http://` and has a port, because the
/// connector adds TLS. The error continues a sentence that begins with the URL.
pub fn request_uri(url: &Url) -> Result<Uri, String> {
    let (Some(name), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Err("must have a host".to_owned());
    };
    Uri::builder()
        .scheme("http")
        .authority(format!("{name}:{port}"))
        .path_and_query(&url[Position::BeforePath..Position::AfterQuery])
        .build()
        .map_err(|_| "has characters that cannot be sent".to_owned())
}

fn explained(error: ParseError) -> &'static str {
    match error {
        ParseError::EmptyHost => "must have a host",
        ParseError::InvalidPort => "has a port that is not a number from 1 to 65535",
        ParseError::InvalidIpv4Address => "has an IPv4 address that is not valid",
        ParseError::InvalidIpv6Address => "has an IPv6 address that is not valid",
        ParseError::InvalidDomainCharacter | ParseError::IdnaError => {
            "has a host with a character that no host name has, or an international name that is not \
             valid"
        }
        _ => "must be an absolute URL such as https://example.com/webhooks",
    }
}

/// A name that DNS can hold and, for https, that a certificate can be for.
fn check_name(name: &str, is_https: bool) -> Result<(), String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if let Some(wrong) = name.chars().find(|c| !fits(*c)) {
        return Err(format!(
            "has a host with '{wrong}': host names are letters, digits, '-', '_' and points"
        ));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(format!(
            "has a host name of more than {NAME_BYTES_MAX} characters"
        ));
    }
    for label in name.split('.') {
        if label.is_empty() {
            return Err("has a host name with nothing between two points".to_owned());
        }
        if label.len() > LABEL_BYTES_MAX {
            return Err(format!(
                "has a host name with more than {LABEL_BYTES_MAX} characters between two points"
            ));
        }
        if is_https && (label.starts_with('-') || label.ends_with('-')) {
            return Err(format!(
                "has '{label}' in its host, for which there can be no certificate: it may not \
                 begin or end with '-'"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustls::pki_types::ServerName;

    #[test]
    fn what_cannot_be_sent_is_refused_with_what_is_wrong_and_where() {
        for (text, part) in [
            ("http://a{b}.test/", "a host with '{'"),
            ("http://a`b.test/", "a host with '`'"),
            ("http://a\"b.test/", "a host with '\"'"),
            ("http://a!b.test/", "a host with '!'"),
            ("http://a,b.test/", "a host with ','"),
            ("http://a*b.test/", "a host with '*'"),
            ("http://a~b.test/", "a host with '~'"),
            ("http://a|b.test/", "a character that no host name has"),
            ("http://a%20b.test/", "a character that no host name has"),
            ("http://xn--a.test/", "an international name"),
            ("http://a..test/", "between two points"),
            ("http://.test/", "between two points"),
            ("http://./", "between two points"),
            ("https://-a.test/", "'-a' in its host"),
            ("https://a-.test/", "'a-' in its host"),
            ("http://a.test:0/", "port 0"),
            ("http://a.test:70000/", "a port that is not"),
            ("http://a.test:x/", "a port that is not"),
            ("http://127.0.0.256/", "IPv4"),
            ("http://[::x]/", "IPv6"),
            ("http://", "must have a host"),
            ("http:///", "must have a host"),
            ("http:///a.test/", "must have a host"),
            ("http:/a.test/", "must have a host"),
            ("http:a.test/", "must have a host"),
            ("http://a.test\\@b.test/", "backslash"),
            ("a.test", "absolute"),
            ("/in", "absolute"),
            ("ftp://a.test/", "http or https"),
            ("http://a.test/ b", "spaces"),
        ] {
            let problem = parse(text).unwrap_err();
            assert!(problem.contains(part), "{text}: {problem}");
        }
        for (length, fits) in [(63, true), (64, false)] {
            let url = format!("http://{}.test/", "x".repeat(length));
            assert_eq!(parse(&url).is_ok(), fits, "{length}");
        }
        for (count, fits) in [(125, true), (126, false)] {
            let url = format!("http://{}xx/", "x.".repeat(count));
            assert_eq!(parse(&url).is_ok(), fits, "{count}");
        }
    }

    #[test]
    fn odd_urls_that_can_be_sent_are_taken() {
        for text in [
            "http://a_b.test/",
            "http://-a-.test/",
            "https://a.test./",
            "http://localhost/",
            "http://127.1/",
            "http://[::1]:1/",
            "https://bücher.test/ü?ü",
            "http://a.test:65535?x",
            "http://a.test//a//?a?b",
            "http://a.test/[a]|b'c\"d{e}`f^g?[a]|b'c\"d{e}`f^g",
        ] {
            assert!(parse(text).is_ok(), "{text}");
        }
    }

    proptest! {
        /// A URL that is accepted makes a request URI with the same host, port, path and query.
        #[test]
        fn what_is_taken_can_be_requested(
            text in "https?://([a-zA-Z0-9._~!$&'()*+,;=\"`{}é-]{1,20}|[0-9.]{1,15}|\\[[0-9a-f:]{2,15}\\])\
                     (:[0-9]{1,5})?(/\\PC{0,20})?(\\?\\PC{0,20})?",
        ) {
            if let Ok(url) = parse(&text) {
                let uri = request_uri(&url).unwrap();
                prop_assert_eq!(uri.host(), url.host_str());
                prop_assert_eq!(uri.port_u16(), url.port_or_known_default());
                prop_assert_eq!(uri.path(), url.path());
                prop_assert_eq!(uri.query(), url.query());
                if url.scheme() == "https" {
                    let name = url.host_str().unwrap().trim_matches(['[', ']']).to_owned();
                    prop_assert!(ServerName::try_from(name).is_ok(), "{url}");
                }
            }
        }
    }
}
