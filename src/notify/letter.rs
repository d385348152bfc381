//! A mail in the form of RFC 5322, as the relay gets it. Pure.

use std::time::{Duration, UNIX_EPOCH};

use lettre::Message;
use lettre::message::Mailbox;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};

use crate::clock::Timestamp;
use crate::domain::email::EmailAddress;

/// The words of a mail.
#[derive(Clone, Debug, PartialEq)]
pub struct Words {
    /// On one line.
    pub subject: String,
    pub body: String,
}

/// A mail that can be sent.
pub struct Letter {
    pub from: EmailAddress,
    pub to: Vec<EmailAddress>,
    /// Its headers and its body, in ASCII, with lines that end in CRLF.
    pub content: Vec<u8>,
}

impl Letter {
    /// `random` makes its id one of its own.
    pub fn new(
        from: &EmailAddress,
        to: &[EmailAddress],
        words: &Words,
        now: Timestamp,
        random: u128,
    ) -> Letter {
        let mailbox = |address: &EmailAddress| {
            let address = address
                .as_str()
                .parse()
                .expect("it was checked as one of these");
            Mailbox::new(None, address)
        };
        let mut message = Message::builder()
            .from(mailbox(from))
            .subject(words.subject.as_str())
            .date(UNIX_EPOCH + Duration::from_millis(now.as_millis()))
            .message_id(Some(format!("<{random:032x}@{}>", from.domain())))
            // So that nobody's notice of absence answers it (RFC 3834).
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ))
            .header(ContentType::TEXT_PLAIN);
        for address in to {
            message = message.to(mailbox(address));
        }
        let message = message.body(words.body.clone());
        let content = message
            .expect("it has a sender, a recipient and text")
            .formatted();
        Letter {
            from: from.clone(),
            to: to.to_vec(),
            content,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_is_ascii_with_short_lines_and_the_headers_that_it_needs() {
        let address = |text| EmailAddress::parse(text).unwrap();
        let words = Words {
            subject: "[postrider] An endpoint fails: müller.example\r\nBcc: a@b.c".to_owned(),
            body: format!("Es schlägt fehl.\n.\n{}\n", "x".repeat(3000)),
        };
        let to = [address("ops@example.com"), address("on-call@example.com")];
        let now = Timestamp(1_700_000_000_000);
        let letter = Letter::new(&address("hooks@example.com"), &to, &words, now, 7);
        let text = String::from_utf8(letter.content).unwrap();
        assert!(text.is_ascii());
        let (head, _) = text.split_once("\r\n\r\n").unwrap();
        for line in [
            "From: hooks@example.com",
            "To: ops@example.com, on-call@example.com",
            "Date: Tue, 14 Nov 2023 22:13:20 +0000",
            "Message-ID: <00000000000000000000000000000007@example.com>",
            "Auto-Submitted: auto-generated",
            "Content-Type: text/plain; charset=utf-8",
        ] {
            assert!(head.lines().any(|one| one == line), "{line}: {head}");
        }
        assert!(!head.lines().any(|line| line.starts_with("Bcc")), "{head}");
        for line in text.split_inclusive('\n') {
            assert!(line.ends_with("\r\n") || text.ends_with(line), "{line:?}");
            assert!(line.len() <= 998, "{line}");
        }
    }
}
