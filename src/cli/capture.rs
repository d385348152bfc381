//! A captured HTTP/1.1 request as text → its parts.
//!
//! For `verify --request`: a request that a proxy, a log or `nc` kept, with line ends of either kind. Pure.

use actix_web::web::Bytes;

use crate::delivery::verifier::Captured;

/// The error is a sentence without its end.
pub fn parse(raw: &[u8]) -> Result<Captured, String> {
    let mut rest = raw;
    let line = next_line(&mut rest).ok_or("there is no request line")?;
    let line = std::str::from_utf8(line).map_err(|_| "the request line is not text")?;
    let words: Vec<&str> = line.split(' ').collect();
    let [method, url, version] = words[..] else {
        return Err("the first line is no request line, such as POST /path HTTP/1.1".to_owned());
    };
    if !version.starts_with("HTTP/") || method.is_empty() || url.is_empty() {
        return Err("the first line is no request line, such as POST /path HTTP/1.1".to_owned());
    }
    let mut headers = Vec::new();
    loop {
        let line = next_line(&mut rest).ok_or("there is no empty line behind the headers")?;
        if line.is_empty() {
            break;
        }
        headers.push(header(line).ok_or_else(|| {
            let line = String::from_utf8_lossy(line);
            format!("{line:?} is no header, such as name: value")
        })?);
    }
    let body = body(&headers, rest)?;
    Ok(Captured {
        method: Some(method.to_owned()),
        url: Some(url.to_owned()),
        headers,
        body: Bytes::copy_from_slice(body),
    })
}

/// `name: value`, without the spaces around the value.
pub fn header(line: &[u8]) -> Option<(String, Vec<u8>)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = std::str::from_utf8(&line[..colon]).ok()?;
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    is_name.then(|| (name.to_owned(), line[colon + 1..].trim_ascii().to_vec()))
}

/// As long as the headers say, where they say it: a file may have a line end too many.
fn body<'a>(headers: &[(String, Vec<u8>)], rest: &'a [u8]) -> Result<&'a [u8], String> {
    let value = |wanted: &str| {
        let mut all = headers.iter();
        all.find_map(|(name, value)| name.eq_ignore_ascii_case(wanted).then_some(value))
    };
    if value("transfer-encoding").is_some() {
        return Err("the body has a transfer encoding, which is not undone here".to_owned());
    }
    let Some(length) = value("content-length") else {
        return Ok(rest);
    };
    let length = std::str::from_utf8(length).ok();
    let length = length.and_then(|length| length.parse::<usize>().ok());
    let length = length.ok_or("content-length is no number")?;
    rest.get(..length).ok_or_else(|| {
        format!(
            "the body has {} bytes, and content-length says {length}",
            rest.len()
        )
    })
}

fn next_line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let (line, after) = (&rest[..end], &rest[end + 1..]);
    *rest = after;
    Some(line.strip_suffix(b"\r").unwrap_or(line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_is_read_with_line_ends_of_either_kind() {
        for raw in [
            "POST /in?a=b HTTP/1.1\r\nHost: a.test\r\nX-One:two: 3 \r\n\r\n{\"a\":1}",
            "POST /in?a=b HTTP/1.1\nHost: a.test\nX-One:two: 3\n\n{\"a\":1}",
        ] {
            let request = parse(raw.as_bytes()).unwrap();
            assert_eq!(request.method.as_deref(), Some("POST"));
            assert_eq!(request.url.as_deref(), Some("/in?a=b"));
            assert_eq!(request.headers[1], ("X-One".to_owned(), b"two: 3".to_vec()));
            assert_eq!(request.body, "{\"a\":1}");
        }
        let raw = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}\n";
        assert_eq!(parse(raw).unwrap().body, "{}");
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for (raw, expected) in [
            ("", "no request line"),
            ("{\"a\": 1}\n", "no request line"),
            ("POST / HTTP/1.1\r\nno header\r\n\r\n", "no header"),
            ("POST / HTTP/1.1\r\nhost: a\r\n", "no empty line"),
            ("POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\n{}", "2 bytes"),
            (
                "POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n{}",
                "no number",
            ),
            (
                "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
                "transfer encoding",
            ),
        ] {
            let reason = parse(raw.as_bytes()).unwrap_err();
            assert!(reason.contains(expected), "{raw:?}: {reason}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_reader(
            raw in prop::collection::vec(any::<u8>(), 0..60),
            text in "(POST|GET)? ?/?a? ?(HTTP/1.1)?[\r\n:a ]{0,20}",
        ) {
            let _ = parse(&raw);
            let _ = parse(text.as_bytes());
        }
    }
}
