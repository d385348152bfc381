//! Files that are served as they are: pages, scripts, pictures.
//!
//! Each is made once, with its compressed forms where those are shorter. A browser that has
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
    brotli: Option<Bytes>,
    etag: String,
    /// The Content-Security-Policy of a page; absent where it is no page.
    policy: Option<String>,
}

impl Asset {
    pub fn new(content_type: &'static str, body: impl Into<Bytes>) -> Asset {
        let body = body.into();
        let gzip = gzip(&body);
        Asset::made(content_type, body, gzip, None)
    }

    /// With forms that were compressed before; browsers take the second one over TLS and from their own machine.
    pub fn compressed(
        content_type: &'static str,
        body: &'static [u8],
        gzip: Option<&'static [u8]>,
        brotli: Option<&'static [u8]>,
    ) -> Asset {
        let (body, gzip) = (Bytes::from_static(body), gzip.map(Bytes::from_static));
        Asset {
            brotli: brotli.map(Bytes::from_static),
            ..Asset::made(content_type, body, gzip, None)
        }
    }

    /// With a Content-Security-Policy. A browser that has it with another one gets it anew.
    pub fn with_policy(
        content_type: &'static str,
        body: impl Into<Bytes>,
        policy: String,
    ) -> Asset {
        let body = body.into();
        let gzip = gzip(&body);
        Asset::made(content_type, body, gzip, Some(policy))
    }

    fn made(
        content_type: &'static str,
        body: Bytes,
        gzip: Option<Bytes>,
        policy: Option<String>,
    ) -> Asset {
        let mut hash = Sha256::new();
        hash.update(&body);
        hash.update(policy.as_deref().unwrap_or_default());
        let hash = hash.finalize();
        Asset {
            content_type,
            gzip,
            brotli: None,
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
        let forms = [&self.brotli, &self.gzip].into_iter().flatten();
        forms.map(Bytes::len).min().unwrap_or(self.body.len())
    }

    pub fn answer(&self, request: &HttpRequest) -> HttpResponse {
        let is_known =
            listed(request, IF_NONE_MATCH).any(|etag| etag.trim_start_matches("W/") == self.etag);
        let forms = [("br", &self.brotli), ("gzip", &self.gzip)].into_iter();
        let compressed = forms
            .filter_map(|(coding, form)| Some((coding, form.as_ref()?)))
            .find(|(coding, _)| takes(request, coding));
        // The forms differ byte for byte, so the compressed ones have a weak tag.
        let etag = match compressed {
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
        match compressed {
            Some((coding, form)) => response
                .insert_header((CONTENT_ENCODING, coding))
                .body(form.clone()),
            None => response.body(self.body.clone()),
        }
    }
}

/// Whether an answer may be in this coding.
fn takes(request: &HttpRequest, coding: &str) -> bool {
    listed(request, ACCEPT_ENCODING).any(|one| {
        let mut words = one.split(';').map(str::trim);
        let is_it = words
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case(coding));
        is_it && words.next() != Some("q=0")
    })
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
    use actix_web::body::{BodySize, MessageBody};
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
    fn the_shortest_form_is_for_those_who_take_it() {
        let (gzip, brotli) = (b"compressed".as_slice(), b"more".as_slice());
        let asset = Asset::compressed("text/plain", b"as it is", Some(gzip), Some(brotli));
        assert_eq!(asset.bytes_sent(), brotli.len());
        for (accepts, encoding, length) in [
            ("gzip, deflate, br", Some("br"), brotli.len()),
            ("gzip, br;q=0", Some("gzip"), gzip.len()),
            ("br;q=0", None, asset.body.len()),
        ] {
            let request = TestRequest::default().insert_header((ACCEPT_ENCODING, accepts));
            let answer = asset.answer(&request.to_http_request());
            let found = answer.headers().get(CONTENT_ENCODING);
            assert_eq!(found.map(|value| value.to_str().unwrap()), encoding);
            let size = BodySize::Sized(length as u64);
            assert_eq!(answer.body().size(), size, "{accepts}");
        }
    }

    #[test]
    fn what_does_not_get_shorter_stays_as_it_is() {
        assert!(Asset::new("text/plain", "x").gzip.is_none());
    }
}
