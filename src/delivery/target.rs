//! Where a request goes: the endpoint's URL, or one that a profile makes of it.
//!
//! Pure. No template can change the endpoint's scheme, host or port: the URL of [`Target::extended`]
//! has them, begins with the endpoint's path and ends with its query. Whether the host's addresses are
//! allowed is decided at each connection.

use ::url::{Position, Url};
use actix_web::http::Uri;
use actix_web::http::uri::PathAndQuery;

use super::template::TemplateFault;
use crate::domain::url;

/// Common servers refuse a request line that is longer.
const URL_BYTES_MAX: usize = 8192;

pub struct Target {
    pub https: bool,
    /// Always `http://`: TLS is the connector's.
    pub uri: Uri,
    /// The `host` header: with the port unless it is the scheme's.
    pub host: String,
    url: Url,
}

impl Target {
    /// The error is a sentence.
    pub fn parse(url: &str) -> Result<Target, String> {
        let wrong = |problem: String| format!("The URL {problem}.");
        let url = url::parse(url).map_err(wrong)?;
        let uri = url::request_uri(&url).map_err(wrong)?;
        let name = url.host_str().unwrap_or_default();
        let host = match url.port() {
            Some(port) => format!("{name}:{port}"),
            None => name.to_owned(),
        };
        Ok(Target {
            https: url.scheme() == "https",
            uri,
            host,
            url,
        })
    }

    /// The URL with `below` behind its path, as text and as it is sent.
    pub fn extended(&self, below: &str) -> Result<(String, Uri), TemplateFault> {
        let (scheme, host) = (self.url.scheme(), &self.host);
        let path = self.url.path();
        let path = path.strip_suffix('/').unwrap_or(path);
        // Behind the host there is always a path, so that nothing can lengthen the host.
        let slash = match path.is_empty() && !below.starts_with('/') {
            true => "/",
            false => "",
        };
        let mut text = format!("{scheme}://{host}{path}{slash}{below}");
        if let Some(query) = self.url.query() {
            text.push(if text.contains('?') { '&' } else { '?' });
            text.push_str(query);
        }
        if text.len() > URL_BYTES_MAX {
            let fault = format!("the URL is longer than {URL_BYTES_MAX} bytes");
            return Err(TemplateFault::unfit(fault));
        }
        let url = Url::parse(&text).map_err(|_| TemplateFault::permanent("the URL is not one"))?;
        // A text that the URL's own rules would change, such as dot segments, may be more than it seems.
        if url.as_str() != text {
            return Err(TemplateFault::permanent(
                "the URL has dot segments or characters that must be percent-encoded",
            ));
        }
        if url.fragment().is_some() {
            return Err(TemplateFault::permanent("the URL has a fragment"));
        }
        let origin = |url: &Url| {
            (
                url.host_str().map(str::to_owned),
                url.port_or_known_default(),
            )
        };
        if url.scheme() != scheme || origin(&url) != origin(&self.url) || has_credentials(&url) {
            return Err(TemplateFault::permanent("the URL leads to another host"));
        }
        let wrong = || TemplateFault::permanent("the URL has characters that cannot be sent");
        let path_and_query = &url[Position::BeforePath..];
        let mut parts = self.uri.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::try_from(path_and_query).map_err(|_| wrong())?);
        let uri = Uri::from_parts(parts).map_err(|_| wrong())?;
        Ok((text, uri))
    }
}

fn has_credentials(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn extended(url: &str, below: &str) -> Result<String, String> {
        let target = Target::parse(url).unwrap_or_else(|why| panic!("{url}: {why}"));
        match target.extended(below) {
            Ok((text, uri)) => {
                // The URL that is sent is the one that is shown.
                assert!(
                    text.ends_with(uri.path_and_query().unwrap().as_str()),
                    "{text}"
                );
                Ok(text)
            }
            Err(fault) => Err(fault.to_string()),
        }
    }

    #[test]
    fn a_path_goes_below_the_endpoints_and_before_its_query() {
        for (url, below, expected) in [
            ("https://a.test/in", "/x", "https://a.test/in/x"),
            ("https://a.test/in/", "/x", "https://a.test/in/x"),
            ("https://a.test/in//", "/x", "https://a.test/in//x"),
            ("https://a.test", "/x", "https://a.test/x"),
            ("https://a.test", "", "https://a.test/"),
            ("https://a.test/in/", "", "https://a.test/in"),
            (
                "https://a.test:8443/in?k=v&l",
                "/x",
                "https://a.test:8443/in/x?k=v&l",
            ),
            ("https://a.test/in?k=v", "?y=1", "https://a.test/in?y=1&k=v"),
            ("https://a.test/in?", "/x", "https://a.test/in/x?"),
            ("http://[::1]:80/", "/x", "http://[::1]/x"),
            // Without a path, the template's text begins it.
            ("https://a.test", ".b.test", "https://a.test/.b.test"),
            ("https://a.test", "@b.test", "https://a.test/@b.test"),
            ("https://a.test", ":81/", "https://a.test/:81/"),
        ] {
            assert_eq!(
                extended(url, below).as_deref(),
                Ok(expected),
                "{url} {below}"
            );
        }
    }

    #[test]
    fn what_would_be_another_url_than_it_seems_is_refused() {
        for (below, expected) in [
            ("/../x", "dot segments"),
            ("/.", "dot segments"),
            ("/%2e%2E/x", "dot segments"),
            ("/.%2e", "dot segments"),
            ("/a b", "percent-encoded"),
            ("/é", "percent-encoded"),
            ("/a\\b", "percent-encoded"),
            ("/a\nb", "percent-encoded"),
            ("/a#b", "fragment"),
        ] {
            let fault = extended("https://a.test/in", below).unwrap_err();
            assert!(fault.contains(expected), "{below}: {fault}");
        }
        let long = format!("/{}", "x".repeat(URL_BYTES_MAX));
        let fault = extended("https://a.test/in", &long).unwrap_err();
        assert!(fault.contains("8192"), "{fault}");
    }

    proptest! {
        #[test]
        fn nothing_leads_away_from_the_endpoints_origin_and_path(
            path in prop::sample::select(vec!["", "/", "/in", "/in/", "/in?a=b"]),
            below in "\\PC{0,40}|[/.@:?#%\\\\a-f0-9]{0,20}",
        ) {
            let base = format!("https://a.test:8443{path}");
            if let Ok(text) = extended(&base, &below) {
                let url = Url::parse(&text).unwrap();
                let expected = Url::parse(&base).unwrap();
                prop_assert_eq!(url.origin(), expected.origin());
                prop_assert!(url.path().starts_with(expected.path().trim_end_matches('/')));
                prop_assert!(url.username().is_empty() && url.password().is_none());
            }
        }
    }
}
