//! Files that are served as they are: pages, scripts, pictures.
//!
//! Each is made once, at the start, with its compressed form where that is shorter. A browser that has
//! the current version is told so, and gets no body.

use std::io::Write;

use actix_web::http::StatusCode;
use actix_web::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    HeaderName, IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

pub struct Asset {
    content_type: &'static str,
    body: Bytes,
    gzip: Option<Bytes>,
    etag: String,
    /// The Content-Security-Policy of a page; absent where it is no page.
    policy: Option<String>,
}

impl Asset {
    pub fn new(content_type: &'static str, body: impl Into<Bytes>) -> Asset {
        Asset::made(content_type, body.into(), None)
    }

    /// With a Content-Security-Policy. A browser that has it with another one gets it anew.
    pub fn with_policy(
        content_type: &'static str,
        body: impl Into<Bytes>,
        policy: String,
    ) -> Asset {
        Asset::made(content_type, body.into(), Some(policy))
    }

    fn made(content_type: &'static str, body: Bytes, policy: Option<String>) -> Asset {
        let mut hash = Sha256::new();
        hash.update(&body);
        hash.update(policy.as_deref().unwrap_or_default());
        let hash = hash.finalize();
        Asset {
            content_type,
            gzip: gzip(&body),
            etag: format!("\"{}\"", hex::encode(&hash[..16])),
            body,
            policy,
        }
    }

    #[cfg(test)]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The bytes that a browser gets which accepts compression.
    #[cfg(test)]
    pub fn bytes_sent(&self) -> usize {
        self.gzip.as_ref().unwrap_or(&self.body).len()
    }

    pub fn answer(&self, request: &HttpRequest) -> HttpResponse {
        let is_known =
            listed(request, IF_NONE_MATCH).any(|etag| etag.trim_start_matches("W/") == self.etag);
        let takes_gzip = listed(request, ACCEPT_ENCODING).any(|one| {
            let mut words = one.split(';').map(str::trim);
            let is_gzip = words
                .next()
                .is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
            is_gzip && words.next() != Some("q=0")
        });
        let gzip = self.gzip.as_ref().filter(|_| takes_gzip);
        // The two forms differ byte for byte, so the compressed one has a weak tag.
        let etag = match gzip {
            Some(_) => format!("W/{}", self.etag),
            None => self.etag.clone(),
        };
        let status = match is_known {
            true => StatusCode::NOT_MODIFIED,
            false => StatusCode::OK,
        };
        let mut response = HttpResponse::build(status);
        // Browsers ask each time whether their copy is current; it changes with the server's version only.
        response
            .insert_header((ETAG, etag))
            .insert_header((CACHE_CONTROL, "no-cache"))
            .insert_header((VARY, "accept-encoding"));
        if is_known {
            return response.finish();
        }
        response
            .insert_header((CONTENT_TYPE, self.content_type))
            .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .insert_header((REFERRER_POLICY, "no-referrer"));
        if let Some(policy) = &self.policy {
            response.insert_header((CONTENT_SECURITY_POLICY, policy.clone()));
        }
        match gzip {
            Some(gzip) => response
                .insert_header((CONTENT_ENCODING, "gzip"))
                .body(gzip.clone()),
            None => response.body(self.body.clone()),
        }
    }
}

/// The items of a header that is a list, however many times it is there.
fn listed(request: &HttpRequest, name: HeaderName) -> impl Iterator<Item = &str> {
    request
        .headers()
        .get_all(name)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

fn gzip(body: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).ok()?;
    let compressed = encoder.finish().ok()?;
    (compressed.len() < body.len()).then(|| compressed.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn it_is_compressed_for_those_who_take_that_and_not_sent_to_those_who_have_it() {
        let asset = Asset::new("text/plain", "many words, ".repeat(50));
        let etag = asset.etag.clone();
        let weak = format!("W/{etag}");
        let both = format!("\"other\", {weak}");
        for (accepts, has, status, encoding) in [
            (None, None, 200, None),
            (Some("gzip"), None, 200, Some("gzip")),
            (Some("br, GZIP;q=0.5"), None, 200, Some("gzip")),
            (Some("br, gzip;q=0"), None, 200, None),
            (Some("identity"), Some("\"other\""), 200, None),
            (Some("gzip"), Some(weak.as_str()), 304, None),
            (None, Some(etag.as_str()), 304, None),
            (None, Some(both.as_str()), 304, None),
        ] {
            let mut request = TestRequest::default();
            if let Some(accepts) = accepts {
                request = request.insert_header((ACCEPT_ENCODING, accepts));
            }
            if let Some(has) = has {
                request = request.insert_header((IF_NONE_MATCH, has));
            }
            let answer = asset.answer(&request.to_http_request());
            let found = answer.headers().get(CONTENT_ENCODING);
            let found = found.map(|value| value.to_str().unwrap());
            let case = format!("{accepts:?} {has:?}");
            assert_eq!(
                (answer.status().as_u16(), found),
                (status, encoding),
                "{case}"
            );
        }
    }

    #[test]
    fn what_does_not_get_shorter_stays_as_it_is() {
        assert!(Asset::new("text/plain", "x").gzip.is_none());
    }
}
