//! The head of an answer, as bytes: its end, the framing of the body, and its faults.
//!
//! The stream below awc reads it before awc's codec does, since the codec refuses a folded header,
//! says of an unsound head only that it is one, and panics at a name of 64 KiB. Pure.

/// The limit of awc's own codec.
pub const HEADERS_MAX: usize = 96;
/// Names of headers that exist have at most some 50 bytes.
const NAME_BYTES_MAX: usize = 1024;

/// How every answer begins.
pub const HTTP: &[u8] = b"HTTP/1.";
/// Where a status line has the version's second digit …
pub const HTTP_MINOR_AT: usize = HTTP.len();
/// … and where its status begins.
const STATUS_AT: usize = HTTP.len() + 2;

/// The place after the empty line that ends a head. Nothing ends before `searched`.
pub fn end_of_head(bytes: &[u8], searched: usize) -> Option<usize> {
    let from = searched.saturating_sub(2);
    let at = bytes[from..].iter().enumerate().find_map(|(index, byte)| {
        let rest = &bytes[from + index + 1..];
        match byte {
            b'\n' if rest.starts_with(b"\n") => Some(index + 2),
            b'\n' if rest.starts_with(b"\r\n") => Some(index + 3),
            _ => None,
        }
    })?;
    Some(from + at)
}

/// Replaces the line break of each folded header by spaces (RFC 9112, section 5.2), in place. A
/// folded status line stays as it is, and is unsound.
pub fn unfold(head: &mut [u8]) {
    let first_end = head.iter().position(|byte| *byte == b'\n');
    let Some(first_end) = first_end else { return };
    for at in first_end + 1..head.len() {
        if head[at] == b'\n' && matches!(head.get(at + 1), Some(b' ' | b'\t')) {
            head[at] = b' ';
            if head[at - 1] == b'\r' {
                head[at - 1] = b' ';
            }
        }
    }
}

/// The status of a status line that is whole.
pub fn status(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(HTTP)?;
    if !matches!(rest, [b'0' | b'1', b' ', ..]) {
        return None;
    }
    let digits = head.get(STATUS_AT..STATUS_AT + 3)?;
    let ends = matches!(head.get(STATUS_AT + 3)?, b' ' | b'\r' | b'\n');
    if !ends || digits[0] == b'0' || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The lines of a head after the status line, up to the empty one.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    head.split(|byte| *byte == b'\n')
        .skip(1)
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .take_while(|line| !line.is_empty())
}

/// A header's name and value, where the line has a colon.
fn name_and_value(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    Some((line[..colon].trim_ascii(), line[colon + 1..].trim_ascii()))
}

/// The headers of a head as names and values, without the unsound ones and those beyond the limit.
pub fn sound_headers(head: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    lines(head)
        .take(HEADERS_MAX)
        .filter(|line| fault_of_line(line).is_none())
        .filter_map(name_and_value)
}

/// The facts about a head that are needed before awc's codec reads it.
pub struct Head {
    pub status: Option<u16>,
    http_1_0: bool,
    has_length: bool,
    is_chunked: bool,
}

impl Head {
    /// Reads a head that has been unfolded.
    pub fn of(bytes: &[u8]) -> Head {
        let mut head = Head {
            status: status(bytes),
            http_1_0: bytes.get(HTTP_MINOR_AT) == Some(&b'0'),
            has_length: false,
            is_chunked: false,
        };
        for (name, value) in lines(bytes).filter_map(name_and_value) {
            head.has_length |= name.eq_ignore_ascii_case(b"content-length");
            head.is_chunked |= name.eq_ignore_ascii_case(b"transfer-encoding")
                && value.eq_ignore_ascii_case(b"chunked");
        }
        head
    }

    /// 101 is final: the receiver wants to speak another protocol.
    pub fn is_interim(&self) -> bool {
        matches!(self.status, Some(100 | 102..200))
    }

    pub fn body_ends_with_connection(&self) -> bool {
        let may_have_body = !matches!(self.status, Some(..200 | 204 | 304));
        // HTTP/1.0 has no transfer encoding.
        let has_framing = self.has_length || (self.is_chunked && !self.http_1_0);
        (may_have_body || self.http_1_0) && !has_framing
    }
}

/// The fault of a head that has been unfolded, in a sentence that quotes nothing of it: a value may be
/// a secret.
pub fn fault(head: &[u8]) -> Option<String> {
    let status_line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let status_line = status_line.strip_suffix(b"\r").unwrap_or(status_line);
    if status(head).is_none() || !status_line.iter().all(is_text) {
        return Some("The status line of the answer is not valid HTTP.".to_owned());
    }
    let count = lines(head).count();
    if count > HEADERS_MAX {
        return Some(format!(
            "The answer has {count} headers, and at most {HEADERS_MAX} are read."
        ));
    }
    for (index, line) in lines(head).enumerate() {
        if let Some(fault) = fault_of_line(line) {
            return Some(format!(
                "Header {} of the answer is not valid HTTP: {fault}.",
                index + 1
            ));
        }
    }
    fault_of_framing(head)
}

fn fault_of_line(line: &[u8]) -> Option<&'static str> {
    if matches!(line, [b' ' | b'\t', ..]) {
        return Some("it begins with a space");
    }
    let Some((name, _)) = name_and_value(line) else {
        return Some("it has no colon");
    };
    if name.is_empty() {
        return Some("it has no name");
    }
    if name.len() > NAME_BYTES_MAX {
        return Some("its name is longer than 1024 bytes");
    }
    if !name.iter().all(is_of_token) {
        return Some("its name has a character that no name may have");
    }
    match line.iter().all(is_text) {
        true => None,
        false => Some("its value has a control character"),
    }
}

/// The fault of the headers that give the body's length. A second one is a way to make two readers see
/// two answers (RFC 9112, section 11.2), so even an equal one is not taken.
fn fault_of_framing(head: &[u8]) -> Option<String> {
    let values = |wanted: &'static [u8]| {
        lines(head)
            .filter_map(name_and_value)
            .filter(move |(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value)
    };
    for name in ["Content-Length", "Transfer-Encoding", "Host"] {
        if values(name.as_bytes()).count() > 1 {
            return Some(format!("The answer has two headers {name}."));
        }
    }
    let length = values(b"Content-Length").next();
    let is_number = |value: &[u8]| {
        let text = std::str::from_utf8(value).unwrap_or_default();
        text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u64>().is_ok()
    };
    if !length.is_none_or(is_number) {
        return Some("The Content-Length of the answer is not a number.".to_owned());
    }
    let is_known = |value: &[u8]| {
        value.eq_ignore_ascii_case(b"chunked") || value.eq_ignore_ascii_case(b"identity")
    };
    let is_1_0 = head.get(HTTP_MINOR_AT) == Some(&b'0');
    match values(b"Transfer-Encoding").next() {
        Some(value) if !is_1_0 && !is_known(value) => {
            Some("The answer has a Transfer-Encoding other than chunked.".to_owned())
        }
        _ => None,
    }
}

/// Whether a value or a status line may have this byte (RFC 9110, section 5.5).
fn is_text(byte: &u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// Whether a header's name may have this byte (RFC 9110, section 5.6.2).
fn is_of_token(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

#[cfg(test)]
mod tests {
    use actix_http::h1::ClientCodec;
    use proptest::prelude::*;
    use tokio_util::codec::Decoder;

    use super::*;

    #[test]
    fn the_end_of_a_head_is_found_in_both_spellings() {
        for (head, expected) in [
            (&b""[..], None),
            (b"HTTP/1.1 200 OK\r\n", None),
            (b"HTTP/1.1 200 OK\r\n\r", None),
            (b"HTTP/1.1 200 OK\r\n\r\n", Some(19)),
            (b"HTTP/1.1 200 OK\r\n\r\nbody\r\n\r\n", Some(19)),
            (b"HTTP/1.1 200 OK\n\n", Some(17)),
            (b"HTTP/1.1 200 OK\r\na: b\n\r\nbody", Some(24)),
        ] {
            assert_eq!(end_of_head(head, 0), expected, "{}", head.escape_ascii());
        }
    }

    #[test]
    fn what_ends_a_body_is_read_from_its_head() {
        for (head, expected) in [
            ("HTTP/1.1 200 OK\r\n\r\n", true),
            ("HTTP/1.1 500 Oh\r\nX: content-length\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
                false,
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\n",
                true,
            ),
            ("HTTP/1.1 204 No Content\r\n\r\n", false),
            ("HTTP/1.1 304 Not Modified\r\n\r\n", false),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\n\r\n", true),
            (
                "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
                true,
            ),
            ("HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\n", false),
        ] {
            let found = Head::of(head.as_bytes()).body_ends_with_connection();
            assert_eq!(found, expected, "{head}");
        }
    }

    #[test]
    fn only_interim_answers_are_left_out() {
        for (status, expected) in [
            ("100", true),
            ("102", true),
            ("103", true),
            ("199", true),
            ("101", false),
            ("200", false),
            ("1", false),
            ("1000", false),
            ("", false),
        ] {
            let head = format!("HTTP/1.1 {status}\n\n");
            let found = Head::of(head.as_bytes()).is_interim();
            assert_eq!(found, expected, "{status}");
        }
    }

    #[test]
    fn a_fold_is_replaced_by_spaces() {
        for (folded, expected) in [
            ("H\r\na: b\r\n c\r\n\r\n", "H\r\na: b   c\r\n\r\n"),
            ("H\na: b\n\tc\n\n", "H\na: b \tc\n\n"),
            (
                "H\r\na: b\r\n c\r\n d\r\ne: f\r\n\r\n",
                "H\r\na: b   c   d\r\ne: f\r\n\r\n",
            ),
            ("H\r\na:\r\n \r\n\r\n", "H\r\na:   \r\n\r\n"),
            // Nothing goes before these.
            ("H\r\n a: b\r\n\r\n", "H\r\n a: b\r\n\r\n"),
            ("H\r\n\r\n", "H\r\n\r\n"),
        ] {
            let mut bytes = folded.as_bytes().to_vec();
            unfold(&mut bytes);
            assert_eq!(
                bytes.escape_ascii().to_string(),
                expected.escape_default().to_string()
            );
        }
    }

    #[test]
    fn a_fault_is_told_by_its_place_without_what_stands_there() {
        let head = |lines: &str| format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
        let of_one = |fault: &str| format!("Header 1 of the answer is not valid HTTP: {fault}.");
        let long_name = format!("{}: b\r\n", "a".repeat(70_000));
        for (lines, expected) in [
            ("no colon\r\n", of_one("it has no colon")),
            (": b\r\n", of_one("it has no name")),
            (" a: b\r\n", of_one("it begins with a space")),
            (
                "a b: c\r\n",
                of_one("its name has a character that no name may have"),
            ),
            (
                "a: secret\0\r\n",
                of_one("its value has a control character"),
            ),
            (
                "a: b\rc: d\r\n",
                of_one("its value has a control character"),
            ),
            (
                long_name.as_str(),
                of_one("its name is longer than 1024 bytes"),
            ),
            (
                "Content-Length: -1\r\n",
                "The Content-Length of the answer is not a number.".to_owned(),
            ),
            (
                "Content-Length: 1\r\ncontent-length: 1\r\n",
                "The answer has two headers Content-Length.".to_owned(),
            ),
            (
                "Transfer-Encoding: gzip\r\n",
                "The answer has a Transfer-Encoding other than chunked.".to_owned(),
            ),
        ] {
            let start = &lines[..lines.len().min(40)];
            assert_eq!(fault(head(lines).as_bytes()), Some(expected), "{start}");
        }
        assert_eq!(
            fault(b"HTTP/1.1 200 OK\r\na: b\r\nbad\r\n\r\n").unwrap(),
            "Header 2 of the answer is not valid HTTP: it has no colon."
        );
        assert_eq!(
            fault(head(&"a: b\r\n".repeat(97)).as_bytes()).unwrap(),
            "The answer has 97 headers, and at most 96 are read."
        );
        assert_eq!(fault(head(&"a: b\r\n".repeat(96)).as_bytes()), None);
        for line in ["HTTP/1.1 2x0 OK", "HTTP/1.1 1000 OK", "HTTP/1.1 99 OK"] {
            let fault = fault(format!("{line}\r\n\r\n").as_bytes());
            assert_eq!(
                fault.unwrap(),
                "The status line of the answer is not valid HTTP."
            );
        }
    }

    /// A header that says where the body ends, or not quite.
    fn framing_line() -> impl Strategy<Value = String> {
        let name = prop::sample::select(vec![
            "Content-Length",
            "content-length",
            "Transfer-Encoding",
            "Connection",
            "Host",
        ]);
        let value = prop::sample::select(vec![
            "",
            "0",
            "5",
            "+5",
            "-1",
            "05",
            "0x5",
            "5, 5",
            "18446744073709551615",
            "18446744073709551616",
            "chunked",
            "Chunked",
            "gzip, chunked",
            "chunked, chunked",
            "identity",
            "close",
            "Upgrade",
        ]);
        (name, "[ \t]{0,2}", value, "[ \t]{0,2}")
            .prop_map(|(name, before, value, after)| format!("{name}:{before}{value}{after}\r\n"))
    }

    proptest! {
        #[test]
        fn a_head_that_comes_in_pieces_ends_at_the_same_place(
            text in "[\r\nab]{0,30}",
            cut in 0_usize..30,
        ) {
            let bytes = text.as_bytes();
            let cut = cut.min(bytes.len());
            let whole = end_of_head(bytes, 0);
            let pieces = end_of_head(&bytes[..cut], 0).or_else(|| end_of_head(bytes, cut));
            prop_assert_eq!(whole, pieces);
        }

        #[test]
        fn no_head_makes_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut bytes = bytes;
            unfold(&mut bytes);
            let head = Head::of(&bytes);
            let _ = (head.is_interim(), head.body_ends_with_connection(), fault(&bytes));
            let _ = sound_headers(&bytes).count();
        }

        /// As the rule of RFC 9112, section 5.2 reads, line by line.
        #[test]
        fn unfolding_joins_each_line_that_begins_with_a_space(
            text in "[a: \t\r\n]{0,40}",
        ) {
            let text = format!("HTTP/1.1 200 OK\r\nx: y{text}");
            let mut bytes = text.clone().into_bytes();
            unfold(&mut bytes);
            let mut expected: Vec<Vec<u8>> = Vec::new();
            for (index, line) in text.as_bytes().split(|byte| *byte == b'\n').enumerate() {
                match expected.last_mut() {
                    Some(before) if index > 1 && matches!(line, [b' ' | b'\t', ..]) => {
                        if before.last() == Some(&b'\r') {
                            before.pop();
                            before.push(b' ');
                        }
                        before.push(b' ');
                        before.extend_from_slice(line);
                    }
                    _ => expected.push(line.to_vec()),
                }
            }
            prop_assert_eq!(bytes, expected.join(&b'\n'));
        }

        /// A head in which nothing is found wrong is one that awc's codec takes.
        #[test]
        fn what_is_sound_here_is_sound_to_the_codec(
            text in "[aA:;, \t\r\n\u{1}é\"/(1-]{0,60}",
            folded in any::<bool>(),
            minor in 0..2,
            framing in prop::collection::vec(framing_line(), 0..3),
        ) {
            let fold = if folded { "\r\n " } else { "" };
            let mut bytes = format!(
                "HTTP/1.{minor} 200 OK\r\nx: y{fold}\r\n{}{text}\r\n\r\n",
                framing.concat()
            ).into_bytes();
            let end = end_of_head(&bytes, 0).expect("it ends");
            bytes.truncate(end);
            unfold(&mut bytes);
            if fault(&bytes).is_none() {
                let mut buffer = actix_web::web::BytesMut::from(&bytes[..]);
                let runtime = actix_rt::Runtime::new().expect("a runtime starts");
                let head = runtime.block_on(async {
                    Decoder::decode(&mut ClientCodec::default(), &mut buffer)
                });
                prop_assert!(matches!(head, Ok(Some(_))), "{:?}", bytes.escape_ascii());
            }
        }
    }
}
